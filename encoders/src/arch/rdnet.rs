//! RDNet (Kim et al. 2024, arXiv:2403.19588): a DenseNet with the design of ConvNeXt. Parameter paths are those of
//! timm's `RDNet`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::is_default;
use super::limits::{MAX_SIZE, check_pixels};
use super::parts::{
    ChannelAttention, ChannelAttentionKind, Conv, ConvSpec, LayerNorm2d, Named, Padding, Slot, drop_branch,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::operands::gelu;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Epsilon of all norms.
const EPSILON: f64 = 1e-6;

/// A stage of an [`RdNetConfig`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RdStageConfig {
    /// Channels that every block adds.
    pub growth: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Whether the blocks end with a gate per channel. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub gated: bool,
    /// Whether the transition before the stage halves the grid. Default false; the first stage has no transition.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub downsample: bool,
}

/// Hyper-parameters of an RDNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RdNetConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Stride of the stem in pixels. Default 4.
    #[serde(default = "four")]
    pub stem: usize,
    /// Output channels of the stem.
    pub stem_width: usize,
    /// The stages, in order of depth.
    pub stages: Vec<RdStageConfig>,
    /// Inner channels of a block divided by its input channels. Default 4.
    #[serde(default = "four_times")]
    pub bottleneck_ratio: f64,
    /// Output channels of a transition divided by its input channels. Default 0.5.
    #[serde(default = "half")]
    pub compression: f64,
    /// Initial value of the layer scale; 0 for blocks without layer scale. Default 1e-6.
    #[serde(default = "small")]
    pub layer_scale: f64,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn four() -> usize {
    4
}

fn four_times() -> f64 {
    4.0
}

fn half() -> f64 {
    0.5
}

fn small() -> f64 {
    1e-6
}

/// An RDNet. A tap's layers are the outputs of the last stages of each grid.
#[derive(Module, Debug)]
pub struct RdNet {
    /// Convolution whose kernel equals its stride, and its norm.
    pub stem: (Conv, LayerNorm2d),
    /// The stages, in order of depth.
    pub dense_stages: Vec<RdStage>,
    #[module(skip)]
    config: RdNetConfig,
}

/// A stage: blocks `dense_block0`, `dense_block1` …, each of which gets the outputs of all blocks before it; in all
/// stages but the first after a transition.
// A network has a dozen.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum RdStage {
    /// The first stage.
    First([Named<RdBlock>; 1]),
    /// A norm and a convolution that compress the channels, then the blocks.
    Later((LayerNorm2d, Conv, Named<RdBlock>)),
}

/// A block.
#[derive(Module, Debug)]
pub struct RdBlock {
    /// Layer scale, `[growth]`; `None` for no layer scale.
    pub gamma: Option<Param<Tensor<1>>>,
    /// The layers of the block.
    pub layers: RdLayers,
}

/// The layers of a block.
#[derive(Module, Debug)]
pub struct RdLayers {
    /// Depthwise 7×7 convolution, norm, two 1×1 convolutions with a GELU between them, and in gated stages effective
    /// squeeze-and-excitation.
    pub layers: (Conv, LayerNorm2d, Conv, Slot, Conv, Option<ChannelAttention>),
}

impl RdBlock {
    /// Adds channels to `[batch, channels, rows, columns]`; returns the added channels.
    fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let (depthwise, norm, expand, _, reduce, gate) = &self.layers.layers;
        let x = reduce.forward(gelu(expand.forward(norm.forward(depthwise.forward(x)))));
        let x = match gate {
            Some(gate) => gate.forward(x),
            None => x,
        };
        let x = match &self.gamma {
            Some(gamma) => {
                let channels = x.dims()[1];
                x * gamma.val().reshape([1, channels, 1, 1])
            }
            None => x,
        };
        drop_branch(x, factors)
    }
}

impl RdStage {
    fn forward(&self, x: Tensor<4>, drop_path: &DropPathMask, run: &mut usize) -> Tensor<4> {
        let (x, blocks) = match self {
            Self::First([blocks]) => (x, blocks),
            Self::Later((norm, conv, blocks)) => (conv.forward(norm.forward(x)), blocks),
        };
        let mut all = vec![x];
        for block in blocks.iter() {
            all.push(block.forward(Tensor::cat(all.clone(), 1), drop_path.factors(*run, 0)));
            *run += 1;
        }
        Tensor::cat(all, 1)
    }
}

