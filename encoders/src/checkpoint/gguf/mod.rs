//! Reads GGUF, the format of llama.cpp: typed metadata, a table of tensors, and their values, usually quantised in
//! [`GgmlBlock`]s. Versions 2 and 3, little-endian. A file is read as untrusted input, like the other formats: every
//! length is checked against the rest of the file before its use, and every table entry is charged to the file's
//! [`MemoryBudget`].
//!
//! ```text
//! "GGUF", version u32, tensors u64, pairs u64
//! pairs × (key, type u32, value)                    see `metadata`
//! tensors × (name, dimensions u32, lengths u64 …, type u32, offset u64)
//! padding to `general.alignment`, then the tensors in this order, each padded to it
//! ```
//!
//! Lengths are listed with the innermost dimension first, the reverse of PyTorch's order. Source: `docs/gguf.md` of
//! ggml.

mod cursor;
mod metadata;
mod split;

pub(super) use metadata::MetadataTable;
pub use metadata::{Metadata, MetadataList, MetadataValue};
pub use split::gguf_parts;
pub(super) use split::{is_first, other_parts};

use super::budget::MemoryBudget;
use super::entry::CheckpointEntry;
use crate::number_format::{GgmlBlock, NumberFormat};
use burgess_base::{Error, Result};
use cursor::Cursor;
use std::collections::BTreeMap;
use std::ops::Range;

const TRUNCATED: &str =
    "delete the file and download it again: the download or copy was truncated, or the file is damaged";
/// Maximum number of dimensions of a tensor in ggml.
const MAX_DIMENSIONS: u32 = 4;
/// Default alignment in bytes.
const DEFAULT_ALIGNMENT: usize = 32;

/// ggml's types: number, name and number format (`None` if it is not supported). Missing numbers were withdrawn.
const TYPES: [(u32, &str, Option<NumberFormat>); 35] = [
    (0, "F32", Some(NumberFormat::F32)),
    (1, "F16", Some(NumberFormat::F16)),
    (2, "Q4_0", Some(NumberFormat::Block(GgmlBlock::Q4_0))),
    (3, "Q4_1", Some(NumberFormat::Block(GgmlBlock::Q4_1))),
    (6, "Q5_0", Some(NumberFormat::Block(GgmlBlock::Q5_0))),
    (7, "Q5_1", Some(NumberFormat::Block(GgmlBlock::Q5_1))),
    (8, "Q8_0", Some(NumberFormat::Block(GgmlBlock::Q8_0))),
    (9, "Q8_1", None),
    (10, "Q2_K", Some(NumberFormat::Block(GgmlBlock::Q2K))),
    (11, "Q3_K", Some(NumberFormat::Block(GgmlBlock::Q3K))),
    (12, "Q4_K", Some(NumberFormat::Block(GgmlBlock::Q4K))),
    (13, "Q5_K", Some(NumberFormat::Block(GgmlBlock::Q5K))),
    (14, "Q6_K", Some(NumberFormat::Block(GgmlBlock::Q6K))),
    (15, "Q8_K", None),
    (16, "IQ2_XXS", None),
    (17, "IQ2_XS", None),
    (18, "IQ3_XXS", None),
    (19, "IQ1_S", None),
    (20, "IQ4_NL", None),
    (21, "IQ3_S", None),
    (22, "IQ2_S", None),
    (23, "IQ4_XS", None),
    (24, "I8", Some(NumberFormat::Other { size: 1 })),
    (25, "I16", Some(NumberFormat::Other { size: 2 })),
    (26, "I32", Some(NumberFormat::Other { size: 4 })),
    (27, "I64", Some(NumberFormat::Other { size: 8 })),
    (28, "F64", Some(NumberFormat::F64)),
    (29, "IQ1_M", None),
    (30, "BF16", Some(NumberFormat::Bf16)),
    (31, "Q4_0_4_4", None),
    (32, "Q4_0_4_8", None),
    (33, "Q4_0_8_8", None),
    (34, "TQ1_0", None),
    (35, "TQ2_0", None),
    (39, "MXFP4", None),
];

