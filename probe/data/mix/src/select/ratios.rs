//! Shares of kinds at a fixed total.

use super::{apportion, fill, wrong};
use crate::names::source_key;
use burgess_base::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What happens if a kind has fewer entries than its share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Shortfall {
    /// The other kinds are given the missing entries in proportion to their shares, so that the total stays
    /// (water-filling).
    #[default]
    Fill,
    /// The total becomes smaller; the other kinds keep their numbers.
    Smaller,
    /// An error.
    Error,
}

/// How the number of a kind is divided among its sources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Within {
    /// In proportion to their entries.
    #[default]
    Proportional,
    /// Evenly, as far as each has entries.
    Even,
}

/// Shares of kinds at a fixed total, as in the data-ratio experiments of Cambrian-1 (section 4.2).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ratios {
    /// Number of entries of the whole mix. Default: the largest at which no kind has too few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(!skip_serializing_if)]
    pub total: Option<u64>,
    /// Share of each kind, in any unit: only their proportions matter. A kind without a share gets no entries.
    pub shares: BTreeMap<String, f64>,
    /// What happens if a kind has fewer entries than its share: `fill` gives them to the other kinds, `smaller` makes
    /// the total smaller, `error` stops.
    #[serde(default)]
    pub shortfall: Shortfall,
    /// How the number of a kind is divided among its sources: `proportional` to their entries, or as `even` as they
    /// allow.
    #[serde(default)]
    pub within: Within,
}

/// The numbers of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KindCount {
    /// The kind.
    pub kind: String,
    /// Its share as it is written.
    pub share: f64,
    /// Number of entries that this share of the total is, after division by the sum of all shares.
    pub wanted: u64,
    /// Number of entries that there are.
    pub available: u64,
    /// Number of entries that are taken.
    pub taken: u64,
}

/// The numbers of all kinds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RatioPlan {
    /// Number of entries that the rule asks for.
    pub total: u64,
    /// Sum of the shares as they are written.
    pub sum_of_shares: f64,
    /// Counts by kind, in the order of their names.
    pub kinds: Vec<KindCount>,
    /// Number of entries of kinds without a share, which are all left out.
    pub without_share: u64,
}

impl RatioPlan {
    /// Number of entries that are taken.
    pub fn taken(&self) -> u64 {
        self.kinds.iter().map(|kind| kind.taken).sum()
    }

    /// Sentences about what differs from the rule: shares that do not sum to 100 (or 1), kinds with too few entries,
    /// entries of kinds without a share.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let sum = self.sum_of_shares;
        if (sum - 100.0).abs() > 1e-9 && (sum - 1.0).abs() > 1e-9 {
            let sum = (sum * 1e9).round() / 1e9;
            notes.push(format!("the shares sum to {sum}; each is divided by this sum, so that the total is met"));
        }
        for kind in self.kinds.iter().filter(|kind| kind.available < kind.wanted) {
            notes.push(format!(
                "`{}` has {} entries, its share is {}: {} are missing",
                kind.kind,
                kind.available,
                kind.wanted,
                kind.wanted - kind.available
            ));
        }
        let taken = self.taken();
        if taken < self.total {
            notes.push(format!("the mix has {taken} entries, {} fewer than the total", self.total - taken));
        } else if self.kinds.iter().any(|kind| kind.taken > kind.wanted) {
            notes.push("the other kinds were given the missing entries in proportion to their shares".into());
        }
        if self.without_share > 0 {
            notes.push(format!("{} entries are of kinds without a share and are left out", self.without_share));
        }
        notes
    }
}

/// Units per 1 of a share: shares are compared as whole numbers, so that the parts are exact.
const UNITS: f64 = 1e9;
/// Largest share.
const LARGEST: f64 = 1e9;

impl Ratios {
    /// Checks the values.
    ///
    /// # Errors
    /// There is no positive share, a share is negative or not a number, two names mean one kind, or the total is 0.
    pub fn check(&self) -> Result<()> {
        if self.total == Some(0) {
            return Err(wrong("total", 0, "at least 1").hint("leave it out for the largest total that is possible"));
        }
        for (kind, share) in &self.shares {
            if !(0.0..=LARGEST).contains(share) {
                return Err(wrong(&format!("shares.{kind}"), share, "a number between 0 and 1e9"));
            }
        }
        let mut keys: Vec<(String, &String)> = self.shares.keys().map(|kind| (source_key(kind), kind)).collect();
        keys.sort();
        for pair in keys.windows(2) {
            if let [(a, first), (b, second)] = pair
                && a == b
            {
                let text = format!("`shares` has both `{first}` and `{second}`, which are one kind");
                return Err(Error::usage(text).hint("remove one of the two"));
            }
        }
        match self.shares.values().any(|share| units(*share) > 0) {
            true => Ok(()),
            false => Err(Error::usage("`shares` has no positive share").hint("write a share per kind: `ocr = 27.22`")),
        }
    }

