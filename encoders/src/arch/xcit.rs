//! XCiT (El-Nouby et al. 2021, arXiv:2106.09681): a transformer whose attention mixes channels instead of tokens
//! (cross-covariance attention), with local convolutions between tokens, followed by class-attention layers. Parameter
//! paths are those of timm's `Xcit`.
//!
//! The layers of a tap are the cross-covariance blocks, then the class-attention blocks; only the latter have a class
//! token. As in the original code, the class-attention blocks also rescale the patch tokens.

use super::block::Mlp;
use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::{is_default, is_yes, yes};
use super::limits::{MAX_SIZE, check_patches, check_pixels};
use super::network::{Network, NetworkConfig, TapSupport};
use super::parts::{
    ClassAttention, Conv, ConvSpec, FrozenBatchNorm, Slot, add_branch, constant_drop_path, constant_factors, to_map,
    to_tokens,
};
use super::tap::{Tap, Tokens};
use crate::features::FeatureMap;
use crate::operands::{Activation, gelu};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use crate::transfer;
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Number of frequencies per axis of the position encoding, each as sine and cosine.
const FREQUENCIES: usize = 16;
/// Epsilon of the batch norms.
const BATCH_EPS: f64 = 1e-5;

/// Hyper-parameters of an XCiT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct XcitConfig {
    /// Side of the square input images, in pixels; a multiple of `patch`.
    pub image_size: usize,
    /// Side of a patch, in pixels: 8 or 16.
    pub patch: usize,
    /// Channels of a token, the embedding dimension; a multiple of 8.
    pub width: usize,
    /// Number of cross-covariance blocks.
    pub depth: usize,
    /// Number of class-attention blocks after them. Default 2.
    #[serde(default = "default_class_depth")]
    pub class_depth: usize,
    /// Attention heads per block; must divide `width`.
    pub heads: usize,
    /// Hidden channels of the MLPs.
    pub mlp_hidden: usize,
    /// Whether the query, key and value projections have biases. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub qkv_bias: bool,
    /// Whether a Fourier position encoding is added to the patches. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub positions: bool,
    /// Whether the second norm of a class-attention block is applied to all tokens, and not only to the class token.
    /// Default false.
    #[serde(default)]
    pub tokens_norm: bool,
    /// Initial value of the layer scale of all branches. Default 1.
    #[serde(default = "default_scale")]
    pub layer_scale: f64,
    /// Epsilon added to the variance in every layer norm. Default 1e-6.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Drop-path rate of all cross-covariance blocks, at least 0 and below 1. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_class_depth() -> usize {
    2
}

fn default_scale() -> f64 {
    1.0
}

fn default_eps() -> f64 {
    1e-6
}

/// An XCiT; see the module documentation.
#[derive(Module, Debug)]
pub struct Xcit {
    /// Patch embedding.
    pub patch_embed: ConvPatchEmbed,
    /// Class token, `[1, 1, width]`.
    pub cls_token: Param<Tensor<3>>,
    /// Position encoding.
    pub pos_embed: Option<FourierPositions>,
    /// The cross-covariance blocks, in order.
    pub blocks: Vec<XcaBlock>,
    /// The class-attention blocks, in order.
    pub cls_attn_blocks: Vec<ClassBlock>,
    /// Layer norm after the last block.
    pub norm: LayerNorm,
    #[module(skip)]
    config: XcitConfig,
}

/// Patch embedding of 3×3 convolutions of stride 2, with GELU between them.
#[derive(Module, Debug)]
pub struct ConvPatchEmbed {
    /// Convolutions with batch norms at even indices, activations at odd ones.
    pub proj: Vec<EmbedLayer>,
}

/// A layer of the patch embedding.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a network has few of these layers")]
pub enum EmbedLayer {
    /// Convolution and batch norm.
    Conv((Conv, FrozenBatchNorm)),
    /// GELU.
    Activation(Slot),
}

/// Position encoding: sines and cosines of the row and the column at several frequencies, projected to the width.
#[derive(Module, Debug)]
pub struct FourierPositions {
    /// Projection, `[width, 4 * FREQUENCIES, 1, 1]`.
    pub token_projection: Conv,
}

