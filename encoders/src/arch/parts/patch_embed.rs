//! Patch embedding by one convolution, overlapping or not, with an optional norm over the channels.

use super::{Conv, ConvSpec};
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor};

/// A convolution from pixels or from another feature map to tokens on a grid. Parameter paths are those of timm's
/// `PatchEmbed` and `OverlapPatchEmbed`.
#[derive(Module, Debug)]
pub struct ConvEmbed {
    /// The convolution.
    pub proj: Conv,
    /// Layer norm over the channels.
    pub norm: Option<LayerNorm>,
}

impl ConvEmbed {
    /// Builds the layer with placeholder weights; `norm_eps` is `None` for no norm.
    pub(crate) fn new(spec: ConvSpec, norm_eps: Option<f64>, device: &Device) -> Self {
        let norm = norm_eps.map(|eps| LayerNormConfig::new(spec.to).with_epsilon(eps).init(device));
        Self { proj: spec.init(device), norm }
    }

    /// Maps `[batch, channels, height, width]` to channels-last tokens, `[batch, rows, columns, width]`.
    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.proj.forward(x).permute([0, 2, 3, 1]);
        match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        }
    }
}
