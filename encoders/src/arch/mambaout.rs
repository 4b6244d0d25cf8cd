//! MambaOut (Yu & Wang 2024, arXiv:2405.07992): stages of gated convolutional blocks. Parameter paths are those of
//! timm's `MambaOut`. Activations are channels-last; only convolutions are channels-first.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::{is_default, is_yes, yes};
use super::limits::MAX_SIZE;
use super::parts::{ActivationKind, Conv, ConvSpec, add_branch, channels_first, channels_last};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Epsilon of all norms.
const EPS: f64 = 1e-6;

/// Hyper-parameters of a MambaOut.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MambaOutConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Number of blocks per stage.
    pub depths: Vec<usize>,
    /// Channels per stage.
    pub dims: Vec<usize>,
    /// Hidden channels of a block divided by the channels of its stage.
    pub expansion: f64,
    /// Channels of the depthwise convolution divided by the channels of its stage. Default 1.
    #[serde(default = "default_ratio")]
    pub conv_ratio: f64,
    /// Side of the kernels of the depthwise convolutions. Default 7.
    #[serde(default = "default_kernel")]
    pub kernel: usize,
    /// Activation of the gates and of the stem. Default exact GELU.
    #[serde(default = "default_activation")]
    pub activation: ActivationKind,
    /// Whether there is a norm between the two convolutions of the stem. Default true.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub stem_norm: bool,
    /// Whether the norm of a downsampling layer precedes its convolution. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub norm_first: bool,
    /// Whether the residual branches have a layer scale. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub layer_scale: bool,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_ratio() -> f64 {
    1.0
}

fn default_kernel() -> usize {
    7
}

fn default_activation() -> ActivationKind {
    ActivationKind::Gelu
}

/// A MambaOut; see the module documentation.
#[derive(Module, Debug)]
pub struct MambaOut {
    /// Stem.
    pub stem: Stem,
    /// The stages, in order of depth.
    pub stages: Vec<Stage>,
    #[module(skip)]
    config: MambaOutConfig,
}

/// Two 3×3 convolutions of stride 2.
#[derive(Module, Debug)]
pub struct Stem {
    /// First convolution, to half the channels.
    pub conv1: Conv,
    /// Norm after it.
    pub norm1: Option<LayerNorm>,
    /// Second convolution.
    pub conv2: Conv,
    /// Norm after it.
    pub norm2: LayerNorm,
}

/// A stage: a downsampling layer (absent in the first stage), then blocks.
#[derive(Module, Debug)]
pub struct Stage {
    /// Downsampling layer.
    pub downsample: Option<Downsample>,
    /// The blocks.
    pub blocks: Vec<GatedConvBlock>,
}

/// A 3×3 convolution of stride 2 with a norm before or after it.
#[derive(Module, Debug)]
pub struct Downsample {
    /// Norm over channels.
    pub norm: LayerNorm,
    /// Convolution.
    pub conv: Conv,
}

/// A gated convolutional block: some hidden channels pass a depthwise convolution, and others gate all.
#[derive(Module, Debug)]
pub struct GatedConvBlock {
    /// Norm over channels.
    pub norm: LayerNorm,
    /// First layer: gates, values, values for the convolution.
    pub fc1: Linear,
    /// Depthwise convolution.
    pub conv: Conv,
    /// Second layer.
    pub fc2: Linear,
    /// Layer scale.
    pub ls: Option<Scale>,
}

/// A learned factor per channel.
#[derive(Module, Debug)]
pub struct Scale {
    /// The factors, `[channels]`.
    pub gamma: Param<Tensor<1>>,
}

impl GatedConvBlock {
    /// Runs the block on `[batch, rows, columns, channels]`; `factors` is its drop-path mask.
    fn forward(&self, x: Tensor<4>, activation: ActivationKind, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let hidden = self.fc1.forward(self.norm.forward(x.clone()));
        let (all, convolved) = (hidden.dims()[3], self.conv.weight.dims()[0]);
        let gates = all / 2;
        let gate = activation.forward(hidden.clone().narrow(3, 0, gates));
        let mixed = self.conv.forward(channels_first(hidden.clone().narrow(3, all - convolved, convolved)));
        let values = match gates - convolved {
            0 => channels_last(mixed),
            kept => Tensor::cat(vec![hidden.narrow(3, gates, kept), channels_last(mixed)], 3),
        };
        let branch = self.fc2.forward(gate * values);
        let branch = match &self.ls {
            Some(scale) => branch * scale.gamma.val().unsqueeze(),
            None => branch,
        };
        add_branch(x, branch, factors)
    }
}

impl MambaOutConfig {
    fn stem(&self) -> [ConvSpec; 2] {
        let width = self.dims.first().copied().unwrap_or_default();
        [ConvSpec::new(3, width / 2, 3).stride(2), ConvSpec::new(width / 2, width, 3).stride(2)]
    }

    /// The convolution of the downsampling layer before `stage`.
    fn downsample(&self, stage: usize) -> Option<ConvSpec> {
        match self.dims.get(stage.checked_sub(1)?..=stage)? {
            [before, after] => Some(ConvSpec::new(*before, *after, 3).stride(2)),
            _ => None,
        }
    }

    /// Hidden channels of a block in a stage of `channels`, and how many of these pass the convolution.
    fn hidden(&self, channels: usize) -> (usize, usize) {
        let times = |ratio: f64| (ratio * channels as f64) as usize;
        (times(self.expansion), times(self.conv_ratio))
    }

