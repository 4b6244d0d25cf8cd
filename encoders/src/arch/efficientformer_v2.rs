//! EfficientFormerV2 (Li et al. 2022, arXiv:2212.08059): inverted bottlenecks on feature maps, and attention with
//! talking heads in the last stages. Parameter paths are those of timm's `EfficientFormerV2`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::limits::check_pixels;
use super::parts::{
    ActivationKind, Conv, ConvBn, ConvSpec, FrozenBatchNorm, LayerScale, Trace, avg_pool, drop_branch, offset_bias,
    per_stage, positive,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::json_values::integer;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::interpolate::{Interpolate2dConfig, InterpolateMode};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Number of attention heads.
const HEADS: usize = 8;
/// Channels of values divided by those of keys.
const VALUE_RATIO: usize = 4;
/// Channels of queries and keys per head in blocks.
const KEY: usize = 32;
/// Channels of queries and keys per head between stages.
const DOWN_KEY: usize = 16;
/// The first stage with attention; it attends at half its grid.
const FIRST_ATTENTION: usize = 2;

/// Hyper-parameters of an EfficientFormerV2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EfficientFormerV2Config {
    /// Side of the square input images, in pixels; other sizes cannot be processed.
    pub image_size: usize,
    /// Channels of each stage.
    pub channels: Vec<usize>,
    /// Hidden channels of the MLP divided by its channels, of each block of each stage.
    pub mlp_ratios: Vec<Vec<usize>>,
    /// Number of attention blocks at the end of the third and of later stages. Default 0.
    #[serde(default)]
    pub attention_blocks: usize,
    /// Activation. Default GELU.
    #[serde(default = "default_activation")]
    pub activation: ActivationKind,
    /// Epsilon added to the variance in the norms of MLPs, of the stem and at the end. Default 1e-5.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default)]
    pub drop_path: f64,
}

fn default_activation() -> ActivationKind {
    ActivationKind::Gelu
}

fn default_eps() -> f64 {
    1e-5
}

/// An EfficientFormerV2; see the module documentation.
#[derive(Module, Debug)]
pub struct EfficientFormerV2 {
    /// Stem of stride 4.
    pub stem: V2Stem,
    /// The stages, in order of depth.
    pub stages: Vec<V2Stage>,
    /// Batch norm of the last feature map.
    pub norm: FrozenBatchNorm,
    #[module(skip)]
    config: EfficientFormerV2Config,
}

/// Two convolutions of stride 2.
#[derive(Module, Debug)]
pub struct V2Stem {
    /// First convolution.
    pub conv1: ConvBn,
    /// Second convolution.
    pub conv2: ConvBn,
}

/// A stage: a downsampling layer (absent in the first stage), then blocks.
#[derive(Module, Debug)]
pub struct V2Stage {
    /// Halves the grid.
    pub downsample: Option<V2Down>,
    /// The blocks.
    pub blocks: Vec<V2Block>,
}

/// A convolution of stride 2, to which attention may be added.
#[derive(Module, Debug)]
pub struct V2Down {
    /// The convolution.
    pub conv: ConvBn,
    /// Attention whose queries are at every other position.
    pub attn: Option<V2DownAttention>,
}

/// A block: residual attention, residual MLP.
#[derive(Module, Debug)]
pub struct V2Block {
    /// Attention.
    pub token_mixer: Option<V2Attention>,
    /// Layer scale of the attention.
    pub ls1: Option<LayerScale>,
    /// MLP.
    pub mlp: V2Mlp,
    /// Layer scale of the MLP.
    pub ls2: LayerScale,
}

/// A pointwise, a depthwise and a pointwise convolution.
#[derive(Module, Debug)]
pub struct V2Mlp {
    /// First convolution.
    pub fc1: ConvBn,
    /// Depthwise convolution.
    pub mid: ConvBn,
    /// Second convolution.
    pub fc2: ConvBn,
}

