//! EfficientFormer (Li et al. 2022, arXiv:2206.01191): blocks of pooling and MLPs on feature maps, then blocks of
//! attention on tokens. Parameter paths are those of timm's `EfficientFormer`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::limits::check_pixels;
use super::parts::{
    ActivationKind, Conv, ConvSpec, FrozenBatchNorm, LayerScale, Slot, Trace, avg_pool, drop_branch, offset_bias,
    per_channel, per_stage, positive,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Number of attention heads.
const HEADS: usize = 8;
/// Channels of queries and keys per head.
const KEY: usize = 32;
/// Channels of values per head.
const VALUE: usize = 4 * KEY;
/// Side of the grid on which the attention works.
const GRID: usize = 7;

/// Hyper-parameters of an EfficientFormer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EfficientFormerConfig {
    /// Side of the square input images, in pixels. With attention it must lead to a last grid of 7×7, as 224 does.
    pub image_size: usize,
    /// Channels of each stage.
    pub channels: Vec<usize>,
    /// Number of blocks of each stage.
    pub depths: Vec<usize>,
    /// Number of attention blocks at the end of the last stage. Default 0.
    #[serde(default)]
    pub attention_blocks: usize,
    /// Hidden channels of the MLPs divided by their channels. Default 4.
    #[serde(default = "default_ratio")]
    pub mlp_ratio: f64,
    /// Side of the pooling windows. Default 3.
    #[serde(default = "default_pool")]
    pub pool: usize,
    /// Activation. Default GELU.
    #[serde(default = "default_activation")]
    pub activation: ActivationKind,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default)]
    pub drop_path: f64,
}

fn default_ratio() -> f64 {
    4.0
}

fn default_pool() -> usize {
    3
}

fn default_activation() -> ActivationKind {
    ActivationKind::Gelu
}

/// An EfficientFormer; see the module documentation.
#[derive(Module, Debug)]
pub struct EfficientFormer {
    /// Stem of stride 4.
    pub stem: FormerStem,
    /// The stages, in order of depth.
    pub stages: Vec<FormerStage>,
    /// Norm of the last feature map at every position.
    pub norm: LayerNorm,
    #[module(skip)]
    config: EfficientFormerConfig,
}

/// Two convolutions of stride 2, each with a norm and a ReLU.
#[derive(Module, Debug)]
pub struct FormerStem {
    /// First convolution.
    pub conv1: Conv,
    /// Norm after `conv1`.
    pub norm1: FrozenBatchNorm,
    /// Second convolution.
    pub conv2: Conv,
    /// Norm after `conv2`.
    pub norm2: FrozenBatchNorm,
}

/// A stage: a convolution that halves the grid (absent in the first stage), then blocks.
#[derive(Module, Debug)]
pub struct FormerStage {
    /// Halves the grid.
    pub downsample: Option<FormerDown>,
    /// The blocks.
    pub blocks: Vec<FormerBlock>,
}

/// A convolution of stride 2 and its norm.
#[derive(Module, Debug)]
pub struct FormerDown {
    /// The convolution.
    pub conv: Conv,
    /// Norm after `conv`.
    pub norm: FrozenBatchNorm,
}

/// A block.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum FormerBlock {
    /// Pooling and MLP.
    Pooling(PoolingBlock),
    /// Place of timm's layer that turns maps into tokens.
    Flatten(Slot),
    /// Attention and MLP.
    Attention(FormerAttentionBlock),
}

/// Pooling minus the input, then an MLP of convolutions; both residual.
#[derive(Module, Debug)]
pub struct PoolingBlock {
    /// Layer scale of the pooling.
    pub ls1: LayerScale,
    /// MLP.
    pub mlp: ConvMlp,
    /// Layer scale of the MLP.
    pub ls2: LayerScale,
}

