//! The paper's tables and lists, which are built into this program.

use super::lists::{self, DisabledScores, ExactMeans, PrintedCorrelations, PrintedRanks};
use super::printed_changes::{self, PrintedChange};
use super::score_table::ScoreTable;
use burgess_base::{Error, Result};

/// A table of scores: file name, number in the paper (NeurIPS version), subject, and content.
pub struct TableSource {
    /// Name of the CSV file.
    pub file: &'static str,
    /// Number of the table in the paper, such as `Table 9`.
    pub number: &'static str,
    /// Subject of the table.
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
        TableSource { file: $file, number: $number, about: $about, text: text!($file) }
    };
}

/// The paper's tables of scores.
pub const TABLES: [TableSource; 9] = [
    source!("adapter-0m-frozen.csv", "Table 9", "No align stage, encoder frozen"),
    source!("adapter-0.5m-frozen.csv", "Table 10", "0.5M adapter samples, encoder frozen"),
    source!("adapter-1.2m-frozen.csv", "Table 11", "1.2M adapter samples, encoder frozen"),
    source!("adapter-1.2m-unfrozen.csv", "Table 12", "1.2M adapter samples, encoder unfrozen"),
    source!("adapter-1.2m-instruct-5m.csv", "Table 13", "1.2M adapter samples, 5M instructions"),
    source!("combinations-1.2m-frozen.csv", "Table 14", "Combinations of encoders, 1.2M adapter samples, frozen"),
    source!("balance-threshold.csv", "Table 17", "Maximum number of samples per data source"),
    source!("data-ratio.csv", "Table 18", "Mixing ratios of the instruction data"),
    source!("final-models.csv", "Table 4", "The final models compared with others"),
];

/// Files of the adapter tables, by number of adapter samples.
pub const ADAPTER: [(&str, &str); 3] =
    [("0M", "adapter-0m-frozen.csv"), ("0.5M", "adapter-0.5m-frozen.csv"), ("1.2M", "adapter-1.2m-frozen.csv")];

/// The table by which the paper ranks encoders, and the same with unfrozen encoders.
pub const FROZEN: &str = "adapter-1.2m-frozen.csv";

/// File of the same encoders, trained in the tune stage.
pub const UNFROZEN: &str = "adapter-1.2m-unfrozen.csv";

/// The only table in which the paper prints category means.
pub const PRINTS_MEANS: &str = "final-models.csv";

/// All published tables and lists.
#[derive(Debug, Clone, PartialEq)]
pub struct PaperTables {
    /// The tables of scores.
    pub tables: Vec<ScoreTable>,
    /// Category means with all digits.
    pub exact: Vec<ExactMeans>,
    /// Printed ranks.
    pub ranks: Vec<PrintedRanks>,
    /// Scores without vision and of guessing.
    pub disabled: Vec<DisabledScores>,
    /// Printed correlations of the benchmarks.
    pub correlations: PrintedCorrelations,
    /// Printed changes by unfreezing.
    pub unfreezing: Vec<PrintedChange>,
}

impl PaperTables {
    /// Parses the tables, which are built into this program.
    ///
    /// # Errors
    /// An error is returned if a built-in table is malformed; it names file, line and column.
    pub fn load() -> Result<Self> {
        let tables =
            TABLES.iter().map(|s| ScoreTable::parse(s.file, s.number, s.about, s.text)).collect::<Result<_>>()?;
        Ok(Self {
            tables,
            exact: lists::exact("categories-1.2m-frozen.csv", text!("categories-1.2m-frozen.csv"))?,
            ranks: lists::ranked("ranks-1.2m-frozen.csv", text!("ranks-1.2m-frozen.csv"))?,
            disabled: lists::disabled("vision-disabled.csv", text!("vision-disabled.csv"))?,
            correlations: lists::correlations("correlation.csv", text!("correlation.csv"))?,
            unfreezing: printed_changes::parse("unfreezing-change.csv", text!("unfreezing-change.csv"))?,
        })
    }

    /// Returns the table of this file.
    ///
    /// # Errors
    /// An error is returned if there is no such table.
    pub fn table(&self, file: &str) -> Result<&ScoreTable> {
        self.tables.iter().find(|t| t.file == file).ok_or_else(|| Error::failed(format!("no published table {file}")))
    }
}
