//! FasterNet (Chen et al. 2023, arXiv:2303.03667): a convolution of a quarter of the channels, then an MLP over all.
//! Parameter paths are those of timm's `FasterNet`.

use super::drop_path::{self, DropPathMask, DropPathSpec};
use super::limits::check_pixels;
use super::parts::{
    ActivationKind, Conv, ConvSpec, FrozenBatchNorm, Padding, ProjNorm, ReductionNorm, Slot, Trace, drop_branch,
    per_channel, positive,
};
use super::staged::{LayerShape, StagedConfig, StagedNetwork};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork, times};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of a FasterNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FasterNetConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Channels of the first stage; every later stage has twice as many as the one before it.
    pub channels: usize,
    /// Number of blocks of each stage.
    pub depths: Vec<usize>,
    /// Hidden channels of the MLPs divided by their channels. Default 2.
    #[serde(default = "default_ratio")]
    pub mlp_ratio: f64,
    /// The convolutions take one channel of this many. Default 4.
    #[serde(default = "default_part")]
    pub part: usize,
    /// Side of the patches of the stem. Default 4.
    #[serde(default = "default_part")]
    pub patch: usize,
    /// Kernel and stride between stages. Default 2.
    #[serde(default = "default_merge")]
    pub merge: usize,
    /// Whether blocks have layer scale. Default false.
    #[serde(default)]
    pub layer_scale: bool,
    /// Activation. Default ReLU.
    #[serde(default)]
    pub activation: ActivationKind,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default)]
    pub drop_path: f64,
}

fn default_ratio() -> f64 {
    2.0
}

fn default_part() -> usize {
    4
}

fn default_merge() -> usize {
    2
}

/// A FasterNet; see the module documentation.
#[derive(Module, Debug)]
pub struct FasterNet {
    /// Stem: patches to channels.
    pub patch_embed: ProjNorm,
    /// The stages, in order of depth.
    pub stages: Vec<FasterStage>,
    #[module(skip)]
    config: FasterNetConfig,
}

/// A stage: a downsampling layer (absent in the first stage), then blocks.
#[derive(Module, Debug)]
pub struct FasterStage {
    /// Reduces the grid.
    pub downsample: Option<ReductionNorm>,
    /// The blocks.
    pub blocks: Vec<FasterBlock>,
}

/// A block: partial convolution, MLP; one shortcut around both.
#[derive(Module, Debug)]
pub struct FasterBlock {
    /// Pointwise convolution, norm, activation, pointwise convolution.
    pub mlp: (Conv, FrozenBatchNorm, Slot, Conv),
    /// Convolution of the first channels.
    pub spatial_mixing: PartialConv,
    /// Layer scale, `[channels]`.
    pub layer_scale: Option<Param<Tensor<1>>>,
}

/// A convolution of the first channels; the others stay as they are.
#[derive(Module, Debug)]
pub struct PartialConv {
    /// 3×3 convolution.
    pub partial_conv3: Conv,
}

impl FasterNetConfig {
    fn width(&self, stage: usize) -> usize {
        self.channels << stage
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> FasterNet {
        let reduce =
            |from, to, kernel| ConvSpec::new(from, to, kernel).stride(kernel).padding(Padding::Explicit(0)).bias(false);
        let stage = |(stage, depth): (usize, &usize)| FasterStage {
            downsample: (stage > 0)
                .then(|| ReductionNorm::new(reduce(self.width(stage - 1), self.width(stage), self.merge), device)),
            blocks: (0..*depth).map(|_| self.block(self.width(stage), device)).collect(),
        };
        FasterNet {
            patch_embed: ProjNorm::new(reduce(3, self.channels, self.patch), device),
            stages: self.depths.iter().enumerate().map(stage).collect(),
            config: self.clone(),
        }
    }

    fn block(&self, channels: usize, device: &Device) -> FasterBlock {
        let hidden = times(channels, self.mlp_ratio);
        let part = channels / self.part;
        FasterBlock {
            mlp: (
                ConvSpec::new(channels, hidden, 1).bias(false).init(device),
                FrozenBatchNorm::new(hidden, 1e-5, device),
                Slot {},
                ConvSpec::new(hidden, channels, 1).bias(false).init(device),
            ),
            spatial_mixing: PartialConv { partial_conv3: ConvSpec::new(part, part, 3).bias(false).init(device) },
            layer_scale: self.layer_scale.then(|| Initializer::Ones.init([channels], device)),
        }
    }
}

impl FasterBlock {
    fn forward(&self, x: Tensor<4>, activation: ActivationKind, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let conv = &self.spatial_mixing.partial_conv3;
        let (part, channels) = (conv.spec().from, x.dims()[1]);
        let mixed = conv.forward(x.clone().narrow(1, 0, part));
        let mixed = Tensor::cat(vec![mixed, x.clone().narrow(1, part, channels - part)], 1);
        let (first, norm, _, second) = &self.mlp;
        let mut out = second.forward(activation.forward(norm.forward(first.forward(mixed))));
        if let Some(scale) = &self.layer_scale {
            out = out * per_channel(scale.val());
        }
        x + drop_branch(out, factors)
    }

