//! Chooses entries by source and kind: a threshold per source, and ratios of kinds at a fixed total.
//!
//! Everything here works on plain summaries of entries, without files. The same entries in the same order, rules and
//! seed give the same selection on every machine and with any number of threads.
//!
//! ```
//! use burgess_mix::select::{Balance, Item, Threshold, balance};
//! let items: Vec<Item<'_>> = (0..10)
//!     .map(|i| Item { source: if i < 8 { "dvqa" } else { "ai2d" }, kind: "ocr", has_image: true })
//!     .collect();
//! let rules = Balance { threshold: Some(Threshold { t: 3, ..Threshold::default() }), ratios: None };
//! let chosen = balance(&items, &rules, 0)?;
//! assert_eq!((chosen.kept.len(), chosen.sources["dvqa"].after_threshold), (5, 3));
//! # Ok::<(), burgess_base::Error>(())
//! ```

mod apportion;
mod cut;
mod ratios;
mod threshold;

pub use apportion::{apportion, fill};
pub use cut::Grouped;
pub(crate) use ratios::stream as ratio_stream;
pub use ratios::{KindCount, RatioPlan, Ratios, Shortfall, Within};
pub use threshold::{Threshold, ThresholdForm};

use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many entries of a group are kept, and which.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cut {
    /// All.
    All,
    /// The first ones, at most this many.
    First(u64),
    /// A sample of at most this many without replacement: each entry draws a number, and the smallest stay. This is
    /// reservoir sampling with equal weights (Efraimidis and Spirakis 2006).
    Sample(u64),
    /// Each with this probability.
    Probability(f64),
}

/// What a selection must know of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// The data source.
    pub source: &'a str,
    /// The kind of its source: `ocr`, `language`, …
    pub kind: &'a str,
    /// Whether it has an image.
    pub has_image: bool,
}

/// The rules that balance a selection, in the order in which they are applied.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Balance {
    /// Largest number of entries per source.
    pub threshold: Option<Threshold>,
    /// Shares of kinds.
    pub ratios: Option<Ratios>,
}

/// The number of entries of a source before and after each rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCount {
    /// Its kind; that of its first entry, if its entries are of several kinds.
    pub kind: String,
    /// Number of entries.
    pub before: u64,
    /// Number after the threshold.
    pub after_threshold: u64,
    /// Number after the ratios, which is that of the selection.
    pub after_ratios: u64,
}

/// A balanced selection.
#[derive(Debug, Clone, PartialEq)]
pub struct Balanced {
    /// Indices of the chosen items, ascending.
    pub kept: Vec<usize>,
    /// Counts by source.
    pub sources: BTreeMap<String, SourceCount>,
    /// Wanted and taken numbers of each kind; `None` without ratios.
    pub ratios: Option<RatioPlan>,
}

/// Chooses from items in memory by a threshold and ratios.
///
/// # Errors
/// A rule is contradictory, or there are too few entries and the ratios say that this is an error.
pub fn balance(items: &[Item<'_>], rules: &Balance, seed: u64) -> Result<Balanced> {
    // Groups are pairs of source and kind, numbered in the order of their names.
    let mut pairs: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for item in items {
        pairs.insert((item.source, item.kind), 0);
    }
    pairs.values_mut().zip(0..).for_each(|(number, at)| *number = at);
    let names: Vec<(&str, &str)> = pairs.keys().copied().collect();
    let group_of: Vec<usize> =
        items.iter().map(|item| pairs.get(&(item.source, item.kind)).copied().unwrap_or(usize::MAX)).collect();
    let mut alive = vec![true; items.len()];
    let mut sources: BTreeMap<String, SourceCount> = BTreeMap::new();
    for item in items {
        let count = sources.entry(item.source.to_string()).or_default();
        if count.before == 0 {
            count.kind = item.kind.to_string();
        }
        count.before += 1;
    }
    let remove = |alive: &mut [bool], removed: Vec<u32>| {
        for i in removed {
            if let Some(one) = alive.get_mut(i as usize) {
                *one = false;
            }
        }
    };
    let is_alive = |alive: &[bool], i: u32| alive.get(i as usize).copied().unwrap_or(false);
    let has_image = |i: u32| items.get(i as usize).is_some_and(|item| item.has_image);
    if let Some(rule) = &rules.threshold {
        rule.check()?;
        let numbers: BTreeMap<&str, usize> = sources.keys().map(String::as_str).zip(0..).collect();
        let number = |i: usize| items.get(i).and_then(|item| numbers.get(item.source)).copied().unwrap_or(usize::MAX);
        let grouped = Grouped::new(items.len(), numbers.len(), number)?;
        for (source, at) in &numbers {
            if rule.excepts(source, sources.get(*source).map_or("", |count| count.kind.as_str())) {
                continue;
            }
            let counts = |i: u32| is_alive(&alive, i) && (has_image(i) || !rule.multimodal_only);
            let count = grouped.members(*at).iter().filter(|i| counts(**i)).count() as u64;
            let removed = grouped.removed(*at, rule.cut(count), counts, &rule.stream(source), seed);
            remove(&mut alive, removed);
        }
    }
    let count = |alive: &[bool]| {
        let mut counts = vec![0u64; names.len()];
        for (group, _) in group_of.iter().zip(alive).filter(|(_, alive)| **alive) {
            if let Some(count) = counts.get_mut(*group) {
                *count += 1;
            }
        }
        counts
    };
    let add = |sources: &mut BTreeMap<String, SourceCount>, counts: &[u64], to: fn(&mut SourceCount) -> &mut u64| {
        for ((source, _), count) in names.iter().zip(counts) {
            if let Some(of) = sources.get_mut(*source) {
                *to(of) += count;
            }
        }
    };
    let counts = count(&alive);
    add(&mut sources, &counts, |of| &mut of.after_threshold);
    let mut plan = None;
    if let Some(rule) = &rules.ratios {
        let kinds: Vec<&str> = names.iter().map(|(_, kind)| *kind).collect();
        let (quotas, ratios) = rule.quotas(&kinds, &counts)?;
        let at = |i: usize| group_of.get(i).copied().unwrap_or(usize::MAX);
        let grouped = Grouped::new(items.len(), names.len(), at)?;
        for (group, ((source, kind), quota)) in names.iter().zip(quotas).enumerate() {
            let name = ratio_stream(source, kind);
            let removed = grouped.removed(group, Cut::Sample(quota), |i| is_alive(&alive, i), &name, seed);
            remove(&mut alive, removed);
        }
        plan = Some(ratios);
    }
    add(&mut sources, &count(&alive), |of| &mut of.after_ratios);
    let kept = (0..items.len()).filter(|i| alive.get(*i).copied().unwrap_or(false)).collect();
    Ok(Balanced { kept, sources, ratios: plan })
}

/// Returns an error of usage about a key of a rule.
fn wrong(key: &str, found: impl std::fmt::Display, expected: &str) -> Error {
    Error::usage(format!("`{key}` is {found}, expected {expected}"))
}

#[cfg(test)]
mod tests;
