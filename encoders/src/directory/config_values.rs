//! Values of configurations: readers of JSON with errors that name the key, and constants that many models share.

pub(super) use crate::json_values::{SupportedValues, first_unsupported, integer, side};
use crate::preprocess::{Fit, Interpolation, Preprocess};
use burgess_base::{Context, Error, Result};
use serde_json::Value;
use std::path::Path;

/// Mean and standard deviation per channel.
pub(super) type ChannelStats = ([f32; 3], [f32; 3]);
pub(super) const HALF: ChannelStats = ([0.5; 3], [0.5; 3]);
pub(super) const IMAGENET: ChannelStats = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
pub(super) const OPENAI: ChannelStats =
    ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1]);

/// An object of a configuration whose keys are read one by one.
pub(super) struct ConfigSection<'a> {
    pub table: &'a Value,
    /// Prefix of keys in messages.
    pub before: &'static str,
    /// Hint for values that are not supported.
    pub hint: &'static str,
}

impl<'a> ConfigSection<'a> {
    /// Returns the value of `key`; `None` if it is absent or null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.table.get(key).filter(|v| !v.is_null())
    }

    pub fn read<T>(&self, key: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        self.get(key).map(|value| read(value).ok_or_else(|| self.unsupported(key))).transpose()
    }

    pub fn unsupported(&self, key: &str) -> Error {
        let value = self.table.get(key).unwrap_or(&Value::Null);
        Error::failed(format!("{}{key} = {value} is not supported", self.before)).hint(self.hint)
    }
}

/// Returns a preprocessing without crop that pads with the mean colour.
pub(super) fn plain(size: usize, interpolation: Interpolation, mean: [f32; 3], std: [f32; 3]) -> Preprocess {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let pad = mean.map(|m| (m * 255.0).clamp(0.0, 255.0) as u8);
    Preprocess {
        size,
        interpolation,
        crop_pct: 1.0,
        enlarge: None,
        mean,
        std,
        pad,
        crop_floor: false,
        fit: Fit::Pad,
        library: None,
        upright: false,
        native: None,
    }
}

/// Parses the name of an interpolation kernel in timm and open_clip.
pub(super) fn interpolation(name: &Value) -> Result<Interpolation> {
    match name.as_str() {
        Some("bilinear") => Ok(Interpolation::Bilinear),
        Some("bicubic") => Ok(Interpolation::Bicubic),
        _ => Err(Error::failed(format!("interpolation = {name} is not supported")).hint("use bilinear or bicubic")),
    }
}

/// Parses the three numbers at `key`, one per channel.
pub(super) fn three(table: &Value, key: &str) -> Result<[f32; 3]> {
    let values = table.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_f64);
    let values: Vec<f32> = values.map(|v| v as f32).collect();
    values.try_into().map_err(|_| Error::failed(format!("`{key}` is not a list of three numbers")))
}

pub(super) fn json(path: &Path) -> Result<Value> {
    let step = || format!("reading {}", path.display());
    let bytes = read_small(path).with_context(step)?;
    burgess_base::json::from_slice(&bytes).with_context(step)
}

/// Reads a configuration file of limited size.
fn read_small(path: &Path) -> Result<Vec<u8>> {
    /// Maximum size in bytes; real configurations are much smaller.
    const MAX_BYTES: u64 = 16 << 20;
    let what = std::fs::metadata(path)?;
    if !what.is_file() {
        return Err(Error::failed("it is not a regular file"));
    }
    if what.len() > MAX_BYTES {
        return Err(Error::failed(format!("it has {} bytes, must have at most {MAX_BYTES}", what.len())));
    }
    Ok(std::fs::read(path)?)
}
