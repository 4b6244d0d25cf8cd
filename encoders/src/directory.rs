//! Encoders without a card: a directory with weights and a `config.json` of transformers or timm, or one of diffusers
//! with a folder for each part of Stable Diffusion, as the hub has them.
//!
//! What the shapes of the tensors tell (width, depth, class token, layer scale ...) is read from them; the configuration
//! is asked only for what they cannot tell (heads, activation, epsilon, preprocessing). The result is an ordinary card:
//! `burgess encoders DIR` prints it, and it can be kept as a file.

mod diffusers;
mod shapes;
mod timm;
mod transformers;

use crate::arch::{ArchitectureConfig, Tap};
use crate::card::{EncoderCard, Location, Source, Supervision};
use crate::checkpoint::{self, Checkpoint};
use crate::preprocess::{Interpolation, Preprocess};
use burgess_base::{Context, Error, Result};
use burn::tensor::Device;
use serde_json::Value;
use std::path::Path;

/// The card of the encoder in `dir`.
///
/// # Errors
/// There is no `config.json` or no weights; the configuration is of another kind of model; the weights do not fit.
pub fn card(dir: &Path) -> Result<EncoderCard> {
    let step = || format!("reading the encoder in {}", dir.display());
    describe(dir).map_err(|e| e.context(step()))
}

fn describe(dir: &Path) -> Result<EncoderCard> {
    let found = if checkpoint::is_pipeline(dir) { diffusers::found(dir)? } else { found(dir)? };
    let name = dir.canonicalize()?.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let parameters = checkpoint::parameters(&found.architecture.init(&Device::flex())?)?;
    let card = EncoderCard {
        id: name.clone(),
        title: name,
        family: found.family,
        supervision: Supervision::Unknown,
        licence: "see its makers".into(),
        grid: None,
        source: Source {
            location: Location::Directory(dir.to_path_buf()),
            dialect: found.dialect.into(),
            prefix: found.prefix,
            parameters: parameters.iter().map(|p| p.shape.iter().product::<usize>() as u64).sum(),
        },
        architecture: found.architecture,
        preprocess: found.preprocess,
        preprocess_cambrian_1: None,
        tap: found.tap,
        pretrain: None,
    };
    // What a card's own text must pass, this one must pass too.
    EncoderCard::parse(&toml::to_string(&card).map_err(|e| Error::failed(e.to_string()))?, "made from config.json")
}

/// What a directory with a `config.json` holds.
fn found(dir: &Path) -> Result<Found> {
    let config = json(&dir.join("config.json")).map_err(|e| {
        e.hint("expected config.json of transformers or timm beside the weights; for anything else write a card")
    })?;
    let weights = Checkpoint::open(dir)?;
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    match (text("architecture"), text("model_type")) {
        (Some(name), _) => timm::found(name, &config, &weights),
        (None, Some(kind)) => transformers::found(kind, &config, dir, &weights),
        _ => Err(Error::failed("config.json names neither a `model_type` nor an `architecture`")
            .hint("only configurations of transformers and timm are known")),
    }
}

/// What a configuration and the shapes say together.
struct Found {
    family: String,
    dialect: &'static str,
    prefix: Option<String>,
    architecture: ArchitectureConfig,
    preprocess: Preprocess,
    tap: Tap,
}

fn plain(size: usize, mean: [f32; 3], std: [f32; 3]) -> Preprocess {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let pad = mean.map(|m| (m * 255.0).clamp(0.0, 255.0) as u8);
    Preprocess { size, interpolation: Interpolation::Bicubic, crop_pct: 1.0, enlarge: None, mean, std, pad }
}

/// The three numbers under `key`, one for each channel.
fn three(table: &Value, key: &str) -> Result<[f32; 3]> {
    let values = table.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_f64);
    let values: Vec<f32> = values.map(|v| v as f32).collect();
    values.try_into().map_err(|_| Error::failed(format!("there is no `{key}` of three numbers")))
}

fn json(path: &Path) -> Result<Value> {
    let step = || format!("reading {}", path.display());
    let bytes = std::fs::read(path).with_context(step)?;
    serde_json::from_slice(&bytes).with_context(step)
}
