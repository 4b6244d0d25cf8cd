//! Vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), with the variants that CLIP, SigLIP, DINOv2,
//! MAE, EVA-02, BEiT and supervised checkpoints differ in. Parameter paths are those of timm's `VisionTransformer`.
//!
//! The forward pass is cut where pretraining objectives reach in: [`Vit::patches`] → (MAE drops tokens, DINOv2
//! puts mask tokens) → [`Vit::prepare`] → [`Vit::run_blocks`] → [`Vit::final_norm`].

use super::block::{Activation, Block, BlockConfig, Places};
use super::drop_path::{self, Drops};
use super::rotary::Rotary;
use super::{Tap, Tokens, check_pixels};
use crate::features::{FeatureMap, Kernel, resample_tokens};
use burgess_base::stream::Stream;
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Int, Tensor, TensorData, module::linear};
use serde::{Deserialize, Serialize};

/// The numbers of a vision transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VitConfig {
    /// Side of the square pictures, in pixels; the position embeddings are for this size.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch: usize,
    /// Channels of a token.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads per block.
    pub heads: usize,
    /// Channels inside the MLP.
    pub mlp_hidden: usize,
    /// A class token before the patches. Default true.
    #[serde(default = "yes")]
    pub class_token: bool,
    /// A second token after the class token, which learned from a teacher (DeiT); no tap hands it out. Default false.
    #[serde(default, skip_serializing_if = "is_no")]
    pub distillation_token: bool,
    /// Register tokens after these (Darcet et al. 2024). Default 0.
    #[serde(default)]
    pub registers: usize,
    /// A norm before the first block (CLIP). Default false.
    #[serde(default)]
    pub pre_norm: bool,
    /// A bias in the patch embedding. Default true.
    #[serde(default = "yes")]
    pub patch_bias: bool,
    /// Biases in the query, key and value projections. Default true.
    #[serde(default = "yes")]
    pub qkv_bias: bool,
    /// Norms of queries and keys, head by head (Dehghani et al. 2023). Default false.
    #[serde(default, skip_serializing_if = "is_no")]
    pub qk_norm: bool,
    /// Scale of each residual branch at the start (DINOv2); none without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_scale: Option<f64>,
    /// Default exact GELU.
    #[serde(default)]
    pub activation: Activation,
    /// Added to the variance in every norm. Default 1e-6.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// A norm after the last block. Default true.
    #[serde(default = "yes")]
    pub final_norm: bool,
    /// Whether the class token (and the distillation token) has a position embedding of its own. Default true.
    #[serde(default = "yes")]
    pub pos_embed_class: bool,
    /// Whether the registers have position embeddings of their own, too. Default false.
    #[serde(default, skip_serializing_if = "is_no")]
    pub pos_embed_registers: bool,
    /// Learned positions added to the patches. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub absolute_positions: bool,
    /// Side of the grid for which the positions were learned. Default: that of `image_size`; where it differs, they are
    /// resampled (bicubic).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position_grid: Option<usize>,
    /// Added to the new side when positions are resampled: 0.1 for DINOv2, whose weights were made so. Default 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub position_offset: f64,
    /// Whether a grid that shrinks is smoothed when positions are resampled (timm, open_clip; DINOv2 does not). Default
    /// false.
    #[serde(default, skip_serializing_if = "is_no")]
    pub position_antialias: bool,
    /// A learned bias for each head and each way in which two tokens lie to each other (BEiT). Default false.
    #[serde(default, skip_serializing_if = "is_no")]
    pub relative_positions: bool,
    /// Norms before the last layer of attention and MLP (EVA-02's CLIP). Default false.
    #[serde(default, skip_serializing_if = "is_no")]
    pub inner_norms: bool,
    /// A norm before the last layer of the MLP alone (EVA-02). Default false.
    #[serde(default, skip_serializing_if = "is_no")]
    pub mlp_norm: bool,
    /// Norms at the end of both branches instead of their beginning. Default false.
    #[serde(default, skip_serializing_if = "is_no")]
    pub post_norm: bool,
    /// Rotary positions; none without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotary: Option<Rotary>,
    /// Probability that training leaves out a branch of the last block, see [`Drops`]. Default 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub drop_path: f64,
}

