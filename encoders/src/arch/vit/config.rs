//! ViT hyper-parameters, their validation, and the construction of the network.

use super::super::block::{AttentionPositions, BlockConfig, QkNorm};
use super::super::channel_norm::{ChannelNorm, NormKind};
use super::super::drop_path::{self, DropPathSpec};
use super::super::fields::{is_default, is_yes, yes};
use super::super::limits::{MAX_SIZE, check_patches};
use super::super::network::{NetworkConfig, TapSupport};
use super::super::rotary::Rotary;
use super::super::tap::Tap;
use super::relative::{LogCoordinates, RelativeBias, RelativeMlp};
use super::{MixedRotary, PatchEmbed, Vit};
use crate::features::Kernel;
use crate::operands::Activation;
use crate::transfer;
use burgess_base::{Error, Result};
use burn::module::Initializer;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Deserializer, Serialize};

/// Hyper-parameters of a vision transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Side of the square input images, in pixels; the position embeddings are for this size.
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
    /// Whether there is a class token before the patches. Default true.
    #[serde(default = "yes")]
    pub class_token: bool,
    /// Number of class tokens if there is one (Pixio: 8, C-RADIO: 3); a tap returns the first, the pooled output is
    /// their mean. Default 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub class_tokens: usize,
    /// Whether a distillation token (DeiT) follows the class token; no tap returns it. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub distillation_token: bool,
    /// Number of register tokens after these (Darcet et al. 2024). Default 0.
    #[serde(default)]
    pub registers: usize,
    /// Whether there is a norm before the first block (CLIP). Default false.
    #[serde(default)]
    pub pre_norm: bool,
    /// Whether the patch embedding has a bias. Default true.
    #[serde(default = "yes")]
    pub patch_bias: bool,
    /// Whether a norm follows the patch embedding, before position embeddings are added (AIMv2). Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub patch_norm: bool,
    /// Whether the query, key and value projections have biases. Default true.
    #[serde(default = "yes")]
    pub qkv_bias: bool,
    /// Whether the output projection of attention and the layers of the MLP have biases. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub proj_bias: bool,
    /// Norms of queries and keys; `true` stands for `head`. Default none.
    #[serde(default, deserialize_with = "qk_norm", skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub qk_norm: QkNorm,
    /// Kind of all norms. Default layer norm.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub norm: NormKind,
    /// Initial value of the layer scale of each residual branch (DINOv2). Default: no layer scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_scale: Option<f64>,
    /// Activation in the MLPs. Default exact GELU.
    #[serde(default)]
    pub activation: Activation,
    /// Epsilon added to the variance in every norm. Default 1e-6.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Whether there is a norm after the last block. Default true.
    #[serde(default = "yes")]
    pub final_norm: bool,
    /// Whether the class token (and the distillation token) has a position embedding. Default true.
    #[serde(default = "yes")]
    pub pos_embed_class: bool,
    /// Whether the registers have position embeddings, too. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub pos_embed_registers: bool,
    /// Whether learned position embeddings are added to the patches. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub absolute_positions: bool,
    /// Side of the grid of the learned position embeddings. Default: that of `image_size`; if it differs, they are
    /// resampled (bicubic).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_grid: Option<usize>,
    /// Added to the new side when position embeddings are resampled: 0.1 for DINOv2, as in its training. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub position_offset: f64,
    /// Whether position embeddings are antialiased when they are resampled to a smaller grid (timm and open_clip do it,
    /// DINOv2 does not). Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub position_antialias: bool,
    /// Kernel with which position embeddings are resampled. Default bicubic.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub position_kernel: PositionKernel,
    /// Whether fixed position embeddings are added to the patches: sines and cosines of the column, then of the row
    /// (AIMv2-native). Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub sine_positions: bool,
    /// Whether each block has a learned relative position bias per head (BEiT). Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub relative_positions: bool,
    /// Relative position bias from an MLP (timm's `VisionTransformerRelPos`). Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative_mlp: Option<RelativeMlp>,
    /// Whether norms precede the last layer of attention and MLP (EVA-02's CLIP). Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub inner_norms: bool,
    /// Whether a norm precedes the last layer of the MLP only (EVA-02). Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub mlp_norm: bool,
    /// Whether norms stand at the end of both branches (post-norm) instead of the beginning. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub post_norm: bool,
    /// Whether attention and MLP of a block read the same norm and are added to the tokens together, with one layer
    /// scale (ViT-22B). Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub parallel: bool,
    /// Rotary position embedding of queries and keys. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotary: Option<Rotary>,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_eps() -> f64 {
    1e-6
}

fn one() -> usize {
    1
}

// serde's `skip_serializing_if` passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_one(n: &usize) -> bool {
    *n == 1
}

