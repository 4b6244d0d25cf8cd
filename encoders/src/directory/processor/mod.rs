//! Reads image processor settings of Hugging Face transformers: `preprocessor_config.json`, or `image_processor` in
//! `processor_config.json`, which transformers 5 writes for multimodal models.
//!
//! A missing setting has the default of its processor class, and a note of the card lists it. A setting that is neither
//! supported nor known to be without effect is rejected.

mod classes;

use super::config_values::{ChannelStats, integer, json, plain};
use crate::preprocess::{Fit, Interpolation, Preprocess};
use burgess_base::text::excerpt;
use burgess_base::{Error, Result};
use classes::{ProcessorClass, ResizeMode};
use serde_json::{Value, json};
use std::path::Path;

const PREPROCESSOR_FILE: &str = "preprocessor_config.json";
const PROCESSOR_FILE: &str = "processor_config.json";

/// Keys that do not affect the pixels of an RGB image.
pub(super) const IGNORED: [&str; 28] = [
    "_auto_class",
    "_processor_class",
    "_valid_processor_keys",
    "auto_map",
    "chat_template",
    "convert_rgb",
    "data_format",
    "default_to_square",
    "device",
    "disable_grouping",
    "do_convert_rgb",
    "do_reduce_labels",
    "feature_extractor_type",
    "image_processor_type",
    "image_seq_length",
    "image_seq_len",
    "input_data_format",
    "mask_pad_size",
    "mask_size",
    "model_input_names",
    "name_or_path",
    "processor_class",
    "reduce_labels",
    "return_tensors",
    "transformers_version",
    "use_fast",
    "valid_processor_keys",
    "_commit_hash",
];

/// Keys that are supported.
const SUPPORTED: [&str; 16] = [
    "crop_pct",
    "crop_size",
    "do_center_crop",
    "do_normalize",
    "do_pad",
    "do_rescale",
    "do_resize",
    "ensure_multiple_of",
    "image_mean",
    "image_std",
    "keep_aspect_ratio",
    "pad_size",
    "resample",
    "rescale_factor",
    "size",
    "size_divisor",
];

/// The preprocessing of the published models of a family, which applies if there are no settings.
#[derive(Debug, Clone, Copy)]
pub(super) struct DefaultProcessor {
    /// Interpolation of the resize.
    pub interpolation: Interpolation,
    /// Mean and standard deviation per channel.
    pub colours: ChannelStats,
    /// Class of the image processor.
    pub class: &'static str,
}

/// Reads the settings in `dir` for images of `own_size`. If there are none, those of the published models of this
/// family apply, and a note lists them.
pub(super) fn preprocess(
    dir: &Path,
    model_type: &str,
    published: DefaultProcessor,
    own_size: usize,
    version: Option<&str>,
) -> Result<(Preprocess, Vec<String>)> {
    let mut notes = Vec::new();
    if let Some((file, table)) = table(dir, &mut notes)? {
        let read = Settings::new(file, &table, published.class, version);
        let preprocess = read
            .and_then(|settings| settings.preprocess(own_size, &mut notes))
            .map_err(|e| e.context(format!("reading {file}")))?;
        return Ok((preprocess, notes));
    }
    let DefaultProcessor { interpolation, colours: (mean, std), .. } = published;
    notes.push(format!(
        "there is no {PREPROCESSOR_FILE}: images are resized to {own_size} pixels ({}) and normalised with \
         mean {mean:?} and std {std:?}, as for the published {model_type} models",
        match interpolation {
            Interpolation::Bilinear => "bilinear",
            Interpolation::Bicubic => "bicubic",
            Interpolation::Lanczos => "lanczos",
        }
    ));
    let library = ProcessorClass::find(published.class).map(|class| class.usual_fit(own_size));
    Ok((Preprocess { crop_floor: true, library, ..plain(own_size, interpolation, mean, std) }, notes))
}

