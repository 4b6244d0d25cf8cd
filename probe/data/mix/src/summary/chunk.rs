//! What the entries of one stretch of a file say, collected on the threads that parse.

use super::samples::{Candidates, SampledEntry};
use super::words::count_words;
use super::{MISSING_SHOWN, SummaryOptions};
use crate::pool::{Entry, ImageRef, Pool, Speaker};
use std::collections::HashMap;
use std::path::Path;

/// One question or answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Said {
    pub answer: bool,
    pub words: u32,
    pub tokens: u32,
}

/// One entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryFacts {
    /// Index in [`Chunk::names`].
    pub source: u32,
    /// Index in [`Chunk::names`], or `u32::MAX`.
    pub kind: u32,
    pub images: u32,
    pub missing: u32,
    pub pairs: u32,
    pub said: u32,
    pub system: bool,
    pub rated: bool,
}

/// The facts of one stretch.
#[derive(Default)]
pub(super) struct Chunk {
    /// Names of sources and kinds.
    pub names: Vec<String>,
    pub known: HashMap<String, u32>,
    /// The kinds of sources that state none.
    pub kinds: HashMap<u32, u32>,
    pub entries: Vec<EntryFacts>,
    /// The questions and answers of all entries, in their order.
    pub said: Vec<Said>,
    /// The lowest rating of each quality, for the entries that are rated.
    pub ratings: Vec<[Option<f32>; 4]>,
    /// Images that do not exist.
    pub missing: Vec<String>,
    /// Paths that lead out of the directory of images.
    pub outside: u64,
    /// Texts that the tokenizer could not encode.
    pub not_encoded: u64,
    pub samples: Candidates<SampledEntry>,
    pub texts: Candidates<String>,
}

/// Maximum length in bytes of the text by which a language is recognised.
const LANGUAGE_TEXT: usize = 2000;

/// The mark of an image, which is no word of a question.
const MARK: &str = "<image>";

impl Chunk {
    fn name(&mut self, name: &str) -> u32 {
        match self.known.get(name) {
            Some(at) => *at,
            None => {
                let at = self.names.len() as u32;
                self.names.push(name.to_string());
                self.known.insert(name.to_string(), at);
                at
            }
        }
    }

    /// Returns the index of the kind of a source, or `u32::MAX`.
    fn kind_of(&mut self, source: u32, options: &SummaryOptions<'_>) -> u32 {
        if let Some(known) = self.kinds.get(&source) {
            return *known;
        }
        let name = self.names.get(source as usize).map_or("", String::as_str);
        let kind = (options.kind_of)(name).map_or(u32::MAX, |kind| self.name(&kind));
        self.kinds.insert(source, kind);
        kind
    }

    /// Adds an entry.
    pub fn add(&mut self, entry: &Entry<'_>, pool: &Pool, options: &SummaryOptions<'_>) {
        let first = self.said.len();
        for turn in entry.turns.iter().filter(|t| t.from != Speaker::System) {
            let answer = turn.from == Speaker::Gpt;
            let plain;
            let text = match !answer && turn.text.contains(MARK) {
                true => {
                    plain = turn.text.replace(MARK, "");
                    plain.trim()
                }
                false => turn.text,
            };
            let tokens = match options.tokens {
                None => 0,
                Some(count) => count(text).unwrap_or_else(|| {
                    self.not_encoded += 1;
                    0
                }),
            };
            self.said.push(Said { answer, words: count_words(text), tokens });
        }
        let missing = options.images.map_or(0, |root| self.missing(entry, root));
        let source = self.name(entry.source);
        let kind = match entry.kind {
            Some(kind) => self.name(kind),
            None => self.kind_of(source, options),
        };
        let facts = EntryFacts {
            source,
            kind,
            images: entry.images.len() as u32,
            missing,
            pairs: entry.turns.iter().filter(|t| t.from == Speaker::Human).count() as u32,
            said: (self.said.len() - first) as u32,
            system: entry.system().is_some(),
            rated: !entry.ratings.is_empty(),
        };
        self.entries.push(facts);
        if facts.rated {
            let mut least = [None; 4];
            for (place, (_, rating)) in least.iter_mut().zip(entry.ratings.iter()) {
                *place = rating.least;
            }
            self.ratings.push(least);
        }
        self.samples.offer(entry.at, || SampledEntry::new(entry, pool));
        self.texts.offer(entry.at, || language_text(entry));
    }

    /// Counts the images of an entry that do not exist.
    fn missing(&mut self, entry: &Entry<'_>, root: &Path) -> u32 {
        let mut missing = 0;
        for image in entry.images {
            let ImageRef::Path(stated) = image else { continue };
            match crate::pool::image_file(root, stated) {
                Ok(path) if path.is_file() => {}
                Ok(_) => {
                    missing += 1;
                    if self.missing.len() < MISSING_SHOWN {
                        self.missing.push((*stated).to_string());
                    }
                }
                Err(_) => {
                    missing += 1;
                    self.outside += 1;
                }
            }
        }
        missing
    }
}

/// Returns the text by which the language of an entry is recognised.
fn language_text(entry: &Entry<'_>) -> String {
    let mut text = String::new();
    for turn in entry.turns.iter().filter(|t| t.from != Speaker::System) {
        text.push_str(&turn.text.replace(MARK, " "));
        text.push('\n');
        if text.len() > LANGUAGE_TEXT {
            text.truncate(text.floor_char_boundary(LANGUAGE_TEXT));
            break;
        }
    }
    text
}
