//! Statistics of scores that are ratios of sums over images.
//!
//! Questions about one image are not independent, so resampling and counting are over images
//! ([`crate::schema::UnitScore`]); treating questions as independent would make every interval too narrow. Every random
//! stream is named after its purpose and replicate, so that results depend neither on the number of threads nor on
//! other computations.

use burgess_base::stream::{Stream, stream};
use rand::{Rng, RngExt};
use rayon::prelude::*;

/// A value with its confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Estimate {
    /// Point estimate.
    pub value: f64,
    /// Lower end of the confidence interval.
    pub low: f64,
    /// Upper end of the confidence interval.
    pub high: f64,
}

/// Returns the arithmetic mean; `None` for no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Returns Σsums / Σweights; `None` if the weights sum to 0.
pub fn ratio(sums: &[f64], weights: &[f64]) -> Option<f64> {
    let total: f64 = weights.iter().sum();
    (total > 0.0).then(|| sums.iter().sum::<f64>() / total)
}

/// Returns the standard error of [`ratio`] under sampling of whole units (clusters).
///
/// The linearised (sandwich) estimate with the small-sample factor n/(n−1): √(n/(n−1)·Σ(sᵢ − r·wᵢ)²) /
/// Σwᵢ. With equal weights it is the standard error of the mean. `None` for fewer than two units. Source: Cochran,
/// *Sampling Techniques*, 3rd ed., §6.
pub fn clustered_se(sums: &[f64], weights: &[f64]) -> Option<f64> {
    let n = sums.len() as f64;
    let r = ratio(sums, weights).filter(|_| sums.len() > 1)?;
    let squares: f64 = sums.iter().zip(weights).map(|(s, w)| (s - r * w).powi(2)).sum();
    Some((n / (n - 1.0) * squares).sqrt() / weights.iter().sum::<f64>())
}

/// Draws `n` of `n` items with replacement, and returns how often each was drawn.
pub fn resample(n: usize, rng: &mut Stream) -> Vec<f64> {
    let mut counts = vec![0.0; n];
    // Draws are u32, because usize draws would differ between 32- and 64-bit machines.
    let bound = u32::try_from(n).unwrap_or(u32::MAX);
    for _ in 0..n {
        if let Some(count) = counts.get_mut(rng.random_range(0..bound) as usize) {
            *count += 1.0;
        }
    }
    counts
}

/// Computes `statistic` of `replicates` bootstrap resamples of `n` units, which are given as counts per unit.
///
/// The units of replicate `r` are drawn from the stream `<name>/<r>`: the same name and seed give the same draws, which
/// makes two calls paired.
pub fn bootstrap<T: Send>(
    n: usize,
    replicates: usize,
    name: &str,
    seed: u64,
    statistic: impl Fn(&[f64]) -> T + Sync,
) -> Vec<T> {
    (0..replicates)
        .into_par_iter()
        .map(|r| statistic(&resample(n, &mut stream(&format!("{name}/{r}"), seed))))
        .collect()
}

/// Computes bootstrap replicates of [`ratio`]; `None` without units or weight.
pub fn bootstrap_ratio(sums: &[f64], weights: &[f64], replicates: usize, name: &str, seed: u64) -> Option<Vec<f64>> {
    let point = ratio(sums, weights)?;
    let statistic = |counts: &[f64]| {
        let weight = dot(counts, weights);
        // If only units of weight 0 are drawn, the ratio is undefined, and the observed one is used.
        if weight > 0.0 { dot(counts, sums) / weight } else { point }
    };
    Some(bootstrap(sums.len(), replicates, name, seed, statistic))
}

/// Returns the percentile interval of bootstrap replicates; `(NaN, NaN)` for none.
pub fn interval(values: &[f64], confidence: f64) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    (quantile(&sorted, tail), quantile(&sorted, 1.0 - tail))
}

/// Returns a quantile of sorted values, linear between order statistics (NumPy's default, type 7 of Hyndman and Fan).
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = q.clamp(0.0, 1.0) * last as f64;
    let low = place.floor() as usize;
    let at = |i: usize| sorted.get(i.min(last)).copied().unwrap_or(f64::NAN);
    at(low) + (place - low as f64) * (at(low + 1) - at(low))
}

