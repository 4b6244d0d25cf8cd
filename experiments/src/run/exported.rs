//! Directories that `burgess export` made: their manifest, and how a model is read from them.
//!
//! `burgess.json` at the top says how the directory is laid out. In the layout `llava` the files at the top are those
//! of `transformers`, and the folder `burgess/` holds what that library has no place for: Burgess's own configuration,
//! cards and tokenizer. In the layout `burgess` the top is a model directory as a run writes it.

use crate::features::ArmCard;
use crate::features::model_cards::{self, ModelEncoder};
use burgess_base::{Error, Result, atomic, checksums};
use burgess_encoders::card::WeightsLocation;
use burgess_encoders::checkpoint::{Dialect, IDENTITY};
use burgess_probe::exported;
use burgess_probe::llm::Tokenizer;
use burgess_probe::mllm::{Mllm, MllmConfig};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

/// File name of the manifest.
pub const MANIFEST: &str = "burgess.json";
/// Folder of Burgess's own files in the layout `llava`.
pub const FOLDER: &str = "burgess";
/// Version of the manifest's format.
pub const FORMAT: u32 = 1;

/// The contents of `burgess.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportManifest {
    /// Version of this format, [`FORMAT`].
    pub format: u32,
    /// Version of Burgess that exported the model.
    pub burgess: String,
    /// How the directory is laid out.
    pub layout: ExportLayout,
    /// For each encoder of the cards, the folder of this directory that holds its weights; `null` for an encoder whose
    /// weights are elsewhere (published, or part of the program).
    pub encoders: Vec<Option<String>>,
}

/// The layout of an exported directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportLayout {
    /// That of `LlavaForConditionalGeneration` of `transformers`.
    Llava,
    /// That of Burgess's own models.
    Burgess,
}

/// Whether a directory was made by `burgess export`.
pub fn is_export(dir: &Path) -> bool {
    dir.join(MANIFEST).is_file()
}

/// Reads the manifest of an exported directory.
///
/// # Errors
/// It is damaged, or of another version.
pub fn read_manifest(dir: &Path) -> Result<ExportManifest> {
    let path = dir.join(MANIFEST);
    let manifest: ExportManifest = atomic::read_json(&path)?;
    if manifest.format != FORMAT {
        return Err(Error::failed(format!("{} has format {}, expected {FORMAT}", path.display(), manifest.format))
            .hint("update Burgess, or export the model again"));
    }
    let inside = |folder: &String| {
        Path::new(folder).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    };
    match manifest.encoders.iter().flatten().find(|folder| !inside(folder)) {
        Some(folder) => Err(Error::failed(format!(
            "{} names the folder `{}`, which is outside of its directory",
            path.display(),
            burgess_base::text::excerpt(folder, 80)
        ))
        .hint("export the model again")),
        None => Ok(manifest),
    }
}

/// Loads a model from an exported directory, after checking its checksums.
///
/// # Errors
/// A file is missing or damaged, or the weights do not match the configuration.
pub fn load(dir: &Path, device: &Device) -> Result<(Mllm, Tokenizer, Vec<ModelEncoder>)> {
    let manifest = read_manifest(dir)?;
    let own = match manifest.layout {
        ExportLayout::Llava => dir.join(FOLDER),
        ExportLayout::Burgess => dir.to_path_buf(),
    };
    let encoders = placed(model_cards::read(&own)?, dir, &manifest)?;
    if manifest.layout == ExportLayout::Burgess {
        let (model, tokenizer) = Mllm::load(dir, device)?;
        return Ok((model, tokenizer, encoders));
    }
    checksums::check_all(dir).map_err(|e| {
        e.hint(format!(
            "the exported model is damaged: export or download it again; if the change was intended, remove {} from the \
             directory",
            checksums::FILE
        ))
    })?;
    let config: MllmConfig = atomic::read_json(&own.join("config.json"))?;
    let tokenizer = Tokenizer::from_file(&own.join("tokenizer.json"))?;
    let tower = match encoders.first().map(|e| &e.card) {
        Some(ArmCard::Encoder(card)) => Dialect::find(&card.source.dialect)?,
        _ => &IDENTITY,
    };
    Ok((exported::load(dir, config, tower, device)?, tokenizer, encoders))
}

/// Returns the encoders with the weights that lie in the directory itself.
fn placed(mut encoders: Vec<ModelEncoder>, dir: &Path, manifest: &ExportManifest) -> Result<Vec<ModelEncoder>> {
    if encoders.len() != manifest.encoders.len() {
        return Err(Error::failed(format!(
            "{} lists {} encoders, the cards of the model are {}",
            dir.join(MANIFEST).display(),
            manifest.encoders.len(),
            encoders.len()
        ))
        .hint("export the model again"));
    }
    for (encoder, folder) in encoders.iter_mut().zip(&manifest.encoders) {
        if let (ArmCard::Encoder(card), Some(folder)) = (&mut encoder.card, folder) {
            // `.` at the end of a path would be part of messages.
            let folder: PathBuf = Path::new(folder).components().filter(|c| *c != Component::CurDir).collect();
            card.source.location = WeightsLocation::Directory(dir.join(folder));
        }
    }
    Ok(encoders)
}
