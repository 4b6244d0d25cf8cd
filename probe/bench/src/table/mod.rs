//! Tables as benchmarks are published: parquet with pictures inside (the hub's), JSON and JSON lines, CSV and TSV (with
//! pictures as base64).
//!
//! Rows are streamed. Columns are checked on opening: an error names the one that is missing and those that are there.
//! Cells are JSON values whatever the format; pictures are not read but named ([`Picture`]).

pub mod delimited;
mod json;
pub mod parquet;

use crate::{Picture, Source};
use burgess_base::{Context, Error, Result, nearest};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The files of one split, in order.
#[derive(Debug)]
pub struct Table {
    files: Vec<PathBuf>,
}

/// What is read of a table. A name that ends in `?` may be missing.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'a> {
    /// Those with text, numbers, lists.
    pub values: &'a [&'a str],
    /// Those with a picture or a list of pictures.
    pub pictures: &'a [&'a str],
}

/// A row.
#[derive(Debug)]
pub struct Row {
    /// File and row, for errors.
    pub place: String,
    /// Number of the row in the split, from 0.
    pub number: u64,
    values: Map<String, Value>,
    pictures: BTreeMap<String, Vec<Picture>>,
}

/// Kinds of file, those that hold most first: if a folder has several, the first is read.
const FORMATS: [&str; 5] = ["parquet", "jsonl", "json", "tsv", "csv"];

impl Table {
    /// The files of a benchmark's split below `root`, which is the dataset's folder or a single file.
    pub fn open(root: &Path, source: &Source) -> Result<Self> {
        Self::find(root, source.folder, source.split)
    }

    /// The files whose names begin with `split`, in `root/folder` or `root`, there or in `data/`.
    pub fn find(root: &Path, folder: &str, split: &str) -> Result<Self> {
        if root.is_file() {
            return Ok(Self { files: vec![root.to_path_buf()] });
        }
        if !root.is_dir() {
            return Err(Error::failed(format!("{} does not exist", root.display()))
                .hint("give the folder of the dataset as it is published, or one of its files"));
        }
        let mut places = vec![root.join(folder).join("data"), root.join(folder), root.join("data"), root.to_path_buf()];
        places.dedup();
        for place in places.iter().filter(|p| p.is_dir()) {
            let mut found: BTreeMap<usize, Vec<PathBuf>> = BTreeMap::new();
            let step = || format!("listing {}", place.display());
            for entry in std::fs::read_dir(place).with_context(step)? {
                let path = entry.with_context(step)?.path();
                if let Some(format) = belongs(&path, split) {
                    found.entry(format).or_default().push(path);
                }
            }
            if let Some((_, mut files)) = found.pop_first() {
                files.sort();
                complete(&files)?;
                return Ok(Self { files });
            }
        }
        let looked: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
        Err(Error::failed(format!("no file of the split `{split}` lies in {}", looked.join(", or in ")))
            .hint(format!("names begin with `{split}` and end in .{}", FORMATS.join(", ."))))
    }

    /// The files whose names begin with `split` in all folders of `root` that have some, folders in the order of their
    /// names: a dataset with a folder for each subtask. Without such folders it is [`Table::find`].
    pub fn folders(root: &Path, split: &str) -> Result<Self> {
        let step = || format!("listing {}", root.display());
        let mut folders = Vec::new();
        if root.is_dir() {
            for entry in std::fs::read_dir(root).with_context(step)? {
                folders.push(entry.with_context(step)?.path());
            }
        }
        folders.sort();
        let mut files = Vec::new();
        let named = folders.iter().filter(|f| f.is_dir() && f.file_name().is_some_and(|name| name != "data"));
        for folder in named {
            if let Ok(table) = Self::find(folder, "", split) {
                files.extend(table.files);
            }
        }
        if files.is_empty() { Self::find(root, "", split) } else { Ok(Self { files }) }
    }

    /// The first of these files that lies below `root`, or `root` itself if it is a file.
    pub fn named(root: &Path, names: &[&str]) -> Result<Self> {
        let mut candidates = names.iter().map(|n| root.join(n));
        let file = if root.is_file() { Some(root.to_path_buf()) } else { candidates.find(|f| f.is_file()) };
        let file = file.ok_or_else(|| {
            Error::failed(format!("{} holds no {}", root.display(), names.join(", no ")))
                .hint("give the folder of the dataset as it is published")
        })?;
        Ok(Self { files: vec![file] })
    }

