//! Reads tables in the formats in which benchmarks are published: parquet with images inside (the hub's), JSON and JSON
//! lines, CSV and TSV (with images as base64).
//!
//! Rows are streamed. Columns are checked first; an error names the missing column and the existing ones. Cells are
//! JSON values in every format; images are not read but referenced ([`ImageLocation`]).

pub(crate) mod delimited;
mod json;
mod parquet;

use crate::card::DatasetSource;
use crate::image_location::{ImageCell, ImageLocation};
use crate::json_value::describe;
use crate::labels::{MOST_CHOICES, choice_label};
use burgess_base::text::excerpt;
use burgess_base::{Context, Error, Result, files, nearest};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The files of one split, in order.
#[derive(Debug)]
pub struct DatasetTable {
    files: Vec<PathBuf>,
}

/// The columns to read. A name that ends in `?` is optional.
#[derive(Debug, Clone, Copy)]
pub struct TableColumns<'a> {
    /// Columns of text, numbers or lists.
    pub values: &'a [&'a str],
    /// Columns of an image or a list of images.
    pub images: &'a [&'a str],
}

/// A row of a table.
#[derive(Debug)]
pub struct TableRow {
    /// File and row number, for errors.
    pub place: String,
    /// Number of the row in the split, from 0.
    pub number: u64,
    values: Map<String, Value>,
    images: BTreeMap<String, Vec<ImageLocation>>,
}

/// Number of columns that an error lists.
const COLUMNS_SHOWN: usize = 40;

/// File formats in order of preference: if a folder has several, only the first is read.
const FORMATS: [&str; 5] = ["parquet", "jsonl", "json", "tsv", "csv"];

impl DatasetTable {
    /// Finds the files of a benchmark's split in `root`, which is the dataset's folder or a single file.
    pub fn open(root: &Path, source: &DatasetSource<'_>) -> Result<Self> {
        Self::find(root, source.folder, source.split)
    }

    /// Finds the files whose names begin with `split`, in `root/folder` or `root`, or in their subfolder `data/`.
    pub fn find(root: &Path, folder: &str, split: &str) -> Result<Self> {
        let places = places(root, folder);
        if let Some(found) = Self::look(root, &places, split)? {
            return Ok(found);
        }
        let looked: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
        Err(Error::failed(format!("no file of the split `{split}` lies in {}", looked.join(", or in ")))
            .hint(format!("names begin with `{split}` and end in .{}", FORMATS.join(", ."))))
    }

    /// Finds the files as [`DatasetTable::find`] does, but returns `None` if there is no file of the split.
    fn look(root: &Path, places: &[PathBuf], split: &str) -> Result<Option<Self>> {
        if root.is_file() {
            return Ok(Some(Self { files: vec![root.to_path_buf()] }));
        }
        if !root.is_dir() {
            // Opening gives the precise error for a FIFO, a device or a broken link.
            if let (Err(e), Ok(_)) = (files::open(root), root.symlink_metadata()) {
                return Err(Error::from(e).context(format!("reading {}", root.display())));
            }
            return Err(Error::failed(format!("{} does not exist", root.display()))
                .hint("give the folder of the dataset as it is published, or one of its files"));
        }
        for place in places.iter().filter(|p| p.is_dir()) {
            let mut found: BTreeMap<usize, Vec<PathBuf>> = BTreeMap::new();
            let step = || format!("listing {}", place.display());
            for entry in std::fs::read_dir(place).with_context(step)? {
                let path = entry.with_context(step)?.path();
                if let Some(format) = belongs(&path, split) {
                    files::open(&path).with_context(|| format!("reading {}", path.display()))?;
                    found.entry(format).or_default().push(path);
                }
            }
            if let Some((_, mut files)) = found.pop_first() {
                files.sort();
                complete(&files)?;
                return Ok(Some(Self { files }));
            }
        }
        Ok(None)
    }

