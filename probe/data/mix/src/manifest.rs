//! The record of how a mix was made, `manifest.json` beside its data.

use crate::mix::Mix;
use crate::output::OutputFile;
use crate::plan::PoolProblems;
use crate::table::MixTable;
use burgess_base::skipped::SkippedEntries;
use burgess_base::{Result, atomic, digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Name of the manifest in the directory of a mix.
pub const MANIFEST: &str = "manifest.json";
/// What a manifest calls itself, to be told apart from other files of this name.
const WHAT: &str = "burgess mix";
/// Format version; increases when the format of the manifest changes.
const FORMAT: u32 = 1;

/// A file from which a mix was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestInput {
    /// Its path.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// The BLAKE3 digest of its contents (128 bits).
    pub digest: String,
}

/// Counts of what was done to the questions of a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptCount {
    /// Questions to which the text was appended.
    pub appended: u64,
    /// Questions that had the text already.
    pub present: u64,
}

/// Counts of what happened while a mix was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteCounts {
    /// Appended texts by source.
    #[serde(default)]
    pub system_prompts: BTreeMap<String, PromptCount>,
    /// Entries to which the name of their source was added, because they did not state one.
    #[serde(default)]
    pub sources_added: u64,
    /// Entries that were left out because an image could not be read or an edit failed, by reason and source.
    #[serde(default)]
    pub left_out: Vec<SkippedEntries>,
    /// Images that were copied out of tables and archives.
    #[serde(default)]
    pub images_copied: u64,
}

/// How a mix was made. It holds no date and no name of a machine: the same mix of the same files has the same manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// `burgess mix`.
    pub what: String,
    /// Format version.
    pub format: u32,
    /// Version of Burgess.
    pub version: String,
    /// Name of the mix: that of a built-in one, or of its file.
    pub name: String,
    /// Number of entries.
    pub entries: u64,
    /// Digest of the mix, its pools and their files, by which an unfinished mix is recognised.
    pub key: String,
    /// The rules with all their values.
    pub mix: Mix,
    /// The files of the pools.
    pub inputs: Vec<ManifestInput>,
    /// The files that were written.
    pub outputs: Vec<OutputFile>,
    /// Directories to which the image paths in the output are relative, by number of entries with such images.
    pub images: BTreeMap<PathBuf, u64>,
    /// Counts of each source after each rule.
    pub table: MixTable,
    /// What happened while it was written.
    pub counts: WriteCounts,
    /// What could not be read of the pools.
    pub problems: PoolProblems,
}

impl WriteCounts {
    /// Returns a line for each reason for which entries were left out while they were written, and for each source with
    /// system prompts.
    pub fn lines(&self) -> Vec<String> {
        let left_out = |entries: &SkippedEntries| {
            let more = if entries.count > entries.first.len() { ", …" } else { "" };
            let first = entries.first.join(", ");
            format!("{} of {} left out: {} ({first}{more})", entries.count, entries.source, entries.reason)
        };
        let prompt = |(source, count): (&String, &PromptCount)| {
            format!(
                "system prompt of {source}: appended to {} questions, {} had it already",
                count.appended, count.present
            )
        };
        self.left_out.iter().map(left_out).chain(self.system_prompts.iter().map(prompt)).collect()
    }
}

impl Manifest {
    pub(crate) fn new(name: &str, mix: Mix, key: String, table: MixTable, problems: PoolProblems) -> Self {
        Self {
            what: WHAT.into(),
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            name: name.into(),
            entries: 0,
            key,
            mix,
            inputs: Vec::new(),
            outputs: Vec::new(),
            images: BTreeMap::new(),
            table,
            counts: WriteCounts::default(),
            problems,
        }
    }

    /// Reads the manifest of a directory; `None` if there is none of a mix.
    ///
    /// # Errors
    /// The file is one of a mix and cannot be read.
    pub fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(MANIFEST);
        if !path.is_file() {
            return Ok(None);
        }
        // Other data have a `manifest.json` too.
        let what: serde_json::Value = atomic::read_json(&path)?;
        if what.get("what").and_then(serde_json::Value::as_str) != Some(WHAT) {
            return Ok(None);
        }
        atomic::read_json(&path).map(Some).map_err(|e: burgess_base::Error| {
            e.hint("make the mix again with this version of Burgess, or remove its manifest.json")
        })
    }

    /// Returns the manifest beside a data file, if the file is one of its outputs and has the stated size.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub fn beside(file: &Path) -> Result<Option<Self>> {
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let Some(manifest) = Self::read(dir)? else { return Ok(None) };
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
        let size = file.metadata().map(|meta| meta.len()).ok();
        let known =
            manifest.outputs.iter().any(|output| Some(&output.file) == name.as_ref() && Some(output.bytes) == size);
        Ok(known.then_some(manifest))
    }

    /// Returns the digest of the manifest, by which a run refers to it.
    ///
    /// # Errors
    /// It cannot be formatted as JSON.
    pub fn digest(&self) -> Result<String> {
        digest::of_value(self)
    }

    /// Returns whether all outputs in `dir` exist with their sizes.
    pub(crate) fn is_complete(&self, dir: &Path) -> bool {
        let whole =
            |output: &OutputFile| dir.join(&output.file).metadata().is_ok_and(|meta| meta.len() == output.bytes);
        self.outputs.iter().all(whole)
    }
}
