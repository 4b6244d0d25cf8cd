//! Lenient parsing of annotation fields: ids as numbers or text, booleans as 0 and 1, numbers as text.

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;
use std::marker::PhantomData;

/// A type that is built from an object's fields while they are parsed; other fields are skipped.
pub trait FromFields {
    /// Names of the fields that are kept.
    const KEYS: &'static [&'static str];

    /// Builds the value from the fields that are present.
    fn from_fields(fields: Map<String, Value>) -> Self;
}

/// An entry of a list: the value built from an object, or the kind of JSON value found instead.
#[derive(Debug)]
pub enum ListEntry<T> {
    /// The value that was built from an object.
    Object(T),
    /// Kind of another JSON value, for errors.
    Other(&'static str),
}

impl<'de, T: FromFields> Deserialize<'de> for ListEntry<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListEntryVisitor(PhantomData))
    }
}

struct ListEntryVisitor<T>(PhantomData<T>);

impl<'de, T: FromFields> Visitor<'de> for ListEntryVisitor<T> {
    type Value = ListEntry<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if T::KEYS.contains(&key.as_str()) {
                fields.insert(key, map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(ListEntry::Object(T::from_fields(fields)))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(ListEntry::Other("null"))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(ListEntry::Other("a boolean"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(ListEntry::Other("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(ListEntry::Other("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(ListEntry::Other("a number"))
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(ListEntry::Other("a text"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(ListEntry::Other("a list"))
    }
}

/// Describes a value in a few words, for errors.
pub fn kind(value: Option<&Value>) -> String {
    match value {
        None => "nothing".into(),
        Some(Value::Null) => "null".into(),
        Some(Value::Bool(b)) => format!("the boolean {b}"),
        Some(Value::Number(n)) => format!("the number {n}"),
        Some(Value::String(s)) => format!("the text {:?}", burgess_base::text::excerpt(s, 40)),
        Some(Value::Array(list)) => format!("a list of {}", list.len()),
        Some(Value::Object(_)) => "an object".into(),
    }
}

/// Returns an id as text: `7`, `7.0` and `"7"` are equal.
///
/// # Errors
/// An error is returned if it is neither a number nor text, or a number too large to be exact.
pub fn id(value: Option<&Value>) -> Result<Box<str>, String> {
    match value {
        Some(Value::String(s)) if !s.trim().is_empty() => Ok(s.trim().into()),
        Some(Value::Number(n)) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
            (Some(i), _, _) => Ok(i.to_string().into()),
            (_, Some(u), _) => Ok(u.to_string().into()),
            (_, _, Some(f)) if f.fract() == 0.0 && f.abs() < 9_007_199_254_740_992.0 => Ok(format!("{f:.0}").into()),
            (_, _, Some(f)) if f.fract() == 0.0 => {
                Err(format!("is {n}, which is too large to be exact: write it as text"))
            }
            _ => Ok(n.to_string().into()),
        },
        other => Err(format!("must be a number or text, found {}", kind(other))),
    }
}

/// Returns a finite number, which may be written as text.
pub fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(n) => n.as_f64(),
        Value::String(s) => s.trim().parse().ok(),
        _ => None,
    };
    number.filter(|n: &f64| n.is_finite())
}

/// Returns a list of finite numbers.
pub fn numbers(value: &Value) -> Option<Vec<f64>> {
    value.as_array()?.iter().map(number).collect()
}

/// Returns a boolean, which may be written as a number or as text; `default` if it is missing.
///
/// # Errors
/// An error is returned for any other value.
pub fn flag(value: Option<&Value>, default: bool) -> Result<bool, String> {
    match value {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(b)) => Ok(*b),
        Some(Value::Number(n)) => Ok(n.as_f64().is_some_and(|n| n != 0.0)),
        Some(Value::String(s)) => match s.trim().to_ascii_lowercase().as_str() {
            "" => Ok(default),
            "false" | "no" => Ok(false),
            "true" | "yes" => Ok(true),
            text => text.parse::<f64>().map(|n| n != 0.0).map_err(|_| format!("must be 0 or 1, found {}", kind(value))),
        },
        other => Err(format!("must be 0 or 1, found {}", kind(other))),
    }
}
