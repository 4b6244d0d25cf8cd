//! Hyper-parameters of CoAtNet, MaxViT and their variants, and their validation.

use super::super::drop_path::{self, DropPathSpec};
use super::super::fields::{is_default, is_yes, yes};
use super::super::limits::{MAX_SIZE, is_ratio};
use super::super::parts::{ActivationKind, MapNormKind, divisible};
use super::super::staged::{LayerShape, StagedConfig};
use super::costs;
use crate::operands::Activation;
use crate::timm::times;
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// The kind of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MaxxVitBlockKind {
    /// A convolutional block.
    Conv,
    /// A transformer block with attention over the whole feature map (CoAtNet).
    Transformer,
    /// A convolutional block, attention within windows, and attention within dilated grids (MaxViT).
    MultiAxis,
}

/// The kind of a convolutional block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MaxxVitConvKind {
    /// An inverted bottleneck with squeeze-and-excitation.
    #[default]
    Mbconv,
    /// A ConvNeXt block.
    Convnext,
}

/// The layer that halves the feature map in a convolutional block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MaxxVitStride {
    /// Pooling before the block's convolutions.
    Pool,
    /// The first 1×1 convolution.
    Pointwise,
    /// The depthwise convolution.
    #[default]
    Depthwise,
}

/// The pooling that halves a feature map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MaxxVitPool {
    /// The mean of 2×2 positions.
    #[default]
    Avg2,
    /// The mean of 3×3 positions, without those outside of the map.
    Avg,
    /// The maximum of 2×2 positions.
    Max2,
    /// The maximum of 3×3 positions.
    Max,
}

/// How positions enter attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MaxxVitPositions {
    /// A table of relative position biases.
    #[default]
    Table,
    /// A table per head, with the offsets of the key from the query, as in the TensorFlow weights.
    HeadTable,
    /// An MLP from the logarithms of offsets to biases.
    Mlp,
    /// No position biases.
    None,
}

/// Options of the stem and of the convolutional blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MaxxVitConvConfig {
    /// Kind of the blocks. Default `mbconv`.
    #[serde(default)]
    pub kind: MaxxVitConvKind,
    /// Hidden channels per channel. Default 4.
    #[serde(default = "four")]
    pub expand_ratio: f64,
    /// Whether the hidden channels follow from the output channels, not from the input channels. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub expand_output: bool,
    /// Side of the kernels of an inverted bottleneck, odd. Default 3.
    #[serde(default = "three")]
    pub kernel: usize,
    /// Channels per group of these kernels; 0 for one group. Default 1, depthwise.
    #[serde(default = "one")]
    pub group_size: usize,
    /// Whether an activation follows the first norm of an inverted bottleneck. Default false.
    #[serde(default)]
    pub pre_norm_act: bool,
    /// Whether shortcuts and output projections have a bias. Default true.
    #[serde(default = "yes")]
    pub output_bias: bool,
    /// The layer that halves the feature map. Default `depthwise`.
    #[serde(default)]
    pub stride: MaxxVitStride,
    /// Pooling of the shortcut. Default `avg2`.
    #[serde(default)]
    pub pool: MaxxVitPool,
    /// Pooling before the convolutions, if the stride is `pool`. Default `avg2`.
    #[serde(default)]
    pub downsample_pool: MaxxVitPool,
    /// Whether padding is TensorFlow's `SAME`. Default false.
    #[serde(default)]
    pub same_padding: bool,
    /// Whether squeeze-and-excitation precedes the norm of the depthwise convolution. Default false.
    #[serde(default)]
    pub early_attention: bool,
    /// Channels of squeeze-and-excitation per output channel (or hidden channel, without `expand_output`).
    /// Default 0.25.
    #[serde(default = "quarter")]
    pub attention_ratio: f64,
    /// Activation of squeeze-and-excitation. Default SiLU.
    #[serde(default = "silu")]
    pub attention_activation: ActivationKind,
    /// Layer scale of a ConvNeXt block; 0 for none. Default 0.
    #[serde(default)]
    pub layer_scale: f64,
    /// Activation. Default GELU.
    #[serde(default = "gelu")]
    pub activation: ActivationKind,
    /// Kind of the norms. Default `batch`.
    #[serde(default = "batch")]
    pub norm: MapNormKind,
    /// Epsilon added to the variance. Default 1e-5.
    #[serde(default = "conv_eps")]
    pub norm_eps: f64,
}

