//! Runs to a ranking: scores with intervals, tests between arms, and what follows from them in words.
//!
//! **What an interval covers.** A score is a mean over the images of a benchmark and over the seeds of an arm. Its
//! interval says how far it would move with *other images of the same kind* and, where an arm has several seeds, with
//! *other seeds*. It does not cover another evaluator, other training data or other benchmarks, nor, with one seed, the
//! luck of that one training. With two or three seeds the spread between seeds is itself known only roughly.
//!
//! Where nearly nothing or nearly everything is right the bootstrap has no interval; [`edge`] says what stands in for it.
//!
//! **What a test says.** A pair of arms is called separable when the interval of the paired difference excludes zero
//! *and* Holm's adjusted p of the sign-flip test over images is below 1 − confidence.
//!
//! **Averages.** A category's score is the mean of its benchmarks, the average the mean of the categories. Nothing is
//! normalised or rescaled on the way.

mod conclusions;
mod edge;
mod grid;
mod pairs;
mod resample;

use crate::schema::{self, ConstantAnswer, Cost, Missing, RunResults};
use crate::stats;
use crate::words;
use burgess_base::{Error, Result};
use edge::ArmEdges;
use grid::Grid;
use ndarray::Array2;
use pairs::Draws;
pub(crate) use pairs::unfrozen_pairs;
use resample::Scores;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The scope of the mean of all categories, beside the categories' own names.
pub const AVERAGE: &str = "average";

/// How to rank.
#[derive(Debug, Clone, PartialEq)]
pub struct RankOptions {
    /// Name of the study, for the report.
    pub study: String,
    /// Bootstrap replicates and sign flips. Default 2000.
    pub replicates: usize,
    /// Seed of all random streams of the ranking. Default 0.
    pub seed: u64,
    /// Of the intervals; tests use 1 − confidence. Default 0.95.
    pub confidence: f64,
    /// The arm that has learnt nothing, if the study has one. Default: the arm with one frozen encoder whose id ends
    /// in `-random`.
    pub control: Option<String>,
}

impl Default for RankOptions {
    fn default() -> Self {
        Self { study: String::new(), replicates: 2000, seed: 0, confidence: 0.95, control: None }
    }
}

/// `ranking.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    pub schema: u32,
    pub study: String,
    pub confidence: f64,
    pub replicates: usize,
    pub seed: u64,
    /// What was compared, by category.
    pub benchmarks: Vec<Compared>,
    /// In display order.
    pub categories: Vec<String>,
    /// By average, best first.
    pub arms: Vec<RankedArm>,
    /// Between neighbours, with the leader, with the control and of unfreezing; for the average and each category.
    pub tests: Vec<PairTest>,
    /// The arm that has learnt nothing.
    pub control: Option<String>,
    /// How well the seeds agree on the order; absent with one seed.
    pub stability: Option<Stability>,
    /// Why benchmarks were left out.
    pub left_out: Vec<String>,
    pub missing: Vec<Missing>,
    /// What the intervals cover, in one sentence.
    pub uncertainty: String,
    /// What can and what cannot be concluded.
    pub conclusions: Vec<String>,
}

/// A benchmark that all runs answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    pub name: String,
    pub category: String,
    pub metric: String,
    /// NaN, `null` in the file, where it is not known.
    #[serde(with = "schema::unknown_as_null")]
    pub chance: f64,
    /// Questions.
    pub n: usize,
    /// Images (or pairs of them): what is resampled.
    pub units: usize,
}

/// An arm and its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankedArm {
    pub arm: String,
    /// How it is called in text.
    pub label: String,
    pub encoders: Vec<String>,
    pub freeze: String,
    pub seeds: Vec<u64>,
    /// From 1.
    pub rank: usize,
    /// Interval of the rank.
    pub rank_low: usize,
    pub rank_high: usize,
    /// Share of replicates in which it is first on average.
    pub p_best: f64,
    pub average: Score,
    pub categories: BTreeMap<String, Score>,
    pub benchmarks: BTreeMap<String, Score>,
    /// Average by seed.
    pub per_seed: BTreeMap<u64, f64>,
    /// The average that others published for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<f64>,
    /// By benchmark what the answers looked like, whatever they are worth.
    #[serde(default)]
    pub answers: BTreeMap<String, Answers>,
    pub cost: Cost,
}

