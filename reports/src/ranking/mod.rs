//! From runs to a ranking: scores with confidence intervals, tests between arms, and conclusions in words.
//!
//! **Confidence intervals.** A score is a mean over the images of a benchmark and over the seeds of an arm. Its
//! interval covers resampling of *images of the same kind* and, if an arm has several seeds, resampling of *seeds*. It
//! does not cover another evaluator, other training data or other benchmarks, nor, with one seed, the randomness of
//! training. With two or three seeds the variance between seeds is only roughly known.
//!
//! The bootstrap has no variance where nearly no or nearly all answers are right; [`edge`] describes the interval that
//! is used instead.
//!
//! **Separable.** Two arms are separable if the confidence interval of their paired difference excludes zero *and*
//! Holm's adjusted p of the sign-flip test over images is below 1 − confidence. A score is separably above chance if
//! its confidence interval lies above chance.
//!
//! **Averages.** A category's score is the mean of its benchmarks, and the average is the mean of the categories.
//! Scores are not normalised or rescaled.
//!
//! **Baselines.** An arm with random weights and one that emits the ground truth (the oracle) are not ranked. They
//! bracket the scores that the evaluator can measure; [`Normalised`] gives a score's position between them.

mod arm;
mod baselines;
mod conclusions;
mod edge;
mod grid;
mod pairs;
mod resample;
mod stability;
mod warnings;

use crate::schema::{self, Missing, Role, RunResults};
use crate::words;
pub use arm::{Answers, Normalised, Place, RankedArm, Score};
use baselines::Baselines;
use burgess_base::{Category, Error, Result};
use grid::Grid;
use ndarray::Array2;
use pairs::Draws;
pub(crate) use pairs::unfrozen_pairs;
use resample::Scores;
use serde::{Deserialize, Serialize};
pub use stability::Stability;
use std::collections::BTreeMap;

/// Scope of the mean of all categories, which exists beside the categories' own names.
pub const AVERAGE: &str = "average";

/// Options of the ranking.
#[derive(Debug, Clone, PartialEq)]
pub struct RankOptions {
    /// Name of the study, for the report.
    pub study: String,
    /// Number of bootstrap replicates and of sign flips. Default 2000.
    pub replicates: usize,
    /// Seed of all random streams of the ranking. Default 0.
    pub seed: u64,
    /// Confidence level of the intervals, between 0 and 1; tests use 1 − confidence. Default 0.95.
    pub confidence: f64,
    /// Name of the arm with random weights, if its runs do not state that role. Default: the arm with one frozen
    /// encoder whose id ends in `-random`.
    pub random: Option<String>,
}

impl Default for RankOptions {
    fn default() -> Self {
        Self { study: String::new(), replicates: 2000, seed: 0, confidence: 0.95, random: None }
    }
}

/// The content of `ranking.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    pub schema: u32,
    pub study: String,
    pub confidence: f64,
    pub replicates: usize,
    pub seed: u64,
    /// The benchmarks that were compared, by category.
    pub benchmarks: Vec<Compared>,
    /// The categories in display order.
    pub categories: Vec<Category>,
    /// The trained arms by average, best first, then the random and the oracle baseline.
    pub arms: Vec<RankedArm>,
    /// Tests between neighbours, with the leader, with the random baseline and of unfreezing, for the average and each
    /// category; tests between oracle and random baseline also for each benchmark.
    pub tests: Vec<PairTest>,
    /// Number of separable pairs of trained arms, by scope ([`AVERAGE`] or a category).
    #[serde(default)]
    pub pairs: BTreeMap<String, PairCount>,
    /// Name of the random baseline: the arm whose encoder has random weights.
    #[serde(default, alias = "control")]
    pub random: Option<String>,
    /// Name of the oracle baseline: the arm whose encoder emits the ground truth.
    #[serde(default)]
    pub oracle: Option<String>,
    /// Agreement of the seeds on the order of arms; `None` with one seed.
    pub stability: Option<Stability>,
    /// Why benchmarks were left out, as sentences.
    pub left_out: Vec<String>,
    pub missing: Vec<Missing>,
    /// What the confidence intervals cover, in one sentence.
    pub uncertainty: String,
    /// What can and what cannot be concluded, as sentences.
    pub conclusions: Vec<String>,
    /// Warnings about low sensitivity of the evaluator and misleading scores.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Number of pairs of trained arms in a scope, and of separable ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairCount {
    pub pairs: usize,
    /// Number of separable pairs, with p adjusted over all pairs.
    pub separable: usize,
}

