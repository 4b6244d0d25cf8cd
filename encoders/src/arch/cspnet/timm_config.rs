//! Reads timm's `CspModelCfg`.

use super::{CspBlockKind, CspNetConfig, CspStageConfig, CspStageKind};
use crate::arch::parts::{ActivationKind, AntiAlias};
use serde::Deserialize;
use serde_json::Value;

/// timm's `CspModelCfg`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    stem: Stem,
    stages: Stages,
    act_layer: String,
    norm_layer: String,
    aa_layer: Option<String>,
    /// Concerns the initial weights.
    #[serde(rename = "zero_init_last")]
    _zero_init_last: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stem {
    out_chs: Channels,
    stride: usize,
    kernel_size: usize,
    padding: Value,
    pool: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Channels {
    One(usize),
    Several(Vec<usize>),
}

/// Every list has an entry per stage.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stages {
    depth: Vec<usize>,
    out_chs: Vec<usize>,
    stride: Vec<usize>,
    groups: Vec<usize>,
    block_ratio: Vec<f64>,
    bottle_ratio: Vec<f64>,
    avg_down: Vec<bool>,
    attn_layer: Vec<Option<String>>,
    attn_kwargs: Vec<Option<Squeeze>>,
    stage_type: Vec<String>,
    block_type: Vec<String>,
    expand_ratio: Vec<f64>,
    cross_linear: Vec<bool>,
    down_growth: Vec<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Squeeze {
    rd_ratio: f64,
}

/// Reads the configuration, without image size and drop path; `None` if a value is not supported.
pub(super) fn read(value: &Value) -> Option<CspNetConfig> {
    let Model { stem, stages, act_layer, norm_layer, aa_layer, .. } = Model::deserialize(value).ok()?;
    let filter = match aa_layer.as_deref() {
        None => None,
        Some("blurpool" | "BlurPool2d") => Some(AntiAlias::Blur),
        Some("avg" | "AvgPool2d") => Some(AntiAlias::Average),
        Some(_) => return None,
    };
    let stem_padding = match &stem.padding {
        Value::String(name) if name.is_empty() => None,
        number => Some(crate::json_values::integer(number)?),
    };
    if norm_layer != "batchnorm" || !["", "max"].contains(&stem.pool.as_str()) {
        return None;
    }
    Some(CspNetConfig {
        image_size: 0,
        stem: match stem.out_chs {
            Channels::One(width) => vec![width],
            Channels::Several(widths) => widths,
        },
        stem_kernel: stem.kernel_size,
        stem_stride: stem.stride,
        stem_padding,
        stem_pool: stem.pool == "max",
        stages: (0..stages.depth.len()).map(|i| stages.stage(i)).collect::<Option<_>>()?,
        activation: ActivationKind::TIMM.iter().find(|(name, _)| *name == act_layer)?.1,
        filter,
        drop_path: 0.0,
    })
}

impl Stages {
    fn stage(&self, i: usize) -> Option<CspStageConfig> {
        let ratio = self.attn_kwargs.get(i)?.as_ref().map(|squeeze| squeeze.rd_ratio);
        Some(CspStageConfig {
            kind: match self.stage_type.get(i)?.as_str() {
                "csp" => CspStageKind::Csp,
                "cs3" => CspStageKind::Cs3,
                "dark" => CspStageKind::Dark,
                _ => return None,
            },
            block: match self.block_type.get(i)?.as_str() {
                "bottle" => CspBlockKind::Bottle,
                "dark" => CspBlockKind::Dark,
                "edge" => CspBlockKind::Edge,
                _ => return None,
            },
            depth: *self.depth.get(i)?,
            width: *self.out_chs.get(i)?,
            stride: *self.stride.get(i)?,
            groups: *self.groups.get(i)?,
            block_ratio: *self.block_ratio.get(i)?,
            bottle_ratio: *self.bottle_ratio.get(i)?,
            expand_ratio: *self.expand_ratio.get(i)?,
            linear_split: *self.cross_linear.get(i)?,
            down_growth: *self.down_growth.get(i)?,
            average_down: *self.avg_down.get(i)?,
            squeeze: match self.attn_layer.get(i)?.as_deref() {
                None => None,
                Some("se") => Some(ratio.unwrap_or(1.0 / 16.0)),
                Some(_) => return None,
            },
        })
    }
}
