//! Reads the segments of a JPEG without decoding it: number of scans, size, and EXIF data.

use std::io::{self, BufRead, Read};

/// The information in the segments of a JPEG.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Markers {
    /// Number of scans. Decoding each may take a pass over the whole image.
    pub scans: u64,
    /// Width and height, if a frame header was found.
    pub size: Option<(u64, u64)>,
    /// The TIFF structure of the first EXIF segment.
    pub exif: Option<Vec<u8>>,
}

const EXIF: &[u8] = b"Exif\0\0";

impl Markers {
    /// Reads the segments from the start of the file to its end. Reading stops without an error where the file is
    /// damaged; the decoder reports the damage.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(mut file: impl BufRead) -> io::Result<Self> {
        let mut found = Self::default();
        while let Some(marker) = next_marker(&mut file)? {
            match marker {
                // These markers have no length: TEM, restart markers, start of image.
                0x01 | 0xd0..=0xd8 => {}
                0xd9 => break,
                _ => {
                    let mut length = [0; 2];
                    if file.read_exact(&mut length).is_err() {
                        break;
                    }
                    let mut left = usize::from(u16::from_be_bytes(length)).saturating_sub(2);
                    let frame = matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
                    if frame || (marker == 0xe1 && found.exif.is_none()) {
                        let mut content = Vec::with_capacity(left);
                        left -= (&mut file).take(left as u64).read_to_end(&mut content)?;
                        match content.as_slice() {
                            [_, a, b, c, d, ..] if frame => {
                                let side = |high: &u8, low: &u8| u64::from(u16::from_be_bytes([*high, *low]));
                                found.size = Some((side(c, d), side(a, b)));
                            }
                            _ => found.exif = content.strip_prefix(EXIF).map(<[u8]>::to_vec).or(found.exif),
                        }
                    }
                    found.scans += u64::from(marker == 0xda);
                    if io::copy(&mut (&mut file).take(left as u64), &mut io::sink())? < left as u64 {
                        break;
                    }
                }
            }
        }
        Ok(found)
    }
}

/// Skips to the next marker and reads it; `None` at the end of the file.
fn next_marker(file: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        let held = file.fill_buf()?;
        let (skip, found) = match memchr::memchr(0xff, held) {
            _ if held.is_empty() => return Ok(None),
            Some(at) => (at + 1, true),
            None => (held.len(), false),
        };
        file.consume(skip);
        if !found {
            continue;
        }
        // Any number of 0xff bytes may precede a marker; 0xff followed by zero is data.
        loop {
            let Some(next) = file.fill_buf()?.first().copied() else { return Ok(None) };
            file.consume(1);
            match next {
                0xff => {}
                0 => break,
                marker => return Ok(Some(marker)),
            }
        }
    }
}

/// Removes the application segments (JFIF, Adobe, EXIF …) before the first scan; `None` if the stream does not begin
/// as a JPEG.
pub(crate) fn without_application_segments(stream: &[u8]) -> Option<Vec<u8>> {
    let mut rest = stream.strip_prefix(&[0xff, 0xd8])?;
    let mut out = vec![0xff, 0xd8];
    while let [0xff, marker, a, b, ..] = *rest {
        if matches!(marker, 0xd9 | 0xda) {
            break;
        }
        let end = (2 + usize::from(u16::from_be_bytes([a, b]))).min(rest.len());
        if !matches!(marker, 0xe0..=0xef) {
            out.extend_from_slice(&rest[..end]);
        }
        rest = &rest[end..];
    }
    out.extend_from_slice(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_size_and_exif_are_found_behind_thumbnails_and_fill_bytes() -> io::Result<()> {
        let mut file = vec![0xff, 0xd8, 0xff, 0xe1, 0, 16];
        // An EXIF segment that contains a start of scan of its own.
        file.extend(b"Exif\0\0II\xff\xda\0\x08ab");
        file.extend([0xff, 0xff, 0xff, 0xc2, 0, 7, 8, 1, 2, 3, 4]);
        for _ in 0..3 {
            file.extend([0xff, 0xda, 0, 3, 9, 1, 2, 0xff, 0, 0xda, 0xff, 0xd0, 7]);
        }
        file.extend([0xff, 0xd9, 0xff, 0xda, 0, 3, 9]);
        let found = Markers::read(file.as_slice())?;
        assert_eq!((found.scans, found.size), (3, Some((0x304, 0x102))));
        assert_eq!(found.exif.as_deref(), Some(&b"II\xff\xda\0\x08ab"[..]));
        for cut in 0..file.len() {
            assert!(Markers::read(&file[..cut])?.scans <= 3);
        }
        Ok(())
    }

    #[test]
    fn only_application_segments_are_removed() {
        let stream =
            [0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xdb, 0, 3, 5, 0xff, 0xee, 0, 2, 0xff, 0xda, 0, 2, 0xff, 0xe0];
        let left = without_application_segments(&stream);
        assert_eq!(left.as_deref(), Some(&[0xff, 0xd8, 0xff, 0xdb, 0, 3, 5, 0xff, 0xda, 0, 2, 0xff, 0xe0][..]));
        assert!(without_application_segments(b"PNG").is_none());
        assert!(without_application_segments(&[0xff, 0xd8, 0xff, 0xe0, 0xff, 0xff, 1]).is_some());
    }
}
