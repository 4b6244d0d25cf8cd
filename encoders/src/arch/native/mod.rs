//! Vision transformers for images of any size and aspect ratio: SigLIP 2 NaFlex (Tschannen et al. 2025,
//! arXiv:2502.14786), the towers of Qwen2.5-VL (arXiv:2502.13923) and Qwen3-VL, MoonViT (Kimi-VL, arXiv:2504.07491) and
//! V-JEPA 2 (arXiv:2506.09985) for single images.
//!
//! An image is cut into patches on its own grid. Learned position embeddings are resampled to that grid, rotary ones
//! are computed for it. Images of one batch must have one size; [`Encoder`](crate::Encoder) groups images by size, so
//! that no padding and no mask is needed and an image's features do not depend on the others.

mod config;
mod layout;

pub use config::{NativeVitConfig, PatchWeight, PositionResampling};
pub use layout::NativeRotary;

use super::block::{Mlp, interleaved, query_key_value};
use super::channel_norm::ChannelNorm;
use super::drop_path::DropPathMask;
use super::limits::check_pixels;
use super::network::Network;
use super::tap::{Tap, outputs};
use crate::attention::attend;
use crate::features::{FeatureMap, resample_tokens};
use crate::kernel::{self, Operand};
use crate::operands::{Activation, Bias, Rotation};
use burgess_base::Result;
use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::{Tensor, module::linear};
use layout::TokenLayout;

/// A vision transformer for images of any size; see the module documentation.
#[derive(Module, Debug)]
pub struct NativeVit {
    /// Patch embedding from pixels to tokens.
    pub patch_embed: NativePatchEmbed,
    /// Learned position embeddings, `[rows, columns, width]`.
    pub pos_embed: Option<Param<Tensor<3>>>,
    /// The transformer blocks, in order.
    pub blocks: Vec<NativeBlock>,
    /// Norm after the last block.
    pub norm: Option<ChannelNorm>,
    /// Merger of patches after the last block.
    pub merger: Option<PatchMerger>,
    /// Mergers of patches after the blocks of `deepstack`.
    pub deepstack_mergers: Vec<PatchMerger>,
    #[module(skip)]
    config: NativeVitConfig,
}

/// The patch embedding.
#[derive(Module, Debug)]
pub struct NativePatchEmbed {
    /// Its weight and bias; computed as one matrix product.
    pub proj: PatchProjection,
}

/// The parameters of a patch embedding, one variant per [`PatchWeight`].
#[derive(Module, Debug)]
pub enum PatchProjection {
    /// [`PatchWeight::Image`].
    Image(Conv2d),
    /// [`PatchWeight::Linear`].
    Linear(Linear),
    /// [`PatchWeight::Video`].
    Video(VideoProjection),
}

/// A convolution over several frames whose kernel equals its stride.
#[derive(Module, Debug)]
pub struct VideoProjection {
    /// Weight, `[width, 3, frames, patch, patch]`.
    pub weight: Param<Tensor<5>>,
    /// Bias, `[width]`.
    pub bias: Option<Param<Tensor<1>>>,
}

/// A pre-norm transformer block.
#[derive(Module, Debug)]
pub struct NativeBlock {
    /// Norm of the attention branch.
    pub norm1: ChannelNorm,
    /// Multi-head self-attention, of the whole image or in windows.
    pub attn: NativeAttention,
    /// Norm of the MLP branch.
    pub norm2: ChannelNorm,
    /// The two-layer MLP.
    pub mlp: Mlp,
}

/// Multi-head self-attention with one fused projection for queries, keys and values.
#[derive(Module, Debug)]
pub struct NativeAttention {
    /// Projection to queries, keys and values in this order, `[width, 3 * width]`.
    pub qkv: Linear,
    /// Output projection, `[width, width]`.
    pub proj: Linear,
    heads: usize,
}

/// Joins squares of patches to one token: norm, concatenation, and an MLP with exact GELU.
#[derive(Module, Debug)]
pub struct PatchMerger {
    /// Norm of each patch, or of the concatenated patches if `joined`.
    pub norm: ChannelNorm,
    /// First layer, `[joint, joint]`, where `joint` is the width of the concatenated patches.
    pub fc1: Linear,
    /// Second layer, `[joint, merged_width]`.
    pub fc2: Linear,
    merge: usize,
    joined: bool,
}

