//! DaViT (Ding et al. 2022, arXiv:2204.03645): stages that alternate attention within windows of tokens and attention
//! between groups of channels. Parameter paths are those of timm's `DaVit`.

use super::block::Mlp;
use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::{is_default, is_yes, yes};
use super::limits::{check_heads, check_multiple, check_sizes, check_stages, is_ratio};
use super::parts::tokens::{by_row, check_size, dropped, project};
use super::parts::window::{partition, reverse};
use super::parts::{Conv, ConvSpec, LayerNorm2d, Padding, SelfAttention};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::operands::{Activation, gelu};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a DaViT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DavitConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Channels per stage.
    pub widths: Vec<usize>,
    /// Number of pairs of blocks per stage.
    pub depths: Vec<usize>,
    /// Number of attention heads, and of groups of channels, per stage.
    pub heads: Vec<usize>,
    /// Side of the windows, in tokens. Default 7.
    #[serde(default = "default_window")]
    pub window: usize,
    /// Hidden channels of the MLPs per channel. Default 4.
    #[serde(default = "default_ratio")]
    pub mlp_ratio: f64,
    /// Whether the projections to queries, keys and values have a bias. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub qkv_bias: bool,
    /// Side of the kernels that halve the feature map. Default 2.
    #[serde(default = "default_down")]
    pub down_kernel: usize,
    /// Whether a GELU follows the position encodings. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub position_activation: bool,
    /// Whether channel attention is scaled by the number of tokens, as in Florence-2. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub token_scale: bool,
    /// Whether the blocks of a pair have names in the checkpoint, and not numbers. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub named_blocks: bool,
    /// Whether there is a norm over the channels at every position of the last feature map. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub final_norm: bool,
    /// Epsilon added to the variance in every norm. Default 1e-5.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Drop-path rate of the last pair of blocks, at least 0 and below 1; it grows linearly from 0. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_window() -> usize {
    7
}

fn default_ratio() -> f64 {
    4.0
}

fn default_down() -> usize {
    2
}

fn default_eps() -> f64 {
    1e-5
}

impl DavitConfig {
    fn side(&self, stage: usize) -> usize {
        (self.image_size / 4) >> stage
    }

    /// The convolution before a stage.
    fn entry(&self, stage: usize, from: usize, to: usize) -> ConvSpec {
        let (kernel, stride) = if stage == 0 { (7, 4) } else { (self.down_kernel, 2) };
        let padding = if kernel.is_multiple_of(2) { 0 } else { kernel / 2 };
        ConvSpec::new(from, to, kernel).stride(stride).padding(Padding::Explicit(padding))
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Davit {
        let norm2d = |width: usize| LayerNorm2d::new(width, self.norm_eps, device);
        let first = self.widths.first().copied().unwrap_or(1);
        let last = self.widths.last().copied().unwrap_or(1);
        let mut before = first;
        let each = self.widths.iter().zip(&self.depths).zip(&self.heads).enumerate();
        let stages = each.map(|(stage, ((width, depth), heads))| {
            let from = std::mem::replace(&mut before, *width);
            Stage {
                downsample: (stage > 0)
                    .then(|| Downsample { norm: norm2d(from), conv: self.entry(stage, from, *width).init(device) }),
                blocks: (0..*depth).map(|_| self.pair(*width, *heads, device)).collect(),
            }
        });
        Davit {
            stem: Stem { conv: self.entry(0, 3, first).init(device), norm: norm2d(first) },
            stages: stages.collect(),
            norm_pre: self.final_norm.then(|| LayerNormConfig::new(last).with_epsilon(self.norm_eps).init(device)),
            config: self.clone(),
        }
    }

    fn pair(&self, width: usize, heads: usize, device: &Device) -> BlockPair {
        let norm = || LayerNormConfig::new(width).with_epsilon(self.norm_eps).init(device);
        let positions =
            || PositionConv { proj: ConvSpec::depthwise(width, 3).init(device), activation: self.position_activation };
        let mlp = || Mlp::new(width, times(width, self.mlp_ratio), width, Activation::Gelu, device);
        let spatial = SpatialBlock {
            cpe1: positions(),
            norm1: norm(),
            attn: SelfAttention::new(width, heads, self.qkv_bias, device),
            cpe2: positions(),
            norm2: norm(),
            mlp: mlp(),
            window: self.window,
        };
        let channel = ChannelBlock {
            cpe1: positions(),
            norm1: norm(),
            attn: ChannelAttention {
                qkv: LinearConfig::new(width, 3 * width).with_bias(self.qkv_bias).init(device),
                proj: LinearConfig::new(width, width).init(device),
                groups: heads,
                token_scale: self.token_scale,
            },
            cpe2: positions(),
            norm2: norm(),
            mlp: mlp(),
        };
        if self.named_blocks {
            BlockPair::Named(NamedPair { spatial_block: spatial, channel_block: channel })
        } else {
            BlockPair::Numbered((spatial, channel))
        }
    }
}

impl StagedConfig for DavitConfig {
    fn check(&self) -> Result<()> {
        const WHAT: &str = "a DaViT";
        let sizes = [("image_size", self.image_size), ("window", self.window), ("down_kernel", self.down_kernel)];
        check_sizes(WHAT, &sizes)?;
        check_stages(WHAT, &[("widths", &self.widths), ("depths", &self.depths), ("heads", &self.heads)])?;
        check_heads(WHAT, &self.widths, &self.heads)?;
        check_multiple(WHAT, self.image_size, 2 << self.widths.len())?;
        if !is_ratio(self.mlp_ratio) || ![2, 3].contains(&self.down_kernel) {
            return Err(Error::usage(format!(
                "{WHAT} with mlp_ratio = {} and down_kernel = {}",
                self.mlp_ratio, self.down_kernel
            ))
            .hint("mlp_ratio must be positive, down_kernel 2 or 3"));
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
        let mut from = 3;
        let each = self.widths.iter().zip(&self.depths).zip(&self.heads).enumerate();
        each.map(|(stage, ((width, depth), heads))| {
            let (side, before) = (self.side(stage), if stage == 0 { self.image_size } else { self.side(stage - 1) });
            let (width, tokens) = (*width, side * side);
            let padded = side.next_multiple_of(self.window).pow(2);
            let mlp = tokens * 2 * width * times(width, self.mlp_ratio);
            let channel = tokens * (4 * width * width + 2 * width * width / heads);
            let encodings = 4 * tokens * 9 * width;
            let pair = SelfAttention::multiply_adds(width, padded, self.window.pow(2))
                + (channel + 2 * mlp + encodings) as u64;
            let entry = self.entry(stage, std::mem::replace(&mut from, width), width).multiply_adds(before);
            LayerShape { width, side, multiply_adds: entry + *depth as u64 * pair }
        })
        .collect()
    }

    fn has_final_norm(&self) -> bool {
        self.final_norm
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.layer_count(), branches: 4 })
    }
}