fn yes() -> bool {
    true
}

// serde hands references to these two.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_yes(value: &bool) -> bool {
    *value
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_no(value: &bool) -> bool {
    !value
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn default_eps() -> f64 {
    1e-6
}

/// No number of a network is larger, so that no absurd one of a configuration is obeyed.
pub(super) const LARGEST: usize = 1 << 16;

impl VitConfig {
    /// The network of the first paper: a class token, learned positions for all tokens, biases everywhere, exact GELU.
    pub fn plain(image_size: usize, patch: usize, width: usize, depth: usize, heads: usize, mlp_hidden: usize) -> Self {
        Self {
            image_size,
            patch,
            width,
            depth,
            heads,
            mlp_hidden,
            class_token: true,
            distillation_token: false,
            registers: 0,
            pre_norm: false,
            patch_bias: true,
            qkv_bias: true,
            qk_norm: false,
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
            relative_positions: false,
            inner_norms: false,
            mlp_norm: false,
            post_norm: false,
            rotary: None,
            drop_path: 0.0,
        }
    }

    /// Says what is wrong with the numbers, if anything.
    pub fn validate(&self) -> Result<()> {
        let numbers = [self.image_size, self.patch, self.width, self.depth, self.heads, self.mlp_hidden];
        let possible = numbers.iter().all(|n| (1..=LARGEST).contains(n)) && self.registers <= LARGEST;
        if !possible || self.image_size < self.patch || !self.width.is_multiple_of(self.heads) {
            return Err(Error::usage(format!(
                "a vision transformer cannot have image_size {}, patch {}, width {}, depth {}, heads {}, mlp_hidden {}",
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
        if self.relative_positions && (!self.class_token || self.prefix() > 1) {
            return Err(Error::usage("relative positions are defined for one class token and patches only"));
        }
        if self.distillation_token && !self.class_token {
            return Err(Error::usage("a distillation token stands after a class token, and there is none"));
        }
        if self.pos_embed_registers && self.class_token && !self.pos_embed_class {
            return Err(Error::usage("registers cannot have positions of their own where the class token has none"));
        }
        if self.post_norm && self.layer_scale.is_some() {
            return Err(Error::usage("norms at the end of the branches leave no place for layer_scale"));
        }
        drop_path::check(self.drop_path)
    }

    /// `[rows, columns]` of patches.
    pub fn grid(&self) -> [usize; 2] {
        [self.image_size / self.patch; 2]
    }

    /// `[rows, columns]` for which there are learned positions.
    fn position_grid(&self) -> [usize; 2] {
        self.position_grid.map_or_else(|| self.grid(), |side| [side; 2])
    }

    /// Tokens before the patches.
    fn prefix(&self) -> usize {
        usize::from(self.class_token) + usize::from(self.distillation_token) + self.registers
    }

    /// How many of them have a position embedding of their own.
    pub(crate) fn placed_prefix(&self) -> usize {
        let special = usize::from(self.class_token) + usize::from(self.distillation_token);
        let placed = if self.pos_embed_class { special } else { 0 };
        if self.pos_embed_registers { placed + self.registers } else { placed }
    }

    /// Multiply-adds of one picture up to the output of block number `blocks`.
    pub(super) fn multiply_adds(&self, blocks: usize) -> u64 {
        let [rows, columns] = self.grid();
        let patches = (rows * columns) as u64;
        let tokens = patches + self.prefix() as u64;
        let embed = patches * self.width as u64 * (3 * self.patch * self.patch) as u64;
        embed + blocks as u64 * self.block().multiply_adds(tokens)
    }

    /// A network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Vit {
        let width = self.width;
        let token = |n: usize| Initializer::Zeros.init([1, n, width], device);
        let [rows, columns] = self.position_grid();
        let positions = rows * columns + self.placed_prefix();
        Vit {
            cls_token: self.class_token.then(|| token(1)),
            dist_token: self.distillation_token.then(|| token(1)),
            reg_token: (self.registers > 0).then(|| token(self.registers)),
            pos_embed: self.absolute_positions.then(|| token(positions)),
            patch_embed: PatchEmbed::new(width, self.patch, self.patch_bias, device),
            norm_pre: self.pre_norm.then(|| self.norm(device)),
            blocks: (0..self.depth).map(|_| self.block().init(device)).collect(),
            norm: self.final_norm.then(|| self.norm(device)),
            config: self.clone(),
        }
    }

    fn norm(&self, device: &Device) -> LayerNorm {
        LayerNormConfig::new(self.width).with_epsilon(self.norm_eps).init(device)
    }

    fn block(&self) -> BlockConfig {
        let [rows, columns] = self.grid();
        BlockConfig {
            width: self.width,
            heads: self.heads,
            mlp_hidden: self.mlp_hidden,
            activation: self.activation,
            qkv_bias: self.qkv_bias,
            qk_norm: self.qk_norm,
            norm_eps: self.norm_eps,
            layer_scale: self.layer_scale,
            attention_norm: self.inner_norms,
            mlp_norm: self.inner_norms || self.mlp_norm,
            post_norm: self.post_norm,
            halves: self.rotary.is_some_and(|rotary| rotary.halves),
            relative_positions: self.relative_positions.then(|| (2 * rows - 1) * (2 * columns - 1) + 3),
        }
    }

    /// What a pass over `batch` pictures in training leaves out, see [`Drops::draw`].
    pub fn drops(&self, batch: usize, stream: &mut Stream, device: &Device) -> Drops {
        Drops::draw(self.drop_path, self.depth, 2, batch, stream, device)
    }

    /// What the blocks are told about the places of the patches of `grid` and what stands before them.
    ///
    /// # Errors
    /// The table of relative positions is for another grid.
    pub(crate) fn places(&self, grid: [usize; 2], device: &Device) -> Result<Places> {
        if self.relative_positions && grid != self.grid() {
            return Err(Error::usage(format!(
                "the table of relative positions is for {:?} patches, not for {grid:?}",
                self.grid()
            ))
            .hint("prepare the pictures at the size on the encoder's card"));
        }
        let head_dim = self.width / self.heads;
        Ok(Places {
            bias: None,
            rotary: self.rotary.map(|rotary| rotary.rotation(grid, self.prefix(), head_dim, device)),
            relations: self.relative_positions.then(|| relations(grid, device)),
        })
    }
}

/// For each pair of tokens its row in BEiT's table: a class token and the patches of `grid` (`BeitRelativePositionBias`
/// of transformers). Rows are ordered by the difference of rows, then of columns; the last three are class to patch,
/// patch to class, class to class.
fn relations(grid: [usize; 2], device: &Device) -> Tensor<1, Int> {
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
    Tensor::from_data(TensorData::new(values, [tokens * tokens]), device)
}

/// A vision transformer. See the module documentation.
#[derive(Module, Debug)]
pub struct Vit {
    /// `[1, 1, width]`.
    pub cls_token: Option<Param<Tensor<3>>>,
    /// `[1, 1, width]`.
    pub dist_token: Option<Param<Tensor<3>>>,
    /// `[1, registers, width]`.
    pub reg_token: Option<Param<Tensor<3>>>,
    /// `[1, tokens before the patches that have a place + patches, width]`.
    pub pos_embed: Option<Param<Tensor<3>>>,
    /// Patches to tokens.
    pub patch_embed: PatchEmbed,
    /// CLIP's `ln_pre`.
    pub norm_pre: Option<LayerNorm>,
    /// The transformer.
    pub blocks: Vec<Block>,
    /// The norm after the last block.
    pub norm: Option<LayerNorm>,
    #[module(skip)]
    config: VitConfig,
}

/// The patch embedding, a convolution whose kernel equals its stride; weight `[width, 3, patch, patch]`.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    /// Holds the parameters; the product itself is a matrix product.
    pub proj: Conv2d,
}

impl PatchEmbed {
    /// A patch embedding with placeholder weights.
    pub(super) fn new(width: usize, patch: usize, bias: bool, device: &Device) -> Self {
        let proj = Conv2dConfig::new([3, width], [patch, patch]).with_stride([patch, patch]).with_bias(bias);
        Self { proj: proj.init(device) }
    }

    /// `[batch, 3, height, width]` to `[batch, patches, width]`, row by row.
    pub(super) fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        let [batch, channels, height, width] = pixels.dims();
        let weight = self.proj.weight.val();
        let [d, _, p, _] = weight.dims();
        let (rows, columns) = (height / p, width / p);
        let patches = pixels
            .reshape([batch, channels, rows, p, columns, p])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch * rows * columns, channels * p * p]);
        linear(patches, weight.reshape([d, channels * p * p]).transpose(), self.proj.bias.as_ref().map(Param::val))
            .reshape([batch, rows * columns, d])
    }
}

