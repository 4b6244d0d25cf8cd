//! Hyper-parameters of GhostNets, their validation, and the construction of the network.

use super::GhostNet;
use super::modules::{GhostBlock, GhostStage, PointwiseAct};
use crate::arch::parts::{ConvSpec, FrozenBatchNorm, Trace, divisible, positive};
use crate::arch::staged::{LayerShape, StagedConfig};
use crate::json_values::integer;
use crate::timm::{IGNORED, TimmArguments, TimmModel, TimmNetwork};
use burgess_base::{Error, Result};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of a GhostNet, which determines its modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum GhostVersion {
    /// GhostNet: half of the channels come from a depthwise convolution of the other half.
    #[default]
    V1,
    /// GhostNetV2: from the third block on, a gate of long-range convolutions scales the expansion.
    V2,
    /// GhostNetV3: as V2, with parallel branches in every convolution.
    V3,
    /// RepGhost: the depthwise convolution is added to its input, and not concatenated with it.
    Rep,
}

/// Hyper-parameters of one block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GhostBlockConfig {
    /// Side of the depthwise kernels.
    pub kernel: usize,
    /// Channels after the expansion.
    pub hidden: usize,
    /// Output channels.
    pub channels: usize,
    /// Channels inside squeeze-and-excitation; 0 for none. Default 0.
    #[serde(default)]
    pub squeezed: usize,
    /// Stride, 1 or 2. Default 1.
    #[serde(default = "one")]
    pub stride: usize,
}

fn one() -> usize {
    1
}

/// Hyper-parameters of a GhostNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct GhostNetConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Version. Default V1.
    #[serde(default)]
    pub version: GhostVersion,
    /// Output channels of the stem, a convolution of stride 2.
    pub stem_channels: usize,
    /// The blocks of each stage.
    pub stages: Vec<Vec<GhostBlockConfig>>,
    /// Channels of the pointwise convolution after the last stage.
    pub head_channels: usize,
}

impl GhostNetConfig {
    /// Whether blocks have gates, which halve the grid of their input once more.
    pub(super) fn has_gates(&self) -> bool {
        matches!(self.version, GhostVersion::V2 | GhostVersion::V3)
    }

    /// Whether the output of stage `index` is a layer: its last block halves the grid, or it is the last convolution.
    pub(super) fn ends_layer(&self, index: usize) -> bool {
        self.stages.get(index).is_none_or(|stage| stage.last().is_some_and(|block| block.stride > 1))
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> GhostNet {
        let mut before = self.stem_channels;
        let mut count = 0;
        let mut blocks: Vec<GhostStage> = Vec::with_capacity(self.stages.len() + 1);
        for stage in &self.stages {
            let mut built = Vec::with_capacity(stage.len());
            for block in stage {
                // The first two blocks of all versions have no gate.
                built.push(GhostBlock::new(block, before, self.version, count > 1, device));
                before = block.channels;
                count += 1;
            }
            blocks.push(GhostStage::Blocks(built));
        }
        blocks.push(GhostStage::Last(vec![PointwiseAct::new(
            ConvSpec::new(before, self.head_channels, 1).bias(false),
            device,
        )]));
        GhostNet {
            conv_stem: ConvSpec::new(3, self.stem_channels, 3).stride(2).bias(false).init(device),
            bn1: FrozenBatchNorm::new(self.stem_channels, 1e-5, device),
            blocks,
            config: self.clone(),
        }
    }
}

impl StagedConfig for GhostNetConfig {
    fn check(&self) -> Result<()> {
        let name = "GhostNet";
        positive(
            name,
            "image_size, stem_channels and head_channels",
            &[self.image_size, self.stem_channels, self.head_channels],
        )?;
        let blocks = || self.stages.iter().flatten();
        for block in blocks() {
            positive(name, "kernel, hidden and channels", &[block.kernel, block.hidden, block.channels])?;
        }
        let invalid = blocks().find(|b| !(1..=2).contains(&b.stride) || b.kernel % 2 == 0 || b.squeezed > b.hidden);
        if let Some(block) = invalid {
            return Err(Error::usage(format!("invalid block of a {name}: {block:?}"))
                .hint("strides are 1 or 2, kernels odd, and squeezed at most hidden"));
        }
        if self.stages.is_empty() || self.stages.iter().any(Vec::is_empty) {
            return Err(Error::usage(format!("a {name} needs stages, and every stage a block")));
        }
        let side = self.layers().last().map_or(0, |layer| layer.side);
        if self.has_gates() && side < 2 {
            return Err(Error::usage(format!("image_size = {} is too small for this {name}", self.image_size))
                .hint("the last stage needs a grid of 2×2 or more"));
        }
        Ok(())
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.stages.iter().map(Vec::len).sum()
    }

    fn layers(&self) -> Vec<LayerShape> {
        self.init(&Device::flex()).trace(Trace::image(self.image_size)).layers()
    }
}

/// A block in timm's list: kernel, expanded channels, output channels, squeeze ratio, stride.
type Row = (usize, usize, usize, f64, usize);

/// Reads timm's list of blocks, stage by stage.
fn rows(value: &Value) -> Option<Vec<Vec<Row>>> {
    let row = |row: &Value| match row.as_array()?.as_slice() {
        [kernel, hidden, channels, squeeze, stride] => {
            let squeeze = if squeeze.is_null() { 0.0 } else { squeeze.as_f64()? };
            Some((integer(kernel)?, integer(hidden)?, integer(channels)?, squeeze, integer(stride)?))
        }
        _ => None,
    };
    value.as_array()?.iter().map(|stage| stage.as_array()?.iter().map(row).collect()).collect()
}

impl TimmModel for GhostNetConfig {
    const CLASSES: &'static [&'static str] = &["GhostNet", "RepGhostNet"];

    fn from_timm(arguments: &mut TimmArguments, image_size: usize) -> Result<TimmNetwork<Self>> {
        let rep = arguments.class == "RepGhostNet";
        arguments.only(&[("in_chans", "3"), ("output_stride", "32"), ("reparam", "true")])?;
        arguments.without(IGNORED);
        arguments.without(&["global_pool"]);
        let versions = [("v1", GhostVersion::V1), ("v2", GhostVersion::V2), ("v3", GhostVersion::V3)];
        let version = if rep { GhostVersion::Rep } else { arguments.one_of("version", "v1", &versions)? };
        let width = arguments.real("width")?.unwrap_or(1.0);
        let rows = arguments.read("cfgs", rows)?.unwrap_or_default();
        let scaled = |channels: usize| divisible(channels as f64 * width, 4);
        let stage = |stage: &Vec<Row>| {
            let block = |(kernel, hidden, channels, squeeze, stride): &Row| {
                let hidden = scaled(*hidden);
                let squeezed = if *squeeze > 0.0 { divisible(hidden as f64 * squeeze, 4) } else { 0 };
                GhostBlockConfig { kernel: *kernel, hidden, channels: scaled(*channels), squeezed, stride: *stride }
            };
            stage.iter().map(block).collect()
        };
        let last = rows.iter().flatten().last().map_or(0, |(_, hidden, ..)| *hidden) as f64;
        Ok(TimmNetwork::new(Self {
            image_size,
            version,
            stem_channels: scaled(16),
            stages: rows.iter().map(stage).collect(),
            head_channels: divisible(last * width * if rep { 2.0 } else { 1.0 }, 4),
        })
        .with_dialect("timm-pooled-head"))
    }
}
