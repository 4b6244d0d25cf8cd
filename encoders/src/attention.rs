//! Scaled dot-product attention, one function for all backends.
//!
//! Burn's fused operation interprets its boolean mask in opposite ways on different backends, copies queries, keys and
//! values into its own order on the CPU, and differentiates as a chain of small operations. The rest of the crate
//! therefore calls [`attend`]: masks are additive float biases, which all backends interpret alike; on `flex` our own
//! loop reads tensors without copying; and the differentiable path uses explicit operations with the cheaper softmax.

use crate::kernel;
pub use crate::operands::{Bias, Rotation};
use crate::transfer;
use burn::tensor::{Device, Tensor, TensorData, activation::softmax, module::attention, ops::AttentionModuleOptions};

/// Computes `softmax(q kᵀ / √head_dim + bias) v`, with queries and keys rotated first if there is a `rotation`.
///
/// `q` is `[batch, heads, queries, head_dim]`; `k` and `v` are `[batch, heads, keys, head_dim]`; they may be views.
/// Returns the concatenated heads, `[batch, queries, heads * head_dim]`.
pub fn attend(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, bias: Bias, rotation: Option<&Rotation>) -> Tensor<3> {
    if let Some(mixed) = kernel::attention(&q, &k, &v, &bias, rotation) {
        return mixed;
    }
    let (q, k) = match rotation {
        Some(rotation) => (rotation.apply(q), rotation.apply(k)),
        None => (q, k),
    };
    let bias = bias.whole();
    let [batch, heads, queries, head_dim] = q.dims();
    let mixed = if q.is_autodiff() {
        // There are fewer queries than scores to scale.
        let scores = q.mul_scalar((head_dim as f64).powf(-0.5)).matmul(k.transpose());
        let scores = match bias {
            Some(bias) => scores + bias,
            None => scores,
        };
        softmax(scores, 3).matmul(v)
    } else {
        attention(q, k, v, None, bias, AttentionModuleOptions::default())
    };
    mixed.swap_dims(1, 2).reshape([batch, queries, heads * head_dim])
}

/// The additive causal mask `[1, 1, len, len]`: 0 where a token may attend, -1e9 for later tokens.
///
/// -1e9 is used instead of minus infinity: it becomes exactly 0 after the softmax and cannot turn into NaN.
pub fn causal_bias(len: usize, device: &Device) -> Tensor<4> {
    let values: Vec<f32> = (0..len * len).map(|i| if i % len > i / len { -1e9 } else { 0.0 }).collect();
    transfer::to_device(TensorData::new(values, [1, 1, len, len]), device)
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

    /// Compares both paths on queries, keys and values that are views of one projection's output, with three heads.
    fn compare(what: &str, bias: impl Fn(&Device) -> Bias, rotated: bool, [tokens, width]: [usize; 2]) {
        let run = |device: &Device| {
            let all = ramp([2, tokens, 3 * 3, width], 17, device).mul_scalar(3.0);
            let part = |i: usize| all.clone().narrow(2, 3 * i, 3).swap_dims(1, 2);
            let rotation = rotated.then(|| {
                let angle: Tensor<2> = ramp([1, 1, tokens, width / 2], 13, device).squeeze_dims(&[0, 1]);
                let angle: Tensor<2> = angle.unsqueeze_dim::<3>(2).repeat_dim(2, 2).reshape([tokens, width]);
                Rotation { cos: angle.clone().cos(), sin: angle.sin() }
            });
            attend(part(0), part(1), part(2), bias(device), rotation.as_ref()).into_data()
        };
        let plain = Device::flex();
        let (fused, tracked) = (run(&plain), run(&plain.autodiff()));
        fused.assert_approx_eq::<f32>(&tracked, Tolerance::absolute(2e-6));
        assert_eq!(fused.shape(), tracked.shape(), "{what}");
    }

    #[test]
    fn the_differentiable_path_equals_the_fused_one() {
        for shape in [[1, 2], [5, 4], [150, 32]] {
            let [tokens, _] = shape;
            for rotated in [false, true] {
                compare("plain", |_| Bias::None, rotated, shape);
                compare("causal", |device| Bias::Full(causal_bias(tokens, device)), rotated, shape);
                compare("full", |device| Bias::Full(ramp([2, 3, tokens, tokens], 23, device)), rotated, shape);
            }
        }
        let by_axis = |device: &Device| Bias::ByAxis {
            down: ramp([2, 3, 12, 3], 23, device),
            across: ramp([2, 3, 12, 4], 19, device),
        };
        compare("by axis", by_axis, false, [12, 4]);
    }

    #[test]
    fn an_image_alone_gives_the_bits_it_gives_among_others() {
        let device = Device::flex();
        let all = [11, 13, 17].map(|period| ramp([3, 2, 70, 8], period, &device));
        let run = |from: usize, count: usize| {
            let [q, k, v] = all.clone().map(|x| x.narrow(0, from, count));
            attend(q, k, v, Bias::None, None)
        };
        let together = run(0, 3);
        for i in 0..3 {
            assert_eq!(run(i, 1).into_data(), together.clone().narrow(0, i, 1).into_data());
        }
    }

    #[test]
    fn later_tokens_are_hidden() {
        let device = Device::flex();
        let (q, k) = (ramp([1, 1, 3, 2], 5, &device), ramp([1, 1, 3, 2], 7, &device));
        let v = ramp([1, 1, 3, 2], 11, &device);
        let out = attend(q, k, v.clone(), Bias::Full(causal_bias(3, &device)), None);
        let first = out.slice([0..1, 0..1]).into_data();
        first.assert_approx_eq::<f32>(
            &v.slice([0..1, 0..1, 0..1]).reshape([1, 1, 2]).into_data(),
            Tolerance::absolute(1e-6),
        );
    }
}
