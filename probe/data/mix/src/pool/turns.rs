//! Reads the turns and image paths of an entry.

use super::block::{ParsedImage, Span};
use super::entry::Speaker;
use super::fields::{Field, Sink, TextSeed};
use super::parse::Problem;
use burgess_base::text::excerpt;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Values of `image` that stand for no image, as in the loaders of LLaVA and Cambrian-1.
const NO_IMAGE: [&str; 4] = ["", "None", "none", "nan"];

/// Keeps the first problem of an entry.
fn note(problem: &mut Option<Problem>, reason: &'static str, detail: impl FnOnce() -> String) {
    if problem.is_none() {
        *problem = Some((reason, detail()));
    }
}

/// The visits of values that are no text, list or object: `self.other(kind)` says what is wrong.
macro_rules! other_values {
    () => {
        fn visit_unit<E: Error>(self) -> Result<(), E> {
            self.other("null")
        }

        fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
            self.other("true or false")
        }

        fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
            self.other("a number")
        }

        fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
            self.other("a number")
        }

        fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
            self.other("a number")
        }
    };
}

/// Reads `image`: a path, a list of paths, or nothing.
pub(super) struct ImagesSeed<'s, 'b> {
    pub sink: &'s mut Sink<'b>,
    pub problem: &'s mut Option<Problem>,
}

impl<'de> DeserializeSeed<'de> for ImagesSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl ImagesSeed<'_, '_> {
    fn other<E>(self, kind: &str) -> Result<(), E> {
        note(self.problem, "the image is no path", || kind.to_string());
        Ok(())
    }

    fn field(self, field: Field) {
        match field {
            Field::Text(path) => self.sink.block.images.push(ParsedImage::Path(path)),
            Field::Null => {}
            other => note(self.problem, "the image is no path", || other.kind().to_string()),
        }
    }
}

impl<'de> Visitor<'de> for ImagesSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("the path of an image")
    }

    fn visit_borrowed_str<E: Error>(self, path: &'de str) -> Result<(), E> {
        if NO_IMAGE.contains(&path) {
            return Ok(());
        }
        let field = TextSeed(self.sink).visit_borrowed_str(path)?;
        self.field(field);
        Ok(())
    }

    fn visit_str<E: Error>(self, path: &str) -> Result<(), E> {
        if NO_IMAGE.contains(&path) {
            return Ok(());
        }
        let field = TextSeed(self.sink).visit_str(path)?;
        self.field(field);
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.other("true or false")
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.other("a number")
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.other("a number")
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.other("a number")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { sink, problem } = self;
        while seq.next_element_seed(ListedImage(ImagesSeed { sink, problem }))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        self.other("an object")
    }
}

/// Reads one image of a list, which must not be a list again.
struct ListedImage<'s, 'b>(ImagesSeed<'s, 'b>);

impl<'de> DeserializeSeed<'de> for ListedImage<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let ImagesSeed { sink, problem } = self.0;
        let field = TextSeed(sink).deserialize(deserializer)?;
        let seed = ImagesSeed { sink, problem };
        match field {
            Field::Text(path) if NO_IMAGE.contains(&seed.sink.said(path)) => {}
            other => seed.field(other),
        }
        Ok(())
    }
}

/// Reads `conversations` or `texts`.
pub(super) struct TurnsSeed<'s, 'b> {
    pub sink: &'s mut Sink<'b>,
    pub problem: &'s mut Option<Problem>,
    /// The `source` of the first question and answer, which The Cauldron states there.
    pub source: &'s mut Option<Span>,
}

impl<'de> DeserializeSeed<'de> for TurnsSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl TurnsSeed<'_, '_> {
    fn other<E>(self, kind: &str) -> Result<(), E> {
        note(self.problem, "`conversations` is no list", || kind.to_string());
        Ok(())
    }
}

impl<'de> Visitor<'de> for TurnsSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of turns")
    }

    other_values!();

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.other("a text")
    }

    /// Reads an object of lists, as datasets stored a `Sequence` of dictionaries before its version 4.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { sink, problem, source } = self;
        let mut turns: Vec<TurnFields> = Vec::new();
        while let Some(key) = map.next_key_seed(TurnKeySeed)? {
            let listed = map.next_value_seed(TextsSeed(sink))?;
            let Some(listed) = listed.filter(|_| !matches!(key, TurnKey::Other)) else { continue };
            if turns.len() < listed.len() {
                turns.resize_with(listed.len(), TurnFields::default);
            }
            for (turn, field) in turns.iter_mut().zip(listed) {
                match key {
                    TurnKey::Source => *source = source.or(field.text()),
                    _ => drop(turn.of_key(&key).map(|place| *place = Some(field))),
                }
            }
        }
        if turns.is_empty() {
            note(problem, "`conversations` is no list", || "an object".to_string());
        }
        for (number, fields) in turns.iter().enumerate() {
            TurnSeed { sink, problem, source, number }.take(fields);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { sink, problem, source } = self;
        let mut number = 0;
        while seq.next_element_seed(TurnSeed { sink, problem, source, number })?.is_some() {
            number += 1;
        }
        Ok(())
    }
}