/// Python's `int(width * ratio / 8) * 8`.
fn eighths(width: usize, ratio: f64) -> usize {
    times(width, ratio / 8.0) * 8
}

impl RdNetConfig {
    fn stem_spec(&self) -> ConvSpec {
        ConvSpec::new(3, self.stem_width, self.stem).stride(self.stem).padding(Padding::Explicit(0))
    }

    /// The transition before a stage with `from` input channels; `None` before the first.
    fn transition(&self, stage: usize, from: usize) -> Option<ConvSpec> {
        let config = self.stages.get(stage).filter(|_| stage > 0)?;
        let side = if config.downsample { 2 } else { 1 };
        let spec = ConvSpec::new(from, eighths(from, self.compression), side).stride(side);
        Some(spec.padding(Padding::Explicit(0)))
    }

    /// The convolutions of a block with `from` input channels.
    fn block(
        &self,
        stage: &RdStageConfig,
        from: usize,
    ) -> (ConvSpec, ConvSpec, ConvSpec, Option<ChannelAttentionKind>) {
        let inner = eighths(from, self.bottleneck_ratio);
        (
            ConvSpec::depthwise(from, 7),
            ConvSpec::new(from, inner, 1),
            ConvSpec::new(inner, stage.growth, 1),
            stage.gated.then_some(ChannelAttentionKind::EffectiveSqueezeExcite),
        )
    }

    /// Whether the last tap of a grid is at the output of this stage.
    fn ends_grid(&self, stage: usize) -> bool {
        self.stages.get(stage + 1).is_none_or(|next| next.downsample)
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> RdNet {
        let norm = |channels: usize| LayerNorm2d::new(channels, EPSILON, device);
        let mut width = self.stem_width;
        let stages = self.stages.iter().enumerate().map(|(i, stage)| {
            let before = width;
            let transition = self.transition(i, before);
            width = transition.map_or(before, |spec| spec.to);
            let blocks = (0..stage.depth).map(|_| {
                let (depthwise, expand, reduce, gate) = self.block(stage, width);
                width += stage.growth;
                let scale = Initializer::Constant { value: self.layer_scale };
                RdBlock {
                    gamma: (self.layer_scale > 0.0).then(|| scale.init([stage.growth], device)),
                    layers: RdLayers {
                        layers: (
                            depthwise.init(device),
                            norm(depthwise.to),
                            expand.init(device),
                            Slot {},
                            reduce.init(device),
                            gate.map(|kind| kind.init(stage.growth, device)),
                        ),
                    },
                }
            });
            let blocks = blocks.enumerate().map(|(i, block)| (format!("dense_block{i}"), block)).collect();
            match transition {
                Some(spec) => RdStage::Later((norm(before), spec.init(device), blocks)),
                None => RdStage::First([blocks]),
            }
        });
        let dense_stages = stages.collect();
        let stem = (self.stem_spec().init(device), norm(self.stem_width));
        RdNet { stem, dense_stages, config: self.clone() }
    }
}

impl StagedConfig for RdNetConfig {
    fn check(&self) -> Result<()> {
        let sizes = self.stages.iter().flat_map(|s| [s.growth, s.depth]);
        let positive = sizes.chain([self.image_size, self.stem, self.stem_width]).all(|n| (1..=MAX_SIZE).contains(&n));
        let ratios = self.bottleneck_ratio > 0.0 && self.compression > 0.0 && self.layer_scale >= 0.0;
        let grids = self.stages.iter().filter(|s| s.downsample).count();
        let divides = grids < 16 && self.image_size.is_multiple_of(self.stem.max(1) << grids);
        if !positive || !ratios || !divides || self.stages.first().is_none_or(|s| s.downsample) {
            return Err(Error::usage(format!(
                "invalid RDNet: image_size {}, stem {} of width {}, stages {:?}",
                self.image_size, self.stem, self.stem_width, self.stages
            ))
            .hint("all must be positive, and the stem and the stages that halve the grid must divide image_size"));
        }
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.stages.iter().fold(0, |sum, stage| sum.saturating_add(stage.depth))
    }

