//! Functions to compare tensors, for several test files.

// Not every test file uses every function.
#![allow(dead_code)]

use burgess_base::{Error, Result};
use burn::tensor::Tensor;

/// ‖a − b‖ / ‖b‖.
pub fn difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |v: &mut dyn Iterator<Item = f32>| v.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied())
}

/// The elements of a tensor, in row-major order.
pub fn values<const D: usize>(x: Tensor<D>) -> Result<Vec<f32>> {
    x.try_into_vec_as().map_err(|e| Error::failed(e.to_string()))
}
