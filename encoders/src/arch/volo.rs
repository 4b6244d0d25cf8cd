//! VOLO (Yuan et al. 2021, arXiv:2106.13112): outlook attention, whose weights come from the token at the centre of a
//! window, followed by transformer stages. Parameter paths are those of timm's `VOLO`. Its last blocks change the class
//! token only and are left out, as are the class token and the heads (dialect `timm-volo`).

use super::block::Mlp;
use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::is_default;
use super::limits::{check_heads, check_multiple, check_sizes, check_stages, is_ratio};
use super::parts::tokens::{by_row, check_size, dropped};
use super::parts::{Conv, ConvSpec, FrozenBatchNorm, Padding, SelfAttention, avg_pool};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::operands::Activation;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig, Relu};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Side of the windows of outlook attention.
const WINDOW: usize = 3;
/// Distance of the windows' centres.
const STRIDE: usize = 2;

/// Hyper-parameters of a VOLO.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VoloConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Side of a patch of the first stage, in pixels: 4, 8 or 16. Default 8.
    #[serde(default = "default_patch")]
    pub patch: usize,
    /// Channels of the stem. Default 64.
    #[serde(default = "default_stem")]
    pub stem_width: usize,
    /// Channels per stage; those of all stages but the first are equal.
    pub widths: Vec<usize>,
    /// Number of blocks per stage; those of the first stage have outlook attention.
    pub depths: Vec<usize>,
    /// Number of attention heads per stage.
    pub heads: Vec<usize>,
    /// Hidden channels of the MLPs per channel. Default 3.
    #[serde(default = "default_ratio")]
    pub mlp_ratio: f64,
    /// Whether the projections to queries, keys and values have a bias. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub qkv_bias: bool,
    /// Epsilon added to the variance in every norm. Default 1e-5.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly, and is 0 in the first stage.
    /// Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_patch() -> usize {
    8
}

fn default_stem() -> usize {
    64
}

fn default_ratio() -> f64 {
    3.0
}

fn default_eps() -> f64 {
    1e-5
}

impl VoloConfig {
    /// Side of the feature map of a stage.
    fn side(&self, stage: usize) -> usize {
        let side = self.image_size / self.patch;
        if stage == 0 { side } else { side / 2 }
    }

    fn stem(&self) -> [ConvSpec; 4] {
        let width = self.stem_width;
        let first = self.widths.first().copied().unwrap_or(1);
        let conv = |from: usize, kernel: usize| ConvSpec::new(from, width, kernel).bias(false);
        let patch = ConvSpec::new(width, first, self.patch / 2).stride(self.patch / 2);
        [conv(3, 7).stride(2), conv(width, 3), conv(width, 3), patch.padding(Padding::Explicit(0))]
    }

