//! A folder of images as a table: with a table of metadata beside the images, or one row per image.

use super::rows::QuestionColumns;
use super::{DeclaredBenchmark, all_usable};
use crate::benchmark::read;
use crate::image_location::ImageLocation;
use crate::question::QuestionSet;
use crate::table::{DatasetTable, TableRow};
use burgess_base::{Context, Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names of the table beside the images.
const METADATA: [&str; 5] = ["metadata.jsonl", "metadata.csv", "metadata.tsv", "metadata.parquet", "metadata.json"];

/// Extensions of image files.
const EXTENSIONS: [&str; 9] = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "ppm"];

/// Returns whether the name of a file is that of an image.
fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
    EXTENSIONS.contains(&extension.as_str())
}

/// Returns the images in a folder, in the order of their names.
pub(super) fn images(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        return Err(
            Error::failed("the folder of its images does not exist").hint(format!("expected {}", dir.display()))
        );
    }
    let mut found = Vec::new();
    list(dir, 0, &mut found)?;
    found.sort();
    match found.is_empty() {
        true => Err(Error::failed("the folder of its images holds none").hint(format!("it is {}", dir.display()))),
        false => Ok(found),
    }
}

/// Maximum depth of folders in folders.
const DEEPEST: usize = 8;

/// Returns the table of metadata in a folder, if it has one.
pub(super) fn metadata(dir: &Path) -> Result<Option<DatasetTable>> {
    let found = METADATA.iter().map(|name| dir.join(name)).find(|file| file.is_file());
    Ok(found.map(DatasetTable::of_file))
}

/// Reads the images below a folder, in the order of their paths, as rows with the columns `file` (the image), `name`
/// (without extension) and `folder` (relative to `dir`).
pub(super) fn read(benchmark: &DeclaredBenchmark, dir: &Path, columns: &QuestionColumns) -> Result<QuestionSet> {
    let mut images = Vec::new();
    list(dir, 0, &mut images)?;
    images.sort();
    if images.is_empty() {
        return Err(Error::failed(format!("{} holds no images", dir.display()))
            .hint(format!("images end in .{}; a table beside them is called metadata.jsonl", EXTENSIONS.join(", ."))));
    }
    let (values, image_columns) = columns.columns();
    let known = ["file", "name", "folder"];
    let unknown = |name: &&String| !known.contains(&name.trim_end_matches('?')) && !name.ends_with('?');
    if let Some(unknown) = values.iter().chain(&image_columns).find(unknown) {
        return Err(Error::usage(format!("{}: the column `{unknown}` is missing", dir.display()))
            .hint("a folder without metadata.jsonl has the columns file, name and folder"));
    }
    let rows = images.into_iter().enumerate().map(|(number, image)| row(dir, number, image));
    let mut next = 0;
    let read = read::rows(benchmark, rows, &dir.display().to_string(), |row| {
        benchmark.checked(columns, columns.questions(row, dir, &mut next)?)
    })?;
    let read = benchmark.with_image_size(columns, read)?;
    all_usable(&read, dir)?;
    Ok(read)
}

fn row(dir: &Path, number: usize, image: PathBuf) -> TableRow {
    let text = |path: Option<&std::ffi::OsStr>| path.unwrap_or_default().to_string_lossy().into_owned();
    let below = image.strip_prefix(dir).unwrap_or(&image);
    let folder = below.parent().map_or_else(String::new, |p| p.to_string_lossy().into_owned());
    let values: Map<String, Value> = [
        ("file".to_string(), Value::String(below.to_string_lossy().into_owned())),
        ("name".to_string(), Value::String(text(image.file_stem()))),
        ("folder".to_string(), Value::String(folder)),
    ]
    .into_iter()
    .collect();
    let place = image.display().to_string();
    let images = BTreeMap::from([("file".to_string(), vec![ImageLocation::File(image)])]);
    TableRow::new(place, number as u64, values, images)
}

fn list(dir: &Path, depth: usize, images: &mut Vec<PathBuf>) -> Result<()> {
    let step = || format!("listing {}", dir.display());
    if depth > DEEPEST {
        return Err(Error::failed(format!("folders are nested deeper than {DEEPEST}")).context(step()));
    }
    for entry in std::fs::read_dir(dir).with_context(step)? {
        let path = entry.with_context(step)?.path();
        if path.is_dir() {
            list(&path, depth + 1, images)?;
        } else if is_image(&path) {
            images.push(path);
        }
    }
    Ok(())
}
