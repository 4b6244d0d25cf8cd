//! The steps of a decoder besides matrix products: norms, rotary causal attention, gated activation, and the loss.
//!
//! [`portable`] defines each of them in ordinary tensor operations and runs on every backend; `flex` computes each
//! in one pass on the CPU backend. The functions here choose between the two by the tensors they are given.

mod flex;
mod pool;
pub mod portable;

pub use flex::Bf16Copies;
pub(crate) use flex::CachedRows;
pub(super) use pool::in_pool;
pub use portable::{attend, attend_causal};

use crate::llm::activation::Activation;
use crate::llm::precision::cast;
use crate::llm::rope::Rope;
use crate::llm::stored::StoredWeight;
use burgess_encoders::transfer;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use std::cell::RefCell;
use std::sync::Arc;

/// Padding mask per sequence, `[batch][t]`: a `true` position is attended to by itself only; `None` masks nothing.
pub type PaddingMask<'a> = Option<&'a [Vec<bool>]>;

/// Sizes and options of one attention call, for queries, keys and values in one joint projection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionSpec {
    /// Number of sequences in the batch.
    pub batch: usize,
    /// Number of positions per sequence.
    pub tokens: usize,
    /// Number of query heads.
    pub query: usize,
    /// Number of key/value heads; each serves `query / kv` consecutive query heads.
    pub kv: usize,
    /// Number of channels per head.
    pub width: usize,
    /// The factor on attention scores, usually 1/√width.
    pub scale: f64,
    /// Sliding window: the number of positions that a query attends to, its own included; `None` for full attention.
    pub window: Option<usize>,
    /// Soft cap: a score s becomes cap · tanh(s / cap).
    pub softcap: Option<f64>,
    /// Whether the rotary layout is interleaved (neighbouring channels form a pair) instead of `rotate_half`.
    pub interleaved: bool,
}

impl AttentionSpec {
    /// Columns of the joint query–key–value projection: all query heads, then all keys, then all values.
    pub fn columns(&self) -> usize {
        (self.query + 2 * self.kv) * self.width
    }

    /// Number of query heads per key/value head.
    pub fn group(&self) -> usize {
        self.query / self.kv
    }

    /// The first position that the query at `position` attends to: 0 without a window.
    pub fn first_key(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }
}

/// Root-mean-square norm over the last axis; see [`portable::rms_norm`].
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    flex::rms_norm(&x, &weight, eps).unwrap_or_else(|| portable::rms_norm(x, weight, eps))
}

/// Layer norm over the last axis; see [`portable::layer_norm`].
pub fn layer_norm(x: Tensor<2>, weight: Option<Tensor<1>>, bias: Option<Tensor<1>>, eps: f64) -> Tensor<2> {
    portable::layer_norm(x, weight, bias, eps)
}

/// Applies the activation element by element; see [`portable::activate`].
pub fn activate(x: Tensor<2>, activation: Activation) -> Tensor<2> {
    portable::activate(x, activation)
}

/// Gated activation, `[n, 2f]` → `[n, f]`; see [`portable::gated`].
pub fn gated(gate_up: Tensor<2>, activation: Activation) -> Tensor<2> {
    match activation {
        Activation::Silu => flex::swiglu(&gate_up).unwrap_or_else(|| portable::gated(gate_up, activation)),
        _ => portable::gated(gate_up, activation),
    }
}

/// The causal masks of one batch of whole sequences, which all layers share. A bias is copied to the device once per
/// window size, when a layer first needs it; the CPU backend needs none.
#[derive(Debug, Default)]
pub struct CausalMasks<'a> {
    padding_mask: PaddingMask<'a>,
    /// Additive biases by window size.
    biases: RefCell<Vec<(Option<usize>, Tensor<4>)>>,
}

impl<'a> CausalMasks<'a> {
    /// Makes the masks of sequences with this padding mask.
    pub fn new(padding_mask: PaddingMask<'a>) -> Self {
        Self { padding_mask, biases: RefCell::default() }
    }

