//! TNT, transformer in transformer (Han et al. 2021, arXiv:2103.00112): an inner transformer on the pixels of each
//! patch feeds an outer one on the patches. Parameter paths are those of timm's `TNT`. The layers that a tap can select
//! are the blocks.

use super::block::Mlp;
use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::is_default;
use super::limits::{check_heads, check_multiple, check_patches, check_sizes, is_ratio};
use super::parts::tokens::{by_row, check_size, dropped, project};
use super::parts::{Conv, ConvSpec, Padding};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::attention::attend;
use crate::operands::{Activation, Bias};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a TNT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TntConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels. Default 16.
    #[serde(default = "default_patch")]
    pub patch: usize,
    /// Channels of a patch token.
    pub width: usize,
    /// Channels of a pixel token.
    pub inner_width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Number of attention heads of the outer transformer.
    pub heads: usize,
    /// Number of attention heads of the inner transformer. Default 4.
    #[serde(default = "default_stride")]
    pub inner_heads: usize,
    /// Stride of the pixel embedding. Default 4.
    #[serde(default = "default_stride")]
    pub stride: usize,
    /// Hidden channels of the outer MLPs per channel. Default 4.
    #[serde(default = "default_ratio")]
    pub mlp_ratio: f64,
    /// Whether the projections to queries, keys and values have a bias. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub qkv_bias: bool,
    /// Whether pixels are embedded over the borders of patches and normalised one by one, as in the first release.
    /// Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub legacy: bool,
    /// Epsilon added to the variance in every norm. Default 1e-5.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_patch() -> usize {
    16
}

fn default_stride() -> usize {
    4
}

fn default_ratio() -> f64 {
    4.0
}

fn default_eps() -> f64 {
    1e-5
}

impl TntConfig {
    fn side(&self) -> usize {
        self.image_size / self.patch
    }

    /// Pixel tokens per side of a patch.
    fn pixels(&self) -> usize {
        self.patch.div_ceil(self.stride)
    }

    fn embed(&self) -> ConvSpec {
        ConvSpec::new(3, self.inner_width, 7).stride(self.stride).padding(Padding::Explicit(3))
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Tnt {
        let norm = |width: usize| LayerNormConfig::new(width).with_epsilon(self.norm_eps).init(device);
        let (width, inner, side) = (self.width, self.inner_width, self.pixels());
        let all = side * side * inner;
        let attention = |width: usize, heads: usize| {
            let linear = |out: usize| LinearConfig::new(width, out).with_bias(self.qkv_bias).init(device);
            TntAttention {
                qk: linear(2 * width),
                v: linear(width),
                proj: LinearConfig::new(width, width).init(device),
                heads,
            }
        };
        let mlp = |width: usize, hidden: usize| Mlp::new(width, hidden, width, Activation::Gelu, device);
        let block = || TntBlock {
            norm_in: norm(inner),
            attn_in: attention(inner, self.inner_heads),
            norm_mlp_in: norm(inner),
            mlp_in: mlp(inner, 4 * inner),
            norm1_proj: norm(if self.legacy { inner } else { all }),
            proj: LinearConfig::new(all, width).with_bias(self.legacy).init(device),
            norm2_proj: (!self.legacy).then(|| norm(width)),
            norm_out: norm(width),
            attn_out: attention(width, self.heads),
            norm_mlp: norm(width),
            mlp: mlp(width, times(width, self.mlp_ratio)),
        };
        Tnt {
            pixel_embed: PixelEmbed { proj: self.embed().init(device) },
            norm1_proj: norm(all),
            proj: LinearConfig::new(all, width).init(device),
            norm2_proj: norm(width),
            cls_token: Initializer::Zeros.init([1, 1, width], device),
            patch_pos: Initializer::Zeros.init([1, self.side().pow(2) + 1, width], device),
            pixel_pos: Initializer::Zeros.init([1, inner, side, side], device),
            blocks: (0..self.depth).map(|_| block()).collect(),
            norm: norm(width),
            config: self.clone(),
        }
    }
}

impl StagedConfig for TntConfig {
    fn check(&self) -> Result<()> {
        const WHAT: &str = "a TNT";
        check_patches(self.image_size, self.patch)?;
        let sizes = [
            ("image_size", self.image_size),
            ("patch", self.patch),
            ("width", self.width),
            ("inner_width", self.inner_width),
            ("depth", self.depth),
            ("heads", self.heads),
            ("inner_heads", self.inner_heads),
            ("stride", self.stride),
        ];
        check_sizes(WHAT, &sizes)?;
        check_heads(WHAT, &[self.width, self.inner_width], &[self.heads, self.inner_heads])?;
        check_multiple(WHAT, self.image_size, self.patch)?;
        if !is_ratio(self.mlp_ratio) || !self.patch.is_multiple_of(self.stride) {
            return Err(Error::usage(format!(
                "{WHAT} with mlp_ratio = {}, patch = {} and stride = {}",
                self.mlp_ratio, self.patch, self.stride
            ))
            .hint("mlp_ratio must be positive, and the stride must divide the patch"));
        }
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depth
    }

