//! The columns to read from a table, and the form in which the readers of all formats return a row.

use crate::image_location::ImageLocation;
use burgess_base::text::excerpt;
use burgess_base::{Error, Result, nearest};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// The columns to read. A name that ends in `?` is optional.
#[derive(Debug, Clone, Copy)]
pub struct TableColumns<'a> {
    /// Columns of text, numbers or lists.
    pub values: &'a [&'a str],
    /// Columns of an image or a list of images.
    pub images: &'a [&'a str],
}

/// A column that a parquet file has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableColumn {
    /// The name.
    pub name: String,
    /// Whether it holds images or lists of images as bytes.
    pub images: bool,
}

/// Number of columns that an error lists.
const COLUMNS_SHOWN: usize = 40;

/// The cells of a row by column, and its images by column.
pub(super) type Cells = (Map<String, Value>, BTreeMap<String, Vec<ImageLocation>>);

/// Callback that takes a row, or the error in it.
pub(super) type RowCallback<'a> = &'a mut dyn FnMut(Result<Cells>) -> Result<()>;

/// Splits a column's name into the name and whether the column is required.
pub(super) fn required(name: &str) -> (&str, bool) {
    name.strip_suffix('?').map_or((name, true), |name| (name, false))
}

/// Checks that a table has the required columns.
pub(super) fn check_columns<'a>(
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
