//! The norms over channels that ConvNeXts have. Parameter paths are timm's: `weight`, and `bias` for a layer norm.

use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, RmsNorm, RmsNormConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Which norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormKind {
    /// Mean and variance, scale and shift.
    #[default]
    Layer,
    /// The mean square, and a scale (Zhang & Sennrich 2019, arXiv:1910.07467).
    Rms,
    /// The variance, but not the mean, and a scale: timm's `SimpleNorm`.
    Simple,
}

/// A norm over the last axis.
#[derive(Module, Debug)]
pub enum ChannelNorm {
    /// See [`NormKind::Layer`].
    Layer(LayerNorm),
    /// See [`NormKind::Rms`].
    Rms(RmsNorm),
    /// See [`NormKind::Simple`].
    Simple(SimpleNorm),
}

/// `x / √(variance + ε) · weight`, with the variance of a sample (divided by one less than the channels).
#[derive(Module, Debug)]
pub struct SimpleNorm {
    /// `[channels]`.
    pub weight: Param<Tensor<1>>,
    epsilon: f64,
}

impl NormKind {
    /// A norm with placeholder weights.
    pub(super) fn init(self, channels: usize, epsilon: f64, device: &Device) -> ChannelNorm {
        match self {
            Self::Layer => ChannelNorm::Layer(LayerNormConfig::new(channels).with_epsilon(epsilon).init(device)),
            Self::Rms => ChannelNorm::Rms(RmsNormConfig::new(channels).with_epsilon(epsilon).init(device)),
            Self::Simple => {
                ChannelNorm::Simple(SimpleNorm { weight: Initializer::Ones.init([channels], device), epsilon })
            }
        }
    }
}

impl ChannelNorm {
    /// Over the last axis.
    pub(super) fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Rms(norm) => norm.forward(x),
            Self::Simple(norm) => {
                let deviation = x.clone().var(D - 1).add_scalar(norm.epsilon).sqrt();
                x / deviation * norm.weight.val().unsqueeze()
            }
        }
    }
}
