//! `config.json` of timm: the name of an architecture, `model_args` that override its arguments, and `pretrained_cfg`.

mod arguments;
mod convnext;
mod eva;
mod resnet;
mod sam;
mod vit;

pub(super) use vit::times;

use super::shapes::TensorShapes;
use super::{Found, IMAGENET, interpolation, plain, three, whole};
use crate::arch::{ArchitectureConfig, Tap};
use crate::checkpoint::{self, Checkpoint, CheckpointPart, Dialect, ExpectedTensors};
use crate::preprocess::{Fit, Preprocess};
use arguments::Arguments;
use burgess_base::{Context, Error, Result};
use burn::tensor::Device;
use serde_json::Value;

/// Describes a model without its weights.
pub(super) fn found(name: &str, config: &Value, weights: &Checkpoint) -> Result<Found> {
    let pretrained = config.get("pretrained_cfg").unwrap_or(config);
    let own = config.get("model_args").unwrap_or(&Value::Null);
    let mut notes = Vec::new();
    let input = input_size(pretrained, &mut notes)?;
    let model = model(name, own, pretrained, input)?;
    let size = model.architecture.image_size();
    if size != input {
        notes.push(format!("the model takes images of {size} pixels, though pretrained_cfg.input_size is {input}"));
    }
    let preprocess = preprocess(pretrained, size, &mut notes)?;
    notes.extend(model.note.clone());
    at_its_place(weights, &model, |architecture, place| {
        let tap = Tap { norm: architecture.norms_last_tokens(), ..Tap::default() };
        let (preprocess, notes) = (preprocess.clone(), notes.clone());
        Found { family: name.into(), dialect: model.dialect, place, architecture, preprocess, tap, notes }
    })
}

/// Locates the model among the weights and completes its description with `finish`.
pub(super) fn at_its_place(
    weights: &Checkpoint,
    model: &Model,
    finish: impl Fn(ArchitectureConfig, CheckpointPart) -> Found,
) -> Result<Found> {
    model.architecture.check_layers(weights.keys().count())?;
    let parameters = checkpoint::parameters(&model.architecture.init(&Device::flex())?)?;
    let mut places = ExpectedTensors::new(&parameters, Dialect::find(model.dialect)?)?.parts(weights);
    if places.is_empty() {
        places.push(CheckpointPart::whole());
    }
    super::placed(weights, places, |place| {
        let shapes = TensorShapes::new(weights, model.dialect, place)?;
        Ok(finish(placed(model.architecture.clone(), &shapes)?, place.clone()))
    })
}

/// A network and the dialect of its weights.
pub(super) struct Model {
    /// Dialect of timm's own files.
    pub dialect: &'static str,
    /// The architecture; its position embeddings are for its own image size.
    pub architecture: ArchitectureConfig,
    /// A note for the user.
    pub note: Option<String>,
}

/// Describes the architecture `name` with the arguments `own`, for images of `input` pixels or its own fixed size.
pub(super) fn model(name: &str, own: &Value, pretrained: &Value, input: usize) -> Result<Model> {
    let mut arguments = Arguments::of(name, own)?;
    arguments.or("global_pool", pretrained.get("global_pool"));
    let dynamic = arguments.flag("dynamic_img_size", false)?;
    let made_for = arguments.side("img_size")?;
    let size = if dynamic { input } else { made_for.unwrap_or(input) };
    let mut note = None;
    let (dialect, architecture) = match arguments.class {
        "VisionTransformer" => {
            let config = vit::config(&mut arguments, size, false)?;
            let (config, unplaced) = vit::without_positions(config);
            note = unplaced.then(|| {
                "pos_embed is none: class token and registers are left out, as in timm 1.0.20 (later versions add them)".into()
            });
            (if unplaced { "timm-without-positions" } else { "timm" }, ArchitectureConfig::Vit(config))
        }
        "VisionTransformerDistilled" => ("timm", ArchitectureConfig::Vit(vit::config(&mut arguments, size, true)?)),
        "Eva" => {
            let (dialect, config) = eva::eva(&mut arguments, size)?;
            (dialect, ArchitectureConfig::Vit(config))
        }
        "Beit" => {
            let (dialect, config) = eva::beit(&mut arguments, size)?;
            (dialect, ArchitectureConfig::Vit(config))
        }
        "VisionTransformerSAM" => ("timm", ArchitectureConfig::Sam(sam::config(&mut arguments, size)?)),
        "ConvNeXt" => {
            let (dialect, config) = convnext::config(&mut arguments, size)?;
            (dialect, ArchitectureConfig::ConvNext(config))
        }
        "ResNet" => ("timm-resnet", ArchitectureConfig::ResNet(resnet::config(&mut arguments, size)?)),
        other => {
            return Err(Error::failed(format!("timm's `{name}` is a {other}, which cannot be read without a card"))
                .hint("write a card"));
        }
    };
    arguments.done()?;
    architecture.validate()?;
    Ok(Model { dialect, architecture, note })
}