impl TimmModel for DavitConfig {
    const CLASSES: &'static [&'static str] = &["DaVit"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        arguments.only(&[
            ("attn_types", "[\"spatial\", \"channel\"]"),
            ("ffn", "true"),
            ("norm_layer", "\"layernorm2d\""),
            ("norm_layer_cl", "\"layernorm\""),
        ])?;
        let numbers = |arguments: &mut TimmArguments, key: &str, default: [usize; 4]| -> Result<Vec<usize>> {
            Ok(arguments.numbers(key)?.unwrap_or_else(|| default.to_vec()))
        };
        Ok(TimmNetwork::new(Self {
            image_size,
            widths: numbers(arguments, "embed_dims", [96, 192, 384, 768])?,
            depths: numbers(arguments, "depths", [1, 1, 3, 1])?,
            heads: numbers(arguments, "num_heads", [3, 6, 12, 24])?,
            window: arguments.side("window_size")?.unwrap_or(7),
            mlp_ratio: arguments.real("mlp_ratio")?.unwrap_or(4.0),
            qkv_bias: arguments.flag("qkv_bias", true)?,
            down_kernel: arguments.number("down_kernel_size", 2)?,
            position_activation: arguments.flag("cpe_act", false)?,
            token_scale: arguments.flag("channel_attn_v2", false)?,
            named_blocks: arguments.flag("named_blocks", false)?,
            final_norm: arguments.flag("head_norm_first", false)?,
            norm_eps: arguments.real("norm_eps")?.unwrap_or(1e-5),
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}

/// A DaViT; see the module documentation.
#[derive(Module, Debug)]
pub struct Davit {
    /// Convolution from pixels to a quarter of their resolution, and a norm.
    pub stem: Stem,
    /// The stages, in order of depth.
    pub stages: Vec<Stage>,
    /// Norm over the channels of the last feature map.
    pub norm_pre: Option<LayerNorm>,
    #[module(skip)]
    config: DavitConfig,
}

/// The stem.
#[derive(Module, Debug)]
pub struct Stem {
    /// Overlapping convolution of stride 4.
    pub conv: Conv,
    /// Norm after it.
    pub norm: LayerNorm2d,
}

/// A norm and a convolution that halves the feature map.
#[derive(Module, Debug)]
pub struct Downsample {
    /// The norm.
    pub norm: LayerNorm2d,
    /// The convolution.
    pub conv: Conv,
}

/// A stage of pairs of blocks at one resolution.
#[derive(Module, Debug)]
pub struct Stage {
    /// Halves the feature map; `None` in the first stage.
    pub downsample: Option<Downsample>,
    /// The pairs of blocks.
    pub blocks: Vec<BlockPair>,
}

/// A block of window attention and one of channel attention.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum BlockPair {
    /// With numbers in the checkpoint.
    Numbered((SpatialBlock, ChannelBlock)),
    /// With names in the checkpoint.
    Named(NamedPair),
}

/// A pair of blocks with names.
#[derive(Module, Debug)]
pub struct NamedPair {
    /// Block of window attention.
    pub spatial_block: SpatialBlock,
    /// Block of channel attention.
    pub channel_block: ChannelBlock,
}

/// A depthwise convolution that encodes positions.
#[derive(Module, Debug)]
pub struct PositionConv {
    /// The convolution.
    pub proj: Conv,
    activation: bool,
}

/// A block of attention within windows and an MLP.
#[derive(Module, Debug)]
pub struct SpatialBlock {
    /// Position encoding before attention.
    pub cpe1: PositionConv,
    /// Layer norm before attention.
    pub norm1: LayerNorm,
    /// Attention.
    pub attn: SelfAttention,
    /// Position encoding before the MLP.
    pub cpe2: PositionConv,
    /// Layer norm before the MLP.
    pub norm2: LayerNorm,
    /// The two-layer MLP.
    pub mlp: Mlp,
    window: usize,
}

/// A block of attention between channels and an MLP.
#[derive(Module, Debug)]
pub struct ChannelBlock {
    /// Position encoding before attention.
    pub cpe1: PositionConv,
    /// Layer norm before attention.
    pub norm1: LayerNorm,
    /// Attention.
    pub attn: ChannelAttention,
    /// Position encoding before the MLP.
    pub cpe2: PositionConv,
    /// Layer norm before the MLP.
    pub norm2: LayerNorm,
    /// The two-layer MLP.
    pub mlp: Mlp,
}

/// Attention between the channels of each group.
#[derive(Module, Debug)]
pub struct ChannelAttention {
    /// Projection to queries, keys and values in this order, `[width, 3 * width]`.
    pub qkv: Linear,
    /// Output projection, `[width, width]`.
    pub proj: Linear,
    groups: usize,
    token_scale: bool,
}

impl PositionConv {
    /// Adds the encoding to `[batch, rows, columns, width]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let encoded = self.proj.forward(x.clone().permute([0, 3, 1, 2])).permute([0, 2, 3, 1]);
        x + if self.activation { gelu(encoded) } else { encoded }
    }
}

impl ChannelAttention {
    /// Maps tokens `[batch, tokens, width]`.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let [q, k, v] = project(&self.qkv, x, self.groups);
        // Florence-2 compares queries and keys over all tokens; DaViT compares keys and values.
        let (left, right, mixed, scale) =
            if self.token_scale { (q, k, v, tokens) } else { (k, v, q, width / self.groups) };
        let scores = left.mul_scalar((scale as f64).powf(-0.5)).swap_dims(2, 3).matmul(right);
        let mixed = mixed.matmul(softmax(scores, 3).swap_dims(2, 3));
        by_row(mixed.swap_dims(1, 2).reshape([batch, tokens, width]), |x| self.proj.forward(x))
    }
}