/// Reads a list of texts; `None` if the value is no list.
struct TextsSeed<'s, 'b>(&'s mut Sink<'b>);

impl<'de> DeserializeSeed<'de> for TextsSeed<'_, '_> {
    type Value = Option<Vec<Field>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TextsSeed<'_, '_> {
    type Value = Option<Vec<Field>>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(field) = seq.next_element_seed(TextSeed(self.0))? {
            all.push(field);
        }
        Ok(Some(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Reads one turn `{from, value}`, or a question and its answer `{user, assistant}`.
struct TurnSeed<'s, 'b> {
    sink: &'s mut Sink<'b>,
    problem: &'s mut Option<Problem>,
    source: &'s mut Option<Span>,
    /// Index of the turn.
    number: usize,
}

impl<'de> DeserializeSeed<'de> for TurnSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A key of a turn.
enum TurnKey {
    From,
    Value,
    User,
    Assistant,
    Source,
    Other,
}

struct TurnKeySeed;

impl<'de> DeserializeSeed<'de> for TurnKeySeed {
    type Value = TurnKey;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<TurnKey, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for TurnKeySeed {
    type Value = TurnKey;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<TurnKey, E> {
        Ok(match name {
            "from" => TurnKey::From,
            "value" => TurnKey::Value,
            "user" => TurnKey::User,
            "assistant" => TurnKey::Assistant,
            "source" => TurnKey::Source,
            _ => TurnKey::Other,
        })
    }
}

/// The fields of a turn as they were found.
#[derive(Default)]
struct TurnFields {
    from: Option<Field>,
    value: Option<Field>,
    user: Option<Field>,
    assistant: Option<Field>,
}

impl TurnFields {
    /// Returns the field of a key, if turns have it.
    fn of_key(&mut self, key: &TurnKey) -> Option<&mut Option<Field>> {
        match key {
            TurnKey::From => Some(&mut self.from),
            TurnKey::Value => Some(&mut self.value),
            TurnKey::User => Some(&mut self.user),
            TurnKey::Assistant => Some(&mut self.assistant),
            TurnKey::Source | TurnKey::Other => None,
        }
    }
}

impl TurnSeed<'_, '_> {
    fn place(&self) -> String {
        format!("turn {}", self.number + 1)
    }

    fn other<E>(self, kind: &str) -> Result<(), E> {
        let place = self.place();
        note(self.problem, "a turn is not an object", || format!("{place} is {kind}"));
        Ok(())
    }

    /// Stores what a turn says.
    fn take(mut self, fields: &TurnFields) {
        match fields.user.is_some() || fields.assistant.is_some() {
            true => self.pair(fields),
            false => self.turn(fields),
        }
    }

    /// Stores a turn; the first may be one of the system, or of another speaker, which is left out as LLaVA's loader
    /// does.
    fn turn(&mut self, fields: &TurnFields) {
        let place = self.place();
        let from = match fields.from {
            Some(Field::Text(from)) => from,
            None => return note(self.problem, "a turn without `from`", || place),
            Some(other) => {
                let found = other.kind();
                return note(self.problem, "`from` of a turn is no text", || format!("{place} has {found}"));
            }
        };
        let speaker = match self.sink.said(from) {
            "human" | "user" => Speaker::Human,
            "system" if self.number == 0 => Speaker::System,
            _ if self.number == 0 => return,
            "gpt" | "assistant" => Speaker::Gpt,
            other => {
                let other = excerpt(other, 40);
                return note(self.problem, "unknown speaker", || format!("`{other}`"));
            }
        };
        match fields.value {
            Some(Field::Text(said)) => self.say(speaker, said),
            None => note(self.problem, "a turn without `value`", || place),
            Some(other) => {
                note(self.problem, "`value` of a turn is no text", || format!("{place} has {}", other.kind()));
            }
        }
    }

    fn say(&mut self, speaker: Speaker, said: Span) {
        if speaker == Speaker::Gpt && self.sink.said(said).trim_ascii().is_empty() {
            return note(self.problem, "empty answer", String::new);
        }
        self.sink.block.turns.push((speaker, said));
    }

    /// Stores a question and its answer.
    fn pair(&mut self, fields: &TurnFields) {
        for (speaker, field) in [(Speaker::Human, fields.user), (Speaker::Gpt, fields.assistant)] {
            let place = self.place();
            match field {
                Some(Field::Text(said)) => self.say(speaker, said),
                None => note(self.problem, "a text without `user` or `assistant`", || place),
                Some(other) => {
                    note(self.problem, "`user` or `assistant` is no text", || format!("{place} has {}", other.kind()));
                }
            }
        }
    }
}

impl<'de> Visitor<'de> for TurnSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a turn")
    }

    other_values!();

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        self.other("a text")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        self.other("a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut fields = TurnFields::default();
        while let Some(key) = map.next_key_seed(TurnKeySeed)? {
            match (fields.of_key(&key), key) {
                (Some(place), _) => *place = Some(map.next_value_seed(TextSeed(self.sink))?),
                (None, TurnKey::Source) => {
                    let source = map.next_value_seed(TextSeed(self.sink))?.text();
                    *self.source = self.source.or(source);
                }
                (None, _) => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        self.take(&fields);
        Ok(())
    }
}