/// Adjusts the network to the weights: the grid of their position embeddings, and no final norm if they lack it
/// (ConvNeXt V2 of masked pretraining).
pub(super) fn placed(mut architecture: ArchitectureConfig, shapes: &TensorShapes) -> Result<ArchitectureConfig> {
    if let ArchitectureConfig::Vit(config) = &mut architecture
        && config.absolute_positions
    {
        let side = shapes.position_grid(config.placed_prefix())?;
        config.position_grid = Some(side).filter(|side| [*side; 2] != config.grid());
    }
    if let ArchitectureConfig::ConvNext(config) = &mut architecture {
        config.final_norm = shapes.has("norm_pre.weight") || shapes.has("head.norm.weight");
    }
    Ok(architecture)
}

/// Side of the square images of `pretrained_cfg`, in pixels.
fn input_size(pretrained: &Value, notes: &mut Vec<String>) -> Result<usize> {
    match pretrained.get("input_size").filter(|v| !v.is_null()) {
        None => {
            notes.push("pretrained_cfg has no input_size: 224 pixels, timm's default, are taken".into());
            Ok(224)
        }
        Some(size) => match size.as_array().map(Vec::as_slice) {
            Some([channels, rows, columns]) if whole(channels) == Some(3) && rows == columns => whole(rows),
            _ => None,
        }
        .ok_or_else(|| Error::failed(format!("pretrained_cfg.input_size = {size} is not known")))
        .map_err(|e| e.hint("expected [3, side, side]")),
    }
}

/// Reads timm's evaluation transform. On a square image its crop modes are equal; they differ on other images.
fn preprocess(pretrained: &Value, size: usize, notes: &mut Vec<String>) -> Result<Preprocess> {
    let step = || "reading pretrained_cfg of config.json";
    let mut get = |key: &str, default: Value| {
        pretrained.get(key).filter(|v| !v.is_null()).cloned().unwrap_or_else(|| {
            notes.push(format!("pretrained_cfg has no {key}: {default}, timm's default, is taken"));
            default
        })
    };
    let kernel = interpolation(&get("interpolation", "bicubic".into())).with_context(step)?;
    let crop = get("crop_pct", 0.875.into());
    let crop_pct =
        crop.as_f64().ok_or_else(|| Error::failed(format!("pretrained_cfg.crop_pct = {crop} is no number")))?;
    let fit = match pretrained.get("crop_mode").filter(|v| !v.is_null()).map(|mode| (mode, mode.as_str())) {
        None | Some((_, Some("center"))) => Fit::Shortest,
        Some((_, Some("squash"))) => Fit::Squash,
        Some((_, Some("border"))) => Fit::Longest,
        Some((mode, _)) => {
            return Err(Error::failed(format!("pretrained_cfg.crop_mode = {mode} is not known"))
                .hint("known: center, squash, border"));
        }
    };
    let mut colour = |key: &str, default: [f32; 3]| match pretrained.get(key).filter(|v| !v.is_null()) {
        Some(_) => three(pretrained, key).with_context(step),
        None => {
            notes.push(format!("pretrained_cfg has no {key}: {default:?}, timm's default, is taken"));
            Ok(default)
        }
    };
    let (mean, std) = (colour("mean", IMAGENET.0)?, colour("std", IMAGENET.1)?);
    let plain = plain(size, kernel, mean, std);
    // timm rounds its padding colour and does not truncate it.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let pad = if fit == Fit::Longest { mean.map(|m| (m * 255.0).round_ties_even() as u8) } else { plain.pad };
    Ok(Preprocess { crop_pct, library: Some(fit), pad, ..plain })
}

#[cfg(test)]
mod convnet_tests;
#[cfg(test)]
mod tests;
