//! JSON lines, or one JSON array of objects. Pictures are paths beside the file.

use super::{Columns, HandOn, check_columns, required};
use crate::Picture;
use crate::read::{for_each_object, kind};
use burgess_base::{Context, Error, Result};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

pub(super) fn read(file: &Path, columns: Columns<'_>, each: HandOn<'_>) -> Result<()> {
    let step = || format!("reading {}", file.display());
    let mut text = BufReader::new(File::open(file).with_context(step)?);
    let begins = text.fill_buf().with_context(step)?.iter().find(|b| !b.is_ascii_whitespace()).copied();
    if begins != Some(b'[') {
        drop(text);
        return for_each_object(file, |_, object| row(file, object, columns, each));
    }
    // Annotation files of one array are of a size that fits: pictures are not in them.
    let all: Vec<Value> = serde_json::from_reader(text).with_context(step)?;
    for (index, value) in all.iter().enumerate() {
        match value {
            Value::Object(object) => row(file, object, columns, each)?,
            other => {
                let message =
                    format!("{} item {}: expected an object, found {}", file.display(), index + 1, kind(other));
                return Err(Error::failed(message));
            }
        }
    }
    Ok(())
}

fn row(file: &Path, object: &Map<String, Value>, columns: Columns<'_>, each: HandOn<'_>) -> Result<()> {
    check_columns(file, columns, object.keys().map(String::as_str))?;
    let dir = file.parent().unwrap_or(Path::new(""));
    let mut values = Map::new();
    for name in columns.values {
        let (name, _) = required(name);
        if let Some(value) = object.get(name) {
            values.insert(name.to_string(), value.clone());
        }
    }
    let mut pictures = BTreeMap::new();
    for name in columns.pictures {
        let (name, _) = required(name);
        let paths: Vec<&Value> = match object.get(name) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(list)) => list.iter().collect(),
            Some(one) => vec![one],
        };
        let of = |value: &Value| match value {
            Value::String(path) if !path.is_empty() => Ok(Picture::File(dir.join(path))),
            other => {
                Err(Error::failed(format!("the column `{name}` must hold paths of pictures, found {}", kind(other))))
            }
        };
        pictures.insert(name.to_string(), paths.into_iter().map(of).collect::<Result<Vec<_>>>()?);
    }
    each(values, pictures)
}
