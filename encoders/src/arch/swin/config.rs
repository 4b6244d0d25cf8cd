//! Hyper-parameters of a Swin Transformer, their validation, and what timm's arguments say about them.

use super::super::drop_path::{self, DropPathSpec};
use super::super::fields::{is_default, is_yes, yes};
use super::super::limits::{MAX_SIZE, is_ratio};
use super::super::parts::window::{LogScale, ShiftedWindow};
use super::super::staged::{LayerShape, StagedConfig};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// The version of a Swin Transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SwinVersion {
    /// Swin Transformer: norms before the branches, a table of relative position biases.
    #[default]
    V1,
    /// Swin Transformer V2: norms after the branches, cosine attention, position biases from an MLP.
    V2,
    /// timm's `swin_transformer_v2_cr`: V2 after Christoph Reich, with other coordinates for the MLP, norms between
    /// stages, and patch merging as in V1.
    V2Cr,
}

/// Hyper-parameters of a Swin Transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SwinConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels. Default 4.
    #[serde(default = "default_patch")]
    pub patch: usize,
    /// Version of the blocks. Default `v1`.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub version: SwinVersion,
    /// Channels of the first stage; every later stage has twice as many.
    pub width: usize,
    /// Number of blocks per stage.
    pub depths: Vec<usize>,
    /// Number of attention heads per stage.
    pub heads: Vec<usize>,
    /// Side of the windows per stage, in tokens; a smaller feature map is one window.
    pub windows: Vec<usize>,
    /// Side of the windows in pretraining per stage, to which the coordinates of `v2` are scaled; 0 for the windows'
    /// own side. Empty for 0 in all stages. Default empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub pretrained_windows: Vec<usize>,
    /// Hidden channels of the MLPs per channel. Default 4.
    #[serde(default = "default_ratio")]
    pub mlp_ratio: f64,
    /// Hidden channels of the MLP of the position biases in `v2` and `v2-cr`. Default 512.
    #[serde(default = "default_position_hidden")]
    pub position_hidden: usize,
    /// Whether the projection to queries, keys and values has a bias (in `v2` only for queries and values).
    /// Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub qkv_bias: bool,
    /// Whether feature maps that are not larger than a window are padded to one and shifted. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub always_partition: bool,
    /// In `v2-cr`, a norm follows every block whose number is a multiple of this; 0 for none. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub extra_norm_period: usize,
    /// Whether in `v2-cr` a norm follows every stage, and not only the last. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub extra_norm_stage: bool,
    /// Epsilon added to the variance in every norm. Default 1e-5.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_patch() -> usize {
    4
}

fn default_ratio() -> f64 {
    4.0
}

fn default_position_hidden() -> usize {
    512
}

fn default_eps() -> f64 {
    1e-5
}

/// Sizes of one stage.
#[derive(Debug, Clone, Copy)]
pub(super) struct StageSizes {
    pub width: usize,
    pub depth: usize,
    pub heads: usize,
    pub mlp_hidden: usize,
    /// Side of the feature map.
    pub side: usize,
    /// Side of the feature map from which windows and shifts follow; timm rounds it down where merging pads.
    pub nominal_side: usize,
    pub window: usize,
    pub pretrained_window: usize,
}

impl SwinConfig {
    /// The sizes of all stages.
    pub(super) fn stages(&self) -> Vec<StageSizes> {
        let mut side = self.image_size / self.patch;
        let mut nominal_side = side;
        let each = self.depths.iter().zip(&self.heads).zip(&self.windows).enumerate();
        each.map(|(i, ((depth, heads), window))| {
            if i > 0 {
                (side, nominal_side) = (side.div_ceil(2), nominal_side / 2);
            }
            let width = self.width << i;
            StageSizes {
                width,
                depth: *depth,
                heads: *heads,
                mlp_hidden: times(width, self.mlp_ratio),
                side,
                nominal_side,
                window: *window,
                pretrained_window: self.pretrained_windows.get(i).copied().unwrap_or(0),
            }
        })
        .collect()
    }

    /// The windows of a block.
    pub(super) fn windows(&self, stage: &StageSizes, block: usize) -> ShiftedWindow {
        ShiftedWindow::new(stage.nominal_side, stage.window, block % 2 == 1, self.always_partition)
    }

