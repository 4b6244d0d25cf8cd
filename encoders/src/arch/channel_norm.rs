//! Norms over the channels of a token or a pixel. Parameter paths are timm's: `weight`, and `bias` for a layer norm.

use crate::kernel::{self, NormParameters, Operand};
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, RmsNorm, RmsNormConfig};
use burn::tensor::{Device, Tensor, module::layer_norm};
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

/// Computes `(x − mean) / √(variance + ε) · gamma + beta`, as Burn's layer norm, whose epsilon cannot be read.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// Scale per channel, `[channels]`.
    pub gamma: Param<Tensor<1>>,
    /// Shift per channel, `[channels]`.
    pub beta: Option<Param<Tensor<1>>>,
    epsilon: f64,
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
            Self::Layer => ChannelNorm::Layer(LayerNorm {
                gamma: Initializer::Ones.init([channels], device),
                beta: Some(Initializer::Zeros.init([channels], device)),
                epsilon,
            }),
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
            Self::Layer(norm) => layer_norm(x, norm.gamma.val(), norm.beta.as_ref().map(Param::val), norm.epsilon),
            Self::Rms(norm) => norm.forward(x),
            Self::Simple(norm) => {
                let deviation = x.clone().var(D - 1).add_scalar(norm.epsilon).sqrt();
                x / deviation * norm.weight.val().unsqueeze()
            }
        }
    }

    /// Normalises the rows of `x`, the input of `layer`.
    pub(super) fn before(&self, layer: &Linear, x: Tensor<2>) -> Operand {
        let parameters = match self {
            Self::Layer(norm) => Some(NormParameters {
                weight: norm.gamma.val(),
                bias: norm.beta.as_ref().map(Param::val),
                epsilon: norm.epsilon,
                centred: true,
            }),
            Self::Rms(norm) => {
                Some(NormParameters { weight: norm.gamma.val(), bias: None, epsilon: norm.epsilon, centred: false })
            }
            Self::Simple(_) => None,
        };
        kernel::normed(x, layer, parameters, |x| self.forward(x))
    }
}
