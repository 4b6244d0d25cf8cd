//! One layer of cross-attention from queries to the windows of several encoders, with the names of Cambrian-1's
//! `VisionCrossAttentionLayer`.
//!
//! With q the queries, g the image's mean feature and f_k the features of encoder k:
//!
//! ```text
//! x = proj_in · [q ; proj_context · g]
//! a = o_proj · attention(LN x · W_q, [LN (f_k + pos_k) · W_k,k]_k, [LN (f_k + pos_k) · W_v,k]_k)
//! q ← q + linear_2 · GELU(linear_1 · LN(x + a))
//! ```
//!
//! The keys and values of a window are used by one query only. For windows of m² > 1 tokens it is therefore cheaper to
//! map the query into the feature space (W_kᵀ q for each head) and to project the weighted sum of the features than
//! to project every token: 2 hidden² products per window instead of 2 m² hidden².

use super::windows::{EPSILON, Keys, Windows, normalised};
use burgess_base::{Error, Result};
use burgess_encoders::attention::{Bias, attend};
use burgess_encoders::operands::gelu;
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor};

/// Consecutive cross-attention layers, named `layers` as upstream.
#[derive(Module, Debug)]
pub struct VisionSampler {
    /// The layers in order.
    pub layers: Vec<SamplerLayer>,
}

/// One cross-attention layer; see the module documentation.
#[derive(Module, Debug)]
pub struct SamplerLayer {
    /// Projection of the image's mean feature, `[hidden, hidden]`.
    pub proj_context: Linear,
    /// Projection of query and context together, `[query width + hidden, hidden]`.
    pub proj_in: Linear,
    /// MLP to the width of the queries.
    pub proj_out: OutputMlp,
    /// Layer norm of the sum of projected query and attention output.
    pub norm: LayerNorm,
    /// Cross-attention to the windows of all encoders.
    pub cross_attn: CrossAttention,
    /// Position embedding per encoder, `[tokens in a window, hidden]`; `None` for encoders with one token per window.
    pub pos_embed: Vec<Option<Param<Tensor<2>>>>,
}

/// An MLP of two linear layers with a GELU between them, without biases.
#[derive(Module, Debug)]
pub struct OutputMlp {
    /// First linear layer, `[hidden, hidden]`.
    pub linear_1: Linear,
    /// Second linear layer, `[hidden, query width]`.
    pub linear_2: Linear,
}

/// Multi-head attention with keys and values of several encoders, each with its own norm and projection.
#[derive(Module, Debug)]
pub struct CrossAttention {
    /// Layer norm and projection of the queries, `[hidden, hidden]`.
    pub q_proj: (LayerNorm, Linear),
    /// Layer norm and key projection of each encoder, `[hidden, hidden]`.
    pub k_proj: Vec<(LayerNorm, Linear)>,
    /// Layer norm and value projection of each encoder, `[hidden, hidden]`.
    pub v_proj: Vec<(LayerNorm, Linear)>,
    /// Output projection of the concatenated heads, `[hidden, hidden]`.
    pub o_proj: Linear,
    heads: usize,
}

/// The sizes of a [`VisionSampler`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct SamplerShape<'a> {
    /// Width of the queries, in channels.
    pub query: usize,
    /// Width of keys and values, in channels.
    pub hidden: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Number of layers.
    pub depth: usize,
    /// Number of tokens in a window, for each encoder.
    pub window: &'a [usize],
}

impl SamplerShape<'_> {
    pub(crate) fn init(&self, device: &Device) -> VisionSampler {
        let hidden = self.hidden;
        let plain = |from: usize, to: usize| LinearConfig::new(from, to).with_bias(false).init(device);
        let norm = || LayerNormConfig::new(hidden).with_epsilon(EPSILON).init(device);
        let each = || self.window.iter().map(|_| (norm(), plain(hidden, hidden))).collect();
        let positions = Initializer::Normal { mean: 0.0, std: 1.0 };
        let layer = |_| SamplerLayer {
            proj_context: plain(hidden, hidden),
            proj_in: plain(self.query + hidden, hidden),
            proj_out: OutputMlp { linear_1: plain(hidden, hidden), linear_2: plain(hidden, self.query) },
            norm: norm(),
            cross_attn: CrossAttention {
                q_proj: (norm(), plain(hidden, hidden)),
                k_proj: each(),
                v_proj: each(),
                o_proj: plain(hidden, hidden),
                heads: self.heads,
            },
            pos_embed: self.window.iter().map(|&n| (n > 1).then(|| positions.init([n, hidden], device))).collect(),
        };
        VisionSampler { layers: (0..self.depth).map(layer).collect() }
    }
}

