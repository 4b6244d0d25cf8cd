//! CSV and TSV with a header. A picture is a path beside the file, or base64 in the cell; in VLMEvalKit's files a short
//! base64 cell names the `index` of the row that has the picture.

use super::{Columns, HandOn, check_columns, python_list, required};
use crate::picture::Cell;
use crate::{Picture, table::format_of};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use burgess_base::{Context, Error, Result};
use csv::{Position, Reader, ReaderBuilder, StringRecord};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::Path;

/// Cells up to this length cannot be a picture: they name the row that has it (VLMEvalKit's limit).
const REFERENCE: usize = 64;

/// Whether pictures lie in the cells of such a file.
pub fn is(file: &Path) -> bool {
    matches!(format_of(file), Some("tsv" | "csv"))
}

fn open(file: &Path, delimiter: u8) -> Result<(Reader<File>, StringRecord)> {
    let step = || format!("reading {}", file.display());
    // Fields of base64 can be of any length; rows may not be of different lengths.
    let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(File::open(file).with_context(step)?);
    let header = reader.headers().map_err(|e| Error::failed(e.to_string())).with_context(step)?.clone();
    let clean = header.iter().map(|name| name.trim_start_matches('\u{feff}').trim().to_string());
    Ok((reader, clean.collect()))
}

pub(super) fn read(file: &Path, delimiter: u8, columns: Columns<'_>, each: HandOn<'_>) -> Result<()> {
    let (mut reader, header) = open(file, delimiter)?;
    check_columns(file, columns, header.iter())?;
    let place = |name: &str| header.iter().position(|h| h == name);
    let values: Vec<(&str, usize)> =
        columns.values.iter().filter_map(|n| Some((required(n).0, place(required(n).0)?))).collect();
    let pictures: Vec<(&str, usize)> =
        columns.pictures.iter().filter_map(|n| Some((required(n).0, place(required(n).0)?))).collect();
    let index = place("index");
    // Where the picture of a row begins that others may refer to.
    let mut begins: HashMap<String, u64> = HashMap::new();
    let dir = file.parent().unwrap_or(Path::new(""));
    let mut record = StringRecord::new();
    loop {
        let at = reader.position().byte();
        match reader.read_record(&mut record) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(e) => return Err(Error::failed(format!("{}: {e}", file.display()))),
        }
        let cell = |i: usize| record.get(i).unwrap_or_default();
        let mut row = Map::new();
        for (name, i) in &values {
            row.insert((*name).to_string(), Value::String(cell(*i).to_string()));
        }
        let mut seen = BTreeMap::new();
        for (name, i) in &pictures {
            let text = cell(*i).trim();
            let is_path = text.len() <= 1024 && Path::new(text).extension().is_some() && dir.join(text).is_file();
            let found = |at, item| Picture::Cell(Cell { file: file.into(), column: (*name).to_string(), at, item });
            let of_row = match text {
                "" => Vec::new(),
                _ if is_path => vec![Picture::File(dir.join(text))],
                _ if text.starts_with('[') => {
                    let count = python_list(text).map_or(0, |list| list.len());
                    (0..count as u32).map(|item| found(at, Some(item))).collect()
                }
                _ if text.len() > REFERENCE => {
                    if let Some(index) = index {
                        begins.insert(cell(index).trim().to_string(), at);
                    }
                    vec![found(at, None)]
                }
                _ => match begins.get(text) {
                    Some(at) => vec![found(*at, None)],
                    None => {
                        return Err(Error::failed(format!(
                            "{}: the column `{name}` of the row at byte {at} holds {text:?}, which is no picture file, no base64 and no index of an earlier row",
                            file.display()
                        )));
                    }
                },
            };
            seen.insert((*name).to_string(), of_row);
        }
        each(row, seen)?;
    }
}

/// The pictures of these cells of one column, in their order.
pub fn pictures(file: &Path, column: &str, cells: &[&Cell]) -> Result<Vec<Result<Vec<u8>>>> {
    let delimiter = if format_of(file) == Some("csv") { b',' } else { b'\t' };
    let (mut reader, header) = open(file, delimiter)?;
    let place = header.iter().position(|h| h == column);
    let place = place.ok_or_else(|| Error::failed(format!("{} has no column `{column}`", file.display())))?;
    let mut record = StringRecord::new();
    let mut fetch = |cell: &Cell| -> Result<Vec<u8>> {
        let mut at = Position::new();
        at.set_byte(cell.at);
        let step = || format!("reading {}#{column}/{}", file.display(), cell.at);
        let read = reader.seek(at).and_then(|()| reader.read_record(&mut record));
        if !read.map_err(|e| Error::failed(e.to_string())).with_context(step)? {
            return Err(Error::failed("the file ends before").context(step()));
        }
        let text = record.get(place).unwrap_or_default().trim();
        let text = match cell.item {
            None => text.to_string(),
            Some(item) => python_list(text)
                .and_then(|list| list.into_iter().nth(item as usize))
                .ok_or_else(|| Error::failed(format!("there is no picture {item}")).context(step()))?,
        };
        STANDARD.decode(text.trim()).map_err(|e| Error::failed(format!("no base64: {e}")).context(step()))
    };
    Ok(cells.iter().map(|cell| fetch(cell)).collect())
}
