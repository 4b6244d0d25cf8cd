//! Decodes image files, from disk or from memory.

use crate::limits::{Deadline, DecodeLimits};
use crate::markers::Markers;
use crate::{jpeg, tiff};
use burgess_base::{Error, Result, files, guard};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Rgb, RgbImage};
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

/// Whether the EXIF orientation is applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Orientation {
    /// Images are used as stored, as by Pillow's `Image.open` and the loaders of timm, open_clip and Cambrian-1. TIFF
    /// files are an exception: they are rotated, as by Pillow.
    #[default]
    AsStored,
    /// Images are rotated upright, as by `PIL.ImageOps.exif_transpose` and `load_image` of transformers.
    Upright,
}

/// Decodes an image file as Pillow's `Image.open(path).convert("RGB")` does; the crate's documentation lists the
/// conventions for unusual images. The format is detected by content, not by name.
///
/// # Errors
/// The file is absent, truncated or of an unknown format, or exceeds the limits of pixels or time.
pub fn decode(path: &Path) -> Result<RgbImage> {
    decode_oriented(path, Orientation::AsStored)
}

/// Decodes an image file as [`decode`] does, with a choice of [`Orientation`].
///
/// # Errors
/// As [`decode`].
pub fn decode_oriented(path: &Path, orientation: Orientation) -> Result<RgbImage> {
    let step = || format!("reading image {}", path.display());
    let opened = open(path).map_err(|e| e.context(step()))?;
    let length = opened.metadata().map_err(|e| Error::from(e).context(step()))?.len();
    read(BufReader::new(opened), length, orientation).map_err(|e| e.context(step()))
}

/// Decodes an image in memory as [`decode_oriented`] does a file.
///
/// # Errors
/// As [`decode`], without a file name.
pub fn decode_bytes_oriented(bytes: &[u8], orientation: Orientation) -> Result<RgbImage> {
    read(Cursor::new(bytes), bytes.len() as u64, orientation)
}

/// Decodes an image in memory as [`decode`] does a file.
///
/// # Errors
/// As [`decode`], without a file name.
pub fn decode_bytes(bytes: &[u8]) -> Result<RgbImage> {
    decode_bytes_oriented(bytes, Orientation::AsStored)
}

/// Maximum number of bytes of the metadata of a PNG, decompressed.
const MAX_METADATA: u64 = 16 << 20;
const HINT: &str = "check that the file is a PNG, JPEG, WebP, BMP, GIF or TIFF; if it is, it is damaged: replace it";

/// Opens a regular file. A stream is an error, because images are read twice.
fn open(path: &Path) -> Result<File> {
    let file = files::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Error::failed("it is a stream, not a file: an image is read twice"));
    }
    Ok(file)
}

fn read<R: BufRead + Seek>(mut encoded: R, length: u64, wanted: Orientation) -> Result<RgbImage> {
    let limits = DecodeLimits::current()?;
    let deadline = limits.deadline();
    // The RIFF header states the length of the rest; the decoder would fill a few missing bytes with zeros.
    let mut front = [0; 8];
    let whole = encoded.read_exact(&mut front).is_ok() && {
        let [_, _, _, _, says @ ..] = front;
        let end = 8 + u64::from(u32::from_le_bytes(says));
        length >= end && has_whole_chunks(&mut encoded, end)?
    };
    encoded.rewind()?;
    let reader = ImageReader::new(encoded).with_guessed_format()?;
    let decoded = match reader.format() {
        Some(ImageFormat::Jpeg) => jpeg(reader.into_inner(), wanted, &limits, deadline),
        Some(ImageFormat::WebP) if !whole => Err(Error::failed("the file is truncated")),
        Some(ImageFormat::Tiff) => {
            let mut file = reader.into_inner();
            match tiff::jpeg_inside(&mut file, &limits, deadline) {
                Ok(None) => file.rewind().map_err(Error::from).and_then(|()| {
                    let reader = ImageReader::with_format(file, ImageFormat::Tiff);
                    decode_other(reader, Orientation::Upright, &limits)
                }),
                Ok(Some(image)) => Ok(image),
                Err(e) => Err(e),
            }
        }
        _ => decode_other(reader, wanted, &limits),
    };
    decoded.map_err(|e| e.hint(HINT))
}

/// Whether the chunks of an extended WebP end within the file. The decoder allocates the size that a metadata chunk
/// claims, so it must be checked first. Other files are not checked.
fn has_whole_chunks<R: BufRead + Seek>(file: &mut R, end: u64) -> std::io::Result<bool> {
    let (mut at, mut head) = (12, [0; 8]);
    while at + 8 <= end {
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut head)?;
        let [a, b, c, d, size @ ..] = head;
        if at == 12 && [a, b, c, d] != *b"VP8X" {
            return Ok(true);
        }
        let size = u64::from(u32::from_le_bytes(size));
        if at + 8 + size > end {
            return Ok(false);
        }
        // Chunks are padded to an even size.
        at += 8 + size.next_multiple_of(2);
    }
    Ok(true)
}

