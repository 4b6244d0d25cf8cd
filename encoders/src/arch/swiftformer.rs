//! SwiftFormer (Shaker et al. 2023, arXiv:2303.15446): convolutional blocks, and at the end of every stage a block with
//! additive attention. Parameter paths are those of timm's `SwiftFormer`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::limits::check_pixels;
use super::parts::{
    ActivationKind, Conv, ConvSpec, FrozenBatchNorm, Padding, ProjNorm, Slot, Trace, drop_branch, per_stage, positive,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a SwiftFormer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SwiftFormerConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Channels of each stage.
    pub channels: Vec<usize>,
    /// Number of blocks of each stage; the last one has attention.
    pub depths: Vec<usize>,
    /// Whether a convolution precedes each stage, which halves the grid.
    pub downsamples: Vec<bool>,
    /// Hidden channels of the MLPs divided by their channels. Default 4.
    #[serde(default = "default_ratio")]
    pub mlp_ratio: f64,
    /// Kernel of the convolutions between stages. Default 3.
    #[serde(default = "default_kernel")]
    pub down_kernel: usize,
    /// Stride of the convolutions between stages. Default 2.
    #[serde(default = "default_stride")]
    pub down_stride: usize,
    /// Zero padding of the convolutions between stages. Default 1.
    #[serde(default = "default_padding")]
    pub down_padding: usize,
    /// Whether branches have layer scale. Default true.
    #[serde(default = "default_scale")]
    pub layer_scale: bool,
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

fn default_kernel() -> usize {
    3
}

fn default_stride() -> usize {
    2
}

fn default_padding() -> usize {
    1
}

fn default_scale() -> bool {
    true
}

fn default_activation() -> ActivationKind {
    ActivationKind::Gelu
}

/// A SwiftFormer; see the module documentation.
#[derive(Module, Debug)]
pub struct SwiftFormer {
    /// Stem of stride 4: two convolutions, each with a norm and a ReLU.
    pub stem: (Conv, FrozenBatchNorm, Slot, Conv, FrozenBatchNorm),
    /// The stages, in order of depth.
    pub stages: Vec<SwiftStage>,
    /// Batch norm of the last feature map.
    pub norm: FrozenBatchNorm,
    #[module(skip)]
    config: SwiftFormerConfig,
}

/// A stage: a convolution that halves the grid, then blocks.
#[derive(Module, Debug)]
pub struct SwiftStage {
    /// Halves the grid.
    pub downsample: Option<ProjNorm>,
    /// The blocks.
    pub blocks: Vec<SwiftBlock>,
}

/// A block.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum SwiftBlock {
    /// Convolutions only.
    Convolution(ConvEncoder),
    /// Convolutions, additive attention and an MLP.
    Attention(AttentionEncoder),
}

/// Residual depthwise convolution and two pointwise convolutions.
#[derive(Module, Debug)]
pub struct ConvEncoder {
    /// Depthwise convolution.
    pub dwconv: Conv,
    /// Norm after `dwconv`.
    pub norm: FrozenBatchNorm,
    /// Pointwise convolution to the hidden channels.
    pub pwconv1: Conv,
    /// Pointwise convolution back.
    pub pwconv2: Conv,
    /// Layer scale.
    pub layer_scale: Option<MapScale>,
}

/// Residual convolutions, residual attention and a residual MLP.
#[derive(Module, Debug)]
pub struct AttentionEncoder {
    /// Convolutions.
    pub local_representation: ConvEncoder,
    /// Attention.
    pub attn: AdditiveAttention,
    /// MLP.
    pub linear: SwiftMlp,
    /// Layer scale of the attention.
    pub layer_scale_1: Option<MapScale>,
    /// Layer scale of the MLP.
    pub layer_scale_2: Option<MapScale>,
}

/// Efficient additive attention: a weighted mean of all queries multiplies the keys.
#[derive(Module, Debug)]
pub struct AdditiveAttention {
    /// Queries.
    pub to_query: Linear,
    /// Keys.
    pub to_key: Linear,
    /// Direction whose product with a query is its weight, `[channels, 1]`.
    pub w_g: Param<Tensor<2>>,
    /// Projection of the products.
    pub proj: Linear,
    /// Output projection.
    pub output: Linear,
}

/// Norm and two pointwise convolutions.
#[derive(Module, Debug)]
pub struct SwiftMlp {
    /// Norm of the input.
    pub norm1: FrozenBatchNorm,
    /// First convolution.
    pub fc1: Conv,
    /// Second convolution.
    pub fc2: Conv,
}

/// Layer scale, stored as `[channels, 1, 1]`.
#[derive(Module, Debug)]
pub struct MapScale {
    /// Factors.
    pub gamma: Param<Tensor<3>>,
}

impl MapScale {
    fn new(channels: usize, device: &Device) -> Self {
        Self { gamma: Initializer::Ones.init([channels, 1, 1], device) }
    }