    /// Its files.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Calls `each` with every row. Errors of `each` gain file and row.
    pub fn for_each(&self, columns: Columns<'_>, mut each: impl FnMut(&Row) -> Result<()>) -> Result<()> {
        let mut number = 0;
        for file in &self.files {
            let mut row_of_file = 0;
            let mut hand_on = |values: Map<String, Value>, pictures: BTreeMap<String, Vec<Picture>>| {
                row_of_file += 1;
                let row = Row { place: format!("{} row {row_of_file}", file.display()), number, values, pictures };
                number += 1;
                each(&row).map_err(|e| e.context(row.place.clone()))
            };
            let read = match format_of(file) {
                Some("parquet") => parquet::read(file, columns, &mut hand_on),
                Some("tsv") => delimited::read(file, b'\t', columns, &mut hand_on),
                Some("csv") => delimited::read(file, b',', columns, &mut hand_on),
                Some(_) => json::read(file, columns, &mut hand_on),
                None => Err(Error::failed(format!("{} is no table", file.display()))
                    .hint(format!("files end in .{}", FORMATS.join(", .")))),
            };
            read?;
        }
        match number {
            0 => Err(Error::failed(format!(
                "{} holds no rows",
                self.files.first().map_or_else(String::new, |f| f.display().to_string())
            ))),
            _ => Ok(()),
        }
    }
}

/// What a reader does with the cells and pictures of a row.
type HandOn<'a> = &'a mut dyn FnMut(Map<String, Value>, BTreeMap<String, Vec<Picture>>) -> Result<()>;

fn format_of(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?;
    FORMATS.into_iter().find(|f| *f == extension)
}

/// The rank of a file's format, if its name begins with the split's.
fn belongs(path: &Path, split: &str) -> Option<usize> {
    let format = format_of(path)?;
    let rest = path.file_stem()?.to_str()?.strip_prefix(split)?;
    let fits = rest.is_empty() || rest.starts_with(['-', '.']);
    (fits && path.is_file()).then(|| FORMATS.iter().position(|f| *f == format)).flatten()
}

/// Of `test-00000-of-00003.parquet` all three have to be there.
fn complete(files: &[PathBuf]) -> Result<()> {
    let count = |file: &PathBuf| {
        let stem = file.file_stem()?.to_str()?;
        let (_, after) = stem.split_once("-of-")?;
        after.get(..5)?.parse::<usize>().ok()
    };
    match files.first().and_then(|first| Some((first, count(first)?))) {
        Some((first, of)) if of != files.len() => {
            Err(Error::failed(format!("{} is one of {of} files, but {} are there", first.display(), files.len()))
                .hint("get the missing ones: a part would give the score of other questions"))
        }
        _ => Ok(()),
    }
}

/// The name of a column, and whether it has to be there.
fn required(name: &str) -> (&str, bool) {
    name.strip_suffix('?').map_or((name, true), |name| (name, false))
}

/// Checks the wanted columns against those that a table has.
fn check_columns<'a>(file: &Path, columns: Columns<'_>, there: impl Iterator<Item = &'a str> + Clone) -> Result<()> {
    for name in columns.values.iter().chain(columns.pictures) {
        let (name, needed) = required(name);
        if needed && !there.clone().any(|t| t == name) {
            let all: Vec<&str> = there.clone().collect();
            let near = nearest(name, all.iter().copied());
            let guess = near.first().map_or_else(String::new, |n| format!("did you mean `{n}`? "));
            return Err(Error::failed(format!("{}: the column `{name}` is missing", file.display()))
                .hint(format!("{guess}There are {}", all.join(", "))));
        }
    }
    Ok(())
}

impl Row {
    /// The cell, if it is there and not null.
    pub fn value(&self, column: &str) -> Option<&Value> {
        self.values.get(column).filter(|v| !v.is_null())
    }

    /// Text that has to be there and not blank; numbers count as text.
    pub fn text(&self, column: &str) -> Result<String> {
        match self.maybe(column) {
            Some(text) => Ok(text),
            None => Err(match self.value(column) {
                None => Error::failed(format!("the column `{column}` is empty")),
                Some(Value::String(_)) => Error::failed(format!("the column `{column}` is blank")),
                Some(other) => {
                    Error::failed(format!("the column `{column}` must hold text, found {}", crate::read::kind(other)))
                }
            }),
        }
    }