/// Two pointwise convolutions with norms.
#[derive(Module, Debug)]
pub struct ConvMlp {
    /// First convolution.
    pub fc1: Conv,
    /// Norm after `fc1`.
    pub norm1: FrozenBatchNorm,
    /// Second convolution.
    pub fc2: Conv,
    /// Norm after `fc2`.
    pub norm2: FrozenBatchNorm,
}

/// Attention, then an MLP; both residual.
#[derive(Module, Debug)]
pub struct FormerAttentionBlock {
    /// Norm before the attention.
    pub norm1: LayerNorm,
    /// Attention.
    pub token_mixer: FormerAttention,
    /// Norm before the MLP.
    pub norm2: LayerNorm,
    /// MLP.
    pub mlp: FormerMlp,
    /// Layer scale of the attention.
    pub ls1: LayerScale,
    /// Layer scale of the MLP.
    pub ls2: LayerScale,
}

/// Attention with a bias for every distance in rows and columns.
#[derive(Module, Debug)]
pub struct FormerAttention {
    /// Queries, keys and values of one head after the other.
    pub qkv: Linear,
    /// Output projection.
    pub proj: Linear,
    /// Bias per head and distance, `[heads, positions]`.
    pub attention_biases: Param<Tensor<2>>,
}

/// Two linear layers.
#[derive(Module, Debug)]
pub struct FormerMlp {
    /// First layer.
    pub fc1: Linear,
    /// Second layer.
    pub fc2: Linear,
}

impl EfficientFormerConfig {
    /// Side of the last grid.
    fn last_side(&self) -> usize {
        (0..self.channels.len() + 1).fold(self.image_size, |side, _| side.div_ceil(2))
    }

    fn pooling(&self, channels: usize, device: &Device) -> PoolingBlock {
        let hidden = times(channels, self.mlp_ratio);
        PoolingBlock {
            ls1: LayerScale::new(channels, device),
            mlp: ConvMlp {
                fc1: ConvSpec::new(channels, hidden, 1).init(device),
                norm1: FrozenBatchNorm::new(hidden, 1e-5, device),
                fc2: ConvSpec::new(hidden, channels, 1).init(device),
                norm2: FrozenBatchNorm::new(channels, 1e-5, device),
            },
            ls2: LayerScale::new(channels, device),
        }
    }

