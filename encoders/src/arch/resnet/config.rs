//! Hyper-parameters of a ResNet, their validation, and the construction of the network.

use super::super::drop_path::{self, DropPathSpec};
use super::super::fields::is_default;
use super::super::limits::MAX_SIZE;
use super::super::network::{NetworkConfig, TapSupport};
use super::super::parts::FrozenBatchNorm;
use super::super::tap::Tap;
use super::{ParameterlessLayer, ResBlock, ResNet, Shortcut, Stem};
use burgess_base::{Error, Result};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// The kind of residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ResBlockKind {
    /// Basic block: two 3×3 convolutions.
    Basic,
    /// Bottleneck: convolutions of 1×1, 3×3 and 1×1, with four times the stage's channels at the output.
    Bottleneck,
}

/// Layout of the stem before max pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ResStemKind {
    /// One 7×7 convolution.
    #[default]
    Plain,
    /// Three 3×3 convolutions, the last with twice the channels.
    Deep,
    /// As `deep`, but the first convolution has three quarters of the second's channels.
    DeepTiered,
}

/// Hyper-parameters of a ResNet or ResNeXt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Kind of residual block in all stages.
    pub block: ResBlockKind,
    /// Number of blocks per stage.
    pub depths: [usize; 4],
    /// Channels of the 3×3 convolutions per stage. Default 64, 128, 256, 512.
    #[serde(default = "default_channels")]
    pub channels: [usize; 4],
    /// Layout of the stem. Default `plain`, a 7×7 convolution.
    #[serde(default)]
    pub stem: ResStemKind,
    /// Channels of the middle convolution of a deep stem; a plain stem ignores it. Default 64.
    #[serde(default = "default_width")]
    pub stem_width: usize,
    /// Groups of the 3×3 convolutions in bottlenecks (ResNeXt's cardinality). Default 1.
    #[serde(default = "default_groups")]
    pub groups: usize,
    /// Channels per group for every 64 channels of a stage, in bottlenecks (ResNeXt's base width). Default 64.
    #[serde(default = "default_width")]
    pub base_width: usize,
    /// Whether shortcuts that halve the grid use average pooling and a 1×1 convolution of stride 1, and not a strided
    /// 1×1 convolution. Default false.
    #[serde(default)]
    pub average_down: bool,
    /// Epsilon added to the variance in every norm. Default 1e-5.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

fn default_channels() -> [usize; 4] {
    [64, 128, 256, 512]
}

fn default_width() -> usize {
    64
}

fn default_groups() -> usize {
    1
}

fn default_eps() -> f64 {
    1e-5
}

