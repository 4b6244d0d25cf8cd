//! Multi-head self-attention over tokens with one fused projection to queries, keys and values.

use super::tokens::{by_row, project};
use crate::attention::attend;
use crate::operands::Bias;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

/// Multi-head self-attention; the heads together may be wider or narrower than the tokens.
#[derive(Module, Debug)]
pub struct QkvAttention {
    /// Projection to queries, keys and values in this order, `[width, 3 * heads * head_dim]`.
    pub qkv: Linear,
    /// Output projection, `[heads * head_dim, width]`.
    pub proj: Linear,
    heads: usize,
}

/// Sizes and biases of a [`QkvAttention`].
#[derive(Debug, Clone, Copy)]
pub struct QkvAttentionConfig {
    /// Channels of a token.
    pub width: usize,
    /// Number of heads.
    pub heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Whether the projection to queries, keys and values has a bias.
    pub qkv_bias: bool,
    /// Whether the output projection has a bias.
    pub proj_bias: bool,
}

impl QkvAttentionConfig {
    /// Builds the layer with placeholder weights.
    pub fn init(self, device: &Device) -> QkvAttention {
        let inner = self.heads * self.head_dim;
        QkvAttention {
            qkv: LinearConfig::new(self.width, 3 * inner).with_bias(self.qkv_bias).init(device),
            proj: LinearConfig::new(inner, self.width).with_bias(self.proj_bias).init(device),
            heads: self.heads,
        }
    }

    /// Multiply-add operations for one image of `tokens` tokens.
    pub fn multiply_adds(self, tokens: u64) -> u64 {
        let (width, inner) = (self.width as u64, (self.heads * self.head_dim) as u64);
        tokens * 4 * width * inner + 2 * tokens * tokens * inner
    }
}

impl QkvAttention {
    /// Runs the layer on `[batch, tokens, width]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [q, k, v] = project::<3>(&self.qkv, x, self.heads);
        by_row(attend(q, k, v, Bias::None, None), |x| self.proj.forward(x))
    }
}
