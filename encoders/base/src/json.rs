//! Reads JSON that other programs wrote, which may contain Python's `NaN`, `Infinity` and `-Infinity`, a byte order
//! mark, or unpaired surrogates.
//!
//! Python's `json` writes these numbers although RFC 8259 does not allow them, Windows editors prepend a byte order
//! mark, and JavaScript writes unpaired surrogates for truncated text. A strict parser would reject a whole file
//! because of one field that may never be used. [`LenientReader`] replaces these numbers by `null` and unpaired
//! surrogates in strings by U+FFFD, and keeps every other byte. A required field that becomes `null` is an error of the
//! reader.
//!
//! Use it for all files of other programs (training data, predictions, benchmarks, annotations, model configurations),
//! never for Burgess's own files: there such a value means damage.

use crate::{Context, Result};
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::io::{self, Read};
use std::path::Path;

/// Number of bytes read from the source at once.
const CHUNK: usize = 64 * 1024;
/// Length in bytes of the longest token that must be complete in the input: a surrogate pair, `\ud83d\ude00`.
const LONGEST: usize = 12;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// U+FFFD in an escape as long as the surrogate's, so that columns in error messages stay right.
const REPLACEMENT: &[u8] = b"\\ufffd";

/// Whether the next byte is at the start of the text, outside of strings, or in a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Outside,
    InString,
}

/// The state machine that rewrites JSON, independent of how bytes are read and written.
#[derive(Debug)]
struct Rewriter {
    state: State,
}

impl Rewriter {
    const NEW: Self = Self { state: State::Start };

    /// Rewrites the beginning of `input` into `out` and returns the number of bytes used. Unless `last`, up to
    /// [`LONGEST`] bytes are left for the next call, because their token may not be complete.
    fn step(&mut self, input: &[u8], last: bool, out: &mut Vec<u8>) -> usize {
        let mut at = 0;
        if self.state == State::Start {
            if !last && input.len() < BYTE_ORDER_MARK.len() {
                return 0;
            }
            if input.starts_with(BYTE_ORDER_MARK) {
                at = BYTE_ORDER_MARK.len();
            }
            self.state = State::Outside;
        }
        while at < input.len() {
            let rest = &input[at..];
            let ahead = match self.state {
                State::InString => memchr::memchr2(b'"', b'\\', rest),
                State::Outside | State::Start => memchr::memchr3(b'"', b'N', b'I', rest),
            };
            let Some(ahead) = ahead else {
                // A minus sign is held back: it may belong to `-Infinity`.
                let kept = usize::from(self.state == State::Outside && !last && rest.ends_with(b"-"));
                out.extend_from_slice(&rest[..rest.len() - kept]);
                return input.len() - kept;
            };
            let found = at + ahead;
            let minus = self.state == State::Outside && ahead > 0 && input[found - 1] == b'-';
            if !last && input.len() - found < LONGEST && input[found] != b'"' {
                let kept = found - usize::from(minus);
                out.extend_from_slice(&input[at..kept]);
                return kept;
            }
            let token = &input[found..];
            let before = &input[at..found];
            let (write, text, used): (&[u8], &[u8], usize) = match (self.state, token[0]) {
                (State::InString, b'"') => {
                    self.state = State::Outside;
                    (before, b"\"", 1)
                }
                (State::InString, _) => match surrogate(token) {
                    Some(length @ 6) => (before, REPLACEMENT, length),
                    Some(length) => (before, &token[..length], length),
                    None => (before, &token[..token.len().min(2)], token.len().min(2)),
                },
                (_, b'"') => {
                    self.state = State::InString;
                    (before, b"\"", 1)
                }
                (_, b'N') if is_word(token, b"NaN") => (before, b"null", 3),
                (_, b'I') if is_word(token, b"Infinity") => (&before[..before.len() - usize::from(minus)], b"null", 8),
                (_, other) => (before, if other == b'N' { b"N" } else { b"I" }, 1),
            };
            out.extend_from_slice(write);
            out.extend_from_slice(text);
            at = found + used;
        }
        at
    }
}

/// Whether `token` starts with `word` and does not continue it to a longer word.
fn is_word(token: &[u8], word: &[u8]) -> bool {
    token.starts_with(word) && token.get(word.len()).is_none_or(|next| !next.is_ascii_alphanumeric())
}

/// Returns the length of the surrogate escape at the start of `token`: 12 for a pair, 6 if unpaired; `None` for other
/// text.
fn surrogate(token: &[u8]) -> Option<usize> {
    let unit = |from: usize| -> Option<u16> {
        let text = token.get(from..from + 6).filter(|t| t.starts_with(b"\\u"))?;
        // `from_str_radix` would accept a sign.
        let digits = std::str::from_utf8(&text[2..]).ok().filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u16::from_str_radix(digits, 16).ok()
    };
    match unit(0)? {
        0xd800..=0xdbff => match unit(6) {
            Some(0xdc00..=0xdfff) => Some(12),
            _ => Some(6),
        },
        0xdc00..=0xdfff => Some(6),
        _ => None,
    }
}

