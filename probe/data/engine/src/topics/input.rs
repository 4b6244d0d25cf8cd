//! What topics are made from: fields with subfields, or a file of topics; divided into shards.

use crate::config::EngineConfig;
use crate::fold::folded;
use crate::page::Topic;
use burgess_base::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::Path;

/// Largest size of a file of fields or topics in bytes.
const LARGEST: u64 = 1 << 30;
/// Largest length of a name in characters.
const LONGEST_NAME: usize = 200;

/// A subfield of a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subfield {
    /// The field, such as `Biology`.
    pub field: String,
    /// The subfield, such as `Botany`.
    pub subfield: String,
}

/// A file of fields in TOML: `[[fields]]` with `name` and `subfields`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldsFile {
    fields: Vec<Field>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Field {
    name: String,
    subfields: Vec<String>,
}

/// What topics are made from, with the number of items in a shard.
#[derive(Debug, Clone, PartialEq)]
pub enum TopicInput {
    /// Subfields for a language model.
    Subfields(Vec<Subfield>, usize),
    /// Topics that exist.
    Topics(Vec<Topic>, usize),
    /// None, for sources that are read without topics; the number of shards.
    Nothing(usize),
}

/// The items of one shard.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ShardInput<'a> {
    /// Subfields for a language model.
    Subfields(&'a [Subfield]),
    /// Topics that exist.
    Topics(&'a [Topic]),
    /// None: the number of the shard and of all shards.
    Nothing(usize, usize),
}

impl TopicInput {
    /// Reads the file that the settings name, relative to the workspace.
    ///
    /// # Errors
    /// The file cannot be read, or is of another form; the message names the line.
    pub fn read(directory: &Path, config: &EngineConfig) -> Result<Self> {
        let (config, pages) = (&config.topics, &config.pages);
        match (&config.fields, &config.file) {
            (Some(file), _) => {
                let path = directory.join(file);
                let text = read_text(&path)?;
                let is_toml = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("toml"));
                let name = path.display().to_string();
                let subfields = if is_toml { from_toml(&text, &name)? } else { from_lines(&text, &name)? };
                Ok(Self::Subfields(subfields, config.subfields_per_shard.max(1)))
            }
            (None, Some(file)) => {
                let path = directory.join(file);
                let topics = topics(&read_text(&path)?, &path.display().to_string())?;
                Ok(Self::Topics(topics, config.topics_per_shard.max(1)))
            }
            (None, None) => Ok(Self::Nothing(pages.shards.max(1))),
        }
    }

    /// Whether a language model is asked.
    pub fn asks(&self) -> bool {
        matches!(self, Self::Subfields(..))
    }

    /// Returns the number of shards.
    pub fn shards(&self) -> usize {
        match self {
            Self::Subfields(all, per) => all.len().div_ceil(*per),
            Self::Topics(all, per) => all.len().div_ceil(*per),
            Self::Nothing(shards) => *shards,
        }
    }

    /// Returns the items of a shard; none if there is no such shard.
    pub fn of_shard(&self, shard: usize) -> ShardInput<'_> {
        fn part<T>(all: &[T], per: usize, shard: usize) -> &[T] {
            all.chunks(per).nth(shard).unwrap_or_default()
        }
        match self {
            Self::Subfields(all, per) => ShardInput::Subfields(part(all, *per, shard)),
            Self::Topics(all, per) => ShardInput::Topics(part(all, *per, shard)),
            Self::Nothing(shards) => ShardInput::Nothing(shard, *shards),
        }
    }
}

fn read_text(path: &Path) -> Result<String> {
    let step = || format!("reading {}", path.display());
    let size = std::fs::metadata(path).with_context(step)?.len();
    if size > LARGEST {
        return Err(Error::usage(format!("the file has {size} bytes, at most {LARGEST} are read")).context(step()));
    }
    let bytes = std::fs::read(path).with_context(step)?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes().iter().take(e.utf8_error().valid_up_to()).filter(|b| **b == b'\n').count() + 1;
        Error::usage(format!("line {line} is not UTF-8 text")).hint("save the file as UTF-8").context(step())
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).to_string())
}

/// Collapses white space; an error if the name is empty or too long.
fn name_of(text: &str, what: &str, place: &str) -> Result<String> {
    let name = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let length = name.chars().count();
    match length {
        0 => Err(Error::usage(format!("{place}: {what} is empty")).hint("write its name, or remove it")),
        1..=LONGEST_NAME => Ok(name),
        _ => Err(Error::usage(format!(
            "{place}: {what} has {length} characters, at most {LONGEST_NAME} are allowed: `{}`",
            burgess_base::text::excerpt(&name, 60)
        ))),
    }
}

/// Collects subfields; an error for one that is listed twice.
#[derive(Default)]
struct Collected {
    subfields: Vec<Subfield>,
    seen: HashSet<(String, String)>,
}

