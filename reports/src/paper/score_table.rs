//! A table of scores: models by benchmarks.

use super::columns::{COLUMNS, PaperColumn, SCOPE_COLUMNS};
use super::csv_sheet::{CsvSheet, PrintedNumber};
use super::encoder_family::{number, short};
use crate::analysis::{BenchmarkLabel, ScoreMatrix};
use burgess_base::Result;

/// One model of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableRow {
    /// Name of the model.
    pub model: String,
    /// Scores by [`COLUMNS`], on their own scales.
    pub scores: Vec<Option<PrintedNumber>>,
    /// Printed means by scope: the average as printed in the paper, the category means as given in the file.
    pub printed: [Option<PrintedNumber>; 5],
}

impl TableRow {
    /// Returns the columns of a scope.
    fn within(scope: usize) -> impl Iterator<Item = (usize, &'static PaperColumn)> {
        COLUMNS.iter().enumerate().filter(move |(_, c)| scope == 0 || c.category.rank() + 1 == scope)
    }

    /// Returns the score of a column in percent.
    pub fn percent(&self, column: usize) -> Option<f64> {
        let highest = COLUMNS.get(column)?.highest;
        self.scores.get(column).copied().flatten().map(|p| p.value / (highest / 100.0))
    }

    /// Returns the mean over the columns of a scope (see `SCOPES`), in percent; `None` if one is missing.
    pub fn mean(&self, scope: usize) -> Option<f64> {
        let values = Self::within(scope).map(|(i, _)| self.percent(i)).collect::<Option<Vec<f64>>>()?;
        crate::stats::mean(&values)
    }

    /// Returns the maximum error of [`TableRow::mean`] that the rounding of the columns causes, in points.
    pub fn rounding_error(&self, scope: usize) -> f64 {
        let halves = Self::within(scope)
            .filter_map(|(i, c)| self.scores.get(i).copied().flatten().map(|p| p.half_unit() / (c.highest / 100.0)));
        crate::stats::mean(&halves.collect::<Vec<_>>()).unwrap_or(0.0)
    }
}

/// A table of scores.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreTable {
    /// Name of the CSV file.
    pub file: String,
    /// Number of the table in the paper, such as `Table 9`.
    pub number: String,
    /// Subject of the table.
    pub about: String,
    /// The models, in the order of the paper.
    pub rows: Vec<TableRow>,
}

impl ScoreTable {
    /// Parses a table of scores.
    ///
    /// # Errors
    /// The errors are those of [`CsvSheet::parse`]; also, columns other than the paper's, and scores outside their
    /// scale.
    pub fn parse(file: &str, number: &str, about: &str, text: &str) -> Result<Self> {
        let sheet = CsvSheet::parse(file, text)?;
        let mut header = vec!["Model", SCOPE_COLUMNS[0]];
        header.extend(COLUMNS.iter().map(|c| c.name));
        header.extend(&SCOPE_COLUMNS[1..]);
        sheet.expect(&header)?;
        let mut rows = Vec::with_capacity(sheet.count());
        for (row, model) in sheet.names(0)?.into_iter().enumerate() {
            let within = |column: usize, highest: f64| -> Result<Option<PrintedNumber>> {
                let number = sheet.number(row, column)?;
                match number {
                    Some(n) if !(0.0..=highest).contains(&n.value) => {
                        Err(sheet.wrong(row, column, &format!("{} is not between 0 and {highest}", n.text())))
                    }
                    _ => Ok(number),
                }
            };
            let scores = COLUMNS.iter().enumerate().map(|(i, c)| within(i + 2, c.highest)).collect::<Result<_>>()?;
            let mut printed = [within(1, 100.0)?, None, None, None, None];
            for (i, slot) in printed.iter_mut().enumerate().skip(1) {
                *slot = within(COLUMNS.len() + 1 + i, 100.0)?;
            }
            rows.push(TableRow { model, scores, printed });
        }
        Ok(Self { file: file.into(), number: number.into(), about: about.into(), rows })
    }

    /// Returns the row of this catalogue encoder.
    pub fn encoder(&self, wanted: usize) -> Option<&TableRow> {
        self.rows.iter().find(|r| number(&r.model) == Some(wanted))
    }

    /// Returns the rank of each row in a scope, 1 for the highest; `None` if the scope has no mean.
    pub fn ranks(&self, scope: usize) -> Vec<Option<usize>> {
        ranks(&self.rows.iter().map(|r| r.mean(scope)).collect::<Vec<_>>())
    }

    /// Returns the models' scores in percent on the sixteen columns.
    ///
    /// # Errors
    /// The errors are those of [`ScoreMatrix::new`].
    pub fn matrix(&self) -> Result<ScoreMatrix> {
        matrix(&[self])
    }
}

/// Returns the rows of several tables as one matrix; with more than one table, names include the table's number.
///
/// # Errors
/// The errors are those of [`ScoreMatrix::new`].
pub fn matrix(tables: &[&ScoreTable]) -> Result<ScoreMatrix> {
    let rows = || tables.iter().flat_map(|t| t.rows.iter().map(move |r| (t, r)));
    let name = |t: &ScoreTable, r: &TableRow| match tables.len() {
        1 => short(&r.model).to_string(),
        _ => format!("{} ({})", short(&r.model), t.number),
    };
    let benchmarks = COLUMNS.iter().map(|c| BenchmarkLabel { name: c.benchmark.into(), category: c.category.clone() });
    ScoreMatrix::new(
        rows().map(|(t, r)| name(t, r)).collect(),
        benchmarks.collect(),
        rows().map(|(_, r)| (0..COLUMNS.len()).map(|c| r.percent(c)).collect()).collect(),
    )
}

/// Returns ranks from 1 for the highest; equal values share the better rank.
pub fn ranks(values: &[Option<f64>]) -> Vec<Option<usize>> {
    let above = |v: f64| values.iter().flatten().filter(|o| **o > v).count();
    values.iter().map(|v| v.map(|v| above(v) + 1)).collect()
}