/// What an arm's answers to a benchmark looked like, over its seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// Answers to questions with their image.
    pub n: usize,
    /// Of these, how many could not be read; they count as wrong.
    pub unparsed: usize,
    /// The most frequent answer, of the seed in which its share is largest; absent where it was not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constant: Option<ConstantAnswer>,
}

impl Answers {
    /// Share of answers that could not be read, 0 to 1.
    pub fn unparsed_share(&self) -> f64 {
        if self.n > 0 { self.unparsed as f64 / self.n as f64 } else { 0.0 }
    }
}

/// A score in percent, beside what the same model scores blind and what guessing would.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    pub score: f64,
    pub low: f64,
    pub high: f64,
    /// NaN, `null` in the file, where it is not known.
    #[serde(with = "schema::unknown_as_null")]
    pub chance: f64,
    pub blind: f64,
    pub blind_low: f64,
    pub blind_high: f64,
    /// Interval of `score − blind`, paired.
    pub gain_low: f64,
    pub gain_high: f64,
}

/// Which tests are adjusted together (within one scope).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Each arm and the next one, in the order of the scope.
    Neighbours,
    /// The first arm of the scope and every other one.
    Leader,
    /// Every other frozen arm and the control.
    Control,
    /// An unfrozen arm and the frozen arm of the same encoders.
    Unfreezing,
}

/// A paired comparison of two arms: `a` minus `b`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairTest {
    /// [`AVERAGE`] or a category.
    pub scope: String,
    pub family: Family,
    pub a: String,
    pub b: String,
    pub difference: f64,
    pub low: f64,
    pub high: f64,
    /// Sign-flip test over images.
    pub p: f64,
    /// Holm's, over the family within the scope.
    pub p_adjusted: f64,
    pub separable: bool,
}

/// Agreement of the seeds on the order of the arms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stability {
    /// Mean Kendall τ-b over pairs of seeds.
    pub tau: f64,
    /// Per pair of seeds.
    pub pairs: Vec<(u64, u64, f64)>,
    /// Whether the same arm is first under every seed.
    pub same_best: bool,
}

impl Score {
    /// Whether looking at the image helps: the interval of the gain over blind lies above zero.
    pub fn beats_blind(&self) -> bool {
        self.gain_low > 0.0
    }

    /// Whether the interval lies above chance.
    pub fn beats_chance(&self) -> bool {
        self.low > self.chance
    }

    /// Whether the interval lies below chance.
    pub fn below_chance(&self) -> bool {
        self.high < self.chance
    }

    /// Half the width of the interval.
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

impl RankedArm {
    /// The score in a scope: [`AVERAGE`], a category or a benchmark.
    pub fn score(&self, scope: &str) -> Option<&Score> {
        if scope == AVERAGE {
            return Some(&self.average);
        }
        self.categories.get(scope).or_else(|| self.benchmarks.get(scope))
    }

    /// Share of all answers that could not be read, 0 to 1.
    pub fn unparsed_share(&self) -> f64 {
        let sum = |of: fn(&Answers) -> usize| self.answers.values().map(of).sum::<usize>();
        Answers { n: sum(|a| a.n), unparsed: sum(|a| a.unparsed), constant: None }.unparsed_share()
    }
}

impl Ranking {
    /// The arm of that name.
    pub fn arm(&self, name: &str) -> Option<&RankedArm> {
        self.arms.iter().find(|a| a.arm == name)
    }

    /// Arms by their score in a scope, best first.
    pub fn order(&self, scope: &str) -> Vec<&RankedArm> {
        let mut arms: Vec<&RankedArm> = self.arms.iter().collect();
        let score = |a: &RankedArm| a.score(scope).map_or(f64::NEG_INFINITY, |s| s.score);
        arms.sort_by(|a, b| score(b).total_cmp(&score(a)).then(a.arm.cmp(&b.arm)));
        arms
    }

    /// Whether all arms (and there are several) have the same score in a scope, so that it has no order.
    pub fn all_equal(&self, scope: &str) -> bool {
        let mut scores = self.arms.iter().filter_map(|a| a.score(scope)).map(|s| s.score);
        let Some(first) = scores.next() else { return false };
        self.arms.len() > 1 && scores.all(|s| (s - first).abs() < 1e-9)
    }

