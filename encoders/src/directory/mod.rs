//! Encoders without a card: directories as on the hub, with weights and a `config.json` of transformers or timm, an
//! `open_clip_config.json`, or the folders of diffusers for the parts of Stable Diffusion.
//!
//! The configurations of timm, open_clip and diffusers describe the whole network; for models of transformers the
//! shapes of the tensors say more than the configuration, which must agree with them. The result is an ordinary card:
//! It can be saved as a file. Its notes list what had to be assumed.

mod diffusers;
mod open_clip;
mod processor;
mod shapes;
mod timm;
mod transformers;

use crate::arch::{ArchitectureConfig, Tap};
use crate::card::{EncoderCard, Location, Source, Supervision};
use crate::checkpoint::{self, Checkpoint, CheckpointPart, Dialect, ExpectedTensors};
use crate::preprocess::{Fit, Interpolation, Preprocess};
use burgess_base::{Context, Error, Result};
use burn::tensor::Device;
use serde_json::Value;
use std::path::Path;

/// Derives the card of the encoder in `dir`.
///
/// # Errors
/// There is no configuration, there are no weights, the configuration is of another kind of model, or the weights do
/// not match it.
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
    let found = if checkpoint::is_diffusers_model(dir) { diffusers::found(dir)? } else { found(dir, prefix)? };
    let name = dir.canonicalize()?.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    // Validated before the network is built, so that absurd sizes do not lead to huge allocations.
    found.architecture.validate()?;
    let parameters = checkpoint::parameters(&found.architecture.init(&Device::flex())?)?;
    let prefix = [prefix.unwrap_or_default(), &found.place.prefix].concat();
    let card = EncoderCard {
        id: name.clone(),
        title: name,
        family: found.family,
        supervision: Supervision::Unknown,
        licence: "see its makers".into(),
        notes: found.notes,
        grid: None,
        source: Source {
            location: Location::Directory(dir.to_path_buf()),
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

/// Describes the encoder in a directory. If there are both a `config.json` and an `open_clip_config.json` (many
/// repositories have the same model in two forms), the file of weights that is read decides which one applies.
fn found(dir: &Path, prefix: Option<&str>) -> Result<Found> {
    let (own, clip) = (dir.join("config.json"), dir.join("open_clip_config.json"));
    if !own.is_file() && !clip.is_file() {
        return Err(Error::failed("there is neither a config.json nor an open_clip_config.json").hint(
            "expected config.json of transformers or timm, or open_clip_config.json, beside the weights; for anything else write a card",
        ));
    }
    let weights = Checkpoint::open(dir)?;
    let weights = match prefix {
        Some(prefix) => weights.inside(prefix)?,
        None => weights,
    };
    let name = weights.path().file_name().unwrap_or_default().to_string_lossy();
    if clip.is_file() && (!own.is_file() || name.starts_with("open_clip")) {
        return open_clip::found(&json(&clip)?, &weights);
    }
    let config = json(&own)?;
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    match (text("architecture"), text("model_type")) {
        (Some(name), _) => timm::found(name, &config, &weights),
        (None, Some(kind)) => transformers::found(kind, &config, dir, &weights),
        _ => Err(Error::failed("config.json names neither a `model_type` nor an `architecture`")
            .hint("only configurations of transformers and timm are known")),
    }
}

/// The description of an encoder that follows from its configuration and the shapes of its tensors.
struct Found {
    family: String,
    dialect: &'static str,
    place: CheckpointPart,
    architecture: ArchitectureConfig,
    preprocess: Preprocess,
    tap: Tap,
    notes: Vec<String>,
}

/// Describes the encoder at the one of `places` that its weights match; `read` describes it at a given place.
///
/// # Errors
/// An error of `read`, or the weights match at several places and no rule says which to choose.
fn placed(
    weights: &Checkpoint,
    places: Vec<CheckpointPart>,
    read: impl Fn(&CheckpointPart) -> Result<Found>,
) -> Result<Found> {
    let fits = |place: &CheckpointPart| -> Result<bool> {
        let found = read(place)?;
        found.architecture.check_layers(weights.keys().count())?;
        let parameters = checkpoint::parameters(&found.architecture.init(&Device::flex())?)?;
        Ok(ExpectedTensors::new(&parameters, Dialect::find(found.dialect)?)?.fits(weights, place))
    };
    // A place at which `read` fails does not match; if no place matches, the error at the first one is returned.
    let several = places.len() > 1;
    let fitting = places.iter().filter(|place| !several || fits(place).unwrap_or(false)).cloned().collect();
    let chosen = checkpoint::choose_part(fitting, weights)?;
    let (place, note) = match (chosen, places.into_iter().next()) {
        (Some(chosen), _) => chosen,
        (None, Some(first)) => (first, None),
        (None, None) => return Err(Error::failed("the weights hold no encoder of this kind")),
    };
    let mut found = read(&place)?;
    found.architecture.check_layers(weights.keys().count())?;
    found.notes.extend(note);
    Ok(found)
}

/// Keys for which only one value (JSON) is supported; a missing key is accepted.
type Fixed = [(&'static str, &'static str)];

/// The first key of `fixed` for which `get` finds another value.
fn otherwise<'a>(fixed: &Fixed, get: impl Fn(&str) -> Option<&'a Value>) -> Result<Option<&'static str>> {
    for (key, only) in fixed {
        let only: Value = serde_json::from_str(only)?;
        let same = |found: &Value| *found == only || found.as_f64().is_some_and(|n| Some(n) == only.as_f64());
        if get(key).is_some_and(|found| !same(found)) {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// Mean and standard deviation per channel, as used by many models.
type Colours = ([f32; 3], [f32; 3]);
const HALF: Colours = ([0.5; 3], [0.5; 3]);
const IMAGENET: Colours = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
const OPENAI: Colours = ([0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1]);

/// A table of a configuration whose keys are read one by one.
struct Section<'a> {
    table: &'a Value,
    /// Prefix of keys in messages.
    before: &'static str,
    /// Hint for values that are not supported.
    hint: &'static str,
}

impl<'a> Section<'a> {
    /// The value of `key`; `None` if it is absent or null.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.table.get(key).filter(|v| !v.is_null())
    }

    fn read<T>(&self, key: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        self.get(key).map(|value| read(value).ok_or_else(|| self.refused(key))).transpose()
    }

    fn refused(&self, key: &str) -> Error {
        let value = self.table.get(key).unwrap_or(&Value::Null);
        Error::failed(format!("{}{key} = {value} is not known", self.before)).hint(self.hint)
    }
}

/// A preprocessing without crop that pads with the mean colour.
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

/// The interpolation kernel with this name in timm and open_clip.
fn interpolation(name: &Value) -> Result<Interpolation> {
    match name.as_str() {
        Some("bilinear") => Ok(Interpolation::Bilinear),
        Some("bicubic") => Ok(Interpolation::Bicubic),
        _ => Err(Error::failed(format!("interpolation = {name} is not known")).hint("known: bilinear, bicubic")),
    }
}

/// The value of a non-negative integer.
fn whole(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}

/// The side of a square: an integer, or two that are equal.
fn side(value: &Value) -> Option<usize> {
    match value.as_array().map(Vec::as_slice) {
        None => whole(value),
        Some([a, b]) if a == b => whole(a),
        Some(_) => None,
    }
}

/// The three numbers at `key`, one per channel.
fn three(table: &Value, key: &str) -> Result<[f32; 3]> {
    let values = table.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_f64);
    let values: Vec<f32> = values.map(|v| v as f32).collect();
    values.try_into().map_err(|_| Error::failed(format!("there is no `{key}` of three numbers")))
}

fn json(path: &Path) -> Result<Value> {
    let step = || format!("reading {}", path.display());
    let bytes = read_small(path).with_context(step)?;
    burgess_base::json::from_slice(&bytes).with_context(step)
}

/// Reads a configuration file.
fn read_small(path: &Path) -> Result<Vec<u8>> {
    /// Maximum size in bytes; no configuration of a model is larger.
    const LONGEST: u64 = 16 << 20;
    let what = std::fs::metadata(path)?;
    if !what.is_file() {
        return Err(Error::failed("it is no regular file"));
    }
    if what.len() > LONGEST {
        return Err(Error::failed(format!("it has {} bytes, more than a configuration has ({LONGEST})", what.len())));
    }
    Ok(std::fs::read(path)?)
}
