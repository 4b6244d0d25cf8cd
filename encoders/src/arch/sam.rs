//! SAM's image encoder (Kirillov et al. 2023, arXiv:2304.02643; ViTDet, Li et al. 2022): a vision transformer for large
//! images, in which most blocks use window attention. Parameter paths are those of `segment_anything`'s
//! `ImageEncoderViT`, except the MLP's (`lin1`, `lin2` there). The neck before the mask decoder is left out.

use super::block::Mlp;
use super::drop_path::{DropPathMask, DropPathSpec};
use super::fields::{is_yes, yes};
use super::limits::{MAX_SIZE, check_patches, check_pixels};
use super::network::{Network, NetworkConfig, TapSupport};
use super::tap::{Tap, outputs};
use super::vit::PatchEmbed;
use crate::features::FeatureMap;
use crate::kernel::{self, Operand};
use crate::operands::{Activation, Bias};
use crate::transfer;
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a SAM image encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SamConfig {
    /// Side of the square input images, in pixels; the position embeddings are for this size.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch: usize,
    /// Channels of a token, the embedding dimension.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads per block.
    pub heads: usize,
    /// Hidden channels of the MLP.
    pub mlp_hidden: usize,
    /// Side of an attention window, in patches.
    pub window: usize,
    /// Indices of the blocks with global attention; the others use window attention.
    pub global_blocks: Vec<usize>,
    /// Epsilon added to the variance in every norm. Default 1e-6.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Whether learned position embeddings are added to the patches. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub absolute_positions: bool,
}

fn default_eps() -> f64 {
    1e-6
}

impl SamConfig {
    /// Number of patches per side of the image.
    fn side(&self) -> usize {
        self.image_size / self.patch
    }