impl ResBlockKind {
    /// Output channels of a block divided by the channels of its stage.
    fn expansion(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

impl ResNetConfig {
    /// Channels of the 3×3 convolutions of bottlenecks in a stage of `channels`.
    fn inner(&self, channels: usize) -> usize {
        channels * self.base_width / 64 * self.groups
    }

    /// Output channels of the stem.
    fn stem_output(&self) -> usize {
        match self.stem {
            ResStemKind::Plain => 64,
            ResStemKind::Deep | ResStemKind::DeepTiered => 2 * self.stem_width,
        }
    }

    /// Output channels of a stage; `None` if there is no such stage.
    fn width(&self, stage: usize) -> Option<usize> {
        self.channels.get(stage).map(|channels| channels * self.block.expansion())
    }

    /// Side of a stage's feature map: each layer of stride 2 rounds up.
    fn side(&self, stage: usize) -> usize {
        (0..stage + 2).fold(self.image_size, |side, _| side.div_ceil(2))
    }

    /// Multiply-add operations for one image through the first `stages` stages.
    fn multiply_adds(&self, stages: usize) -> u64 {
        let half = self.image_size.div_ceil(2);
        let (width, output) = (self.stem_width, self.stem_output());
        let mut total = half
            * half
            * match self.stem {
                ResStemKind::Plain => 49 * 3 * output,
                ResStemKind::Deep => 9 * (3 * width + width * width + width * output),
                ResStemKind::DeepTiered => {
                    let first = width / 4 * 3;
                    9 * (3 * first + first * width + width * output)
                }
            };
        let (mut before, mut side) = (output, self.side(0));
        for (stage, (depth, channels)) in self.depths.iter().zip(self.channels).enumerate().take(stages) {
            let (positions, after) = (self.side(stage).pow(2), channels * self.block.expansion());
            for block in 0..*depth {
                total += match self.block {
                    ResBlockKind::Basic => positions * 9 * (before * channels + channels * channels),
                    ResBlockKind::Bottleneck => {
                        let inner = self.inner(channels);
                        side * side * before * inner + positions * (9 * inner * inner / self.groups + inner * after)
                    }
                };
                if block == 0 && (stage > 0 || before != after) {
                    total += positions * before * after;
                }
                (before, side) = (after, self.side(stage));
            }
        }
        total as u64
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> ResNet {
        let conv = |from, to, kernel, stride| self.conv([from, to], kernel, stride, 1, device);
        let (width, output) = (self.stem_width, self.stem_output());
        let deep = |first: usize| {
            Stem::Deep((
                conv(3, first, 3, 2),
                self.norm(first, device),
                ParameterlessLayer { stride: 1 },
                conv(first, width, 3, 1),
                self.norm(width, device),
                ParameterlessLayer { stride: 1 },
                conv(width, output, 3, 1),
            ))
        };
        let mut before = output;
        let mut stages = self.depths.iter().zip(self.channels).enumerate().map(|(stage, (depth, channels))| {
            let blocks = (0..*depth).map(|block| {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let made = self.block(before, channels, stride, device);
                before = channels * self.block.expansion();
                made
            });
            blocks.collect::<Vec<_>>()
        });
        let mut next = || stages.next().unwrap_or_default();
        let (layer1, layer2, layer3, layer4) = (next(), next(), next(), next());
        ResNet {
            conv1: match self.stem {
                ResStemKind::Plain => Stem::Plain(conv(3, output, 7, 2)),
                ResStemKind::Deep => deep(width),
                ResStemKind::DeepTiered => deep(width / 4 * 3),
            },
            bn1: self.norm(output, device),
            layer1,
            layer2,
            layer3,
            layer4,
            config: self.clone(),
        }
    }

    /// Builds a zero-padded convolution without bias.
    fn conv(&self, channels: [usize; 2], kernel: usize, stride: usize, groups: usize, device: &Device) -> Conv2d {
        let around = kernel / 2;
        Conv2dConfig::new(channels, [kernel, kernel])
            .with_stride([stride, stride])
            .with_groups(groups)
            .with_padding(PaddingConfig2d::Explicit(around, around, around, around))
            .with_bias(false)
            .init(device)
    }

    fn norm(&self, channels: usize, device: &Device) -> FrozenBatchNorm {
        FrozenBatchNorm::new(channels, self.norm_eps, device)
    }

    fn block(&self, before: usize, channels: usize, stride: usize, device: &Device) -> ResBlock {
        let after = channels * self.block.expansion();
        let conv = |channels, kernel, stride, groups| self.conv(channels, kernel, stride, groups, device);
        let (conv1, bn1, conv2, bn2, conv3) = match self.block {
            ResBlockKind::Basic => (
                conv([before, channels], 3, stride, 1),
                self.norm(channels, device),
                conv([channels, after], 3, 1, 1),
                self.norm(after, device),
                None,
            ),
            ResBlockKind::Bottleneck => {
                let inner = self.inner(channels);
                (
                    conv([before, inner], 1, 1, 1),
                    self.norm(inner, device),
                    conv([inner, inner], 3, stride, self.groups),
                    self.norm(inner, device),
                    Some(conv([inner, after], 1, 1, 1)),
                )
            }
        };
        let bn3 = conv3.is_some().then(|| self.norm(after, device));
        let downsample = (stride > 1 || before != after).then(|| match self.average_down {
            true => {
                let pool = ParameterlessLayer { stride };
                Shortcut::Average((pool, conv([before, after], 1, 1, 1), self.norm(after, device)))
            }
            false => Shortcut::Skip((conv([before, after], 1, stride, 1), self.norm(after, device))),
        });
        ResBlock { conv1, bn1, conv2, bn2, conv3, bn3, downsample }
    }
}

impl NetworkConfig for ResNetConfig {
    fn validate(&self) -> Result<()> {
        let numbers = [self.image_size, self.stem_width, self.groups, self.base_width];
        let positive = numbers.iter().chain(&self.depths).chain(&self.channels).all(|n| (1..=MAX_SIZE).contains(n));
        let stem = self.stem == ResStemKind::Plain || self.stem_width >= 4;
        let divides = self.channels.iter().all(|c| self.inner(*c) > 0);
        if !positive || !stem || !divides {
            return Err(Error::usage(format!(
                "invalid ResNet: image_size {}, depths {:?}, channels {:?}, stem_width {}, groups {}, base_width {}",
                self.image_size, self.depths, self.channels, self.stem_width, self.groups, self.base_width
            ))
            .hint("all must be positive and at most 65536, and a deep stem has at least 4 channels"));
        }
        if self.block == ResBlockKind::Basic && (self.groups != 1 || self.base_width != 64) {
            return Err(Error::usage("groups and base_width are for bottleneck blocks, but block = \"basic\"")
                .hint("remove groups and base_width"));
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
        tap.indices(self.depths.len(), "stage")?;
        Ok(TapSupport { final_norm: false, class_token: false })
    }

    fn tap_sides(&self, tap: &Tap) -> Result<Vec<usize>> {
        Ok(tap.indices(self.depths.len(), "stage")?.into_iter().map(|stage| self.side(stage)).collect())
    }

    fn tap_width(&self, tap: &Tap) -> Result<usize> {
        let stages = tap.indices(self.depths.len(), "stage")?;
        Ok(stages.into_iter().filter_map(|stage| self.width(stage)).sum())
    }

    fn tap_multiply_adds(&self, tap: &Tap) -> Result<u64> {
        Ok(self.multiply_adds(tap.deepest(self.depths.len(), "stage")? + 1))
    }

    fn pooled_width(&self) -> usize {
        self.width(3).unwrap_or_default()
    }

    fn norms_last_tokens(&self) -> bool {
        false
    }

    fn drop_path(&self) -> Option<DropPathSpec> {
        Some(DropPathSpec { rate: self.drop_path, blocks: self.depths.iter().sum(), branches: 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(block: ResBlockKind) -> ResNetConfig {
        toml::from_str(&format!(
            "image_size = 50\nblock = \"{}\"\ndepths = [1, 2, 1, 1]",
            match block {
                ResBlockKind::Basic => "basic",
                ResBlockKind::Bottleneck => "bottleneck",
            }
        ))
        .unwrap()
    }

    #[test]
    fn sides_are_rounded_up() {
        let config = config(ResBlockKind::Basic);
        assert_eq!((0..4).map(|stage| config.side(stage)).collect::<Vec<_>>(), [13, 7, 4, 2]);
        assert_eq!((0..4).map(|stage| config.width(stage)).collect::<Vec<_>>(), [64, 128, 256, 512].map(Some));
    }

    #[test]
    fn numbers_that_make_no_network_are_refused() {
        let plain = config(ResBlockKind::Bottleneck);
        assert!(plain.validate().is_ok());
        let say = |config: ResNetConfig| config.validate().unwrap_err().to_string();
        assert!(say(ResNetConfig { depths: [1, 0, 1, 1], ..plain.clone() }).contains("depths [1, 0, 1, 1]"));
        assert!(say(ResNetConfig { base_width: 0, ..plain.clone() }).contains("base_width 0"));
        assert!(
            say(ResNetConfig { stem: ResStemKind::DeepTiered, stem_width: 2, ..plain.clone() })
                .contains("stem_width 2")
        );
        assert!(say(ResNetConfig { drop_path: 1.0, ..plain.clone() }).contains("drop_path = 1"));
        assert!(say(ResNetConfig { groups: 2, ..config(ResBlockKind::Basic) }).contains("groups and base_width"));
    }
}
