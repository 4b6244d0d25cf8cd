//! Hyper-parameters of a ResNet, their validation, and the construction of the network.

use super::super::drop_path::{self, DropPathSpec};
use super::super::fields::is_default;
use super::super::limits::MAX_SIZE;
use super::super::parts::{ActivationKind, AntiAlias, ChannelAttentionKind, ChannelGroups, NormActKind};
use super::super::staged::{LayerShape, StagedConfig};
use burgess_base::{Error, Result};
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

/// A layer that takes the place of a 3×3 convolution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ResBlockVariant {
    /// A cascade of convolutions over parts of the channels (Res2Net, Gao et al. 2019, arXiv:1904.01169), in
    /// bottlenecks.
    MultiScale {
        /// Number of parts.
        scale: usize,
    },
    /// Split attention (ResNeSt, Zhang et al. 2020, arXiv:2004.08955), in bottlenecks. Average pooling takes the place
    /// of its stride.
    Split {
        /// Number of convolutions that are weighted against each other.
        radix: usize,
        /// Whether the pooling comes before the convolution.
        pool_first: bool,
    },
    /// Selective kernels (Li et al. 2019, arXiv:1903.06586): a convolution and a dilated one, weighted against each
    /// other.
    Selective {
        /// Hidden channels of the attention divided by channels.
        ratio: f64,
        /// The hidden channels are rounded to a multiple of this number.
        divisor: usize,
        /// Whether each of the convolutions gets one half of the input channels.
        split_input: bool,
    },
}

/// The channels that are left after pruning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PrunedChannels {
    /// Output channels per stage.
    pub widths: [usize; 4],
    /// Output channels of the first and of the second convolution of each block, first to last.
    pub inner: Vec<[usize; 2]>,
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
    /// Kind of residual block per stage, where it is not `block` in all. Default `block`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage_blocks: Option<[ResBlockKind; 4]>,
    /// What takes the place of the 3×3 convolutions of bottlenecks, or of the first of basic blocks. Default nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<ResBlockVariant>,
    /// Channels of a network of bottlenecks from which channels were removed after training. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pruned: Option<PrunedChannels>,
    /// Channels of the 3×3 convolution (in a basic block those of the stage) divided by the output channels of a
    /// block's first convolution. Default 1; 2 in SENet-154.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub reduce_first: usize,
    /// Side of the kernel of strided convolutions in shortcuts, odd. Default 1; 3 in SENet-154.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub shortcut_kernel: usize,
    /// Whether a 3×3 convolution of stride 2 takes the place of the stem's pooling (ResNet-RS). Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub convolved_pool: bool,
    /// Channel attention at the end of each block's branch. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<ChannelAttentionKind>,
    /// Filter that takes the place of strides, except in the first convolution and in shortcuts. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anti_alias: Option<AntiAlias>,
    /// Activation of all layers. Default ReLU.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub activation: ActivationKind,
    /// Number of groups of group norms; batch norms if absent. Default absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm_groups: Option<usize>,
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

