//! Linear-probe accuracies of the Cambrian-1 paper's encoders, compared with the scores of its tables.
//!
//! The paper prints the ImageNet-1k accuracy of ten of its encoders and the scores of multimodal models with each of
//! them: the largest published comparison of a predictor that needs no language model.

use super::regression::{LeastSquares, fisher_interval};
use crate::paper::{ADAPTER, PaperTables, SCOPES, ScoreTable, UNFROZEN, short};
use crate::stats;
use burgess_base::{Error, Result};
use serde::Serialize;

/// File of the accuracies in `reports/published/`.
pub const LINEAR_PROBE: &str = "linear-probe.csv";
/// Number of the paper's table of accuracies.
pub const LINEAR_PROBE_TABLE: &str = "Table 7";
/// Confidence level of the intervals.
const CONFIDENCE: f64 = 0.95;

/// The linear-probe accuracy of an encoder.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProbedEncoder {
    /// Name in the tables of scores, without its number.
    pub model: String,
    /// ImageNet-1k accuracy in percent.
    pub accuracy: f64,
}

/// Correlation of the accuracies with the scores of one table in one scope.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScopeCorrelation {
    /// The average, or a category.
    pub scope: &'static str,
    /// Pearson's r.
    pub pearson: f64,
    /// Fisher's 95 % interval of Pearson's r.
    pub interval: (f64, f64),
    /// Spearman's ρ.
    pub spearman: f64,
    /// Kendall's τ-b.
    pub kendall: f64,
    /// R² of leave-one-out predictions by linear regression.
    pub loo_r2: Option<f64>,
    /// Highest score minus the score of the encoder with the highest accuracy.
    pub regret: f64,
    /// The encoder with the highest score.
    pub winner: String,
}

/// Correlations of the accuracies with one table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TableCorrelations {
    /// File of the table in `reports/published/`.
    pub file: String,
    /// What the table shows.
    pub about: String,
    /// Number of encoders in both.
    pub n: usize,
    /// The average, then the categories.
    pub scopes: Vec<ScopeCorrelation>,
}

/// Linear-probe accuracies and their correlations with the tables.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PublishedPrediction {
    /// The encoders, best first.
    pub encoders: Vec<ProbedEncoder>,
    /// The tables in the order of the amount of adapter data, then the unfrozen encoders.
    pub tables: Vec<TableCorrelations>,
}

impl PublishedPrediction {
    /// Computes the correlations from the published tables.
    ///
    /// # Errors
    /// A file is malformed, or an encoder is missing in a table.
    pub fn compute() -> Result<Self> {
        let encoders = encoders(include_str!("../../published/linear-probe.csv"))?;
        let paper = PaperTables::load()?;
        let files = ADAPTER.iter().map(|(_, file)| *file).chain([UNFROZEN]);
        let tables = files.map(|file| correlations(paper.table(file)?, &encoders)).collect::<Result<_>>()?;
        Ok(Self { encoders, tables })
    }

    /// Formulates what the correlations show, as sentences.
    pub fn sentences(&self) -> Vec<String> {
        let mut said = Vec::new();
        let Some(most) = self.encoders.first() else { return said };
        let averages = self.tables.iter().filter_map(|t| Some((t, t.scopes.first()?)));
        let hit = averages.clone().filter(|(_, s)| s.regret <= 0.0).count();
        let widest = averages.clone().map(|(_, s)| s.regret).fold(0.0, f64::max);
        said.push(format!(
            "The encoder with the highest linear-probe accuracy is {} ({:.1} %). It has the highest average in {hit} \
             of {} tables; picking it costs at most {widest:.1} points of the average.",
            most.model,
            most.accuracy,
            self.tables.len()
        ));
        if let Some((table, average)) = averages.clone().find(|(t, _)| t.file == crate::paper::FROZEN) {
            said.push(format!(
                "Over n = {} encoders, r = {:.2} of the average ({}) has a 95 % interval of {:.2} to {:.2} (Fisher).",
                table.n, average.pearson, table.about, average.interval.0, average.interval.1
            ));
        }
        let mean = |scope: usize| {
            let of: Vec<f64> = self.tables.iter().filter_map(|t| Some(t.scopes.get(scope)?.pearson)).collect();
            stats::mean(&of)
        };
        let mut categories: Vec<(&str, f64)> =
            SCOPES.iter().enumerate().skip(1).filter_map(|(i, name)| Some((*name, mean(i)?))).collect();
        categories.sort_by(|a, b| b.1.total_cmp(&a.1));
        if let (Some((best, high)), Some((worst, low))) = (categories.first(), categories.last()) {
            said.push(format!(
                "The accuracy tells most of {best} (mean r {high:.2} over the tables) and least of {worst} ({low:.2})."
            ));
        }
        said
    }
}

/// Reads the accuracies.
fn encoders(text: &str) -> Result<Vec<ProbedEncoder>> {
    let invalid = |line: &str| Error::failed(format!("{LINEAR_PROBE}: `{line}` is not an encoder and its accuracy"));
    let rows = text.lines().skip(1).map(|line| {
        let (model, accuracy) = line.rsplit_once(',').ok_or_else(|| invalid(line))?;
        let accuracy = accuracy.parse().map_err(|_| invalid(line))?;
        Ok(ProbedEncoder { model: model.to_string(), accuracy })
    });
    let mut rows: Vec<ProbedEncoder> = rows.collect::<Result<_>>()?;
    rows.sort_by(|a, b| b.accuracy.total_cmp(&a.accuracy));
    Ok(rows)
}

/// Correlates the accuracies with the scores of a table. Averages and categories are the means that Burgess computes
/// from the printed benchmark scores.
fn correlations(table: &ScoreTable, encoders: &[ProbedEncoder]) -> Result<TableCorrelations> {
    let row = |encoder: &ProbedEncoder| {
        let found = table.rows.iter().find(|row| short(&row.model) == encoder.model);
        found.ok_or_else(|| Error::failed(format!("{} has no encoder {}", table.file, encoder.model)))
    };
    let rows = encoders.iter().map(row).collect::<Result<Vec<_>>>()?;
    let x: Vec<f64> = encoders.iter().map(|e| e.accuracy).collect();
    let scope = |(scope, name): (usize, &&'static str)| -> Result<ScopeCorrelation> {
        let missing = || Error::failed(format!("{}: a score of {name} is missing", table.file));
        let y: Vec<f64> = rows.iter().map(|row| row.mean(scope).ok_or_else(missing)).collect::<Result<_>>()?;
        let constant = || Error::failed(format!("{}: the scores of {name} have no variance", table.file));
        let pearson = stats::pearson(&x, &y).ok_or_else(constant)?;
        let top = y.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let winner = encoders.iter().zip(&y).find(|(_, y)| **y == top).map_or("", |(e, _)| e.model.as_str());
        Ok(ScopeCorrelation {
            scope: name,
            pearson,
            interval: fisher_interval(pearson, x.len(), CONFIDENCE).ok_or_else(constant)?,
            spearman: stats::spearman(&x, &y).ok_or_else(constant)?,
            kendall: stats::kendall_tau(&x, &y).ok_or_else(constant)?,
            loo_r2: LeastSquares::fit(std::slice::from_ref(&x), &y).and_then(|fit| fit.loo_r2),
            regret: top - y.first().copied().unwrap_or(top),
            winner: winner.to_string(),
        })
    };
    Ok(TableCorrelations {
        file: table.file.clone(),
        about: table.about.clone(),
        n: x.len(),
        scopes: SCOPES.iter().enumerate().map(scope).collect::<Result<_>>()?,
    })
}
