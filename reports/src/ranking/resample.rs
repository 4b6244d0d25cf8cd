//! Bootstrap replicates and sign flips of a ranking, for all arms at once.

use super::options::RankOptions;
use super::run_grid::{GridArm, GridBenchmark, GridRun, RunGrid, Scope};
use crate::stats::{self, dot};
use burgess_base::stream::stream;
use ndarray::Array2;
use rayon::prelude::*;

/// Scores in percent of every arm (rows) in every scope (columns), with the image and without.
pub(super) struct ScopeScores {
    pub image: Array2<f64>,
    pub blind: Array2<f64>,
}

/// Returns an array element that is known to exist; 0 avoids an impossible branch at every call.
pub(super) fn at(values: &Array2<f64>, arm: usize, scope: usize) -> f64 {
    values.get((arm, scope)).copied().unwrap_or(0.0)
}

/// Points per benchmark and unit, to be weighted by how often each unit was drawn.
pub(super) type Columns = [Vec<f64>];

/// Returns the observed scores: every unit once, every seed once.
pub(super) fn observed(grid: &RunGrid) -> ScopeScores {
    let once: Vec<Vec<f64>> = grid.benchmarks.iter().map(|b| vec![1.0; b.weights.len()]).collect();
    scores(grid, &once, |arm| vec![1.0 / arm.runs.len() as f64; arm.runs.len()])
}

/// Computes bootstrap replicates. Each draws, per benchmark, as many units as there are, with replacement: **the same
/// units for all arms**, with the image and without, so that differences are paired. If an arm has several seeds, its
/// seeds are drawn too, independently of the other arms'.
///
/// Drawing S seeds with replacement shows only (S−1)/S of the variance between seeds, which matters if S is 2 or 3.
/// So the deviation of the drawn seeds from their mean is scaled by √(S/(S−1)), which makes the variance of a mean
/// unbiased. Drawing images and seeds independently overestimates the variance slightly (Owen 2007, *The pigeonhole
/// bootstrap*).
pub(super) fn bootstrap(grid: &RunGrid, options: &RankOptions) -> Vec<ScopeScores> {
    (0..options.replicates)
        .into_par_iter()
        .map(|r| scores(grid, &unit_draws(grid, options, r), |arm| seed_weights(arm, options, r)))
        .collect()
}

/// Draws the units of replicate `r`: how often each unit of each benchmark is drawn.
pub(super) fn unit_draws(grid: &RunGrid, options: &RankOptions, r: usize) -> Vec<Vec<f64>> {
    let draw = |b: &GridBenchmark| {
        let mut rng = stream(&format!("bootstrap/units/{}/{r}", b.name), options.seed);
        stats::resample(b.weights.len(), &mut rng)
    };
    grid.benchmarks.iter().map(draw).collect()
}

/// Draws the seeds of an arm in replicate `r`: the weight of each of its runs.
pub(super) fn seed_weights(arm: &GridArm, options: &RankOptions, r: usize) -> Vec<f64> {
    let n = arm.runs.len();
    if n < 2 {
        return vec![1.0; n];
    }
    let mut rng = stream(&format!("bootstrap/seeds/{}/{r}", arm.arm), options.seed);
    let (share, stretch) = (1.0 / n as f64, (n as f64 / (n as f64 - 1.0)).sqrt());
    stats::resample(n, &mut rng).iter().map(|drawn| share * (1.0 + stretch * (drawn - 1.0))).collect()
}

