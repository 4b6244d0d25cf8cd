//! The content of a comparison, as it is written to JSON.

use super::questions::DifferingQuestion;
use burgess_base::{Category, Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;

/// Version of the JSON of a comparison.
pub(super) const COMPARISON_SCHEMA: u32 = 1;

/// Options of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompareOptions {
    /// Confidence level of the intervals, between 0 and 1; tests use 1 − confidence. Default 0.95.
    pub confidence: f64,
    /// Number of bootstrap replicates and of sign flips. Default 10,000.
    pub replicates: usize,
    /// Seed of the random streams. Default 0.
    pub seed: u64,
    /// The true difference, in points, for which power and needed numbers are computed. Default 1.
    pub detect: f64,
    /// Power for the detectable difference and the needed numbers, between 0 and 1. Default 0.8.
    pub power: f64,
    /// Number of differing questions to list for each side. Default 0.
    pub questions: usize,
    /// Benchmarks to compare; empty for all that both sides have.
    pub benchmarks: Vec<String>,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self {
            confidence: 0.95,
            replicates: 10_000,
            seed: 0,
            detect: 1.0,
            power: 0.8,
            questions: 0,
            benchmarks: Vec::new(),
        }
    }
}

impl CompareOptions {
    /// Checks the numbers.
    ///
    /// # Errors
    /// A number is out of its range.
    pub fn check(&self) -> Result<()> {
        let within = |x: f64| x > 0.0 && x < 1.0;
        if !within(self.confidence) {
            return Err(Error::usage(format!(
                "the confidence is {}, expected a number between 0 and 1",
                self.confidence
            ))
            .hint("0.95 is usual"));
        }
        if !within(self.power) {
            return Err(Error::usage(format!("the power is {}, expected a number between 0 and 1", self.power))
                .hint("0.8 is usual"));
        }
        if !(self.detect > 0.0 && self.detect <= 100.0) {
            return Err(Error::usage(format!(
                "the difference to detect is {} points, expected more than 0 and at most 100",
                self.detect
            )));
        }
        if !(100..=1_000_000).contains(&self.replicates) {
            return Err(Error::usage(format!(
                "the number of replicates is {}, expected 100 to 1000000",
                self.replicates
            )));
        }
        Ok(())
    }
}

/// One side of a comparison: its name and where it was read from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ComparedSource {
    /// Name in tables.
    pub name: String,
    /// Path as it was given.
    pub source: String,
}

/// The comparison of two sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Version of this format, 1.
    pub schema: u32,
    /// What the data show, in one sentence.
    pub conclusion: String,
    /// The first side.
    pub a: ComparedSource,
    /// The second side.
    pub b: ComparedSource,
    /// Options of the comparison.
    pub options: CompareOptions,
    /// The compared arms: one pair, or the arms of two studies paired by name.
    pub pairs: Vec<ArmComparison>,
    /// Arms that only the first and only the second study has.
    pub unpaired: [Vec<String>; 2],
    /// What limits the comparison as a whole, as sentences.
    pub warnings: Vec<String>,
}

/// The comparison of two arms. All differences are first minus second, in points.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArmComparison {
    /// Names of both arms.
    pub labels: [String; 2],
    /// Seeds of both arms.
    pub seeds: [Vec<u64>; 2],
    /// What the data show, in one sentence.
    pub conclusion: String,
    /// What the intervals cover, in one sentence.
    pub uncertainty: String,
    /// What could be seen with these questions and seeds, and the assumptions of that.
    pub power_note: String,
    /// The average, the categories and the benchmarks; only the benchmark if there is one.
    pub scopes: Vec<ScopeComparison>,
    /// How the questions were matched, by benchmark.
    pub matches: BTreeMap<String, QuestionMatch>,
    /// Benchmarks that are not compared, with the reason.
    pub not_compared: Vec<String>,
    /// What makes the comparison unequal: prompts, scoring rules, samples of questions, data.
    pub warnings: Vec<String>,
    /// What else differs between the arms: encoders, language model, recipe, versions.
    pub differences: Vec<String>,
    /// The questions where the arms differ most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub questions: Vec<DifferingQuestion>,
}

