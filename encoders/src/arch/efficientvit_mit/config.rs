//! Hyper-parameters of EfficientViTs, their validation, and the construction of the network.

use super::blocks::{BlockSpec, MitBlock, MitConv, Residual};
use super::{EfficientVitMit, MitStage, MitStem};
use crate::arch::parts::{ActivationKind, ConvSpec, Trace, divides, per_stage, positive};
use crate::arch::staged::{LayerShape, StagedConfig};
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// Hyper-parameters of an EfficientViT of MIT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EfficientVitMitConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Channels of the stem and of each stage.
    pub channels: Vec<usize>,
    /// Number of residual blocks of the stem, 0 or 1, and of each stage.
    pub depths: Vec<usize>,
    /// Whether this is a large model: its first stages have full convolutions in place of depthwise ones, and linear
    /// attention begins at the fourth stage and not at the third. Default false.
    #[serde(default)]
    pub large: bool,
    /// Channels per attention head. Default 32.
    #[serde(default = "default_head")]
    pub head_dim: usize,
    /// Hidden channels of inverted residual blocks divided by input channels; large models have fixed ratios. Default
    /// 4.
    #[serde(default = "default_ratio")]
    pub expand_ratio: usize,
    /// Activation. Default hard-swish.
    #[serde(default = "default_activation")]
    pub activation: ActivationKind,
    /// Epsilon added to the variance in every norm. Default 1e-5.
    #[serde(default = "default_eps")]
    pub norm_eps: f64,
}

fn default_head() -> usize {
    32
}

fn default_ratio() -> usize {
    4
}

fn default_activation() -> ActivationKind {
    ActivationKind::HardSwish
}

fn default_eps() -> f64 {
    1e-5
}

impl EfficientVitMitConfig {
    /// The first stage with linear attention.
    fn first_attention(&self) -> usize {
        if self.large { 3 } else { 2 }
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> EfficientVitMit {
        let first = self.channels.first().copied().unwrap_or_default();
        let stem_block = BlockSpec { expand_ratio: 1, dense: self.large, ..self.spec(first, first) };
        let mut before = first;
        let stages = self.channels.iter().zip(&self.depths).skip(1).enumerate().map(|(stage, (channels, depth))| {
            let blocks = self.stage(stage, before, *channels, *depth, device);
            before = *channels;
            MitStage { blocks }
        });
        EfficientVitMit {
            stages: stages.collect(),
            stem: MitStem {
                in_conv: MitConv::new(
                    ConvSpec::new(3, first, 3).stride(2).bias(false),
                    Some(self.norm_eps),
                    self.activation,
                    device,
                ),
                res0: self.depths.first().is_some_and(|n| *n > 0).then(|| Residual::new(&stem_block, true, device)),
            },
            config: self.clone(),
        }
    }

    fn spec(&self, from: usize, to: usize) -> BlockSpec {
        BlockSpec {
            from,
            to,
            stride: 1,
            expand_ratio: self.expand_ratio,
            dense: false,
            fewer_norms: false,
            activation: self.activation,
            norm_eps: self.norm_eps,
        }
    }

    fn stage(&self, stage: usize, from: usize, to: usize, depth: usize, device: &Device) -> Vec<MitBlock> {
        let attention = stage >= self.first_attention();
        // From the third stage on, a large model is built of inverted residual blocks with fewer norms.
        let late = self.large && stage >= 2;
        let first_ratio = match (self.large, attention) {
            (false, _) => self.expand_ratio,
            (true, false) => 16,
            (true, true) => 24,
        };
        let dense = self.large && !late;
        let fewer_norms = attention || late;
        let first = BlockSpec { stride: 2, expand_ratio: first_ratio, dense, fewer_norms, ..self.spec(from, to) };
        let mut blocks = vec![MitBlock::Local(Residual::new(&first, false, device))];
        if attention {
            let ratio = if self.large { 6 } else { self.expand_ratio };
            let spec = BlockSpec { expand_ratio: ratio, fewer_norms: true, ..self.spec(to, to) };
            blocks.extend((0..depth).map(|_| MitBlock::attention(&spec, self.head_dim, device)));
        } else {
            let ratio = if self.large { 4 } else { self.expand_ratio };
            let spec = BlockSpec { expand_ratio: ratio, dense, fewer_norms, ..self.spec(to, to) };
            // The first block of a stage counts in small models only.
            let more = if self.large { depth } else { depth - 1 };
            blocks.extend((0..more).map(|_| MitBlock::Local(Residual::new(&spec, true, device))));
        }
        blocks
    }
}

impl StagedConfig for EfficientVitMitConfig {
    fn check(&self) -> Result<()> {
        let name = "EfficientViT";
        let count = self.channels.len();
        per_stage(name, "channels and depths", count, &[count, self.depths.len()])?;
        let numbers = [self.image_size, self.head_dim, self.expand_ratio];
        positive(name, "image_size, head_dim and expand_ratio", &numbers)?;
        positive(name, "channels", &self.channels)?;
        positive(name, "depths of the stages", self.depths.get(1..).unwrap_or_default())?;
        if count < 2 || self.depths.first().is_some_and(|depth| *depth > 1) {
            return Err(Error::usage(format!("invalid {name}: depths are {:?}", self.depths))
                .hint("the first is that of the stem, 0 or 1, and at least one stage follows"));
        }
        let attended = self.channels.iter().skip(1 + self.first_attention());
        attended.into_iter().try_for_each(|channels| divides(name, "head_dim", *channels, self.head_dim))
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.depths.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    fn layers(&self) -> Vec<LayerShape> {
        self.init(&Device::flex()).trace(Trace::image(self.image_size)).layers()
    }
}

impl TimmModel for EfficientVitMitConfig {
    const CLASSES: &'static [&'static str] = &["EfficientVit", "EfficientVitLarge"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        let large = arguments.class == "EfficientVitLarge";
        arguments.only(&[("in_chans", "3"), ("norm_layer", "\"BatchNorm2d\"")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool", "head_widths"]);
        let usual = if large { ActivationKind::GeluTanh } else { ActivationKind::HardSwish };
        Ok(TimmNetwork::new(Self {
            image_size,
            channels: arguments.numbers("widths")?.unwrap_or_default(),
            depths: arguments.numbers("depths")?.unwrap_or_default(),
            large,
            head_dim: arguments.number("head_dim", 32)?,
            expand_ratio: if large { 4 } else { arguments.number("expand_ratio", 4)? },
            activation: arguments.activation("act_layer", usual)?,
            norm_eps: if large { arguments.real("norm_eps")?.unwrap_or(1e-7) } else { 1e-5 },
        }))
    }
}