/// A block of cross-covariance attention, local patch interaction and MLP.
#[derive(Module, Debug)]
pub struct XcaBlock {
    /// Norm before attention.
    pub norm1: LayerNorm,
    /// Cross-covariance attention.
    pub attn: CrossCovariance,
    /// Norm before the local patch interaction.
    pub norm3: LayerNorm,
    /// Local patch interaction.
    pub local_mp: LocalInteraction,
    /// Norm before the MLP.
    pub norm2: LayerNorm,
    /// MLP.
    pub mlp: Mlp,
    /// Layer scale of attention, `[width]`.
    pub gamma1: Param<Tensor<1>>,
    /// Layer scale of the local patch interaction, `[width]`.
    pub gamma3: Param<Tensor<1>>,
    /// Layer scale of the MLP, `[width]`.
    pub gamma2: Param<Tensor<1>>,
}

/// Cross-covariance attention: every head attends from channel to channel, over all tokens.
#[derive(Module, Debug)]
pub struct CrossCovariance {
    /// Factor of the scores per head, `[heads, 1, 1]`.
    pub temperature: Param<Tensor<3>>,
    /// Projection to queries, keys and values in this order, `[width, 3 * width]`.
    pub qkv: Linear,
    /// Output projection, `[width, width]`.
    pub proj: Linear,
    heads: usize,
}

/// Local patch interaction: two depthwise 3×3 convolutions with GELU and batch norm between them.
#[derive(Module, Debug)]
pub struct LocalInteraction {
    /// First convolution.
    pub conv1: Conv,
    /// Batch norm after the activation.
    pub bn: FrozenBatchNorm,
    /// Second convolution.
    pub conv2: Conv,
}

/// A class-attention block.
#[derive(Module, Debug)]
pub struct ClassBlock {
    /// Norm before attention.
    pub norm1: LayerNorm,
    /// Class attention.
    pub attn: ClassAttention,
    /// Norm before the MLP.
    pub norm2: LayerNorm,
    /// MLP of the class token.
    pub mlp: Mlp,
    /// Layer scale of attention, `[width]`.
    pub gamma1: Param<Tensor<1>>,
    /// Layer scale of the MLP, `[width]`.
    pub gamma2: Param<Tensor<1>>,
    tokens_norm: bool,
}

/// Divides by the Euclidean norm over the last axis.
fn unit(x: Tensor<4>) -> Tensor<4> {
    // The square root has no finite gradient at 0.
    let length = x.clone().square().sum_dim(3).clamp_min(1e-24).sqrt();
    x / length
}

/// Runs an MLP on `[batch, tokens, width]`.
fn feed_forward(mlp: &Mlp, x: Tensor<3>) -> Tensor<3> {
    let [batch, tokens, width] = x.dims();
    mlp.forward(x.reshape([batch * tokens, width])).reshape([batch, tokens, width])
}

impl ConvPatchEmbed {
    fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        self.proj.iter().fold(pixels, |x, layer| match layer {
            EmbedLayer::Conv((conv, norm)) => norm.forward(conv.forward(x)),
            EmbedLayer::Activation(_) => gelu(x),
        })
    }
}

impl FourierPositions {
    /// The encoding of all positions of a grid, `[1, width, rows, columns]`.
    fn encode(&self, [rows, columns]: [usize; 2]) -> Tensor<4> {
        let channels = 2 * FREQUENCIES;
        let angle = |at: usize, of: usize, channel: usize| {
            let position = (at + 1) as f64 / (of as f64 + 1e-6) * std::f64::consts::TAU;
            let angle = position / 10000f64.powf((channel / 2 * 2) as f64 / channels as f64);
            if channel.is_multiple_of(2) { angle.sin() } else { angle.cos() }
        };
        let mut values = Vec::with_capacity(2 * channels * rows * columns);
        for channel in 0..2 * channels {
            for position in 0..rows * columns {
                let (row, column) = (position / columns, position % columns);
                values.push(match channel.checked_sub(channels) {
                    None => angle(row, rows, channel),
                    Some(channel) => angle(column, columns, channel),
                } as f32);
            }
        }
        let shape = [1, 2 * channels, rows, columns];
        let device = self.token_projection.weight.device();
        self.token_projection.forward(transfer::to_device(TensorData::new(values, shape), &device))
    }
}

