//! The spread of features: mean, standard deviation and effective rank.

use burgess_base::{Error, Result};

/// Sums over feature vectors, from which their spread is computed. Vectors can be added in any number of calls.
#[derive(Debug, Clone, PartialEq)]
pub struct SpreadSums {
    width: usize,
    n: usize,
    /// The first vector, which is subtracted from all for accuracy.
    origin: Vec<f64>,
    sums: Vec<f64>,
    /// Upper triangle of the sums of products, `[width, width]`.
    products: Vec<f64>,
}

/// The spread of feature vectors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Mean over all values.
    pub mean: f64,
    /// Standard deviation over all values (population).
    pub std: f64,
    /// Effective rank (Roy and Vetterli 2007): exp(−Σ pᵢ ln pᵢ) with pᵢ = σᵢ / Σσ, where σ are the
    /// singular values of the vectors minus their mean; 1 to the width.
    pub effective_rank: f64,
}

impl SpreadSums {
    /// Begins the sums of vectors of this width.
    pub fn new(width: usize) -> Self {
        let zeros = vec![0.0; width];
        Self { width, n: 0, origin: zeros.clone(), sums: zeros, products: vec![0.0; width * width] }
    }

    /// Adds a vector.
    ///
    /// # Errors
    /// It has another width, or a value that is not finite.
    pub fn add(&mut self, vector: &[f32]) -> Result<()> {
        if vector.len() != self.width {
            return Err(Error::failed(format!(
                "a feature vector has {} values, expected {}",
                vector.len(),
                self.width
            )));
        }
        if vector.iter().any(|v| !v.is_finite()) {
            return Err(Error::failed("a feature is not finite"));
        }
        if self.n == 0 {
            self.origin = vector.iter().map(|v| f64::from(*v)).collect();
        }
        self.n += 1;
        let centred: Vec<f64> = vector.iter().zip(&self.origin).map(|(v, o)| f64::from(*v) - o).collect();
        for (i, v) in centred.iter().enumerate() {
            self.sums[i] += v;
            let row = &mut self.products[i * self.width + i..(i + 1) * self.width];
            row.iter_mut().zip(&centred[i..]).for_each(|(sum, w)| *sum += v * w);
        }
        Ok(())
    }

    /// Computes the spread of the vectors.
    ///
    /// # Errors
    /// There are fewer than two vectors, all are equal, or the eigenvalues do not converge.
    pub fn spread(&self) -> Result<Spread> {
        let (n, d) = (self.n as f64, self.width);
        if self.n < 2 || d == 0 {
            return Err(Error::failed(format!("the spread of {} feature vectors is not defined", self.n)));
        }
        let means: Vec<f64> = self.sums.iter().map(|s| s / n).collect();
        let mut scatter = vec![0.0; d * d];
        for i in 0..d {
            for j in i..d {
                let value = self.products[i * d + j] - n * means[i] * means[j];
                (scatter[i * d + j], scatter[j * d + i]) = (value, value);
            }
        }
        let channel_means: Vec<f64> = means.iter().zip(&self.origin).map(|(m, o)| m + o).collect();
        let mean = channel_means.iter().sum::<f64>() / d as f64;
        let within: f64 = (0..d).map(|i| scatter[i * d + i]).sum::<f64>() / n;
        let between: f64 = channel_means.iter().map(|m| (m - mean).powi(2)).sum();
        let std = ((within + between) / d as f64).max(0.0).sqrt();
        let eigenvalues = symmetric_eigenvalues(scatter, d)?;
        let largest = eigenvalues.iter().copied().fold(0.0, f64::max);
        // Eigenvalues that are rounding errors of 0 would count as many small singular values.
        let floor = largest * d as f64 * f64::EPSILON;
        let singular: Vec<f64> = eigenvalues.into_iter().filter(|v| *v > floor).map(f64::sqrt).collect();
        let total: f64 = singular.iter().sum();
        if total <= 0.0 {
            return Err(Error::failed("all feature vectors are equal"));
        }
        let entropy: f64 = singular.iter().map(|s| s / total).map(|p| -p * p.ln()).sum();
        Ok(Spread { mean, std, effective_rank: entropy.exp() })
    }
}

/// Maximum number of QL iterations per eigenvalue.
const ITERATIONS: usize = 60;

