"""Golden values of the predictors, for encoders/src/probe/predictor_tests.rs and reports/tests/predictors.rs.

Runs the authors' own code from checkouts of their repositories, in double precision:

    git clone https://github.com/minyoungg/platonic-rep             # metrics.py, measure_alignment.py
    git clone https://github.com/bronyayang/Law_of_Vision_Representation_in_MLLMs
    git clone https://github.com/facebookresearch/dino              # eval_knn.py
    git clone https://github.com/apple/ml-aim
    python tests/reference/predictors.py DIRECTORY-OF-THE-CHECKOUTS

Pinned: torch 2.9.0, numpy, scipy, scikit-learn 1.7.2, safetensors, POT 0.9.6. Writes tests/golden/probes/predictors.safetensors
and tests/golden/stats/predictors.json.
"""

import ast
import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import ot
import torch
import torch.nn.functional as F
from safetensors.numpy import save_file
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict

checkouts = Path(sys.argv[1])
golden = Path(__file__).parents[1] / "golden"
torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(21)


def module(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def functions(path, *names, **given):
    """Some functions of a file whose other imports are not installed."""
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names]
    space = {"torch": torch, "np": np, "F": F, **given}
    exec(compile(tree, str(path), "exec"), space)
    return [space[name] for name in names]


out, numbers = {}, {}

# Alignment: platonic-rep, with layers as it prepares them. Only edit distances need torchaudio.
sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))
sys.modules["torchaudio.functional"] = types.ModuleType("torchaudio.functional")
metrics = module(checkouts / "platonic-rep" / "metrics.py", "metrics")
n, k = 64, 10
hidden = rng.normal(size=(n, 12))
layers = [np.stack([hidden @ rng.normal(size=(12, d)) + s * rng.normal(size=(n, d)) for s in (0.5, 2.0)], 1) for d in (24, 20)]
layers = [x.astype(np.float32) for x in layers]
for name, x in zip(("vision", "text"), layers):
    out[f"alignment.{name}"] = np.ascontiguousarray(x)
prepared = [metrics.remove_outliers(torch.tensor(x, dtype=torch.float64), q=0.95) for x in layers]
rows = []
for i in range(2):
    for j in range(2):
        x, y = (F.normalize(p[:, l], dim=-1) for p, l in zip(prepared, (i, j)))
        measure = metrics.AlignmentMetrics.measure
        row = [measure("cka", x, y), measure("unbiased_cka", x, y), metrics.AlignmentMetrics.cknna(x, y, topk=k)]
        row.append(measure("mutual_knn", x, y, topk=k))
        dx, dy = (cdist(v.numpy(), v.numpy()) for v in (x, y))
        weights = np.full(n, 1 / n)
        const, h1, h2 = ot.gromov.init_matrix(dx, dy, weights, weights, "square_loss")
        row.append(ot.gromov.gwloss(const, h1, h2, np.eye(n) / n))
        rows.append([float(v) for v in row])
numbers["alignment"] = rows

# Spread: numpy.
x = (rng.normal(size=(50, 16)) * 10.0 ** rng.uniform(-2, 1, size=16) + rng.normal(size=16)).astype(np.float32)
x[:, 5] = x[:, 4]
out["spread"] = x
v = x.astype(np.float64)
s = np.linalg.svd(v - v.mean(0), compute_uv=False)
p = s / s.sum()
p = p[p > 1e-12]
numbers["spread"] = [v.mean(), v.std(), np.exp(-(p * np.log(p)).sum())]

# C score: get_flow and calculate_keypoint_transformation of the law's C_score, on grids of 16 and of 6 patches.
law = checkouts / "Law_of_Vision_Representation_in_MLLMs"
correspondence = law / "C_score" / "utils" / "utils_correspondence.py"
names = ["softmax_with_temperature", "soft_argmax", "unnormalise_and_convert_mapping_to_flow", "apply_gaussian_kernel"]
names += ["get_flow", "calculate_keypoint_transformation", "kpts_to_patch_idx"]
tree = ast.parse(correspondence.read_text())
tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in names]
# The reference computes its axes in single precision.
for node in ast.walk(tree):
    if isinstance(node, ast.Attribute) and node.attr == "float":
        node.attr = "double"
space = {"torch": torch, "np": np}
exec(compile(tree, str(correspondence), "exec"), space)
(normalize_feats,) = functions(law / "C_score" / "pck_train.py", "normalize_feats")
numbers["points"] = []
for side, patches, width in ((840, 16, 6), (96, 6, 6), (96, 4, 6)):
    grid = rng.normal(size=(2, patches**2, width)).astype(np.float32)
    grid[1] = np.roll(grid[0], 2, axis=0) + 0.3 * grid[1]
    points = rng.uniform(0, side, size=(12, 2))
    args = types.SimpleNamespace(ANNO_SIZE=side, SOFT_EVAL=True, SOFT_EVAL_WINDOW=5)
    source, target = (normalize_feats(args, torch.tensor(g, dtype=torch.float64)[None]) for g in grid)
    kps = torch.tensor(np.column_stack([points, np.ones(12)]))
    index = space["kpts_to_patch_idx"](args, kps, patches)
    found = space["calculate_keypoint_transformation"](args, source, target, index, patches).numpy()
    out[f"points.{patches}.features"] = grid
    right = found + rng.normal(size=found.shape) * side / 12
    err = np.linalg.norm(found - right, axis=-1)
    pck = [float((err < alpha * 0.7 * side).mean()) for alpha in (0.1, 0.05, 0.01)]
    numbers["points"].append(
        {"side": side, "patches": patches, "points": points.tolist(), "found": found.tolist(), "right": right.tolist(), "pck": pck}
    )

