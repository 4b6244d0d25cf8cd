//! RepViT (Wang et al. 2023, arXiv:2307.09283): a convolutional network whose blocks mix positions with depthwise
//! convolutions and channels with an MLP. Parameter paths are those of timm's `RepVit`, before its branches are fused.

use super::drop_path::DropPathMask;
use super::limits::check_pixels;
use super::parts::{
    ActivationKind, CBn, Conv, ConvSpec, FrozenBatchNorm, SqueezeExcite, Trace, divisible_within, per_stage, positive,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::Result;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a RepViT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RepVitConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Channels of each stage.
    pub channels: Vec<usize>,
    /// Number of blocks of each stage.
    pub depths: Vec<usize>,
    /// Hidden channels of the MLPs divided by their channels. Default 2.
    #[serde(default = "default_ratio")]
    pub mlp_ratio: usize,
    /// Side of the depthwise kernels. Default 3.
    #[serde(default = "default_kernel")]
    pub kernel: usize,
    /// Whether the pointwise branch of the position mixer has a norm of its own, and not the sum of the branches (the
    /// first released models). Default false.
    #[serde(default)]
    pub legacy: bool,
    /// Activation. Default GELU.
    #[serde(default = "default_activation")]
    pub activation: ActivationKind,
}

fn default_ratio() -> usize {
    2
}

fn default_kernel() -> usize {
    3
}

fn default_activation() -> ActivationKind {
    ActivationKind::Gelu
}

/// A RepViT; see the module documentation.
#[derive(Module, Debug)]
pub struct RepVit {
    /// Stem of stride 4.
    pub stem: RepVitStem,
    /// The stages, in order of depth.
    pub stages: Vec<RepVitStage>,
    #[module(skip)]
    config: RepVitConfig,
}

/// Two convolutions of stride 2 with an activation between them.
#[derive(Module, Debug)]
pub struct RepVitStem {
    /// First convolution.
    pub conv1: CBn,
    /// Second convolution.
    pub conv2: CBn,
}

/// A stage: a downsampling layer (absent in the first stage), then blocks.
#[derive(Module, Debug)]
pub struct RepVitStage {
    /// Halves the grid.
    pub downsample: Option<RepVitDownsample>,
    /// The blocks.
    pub blocks: Vec<RepVitBlock>,
}

/// A block: position mixer, squeeze-and-excitation in every other block, residual MLP.
#[derive(Module, Debug)]
pub struct RepVitBlock {
    /// Mixes positions.
    pub token_mixer: RepVggMixer,
    /// Squeeze-and-excitation.
    pub se: Option<SqueezeExcite>,
    /// Mixes channels.
    pub channel_mixer: RepVitMlp,
}

/// The sum of a depthwise convolution, a depthwise 1×1 convolution and the input.
#[derive(Module, Debug)]
pub struct RepVggMixer {
    /// Depthwise convolution.
    pub conv: CBn,
    /// Depthwise 1×1 convolution.
    pub conv1: ScaleBranch,
    /// Batch norm of the sum.
    pub bn: Option<FrozenBatchNorm>,
}

/// The depthwise 1×1 convolution of a position mixer.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum ScaleBranch {
    /// With a bias.
    Plain(Conv),
    /// With a norm of its own.
    Normed(CBn),
}

/// Two pointwise convolutions with an activation between them.
#[derive(Module, Debug)]
pub struct RepVitMlp {
    /// First convolution.
    pub conv1: CBn,
    /// Second convolution.
    pub conv2: CBn,
}

/// A block, a strided depthwise convolution, a pointwise convolution and a residual MLP.
#[derive(Module, Debug)]
pub struct RepVitDownsample {
    /// Block before downsampling.
    pub pre_block: RepVitBlock,
    /// Depthwise convolution of stride 2.
    pub spatial_downsample: CBn,
    /// Pointwise convolution to the stage's channels.
    pub channel_downsample: CBn,
    /// Residual MLP.
    pub ffn: RepVitMlp,
}

/// Builds a convolution with a batch norm.
fn normed(spec: ConvSpec, device: &Device) -> CBn {
    CBn::new(spec.bias(false), device)
}

impl RepVitConfig {
    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> RepVit {
        let first = self.channels.first().copied().unwrap_or_default();
        let mut before = first;
        let stages = self.channels.iter().zip(&self.depths).enumerate().map(|(stage, (channels, depth))| {
            let downsample = (stage > 0).then(|| self.downsample(before, *channels, device));
            before = *channels;
            // Every other block has squeeze-and-excitation, the first included.
            let blocks = (0..*depth).map(|block| self.block(*channels, block % 2 == 0, device)).collect();
            RepVitStage { downsample, blocks }
        });
        RepVit {
            stages: stages.collect(),
            stem: RepVitStem {
                conv1: normed(ConvSpec::new(3, first / 2, 3).stride(2), device),
                conv2: normed(ConvSpec::new(first / 2, first, 3).stride(2), device),
            },
            config: self.clone(),
        }
    }

    fn mlp(&self, channels: usize, device: &Device) -> RepVitMlp {
        let hidden = channels * self.mlp_ratio;
        RepVitMlp {
            conv1: normed(ConvSpec::new(channels, hidden, 1), device),
            conv2: normed(ConvSpec::new(hidden, channels, 1), device),
        }
    }

