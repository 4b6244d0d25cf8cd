//! FocalNet (Yang et al. 2022, arXiv:2203.11926): blocks whose tokens are modulated by contexts of growing size,
//! instead of attention. Parameter paths are those of timm's `FocalNet`.

use super::block::LayerScale;
use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::fields::is_default;
use super::limits::{check_multiple, check_sizes, check_stages, is_ratio};
use super::parts::tokens::check_size;
use super::parts::{Conv, ConvSpec, LayerNorm2d, Padding, drop_branch, global_mean};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::operands::gelu;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module};
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a FocalNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FocalNetConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Channels of the first stage; every later stage has twice as many.
    pub width: usize,
    /// Number of blocks per stage.
    pub depths: Vec<usize>,
    /// Number of focal levels per stage, besides the global context.
    pub focal_levels: Vec<usize>,
    /// Side of the kernel of the first focal level per stage, odd; it grows by 2 per level.
    pub focal_windows: Vec<usize>,
    /// Whether the feature map is halved by overlapping convolutions. Default false.
    #[serde(default)]
    pub overlap: bool,
    /// Whether the norms stand at the end of the branches. Default false.
    #[serde(default)]
    pub post_norm: bool,
    /// Whether the modulated tokens are normalised. Default false.
    #[serde(default)]
    pub modulation_norm: bool,
    /// Whether the sum of contexts is divided by their number. Default false.
    #[serde(default)]
    pub mean_context: bool,
    /// Hidden channels of the MLPs per channel. Default 4.
    #[serde(default = "default_ratio")]
    pub mlp_ratio: f64,
    /// Initial value of the layer scale; 0 for none. Default 0.
    #[serde(default)]
    pub layer_scale: f64,
    /// Whether there is a norm over the channels at every position of the last feature map. Default true.
    #[serde(default = "super::fields::yes")]
    pub final_norm: bool,
    /// Epsilon added to the variance in every norm. Default 1e-5.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_ratio() -> f64 {
    4.0
}

fn default_eps() -> f64 {
    1e-5
}

impl FocalNetConfig {
    fn stage_width(&self, stage: usize) -> usize {
        self.width << stage
    }

    fn side(&self, stage: usize) -> usize {
        (self.image_size / 4) >> stage
    }

    /// The convolution before a stage.
    fn entry(&self, stage: usize) -> ConvSpec {
        let (from, stride) = if stage == 0 { (3, 4) } else { (self.stage_width(stage - 1), 2) };
        let (kernel, padding) = match (self.overlap, stage) {
            (false, _) => (stride, 0),
            (true, 0) => (7, 2),
            (true, _) => (3, 1),
        };
        ConvSpec::new(from, self.stage_width(stage), kernel).stride(stride).padding(Padding::Explicit(padding))
    }

    /// Side of the kernel of a focal level.
    fn kernel(&self, stage: usize, level: usize) -> usize {
        2 * level + self.focal_windows.get(stage).copied().unwrap_or(1)
    }

