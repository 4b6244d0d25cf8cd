//! EdgeNeXt (Maaz et al. 2022, arXiv:2206.10589): ConvNeXt blocks, and blocks that attend over channels. Parameter
//! paths are those of timm's `EdgeNeXt`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::limits::check_pixels;
use super::parts::{
    ActivationKind, Conv, ConvSpec, LayerNorm2d, Padding, Trace, divides, drop_branch, per_channel, per_stage, positive,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Frequencies of a position encoding, half of them for sines.
const FREQUENCIES: usize = 32;

/// Layout of the stem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum EdgeStemKind {
    /// A 4×4 convolution of stride 4.
    #[default]
    Patch,
    /// A 9×9 convolution of stride 4.
    Overlap,
}

/// Hyper-parameters of an EdgeNeXt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EdgeNextConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Channels of each stage.
    pub channels: [usize; 4],
    /// Number of blocks of each stage.
    pub depths: [usize; 4],
    /// Number of blocks with attention at the end of each stage. Default 0, 1, 1, 1.
    #[serde(default = "default_global")]
    pub attention_blocks: [usize; 4],
    /// Side of the depthwise kernels of each stage. Default 3, 5, 7, 9.
    #[serde(default = "default_kernels")]
    pub kernels: [usize; 4],
    /// Number of attention heads of each stage. Default 8.
    #[serde(default = "default_heads")]
    pub heads: [usize; 4],
    /// Number of parts into which attention blocks split the channels, of each stage. Default 2, 2, 3, 4.
    #[serde(default = "default_scales")]
    pub scales: [usize; 4],
    /// Whether the attention blocks of each stage add a position encoding. Default: the second stage.
    #[serde(default = "default_positions")]
    pub positions: [bool; 4],
    /// Hidden channels of the MLPs divided by their channels. Default 4.
    #[serde(default = "default_ratio")]
    pub mlp_ratio: f64,
    /// Whether the first block of a stage halves the grid, and not a layer before it. Default false.
    #[serde(default)]
    pub downsample_block: bool,
    /// Whether convolutions have biases. Default true.
    #[serde(default = "default_bias")]
    pub conv_bias: bool,
    /// Layout of the stem. Default `patch`.
    #[serde(default)]
    pub stem: EdgeStemKind,
    /// Whether the last feature map is normalised at every position. Default false.
    #[serde(default)]
    pub final_norm: bool,
    /// Activation. Default GELU.
    #[serde(default = "default_activation")]
    pub activation: ActivationKind,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default)]
    pub drop_path: f64,
}

fn default_global() -> [usize; 4] {
    [0, 1, 1, 1]
}

fn default_kernels() -> [usize; 4] {
    [3, 5, 7, 9]
}

fn default_heads() -> [usize; 4] {
    [8; 4]
}

fn default_scales() -> [usize; 4] {
    [2, 2, 3, 4]
}

fn default_positions() -> [bool; 4] {
    [false, true, false, false]
}

fn default_ratio() -> f64 {
    4.0
}

fn default_bias() -> bool {
    true
}

fn default_activation() -> ActivationKind {
    ActivationKind::Gelu
}

/// An EdgeNeXt; see the module documentation.
#[derive(Module, Debug)]
pub struct EdgeNext {
    /// Stem of stride 4 and its norm.
    pub stem: (Conv, LayerNorm2d),
    /// The stages, in order of depth.
    pub stages: Vec<EdgeStage>,
    /// Norm of the last feature map.
    pub norm_pre: Option<LayerNorm2d>,
    #[module(skip)]
    config: EdgeNextConfig,
}

/// A stage: a norm and a convolution that halves the grid, then blocks.
#[derive(Module, Debug)]
pub struct EdgeStage {
    /// Halves the grid.
    pub downsample: Option<(LayerNorm2d, Conv)>,
    /// The blocks.
    pub blocks: Vec<EdgeBlock>,
}

/// A block.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum EdgeBlock {
    /// Depthwise convolution and MLP.
    Convolution(EdgeConvBlock),
    /// Attention over channels and MLP.
    Attention(EdgeAttentionBlock),
}

