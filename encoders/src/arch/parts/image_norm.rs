//! Group norm with one group: each image is normalised over all its positions and channels (timm's `GroupNorm1`).

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

/// Group norm with one group; scale and shift are per channel.
#[derive(Module, Debug)]
pub struct ImageNorm {
    /// Scale per channel, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift per channel, `[channels]`; `None` for no shift.
    pub bias: Option<Param<Tensor<1>>>,
    epsilon: f64,
}

impl ImageNorm {
    /// Builds a norm over maps of `channels` with placeholder weights.
    pub fn new(channels: usize, epsilon: f64, bias: bool, device: &Device) -> Self {
        Self {
            weight: Initializer::Ones.init([channels], device),
            bias: bias.then(|| Initializer::Zeros.init([channels], device)),
            epsilon,
        }
    }

    /// Normalises `[batch, ..., channels]`: the channels are the last axis.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let shape = x.dims();
        let batch = shape[0];
        let all: Tensor<2> = x.reshape([batch, shape[1..].iter().product::<usize>()]);
        let centred = all.clone() - all.mean_dim(1);
        let variance = centred.clone().square().mean_dim(1);
        let normed: Tensor<D> = (centred / variance.add_scalar(self.epsilon).sqrt()).reshape(shape);
        let scaled = normed * self.weight.val().unsqueeze();
        match &self.bias {
            Some(bias) => scaled + bias.val().unsqueeze(),
            None => scaled,
        }
    }
}
