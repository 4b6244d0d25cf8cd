//! Cross Stage Partial networks (Wang et al. 2019, arXiv:1911.11929): CSPResNe(X)t, CSPDarkNet, their variants with one
//! transition (`cs3`), and DarkNet. Parameter paths are those of timm's `CspNet`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::is_default;
use super::limits::{MAX_SIZE, check_pixels};
use super::parts::{
    ActivationKind, AntiAlias, ConvNormAct, ConvSpec, Named, NormActKind, Padding, SqueezeExcite, avg_pool,
    divisible_within, drop_branch, max_pool,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

mod timm_config;

/// How a stage uses its blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CspStageKind {
    /// Half of the channels pass by the blocks, with a transition after the blocks and one after both halves.
    Csp,
    /// As `csp`, with one transition.
    Cs3,
    /// All channels pass through the blocks.
    Dark,
}

/// The kind of residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum CspBlockKind {
    /// Convolutions of 1×1, 3×3 and 1×1, and an activation after the sum.
    Bottle,
    /// Convolutions of 1×1 and 3×3.
    Dark,
    /// Convolutions of 3×3 and 1×1.
    Edge,
}

/// A stage of a [`CspNetConfig`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CspStageConfig {
    /// How the stage uses its blocks.
    pub kind: CspStageKind,
    /// Kind of its blocks.
    pub block: CspBlockKind,
    /// Number of blocks.
    pub depth: usize,
    /// Output channels.
    pub width: usize,
    /// Stride of the stage, 1 or 2.
    pub stride: usize,
    /// Groups of the 3×3 convolutions. Default 1.
    #[serde(default = "one")]
    pub groups: usize,
    /// Output channels of the blocks divided by `width`. Default 1.
    #[serde(default = "whole")]
    pub block_ratio: f64,
    /// Inner channels of the blocks divided by their output channels. Default 1.
    #[serde(default = "whole")]
    pub bottle_ratio: f64,
    /// Channels that are split in two halves, divided by `width`. Default 1.
    #[serde(default = "whole")]
    pub expand_ratio: f64,
    /// Whether the split channels have no activation. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub linear_split: bool,
    /// Whether the convolution of stride 2 has `width` output channels, and not as many as its input. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub down_growth: bool,
    /// Whether the grid is halved by average pooling and a 1×1 convolution. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub average_down: bool,
    /// Hidden channels of squeeze-and-excitation divided by its channels. Default: none in the blocks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub squeeze: Option<f64>,
}

/// Hyper-parameters of a network of cross stages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CspNetConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Output channels of the stem's convolutions.
    pub stem: Vec<usize>,
    /// Side of the stem's kernels.
    pub stem_kernel: usize,
    /// Stride of the stem: 1, 2 or 4.
    pub stem_stride: usize,
    /// Zero padding of the stem's first convolution. Default: half of the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem_padding: Option<usize>,
    /// Whether max pooling makes the second half of a stride of 4. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub stem_pool: bool,
    /// The stages, in order of depth.
    pub stages: Vec<CspStageConfig>,
    /// Activation. Default ReLU.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub activation: ActivationKind,
    /// Low-pass filter in place of strides. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<AntiAlias>,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn one() -> usize {
    1
}

fn whole() -> f64 {
    1.0
}

/// A network of cross stages; see the module documentation.
#[derive(Module, Debug)]
pub struct CspNet {
    /// Convolutions of the stem, `conv1`, `conv2` ….
    pub stem: Named<ConvNormAct>,
    /// The stages, in order of depth.
    pub stages: Vec<CspStage>,
    #[module(skip)]
    config: CspNetConfig,
}

/// A stage.
#[derive(Module, Debug)]
pub struct CspStage {
    /// The layer that halves the grid.
    pub conv_down: Option<Down>,
    /// 1×1 convolution to the channels that are split; absent in `dark`.
    pub conv_exp: Option<ConvNormAct>,
    /// The blocks.
    pub blocks: Vec<CspBlock>,
    /// 1×1 convolution after the blocks, only in `csp`.
    pub conv_transition_b: Option<ConvNormAct>,
    /// 1×1 convolution over both halves; absent in `dark`.
    pub conv_transition: Option<ConvNormAct>,
    #[module(skip)]
    kind: CspStageKind,
}

/// The layer that halves the grid.
// A stage has one.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Down {
    /// 3×3 convolution of stride 2.
    Conv(ConvNormAct),
    /// Average pooling of 2×2 positions, unless the stride is 1, then a 1×1 convolution.
    Average((Halving, ConvNormAct)),
}

