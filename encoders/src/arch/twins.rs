//! Twins (Chu et al. 2021, arXiv:2104.13840): a pyramid of transformer stages with convolutional position encodings.
//! Twins-PCPVT attends to reduced feature maps; Twins-SVT alternates attention within windows and to reduced feature
//! maps. Parameter paths are those of timm's `Twins`.

use super::block::Mlp;
use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::is_default;
use super::limits::{check_heads, check_multiple, check_sizes, check_stages, is_ratio};
use super::parts::tokens::{by_row, check_size, dropped};
use super::parts::window::{partition, reverse};
use super::parts::{Conv, ConvEmbed, ConvSpec, Padding, ReducedAttention, Reduction, SelfAttention};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::operands::Activation;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a Twins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TwinsConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Side of a patch, in pixels. Default 4.
    #[serde(default = "default_patch")]
    pub patch: usize,
    /// Channels per stage.
    pub widths: Vec<usize>,
    /// Number of blocks per stage.
    pub depths: Vec<usize>,
    /// Number of attention heads per stage.
    pub heads: Vec<usize>,
    /// Factor per stage by which the sides of the map of keys and values are reduced.
    pub reductions: Vec<usize>,
    /// Side of the windows of every other block per stage, in tokens, beginning with the first; empty for no windows.
    /// Default empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub windows: Vec<usize>,
    /// Hidden channels of the MLPs per channel, per stage.
    pub mlp_ratios: Vec<f64>,
    /// Epsilon added to the variance in the norms of the blocks and at the end. Default 1e-6.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_patch() -> usize {
    4
}

fn default_eps() -> f64 {
    1e-6
}

/// Sizes of one stage.
#[derive(Debug, Clone, Copy)]
struct StageSizes {
    before: usize,
    width: usize,
    depth: usize,
    heads: usize,
    hidden: usize,
    reduction: usize,
    /// Side of the windows; 1 for none.
    window: usize,
    side: usize,
}

impl TwinsConfig {
    fn stages(&self) -> Vec<StageSizes> {
        let mut before = 3;
        let each = self.widths.iter().zip(&self.depths).zip(&self.heads).zip(&self.reductions).zip(&self.mlp_ratios);
        each.enumerate()
            .map(|(stage, ((((width, depth), heads), reduction), ratio))| {
                let sizes = StageSizes {
                    before,
                    width: *width,
                    depth: *depth,
                    heads: *heads,
                    hidden: times(*width, *ratio),
                    reduction: *reduction,
                    window: self.windows.get(stage).copied().unwrap_or(1),
                    side: (self.image_size / self.patch) >> stage,
                };
                before = *width;
                sizes
            })
            .collect()
    }