    fn levels(&self, stage: usize) -> usize {
        self.focal_levels.get(stage).copied().unwrap_or(0)
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> FocalNet {
        let entry = |stage: usize| Downsample {
            proj: self.entry(stage).init(device),
            norm: LayerNorm2d::new(self.stage_width(stage), self.norm_eps, device),
        };
        let stages = self.depths.iter().enumerate().map(|(stage, depth)| Stage {
            downsample: (stage > 0).then(|| entry(stage)),
            blocks: (0..*depth).map(|_| self.block(stage, device)).collect(),
        });
        let last = self.stage_width(self.depths.len().saturating_sub(1));
        FocalNet {
            stem: entry(0),
            layers: stages.collect(),
            norm: self.final_norm.then(|| LayerNormConfig::new(last).with_epsilon(self.norm_eps).init(device)),
            config: self.clone(),
        }
    }

    fn block(&self, stage: usize, device: &Device) -> FocalBlock {
        let (width, levels) = (self.stage_width(stage), self.levels(stage));
        let norm = |wanted: bool| wanted.then(|| LayerNorm2d::new(width, self.norm_eps, device));
        let pointwise = |from: usize, to: usize| ConvSpec::new(from, to, 1).init(device);
        let scale = || {
            let value = self.layer_scale;
            (value != 0.0).then(|| LayerScale { gamma: Initializer::Constant { value }.init([width], device) })
        };
        let hidden = times(width, self.mlp_ratio);
        FocalBlock {
            norm1: norm(!self.post_norm),
            modulation: FocalModulation {
                f: pointwise(width, 2 * width + levels + 1),
                h: pointwise(width, width),
                proj: pointwise(width, width),
                focal_layers: (0..levels)
                    .map(|level| vec![ConvSpec::depthwise(width, self.kernel(stage, level)).bias(false).init(device)])
                    .collect(),
                norm: norm(self.modulation_norm),
                mean: self.mean_context,
            },
            norm1_post: norm(self.post_norm),
            ls1: scale(),
            norm2: norm(!self.post_norm),
            mlp: ConvMlp { fc1: pointwise(width, hidden), fc2: pointwise(hidden, width) },
            norm2_post: norm(self.post_norm),
            ls2: scale(),
        }
    }
}

impl StagedConfig for FocalNetConfig {
    fn check(&self) -> Result<()> {
        const WHAT: &str = "a FocalNet";
        check_sizes(WHAT, &[("image_size", self.image_size), ("width", self.width)])?;
        let lists: [(&str, &[usize]); 3] =
            [("depths", &self.depths), ("focal_levels", &self.focal_levels), ("focal_windows", &self.focal_windows)];
        check_stages(WHAT, &lists)?;
        check_multiple(WHAT, self.image_size, 2 << self.depths.len())?;
        if self.focal_windows.iter().any(|window| window.is_multiple_of(2)) || self.focal_levels.iter().any(|n| *n > 64)
        {
            return Err(Error::usage(format!(
                "{WHAT} with focal_windows = {:?} and focal_levels = {:?}",
                self.focal_windows, self.focal_levels
            ))
            .hint("windows must be odd, and there can be at most 64 levels"));
        }
        if !is_ratio(self.mlp_ratio) {
            return Err(Error::usage(format!("{WHAT} with mlp_ratio = {}", self.mlp_ratio)));
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
        let each = self.depths.iter().enumerate();
        each.map(|(stage, depth)| {
            let (width, side, levels) = (self.stage_width(stage), self.side(stage), self.levels(stage));
            let kernels: usize = (0..levels).map(|level| self.kernel(stage, level).pow(2)).sum();
            let block = width * (4 * width + levels + 1 + kernels + 2 * times(width, self.mlp_ratio));
            let before = if stage == 0 { self.image_size } else { self.side(stage - 1) };
            let blocks = (side * side * depth * block) as u64;
            LayerShape { width, side, multiply_adds: self.entry(stage).multiply_adds(before) + blocks }
        })
        .collect()
    }

    fn has_final_norm(&self) -> bool {
        self.final_norm
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.layer_count(), branches: 2 })
    }
}

impl TimmModel for FocalNetConfig {
    const CLASSES: &'static [&'static str] = &["FocalNet"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let stages = |arguments: &mut TimmArguments, key: &str, default: usize| -> Result<Vec<usize>> {
            Ok(arguments.numbers(key)?.unwrap_or_else(|| vec![default; 4]))
        };
        let norm = |value: &serde_json::Value| value.get("LayerNorm2d")?.get("eps")?.as_f64();
        Ok(TimmNetwork::new(Self {
            image_size,
            width: arguments.number("embed_dim", 96)?,
            depths: arguments.numbers("depths")?.unwrap_or_else(|| vec![2, 2, 6, 2]),
            focal_levels: stages(arguments, "focal_levels", 2)?,
            focal_windows: stages(arguments, "focal_windows", 3)?,
            overlap: arguments.flag("use_overlap_down", false)?,
            post_norm: arguments.flag("use_post_norm", false)?,
            modulation_norm: arguments.flag("use_post_norm_in_modulation", false)?,
            mean_context: arguments.flag("normalize_modulator", false)?,
            mlp_ratio: arguments.real("mlp_ratio")?.unwrap_or(4.0),
            layer_scale: arguments.real("layerscale_value")?.unwrap_or(0.0),
            final_norm: arguments.number("head_hidden_size", 0)? == 0,
            norm_eps: arguments.read("norm_layer", norm)?.unwrap_or(1e-5),
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.1),
        }))
    }
}

/// A FocalNet; see the module documentation.
#[derive(Module, Debug)]
pub struct FocalNet {
    /// Convolution from pixels to a quarter of their resolution, and a norm.
    pub stem: Downsample,
    /// The stages, in order of depth.
    pub layers: Vec<Stage>,
    /// Norm over the channels of the last feature map.
    pub norm: Option<LayerNorm>,
    #[module(skip)]
    config: FocalNetConfig,
}

/// A strided convolution and a norm.
#[derive(Module, Debug)]
pub struct Downsample {
    /// The convolution.
    pub proj: Conv,
    /// The norm.
    pub norm: LayerNorm2d,
}

/// A stage of blocks at one resolution.
#[derive(Module, Debug)]
pub struct Stage {
    /// Halves the feature map; `None` in the first stage.
    pub downsample: Option<Downsample>,
    /// The blocks.
    pub blocks: Vec<FocalBlock>,
}

