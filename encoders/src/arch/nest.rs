//! NesT (Zhang et al. 2021, arXiv:2105.12723): attention within blocks of the image that merge from level to level.
//! Parameter paths are those of timm's `Nest`.

use super::block::Mlp;
use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::{is_default, is_yes, yes};
use super::limits::{check_heads, check_multiple, check_sizes, check_stages, is_ratio};
use super::parts::tokens::{by_row, check_size, dropped};
use super::parts::window::{partition, reverse};
use super::parts::{Conv, ConvEmbed, ConvSpec, Padding, SelfAttention, max_pool};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::operands::Activation;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::ops::PadMode;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a NesT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NestConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels. Default 4.
    #[serde(default = "default_patch")]
    pub patch: usize,
    /// Channels per level.
    pub widths: Vec<usize>,
    /// Number of layers per level.
    pub depths: Vec<usize>,
    /// Number of attention heads per level.
    pub heads: Vec<usize>,
    /// Hidden channels of the MLPs per channel. Default 4.
    #[serde(default = "default_ratio")]
    pub mlp_ratio: f64,
    /// Whether the projections to queries, keys and values have a bias. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub qkv_bias: bool,
    /// Whether the layers between levels are padded as TensorFlow's `SAME`. Default false.
    #[serde(default)]
    pub same_padding: bool,
    /// Epsilon added to the variance in every norm. Default 1e-6.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Drop-path rate of the last layer, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_patch() -> usize {
    4
}

fn default_ratio() -> f64 {
    4.0
}

fn default_eps() -> f64 {
    1e-6
}

impl NestConfig {
    fn side(&self, level: usize) -> usize {
        (self.image_size / self.patch) >> level
    }

    /// Side of a block of the image, in tokens; the same at all levels.
    fn block(&self) -> usize {
        self.side(self.widths.len().saturating_sub(1))
    }

    fn embed(&self) -> ConvSpec {
        let first = self.widths.first().copied().unwrap_or(1);
        ConvSpec::new(3, first, self.patch).stride(self.patch).padding(Padding::Explicit(0))
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Nest {
        let norm = |width: usize| LayerNormConfig::new(width).with_epsilon(self.norm_eps).init(device);
        let padding = if self.same_padding { Padding::Same } else { Padding::Symmetric };
        let mut before = 0;
        let each = self.widths.iter().zip(&self.depths).zip(&self.heads).enumerate();
        let levels = each.map(|(level, ((width, depth), heads))| {
            let (from, blocks) = (std::mem::replace(&mut before, *width), (self.side(level) / self.block()).pow(2));
            Level {
                pos_embed: Initializer::Zeros.init([1, blocks, self.block().pow(2), *width], device),
                pool: (level > 0).then(|| ConvPool {
                    conv: ConvSpec::new(from, *width, 3).padding(padding).init(device),
                    norm: norm(*width),
                    same: self.same_padding,
                }),
                transformer_encoder: (0..*depth)
                    .map(|_| NestLayer {
                        norm1: norm(*width),
                        attn: SelfAttention::new(*width, *heads, self.qkv_bias, device),
                        norm2: norm(*width),
                        mlp: Mlp::new(*width, times(*width, self.mlp_ratio), *width, Activation::Gelu, device),
                        heads: *heads,
                    })
                    .collect(),
            }
        });
        Nest {
            patch_embed: ConvEmbed::new(self.embed(), None, device),
            levels: levels.collect(),
            norm: norm(self.widths.last().copied().unwrap_or(1)),
            config: self.clone(),
        }
    }
}

impl StagedConfig for NestConfig {
    fn check(&self) -> Result<()> {
        const WHAT: &str = "a NesT";
        check_sizes(WHAT, &[("image_size", self.image_size), ("patch", self.patch)])?;
        check_stages(WHAT, &[("widths", &self.widths), ("depths", &self.depths), ("heads", &self.heads)])?;
        check_heads(WHAT, &self.widths, &self.heads)?;
        check_multiple(WHAT, self.image_size, self.patch << (self.widths.len() - 1))?;
        if !is_ratio(self.mlp_ratio) {
            return Err(Error::usage(format!("{WHAT} with mlp_ratio = {}", self.mlp_ratio)));
        }
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depths.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    fn layers(&self) -> Vec<LayerShape> {
        let mut before = 0;
        let each = self.widths.iter().zip(&self.depths).enumerate();
        each.map(|(level, (width, depth))| {
            let (width, side, tokens) = (*width, self.side(level), self.side(level).pow(2));
            let from = std::mem::replace(&mut before, width);
            let entry = match level {
                0 => self.embed().multiply_adds(self.image_size),
                _ => ConvSpec::new(from, width, 3).multiply_adds(2 * side),
            };
            let mlp = (tokens * 2 * width * times(width, self.mlp_ratio)) as u64;
            let layer = SelfAttention::multiply_adds(width, tokens, self.block().pow(2)) + mlp;
            LayerShape { width, side, multiply_adds: entry + *depth as u64 * layer }
        })
        .collect()
    }

    fn has_final_norm(&self) -> bool {
        true
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.layer_count(), branches: 2 })
    }
}

