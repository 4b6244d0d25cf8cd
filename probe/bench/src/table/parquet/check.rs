//! Validates the metadata of a parquet file against the file before a reader is called.
//!
//! A reader trusts offsets, lengths and counts: a negative one makes it panic, a large one makes it allocate too much
//! memory, and a few kilobytes of compressed pages can hold gigabytes. So the footer is checked first (every column
//! chunk lies within the file, none overlaps another, counts fit the file's size), then the headers of the pages that
//! are needed.

use super::thrift::{Compact, Fault, LIST, STRUCT};
use burgess_base::text::excerpt;
use burgess_base::{Context, Error, Result, files};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

/// Maximum length of the footer, in bytes.
const FOOTER: u64 = 32 << 20;
/// Maximum number of rows, and of values in a column of lists, per byte of the file.
const PER_BYTE: u64 = 16;
/// Maximum number of values in a page, and in a column of lists within a row group.
const VALUES: i64 = 1 << 24;
/// Size in bytes that any page may have when decompressed, and the maximum compression ratio beyond that size.
const PAGE: u64 = 16 << 20;
const RATIO: u64 = 64;
/// Maximum size of a decompressed page, in bytes, unless it is hardly compressed: images as base64 can fill a page of
/// nearly 2 GiB, the limit of the format.
const LARGEST_PAGE: u64 = 1 << 30;
/// Maximum size of all pages of a column of lists in a row group, in bytes, because one row can have all of them.
const LISTS: u64 = 256 << 20;
/// Maximum number of columns, nested ones included.
const COLUMNS: usize = 10_000;
/// Maximum nesting depth of columns.
const DEPTH: usize = 32;
/// Maximum length of a page header, in bytes; it holds the minimum and maximum value.
const HEADER: u64 = 16 << 20;

/// A column chunk: the values of one column in one row group.
#[derive(Debug, Clone, Default)]
struct Chunk {
    codec: i64,
    values: i64,
    compressed: i64,
    data: i64,
    dictionary: Option<i64>,
}

/// A leaf column of the schema.
#[derive(Debug, Clone)]
struct Leaf {
    name: String,
    /// Whether a row can have several values.
    listed: bool,
}

#[derive(Debug, Default)]
struct Group {
    rows: i64,
    chunks: Vec<Chunk>,
}

/// The footer's metadata, validated against the file.
#[derive(Debug)]
pub(super) struct Footer {
    leaves: Vec<Leaf>,
    groups: Vec<Group>,
}

/// Reads and validates the footer.
///
/// # Errors
/// An error is returned if the file is not a parquet file, or if its metadata are inconsistent; it names file, column
/// and row group.
pub(super) fn footer(file: &mut File, path: &Path) -> Result<Footer> {
    let step = || format!("reading {}", path.display());
    let wrong = |what: String| Error::failed(what).context(step()).hint(DAMAGED);
    let length = file.metadata().with_context(step)?.len();
    let mut end = [0; 8];
    if length < 12 {
        return Err(wrong(format!("the file has only {length} bytes, too few for a parquet file")));
    }
    at(file, length - 8, &mut end).with_context(step)?;
    match &end[4..] {
        b"PAR1" => {}
        b"PARE" => return Err(Error::failed("the file is encrypted, which is not supported").context(step())),
        _ => return Err(wrong("the file does not end with PAR1, as a parquet file does".into())),
    }
    let size = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    if size > length - 12 || size > FOOTER {
        let most = files::format_bytes(FOOTER.min(length - 12));
        return Err(wrong(format!("the footer of {size} bytes is longer than {most}")));
    }
    let mut bytes = vec![0; size as usize];
    at(file, length - 8 - size, &mut bytes).with_context(step)?;
    let (leaves, groups) = parse(&bytes).map_err(|_| wrong("the footer cannot be read".into()))?;
    let footer = Footer { leaves, groups };
    footer.check(length, length - 8 - size).map_err(|e| e.context(step()).hint(DAMAGED))?;
    Ok(footer)
}

const DAMAGED: &str = "the file is incomplete or damaged: download it again";

fn at(file: &mut File, offset: u64, bytes: &mut [u8]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(bytes)
}