    /// Multiply-add operations for one image through the first `blocks` blocks.
    fn multiply_adds(&self, blocks: usize) -> u64 {
        let (width, hidden, side) = (self.width as u64, self.mlp_hidden as u64, self.side() as u64);
        let embed = side * side * width * (3 * self.patch * self.patch) as u64;
        let block = |b: usize| {
            let (windows, reach) = if self.global_blocks.contains(&b) {
                (1, side)
            } else {
                (side.div_ceil(self.window as u64).pow(2), self.window as u64)
            };
            let tokens = windows * reach * reach;
            // The terms are the four projections, scores and weighted values, and the two products with `rel_pos`.
            let attention = tokens * (4 * width * width + 2 * reach * reach * width + 2 * reach * width);
            attention + side * side * 2 * width * hidden
        };
        embed + (0..blocks).map(block).sum::<u64>()
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Sam {
        let norm = || LayerNormConfig::new(self.width).with_epsilon(self.norm_eps).init(device);
        let side = self.side();
        let blocks = (0..self.depth).map(|b| {
            let reach = if self.global_blocks.contains(&b) { side } else { self.window };
            let relative = || Initializer::Zeros.init([2 * reach - 1, self.width / self.heads], device);
            Block {
                norm1: norm(),
                attn: Attention {
                    qkv: LinearConfig::new(self.width, 3 * self.width).init(device),
                    proj: LinearConfig::new(self.width, self.width).init(device),
                    rel_pos_h: relative(),
                    rel_pos_w: relative(),
                    heads: self.heads,
                },
                norm2: norm(),
                mlp: Mlp::new(self.width, self.mlp_hidden, self.width, Activation::Gelu, device),
                window: (!self.global_blocks.contains(&b)).then_some(self.window),
            }
        });
        Sam {
            pos_embed: self.absolute_positions.then(|| Initializer::Zeros.init([1, side, side, self.width], device)),
            patch_embed: PatchEmbed::new(self.width, self.patch, true, device),
            blocks: blocks.collect(),
            config: self.clone(),
        }
    }
}

impl NetworkConfig for SamConfig {
    fn computes_bf16(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<()> {
        check_patches(self.image_size, self.patch)?;
        let numbers = [self.image_size, self.patch, self.width, self.depth, self.heads, self.mlp_hidden, self.window];
        let divides = numbers.iter().all(|n| (1..=MAX_SIZE).contains(n))
            && self.image_size.is_multiple_of(self.patch)
            && self.width.is_multiple_of(self.heads);
        if !divides || self.global_blocks.iter().any(|b| *b >= self.depth) {
            return Err(Error::usage(format!(
                "invalid SAM encoder: image_size {}, patch {}, width {}, depth {}, heads {}, mlp_hidden {}, window {}, global_blocks {:?}",
                self.image_size, self.patch, self.width, self.depth, self.heads, self.mlp_hidden, self.window, self.global_blocks
            ))
            .hint("all must be positive and at most 65536, patch must divide image_size, heads must divide width, global_blocks must be below depth"));
        }
        Ok(())
    }

    fn image_size(&self) -> usize {
        self.image_size
    }

    fn min_layers(&self) -> usize {
        self.depth
    }

    fn tap_support(&self, tap: &Tap) -> Result<TapSupport> {
        tap.indices(self.depth, "block")?;
        Ok(TapSupport { final_norm: false, class_token: false })
    }

    fn tap_sides(&self, _tap: &Tap) -> Result<Vec<usize>> {
        Ok(vec![self.side()])
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
        false
    }

    fn drop_path(&self) -> Option<DropPathSpec> {
        None
    }
}

/// A SAM image encoder; see the module documentation.
#[derive(Module, Debug)]
pub struct Sam {
    /// Absolute position embeddings, `[1, rows, columns, width]`.
    pub pos_embed: Option<Param<Tensor<4>>>,
    /// Patch embedding from pixels to tokens.
    pub patch_embed: PatchEmbed,
    /// The transformer blocks, in order.
    pub blocks: Vec<Block>,
    #[module(skip)]
    config: SamConfig,
}

/// A pre-norm block with window attention or global attention.
#[derive(Module, Debug)]
pub struct Block {
    /// Layer norm before attention.
    pub norm1: LayerNorm,
    /// Self-attention with decomposed relative positions.
    pub attn: Attention,
    /// Layer norm before the MLP.
    pub norm2: LayerNorm,
    /// The two-layer MLP.
    pub mlp: Mlp,
    #[module(skip)]
    window: Option<usize>,
}

/// Self-attention with decomposed relative positions (Li et al. 2022, arXiv:2112.01526): the dot products of a query
/// with a learned vector per row offset and with one per column offset are added to its scores.
#[derive(Module, Debug)]
pub struct Attention {
    /// Projection to queries, keys and values in this order, `[width, 3 * width]`.
    pub qkv: Linear,
    /// Output projection, `[width, width]`.
    pub proj: Linear,
    /// Relative position embeddings of row offsets, `[2 * rows - 1, head_dim]`.
    pub rel_pos_h: Param<Tensor<2>>,
    /// Relative position embeddings of column offsets, `[2 * columns - 1, head_dim]`.
    pub rel_pos_w: Param<Tensor<2>>,
    heads: usize,
}

impl Attention {
    /// Maps `x`, `[images or windows, side, side, width]`, to a tensor of the same shape.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, side, _, width] = x.dims();
        let (tokens, heads, head_dim) = (side * side, self.heads, width / self.heads);
        let qkv = kernel::linear(x.reshape([batch * tokens, width]), &self.qkv);
        // `narrow` makes views of one tensor: nothing is copied.
        let qkv = qkv.reshape([batch, tokens, 3 * heads, head_dim]);
        let [q, k, v] = std::array::from_fn(|i| qkv.clone().narrow(2, i * heads, heads).swap_dims(1, 2));
        let grid: Tensor<5> = q.clone().reshape([batch, heads, side, side, head_dim]);
        // `down` is `[batch, heads, row, column, key row]`; `across` is computed with rows and columns swapped.
        let down = by_difference(grid.clone(), &self.rel_pos_h);
        let across = by_difference(grid.swap_dims(2, 3), &self.rel_pos_w).swap_dims(2, 3);
        let whole = |part: Tensor<5>| part.reshape([batch, heads, tokens, side]);
        let bias = Bias::ByAxis { down: whole(down), across: whole(across) };
        let mixed = kernel::attention_for(&self.proj, [q, k, v], bias, None);
        kernel::linear(mixed, &self.proj).reshape([batch, side, side, width])
    }
}

/// Dot products of queries `[batch, heads, along, other, head_dim]` with the relative position embeddings for the
/// offsets between their position on the third axis and every key position: `[batch, heads, along, other, keys]`.
fn by_difference(queries: Tensor<5>, table: &Param<Tensor<2>>) -> Tensor<5> {
    let [batch, heads, along, other, head_dim] = queries.dims();
    let rows: Vec<i64> = (0..along * along).map(|i| (i / along + along - 1 - i % along) as i64).collect();
    let rows = transfer::to_device::<1, Int>(TensorData::new(rows, [along * along]), &queries.device());
    let vectors = table.val().select(0, rows).reshape([along, along, head_dim]);
    // One matrix product per position on the axis, because queries at one position share their vectors.
    let queries = queries.permute([2, 0, 1, 3, 4]).reshape([along, batch * heads * other, head_dim]);
    let products = queries.matmul(vectors.swap_dims(1, 2));
    products.reshape([along, batch, heads, other, along]).permute([1, 2, 0, 3, 4])
}

impl Block {
    /// Runs the block on `x` of shape `[batch, side, side, width]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, side, _, width] = x.dims();
        let normed = self.norm1.forward(x.clone());
        let branch = match self.window {
            Some(window) => whole(self.attn.forward(windows(normed, window)), batch, side),
            None => self.attn.forward(normed),
        };
        let x = (x + branch).reshape([batch * side * side, width]);
        let normed = self.norm2.forward(x.clone());
        self.mlp.residual(x, Operand::Tensor(normed)).reshape([batch, side, side, width])
    }
}