impl TimmModel for NestConfig {
    const CLASSES: &'static [&'static str] = &["Nest"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let levels = arguments.number("num_levels", 3)?;
        arguments.only(&[("act_layer", "null")])?;
        let numbers = |arguments: &mut TimmArguments, key: &str, default: [usize; 3]| -> Result<Vec<usize>> {
            let read = |value: &serde_json::Value| match value.as_array() {
                None => crate::json_values::integer(value).map(|one| vec![one; levels]),
                Some(list) => list.iter().map(crate::json_values::integer).collect(),
            };
            Ok(arguments.read(key, read)?.unwrap_or_else(|| default.to_vec()))
        };
        Ok(TimmNetwork::new(Self {
            image_size,
            patch: arguments.number("patch_size", 4)?,
            widths: numbers(arguments, "embed_dims", [128, 256, 512])?,
            depths: numbers(arguments, "depths", [2, 2, 20])?,
            heads: numbers(arguments, "num_heads", [4, 8, 16])?,
            mlp_ratio: arguments.real("mlp_ratio")?.unwrap_or(4.0),
            qkv_bias: arguments.flag("qkv_bias", true)?,
            same_padding: arguments.one_of("pad_type", "", &[("", false), ("same", true)])?,
            norm_eps: arguments.norm_eps(1e-6)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.5),
        }))
    }
}

/// A NesT; see the module documentation.
#[derive(Module, Debug)]
pub struct Nest {
    /// Patch embedding.
    pub patch_embed: ConvEmbed,
    /// The levels, from many blocks of the image to one.
    pub levels: Vec<Level>,
    /// Norm over the channels of the last feature map.
    pub norm: LayerNorm,
    #[module(skip)]
    config: NestConfig,
}

/// A level.
#[derive(Module, Debug)]
pub struct Level {
    /// Position embeddings, `[1, blocks, tokens, width]`.
    pub pos_embed: Param<Tensor<4>>,
    /// Merges 2×2 blocks of the level before; `None` in the first level.
    pub pool: Option<ConvPool>,
    /// The layers.
    pub transformer_encoder: Vec<NestLayer>,
}

/// A convolution, a norm, and maximum pooling that halves the feature map.
#[derive(Module, Debug)]
pub struct ConvPool {
    /// 3×3 convolution.
    pub conv: Conv,
    /// Norm over the channels.
    pub norm: LayerNorm,
    same: bool,
}

/// A pre-norm transformer layer.
#[derive(Module, Debug)]
pub struct NestLayer {
    /// Layer norm before attention.
    pub norm1: LayerNorm,
    /// Attention.
    pub attn: SelfAttention,
    /// Layer norm before the MLP.
    pub norm2: LayerNorm,
    /// The two-layer MLP.
    pub mlp: Mlp,
    heads: usize,
}

impl ConvPool {
    /// Maps `[batch, channels, rows, columns]`, with even sides, to half of the sides.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.norm.forward(self.conv.forward(x).permute([0, 2, 3, 1])).permute([0, 3, 1, 2]);
        if self.same {
            return max_pool(x.pad((0, 1, 0, 1), PadMode::Constant(f32::NEG_INFINITY)), 3, 2, 0, false);
        }
        max_pool(x, 3, 2, 1, false)
    }
}

impl NestLayer {
    /// Runs the layer on the blocks of all images, `[batch * blocks, tokens, width]`; a factor applies to an image.
    fn forward(&self, x: Tensor<3>, batch: usize, factors: [Option<&Tensor<1>>; 2]) -> Tensor<3> {
        let shape = x.dims();
        let [blocks, tokens, width] = shape;
        let drop = |branch: Tensor<3>, factors: Option<&Tensor<1>>| {
            dropped(branch.reshape([batch, blocks / batch * tokens, width]), factors).reshape(shape)
        };
        // timm interleaves the channels of the heads before the output projection.
        let mixed = self.attn.mixed(self.norm1.forward(x.clone()));
        let mixed: Tensor<4> = mixed.reshape([blocks, tokens, self.heads, width / self.heads]);
        let mixed: Tensor<3> = mixed.swap_dims(2, 3).reshape(shape);
        let x = x + drop(by_row(mixed, |x| self.attn.proj.forward(x)), factors[0]);
        let mlp = by_row(self.norm2.forward(x.clone()), |x| self.mlp.forward(x));
        x + drop(mlp, factors[1])
    }
}

impl Nest {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &NestConfig {
        &self.config
    }
}

impl StagedNetwork for Nest {
    fn depth(&self) -> usize {
        self.levels.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_size(&pixels, self.config.image_size)?;
        let (batch, block) = (pixels.dims()[0], [self.config.block(); 2]);
        let mut x = self.patch_embed.forward(pixels).permute([0, 3, 1, 2]);
        let (mut index, mut outputs) = (0, Vec::new());
        for level in self.levels.iter().take(count) {
            if let Some(pool) = &level.pool {
                x = pool.forward(x);
            }
            let [_, width, rows, columns] = x.dims();
            let blocks = partition(x.permute([0, 2, 3, 1]), block);
            let [count, tokens, _] = blocks.dims();
            let placed = blocks.reshape([batch, count / batch, tokens, width]) + level.pos_embed.val();
            let mut blocks: Tensor<3> = placed.reshape([count, tokens, width]);
            for layer in &level.transformer_encoder {
                blocks = layer.forward(blocks, batch, [drop_path.factors(index, 0), drop_path.factors(index, 1)]);
                index += 1;
            }
            x = reverse(blocks, block, [rows, columns]).permute([0, 3, 1, 2]);
            outputs.push(x.clone());
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.norm.forward(tokens)
    }
}
