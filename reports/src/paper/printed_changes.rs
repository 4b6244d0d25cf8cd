//! The changes by unfreezing that the paper's Fig. 13 prints.

use super::csv_sheet::{CsvSheet, PrintedNumber};
use burgess_base::Result;

/// A printed row of the figure.
#[derive(Debug, Clone, PartialEq)]
pub struct PrintedChange {
    /// Name of a group of models, or of one model.
    pub name: String,
    /// Columns of the CSV, with the change in percent.
    pub values: Vec<(String, PrintedNumber)>,
}

/// Parses `unfreezing-change.csv`.
///
/// # Errors
/// The errors are those of [`CsvSheet::parse`].
pub fn parse(file: &str, text: &str) -> Result<Vec<PrintedChange>> {
    let sheet = CsvSheet::parse(file, text)?;
    let mut changes = Vec::new();
    for (row, name) in sheet.names(0)?.into_iter().enumerate() {
        let mut values = Vec::new();
        for (column, header) in sheet.header().iter().enumerate().skip(1) {
            if let Some(number) = sheet.number(row, column)? {
                values.push((header.clone(), number));
            }
        }
        changes.push(PrintedChange { name, values });
    }
    Ok(changes)
}
