//! Squeeze-and-excitation (Hu et al. 2018, arXiv:1709.01507): timm's `SEModule`.

use super::pool::global_mean;
use super::{ActivationKind, Conv, ConvSpec, FrozenBatchNorm};
use burn::module::Module;
use burn::tensor::{Device, Tensor};

/// Scales every channel by a gate that two 1×1 convolutions compute from the mean of all channels.
#[derive(Module, Debug)]
pub struct SqueezeExcite {
    /// Reduction, `[hidden, channels, 1, 1]`.
    pub fc1: Conv,
    /// Batch norm after `fc1`, if there is one.
    pub bn: Option<FrozenBatchNorm>,
    /// Expansion, `[channels, hidden, 1, 1]`.
    pub fc2: Conv,
    #[module(skip)]
    activation: ActivationKind,
    #[module(skip)]
    gate: ActivationKind,
}

impl SqueezeExcite {
    /// Builds the layers with placeholder weights, biases and no norm.
    pub fn new(
        channels: usize,
        hidden: usize,
        activation: ActivationKind,
        gate: ActivationKind,
        device: &Device,
    ) -> Self {
        let (fc1, fc2) = (ConvSpec::new(channels, hidden, 1), ConvSpec::new(hidden, channels, 1));
        Self { fc1: fc1.init(device), bn: None, fc2: fc2.init(device), activation, gate }
    }

    /// Multiply-adds for one image.
    pub fn multiply_adds(&self) -> u64 {
        self.fc1.spec().multiply_adds(1) + self.fc2.spec().multiply_adds(1)
    }

    /// Gates `[batch, channels, rows, columns]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let hidden = self.fc1.forward(global_mean(x.clone()));
        let hidden = self.bn.as_ref().map_or(hidden.clone(), |norm| norm.forward(hidden));
        x * self.gate.forward(self.fc2.forward(self.activation.forward(hidden)))
    }
}
