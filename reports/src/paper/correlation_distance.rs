//! Vision shares and correlations of the paper's tables, compared with the numbers in its figures.

use super::columns::{COLUMNS, PaperColumn};
use super::score_table::{ScoreTable, matrix};
use super::tables::{FROZEN, PaperTables, UNFROZEN};
use crate::analysis::{CorrelationMatrix, VisionShare};
use crate::stats;
use burgess_base::Result;
use serde::Serialize;

/// Tables whose models the printed correlations may be over: the paper's section names the frozen 1.2M ones and cites
/// those of 0M, while the figure's caption says "one-stage, two-stage and hybrid models".
const SETS: [(&str, &[&str]); 4] = [
    ("1.2M frozen", &[FROZEN]),
    ("0M frozen", &["adapter-0m-frozen.csv"]),
    ("0M, 0.5M and 1.2M frozen", &["adapter-0m-frozen.csv", "adapter-0.5m-frozen.csv", FROZEN]),
    ("1.2M frozen, unfrozen and combinations", &[FROZEN, UNFROZEN, "combinations-1.2m-frozen.csv"]),
];

/// The distance between the correlations over some tables and the printed ones.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CorrelationDistance {
    /// Name of the set of models.
    pub models: String,
    /// Number of models.
    pub count: usize,
    /// Mean absolute difference over the pairs of benchmarks.
    pub mean: f64,
    /// Largest absolute difference; `pair` is the pair of benchmarks that has it.
    pub largest: f64,
    /// The pair of benchmarks with the largest difference.
    pub pair: [String; 2],
}

impl PaperTables {
    /// Returns enabled, blind and chance scores of every benchmark. Enabled is the mean of the frozen 1.2M runs, with
    /// which the figure's bars agree; blind and chance are read from those bars.
    ///
    /// # Errors
    /// An error is returned if a table is missing.
    pub fn vision_shares(&self) -> Result<Vec<VisionShare>> {
        let table = self.table(FROZEN)?;
        let sight = |(i, column): (usize, &PaperColumn)| {
            let scores: Vec<f64> = table.rows.iter().filter_map(|r| r.percent(i)).collect();
            let bars = self.disabled.iter().find(|d| d.column == i);
            VisionShare::of_means(
                column.benchmark,
                column.category,
                stats::mean(&scores).unwrap_or(f64::NAN),
                bars.map(|b| b.disabled),
                bars.map(|b| b.random),
            )
        };
        Ok(COLUMNS.iter().enumerate().map(sight).collect())
    }

    /// Compares correlations over several sets of models with the printed matrix, with CV-Bench as one benchmark.
    ///
    /// # Errors
    /// An error is returned if a table is missing.
    pub fn correlation_checks(&self) -> Result<Vec<CorrelationDistance>> {
        SETS.iter().map(|(name, files)| self.beside(name, files)).collect()
    }

    fn beside(&self, name: &str, files: &[&str]) -> Result<CorrelationDistance> {
        let tables: Vec<&ScoreTable> = files.iter().map(|f| self.table(f)).collect::<Result<_>>()?;
        let all = matrix(&tables)?.merge("CV-Bench", &["CV-Bench 2D", "CV-Bench 3D"])?;
        let computed = CorrelationMatrix::pearson(&all);
        let names: Vec<&str> = all.benchmarks().iter().map(|b| b.name.as_str()).collect();
        let mut distances = Vec::new();
        let mut far: (f64, [&str; 2]) = (-1.0, [""; 2]);
        for (i, row) in self.correlations.values.iter().enumerate() {
            for (j, printed) in row.iter().enumerate().skip(i + 1) {
                let Some(r) = computed.at(i, j) else { continue };
                distances.push((r - printed).abs());
                if (r - printed).abs() > far.0 {
                    far = ((r - printed).abs(), [i, j].map(|b| names.get(b).copied().unwrap_or("")));
                }
            }
        }
        Ok(CorrelationDistance {
            models: name.to_string(),
            count: all.models().len(),
            mean: stats::mean(&distances).unwrap_or(f64::NAN),
            largest: far.0,
            pair: far.1.map(String::from),
        })
    }
}