impl CrossCovariance {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let qkv = self.qkv.forward(x).reshape([batch, tokens, 3 * self.heads, width / self.heads]);
        // [batch, heads, channels of a head, tokens]
        let part = |i: usize| qkv.clone().narrow(2, i * self.heads, self.heads).permute([0, 2, 3, 1]);
        let (q, k, v) = (unit(part(0)), unit(part(1)), part(2));
        let scores = q.matmul(k.transpose()) * self.temperature.val().unsqueeze();
        let mixed = softmax(scores, 3).matmul(v);
        self.proj.forward(mixed.permute([0, 3, 1, 2]).reshape([batch, tokens, width]))
    }
}

impl XcaBlock {
    /// Runs block number `index` on `[batch, tokens, width]`, whose tokens are the positions of `grid`.
    fn forward(&self, x: Tensor<3>, grid: [usize; 2], drop_path: &DropPathMask, index: usize) -> Tensor<3> {
        let factors = |branch: usize| constant_factors(drop_path, 3 * index + branch);
        let scaled = |branch: Tensor<3>, gamma: &Param<Tensor<1>>| branch * gamma.val().unsqueeze();
        let branch = scaled(self.attn.forward(self.norm1.forward(x.clone())), &self.gamma1);
        let x = add_branch(x, branch, factors(0));
        let LocalInteraction { conv1, bn, conv2 } = &self.local_mp;
        let map = gelu(conv1.forward(to_map(self.norm3.forward(x.clone()), grid)));
        let branch = scaled(to_tokens(conv2.forward(bn.forward(map))), &self.gamma3);
        let x = add_branch(x, branch, factors(1));
        let branch = scaled(feed_forward(&self.mlp, self.norm2.forward(x.clone())), &self.gamma2);
        add_branch(x, branch, factors(2))
    }
}

impl ClassBlock {
    /// Runs the block on `[batch, 1 + patches, width]`.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let patches = x.dims()[1] - 1;
        let rest = |x: Tensor<3>| x.narrow(1, 1, patches);
        let first = |x: Tensor<3>| x.narrow(1, 0, 1);
        let normed = self.norm1.forward(x.clone());
        let mixed = Tensor::cat(vec![self.attn.forward(normed.clone()), rest(normed)], 1);
        let x = x + mixed * self.gamma1.val().unsqueeze();
        let x = match self.tokens_norm {
            true => self.norm2.forward(x),
            false => Tensor::cat(vec![self.norm2.forward(first(x.clone())), rest(x)], 1),
        };
        let class = feed_forward(&self.mlp, first(x.clone())) * self.gamma2.val().unsqueeze();
        // The patches are doubled, as in the original code.
        x.clone() + Tensor::cat(vec![class, rest(x)], 1)
    }
}

impl XcitConfig {
    /// The convolutions of the patch embedding.
    fn embedding(&self) -> Vec<ConvSpec> {
        let steps = if self.patch == 8 { 3 } else { 4 };
        let channels = |step: usize| if step == 0 { 3 } else { self.width >> (steps - step) };
        (0..steps).map(|i| ConvSpec::new(channels(i), channels(i + 1), 3).stride(2).bias(false)).collect()
    }

    fn side(&self) -> usize {
        self.image_size / self.patch
    }

    fn blocks(&self) -> usize {
        self.depth + self.class_depth
    }