/// Reads the settings; also returns the name of their file. If both files have settings, `processor_config.json`
/// applies, as in transformers 5.
pub(super) fn table(dir: &Path, notes: &mut Vec<String>) -> Result<Option<(&'static str, Value)>> {
    let read = |name: &str| {
        let path = dir.join(name);
        path.exists().then(|| json(&path)).transpose()
    };
    let (own, outer) = (read(PREPROCESSOR_FILE)?, read(PROCESSOR_FILE)?);
    let within = outer.as_ref().and_then(|outer| outer.get("image_processor")).filter(|v| !v.is_null());
    let found = match (own, within) {
        (own, Some(within)) => {
            if own.is_some_and(|own| differ(&own, within)) {
                notes.push(format!(
                    "{PREPROCESSOR_FILE} differs from {PROCESSOR_FILE}, which is used, as by transformers 5 (version 4 \
                     uses the former)"
                ));
            }
            Some((PROCESSOR_FILE, within.clone()))
        }
        (Some(own), None) => {
            // Some versions nest the settings in this file, too.
            let nested = own.get("image_processor").filter(|v| v.is_object()).cloned();
            Some((PREPROCESSOR_FILE, nested.unwrap_or(own)))
        }
        (None, None) => None,
    };
    match found {
        Some((file, table)) if !table.is_object() => Err(Error::failed(format!(
            "{file} contains {}, expected the settings of an image processor",
            excerpt(&table.to_string(), 60)
        ))
        .hint("download the file again from the source of the model, or delete it")),
        found => Ok(found),
    }
}

/// Whether two files have different values for a supported setting.
fn differ(one: &Value, other: &Value) -> bool {
    let get = |table: &Value, key: &str| table.get(key).filter(|v| !v.is_null()).cloned();
    SUPPORTED.iter().any(|key| match (get(one, key), get(other, key)) {
        (Some(a), Some(b)) => a != b,
        _ => false,
    })
}

/// The settings of a file, with the defaults of its class.
struct Settings<'a> {
    file: &'static str,
    table: &'a Value,
    class: &'static ProcessorClass,
    /// Whether the file states its class.
    named: bool,
    version_4: bool,
    /// Keys for which a default was used, with its value.
    assumed: Vec<String>,
}

impl<'a> Settings<'a> {
    fn new(file: &'static str, table: &'a Value, usual: &str, version: Option<&str>) -> Result<Self> {
        let of = |key: &str| table.get(key).and_then(Value::as_str);
        let name = of("image_processor_type").or(of("feature_extractor_type"));
        let class = ProcessorClass::find(name.unwrap_or(usual)).ok_or_else(|| {
            Error::failed(format!(
                "image_processor_type = \"{}\" is not supported",
                excerpt(name.unwrap_or(usual), 100)
            ))
            .hint(format!("use one of these: {}; or write a card", ProcessorClass::names()))
        })?;
        let version_4 = version.is_some_and(|v| v.starts_with("4.")) && !name.is_some_and(|n| n.ends_with("Fast"));
        Ok(Self { file, table, class, named: name.is_some(), version_4, assumed: Vec::new() })
    }