/// Average pooling of `stride` × `stride` positions.
#[derive(Module, Debug)]
pub struct Halving {
    stride: usize,
}

/// A residual block; see [`CspBlockKind`].
#[derive(Module, Debug)]
pub struct CspBlock {
    /// First convolution.
    pub conv1: ConvNormAct,
    /// Squeeze-and-excitation after the first convolution (`dark`, `edge`).
    pub attn: Option<SqueezeExcite>,
    /// Second convolution.
    pub conv2: ConvNormAct,
    /// Squeeze-and-excitation after the second convolution (`bottle`).
    pub attn2: Option<SqueezeExcite>,
    /// Third convolution, without activation (`bottle`).
    pub conv3: Option<ConvNormAct>,
    #[module(skip)]
    activation: ActivationKind,
}

impl CspBlock {
    fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let gate = |layer: &Option<SqueezeExcite>, x: Tensor<4>| layer.as_ref().map_or(x.clone(), |se| se.forward(x));
        let branch = gate(&self.attn, self.conv1.forward(x.clone()));
        let branch = gate(&self.attn2, self.conv2.forward(branch));
        match &self.conv3 {
            Some(conv) => self.activation.forward(drop_branch(conv.forward(branch), factors) + x),
            None => drop_branch(branch, factors) + x,
        }
    }
}

impl Down {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Conv(conv) => conv.forward(x),
            Self::Average((Halving { stride: 1 }, conv)) => conv.forward(x),
            Self::Average((Halving { stride }, conv)) => conv.forward(avg_pool(x, *stride, *stride, 0, true, false)),
        }
    }
}

impl CspStage {
    /// Runs the stage; `run` counts the blocks of the network.
    fn forward(&self, x: Tensor<4>, drop_path: &DropPathMask, run: &mut usize) -> Tensor<4> {
        let x = self.conv_down.as_ref().map_or(x.clone(), |down| down.forward(x));
        let mut blocks = |x: Tensor<4>| {
            self.blocks.iter().fold(x, |x, block| {
                *run += 1;
                block.forward(x, drop_path.factors(*run - 1, 0))
            })
        };
        let (Some(expand), Some(transition)) = (&self.conv_exp, &self.conv_transition) else {
            return blocks(x);
        };
        let x = expand.forward(x);
        let half = x.dims()[1] / 2;
        let (first, second) = (x.clone().narrow(1, 0, half), x.narrow(1, half, half));
        let joined = match &self.conv_transition_b {
            Some(after) => vec![first, after.forward(blocks(second))],
            None => vec![blocks(first), second],
        };
        transition.forward(Tensor::cat(joined, 1))
    }
}

/// Python's `int(round(width * ratio))`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn share(width: usize, ratio: f64) -> usize {
    (width as f64 * ratio).round_ties_even() as usize
}

impl CspStageConfig {
    /// Channels that are split in two halves.
    fn expanded(&self) -> usize {
        share(self.width, self.expand_ratio)
    }

    /// Output channels of the blocks.
    fn block_width(&self) -> usize {
        share(self.width, self.block_ratio)
    }

    /// The convolution that halves the grid, for `from` input channels.
    fn down(&self, from: usize) -> Option<ConvSpec> {
        let needed = self.kind == CspStageKind::Dark || self.stride != 1;
        let to = if self.kind == CspStageKind::Dark || self.down_growth { self.width } else { from };
        needed.then(|| match self.average_down {
            true => ConvSpec::new(from, self.width, 1).groups(self.groups),
            false => ConvSpec::new(from, to, 3).stride(self.stride).groups(self.groups),
        })
    }

    /// Input channels of the first block, and of `conv_exp`.
    fn inputs(&self, from: usize) -> (usize, usize) {
        let after = self.down(from).map_or(from, |spec| spec.to);
        (if self.kind == CspStageKind::Dark { after } else { self.expanded() / 2 }, after)
    }

    /// The convolutions of a block with `from` input channels.
    fn block_layout(&self, from: usize) -> Vec<ConvSpec> {
        let to = self.block_width();
        let inner = share(to, self.bottle_ratio);
        match self.block {
            CspBlockKind::Bottle => vec![
                ConvSpec::new(from, inner, 1),
                ConvSpec::new(inner, inner, 3).groups(self.groups),
                ConvSpec::new(inner, to, 1),
            ],
            CspBlockKind::Dark => {
                vec![ConvSpec::new(from, inner, 1), ConvSpec::new(inner, to, 3).groups(self.groups)]
            }
            CspBlockKind::Edge => {
                vec![ConvSpec::new(from, inner, 3).groups(self.groups), ConvSpec::new(inner, to, 1)]
            }
        }
    }

