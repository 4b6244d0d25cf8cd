//! ConvNeXt (Liu et al. 2022, arXiv:2201.03545) and ConvNeXt V2 (Woo et al. 2023, arXiv:2301.00808). Parameter paths are
//! those of timm's `ConvNeXt`, which OpenCLIP's ConvNeXt towers are; where timm keeps the MLPs as 1×1 convolutions
//! (`conv_mlp`), the dialect says so.
//!
//! Activations stay channels-last, where norms and MLPs want them; only the depthwise convolution and overlapping stems
//! see channels first. Convolutions whose kernel equals their stride are matrix products.

mod config;

pub use config::{ConvNextConfig, StemKind};

use super::channel_norm::ChannelNorm;
use super::drop_path::{self, Drops};
use super::{Activation, Tap, check_pixels};
use crate::features::FeatureMap;
use crate::kernel;
use burgess_base::{Error, Result};
use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::{Tensor, module::linear};

/// A ConvNeXt. See the module documentation.
#[derive(Module, Debug)]
pub struct ConvNext {
    /// Pixels to channels, and a norm.
    pub stem: Stem,
    /// Four stages.
    pub stages: Vec<Stage>,
    /// The norm over every place of the last map.
    pub norm_pre: Option<ChannelNorm>,
    /// The norm over the pooled vector.
    pub head: Option<Head>,
    #[module(skip)]
    config: ConvNextConfig,
}

/// See [`StemKind`].
#[derive(Module, Debug)]
pub enum Stem {
    /// One convolution.
    Patch((Conv2d, ChannelNorm)),
    /// Two.
    Overlap((Conv2d, Conv2d, ChannelNorm)),
    /// Two, with the activation between.
    OverlapAct((Conv2d, Between, Conv2d, ChannelNorm)),
}

/// A place in a sequence of layers that has no parameters.
#[derive(Module, Debug)]
pub struct Between {
    #[module(skip)]
    activation: Activation,
}

/// A stage: halve the grid (except in the first), then blocks.
#[derive(Module, Debug)]
pub struct Stage {
    /// Norm and 2x2 convolution of stride 2.
    pub downsample: Option<(ChannelNorm, Conv2d)>,
    /// The blocks.
    pub blocks: Vec<ConvBlock>,
}

/// Depthwise convolution, norm, MLP, layer scale, residual.
#[derive(Module, Debug)]
pub struct ConvBlock {
    /// Weight `[channels, 1, kernel, kernel]`.
    pub conv_dw: Conv2d,
    /// Over channels.
    pub norm: ChannelNorm,
    /// Over channels, four times as wide inside.
    pub mlp: ConvMlp,
    /// Layer scale, `[channels]`.
    pub gamma: Option<Param<Tensor<1>>>,
}

/// Two linear layers with an activation and, in V2, a response norm between.
#[derive(Module, Debug)]
pub struct ConvMlp {
    /// To the hidden channels.
    pub fc1: Linear,
    /// Of the hidden channels.
    pub grn: Option<ResponseNorm>,
    /// Back.
    pub fc2: Linear,
    #[module(skip)]
    activation: Activation,
}

/// Global response norm: each channel is scaled by its length over all places of the picture, relative to the mean length
/// of the channels, and added to itself.
#[derive(Module, Debug)]
pub struct ResponseNorm {
    /// `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// `[channels]`.
    pub bias: Param<Tensor<1>>,
}

/// What stands before the classifier in timm.
#[derive(Module, Debug)]
pub struct Head {
    /// Over the pooled channels.
    pub norm: ChannelNorm,
}

/// A convolution whose kernel equals its stride, on `[batch, height, width, channels]`.
fn reduce(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    let [batch, height, width, channels] = x.dims();
    let weight = conv.weight.val();
    let [out, _, k, _] = weight.dims();
    let (rows, columns, inside) = (height / k, width / k, k * k * channels);
    let patches = x
        .reshape([batch, rows, k, columns, k, channels])
        .permute([0, 1, 3, 2, 4, 5])
        .reshape([batch * rows * columns, inside]);
    let weight = weight.permute([2, 3, 1, 0]).reshape([inside, out]);
    linear(patches, weight, conv.bias.as_ref().map(Param::val)).reshape([batch, rows, columns, out])
}