/// A benchmark that all runs answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    pub name: String,
    pub category: Category,
    pub metric: String,
    /// Chance in percent; NaN (`null` in the file) if unknown.
    #[serde(with = "schema::unknown_as_null")]
    pub chance: f64,
    /// Number of questions.
    pub n: usize,
    /// Number of resampled units: images, or pairs of images.
    pub units: usize,
}

/// A family of tests whose p-values are adjusted together, within one scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Each arm against the next one, in the order of the scope.
    Neighbours,
    /// The first arm of the scope against every other one.
    Leader,
    /// Every trained arm with frozen encoders against the random baseline.
    #[serde(alias = "control")]
    Random,
    /// An unfrozen arm against the frozen arm of the same encoders.
    Unfreezing,
    /// The oracle against the random baseline.
    Range,
}

/// A paired comparison of two arms: the score of `a` minus that of `b`, in points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairTest {
    /// Scope of the test: [`AVERAGE`], a category or a benchmark.
    pub scope: String,
    pub family: Family,
    pub a: String,
    pub b: String,
    pub difference: f64,
    pub low: f64,
    pub high: f64,
    /// Two-sided p-value of the sign-flip test over images.
    pub p: f64,
    /// Holm's adjusted p over the family within the scope.
    pub p_adjusted: f64,
    pub separable: bool,
}

impl PairTest {
    /// Returns whether `a` is separably above `b`.
    pub fn above(&self) -> bool {
        self.separable && self.difference > 0.0
    }

    /// Sets `separable` from the interval and the adjusted p.
    fn decide(&mut self, confidence: f64) {
        self.separable = self.p_adjusted < 1.0 - confidence && (self.low > 0.0 || self.high < 0.0);
    }
}

impl Ranking {
    /// Returns the arm of that name.
    pub fn arm(&self, name: &str) -> Option<&RankedArm> {
        self.arms.iter().find(|a| a.arm == name)
    }

    /// Returns the trained arms, which are ranked, by average, best first.
    pub fn trained(&self) -> impl Iterator<Item = &RankedArm> + Clone {
        self.arms.iter().filter(|a| a.role == Role::Trained)
    }

    /// Returns the baselines, which are not ranked: random, then oracle.
    pub fn baselines(&self) -> impl Iterator<Item = &RankedArm> + Clone {
        self.arms.iter().filter(|a| a.role != Role::Trained)
    }

    /// Returns the arms over which means are computed: the trained ones, or all arms if none is trained.
    pub fn compared(&self) -> Vec<&RankedArm> {
        let trained: Vec<&RankedArm> = self.trained().collect();
        if trained.is_empty() { self.arms.iter().collect() } else { trained }
    }

    /// Returns the trained arms by their score in a scope, best first.
    pub fn order(&self, scope: &str) -> Vec<&RankedArm> {
        let mut arms: Vec<&RankedArm> = self.trained().collect();
        let score = |a: &RankedArm| a.score(scope).map_or(f64::NEG_INFINITY, |s| s.score);
        arms.sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.arm.cmp(&b.arm)));
        arms
    }

    /// Returns the rows of a table or figure: [`Ranking::order`], then the baselines.
    pub fn rows(&self, scope: &str) -> Vec<&RankedArm> {
        self.order(scope).into_iter().chain(self.baselines()).collect()
    }

    /// Returns whether several trained arms all have the same score in a scope, so that it has no order.
    pub fn all_equal(&self, scope: &str) -> bool {
        let mut scores = self.trained().filter_map(|a| a.score(scope)).map(|s| s.score);
        let Some(first) = scores.next() else { return false };
        self.trained().count() > 1 && scores.all(|s| (s - first).abs() < 1e-9)
    }

    /// Returns whether some trained arm is separably above chance in a scope; `None` if chance is unknown.
    pub fn beats_chance(&self, scope: &str) -> Option<bool> {
        let scores = || self.trained().filter_map(|a| a.score(scope));
        scores().all(|s| s.chance.is_finite()).then(|| scores().any(Score::beats_chance))
    }

    /// Returns whether some arm has a published average.
    pub fn has_published(&self) -> bool {
        self.arms.iter().any(|a| a.published.is_some())
    }

    /// Returns the tests of one family in one scope.
    pub fn tests<'a>(&'a self, family: Family, scope: &'a str) -> impl Iterator<Item = &'a PairTest> {
        self.tests.iter().filter(move |t| t.family == family && t.scope == scope)
    }

    /// Returns the test of oracle against random baseline in a scope, if the study has both.
    pub fn range(&self, scope: &str) -> Option<&PairTest> {
        self.tests.iter().find(|t| t.family == Family::Range && t.scope == scope)
    }

    /// Returns whether the study has both baselines, so that scores can be normalised.
    pub fn has_range(&self) -> bool {
        self.range(AVERAGE).is_some()
    }

    /// Returns the oracle's (score − chance) / (100 − chance) in a scope, at most 1; `None` without an oracle or if
    /// chance is unknown.
    pub fn oracle_reach(&self, scope: &str) -> Option<f64> {
        let score = self.arm(self.oracle.as_deref()?)?.score(scope)?;
        (score.chance < 100.0).then(|| (score.score - score.chance) / (100.0 - score.chance))
    }

    /// Returns the scores of the random and the oracle baseline in a scope, if the study has both.
    pub fn bounds(&self, scope: &str) -> Option<(f64, f64)> {
        let score = |arm: &Option<String>| Some(self.arm(arm.as_deref()?)?.score(scope)?.score);
        score(&self.random).zip(score(&self.oracle))
    }
}