    /// The 1×1 convolutions of a stage that splits its channels: expansion, after the blocks, and over both halves.
    fn cross_layout(&self, from: usize) -> (Option<ConvSpec>, Option<ConvSpec>, Option<ConvSpec>) {
        let (_, after) = self.inputs(from);
        let expanded = self.expanded();
        let cross = self.kind != CspStageKind::Dark;
        (
            cross.then(|| ConvSpec::new(after, expanded, 1)),
            (self.kind == CspStageKind::Csp).then(|| ConvSpec::new(self.block_width(), expanded / 2, 1)),
            cross.then(|| ConvSpec::new(expanded, self.width, 1)),
        )
    }

    /// Hidden channels of squeeze-and-excitation for `channels`.
    fn hidden(channels: usize, ratio: f64) -> usize {
        divisible_within(channels as f64 * ratio, 8, 0.0)
    }
}

impl CspNetConfig {
    /// The convolutions of the stem, and whether max pooling follows.
    fn stem_layout(&self) -> Vec<ConvSpec> {
        let mut from = 3;
        let last = self.stem.len().saturating_sub(1);
        let spec = |(i, to): (usize, &usize)| {
            let strided = (i == 0 && self.stem_stride > 1) || (i == last && self.stem_stride > 2 && !self.stem_pool);
            let spec = ConvSpec::new(std::mem::replace(&mut from, *to), *to, self.stem_kernel);
            let padding = self.stem_padding.filter(|_| i == 0).map_or(Padding::Symmetric, Padding::Explicit);
            spec.stride(if strided { 2 } else { 1 }).padding(padding)
        };
        self.stem.iter().enumerate().map(spec).collect()
    }

    fn conv(&self, spec: ConvSpec, activation: ActivationKind, device: &Device) -> ConvNormAct {
        ConvNormAct::new(spec, NormActKind::default(), activation, self.filter, device)
    }

    fn block(&self, stage: &CspStageConfig, from: usize, device: &Device) -> CspBlock {
        let layout = stage.block_layout(from);
        let gate = |channels: usize, here: bool| {
            stage.squeeze.filter(|_| here).map(|ratio| {
                let hidden = CspStageConfig::hidden(channels, ratio);
                SqueezeExcite::new(channels, hidden, self.activation, ActivationKind::Sigmoid, device)
            })
        };
        let bottle = stage.block == CspBlockKind::Bottle;
        CspBlock {
            conv1: self.conv(layout[0], self.activation, device),
            attn: gate(layout[0].to, !bottle),
            conv2: self.conv(layout[1], self.activation, device),
            attn2: gate(layout[1].to, bottle),
            conv3: layout.get(2).map(|spec| self.conv(*spec, ActivationKind::Identity, device)),
            activation: self.activation,
        }
    }

