//! Vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929), with the options in which the checkpoints of CLIP,
//! SigLIP, DINOv2 and DINOv3, MAE, EVA-02, BEiT, AIMv2, InternViT, C-RADIO and supervised training differ. Parameter
//! paths are those of timm's `VisionTransformer`.
//!
//! The forward pass has one method per point at which pretraining objectives change tokens: [`Vit::patches`] → (MAE
//! drops tokens, DINOv2 inserts mask tokens) → [`Vit::prepare`] → [`Vit::run_blocks`] → [`Vit::final_norm`].

mod config;
mod relative;

pub use config::{PositionKernel, VitConfig};
pub use relative::{LogCoordinates, RelativeBias, RelativeMlp};

use super::block::{AttentionPositions, Block};
use super::channel_norm::ChannelNorm;
use super::drop_path::DropPathMask;
use super::limits::check_pixels;
use super::network::Network;
use super::tap::{Tap, Tokens, outputs};
use crate::features::{FeatureMap, resample_tokens};
use crate::operands::Rotation;
use crate::transfer;
use burgess_base::Result;
use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor, TensorData, module::linear};

/// A vision transformer; see the module documentation.
#[derive(Module, Debug)]
pub struct Vit {
    /// Class tokens, `[1, class tokens, width]`.
    pub cls_token: Option<Param<Tensor<3>>>,
    /// Distillation token (DeiT), `[1, 1, width]`.
    pub dist_token: Option<Param<Tensor<3>>>,
    /// Register tokens, `[1, registers, width]`.
    pub reg_token: Option<Param<Tensor<3>>>,
    /// Position embeddings, `[1, prefix tokens with a position embedding + patches, width]`.
    pub pos_embed: Option<Param<Tensor<3>>>,
    /// Angles by which the class token is rotated (MLCD), `[1, head_dim / 2]`.
    pub class_pos_emb: Option<Param<Tensor<2>>>,
    /// Rotary frequencies of all blocks and heads (RoPE-ViT's mixed embedding).
    pub rope: Option<MixedRotary>,
    /// MLP of the relative position bias that all blocks share.
    pub shared_rel_pos: Option<RelativeBias>,
    /// Patch embedding from pixels to tokens.
    pub patch_embed: PatchEmbed,
    /// Norm before the first block (CLIP's `ln_pre`).
    pub norm_pre: Option<ChannelNorm>,
    /// The transformer blocks, in order.
    pub blocks: Vec<Block>,
    /// Norm after the last block.
    pub norm: Option<ChannelNorm>,
    #[module(skip)]
    config: VitConfig,
}

/// Learned rotary frequencies.
#[derive(Module, Debug)]
pub struct MixedRotary {
    /// Angle per patch along the first and the second axis, `[2, depth, heads, head_dim / 2]`.
    pub freqs: Param<Tensor<4>>,
}

impl MixedRotary {
    /// The rotation of each block for `prefix` tokens, which are not rotated, and the patches of `grid`.
    fn rotations(&self, grid: [usize; 2], prefix: usize, columns_first: bool, device: &Device) -> Vec<Rotation<3>> {
        let [_, depth, heads, half] = self.freqs.dims();
        let [rows, columns] = grid;
        let patches = rows * columns;
        let place = |axis: fn(usize, usize) -> usize| -> Tensor<3> {
            let values: Vec<f32> = (0..patches).map(|patch| axis(patch, columns) as f32).collect();
            transfer::to_device(TensorData::new(values, [1, patches, 1]), device)
        };
        let (row, column) = (place(|patch, columns| patch / columns), place(|patch, columns| patch % columns));
        let places = if columns_first { [column, row] } else { [row, column] };
        let freqs = self.freqs.val();
        let rotation = |block: usize| {
            let [first, second] = std::array::from_fn(|axis| {
                let own = freqs.clone().slice([axis..axis + 1, block..block + 1, 0..heads, 0..half]);
                own.reshape([heads, 1, half]) * places[axis].clone()
            });
            // Both channels of a pair have the same angle.
            let angles: Tensor<4> = (first + second).unsqueeze_dim(3);
            let angles: Tensor<3> = angles.repeat_dim(3, 2).reshape([heads, patches, 2 * half]);
            let whole = |patches: Tensor<3>, fixed: f32| match prefix {
                0 => patches,
                n => Tensor::cat(vec![Tensor::full([heads, n, 2 * half], fixed, device), patches], 1),
            };
            Rotation { cos: whole(angles.clone().cos(), 1.0), sin: whole(angles.sin(), 0.0) }
        };
        (0..depth).map(rotation).collect()
    }
}

