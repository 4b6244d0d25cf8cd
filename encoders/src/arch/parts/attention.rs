//! Multi-head self-attention with one projection for queries, keys and values.

use super::tokens::{by_row, project};
use super::{Conv, ConvSpec, Padding};
use crate::attention::attend;
use crate::operands::Bias;
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

/// Multi-head self-attention.
#[derive(Module, Debug)]
pub struct SelfAttention {
    /// Projection to queries, keys and values in this order, `[width, 3 * width]`.
    pub qkv: Linear,
    /// Output projection, `[width, width]`.
    pub proj: Linear,
    heads: usize,
}

impl SelfAttention {
    /// Builds the layers with placeholder weights; `heads` must divide `width`.
    pub(crate) fn new(width: usize, heads: usize, qkv_bias: bool, device: &Device) -> Self {
        let qkv = LinearConfig::new(width, 3 * width).with_bias(qkv_bias).init(device);
        Self { qkv, proj: LinearConfig::new(width, width).init(device), heads }
    }

    /// Attention of tokens `[batch, tokens, width]` before the output projection.
    pub(crate) fn mixed(&self, x: Tensor<3>) -> Tensor<3> {
        let [q, k, v] = project(&self.qkv, x, self.heads);
        attend(q, k, v, Bias::None, None)
    }

    /// Attention of tokens `[batch, tokens, width]`.
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        by_row(self.mixed(x), |x| self.proj.forward(x))
    }

    /// Multiply-add operations for `tokens` tokens, which attend to `reach` tokens each.
    pub(crate) fn multiply_adds(width: usize, tokens: usize, reach: usize) -> u64 {
        (tokens * (4 * width * width + 2 * reach * width)) as u64
    }
}

/// Attention whose keys and values come from a smaller feature map (Wang et al. 2021, arXiv:2102.12122).
#[derive(Module, Debug)]
pub struct ReducedAttention {
    /// Projection to queries, `[width, width]`.
    pub q: Linear,
    /// Projection to keys and values in this order, `[width, 2 * width]`.
    pub kv: Linear,
    /// Output projection, `[width, width]`.
    pub proj: Linear,
    /// Convolution that reduces the feature map, or that follows its pooling.
    pub sr: Option<Conv>,
    /// Layer norm of the reduced feature map.
    pub norm: Option<LayerNorm>,
    heads: usize,
    #[module(skip)]
    reduction: Reduction,
}

/// How the feature map of keys and values is reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduction {
    /// By a convolution of this kernel and stride; 1 for no reduction.
    Convolution(usize),
    /// By pooling to a map of this side, a 1×1 convolution, and a GELU.
    Pooling(usize),
}

impl Reduction {
    /// Side of the reduced map of a map of `side`.
    fn side(self, side: usize) -> usize {
        match self {
            Self::Convolution(stride) => side / stride,
            Self::Pooling(side) => side,
        }
    }
}

impl ReducedAttention {
    /// Builds the layers with placeholder weights; `heads` must divide `width`.
    pub(crate) fn new(width: usize, heads: usize, bias: bool, reduction: Reduction, device: &Device) -> Self {
        let kernel = match reduction {
            Reduction::Convolution(1) => None,
            Reduction::Convolution(kernel) => Some(kernel),
            Reduction::Pooling(_) => Some(1),
        };
        let linear = |out: usize| LinearConfig::new(width, out).with_bias(bias).init(device);
        let conv = |kernel: usize| ConvSpec::new(width, width, kernel).stride(kernel).padding(Padding::Explicit(0));
        Self {
            q: linear(width),
            kv: linear(2 * width),
            proj: LinearConfig::new(width, width).init(device),
            sr: kernel.map(|kernel| conv(kernel).init(device)),
            norm: kernel.map(|_| LayerNormConfig::new(width).with_epsilon(1e-5).init(device)),
            heads,
            reduction,
        }
    }

    /// Attention of a feature map `[batch, rows, columns, width]`.
    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, rows, columns, width] = x.dims();
        let tokens: Tensor<3> = x.clone().reshape([batch, rows * columns, width]);
        let [q] = project(&self.q, tokens.clone(), self.heads);
        let reduced = match (&self.sr, &self.norm) {
            (Some(conv), Some(norm)) => {
                let map = x.permute([0, 3, 1, 2]);
                let map = match self.reduction {
                    Reduction::Pooling(side) => burn::tensor::module::adaptive_avg_pool2d(map, [side; 2]),
                    Reduction::Convolution(_) => map,
                };
                let map = conv.forward(map).permute([0, 2, 3, 1]);
                let [_, rows, columns, _] = map.dims();
                let map = norm.forward(map.reshape([batch, rows * columns, width]));
                match self.reduction {
                    Reduction::Pooling(_) => crate::operands::gelu(map),
                    Reduction::Convolution(_) => map,
                }
            }
            _ => tokens,
        };
        let [k, v] = project(&self.kv, reduced, self.heads);
        let mixed = by_row(attend(q, k, v, Bias::None, None), |x| self.proj.forward(x));
        mixed.reshape([batch, rows, columns, width])
    }

    /// Multiply-add operations for a map of `side` × `side` tokens.
    pub(crate) fn multiply_adds(width: usize, side: usize, reduction: Reduction) -> u64 {
        let (tokens, reduced) = (side * side, reduction.side(side).pow(2));
        let convolution = match reduction {
            Reduction::Convolution(1) => 0,
            Reduction::Convolution(kernel) => reduced * width * width * kernel * kernel,
            Reduction::Pooling(_) => reduced * width * width,
        };
        (tokens * (2 * width * width + 2 * reduced * width) + reduced * 2 * width * width + convolution) as u64
    }
}
