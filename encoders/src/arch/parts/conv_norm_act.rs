//! A convolution, a norm, an activation and anti-aliasing: timm's `ConvNormAct`.

use super::{ActivationKind, AntiAlias, Conv, ConvSpec, NormAct, NormActKind};
use burn::module::Module;
use burn::tensor::{Device, Tensor};

/// A convolution without bias, a norm with an activation, and anti-aliased subsampling instead of a stride.
#[derive(Module, Debug)]
pub struct ConvNormAct {
    /// The convolution.
    pub conv: Conv,
    /// The norm and the activation.
    pub bn: NormAct,
    #[module(skip)]
    anti_alias: Option<AntiAlias>,
}

impl ConvNormAct {
    /// Builds the layer; with `anti_alias`, a stride of 2 is left to the filter.
    pub fn new(
        conv: ConvSpec,
        norm: NormActKind,
        activation: ActivationKind,
        anti_alias: Option<AntiAlias>,
        device: &Device,
    ) -> Self {
        let anti_alias = anti_alias.filter(|_| conv.stride > 1);
        let conv = if anti_alias.is_some() { conv.stride(1) } else { conv }.bias(false);
        Self { bn: norm.init(conv.to, activation, device), conv: conv.init(device), anti_alias }
    }

    /// Maps `[batch, channels, rows, columns]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.bn.forward(self.conv.forward(x));
        match self.anti_alias {
            Some(filter) => filter.forward(x),
            None => x,
        }
    }

    /// Number of output channels.
    pub fn channels(&self) -> usize {
        self.conv.spec().to
    }

    /// Side of the output for a map of `side`.
    pub fn out_side(&self, side: usize) -> usize {
        let side = self.conv.spec().out_side(side);
        self.anti_alias.map_or(side, |filter| filter.out_side(side))
    }

    /// Multiply-adds for one image whose map has `side` rows and columns.
    pub fn multiply_adds(&self, side: usize) -> u64 {
        let filter = |filter: AntiAlias| filter.multiply_adds(self.channels(), self.conv.spec().out_side(side));
        self.conv.spec().multiply_adds(side) + self.anti_alias.map_or(0, filter)
    }
}
