//! Reads the settings of image processors that keep the aspect ratio: `Siglip2ImageProcessor`, `Qwen2VLImageProcessor`,
//! `Kimi_K25ImageProcessor` and Moonshot's own; and of `VJEPA2VideoProcessor`, which crops a square.

use super::config_values::{ChannelStats, integer, json, plain};
use super::processor::{self, IGNORED};
use crate::preprocess::{Fit, Interpolation, NativeResize, Preprocess};
use burgess_base::{Error, Result};
use serde_json::{Value, json};
use std::path::Path;

/// The preprocessing of the published models of a family.
#[derive(Debug, Clone, Copy)]
pub(super) struct NativeDefaults {
    pub rule: NativeResize,
    pub interpolation: Interpolation,
    pub colours: ChannelStats,
    /// Beginnings of the names of the family's processor classes.
    pub classes: &'static [&'static str],
}

/// Keys that are supported.
const SUPPORTED: [&str; 22] = [
    "crop_size",
    "do_center_crop",
    "do_normalize",
    "do_rescale",
    "do_resize",
    "image_mean",
    "image_std",
    "in_patch_limit",
    "in_token_limit",
    "max_num_patches",
    "max_patches",
    "max_pixels",
    "merge_kernel_size",
    "merge_size",
    "min_pixels",
    "patch_limit_on_one_side",
    "patch_size",
    "resample",
    "rescale_factor",
    "size",
    "temporal_patch_size",
    "video_processor_type",
];

/// Keys that do not affect the pixels of an image.
const HARMLESS: [&str; 11] = [
    "config_hash",
    "in_patch_limit_each_frame",
    "in_patch_limit_video",
    "max_num_frames_each_video",
    "num_pooled_tokens",
    "pad_input",
    "return_metadata",
    "sample_fps",
    "temporal_merge_kernel_size",
    "timestamp_mode",
    "video_processor_type",
];

/// Sides of the typical square image, in units of the rule.
const TYPICAL: usize = 16;

/// Reads the settings in `dir` for a tower with `[patch, merge]`; if there are none, those of the published models
/// apply, and a note says so. `square` is the side of the square images of a tower that does not keep the aspect ratio.
pub(super) fn preprocess(
    dir: &Path,
    model_type: &str,
    defaults: &NativeDefaults,
    [patch, merge]: [usize; 2],
    square: Option<usize>,
) -> Result<(Preprocess, Vec<String>)> {
    const VIDEO: &str = "video_preprocessor_config.json";
    let mut notes = Vec::new();
    let video = dir.join(VIDEO);
    let found = match square {
        Some(_) if video.exists() => Some((VIDEO, json(&video)?)),
        _ => processor::table(dir, &mut notes)?,
    };
    let (file, mut table) = found.unwrap_or_else(|| {
        notes.push(format!(
            "there are no image processor settings: those of the published {model_type} models are used"
        ));
        ("(none)", json!({}))
    });
    // Moonshot's processors nest their settings.
    if let Some(inner) = table.get("media_proc_cfg").filter(|inner| inner.is_object()).cloned() {
        table = inner;
    }
    let settings = Settings { file, table: &table, defaults };
    let read = || settings.read([patch, merge], square);
    Ok((read().map_err(|e: Error| e.context(format!("reading {file}")))?, notes))
}

struct Settings<'a> {
    file: &'static str,
    table: &'a Value,
    defaults: &'a NativeDefaults,
}

