//! Batch norm of pretrained convolutional networks.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

/// Batch norm that always uses its running statistics, in training too. The statistics are never updated and get no
/// gradient, while scale and shift are trained (torchvision's `FrozenBatchNorm2d`, as detectors fine-tune ResNets). The
/// features of an image never depend on the other images of its batch, and are the same in training and evaluation.
#[derive(Module, Debug)]
pub struct FrozenBatchNorm {
    /// Scale per channel, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift per channel, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// Running mean, `[channels]`; never trained.
    pub running_mean: Param<Tensor<1>>,
    /// Running variance, `[channels]`; never trained.
    pub running_var: Param<Tensor<1>>,
    epsilon: f64,
}

impl FrozenBatchNorm {
    /// Builds a norm over `channels` channels with placeholder weights.
    pub fn new(channels: usize, epsilon: f64, device: &Device) -> Self {
        let constant = |value: f64| Initializer::Constant { value }.init([channels], device);
        Self {
            weight: constant(1.0),
            bias: constant(0.0),
            running_mean: constant(0.0),
            running_var: constant(1.0),
            epsilon,
        }
    }

    /// Normalises `[batch, channels, …]` over its second axis.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let (mean, variance) = (self.running_mean.val().detach(), self.running_var.val().detach());
        let scale = self.weight.val() / variance.add_scalar(self.epsilon).sqrt();
        let shift = self.bias.val() - mean * scale.clone();
        let mut shape = [1; D];
        shape[1] = scale.dims()[0];
        x * scale.reshape(shape) + shift.reshape(shape)
    }
}
