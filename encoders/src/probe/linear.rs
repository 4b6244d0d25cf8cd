//! The linear probe: multinomial logistic regression on standardised features.
//!
//! The objective is that of scikit-learn's `LogisticRegression`: mean cross-entropy + λ/2 · ‖W‖² without a
//! penalty on the intercepts, where λ = 1 / (C · n). It is minimised by L-BFGS, preconditioned with the Hessian
//! at W = 0, so that correlated features do not slow it down.

use super::lbfgs::{LbfgsLimits, minimise};
use super::{ProbeConfig, ProbeSamples, correct, largest};
use crate::kernel::product::product_f64;
use crate::kernel::{Matrix, Strides};
use burgess_base::stream::{stream, uniform};
use burgess_base::{Error, Result};

/// Stopping criteria in [`fit_chosen`].
const LIMITS: LbfgsLimits = LbfgsLimits { tolerance: 1e-5, iterations: 300 };

/// A trained classifier of feature vectors.
#[derive(Debug, Clone)]
pub(super) struct LinearProbe {
    /// Mean of each feature in training, `[width]`.
    mean: Vec<f64>,
    /// 1 / standard deviation of each feature in training, `[width]`; 1 for constant features.
    factor: Vec<f64>,
    /// Weights on the standardised features, `[width + 1, classes]`, row-major; the last row holds the intercepts.
    weights: Vec<f64>,
    /// The classes that occur in training, ascending: class numbers of the columns of `weights`.
    classes: Vec<usize>,
}

impl LinearProbe {
    /// Trains with L2 penalty `l2` until no entry of the gradient exceeds `tolerance`.
    ///
    /// # Errors
    /// There are no vectors, lengths do not agree, or a value is not finite.
    #[cfg(test)]
    pub fn fit(train: &ProbeSamples, l2: f64, tolerance: f64) -> Result<Self> {
        train.check("training", usize::MAX)?;
        let problem = LogisticRegression::new(train);
        let mut weights = problem.zeros();
        problem.solve(l2, &mut weights, LbfgsLimits { tolerance, iterations: 10_000 });
        Ok(problem.model(&weights))
    }

    /// Returns the probabilities of the classes that occur in training, `[n, classes]`, for vectors `[n, width]`.
    #[cfg(test)]
    pub fn probabilities(&self, values: &[f32]) -> Vec<f64> {
        let k = self.classes.len();
        let mut out = self.scores(values);
        out.chunks_exact_mut(k.max(1)).for_each(|row| {
            softmax(row);
        });
        out
    }

    /// Returns the most probable class of each vector of `values`, `[n, width]`.
    pub fn predict(&self, values: &[f32]) -> Vec<usize> {
        let scores = self.scores(values);
        scores.chunks_exact(self.classes.len().max(1)).map(|row| self.classes[largest(row)]).collect()
    }

    /// Returns the weights on the standardised features with the intercepts in the last row, `[width + 1, classes]`.
    #[cfg(test)]
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// Returns the logits, `[n, classes]`, for vectors `[n, width]`.
    fn scores(&self, values: &[f32]) -> Vec<f64> {
        let (width, k) = (self.mean.len(), self.classes.len());
        let x = standardised(values, &self.mean, &self.factor);
        let n = x.len() / (width + 1);
        let mut out = vec![0.0; n * k];
        let (a, b) = (
            Matrix(x.as_slice(), Strides::row_major(width + 1)),
            Matrix(self.weights.as_slice(), Strides::row_major(k)),
        );
        product_f64([n, k, width + 1], &mut out, Strides::row_major(k), a, b, false);
        out
    }
}

/// Selects the L2 penalty of `config.l2` that is best on a validation part, then trains on all vectors; returns the
/// probe and the penalty.
///
/// Of equally good penalties, and if there are too few images for a validation part, the largest is selected.
///
/// # Errors
/// There is no penalty to choose from, or one is not positive.
pub fn fit_chosen(train: &ProbeSamples, config: &ProbeConfig) -> Result<(LinearProbe, f64)> {
    let mut candidates = config.l2.clone();
    candidates.sort_by(|a, b| b.total_cmp(a));
    let strongest = candidates.first().copied().unwrap_or_default();
    if !(strongest.is_finite() && strongest > 0.0 && candidates.iter().all(|l2| *l2 > 0.0)) {
        return Err(Error::failed(format!(
            "the L2 penalties of the linear probe are {:?}, all must be above 0",
            config.l2
        )));
    }
    let (fit, validation) = split(train, config);
    let mut best = (strongest, 0);
    if !fit.is_empty() && !validation.is_empty() {
        let problem = LogisticRegression::new(&fit);
        let mut weights = problem.zeros();
        for (i, &l2) in candidates.iter().enumerate() {
            // Warm start from the solution of the next stronger penalty, which is near.
            problem.solve(l2, &mut weights, LIMITS);
            let right = correct(&problem.model(&weights).predict(&validation.values), &validation.labels);
            if i == 0 || right > best.1 {
                best = (l2, right);
            }
        }
    }
    let problem = LogisticRegression::new(train);
    let mut weights = problem.zeros();
    problem.solve(best.0, &mut weights, LIMITS);
    Ok((problem.model(&weights), best.0))
}

