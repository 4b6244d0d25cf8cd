//! Reads the header of a safetensors file as untrusted input: every number is checked against the length of the file
//! before it is used, and every entry is charged to the file's [`MemoryBudget`].
//!
//! The format: 8 bytes with the header's length (little endian), the header as JSON (tensor name →
//! `{dtype, shape, data_offsets}`, plus free text under `__metadata__`), then the data without gaps.

use super::budget::MemoryBudget;
use super::entry::{CheckpointEntry, MAX_DIMENSIONS, MAX_NAME};
use crate::number_format::NumberFormat;
use burgess_base::{Error, Result};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// An entry of the JSON header before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Dimensions,
    data_offsets: [u64; 2],
}

/// A shape with at most [`MAX_DIMENSIONS`] dimensions.
struct Dimensions(Vec<u64>);

impl<'de> Deserialize<'de> for Dimensions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Numbers;
        impl<'de> Visitor<'de> for Numbers {
            type Value = Dimensions;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {MAX_DIMENSIONS} dimensions")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Dimensions, A::Error> {
                let mut shape = Vec::new();
                while let Some(n) = list.next_element()? {
                    if shape.len() == MAX_DIMENSIONS {
                        return Err(A::Error::invalid_length(shape.len() + 1, &self));
                    }
                    shape.push(n);
                }
                Ok(Dimensions(shape))
            }
        }
        deserializer.deserialize_seq(Numbers)
    }
}

/// Reads the JSON header as a list, because a map would hide duplicate keys, and charges each entry to the budget.
struct HeaderEntries<'a>(&'a mut MemoryBudget);

impl<'de> DeserializeSeed<'de> for HeaderEntries<'_> {
    type Value = Vec<(String, RawEntry)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for HeaderEntries<'_> {
    type Value = Vec<(String, RawEntry)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from tensor names to their positions")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut lines = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if key.len() > MAX_NAME {
                return Err(A::Error::custom(format!("a name has {} bytes, must have at most {MAX_NAME}", key.len())));
            }
            let raw: RawEntry = map.next_value()?;
            let cost = CheckpointEntry::cost(&key, raw.shape.0.len()) + 3 * size_of::<(String, RawEntry)>();
            self.0.spend(cost).map_err(A::Error::custom)?;
            lines.push((key, raw));
        }
        Ok(lines)
    }
}

/// Returns the number format with this name in a safetensors header; `None` if it is unknown.
fn format_of(name: &str) -> Option<NumberFormat> {
    Some(match name {
        "F64" => NumberFormat::F64,
        "F32" => NumberFormat::F32,
        "F16" => NumberFormat::F16,
        "BF16" => NumberFormat::Bf16,
        "I64" | "U64" | "C64" => NumberFormat::Other { size: 8 },
        "I32" | "U32" => NumberFormat::Other { size: 4 },
        "I16" | "U16" => NumberFormat::Other { size: 2 },
        "I8" | "U8" | "BOOL" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => {
            NumberFormat::Other { size: 1 }
        }
        _ => return None,
    })
}

/// Parses the header of a whole safetensors file in memory.
///
/// # Errors
/// The file is truncated or of another format, or its header is inconsistent: lengths beyond the end, ranges that
/// overlap or leave gaps, sizes that do not match shape and dtype, duplicate names.
pub fn parse(file: &[u8], budget: &mut MemoryBudget) -> Result<BTreeMap<String, CheckpointEntry>> {
    const TRUNCATED: &str =
        "delete the file and download it again: the download or copy was truncated, or the file is damaged";
    if file.starts_with(b"version https://git-lfs") {
        return Err(Error::failed("the file is a Git LFS pointer, expected weights")
            .hint("run `git lfs pull` in the repository of the file"));
    }
    let Some((length, rest)) = file.split_first_chunk::<8>() else {
        return Err(
            Error::failed(format!("the file is {} bytes long, a header has at least 8", file.len())).hint(TRUNCATED)
        );
    };
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length).ok().and_then(|n| rest.get(..n)).ok_or_else(|| {
        Error::failed(format!("the header length is {length} bytes, but only {} bytes are left", rest.len()))
            .hint(TRUNCATED)
    })?;
    // Any string of the header may be long, and may be copied into a message.
    budget.spend(4 * header.len())?;
    let mut json = serde_json::Deserializer::from_slice(header);
    let lines = HeaderEntries(budget).deserialize(&mut json).and_then(|lines| json.end().map(|()| lines));
    let lines = lines.map_err(|e| Error::failed(format!("the header is not valid: {e}")).hint(TRUNCATED))?;

    let start = 8 + header.len();
    let available = file.len() - start;
    let mut entries = BTreeMap::new();
    for (key, raw) in lines {
        let entry = check(&raw, start, available).map_err(|e| e.context(format!("tensor `{key}`")).hint(TRUNCATED))?;
        if entries.insert(key.clone(), entry).is_some() {
            return Err(Error::failed(format!("tensor `{key}` is listed twice")).hint(TRUNCATED));
        }
    }
    cover(&entries, start, file.len()).map_err(|e| e.hint(TRUNCATED))?;
    Ok(entries)
}