    /// Divides the total among groups; `kinds` and `counts` are the kind and the number of entries of each group.
    /// Returns the number of each group, and the numbers of the kinds.
    ///
    /// # Errors
    /// As [`Ratios::check`], or a kind has too few entries and `shortfall` is `error`.
    pub fn quotas(&self, kinds: &[&str], counts: &[u64]) -> Result<(Vec<u64>, RatioPlan)> {
        self.check()?;
        let names: Vec<&String> = self.shares.keys().collect();
        let shares: Vec<f64> = self.shares.values().copied().collect();
        let weights: Vec<u64> = shares.iter().map(|share| units(*share)).collect();
        let keys: BTreeMap<String, usize> = names.iter().map(|name| source_key(name)).zip(0..).collect();
        let kind_of: Vec<Option<usize>> = kinds.iter().map(|kind| keys.get(&source_key(kind)).copied()).collect();
        let mut available = vec![0u64; names.len()];
        let mut without_share = 0;
        for (kind, count) in kind_of.iter().zip(counts) {
            match kind.and_then(|at| available.get_mut(at)) {
                Some(sum) => *sum += count,
                None => without_share += count,
            }
        }
        let total = self.total.unwrap_or_else(|| largest_total(&weights, &available));
        let wanted = apportion(total, &weights);
        let taken = match self.shortfall {
            Shortfall::Fill => fill(total, &weights, &available),
            Shortfall::Smaller | Shortfall::Error => {
                wanted.iter().zip(&available).map(|(wanted, there)| *wanted.min(there)).collect()
            }
        };
        let numbers = wanted.iter().zip(&available).zip(&taken);
        let kinds = names.iter().zip(&shares).zip(numbers).map(|((kind, share), ((wanted, available), taken))| {
            KindCount { kind: (*kind).clone(), share: *share, wanted: *wanted, available: *available, taken: *taken }
        });
        let kinds = kinds.collect();
        let plan = RatioPlan { total, sum_of_shares: shares.iter().sum(), kinds, without_share };
        if self.shortfall == Shortfall::Error
            && let Some(few) = plan.kinds.iter().find(|kind| kind.available < kind.wanted)
        {
            return Err(Error::failed(format!(
                "the kind `{}` has {} entries, its share of {total} is {}",
                few.kind, few.available, few.wanted
            ))
            .hint("lower `total`, change the share, or set `shortfall` to \"fill\" or \"smaller\""));
        }
        let mut quotas = vec![0u64; counts.len()];
        for (at, taken) in taken.iter().enumerate() {
            let groups: Vec<usize> =
                kind_of.iter().enumerate().filter(|(_, kind)| **kind == Some(at)).map(|(group, _)| group).collect();
            let sizes: Vec<u64> = groups.iter().filter_map(|group| counts.get(*group)).copied().collect();
            let parts = match self.within {
                // At most the size of each, because the number of the kind is at most the sum of the sizes.
                Within::Proportional => fill(*taken, &sizes, &sizes),
                Within::Even => fill(*taken, &vec![1; sizes.len()], &sizes),
            };
            for (group, part) in groups.into_iter().zip(parts) {
                if let Some(quota) = quotas.get_mut(group) {
                    *quota = part;
                }
            }
        }
        Ok((quotas, plan))
    }
}

/// A share as a whole number of [`UNITS`].
fn units(share: f64) -> u64 {
    // Checked before: at most 1e18.
    (share * UNITS).round() as u64
}

/// The largest total of which no kind's part exceeds what there is.
fn largest_total(weights: &[u64], available: &[u64]) -> u64 {
    let sum: u128 = weights.iter().map(|w| u128::from(*w)).sum();
    let bound = |(weight, there): (&u64, &u64)| u128::from(*there) * sum / u128::from(*weight);
    let least = weights.iter().zip(available).filter(|(weight, _)| **weight > 0).map(bound).min();
    let mut total = u64::try_from(least.unwrap_or(0)).unwrap_or(u64::MAX);
    // A remainder may round a part up.
    while total > 0 && apportion(total, weights).iter().zip(available).any(|(part, there)| part > there) {
        total -= 1;
    }
    total
}

/// The name of the random stream of a group.
pub(crate) fn stream(source: &str, kind: &str) -> String {
    format!("mix ratio {} {}", source_key(kind), source_key(source))
}
