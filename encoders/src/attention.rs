//! Scaled dot-product attention, one function for all backends.
//!
//! Burn's fused operation interprets its boolean mask in opposite ways on different backends, copies queries, keys and
//! values into its own order on the CPU, and differentiates as a chain of small operations. The rest of the crate
//! therefore calls [`attend`]: masks are additive float biases, which all backends interpret alike; on `flex` our own
//! loop reads tensors without copying; and the differentiable path uses explicit operations with the cheaper softmax.

use crate::kernel;
use burn::tensor::{Device, Tensor, TensorData, activation::softmax, module::attention, ops::AttentionModuleOptions};

/// A bias added to the attention scores.
#[derive(Debug, Clone, Default)]
#[expect(clippy::large_enum_variant, reason = "made once for each block and handed on")]
pub enum Bias {
    /// No bias is added.
    #[default]
    None,
    /// A bias per query and key, `[1 or batch, 1 or heads, queries, keys]`.
    Full(Tensor<4>),
    /// A bias by axis for keys on a row-major grid: `down` for a key's row plus `across` for its column.
    ByAxis {
        /// Bias per key row, `[batch, heads, queries, rows]`.
        down: Tensor<4>,
        /// Bias per key column, `[batch, heads, queries, columns]`.
        across: Tensor<4>,
    },
}

impl Bias {
    /// The bias as one tensor `[1 or batch, 1 or heads, queries, keys]`; `None` if there is no bias.
    fn whole(self) -> Option<Tensor<4>> {
        match self {
            Self::None => None,
            Self::Full(bias) => Some(bias),
            Self::ByAxis { down, across } => {
                let ([batch, heads, queries, rows], [_, _, _, columns]) = (down.dims(), across.dims());
                let sum = down.unsqueeze_dim::<5>(4) + across.unsqueeze_dim::<5>(3);
                Some(sum.reshape([batch, heads, queries, rows * columns]))
            }
        }
    }
}

/// Angles of the rotary position embedding, which rotates pairs of neighbouring channels of queries and keys. Both
/// channels of a pair have the same angle.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// Cosines of the angles, `[tokens, head_dim]`.
    pub cos: Tensor<2>,
    /// Sines of the angles, `[tokens, head_dim]`.
    pub sin: Tensor<2>,
}

impl Rotation {
    /// Rotates `x` of shape `[batch, heads, tokens, head_dim]`.
    fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, heads, tokens, head_dim] = x.dims();
        let pairs: Tensor<5> = x.clone().reshape([batch, heads, tokens, head_dim / 2, 2]);
        let turned = Tensor::cat(vec![pairs.clone().narrow(4, 1, 1).neg(), pairs.narrow(4, 0, 1)], 4);
        let turned: Tensor<4> = turned.reshape([batch, heads, tokens, head_dim]);
        x * self.cos.clone().unsqueeze() + turned * self.sin.clone().unsqueeze()
    }
}

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
