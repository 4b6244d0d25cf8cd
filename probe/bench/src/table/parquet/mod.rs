//! Reads parquet files as the hub publishes them: images are structs `{bytes, path}`, lists of these, binary columns,
//! or columns of base64 text.
//!
//! Reading rows skips the image bytes; they are fetched by row when they are needed.
//!
//! The file is validated ([`check`]) before the reader is called, and the reader runs behind a panic guard. Text and
//! bytes are read as views into their pages, so that a value that many rows share is stored once.

mod check;
mod thrift;

use super::columns::{Cells, RowCallback, TableColumn, TableColumns, check_columns, required};
use crate::image_location::{ImageCell, ImageLocation};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use burgess_base::{Context, Error, Result, files, guard};
use check::Footer;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection,
    RowSelector,
};
use parquet::file::metadata::RowGroupMetaData;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Maximum number of rows that are held at a time.
const ROWS: usize = 256;

/// Maximum size of the pages of the held rows, in bytes; fewer rows are held if rows are larger.
const HELD: u64 = 256 << 20;

/// Maximum text of the cells of one row, and of all rows for small files, in bytes.
const ROW_TEXT: u64 = 64 << 20;
const ALL_TEXT: u64 = 256 << 20;

/// Maximum ratio of the cells' total text to the file's size, because many rows can share one text of the file.
const TEXT_RATIO: u64 = 64;

type Builder = ParquetRecordBatchReaderBuilder<File>;

/// Opens the file: the reader's builder, the validated footer, and a second handle for the checks of pages.
fn open(file: &Path) -> Result<(Builder, Footer, File)> {
    let step = || format!("reading {}", file.display());
    let mut handle = files::open(file).with_context(step)?;
    let footer = check::footer(&mut handle, file)?;
    let second = handle.try_clone().with_context(step)?;
    let builder = guarded(file, move || -> Result<Builder, parquet::errors::ParquetError> {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let plain = ArrowReaderMetadata::load(&handle, options)?;
        let views = Arc::new(Schema::new(plain.schema().fields().iter().map(view).collect::<Vec<_>>()));
        let viewed =
            ArrowReaderMetadata::try_new(plain.metadata().clone(), ArrowReaderOptions::new().with_schema(views))?;
        Ok(ParquetRecordBatchReaderBuilder::new_with_metadata(handle, viewed))
    })?;
    Ok((builder, footer, second))
}

/// Returns the same field with text and bytes as view types.
fn view(field: &FieldRef) -> FieldRef {
    let of = |fields: &Fields| fields.iter().map(view).collect::<Fields>();
    let kind = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
        DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
        DataType::List(item) => DataType::List(view(item)),
        DataType::LargeList(item) => DataType::LargeList(view(item)),
        DataType::Struct(fields) => DataType::Struct(of(fields)),
        _ => return field.clone(),
    };
    Arc::new(Field::clone(field).with_data_type(kind))
}

/// Calls the library and converts its panics and errors.
fn guarded<T>(file: &Path, call: impl FnOnce() -> Result<T, parquet::errors::ParquetError>) -> Result<T> {
    let name = file.display().to_string();
    guard::third_party(&name, call)
        .map_err(|e| e.hint(DAMAGED))?
        .map_err(|e| damaged(&e).context(format!("reading {name}")))
}

/// Returns the next batch of a reader, called behind the panic guard.
fn next(file: &Path, batches: &mut ParquetRecordBatchReader, row: u64) -> Result<Option<RecordBatch>> {
    let name = format!("{} after row {row}", file.display());
    match guard::third_party(&name, || batches.next()).map_err(|e| e.hint(DAMAGED))? {
        None => Ok(None),
        Some(batch) => batch.map(Some).map_err(|e| damaged(&e).context(name)),
    }
}

const DAMAGED: &str = "the file is incomplete or damaged: download it again";

fn damaged(e: &dyn std::fmt::Display) -> Error {
    Error::failed(e.to_string()).hint(DAMAGED)
}

/// Returns the leaf columns of an image column to read: its bytes, or else those that tell which images exist.
fn leaves_of(builder: &Builder, column: &str, bytes: bool) -> Vec<usize> {
    let columns = builder.parquet_schema().columns().iter().enumerate();
    let of_column = columns.filter(|(_, leaf)| leaf.path().parts().first().is_some_and(|p| p == column));
    let (inside, beside): (Vec<_>, Vec<_>) =
        of_column.partition(|(_, leaf)| leaf.path().parts().last().is_some_and(|p| p == "bytes"));
    let chosen = if (bytes && !inside.is_empty()) || beside.is_empty() { inside } else { beside };
    chosen.into_iter().map(|(leaf, _)| leaf).collect()
}

