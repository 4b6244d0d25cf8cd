//! The transformer block that all vision transformers of this crate share, with the options in which their families
//! differ: gated MLPs, norms inside the branches, rotary position embeddings and relative position biases. Parameter
//! paths are timm's.

use super::channel_norm::{ChannelNorm, NormKind};
use super::drop_path::{self, DropPathMask};
use super::vit::{LogCoordinates, RelativeBias};
use crate::attention::attend;
use crate::kernel::{self, Operand};
use crate::operands::{Activation, Bias, Rotation};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, module::linear};
use serde::{Deserialize, Serialize};

/// Norms of queries and keys, of the same kind as the norms of the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum QkNorm {
    /// No norm.
    #[default]
    None,
    /// A norm over the channels of each head (Dehghani et al. 2023).
    Head,
    /// A norm over the channels of all heads together (InternViT-6B).
    Width,
}

/// Hyper-parameters of a transformer block.
#[derive(Debug, Clone)]
pub(crate) struct BlockConfig {
    /// Channels of a token, the embedding dimension.
    pub width: usize,
    /// Number of attention heads; must divide `width`.
    pub heads: usize,
    /// Hidden channels of the MLP.
    pub mlp_hidden: usize,
    /// Activation between the two layers of the MLP.
    pub activation: Activation,
    /// Whether the projection to queries, keys and values has a bias.
    pub qkv_bias: bool,
    /// Whether the output projection of attention and the layers of the MLP have biases.
    pub proj_bias: bool,
    /// Norms of queries and keys.
    pub qk_norm: QkNorm,
    /// Kind of all norms.
    pub norm: NormKind,
    /// Epsilon added to the variance in every norm.
    pub norm_eps: f64,
    /// Initial value of the layer scale of both branches; `None` for no layer scale.
    pub layer_scale: Option<f64>,
    /// Whether a norm precedes the output projection of attention (EVA-02's sub-LN).
    pub attention_norm: bool,
    /// Whether a norm precedes the last layer of the MLP.
    pub mlp_norm: bool,
    /// Whether the norms stand at the end of the branches (post-norm) instead of the beginning (pre-norm).
    pub post_norm: bool,
    /// Whether rotary embeddings pair channel `i` with `i + head_dim / 2` (`rotate_half`), not with `i + 1`.
    pub rotate_half: bool,
    /// Rows of the relative position bias table; `None` for no table.
    pub relative_positions: Option<usize>,
    /// Hidden channels of the MLP that computes a relative position bias; `None` for no MLP.
    pub relative_mlp: Option<usize>,
    /// Whether attention and MLP read the same norm and are added to the tokens together.
    pub parallel: bool,
}

impl BlockConfig {
    /// A pre-norm block with an MLP of four times the width, exact GELU, biases in all layers, and no other option.
    pub fn plain(width: usize, heads: usize) -> Self {
        Self {
            width,
            heads,
            mlp_hidden: 4 * width,
            activation: Activation::Gelu,
            qkv_bias: true,
            proj_bias: true,
            qk_norm: QkNorm::None,
            norm: NormKind::Layer,
            norm_eps: 1e-6,
            layer_scale: None,
            attention_norm: false,
            mlp_norm: false,
            post_norm: false,
            rotate_half: false,
            relative_positions: None,
            relative_mlp: None,
            parallel: false,
        }
    }

    /// Builds a block with placeholder weights; `heads` must divide `width`.
    pub fn init(&self, device: &Device) -> Block {
        let norm = |width: usize| self.norm.init(width, self.norm_eps, device);
        let scale = |value: f64| LayerScale { gamma: Initializer::Constant { value }.init([self.width], device) };
        let qk_norm = || match self.qk_norm {
            QkNorm::None => None,
            QkNorm::Head => Some(norm(self.width / self.heads)),
            QkNorm::Width => Some(norm(self.width)),
        };
        let mut mlp = Mlp::new(self.width, self.mlp_hidden, self.width, self.activation, device);
        if !self.proj_bias {
            (mlp.fc1.bias, mlp.fc2.bias) = (None, None);
        }
        mlp.norm = self.mlp_norm.then(|| norm(self.mlp_hidden));
        Block {
            norm1: norm(self.width),
            attn: Attention {
                qkv: LinearConfig::new(self.width, 3 * self.width).with_bias(self.qkv_bias).init(device),
                q_norm: qk_norm(),
                k_norm: qk_norm(),
                norm: self.attention_norm.then(|| norm(self.width)),
                proj: LinearConfig::new(self.width, self.width).with_bias(self.proj_bias).init(device),
                relative_position_bias_table: self
                    .relative_positions
                    .map(|rows| Initializer::Zeros.init([rows, self.heads], device)),
                rel_pos: self.relative_mlp.map(|hidden| RelativeBias::new(hidden, self.heads, device)),
                heads: self.heads,
                rotate_half: self.rotate_half,
                whole_norm: self.qk_norm == QkNorm::Width,
            },
            ls1: self.layer_scale.map(scale),
            norm2: (!self.parallel).then(|| norm(self.width)),
            mlp,
            ls2: self.layer_scale.filter(|_| !self.parallel).map(scale),
            post_norm: self.post_norm,
        }
    }