    fn depthwise(&self, channels: usize) -> ConvSpec {
        let convolved = self.hidden(channels).1;
        ConvSpec::new(convolved, convolved, self.kernel).groups(convolved)
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> MambaOut {
        let norm = |channels: usize| LayerNormConfig::new(channels).with_epsilon(EPS).init(device);
        let block = |channels: usize| {
            let hidden = self.hidden(channels).0;
            GatedConvBlock {
                norm: norm(channels),
                fc1: LinearConfig::new(channels, 2 * hidden).init(device),
                conv: self.depthwise(channels).init(device),
                fc2: LinearConfig::new(hidden, channels).init(device),
                // timm's value, whatever the argument says.
                ls: self
                    .layer_scale
                    .then(|| Scale { gamma: Initializer::Constant { value: 1e-5 }.init([channels], device) }),
            }
        };
        let stages = self.dims.iter().zip(&self.depths).enumerate().map(|(stage, (channels, depth))| Stage {
            downsample: self.downsample(stage).map(|conv| Downsample {
                norm: norm(if self.norm_first { conv.from } else { conv.to }),
                conv: conv.init(device),
            }),
            blocks: (0..*depth).map(|_| block(*channels)).collect(),
        });
        let [first, second] = self.stem();
        MambaOut {
            stages: stages.collect(),
            stem: Stem {
                norm1: self.stem_norm.then(|| norm(first.to)),
                norm2: norm(second.to),
                conv1: first.init(device),
                conv2: second.init(device),
            },
            config: self.clone(),
        }
    }
}

impl StagedConfig for MambaOutConfig {
    fn check(&self) -> Result<()> {
        let sizes = self.depths.iter().chain(&self.dims).chain([&self.image_size, &self.kernel]);
        let positive = sizes.copied().all(|n| (1..=MAX_SIZE).contains(&n));
        let ratios = [self.expansion, self.conv_ratio].iter().all(|ratio| (0.0..=64.0).contains(ratio));
        let fits = |channels: &usize| {
            let (hidden, convolved) = self.hidden(*channels);
            convolved > 0 && convolved <= hidden
        };
        let stages = !self.dims.is_empty() && self.dims.len() == self.depths.len() && self.dims[0] > 1;
        if !positive || !ratios || !stages || !self.dims.iter().all(fits) {
            return Err(Error::usage(format!(
                "invalid MambaOut: image_size {}, depths {:?}, dims {:?}, expansion {}, conv_ratio {}, kernel {}",
                self.image_size, self.depths, self.dims, self.expansion, self.conv_ratio, self.kernel
            ))
            .hint("all must be positive, with one number per stage, and conv_ratio must not exceed expansion"));
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
        let mut layers = Vec::new();
        for (stage, (channels, depth)) in self.dims.iter().zip(&self.depths).enumerate() {
            if let Some(conv) = self.downsample(stage) {
                extra += conv.multiply_adds(side);
                side = conv.out_side(side);
            }
            let linear = (side * side * 3 * channels * self.hidden(*channels).0) as u64;
            let block = linear + self.depthwise(*channels).multiply_adds(side);
            layers.push(LayerShape { width: *channels, side, multiply_adds: extra + *depth as u64 * block });
            extra = 0;
        }
        layers
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.depths.iter().sum(), branches: 1 })
    }
}

impl StagedNetwork for MambaOut {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        let activation = self.config.activation;
        let Stem { conv1, norm1, conv2, norm2 } = &self.stem;
        let x = channels_last(conv1.forward(pixels));
        let x = activation.forward(match norm1 {
            Some(norm) => norm.forward(x),
            None => x,
        });
        let mut x = norm2.forward(channels_last(conv2.forward(channels_first(x))));
        let (mut outputs, mut index) = (Vec::with_capacity(count), 0);
        for stage in self.stages.iter().take(count) {
            if let Some(Downsample { norm, conv }) = &stage.downsample {
                let convolve = |x| channels_last(conv.forward(channels_first(x)));
                x = if self.config.norm_first { convolve(norm.forward(x)) } else { norm.forward(convolve(x)) };
            }
            for block in &stage.blocks {
                x = block.forward(x, activation, drop_path.factors(index, 0));
                index += 1;
            }
            outputs.push(channels_first(x.clone()));
        }
        Ok(outputs)
    }
}

impl MambaOut {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &MambaOutConfig {
        &self.config
    }
}

impl TimmModel for MambaOutConfig {
    const CLASSES: &'static [&'static str] = &["MambaOut"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3"), ("norm_layer", "\"LayerNorm\"")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "head_fn"]);
        let norm_first = match arguments.text("downsample", "conv")?.as_str() {
            "conv" => false,
            "conv_nf" => true,
            other => return Err(arguments.unsupported("downsample", &other.into())),
        };
        Ok(TimmNetwork::new(Self {
            image_size,
            depths: arguments.numbers("depths")?.unwrap_or_else(|| vec![3, 3, 9, 3]),
            dims: arguments.numbers("dims")?.unwrap_or_else(|| vec![96, 192, 384, 576]),
            expansion: arguments.real("expansion_ratio")?.unwrap_or(8.0 / 3.0),
            conv_ratio: arguments.real("conv_ratio")?.unwrap_or(1.0),
            kernel: arguments.number("kernel_size", default_kernel())?,
            activation: arguments.activation("act_layer", ActivationKind::Gelu)?,
            stem_norm: arguments.flag("stem_mid_norm", true)?,
            norm_first,
            layer_scale: arguments.real("ls_init_value")?.is_some(),
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}