impl Vit {
    /// The numbers this network was built from.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Patch embeddings without positions: pictures `[batch, 3, height, width]` to `[batch, patches, width]`, and the grid
    /// of the patches. Pictures of the configuration's size lose what is left over on the right and at the bottom, as in
    /// a convolution with the patch as its stride (SigLIP-SO400M: 384 pixels, patches of 14). Smaller and larger ones are
    /// welcome if their sides are multiples of the patch.
    pub fn patches(&self, pixels: Tensor<4>) -> Result<(Tensor<3>, [usize; 2])> {
        let VitConfig { patch, image_size, .. } = self.config;
        let [batch, channels, height, width] = pixels.dims();
        let grid = [height / patch, width / patch];
        let pixels = if [height, width] == [image_size; 2] && !image_size.is_multiple_of(patch) {
            pixels.slice([0..batch, 0..channels, 0..grid[0] * patch, 0..grid[1] * patch])
        } else {
            pixels
        };
        check_pixels(&pixels, patch)?;
        Ok((self.patch_embed.forward(pixels), grid))
    }

    /// The position embeddings of the patches of `grid`, `[1, patches, width]`, if there are any; resampled (bicubic) if
    /// the grid is not that of the table.
    pub fn positions(&self, grid: [usize; 2]) -> Option<Tensor<3>> {
        let all = self.pos_embed.as_ref()?.val();
        let [_, count, width] = all.dims();
        let own = self.config.position_grid();
        let patches = all.slice([0..1, count - own[0] * own[1]..count, 0..width]);
        let kernel = if self.config.position_antialias { Kernel::SmoothBicubic } else { Kernel::Bicubic };
        let offset = self.config.position_offset;
        Some(if grid == own { patches } else { resample_tokens(patches, own, grid, kernel, offset) })
    }

