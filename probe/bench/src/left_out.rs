//! What of other people's files is not used, by reason: counted, with a few examples, never silent.

use crate::Question;
use burgess_base::text::excerpt;
use serde::{Deserialize, Serialize};
use std::ops::{Deref, DerefMut};

/// Examples that are kept of one reason.
const EXAMPLES: usize = 5;

/// Reasons that are told apart.
const REASONS: usize = 32;

/// What further reasons are called together.
const OTHERS: &str = "other reasons";

/// Characters of a reason or an example that are kept.
const LONGEST: usize = 200;

/// Rows that are left out for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The reason, in words.
    pub why: String,
    /// How many rows.
    pub count: usize,
    /// The first five of them: file and row, or id.
    pub examples: Vec<String>,
}

/// Counts what is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally(Vec<LeftOut>);

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, why: &str, example: &str) {
        let why = excerpt(why, LONGEST);
        let known = self.0.iter().position(|l| l.why == why);
        let at = known.or_else(|| (self.0.len() >= REASONS).then(|| self.0.iter().position(|l| l.why == OTHERS))?);
        let entry = match at.and_then(|at| self.0.get_mut(at)) {
            Some(entry) => entry,
            None => {
                let why = if self.0.len() < REASONS { why } else { OTHERS.to_string() };
                self.0.push(LeftOut { why, ..LeftOut::default() });
                let last = self.0.len() - 1;
                &mut self.0[last]
            }
        };
        entry.count += 1;
        if entry.examples.len() < EXAMPLES {
            entry.examples.push(excerpt(example, LONGEST));
        }
    }

    /// Whether nothing was left out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many were left out.
    pub fn count(&self) -> usize {
        self.0.iter().map(|l| l.count).sum()
    }

    /// By reason, in the order in which they were met.
    pub fn reasons(&self) -> &[LeftOut] {
        &self.0
    }

    /// The same, owned.
    pub fn into_reasons(self) -> Vec<LeftOut> {
        self.0
    }
}

impl LeftOut {
    /// In one line: `3 rows: the column `B` is empty (row 7, row 9, …)`.
    pub fn text(&self, what: &str) -> String {
        let more = if self.count > self.examples.len() { ", …" } else { "" };
        format!("{} {what}: {} ({}{more})", self.count, self.why, self.examples.join(", "))
    }
}

/// The questions of a benchmark as they are read, and the rows that cannot be asked. Used like the list of questions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Questions {
    /// What is asked.
    pub questions: Vec<Question>,
    /// The rows that are not, by reason.
    pub left_out: Vec<LeftOut>,
}

impl Questions {
    /// Rows that are left out.
    pub fn left_out(&self) -> usize {
        self.left_out.iter().map(|l| l.count).sum()
    }
}

impl From<Vec<Question>> for Questions {
    fn from(questions: Vec<Question>) -> Self {
        Self { questions, left_out: Vec::new() }
    }
}

impl Deref for Questions {
    type Target = Vec<Question>;

    fn deref(&self) -> &Vec<Question> {
        &self.questions
    }
}

impl DerefMut for Questions {
    fn deref_mut(&mut self) -> &mut Vec<Question> {
        &mut self.questions
    }
}

impl IntoIterator for Questions {
    type Item = Question;
    type IntoIter = std::vec::IntoIter<Question>;

    fn into_iter(self) -> Self::IntoIter {
        self.questions.into_iter()
    }
}

impl<'a> IntoIterator for &'a Questions {
    type Item = &'a Question;
    type IntoIter = std::slice::Iter<'a, Question>;

    fn into_iter(self) -> Self::IntoIter {
        self.questions.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_and_examples_stay_few() {
        let mut tally = Tally::default();
        for i in 0..100 {
            tally.add(&format!("reason {}", i % 50), &format!("row {i}"));
        }
        assert_eq!((tally.count(), tally.reasons().len()), (100, REASONS + 1));
        let last = tally.reasons().last().expect("others");
        assert_eq!((last.why.as_str(), last.count, last.examples.len()), (OTHERS, 36, EXAMPLES));
        assert_eq!(tally.reasons()[3].text("rows"), "2 rows: reason 3 (row 3, row 53)");
        assert!(tally.reasons()[0].examples.len() == 2);
        tally.add(&"x".repeat(1_000_000), "a\nb");
        assert!(tally.reasons().iter().all(|l| l.why.len() < 300));
    }
}
