//! Layer norm over the channels of a channels-first feature map: timm's `LayerNorm2d`.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

/// Layer norm over the second axis of `[batch, channels, rows, columns]`.
#[derive(Module, Debug)]
pub struct LayerNorm2d {
    /// Scale per channel, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift per channel, `[channels]`.
    pub bias: Param<Tensor<1>>,
    epsilon: f64,
}

impl LayerNorm2d {
    /// Builds a norm over `channels` channels with placeholder weights.
    pub fn new(channels: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            weight: Initializer::Ones.init([channels], device),
            bias: Initializer::Zeros.init([channels], device),
            epsilon,
        }
    }

    /// Normalises every position of `[batch, channels, rows, columns]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let centred = x.clone() - x.mean_dim(1);
        let variance = centred.clone().square().mean_dim(1);
        let [channels] = self.weight.dims();
        let per_channel = |param: &Param<Tensor<1>>| param.val().reshape([1, channels, 1, 1]);
        centred / variance.add_scalar(self.epsilon).sqrt() * per_channel(&self.weight) + per_channel(&self.bias)
    }
}
