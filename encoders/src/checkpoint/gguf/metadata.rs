//! Reads the metadata of a GGUF file. Only the positions of values are kept in memory; strings and lists stay in the
//! mapped file. A vocabulary of 256,000 strings is traversed once, to find its end.

use super::cursor::{Cursor, text_at};
use crate::checkpoint::budget::MemoryBudget;
use burgess_base::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;

/// The type of a metadata value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueType {
    /// An unsigned integer of this many bytes.
    Unsigned(usize),
    /// A signed integer of this many bytes, in two's complement.
    Signed(usize),
    Single,
    Double,
    Flag,
    Text,
    List,
}

/// All types, indexed by their numbers in the file.
const VALUE_TYPES: [ValueType; 13] = [
    ValueType::Unsigned(1),
    ValueType::Signed(1),
    ValueType::Unsigned(2),
    ValueType::Signed(2),
    ValueType::Unsigned(4),
    ValueType::Signed(4),
    ValueType::Single,
    ValueType::Flag,
    ValueType::Text,
    ValueType::List,
    ValueType::Unsigned(8),
    ValueType::Signed(8),
    ValueType::Double,
];

impl ValueType {
    fn read(cursor: &mut Cursor) -> Result<Self> {
        let number = cursor.u32()?;
        let kind = usize::try_from(number).ok().and_then(|n| VALUE_TYPES.get(n)).copied();
        kind.ok_or_else(|| Error::failed(format!("has type {number}, must be from 0 to 12")))
    }

    /// Size of a value in bytes; `None` for types of variable size.
    fn size(self) -> Option<usize> {
        match self {
            Self::Unsigned(size) | Self::Signed(size) => Some(size),
            Self::Single => Some(4),
            Self::Double => Some(8),
            Self::Flag => Some(1),
            Self::Text | Self::List => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Unsigned(_) | Self::Signed(_) => "an integer",
            Self::Single | Self::Double => "a number",
            Self::Flag => "true or false",
            Self::Text => "a text",
            Self::List => "a list",
        }
    }

    /// Decodes a value from `bytes`, whose length must be [`ValueType::size`]; `None` for texts, lists, and flags that
    /// are neither 0 nor 1.
    fn value(self, bytes: &[u8]) -> Option<MetadataValue<'static>> {
        let mut wide = [0; 8];
        wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let number = u64::from_le_bytes(wide);
        Some(match self {
            Self::Unsigned(_) => MetadataValue::Integer(number.into()),
            Self::Signed(size) => {
                let unused = 64 - 8 * size as u32;
                MetadataValue::Integer((number.cast_signed() << unused >> unused).into())
            }
            Self::Single => MetadataValue::Number(f32::from_bits(number as u32).into()),
            Self::Double => MetadataValue::Number(f64::from_bits(number)),
            Self::Flag => MetadataValue::Flag(match number {
                0 => false,
                1 => true,
                _ => return None,
            }),
            Self::Text | Self::List => return None,
        })
    }
}

/// Type and position of a value in the file.
#[derive(Debug, Clone)]
struct ValueLocation {
    kind: ValueType,
    bytes: Range<usize>,
    /// Type and number of a list's elements; `None` for other types.
    elements: Option<(ValueType, usize)>,
}

/// The keys of a file, with the positions of their values.
#[derive(Debug, Default)]
pub(in crate::checkpoint) struct MetadataTable {
    locations: BTreeMap<String, ValueLocation>,
}

impl MetadataTable {
    /// Combines the table with the file that it was read from.
    pub fn view<'a>(&'a self, file: &'a [u8]) -> Metadata<'a> {
        Metadata { table: Some(self), file }
    }
}

