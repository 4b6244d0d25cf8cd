//! Reads the first sheet of a workbook (`.xlsx`) cell by cell, so that empty cells take no memory, with limits on every
//! size.
//!
//! A workbook is a zip archive of XML. A few kilobytes can decompress to gigabytes, a sheet of four cells can span 17
//! billion, and the file can declare any number of texts. So the parts are unpacked here, within [`UNPACKED`] bytes in
//! total, and the library only reads the unpacked archive.

use burgess_base::text::excerpt;
use burgess_base::{Context, Error, Result, files, guard};
use calamine::{DataRef, Reader, Xlsx};
use flate2::Crc;
use flate2::read::DeflateDecoder;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;

/// Maximum size of a workbook, in bytes.
const LARGEST: u64 = 512 << 20;
/// Maximum total size of its unpacked parts, in bytes.
const UNPACKED: u64 = 256 << 20;
/// Maximum number of parts in the archive.
const PARTS: usize = 10_000;
/// Maximum number of rows and columns of a sheet, as defined by the format.
const MOST_ROWS: u32 = 1 << 20;
const MOST_COLUMNS: u32 = 1 << 14;
/// Maximum area (rows × columns) that a sheet may span.
const SPAN: u64 = 20_000_000;
/// Maximum total text of the cells, in bytes; many cells can share one text of the file.
const TEXT: u64 = 512 << 20;

/// The rows of a sheet: row number (from 0) to cells by column.
pub(super) type Rows = BTreeMap<u32, Vec<(u32, Value)>>;

const DAMAGED: &str = "the file is incomplete or not a workbook";

/// Reads the first sheet. Cells are text, null if the cell holds an error or a date; empty cells are omitted.
pub(super) fn rows(path: &Path) -> Result<Rows> {
    let step = || format!("reading {}", path.display());
    let bytes = files::read(path, LARGEST).with_context(step)?;
    if bytes.starts_with(&[0xd0, 0xcf, 0x11, 0xe0]) {
        return Err(Error::failed("the file is an old workbook (.xls) or has a password")
            .context(step())
            .hint("save it as .xlsx without a password"));
    }
    let plain = unpacked(&bytes).map_err(|e| e.context(step()).hint(DAMAGED))?;
    drop(bytes);
    guard::third_party(&path.display().to_string(), || sheet(plain))
        .map_err(|e| e.hint(DAMAGED))?
        .map_err(|e| e.context(step()).hint(DAMAGED))
}

fn sheet(plain: Vec<u8>) -> Result<Rows> {
    let failed = |e: calamine::XlsxError| Error::failed(excerpt(&e.to_string(), 200));
    let mut book = Xlsx::new(Cursor::new(plain)).map_err(failed)?;
    let name = book.sheet_names().first().cloned().ok_or_else(|| Error::failed("the workbook has no sheet"))?;
    let mut cells = book.worksheet_cells_reader(&name).map_err(failed)?;
    let mut rows = Rows::new();
    let (mut text, mut last) = (0_u64, (0, 0));
    let mut first: Option<(u32, u32)> = None;
    while let Some(cell) = cells.next_cell().map_err(failed)? {
        let ((row, column), value) = (cell.get_position(), as_value(cell.get_value()));
        let Some(value) = value else { continue };
        if row >= MOST_ROWS || column >= MOST_COLUMNS {
            let (row, column) = (u64::from(row) + 1, u64::from(column) + 1);
            let message = format!("the sheet `{}` has a cell in row {row}, column {column}", excerpt(&name, 60));
            return Err(
                Error::failed(message).hint(format!("sheets end at {MOST_ROWS} rows and {MOST_COLUMNS} columns"))
            );
        }
        last = (last.0.max(row), last.1.max(column));
        first = Some(first.map_or((row, column), |f| (f.0.min(row), f.1.min(column))));
        text += value.as_str().map_or(8, |s| s.len() as u64 + 8);
        if text > TEXT {
            let most = files::format_bytes(TEXT);
            return Err(Error::failed(format!(
                "the cells of the sheet `{}` have more than {most} of text",
                excerpt(&name, 60)
            )));
        }
        rows.entry(row).or_default().push((column, value));
    }
    let Some(first) = first else { return Ok(rows) };
    let (high, wide) = (u64::from(last.0 - first.0) + 1, u64::from(last.1 - first.1) + 1);
    if high * wide > SPAN {
        let (name, cells) = (excerpt(&name, 60), rows.values().map(Vec::len).sum::<usize>());
        let message = format!(
            "the sheet `{name}` spans {high} rows × {wide} columns, more than {SPAN} cells ({cells} of them are not \
                empty)"
        );
        return Err(Error::failed(message).hint(format!(
            "a cell far from the others was filled by mistake: clear it (near row {}, column {})",
            last.0 + 1,
            last.1 + 1
        )));
    }
    Ok(rows)
}