/// A reader that converts JSON of other programs to strict JSON; see the [module](self).
///
/// ```
/// use burgess_base::json::LenientReader;
/// let text = b"\xef\xbb\xbf{\"score\": NaN, \"text\": \"cut \\ud83d\"}";
/// let value: serde_json::Value = serde_json::from_reader(LenientReader::new(&text[..]))?;
/// assert_eq!(value, serde_json::json!({"score": null, "text": "cut \u{fffd}"}));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug)]
pub struct LenientReader<R> {
    inner: R,
    rewriter: Rewriter,
    input: Vec<u8>,
    output: Vec<u8>,
    given: usize,
    ended: bool,
}

impl<R: Read> LenientReader<R> {
    /// Builds a reader of `inner`, which needs no buffer because it is read in large pieces.
    pub fn new(inner: R) -> Self {
        Self { inner, rewriter: Rewriter::NEW, input: Vec::new(), output: Vec::new(), given: 0, ended: false }
    }
}

impl<R: Read> Read for LenientReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.given == self.output.len() && !self.ended {
            self.output.clear();
            self.given = 0;
            let held = self.input.len();
            self.input.resize(held + CHUNK, 0);
            let read = self.inner.read(&mut self.input[held..]);
            self.input.truncate(held + *read.as_ref().unwrap_or(&0));
            self.ended = read? == 0;
            let used = self.rewriter.step(&self.input, self.ended, &mut self.output);
            self.input.drain(..used);
        }
        let count = buffer.len().min(self.output.len() - self.given);
        buffer[..count].copy_from_slice(&self.output[self.given..self.given + count]);
        self.given += count;
        Ok(count)
    }
}

/// Converts bytes to strict JSON; see the [module](self). Borrows the input if nothing changes.
pub fn strict(bytes: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rewriter = Rewriter::NEW;
    rewriter.step(bytes, true, &mut out);
    if out == bytes { Cow::Borrowed(bytes) } else { Cow::Owned(out) }
}

/// Parses a value from JSON that another program wrote. Strict JSON has no extra cost.
///
/// # Errors
/// The converted bytes are not valid JSON, or not of this type.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(bytes).or_else(|first| match strict(bytes) {
        Cow::Borrowed(_) => Err(first),
        Cow::Owned(text) => serde_json::from_slice(&text),
    })
}

/// Parses a value from text, as [`from_slice`] does.
///
/// # Errors
/// The converted text is not valid JSON, or not of this type.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    from_slice(text.as_bytes())
}

/// Reads a JSON file that another program wrote; an error names the file, line and column.
///
/// # Errors
/// The file cannot be read, is not valid JSON after conversion, or not of this type.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let step = || format!("reading {}", path.display());
    from_slice(&std::fs::read(path).with_context(step)?).with_context(step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const TEXTS: &[(&str, &str)] = &[
        (r#"{"a": NaN, "b": [Infinity, -Infinity, 1]}"#, r#"{"a": null, "b": [null, null, 1]}"#),
        (r#"{"NaN": "NaN, -Infinity", "a": "\"NaN"}"#, r#"{"NaN": "NaN, -Infinity", "a": "\"NaN"}"#),
        ("\u{feff}[1]", "[1]"),
        ("[\"\u{feff}\"]", "[\"\u{feff}\"]"),
        (r#"["\ud83d\ude00", "\ud83d", "\ude00x", "\\ud83d"]"#, r#"["\ud83d\ude00", "\ufffd", "\ufffdx", "\\ud83d"]"#),
        (r#"["\ud83d\ud83d\ude00"]"#, r#"["\ufffd\ud83d\ude00"]"#),
        ("NaN", "null"),
        ("-Infinity", "null"),
        ("[-1, NaNs, Nan]", "[-1, NaNs, Nan]"),
        (r#""\"#, r#""\"#),
        ("", ""),
    ];

    #[test]
    fn only_nonstandard_json_is_rewritten() {
        for (text, right) in TEXTS {
            assert_eq!(std::str::from_utf8(&strict(text.as_bytes())), Ok(*right), "{text}");
        }
    }

    #[test]
    fn a_stream_in_pieces_of_any_size_gives_the_same() -> io::Result<()> {
        struct Pieces<'a>(&'a [u8], usize);
        impl Read for Pieces<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let count = self.1.min(self.0.len()).min(buffer.len());
                buffer[..count].copy_from_slice(&self.0[..count]);
                self.0 = &self.0[count..];
                Ok(count)
            }
        }
        for (text, right) in TEXTS {
            for size in 1..16 {
                let mut out = String::new();
                LenientReader::new(Pieces(text.as_bytes(), size)).read_to_string(&mut out)?;
                assert_eq!(out, *right, "{text} in pieces of {size}");
            }
        }
        Ok(())
    }

    #[test]
    fn byte_order_marks_and_nan_are_accepted_but_not_other_errors() -> Result<(), serde_json::Error> {
        let value: Value = from_str("\u{feff}{\"id\": \"a\", \"loss\": NaN}")?;
        assert_eq!(value, json!({"id": "a", "loss": null}));
        assert!(from_str::<Value>("{\"a\": nan}").is_err());
        Ok(())
    }
}
