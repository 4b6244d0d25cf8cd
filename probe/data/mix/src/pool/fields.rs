//! Reads the fields of an entry: keys, texts and numbers, without an allocation for each.

use super::block::{Block, Span};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Stores texts: those that stand unchanged in the file's text as a span of it, others in the block's arena.
pub(super) struct Sink<'b> {
    /// The text of the file.
    text: &'b str,
    pub block: &'b mut Block,
    /// Whether the images stand outside of the entry's JSON, so that its paths are not read.
    pub images_given: bool,
}

impl<'b> Sink<'b> {
    pub fn new(text: &'b str, block: &'b mut Block, images_given: bool) -> Self {
        Self { text, block, images_given }
    }

    /// Returns a stored text.
    pub fn said(&self, span: Span) -> &str {
        self.block.resolve(self.text, span)
    }

    /// Stores a text that the parser borrowed from its input.
    fn borrowed(&mut self, text: &str) -> Span {
        // The input is a part of the file's text, unless it had to be rewritten to strict JSON.
        let start = (text.as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
        match start.checked_add(text.len()) {
            Some(end) if end <= self.text.len() => Span::of_text(&(start..end)),
            _ => self.block.store(text),
        }
    }
}

/// A key of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Id,
    Image,
    Source,
    Kind,
    Conversations,
    Video,
    /// A key of [`super::Ratings`].
    Rating(&'static str),
    Other,
}

/// The keys of the ratings.
const RATING_KEYS: [&str; 8] = [
    "relevance_ratings",
    "relevance_min",
    "image_correspondence_ratings",
    "image_correspondence_min",
    "visual_dependency_ratings",
    "visual_dependency_min",
    "formatting_ratings",
    "formatting_min",
];

impl Key {
    /// Returns the bit by which a key that stands twice is recognised; `None` for keys that are not read.
    pub fn bit(self) -> Option<u32> {
        Some(
            1 << match self {
                Self::Id => 0,
                Self::Image => 1,
                Self::Source => 2,
                Self::Kind => 3,
                Self::Conversations => 4,
                Self::Video => 5,
                Self::Rating(name) => 6 + RATING_KEYS.iter().position(|k| *k == name)? as u32,
                Self::Other => return None,
            },
        )
    }

    fn of(name: &str) -> Self {
        match name {
            "id" => Self::Id,
            "image" | "images" => Self::Image,
            // LLaVA-OneVision's tables call it `data_source`.
            "source" | "data_source" => Self::Source,
            "kind" => Self::Kind,
            // FineVision and The Cauldron call them `texts`.
            "conversations" | "texts" => Self::Conversations,
            "video" => Self::Video,
            other => RATING_KEYS.into_iter().find(|k| *k == other).map_or(Self::Other, Self::Rating),
        }
    }
}

/// Reads a key.
pub(super) struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Key, E> {
        Ok(Key::of(name))
    }
}

/// A value that should be a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Text(Span),
    /// A number in its text form.
    Number(Span),
    Null,
    /// Another value, in words.
    Other(&'static str),
}

impl Field {
    /// Returns a text or number; a text may be empty.
    pub fn text(self) -> Option<Span> {
        match self {
            Self::Text(span) | Self::Number(span) => Some(span),
            Self::Null | Self::Other(_) => None,
        }
    }

    /// Names the type of a value that is no text.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Number(_) => "a number",
            Self::Null => "null",
            Self::Other(kind) => kind,
        }
    }
}

/// Reads a value that should be a text.
pub(super) struct TextSeed<'s, 'b>(pub &'s mut Sink<'b>);

impl<'de> DeserializeSeed<'de> for TextSeed<'_, '_> {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for TextSeed<'_, '_> {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Field, E> {
        Ok(Field::Text(self.0.borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Field, E> {
        Ok(Field::Text(self.0.block.store(text)))
    }

    fn visit_unit<E: Error>(self) -> Result<Field, E> {
        Ok(Field::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Field, E> {
        Ok(Field::Other("true or false"))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Field, E> {
        Ok(Field::Number(self.0.block.store(&number.to_string())))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Field, E> {
        Ok(Field::Number(self.0.block.store(&number.to_string())))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Field, E> {
        Ok(Field::Number(self.0.block.store(&number.to_string())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other("an object"))
    }
}

/// Reads a number or a list of numbers; values that are none are left out.
pub(super) struct NumbersSeed;

impl<'de> DeserializeSeed<'de> for NumbersSeed {
    type Value = Vec<f32>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<f32>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NumbersSeed {
    type Value = Vec<f32>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("ratings")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Vec<f32>, E> {
        Ok(vec![number as f32])
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Vec<f32>, E> {
        Ok(vec![number as f32])
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Vec<f32>, E> {
        Ok(vec![number as f32])
    }

    fn visit_unit<E: Error>(self) -> Result<Vec<f32>, E> {
        Ok(Vec::new())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Vec<f32>, E> {
        Ok(Vec::new())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Vec<f32>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<f32>, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = seq.next_element_seed(NumbersSeed)? {
            all.extend(one);
        }
        Ok(all)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<f32>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::RATINGS;

    #[test]
    fn rating_keys_are_those_of_the_ratings() {
        let names: Vec<String> =
            RATINGS.iter().flat_map(|name| [format!("{name}_ratings"), format!("{name}_min")]).collect();
        assert_eq!(names, RATING_KEYS);
    }
}
