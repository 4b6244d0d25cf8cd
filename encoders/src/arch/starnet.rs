//! StarNet (Ma et al. 2024, arXiv:2403.19967): blocks in which two linear maps are multiplied. Parameter paths are
//! those of timm's `StarNet`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::limits::check_pixels;
use super::parts::{ActivationKind, Conv, ConvBn, ConvSpec, FrozenBatchNorm, Trace, drop_branch, positive};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Channels of the stem.
const STEM: usize = 32;

/// Hyper-parameters of a StarNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StarNetConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Channels of the first stage; every later stage has twice as many as the one before it.
    pub channels: usize,
    /// Number of blocks of each stage.
    pub depths: Vec<usize>,
    /// Channels of the product divided by those of the block. Default 4.
    #[serde(default = "default_ratio")]
    pub mlp_ratio: usize,
    /// Activation. Default ReLU6.
    #[serde(default = "default_activation")]
    pub activation: ActivationKind,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default)]
    pub drop_path: f64,
}

fn default_ratio() -> usize {
    4
}

fn default_activation() -> ActivationKind {
    ActivationKind::Relu6
}

/// A StarNet; see the module documentation.
#[derive(Module, Debug)]
pub struct StarNet {
    /// Convolution of stride 2.
    pub stem: Vec<ConvBn>,
    /// The stages, in order of depth: a convolution of stride 2, then blocks.
    pub stages: Vec<Vec<StarLayer>>,
    /// Batch norm of the last feature map.
    pub norm: FrozenBatchNorm,
    #[module(skip)]
    config: StarNetConfig,
}

/// A layer of a stage.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum StarLayer {
    /// Convolution of stride 2.
    Down(ConvBn),
    /// Block.
    Block(StarBlock),
}

/// A convolution whose path has one more part, as in a sequence without norm.
#[derive(Module, Debug)]
pub struct NamedConv {
    /// The convolution.
    pub conv: Conv,
}

/// Depthwise convolution, two pointwise maps whose product is projected, depthwise convolution.
#[derive(Module, Debug)]
pub struct StarBlock {
    /// Depthwise convolution.
    pub dwconv: ConvBn,
    /// First factor, which is activated.
    pub f1: NamedConv,
    /// Second factor.
    pub f2: NamedConv,
    /// Projection.
    pub g: ConvBn,
    /// Depthwise convolution.
    pub dwconv2: NamedConv,
}

impl StarNetConfig {
    fn width(&self, stage: usize) -> usize {
        self.channels << stage
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> StarNet {
        let mut before = STEM;
        let stage = |(stage, depth): (usize, &usize)| {
            let channels = self.width(stage);
            let mut layers = vec![StarLayer::Down(ConvBn::new(ConvSpec::new(before, channels, 3).stride(2), device))];
            layers.extend((0..*depth).map(|_| StarLayer::Block(self.block(channels, device))));
            before = channels;
            layers
        };
        let stages: Vec<Vec<StarLayer>> = self.depths.iter().enumerate().map(stage).collect();
        StarNet {
            stem: vec![ConvBn::new(ConvSpec::new(3, STEM, 3).stride(2), device)],
            norm: FrozenBatchNorm::new(before, 1e-5, device),
            stages,
            config: self.clone(),
        }
    }

    fn block(&self, channels: usize, device: &Device) -> StarBlock {
        let hidden = channels * self.mlp_ratio;
        let named = |spec: ConvSpec| NamedConv { conv: spec.init(device) };
        StarBlock {
            dwconv: ConvBn::new(ConvSpec::depthwise(channels, 7), device),
            f1: named(ConvSpec::new(channels, hidden, 1)),
            f2: named(ConvSpec::new(channels, hidden, 1)),
            g: ConvBn::new(ConvSpec::new(hidden, channels, 1), device),
            dwconv2: named(ConvSpec::depthwise(channels, 7)),
        }
    }
}

impl StarBlock {
    fn forward(&self, x: Tensor<4>, activation: ActivationKind, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let mixed = self.dwconv.forward(x.clone());
        let product = activation.forward(self.f1.conv.forward(mixed.clone())) * self.f2.conv.forward(mixed);
        x + drop_branch(self.dwconv2.conv.forward(self.g.forward(product)), factors)
    }

    fn trace(&self, trace: &mut Trace) {
        self.dwconv.trace(trace);
        trace.beside(&self.f1.conv);
        trace.conv(&self.f2.conv);
        self.g.trace(trace);
        trace.conv(&self.dwconv2.conv);
    }
}

impl StarNet {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &StarNetConfig {
        &self.config
    }
}

impl StagedConfig for StarNetConfig {
    fn check(&self) -> Result<()> {
        let name = "StarNet";
        positive(name, "image_size, channels and mlp_ratio", &[self.image_size, self.channels, self.mlp_ratio])?;
        positive(name, "depths", &self.depths)?;
        if self.depths.is_empty() || self.depths.len() > 8 {
            return Err(
                Error::usage(format!("invalid {name}: {} stages", self.depths.len())).hint("give 1 to 8 depths")
            );
        }
        positive(name, "hidden channels", &[self.width(self.depths.len() - 1).saturating_mul(self.mlp_ratio)])?;
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depths.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    fn layers(&self) -> Vec<LayerShape> {
        let network = self.init(&Device::flex());
        let mut trace = Trace::image(self.image_size);
        network.stem.iter().for_each(|conv| conv.trace(&mut trace));
        for stage in &network.stages {
            for layer in stage {
                match layer {
                    StarLayer::Down(conv) => conv.trace(&mut trace),
                    StarLayer::Block(block) => block.trace(&mut trace),
                }
            }
            trace.end_layer();
        }
        trace.layers()
    }

    fn has_final_norm(&self) -> bool {
        true
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.layer_count(), branches: 1 })
    }
}

impl StagedNetwork for StarNet {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let activation = self.config.activation;
        let mut x = self.stem.iter().fold(pixels, |x, conv| activation.forward(conv.forward(x)));
        let (mut outputs, mut run) = (Vec::with_capacity(count), 0);
        for stage in self.stages.iter().take(count) {
            for layer in stage {
                x = match layer {
                    StarLayer::Down(conv) => conv.forward(x),
                    StarLayer::Block(block) => {
                        run += 1;
                        block.forward(x, activation, drop_path.factors(run - 1, 0))
                    }
                };
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.norm.forward(tokens.swap_dims(1, 2)).swap_dims(1, 2)
    }
}

impl TimmModel for StarNetConfig {
    const CLASSES: &'static [&'static str] = &["StarNet"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3"), ("output_stride", "32")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        Ok(TimmNetwork::new(Self {
            image_size,
            channels: arguments.number("base_dim", 32)?,
            depths: arguments.numbers("depths")?.unwrap_or_else(|| vec![3, 3, 12, 5]),
            mlp_ratio: arguments.number("mlp_ratio", 4)?,
            activation: arguments.activation("act_layer", ActivationKind::Relu6)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}
