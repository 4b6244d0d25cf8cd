//! TinyViT (Wu et al. 2022, arXiv:2207.10666): a stage of inverted residual blocks, then stages of windowed attention
//! with a depthwise convolution in every block. Parameter paths are those of timm's `TinyVit`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::limits::check_pixels;
use super::parts::{
    ActivationKind, ConvBn, ConvSpec, Trace, divides, drop_branch, from_windows, offset_bias, per_stage, positive,
    to_windows,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::attention::{Bias, attend};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::Result;
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a TinyViT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TinyVitConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Channels of each stage.
    pub channels: Vec<usize>,
    /// Number of blocks of each stage.
    pub depths: Vec<usize>,
    /// Number of attention heads of each stage; that of the first is not used.
    pub heads: Vec<usize>,
    /// Side of the attention windows of each stage; that of the first is not used.
    pub windows: Vec<usize>,
    /// Hidden channels of the MLPs divided by their channels. Default 4.
    #[serde(default = "default_ratio")]
    pub mlp_ratio: f64,
    /// Hidden channels of the inverted residual blocks divided by their channels. Default 4.
    #[serde(default = "default_ratio")]
    pub expand_ratio: f64,
    /// Side of the depthwise kernels in attention blocks. Default 3.
    #[serde(default = "default_kernel")]
    pub local_kernel: usize,
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

fn default_activation() -> ActivationKind {
    ActivationKind::Gelu
}

/// A TinyViT; see the module documentation.
#[derive(Module, Debug)]
pub struct TinyVit {
    /// Stem of stride 4.
    pub patch_embed: TinyStem,
    /// The stages, in order of depth.
    pub stages: Vec<TinyStage>,
    #[module(skip)]
    config: TinyVitConfig,
}

/// Two convolutions of stride 2 with an activation between them.
#[derive(Module, Debug)]
pub struct TinyStem {
    /// First convolution.
    pub conv1: ConvBn,
    /// Second convolution.
    pub conv2: ConvBn,
}

/// A stage: a downsampling layer (absent in the first stage), then blocks.
#[derive(Module, Debug)]
pub struct TinyStage {
    /// Halves the grid.
    pub downsample: Option<ThreeConvs>,
    /// The blocks.
    pub blocks: Vec<TinyBlock>,
}

/// A block of a stage.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum TinyBlock {
    /// Inverted residual block, in the first stage.
    Convolution(ThreeConvs),
    /// Windowed attention, depthwise convolution and MLP.
    Attention(TinyAttentionBlock),
}

/// A pointwise, a depthwise and a pointwise convolution with activations between them.
#[derive(Module, Debug)]
pub struct ThreeConvs {
    /// Pointwise convolution.
    pub conv1: ConvBn,
    /// Depthwise convolution.
    pub conv2: ConvBn,
    /// Pointwise convolution.
    pub conv3: ConvBn,
}

/// Windowed attention, depthwise convolution and MLP.
#[derive(Module, Debug)]
pub struct TinyAttentionBlock {
    /// Attention within windows.
    pub attn: TinyAttention,
    /// MLP.
    pub mlp: TinyMlp,
    /// Depthwise convolution between the two.
    pub local_conv: ConvBn,
}

/// Attention of the positions of a window, with a bias for every distance in rows and columns.
#[derive(Module, Debug)]
pub struct TinyAttention {
    /// Norm of the input.
    pub norm: LayerNorm,
    /// Queries, keys and values of one head after the other.
    pub qkv: Linear,
    /// Output projection.
    pub proj: Linear,
    /// Bias per head and distance.
    pub attention_biases: Param<Tensor<2>>,
}

/// A norm and two linear layers.
#[derive(Module, Debug)]
pub struct TinyMlp {
    /// Norm of the input.
    pub norm: LayerNorm,
    /// First layer.
    pub fc1: Linear,
    /// Second layer.
    pub fc2: Linear,
}

/// Builds a convolution with a batch norm.
fn normed(spec: ConvSpec, device: &Device) -> ConvBn {
    ConvBn::new(spec.bias(false), device)
}