/// Splits the training vectors by image into those for fitting and those for validation.
fn split(train: &ProbeSamples, config: &ProbeConfig) -> (ProbeSamples, ProbeSamples) {
    let chosen =
        |image: usize| uniform(&mut stream(&format!("probe/validation/{image}"), config.seed)) < config.validation;
    let (held, rest): (Vec<usize>, Vec<usize>) = (0..train.len()).partition(|&i| chosen(train.images[i]));
    (train.select(&rest), train.select(&held))
}

/// A standardised training set, with quantities that do not depend on the penalty.
struct LogisticRegression {
    /// Standardised vectors with a 1 after each, `[n, width + 1]`.
    x: Vec<f64>,
    n: usize,
    width: usize,
    /// Column of each vector's class.
    labels: Vec<usize>,
    classes: Vec<usize>,
    mean: Vec<f64>,
    factor: Vec<f64>,
    /// xᵀx / n, `[width + 1, width + 1]`.
    gram: Vec<f64>,
}

impl LogisticRegression {
    fn new(train: &ProbeSamples) -> Self {
        let (n, width) = (train.len(), train.width);
        let mut classes = train.labels.clone();
        classes.sort_unstable();
        classes.dedup();
        let labels = train.labels.iter().map(|l| classes.partition_point(|c| c < l)).collect();
        let (mean, factor) = moments(&train.values, width);
        let x = standardised(&train.values, &mean, &factor);
        let rows = Strides::row_major(width + 1);
        let mut gram = vec![0.0; (width + 1) * (width + 1)];
        let (a, b) = (Matrix(x.as_slice(), rows.transposed()), Matrix(x.as_slice(), rows));
        product_f64([width + 1, width + 1, n], &mut gram, rows, a, b, false);
        gram.iter_mut().for_each(|g| *g /= n as f64);
        Self { x, n, width, labels, classes, mean, factor, gram }
    }

    fn zeros(&self) -> Vec<f64> {
        vec![0.0; (self.width + 1) * self.classes.len()]
    }

    fn model(&self, weights: &[f64]) -> LinearProbe {
        LinearProbe {
            mean: self.mean.clone(),
            factor: self.factor.clone(),
            weights: weights.to_vec(),
            classes: self.classes.clone(),
        }
    }

    /// Moves `weights` to the minimum of the objective with penalty `l2`.
    fn solve(&self, l2: f64, weights: &mut Vec<f64>, limits: LbfgsLimits) {
        let k = self.classes.len();
        if k < 2 {
            return;
        }
        // The Hessian at W = 0, except its part along the classes: (1 / k) (1 − 1 / k) xᵀx / n + λ.
        let share = (1.0 - 1.0 / k as f64) / k as f64;
        let mut metric: Vec<f64> = self.gram.iter().map(|g| g * share).collect();
        for i in 0..=self.width {
            // The intercepts have no penalty; 1e-12 keeps the metric positive definite.
            metric[i * (self.width + 2)] += if i < self.width { l2 } else { 1e-12 };
        }
        let factor = Cholesky::new(metric, self.width + 1);
        let mut residuals = vec![0.0; self.n * k];
        let value = |w: &[f64], gradient: &mut [f64]| self.value(w, l2, gradient, &mut residuals);
        minimise(weights, limits, value, |v| factor.solve(v, k));
    }

    /// Computes the objective and its gradient at `w`. `residuals` is scratch memory, `[n, classes]`.
    fn value(&self, w: &[f64], l2: f64, gradient: &mut [f64], residuals: &mut [f64]) -> f64 {
        let (n, k, rows) = (self.n, self.classes.len(), self.width + 1);
        let (by_row, by_class) = (Strides::row_major(rows), Strides::row_major(k));
        product_f64([n, k, rows], residuals, by_class, Matrix(&self.x, by_row), Matrix(w, by_class), false);
        let mut loss = 0.0;
        for (row, label) in residuals.chunks_exact_mut(k).zip(&self.labels) {
            let own = row[*label];
            loss += softmax(row) - own;
            row[*label] -= 1.0;
            row.iter_mut().for_each(|r| *r /= n as f64);
        }
        let x = Matrix(self.x.as_slice(), by_row.transposed());
        product_f64([rows, k, n], gradient, by_class, x, Matrix(&*residuals, by_class), false);
        let mut squares = 0.0;
        for (g, w) in gradient.iter_mut().zip(w).take(self.width * k) {
            *g += l2 * w;
            squares += w * w;
        }
        loss / n as f64 + l2 / 2.0 * squares
    }
}

