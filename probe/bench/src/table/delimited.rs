//! Reads CSV and TSV with a header. An image is a path relative to the file, or base64 in the cell; in VLMEvalKit's
//! files a short cell is the `index` of the row that holds the image.

use super::columns::{Cells, RowCallback, TableColumns, check_columns, required};
use super::format::format_of;
use super::python_list::python_list;
use crate::image_location::{ImageCell, ImageLocation};
use crate::rows;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use burgess_base::files::{self, RowBudget, RowLimitedReader};
use burgess_base::text::excerpt;
use burgess_base::{Context, Error, Result};
use csv::{ByteRecord, Position, Reader, ReaderBuilder, StringRecord};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

/// Maximum length of a cell that refers to the row with the image instead of holding it (VLMEvalKit's limit).
const REFERENCE: usize = 64;

/// Reader that streams the records of a CSV or TSV file, each of at most [`rows::LONGEST`] bytes.
pub(crate) struct Records {
    reader: Reader<RowLimitedReader<File>>,
    row_budget: RowBudget,
    /// Names of the columns.
    pub header: Vec<String>,
    record: ByteRecord,
}

/// A record and its position in the file.
pub(crate) struct Record<'a> {
    cells: &'a ByteRecord,
    header: &'a [String],
    /// Byte offset of the record in the file.
    pub at: u64,
}

impl Record<'_> {
    /// Returns the text of cell `i`; empty if the record has fewer cells.
    ///
    /// # Errors
    /// An error is returned if the cell is not UTF-8.
    pub fn cell(&self, i: usize) -> Result<&str> {
        std::str::from_utf8(self.cells.get(i).unwrap_or_default()).map_err(|_| {
            let name = self.header.get(i).map_or("", String::as_str);
            Error::failed(format!("the column `{}` is not UTF-8", excerpt(name, 40)))
        })
    }

    /// Checks that the record is not blank and has as many cells as the header.
    pub fn check(&self) -> Result<()> {
        if self.cells.iter().all(|cell| cell.iter().all(u8::is_ascii_whitespace)) {
            return Err(Error::failed("the row is blank"));
        }
        match (self.cells.len(), self.header.len()) {
            (found, named) if found != named => {
                Err(Error::failed(format!("the row has {found} cells, but the header has {named}")))
            }
            _ => Ok(()),
        }
    }
}

impl Records {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// An error is returned if the file cannot be read, or if its header is not text.
    pub fn open(file: &Path, delimiter: u8) -> Result<Self> {
        let step = || format!("reading {}", file.display());
        let (limited, row_budget) = RowLimitedReader::new(files::open(file).with_context(step)?, rows::LONGEST);
        let mut reader = builder(delimiter).from_reader(limited);
        let header = header(reader.byte_headers().map_err(|e| failed(&e)).with_context(step)?).with_context(step)?;
        Ok(Self { reader, row_budget, header, record: ByteRecord::new() })
    }

    /// Calls `each` with every record.
    ///
    /// # Errors
    /// An error is returned if the file cannot be read, if a row is too long, if a quotation mark is not closed (naming
    /// the line), or if `each` fails.
    pub fn for_each(&mut self, file: &Path, each: &mut dyn FnMut(&Record<'_>) -> Result<()>) -> Result<()> {
        // Position of the last record if it spans several lines.
        let mut last = None;
        loop {
            self.row_budget.renew();
            let (at, line) = (self.reader.position().byte(), self.reader.position().line());
            match self.reader.read_byte_record(&mut self.record) {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => return Err(failed(&e).context(format!("{}:{line}", file.display()))),
            }
            let several = self.record.iter().any(|cell| cell.contains(&b'\n'));
            if several && self.record.len() != self.header.len() {
                closed(file, line, at..self.reader.position().byte())?;
            }
            last = several.then_some((at, line));
            each(&Record { cells: &self.record, header: &self.header, at })?;
        }
        match last {
            Some((at, line)) => closed(file, line, at..u64::MAX),
            None => Ok(()),
        }
    }
}

/// Checks that the number of quotation marks in these bytes is even. An unclosed one extends its cell over the rows up
/// to the next quotation mark, or over the rest of the file.
fn closed(file: &Path, line: u64, bytes: Range<u64>) -> Result<()> {
    let step = || format!("reading {}", file.display());
    let mut text = files::open(file).with_context(step)?;
    text.seek(SeekFrom::Start(bytes.start)).with_context(step)?;
    let mut text = text.take(bytes.end - bytes.start);
    let mut marks = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match text.read(&mut buffer).with_context(step)? {
            0 => break,
            n => marks += buffer.iter().take(n).filter(|b| **b == b'"').count(),
        }
    }
    match marks % 2 {
        0 => Ok(()),
        _ => Err(Error::failed("the row that begins here has an unclosed quotation mark")
            .context(format!("{}:{line}", file.display()))
            .hint(
                "a cell that begins with a quotation mark must end with one; write a quotation mark within a cell \
                twice",
            )),
    }
}

/// Builds a reader that accepts rows of any length, because a row that does not fit the header is not a damaged file.
fn builder(delimiter: u8) -> ReaderBuilder {
    let mut builder = ReaderBuilder::new();
    builder.delimiter(delimiter).flexible(true);
    builder
}

