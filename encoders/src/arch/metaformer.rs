//! MetaFormer (Yu et al. 2022, arXiv:2210.13452): PoolFormer V1 and V2, ConvFormer and CAFormer. Each block mixes
//! tokens, then channels; the families differ in the token mixer only. Parameter paths are those of timm's
//! `MetaFormer`.
//!
//! Activations are channels-last, as norms and MLPs need them; only pooling and depthwise convolutions are
//! channels-first.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::is_default;
use super::limits::MAX_SIZE;
use super::parts::{
    Conv, ConvSpec, ImageNorm, Padding, Pointwise, PointwiseConv, QkvAttention, QkvAttentionConfig, add_branch,
    avg_pool, channels_first, channels_last,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::operands::gelu;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Channels of an attention head.
const HEAD_DIM: usize = 32;
/// Side of the kernel of the depthwise convolution in separable convolutions.
const KERNEL: usize = 7;

/// The token mixer of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum TokenMixerKind {
    /// 3×3 average pooling minus the input (PoolFormer).
    Pooling,
    /// Inverted separable convolution with a 7×7 depthwise convolution (ConvFormer).
    SeparableConvolution,
    /// Multi-head self-attention with heads of 32 channels (the last two stages of CAFormer).
    Attention,
}

/// The norm of a MetaFormer's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MetaFormerNorm {
    /// Layer norm over the channels of each position.
    Layer,
    /// Group norm with one group: over all positions and channels of an image.
    Group,
}

/// Hyper-parameters of a MetaFormer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MetaFormerConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Number of blocks per stage.
    pub depths: Vec<usize>,
    /// Channels per stage.
    pub dims: Vec<usize>,
    /// Token mixer per stage.
    pub mixers: Vec<TokenMixerKind>,
    /// Norm of the blocks.
    pub norm: MetaFormerNorm,
    /// Whether the norms of the blocks have a shift. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub norm_bias: bool,
    /// Epsilon added to the variance in every norm. Default 1e-6.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Whether the stem and the downsampling layers have a norm (a layer norm without shift). Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub downsample_norm: bool,
    /// Whether the activation of the MLPs is StarReLU, s · relu(x)² + b with learned s and b, and not exact GELU.
    /// Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub star_relu: bool,
    /// Whether the layers of the MLPs have biases. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub mlp_bias: bool,
    /// Initial value of the layer scale of each residual branch. Default: no layer scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer_scale: Option<f64>,
    /// Per stage, whether the skip connections have a learned factor per channel. Default: none has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub residual_scale: Vec<bool>,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_eps() -> f64 {
    1e-6
}

/// A MetaFormer; see the module documentation.
#[derive(Module, Debug)]
pub struct MetaFormer {
    /// Stem: a 7×7 convolution of stride 4, then a norm.
    pub stem: Stem,
    /// The stages, in order of depth.
    pub stages: Vec<Stage>,
    #[module(skip)]
    config: MetaFormerConfig,
}

/// The stem.
#[derive(Module, Debug)]
pub struct Stem {
    /// 7×7 convolution of stride 4.
    pub conv: Conv,
    /// Norm over channels.
    pub norm: Option<LayerNorm>,
}

/// A stage: a downsampling layer that halves the grid, if the channels change, then blocks.
#[derive(Module, Debug)]
pub struct Stage {
    /// Norm and 3×3 convolution of stride 2.
    pub downsample: Option<Downsample>,
    /// The blocks.
    pub blocks: Vec<MetaFormerBlock>,
}

/// A downsampling layer.
#[derive(Module, Debug)]
pub struct Downsample {
    /// Norm over channels.
    pub norm: Option<LayerNorm>,
    /// 3×3 convolution of stride 2.
    pub conv: Conv,
}

/// The norm of a block, one variant per [`MetaFormerNorm`].
#[derive(Module, Debug)]
pub enum BlockNorm {
    /// Over the channels of each position.
    Layer(LayerNorm),
    /// Over all positions and channels of an image.
    Group(ImageNorm),
}

