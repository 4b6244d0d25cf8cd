//! Principal component analysis of standardised scores.
//!
//! Every benchmark is standardised to mean 0 and variance 1 over the models that have all scores. The components are
//! the eigenvectors of the correlation matrix, computed by Jacobi rotations (Golub and Van Loan, *Matrix Computations*,
//! §8.5), which are accurate and simple for matrices of this size. An eigenvector's sign is arbitrary: its element
//! with the largest absolute value is made positive, as in scikit-learn's PCA.

use super::score_matrix::{BenchmarkLabel, MIN_BENCHMARKS, MIN_MODELS, ScoreMatrix};
use crate::formatting;
use crate::stats;
use serde::Serialize;

/// The principal components, ordered by explained variance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PrincipalComponents {
    /// The models that have all scores.
    pub models: Vec<String>,
    /// The benchmarks with variance over these models.
    pub benchmarks: Vec<BenchmarkLabel>,
    /// Fraction of the variance by component; the fractions of all components sum to 1.
    pub explained: Vec<f64>,
    /// Loadings: by component, each benchmark's correlation with it.
    pub loadings: Vec<Vec<f64>>,
    /// Scores: by component, each model's coordinate, in units of the standardised scores.
    pub scores: Vec<Vec<f64>>,
}

/// Computes the components; `None`, with the reason in `left_out`, if fewer than three models have all scores or fewer
/// than two benchmarks vary over them.
pub(super) fn components(matrix: &ScoreMatrix, left_out: &mut Vec<String>) -> Option<PrincipalComponents> {
    let complete: Vec<(&String, Vec<f64>)> = matrix
        .models
        .iter()
        .zip(&matrix.scores)
        .filter_map(|(m, row)| Some((m, row.iter().copied().collect::<Option<Vec<f64>>>()?)))
        .collect();
    let n = complete.len();
    if n < matrix.models.len() {
        let has = if n == 1 { "has" } else { "have" };
        left_out.push(format!(
            "principal components use only the models with all scores: {n} of {} {has} them",
            matrix.models.len()
        ));
    }
    if n < MIN_MODELS {
        left_out.push(format!("no principal components: they need {MIN_MODELS} models with all scores"));
        return None;
    }
    let mut benchmarks = Vec::new();
    let mut columns: Vec<Vec<f64>> = Vec::new();
    let mut flat = Vec::new();
    for (i, benchmark) in matrix.benchmarks.iter().enumerate() {
        let column: Vec<f64> = complete.iter().filter_map(|(_, row)| row.get(i).copied()).collect();
        match standardised(&column) {
            Some(column) => {
                benchmarks.push(benchmark.clone());
                columns.push(column);
            }
            None => flat.push(benchmark.name.clone()),
        }
    }
    if !flat.is_empty() {
        left_out.push(format!(
            "not in the principal components, because these benchmarks have no variance over the models: {}",
            formatting::list(&flat)
        ));
    }
    if columns.len() < MIN_BENCHMARKS {
        left_out.push("no principal components: fewer than two benchmarks vary over the models with all scores".into());
        return None;
    }
    let correlations: Vec<Vec<f64>> =
        columns.iter().map(|a| columns.iter().map(|b| stats::dot(a, b) / n as f64).collect()).collect();
    let total = columns.len() as f64;
    let mut found = PrincipalComponents {
        models: complete.iter().map(|(m, _)| (*m).clone()).collect(),
        benchmarks,
        explained: Vec::new(),
        loadings: Vec::new(),
        scores: Vec::new(),
    };
    for (value, vector) in eigen(correlations) {
        // n models span at most n − 1 components; further eigenvalues are rounding errors.
        if value < 1e-10 * total || found.explained.len() + 1 >= n.max(2) {
            break;
        }
        found.explained.push(value / total);
        found.loadings.push(vector.iter().map(|v| v * value.sqrt()).collect());
        found.scores.push((0..n).map(|m| weighted(&columns, &vector, m)).collect());
    }
    Some(found)
}

