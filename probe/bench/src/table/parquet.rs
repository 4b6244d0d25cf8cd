//! Parquet files as the hub publishes them: pictures are structs `{bytes, path}`, lists of such, or plain binary columns.
//!
//! Reading rows leaves the pictures' bytes in the file; they are fetched by row when they are needed.

use super::{Columns, HandOn, check_columns, format_of, required};
use crate::Picture;
use crate::picture::Cell;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, Schema};
use burgess_base::{Context, Error, Result};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

/// Rows that are held at a time.
const ROWS: usize = 256;

/// Whether this is the name of a parquet file.
pub fn is(file: &Path) -> bool {
    format_of(file) == Some("parquet")
}

fn open(file: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let step = || format!("reading {}", file.display());
    let handle = File::open(file).with_context(step)?;
    ParquetRecordBatchReaderBuilder::try_new(handle).map_err(|e| damaged(&e)).with_context(step)
}

fn damaged(e: &dyn std::fmt::Display) -> Error {
    Error::failed(e.to_string()).hint("the file is incomplete or damaged: get it again")
}

/// The leaves of a picture column that say which pictures there are: all but the bytes, where something else is there.
fn leaves_of(builder: &ParquetRecordBatchReaderBuilder<File>, column: &str, bytes: bool) -> Vec<usize> {
    let columns = builder.parquet_schema().columns().iter().enumerate();
    let of_column = columns.filter(|(_, leaf)| leaf.path().parts().first().is_some_and(|p| p == column));
    let (inside, beside): (Vec<_>, Vec<_>) =
        of_column.partition(|(_, leaf)| leaf.path().parts().last().is_some_and(|p| p == "bytes"));
    let chosen = if (bytes && !inside.is_empty()) || beside.is_empty() { inside } else { beside };
    chosen.into_iter().map(|(leaf, _)| leaf).collect()
}

pub(super) fn read(file: &Path, columns: Columns<'_>, each: HandOn<'_>) -> Result<()> {
    let builder = open(file)?;
    let schema = builder.schema().clone();
    check_columns(file, columns, schema.fields().iter().map(|f| f.name().as_str()))?;
    let there = |names: &[&str]| -> Vec<String> {
        let known = names.iter().map(|name| required(name).0).filter(|name| schema.index_of(name).is_ok());
        known.map(String::from).collect()
    };
    let (values, pictures) = (there(columns.values), there(columns.pictures));
    for name in &pictures {
        check_picture_column(file, name, &schema)?;
    }
    let mut leaves: BTreeSet<usize> = pictures.iter().flat_map(|name| leaves_of(&builder, name, false)).collect();
    for (leaf, column) in builder.parquet_schema().columns().iter().enumerate() {
        if column.path().parts().first().is_some_and(|root| values.contains(root)) {
            leaves.insert(leaf);
        }
    }
    let mask = ProjectionMask::leaves(builder.parquet_schema(), leaves);
    let step = || format!("reading {}", file.display());
    let batches =
        builder.with_projection(mask).with_batch_size(ROWS).build().map_err(|e| damaged(&e)).with_context(step)?;
    let mut at = 0;
    for batch in batches {
        let batch = batch.map_err(|e| damaged(&e)).with_context(|| format!("{} after row {at}", file.display()))?;
        for i in 0..batch.num_rows() {
            let mut row = Map::new();
            for name in &values {
                if let Some(column) = batch.column_by_name(name) {
                    row.insert(
                        name.clone(),
                        cell(column, i).map_err(|e| e.context(format!("{} column `{name}`", file.display())))?,
                    );
                }
            }
            let seen = pictures.iter().map(|name| (name.clone(), named(&batch, name, i, file, at))).collect();
            each(row, seen)?;
            at += 1;
        }
    }
    Ok(())
}

/// A picture is a struct with bytes, bytes alone, or a list of one of them.
fn check_picture_column(file: &Path, name: &str, schema: &Schema) -> Result<()> {
    fn fits(kind: &DataType) -> bool {
        match kind {
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => true,
            DataType::Struct(fields) => fields.iter().any(|f| f.name() == "bytes" && fits(f.data_type())),
            DataType::List(item) | DataType::LargeList(item) => fits(item.data_type()),
            _ => false,
        }
    }
    let kind = schema.field_with_name(name).map_err(|e| Error::failed(e.to_string()))?.data_type();
    match fits(kind) {
        true => Ok(()),
        false => Err(Error::failed(format!("{}: the column `{name}` holds no pictures but {kind}", file.display()))
            .hint("a picture is a struct with `bytes`, or binary")),
    }
}

