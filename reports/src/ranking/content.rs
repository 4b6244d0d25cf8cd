//! The content of `ranking.json`: arms with their scores, tests between arms, and sentences.

use crate::answer_style::AnswerStyle;
use crate::racing::RaceRecord;
use crate::schema::{self, ArmRole, MissingRun, MostFrequentAnswer, RunCost};
use burgess_base::Category;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Scope of the mean of all categories, which exists beside the categories' own names.
pub const AVERAGE: &str = "average";

/// The content of `ranking.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// Version of the file format, [`schema::SCHEMA`].
    pub schema: u32,
    /// Name of the study.
    pub study: String,
    /// Confidence level of all intervals, between 0 and 1.
    pub confidence: f64,
    /// Number of bootstrap replicates and of sign flips.
    pub replicates: usize,
    /// Seed of all random streams of the ranking.
    pub seed: u64,
    /// The benchmarks that were compared, by category.
    pub benchmarks: Vec<ComparedBenchmark>,
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
    pub stability: Option<SeedAgreement>,
    /// Why benchmarks were left out, as sentences.
    pub left_out: Vec<String>,
    /// Failed and unfinished runs, which are not part of the ranking.
    pub missing: Vec<MissingRun>,
    /// What the confidence intervals cover, in one sentence.
    pub uncertainty: String,
    /// What can and what cannot be concluded, as sentences.
    pub conclusions: Vec<String>,
    /// Warnings about low sensitivity of the evaluator and misleading scores.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// How the models answer open questions, from the runs' samples; `None` if no question is open, or if the ranking
    /// was computed from results alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_style: Option<AnswerStyle>,
    /// The race that chose the arms, from `race.json`; `None` if all arms of the study were trained on all data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub race: Option<RaceRecord>,
}

/// Number of pairs of trained arms in a scope, and of separable ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairCount {
    /// Number of pairs.
    pub pairs: usize,
    /// Number of separable pairs, with p adjusted over all pairs.
    pub separable: usize,
}

/// A benchmark that all runs answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparedBenchmark {
    /// Name of the benchmark.
    pub name: String,
    /// Category of the benchmark.
    pub category: Category,
    /// Name of the metric.
    pub metric: String,
    /// Chance in percent; NaN (`null` in the file) if unknown.
    #[serde(with = "schema::unknown_as_null")]
    pub chance: f64,
    /// Number of questions.
    pub n: usize,
    /// Number of resampled units: images, or pairs of images.
    pub units: usize,
}

/// An arm with its scores and, if it is ranked, its rank.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankedArm {
    /// Name of the arm.
    pub arm: String,
    /// Name of the arm in text.
    pub label: String,
    /// Ids of the encoders' cards, in the order of concatenation.
    pub encoders: Vec<String>,
    /// Freeze setting of the encoders: `frozen` or `unfrozen`.
    pub freeze: String,
    /// Digest of the tune conversations that the arm's mix chose; `None` for an arm without a mix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<String>,
    /// Role of the arm: trained arms are ranked; random and oracle are the baselines.
    #[serde(default)]
    pub role: ArmRole,
    /// Seeds of the arm's runs.
    pub seeds: Vec<u64>,
    /// Rank of the arm; `None` for a baseline.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub place: Option<ArmRank>,
    /// Mean of the category scores.
    pub average: ArmScore,
    /// Scores by category.
    pub categories: BTreeMap<String, ArmScore>,
    /// Scores by benchmark.
    pub benchmarks: BTreeMap<String, ArmScore>,
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
    pub answers: BTreeMap<String, AnswerStats>,
    /// Cost of the arm: means over its seeds, and the maximum of the memory.
    pub cost: RunCost,
}

/// The rank of a trained arm among the trained arms, by average.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ArmRank {
    /// Rank by average, from 1.
    pub rank: usize,
    /// Confidence interval of the rank.
    pub rank_low: usize,
    /// Upper end of the confidence interval of the rank.
    pub rank_high: usize,
    /// Fraction of bootstrap replicates in which the arm is first on average; ties are shared.
    pub p_best: f64,
}

/// Properties of an arm's answers to a benchmark, over its seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerStats {
    /// Number of answers to questions with their image.
    pub n: usize,
    /// Number of these answers that could not be parsed; they count as wrong.
    pub unparsed: usize,
    /// The most frequent answer, from the seed in which its share is largest; `None` if it was not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "constant")]
    pub most_frequent: Option<MostFrequentAnswer>,
}

impl AnswerStats {
    /// Returns the fraction of unparsed answers, 0 to 1.
    pub fn unparsed_share(&self) -> f64 {
        if self.n > 0 { self.unparsed as f64 / self.n as f64 } else { 0.0 }
    }
}

/// A score in percent with its confidence interval, beside the blind score of the same model and chance.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ArmScore {
    /// Score with the image.
    pub score: f64,
    /// Lower end of the confidence interval of `score`.
    pub low: f64,
    /// Upper end of the confidence interval of `score`.
    pub high: f64,
    /// Chance in percent; NaN (`null` in the file) if unknown.
    #[serde(with = "schema::unknown_as_null")]
    pub chance: f64,
    /// Score without the image (blind baseline).
    pub blind: f64,
    /// Lower end of the confidence interval of `blind`.
    pub blind_low: f64,
    /// Upper end of the confidence interval of `blind`.
    pub blind_high: f64,
    /// Confidence interval of the paired difference `score − blind`.
    pub gain_low: f64,
    /// Upper end of the confidence interval of `score − blind`.
    pub gain_high: f64,
    /// Normalised score; `None` for baselines and where the baselines are not separable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalised: Option<NormalisedScore>,
}

