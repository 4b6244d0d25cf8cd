//! The line of an entry: unchanged, or edited by the rules of the mix.

use super::OutputFormat;
use super::samples::Sample;
use crate::manifest::PromptCount;
use crate::mix::PromptTurns;
use crate::plan::MixPlan;
use crate::pool::{Entry, ImageRef, Pool, Speaker, Turn};
use crate::scan::Record;
use crate::system_prompts::{Applied, SystemPrompts};
use burgess_base::{Error, Result};
use memchr::memmem;
use serde_json::Value;
use std::ops::Range;

/// Makes the lines of entries.
pub struct LineMaker<'a> {
    pub plan: &'a MixPlan,
    pub prompts: Option<(&'a SystemPrompts, PromptTurns)>,
}

/// The text that stands for the path of an image until its contents are known. The key makes it a text that no pool can
/// contain by design.
pub fn placeholder(key: &str, image: usize) -> String {
    format!("{key}-{image}")
}

/// Replaces a text by another one.
pub fn replace(line: &[u8], from: &str, to: &str) -> Vec<u8> {
    match memmem::find(line, from.as_bytes()) {
        Some(at) => {
            let (before, rest) = line.split_at(at);
            [before, to.as_bytes(), rest.get(from.len()..).unwrap_or_default()].concat()
        }
        None => line.to_vec(),
    }
}

impl LineMaker<'_> {
    /// Makes the sample of an entry. An entry that cannot be edited says so in the sample.
    pub fn sample(&self, pool: &Pool, entry: &Entry<'_>, record: &Record, format: OutputFormat) -> Sample {
        let group = self.plan.groups.get(usize::from(record.group));
        let mut sample = Sample {
            line: Vec::new(),
            id: String::new(),
            source: group.map_or_else(String::new, |group| group.source.clone()),
            kind: group.map_or_else(String::new, |group| group.kind.clone()),
            turns: entry.turns.len(),
            images: Vec::new(),
            place: String::new(),
            prompts: None,
            source_added: false,
            failed: None,
        };
        let by_path = entry.images.iter().all(|image| matches!(image, ImageRef::Path(_)));
        let needs_images = match format {
            OutputFormat::WebDataset => !entry.images.is_empty(),
            OutputFormat::Jsonl => !by_path,
        };
        if format == OutputFormat::WebDataset {
            sample.id = entry.id.to_string();
        }
        let outcome = (|| {
            if needs_images {
                sample.images = pool.images(entry)?;
            }
            self.line(entry, by_path, &mut sample)
        })();
        if let Err(e) = outcome {
            sample.failed = Some(e.to_string());
            sample.images.clear();
        }
        if needs_images || sample.failed.is_some() {
            sample.place = pool.place(entry);
        }
        sample
    }

    fn line(&self, entry: &Entry<'_>, by_path: bool, sample: &mut Sample) -> Result<()> {
        let turns = self.prompted(entry, sample);
        if !by_path || !is_llava(entry.raw) {
            let name = |(at, image): (usize, &ImageRef<'_>)| match image {
                ImageRef::Path(path) if by_path => (*path).to_string(),
                ImageRef::Path(_) | ImageRef::Cell { .. } | ImageRef::Member { .. } => placeholder(&self.plan.key, at),
            };
            let names: Vec<String> = entry.images.iter().enumerate().map(|(at, image)| name((at, image))).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            return write_turns(entry, &names, turns.as_deref(), &mut sample.line);
        }
        match turns {
            None => {
                copy(entry.raw, &mut sample.line);
                sample.source_added = add_source(entry.source, &mut sample.line);
            }
            Some(turns) => match edited(entry, &turns)? {
                Some(line) => {
                    sample.line = line;
                    sample.source_added = add_source(entry.source, &mut sample.line);
                }
                None => {
                    let names: Vec<&str> = entry
                        .images
                        .iter()
                        .filter_map(|image| match image {
                            ImageRef::Path(path) => Some(*path),
                            ImageRef::Cell { .. } | ImageRef::Member { .. } => None,
                        })
                        .collect();
                    write_turns(entry, &names, Some(&turns), &mut sample.line)?;
                }
            },
        }
        Ok(())
    }

    /// Returns the texts of the turns with the system prompts of their source; `None` if none changes.
    fn prompted(&self, entry: &Entry<'_>, sample: &mut Sample) -> Option<Vec<String>> {
        let (prompts, turns) = self.prompts?;
        let source = if prompts.of(&sample.source).is_some() { sample.source.as_str() } else { entry.source };
        let format = prompts.of(source)?;
        let mut count = PromptCount::default();
        let mut asked = false;
        let texts = entry.turns.iter().map(|turn| {
            let wanted = turn.from == Speaker::Human && !(asked && turns == PromptTurns::First);
            if !wanted {
                return turn.text.to_string();
            }
            asked = true;
            match crate::system_prompts::append(format, turn.text) {
                Applied::Appended(text) => {
                    count.appended += 1;
                    text
                }
                Applied::Present | Applied::NotListed => {
                    count.present += 1;
                    turn.text.to_string()
                }
            }
        });
        let texts: Vec<String> = texts.collect();
        sample.prompts = Some(count);
        (count.appended > 0).then_some(texts)
    }
}

