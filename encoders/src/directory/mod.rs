//! Derives cards for encoders without a card, from directories as on the Hugging Face hub: weights with a `config.json`
//! of transformers or timm, with an `open_clip_config.json`, or the folders of a Stable Diffusion model of diffusers.
//!
//! The configurations of timm, open_clip and diffusers describe the whole network. For models of transformers,
//! hyper-parameters are derived from the shapes of the tensors, and the configuration must agree. The result is an
//! ordinary card, which can be saved as a file; its notes list all assumptions.

mod diffusers;
mod open_clip;
mod processor;
mod shapes;
mod timm;
mod transformers;

use crate::arch::{ArchitectureConfig, Tap};
use crate::card::{EncoderCard, Supervision, WeightsLocation, WeightsSource};
use crate::checkpoint::{self, Checkpoint, CheckpointPart, Dialect, ExpectedTensors};
use crate::preprocess::{Fit, Interpolation, Preprocess};
use burgess_base::{Context, Error, Result};
use burn::tensor::Device;
use serde_json::Value;
use std::path::Path;

/// Derives the card of the encoder in `dir`.
///
/// # Errors
/// The directory has no configuration or no weights, the model is not supported, or the weights do not match the
/// configuration.
pub fn card(dir: &Path) -> Result<EncoderCard> {
    card_under(dir, None)
}

/// Derives the card as [`card`] does, for the weights under `prefix` if there are several.
///
/// # Errors
/// As [`card`]; or there is no tensor under the prefix.
pub fn card_under(dir: &Path, prefix: Option<&str>) -> Result<EncoderCard> {
    let step = || format!("reading the encoder in {}", dir.display());
    describe(dir, prefix).map_err(|e| e.context(step()))
}

fn describe(dir: &Path, prefix: Option<&str>) -> Result<EncoderCard> {
    let found = if checkpoint::is_diffusers_model(dir) { diffusers::derive(dir)? } else { derive(dir, prefix)? };
    let name = dir.canonicalize()?.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    // Validation comes before the network is built, so that absurd sizes do not lead to huge allocations.
    found.architecture.validate()?;
    let parameters = checkpoint::parameters(&found.architecture.init(&Device::flex())?)?;
    let prefix = [prefix.unwrap_or_default(), &found.part.prefix].concat();
    let card = EncoderCard {
        id: name.clone(),
        title: name,
        family: found.family,
        supervision: Supervision::Unknown,
        licence: "see its makers".into(),
        notes: found.notes,
        grid: None,
        source: WeightsSource {
            location: WeightsLocation::Directory(dir.to_path_buf()),
            dialect: found.dialect.into(),
            prefix: Some(prefix).filter(|prefix| !prefix.is_empty()),
            parameters: parameters.iter().map(|p| p.shape.iter().product::<usize>() as u64).sum(),
        },
        architecture: found.architecture,
        preprocess: found.preprocess,
        preprocess_cambrian_1: None,
        tap: found.tap,
        pretrain: None,
    };
    // A derived card must pass all checks of a card that is read from a file.
    EncoderCard::parse(
        &toml::to_string(&card).map_err(|e| Error::failed(e.to_string()))?,
        "made from its configuration",
    )
}

/// Describes the encoder in a directory. If there are both `config.json` and `open_clip_config.json` (many repositories
/// contain the same model in two formats), the name of the selected weights file determines which one applies.
fn derive(dir: &Path, prefix: Option<&str>) -> Result<DerivedEncoder> {
    let (own, clip) = (dir.join("config.json"), dir.join("open_clip_config.json"));
    if !own.is_file() && !clip.is_file() {
        return Err(Error::failed("there is neither config.json nor open_clip_config.json").hint(
            "add config.json of transformers or timm, or open_clip_config.json, beside the weights, or write a card",
        ));
    }
    let weights = Checkpoint::open(dir)?;
    let weights = match prefix {
        Some(prefix) => weights.inside(prefix)?,
        None => weights,
    };
    let name = weights.path().file_name().unwrap_or_default().to_string_lossy();
    if clip.is_file() && (!own.is_file() || name.starts_with("open_clip")) {
        return open_clip::derive(&json(&clip)?, &weights);
    }
    let config = json(&own)?;
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    match (text("architecture"), text("model_type")) {
        (Some(name), _) => timm::derive(name, &config, &weights),
        (None, Some(kind)) => transformers::derive(kind, &config, dir, &weights),
        _ => Err(Error::failed("config.json has neither `model_type` (transformers) nor `architecture` (timm)")
            .hint("use a configuration of transformers or timm, or write a card")),
    }
}

