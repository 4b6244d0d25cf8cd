//! LeViT (Graham et al. 2021, arXiv:2104.01136): a stem of convolutions, then attention with biases by distance, an
//! activation before every output projection, and batch norms. Parameter paths are those of timm's `Levit`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::limits::check_pixels;
use super::parts::{
    ActivationKind, ConvSpec, FrozenBatchNorm, LinearBn, Trace, drop_branch, offset_bias, per_stage, positive,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Stride of the stem.
const STRIDE: usize = 16;

/// Hyper-parameters of a LeViT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LevitConfig {
    /// Side of the square input images, in pixels; other sizes cannot be processed.
    pub image_size: usize,
    /// Channels of each stage.
    pub channels: Vec<usize>,
    /// Number of blocks of each stage.
    pub depths: Vec<usize>,
    /// Number of attention heads of each stage.
    pub heads: Vec<usize>,
    /// Channels of queries and keys per head.
    pub key_dim: usize,
    /// Channels of values divided by those of keys. Default 2.
    #[serde(default = "default_ratio")]
    pub value_ratio: f64,
    /// Hidden channels of the MLPs divided by their channels. Default 2.
    #[serde(default = "default_ratio")]
    pub mlp_ratio: f64,
    /// Activation. Default hard-swish.
    #[serde(default = "default_activation")]
    pub activation: ActivationKind,
    /// Whether linear layers are stored as 1×1 convolutions. Default false.
    #[serde(default)]
    pub convolutions: bool,
    /// Drop-path rate of all residual branches, at least 0 and below 1. Default 0.
    #[serde(default)]
    pub drop_path: f64,
}

fn default_ratio() -> f64 {
    2.0
}

fn default_activation() -> ActivationKind {
    ActivationKind::HardSwish
}

/// A LeViT; see the module documentation.
#[derive(Module, Debug)]
pub struct Levit {
    /// Stem of stride 16.
    pub stem: LevitStem,
    /// The stages, in order of depth.
    pub stages: Vec<LevitStage>,
    #[module(skip)]
    config: LevitConfig,
}

/// Four convolutions of stride 2 with activations between them.
#[derive(Module, Debug)]
pub struct LevitStem {
    /// First convolution.
    pub conv1: LinearBn,
    /// Second convolution.
    pub conv2: LinearBn,
    /// Third convolution.
    pub conv3: LinearBn,
    /// Fourth convolution.
    pub conv4: LinearBn,
}

/// A stage: a downsampling layer (absent in the first stage), then blocks.
#[derive(Module, Debug)]
pub struct LevitStage {
    /// Halves the grid.
    pub downsample: Option<LevitDownsample>,
    /// The blocks.
    pub blocks: Vec<LevitBlock>,
}

/// Attention with fewer queries than keys, then a residual MLP.
#[derive(Module, Debug)]
pub struct LevitDownsample {
    /// Attention; not residual.
    pub attn_downsample: AttentionDownsample,
    /// MLP.
    pub mlp: LevitMlp,
}

/// Residual attention, then a residual MLP.
#[derive(Module, Debug)]
pub struct LevitBlock {
    /// Attention.
    pub attn: LevitAttention,
    /// MLP.
    pub mlp: LevitMlp,
}

/// Attention over all positions.
#[derive(Module, Debug)]
pub struct LevitAttention {
    /// Queries, keys and values of one head after the other.
    pub qkv: NormedLinear,
    /// Output projection.
    pub proj: Inner,
    /// Bias per head and distance, `[heads, positions]`.
    pub attention_biases: Param<Tensor<2>>,
}

/// Attention whose queries are at every other position.
#[derive(Module, Debug)]
pub struct AttentionDownsample {
    /// Keys and values of one head after the other.
    pub kv: NormedLinear,
    /// Queries.
    pub q: Inner,
    /// Output projection.
    pub proj: Inner,
    /// Bias per head and distance, `[heads, positions]`.
    pub attention_biases: Param<Tensor<2>>,
}

/// A linear layer within a sequence of layers without parameters.
#[derive(Module, Debug)]
pub struct Inner {
    /// The linear layer.
    pub ln: NormedLinear,
}

/// Two linear layers with an activation between them.
#[derive(Module, Debug)]
pub struct LevitMlp {
    /// First layer.
    pub ln1: NormedLinear,
    /// Second layer.
    pub ln2: NormedLinear,
}

