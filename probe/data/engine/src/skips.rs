//! Counts of what is left out, by reason, with the first few places.

use burgess_base::text;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Number of places that are recorded per reason.
const SHOWN: usize = 3;
/// Maximum number of reasons that are counted by name, so that reasons from files cannot exhaust the memory.
const REASONS: usize = 200;
/// Name under which all further reasons are counted.
const OTHER: &str = "other reasons";
/// Largest length of a recorded place in characters.
const PLACE: usize = 300;

/// Number of records that were left out for one reason, and where the first of them are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkipCount {
    /// Number of records.
    pub count: u64,
    /// Places of the first records: a file with its line or byte, or an address, with details.
    pub first: Vec<String>,
}

/// Counts of records that were left out, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Skips(BTreeMap<String, SkipCount>);

impl Skips {
    /// Counts one record. `place` says where it is: a file and line, or an address; it may end with details.
    pub fn add(&mut self, reason: &str, place: impl AsRef<str>) {
        self.merge_one(reason, 1, std::iter::once(text::excerpt(place.as_ref(), PLACE)));
    }

    /// Adds the counts of another part of the work.
    pub fn merge(&mut self, other: &Self) {
        for (reason, found) in &other.0 {
            self.merge_one(reason, found.count, found.first.iter().cloned());
        }
    }

    fn merge_one(&mut self, reason: &str, count: u64, places: impl Iterator<Item = String>) {
        let known = self.0.contains_key(reason) || self.0.len() < REASONS;
        let entry = self.0.entry(if known { reason } else { OTHER }.to_string()).or_default();
        entry.count = entry.count.saturating_add(count);
        let room = SHOWN.saturating_sub(entry.first.len());
        entry.first.extend(places.take(room));
    }

    /// Returns the number of records that were left out for a reason.
    pub fn of(&self, reason: &str) -> u64 {
        self.0.get(reason).map_or(0, |found| found.count)
    }

    /// Returns the total number of records.
    pub fn total(&self) -> u64 {
        self.0.values().map(|found| found.count).sum()
    }

    /// Whether nothing was left out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the reasons with their counts, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &SkipCount)> {
        self.0.iter().map(|(reason, found)| (reason.as_str(), found))
    }

    /// Returns one line per reason: `12 left out: the image is too small (https://…, …)`.
    pub fn notes(&self) -> Vec<String> {
        let line = |(reason, found): (&str, &SkipCount)| {
            let more = if found.count > found.first.len() as u64 { ", …" } else { "" };
            format!("{} left out: {reason} ({}{more})", found.count, found.first.join(", "))
        };
        self.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_with_their_first_places() {
        let mut skips = Skips::default();
        (1..=5).for_each(|i| skips.add("the image is too small", format!("a.jsonl:{i}")));
        let mut more = Skips::default();
        more.add("no caption", "b\n");
        more.merge(&skips);
        assert_eq!((more.total(), more.of("no caption"), more.of("x")), (6, 1, 0));
        assert_eq!(
            more.notes(),
            [
                "1 left out: no caption (b\\n)",
                "5 left out: the image is too small (a.jsonl:1, a.jsonl:2, a.jsonl:3, …)"
            ]
        );
        (0..1000).for_each(|i| more.add(&format!("reason {i}"), "x"));
        assert_eq!((more.iter().count(), more.total()), (REASONS + 1, 1006));
        let text = serde_json::to_string(&more).unwrap();
        assert_eq!(serde_json::from_str::<Skips>(&text).unwrap(), more);
    }
}