    fn attention(&self, channels: usize, device: &Device) -> FormerAttentionBlock {
        let hidden = times(channels, self.mlp_ratio);
        let norm = || LayerNormConfig::new(channels).init(device);
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        FormerAttentionBlock {
            norm1: norm(),
            token_mixer: FormerAttention {
                qkv: linear(channels, HEADS * (2 * KEY + VALUE)),
                proj: linear(HEADS * VALUE, channels),
                attention_biases: Initializer::Zeros.init([HEADS, GRID * GRID], device),
            },
            norm2: norm(),
            mlp: FormerMlp { fc1: linear(channels, hidden), fc2: linear(hidden, channels) },
            ls1: LayerScale::new(channels, device),
            ls2: LayerScale::new(channels, device),
        }
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> EfficientFormer {
        let first = self.channels.first().copied().unwrap_or_default();
        let norm = |channels| FrozenBatchNorm::new(channels, 1e-5, device);
        let conv = |from, to| ConvSpec::new(from, to, 3).stride(2).init(device);
        let (mut before, count) = (first, self.channels.len());
        let mut stages = Vec::with_capacity(count);
        for (stage, (channels, depth)) in self.channels.iter().zip(&self.depths).enumerate() {
            let tokens = if stage + 1 == count { self.attention_blocks.min(*depth) } else { 0 };
            let mut blocks: Vec<FormerBlock> =
                (tokens..*depth).map(|_| FormerBlock::Pooling(self.pooling(*channels, device))).collect();
            if tokens > 0 {
                blocks.push(FormerBlock::Flatten(Slot {}));
            }
            blocks.extend((0..tokens).map(|_| FormerBlock::Attention(self.attention(*channels, device))));
            stages.push(FormerStage {
                downsample: (stage > 0).then(|| FormerDown { conv: conv(before, *channels), norm: norm(*channels) }),
                blocks,
            });
            before = *channels;
        }
        EfficientFormer {
            stem: FormerStem {
                conv1: conv(3, first / 2),
                norm1: norm(first / 2),
                conv2: conv(first / 2, first),
                norm2: norm(first),
            },
            stages,
            norm: LayerNormConfig::new(before).init(device),
            config: self.clone(),
        }
    }
}

impl PoolingBlock {
    fn forward(&self, x: Tensor<4>, config: &EfficientFormerConfig, factors: [Option<&Tensor<1>>; 2]) -> Tensor<4> {
        let pooled = avg_pool(x.clone(), config.pool, 1, config.pool / 2, false, false) - x.clone();
        let x = x + drop_branch(self.ls1.forward(pooled), factors[0]);
        let hidden = config.activation.forward(self.mlp.norm1.forward(self.mlp.fc1.forward(x.clone())));
        let out = self.mlp.norm2.forward(self.mlp.fc2.forward(hidden));
        x + drop_branch(self.ls2.forward(out), factors[1])
    }
}

/// Multiplies tokens by layer scale and drop-path factors, as a map `[batch, channels, positions, 1]`.
fn branch(tokens: Tensor<3>, scale: &LayerScale, factors: Option<&Tensor<1>>) -> Tensor<3> {
    let map: Tensor<4> = tokens.swap_dims(1, 2).unsqueeze_dim(3);
    let scaled = drop_branch(map * per_channel(scale.gamma.val()), factors);
    scaled.squeeze_dim::<3>(3).swap_dims(1, 2)
}

impl FormerAttention {
    /// Runs the layer on `[batch, positions, channels]`.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, positions, _] = x.dims();
        let width = 2 * KEY + VALUE;
        let qkv = self.qkv.forward(x).reshape([batch, positions, HEADS, width]).swap_dims(1, 2);
        let part = |from: usize, width: usize| qkv.clone().narrow(3, from, width);
        let scores = part(0, KEY).mul_scalar((KEY as f64).powf(-0.5)).matmul(part(KEY, KEY).transpose());
        let scores = softmax(scores + offset_bias(&self.attention_biases, GRID, 1), 3);
        let mixed = scores.matmul(part(2 * KEY, VALUE)).swap_dims(1, 2);
        self.proj.forward(mixed.reshape([batch, positions, HEADS * VALUE]))
    }
}

impl FormerAttentionBlock {
    fn forward(&self, x: Tensor<4>, activation: ActivationKind, factors: [Option<&Tensor<1>>; 2]) -> Tensor<4> {
        let shape @ [batch, channels, rows, columns] = x.dims();
        let tokens: Tensor<3> = x.reshape([batch, channels, rows * columns]).swap_dims(1, 2);
        let mixed = self.token_mixer.forward(self.norm1.forward(tokens.clone()));
        let tokens = tokens + branch(mixed, &self.ls1, factors[0]);
        let hidden = activation.forward(self.mlp.fc1.forward(self.norm2.forward(tokens.clone())));
        let tokens = tokens + branch(self.mlp.fc2.forward(hidden), &self.ls2, factors[1]);
        tokens.swap_dims(1, 2).reshape(shape)
    }

    fn trace(&self, trace: &mut Trace) {
        let positions = trace.positions();
        trace.linear(&self.token_mixer.qkv);
        trace.attention(HEADS * positions, positions, KEY, VALUE);
        trace.channels = HEADS * VALUE;
        for linear in [&self.token_mixer.proj, &self.mlp.fc1, &self.mlp.fc2] {
            trace.linear(linear);
        }
    }
}

impl EfficientFormer {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &EfficientFormerConfig {
        &self.config
    }
}