/// Reads [`VitConfig::qk_norm`], which was a Boolean in earlier versions.
fn qk_norm<'de, D: Deserializer<'de>>(value: D) -> Result<QkNorm, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Flag(bool),
        Kind(QkNorm),
    }
    Ok(match Either::deserialize(value)? {
        Either::Flag(false) => QkNorm::None,
        Either::Flag(true) => QkNorm::Head,
        Either::Kind(kind) => kind,
    })
}

/// The kernel with which position embeddings are resampled to another grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PositionKernel {
    /// Cubic interpolation of the four nearest points per axis.
    #[default]
    Bicubic,
    /// Linear interpolation of the two nearest points per axis (C-RADIO, TIPSv2).
    Bilinear,
}

impl VitConfig {
    /// The ViT of the original paper: class token, learned position embeddings for all tokens, biases, exact GELU.
    pub fn plain(image_size: usize, patch: usize, width: usize, depth: usize, heads: usize, mlp_hidden: usize) -> Self {
        Self {
            image_size,
            patch,
            width,
            depth,
            heads,
            mlp_hidden,
            class_token: true,
            class_tokens: 1,
            distillation_token: false,
            registers: 0,
            pre_norm: false,
            patch_bias: true,
            patch_norm: false,
            qkv_bias: true,
            proj_bias: true,
            qk_norm: QkNorm::None,
            norm: NormKind::Layer,
            layer_scale: None,
            activation: Activation::Gelu,
            norm_eps: default_eps(),
            final_norm: true,
            pos_embed_class: true,
            pos_embed_registers: false,
            absolute_positions: true,
            position_grid: None,
            position_offset: 0.0,
            position_antialias: false,
            position_kernel: PositionKernel::Bicubic,
            sine_positions: false,
            relative_positions: false,
            relative_mlp: None,
            inner_norms: false,
            mlp_norm: false,
            post_norm: false,
            parallel: false,
            rotary: None,
            drop_path: 0.0,
        }
    }

    /// Grid of patches for `image_size`, `[rows, columns]`.
    pub fn grid(&self) -> [usize; 2] {
        [self.image_size / self.patch; 2]
    }

    /// Grid of the learned position embeddings, `[rows, columns]`.
    pub(super) fn position_grid(&self) -> [usize; 2] {
        self.position_grid.map_or_else(|| self.grid(), |side| [side; 2])
    }

    /// Number of class tokens.
    pub(super) fn class_count(&self) -> usize {
        if self.class_token { self.class_tokens } else { 0 }
    }

    /// Number of tokens before the patches.
    pub(super) fn prefix(&self) -> usize {
        self.class_count() + usize::from(self.distillation_token) + self.registers
    }

    /// Number of tokens before the patches that have a position embedding.
    pub(crate) fn positioned_prefix(&self) -> usize {
        let special = self.class_count() + usize::from(self.distillation_token);
        let placed = if self.pos_embed_class { special } else { 0 };
        if self.pos_embed_registers { placed + self.registers } else { placed }
    }

    /// The kernel with which position embeddings are resampled.
    pub(super) fn kernel(&self) -> Kernel {
        match (self.position_kernel, self.position_antialias) {
            (PositionKernel::Bicubic, false) => Kernel::Bicubic,
            (PositionKernel::Bicubic, true) => Kernel::AntialiasedBicubic,
            (PositionKernel::Bilinear, false) => Kernel::Bilinear,
            (PositionKernel::Bilinear, true) => Kernel::AntialiasedBilinear,
        }
    }