/// Returns the eigenvalues of a symmetric matrix, `[d, d]`, in no particular order: Householder's reduction to
/// tridiagonal form, then QL with implicit shifts (Golub and Van Loan, Matrix Computations, 8.3).
fn symmetric_eigenvalues(mut a: Vec<f64>, d: usize) -> Result<Vec<f64>> {
    let (mut diagonal, mut off) = (vec![0.0; d], vec![0.0; d]);
    for k in 0..d.saturating_sub(1) {
        diagonal[k] = a[k * d + k];
        // Reflect the column below the diagonal onto its first entry.
        let mut v: Vec<f64> = (k + 1..d).map(|i| a[i * d + k]).collect();
        let length = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length == 0.0 {
            continue;
        }
        let alpha = if v[0] > 0.0 { -length } else { length };
        off[k] = alpha;
        v[0] -= alpha;
        let square: f64 = v.iter().map(|x| x * x).sum();
        if square == 0.0 {
            continue;
        }
        // A ← A − v wᵀ − w vᵀ with p = 2 A v / vᵀv and w = p − (vᵀp / vᵀv) v.
        let m = v.len();
        let at = |i: usize, j: usize| (k + 1 + i) * d + k + 1 + j;
        let mut p: Vec<f64> = (0..m)
            .map(|i| 2.0 / square * a[at(i, 0)..at(i, 0) + m].iter().zip(&v).map(|(x, v)| x * v).sum::<f64>())
            .collect();
        let share = v.iter().zip(&p).map(|(v, p)| v * p).sum::<f64>() / square;
        p.iter_mut().zip(&v).for_each(|(p, v)| *p -= share * v);
        for i in 0..m {
            let row = &mut a[at(i, 0)..at(i, 0) + m];
            for ((x, v_j), w_j) in row.iter_mut().zip(&v).zip(&p) {
                *x -= v[i] * w_j + p[i] * v_j;
            }
        }
    }
    if let Some(last) = d.checked_sub(1) {
        diagonal[last] = a[last * d + last];
    }
    // Relative to the whole matrix: the values of a singular matrix that are rounding errors of 0 do not converge
    // relative to each other.
    let norm = diagonal.iter().chain(&off).fold(0.0, |norm: f64, value| norm.max(value.abs()));
    for l in 0..d {
        for iteration in 0.. {
            let small = |m: &usize| off[*m].abs() <= f64::EPSILON * norm;
            let m = (l..d.saturating_sub(1)).find(small).unwrap_or(d - 1);
            if m == l {
                break;
            }
            if iteration == ITERATIONS {
                return Err(Error::failed("the eigenvalues of the features' covariance do not converge"));
            }
            let g = (diagonal[l + 1] - diagonal[l]) / (2.0 * off[l]);
            let r = g.hypot(1.0);
            let mut g = diagonal[m] - diagonal[l] + off[l] / (g + r.copysign(g));
            let (mut s, mut c, mut p) = (1.0, 1.0, 0.0);
            let mut whole = true;
            for i in (l..m).rev() {
                let (f, b) = (s * off[i], c * off[i]);
                let r = f.hypot(g);
                off[i + 1] = r;
                if r == 0.0 {
                    diagonal[i + 1] -= p;
                    off[m] = 0.0;
                    whole = false;
                    break;
                }
                (s, c) = (f / r, g / r);
                g = diagonal[i + 1] - p;
                let r = (diagonal[i] - g) * s + 2.0 * c * b;
                p = s * r;
                diagonal[i + 1] = g + p;
                g = c * r - b;
            }
            if whole {
                diagonal[l] -= p;
                off[l] = g;
                off[m] = 0.0;
            }
        }
    }
    Ok(diagonal)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fewer vectors than channels: most eigenvalues are rounding errors of 0.
    #[test]
    fn fewer_vectors_than_channels_have_at_most_their_rank() -> Result<()> {
        let mut sums = SpreadSums::new(96);
        for n in 0..7 {
            let vector: Vec<f32> = (0..96).map(|i| ((i * 7919 + n * 104_729) % 1009) as f32 / 504.5 - 1.0).collect();
            sums.add(&vector)?;
        }
        let rank = sums.spread()?.effective_rank;
        assert!(rank > 5.0 && rank <= 6.0 + 1e-9, "{rank}");
        Ok(())
    }
}
