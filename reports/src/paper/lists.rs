//! The paper's smaller lists: full-precision means, ranks, scores without vision, correlations.

use super::columns::COLUMNS;
use super::csv_sheet::{CsvSheet, PrintedNumber};
use burgess_base::Result;

/// Category means of a model at full precision, from the project page.
#[derive(Debug, Clone, PartialEq)]
pub struct ExactMeans {
    /// Name of the model.
    pub model: String,
    /// Means by category, in the order of [`SCOPES`](super::SCOPES) without the average.
    pub means: [PrintedNumber; 4],
}

impl ExactMeans {
    /// Returns the mean of a scope, by its index in [`SCOPES`](super::SCOPES): 0 is the average.
    pub fn mean(&self, scope: usize) -> f64 {
        match scope.checked_sub(1).and_then(|c| self.means.get(c)) {
            Some(one) => one.value,
            None => self.means.iter().map(|m| m.value).sum::<f64>() / 4.0,
        }
    }
}

/// Printed ranks of a model, within one of the paper's two lists.
#[derive(Debug, Clone, PartialEq)]
pub struct PrintedRanks {
    /// Name of the list: `language-supervised` or `other`.
    pub list: String,
    /// Name of the model.
    pub model: String,
    /// Ranks by scope, in the order of [`SCOPES`](super::SCOPES).
    pub ranks: [PrintedNumber; 5],
}

/// Scores without vision and at random of one benchmark, read from a figure.
#[derive(Debug, Clone, PartialEq)]
pub struct DisabledScores {
    /// The benchmark, as index into [`COLUMNS`].
    pub column: usize,
    /// Score of guessing, in percent.
    pub random: f64,
    /// Score without the image, in percent.
    pub disabled: f64,
    /// Score with the image minus score without it; the figure shows it as the height of the upper bar.
    pub gain: f64,
}

/// Printed correlations of the benchmarks, with CV-Bench as one of them.
#[derive(Debug, Clone, PartialEq)]
pub struct PrintedCorrelations {
    /// Names of the benchmarks in the CSV file.
    pub names: Vec<String>,
    /// The symmetric matrix of correlations.
    pub values: Vec<Vec<f64>>,
}

/// Reads the category means at full precision.
pub(super) fn exact(file: &str, text: &str) -> Result<Vec<ExactMeans>> {
    let sheet = CsvSheet::parse(file, text)?;
    sheet.expect(&["Model", "G", "K", "O", "V"])?;
    let row = |(row, model): (usize, String)| -> Result<ExactMeans> {
        let mean = |column| sheet.needed(row, column);
        Ok(ExactMeans { model, means: [mean(1)?, mean(2)?, mean(3)?, mean(4)?] })
    };
    sheet.names(0)?.into_iter().enumerate().map(row).collect()
}

/// Reads the printed ranks.
pub(super) fn ranked(file: &str, text: &str) -> Result<Vec<PrintedRanks>> {
    let sheet = CsvSheet::parse(file, text)?;
    sheet.expect(&["List", "Model", "Avg", "G", "K", "O", "V"])?;
    let row = |row: usize| -> Result<PrintedRanks> {
        let mut ranks = [PrintedNumber { value: 0.0, digits: 0 }; 5];
        for (scope, slot) in ranks.iter_mut().enumerate() {
            *slot = sheet.needed(row, scope + 2)?;
        }
        Ok(PrintedRanks { list: sheet.text(row, 0).into(), model: sheet.text(row, 1).into(), ranks })
    };
    (0..sheet.count()).map(row).collect()
}

/// Reads the scores without vision and at random.
pub(super) fn disabled(file: &str, text: &str) -> Result<Vec<DisabledScores>> {
    let sheet = CsvSheet::parse(file, text)?;
    sheet.expect(&["Benchmark", "Random", "Disabled", "Gain"])?;
    let row = |(row, name): (usize, String)| -> Result<DisabledScores> {
        let column = COLUMNS.iter().position(|c| c.name == name);
        Ok(DisabledScores {
            column: column.ok_or_else(|| sheet.wrong(row, 0, &format!("no benchmark has the name {name}")))?,
            random: sheet.needed(row, 1)?.value,
            disabled: sheet.needed(row, 2)?.value,
            gain: sheet.needed(row, 3)?.value,
        })
    };
    sheet.names(0)?.into_iter().enumerate().map(row).collect()
}

/// Reads the upper triangle of the matrix of correlations, whose diagonal must be 1.
pub(super) fn correlations(file: &str, text: &str) -> Result<PrintedCorrelations> {
    let sheet = CsvSheet::parse(file, text)?;
    let names = sheet.names(0)?;
    let header: Vec<&str> = std::iter::once("Benchmark").chain(names.iter().map(String::as_str)).collect();
    sheet.expect(&header)?;
    let mut values = vec![vec![1.0; names.len()]; names.len()];
    for (i, j) in (0..names.len()).flat_map(|i| (i..names.len()).map(move |j| (i, j))) {
        let r = sheet.needed(i, j + 1)?.value;
        if !(-1.0..=1.0).contains(&r) {
            return Err(sheet.wrong(i, j + 1, &format!("the correlation is {r}, must be between -1 and 1")));
        }
        if i == j && r != 1.0 {
            return Err(sheet.wrong(
                i,
                j + 1,
                &format!("the correlation of a benchmark with itself is {r}, must be 1"),
            ));
        }
        for (a, b) in [(i, j), (j, i)] {
            if let Some(slot) = values.get_mut(a).and_then(|row| row.get_mut(b)) {
                *slot = r;
            }
        }
    }
    Ok(PrintedCorrelations { names, values })
}
