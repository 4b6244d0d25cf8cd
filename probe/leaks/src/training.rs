//! The pictures of training data, one after the other: LLaVA's conversations (a JSON array or JSON lines, plain, gzip or
//! zstd), tables of parquet with pictures inside, or a directory with pictures and such tables.
//!
//! What is held in memory is an entry, whatever the size of the file.

use crate::files::{Kind, walk};
use crate::{Named, Options};
use burgess_base::{Context, Error, Result, compressed};
use burgess_bench::Picture;
use burgess_bench::table::{Columns, Table};
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// What an entry without a picture may call it, as the loaders of LLaVA and Cambrian-1 have it.
const NO_PICTURE: [&str; 4] = ["", "None", "none", "nan"];

/// What is found in training data.
pub enum Entry<'a> {
    /// One picture; an entry with several hands on each. The source is the entry's own field, or the first folder of the
    /// picture's path, or nothing.
    Picture { picture: Picture, source: &'a str },
    /// An entry without a picture.
    Text,
    /// An entry whose picture is no path.
    Malformed(String),
    /// A file that is no picture.
    Other,
}

type Each<'a> = &'a mut dyn FnMut(Entry<'_>) -> Result<()>;

/// Reads one set of training data. An error of `each` ends the reading.
///
/// # Errors
/// The set cannot be read, or a file is not of its form: file, line or row are named.
pub fn read(set: &Named, options: &Options, each: Each<'_>) -> Result<()> {
    let path = &set.path;
    let mut any = false;
    if path.is_dir() {
        walk(path, &mut |file, kind| {
            let folder = first_folder(file.strip_prefix(path).unwrap_or(file));
            match kind {
                Kind::Picture => {
                    any = true;
                    each(Entry::Picture { picture: Picture::File(file.to_path_buf()), source: folder })?;
                }
                Kind::Table => any |= table(file, folder, options, each)?,
                Kind::Other => each(Entry::Other)?,
            }
            Ok(())
        })?;
    } else {
        match Kind::of(path) {
            Kind::Table => any = table(path, "", options, each)?,
            Kind::Picture => {
                return Err(Error::usage(format!("{} is a single picture", path.display()))
                    .hint("training data are a file of conversations (.json, .jsonl), a parquet file or a directory"));
            }
            Kind::Other => {
                let root = options.pictures.as_deref().ok_or_else(|| {
                    Error::usage(format!("the pictures that {} names lie below no directory", path.display()))
                        .hint("--pictures DIR says where the paths of conversations begin")
                })?;
                // One of text alone is counted as such.
                return conversations(path, root, each);
            }
        }
    }
    match any {
        true => Ok(()),
        false => {
            let columns = options.columns.join(" or ");
            Err(Error::failed(format!(
                "{} holds neither pictures nor parquet files with pictures in a column called {columns}",
                path.display()
            ))
            .hint("--column NAME says which columns hold pictures; a file of conversations is given by its own name"))
        }
    }
}

/// The folder a path begins with, if it is more than a name.
fn first_folder(path: &Path) -> &str {
    let mut parts = path.iter();
    match (parts.next(), parts.next()) {
        (Some(folder), Some(_)) => folder.to_str().unwrap_or_default(),
        _ => "",
    }
}

/// Whether any of its rows has a picture.
fn table(file: &Path, folder: &str, options: &Options, each: Each<'_>) -> Result<bool> {
    let maybe: Vec<String> = options.columns.iter().map(|name| format!("{name}?")).collect();
    let pictures: Vec<&str> = maybe.iter().map(String::as_str).collect();
    let mut any = false;
    Table::find(file, "", "")?.for_each(Columns { values: &["source?"], pictures: &pictures }, |row| {
        let source = row.maybe("source").unwrap_or_else(|| folder.to_string());
        let mut text = true;
        for picture in options.columns.iter().flat_map(|column| row.pictures(column)) {
            (any, text) = (true, false);
            each(Entry::Picture { picture: picture.clone(), source: &source })?;
        }
        if text { each(Entry::Text) } else { Ok(()) }
    })?;
    Ok(any)
}

/// Of an entry, what is needed.
#[derive(Deserialize)]
#[serde(expecting = "an object with the path of a picture")]
struct Raw {
    #[serde(default)]
    image: Value,
    #[serde(default)]
    images: Value,
    #[serde(default)]
    source: Value,
}

fn conversations(path: &Path, root: &Path, each: Each<'_>) -> Result<()> {
    let step = || format!("reading {}", path.display());
    let mut reader = BufReader::with_capacity(1 << 16, compressed::open(path).with_context(step)?);
    if reader.fill_buf().with_context(step)?.starts_with("\u{feff}".as_bytes()) {
        reader.consume(3);
    }
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
        Error::failed(format!("{}: {e}", path.display())).hint("expected LLaVA conversations: {\"image\": \"path\", …}")
    };
    let mut number = 0;
    let mut take = |raw: Raw| {
        number += 1;
        hand_on(&raw, root, || format!("{} entry {number}", path.display()), each)
    };
    if !array {
        for raw in serde_json::Deserializer::from_reader(reader).into_iter::<Raw>() {
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

fn hand_on(raw: &Raw, root: &Path, place: impl Fn() -> String, each: Each<'_>) -> Result<()> {
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
            Value::String(name) if NO_PICTURE.contains(&name.as_str()) => {}
            Value::String(name) => {
                text = false;
                let source = if own.is_empty() { first_folder(Path::new(name)) } else { own };
                each(Entry::Picture { picture: Picture::File(root.join(name)), source })?;
            }
            other => {
                text = false;
                each(Entry::Malformed(format!("{}: {other} is no path of a picture", place())))?;
            }
        }
    }
    if text { each(Entry::Text) } else { Ok(()) }
}

/// Hands the entries of a JSON array to a function one by one, until it returns false.
struct Entries<F>(F);

impl<'de, F: FnMut(Raw) -> bool> Visitor<'de> for Entries<F> {
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