/// A block: token mixer, then MLP, each in a residual branch after a norm.
#[derive(Module, Debug)]
pub struct MetaFormerBlock {
    /// Norm of the first branch.
    pub norm1: BlockNorm,
    /// Token mixer; `None` for pooling, which has no parameters.
    pub token_mixer: Option<TokenMixer>,
    /// Layer scale of the first branch.
    pub layer_scale1: Option<ChannelScale>,
    /// Factors of the first skip connection.
    pub res_scale1: Option<ChannelScale>,
    /// Norm of the second branch.
    pub norm2: BlockNorm,
    /// MLP over channels.
    pub mlp: MetaFormerMlp,
    /// Layer scale of the second branch.
    pub layer_scale2: Option<ChannelScale>,
    /// Factors of the second skip connection.
    pub res_scale2: Option<ChannelScale>,
}

/// A token mixer with parameters.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "blocks are stored one by one")]
pub enum TokenMixer {
    /// Inverted separable convolution.
    Convolution(SeparableConv),
    /// Multi-head self-attention.
    Attention(QkvAttention),
}

/// Inverted separable convolution: 1×1 convolution to twice the channels, StarReLU, depthwise convolution, 1×1
/// convolution.
#[derive(Module, Debug)]
pub struct SeparableConv {
    /// First 1×1 convolution, `[2 * channels, channels, 1, 1]`.
    pub pwconv1: PointwiseConv,
    /// Activation after it.
    pub act1: StarRelu,
    /// Depthwise 7×7 convolution.
    pub dwconv: Conv,
    /// Second 1×1 convolution, `[channels, 2 * channels, 1, 1]`.
    pub pwconv2: PointwiseConv,
}

/// MLP of two linear layers, with four times the channels between them.
#[derive(Module, Debug)]
pub struct MetaFormerMlp {
    /// First layer.
    pub fc1: Pointwise,
    /// StarReLU between the layers; `None` for exact GELU.
    pub act: Option<StarRelu>,
    /// Second layer.
    pub fc2: Pointwise,
}

/// StarReLU: scale · relu(x)² + bias, with one learned scale and one learned bias.
#[derive(Module, Debug)]
pub struct StarRelu {
    /// The scale, `[1]`.
    pub scale: Param<Tensor<1>>,
    /// The bias, `[1]`.
    pub bias: Param<Tensor<1>>,
}

/// A learned factor per channel.
#[derive(Module, Debug)]
pub struct ChannelScale {
    /// The factors, `[channels]`.
    pub scale: Param<Tensor<1>>,
}

impl ChannelScale {
    fn new(channels: usize, value: f64, device: &Device) -> Self {
        Self { scale: Initializer::Constant { value }.init([channels], device) }
    }
}

/// Multiplies the last axis of `x` by the factors, if there are any.
fn scaled(x: Tensor<4>, scale: &Option<ChannelScale>) -> Tensor<4> {
    match scale {
        Some(factors) => x * factors.scale.val().unsqueeze(),
        None => x,
    }
}

impl StarRelu {
    fn new(device: &Device) -> Self {
        Self { scale: Initializer::Ones.init([1], device), bias: Initializer::Zeros.init([1], device) }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        relu(x).square() * self.scale.val().unsqueeze() + self.bias.val().unsqueeze()
    }
}

impl BlockNorm {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Group(norm) => norm.forward(x),
        }
    }
}

impl SeparableConv {
    /// Runs the layers on `[batch, rows, columns, channels]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let hidden = self.act1.forward(self.pwconv1.forward(x));
        self.pwconv2.forward(channels_last(self.dwconv.forward(channels_first(hidden))))
    }
}

impl MetaFormerMlp {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let hidden = self.fc1.forward(x);
        self.fc2.forward(match &self.act {
            Some(act) => act.forward(hidden),
            None => gelu(hidden),
        })
    }
}