    fn layers(&self) -> Vec<LayerShape> {
        let (width, inner, side) = (self.width, self.inner_width, self.side());
        let (patches, pixels) = (side * side, self.pixels().pow(2));
        let projection = patches * pixels * inner * width;
        let attention = |width: usize, tokens: usize, reach: usize| tokens * (4 * width * width + 2 * reach * width);
        let embed = patches * self.embed().multiply_adds(self.patch) as usize + projection;
        let block = attention(inner, patches * pixels, pixels)
            + patches * pixels * 8 * inner * inner
            + projection
            + attention(width, patches + 1, patches + 1)
            + (patches + 1) * 2 * width * times(width, self.mlp_ratio);
        let layer =
            |i: usize| LayerShape { width, side, multiply_adds: (block + if i == 0 { embed } else { 0 }) as u64 };
        (0..self.depth).map(layer).collect()
    }

    fn has_final_norm(&self) -> bool {
        true
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.depth, branches: 4 })
    }
}

impl TimmModel for TntConfig {
    const CLASSES: &'static [&'static str] = &["TNT"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        Ok(TimmNetwork::new(Self {
            image_size,
            patch: arguments.side("patch_size")?.unwrap_or(16),
            width: arguments.number("embed_dim", 768)?,
            inner_width: arguments.number("inner_dim", 48)?,
            depth: arguments.number("depth", 12)?,
            heads: arguments.number("num_heads_outer", 12)?,
            inner_heads: arguments.number("num_heads_inner", 4)?,
            stride: arguments.number("first_stride", 4)?,
            mlp_ratio: arguments.real("mlp_ratio")?.unwrap_or(4.0),
            qkv_bias: arguments.flag("qkv_bias", false)?,
            legacy: arguments.flag("legacy", false)?,
            norm_eps: arguments.norm_eps(1e-5)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}

/// A TNT; see the module documentation.
#[derive(Module, Debug)]
pub struct Tnt {
    /// Convolution from pixels to pixel tokens.
    pub pixel_embed: PixelEmbed,
    /// Layer norm of the pixel tokens of a patch.
    pub norm1_proj: LayerNorm,
    /// Projection of the pixel tokens of a patch to its token.
    pub proj: Linear,
    /// Layer norm of the patch tokens.
    pub norm2_proj: LayerNorm,
    /// Class token, `[1, 1, width]`.
    pub cls_token: Param<Tensor<3>>,
    /// Position embeddings of class token and patches, `[1, 1 + patches, width]`.
    pub patch_pos: Param<Tensor<3>>,
    /// Position embeddings of the pixels of a patch, `[1, inner_width, rows, columns]`.
    pub pixel_pos: Param<Tensor<4>>,
    /// The blocks.
    pub blocks: Vec<TntBlock>,
    /// Final layer norm.
    pub norm: LayerNorm,
    #[module(skip)]
    config: TntConfig,
}

/// Embedding of pixels.
#[derive(Module, Debug)]
pub struct PixelEmbed {
    /// 7×7 convolution.
    pub proj: Conv,
}

/// A block of both transformers.
#[derive(Module, Debug)]
pub struct TntBlock {
    /// Layer norm before inner attention.
    pub norm_in: LayerNorm,
    /// Inner attention.
    pub attn_in: TntAttention,
    /// Layer norm before the inner MLP.
    pub norm_mlp_in: LayerNorm,
    /// Inner MLP.
    pub mlp_in: Mlp,
    /// Layer norm of the pixel tokens.
    pub norm1_proj: LayerNorm,
    /// Projection of the pixel tokens of a patch to its token.
    pub proj: Linear,
    /// Layer norm of the projected tokens.
    pub norm2_proj: Option<LayerNorm>,
    /// Layer norm before outer attention.
    pub norm_out: LayerNorm,
    /// Outer attention.
    pub attn_out: TntAttention,
    /// Layer norm before the outer MLP.
    pub norm_mlp: LayerNorm,
    /// Outer MLP.
    pub mlp: Mlp,
}

/// Multi-head self-attention with separate values.
#[derive(Module, Debug)]
pub struct TntAttention {
    /// Projection to queries and keys in this order, `[width, 2 * width]`.
    pub qk: Linear,
    /// Projection to values, `[width, width]`.
    pub v: Linear,
    /// Output projection, `[width, width]`.
    pub proj: Linear,
    heads: usize,
}

impl TntAttention {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [q, k] = project(&self.qk, x.clone(), self.heads);
        let [v] = project(&self.v, x, self.heads);
        by_row(attend(q, k, v, Bias::None, None), |x| self.proj.forward(x))
    }
}

impl TntBlock {
    /// Runs the block on pixel tokens `[batch * patches, pixels, inner_width]` and on the class token and patch tokens
    /// `[batch, 1 + patches, width]`.
    fn forward(&self, pixels: Tensor<3>, x: Tensor<3>, factors: [Option<&Tensor<1>>; 4]) -> (Tensor<3>, Tensor<3>) {
        let ([batch, tokens, _], shape) = (x.dims(), pixels.dims());
        let [rows, count, inner] = shape;
        // A factor applies to all patches of an image.
        let drop = |branch: Tensor<3>, factors: Option<&Tensor<1>>| {
            dropped(branch.reshape([batch, rows / batch * count, inner]), factors).reshape(shape)
        };
        let pixels = pixels.clone() + drop(self.attn_in.forward(self.norm_in.forward(pixels)), factors[0]);
        let branch = by_row(self.norm_mlp_in.forward(pixels.clone()), |x| self.mlp_in.forward(x));
        let pixels = pixels + drop(branch, factors[1]);

        let whole = |x: Tensor<3>| x.reshape([batch, tokens - 1, count * inner]);
        let projected = match &self.norm2_proj {
            Some(norm) => {
                let normed = self.norm1_proj.forward(whole(pixels.clone()));
                norm.forward(by_row(normed, |x| self.proj.forward(x)))
            }
            None => by_row(whole(self.norm1_proj.forward(pixels.clone())), |x| self.proj.forward(x)),
        };
        let patches = x.clone().narrow(1, 1, tokens - 1) + projected;
        let x = Tensor::cat(vec![x.narrow(1, 0, 1), patches], 1);
        let x = x.clone() + dropped(self.attn_out.forward(self.norm_out.forward(x)), factors[2]);
        let branch = by_row(self.norm_mlp.forward(x.clone()), |x| self.mlp.forward(x));
        (pixels, x + dropped(branch, factors[3]))
    }
}

/// Splits `[batch, channels, rows, columns]` into squares `[batch * squares, channels, side, side]`.
fn squares(x: Tensor<4>, side: usize) -> Tensor<4> {
    let [batch, channels, rows, columns] = x.dims();
    let (down, across) = (rows / side, columns / side);
    let x: Tensor<6> = x.reshape([batch, channels, down, side, across, side]);
    x.permute([0, 2, 4, 1, 3, 5]).reshape([batch * down * across, channels, side, side])
}

impl Tnt {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &TntConfig {
        &self.config
    }
}

impl StagedNetwork for Tnt {
    fn depth(&self) -> usize {
        self.blocks.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        let config = &self.config;
        check_size(&pixels, config.image_size)?;
        let (batch, side, width, within) = (pixels.dims()[0], config.side(), config.width, config.pixels());
        let (patches, inner) = (side * side, config.inner_width);
        let embedded = if config.legacy {
            squares(self.pixel_embed.proj.forward(pixels), within)
        } else {
            self.pixel_embed.proj.forward(squares(pixels, config.patch))
        };
        let placed = embedded + self.pixel_pos.val();
        let mut pixels: Tensor<3> = placed.reshape([batch * patches, inner, within * within]).swap_dims(1, 2);
        let all = pixels.clone().reshape([batch, patches, within * within * inner]);
        let x = by_row(self.norm1_proj.forward(all), |x| self.proj.forward(x));
        let class = self.cls_token.val().repeat_dim(0, batch);
        let mut x = Tensor::cat(vec![class, self.norm2_proj.forward(x)], 1) + self.patch_pos.val();
        let mut outputs = Vec::new();
        for (i, block) in self.blocks.iter().enumerate().take(count) {
            let factors = std::array::from_fn(|branch| drop_path.factors(i, branch));
            (pixels, x) = block.forward(pixels, x, factors);
            let map: Tensor<4> = x.clone().narrow(1, 1, patches).reshape([batch, side, side, width]);
            outputs.push(map.permute([0, 3, 1, 2]));
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.norm.forward(tokens)
    }
}