    fn apply(scale: Option<&Self>, x: Tensor<4>) -> Tensor<4> {
        match scale {
            Some(scale) => x * scale.gamma.val().unsqueeze(),
            None => x,
        }
    }
}

impl SwiftFormerConfig {
    fn encoder(&self, channels: usize, hidden: usize, device: &Device) -> ConvEncoder {
        ConvEncoder {
            dwconv: ConvSpec::depthwise(channels, 3).init(device),
            norm: FrozenBatchNorm::new(channels, 1e-5, device),
            pwconv1: ConvSpec::new(channels, hidden, 1).init(device),
            pwconv2: ConvSpec::new(hidden, channels, 1).init(device),
            layer_scale: self.layer_scale.then(|| MapScale::new(channels, device)),
        }
    }

    fn attention(&self, channels: usize, device: &Device) -> AttentionEncoder {
        let linear = || LinearConfig::new(channels, channels).init(device);
        let scale = || self.layer_scale.then(|| MapScale::new(channels, device));
        let hidden = times(channels, self.mlp_ratio);
        AttentionEncoder {
            local_representation: self.encoder(channels, channels, device),
            attn: AdditiveAttention {
                to_query: linear(),
                to_key: linear(),
                w_g: Initializer::Zeros.init([channels, 1], device),
                proj: linear(),
                output: linear(),
            },
            linear: SwiftMlp {
                norm1: FrozenBatchNorm::new(channels, 1e-5, device),
                fc1: ConvSpec::new(channels, hidden, 1).init(device),
                fc2: ConvSpec::new(hidden, channels, 1).init(device),
            },
            layer_scale_1: scale(),
            layer_scale_2: scale(),
        }
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> SwiftFormer {
        let first = self.channels.first().copied().unwrap_or_default();
        let norm = |channels| FrozenBatchNorm::new(channels, 1e-5, device);
        let conv = |from, to| ConvSpec::new(from, to, 3).stride(2).init(device);
        let mut before = first;
        let mut stages = Vec::with_capacity(self.channels.len());
        for ((channels, depth), down) in self.channels.iter().zip(&self.depths).zip(&self.downsamples) {
            let spec = ConvSpec::new(before, *channels, self.down_kernel).stride(self.down_stride);
            let block = |index| match index + 1 == *depth {
                true => SwiftBlock::Attention(self.attention(*channels, device)),
                false => SwiftBlock::Convolution(self.encoder(*channels, times(*channels, self.mlp_ratio), device)),
            };
            stages.push(SwiftStage {
                downsample: down.then(|| ProjNorm::new(spec.padding(Padding::Explicit(self.down_padding)), device)),
                blocks: (0..*depth).map(block).collect(),
            });
            before = *channels;
        }
        SwiftFormer {
            stem: (conv(3, first / 2), norm(first / 2), Slot {}, conv(first / 2, first), norm(first)),
            stages,
            norm: norm(before),
            config: self.clone(),
        }
    }
}

impl ConvEncoder {
    fn forward(&self, x: Tensor<4>, activation: ActivationKind, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let hidden = self.pwconv1.forward(self.norm.forward(self.dwconv.forward(x.clone())));
        let out = self.pwconv2.forward(activation.forward(hidden));
        x + drop_branch(MapScale::apply(self.layer_scale.as_ref(), out), factors)
    }

    fn trace(&self, trace: &mut Trace) {
        [&self.dwconv, &self.pwconv1, &self.pwconv2].into_iter().for_each(|conv| trace.conv(conv));
    }
}

/// Divides by the L2 norm along `axis`, at least 1e-12.
fn unit(x: Tensor<3>, axis: usize) -> Tensor<3> {
    let norm = x.clone().square().sum_dim(axis).clamp_min(1e-24).sqrt();
    x / norm
}

impl AdditiveAttention {
    /// Runs the layer on `[batch, channels, rows, columns]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, rows, columns] = x.dims();
        let tokens: Tensor<3> = x.reshape([batch, channels, rows * columns]).swap_dims(1, 2);
        let query = unit(self.to_query.forward(tokens.clone()), 2);
        let key = unit(self.to_key.forward(tokens), 2);
        let scale = (channels as f64).powf(-0.5);
        let weights = query.clone().matmul(self.w_g.val().unsqueeze()).mul_scalar(scale);
        let context = (unit(weights, 1) * query.clone()).sum_dim(1);
        let out = self.output.forward(self.proj.forward(context * key) + query);
        out.swap_dims(1, 2).reshape([batch, channels, rows, columns])
    }

    fn trace(&self, trace: &mut Trace) {
        for linear in [&self.to_query, &self.to_key, &self.proj, &self.output] {
            trace.linear(linear);
        }
        trace.multiply_adds += (trace.positions() * trace.channels) as u64;
    }
}

