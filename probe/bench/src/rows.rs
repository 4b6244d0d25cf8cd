//! Streams JSON rows, one per line or as the items of one list, each of at most [`LONGEST`] bytes.

use burgess_base::files::{self, RowLimitedReader};
use burgess_base::json::{self, LenientReader};
use burgess_base::{Context, Error, Result};
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Maximum length of a row of a JSON, CSV or TSV file, in bytes; some rows hold images as base64.
pub(crate) const LONGEST: u64 = 256 << 20;

/// A JSON row with its value and its place in the file.
pub(crate) struct JsonRow {
    /// `FILE:LINE`, or `FILE item N`.
    pub place: String,
    /// Number of the line, or of the item in the list, from 1.
    pub number: usize,
    pub value: Value,
}

/// Calls `each` with every row of a file: every line that is not blank, or every item if the file is one list.
///
/// # Errors
/// An error is returned if the file cannot be read, if a row is not JSON or too long (naming file and line), or if
/// `each` fails.
pub(crate) fn for_each(path: &Path, each: &mut dyn FnMut(JsonRow) -> Result<()>) -> Result<()> {
    let step = || format!("reading {}", path.display());
    let mut text = BufReader::with_capacity(1 << 16, files::open(path).with_context(step)?);
    let begin = text.fill_buf().with_context(step)?;
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = begin {
        return Err(Error::failed("the file is UTF-16").context(step()).hint("save it as UTF-8"));
    }
    let begin = begin.strip_prefix("\u{feff}".as_bytes()).unwrap_or(begin);
    match begin.iter().find(|b| !b.is_ascii_whitespace()) {
        Some(b'[') => items(path, text, each),
        _ => lines(path, text, each),
    }
}

/// Calls `each` with every line that is not blank.
///
/// # Errors
/// The errors are those of [`for_each`].
pub(crate) fn for_each_line(path: &Path, each: &mut dyn FnMut(JsonRow) -> Result<()>) -> Result<()> {
    let file = files::open(path).with_context(|| format!("reading {}", path.display()))?;
    lines(path, BufReader::with_capacity(1 << 16, file), each)
}

fn lines(path: &Path, mut text: impl BufRead, each: &mut dyn FnMut(JsonRow) -> Result<()>) -> Result<()> {
    let mut bytes = Vec::new();
    for line in 1_usize.. {
        let place = || format!("{}:{line}", path.display());
        bytes.clear();
        if text.by_ref().take(LONGEST + 1).read_until(b'\n', &mut bytes).with_context(place)? == 0 {
            break;
        }
        if bytes.len() as u64 > LONGEST {
            return Err(
                Error::failed(format!("the line is longer than {}", files::format_bytes(LONGEST))).context(place())
            );
        }
        let content = std::str::from_utf8(&bytes).map_err(|e| {
            Error::failed(format!("the line is not UTF-8 (byte {} of it)", e.valid_up_to() + 1)).context(place())
        })?;
        let content = content.trim_start_matches('\u{feff}').trim();
        if content.is_empty() {
            continue;
        }
        let value = json::from_str(content).map_err(|e| {
            let cut = e.is_eof();
            let error = Error::from(e).context(place());
            if cut { error.hint("write one whole object per line, as `jq -c` does") } else { error }
        })?;
        each(JsonRow { place: place(), number: line, value })?;
    }
    Ok(())
}

fn items(path: &Path, text: impl Read, each: &mut dyn FnMut(JsonRow) -> Result<()>) -> Result<()> {
    let (limited, row_budget) = RowLimitedReader::new(text, LONGEST);
    let mut parser = serde_json::Deserializer::from_reader(BufReader::new(LenientReader::new(limited)));
    let (mut failed, mut number) = (None, 0_usize);
    let mut take = |value: Value| {
        number += 1;
        row_budget.renew();
        let row = JsonRow { place: format!("{} item {number}", path.display()), number, value };
        each(row).map_err(|e| failed = Some(e)).is_ok()
    };
    let parsed = parser.deserialize_seq(Items(&mut take)).and_then(|()| parser.end());
    match failed {
        Some(e) => Err(e),
        None => parsed.with_context(|| format!("reading {}", path.display())),
    }
}

/// Visitor that passes the items of a list to a function one by one, until it returns false.
struct Items<F>(F);

impl<'de, F: FnMut(Value) -> bool> Visitor<'de> for Items<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> std::result::Result<(), A::Error> {
        while let Some(value) = seq.next_element()? {
            if !(self.0)(value) {
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Checked = std::result::Result<(), Box<dyn std::error::Error>>;

    fn read(bytes: &[u8]) -> std::result::Result<Vec<(usize, Value)>, String> {
        let file = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
        std::fs::write(file.path(), bytes).map_err(|e| e.to_string())?;
        let mut rows = Vec::new();
        for_each(file.path(), &mut |row| {
            rows.push((row.number, row.value));
            Ok(())
        })
        .map_err(|e| e.to_string().replace(&file.path().display().to_string(), "F"))?;
        Ok(rows)
    }

    #[test]
    fn lines_and_lists_give_the_same_rows() -> Checked {
        let lines = read(b"\xef\xbb\xbf{\"a\": NaN}\n\n  \n[1]\nnull\r\n\"x\"")?;
        let list = read(b" \n[{\"a\": Infinity}, [1], null, \"x\"]\n")?;
        let values = |rows: &[(usize, Value)]| rows.iter().map(|r| r.1.to_string()).collect::<Vec<_>>();
        assert_eq!(values(&lines), ["{\"a\":null}", "[1]", "null", "\"x\""]);
        assert_eq!(values(&lines), values(&list));
        assert_eq!((lines[1].0, list[1].0), (4, 2));
        assert!(read(b"")?.is_empty() && read(b"[]")?.is_empty());
        Ok(())
    }

    #[test]
    fn damage_is_named_with_its_line() {
        assert_eq!(read(b"{}\n{\"a\": \"\xff\"}\n").unwrap_err(), "F:2: the line is not UTF-8 (byte 8 of it)");
        assert!(read(b"{}\n{\"a\": \n").unwrap_err().starts_with("F:2: EOF while parsing"));
        assert!(read(b"[{}, {\"a\": }]").unwrap_err().contains("reading F: expected value at line 1"));
        assert!(read(b"[{}] {}").unwrap_err().contains("trailing characters"));
        assert!(read(b"\xff\xfe{\0}\0").unwrap_err().contains("UTF-16"));
        let deep = [vec![b'['; 100_000], vec![b'\n']].concat();
        assert!(read(&deep).unwrap_err().contains("recursion limit exceeded"));
        let deep = format!("{{\"a\": {}}}", "[".repeat(100_000));
        assert!(read(deep.as_bytes()).unwrap_err().contains("recursion limit exceeded"));
    }
}
