//! The paired comparison of two arms in every scope, with the bootstrap and the sign flips of a ranking.

use super::content::{ComparedBenchmark, PairTest, TestFamily};
use super::options::RankOptions;
use super::pairs::Resamples;
use super::resample::{self, ScopeScores, at};
use super::run_grid::RunGrid;
use crate::schema::RunResults;
use crate::stats::Estimate;
use burgess_base::{Category, Error, Result};

/// Two arms compared in every scope.
pub(crate) struct PairedArms {
    /// The compared benchmarks, in display order.
    pub benchmarks: Vec<ComparedBenchmark>,
    /// The categories, in display order.
    pub categories: Vec<Category>,
    /// The scopes: the average, then the categories, then the benchmarks.
    pub scopes: Vec<PairedScope>,
}

/// The scores of two arms in a scope, in percent, and the test of their difference.
pub(crate) struct PairedScope {
    /// Name of the scope.
    pub name: String,
    /// Weight of each benchmark; the weights sum to 1.
    pub weights: Vec<f64>,
    /// Scores of both arms.
    pub scores: [f64; 2],
    /// Scores of both arms without the image.
    pub blind: [f64; 2],
    /// Difference of the blind scores, with its interval.
    pub blind_difference: Estimate,
    /// Test of the difference; p is not adjusted.
    pub test: PairTest,
    /// Score of each seed, for both arms.
    pub seed_scores: [Vec<f64>; 2],
}

/// Compares the arms `a` and `b`, which are all arms of these runs and have the same units.
///
/// With the same number of replicates and the same seed, intervals and p are those of a ranking of more arms.
///
/// # Errors
/// The errors of [`super::rank`].
pub(crate) fn compare_arms(runs: &[RunResults], a: &str, b: &str, options: &RankOptions) -> Result<PairedArms> {
    options.check()?;
    let grid = RunGrid::new(runs, options)?;
    let index = |name: &str| {
        let missing = || Error::failed(format!("the arm {name} has no run"));
        grid.arms.iter().position(|arm| arm.arm == name).ok_or_else(missing)
    };
    let arms = [index(a)?, index(b)?];
    let observed = resample::observed(&grid);
    let replicates = resample::bootstrap(&grid, options);
    let flips = resample::flips(&grid, options);
    let draws = Resamples { grid: &grid, observed: &observed, replicates: &replicates, flips: &flips };
    let scope = |s: usize| {
        let scope = grid.scopes.get(s)?;
        let blind = |scores: &ScopeScores, scope: usize| {
            let [a, b] = arms.map(|arm| at(&scores.blind, arm, scope));
            a - b
        };
        // The family is irrelevant, because the caller adjusts p.
        let test = draws.test(TestFamily::Leader, s, a, b, options.confidence)?;
        let (value, low, high) = draws.interval_of(s, options.confidence, &blind);
        Some(PairedScope {
            name: scope.name.clone(),
            weights: scope.weights.clone(),
            scores: arms.map(|arm| at(&observed.image, arm, s)),
            blind: arms.map(|arm| at(&observed.blind, arm, s)),
            blind_difference: Estimate { value, low, high },
            test,
            seed_scores: arms.map(|arm| {
                let scores = grid.arms.get(arm).map(|arm| resample::seed_scores(arm, &grid, scope));
                scores.unwrap_or_default().into_iter().map(|(_, score)| score).collect()
            }),
        })
    };
    let scopes = (0..grid.scopes.len()).filter_map(scope).collect();
    let benchmarks = grid.benchmarks.iter().map(ComparedBenchmark::of).collect();
    Ok(PairedArms { benchmarks, categories: grid.categories.clone(), scopes })
}