    /// Multiply-add operations for one image through the first `blocks` blocks.
    fn multiply_adds(&self, blocks: usize) -> u64 {
        let [rows, columns] = self.grid();
        let patches = (rows * columns) as u64;
        let tokens = patches + self.prefix() as u64;
        let embed = patches * self.width as u64 * (3 * self.patch * self.patch) as u64;
        let relative = self.relative_mlp.map_or(0, |mlp| {
            let offsets = ((2 * rows - 1) * (2 * columns - 1)) as u64;
            let count = if mlp.shared { 1 } else { blocks as u64 };
            count * offsets * (mlp.hidden * (2 + self.heads)) as u64
        });
        embed + relative + blocks as u64 * self.block().multiply_adds(tokens)
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Vit {
        let width = self.width;
        let token = |n: usize| Initializer::Zeros.init([1, n, width], device);
        let [rows, columns] = self.position_grid();
        let positions = rows * columns + self.positioned_prefix();
        let has = |option: fn(Rotary) -> bool| self.rotary.is_some_and(option);
        let (learned_class, mixed) = (has(|rotary| rotary.learned_class), has(|rotary| rotary.mixed));
        let half = width / self.heads / 2;
        let shared = self.relative_mlp.filter(|mlp| mlp.shared);
        let mut patch_embed = PatchEmbed::new(width, self.patch, self.patch_bias, device);
        patch_embed.norm = self.patch_norm.then(|| self.norm(device));
        Vit {
            cls_token: self.class_token.then(|| token(self.class_tokens)),
            dist_token: self.distillation_token.then(|| token(1)),
            reg_token: (self.registers > 0).then(|| token(self.registers)),
            pos_embed: self.absolute_positions.then(|| token(positions)),
            class_pos_emb: learned_class.then(|| Initializer::Zeros.init([1, half], device)),
            rope: mixed
                .then(|| MixedRotary { freqs: Initializer::Zeros.init([2, self.depth, self.heads, half], device) }),
            shared_rel_pos: shared.map(|mlp| RelativeBias::new(mlp.hidden, self.heads, device)),
            patch_embed,
            norm_pre: self.pre_norm.then(|| self.norm(device)),
            blocks: (0..self.depth).map(|_| self.block().init(device)).collect(),
            norm: self.final_norm.then(|| self.norm(device)),
            config: self.clone(),
        }
    }

    fn norm(&self, device: &Device) -> ChannelNorm {
        self.norm.init(self.width, self.norm_eps, device)
    }

    fn block(&self) -> BlockConfig {
        let [rows, columns] = self.grid();
        BlockConfig {
            width: self.width,
            heads: self.heads,
            mlp_hidden: self.mlp_hidden,
            activation: self.activation,
            qkv_bias: self.qkv_bias,
            proj_bias: self.proj_bias,
            qk_norm: self.qk_norm,
            norm: self.norm,
            norm_eps: self.norm_eps,
            layer_scale: self.layer_scale,
            attention_norm: self.inner_norms,
            mlp_norm: self.inner_norms || self.mlp_norm,
            post_norm: self.post_norm,
            rotate_half: self.rotary.is_some_and(|rotary| rotary.rotate_half),
            relative_positions: self.relative_positions.then(|| (2 * rows - 1) * (2 * columns - 1) + 3),
            relative_mlp: self.relative_mlp.filter(|mlp| !mlp.shared).map(|mlp| mlp.hidden),
            parallel: self.parallel,
        }
    }

    /// Position information that the blocks need for the patches of `grid` and the tokens before them, other than
    /// learned parameters; [`Vit::attention_positions`] adds these.
    ///
    /// # Errors
    /// `grid` differs from the grid of the relative position bias table.
    pub(super) fn attention_positions(&self, grid: [usize; 2], device: &Device) -> Result<AttentionPositions> {
        if self.relative_positions && grid != self.grid() {
            return Err(Error::usage(format!(
                "the relative position bias table is for a grid of {:?} patches, but the images have {grid:?}",
                self.grid()
            ))
            .hint("preprocess the images to the size on the encoder's card"));
        }
        let head_dim = self.width / self.heads;
        let rotary = self.rotary.filter(|rotary| !rotary.mixed);
        Ok(AttentionPositions {
            bias: None,
            rotary: rotary.map(|rotary| rotary.rotation(grid, self.prefix(), head_dim, device)),
            block_rotary: Vec::new(),
            log_coordinates: self.relative_mlp.map(|_| LogCoordinates::new(grid, self.prefix(), device)),
            relative_index: self.relative_positions.then(|| relative_position_index(grid, device)),
        })
    }
}

impl NetworkConfig for VitConfig {
    fn computes_bf16(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<()> {
        check_patches(self.image_size, self.patch)?;
        let numbers = [self.image_size, self.patch, self.width, self.depth, self.heads, self.mlp_hidden];
        let possible = numbers.iter().all(|n| (1..=MAX_SIZE).contains(n)) && self.registers <= MAX_SIZE;
        if !possible || self.image_size < self.patch || !self.width.is_multiple_of(self.heads) {
            return Err(Error::usage(format!(
                "invalid vision transformer: image_size {}, patch {}, width {}, depth {}, heads {}, mlp_hidden {}",
                self.image_size, self.patch, self.width, self.depth, self.heads, self.mlp_hidden
            ))
            .hint(
                "all must be positive and at most 65536, patch must not exceed image_size, and heads must divide width",
            ));
        }
        if let Some(rotary) = &self.rotary {
            rotary.validate(self.width / self.heads)?;
        }
        if self.position_grid == Some(0) || !(0.0..1.0).contains(&self.position_offset) {
            return Err(Error::usage("position_grid must be positive, and position_offset at least 0 and below 1"));
        }
        if !(1..=MAX_SIZE).contains(&self.class_tokens) || (self.class_tokens > 1 && !self.class_token) {
            return Err(Error::usage(format!("class_tokens = {} is invalid", self.class_tokens))
                .hint("it must be at least 1 and at most 65536, and 1 if class_token = false"));
        }
        let learned_class = self.rotary.is_some_and(|rotary| rotary.learned_class);
        if learned_class && (!self.class_token || self.prefix() > 1) {
            return Err(Error::usage(
                "rotary.learned_class requires a class token and no other token before the patches",
            ));
        }
        if self.sine_positions && (self.absolute_positions || !self.width.is_multiple_of(4)) {
            return Err(Error::usage(
                "sine_positions requires absolute_positions = false and a width that is a multiple of 4",
            ));
        }
        if self.relative_positions && (!self.class_token || self.prefix() > 1) {
            return Err(Error::usage(
                "relative_positions requires a class token and no other token before the patches",
            ));
        }
        if self.distillation_token && !self.class_token {
            return Err(Error::usage("distillation_token requires class_token"));
        }
        if self.pos_embed_registers && self.class_token && !self.pos_embed_class {
            return Err(Error::usage(
                "pos_embed_registers requires pos_embed_class, because the class token precedes the registers",
            ));
        }
        if self.relative_mlp.is_some_and(|mlp| self.relative_positions || !(1..=MAX_SIZE).contains(&mlp.hidden)) {
            return Err(Error::usage(
                "relative_mlp requires relative_positions = false and between 1 and 65536 hidden channels",
            ));
        }
        if self.parallel && (self.post_norm || self.inner_norms || self.mlp_norm) {
            return Err(Error::usage("parallel cannot be combined with post_norm, inner_norms or mlp_norm"));
        }
        if self.post_norm && self.layer_scale.is_some() {
            return Err(Error::usage("post_norm cannot be combined with layer_scale"));
        }
        drop_path::check(self.drop_path)
    }

    fn image_size(&self) -> usize {
        self.image_size
    }

    fn min_layers(&self) -> usize {
        self.depth
    }

    fn tap_support(&self, tap: &Tap) -> Result<TapSupport> {
        tap.indices(self.depth, "block")?;
        Ok(TapSupport { final_norm: self.final_norm, class_token: self.class_token })
    }

    fn tap_sides(&self, _tap: &Tap) -> Result<Vec<usize>> {
        Ok(vec![self.image_size / self.patch])
    }

    fn tap_width(&self, tap: &Tap) -> Result<usize> {
        Ok(self.width * tap.indices(self.depth, "block")?.len())
    }

    fn tap_multiply_adds(&self, tap: &Tap) -> Result<u64> {
        Ok(self.multiply_adds(tap.deepest(self.depth, "block")? + 1))
    }

    fn pooled_width(&self) -> usize {
        self.width
    }

    fn norms_last_tokens(&self) -> bool {
        self.final_norm
    }

    fn takes_any_grid(&self) -> Option<usize> {
        (!self.relative_positions).then_some(self.patch)
    }

    fn drop_path(&self) -> Option<DropPathSpec> {
        let branches = if self.parallel { 1 } else { 2 };
        Some(DropPathSpec { rate: self.drop_path, blocks: self.depth, branches })
    }
}

/// Relative position index of BEiT for a class token and the patches of `grid`, `[tokens * tokens]`
/// (`BeitRelativePositionBias` of transformers). Rows of the table are ordered by row offset, then by column offset;
/// the last three are class to patch, patch to class, class to class.
fn relative_position_index(grid: [usize; 2], device: &Device) -> Tensor<1, Int> {
    let [rows, columns] = grid;
    let tokens = 1 + rows * columns;
    let special = (2 * rows - 1) * (2 * columns - 1);
    let index = |query: usize, key: usize| match (query.checked_sub(1), key.checked_sub(1)) {
        (None, None) => special + 2,
        (None, Some(_)) => special,
        (Some(_), None) => special + 1,
        (Some(q), Some(k)) => {
            let down = q / columns + rows - 1 - k / columns;
            down * (2 * columns - 1) + q % columns + columns - 1 - k % columns
        }
    };
    let values: Vec<i64> = (0..tokens * tokens).map(|pair| index(pair / tokens, pair % tokens) as i64).collect();
    transfer::to_device(TensorData::new(values, [tokens * tokens]), device)
}

/// Fixed position embeddings of AIMv2-native for the patches of `grid`, `[1, patches, width]`: sines and cosines of the
/// column, then of the row, with frequencies from 1 down to 1/10000.
pub(super) fn sine_positions(grid: [usize; 2], width: usize, device: &Device) -> Tensor<3> {
    let [rows, columns] = grid;
    let quarter = width / 4;
    let mut values = Vec::with_capacity(rows * columns * width);
    for patch in 0..rows * columns {
        for place in [patch % columns, patch / columns] {
            let angle = |j: usize| place as f64 * 10000f64.powf(-(j as f64) / quarter as f64);
            values.extend((0..quarter).map(|j| angle(j).sin() as f32));
            values.extend((0..quarter).map(|j| angle(j).cos() as f32));
        }
    }
    transfer::to_device(TensorData::new(values, [1, rows * columns, width]), device)
}