/// A linear layer without bias and a batch norm.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum NormedLinear {
    /// Stored as a matrix.
    Linear(LinearNorm),
    /// Stored as a 1×1 convolution.
    Conv(LinearBn),
}

/// A linear layer without bias and a batch norm.
#[derive(Module, Debug)]
pub struct LinearNorm {
    /// The linear layer.
    pub linear: Linear,
    /// Batch norm after `linear`.
    pub bn: FrozenBatchNorm,
}

impl NormedLinear {
    fn new(from: usize, to: usize, convolution: bool, device: &Device) -> Self {
        if convolution {
            return Self::Conv(LinearBn::new(ConvSpec::new(from, to, 1).bias(false), device));
        }
        Self::Linear(LinearNorm {
            linear: LinearConfig::new(from, to).with_bias(false).init(device),
            bn: FrozenBatchNorm::new(to, 1e-5, device),
        })
    }

    /// Maps `[batch, in, rows, columns]` to `[batch, out, rows, columns]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Conv(layer) => layer.forward(x),
            Self::Linear(layer) => {
                let [batch, channels, rows, columns] = x.dims();
                let tokens: Tensor<3> = x.reshape([batch, channels, rows * columns]).swap_dims(1, 2);
                let out = layer.bn.forward(layer.linear.forward(tokens).swap_dims(1, 2));
                let channels = out.dims()[1];
                out.reshape([batch, channels, rows, columns])
            }
        }
    }

    fn trace(&self, trace: &mut Trace) {
        match self {
            Self::Conv(layer) => layer.trace(trace),
            Self::Linear(layer) => trace.linear(&layer.linear),
        }
    }
}

/// Splits `[batch, heads · width, rows, columns]` into heads, `[batch, heads, width, positions]`.
fn heads(x: Tensor<4>, count: usize) -> Tensor<4> {
    let [batch, channels, rows, columns] = x.dims();
    x.reshape([batch, count, channels / count, rows * columns])
}

/// Attention of queries and keys `[batch, heads, key_dim, positions]` and values; `[batch, channels, rows, columns]`.
fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, bias: Tensor<4>, [rows, columns]: [usize; 2]) -> Tensor<4> {
    let [batch, heads, key, _] = q.dims();
    let scores = q.mul_scalar((key as f64).powf(-0.5)).transpose().matmul(k) + bias;
    let mixed = v.matmul(softmax(scores, 3).transpose());
    let width = mixed.dims()[2];
    mixed.reshape([batch, heads * width, rows, columns])
}

impl LevitConfig {
    /// Side of the grid of a stage.
    fn side(&self, stage: usize) -> usize {
        (0..stage).fold(self.image_size / STRIDE, |side, _| side.div_ceil(2))
    }

    /// Channels of the values per head in blocks.
    fn value_dim(&self) -> usize {
        times(self.key_dim, self.value_ratio)
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> Levit {
        let first = self.channels.first().copied().unwrap_or_default();
        let conv = |from, to| LinearBn::new(ConvSpec::new(from, to, 3).stride(2).bias(false), device);
        let linear = |from, to| NormedLinear::new(from, to, self.convolutions, device);
        let biases = |heads: usize, side: usize| Initializer::Zeros.init([heads, side * side], device);
        let mlp = |channels, ratio| {
            let hidden = times(channels, ratio);
            LevitMlp { ln1: linear(channels, hidden), ln2: linear(hidden, channels) }
        };
        let (key, value) = (self.key_dim, self.value_dim());
        let mut before = first;
        let mut stages = Vec::with_capacity(self.channels.len());
        for (stage, ((channels, depth), heads)) in self.channels.iter().zip(&self.depths).zip(&self.heads).enumerate() {
            // Between stages there are as many heads as fit into the channels, with values four times as wide as keys.
            let wide = before / key.max(1);
            let downsample = (stage > 0).then(|| LevitDownsample {
                attn_downsample: AttentionDownsample {
                    kv: linear(before, wide * 5 * key),
                    q: Inner { ln: linear(before, wide * key) },
                    proj: Inner { ln: linear(wide * 4 * key, *channels) },
                    attention_biases: biases(wide, self.side(stage - 1)),
                },
                mlp: mlp(*channels, 2.0),
            });
            let block = |_| LevitBlock {
                attn: LevitAttention {
                    qkv: linear(*channels, heads * (2 * key + value)),
                    proj: Inner { ln: linear(heads * value, *channels) },
                    attention_biases: biases(*heads, self.side(stage)),
                },
                mlp: mlp(*channels, self.mlp_ratio),
            };
            stages.push(LevitStage { downsample, blocks: (0..*depth).map(block).collect() });
            before = *channels;
        }
        Levit {
            stem: LevitStem {
                conv1: conv(3, first / 8),
                conv2: conv(first / 8, first / 4),
                conv3: conv(first / 4, first / 2),
                conv4: conv(first / 2, first),
            },
            stages,
            config: self.clone(),
        }
    }
}

impl LevitMlp {
    fn forward(&self, x: Tensor<4>, activation: ActivationKind) -> Tensor<4> {
        self.ln2.forward(activation.forward(self.ln1.forward(x)))
    }

