//! SAM's image encoder (Kirillov et al. 2023, arXiv:2304.02643; ViTDet, Li et al. 2022): a vision transformer for large
//! pictures, most of whose blocks attend within windows only. Parameter paths are those of `segment_anything`'s
//! `ImageEncoderViT`, but for the MLP's (`lin1`, `lin2` there). The neck that leads to its mask decoder is left out.

use super::block::{Activation, Mlp};
use super::fields::{is_yes, yes};
use super::tap::outputs;
use super::vit::{LARGEST, PatchEmbed};
use super::{Tap, check_pixels};
use crate::attention::{Bias, attend};
use crate::features::FeatureMap;
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// The numbers of a SAM image encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamConfig {
    /// Side of the square pictures, in pixels; positions are for this size.
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
    /// Side of a window, in patches.
    pub window: usize,
    /// The blocks (0 is the first) that attend over the whole picture.
    pub global_blocks: Vec<usize>,
    /// Added to the variance in every norm. Default 1e-6.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Learned positions added to the patches. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub absolute_positions: bool,
}

fn default_eps() -> f64 {
    1e-6
}

impl SamConfig {
    /// Says what is wrong with the numbers, if anything.
    pub fn validate(&self) -> Result<()> {
        let numbers = [self.image_size, self.patch, self.width, self.depth, self.heads, self.mlp_hidden, self.window];
        let divides = numbers.iter().all(|n| (1..=LARGEST).contains(n))
            && self.image_size.is_multiple_of(self.patch)
            && self.width.is_multiple_of(self.heads);
        if !divides || self.global_blocks.iter().any(|b| *b >= self.depth) {
            return Err(Error::usage(format!(
                "a SAM encoder cannot have image_size {}, patch {}, width {}, depth {}, heads {}, mlp_hidden {}, window {}, global_blocks {:?}",
                self.image_size, self.patch, self.width, self.depth, self.heads, self.mlp_hidden, self.window, self.global_blocks
            ))
            .hint("all must be positive and at most 65536, patch must divide image_size, heads must divide width, global_blocks must be below depth"));
        }
        Ok(())
    }

    /// Patches on one side.
    pub(super) fn side(&self) -> usize {
        self.image_size / self.patch
    }

    /// Multiply-adds of one picture up to the output of block number `blocks`.
    pub(super) fn multiply_adds(&self, blocks: usize) -> u64 {
        let (width, hidden, side) = (self.width as u64, self.mlp_hidden as u64, self.side() as u64);
        let embed = side * side * width * (3 * self.patch * self.patch) as u64;
        let block = |b: usize| {
            let (windows, reach) = if self.global_blocks.contains(&b) {
                (1, side)
            } else {
                (side.div_ceil(self.window as u64).pow(2), self.window as u64)
            };
            let tokens = windows * reach * reach;
            // Scores, mixing, and the two products with the relative positions.
            let attention = tokens * (4 * width * width + 2 * reach * reach * width + 2 * reach * width);
            attention + side * side * 2 * width * hidden
        };
        embed + (0..blocks).map(block).sum::<u64>()
    }

    /// A network with placeholder weights; the configuration must be valid.
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

/// A SAM image encoder. See the module documentation.
#[derive(Module, Debug)]
pub struct Sam {
    /// `[1, rows, columns, width]`.
    pub pos_embed: Option<Param<Tensor<4>>>,
    /// Patches to tokens.
    pub patch_embed: PatchEmbed,
    /// The transformer.
    pub blocks: Vec<Block>,
    #[module(skip)]
    config: SamConfig,
}

/// A pre-norm block over windows or over the whole picture.
#[derive(Module, Debug)]
pub struct Block {
    /// Before attention.
    pub norm1: LayerNorm,
    /// Self-attention.
    pub attn: Attention,
    /// Before the MLP.
    pub norm2: LayerNorm,
    /// The MLP.
    pub mlp: Mlp,
    #[module(skip)]
    window: Option<usize>,
}

/// Self-attention with decomposed relative positions (Li et al. 2022, arXiv:2112.01526): a query's product with a
/// learned vector for each difference of rows, and one for each difference of columns, is added to its scores.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[width, 3 * width]`: queries, keys, values.
    pub qkv: Linear,
    /// `[width, width]`.
    pub proj: Linear,
    /// `[2 * rows - 1, head_dim]`.
    pub rel_pos_h: Param<Tensor<2>>,
    /// `[2 * columns - 1, head_dim]`.
    pub rel_pos_w: Param<Tensor<2>>,
    heads: usize,
}

