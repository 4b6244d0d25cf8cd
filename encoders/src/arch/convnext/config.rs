//! Hyper-parameters of a ConvNeXt, their validation, and the construction of the network.

use super::super::channel_norm::{ChannelNorm, NormKind};
use super::super::drop_path::{self, DropPathSpec};
use super::super::fields::{is_default, yes};
use super::super::limits::MAX_SIZE;
use super::super::network::{NetworkConfig, TapSupport};
use super::super::tap::Tap;
use super::{ActivationLayer, ConvBlock, ConvMlp, ConvNext, Head, ResponseNorm, Stage, Stem};
use crate::operands::Activation;
use burgess_base::{Error, Result};
use burn::module::Initializer;
use burn::nn::conv::Conv2dConfig;
use burn::nn::{LinearConfig, PaddingConfig2d};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// Layout of the stem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum StemKind {
    /// One convolution whose kernel equals its stride.
    #[default]
    Patch,
    /// Two 3×3 convolutions of stride 2.
    Overlap,
    /// As `overlap`, but the first convolution has about half the output channels.
    OverlapTiered,
    /// As `overlap`, with an activation between the convolutions.
    OverlapAct,
}

/// Hyper-parameters of a ConvNeXt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ConvNextConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Stride of the stem in pixels; each later stage halves the grid. Default 4; overlapping stems require 4.
    #[serde(default = "default_stem")]
    pub stem: usize,
    /// Layout of the stem. Default `patch`.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub stem_kind: StemKind,
    /// Number of blocks per stage.
    pub depths: [usize; 4],
    /// Number of channels per stage.
    pub dims: [usize; 4],
    /// Side of the depthwise kernels per stage, odd. Default 7.
    #[serde(default = "default_kernels", skip_serializing_if = "are_default_kernels")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub kernels: [usize; 4],
    /// Initial value of the layer scale; 0 for blocks without layer scale. Default 1e-6.
    #[serde(default = "default_scale")]
    pub layer_scale: f64,
    /// Whether the MLPs contain a global response norm (V2). Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub response_norm: bool,
    /// Activation in the MLPs and in the stem. Default exact GELU.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub activation: Activation,
    /// Kind of all norms. Default layer norm.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub norm: NormKind,
    /// Epsilon added to the variance in every norm. Default 1e-6.
    #[serde(default = "default_scale")]
    pub norm_eps: f64,
    /// Whether there is a norm after the last stage. Default true.
    #[serde(default = "yes")]
    pub final_norm: bool,
    /// Whether the final norm is applied at every position of the last feature map (timm's `norm_pre`) and not to its
    /// mean (timm's `head.norm`). Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub norm_first: bool,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_stem() -> usize {
    4
}

fn default_kernels() -> [usize; 4] {
    [7; 4]
}

fn are_default_kernels(kernels: &[usize; 4]) -> bool {
    *kernels == default_kernels()
}

fn default_scale() -> f64 {
    1e-6
}

impl ConvNextConfig {
    /// Stride of the feature map of `stage`, in pixels.
    pub fn stride(&self, stage: usize) -> usize {
        self.stem << stage
    }

    /// Channels between the convolutions of an overlapping stem. A tiered stem has half of the first stage's channels,
    /// rounded to a multiple of 8 that is not more than a tenth below (timm's `make_divisible`).
    fn stem_channels(&self) -> usize {
        let [first, ..] = self.dims;
        if self.stem_kind != StemKind::OverlapTiered {
            return first;
        }
        let half = first / 2;
        let rounded = ((half + 4) / 8 * 8).max(8);
        if rounded * 10 < half * 9 { rounded + 8 } else { rounded }
    }

    /// Multiply-add operations for one image through the first `stages` stages.
    fn multiply_adds(&self, stages: usize) -> u64 {
        let side = self.image_size / self.stem;
        let [first, ..] = self.dims;
        let middle = self.stem_channels();
        let mut total = match self.stem_kind {
            StemKind::Patch => side * side * self.stem * self.stem * 3 * first,
            _ => 9 * (4 * side * side * 3 * middle + side * side * middle * first),
        } as u64;
        let mut before = first;
        let each = self.depths.iter().zip(self.dims).zip(self.kernels);
        for (stage, ((depth, dim), kernel)) in each.enumerate().take(stages) {
            let side = self.image_size / self.stride(stage);
            let reduce = if stage == 0 { 0 } else { 4 * before * dim };
            let block = kernel * kernel * dim + 8 * dim * dim;
            total += (side * side * (reduce + depth * block)) as u64;
            before = dim;
        }
        total
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
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
            .zip(self.kernels)
            .enumerate()
            .map(|(i, ((depth, dim), kernel))| {
                let downsample = (i > 0).then(|| (self.norm(before, device), reduce(before, dim, 2)));
                before = dim;
                Stage { downsample, blocks: (0..*depth).map(|_| self.block(dim, kernel, device)).collect() }
            })
            .collect();
        let norm = || self.norm(last, device);
        ConvNext {
            stem: self.stem(device),
            stages,
            norm_pre: (self.final_norm && self.norm_first).then(norm),
            head: (self.final_norm && !self.norm_first).then(|| Head { norm: norm() }),
            config: self.clone(),
        }
    }

    fn norm(&self, dim: usize, device: &Device) -> ChannelNorm {
        self.norm.init(dim, self.norm_eps, device)
    }