/// Returns a model's coordinate along a direction.
fn weighted(columns: &[Vec<f64>], vector: &[f64], model: usize) -> f64 {
    columns.iter().zip(vector).map(|(column, v)| column.get(model).copied().unwrap_or(0.0) * v).sum()
}

/// Standardises to mean 0 and variance 1 (divided by n); `None` without variance.
fn standardised(column: &[f64]) -> Option<Vec<f64>> {
    let mean = stats::mean(column)?;
    if column.iter().all(|v| Some(v) == column.first()) {
        return None;
    }
    let variance = stats::mean(&column.iter().map(|v| (v - mean).powi(2)).collect::<Vec<_>>())?;
    (variance > 0.0).then(|| column.iter().map(|v| (v - mean) / variance.sqrt()).collect())
}

/// Returns the eigenvalues with unit eigenvectors of a symmetric matrix, largest first.
pub fn eigen(mut a: Vec<Vec<f64>>) -> Vec<(f64, Vec<f64>)> {
    let n = a.len();
    // The rows of `v` are the eigenvectors.
    let mut v: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    let get = |m: &[Vec<f64>], i: usize, j: usize| m.get(i).and_then(|r| r.get(j)).copied().unwrap_or(0.0);
    let norm: f64 = a.iter().flatten().map(|x| x * x).sum();
    // Sweeps converge quadratically; ten are enough for hundreds of rows.
    for _ in 0..100 {
        let off: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| get(&a, i, j).powi(2)).sum();
        if off <= 1e-32 * norm {
            break;
        }
        for (p, q) in (0..n).flat_map(|p| (p + 1..n).map(move |q| (p, q))) {
            let apq = get(&a, p, q);
            if apq == 0.0 {
                continue;
            }
            let theta = (get(&a, q, q) - get(&a, p, p)) / (2.0 * apq);
            let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
            let c = 1.0 / t.hypot(1.0);
            rotate_columns(&mut a, p, q, c, t * c);
            rotate_rows(&mut a, p, q, c, t * c);
            rotate_rows(&mut v, p, q, c, t * c);
        }
    }
    let mut pairs: Vec<(f64, Vec<f64>)> = v.into_iter().enumerate().map(|(i, v)| (get(&a, i, i), signed(v))).collect();
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    pairs
}

/// Flips the vector's sign so that its element with the largest absolute value is positive.
fn signed(vector: Vec<f64>) -> Vec<f64> {
    let furthest = vector.iter().copied().fold(0.0f64, |most, x| if x.abs() > most.abs() { x } else { most });
    if furthest < 0.0 { vector.into_iter().map(|x| -x).collect() } else { vector }
}

/// Rotates rows p and q to c·p − s·q and s·p + c·q.
fn rotate_rows(m: &mut [Vec<f64>], p: usize, q: usize, c: f64, s: f64) {
    if let Ok([p, q]) = m.get_disjoint_mut([p, q]) {
        for (x, y) in p.iter_mut().zip(q) {
            (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
        }
    }
}

/// Rotates columns p and q to c·p − s·q and s·p + c·q.
fn rotate_columns(m: &mut [Vec<f64>], p: usize, q: usize, c: f64, s: f64) {
    for row in m {
        if let Ok([x, y]) = row.get_disjoint_mut([p, q]) {
            (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvectors_are_eigenvectors() {
        let a = vec![vec![2.0, -1.0, 0.0], vec![-1.0, 2.0, -1.0], vec![0.0, -1.0, 2.0]];
        let pairs = eigen(a.clone());
        let expected = [2.0 + 2f64.sqrt(), 2.0, 2.0 - 2f64.sqrt()];
        for ((value, vector), expected) in pairs.iter().zip(expected) {
            assert!((value - expected).abs() < 1e-12);
            for row in 0..3 {
                assert!((stats::dot(&a[row], vector) - value * vector[row]).abs() < 1e-12);
            }
        }
        assert!(eigen(Vec::new()).is_empty());
        assert_eq!(eigen(vec![vec![0.0; 2]; 2])[1].0, 0.0);
    }
}
