//! Comparison of features and gradients with their references.
//!
//! Test files of `burgess-encoders` include this file with `#[path]`.

// Not every test file uses every item.
#![allow(dead_code)]

use burn::module::{ModuleMapper, Param};
use burn::tensor::Tensor;

/// ‖a − b‖ / ‖b‖.
pub fn difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(a - b))) / norm(&mut b.iter().map(|b| f64::from(*b)))
}

/// Puts each parameter's gradient in its place.
pub struct Gradients(pub burn::tensor::Gradients);

impl ModuleMapper for Gradients {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let value = param.val();
        let gradient = value.grad(&self.0).unwrap_or_else(|| value.inner().zeros_like());
        Param::initialized(param.id, gradient)
    }
}
