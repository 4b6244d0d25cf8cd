//! ConvNeXt, ConvNeXt V2, DINOv3's ConvNeXt and ResNet of transformers.

use super::{Model, no_drop_path};
use crate::arch::{Activation, ConvNextConfig, NormKind, ResBlockKind, ResNetConfig, StemKind};
use crate::directory::config_values::integer;
use crate::directory::shapes::TensorShapes;
use burgess_base::{Error, Result};
use serde_json::Value;

/// The epsilon of all norms but the last, which `layer_norm_eps` does not change.
const INNER_EPS: f64 = 1e-6;

/// Describes a ConvNeXt. Its final norm is a part of the features only in DINOv3, where it has the epsilon of the
/// others.
pub(super) fn convnext(model: &Model, shapes: &TensorShapes, notes: &mut Vec<String>) -> Result<ConvNextConfig> {
    let final_norm = shapes.has("head.norm.weight") && !model.outer;
    if final_norm && model.norm_eps()? != INNER_EPS && model.vision.get("layer_norm_eps").is_some() {
        return Err(model.vision.unsupported("layer_norm_eps"));
    }
    let rate = model.drop_path()?;
    if rate > 0.0 {
        notes.push(no_drop_path(rate));
    }
    let response_norm = shapes.has("stages.0.blocks.0.mlp.grn.weight");
    Ok(ConvNextConfig {
        image_size: model.preprocess.size,
        stem: 4,
        stem_kind: StemKind::Patch,
        depths: four(model, "depths", [3, 3, 9, 3])?,
        dims: four(model, "hidden_sizes", [96, 192, 384, 768])?,
        kernels: [7; 4],
        layer_scale: if shapes.has("stages.0.blocks.0.gamma") { 1e-6 } else { 0.0 },
        response_norm,
        activation: match model.activation()? {
            Activation::QuickGelu => return Err(model.vision.unsupported("hidden_act")),
            activation => activation,
        },
        norm: NormKind::Layer,
        norm_eps: INNER_EPS,
        final_norm,
        norm_first: false,
        drop_path: 0.0,
    })
}

/// Describes a ResNet.
pub(super) fn resnet(model: &Model) -> Result<ResNetConfig> {
    if model.vision.read("hidden_act", Value::as_str)?.is_some_and(|act| act != "relu") {
        return Err(model.vision.unsupported("hidden_act"));
    }
    let block = match model.vision.read("layer_type", Value::as_str)?.unwrap_or("bottleneck") {
        "bottleneck" => ResBlockKind::Bottleneck,
        "basic" => ResBlockKind::Basic,
        _ => return Err(model.vision.unsupported("layer_type")),
    };
    let widths = four(model, "hidden_sizes", [256, 512, 1024, 2048])?;
    let expansion = if block == ResBlockKind::Bottleneck { 4 } else { 1 };
    if widths.iter().any(|width| width % expansion != 0) {
        return Err(model.vision.unsupported("hidden_sizes"));
    }
    Ok(ResNetConfig {
        channels: widths.map(|width| width / expansion),
        ..ResNetConfig::plain(model.preprocess.size, block, four(model, "depths", [3, 4, 6, 3])?)
    })
}

/// Reads four numbers, one per stage.
fn four(model: &Model, key: &str, default: [usize; 4]) -> Result<[usize; 4]> {
    let read = |list: &Value| list.as_array()?.iter().map(integer).collect::<Option<Vec<_>>>();
    match model.vision.read(key, read)? {
        None => Ok(default),
        Some(list) => list.try_into().map_err(|list: Vec<usize>| {
            Error::failed(format!("config.json: {key} has {} numbers, expected one for each of 4 stages", list.len()))
                .hint("write a card")
        }),
    }
}
