//! Next-ViT hyper-parameters, their validation, and the construction of the network.

use super::super::drop_path::{self, DropPathSpec};
use super::super::fields::is_default;
use super::super::limits::MAX_SIZE;
use super::super::parts::{ActivationKind, ConvSpec, FrozenBatchNorm};
use super::super::staged::{LayerShape, StagedConfig};
use super::{
    ConvAttention, ConvMlp, EfficientAttention, NextBlock, NextConvBlock, NextTransformerBlock, NextVit, PatchEmbed,
    Stage, StemLayer,
};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::nn::LinearConfig;
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// Epsilon of all batch norms.
const EPS: f64 = 1e-5;
/// Channels of the blocks of each stage, then those of its transformer blocks; the first stage has none.
const CHANNELS: [[usize; 2]; 4] = [[96, 96], [192, 256], [384, 512], [768, 1024]];

/// Hyper-parameters of a Next-ViT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NextVitConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Channels of the stem's convolutions; the last two have the last number.
    #[serde(default = "default_stem")]
    pub stem_channels: [usize; 3],
    /// Number of blocks per stage; a multiple of 5 in the third stage, whose every fifth block has self-attention.
    pub depths: [usize; 4],
    /// Stride of the first block per stage, 1 or 2. Default 1, 2, 2, 2.
    #[serde(default = "default_strides")]
    pub strides: [usize; 4],
    /// Per stage, self-attention has this number squared of tokens in one key. Default 8, 4, 2, 1.
    #[serde(default = "default_reductions")]
    pub reductions: [usize; 4],
    /// Channels of a head. Default 32.
    #[serde(default = "default_head_dim")]
    pub head_dim: usize,
    /// Share of a transformer block's channels that self-attention computes. Default 0.75.
    #[serde(default = "default_ratio")]
    pub attention_ratio: f64,
    /// Activation. Default ReLU.
    #[serde(default)]
    pub activation: ActivationKind,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. It holds for
    /// all branches; timm multiplies that of self-attention and of the convolution beside it by their share of the
    /// channels. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_stem() -> [usize; 3] {
    [64, 32, 64]
}

fn default_strides() -> [usize; 4] {
    [1, 2, 2, 2]
}

fn default_reductions() -> [usize; 4] {
    [8, 4, 2, 1]
}

fn default_head_dim() -> usize {
    32
}

fn default_ratio() -> f64 {
    0.75
}

/// Shape of a block.
#[derive(Debug, Clone, Copy)]
struct BlockShape {
    stage: usize,
    from: usize,
    to: usize,
    stride: usize,
    transformer: bool,
}

impl NextVitConfig {
    fn stem(&self) -> [ConvSpec; 4] {
        let [first, second, third] = self.stem_channels;
        let conv = |from, to, stride| ConvSpec::new(from, to, 3).stride(stride).bias(false);
        [conv(3, first, 2), conv(first, second, 1), conv(second, third, 1), conv(third, third, 2)]
    }

    /// The blocks of all stages.
    fn blocks(&self) -> Vec<BlockShape> {
        let mut from = self.stem_channels[2];
        let mut blocks = Vec::new();
        for (stage, (depth, [plain, mixed])) in self.depths.into_iter().zip(CHANNELS).enumerate() {
            for block in 0..depth {
                let transformer = match stage {
                    0 => false,
                    2 => block % 5 == 4,
                    _ => block + 1 == depth,
                };
                let to = if transformer { mixed } else { plain };
                let stride = if block == 0 { self.strides[stage] } else { 1 };
                blocks.push(BlockShape { stage, from, to, stride, transformer });
                from = to;
            }
        }
        blocks
    }

    /// Output channels of a transformer block's self-attention: a multiple of 32, at least 0.9 of its share.
    fn attention_channels(&self, channels: usize) -> usize {
        let share = times(channels, self.attention_ratio);
        let rounded = ((share + 16) / 32 * 32).max(32);
        if (rounded as f64) < 0.9 * share as f64 { rounded + 32 } else { rounded }
    }

    fn embed(from: usize, to: usize, stride: usize) -> Option<ConvSpec> {
        (stride == 2 || from != to).then(|| ConvSpec::new(from, to, 1).bias(false))
    }

