//! A stretch of a file with the entries that were parsed from it.
//!
//! Texts are stored as spans of the file's own text, or of an arena if they had escapes. So a block owns no text per
//! entry, can be moved between threads, and is used again for the next stretch.

use super::entry::{Entry, ImageRef, Position, Speaker, Turn};
use super::ratings::Ratings;
use burgess_base::skipped::{SkippedEntry, SkippedReport};
use std::ops::Range;

/// A text in a block: in its file text, or in its arena.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Span {
    start: u32,
    length: u32,
    arena: bool,
}

impl Span {
    /// A span of the block's file text.
    pub fn of_text(range: &Range<usize>) -> Self {
        Self { start: range.start as u32, length: range.len() as u32, arena: false }
    }

    pub fn is_empty(self) -> bool {
        self.length == 0
    }
}

/// An image as it was parsed.
#[derive(Debug, Clone, Copy)]
pub(super) enum ParsedImage {
    Path(Span),
    Cell { column: Span, item: Option<u32> },
    Member { name: Span, offset: u64, size: u64 },
}

/// An entry as it was parsed: spans, and ranges of the block's lists.
#[derive(Debug, Clone, Default)]
pub(super) struct ParsedEntry {
    pub offset: u64,
    pub number: u64,
    pub id: Span,
    pub source: Option<Span>,
    pub kind: Option<Span>,
    pub images: Range<u32>,
    pub turns: Range<u32>,
    pub ratings: Option<u32>,
    pub raw: Span,
}

/// A stretch of a file and what was parsed from it.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// The text of the file.
    pub text: String,
    pub arena: String,
    pub entries: Vec<ParsedEntry>,
    pub turns: Vec<(Speaker, Span)>,
    pub images: Vec<ParsedImage>,
    pub ratings: Vec<Ratings>,
    pub skipped: SkippedReport,
    pub odd: SkippedReport,
}

/// What all entries of a file have in common.
#[derive(Debug, Clone, Default)]
pub(super) struct FileDefaults {
    /// Index of the file in the pool.
    pub file: u32,
    /// Name of the file in places of skipped entries.
    pub name: String,
    /// Source of entries without one.
    pub source: Option<String>,
    /// Source of entries without one whose image has no folder.
    pub folder: String,
    /// Kind of entries without one.
    pub kind: Option<String>,
}

impl FileDefaults {
    /// Returns the place of an entry for a message: `pool.jsonl:3`.
    pub fn place(&self, number: u64) -> String {
        format!("{}:{number}", self.name)
    }
}

impl Block {
    /// Removes the contents but keeps the memory, unless an unusually long entry made it large.
    pub fn clear(&mut self) {
        const KEPT: usize = 8 << 20;
        for text in [&mut self.text, &mut self.arena] {
            text.clear();
            if text.capacity() > KEPT {
                *text = String::new();
            }
        }
        self.entries.clear();
        self.turns.clear();
        self.images.clear();
        self.ratings.clear();
        self.skipped = SkippedReport::default();
        self.odd = SkippedReport::default();
    }

    /// Returns the text of a span.
    pub fn get(&self, span: Span) -> &str {
        self.resolve(&self.text, span)
    }

    /// Returns the text of a span while the file's text is outside the block.
    pub fn resolve<'a>(&'a self, text: &'a str, span: Span) -> &'a str {
        let from = if span.arena { self.arena.as_str() } else { text };
        let start = span.start as usize;
        from.get(start..start + span.length as usize).unwrap_or_default()
    }

    /// Stores a text in the arena.
    pub fn store(&mut self, text: &str) -> Span {
        let start = self.arena.len();
        self.arena.push_str(text);
        Span { start: start as u32, length: text.len() as u32, arena: true }
    }

    /// Returns the source of an entry.
    pub fn source<'a>(&'a self, entry: &ParsedEntry, defaults: &'a FileDefaults) -> &'a str {
        if let Some(own) = entry.source {
            return self.get(own);
        }
        if let Some(source) = &defaults.source {
            return source;
        }
        match self.images.get(entry.images.start as usize).filter(|_| !entry.images.is_empty()) {
            Some(ParsedImage::Path(path)) => match self.get(*path).split_once('/') {
                Some((folder, _)) if !folder.is_empty() => folder,
                _ => &defaults.folder,
            },
            _ => &defaults.folder,
        }
    }

    /// Counts an entry that is not handed on.
    pub fn skip(&mut self, defaults: &FileDefaults, number: u64, skipped: SkippedEntry) {
        self.skipped.count(skipped, defaults.place(number));
    }

    /// Calls `each` with every entry, in order, until it returns `false`.
    pub fn each(&self, defaults: &FileDefaults, each: &mut dyn FnMut(Entry<'_>) -> bool) {
        let (mut turns, mut images) = (Vec::new(), Vec::new());
        for parsed in &self.entries {
            turns.clear();
            images.clear();
            let of = |range: &Range<u32>| range.start as usize..range.end as usize;
            let said = self.turns.get(of(&parsed.turns)).unwrap_or_default();
            turns.extend(said.iter().map(|(from, text)| Turn { from: *from, text: self.get(*text) }));
            let seen = self.images.get(of(&parsed.images)).unwrap_or_default();
            images.extend(seen.iter().map(|image| match *image {
                ParsedImage::Path(path) => ImageRef::Path(self.get(path)),
                ParsedImage::Cell { column, item } => ImageRef::Cell { column: self.get(column), item },
                ParsedImage::Member { name, offset, size } => ImageRef::Member { name: self.get(name), offset, size },
            }));
            let ratings = parsed.ratings.and_then(|at| self.ratings.get(at as usize));
            let entry = Entry {
                at: Position { file: defaults.file, offset: parsed.offset },
                number: parsed.number,
                id: self.get(parsed.id),
                source: self.source(parsed, defaults),
                kind: parsed.kind.map(|kind| self.get(kind)).or(defaults.kind.as_deref()),
                images: &images,
                turns: &turns,
                ratings: ratings.unwrap_or(Ratings::NONE),
                raw: self.get(parsed.raw).as_bytes(),
            };
            if !each(entry) {
                return;
            }
        }
    }
}
