//! InceptionNeXt (Yu et al. 2024, arXiv:2303.16900): stages of blocks whose token mixer convolves some channels with a
//! square kernel, some with a wide and some with a high one. Parameter paths are those of timm's `MetaNeXt`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::is_default;
use super::limits::MAX_SIZE;
use super::parts::{Conv, ConvSpec, FrozenBatchNorm, Padding, add_branch};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::operands::gelu;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Epsilon of all batch norms.
const EPS: f64 = 1e-5;

/// Hyper-parameters of an InceptionNeXt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct InceptionNextConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Number of blocks per stage.
    pub depths: Vec<usize>,
    /// Channels per stage.
    pub dims: Vec<usize>,
    /// Hidden channels of the MLPs divided by the channels of their stage, per stage.
    pub mlp_ratios: Vec<f64>,
    /// Share of the channels that each of the three convolutions of a token mixer has. Default 0.125.
    #[serde(default = "default_branch")]
    pub branch_ratio: f64,
    /// Side of the square kernels; odd. Default 3.
    #[serde(default = "default_square")]
    pub square_kernel: usize,
    /// Long side of the wide and the high kernels; odd. Default 11.
    #[serde(default = "default_band")]
    pub band_kernel: usize,
    /// Initial value of the layer scale; 0 for no layer scale. Default 1e-6.
    #[serde(default = "default_scale")]
    pub layer_scale: f64,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_branch() -> f64 {
    0.125
}

fn default_square() -> usize {
    3
}

fn default_band() -> usize {
    11
}

fn default_scale() -> f64 {
    1e-6
}

/// An InceptionNeXt; see the module documentation.
#[derive(Module, Debug)]
pub struct InceptionNext {
    /// Stem: a 4×4 convolution of stride 4 and a batch norm.
    pub stem: (Conv, FrozenBatchNorm),
    /// The stages, in order of depth.
    pub stages: Vec<Stage>,
    #[module(skip)]
    config: InceptionNextConfig,
}

/// A stage: a downsampling layer (absent in the first stage), then blocks.
#[derive(Module, Debug)]
pub struct Stage {
    /// Batch norm and 2×2 convolution of stride 2.
    pub downsample: Option<(FrozenBatchNorm, Conv)>,
    /// The blocks.
    pub blocks: Vec<InceptionBlock>,
}

/// A residual block: token mixer, batch norm, MLP, layer scale.
#[derive(Module, Debug)]
pub struct InceptionBlock {
    /// Token mixer.
    pub token_mixer: InceptionMixer,
    /// Batch norm.
    pub norm: FrozenBatchNorm,
    /// MLP of two 1×1 convolutions.
    pub mlp: ConvMlp,
    /// Layer scale, `[channels]`.
    pub gamma: Option<Param<Tensor<1>>>,
}

/// Three depthwise convolutions over the last channels; the others are kept.
#[derive(Module, Debug)]
pub struct InceptionMixer {
    /// Convolution with a square kernel.
    pub dwconv_hw: Conv,
    /// Convolution with a wide kernel.
    pub dwconv_w: BandConv,
    /// Convolution with a high kernel.
    pub dwconv_h: BandConv,
}

/// A depthwise convolution with a kernel of one row or one column.
#[derive(Module, Debug)]
pub struct BandConv {
    /// Kernel, `[channels, 1, 1, band]` or `[channels, 1, band, 1]`.
    pub weight: Param<Tensor<4>>,
    /// Bias, `[channels]`.
    pub bias: Param<Tensor<1>>,
}

/// An MLP of two 1×1 convolutions with GELU between them.
#[derive(Module, Debug)]
pub struct ConvMlp {
    /// First convolution.
    pub fc1: Conv,
    /// Second convolution.
    pub fc2: Conv,
}