    /// Adds positions, then all of [`Vit::with_prefix`].
    pub fn prepare(&self, patches: Tensor<3>, grid: [usize; 2]) -> Tensor<3> {
        self.with_prefix(match self.positions(grid) {
            Some(positions) => patches + positions,
            None => patches,
        })
    }

    /// Puts class token, distillation token and registers before patches that already have their positions, and applies
    /// the norm before the blocks: `[batch, patches, width]` to `[batch, prefix + patches, width]`.
    pub fn with_prefix(&self, patches: Tensor<3>) -> Tensor<3> {
        let [batch, _, width] = patches.dims();
        let placed = self.config.placed_prefix();
        let mut next = 0;
        let mut parts: Vec<Tensor<3>> = [&self.cls_token, &self.dist_token, &self.reg_token]
            .into_iter()
            .flatten()
            .map(|token| {
                let token = token.val();
                let [_, n, _] = token.dims();
                // Tokens with places come first, and a kind of token has places for all or for none.
                let from = next;
                next += n;
                let token = match &self.pos_embed {
                    Some(all) if from + n <= placed => token + all.val().slice([0..1, from..from + n, 0..width]),
                    _ => token,
                };
                token.expand([batch, n, width])
            })
            .collect();
        let tokens = if parts.is_empty() {
            patches
        } else {
            parts.push(patches);
            Tensor::cat(parts, 1)
        };
        match &self.norm_pre {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        }
    }

