//! Parses one entry, which may be any JSON, into a [`Block`].
//!
//! The rules of what is a usable conversation are those of the loader that trains on them, so that a mix never contains
//! an entry that training leaves out, except that several images are allowed.

use super::block::{Block, FileDefaults, ParsedEntry, ParsedImage, Span};
use super::entry::Speaker;
use super::fields::{Field, Key, KeySeed, NumbersSeed, Sink, TextSeed};
use super::ratings::Ratings;
use super::turns::{ImagesSeed, TurnsSeed};
use burgess_base::skipped::SkippedEntry;
use burgess_base::{json, text::excerpt};
use memchr::memmem::Finder;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::LazyLock;

/// The mark of an image in a turn's text.
const MARK: &str = "<image>";

/// Why an entry is unusable: the reason, which is counted, and details.
pub(super) type Problem = (&'static str, String);

/// What was read of an entry so far.
#[derive(Default)]
struct Draft {
    id: Span,
    source: Option<Span>,
    kind: Option<Span>,
    ratings: Option<Ratings>,
    conversations: bool,
    video: bool,
    problem: Option<Problem>,
    /// The keys that were seen, as bits.
    seen: u32,
    repeated: bool,
}

/// Parses entries of one file into a block.
pub(super) struct EntryParser<'a> {
    /// The text of the file, of which `block.text` is taken out.
    pub text: &'a str,
    pub block: &'a mut Block,
    pub defaults: &'a FileDefaults,
}

impl EntryParser<'_> {
    /// Parses the entry in this range of the text; images that stand outside of its JSON are given.
    pub fn entry(&mut self, range: Range<usize>, offset: u64, number: u64, beside: &[ParsedImage]) {
        let Some(line) = self.text.get(range.clone()) else { return };
        let (turns, images) = (self.block.turns.len(), self.block.images.len());
        self.block.images.extend_from_slice(beside);
        let mut parsed = self.json(line, !beside.is_empty());
        if parsed.as_ref().err().is_some_and(|e| e.classify() != serde_json::error::Category::Io) {
            // Python's NaN and unpaired surrogates are read as the loaders of such files read them.
            if let Cow::Owned(strict) = json::strict(line.as_bytes())
                && let Ok(strict) = std::str::from_utf8(&strict)
            {
                self.block.turns.truncate(turns);
                self.block.images.truncate(images + beside.len());
                parsed = self.json(strict, !beside.is_empty());
            }
        }
        let checked = match parsed {
            Ok(draft) => self.check(draft, turns, images),
            Err(e) => Err(SkippedEntry { reason: "not valid JSON", detail: fault(&e), source: String::new() }),
        };
        match checked {
            Ok((draft, odd)) => {
                let ratings = draft.ratings.map(|mut ratings| {
                    ratings.finish();
                    self.block.ratings.push(ratings);
                    self.block.ratings.len() as u32 - 1
                });
                let entry = ParsedEntry {
                    offset,
                    number,
                    id: draft.id,
                    source: draft.source.filter(|s| !s.is_empty()),
                    kind: draft.kind.filter(|s| !s.is_empty()),
                    images: images as u32..self.block.images.len() as u32,
                    turns: turns as u32..self.block.turns.len() as u32,
                    ratings,
                    raw: Span::of_text(&range),
                };
                for reason in odd {
                    let source = self.source(&entry);
                    let entry = SkippedEntry { reason, detail: String::new(), source };
                    self.block.odd.count(entry, self.defaults.place(number));
                }
                self.block.entries.push(entry);
            }
            Err(skipped) => {
                self.block.turns.truncate(turns);
                self.block.images.truncate(images);
                self.block.skip(self.defaults, number, skipped);
            }
        }
    }

    fn json(&mut self, line: &str, images_given: bool) -> Result<Draft, serde_json::Error> {
        let mut sink = Sink::new(self.text, self.block, images_given);
        let mut parser = serde_json::Deserializer::from_str(line);
        let draft = EntrySeed(&mut sink).deserialize(&mut parser)?;
        parser.end()?;
        Ok(draft)
    }

    fn said(&self, span: Span) -> &str {
        self.block.resolve(self.text, span)
    }

    /// Returns the source of an entry whose text is still outside the block.
    fn source(&self, entry: &ParsedEntry) -> String {
        let folder = |path: &Span| Some(self.said(*path).split_once('/')?.0.to_string());
        let image = || match self.block.images.get(entry.images.start as usize).filter(|_| !entry.images.is_empty()) {
            Some(ParsedImage::Path(path)) => folder(path).filter(|f| !f.is_empty()),
            _ => None,
        };
        let own = entry.source.map(|own| self.said(own).to_string());
        own.or_else(|| self.defaults.source.clone()).or_else(image).unwrap_or_else(|| self.defaults.folder.clone())
    }

    /// Checks an entry whose turns and images begin at these indices; returns what is odd about it.
    fn check(
        &mut self,
        mut draft: Draft,
        turns: usize,
        images: usize,
    ) -> Result<(Draft, Vec<&'static str>), SkippedEntry> {
        let mut odd = Vec::new();
        let problem = draft.problem.take().or_else(|| self.problem(&draft, turns, images, &mut odd));
        let Some((reason, detail)) = problem else { return Ok((draft, odd)) };
        let images = images as u32..self.block.images.len() as u32;
        let entry = ParsedEntry { source: draft.source.filter(|s| !s.is_empty()), images, ..ParsedEntry::default() };
        Err(SkippedEntry { reason, detail, source: self.source(&entry) })
    }

    fn problem(&mut self, draft: &Draft, first: usize, images: usize, odd: &mut Vec<&'static str>) -> Option<Problem> {
        if !draft.conversations {
            return Some(("no `conversations`", String::new()));
        }
        if draft.video {
            return Some(("a video instead of an image", String::new()));
        }
        let turns = self.block.turns.get(first..).unwrap_or_default();
        let system = usize::from(turns.first().is_some_and(|(from, _)| *from == Speaker::System));
        let said = turns.get(system..).unwrap_or_default();
        match said.first() {
            None => return Some(("no turns", String::new())),
            Some((Speaker::Human, _)) => {}
            Some(_) => return Some(("first turn is no question", String::new())),
        }
        if said.iter().all(|(from, _)| *from == Speaker::Human) {
            return Some(("no answer", String::new()));
        }
        if said.windows(2).any(|pair| matches!(pair, [(a, _), (b, _)] if a == b)) {
            odd.push("one speaker has two turns in a row");
        }
        if said.last().is_some_and(|(from, _)| *from == Speaker::Human) {
            odd.push("the last turn is a question");
        }
        if draft.repeated {
            odd.push("a key stands twice");
        }
        let given = self.block.images.len() - images;
        // Counting stops at more marks than any entry has images.
        let marks: usize = turns.iter().map(|(_, text)| marks(self.said(*text))).sum();
        match given {
            0 if marks > 0 => Some(("image named but not given", String::new())),
            _ if marks > given => Some(("more image marks than images", format!("{marks} marks, {given} images"))),
            _ => {
                if marks > 0 && marks < given {
                    odd.push("fewer image marks than images");
                }
                None
            }
        }
    }
}

