//! Reads tables in the formats in which benchmarks are published: parquet with images inside (on the Hugging Face hub),
//! JSON and JSON lines, CSV and TSV (with images as base64).
//!
//! Rows are streamed. Columns are checked first; an error names the missing column and the existing ones. Cells are
//! JSON values in every format; images are not read but referenced ([`crate::ImageLocation`]).

mod columns;
pub(crate) mod delimited;
mod format;
mod json;
mod parquet;
mod python_list;
mod row;

use crate::card::DatasetSource;
use crate::image_location::ImageCell;
use burgess_base::{Context, Error, Result, files};
use columns::Cells;
use format::{FORMATS, format_of};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use columns::{TableColumn, TableColumns};
pub use python_list::python_list;
pub use row::{TableRow, choices};

/// The files of one split of a dataset, in the order in which they are read.
#[derive(Debug)]
pub struct DatasetTable {
    files: Vec<PathBuf>,
}

impl DatasetTable {
    /// Finds the files of a benchmark's split in `root`, which is the dataset's folder or a single file.
    pub fn open(root: &Path, source: &DatasetSource<'_>) -> Result<Self> {
        Self::find(root, source.folder, source.split)
    }

    /// Finds the files whose names begin with `split`, in `root/folder` or `root`, or in their subfolder `data/`. As on
    /// the hub, `a+b` are the splits `a` and `b`, one after the other; all of them must be there.
    pub fn find(root: &Path, folder: &str, split: &str) -> Result<Self> {
        if split.contains('+') && !root.is_file() {
            let mut files = Vec::new();
            for split in split.split('+') {
                files.extend(Self::find(root, folder, split)?.files);
            }
            return Ok(Self { files });
        }
        let places = places(root, folder);
        if let Some(found) = Self::find_if_any(root, &places, split)? {
            return Ok(found);
        }
        let looked: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
        Err(Error::failed(format!("no file of the split `{split}` is in {}", looked.join(", or in "))).hint(format!(
            "give the folder of files whose names begin with `{split}` and end in .{}",
            FORMATS.join(", .")
        )))
    }

    /// Finds the files as [`DatasetTable::find`] does, but returns `None` if there is no file of the split.
    fn find_if_any(root: &Path, places: &[PathBuf], split: &str) -> Result<Option<Self>> {
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
                if let Some(format) = format_in_split(&path, split) {
                    files::open(&path).with_context(|| format!("reading {}", path.display()))?;
                    found.entry(format).or_default().push(path);
                }
            }
            if let Some((_, mut files)) = found.pop_first() {
                files.sort();
                check_number_of_files(&files)?;
                return Ok(Some(Self { files }));
            }
        }
        Ok(None)
    }

    /// Finds the files whose names begin with `split` in every folder of `root`, with the folders in the order of their
    /// names, for datasets with one folder per subtask. If no folder has such files, they are
    /// found in `root` as by [`DatasetTable::find`].
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
            if let Some(table) = Self::find_if_any(folder, &places(folder, ""), split)? {
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
            Error::failed(format!("{} contains no file called {}", root.display(), names.join(" or ")))
                .hint("give the folder of the dataset as it is published")
        })?;
        Ok(Self { files: vec![file] })
    }

    /// Creates the table of one file; a missing file is reported when it is read.
    pub(crate) fn of_file(file: PathBuf) -> Self {
        Self { files: vec![file] }
    }

    /// Returns the files of the table.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Calls `each` with the place of every row, and with the row or the error in it.
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
            let mut pass_on = |cells: Result<Cells>| {
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
                Some("parquet") => parquet::read(file, columns, &mut pass_on),
                Some("tsv") => delimited::read(file, b'\t', columns, &mut pass_on),
                Some("csv") => delimited::read(file, b',', columns, &mut pass_on),
                Some(_) => json::read(file, columns, &mut pass_on),
                None => Err(Error::failed(format!("{} is not a table", file.display()))
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

/// Returns the columns of a parquet file.
///
/// # Errors
/// An error is returned if the file cannot be read or is damaged.
pub fn parquet_columns(file: &Path) -> Result<Vec<TableColumn>> {
    parquet::columns(file)
}

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

/// Reads the images of these cells of one column, in their order.
pub(crate) fn read_image_cells(file: &Path, column: &str, cells: &[&ImageCell]) -> Result<Vec<Result<Vec<u8>>>> {
    match format_of(file) {
        Some("parquet") => parquet::images(file, column, cells),
        _ => delimited::images(file, column, cells),
    }
}

/// Returns the index in [`FORMATS`] of a file's format, if the file belongs to the split: its name is the split's,
/// alone or followed by `-` or `.`.
fn format_in_split(path: &Path, split: &str) -> Option<usize> {
    let format = format_of(path)?;
    let stem = path.file_stem()?.to_string_lossy();
    let rest = stem.strip_prefix(split)?;
    let fits = rest.is_empty() || rest.starts_with(['-', '.']);
    (fits && !path.is_dir()).then(|| FORMATS.iter().position(|f| *f == format)).flatten()
}

/// Checks that there are as many files as their names state: three for `test-00000-of-00003.parquet`.
fn check_number_of_files(files: &[PathBuf]) -> Result<()> {
    let count = |file: &PathBuf| {
        let stem = file.file_stem()?.to_str()?;
        let (_, after) = stem.split_once("-of-")?;
        after.get(..5)?.parse::<usize>().ok()
    };
    match files.first().and_then(|first| Some((first, count(first)?))) {
        Some((first, of)) if of != files.len() => {
            Err(Error::failed(format!("{} is one of {of} files, but {} were found", first.display(), files.len()))
                .hint("download the missing files: the score needs all of them"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
