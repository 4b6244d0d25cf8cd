//! Reads the part of Thrift's compact protocol that footers and page headers of parquet files need, from a slice, with
//! every length checked against the remaining bytes.

/// Maximum nesting depth of structures.
const DEPTH: usize = 24;

/// Reason why a value could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The bytes end within the value.
    Cut,
    /// The bytes are not valid.
    Malformed,
}

type Read<T> = Result<T, Fault>;

/// Type codes of values.
pub(super) const TRUE: u8 = 1;
pub(super) const FALSE: u8 = 2;
pub(super) const BINARY: u8 = 8;
pub(super) const LIST: u8 = 9;
pub(super) const STRUCT: u8 = 12;

/// A cursor over the bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compact<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Compact<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, depth: 0 }
    }

    /// Returns the number of bytes that were read.
    pub fn at(&self) -> usize {
        self.at
    }

    fn byte(&mut self) -> Read<u8> {
        let byte = self.bytes.get(self.at).copied().ok_or(Fault::Cut)?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Read<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::Malformed)
    }

    /// Reads an integer of 16, 32 or 64 bits.
    pub fn int(&mut self) -> Read<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Reads text or bytes.
    pub fn binary(&mut self) -> Read<&'a [u8]> {
        let length = usize::try_from(self.varint()?).map_err(|_| Fault::Malformed)?;
        let end = self.at.checked_add(length).ok_or(Fault::Malformed)?;
        let bytes = self.bytes.get(self.at..end).ok_or(Fault::Cut)?;
        self.at = end;
        Ok(bytes)
    }

    /// Reads the type and number of a list's items; every item takes at least one byte.
    pub fn list(&mut self) -> Read<(u8, usize)> {
        let head = self.byte()?;
        let size = match head >> 4 {
            15 => self.varint()?,
            short => u64::from(short),
        };
        let size = usize::try_from(size).map_err(|_| Fault::Malformed)?;
        if size > self.bytes.len() - self.at {
            return Err(Fault::Cut);
        }
        Ok((head & 0x0f, size))
    }

    /// Calls `each` with id and type of every field of a structure; `each` returns whether it has read the value.
    pub fn structure(&mut self, each: &mut dyn FnMut(&mut Self, i64, u8) -> Read<bool>) -> Read<()> {
        if self.depth >= DEPTH {
            return Err(Fault::Malformed);
        }
        self.depth += 1;
        let mut last = 0_i64;
        loop {
            let head = self.byte()?;
            let kind = head & 0x0f;
            if kind == 0 {
                self.depth -= 1;
                return Ok(());
            }
            last = match head >> 4 {
                0 => self.int()?,
                more => last.saturating_add(i64::from(more)),
            };
            if !each(self, last, kind)? {
                self.skip(kind, false)?;
            }
        }
    }

    /// Skips a value; a boolean takes one byte within a list and none as a field.
    fn skip(&mut self, kind: u8, listed: bool) -> Read<()> {
        match kind {
            TRUE | FALSE if !listed => Ok(()),
            TRUE | FALSE | 3 => self.byte().map(drop),
            4..=6 => self.varint().map(drop),
            7 => {
                self.at += 8;
                if self.at > self.bytes.len() { Err(Fault::Cut) } else { Ok(()) }
            }
            BINARY => self.binary().map(drop),
            LIST | 10 => {
                let (kind, size) = self.list()?;
                self.items(kind, size)
            }
            11 => {
                let size = usize::try_from(self.varint()?).map_err(|_| Fault::Malformed)?;
                if size == 0 {
                    return Ok(());
                }
                if size > self.bytes.len() - self.at {
                    return Err(Fault::Cut);
                }
                let kinds = self.byte()?;
                self.deeper(|it| {
                    for _ in 0..size {
                        it.skip(kinds >> 4, true)?;
                        it.skip(kinds & 0x0f, true)?;
                    }
                    Ok(())
                })
            }
            STRUCT => self.structure(&mut |_, _, _| Ok(false)),
            _ => Err(Fault::Malformed),
        }
    }

    fn items(&mut self, kind: u8, size: usize) -> Read<()> {
        self.deeper(|it| {
            for _ in 0..size {
                it.skip(kind, true)?;
            }
            Ok(())
        })
    }

    fn deeper(&mut self, read: impl FnOnce(&mut Self) -> Read<()>) -> Read<()> {
        if self.depth >= DEPTH {
            return Err(Fault::Malformed);
        }
        self.depth += 1;
        read(self)?;
        self.depth -= 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_passed_over() {
        // {1: -3, 2: true, 5: [7, 8], 6: {}, 7: "ab"}, then one more byte.
        let bytes = [0x15, 0x05, 0x11, 0x39, 0x25, 0x0e, 0x10, 0x1c, 0x00, 0x18, 0x02, b'a', b'b', 0x00, 0xff];
        let mut compact = Compact::new(&bytes);
        let mut seen = Vec::new();
        let read = compact.structure(&mut |it, id, kind| {
            seen.push((id, kind));
            Ok(match id {
                1 => it.int()? == -3,
                7 => it.binary()? == b"ab",
                _ => false,
            })
        });
        assert_eq!((read, compact.at()), (Ok(()), bytes.len() - 1));
        assert_eq!(seen, [(1, 5), (2, 1), (5, 9), (6, 12), (7, 8)]);
        for end in 0..bytes.len() - 1 {
            let cut = Compact::new(&bytes[..end]).structure(&mut |_, _, _| Ok(false));
            assert_eq!(cut, Err(Fault::Cut), "{end}");
        }
        let deep = [0x1c; 100_000];
        assert_eq!(Compact::new(&deep).structure(&mut |_, _, _| Ok(false)), Err(Fault::Malformed));
        let lists = [vec![0x19], vec![0x19; 100_000]].concat();
        assert_eq!(Compact::new(&lists).structure(&mut |_, _, _| Ok(false)), Err(Fault::Malformed));
        let many = [0x19, 0xf5, 0xff, 0xff, 0xff, 0xff, 0x0f];
        assert_eq!(Compact::new(&many).structure(&mut |_, _, _| Ok(false)), Err(Fault::Cut));
    }
}
