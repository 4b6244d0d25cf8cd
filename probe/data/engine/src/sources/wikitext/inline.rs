//! Text inside a paragraph: links, templates that stand for words, quotes that mark emphasis.

use super::WikiNames;
use super::brackets::{Bracket, Brackets};
use super::entities::decode;
use super::files::{self, FileLink};
use super::markup::{GALLERY, GAP};
use crate::outline::Line;
use std::ops::Range;

/// Largest nesting of brackets that is read; what lies deeper is left out.
const MAX_DEPTH: usize = 24;

/// A page whose brackets are known.
pub(super) struct Inline<'a> {
    pub text: &'a str,
    pub brackets: &'a Brackets,
    pub names: &'a WikiNames,
}

impl Inline<'_> {
    /// Appends the text of a range to a line, and the images in it to `images`.
    pub fn append(&self, range: Range<usize>, depth: usize, line: &mut Line, images: &mut Vec<FileLink>) {
        let bytes = self.text.as_bytes();
        let (mut at, mut plain) = (range.start, range.start);
        let push = |line: &mut Line, part: Range<usize>| {
            if let Some(text) = self.text.get(part).filter(|text| !text.is_empty()) {
                line.push(&decode(text));
            }
        };
        while at < range.end {
            let special = match bytes.get(at) {
                Some(b'{' | b'[' | b'\'' | b'_') => true,
                // The first byte of the characters that stand for something.
                Some(0xee) => true,
                _ => false,
            };
            if !special {
                at += 1;
                continue;
            }
            let end = self.special(at, range.end, depth, line, images, &mut |line| push(line, plain..at));
            match end {
                Some(end) => {
                    at = end.max(at + 1);
                    plain = at;
                }
                None => at += 1,
            }
        }
        push(line, plain..range.end);
    }

    /// Handles what begins at `at`, after `before` has appended the text before it. Returns its end; `None` if it is
    /// ordinary text.
    fn special(
        &self,
        at: usize,
        end: usize,
        depth: usize,
        line: &mut Line,
        images: &mut Vec<FileLink>,
        before: &mut dyn FnMut(&mut Line),
    ) -> Option<usize> {
        let rest = self.text.get(at..end)?;
        if let Some((kind, close)) = self.brackets.at(at).filter(|(_, close)| *close <= end) {
            before(line);
            match kind {
                _ if depth >= MAX_DEPTH => line.leave_out(),
                Bracket::Template => self.template(at + 2..close - 2, depth, line, images),
                Bracket::Link => self.link(at + 2..close - 2, depth, line, images),
                Bracket::Table => line.leave_out(),
            }
            return Some(close);
        }
        if rest.starts_with(GAP) || rest.starts_with(GALLERY) {
            before(line);
            line.leave_out();
            return Some(at + GAP.len_utf8());
        }
        if rest.starts_with("''") {
            before(line);
            let quotes = rest.bytes().take(5).take_while(|b| *b == b'\'').count();
            // Four quotes are an apostrophe and three.
            if quotes == 4 {
                line.push("'");
            }
            return Some(at + quotes);
        }
        if rest.starts_with("[http://") || rest.starts_with("[https://") || rest.starts_with("[//") {
            // The end of an external link is on its line.
            let near = rest.as_bytes().get(..4000).unwrap_or(rest.as_bytes());
            let close = memchr::memchr2(b']', b'\n', near).filter(|end| near.get(*end) == Some(&b']'))?;
            before(line);
            match rest.get(..close).and_then(|inner| inner.split_once(' ')) {
                Some((address, _)) => self.append(at + address.len() + 1..at + close, depth + 1, line, images),
                None => line.leave_out(),
            }
            return Some(at + close + 1);
        }
        // Behaviour switches: `__NOTOC__`.
        if rest.starts_with("__") {
            let word = rest.get(2..)?.bytes().take_while(u8::is_ascii_uppercase).count();
            if word > 2 && rest.get(2 + word..)?.starts_with("__") {
                before(line);
                return Some(at + word + 4);
            }
        }
        None
    }

    fn link(&self, inner: Range<usize>, depth: usize, line: &mut Line, images: &mut Vec<FileLink>) {
        let parts = self.brackets.split(self.text, inner);
        let Some(target) = parts.first().and_then(|part| self.text.get(part.clone())) else { return };
        let target = decode(target);
        let target = target.trim();
        // A colon before a link to a file or category makes it an ordinary link.
        let visible = target.strip_prefix(':');
        if visible.is_none()
            && let Some((namespace, name)) = target.split_once(':')
        {
            let namespace = namespace.trim().to_lowercase().replace('_', " ");
            if self.names.files.contains(&namespace) {
                images.extend(files::file_link(self, name, parts.get(1..).unwrap_or_default(), depth));
                line.leave_out();
                return;
            }
            // Links between languages: `[[de:Eiche]]`.
            let language = (2..=3).contains(&namespace.len()) && namespace.bytes().all(|b| b.is_ascii_lowercase());
            if self.names.categories.contains(&namespace) || language && parts.len() == 1 {
                line.leave_out();
                return;
            }
        }
        match parts.last().filter(|_| parts.len() > 1) {
            Some(label) => self.append(label.clone(), depth + 1, line, images),
            None => {
                let shown = visible.unwrap_or(target);
                line.push(shown.split('#').next().filter(|title| !title.is_empty()).unwrap_or(shown));
            }
        }
    }

    /// Appends the text of a template that stands for words; others are left out.
    fn template(&self, inner: Range<usize>, depth: usize, line: &mut Line, images: &mut Vec<FileLink>) {
        let parts = self.brackets.split(self.text, inner);
        let name = parts.first().and_then(|part| self.text.get(part.clone())).unwrap_or_default();
        let name = name.trim().to_lowercase().replace('_', " ");
        // Parameters without a name, in their order.
        let unnamed: Vec<&Range<usize>> = parts
            .iter()
            .skip(1)
            .filter(|part| {
                let text = self.text.get((*part).clone()).unwrap_or_default();
                text.split_once('=').is_none_or(|(key, _)| key.contains(['[', '{', ' ', '<']))
            })
            .collect();
        let mut show = |wanted: &[usize], line: &mut Line| {
            for (n, at) in wanted.iter().enumerate() {
                if let Some(part) = unnamed.get(*at) {
                    if n > 0 {
                        line.push(" ");
                    }
                    self.append((*part).clone(), depth + 1, line, images);
                }
            }
        };
        match name.as_str() {
            "convert" | "cvt" => show(&[0, 1], line),
            "nowrap" | "nobold" | "small" | "big" | "em" | "strong" | "smallcaps" | "sc" | "val" | "abbr"
            | "tooltip" | "char" | "not a typo" | "sic" | "visible anchor" | "vanchor" | "angbr" | "mvar" | "math"
            | "fact" => match name.as_str() {
                "math" | "fact" => line.leave_out(),
                _ => show(&[0], line),
            },
            "lang" | "transl" | "transliteration" | "langx" | "lang-x" => match unnamed.len() {
                0 | 1 => line.leave_out(),
                count => show(&[count.min(3) - 1], line),
            },
            _ if name.starts_with("lang-") => show(&[0], line),
            "nbsp" | "spaces" | "thinsp" | "pad" => line.push(" "),
            "ndash" | "en dash" => line.push("–"),
            "snd" | "spnd" | "spaced ndash" | "spaced en dash" => line.push(" – "),
            "mdash" | "em dash" => line.push("—"),
            "'" | "apostrophe" => line.push("'"),
            "frac" | "sfrac" => {
                show(unnamed.first().map_or(&[], |_| &[0]), line);
                if unnamed.len() > 1 {
                    line.push("/");
                    show(&[1], line);
                }
            }
            "multiple image" => {
                images.extend(files::multiple_image(self, parts.get(1..).unwrap_or_default(), depth));
                line.leave_out();
            }
            _ => line.leave_out(),
        }
    }

    /// Returns the text of a range as one line; images in it are left out.
    pub fn line(&self, range: Range<usize>, depth: usize) -> String {
        let mut line = Line::default();
        self.append(range, depth, &mut line, &mut Vec::new());
        line.finish()
    }
}