    /// The convolutions of convolutional attention.
    fn conv_attention(&self, channels: usize) -> [ConvSpec; 2] {
        let groups = channels / self.head_dim;
        [
            ConvSpec::new(channels, channels, 3).groups(groups).bias(false),
            ConvSpec::new(channels, channels, 1).bias(false),
        ]
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> NextVit {
        let norm = |channels| FrozenBatchNorm::new(channels, EPS, device);
        let mut stages: Vec<Stage> = self.depths.iter().map(|_| Stage { blocks: Vec::new() }).collect();
        for shape in self.blocks() {
            if let Some(stage) = stages.get_mut(shape.stage) {
                stage.blocks.push(self.block(shape, device));
            }
        }
        let layer = |conv: ConvSpec| StemLayer { conv: conv.init(device), norm: norm(conv.to) };
        NextVit {
            stem: self.stem().into_iter().map(layer).collect(),
            stages,
            norm: norm(CHANNELS[3][1]),
            config: self.clone(),
        }
    }

    fn block(&self, shape: BlockShape, device: &Device) -> NextBlock {
        let BlockShape { stage, from, to, stride, transformer } = shape;
        let norm = |channels| FrozenBatchNorm::new(channels, EPS, device);
        let embed = |from, to, stride| {
            Self::embed(from, to, stride).map(|conv| PatchEmbed { conv: conv.init(device), norm: norm(to), stride })
        };
        let mhca = |channels| {
            let [group_conv3x3, projection] = self.conv_attention(channels).map(|conv| conv.init(device));
            ConvAttention { group_conv3x3, norm: norm(channels), projection }
        };
        let mlp = |ratio: usize| ConvMlp {
            fc1: ConvSpec::new(to, ratio * to, 1).init(device),
            fc2: ConvSpec::new(ratio * to, to, 1).init(device),
        };
        if !transformer {
            return NextBlock::Conv(NextConvBlock {
                patch_embed: embed(from, to, stride),
                mhca: mhca(to),
                norm: norm(to),
                mlp: mlp(3),
            });
        }
        let attention = self.attention_channels(to);
        let linear = || LinearConfig::new(attention, attention).init(device);
        let group = self.reductions[stage].pow(2);
        NextBlock::Transformer(NextTransformerBlock {
            patch_embed: embed(from, attention, stride),
            norm1: norm(attention),
            e_mhsa: EfficientAttention {
                q: linear(),
                k: linear(),
                v: linear(),
                proj: linear(),
                norm: (group > 1).then(|| norm(attention)),
                heads: attention / self.head_dim,
                group,
            },
            projection: embed(attention, to - attention, 1),
            mhca: mhca(to - attention),
            norm2: norm(to),
            mlp: mlp(2),
        })
    }

    /// Multiply-add operations of a block whose output has `side` × `side` positions.
    fn block_multiply_adds(&self, shape: BlockShape, side: usize) -> u64 {
        let BlockShape { stage, from, to, stride, transformer } = shape;
        let all = |convs: &[ConvSpec]| convs.iter().map(|conv| conv.multiply_adds(side)).sum::<u64>();
        let embed = |from, to, stride| all(Self::embed(from, to, stride).as_slice());
        let (positions, width) = ((side * side) as u64, to as u64);
        if !transformer {
            return embed(from, to, stride) + all(&self.conv_attention(to)) + positions * 6 * width * width;
        }
        let attention = self.attention_channels(to);
        let keys = positions / (self.reductions[stage] as u64).pow(2);
        let inner = attention as u64;
        let mixing = (2 * positions + 2 * keys) * inner * inner + 2 * positions * keys * inner;
        embed(from, attention, stride)
            + mixing
            + embed(attention, to - attention, 1)
            + all(&self.conv_attention(to - attention))
            + positions * 4 * width * width
    }
}

impl StagedConfig for NextVitConfig {
    fn check(&self) -> Result<()> {
        let sizes = [self.image_size, self.head_dim].into_iter().chain(self.stem_channels).chain(self.depths);
        let positive = sizes.chain(self.reductions).all(|n| (1..=MAX_SIZE).contains(&n));
        let strides = self.strides.iter().all(|stride| matches!(stride, 1 | 2));
        let ratio = (0.1..1.0).contains(&self.attention_ratio);
        if !positive || !strides || !ratio || !self.depths[2].is_multiple_of(5) {
            return Err(Error::usage(format!(
                "invalid Next-ViT: image_size {}, stem_channels {:?}, depths {:?}, strides {:?}, reductions {:?}, \
                 head_dim {}, attention_ratio {}",
                self.image_size,
                self.stem_channels,
                self.depths,
                self.strides,
                self.reductions,
                self.head_dim,
                self.attention_ratio
            ))
            .hint("all must be positive and at most 65536, strides 1 or 2, the third depth a multiple of 5"));
        }
        let divides = |channels: usize| channels > 0 && channels.is_multiple_of(self.head_dim);
        for BlockShape { to, transformer, .. } in self.blocks() {
            let attention = if transformer { self.attention_channels(to) } else { 0 };
            if attention >= to || !divides(to - attention) || (transformer && !divides(attention)) {
                return Err(Error::usage(format!(
                    "head_dim = {} does not divide the channels of all layers",
                    self.head_dim
                ))
                .hint("use 32, or another divisor of 32"));
            }
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
        let (mut side, mut extra) = (self.image_size, 0);
        for conv in self.stem() {
            extra += conv.multiply_adds(side);
            side = conv.out_side(side);
        }
        let mut layers: Vec<LayerShape> = Vec::new();
        for shape in self.blocks() {
            if shape.stride == 2 {
                side = side.div_ceil(2);
            }
            let multiply_adds = self.block_multiply_adds(shape, side);
            match layers.get_mut(shape.stage) {
                Some(layer) => {
                    layer.width = shape.to;
                    layer.multiply_adds += multiply_adds;
                }
                None => layers.push(LayerShape { width: shape.to, side, multiply_adds: extra + multiply_adds }),
            }
            extra = 0;
        }
        layers
    }

    fn has_final_norm(&self) -> bool {
        true
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.depths.iter().sum(), branches: 3 })
    }
}

impl TimmModel for NextVitConfig {
    const CLASSES: &'static [&'static str] = &["NextViT"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3"), ("norm_layer", "\"BatchNorm2d\"")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let three = |list: Vec<usize>| <[usize; 3]>::try_from(list).ok();
        let stem_channels = arguments.numbers("stem_chs")?.map_or(Some(default_stem()), three);
        let stem_channels = stem_channels.ok_or_else(|| arguments.invalid("stem_chs has not three numbers"))?;
        Ok(TimmNetwork::new(Self {
            image_size,
            stem_channels,
            depths: arguments.four("depths", [3, 4, 10, 3])?,
            strides: arguments.four("strides", default_strides())?,
            reductions: arguments.four("sr_ratios", default_reductions())?,
            head_dim: arguments.number("head_dim", default_head_dim())?,
            attention_ratio: arguments.real("mix_block_ratio")?.unwrap_or(default_ratio()),
            activation: arguments.activation("act_layer", ActivationKind::Relu)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.1),
        }))
    }
}