    /// Finds the files whose names begin with `split` in every folder of `root`, with the folders in the order of their
    /// names, for datasets with one folder per subtask. If no folder has such files, it is [`DatasetTable::find`].
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
            if let Some(table) = Self::look(folder, &places(folder, ""), split)? {
                files.extend(table.files);
            }
        }
        if files.is_empty() { Self::find(root, "", split) } else { Ok(Self { files }) }
    }

    /// Finds the first of these files that exists in `root`, or `root` itself if it is a file.
    pub fn named(root: &Path, names: &[&str]) -> Result<Self> {
        let mut candidates = names.iter().map(|n| root.join(n));
        let file = if root.is_file() { Some(root.to_path_buf()) } else { candidates.find(|f| is_there(f)) };
        let file = file.ok_or_else(|| {
            Error::failed(format!("{} holds no {}", root.display(), names.join(", no ")))
                .hint("give the folder of the dataset as it is published")
        })?;
        Ok(Self { files: vec![file] })
    }

    /// Creates the table of one file; a missing file is reported when it is read.
    pub(crate) fn of(file: PathBuf) -> Self {
        Self { files: vec![file] }
    }

    /// Returns the files of the table.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Calls `each` with every row. Errors of `each` are extended by file and row, and an unreadable row is an error.
    pub fn for_each(&self, columns: TableColumns<'_>, mut each: impl FnMut(&TableRow) -> Result<()>) -> Result<()> {
        self.rows(columns, |place, row| row.and_then(&mut each).map_err(|e| e.context(place.to_string())))
    }

    /// Calls `each` with the place of every row and the row, or the error in it.
    ///
    /// # Errors
    /// An error is returned if a file cannot be read, if it is so damaged that later rows cannot be separated, or if
    /// `each` fails.
    pub fn rows(
        &self,
        columns: TableColumns<'_>,
        mut each: impl FnMut(&RowPlace<'_>, Result<&TableRow>) -> Result<()>,
    ) -> Result<()> {
        let mut number = 0;
        for file in &self.files {
            let mut place = RowPlace { file, row: 0 };
            let mut hand_on = |cells: Result<Cells>| {
                place.row += 1;
                number += 1;
                match cells {
                    Ok((values, images)) => {
                        let row = TableRow { place: place.to_string(), number: number - 1, values, images };
                        each(&place, Ok(&row))
                    }
                    Err(e) => each(&place, Err(e)),
                }
            };
            match format_of(file) {
                Some("parquet") => parquet::read(file, columns, &mut hand_on),
                Some("tsv") => delimited::read(file, b'\t', columns, &mut hand_on),
                Some("csv") => delimited::read(file, b',', columns, &mut hand_on),
                Some(_) => json::read(file, columns, &mut hand_on),
                None => Err(Error::failed(format!("{} is no table", file.display()))
                    .hint(format!("files end in .{}", FORMATS.join(", .")))),
            }?;
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

/// Place of a row; its text form is file and row number.
#[derive(Debug, Clone, Copy)]
pub struct RowPlace<'a> {
    /// The file that contains the row.
    pub file: &'a Path,
    /// Number of the row in the file, from 1.
    pub row: u64,
}

impl std::fmt::Display for RowPlace<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} row {}", self.file.display(), self.row)
    }
}

impl RowPlace<'_> {
    /// Formats the place without the file's folder.
    pub fn short(&self) -> String {
        let name = self.file.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        format!("{name} row {}", self.row)
    }
}

/// The cells of a row by column, and its images by column.
type Cells = (Map<String, Value>, BTreeMap<String, Vec<ImageLocation>>);

/// Callback that takes a row, or the error in it.
type HandOn<'a> = &'a mut dyn FnMut(Result<Cells>) -> Result<()>;

/// Returns whether the path exists and is no directory; also true for a FIFO or a broken link.
pub(crate) fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok() && !path.is_dir()
}

/// Returns the folders that may hold the files of a split.
fn places(root: &Path, folder: &str) -> Vec<PathBuf> {
    let mut places = vec![root.join(folder).join("data"), root.join(folder), root.join("data"), root.to_path_buf()];
    places.dedup();
    places
}

fn format_of(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?;
    FORMATS.into_iter().find(|f| *f == extension)
}

/// Reads the images of these cells of one column, in their order.
pub(crate) fn read_image_cells(file: &Path, column: &str, cells: &[&ImageCell]) -> Result<Vec<Result<Vec<u8>>>> {
    match format_of(file) {
        Some("parquet") => parquet::images(file, column, cells),
        _ => delimited::images(file, column, cells),
    }
}

/// Returns the rank of a file's format, if its name begins with the split's.
fn belongs(path: &Path, split: &str) -> Option<usize> {
    let format = format_of(path)?;
    let stem = path.file_stem()?.to_string_lossy();
    let rest = stem.strip_prefix(split)?;
    let fits = rest.is_empty() || rest.starts_with(['-', '.']);
    (fits && !path.is_dir()).then(|| FORMATS.iter().position(|f| *f == format)).flatten()
}

/// Checks that all parts exist: of `test-00000-of-00003.parquet` all three.
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

/// Splits a column's name into the name and whether the column is required.
fn required(name: &str) -> (&str, bool) {
    name.strip_suffix('?').map_or((name, true), |name| (name, false))
}

/// Checks that a table has the required columns.
fn check_columns<'a>(
    file: &Path,
    columns: TableColumns<'_>,
    there: impl Iterator<Item = &'a str> + Clone,
) -> Result<()> {
    for name in columns.values.iter().chain(columns.images) {
        let (name, needed) = required(name);
        if needed && !there.clone().any(|t| t == name) {
            let all: Vec<String> = there.clone().take(COLUMNS_SHOWN).map(|t| excerpt(t, 40)).collect();
            let more = there.clone().nth(COLUMNS_SHOWN).is_some();
            let near = nearest(name, all.iter().map(String::as_str));
            let guess = near.first().map_or_else(String::new, |n| format!("did you mean `{n}`? "));
            return Err(Error::failed(format!("{}: the column `{name}` is missing", file.display())).hint(format!(
                "{guess}There are {}{}",
                all.join(", "),
                if more { ", …" } else { "" }
            )));
        }
    }
    Ok(())
}

