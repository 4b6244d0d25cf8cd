//! Streams the images of training data: LLaVA's conversations (a JSON array or JSON lines, plain, gzip or zstd),
//! parquet tables with images inside, or a directory with images and such tables.
//!
//! Only one entry is held in memory, whatever the size of the file.

use crate::files::{FileKind, walk};
use crate::options::{LeakOptions, NamedDataset};
use burgess_base::files::RowLimitedReader;
use burgess_base::json::LenientReader;
use burgess_base::text::excerpt;
use burgess_base::{Context, Error, Result, compressed};
use burgess_bench::ImageLocation;
use burgess_bench::table::{DatasetTable, TableColumns};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Values of `image` that mean no image, as in the loaders of LLaVA and Cambrian-1.
const NO_IMAGE: [&str; 4] = ["", "None", "none", "nan"];

/// An item found in training data.
pub enum TrainingEntry<'a> {
    /// One image; an entry with several images gives several items. The source is the entry's own field, or the first
    /// folder of the image's path, or empty.
    Image { image: ImageLocation, source: &'a str },
    /// An entry without an image.
    Text,
    /// An entry that is not an object, or whose image is not a path.
    Malformed {
        /// Short reason, the same for all entries with the same problem.
        why: &'static str,
        /// Which entry, with its value.
        detail: String,
    },
    /// A file that is not an image.
    Other,
}

type Each<'a> = &'a mut dyn FnMut(TrainingEntry<'_>) -> Result<()>;

/// Reads one training set. An error of `each` ends the reading.
///
/// # Errors
/// An error is returned if the set cannot be read, or if a file does not have the expected format; it names file, line
/// or row.
pub fn read(set: &NamedDataset, options: &LeakOptions, each: Each<'_>) -> Result<()> {
    let path = &set.path;
    let mut any = false;
    if path.is_dir() {
        walk(path, &mut |file, kind| {
            let folder = first_folder(file.strip_prefix(path).unwrap_or(file));
            match kind {
                FileKind::Image => {
                    any = true;
                    each(TrainingEntry::Image { image: ImageLocation::File(file.to_path_buf()), source: &folder })?;
                }
                FileKind::Table => any |= table(file, &folder, options, each)?,
                FileKind::Other => each(TrainingEntry::Other)?,
            }
            Ok(())
        })?;
    } else {
        match FileKind::of(path) {
            FileKind::Table => any = table(path, "", options, each)?,
            FileKind::Image => {
                return Err(Error::usage(format!("{} is a single image", path.display()))
                    .hint("training data are a file of conversations (.json, .jsonl), a parquet file or a directory"));
            }
            FileKind::Other => {
                let root = options.images.as_deref().ok_or_else(|| {
                    Error::usage(format!(
                        "the option `images` is not set: the directory to which the image paths in {} are relative",
                        path.display()
                    ))
                })?;
                // A file without any images is valid and counted as text.
                return conversations(path, root, each);
            }
        }
    }
    match any {
        true => Ok(()),
        false => {
            let columns = options.columns.join(" or ");
            Err(Error::failed(format!(
                "{} contains neither images nor parquet files with an image column named {columns} \
                 (the option `columns`)",
                path.display()
            )))
        }
    }
}

/// Returns the first folder of a path; empty if the path is only a name.
fn first_folder(path: &Path) -> Cow<'_, str> {
    let mut parts = path.iter();
    match (parts.next(), parts.next()) {
        (Some(folder), Some(_)) => folder.to_string_lossy(),
        _ => Cow::Borrowed(""),
    }
}

/// Reads a table and returns whether any of its rows has an image.
fn table(file: &Path, folder: &str, options: &LeakOptions, each: Each<'_>) -> Result<bool> {
    let maybe: Vec<String> = options.columns.iter().map(|name| format!("{name}?")).collect();
    let images: Vec<&str> = maybe.iter().map(String::as_str).collect();
    let mut any = false;
    DatasetTable::find(file, "", "")?.rows(TableColumns { values: &["source?"], images: &images }, |place, row| {
        let row = match row {
            Ok(row) => row,
            Err(e) => {
                return each(TrainingEntry::Malformed { why: "a row cannot be read", detail: format!("{place}: {e}") });
            }
        };
        let source = row.maybe("source").unwrap_or_else(|| folder.to_string());
        let mut text = true;
        for image in options.columns.iter().flat_map(|column| row.images(column)) {
            (any, text) = (true, false);
            each(TrainingEntry::Image { image: image.clone(), source: &source })?;
        }
        if text { each(TrainingEntry::Text) } else { Ok(()) }
    })?;
    Ok(any)
}

/// Maximum length of an entry in bytes, after decompression.
const LONGEST: u64 = 64 << 20;

