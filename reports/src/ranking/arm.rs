//! The arms of a ranking: their scores with confidence intervals, their ranks, and properties of their answers.

use super::baselines::{Baselines, Between};
use super::edge::ArmEdges;
use super::grid::Scope;
use super::pairs::Draws;
use super::{AVERAGE, at, resample};
use crate::schema::{self, ConstantAnswer, Cost, Role};
use crate::stats;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An arm with its scores and, if it is ranked, its rank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankedArm {
    pub arm: String,
    /// Name of the arm in text.
    pub label: String,
    pub encoders: Vec<String>,
    pub freeze: String,
    /// Role of the arm: trained arms are ranked; random and oracle are the baselines.
    #[serde(default)]
    pub role: Role,
    pub seeds: Vec<u64>,
    /// Rank of the arm; `None` for a baseline.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    pub average: Score,
    pub categories: BTreeMap<String, Score>,
    pub benchmarks: BTreeMap<String, Score>,
    /// Average score by seed.
    pub per_seed: BTreeMap<u64, f64>,
    /// Score by category and seed.
    #[serde(default)]
    pub categories_per_seed: BTreeMap<String, BTreeMap<u64, f64>>,
    /// Average that was published for this arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<f64>,
    /// Properties of the answers, by benchmark.
    #[serde(default)]
    pub answers: BTreeMap<String, Answers>,
    pub cost: Cost,
}

/// The rank of a trained arm among the trained arms, by average.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Rank by average, from 1.
    pub rank: usize,
    /// Confidence interval of the rank.
    pub rank_low: usize,
    pub rank_high: usize,
    /// Fraction of bootstrap replicates in which the arm is first on average; ties are shared.
    pub p_best: f64,
}

/// Properties of an arm's answers to a benchmark, over its seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// Number of answers to questions with their image.
    pub n: usize,
    /// Number of these answers that could not be parsed; they count as wrong.
    pub unparsed: usize,
    /// The most frequent answer, from the seed in which its share is largest; `None` if it was not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constant: Option<ConstantAnswer>,
}

impl Answers {
    /// Returns the fraction of unparsed answers, 0 to 1.
    pub fn unparsed_share(&self) -> f64 {
        if self.n > 0 { self.unparsed as f64 / self.n as f64 } else { 0.0 }
    }
}

/// A score in percent with its confidence interval, beside the blind score of the same model and chance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    pub score: f64,
    pub low: f64,
    pub high: f64,
    /// Chance in percent; NaN (`null` in the file) if unknown.
    #[serde(with = "schema::unknown_as_null")]
    pub chance: f64,
    pub blind: f64,
    pub blind_low: f64,
    pub blind_high: f64,
    /// Confidence interval of the paired difference `score − blind`.
    pub gain_low: f64,
    pub gain_high: f64,
    /// Normalised score; `None` for baselines and where the baselines are not separable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalised: Option<Normalised>,
}

/// The normalised score (score − random) / (oracle − random) in percent: 0 for the random baseline, 100 for the
/// oracle.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Normalised {
    pub value: f64,
    /// Confidence interval; the same images are drawn for the arm and for both baselines.
    pub low: f64,
    pub high: f64,
}

impl Score {
    /// Returns whether the image helps: the interval of the gain over blind lies above zero.
    pub fn beats_blind(&self) -> bool {
        self.gain_low > 0.0
    }

    /// Returns whether the confidence interval lies above chance.
    pub fn beats_chance(&self) -> bool {
        self.low > self.chance
    }

    /// Returns whether the confidence interval lies below chance.
    pub fn below_chance(&self) -> bool {
        self.high < self.chance
    }

    /// Returns half the width of the confidence interval.
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

impl RankedArm {
    /// Returns the score in a scope: [`AVERAGE`], a category or a benchmark.
    pub fn score(&self, scope: &str) -> Option<&Score> {
        if scope == AVERAGE {
            return Some(&self.average);
        }
        self.categories.get(scope).or_else(|| self.benchmarks.get(scope))
    }

    /// Returns the scores by seed in a scope: [`AVERAGE`] or a category.
    pub fn seed_scores(&self, scope: &str) -> Option<&BTreeMap<u64, f64>> {
        if scope == AVERAGE { Some(&self.per_seed) } else { self.categories_per_seed.get(scope) }
    }

    /// Returns the name of its row: for a baseline its role and then its label.
    pub fn row_name(&self) -> String {
        let role = match self.role {
            Role::Trained => return self.label.clone(),
            Role::Random => "random",
            Role::Oracle => "oracle",
        };
        if self.label == role { role.to_string() } else { format!("{role} ({})", self.label) }
    }