/// Returns Wilson's score interval of a proportion `p` observed in `n` independent units. `n` may be an effective
/// number of units; for 0 the interval is [0, 1].
///
/// Unlike the normal interval and the bootstrap, it does not shrink to a point at 0 and 1: 0 of 60 gives 0 to 0.06. It
/// is conservative for any quantity between 0 and 1, because a binary one has the largest variance. Source: Wilson
/// 1927; Brown, Cai and DasGupta 2001.
pub fn wilson(p: f64, n: f64, confidence: f64) -> (f64, f64) {
    if n.is_nan() || n <= 0.0 {
        return (0.0, 1.0);
    }
    let p = p.clamp(0.0, 1.0);
    let z2 = normal_quantile((1.0 + confidence) / 2.0).powi(2);
    let middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = (p * (1.0 - p) / n + z2 / (4.0 * n * n)).max(0.0).sqrt() * z2.sqrt() / (1.0 + z2 / n);
    // The ends are set exactly, where rounding would leave 1e-17.
    let low = if p == 0.0 { 0.0 } else { (middle - half).max(0.0) };
    let high = if p == 1.0 { 1.0 } else { (middle + half).min(1.0) };
    (low, high)
}

/// Returns the interval of the difference `a` − `b` of two proportions of independent units, each given with its
/// [`wilson`] interval as `(share, low, high)` (method 10 of Newcombe 1998). The difference is separable from 0 if the
/// interval excludes 0.
///
/// For two proportions of the same units, which correlate positively, the interval is conservative.
pub fn newcombe(a: (f64, f64, f64), b: (f64, f64, f64)) -> (f64, f64) {
    let difference = a.0 - b.0;
    let below = (a.0 - a.1).hypot(b.2 - b.0);
    let above = (a.2 - a.0).hypot(b.0 - b.1);
    (difference - below, difference + above)
}

/// Returns Kish's effective number of units, (Σw)²/Σw²: the number of units of equal weight with the same
/// information; 0 without weight.
///
/// Used as the sample size of a proportion over clusters, it counts all questions on one unit as one answer (the design
/// effect of complete correlation), which is the only safe assumption if all answers are the same and the correlation
/// cannot be estimated.
pub fn effective_units(weights: &[f64]) -> f64 {
    let squares = dot(weights, weights);
    if squares > 0.0 { weights.iter().sum::<f64>().powi(2) / squares } else { 0.0 }
}

/// Returns a quantile of the standard normal distribution, with a relative error of at most 1.2e-9 (Acklam's
/// approximation).
pub fn normal_quantile(q: f64) -> f64 {
    let poly = |c: &[f64], x: f64| c.iter().fold(0.0, |sum, c| sum * x + c);
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 6] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 5] =
        [7.784_695_709_041_462e-3, 3.224_671_290_700_398e-1, 2.445_134_137_142_996, 3.754_408_661_907_416, 1.0];
    const TAIL: f64 = 0.02425;
    match q {
        q if q <= 0.0 => f64::NEG_INFINITY,
        q if q >= 1.0 => f64::INFINITY,
        q if q < TAIL => {
            let r = (-2.0 * q.ln()).sqrt();
            poly(&C, r) / poly(&D, r)
        }
        q if q > 1.0 - TAIL => {
            let r = (-2.0 * (1.0 - q).ln()).sqrt();
            -poly(&C, r) / poly(&D, r)
        }
        q => {
            let (d, r) = (q - 0.5, (q - 0.5).powi(2));
            poly(&A, r) * d / poly(&B, r)
        }
    }
}

