//! Correlations of benchmarks over the models that have both scores.

use super::score_matrix::{MIN_MODELS, ScoreMatrix};
use crate::stats;
use serde::Serialize;

/// A symmetric matrix of correlations between benchmarks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CorrelationMatrix {
    /// The correlations, −1 to 1; `None` if fewer than [`MIN_MODELS`] models have both scores, or if one has no
    /// variance.
    pub values: Vec<Vec<Option<f64>>>,
    /// Number of models that have both scores.
    pub models: Vec<Vec<usize>>,
}

impl CorrelationMatrix {
    /// Computes Pearson's correlations.
    pub fn pearson(matrix: &ScoreMatrix) -> Self {
        Self::of(matrix, stats::pearson)
    }

    /// Computes Spearman's correlations, with ranks among the models that have both scores.
    pub fn spearman(matrix: &ScoreMatrix) -> Self {
        Self::of(matrix, stats::spearman)
    }

    fn of(matrix: &ScoreMatrix, correlate: fn(&[f64], &[f64]) -> Option<f64>) -> Self {
        let columns: Vec<Vec<Option<f64>>> = (0..matrix.benchmarks().len()).map(|i| matrix.column(i)).collect();
        let pair = |a: &[Option<f64>], b: &[Option<f64>]| {
            let (x, y): (Vec<f64>, Vec<f64>) = a.iter().zip(b).filter_map(|(a, b)| a.zip(*b)).unzip();
            let r = if x.len() < MIN_MODELS { None } else { correlate(&x, &y) };
            (r, x.len())
        };
        let cells = |a: &Vec<Option<f64>>| columns.iter().map(|b| pair(a, b)).unzip();
        let (values, models) = columns.iter().map(cells).unzip();
        Self { values, models }
    }

    /// Returns the correlation of two benchmarks.
    pub fn at(&self, a: usize, b: usize) -> Option<f64> {
        self.values.get(a)?.get(b).copied().flatten()
    }
}