/// Returns width and height of the image as [`decode_oriented`] returns it, usually without decoding the pixels.
///
/// # Errors
/// As [`decode`].
pub fn dimensions_oriented(path: &Path, orientation: Orientation) -> Result<(u32, u32)> {
    let step = || format!("reading image {}", path.display());
    let opened = open(path).map_err(|e| e.context(step()))?;
    let reader = ImageReader::new(BufReader::new(opened)).with_guessed_format();
    let reader = reader.map_err(|e| Error::from(e).context(step()))?;
    // The image may have to be rotated; a TIFF is always rotated, as by Pillow.
    if reader.format() == Some(ImageFormat::Tiff) || orientation == Orientation::Upright {
        return Ok(decode_oriented(path, orientation)?.dimensions());
    }
    reader.into_dimensions().map_err(|e| Error::failed(e.to_string()).context(step()))
}

/// Returns width and height of the image as [`decode`] returns it, usually without decoding the pixels.
///
/// # Errors
/// As [`decode`].
pub fn dimensions(path: &Path) -> Result<(u32, u32)> {
    dimensions_oriented(path, Orientation::AsStored)
}

/// Returns width and height of an image in memory as its header states them, without decoding the pixels. For a TIFF
/// that is stored rotated, the two are in the order of the file.
///
/// # Errors
/// The bytes are not the header of an image of a known format.
pub fn dimensions_of_bytes(bytes: &[u8]) -> Result<(u32, u32)> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format()?;
    let found = match reader.format() {
        // The decoder would decompress the colour profile.
        Some(ImageFormat::Png) => png_size(&mut Cursor::new(bytes))?.ok_or_else(|| Error::failed("it has no header")),
        Some(ImageFormat::Jpeg) => match Markers::read(Cursor::new(bytes))?.size {
            Some((width, height)) => match (width.try_into(), height.try_into()) {
                (Ok(width), Ok(height)) => Ok((width, height)),
                _ => Err(Error::failed("its size is wrong")),
            },
            None => Err(Error::failed("it has no header")),
        },
        Some(ImageFormat::WebP) if !has_whole_riff(bytes)? => Err(Error::failed("the file is truncated")),
        Some(_) => {
            guard::third_party("the header", || reader.into_dimensions())?.map_err(|e| Error::failed(e.to_string()))
        }
        None => Err(Error::failed("the format is unknown")),
    };
    found.map_err(|e| e.hint(HINT))
}

/// Returns the size in the header of a PNG; `None` if the file does not begin with one.
fn png_size(file: &mut impl Read) -> std::io::Result<Option<(u32, u32)>> {
    // The signature, the length and the name of the first chunk, and its first two numbers.
    let mut head = Vec::with_capacity(24);
    file.take(24).read_to_end(&mut head)?;
    let Some(size) = head.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR") else { return Ok(None) };
    Ok(match *size {
        [a, b, c, d, e, f, g, h] => Some((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))),
        _ => None,
    })
}

/// Whether a RIFF file in memory is as long as it states, with all its chunks.
fn has_whole_riff(bytes: &[u8]) -> Result<bool> {
    let Some([_, _, _, _, says @ ..]) = bytes.first_chunk::<8>() else { return Ok(false) };
    let end = 8 + u64::from(u32::from_le_bytes(*says));
    Ok(bytes.len() as u64 >= end && has_whole_chunks(&mut Cursor::new(bytes), end)?)
}

fn jpeg<R: BufRead + Seek>(
    mut file: R,
    wanted: Orientation,
    limits: &DecodeLimits,
    deadline: Deadline,
) -> Result<RgbImage> {
    let markers = Markers::read(&mut file)?;
    file.rewind()?;
    if let Some((width, height)) = markers.size {
        limits.check_size(width, height)?;
        limits.check_scans(markers.scans, width, height)?;
    }
    let image = jpeg::decode(file, limits, deadline)?;
    match markers.exif.as_deref().and_then(image::metadata::Orientation::from_exif_chunk) {
        Some(orientation) if wanted == Orientation::Upright => {
            let mut image = DynamicImage::from(image);
            image.apply_orientation(orientation);
            Ok(image.into_rgb8())
        }
        _ => Ok(image),
    }
}