/// Depthwise convolution, norm, MLP, layer scale; a shortcut around all, or after the convolution if it changes the
/// shape.
#[derive(Module, Debug)]
pub struct EdgeConvBlock {
    /// Depthwise convolution.
    pub conv_dw: Conv,
    /// Norm after `conv_dw`.
    pub norm: LayerNorm,
    /// MLP.
    pub mlp: EdgeMlp,
    /// Layer scale, `[channels]`.
    pub gamma: Option<Param<Tensor<1>>>,
}

/// Depthwise convolutions of parts of the channels, attention over channels, MLP.
#[derive(Module, Debug)]
pub struct EdgeAttentionBlock {
    /// Depthwise convolutions, one per part but the last.
    pub convs: Vec<Conv>,
    /// Position encoding.
    pub pos_embd: Option<FourierPositions>,
    /// Norm before the attention.
    pub norm_xca: LayerNorm,
    /// Layer scale of the attention, `[channels]`.
    pub gamma_xca: Option<Param<Tensor<1>>>,
    /// Attention.
    pub xca: ChannelSelfAttention,
    /// Norm before the MLP.
    pub norm: LayerNorm,
    /// MLP.
    pub mlp: EdgeMlp,
    /// Layer scale of the MLP, `[channels]`.
    pub gamma: Option<Param<Tensor<1>>>,
}

/// Sines and cosines of rows and columns, projected to the channels.
#[derive(Module, Debug)]
pub struct FourierPositions {
    /// Pointwise convolution.
    pub token_projection: Conv,
}

/// Cross-covariance attention: channels attend to channels.
#[derive(Module, Debug)]
pub struct ChannelSelfAttention {
    /// Factor of the scores per head, `[heads, 1, 1]`.
    pub temperature: Param<Tensor<3>>,
    /// Queries, keys and values.
    pub qkv: Linear,
    /// Output projection.
    pub proj: Linear,
}

/// Two linear layers with an activation between them.
#[derive(Module, Debug)]
pub struct EdgeMlp {
    /// First layer.
    pub fc1: Linear,
    /// Second layer.
    pub fc2: Linear,
}

impl EdgeMlp {
    fn forward(&self, x: Tensor<3>, activation: ActivationKind) -> Tensor<3> {
        self.fc2.forward(activation.forward(self.fc1.forward(x)))
    }

    fn trace(&self, trace: &mut Trace) {
        trace.linear(&self.fc1);
        trace.linear(&self.fc2);
    }
}

/// Maps `[batch, channels, rows, columns]` to `[batch, positions, channels]`.
fn tokens(x: Tensor<4>) -> Tensor<3> {
    let [batch, channels, rows, columns] = x.dims();
    x.reshape([batch, channels, rows * columns]).swap_dims(1, 2)
}

/// Maps `[batch, positions, channels]` to the map `[batch, channels, rows, columns]`, times `scale`.
fn map(x: Tensor<3>, shape: [usize; 4], scale: Option<&Param<Tensor<1>>>) -> Tensor<4> {
    let x: Tensor<4> = x.swap_dims(1, 2).reshape(shape);
    match scale {
        Some(scale) => x * per_channel(scale.val()),
        None => x,
    }
}

impl EdgeNextConfig {
    fn scale(channels: usize, device: &Device) -> Option<Param<Tensor<1>>> {
        Some(Initializer::Constant { value: 1e-6 }.init([channels], device))
    }

    fn mlp(&self, channels: usize, device: &Device) -> EdgeMlp {
        let hidden = times(channels, self.mlp_ratio);
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        EdgeMlp { fc1: linear(channels, hidden), fc2: linear(hidden, channels) }
    }

    fn norm(channels: usize, device: &Device) -> LayerNorm {
        LayerNormConfig::new(channels).with_epsilon(1e-6).init(device)
    }

    fn block(&self, stage: usize, index: usize, from: usize, device: &Device) -> EdgeBlock {
        let (channels, depth) = (self.channels[stage], self.depths[stage]);
        if index + self.attention_blocks[stage] >= depth {
            return EdgeBlock::Attention(self.attention(stage, device));
        }
        let stride = if self.downsample_block && stage > 0 && index == 0 { 2 } else { 1 };
        let spec = ConvSpec::new(from, channels, self.kernels[stage]).groups(from).stride(stride).bias(self.conv_bias);
        EdgeBlock::Convolution(EdgeConvBlock {
            conv_dw: spec.init(device),
            norm: Self::norm(channels, device),
            mlp: self.mlp(channels, device),
            gamma: Self::scale(channels, device),
        })
    }