/// The needed fields of an entry, or the kind of JSON value found instead of an object.
#[derive(Default)]
struct RawEntry {
    image: Value,
    images: Value,
    source: Value,
    odd: Option<&'static str>,
}

impl RawEntry {
    fn odd(what: &'static str) -> Self {
        Self { odd: Some(what), ..Self::default() }
    }
}

impl<'de> Deserialize<'de> for RawEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(RawEntryVisitor)
    }
}

struct RawEntryVisitor;

impl<'de> Visitor<'de> for RawEntryVisitor {
    type Value = RawEntry;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object with the path of an image")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<RawEntry, A::Error> {
        let mut raw = RawEntry::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "image" => raw.image = map.next_value()?,
                "images" => raw.images = map.next_value()?,
                "source" => raw.source = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(raw)
    }

    fn visit_unit<E>(self) -> std::result::Result<RawEntry, E> {
        Ok(RawEntry::odd("null"))
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<RawEntry, E> {
        Ok(RawEntry::odd("a truth value"))
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<RawEntry, E> {
        Ok(RawEntry::odd("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<RawEntry, E> {
        Ok(RawEntry::odd("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<RawEntry, E> {
        Ok(RawEntry::odd("a number"))
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<RawEntry, E> {
        Ok(RawEntry::odd("a text"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<RawEntry, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(RawEntry::odd("a list"))
    }
}

fn conversations(path: &Path, root: &Path, each: Each<'_>) -> Result<()> {
    let step = || format!("reading {}", path.display());
    // NaN, a byte order mark and similar deviations are corrected to JSON before the length of an entry is limited.
    let (limited, row_budget) =
        RowLimitedReader::new(LenientReader::new(compressed::open(path).with_context(step)?), LONGEST);
    let mut reader = BufReader::with_capacity(1 << 16, limited);
    let array = loop {
        let buffer = reader.fill_buf().with_context(step)?;
        let skip = buffer.iter().take_while(|b| b.is_ascii_whitespace()).count();
        match buffer.get(skip) {
            Some(byte) => break *byte == b'[',
            None if buffer.is_empty() => return Err(Error::failed(format!("{} is empty", path.display()))),
            None => reader.consume(skip),
        }
    };
    let malformed = |e: &serde_json::Error| {
        Error::failed(format!("{}: {}", path.display(), excerpt(&e.to_string(), 300)))
            .hint("expected LLaVA conversations: {\"image\": \"path\", …}")
    };
    let mut number = 0;
    let mut take = |raw: RawEntry| {
        number += 1;
        row_budget.renew();
        hand_on(&raw, root, || format!("{} entry {number}", path.display()), each)
    };
    if !array {
        for raw in serde_json::Deserializer::from_reader(reader).into_iter::<RawEntry>() {
            take(raw.map_err(|e| malformed(&e))?)?;
        }
        return Ok(());
    }
    let mut failed = None;
    let mut parser = serde_json::Deserializer::from_reader(reader);
    let parsed = parser.deserialize_seq(Entries(|raw| match take(raw) {
        Ok(()) => true,
        Err(e) => {
            failed = Some(e);
            false
        }
    }));
    match failed {
        Some(e) => Err(e),
        None => parsed.and_then(|()| parser.end()).map_err(|e| malformed(&e)),
    }
}

fn hand_on(raw: &RawEntry, root: &Path, place: impl Fn() -> String, each: Each<'_>) -> Result<()> {
    if let Some(what) = raw.odd {
        return each(TrainingEntry::Malformed {
            why: "the entry is no object",
            detail: format!("{} is {what}", place()),
        });
    }
    let own = match &raw.source {
        Value::String(source) => source.trim(),
        _ => "",
    };
    let named = [&raw.image, &raw.images].into_iter().flat_map(|value| match value {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    });
    let mut text = true;
    for value in named {
        match value {
            Value::Null => {}
            Value::String(name) if NO_IMAGE.contains(&name.as_str()) => {}
            Value::String(name) => {
                text = false;
                let source = if own.is_empty() { first_folder(Path::new(name)) } else { Cow::Borrowed(own) };
                each(TrainingEntry::Image { image: ImageLocation::File(root.join(name)), source: &source })?;
            }
            other => {
                text = false;
                let value = excerpt(&shown(other), 80);
                let detail = format!("{}: {value} is no path of an image", place());
                each(TrainingEntry::Malformed { why: "the image is no path", detail })?;
            }
        }
    }
    if text { each(TrainingEntry::Text) } else { Ok(()) }
}

/// Describes a value in a few words; long ones are not printed in full.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(object) => format!("an object with {} fields", object.len()),
        other => other.to_string(),
    }
}

/// Visitor that passes the entries of a JSON array to a function one by one, until it returns false.
struct Entries<F>(F);

impl<'de, F: FnMut(RawEntry) -> bool> Visitor<'de> for Entries<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
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
