//! Hyper-parameters of variable-resolution vision transformers, their validation, and the construction of the network.

use super::super::block::Mlp;
use super::super::channel_norm::NormKind;
use super::super::drop_path::DropPathSpec;
use super::super::fields::yes;
use super::super::limits::{MAX_SIZE, check_patches};
use super::super::network::{NetworkConfig, TapSupport};
use super::super::tap::Tap;
use super::layout::{NativeRotary, TokenLayout};
use super::{NativeAttention, NativeBlock, NativePatchEmbed, NativeVit, PatchMerger, PatchProjection, VideoProjection};
use crate::features::Kernel;
use crate::operands::Activation;
use crate::timm::TimmModel;
use burgess_base::{Error, Result};
use burn::module::Initializer;
use burn::nn::LinearConfig;
use burn::nn::conv::Conv2dConfig;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a vision transformer for images of any size: SigLIP 2 NaFlex, the towers of Qwen2.5-VL and
/// Qwen3-VL, MoonViT, and V-JEPA 2 for single images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NativeVitConfig {
    /// Side of the square images that stand for the typical size, in pixels: it gives the grid and the cost on the
    /// card.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch: usize,
    /// Channels of a token, the embedding dimension.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads per block; must divide `width`.
    pub heads: usize,
    /// Hidden channels of the MLP.
    pub mlp_hidden: usize,
    /// How the weight of the patch embedding is stored. Default: as a convolution over one image.
    #[serde(default)]
    pub patch_weight: PatchWeight,
    /// Number of equal frames that a video tower gets for one image. Default 2; 1 for image towers.
    #[serde(default = "two", skip_serializing_if = "is_two")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub frames: usize,
    /// Whether the patch embedding has a bias. Default true.
    #[serde(default = "yes")]
    pub patch_bias: bool,
    /// Activation in the MLPs. Default exact GELU.
    #[serde(default)]
    pub activation: Activation,
    /// Kind of all norms. Default: layer norm.
    #[serde(default)]
    pub norm: NormKind,
    /// Epsilon added to the variance or mean square in every norm. Default 1e-6.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Whether there is a norm after the last block. Default true.
    #[serde(default = "yes")]
    pub final_norm: bool,
    /// Side of the grid of learned position embeddings, which are resampled to the grid of each image. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_grid: Option<usize>,
    /// How learned position embeddings are resampled. Default: bilinear with antialiasing.
    #[serde(default)]
    pub position_resampling: PositionResampling,
    /// Rotary position embedding of queries and keys. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotary: Option<NativeRotary>,
    /// Side of an attention window, in patches. Default: all blocks attend to the whole image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<usize>,
    /// Indices of the blocks that attend to the whole image although there is a `window`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub full_blocks: Vec<usize>,
    /// Side of the squares of patches that the tower's own merger joins to one token; image sides must be multiples of
    /// `merge * patch`. Default 1: no merger.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub merge: usize,
    /// Channels of merged tokens. Default: the tower has no merger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_width: Option<usize>,
    /// Indices of the blocks whose outputs have mergers of their own (DeepStack of Qwen3-VL).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub deepstack: Vec<usize>,
}

/// How the weight of a patch embedding is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PatchWeight {
    /// A convolution, `[width, 3, patch, patch]`.
    #[default]
    Image,
    /// A linear layer, `[width, patch * patch * 3]`, over the channels of a pixel first.
    Linear,
    /// A convolution over `frames` frames, `[width, 3, frames, patch, patch]`.
    Video,
}

/// How learned position embeddings are resampled to the grid of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PositionResampling {
    /// Bilinear, with antialiasing where the grid shrinks (SigLIP 2).
    #[default]
    BilinearAntialias,
    /// Bilinear, with the corners of both grids on each other (Qwen3-VL).
    BilinearCorners,
    /// Bicubic, without antialiasing (MoonViT).
    Bicubic,
}

impl PositionResampling {
    /// The interpolation kernel.
    pub(super) fn kernel(self) -> Kernel {
        match self {
            Self::BilinearAntialias => Kernel::AntialiasedBilinear,
            Self::BilinearCorners => Kernel::BilinearCorners,
            Self::Bicubic => Kernel::Bicubic,
        }
    }
}

fn default_eps() -> f64 {
    1e-6
}

fn one() -> usize {
    1
}

fn two() -> usize {
    2
}

// serde's `skip_serializing_if` passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_one(value: &usize) -> bool {
    *value == 1
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_two(value: &usize) -> bool {
    *value == 2
}