    fn attention(&self, stage: usize, device: &Device) -> EdgeAttentionBlock {
        let (channels, scales) = (self.channels[stage], self.scales[stage]);
        let width = channels.div_ceil(scales);
        let conv = || ConvSpec::depthwise(width, 3).bias(self.conv_bias).init(device);
        EdgeAttentionBlock {
            convs: (0..(scales - 1).max(1)).map(|_| conv()).collect(),
            pos_embd: self.positions[stage].then(|| FourierPositions {
                token_projection: ConvSpec::new(2 * FREQUENCIES, channels, 1).init(device),
            }),
            norm_xca: Self::norm(channels, device),
            gamma_xca: Self::scale(channels, device),
            xca: ChannelSelfAttention {
                temperature: Initializer::Ones.init([self.heads[stage], 1, 1], device),
                qkv: LinearConfig::new(channels, 3 * channels).init(device),
                proj: LinearConfig::new(channels, channels).init(device),
            },
            norm: Self::norm(channels, device),
            mlp: self.mlp(channels, device),
            gamma: Self::scale(channels, device),
        }
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> EdgeNext {
        let [first, _, _, last] = self.channels;
        let stem = match self.stem {
            EdgeStemKind::Patch => ConvSpec::new(3, first, 4).padding(Padding::Explicit(0)),
            EdgeStemKind::Overlap => ConvSpec::new(3, first, 9),
        };
        let mut before = first;
        let mut stages = Vec::with_capacity(4);
        for (stage, (channels, depth)) in self.channels.into_iter().zip(self.depths).enumerate() {
            let layer = stage > 0 && !self.downsample_block;
            let down = ConvSpec::new(before, channels, 2).stride(2).padding(Padding::Explicit(0)).bias(self.conv_bias);
            let downsample = layer.then(|| (LayerNorm2d::new(before, 1e-6, device), down.init(device)));
            let from = if layer { channels } else { before };
            let block = |index| self.block(stage, index, if index == 0 { from } else { channels }, device);
            stages.push(EdgeStage { downsample, blocks: (0..depth).map(block).collect() });
            before = channels;
        }
        EdgeNext {
            stem: (stem.stride(4).bias(self.conv_bias).init(device), LayerNorm2d::new(first, 1e-6, device)),
            stages,
            norm_pre: self.final_norm.then(|| LayerNorm2d::new(last, 1e-6, device)),
            config: self.clone(),
        }
    }
}

impl EdgeConvBlock {
    fn forward(&self, x: Tensor<4>, activation: ActivationKind, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let mixed = self.conv_dw.forward(x.clone());
        let shape = mixed.dims();
        let shortcut = if x.dims() == shape { x } else { mixed.clone() };
        let out = self.mlp.forward(self.norm.forward(tokens(mixed)), activation);
        shortcut + drop_branch(map(out, shape, self.gamma.as_ref()), factors)
    }

