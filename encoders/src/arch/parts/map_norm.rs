//! Norms over the channels of a feature map of either layout: layer norm or batch norm.

use super::FrozenBatchNorm;
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// The kind of a norm over channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MapNormKind {
    /// Layer norm over the channels of each position.
    #[default]
    Layer,
    /// Batch norm with running statistics.
    Batch,
}

/// A norm over channels, one variant per [`MapNormKind`].
#[derive(Module, Debug)]
pub enum MapNorm {
    /// Layer norm, [`MapNormKind::Layer`].
    Layer(LayerNorm),
    /// Batch norm, [`MapNormKind::Batch`].
    Batch(FrozenBatchNorm),
}

impl MapNormKind {
    /// Builds a norm over `channels` channels with placeholder weights.
    pub(crate) fn init(self, channels: usize, epsilon: f64, device: &Device) -> MapNorm {
        match self {
            Self::Layer => MapNorm::Layer(LayerNormConfig::new(channels).with_epsilon(epsilon).init(device)),
            Self::Batch => MapNorm::Batch(FrozenBatchNorm::new(channels, epsilon, device)),
        }
    }
}

impl MapNorm {
    /// Normalises `[batch, channels, rows, columns]`.
    pub(crate) fn channels_first(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Layer(norm) => norm.forward(x.permute([0, 2, 3, 1])).permute([0, 3, 1, 2]),
            Self::Batch(norm) => norm.forward(x),
        }
    }

    /// Normalises `[batch, ..., channels]`.
    pub(crate) fn channels_last<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Batch(norm) => {
                let shape = x.dims();
                let channels = shape[D - 1];
                let rows = shape.iter().product::<usize>() / channels.max(1);
                norm.forward::<2>(x.reshape([rows, channels])).reshape(shape)
            }
        }
    }
}