/// Whether `file` begins with the magic bytes of GGUF.
pub(super) fn is_gguf(file: &[u8]) -> bool {
    file.starts_with(b"GGUF")
}

/// Parses the table of tensors and the metadata of a file in memory.
///
/// # Errors
/// The file is truncated, damaged, of another version or byte order, or has an unsupported tensor type.
pub(super) fn parse(
    file: &[u8],
    budget: &mut MemoryBudget,
) -> Result<(BTreeMap<String, CheckpointEntry>, MetadataTable)> {
    read(file, budget).map_err(|e| e.hint(TRUNCATED))
}

fn read(file: &[u8], budget: &mut MemoryBudget) -> Result<(BTreeMap<String, CheckpointEntry>, MetadataTable)> {
    let mut cursor = Cursor { file, at: 4 };
    let version = cursor.u32()?;
    match version {
        2 | 3 => {}
        1 => {
            return Err(Error::failed("the file has version 1 of GGUF, expected 2 or 3")
                .hint("download the model in a later version, or convert it again"));
        }
        _ if matches!(version.swap_bytes(), 1..=3) => {
            return Err(Error::failed("the GGUF file is big-endian, expected little-endian").hint(
                "download the little-endian file, or convert it with `gguf-convert-endian` of the Python package gguf",
            ));
        }
        _ => {
            return Err(Error::failed(format!("the file has version {version} of GGUF, expected 2 or 3"))
                .hint("convert the model to version 3"));
        }
    }
    // The smallest table entry has an empty name, no dimensions, type and offset; the smallest pair a one-byte value.
    let tensors = cursor.count(24, "tensors")?;
    let pairs = cursor.count(13, "pairs of metadata")?;
    let table = metadata::read(&mut cursor, pairs, budget)?;
    let alignment = table.view(file).size("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
    if !alignment.is_power_of_two() {
        return Err(Error::failed(format!("general.alignment = {alignment} is not a power of two")));
    }
    let mut infos = Vec::new();
    for _ in 0..tensors {
        let (name, info) = tensor_info(&mut cursor)?;
        budget.spend(CheckpointEntry::cost(name, info.shape.len()))?;
        budget.grow::<(&str, TensorInfo)>(1)?;
        infos.push((name, info));
    }
    let start = cursor.at.checked_next_multiple_of(alignment).unwrap_or(usize::MAX);
    let mut entries = BTreeMap::new();
    for (name, info) in infos {
        let entry = check_range(info, start, alignment, file).map_err(|e| e.context(format!("tensor `{name}`")))?;
        if entries.insert(name.to_string(), entry).is_some() {
            return Err(Error::failed(format!("tensor `{name}` is listed twice")));
        }
    }
    cover(&entries, start, file.len(), alignment, budget)?;
    Ok((entries, table))
}

/// An entry of the table of tensors, before it is checked against the data.
struct TensorInfo {
    shape: Vec<usize>,
    stored: NumberFormat,
    offset: u64,
}

fn tensor_info<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a str, TensorInfo)> {
    let name = cursor.name()?;
    let rest = |cursor: &mut Cursor<'a>| {
        let dimensions = cursor.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(Error::failed(format!("has {dimensions} dimensions, ggml has at most {MAX_DIMENSIONS}")));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let length = cursor.u64()?;
            let fits = usize::try_from(length).map_err(|_| Error::failed(format!("has a dimension of {length}")))?;
            shape.push(fits);
        }
        shape.reverse();
        let number = cursor.u32()?;
        let stored = match TYPES.iter().find(|(id, ..)| *id == number) {
            Some((_, _, Some(stored))) => *stored,
            known => {
                let name =
                    known.map_or_else(|| format!("the unknown type {number}"), |(_, name, _)| format!("type {name}"));
                let read = TYPES
                    .iter()
                    .filter(|(.., stored)| stored.is_some_and(NumberFormat::is_float))
                    .map(|(_, name, _)| *name);
                return Err(Error::failed(format!("is stored as {name}, which is not supported")).hint(format!(
                    "download the model in one of these types: {}",
                    read.collect::<Vec<_>>().join(", ")
                )));
            }
        };
        Ok(TensorInfo { shape, stored, offset: cursor.u64()? })
    };
    match rest(cursor) {
        Ok(info) => Ok((name, info)),
        Err(e) => Err(e.context(format!("tensor `{name}`"))),
    }
}

