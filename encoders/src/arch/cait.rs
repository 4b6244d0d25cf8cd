//! CaiT (Touvron et al. 2021, arXiv:2103.17239): a vision transformer whose attention mixes the scores of its heads
//! (talking heads), followed by class-attention blocks, which change the class token alone. Parameter paths are those
//! of timm's `Cait`.
//!
//! The layers of a tap are the blocks over patches; the class token, which the class-attention blocks compute from the
//! last of them, is available at the last layer only.

use super::block::Mlp;
use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::{is_default, is_yes, yes};
use super::limits::{MAX_SIZE, check_patches, check_pixels};
use super::network::{Network, NetworkConfig, TapSupport};
use super::parts::tokens::{by_row, project};
use super::parts::{ClassAttention, add_branch, constant_drop_path, constant_factors};
use super::tap::{Tap, Tokens, outputs};
use super::vit::PatchEmbed;
use crate::features::FeatureMap;
use crate::operands::Activation;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a CaiT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CaitConfig {
    /// Side of the square input images, in pixels; the position embeddings are for this size only.
    pub image_size: usize,
    /// Side of a patch, in pixels.
    pub patch: usize,
    /// Channels of a token, the embedding dimension.
    pub width: usize,
    /// Number of blocks over patches.
    pub depth: usize,
    /// Number of class-attention blocks. Default 2.
    #[serde(default = "default_class_depth")]
    pub class_depth: usize,
    /// Attention heads per block; must divide `width`.
    pub heads: usize,
    /// Hidden channels of the MLPs of the blocks over patches.
    pub mlp_hidden: usize,
    /// Hidden channels of the MLPs of the class-attention blocks.
    pub class_mlp_hidden: usize,
    /// Whether the query, key and value projections have biases. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub qkv_bias: bool,
    /// Initial value of the layer scale of all branches. Default 1e-4.
    #[serde(default = "default_scale")]
    pub layer_scale: f64,
    /// Epsilon added to the variance in every norm. Default 1e-6.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Drop-path rate of all blocks over patches, at least 0 and below 1. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_class_depth() -> usize {
    2
}

fn default_scale() -> f64 {
    1e-4
}

fn default_eps() -> f64 {
    1e-6
}

/// A CaiT; see the module documentation.
#[derive(Module, Debug)]
pub struct Cait {
    /// Class token, `[1, 1, width]`.
    pub cls_token: Param<Tensor<3>>,
    /// Position embeddings of the patches, `[1, patches, width]`.
    pub pos_embed: Param<Tensor<3>>,
    /// Patch embedding.
    pub patch_embed: PatchEmbed,
    /// The blocks over patches, in order.
    pub blocks: Vec<CaitBlock>,
    /// The class-attention blocks, in order.
    pub blocks_token_only: Vec<CaitClassBlock>,
    /// Layer norm after the last block.
    pub norm: LayerNorm,
    #[module(skip)]
    config: CaitConfig,
}

/// A block over patches.
#[derive(Module, Debug)]
pub struct CaitBlock {
    /// Norm before attention.
    pub norm1: LayerNorm,
    /// Talking-heads attention.
    pub attn: TalkingHeads,
    /// Norm before the MLP.
    pub norm2: LayerNorm,
    /// MLP.
    pub mlp: Mlp,
    /// Layer scale of attention, `[width]`.
    pub gamma_1: Param<Tensor<1>>,
    /// Layer scale of the MLP, `[width]`.
    pub gamma_2: Param<Tensor<1>>,
}

/// A class-attention block.
#[derive(Module, Debug)]
pub struct CaitClassBlock {
    /// Norm before attention, of all tokens.
    pub norm1: LayerNorm,
    /// Class attention.
    pub attn: ClassAttention,
    /// Norm before the MLP.
    pub norm2: LayerNorm,
    /// MLP of the class token.
    pub mlp: Mlp,
    /// Layer scale of attention, `[width]`.
    pub gamma_1: Param<Tensor<1>>,
    /// Layer scale of the MLP, `[width]`.
    pub gamma_2: Param<Tensor<1>>,
}

/// Self-attention with linear layers over the heads before and after the softmax (Shazeer et al. 2020,
/// arXiv:2003.02436).
#[derive(Module, Debug)]
pub struct TalkingHeads {
    /// Projection to queries, keys and values in this order, `[width, 3 * width]`.
    pub qkv: Linear,
    /// Output projection, `[width, width]`.
    pub proj: Linear,
    /// Layer over the heads' scores before the softmax, `[heads, heads]`.
    pub proj_l: Linear,
    /// Layer over the heads' weights after the softmax, `[heads, heads]`.
    pub proj_w: Linear,
    heads: usize,
}

