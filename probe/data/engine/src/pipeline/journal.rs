//! A journal: a file to which finished items are appended, so that an interruption loses at most the running ones.
//!
//! Each line is `{"check":"<16 hexadecimal digits>","entry":<JSON>}`; the digits are the beginning of the BLAKE3 digest
//! of the entry's bytes. A line that was cut off or damaged is left out when the journal is opened, and counted.

use burgess_base::{Context, Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const BEFORE_CHECK: &[u8] = b"{\"check\":\"";
const BEFORE_ENTRY: &[u8] = b"\",\"entry\":";
const CHECK_DIGITS: usize = 16;
/// Longest line that is read, in bytes: a longer one is damaged.
const LONGEST: usize = 256 << 20;

/// A journal that is open for appending. Its owner must hold the claim on the shard.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

/// What a journal holds.
#[derive(Debug)]
pub struct JournalContents<T> {
    /// The entries in the order in which they were appended.
    pub entries: Vec<T>,
    /// Number of lines that were damaged or cut off.
    pub damaged: usize,
}

fn check_of(entry: &[u8]) -> String {
    burgess_base::digest::of_bytes(entry).chars().take(CHECK_DIGITS).collect()
}

/// Returns the entry of a line if its check matches.
fn entry_of(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(BEFORE_CHECK)?;
    let (check, rest) = (rest.get(..CHECK_DIGITS)?, rest.get(CHECK_DIGITS..)?);
    let entry = rest.strip_prefix(BEFORE_ENTRY)?.strip_suffix(b"}")?;
    (check_of(entry).as_bytes() == check).then_some(entry)
}

/// Reads a journal without changing it; empty if there is none.
///
/// # Errors
/// The file cannot be read.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<JournalContents<T>> {
    read_with_end(path).map(|(contents, _)| contents)
}

/// Reads a journal, and returns the offset after its last whole line.
fn read_with_end<T: DeserializeOwned>(path: &Path) -> Result<(JournalContents<T>, u64)> {
    let step = || format!("reading {}", path.display());
    let mut contents = JournalContents { entries: Vec::new(), damaged: 0 };
    let file = match File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((contents, 0)),
        other => other.with_context(step)?,
    };
    let (mut reader, mut line, mut end) = (BufReader::new(file), Vec::new(), 0u64);
    loop {
        line.clear();
        let n = std::io::Read::take(&mut reader, LONGEST as u64).read_until(b'\n', &mut line).with_context(step)?;
        if n == 0 {
            return Ok((contents, end));
        }
        let entry = line.strip_suffix(b"\n").and_then(entry_of).and_then(|entry| serde_json::from_slice(entry).ok());
        match entry {
            Some(entry) => contents.entries.push(entry),
            None => contents.damaged += 1,
        }
        if line.ends_with(b"\n") {
            end += n as u64;
        }
    }
}

impl Journal {
    /// Opens a journal for appending, creates it if needed, and returns what it holds. A line without an end is cut
    /// off.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open<T: DeserializeOwned>(path: &Path) -> Result<(Self, JournalContents<T>)> {
        let step = || format!("opening {}", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(step)?;
        }
        let (contents, end) = read_with_end(path)?;
        let mut file = File::options().create(true).write(true).truncate(false).open(path).with_context(step)?;
        if file.metadata().with_context(step)?.len() > end {
            file.set_len(end).with_context(step)?;
        }
        file.seek(SeekFrom::Start(end)).with_context(step)?;
        Ok((Self { path: path.to_path_buf(), file }, contents))
    }

    /// Appends an entry and waits until it is on the disk.
    ///
    /// # Errors
    /// The file cannot be written; what was written of the line is cut off.
    pub fn append<T: Serialize>(&mut self, entry: &T) -> Result<()> {
        let entry = serde_json::to_vec(entry)?;
        let check = check_of(&entry);
        let line = [BEFORE_CHECK, check.as_bytes(), BEFORE_ENTRY, &entry, b"}\n"].concat();
        let written = (|| {
            let begin = self.file.stream_position()?;
            match self.file.write_all(&line).and_then(|()| self.file.sync_data()) {
                Ok(()) => Ok(()),
                Err(e) => {
                    let _ = self.file.set_len(begin).and_then(|()| self.file.seek(SeekFrom::Start(begin)));
                    Err(e)
                }
            }
        })();
        written.map_err(|e| Error::from(e).context(format!("writing {}", self.path.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_lines_are_left_out_and_a_cut_line_is_removed() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a/shard.journal");
        let (mut journal, contents) = Journal::open::<String>(&path)?;
        assert!(contents.entries.is_empty());
        for entry in ["one", "two}\n", "three"] {
            journal.append(&entry)?;
        }
        drop(journal);
        let whole = fs::read(&path)?;
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut])?;
            let lines = whole[..cut].iter().filter(|b| **b == b'\n').count();
            let (mut journal, contents) = Journal::open::<String>(&path)?;
            assert_eq!(contents.entries.len(), lines, "cut at {cut}");
            journal.append(&"more")?;
            let again = read::<String>(&path)?;
            assert_eq!((again.entries.len(), again.damaged), (lines + 1, 0), "cut at {cut}");
        }
        let mut damaged = whole.clone();
        damaged[60] ^= 1;
        fs::write(&path, damaged)?;
        let contents = read::<String>(&path)?;
        assert_eq!((contents.entries.len(), contents.damaged), (2, 1));
        fs::write(&path, serde_json::to_string(&"no journal")?)?;
        assert_eq!(read::<String>(&path)?.damaged, 1);
        Ok(())
    }
}