/// Returns whether every row has a value in a column that is neither a structure nor a list, according to the footer.
/// Then the rows can be listed without reading the column, which may hold gigabytes of images.
fn is_complete(builder: &Builder, column: &str) -> bool {
    let columns = builder.parquet_schema().columns();
    let Some(leaf) = columns.iter().position(|leaf| leaf.path().parts() == [column]) else { return false };
    let optional = columns.get(leaf).is_none_or(|leaf| leaf.max_rep_level() > 0 || leaf.max_def_level() > 0);
    let groups = builder.metadata().row_groups();
    let nulls =
        |group: &RowGroupMetaData| group.columns().get(leaf).and_then(|chunk| chunk.statistics()?.null_count_opt());
    !optional || groups.iter().all(|group| nulls(group) == Some(0))
}

pub(super) fn read(file: &Path, columns: TableColumns<'_>, each: RowCallback<'_>) -> Result<()> {
    let (builder, footer, mut handle) = open(file)?;
    let schema = builder.schema().clone();
    check_columns(file, columns, schema.fields().iter().map(|f| f.name().as_str()))?;
    let there = |names: &[&str]| -> Vec<String> {
        let known = names.iter().map(|name| required(name).0).filter(|name| schema.index_of(name).is_ok());
        known.map(String::from).collect()
    };
    let (values, images) = (there(columns.values), there(columns.images));
    for name in &images {
        check_image_column(file, name, &schema)?;
    }
    let (complete, partial): (Vec<String>, Vec<String>) =
        images.into_iter().partition(|name| is_complete(&builder, name) && !values.contains(name));
    let mut leaves: BTreeSet<usize> = partial.iter().flat_map(|name| leaves_of(&builder, name, false)).collect();
    for (leaf, column) in builder.parquet_schema().columns().iter().enumerate() {
        if column.path().parts().first().is_some_and(|root| values.contains(root)) {
            leaves.insert(leaf);
        }
    }
    let needed: Vec<usize> = leaves.iter().copied().collect();
    let row_bytes = footer.pages(&mut handle, file, &footer.all(), &needed)?;
    let held = usize::try_from(HELD / row_bytes.max(1)).unwrap_or(ROWS).clamp(1, ROWS);
    let mask = ProjectionMask::leaves(builder.parquet_schema(), leaves);
    let mut batches = guarded(file, || builder.with_projection(mask).with_batch_size(held).build())?;
    let most = handle.metadata().map_or(0, |m| m.len()).saturating_mul(TEXT_RATIO).max(ALL_TEXT);
    let (mut at, mut text) = (0, 0_u64);
    while let Some(batch) = next(file, &mut batches, at)? {
        for i in 0..batch.num_rows() {
            let mut left = ROW_TEXT;
            let mut cells = || -> Result<Cells> {
                let mut row = Map::new();
                for name in &values {
                    if let Some(column) = batch.column_by_name(name) {
                        let cell = cell(column, i, &mut left).map_err(|e| e.context(format!("the column `{name}`")))?;
                        row.insert(name.clone(), cell);
                    }
                }
                let whole = |name: &String| {
                    let cell = ImageCell { file: file.into(), column: name.clone(), at, item: None };
                    (name.clone(), vec![ImageLocation::Cell(cell)])
                };
                let found = partial.iter().map(|name| (name.clone(), named(&batch, name, i, file, at)));
                Ok((row, complete.iter().map(whole).chain(found).collect()))
            };
            let cells = cells();
            text += ROW_TEXT - left;
            if text > most {
                let most = files::format_bytes(most);
                return Err(Error::failed(format!("the text of its first {} rows is more than {most}", at + 1))
                    .context(format!("reading {}", file.display())));
            }
            each(cells)?;
            at += 1;
        }
    }
    Ok(())
}

/// Returns the columns of a file.
pub(super) fn columns(file: &Path) -> Result<Vec<TableColumn>> {
    let (builder, _, _) = open(file)?;
    let of = |field: &FieldRef| TableColumn { name: field.name().clone(), images: holds_images(field.data_type()) };
    Ok(builder.schema().fields().iter().map(of).collect())
}

