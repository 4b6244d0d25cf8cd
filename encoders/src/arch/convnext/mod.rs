//! ConvNeXt (Liu et al. 2022, arXiv:2201.03545) and ConvNeXt V2 (Woo et al. 2023, arXiv:2301.00808). Parameter paths
//! are those of timm's `ConvNeXt`, which OpenCLIP's ConvNeXt towers also use. Checkpoints in which timm keeps the MLPs
//! as 1×1 convolutions (`conv_mlp`) are converted by their dialect.
//!
//! Activations are channels-last, as norms and MLPs need them; only the depthwise convolution and overlapping stems are
//! channels-first. Convolutions whose kernel equals their stride are computed as matrix products.

mod config;

pub use config::{ConvNextConfig, StemKind};

use super::channel_norm::ChannelNorm;
use super::drop_path::{self, DropPathMask};
use super::limits::check_pixels;
use super::network::Network;
use super::tap::Tap;
use crate::features::FeatureMap;
use crate::kernel::{self, Operand};
use crate::operands::Activation;
use burgess_base::{Error, Result};
use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::{Tensor, module::linear};

/// A ConvNeXt or ConvNeXt V2; see the module documentation.
#[derive(Module, Debug)]
pub struct ConvNext {
    /// Stem: convolutions from pixels to the first stage's channels, and a norm.
    pub stem: Stem,
    /// The four stages, in order of depth.
    pub stages: Vec<Stage>,
    /// Norm over the channels at every position of the last feature map (timm's `norm_pre`).
    pub norm_pre: Option<ChannelNorm>,
    /// Norm over the channels of the pooled output (timm's `head.norm`).
    pub head: Option<Head>,
    #[module(skip)]
    config: ConvNextConfig,
}

/// The stem, one variant per layout of [`StemKind`].
#[derive(Module, Debug)]
pub enum Stem {
    /// One convolution whose kernel equals its stride.
    Patch((Conv2d, ChannelNorm)),
    /// Two 3×3 convolutions of stride 2.
    Overlap((Conv2d, Conv2d, ChannelNorm)),
    /// Two 3×3 convolutions of stride 2 with an activation between them.
    OverlapAct((Conv2d, ActivationLayer, Conv2d, ChannelNorm)),
}

/// An activation function, which takes an index in a sequence of layers but has no parameters.
#[derive(Module, Debug)]
pub struct ActivationLayer {
    #[module(skip)]
    activation: Activation,
}

/// A stage: a downsampling layer that halves the grid (absent in the first stage), then blocks.
#[derive(Module, Debug)]
pub struct Stage {
    /// A norm and a 2×2 convolution of stride 2.
    pub downsample: Option<(ChannelNorm, Conv2d)>,
    /// The residual blocks of this stage.
    pub blocks: Vec<ConvBlock>,
}

/// A residual block: depthwise convolution, norm, MLP, layer scale.
#[derive(Module, Debug)]
pub struct ConvBlock {
    /// Depthwise convolution, weight `[channels, 1, kernel, kernel]`.
    pub conv_dw: Conv2d,
    /// Norm over channels.
    pub norm: ChannelNorm,
    /// MLP over channels, with a hidden width of four times the channels.
    pub mlp: ConvMlp,
    /// Layer scale, `[channels]`; `None` for no layer scale.
    pub gamma: Option<Param<Tensor<1>>>,
}

/// Two linear layers with an activation and, in V2, a global response norm between them.
#[derive(Module, Debug)]
pub struct ConvMlp {
    /// First layer, `[channels, 4 * channels]`.
    pub fc1: Linear,
    /// Global response norm of the hidden channels (V2 only).
    pub grn: Option<ResponseNorm>,
    /// Second layer, `[4 * channels, channels]`.
    pub fc2: Linear,
    #[module(skip)]
    activation: Activation,
}

/// Global response norm (GRN): scales each channel by its L2 norm over all positions of the image, divided by the mean
/// L2 norm of the channels, and adds the input.
#[derive(Module, Debug)]
pub struct ResponseNorm {
    /// Scale per channel, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift per channel, `[channels]`.
    pub bias: Param<Tensor<1>>,
}

/// The layers between pooling and classifier in timm.
#[derive(Module, Debug)]
pub struct Head {
    /// Norm over the pooled channels.
    pub norm: ChannelNorm,
}