/// Multiplies `x` `[a, b, width]` by `weight` `[width, to]` over the last axis, as one product of two matrices.
fn product(x: Tensor<3>, weight: Tensor<2>) -> Tensor<3> {
    let [a, b, width] = x.dims();
    let to = weight.dims()[1];
    linear(x.reshape([a * b, width]), weight, None).reshape([a, b, to])
}

/// Folds the scale and shift of a layer norm into the projection after it, as weight and bias on normalised features:
/// `(γ x + β) W = x (γ W) + β W`.
fn fold_norm((norm, projection): &(LayerNorm, Linear)) -> (Tensor<2>, Tensor<2>) {
    let (weight, scale) = (projection.weight.val(), norm.gamma.val());
    let [from, to] = weight.dims();
    let shift = match &norm.beta {
        Some(beta) => beta.val().reshape([1, from]).matmul(weight.clone()),
        None => Tensor::zeros([1, to], &weight.device()),
    };
    (weight * scale.reshape([from, 1]), shift)
}

impl VisionSampler {
    /// Applies all layers to `queries` `[groups or 1, queries or 1, width]`, where 1 stands for equal ones; returns
    /// `[groups, queries, width]`.
    ///
    /// # Errors
    /// When the windows have other encoders than the layers.
    pub fn forward(&self, queries: Tensor<3>, windows: &Windows) -> Result<Tensor<3>> {
        let mut queries = queries;
        for layer in &self.layers {
            queries = queries.clone() + layer.residual(queries, windows)?;
        }
        Ok(queries)
    }
}

impl SamplerLayer {
    /// Computes the residual that the layer adds to the queries, `[groups, queries, query width]`.
    pub(super) fn residual(&self, queries: Tensor<3>, windows: &Windows) -> Result<Tensor<3>> {
        let [_, _, width] = queries.dims();
        // `proj_in` is split in two, so that the context, which all queries of an image share, is projected once.
        let weight = self.proj_in.weight.val();
        let [rows, hidden] = weight.dims();
        if rows != width + hidden || windows.context.dims()[1] != hidden {
            return Err(Error::failed(format!(
                "a sampler reads queries of width {} and features of width {hidden}, got queries of width {width} and \
                     features of width {}",
                rows.saturating_sub(hidden),
                windows.context.dims()[1]
            )));
        }
        let context = self.proj_context.forward(windows.context.clone());
        let context = linear(context, weight.clone().slice([width..rows, 0..hidden]), None);
        let x = product(queries, weight.slice([0..width, 0..hidden])) + context.unsqueeze_dim::<3>(1);
        let attended = self.cross_attn.forward(x.clone(), windows, &self.pos_embed)?;
        let x = self.norm.forward(x + attended);
        Ok(product(gelu(product(x, self.proj_out.linear_1.weight.val())), self.proj_out.linear_2.weight.val()))
    }
}

impl CrossAttention {
    /// Computes the attention output for queries `x` `[groups, queries or 1, hidden]`: `[groups, queries, hidden]`.
    fn forward(&self, x: Tensor<3>, windows: &Windows, positions: &[Option<Param<Tensor<2>>>]) -> Result<Tensor<3>> {
        let encoders = [windows.towers.len(), self.k_proj.len(), self.v_proj.len(), positions.len()];
        if encoders.iter().any(|n| *n != encoders[0]) || encoders[0] == 0 {
            return Err(Error::failed(format!(
                "a sampler reads the features of {} encoders, got those of {}",
                self.k_proj.len(),
                windows.towers.len()
            )));
        }
        let [groups, _, hidden] = x.dims();
        let (heads, width) = (self.heads, hidden / self.heads);
        let q = product(self.q_proj.0.forward(x), self.q_proj.1.weight.val());
        let q = q.expand([groups, windows.queries, hidden]);
        let towers: Vec<EncoderTokens> = (windows.towers.iter().zip(positions))
            .zip(self.k_proj.iter().zip(&self.v_proj))
            .map(|((keys, positions), (k, v))| EncoderTokens::new(keys, positions.as_ref(), k, v))
            .collect();
        let mixed = match windows.shared {
            true => {
                let q = q.reshape([groups, windows.queries, heads, width]).swap_dims(1, 2);
                attend_all(q, &towers, windows.bias.clone())
            }
            false => {
                let q = q.reshape([groups * windows.queries, heads, width]).mul_scalar((width as f64).powf(-0.5));
                attend_windows(q, &towers, windows.bias.clone())
            }
        };
        Ok(product(mixed.reshape([groups, windows.queries, hidden]), self.o_proj.weight.val()))
    }
}

/// The normalised features of one encoder, with its key and value projections as weight and bias.
struct EncoderTokens {
    /// Normalised features, `[windows, tokens, hidden]`.
    tokens: Tensor<3>,
    key: (Tensor<2>, Tensor<2>),
    value: (Tensor<2>, Tensor<2>),
}

