//! Which brackets belong together: `{{…}}`, `[[…]]` and `{|…|}`, in one pass over the page.

use std::collections::HashMap;

/// Kind of a pair of brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bracket {
    /// `{{…}}`, a template.
    Template,
    /// `[[…]]`, a link.
    Link,
    /// `{|…|}` at the beginnings of lines, a table.
    Table,
}

/// The pairs of a page: kind and end (after the closing bracket) by the beginning.
#[derive(Debug, Default)]
pub(super) struct Brackets(HashMap<usize, (Bracket, usize)>);

impl Brackets {
    /// Finds the pairs. A bracket without a partner is text.
    pub fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut pairs = HashMap::new();
        let mut open: Vec<(Bracket, usize)> = Vec::new();
        let mut counts = [0usize; 3];
        let mut at = 0;
        let mut line_start = true;
        while let Some(byte) = bytes.get(at) {
            let next = bytes.get(at + 1).copied();
            let opens = match (byte, next) {
                (b'{', Some(b'{')) => Some(Bracket::Template),
                (b'[', Some(b'[')) => Some(Bracket::Link),
                (b'{', Some(b'|')) if line_start => Some(Bracket::Table),
                _ => None,
            };
            let closes = match (byte, next) {
                (b'}', Some(b'}')) => Some(Bracket::Template),
                (b']', Some(b']')) => Some(Bracket::Link),
                (b'|', Some(b'}')) if line_start && bytes.get(at + 2) != Some(&b'}') => Some(Bracket::Table),
                _ => None,
            };
            // White space and colons may stand before a table.
            line_start = *byte == b'\n' || line_start && matches!(byte, b' ' | b'\t' | b':');
            if let Some(kind) = opens {
                open.push((kind, at));
                counts[kind as usize] += 1;
                at += 2;
                continue;
            }
            if let Some(kind) = closes
                && counts[kind as usize] > 0
            {
                // What was opened since and not closed is text.
                while let Some((other, begin)) = open.pop() {
                    counts[other as usize] -= 1;
                    if other == kind {
                        pairs.insert(begin, (kind, at + 2));
                        break;
                    }
                }
                at += 2;
                continue;
            }
            at += 1;
        }
        Self(pairs)
    }

    /// Returns kind and end of the pair that begins here.
    pub fn at(&self, begin: usize) -> Option<(Bracket, usize)> {
        self.0.get(&begin).copied()
    }

    /// Splits a range of the text at each `|` that is in no pair inside it.
    pub fn split(&self, text: &str, range: std::ops::Range<usize>) -> Vec<std::ops::Range<usize>> {
        let bytes = text.as_bytes();
        let (mut parts, mut begin, mut at) = (Vec::new(), range.start, range.start);
        while at < range.end {
            if let Some((_, end)) = self.at(at).filter(|(_, end)| *end <= range.end) {
                at = end;
                continue;
            }
            if bytes.get(at) == Some(&b'|') {
                parts.push(begin..at);
                begin = at + 1;
            }
            at += 1;
        }
        parts.push(begin..range.end);
        parts
    }
}