/// Attention with talking heads (Shazeer et al. 2020, arXiv:2003.02436) and a depthwise convolution of the values.
#[derive(Module, Debug)]
pub struct V2Attention {
    /// Convolution that halves the grid before the attention.
    pub stride_conv: Option<ConvBn>,
    /// Queries.
    pub q: ConvBn,
    /// Keys.
    pub k: ConvBn,
    /// Values.
    pub v: ConvBn,
    /// Depthwise convolution of the values, added to the output.
    pub v_local: ConvBn,
    /// Mixes the heads of the scores.
    pub talking_head1: Conv,
    /// Mixes the heads of the weights.
    pub talking_head2: Conv,
    /// Output projection.
    pub proj: ConvBn,
    /// Bias per head and distance, `[heads, positions]`.
    pub attention_biases: Param<Tensor<2>>,
}

/// Attention whose queries are at every other position.
#[derive(Module, Debug)]
pub struct V2DownAttention {
    /// Queries.
    pub q: LocalGlobalQuery,
    /// Keys.
    pub k: ConvBn,
    /// Values.
    pub v: ConvBn,
    /// Depthwise convolution of the values, added to the output.
    pub v_local: ConvBn,
    /// Output projection.
    pub proj: ConvBn,
    /// Bias per head and distance, `[heads, positions]`.
    pub attention_biases: Param<Tensor<2>>,
}

/// Queries from every other position and from a strided depthwise convolution.
#[derive(Module, Debug)]
pub struct LocalGlobalQuery {
    /// Depthwise convolution of stride 2.
    pub local: Conv,
    /// Projection of the sum.
    pub proj: ConvBn,
}

impl EfficientFormerV2Config {
    /// Side of the grid of a stage.
    fn side(&self, stage: usize) -> usize {
        (0..stage + 2).fold(self.image_size, |side, _| side.div_ceil(2))
    }

    /// Builds a convolution with bias and a norm with the network's epsilon.
    fn conv(&self, spec: ConvSpec, device: &Device) -> ConvBn {
        ConvBn { bn: FrozenBatchNorm::new(spec.to, self.norm_eps, device), conv: spec.init(device) }
    }

    fn mlp(&self, channels: usize, ratio: usize, device: &Device) -> V2Mlp {
        let hidden = channels * ratio;
        V2Mlp {
            fc1: self.conv(ConvSpec::new(channels, hidden, 1), device),
            mid: self.conv(ConvSpec::depthwise(hidden, 3), device),
            fc2: self.conv(ConvSpec::new(hidden, channels, 1), device),
        }
    }

    fn attention(&self, stage: usize, channels: usize, device: &Device) -> V2Attention {
        let halved = stage == FIRST_ATTENTION;
        let side = if halved { self.side(stage).div_ceil(2) } else { self.side(stage) };
        let (keys, values) = (HEADS * KEY, HEADS * VALUE_RATIO * KEY);
        let point = |from, to| ConvBn::new(ConvSpec::new(from, to, 1), device);
        V2Attention {
            stride_conv: halved.then(|| ConvBn::new(ConvSpec::depthwise(channels, 3).stride(2), device)),
            q: point(channels, keys),
            k: point(channels, keys),
            v: point(channels, values),
            v_local: ConvBn::new(ConvSpec::depthwise(values, 3), device),
            talking_head1: ConvSpec::new(HEADS, HEADS, 1).init(device),
            talking_head2: ConvSpec::new(HEADS, HEADS, 1).init(device),
            proj: point(values, channels),
            attention_biases: Initializer::Zeros.init([HEADS, side * side], device),
        }
    }