    /// Multiply-add operations for one image through the first `blocks` blocks.
    fn multiply_adds(&self, blocks: usize) -> u64 {
        let (width, hidden) = (self.width as u64, self.mlp_hidden as u64);
        let patches = (self.side() * self.side()) as u64;
        let (mut side, mut total) = (self.image_size, 0);
        for conv in self.embedding() {
            total += conv.multiply_adds(side);
            side = conv.out_side(side);
        }
        if self.positions {
            total += patches * width * 4 * FREQUENCIES as u64;
        }
        let covariance = 4 * width * width + 2 * width * (self.width / self.heads) as u64;
        let block = patches * (covariance + 2 * 9 * width + 2 * width * hidden);
        let class = ClassAttention::multiply_adds(self.width, patches + 1) + 2 * width * hidden;
        total + blocks.min(self.depth) as u64 * block + blocks.saturating_sub(self.depth) as u64 * class
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Xcit {
        let norm = || LayerNormConfig::new(self.width).with_epsilon(self.norm_eps).init(device);
        let scale = || Initializer::Constant { value: self.layer_scale }.init([self.width], device);
        let mlp = || Mlp::new(self.width, self.mlp_hidden, self.width, Activation::Gelu, device);
        let depthwise = || ConvSpec::new(self.width, self.width, 3).groups(self.width).init(device);
        let block = |_| XcaBlock {
            norm1: norm(),
            attn: CrossCovariance {
                temperature: Initializer::Ones.init([self.heads, 1, 1], device),
                qkv: LinearConfig::new(self.width, 3 * self.width).with_bias(self.qkv_bias).init(device),
                proj: LinearConfig::new(self.width, self.width).init(device),
                heads: self.heads,
            },
            norm3: norm(),
            local_mp: LocalInteraction {
                conv1: depthwise(),
                bn: FrozenBatchNorm::new(self.width, BATCH_EPS, device),
                conv2: depthwise(),
            },
            norm2: norm(),
            mlp: mlp(),
            gamma1: scale(),
            gamma3: scale(),
            gamma2: scale(),
        };
        let class_block = |_| ClassBlock {
            norm1: norm(),
            attn: ClassAttention::new(self.width, self.heads, self.qkv_bias, device),
            norm2: norm(),
            mlp: mlp(),
            gamma1: scale(),
            gamma2: scale(),
            tokens_norm: self.tokens_norm,
        };
        let mut proj = Vec::new();
        for (i, conv) in self.embedding().into_iter().enumerate() {
            if i > 0 {
                proj.push(EmbedLayer::Activation(Slot::default()));
            }
            proj.push(EmbedLayer::Conv((conv.init(device), FrozenBatchNorm::new(conv.to, BATCH_EPS, device))));
        }
        Xcit {
            patch_embed: ConvPatchEmbed { proj },
            cls_token: Initializer::Zeros.init([1, 1, self.width], device),
            pos_embed: self.positions.then(|| FourierPositions {
                token_projection: ConvSpec::new(4 * FREQUENCIES, self.width, 1).init(device),
            }),
            blocks: (0..self.depth).map(block).collect(),
            cls_attn_blocks: (0..self.class_depth).map(class_block).collect(),
            norm: norm(),
            config: self.clone(),
        }
    }
}

impl NetworkConfig for XcitConfig {
    fn validate(&self) -> Result<()> {
        check_patches(self.image_size, self.patch)?;
        let numbers = [self.image_size, self.width, self.depth, self.class_depth, self.heads, self.mlp_hidden];
        let positive = numbers.iter().all(|n| (1..=MAX_SIZE).contains(n));
        let whole = matches!(self.patch, 8 | 16) && self.image_size.is_multiple_of(self.patch);
        if !positive || !whole || !self.width.is_multiple_of(8) || !self.width.is_multiple_of(self.heads) {
            return Err(Error::usage(format!(
                "invalid XCiT: image_size {}, patch {}, width {}, depth {}, class_depth {}, heads {}, mlp_hidden {}",
                self.image_size, self.patch, self.width, self.depth, self.class_depth, self.heads, self.mlp_hidden
            ))
            .hint("patch is 8 or 16 and divides image_size, 8 and heads divide width, all are at most 65536"));
        }
        drop_path::check(self.drop_path)
    }

    fn image_size(&self) -> usize {
        self.image_size
    }

    fn min_layers(&self) -> usize {
        self.depth.saturating_add(self.class_depth)
    }

    fn tap_support(&self, tap: &Tap) -> Result<TapSupport> {
        let layers = tap.indices(self.blocks(), "block")?;
        Ok(TapSupport { final_norm: true, class_token: layers.iter().all(|layer| *layer >= self.depth) })
    }

    fn tap_sides(&self, tap: &Tap) -> Result<Vec<usize>> {
        Ok(vec![self.side(); tap.indices(self.blocks(), "block")?.len()])
    }

    fn tap_width(&self, tap: &Tap) -> Result<usize> {
        Ok(self.width * tap.indices(self.blocks(), "block")?.len())
    }