impl NativePatchEmbed {
    /// Maps `[batch, 3, height, width]` to `[batch, patches, width]`, in row-major order.
    fn forward(&self, pixels: Tensor<4>, patch: usize) -> Tensor<3> {
        let [batch, channels, height, width] = pixels.dims();
        let (rows, columns, pixels_per_patch) = (height / patch, width / patch, channels * patch * patch);
        let cut: Tensor<6> = pixels.reshape([batch, channels, rows, patch, columns, patch]);
        let order = match &self.proj {
            PatchProjection::Image(_) | PatchProjection::Video(_) => [0, 2, 4, 1, 3, 5],
            PatchProjection::Linear(_) => [0, 2, 4, 3, 5, 1],
        };
        let patches: Tensor<2> = cut.permute(order).reshape([batch * rows * columns, pixels_per_patch]);
        let matrix = |weight: Tensor<4>| {
            let [out, ..] = weight.dims();
            weight.reshape([out, pixels_per_patch]).transpose()
        };
        let tokens = match &self.proj {
            PatchProjection::Image(conv) => {
                linear(patches, matrix(conv.weight.val()), conv.bias.as_ref().map(Param::val))
            }
            PatchProjection::Linear(layer) => layer.forward(patches),
            // All frames are the same image, so the weights of the frames are summed.
            PatchProjection::Video(conv) => {
                let weight = conv.weight.val().sum_dim(2).squeeze_dim::<4>(2);
                linear(patches, matrix(weight), conv.bias.as_ref().map(Param::val))
            }
        };
        let [_, out] = tokens.dims();
        tokens.reshape([batch, rows * columns, out])
    }
}

impl NativeAttention {
    /// Attention output before the output projection, `[batch * tokens, width]`, for `x` of the same shape, with tokens
    /// in the order of `layout`.
    fn mixed(&self, x: Operand, batch: usize, full: bool, context: &Context) -> Operand {
        let [mut q, mut k, v] = query_key_value(&self.qkv, x, batch, self.heads);
        let [_, _, tokens, head_dim] = q.dims();
        let (rows, width) = (batch * tokens, self.heads * head_dim);
        if context.rotary == Some(NativeRotary::Halves) {
            (q, k) = (interleaved(q), interleaved(k));
        }
        // The fused loops rotate whole images only, and require both channels of a pair to have one angle.
        let fused = full && context.rotary != Some(NativeRotary::Thirds);
        let rotation = context.rotation.as_ref();
        if let (Some(rotation), false) = (rotation, fused) {
            (q, k) = (rotation.apply(q), rotation.apply(k));
        }
        if full {
            return kernel::attention_for(&self.proj, [q, k, v], Bias::None, rotation.filter(|_| fused));
        }
        let mut start = 0;
        let mixed = context.layout.runs.iter().map(|run| {
            let count = run.windows * run.tokens;
            let windows = |x: &Tensor<4>| -> Tensor<4> {
                let [_, heads, _, channels] = x.dims();
                let part: Tensor<5> =
                    x.clone().narrow(2, start, count).reshape([batch, heads, run.windows, run.tokens, channels]);
                part.swap_dims(1, 2).reshape([batch * run.windows, heads, run.tokens, channels])
            };
            let out = attend(windows(&q), windows(&k), windows(&v), Bias::None, None).reshape([batch, count, width]);
            start += count;
            out
        });
        Operand::Tensor(Tensor::cat(mixed.collect(), 1).reshape([rows, width]))
    }
}

/// What all blocks need to know about the image.
struct Context {
    layout: TokenLayout,
    rotary: Option<NativeRotary>,
    rotation: Option<Rotation>,
}

impl NativeBlock {
    /// Runs the block on `x` of shape `[batch, tokens, width]`, in the order of the layout.
    fn forward(&self, x: Tensor<3>, full: bool, context: &Context) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let x = x.reshape([batch * tokens, width]);
        let mixed = self.attn.mixed(self.norm1.before(&self.attn.qkv, x.clone()), batch, full, context);
        let x = kernel::residual(x, mixed, &self.attn.proj, None);
        let normed = self.norm2.before(&self.mlp.fc1, x.clone());
        self.mlp.residual(x, normed).reshape([batch, tokens, width])
    }
}