fn one() -> usize {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_one(value: &usize) -> bool {
    *value == one()
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
    /// A ResNet of ordinary blocks and the usual sizes.
    pub fn plain(image_size: usize, block: ResBlockKind, depths: [usize; 4]) -> Self {
        Self {
            image_size,
            block,
            depths,
            channels: default_channels(),
            stem: ResStemKind::Plain,
            stem_width: default_width(),
            groups: default_groups(),
            base_width: default_width(),
            average_down: false,
            stage_blocks: None,
            variant: None,
            pruned: None,
            reduce_first: one(),
            shortcut_kernel: one(),
            convolved_pool: false,
            attention: None,
            anti_alias: None,
            activation: ActivationKind::Relu,
            norm_groups: None,
            norm_eps: default_eps(),
            drop_path: 0.0,
        }
    }

    /// Kind of the blocks of each stage.
    pub(super) fn kinds(&self) -> [ResBlockKind; 4] {
        self.stage_blocks.unwrap_or([self.block; 4])
    }

    /// Channels of the 3×3 convolutions of bottlenecks in a stage of `channels`.
    pub(super) fn inner(&self, channels: usize) -> usize {
        channels * self.base_width / 64 * self.groups
    }

    /// Output channels of the stem.
    pub(super) fn stem_output(&self) -> usize {
        match self.stem {
            ResStemKind::Plain => 64,
            ResStemKind::Deep | ResStemKind::DeepTiered => 2 * self.stem_width,
        }
    }

    /// Output channels of a stage.
    pub(in crate::arch) fn width(&self, stage: usize) -> usize {
        let pruned = self.pruned.as_ref().and_then(|pruned| pruned.widths.get(stage));
        pruned.copied().unwrap_or_else(|| self.usual_width(stage))
    }

    /// Output channels of a stage before pruning.
    pub(super) fn usual_width(&self, stage: usize) -> usize {
        let channels = self.channels.get(stage).zip(self.kinds().get(stage).copied());
        channels.map_or(0, |(channels, kind)| channels * kind.expansion())
    }

    /// The kind of all norms.
    pub(super) fn norm_kind(&self) -> NormActKind {
        match self.norm_groups {
            None => NormActKind::Batch { eps: self.norm_eps },
            Some(count) => NormActKind::Group { groups: ChannelGroups::Count(count), eps: self.norm_eps },
        }
    }

    /// Checks that the groups of the norms divide the channels of all layers.
    fn check_norms(&self) -> Result<()> {
        let norm = self.norm_kind();
        norm.check(self.stem_output())?;
        if self.stem != ResStemKind::Plain {
            norm.check(self.stem_width)?;
        }
        self.channels.iter().enumerate().try_for_each(|(stage, channels)| {
            norm.check(self.width(stage))?;
            norm.check(if self.kinds()[stage] == ResBlockKind::Basic { *channels } else { self.inner(*channels) })
        })
    }
}

impl ResNetConfig {
    /// Checks the variant of the blocks, and the channels that are left after pruning.
    fn check_variant(&self) -> Result<()> {
        let kinds = self.kinds();
        let bottlenecks = kinds.iter().all(|kind| *kind == ResBlockKind::Bottleneck);
        let plain = self.reduce_first == 1 && self.anti_alias.is_none();
        let valid = match self.variant {
            None => true,
            Some(ResBlockVariant::MultiScale { scale }) => {
                bottlenecks && plain && (2..=64).contains(&scale) && self.drop_path == 0.0
            }
            Some(ResBlockVariant::Split { radix, .. }) => {
                let divides = self.channels.iter().all(|c| self.inner(*c).is_multiple_of(self.groups));
                let bare = self.attention.is_none() && self.drop_path == 0.0;
                bottlenecks && plain && bare && (1..=64).contains(&radix) && divides
            }
            Some(ResBlockVariant::Selective { ratio, divisor, .. }) => {
                plain && (1e-3..=1.0).contains(&ratio) && (1..=MAX_SIZE).contains(&divisor)
            }
        };
        if !valid {
            return Err(Error::usage(format!("invalid ResNet: variant {:?} of blocks {kinds:?}", self.variant)).hint(
                "multi-scale and split are variants of bottlenecks without drop path; no variant has reduce_first or \
                 anti_alias",
            ));
        }
        let Some(pruned) = &self.pruned else { return Ok(()) };
        let blocks = self.layer_count();
        let sizes = pruned.widths.iter().chain(pruned.inner.iter().flatten());
        let attention = matches!(self.attention, None | Some(ChannelAttentionKind::Efficient));
        if sizes.into_iter().any(|n| !(1..=MAX_SIZE).contains(n))
            || pruned.inner.len() != blocks
            || !(bottlenecks && plain && attention && self.groups == 1 && self.variant.is_none())
            || self.norm_groups.is_some()
        {
            return Err(Error::usage(format!("invalid ResNet: pruned = {pruned:?}")).hint(format!(
                "the {blocks} blocks are bottlenecks without groups, and each has two positive numbers"
            )));
        }
        Ok(())
    }
}

impl StagedConfig for ResNetConfig {
    fn check(&self) -> Result<()> {
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
        if self.kinds().contains(&ResBlockKind::Basic) && (self.groups != 1 || self.base_width != 64) {
            return Err(Error::usage("groups and base_width are for bottleneck blocks, but block = \"basic\"")
                .hint("remove groups and base_width"));
        }
        let kernel = self.shortcut_kernel % 2 == 1 && self.shortcut_kernel <= MAX_SIZE;
        let first = |channels: &usize| (1..=*channels).contains(&self.reduce_first);
        if !kernel || !self.channels.iter().all(first) {
            return Err(Error::usage(format!(
                "invalid ResNet: shortcut_kernel {}, reduce_first {}",
                self.shortcut_kernel, self.reduce_first
            ))
            .hint("the kernel is odd, and reduce_first is at most the channels of a stage"));
        }
        if self.convolved_pool && self.anti_alias.is_some() {
            return Err(Error::usage("convolved_pool and anti_alias exclude each other").hint("remove one of them"));
        }
        self.check_norms()?;
        self.check_variant()?;
        if let Some(filter) = self.anti_alias {
            let mut side = self.image_size.div_ceil(2);
            for stage in 0..4 {
                let half = filter.out_side(side);
                // The pooling of the stem has no shortcut beside it.
                if side < 2 || (stage > 0 && half != side.div_ceil(2)) {
                    return Err(Error::usage(format!(
                        "image_size = {} gives a map of side {side}, which anti_alias = {filter:?} cannot halve",
                        self.image_size
                    ))
                    .hint("use a multiple of 32"));
                }
                side = half;
            }
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
        self.init(&Device::flex()).shapes()
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
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
        let layers = config.layers();
        assert_eq!(layers.iter().map(|layer| layer.side).collect::<Vec<_>>(), [13, 7, 4, 2]);
        assert_eq!(layers.iter().map(|layer| layer.width).collect::<Vec<_>>(), [64, 128, 256, 512]);
    }

    #[test]
    fn numbers_that_make_no_network_are_refused() {
        let plain = config(ResBlockKind::Bottleneck);
        assert!(plain.check().is_ok());
        let say = |config: ResNetConfig| config.check().unwrap_err().to_string();
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
