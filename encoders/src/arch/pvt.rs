//! PVT V2 (Wang et al. 2022, arXiv:2106.13797): a pyramid of transformer stages whose keys and values come from a
//! reduced feature map. Parameter paths are those of timm's `PyramidVisionTransformerV2`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::{is_default, is_yes, yes};
use super::limits::{check_heads, check_multiple, check_sizes, check_stages, is_ratio};
use super::parts::tokens::{by_row, check_size, dropped};
use super::parts::{Conv, ConvEmbed, ConvSpec, Padding, ReducedAttention, Reduction};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::operands::gelu;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::relu};
use serde::{Deserialize, Serialize};

/// Side of the pooled map of keys and values in linear attention.
const POOLED: usize = 7;

/// Hyper-parameters of a PVT V2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PvtConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Channels per stage.
    pub widths: Vec<usize>,
    /// Number of blocks per stage.
    pub depths: Vec<usize>,
    /// Number of attention heads per stage.
    pub heads: Vec<usize>,
    /// Factor per stage by which the sides of the map of keys and values are reduced.
    pub reductions: Vec<usize>,
    /// Hidden channels of the MLPs per channel, per stage.
    pub mlp_ratios: Vec<f64>,
    /// Whether keys and values come from a map that is pooled to 7×7 (linear attention). Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub linear: bool,
    /// Whether the projections to queries, keys and values have a bias. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub qkv_bias: bool,
    /// Epsilon added to the variance in the norms of blocks and stages. Default 1e-6.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
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
    reduction: Reduction,
    side: usize,
}

impl PvtConfig {
    fn stages(&self) -> Vec<StageSizes> {
        let mut before = 3;
        let each = self.widths.iter().zip(&self.depths).zip(&self.heads).zip(&self.reductions).zip(&self.mlp_ratios);
        each.enumerate()
            .map(|(stage, ((((width, depth), heads), reduction), ratio))| {
                let reduction =
                    if self.linear { Reduction::Pooling(POOLED) } else { Reduction::Convolution(*reduction) };
                let sizes = StageSizes {
                    before,
                    width: *width,
                    depth: *depth,
                    heads: *heads,
                    hidden: times(*width, *ratio),
                    reduction,
                    side: (self.image_size / 4) >> stage,
                };
                before = *width;
                sizes
            })
            .collect()
    }

    /// The convolution before a stage.
    fn entry(stage: usize, before: usize, width: usize) -> ConvSpec {
        let (kernel, stride) = if stage == 0 { (7, 4) } else { (3, 2) };
        ConvSpec::new(before, width, kernel).stride(stride).padding(Padding::Explicit(kernel / 2))
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Pvt {
        let norm = |width: usize| LayerNormConfig::new(width).with_epsilon(self.norm_eps).init(device);
        // timm's norms outside of the blocks have PyTorch's epsilon.
        let entry = |stage: usize, before: usize, width: usize| {
            ConvEmbed::new(Self::entry(stage, before, width), Some(1e-5), device)
        };
        let sizes = self.stages();
        let stages = sizes.iter().enumerate().map(|(stage, sizes)| Stage {
            downsample: (stage > 0).then(|| entry(stage, sizes.before, sizes.width)),
            blocks: (0..sizes.depth)
                .map(|_| PvtBlock {
                    norm1: norm(sizes.width),
                    attn: ReducedAttention::new(sizes.width, sizes.heads, self.qkv_bias, sizes.reduction, device),
                    norm2: norm(sizes.width),
                    mlp: DepthwiseMlp {
                        fc1: LinearConfig::new(sizes.width, sizes.hidden).init(device),
                        dwconv: ConvSpec::depthwise(sizes.hidden, 3).init(device),
                        fc2: LinearConfig::new(sizes.hidden, sizes.width).init(device),
                        relu: self.linear,
                    },
                })
                .collect(),
            norm: norm(sizes.width),
        });
        let first = self.widths.first().copied().unwrap_or(1);
        Pvt { patch_embed: entry(0, 3, first), stages: stages.collect(), config: self.clone() }
    }
}

impl StagedConfig for PvtConfig {
    fn check(&self) -> Result<()> {
        const WHAT: &str = "a PVT V2";
        check_sizes(WHAT, &[("image_size", self.image_size)])?;
        let lists: [(&str, &[usize]); 4] = [
            ("widths", &self.widths),
            ("depths", &self.depths),
            ("heads", &self.heads),
            ("reductions", &self.reductions),
        ];
        check_stages(WHAT, &lists)?;
        check_heads(WHAT, &self.widths, &self.heads)?;
        check_multiple(WHAT, self.image_size, 2 << self.widths.len())?;
        if self.mlp_ratios.len() != self.widths.len() || !self.mlp_ratios.iter().all(|ratio| is_ratio(*ratio)) {
            return Err(Error::usage(format!("{WHAT} with mlp_ratios = {:?}", self.mlp_ratios))
                .hint("give one positive number per stage"));
        }
        if let Some((side, reduction)) = (0..).zip(&self.reductions).find_map(|(stage, reduction)| {
            let side = (self.image_size / 4) >> stage;
            (!self.linear && *reduction > side).then_some((side, *reduction))
        }) {
            return Err(Error::usage(format!("{WHAT} that reduces a map of side {side} by {reduction}")));
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
            let tokens = (sizes.side * sizes.side) as u64;
            let mlp = tokens * (sizes.hidden * (2 * sizes.width + 9)) as u64;
            let block = ReducedAttention::multiply_adds(sizes.width, sizes.side, sizes.reduction) + mlp;
            let entry = Self::entry(stage, sizes.before, sizes.width).multiply_adds(before);
            before = sizes.side;
            LayerShape { width: sizes.width, side: sizes.side, multiply_adds: entry + sizes.depth as u64 * block }
        })
        .collect()
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.layer_count(), branches: 2 })
    }
}