    fn stage(&self, stage: &CspStageConfig, from: usize, device: &Device) -> CspStage {
        let conv = |spec: ConvSpec| self.conv(spec, self.activation, device);
        let down = stage.down(from).map(|spec| match stage.average_down {
            true => Down::Average((Halving { stride: stage.stride }, conv(spec))),
            false => Down::Conv(conv(spec)),
        });
        let (mut before, _) = stage.inputs(from);
        let blocks = (0..stage.depth)
            .map(|_| self.block(stage, std::mem::replace(&mut before, stage.block_width()), device))
            .collect();
        let (expand, after, transition) = stage.cross_layout(from);
        let split = if stage.linear_split { ActivationKind::Identity } else { self.activation };
        CspStage {
            conv_down: down,
            conv_exp: expand.map(|spec| self.conv(spec, split, device)),
            blocks,
            conv_transition_b: after.map(conv),
            conv_transition: transition.map(conv),
            kind: stage.kind,
        }
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> CspNet {
        let stem = self.stem_layout().into_iter().map(|spec| {
            // The stem has strides and no filter.
            ConvNormAct::new(spec, NormActKind::default(), self.activation, None, device)
        });
        let stem = Named::counted("conv", stem);
        let mut from = self.stem.last().copied().unwrap_or_default();
        let stages = self.stages.iter().map(|stage| {
            let made = self.stage(stage, from, device);
            from = stage.width;
            made
        });
        CspNet { stem, stages: stages.collect(), config: self.clone() }
    }
}

impl StagedConfig for CspNetConfig {
    fn check(&self) -> Result<()> {
        let stages = self.stages.iter();
        let numbers = stages.flat_map(|s| [s.depth, s.width, s.groups, s.expanded() / 2, s.block_width()]);
        let numbers = numbers.chain(self.stem.clone()).chain([self.image_size, self.stem_kernel]);
        let positive = numbers.into_iter().all(|n| (1..=MAX_SIZE).contains(&n));
        let strides = [1, 2, 4].contains(&self.stem_stride) && self.stages.iter().all(|s| [1, 2].contains(&s.stride));
        let pool = !self.stem_pool || self.stem_stride == 4;
        let mut from = self.stem.last().copied().unwrap_or_default();
        let fits = self.stages.iter().all(|stage| {
            let (input, _) = stage.inputs(std::mem::replace(&mut from, stage.width));
            // The sum of a block needs as many channels as its input.
            input == stage.block_width() && share(stage.block_width(), stage.bottle_ratio) > 0
        });
        if !positive || !strides || !pool || !fits || self.stem.is_empty() || self.stages.is_empty() {
            return Err(Error::usage(format!(
                "invalid cross stages: image_size {}, stem {:?} of stride {}, stages {:?}",
                self.image_size, self.stem, self.stem_stride, self.stages
            ))
            .hint(
                "all sizes must be positive and at most 65536, strides 1 or 2 (the stem's also 4), and the channels that \
                 enter the blocks as many as those that leave them",
            ));
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
        let mut side = self.image_size;
        let mut carried = 0;
        for spec in self.stem_layout() {
            carried += spec.multiply_adds(side);
            side = spec.out_side(side);
        }
        if self.stem_pool {
            carried += self.filter.map_or(0, |f| f.multiply_adds(self.stem.last().copied().unwrap_or_default(), side));
            side = side.div_ceil(2);
        }
        let mut from = self.stem.last().copied().unwrap_or_default();
        let mut layers = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            if let Some(spec) = stage.down(from) {
                let filter = self.filter.filter(|_| spec.stride > 1);
                let full = if filter.is_some() { spec.stride(1) } else { spec };
                if stage.average_down {
                    side /= stage.stride;
                }
                carried += full.multiply_adds(side) + filter.map_or(0, |f| f.multiply_adds(spec.to, side));
                side = spec.out_side(side);
            }
            let (mut before, _) = stage.inputs(from);
            for _ in 0..stage.depth {
                let layout = stage.block_layout(std::mem::replace(&mut before, stage.block_width()));
                carried += layout.iter().map(|spec| spec.multiply_adds(side)).sum::<u64>();
                let gated = if stage.block == CspBlockKind::Bottle { layout[1].to } else { layout[0].to };
                let gate = |ratio: f64| 2 * (gated * CspStageConfig::hidden(gated, ratio)) as u64;
                carried += stage.squeeze.map_or(0, gate);
            }
            let (expand, after, transition) = stage.cross_layout(from);
            let cross = [expand, after, transition].into_iter().flatten();
            carried += cross.map(|spec| spec.multiply_adds(side)).sum::<u64>();
            layers.push(LayerShape { width: stage.width, side, multiply_adds: std::mem::take(&mut carried) });
            from = stage.width;
        }
        layers
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.layer_count(), branches: 1 })
    }
}

impl CspNet {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &CspNetConfig {
        &self.config
    }
}

impl StagedNetwork for CspNet {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let mut x = self.stem.iter().fold(pixels, |x, conv| conv.forward(x));
        if self.config.stem_pool {
            x = match self.config.filter {
                Some(filter) => filter.forward(max_pool(x, 3, 1, 1, false)),
                None => max_pool(x, 3, 2, 1, false),
            };
        }
        let (mut outputs, mut run) = (Vec::with_capacity(count), 0);
        for stage in self.stages.iter().take(count) {
            x = stage.forward(x, drop_path, &mut run);
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}

impl TimmModel for CspNetConfig {
    const CLASSES: &'static [&'static str] = &["CspNet"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3"), ("output_stride", "32")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "zero_init_last"]);
        let drop_path = arguments.real("drop_path_rate")?.unwrap_or(0.0);
        let found = arguments.read("model_cfg", timm_config::read)?;
        let config = found.ok_or_else(|| arguments.invalid("model_cfg is missing"))?;
        Ok(TimmNetwork::new(Self { image_size, drop_path, ..config }))
    }
}
