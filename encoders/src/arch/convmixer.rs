//! ConvMixer (Trockman & Kolter 2022, arXiv:2201.09792): a patch embedding, then blocks of a depthwise convolution in a
//! residual branch and a 1×1 convolution. Parameter paths are those of timm's `ConvMixer`, except that its `fn` is
//! called `branch` here.

use super::drop_path::DropPathMask;
use super::limits::{MAX_SIZE, check_patches};
use super::parts::{ActivationKind, Conv, ConvSpec, FrozenBatchNorm, Padding, Slot};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Epsilon of all batch norms.
const EPS: f64 = 1e-5;

/// Hyper-parameters of a ConvMixer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ConvMixerConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch: usize,
    /// Channels of all layers.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Side of the depthwise kernels; odd.
    pub kernel: usize,
    /// Activation. Default exact GELU.
    #[serde(default = "default_activation")]
    pub activation: ActivationKind,
}

fn default_activation() -> ActivationKind {
    ActivationKind::Gelu
}

/// A ConvMixer; see the module documentation.
#[derive(Module, Debug)]
pub struct ConvMixer {
    /// Patch embedding, activation and batch norm.
    pub stem: ActivatedConv,
    /// The blocks, in order.
    pub blocks: Vec<ConvMixerBlock>,
    #[module(skip)]
    config: ConvMixerConfig,
}

/// A convolution, an activation and a batch norm.
pub type ActivatedConv = (Conv, Slot, FrozenBatchNorm);

/// A residual branch, then a 1×1 convolution, an activation and a batch norm.
pub type ConvMixerBlock = (Residual, Conv, Slot, FrozenBatchNorm);

/// The residual branch of a block.
#[derive(Module, Debug)]
pub struct Residual {
    /// Depthwise convolution, activation and batch norm.
    pub branch: ActivatedConv,
}

impl ConvMixerConfig {
    fn stem(&self) -> ConvSpec {
        ConvSpec::new(3, self.width, self.patch).stride(self.patch).padding(Padding::Explicit(0))
    }

    fn depthwise(&self) -> ConvSpec {
        ConvSpec::depthwise(self.width, self.kernel)
    }

    fn pointwise(&self) -> ConvSpec {
        ConvSpec::new(self.width, self.width, 1)
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> ConvMixer {
        let norm = || FrozenBatchNorm::new(self.width, EPS, device);
        let activated = |conv: ConvSpec| (conv.init(device), Slot::default(), norm());
        let block = |_| {
            let (conv, slot, norm) = activated(self.pointwise());
            (Residual { branch: activated(self.depthwise()) }, conv, slot, norm)
        };
        ConvMixer { stem: activated(self.stem()), blocks: (0..self.depth).map(block).collect(), config: self.clone() }
    }
}

impl StagedConfig for ConvMixerConfig {
    fn check(&self) -> Result<()> {
        check_patches(self.image_size, self.patch)?;
        let numbers = [self.image_size, self.patch, self.width, self.depth, self.kernel];
        let positive = numbers.iter().all(|n| (1..=MAX_SIZE).contains(n));
        if !positive || self.image_size < self.patch || self.kernel.is_multiple_of(2) {
            return Err(Error::usage(format!(
                "invalid ConvMixer: image_size {}, patch {}, width {}, depth {}, kernel {}",
                self.image_size, self.patch, self.width, self.depth, self.kernel
            ))
            .hint("all must be positive and at most 65536, and kernel must be odd"));
        }
        Ok(())
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depth
    }

    fn layers(&self) -> Vec<LayerShape> {
        let side = self.stem().out_side(self.image_size);
        let block = self.depthwise().multiply_adds(side) + self.pointwise().multiply_adds(side);
        let stem = self.stem().multiply_adds(self.image_size);
        let layer =
            |i: usize| LayerShape { width: self.width, side, multiply_adds: block + if i == 0 { stem } else { 0 } };
        (0..self.depth).map(layer).collect()
    }
}

impl ConvMixer {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &ConvMixerConfig {
        &self.config
    }
}

impl StagedNetwork for ConvMixer {
    fn depth(&self) -> usize {
        self.blocks.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, _drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        let act = self.config.activation;
        let run = |x, conv: &Conv, norm: &FrozenBatchNorm| norm.forward(act.forward(conv.forward(x)));
        let mut x = run(pixels, &self.stem.0, &self.stem.2);
        let mut outputs = Vec::with_capacity(count);
        for (Residual { branch }, conv, _, norm) in self.blocks.iter().take(count) {
            x = run(x.clone(), &branch.0, &branch.2) + x;
            x = run(x, conv, norm);
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}

impl TimmModel for ConvMixerConfig {
    const CLASSES: &'static [&'static str] = &["ConvMixer"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3")])?;
        arguments.without(IGNORED);
        // timm's class takes a rate of drop path, but does not use it.
        arguments.without(&["global_pool", "drop_path_rate"]);
        let config = Self {
            image_size,
            patch: arguments.number("patch_size", 7)?,
            width: arguments.number("dim", 0)?,
            depth: arguments.number("depth", 0)?,
            kernel: arguments.number("kernel_size", 9)?,
            activation: arguments.activation("act_layer", default_activation())?,
        };
        Ok(TimmNetwork::new(config).with_dialect("timm-convmixer"))
    }
}
