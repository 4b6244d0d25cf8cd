//! PP-HGNet and PP-HGNetV2 (PaddlePaddle 2022–2023): stages whose blocks concatenate the outputs of all their
//! convolutions. Parameter paths are those of timm's `HighPerfGpuNet`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::is_default;
use super::limits::{MAX_SIZE, check_pixels};
use super::parts::{ActivationKind, Conv, ConvSpec, FrozenBatchNorm, Padding, drop_branch, global_mean, max_pool};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::json_values::integer;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Epsilon of all batch norms.
const EPSILON: f64 = 1e-5;

/// Version of the network: stem and aggregation differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum HgVersion {
    /// 3×3 convolutions and max pooling as the stem; blocks end with a gate per channel.
    V1,
    /// A stem of two branches; blocks end with two 1×1 convolutions.
    V2,
}

/// A stage of a [`HgNetConfig`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HgStageConfig {
    /// Channels of the convolutions inside a block.
    pub inner: usize,
    /// Output channels.
    pub width: usize,
    /// Number of blocks.
    pub blocks: usize,
    /// Number of convolutions per block.
    pub layers: usize,
    /// Side of the kernels, odd.
    pub kernel: usize,
    /// Whether a depthwise convolution halves the grid before the first block.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub downsample: bool,
    /// Whether each convolution is a 1×1 and a depthwise one.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub light: bool,
}

/// Hyper-parameters of a PP-HGNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HgNetConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Version of the network.
    pub version: HgVersion,
    /// Channels of the stem: one number per convolution (V1), or inner and output channels (V2).
    pub stem: Vec<usize>,
    /// The stages, in order of depth.
    pub stages: Vec<HgStageConfig>,
    /// Whether a learned scale and shift follow every activation. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub affine: bool,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

/// A PP-HGNet; see the module documentation.
#[derive(Module, Debug)]
pub struct HgNet {
    /// Stem with a stride of 4 pixels.
    pub stem: Stem,
    /// The stages, in order of depth.
    pub stages: Vec<Stage>,
    #[module(skip)]
    config: HgNetConfig,
}

/// The stem, one variant per [`HgVersion`].
// A network has one stem: its size does not matter.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Stem {
    /// 3×3 convolutions, then max pooling.
    Plain(PlainStem),
    /// Two branches between convolutions of stride 2.
    Branched(BranchedStem),
}

/// Stem of V1.
#[derive(Module, Debug)]
pub struct PlainStem {
    /// 3×3 convolutions, the first with a stride of 2.
    pub stem: Vec<Unit>,
}

/// Stem of V2.
#[derive(Module, Debug)]
pub struct BranchedStem {
    /// 3×3 convolution of stride 2.
    pub stem1: Unit,
    /// First 2×2 convolution of the branch.
    pub stem2a: Unit,
    /// Second 2×2 convolution of the branch.
    pub stem2b: Unit,
    /// 3×3 convolution of stride 2 over both branches.
    pub stem3: Unit,
    /// 1×1 convolution to the stem's output channels.
    pub stem4: Unit,
}

/// A convolution, a batch norm, a ReLU and a scale with shift; the latter two can be absent.
#[derive(Module, Debug)]
pub struct Unit {
    /// The convolution.
    pub conv: Conv,
    /// Batch norm after `conv`.
    pub bn: FrozenBatchNorm,
    /// Learned scale and shift after the activation.
    pub lab: Option<Affine>,
    #[module(skip)]
    activation: ActivationKind,
}

/// A learned scale and shift of all values.
#[derive(Module, Debug)]
pub struct Affine {
    /// Scale, `[1]`.
    pub scale: Param<Tensor<1>>,
    /// Shift, `[1]`.
    pub bias: Param<Tensor<1>>,
}

/// A stage: an optional depthwise convolution of stride 2, then blocks.
#[derive(Module, Debug)]
pub struct Stage {
    /// Depthwise 3×3 convolution of stride 2 without activation.
    pub downsample: Option<Unit>,
    /// The blocks.
    pub blocks: Vec<Block>,
}

/// A block: convolutions one after the other, and an aggregation of the input and all outputs.
#[derive(Module, Debug)]
pub struct Block {
    /// The convolutions.
    pub layers: Vec<Layer>,
    /// The aggregation of the concatenated maps.
    pub aggregation: (Unit, Aggregation),
}