/// Partitions `[batch, side, side, width]` into windows `[batch * windows, window, window, width]`, zero-padded at the
/// bottom and on the right to whole windows. As upstream, the padding takes part in attention.
fn windows(x: Tensor<4>, window: usize) -> Tensor<4> {
    let [batch, side, _, width] = x.dims();
    let device = x.device();
    let count = side.div_ceil(window);
    let missing = count * window - side;
    let x = if missing == 0 {
        x
    } else {
        let x = Tensor::cat(vec![x, Tensor::zeros([batch, side, missing, width], &device)], 2);
        Tensor::cat(vec![x, Tensor::zeros([batch, missing, side + missing, width], &device)], 1)
    };
    let x: Tensor<6> = x.reshape([batch, count, window, count, window, width]);
    x.swap_dims(2, 3).reshape([batch * count * count, window, window, width])
}

/// Reverses [`windows`] and removes the padding; returns `[batch, side, side, width]`.
fn whole(x: Tensor<4>, batch: usize, side: usize) -> Tensor<4> {
    let [_, window, _, width] = x.dims();
    let count = side.div_ceil(window);
    let x: Tensor<6> = x.reshape([batch, count, count, window, window, width]);
    let x: Tensor<4> = x.swap_dims(2, 3).reshape([batch, count * window, count * window, width]);
    if count * window == side { x } else { x.slice([0..batch, 0..side, 0..side, 0..width]) }
}

impl Sam {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &SamConfig {
        &self.config
    }

    /// Outputs of the blocks with the indices `layers`, in that order, each `[batch, side, side, width]`.
    fn run(&self, pixels: Tensor<4>, layers: &[usize]) -> Result<Vec<Tensor<4>>> {
        let [batch, _, height, width] = pixels.dims();
        let side = self.config.side();
        if [height, width] != [self.config.image_size; 2] {
            return Err(Error::failed(format!(
                "this SAM encoder processes images of {0}x{0} pixels, got {height}x{width}",
                self.config.image_size
            ))
            .hint("resize the images to the size on the encoder's card"));
        }
        check_pixels(&pixels, self.config.patch)?;
        let x = self.patch_embed.forward(pixels).reshape([batch, side, side, self.config.width]);
        let x = match &self.pos_embed {
            Some(positions) => x + positions.val(),
            None => x,
        };
        Ok(outputs(x, layers, &self.blocks, |_, block, x| block.forward(x)))
    }
}

impl Network for Sam {
    fn features(&self, pixels: Tensor<4>, tap: &Tap, _drop_path: &DropPathMask) -> Result<FeatureMap> {
        let maps = self.run(pixels, &tap.indices(self.config.depth, "block")?)?;
        tap.join(maps.into_iter().map(FeatureMap::from_channels_last).collect())
    }

    fn pooled(&self, pixels: Tensor<4>, _drop_path: &DropPathMask) -> Result<Tensor<2>> {
        let x = self.run(pixels, &[self.config.depth.saturating_sub(1)])?.pop();
        let x = x.ok_or_else(|| Error::failed("a SAM encoder without blocks has no features"))?;
        Ok(FeatureMap::from_channels_last(x).tokens.mean_dim(1).squeeze_dim(1))
    }
}