impl Settings<'_> {
    fn said(&self, key: &str) -> Option<&Value> {
        self.table.get(key).filter(|value| !value.is_null())
    }

    fn unsupported(&self, key: &str, hint: &str) -> Error {
        let value = self.table.get(key).unwrap_or(&Value::Null);
        Error::failed(format!("{key} = {value} in {} is not supported", self.file)).hint(hint.to_string())
    }

    /// Reads a number at the first of `keys` that is there.
    fn number(&self, keys: &[&str], default: usize) -> Result<usize> {
        for key in keys {
            if let Some(value) = self.said(key) {
                let first = value.as_array().and_then(|list| list.first()).unwrap_or(value);
                return integer(first).filter(|n| *n > 0).ok_or_else(|| self.unsupported(key, "set it to a number"));
            }
        }
        Ok(default)
    }

    /// Reads the number at `inner` of the object at `key`.
    fn within(&self, key: &str, inner: &str) -> Result<Option<usize>> {
        match self.said(key).and_then(|value| value.get(inner)) {
            Some(value) => integer(value).map(Some).ok_or_else(|| self.unsupported(key, "set it to numbers")),
            None => Ok(None),
        }
    }

    fn check(&self) -> Result<()> {
        let known = |key: &str| SUPPORTED.contains(&key) || HARMLESS.contains(&key) || IGNORED.contains(&key);
        let off = |value: &Value| value.is_null() || *value == json!(false);
        let unknown = self.table.as_object().into_iter().flatten().find(|(key, value)| !known(key) && !off(value));
        if let Some((key, _)) = unknown {
            return Err(self.unsupported(key, "remove the key if it does not affect pixels, or write a card"));
        }
        for key in ["do_resize", "do_rescale", "do_normalize"] {
            if self.said(key).is_some_and(|value| *value != json!(true)) {
                return Err(self.unsupported(key, "write a card: this step is not supported"));
            }
        }
        let scale = self.said("rescale_factor").and_then(Value::as_f64);
        if scale.is_some_and(|scale| (scale * 255.0 - 1.0).abs() > 1e-6) {
            return Err(self.unsupported("rescale_factor", "write a card: only 1 / 255 is supported"));
        }
        let class = ["image_processor_type", "video_processor_type", "feature_extractor_type"];
        if let Some(key) = class.into_iter().find(|key| self.said(key).is_some()) {
            let name = self.said(key).and_then(Value::as_str).unwrap_or_default();
            if !self.defaults.classes.iter().any(|start| name.starts_with(start)) {
                return Err(self.unsupported(key, "use the processor of the published models of this family"));
            }
        }
        Ok(())
    }

    fn colours(&self) -> Result<ChannelStats> {
        let (mean, std) = self.defaults.colours;
        let read = |key: &str, default: [f32; 3]| match self.said(key) {
            Some(_) => super::config_values::three(self.table, key),
            None => Ok(default),
        };
        Ok((read("image_mean", mean)?, read("image_std", std)?))
    }

    fn interpolation(&self) -> Result<Interpolation> {
        match self.said("resample").map(Value::as_u64) {
            None => Ok(self.defaults.interpolation),
            Some(Some(2)) => Ok(Interpolation::Bilinear),
            Some(Some(3)) => Ok(Interpolation::Bicubic),
            Some(_) => Err(self.unsupported("resample", "set it to 2 (bilinear) or 3 (bicubic)")),
        }
    }

    fn read(&self, [patch, merge]: [usize; 2], square: Option<usize>) -> Result<Preprocess> {
        self.check()?;
        let ((mean, std), interpolation) = (self.colours()?, self.interpolation()?);
        if let Some(side) = square {
            let crop = self.within("crop_size", "height")?.unwrap_or(side);
            // The processor's default, ⌊256 / 224 · crop⌋.
            let resize = self.within("size", "shortest_edge")?.unwrap_or(crop * 256 / 224);
            if crop != side || resize < crop {
                return Err(self.unsupported("crop_size", "set it to the crop_size of config.json"));
            }
            let crop_pct = processor::share(crop, resize);
            let library = Some(Fit::Shortest);
            return Ok(Preprocess { crop_pct, crop_floor: true, library, ..plain(side, interpolation, mean, std) });
        }
        let found = self.number(&["patch_size"], patch)?;
        if found != patch {
            return Err(self.unsupported("patch_size", "set it to the patch_size of config.json"));
        }
        let merged = self.number(&["merge_size", "merge_kernel_size"], merge)?;
        let rule = self.rule(patch, if merge > 1 { merge } else { merged })?;
        Ok(Preprocess { native: Some(rule), ..plain(typical(&rule), interpolation, mean, std) })
    }

    fn rule(&self, patch: usize, merge: usize) -> Result<NativeResize> {
        Ok(match self.defaults.rule {
            NativeResize::Fill { max_patches, .. } => {
                NativeResize::Fill { patch, max_patches: self.number(&["max_num_patches"], max_patches)? }
            }
            NativeResize::Range { min_pixels, max_pixels, .. } => {
                let least = self.within("size", "shortest_edge")?.unwrap_or(min_pixels);
                let most = self.within("size", "longest_edge")?.unwrap_or(max_pixels);
                let [min_pixels, max_pixels] =
                    [self.number(&["min_pixels"], least)?, self.number(&["max_pixels"], most)?];
                NativeResize::Range { patch, merge, min_pixels, max_pixels }
            }
            NativeResize::ShrinkAndPad { max_patches, max_side, .. } => {
                let longest = self.within("size", "max_height")?.unwrap_or(max_side);
                NativeResize::ShrinkAndPad {
                    patch,
                    merge,
                    max_patches: self.number(&["max_patches", "in_patch_limit", "in_token_limit"], max_patches)?,
                    max_side: self.number(&["patch_limit_on_one_side"], longest)?,
                }
            }
        })
    }
}

/// Side of the typical square image for a rule: [`TYPICAL`] units, or fewer if the rule does not allow so many.
fn typical(rule: &NativeResize) -> usize {
    let unit = rule.unit();
    let most = match *rule {
        NativeResize::Fill { max_patches, .. } => max_patches.isqrt(),
        NativeResize::Range { max_pixels, .. } => max_pixels.isqrt() / unit.max(1),
        NativeResize::ShrinkAndPad { patch, max_patches, max_side, .. } => {
            max_patches.isqrt().min(max_side) * patch / unit.max(1)
        }
    };
    let sides = if matches!(rule, NativeResize::Fill { .. }) { most } else { most.min(TYPICAL) };
    sides.max(1) * unit
}