impl Collected {
    fn add(&mut self, field: &str, subfield: &str, place: &str) -> Result<()> {
        let (field, subfield) = (name_of(field, "a field", place)?, name_of(subfield, "a subfield", place)?);
        if !self.seen.insert((folded(&field), folded(&subfield))) {
            return Err(Error::usage(format!("{place}: the subfield `{subfield}` of `{field}` is listed twice"))
                .hint("remove one of them"));
        }
        self.subfields.push(Subfield { field, subfield });
        Ok(())
    }

    fn finish(self, file: &str) -> Result<Vec<Subfield>> {
        match self.subfields.is_empty() {
            false => Ok(self.subfields),
            true => Err(Error::usage(format!("{file} names no subfield"))
                .hint("write lines `Field: subfield, subfield`, or TOML with [[fields]], `name` and `subfields`")),
        }
    }
}

/// Reads fields in TOML.
///
/// # Errors
/// A key is wrong, or a name is empty, too long or listed twice.
pub fn from_toml(text: &str, file: &str) -> Result<Vec<Subfield>> {
    let fields: FieldsFile = crate::config::parse_toml(text, file)?;
    let mut collected = Collected::default();
    for (at, field) in fields.fields.iter().enumerate() {
        let place = format!("{file}: fields[{at}]");
        if field.subfields.is_empty() {
            return Err(Error::usage(format!("{place}: `{}` has no subfields", field.name)));
        }
        for subfield in &field.subfields {
            collected.add(&field.name, subfield, &place)?;
        }
    }
    collected.finish(file)
}

/// Reads fields in the paper's form, `Field: subfield, subfield` on each line. Empty lines and lines that begin with
/// `#` are left out.
///
/// # Errors
/// A line is of another form, or a name is empty, too long or listed twice.
pub fn from_lines(text: &str, file: &str) -> Result<Vec<Subfield>> {
    let mut collected = Collected::default();
    for (at, line) in text.lines().enumerate() {
        let (line, place) = (line.trim(), format!("{file}:{}", at + 1));
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((field, subfields)) = line.split_once(':') else {
            let shown = burgess_base::text::excerpt(line, 80);
            return Err(Error::usage(format!("{place}: `{shown}` has no colon, expected `Field: subfield, subfield`"))
                .hint("write one field per line, or begin the line with # for a comment"));
        };
        for subfield in subfields.split(',').filter(|s| !s.trim().is_empty()) {
            collected.add(field, subfield, &place)?;
        }
    }
    collected.finish(file)
}

/// Reads topics: JSON lines, or one topic per line. A topic that an earlier line has is left out.
///
/// # Errors
/// A line is no topic.
pub fn topics(text: &str, file: &str) -> Result<Vec<Topic>> {
    let (mut topics, mut seen) = (Vec::new(), HashSet::new());
    for (at, line) in text.lines().enumerate() {
        let (line, place) = (line.trim(), format!("{file}:{}", at + 1));
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let topic = match line.starts_with('{') {
            true => serde_json::from_str(line).map_err(|e| {
                Error::usage(format!("{place}: {e}")).hint("write {\"topic\": …, \"field\": …, \"subfield\": …}")
            })?,
            false => Topic { topic: line.to_string(), ..Topic::default() },
        };
        let topic = Topic { topic: name_of(&topic.topic, "the topic", &place)?, ..topic };
        if seen.insert((folded(&topic.field), folded(&topic.subfield), folded(&topic.topic))) {
            topics.push(topic);
        }
    }
    match topics.is_empty() {
        false => Ok(topics),
        true => Err(Error::usage(format!("{file} names no topic")).hint("write one topic per line, or JSON lines")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_topics_are_read_in_all_forms() -> Result<()> {
        let toml = "[[fields]]\nname = \"Biology\"\nsubfields = [\"Botany\", \" Cell  biology \"]\n";
        let lines = "# ours\n\nBiology: Botany, Cell biology\n";
        assert_eq!(from_toml(toml, "f.toml")?, from_lines(lines, "f.txt")?);
        let all = topics("{\"topic\": \"Moss\", \"field\": \"Biology\"}\nFern\nfern \n", "t.jsonl")?;
        assert_eq!(all.iter().map(|t| t.topic.as_str()).collect::<Vec<_>>(), ["Moss", "Fern"]);
        let input = TopicInput::Topics(all, 1);
        assert_eq!(input.shards(), 2);
        assert!(matches!(input.of_shard(2), ShardInput::Topics([])));
        for (text, part) in [
            ("Biology Botany", "f.txt:1: `Biology Botany` has no colon"),
            ("A: b\nA: c, B", "f.txt:2: the subfield `B` of `A` is listed twice"),
            (": b", "f.txt:1: a field is empty"),
            ("", "f.txt names no subfield"),
        ] {
            let e = from_lines(text, "f.txt").expect_err(part).to_string();
            assert!(e.contains(part), "{e}");
        }
        let e =
            from_toml("[[fields]]\nname = \"A\"\nsubfield = [\"b\"]\n", "f.toml").expect_err("unknown key").to_string();
        assert!(e.contains("f.toml:3") && e.contains("subfield"), "{e}");
        assert!(topics("{\"topic\": 3}", "t").expect_err("a number").to_string().starts_with("t:1"));
        Ok(())
    }
}
