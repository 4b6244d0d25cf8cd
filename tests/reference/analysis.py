"""Golden values for the benchmark analysis of burgess-reports: writes tests/golden/analysis/analysis.json.

Pinned: Python 3.11, numpy 2.4.6, scipy 1.17.1, scikit-learn 1.9.1. Run: python tests/reference/analysis.py
"""

import csv
import json
import pathlib

import numpy as np
import scipy
import sklearn
from scipy import stats
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import StandardScaler

HERE = pathlib.Path(__file__).parent
PUBLISHED = HERE.parent.parent / "reports" / "published"
OUT = HERE.parent / "golden" / "analysis" / "analysis.json"
rng = np.random.default_rng(20240624)


def table(name):
    """Scores by model and benchmark (16), MME in percent, NaN where the paper gives no number."""
    rows = list(csv.DictReader((PUBLISHED / name).open()))
    columns = list(rows[0])[2:18]
    scores = [[float(r[c]) / (20 if c == "MME" else 1) if r[c] else np.nan for c in columns] for r in rows]
    categories = [i // 4 for i in range(16)]
    return [r["Model"] for r in rows], columns, categories, np.array(scores)


def made_up():
    """A made-up table: two factors, ties in one column, two missing scores."""
    factors = rng.normal(size=(14, 2))
    loadings = rng.uniform(-1, 1, size=(2, 7))
    scores = 50 + 10 * factors @ loadings + 4 * rng.normal(size=(14, 7))
    scores[:, 2] = np.round(scores[:, 2], -1)
    scores[3, 5] = scores[8, 0] = np.nan
    return [f"m{i}" for i in range(14)], [f"b{i}" for i in range(7)], [0, 0, 1, 1, 2, 2, 3], scores


def pairwise(scores, correlate):
    """Correlation over the models that have both scores; None for fewer than three models, or without variance."""
    n = scores.shape[1]
    values, counts = [[None] * n for _ in range(n)], [[0] * n for _ in range(n)]
    for i in range(n):
        for j in range(n):
            both = ~np.isnan(scores[:, i]) & ~np.isnan(scores[:, j])
            counts[i][j] = int(both.sum())
            x, y = scores[both, i], scores[both, j]
            if len(x) >= 3 and np.ptp(x) > 0 and np.ptp(y) > 0:
                values[i][j] = float(correlate(x, y).statistic)
    return values, counts


def case(name, models, benchmarks, categories, scores):
    pearson, counts = pairwise(scores, stats.pearsonr)
    spearman, _ = pairwise(scores, stats.spearmanr)
    complete = ~np.isnan(scores).any(axis=1)
    pca = PCA(svd_solver="full")
    places = pca.fit_transform(StandardScaler().fit_transform(scores[complete]))
    keep = pca.explained_variance_ratio_ > 1e-10
    # Loadings are correlations of benchmark and component.
    sd = np.sqrt(pca.explained_variance_ * (complete.sum() - 1) / complete.sum())
    golden = {
        "name": name, "models": models, "benchmarks": benchmarks, "categories": categories,
        "scores": [[None if np.isnan(x) else x for x in row] for row in scores.tolist()],
        "pearson": pearson, "spearman": spearman, "counts": counts,
        "complete": [m for m, c in zip(models, complete) if c],
        "explained": pca.explained_variance_ratio_[keep].tolist(),
        "loadings": (pca.components_ * sd[:, None])[keep].tolist(),
        "places": places.T[keep].tolist(),
    }
    if all(r is not None for row in pearson for r in row):
        distances = 1 - np.array(pearson)
        np.fill_diagonal(distances, 0)
        tree = linkage(squareform(distances, checks=False), method="average")
        labels = fcluster(tree, t=len(set(categories)), criterion="maxclust")
        golden["heights"] = tree[:, 2].tolist()
        golden["sizes"] = tree[:, 3].astype(int).tolist()
        golden["labels"] = labels.tolist()
        golden["agreement"] = float(adjusted_rand_score(categories, labels))
    return golden


golden = {
    "versions": {"numpy": np.__version__, "scipy": scipy.__version__, "scikit-learn": sklearn.__version__},
    "cases": [
        case("1.2M adapter, frozen", *table("adapter-1.2m-frozen.csv")),
        case("0M adapter, frozen", *table("adapter-0m-frozen.csv")),
        case("final models", *table("final-models.csv")),
        case("made up", *made_up()),
    ],
}
OUT.parent.mkdir(parents=True, exist_ok=True)
OUT.write_text(json.dumps(golden) + "\n")
print(f"wrote {OUT}, {OUT.stat().st_size} bytes; agreements {[c.get('agreement') for c in golden['cases']]}")
