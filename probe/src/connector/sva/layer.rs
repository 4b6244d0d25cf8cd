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
//! Each window's keys and values serve one query only. For windows of m² > 1 tokens it is therefore cheaper to map
//! the query into the feature space (W_kᵀ q for each head) and to project the mixed features afterwards than to
//! project every token: 2 hidden² products per window instead of 2 m² hidden².

use super::windows::{EPSILON, Keys, Windows, normalised};
use burgess_base::{Error, Result};
use burgess_encoders::attention::{Bias, attend};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::{gelu, softmax};
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor};

/// Consecutive cross-attention layers, with upstream's name `layers`.
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
    /// MLP back to the queries' width.
    pub proj_out: Out,
    /// Layer norm of the sum of query and attention output.
    pub norm: LayerNorm,
    /// Cross-attention to the encoders' windows.
    pub cross_attn: CrossAttention,
    /// Position embedding per encoder, `[tokens in a window, hidden]`; `None` for encoders with one token per window.
    pub pos_embed: Vec<Option<Param<Tensor<2>>>>,
}

/// An MLP of two linear layers with a GELU between them, without biases.
#[derive(Module, Debug)]
pub struct Out {
    /// First linear layer, `[hidden, hidden]`.
    pub linear_1: Linear,
    /// Second linear layer, `[hidden, query width]`.
    pub linear_2: Linear,
}

/// Multi-head attention with keys and values of several encoders, each with its own norm and projection.
#[derive(Module, Debug)]
pub struct CrossAttention {
    /// Norm and projection of the queries.
    pub q_proj: (LayerNorm, Linear),
    /// Norm and key projection of each encoder.
    pub k_proj: Vec<(LayerNorm, Linear)>,
    /// Norm and value projection of each encoder.
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
            proj_out: Out { linear_1: plain(hidden, hidden), linear_2: plain(hidden, self.query) },
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

/// Computes `x · weight` over the last axis as one product of two matrices.
fn product(x: Tensor<3>, weight: Tensor<2>) -> Tensor<3> {
    let [a, b, width] = x.dims();
    let to = weight.dims()[1];
    linear(x.reshape([a * b, width]), weight, None).reshape([a, b, to])
}

/// Folds the scale and shift of a layer norm into the projection after it, as weight and bias on normalised features:
/// `(γ x + β) W = x (γ W) + β W`.
fn folded((norm, projection): &(LayerNorm, Linear)) -> (Tensor<2>, Tensor<2>) {
    let (weight, scale) = (projection.weight.val(), norm.gamma.val());
    let [from, to] = weight.dims();
    let shift = match &norm.beta {
        Some(beta) => beta.val().reshape([1, from]).matmul(weight.clone()),
        None => Tensor::zeros([1, to], &weight.device()),
    };
    (weight * scale.reshape([from, 1]), shift)
}

impl VisionSampler {
    /// Applies all layers to `queries` `[groups or 1, queries or 1, width]` (1 means that all are equal); the result
    /// is `[groups, queries, width]`.
    ///
    /// # Errors
    /// When the windows have other encoders than the layers.
    pub fn forward(&self, queries: Tensor<3>, windows: &Windows) -> Result<Tensor<3>> {
        let mut queries = queries;
        for layer in &self.layers {
            queries = queries.clone() + layer.change(queries, windows)?;
        }
        Ok(queries)
    }
}

impl SamplerLayer {
    /// The residual that the layer adds to the queries, `[groups, queries, query width]`.
    pub(super) fn change(&self, queries: Tensor<3>, windows: &Windows) -> Result<Tensor<3>> {
        let [_, _, width] = queries.dims();
        // `proj_in` is split in two, so that the context, which all queries of an image share, is projected once.
        let weight = self.proj_in.weight.val();
        let [rows, hidden] = weight.dims();
        if rows != width + hidden || windows.context.dims()[1] != hidden {
            return Err(Error::failed(format!(
                "a sampler for queries of width {} was given queries of width {width} and features of width {}",
                rows.saturating_sub(hidden),
                windows.context.dims()[1]
            )));
        }
        let context = self.proj_context.forward(windows.context.clone());
        let context = linear(context, weight.clone().slice([width..rows, 0..hidden]), None);
        let x = product(queries, weight.slice([0..width, 0..hidden])) + context.unsqueeze_dim::<3>(1);
        let seen = self.cross_attn.forward(x.clone(), windows, &self.pos_embed)?;
        let x = self.norm.forward(x + seen);
        Ok(product(gelu(product(x, self.proj_out.linear_1.weight.val())), self.proj_out.linear_2.weight.val()))
    }
}

impl CrossAttention {
    /// Attention output for queries `x` `[groups, queries or 1, hidden]`: `[groups, queries, hidden]`.
    fn forward(&self, x: Tensor<3>, windows: &Windows, positions: &[Option<Param<Tensor<2>>>]) -> Result<Tensor<3>> {
        let encoders = [windows.towers.len(), self.k_proj.len(), self.v_proj.len(), positions.len()];
        if encoders.iter().any(|n| *n != encoders[0]) || encoders[0] == 0 {
            return Err(Error::failed(format!(
                "a sampler for {} encoders was given the features of {}",
                self.k_proj.len(),
                windows.towers.len()
            )));
        }
        let [groups, _, hidden] = x.dims();
        let (heads, width) = (self.heads, hidden / self.heads);
        let q = product(self.q_proj.0.forward(x), self.q_proj.1.weight.val());
        let q = q.expand([groups, windows.queries, hidden]);
        let towers: Vec<Projected> = (windows.towers.iter().zip(positions))
            .zip(self.k_proj.iter().zip(&self.v_proj))
            .map(|((keys, positions), (k, v))| Projected::new(keys, positions.as_ref(), k, v))
            .collect();
        let mixed = match windows.shared {
            true => {
                let q = q.reshape([groups, windows.queries, heads, width]).swap_dims(1, 2);
                everywhere(q, &towers, windows.bias.clone())
            }
            false => {
                let q = q.reshape([groups * windows.queries, heads, width]).mul_scalar((width as f64).powf(-0.5));
                in_windows(q, &towers, windows.bias.clone())
            }
        };
        Ok(product(mixed.reshape([groups, windows.queries, hidden]), self.o_proj.weight.val()))
    }
}

/// One encoder's normalised features, with its key and value projections.
struct Projected {
    /// Normalised features, `[windows, tokens, hidden]`.
    tokens: Tensor<3>,
    key: (Tensor<2>, Tensor<2>),
    value: (Tensor<2>, Tensor<2>),
}

impl Projected {
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
        Self { tokens, key: folded(key), value: folded(value) }
    }