impl BandConv {
    fn new(channels: usize, kernel: [usize; 2], device: &Device) -> Self {
        let bound = ((kernel[0] * kernel[1]) as f64).powf(-0.5);
        let uniform = Initializer::Uniform { min: -bound, max: bound };
        Self {
            weight: uniform.init([channels, 1, kernel[0], kernel[1]], device),
            bias: Initializer::Zeros.init([channels], device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [channels, _, rows, columns] = self.weight.dims();
        let options = ConvOptions::new([1; 2], [rows / 2, columns / 2], [1; 2], channels);
        conv2d(x, self.weight.val(), Some(self.bias.val()), options)
    }
}

impl InceptionMixer {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (all, part) = (x.dims()[1], self.dwconv_hw.spec().to);
        let kept = all - 3 * part;
        let branch = |i: usize| x.clone().narrow(1, kept + i * part, part);
        let mixed =
            [self.dwconv_hw.forward(branch(0)), self.dwconv_w.forward(branch(1)), self.dwconv_h.forward(branch(2))];
        let kept = (kept > 0).then(|| x.clone().narrow(1, 0, kept));
        Tensor::cat(kept.into_iter().chain(mixed).collect(), 1)
    }
}

impl InceptionBlock {
    /// Runs the block on `[batch, channels, rows, columns]`; `factors` is its drop-path mask.
    fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let hidden = self.mlp.fc1.forward(self.norm.forward(self.token_mixer.forward(x.clone())));
        let branch = self.mlp.fc2.forward(gelu(hidden));
        let branch = match &self.gamma {
            Some(gamma) => {
                let [channels] = gamma.dims();
                branch * gamma.val().reshape([1, channels, 1, 1])
            }
            None => branch,
        };
        add_branch(x, branch, factors)
    }
}

impl InceptionNextConfig {
    fn stem(&self) -> ConvSpec {
        ConvSpec::new(3, self.dims.first().copied().unwrap_or_default(), 4).stride(4).padding(Padding::Explicit(0))
    }

    /// The convolution of the downsampling layer before `stage`.
    fn downsample(&self, stage: usize) -> Option<ConvSpec> {
        match self.dims.get(stage.checked_sub(1)?..=stage)? {
            [before, after] => Some(ConvSpec::new(*before, *after, 2).stride(2).padding(Padding::Explicit(0))),
            _ => None,
        }
    }

    /// Channels of each convolution of a token mixer in a stage of `channels`.
    fn branch(&self, channels: usize) -> usize {
        times(channels, self.branch_ratio)
    }

    fn hidden(&self, stage: usize) -> usize {
        self.dims.get(stage).zip(self.mlp_ratios.get(stage)).map_or(0, |(width, ratio)| times(*width, *ratio))
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> InceptionNext {
        let norm = |channels| FrozenBatchNorm::new(channels, EPS, device);
        let block = |channels: usize, hidden: usize| {
            let branch = self.branch(channels);
            InceptionBlock {
                token_mixer: InceptionMixer {
                    dwconv_hw: ConvSpec::depthwise(branch, self.square_kernel).init(device),
                    dwconv_w: BandConv::new(branch, [1, self.band_kernel], device),
                    dwconv_h: BandConv::new(branch, [self.band_kernel, 1], device),
                },
                norm: norm(channels),
                mlp: ConvMlp {
                    fc1: ConvSpec::new(channels, hidden, 1).init(device),
                    fc2: ConvSpec::new(hidden, channels, 1).init(device),
                },
                gamma: (self.layer_scale > 0.0)
                    .then(|| Initializer::Constant { value: self.layer_scale }.init([channels], device)),
            }
        };
        let stages = self.dims.iter().zip(&self.depths).enumerate().map(|(stage, (channels, depth))| Stage {
            downsample: self.downsample(stage).map(|conv| (norm(conv.from), conv.init(device))),
            blocks: (0..*depth).map(|_| block(*channels, self.hidden(stage))).collect(),
        });
        let stem = self.stem();
        InceptionNext { stages: stages.collect(), stem: (stem.init(device), norm(stem.to)), config: self.clone() }
    }
}

impl StagedConfig for InceptionNextConfig {
    fn check(&self) -> Result<()> {
        let sizes = self.depths.iter().chain(&self.dims).chain([&self.image_size]);
        let positive = sizes.copied().all(|n| (1..=MAX_SIZE).contains(&n));
        let odd = [self.square_kernel, self.band_kernel].iter().all(|side| *side <= MAX_SIZE && side % 2 == 1);
        let ratios = self.mlp_ratios.iter().all(|ratio| (1.0..=64.0).contains(ratio));
        let fits = (0.0..=1.0 / 3.0).contains(&self.branch_ratio) && self.dims.iter().all(|c| self.branch(*c) > 0);
        let stages = self.dims.len();
        let lengths = stages > 0 && self.depths.len() == stages && self.mlp_ratios.len() == stages;
        if !positive || !odd || !ratios || !fits || !lengths {
            return Err(Error::usage(format!(
                "invalid InceptionNeXt: image_size {}, depths {:?}, dims {:?}, mlp_ratios {:?}, branch_ratio {}, \
                 square_kernel {}, band_kernel {}",
                self.image_size,
                self.depths,
                self.dims,
                self.mlp_ratios,
                self.branch_ratio,
                self.square_kernel,
                self.band_kernel
            ))
            .hint("all must be positive with one number per stage, kernels odd, and branch_ratio at most a third"));
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
        let stem = self.stem();
        let (mut side, mut extra) = (stem.out_side(self.image_size), stem.multiply_adds(self.image_size));
        let mut layers = Vec::new();
        for (stage, (channels, depth)) in self.dims.iter().zip(&self.depths).enumerate() {
            if let Some(conv) = self.downsample(stage) {
                extra += conv.multiply_adds(side);
                side = conv.out_side(side);
            }
            let kernels = self.square_kernel.pow(2) + 2 * self.band_kernel;
            let position = self.branch(*channels) * kernels + 2 * channels * self.hidden(stage);
            let blocks = (depth * side * side * position) as u64;
            layers.push(LayerShape { width: *channels, side, multiply_adds: extra + blocks });
            extra = 0;
        }
        layers
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.depths.iter().sum(), branches: 1 })
    }
}

