//! Feature vectors of the same items in double precision, for the alignment of two representations.

use crate::kernel::product::product_f64;
use crate::kernel::{Matrix, Strides};
use burgess_base::{Error, Result};
use rayon::prelude::*;

/// Feature vectors of `n` items, `[n, width]`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Vectors {
    values: Vec<f64>,
    n: usize,
    width: usize,
}

impl Vectors {
    /// Makes the vectors of `n` items from their values, row-major.
    ///
    /// # Errors
    /// There are no values, their number is no multiple of `n`, or a value is not finite.
    pub fn new(values: Vec<f64>, n: usize) -> Result<Self> {
        if n == 0 || values.is_empty() || !values.len().is_multiple_of(n) {
            return Err(Error::failed(format!("{} feature values of {n} items are no vectors", values.len())));
        }
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            let item = at * n / values.len();
            return Err(Error::failed(format!("feature vector {item} has a value that is not finite")));
        }
        let width = values.len() / n;
        Ok(Self { values, n, width })
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.n
    }

    /// Whether there are no items, which is never the case.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Length of a vector.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The vectors in order.
    pub fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.width)
    }

    /// Scales each vector to L2 norm 1, as `torch.nn.functional.normalize`.
    #[must_use]
    pub fn normalised(&self) -> Self {
        let mut out = self.clone();
        for row in out.values.chunks_exact_mut(self.width) {
            let length = row.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
            row.iter_mut().for_each(|v| *v /= length);
        }
        out
    }

    /// Inner products of all pairs, `[n, n]`.
    pub(super) fn gram(&self) -> Vec<f64> {
        let (n, width) = (self.n, self.width);
        let mut out = vec![0.0; n * n];
        let by_row = Strides::row_major(width);
        let rows = n.div_ceil(rayon::current_num_threads().max(1)).max(1);
        out.par_chunks_mut(rows * n).zip(self.values.par_chunks(rows * width)).for_each(|(out, block)| {
            let shape = [block.len() / width, n, width];
            let all = Matrix(self.values.as_slice(), by_row.transposed());
            product_f64(shape, out, Strides::row_major(n), Matrix(block, by_row), all, false);
        });
        out
    }
}

/// Clamps the features of all layers at ±q, where q is the mean over items of the `quantile` of an item's absolute
/// features in all layers; as platonic-rep prepares features, with `quantile` = 0.95.
///
/// # Errors
/// The layers have different numbers of items.
pub fn clamp_outliers(layers: &mut [Vectors], quantile: f64) -> Result<()> {
    let n = layers.first().map_or(0, Vectors::len);
    if layers.iter().any(|layer| layer.n != n) {
        return Err(Error::failed("the layers have feature vectors of different numbers of items"));
    }
    let of_item = |i: usize| {
        let row = |layer: &Vectors| layer.values[i * layer.width..(i + 1) * layer.width].to_vec();
        let mut all: Vec<f64> = layers.iter().flat_map(row).map(f64::abs).collect();
        all.sort_unstable_by(f64::total_cmp);
        // Linear between order statistics, as torch.quantile.
        let place = quantile * (all.len() - 1) as f64;
        let (low, high) = (all[place.floor() as usize], all[place.ceil() as usize]);
        low + (place - place.floor()) * (high - low)
    };
    let quantiles: Vec<f64> = (0..n).into_par_iter().map(of_item).collect();
    let q = quantiles.iter().sum::<f64>() / n.max(1) as f64;
    for layer in layers {
        layer.values.iter_mut().for_each(|v| *v = v.clamp(-q, q));
    }
    Ok(())
}
