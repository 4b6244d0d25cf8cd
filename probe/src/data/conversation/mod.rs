//! Reads conversations in LLaVA's format: a JSON array or JSON lines of `{"id": …, "image": "path", "conversations":
//! [{"from": "human", "value": "<image>\n…"}, {"from": "gpt", …}]}`, plain or compressed with gzip or zstd
//! (recognised by content).
//!
//! As in the loaders of LLaVA and Cambrian-1, an entry is text only if it has no image or one called "", "None",
//! "none" or "nan" (also Python's bare `NaN`), and a first turn that is not the human's is skipped. A list of one
//! image is that image.
//!
//! Entries that are valid JSON but unusable are skipped and counted ([`SkippedReport`]). Invalid JSON is an error,
//! because it means that the file is truncated or damaged.

mod entry;

pub use burgess_base::skipped::{SkippedEntries, SkippedReport};

use crate::llm::chat::Turn;
use burgess_base::json::LenientReader;
use burgess_base::{Context, Error, Result, compressed, text};
use entry::Entry;
use serde::de::{Deserializer, SeqAccess, Visitor};
use std::io::{BufRead, BufReader};
use std::path::Path;

/// One conversation, with or without an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Id in the file (numbers are converted to text).
    pub id: String,
    /// Path of the image as written in the file; `None` for text only.
    pub image: Option<String>,
    /// Data source: the entry's `source`, or the first folder of the image path, or an empty string.
    pub source: String,
    /// The turns in order, without a first turn that is not the human's.
    pub turns: Vec<Turn>,
}

/// Reads a file of conversations one by one and passes each to `each`; files may be larger than memory.
///
/// Entries that are valid JSON but unusable (not an object, no turns, no question at the start, a turn without text,
/// an unknown role, an empty answer, several images) are skipped and counted.
///
/// # Errors
/// When the file cannot be read, is damaged, or does not have this format (the error gives file, line and column);
/// when it has entries and all are skipped (the error gives the reasons); and any error of `each`.
pub fn read(path: &Path, mut each: impl FnMut(Conversation) -> Result<()>) -> Result<SkippedReport> {
    let step = || format!("reading {}", path.display());
    let mut reader = BufReader::new(LenientReader::new(compressed::open(path).with_context(step)?));
    let mut problems = SkippedReport::default();
    let mut given = 0;
    let mut take = |entry: Entry, problems: &mut SkippedReport, place: String| match entry.conversation() {
        Ok(conversation) => {
            given += 1;
            each(conversation)
        }
        Err(unusable) => {
            problems.count(unusable, place);
            Ok(())
        }
    };
    let array = first_byte(&mut reader).with_context(step)? == Some(b'[');
    if array {
        let mut failed = None;
        let mut index = 0;
        let entries = |entry: Entry| {
            index += 1;
            failed = take(entry, &mut problems, format!("entry {index}")).err();
            failed.is_none()
        };
        let mut parser = serde_json::Deserializer::from_reader(&mut reader);
        let parsed = (&mut parser).deserialize_seq(Entries(entries)).and_then(|()| parser.end());
        if let Some(e) = failed {
            return Err(e);
        }
        parsed.map_err(|e| malformed(path, e.line(), &e))?;
    } else {
        let mut line = Vec::new();
        let mut number = 0;
        while reader.read_until(b'\n', &mut line).with_context(step)? > 0 {
            number += 1;
            // Concatenated files have byte order marks in the middle.
            let content = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line).trim_ascii();
            if !content.is_empty() {
                let entry = serde_json::from_slice(content).map_err(|e| malformed(path, number, &e))?;
                take(entry, &mut problems, format!("line {number}"))?;
            }
            line.clear();
        }
    }
    if given == 0 && problems.total() > 0 {
        return Err(Error::failed(format!(
            "{}: no conversation to train on: of {} none is usable: {}",
            path.display(),
            problems.total(),
            problems.summary()
        ))
        .hint(FORM));
    }
    Ok(problems)
}