/// Decodes all formats except JPEG. The size is checked before memory is allocated for the pixels.
fn decode_other<R: BufRead + Seek>(
    reader: ImageReader<R>,
    wanted: Orientation,
    limits: &DecodeLimits,
) -> Result<RgbImage> {
    let failed = |e: image::ImageError| Error::failed(e.to_string());
    // Some decoders allocate the whole image when they are created.
    let mut bounds = image::Limits::default();
    bounds.max_alloc = Some(limits.pixels.saturating_mul(8));
    let mut decoder = bounded(reader)?.into_decoder().map_err(failed)?;
    let (width, height) = decoder.dimensions();
    limits.check_size(width.into(), height.into())?;
    bounds.reserve(decoder.total_bytes()).map_err(failed)?;
    decoder.set_limits(bounds).map_err(failed)?;
    let turn = match wanted {
        Orientation::Upright => decoder.orientation().map_err(failed)?,
        Orientation::AsStored => image::metadata::Orientation::NoTransforms,
    };
    let mut image = guard::third_party("the image", || DynamicImage::from_decoder(decoder))?.map_err(failed)?;
    image.apply_orientation(turn);
    Ok(to_rgb(image))
}

/// Limits what the decoder of a PNG allocates besides the pixels: a colour profile, which is not used, is decompressed
/// when the decoder is created.
fn bounded<R: BufRead + Seek>(reader: ImageReader<R>) -> Result<ImageReader<R>> {
    if reader.format() != Some(ImageFormat::Png) {
        return Ok(reader);
    }
    let mut file = reader.into_inner();
    let width = png_size(&mut file)?.map_or(0, |(width, _)| width);
    file.rewind()?;
    let mut bounds = image::Limits::default();
    // A row has at most 8 bytes per pixel.
    bounds.max_alloc = Some(MAX_METADATA + 16 * u64::from(width));
    let mut reader = ImageReader::with_format(file, ImageFormat::Png);
    reader.limits(bounds);
    Ok(reader)
}

/// Converts an image as Pillow's `convert("RGB")` does.
fn to_rgb(image: DynamicImage) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let high = |v: u16| v.to_be_bytes()[0];
    // Pixel by pixel through the iterator, so that a wrong size cannot cause a panic.
    fn build(width: u32, height: u32, mut pixels: impl Iterator<Item = [u8; 3]>) -> RgbImage {
        RgbImage::from_fn(width, height, |_, _| Rgb(pixels.next().unwrap_or_default()))
    }
    match image {
        DynamicImage::ImageLuma16(p) => build(width, height, p.pixels().map(|p| [p[0].min(255) as u8; 3])),
        DynamicImage::ImageLumaA16(p) => build(width, height, p.pixels().map(|p| [high(p[0]); 3])),
        DynamicImage::ImageRgb16(p) => build(width, height, p.pixels().map(|p| [high(p[0]), high(p[1]), high(p[2])])),
        DynamicImage::ImageRgba16(p) => build(width, height, p.pixels().map(|p| [high(p[0]), high(p[1]), high(p[2])])),
        // With 8 bits, grey is repeated and alpha dropped.
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

    /// The size in the header is that of the decoded image, for every format.
    #[test]
    fn the_header_states_the_size() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/preprocess");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let Ok(image) = decode_bytes(&bytes) else { continue };
            let (width, height) = dimensions_of_bytes(&bytes).unwrap();
            let sizes = [(width, height), (height, width)];
            assert!(sizes.contains(&image.dimensions()), "{}: {width}×{height}", path.display());
            count += 1;
        }
        assert!(count > 3);
        for wrong in [&b""[..], b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFF\xff\0\0\0WEBP", b"<svg/>"] {
            assert!(dimensions_of_bytes(wrong).is_err(), "{wrong:?}");
        }
    }

    /// Wrong sizes of the EXIF chunk in a WebP of 830 bytes are rejected before memory is allocated.
    #[test]
    fn metadata_larger_than_the_file_is_rejected() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/preprocess/exif.webp");
        let whole = std::fs::read(path).unwrap();
        assert!(decode_bytes_oriented(&whole, Orientation::Upright).is_ok());
        let at = whole.windows(4).position(|name| name == b"EXIF").unwrap() + 4;
        let size = u32::from_le_bytes(whole[at..at + 4].try_into().unwrap());
        for wrong in [size + 2, 0xd4a5_1000, u32::MAX] {
            let mut bytes = whole.clone();
            bytes[at..at + 4].copy_from_slice(&wrong.to_le_bytes());
            let error = decode_bytes_oriented(&bytes, Orientation::Upright).unwrap_err();
            assert!(error.to_string().contains("truncated"), "{wrong}: {error}");
        }
    }
}