    /// Whether some arm is separably above chance in a scope; `None` where chance is not known.
    pub fn beats_chance(&self, scope: &str) -> Option<bool> {
        let scores = || self.arms.iter().filter_map(|a| a.score(scope));
        scores().all(|s| s.chance.is_finite()).then(|| scores().any(Score::beats_chance))
    }

    /// Whether a published average is known for some arm.
    pub fn has_published(&self) -> bool {
        self.arms.iter().any(|a| a.published.is_some())
    }

    /// The tests of one family in one scope.
    pub fn tests<'a>(&'a self, family: Family, scope: &'a str) -> impl Iterator<Item = &'a PairTest> {
        self.tests.iter().filter(move |t| t.family == family && t.scope == scope)
    }
}

/// Ranks finished runs.
///
/// # Errors
/// When there is no run, when two runs are the same arm and seed, when arms were asked different questions (the error
/// names benchmark, arms and a unit), or when a score contradicts its units.
pub fn rank(runs: &[RunResults], missing: &[Missing], options: &RankOptions) -> Result<Ranking> {
    if options.replicates == 0 || !(options.confidence > 0.0 && options.confidence < 1.0) {
        return Err(Error::usage("a ranking needs at least one replicate and a confidence between 0 and 1"));
    }
    let grid = Grid::new(runs, options)?;
    let control = control(&grid, options)?;
    let observed = resample::observed(&grid);
    let replicates = resample::bootstrap(&grid, options);
    let flips = resample::flips(&grid, options);

    let mut arms = ranked_arms(&grid, &observed, &replicates, options.confidence);
    arms.sort_by(|a, b| b.average.score.total_cmp(&a.average.score).then(a.arm.cmp(&b.arm)));
    for (i, arm) in arms.iter_mut().enumerate() {
        arm.rank = i + 1;
    }
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
        arms,
        tests: Vec::new(),
        control,
        stability: None,
        left_out: grid.left_out.clone(),
        missing: missing.to_vec(),
        uncertainty: String::new(),
        conclusions: Vec::new(),
    };
    let draws = Draws { grid: &grid, observed: &observed, replicates: &replicates, flips: &flips };
    ranking.tests = pairs::tests(&ranking, &draws);
    ranking.stability = stability(&ranking);
    ranking.uncertainty = uncertainty(&ranking);
    ranking.conclusions = conclusions::conclusions(&ranking);
    Ok(ranking)
}

/// The control arm: the named one, else the frozen one whose only encoder's id ends in `-random`.
fn control(grid: &Grid, options: &RankOptions) -> Result<Option<String>> {
    if let Some(name) = &options.control {
        let known = grid.arms.iter().map(|a| a.arm.as_str());
        return match grid.arms.iter().any(|a| a.arm == *name) {
            true => Ok(Some(name.clone())),
            false => Err(Error::usage(format!("the control arm {name} is not among the runs"))
                .hint(format!("the arms are {}", known.collect::<Vec<_>>().join(", ")))),
        };
    }
    let random = |a: &&grid::Arm| {
        a.freeze == "frozen" && matches!(a.encoders.as_slice(), [one] if one.rsplit('-').next() == Some("random"))
    };
    Ok(grid.arms.iter().find(random).map(|a| a.arm.clone()))
}

/// Value of an array at a place known to exist; 0 spares every caller a branch that cannot be taken.
fn at(values: &Array2<f64>, arm: usize, scope: usize) -> f64 {
    values.get((arm, scope)).copied().unwrap_or(0.0)
}

