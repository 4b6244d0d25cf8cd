//! Reads the directory of a zip archive as untrusted input: an entry is accepted only if its member is inside the file,
//! agrees with the member's own header and does not overlap another member.
//!
//! `torch.save` stores members without compression, so nothing is ever unpacked: compressed members, including "zip
//! bombs", are rejected. Source of the format: PKWARE's APPNOTE.TXT, sections 4.3 (records) and 4.5.3 (64-bit
//! sizes).

use super::super::budget::MemoryBudget;
use super::super::foreign;
use burgess_base::{Error, Result};
use indexmap::IndexMap;
use std::ops::Range;

/// Byte ranges of the members, by name, in the order of the directory.
pub(super) type Members<'a> = IndexMap<&'a str, Range<usize>>;

/// A record of the archive, with access to its little-endian numbers and bytes by offset.
struct Record<'a>(&'a [u8]);

impl<'a> Record<'a> {
    /// Returns the record at `at`; `None` if it does not begin with `signature`.
    fn at(file: &'a [u8], at: usize, signature: &[u8; 4]) -> Option<Self> {
        file.get(at..).filter(|rest| rest.starts_with(signature)).map(Self)
    }

    fn number<const N: usize>(&self, at: usize) -> Option<usize> {
        let bytes = self.0.get(at..)?.first_chunk::<N>()?;
        let mut wide = [0; 8];
        wide.get_mut(..N)?.copy_from_slice(bytes);
        usize::try_from(u64::from_le_bytes(wide)).ok()
    }

    fn bytes(&self, at: usize, length: usize) -> Option<&'a [u8]> {
        self.0.get(at..at.checked_add(length)?)
    }
}

/// An entry of the directory.
struct DirectoryEntry<'a> {
    name: &'a str,
    flags: usize,
    method: usize,
    packed: usize,
    size: usize,
    header: usize,
    /// Size in bytes of the entry itself.
    length: usize,
}

fn damaged(why: impl std::fmt::Display) -> Error {
    Error::failed(format!("the zip archive cannot be read: {why}"))
}

/// Reads the names and byte ranges of all members.
///
/// # Errors
/// The archive is truncated or inconsistent, or holds a compressed or encrypted member.
pub(super) fn members<'a>(file: &'a [u8], budget: &mut MemoryBudget) -> Result<Members<'a>> {
    let (count, directory) = directory(file)?;
    let mut entries = Vec::new();
    let mut at = directory.start;
    for _ in 0..count {
        let entry = directory_entry(file.get(at..directory.end).unwrap_or_default())
            .ok_or_else(|| damaged("its directory is truncated or damaged"))?;
        at += entry.length;
        budget.grow::<(DirectoryEntry<'_>, DirectoryEntry<'_>, Range<usize>)>(1)?;
        entries.push(entry);
    }
    // The kind of archive is checked first, because it explains more than a rejected member.
    foreign::check_zip(entries.iter().map(|entry| entry.name))?;
    let mut members = IndexMap::new();
    let mut taken: Vec<Range<usize>> = Vec::new();
    for entry in entries {
        let member = content_range(file, &entry)?;
        taken.push(entry.header..member.end);
        if members.insert(entry.name, member).is_some() {
            return Err(damaged(format!("`{}` is in it twice", shown(entry.name))));
        }
    }
    if at != directory.end {
        return Err(damaged("its directory has more entries than it states"));
    }
    taken.push(directory);
    taken.sort_by_key(|range| (range.start, range.end));
    if taken.windows(2).any(|pair| matches!(pair, [a, b] if a.end > b.start)) {
        return Err(damaged("its members overlap"));
    }
    Ok(members)
}