impl Stem {
    /// `[batch, 3, height, width]` to `[batch, rows, columns, channels]`.
    fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        let (mapped, norm) = match self {
            Self::Patch((conv, norm)) => (reduce(conv, pixels.permute([0, 2, 3, 1])), norm),
            Self::Overlap((one, two, norm)) => (two.forward(one.forward(pixels)).permute([0, 2, 3, 1]), norm),
            Self::OverlapAct((one, between, two, norm)) => {
                (two.forward(between.activation.forward(one.forward(pixels))).permute([0, 2, 3, 1]), norm)
            }
        };
        norm.forward(mapped)
    }
}

impl ResponseNorm {
    /// `[batch, places, channels]`.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        // Below the smallest length that matters: a channel of zeros has no direction to move in.
        let length = x.clone().square().sum_dim(1).clamp_min(1e-24).sqrt();
        let relative = length.clone() / length.mean_dim(2).add_scalar(1e-6);
        let scaled = x.clone() * relative;
        x + self.bias.val().unsqueeze() + scaled * self.weight.val().unsqueeze()
    }
}

impl ConvBlock {
    /// On `[batch, height, width, channels]`.
    fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let mixed = self.conv_dw.forward(x.clone().permute([0, 3, 1, 2])).permute([0, 2, 3, 1]);
        let [batch, rows, columns, channels] = x.dims();
        let places = batch * rows * columns;
        let normed = self.norm.forward(mixed.reshape([places, channels]));
        let mut hidden = kernel::linear_activation(normed, &self.mlp.fc1, self.mlp.activation);
        if let Some(grn) = &self.mlp.grn {
            let inside = hidden.dims()[1];
            hidden = grn.forward(hidden.reshape([batch, rows * columns, inside])).reshape([places, inside]);
        }
        let scale = self.gamma.as_ref().map(Param::val);
        let x = drop_path::residual(x.reshape([places, channels]), hidden, &self.mlp.fc2, scale, factors);
        x.reshape([batch, rows, columns, channels])
    }
}

impl ConvNext {
    /// The numbers this network was built from.
    pub fn config(&self) -> &ConvNextConfig {
        &self.config
    }

    /// The outputs of the first `count` stages, each `[batch, rows, columns, channels]`, for pictures
    /// `[batch, 3, height, width]` whose sides the stride of the last of them divides; later ones do not run.
    fn first_stages(&self, pixels: Tensor<4>, count: usize, drops: &Drops) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, self.config.stride(count.saturating_sub(1)))?;
        let mut x = self.stem.forward(pixels);
        let mut outputs = Vec::with_capacity(count);
        let mut run = 0;
        for stage in self.stages.iter().take(count) {
            if let Some((norm, conv)) = &stage.downsample {
                x = reduce(conv, norm.forward(x));
            }
            for block in &stage.blocks {
                x = block.forward(x, drops.factors(run, 0));
                run += 1;
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }

    fn final_norm<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match (&self.norm_pre, &self.head) {
            (Some(norm), _) => norm.forward(x),
            (None, Some(head)) => head.norm.forward(x),
            (None, None) => x,
        }
    }

    pub(super) fn features(&self, pixels: Tensor<4>, tap: &Tap, drops: &Drops) -> Result<FeatureMap> {
        super::ArchitectureConfig::ConvNext(self.config.clone()).check_tap(tap)?;
        let count = self.stages.len();
        let outputs = self.first_stages(pixels, tap.deepest(count, "stage")? + 1, drops)?;
        let mut maps = Vec::new();
        for x in tap.indices(count, "stage")?.into_iter().filter_map(|stage| outputs.get(stage)) {
            let FeatureMap { tokens, grid } = FeatureMap::of_places(x.clone());
            maps.push(FeatureMap { tokens: if tap.norm { self.final_norm(tokens) } else { tokens }, grid });
        }
        tap.join(maps)
    }

    pub(super) fn summary(&self, pixels: Tensor<4>, drops: &Drops) -> Result<Tensor<2>> {
        let last = self.first_stages(pixels, self.stages.len(), drops)?.pop();
        let x = last.ok_or_else(|| Error::failed("a ConvNeXt without stages has no features"))?;
        let tokens = FeatureMap::of_places(x).tokens;
        Ok(match &self.norm_pre {
            Some(norm) => norm.forward(tokens).mean_dim(1).squeeze_dim(1),
            None => self.final_norm(tokens.mean_dim(1).squeeze_dim(1)),
        })
    }
}
