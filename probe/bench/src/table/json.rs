//! Reads JSON lines, or one JSON array of objects. Images are paths relative to the file.

use super::columns::{Cells, RowCallback, TableColumns, check_columns, required};
use crate::image_location::ImageLocation;
use crate::json_value::describe;
use crate::rows;
use burgess_base::{Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

pub(super) fn read(file: &Path, columns: TableColumns<'_>, each: RowCallback<'_>) -> Result<()> {
    rows::for_each(file, &mut |row| {
        each(match &row.value {
            Value::Object(object) => cells(file, object, columns),
            other => Err(Error::failed(format!("expected an object, found {}", describe(other)))),
        })
    })
}

fn cells(file: &Path, object: &Map<String, Value>, columns: TableColumns<'_>) -> Result<Cells> {
    check_columns(file, columns, object.keys().map(String::as_str))?;
    let dir = file.parent().unwrap_or(Path::new(""));
    let mut values = Map::new();
    for name in columns.values {
        let (name, _) = required(name);
        if let Some(value) = object.get(name) {
            values.insert(name.to_string(), value.clone());
        }
    }
    let mut images = BTreeMap::new();
    for name in columns.images {
        let (name, _) = required(name);
        let paths: Vec<&Value> = match object.get(name) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(list)) => list.iter().collect(),
            Some(one) => vec![one],
        };
        let of = |value: &Value| match value {
            Value::String(path) if !path.is_empty() => Ok(ImageLocation::File(dir.join(path))),
            other => {
                Err(Error::failed(format!("the column `{name}` must hold paths of images, found {}", describe(other))))
            }
        };
        images.insert(name.to_string(), paths.into_iter().map(of).collect::<Result<Vec<_>>>()?);
    }
    Ok((values, images))
}
