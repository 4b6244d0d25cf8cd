//! Least squares over few arms, with leave-one-out predictions.

use crate::stats;

/// A diagonal entry of the hat matrix above which the row determines its own prediction, so that the regression
/// without it is not determined.
const DETERMINED: f64 = 1.0 - 1e-9;
/// Relative length below which a column counts as a combination of the others.
const DEPENDENT: f64 = 1e-10;

/// The outcome of a linear regression with an intercept.
#[derive(Debug, Clone, PartialEq)]
pub struct LeastSquares {
    /// R² in sample: 1 − Σ(yᵢ − ŷᵢ)² / Σ(yᵢ − ȳ)².
    pub r2: f64,
    /// R² of leave-one-out predictions, each from the regression without that row; `None` if one is not determined.
    pub loo_r2: Option<f64>,
}

impl LeastSquares {
    /// Fits y = a + Σ bⱼ·xⱼ for the columns `x`, each as long as `y`. `None` if `y` has no variance, or if the
    /// columns with the intercept are linearly dependent.
    ///
    /// Leave-one-out residuals follow from the residuals e and the diagonal h of the hat matrix: eᵢ / (1 − hᵢ).
    pub fn fit(x: &[Vec<f64>], y: &[f64]) -> Option<Self> {
        let n = y.len();
        let mean = stats::mean(y)?;
        let total: f64 = y.iter().map(|v| (v - mean).powi(2)).sum();
        if total <= 0.0 || x.len() >= n || x.iter().any(|column| column.len() != n) {
            return None;
        }
        // An orthonormal basis of the columns, by Gram-Schmidt, twice for accuracy.
        let mut basis: Vec<Vec<f64>> = Vec::new();
        for column in std::iter::once(&vec![1.0; n]).chain(x) {
            let mut rest = column.clone();
            let length = stats::dot(column, column).sqrt();
            for _ in 0..2 {
                for q in &basis {
                    let along = stats::dot(q, &rest);
                    rest.iter_mut().zip(q).for_each(|(r, q)| *r -= along * q);
                }
            }
            let left = stats::dot(&rest, &rest).sqrt();
            if left <= DEPENDENT * length {
                return None;
            }
            rest.iter_mut().for_each(|r| *r /= left);
            basis.push(rest);
        }
        let mut residuals = y.to_vec();
        let mut leverage = vec![0.0; n];
        for q in &basis {
            let along = stats::dot(q, y);
            residuals.iter_mut().zip(q).for_each(|(r, q)| *r -= along * q);
            leverage.iter_mut().zip(q).for_each(|(h, q)| *h += q * q);
        }
        let r2 = 1.0 - stats::dot(&residuals, &residuals) / total;
        let without = |(e, h): (&f64, &f64)| (*h < DETERMINED).then(|| (e / (1.0 - h)).powi(2));
        let squares: Option<Vec<f64>> = residuals.iter().zip(&leverage).map(without).collect();
        Some(Self { r2, loo_r2: squares.map(|s| 1.0 - s.iter().sum::<f64>() / total) })
    }
}

/// Returns Fisher's confidence interval of a correlation `r` over `n` independent pairs; `None` for fewer than four
/// pairs.
pub fn fisher_interval(r: f64, n: usize, confidence: f64) -> Option<(f64, f64)> {
    if n < 4 || r.is_nan() {
        return None;
    }
    let half = stats::normal_quantile((1.0 + confidence) / 2.0) / ((n - 3) as f64).sqrt();
    let z = r.clamp(-1.0, 1.0).atanh();
    Some(((z - half).tanh(), (z + half).tanh()))
}