fn ranked_arms(grid: &Grid, observed: &Scores, replicates: &[Scores], confidence: f64) -> Vec<RankedArm> {
    let ranks: Vec<Vec<(usize, usize)>> = replicates.iter().map(|r| ranks(&r.image)).collect();
    let score = |a: usize, s: usize, chance: f64, edges: &ArmEdges| {
        let of =
            |f: &dyn Fn(&Scores) -> f64| stats::interval(&replicates.iter().map(f).collect::<Vec<_>>(), confidence);
        let (score, blind) = (at(&observed.image, a, s), at(&observed.blind, a, s));
        let (low, high) = edges.image(grid, s, score, of(&|r| at(&r.image, a, s)));
        let (blind_low, blind_high) = edges.blind(grid, s, blind, of(&|r| at(&r.blind, a, s)));
        let gains = of(&|r| at(&r.image, a, s) - at(&r.blind, a, s));
        let (gain_low, gain_high) = edges.gain(grid, s, score - blind, gains);
        Score { score, low, high, chance, blind, blind_low, blind_high, gain_low, gain_high }
    };
    let chances: Vec<f64> = grid.benchmarks.iter().map(|b| b.chance).collect();
    grid.arms
        .iter()
        .enumerate()
        .map(|(a, arm)| {
            let edges = ArmEdges::new(grid, a, observed, replicates, confidence);
            let mut scores = grid
                .scopes
                .iter()
                .enumerate()
                .map(|(s, scope)| (scope.name.clone(), score(a, s, scope.of(&chances), &edges)));
            let average = scores.next().map(|(_, s)| s).unwrap_or_else(|| score(a, 0, 0.0, &edges));
            let categories = scores.by_ref().take(grid.categories.len()).collect();
            let benchmarks = scores.collect();
            let mine: Vec<(usize, usize)> = ranks.iter().filter_map(|r| r.get(a).copied()).collect();
            let places: Vec<f64> = mine.iter().map(|(rank, _)| *rank as f64).collect();
            let (rank_low, rank_high) = stats::interval(&places, confidence);
            // Arms tied for the first place share it.
            let first_shares = mine.iter().filter(|(rank, _)| *rank == 1).map(|(_, tied)| 1.0 / *tied as f64);
            // Not `sum`: that of no numbers is −0.
            let firsts = first_shares.fold(0.0, |total, share| total + share);
            let per_seed = grid.scopes.first().map(|s| resample::seed_averages(arm, grid, s)).unwrap_or_default();
            RankedArm {
                arm: arm.arm.clone(),
                label: schema::label(&arm.arm, &arm.encoders, &arm.freeze),
                encoders: arm.encoders.clone(),
                freeze: arm.freeze.clone(),
                seeds: arm.runs.iter().map(|r| r.seed).collect(),
                rank: 0,
                // A rank is whole: an end that falls between two is taken outwards.
                rank_low: rank_low.floor() as usize,
                rank_high: rank_high.ceil() as usize,
                p_best: firsts / replicates.len() as f64,
                average,
                categories,
                benchmarks,
                per_seed: per_seed.into_iter().collect(),
                published: arm.published,
                answers: arm.answers.clone(),
                cost: arm.cost.clone(),
            }
        })
        .collect()
}

/// Per arm its rank by average in one replicate, and how many arms share it.
fn ranks(image: &Array2<f64>) -> Vec<(usize, usize)> {
    let averages: Vec<f64> = (0..image.nrows()).map(|a| at(image, a, 0)).collect();
    averages
        .iter()
        .map(|x| (1 + averages.iter().filter(|o| *o > x).count(), averages.iter().filter(|o| *o == x).count()))
        .collect()
}

fn stability(ranking: &Ranking) -> Option<Stability> {
    let seeds: Vec<u64> =
        ranking.arms.iter().flat_map(|a| &a.seeds).copied().collect::<BTreeSet<_>>().into_iter().collect();
    let mut pairs = Vec::new();
    for (i, s) in seeds.iter().enumerate() {
        for t in seeds.iter().skip(i + 1) {
            let both = ranking.arms.iter().filter_map(|a| Some((*a.per_seed.get(s)?, *a.per_seed.get(t)?)));
            let (x, y): (Vec<f64>, Vec<f64>) = both.unzip();
            if let Some(tau) = stats::kendall_tau(&x, &y) {
                pairs.push((*s, *t, tau));
            }
        }
    }
    let best = |seed: &u64| {
        let scored = ranking.arms.iter().filter_map(|a| Some((a.arm.as_str(), *a.per_seed.get(seed)?)));
        scored.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(arm, _)| arm)
    };
    let same_best = seeds.iter().map(best).collect::<BTreeSet<_>>().len() == 1;
    let tau = stats::mean(&pairs.iter().map(|(_, _, tau)| *tau).collect::<Vec<_>>())?;
    Some(Stability { tau, pairs, same_best })
}

/// What the intervals of this ranking cover, in one sentence.
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
