//! The change by unfreezing: the paper's Fig. 13, recomputed from its tables.
//!
//! A group's change on a benchmark is the mean of its models' relative changes; a category's change is the same for the
//! category means. Twelve models are included; MoCo v3-L is in the tables but not in the figure. V*Star, and with it
//! the figure's Vision-centric and average rows, cannot be computed, because its scores are in no table.

use super::columns::{COLUMNS, SCOPE_COLUMNS};
use super::encoder_family::{EncoderFamily, number};
use super::score_table::TableRow;
use super::tables::{FROZEN, PaperTables, UNFROZEN};
use crate::stats;
use burgess_base::Result;
use serde::Serialize;

/// Catalogue number of the encoder that the figure leaves out: MoCo v3-L.
const LEFT_OUT: usize = 13;

/// Name of the row over all models.
pub const ALL: &str = "All models";

/// Columns of the figure that are, or include, V*Star.
pub const HAS_VSTAR: [&str; 3] = ["Avg", "V", "VStar"];

/// A change in percent; `rounding_error` is its maximum error due to the rounding of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ComputedChange {
    pub value: f64,
    #[serde(skip)]
    pub rounding_error: f64,
    /// Number of models in the mean.
    pub models: usize,
}

/// Returns a number of a row by its column in the figure, with its maximum rounding error.
fn read(row: &TableRow, column: &str) -> Option<(f64, f64)> {
    if let Some(scope) = SCOPE_COLUMNS.iter().position(|s| *s == column) {
        return Some((row.mean(scope)?, row.rounding_error(scope)));
    }
    if column == "CV" {
        return Some((row.cv_bench()?, row.scores.get(15)?.as_ref()?.half_unit()));
    }
    let i = COLUMNS.iter().position(|c| c.name == column)?;
    let half = row.scores.get(i)?.as_ref()?.half_unit();
    Some((row.percent(i)?, half * 100.0 / COLUMNS.get(i)?.highest))
}

/// Computes the change of a group ([`ALL`] or the name of a [`EncoderFamily`]) in a column of the figure; `None` if the tables
/// lack its scores.
///
/// # Errors
/// An error is returned if a table is missing.
pub fn change(published: &PaperTables, group: &str, column: &str) -> Result<Option<ComputedChange>> {
    let (frozen, unfrozen) = (published.table(FROZEN)?, published.table(UNFROZEN)?);
    let family = EncoderFamily::ALL.into_iter().find(|f| f.name() == group);
    let counts = |n: usize| n != LEFT_OUT && (group == ALL || EncoderFamily::of(n).is_some_and(|f| Some(f) == family));
    let models = unfrozen.rows.iter().filter_map(|u| {
        let n = number(&u.model).filter(|n| counts(*n))?;
        let ((after, da), (before, db)) = (read(u, column)?, read(frozen.encoder(n)?, column)?);
        let relative = |after: f64, before: f64| 100.0 * (after / before - 1.0);
        let value = relative(after, before);
        Some((value, relative(after + da, before - db) - value))
    });
    let (values, doubts): (Vec<f64>, Vec<f64>) = models.unzip();
    let mean = |v: &[f64]| stats::mean(v).filter(|m| m.is_finite());
    Ok(mean(&values).zip(mean(&doubts)).map(|(value, rounding_error)| ComputedChange {
        value,
        rounding_error,
        models: values.len(),
    }))
}
