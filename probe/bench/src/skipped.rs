//! Counts of input rows that are skipped, per reason and with a few examples, so that no row is dropped silently.

use burgess_base::text::excerpt;
use serde::{Deserialize, Serialize};

/// Number of examples kept per reason.
const EXAMPLES: usize = 5;

/// Number of reasons that are counted separately.
const REASONS: usize = 32;

/// The reason under which all further reasons are counted.
const OTHERS: &str = "other reasons";

/// Maximum length of a reason or an example, in characters.
const LONGEST: usize = 200;

/// The rows that are skipped for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedRows {
    /// The reason, in words.
    pub why: String,
    /// Number of rows.
    pub count: usize,
    /// The first five rows, as file and row number or as id.
    pub examples: Vec<String>,
}

/// Counter of skipped rows, per reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SkippedRowsTally(Vec<SkippedRows>);

impl From<Vec<SkippedRows>> for SkippedRowsTally {
    fn from(reasons: Vec<SkippedRows>) -> Self {
        Self(reasons)
    }
}

impl SkippedRowsTally {
    /// Counts one more row for the reason `why`.
    pub fn add(&mut self, why: &str, example: &str) {
        let why = excerpt(why, LONGEST);
        let known = self.0.iter().position(|l| l.why == why);
        let at = known.or_else(|| (self.0.len() >= REASONS).then(|| self.0.iter().position(|l| l.why == OTHERS))?);
        let entry = match at.and_then(|at| self.0.get_mut(at)) {
            Some(entry) => entry,
            None => {
                let why = if self.0.len() < REASONS { why } else { OTHERS.to_string() };
                self.0.push(SkippedRows { why, ..SkippedRows::default() });
                let last = self.0.len() - 1;
                &mut self.0[last]
            }
        };
        entry.count += 1;
        if entry.examples.len() < EXAMPLES {
            entry.examples.push(excerpt(example, LONGEST));
        }
    }

    /// Returns whether no row was skipped.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of skipped rows.
    pub fn count(&self) -> usize {
        self.0.iter().map(|l| l.count).sum()
    }

    /// Consumes the tally and returns the counts per reason, in the order in which the reasons first occurred.
    pub fn into_reasons(self) -> Vec<SkippedRows> {
        self.0
    }
}

impl SkippedRows {
    /// Formats the entry as one line, where `noun` is the plural of what is counted: ``3 rows: the column `B` is empty
    /// (row 7, row 9, …)``.
    pub fn text(&self, noun: &str) -> String {
        let more = if self.count > self.examples.len() { ", …" } else { "" };
        format!("{} {noun}: {} ({}{more})", self.count, self.why, self.examples.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_and_examples_stay_few() {
        let mut tally = SkippedRowsTally::default();
        for i in 0..100 {
            tally.add(&format!("reason {}", i % 50), &format!("row {i}"));
        }
        assert_eq!((tally.count(), tally.0.len()), (100, REASONS + 1));
        let last = tally.0.last().expect("others");
        assert_eq!((last.why.as_str(), last.count, last.examples.len()), (OTHERS, 36, EXAMPLES));
        assert_eq!(tally.0[3].text("rows"), "2 rows: reason 3 (row 3, row 53)");
        assert!(tally.0[0].examples.len() == 2);
        tally.add(&"x".repeat(1_000_000), "a\nb");
        assert!(tally.0.iter().all(|l| l.why.len() < 300));
    }
}