/// A convolution of a block.
// All blocks of a network have the same variant.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Layer {
    /// One convolution.
    Full(Unit),
    /// A 1×1 convolution without activation and a depthwise one.
    Light(LightLayer),
}

/// A 1×1 convolution without activation, then a depthwise one.
#[derive(Module, Debug)]
pub struct LightLayer {
    /// 1×1 convolution.
    pub conv1: Unit,
    /// Depthwise convolution.
    pub conv2: Unit,
}

/// The second layer of an aggregation.
// All blocks of a network have the same variant.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Aggregation {
    /// 1×1 convolution to the output channels (V2).
    Expand(Unit),
    /// A gate per channel from the mean of all channels (V1).
    Gate(ChannelGate),
}

/// Scales every channel by the sigmoid of a 1×1 convolution of the channels' means.
#[derive(Module, Debug)]
pub struct ChannelGate {
    /// 1×1 convolution with bias.
    pub conv: Conv,
}

impl Unit {
    fn new(spec: ConvSpec, activation: ActivationKind, affine: bool, device: &Device) -> Self {
        let affine = affine && activation != ActivationKind::Identity;
        Self {
            conv: spec.bias(false).init(device),
            bn: FrozenBatchNorm::new(spec.to, EPSILON, device),
            lab: affine.then(|| Affine {
                scale: Initializer::Ones.init([1], device),
                bias: Initializer::Zeros.init([1], device),
            }),
            activation,
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.activation.forward(self.bn.forward(self.conv.forward(x)));
        match &self.lab {
            Some(lab) => x * lab.scale.val().reshape([1, 1, 1, 1]) + lab.bias.val().reshape([1, 1, 1, 1]),
            None => x,
        }
    }
}

impl Stem {
    fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Plain(stem) => max_pool(stem.stem.iter().fold(pixels, |x, unit| unit.forward(x)), 3, 2, 1, false),
            Self::Branched(stem) => {
                // A row and a column at the bottom and on the right, so that kernels of 2×2 keep the grid.
                let pad = |x: Tensor<4>| x.pad((0, 1, 0, 1), PadMode::Constant(0.0));
                let x = pad(stem.stem1.forward(pixels));
                let branch = stem.stem2b.forward(pad(stem.stem2a.forward(x.clone())));
                let both = Tensor::cat(vec![max_pool(x, 2, 1, 0, true), branch], 1);
                stem.stem4.forward(stem.stem3.forward(both))
            }
        }
    }
}

impl Block {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mut outputs = vec![x.clone()];
        let mut x = x;
        for layer in &self.layers {
            x = match layer {
                Layer::Full(unit) => unit.forward(x),
                Layer::Light(light) => light.conv2.forward(light.conv1.forward(x)),
            };
            outputs.push(x.clone());
        }
        let (squeeze, second) = &self.aggregation;
        let x = squeeze.forward(Tensor::cat(outputs, 1));
        match second {
            Aggregation::Expand(unit) => unit.forward(x),
            Aggregation::Gate(gate) => x.clone() * ActivationKind::Sigmoid.forward(gate.conv.forward(global_mean(x))),
        }
    }
}

/// Shape of a convolution of the network, with its activation.
type Layout = (ConvSpec, ActivationKind);

impl HgNetConfig {
    /// Output channels of the stem.
    fn stem_width(&self) -> usize {
        self.stem.last().copied().unwrap_or_default()
    }

    /// The convolutions of the stem.
    fn stem_layout(&self) -> Vec<ConvSpec> {
        let (middle, width) = (self.stem.first().copied().unwrap_or_default(), self.stem_width());
        match self.version {
            HgVersion::V1 => {
                let from = std::iter::once(3).chain(self.stem.iter().copied());
                let spec = |(i, (from, to)): (usize, (usize, &usize))| {
                    ConvSpec::new(from, *to, 3).stride(if i == 0 { 2 } else { 1 })
                };
                from.zip(&self.stem).enumerate().map(spec).collect()
            }
            HgVersion::V2 => vec![
                ConvSpec::new(3, middle, 3).stride(2),
                ConvSpec::new(middle, middle / 2, 2).padding(Padding::Explicit(0)),
                ConvSpec::new(middle / 2, middle, 2).padding(Padding::Explicit(0)),
                ConvSpec::new(2 * middle, middle, 3).stride(2),
                ConvSpec::new(middle, width, 1),
            ],
        }
    }

