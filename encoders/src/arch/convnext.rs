//! ConvNeXt (Liu et al. 2022, arXiv:2201.03545). Parameter paths are those of timm's `ConvNeXt` without
//! `conv_mlp`, which is what OpenCLIP's ConvNeXt towers are.
//!
//! Activations stay channels-last, where norms and MLPs want them; only the depthwise convolution sees
//! channels first. Convolutions whose kernel equals their stride are matrix products.

use super::{Activation, Mlp, Tap, check_pixels};
use crate::features::FeatureMap;
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor, module::linear};
use serde::{Deserialize, Serialize};

/// Side of the depthwise kernels.
const KERNEL: usize = 7;

/// The numbers of a ConvNeXt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConvNextConfig {
    /// Side of the square pictures, in pixels.
    pub image_size: usize,
    /// Kernel and stride of the stem; each later stage halves the grid. Default 4.
    #[serde(default = "default_stem")]
    pub stem: usize,
    /// Blocks per stage.
    pub depths: [usize; 4],
    /// Channels per stage.
    pub dims: [usize; 4],
    /// Value of each block's layer scale at the start. Default 1e-6.
    #[serde(default = "default_scale")]
    pub layer_scale: f64,
    /// Added to the variance in every norm. Default 1e-6.
    #[serde(default = "default_scale")]
    pub norm_eps: f64,
    /// The norm over the pooled vector (timm's `head.norm`). Default true.
    #[serde(default = "yes")]
    pub final_norm: bool,
}

fn default_stem() -> usize {
    4
}

fn default_scale() -> f64 {
    1e-6
}

fn yes() -> bool {
    true
}

impl ConvNextConfig {
    /// Says what is wrong with the numbers, if anything.
    pub fn validate(&self) -> Result<()> {
        let positive = self.stem > 0 && self.depths.iter().chain(&self.dims).all(|n| *n > 0);
        if !positive || self.image_size == 0 || !self.image_size.is_multiple_of(self.stride(3)) {
            return Err(Error::usage(format!(
                "a ConvNeXt cannot have image_size {}, stem {}, depths {:?}, dims {:?}",
                self.image_size, self.stem, self.depths, self.dims
            ))
            .hint("all must be positive, and 8 times the stem must divide image_size"));
        }
        Ok(())
    }

    /// Pixels per feature at the output of `stage`.
    pub fn stride(&self, stage: usize) -> usize {
        self.stem << stage
    }

    /// Multiply-adds of one picture through the first `stages` stages.
    pub(super) fn multiply_adds(&self, stages: usize) -> u64 {
        let mut total = 0;
        let mut before = 3;
        for (stage, (depth, dim)) in self.depths.iter().zip(self.dims).enumerate().take(stages) {
            let side = self.image_size / self.stride(stage);
            let kernel = if stage == 0 { self.stem } else { 2 };
            let reduce = kernel * kernel * before * dim;
            let block = KERNEL * KERNEL * dim + 8 * dim * dim;
            total += (side * side * (reduce + depth * block)) as u64;
            before = dim;
        }
        total
    }

    /// A network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> ConvNext {
        let reduce = |from: usize, to: usize, kernel: usize| {
            Conv2dConfig::new([from, to], [kernel, kernel]).with_stride([kernel, kernel]).init(device)
        };
        let [first, _, _, last] = self.dims;
        let mut before = first;
        let stages = self
            .depths
            .iter()
            .zip(self.dims)
            .enumerate()
            .map(|(i, (depth, dim))| {
                let downsample = (i > 0).then(|| (self.norm(before, device), reduce(before, dim, 2)));
                before = dim;
                Stage { downsample, blocks: (0..*depth).map(|_| self.block(dim, device)).collect() }
            })
            .collect();
        ConvNext {
            stem: (reduce(3, first, self.stem), self.norm(first, device)),
            stages,
            head: self.final_norm.then(|| Head { norm: self.norm(last, device) }),
            config: self.clone(),
        }
    }

    fn norm(&self, dim: usize, device: &Device) -> LayerNorm {
        LayerNormConfig::new(dim).with_epsilon(self.norm_eps).init(device)
    }

    fn block(&self, dim: usize, device: &Device) -> ConvBlock {
        ConvBlock {
            conv_dw: Conv2dConfig::new([dim, dim], [KERNEL, KERNEL])
                .with_groups(dim)
                .with_padding(PaddingConfig2d::Explicit(KERNEL / 2, KERNEL / 2, KERNEL / 2, KERNEL / 2))
                .init(device),
            norm: self.norm(dim, device),
            mlp: Mlp::new(dim, 4 * dim, dim, Activation::Gelu, device),
            gamma: Initializer::Constant { value: self.layer_scale }.init([dim], device),
        }
    }
}