/// The kind of a scope; p-values are adjusted within a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ScopeKind {
    /// The mean of the categories.
    Average,
    /// The mean of a category's benchmarks.
    Category,
    /// One benchmark.
    Benchmark,
}

impl ScopeKind {
    /// Returns the name as it is written in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Average => "average",
            Self::Category => "category",
            Self::Benchmark => "benchmark",
        }
    }
}

/// Two arms in one scope.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScopeComparison {
    /// Name of the scope.
    pub scope: String,
    /// Kind of the scope.
    pub kind: ScopeKind,
    /// Category of the benchmark, or the category itself; `None` for the average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<Category>,
    /// Score of the first arm on the compared questions, in percent.
    pub a: f64,
    /// Score of the second arm.
    pub b: f64,
    /// `a` − `b`, in points.
    pub difference: f64,
    /// Lower end of the paired interval of the difference.
    pub low: f64,
    /// Upper end of the paired interval of the difference.
    pub high: f64,
    /// Two-sided p of the sign-flip test over units.
    pub p: f64,
    /// p adjusted by Holm's method over all scopes of this kind.
    pub p_adjusted: f64,
    /// Whether the interval excludes 0 and `p_adjusted` is below 1 − confidence.
    pub separable: bool,
    /// The same without the image; `None` if a side has no blind answers.
    pub blind: Option<BlindComparison>,
    /// On how many questions either arm scores higher.
    pub outcomes: OutcomeCounts,
    /// Number of compared questions.
    pub questions: usize,
    /// Number of compared units.
    pub units: usize,
    /// What could be seen with these questions and seeds; `None` for fewer than two units.
    pub power: Option<Power>,
}

/// Scores of two arms without the image, in percent, and their difference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BlindComparison {
    /// Blind score of the first arm.
    pub a: f64,
    /// Blind score of the second arm.
    pub b: f64,
    /// `a` − `b`, in points.
    pub difference: f64,
    /// Lower end of the paired interval of the difference.
    pub low: f64,
    /// Upper end of the paired interval of the difference.
    pub high: f64,
}

/// Number of questions on which the first arm scores higher, lower, and the same, with means over seeds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct OutcomeCounts {
    /// Questions on which the first arm scores higher.
    pub won: usize,
    /// Questions on which the second arm scores higher.
    pub lost: usize,
    /// Questions on which both score the same.
    pub tied: usize,
    /// Whether units were counted instead of questions, because the answers to questions are missing.
    pub of_units: bool,
    /// The table of right and wrong answers; `None` unless both arms have one seed and all scores are 0 or 1.
    pub binary: Option<BinaryCounts>,
}

/// Right and wrong answers of two arms to the same questions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BinaryCounts {
    /// Questions that both answer rightly.
    pub both_right: usize,
    /// Questions that only the first answers rightly.
    pub only_a: usize,
    /// Questions that only the second answers rightly.
    pub only_b: usize,
    /// Questions that both answer wrongly.
    pub both_wrong: usize,
    /// p of McNemar's exact test, which takes questions as independent; `None` if a unit has several
    /// questions, or for several benchmarks, whose questions have different weights.
    pub mcnemar_p: Option<f64>,
}

impl OutcomeCounts {
    /// Adds the counts of several benchmarks.
    pub(super) fn sum<'a>(all: impl Iterator<Item = &'a OutcomeCounts>) -> Self {
        let mut parts = all.peekable();
        let Some(mut sum) = parts.next().cloned() else { return Self::default() };
        for other in parts {
            sum.won += other.won;
            sum.lost += other.lost;
            sum.tied += other.tied;
            sum.of_units |= other.of_units;
            sum.binary = sum.binary.zip(other.binary).map(|(x, y)| BinaryCounts {
                both_right: x.both_right + y.both_right,
                only_a: x.only_a + y.only_a,
                only_b: x.only_b + y.only_b,
                both_wrong: x.both_wrong + y.both_wrong,
                mcnemar_p: None,
            });
        }
        sum
    }
}

