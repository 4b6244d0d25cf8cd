//! Decodes JPEG files with libjpeg, as Pillow does. Other decoders differ in the inverse cosine transform and in the
//! smooth upsampling of the chroma channels, by up to four grey levels, which changes the features of a ViT-S/14 by
//! 1 %.

use crate::limits::{Deadline, DecodeLimits};
use burgess_base::{Error, Result};
use image::RgbImage;
use mozjpeg::Decompress;
use mozjpeg::decompress::{DecompressStarted, Format};
use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// Decodes a JPEG as `Image.open(path).convert("RGB")` does, from the beginning of the file.
///
/// # Errors
/// An error of libjpeg; or the file is truncated or exceeds the limits.
pub(crate) fn decode(file: impl BufRead, limits: &DecodeLimits, deadline: Deadline) -> Result<RgbImage> {
    let (samples, bytes, (width, height)) = decode_rows(file, limits, deadline)?;
    let rgb = match samples {
        1 => bytes.into_iter().flat_map(|grey| [grey; 3]).collect(),
        4 => bytes.as_chunks().0.iter().flat_map(|inks| cmyk_to_rgb(*inks)).collect(),
        _ => bytes,
    };
    let side = |n: usize| u32::try_from(n).unwrap_or_default();
    RgbImage::from_raw(side(width), side(height), rgb)
        .ok_or_else(|| Error::failed("the JPEG has fewer rows than its header states"))
}

/// A decoded JPEG: samples per pixel (1 grey, 3 RGB, 4 CMYK), all samples in row-major order, and width and height.
pub(crate) type DecodedRows = (usize, Vec<u8>, (usize, usize));

/// Decodes a JPEG to the samples that libjpeg returns: grey, RGB or CMYK.
///
/// # Errors
/// As [`decode`].
pub(crate) fn decode_rows(file: impl BufRead, limits: &DecodeLimits, deadline: Deadline) -> Result<DecodedRows> {
    let ended = Rc::new(Cell::new(false));
    let reader = EndDetectingReader { inner: file, ended: Rc::clone(&ended), deadline };
    // On a fatal error libjpeg unwinds without printing a panic message.
    let decoded = catch_unwind(AssertUnwindSafe(|| read(reader, limits))).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().map_or("libjpeg failed without a message", |text| text);
        Err(Error::failed(text.trim_start_matches("libjpeg fatal error: ")))
    });
    deadline.check()?;
    // libjpeg fills missing data with grey; Pillow rejects the file, and so does this function.
    if ended.get() { Err(Error::failed("the file is truncated")) } else { decoded }
}

fn read<R: BufRead>(reader: R, limits: &DecodeLimits) -> Result<DecodedRows> {
    let image = Decompress::new_reader(reader)?;
    let (width, height) = image.size();
    limits.check_size(width as u64, height as u64)?;
    let (samples, bytes) = match image.image()? {
        Format::RGB(rows) => (3, bytes(rows)?),
        Format::Gray(rows) => (1, bytes(rows)?),
        Format::CMYK(rows) => (4, bytes(rows)?),
    };
    Ok((samples, bytes, (width, height)))
}

fn bytes<R: BufRead>(mut rows: DecompressStarted<R>) -> io::Result<Vec<u8>> {
    let bytes = rows.read_scanlines()?;
    rows.finish()?;
    Ok(bytes)
}

/// Converts CMYK to RGB as Pillow's `cmyk2rgb` does. The values are inverted (0 is full ink): Adobe writes them so, and
/// Pillow assumes it of every file.
pub(crate) fn cmyk_to_rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    [c, m, y].map(|stored| {
        let product = u32::from(255 - stored) * u32::from(k) + 128;
        let ink = (product + (product >> 8)) >> 8;
        k.saturating_sub(u8::try_from(ink).unwrap_or(u8::MAX))
    })
}

/// A reader that records whether the decoder read beyond the end of the file.
struct EndDetectingReader<R> {
    inner: R,
    ended: Rc<Cell<bool>>,
    deadline: Deadline,
}

impl<R: BufRead> Read for EndDetectingReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.inner.read(out)
    }
}

impl<R: BufRead> BufRead for EndDetectingReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.deadline.check()?;
        let bytes = self.inner.fill_buf()?;
        self.ended.set(self.ended.get() || bytes.is_empty());
        Ok(bytes)
    }

    fn consume(&mut self, count: usize) {
        self.inner.consume(count);
    }
}
