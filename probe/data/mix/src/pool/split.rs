//! Divides a file into stretches of whole entries.

use super::Block;
use super::block::FileDefaults;
use super::parse::EntryParser;
use burgess_base::skipped::SkippedEntry;
use std::io::Read;
use std::ops::Range;

/// Number of bytes that are read at once.
pub(super) const BLOCK: usize = 1 << 20;

/// Maximum length of an entry in bytes; a longer one is counted and not held in memory.
pub(super) const LONGEST: usize = 16 << 20;

/// A stretch of a file that has whole entries only.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    pub bytes: Vec<u8>,
    /// Offset of the first byte in the (decompressed) file.
    pub begin: u64,
    /// Number of the first line or entry, from 1.
    pub first: u64,
    /// The entries, if they are not lines.
    pub pieces: Option<Vec<Range<usize>>>,
    /// Entries that are too long: number and length in bytes.
    pub too_long: Vec<(u64, u64)>,
}

/// Divides a file into stretches.
pub(super) trait Splitter: Send {
    /// Fills the next stretch; returns `false` at the end of the file.
    fn next(&mut self, stretch: &mut Stretch) -> bool;

    /// Returns what is wrong with the file, once its end is reached.
    fn damage(&mut self) -> Option<String>;

    /// Returns the number of bytes that were read.
    fn read(&self) -> u64;
}

/// Divides JSON lines.
pub(super) struct Lines {
    reader: Box<dyn Read + Send>,
    /// The beginning of the next line.
    carry: Vec<u8>,
    /// Offset of `carry` in the file.
    at: u64,
    read: u64,
    line: u64,
    ended: bool,
    damage: Option<String>,
}

impl Lines {
    pub fn new(reader: Box<dyn Read + Send>) -> Self {
        Self { reader, carry: Vec::new(), at: 0, read: 0, line: 1, ended: false, damage: None }
    }

    /// Reads on; the end of the file and an error both end the reading.
    fn fill(&mut self, bytes: &mut Vec<u8>) {
        bytes.reserve(BLOCK);
        let before = bytes.len();
        match (&mut self.reader).take(BLOCK as u64).read_to_end(bytes) {
            Ok(count) => self.ended = count < BLOCK,
            Err(e) => {
                self.ended = true;
                self.damage = Some(e.to_string());
            }
        }
        self.read += (bytes.len() - before) as u64;
    }

    /// Reads to the end of a line that is too long without keeping it; returns its length.
    fn pass_over(&mut self, begun: usize) -> u64 {
        let mut length = begun as u64;
        let mut bytes = Vec::new();
        while !self.ended {
            bytes.clear();
            self.fill(&mut bytes);
            if let Some(end) = memchr::memchr(b'\n', &bytes) {
                self.carry.extend_from_slice(bytes.get(end + 1..).unwrap_or_default());
                return length + end as u64 + 1;
            }
            length += bytes.len() as u64;
        }
        length
    }
}

impl Splitter for Lines {
    fn next(&mut self, stretch: &mut Stretch) -> bool {
        let bytes = &mut stretch.bytes;
        bytes.clear();
        bytes.append(&mut self.carry);
        stretch.too_long.clear();
        stretch.pieces = None;
        let mut searched = 0;
        loop {
            // The carry of a long line that was passed over can already hold lines.
            let newline = memchr::memrchr(b'\n', bytes.get(searched..).unwrap_or_default());
            if let Some(end) = newline {
                let end = searched + end + 1;
                self.carry.extend_from_slice(bytes.get(end..).unwrap_or_default());
                bytes.truncate(end);
                break;
            }
            if self.ended {
                if self.damage.is_some() && !bytes.is_empty() {
                    // The rest of a damaged file is part of a line.
                    bytes.clear();
                }
                break;
            }
            if bytes.len() > LONGEST {
                let length = self.pass_over(bytes.len());
                stretch.too_long.push((self.line, length));
                self.line += 1;
                self.at += length;
                bytes.clear();
                bytes.append(&mut self.carry);
                searched = 0;
                continue;
            }
            searched = bytes.len();
            self.fill(bytes);
        }
        stretch.begin = self.at;
        stretch.first = self.line;
        self.at += bytes.len() as u64;
        self.line += memchr::memchr_iter(b'\n', bytes).count() as u64;
        !bytes.is_empty() || !stretch.too_long.is_empty()
    }