fn failed(e: &csv::Error) -> Error {
    Error::failed(e.to_string())
}

fn header(cells: &ByteRecord) -> Result<Vec<String>> {
    if let Some([0xff, 0xfe, ..] | [0xfe, 0xff, ..]) = cells.get(0) {
        return Err(Error::failed("the file is UTF-16").hint("save it as UTF-8"));
    }
    let name = |cell: &[u8]| match std::str::from_utf8(cell) {
        Ok(name) => Ok(name.trim_start_matches('\u{feff}').trim().to_string()),
        Err(_) => Err(Error::failed("the header is not UTF-8").hint("save it as UTF-8")),
    };
    cells.iter().map(name).collect()
}

pub(super) fn read(file: &Path, delimiter: u8, columns: TableColumns<'_>, each: RowCallback<'_>) -> Result<()> {
    let mut records = Records::open(file, delimiter)?;
    let header = records.header.clone();
    check_columns(file, columns, header.iter().map(String::as_str))?;
    let place = |name: &str| header.iter().position(|h| h == name);
    let values: Vec<(&str, usize)> =
        columns.values.iter().filter_map(|n| Some((required(n).0, place(required(n).0)?))).collect();
    let images: Vec<(&str, usize)> =
        columns.images.iter().filter_map(|n| Some((required(n).0, place(required(n).0)?))).collect();
    let index = place("index");
    // Byte offsets of the rows with images that later rows may refer to.
    let mut begins: HashMap<String, u64> = HashMap::new();
    let dir = file.parent().unwrap_or(Path::new(""));
    records.for_each(file, &mut |record| {
        let mut cells = || -> Result<Cells> {
            record.check()?;
            let mut row = Map::new();
            for (name, i) in &values {
                row.insert((*name).to_string(), Value::String(record.cell(*i)?.to_string()));
            }
            let mut seen = BTreeMap::new();
            for (name, i) in &images {
                let text = record.cell(*i)?.trim();
                let is_path = text.len() <= 1024 && Path::new(text).extension().is_some() && dir.join(text).is_file();
                let found = |at, item| {
                    ImageLocation::Cell(ImageCell { file: file.into(), column: (*name).to_string(), at, item })
                };
                let of_row = match text {
                    "" => Vec::new(),
                    _ if is_path => vec![ImageLocation::File(dir.join(text))],
                    _ if text.starts_with('[') => {
                        let count = python_list(text).map_or(0, |list| list.len());
                        (0..count as u32).map(|item| found(record.at, Some(item))).collect()
                    }
                    _ if text.len() > REFERENCE => {
                        if let Some(index) = index {
                            begins.insert(record.cell(index)?.trim().to_string(), record.at);
                        }
                        vec![found(record.at, None)]
                    }
                    _ => match begins.get(text) {
                        Some(at) => vec![found(*at, None)],
                        None if is_image_name(text) => {
                            return Err(Error::failed(format!(
                                "the image file {} does not exist",
                                dir.join(text).display()
                            ))
                            .hint("paths of images are relative to the table's folder"));
                        }
                        None => {
                            return Err(Error::failed(format!(
                                "the column `{name}` holds {text:?}, which is neither an image file nor base64 nor \
                                    the index of an earlier row"
                            )));
                        }
                    },
                };
                seen.insert((*name).to_string(), of_row);
            }
            Ok((row, seen))
        };
        each(cells())
    })
}

/// Returns whether a cell looks like the name of an image file.
fn is_image_name(text: &str) -> bool {
    let extension = Path::new(text).extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
    ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"].contains(&extension.as_str())
}

/// Reads the images of these cells of one column, in their order.
pub(super) fn images(file: &Path, column: &str, cells: &[&ImageCell]) -> Result<Vec<Result<Vec<u8>>>> {
    let delimiter = if format_of(file) == Some("csv") { b',' } else { b'\t' };
    let step = || format!("reading {}", file.display());
    let mut reader = builder(delimiter).from_reader(files::open(file).with_context(step)?);
    let header = header(reader.byte_headers().map_err(|e| failed(&e)).with_context(step)?).with_context(step)?;
    let place = header.iter().position(|h| h == column);
    let place = place.ok_or_else(|| Error::failed(format!("{} has no column `{column}`", file.display())))?;
    let mut record = StringRecord::new();
    let mut fetch = |cell: &ImageCell| -> Result<Vec<u8>> {
        let mut at = Position::new();
        at.set_byte(cell.at);
        let step = || format!("reading {}#{column}/{}", file.display(), cell.at);
        let read = reader.seek(at).and_then(|()| reader.read_record(&mut record));
        if !read.map_err(|e| Error::failed(e.to_string())).with_context(step)? {
            return Err(Error::failed("the file ends before this offset").context(step()));
        }
        let text = record.get(place).unwrap_or_default().trim();
        let text = match cell.item {
            None => text.to_string(),
            Some(item) => python_list(text)
                .and_then(|list| list.into_iter().nth(item as usize))
                .ok_or_else(|| Error::failed(format!("there is no image {item}")).context(step()))?,
        };
        STANDARD
            .decode(text.trim())
            .map_err(|e| Error::failed(format!("the cell is not valid base64: {e}")).context(step()))
    };
    Ok(cells.iter().map(|cell| fetch(cell)).collect())
}
