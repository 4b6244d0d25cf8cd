//! Reference implementation of each step in tensor operations of any backend. With 16-bit activations, means,
//! exponentials and the loss are computed in f32, as under PyTorch's mixed precision.

use super::{AttentionSpec, PaddingMask};
use crate::llm::activation::Activation;
use crate::llm::precision::cast;
use crate::llm::rope::Rope;
use crate::llm::stored::StoredWeight;
use burgess_encoders::operands::gelu;
use burgess_encoders::{reduce, transfer};
use burn::tensor::activation::{gelu_approximate, log_softmax, relu, silu, softmax};
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{DType, Int, Tensor, TensorData};

/// `x · weight / sqrt(mean(x²) + eps)` over the last axis (RMSNorm, arXiv 1910.07467).
///
/// `x`: `[n, d]`, `weight`: `[d]`.
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, eps: f64) -> Tensor<2> {
    let dtype = x.dtype();
    let x = cast(x, DType::F32);
    let scale = x.clone().square().mean_dim(1).add_scalar(eps).sqrt().recip();
    cast(x * scale * weight.unsqueeze::<2>(), dtype)
}

/// `(x − mean(x)) / sqrt(var(x) + eps) · weight + bias` over the last axis (LayerNorm, arXiv 1607.06450); `weight`
/// and `bias` are optional.
///
/// `x`: `[n, d]`, `weight` and `bias`: `[d]`.
pub fn layer_norm(x: Tensor<2>, weight: Option<Tensor<1>>, bias: Option<Tensor<1>>, eps: f64) -> Tensor<2> {
    let dtype = x.dtype();
    let x = cast(x, DType::F32);
    let x = x.clone() - x.mean_dim(1);
    let scale = x.clone().square().mean_dim(1).add_scalar(eps).sqrt().recip();
    let mut x = x * scale;
    if let Some(weight) = weight {
        x = x * weight.unsqueeze::<2>();
    }
    if let Some(bias) = bias {
        x = x + bias.unsqueeze::<2>();
    }
    cast(x, dtype)
}

/// Applies the activation element by element.
pub fn activate(x: Tensor<2>, activation: Activation) -> Tensor<2> {
    match activation {
        Activation::Silu => silu(x),
        Activation::GeluTanh => gelu_approximate(x),
        Activation::Gelu => gelu(x),
        Activation::Relu => relu(x),
        Activation::ReluSquared => relu(x).square(),
    }
}

/// Soft cap: cap · tanh(x / cap), element by element.
pub fn softcap<const D: usize>(x: Tensor<D>, cap: f64) -> Tensor<D> {
    x.div_scalar(cap).tanh().mul_scalar(cap)
}

/// Computes `act(gate) · up` (arXiv 2002.05202); `gate_up`: `[n, 2f]` with the gate first; result `[n, f]`.
pub fn gated(gate_up: Tensor<2>, activation: Activation) -> Tensor<2> {
    let f = gate_up.dims()[1] / 2;
    let (x, up) = (gate_up.clone().narrow(1, 0, f), gate_up.narrow(1, f, f));
    activate(x, activation) * up
}

/// Splits the joint projection `[batch · tokens, columns]` into rotated queries, rotated keys and values, each
/// `[batch, heads, tokens, width]`.
pub fn split_qkv(qkv: Tensor<2>, rope: &Rope, s: AttentionSpec) -> (Tensor<4>, Tensor<4>, Tensor<4>) {
    let cut = |from: usize, heads: usize| {
        qkv.clone().narrow(1, from * s.width, heads * s.width).reshape([s.batch, s.tokens, heads, s.width])
    };
    let q = rope.rotate(cut(0, s.query), s.interleaved).swap_dims(1, 2);
    let k = rope.rotate(cut(s.query, s.kv), s.interleaved).swap_dims(1, 2);
    let v = cut(s.query + s.kv, s.kv).swap_dims(1, 2);
    (q, k, v)
}