    fn damage(&mut self) -> Option<String> {
        self.damage.take().map(|what| format!("{what}, after {} bytes", self.read))
    }

    fn read(&self) -> u64 {
        self.read
    }
}

/// Parses the entries of a stretch into a block; of the wanted ones only, if some are wanted.
pub(super) fn parse(stretch: &mut Stretch, block: &mut Block, defaults: &FileDefaults, wanted: Option<&[u64]>) {
    block.clear();
    if wanted.is_none() {
        for (number, length) in &stretch.too_long {
            let detail = format!("{length} bytes");
            let skipped = SkippedEntry { reason: TOO_LONG, detail, source: String::new() };
            block.skip(defaults, *number, skipped);
        }
    }
    let text = match String::from_utf8(std::mem::take(&mut stretch.bytes)) {
        Ok(text) => text,
        Err(e) => {
            let mut bytes = e.into_bytes();
            blank_invalid(&mut bytes, stretch, block, defaults, wanted.is_none());
            String::from_utf8_lossy(&bytes).into_owned()
        }
    };
    let is_wanted = |offset: u64| wanted.is_none_or(|all| all.binary_search(&offset).is_ok());
    let mut parser = EntryParser { text: &text, block, defaults };
    let mut number = stretch.first;
    match &stretch.pieces {
        Some(pieces) => {
            for piece in pieces {
                let offset = stretch.begin + piece.start as u64;
                if is_wanted(offset) && !is_blanked(&text, piece) {
                    parser.entry(piece.clone(), offset, number, &[]);
                }
                number += 1;
            }
        }
        None => {
            for line in Ranges::new(text.as_bytes()) {
                let line = trimmed(&text, line);
                let offset = stretch.begin + line.start as u64;
                if !line.is_empty() && is_wanted(offset) {
                    parser.entry(line, offset, number, &[]);
                }
                number += 1;
            }
        }
    }
    block.text = text;
}

const TOO_LONG: &str = "longer than 16 MiB";

/// Whether an element of an array was replaced by spaces, because it is not UTF-8.
fn is_blanked(text: &str, piece: &Range<usize>) -> bool {
    !piece.is_empty() && text.get(piece.clone()).is_some_and(|t| t.bytes().all(|b| b == b' '))
}

/// Replaces entries that are not UTF-8 by spaces, and counts them.
fn blank_invalid(bytes: &mut [u8], stretch: &Stretch, block: &mut Block, defaults: &FileDefaults, count: bool) {
    let ranges: Vec<Range<usize>> = match &stretch.pieces {
        Some(pieces) => pieces.clone(),
        None => Ranges::new(bytes).collect(),
    };
    let mut invalid = Vec::new();
    for (number, range) in (stretch.first..).zip(ranges) {
        let entry = bytes.get(range.clone()).unwrap_or_default();
        if let Err(e) = std::str::from_utf8(entry) {
            if count {
                let detail = match entry {
                    [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16".to_string(),
                    _ => format!("byte {}", e.valid_up_to() + 1),
                };
                block.skip(defaults, number, SkippedEntry { reason: "not UTF-8", detail, source: String::new() });
            }
            invalid.push(range);
        }
    }
    for range in invalid {
        bytes.get_mut(range).unwrap_or_default().fill(b' ');
    }
}

/// The lines of a text as ranges, without their line feeds.
struct Ranges<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Ranges<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl Iterator for Ranges<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = self.at..self.at + length;
        self.at += length + 1;
        Some(line)
    }
}

/// Returns the range of a line without white space around it, and without a byte order mark, which concatenated files
/// have in the middle.
fn trimmed(text: &str, line: Range<usize>) -> Range<usize> {
    let whole = text.get(line.clone()).unwrap_or_default();
    let inner = whole.strip_prefix('\u{feff}').unwrap_or(whole).trim_ascii_start();
    let start = line.end - inner.len();
    start..start + inner.trim_ascii_end().len()
}