    /// The convolutions of the layers of a block with `from` input channels, and those of its aggregation.
    fn block_layout(&self, from: usize, stage: &HgStageConfig) -> (Vec<Vec<Layout>>, Vec<Layout>) {
        let (inner, kernel) = (stage.inner, stage.kernel);
        let relu = |spec: ConvSpec| (spec.bias(false), ActivationKind::Relu);
        let layers = (0..stage.layers).map(|i| {
            let before = if i == 0 { from } else { inner };
            match stage.light {
                true => vec![
                    (ConvSpec::new(before, inner, 1).bias(false), ActivationKind::Identity),
                    relu(ConvSpec::depthwise(inner, kernel)),
                ],
                false => vec![relu(ConvSpec::new(before, inner, kernel))],
            }
        });
        let total = from + stage.layers * inner;
        let aggregation = match self.version {
            HgVersion::V1 => vec![relu(ConvSpec::new(total, stage.width, 1))],
            HgVersion::V2 => vec![
                relu(ConvSpec::new(total, stage.width / 2, 1)),
                relu(ConvSpec::new(stage.width / 2, stage.width, 1)),
            ],
        };
        (layers.collect(), aggregation)
    }

    fn block(&self, from: usize, stage: &HgStageConfig, device: &Device) -> Block {
        let unit = |(spec, activation): Layout| Unit::new(spec, activation, self.affine, device);
        let (layers, aggregation) = self.block_layout(from, stage);
        let layer = |layout: Vec<Layout>| match layout[..] {
            [first, second] => Layer::Light(LightLayer { conv1: unit(first), conv2: unit(second) }),
            _ => Layer::Full(unit(layout[0])),
        };
        let second = match aggregation.get(1) {
            Some(expand) => Aggregation::Expand(unit(*expand)),
            None => Aggregation::Gate(ChannelGate { conv: ConvSpec::new(stage.width, stage.width, 1).init(device) }),
        };
        Block { layers: layers.into_iter().map(layer).collect(), aggregation: (unit(aggregation[0]), second) }
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> HgNet {
        let mut units = self
            .stem_layout()
            .into_iter()
            .map(|spec| Unit::new(spec, ActivationKind::Relu, self.affine && self.version == HgVersion::V2, device));
        let stem = match (self.version, units.len()) {
            (HgVersion::V2, _) => {
                let mut next = || units.next();
                match (next(), next(), next(), next(), next()) {
                    (Some(stem1), Some(stem2a), Some(stem2b), Some(stem3), Some(stem4)) => {
                        Stem::Branched(BranchedStem { stem1, stem2a, stem2b, stem3, stem4 })
                    }
                    _ => Stem::Plain(PlainStem { stem: Vec::new() }),
                }
            }
            (HgVersion::V1, _) => Stem::Plain(PlainStem { stem: units.collect() }),
        };
        let mut from = self.stem_width();
        let stages = self.stages.iter().map(|stage| {
            let reduce = ConvSpec::depthwise(from, 3).stride(2);
            let downsample = stage.downsample.then(|| Unit::new(reduce, ActivationKind::Identity, false, device));
            let blocks = (0..stage.blocks).map(|i| self.block(if i == 0 { from } else { stage.width }, stage, device));
            let made = Stage { downsample, blocks: blocks.collect() };
            from = stage.width;
            made
        });
        HgNet { stem, stages: stages.collect(), config: self.clone() }
    }
}

impl StagedConfig for HgNetConfig {
    fn check(&self) -> Result<()> {
        let stages = self.stages.iter();
        let numbers = stages.flat_map(|s| [s.inner, s.width, s.blocks, s.layers, s.kernel]).chain(self.stem.clone());
        let positive = numbers.chain([self.image_size]).all(|n| (1..=MAX_SIZE).contains(&n));
        let stem = match self.version {
            HgVersion::V1 => !self.stem.is_empty(),
            HgVersion::V2 => self.stem.len() == 2 && self.stem.iter().all(|n| *n > 1),
        };
        let odd = self.stages.iter().all(|stage| stage.kernel % 2 == 1 && stage.width > 1);
        if !positive || !stem || !odd || self.stages.is_empty() {
            return Err(Error::usage(format!(
                "invalid PP-HGNet: image_size {}, stem {:?}, stages {:?}",
                self.image_size, self.stem, self.stages
            ))
            .hint("all numbers must be positive and at most 65536, kernels odd, and the stem of v2 has two numbers"));
        }
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.stages.iter().fold(0, |sum, stage| sum.saturating_add(stage.blocks.saturating_mul(stage.layers)))
    }