/// Returns whether a column holds images: a struct with bytes, bytes alone, or a list of one of them.
fn holds_images(kind: &DataType) -> bool {
    match kind {
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
        DataType::Struct(fields) => fields.iter().any(|f| f.name() == "bytes" && holds_images(f.data_type())),
        DataType::List(item) | DataType::LargeList(item) => holds_images(item.data_type()),
        _ => false,
    }
}

/// Returns whether a column holds text, which may be an image as base64.
fn holds_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Checks that a column can hold images.
fn check_image_column(file: &Path, name: &str, schema: &Schema) -> Result<()> {
    let kind = schema.field_with_name(name).map_err(|e| Error::failed(e.to_string()))?.data_type();
    match holds_images(kind) || holds_text(kind) {
        true => Ok(()),
        false => {
            let found = in_words(kind);
            Err(Error::failed(format!("{}: the column `{name}` must hold images, found {found}", file.display()))
                .hint("an image is a struct with `bytes`, binary, or base64 text"))
        }
    }
}

/// Describes the type of a column in words.
fn in_words(kind: &DataType) -> &'static str {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "bytes",
        DataType::Boolean => "booleans",
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _) => "lists",
        DataType::Struct(_) => "structures",
        DataType::Map(_, _) => "maps",
        DataType::Null => "nothing",
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => "dates",
        DataType::Time32(_) | DataType::Time64(_) | DataType::Duration(_) | DataType::Interval(_) => "times",
        kind if kind.is_numeric() => "numbers",
        _ => "values of another type",
    }
}

/// Returns the references to the images of row `i`.
fn named(batch: &RecordBatch, column: &str, i: usize, file: &Path, at: u64) -> Vec<ImageLocation> {
    let Some(array) = batch.column_by_name(column).filter(|a| !a.is_null(i)) else { return Vec::new() };
    let one = |item| ImageLocation::Cell(ImageCell { file: file.into(), column: column.into(), at, item });
    match items(array, i) {
        None => vec![one(None)],
        Some(list) => (0..list.len()).map(|item| one(Some(item as u32))).collect(),
    }
}

/// Returns the list in a cell, if it is one.
fn items(array: &ArrayRef, i: usize) -> Option<ArrayRef> {
    match array.data_type() {
        DataType::List(_) => Some(array.as_list::<i32>().value(i)),
        DataType::LargeList(_) => Some(array.as_list::<i64>().value(i)),
        _ => None,
    }
}

/// Converts a cell to JSON, with at most `left` bytes of text.
fn cell(array: &ArrayRef, i: usize, left: &mut u64) -> Result<Value> {
    if array.is_null(i) {
        return Ok(Value::Null);
    }
    if let Some(list) = items(array, i) {
        return (0..list.len()).map(|k| cell(&list, k, left)).collect::<Result<Vec<_>>>().map(Value::Array);
    }
    let mut text = |text: &str| -> Result<Value> {
        *left = left.checked_sub(text.len() as u64).ok_or_else(|| {
            Error::failed(format!("the cells of one row have more than {} of text", files::format_bytes(ROW_TEXT)))
        })?;
        Ok(text.into())
    };
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Utf8 => text(array.as_string::<i32>().value(i))?,
        DataType::LargeUtf8 => text(array.as_string::<i64>().value(i))?,
        DataType::Utf8View => text(array.as_string_view().value(i))?,
        DataType::Boolean => array.as_boolean().value(i).into(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(i).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(i).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(i).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(i).into(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(i).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(i).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(i).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(i).into(),
        DataType::Float32 => array.as_primitive::<Float32Type>().value(i).into(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(i).into(),
        DataType::Struct(fields) => {
            let parts = array.as_struct();
            let mut object = Map::new();
            for (field, column) in fields.iter().zip(parts.columns()) {
                object.insert(field.name().clone(), cell(column, i, left)?);
            }
            Value::Object(object)
        }
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            let key = dictionary.normalized_keys().get(i).copied().unwrap_or_default();
            return cell(dictionary.values(), key, left);
        }
        other => return Err(Error::failed(format!("{} of this type are not supported", in_words(other)))),
    })
}