/// Writes an entry in LLaVA's format with these image paths and texts.
fn write_turns(entry: &Entry<'_>, names: &[&str], texts: Option<&[String]>, line: &mut Vec<u8>) -> Result<()> {
    match texts {
        None => entry.write_llava(line, names, entry.turns),
        Some(texts) => {
            let turns: Vec<Turn<'_>> =
                entry.turns.iter().zip(texts).map(|(turn, text)| Turn { from: turn.from, text }).collect();
            entry.write_llava(line, names, &turns)
        }
    }
}

/// Replaces the texts in an entry's own JSON, so that its other fields stay; `None` if its conversation is not written
/// as LLaVA's, or not all turns are found again.
fn edited(entry: &Entry<'_>, texts: &[String]) -> Result<Option<Vec<u8>>> {
    let mut value: Value = burgess_base::json::from_slice(entry.raw).map_err(|e| Error::failed(e.to_string()))?;
    let Some(list) = value.get_mut("conversations").and_then(Value::as_array_mut) else { return Ok(None) };
    // The reader leaves out what stands before the first question.
    let Some(skipped) = list.len().checked_sub(texts.len()) else { return Ok(None) };
    for (turn, (old, text)) in list.iter_mut().skip(skipped).zip(entry.turns.iter().zip(texts)) {
        match turn.get_mut("value") {
            Some(Value::String(value)) if value == old.text => text.clone_into(value),
            _ => return Ok(None),
        }
    }
    Ok(Some(serde_json::to_vec(&value)?))
}

/// Returns whether an entry's own JSON is in LLaVA's format, with a list of turns under `conversations`: entries in
/// other formats are written anew, so that the output has one format.
fn is_llava(raw: &[u8]) -> bool {
    let key = b"\"conversations\"";
    memmem::find_iter(raw, key).any(|at| {
        let after = raw.get(at + key.len()..).unwrap_or_default().trim_ascii_start();
        let list = after.strip_prefix(b":").map(<[u8]>::trim_ascii_start).and_then(|rest| rest.strip_prefix(b"["));
        list.is_some_and(|list| list.trim_ascii_start().starts_with(b"{"))
    })
}

/// Copies an entry's JSON to one line. Line feeds can stand only between its parts: inside a text they are escaped.
fn copy(raw: &[u8], line: &mut Vec<u8>) {
    line.extend_from_slice(raw.trim_ascii());
    if memchr::memchr2(b'\n', b'\r', line).is_some() {
        line.iter_mut().filter(|byte| **byte == b'\n' || **byte == b'\r').for_each(|byte| *byte = b' ');
    }
}

/// Adds the source to a line that states none; returns whether it did. A `source` that is null or empty states none,
/// and is replaced.
fn add_source(source: &str, line: &mut Vec<u8>) -> bool {
    if source.is_empty() {
        return false;
    }
    let name = Value::String(source.to_string()).to_string();
    match own_source(line) {
        Some(value) => {
            let stated = line.get(value.clone()).unwrap_or_default();
            let is_none = matches!(stated, b"null" | b"\"\"");
            if is_none {
                line.splice(value, name.into_bytes());
            }
            is_none
        }
        None => {
            let Some(rest) = line.strip_prefix(b"{") else { return false };
            let comma = if rest.trim_ascii_start().starts_with(b"}") { "" } else { ", " };
            *line = [format!("{{\"source\": {name}{comma}").as_bytes(), rest.trim_ascii_start()].concat();
            true
        }
    }
}

