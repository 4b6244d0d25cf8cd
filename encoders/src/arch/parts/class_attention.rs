//! Class attention (Touvron et al. 2021, arXiv:2103.17239): the class token alone attends to all tokens.

use crate::attention::attend;
use crate::operands::Bias;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

/// Multi-head attention whose only query is the first token.
#[derive(Module, Debug)]
pub struct ClassAttention {
    /// Projection of the class token to queries, `[width, width]`.
    pub q: Linear,
    /// Projection of all tokens to keys, `[width, width]`.
    pub k: Linear,
    /// Projection of all tokens to values, `[width, width]`.
    pub v: Linear,
    /// Output projection, `[width, width]`.
    pub proj: Linear,
    heads: usize,
}

impl ClassAttention {
    /// Builds the layer with placeholder weights; `heads` must divide `width`.
    pub fn new(width: usize, heads: usize, bias: bool, device: &Device) -> Self {
        let linear = |bias| LinearConfig::new(width, width).with_bias(bias).init(device);
        Self { q: linear(bias), k: linear(bias), v: linear(bias), proj: linear(true), heads }
    }

    /// Maps `[batch, tokens, width]` to the new class token `[batch, 1, width]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, _, width] = x.dims();
        let heads = |x: Tensor<3>| {
            let tokens = x.dims()[1];
            x.reshape([batch, tokens, self.heads, width / self.heads]).swap_dims(1, 2)
        };
        let q = heads(self.q.forward(x.clone().narrow(1, 0, 1)));
        let (k, v) = (heads(self.k.forward(x.clone())), heads(self.v.forward(x)));
        self.proj.forward(attend(q, k, v, Bias::None, None))
    }

    /// Multiply-add operations for one image of `tokens` tokens, the class token among them.
    pub fn multiply_adds(width: usize, tokens: u64) -> u64 {
        let width = width as u64;
        2 * width * width + tokens * (2 * width * width + 2 * width)
    }
}
