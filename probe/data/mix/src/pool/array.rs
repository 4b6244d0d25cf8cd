//! Divides a JSON array into stretches of whole elements, without parsing them.
//!
//! Only strings and brackets are followed, so an element with another fault is an unusable entry, and the elements
//! after it are still found. Missing quotation marks cannot be told from text: the element that has them is too long,
//! or ends with the file, and either is reported.

use super::split::{BLOCK, LONGEST, Splitter, Stretch};
use std::io::Read;

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the array.
    Before,
    /// In the array, outside of strings.
    Inside,
    /// In a string.
    Text,
    /// After a backslash in a string.
    Escape,
    /// After the array.
    After,
}

/// Divides a JSON array.
pub(super) struct Elements {
    reader: Box<dyn Read + Send>,
    /// The bytes that were read and not handed on; they begin within the next element.
    carry: Vec<u8>,
    /// Number of bytes of `carry` that were looked at.
    searched: usize,
    /// Offset of `carry` in the file.
    at: u64,
    state: State,
    /// Number of open brackets, that of the array included.
    depth: usize,
    /// Number of the element that is read, from 1.
    number: u64,
    read: u64,
    ended: bool,
    damage: Option<String>,
}

impl Elements {
    pub fn new(reader: Box<dyn Read + Send>) -> Self {
        Self {
            reader,
            carry: Vec::new(),
            searched: 0,
            at: 0,
            state: State::Before,
            depth: 0,
            number: 1,
            read: 0,
            ended: false,
            damage: None,
        }
    }

    fn fill(&mut self) {
        self.carry.reserve(BLOCK);
        let before = self.carry.len();
        match (&mut self.reader).take(BLOCK as u64).read_to_end(&mut self.carry) {
            Ok(count) => self.ended = count < BLOCK,
            Err(e) => {
                self.ended = true;
                self.damage = Some(e.to_string());
            }
        }
        self.read += (self.carry.len() - before) as u64;
    }

    /// Looks for the end of the next element; returns its index: that of the comma or bracket after it.
    fn search(&mut self) -> Option<usize> {
        while let Some(rest) = self.carry.get(self.searched..).filter(|rest| !rest.is_empty()) {
            match self.state {
                State::Text => match memchr::memchr2(b'"', b'\\', rest) {
                    None => self.searched = self.carry.len(),
                    Some(ahead) => {
                        let quote = rest.get(ahead) == Some(&b'"');
                        self.state = if quote { State::Inside } else { State::Escape };
                        self.searched += ahead + 1;
                    }
                },
                State::Escape => {
                    self.state = State::Text;
                    self.searched += 1;
                }
                State::Before | State::Inside | State::After => {
                    let byte = rest.first().copied().unwrap_or_default();
                    self.searched += 1;
                    if self.outside(byte) {
                        return Some(self.searched - 1);
                    }
                }
            }
        }
        None
    }

    /// Takes a byte outside of strings; returns whether an element ends before it.
    fn outside(&mut self, byte: u8) -> bool {
        match (self.state, byte) {
            (State::Before, b'[') => {
                self.state = State::Inside;
                self.depth = 1;
                self.drop_searched();
            }
            // White space and a byte order mark.
            (State::Before, _) => {}
            (_, b'"') => self.state = State::Text,
            (_, b'{' | b'[') => self.depth += 1,
            (_, b',') if self.depth == 1 => return true,
            (_, b']') if self.depth == 1 => {
                self.state = State::After;
                return true;
            }
            // A bracket that closes nothing is a fault of the element.
            (_, b'}' | b']') if self.depth > 1 => self.depth -= 1,
            _ => {}
        }
        false
    }

    /// Drops the bytes that were looked at.
    fn drop_searched(&mut self) {
        self.at += self.searched as u64;
        self.carry.drain(..self.searched);
        self.searched = 0;
    }

    /// Says that the file ends before the array does.
    fn truncated(&mut self) {
        self.carry.clear();
        self.searched = 0;
        self.damage.get_or_insert_with(|| match self.state {
            State::Before => "there is no array".to_string(),
            _ => format!("the array is not closed: the file ends in entry {}", self.number),
        });
        self.state = State::After;
    }

    /// Looks at what follows the array: nothing should.
    fn look_after(&mut self) {
        loop {
            let found = self.carry.iter().position(|b| !b.is_ascii_whitespace() && *b != 0);
            if let (Some(ahead), None) = (found, &self.damage) {
                let offset = self.at + ahead as u64;
                self.damage = Some(format!("the array ends before byte {offset}, but the file has more content"));
                return;
            }
            self.at += self.carry.len() as u64;
            self.carry.clear();
            if self.ended {
                return;
            }
            self.fill();
        }
    }

    /// Passes over the rest of an element that is too long, without keeping it; returns its length.
    fn pass_over(&mut self) -> u64 {
        let begin = self.at;
        loop {
            if let Some(end) = self.search() {
                let length = self.at + end as u64 - begin;
                self.drop_searched();
                return length;
            }
            self.drop_searched();
            if self.ended {
                return self.at - begin;
            }
            self.fill();
        }
    }
}

impl Splitter for Elements {
    fn next(&mut self, stretch: &mut Stretch) -> bool {
        stretch.bytes.clear();
        stretch.too_long.clear();
        let mut pieces = Vec::new();
        let mut first = self.number;
        let mut start = 0;
        while self.state != State::After && start < BLOCK {
            match self.search() {
                Some(end) => {
                    let element = self.carry.get(start..end).unwrap_or_default();
                    let lead = element.len() - element.trim_ascii_start().len();
                    let piece = start + lead..start + lead + element.trim_ascii().len();
                    // An empty array has no element.
                    if !(piece.is_empty() && self.state == State::After && self.number == 1) {
                        pieces.push(piece);
                        self.number += 1;
                    }
                    start = end + 1;
                }
                None if !pieces.is_empty() => break,
                None if self.ended => {
                    self.truncated();
                    return !stretch.too_long.is_empty();
                }
                None if self.carry.len() > LONGEST => {
                    let length = self.pass_over();
                    stretch.too_long.push((self.number, length));
                    self.number += 1;
                    first = self.number;
                }
                None => self.fill(),
            }
        }
        stretch.begin = self.at;
        stretch.first = first;
        stretch.bytes.extend_from_slice(self.carry.get(..start).unwrap_or_default());
        self.carry.drain(..start.min(self.carry.len()));
        self.searched = self.searched.saturating_sub(start);
        self.at += start as u64;
        let any = !pieces.is_empty() || !stretch.too_long.is_empty();
        stretch.pieces = Some(pieces);
        if !any {
            self.look_after();
        }
        any
    }

    fn damage(&mut self) -> Option<String> {
        self.damage.take().map(|what| format!("{what}, after {} bytes", self.read))
    }

    fn read(&self) -> u64 {
        self.read
    }
}
