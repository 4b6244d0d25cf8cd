//! Parses one entry of a conversation file, which may be any valid JSON.

use super::Conversation;
use crate::llm::chat::{Role, Turn};
use burgess_base::skipped::SkippedEntry;
use burgess_base::text;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt;

/// Values of `image` that stand for no image.
const NO_IMAGE: [&str; 4] = ["", "None", "none", "nan"];

/// One entry: the fields that are read from an object (others are ignored), or the type of another JSON value.
#[derive(Debug)]
pub(super) enum Entry {
    Object(Box<Fields>),
    Other(&'static str),
}

#[derive(Debug, Default)]
pub(super) struct Fields {
    id: Value,
    image: Value,
    source: Value,
    conversations: Option<Value>,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a conversation")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        let mut fields = Fields::default();
        // If a field occurs twice, the last one counts, as in Python.
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "id" => fields.id = map.next_value()?,
                "image" => fields.image = map.next_value()?,
                "source" => fields.source = map.next_value()?,
                "conversations" => fields.conversations = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Entry::Object(Box::new(fields)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Entry, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Entry::Other("a list"))
    }

    fn visit_unit<E: Error>(self) -> Result<Entry, E> {
        Ok(Entry::Other("null"))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Entry, E> {
        Ok(Entry::Other("true or false"))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Entry, E> {
        Ok(Entry::Other("a number"))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Entry, E> {
        Ok(Entry::Other("a number"))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Entry, E> {
        Ok(Entry::Other("a number"))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Entry, E> {
        Ok(Entry::Other("a text"))
    }
}

impl Entry {
    /// Converts the entry to a conversation; the error says why it is unusable.
    pub fn conversation(self) -> Result<Conversation, SkippedEntry> {
        match self {
            Self::Object(fields) => fields.conversation(),
            Self::Other(what) => {
                Err(SkippedEntry { reason: "not an object", detail: what.to_string(), source: String::new() })
            }
        }
    }
}

impl Fields {
    fn conversation(self) -> Result<Conversation, SkippedEntry> {
        let Self { id, image, source, conversations } = self;
        let image = path(image);
        let source = match (as_text(source), &image) {
            (source, _) if !source.is_empty() => source,
            (_, Ok(Some(image))) => image.split_once('/').map_or(String::new(), |(folder, _)| folder.to_string()),
            _ => String::new(),
        };
        let read = || {
            let image = image?;
            let turns = turns(conversations)?;
            let named: usize = turns.iter().map(|t| t.text.matches("<image>").count()).sum();
            match (named, &image) {
                (2.., _) => Err(("several images", String::new())),
                (1, None) => Err(("image named but not given", String::new())),
                _ => Ok((image, turns)),
            }
        };
        match read() {
            Ok((image, turns)) => Ok(Conversation { id: as_text(id), image, source, turns }),
            Err((reason, detail)) => Err(SkippedEntry { reason, detail, source }),
        }
    }
}

type Read<T> = Result<T, (&'static str, String)>;

/// Parses the image path under `image`; `None` if there is none. NaN is read as null.
fn path(value: Value) -> Read<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::String(name) if NO_IMAGE.contains(&name.as_str()) => Ok(None),
        Value::String(name) => Ok(Some(name)),
        Value::Array(mut list) => match list.len() {
            0 => Ok(None),
            1 => match list.pop() {
                Some(Value::Array(_)) | None => Err(("the image is no path", "a list in a list".into())),
                Some(one) => path(one),
            },
            several => Err(("several images", format!("{several} in a list"))),
        },
        other => Err(("the image is no path", kind(&other).into())),
    }
}

/// Parses the turns under `conversations`.
fn turns(value: Option<Value>) -> Read<Vec<Turn>> {
    let list = match value {
        Some(Value::Array(list)) => list,
        None => return Err(("no `conversations`", String::new())),
        Some(other) => return Err(("`conversations` is no list", kind(&other).into())),
    };
    let mut turns = Vec::with_capacity(list.len());
    for (i, mut turn) in list.into_iter().enumerate() {
        let place = || format!("turn {}", i + 1);
        let Some(fields) = turn.as_object_mut() else {
            return Err(("a turn is not an object", format!("{} is {}", place(), kind(&turn))));
        };
        let from = match fields.get("from") {
            Some(Value::String(from)) => from.as_str(),
            None => return Err(("a turn without `from`", place())),
            Some(other) => return Err(("`from` of a turn is no text", format!("{} has {}", place(), kind(other)))),
        };
        let role = match from {
            "human" | "user" => Role::User,
            // Only the first turn may be skipped; a later one with this role is an error of the file.
            _ if i == 0 => continue,
            "gpt" | "assistant" => Role::Assistant,
            other => return Err(("unknown speaker", format!("`{}`", text::excerpt(other, 40)))),
        };
        let said = match fields.get_mut("value").map(Value::take) {
            Some(Value::String(said)) => said,
            None => return Err(("a turn without `value`", place())),
            Some(other) => return Err(("`value` of a turn is no text", format!("{} has {}", place(), kind(&other)))),
        };
        if role == Role::Assistant && said.trim().is_empty() {
            return Err(("empty answer", String::new()));
        }
        turns.push(Turn { role, text: said });
    }
    match turns.first() {
        None => Err(("no turns", String::new())),
        Some(t) if t.role != Role::User => Err(("first turn is no question", String::new())),
        Some(_) if turns.iter().all(|t| t.role == Role::User) => Err(("no answer", String::new())),
        Some(_) => Ok(turns),
    }
}

fn as_text(value: Value) -> String {
    match value {
        Value::String(s) => s,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
