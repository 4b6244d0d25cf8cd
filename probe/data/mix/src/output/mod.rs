//! Writers of training sets: JSON lines, and webdataset shards. Both go on after an interruption, and files appear
//! whole.

mod json_lines;
mod web_dataset;

pub use json_lines::JsonLines;
pub use web_dataset::{WebDataset, WebSample};

use burgess_base::{Context, Result, atomic};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFile {
    /// Its name in the directory of the output.
    pub file: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The BLAKE3 digest of its contents (128 bits).
    pub digest: String,
    /// Number of entries in it.
    pub entries: u64,
}

/// What a writer has finished, in a file beside its output.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Journal {
    /// What the output is made of; another key means another output.
    key: String,
    /// Number of entries that are finished.
    entries: u64,
    /// Bytes of the unfinished file that are on disk.
    bytes: u64,
    /// Finished files.
    files: Vec<OutputFile>,
    /// What the caller counted up to here.
    state: Value,
}

impl Journal {
    /// Reads the journal of an output with this key; `None` if there is none, or if it is of another one or damaged.
    fn read(path: &Path, key: &str) -> Option<Self> {
        let journal: Self = atomic::read_json(path).ok()?;
        (journal.key == key).then_some(journal)
    }

    fn write(&self, path: &Path) -> Result<()> {
        atomic::write_json(path, self)
    }
}

/// Removes a file; it is no error if it does not exist.
fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Returns a path with a suffix behind its file name.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    path.with_file_name(name)
}

/// Returns the usual ending of an image's file name, recognised by its first bytes.
///
/// ```
/// assert_eq!(burgess_mix::output::image_ending(b"\x89PNG\r\n\x1a\n"), Some("png"));
/// assert_eq!(burgess_mix::output::image_ending(b"<html>"), None);
/// ```
pub fn image_ending(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => Some("jpg"),
        [0x89, b'P', b'N', b'G', ..] => Some("png"),
        [b'G', b'I', b'F', b'8', ..] => Some("gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("webp"),
        [b'B', b'M', ..] => Some("bmp"),
        [b'I', b'I', 0x2a, 0, ..] | [b'M', b'M', 0, 0x2a, ..] => Some("tif"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