impl MetaFormerBlock {
    /// Mixes the tokens of `[batch, rows, columns, channels]`.
    fn mix(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.token_mixer {
            None => channels_last(avg_pool(channels_first(x.clone()), 3, 1, 1, false, false)) - x,
            Some(TokenMixer::Convolution(layers)) => layers.forward(x),
            Some(TokenMixer::Attention(attention)) => {
                let [batch, rows, columns, channels] = x.dims();
                let tokens = x.reshape([batch, rows * columns, channels]);
                attention.forward(tokens).reshape([batch, rows, columns, channels])
            }
        }
    }

    /// Runs block number `index` on `[batch, rows, columns, channels]`.
    fn forward(&self, x: Tensor<4>, drop_path: &DropPathMask, index: usize) -> Tensor<4> {
        let branch = scaled(self.mix(self.norm1.forward(x.clone())), &self.layer_scale1);
        let x = add_branch(scaled(x, &self.res_scale1), branch, drop_path.factors(index, 0));
        let branch = scaled(self.mlp.forward(self.norm2.forward(x.clone())), &self.layer_scale2);
        add_branch(scaled(x, &self.res_scale2), branch, drop_path.factors(index, 1))
    }
}

impl MetaFormerConfig {
    fn stem(&self) -> ConvSpec {
        ConvSpec::new(3, self.dims.first().copied().unwrap_or_default(), 7).stride(4).padding(Padding::Explicit(2))
    }

    /// The downsampling convolution before `stage`; `None` if its channels are those of the stage before.
    fn downsample(&self, stage: usize) -> Option<ConvSpec> {
        match self.dims.get(stage.checked_sub(1)?..=stage)? {
            [before, after] if before != after => Some(ConvSpec::new(*before, *after, 3).stride(2)),
            _ => None,
        }
    }

    fn depthwise(channels: usize) -> ConvSpec {
        ConvSpec::new(2 * channels, 2 * channels, KERNEL).groups(2 * channels).bias(false)
    }

    fn attention(channels: usize) -> QkvAttentionConfig {
        let heads = (channels / HEAD_DIM).max(1);
        QkvAttentionConfig { width: channels, heads, head_dim: HEAD_DIM, qkv_bias: false, proj_bias: false }
    }

