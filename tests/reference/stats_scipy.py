"""Golden values for burgess-reports' statistics: writes tests/golden/stats/stats.json.

Pinned: Python 3, numpy 2.4.6, scipy 1.17.1. Run: python tests/reference/stats_scipy.py
"""

import json
import pathlib

import numpy as np
import scipy
from scipy import stats

OUT = pathlib.Path(__file__).parent.parent / "golden" / "stats" / "stats.json"
rng = np.random.default_rng(20240616)


def ratio(s, w, axis=-1):
    return np.sum(s, axis=axis) / np.sum(w, axis=axis)


def jackknife_se(s, w):
    """An independent check of the linearised standard error: delete-one jackknife."""
    n = len(s)
    left = np.array([ratio(np.delete(s, i), np.delete(w, i)) for i in range(n)])
    return float(np.sqrt((n - 1) / n * np.sum((left - left.mean()) ** 2)))


def holm(p):
    """Holm 1979 from its definition: the largest Bonferroni bound among all tests up to this one."""
    p = np.asarray(p)
    order = np.argsort(p, kind="stable")
    out = np.empty_like(p)
    for place, i in enumerate(order):
        out[i] = min(1.0, max((len(p) - j) * p[order[j]] for j in range(place + 1)))
    return out.tolist()


golden = {"versions": {"numpy": np.__version__, "scipy": scipy.__version__}}

correlations = []
for n, ties in [(4, False), (9, False), (9, True), (30, True)]:
    x = rng.normal(size=n)
    y = 0.6 * x + rng.normal(size=n)
    if ties:
        x, y = np.round(x), np.round(y)
    correlations.append({
        "x": x.tolist(), "y": y.tolist(),
        "pearson": stats.pearsonr(x, y).statistic,
        "spearman": stats.spearmanr(x, y).statistic,
        "kendall": stats.kendalltau(x, y).statistic,
        "ranks_x": stats.rankdata(x).tolist(),
    })
golden["correlations"] = correlations

values = rng.normal(size=101)
qs = [0.0, 0.025, 0.2, 0.5, 0.975, 1.0]
golden["quantiles"] = {"values": values.tolist(), "q": qs, "expected": np.quantile(values, qs).tolist()}

equal = rng.integers(0, 2, size=40).astype(float)
golden["sem"] = {"values": equal.tolist(), "expected": float(stats.sem(equal))}

w = rng.integers(1, 5, size=200).astype(float)
s = rng.binomial(w.astype(int), rng.uniform(0.2, 0.9, size=200)).astype(float)
boot = stats.bootstrap((s, w), ratio, paired=True, vectorized=True, n_resamples=50_000, method="percentile",
                       confidence_level=0.95, rng=rng)
golden["ratio"] = {
    "sums": s.tolist(), "weights": w.tolist(), "ratio": float(ratio(s, w)), "jackknife_se": jackknife_se(s, w),
    "bootstrap_se": float(boot.standard_error),
    "low": float(boot.confidence_interval.low), "high": float(boot.confidence_interval.high),
}

flips = []
for n in (5, 9, 60):
    d = rng.choice([-1.0, 0.0, 0.0, 1.0, 1.0], size=n)
    exact = n < 20
    test = stats.permutation_test((d,), np.sum, permutation_type="samples", alternative="two-sided",
                                  n_resamples=np.inf if exact else 200_000, rng=rng)
    flips.append({"differences": d.tolist(), "exact": exact, "p": float(test.pvalue)})
golden["sign_flip"] = flips

p = [0.01, 0.04, 0.03, 0.005, 0.2, 0.01]
golden["holm"] = {"p": p, "expected": holm(p)}

OUT.parent.mkdir(parents=True, exist_ok=True)
OUT.write_text(json.dumps(golden, indent=1) + "\n")
print(f"wrote {OUT}")