/// Options of attention and its MLPs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MaxxVitAttentionConfig {
    /// Channels of a head. Default 32.
    #[serde(default = "thirty_two")]
    pub head_dim: usize,
    /// Whether queries, keys and values of a head follow each other in the projection, and not those of all heads;
    /// always so in transformer blocks. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub head_first: bool,
    /// Hidden channels of the MLPs per channel. Default 4.
    #[serde(default = "four")]
    pub expand_ratio: f64,
    /// Whether the attention of a transformer block has its output channels, and not its input channels. Default true.
    #[serde(default = "yes")]
    pub expand_first: bool,
    /// Whether the shortcut of a transformer block has a bias. Default true.
    #[serde(default = "yes")]
    pub shortcut_bias: bool,
    /// Whether the projections of attention have a bias. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub bias: bool,
    /// Pooling of a transformer block that halves the feature map. Default `avg2`.
    #[serde(default)]
    pub pool: MaxxVitPool,
    /// How positions enter attention. Default `table`.
    #[serde(default)]
    pub positions: MaxxVitPositions,
    /// Hidden channels of the MLP of `positions = "mlp"`. Default 512.
    #[serde(default = "five_hundred_twelve")]
    pub position_hidden: usize,
    /// Side of a window, in tokens.
    pub window: usize,
    /// Side of a grid, in tokens.
    pub grid: usize,
    /// Whether there is attention within windows, and not only within grids. Default true.
    #[serde(default = "yes")]
    pub window_attention: bool,
    /// Layer scale of both branches; 0 for none. Default 0.
    #[serde(default)]
    pub layer_scale: f64,
    /// Activation of the MLPs. Default exact GELU.
    #[serde(default)]
    pub activation: Activation,
    /// Kind of the norms of transformer blocks and of the final norm. Default `layer`.
    #[serde(default)]
    pub norm: MapNormKind,
    /// Epsilon added to the variance. Default 1e-6.
    #[serde(default = "attention_eps")]
    pub norm_eps: f64,
}

/// Hyper-parameters of a CoAtNet, a MaxViT, or one of their variants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MaxxVitConfig {
    /// Side of the square input images, in pixels; a multiple of 2 to the power of the number of stages plus one.
    pub image_size: usize,
    /// Channels per stage.
    pub widths: Vec<usize>,
    /// Kinds of the blocks, per stage.
    pub blocks: Vec<Vec<MaxxVitBlockKind>>,
    /// Channels of both convolutions of the stem.
    pub stem_widths: [usize; 2],
    /// Whether the convolutions of the stem have a bias. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub stem_bias: bool,
    /// Options of the stem and of the convolutional blocks.
    pub conv: MaxxVitConvConfig,
    /// Options of attention.
    pub attention: MaxxVitAttentionConfig,
    /// Whether there is a norm over the channels at every position of the last feature map. Default true.
    #[serde(default = "yes")]
    pub final_norm: bool,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn one() -> usize {
    1
}

fn three() -> usize {
    3
}

fn thirty_two() -> usize {
    32
}

fn five_hundred_twelve() -> usize {
    512
}

fn four() -> f64 {
    4.0
}

fn quarter() -> f64 {
    0.25
}

fn conv_eps() -> f64 {
    1e-5
}

fn attention_eps() -> f64 {
    1e-6
}

fn silu() -> ActivationKind {
    ActivationKind::Silu
}

fn gelu() -> ActivationKind {
    ActivationKind::Gelu
}

fn batch() -> MapNormKind {
    MapNormKind::Batch
}

/// Sizes of one block.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockSizes {
    pub kind: MaxxVitBlockKind,
    pub input: usize,
    pub output: usize,
    /// Whether the block halves the feature map.
    pub halves: bool,
    /// Side of the block's output.
    pub side: usize,
}

impl MaxxVitConfig {
    /// The sizes of all blocks, per stage.
    pub(super) fn sizes(&self) -> Vec<Vec<BlockSizes>> {
        let (mut input, mut side) = (self.stem_widths[1], self.image_size / 2);
        let each = self.widths.iter().zip(&self.blocks);
        each.map(|(output, kinds)| {
            side /= 2;
            let block = |(i, kind): (usize, &MaxxVitBlockKind)| {
                let sizes = BlockSizes { kind: *kind, input, output: *output, halves: i == 0, side };
                input = *output;
                sizes
            };
            kinds.iter().enumerate().map(block).collect()
        })
        .collect()
    }

    /// Channels between the convolutions of a convolutional block.
    pub(super) fn hidden(&self, sizes: &BlockSizes) -> usize {
        let from = if self.conv.expand_output { sizes.output } else { sizes.input };
        match self.conv.kind {
            MaxxVitConvKind::Mbconv => divisible(from as f64 * self.conv.expand_ratio, 8),
            MaxxVitConvKind::Convnext => times(sizes.output, self.conv.expand_ratio),
        }
    }

    /// Channels of squeeze-and-excitation in a block.
    pub(super) fn squeezed(&self, sizes: &BlockSizes) -> usize {
        let from = if self.conv.expand_output { sizes.output } else { self.hidden(sizes) };
        times(from, self.conv.attention_ratio)
    }

    /// Channels of the attention of a transformer block.
    pub(super) fn attention_width(&self, sizes: &BlockSizes) -> usize {
        if self.attention.expand_first { sizes.output } else { sizes.input }
    }

