//! Hyper-parameters of a Hiera, their validation, and what timm's arguments say about them.

use super::super::drop_path::{self, DropPathSpec};
use super::super::fields::{is_default, yes};
use super::super::limits::{MAX_SIZE, is_ratio};
use super::super::parts::ConvSpec;
use super::super::parts::Padding;
use super::super::staged::{LayerShape, StagedConfig};
use crate::json_values::side;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The position embeddings of a Hiera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum HieraPositions {
    /// One embedding per token.
    #[default]
    Absolute,
    /// An embedding per token of a window, repeated, plus a small map that is resampled with antialiasing (Bolya et al.
    /// 2023, arXiv:2311.05613).
    Windows,
    /// As `windows`, resampled without antialiasing, as in SAM 2.
    PlainWindows,
}

/// Hyper-parameters of a Hiera.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HieraConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Side of the patch embedding's kernel, in pixels; padded by half of it. Default 7.
    #[serde(default = "default_kernel")]
    pub patch_kernel: usize,
    /// Stride of the patch embedding, in pixels. Default 4.
    #[serde(default = "default_stride")]
    pub patch_stride: usize,
    /// Channels of the first stage; every later stage has twice as many.
    pub width: usize,
    /// Attention heads of the first stage; every later stage has twice as many.
    pub heads: usize,
    /// Number of blocks per stage.
    pub depths: Vec<usize>,
    /// Side of the attention windows per stage, in tokens. The first block of a stage pools its queries, and its keys
    /// are those of the windows of the stage before.
    pub windows: Vec<usize>,
    /// Indices of the blocks with global attention.
    pub global_blocks: Vec<usize>,
    /// Position embeddings. Default `absolute`.
    #[serde(default)]
    pub positions: HieraPositions,
    /// Side of the small map of `windows` positions. Default 7.
    #[serde(default = "default_position_grid", skip_serializing_if = "is_default_position_grid")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub position_grid: usize,
    /// Whether a projection doubles the channels of the shortcut between stages, and not the concatenation of maximum
    /// and mean. Default true.
    #[serde(default = "yes")]
    pub expand_projection: bool,
    /// Hidden channels of the MLPs per channel. Default 4.
    #[serde(default = "default_ratio")]
    pub mlp_ratio: f64,
    /// Initial value of the layer scale; 0 for none. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub layer_scale: f64,
    /// Epsilon added to the variance in every norm. Default 1e-6.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_kernel() -> usize {
    7
}

fn default_stride() -> usize {
    4
}

fn default_position_grid() -> usize {
    7
}

// serde's `skip_serializing_if` passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_default_position_grid(side: &usize) -> bool {
    *side == default_position_grid()
}

fn default_ratio() -> f64 {
    4.0
}

fn default_eps() -> f64 {
    1e-6
}

/// Sizes of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockSizes {
    pub input: usize,
    pub output: usize,
    pub heads: usize,
    /// Side of the block's input; its output has half of it if the block pools.
    pub side: usize,
    pub pools: bool,
    /// Side of the attention windows on the block's input; `None` for global attention.
    pub window: Option<usize>,
}

impl HieraConfig {
    /// The convolution from pixels to tokens.
    pub(super) fn embed(&self) -> ConvSpec {
        let conv = ConvSpec::new(3, self.width, self.patch_kernel).stride(self.patch_stride);
        conv.padding(Padding::Explicit(self.patch_kernel / 2))
    }

    /// Side of the grid of patches.
    pub(super) fn side(&self) -> usize {
        self.image_size / self.patch_stride
    }

