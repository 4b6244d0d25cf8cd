//! The marker of a finished shard: `shard-NNNNN.done`.

use super::stage::Stage;
use crate::llm::Usage;
use burgess_base::{Context, Error, Result, atomic, digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Version of the format of markers.
const SCHEMA: u32 = 1;

/// Size and digest of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMark {
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3 digest, 32 hexadecimal digits.
    pub digest: String,
}

/// What a finished shard was made of, what is in it, and what was left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DoneMarker {
    /// Version of this format.
    pub schema: u32,
    /// The stage.
    pub stage: Stage,
    /// Number of the shard.
    pub shard: usize,
    /// The settings that determine the contents.
    pub settings: serde_json::Value,
    /// Digest of what the shard was made of: the previous stage's file, or the list of subfields.
    pub input: String,
    /// The files, by their names in the stage's directory.
    pub files: BTreeMap<String, FileMark>,
    /// Number of items that were read.
    pub items: u64,
    /// Number of records that were written.
    pub records: u64,
    /// Further counts.
    pub counts: BTreeMap<String, u64>,
    /// Number of rejected items or records, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// Tokens of all replies that were used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Models that wrote the replies, as the endpoint names them, with the number of replies.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub models: BTreeMap<String, u64>,
}

impl DoneMarker {
    /// Makes a marker without files and counts.
    pub fn new(stage: Stage, shard: usize, settings: serde_json::Value, input: String) -> Self {
        Self {
            schema: SCHEMA,
            stage,
            shard,
            settings,
            input,
            files: BTreeMap::new(),
            items: 0,
            records: 0,
            counts: BTreeMap::new(),
            rejected: BTreeMap::new(),
            usage: None,
            models: BTreeMap::new(),
        }
    }

    /// Counts rejections.
    pub fn reject(&mut self, reason: &str, count: u64) {
        *self.rejected.entry(reason.to_string()).or_default() += count;
    }

    /// Adds to a further count.
    pub fn count(&mut self, name: &str, by: u64) {
        *self.counts.entry(name.to_string()).or_default() += by;
    }

    /// Records size and digest of a file that is complete.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn add_file(&mut self, directory: &Path, name: &str) -> Result<()> {
        let path = directory.join(name);
        let bytes = fs::metadata(&path).with_context(|| format!("reading {}", path.display()))?.len();
        self.files.insert(name.to_string(), FileMark { bytes, digest: digest::of_file(&path)? });
        Ok(())
    }

    /// Writes the marker.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        atomic::write_json(path, self)
    }

    /// Reads a marker; `None` if there is none.
    ///
    /// # Errors
    /// The file cannot be read, or is no marker.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let hint = "delete this file: the shard is done again, and replies that are kept are not asked for again";
        let marker: Self = atomic::read_json(path).map_err(|e| e.hint(hint))?;
        match marker.schema {
            SCHEMA => Ok(Some(marker)),
            other => {
                Err(Error::failed(format!("{}: `schema` is {other}, expected {SCHEMA}", path.display())).hint(hint))
            }
        }
    }

    /// Compares a file with what the marker says about it.
    ///
    /// # Errors
    /// The file is missing or differs.
    pub fn verify(&self, directory: &Path, name: &str) -> Result<()> {
        let path = directory.join(name);
        let hint = format!("do this shard again: delete {} beside it", super::stage::shard_name(self.shard) + ".done");
        let Some(mark) = self.files.get(name) else {
            return Err(Error::failed(format!("{} is not listed in its marker", path.display())).hint(hint));
        };
        let found = digest::of_file(&path).map_err(|e| e.hint(hint.clone()))?;
        if found != mark.digest {
            return Err(Error::failed(format!(
                "{} has the digest {found}, its marker says {}",
                path.display(),
                mark.digest
            ))
            .hint(hint));
        }
        Ok(())
    }
}
