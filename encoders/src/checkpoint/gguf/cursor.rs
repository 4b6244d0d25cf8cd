//! Reads little-endian numbers and strings of a GGUF file and checks every length.

use crate::checkpoint::entry::MAX_NAME;
use burgess_base::{Error, Result};
use std::ops::Range;

/// A position in a file, with methods that read from it and advance.
pub(super) struct Cursor<'a> {
    /// The whole file.
    pub file: &'a [u8],
    /// Byte at which the next read begins.
    pub at: usize,
}

impl<'a> Cursor<'a> {
    /// Advances by `length` bytes; returns their range.
    pub fn take(&mut self, length: u64) -> Result<Range<usize>> {
        let left = self.file.len() - self.at;
        let Some(length) = usize::try_from(length).ok().filter(|length| *length <= left) else {
            return Err(Error::failed(format!(
                "{length} bytes are needed at byte {}, but only {left} are left",
                self.at
            )));
        };
        let range = self.at..self.at + length;
        self.at = range.end;
        Ok(range)
    }

    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let range = self.take(N as u64)?;
        let bytes = self.file.get(range).and_then(|bytes| bytes.first_chunk()).copied();
        bytes.ok_or_else(|| Error::failed("the file is truncated"))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    /// Reads a number of items that take at least `least` bytes each, and checks that they fit into the rest of the
    /// file.
    pub fn count(&mut self, least: u64, what: &str) -> Result<u64> {
        let count = self.u64()?;
        let left = (self.file.len() - self.at) as u64;
        match count.checked_mul(least) {
            Some(bytes) if bytes <= left => Ok(count),
            _ => Err(Error::failed(format!("the file states {count} {what}, but only {left} bytes are left"))),
        }
    }

    /// Reads the length of a string and advances behind the string; returns the string's range.
    pub fn text(&mut self) -> Result<Range<usize>> {
        let length = self.u64()?;
        self.take(length)
    }

    /// Reads a metadata key or the name of a tensor.
    pub fn name(&mut self) -> Result<&'a str> {
        let range = self.text()?;
        if range.len() > MAX_NAME {
            return Err(Error::failed(format!("a name has {} bytes, must have at most {MAX_NAME}", range.len())));
        }
        text_at(self.file, range)
    }
}

/// Decodes the UTF-8 string at these bytes.
pub(in crate::checkpoint) fn text_at(file: &[u8], range: Range<usize>) -> Result<&str> {
    let at = range.start;
    let bytes = file.get(range).unwrap_or_default();
    std::str::from_utf8(bytes).map_err(|_| Error::failed(format!("the text at byte {at} is not UTF-8")))
}
