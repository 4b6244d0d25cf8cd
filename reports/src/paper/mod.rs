//! The tables of the Cambrian-1 paper (`reports/published/`), with all derived numbers recomputed.
//!
//! The numbers are from arXiv 2406.16860 and its project page; `reports/published/README.md` and [`TABLES`] say which
//! file is which table. [`PaperTables::checks`] compares the computed numbers with the printed ones.

mod checks;
mod columns;
mod correlation_distance;
mod csv_sheet;
mod encoder_family;
mod lists;
mod printed_changes;
mod recomputed;
mod score_table;
mod tables;
mod unfreezing;

pub use checks::{NumberCheck, NumberKind};
pub use columns::{COLUMNS, PaperColumn, SCOPE_COLUMNS, SCOPES};
pub use correlation_distance::CorrelationDistance;
pub use csv_sheet::{CsvSheet, PrintAgreement, PrintedNumber};
pub use encoder_family::{EncoderFamily, number, short};
pub use lists::{DisabledScores, ExactMeans, PrintedCorrelations, PrintedRanks};
pub use printed_changes::PrintedChange;
pub use recomputed::{CheckCount, RecomputedModel, RecomputedPaper, RecomputedTable, UnfreezingChange};
pub use score_table::{ScoreTable, TableRow, matrix, ranks};
pub use tables::{ADAPTER, FROZEN, PRINTS_MEANS, PaperTables, TABLES, TableSource, UNFROZEN};
