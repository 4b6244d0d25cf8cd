//! Opening encoded pictures, from a file or from memory.

use crate::jpeg;
use burgess_base::{Error, Result};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, ImageResult, Limits, Rgb, RgbImage};
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

/// Reads an image file as Pillow's `Image.open(path).convert("RGB")` does; the crate's documentation
/// lists what that means for unusual pictures. The format is recognised by content, not by name.
///
/// # Errors
/// The file is absent, cut off, of an unknown format, or larger than 512 MiB when decoded.
pub fn decode(path: &Path) -> Result<RgbImage> {
    let step = || format!("reading image {}", path.display());
    let file = File::open(path).and_then(|file| Ok((file.metadata()?.len(), BufReader::new(file))));
    let (length, file) = file.map_err(|e| Error::from(e).context(step()))?;
    read(file, length).map_err(|e| e.context(step()))
}

/// Reads an encoded picture from memory, as [`decode`] does from a file.
///
/// # Errors
/// As [`decode`], without a name.
pub fn decode_bytes(bytes: &[u8]) -> Result<RgbImage> {
    read(Cursor::new(bytes), bytes.len() as u64)
}

fn read<R: BufRead + Seek>(mut encoded: R, length: u64) -> Result<RgbImage> {
    // "RIFF" and the length of what follows: the decoder would fill a few missing bytes with zeros.
    let mut front = [0; 8];
    let whole = encoded.read_exact(&mut front).is_ok() && {
        let [_, _, _, _, says @ ..] = front;
        length >= 8 + u64::from(u32::from_le_bytes(says))
    };
    encoded.rewind()?;
    let reader = ImageReader::new(encoded).with_guessed_format()?;
    let decoded = match reader.format() {
        Some(ImageFormat::Jpeg) => jpeg::decode(reader.into_inner()),
        Some(ImageFormat::WebP) if !whole => Err("the file is cut off".to_string()),
        format => others(reader, format == Some(ImageFormat::Tiff)).map_err(|e| e.to_string()),
    };
    decoded.map_err(|cause| {
        Error::failed(cause).hint("PNG, JPEG, WebP, BMP, GIF and TIFF files can be read; if this is one, it is damaged")
    })
}

/// Width and height of the picture in a file, as [`decode`] would give it, mostly without decoding it.
///
/// # Errors
/// As [`decode`].
pub fn dimensions(path: &Path) -> Result<(u32, u32)> {
    let step = || format!("reading image {}", path.display());
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let reader = reader.map_err(|e| Error::from(e).context(step()))?;
    // A TIFF may say that it is to be turned.
    if reader.format() == Some(ImageFormat::Tiff) {
        return Ok(decode(path)?.dimensions());
    }
    reader.into_dimensions().map_err(|e| Error::failed(e.to_string()).context(step()))
}

/// All formats but JPEG. The picture's size is checked before memory is taken for it.
fn others<R: BufRead + Seek>(reader: ImageReader<R>, turn: bool) -> ImageResult<RgbImage> {
    let mut limits = Limits::default();
    let mut decoder = reader.into_decoder()?;
    limits.reserve(decoder.total_bytes())?;
    decoder.set_limits(limits)?;
    let orientation = if turn { decoder.orientation()? } else { Orientation::NoTransforms };
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(to_rgb(picture))
}

/// Pillow's `convert("RGB")`.
fn to_rgb(picture: DynamicImage) -> RgbImage {
    let (width, height) = (picture.width(), picture.height());
    let high = |v: u16| v.to_be_bytes()[0];
    // One pixel at a time, through the iterator, so that no size can be mistaken.
    fn build(width: u32, height: u32, mut pixels: impl Iterator<Item = [u8; 3]>) -> RgbImage {
        RgbImage::from_fn(width, height, |_, _| Rgb(pixels.next().unwrap_or_default()))
    }
    match picture {
        DynamicImage::ImageLuma16(p) => build(width, height, p.pixels().map(|p| [p[0].min(255) as u8; 3])),
        DynamicImage::ImageLumaA16(p) => build(width, height, p.pixels().map(|p| [high(p[0]); 3])),
        DynamicImage::ImageRgb16(p) => build(width, height, p.pixels().map(|p| [high(p[0]), high(p[1]), high(p[2])])),
        DynamicImage::ImageRgba16(p) => build(width, height, p.pixels().map(|p| [high(p[0]), high(p[1]), high(p[2])])),
        // 8 bits: grey is repeated, alpha dropped.
        other => other.into_rgb8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.png");
        std::fs::write(&path, b"\x89PNG\r\n\x1a\ncut").unwrap();
        let error = decode(&path).unwrap_err();
        assert!(error.to_string().contains("x.png") && error.hint_text().is_some());
        assert!(decode(&dir.path().join("absent.png")).is_err());
    }
}