impl SpatialBlock {
    /// Runs the block on `[batch, rows, columns, width]`.
    fn forward(&self, x: Tensor<4>, factors: [Option<&Tensor<1>>; 2]) -> Tensor<4> {
        let ([_, rows, columns, _], window) = (x.dims(), [self.window; 2]);
        let x = self.cpe1.forward(x);
        let windows = partition(self.norm1.forward(x.clone()), window);
        let x = x + dropped(reverse(self.attn.forward(windows), window, [rows, columns]), factors[0]);
        let x = self.cpe2.forward(x);
        let mlp = by_row(self.norm2.forward(x.clone()), |x| self.mlp.forward(x));
        x + dropped(mlp, factors[1])
    }
}

impl ChannelBlock {
    /// Runs the block on `[batch, rows, columns, width]`.
    fn forward(&self, x: Tensor<4>, factors: [Option<&Tensor<1>>; 2]) -> Tensor<4> {
        let [batch, rows, columns, width] = x.dims();
        let x = self.cpe1.forward(x);
        let normed = self.norm1.forward(x.clone()).reshape([batch, rows * columns, width]);
        let x = x + dropped(self.attn.forward(normed).reshape([batch, rows, columns, width]), factors[0]);
        let x = self.cpe2.forward(x);
        let mlp = by_row(self.norm2.forward(x.clone()), |x| self.mlp.forward(x));
        x + dropped(mlp, factors[1])
    }
}

impl Davit {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &DavitConfig {
        &self.config
    }
}

impl StagedNetwork for Davit {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_size(&pixels, self.config.image_size)?;
        let mut x = self.stem.norm.forward(self.stem.conv.forward(pixels));
        let (mut block, mut outputs) = (0, Vec::new());
        for stage in self.stages.iter().take(count) {
            if let Some(Downsample { norm, conv }) = &stage.downsample {
                x = conv.forward(norm.forward(x));
            }
            x = x.permute([0, 2, 3, 1]);
            for pair in &stage.blocks {
                let (spatial, channel) = match pair {
                    BlockPair::Numbered((spatial, channel)) => (spatial, channel),
                    BlockPair::Named(pair) => (&pair.spatial_block, &pair.channel_block),
                };
                let factors = |branch: usize| drop_path.factors(block, branch);
                x = spatial.forward(x, [factors(0), factors(1)]);
                x = channel.forward(x, [factors(2), factors(3)]);
                block += 1;
            }
            x = x.permute([0, 3, 1, 2]);
            outputs.push(x.clone());
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        match &self.norm_pre {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        }
    }
}