    fn trace(&self, trace: &mut Trace) {
        self.ln1.trace(trace);
        self.ln2.trace(trace);
    }
}

impl LevitAttention {
    fn forward(&self, x: Tensor<4>, config: &LevitConfig) -> Tensor<4> {
        let [_, _, rows, columns] = x.dims();
        let (key, value) = (config.key_dim, config.value_dim());
        let [count, _] = self.attention_biases.dims();
        let qkv = heads(self.qkv.forward(x), count);
        let part = |from: usize, width: usize| qkv.clone().narrow(2, from, width);
        let bias = offset_bias(&self.attention_biases, rows, 1);
        let mixed = attention(part(0, key), part(key, key), part(2 * key, value), bias, [rows, columns]);
        self.proj.ln.forward(config.activation.forward(mixed))
    }

    fn trace(&self, trace: &mut Trace, config: &LevitConfig) {
        let [count, _] = self.attention_biases.lazy_shape().dims();
        let positions = trace.positions();
        self.qkv.trace(trace);
        trace.attention(count * positions, positions, config.key_dim, config.value_dim());
        self.proj.ln.trace(trace);
    }
}

impl AttentionDownsample {
    fn forward(&self, x: Tensor<4>, config: &LevitConfig) -> Tensor<4> {
        let [_, _, rows, columns] = x.dims();
        let key = config.key_dim;
        let [count, _] = self.attention_biases.dims();
        let kv = heads(self.kv.forward(x.clone()), count);
        let (k, v) = (kv.clone().narrow(2, 0, key), kv.narrow(2, key, 4 * key));
        let sampled = every_other(every_other(x, 2), 3);
        let [_, _, down, across] = sampled.dims();
        let q = heads(self.q.ln.forward(sampled), count);
        let bias = offset_bias(&self.attention_biases, rows.max(columns), 2);
        self.proj.ln.forward(config.activation.forward(attention(q, k, v, bias, [down, across])))
    }