impl TinyVitConfig {
    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> TinyVit {
        let first = self.channels.first().copied().unwrap_or_default();
        let three = |[from, hidden, to]: [usize; 3], stride| ThreeConvs {
            conv1: normed(ConvSpec::new(from, hidden, 1), device),
            conv2: normed(ConvSpec::depthwise(hidden, 3).stride(stride), device),
            conv3: normed(ConvSpec::new(hidden, to, 1), device),
        };
        let mut before = first;
        let mut stages = Vec::with_capacity(self.channels.len());
        for (stage, (channels, depth)) in self.channels.iter().zip(&self.depths).enumerate() {
            let block = |_| match stage {
                0 => TinyBlock::Convolution(three([*channels, times(*channels, self.expand_ratio), *channels], 1)),
                _ => TinyBlock::Attention(self.attention_block(stage, *channels, device)),
            };
            stages.push(TinyStage {
                downsample: (stage > 0).then(|| three([before, *channels, *channels], 2)),
                blocks: (0..*depth).map(block).collect(),
            });
            before = *channels;
        }
        TinyVit {
            patch_embed: TinyStem {
                conv1: normed(ConvSpec::new(3, first / 2, 3).stride(2), device),
                conv2: normed(ConvSpec::new(first / 2, first, 3).stride(2), device),
            },
            stages,
            config: self.clone(),
        }
    }

    fn attention_block(&self, stage: usize, channels: usize, device: &Device) -> TinyAttentionBlock {
        let at = |list: &[usize]| list.get(stage).copied().unwrap_or(1);
        let hidden = times(channels, self.mlp_ratio);
        let norm = || LayerNormConfig::new(channels).init(device);
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        TinyAttentionBlock {
            attn: TinyAttention {
                norm: norm(),
                qkv: linear(channels, 3 * channels),
                proj: linear(channels, channels),
                attention_biases: Initializer::Zeros.init([at(&self.heads), at(&self.windows).pow(2)], device),
            },
            mlp: TinyMlp { norm: norm(), fc1: linear(channels, hidden), fc2: linear(hidden, channels) },
            local_conv: normed(ConvSpec::depthwise(channels, self.local_kernel), device),
        }
    }
}

impl ThreeConvs {
    fn forward(&self, x: Tensor<4>, activation: ActivationKind) -> Tensor<4> {
        let x = activation.forward(self.conv1.forward(x));
        self.conv3.forward(activation.forward(self.conv2.forward(x)))
    }

    fn trace(&self, trace: &mut Trace) {
        [&self.conv1, &self.conv2, &self.conv3].into_iter().for_each(|conv| conv.trace(trace));
    }
}

impl TinyAttention {
    /// Runs the layer on windows, `[windows, positions, channels]`.
    fn forward(&self, x: Tensor<3>, bias: Tensor<4>) -> Tensor<3> {
        let [batch, positions, channels] = x.dims();
        let [heads, _] = self.attention_biases.lazy_shape().dims();
        let qkv = self.qkv.forward(self.norm.forward(x));
        let qkv: Tensor<4> = qkv.reshape([batch, positions, heads, 3 * channels / heads]).swap_dims(1, 2);
        let width = channels / heads;
        let part = |index: usize| qkv.clone().narrow(3, index * width, width);
        self.proj.forward(attend(part(0), part(1), part(2), Bias::Full(bias), None))
    }
}

impl TinyAttentionBlock {
    fn forward(
        &self,
        x: Tensor<4>,
        window: usize,
        activation: ActivationKind,
        factors: [Option<&Tensor<1>>; 2],
    ) -> Tensor<4> {
        let [batch, channels, rows, columns] = x.dims();
        let grid = [rows, columns];
        let windows = to_windows(x.clone().permute([0, 2, 3, 1]), window);
        let bias = offset_bias(&self.attn.attention_biases, window, 1);
        let mixed = from_windows(self.attn.forward(windows, bias), window, [batch, rows, columns, channels]);
        let x = x + drop_branch(mixed.permute([0, 3, 1, 2]), factors[0]);
        let x = self.local_conv.forward(x);
        let tokens: Tensor<3> = x.clone().reshape([batch, channels, grid[0] * grid[1]]).swap_dims(1, 2);
        let hidden = activation.forward(self.mlp.fc1.forward(self.mlp.norm.forward(tokens)));
        let out: Tensor<4> = self.mlp.fc2.forward(hidden).swap_dims(1, 2).reshape([batch, channels, rows, columns]);
        x + drop_branch(out, factors[1])
    }

