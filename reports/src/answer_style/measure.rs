//! Measures single answers, and sums them by image.

use super::{AnswerShape, WordCounts};
use crate::stats::{self, Estimate};
use burgess_base::answer_text;
use std::collections::{BTreeMap, BTreeSet};

/// Smallest numbers of words of the classes of [`WordCounts::histogram`].
const CLASSES: [usize; 9] = [0, 1, 2, 4, 8, 16, 32, 64, 128];

/// The properties of one answer.
pub(super) struct Answer {
    words: usize,
    /// One word, empty, refusal, loop, ended by the limit: 1 or 0 each.
    marks: [f64; MARKS],
    /// Whether it is known if the limit ended the answer.
    limit_known: bool,
}

/// Number of properties of which shares are taken.
const MARKS: usize = 5;

impl Answer {
    /// Measures an answer without its reasoning; `at_limit` is `None` if it was not recorded.
    pub(super) fn of(text: &str, at_limit: Option<bool>) -> Self {
        let words = answer_text::word_count(text);
        let marks = [
            words == 1,
            text.trim().is_empty(),
            answer_text::is_refusal(text),
            answer_text::has_loop(text),
            at_limit.unwrap_or(false),
        ];
        Self { words, marks: marks.map(|m| f64::from(u8::from(m))), limit_known: at_limit.is_some() }
    }
}

/// Sums over the answers of a group, by image.
#[derive(Default)]
pub(super) struct Answers {
    words: Vec<usize>,
    questions: BTreeSet<String>,
    units: BTreeMap<String, (f64, [f64; MARKS])>,
    limit_unknown: bool,
}

impl Answers {
    /// Adds an answer with the weight of its seed.
    pub(super) fn add(&mut self, question: &str, unit: &str, answer: &Answer, share: f64) {
        self.words.push(answer.words);
        let benchmark = unit.split('\n').next().unwrap_or_default();
        self.questions.insert(format!("{benchmark}\n{question}"));
        self.limit_unknown |= !answer.limit_known;
        let (weight, sums) = match self.units.get_mut(unit) {
            Some(found) => found,
            None => self.units.entry(unit.to_string()).or_default(),
        };
        *weight += share;
        sums.iter_mut().zip(answer.marks).for_each(|(sum, mark)| *sum += share * mark);
    }

    /// Computes lengths and shares.
    pub(super) fn shape(mut self, confidence: f64) -> AnswerShape {
        self.words.sort_unstable();
        let weights: Vec<f64> = self.units.values().map(|(weight, _)| *weight).collect();
        let share = |at: usize| -> Estimate {
            let sums: Vec<f64> = self.units.values().map(|(_, sums)| sums.get(at).copied().unwrap_or(0.0)).collect();
            share_estimate(&sums, &weights, confidence)
        };
        let [one_word, empty, refusals, loops, at_limit] = [share(0), share(1), share(2), share(3), share(4)];
        AnswerShape {
            questions: self.questions.len(),
            answers: self.words.len(),
            words: word_counts(&self.words),
            one_word,
            empty,
            refusals,
            loops,
            at_limit: (!self.limit_unknown).then_some(at_limit),
        }
    }
}

/// Computes a share in percent with Wilson's interval. Its number of units is that of independent answers with the same
/// standard error as the clustered one over images; where all answers agree, it is the effective number of images.
fn share_estimate(sums: &[f64], weights: &[f64], confidence: f64) -> Estimate {
    let share = stats::ratio(sums, weights).unwrap_or(0.0);
    let independent = stats::clustered_se(sums, weights)
        .filter(|se| *se > 0.0 && share > 0.0 && share < 1.0)
        .map(|se| (share * (1.0 - share) / (se * se)).min(weights.iter().sum()));
    let units = independent.unwrap_or_else(|| stats::effective_units(weights));
    let (low, high) = stats::wilson(share, units, confidence);
    Estimate { value: 100.0 * share, low: 100.0 * low, high: 100.0 * high }
}

/// Computes the distribution of sorted lengths.
fn word_counts(sorted: &[usize]) -> WordCounts {
    let numbers: Vec<f64> = sorted.iter().map(|n| *n as f64).collect();
    let mut histogram = [0; CLASSES.len()];
    for n in sorted {
        let class = CLASSES.iter().rposition(|least| n >= least).unwrap_or(0);
        if let Some(count) = histogram.get_mut(class) {
            *count += 1;
        }
    }
    let quantile = |q: f64| stats::quantile(&numbers, q);
    WordCounts {
        mean: stats::mean(&numbers).unwrap_or(0.0),
        p10: quantile(0.1),
        median: quantile(0.5),
        p90: quantile(0.9),
        longest: sorted.last().copied().unwrap_or(0),
        histogram,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_sums_over_images() {
        let mut answers = Answers::default();
        for (i, text) in ["red", "", "I'm sorry, I can't.", "a cat and a cat and a cat and a cat and", "two words"]
            .iter()
            .enumerate()
        {
            answers.add(&format!("q{i}"), &format!("b\nu{}", i / 2), &Answer::of(text, Some(i == 3)), 1.0);
        }
        let shape = answers.shape(0.95);
        assert_eq!((shape.questions, shape.answers, shape.words.median, shape.words.longest), (5, 5, 2.0, 12));
        assert_eq!(shape.words.histogram, [1, 1, 1, 1, 1, 0, 0, 0, 0]);
        let shares = [shape.one_word, shape.empty, shape.refusals, shape.loops];
        assert!(shares.iter().all(|s| (s.value - 20.0).abs() < 1e-9 && s.low < 20.0 && s.high > 20.0), "{shares:?}");
        assert_eq!(shape.at_limit.map(|s| s.value), Some(20.0));
        // A single unknown answer makes the share unknown.
        let mut answers = Answers::default();
        answers.add("q", "b\nu", &Answer::of("red", None), 1.0);
        let shape = answers.shape(0.95);
        assert!(shape.at_limit.is_none() && shape.one_word.value == 100.0 && shape.one_word.low < 50.0, "{shape:?}");
    }

    #[test]
    fn intervals_widen_with_clusters() {
        // Forty questions about ten images whose answers agree carry the information of ten.
        let (agreeing, weights): (Vec<f64>, Vec<f64>) =
            ((0..10).map(|i| f64::from(i % 2) * 4.0).collect(), vec![4.0; 10]);
        let clustered = share_estimate(&agreeing, &weights, 0.95);
        let single: Vec<f64> = (0..40).map(|i| f64::from(i % 2)).collect();
        let independent = share_estimate(&single, &[1.0; 40], 0.95);
        assert_eq!((clustered.value, independent.value), (50.0, 50.0));
        assert!(clustered.high - clustered.low > 1.6 * (independent.high - independent.low), "{clustered:?}");
    }
}