/// Returns the standard normal distribution function, with an absolute error below 1e-14: a power series near 0, and a
/// continued fraction in the tails (Abramowitz and Stegun 26.2.11 and 26.2.14).
pub fn normal_cdf(x: f64) -> f64 {
    if x.is_nan() {
        return f64::NAN;
    }
    let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if x.abs() < 3.0 {
        let (mut term, mut sum, mut odd) = (x, x, 1.0);
        while term.abs() > 1e-17 * sum.abs() {
            odd += 2.0;
            term *= x * x / odd;
            sum += term;
        }
        return 0.5 + density * sum;
    }
    let fraction = (1..=80).rev().fold(x.abs(), |below, k| x.abs() + f64::from(k) / below);
    let tail = density / fraction;
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// Returns the two-sided p of McNemar's exact test for `b` and `c` discordant pairs: twice the smaller tail of the
/// binomial distribution with probability ½, at most 1.
pub fn mcnemar(b: usize, c: usize) -> f64 {
    let (n, fewer) = (b + c, b.min(c));
    // Logarithms, because ½ⁿ is 0 in floating point for n > 1074.
    let mut log_choose = 0.0;
    let half = n as f64 * 0.5_f64.ln();
    let mut tail = half.exp();
    for k in 1..=fewer {
        log_choose += ((n - k + 1) as f64 / k as f64).ln();
        tail += (log_choose + half).exp();
    }
    (2.0 * tail).min(1.0)
}

/// Draws n random signs, ±1.
pub fn signs(n: usize, rng: &mut Stream) -> Vec<f64> {
    let mut out = Vec::with_capacity(n);
    while out.len() < n {
        let mut bits = rng.next_u64();
        for _ in 0..(n - out.len()).min(64) {
            out.push(if bits & 1 == 1 { 1.0 } else { -1.0 });
            bits >>= 1;
        }
    }
    out
}

/// Returns the p-value of a Monte Carlo test in which `count` of `replicates` draws were at least as extreme as the
/// data.
pub fn p_value(count: usize, replicates: usize) -> f64 {
    (count + 1) as f64 / (replicates + 1) as f64
}

/// Returns the tolerance within which sums count as tied, because of rounding.
pub(crate) fn tie_tolerance(observed: f64) -> f64 {
    1e-9 * observed.abs().max(1.0)
}

/// Returns Holm's step-down adjusted p-values, which control the family-wise error rate over all these tests. Source:
/// Holm 1979.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let m = p_values.len();
    let mut order: Vec<(usize, f64)> = p_values.iter().copied().enumerate().collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut adjusted = vec![1.0; m];
    let mut running: f64 = 0.0;
    for (step, (i, p)) in order.into_iter().enumerate() {
        running = running.max((p * (m - step) as f64).min(1.0));
        if let Some(slot) = adjusted.get_mut(i) {
            *slot = running;
        }
    }
    adjusted
}

/// Returns Pearson's correlation; `None` for fewer than two pairs or if one side has no variance.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    let (mx, my) = (mean(x)?, mean(y)?);
    if x.len() < 2 || x.len() != y.len() {
        return None;
    }
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (a, b) in x.iter().zip(y) {
        let (a, b) = (a - mx, b - my);
        xy += a * b;
        xx += a * a;
        yy += b * b;
    }
    (xx > 0.0 && yy > 0.0).then(|| (xy / (xx.sqrt() * yy.sqrt())).clamp(-1.0, 1.0))
}

/// Returns Spearman's rank correlation, with mean ranks for ties.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    pearson(&mean_ranks(x), &mean_ranks(y))
}

/// Returns ranks from 1 for the smallest, with mean ranks for ties.
pub fn mean_ranks(values: &[f64]) -> Vec<f64> {
    let below = |v: f64| values.iter().filter(|o| **o < v).count();
    let equal = |v: f64| values.iter().filter(|o| **o == v).count();
    values.iter().map(|v| below(*v) as f64 + (equal(*v) as f64 + 1.0) / 2.0).collect()
}

/// Returns Kendall's τ-b, the rank correlation corrected for ties: 1 for the same order and −1 for the opposite one.
/// `None` for fewer than two pairs or if one side has no variance.
pub fn kendall_tau(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.len() != y.len() {
        return None;
    }
    let sign = |d: f64| if d == 0.0 { 0.0 } else { d.signum() };
    let (mut concordance, mut xs, mut ys) = (0.0, 0.0, 0.0);
    for (i, (xi, yi)) in x.iter().zip(y).enumerate() {
        for (xj, yj) in x.iter().zip(y).skip(i + 1) {
            let (dx, dy) = (sign(xi - xj), sign(yi - yj));
            concordance += dx * dy;
            xs += dx * dx;
            ys += dy * dy;
        }
    }
    (xs > 0.0 && ys > 0.0).then(|| concordance / (xs * ys).sqrt())
}

/// Returns the dot product Σ aᵢ·bᵢ.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