impl StagedConfig for EfficientFormerConfig {
    fn check(&self) -> Result<()> {
        let name = "EfficientFormer";
        per_stage(name, "channels and depths", self.channels.len(), &[self.channels.len(), self.depths.len()])?;
        let narrow = self.channels.iter().map(|n| n / 2).chain(self.depths.iter().copied());
        positive(name, "half the channels, and depths", &narrow.collect::<Vec<_>>())?;
        let hidden = self.channels.iter().map(|n| times(*n, self.mlp_ratio));
        positive(name, "hidden channels", &hidden.collect::<Vec<_>>())?;
        positive(name, "image_size and pool", &[self.image_size, self.pool])?;
        if self.pool.is_multiple_of(2) {
            return Err(Error::usage(format!("invalid {name}: pool = {}", self.pool)).hint("it must be odd"));
        }
        if self.attention_blocks > 0 && self.last_side() != GRID {
            return Err(Error::usage(format!(
                "image_size = {} makes a last grid of {1}x{1}, but the attention of an {name} takes {GRID}x{GRID}",
                self.image_size,
                self.last_side()
            ))
            .hint("use images of 224 pixels with four stages"));
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
        let network = self.init(&Device::flex());
        let mut trace = Trace::image(self.image_size);
        trace.conv(&network.stem.conv1);
        trace.conv(&network.stem.conv2);
        for stage in &network.stages {
            if let Some(layer) = &stage.downsample {
                trace.conv(&layer.conv);
            }
            for block in &stage.blocks {
                match block {
                    FormerBlock::Pooling(block) => {
                        trace.conv(&block.mlp.fc1);
                        trace.conv(&block.mlp.fc2);
                    }
                    FormerBlock::Flatten(_) => {}
                    FormerBlock::Attention(block) => block.trace(&mut trace),
                }
            }
            trace.end_layer();
        }
        trace.layers()
    }

    fn has_final_norm(&self) -> bool {
        true
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.layer_count(), branches: 2 })
    }
}

impl StagedNetwork for EfficientFormer {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let [_, _, height, width] = pixels.dims();
        if self.config.attention_blocks > 0 && [height, width] != [self.config.image_size; 2] {
            return Err(Error::failed(format!(
                "images of {height}x{width} pixels, but this EfficientFormer takes {0}x{0}",
                self.config.image_size
            ))
            .hint("resize the images to the size on the encoder's card"));
        }
        let relu = |x| ActivationKind::Relu.forward(x);
        let stem = &self.stem;
        let mut x: Tensor<4> = relu(stem.norm1.forward(stem.conv1.forward(pixels)));
        x = relu(stem.norm2.forward(stem.conv2.forward(x)));
        let (mut outputs, mut run) = (Vec::with_capacity(count), 0);
        for stage in self.stages.iter().take(count) {
            if let Some(layer) = &stage.downsample {
                x = layer.norm.forward(layer.conv.forward(x));
            }
            for block in &stage.blocks {
                let factors = [0, 1].map(|branch| drop_path.factors(run, branch));
                x = match block {
                    FormerBlock::Flatten(_) => continue,
                    FormerBlock::Pooling(block) => block.forward(x, &self.config, factors),
                    FormerBlock::Attention(block) => block.forward(x, self.config.activation, factors),
                };
                run += 1;
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.norm.forward(tokens)
    }
}

impl TimmModel for EfficientFormerConfig {
    const CLASSES: &'static [&'static str] = &["EfficientFormer"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3"), ("downsamples", "null"), ("norm_layer", "\"BatchNorm2d\"")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "layer_scale_init_value"]);
        Ok(TimmNetwork::new(Self {
            image_size,
            channels: arguments.numbers("embed_dims")?.unwrap_or_default(),
            depths: arguments.numbers("depths")?.unwrap_or_default(),
            attention_blocks: arguments.number("num_vit", 0)?,
            mlp_ratio: arguments.real("mlp_ratios")?.unwrap_or(4.0),
            pool: arguments.number("pool_size", 3)?,
            activation: arguments.activation("act_layer", ActivationKind::Gelu)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        })
        .with_dialect("timm-pooled-head"))
    }
}
