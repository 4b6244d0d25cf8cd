//! Norms over the channels of a token or a pixel. Parameter paths are timm's: `weight`, and `bias` for a layer norm.

use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, RmsNorm, RmsNormConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// The kind of norm over channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum NormKind {
    /// Layer norm: subtracts the mean, divides by the standard deviation, then scales and shifts.
    #[default]
    Layer,
    /// RMS norm: divides by the root mean square, then scales (Zhang & Sennrich 2019, arXiv:1910.07467).
    Rms,
    /// timm's `SimpleNorm`: divides by the standard deviation without subtracting the mean, then scales.
    Simple,
}

/// A norm over the last axis, one variant per [`NormKind`].
#[derive(Module, Debug)]
pub enum ChannelNorm {
    /// Layer norm, [`NormKind::Layer`].
    Layer(LayerNorm),
    /// RMS norm, [`NormKind::Rms`].
    Rms(RmsNorm),
    /// timm's `SimpleNorm`, [`NormKind::Simple`].
    Simple(SimpleNorm),
}

/// Computes `x / √(variance + ε) · weight`, with the unbiased sample variance (divided by channels - 1).
#[derive(Module, Debug)]
pub struct SimpleNorm {
    /// Scale per channel, `[channels]`.
    pub weight: Param<Tensor<1>>,
    epsilon: f64,
}

impl NormKind {
    /// Builds a norm over `channels` channels with placeholder weights.
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
    /// Normalises `x` over its last axis.
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