fn marks(text: &str) -> usize {
    // Most turns have none, which a search for one byte finds fastest.
    match memchr::memchr(b'<', text.as_bytes()) {
        None => 0,
        Some(at) => {
            static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK));
            FINDER.find_iter(text.as_bytes().get(at..).unwrap_or_default()).count()
        }
    }
}

/// Says in a few words where the JSON is broken.
fn fault(e: &serde_json::Error) -> String {
    let text = e.to_string();
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    // A line is always line 1 to the parser; the place names the real one.
    format!("{}, column {}", excerpt(what, 120), e.column())
}

/// Parses a whole entry.
struct EntrySeed<'s, 'b>(&'s mut Sink<'b>);

impl<'de> DeserializeSeed<'de> for EntrySeed<'_, '_> {
    type Value = Draft;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Draft, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl EntrySeed<'_, '_> {
    fn other<E>(self, what: &str) -> Result<Draft, E> {
        Ok(Draft { problem: Some(("not an object", what.to_string())), ..Draft::default() })
    }
}

impl<'de> Visitor<'de> for EntrySeed<'_, '_> {
    type Value = Draft;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a conversation")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Draft, A::Error> {
        let sink = self.0;
        let mut draft = Draft::default();
        let (turns, images) = (sink.block.turns.len(), sink.block.images.len());
        while let Some(key) = map.next_key_seed(KeySeed)? {
            // If a key stands twice, the last one counts, as in Python.
            if let Some(bit) = key.bit() {
                draft.repeated |= draft.seen & bit != 0;
                draft.seen |= bit;
            }
            match key {
                Key::Id => draft.id = map.next_value_seed(TextSeed(sink))?.text().unwrap_or_default(),
                Key::Source => draft.source = map.next_value_seed(TextSeed(sink))?.text(),
                Key::Kind => draft.kind = map.next_value_seed(TextSeed(sink))?.text(),
                Key::Image if sink.images_given => drop(map.next_value::<IgnoredAny>()?),
                Key::Image => {
                    sink.block.images.truncate(images);
                    map.next_value_seed(ImagesSeed { sink, problem: &mut draft.problem })?;
                }
                Key::Conversations => {
                    sink.block.turns.truncate(turns);
                    draft.conversations = true;
                    let mut own_source = None;
                    map.next_value_seed(TurnsSeed { sink, problem: &mut draft.problem, source: &mut own_source })?;
                    draft.source = draft.source.or(own_source);
                }
                Key::Video => {
                    draft.video = !matches!(map.next_value_seed(TextSeed(sink))?, Field::Null);
                }
                Key::Rating(name) => {
                    let ratings = draft.ratings.get_or_insert_default();
                    if let Some((rating, least)) = ratings.of_key(name) {
                        let numbers = map.next_value_seed(NumbersSeed)?;
                        match least {
                            true => rating.least = numbers.first().copied(),
                            false => rating.each = numbers,
                        }
                    }
                }
                Key::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(draft)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Draft, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.other("a list")
    }

    fn visit_unit<E: Error>(self) -> Result<Draft, E> {
        self.other("null")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Draft, E> {
        self.other("true or false")
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Draft, E> {
        self.other("a number")
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Draft, E> {
        self.other("a number")
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Draft, E> {
        self.other("a number")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Draft, E> {
        self.other("a text")
    }
}