/// Converts a cell to text, because a workbook stores an answer such as `3` as a number.
fn as_value(data: &DataRef<'_>) -> Option<Value> {
    Some(match data {
        DataRef::Empty => return None,
        DataRef::Float(f) if f.fract() == 0.0 && f.abs() < 1e15 => Value::String(format!("{f:.0}")),
        DataRef::Float(f) => Value::String(f.to_string()),
        DataRef::Int(i) => Value::String(i.to_string()),
        DataRef::String(s) => Value::String(s.clone()),
        DataRef::SharedString(s) => Value::String((*s).to_string()),
        DataRef::Bool(b) => Value::String(b.to_string()),
        DataRef::DateTimeIso(s) | DataRef::DurationIso(s) => Value::String(s.clone()),
        // The original text of a date is not known, and an error has no value.
        _ => Value::Null,
    })
}

/// A part (file) of the archive.
struct ArchivePart<'a> {
    name: &'a [u8],
    content: Vec<u8>,
}

/// Rewrites the archive with its XML parts uncompressed.
fn unpacked(zip: &[u8]) -> Result<Vec<u8>> {
    let short = || Error::failed("the archive's directory cannot be read");
    let end = zip.len().saturating_sub(22 + 0xffff);
    let end = (end..=zip.len().saturating_sub(22)).rev().find(|at| zip.get(*at..at + 4) == Some(b"PK\x05\x06"));
    let end = end.ok_or_else(|| Error::failed("the file is not a zip archive, or its end is missing"))?;
    let (count, mut at) = (short_at(zip, end + 10).ok_or_else(short)?, long_at(zip, end + 16).ok_or_else(short)?);
    if count as usize > PARTS {
        return Err(Error::failed(format!("the archive has {count} parts, more than {PARTS}")));
    }
    let (mut parts, mut left) = (Vec::new(), UNPACKED);
    for _ in 0..count {
        if zip.get(at..at + 4) != Some(b"PK\x01\x02") {
            return Err(short());
        }
        let field = |offset: usize| short_at(zip, at + offset).map(|n| n as usize).ok_or_else(short);
        let (method, name, extra, comment) = (field(10)?, field(28)?, field(30)?, field(32)?);
        let (size, local) = (long_at(zip, at + 20).ok_or_else(short)?, long_at(zip, at + 42).ok_or_else(short)?);
        let name = zip.get(at + 46..at + 46 + name).ok_or_else(short)?;
        at += 46 + name.len() + extra + comment;
        // Images and other parts are not needed.
        let needed = [&b".xml"[..], b".rels"].iter().any(|end| name.to_ascii_lowercase().ends_with(end));
        if !needed {
            continue;
        }
        let of_local = |offset: usize| short_at(zip, local + offset).map(|n| n as usize).ok_or_else(short);
        let start = local + 30 + of_local(26)? + of_local(28)?;
        let packed = zip.get(start..start.saturating_add(size)).ok_or_else(|| {
            Error::failed(format!(
                "the part `{}` extends beyond the archive",
                excerpt(&String::from_utf8_lossy(name), 60)
            ))
        })?;
        let mut content = Vec::new();
        let read = match method {
            0 => packed.take(left + 1).read_to_end(&mut content),
            8 => DeflateDecoder::new(packed).take(left + 1).read_to_end(&mut content),
            other => return Err(Error::failed(format!("the compression method {other} is not supported"))),
        };
        let part = excerpt(&String::from_utf8_lossy(name), 60);
        read.map_err(|e| Error::failed(format!("the part `{part}` is damaged: {e}")))?;
        left = left.checked_sub(content.len() as u64).ok_or_else(|| {
            Error::failed(format!(
                "the unpacked archive is larger than {} (at the part `{part}`)",
                files::format_bytes(UNPACKED)
            ))
        })?;
        if name.to_ascii_lowercase().ends_with(b"sharedstrings.xml") {
            check_declared_texts(&content, &part)?;
        }
        parts.push(ArchivePart { name, content });
    }
    Ok(packed(&parts))
}