    fn trace(&self, trace: &mut Trace) {
        trace.conv(&self.conv_dw);
        self.mlp.trace(trace);
    }
}

impl FourierPositions {
    /// The encoding of a grid, `[1, channels, rows, columns]`.
    fn forward(&self, [rows, columns]: [usize; 2], device: &Device) -> Tensor<4> {
        let angle = |place: usize, of: usize, index: usize| {
            let turns = (place + 1) as f64 / (of as f64 + 1e-6) * std::f64::consts::TAU;
            let angle = turns / 10000f64.powf((2 * (index / 2)) as f64 / FREQUENCIES as f64);
            (if index.is_multiple_of(2) { angle.sin() } else { angle.cos() }) as f32
        };
        let mut values = Vec::with_capacity(2 * FREQUENCIES * rows * columns);
        for index in 0..FREQUENCIES {
            (0..rows * columns).for_each(|at| values.push(angle(at / columns, rows, index)));
        }
        for index in 0..FREQUENCIES {
            (0..rows * columns).for_each(|at| values.push(angle(at % columns, columns, index)));
        }
        let angles = Tensor::from_data(TensorData::new(values, [1, 2 * FREQUENCIES, rows, columns]), device);
        self.token_projection.forward(angles)
    }
}

/// Divides by the L2 norm along the last axis, at least 1e-12.
fn unit(x: Tensor<4>) -> Tensor<4> {
    let norm = x.clone().square().sum_dim(3).clamp_min(1e-24).sqrt();
    x / norm
}

impl ChannelSelfAttention {
    /// Runs the layer on `[batch, positions, channels]`.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, positions, channels] = x.dims();
        let [heads, ..] = self.temperature.dims();
        let qkv = self.qkv.forward(x).reshape([batch, positions, 3 * heads, channels / heads]).permute([0, 2, 3, 1]);
        let part = |index: usize| qkv.clone().narrow(1, index * heads, heads);
        let scores = unit(part(0)).matmul(unit(part(1)).transpose()) * self.temperature.val().unsqueeze();
        let mixed = softmax(scores, 3).matmul(part(2));
        self.proj.forward(mixed.permute([0, 3, 1, 2]).reshape([batch, positions, channels]))
    }

    fn trace(&self, trace: &mut Trace) {
        let [heads, _, _] = self.temperature.lazy_shape().dims();
        let channels = trace.channels;
        trace.linear(&self.qkv);
        trace.multiply_adds += (2 * trace.positions() * channels * channels / heads) as u64;
        trace.channels = channels;
        trace.linear(&self.proj);
    }
}

impl EdgeAttentionBlock {
    fn forward(&self, x: Tensor<4>, activation: ActivationKind, factors: [Option<&Tensor<1>>; 2]) -> Tensor<4> {
        let shape @ [_, channels, rows, columns] = x.dims();
        // Every part is convolved together with the result of the part before it; the last one is left as it is.
        let count = self.convs.len() + 1;
        let width = channels.div_ceil(count);
        let part = |index: usize| x.clone().narrow(1, index * width, width.min(channels - index * width));
        let mut parts: Vec<Tensor<4>> = Vec::with_capacity(count);
        for (index, conv) in self.convs.iter().enumerate() {
            let input = match parts.last() {
                Some(before) => before.clone() + part(index),
                None => part(index),
            };
            parts.push(conv.forward(input));
        }
        parts.push(part(count - 1));
        let mut y = Tensor::cat(parts, 1);
        if let Some(positions) = &self.pos_embd {
            y = y + positions.forward([rows, columns], &x.device());
        }
        let mixed = map(self.xca.forward(self.norm_xca.forward(tokens(y.clone()))), shape, self.gamma_xca.as_ref());
        let y = y + drop_branch(mixed, factors[0]);
        let out = self.mlp.forward(self.norm.forward(tokens(y)), activation);
        x + drop_branch(map(out, shape, self.gamma.as_ref()), factors[1])
    }

    fn trace(&self, trace: &mut Trace) {
        self.convs.iter().for_each(|conv| trace.beside(conv));
        if let Some(positions) = &self.pos_embd {
            trace.beside(&positions.token_projection);
        }
        self.xca.trace(trace);
        self.mlp.trace(trace);
    }
}

impl EdgeNext {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &EdgeNextConfig {
        &self.config
    }
}