    /// The scale of the coordinates of position biases; `None` for a table.
    pub(super) fn log_scale(&self, stage: &StageSizes, window: ShiftedWindow) -> Option<LogScale> {
        match self.version {
            SwinVersion::V1 => None,
            SwinVersion::V2 if stage.pretrained_window > 0 => Some(LogScale::Normalised(stage.pretrained_window)),
            SwinVersion::V2 => Some(LogScale::Normalised(window.window[0])),
            SwinVersion::V2Cr => Some(LogScale::Plain),
        }
    }

    /// Whether a norm follows a block (`v2-cr`).
    pub(super) fn extra_norm(&self, stage: usize, block: usize) -> bool {
        let (depth, last) = (self.depths.get(stage).copied().unwrap_or(0), stage + 1 == self.depths.len());
        let periodic = self.extra_norm_period > 0 && (block + 1).is_multiple_of(self.extra_norm_period);
        self.version == SwinVersion::V2Cr && (periodic || (block + 1 == depth && (self.extra_norm_stage || last)))
    }
}

impl StagedConfig for SwinConfig {
    fn check(&self) -> Result<()> {
        let stages = self.depths.len();
        let same = [self.heads.len(), self.windows.len()].iter().all(|n| *n == stages)
            && (self.pretrained_windows.is_empty() || self.pretrained_windows.len() == stages);
        if !(1..=8).contains(&stages) || !same {
            return Err(Error::usage(format!(
                "a Swin Transformer with depths {:?} has heads {:?}, windows {:?} and pretrained_windows {:?}",
                self.depths, self.heads, self.windows, self.pretrained_windows
            ))
            .hint("give one number per stage, for one to eight stages"));
        }
        let sizes = [self.image_size, self.patch, self.width, self.position_hidden];
        let all = self.depths.iter().chain(&self.heads).chain(&self.windows).chain(&sizes);
        if !all.copied().all(|n| (1..=MAX_SIZE).contains(&n))
            || !self.image_size.is_multiple_of(self.patch)
            || self.image_size / self.patch < 1 << (stages - 1)
            || !is_ratio(self.mlp_ratio)
            || self.pretrained_windows.iter().any(|n| *n > MAX_SIZE)
        {
            return Err(Error::usage(format!(
                "invalid Swin Transformer: image_size {}, patch {}, width {}, depths {:?}, heads {:?}, windows {:?}, mlp_ratio {}",
                self.image_size, self.patch, self.width, self.depths, self.heads, self.windows, self.mlp_ratio
            ))
            .hint("all must be positive and at most 65536, patch must divide image_size, and every stage needs a token"));
        }
        for (i, stage) in self.stages().iter().enumerate() {
            if !stage.width.is_multiple_of(stage.heads) {
                return Err(Error::usage(format!(
                    "{} heads do not divide the {} channels of stage {i}",
                    stage.heads, stage.width
                )));
            }
            // The coordinates are divided by the window's side less one.
            let scale = self.log_scale(stage, self.windows(stage, 0));
            if scale == Some(LogScale::Normalised(1)) {
                return Err(Error::usage(format!("the windows of stage {i} have one token, which `v2` cannot scale"))
                    .hint("use larger images"));
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
        let mut before = 0;
        let stages = self.stages();
        stages
            .iter()
            .enumerate()
            .map(|(i, stage)| {
                let (width, tokens) = (stage.width as u64, (stage.side * stage.side) as u64);
                let entry = match i {
                    0 => tokens * width * (3 * self.patch * self.patch) as u64,
                    _ => tokens * 4 * before * width,
                };
                before = width;
                let blocks = (0..stage.depth).map(|block| self.block_multiply_adds(stage, block)).sum::<u64>();
                LayerShape { width: stage.width, side: stage.side, multiply_adds: entry + blocks }
            })
            .collect()
    }

    fn has_final_norm(&self) -> bool {
        self.version != SwinVersion::V2Cr
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.layer_count(), branches: 2 })
    }
}