/// The patch embedding, a convolution whose kernel equals its stride, and an optional norm.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    /// Parameters of the convolution, weight `[width, 3, patch, patch]`; it is computed as a matrix product.
    pub proj: Conv2d,
    /// Norm of the embeddings (AIMv2).
    pub norm: Option<ChannelNorm>,
}

impl PatchEmbed {
    /// Builds a patch embedding with placeholder weights.
    pub(super) fn new(width: usize, patch: usize, bias: bool, device: &Device) -> Self {
        let proj = Conv2dConfig::new([3, width], [patch, patch]).with_stride([patch, patch]).with_bias(bias);
        Self { proj: proj.init(device), norm: None }
    }

    /// Maps `[batch, 3, height, width]` to `[batch, patches, width]`, in row-major order.
    pub(super) fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        let [batch, channels, height, width] = pixels.dims();
        let weight = self.proj.weight.val();
        let [d, _, p, _] = weight.dims();
        let (rows, columns) = (height / p, width / p);
        let patches = pixels
            .reshape([batch, channels, rows, p, columns, p])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch * rows * columns, channels * p * p]);
        let weight = weight.reshape([d, channels * p * p]).transpose();
        let tokens = linear(patches, weight, self.proj.bias.as_ref().map(Param::val));
        let tokens = match &self.norm {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        };
        tokens.reshape([batch, rows * columns, d])
    }
}

impl Vit {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Embeds the patches of images `[batch, 3, height, width]`, without position embeddings.
    ///
    /// Returns the embeddings `[batch, patches, width]` and the grid. An image of the configured size loses incomplete
    /// patches on the right and at the bottom, as in a convolution with the patch as its stride (SigLIP-SO400M: 384
    /// pixels, patches of 14). The sides of images of other sizes must be multiples of the patch.
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

    /// The position embeddings of the patches of `grid`, `[1, patches, width]`, if there are any; resampled if the grid
    /// differs from that of the stored embeddings.
    pub fn positions(&self, grid: [usize; 2]) -> Option<Tensor<3>> {
        if self.config.sine_positions {
            let device = self.patch_embed.proj.weight.val().device();
            return Some(config::sine_positions(grid, self.config.width, &device));
        }
        let all = self.pos_embed.as_ref()?.val();
        let [_, count, width] = all.dims();
        let own = self.config.position_grid();
        let patches = all.slice([0..1, count - own[0] * own[1]..count, 0..width]);
        let (kernel, offset) = (self.config.kernel(), self.config.position_offset);
        Some(if grid == own { patches } else { resample_tokens(patches, own, grid, kernel, offset) })
    }

    /// Adds position embeddings to the patches, then applies [`Vit::with_prefix`].
    pub fn prepare(&self, patches: Tensor<3>, grid: [usize; 2]) -> Tensor<3> {
        self.with_prefix(match self.positions(grid) {
            Some(positions) => patches + positions,
            None => patches,
        })
    }