/// The pictures that a row has, by name.
fn named(batch: &RecordBatch, column: &str, i: usize, file: &Path, at: u64) -> Vec<Picture> {
    let Some(array) = batch.column_by_name(column).filter(|a| !a.is_null(i)) else { return Vec::new() };
    let one = |item| Picture::Cell(Cell { file: file.into(), column: column.into(), at, item });
    match items(array, i) {
        None => vec![one(None)],
        Some(list) => (0..list.len()).map(|item| one(Some(item as u32))).collect(),
    }
}

/// The list in a cell, if it is one.
fn items(array: &ArrayRef, i: usize) -> Option<ArrayRef> {
    match array.data_type() {
        DataType::List(_) => Some(array.as_list::<i32>().value(i)),
        DataType::LargeList(_) => Some(array.as_list::<i64>().value(i)),
        _ => None,
    }
}

/// A cell as JSON.
fn cell(array: &ArrayRef, i: usize) -> Result<Value> {
    if array.is_null(i) {
        return Ok(Value::Null);
    }
    if let Some(list) = items(array, i) {
        return (0..list.len()).map(|k| cell(&list, k)).collect::<Result<Vec<_>>>().map(Value::Array);
    }
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Utf8 => array.as_string::<i32>().value(i).into(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(i).into(),
        DataType::Utf8View => array.as_string_view().value(i).into(),
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
                object.insert(field.name().clone(), cell(column, i)?);
            }
            Value::Object(object)
        }
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            let key = dictionary.normalized_keys().get(i).copied().unwrap_or_default();
            return cell(dictionary.values(), key);
        }
        other => return Err(Error::failed(format!("cells of type {other} cannot be read"))),
    })
}

/// The pictures of these cells of one column, in their order.
pub fn pictures(file: &Path, column: &str, cells: &[&Cell]) -> Result<Vec<Result<Vec<u8>>>> {
    let builder = open(file)?;
    let schema = builder.schema().clone();
    check_columns(
        file,
        Columns { values: &[], pictures: &[column] },
        schema.fields().iter().map(|f| f.name().as_str()),
    )?;
    let rows: BTreeSet<u64> = cells.iter().map(|cell| cell.at).collect();
    let total: u64 = builder.metadata().row_groups().iter().map(|g| g.num_rows().max(0) as u64).sum();
    let mask = ProjectionMask::leaves(builder.parquet_schema(), leaves_of(&builder, column, true));
    let mut selectors = Vec::new();
    let mut next = 0;
    let within: Vec<u64> = rows.into_iter().filter(|row| *row < total).collect();
    for row in &within {
        selectors.push(RowSelector::skip((row - next) as usize));
        selectors.push(RowSelector::select(1));
        next = row + 1;
    }
    let step = || format!("reading {}#{column}", file.display());
    let batches = builder
        .with_projection(mask)
        .with_row_selection(RowSelection::from(selectors))
        .with_batch_size(within.len().clamp(1, 16))
        .build()
        .map_err(|e| damaged(&e))
        .with_context(step)?;
    let mut of_row: BTreeMap<(u64, Option<u32>), Vec<u8>> = BTreeMap::new();
    let mut read = within.iter();
    for batch in batches {
        let batch = batch.map_err(|e| damaged(&e)).with_context(step)?;
        let array = batch.column_by_name(column).ok_or_else(|| damaged(&"a column is gone")).with_context(step)?;
        for (i, row) in (0..batch.num_rows()).zip(read.by_ref()) {
            match items(array, i) {
                None => of_row.extend(bytes(array, i).map(|b| ((*row, None), b))),
                Some(list) => {
                    let each = (0..list.len()).filter_map(|k| Some(((*row, Some(k as u32)), bytes(&list, k)?)));
                    of_row.extend(each);
                }
            }
        }
    }
    let of = |cell: &&Cell| {
        of_row.get(&(cell.at, cell.item)).cloned().ok_or_else(|| {
            Error::failed(format!("{} holds no bytes", Picture::Cell((*cell).clone())))
                .hint("only a path is written there: get the edition of the dataset with the pictures inside")
        })
    };
    Ok(cells.iter().map(of).collect())
}

fn bytes(array: &ArrayRef, i: usize) -> Option<Vec<u8>> {
    if array.is_null(i) {
        return None;
    }
    match array.data_type() {
        DataType::Binary => Some(array.as_binary::<i32>().value(i).to_vec()),
        DataType::LargeBinary => Some(array.as_binary::<i64>().value(i).to_vec()),
        DataType::BinaryView => Some(array.as_binary_view().value(i).to_vec()),
        DataType::Struct(_) => array.as_struct().column_by_name("bytes").and_then(|b| bytes(b, i)),
        _ => None,
    }
}