    fn trace(&self, trace: &mut Trace, window: usize) {
        let (side, channels) = (trace.side, trace.channels);
        // Attention runs on whole windows.
        trace.side = side.next_multiple_of(window);
        trace.linear(&self.attn.qkv);
        trace.attention(trace.positions(), window * window, channels, channels);
        trace.channels = channels;
        trace.linear(&self.attn.proj);
        trace.side = side;
        self.local_conv.trace(trace);
        trace.linear(&self.mlp.fc1);
        trace.linear(&self.mlp.fc2);
    }
}

impl TinyVit {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &TinyVitConfig {
        &self.config
    }

    fn window(&self, stage: usize) -> usize {
        self.config.windows.get(stage).copied().unwrap_or(1)
    }
}

impl StagedConfig for TinyVitConfig {
    fn check(&self) -> Result<()> {
        let name = "TinyViT";
        let lengths = [&self.channels, &self.depths, &self.heads, &self.windows].map(Vec::len);
        per_stage(name, "channels, depths, heads and windows", self.channels.len(), &lengths)?;
        for (channels, heads) in self.channels.iter().zip(&self.heads).skip(1) {
            divides(name, "heads", *channels, *heads)?;
        }
        let narrow = self.channels.iter().map(|n| n / 2).chain(self.depths.iter().copied());
        positive(name, "half the channels, and depths", &narrow.collect::<Vec<_>>())?;
        positive(name, "windows", &self.windows)?;
        positive(name, "windows squared", &self.windows.iter().map(|n| n * n).collect::<Vec<_>>())?;
        let hidden = self.channels.iter().flat_map(|n| [times(*n, self.mlp_ratio), times(*n, self.expand_ratio)]);
        positive(name, "hidden channels", &hidden.collect::<Vec<_>>())?;
        positive(name, "image_size and local_kernel", &[self.image_size, self.local_kernel])?;
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
        network.patch_embed.conv1.trace(&mut trace);
        network.patch_embed.conv2.trace(&mut trace);
        for (index, stage) in network.stages.iter().enumerate() {
            if let Some(layer) = &stage.downsample {
                layer.trace(&mut trace);
            }
            for block in &stage.blocks {
                match block {
                    TinyBlock::Convolution(block) => block.trace(&mut trace),
                    TinyBlock::Attention(block) => block.trace(&mut trace, network.window(index)),
                }
            }
            trace.end_layer();
        }
        trace.layers()
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.layer_count(), branches: 2 })
    }
}

impl StagedNetwork for TinyVit {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let activation = self.config.activation;
        let mut x = activation.forward(self.patch_embed.conv1.forward(pixels));
        x = self.patch_embed.conv2.forward(x);
        let (mut outputs, mut run) = (Vec::with_capacity(count), 0);
        for (index, stage) in self.stages.iter().enumerate().take(count) {
            if let Some(layer) = &stage.downsample {
                x = layer.forward(x, activation);
            }
            for block in &stage.blocks {
                let factors = [0, 1].map(|branch| drop_path.factors(run, branch));
                x = match block {
                    TinyBlock::Convolution(block) => {
                        let branch = drop_branch(block.forward(x.clone(), activation), factors[0]);
                        activation.forward(branch + x)
                    }
                    TinyBlock::Attention(block) => block.forward(x, self.window(index), activation, factors),
                };
                run += 1;
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}

impl TimmModel for TinyVitConfig {
    const CLASSES: &'static [&'static str] = &["TinyVit"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "use_checkpoint"]);
        let mut list = |key, usual: [usize; 4]| -> Result<Vec<usize>> {
            Ok(arguments.numbers(key)?.unwrap_or_else(|| usual.to_vec()))
        };
        Ok(TimmNetwork::new(Self {
            image_size,
            channels: list("embed_dims", [96, 192, 384, 768])?,
            depths: list("depths", [2, 2, 6, 2])?,
            heads: list("num_heads", [3, 6, 12, 24])?,
            windows: list("window_sizes", [7, 7, 14, 7])?,
            mlp_ratio: arguments.real("mlp_ratio")?.unwrap_or(4.0),
            expand_ratio: arguments.real("mbconv_expand_ratio")?.unwrap_or(4.0),
            local_kernel: arguments.number("local_conv_size", 3)?,
            activation: arguments.activation("act_layer", ActivationKind::Gelu)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.1),
        })
        .with_dialect("timm-pooled-head"))
    }
}