    /// Prepends class token, distillation token and registers to patches that already have their position embeddings,
    /// and applies the norm before the blocks: `[batch, patches, width]` to `[batch, prefix + patches, width]`.
    pub fn with_prefix(&self, patches: Tensor<3>) -> Tensor<3> {
        let [batch, _, width] = patches.dims();
        let placed = self.config.positioned_prefix();
        let mut next = 0;
        let mut parts: Vec<Tensor<3>> = [&self.cls_token, &self.dist_token, &self.reg_token]
            .into_iter()
            .flatten()
            .map(|token| {
                let token = token.val();
                let [_, n, _] = token.dims();
                // Tokens with a position embedding come first, and all tokens of a kind have one or none has.
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

    /// Position information that the blocks need for the patches of `grid` and the tokens before them.
    ///
    /// # Errors
    /// `grid` differs from the grid of the relative position bias table.
    pub fn attention_positions(&self, grid: [usize; 2], device: &Device) -> Result<AttentionPositions> {
        let mut positions = self.config.attention_positions(grid, device)?;
        if let (Some(rotation), Some(class)) = (&mut positions.rotary, &self.class_pos_emb) {
            let [tokens, head_dim] = rotation.cos.dims();
            // Both channels of a pair have the same angle.
            let angles = class.val().swap_dims(0, 1).repeat_dim(1, 2).reshape([1, head_dim]);
            let join = |class: Tensor<2>, patches: &Tensor<2>| {
                Tensor::cat(vec![class, patches.clone().slice([1..tokens, 0..head_dim])], 0)
            };
            let (cos, sin) = (join(angles.clone().cos(), &rotation.cos), join(angles.sin(), &rotation.sin));
            *rotation = Rotation { cos, sin };
        }
        if let (Some(rope), Some(rotary)) = (&self.rope, &self.config.rotary) {
            positions.block_rotary = rope.rotations(grid, self.config.prefix(), rotary.columns_first, device);
        }
        if let (Some(mlp), Some(coordinates)) = (&self.shared_rel_pos, &positions.log_coordinates) {
            positions.bias = Some(mlp.forward(coordinates));
        }
        Ok(positions)
    }

    /// Runs all blocks with the drop-path mask `drop_path`; `tokens` is `[batch, tokens, width]`.
    pub fn run_blocks(&self, tokens: Tensor<3>, positions: &AttentionPositions, drop_path: &DropPathMask) -> Tensor<3> {
        self.blocks
            .iter()
            .enumerate()
            .fold(tokens, |x, (i, block)| block.forward_with_drop_path(x, positions, drop_path, i))
    }

    /// Applies the norm after the last block, if there is one.
    pub fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        match &self.norm {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        }
    }

    /// Splits `[batch, prefix + patches, width]` into the (first) class token `[batch, width]`, if there is one, and
    /// the patches `[batch, patches, width]`; all other tokens are discarded.
    pub fn split(&self, tokens: Tensor<3>) -> (Option<Tensor<2>>, Tensor<3>) {
        let [batch, count, width] = tokens.dims();
        let class =
            self.config.class_token.then(|| tokens.clone().slice([0..batch, 0..1, 0..width]).reshape([batch, width]));
        let prefix = self.config.prefix();
        let patches = if prefix == 0 { tokens } else { tokens.slice([0..batch, prefix..count, 0..width]) };
        (class, patches)
    }

    /// Selects the tokens that `tap` asks for from a block's output, and applies the final norm if it says so.
    fn tapped(&self, tokens: Tensor<3>, tap: &Tap, grid: [usize; 2]) -> FeatureMap {
        let (class, patches) = self.split(tokens);
        let tokens = match (tap.tokens, class) {
            (Tokens::PatchAndClass, Some(class)) => Tensor::cat(vec![class.unsqueeze_dim(1), patches], 1),
            _ => patches,
        };
        FeatureMap { tokens: if tap.norm { self.final_norm(tokens) } else { tokens }, grid }
    }
}

impl Network for Vit {
    fn features(&self, pixels: Tensor<4>, tap: &Tap, drop_path: &DropPathMask) -> Result<FeatureMap> {
        let layers = tap.indices(self.config.depth, "block")?;
        let (patches, grid) = self.patches(pixels)?;
        let positions = self.attention_positions(grid, &patches.device())?;
        let run = |i: usize, block: &Block, x| block.forward_with_drop_path(x, &positions, drop_path, i);
        let tokens = outputs(self.prepare(patches, grid), &layers, &self.blocks, run);
        tap.join(tokens.into_iter().map(|tokens| self.tapped(tokens, tap, grid)).collect())
    }

    fn pooled(&self, pixels: Tensor<4>, drop_path: &DropPathMask) -> Result<Tensor<2>> {
        let (patches, grid) = self.patches(pixels)?;
        let positions = self.attention_positions(grid, &patches.device())?;
        let tokens = self.run_blocks(self.prepare(patches, grid), &positions, drop_path);
        // The norm is applied per token: the class tokens do not need those of the others.
        Ok(match self.config.class_count() {
            count @ 1.. => self.final_norm(tokens.narrow(1, 0, count)).mean_dim(1).squeeze_dim(1),
            0 => {
                let (_, patches) = self.split(tokens);
                self.final_norm(patches).mean_dim(1).squeeze_dim(1)
            }
        })
    }
}