    fn down_attention(&self, stage: usize, [from, to]: [usize; 2], device: &Device) -> V2DownAttention {
        let side = self.side(stage - 1);
        let (keys, values) = (HEADS * DOWN_KEY, HEADS * VALUE_RATIO * DOWN_KEY);
        let point = |from, to| ConvBn::new(ConvSpec::new(from, to, 1), device);
        V2DownAttention {
            q: LocalGlobalQuery { local: ConvSpec::depthwise(from, 3).stride(2).init(device), proj: point(from, keys) },
            k: point(from, keys),
            v: point(from, values),
            v_local: ConvBn::new(ConvSpec::depthwise(values, 3).stride(2), device),
            proj: point(values, to),
            attention_biases: Initializer::Zeros.init([HEADS, side * side], device),
        }
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> EfficientFormerV2 {
        let first = self.channels.first().copied().unwrap_or_default();
        let strided = |from, to| self.conv(ConvSpec::new(from, to, 3).stride(2), device);
        let mut before = first;
        let mut stages = Vec::with_capacity(self.channels.len());
        for (stage, (channels, ratios)) in self.channels.iter().zip(&self.mlp_ratios).enumerate() {
            let ends = [before, *channels];
            let downsample = (stage > 0).then(|| V2Down {
                conv: ConvBn::new(ConvSpec::new(before, *channels, 3).stride(2), device),
                attn: (stage > FIRST_ATTENTION).then(|| self.down_attention(stage, ends, device)),
            });
            let first_attending = ratios.len().saturating_sub(self.attention_blocks);
            let block = |(index, ratio): (usize, &usize)| {
                let attends = stage >= FIRST_ATTENTION && index >= first_attending;
                V2Block {
                    token_mixer: attends.then(|| self.attention(stage, *channels, device)),
                    ls1: attends.then(|| LayerScale::new(*channels, device)),
                    mlp: self.mlp(*channels, *ratio, device),
                    ls2: LayerScale::new(*channels, device),
                }
            };
            stages.push(V2Stage { downsample, blocks: ratios.iter().enumerate().map(block).collect() });
            before = *channels;
        }
        EfficientFormerV2 {
            stem: V2Stem { conv1: strided(3, first / 2), conv2: strided(first / 2, first) },
            stages,
            norm: FrozenBatchNorm::new(before, self.norm_eps, device),
            config: self.clone(),
        }
    }
}

/// Splits `[batch, heads · width, rows, columns]` into heads, `[batch, heads, width, positions]`.
fn heads(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, rows, columns] = x.dims();
    x.reshape([batch, HEADS, channels / HEADS, rows * columns])
}

/// The scores of queries and keys, `[batch, heads, queries, keys]`, with their biases.
fn scores(q: Tensor<4>, k: Tensor<4>, bias: Tensor<4>) -> Tensor<4> {
    let scale = (q.dims()[2] as f64).powf(-0.5);
    q.mul_scalar(scale).transpose().matmul(k) + bias
}

impl V2Attention {
    fn forward(&self, x: Tensor<4>, activation: ActivationKind) -> Tensor<4> {
        let [_, _, full, _] = x.dims();
        let x = match &self.stride_conv {
            Some(conv) => conv.forward(x),
            None => x,
        };
        let [batch, _, rows, columns] = x.dims();
        let values = self.v.forward(x.clone());
        let (q, k) = (heads(self.q.forward(x.clone())), heads(self.k.forward(x)));
        let mixed = self.talking_head1.forward(scores(q, k, offset_bias(&self.attention_biases, rows, 1)));
        let weights = self.talking_head2.forward(softmax(mixed, 3));
        let out = heads(values.clone()).matmul(weights.transpose());
        let channels = values.dims()[1];
        let out: Tensor<4> = out.reshape([batch, channels, rows, columns]);
        let mut out = out + self.v_local.forward(values);
        if self.stride_conv.is_some() {
            out = upsample(out, full);
        }
        self.proj.forward(activation.forward(out))
    }

