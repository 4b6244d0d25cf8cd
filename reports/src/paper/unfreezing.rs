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

/// The change by unfreezing of a group of models, computed from the tables.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ComputedChange {
    /// The change, in percent.
    pub value: f64,
    /// Maximum error of `value` that the rounding of the tables causes.
    #[serde(skip)]
    pub rounding_error: f64,
    /// Number of models in the mean.
    pub models: usize,
}

/// The two columns of CV-Bench, which is one benchmark in the paper's figures.
const CV_BENCH: [&str; 2] = ["2D", "3D"];

/// Returns the score of a benchmark column in percent, with its maximum rounding error.
fn percent(row: &TableRow, column: &str) -> Option<(f64, f64)> {
    let i = COLUMNS.iter().position(|c| c.name == column)?;
    let half = row.scores.get(i)?.as_ref()?.half_unit();
    Some((row.percent(i)?, half * 100.0 / COLUMNS.get(i)?.highest))
}

/// Returns a number of a row by its column in the figure, with its maximum rounding error.
fn read(row: &TableRow, column: &str) -> Option<(f64, f64)> {
    if let Some(scope) = SCOPE_COLUMNS.iter().position(|s| *s == column) {
        return Some((row.mean(scope)?, row.rounding_error(scope)));
    }
    if column == "CV" {
        let [(flat, flat_error), (deep, deep_error)] = [percent(row, CV_BENCH[0])?, percent(row, CV_BENCH[1])?];
        return Some(((flat + deep) / 2.0, (flat_error + deep_error) / 2.0));
    }
    percent(row, column)
}

/// Computes the change of a group ([`ALL`] or the name of a [`EncoderFamily`]) in a column of the figure; `None` if the
/// tables lack its scores.
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
    let (values, errors): (Vec<f64>, Vec<f64>) = models.unzip();
    let mean = |v: &[f64]| stats::mean(v).filter(|m| m.is_finite());
    Ok(mean(&values).zip(mean(&errors)).map(|(value, rounding_error)| ComputedChange {
        value,
        rounding_error,
        models: values.len(),
    }))
}