    fn block(&self, channels: usize, excite: bool, device: &Device) -> RepVitBlock {
        let squeezed = divisible_within(channels as f64 * 0.25, 8, 0.0);
        let scale = ConvSpec::depthwise(channels, 1);
        let act = (ActivationKind::Relu, ActivationKind::Sigmoid);
        RepVitBlock {
            token_mixer: RepVggMixer {
                conv: normed(ConvSpec::depthwise(channels, self.kernel), device),
                conv1: match self.legacy {
                    true => ScaleBranch::Normed(normed(scale, device)),
                    false => ScaleBranch::Plain(scale.init(device)),
                },
                bn: (!self.legacy).then(|| FrozenBatchNorm::new(channels, 1e-5, device)),
            },
            se: excite.then(|| SqueezeExcite::new(channels, squeezed, act.0, act.1, device)),
            channel_mixer: self.mlp(channels, device),
        }
    }

    fn downsample(&self, from: usize, to: usize, device: &Device) -> RepVitDownsample {
        RepVitDownsample {
            pre_block: self.block(from, false, device),
            spatial_downsample: normed(ConvSpec::depthwise(from, self.kernel).stride(2), device),
            channel_downsample: normed(ConvSpec::new(from, to, 1), device),
            ffn: self.mlp(to, device),
        }
    }
}

impl RepVitMlp {
    fn forward(&self, x: Tensor<4>, activation: ActivationKind) -> Tensor<4> {
        self.conv2.forward(activation.forward(self.conv1.forward(x)))
    }

    fn trace(&self, trace: &mut Trace) {
        self.conv1.trace(trace);
        self.conv2.trace(trace);
    }
}

impl RepVitBlock {
    fn forward(&self, x: Tensor<4>, activation: ActivationKind) -> Tensor<4> {
        let mixer = &self.token_mixer;
        let scaled = match &mixer.conv1 {
            ScaleBranch::Plain(conv) => conv.forward(x.clone()),
            ScaleBranch::Normed(conv) => conv.forward(x.clone()),
        };
        let mut x = mixer.conv.forward(x.clone()) + scaled + x;
        if let Some(norm) = &mixer.bn {
            x = norm.forward(x);
        }
        if let Some(layer) = &self.se {
            x = layer.forward(x);
        }
        x.clone() + self.channel_mixer.forward(x, activation)
    }

    fn trace(&self, trace: &mut Trace) {
        self.token_mixer.conv.trace(trace);
        match &self.token_mixer.conv1 {
            ScaleBranch::Plain(conv) => trace.beside(conv),
            ScaleBranch::Normed(conv) => trace.beside(&conv.c),
        }
        if let Some(layer) = &self.se {
            trace.squeeze_excite(layer);
        }
        self.channel_mixer.trace(trace);
    }
}

impl RepVitDownsample {
    fn forward(&self, x: Tensor<4>, activation: ActivationKind) -> Tensor<4> {
        let x = self.spatial_downsample.forward(self.pre_block.forward(x, activation));
        let x = self.channel_downsample.forward(x);
        x.clone() + self.ffn.forward(x, activation)
    }

    fn trace(&self, trace: &mut Trace) {
        self.pre_block.trace(trace);
        self.spatial_downsample.trace(trace);
        self.channel_downsample.trace(trace);
        self.ffn.trace(trace);
    }
}

impl RepVit {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &RepVitConfig {
        &self.config
    }
}

impl StagedConfig for RepVitConfig {
    fn check(&self) -> Result<()> {
        per_stage("RepViT", "channels and depths", self.channels.len(), &[self.channels.len(), self.depths.len()])?;
        positive("RepViT", "image_size, mlp_ratio and kernel", &[self.image_size, self.mlp_ratio, self.kernel])?;
        positive("RepViT", "channels", &self.channels.iter().map(|n| n / 2).collect::<Vec<_>>())?;
        positive("RepViT", "depths", &self.depths)
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
        network.stem.conv1.trace(&mut trace);
        network.stem.conv2.trace(&mut trace);
        for stage in &network.stages {
            if let Some(layer) = &stage.downsample {
                layer.trace(&mut trace);
            }
            stage.blocks.iter().for_each(|block| block.trace(&mut trace));
            trace.end_layer();
        }
        trace.layers()
    }
}

impl StagedNetwork for RepVit {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, _: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let activation = self.config.activation;
        let mut x = self.stem.conv2.forward(activation.forward(self.stem.conv1.forward(pixels)));
        let stages = self.stages.iter().take(count).map(|stage| {
            if let Some(layer) = &stage.downsample {
                x = layer.forward(x.clone(), activation);
            }
            for block in &stage.blocks {
                x = block.forward(x.clone(), activation);
            }
            x.clone()
        });
        Ok(stages.collect())
    }
}

impl TimmModel for RepVitConfig {
    const CLASSES: &'static [&'static str] = &["RepVit"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3")])?;
        arguments.without(IGNORED);
        arguments.without(&["distillation", "global_pool", "img_size"]);
        Ok(TimmNetwork::new(Self {
            image_size,
            channels: arguments.numbers("embed_dim")?.unwrap_or_else(|| vec![48]),
            depths: arguments.numbers("depth")?.unwrap_or_else(|| vec![2]),
            mlp_ratio: arguments.number("mlp_ratio", 2)?,
            kernel: arguments.number("kernel_size", 3)?,
            legacy: arguments.flag("legacy", false)?,
            activation: arguments.activation("act_layer", ActivationKind::Gelu)?,
        }))
    }
}
