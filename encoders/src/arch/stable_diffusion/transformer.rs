//! The transformer that stands after a residual block of the denoising network: the places of the map attend to each
//! other and to the prompt (`Transformer2DModel` and `BasicTransformerBlock`).

use super::parts::{attend_rows, group_norm, map, tokens};
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Dropout, DropoutConfig, GroupNorm, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::gelu, module::linear};

/// Added to the variance in the norm over channels, and in those of the blocks.
const MAP_EPS: f64 = 1e-6;
const TOKEN_EPS: f64 = 1e-5;

/// A norm, a projection, transformer blocks, a projection, beside a shortcut.
#[derive(Module, Debug)]
pub struct SpatialTransformer {
    /// Over channels.
    pub norm: GroupNorm,
    /// Width to width.
    pub proj_in: Projection,
    /// The blocks.
    pub transformer_blocks: Vec<TransformerBlock>,
    /// Width to width.
    pub proj_out: Projection,
}

/// A layer over channels, stored in one of two ways.
#[derive(Module, Debug)]
pub enum Projection {
    /// As a matrix.
    Linear(Linear),
    /// As a convolution of one pixel.
    Conv(Conv2d),
}

/// The numbers of a [`SpatialTransformer`].
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

/// Attention to the other places, attention to the prompt, MLP.
#[derive(Module, Debug)]
pub struct TransformerBlock {
    /// Before the first attention.
    pub norm1: LayerNorm,
    /// To the other places.
    pub attn1: Attention,
    /// Before the second attention.
    pub norm2: LayerNorm,
    /// To the prompt.
    pub attn2: Attention,
    /// Before the MLP.
    pub norm3: LayerNorm,
    /// The MLP.
    pub ff: FeedForward,
}

/// Attention whose queries and keys may come from different tokens.
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries.
    pub to_q: Linear,
    /// Keys.
    pub to_k: Linear,
    /// Values.
    pub to_v: Linear,
    /// The output layer; the dropout never drops and keeps upstream's numbering.
    pub to_out: (Linear, Dropout),
    heads: usize,
}

/// An MLP that is gated, four times as wide inside; the dropout never drops and keeps upstream's numbering.
#[derive(Module, Debug)]
pub struct FeedForward {
    /// Gated layer, dropout, output layer.
    pub net: (Geglu, Dropout, Linear),
}

/// first half · GELU(second half) (Shazeer 2020, arXiv:2002.05202).
#[derive(Module, Debug)]
pub struct Geglu {
    /// Both halves.
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
    /// `prompt` is `[tokens, width]`, the same for all pictures.
    pub(super) fn forward(&self, x: Tensor<4>, prompt: &Tensor<2>) -> Tensor<4> {
        let dims = x.dims();
        let inside = self.proj_in.forward(tokens(self.norm.forward(x.clone())));
        let inside = self.transformer_blocks.iter().fold(inside, |x, block| block.forward(x, prompt, dims[0]));
        x + map(self.proj_out.forward(inside), dims)
    }
}

impl TransformerBlock {
    /// `x` is `[batch * places, width]`.
    fn forward(&self, x: Tensor<2>, prompt: &Tensor<2>, batch: usize) -> Tensor<2> {
        let normed = self.norm1.forward(x.clone());
        let x = x + self.attn1.forward(normed.clone(), normed, batch);
        // All pictures' places read one prompt: they are one group.
        let x = x.clone() + self.attn2.forward(self.norm2.forward(x), prompt.clone(), 1);
        x.clone() + self.ff.forward(self.norm3.forward(x))
    }
}

impl Attention {
    /// Tokens `x` read the tokens `from` of their group.
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