/// Scaled dot-product attention with an additive bias; the only place where scores and mask are combined.
///
/// The bias is a float (0 = attended, −∞ = masked), as boolean masks have opposite meanings on different backends.
/// Query heads of one key/value head are stacked along the query axis, to avoid repeating keys and values.
///
/// `q`: `[b, query, t, w]`, `k`, `v`: `[b, kv, s, w]`, `bias`: `[b or 1, 1, t, s]`; result `[b · t, query · w]`.
pub fn attend(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, bias: Option<Tensor<4>>, s: AttentionSpec) -> Tensor<2> {
    let [b, heads, t, w] = q.dims();
    let [_, kv, slots, _] = k.dims();
    let dtype = q.dtype();
    let group = heads / kv;
    let q = q.reshape([b, kv, group * t, w]).mul_scalar(s.scale);
    let mut scores = q.matmul(k.swap_dims(2, 3));
    if let Some(cap) = s.softcap {
        scores = softcap(scores, cap);
    }
    if let Some(bias) = bias {
        let stacked = if group == 1 { bias } else { bias.repeat_dim(2, group) };
        scores = scores + cast(stacked, dtype);
    }
    debug_assert_eq!(scores.dims(), [b, kv, group * t, slots]);
    cast(softmax(cast(scores, DType::F32), 3), dtype)
        .matmul(v)
        .reshape([b, heads, t, w])
        .swap_dims(1, 2)
        .reshape([b * t, heads * w])
}

/// Causal attention by the backend's own kernel. For inference: such kernels have no gradient (under autodiff, Burn
/// uses plain operations instead).
///
/// `q`: `[b, query, t, w]`, `k`, `v`: `[b, kv, t, w]`; result `[b · t, query · w]`.
pub fn attend_causal(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, scale: f64) -> Tensor<2> {
    let [b, heads, t, w] = q.dims();
    let kv = k.dims()[1];
    // The kernel needs one key/value head per query head; repeating them costs less than storing the scores.
    let each = |x: Tensor<4>| match heads / kv {
        1 => x,
        group => x.unsqueeze_dim::<5>(2).repeat_dim(2, group).reshape([b, heads, t, w]),
    };
    let options = AttentionModuleOptions { scale: Some(scale), softcap: None, is_causal: true };
    attention(q, each(k), each(v), None, None, options).swap_dims(1, 2).reshape([b * t, heads * w])
}

/// Additive attention bias `[batch or 1, 1, t, t]`: 0 for the position itself and for earlier unmasked positions in
/// the window, −∞ elsewhere.
pub fn causal_bias(s: AttentionSpec, padding_mask: PaddingMask<'_>, device: &burn::tensor::Device) -> Tensor<4> {
    let t = s.tokens;
    let rows = if padding_mask.is_some() { s.batch } else { 1 };
    let mut values = Vec::with_capacity(rows * t * t);
    for row in 0..rows {
        let masked = |k: usize| padding_mask.and_then(|h| h.get(row)?.get(k)).copied().unwrap_or(false);
        for q in 0..t {
            let attends = |k: usize| k == q || (s.first_key(q)..q).contains(&k) && !masked(k);
            values.extend((0..t).map(|k| if attends(k) { 0.0 } else { f32::NEG_INFINITY }));
        }
    }
    transfer::to_device(TensorData::new(values, [rows, 1, t, t]), device)
}

/// Rotates queries and keys, then applies causal attention with the bias of [`causal_bias`].
///
/// `qkv`: `[batch · tokens, columns]`; result `[batch · tokens, query · width]`. Right padding needs no mask: real
/// tokens never attend to later ones, and outputs at padding are ignored.
pub fn causal_attention(qkv: Tensor<2>, rope: &Rope, s: AttentionSpec, bias: Tensor<4>) -> Tensor<2> {
    let (q, k, v) = split_qkv(qkv, rope, s);
    attend(q, k, v, Some(bias), s)
}

/// Computes `x · weightᵀ + bias` for each layer and concatenates the outputs along the columns; each weight is
/// unpacked as a whole.
///
/// `x`: `[rows, in]`, weights: `[out, in]` each, biases: `[out]`; result `[rows, all outs]`.
pub fn stored_linear(x: Tensor<2>, layers: &[(&StoredWeight, Option<Tensor<1>>)]) -> Tensor<2> {
    let parts = layers.iter().map(|(weight, bias)| {
        let out = x.clone().matmul(cast(weight.unpacked(&x.device()), x.dtype()).transpose());
        match bias {
            Some(bias) => out + cast(bias.clone(), x.dtype()).unsqueeze::<2>(),
            None => out,
        }
    });
    Tensor::cat(parts.collect(), 1)
}

/// Mean cross-entropy over the rows: `−log softmax(logits)[target]`.
///
/// `logits`: `[n, v]`, `targets`: `[n]`, each below `v`; result `[1]`.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    reduce::mean(log_softmax(cast(logits, DType::F32), 1).gather(1, targets.unsqueeze_dim::<2>(1))).neg()
}