/// Checks an entry against the `available` bytes of data that begin at byte `start`.
fn check(raw: &RawEntry, start: usize, available: usize) -> Result<CheckpointEntry> {
    let stored = format_of(&raw.dtype).ok_or_else(|| Error::failed(format!("the dtype `{}` is unknown", raw.dtype)))?;
    let [from, to] = raw.data_offsets;
    let range = (usize::try_from(from).ok()).zip(usize::try_from(to).ok()).filter(|(f, t)| f <= t && *t <= available);
    let Some((from, to)) = range else {
        return Err(Error::failed(format!("lies at bytes {from}..{to} of {available} bytes of data")));
    };
    let shape: Option<Vec<usize>> = raw.shape.0.iter().map(|&n| usize::try_from(n).ok()).collect();
    let size = shape.as_deref().and_then(|s| s.iter().try_fold(stored.size(), |a, &n| a.checked_mul(n)));
    match (shape, size) {
        (Some(shape), Some(size)) if size == to - from => {
            Ok(CheckpointEntry { stored, shape, strides: None, bytes: start + from..start + to })
        }
        _ => Err(Error::failed(format!(
            "has {} bytes of data, which does not match shape {:?} of {}",
            to - from,
            raw.shape.0,
            raw.dtype
        ))),
    }
}

/// Checks that the tensors cover the data section exactly: a gap or an overlap means a damaged file.
fn cover(entries: &BTreeMap<String, CheckpointEntry>, start: usize, end: usize) -> Result<()> {
    let mut places: Vec<(&Range<usize>, &str)> = entries.iter().map(|(k, e)| (&e.bytes, k.as_str())).collect();
    places.sort_by_key(|(r, _)| (r.start, r.end));
    let mut at = start;
    for (range, key) in places {
        if range.start != at {
            let what = if range.start < at { "overlaps the tensor before it" } else { "leaves a gap before it" };
            return Err(Error::failed(format!("tensor `{key}` {what}")));
        }
        at = range.end;
    }
    if at != end {
        return Err(Error::failed(format!("{} bytes at the end belong to no tensor", end - at)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(file: &[u8]) -> Result<BTreeMap<String, CheckpointEntry>> {
        super::parse(file, &mut MemoryBudget::of(file.len()))
    }

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    const GOOD: &str = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"b":{"dtype":"F32","shape":[],"data_offsets":[12,16]}}"#;

    #[test]
    fn a_good_header_is_read() -> Result<()> {
        let entries = parse(&file(GOOD, 16))?;
        assert_eq!(
            entries["a"],
            CheckpointEntry {
                stored: NumberFormat::F16,
                shape: vec![2, 3],
                strides: None,
                bytes: 8 + GOOD.len()..20 + GOOD.len()
            }
        );
        assert_eq!(entries["b"].shape, Vec::<usize>::new());
        assert!(parse(&file("{}", 0))?.is_empty());
        Ok(())
    }

    #[test]
    fn every_contradiction_is_named() {
        let say = |header: &str, data: usize| parse(&file(header, data)).map(|_| ()).unwrap_err().to_string();
        assert!(say(GOOD, 15).contains("tensor `b`: lies at bytes 12..16 of 15 bytes"));
        assert!(say(GOOD, 17).contains("1 bytes at the end belong to no tensor"));
        assert!(
            say(r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8).contains("does not match shape [3]")
        );
        assert!(
            say(r#"{"a":{"dtype":"Q7","shape":[3],"data_offsets":[0,8]}}"#, 8).contains("the dtype `Q7` is unknown")
        );
        let huge = r#"{"a":{"dtype":"F32","shape":[9223372036854775807,9223372036854775807],"data_offsets":[0,8]}}"#;
        assert!(say(huge, 8).contains("does not match shape"));
        let twice = r#"{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"a":{"dtype":"F16","shape":[1],"data_offsets":[2,4]}}"#;
        assert!(say(twice, 4).contains("listed twice"));
        let overlap = r#"{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},"b":{"dtype":"F16","shape":[2],"data_offsets":[2,6]}}"#;
        assert!(say(overlap, 6).contains("overlaps"));
        let gap = r#"{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},"b":{"dtype":"F16","shape":[1],"data_offsets":[4,6]}}"#;
        assert!(say(gap, 6).contains("leaves a gap"));
        assert!(parse(b"abc").unwrap_err().to_string().contains("3 bytes long"));
        assert!(parse(&[255; 64]).unwrap_err().to_string().contains("header length is"));
        assert!(parse(b"version https://git-lfs.github.com/spec/v1\noid").unwrap_err().hint_text().is_some());
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_damaged_header_never_panics_nor_points_outside(at in 0usize..180, byte in any::<u8>(), cut in 0usize..180) {
            let mut bytes = file(GOOD, 16);
            let last = bytes.len() - 1;
            bytes[at.min(last)] = byte;
            bytes.truncate(bytes.len() - cut.min(last));
            if let Ok(entries) = parse(&bytes) {
                prop_assert!(entries.values().all(|e| e.bytes.end <= bytes.len()));
            }
        }

        #[test]
        fn any_header_text_with_odd_numbers_is_judged(from in any::<u64>(), to in any::<u64>(), shape in proptest::collection::vec(any::<u64>(), 0..4)) {
            let header = format!(r#"{{"a":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{from},{to}]}}}}"#);
            let _ = parse(&file(&header, 64));
        }
    }
}