    /// Returns the additive bias for the window of `s`, which is made on first use.
    fn bias(&self, s: AttentionSpec, device: &Device) -> Tensor<4> {
        let mut made = self.biases.borrow_mut();
        if let Some((_, bias)) = made.iter().find(|(window, _)| *window == s.window) {
            return bias.clone();
        }
        let bias = portable::causal_bias(s, self.padding_mask, device);
        made.push((s.window, bias.clone()));
        bias
    }
}

/// Rotary causal self-attention of whole sequences; see [`portable::causal_attention`]. All calls with the same `masks`
/// must have the same batch size, length and device.
pub fn causal_attention(qkv: Tensor<2>, rope: &Rope, s: AttentionSpec, masks: &CausalMasks<'_>) -> Tensor<2> {
    flex::causal_attention(&qkv, rope, s, masks.padding_mask).unwrap_or_else(|| {
        let bias = masks.bias(s, &qkv.device());
        portable::causal_attention(qkv, rope, s, bias)
    })
}

/// A linear layer with a weight of `[in, out]`.
#[derive(Debug, Clone)]
pub struct LinearLayer<'a> {
    /// Weight, `[in, out]`.
    pub weight: Tensor<2>,
    /// Bias, `[out]`.
    pub bias: Option<Tensor<1>>,
    /// Copies of the weight, if products are computed in bf16 on the CPU backend.
    pub bf16: Option<&'a Arc<Bf16Copies>>,
}

/// Computes `x · weight + bias`, `[rows, in]` → `[rows, out]`.
pub fn linear(x: Tensor<2>, layer: LinearLayer<'_>) -> Tensor<2> {
    let layers = [layer];
    fused_linear(&x, &layers).unwrap_or_else(|| {
        let [LinearLayer { weight, bias, .. }] = layers;
        let bias = bias.map(|b| cast(b, x.dtype()));
        let weight = cast(weight, x.dtype());
        burn::tensor::module::linear(x, weight, bias)
    })
}

/// Computes `x · weightᵀ`, `[rows, in]` → `[rows, out]`, for a weight of `[out, in]`, in bf16 if there are copies for it.
pub fn linear_transposed(x: Tensor<2>, weight: Tensor<2>, bf16: Option<&Arc<Bf16Copies>>) -> Tensor<2> {
    let fused = match bf16 {
        Some(copies) => flex::bf16_linear_transposed(&x, &weight, copies),
        None => flex::linear_transposed(&x, &weight),
    };
    fused.unwrap_or_else(|| {
        let weight = cast(weight, x.dtype());
        x.matmul(weight.transpose())
    })
}

