//! Derives cards for encoders without a card, from directories as on the Hugging Face hub: weights with a `config.json`
//! of transformers or timm, with an `open_clip_config.json`, or the folders of a Stable Diffusion model of diffusers.
//!
//! The configurations of timm, open_clip and diffusers describe the whole network. For models of transformers,
//! hyper-parameters are derived from the shapes of the tensors, and the configuration must agree. The result is an
//! ordinary card, which can be saved as a file; its notes list all assumptions.

mod config_values;
mod derived;
mod diffusers;
mod native;
mod native_processor;
mod open_clip;
mod processor;
mod shapes;
mod timm;
mod transformers;

use crate::card::{EncoderCard, Supervision, WeightsLocation, WeightsSource};
use crate::checkpoint::{self, Checkpoint};
use burgess_base::{Error, Result};
use burn::tensor::Device;
use config_values::json;
use derived::DerivedEncoder;
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
        tiling: None,
        normalise: None,
        precision: crate::precision::ComputePrecision::F32,
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
        // The configurations of C-RADIO's own code do not say what they are.
        (None, None | Some("")) if config.get("args").and_then(|args| args.get("cpe_max_size")).is_some() => {
            transformers::derive("radio", &config, dir, &weights)
        }
        (None, Some(kind)) => match native::derive(kind, &config, dir, &weights) {
            Some(found) => found,
            None => transformers::derive(kind, &config, dir, &weights),
        },
        _ => Err(Error::failed("config.json has neither `model_type` (transformers) nor `architecture` (timm)")
            .hint("use a configuration of transformers or timm, or write a card")),
    }
}