impl StagedNetwork for InceptionNext {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        let (conv, norm) = &self.stem;
        let mut x = norm.forward(conv.forward(pixels));
        let (mut outputs, mut index) = (Vec::with_capacity(count), 0);
        for stage in self.stages.iter().take(count) {
            if let Some((norm, conv)) = &stage.downsample {
                x = conv.forward(norm.forward(x));
            }
            for block in &stage.blocks {
                x = block.forward(x, drop_path.factors(index, 0));
                index += 1;
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}

impl InceptionNext {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &InceptionNextConfig {
        &self.config
    }
}

impl TimmModel for InceptionNextConfig {
    const CLASSES: &'static [&'static str] = &["MetaNeXt"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[
            ("in_chans", "3"),
            ("act_layer", "\"GELU\""),
            ("norm_layer", "\"BatchNorm2d\""),
            ("output_stride", "32"),
        ])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let dims = arguments.numbers("dims")?.unwrap_or_else(|| vec![96, 192, 384, 768]);
        let mixer = arguments.take("token_mixers").unwrap_or_else(|| "InceptionDWConv2d".into());
        let settings = mixer.get("InceptionDWConv2d").and_then(Value::as_object);
        let known = ["band_kernel_size", "branch_ratio", "square_kernel_size"];
        if mixer != "InceptionDWConv2d" && !settings.is_some_and(|map| map.keys().all(|k| known.contains(&&**k))) {
            return Err(arguments.unsupported("token_mixers", &mixer));
        }
        let setting = |key: &str| settings.and_then(|map| map.get(key));
        let kernel = |key: &str, default: usize| match setting(key) {
            None => Ok(default),
            Some(value) => {
                crate::json_values::integer(value).ok_or_else(|| arguments.unsupported("token_mixers", &mixer))
            }
        };
        let (square_kernel, band_kernel) =
            (kernel("square_kernel_size", default_square())?, kernel("band_kernel_size", default_band())?);
        let branch_ratio = setting("branch_ratio").map_or(Some(default_branch()), Value::as_f64);
        let branch_ratio = branch_ratio.ok_or_else(|| arguments.unsupported("token_mixers", &mixer))?;
        let mlp_ratios = match (arguments.get("mlp_ratios"), dims.len()) {
            (None, 4) => vec![4.0, 4.0, 4.0, 3.0],
            (None, _) => return Err(arguments.invalid("mlp_ratios is missing")),
            (Some(_), stages) => arguments.per_stage("mlp_ratios", stages, 4.0, Value::as_f64)?,
        };
        let layer_scale = if arguments.is_none("ls_init_value") { 0.0 } else { default_scale() };
        Ok(TimmNetwork::new(Self {
            image_size,
            depths: arguments.numbers("depths")?.unwrap_or_else(|| vec![3, 3, 9, 3]),
            dims,
            mlp_ratios,
            branch_ratio,
            square_kernel,
            band_kernel,
            layer_scale: arguments.real("ls_init_value")?.unwrap_or(layer_scale),
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.0),
        }))
    }
}