/// A ConvNeXt. See the module documentation.
#[derive(Module, Debug)]
pub struct ConvNext {
    /// Patches to channels, and a norm.
    pub stem: (Conv2d, LayerNorm),
    /// Four stages.
    pub stages: Vec<Stage>,
    /// The norm over the pooled vector.
    pub head: Option<Head>,
    #[module(skip)]
    config: ConvNextConfig,
}

/// A stage: halve the grid (except in the first), then blocks.
#[derive(Module, Debug)]
pub struct Stage {
    /// Norm and 2x2 convolution of stride 2.
    pub downsample: Option<(LayerNorm, Conv2d)>,
    /// The blocks.
    pub blocks: Vec<ConvBlock>,
}

/// Depthwise 7x7 convolution, norm, MLP, layer scale, residual.
#[derive(Module, Debug)]
pub struct ConvBlock {
    /// Weight `[channels, 1, 7, 7]`.
    pub conv_dw: Conv2d,
    /// Over channels.
    pub norm: LayerNorm,
    /// Over channels, four times as wide inside.
    pub mlp: Mlp,
    /// Layer scale, `[channels]`.
    pub gamma: Param<Tensor<1>>,
}

/// What stands before the classifier in timm.
#[derive(Module, Debug)]
pub struct Head {
    /// Over the pooled channels.
    pub norm: LayerNorm,
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

impl ConvBlock {
    /// On `[batch, height, width, channels]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mixed = self.conv_dw.forward(x.clone().permute([0, 3, 1, 2])).permute([0, 2, 3, 1]);
        let [batch, rows, columns, channels] = x.dims();
        let places = batch * rows * columns;
        let normed = self.norm.forward(mixed.reshape([places, channels]));
        let x = self.mlp.residual(x.reshape([places, channels]), normed, Some(self.gamma.val()));
        x.reshape([batch, rows, columns, channels])
    }
}

impl ConvNext {
    /// The numbers this network was built from.
    pub fn config(&self) -> &ConvNextConfig {
        &self.config
    }

    /// The outputs of all four stages, each `[batch, rows, columns, channels]`, for pictures
    /// `[batch, 3, height, width]` whose sides are multiples of 8 times the stem.
    pub fn stages(&self, pixels: Tensor<4>) -> Result<Vec<Tensor<4>>> {
        self.first_stages(pixels, self.stages.len())
    }

    /// The outputs of the first `count` stages; later ones do not run.
    fn first_stages(&self, pixels: Tensor<4>, count: usize) -> Result<Vec<Tensor<4>>> {
        check_pixels(&pixels, self.config.stride(count.saturating_sub(1)))?;
        let mut x = self.stem.1.forward(reduce(&self.stem.0, pixels.permute([0, 2, 3, 1])));
        let mut outputs = Vec::with_capacity(count);
        for stage in self.stages.iter().take(count) {
            if let Some((norm, conv)) = &stage.downsample {
                x = reduce(conv, norm.forward(x));
            }
            x = stage.blocks.iter().fold(x, |x, block| block.forward(x));
            outputs.push(x.clone());
        }
        Ok(outputs)
    }

    /// The output of one stage as tokens `[batch, rows * columns, channels]`, and its grid.
    fn stage_tokens(&self, pixels: Tensor<4>, stage: usize) -> Result<(Tensor<3>, [usize; 2])> {
        let x = self
            .first_stages(pixels, stage + 1)?
            .pop()
            .ok_or_else(|| Error::failed("a ConvNeXt without stages has no features"))?;
        let [batch, rows, columns, channels] = x.dims();
        Ok((x.reshape([batch, rows * columns, channels]), [rows, columns]))
    }

    fn final_norm<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match &self.head {
            Some(head) => head.norm.forward(x),
            None => x,
        }
    }

    pub(super) fn features(&self, pixels: Tensor<4>, tap: &Tap) -> Result<FeatureMap> {
        super::ArchitectureConfig::ConvNext(self.config.clone()).check_tap(tap)?;
        let (tokens, grid) = self.stage_tokens(pixels, tap.index(self.stages.len(), "stage")?)?;
        Ok(FeatureMap { tokens: if tap.norm { self.final_norm(tokens) } else { tokens }, grid })
    }

    pub(super) fn summary(&self, pixels: Tensor<4>) -> Result<Tensor<2>> {
        let (tokens, _) = self.stage_tokens(pixels, self.stages.len().saturating_sub(1))?;
        Ok(self.final_norm(tokens.mean_dim(1).squeeze_dim(1)))
    }
}
