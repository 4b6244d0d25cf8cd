//! The questions where two arms differ most, with their answers.

use super::matching::MatchedBenchmark;
use crate::schema::Sample;
use serde::Serialize;

/// The answers of one arm to a question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnswersOfSide {
    /// Mean score over the seeds, 0 to 1.
    pub score: f64,
    /// The raw answers, one per seed.
    pub answers: Vec<String>,
    /// The answers without the image, one per seed.
    pub blind_answers: Vec<String>,
}

impl AnswersOfSide {
    pub(super) fn of(samples: &[Sample]) -> Self {
        Self {
            score: samples.iter().map(|s| s.score).sum::<f64>() / samples.len().max(1) as f64,
            answers: samples.iter().map(|s| s.answer.clone()).collect(),
            blind_answers: samples.iter().map(|s| s.blind_answer.clone()).collect(),
        }
    }
}

/// A question on which two arms differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DifferingQuestion {
    /// Benchmark of the question.
    pub benchmark: String,
    /// Id of the question.
    pub id: String,
    /// Subtask of the question; may be empty.
    pub subtask: String,
    /// Text of the question; empty if the file does not repeat it.
    pub question: String,
    /// Path of the image; may be empty.
    pub image: String,
    /// The choices in the order of their letters; empty for other questions.
    pub options: Vec<String>,
    /// The right answer.
    pub target: String,
    /// Answers of the first arm.
    pub a: AnswersOfSide,
    /// Answers of the second arm.
    pub b: AnswersOfSide,
    /// Score of the first arm minus that of the second, −1 to 1.
    pub difference: f64,
}

impl DifferingQuestion {
    /// Returns the right answer in words: a letter with the text of its choice.
    pub(super) fn right(&self) -> String {
        let mut letters = self.target.chars().filter(char::is_ascii_alphabetic);
        let letter = letters.next().filter(|_| letters.next().is_none()).map(|c| c.to_ascii_uppercase());
        let choice = letter.and_then(|l| self.options.get(usize::from(u8::try_from(l).ok()? - b'A')));
        choice.map_or_else(|| self.target.clone(), |text| format!("{}: {text}", self.target))
    }
}

/// The questions of one benchmark that differ most, for each arm at most a given number.
pub(super) struct MostDiffering {
    most: usize,
    /// Questions that the first arm won, the largest difference first; equal ones in the order of their ids.
    won: Vec<DifferingQuestion>,
    lost: Vec<DifferingQuestion>,
}

impl MostDiffering {
    pub fn new(most: usize) -> Self {
        Self { most, won: Vec::new(), lost: Vec::new() }
    }

    /// Takes a question if it differs more than one of those that were taken.
    pub fn offer(&mut self, difference: f64, question: impl FnOnce() -> DifferingQuestion) {
        let list = match difference {
            d if d > 1e-9 => &mut self.won,
            d if d < -1e-9 => &mut self.lost,
            _ => return,
        };
        let at = list.partition_point(|q| q.difference.abs() >= difference.abs());
        if at < self.most {
            list.insert(at, question());
            list.truncate(self.most);
        }
    }
}

/// Returns up to `most` questions that the first arm won, then as many that it lost. Of questions with equal
/// differences every benchmark gives one in turn.
pub(super) fn chosen(matched: &[MatchedBenchmark], most: usize) -> Vec<DifferingQuestion> {
    let pick = |list: fn(&MostDiffering) -> &Vec<DifferingQuestion>| {
        let mut all: Vec<(usize, &DifferingQuestion)> = Vec::new();
        for benchmark in matched {
            all.extend(list(&benchmark.most_differing).iter().enumerate());
        }
        // The sort is stable, so benchmarks keep their order within a round.
        all.sort_by(|(i, p), (j, q)| q.difference.abs().total_cmp(&p.difference.abs()).then(i.cmp(j)));
        all.into_iter().take(most).map(|(_, q)| q.clone()).collect::<Vec<_>>()
    };
    let mut questions = pick(|m| &m.won);
    questions.extend(pick(|m| &m.lost));
    questions
}