impl TimmModel for PvtConfig {
    const CLASSES: &'static [&'static str] = &["PyramidVisionTransformerV2"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let ratios = |value: &serde_json::Value| match value.as_array() {
            None => value.as_f64().map(|ratio| vec![ratio; 4]),
            Some(list) => list.iter().map(serde_json::Value::as_f64).collect(),
        };
        let numbers = |arguments: &mut TimmArguments, key: &str, default: [usize; 4]| -> Result<Vec<usize>> {
            Ok(arguments.numbers(key)?.unwrap_or_else(|| default.to_vec()))
        };
        Ok(TimmNetwork::new(Self {
            image_size,
            widths: numbers(arguments, "embed_dims", [64, 128, 256, 512])?,
            depths: numbers(arguments, "depths", [3, 4, 6, 3])?,
            heads: numbers(arguments, "num_heads", [1, 2, 4, 8])?,
            reductions: numbers(arguments, "sr_ratios", [8, 4, 2, 1])?,
            mlp_ratios: arguments.read("mlp_ratios", ratios)?.unwrap_or_else(|| vec![8.0, 8.0, 4.0, 4.0]),
            linear: arguments.flag("linear", false)?,
            qkv_bias: arguments.flag("qkv_bias", true)?,
            norm_eps: arguments.norm_eps(1e-6)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}

/// A PVT V2; see the module documentation.
#[derive(Module, Debug)]
pub struct Pvt {
    /// Overlapping patch embedding.
    pub patch_embed: ConvEmbed,
    /// The stages, in order of depth.
    pub stages: Vec<Stage>,
    #[module(skip)]
    config: PvtConfig,
}

/// A stage of blocks at one resolution, with a norm at its end.
#[derive(Module, Debug)]
pub struct Stage {
    /// Overlapping embedding that halves the feature map; `None` in the first stage.
    pub downsample: Option<ConvEmbed>,
    /// The blocks.
    pub blocks: Vec<PvtBlock>,
    /// Layer norm of the stage's output.
    pub norm: LayerNorm,
}

/// A pre-norm block of attention with reduced keys and values and an MLP with a depthwise convolution.
#[derive(Module, Debug)]
pub struct PvtBlock {
    /// Layer norm before attention.
    pub norm1: LayerNorm,
    /// Attention.
    pub attn: ReducedAttention,
    /// Layer norm before the MLP.
    pub norm2: LayerNorm,
    /// The MLP.
    pub mlp: DepthwiseMlp,
}

/// Two linear layers with a depthwise convolution and GELU between them.
#[derive(Module, Debug)]
pub struct DepthwiseMlp {
    /// First layer, `[width, hidden]`.
    pub fc1: Linear,
    /// Depthwise 3×3 convolution.
    pub dwconv: Conv,
    /// Second layer, `[hidden, width]`.
    pub fc2: Linear,
    relu: bool,
}

impl DepthwiseMlp {
    /// Maps `[batch, rows, columns, width]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = by_row(x, |x| self.fc1.forward(x));
        let x = if self.relu { relu(x) } else { x };
        let x = gelu(self.dwconv.forward(x.permute([0, 3, 1, 2]))).permute([0, 2, 3, 1]);
        by_row(x, |x| self.fc2.forward(x))
    }
}

impl PvtBlock {
    /// Runs the block on `[batch, rows, columns, width]`.
    fn forward(&self, x: Tensor<4>, factors: [Option<&Tensor<1>>; 2]) -> Tensor<4> {
        let x = x.clone() + dropped(self.attn.forward(self.norm1.forward(x)), factors[0]);
        x.clone() + dropped(self.mlp.forward(self.norm2.forward(x)), factors[1])
    }
}

impl Pvt {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &PvtConfig {
        &self.config
    }
}

impl StagedNetwork for Pvt {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_size(&pixels, self.config.image_size)?;
        let mut x = self.patch_embed.forward(pixels);
        let (mut block, mut outputs) = (0, Vec::new());
        for stage in self.stages.iter().take(count) {
            if let Some(layer) = &stage.downsample {
                x = layer.forward(x.permute([0, 3, 1, 2]));
            }
            for layer in &stage.blocks {
                x = layer.forward(x, [drop_path.factors(block, 0), drop_path.factors(block, 1)]);
                block += 1;
            }
            x = stage.norm.forward(x);
            outputs.push(x.clone().permute([0, 3, 1, 2]));
        }
        Ok(outputs)
    }
}