    /// Keys and values of every token, each `[windows, tokens, hidden]`.
    fn each(&self) -> [Tensor<3>; 2] {
        [&self.key, &self.value]
            .map(|(weight, bias)| product(self.tokens.clone(), weight.clone()) + bias.clone().unsqueeze::<3>())
    }
}

/// Attention of one query per window: scaled queries `[windows, heads, width]` → `[windows, heads, width]`.
fn in_windows(q: Tensor<3>, towers: &[Projected], bias: Option<Tensor<2>>) -> Tensor<3> {
    let [windows, heads, width] = q.dims();
    let hidden = heads * width;
    let (mut scores, mut values) = (Vec::with_capacity(towers.len()), Vec::with_capacity(towers.len()));
    for tower in towers {
        let tokens = tower.tokens.dims()[1];
        if tokens == 1 {
            let [k, v] = tower.each().map(|x| x.reshape([windows, heads, width]));
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
    let shares = softmax(scores, 2);
    let mut from = 0;
    let mut mixed: Option<Tensor<3>> = None;
    for (tower, value) in towers.iter().zip(values) {
        let tokens = tower.tokens.dims()[1];
        let share = shares.clone().narrow(2, from, tokens);
        from += tokens;
        let part = match value {
            Some(v) => v * share,
            None => {
                let (weight, shift) = &tower.value;
                // [heads, windows, hidden] · [heads, hidden, width]
                let weight = weight.clone().reshape([hidden, heads, width]).swap_dims(0, 1);
                let seen = share.clone().matmul(tower.tokens.clone()).swap_dims(0, 1);
                seen.matmul(weight).swap_dims(0, 1) + share.sum_dim(2) * shift.clone().reshape([1, heads, width])
            }
        };
        mixed = Some(match mixed {
            Some(mixed) => mixed + part,
            None => part,
        });
    }
    // There is at least one encoder, which the caller has checked.
    mixed.unwrap_or(q)
}

/// Attention of queries `[groups, heads, queries, width]` to all tokens of their group: `[groups, queries, hidden]`.
fn everywhere(q: Tensor<4>, towers: &[Projected], bias: Option<Tensor<2>>) -> Tensor<3> {
    let [groups, heads, _, width] = q.dims();
    let (mut keys, mut values) = (Vec::with_capacity(towers.len()), Vec::with_capacity(towers.len()));
    for tower in towers {
        let [k, v] = tower.each();
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