/// The expected format, as a hint.
const FORM: &str = "expected LLaVA conversations: {\"id\", \"image\", \"conversations\": [{\"from\", \"value\"}]}";

fn malformed(path: &Path, line: usize, e: &serde_json::Error) -> Error {
    let (what, column) = (e.to_string(), e.column());
    // serde counts lines within one JSON line, which is always line 1.
    let what = what.rsplit_once(" at line ").map_or(what.as_str(), |(what, _)| what);
    Error::failed(format!("{}:{line}:{column}: {}", path.display(), text::excerpt(what, 200))).hint(FORM)
}

/// Returns the first byte that is not white space, without consuming it.
fn first_byte(reader: &mut impl BufRead) -> std::io::Result<Option<u8>> {
    loop {
        let buffer = reader.fill_buf()?;
        let skip = buffer.iter().take_while(|b| b.is_ascii_whitespace()).count();
        match buffer.get(skip) {
            Some(&b) => return Ok(Some(b)),
            None if buffer.is_empty() => return Ok(None),
            None => reader.consume(skip),
        }
    }
}

/// A visitor that passes the entries of a JSON array to a function one by one, until it returns `false`.
struct Entries<F>(F);

impl<'de, F: FnMut(Entry) -> bool> Visitor<'de> for Entries<F> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an array of conversations")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> std::result::Result<(), A::Error> {
        while let Some(entry) = seq.next_element()? {
            if !(self.0)(entry) {
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

/// Reads a whole file into memory; also returns counts of the skipped entries.
///
/// # Errors
/// As [`read`].
pub fn read_all(path: &Path) -> Result<(Vec<Conversation>, SkippedReport)> {
    let mut all = Vec::new();
    let problems = read(path, |c| {
        all.push(c);
        Ok(())
    })?;
    Ok((all, problems))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"id": 7, "image": "a.png", "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "a cup"}]}"#;

    fn file(text: &str) -> Result<(tempfile::TempDir, std::path::PathBuf)> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("c.json");
        std::fs::write(&path, text)?;
        Ok((dir, path))
    }

    #[test]
    fn arrays_and_lines_read_the_same() -> Result<()> {
        let (_d, array) = file(&format!(" [\n{GOOD},\n{GOOD}]\n"))?;
        let (_d, lines) = file(&format!("{GOOD}\n\n{GOOD}\n"))?;
        let (a, problems) = read_all(&array)?;
        assert_eq!(a, read_all(&lines)?.0);
        assert_eq!((a.len(), problems.total()), (2, 0));
        assert_eq!((a[0].id.as_str(), a[0].image.as_deref()), ("7", Some("a.png")));
        assert_eq!(a[0].turns[1], Turn::assistant("a cup"));
        Ok(())
    }

    #[test]
    fn entries_without_an_image_and_first_turns_are_read_as_llava_does() -> Result<()> {
        let turns = r#"[{"from": "system", "value": "Be brief."}, {"from": "human", "value": "What?"}, {"from": "gpt", "value": "a cup"}]"#;
        let images = ["", "\"image\": null, ", "\"image\": \"\", ", "\"image\": \"None\", ", "\"image\": \"nan\", "];
        let text: String = images.iter().map(|i| format!("{{{i}\"conversations\": {turns}}}\n")).collect();
        let (_d, path) = file(&text)?;
        let (all, problems) = read_all(&path)?;
        assert_eq!((all.len(), problems.total()), (5, 0));
        assert!(all.iter().all(|c| c.image.is_none() && c.turns[0] == Turn::user("What?") && c.source.is_empty()));
        let sources =
            ["\"image\": \"coco/1.jpg\"", "\"image\": \"1.jpg\"", "\"image\": \"coco/1.jpg\", \"source\": \"gqa\""];
        let text: String = sources.iter().map(|i| format!("{{{i}, \"conversations\": {turns}}}\n")).collect();
        let (_d, path) = file(&text)?;
        let found: Vec<String> = read_all(&path)?.0.into_iter().map(|c| c.source).collect();
        assert_eq!(found, ["coco", "", "gqa"]);
        Ok(())
    }

    #[test]
    fn compressed_files_read_as_plain_ones() -> Result<()> {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/train/conversations");
        let plain = read_all(&golden.join("plain.jsonl"))?.0;
        assert!(plain.len() > 10);
        for name in ["gzip", "gzip-members", "zstd", "zstd-frames"] {
            assert_eq!(read_all(&golden.join(name))?.0, plain, "{name}");
            let bytes = std::fs::read(golden.join(name))?;
            let (_d, path) = file("")?;
            std::fs::write(&path, &bytes[..bytes.len() - 20])?;
            let e = read_all(&path).unwrap_err();
            assert!(e.to_string().contains("c.json"), "{name}: {e}");
        }
        Ok(())
    }

    #[test]
    fn unusable_entries_are_counted_with_their_place() -> Result<()> {
        let bad = r#"{"id": "x", "conversations": [{"from": "human", "value": "<image> What?"}, {"from": "gpt", "value": "?"}]}"#;
        let robot =
            r#"{"id": "x", "conversations": [{"from": "human", "value": "?"}, {"from": "robot", "value": "beep"}]}"#;
        let (_d, path) = file(&format!("{GOOD}\n{bad}\n{robot}\n{robot}\n"))?;
        let (good, problems) = read_all(&path)?;
        assert_eq!(good.len(), 1);
        let found: Vec<_> = problems.iter().collect();
        let speaker = ("unknown speaker", 2, "line 3: `robot`");
        assert_eq!(found, [("image named but not given", 1, "line 2"), speaker]);
        Ok(())
    }

    /// Unusual entries with the reason for which each is skipped; empty if it is read.
    const ODD: &[(&str, &str)] = &[
        ("null", "not an object"),
        ("3", "not an object"),
        ("NaN", "not an object"),
        ("\"text\"", "not an object"),
        ("[1, {}]", "not an object"),
        ("true", "not an object"),
        ("{}", "no `conversations`"),
        (r#"{"conversations": null}"#, "`conversations` is no list"),
        (r#"{"conversations": {"from": "human"}}"#, "`conversations` is no list"),
        (r#"{"conversations": []}"#, "no turns"),
        (r#"{"conversations": [null]}"#, "a turn is not an object"),
        (r#"{"conversations": [{"value": "?"}, {"from": "gpt", "value": "a"}]}"#, "a turn without `from`"),
        (r#"{"conversations": [{"from": null, "value": "?"}]}"#, "`from` of a turn is no text"),
        (r#"{"conversations": [{"from": "human"}, {"from": "gpt", "value": "a"}]}"#, "a turn without `value`"),
        (r#"{"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": null}]}"#, NO_TEXT),
        (r#"{"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": NaN}]}"#, NO_TEXT),
        (r#"{"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": 3}]}"#, NO_TEXT),
        (r#"{"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": ["a"]}]}"#, NO_TEXT),
        (r#"{"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": " "}]}"#, "empty answer"),
        (r#"{"image": 5, "conversations": [{"from": "human", "value": "?"}]}"#, "the image is no path"),
        (r#"{"image": false, "conversations": [{"from": "human", "value": "?"}]}"#, "the image is no path"),
        (r#"{"image": {"path": "a.png"}, "conversations": [{"from": "human", "value": "?"}]}"#, "the image is no path"),
        (r#"{"image": [["a.png"]], "conversations": [{"from": "human", "value": "?"}]}"#, "the image is no path"),
        (r#"{"image": ["a", "b"], "conversations": [{"from": "human", "value": "?"}]}"#, "several images"),
        (
            r#"{"image": [], "conversations": [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "a"}]}"#,
            "image named but not given",
        ),
        (r#"{"image": NaN, "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "a"}]}"#, ""),
        (r#"{"image": [], "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "a"}]}"#, ""),
        (r#"{"image": [NaN], "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "a"}]}"#, ""),
        (
            r#"{"id": {"a": [1]}, "score": -Infinity, "conversations": [{"from": "human", "value": "\ud83d?"}, {"from": "gpt", "value": "a"}]}"#,
            "",
        ),
    ];
    const NO_TEXT: &str = "`value` of a turn is no text";

    #[test]
    fn odd_entries_are_left_out_and_counted_and_the_others_are_read() -> Result<()> {
        for (entry, reason) in ODD {
            for (text, place) in [
                (format!("\u{feff}[{GOOD}, {entry}]"), "entry 2"),
                (format!("{GOOD}\n\u{feff}{entry}\r\n\n"), "line 2"),
            ] {
                let (_d, path) = file(&text)?;
                let (all, problems) = read_all(&path)?;
                assert_eq!(all.len(), 1 + usize::from(reason.is_empty()), "{text}");
                let found: Vec<_> = problems.iter().map(|(what, n, at)| (what, n, at.starts_with(place))).collect();
                let wanted = if reason.is_empty() { vec![] } else { vec![(*reason, 1, true)] };
                assert_eq!(found, wanted, "{text}");
                if reason.is_empty() {
                    assert_eq!(all[1].image, None, "{text}");
                }
            }
            if !reason.is_empty() {
                let (_d, path) = file(&format!("[{entry}, {entry}]"))?;
                let e = read_all(&path).unwrap_err();
                assert!(e.to_string().contains(reason) && e.to_string().contains("of 2 none is usable"), "{e}");
                assert!(e.hint_text().is_some());
            }
        }
        let (_d, path) = file(&GOOD.replace("\"a.png\"", "[\"a.png\"]"))?;
        assert_eq!(read_all(&path)?.0[0].image.as_deref(), Some("a.png"));
        let (_d, path) = file(&GOOD.replace("cup", "cup \\ud83d"))?;
        assert_eq!(read_all(&path)?.0[0].turns[1].text, "a cup \u{fffd}");
        Ok(())
    }

    #[test]
    fn skipped_entries_are_counted_by_source() -> Result<()> {
        let bad = |source: &str| format!(r#"{{"source": "{source}", "conversations": []}}"#);
        let (_d, path) = file(&[GOOD, &bad("gqa"), &bad("vqa"), &bad("gqa")].join("\n"))?;
        let problems = read_all(&path)?.1;
        let found: Vec<_> = problems.by_source().map(|l| (l.source.as_str(), l.count, l.first.join(" "))).collect();
        assert_eq!(found, [("gqa", 2, "line 2 line 4".to_string()), ("vqa", 1, "line 3".to_string())]);
        Ok(())
    }

    #[test]
    fn broken_json_names_file_and_line() -> Result<()> {
        let broken = [
            format!("{GOOD}\n{{\"id\": 3,\n"),
            format!("[{GOOD},\n{{\"id\" 3}}]"),
            // A trailing comma, a truncated file, extra content after the end.
            format!("[{GOOD},\n]"),
            format!("[{GOOD},\n{{\"id\": 3"),
            format!("[{GOOD}\n]]"),
        ];
        for text in broken {
            let (_d, path) = file(&text)?;
            let e = read_all(&path).unwrap_err();
            assert!(e.to_string().contains("c.json:2:"), "{e}");
            assert!(e.hint_text().is_some());
        }
        Ok(())
    }

    #[test]
    fn the_receiver_can_stop_the_reading() -> Result<()> {
        for text in [format!("[{GOOD},{GOOD}]"), format!("{GOOD}\n{GOOD}")] {
            let (_d, path) = file(&text)?;
            let e = read(&path, |_| Err(Error::failed("full"))).unwrap_err();
            assert_eq!(e.to_string(), "full");
        }
        Ok(())
    }
}
