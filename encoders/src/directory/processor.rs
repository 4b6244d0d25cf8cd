//! `preprocessor_config.json` of Hugging Face transformers.

use super::transformers::Kind;
use super::{Fixed, json, otherwise, plain, three, whole};
use crate::preprocess::{Interpolation, Preprocess};
use burgess_base::{Error, Result};
use serde_json::Value;
use std::path::Path;

const FILE: &str = "preprocessor_config.json";

/// What every processor of these models does.
const FIXED: &Fixed = &[
    ("do_flip_channel_order", "false"),
    ("do_normalize", "true"),
    ("do_rescale", "true"),
    ("do_resize", "true"),
    ("do_thumbnail", "false"),
    ("include_top", "false"),
    ("offset", "false"),
];

/// What the file in `dir` says for pictures of `own_size`; without one what the published models of this kind do, and a note
/// that says so.
pub(super) fn preprocess(
    dir: &Path,
    model_type: &str,
    kind: &Kind,
    own_size: usize,
) -> Result<(Preprocess, Vec<String>)> {
    let path = dir.join(FILE);
    if path.exists() {
        let read = || steps(&json(&path)?, own_size);
        return Ok((read().map_err(|e| e.context(format!("reading {FILE}")))?, Vec::new()));
    }
    let (interpolation, (mean, std)) = kind.pictures;
    let note = format!(
        "there is no {FILE}: pictures are brought to {own_size} pixels ({}) and normalised with mean {mean:?} and std {std:?}, as those of the published {model_type} models",
        match interpolation {
            Interpolation::Bilinear => "bilinear",
            Interpolation::Bicubic => "bicubic",
            Interpolation::Lanczos => "lanczos",
        }
    );
    Ok((plain(own_size, interpolation, mean, std), vec![note]))
}

fn steps(steps: &Value, own_size: usize) -> Result<Preprocess> {
    let get = |key: &str| steps.get(key).filter(|v| !v.is_null());
    let refused = |key: &str| Error::failed(format!("{key} = {} is not known", get(key).unwrap_or(&Value::Null)));
    if let Some(key) = otherwise(FIXED, get)? {
        return Err(refused(key).hint("such a preparation of pictures cannot be obeyed; write a card"));
    }
    let factor = get("rescale_factor").map(Value::as_f64);
    if factor.is_some_and(|f| f.is_none_or(|f| (f * 255.0 - 1.0).abs() > 1e-6)) {
        return Err(refused("rescale_factor").hint("expected 1 / 255"));
    }
    let sized = |key: &str| get(key).map(|value| edge(value).ok_or_else(|| refused(key))).transpose();
    let resize = sized("size")?.unwrap_or(own_size);
    let crops = get("do_center_crop").and_then(Value::as_bool).unwrap_or(false);
    let size = if crops { sized("crop_size")?.unwrap_or(resize) } else { resize };
    let interpolation = match get("resample").map(Value::as_u64) {
        // Pillow's numbers for its filters.
        Some(Some(2)) => Interpolation::Bilinear,
        Some(Some(3)) => Interpolation::Bicubic,
        Some(_) => return Err(refused("resample").hint("known: 2 (bilinear), 3 (bicubic)")),
        None => {
            return Err(Error::failed("there is no `resample`").hint("expected 2 (bilinear) or 3 (bicubic)"));
        }
    };
    let (mean, std) = (three(steps, "image_mean")?, three(steps, "image_std")?);
    if size > resize {
        return Err(Error::failed(format!("pictures of {resize} pixels are cropped to {size}"))
            .hint("crop_size must not exceed size"));
    }
    Ok(Preprocess { crop_pct: share(size, resize), ..plain(size, interpolation, mean, std) })
}

/// The side of a square picture brought to this size.
fn edge(value: &Value) -> Option<usize> {
    let of = |key: &str| value.get(key).and_then(whole);
    match (whole(value), of("height"), of("width")) {
        (Some(side), ..) => Some(side),
        (None, Some(height), Some(width)) => Some(height).filter(|_| height == width),
        _ => of("shortest_edge").or_else(|| of("longest_edge")),
    }
}

/// `part / whole`, so that `part` divided by it is not rounded to less than `whole`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn share(part: usize, whole: usize) -> f64 {
    let share = part as f64 / whole as f64;
    if ((part as f64 / share) as usize) < whole { share.next_down() } else { share }
}
