//! The directory of the field study on this machine, `CACHE/field`, for which studies write `{field}`.

use crate::data::directory::verification_record;
use crate::machine::paths;
use crate::machine::progress::Progress;
use crate::study::paths::FIELD;
use burgess_base::checksums::{self, Verification};
use burgess_base::{Error, Result, temporary};
use burgess_field::FieldSpec;
use burgess_field::prepare::{self, PreparedField};
use std::path::{Path, PathBuf};

/// Directory of the prepared weights and data.
pub fn directory() -> Result<PathBuf> {
    Ok(paths::cache()?.join("field"))
}

/// Directory in which `experiments/studies/field/prepare.sh` unpacks the packages.
pub fn packages_directory() -> Result<PathBuf> {
    Ok(directory()?.join("raw"))
}

/// Replaces a leading `{field}/` by the prepared directory; returns other names unchanged.
///
/// # Errors
/// The path was not prepared.
pub fn resolve(name: &str) -> Result<String> {
    let Some(rest) = name.strip_prefix(FIELD) else { return Ok(name.to_string()) };
    let path = directory()?.join(rest);
    match path.exists() {
        true => Ok(path.to_string_lossy().into_owned()),
        false => Err(Error::usage(format!("{name} is not on this machine: {} does not exist", path.display()))
            .hint(prepare_hint(None))),
    }
}

/// Hint on how to prepare the data: the command, with the sizes of `spec` unless they are those of the built-in study.
fn prepare_hint(spec: Option<&FieldSpec>) -> String {
    let sizes = match spec {
        None => String::new(),
        Some(FieldSpec { seed, align, tune, turns, per_benchmark }) => {
            format!(" --seed {seed} --align {align} --tune {tune} --turns {turns} --per-benchmark {per_benchmark}")
        }
    };
    format!(
        "experiments/studies/field/prepare.sh downloads and prepares the packages; if they are unpacked already: \
         burgess data field{sizes}"
    )
}

/// Returns the directory of the prepared data and the digest of their contents.
///
/// # Errors
/// The data were not prepared.
pub fn data_directory(spec: &FieldSpec) -> Result<(PathBuf, String)> {
    let dir = prepare::data_directory(&directory()?, spec)?;
    if !dir.is_dir() {
        return Err(Error::usage(format!(
            "the data of the field study are not prepared: {} does not exist",
            dir.display()
        ))
        .hint(prepare_hint(Some(spec))));
    }
    let digest = prepare::content_digest(&dir).map_err(|e| e.hint(prepare_hint(Some(spec))))?;
    Ok((dir, digest))
}

/// Compares prepared data with their checksums; unchanged files that were compared before are not read again.
///
/// # Errors
/// A file is missing or damaged.
pub fn check(dir: &Path, spec: &FieldSpec, note: &dyn Fn(&str)) -> Result<()> {
    let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (known, bad) = checksums::damaged(dir, &verification_record(&format!("field-{name}"))?)?;
    if known == Verification::NoChecksum {
        note(&format!(
            "note: {} was prepared by an earlier version, without checksums: it is used unchecked",
            dir.display()
        ));
    }
    match bad.first() {
        None => Ok(()),
        Some(first) => Err(Error::failed(format!(
            "{} files of the field study's data are missing or differ from their checksums, first {}",
            bad.len(),
            dir.join(first).display()
        ))
        .hint(format!("to prepare them again: {}", prepare_hint(Some(spec))))),
    }
}

/// Prepares weights and data from the packages in `from`.
pub fn prepare(from: &Path, spec: &FieldSpec, progress: &Progress) -> Result<PreparedField> {
    if !from.is_dir() {
        return Err(Error::usage(format!("the directory of packages {} does not exist", from.display())).hint(
            "experiments/studies/field/prepare.sh downloads and unpacks the packages; or name another directory",
        ));
    }
    temporary::remove_stale(&directory()?, 1);
    let bar = progress.bar("composing images", 0);
    let prepared = prepare::prepare(from, &directory()?, spec, &|done, total| bar.set(done, total))?;
    if !prepared.was_there {
        bar.done("composed the images of the field study");
    }
    Ok(prepared)
}