impl StagedConfig for EdgeNextConfig {
    fn check(&self) -> Result<()> {
        let name = "EdgeNeXt";
        for numbers in [self.channels, self.depths, self.kernels, self.heads, self.scales] {
            positive(name, "channels, depths, kernels, heads or scales", &numbers)?;
        }
        positive(name, "image_size", &[self.image_size])?;
        let hidden = self.channels.map(|n| times(n, self.mlp_ratio));
        positive(name, "hidden channels", &hidden)?;
        per_stage(name, "channels", 4, &[self.channels.len()])?;
        for stage in 0..4 {
            let (channels, scales) = (self.channels[stage], self.scales[stage]);
            if self.attention_blocks[stage] == 0 {
                continue;
            }
            divides(name, "heads", channels, self.heads[stage])?;
            let parts = (scales - 1).max(1) + 1;
            let width = channels.div_ceil(scales);
            if width != channels.div_ceil(parts) || (parts - 1) * width >= channels {
                return Err(Error::usage(format!(
                    "invalid {name}: scales = {scales} do not split {channels} channels"
                ))
                .hint("give at least 2 scales, and more channels"));
            }
            if self.downsample_block && stage > 0 && self.attention_blocks[stage] >= self.depths[stage] {
                return Err(Error::usage(format!("invalid {name}: stage {stage} has no block that halves the grid"))
                    .hint("set downsample_block = false, or fewer attention_blocks"));
            }
        }
        if self.downsample_block {
            let pairs = self.channels.windows(2).filter_map(|pair| Some((*pair.first()?, *pair.last()?)));
            pairs.into_iter().try_for_each(|(before, after)| divides(name, "channels of a stage", after, before))?;
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
        trace.conv(&network.stem.0);
        for stage in &network.stages {
            if let Some((_, conv)) = &stage.downsample {
                trace.conv(conv);
            }
            for block in &stage.blocks {
                match block {
                    EdgeBlock::Convolution(block) => block.trace(&mut trace),
                    EdgeBlock::Attention(block) => block.trace(&mut trace),
                }
            }
            trace.end_layer();
        }
        trace.layers()
    }

    fn has_final_norm(&self) -> bool {
        self.final_norm
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.layer_count(), branches: 2 })
    }
}

impl StagedNetwork for EdgeNext {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let [_, _, height, width] = pixels.dims();
        if height.min(width) < 32 {
            return Err(Error::failed(format!("images of {height}x{width} pixels are too small for an EdgeNeXt"))
                .hint("both sides must be at least 32 pixels"));
        }
        let activation = self.config.activation;
        let mut x = self.stem.1.forward(self.stem.0.forward(pixels));
        let (mut outputs, mut run) = (Vec::with_capacity(count), 0);
        for stage in self.stages.iter().take(count) {
            if let Some((norm, conv)) = &stage.downsample {
                x = conv.forward(norm.forward(x));
            }
            for block in &stage.blocks {
                let factors = [0, 1].map(|branch| drop_path.factors(run, branch));
                x = match block {
                    EdgeBlock::Convolution(block) => block.forward(x, activation, factors[0]),
                    EdgeBlock::Attention(block) => block.forward(x, activation, factors),
                };
                run += 1;
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        match &self.norm_pre {
            Some(norm) => {
                let map: Tensor<4> = tokens.swap_dims(1, 2).unsqueeze_dim(3);
                norm.forward(map).squeeze_dim::<3>(3).swap_dims(1, 2)
            }
            None => tokens,
        }
    }
}

impl TimmModel for EdgeNextConfig {
    const CLASSES: &'static [&'static str] = &["EdgeNeXt"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        if arguments.real("ls_init_value")?.is_some_and(|value| value <= 0.0) {
            return Err(arguments.invalid("it has no layer scale, which is not supported"));
        }
        let stems = [("patch", EdgeStemKind::Patch), ("overlap", EdgeStemKind::Overlap)];
        let positions = arguments.read("use_pos_emb", |value| {
            let list = value.as_array()?.iter().map(serde_json::Value::as_bool).collect::<Option<Vec<_>>>()?;
            <[bool; 4]>::try_from(list).ok()
        })?;
        Ok(TimmNetwork::new(Self {
            image_size,
            channels: arguments.four("dims", [24, 48, 88, 168])?,
            depths: arguments.four("depths", [3, 3, 9, 3])?,
            attention_blocks: arguments.four("global_block_counts", default_global())?,
            kernels: arguments.four("kernel_sizes", default_kernels())?,
            heads: arguments.four("heads", default_heads())?,
            scales: arguments.four("d2_scales", default_scales())?,
            positions: positions.unwrap_or_else(default_positions),
            mlp_ratio: arguments.real("expand_ratio")?.unwrap_or(4.0),
            downsample_block: arguments.flag("downsample_block", false)?,
            conv_bias: arguments.flag("conv_bias", true)?,
            stem: arguments.one_of("stem_type", "patch", &stems)?,
            final_norm: arguments.flag("head_norm_first", false)?,
            activation: arguments.activation("act_layer", ActivationKind::Gelu)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}