    /// Hidden channels of the MLP after attention.
    pub(super) fn mlp_hidden(&self, width: usize) -> usize {
        times(width, self.attention.expand_ratio)
    }
}

impl StagedConfig for MaxxVitConfig {
    fn check(&self) -> Result<()> {
        let (conv, attention) = (&self.conv, &self.attention);
        let numbers = [self.image_size, conv.kernel, attention.head_dim, attention.position_hidden];
        let all = self.widths.iter().chain(&self.stem_widths).chain(&numbers);
        let blocks: Vec<MaxxVitBlockKind> = self.blocks.iter().flatten().copied().collect();
        if !all.copied().all(|n| (1..=MAX_SIZE).contains(&n))
            || [attention.window, attention.grid].iter().any(|n| *n > MAX_SIZE)
            || !(1..=8).contains(&self.widths.len())
            || self.blocks.len() != self.widths.len()
            || self.blocks.iter().any(Vec::is_empty)
            || !self.image_size.is_multiple_of(2 << self.widths.len())
            || [conv.expand_ratio, conv.attention_ratio, attention.expand_ratio].iter().any(|ratio| !is_ratio(*ratio))
        {
            return Err(Error::usage(format!(
                "invalid MaxViT: image_size {}, widths {:?}, stem_widths {:?}, {} stages of blocks, kernel {}, head_dim {}, window {}, grid {}",
                self.image_size, self.widths, self.stem_widths, self.blocks.len(), conv.kernel, attention.head_dim,
                attention.window, attention.grid
            ))
            .hint("all must be positive and at most 65536, there must be one list of blocks per width, and image_size must be a multiple of 2 to the power of the stages plus one"));
        }
        if conv.kernel.is_multiple_of(2) {
            return Err(Error::usage(format!("kernel = {} must be odd", conv.kernel)));
        }
        if conv.kind == MaxxVitConvKind::Convnext && conv.stride == MaxxVitStride::Pointwise {
            return Err(Error::usage("a ConvNeXt block has no first 1×1 convolution")
                .hint("set stride = \"depthwise\" or \"pool\""));
        }
        if attention.activation == Activation::Swiglu {
            return Err(Error::usage("activation = \"swiglu\" is not supported in a MaxViT"));
        }
        for sizes in self.sizes().iter().flatten() {
            let (group, convnext) = (conv.group_size, conv.kind == MaxxVitConvKind::Convnext);
            if convnext && sizes.kind != MaxxVitBlockKind::Transformer && !sizes.output.is_multiple_of(sizes.input) {
                return Err(Error::usage(format!(
                    "a ConvNeXt block cannot map {} channels to {}, which is no multiple",
                    sizes.input, sizes.output
                )));
            }
            if group > 0 && !convnext && !self.hidden(sizes).is_multiple_of(group) {
                return Err(Error::usage(format!(
                    "group_size = {group} does not divide {} hidden channels",
                    self.hidden(sizes)
                )));
            }
            let width = match sizes.kind {
                MaxxVitBlockKind::Conv => continue,
                MaxxVitBlockKind::Transformer => self.attention_width(sizes),
                MaxxVitBlockKind::MultiAxis => sizes.output,
            };
            if !width.is_multiple_of(attention.head_dim) {
                return Err(Error::usage(format!(
                    "head_dim = {} does not divide {width} channels",
                    attention.head_dim
                )));
            }
        }
        if blocks.contains(&MaxxVitBlockKind::MultiAxis) {
            let sides = self.sizes().into_iter().flatten().map(|sizes| sizes.side);
            for side in sides {
                let (window, grid) = (attention.window, attention.grid);
                if window == 0 || grid == 0 || !side.is_multiple_of(window) || !side.is_multiple_of(grid) {
                    return Err(Error::usage(format!(
                        "window = {window} and grid = {grid} do not divide the side of a feature map, {side}"
                    ))
                    .hint("choose an image size whose last feature map is a multiple of both"));
                }
            }
        }
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.blocks.iter().fold(0, |sum, stage| sum.saturating_add(stage.len()))
    }

    fn layers(&self) -> Vec<LayerShape> {
        let stages = self.sizes();
        let mut stem = costs::stem(self);
        stages
            .iter()
            .map(|stage| {
                let blocks: u64 = stage.iter().map(|sizes| costs::block(self, sizes)).sum();
                let last = stage.last();
                LayerShape {
                    width: last.map_or(0, |sizes| sizes.output),
                    side: last.map_or(0, |sizes| sizes.side),
                    multiply_adds: std::mem::take(&mut stem) + blocks,
                }
            })
            .collect()
    }

    fn has_final_norm(&self) -> bool {
        self.final_norm
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        // A multi-axis block has one branch of convolutions and two each of both attentions.
        Some(DropPathSpec { rate: self.drop_path, blocks: self.layer_count(), branches: 5 })
    }
}
