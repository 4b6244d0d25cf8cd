//! ResNet (He et al. 2016, arXiv:1512.03385) and ResNeXt (Xie et al. 2017, arXiv:1611.05431), with the stems and
//! shortcuts of "Bag of Tricks" (He et al. 2019, arXiv:1812.01187). Parameter paths are those of timm's `ResNet`, which
//! are torchvision's.
//!
//! Batch norms always use their running statistics, in training too. The statistics are never updated and get no
//! gradient, while scale and shift are trained (torchvision's `FrozenBatchNorm2d`, as detectors fine-tune ResNets). The
//! features of an image never depend on the other images of its batch, and are the same in training and evaluation.

mod config;

pub use config::{ResBlockKind, ResNetConfig, ResStemKind};

use super::drop_path::DropPathMask;
use super::limits::check_pixels;
use super::network::Network;
use super::parts::{FrozenBatchNorm, avg_pool, drop_branch, max_pool};
use super::tap::Tap;
use crate::features::FeatureMap;
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;

/// A ResNet or ResNeXt; see the module documentation.
#[derive(Module, Debug)]
pub struct ResNet {
    /// Stem: the convolutions before `bn1`, with a stride of 2 pixels.
    pub conv1: Stem,
    /// Batch norm after `conv1`.
    pub bn1: FrozenBatchNorm,
    /// The blocks of the first stage.
    pub layer1: Vec<ResBlock>,
    /// The blocks of the second stage.
    pub layer2: Vec<ResBlock>,
    /// The blocks of the third stage.
    pub layer3: Vec<ResBlock>,
    /// The blocks of the fourth and last stage.
    pub layer4: Vec<ResBlock>,
    #[module(skip)]
    config: ResNetConfig,
}

/// The stem convolutions, one variant per layout of [`ResStemKind`].
// A network has one stem: its size does not matter.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Stem {
    /// A single 7×7 convolution of stride 2.
    Plain(Conv2d),
    /// Three convolutions, each but the last followed by a batch norm and a ReLU.
    Deep((Conv2d, FrozenBatchNorm, ParameterlessLayer, Conv2d, FrozenBatchNorm, ParameterlessLayer, Conv2d)),
}

/// A layer without parameters that takes an index in a sequence: a ReLU, or average pooling of `stride` × `stride`.
#[derive(Module, Debug)]
pub struct ParameterlessLayer {
    stride: usize,
}

/// A residual block: a basic block of two convolutions, or a bottleneck block of three.
#[derive(Module, Debug)]
pub struct ResBlock {
    /// First convolution: 3×3 in a basic block, 1×1 in a bottleneck.
    pub conv1: Conv2d,
    /// Batch norm after `conv1`.
    pub bn1: FrozenBatchNorm,
    /// Second convolution, 3×3.
    pub conv2: Conv2d,
    /// Batch norm after `conv2`.
    pub bn2: FrozenBatchNorm,
    /// Third convolution, 1×1; only in a bottleneck.
    pub conv3: Option<Conv2d>,
    /// Batch norm after `conv3`; only in a bottleneck.
    pub bn3: Option<FrozenBatchNorm>,
    /// Projection shortcut, where the block's output has another shape than its input.
    pub downsample: Option<Shortcut>,
}

/// A projection shortcut around a residual block.
#[derive(Module, Debug)]
pub enum Shortcut {
    /// A strided 1×1 convolution.
    Skip((Conv2d, FrozenBatchNorm)),
    /// Average pooling, then a 1×1 convolution.
    Average((ParameterlessLayer, Conv2d, FrozenBatchNorm)),
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
            Self::Average((ParameterlessLayer { stride: 1 }, conv, norm)) => norm.forward(conv.forward(x)),
            Self::Average((ParameterlessLayer { stride }, conv, norm)) => {
                norm.forward(conv.forward(avg_pool(x, *stride, *stride, 0, false, true)))
            }
        }
    }
}

impl ResBlock {
    /// Runs the block on `[batch, channels, rows, columns]`; `factors` is its drop-path mask in [`DropPathMask`], `[batch]`.
    fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let branch = self.bn1.forward(self.conv1.forward(x.clone()));
        let mut branch = self.bn2.forward(self.conv2.forward(relu(branch)));
        if let (Some(conv), Some(norm)) = (&self.conv3, &self.bn3) {
            branch = norm.forward(conv.forward(relu(branch)));
        }
        relu(drop_branch(branch, factors) + self.downsample.as_ref().map_or(x.clone(), |way| way.forward(x)))
    }
}

impl ResNet {
    /// Returns the configuration that this network was built from.
    pub fn config(&self) -> &ResNetConfig {
        &self.config
    }

    /// Outputs of the first `count` stages, each `[batch, channels, rows, columns]`; later stages are not computed.
    fn first_stages(&self, pixels: Tensor<4>, count: usize, drop_path: &DropPathMask) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, 1)?;
        let x = relu(self.bn1.forward(self.conv1.forward(pixels)));
        let mut x = max_pool(x, 3, 2, 1, false);
        let mut outputs = Vec::with_capacity(count);
        let mut run = 0;
        for stage in [&self.layer1, &self.layer2, &self.layer3, &self.layer4].into_iter().take(count) {
            for block in stage {
                x = block.forward(x, drop_path.factors(run, 0));
                run += 1;
            }
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}

impl Network for ResNet {
    fn features(&self, pixels: Tensor<4>, tap: &Tap, drop_path: &DropPathMask) -> Result<FeatureMap> {
        let count = self.config.depths.len();
        let outputs = self.first_stages(pixels, tap.deepest(count, "stage")? + 1, drop_path)?;
        let tapped = tap.indices(count, "stage")?.into_iter().filter_map(|stage| outputs.get(stage));
        tap.join(tapped.map(|x| FeatureMap::from_channels_first(x.clone())).collect())
    }

    fn pooled(&self, pixels: Tensor<4>, drop_path: &DropPathMask) -> Result<Tensor<2>> {
        let last = self.first_stages(pixels, self.config.depths.len(), drop_path)?.pop();
        let x = last.ok_or_else(|| Error::failed("a ResNet without stages has no features"))?;
        Ok(FeatureMap::from_channels_first(x).tokens.mean_dim(1).squeeze_dim(1))
    }
}
