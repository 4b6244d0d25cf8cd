//! `config.json` of timm.

use super::shapes::Shapes;
use super::{Found, plain, three};
use crate::arch::{Activation, ArchitectureConfig, Tap};
use crate::checkpoint::Checkpoint;
use crate::preprocess::{Interpolation, Preprocess};
use burgess_base::{Error, Result};
use serde_json::Value;

/// timm's configuration: the name of an architecture, arguments that differ from it, and `pretrained_cfg`.
pub(super) fn found(name: &str, config: &Value, weights: &Checkpoint) -> Result<Found> {
    let pretrained = config.get("pretrained_cfg").unwrap_or(config);
    let arguments = config.get("model_args").unwrap_or(&Value::Null);
    let side = pretrained.get("input_size").and_then(|s| s.get(1)).and_then(Value::as_u64);
    let side = side.ok_or_else(|| Error::failed("config.json has no pretrained_cfg.input_size"))? as usize;
    let three = |key: &str| three(pretrained, key).map_err(|e| e.context("reading pretrained_cfg of config.json"));
    let crop = pretrained.get("crop_pct").and_then(Value::as_f64).unwrap_or(0.875);
    let squashes = pretrained.get("crop_mode").and_then(Value::as_str) == Some("squash");
    let preprocess = Preprocess {
        interpolation: match pretrained.get("interpolation").and_then(Value::as_str) {
            Some("bilinear") => Interpolation::Bilinear,
            _ => Interpolation::Bicubic,
        },
        crop_pct: if squashes { 1.0 } else { crop },
        ..plain(side, three("mean")?, three("std")?)
    };
    let dialect = "timm";
    let shapes = Shapes::new(weights, dialect)?;
    let architecture = if name.starts_with("convnext") {
        let mut convnext = shapes.convnext(side)?;
        convnext.norm_eps = if name.starts_with("convnext_xxlarge") { 1e-5 } else { 1e-6 };
        ArchitectureConfig::ConvNext(convnext)
    } else if name.starts_with("vit_") || name.starts_with("deit") {
        let mut vit = shapes.vit(side)?;
        let heads = arguments.get("num_heads").and_then(Value::as_u64).map(|n| n as usize);
        // timm's plain transformers have heads of 64 channels up to ViT-L, and 16 heads beyond; DINOv2-giant has 24.
        let usual = match vit.width {
            width @ (0..=1024 | 1536) => width / 64,
            _ => 16,
        };
        vit.heads = heads.unwrap_or(usual);
        vit.activation = match vit.activation {
            Activation::Swiglu => Activation::Swiglu,
            _ if name.contains("quickgelu") => Activation::QuickGelu,
            plain => plain,
        };
        vit.norm_eps = if name.contains("clip") { 1e-5 } else { 1e-6 };
        ArchitectureConfig::Vit(vit)
    } else {
        return Err(Error::failed(format!("config.json is of timm's `{name}`"))
            .hint("of timm, vit_*, deit* and convnext* can be read without a card"));
    };
    let norm = matches!(&architecture, ArchitectureConfig::Vit(c) if c.final_norm);
    let tap = Tap { norm, ..Tap::default() };
    Ok(Found { family: name.into(), dialect, prefix: None, architecture, preprocess, tap })
}
