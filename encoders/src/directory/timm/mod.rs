//! Reads `config.json` of timm: the name of an architecture, `model_args` that override its arguments, and
//! `pretrained_cfg`.

mod convnext;
mod eva;
mod resnet;
mod sam;
mod vit;

use super::config_values::{IMAGENET, integer, interpolation, plain, three};
use super::derived::DerivedEncoder;
use super::shapes::TensorShapes;
use crate::arch::{ArchitectureConfig, Tap};
use crate::checkpoint::{self, Checkpoint, CheckpointPart, Dialect, ExpectedTensors};
use crate::preprocess::{Fit, Preprocess};
use crate::timm::{TimmArguments, TimmNetwork};
use burgess_base::{Context, Error, Result};
use burn::tensor::Device;
use serde_json::Value;

/// Derives the encoder from its configuration and the shapes of its tensors.
pub(super) fn derive(name: &str, config: &Value, weights: &Checkpoint) -> Result<DerivedEncoder> {
    let pretrained = config.get("pretrained_cfg").unwrap_or(config);
    let own = config.get("model_args").unwrap_or(&Value::Null);
    let mut notes = Vec::new();
    let input = input_size(pretrained, &mut notes)?;
    let model = model(name, own, pretrained, input)?;
    let size = model.config.image_size();
    if size != input {
        notes.push(format!(
            "the model has a fixed image size of {size} pixels, but pretrained_cfg.input_size is {input}"
        ));
    }
    let preprocess = preprocess(pretrained, size, &mut notes)?;
    notes.extend(model.note.clone());
    locate_model(weights, &model, |architecture, part| {
        let tap = Tap { norm: architecture.norms_last_tokens(), ..Tap::default() };
        let (preprocess, notes) = (preprocess.clone(), notes.clone());
        DerivedEncoder { family: name.into(), dialect: model.dialect, part, architecture, preprocess, tap, notes }
    })
}

/// Locates the model among the weights and completes its description with `finish`.
pub(super) fn locate_model(
    weights: &Checkpoint,
    model: &Model,
    finish: impl Fn(ArchitectureConfig, CheckpointPart) -> DerivedEncoder,
) -> Result<DerivedEncoder> {
    model.config.check_layers(weights.keys().count())?;
    let parameters = checkpoint::parameters(&model.config.init(&Device::flex())?)?;
    let mut parts = ExpectedTensors::new(&parameters, Dialect::find(model.dialect)?)?.parts(weights);
    if parts.is_empty() {
        parts.push(CheckpointPart::whole());
    }
    super::derived::locate(weights, parts, |part| {
        let shapes = TensorShapes::new(weights, model.dialect, part)?;
        Ok(finish(fit_to_weights(model.config.clone(), &shapes)?, part.clone()))
    })
}

/// A network, the dialect of timm's own files, and a note for the user.
pub(super) type Model = TimmNetwork<ArchitectureConfig>;

/// Describes the architecture `name` with the arguments `own`, for images of `input` pixels or its own fixed size.
pub(super) fn model(name: &str, own: &Value, pretrained: &Value, input: usize) -> Result<Model> {
    let is_read = |name: &str| model(name, &Value::Null, &Value::Null, input).is_ok();
    let mut arguments = TimmArguments::of(name, own, is_read)?;
    arguments.or("global_pool", pretrained.get("global_pool"));
    let dynamic = arguments.flag("dynamic_img_size", false)?;
    let made_for = arguments.side("img_size")?;
    let size = if dynamic { input } else { made_for.unwrap_or(input) };
    let found = ArchitectureConfig::from_timm(&mut arguments, size)?;
    let found = found.ok_or_else(|| {
        Error::failed(format!("timm's `{name}` is a {}, which is not supported", arguments.class)).hint("write a card")
    })?;
    arguments.done()?;
    found.config.validate()?;
    Ok(found)
}

/// Adjusts the architecture to the weights: the grid of the position embeddings, and no final norm if the weights have
/// none (ConvNeXt V2 of masked pretraining).
pub(super) fn fit_to_weights(
    mut architecture: ArchitectureConfig,
    shapes: &TensorShapes,
) -> Result<ArchitectureConfig> {
    if let ArchitectureConfig::Vit(config) = &mut architecture
        && config.absolute_positions
    {
        let side = shapes.position_grid(config.positioned_prefix())?;
        config.position_grid = Some(side).filter(|side| [*side; 2] != config.grid());
    }
    if let ArchitectureConfig::ConvNext(config) = &mut architecture {
        config.final_norm = shapes.has("norm_pre.weight") || shapes.has("head.norm.weight");
    }
    Ok(architecture)
}

/// Reads the side of the square images in `pretrained_cfg`, in pixels.
fn input_size(pretrained: &Value, notes: &mut Vec<String>) -> Result<usize> {
    match pretrained.get("input_size").filter(|v| !v.is_null()) {
        None => {
            notes.push("pretrained_cfg has no input_size: timm's default of 224 pixels is used".into());
            Ok(224)
        }
        Some(size) => match size.as_array().map(Vec::as_slice) {
            Some([channels, rows, columns]) if integer(channels) == Some(3) && rows == columns => integer(rows),
            _ => None,
        }
        .ok_or_else(|| Error::failed(format!("pretrained_cfg.input_size = {size} is not supported")))
        .map_err(|e| e.hint("set it to [3, side, side]")),
    }
}

/// Reads timm's evaluation transform. Its crop modes are equal for square images; for other images they differ.
fn preprocess(pretrained: &Value, size: usize, notes: &mut Vec<String>) -> Result<Preprocess> {
    let step = || "reading pretrained_cfg of config.json";
    let mut get = |key: &str, default: Value| {
        pretrained.get(key).filter(|v| !v.is_null()).cloned().unwrap_or_else(|| {
            notes.push(format!("pretrained_cfg has no {key}: timm's default {default} is used"));
            default
        })
    };
    let kernel = interpolation(&get("interpolation", "bicubic".into())).with_context(step)?;
    let crop = get("crop_pct", 0.875.into());
    let crop_pct =
        crop.as_f64().ok_or_else(|| Error::failed(format!("pretrained_cfg.crop_pct = {crop} is not a number")))?;
    let fit = match pretrained.get("crop_mode").filter(|v| !v.is_null()).map(|mode| (mode, mode.as_str())) {
        None | Some((_, Some("center"))) => Fit::Shortest,
        Some((_, Some("squash"))) => Fit::Squash,
        Some((_, Some("border"))) => Fit::Longest,
        Some((mode, _)) => {
            return Err(Error::failed(format!("pretrained_cfg.crop_mode = {mode} is not supported"))
                .hint("use center, squash or border"));
        }
    };
    let mut colour = |key: &str, default: [f32; 3]| match pretrained.get(key).filter(|v| !v.is_null()) {
        Some(_) => three(pretrained, key).with_context(step),
        None => {
            notes.push(format!("pretrained_cfg has no {key}: timm's default {default:?} is used"));
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
mod card_tests;
#[cfg(test)]
mod coverage_tests;
#[cfg(test)]
mod tests;
