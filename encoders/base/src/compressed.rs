//! Reads plain, gzip and zstd files; the format is detected by the first bytes.

use flate2::bufread::GzDecoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Cursor, ErrorKind, Read};
use std::path::Path;

/// Opens a file and decompresses it while it is read. Consecutive members or frames form one text; zero bytes after the
/// last gzip member (which tapes and some copying programs add) are ignored.
///
/// # Errors
/// The file cannot be opened, is not a file ([`crate::files::open`]), or is compressed by another method. While
/// reading: the data end too early, or do not match their checksum.
pub fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    let mut file = BufReader::with_capacity(1 << 16, crate::files::open(path)?);
    Ok(match file.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(Members { member: Some(GzDecoder::new(file)), number: 1 }),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(Frames { file: Some(file), frame: None })
        }
        other => match other_method(other) {
            Some(name) => {
                return Err(invalid(format!("the file is compressed by {name}, expected plain, gzip or zstd")));
            }
            None => Box::new(file),
        },
    })
}

/// Returns the name of an unsupported compression method, detected by the first bytes.
fn other_method(first: &[u8]) -> Option<&'static str> {
    match first {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => Some("bzip2"),
        [b'P', b'K', 3, 4, ..] => Some("zip"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Some("lz4"),
        [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => Some("7-Zip"),
        _ => None,
    }
}

fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message.into())
}

/// The consecutive members of a gzip file.
struct Members {
    /// The current member; `None` at the end of the file.
    member: Option<GzDecoder<BufReader<File>>>,
    /// Number of the current member, starting at 1.
    number: usize,
}

impl Read for Members {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            match member.read(out) {
                Ok(0) if !out.is_empty() => {}
                Ok(count) => return Ok(count),
                Err(e) => return Err(self.named(&e)),
            }
            let Some(mut file) = self.member.take().map(GzDecoder::into_inner) else { break };
            // Zeros after the last member pad it to a block.
            loop {
                let rest = file.fill_buf()?;
                let zeros = rest.iter().take_while(|b| **b == 0).count();
                let (all, end) = (rest.len() == zeros, rest.is_empty());
                if end {
                    return Ok(0);
                }
                if !all && zeros == 0 {
                    break;
                }
                file.consume(zeros);
            }
            self.number += 1;
            if !file.fill_buf()?.starts_with(&[0x1f]) {
                return Err(invalid(format!(
                    "member {} of the gzip data is followed by data that is not gzip",
                    self.number - 1
                )));
            }
            self.member = Some(GzDecoder::new(file));
        }
        Ok(0)
    }
}

impl Members {
    /// Describes an error in the current member.
    fn named(&self, error: &io::Error) -> io::Error {
        let what = match error.kind() {
            ErrorKind::UnexpectedEof => "ends in the middle: the file is truncated".to_string(),
            ErrorKind::Interrupted => return ErrorKind::Interrupted.into(),
            _ => format!("is damaged: {error}"),
        };
        io::Error::new(error.kind(), format!("member {} of the gzip data {what}", self.number))
    }
}

/// A file whose first four bytes were read and are prepended again.
type Rewound = Chain<Cursor<[u8; 4]>, BufReader<File>>;

/// The consecutive frames of a zstd file.
struct Frames {
    /// The file; `None` while a frame owns it.
    file: Option<BufReader<File>>,
    frame: Option<StreamingDecoder<Rewound, FrameDecoder>>,
}

impl Read for Frames {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let count = frame.read(out).map_err(|e| cut(frame, &e))?;
                if count > 0 || out.is_empty() {
                    return Ok(count);
                }
                let written = frame.decoder.get_checksum_from_data();
                if written.is_some() && written != frame.decoder.get_calculated_checksum() {
                    return Err(invalid("the checksum of a zstd frame is wrong"));
                }
                self.file = self.frame.take().map(|f| f.into_inner().into_inner().1);
            }
            let Some(file) = self.file.take() else { return Ok(0) };
            self.frame = next(file)?;
        }
    }
}