/// The normalised score (score − random) / (oracle − random) in percent: 0 for the random baseline, 100 for the
/// oracle.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NormalisedScore {
    /// The normalised score.
    pub value: f64,
    /// Confidence interval; the same images are drawn for the arm and for both baselines.
    pub low: f64,
    /// Upper end of the confidence interval.
    pub high: f64,
}

impl ArmScore {
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
    pub fn score(&self, scope: &str) -> Option<&ArmScore> {
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
            ArmRole::Trained => return self.label.clone(),
            ArmRole::Random => "random",
            ArmRole::Oracle => "oracle",
        };
        if self.label == role { role.to_string() } else { format!("{role} ({})", self.label) }
    }

    /// Returns the fraction of all answers that could not be parsed, 0 to 1.
    pub fn unparsed_share(&self) -> f64 {
        let sum = |of: fn(&AnswerStats) -> usize| self.answers.values().map(of).sum::<usize>();
        AnswerStats { n: sum(|a| a.n), unparsed: sum(|a| a.unparsed), most_frequent: None }.unparsed_share()
    }
}

/// A family of tests whose p-values are adjusted together, within one scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TestFamily {
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
    /// Every arm of a series against the first one.
    Series,
}

/// A paired comparison of two arms: the score of `a` minus that of `b`, in points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairTest {
    /// Scope of the test: [`AVERAGE`], a category or a benchmark.
    pub scope: String,
    /// Family of tests to which it belongs.
    pub family: TestFamily,
    /// Name of the first arm.
    pub a: String,
    /// Name of the second arm.
    pub b: String,
    /// Observed difference of the scores, in points.
    pub difference: f64,
    /// Lower end of the paired bootstrap interval of the difference.
    pub low: f64,
    /// Upper end of the paired bootstrap interval of the difference.
    pub high: f64,
    /// Two-sided p-value of the sign-flip test over images.
    pub p: f64,
    /// Holm's adjusted p over the family within the scope.
    pub p_adjusted: f64,
    /// Whether the arms are separable: the interval excludes 0, and `p_adjusted` is below 1 − confidence.
    pub separable: bool,
}

impl PairTest {
    /// Returns whether `a` is separably above `b`.
    pub fn above(&self) -> bool {
        self.separable && self.difference > 0.0
    }

    /// Sets `separable` from the interval and the adjusted p.
    pub(super) fn decide(&mut self, confidence: f64) {
        self.separable = is_separable(self.p_adjusted, self.low, self.high, confidence);
    }
}

/// Returns whether a difference with this adjusted p and this interval is separable from 0.
pub(crate) fn is_separable(p_adjusted: f64, low: f64, high: f64, confidence: f64) -> bool {
    p_adjusted < 1.0 - confidence && (low > 0.0 || high < 0.0)
}

impl Ranking {
    /// Returns the arm of that name.
    pub fn arm(&self, name: &str) -> Option<&RankedArm> {
        self.arms.iter().find(|a| a.arm == name)
    }

    /// Returns name and name in text of all arms, in the order of the ranking, baselines last.
    pub fn named_arms(&self) -> Vec<(String, String)> {
        self.arms.iter().map(|arm| (arm.arm.clone(), arm.row_name())).collect()
    }

    /// Returns the trained arms, which are ranked, by average, best first.
    pub fn trained(&self) -> impl Iterator<Item = &RankedArm> + Clone {
        self.arms.iter().filter(|a| a.role == ArmRole::Trained)
    }

    /// Returns the baselines, which are not ranked: random, then oracle.
    pub fn baselines(&self) -> impl Iterator<Item = &RankedArm> + Clone {
        self.arms.iter().filter(|a| a.role != ArmRole::Trained)
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
        scores().all(|s| s.chance.is_finite()).then(|| scores().any(ArmScore::beats_chance))
    }

    /// Returns whether some arm has a published average.
    pub fn has_published(&self) -> bool {
        self.arms.iter().any(|a| a.published.is_some())
    }

    /// Returns the tests of one family in one scope.
    pub fn tests<'a>(&'a self, family: TestFamily, scope: &'a str) -> impl Iterator<Item = &'a PairTest> {
        self.tests.iter().filter(move |t| t.family == family && t.scope == scope)
    }

    /// Returns the test of oracle against random baseline in a scope, if the study has both.
    pub fn range(&self, scope: &str) -> Option<&PairTest> {
        self.tests.iter().find(|t| t.family == TestFamily::Range && t.scope == scope)
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

/// Agreement of the seeds on the order of the trained arms. Baselines are left out, because they are nearly always
/// first and last and would inflate it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedAgreement {
    /// Mean Kendall τ-b over pairs of seeds, of the order by average, −1 to 1.
    pub tau: f64,
    /// Kendall τ-b of each pair of seeds, as (seed, seed, τ).
    pub pairs: Vec<(u64, u64, f64)>,
    /// Mean Kendall τ-b over pairs of seeds by category, of the order in it; a category is missing if all arms score
    /// the same.
    #[serde(default)]
    pub categories: BTreeMap<String, f64>,
    /// Whether the same arm is first under every seed.
    pub same_best: bool,
}

impl SeedAgreement {
    /// Returns the mean τ-b in a scope: the average or a category.
    pub fn tau_in(&self, scope: &str) -> Option<f64> {
        if scope == AVERAGE { Some(self.tau) } else { self.categories.get(scope).copied() }
    }
}
