//! Trained models as directories for a hub (`burgess export`).
//!
//! A model that `transformers`' LLaVA computes is written in its layout ([`llava`]), any other in Burgess's own
//! ([`own`]). Both are read by Burgess again, with equal answers. Beside the model lie a model card and checksums.

mod card;
pub mod licences;
pub mod llava;
pub mod own;
pub mod scores;
pub mod shards;
pub mod source;

use crate::run::exported::{ExportLayout, is_export};
use burgess_base::temporary::TemporaryPath;
use burgess_base::{Context, Error, Result, atomic, checksums, output};
use burgess_encoders::checkpoint::Precision;
use burgess_hub::Repository;
use burgess_probe::llm::weights::{is_reference, write_merged};
use card::ModelCard;
use llava::LlavaExport;
use serde::Serialize;
use source::ExportSource;
use std::fs;
use std::path::{Path, PathBuf};

/// What is exported, and where.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// A `model` directory, a run, or an arm.
    pub from: PathBuf,
    /// The run of an arm; default: that with the lowest seed.
    pub seed: Option<u64>,
    /// The directory that is made.
    pub to: PathBuf,
    /// Burgess's own layout, even if `transformers` could compute the model.
    pub own_layout: bool,
    /// Precision of the language model's weights if these are in another file, to which the model refers, and are to be
    /// written into the directory with merged adapters; `None` writes the adapters and the reference.
    pub merge: Option<Precision>,
    /// Name of the model's repository on the hub, `owner/name`, if it is known.
    pub repository: Option<String>,
    /// The command with which the model is exported, for the card.
    pub command: String,
}

/// The outcome of an export.
#[derive(Debug, Serialize)]
pub struct ExportOutcome {
    /// The directory.
    pub directory: PathBuf,
    /// The model that was exported.
    pub model: PathBuf,
    /// Its layout: `llava` or `burgess`.
    pub layout: ExportLayout,
    /// Why `transformers`' LLaVA does not compute the model; `None` if it does, or if that was not asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_llava: Option<String>,
    /// What was multiplied into weights.
    pub folded: Vec<String>,
    /// Number of files.
    pub files: usize,
    /// Size of all files in bytes.
    pub bytes: u64,
}

