//! Conversations in LLaVA's format: a JSON array or JSON lines of
//! `{"id": …, "image": "path", "conversations": [{"from": "human", "value": "<image>\n…"}, {"from": "gpt", …}]}`, plain or
//! compressed with gzip or zstd (told apart by content).
//!
//! As the loaders of LLaVA and Cambrian-1 have it: an entry without a picture, or with one called "", "None", "none" or
//! "nan", is text only, and a first turn that is not the human's is skipped.

use crate::llm::chat::{Role, Turn};
use burgess_base::{Context, Error, Result, compressed};
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// One conversation, with or without a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Its name in the file (numbers are read as text).
    pub id: String,
    /// Path of the picture, as the file writes it.
    pub image: Option<String>,
    /// Where it comes from: the entry's `source`, or the first folder of the picture's path, or nothing.
    pub source: String,
    /// The turns.
    pub turns: Vec<Turn>,
}

/// What was wrong with entries that were left out: problem → (how often, where it was seen first).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(BTreeMap<&'static str, (usize, String)>);

impl Problems {
    fn count(&mut self, what: &'static str, place: impl FnOnce() -> String) {
        self.0.entry(what).and_modify(|(n, _)| *n += 1).or_insert_with(|| (1, place()));
    }

    /// Entries left out.
    pub fn total(&self) -> usize {
        self.0.values().map(|(n, _)| n).sum()
    }

    /// Problem, how often, and where first.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, usize, &str)> {
        self.0.iter().map(|(what, (n, place))| (*what, *n, place.as_str()))
    }
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    id: serde_json::Value,
    #[serde(default)]
    image: serde_json::Value,
    #[serde(default)]
    source: serde_json::Value,
    conversations: Vec<RawTurn>,
}

#[derive(Deserialize)]
struct RawTurn {
    from: String,
    value: String,
}

/// Reads a file of conversations one by one, so that files larger than memory can be read, and hands each to `each`.
///
/// Entries that are valid JSON but no usable conversation (no turns, no question at the beginning, an unknown speaker, an
/// empty answer, several pictures) are left out and counted.
///
/// # Errors
/// When the file cannot be read, is damaged, or is not JSON of this form: file, line and column are named. An error of
/// `each` ends the reading.
pub fn read(path: &Path, mut each: impl FnMut(Conversation) -> Result<()>) -> Result<Problems> {
    let step = || format!("reading {}", path.display());
    let mut reader = BufReader::new(compressed::open(path).with_context(step)?);
    let mut problems = Problems::default();
    let array = first_byte(&mut reader).with_context(step)? == Some(b'[');
    if array {
        let mut failed = None;
        let mut index = 0;
        let take = |raw: Raw| {
            index += 1;
            match usable(raw, &mut problems, || format!("entry {index}")).map(&mut each) {
                Some(Err(e)) => {
                    failed = Some(e);
                    false
                }
                _ => true,
            }
        };
        let parsed = serde_json::Deserializer::from_reader(&mut reader).deserialize_seq(Entries(take));
        if let Some(e) = failed {
            return Err(e);
        }
        parsed.map_err(|e| malformed(path, e.line(), &e))?;
    } else {
        let mut line = String::new();
        let mut number = 0;
        while reader.read_line(&mut line).with_context(step)? > 0 {
            number += 1;
            if !line.trim().is_empty() {
                let raw: Raw = serde_json::from_str(&line).map_err(|e| malformed(path, number, &e))?;
                if let Some(c) = usable(raw, &mut problems, || format!("line {number}")) {
                    each(c)?;
                }
            }
            line.clear();
        }
    }
    Ok(problems)
}

fn malformed(path: &Path, line: usize, e: &serde_json::Error) -> Error {
    Error::failed(format!("{}:{line}: {e}", path.display()))
        .hint("expected LLaVA conversations: {\"id\", \"image\", \"conversations\": [{\"from\", \"value\"}]}")
}

/// The first byte that is not white space, left unread.
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

fn usable(raw: Raw, problems: &mut Problems, place: impl Fn() -> String) -> Option<Conversation> {
    let mut reject = |what| {
        problems.count(what, &place);
        None
    };
    let image = match raw.image {
        serde_json::Value::Null => None,
        serde_json::Value::String(name) if NO_PICTURE.contains(&name.as_str()) => None,
        serde_json::Value::String(name) => Some(name),
        _ => return reject("the picture is no path"),
    };
    let mut turns = Vec::with_capacity(raw.conversations.len());
    for (i, turn) in raw.conversations.into_iter().enumerate() {
        let role = match turn.from.as_str() {
            "human" | "user" => Role::User,
            // Only the first turn: a second one that is not the human's is a mistake of the file.
            _ if i == 0 => continue,
            "gpt" | "assistant" => Role::Assistant,
            _ => return reject("unknown speaker"),
        };
        if role == Role::Assistant && turn.value.trim().is_empty() {
            return reject("empty answer");
        }
        turns.push(Turn { role, text: turn.value });
    }
    match turns.first() {
        None => return reject("no turns"),
        Some(t) if t.role != Role::User => return reject("first turn is no question"),
        Some(_) if turns.iter().all(|t| t.role == Role::User) => return reject("no answer"),
        Some(_) => {}
    }
    let named: usize = turns.iter().map(|t| t.text.matches("<image>").count()).sum();
    if named > 1 {
        return reject("several pictures");
    }
    if named == 1 && image.is_none() {
        return reject("picture named but not given");
    }
    let text = |value| match value {
        serde_json::Value::String(s) => s,
        serde_json::Value::Null => String::new(),
        other => other.to_string(),
    };
    let source = match (text(raw.source), &image) {
        (source, _) if !source.is_empty() => source,
        (_, Some(image)) => image.split_once('/').map_or(String::new(), |(folder, _)| folder.to_string()),
        _ => String::new(),
    };
    Some(Conversation { id: text(raw.id), image, source, turns })
}

/// What an entry without a picture may call it.
const NO_PICTURE: [&str; 4] = ["", "None", "none", "nan"];

/// Hands the entries of a JSON array to a function one by one, until it returns false.
struct Entries<F>(F);

impl<'de, F: FnMut(Raw) -> bool> Visitor<'de> for Entries<F> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an array of conversations")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> std::result::Result<(), A::Error> {
        while let Some(raw) = seq.next_element()? {
            if !(self.0)(raw) {
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

/// Reads a whole file into memory.
///
/// # Errors
/// As [`read`].
pub fn read_all(path: &Path) -> Result<(Vec<Conversation>, Problems)> {
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
    fn entries_without_a_picture_and_first_turns_are_read_as_llava_does() -> Result<()> {
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
        assert_eq!(found, [("picture named but not given", 1, "line 2"), ("unknown speaker", 2, "line 3")]);
        Ok(())
    }

    #[test]
    fn broken_json_names_file_and_line() -> Result<()> {
        for text in [format!("{GOOD}\n{{\"id\": 3,\n"), format!("[{GOOD},\n{{\"id\" 3}}]")] {
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
