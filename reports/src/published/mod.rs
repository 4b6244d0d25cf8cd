//! The tables of the Cambrian-1 paper (`reports/published/`), with all derived numbers recomputed.
//!
//! The numbers are from arXiv 2406.16860 and its project page; `reports/published/README.md` and [`TABLES`] say which
//! file is which table. [`Published::checks`] compares the computed numbers with the printed ones.

pub mod checks;
pub mod compared;
mod lists;
pub mod outcome;
pub mod sheet;
pub mod unfreezing;

pub use checks::{Check, Kind};
pub use compared::Beside;
pub use outcome::{Outcome, Standing, Standings, Tally};
pub use sheet::{Agreement, Printed, Sheet};

use crate::analysis::{Benchmark, Matrix};
use burgess_base::{Category, Error, Result};
use serde::Serialize;

/// One of the sixteen benchmark columns that the paper averages.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Column {
    /// Name of the column in the CSVs.
    pub name: &'static str,
    /// Name of the benchmark in text.
    pub benchmark: &'static str,
    /// Category of the benchmark.
    pub category: &'static Category,
    /// Maximum of its own scale; averages are over percentages.
    pub highest: f64,
}

const fn column(name: &'static str, benchmark: &'static str, category: &'static Category) -> Column {
    Column { name, benchmark, category, highest: 100.0 }
}

/// The sixteen columns, four of each category in the order of the categories.
pub const COLUMNS: [Column; 16] = [
    Column { highest: 2000.0, ..column("MME", "MME", &Category::GENERAL) },
    column("MMB", "MMBench", &Category::GENERAL),
    column("SEED", "SEED-I", &Category::GENERAL),
    column("GQA", "GQA", &Category::GENERAL),
    column("SQA", "ScienceQA", &Category::KNOWLEDGE),
    column("MMMU", "MMMU", &Category::KNOWLEDGE),
    column("MV", "MathVista", &Category::KNOWLEDGE),
    column("AI2D", "AI2D", &Category::KNOWLEDGE),
    column("Chart", "ChartQA", &Category::OCR_CHART),
    column("OCRB", "OCRBench", &Category::OCR_CHART),
    column("TextV", "TextVQA", &Category::OCR_CHART),
    column("DocV", "DocVQA", &Category::OCR_CHART),
    column("MMVP", "MMVP", &Category::VISION_CENTRIC),
    column("RWQA", "RealWorldQA", &Category::VISION_CENTRIC),
    column("2D", "CV-Bench 2D", &Category::VISION_CENTRIC),
    column("3D", "CV-Bench 3D", &Category::VISION_CENTRIC),
];

/// The scopes of a ranking: the average, then the categories.
pub const SCOPES: [&str; 5] = [
    "Average",
    Category::GENERAL.as_str(),
    Category::KNOWLEDGE.as_str(),
    Category::OCR_CHART.as_str(),
    Category::VISION_CENTRIC.as_str(),
];

/// Names of the scopes' columns in the CSVs.
pub const SCOPE_COLUMNS: [&str; 5] = ["Avg", "G", "K", "O", "V"];

/// A table of scores: file name, number in the paper (NeurIPS version), subject, and content.
pub struct Source {
    pub file: &'static str,
    pub number: &'static str,
    pub about: &'static str,
    text: &'static str,
}

macro_rules! text {
    ($file:literal) => {
        include_str!(concat!("../../published/", $file))
    };
}

macro_rules! source {
    ($file:literal, $number:literal, $about:literal) => {
        Source { file: $file, number: $number, about: $about, text: text!($file) }
    };
}

/// The paper's tables of scores.
pub const TABLES: [Source; 9] = [
    source!("adapter-0m-frozen.csv", "Table 9", "No align stage, encoder frozen"),
    source!("adapter-0.5m-frozen.csv", "Table 10", "0.5M adapter samples, encoder frozen"),
    source!("adapter-1.2m-frozen.csv", "Table 11", "1.2M adapter samples, encoder frozen"),
    source!("adapter-1.2m-unfrozen.csv", "Table 12", "1.2M adapter samples, encoder unfrozen"),
    source!("adapter-1.2m-instruct-5m.csv", "Table 13", "1.2M adapter samples, 5M instructions"),
    source!("combinations-1.2m-frozen.csv", "Table 14", "Combinations of encoders, 1.2M adapter samples, frozen"),
    source!("balance-threshold.csv", "Table 17", "How many samples one source may give"),
    source!("data-ratio.csv", "Table 18", "Mixing ratios of the instruction data"),
    source!("final-models.csv", "Table 4", "The final models beside others"),
];