impl Attention {
    /// `x` is `[pictures or windows, side, side, width]`, and so is what it returns.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, side, _, width] = x.dims();
        let (tokens, heads, head_dim) = (side * side, self.heads, width / self.heads);
        let qkv = self.qkv.forward(x.reshape([batch * tokens, width]));
        // Views of one tensor: nothing is copied.
        let qkv = qkv.reshape([batch, tokens, 3 * heads, head_dim]);
        let [q, k, v] = std::array::from_fn(|i| qkv.clone().narrow(2, i * heads, heads).swap_dims(1, 2));
        let grid: Tensor<5> = q.clone().reshape([batch, heads, side, side, head_dim]);
        // By row: [.., row, column, key row]; by column, with the axes swapped there and back.
        let down = by_difference(grid.clone(), &self.rel_pos_h);
        let across = by_difference(grid.swap_dims(2, 3), &self.rel_pos_w).swap_dims(2, 3);
        let whole = |part: Tensor<5>| part.reshape([batch, heads, tokens, side]);
        let bias = Bias::ByAxis { down: whole(down), across: whole(across) };
        let mixed = attend(q, k, v, bias, None).reshape([batch * tokens, width]);
        self.proj.forward(mixed).reshape([batch, side, side, width])
    }
}

/// Products of queries `[batch, heads, along, other, head_dim]` with the vectors for the differences of their place on
/// the third axis from all places on it: `[batch, heads, along, other, keys]`.
fn by_difference(queries: Tensor<5>, table: &Param<Tensor<2>>) -> Tensor<5> {
    let [batch, heads, along, other, head_dim] = queries.dims();
    let rows: Vec<i64> = (0..along * along).map(|i| (i / along + along - 1 - i % along) as i64).collect();
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [along * along]), &queries.device());
    let vectors = table.val().select(0, rows).reshape([along, along, head_dim]);
    // One product per place on the axis.
    let queries = queries.permute([2, 0, 1, 3, 4]).reshape([along, batch * heads * other, head_dim]);
    let products = queries.matmul(vectors.swap_dims(1, 2));
    products.reshape([along, batch, heads, other, along]).permute([1, 2, 0, 3, 4])
}

impl Block {
    /// `x` is `[batch, side, side, width]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, side, _, width] = x.dims();
        let normed = self.norm1.forward(x.clone());
        let branch = match self.window {
            Some(window) => whole(self.attn.forward(windows(normed, window)), batch, side),
            None => self.attn.forward(normed),
        };
        let x = (x + branch).reshape([batch * side * side, width]);
        let normed = self.norm2.forward(x.clone());
        self.mlp.residual(x, normed).reshape([batch, side, side, width])
    }
}

/// `[batch, side, side, width]` in windows `[batch * windows, window, window, width]`. What is missing to a whole number
/// of windows is filled with zeros at the bottom and on the right; those places take part in attention, as upstream.
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

/// The reverse of [`windows`].
fn whole(x: Tensor<4>, batch: usize, side: usize) -> Tensor<4> {
    let [_, window, _, width] = x.dims();
    let count = side.div_ceil(window);
    let x: Tensor<6> = x.reshape([batch, count, count, window, window, width]);
    let x: Tensor<4> = x.swap_dims(2, 3).reshape([batch, count * window, count * window, width]);
    if count * window == side { x } else { x.slice([0..batch, 0..side, 0..side, 0..width]) }
}

impl Sam {
    /// The numbers this network was built from.
    pub fn config(&self) -> &SamConfig {
        &self.config
    }

    /// The outputs of the blocks of these numbers, in their order.
    fn run(&self, pixels: Tensor<4>, layers: &[usize]) -> Result<Vec<Tensor<4>>> {
        let [batch, _, height, width] = pixels.dims();
        let side = self.config.side();
        if [height, width] != [self.config.image_size; 2] {
            return Err(Error::failed(format!(
                "a SAM encoder for {0}x{0} pixels cannot take pictures of {height}x{width}",
                self.config.image_size
            ))
            .hint("resize the pictures to the size on the encoder's card"));
        }
        check_pixels(&pixels, self.config.patch)?;
        let x = self.patch_embed.forward(pixels).reshape([batch, side, side, self.config.width]);
        let x = match &self.pos_embed {
            Some(positions) => x + positions.val(),
            None => x,
        };
        Ok(outputs(x, layers, &self.blocks, |_, block, x| block.forward(x)))
    }

    pub(super) fn features(&self, pixels: Tensor<4>, tap: &Tap) -> Result<FeatureMap> {
        super::ArchitectureConfig::Sam(self.config.clone()).check_tap(tap)?;
        let maps = self.run(pixels, &tap.indices(self.config.depth, "block")?)?;
        tap.join(maps.into_iter().map(FeatureMap::of_places).collect())
    }

    pub(super) fn summary(&self, pixels: Tensor<4>) -> Result<Tensor<2>> {
        let x = self.run(pixels, &[self.config.depth.saturating_sub(1)])?.pop();
        let x = x.ok_or_else(|| Error::failed("a SAM encoder without blocks has no features"))?;
        Ok(FeatureMap::of_places(x).tokens.mean_dim(1).squeeze_dim(1))
    }
}
