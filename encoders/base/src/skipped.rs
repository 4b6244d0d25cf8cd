//! Counts skipped entries of training data by reason and source.

use crate::text;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Number of locations that are recorded per reason and source.
const SHOWN: usize = 3;
/// Maximum number of sources that are counted by name. All others are counted as one, so that data with millions of
/// sources do not exhaust the memory.
const SOURCES: usize = 1000;
const OTHER_SOURCES: &str = "other sources";

/// The reason for which one entry is skipped, with its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedEntry {
    /// The reason, by which entries are counted.
    pub reason: &'static str,
    /// Details about this entry; may be empty.
    pub detail: String,
    /// The data source of the entry; may be empty.
    pub source: String,
}

/// Counts the skipped entries of one source with one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedEntries {
    /// The reason, by which entries are counted.
    pub reason: String,
    /// The data source (the entries' `source`, or the first folder of their images); may be empty.
    pub source: String,
    /// Number of entries.
    pub count: usize,
    /// Locations of the first entries in the file: `entry 3`, `line 3`.
    pub first: Vec<String>,
}

/// Counts of skipped entries by reason and source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SkippedReport(BTreeMap<&'static str, BTreeMap<String, SkippedEntries>>);

impl SkippedReport {
    /// Counts one more entry; `place` says where it is, such as `line 3`.
    pub fn count(&mut self, unusable: SkippedEntry, place: String) {
        let SkippedEntry { reason, detail, source } = unusable;
        let sources = self.0.entry(reason).or_default();
        let known = sources.contains_key(&source) || sources.len() < SOURCES;
        let source = if known { text::excerpt(&source, 80) } else { OTHER_SOURCES.to_string() };
        let left_out = sources.entry(source.clone()).or_insert_with(|| SkippedEntries {
            reason: reason.to_string(),
            source,
            count: 0,
            first: Vec::new(),
        });
        left_out.count += 1;
        if left_out.first.len() < SHOWN {
            left_out.first.push(if detail.is_empty() { place } else { format!("{place}: {detail}") });
        }
    }

    /// Adds the counts of the entries that follow those counted so far.
    pub fn append(&mut self, later: Self) {
        for (reason, sources) in later.0 {
            let own = self.0.entry(reason).or_default();
            for (name, more) in sources {
                let known = own.contains_key(&name) || own.len() < SOURCES;
                let name = if known { name } else { OTHER_SOURCES.to_string() };
                let left_out = own.entry(name.clone()).or_insert_with(|| SkippedEntries {
                    reason: reason.to_string(),
                    source: name,
                    count: 0,
                    first: Vec::new(),
                });
                left_out.count += more.count;
                let free = SHOWN.saturating_sub(left_out.first.len());
                left_out.first.extend(more.first.into_iter().take(free));
            }
        }
    }

    /// Returns whether nothing was skipped.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the total number of skipped entries.
    pub fn total(&self) -> usize {
        self.by_source().map(|l| l.count).sum()
    }

    /// Returns for each reason its name, the number of entries, and the location of the first.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, usize, &str)> {
        self.0.iter().map(|(reason, sources)| {
            let count = sources.values().map(|l| l.count).sum();
            let first = sources.values().flat_map(|l| l.first.first()).min_by_key(|place| order(place));
            (*reason, count, first.map_or("", String::as_str))
        })
    }

    /// Returns the counts by reason and source, for run records.
    pub fn by_source(&self) -> impl Iterator<Item = &SkippedEntries> {
        self.0.values().flat_map(BTreeMap::values)
    }

    /// Returns one line per reason and source for the user: `3 conversations of gqa left out: no answer (entry 5,
    /// …)`.
    pub fn notes(&self) -> Vec<String> {
        let line = |l: &SkippedEntries| {
            let of = if l.source.is_empty() { String::new() } else { format!(" of {}", l.source) };
            let plural = if l.count == 1 { "conversation" } else { "conversations" };
            let more = if l.count > l.first.len() { ", …" } else { "" };
            format!("{} {plural}{of} left out: {} ({}{more})", l.count, l.reason, l.first.join(", "))
        };
        self.by_source().map(line).collect()
    }

    /// Returns all reasons with their counts on one line.
    pub fn summary(&self) -> String {
        let reason = |(what, count, first): (&str, usize, &str)| format!("{what} ({count}, first: {first})");
        self.iter().map(reason).collect::<Vec<_>>().join("; ")
    }
}

/// Returns the number in a location such as `entry 12` or `line 12: …`, for sorting.
fn order(place: &str) -> usize {
    let digits = place.split([' ', ':']).nth(1).and_then(|n| n.parse().ok());
    digits.unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_counted_by_reason_and_source() {
        let mut problems = SkippedReport::default();
        for (i, source) in ["gqa", "coco", "gqa", "gqa", "gqa"].iter().enumerate() {
            let unusable = SkippedEntry { reason: "no answer", detail: String::new(), source: (*source).to_string() };
            problems.count(unusable, format!("entry {}", 11 - i));
        }
        assert_eq!(problems.total(), 5);
        assert_eq!(problems.iter().collect::<Vec<_>>(), [("no answer", 5, "entry 10")]);
        let notes = problems.notes();
        assert_eq!(notes[0], "1 conversation of coco left out: no answer (entry 10)");
        assert_eq!(notes[1], "4 conversations of gqa left out: no answer (entry 11, entry 9, entry 8, …)");
        let many = (0..5000).map(|i| SkippedEntry { reason: "odd", detail: String::new(), source: i.to_string() });
        many.for_each(|u| problems.count(u, "line 1".into()));
        assert_eq!((problems.total(), problems.by_source().count()), (5005, 2 + SOURCES + 1));
    }

    #[test]
    fn later_counts_are_appended_with_the_first_places_kept() {
        let counted = |places: &[&str]| {
            let mut report = SkippedReport::default();
            for place in places {
                let entry = SkippedEntry { reason: "odd", detail: String::new(), source: "gqa".into() };
                report.count(entry, (*place).to_string());
            }
            report
        };
        let mut first = counted(&["line 1", "line 2"]);
        first.append(counted(&["line 5", "line 6"]));
        assert_eq!(first, {
            let mut all = counted(&["line 1", "line 2", "line 5"]);
            all.append(counted(&["line 6"]));
            all
        });
        assert_eq!(first.notes(), ["4 conversations of gqa left out: odd (line 1, line 2, line 5, …)"]);
    }
}