impl PatchMerger {
    /// Maps row-major patches `[batch, patches, width]` of `grid` to merged tokens, in row-major order.
    fn forward(&self, map: FeatureMap) -> FeatureMap {
        let [batch, _, width] = map.tokens.dims();
        let ([rows, columns], m) = (map.grid, self.merge);
        let grid = [rows / m, columns / m];
        let join = |x: Tensor<3>| -> Tensor<2> {
            let squares: Tensor<6> = x.reshape([batch, grid[0], m, grid[1], m, width]);
            squares.swap_dims(2, 3).reshape([batch * grid[0] * grid[1], m * m * width])
        };
        let joint = if self.joined { self.norm.forward(join(map.tokens)) } else { join(self.norm.forward(map.tokens)) };
        let tokens = kernel::linear(kernel::linear_activation(joint, &self.fc1, Activation::Gelu), &self.fc2);
        let [count, out] = tokens.dims();
        FeatureMap { tokens: tokens.reshape([batch, count / batch.max(1), out]), grid }
    }
}

impl NativeVit {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &NativeVitConfig {
        &self.config
    }

    /// The position embeddings for `grid`, `[1, patches, width]`, if there are learned ones.
    fn positions(&self, grid: [usize; 2]) -> Option<Tensor<3>> {
        let table = self.pos_embed.as_ref()?.val();
        let [rows, columns, width] = table.dims();
        let table: Tensor<3> = table.reshape([1, rows * columns, width]);
        let kernel = self.config.position_resampling.kernel();
        Some(if grid == [rows, columns] { table } else { resample_tokens(table, [rows, columns], grid, kernel, 0.0) })
    }

    /// Outputs of the blocks with the indices `layers`, in that order, with tokens in row-major order.
    fn run(&self, pixels: Tensor<4>, layers: &[usize]) -> Result<Vec<FeatureMap>> {
        let config = &self.config;
        check_pixels(&pixels, config.patch * config.merge)?;
        let [_, _, height, width] = pixels.dims();
        let grid = [height / config.patch, width / config.patch];
        let tokens = self.patch_embed.forward(pixels, config.patch);
        let tokens = match self.positions(grid) {
            Some(positions) => tokens + positions,
            None => tokens,
        };
        let (layout, rotary) = (config.layout(grid), config.rotary);
        let head_dim = config.width / config.heads;
        let rotation = rotary.map(|rotary| layout.rotation(rotary, head_dim, &tokens.device()));
        let context = Context { layout, rotary, rotation };
        let run = |i: usize, block: &NativeBlock, x| block.forward(x, config.is_full(i), &context);
        let outputs = outputs(context.layout.arrange(tokens), layers, &self.blocks, run);
        Ok(outputs.into_iter().map(|x| FeatureMap { tokens: context.layout.restore(x), grid }).collect())
    }

    /// Applies the final norm or the merger that `tap` asks for to the output of block `index`.
    fn tapped(&self, map: FeatureMap, index: usize, tap: &Tap) -> FeatureMap {
        if tap.merge {
            let merger = match self.config.merger_of(index) {
                Some(Some(i)) => self.deepstack_mergers.get(i),
                Some(None) => self.merger.as_ref(),
                None => None,
            };
            return match merger {
                Some(merger) => merger.forward(map),
                None => map,
            };
        }
        match &self.norm {
            Some(norm) if tap.norm => FeatureMap { tokens: norm.forward(map.tokens), ..map },
            _ => map,
        }
    }
}

impl Network for NativeVit {
    fn features(&self, pixels: Tensor<4>, tap: &Tap, _drop_path: &DropPathMask) -> Result<FeatureMap> {
        let layers = tap.indices(self.config.depth, "block")?;
        let maps = self.run(pixels, &layers)?.into_iter().zip(&layers);
        tap.join(maps.map(|(map, index)| self.tapped(map, *index, tap)).collect())
    }

    fn pooled(&self, pixels: Tensor<4>, _drop_path: &DropPathMask) -> Result<Tensor<2>> {
        let last = self.run(pixels, &[self.config.depth.saturating_sub(1)])?.pop();
        let map = last.ok_or_else(|| burgess_base::Error::failed("a network without blocks has no features"))?;
        let tap = Tap { norm: true, ..Tap::default() };
        Ok(self.tapped(map, self.config.depth, &tap).tokens.mean_dim(1).squeeze_dim(1))
    }
}
