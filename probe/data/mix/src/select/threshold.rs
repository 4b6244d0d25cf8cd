//! The threshold t: the largest number of entries of a source.

use super::{Cut, wrong};
use crate::names::source_key;
use burgess_base::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which entries of a source a threshold keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ThresholdForm {
    /// The first t in the order of the pools.
    First,
    /// A seeded sample of t.
    #[default]
    Reservoir,
    /// Each entry with the probability min(1, t / count), as MetaCLIP balances its metadata: about t.
    Soft,
}

/// A threshold per source, as Cambrian-1 balances its data (arXiv:2406.16860, section 4.2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// Largest number of entries of a source.
    pub t: u64,
    /// Which entries are kept: the `first` t, a seeded `reservoir` sample of t, or `soft`: each with the probability
    /// min(1, t / count).
    #[serde(default)]
    pub how: ThresholdForm,
    /// Whether only entries with an image are counted and cut; all others are kept.
    #[serde(default)]
    pub multimodal_only: bool,
    /// Names of sources and kinds that are kept whole.
    #[serde(default)]
    pub except: Vec<String>,
}

impl Threshold {
    /// Checks the values.
    ///
    /// # Errors
    /// `t` is 0.
    pub fn check(&self) -> Result<()> {
        match self.t {
            0 => Err(wrong("t", 0, "at least 1").hint("leave out the whole table to keep all entries")),
            _ => Ok(()),
        }
    }

    /// Returns whether a source is kept whole, by its name or its kind.
    pub fn excepts(&self, source: &str, kind: &str) -> bool {
        let (source, kind) = (source_key(source), source_key(kind));
        self.except.iter().map(|name| source_key(name)).any(|name| name == source || name == kind)
    }

    /// Returns the cut of a source with `count` entries.
    pub fn cut(&self, count: u64) -> Cut {
        match self.how {
            _ if count <= self.t => Cut::All,
            ThresholdForm::First => Cut::First(self.t),
            ThresholdForm::Reservoir => Cut::Sample(self.t),
            ThresholdForm::Soft => Cut::Probability(self.t as f64 / count as f64),
        }
    }

    /// Returns the number of entries that are expected to stay of `count`: exact for a hard cut, the mean for `soft`.
    pub fn expected(&self, count: u64) -> u64 {
        count.min(self.t)
    }

    /// The name of the random stream of a source.
    pub fn stream(&self, source: &str) -> String {
        format!("mix threshold {}", source_key(source))
    }
}