    fn residual_scaled(&self, stage: usize) -> bool {
        self.residual_scale.get(stage).copied().unwrap_or(false)
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> MetaFormer {
        let stem = self.stem();
        let channels = self.dims.iter().zip(&self.mixers).zip(&self.depths).enumerate();
        let stages = channels.map(|(stage, ((channels, mixer), depth))| Stage {
            downsample: self
                .downsample(stage)
                .map(|conv| Downsample { norm: self.outer_norm(conv.from, device), conv: conv.init(device) }),
            blocks: (0..*depth).map(|_| self.block(stage, *channels, *mixer, device)).collect(),
        });
        MetaFormer {
            stages: stages.collect(),
            stem: Stem { norm: self.outer_norm(stem.to, device), conv: stem.init(device) },
            config: self.clone(),
        }
    }

    /// The norm of the stem or of a downsampling layer.
    fn outer_norm(&self, channels: usize, device: &Device) -> Option<LayerNorm> {
        let norm = LayerNormConfig::new(channels).with_epsilon(self.norm_eps).with_bias(false);
        self.downsample_norm.then(|| norm.init(device))
    }

    fn block(&self, stage: usize, channels: usize, mixer: TokenMixerKind, device: &Device) -> MetaFormerBlock {
        let norm = || match self.norm {
            MetaFormerNorm::Group => BlockNorm::Group(ImageNorm::new(channels, self.norm_eps, self.norm_bias, device)),
            MetaFormerNorm::Layer => {
                let norm = LayerNormConfig::new(channels).with_epsilon(self.norm_eps).with_bias(self.norm_bias);
                BlockNorm::Layer(norm.init(device))
            }
        };
        let layer_scale = || self.layer_scale.map(|value| ChannelScale::new(channels, value, device));
        let res_scale = || self.residual_scaled(stage).then(|| ChannelScale::new(channels, 1.0, device));
        // timm stores the MLPs of stages with attention as linear layers and all others as convolutions.
        let layer = |from, to| match mixer {
            TokenMixerKind::Attention => Pointwise::linear(from, to, self.mlp_bias, device),
            TokenMixerKind::Pooling | TokenMixerKind::SeparableConvolution => {
                Pointwise::conv(from, to, self.mlp_bias, device)
            }
        };
        let token_mixer = match mixer {
            TokenMixerKind::Pooling => None,
            TokenMixerKind::SeparableConvolution => Some(TokenMixer::Convolution(SeparableConv {
                pwconv1: PointwiseConv::new(channels, 2 * channels, false, device),
                act1: StarRelu::new(device),
                dwconv: Self::depthwise(channels).init(device),
                pwconv2: PointwiseConv::new(2 * channels, channels, false, device),
            })),
            TokenMixerKind::Attention => Some(TokenMixer::Attention(Self::attention(channels).init(device))),
        };
        MetaFormerBlock {
            norm1: norm(),
            token_mixer,
            layer_scale1: layer_scale(),
            res_scale1: res_scale(),
            norm2: norm(),
            mlp: MetaFormerMlp {
                fc1: layer(channels, 4 * channels),
                act: self.star_relu.then(|| StarRelu::new(device)),
                fc2: layer(4 * channels, channels),
            },
            layer_scale2: layer_scale(),
            res_scale2: res_scale(),
        }
    }
}

impl StagedConfig for MetaFormerConfig {
    fn check(&self) -> Result<()> {
        let stages = self.dims.len();
        let sizes = self.depths.iter().chain(&self.dims).chain([&self.image_size]);
        let positive = sizes.copied().all(|n| (1..=MAX_SIZE).contains(&n));
        let lengths = self.depths.len() == stages && self.mixers.len() == stages && stages > 0;
        if !positive || !lengths || !(self.residual_scale.is_empty() || self.residual_scale.len() == stages) {
            return Err(Error::usage(format!(
                "invalid MetaFormer: image_size {}, depths {:?}, dims {:?}, {} mixers, {} residual_scale",
                self.image_size,
                self.depths,
                self.dims,
                self.mixers.len(),
                self.residual_scale.len()
            ))
            .hint("all must be positive and at most 65536, with one number per stage"));
        }
        let attends = |(channels, mixer): (&usize, &TokenMixerKind)| {
            *mixer == TokenMixerKind::Attention && !channels.is_multiple_of(HEAD_DIM)
        };
        if let Some((channels, _)) = self.dims.iter().zip(&self.mixers).find(|stage| attends(*stage)) {
            return Err(Error::usage(format!("a stage of {channels} channels cannot have attention"))
                .hint(format!("its channels must be a multiple of {HEAD_DIM}, the size of a head")));
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
        let (stem, mut side) = (self.stem(), self.image_size);
        let mut extra = stem.multiply_adds(side);
        side = stem.out_side(side);
        let mut layers = Vec::new();
        for (stage, ((channels, mixer), depth)) in self.dims.iter().zip(&self.mixers).zip(&self.depths).enumerate() {
            if let Some(conv) = self.downsample(stage) {
                extra += conv.multiply_adds(side);
                side = conv.out_side(side);
            }
            let (positions, width) = ((side * side) as u64, *channels as u64);
            let mixing = match mixer {
                TokenMixerKind::Pooling => 0,
                TokenMixerKind::SeparableConvolution => {
                    positions * 4 * width * width + Self::depthwise(*channels).multiply_adds(side)
                }
                TokenMixerKind::Attention => Self::attention(*channels).multiply_adds(positions),
            };
            let blocks = *depth as u64 * (mixing + positions * 8 * width * width);
            layers.push(LayerShape { width: *channels, side, multiply_adds: extra + blocks });
            extra = 0;
        }
        layers
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.depths.iter().sum(), branches: 2 })
    }
}

