//! File formats of tables.

use std::path::Path;

/// File formats in order of preference: if a folder has several, only the first is read.
pub(super) const FORMATS: [&str; 5] = ["parquet", "jsonl", "json", "tsv", "csv"];

/// Returns the format of a file by its extension; `None` if it is not a table.
pub(super) fn format_of(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?;
    FORMATS.into_iter().find(|f| *f == extension)
}