/// Reads `pairs` keys with their values.
pub(super) fn read(cursor: &mut Cursor, pairs: u64, budget: &mut MemoryBudget) -> Result<MetadataTable> {
    let mut locations = BTreeMap::new();
    for _ in 0..pairs {
        let key = cursor.name()?;
        budget.spend(6 * size_of::<(String, ValueLocation)>() + 2 * key.len())?;
        let location = location(cursor).map_err(|e| e.context(format!("metadata `{key}`")))?;
        if locations.insert(key.to_string(), location).is_some() {
            return Err(Error::failed(format!("metadata `{key}` is listed twice")));
        }
    }
    Ok(MetadataTable { locations })
}

fn location(cursor: &mut Cursor) -> Result<ValueLocation> {
    let kind = ValueType::read(cursor)?;
    if kind != ValueType::List {
        let bytes = single(cursor, kind)?;
        return Ok(ValueLocation { kind, bytes, elements: None });
    }
    let of = ValueType::read(cursor)?;
    if of == ValueType::List {
        return Err(Error::failed("is a list of lists, which is not supported"));
    }
    // A text takes at least the 8 bytes of its length.
    let count = cursor.count(of.size().unwrap_or(8) as u64, "elements")?;
    let from = cursor.at;
    match of.size() {
        // The product does not overflow: `count` checked that the elements fit in the rest of the file.
        Some(size) => {
            cursor.take(count * size as u64)?;
        }
        None => {
            for _ in 0..count {
                cursor.text()?;
            }
        }
    }
    let count = usize::try_from(count).map_err(|_| Error::failed("is a list too long for this machine"))?;
    Ok(ValueLocation { kind, bytes: from..cursor.at, elements: Some((of, count)) })
}

/// Reads a value that is not a list; returns its bytes in the file.
fn single(cursor: &mut Cursor, kind: ValueType) -> Result<Range<usize>> {
    let Some(size) = kind.size() else {
        let range = cursor.text()?;
        return text_at(cursor.file, range.clone()).map(|_| range);
    };
    let range = cursor.take(size as u64)?;
    match cursor.file.get(range.clone()).and_then(|bytes| kind.value(bytes)) {
        Some(_) => Ok(range),
        None => Err(Error::failed("is neither true nor false")),
    }
}

/// A value of a GGUF file's metadata.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MetadataValue<'a> {
    /// An integer of any width, signed or unsigned.
    Integer(i128),
    /// A floating-point number of 32 or 64 bits.
    Number(f64),
    /// A Boolean, stored as one byte.
    Flag(bool),
    /// A UTF-8 string.
    Text(&'a str),
    /// A list of values of one type.
    List(MetadataList<'a>),
}

/// The metadata of a checkpoint, decoded from its file on access; empty for formats without metadata.
#[derive(Debug, Clone, Copy)]
pub struct Metadata<'a> {
    table: Option<&'a MetadataTable>,
    file: &'a [u8],
}

impl<'a> Metadata<'a> {
    pub(in crate::checkpoint) const EMPTY: Metadata<'static> = Metadata { table: None, file: &[] };

    /// Iterates over all keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.table.into_iter().flat_map(|table| table.locations.keys().map(String::as_str))
    }

    /// Returns the value of `key`; `None` if there is no such key.
    pub fn get(&self, key: &str) -> Option<MetadataValue<'a>> {
        let location = self.table?.locations.get(key)?;
        let bytes = self.file.get(location.bytes.clone())?;
        match (location.kind, location.elements) {
            (ValueType::Text, _) => std::str::from_utf8(bytes).ok().map(MetadataValue::Text),
            (_, Some((of, count))) => Some(MetadataValue::List(MetadataList { of, count, bytes })),
            (kind, None) => kind.value(bytes),
        }
    }

    fn typed<T>(&self, key: &str, wanted: &str, read: impl Fn(MetadataValue<'a>) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| {
            let found = self.table.and_then(|t| t.locations.get(key)).map_or("nothing", |p| p.kind.name());
            Error::failed(format!("metadata `{key}` is {found}, expected {wanted}"))
        })
    }

    /// Returns the string at `key`; `None` if there is no such key.
    ///
    /// # Errors
    /// The value has another type.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>> {
        self.typed(key, "a text", |value| if let MetadataValue::Text(text) = value { Some(text) } else { None })
    }

    /// Returns the non-negative integer at `key`; `None` if there is no such key.
    ///
    /// # Errors
    /// The value has another type, is negative, or is too large for this machine.
    pub fn size(&self, key: &str) -> Result<Option<usize>> {
        let size = |value| if let MetadataValue::Integer(n) = value { usize::try_from(n).ok() } else { None };
        self.typed(key, "a size", size)
    }

    /// Returns the number at `key`, which may be an integer; `None` if there is no such key.
    ///
    /// # Errors
    /// The value has another type.
    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", |value| match value {
            MetadataValue::Number(n) => Some(n),
            MetadataValue::Integer(n) => Some(n as f64),
            _ => None,
        })
    }

    /// Returns the Boolean at `key`; `None` if there is no such key.
    ///
    /// # Errors
    /// The value has another type.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", |value| if let MetadataValue::Flag(flag) = value { Some(flag) } else { None })
    }

    /// Returns the list at `key`; `None` if there is no such key.
    ///
    /// # Errors
    /// The value has another type.
    pub fn list(&self, key: &str) -> Result<Option<MetadataList<'a>>> {
        self.typed(key, "a list", |value| if let MetadataValue::List(list) = value { Some(list) } else { None })
    }
}