    /// Multiply-add operations for one image of `tokens` tokens.
    pub fn multiply_adds(&self, tokens: u64) -> u64 {
        let (width, hidden) = (self.width as u64, self.mlp_hidden as u64);
        let mlp = (1 + self.activation.columns() as u64) * width * hidden;
        tokens * (4 * width * width + mlp) + 2 * tokens * tokens * width
    }
}

/// Builds plain blocks for the text towers and decoders that pretraining objectives add to an encoder.
///
/// # Errors
/// An argument is zero, or `heads` does not divide `width`.
pub(crate) fn blocks(width: usize, depth: usize, heads: usize, device: &Device) -> Result<Vec<Block>> {
    if [width, depth, heads].contains(&0) || !width.is_multiple_of(heads) {
        return Err(Error::usage(format!("{depth} blocks cannot have width {width} and {heads} heads"))
            .hint("all must be positive, and heads must divide width"));
    }
    Ok((0..depth).map(|_| BlockConfig::plain(width, heads).init(device)).collect())
}

/// A transformer block with pre-norm or post-norm residual branches, or with both branches in parallel.
#[derive(Module, Debug)]
pub struct Block {
    /// Norm of the attention branch.
    pub norm1: ChannelNorm,
    /// Multi-head self-attention.
    pub attn: Attention,
    /// Layer scale of the attention branch.
    pub ls1: Option<LayerScale>,
    /// Norm of the MLP branch; `None` if the branches are parallel and share `norm1` and `ls1` (ViT-22B).
    pub norm2: Option<ChannelNorm>,
    /// The two-layer MLP.
    pub mlp: Mlp,
    /// Layer scale of the MLP branch.
    pub ls2: Option<LayerScale>,
    post_norm: bool,
}

/// Multi-head self-attention with one fused projection for queries, keys and values.
#[derive(Module, Debug)]
pub struct Attention {
    /// Projection to queries, keys and values in this order, `[width, 3 * width]`.
    pub qkv: Linear,
    /// Norm of the queries, over the channels of each head or of all heads together; see [`QkNorm`].
    pub q_norm: Option<ChannelNorm>,
    /// Norm of the keys, as that of the queries.
    pub k_norm: Option<ChannelNorm>,
    /// Norm of the attention output before `proj`.
    pub norm: Option<ChannelNorm>,
    /// Output projection, `[width, width]`.
    pub proj: Linear,
    /// Relative position bias table (BEiT), `[relative positions, heads]`, added to the attention scores.
    pub relative_position_bias_table: Option<Param<Tensor<2>>>,
    /// MLP of the relative position bias.
    pub rel_pos: Option<RelativeBias>,
    heads: usize,
    rotate_half: bool,
    /// Whether `q_norm` and `k_norm` take the channels of all heads together.
    whole_norm: bool,
}

/// An MLP of two linear layers with an activation and an optional norm between them.
#[derive(Module, Debug)]
pub struct Mlp {
    /// First layer, `[input, columns * hidden]`.
    pub fc1: Linear,
    /// Norm of the hidden channels.
    pub norm: Option<ChannelNorm>,
    /// Second layer, `[hidden, output]`.
    pub fc2: Linear,
    #[module(skip)]
    activation: Activation,
}

/// Layer scale: a learned factor per channel (Touvron et al. 2021, arXiv:2103.17239).
#[derive(Module, Debug)]
pub struct LayerScale {
    /// The factors, `[width]`.
    pub gamma: Param<Tensor<1>>,
}

