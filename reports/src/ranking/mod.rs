//! From runs to a ranking: scores with confidence intervals, tests between arms, and conclusions in words.
//!
//! **Confidence intervals.** A score is a mean over the images of a benchmark and over the seeds of an arm. Its
//! interval covers resampling of *images of the same kind* and, if an arm has several seeds, resampling of *seeds*. It
//! does not cover another evaluator, other training data or other benchmarks, nor, with one seed, the randomness of
//! training. With two or three seeds the variance between seeds is only roughly known.
//!
//! The bootstrap has no variance where nearly no or nearly all answers are right; the module `boundary_correction`
//! describes the interval that is used instead.
//!
//! **Separable.** Two arms are separable if the confidence interval of their paired difference excludes zero *and*
//! Holm's adjusted p of the sign-flip test over images is below 1 − confidence. A score is separably above chance if
//! its confidence interval lies above chance.
//!
//! **Averages.** A category's score is the mean of its benchmarks, and the average is the mean of the categories. The
//! category `Conversation` is part of the average only if there is no other. Scores are not normalised or rescaled.
//!
//! **Baselines.** An arm with random weights and one that emits the ground truth (the oracle) are not ranked. They
//! bracket the scores that the evaluator can measure; [`NormalisedScore`] gives a score's position between them.

mod baselines;
mod boundary_correction;
mod conclusions;
mod content;
mod draws;
mod early_stopped;
mod options;
mod paired;
mod pairs;
mod ranked_arms;
mod resample;
mod run_grid;
mod stability;
mod warnings;

use crate::formatting;
use crate::schema::{self, MissingRun, RunResults};
use baselines::Baselines;
use burgess_base::Result;
pub(crate) use content::is_separable;
pub use content::{
    AVERAGE, AnswerStats, ArmRank, ArmScore, ComparedBenchmark, NormalisedScore, PairCount, PairTest, RankedArm,
    Ranking, SeedAgreement, TestFamily,
};
pub(crate) use draws::{AverageDraws, average_draws};
pub use options::RankOptions;
pub(crate) use paired::{PairedArms, PairedScope, compare_arms};
use pairs::Resamples;
pub(crate) use pairs::unfrozen_pairs;
use run_grid::RunGrid;
use std::collections::BTreeMap;

/// Ranks finished runs.
///
/// # Errors
/// An error is returned if there is no run, if two runs have the same arm and seed, if arms were asked different
/// questions (it names benchmark, arms and a unit), or if a score contradicts its units.
pub fn rank(runs: &[RunResults], missing: &[MissingRun], options: &RankOptions) -> Result<Ranking> {
    options.check()?;
    let grid = RunGrid::new(runs, options)?;
    let mut baselines = Baselines::of(&grid, options)?;
    let observed = resample::observed(&grid);
    let replicates = resample::bootstrap(&grid, options);
    let flips = resample::flips(&grid, options);
    let draws = Resamples { grid: &grid, observed: &observed, replicates: &replicates, flips: &flips };
    let range = baselines.compare(&draws, options.confidence);
    let name = |arm: Option<usize>| arm.and_then(|a| grid.arms.get(a)).map(|a| a.arm.clone());
    let benchmarks = grid.benchmarks.iter().map(ComparedBenchmark::of);
    let mut ranking = Ranking {
        schema: schema::SCHEMA,
        study: options.study.clone(),
        confidence: options.confidence,
        replicates: options.replicates,
        seed: options.seed,
        benchmarks: benchmarks.collect(),
        categories: grid.categories.clone(),
        arms: ranked_arms::ranked_arms(&draws, &baselines, options.confidence),
        tests: Vec::new(),
        pairs: BTreeMap::new(),
        random: name(baselines.random),
        oracle: name(baselines.oracle),
        stability: None,
        left_out: grid.left_out.clone(),
        missing: missing.to_vec(),
        uncertainty: String::new(),
        conclusions: Vec::new(),
        warnings: Vec::new(),
        answer_style: None,
        race: None,
    };
    ranking.tests = pairs::tests(&ranking, &draws, &options.series);
    ranking.tests.extend(range);
    ranking.pairs = pairs::all_pairs(&ranking, &draws);
    ranking.stability = stability::stability(&ranking);
    ranking.uncertainty = uncertainty(&ranking);
    ranking.conclusions = conclusions::conclusions(&ranking);
    ranking.warnings = warnings::warnings(&ranking);
    Ok(ranking)
}

/// Formulates what the confidence intervals of this ranking cover, in one sentence.
fn uncertainty(ranking: &Ranking) -> String {
    let percent = 100.0 * ranking.confidence;
    let fewest = ranking.arms.iter().map(|a| a.seeds.len()).min().unwrap_or(0);
    let most = ranking.arms.iter().map(|a| a.seeds.len()).max().unwrap_or(0);
    let covers = match (fewest, most) {
        (_, ..=1) => "images only, because each arm has one seed".to_string(),
        (1, _) => "images and, for the arms that have several, seeds".to_string(),
        (f, m) if f == m => format!("images and seeds ({})", formatting::count(m, "seed")),
        (f, m) => format!("images and seeds ({f} to {m} seeds)"),
    };
    format!("{percent:.0} % confidence intervals from {} bootstrap replicates over {covers}.", ranking.replicates)
}
