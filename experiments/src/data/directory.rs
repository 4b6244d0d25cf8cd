//! The directory of a study's data, and checks of its files.

use crate::machine::paths;
use burgess_base::checksums;
use burgess_base::{Context, Error, Result, digest};
use std::path::{Path, PathBuf};

/// A data directory: `align.jsonl`, `tune.jsonl`, `bench/<benchmark>.jsonl` and the images they name.
#[derive(Clone, Debug)]
pub struct DataDirectory {
    /// Directory to which image names are relative.
    pub dir: PathBuf,
    /// Conversations of the align stage, if there are any.
    pub align: Option<PathBuf>,
    /// Conversations of the tune stage.
    pub tune: PathBuf,
    /// Digest of all data that are read. Empty for data whose digest follows from the contents of the files that are
    /// used, until these are known (see [`digests`](crate::data::digests)).
    pub digest: String,
    /// Digest that earlier versions computed from file names, sizes and times, for data whose digest follows from
    /// contents.
    pub earlier: Option<String>,
    /// Whether the images were rendered or composed by Burgess, so that all can be decoded.
    pub generated: bool,
    /// Largest number of tune conversations with an image per source; `None` for all.
    pub per_source: Option<usize>,
}

/// Checks that a directory exists; `what` describes it in errors.
pub fn check_directory(dir: &Path, what: &str, hint: &str) -> Result<()> {
    match std::fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(Error::usage(format!("{what} {} is not a directory", dir.display())).hint(hint)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::usage(format!("{what} {} does not exist", dir.display())).hint(hint))
        }
        Err(e) => Err(e).with_context(|| format!("opening {what} {}", dir.display())),
    }
}

/// Checks that a file of conversations is a regular file: a pipe cannot be read twice.
pub fn check_file(file: &Path) -> Result<()> {
    let hint = "conversations are JSON lines or an array, plain or compressed (.gz, .zst)";
    match std::fs::metadata(file) {
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => Err(Error::usage(format!("{} is not a regular file", file.display())).hint(hint)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::usage(format!("the file of conversations {} does not exist", file.display())).hint(hint))
        }
        Err(e) => Err(e).with_context(|| format!("opening {}", file.display())),
    }
}

/// File that records which data files were compared with their checksums, and when.
pub fn verification_record(name: &str) -> Result<PathBuf> {
    Ok(paths::cache()?.join("checked").join(format!("{name}.json")))
}

/// Compares the files of a directory with their checksums. Only directories that Burgess wrote (a nano world, the field
/// study's data) and copies of them have checksums; others pass.
///
/// # Errors
/// A file is missing or damaged.
pub fn check_checksums(dir: &Path) -> Result<()> {
    let name = digest::of_bytes(std::path::absolute(dir).unwrap_or_default().to_string_lossy().as_bytes());
    let (_, bad) = checksums::damaged(dir, &verification_record(&name)?)?;
    match bad.first() {
        None => Ok(()),
        Some(first) => {
            let path = dir.join(first);
            Err(Error::failed(format!(
                "{} is missing or differs from its checksum, one of {} files",
                path.display(),
                bad.len()
            ))
            .hint(format!("if the change was intended, remove {}", dir.join(checksums::FILE).display())))
        }
    }
}
