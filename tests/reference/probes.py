"""Golden values of the direct probes, for encoders/src/probe/tests.rs.

Pinned: scikit-learn 1.7.2, numpy, scipy, safetensors. The linear probe is scikit-learn's LogisticRegression on standardised
features; the k-NN probe is its KNeighborsClassifier with cosine distance and DINO's weights exp(similarity / 0.07);
the interval is SciPy's Wilson score interval.

    python tests/reference/probes.py        # writes tests/golden/probes/problem.safetensors
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

rng = np.random.default_rng(0)
n, tests, width, classes = 240, 80, 10, 5
means = rng.normal(size=(classes, width))
mixing = rng.normal(size=(width, width))
scales = 10.0 ** rng.uniform(-2, 2, size=width)


def draw(count):
    labels = np.arange(count) % classes
    x = (means[labels] + 1.3 * rng.normal(size=(count, width))) @ mixing * scales + 0.3 * scales
    x[:, 3] = 7.5  # A constant feature.
    return x.astype(np.float32), labels


train, train_labels = draw(n)
test, test_labels = draw(tests)
out = {
    "train": train,
    "train.labels": train_labels.astype(np.float32),
    "test": test,
    "test.labels": test_labels.astype(np.float32),
}

scaler = StandardScaler().fit(train.astype(np.float64))
x, y = scaler.transform(train.astype(np.float64)), scaler.transform(test.astype(np.float64))
for l2 in (1e-1, 1e-3):
    model = LogisticRegression(C=1 / (l2 * n), solver="lbfgs", tol=1e-10, max_iter=100_000).fit(x, train_labels)
    out[f"l2={l2:g}.weights"] = np.vstack([model.coef_.T, model.intercept_]).astype(np.float32)
    out[f"l2={l2:g}.probabilities"] = model.predict_proba(y).astype(np.float32)
    print(f"l2 {l2:g}: accuracy {model.score(y, test_labels):.4f}, iterations {model.n_iter_}")

knn = KNeighborsClassifier(
    n_neighbors=20, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
).fit(train.astype(np.float64), train_labels)
out["knn.shares"] = knn.predict_proba(test.astype(np.float64)).astype(np.float32)
print(f"k-NN: accuracy {knn.score(test.astype(np.float64), test_labels):.4f}")

path = Path(__file__).parents[1] / "golden" / "probes" / "problem.safetensors"
path.parent.mkdir(parents=True, exist_ok=True)
save_file({k: np.ascontiguousarray(v) for k, v in out.items()}, path)
for correct, of in ((12, 100), (0, 60), (60, 60), (512, 700)):
    ci = binomtest(correct, of).proportion_ci(0.95, method="wilson")
    print(f"{correct} of {of}: {ci.low:.6f} to {ci.high:.6f}")