    fn tap_multiply_adds(&self, tap: &Tap) -> Result<u64> {
        Ok(self.multiply_adds(tap.deepest(self.blocks(), "block")? + 1))
    }

    fn pooled_width(&self) -> usize {
        self.width
    }

    fn norms_last_tokens(&self) -> bool {
        true
    }

    fn drop_path(&self) -> Option<DropPathSpec> {
        Some(constant_drop_path(self.drop_path, 3 * self.depth))
    }
}

impl Xcit {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &XcitConfig {
        &self.config
    }

    /// Outputs of the first `count` blocks, `[batch, patches, width]` or, from class-attention blocks,
    /// `[batch, 1 + patches, width]`, and the grid.
    fn outputs(
        &self,
        pixels: Tensor<4>,
        count: usize,
        drop_path: &DropPathMask,
    ) -> Result<(Vec<Tensor<3>>, [usize; 2])> {
        check_pixels(&pixels, self.config.patch)?;
        let mut map = self.patch_embed.forward(pixels);
        let [batch, width, rows, columns] = map.dims();
        let grid = [rows, columns];
        if let Some(positions) = &self.pos_embed {
            map = map + positions.encode(grid);
        }
        let mut x = to_tokens(map);
        let mut outputs = Vec::with_capacity(count);
        for (i, block) in self.blocks.iter().enumerate().take(count) {
            x = block.forward(x, grid, drop_path, i);
            outputs.push(x.clone());
        }
        if count > self.blocks.len() {
            x = Tensor::cat(vec![self.cls_token.val().expand([batch, 1, width]), x], 1);
        }
        for block in self.cls_attn_blocks.iter().take(count.saturating_sub(self.blocks.len())) {
            x = block.forward(x);
            outputs.push(x.clone());
        }
        Ok((outputs, grid))
    }
}

impl Network for Xcit {
    fn features(&self, pixels: Tensor<4>, tap: &Tap, drop_path: &DropPathMask) -> Result<FeatureMap> {
        let blocks = self.config.blocks();
        let (outputs, grid) = self.outputs(pixels, tap.deepest(blocks, "block")? + 1, drop_path)?;
        let patches = grid[0] * grid[1];
        let mut maps = Vec::new();
        for tokens in tap.indices(blocks, "block")?.into_iter().filter_map(|block| outputs.get(block)).cloned() {
            let prefix = tokens.dims()[1] - patches;
            let tokens = match tap.tokens {
                Tokens::Patch if prefix > 0 => tokens.narrow(1, prefix, patches),
                Tokens::Patch | Tokens::PatchAndClass => tokens,
            };
            maps.push(FeatureMap { tokens: if tap.norm { self.norm.forward(tokens) } else { tokens }, grid });
        }
        tap.join(maps)
    }

    fn pooled(&self, pixels: Tensor<4>, drop_path: &DropPathMask) -> Result<Tensor<2>> {
        let (outputs, _) = self.outputs(pixels, self.config.blocks(), drop_path)?;
        let last = outputs.last().ok_or_else(|| Error::failed("an XCiT without blocks has no features"))?;
        Ok(self.norm.forward(last.clone().narrow(1, 0, 1)).squeeze_dim(1))
    }
}

impl TimmModel for XcitConfig {
    const CLASSES: &'static [&'static str] = &["Xcit"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3"), ("act_layer", "\"GELU\"")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let width = arguments.number("embed_dim", 768)?;
        Ok(TimmNetwork::new(Self {
            image_size,
            patch: arguments.number("patch_size", 16)?,
            width,
            depth: arguments.number("depth", 12)?,
            class_depth: arguments.number("cls_attn_layers", 2)?,
            heads: arguments.number("num_heads", 12)?,
            mlp_hidden: times(width, arguments.real("mlp_ratio")?.unwrap_or(4.0)),
            qkv_bias: arguments.flag("qkv_bias", true)?,
            positions: arguments.flag("use_pos_embed", true)?,
            tokens_norm: arguments.flag("tokens_norm", false)?,
            layer_scale: arguments.real("eta")?.unwrap_or(1.0),
            norm_eps: arguments.norm_eps(1e-6)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}
