//! Casts between the types in which weights are kept and in which a model computes.

use burn::tensor::{DType, FloatDType, Tensor};

/// Casts `tensor` to `dtype` if it has another type; the gradient comes back in the tensor's own type.
///
/// Weights are kept in f32 and cast to the compute type where they are used.
pub fn cast<const D: usize>(tensor: Tensor<D>, dtype: DType) -> Tensor<D> {
    match dtype {
        _ if tensor.dtype() == dtype => tensor,
        DType::BF16 => tensor.cast(FloatDType::BF16),
        DType::F16 => tensor.cast(FloatDType::F16),
        _ => tensor.cast(FloatDType::F32),
    }
}