/// A block of focal modulation and an MLP.
#[derive(Module, Debug)]
pub struct FocalBlock {
    /// Norm before modulation.
    pub norm1: Option<LayerNorm2d>,
    /// Focal modulation.
    pub modulation: FocalModulation,
    /// Norm after modulation.
    pub norm1_post: Option<LayerNorm2d>,
    /// Layer scale of modulation.
    pub ls1: Option<LayerScale>,
    /// Norm before the MLP.
    pub norm2: Option<LayerNorm2d>,
    /// The two-layer MLP.
    pub mlp: ConvMlp,
    /// Norm after the MLP.
    pub norm2_post: Option<LayerNorm2d>,
    /// Layer scale of the MLP.
    pub ls2: Option<LayerScale>,
}

/// Multiplies every token by a context, a gated sum over the focal levels.
#[derive(Module, Debug)]
pub struct FocalModulation {
    /// 1×1 convolution to queries, context and the gates of all levels, in this order.
    pub f: Conv,
    /// 1×1 convolution of the summed context.
    pub h: Conv,
    /// 1×1 output projection.
    pub proj: Conv,
    /// Depthwise convolution of each level, a list of one.
    pub focal_layers: Vec<Vec<Conv>>,
    /// Norm of the modulated tokens.
    pub norm: Option<LayerNorm2d>,
    mean: bool,
}

/// Two 1×1 convolutions with GELU between them.
#[derive(Module, Debug)]
pub struct ConvMlp {
    /// First layer.
    pub fc1: Conv,
    /// Second layer.
    pub fc2: Conv,
}

fn normed(norm: Option<&LayerNorm2d>, x: Tensor<4>) -> Tensor<4> {
    match norm {
        Some(norm) => norm.forward(x),
        None => x,
    }
}

fn scaled(scale: Option<&LayerScale>, x: Tensor<4>) -> Tensor<4> {
    match scale {
        Some(scale) => {
            let gamma = scale.gamma.val();
            let [channels] = gamma.dims();
            x * gamma.reshape([1, channels, 1, 1])
        }
        None => x,
    }
}

impl Downsample {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.norm.forward(self.proj.forward(x))
    }
}

impl FocalModulation {
    /// Modulates `[batch, channels, rows, columns]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, width, _, _] = x.dims();
        let all = self.f.forward(x);
        let gate = |level: usize| all.clone().narrow(1, 2 * width + level, 1);
        let query = all.clone().narrow(1, 0, width);
        let mut context = all.clone().narrow(1, width, width);
        let mut sum: Option<Tensor<4>> = None;
        for (level, conv) in self.focal_layers.iter().enumerate() {
            context = conv.iter().fold(context, |x, conv| gelu(conv.forward(x)));
            let part = context.clone() * gate(level);
            sum = Some(match sum {
                Some(sum) => sum + part,
                None => part,
            });
        }
        let levels = self.focal_layers.len();
        let global = gelu(global_mean(context)) * gate(levels);
        let sum = match sum {
            Some(sum) => sum + global,
            None => global,
        };
        let sum = if self.mean { sum.div_scalar(levels as f64 + 1.0) } else { sum };
        self.proj.forward(normed(self.norm.as_ref(), query * self.h.forward(sum)))
    }
}

impl FocalBlock {
    fn forward(&self, x: Tensor<4>, factors: [Option<&Tensor<1>>; 2]) -> Tensor<4> {
        let branch = self.modulation.forward(normed(self.norm1.as_ref(), x.clone()));
        let branch = scaled(self.ls1.as_ref(), normed(self.norm1_post.as_ref(), branch));
        let x = x + drop_branch(branch, factors[0]);
        let branch = gelu(self.mlp.fc1.forward(normed(self.norm2.as_ref(), x.clone())));
        let branch = normed(self.norm2_post.as_ref(), self.mlp.fc2.forward(branch));
        x + drop_branch(scaled(self.ls2.as_ref(), branch), factors[1])
    }
}

impl FocalNet {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &FocalNetConfig {
        &self.config
    }
}

impl StagedNetwork for FocalNet {
    fn depth(&self) -> usize {
        self.layers.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_size(&pixels, self.config.image_size)?;
        let mut x = self.stem.forward(pixels);
        let (mut block, mut outputs) = (0, Vec::new());
        for stage in self.layers.iter().take(count) {
            if let Some(layer) = &stage.downsample {
                x = layer.forward(x);
            }
            for layer in &stage.blocks {
                x = layer.forward(x, [drop_path.factors(block, 0), drop_path.factors(block, 1)]);
                block += 1;
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }

    fn final_norm(&self, tokens: Tensor<3>) -> Tensor<3> {
        match &self.norm {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        }
    }
}