    fn layers(&self) -> Vec<LayerShape> {
        let half = self.image_size.div_ceil(2);
        let mut side = half.div_ceil(2);
        let mut from = self.stem_width();
        let mut multiply_adds = 0;
        for (i, spec) in self.stem_layout().into_iter().enumerate() {
            // The padded convolutions of 2×2 keep the grid.
            let at = |side: usize| spec.multiply_adds(side);
            multiply_adds += match (self.version, i) {
                (_, 0) => at(self.image_size),
                (HgVersion::V2, 1 | 2) => at(half + 1),
                (HgVersion::V2, 4) => at(side),
                _ => at(half),
            };
        }
        let mut layers = Vec::new();
        for stage in &self.stages {
            if stage.downsample {
                let reduce = ConvSpec::depthwise(from, 3).stride(2);
                multiply_adds += reduce.multiply_adds(side);
                side = reduce.out_side(side);
            }
            for i in 0..stage.blocks {
                let (convolutions, aggregation) = self.block_layout(if i == 0 { from } else { stage.width }, stage);
                let all = convolutions.into_iter().flatten().chain(aggregation);
                multiply_adds += all.map(|(spec, _)| spec.multiply_adds(side)).sum::<u64>();
                if self.version == HgVersion::V1 {
                    multiply_adds += (stage.width * stage.width) as u64;
                }
            }
            from = stage.width;
            layers.push(LayerShape { width: stage.width, side, multiply_adds: std::mem::take(&mut multiply_adds) });
        }
        layers
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        let blocks = self.stages.iter().map(|stage| stage.blocks).sum();
        Some(DropPathSpec { rate: self.drop_path, blocks, branches: 1 })
    }
}

impl HgNet {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &HgNetConfig {
        &self.config
    }
}

impl StagedNetwork for HgNet {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let mut x = self.stem.forward(pixels);
        let (mut outputs, mut run) = (Vec::with_capacity(count), 0);
        for stage in self.stages.iter().take(count) {
            if let Some(reduce) = &stage.downsample {
                x = reduce.forward(x);
            }
            for (i, block) in stage.blocks.iter().enumerate() {
                let branch = block.forward(x.clone());
                // The first block of a stage changes the number of channels and has no shortcut.
                x = if i == 0 { branch } else { drop_branch(branch, drop_path.factors(run, 0)) + x };
                run += 1;
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}

impl TimmModel for HgNetConfig {
    const CLASSES: &'static [&'static str] = &["HighPerfGpuNet"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "head_hidden_size"]);
        let affine = arguments.flag("use_lab", false)?;
        let drop_path = arguments.real("drop_path_rate")?.unwrap_or(0.0);
        let found = arguments.read("model_cfg", model_cfg)?;
        let (version, stem, stages) = found.ok_or_else(|| arguments.invalid("model_cfg is missing"))?;
        Ok(TimmNetwork::new(Self { image_size, version, stem, stages, affine, drop_path }))
    }
}

/// Reads timm's `model_cfg`; each stage is a list of input, inner and output channels, number of blocks, `downsample`,
/// `light`, side of the kernels, and number of layers per block.
fn model_cfg(value: &Value) -> Option<(HgVersion, Vec<usize>, Vec<HgStageConfig>)> {
    let version = match value.get("stem_type")?.as_str()? {
        "v1" => HgVersion::V1,
        "v2" => HgVersion::V2,
        _ => return None,
    };
    let stem: Vec<usize> = value.get("stem_chs")?.as_array()?.iter().map(integer).collect::<Option<_>>()?;
    let mut before = *stem.last()?;
    let mut stages = Vec::new();
    for key in ["stage1", "stage2", "stage3", "stage4"] {
        let [from, inner, width, blocks, downsample, light, kernel, layers] = value.get(key)?.as_array()?.as_slice()
        else {
            return None;
        };
        let stage = HgStageConfig {
            inner: integer(inner)?,
            width: integer(width)?,
            blocks: integer(blocks)?,
            layers: integer(layers)?,
            kernel: integer(kernel)?,
            downsample: downsample.as_bool()?,
            light: light.as_bool()?,
        };
        if integer(from)? != before {
            return None;
        }
        before = stage.width;
        stages.push(stage);
    }
    Some((version, stem, stages))
}