impl TalkingHeads {
    /// Runs attention on `[batch, tokens, width]`.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let [q, k, v] = project::<3>(&self.qkv, x, self.heads);
        let across = |layer: &Linear, scores: Tensor<4>| {
            by_row(scores.permute([0, 2, 3, 1]), |x| layer.forward(x)).permute([0, 3, 1, 2])
        };
        let scale = ((width / self.heads) as f64).powf(-0.5);
        let scores = across(&self.proj_l, q.mul_scalar(scale).matmul(k.transpose()));
        let mixed = across(&self.proj_w, softmax(scores, 3)).matmul(v);
        by_row(mixed.swap_dims(1, 2).reshape([batch, tokens, width]), |x| self.proj.forward(x))
    }
}

impl CaitBlock {
    /// Runs block number `index` on `[batch, patches, width]`.
    fn forward(&self, x: Tensor<3>, drop_path: &DropPathMask, index: usize) -> Tensor<3> {
        let branch = self.attn.forward(self.norm1.forward(x.clone())) * self.gamma_1.val().unsqueeze();
        let x = add_branch(x, branch, constant_factors(drop_path, 2 * index));
        let branch = by_row(self.norm2.forward(x.clone()), |x| self.mlp.forward(x)) * self.gamma_2.val().unsqueeze();
        add_branch(x, branch, constant_factors(drop_path, 2 * index + 1))
    }
}

impl CaitClassBlock {
    /// Maps the class token `[batch, 1, width]` and the patches `[batch, patches, width]` to the new class token.
    fn forward(&self, class: Tensor<3>, patches: Tensor<3>) -> Tensor<3> {
        let normed = self.norm1.forward(Tensor::cat(vec![class.clone(), patches], 1));
        let class = class + self.attn.forward(normed) * self.gamma_1.val().unsqueeze();
        let branch = by_row(self.norm2.forward(class.clone()), |x| self.mlp.forward(x));
        class + branch * self.gamma_2.val().unsqueeze()
    }
}

impl CaitConfig {
    fn side(&self) -> usize {
        self.image_size / self.patch
    }

    /// Multiply-add operations for one image through the first `blocks` blocks, and the class-attention blocks if
    /// `class`.
    fn multiply_adds(&self, blocks: usize, class: bool) -> u64 {
        let (width, heads, hidden) = (self.width as u64, self.heads as u64, self.mlp_hidden as u64);
        let patches = (self.side() * self.side()) as u64;
        let embedding = patches * width * (3 * self.patch * self.patch) as u64;
        let attention = patches * 4 * width * width + patches * patches * (2 * width + 2 * heads * heads);
        let block = attention + patches * 2 * width * hidden;
        let class_block =
            ClassAttention::multiply_adds(self.width, patches + 1) + 2 * width * self.class_mlp_hidden as u64;
        embedding + blocks as u64 * block + if class { self.class_depth as u64 * class_block } else { 0 }
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Cait {
        let norm = || LayerNormConfig::new(self.width).with_epsilon(self.norm_eps).init(device);
        let scale = || Initializer::Constant { value: self.layer_scale }.init([self.width], device);
        let linear = |from, to, bias| LinearConfig::new(from, to).with_bias(bias).init(device);
        let block = |_| CaitBlock {
            norm1: norm(),
            attn: TalkingHeads {
                qkv: linear(self.width, 3 * self.width, self.qkv_bias),
                proj: linear(self.width, self.width, true),
                proj_l: linear(self.heads, self.heads, true),
                proj_w: linear(self.heads, self.heads, true),
                heads: self.heads,
            },
            norm2: norm(),
            mlp: Mlp::new(self.width, self.mlp_hidden, self.width, Activation::Gelu, device),
            gamma_1: scale(),
            gamma_2: scale(),
        };
        let class_block = |_| CaitClassBlock {
            norm1: norm(),
            attn: ClassAttention::new(self.width, self.heads, self.qkv_bias, device),
            norm2: norm(),
            mlp: Mlp::new(self.width, self.class_mlp_hidden, self.width, Activation::Gelu, device),
            gamma_1: scale(),
            gamma_2: scale(),
        };
        Cait {
            cls_token: Initializer::Zeros.init([1, 1, self.width], device),
            pos_embed: Initializer::Zeros.init([1, self.side() * self.side(), self.width], device),
            patch_embed: PatchEmbed::new(self.width, self.patch, true, device),
            blocks: (0..self.depth).map(block).collect(),
            blocks_token_only: (0..self.class_depth).map(class_block).collect(),
            norm: norm(),
            config: self.clone(),
        }
    }
}

impl NetworkConfig for CaitConfig {
    fn validate(&self) -> Result<()> {
        check_patches(self.image_size, self.patch)?;
        let numbers = [self.image_size, self.patch, self.width, self.depth, self.class_depth, self.heads];
        let hidden = [self.mlp_hidden, self.class_mlp_hidden];
        let positive = numbers.iter().chain(&hidden).all(|n| (1..=MAX_SIZE).contains(n));
        if !positive || self.image_size < self.patch || !self.width.is_multiple_of(self.heads) {
            return Err(Error::usage(format!(
                "invalid CaiT: image_size {}, patch {}, width {}, depth {}, class_depth {}, heads {}, mlp_hidden {}, \
                 class_mlp_hidden {}",
                self.image_size,
                self.patch,
                self.width,
                self.depth,
                self.class_depth,
                self.heads,
                self.mlp_hidden,
                self.class_mlp_hidden
            ))
            .hint("all must be positive and at most 65536, and heads must divide width"));
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
        let layers = tap.indices(self.depth, "block")?;
        Ok(TapSupport { final_norm: true, class_token: layers.iter().all(|layer| layer + 1 == self.depth) })
    }

    fn tap_sides(&self, tap: &Tap) -> Result<Vec<usize>> {
        Ok(vec![self.side(); tap.indices(self.depth, "block")?.len()])
    }

    fn tap_width(&self, tap: &Tap) -> Result<usize> {
        Ok(self.width * tap.indices(self.depth, "block")?.len())
    }

    fn tap_multiply_adds(&self, tap: &Tap) -> Result<u64> {
        let class = tap.tokens == Tokens::PatchAndClass;
        Ok(self.multiply_adds(tap.deepest(self.depth, "block")? + 1, class))
    }

    fn pooled_width(&self) -> usize {
        self.width
    }

    fn norms_last_tokens(&self) -> bool {
        true
    }

    fn drop_path(&self) -> Option<DropPathSpec> {
        Some(constant_drop_path(self.drop_path, 2 * self.depth))
    }
}

impl Cait {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &CaitConfig {
        &self.config
    }