/// Outputs of several layers on the same input, concatenated along the columns; `None` if no fused kernel applies. Either
/// all of them compute in bf16, or none.
pub fn fused_linear(x: &Tensor<2>, layers: &[LinearLayer<'_>]) -> Option<Tensor<2>> {
    let bf16 = layers.iter().filter_map(|layer| Some((&layer.weight, layer.bias.as_ref(), layer.bf16?)));
    let bf16: Vec<_> = bf16.collect();
    if bf16.len() == layers.len() {
        return flex::bf16_linear(x, &bf16);
    }
    let layers: Vec<_> = layers.iter().map(|layer| (layer.weight.clone(), layer.bias.clone())).collect();
    flex::fused_linear(x, &layers)
}

/// Outputs of several layers with stored weights on the same input, concatenated along the columns; see
/// [`portable::stored_linear`].
pub fn stored_linear(x: Tensor<2>, layers: &[(&StoredWeight, Option<Tensor<1>>)]) -> Tensor<2> {
    let dtype = x.dtype();
    let x = cast(x, DType::F32);
    if let Some(out) = flex::bf16_stored_linear(&x, layers) {
        return cast(out, dtype);
    }
    let weights: Vec<&StoredWeight> = layers.iter().map(|(weight, _)| *weight).collect();
    let Some(mut out) = flex::stored_linear(&x, &weights) else {
        return cast(portable::stored_linear(x, layers), dtype);
    };
    if layers.iter().any(|(_, bias)| bias.is_some()) {
        let device = out.device();
        let bias = |(weight, bias): &(&StoredWeight, Option<Tensor<1>>)| {
            bias.clone().unwrap_or_else(|| Tensor::zeros([weight.shape()[1]], &device))
        };
        out = out + Tensor::cat(layers.iter().map(bias).collect(), 0).unsqueeze::<2>();
    }
    cast(out, dtype)
}

/// Looks rows of a stored table up, `[b, t]` → `[b, t, width]`, on the device of the ids and without gradient.
pub fn stored_rows(table: &StoredWeight, ids: Tensor<2, Int>) -> Tensor<3> {
    let ([b, t], device) = (ids.dims(), ids.device());
    let [_, width] = table.matrix().shape();
    let ids: Vec<i32> = ids.try_into_vec_as().unwrap_or_default();
    let mut values = vec![0f32; b * t * width];
    for (id, row) in ids.into_iter().zip(values.chunks_exact_mut(width.max(1))) {
        table.matrix().unpack_row(usize::try_from(id).unwrap_or(usize::MAX), row);
    }
    transfer::to_device(TensorData::new(values, [b, t, width]), &device)
}

/// Mean cross-entropy over rows; see [`portable::cross_entropy`].
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    flex::cross_entropy(logits, &targets).unwrap_or_else(|logits| portable::cross_entropy(logits, targets))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::rope::RopeConfig;

    fn numbers<const D: usize>(shape: [usize; D], salt: usize, device: &Device) -> Tensor<D> {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| ((i * 7919 + salt * 104_729) % 1009) as f32 / 504.5 - 1.0).collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    fn close<const D: usize>(what: &str, a: Tensor<D>, b: Tensor<D>) {
        let (a, b) = (a.into_data(), b.into_data());
        let (a, b): (Vec<f32>, Vec<f32>) = (a.iter().collect(), b.iter().collect());
        assert_eq!(a.len(), b.len(), "{what}");
        let (mut off, mut size) = (0f64, 0f64);
        for (a, b) in a.iter().zip(&b) {
            off += f64::from(a - b).powi(2);
            size += f64::from(*b).powi(2);
        }
        assert!(off.sqrt() <= 2e-6 * size.sqrt(), "{what}: {} of {}", off.sqrt(), size.sqrt());
    }

    /// Compares output and gradients of a fused and a plain step, with either input tracked or not.
    fn compare<const D: usize, const E: usize>(
        what: &str,
        shapes: ([usize; D], [usize; E]),
        fused: impl Fn(&Tensor<D>, &Tensor<E>) -> Option<Tensor<2>>,
        plain: impl Fn(Tensor<D>, Tensor<E>) -> Tensor<2>,
    ) {
        let device = Device::flex();
        let (a, b) = (numbers(shapes.0, 1, &device), numbers(shapes.1, 2, &device));
        let out = fused(&a, &b).unwrap_or_else(|| panic!("{what}: not taken on flex"));
        close(what, out, plain(a, b.clone()));
        let tracking = device.autodiff();
        // The second input of a step that has only one is a dummy of one element.
        let cases: &[(bool, bool)] = if b.dims().iter().product::<usize>() == 1 {
            &[(true, false)]
        } else {
            &[(true, true), (true, false), (false, true)]
        };
        for &(track_a, track_b) in cases {
            let make = || {
                let a = numbers(shapes.0, 1, &tracking).set_require_grad(track_a);
                (a, numbers(shapes.1, 2, &tracking).set_require_grad(track_b))
            };
            let ((a, b), (c, d)) = (make(), make());
            let out = fused(&a, &b).unwrap_or_else(|| panic!("{what}: not taken when tracked"));
            let weights = numbers(out.dims(), 3, &tracking);
            let one = (out * weights.clone()).sum().backward();
            let two = (plain(c.clone(), d.clone()) * weights).sum().backward();
            assert_eq!((a.grad(&one).is_some(), b.grad(&one).is_some()), (track_a, track_b), "{what}");
            if let (Some(x), Some(y)) = (a.grad(&one), c.grad(&two)) {
                close(&format!("{what}, first gradient"), x, y);
            }
            if let (Some(x), Some(y)) = (b.grad(&one), d.grad(&two)) {
                close(&format!("{what}, second gradient"), x, y);
            }
        }
    }

    #[test]
    fn the_fused_norm_is_the_portable_one() {
        for (n, d) in [(1, 8), (130, 33), (200, 96)] {
            compare("norm", ([n, d], [d]), |x, w| flex::rms_norm(x, w, 1e-5), |x, w| portable::rms_norm(x, w, 1e-5));
        }
    }

    #[test]
    fn the_fused_gate_is_the_portable_one() {
        for (n, f) in [(1, 3), (130, 40)] {
            let both = |x: &Tensor<2>, _: &Tensor<1>| flex::swiglu(&x.clone().mul_scalar(6.0));
            compare("gate", ([n, 2 * f], [1]), both, |x, _| portable::gated(x.mul_scalar(6.0), Activation::Silu));
        }
    }

    #[test]
    fn the_fused_loss_is_the_portable_one() {
        let device = Device::flex();
        let targets: Vec<i32> = (0..70).map(|i| i * 31 % 50).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [70]), &device);
        let on = |x: &Tensor<2>| Tensor::<1, Int>::from_data(targets.to_data(), &x.device());
        compare(
            "loss",
            ([70, 50], [1]),
            |x, _| flex::cross_entropy(x.clone().mul_scalar(9.0), &on(x)).ok().map(|l| l.reshape([1, 1])),
            |x, _| {
                let t = on(&x);
                portable::cross_entropy(x.mul_scalar(9.0), t).reshape([1, 1])
            },
        );
    }

    #[test]
    fn the_fused_attention_is_the_portable_one() {
        type Case = ([usize; 5], Option<usize>, usize, bool);
        let cases: [Case; 6] = [
            ([1, 1, 1, 1, 2], None, 2, false),
            ([3, 37, 4, 2, 8], None, 8, false),
            ([2, 64, 4, 4, 6], None, 6, true),
            ([2, 131, 6, 2, 32], None, 32, false),
            ([2, 131, 6, 2, 8], Some(5), 4, true),
            ([1, 70, 2, 1, 8], Some(40), 6, false),
        ];
        for ([batch, tokens, query, kv, width], window, rotated, masked) in cases {
            let s = AttentionSpec {
                batch,
                tokens,
                query,
                kv,
                width,
                scale: 0.3,
                window,
                softcap: None,
                interleaved: window == Some(40),
            };
            // Every row has its own positions.
            let positions: Vec<Vec<usize>> = (0..batch).map(|b| (0..tokens).map(|i| i + 3 * b).collect()).collect();
            let rows: Vec<&[usize]> = positions.iter().map(Vec::as_slice).collect();
            let rotation = RopeConfig { width: rotated, theta: 10_000.0, scaling: None, disabled: false };
            let padding_mask: Vec<Vec<bool>> =
                (0..batch).map(|b| (0..tokens).map(|i| i > 0 && (i + b) % 3 == 0).collect()).collect();
            let padding_mask = masked.then_some(padding_mask.as_slice());
            compare(
                &format!("attention {s:?}"),
                ([batch * tokens, s.columns()], [1]),
                |x, _| {
                    flex::causal_attention(
                        &x.clone().mul_scalar(2.0),
                        &rotation.for_positions(&rows, &x.device()),
                        s,
                        padding_mask,
                    )
                },
                |x, _| {
                    let rope = rotation.for_positions(&rows, &x.device());
                    let bias = portable::causal_bias(s, padding_mask, &x.device());
                    portable::causal_attention(x.mul_scalar(2.0), &rope, s, bias)
                },
            );
        }
    }

    #[test]
    fn layers_side_by_side_are_those_one_by_one() {
        let device = Device::flex();
        for (n, k) in [(1, 5), (7, 40), (33, 8), (70, 130)] {
            let x = numbers([n, k], 1, &device);
            let layers: Vec<(Tensor<2>, Option<Tensor<1>>)> = [(3, true), (700, false), (1, true)]
                .into_iter()
                .enumerate()
                .map(|(i, (out, bias))| (numbers([k, out], i, &device), bias.then(|| numbers([out], 9 + i, &device))))
                .collect();
            let plain = layers.iter().map(|(w, b)| burn::tensor::module::linear(x.clone(), w.clone(), b.clone()));
            let plain = Tensor::cat(plain.collect(), 1);
            close("joined", flex::fused_linear(&x, &layers).unwrap(), plain);
            let weight = numbers([600, k], 4, &device);
            let plain = x.clone().matmul(weight.clone().transpose());
            close("transposed", flex::linear_transposed(&x, &weight).unwrap(), plain);
        }
    }

    #[test]
    fn gradients_of_layers_side_by_side_are_those_one_by_one() {
        for (n, k) in [(1, 5), (7, 40), (33, 8), (150, 130)] {
            compare(
                "weights",
                ([n, k], [k, 9]),
                |x, w| flex::fused_linear(x, &[(w.clone().narrow(1, 0, 2), None), (w.clone().narrow(1, 2, 7), None)]),
                |x, w| x.matmul(w),
            );
            let weights = |x: &Tensor<2>| [3, 5].map(|out| numbers([k, out], out, &x.device()));
            compare(
                "biases",
                ([n, k], [5]),
                |x, bias| {
                    let [first, second] = weights(x);
                    flex::fused_linear(x, &[(first, None), (second, Some(bias.clone()))])
                },
                |x, bias| {
                    let [first, second] = weights(&x);
                    Tensor::cat(vec![x.clone().matmul(first), x.matmul(second) + bias.unsqueeze::<2>()], 1)
                },
            );
            compare("transposed", ([n, k], [70, k]), flex::linear_transposed, |x, w| x.matmul(w.transpose()));
        }
    }

    /// Rounds to bf16, with the gradient of the identity.
    fn rounded(x: Tensor<2>) -> Tensor<2> {
        let inner = x.clone().detach();
        let off = cast(cast(inner.clone(), DType::BF16), DType::F32) - inner;
        x + off
    }

    /// A product of operands rounded to bf16, whose gradients are products of rounded operands too. `out` is a part of
    /// the columns of a result that is multiplied by `factors`, so that its gradient is known.
    fn product_in_bf16(x: Tensor<2>, w: Tensor<2>, factors: Tensor<2>) -> [Tensor<2>; 3] {
        let [x, w, factors] = [x, w, factors].map(rounded);
        let (dx, dw) = (factors.clone().matmul(w.clone().transpose()), x.clone().transpose().matmul(factors));
        [x.matmul(w), dx, dw]
    }

    #[test]
    fn layers_in_bf16_and_their_gradients_are_products_of_rounded_operands() {
        let device = Device::flex();
        for (n, k, columns) in [(1, 5, [3, 1]), (7, 40, [33, 2]), (33, 8, [1, 70]), (150, 131, [96, 45])] {
            let total = columns[0] + columns[1];
            let [x, w, factors] = [([n, k], 1), ([k, total], 2), ([n, total], 3)].map(|(s, i)| numbers(s, i, &device));
            let [out, dx, dw] = product_in_bf16(x.clone(), w.clone(), factors.clone());
            let copies: [Arc<Bf16Copies>; 2] = Default::default();
            let bias = |d: &Device| numbers([columns[1]], 4, d);
            let layers = |x: &Tensor<2>, w: [Tensor<2>; 2], bias: Tensor<1>| {
                flex::bf16_linear(x, &[(&w[0], None, &copies[0]), (&w[1], Some(&bias), &copies[1])]).unwrap()
            };
            let parts = |w: &Tensor<2>| w.clone().split_with_sizes(columns.to_vec(), 1).try_into().unwrap();
            let sum = Tensor::cat(vec![Tensor::zeros([columns[0]], &device), bias(&device)], 0);
            let found = layers(&x, parts(&w), bias(&device));
            close("output", found.clone(), out + sum.unsqueeze());
            // A row alone, and the copies of an earlier weight.
            close("again", layers(&x, parts(&w), bias(&device)), found.clone());
            let row = layers(&x.clone().narrow(0, n - 1, 1), parts(&w), bias(&device));
            assert_eq!(row.into_data(), found.narrow(0, n - 1, 1).into_data());

            let tracking = device.clone().autodiff();
            let track = |t: &Tensor<2>| Tensor::<2>::from_inner(t.clone()).require_grad();
            let (tx, [w0, w1]) = (track(&x), parts(&w).map(|w: Tensor<2>| track(&w)));
            let tb = Tensor::<1>::from_inner(bias(&device)).require_grad();
            let out = layers(&tx, [w0.clone(), w1.clone()], tb.clone());
            let gradients = (out * Tensor::from_inner(factors.clone())).sum().backward();
            close("gradient of the input", tx.grad(&gradients).unwrap(), dx.clone());
            let found = [w0, w1].map(|w| w.grad(&gradients).unwrap());
            close("gradient of the weights", Tensor::cat(found.to_vec(), 1), dw.clone());
            let sums = factors.clone().narrow(1, columns[0], columns[1]).sum_dim(0).squeeze_dim::<1>(0);
            close("gradient of the bias", tb.grad(&gradients).unwrap(), sums);

            // A frozen weight has no gradient, and an input that is not tracked none either.
            let frozen = Tensor::<2>::from_inner(w.clone());
            let out = flex::bf16_linear(&tx, &[(&frozen, None, &Arc::default())]).unwrap();
            let gradients = (out * Tensor::from_inner(factors.clone())).sum().backward();
            close("gradient of the input alone", tx.grad(&gradients).unwrap(), dx.clone());
            let (still, tracked) = (Tensor::<2>::from_inner(x.clone()), track(&w));
            let out = flex::bf16_linear(&still, &[(&tracked, None, &Arc::default())]).unwrap();
            let gradients = (out * Tensor::from_inner(factors.clone())).sum().backward();
            close("gradient of the weight alone", tracked.grad(&gradients).unwrap(), dw.clone());

            // The transposed weight, as in a tied output head.
            let turned = track(&Tensor::from_data(w.clone().transpose().into_data(), &device));
            let out = flex::bf16_linear_transposed(&tx, &turned, &Arc::default()).unwrap();
            close("transposed", out.clone().inner(), product_in_bf16(x.clone(), w.clone(), factors.clone())[0].clone());
            let gradients = (out * Tensor::from_inner(factors)).sum().backward();
            close("its gradient", tx.grad(&gradients).unwrap(), dx);
            close("its weight's", turned.grad(&gradients).unwrap(), dw.transpose());
            drop(tracking);
        }
    }

    #[test]
    fn bf16_copies_follow_their_weight() {
        let device = Device::flex();
        let (x, copies) = (numbers([3, 8], 1, &device), Arc::default());
        let of = |w: &Tensor<2>| flex::bf16_linear(&x, &[(w, None, &copies)]).unwrap();
        let mut weight = numbers([8, 5], 2, &device);
        for factor in [1.0, -2.0, 3.0] {
            // In place: nothing else holds the values.
            weight = weight.mul_scalar(factor);
            close("after a change", of(&weight), rounded(x.clone()).matmul(rounded(weight.clone())));
        }
    }
}