impl AttentionEncoder {
    fn forward(&self, x: Tensor<4>, activation: ActivationKind, factors: [Option<&Tensor<1>>; 3]) -> Tensor<4> {
        let x = self.local_representation.forward(x, activation, factors[0]);
        let mixed = MapScale::apply(self.layer_scale_1.as_ref(), self.attn.forward(x.clone()));
        let x = x + drop_branch(mixed, factors[1]);
        let mlp = &self.linear;
        let out = mlp.fc2.forward(activation.forward(mlp.fc1.forward(mlp.norm1.forward(x.clone()))));
        x + drop_branch(MapScale::apply(self.layer_scale_2.as_ref(), out), factors[2])
    }

    fn trace(&self, trace: &mut Trace) {
        self.local_representation.trace(trace);
        self.attn.trace(trace);
        trace.conv(&self.linear.fc1);
        trace.conv(&self.linear.fc2);
    }
}

impl SwiftFormer {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &SwiftFormerConfig {
        &self.config
    }
}

impl StagedConfig for SwiftFormerConfig {
    fn check(&self) -> Result<()> {
        let name = "SwiftFormer";
        let count = self.channels.len();
        per_stage(name, "depths and downsamples", count, &[self.depths.len(), self.downsamples.len()])?;
        let narrow = self.channels.iter().map(|n| n / 2).chain(self.depths.iter().copied());
        positive(name, "half the channels, and depths", &narrow.collect::<Vec<_>>())?;
        let hidden = self.channels.iter().map(|n| times(*n, self.mlp_ratio));
        positive(name, "hidden channels", &hidden.collect::<Vec<_>>())?;
        positive(
            name,
            "image_size, down_kernel and down_stride",
            &[self.image_size, self.down_kernel, self.down_stride],
        )?;
        let changes = self.channels.windows(2).zip(self.downsamples.iter().skip(1));
        if changes.into_iter().any(|(pair, down)| !down && pair.first() != pair.last()) {
            return Err(Error::usage(format!("invalid {name}: channels change without a downsampling layer"))
                .hint("set downsamples = true where channels change"));
        }
        if self.down_padding > self.down_kernel {
            return Err(Error::usage(format!("invalid {name}: down_padding = {}", self.down_padding)));
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
        trace.conv(&network.stem.3);
        for stage in &network.stages {
            if let Some(layer) = &stage.downsample {
                layer.trace(&mut trace);
            }
            for block in &stage.blocks {
                match block {
                    SwiftBlock::Convolution(block) => block.trace(&mut trace),
                    SwiftBlock::Attention(block) => block.trace(&mut trace),
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

impl StagedNetwork for SwiftFormer {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let relu = |x| ActivationKind::Relu.forward(x);
        let (conv1, norm1, _, conv2, norm2) = &self.stem;
        let mut x: Tensor<4> = relu(norm1.forward(conv1.forward(pixels)));
        x = relu(norm2.forward(conv2.forward(x)));
        let (mut outputs, mut run) = (Vec::with_capacity(count), 0);
        for stage in self.stages.iter().take(count) {
            if let Some(layer) = &stage.downsample {
                x = layer.forward(x);
            }
            for block in &stage.blocks {
                let factors = [0, 1].map(|branch| drop_path.factors(run, branch));
                x = match block {
                    SwiftBlock::Convolution(block) => block.forward(x, self.config.activation, factors[0]),
                    // The convolutions of these blocks are never dropped in timm.
                    SwiftBlock::Attention(block) => {
                        block.forward(x, self.config.activation, [None, factors[0], factors[1]])
                    }
                };
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

impl TimmModel for SwiftFormerConfig {
    const CLASSES: &'static [&'static str] = &["SwiftFormer"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3"), ("output_stride", "32")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "layer_scale_init_value"]);
        let channels = arguments.numbers("embed_dims")?.unwrap_or_else(|| vec![48, 56, 112, 220]);
        let downsamples = arguments.read("downsamples", |value| {
            value.as_array()?.iter().map(serde_json::Value::as_bool).collect::<Option<Vec<_>>>()
        })?;
        Ok(TimmNetwork::new(Self {
            image_size,
            downsamples: downsamples.unwrap_or_else(|| (0..channels.len()).map(|stage| stage > 0).collect()),
            channels,
            depths: arguments.numbers("layers")?.unwrap_or_else(|| vec![3, 3, 6, 4]),
            mlp_ratio: arguments.real("mlp_ratios")?.unwrap_or(4.0),
            down_kernel: arguments.number("down_patch_size", 3)?,
            down_stride: arguments.number("down_stride", 2)?,
            down_padding: arguments.number("down_pad", 1)?,
            layer_scale: arguments.flag("use_layer_scale", true)?,
            activation: arguments.activation("act_layer", ActivationKind::Gelu)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        })
        .with_dialect("timm-swiftformer"))
    }
}