    fn trace(&self, trace: &mut Trace) {
        let (side, channels) = (trace.side, trace.channels);
        if let Some(conv) = &self.stride_conv {
            conv.trace(trace);
        }
        let positions = trace.positions();
        [&self.q, &self.k, &self.v].into_iter().for_each(|conv| trace.beside(&conv.conv));
        trace.attention(HEADS * positions, positions, KEY, VALUE_RATIO * KEY);
        trace.multiply_adds += (2 * HEADS * HEADS * positions * positions) as u64;
        trace.beside(&self.v_local.conv);
        trace.side = side;
        self.proj.trace(trace);
        trace.channels = channels;
    }
}

/// Bilinear interpolation of a square map to `side`.
fn upsample(x: Tensor<4>, side: usize) -> Tensor<4> {
    let config = Interpolate2dConfig::new().with_output_size(Some([side, side])).with_mode(InterpolateMode::Linear);
    config.with_align_corners(false).init().forward(x)
}

impl V2DownAttention {
    fn forward(&self, x: Tensor<4>, activation: ActivationKind) -> Tensor<4> {
        let [batch, _, side, _] = x.dims();
        let sampled = avg_pool(x.clone(), 1, 2, 0, true, false);
        let q = self.q.proj.forward(self.q.local.forward(x.clone()) + sampled);
        let [_, _, rows, columns] = q.dims();
        let values = self.v.forward(x.clone());
        let weights = scores(heads(q), heads(self.k.forward(x)), offset_bias(&self.attention_biases, side, 2));
        let out = heads(values.clone()).matmul(softmax(weights, 3).transpose());
        let out: Tensor<4> = out.reshape([batch, values.dims()[1], rows, columns]);
        self.proj.forward(activation.forward(out + self.v_local.forward(values)))
    }

    /// The cost beside the main path, from the grid of the stage before.
    fn cost(&self, before: &Trace) -> u64 {
        let mut trace = before.clone();
        trace.multiply_adds = 0;
        let keys = trace.positions();
        [&self.k, &self.v].into_iter().for_each(|conv| trace.beside(&conv.conv));
        trace.beside(&self.v_local.conv);
        trace.conv(&self.q.local);
        trace.beside(&self.q.proj.conv);
        trace.attention(HEADS * trace.positions(), keys, DOWN_KEY, VALUE_RATIO * DOWN_KEY);
        trace.beside(&self.proj.conv);
        trace.multiply_adds
    }
}

impl V2Mlp {
    fn forward(&self, x: Tensor<4>, activation: ActivationKind) -> Tensor<4> {
        let x = activation.forward(self.fc1.forward(x));
        self.fc2.forward(activation.forward(self.mid.forward(x)))
    }

    fn trace(&self, trace: &mut Trace) {
        [&self.fc1, &self.mid, &self.fc2].into_iter().for_each(|conv| conv.trace(trace));
    }
}

impl V2Block {
    fn forward(&self, x: Tensor<4>, activation: ActivationKind, factors: [Option<&Tensor<1>>; 2]) -> Tensor<4> {
        let mut x = x;
        if let (Some(mixer), Some(scale)) = (&self.token_mixer, &self.ls1) {
            let mixed = scale.forward(mixer.forward(x.clone(), activation));
            x = x + drop_branch(mixed, factors[0]);
        }
        let out = self.ls2.forward(self.mlp.forward(x.clone(), activation));
        x + drop_branch(out, factors[1])
    }
}

impl EfficientFormerV2 {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &EfficientFormerV2Config {
        &self.config
    }
}

impl StagedConfig for EfficientFormerV2Config {
    fn check(&self) -> Result<()> {
        let name = "EfficientFormerV2";
        per_stage(name, "mlp_ratios", self.channels.len(), &[self.mlp_ratios.len()])?;
        positive(name, "half the channels", &self.channels.iter().map(|n| n / 2).collect::<Vec<_>>())?;
        for (channels, ratios) in self.channels.iter().zip(&self.mlp_ratios) {
            positive(name, "number of blocks", &[ratios.len()])?;
            positive(name, "mlp_ratios", ratios)?;
            let widest = ratios.iter().max().copied().unwrap_or_default();
            positive(name, "hidden channels", &[channels.saturating_mul(widest)])?;
        }
        positive(name, "image_size", &[self.image_size])?;
        let halved = self.side(FIRST_ATTENTION);
        let attends = self.attention_blocks > 0 && self.channels.len() > FIRST_ATTENTION;
        if attends && halved % 2 == 1 || self.image_size > 1024 {
            return Err(Error::usage(format!("invalid {name}: image_size = {}", self.image_size))
                .hint("the grid of the third stage must have an even side, and images at most 1024 pixels"));
        }
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.mlp_ratios.iter().map(Vec::len).sum()
    }