/// A list of values of one type, decoded from the file on access.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetadataList<'a> {
    of: ValueType,
    count: usize,
    bytes: &'a [u8],
}

impl<'a> MetadataList<'a> {
    /// Returns the number of elements.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn other(&self, wanted: &str) -> Error {
        Error::failed(format!("each element of the list is {}, expected {wanted}", self.of.name()))
    }

    /// Iterates over the elements of a list of strings, decoded on access.
    ///
    /// # Errors
    /// The elements have another type; an item of the iterator is an error if it is not UTF-8.
    pub fn texts(&self) -> Result<impl Iterator<Item = Result<&'a str>>> {
        if self.of != ValueType::Text {
            return Err(self.other("a text"));
        }
        let mut cursor = Cursor { file: self.bytes, at: 0 };
        Ok((0..self.count).map(move |_| cursor.text().and_then(|range| text_at(cursor.file, range))))
    }

    /// Iterates over the elements of a list of numbers or integers, as f64.
    ///
    /// # Errors
    /// The elements have another type.
    pub fn numbers(&self) -> Result<impl Iterator<Item = f64>> {
        let number = |value| match value {
            MetadataValue::Number(n) => Some(n),
            MetadataValue::Integer(n) => Some(n as f64),
            _ => None,
        };
        let numbers =
            matches!(self.of, ValueType::Unsigned(_) | ValueType::Signed(_) | ValueType::Single | ValueType::Double);
        if numbers { Ok(self.values().filter_map(number)) } else { Err(self.other("a number")) }
    }

    /// Iterates over the elements of a list of integers.
    ///
    /// # Errors
    /// The elements have another type.
    pub fn integers(&self) -> Result<impl Iterator<Item = i128>> {
        let integers = matches!(self.of, ValueType::Unsigned(_) | ValueType::Signed(_));
        let integer = |value| if let MetadataValue::Integer(n) = value { Some(n) } else { None };
        if integers { Ok(self.values().filter_map(integer)) } else { Err(self.other("an integer")) }
    }

    /// Iterates over the elements of a list of Booleans.
    ///
    /// # Errors
    /// The elements have another type.
    pub fn flags(&self) -> Result<impl Iterator<Item = bool>> {
        let flag = |value| if let MetadataValue::Flag(flag) = value { Some(flag) } else { None };
        if self.of == ValueType::Flag { Ok(self.values().filter_map(flag)) } else { Err(self.other("true or false")) }
    }

    /// Iterates over the elements of a type of fixed size.
    fn values(&self) -> impl Iterator<Item = MetadataValue<'static>> + use<'a> {
        let kind = self.of;
        self.bytes.chunks_exact(kind.size().unwrap_or(1)).filter_map(move |bytes| kind.value(bytes))
    }
}