/// Applies a convolution whose kernel equals its stride to `[batch, height, width, channels]`.
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
    /// Maps `[batch, 3, height, width]` to `[batch, rows, columns, channels]`.
    fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        let (mapped, norm) = match self {
            Self::Patch((conv, norm)) => (reduce(conv, pixels.permute([0, 2, 3, 1])), norm),
            Self::Overlap((one, two, norm)) => (two.forward(one.forward(pixels)).permute([0, 2, 3, 1]), norm),
            Self::OverlapAct((one, activation, two, norm)) => {
                (two.forward(activation.activation.forward(one.forward(pixels))).permute([0, 2, 3, 1]), norm)
            }
        };
        norm.forward(mapped)
    }
}

impl ResponseNorm {
    /// Normalises `[batch, positions, channels]`.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        // The square root has no finite gradient at 0, where a channel is zero at every position.
        let length = x.clone().square().sum_dim(1).clamp_min(1e-24).sqrt();
        let relative = length.clone() / length.mean_dim(2).add_scalar(1e-6);
        let scaled = x.clone() * relative;
        x + self.bias.val().unsqueeze() + scaled * self.weight.val().unsqueeze()
    }
}

impl ConvBlock {
    /// Runs the block on `[batch, rows, columns, channels]`; `factors` is the drop-path mask, `[batch]`.
    fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let mixed = self.conv_dw.forward(x.clone().permute([0, 3, 1, 2])).permute([0, 2, 3, 1]);
        let [batch, rows, columns, channels] = x.dims();
        let positions = batch * rows * columns;
        let normed = self.norm.forward(mixed.reshape([positions, channels]));
        let (fc1, fc2, activation) = (&self.mlp.fc1, &self.mlp.fc2, self.mlp.activation);
        let hidden = match &self.mlp.grn {
            Some(grn) => {
                let hidden = kernel::linear_activation(normed, fc1, activation);
                let [_, inside] = hidden.dims();
                let hidden = grn.forward(hidden.reshape([batch, rows * columns, inside]));
                Operand::Tensor(hidden.reshape([positions, inside]))
            }
            None => kernel::linear_activation_for(fc2, normed.into(), fc1, activation),
        };
        let scale = self.gamma.as_ref().map(Param::val);
        let x = drop_path::residual(x.reshape([positions, channels]), hidden, fc2, scale, factors);
        x.reshape([batch, rows, columns, channels])
    }
}

impl ConvNext {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &ConvNextConfig {
        &self.config
    }

    /// Outputs of the first `count` stages, each `[batch, rows, columns, channels]`; later stages are not computed. The
    /// stride of the last of them must divide the sides of the images, `[batch, 3, height, width]`.
    fn first_stages(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, self.config.stride(count.saturating_sub(1)))?;
        let mut x = self.stem.forward(pixels);
        let mut outputs = Vec::with_capacity(count);
        let mut run = 0;
        for stage in self.stages.iter().take(count) {
            if let Some((norm, conv)) = &stage.downsample {
                x = reduce(conv, norm.forward(x));
            }
            for block in &stage.blocks {
                x = block.forward(x, drop_path.factors(run, 0));
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
}

impl Network for ConvNext {
    fn features(&self, pixels: Tensor<4>, tap: &Tap, drop_path: &DropPathMask) -> Result<FeatureMap> {
        let count = self.stages.len();
        let outputs = self.first_stages(pixels, tap.deepest(count, "stage")? + 1, drop_path)?;
        let mut maps = Vec::new();
        for x in tap.indices(count, "stage")?.into_iter().filter_map(|stage| outputs.get(stage)) {
            let FeatureMap { tokens, grid } = FeatureMap::from_channels_last(x.clone());
            maps.push(FeatureMap { tokens: if tap.norm { self.final_norm(tokens) } else { tokens }, grid });
        }
        tap.join(maps)
    }

    fn pooled(&self, pixels: Tensor<4>, drop_path: &DropPathMask) -> Result<Tensor<2>> {
        let last = self.first_stages(pixels, self.stages.len(), drop_path)?.pop();
        let x = last.ok_or_else(|| Error::failed("a ConvNeXt without stages has no features"))?;
        let tokens = FeatureMap::from_channels_last(x).tokens;
        Ok(match &self.norm_pre {
            Some(norm) => norm.forward(tokens).mean_dim(1).squeeze_dim(1),
            None => self.final_norm(tokens.mean_dim(1).squeeze_dim(1)),
        })
    }
}