/// Position information for attention; by default there is none.
#[derive(Debug, Clone, Default)]
pub struct AttentionPositions {
    /// Bias added to the attention scores, for example a causal mask; `[1 or batch, 1 or heads, tokens, tokens]`.
    pub bias: Option<Tensor<4>>,
    /// Rotary position embedding of queries and keys.
    pub rotary: Option<Rotation>,
    /// Rotary position embedding of each block, with angles per head; empty if there is none.
    pub block_rotary: Vec<Rotation<3>>,
    /// Relative positions for the MLPs of the relative position bias.
    pub log_coordinates: Option<LogCoordinates>,
    /// Relative position index: a row of the bias table for each pair of tokens, `[tokens * tokens]`, query-major.
    pub relative_index: Option<Tensor<1, Int>>,
}

impl Mlp {
    /// Builds an MLP with placeholder weights and no norm.
    pub fn new(input: usize, hidden: usize, output: usize, activation: Activation, device: &Device) -> Self {
        Self {
            fc1: LinearConfig::new(input, activation.columns() * hidden).init(device),
            norm: None,
            fc2: LinearConfig::new(hidden, output).init(device),
            activation,
        }
    }

    /// Maps `[rows, input]` to `[rows, output]`. Tokens are the rows of one matrix, because one product per image is up
    /// to twice as slow on the CPU backend where the output is narrow.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.outputs(Operand::Tensor(x))
    }

    /// Computes [`Mlp::forward`] of a norm's output.
    fn outputs(&self, x: Operand) -> Tensor<2> {
        kernel::linear(self.hidden(x), &self.fc2)
    }

    /// Computes `x + self(normed)`.
    pub(super) fn residual(&self, x: Tensor<2>, normed: Operand) -> Tensor<2> {
        kernel::residual(x, self.hidden(normed), &self.fc2, None)
    }

    /// Hidden channels before the last layer, `[rows, hidden]`.
    fn hidden(&self, x: Operand) -> Operand {
        match &self.norm {
            Some(norm) => norm.before(&self.fc2, kernel::linear_activation(x, &self.fc1, self.activation)),
            None => kernel::linear_activation_for(&self.fc2, x, &self.fc1, self.activation),
        }
    }
}

impl Attention {
    /// Attention output of block number `index` before the output projection, `[batch * tokens, width]`, for `x` of the
    /// same shape.
    fn mixed(&self, x: Operand, batch: usize, positions: &AttentionPositions, index: usize) -> Operand {
        let heads = self.heads;
        let [q, k, v] = query_key_value(&self.qkv, x, batch, heads);
        let [_, _, tokens, head_dim] = q.dims();
        let (rows, width) = (batch * tokens, heads * head_dim);
        let normed = |norm: &Option<ChannelNorm>, x: Tensor<4>| match norm {
            Some(norm) if self.whole_norm => {
                let x = norm.forward(x.swap_dims(1, 2).reshape([rows, width]));
                x.reshape([batch, tokens, heads, head_dim]).swap_dims(1, 2)
            }
            Some(norm) => norm.forward(x),
            None => x,
        };
        let (q, k) = (normed(&self.q_norm, q), normed(&self.k_norm, k));
        let (q, k) = if self.rotate_half { (interleaved(q), interleaved(k)) } else { (q, k) };
        let (q, k) = match positions.block_rotary.get(index) {
            Some(rotation) => (rotation.apply(q), rotation.apply(k)),
            None => (q, k),
        };
        let bias = match (&self.relative_position_bias_table, &positions.relative_index) {
            (Some(table), Some(relative_index)) => {
                let rows = table.val().select(0, relative_index.clone());
                let relative = rows.reshape([tokens, tokens, heads]).permute([2, 0, 1]).unsqueeze();
                Bias::Full(positions.bias.clone().map_or(relative.clone(), |bias| bias + relative))
            }
            _ => match (&self.rel_pos, &positions.log_coordinates) {
                (Some(mlp), Some(coordinates)) => Bias::Full(mlp.forward(coordinates)),
                _ => positions.bias.clone().map_or(Bias::None, Bias::Full),
            },
        };
        let rotation = positions.rotary.as_ref();
        match &self.norm {
            Some(norm) => norm.before(&self.proj, attend(q, k, v, bias, rotation).reshape([rows, width])),
            None => kernel::attention_for(&self.proj, [q, k, v], bias, rotation),
        }
    }
}

