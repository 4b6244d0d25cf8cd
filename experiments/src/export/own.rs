//! Export in Burgess's own layout, for models that `transformers`' LLaVA does not compute.

use crate::export::source::ExportSource;
use crate::features::ArmCard;
use crate::run::exported::{self, ExportLayout, ExportManifest};
use crate::study::EncoderWeights;
use burgess_base::{Context, Result, atomic, checksums};
use burgess_encoders::card::WeightsLocation;
use burgess_encoders::checkpoint::{self, IDENTITY, Precision};
use burn::tensor::Device;
use std::fs;
use std::path::Path;

/// Writes the model's directory into `dir`: its files as they are, and the weights of frozen encoders that nobody else
/// could get, because they come from a directory of this machine. Returns which encoders have their weights here.
///
/// # Errors
/// A file cannot be read or written, or an encoder's weights are missing.
pub fn write(source: &ExportSource, dir: &Path) -> Result<Vec<Option<String>>> {
    copy(&source.model, dir)?;
    let mut encoders = source.encoders.clone();
    let mut folders = Vec::with_capacity(encoders.len());
    for (i, encoder) in encoders.iter_mut().enumerate() {
        let ArmCard::Encoder(card) = &mut encoder.card else {
            folders.push(None);
            continue;
        };
        let is_local = matches!(card.source.location, WeightsLocation::Directory(_));
        if !source.config.encoders.is_empty() || !is_local {
            folders.push(None);
            continue;
        }
        let folder = format!("encoders/{i}");
        let network = encoder.encoder.load(card.clone(), &Device::flex())?;
        let file = dir.join(&folder).join("model.safetensors");
        checkpoint::save(&network.arch, &IDENTITY, "", Precision::F32, &file)?;
        card.source.dialect = IDENTITY.name.into();
        card.source.prefix = None;
        encoder.encoder.weights = EncoderWeights::Own;
        folders.push(Some(folder));
    }
    if folders.iter().any(Option::is_some) {
        atomic::write_json(&dir.join("cards.json"), &encoders)?;
    }
    let manifest = ExportManifest {
        format: exported::FORMAT,
        burgess: env!("CARGO_PKG_VERSION").into(),
        layout: ExportLayout::Burgess,
        encoders: folders.clone(),
    };
    atomic::write_json(&dir.join(exported::MANIFEST), &manifest)?;
    Ok(folders)
}

/// Copies the files of a directory and of the folders in it, apart from its checksums. A hard link serves as the copy
/// of weights where the file system has them: nobody edits those in place.
pub(super) fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("writing {}", to.display()))?;
    let step = || format!("copying {} to {}", from.display(), to.display());
    for entry in fs::read_dir(from).with_context(step)? {
        let path = entry.with_context(step)?.path();
        let Some(name) = path.file_name() else { continue };
        let target = to.join(name);
        if path.is_dir() {
            copy(&path, &target)?;
        } else if name != checksums::FILE {
            let weights = path.extension().is_some_and(|e| e == "safetensors");
            if !(weights && fs::hard_link(&path, &target).is_ok()) {
                fs::copy(&path, &target).with_context(step)?;
            }
        }
    }
    Ok(())
}