    /// Text that may be missing; numbers count as text, blank text and NaN as missing.
    pub fn maybe(&self, column: &str) -> Option<String> {
        match self.value(column)? {
            Value::String(s) if s.trim().is_empty() => None,
            Value::String(s) => Some(s.clone()),
            Value::Number(n) => Some(n.to_string()),
            _ => None,
        }
    }

    /// A whole number, also written as text or as 3.0.
    pub fn int(&self, column: &str) -> Result<i64> {
        let found = match self.value(column) {
            Some(Value::Number(n)) => n.as_i64().or_else(|| n.as_f64().filter(|f| f.fract() == 0.0).map(|f| f as i64)),
            Some(Value::String(s)) => s.trim().parse().ok(),
            _ => None,
        };
        found.ok_or_else(|| {
            let found = self.value(column).map_or_else(|| "nothing".into(), crate::read::kind);
            Error::failed(format!("the column `{column}` must hold a whole number, found {found}"))
        })
    }

    /// The letter of the choice whose number, from 0, the cell holds.
    pub fn letter(&self, column: &str) -> Result<String> {
        let number = self.int(column)?;
        let number_of = usize::try_from(number).ok().filter(|n| *n < crate::read::MOST_CHOICES);
        number_of
            .map(crate::score::name)
            .ok_or_else(|| Error::failed(format!("the column `{column}` holds {number}, no choice's number")))
    }

    /// A list of texts (numbers count as text). A text that is itself a list in JSON's or Python's form is one too.
    pub fn list(&self, column: &str) -> Result<Vec<String>> {
        let wrong = |value: Option<&Value>| {
            let found = value.map_or_else(|| "nothing".into(), crate::read::kind);
            Error::failed(format!("the column `{column}` must hold a list of texts, found {found}"))
        };
        match self.value(column) {
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| match item {
                    Value::String(s) => Ok(s.clone()),
                    Value::Number(n) => Ok(n.to_string()),
                    other => Err(wrong(Some(other))),
                })
                .collect(),
            Some(Value::String(s)) => python_list(s).ok_or_else(|| wrong(self.value(column))),
            other => Err(wrong(other)),
        }
    }

    /// The pictures of a column: none where the cell is empty.
    pub fn pictures(&self, column: &str) -> &[Picture] {
        self.pictures.get(column).map_or(&[], Vec::as_slice)
    }

    /// The one picture of a column.
    pub fn picture(&self, column: &str) -> Result<Picture> {
        match self.pictures(column) {
            [picture] => Ok(picture.clone()),
            found => Err(Error::failed(format!("the column `{column}` holds {} pictures instead of one", found.len()))),
        }
    }
}

/// The texts of a list as Python prints it, such as `['a', "it's", 'x\n']`; numbers become text.
pub fn python_list(text: &str) -> Option<Vec<String>> {
    let mut chars = text.trim().strip_prefix('[')?.strip_suffix(']')?.chars().peekable();
    let mut items = Vec::new();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        match chars.next() {
            None => return Some(items),
            Some(quote @ ('\'' | '"')) => items.push(quoted(&mut chars, quote)?),
            Some(first) => {
                let mut bare = String::from(first);
                while let Some(c) = chars.next_if(|c| *c != ',') {
                    bare.push(c);
                }
                let bare = bare.trim().to_string();
                bare.parse::<f64>().ok()?;
                items.push(bare);
            }
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        match chars.next() {
            None => return Some(items),
            Some(',') => {}
            // Neighbouring texts without a comma, as printed arrays have them, or something else.
            Some(_) => return None,
        }
    }
}

fn quoted(chars: &mut impl Iterator<Item = char>, quote: char) -> Option<String> {
    let mut text = String::new();
    loop {
        match chars.next()? {
            c if c == quote => return Some(text),
            '\\' => match chars.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                kind @ ('x' | 'u' | 'U') => {
                    let digits = match kind {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let code: String = chars.by_ref().take(digits).collect();
                    text.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?)?);
                }
                other @ ('\\' | '\'' | '"') => text.push(other),
                other => text.extend(['\\', other]),
            },
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests;