/// Queries, keys and values of the tokens `x`, `[batch * tokens, width]`, from the fused projection `qkv`: each
/// `[batch, heads, tokens, width / heads]`.
pub(super) fn query_key_value(qkv: &Linear, x: Operand, batch: usize, heads: usize) -> [Tensor<4>; 3] {
    if let Operand::Tensor(x) = &x
        && x.is_autodiff()
    {
        let [rows, width] = x.dims();
        let (tokens, head_dim) = (rows / batch, width / heads);
        // The gradient of a slice is a zero-padded tensor of full size: slice the small weights, not the tokens.
        let weight = qkv.weight.val();
        let bias = qkv.bias.as_ref().map(Param::val);
        std::array::from_fn(|i| {
            let columns = i * width..(i + 1) * width;
            let weight = weight.clone().slice([0..width, columns.clone()]);
            let part = linear(x.clone(), weight, bias.clone().map(|b| b.slice([columns])));
            part.reshape([batch, tokens, heads, head_dim]).swap_dims(1, 2)
        })
    } else {
        // `narrow` makes views of one tensor: nothing is copied.
        let qkv = kernel::linear(x, qkv);
        let [rows, width] = qkv.dims();
        let qkv = qkv.reshape([batch, rows / batch, 3 * heads, width / (3 * heads)]);
        std::array::from_fn(|i| qkv.clone().narrow(2, i * heads, heads).swap_dims(1, 2))
    }
}

/// Interleaves the channels of each head's two halves, so that channels rotated together (`rotate_half`) become
/// neighbours. The dot products of queries and keys do not change.
pub(super) fn interleaved(x: Tensor<4>) -> Tensor<4> {
    let [batch, heads, tokens, channels] = x.dims();
    let halves: Tensor<5> = x.reshape([batch, heads, tokens, 2, channels / 2]);
    halves.swap_dims(3, 4).reshape([batch, heads, tokens, channels])
}

impl Block {
    /// Runs the block on `x` of shape `[batch, tokens, width]`; no branch is dropped.
    pub fn forward(&self, x: Tensor<3>, positions: &AttentionPositions) -> Tensor<3> {
        self.forward_with_drop_path(x, positions, &DropPathMask::none(), 0)
    }

    /// Runs the block as [`Block::forward`] does, with the drop-path mask `drop_path` of block number `index`.
    pub fn forward_with_drop_path(
        &self,
        x: Tensor<3>,
        positions: &AttentionPositions,
        drop_path: &DropPathMask,
        index: usize,
    ) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let x = x.reshape([batch * tokens, width]);
        let scale = |scale: &Option<LayerScale>| scale.as_ref().map(|s| s.gamma.val());
        let Some(norm2) = &self.norm2 else {
            let normed = self.norm1.before(&self.attn.qkv, x.clone());
            let mlp = self.mlp.outputs(normed.clone());
            let branch = kernel::linear(self.attn.mixed(normed, batch, positions, index), &self.attn.proj) + mlp;
            let x = x + drop_path::branch(kernel::scaled(branch, scale(&self.ls1)), drop_path.factors(index, 0));
            return x.reshape([batch, tokens, width]);
        };
        if self.post_norm {
            let mixed = self.attn.mixed(Operand::Tensor(x.clone()), batch, positions, index);
            let branch = kernel::linear(mixed, &self.attn.proj);
            let x = x + drop_path::branch(self.norm1.forward(branch), drop_path.factors(index, 0));
            let branch = self.mlp.forward(x.clone());
            let x = x + drop_path::branch(norm2.forward(branch), drop_path.factors(index, 1));
            return x.reshape([batch, tokens, width]);
        }
        let mixed = self.attn.mixed(self.norm1.before(&self.attn.qkv, x.clone()), batch, positions, index);
        let x = drop_path::residual(x, mixed, &self.attn.proj, scale(&self.ls1), drop_path.factors(index, 0));
        let hidden = self.mlp.hidden(norm2.before(&self.mlp.fc1, x.clone()));
        drop_path::residual(x, hidden, &self.mlp.fc2, scale(&self.ls2), drop_path.factors(index, 1))
            .reshape([batch, tokens, width])
    }
}
