//! Plain, gzip or zstd: told apart by the first bytes, read to the end of the last member or frame.

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::path::Path;

/// The contents of a file, decompressed while they are read.
///
/// # Errors
/// When the file cannot be opened, or is no file ([`crate::files::open`]).
pub fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    let mut file = BufReader::with_capacity(1 << 16, crate::files::open(path)?);
    Ok(match file.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Box::new(Frames { file: Some(file), frame: None })
        }
        _ => Box::new(file),
    })
}

/// A file of which the first bytes have been looked at.
type Rewound = Chain<Cursor<[u8; 4]>, BufReader<File>>;

/// The frames of a zstd file, one behind the other.
struct Frames {
    /// Nothing while a frame holds it.
    file: Option<BufReader<File>>,
    frame: Option<StreamingDecoder<Rewound, FrameDecoder>>,
}

impl Read for Frames {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = &mut self.frame {
                let count = frame.read(out)?;
                if count > 0 || out.is_empty() {
                    return Ok(count);
                }
                let written = frame.decoder.get_checksum_from_data();
                if written.is_some() && written != frame.decoder.get_calculated_checksum() {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the checksum of a zstd frame is wrong"));
                }
                self.file = self.frame.take().map(|f| f.into_inner().into_inner().1);
            }
            let Some(file) = self.file.take() else { return Ok(0) };
            self.frame = next(file)?;
        }
    }
}

/// The next frame with contents; nothing at the end of the file.
fn next(mut file: BufReader<File>) -> io::Result<Option<StreamingDecoder<Rewound, FrameDecoder>>> {
    while !file.fill_buf()?.is_empty() {
        let mut magic = [0; 4];
        file.read_exact(&mut magic)?;
        if !matches!(magic, [0x50..=0x5f, 0x2a, 0x4d, 0x18]) {
            return StreamingDecoder::new(Cursor::new(magic).chain(file)).map(Some).map_err(io::Error::other);
        }
        // A frame without contents: its length, and so many bytes of which nothing is known.
        let mut length = [0; 4];
        file.read_exact(&mut length)?;
        let length = u64::from(u32::from_le_bytes(length));
        if io::copy(&mut (&mut file).take(length), &mut io::sink())? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(None)
}