    fn stem(&self, device: &Device) -> Stem {
        let ([first, ..], middle) = (self.dims, self.stem_channels());
        let halve = |from: usize, to: usize| {
            let padding = PaddingConfig2d::Explicit(1, 1, 1, 1);
            Conv2dConfig::new([from, to], [3, 3]).with_stride([2, 2]).with_padding(padding).init(device)
        };
        let norm = self.norm(first, device);
        match self.stem_kind {
            StemKind::Patch => {
                let kernel = [self.stem; 2];
                Stem::Patch((Conv2dConfig::new([3, first], kernel).with_stride(kernel).init(device), norm))
            }
            StemKind::Overlap | StemKind::OverlapTiered => {
                Stem::Overlap((halve(3, middle), halve(middle, first), norm))
            }
            StemKind::OverlapAct => {
                let between = ActivationLayer { activation: self.activation };
                Stem::OverlapAct((halve(3, middle), between, halve(middle, first), norm))
            }
        }
    }

    fn block(&self, dim: usize, kernel: usize, device: &Device) -> ConvBlock {
        let around = kernel / 2;
        let zeros = || Initializer::Zeros.init([4 * dim], device);
        ConvBlock {
            conv_dw: Conv2dConfig::new([dim, dim], [kernel, kernel])
                .with_groups(dim)
                .with_padding(PaddingConfig2d::Explicit(around, around, around, around))
                .init(device),
            norm: self.norm(dim, device),
            mlp: ConvMlp {
                fc1: LinearConfig::new(dim, 4 * dim).init(device),
                grn: self.response_norm.then(|| ResponseNorm { weight: zeros(), bias: zeros() }),
                fc2: LinearConfig::new(4 * dim, dim).init(device),
                activation: self.activation,
            },
            gamma: (self.layer_scale != 0.0)
                .then(|| Initializer::Constant { value: self.layer_scale }.init([dim], device)),
        }
    }
}

impl NetworkConfig for ConvNextConfig {
    fn computes_bf16(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<()> {
        let numbers = [self.stem, self.image_size];
        let all = self.depths.iter().chain(&self.dims).chain(&self.kernels).chain(&numbers);
        if !all.copied().all(|n| (1..=MAX_SIZE).contains(&n))
            || self.image_size == 0
            || !self.image_size.is_multiple_of(self.stride(3))
        {
            return Err(Error::usage(format!(
                "invalid ConvNeXt: image_size {}, stem {}, depths {:?}, dims {:?}",
                self.image_size, self.stem, self.depths, self.dims
            ))
            .hint("all must be positive and at most 65536, and 8 times the stem must divide image_size"));
        }
        if self.stem_kind != StemKind::Patch && self.stem != 4 {
            return Err(Error::usage(format!("an overlapping stem requires stem = 4, got {}", self.stem)));
        }
        if self.kernels.iter().any(|kernel| kernel.is_multiple_of(2)) {
            return Err(Error::usage(format!("the kernels {:?} must all be odd", self.kernels)));
        }
        if self.activation == Activation::Swiglu {
            return Err(Error::usage("activation = \"swiglu\" is not supported in a ConvNeXt")
                .hint("choose another activation"));
        }
        drop_path::check(self.drop_path)
    }

    fn image_size(&self) -> usize {
        self.image_size
    }

    fn min_layers(&self) -> usize {
        self.depths.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    fn tap_support(&self, tap: &Tap) -> Result<TapSupport> {
        let stages = tap.indices(self.depths.len(), "stage")?;
        let last = stages.iter().all(|stage| stage + 1 == self.depths.len());
        Ok(TapSupport { final_norm: self.final_norm && last, class_token: false })
    }

    fn tap_sides(&self, tap: &Tap) -> Result<Vec<usize>> {
        let stages = tap.indices(self.depths.len(), "stage")?;
        Ok(stages.into_iter().map(|stage| self.image_size / self.stride(stage)).collect())
    }

    fn tap_width(&self, tap: &Tap) -> Result<usize> {
        let stages = tap.indices(self.depths.len(), "stage")?;
        Ok(stages.into_iter().filter_map(|stage| self.dims.get(stage)).sum())
    }

    fn tap_multiply_adds(&self, tap: &Tap) -> Result<u64> {
        Ok(self.multiply_adds(tap.deepest(self.depths.len(), "stage")? + 1))
    }

    fn pooled_width(&self) -> usize {
        self.dims[3]
    }

    fn norms_last_tokens(&self) -> bool {
        // Most ConvNeXts pool before the norm.
        self.final_norm && self.norm_first
    }

    fn drop_path(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.depths.iter().sum(), branches: 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> ConvNextConfig {
        let text = format!("image_size = 64\ndepths = [1, 1, 2, 1]\ndims = [40, 80, 160, 320]\n{more}");
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn tiered_stems_have_about_half_the_channels() {
        let tiered = |first: usize| {
            let mut config = config("stem_kind = \"overlap-tiered\"");
            config.dims[0] = first;
            config.stem_channels()
        };
        // The expected values are those of timm's `make_divisible(first // 2)`.
        assert_eq!([8, 40, 48, 64, 80, 22, 96].map(tiered), [8, 24, 24, 32, 40, 16, 48]);
    }

    #[test]
    fn numbers_that_make_no_network_are_refused() {
        assert!(config("").validate().is_ok());
        let say = |more: &str| config(more).validate().unwrap_err().to_string();
        assert!(say("stem_kind = \"overlap\"\nstem = 2").contains("stem = 4, got 2"));
        assert!(say("kernels = [7, 6, 7, 7]").contains("[7, 6, 7, 7]"));
        assert!(say("activation = \"swiglu\"").contains("swiglu"));
        assert!(say("drop_path = -0.1").contains("drop_path = -0.1"));
    }
}
