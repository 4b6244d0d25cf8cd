//! ResNet (He et al. 2016, arXiv:1512.03385) and ResNeXt (Xie et al. 2017, arXiv:1611.05431), with the stems and
//! shortcuts of "Bag of Tricks" (He et al. 2019, arXiv:1812.01187). Parameter paths are those of timm's `ResNet`, which are
//! torchvision's.
//!
//! Batch norms always use their running statistics, in training too: they belong to the weights, move in no step and get
//! no gradient, while scale and shift are trained (torchvision's `FrozenBatchNorm2d`, as detectors fine-tune ResNets). A
//! picture's features so never depend on the others of its batch, and what was trained is what answers afterwards.

mod config;

pub use config::{ResBlockKind, ResNetConfig, ResStemKind};

use super::drop_path::Drops;
use super::{Tap, check_pixels};
use crate::features::FeatureMap;
use burgess_base::{Error, Result};
use burn::module::{Module, Param};
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::{avg_pool2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};

/// A ResNet. See the module documentation.
#[derive(Module, Debug)]
pub struct ResNet {
    /// Pixels to channels.
    pub conv1: Stem,
    /// Of the stem.
    pub bn1: FrozenBatchNorm,
    /// The first stage.
    pub layer1: Vec<ResBlock>,
    /// The second.
    pub layer2: Vec<ResBlock>,
    /// The third.
    pub layer3: Vec<ResBlock>,
    /// The last.
    pub layer4: Vec<ResBlock>,
    #[module(skip)]
    config: ResNetConfig,
}

/// See [`ResStemKind`].
// There is one in a network: its size does not matter.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Stem {
    /// One convolution.
    Plain(Conv2d),
    /// Three, each but the last followed by a norm and a rectifier.
    Deep((Conv2d, FrozenBatchNorm, Between, Conv2d, FrozenBatchNorm, Between, Conv2d)),
}

/// A place in a sequence of layers that has no parameters: a rectifier, or the mean of squares of `stride` places.
#[derive(Module, Debug)]
pub struct Between {
    stride: usize,
}

/// Batch norm by its running statistics. See the module documentation.
#[derive(Module, Debug)]
pub struct FrozenBatchNorm {
    /// Scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// `[channels]`; never trained.
    pub running_mean: Param<Tensor<1>>,
    /// `[channels]`; never trained.
    pub running_var: Param<Tensor<1>>,
    epsilon: f64,
}

/// A residual block; the third convolution is that of a bottleneck.
#[derive(Module, Debug)]
pub struct ResBlock {
    /// 3×3, or a bottleneck's 1×1.
    pub conv1: Conv2d,
    /// Of it.
    pub bn1: FrozenBatchNorm,
    /// 3×3.
    pub conv2: Conv2d,
    /// Of it.
    pub bn2: FrozenBatchNorm,
    /// 1×1.
    pub conv3: Option<Conv2d>,
    /// Of it.
    pub bn3: Option<FrozenBatchNorm>,
    /// Where the block's output has another shape than its input.
    pub downsample: Option<Shortcut>,
}

/// The way around a block.
#[derive(Module, Debug)]
pub enum Shortcut {
    /// A 1×1 convolution that skips places.
    Skip((Conv2d, FrozenBatchNorm)),
    /// The mean of neighbouring places, then a 1×1 convolution.
    Average((Between, Conv2d, FrozenBatchNorm)),
}

impl FrozenBatchNorm {
    /// `[batch, channels, height, width]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (mean, variance) = (self.running_mean.val().detach(), self.running_var.val().detach());
        let scale = self.weight.val() / variance.add_scalar(self.epsilon).sqrt();
        let shift = self.bias.val() - mean * scale.clone();
        let [channels] = scale.dims();
        x * scale.reshape([1, channels, 1, 1]) + shift.reshape([1, channels, 1, 1])
    }
}

impl Stem {
    fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Plain(conv) => conv.forward(pixels),
            Self::Deep((one, norm1, _, two, norm2, _, three)) => {
                let x = relu(norm1.forward(one.forward(pixels)));
                three.forward(relu(norm2.forward(two.forward(x))))
            }
        }
    }
}

impl Shortcut {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Skip((conv, norm)) => norm.forward(conv.forward(x)),
            Self::Average((Between { stride: 1 }, conv, norm)) => norm.forward(conv.forward(x)),
            Self::Average((Between { stride }, conv, norm)) => {
                let pool = AvgPoolOptions::new([*stride; 2]).with_stride([*stride; 2]);
                let pool = pool.with_count_include_pad(false).with_ceil_mode(true);
                norm.forward(conv.forward(avg_pool2d(x, pool)))
            }
        }
    }
}

impl ResBlock {
    /// `[batch, channels, height, width]`; `factors` are those of [`Drops`] for the pictures.
    fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let branch = self.bn1.forward(self.conv1.forward(x.clone()));
        let mut branch = self.bn2.forward(self.conv2.forward(relu(branch)));
        if let (Some(conv), Some(norm)) = (&self.conv3, &self.bn3) {
            branch = norm.forward(conv.forward(relu(branch)));
        }
        if let Some(factors) = factors {
            let [batch] = factors.dims();
            branch = branch * factors.clone().reshape([batch, 1, 1, 1]);
        }
        relu(branch + self.downsample.as_ref().map_or(x.clone(), |way| way.forward(x)))
    }
}

impl ResNet {
    /// The numbers this network was built from.
    pub fn config(&self) -> &ResNetConfig {
        &self.config
    }

    /// The outputs of the first `count` stages, each `[batch, channels, rows, columns]`; later ones do not run.
    fn first_stages(&self, pixels: Tensor<4>, count: usize, drops: &Drops) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let x = relu(self.bn1.forward(self.conv1.forward(pixels)));
        let mut x = max_pool2d(x, MaxPoolOptions::new([3, 3]).with_stride([2, 2]).with_padding([1, 1]));
        let mut outputs = Vec::with_capacity(count);
        let mut run = 0;
        for stage in [&self.layer1, &self.layer2, &self.layer3, &self.layer4].into_iter().take(count) {
            for block in stage {
                x = block.forward(x, drops.factors(run, 0));
                run += 1;
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }

    pub(super) fn features(&self, pixels: Tensor<4>, tap: &Tap, drops: &Drops) -> Result<FeatureMap> {
        super::ArchitectureConfig::ResNet(self.config.clone()).check_tap(tap)?;
        let count = self.config.depths.len();
        let outputs = self.first_stages(pixels, tap.deepest(count, "stage")? + 1, drops)?;
        let tapped = tap.indices(count, "stage")?.into_iter().filter_map(|stage| outputs.get(stage));
        tap.join(tapped.map(|x| tokens(x.clone())).collect())
    }

    pub(super) fn summary(&self, pixels: Tensor<4>, drops: &Drops) -> Result<Tensor<2>> {
        let last = self.first_stages(pixels, self.config.depths.len(), drops)?.pop();
        let x = last.ok_or_else(|| Error::failed("a ResNet without stages has no features"))?;
        Ok(tokens(x).tokens.mean_dim(1).squeeze_dim(1))
    }
}

/// `[batch, channels, rows, columns]`, place by place.
fn tokens(x: Tensor<4>) -> FeatureMap {
    let [batch, channels, rows, columns] = x.dims();
    let tokens: Tensor<3> = x.reshape([batch, channels, rows * columns]);
    FeatureMap { tokens: tokens.swap_dims(1, 2), grid: [rows, columns] }
}
