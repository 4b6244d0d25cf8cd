"""Golden values of paired comparisons (reports/src/compare), by SciPy 1.17 and statsmodels 0.15.

Writes tests/golden/compare/compare.json: clustered standard errors (OLS with cluster-robust covariance), sign-flip tests,
bootstrap intervals, McNemar's exact test, variance components of seeds (two-way analysis of variance), power of the
normal test.

    python -m venv /tmp/reference && . /tmp/reference/bin/activate
    pip install numpy scipy statsmodels pandas
    python tests/reference/compare.py
"""

import json
import pathlib

import numpy as np
import pandas as pd
import statsmodels.api as sm
from scipy import optimize, stats
from statsmodels.formula.api import ols
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import normal_power

rng = np.random.default_rng(5)


def answers(images, questions, skill_a, skill_b):
    """Right and wrong answers of two models to the same questions: (image, a, b)."""
    rows = []
    for image in range(images):
        hard = rng.normal()
        for _ in range(questions(image)):
            luck = rng.normal()
            rows.append((image, int(rng.normal() + hard + luck < skill_a), int(rng.normal() + hard + luck < skill_b)))
    return np.array(rows)


def paired(rows):
    image, a, b = rows.T
    d = a - b
    # Cluster-robust standard error of the mean difference, with the correction G / (G - 1).
    clustered = sm.OLS(d, np.ones(len(d))).fit(cov_type="cluster", cov_kwds={"groups": image})
    sums = np.array([d[image == i].sum() for i in np.unique(image)])
    counts = np.array([(image == i).sum() for i in np.unique(image)])
    flip = stats.permutation_test(
        (sums,), lambda x, axis: np.sum(x, axis=axis), permutation_type="samples", n_resamples=200_000,
        random_state=np.random.default_rng(1), vectorized=True,
    )
    boot = stats.bootstrap(
        (sums, counts), lambda s, c, axis: s.sum(axis=axis) / c.sum(axis=axis), paired=True, vectorized=True,
        n_resamples=50_000, method="percentile", random_state=np.random.default_rng(2),
    ).confidence_interval
    only_a, only_b = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    table = [[int(((a == 1) & (b == 1)).sum()), only_a], [only_b, int(((a == 0) & (b == 0)).sum())]]
    return {
        "image": image.tolist(), "a": a.tolist(), "b": b.tolist(),
        "difference": 100 * d.mean(), "standard_error": 100 * clustered.bse[0],
        "p_sign_flip": flip.pvalue, "low": 100 * boot.low, "high": 100 * boot.high,
        "table": table, "mcnemar_p": mcnemar(table, exact=True).pvalue,
    }


def power(error, detect, alpha, wanted):
    """Power of the two-sided normal test of a difference with this standard error."""
    at = lambda difference, scale: normal_power(difference / error, scale, alpha)
    return {
        "error": error, "detect": detect, "alpha": alpha, "wanted": wanted,
        "power": at(detect, 1.0),
        "detectable": optimize.brentq(lambda d: at(d, 1.0) - wanted, 1e-9, 1e3),
        # How many times as many questions.
        "times": optimize.brentq(lambda n: at(detect, n) - wanted, 1e-9, 1e9),
    }


def seeds(units, count, between, within):
    """Scores of an arm's seeds on the same units, with its mean squares."""
    table = (0.5 + rng.normal(size=(units, 1)) * 0.2 + rng.normal(size=(1, count)) * between
             + rng.normal(size=(units, count)) * within)
    frame = pd.DataFrame({
        "y": table.ravel(), "unit": np.repeat(np.arange(units), count), "seed": np.tile(np.arange(count), units)})
    anova = sm.stats.anova_lm(ols("y ~ C(unit) + C(seed)", frame).fit())
    mean_square = anova["mean_sq"]
    return {"table": table.tolist(), "residual": mean_square["Residual"], "seed": mean_square["C(seed)"]}


golden = {
    "paired": [
        paired(answers(120, lambda i: 1, 0.4, 0.1)),
        paired(answers(60, lambda i: 1 + i % 4, 0.3, 0.3)),
        paired(answers(40, lambda i: 3, 0.9, -0.4)),
    ],
    "power": [power(0.5, 1.0, 0.05, 0.8), power(2.3, 1.0, 0.05, 0.8), power(1.1, 3.0, 0.01, 0.9)],
    "mcnemar": [{"b": b, "c": c, "p": mcnemar([[0, b], [c, 0]], exact=True).pvalue}
                for b, c in [(0, 0), (1, 0), (0, 6), (10, 25), (25, 10), (400, 460), (3000, 3100)]],
    "normal": [{"x": x, "cdf": stats.norm.cdf(x)} for x in [-9.0, -4.2, -3.0, -1.96, -0.1, 0.0, 0.5, 2.9, 3.0, 3.1, 8.0]],
    "holm": {"p": [0.01, 0.04, 0.03, 0.005, 0.5], "adjusted": None},
    "seeds": [seeds(50, 4, 0.05, 0.2), seeds(30, 3, 0.0, 0.3)],
}
golden["holm"]["adjusted"] = multipletests(golden["holm"]["p"], method="holm")[1].tolist()
out = pathlib.Path(__file__).resolve().parent.parent / "golden" / "compare" / "compare.json"
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(json.dumps(golden, indent=None, separators=(",", ":")) + "\n")
print(out, out.stat().st_size, "bytes")
