//! Converts the raw directory to the prepared one:
//!
//! ```text
//! FIELD/vit-s14-focus/                        the encoder, a transformers directory
//! FIELD/SmolLM2-135M-Instruct.Q4_1.gguf       the language model
//! FIELD/data/<digest of version and specification>/
//!     align.jsonl tune.jsonl bench/*.jsonl images/…
//!     manifest.json                           where everything is from, licences, digests, what was left out
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burgess_base::{Context, Error, Result, atomic, checksums, digest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::dataset::{self, DatasetSummary, FieldSpec};
use crate::material::Material;
use crate::raw::{PACKAGES, Package, RawDirectory};
use crate::{ENCODER, LANGUAGE_MODEL, VERSION, backbone};

/// The result of a preparation.
#[derive(Debug, Serialize)]
pub struct PreparedField {
    /// The directory with images and questions.
    pub data: PathBuf,
    /// Whether the data already existed, made from the same files.
    pub was_there: bool,
    /// The encoder's directory, if its package was found.
    pub encoder: Option<PathBuf>,
    /// The language model's file, if its package was found.
    pub llm: Option<PathBuf>,
    /// Number of lines of each file.
    pub counts: BTreeMap<String, usize>,
    /// Missing or damaged inputs, and what is left out because of them.
    pub left_out: Vec<String>,
}

/// The fields of `manifest.json` that are read back.
#[derive(Deserialize)]
struct Manifest {
    raw: BTreeMap<String, Value>,
    written: DatasetSummary,
    left_out: Vec<String>,
    digest: String,
}

/// Returns the data directory of a specification in the field study's directory.
pub fn data_directory(field: &Path, spec: &FieldSpec) -> Result<PathBuf> {
    Ok(field.join("data").join(digest::of_value(&("burgess-field", VERSION, spec))?))
}

/// Returns the digest of the contents of a prepared data directory.
///
/// # Errors
/// An error is returned if the directory or its manifest does not exist.
pub fn content_digest(data: &Path) -> Result<String> {
    Ok(atomic::read_json::<Manifest>(&data.join("manifest.json"))?.digest)
}

/// Prepares all files in `field` from the packages in `from`; existing files that were made from the same inputs are
/// kept.
///
/// # Errors
/// An error is returned if there are no stamps, if a file of an existing package is so damaged that a part cannot be
/// made, or if writing fails.
pub fn prepare(
    from: &Path,
    field: &Path,
    spec: &FieldSpec,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<PreparedField> {
    let raw = RawDirectory::open(from)?;
    // Stamps are required, so this is checked before any other work.
    raw.path(Package::Stamps)?;
    let digests = raw.digests()?;
    let encoder = match raw.path(Package::Encoder) {
        Ok(path) => Some(encoder(path, digests.get(&Package::Encoder), &field.join(ENCODER))?),
        Err(_) => None,
    };
    let llm = match raw.path(Package::LanguageModel) {
        Ok(path) => Some(copied(path, digests.get(&Package::LanguageModel), &field.join(LANGUAGE_MODEL))?),
        Err(_) => None,
    };
    let data = data_directory(field, spec)?;
    let sources = sources(&digests)?;
    if let Ok(manifest) = atomic::read_json::<Manifest>(&data.join("manifest.json"))
        && json!(manifest.raw) == sources
        // Damaged data are made again.
        && checksums::check_all(&data).is_ok()
    {
        let (counts, left_out) = (manifest.written.counts, manifest.left_out);
        return Ok(PreparedField { data, was_there: true, encoder, llm, counts, left_out });
    }
    let mut left_out = raw.missing.clone();
    let material = Material::read(&raw, spec.seed, &mut left_out)?;
    if data.exists() {
        // The existing data were made from other files or by hand, so they do not match the specification.
        fs::remove_dir_all(&data).with_context(|| format!("removing {}", data.display()))?;
    }
    let mut counts = BTreeMap::new();
    atomic::create_dir_with(&data, |dir| {
        let written = dataset::write(dir, &material, spec, progress)?;
        let manifest = json!({
            "version": VERSION,
            "spec": spec,
            "raw": sources,
            "left_out": left_out,
            "stamps": {
                "train": material.split.train.len(),
                "held_out": names(&material, &material.split.test),
                "unused": names(&material, &material.split.unused),
            },
            "written": written,
            "digest": contents(dir)?,
        });
        counts = written.counts;
        atomic::write_json(&dir.join("manifest.json"), &manifest)?;
        checksums::record_all(dir)
    })
    .context("composing the images of the field study")?;
    Ok(PreparedField { data, was_there: false, encoder, llm, counts, left_out })
}

/// Returns package, licence and digest of every input that was used.
fn sources(digests: &BTreeMap<Package, String>) -> Result<Value> {
    let mut sources = json!({});
    for about in PACKAGES.iter().filter(|a| digests.contains_key(&a.part)) {
        let mut entry = serde_json::to_value(about)?;
        entry["digest"] = json!(digests.get(&about.part));
        let key = serde_json::to_value(about.part)?;
        sources[key.as_str().unwrap_or_default()] = entry;
    }
    Ok(sources)
}

fn names(material: &Material, stamps: &[usize]) -> Value {
    json!(stamps.iter().filter_map(|n| material.stamps.get(*n)).map(|s| &s.path).collect::<Vec<_>>())
}

/// Returns the digest of all files in a directory, by names and contents.
fn contents(dir: &Path) -> Result<String> {
    let (mut files, mut open) = (Vec::new(), vec![dir.to_path_buf()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("listing {}", folder.display()))? {
            let path = entry?.path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    let list: Result<Vec<(String, String)>> = files
        .iter()
        .map(|f| Ok((f.strip_prefix(dir).unwrap_or(f).to_string_lossy().into_owned(), digest::of_file(f)?)))
        .collect();
    digest::of_value(&list?)
}

/// Name of the file that records from which raw file a part was made.
const MADE_FROM: &str = "made-from";

fn encoder(onnx: &Path, digest: Option<&String>, dir: &Path) -> Result<PathBuf> {
    let digest = digest.map(String::as_str).unwrap_or_default();
    let note = dir.join(MADE_FROM);
    if fs::read_to_string(&note).is_ok_and(|made| made.trim() == digest) {
        return Ok(dir.to_path_buf());
    }
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
    }
    atomic::create_dir_with(dir, |tmp| {
        backbone::write(onnx, tmp)?;
        atomic::write(&tmp.join(MADE_FROM), digest.as_bytes())
    })?;
    // The card is opened once, so that an unsupported model is found now and not at the start of a study.
    burgess_encoders::card::EncoderCard::open(&dir.to_string_lossy())?;
    Ok(dir.to_path_buf())
}

/// Returns the file at `to`, which is a hard link to the raw file where the file system supports it, else a copy.
fn copied(file: &Path, digest: Option<&String>, to: &Path) -> Result<PathBuf> {
    let step = || format!("copying {} to {}", file.display(), to.display());
    if to.is_file() && Some(&digest::of_file(to)?) == digest {
        return Ok(to.to_path_buf());
    }
    if fs::metadata(file).with_context(step)?.len() == 0 {
        return Err(Error::failed("the file is empty").context(step()));
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(step)?;
    }
    if to.exists() {
        fs::remove_file(to).with_context(step)?;
    }
    if fs::hard_link(file, to).is_err() {
        let part = to.with_extension("part");
        fs::copy(file, &part).and_then(|_| fs::rename(&part, to)).with_context(step)?;
    }
    Ok(to.to_path_buf())
}
