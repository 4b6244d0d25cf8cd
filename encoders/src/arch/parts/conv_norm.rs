//! Convolution, batch norm and activation: timm's `ConvNormAct`.

use super::{ActivationKind, Conv, ConvSpec, FrozenBatchNorm};
use burn::module::Module;
use burn::tensor::{Device, Tensor};

/// A convolution, a batch norm and an activation.
#[derive(Module, Debug)]
pub struct ConvNorm {
    /// The convolution.
    pub conv: Conv,
    /// Batch norm after `conv`.
    pub bn: FrozenBatchNorm,
    #[module(skip)]
    activation: ActivationKind,
}

impl ConvNorm {
    /// Builds the layers with placeholder weights; the convolution has no bias.
    pub fn new(spec: ConvSpec, epsilon: f64, activation: ActivationKind, device: &Device) -> Self {
        let bn = FrozenBatchNorm::new(spec.to, epsilon, device);
        Self { conv: spec.bias(false).init(device), bn, activation }
    }

    /// Maps `[batch, in, rows, columns]` to `[batch, out, rows, columns]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.activation.forward(self.bn.forward(self.conv.forward(x)))
    }
}