    fn halve(&self) -> ConvSpec {
        let width = |stage: usize| self.widths.get(stage).copied().unwrap_or(1);
        ConvSpec::new(width(0), width(1), 2).stride(2).padding(Padding::Explicit(0))
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Volo {
        let norm = |width: usize| LayerNormConfig::new(width).with_epsilon(self.norm_eps).init(device);
        let batch_norm = || FrozenBatchNorm::new(self.stem_width, 1e-5, device);
        let [one, two, three, patch] = self.stem().map(|conv| conv.init(device));
        let mut network = Vec::new();
        let mlp = |width: usize| Mlp::new(width, times(width, self.mlp_ratio), width, Activation::Gelu, device);
        for (stage, ((width, depth), heads)) in self.widths.iter().zip(&self.depths).zip(&self.heads).enumerate() {
            let (width, heads) = (*width, *heads);
            if stage > 0 {
                let block = || TransformerBlock {
                    norm1: norm(width),
                    attn: SelfAttention::new(width, heads, self.qkv_bias, device),
                    norm2: norm(width),
                    mlp: mlp(width),
                };
                network.push(VoloLayer::Transformer((0..*depth).map(|_| block()).collect()));
                continue;
            }
            let block = || Outlooker {
                norm1: norm(width),
                attn: OutlookAttention {
                    v: LinearConfig::new(width, width).with_bias(self.qkv_bias).init(device),
                    attn: LinearConfig::new(width, WINDOW.pow(4) * heads).init(device),
                    proj: LinearConfig::new(width, width).init(device),
                    heads,
                },
                norm2: norm(width),
                mlp: mlp(width),
            };
            network.push(VoloLayer::Outlook((0..*depth).map(|_| block()).collect()));
            network.push(VoloLayer::Downsample(Downsample { proj: self.halve().init(device) }));
        }
        let (side, last) = (self.side(1), self.widths.last().copied().unwrap_or(1));
        Volo {
            patch_embed: Stem {
                conv: (one, batch_norm(), Relu::new(), two, batch_norm(), Relu::new(), three, batch_norm()),
                proj: patch,
            },
            pos_embed: Initializer::Zeros.init([1, side, side, last], device),
            network,
            norm: norm(last),
            config: self.clone(),
        }
    }
}

impl StagedConfig for VoloConfig {
    fn check(&self) -> Result<()> {
        const WHAT: &str = "a VOLO";
        check_sizes(WHAT, &[("image_size", self.image_size), ("stem_width", self.stem_width)])?;
        check_stages(WHAT, &[("widths", &self.widths), ("depths", &self.depths), ("heads", &self.heads)])?;
        check_heads(WHAT, &self.widths, &self.heads)?;
        let equal = self.widths.iter().skip(1).all(|width| Some(width) == self.widths.last());
        if ![4, 8, 16].contains(&self.patch) || self.widths.len() < 2 || !equal || !is_ratio(self.mlp_ratio) {
            return Err(Error::usage(format!(
                "{WHAT} with patch = {}, widths = {:?} and mlp_ratio = {}",
                self.patch, self.widths, self.mlp_ratio
            ))
            .hint("patch must be 4, 8 or 16, and all stages but the first have equal widths"));
        }
        check_multiple(WHAT, self.image_size, 2 * self.patch)?;
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depths.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    fn layers(&self) -> Vec<LayerShape> {
        let [one, two, three, patch] = self.stem();
        let half = self.image_size / 2;
        let stem = one.multiply_adds(self.image_size)
            + two.multiply_adds(half)
            + three.multiply_adds(half)
            + patch.multiply_adds(half);
        let each = self.widths.iter().zip(&self.depths).zip(&self.heads).enumerate();
        each.map(|(stage, ((width, depth), heads))| {
            let (width, side, tokens) = (*width, self.side(stage), self.side(stage).pow(2));
            let mlp = (tokens * 2 * width * times(width, self.mlp_ratio)) as u64;
            let area = WINDOW * WINDOW;
            let attention = if stage == 0 {
                let windows = tokens / (STRIDE * STRIDE);
                (tokens * 2 * width * width + windows * area * area * (width * heads + width)) as u64
            } else {
                SelfAttention::multiply_adds(width, tokens, tokens)
            };
            let entry = match stage {
                0 => stem,
                1 => self.halve().multiply_adds(2 * side),
                _ => 0,
            };
            LayerShape { width, side, multiply_adds: entry + *depth as u64 * (attention + mlp) }
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

impl TimmModel for VoloConfig {
    const CLASSES: &'static [&'static str] = &["VOLO"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.without(IGNORED);
        // The last blocks change the class token only.
        arguments.without(&["global_pool", "post_layers", "use_aux_head", "use_mix_token"]);
        arguments.only(&[
            ("downsamples", "[true, false, false, false]"),
            ("outlook_attention", "[true, false, false, false]"),
            ("pooling_scale", "2"),
        ])?;
        let depths = arguments.numbers("layers")?.unwrap_or_default();
        let config = Self {
            image_size,
            patch: arguments.number("patch_size", 8)?,
            stem_width: arguments.number("stem_hidden_dim", 64)?,
            widths: arguments.numbers("embed_dims")?.unwrap_or_default(),
            depths,
            heads: arguments.numbers("num_heads")?.unwrap_or_default(),
            mlp_ratio: arguments.real("mlp_ratio")?.unwrap_or(3.0),
            qkv_bias: arguments.flag("qkv_bias", false)?,
            norm_eps: arguments.norm_eps(1e-5)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        };
        Ok(TimmNetwork::new(config).with_dialect("timm-volo"))
    }
}

/// A VOLO; see the module documentation.
#[derive(Module, Debug)]
pub struct Volo {
    /// Convolutions from pixels to patches.
    pub patch_embed: Stem,
    /// Position embeddings after the first stage, `[1, rows, columns, width]`.
    pub pos_embed: Param<Tensor<4>>,
    /// The first stage, the layer that halves the feature map, and the other stages.
    pub network: Vec<VoloLayer>,
    /// Norm over the channels of the last feature map.
    pub norm: LayerNorm,
    #[module(skip)]
    config: VoloConfig,
}

/// Three convolutions with batch norms, and the patch embedding.
#[derive(Module, Debug)]
pub struct Stem {
    /// The convolutions, each with a batch norm and ReLU.
    pub conv: (Conv, FrozenBatchNorm, Relu, Conv, FrozenBatchNorm, Relu, Conv, FrozenBatchNorm),
    /// Convolution whose kernel equals its stride.
    pub proj: Conv,
}

/// A part of the network.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum VoloLayer {
    /// A stage of outlook attention.
    Outlook(Vec<Outlooker>),
    /// Halves the feature map.
    Downsample(Downsample),
    /// A stage of transformer blocks.
    Transformer(Vec<TransformerBlock>),
}

/// A convolution that halves the feature map.
#[derive(Module, Debug)]
pub struct Downsample {
    /// 2×2 convolution of stride 2.
    pub proj: Conv,
}

/// A pre-norm block of outlook attention and an MLP.
#[derive(Module, Debug)]
pub struct Outlooker {
    /// Layer norm before attention.
    pub norm1: LayerNorm,
    /// Outlook attention.
    pub attn: OutlookAttention,
    /// Layer norm before the MLP.
    pub norm2: LayerNorm,
    /// The two-layer MLP.
    pub mlp: Mlp,
}

/// A pre-norm transformer block.
#[derive(Module, Debug)]
pub struct TransformerBlock {
    /// Layer norm before attention.
    pub norm1: LayerNorm,
    /// Attention.
    pub attn: SelfAttention,
    /// Layer norm before the MLP.
    pub norm2: LayerNorm,
    /// The two-layer MLP.
    pub mlp: Mlp,
}

/// Attention within 3×3 windows, whose weights are a linear function of the mean of 2×2 tokens.
#[derive(Module, Debug)]
pub struct OutlookAttention {
    /// Projection to values, `[width, width]`.
    pub v: Linear,
    /// Projection to the scores of all pairs of a window, `[width, heads * 81]`.
    pub attn: Linear,
    /// Output projection, `[width, width]`.
    pub proj: Linear,
    heads: usize,
}

impl OutlookAttention {
    /// Maps `[batch, rows, columns, width]` with even sides.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (shape, device) = (x.dims(), x.device());
        let [batch, rows, columns, width] = shape;
        let (down, across, area, heads) = (rows / STRIDE, columns / STRIDE, WINDOW * WINDOW, self.heads);
        let (windows, head_dim) = (down * across, width / heads);
        let values = by_row(x.clone(), |x| self.v.forward(x));
        // `[batch, down, across, area, width]`: the values of all windows.
        let values: Tensor<5> = Tensor::stack(unfold(values), 3);
        let values: Tensor<5> = values.reshape([batch, windows, area, heads, head_dim]).permute([0, 3, 1, 2, 4]);
        let pooled = avg_pool(x.permute([0, 3, 1, 2]), STRIDE, STRIDE, 0, true, false).permute([0, 2, 3, 1]);
        let scores = by_row(pooled, |x| self.attn.forward(x));
        let scores: Tensor<5> = scores.reshape([batch, windows, heads, area, area]).swap_dims(1, 2);
        let scores = softmax(scores.mul_scalar((head_dim as f64).powf(-0.5)), 4);
        let mixed: Tensor<5> = scores.matmul(values).permute([0, 2, 3, 1, 4]);
        let mixed: Tensor<5> = mixed.reshape([batch, down, across, area, width]);
        let parts = (0..area).map(|i| mixed.clone().narrow(3, i, 1).squeeze_dim(3)).collect();
        by_row(fold(parts, shape, &device), |x| self.proj.forward(x))
    }
}

/// The tokens of all 3×3 windows at every second row and column, position by position within the windows, zero-padded:
/// nine maps `[batch, rows / 2, columns / 2, width]`.
fn unfold(x: Tensor<4>) -> Vec<Tensor<4>> {
    let [batch, rows, columns, width] = x.dims();
    let (down, across) = (rows / STRIDE, columns / STRIDE);
    let zeros = |shape: [usize; 4]| Tensor::zeros(shape, &x.device());
    // One row and column of padding before, and two after, so that all slices have whole pairs.
    let x = Tensor::cat(vec![zeros([batch, 1, columns, width]), x.clone(), zeros([batch, 2, columns, width])], 1);
    let side = zeros([batch, rows + 3, 1, width]);
    let x = Tensor::cat(vec![side.clone(), x, side.clone(), side], 2);
    let part = |i: usize| {
        let (top, left) = (i / WINDOW, i % WINDOW);
        let part = x.clone().narrow(1, top, rows).narrow(2, left, columns);
        let pairs: Tensor<6> = part.reshape([batch, down, STRIDE, across, STRIDE, width]);
        pairs.narrow(2, 0, 1).narrow(4, 0, 1).reshape([batch, down, across, width])
    };
    (0..WINDOW * WINDOW).map(part).collect()
}

/// The sum of overlapping windows, the transpose of [`unfold`]: `[batch, rows, columns, width]`.
fn fold(parts: Vec<Tensor<4>>, shape: [usize; 4], device: &Device) -> Tensor<4> {
    let [batch, rows, columns, width] = shape;
    let mut sum = Tensor::zeros(shape, device);
    for (i, part) in parts.into_iter().enumerate() {
        let [_, down, across, _] = part.dims();
        let (top, left) = (i / WINDOW, i % WINDOW);
        let pairs: Tensor<6> = part.reshape([batch, down, 1, across, 1, width]);
        let zeros = Tensor::zeros([batch, down, STRIDE - 1, across, 1, width], device);
        let pairs = Tensor::cat(vec![pairs, zeros], 2);
        let zeros = Tensor::zeros([batch, down, STRIDE, across, STRIDE - 1, width], device);
        let map: Tensor<4> = Tensor::cat(vec![pairs, zeros], 4).reshape([batch, rows, columns, width]);
        let zeros = |shape: [usize; 4]| Tensor::zeros(shape, device);
        let (above, before) = (zeros([batch, top, columns, width]), zeros([batch, rows + 3, left, width]));
        let (below, after) = (zeros([batch, 3 - top, columns, width]), zeros([batch, rows + 3, 3 - left, width]));
        let whole = |parts: [Tensor<4>; 3], axis: usize| {
            Tensor::cat(parts.into_iter().filter(|part| part.dims()[axis] > 0).collect(), axis)
        };
        let map = whole([before, whole([above, map, below], 1), after], 2);
        sum = sum + map.narrow(1, 1, rows).narrow(2, 1, columns);
    }
    sum
}

impl Stem {
    fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        let (one, norm1, _, two, norm2, _, three, norm3) = &self.conv;
        let x = relu(norm1.forward(one.forward(pixels)));
        let x = relu(norm2.forward(two.forward(x)));
        let x = relu(norm3.forward(three.forward(x)));
        self.proj.forward(x).permute([0, 2, 3, 1])
    }
}

impl Outlooker {
    /// Runs the block on `[batch, rows, columns, width]`; its branches are never dropped.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = x.clone() + self.attn.forward(self.norm1.forward(x));
        x.clone() + by_row(self.norm2.forward(x), |x| self.mlp.forward(x))
    }
}

impl TransformerBlock {
    /// Runs the block on `[batch, rows, columns, width]`.
    fn forward(&self, x: Tensor<4>, factors: [Option<&Tensor<1>>; 2]) -> Tensor<4> {
        let shape = x.dims();
        let [batch, rows, columns, width] = shape;
        let tokens = self.norm1.forward(x.clone()).reshape([batch, rows * columns, width]);
        let x = x + dropped(self.attn.forward(tokens).reshape(shape), factors[0]);
        let mlp = by_row(self.norm2.forward(x.clone()), |x| self.mlp.forward(x));
        x + dropped(mlp, factors[1])
    }
}

impl Volo {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &VoloConfig {
        &self.config
    }
}

impl StagedNetwork for Volo {
    fn depth(&self) -> usize {
        self.config.depths.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_size(&pixels, self.config.image_size)?;
        let mut x = self.patch_embed.forward(pixels);
        let (mut block, mut outputs) = (0, Vec::new());
        for layer in &self.network {
            if outputs.len() == count {
                break;
            }
            match layer {
                VoloLayer::Outlook(blocks) => {
                    for layer in blocks {
                        x = layer.forward(x);
                        block += 1;
                    }
                }
                VoloLayer::Downsample(layer) => {
                    x = layer.proj.forward(x.permute([0, 3, 1, 2])).permute([0, 2, 3, 1]);
                    x = x + self.pos_embed.val();
                    continue;
                }
                VoloLayer::Transformer(blocks) => {
                    for layer in blocks {
                        x = layer.forward(x, [drop_path.factors(block, 0), drop_path.factors(block, 1)]);
                        block += 1;
                    }
                }
            }
            outputs.push(x.clone().permute([0, 3, 1, 2]));
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.norm.forward(tokens)
    }
}