/// Checks the declared number of texts against the size of the part, because a reader allocates memory for that
/// number.
fn check_declared_texts(xml: &[u8], part: &str) -> Result<()> {
    const NAME: &[u8] = b"uniqueCount";
    let value = |at: usize| -> u64 {
        let rest = xml.get(at + NAME.len()..).unwrap_or_default().iter().copied();
        let rest = rest.skip_while(|b| b.is_ascii_whitespace() || matches!(b, b'=' | b'"' | b'\''));
        let digits: String = rest.take_while(u8::is_ascii_digit).take(32).map(char::from).collect();
        if digits.is_empty() { 0 } else { digits.parse().unwrap_or(u64::MAX) }
    };
    let places = xml.windows(NAME.len()).enumerate().filter(|(_, w)| *w == NAME).map(|(at, _)| at);
    // A text takes at least five bytes, `<si/>`.
    match places.map(value).max() {
        Some(most) if most > xml.len() as u64 / 5 + 1 => {
            Err(Error::failed(format!("the part `{part}` of {} bytes declares {most} texts", xml.len())))
        }
        _ => Ok(()),
    }
}

fn short_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_le_bytes).map(u32::from)
}

fn long_at(bytes: &[u8], at: usize) -> Option<usize> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes).and_then(|n| usize::try_from(n).ok())
}

/// Writes a zip archive of these parts, uncompressed.
fn packed(parts: &[ArchivePart<'_>]) -> Vec<u8> {
    let mut zip: Vec<u8> = Vec::with_capacity(parts.iter().map(|p| p.content.len() + 2 * p.name.len() + 76).sum());
    let mut directory = Vec::new();
    for ArchivePart { name, content } in parts {
        let mut crc = Crc::new();
        crc.update(content);
        let offset = (zip.len() as u32).to_le_bytes();
        // Zip version 2.0, stored, names in UTF-8, no date.
        let mut head = Vec::new();
        head.extend([20, 0, 0, 8, 0, 0, 0, 0, 0x21, 0]);
        head.extend(crc.sum().to_le_bytes());
        head.extend((content.len() as u32).to_le_bytes());
        head.extend((content.len() as u32).to_le_bytes());
        head.extend((name.len() as u16).to_le_bytes());
        head.extend([0, 0]);
        zip.extend(b"PK\x03\x04");
        zip.extend(&head);
        zip.extend(*name);
        zip.extend(content);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&head);
        directory.extend([0; 10]);
        directory.extend(offset);
        directory.extend(*name);
    }
    let start = zip.len() as u32;
    zip.extend(&directory);
    zip.extend(b"PK\x05\x06\x00\x00\x00\x00");
    for _ in 0..2 {
        zip.extend((parts.len() as u16).to_le_bytes());
    }
    zip.extend((directory.len() as u32).to_le_bytes());
    zip.extend(start.to_le_bytes());
    zip.extend([0, 0]);
    zip
}