/// Computes the scores of all arms, with each unit counted as often as drawn and each seed with its weight.
fn scores(grid: &RunGrid, draws: &[Vec<f64>], seed_weights: impl Fn(&GridArm) -> Vec<f64>) -> ScopeScores {
    let shape = (grid.arms.len(), grid.scopes.len());
    let mut out = ScopeScores { image: Array2::zeros(shape), blind: Array2::zeros(shape) };
    let totals: Vec<f64> = grid.benchmarks.iter().zip(draws).map(|(b, d)| dot(d, &b.weights)).collect();
    for (a, arm) in grid.arms.iter().enumerate() {
        let weights = seed_weights(arm);
        let mean_over_seeds = |columns: fn(&GridRun) -> &Columns| -> Vec<f64> {
            (0..grid.benchmarks.len())
                .map(|b| {
                    let share = |(run, weight): (_, &f64)| weight * points(columns(run), draws, &totals, b);
                    arm.runs.iter().zip(&weights).map(share).sum()
                })
                .collect()
        };
        let image = mean_over_seeds(|r| &r.sums);
        let blind = mean_over_seeds(|r| &r.blinds);
        for (s, scope) in grid.scopes.iter().enumerate() {
            if let (Some(i), Some(b)) = (out.image.get_mut((a, s)), out.blind.get_mut((a, s))) {
                *i = dot(&scope.weights, &image);
                *b = dot(&scope.weights, &blind);
            }
        }
    }
    out
}

/// Returns the score of one benchmark in percent; 0 in the practically impossible case that only units of weight 0 were
/// drawn.
pub(super) fn points(columns: &Columns, draws: &[Vec<f64>], totals: &[f64], b: usize) -> f64 {
    match (columns.get(b), draws.get(b), totals.get(b)) {
        (Some(points), Some(drawn), Some(total)) if *total > 0.0 => 100.0 * dot(drawn, points) / total,
        _ => 0.0,
    }
}

/// Returns the scores of an arm in a scope as (seed, score).
pub(super) fn seed_scores(arm: &GridArm, grid: &RunGrid, scope: &Scope) -> Vec<(u64, f64)> {
    let totals: Vec<f64> = grid.benchmarks.iter().map(GridBenchmark::total_weight).collect();
    let once: Vec<Vec<f64>> = grid.benchmarks.iter().map(|b| vec![1.0; b.weights.len()]).collect();
    let score = |sums: &Columns| -> Vec<f64> { (0..totals.len()).map(|b| points(sums, &once, &totals, b)).collect() };
    arm.runs.iter().map(|run| (run.seed, dot(&scope.weights, &score(&run.sums)))).collect()
}

/// Computes sign-flip replicates: per arm and scope the score after flipping the signs of units at random, **the same
/// signs for all arms**. Scores are linear in the points, so the flipped difference of any two arms is the difference
/// of their flipped scores, and one pass serves every pair. Points are averaged over an arm's seeds.
pub(super) fn flips(grid: &RunGrid, options: &RankOptions) -> Vec<Array2<f64>> {
    let averaged: Vec<Vec<Vec<f64>>> = grid.arms.iter().map(|arm| mean_columns(arm, grid)).collect();
    let totals: Vec<f64> = grid.benchmarks.iter().map(GridBenchmark::total_weight).collect();
    (0..options.replicates)
        .into_par_iter()
        .map(|r| {
            let signs: Vec<Vec<f64>> = grid
                .benchmarks
                .iter()
                .map(|b| {
                    let mut rng = stream(&format!("flip/units/{}/{r}", b.name), options.seed);
                    stats::signs(b.weights.len(), &mut rng)
                })
                .collect();
            Array2::from_shape_fn((grid.arms.len(), grid.scopes.len()), |(a, s)| {
                let (Some(columns), Some(scope)) = (averaged.get(a), grid.scopes.get(s)) else { return 0.0 };
                // Most benchmarks have weight 0 in most scopes, so they are skipped.
                let terms = scope.weights.iter().enumerate().filter(|(_, w)| **w > 0.0);
                terms.map(|(b, w)| w * points(columns, &signs, &totals, b)).sum()
            })
        })
        .collect()
}

/// Returns the points of an arm's units, averaged over its seeds.
fn mean_columns(arm: &GridArm, grid: &RunGrid) -> Vec<Vec<f64>> {
    let n = arm.runs.len() as f64;
    let mut mean: Vec<Vec<f64>> = grid.benchmarks.iter().map(|b| vec![0.0; b.weights.len()]).collect();
    for run in &arm.runs {
        for (total, column) in mean.iter_mut().zip(&run.sums) {
            for (t, points) in total.iter_mut().zip(column) {
                *t += points / n;
            }
        }
    }
    mean
}
