//! Layer scale (Touvron et al. 2021, arXiv:2103.17239) on feature maps.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

/// A factor per channel at the end of a residual branch.
#[derive(Module, Debug)]
pub struct LayerScale {
    /// Factors, `[channels]`.
    pub gamma: Param<Tensor<1>>,
}

impl LayerScale {
    /// Builds the layer with placeholder weights.
    pub(in crate::arch) fn new(channels: usize, device: &Device) -> Self {
        Self { gamma: Initializer::Constant { value: 1e-5 }.init([channels], device) }
    }

    /// Scales `[batch, channels, rows, columns]`.
    pub(in crate::arch) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        x * per_channel(self.gamma.val())
    }
}

/// Shapes a value per channel, `[channels]`, for a product with a feature map: `[1, channels, 1, 1]`.
pub(in crate::arch) fn per_channel(values: Tensor<1>) -> Tensor<4> {
    let [channels] = values.dims();
    values.reshape([1, channels, 1, 1])
}