/// Checks a table entry against the data, which begin at byte `start`.
fn check_range(info: TensorInfo, start: usize, alignment: usize, file: &[u8]) -> Result<CheckpointEntry> {
    let TensorInfo { shape, stored, offset } = info;
    let (elements, bytes) = stored.unit();
    let row = shape.last().copied().unwrap_or(1);
    if !row.is_multiple_of(elements) {
        return Err(Error::failed(format!(
            "has rows of {row} values, must be a multiple of the block length {elements}"
        )));
    }
    let length = shape.iter().try_fold(1usize, |all, n| all.checked_mul(*n));
    let length = length.and_then(|numbers| (numbers / elements).checked_mul(bytes));
    let from = usize::try_from(offset).ok().and_then(|offset| start.checked_add(offset));
    let range = from.zip(length).and_then(|(from, length)| Some(from..from.checked_add(length)?));
    let Some(range) = range.filter(|range| range.end <= file.len()) else {
        return Err(Error::failed(format!(
            "with shape {shape:?} at byte {offset} of the data exceeds the file of {} bytes",
            file.len()
        )));
    };
    if !offset.is_multiple_of(alignment as u64) {
        return Err(Error::failed(format!("begins at byte {offset} of the data, not at a multiple of {alignment}")));
    }
    Ok(CheckpointEntry { stored, shape, strides: None, bytes: range })
}