    fn layers(&self) -> Vec<LayerShape> {
        let stem = self.stem_spec();
        let (mut side, mut width) = (stem.out_side(self.image_size), self.stem_width);
        let mut carried = stem.multiply_adds(self.image_size);
        let mut layers = Vec::new();
        for (i, stage) in self.stages.iter().enumerate() {
            if let Some(spec) = self.transition(i, width) {
                carried += spec.multiply_adds(side);
                (side, width) = (spec.out_side(side), spec.to);
            }
            for _ in 0..stage.depth {
                let (depthwise, expand, reduce, gate) = self.block(stage, width);
                carried += [depthwise, expand, reduce].iter().map(|spec| spec.multiply_adds(side)).sum::<u64>();
                let gate = gate.map(|kind| kind.init(stage.growth, &Device::flex()));
                carried += gate.map_or(0, |gate| gate.multiply_adds(side));
                width += stage.growth;
            }
            if self.ends_grid(i) {
                layers.push(LayerShape { width, side, multiply_adds: std::mem::take(&mut carried) });
            }
        }
        layers
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.layer_count(), branches: 1 })
    }
}

impl RdNet {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &RdNetConfig {
        &self.config
    }
}

impl StagedNetwork for RdNet {
    fn depth(&self) -> usize {
        (0..self.config.stages.len()).filter(|stage| self.config.ends_grid(*stage)).count()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let (conv, norm) = &self.stem;
        let mut x = norm.forward(conv.forward(pixels));
        let (mut outputs, mut run) = (Vec::with_capacity(count), 0);
        for (i, stage) in self.dense_stages.iter().enumerate() {
            x = stage.forward(x, drop_path, &mut run);
            if self.config.ends_grid(i) {
                outputs.push(x.clone());
            }
            if outputs.len() == count {
                break;
            }
        }
        Ok(outputs)
    }
}

impl TimmModel for RdNetConfig {
    const CLASSES: &'static [&'static str] = &["RDNet"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[
            ("act_layer", "\"gelu\""),
            ("conv_bias", "true"),
            ("head_norm_first", "false"),
            ("in_chans", "3"),
            ("norm_eps", "null"),
            ("norm_layer", "\"layernorm2d\""),
            ("stem_type", "\"patch\""),
        ])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let missing = |key: &str, arguments: &TimmArguments| arguments.invalid(&format!("{key} is missing"));
        let growth = arguments.numbers("growth_rates")?.ok_or_else(|| missing("growth_rates", arguments))?;
        let depths = arguments.numbers("num_blocks_list")?.ok_or_else(|| missing("num_blocks_list", arguments))?;
        let gated = arguments.read("block_type", gated)?.ok_or_else(|| missing("block_type", arguments))?;
        let downsample = arguments
            .read("is_downsample_block", |value| {
                value.as_array().map(|all| all.iter().map(|item| item.as_bool() == Some(true)).collect::<Vec<_>>())
            })?
            .ok_or_else(|| missing("is_downsample_block", arguments))?;
        if [depths.len(), gated.len(), downsample.len()] != [growth.len(); 3] {
            return Err(arguments.invalid("its lists of stages differ in length"));
        }
        let stage = |i: usize| RdStageConfig {
            growth: growth[i],
            depth: depths[i],
            gated: gated[i],
            downsample: downsample[i] && i > 0,
        };
        let config = Self {
            image_size,
            stem: arguments.number("patch_size", 4)?,
            stem_width: arguments.number("num_init_features", 64)?,
            stages: (0..growth.len()).map(stage).collect(),
            bottleneck_ratio: arguments.real("bottleneck_width_ratio")?.unwrap_or(4.0),
            compression: arguments.real("transition_compression_ratio")?.unwrap_or(0.5),
            layer_scale: arguments.real("ls_init_value")?.unwrap_or(1e-6),
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        };
        Ok(TimmNetwork::new(config))
    }
}

/// Reads the kinds of blocks; whether they are gated.
fn gated(value: &Value) -> Option<Vec<bool>> {
    let kind = |item: &Value| match item.as_str()? {
        "Block" => Some(false),
        "BlockESE" => Some(true),
        _ => None,
    };
    value.as_array()?.iter().map(kind).collect()
}