/// Ranks finished runs.
///
/// # Errors
/// An error is returned if there is no run, if two runs have the same arm and seed, if arms were asked different
/// questions (it names benchmark, arms and a unit), or if a score contradicts its units.
pub fn rank(runs: &[RunResults], missing: &[Missing], options: &RankOptions) -> Result<Ranking> {
    if options.replicates == 0 || !(options.confidence > 0.0 && options.confidence < 1.0) {
        return Err(Error::usage("a ranking needs at least one replicate and a confidence between 0 and 1"));
    }
    let grid = Grid::new(runs, options)?;
    let mut baselines = Baselines::of(&grid, options)?;
    let observed = resample::observed(&grid);
    let replicates = resample::bootstrap(&grid, options);
    let flips = resample::flips(&grid, options);
    let draws = Draws { grid: &grid, observed: &observed, replicates: &replicates, flips: &flips };
    let range = baselines.compare(&draws, options.confidence);
    let name = |arm: Option<usize>| arm.and_then(|a| grid.arms.get(a)).map(|a| a.arm.clone());
    let benchmarks = grid.benchmarks.iter().map(|b| Compared {
        name: b.name.clone(),
        category: b.category.clone(),
        metric: b.metric.clone(),
        chance: b.chance,
        n: b.n,
        units: b.ids.len(),
    });
    let mut ranking = Ranking {
        schema: schema::SCHEMA,
        study: options.study.clone(),
        confidence: options.confidence,
        replicates: options.replicates,
        seed: options.seed,
        benchmarks: benchmarks.collect(),
        categories: grid.categories.clone(),
        arms: arm::arms(&draws, &baselines, options.confidence),
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
    };
    ranking.tests = pairs::tests(&ranking, &draws);
    ranking.tests.extend(range);
    ranking.pairs = pairs::all_pairs(&ranking, &draws);
    ranking.stability = stability::stability(&ranking);
    ranking.uncertainty = uncertainty(&ranking);
    ranking.conclusions = conclusions::conclusions(&ranking);
    ranking.warnings = warnings::warnings(&ranking);
    Ok(ranking)
}

/// Returns an array element that is known to exist; 0 avoids an impossible branch at every call.
fn at(values: &Array2<f64>, arm: usize, scope: usize) -> f64 {
    values.get((arm, scope)).copied().unwrap_or(0.0)
}

/// Formulates what the confidence intervals of this ranking cover, in one sentence.
fn uncertainty(ranking: &Ranking) -> String {
    let percent = 100.0 * ranking.confidence;
    let fewest = ranking.arms.iter().map(|a| a.seeds.len()).min().unwrap_or(0);
    let most = ranking.arms.iter().map(|a| a.seeds.len()).max().unwrap_or(0);
    let covers = match (fewest, most) {
        (_, ..=1) => "images only: each arm was trained once".to_string(),
        (1, _) => "images, and seeds for the arms that have several".to_string(),
        (f, m) if f == m => format!("images and seeds ({})", words::count(m, "seed")),
        (f, m) => format!("images and seeds ({f} to {m} seeds)"),
    };
    format!("{percent:.0} % intervals from {} bootstrap replicates over {covers}.", ranking.replicates)
}