/// Returns the number of members and the byte range of the directory.
fn directory(file: &[u8]) -> Result<(usize, Range<usize>)> {
    const END: usize = 22;
    const END_RECORD: &[u8; 4] = b"PK\x05\x06";
    const LOCATOR: usize = 20;
    /// A comment of up to 65,535 bytes may follow the end record.
    const FURTHEST: usize = END + 0xffff;
    // The right end record is the one whose comment ends at the end of the file.
    let from = file.len().saturating_sub(FURTHEST);
    let found = memchr::memmem::rfind_iter(file.get(from..).unwrap_or_default(), END_RECORD).find_map(|at| {
        let record = Record::at(file, from + at, END_RECORD)?;
        (from + at + END + record.number::<2>(20)? == file.len()).then_some((from + at, record))
    });
    let (end, record) = found.ok_or_else(|| damaged("it has no end record"))?;
    let locator = end.checked_sub(LOCATOR).and_then(|at| Record::at(file, at, b"PK\x06\x07"));
    let read = match locator {
        Some(locator) => (|| {
            let wide = Record::at(file, locator.number::<8>(8)?, b"PK\x06\x06")?;
            Some((wide.number::<8>(32)?, wide.number::<8>(40)?, wide.number::<8>(48)?))
        })(),
        None => (|| Some((record.number::<2>(10)?, record.number::<4>(12)?, record.number::<4>(16)?)))(),
    };
    let range = read.and_then(|(count, length, from)| Some((count, from..from.checked_add(length)?)));
    range.filter(|(_, range)| range.end <= end).ok_or_else(|| damaged("its directory lies beyond its end"))
}

/// Parses the entry at the front of the rest of the directory.
fn directory_entry(directory: &[u8]) -> Option<DirectoryEntry<'_>> {
    const FIXED: usize = 46;
    let record = Record::at(directory, 0, b"PK\x01\x02")?;
    let (name, extra, comment) = (record.number::<2>(28)?, record.number::<2>(30)?, record.number::<2>(32)?);
    let (mut packed, mut size, mut header) =
        (record.number::<4>(20)?, record.number::<4>(24)?, record.number::<4>(42)?);
    // Numbers that do not fit 32 bits are in an extra field, in this order.
    let mut wide = wide_numbers(record.bytes(FIXED + name, extra)?);
    for number in [&mut size, &mut packed, &mut header] {
        if *number == 0xffff_ffff {
            let (front, rest) = wide.split_first_chunk::<8>()?;
            *number = usize::try_from(u64::from_le_bytes(*front)).ok()?;
            wide = rest;
        }
    }
    Some(DirectoryEntry {
        name: std::str::from_utf8(record.bytes(FIXED, name)?).ok()?,
        flags: record.number::<2>(8)?,
        method: record.number::<2>(10)?,
        packed,
        size,
        header,
        length: record.bytes(0, FIXED + name + extra + comment)?.len(),
    })
}

/// Returns the content of the extra field with ID 1 (64-bit sizes); empty if there is none.
fn wide_numbers(mut extra: &[u8]) -> &[u8] {
    while let Some((head, rest)) = extra.split_first_chunk::<4>() {
        let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
        let Some((field, rest)) = rest.split_at_checked(length) else { break };
        if head[..2] == [1, 0] {
            return field;
        }
        extra = rest;
    }
    &[]
}

/// Returns the byte range of a member's content; its start follows only from the member's own header.
fn content_range(file: &[u8], entry: &DirectoryEntry<'_>) -> Result<Range<usize>> {
    const FIXED: usize = 30;
    let name = shown(entry.name);
    if entry.method != 0 || entry.flags & 1 != 0 {
        return Err(Error::failed(format!("`{name}` in the archive is compressed, which torch.save never does"))
            .hint("unpack the archive, or save the weights again with torch.save or as safetensors"));
    }
    if entry.packed != entry.size {
        return Err(damaged(format!("`{name}` has {} bytes and is stored in {}", entry.size, entry.packed)));
    }
    let header = Record::at(file, entry.header, b"PK\x03\x04");
    let read = header.and_then(|header| {
        let (length, extra) = (header.number::<2>(26)?, header.number::<2>(28)?);
        let same = header.bytes(FIXED, length)? == entry.name.as_bytes() && header.number::<2>(8)? == entry.method;
        let from = entry.header.checked_add(FIXED + length + extra)?;
        Some((same, from..from.checked_add(entry.size)?))
    });
    match read {
        Some((true, range)) if range.end <= file.len() => Ok(range),
        Some((true, _)) => Err(damaged(format!("`{name}` lies beyond its end"))),
        _ => Err(damaged(format!("`{name}` has no header at the position that the directory states"))),
    }
}

/// Returns at most 200 bytes of a name, for error messages.
fn shown(name: &str) -> &str {
    name.get(..name.floor_char_boundary(200)).unwrap_or_default()
}
