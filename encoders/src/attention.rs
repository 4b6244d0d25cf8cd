//! Scaled dot-product attention behind one door.
//!
//! Burn's fused operation is fast for inference, but its boolean mask means opposite things on
//! different backends and its differentiable form is a chain of small operations. So the rest of
//! the crate calls [`attend`]: masks are additive float biases, which all backends read the same
//! way, and the differentiated path is written out with the cheaper softmax.

use burn::tensor::{Device, Tensor, TensorData, activation::softmax, module::attention, ops::AttentionModuleOptions};

/// `softmax(q kᵀ / √head_dim + bias) v`.
///
/// `q` is `[batch, heads, queries, head_dim]`; `k` and `v` are `[batch, heads, keys, head_dim]`; `bias` is
/// added to the scores and broadcasts from `[1 or batch, 1 or heads, queries, keys]`. Returns the shape of `q`.
pub fn attend(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, bias: Option<Tensor<4>>) -> Tensor<4> {
    if !q.is_autodiff() {
        return attention(q, k, v, None, bias, AttentionModuleOptions::default());
    }
    let [_, _, _, head_dim] = q.dims();
    // Scaling the queries touches fewer numbers than scaling the scores.
    let scores = q.mul_scalar((head_dim as f64).powf(-0.5)).matmul(k.transpose());
    let scores = match bias {
        Some(bias) => scores + bias,
        None => scores,
    };
    softmax(scores, 3).matmul(v)
}

/// The additive bias `[1, 1, len, len]` that hides later tokens from earlier ones.
///
/// A large negative number stands for minus infinity: it becomes exactly zero after the softmax
/// and cannot turn into NaN.
pub fn causal_bias(len: usize, device: &Device) -> Tensor<4> {
    let values: Vec<f32> = (0..len * len).map(|i| if i % len > i / len { -1e9 } else { 0.0 }).collect();
    Tensor::from_data(TensorData::new(values, [1, 1, len, len]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Tolerance;

    fn ramp(shape: [usize; 4], period: usize, device: &Device) -> Tensor<4> {
        let n = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|i| ((i * 7 + 3) % period) as f32 / period as f32 - 0.5).collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    #[test]
    fn the_differentiable_path_equals_the_fused_one() {
        let shape = [2, 3, 5, 4];
        for causal in [false, true] {
            let run = |device: &Device| {
                let bias = causal.then(|| causal_bias(5, device));
                attend(ramp(shape, 17, device), ramp(shape, 13, device), ramp(shape, 29, device), bias).into_data()
            };
            let plain = Device::flex();
            run(&plain).assert_approx_eq::<f32>(&run(&plain.autodiff()), Tolerance::absolute(1e-6));
        }
    }

    #[test]
    fn later_tokens_are_hidden() {
        let device = Device::flex();
        let (q, k) = (ramp([1, 1, 3, 2], 5, &device), ramp([1, 1, 3, 2], 7, &device));
        let v = ramp([1, 1, 3, 2], 11, &device);
        let out = attend(q, k, v.clone(), Some(causal_bias(3, &device)));
        let first = out.slice([0..1, 0..1, 0..1]).into_data();
        first.assert_approx_eq::<f32>(&v.slice([0..1, 0..1, 0..1]).into_data(), Tolerance::absolute(1e-6));
    }
}