    fn trace(&self, trace: &mut Trace, config: &LevitConfig) {
        let [count, _] = self.attention_biases.lazy_shape().dims();
        let (keys, mut beside) = (trace.positions(), trace.clone());
        beside.multiply_adds = 0;
        self.kv.trace(&mut beside);
        trace.multiply_adds += beside.multiply_adds;
        trace.side = trace.side.div_ceil(2);
        let queries = trace.positions();
        self.q.ln.trace(trace);
        trace.attention(count * queries, keys, config.key_dim, 4 * config.key_dim);
        self.proj.ln.trace(trace);
    }
}

/// Takes every other entry of an axis, the first included.
fn every_other(x: Tensor<4>, axis: usize) -> Tensor<4> {
    let places: Vec<i64> = (0..x.dims()[axis]).step_by(2).map(|place| place as i64).collect();
    let places = Tensor::<1, burn::tensor::Int>::from_ints(places.as_slice(), &x.device());
    x.select(axis, places)
}

impl Levit {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &LevitConfig {
        &self.config
    }
}

impl StagedConfig for LevitConfig {
    fn check(&self) -> Result<()> {
        let name = "LeViT";
        let lengths = [&self.channels, &self.depths, &self.heads].map(Vec::len);
        per_stage(name, "channels, depths and heads", self.channels.len(), &lengths)?;
        positive(name, "an eighth of the channels", &self.channels.iter().map(|n| n / 8).collect::<Vec<_>>())?;
        let hidden = self.channels.iter().map(|n| times(*n, self.mlp_ratio));
        positive(name, "hidden channels", &hidden.collect::<Vec<_>>())?;
        positive(name, "depths", &self.depths)?;
        positive(name, "heads", &self.heads)?;
        positive(name, "image_size, key_dim and values", &[self.image_size, self.key_dim, self.value_dim()])?;
        if self.channels.iter().any(|channels| *channels < self.key_dim) {
            return Err(Error::usage(format!("invalid {name}: key_dim = {} exceeds the channels", self.key_dim)));
        }
        if !self.image_size.is_multiple_of(STRIDE) || self.image_size > 64 * STRIDE {
            return Err(Error::usage(format!("invalid {name}: image_size = {}", self.image_size))
                .hint(format!("it must be a multiple of {STRIDE}, at most {}", 64 * STRIDE)));
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
        let stem = &network.stem;
        [&stem.conv1, &stem.conv2, &stem.conv3, &stem.conv4].into_iter().for_each(|conv| conv.trace(&mut trace));
        for stage in &network.stages {
            if let Some(layer) = &stage.downsample {
                layer.attn_downsample.trace(&mut trace, self);
                layer.mlp.trace(&mut trace);
            }
            for block in &stage.blocks {
                block.attn.trace(&mut trace, self);
                block.mlp.trace(&mut trace);
            }
            trace.end_layer();
        }
        trace.layers()
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        // All branches have the same rate: they are those of the last of two blocks.
        let branches = 2 * self.layer_count() + self.channels.len() - 1;
        Some(DropPathSpec { rate: self.drop_path, blocks: 2, branches })
    }
}

impl StagedNetwork for Levit {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let [_, _, height, width] = pixels.dims();
        if [height, width] != [self.config.image_size; 2] {
            return Err(Error::failed(format!(
                "images of {height}x{width} pixels, but this LeViT takes {0}x{0}",
                self.config.image_size
            ))
            .hint("resize the images to the size on the encoder's card"));
        }
        let activation = self.config.activation;
        let stem = &self.stem;
        let mut x = activation.forward(stem.conv1.forward(pixels));
        x = activation.forward(stem.conv2.forward(x));
        x = stem.conv4.forward(activation.forward(stem.conv3.forward(x)));
        let (mut outputs, mut run) = (Vec::with_capacity(count), 0);
        let mut add = |x: Tensor<4>, branch: Tensor<4>| {
            run += 1;
            x + drop_branch(branch, drop_path.factors(1, run - 1))
        };
        for stage in self.stages.iter().take(count) {
            if let Some(layer) = &stage.downsample {
                x = layer.attn_downsample.forward(x, &self.config);
                x = add(x.clone(), layer.mlp.forward(x, activation));
            }
            for block in &stage.blocks {
                x = add(x.clone(), block.attn.forward(x, &self.config));
                x = add(x.clone(), block.mlp.forward(x, activation));
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}

impl TimmModel for LevitConfig {
    const CLASSES: &'static [&'static str] = &["Levit", "LevitDistilled"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[
            ("in_chans", "3"),
            ("stem_backbone", "null"),
            ("stem_stride", "null"),
            ("stem_type", "\"s16\""),
            ("down_op", "\"subsample\""),
            ("attn_act_layer", "null"),
        ])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "img_size"]);
        let channels = arguments.numbers("embed_dim")?.unwrap_or_else(|| vec![192]);
        let count = channels.len();
        Ok(TimmNetwork::new(Self {
            image_size,
            channels,
            depths: arguments.numbers("depth")?.unwrap_or_else(|| vec![12]),
            heads: arguments.numbers("num_heads")?.unwrap_or_else(|| vec![3; count]),
            key_dim: arguments.number("key_dim", 64)?,
            value_ratio: arguments.real("attn_ratio")?.unwrap_or(2.0),
            mlp_ratio: arguments.real("mlp_ratio")?.unwrap_or(2.0),
            activation: arguments.activation("act_layer", ActivationKind::HardSwish)?,
            convolutions: arguments.flag("use_conv", false)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        })
        .with_dialect("timm-pooled-head"))
    }
}