impl EncoderTokens {
    fn new(
        keys: &Keys,
        positions: Option<&Param<Tensor<2>>>,
        key: &(LayerNorm, Linear),
        value: &(LayerNorm, Linear),
    ) -> Self {
        let tokens = match (keys, positions) {
            (Keys::Single(tokens), _) => tokens.clone(),
            (Keys::Several(tokens), Some(positions)) => normalised(tokens.clone() + positions.val().unsqueeze()),
            (Keys::Several(tokens), None) => normalised(tokens.clone()),
        };
        Self { tokens, key: fold_norm(key), value: fold_norm(value) }
    }

    /// Projects every token to its key and value, `[windows, tokens, hidden]` each.
    fn keys_and_values(&self) -> [Tensor<3>; 2] {
        [&self.key, &self.value]
            .map(|(weight, bias)| product(self.tokens.clone(), weight.clone()) + bias.clone().unsqueeze::<3>())
    }
}

/// Computes attention of one query per window: scaled queries `[windows, heads, width]` → `[windows, heads, width]`.
fn attend_windows(q: Tensor<3>, towers: &[EncoderTokens], bias: Option<Tensor<2>>) -> Tensor<3> {
    let [windows, heads, width] = q.dims();
    let hidden = heads * width;
    let (mut scores, mut values) = (Vec::with_capacity(towers.len()), Vec::with_capacity(towers.len()));
    for tower in towers {
        let tokens = tower.tokens.dims()[1];
        if tokens == 1 {
            let [k, v] = tower.keys_and_values().map(|x| x.reshape([windows, heads, width]));
            scores.push((q.clone() * k).sum_dim(2));
            values.push(Some(v));
        } else {
            let (weight, shift) = &tower.key;
            // [heads, windows, width] · [heads, width, hidden]
            let weight = weight.clone().reshape([hidden, heads, width]).permute([1, 2, 0]);
            let query = q.clone().swap_dims(0, 1).matmul(weight).swap_dims(0, 1);
            let shift = (q.clone() * shift.clone().reshape([1, heads, width])).sum_dim(2);
            scores.push(query.matmul(tower.tokens.clone().swap_dims(1, 2)) + shift);
            values.push(None);
        }
    }
    let scores = Tensor::cat(scores, 2);
    let scores = match bias {
        Some(bias) => scores + bias.unsqueeze_dim::<3>(1),
        None => scores,
    };
    let probabilities = softmax(scores, 2);
    let mut from = 0;
    let mut mixed: Option<Tensor<3>> = None;
    for (tower, value) in towers.iter().zip(values) {
        let tokens = tower.tokens.dims()[1];
        let probability = probabilities.clone().narrow(2, from, tokens);
        from += tokens;
        let part = match value {
            Some(v) => v * probability,
            None => {
                let (weight, shift) = &tower.value;
                // [heads, windows, hidden] · [heads, hidden, width]
                let weight = weight.clone().reshape([hidden, heads, width]).swap_dims(0, 1);
                let attended = probability.clone().matmul(tower.tokens.clone()).swap_dims(0, 1);
                attended.matmul(weight).swap_dims(0, 1)
                    + probability.sum_dim(2) * shift.clone().reshape([1, heads, width])
            }
        };
        mixed = Some(match mixed {
            Some(mixed) => mixed + part,
            None => part,
        });
    }
    // Never `q`: the caller has checked that there is at least one encoder.
    mixed.unwrap_or(q)
}

/// Computes attention of queries `[groups, heads, queries, width]` to all tokens of their group:
/// `[groups, queries, hidden]`.
fn attend_all(q: Tensor<4>, towers: &[EncoderTokens], bias: Option<Tensor<2>>) -> Tensor<3> {
    let [groups, heads, _, width] = q.dims();
    let (mut keys, mut values) = (Vec::with_capacity(towers.len()), Vec::with_capacity(towers.len()));
    for tower in towers {
        let [k, v] = tower.keys_and_values();
        keys.push(k);
        values.push(v);
    }
    let [k, v] = [keys, values].map(|parts| {
        let all = Tensor::cat(parts, 1);
        let tokens = all.dims()[1];
        all.reshape([groups, tokens, heads, width]).swap_dims(1, 2)
    });
    // One bias for all heads and queries of an image.
    let bias = bias.map_or(Bias::None, |bias| {
        let [_, tokens] = bias.dims();
        let queries = q.dims()[2];
        Bias::Full(bias.reshape([groups, 1, 1, tokens]).expand([groups, 1, queries, tokens]))
    });
    attend(q, k, v, bias, None)
}
