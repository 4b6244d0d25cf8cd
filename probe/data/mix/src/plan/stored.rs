//! A plan in a file, so that an interrupted mix goes on without reading its pools again.
//!
//! The file is a line of JSON, then 16 bytes per entry, then the digest of all this.

use super::{FileSpan, MixPlan, PlanGroup, PoolProblems};
use crate::mix::Mix;
use crate::scan::Record;
use crate::table::MixTable;
use burgess_base::digest::Digest;
use burgess_base::{Context, Result, atomic};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

/// Format version; increases when the format of the file or the meaning of a rule changes.
pub const FORMAT: u32 = 1;
const NAME: &str = "plan.bin";
/// Length of a digest in characters.
const DIGEST: usize = 32;
/// Largest length of the first line in bytes.
const LONGEST: u64 = 256 << 20;

#[derive(Serialize, Deserialize)]
struct Header {
    key: String,
    entries: usize,
    files: Vec<(u32, u32, usize)>,
    groups: Vec<PlanGroup>,
    table: MixTable,
    problems: PoolProblems,
}

/// Returns the path of a stored plan.
pub fn path(scratch: &Path) -> PathBuf {
    scratch.join(NAME)
}

impl MixPlan {
    /// Stores the plan, for an interrupted run to go on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn store(&self, scratch: &Path) -> Result<()> {
        let header = Header {
            key: self.key.clone(),
            entries: self.entries.len(),
            files: self.files.iter().map(|span| (span.pool, span.file, span.begin)).collect(),
            groups: self.groups.clone(),
            table: self.table.clone(),
            problems: self.problems.clone(),
        };
        let mut line = serde_json::to_vec(&header)?;
        line.push(b'\n');
        atomic::write_with(&path(scratch), |out| {
            let mut digest = Digest::default();
            digest.update(&line);
            out.write_all(&line)?;
            let mut bytes = Vec::with_capacity(1 << 16);
            for chunk in self.entries.chunks(1 << 12) {
                bytes.clear();
                chunk.iter().for_each(|record| bytes.extend_from_slice(&record.to_bytes()));
                digest.update(&bytes);
                out.write_all(&bytes)?;
            }
            Ok(out.write_all(digest.finish().as_bytes())?)
        })
    }

    /// Returns the plan that is stored in a directory, without its pools, if it is this one. A damaged file counts as
    /// none, because the plan can be made again.
    ///
    /// # Errors
    /// The file exists and cannot be read.
    pub(crate) fn stored(scratch: &Path, mix: &Mix, key: &str) -> Result<Option<Self>> {
        let path = path(scratch);
        if !path.is_file() {
            return Ok(None);
        }
        let step = || format!("reading {}", path.display());
        let mut reader = BufReader::with_capacity(1 << 16, File::open(&path).with_context(step)?);
        let mut line = Vec::new();
        reader.by_ref().take(LONGEST).read_until(b'\n', &mut line).with_context(step)?;
        let Ok(header) = serde_json::from_slice::<Header>(&line) else { return Ok(None) };
        if header.key != key {
            return Ok(None);
        }
        let mut digest = Digest::default();
        digest.update(&line);
        let rest = path.metadata().with_context(step)?.len().saturating_sub(line.len() as u64);
        let size = Record::BYTES as u64;
        if rest != header.entries as u64 * size + DIGEST as u64 {
            return Ok(None);
        }
        let mut entries = Vec::with_capacity(header.entries);
        let mut bytes = [0u8; Record::BYTES];
        for _ in 0..header.entries {
            reader.read_exact(&mut bytes).with_context(step)?;
            digest.update(&bytes);
            entries.push(Record::from_bytes(bytes));
        }
        let mut stated = String::new();
        reader.read_to_string(&mut stated).with_context(step)?;
        if stated != digest.finish() {
            return Ok(None);
        }
        let files = header.files.into_iter().map(|(pool, file, begin)| FileSpan { pool, file, begin }).collect();
        Ok(Some(Self {
            mix: mix.clone(),
            pools: Vec::new(),
            inputs: Vec::new(),
            entries,
            files,
            groups: header.groups,
            table: header.table,
            problems: header.problems,
            key: key.to_string(),
        }))
    }
}