    /// The convolution before a stage.
    fn entry(&self, stage: usize, sizes: &StageSizes) -> ConvSpec {
        let patch = if stage == 0 { self.patch } else { 2 };
        ConvSpec::new(sizes.before, sizes.width, patch).stride(patch).padding(Padding::Explicit(0))
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Twins {
        let norm = |width: usize| LayerNormConfig::new(width).with_epsilon(self.norm_eps).init(device);
        let sizes = self.stages();
        let block = |sizes: &StageSizes, block: usize| TwinsBlock {
            norm1: norm(sizes.width),
            attn: if is_windowed(sizes, block) {
                TwinsAttention::Windows(SelfAttention::new(sizes.width, sizes.heads, true, device))
            } else {
                let reduction = Reduction::Convolution(sizes.reduction);
                TwinsAttention::Reduced(ReducedAttention::new(sizes.width, sizes.heads, true, reduction, device))
            },
            window: sizes.window,
            norm2: norm(sizes.width),
            mlp: Mlp::new(sizes.width, sizes.hidden, sizes.width, Activation::Gelu, device),
        };
        Twins {
            // The norms of the embeddings have PyTorch's epsilon.
            patch_embeds: sizes
                .iter()
                .enumerate()
                .map(|(stage, sizes)| ConvEmbed::new(self.entry(stage, sizes), Some(1e-5), device))
                .collect(),
            blocks: sizes.iter().map(|sizes| (0..sizes.depth).map(|i| block(sizes, i)).collect()).collect(),
            pos_block: sizes
                .iter()
                .map(|sizes| PositionConv { proj: vec![ConvSpec::depthwise(sizes.width, 3).init(device)] })
                .collect(),
            norm: norm(sizes.last().map_or(1, |sizes| sizes.width)),
            config: self.clone(),
        }
    }
}

/// Whether a block attends within windows.
fn is_windowed(sizes: &StageSizes, block: usize) -> bool {
    sizes.window != 1 && block.is_multiple_of(2)
}

impl StagedConfig for TwinsConfig {
    fn check(&self) -> Result<()> {
        const WHAT: &str = "a Twins";
        check_sizes(WHAT, &[("image_size", self.image_size), ("patch", self.patch)])?;
        let mut lists: Vec<(&str, &[usize])> = vec![
            ("widths", &self.widths),
            ("depths", &self.depths),
            ("heads", &self.heads),
            ("reductions", &self.reductions),
        ];
        if !self.windows.is_empty() {
            lists.push(("windows", &self.windows));
        }
        check_stages(WHAT, &lists)?;
        check_heads(WHAT, &self.widths, &self.heads)?;
        check_multiple(WHAT, self.image_size, self.patch << (self.widths.len() - 1))?;
        if self.mlp_ratios.len() != self.widths.len() || !self.mlp_ratios.iter().all(|ratio| is_ratio(*ratio)) {
            return Err(Error::usage(format!("{WHAT} with mlp_ratios = {:?}", self.mlp_ratios))
                .hint("give one positive number per stage"));
        }
        if let Some(sizes) = self.stages().iter().find(|sizes| sizes.reduction > sizes.side) {
            return Err(Error::usage(format!(
                "{WHAT} that reduces a map of side {} by {}",
                sizes.side, sizes.reduction
            )));
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
        let mut before = self.image_size;
        let each = self.stages().into_iter().enumerate();
        each.map(|(stage, sizes)| {
            let (width, side, tokens) = (sizes.width, sizes.side, sizes.side * sizes.side);
            let block = |block: usize| {
                let attention = if is_windowed(&sizes, block) {
                    let padded = side.next_multiple_of(sizes.window).pow(2);
                    // Padding is removed before the output projection.
                    let padding = ((padded - tokens) * width * width) as u64;
                    SelfAttention::multiply_adds(width, padded, sizes.window.pow(2)) - padding
                } else {
                    ReducedAttention::multiply_adds(width, side, Reduction::Convolution(sizes.reduction))
                };
                attention + (tokens * 2 * width * sizes.hidden) as u64
            };
            let blocks: u64 = (0..sizes.depth).map(block).sum();
            let entry = self.entry(stage, &sizes).multiply_adds(before) + (tokens * 9 * width) as u64;
            before = side;
            LayerShape { width, side, multiply_adds: entry + blocks }
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

impl TimmModel for TwinsConfig {
    const CLASSES: &'static [&'static str] = &["Twins"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        arguments.only(&[("block_cls", "\"Block\"")])?;
        let ratios = |value: &serde_json::Value| value.as_array()?.iter().map(serde_json::Value::as_f64).collect();
        let numbers = |arguments: &mut TimmArguments, key: &str, default: [usize; 4]| -> Result<Vec<usize>> {
            Ok(arguments.numbers(key)?.unwrap_or_else(|| default.to_vec()))
        };
        Ok(TimmNetwork::new(Self {
            image_size,
            patch: arguments.number("patch_size", 4)?,
            widths: numbers(arguments, "embed_dims", [64, 128, 256, 512])?,
            depths: numbers(arguments, "depths", [3, 4, 6, 3])?,
            heads: numbers(arguments, "num_heads", [1, 2, 4, 8])?,
            reductions: numbers(arguments, "sr_ratios", [8, 4, 2, 1])?,
            windows: arguments.numbers("wss")?.unwrap_or_default(),
            mlp_ratios: arguments.read("mlp_ratios", ratios)?.unwrap_or_else(|| vec![4.0; 4]),
            norm_eps: arguments.norm_eps(1e-6)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}

/// A Twins; see the module documentation.
#[derive(Module, Debug)]
pub struct Twins {
    /// Embedding before each stage.
    pub patch_embeds: Vec<ConvEmbed>,
    /// Blocks per stage.
    pub blocks: Vec<Vec<TwinsBlock>>,
    /// Position encoding after the first block of each stage.
    pub pos_block: Vec<PositionConv>,
    /// Norm over the channels of the last feature map.
    pub norm: LayerNorm,
    #[module(skip)]
    config: TwinsConfig,
}

/// A depthwise 3×3 convolution as position encoding (Chu et al. 2021, arXiv:2102.10882).
#[derive(Module, Debug)]
pub struct PositionConv {
    /// The convolution, a list of one.
    pub proj: Vec<Conv>,
}

/// A pre-norm block.
#[derive(Module, Debug)]
pub struct TwinsBlock {
    /// Layer norm before attention.
    pub norm1: LayerNorm,
    /// Attention.
    pub attn: TwinsAttention,
    /// Layer norm before the MLP.
    pub norm2: LayerNorm,
    /// The two-layer MLP.
    pub mlp: Mlp,
    window: usize,
}

/// Attention, one variant per kind.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum TwinsAttention {
    /// Attention within windows.
    Windows(SelfAttention),
    /// Attention to a reduced feature map.
    Reduced(ReducedAttention),
}

impl TwinsBlock {
    /// Runs the block on `[batch, rows, columns, width]`.
    fn forward(&self, x: Tensor<4>, factors: [Option<&Tensor<1>>; 2]) -> Tensor<4> {
        let normed = self.norm1.forward(x.clone());
        let branch = match &self.attn {
            TwinsAttention::Reduced(attention) => attention.forward(normed),
            TwinsAttention::Windows(attention) => {
                let ([_, rows, columns, _], window) = (normed.dims(), [self.window; 2]);
                let mixed = reverse(attention.mixed(partition(normed, window)), window, [rows, columns]);
                by_row(mixed, |x| attention.proj.forward(x))
            }
        };
        let x = x + dropped(branch, factors[0]);
        let mlp = by_row(self.norm2.forward(x.clone()), |x| self.mlp.forward(x));
        x + dropped(mlp, factors[1])
    }
}

impl PositionConv {
    /// Adds the encoding to `[batch, rows, columns, width]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.proj.iter().fold(x, |x, conv| x.clone() + conv.forward(x.permute([0, 3, 1, 2])).permute([0, 2, 3, 1]))
    }
}

impl Twins {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &TwinsConfig {
        &self.config
    }
}

impl StagedNetwork for Twins {
    fn depth(&self) -> usize {
        self.blocks.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_size(&pixels, self.config.image_size)?;
        let (mut x, mut block, mut outputs) = (pixels, 0, Vec::new());
        for ((embed, blocks), positions) in self.patch_embeds.iter().zip(&self.blocks).zip(&self.pos_block).take(count)
        {
            x = embed.forward(x);
            for (i, layer) in blocks.iter().enumerate() {
                x = layer.forward(x, [drop_path.factors(block, 0), drop_path.factors(block, 1)]);
                block += 1;
                if i == 0 {
                    x = positions.forward(x);
                }
            }
            x = x.permute([0, 3, 1, 2]);
            outputs.push(x.clone());
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.norm.forward(tokens)
    }
}