impl NativeVitConfig {
    /// A tower without window, rotary embedding, learned positions and merger.
    pub fn plain(image_size: usize, patch: usize, width: usize, depth: usize, heads: usize, mlp_hidden: usize) -> Self {
        Self {
            image_size,
            patch,
            width,
            depth,
            heads,
            mlp_hidden,
            patch_weight: PatchWeight::Image,
            frames: 2,
            patch_bias: true,
            activation: Activation::Gelu,
            norm: NormKind::Layer,
            norm_eps: default_eps(),
            final_norm: true,
            position_grid: None,
            position_resampling: PositionResampling::BilinearAntialias,
            rotary: None,
            window: None,
            full_blocks: Vec::new(),
            merge: 1,
            merged_width: None,
            deepstack: Vec::new(),
        }
    }

    /// Number of patches per side of the square image of the typical size.
    fn side(&self) -> usize {
        self.image_size / self.patch
    }

    /// Whether block `index` attends to the whole image.
    pub(super) fn is_full(&self, index: usize) -> bool {
        self.window.is_none() || self.full_blocks.contains(&index)
    }

    /// The order of the tokens of an image with this grid, and its windows.
    pub(super) fn layout(&self, grid: [usize; 2]) -> TokenLayout {
        TokenLayout::new(grid, self.window)
    }

