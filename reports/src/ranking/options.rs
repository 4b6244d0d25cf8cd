//! Options of a ranking.

use burgess_base::{Error, Result};

/// Options of the ranking.
#[derive(Debug, Clone, PartialEq)]
pub struct RankOptions {
    /// Name of the study, for the report.
    pub study: String,
    /// Number of bootstrap replicates and of sign flips. Default 2000.
    pub replicates: usize,
    /// Seed of all random streams of the ranking. Default 0.
    pub seed: u64,
    /// Confidence level of the intervals, between 0 and 1; tests use 1 − confidence. Default 0.95.
    pub confidence: f64,
    /// Name of the arm with random weights, if its runs do not state that role. Default: the arm with one frozen
    /// encoder whose id ends in `-random`.
    pub random: Option<String>,
    /// Series of arms by name, each of which is compared with its first arm.
    pub series: Vec<Vec<String>>,
}

impl Default for RankOptions {
    fn default() -> Self {
        Self { study: String::new(), replicates: 2000, seed: 0, confidence: 0.95, random: None, series: Vec::new() }
    }
}

impl RankOptions {
    /// Checks the numbers.
    pub(crate) fn check(&self) -> Result<()> {
        if self.replicates == 0 || !(self.confidence > 0.0 && self.confidence < 1.0) {
            return Err(Error::usage("a ranking needs at least one replicate and a confidence between 0 and 1"));
        }
        Ok(())
    }
}
