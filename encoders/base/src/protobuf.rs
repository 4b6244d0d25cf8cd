//! Reads the wire format of protocol buffers without a schema compiler, for ONNX models and SentencePiece tokenizers.
//!
//! A message is a sequence of fields, each a number, a wire type and a value
//! (<https://protobuf.dev/programming-guides/encoding/>). Nothing is copied, and lengths are checked against the bytes
//! that exist before they are used, so a file cannot demand more memory than it has bytes.

use crate::{Error, Result};

/// A message: an iterator over its fields in the order of the file, which ends after the first error.
#[derive(Debug, Clone)]
pub struct ProtobufMessage<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A field of a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProtobufField<'a> {
    /// The field's number in the schema.
    pub number: u32,
    /// The field's value.
    pub value: ProtobufValue<'a>,
}

/// The value of a field, by its wire type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ProtobufValue<'a> {
    /// An integer, Boolean or enumeration value.
    Varint(u64),
    /// A value of type `fixed64` or `double`, little-endian.
    Fixed64([u8; 8]),
    /// A string, byte string, message or packed list.
    Bytes(&'a [u8]),
    /// A value of type `fixed32` or `float`, little-endian.
    Fixed32([u8; 4]),
}

impl ProtobufValue<'_> {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Varint(_) => "an integer",
            Self::Fixed64(_) => "a number of 64 bits",
            Self::Bytes(_) => "bytes",
            Self::Fixed32(_) => "a number of 32 bits",
        }
    }
}

impl<'a> ProtobufMessage<'a> {
    /// Reads all of `bytes` as one message.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn field(&mut self) -> Result<ProtobufField<'a>> {
        let key = varint(self.bytes, &mut self.at)?;
        let number = u32::try_from(key >> 3).ok().filter(|n| (1..1 << 29).contains(n));
        let number = number.ok_or_else(|| {
            Error::failed(format!("field number {} is invalid, must be from 1 to 536870911", key >> 3))
        })?;
        let value = match key & 7 {
            0 => ProtobufValue::Varint(varint(self.bytes, &mut self.at)?),
            1 => ProtobufValue::Fixed64(self.fixed()?),
            2 => {
                let length = varint(self.bytes, &mut self.at)?;
                ProtobufValue::Bytes(self.take(length)?)
            }
            5 => ProtobufValue::Fixed32(self.fixed()?),
            other => return Err(Error::failed(format!("field {number} has wire type {other}, expected 0, 1, 2 or 5"))),
        };
        Ok(ProtobufField { number, value })
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(length).ok().and_then(|n| rest.get(..n)).ok_or_else(|| {
            Error::failed(format!(
                "the length before byte {} is {length}, but only {} bytes are left",
                self.at,
                rest.len()
            ))
        })?;
        self.at += taken.len();
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N as u64)?;
        bytes.try_into().map_err(|_| Error::failed("the message ends inside a number"))
    }
}

impl<'a> Iterator for ProtobufMessage<'a> {
    type Item = Result<ProtobufField<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let begin = self.at;
        let field = self.field().map_err(|e| e.context(format!("protocol buffer, field at byte {begin}")));
        if field.is_err() {
            self.at = self.bytes.len();
        }
        Some(field)
    }
}

impl<'a> ProtobufField<'a> {
    /// Returns the value as the bytes of a string, message or packed list.
    pub fn bytes(&self) -> Result<&'a [u8]> {
        match self.value {
            ProtobufValue::Bytes(bytes) => Ok(bytes),
            _ => Err(self.wrong_type("bytes")),
        }
    }

    /// Returns the value as a message.
    pub fn message(&self) -> Result<ProtobufMessage<'a>> {
        self.bytes().map(ProtobufMessage::new)
    }

    /// Returns the value as UTF-8 text.
    pub fn text(&self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::failed(format!("field {} is not UTF-8", self.number)))
    }

    /// Returns the value as a signed integer of 64 bits.
    pub fn int(&self) -> Result<i64> {
        match self.value {
            ProtobufValue::Varint(value) => Ok(value as i64),
            _ => Err(self.wrong_type("an integer")),
        }
    }

    /// Returns the value as a `float`.
    pub fn float(&self) -> Result<f32> {
        match self.value {
            ProtobufValue::Fixed32(bytes) => Ok(f32::from_le_bytes(bytes)),
            _ => Err(self.wrong_type("a float")),
        }
    }

    /// Appends the integers of a repeated field, packed or not, to `list`.
    pub fn ints_into(&self, list: &mut Vec<i64>) -> Result<()> {
        match self.value {
            ProtobufValue::Varint(value) => list.push(value as i64),
            ProtobufValue::Bytes(bytes) => {
                let mut at = 0;
                while at < bytes.len() {
                    list.push(varint(bytes, &mut at)? as i64);
                }
            }
            _ => return Err(self.wrong_type("a list of integers")),
        }
        Ok(())
    }

    fn wrong_type(&self, expected: &str) -> Error {
        Error::failed(format!("field {} is {}, expected {expected}", self.number, self.value.type_name()))
    }
}

/// Reads an integer in groups of seven bits, the lowest first, of at most ten bytes.
fn varint(bytes: &[u8], at: &mut usize) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = *bytes.get(*at).ok_or_else(|| Error::failed("the message ends inside a number"))?;
        *at += 1;
        // Only the lowest bit of the tenth byte fits.
        if shift == 63 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Error::failed("a number has more than 64 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Field 1 = 150 (the specification's own example), 2 = "testing", 3 = 1.5f, 4 = [3, 270, 86942] packed, 5 = -1.
    const GOOD: &[u8] = &[
        0x08, 0x96, 0x01, 0x12, 0x07, b't', b'e', b's', b't', b'i', b'n', b'g', 0x1d, 0, 0, 0xc0, 0x3f, 0x22, 0x06,
        0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05, 0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
    ];

    #[test]
    fn fields_are_read_as_the_specification_writes_them() -> Result<()> {
        let fields = ProtobufMessage::new(GOOD).collect::<Result<Vec<_>>>()?;
        assert_eq!(fields.iter().map(|f| f.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert_eq!(
            (fields[0].int()?, fields[1].text()?, fields[2].float()?, fields[4].int()?),
            (150, "testing", 1.5, -1)
        );
        let mut packed = Vec::new();
        fields[3].ints_into(&mut packed)?;
        fields[0].ints_into(&mut packed)?;
        assert_eq!(packed, [3, 270, 86942, 150]);
        assert!(fields[0].text().is_err() && fields[1].int().is_err() && fields[1].float().is_err());
        Ok(())
    }

    #[test]
    fn cut_and_hostile_messages_are_errors() {
        let whole = ProtobufMessage::new(GOOD).count();
        for cut in 1..GOOD.len() {
            let read: Vec<_> = ProtobufMessage::new(&GOOD[..cut]).collect();
            let fields = read.iter().filter(|f| f.is_ok()).count();
            assert!(fields < whole, "{cut}");
            assert!(read.iter().rev().skip(1).all(Result::is_ok), "an error is the last item");
        }
        let say =
            |bytes: &[u8]| ProtobufMessage::new(bytes).last().map(|f| f.unwrap_err().to_string()).unwrap_or_default();
        // 2^63 bytes announced; a group; field number 0; a number that never ends.
        assert!(
            say(&[0x12, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 1])
                .contains("only 1 bytes are left")
        );
        assert!(say(&[0x0b]).contains("wire type 3"));
        assert!(say(&[0x00, 0x01]).contains("field number 0 is invalid"));
        assert!(say(&[0xff; 20]).contains("more than 64 bits"));
    }
}
