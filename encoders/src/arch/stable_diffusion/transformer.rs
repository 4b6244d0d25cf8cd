//! The transformer after a residual block of the U-Net: the positions of the feature map attend to each other and to
//! the prompt (`Transformer2DModel` and `BasicTransformerBlock`).

use super::parts::{attend_rows, group_norm, map, tokens};
use crate::operands::gelu;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Dropout, DropoutConfig, GroupNorm, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, module::linear};

/// Epsilons added to the variance in the group norm and in the blocks' layer norms.
const MAP_EPS: f64 = 1e-6;
const TOKEN_EPS: f64 = 1e-5;

/// Group norm, input projection, transformer blocks and output projection, with a shortcut.
#[derive(Module, Debug)]
pub struct SpatialTransformer {
    /// Group norm over channels.
    pub norm: GroupNorm,
    /// Input projection, `[width, width]`.
    pub proj_in: Projection,
    /// The transformer blocks, in order.
    pub transformer_blocks: Vec<TransformerBlock>,
    /// Output projection, `[width, width]`.
    pub proj_out: Projection,
}

/// A linear layer over channels, stored in one of two layouts.
#[derive(Module, Debug)]
pub enum Projection {
    /// A linear layer, as in Stable Diffusion 2.
    Linear(Linear),
    /// A 1×1 convolution, as in Stable Diffusion 1.
    Conv(Conv2d),
}

/// Hyper-parameters of a [`SpatialTransformer`].
#[derive(Debug, Clone, Copy)]
pub(super) struct TransformerConfig {
    pub width: usize,
    pub heads: usize,
    pub depth: usize,
    pub groups: usize,
    /// Channels of the prompt's tokens.
    pub prompt: usize,
    pub linear_projection: bool,
}

/// A pre-norm block of self-attention, cross-attention to the prompt, and a gated MLP.
#[derive(Module, Debug)]
pub struct TransformerBlock {
    /// Layer norm before self-attention.
    pub norm1: LayerNorm,
    /// Self-attention over the positions of the feature map.
    pub attn1: Attention,
    /// Layer norm before cross-attention.
    pub norm2: LayerNorm,
    /// Cross-attention to the prompt.
    pub attn2: Attention,
    /// Layer norm before the MLP.
    pub norm3: LayerNorm,
    /// The gated MLP.
    pub ff: FeedForward,
}

/// Multi-head attention whose queries may come from other tokens than keys and values.
#[derive(Module, Debug)]
pub struct Attention {
    /// Query projection, without bias.
    pub to_q: Linear,
    /// Key projection, without bias.
    pub to_k: Linear,
    /// Value projection, without bias.
    pub to_v: Linear,
    /// Output projection and a dropout of rate 0, which keeps upstream's numbering.
    pub to_out: (Linear, Dropout),
    heads: usize,
}

/// An MLP with a GEGLU and a hidden width of four times the width.
#[derive(Module, Debug)]
pub struct FeedForward {
    /// GEGLU layer, a dropout of rate 0, which keeps upstream's numbering, and output layer.
    pub net: (Geglu, Dropout, Linear),
}

/// GEGLU, first half · GELU(second half) of a linear layer's output (Shazeer 2020, arXiv:2002.05202).
#[derive(Module, Debug)]
pub struct Geglu {
    /// Linear layer that computes both halves, `[width, 8 * width]`.
    pub proj: Linear,
}

impl TransformerConfig {
    pub fn init(self, device: &Device) -> SpatialTransformer {
        let width = self.width;
        let projection = || match self.linear_projection {
            true => Projection::Linear(LinearConfig::new(width, width).init(device)),
            false => Projection::Conv(Conv2dConfig::new([width, width], [1, 1]).init(device)),
        };
        let norm = || LayerNormConfig::new(width).with_epsilon(TOKEN_EPS).init(device);
        let whole = || DropoutConfig::new(0.0).init();
        let attention = |keys: usize| {
            let plain = |from: usize| LinearConfig::new(from, width).with_bias(false).init(device);
            Attention {
                to_q: plain(width),
                to_k: plain(keys),
                to_v: plain(keys),
                to_out: (LinearConfig::new(width, width).init(device), whole()),
                heads: self.heads,
            }
        };
        let block = |_| TransformerBlock {
            norm1: norm(),
            attn1: attention(width),
            norm2: norm(),
            attn2: attention(self.prompt),
            norm3: norm(),
            ff: FeedForward {
                net: (
                    Geglu { proj: LinearConfig::new(width, 8 * width).init(device) },
                    whole(),
                    LinearConfig::new(4 * width, width).init(device),
                ),
            },
        };
        SpatialTransformer {
            norm: group_norm(self.groups, width, MAP_EPS, device),
            proj_in: projection(),
            transformer_blocks: (0..self.depth).map(block).collect(),
            proj_out: projection(),
        }
    }
}

impl Projection {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Linear(layer) => layer.forward(x),
            Self::Conv(layer) => {
                let weight = layer.weight.val();
                let [to, from, _, _] = weight.dims();
                linear(x, weight.reshape([to, from]).transpose(), layer.bias.as_ref().map(burn::module::Param::val))
            }
        }
    }
}

impl SpatialTransformer {
    /// Runs the transformer on `x`, `[batch, channels, rows, columns]`; all images share `prompt`, `[tokens, width]`.
    pub(super) fn forward(&self, x: Tensor<4>, prompt: &Tensor<2>) -> Tensor<4> {
        let dims = x.dims();
        let inside = self.proj_in.forward(tokens(self.norm.forward(x.clone())));
        let inside = self.transformer_blocks.iter().fold(inside, |x, block| block.forward(x, prompt, dims[0]));
        x + map(self.proj_out.forward(inside), dims)
    }
}

impl TransformerBlock {
    /// Runs the block on `x` of shape `[batch * positions, width]`.
    fn forward(&self, x: Tensor<2>, prompt: &Tensor<2>, batch: usize) -> Tensor<2> {
        let normed = self.norm1.forward(x.clone());
        let x = x + self.attn1.forward(normed.clone(), normed, batch);
        // All images share one prompt, so the positions of all images are one group.
        let x = x.clone() + self.attn2.forward(self.norm2.forward(x), prompt.clone(), 1);
        x.clone() + self.ff.forward(self.norm3.forward(x))
    }
}

impl Attention {
    /// Attends from the tokens `x` to the tokens `from` of the same group.
    fn forward(&self, x: Tensor<2>, from: Tensor<2>, groups: usize) -> Tensor<2> {
        let (k, v) = (self.to_k.forward(from.clone()), self.to_v.forward(from));
        self.to_out.0.forward(attend_rows(self.to_q.forward(x), k, v, groups, self.heads))
    }
}

impl FeedForward {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let (gated, _, output) = &self.net;
        let both = gated.proj.forward(x);
        let half = both.dims()[1] / 2;
        output.forward(both.clone().narrow(1, 0, half) * gelu(both.narrow(1, half, half)))
    }
}