    /// Returns the value of `key` in the file; `None` if it is absent or null.
    fn said(&self, key: &str) -> Option<&'a Value> {
        self.table.get(key).filter(|v| !v.is_null())
    }

    fn unsupported(&self, key: &str) -> Error {
        let value = self.table.get(key).unwrap_or(&Value::Null).to_string();
        Error::failed(format!("{key} = {} is not supported", excerpt(&value, 100)))
    }

    /// Returns the value of `key` in the file, or the class's default, which is then recorded in `assumed`.
    fn get<T: Clone>(
        &mut self,
        key: &str,
        read: impl Fn(&Value) -> Option<T>,
        default: T,
        shown: impl std::fmt::Display,
        hint: &str,
    ) -> Result<T> {
        match self.said(key) {
            Some(value) => read(value).ok_or_else(|| self.unsupported(key).hint(hint)),
            None => {
                self.assumed.push(format!("{key} = {shown}"));
                Ok(default)
            }
        }
    }

    fn flag(&mut self, key: &str, default: bool) -> Result<bool> {
        self.get(key, Value::as_bool, default, default, "set it to true or false")
    }

    /// Reads a flag that is false by default in most classes, so that a missing key is not an assumption.
    fn switch(&self, key: &str) -> Result<bool> {
        match self.said(key) {
            Some(value) => value.as_bool().ok_or_else(|| self.unsupported(key).hint("set it to true or false")),
            None => Ok(false),
        }
    }

    /// Checks that all keys are supported or harmless.
    ///
    /// # Errors
    /// A key is neither supported nor harmless.
    fn check_keys(&self) -> Result<()> {
        let known = |key: &str| IGNORED.contains(&key) || SUPPORTED.contains(&key);
        let off = |value: &Value| value.is_null() || *value == json!(false);
        let unknown = self.table.as_object().into_iter().flatten().find(|(key, value)| !known(key) && !off(value));
        match unknown {
            Some((key, _)) => Err(self
                .unsupported(key)
                .hint("remove the key if it does not affect pixels, or write a card: this step is not supported")),
            None => Ok(()),
        }
    }

    fn preprocess(mut self, own_size: usize, notes: &mut Vec<String>) -> Result<Preprocess> {
        self.check_keys()?;
        let (resize, size, library) = self.sizes(own_size)?;
        let interpolation = self.interpolation()?;
        let (mean, std) = self.colours()?;
        if !self.assumed.is_empty() {
            let of = if self.named { "the defaults of" } else { "and its class; the defaults of" };
            notes.push(format!(
                "{} has no {}: {of} {}{} are used",
                self.file,
                self.assumed.join(", "),
                self.class.name,
                if self.version_4 && self.class.differs() { " in transformers 4" } else { "" }
            ));
        }
        if size > resize {
            return Err(Error::failed(format!("images of {resize} pixels are cropped to {size}"))
                .hint("set crop_size to at most size"));
        }
        let plain = plain(size, interpolation, mean, std);
        Ok(Preprocess { crop_pct: share(size, resize), crop_floor: true, library, ..plain })
    }

    /// Returns how the class makes an image square; `None` if the result is not square.
    fn library(&self, side: usize, crops: bool) -> Option<Fit> {
        let size = self.said("size");
        let has = |key: &str| size.is_some_and(|size| size.get(key).is_some_and(|v| !v.is_null()));
        // Whether `size` is the shorter edge, which may also be the meaning of a single number or the default.
        let by_edge = has("shortest_edge") || (!has("height") && !has("longest_edge") && self.class.by_edge);
        match self.class.way {
            ResizeMode::Pads => Some(self.class.usual_fit(side)).filter(|_| !has("height") && !has("shortest_edge")),
            ResizeMode::ConvNext => Some(self.class.usual_fit(side)),
            _ if self.said("keep_aspect_ratio") == Some(&json!(true)) => None,
            _ if by_edge => Some(Fit::Shortest).filter(|_| crops),
            _ if has("longest_edge") => None,
            _ => Some(Fit::Squash),
        }
    }

    /// Returns the side to which a square is resized, the side of the crop, and how other images are made square.
    fn sizes(&mut self, own_size: usize) -> Result<(usize, usize, Option<Fit>)> {
        let class = self.class;
        if !self.flag("do_resize", true)? {
            return Err(self.unsupported("do_resize").hint("write a card: this step is not supported"));
        }
        let default = class.size(self.version_4);
        const SIDES: &str =
            "set it to a number, {\"height\": n, \"width\": n} with equal numbers, or {\"shortest_edge\": n}";
        let edge_named = self.said("size").is_some_and(|size| size.get("height").is_some());
        let mut side = self.get("size", edge, default, default, SIDES)?;
        let mut resize = match class.way {
            ResizeMode::ConvNext if edge_named => {
                return Err(self
                    .unsupported("size")
                    .hint("set it to {\"shortest_edge\": n}, as ConvNextImageProcessor requires"));
            }
            ResizeMode::ConvNext => {
                let share = if side < classes::SQUASHED {
                    self.get("crop_pct", Value::as_f64, 0.875, 0.875, "set it to a number")?
                } else {
                    1.0
                };
                if !(share > 0.1 && share <= 1.0) {
                    return Err(self.unsupported("crop_pct").hint("set it to a number above 0.1 and at most 1"));
                }
                (side as f64 / share) as usize
            }
            ResizeMode::Levit if !edge_named => ((256.0 / 224.0) * side as f64) as usize,
            _ => side,
        };
        if class.way != ResizeMode::ConvNext {
            if self.said("crop_pct").is_some() {
                return Err(self
                    .unsupported("crop_pct")
                    .hint("remove it: only ConvNextImageProcessor has this setting"));
            }
            side = resize;
        }
        let multiple = match self.said("ensure_multiple_of") {
            Some(value) => {
                integer(value).ok_or_else(|| self.unsupported("ensure_multiple_of").hint("set it to a number"))?
            }
            None => 1,
        };
        if multiple > 1 {
            // Halves are rounded to the even multiple, as by Python's round().
            resize = ((resize as f64 / multiple as f64).round_ties_even() as usize).saturating_mul(multiple);
            side = resize;
        }
        let crops = match class.crop(self.version_4) {
            Some(_) => self.flag("do_center_crop", true)?,
            None => self.switch("do_center_crop")?,
        };
        if crops {
            let usual = class.crop(self.version_4).unwrap_or(own_size);
            side = self.get("crop_size", edge, usual, usual, SIDES)?;
        }
        if self.switch("do_pad")? || (class.way == ResizeMode::Pads && self.said("do_pad").is_none()) {
            let padded =
                self.said("pad_size").map(|size| edge(size).ok_or_else(|| self.unsupported("pad_size").hint(SIDES)));
            let fits =
                padded.transpose()?.unwrap_or(if class.way == ResizeMode::Pads { default } else { side }) == side;
            let divisor = self.said("size_divisor").map_or(Some(1), integer).filter(|n| *n > 0);
            if !fits || divisor.is_none_or(|n| !side.is_multiple_of(n)) {
                return Err(Error::failed(format!("images of {side} pixels are padded to another size"))
                    .hint("set pad_size and size_divisor so that a square is not changed, or write a card"));
            }
        }
        Ok((resize, side, self.library(side, crops)))
    }

    fn interpolation(&mut self) -> Result<Interpolation> {
        let default = self.class.resample(self.version_4);
        // Pillow's numbers of the filters.
        let known = |value: &Value| match value.as_u64()? {
            1 => Some(Interpolation::Lanczos),
            2 => Some(Interpolation::Bilinear),
            3 => Some(Interpolation::Bicubic),
            _ => None,
        };
        let number = json!(default);
        let usual = known(&number).unwrap_or(Interpolation::Bicubic);
        self.get("resample", known, usual, default, "set it to 1 (Lanczos), 2 (bilinear) or 3 (bicubic)")
    }

    /// Returns mean and standard deviation for pixels in 0..1, converted if the file's rescale factor differs.
    fn colours(&mut self) -> Result<([f32; 3], [f32; 3])> {
        const SCALE: f64 = 1.0 / 255.0;
        let factor = match self.flag("do_rescale", true)? {
            true => self.get("rescale_factor", Value::as_f64, SCALE, "1/255", "set it to a number")?,
            false => 1.0,
        };
        if !(factor.is_finite() && factor > 0.0) {
            return Err(self.unsupported("rescale_factor").hint("expected a positive number, most often 1 / 255"));
        }
        let (mean, std) = match self.flag("do_normalize", true)? {
            true => {
                let (mean, std) = self.class.colours;
                const THREE: &str = "expected three numbers, or one for all channels";
                let mean = self.get("image_mean", three, mean.map(f64::from), format!("{mean:?}"), THREE)?;
                let std = self.get("image_std", three, std.map(f64::from), format!("{std:?}"), THREE)?;
                (mean, std)
            }
            false => ([0.0; 3], [1.0; 3]),
        };
        // (v·f − m) / s = (v/255 − m/(255 f)) / (s/(255 f)).
        let times = if (factor * 255.0 - 1.0).abs() > 1e-6 { factor * 255.0 } else { 1.0 };
        #[allow(clippy::cast_possible_truncation)]
        let scaled = |values: [f64; 3]| values.map(|v| (v / times) as f32);
        Ok((scaled(mean), scaled(std)))
    }
}

/// Parses three numbers, or one number for all channels.
fn three(value: &Value) -> Option<[f64; 3]> {
    match value.as_array() {
        Some(list) => list.iter().map(Value::as_f64).collect::<Option<Vec<_>>>()?.try_into().ok(),
        None => value.as_f64().map(|one| [one; 3]),
    }
}

/// Parses the side to which `size` resizes a square image.
fn edge(value: &Value) -> Option<usize> {
    let of = |key: &str| value.get(key).and_then(integer);
    match (value.as_array().map(Vec::as_slice), of("height"), of("width")) {
        (Some([a, b]), ..) => integer(a).filter(|a| Some(*a) == integer(b)),
        (Some([a]), ..) => integer(a),
        (Some(_), ..) => None,
        (None, Some(height), Some(width)) => Some(height).filter(|_| height == width),
        (None, ..) => integer(value).or_else(|| of("shortest_edge")).or_else(|| of("longest_edge")),
    }
    .filter(|side| *side > 0)
}

/// Computes `part / whole`, rounded so that `part` divided by it is not truncated to less than `whole`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) fn share(part: usize, whole: usize) -> f64 {
    let share = part as f64 / whole as f64;
    if ((part as f64 / share) as usize) < whole { share.next_down() } else { share }
}