    /// Returns the fraction of all answers that could not be parsed, 0 to 1.
    pub fn unparsed_share(&self) -> f64 {
        let sum = |of: fn(&Answers) -> usize| self.answers.values().map(of).sum::<usize>();
        Answers { n: sum(|a| a.n), unparsed: sum(|a| a.unparsed), constant: None }.unparsed_share()
    }
}

/// Returns all arms: the trained ones by average, best first, then the random and the oracle baseline.
pub(super) fn arms(draws: &Draws, baselines: &Baselines, confidence: f64) -> Vec<RankedArm> {
    let Draws { grid, observed, replicates, .. } = *draws;
    let trained: Vec<usize> = (0..grid.arms.len()).filter(|a| baselines.role(*a) == Role::Trained).collect();
    let ranks: Vec<Vec<(usize, usize)>> = replicates.iter().map(|r| ranks(&r.image, &trained)).collect();
    let score = |a: usize, s: usize, chance: f64, edges: &ArmEdges, between: &Between| {
        let of = |f: &dyn Fn(&super::Scores) -> f64| {
            stats::interval(&replicates.iter().map(f).collect::<Vec<_>>(), confidence)
        };
        let (score, blind) = (at(&observed.image, a, s), at(&observed.blind, a, s));
        let (low, high) = edges.image(grid, s, score, of(&|r| at(&r.image, a, s)));
        let (blind_low, blind_high) = edges.blind(grid, s, blind, of(&|r| at(&r.blind, a, s)));
        let gains = of(&|r| at(&r.image, a, s) - at(&r.blind, a, s));
        let (gain_low, gain_high) = edges.gain(grid, s, score - blind, gains);
        let normalised = between.normalised(s);
        Score { score, low, high, chance, blind, blind_low, blind_high, gain_low, gain_high, normalised }
    };
    let chances: Vec<f64> = grid.benchmarks.iter().map(|b| b.chance).collect();
    let mut arms: Vec<RankedArm> = grid
        .arms
        .iter()
        .enumerate()
        .map(|(a, arm)| {
            let edges = ArmEdges::new(grid, a, observed, replicates, confidence);
            let between = Between::new(draws, baselines, a, confidence);
            let mut scores = grid
                .scopes
                .iter()
                .enumerate()
                .map(|(s, scope)| (scope.name.clone(), score(a, s, scope.of(&chances), &edges, &between)));
            let average = scores.next().map(|(_, s)| s).unwrap_or_else(|| score(a, 0, 0.0, &edges, &between));
            let categories = scores.by_ref().take(grid.categories.len()).collect();
            let benchmarks = scores.collect();
            let place = trained.iter().position(|t| *t == a).map(|t| place(&ranks, t, confidence));
            let per_seed = |s: &Scope| resample::seed_scores(arm, grid, s).into_iter().collect::<BTreeMap<_, _>>();
            let averages = grid.scopes.first().map(per_seed).unwrap_or_default();
            let of_categories = grid.scopes.iter().skip(1).take(grid.categories.len());
            RankedArm {
                arm: arm.arm.clone(),
                label: schema::label(&arm.arm, &arm.encoders, &arm.freeze),
                encoders: arm.encoders.clone(),
                freeze: arm.freeze.clone(),
                role: baselines.role(a),
                seeds: arm.runs.iter().map(|r| r.seed).collect(),
                place,
                average,
                categories,
                benchmarks,
                per_seed: averages,
                categories_per_seed: of_categories.map(|s| (s.name.clone(), per_seed(s))).collect(),
                published: arm.published,
                answers: arm.answers.clone(),
                cost: arm.cost.clone(),
            }
        })
        .collect();
    arms.sort_by(|a, b| a.role.cmp(&b.role).then(b.average.score.total_cmp(&a.average.score)).then(a.arm.cmp(&b.arm)));
    for (rank, place) in (1..).zip(arms.iter_mut().filter_map(|a| a.place.as_mut())) {
        place.rank = rank;
    }
    arms
}

/// Returns the rank of the `t`-th trained arm, without `rank` itself, which is set after sorting.
fn place(ranks: &[Vec<(usize, usize)>], t: usize, confidence: f64) -> Place {
    let mine: Vec<(usize, usize)> = ranks.iter().filter_map(|r| r.get(t).copied()).collect();
    let places: Vec<f64> = mine.iter().map(|(rank, _)| *rank as f64).collect();
    let (low, high) = stats::interval(&places, confidence);
    // Arms tied for first share it.
    let first_shares = mine.iter().filter(|(rank, _)| *rank == 1).map(|(_, tied)| 1.0 / *tied as f64);
    // `fold` is used because `sum` of no numbers is −0.
    let firsts = first_shares.fold(0.0, |total, share| total + share);
    // Ranks are integers, so interval ends between two ranks are rounded outwards.
    let (rank_low, rank_high) = (low.floor() as usize, high.ceil() as usize);
    Place { rank: 0, rank_low, rank_high, p_best: firsts / ranks.len().max(1) as f64 }
}

/// Returns each trained arm's rank by average in one replicate, and the number of arms with that rank.
fn ranks(image: &Array2<f64>, trained: &[usize]) -> Vec<(usize, usize)> {
    let averages: Vec<f64> = trained.iter().map(|a| at(image, *a, 0)).collect();
    averages
        .iter()
        .map(|x| (1 + averages.iter().filter(|o| *o > x).count(), averages.iter().filter(|o| *o == x).count()))
        .collect()
}