    /// Patches with position embeddings, `[batch, patches, width]`.
    fn embed(&self, pixels: Tensor<4>) -> Result<Tensor<3>> {
        check_pixels(&pixels, self.config.patch)?;
        let [_, _, height, width] = pixels.dims();
        let size = self.config.image_size;
        if [height, width] != [size; 2] {
            return Err(Error::failed(format!(
                "the position embeddings are for images of {size}x{size} pixels, but the images have {height}x{width}"
            ))
            .hint("resize the images to the size on the encoder's card"));
        }
        Ok(self.patch_embed.forward(pixels) + self.pos_embed.val())
    }

    /// The class token, `[batch, 1, width]`, from the output of the last block over patches.
    fn class(&self, patches: &Tensor<3>) -> Tensor<3> {
        let [batch, _, width] = patches.dims();
        let class = self.cls_token.val().expand([batch, 1, width]);
        self.blocks_token_only.iter().fold(class, |class, block| block.forward(class, patches.clone()))
    }
}

impl Network for Cait {
    fn features(&self, pixels: Tensor<4>, tap: &Tap, drop_path: &DropPathMask) -> Result<FeatureMap> {
        let layers = tap.indices(self.config.depth, "block")?;
        let run = |i: usize, block: &CaitBlock, x| block.forward(x, drop_path, i);
        let grid = [self.config.side(); 2];
        let tokens = outputs(self.embed(pixels)?, &layers, &self.blocks, run).into_iter().map(|patches| {
            let tokens = match tap.tokens {
                Tokens::Patch => patches,
                Tokens::PatchAndClass => Tensor::cat(vec![self.class(&patches), patches], 1),
            };
            FeatureMap { tokens: if tap.norm { self.norm.forward(tokens) } else { tokens }, grid }
        });
        tap.join(tokens.collect())
    }

    fn pooled(&self, pixels: Tensor<4>, drop_path: &DropPathMask) -> Result<Tensor<2>> {
        let run = |x, (i, block): (usize, &CaitBlock)| block.forward(x, drop_path, i);
        let patches = self.blocks.iter().enumerate().fold(self.embed(pixels)?, run);
        Ok(self.norm.forward(self.class(&patches)).squeeze_dim(1))
    }
}

impl TimmModel for CaitConfig {
    const CLASSES: &'static [&'static str] = &["Cait"];

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
            class_depth: arguments.number("depth_token_only", default_class_depth())?,
            heads: arguments.number("num_heads", 12)?,
            mlp_hidden: times(width, arguments.real("mlp_ratio")?.unwrap_or(4.0)),
            class_mlp_hidden: times(width, arguments.real("mlp_ratio_token_only")?.unwrap_or(4.0)),
            qkv_bias: arguments.flag("qkv_bias", true)?,
            layer_scale: arguments.real("init_values")?.unwrap_or(default_scale()),
            norm_eps: arguments.norm_eps(default_eps())?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}