impl TableRow {
    /// Returns the cell if it exists and is not null.
    pub fn value(&self, column: &str) -> Option<&Value> {
        self.values.get(column).filter(|v| !v.is_null())
    }

    /// Returns whether the table has the column; in JSON, whether the row has the field.
    pub fn has(&self, column: &str) -> bool {
        self.values.contains_key(column)
    }

    /// Returns the row's own id in parentheses, such as ` (index 105)`; empty if no column holds one.
    pub fn name(&self) -> String {
        let columns = ["index", "idx", "id", "pid", "question_id", "questionId", "Index", "lndex"];
        let named = columns.iter().find_map(|column| Some((column, self.maybe(column)?)));
        named.map_or_else(String::new, |(column, name)| format!(" ({column} {})", excerpt(&name, 40)))
    }

    /// Returns text that must exist and not be blank; numbers are converted to text.
    pub fn text(&self, column: &str) -> Result<String> {
        match self.maybe(column) {
            Some(text) => Ok(text),
            None => Err(match self.value(column) {
                None => Error::failed(format!("the column `{column}` is empty")),
                Some(Value::String(_)) => Error::failed(format!("the column `{column}` is blank")),
                Some(other) => {
                    Error::failed(format!("the column `{column}` must hold text, found {}", describe(other)))
                }
            }),
        }
    }

    /// Returns optional text; numbers are converted to text, blank text and NaN count as missing.
    pub fn maybe(&self, column: &str) -> Option<String> {
        match self.value(column)? {
            Value::String(s) if s.trim().is_empty() => None,
            Value::String(s) => Some(s.clone()),
            Value::Number(n) => Some(n.to_string()),
            _ => None,
        }
    }

    /// Returns an integer, which may also be written as text or as 3.0.
    pub fn int(&self, column: &str) -> Result<i64> {
        let found = match self.value(column) {
            Some(Value::Number(n)) => n.as_i64().or_else(|| n.as_f64().filter(|f| f.fract() == 0.0).map(|f| f as i64)),
            Some(Value::String(s)) => s.trim().parse().ok(),
            _ => None,
        };
        found.ok_or_else(|| {
            let found = self.value(column).map_or_else(|| "nothing".into(), describe);
            Error::failed(format!("the column `{column}` must hold a whole number, found {found}"))
        })
    }

    /// Returns the letter of the choice whose number, from 0, the cell holds.
    pub fn letter(&self, column: &str) -> Result<String> {
        let number = self.int(column)?;
        let number_of = usize::try_from(number).ok().filter(|n| *n < MOST_CHOICES);
        number_of
            .map(choice_label)
            .ok_or_else(|| Error::failed(format!("the column `{column}` holds {number}, no choice's number")))
    }

    /// Returns a list of texts (numbers are converted). A text in the form of a JSON or Python list is parsed.
    pub fn list(&self, column: &str) -> Result<Vec<String>> {
        let wrong = |value: Option<&Value>| {
            let found = value.map_or_else(|| "nothing".into(), describe);
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

    /// Returns the choices that a column lists, in the order of their letters, without null or blank ones at the end.
    ///
    /// # Errors
    /// An error is returned if the cell is not a list of texts, or if a choice follows a null or blank one.
    pub fn choices(&self, column: &str) -> Result<Vec<String>> {
        match self.value(column) {
            Some(Value::Array(items)) => choices(items.iter().map(|item| match item {
                Value::Null => Ok(None),
                Value::String(s) => Ok(Some(s.clone())),
                Value::Number(n) => Ok(Some(n.to_string())),
                other => {
                    let found = describe(other);
                    Err(Error::failed(format!("the column `{column}` must hold a list of texts, found {found}")))
                }
            })),
            _ => choices(self.list(column)?.into_iter().map(|s| Ok(Some(s)))),
        }
    }

    /// Returns the images of a column; none if the cell is empty.
    pub fn images(&self, column: &str) -> &[ImageLocation] {
        self.images.get(column).map_or(&[], Vec::as_slice)
    }

    /// Returns the only image of a column.
    pub fn image(&self, column: &str) -> Result<ImageLocation> {
        match self.images(column) {
            [image] => Ok(image.clone()),
            found => Err(Error::failed(format!("the column `{column}` holds {} images instead of one", found.len()))),
        }
    }
}

/// Returns the choices up to the first that is missing or blank.
///
/// # Errors
/// An error is returned if another choice follows, because the letters would then be ambiguous.
pub fn choices(all: impl Iterator<Item = Result<Option<String>>>) -> Result<Vec<String>> {
    let mut there = Vec::new();
    let mut gap = None;
    for (choice, letter) in all.zip('A'..) {
        match (choice?.filter(|text| !text.trim().is_empty()), gap) {
            (Some(text), None) => there.push(text),
            (Some(_), Some(gap)) => {
                return Err(Error::failed(format!("the choice {gap} is empty, but {letter} is not")));
            }
            (None, _) => gap = gap.or(Some(letter)),
        }
    }
    Ok(there)
}

/// Parses a list as Python prints it, such as `['a', "it's", 'x\n']`; numbers become text.
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
            // Adjacent texts without a comma, as in printed NumPy arrays, or other text.
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