/// How questions were matched in one benchmark.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct QuestionMatch {
    /// Number of questions that are compared.
    pub compared: usize,
    /// Number of units that are compared.
    pub units: usize,
    /// Questions that only the first side answered.
    pub only_a: usize,
    /// Questions that only the second side answered.
    pub only_b: usize,
    /// Questions that not all seeds of a side answered.
    pub not_all_seeds: usize,
    /// Questions with the same id whose text, right answer or unit differs.
    pub differing: usize,
    /// Questions that both answered, left out because another question of their unit is not compared.
    pub left_with_unit: usize,
    /// Units without stored answers, which are not compared.
    pub without_answers: usize,
    /// Up to three ids of questions that are not compared.
    pub examples: Vec<String>,
    /// Compared questions whose prompts differ.
    pub differing_prompts: usize,
    /// Whether units were matched by their ids alone, because a side has no stored answers.
    pub by_units: bool,
}

impl QuestionMatch {
    /// Returns how many questions are not compared.
    pub fn left_out(&self) -> usize {
        self.only_a + self.only_b + self.not_all_seeds + self.differing + self.left_with_unit
    }

    /// Describes what is not compared: "12 only of a, 3 with differing texts".
    pub(super) fn left_out_text(&self, labels: &[String; 2]) -> String {
        let parts = [
            (self.only_a, format!("answered by {} only", labels[0])),
            (self.only_b, format!("answered by {} only", labels[1])),
            (self.not_all_seeds, "not answered by all seeds".to_string()),
            (self.differing, "with another text, right answer or unit under the same id".to_string()),
            (self.left_with_unit, "whose image or group has such a question".to_string()),
            (self.without_answers, "units without stored answers".to_string()),
        ];
        let parts: Vec<String> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        let examples = match self.examples.is_empty() {
            true => String::new(),
            false => format!(" (such as {})", self.examples.join(", ")),
        };
        format!("{}{examples}", parts.join(", "))
    }

    /// Says why no question is compared.
    pub(super) fn why_none(&self, labels: &[String; 2]) -> String {
        match self.left_out() + self.without_answers {
            0 => "there are no questions".to_string(),
            _ => self.left_out_text(labels),
        }
    }
}

/// What could be seen with these questions and seeds. Variances are in points².
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Power {
    /// Standard error of the difference, in points: questions and, with several seeds, seeds.
    pub standard_error: f64,
    /// Variance from the sampling of questions.
    pub question_variance: f64,
    /// Variance from the seeds' answers to the same question; `None` if a side has one seed.
    pub interaction_variance: Option<f64>,
    /// Variance from the seeds' overall scores; `None` if a side has one seed.
    pub seed_variance: Option<f64>,
    /// The true difference that is found with the wanted power, in points; `None` if no question differs.
    pub detectable: Option<f64>,
    /// The true difference that the following numbers are for, in points.
    pub detect: f64,
    /// Probability of finding that difference with these questions and seeds; `None` if no question differs.
    pub power: Option<f64>,
    /// Number of questions of the same kind that find it with the wanted power, with these seeds; `None` if no number
    /// does, or if no question differs.
    pub questions_needed: Option<u64>,
    /// Number of seeds per side that find it, with these questions; `None` if no number does, or if it cannot be known.
    pub seeds_needed: Option<u64>,
    /// Numbers of questions and of seeds per side that find it together, where neither alone does: seeds and questions
    /// then have half of the allowed variance each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub both_needed: Option<(u64, u64)>,
}