    /// The sizes of all blocks, per stage.
    pub(super) fn sizes(&self) -> Vec<Vec<BlockSizes>> {
        let (mut input, mut side, mut index) = (self.width, self.side(), 0);
        let mut before = self.windows.first().copied().unwrap_or(0);
        let each = self.depths.iter().zip(&self.windows).enumerate();
        each.map(|(stage, (depth, window))| {
            let blocks = (0..*depth).map(|i| {
                let pools = stage > 0 && i == 0;
                let output = self.width << stage;
                let reach = if pools { before } else { *window };
                let sizes = BlockSizes {
                    input,
                    output,
                    heads: self.heads << stage,
                    side,
                    pools,
                    window: (!self.global_blocks.contains(&index)).then_some(reach),
                };
                if pools {
                    side /= 2;
                }
                index += 1;
                input = output;
                sizes
            });
            let blocks = blocks.collect();
            before = *window;
            blocks
        })
        .collect()
    }

    /// Hidden channels of the MLP of a block.
    pub(super) fn mlp_hidden(&self, sizes: &BlockSizes) -> usize {
        times(sizes.output, self.mlp_ratio)
    }

    fn block_multiply_adds(&self, sizes: &BlockSizes) -> u64 {
        let (input, output, side) = (sizes.input as u64, sizes.output as u64, sizes.side);
        let tokens = (side * side) as u64;
        let window = sizes.window.unwrap_or(side);
        let padded = (side.next_multiple_of(window) as u64).pow(2);
        let pooled = |tokens: u64| if sizes.pools { tokens / 4 } else { tokens };
        let attention =
            padded * 3 * input * output + pooled(padded) * (output * output + 2 * (window * window) as u64 * output);
        let shortcut = if input != output && self.expand_projection { tokens * input * output } else { 0 };
        attention + shortcut + pooled(tokens) * 2 * output * self.mlp_hidden(sizes) as u64
    }
}

impl StagedConfig for HieraConfig {
    fn check(&self) -> Result<()> {
        let stages = self.depths.len();
        let sizes = [self.image_size, self.patch_kernel, self.patch_stride, self.width, self.heads, self.position_grid];
        let all = self.depths.iter().chain(&self.windows).chain(&sizes);
        if !all.copied().all(|n| (1..=MAX_SIZE).contains(&n))
            || !(1..=6).contains(&stages)
            || self.windows.len() != stages
            || !self.width.is_multiple_of(self.heads)
            || !is_ratio(self.mlp_ratio)
            || self.global_blocks.iter().any(|block| *block >= self.layer_count())
        {
            return Err(Error::usage(format!(
                "invalid Hiera: image_size {}, patch_stride {}, width {}, heads {}, depths {:?}, windows {:?}, global_blocks {:?}, mlp_ratio {}",
                self.image_size, self.patch_stride, self.width, self.heads, self.depths, self.windows,
                self.global_blocks, self.mlp_ratio
            ))
            .hint("all must be positive and at most 65536, heads must divide width, depths and windows have one number per stage, global_blocks are below the number of blocks"));
        }
        // The output of a 7×7 kernel with half of it as padding has this side only for multiples of the stride.
        let unit = self.patch_stride << (stages - 1);
        if !self.image_size.is_multiple_of(unit) || self.embed().out_side(self.image_size) != self.side() {
            return Err(Error::usage(format!("image_size = {} must be a multiple of {unit}", self.image_size))
                .hint("choose another image size"));
        }
        if self.positions != HieraPositions::Absolute && !self.side().is_multiple_of(self.windows[0]) {
            return Err(Error::usage(format!(
                "the positions of windows of {} tokens do not fit {} patches per side",
                self.windows[0],
                self.side()
            ))
            .hint(format!("choose an image size that is a multiple of {}", self.patch_stride * self.windows[0])));
        }
        for sizes in self.sizes().iter().flatten() {
            if sizes.pools && sizes.window.is_some_and(|window| window % 2 == 1) {
                return Err(Error::usage(format!(
                    "windows = {:?} must be even before a stage that pools",
                    self.windows
                ))
                .hint("only the last stage may have an odd window"));
            }
        }
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depths.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    fn layers(&self) -> Vec<LayerShape> {
        let mut embed = self.embed().multiply_adds(self.image_size);
        let stages = self.sizes();
        stages
            .iter()
            .map(|stage| {
                let blocks: u64 = stage.iter().map(|sizes| self.block_multiply_adds(sizes)).sum();
                let last = stage.last();
                LayerShape {
                    width: last.map_or(0, |sizes| sizes.output),
                    side: last.map_or(0, |sizes| if sizes.pools { sizes.side / 2 } else { sizes.side }),
                    multiply_adds: std::mem::take(&mut embed) + blocks,
                }
            })
            .collect()
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.layer_count(), branches: 2 })
    }
}