    /// Which merger maps the output of block `index`: `None` if it has none, `Some(None)` the final merger, and
    /// `Some(Some(i))` the i-th of the DeepStack mergers.
    pub(super) fn merger_of(&self, index: usize) -> Option<Option<usize>> {
        self.merged_width?;
        if index + 1 == self.depth {
            return Some(None);
        }
        self.deepstack.iter().position(|block| *block == index).map(Some)
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> NativeVit {
        let width = self.width;
        let linear = |from: usize, to: usize| LinearConfig::new(from, to).init(device);
        let norm = |channels: usize| self.norm.init(channels, self.norm_eps, device);
        let merger = |merged_width: usize, joined: bool| {
            let joint = width * self.merge * self.merge;
            PatchMerger {
                norm: norm(if joined { joint } else { width }),
                fc1: linear(joint, joint),
                fc2: linear(joint, merged_width),
                merge: self.merge,
                joined,
            }
        };
        let blocks = (0..self.depth).map(|_| NativeBlock {
            norm1: norm(width),
            attn: NativeAttention { qkv: linear(width, 3 * width), proj: linear(width, width), heads: self.heads },
            norm2: norm(width),
            mlp: Mlp::new(width, self.mlp_hidden, width, self.activation, device),
        });
        NativeVit {
            patch_embed: NativePatchEmbed { proj: self.projection(device) },
            pos_embed: self.position_grid.map(|side| Initializer::Zeros.init([side, side, width], device)),
            blocks: blocks.collect(),
            norm: self.final_norm.then(|| norm(width)),
            merger: self.merged_width.map(|merged| merger(merged, false)),
            deepstack_mergers: match self.merged_width {
                Some(merged) => self.deepstack.iter().map(|_| merger(merged, true)).collect(),
                None => Vec::new(),
            },
            config: self.clone(),
        }
    }

    fn projection(&self, device: &Device) -> PatchProjection {
        let (width, p) = (self.width, self.patch);
        match self.patch_weight {
            PatchWeight::Image => PatchProjection::Image(
                Conv2dConfig::new([3, width], [p, p]).with_stride([p, p]).with_bias(self.patch_bias).init(device),
            ),
            PatchWeight::Linear => {
                PatchProjection::Linear(LinearConfig::new(3 * p * p, width).with_bias(self.patch_bias).init(device))
            }
            PatchWeight::Video => PatchProjection::Video(VideoProjection {
                weight: Initializer::Zeros.init([width, 3, self.frames, p, p], device),
                bias: self.patch_bias.then(|| Initializer::Zeros.init([width], device)),
            }),
        }
    }

    /// Multiply-add operations of block `index` for one image with this layout.
    fn block_multiply_adds(&self, index: usize, layout: &TokenLayout) -> u64 {
        let (width, hidden) = (self.width as u64, self.mlp_hidden as u64);
        let mlp = (1 + self.activation.columns() as u64) * width * hidden;
        let tokens = layout.tokens() as u64;
        let pairs = if self.is_full(index) { tokens * tokens } else { layout.window_pairs() };
        tokens * (4 * width * width + mlp) + 2 * pairs * width
    }
}

impl TimmModel for NativeVitConfig {}

impl NetworkConfig for NativeVitConfig {
    fn computes_bf16(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<()> {
        check_patches(self.image_size, self.patch)?;
        let numbers = [self.image_size, self.patch, self.width, self.depth, self.heads, self.mlp_hidden];
        let more = [self.frames, self.merge, self.window.unwrap_or(1), self.position_grid.unwrap_or(1)];
        let merged = self.merged_width.unwrap_or(1);
        let sized = |n: &usize| (1..=MAX_SIZE).contains(n);
        let possible =
            numbers.iter().chain(&more).chain([&merged]).all(sized) && self.position_grid.unwrap_or(1) <= 512;
        if !possible || !self.width.is_multiple_of(self.heads) {
            return Err(Error::usage(format!(
                "invalid native-vit: image_size {}, patch {}, width {}, depth {}, heads {}, mlp_hidden {}, frames {}, \
                 merge {}, window {:?}, position_grid {:?}, merged_width {:?}",
                self.image_size,
                self.patch,
                self.width,
                self.depth,
                self.heads,
                self.mlp_hidden,
                self.frames,
                self.merge,
                self.window,
                self.position_grid,
                self.merged_width
            ))
            .hint(
                "all must be positive and at most 65536, position_grid at most 512, and heads must divide width; a \
                 patch_weight other than `video` ignores frames",
            ));
        }
        if !self.image_size.is_multiple_of(self.patch.saturating_mul(self.merge)) {
            return Err(Error::usage(format!(
                "image_size = {} is no multiple of patch * merge = {} * {}",
                self.image_size, self.patch, self.merge
            ))
            .hint("choose an image_size that divides into merged patches"));
        }
        if self.window.is_some_and(|window| !window.is_multiple_of(self.merge)) {
            return Err(Error::usage("window must be a multiple of merge"));
        }
        if self.full_blocks.iter().chain(&self.deepstack).any(|block| *block >= self.depth) {
            return Err(Error::usage(format!(
                "full_blocks {:?} and deepstack {:?} must be below depth = {}",
                self.full_blocks, self.deepstack, self.depth
            )));
        }
        if self.merged_width.is_none() && !self.deepstack.is_empty() {
            return Err(Error::usage("deepstack requires merged_width"));
        }
        match self.rotary {
            Some(rotary) => rotary.validate(self.width / self.heads),
            None => Ok(()),
        }
    }

    fn image_size(&self) -> usize {
        self.image_size
    }

    fn min_layers(&self) -> usize {
        self.depth
    }

    fn tap_support(&self, tap: &Tap) -> Result<TapSupport> {
        tap.indices(self.depth, "block")?;
        Ok(TapSupport { final_norm: self.final_norm, class_token: false })
    }

    fn check_merge(&self, tap: &Tap) -> Result<()> {
        let mut layers = tap.indices(self.depth, "block")?.into_iter();
        match layers.find(|index| self.merger_of(*index).is_none()) {
            None => Ok(()),
            Some(_) if self.merged_width.is_none() => {
                Err(Error::usage("the feature tap has merge = true, but this tower has no merger")
                    .hint("set merge = false in the feature tap"))
            }
            Some(index) => Err(Error::usage(format!(
                "the feature tap has merge = true, but block {index} has no merger"
            ))
            .hint(format!("mergers follow the last block and the blocks {:?}; choose among these", self.deepstack))),
        }
    }

    fn tap_sides(&self, tap: &Tap) -> Result<Vec<usize>> {
        Ok(vec![if tap.merge { self.side() / self.merge } else { self.side() }])
    }

    fn tap_width(&self, tap: &Tap) -> Result<usize> {
        let layers = tap.indices(self.depth, "block")?.len();
        Ok(layers * if tap.merge { self.merged_width.unwrap_or(self.width) } else { self.width })
    }

    fn tap_multiply_adds(&self, tap: &Tap) -> Result<u64> {
        let layers = tap.indices(self.depth, "block")?;
        let layout = self.layout([self.side(); 2]);
        let (tokens, width) = (layout.tokens() as u64, self.width as u64);
        let embed = tokens * width * (3 * self.patch * self.patch) as u64;
        let deepest = layers.iter().max().map_or(0, |last| last + 1);
        let blocks: u64 = (0..deepest).map(|index| self.block_multiply_adds(index, &layout)).sum();
        let merged = tokens / (self.merge * self.merge) as u64;
        let joint = width * (self.merge * self.merge) as u64;
        let merger = merged * joint * (joint + self.merged_width.unwrap_or(0) as u64);
        Ok(embed + blocks + if tap.merge { merger * layers.len() as u64 } else { 0 })
    }

    fn pooled_width(&self) -> usize {
        self.width
    }

    fn norms_last_tokens(&self) -> bool {
        self.final_norm
    }

    fn drop_path(&self) -> Option<DropPathSpec> {
        None
    }

    fn takes_any_grid(&self) -> Option<usize> {
        Some(self.patch * self.merge)
    }
}
