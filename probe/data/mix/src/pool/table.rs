//! Reads the rows of a parquet table as entries. The bytes of images are not read.
//!
//! The columns are those of LLaVA-OneVision (`id`, `image`, `conversations`, `data_source`), FineVision (`images`,
//! `texts`, `source`, four lists of ratings with their minima) and The Cauldron (`images`, `texts` with a `source` in
//! each). A row's columns become the fields of a JSON object, which is parsed as one of a JSON file.

use super::batch::{BatchSender, BesideImage};
use super::ratings::RATINGS;
use burgess_base::{Error, Result};
use burgess_bench::ImageLocation;
use burgess_bench::table::{DatasetTable, TableColumns, parquet_columns};
use serde_json::Value;
use std::path::Path;

/// The columns that are read if a table has them, apart from ratings.
const COLUMNS: [&str; 7] = ["id", "image", "images", "source", "data_source", "kind", "video"];

/// The columns of which a table must have one.
const TURNS: [&str; 2] = ["conversations", "texts"];

/// Reads a table.
///
/// # Errors
/// An error is returned if the file is damaged or has no conversations, or if the receiver stops.
pub(super) fn read(file: &Path, out: &mut BatchSender<'_>) -> Result<()> {
    let columns = parquet_columns(file)?;
    let has = |name: &str| columns.iter().any(|column| column.name == name);
    if !TURNS.iter().any(|name| has(name)) {
        let names: Vec<&str> = columns.iter().take(20).map(|c| c.name.as_str()).collect();
        return Err(Error::failed(format!(
            "the table has neither a column `conversations` nor `texts`, but {}",
            names.join(", ")
        )));
    }
    let holds_images = |name: &&str| columns.iter().any(|c| c.name == **name && c.images);
    let images: Vec<&str> = COLUMNS.into_iter().filter(holds_images).collect();
    let ratings: Vec<String> = RATINGS.iter().flat_map(|r| [format!("{r}_ratings"), format!("{r}_min")]).collect();
    let known = COLUMNS.into_iter().chain(TURNS).chain(ratings.iter().map(String::as_str));
    let values: Vec<&str> = known.filter(|name| has(name) && !images.contains(name)).collect();
    let mut json = Vec::new();
    DatasetTable::find(file, "", "")?.rows(TableColumns { values: &values, images: &images }, |place, row| {
        let offset = place.row - 1;
        if !out.wants(offset) {
            return Ok(());
        }
        let row = match row {
            Ok(row) => row,
            Err(e) => return out.skip(place.row, "a row cannot be read", e.to_string()),
        };
        json.clear();
        json.push(b'{');
        for name in &values {
            let Some(value) = row.value(name) else { continue };
            if json.len() > 1 {
                json.extend_from_slice(b", ");
            }
            serde_json::to_writer(&mut json, name)?;
            json.extend_from_slice(b": ");
            match value {
                // Some tables hold the turns as JSON in a text. It is checked alone, so that it stays one value of the row.
                Value::String(text) if TURNS.contains(name) && text.trim_start().starts_with('[') => {
                    if let Err(e) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
                        let detail = format!("column `{name}`: {e}");
                        return out.skip(place.row, "the turns are text that is not a JSON list", detail);
                    }
                    json.extend_from_slice(text.as_bytes());
                }
                value => serde_json::to_writer(&mut json, value)?,
            }
        }
        json.push(b'}');
        let mut beside = Vec::new();
        for column in &images {
            beside.extend(row.images(column).iter().filter_map(|image| match image {
                ImageLocation::Cell(cell) => Some(BesideImage::Cell { column: (*column).to_string(), item: cell.item }),
                ImageLocation::File(_) => None,
            }));
        }
        let text = std::str::from_utf8(&json)?;
        out.entry(offset, place.row, text, beside)
    })
}