/// Replaces logits by probabilities; returns the logarithm of their normaliser.
fn softmax(row: &mut [f64]) -> f64 {
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for value in row.iter_mut() {
        *value = (*value - most).exp();
        sum += *value;
    }
    row.iter_mut().for_each(|v| *v /= sum);
    most + sum.ln()
}

/// Returns mean and 1 / standard deviation (with divisor n) of each column; 1 for constant columns.
fn moments(values: &[f32], width: usize) -> (Vec<f64>, Vec<f64>) {
    let n = (values.len() / width.max(1)).max(1) as f64;
    let mut mean = vec![0.0; width];
    for row in values.chunks_exact(width.max(1)) {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v) / n);
    }
    let mut variance = vec![0.0; width];
    for row in values.chunks_exact(width.max(1)) {
        let squares = row.iter().zip(&mean).map(|(v, m)| (f64::from(*v) - m).powi(2) / n);
        variance.iter_mut().zip(squares).for_each(|(s, square)| *s += square);
    }
    // Below the precision of f32 a feature is constant.
    let factor = |(variance, mean): (&f64, &f64)| {
        let deviation = variance.sqrt();
        if deviation > 1e-6 * mean.abs().max(1e-30) { 1.0 / deviation } else { 1.0 }
    };
    let factors = variance.iter().zip(&mean).map(factor).collect();
    (mean, factors)
}

/// Returns standardised vectors with a 1 appended to each, `[n, width + 1]`.
fn standardised(values: &[f32], mean: &[f64], factor: &[f64]) -> Vec<f64> {
    let width = mean.len();
    let mut out = Vec::with_capacity(values.len() / width.max(1) * (width + 1));
    for row in values.chunks_exact(width.max(1)) {
        out.extend(row.iter().zip(mean).zip(factor).map(|((v, m), f)| (f64::from(*v) - m) * f));
        out.push(1.0);
    }
    out
}

/// The factor U of a symmetric positive definite matrix A = UᵀU.
struct Cholesky {
    /// The factor, row-major; entries below the diagonal are not used.
    upper: Vec<f64>,
    side: usize,
}

impl Cholesky {
    fn new(mut a: Vec<f64>, side: usize) -> Self {
        for k in 0..side {
            let (done, rest) = a.split_at_mut((k + 1) * side);
            let row = &mut done[k * side..];
            // Rounding can make a pivot of a nearly singular matrix negative.
            let pivot = row[k].max(1e-14).sqrt();
            row[k] = pivot;
            row[k + 1..].iter_mut().for_each(|v| *v /= pivot);
            for (below, i) in rest.chunks_exact_mut(side).zip(k + 1..) {
                let factor = row[i];
                below[i..].iter_mut().zip(&row[i..]).for_each(|(v, r)| *v -= factor * r);
            }
        }
        Self { upper: a, side }
    }

    /// Replaces `v`, `[side, columns]`, by A⁻¹ v.
    fn solve(&self, v: &mut [f64], columns: usize) {
        let u = |row: usize, column: usize| self.upper[row * self.side + column];
        for k in 0..self.side {
            let (done, rest) = v.split_at_mut((k + 1) * columns);
            let row = &mut done[k * columns..];
            row.iter_mut().for_each(|x| *x /= u(k, k));
            for (below, i) in rest.chunks_exact_mut(columns).zip(k + 1..) {
                let factor = u(k, i);
                below.iter_mut().zip(&*row).for_each(|(x, r)| *x -= factor * r);
            }
        }
        for k in (0..self.side).rev() {
            let (above, solved) = v.split_at_mut((k + 1) * columns);
            let row = &mut above[k * columns..];
            for (below, i) in solved.chunks_exact(columns).zip(k + 1..) {
                let factor = u(k, i);
                row.iter_mut().zip(below).for_each(|(x, b)| *x -= factor * b);
            }
            row.iter_mut().for_each(|x| *x /= u(k, k));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_solved() {
        let a = vec![4.0, 2.0, 0.6, 2.0, 5.0, 1.0, 0.6, 1.0, 3.0];
        let x = [1.0, -2.0, 0.5, 3.0, 2.0, -1.0];
        let mut v: Vec<f64> = (0..3)
            .flat_map(|i| (0..2).map(move |c| (i, c)))
            .map(|(i, c)| (0..3).map(|j| a[i * 3 + j] * x[j * 2 + c]).sum())
            .collect();
        Cholesky::new(a.clone(), 3).solve(&mut v, 2);
        assert!(v.iter().zip(x).all(|(v, x)| (v - x).abs() < 1e-12), "{v:?}");
    }
}
