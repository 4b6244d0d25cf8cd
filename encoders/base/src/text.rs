//! Untrusted text in messages, tables and pages: without control characters, and of limited length.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a terminal interprets the character instead of showing it, or the character changes the direction of text.
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Replaces control characters and direction marks by escapes (`\n`, `\x1b`, `\u{202e}`).
///
/// ```
/// assert_eq!(burgess_base::text::escaped("a\x1b[31mé\n"), "a\\x1b[31mé\\n");
/// ```
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(steers) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        // Writing into a string cannot fail.
        let _ = match c {
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            c if steers(c) && u32::from(c) < 0x100 => write!(out, "\\x{:02x}", u32::from(c)),
            c if steers(c) => write!(out, "\\u{{{:x}}}", u32::from(c)),
            c => out.write_char(c),
        };
    }
    Cow::Owned(out)
}

/// Escapes text of several lines as [`escaped`] does, but keeps line feeds.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| c != '\n' && steers(c)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split('\n').map(escaped).collect::<Vec<_>>().join("\n"))
}

/// Returns at most `longest` characters of the text, escaped, with `…` if characters are left out.
///
/// ```
/// assert_eq!(burgess_base::text::excerpt("one\ntwo three", 8), "one\\ntwo…");
/// ```
pub fn excerpt(text: &str, longest: usize) -> String {
    let end = text.char_indices().nth(longest).map_or(text.len(), |(at, _)| at);
    if end == text.len() {
        return escaped(text).into_owned();
    }
    escaped(text[..end].trim_end()).into_owned() + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_letters_stay() {
        assert!(matches!(escaped("größer 图 🙂"), Cow::Borrowed(_)));
        assert_eq!(escaped("\u{9b}2J\u{7f}\u{202e}\0"), "\\x9b2J\\x7f\\u{202e}\\x00");
        assert_eq!(escaped_lines("a\nb\x07\n"), "a\nb\\x07\n");
    }
}