fn parse(bytes: &[u8]) -> Result<(Vec<Leaf>, Vec<Group>), Fault> {
    let (mut leaves, mut groups) = (None, Vec::new());
    Compact::new(bytes).structure(&mut |it, id, kind| match (id, kind) {
        (2, LIST) => {
            leaves = Some(schema(it)?);
            Ok(true)
        }
        (4, LIST) => {
            let (kind, size) = it.list()?;
            for _ in 0..size {
                groups.push(if kind == STRUCT { group(it)? } else { return Err(Fault::Malformed) });
            }
            Ok(true)
        }
        _ => Ok(false),
    })?;
    Ok((leaves.ok_or(Fault::Malformed)?, groups))
}

/// Returns the leaf columns of the schema tree, which is stored in depth-first order.
fn schema(it: &mut Compact<'_>) -> Result<Vec<Leaf>, Fault> {
    let (kind, size) = it.list()?;
    if kind != STRUCT || !(1..=COLUMNS).contains(&size) {
        return Err(Fault::Malformed);
    }
    let mut leaves = Vec::new();
    // The open parents: number of children left, whether it or a parent is repeated, and the name of the root column.
    let mut above: Vec<(i64, bool, String)> = Vec::new();
    for number in 0..size {
        let (mut name, mut repetition, mut children) = (String::new(), 0, 0);
        it.structure(&mut |it, id, _| {
            match id {
                3 => repetition = it.int()?,
                4 => name = String::from_utf8_lossy(it.binary()?).into_owned(),
                5 => children = it.int()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let (listed, root) = match above.last_mut() {
            Some((left, listed, root)) => {
                *left -= 1;
                let root = if root.is_empty() { name } else { root.clone() };
                (*listed || repetition == 2, root)
            }
            None if number == 0 => (false, String::new()),
            None => return Err(Fault::Malformed),
        };
        match children {
            0 if number == 0 => {}
            0 => leaves.push(Leaf { name: root, listed }),
            1.. if above.len() < DEPTH => above.push((children, listed, root)),
            _ => return Err(Fault::Malformed),
        }
        while above.last().is_some_and(|(left, _, _)| *left == 0) {
            above.pop();
        }
    }
    if above.is_empty() { Ok(leaves) } else { Err(Fault::Malformed) }
}

fn group(it: &mut Compact<'_>) -> Result<Group, Fault> {
    let mut group = Group::default();
    it.structure(&mut |it, id, kind| match (id, kind) {
        (1, LIST) => {
            let (kind, size) = it.list()?;
            if kind != STRUCT || size > COLUMNS {
                return Err(Fault::Malformed);
            }
            for _ in 0..size {
                group.chunks.push(chunk(it)?);
            }
            Ok(true)
        }
        (3, _) => {
            group.rows = it.int()?;
            Ok(true)
        }
        _ => Ok(false),
    })?;
    Ok(group)
}

fn chunk(it: &mut Compact<'_>) -> Result<Chunk, Fault> {
    let mut chunk = None;
    it.structure(&mut |it, id, kind| {
        if (id, kind) != (3, STRUCT) {
            return Ok(false);
        }
        let mut read = Chunk::default();
        it.structure(&mut |it, id, _| {
            let place = match id {
                4 => &mut read.codec,
                5 => &mut read.values,
                7 => &mut read.compressed,
                9 => &mut read.data,
                11 => read.dictionary.insert(0),
                _ => return Ok(false),
            };
            *place = it.int()?;
            Ok(true)
        })?;
        chunk = Some(read);
        Ok(true)
    })?;
    chunk.ok_or(Fault::Malformed)
}

impl Chunk {
    /// Returns the byte range of the chunk in the file, if it lies before `end`.
    fn bytes(&self, end: u64) -> Option<Range<u64>> {
        let first = self.dictionary.unwrap_or(self.data);
        let first = u64::try_from(first).ok().filter(|first| *first >= 4)?;
        let after = first.checked_add(u64::try_from(self.compressed).ok()?)?;
        let data = u64::try_from(self.data).ok()?;
        (after <= end && (first..=after).contains(&data)).then_some(first..after)
    }
}

impl Footer {
    /// Returns the number of rows in the file.
    fn rows(&self) -> u64 {
        self.groups.iter().map(|g| u64::try_from(g.rows).unwrap_or(0)).fold(0, u64::saturating_add)
    }

    /// Checks the bounds in a file of `length` bytes whose footer begins at `end`.
    fn check(&self, length: u64, end: u64) -> Result<()> {
        let mut all: Vec<(Range<u64>, usize, usize)> = Vec::new();
        for (g, group) in self.groups.iter().enumerate() {
            if group.rows < 0 {
                return Err(Error::failed(format!("the row group {g} has {} rows", group.rows)));
            }
            if group.chunks.len() != self.leaves.len() {
                let (found, named) = (group.chunks.len(), self.leaves.len());
                return Err(Error::failed(format!(
                    "the row group {g} has {found} columns, but the schema has {named}"
                )));
            }
            for (c, (chunk, leaf)) in group.chunks.iter().zip(&self.leaves).enumerate() {
                let wrong = |what: String| Error::failed(format!("{what} ({})", place(leaf, g)));
                let bytes = chunk.bytes(end).ok_or_else(|| {
                    wrong(format!(
                        "{} bytes from byte {} do not lie within the {length} bytes of the file",
                        chunk.compressed,
                        chunk.dictionary.unwrap_or(chunk.data)
                    ))
                })?;
                let fits = if leaf.listed { chunk.values >= 0 } else { chunk.values == group.rows };
                if !fits {
                    return Err(wrong(format!("the column has {} values for {} rows", chunk.values, group.rows)));
                }
                if leaf.listed && (chunk.values > VALUES || chunk.values as u64 > length.saturating_mul(PER_BYTE)) {
                    let most = (length.saturating_mul(PER_BYTE)).min(VALUES as u64);
                    return Err(wrong(format!("{} values of lists are more than {most}", chunk.values)));
                }
                all.push((bytes, g, c));
            }
        }
        let (rows, most) = (self.rows(), length.saturating_mul(PER_BYTE));
        if rows > most {
            return Err(Error::failed(format!(
                "the file claims {rows} rows, more than {PER_BYTE} for each of its {length} bytes"
            )));
        }
        all.sort_by_key(|(bytes, _, _)| (bytes.start, bytes.end));
        for pair in all.windows(2) {
            if let [(before, _, _), (after, g, c)] = pair
                && after.start < before.end
                && let Some(leaf) = self.leaves.get(*c)
            {
                return Err(Error::failed(format!(
                    "the bytes of the column overlap those of another column ({})",
                    place(leaf, *g)
                )));
            }
        }
        Ok(())
    }

    /// Returns the row groups that contain these rows (which are sorted), in order.
    pub fn groups_of(&self, rows: &[u64]) -> Vec<usize> {
        let mut begin = 0_u64;
        let mut groups = Vec::new();
        for (g, group) in self.groups.iter().enumerate() {
            let end = begin.saturating_add(u64::try_from(group.rows).unwrap_or(0));
            let first = rows.partition_point(|row| *row < begin);
            if rows.get(first).is_some_and(|row| *row < end) {
                groups.push(g);
            }
            begin = end;
        }
        groups
    }

    /// Returns all row groups.
    pub fn all(&self) -> Vec<usize> {
        (0..self.groups.len()).collect()
    }

    /// Checks the headers of all pages of these columns in these row groups, and returns the most memory, in bytes,
    /// that a row may need.
    ///
    /// # Errors
    /// An error is returned if a page does not lie within its column chunk or exceeds a limit; it names file, column
    /// and row group.
    pub fn pages(&self, file: &mut File, path: &Path, groups: &[usize], leaves: &[usize]) -> Result<u64> {
        let step = || format!("reading {}", path.display());
        let end = file.metadata().with_context(step)?.len();
        let mut row = 1;
        for leaf in leaves {
            let mut widest = 0;
            for g in groups {
                let Some((group, named)) = self.groups.get(*g).zip(self.leaves.get(*leaf)) else { continue };
                let Some(chunk) = group.chunks.get(*leaf) else { continue };
                let of_chunk = chunk_pages(file, end, named, group.rows, chunk)
                    .map_err(|e| in_place(e, &place(named, *g)).context(step()).hint(DAMAGED))?;
                widest = widest.max(of_chunk);
            }
            row += widest;
        }
        Ok(row)
    }
}

/// Appends the place to an error and keeps its hint.
fn in_place(e: Error, place: &str) -> Error {
    let placed = Error::failed(format!("{e} ({place})"));
    match e.hint_text() {
        Some(hint) => placed.hint(hint),
        None => placed,
    }
}

fn place(leaf: &Leaf, group: usize) -> String {
    format!("column `{}`, row group {group}", excerpt(&leaf.name, 60))
}

/// The contents of a page header.
#[derive(Debug, Default)]
struct Page {
    kind: i64,
    uncompressed: i64,
    compressed: i64,
    values: i64,
    encoding: i64,
    /// For data page v2: the size of the levels, which are not compressed, and whether the values are uncompressed.
    levels: i64,
    plain: bool,
}

fn page(bytes: &[u8]) -> Result<(Page, usize), Fault> {
    let mut page = Page { kind: -1, ..Page::default() };
    let mut it = Compact::new(bytes);
    it.structure(&mut |it, id, kind| {
        match (id, kind) {
            (1, _) => page.kind = it.int()?,
            (2, _) => page.uncompressed = it.int()?,
            (3, _) => page.compressed = it.int()?,
            // The headers of data pages, dictionary pages and data pages v2.
            (5 | 7 | 8, STRUCT) => {
                let second = id == 8;
                it.structure(&mut |it, id, kind| {
                    match (id, second) {
                        (1, _) => page.values = it.int()?,
                        (2, false) | (4, true) => page.encoding = it.int()?,
                        (5 | 6, true) => page.levels = page.levels.saturating_add(it.int()?),
                        (7, true) => {
                            page.plain = kind == super::thrift::FALSE;
                            return Ok(false);
                        }
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok((page, it.at()))
}

/// Checks the pages of a chunk with `rows` rows, and returns the most memory, in bytes, that one row may need.
fn chunk_pages(file: &mut File, end: u64, leaf: &Leaf, rows: i64, chunk: &Chunk) -> Result<u64> {
    let bytes = chunk.bytes(end).ok_or_else(|| Error::failed("the column chunk extends beyond the file"))?;
    let (mut at, mut values, mut row, mut sum) = (bytes.start, 0_i64, 0_u64, 0_u64);
    let mut buffer = Vec::new();
    while at < bytes.end && values < chunk.values {
        let (page, header) = next_page(file, at..bytes.end, &mut buffer)?;
        let size = |n: i64| u64::try_from(n).map_err(|_| Error::failed(format!("a page at byte {at} has {n} bytes")));
        let (compressed, uncompressed) = (size(page.compressed)?, size(page.uncompressed)?);
        let data = at + header;
        if compressed > bytes.end - data {
            return Err(Error::failed(format!(
                "the page at byte {at} has {compressed} bytes, {} are left",
                bytes.end - data
            )));
        }
        let most = largest_page(compressed);
        if uncompressed > most {
            let (held, taken) = (files::format_bytes(uncompressed), files::format_bytes(compressed));
            return Err(Error::failed(format!("the page at byte {at} holds {held} in {taken}")));
        }
        if !(0..=VALUES).contains(&page.values) {
            return Err(Error::failed(format!("the page at byte {at} has {} values", page.values)));
        }
        let levels = u64::try_from(page.levels).unwrap_or(u64::MAX);
        if levels > compressed.min(uncompressed) {
            return Err(Error::failed(format!("the page at byte {at} has {} bytes of levels", page.levels)));
        }
        if !page.plain {
            let inside = data + levels..data + compressed;
            let held = decompressed(file, chunk.codec, inside)?;
            if held > most.saturating_add(1 << 20) {
                let (held, taken) = (files::format_bytes(held), files::format_bytes(compressed));
                return Err(Error::failed(format!("the page at byte {at} can hold {held} in {taken}")));
            }
        }
        match page.kind {
            // A dictionary page: every entry takes at least one byte.
            2 if page.values as u64 > uncompressed => {
                let (n, held) = (page.values, files::format_bytes(uncompressed));
                return Err(Error::failed(format!("the dictionary at byte {at} has {n} values in {held}")));
            }
            1 | 2 => {}
            0 | 3 => {
                // Readers trust the lengths in these encodings, and a value may repeat the whole previous value.
                if matches!(page.encoding, 6 | 7) {
                    let name = if page.encoding == 6 { "DELTA_LENGTH_BYTE_ARRAY" } else { "DELTA_BYTE_ARRAY" };
                    return Err(Error::failed(format!("the encoding {name} is not supported"))
                        .hint("write it again: pq.write_table(pq.read_table(FILE), FILE) with pyarrow.parquet as pq"));
                }
                values += page.values;
            }
            other => return Err(Error::failed(format!("the page at byte {at} has the unknown type {other}"))),
        }
        // Number of rows that share the page's memory: the rows of its values, or the whole group for a dictionary.
        let shared = match (page.kind, leaf.listed) {
            (2, _) => rows,
            (_, true) => 1,
            (_, false) => page.values,
        };
        row = row.max(uncompressed.div_ceil(u64::try_from(shared).unwrap_or(1).max(1)));
        sum += uncompressed;
        at = data + compressed;
    }
    if values != chunk.values {
        return Err(Error::failed(format!("the pages have {values} values instead of {}", chunk.values)));
    }
    let taken = (bytes.end - bytes.start).saturating_mul(RATIO);
    if leaf.listed && sum > taken.max(LISTS) {
        let (held, most) = (files::format_bytes(sum), files::format_bytes(taken.max(LISTS)));
        return Err(Error::failed(format!("the lists hold {held}, more than {most}")));
    }
    Ok(row)
}

fn next_page(file: &mut File, bytes: Range<u64>, buffer: &mut Vec<u8>) -> Result<(Page, u64)> {
    let left = bytes.end - bytes.start;
    let mut ahead = left.min(512);
    loop {
        buffer.resize(ahead as usize, 0);
        at(file, bytes.start, buffer)?;
        match page(buffer) {
            Ok((page, header)) => return Ok((page, header as u64)),
            Err(Fault::Cut) if ahead < left.min(HEADER) => ahead = (ahead * 16).min(left).min(HEADER),
            Err(_) => {
                return Err(Error::failed(format!("the header of the page at byte {} cannot be read", bytes.start)));
            }
        }
    }
}

/// Returns an upper bound of the decompressed size where the codec's reader does not check it; 0 for other codecs
/// (Snappy checks).
fn decompressed(file: &mut File, codec: i64, bytes: Range<u64>) -> Result<u64> {
    match codec {
        2 => gzip(file, bytes),
        6 => zstd(file, bytes),
        _ => Ok(0),
    }
}

/// Returns the size that a page of so many compressed bytes may have when decompressed.
fn largest_page(compressed: u64) -> u64 {
    compressed.saturating_mul(RATIO).clamp(PAGE, LARGEST_PAGE).max(compressed.saturating_mul(2))
}

/// Returns the decompressed size of gzip data; 0 without decompressing if the maximum ratio of 1032 stays within
/// [`PAGE`].
fn gzip(file: &mut File, bytes: Range<u64>) -> Result<u64> {
    let length = bytes.end - bytes.start;
    if length.saturating_mul(1032) <= PAGE {
        return Ok(0);
    }
    file.seek(SeekFrom::Start(bytes.start))?;
    let most = largest_page(length) + (2 << 20);
    let mut inside = flate2::read::MultiGzDecoder::new(file.take(length)).take(most);
    Ok(std::io::copy(&mut inside, &mut std::io::sink()).unwrap_or(0))
}

/// Returns an upper bound of the decompressed size of zstd frames: the sum of the block sizes, with 128 KiB per
/// compressed block.
fn zstd(file: &mut File, bytes: Range<u64>) -> Result<u64> {
    let broken = || Error::failed(format!("the zstd frame at byte {} is damaged", bytes.start));
    let (mut place, mut sum) = (bytes.start, 0_u64);
    let mut read = |place: &mut u64, count: usize| -> Result<u64> {
        let mut value = [0; 8];
        let part = value.get_mut(..count).filter(|_| *place + count as u64 <= bytes.end).ok_or_else(broken)?;
        at(file, *place, part)?;
        *place += count as u64;
        Ok(u64::from_le_bytes(value))
    };
    while place < bytes.end {
        let magic = read(&mut place, 4)?;
        if (0x184d_2a50..=0x184d_2a5f).contains(&magic) {
            place += read(&mut place, 4)?;
            continue;
        }
        if magic != 0xfd2f_b528 {
            return Err(broken());
        }
        let head = read(&mut place, 1)?;
        let (single, checksum) = (head >> 5 & 1 == 1, head >> 2 & 1);
        let dictionary = [0, 1, 2, 4][(head & 3) as usize];
        let size = match head >> 6 {
            0 => u64::from(single),
            n => 1 << n,
        };
        place += u64::from(!single) + dictionary + size;
        loop {
            let block = read(&mut place, 3)?;
            let (last, kind, length) = (block & 1 == 1, block >> 1 & 3, block >> 3);
            let (taken, held) = match kind {
                0 => (length, length),
                1 => (1, length),
                2 => (length, 128 << 10),
                _ => return Err(broken()),
            };
            sum += held;
            place += taken;
            if last {
                break;
            }
        }
        place += 4 * checksum;
    }
    Ok(sum)
}
