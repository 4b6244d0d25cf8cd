//! TensorFlow's record files and the messages in them: `tf.train.Example` and `tf.train.SequenceExample`.
//!
//! A record is its length (8 bytes), a checksum of the length (4), the data, and a checksum of the data (4); numbers
//! are little-endian, checksums are CRC-32C, rotated right by 15 bits plus 0xa282ead8.

use super::records::{Counted, MAX_RECORD};
use burgess_base::Result;
use burgess_base::protobuf::ProtobufMessage;
use std::collections::HashMap;
use std::io::{self, BufRead};

/// Reads the next record; `None` at the end of the file.
///
/// # Errors
/// The file is cut, or a checksum is wrong; the rest cannot be read then, since a wrong length leads anywhere.
pub(super) fn next(file: &mut Counted<impl BufRead>) -> io::Result<Option<Vec<u8>>> {
    if file.is_at_end()? {
        return Ok(None);
    }
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let head = file.exactly(12)?;
    let (length, sum) = head.split_at(8);
    if masked(length) != number(sum) as u32 {
        return Err(invalid("the checksum of a length is wrong: it is no TFRecord file, or damaged".into()));
    }
    let length = number(length);
    let size = usize::try_from(length).ok().filter(|size| *size <= MAX_RECORD);
    let size = size.ok_or_else(|| invalid(format!("a record has {length} bytes, the limit is {MAX_RECORD}")))?;
    let data = file.exactly(size)?;
    let sum = file.exactly(4)?;
    match masked(&data) == number(&sum) as u32 {
        true => Ok(Some(data)),
        false => Err(invalid("the checksum of a record is wrong".into())),
    }
}

/// A number of up to 8 bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Returns the checksum of bytes as the files have it.
pub(super) fn masked(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn crc32c(bytes: &[u8]) -> u32 {
    /// For each byte, its remainder with the polynomial 0x1edc6f41, reflected.
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut n = 0;
        while n < 256 {
            let mut value = n as u32;
            let mut bit = 0;
            while bit < 8 {
                value = if value & 1 == 1 { value >> 1 ^ 0x82f6_3b78 } else { value >> 1 };
                bit += 1;
            }
            table[n] = value;
            n += 1;
        }
        table
    };
    !bytes.iter().fold(!0u32, |sum, byte| {
        let at = usize::from(sum.to_le_bytes()[0] ^ *byte);
        TABLE.get(at).copied().unwrap_or(0) ^ sum >> 8
    })
}

/// The values of a feature; floats are not read, since pages have none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Feature {
    pub bytes: Vec<Vec<u8>>,
    pub ints: Vec<i64>,
}

impl Feature {
    /// Returns the values as text; bytes that are no UTF-8 are replaced.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.bytes.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }
}

/// An example: features by name, and lists of features by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Example {
    pub features: HashMap<String, Feature>,
    pub lists: HashMap<String, Vec<Feature>>,
}

impl Example {
    /// Parses a `SequenceExample`, or an `Example`, which is one without lists.
    ///
    /// # Errors
    /// The bytes are no such message.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let mut example = Self::default();
        for field in ProtobufMessage::new(bytes) {
            let field = field?;
            match field.number {
                1 => each_entry(field.message()?, &mut |key, value| {
                    example.features.insert(key, feature(value)?);
                    Ok(())
                })?,
                2 => each_entry(field.message()?, &mut |key, value| {
                    let mut list = Vec::new();
                    for item in value {
                        let item = item?;
                        if item.number == 1 {
                            list.push(feature(item.message()?)?);
                        }
                    }
                    example.lists.insert(key, list);
                    Ok(())
                })?,
                _ => {}
            }
        }
        Ok(example)
    }
}

/// Reads the entries of a map: messages with a key (1) and a value (2).
fn each_entry<'a>(
    map: ProtobufMessage<'a>,
    each: &mut dyn FnMut(String, ProtobufMessage<'a>) -> Result<()>,
) -> Result<()> {
    for entry in map {
        let entry = entry?;
        if entry.number != 1 {
            continue;
        }
        let (mut key, mut value) = (String::new(), ProtobufMessage::new(&[]));
        for field in entry.message()? {
            let field = field?;
            match field.number {
                1 => key = field.text()?.to_string(),
                2 => value = field.message()?,
                _ => {}
            }
        }
        each(key, value)?;
    }
    Ok(())
}

fn feature(message: ProtobufMessage<'_>) -> Result<Feature> {
    let mut feature = Feature::default();
    for field in message {
        let field = field?;
        let inner = field.message()?;
        for value in inner {
            let value = value?;
            match (field.number, value.number) {
                (1, 1) => feature.bytes.push(value.bytes()?.to_vec()),
                (3, 1) => value.ints_into(&mut feature.ints)?,
                _ => {}
            }
        }
    }
    Ok(feature)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes a field of a message.
    pub fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        [out, bytes.to_vec()].concat()
    }

    pub fn strings(values: &[&str]) -> Vec<u8> {
        field(1, &values.iter().flat_map(|value| field(1, value.as_bytes())).collect::<Vec<_>>())
    }

    pub fn ints(values: &[u8]) -> Vec<u8> {
        field(3, &field(1, values))
    }

    pub fn entry(key: &str, value: &[u8]) -> Vec<u8> {
        field(1, &[field(1, key.as_bytes()), field(2, value)].concat())
    }

    pub fn record(data: &[u8]) -> Vec<u8> {
        let length = (data.len() as u64).to_le_bytes();
        [&length[..], &masked(&length).to_le_bytes(), data, &masked(data).to_le_bytes()].concat()
    }

    #[test]
    fn checksums_and_damage() {
        // Test vectors of RFC 3720.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let file = [record(b"one"), record(b""), record(b"three")].concat();
        let read = |bytes: &[u8]| {
            let mut file = Counted::new(io::BufReader::new(bytes));
            let mut count = 0;
            loop {
                match next(&mut file) {
                    Ok(Some(_)) => count += 1,
                    Ok(None) => return (count, None),
                    Err(e) => return (count, Some(e.to_string())),
                }
            }
        };
        assert_eq!(read(&file), (3, None));
        for cut in 1..file.len() {
            let (count, error) = read(&file[..cut]);
            assert!(count < 3 && (error.is_some() || [19, 35].contains(&cut)), "{cut}");
        }
        let mut damaged = file.clone();
        damaged[13] ^= 1;
        assert_eq!(read(&damaged), (0, Some("the checksum of a record is wrong".into())));
        let huge = u64::MAX.to_le_bytes();
        let huge = [&huge[..], &masked(&huge).to_le_bytes()].concat();
        assert!(read(&huge).1.is_some_and(|why| why.contains("the limit is")));
    }

    #[test]
    fn examples_are_read() {
        let context = field(1, &[entry("title", &strings(&["Oak"])), entry("n", &ints(&[1, 2]))].concat());
        let list = [field(1, &strings(&["a", "b"])), field(1, &[])].concat();
        let lists = field(2, &entry("urls", &list));
        let example = Example::parse(&[context, lists].concat()).unwrap();
        assert_eq!(example.features["title"].texts().collect::<Vec<_>>(), ["Oak"]);
        assert_eq!(example.features["n"].ints, [1, 2]);
        assert_eq!(example.lists["urls"].iter().map(|f| f.bytes.len()).collect::<Vec<_>>(), [2, 0]);
        assert!(Example::parse(b"\x0a\x05abc").is_err());
    }
}