    /// All blocks, but for the branches that `drops` leaves out.
    pub fn run_blocks(&self, tokens: Tensor<3>, places: &Places, drops: &Drops) -> Tensor<3> {
        self.blocks.iter().enumerate().fold(tokens, |x, (i, block)| block.forward_dropping(x, places, drops, i))
    }

    /// The norm after the last block, if there is one.
    pub fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        match &self.norm {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        }
    }

    /// Splits `[batch, prefix + patches, width]` into the class token `[batch, width]`, if there is one, and the
    /// patches; other tokens are dropped.
    pub fn split(&self, tokens: Tensor<3>) -> (Option<Tensor<2>>, Tensor<3>) {
        let [batch, count, width] = tokens.dims();
        let class =
            self.config.class_token.then(|| tokens.clone().slice([0..batch, 0..1, 0..width]).reshape([batch, width]));
        let prefix = self.config.prefix();
        let patches = if prefix == 0 { tokens } else { tokens.slice([0..batch, prefix..count, 0..width]) };
        (class, patches)
    }

    pub(super) fn features(&self, pixels: Tensor<4>, tap: &Tap, drops: &Drops) -> Result<FeatureMap> {
        super::ArchitectureConfig::Vit(self.config.clone()).check_tap(tap)?;
        let layers = tap.indices(self.config.depth, "block")?;
        let (patches, grid) = self.patches(pixels)?;
        let places = self.config.places(grid, &patches.device())?;
        let mut tokens = self.prepare(patches, grid);
        let mut tapped = vec![None; layers.len()];
        for (i, block) in self.blocks.iter().enumerate().take(tap.deepest(self.config.depth, "block")? + 1) {
            tokens = block.forward_dropping(tokens, &places, drops, i);
            for (_, slot) in layers.iter().zip(&mut tapped).filter(|(layer, _)| **layer == i) {
                *slot = Some(self.tapped(tokens.clone(), tap, grid));
            }
        }
        tap.join(tapped.into_iter().flatten().collect())
    }

    /// What `tap` hands out of the tokens of a block.
    fn tapped(&self, tokens: Tensor<3>, tap: &Tap, grid: [usize; 2]) -> FeatureMap {
        let (class, patches) = self.split(tokens);
        let tokens = match (tap.tokens, class) {
            (Tokens::PatchAndClass, Some(class)) => Tensor::cat(vec![class.unsqueeze_dim(1), patches], 1),
            _ => patches,
        };
        FeatureMap { tokens: if tap.norm { self.final_norm(tokens) } else { tokens }, grid }
    }

    pub(super) fn summary(&self, pixels: Tensor<4>, drops: &Drops) -> Result<Tensor<2>> {
        let (patches, grid) = self.patches(pixels)?;
        let places = self.config.places(grid, &patches.device())?;
        let tokens = self.run_blocks(self.prepare(patches, grid), &places, drops);
        let (class, patches) = self.split(tokens);
        // Only the token that is read needs its norm.
        Ok(match class {
            Some(class) => {
                let normed = self.final_norm(class.unsqueeze_dim(1));
                normed.squeeze_dim(1)
            }
            None => self.final_norm(patches).mean_dim(1).squeeze_dim(1),
        })
    }
}