impl StagedNetwork for MetaFormer {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        let normed = |norm: &Option<LayerNorm>, x: Tensor<4>| match norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        let mut x = normed(&self.stem.norm, channels_last(self.stem.conv.forward(pixels)));
        let (mut outputs, mut index) = (Vec::with_capacity(count), 0);
        for stage in self.stages.iter().take(count) {
            if let Some(Downsample { norm, conv }) = &stage.downsample {
                x = channels_last(conv.forward(channels_first(normed(norm, x))));
            }
            for block in &stage.blocks {
                x = block.forward(x, drop_path, index);
                index += 1;
            }
            outputs.push(channels_first(x.clone()));
        }
        Ok(outputs)
    }
}

impl MetaFormer {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &MetaFormerConfig {
        &self.config
    }
}

impl TimmModel for MetaFormerConfig {
    const CLASSES: &'static [&'static str] = &["MetaFormer"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "output_norm", "use_mlp_head"]);
        let dims = arguments.numbers("dims")?.unwrap_or_else(|| vec![64, 128, 320, 512]);
        let stages = dims.len();
        let mixers =
            arguments.per_stage("token_mixers", stages, TokenMixerKind::Pooling, |name| match name.as_str()? {
                "Pooling" => Some(TokenMixerKind::Pooling),
                "SepConv" => Some(TokenMixerKind::SeparableConvolution),
                "Attention" => Some(TokenMixerKind::Attention),
                _ => None,
            })?;
        let layer = (MetaFormerNorm::Layer, false, 1e-6);
        let norms = arguments.per_stage("norm_layers", stages, layer, |name| match name.as_str()? {
            "GroupNorm1" => Some((MetaFormerNorm::Group, true, 1e-5)),
            "GroupNorm1NoBias" => Some((MetaFormerNorm::Group, false, 1e-6)),
            "LayerNorm2dNoBias" | "LayerNormNoBias" => Some(layer),
            _ => None,
        })?;
        let first = norms.first().copied().unwrap_or(layer);
        let (norm, norm_bias, norm_eps) = first;
        if norms.iter().any(|norm| *norm != first) {
            return Err(arguments.invalid("its stages have different norms"));
        }
        let downsample_norm = !arguments.is_none("downsample_norm");
        if downsample_norm {
            arguments.only(&[("downsample_norm", "\"LayerNorm2dNoBias\"")])?;
        }
        arguments.without(&["downsample_norm"]);
        let default_scale = !arguments.is_none("res_scale_init_values");
        let residual_scale = match arguments.take("res_scale_init_values") {
            None if !default_scale => Vec::new(),
            None if stages == 4 => vec![false, false, true, true],
            Some(Value::Array(list)) if list.len() == stages => list.iter().map(|value| !value.is_null()).collect(),
            Some(value) if value.is_number() => vec![true; stages],
            other => return Err(arguments.unsupported("res_scale_init_values", &other.unwrap_or_default())),
        };
        let mlp_act = arguments.text("mlp_act", "StarReLU")?;
        let star_relu = match mlp_act.as_str() {
            "StarReLU" => true,
            "GELU" => false,
            _ => return Err(arguments.unsupported("mlp_act", &mlp_act.into())),
        };
        Ok(TimmNetwork::new(Self {
            image_size,
            depths: arguments.numbers("depths")?.unwrap_or_else(|| vec![2, 2, 6, 2]),
            dims,
            mixers,
            norm,
            norm_bias,
            norm_eps,
            downsample_norm,
            star_relu,
            mlp_bias: arguments.flag("mlp_bias", false)?,
            layer_scale: arguments.real("layer_scale_init_values")?,
            residual_scale: if residual_scale.contains(&true) { residual_scale } else { Vec::new() },
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}