/// Distinguishes a damaged frame from a truncated one.
fn cut(frame: &mut StreamingDecoder<Rewound, FrameDecoder>, error: &io::Error) -> io::Error {
    let ended = frame.get_mut().get_mut().1.fill_buf().is_ok_and(<[u8]>::is_empty);
    match ended {
        true => io::Error::new(ErrorKind::UnexpectedEof, "a zstd frame ends in the middle: the file is truncated"),
        false => invalid(format!("a zstd frame is damaged: {error}")),
    }
}

/// Opens the next frame with contents; `None` at the end of the file.
fn next(mut file: BufReader<File>) -> io::Result<Option<StreamingDecoder<Rewound, FrameDecoder>>> {
    let short = |e: io::Error| match e.kind() {
        ErrorKind::UnexpectedEof => {
            io::Error::new(ErrorKind::UnexpectedEof, "a zstd frame ends in its header: the file is truncated")
        }
        _ => e,
    };
    while !file.fill_buf()?.is_empty() {
        let mut magic = [0; 4];
        file.read_exact(&mut magic).map_err(short)?;
        if !matches!(magic, [0x50..=0x5f, 0x2a, 0x4d, 0x18]) {
            let frame = StreamingDecoder::new(Cursor::new(magic).chain(file));
            return frame.map(Some).map_err(|e| invalid(format!("the header of a zstd frame cannot be read: {e}")));
        }
        // A skippable frame: its length, and as many bytes to skip.
        let mut length = [0; 4];
        file.read_exact(&mut length).map_err(short)?;
        let length = u64::from(u32::from_le_bytes(length));
        if io::copy(&mut (&mut file).take(length), &mut io::sink())? < length {
            return Err(short(ErrorKind::UnexpectedEof.into()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    /// Builds a zstd frame with raw blocks and no checksum, by the format's specification.
    fn zstd(text: &str) -> Vec<u8> {
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, text.len() as u8];
        let block = ((text.len() as u32) << 3) | 1;
        frame.extend(&block.to_le_bytes()[..3]);
        frame.extend(text.as_bytes());
        frame
    }

    fn read(bytes: &[u8]) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        std::fs::write(&path, bytes).unwrap();
        let mut text = String::new();
        let mut file = open(&path).map_err(|e| e.to_string())?;
        file.read_to_string(&mut text).map_err(|e| e.to_string())?;
        Ok(text)
    }

    #[test]
    fn members_and_frames_are_one_text() {
        assert_eq!(read(b"plain").unwrap(), "plain");
        assert_eq!(read(b"").unwrap(), "");
        assert_eq!(read(&[gzip("one "), gzip(""), gzip("two")].concat()).unwrap(), "one two");
        assert_eq!(read(&[gzip("one"), vec![0; 70_000]].concat()).unwrap(), "one");
        assert_eq!(read(&[zstd("one "), zstd("two")].concat()).unwrap(), "one two");
    }

    #[test]
    fn truncated_or_foreign_data_are_named_in_the_error() {
        let whole = [gzip("the first member"), gzip("the second, which is a little longer")].concat();
        for end in [whole.len() - 1, whole.len() - 9, whole.len() - 30] {
            let told = read(&whole[..end]).unwrap_err();
            assert!(
                told.contains("member 2 of the gzip data ends in the middle: the file is truncated"),
                "{end}: {told}"
            );
        }
        let told = read(&[gzip("one"), b"rest".to_vec()].concat()).unwrap_err();
        assert_eq!(told, "member 1 of the gzip data is followed by data that is not gzip");
        let frame = zstd("some text");
        for end in [5, 8, 12] {
            let told = read(&frame[..end]).unwrap_err();
            assert!(told.contains("zstd frame"), "{end}: {told}");
        }
        assert!(read(&frame[..12]).unwrap_err().contains("truncated"));
        assert!(read(b"\xfd7zXZ\x00rest").unwrap_err().contains("compressed by xz"));
        assert!(open(&std::env::temp_dir()).err().unwrap().to_string().contains("directory"));
    }
}
