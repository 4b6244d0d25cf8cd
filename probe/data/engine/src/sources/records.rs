//! Splits files into records while they are read: lines, XML elements between two marks, blocks of known length.

use burgess_base::{Error, Result, compressed, files};
use memchr::memmem;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Largest size of a record in bytes; the text of a wiki's page has at most 2 MB.
pub(super) const MAX_RECORD: usize = 32 << 20;

/// A record and the byte at which it begins in the decompressed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub at: u64,
    pub bytes: Vec<u8>,
}

/// What comes next in a file.
#[derive(Debug)]
pub(super) enum Next {
    /// A record.
    Record(Record),
    /// A record that is larger than [`MAX_RECORD`], and was passed over; its place.
    TooLarge(u64),
    /// The end.
    End,
}

/// Opens a file, plain or compressed by gzip, zstd or bzip2 (also in several streams), as its first bytes say.
pub(super) fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut front = [0; 3];
    let mut file = files::open(path)?;
    let reader: Box<dyn Read> = match file.read_exact(&mut front).is_ok() && front == *b"BZh" {
        true => Box::new(bzip2::read::MultiBzDecoder::new(files::open(path)?)),
        false => compressed::open(path)?,
    };
    Ok(Box::new(BufReader::with_capacity(1 << 16, reader)))
}

/// Reads bytes while counting them.
pub(super) struct Counted<R> {
    inner: R,
    pub at: u64,
}

impl<R: BufRead> Counted<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, at: 0 }
    }

    fn consume(&mut self, count: usize) {
        self.inner.consume(count);
        self.at += count as u64;
    }

    /// Reads a line without its end; the line before the end of the file may lack one.
    pub fn line(&mut self) -> io::Result<Next> {
        let at = self.at;
        let (mut bytes, mut large) = (Vec::new(), false);
        loop {
            let found = self.inner.fill_buf()?;
            if found.is_empty() {
                return Ok(match (large, bytes.is_empty() && self.at == at) {
                    (_, true) => Next::End,
                    (true, _) => Next::TooLarge(at),
                    _ => Next::Record(Record { at, bytes }),
                });
            }
            let end = memchr::memchr(b'\n', found);
            let taken = found.get(..end.unwrap_or(found.len())).unwrap_or_default();
            large |= bytes.len() + taken.len() > MAX_RECORD;
            if large {
                bytes = Vec::new();
            } else {
                bytes.extend_from_slice(taken);
            }
            let count = taken.len() + usize::from(end.is_some());
            self.consume(count);
            if end.is_some() {
                return Ok(if large { Next::TooLarge(at) } else { Next::Record(Record { at, bytes }) });
            }
        }
    }

    /// Reads from the next `begin` to the following `end`, both included. The last record of a file that was cut has no
    /// `end`; one whose `end` was lost contains the next `begin`.
    pub fn between(&mut self, begin: &[u8], end: &[u8]) -> io::Result<Next> {
        let mut start = 0;
        let (mut bytes, mut inside, mut large) = (Vec::new(), false, false);
        loop {
            let found = self.inner.fill_buf()?;
            if found.is_empty() {
                return Ok(match (inside, large) {
                    (false, _) => Next::End,
                    (true, true) => Next::TooLarge(start),
                    (true, false) => Next::Record(Record { at: start, bytes }),
                });
            }
            let before = bytes.len();
            bytes.extend_from_slice(found);
            let count = found.len();
            // A mark may begin in what was read before.
            let overlap = before.saturating_sub(begin.len().max(end.len()));
            if !inside {
                match bytes.get(overlap..).and_then(|rest| memmem::find(rest, begin)) {
                    Some(found) => {
                        let skipped = overlap + found;
                        start = self.at + skipped as u64 - before as u64;
                        bytes.drain(..skipped);
                        inside = true;
                        // What was read now is looked through for the end below.
                    }
                    None => {
                        self.consume(count);
                        let keep = bytes.len().saturating_sub(begin.len());
                        bytes.drain(..keep);
                        continue;
                    }
                }
            }
            let from = if bytes.len() > count { bytes.len() - count } else { begin.len() };
            let from = from.saturating_sub(end.len()).max(begin.len().min(bytes.len()));
            match bytes.get(from..).and_then(|rest| memmem::find(rest, end)) {
                Some(found) => {
                    let whole = from + found + end.len();
                    let over = bytes.len() - whole;
                    bytes.truncate(whole);
                    self.consume(count - over.min(count));
                    if large || bytes.len() > MAX_RECORD {
                        return Ok(Next::TooLarge(start));
                    }
                    return Ok(Next::Record(Record { at: start, bytes }));
                }
                None => {
                    self.consume(count);
                    if bytes.len() > MAX_RECORD {
                        large = true;
                        // Only what may be the beginning of the end is kept.
                        let keep = bytes.len().saturating_sub(end.len());
                        bytes.drain(..keep);
                    }
                }
            }
        }
    }

    /// Reads this many bytes.
    ///
    /// # Errors
    /// The file ends before.
    pub fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = (&mut self.inner).take(count as u64).read_to_end(&mut bytes)?;
        self.at += read as u64;
        match read == count {
            true => Ok(bytes),
            false => Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{read} of {count} bytes are left"))),
        }
    }

    /// Passes over this many bytes.
    ///
    /// # Errors
    /// The file ends before.
    pub fn skip(&mut self, count: u64) -> io::Result<()> {
        let passed = io::copy(&mut (&mut self.inner).take(count), &mut io::sink())?;
        self.at += passed;
        match passed == count {
            true => Ok(()),
            false => Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{passed} of {count} bytes are left"))),
        }
    }

    /// Whether the file has ended.
    pub fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.inner.fill_buf()?.is_empty())
    }
}