/// Reads a list of Booleans.
fn flags(value: &Value) -> Option<Vec<bool>> {
    value.as_array()?.iter().map(Value::as_bool).collect()
}

impl TimmModel for HieraConfig {
    const CLASSES: &'static [&'static str] = &["Hiera", "HieraDet"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        let det = arguments.class == "HieraDet";
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let depths = arguments.numbers("stages")?.unwrap_or_else(|| vec![2, 3, 16, 3]);
        let stages = depths.len();
        arguments.only(&[
            ("q_stride", "[2, 2]"),
            ("dim_mul", "2.0"),
            ("head_mul", "2.0"),
            ("act_layer", "\"GELU\""),
        ])?;
        if arguments.number("q_pool", 3)? + 1 != stages {
            return Err(arguments.invalid("not every stage but the first pools its queries"));
        }
        let ends = depths.iter().scan(0, |sum, depth| {
            *sum += depth;
            Some(*sum)
        });
        let ends: Vec<usize> = ends.collect();
        let (windows, global_blocks) = if det {
            arguments.only(&[("patch_size", "null")])?;
            let global = arguments.is_none("global_att_blocks");
            let blocks = arguments.numbers("global_att_blocks")?;
            let blocks = blocks.unwrap_or_else(|| if global { Vec::new() } else { vec![12, 16, 20] });
            let windows = arguments.numbers("window_spec")?.unwrap_or_else(|| vec![8, 4, 14, 7]);
            (windows, blocks)
        } else {
            arguments.only(&[("sep_pos_embed", "false")])?;
            let unit = arguments.side("mask_unit_size")?.unwrap_or(8);
            if unit != 1 << (stages - 1).min(16) {
                return Err(arguments.invalid("mask_unit_size is not the product of the strides of the stages"));
            }
            let windowed = arguments.read("mask_unit_attn", flags)?.unwrap_or_else(|| vec![true, true, false, false]);
            // The first block of a stage attends as those of the stage before.
            let stage = |block: usize| ends.iter().filter(|end| **end < block).count();
            let global = |block: &usize| !windowed.get(stage(*block)).copied().unwrap_or(true);
            let blocks = (0..ends.last().copied().unwrap_or(0)).filter(global).collect();
            ((0..stages).map(|i| (unit >> i).max(1)).collect(), blocks)
        };
        let positions = match (det, arguments.flag("abs_win_pos_embed", false)?) {
            (true, _) => HieraPositions::PlainWindows,
            (false, true) => HieraPositions::Windows,
            (false, false) => HieraPositions::Absolute,
        };
        let position_grid = arguments.side("global_pos_size")?.unwrap_or(if det { 7 } else { 14 });
        let patch_kernel = arguments.side("patch_kernel")?.unwrap_or(7);
        if arguments.side("patch_padding")?.unwrap_or(3) != patch_kernel / 2 {
            return Err(arguments.invalid("patch_padding is not half of patch_kernel"));
        }
        let config = Self {
            image_size,
            patch_kernel,
            patch_stride: arguments.read("patch_stride", side)?.unwrap_or(4),
            width: arguments.number("embed_dim", 96)?,
            heads: arguments.number("num_heads", 1)?,
            depths,
            windows,
            global_blocks,
            positions,
            position_grid: if positions == HieraPositions::Absolute { default_position_grid() } else { position_grid },
            expand_projection: arguments.flag("use_expand_proj", true)?,
            mlp_ratio: arguments.real("mlp_ratio")?.unwrap_or(4.0),
            layer_scale: arguments.real("init_values")?.unwrap_or(0.0),
            norm_eps: arguments.norm_eps(1e-6)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        };
        Ok(TimmNetwork::new(config))
    }
}