/// Reads the images of these cells of one column, in their order.
pub(super) fn images(file: &Path, column: &str, cells: &[&ImageCell]) -> Result<Vec<Result<Vec<u8>>>> {
    let (builder, footer, mut handle) = open(file)?;
    let schema = builder.schema().clone();
    check_columns(
        file,
        TableColumns { values: &[], images: &[column] },
        schema.fields().iter().map(|f| f.name().as_str()),
    )?;
    let rows: BTreeSet<u64> = cells.iter().map(|cell| cell.at).collect();
    let wanted: BTreeSet<(u64, Option<u32>)> = cells.iter().map(|cell| (cell.at, cell.item)).collect();
    let total: u64 = builder.metadata().row_groups().iter().map(|g| g.num_rows().max(0) as u64).sum();
    let leaves = leaves_of(&builder, column, true);
    let within: Vec<u64> = rows.into_iter().filter(|row| *row < total).collect();
    let row_bytes = footer.pages(&mut handle, file, &footer.groups_of(&within), &leaves)?;
    let held = usize::try_from(HELD / row_bytes.max(1)).unwrap_or(16).clamp(1, 16).min(within.len().max(1));
    let mask = ProjectionMask::leaves(builder.parquet_schema(), leaves);
    let mut selectors = Vec::new();
    let mut next_row = 0;
    for row in &within {
        selectors.push(RowSelector::skip((row - next_row) as usize));
        selectors.push(RowSelector::select(1));
        next_row = row + 1;
    }
    let step = || format!("reading {}#{column}", file.display());
    let mut batches = guarded(file, || {
        builder.with_projection(mask).with_row_selection(RowSelection::from(selectors)).with_batch_size(held).build()
    })?;
    let most = handle.metadata().map_or(0, |m| m.len()).saturating_mul(TEXT_RATIO).max(ALL_TEXT);
    let mut fetched = 0_u64;
    let mut of_row: BTreeMap<(u64, Option<u32>), Result<Vec<u8>, String>> = BTreeMap::new();
    let mut read = within.iter();
    while let Some(batch) = next(file, &mut batches, 0)? {
        let array = batch
            .column_by_name(column)
            .ok_or_else(|| damaged(&"a column is missing in a batch"))
            .with_context(step)?;
        for (i, row) in (0..batch.num_rows()).zip(read.by_ref()) {
            let found: Vec<(Option<u32>, ArrayRef, usize)> = match items(array, i) {
                None => vec![(None, array.clone(), i)],
                Some(list) => (0..list.len()).map(|k| (Some(k as u32), list.clone(), k)).collect(),
            };
            for (item, array, k) in found.into_iter().filter(|(item, _, _)| wanted.contains(&(*row, *item))) {
                let Some(bytes) = bytes(&array, k).transpose() else { continue };
                fetched += bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
                if fetched > most {
                    let most = files::format_bytes(most);
                    return Err(
                        Error::failed(format!("the images to read take more than {most} in total")).context(step())
                    );
                }
                of_row.insert((*row, item), bytes.map_err(|e| e.to_string()));
            }
        }
    }
    let of = |cell: &&ImageCell| match of_row.get(&(cell.at, cell.item)) {
        Some(Ok(bytes)) => Ok(bytes.clone()),
        Some(Err(e)) => Err(Error::failed(format!("{}: {e}", ImageLocation::Cell((*cell).clone())))),
        None => Err(Error::failed(format!("{} contains no image bytes", ImageLocation::Cell((*cell).clone())))
            .hint("the cell contains only a path: download the edition of the dataset with the images inside")),
    };
    Ok(cells.iter().map(of).collect())
}

/// Returns the bytes of an image; `None` if the cell is empty. Text is decoded as base64.
fn bytes(array: &ArrayRef, i: usize) -> Result<Option<Vec<u8>>> {
    if array.is_null(i) {
        return Ok(None);
    }
    let text = match array.data_type() {
        DataType::Binary => return Ok(Some(array.as_binary::<i32>().value(i).to_vec())),
        DataType::LargeBinary => return Ok(Some(array.as_binary::<i64>().value(i).to_vec())),
        DataType::BinaryView => return Ok(Some(array.as_binary_view().value(i).to_vec())),
        DataType::Struct(_) => {
            let inside = array.as_struct().column_by_name("bytes");
            return inside.map_or(Ok(None), |inside| bytes(inside, i));
        }
        DataType::Utf8 => array.as_string::<i32>().value(i),
        DataType::LargeUtf8 => array.as_string::<i64>().value(i),
        DataType::Utf8View => array.as_string_view().value(i),
        _ => return Ok(None),
    };
    match text.trim() {
        "" => Ok(None),
        text => {
            STANDARD.decode(text).map(Some).map_err(|e| Error::failed(format!("the cell is not valid base64: {e}")))
        }
    }
}

#[cfg(test)]
mod tests;