/// Makes the error for a file that cannot be opened.
pub(super) fn cannot_open(path: &Path, e: io::Error) -> Error {
    Error::from(e).context(format!("reading {}", path.display())).hint("check the path in the table of the source")
}

/// Returns `file:byte` for messages.
pub(super) fn place(path: &Path, at: u64) -> String {
    format!("{}: byte {at}", path.display())
}

/// Checks that files exist.
///
/// # Errors
/// There are none, or one cannot be opened.
pub(super) fn check(paths: &[std::path::PathBuf]) -> Result<()> {
    if paths.is_empty() {
        return Err(Error::usage("`files` is empty").hint("name at least one file"));
    }
    paths.iter().try_for_each(|path| files::open(path).map(drop).map_err(|e| cannot_open(path, e)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, capacity: usize, mut next: impl FnMut(&mut Counted<BufReader<&[u8]>>) -> Next) -> Vec<String> {
        let mut reader = Counted::new(BufReader::with_capacity(capacity, text.as_bytes()));
        let mut found = Vec::new();
        loop {
            match next(&mut reader) {
                Next::Record(record) => {
                    let text_there = &text.as_bytes()[record.at as usize..][..record.bytes.len()];
                    assert_eq!(text_there, record.bytes, "the place is right");
                    found.push(String::from_utf8(record.bytes).unwrap());
                }
                Next::TooLarge(at) => found.push(format!("large at {at}")),
                Next::End => return found,
            }
        }
    }

    #[test]
    fn records_are_found_with_buffers_of_any_size() {
        let text = "x<p>one</p> <q/><p>two<p>three</p>\n<p></p><p>open";
        for capacity in 1..60 {
            let found = all(text, capacity, |r| r.between(b"<p>", b"</p>").unwrap());
            assert_eq!(found, ["<p>one</p>", "<p>two<p>three</p>", "<p></p>", "<p>open"], "{capacity}");
            let found = all("a\n\nb\r\nlast", capacity, |r| r.line().unwrap());
            assert_eq!(found, ["a", "", "b\r", "last"], "{capacity}");
        }
        let large = format!("short\n{}\nend", "x".repeat(MAX_RECORD + 1));
        assert_eq!(all(&large, 1 << 16, |r| r.line().unwrap()), ["short", "large at 6", "end"]);
        let large = format!("<p>{}</p><p>end</p>", "x".repeat(MAX_RECORD));
        assert_eq!(all(&large, 1 << 16, |r| r.between(b"<p>", b"</p>").unwrap()), ["large at 0", "<p>end</p>"]);
        let mut reader = Counted::new(BufReader::new(&b"12345"[..]));
        assert_eq!((reader.exactly(2).unwrap(), reader.skip(1).is_ok(), reader.at), (b"12".to_vec(), true, 3));
        assert!(reader.exactly(3).is_err() && reader.skip(1).is_err() && reader.is_at_end().unwrap());
    }
}