/// Checks that the tensors follow each other with nothing but padding between them.
fn cover(
    entries: &BTreeMap<String, CheckpointEntry>,
    start: usize,
    end: usize,
    alignment: usize,
    budget: &mut MemoryBudget,
) -> Result<()> {
    budget.grow::<(&Range<usize>, &str)>(entries.len())?;
    let mut places: Vec<(&Range<usize>, &str)> = entries.iter().map(|(k, e)| (&e.bytes, k.as_str())).collect();
    places.sort_by_key(|(range, _)| (range.start, range.end));
    let mut at = start;
    for (range, key) in places {
        if range.start != at {
            let what = if range.start < at { "overlaps the tensor before it" } else { "leaves a gap before it" };
            return Err(Error::failed(format!("tensor `{key}` {what}")));
        }
        at = range.end.checked_next_multiple_of(alignment).unwrap_or(usize::MAX);
    }
    if end > at {
        return Err(Error::failed(format!("{} bytes at the end belong to no tensor", end - at)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
    }

    /// Builds a file with a text, a flag, a list, and a tensor of four ones.
    fn file() -> Vec<u8> {
        let mut bytes = [b"GGUF", &3u32.to_le_bytes()[..], &1u64.to_le_bytes(), &3u64.to_le_bytes()].concat();
        bytes.extend([text("a.text"), 8u32.to_le_bytes().to_vec(), text("héllo")].concat());
        bytes.extend([text("a.flag"), 7u32.to_le_bytes().to_vec(), vec![1]].concat());
        let list = [&8u32.to_le_bytes()[..], &2u64.to_le_bytes(), &text("x"), &text("yz")].concat();
        bytes.extend([text("a.list"), 9u32.to_le_bytes().to_vec(), list].concat());
        bytes.extend([&text("w")[..], &2u32.to_le_bytes(), &2u64.to_le_bytes(), &2u64.to_le_bytes()].concat());
        bytes.extend([&0u32.to_le_bytes()[..], &0u64.to_le_bytes()].concat());
        bytes.resize(bytes.len().next_multiple_of(DEFAULT_ALIGNMENT), 0);
        bytes.extend(1f32.to_le_bytes().repeat(4));
        bytes
    }

    fn parse(file: &[u8]) -> Result<(BTreeMap<String, CheckpointEntry>, MetadataTable)> {
        super::parse(file, &mut MemoryBudget::of(file.len()))
    }

    #[test]
    fn a_good_file_is_read() -> Result<()> {
        let file = file();
        let (entries, table) = parse(&file)?;
        assert_eq!(entries["w"].shape, [2, 2]);
        assert_eq!(entries["w"].bytes, file.len() - 16..file.len());
        let metadata = table.view(&file);
        assert_eq!(metadata.text("a.text")?, Some("héllo"));
        assert_eq!(metadata.flag("a.flag")?, Some(true));
        assert_eq!(metadata.text("b")?, None);
        assert!(metadata.text("a.flag").unwrap_err().to_string().contains("`a.flag`"));
        let list = metadata.list("a.list")?.ok_or_else(|| Error::failed("no list"))?;
        assert_eq!(list.texts()?.collect::<Result<Vec<_>>>()?, ["x", "yz"]);
        assert!(list.numbers().is_err());
        Ok(())
    }

    /// Builds a file with `general.alignment` and one tensor of these lengths at this offset, with four values.
    fn odd(alignment: u64, lengths: &[u64], offset: u64) -> Vec<u8> {
        let mut bytes = [b"GGUF", &3u32.to_le_bytes()[..], &1u64.to_le_bytes(), &1u64.to_le_bytes()].concat();
        bytes.extend([&text("general.alignment")[..], &10u32.to_le_bytes(), &alignment.to_le_bytes()].concat());
        bytes.extend([&text("w")[..], &u32::try_from(lengths.len()).unwrap_or(u32::MAX).to_le_bytes()].concat());
        bytes.extend(lengths.iter().flat_map(|n| n.to_le_bytes()));
        bytes.extend([&0u32.to_le_bytes()[..], &offset.to_le_bytes()].concat());
        bytes.resize(bytes.len().next_multiple_of(DEFAULT_ALIGNMENT), 0);
        bytes.extend(1f32.to_le_bytes().repeat(4));
        bytes
    }

    #[test]
    fn numbers_that_no_file_can_hold_are_errors() -> Result<()> {
        assert_eq!(parse(&odd(32, &[2, 2], 0))?.0["w"].shape, [2, 2]);
        for alignment in [0, 3, 1 << 62, 1 << 63, u64::MAX] {
            assert!(parse(&odd(alignment, &[2, 2], 0)).is_err(), "{alignment}");
        }
        for lengths in [&[1 << 33, 1 << 33][..], &[u64::MAX, u64::MAX], &[u64::MAX], &[10u64.pow(18), 4], &[1; 5], &[5]]
        {
            assert!(parse(&odd(32, lengths, 0)).is_err(), "{lengths:?}");
        }
        for offset in [u64::MAX, u64::MAX - 31, 32, 1] {
            assert!(parse(&odd(32, &[2, 2], offset)).is_err(), "{offset}");
        }
        // Offsets of the counts of tensors and pairs, the lengths of a key and of a text, and the count of a list.
        let whole = file();
        let list = whole.windows(6).position(|w| w == b"a.list").unwrap_or(0) + 14;
        for at in [8, 16, 24, 42, list] {
            for claimed in [u64::MAX, 1 << 62, 1 << 40, 1000] {
                let mut bytes = whole.clone();
                bytes[at..at + 8].copy_from_slice(&claimed.to_le_bytes());
                let e = parse(&bytes).unwrap_err().to_string();
                assert!(e.contains("are left") || e.contains("a name has"), "{at} {claimed}: {e}");
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_damaged_file_never_panics_nor_points_outside(at in 0usize..200, byte in any::<u8>(), cut in 0usize..200) {
            let mut bytes = file();
            let last = bytes.len() - 1;
            bytes[at.min(last)] = byte;
            bytes.truncate(bytes.len() - cut.min(last));
            if let Ok((entries, table)) = parse(&bytes) {
                prop_assert!(entries.values().all(|e| e.bytes.end <= bytes.len()));
                let metadata = table.view(&bytes);
                for key in metadata.keys() {
                    if let Ok(Some(list)) = metadata.list(key) {
                        let _ = list.texts().map(Iterator::count);
                    }
                }
            }
        }
    }
}