/// Files of the adapter tables, by number of adapter samples.
pub const ADAPTER: [(&str, &str); 3] =
    [("0M", "adapter-0m-frozen.csv"), ("0.5M", "adapter-0.5m-frozen.csv"), ("1.2M", "adapter-1.2m-frozen.csv")];

/// The table by which the paper ranks encoders, and the same with unfrozen encoders.
pub const FROZEN: &str = "adapter-1.2m-frozen.csv";
pub const UNFROZEN: &str = "adapter-1.2m-unfrozen.csv";

/// The only table in which the paper prints category means.
pub const PRINTS_MEANS: &str = "final-models.csv";

/// The kind of supervision of an encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Family {
    #[serde(rename = "language-supervised")]
    Language,
    #[serde(rename = "self-supervised")]
    Itself,
    #[serde(rename = "other")]
    Other,
}

impl Family {
    pub const ALL: [Family; 3] = [Family::Language, Family::Itself, Family::Other];

    /// Returns the family's name in the paper.
    pub fn name(self) -> &'static str {
        match self {
            Family::Language => "Language-supervised",
            Family::Itself => "Self-supervised",
            Family::Other => "Other",
        }
    }

    /// Returns the family of the encoder with this number in the paper's catalogue (Table 6), which is grouped by
    /// family.
    pub fn of(number: usize) -> Option<Self> {
        match number {
            1..=9 => Some(Family::Language),
            10..=16 => Some(Family::Itself),
            17..=23 => Some(Family::Other),
            _ => None,
        }
    }
}

/// Returns the catalogue number with which a model's name begins: 6 for `6 SigLIP-SO400M/14@384`.
pub fn number(model: &str) -> Option<usize> {
    model.split_once(' ').and_then(|(n, _)| n.parse().ok()).filter(|n| Family::of(*n).is_some())
}

/// Returns a model's name without its catalogue number.
pub fn short(model: &str) -> &str {
    match (number(model), model.split_once(' ')) {
        (Some(_), Some((_, name))) => name,
        _ => model,
    }
}

/// One model of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub model: String,
    /// Scores by [`COLUMNS`], on their own scales.
    pub scores: Vec<Option<Printed>>,
    /// Printed means by scope: the average as printed in the paper, the category means as given in the file.
    pub printed: [Option<Printed>; 5],
}

impl Row {
    /// Returns the columns of a scope.
    fn within(scope: usize) -> impl Iterator<Item = (usize, &'static Column)> {
        COLUMNS.iter().enumerate().filter(move |(_, c)| scope == 0 || c.category.rank() + 1 == scope)
    }

    /// Returns the score of a column in percent.
    pub fn percent(&self, column: usize) -> Option<f64> {
        let highest = COLUMNS.get(column)?.highest;
        self.scores.get(column).copied().flatten().map(|p| p.value / (highest / 100.0))
    }

    /// Returns the mean over the columns of a scope (see [`SCOPES`]), in percent; `None` if one is missing.
    pub fn mean(&self, scope: usize) -> Option<f64> {
        let values = Self::within(scope).map(|(i, _)| self.percent(i)).collect::<Option<Vec<f64>>>()?;
        crate::stats::mean(&values)
    }

    /// Returns the maximum error of [`Row::mean`] that the rounding of the columns causes, in points.
    pub fn doubt(&self, scope: usize) -> f64 {
        let halves = Self::within(scope)
            .filter_map(|(i, c)| self.scores.get(i).copied().flatten().map(|p| p.half_unit() / (c.highest / 100.0)));
        crate::stats::mean(&halves.collect::<Vec<_>>()).unwrap_or(0.0)
    }

    /// Returns CV-Bench as one score in percent, as in the paper's figures.
    pub fn cv_bench(&self) -> Option<f64> {
        Some((self.percent(14)? + self.percent(15)?) / 2.0)
    }
}

/// A table of scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub file: String,
    pub number: String,
    pub about: String,
    pub rows: Vec<Row>,
}