impl SwinConfig {
    fn block_multiply_adds(&self, stage: &StageSizes, block: usize) -> u64 {
        let windows = self.windows(stage, block);
        let (width, heads, area) = (stage.width as u64, stage.heads as u64, windows.area() as u64);
        let [rows, columns] = windows.window;
        let padded = (stage.side.next_multiple_of(rows) * stage.side.next_multiple_of(columns)) as u64;
        let attention = padded * (4 * width * width + 2 * area * width);
        // The MLP of position biases runs once per block, whatever the batch; in timm's `v2-cr` on all pairs of tokens.
        let coordinates = match self.log_scale(stage, windows) {
            Some(LogScale::Normalised(_)) => ((2 * rows - 1) * (2 * columns - 1)) as u64,
            Some(LogScale::Plain) => area * area,
            None => 0,
        };
        let positions = coordinates * self.position_hidden as u64 * (2 + heads);
        attention + positions + (stage.side * stage.side) as u64 * 2 * width * stage.mlp_hidden as u64
    }
}

impl TimmModel for SwinConfig {
    const CLASSES: &'static [&'static str] = &["SwinTransformer", "SwinTransformerV2", "SwinTransformerV2Cr"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        let (version, dialect) = match arguments.class {
            "SwinTransformer" => (SwinVersion::V1, "timm-layers"),
            "SwinTransformerV2" => (SwinVersion::V2, "timm-swin-v2"),
            _ => (SwinVersion::V2Cr, "timm-swin-v2-cr"),
        };
        let depths = arguments.numbers("depths")?.unwrap_or_else(|| vec![2, 2, 6, 2]);
        let stages = depths.len();
        let heads = arguments.numbers("num_heads")?.unwrap_or_else(|| vec![3, 6, 12, 24]);
        let patch = arguments.number("patch_size", 4)?;
        let windows =
            windows(arguments, stages, (version != SwinVersion::V2Cr).then_some(7), image_size / patch.max(1))?;
        let mut config = Self {
            image_size,
            patch,
            version,
            width: arguments.number("embed_dim", 96)?,
            depths,
            heads,
            windows,
            pretrained_windows: Vec::new(),
            mlp_ratio: arguments.real("mlp_ratio")?.unwrap_or(4.0),
            position_hidden: 512,
            qkv_bias: true,
            always_partition: arguments.flag("always_partition", false)?,
            extra_norm_period: 0,
            extra_norm_stage: false,
            norm_eps: arguments.norm_eps(1e-5)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(match version {
                SwinVersion::V1 | SwinVersion::V2 => 0.1,
                SwinVersion::V2Cr => 0.0,
            }),
        };
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "strict_img_size"]);
        match version {
            SwinVersion::V1 => {
                config.qkv_bias = arguments.flag("qkv_bias", true)?;
                arguments.only(&[("head_dim", "null"), ("embed_layer", "\"PatchEmbed\"")])?;
            }
            SwinVersion::V2 => {
                config.qkv_bias = arguments.flag("qkv_bias", true)?;
                config.pretrained_windows = arguments.numbers("pretrained_window_sizes")?.unwrap_or_default();
                arguments.only(&[("act_layer", "\"gelu\"")])?;
            }
            SwinVersion::V2Cr => {
                config.position_hidden = 384;
                config.extra_norm_period = arguments.number("extra_norm_period", 0)?;
                config.extra_norm_stage = arguments.flag("extra_norm_stage", false)?;
                // `init_values` only initialises norms, and `sequential_attn` is not used by timm.
                arguments.without(&["init_values", "sequential_attn"]);
            }
        }
        Ok(TimmNetwork { config, dialect, note: None })
    }
}

/// The side of the windows per stage: one number for all, or one per stage. Without `default`, a window is the patch
/// grid divided by `window_ratio`.
fn windows(arguments: &mut TimmArguments, stages: usize, default: Option<usize>, grid: usize) -> Result<Vec<usize>> {
    let ratio = match default {
        Some(_) => 8,
        None => arguments.number("window_ratio", 8)?,
    };
    let Some(value) = arguments.take("window_size") else {
        return Ok(vec![default.unwrap_or(grid / ratio.max(1)); stages]);
    };
    let side = |value: &serde_json::Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
    let found = match value.as_array() {
        None => side(&value).map(|side| vec![side; stages]),
        // Two numbers are the rows and columns of all windows.
        Some(list) if list.len() == 2 && list.first() == list.last() => {
            list.first().and_then(side).map(|side| vec![side; stages])
        }
        Some(list) if list.len() != 2 => list.iter().map(side).collect(),
        Some(_) => None,
    };
    found.ok_or_else(|| arguments.unsupported("window_size", &value))
}
