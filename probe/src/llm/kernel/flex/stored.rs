//! Products with weights that stay as their file stores them, and their gradients with respect to the input.

use super::{Input, record, slice, tensor};
use crate::llm::stored::StoredWeight;
use burgess_encoders::kernel::stored;
use burn::tensor::Tensor;
use rayon::prelude::*;
use std::sync::Arc;

/// Fused form of [`crate::llm::kernel::portable::stored_linear`] with all biases `None`; `None` if `x` is no f32 tensor of
/// this backend, or a shape does not fit.
pub fn stored_linear(x: &Tensor<2>, weights: &[&StoredWeight]) -> Option<Tensor<2>> {
    let [rows, inputs] = x.dims();
    let input = Input::of(x)?;
    let total: usize = weights.iter().map(|weight| weight.shape()[1]).sum();
    if rows * inputs * total == 0 || weights.iter().any(|weight| weight.shape()[0] != inputs) {
        return None;
    }
    let values = input.values();
    let matrices: Vec<_> = weights.iter().map(|weight| (weight.matrix().as_ref(), weight.activations())).collect();
    let out = stored::products(slice(&values), &matrices);
    drop(values);
    let matrices: Vec<_> = weights.iter().map(|weight| Arc::clone(weight.matrix())).collect();
    Some(record([input], tensor(out, [rows, total]), move || {
        Arc::new(move |grad, _| {
            let mut sum: Option<Vec<f32>> = None;
            let mut first = 0;
            for matrix in &matrices {
                let [outputs, _] = matrix.shape();
                let pulled = match outputs == total {
                    true => matrix.product_transposed(grad),
                    false => {
                        let mut part = vec![0f32; rows * outputs];
                        for (part, grad) in part.chunks_exact_mut(outputs).zip(grad.chunks_exact(total)) {
                            part.copy_from_slice(&grad[first..first + outputs]);
                        }
                        matrix.product_transposed(&part)
                    }
                };
                first += outputs;
                match &mut sum {
                    None => sum = Some(pulled),
                    Some(sum) => sum.par_iter_mut().zip(&pulled).for_each(|(sum, pulled)| *sum += pulled),
                }
            }
            [sum.map(|sum| tensor(sum, [rows, inputs]))]
        })
    }))
}