impl Table {
    /// Parses a table of scores.
    ///
    /// # Errors
    /// The errors are those of [`Sheet::parse`]; also, columns other than the paper's, and scores outside their scale.
    pub fn parse(file: &str, number: &str, about: &str, text: &str) -> Result<Self> {
        let sheet = Sheet::parse(file, text)?;
        let mut header = vec!["Model", SCOPE_COLUMNS[0]];
        header.extend(COLUMNS.iter().map(|c| c.name));
        header.extend(&SCOPE_COLUMNS[1..]);
        sheet.expect(&header)?;
        let mut rows = Vec::with_capacity(sheet.count());
        for (row, model) in sheet.names(0)?.into_iter().enumerate() {
            let within = |column: usize, highest: f64| -> Result<Option<Printed>> {
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
            rows.push(Row { model, scores, printed });
        }
        Ok(Self { file: file.into(), number: number.into(), about: about.into(), rows })
    }

    /// Returns the row of this catalogue encoder.
    pub fn encoder(&self, wanted: usize) -> Option<&Row> {
        self.rows.iter().find(|r| number(&r.model) == Some(wanted))
    }

    /// Returns the rank of each row in a scope, 1 for the highest; `None` if the scope has no mean.
    pub fn ranks(&self, scope: usize) -> Vec<Option<usize>> {
        ranks(&self.rows.iter().map(|r| r.mean(scope)).collect::<Vec<_>>())
    }

    /// Returns the models' scores in percent on the sixteen columns.
    ///
    /// # Errors
    /// The errors are those of [`Matrix::new`].
    pub fn matrix(&self) -> Result<Matrix> {
        matrix(&[self])
    }
}

/// Returns the rows of several tables as one matrix; with more than one table, names include the table's number.
///
/// # Errors
/// The errors are those of [`Matrix::new`].
pub fn matrix(tables: &[&Table]) -> Result<Matrix> {
    let rows = || tables.iter().flat_map(|t| t.rows.iter().map(move |r| (t, r)));
    let name = |t: &Table, r: &Row| match tables.len() {
        1 => short(&r.model).to_string(),
        _ => format!("{} ({})", short(&r.model), t.number),
    };
    let benchmarks = COLUMNS.iter().map(|c| Benchmark { name: c.benchmark.into(), category: c.category.clone() });
    Matrix::new(
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

/// Category means of a model at full precision, from the project page.
#[derive(Debug, Clone, PartialEq)]
pub struct Exact {
    pub model: String,
    /// Means by category.
    pub means: [Printed; 4],
}

impl Exact {
    /// Returns the mean of a scope.
    pub fn mean(&self, scope: usize) -> f64 {
        match scope.checked_sub(1).and_then(|c| self.means.get(c)) {
            Some(one) => one.value,
            None => self.means.iter().map(|m| m.value).sum::<f64>() / 4.0,
        }
    }
}

/// Printed ranks of a model, within one of the paper's two lists.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    pub list: String,
    pub model: String,
    /// Ranks by scope.
    pub ranks: [Printed; 5],
}

/// Scores without vision and at random of one benchmark, read from a figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Disabled {
    /// The benchmark, as index into [`COLUMNS`].
    pub column: usize,
    pub random: f64,
    pub disabled: f64,
    /// Enabled − disabled, which is the height of the upper bar.
    pub gain: f64,
}

/// Printed correlations of the benchmarks, with CV-Bench as one of them.
#[derive(Debug, Clone, PartialEq)]
pub struct PrintedCorrelations {
    /// Names of the benchmarks in the CSVs.
    pub names: Vec<String>,
    /// The symmetric matrix of correlations.
    pub values: Vec<Vec<f64>>,
}

/// All published tables and lists.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    pub tables: Vec<Table>,
    pub exact: Vec<Exact>,
    pub ranks: Vec<Ranked>,
    pub disabled: Vec<Disabled>,
    pub correlations: PrintedCorrelations,
    pub unfreezing: Vec<unfreezing::Change>,
}

impl Published {
    /// Parses the tables, which are built into this program.
    ///
    /// # Errors
    /// An error is returned if a built-in table is malformed; it names file, line and column.
    pub fn load() -> Result<Self> {
        let tables = TABLES.iter().map(|s| Table::parse(s.file, s.number, s.about, s.text)).collect::<Result<_>>()?;
        Ok(Self {
            tables,
            exact: lists::exact("categories-1.2m-frozen.csv", text!("categories-1.2m-frozen.csv"))?,
            ranks: lists::ranked("ranks-1.2m-frozen.csv", text!("ranks-1.2m-frozen.csv"))?,
            disabled: lists::disabled("vision-disabled.csv", text!("vision-disabled.csv"))?,
            correlations: lists::correlations("correlation.csv", text!("correlation.csv"))?,
            unfreezing: unfreezing::parse("unfreezing-change.csv", text!("unfreezing-change.csv"))?,
        })
    }

    /// Returns the table of this file.
    ///
    /// # Errors
    /// An error is returned if there is no such table.
    pub fn table(&self, file: &str) -> Result<&Table> {
        self.tables.iter().find(|t| t.file == file).ok_or_else(|| Error::failed(format!("no published table {file}")))
    }
}
