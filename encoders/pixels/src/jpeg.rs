//! JPEG, with libjpeg as Pillow has it: the inverse cosine transform and the smooth enlarging of the colour channels are
//! where decoders differ, by up to four grey levels, which changes the features of a ViT-S/14 by 1 %.

use image::RgbImage;
use mozjpeg::Decompress;
use mozjpeg::decompress::{DecompressStarted, Format};
use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// Pictures above this size are refused before their memory is taken.
pub const LIMIT: u64 = 512 << 20;

/// `Image.open(path).convert("RGB")` for a JPEG, read from its beginning.
///
/// # Errors
/// What libjpeg says of the file; it ends too early; it is larger than [`LIMIT`] when decoded.
pub fn decode(file: impl BufRead) -> Result<RgbImage, String> {
    let ended = Rc::new(Cell::new(false));
    let reader = Watched { inner: file, ended: Rc::clone(&ended) };
    // libjpeg leaves by unwinding when it gives up, without a panic's message.
    let decoded = catch_unwind(AssertUnwindSafe(|| read(reader))).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().map_or("libjpeg gave up", |text| text);
        Err(text.trim_start_matches("libjpeg fatal error: ").to_string())
    });
    // libjpeg fills what is missing with grey; Pillow refuses, and so does this.
    if ended.get() { Err("the file is cut off".to_string()) } else { decoded }
}

fn read<R: BufRead>(reader: R) -> Result<RgbImage, String> {
    let failed = |e: io::Error| e.to_string();
    let picture = Decompress::new_reader(reader).map_err(failed)?;
    let (width, height) = picture.size();
    if width as u64 * height as u64 * 4 > LIMIT {
        return Err(format!("{width}×{height} pixels are more than this reads"));
    }
    let rgb = match picture.image().map_err(failed)? {
        Format::RGB(rows) => bytes(rows)?,
        Format::Gray(rows) => bytes(rows)?.into_iter().flat_map(|grey| [grey; 3]).collect(),
        Format::CMYK(rows) => bytes(rows)?.as_chunks().0.iter().flat_map(|inks| from_inks(*inks)).collect(),
    };
    let side = |n: usize| u32::try_from(n).unwrap_or_default();
    RgbImage::from_raw(side(width), side(height), rgb).ok_or_else(|| "rows are missing".to_string())
}

fn bytes<R: BufRead>(mut rows: DecompressStarted<R>) -> Result<Vec<u8>, String> {
    let bytes = rows.read_scanlines().map_err(|e| e.to_string())?;
    rows.finish().map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// Four inks, stored inverted as Adobe does (Pillow takes every file for one of Adobe's), by Pillow's `cmyk2rgb`.
fn from_inks([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    [c, m, y].map(|stored| {
        let product = u32::from(255 - stored) * u32::from(k) + 128;
        let ink = (product + (product >> 8)) >> 8;
        k.saturating_sub(u8::try_from(ink).unwrap_or(u8::MAX))
    })
}

/// Tells whether more was asked for than the file holds.
struct Watched<R> {
    inner: R,
    ended: Rc<Cell<bool>>,
}

impl<R: BufRead> Read for Watched<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.inner.read(out)
    }
}

impl<R: BufRead> BufRead for Watched<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let bytes = self.inner.fill_buf()?;
        self.ended.set(self.ended.get() || bytes.is_empty());
        Ok(bytes)
    }

    fn consume(&mut self, count: usize) {
        self.inner.consume(count);
    }
}