# A score: the loop body of A_score/compute.py.
(normalize_feat,) = functions(law / "A_score" / "compute.py", "normalize_feat")
u, w = rng.normal(size=(9, 7)).astype(np.float32), rng.normal(size=(5, 7)).astype(np.float32)
out["a.tokens"], out["a.reference"] = u, w
a, b = (normalize_feat(torch.tensor(x, dtype=torch.float64)) for x in (u, w))
numbers["a_score"] = F.cosine_similarity(a.unsqueeze(1), b.unsqueeze(0), dim=-1).max(dim=1).values.mean().item()

# k-NN: DINO's knn_classifier, whose predictions are counted.
(knn_classifier,) = functions(checkouts / "dino" / "eval_knn.py", "knn_classifier")
labels = np.arange(300) % 6
means = rng.normal(size=(6, 12))
x = (means[labels] + 1.1 * rng.normal(size=(300, 12))).astype(np.float32)
out["knn.values"], out["knn.labels"] = x, labels.astype(np.float32)
x = F.normalize(torch.tensor(x, dtype=torch.float64), dim=1)
y = torch.tensor(labels)
top1, _ = knn_classifier(x[:200], y[:200], x[200:], y[200:], 20, 0.07, 6)
numbers["knn"] = top1

# Attentive probe: the head of AIM, with its gradients.
layers_py = checkouts / "ml-aim" / "aim-v1" / "aim" / "v1" / "torch" / "layers.py"
tree = ast.parse(layers_py.read_text())
tree.body = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "AttentionPoolingClassifier"]
space = {"torch": torch, "nn": torch.nn, "F": F}
exec(compile(tree, str(layers_py), "exec"), space)
torch.manual_seed(0)
d, heads, classes = 12, 3, 5
head = space["AttentionPoolingClassifier"](d, classes, num_heads=heads)
x = (rng.normal(size=(6, 7, d)) * 2 + 0.5).astype(np.float32)
y = torch.tensor(np.arange(6) % classes)
flat = torch.tensor(x, dtype=torch.float64).reshape(-1, d)
head.bn.running_mean, head.bn.running_var = flat.mean(0), flat.var(0, unbiased=False)
with torch.no_grad():
    head.cls_token.mul_(30)
head.eval()
logits = head(torch.tensor(x, dtype=torch.float64))
logits = logits.reshape(6, classes)
loss = F.cross_entropy(logits, y)
loss.backward()
out["attentive.tokens"] = x
for name, value in (("query", head.cls_token), ("key", head.k.weight), ("value", head.v.weight), ("classifier", head.linear.weight)):
    numbers[f"attentive.{name}"] = value.detach().flatten().tolist()
    numbers[f"attentive.{name}.gradient"] = value.grad.flatten().tolist()
numbers["attentive.logits"] = logits.detach().flatten().tolist()
numbers["attentive.loss"] = loss.item()

path = golden / "probes" / "predictors.safetensors"
save_file({key: np.ascontiguousarray(value, dtype=np.float32) for key, value in out.items()}, path)
(golden / "probes" / "predictors.json").write_text(json.dumps(numbers) + "\n")

# Statistics: SciPy and scikit-learn.
cases = []
for count, noise, ties in ((4, 0.5, False), (7, 1.0, True), (11, 1.0, False), (13, 3.0, True)):
    x = rng.normal(size=count)
    y = 50 + 4 * x + 4 * noise * rng.normal(size=count)
    if ties:
        x[1] = x[0]
        y[2] = y[3]
    column = x[:, None]
    predicted = cross_val_predict(LinearRegression(), column, y, cv=LeaveOneOut())
    case = {
        "x": x.tolist(),
        "y": y.tolist(),
        "pearson": stats.pearsonr(x, y)[0],
        "spearman": stats.spearmanr(x, y)[0],
        "kendall": stats.kendalltau(x, y)[0],
        "fisher": list(stats.pearsonr(x, y).confidence_interval(0.95)),
        "r2": LinearRegression().fit(column, y).score(column, y),
        "loo_r2": r2_score(y, predicted),
    }
    if count <= 7:
        # All orders are counted.
        tau = lambda order: stats.kendalltau(x, y[list(order)])[0]
        from itertools import permutations

        all_tau = np.array([tau(order) for order in permutations(range(count))])
        case["p_greater"] = float((all_tau >= case["kendall"] - 1e-12).mean())
        case["p_two_sided"] = float((np.abs(all_tau) >= abs(case["kendall"]) - 1e-12).mean())
    if count == 13:
        z = rng.normal(size=count)
        quadratic = np.column_stack([x, z, x * x, x * z, z * z])
        predicted = cross_val_predict(LinearRegression(), quadratic, y, cv=LeaveOneOut())
        case["z"] = z.tolist()
        case["quadratic_r2"] = LinearRegression().fit(quadratic, y).score(quadratic, y)
        case["quadratic_loo_r2"] = r2_score(y, predicted)
    cases.append(case)
(golden / "stats" / "predictors.json").write_text(json.dumps(cases, indent=1) + "\n")
print("alignment", rows, "spread", numbers["spread"], "knn", top1)