    fn trace(&self, trace: &mut Trace) {
        trace.beside(&self.spatial_mixing.partial_conv3);
        trace.conv(&self.mlp.0);
        trace.conv(&self.mlp.3);
    }
}

impl FasterNet {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &FasterNetConfig {
        &self.config
    }
}

impl StagedConfig for FasterNetConfig {
    fn check(&self) -> Result<()> {
        let name = "FasterNet";
        let numbers = [self.image_size, self.patch, self.merge];
        positive(name, "image_size, patch and merge", &numbers)?;
        positive(name, "depths", &self.depths)?;
        if self.depths.is_empty() || self.depths.len() > 8 || self.part < 2 || self.channels <= self.part {
            return Err(Error::usage(format!(
                "invalid {name}: {} stages, channels {}, part {}",
                self.depths.len(),
                self.channels,
                self.part
            ))
            .hint("there are 1 to 8 stages, part is at least 2, and channels are more than part"));
        }
        let last = self.width(self.depths.len() - 1);
        positive(name, "channels and hidden channels", &[last, times(last, self.mlp_ratio)])?;
        positive(name, "hidden channels", &[times(self.channels, self.mlp_ratio)])?;
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
        network.patch_embed.trace(&mut trace);
        for stage in &network.stages {
            if let Some(layer) = &stage.downsample {
                layer.trace(&mut trace);
            }
            stage.blocks.iter().for_each(|block| block.trace(&mut trace));
            trace.end_layer();
        }
        trace.layers()
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.layer_count(), branches: 1 })
    }
}

impl StagedNetwork for FasterNet {
    fn depth(&self) -> usize {
        self.stages.len()
    }

    fn outputs(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let [_, _, height, width] = pixels.dims();
        let stride = self.config.patch * self.config.merge.pow(self.stages.len() as u32 - 1);
        if height.min(width) < stride {
            return Err(Error::failed(format!("images of {height}x{width} pixels are too small for this FasterNet"))
                .hint(format!("both sides must be at least {stride} pixels")));
        }
        let mut x = self.patch_embed.forward(pixels);
        let (mut outputs, mut run) = (Vec::with_capacity(count), 0);
        for stage in self.stages.iter().take(count) {
            if let Some(layer) = &stage.downsample {
                x = layer.forward(x);
            }
            for block in &stage.blocks {
                x = block.forward(x, self.config.activation, drop_path.factors(run, 0));
                run += 1;
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}

impl TimmModel for FasterNetConfig {
    const CLASSES: &'static [&'static str] = &["FasterNet"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        arguments.only(&[("in_chans", "3"), ("patch_norm", "true"), ("norm_layer", "\"BatchNorm2d\"")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "feature_dim", "pconv_fw_type"]);
        Ok(TimmNetwork::new(Self {
            image_size,
            channels: arguments.number("embed_dim", 96)?,
            depths: arguments.numbers("depths")?.unwrap_or_else(|| vec![1, 2, 8, 2]),
            mlp_ratio: arguments.real("mlp_ratio")?.unwrap_or(2.0),
            part: arguments.number("n_div", 4)?,
            patch: arguments.number("patch_size", 4)?,
            merge: arguments.number("merge_size", 2)?,
            layer_scale: arguments.real("layer_scale_init_value")?.unwrap_or(0.0) > 0.0,
            activation: arguments.activation("act_layer", ActivationKind::Relu)?,
            drop_path: arguments.real("drop_path_rate")?.unwrap_or(0.1),
        })
        .with_dialect("timm-pooled-head"))
    }
}