/// Exports a trained model. The directory is written under a temporary name and renamed: it is complete or absent. An
/// earlier export is replaced.
///
/// # Errors
/// There is no model, a file is missing or damaged, or the directory exists and is no export.
pub fn export(options: &ExportOptions) -> Result<ExportOutcome> {
    let to = &options.to;
    check_target(to)?;
    if let Some(name) = options.repository.as_deref().filter(|name| Repository::parse(name).is_none()) {
        return Err(Error::usage(format!("`{name}` is not the name of a repository")).hint("write it as owner/name"));
    }
    let mut source = ExportSource::open(&options.from, options.seed)?;
    if source.encoders.iter().any(|e| e.encoder.is_oracle()) {
        return Err(Error::usage(format!("{} is the oracle baseline, which reads no images", source.model.display()))
            .hint("export an arm with an encoder"));
    }
    let model = source.model.clone();
    let refers = is_reference(&model.join("llm"));
    let merged = match (refers, options.merge) {
        (true, Some(precision)) => Some(merged(&source, to, precision)?),
        (false, Some(_)) => {
            return Err(Error::usage(format!(
                "{} holds all weights of its language model: there is nothing to merge",
                model.display()
            ))
            .hint("export it without merging"));
        }
        (_, None) => None,
    };
    if let Some(merged) = &merged {
        source.model = merged.path().to_path_buf();
    }
    let planned = match options.own_layout {
        true => Err(None),
        false if refers && merged.is_none() => {
            Err(Some("the weights of its language model are in another file, to which it refers".to_string()))
        }
        false => LlavaExport::plan(&source)?.map_err(Some),
    };
    let tmp = TemporaryPath::beside(to);
    let dir = tmp.path();
    fs::create_dir_all(dir).with_context(|| format!("writing {}", dir.display()))?;
    let mut outcome = ExportOutcome {
        directory: to.clone(),
        model,
        layout: ExportLayout::Llava,
        not_llava: None,
        folded: Vec::new(),
        files: 0,
        bytes: 0,
    };
    let mut bundled = Vec::new();
    match planned {
        Ok(llava) => {
            llava.write(&source, dir)?;
            outcome.folded = llava.folded(&source).0;
        }
        Err(why) => {
            (outcome.layout, outcome.not_llava) = (ExportLayout::Burgess, why);
            bundled = own::write(&source, dir)?;
        }
    }
    checksums::record_all(dir)?;
    if let Some(results) = source.results()? {
        scores::write(&results, options.repository.as_deref(), dir)?;
    }
    // The card is edited on the hub, so it has no checksum.
    let card = ModelCard { source: &source, outcome: &outcome, bundled: &bundled, command: &options.command };
    atomic::write(&dir.join("README.md"), card.text()?.as_bytes())?;
    atomic::write(&dir.join(".gitattributes"), b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n")?;
    (outcome.files, outcome.bytes) = size(dir)?;
    replace(dir, to)?;
    Ok(outcome)
}

/// Writes a copy of a model beside `to` whose language model has merged weights.
fn merged(source: &ExportSource, to: &Path, precision: Precision) -> Result<TemporaryPath> {
    let copy = TemporaryPath::beside(to);
    own::copy(&source.model, copy.path())?;
    let llm = copy.path().join("llm");
    fs::remove_dir_all(&llm).with_context(|| format!("writing {}", llm.display()))?;
    write_merged(&source.model.join("llm"), &llm, precision)?;
    checksums::record_all(copy.path())?;
    Ok(copy)
}

/// Checks that the directory can be made, before any work is done.
fn check_target(to: &Path) -> Result<()> {
    output::check_directory(to)?;
    let is_empty = |dir: &Path| fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
    if to.exists() && !is_export(to) && !is_empty(to) {
        return Err(Error::usage(format!("{} exists and was not made by `burgess export`", to.display()))
            .hint("choose another directory; only an earlier export is replaced"));
    }
    Ok(())
}

/// Moves the finished directory to its place, and removes an earlier export.
fn replace(dir: &Path, to: &Path) -> Result<()> {
    let step = || format!("writing {}", to.display());
    // A symbolic link is kept: its target is replaced.
    let to = &to.canonicalize().unwrap_or_else(|_| to.to_path_buf());
    let before = TemporaryPath::beside(to);
    if to.exists() {
        fs::rename(to, before.path()).with_context(step)?;
    }
    if let Err(e) = fs::rename(dir, to) {
        // The earlier export stays.
        if before.path().exists() {
            fs::rename(before.path(), to).with_context(step)?;
        }
        return Err(e).with_context(step);
    }
    Ok(())
}

/// Number and size of all files below a directory.
fn size(dir: &Path) -> Result<(usize, u64)> {
    let step = || format!("listing {}", dir.display());
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(dir).with_context(step)? {
        let entry = entry.with_context(step)?;
        let meta = entry.metadata().with_context(step)?;
        if meta.is_dir() {
            let (inner, size) = size(&entry.path())?;
            (files, bytes) = (files + inner, bytes + size);
        } else {
            (files, bytes) = (files + 1, bytes + meta.len());
        }
    }
    Ok((files, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_earlier_export_is_replaced() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let to = dir.path().join("out");
        check_target(&to)?;
        fs::create_dir(&to)?;
        check_target(&to)?;
        fs::write(to.join("thesis.txt"), "the only copy")?;
        let e = check_target(&to).unwrap_err();
        assert!(e.exit_code() == 2 && e.to_string().contains("was not made by"), "{e}");
        fs::write(to.join("burgess.json"), "{}")?;
        check_target(&to)?;
        let made = dir.path().join("made");
        fs::create_dir(&made)?;
        fs::write(made.join("new"), "")?;
        replace(&made, &to)?;
        assert!(to.join("new").is_file() && !to.join("thesis.txt").exists() && !made.exists());
        assert_eq!(fs::read_dir(dir.path())?.count(), 1, "no temporary directory is left");
        Ok(())
    }
}