/// Returns the range of the value of the object's own key `source`, as far as it is a text without escapes or a word.
/// Inner objects have the key too; a text cannot contain it, because its quotes are escaped there.
fn own_source(line: &[u8]) -> Option<Range<usize>> {
    let (mut depth, mut at) = (0usize, 0usize);
    while let Some(found) = line.get(at..)?.iter().position(|b| matches!(b, b'"' | b'{' | b'}' | b'[' | b']')) {
        let start = at + found;
        at = start + 1;
        match line.get(start)? {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {
                let end = text_end(line, start)?;
                at = end;
                let after = line.get(end..)?;
                let gap = after.len() - after.trim_ascii_start().len();
                if depth == 1 && line.get(start..end)? == b"\"source\"" && after.get(gap) == Some(&b':') {
                    let begin = end + gap + 1;
                    let rest = line.get(begin..)?;
                    let begin = begin + rest.len() - rest.trim_ascii_start().len();
                    let end = match line.get(begin)? {
                        b'"' => text_end(line, begin)?,
                        _ => begin + line.get(begin..)?.iter().position(|b| !b.is_ascii_alphanumeric())?,
                    };
                    return Some(begin..end);
                }
            }
        }
    }
    None
}

/// Returns the index after the closing quote of the text that begins at `start`.
fn text_end(line: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', line.get(at..)?)?;
        match line.get(at)? {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_added_once() {
        let added = |line: &str| {
            let mut bytes = line.as_bytes().to_vec();
            let added = add_source("my \"source\"", &mut bytes);
            (added, String::from_utf8(bytes).unwrap_or_default())
        };
        assert_eq!(added(r#"{"id": 1}"#), (true, r#"{"source": "my \"source\"", "id": 1}"#.into()));
        assert_eq!(added("{}"), (true, r#"{"source": "my \"source\""}"#.into()));
        let own = r#"{"id": 1, "source" : "gqa"}"#;
        assert_eq!(added(own), (false, own.into()));
        // In a text, and as a value.
        let text = r#"{"value": "say \"source\": x", "id": "source"}"#;
        assert!(added(text).0);
        // The key of an inner object is another one.
        let inner = r#"{"meta": {"source": "web"}, "say": ["source", {"source": 1}], "id": 1}"#;
        assert_eq!(added(inner).1, format!(r#"{{"source": "my \"source\"", {}"#, &inner[1..]));
        // Nothing is stated: the reader takes the pool's source, which a later reader does not know.
        for none in ["null", "\"\""] {
            let line = format!(r#"{{"id": "a\\", "source" : {none} , "x": 1}}"#);
            assert_eq!(added(&line), (true, r#"{"id": "a\\", "source" : "my \"source\"" , "x": 1}"#.into()));
        }
    }

    #[test]
    fn the_format_is_recognised_by_the_list_of_turns() {
        for (raw, llava) in [
            (r#"{"id": 1, "conversations" : [ {"from": "human", "value": "a"}]}"#, true),
            (r#"{"conversations": {"from": ["human"], "value": ["a"]}}"#, false),
            (r#"{"messages": [{"role": "user", "content": "a"}]}"#, false),
            (r#"{"texts": [{"user": "say \"conversations\": [{", "assistant": "b"}]}"#, false),
        ] {
            assert_eq!(is_llava(raw.as_bytes()), llava, "{raw}");
        }
    }

    #[test]
    fn lines_are_copied_and_joined() {
        let copied = |raw: &str| {
            let mut line = Vec::new();
            copy(raw.as_bytes(), &mut line);
            String::from_utf8(line).unwrap_or_default()
        };
        assert_eq!(copied(" {\"a\": \"x\\ny\"}\r"), "{\"a\": \"x\\ny\"}");
        assert_eq!(copied("{\n  \"a\": 1\r\n}\n"), "{   \"a\": 1  }");
        assert_eq!(replace(b"ab-k-0-c", "k-0", "x"), b"ab-x-c");
        assert_eq!(replace(b"ab", "k-0", "x"), b"ab");
    }
}
