//! JSON lines that are written under a temporary name and go on after an interruption.

use super::{Journal, OutputFile, remove, with_suffix};
use burgess_base::digest::Digest;
use burgess_base::{Context, Error, Result};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Number of bytes after which what is written is made safe.
const CHECKPOINT: u64 = 128 << 20;

/// A file of JSON lines. It is written as `NAME.partial` with a journal, and renamed when it is complete.
pub struct JsonLines {
    path: PathBuf,
    partial: PathBuf,
    journal_path: PathBuf,
    journal: Journal,
    file: BufWriter<File>,
    digest: Digest,
    entries: u64,
    bytes: u64,
}

impl JsonLines {
    /// Opens a file for writing. If an interrupted run with the same key has begun it, its lines up to the last
    /// checkpoint are kept; an unfinished file with another key is replaced.
    ///
    /// # Errors
    /// The file cannot be created, or what is kept cannot be read.
    pub fn open(path: &Path, key: &str) -> Result<Self> {
        let (partial, journal_path) = (with_suffix(path, ".partial"), with_suffix(path, ".journal"));
        let step = || format!("writing {}", partial.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(step)?;
        }
        let there = partial.metadata().map_or(0, |meta| meta.len());
        let journal = Journal::read(&journal_path, key).filter(|journal| journal.bytes <= there);
        let journal = match journal {
            Some(journal) => journal,
            None => {
                // The journal first: without it the partial file counts as nothing.
                remove(&journal_path)?;
                Journal { key: key.to_string(), ..Journal::default() }
            }
        };
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&partial).with_context(step)?;
        file.set_len(journal.bytes).with_context(step)?;
        let mut digest = Digest::default();
        let mut buffer = vec![0u8; 1 << 20];
        let mut left = journal.bytes;
        while left > 0 {
            let read = file.read(&mut buffer).with_context(|| format!("reading {}", partial.display()))?;
            if read == 0 {
                return Err(Error::failed(format!("{} ends {left} bytes too early", partial.display()))
                    .hint("remove the file and run the same command again"));
            }
            digest.update(buffer.get(..read).unwrap_or_default());
            left = left.saturating_sub(read as u64);
        }
        file.seek(SeekFrom::Start(journal.bytes)).with_context(step)?;
        Ok(Self {
            path: path.to_path_buf(),
            partial,
            journal_path,
            entries: journal.entries,
            bytes: journal.bytes,
            journal,
            file: BufWriter::with_capacity(1 << 20, file),
            digest,
        })
    }

    /// Returns the number of lines so far; after [`JsonLines::open`] those that an earlier run has finished.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Returns the number of bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns what the caller had counted at the last checkpoint; null at the beginning.
    pub fn state(&self) -> &Value {
        &self.journal.state
    }

    /// Appends a line, given without its line feed.
    ///
    /// # Errors
    /// The line contains a line feed, or an error of the file system.
    pub fn write(&mut self, line: &[u8]) -> Result<()> {
        if line.contains(&b'\n') {
            return Err(Error::failed(format!("entry {} spans several lines", self.entries + 1)));
        }
        let step = || format!("writing {}", self.partial.display());
        self.file.write_all(line).and_then(|()| self.file.write_all(b"\n")).with_context(step)?;
        self.digest.update(line);
        self.digest.update(b"\n");
        self.bytes += line.len() as u64 + 1;
        self.entries += 1;
        Ok(())
    }

    /// Returns whether enough is written since the last checkpoint.
    pub fn wants_checkpoint(&self) -> bool {
        self.bytes - self.journal.bytes >= CHECKPOINT
    }

    /// Makes everything so far safe, with what the caller has counted.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn checkpoint(&mut self, state: Value) -> Result<()> {
        let step = || format!("writing {}", self.partial.display());
        self.file.flush().with_context(step)?;
        self.file.get_ref().sync_data().with_context(step)?;
        self.journal = Journal {
            key: self.journal.key.clone(),
            entries: self.entries,
            bytes: self.bytes,
            files: Vec::new(),
            state,
        };
        self.journal.write(&self.journal_path)
    }

    /// Completes the file and renames it.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn finish(mut self) -> Result<OutputFile> {
        let step = || format!("writing {}", self.path.display());
        self.file.flush().with_context(step)?;
        self.file.get_ref().sync_all().with_context(step)?;
        fs::rename(&self.partial, &self.path).with_context(step)?;
        remove(&self.journal_path)?;
        Ok(OutputFile {
            file: self.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            bytes: self.bytes,
            digest: self.digest.finish(),
            entries: self.entries,
        })
    }

    /// Removes an unfinished file and its journal.
    ///
    /// # Errors
    /// They exist and cannot be removed.
    pub fn discard(path: &Path) -> Result<()> {
        remove(&with_suffix(path, ".journal"))?;
        remove(&with_suffix(path, ".partial"))
    }
}
