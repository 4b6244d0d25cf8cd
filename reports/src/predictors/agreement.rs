//! The agreement of a predictor with scores over arms.

use super::content::Better;
use super::regression::LeastSquares;
use crate::stats::{self, Estimate};
use burgess_base::stream::{Stream, stream};
use rand::RngExt;
use serde::{Deserialize, Serialize};

/// Smallest number of arms for which rank correlations are computed.
pub(super) const FEWEST: usize = 3;
/// Largest number of arms whose permutations are all counted (8! = 40,320).
const EXACT: usize = 8;
/// Number of random permutations for more arms.
const PERMUTATIONS: usize = 20_000;

/// How well a predictor orders the arms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Number of trained arms with a value and a score.
    pub n: usize,
    /// Spearman's ρ between predictor and score, positive if the predictor is right about its direction; with a
    /// bootstrap interval over arms.
    pub spearman: Estimate,
    /// Kendall's τ-b, in the same way.
    pub kendall: Estimate,
    /// The arm that the predictor picks; `None` for a predictor without a stated direction.
    pub pick: Option<Pick>,
    /// R² of leave-one-out predictions by linear regression on the predictor: 1 − Σ(yᵢ − ŷ₋ᵢ)² / Σ(yᵢ
    /// − ȳ)², negative if the mean of all arms predicts better. `None` if a regression is not determined.
    pub loo_r2: Option<f64>,
    /// P-value of the permutation test of τ-b: one-sided, or two-sided without a stated direction.
    pub p: f64,
    /// The p-value adjusted by Holm's method for the number of predictors.
    pub p_adjusted: f64,
}

/// The arm with the best value of a predictor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pick {
    /// Labels of the arms with the best value; several if they are tied.
    pub arms: Vec<String>,
    /// Label of the arm with the highest score.
    pub winner: String,
    /// Highest score minus that of the picked arm, in points; for tied arms the mean over them.
    pub regret: f64,
}

/// Computes the agreement of predictor values `x` with scores `y` of the arms `names`. Bootstrap and permutations draw
/// from streams below `stream_name`; `(seed, replicates, confidence)` are those of the intervals.
///
/// # Errors
/// There are too few arms, or one side has no variance; the text says which.
pub fn agreement(
    names: &[&str],
    x: &[f64],
    y: &[f64],
    better: Better,
    stream_name: &str,
    (seed, replicates, confidence): (u64, usize, f64),
) -> Result<Agreement, String> {
    let n = x.len();
    if n < FEWEST {
        return Err(format!("only {n} trained arms have a value and a score, at least {FEWEST} are needed"));
    }
    let x: Vec<f64> = x.iter().map(|v| better.sign() * v).collect();
    let (Some(rho), Some(tau)) = (stats::spearman(&x, y), stats::kendall_tau(&x, y)) else {
        return Err("all arms have the same value or the same score".to_string());
    };
    let drawn = |counts: &[f64]| -> (Option<f64>, Option<f64>) {
        let often = |values: &[f64]| -> Vec<f64> {
            values.iter().zip(counts).flat_map(|(v, count)| std::iter::repeat_n(*v, *count as usize)).collect()
        };
        let (x, y) = (often(&x), often(y));
        (stats::spearman(&x, &y), stats::kendall_tau(&x, &y))
    };
    let replicas = stats::bootstrap(n, replicates, &format!("{stream_name}/arms"), seed, drawn);
    // Resamples of one arm, or of arms with one value, have no order.
    let estimate = |value: f64, replicas: Vec<f64>| {
        let (low, high) = stats::interval(&replicas, confidence);
        Estimate { value, low, high }
    };
    let p = permutation_p(&x, y, better == Better::Unstated, &mut stream(&format!("{stream_name}/permutations"), seed));
    Ok(Agreement {
        n,
        spearman: estimate(rho, replicas.iter().filter_map(|r| r.0).collect()),
        kendall: estimate(tau, replicas.iter().filter_map(|r| r.1).collect()),
        pick: (better != Better::Unstated).then(|| pick(names, &x, y)),
        loo_r2: LeastSquares::fit(std::slice::from_ref(&x), y).and_then(|fit| fit.loo_r2),
        p,
        p_adjusted: p,
    })
}

/// Returns the arm of the highest `x`; ties are shared.
fn pick(names: &[&str], x: &[f64], y: &[f64]) -> Pick {
    let most = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (best, top) = (most(x), most(y));
    let picked: Vec<(&str, f64)> =
        names.iter().zip(x).zip(y).filter(|((_, x), _)| **x == best).map(|((name, _), y)| (*name, *y)).collect();
    let scores: Vec<f64> = picked.iter().map(|(_, y)| *y).collect();
    let winner = names.iter().zip(y).find(|(_, y)| **y == top).map_or("", |(name, _)| *name);
    Pick {
        arms: picked.iter().map(|(name, _)| name.to_string()).collect(),
        winner: winner.to_string(),
        regret: top - stats::mean(&scores).unwrap_or(top),
    }
}

/// Returns the p-value of the permutation test of Kendall's τ-b between `x` and `y`: the fraction of orders of `y`
/// whose τ (with `two_sided`, |τ|) is at least the observed one. All orders of up to eight arms are counted; else
/// 20,000 random ones, with the observed order added.
pub fn permutation_p(x: &[f64], y: &[f64], two_sided: bool, rng: &mut Stream) -> f64 {
    let sign = |d: f64| if d == 0.0 { 0.0 } else { d.signum() };
    let n = y.len();
    // τ's denominator is the same for all orders, so the numerator is compared: an integer.
    let concordance = |order: &[usize]| -> f64 {
        let mut sum = 0.0;
        for i in 0..n {
            for j in i + 1..n {
                sum += sign(x[i] - x[j]) * sign(y[order[i]] - y[order[j]]);
            }
        }
        if two_sided { sum.abs() } else { sum }
    };
    let mut order: Vec<usize> = (0..n).collect();
    let observed = concordance(&order);
    if n <= EXACT {
        let (mut all, mut extreme) = (0usize, 0usize);
        permute(&mut order, 0, &mut |order| {
            all += 1;
            extreme += usize::from(concordance(order) >= observed);
        });
        return extreme as f64 / all as f64;
    }
    let mut extreme = 0;
    for _ in 0..PERMUTATIONS {
        for i in (1..n).rev() {
            // u32, because usize draws would differ between 32- and 64-bit machines.
            order.swap(i, rng.random_range(0..=i as u32) as usize);
        }
        extreme += usize::from(concordance(&order) >= observed);
    }
    stats::p_value(extreme, PERMUTATIONS)
}

/// Calls `visit` with every order of `items`, of which the first `fixed` stay.
fn permute(items: &mut [usize], fixed: usize, visit: &mut impl FnMut(&[usize])) {
    if fixed + 1 >= items.len() {
        return visit(items);
    }
    for i in fixed..items.len() {
        items.swap(fixed, i);
        permute(items, fixed + 1, visit);
        items.swap(fixed, i);
    }
}