    fn layers(&self) -> Vec<LayerShape> {
        let network = self.init(&Device::flex());
        let mut trace = Trace::image(self.image_size);
        network.stem.conv1.trace(&mut trace);
        network.stem.conv2.trace(&mut trace);
        for stage in &network.stages {
            if let Some(layer) = &stage.downsample {
                let attention = layer.attn.as_ref().map_or(0, |attention| attention.cost(&trace));
                layer.conv.trace(&mut trace);
                trace.multiply_adds += attention;
            }
            for block in &stage.blocks {
                if let Some(mixer) = &block.token_mixer {
                    mixer.trace(&mut trace);
                }
                block.mlp.trace(&mut trace);
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

impl StagedNetwork for EfficientFormerV2 {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let [_, _, height, width] = pixels.dims();
        if [height, width] != [self.config.image_size; 2] {
            return Err(Error::failed(format!(
                "images of {height}x{width} pixels, but this EfficientFormerV2 takes {0}x{0}",
                self.config.image_size
            ))
            .hint("resize the images to the size on the encoder's card"));
        }
        let activation = self.config.activation;
        let mut x = activation.forward(self.stem.conv1.forward(pixels));
        x = activation.forward(self.stem.conv2.forward(x));
        let (mut outputs, mut run) = (Vec::with_capacity(count), 0);
        for stage in self.stages.iter().take(count) {
            if let Some(layer) = &stage.downsample {
                let out = layer.conv.forward(x.clone());
                x = match &layer.attn {
                    Some(attention) => attention.forward(x, activation) + out,
                    None => out,
                };
            }
            for block in &stage.blocks {
                x = block.forward(x, activation, [0, 1].map(|branch| drop_path.factors(run, branch)));
                run += 1;
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.norm.forward(tokens.swap_dims(1, 2)).swap_dims(1, 2)
    }
}

impl TimmModel for EfficientFormerV2Config {
    const CLASSES: &'static [&'static str] = &["EfficientFormerV2"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3"), ("downsamples", "null"), ("norm_layer", "\"batchnorm2d\"")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "img_size", "distillation", "layer_scale_init_value"]);
        let depths = arguments.numbers("depths")?.unwrap_or_default();
        let ratios = arguments.read("mlp_ratios", |value| {
            let stage = |stage: usize, depth: usize| {
                let of_stage = value.as_array().map_or(Some(value), |list| list.get(stage))?;
                match of_stage.as_array() {
                    Some(list) if list.len() == depth => list.iter().map(integer).collect(),
                    Some(_) => None,
                    None => Some(vec![integer(of_stage)?; depth]),
                }
            };
            depths.iter().enumerate().map(|(at, depth)| stage(at, *depth)).collect::<Option<Vec<Vec<usize>>>>()
        })?;
        Ok(TimmNetwork::new(Self {
            image_size,
            channels: arguments.numbers("embed_dims")?.unwrap_or_default(),
            mlp_ratios: ratios.unwrap_or_else(|| depths.iter().map(|depth| vec![4; *depth]).collect()),
            attention_blocks: arguments.number("num_vit", 0)?,
            activation: arguments.activation("act_layer", ActivationKind::Gelu)?,
            norm_eps: arguments.real("norm_eps")?.unwrap_or(1e-5),
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        })
        .with_dialect("timm-pooled-head"))
    }
}