/// The description of an encoder, derived from its configuration and the shapes of its tensors.
struct DerivedEncoder {
    family: String,
    dialect: &'static str,
    part: CheckpointPart,
    architecture: ArchitectureConfig,
    preprocess: Preprocess,
    tap: Tap,
    notes: Vec<String>,
}

/// Describes the encoder in the one of `parts` that matches; `read` describes it in a given part.
///
/// # Errors
/// An error of `read`, or several parts match and no precedence applies.
fn locate(
    weights: &Checkpoint,
    parts: Vec<CheckpointPart>,
    read: impl Fn(&CheckpointPart) -> Result<DerivedEncoder>,
) -> Result<DerivedEncoder> {
    let fits = |part: &CheckpointPart| -> Result<bool> {
        let found = read(part)?;
        found.architecture.check_layers(weights.keys().count())?;
        let parameters = checkpoint::parameters(&found.architecture.init(&Device::flex())?)?;
        Ok(ExpectedTensors::new(&parameters, Dialect::find(found.dialect)?)?.fits(weights, part))
    };
    // A part for which `read` fails does not match; if no part matches, the error of the first one is returned.
    let several = parts.len() > 1;
    let fitting = parts.iter().filter(|part| !several || fits(part).unwrap_or(false)).cloned().collect();
    let chosen = checkpoint::choose_part(fitting, weights)?;
    let (part, note) = match (chosen, parts.into_iter().next()) {
        (Some(chosen), _) => chosen,
        (None, Some(first)) => (first, None),
        (None, None) => return Err(Error::failed("the weights contain no encoder of this family")),
    };
    let mut found = read(&part)?;
    found.architecture.check_layers(weights.keys().count())?;
    found.notes.extend(note);
    Ok(found)
}

/// Keys for which only one value (JSON) is supported; a missing key is accepted, too.
type SupportedValues = [(&'static str, &'static str)];

/// Returns the first key of `fixed` for which `get` returns an unsupported value.
fn first_unsupported<'a>(
    fixed: &SupportedValues,
    get: impl Fn(&str) -> Option<&'a Value>,
) -> Result<Option<&'static str>> {
    for (key, only) in fixed {
        let only: Value = serde_json::from_str(only)?;
        let same = |found: &Value| *found == only || found.as_f64().is_some_and(|n| Some(n) == only.as_f64());
        if get(key).is_some_and(|found| !same(found)) {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// Mean and standard deviation per channel.
type ChannelStats = ([f32; 3], [f32; 3]);
const HALF: ChannelStats = ([0.5; 3], [0.5; 3]);
const IMAGENET: ChannelStats = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
const OPENAI: ChannelStats = ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1]);

/// An object of a configuration whose keys are read one by one.
struct ConfigSection<'a> {
    table: &'a Value,
    /// Prefix of keys in messages.
    before: &'static str,
    /// Hint for values that are not supported.
    hint: &'static str,
}

impl<'a> ConfigSection<'a> {
    /// Returns the value of `key`; `None` if it is absent or null.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.table.get(key).filter(|v| !v.is_null())
    }

    fn read<T>(&self, key: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        self.get(key).map(|value| read(value).ok_or_else(|| self.unsupported(key))).transpose()
    }

    fn unsupported(&self, key: &str) -> Error {
        let value = self.table.get(key).unwrap_or(&Value::Null);
        Error::failed(format!("{}{key} = {value} is not supported", self.before)).hint(self.hint)
    }
}

/// Returns a preprocessing without crop that pads with the mean colour.
fn plain(size: usize, interpolation: Interpolation, mean: [f32; 3], std: [f32; 3]) -> Preprocess {
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
    }
}

/// Parses the name of an interpolation kernel in timm and open_clip.
fn interpolation(name: &Value) -> Result<Interpolation> {
    match name.as_str() {
        Some("bilinear") => Ok(Interpolation::Bilinear),
        Some("bicubic") => Ok(Interpolation::Bicubic),
        _ => Err(Error::failed(format!("interpolation = {name} is not supported")).hint("use bilinear or bicubic")),
    }
}

/// Parses a non-negative integer.
fn integer(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}

/// Parses the side of a square: an integer, or two equal integers.
fn side(value: &Value) -> Option<usize> {
    match value.as_array().map(Vec::as_slice) {
        None => integer(value),
        Some([a, b]) if a == b => integer(a),
        Some(_) => None,
    }
}

/// Parses the three numbers at `key`, one per channel.
fn three(table: &Value, key: &str) -> Result<[f32; 3]> {
    let values = table.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_f64);
    let values: Vec<f32> = values.map(|v| v as f32).collect();
    values.try_into().map_err(|_| Error::failed(format!("`{key}` is not a list of three numbers")))
}

fn json(path: &Path) -> Result<Value> {
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
