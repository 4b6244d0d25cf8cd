//! From a fetched file to a PNG or JPEG that every program reads alike.

use super::near::SIDE;
use super::options::ImagesOptions;
use super::svg;
use crate::fetch::Content;
use burgess_base::{Error, guard, text};
use burgess_images::{DifferenceHash, Orientation, decode_bytes, decode_bytes_oriented, dhash, dimensions_of_bytes};
use flate2::read::MultiGzDecoder;
use image::codecs::png::PngEncoder;
use image::{DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageReader, Limits, RgbImage};
use memchr::memmem;
use std::io::{Cursor, Read};

/// Why a file cannot be used: a reason by which images are counted, and details.
pub type Unusable = (&'static str, String);

/// The reason for drawings with text or images inside.
pub(super) const NEEDS_FONTS: &str = "the drawing has text or images inside";
const UNREADABLE: &str = "the image cannot be read";
const TOO_LARGE: &str = "the image has too many pixels";

/// An image that can be stored.
#[derive(Debug, Clone)]
pub struct Converted {
    /// The file.
    pub bytes: Vec<u8>,
    /// Ending of its name: `png` or `jpg`.
    pub ending: &'static str,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Difference hash of the pixels, 8 × 8 bits.
    pub hash: DifferenceHash,
    /// Format of the source.
    pub format: Content,
}

/// Checks and converts a file.
///
/// # Errors
/// It is no image, damaged, too small, too long, too large or blank; or an SVG that cannot be drawn whole.
pub fn convert(bytes: &[u8], options: &ImagesOptions) -> Result<Converted, Unusable> {
    let (bytes, format) = match Content::of(bytes) {
        // SVG files may be compressed as a whole.
        Content::Gzip => {
            let mut plain = Vec::new();
            let read = MultiGzDecoder::new(bytes).take(svg::MAX_BYTES + 1).read_to_end(&mut plain);
            read.map_err(|e| (UNREADABLE, format!("its gzip data: {e}")))?;
            let format = Content::of(&plain);
            (plain, format)
        }
        format => (bytes.to_vec(), format),
    };
    let unreadable = |e: &Error| (UNREADABLE, text::excerpt(&e.to_string(), 300));
    let (pixels, kept) = match format {
        Content::Svg if bytes.len() as u64 > svg::MAX_BYTES => {
            return Err(("the drawing is too large", format!("more than {} bytes", svg::MAX_BYTES)));
        }
        Content::Svg => (svg::draw(bytes, options)?, None),
        Content::Jpeg | Content::Png | Content::Gif | Content::WebP | Content::Tiff | Content::Bmp => {
            let size = dimensions_of_bytes(&bytes).map_err(|e| unreadable(&e))?;
            check_size(size, options)?;
            match format {
                Content::Jpeg => jpeg(bytes)?,
                Content::Png | Content::Gif | Content::WebP => with_alpha(bytes, format, options)?,
                _ => (decode_bytes_oriented(&bytes, Orientation::Upright).map_err(|e| unreadable(&e))?, None),
            }
        }
        other => return Err(("it is no image", format!("it is {}", other.name()))),
    };
    check_size(pixels.dimensions(), options)?;
    if pixels.pixels().zip(pixels.pixels().skip(1)).all(|(a, b)| a == b) {
        return Err(("the image is blank", String::new()));
    }
    let hash = dhash(&pixels, SIDE).map_err(|e| unreadable(&e))?;
    let (width, height) = pixels.dimensions();
    let (bytes, ending) = match kept {
        Some(bytes) if format == Content::Jpeg => (bytes, "jpg"),
        Some(bytes) => (bytes, "png"),
        None => (png(&pixels).map_err(|e| (UNREADABLE, e.to_string()))?, "png"),
    };
    Ok(Converted { bytes, ending, width, height, hash, format })
}

fn check_size((width, height): (u32, u32), options: &ImagesOptions) -> Result<(), Unusable> {
    let size = || format!("{width}×{height}");
    if u64::from(width) * u64::from(height) > options.max_pixels {
        return Err((TOO_LARGE, size()));
    }
    let (short, long) = (width.min(height), width.max(height));
    if short < options.min_side {
        return Err(("the image is too small", size()));
    }
    if f64::from(long) > f64::from(short) * options.max_aspect {
        return Err(("the image is too long", size()));
    }
    Ok(())
}

/// Pixels, and the file if it can stay as it is.
type Decoded = (RgbImage, Option<Vec<u8>>);

/// A JPEG stays as it is unless it is in CMYK or its EXIF data rotate it, which programs handle differently.
fn jpeg(bytes: Vec<u8>) -> Result<Decoded, Unusable> {
    let unreadable = |e: Error| (UNREADABLE, text::excerpt(&e.to_string(), 300));
    let pixels = decode_bytes_oriented(&bytes, Orientation::Upright).map_err(unreadable)?;
    // EXIF data stand in a segment, which is in the first 64 KB after its marker.
    let has_exif = memmem::find(bytes.get(..1 << 17).unwrap_or(&bytes), b"Exif\0\0").is_some();
    if has_exif && decode_bytes(&bytes).map_err(unreadable)? != pixels {
        return Ok((pixels, None));
    }
    let ordinary = matches!(components(&bytes), Some(1 | 3));
    Ok((pixels, ordinary.then_some(bytes)))
}

/// Returns the number of colour components of a JPEG, from its frame header.
fn components(bytes: &[u8]) -> Option<u8> {
    let mut at = 2;
    loop {
        let [0xff, marker] = *bytes.get(at..at + 2)?.first_chunk::<2>()? else { return None };
        match marker {
            // Fill bytes and markers without contents.
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            // Start of frame, except the markers of tables among them.
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => return bytes.get(at + 9).copied(),
            0xda | 0xd9 => return None,
            _ => {
                let length = bytes.get(at + 2..at + 4)?.first_chunk::<2>()?;
                at += 2 + usize::from(u16::from_be_bytes(*length)).max(2);
            }
        }
    }
}

/// Decodes a PNG, GIF or WebP; a transparent one is laid on white. A PNG without transparency stays as it is.
fn with_alpha(bytes: Vec<u8>, format: Content, options: &ImagesOptions) -> Result<Decoded, Unusable> {
    let unreadable = |why: String| (UNREADABLE, text::excerpt(&why, 300));
    let parse = || -> Result<Option<DynamicImage>, String> {
        let mut reader =
            ImageReader::new(Cursor::new(bytes.as_slice())).with_guessed_format().map_err(|e| e.to_string())?;
        let mut limits = Limits::default();
        limits.max_alloc = Some(options.max_pixels.saturating_mul(8).saturating_add(32 << 20));
        reader.limits(limits);
        let decoder = reader.into_decoder().map_err(|e| e.to_string())?;
        match decoder.color_type().has_alpha() {
            true => DynamicImage::from_decoder(decoder).map(Some).map_err(|e| e.to_string()),
            false => Ok(None),
        }
    };
    let transparent =
        guard::third_party("the image", parse).map_err(|e| unreadable(e.to_string()))?.map_err(unreadable)?;
    if let Some(image) = transparent {
        let rgba = image.into_rgba8();
        let is_opaque = rgba.pixels().all(|pixel| pixel.0[3] == 255);
        let (width, height) = rgba.dimensions();
        let white = |colour: u8, alpha: u8| {
            let (colour, alpha) = (u32::from(colour), u32::from(alpha));
            ((colour * alpha + 255 * (255 - alpha) + 127) / 255) as u8
        };
        let colours = rgba.pixels().flat_map(|pixel| {
            let [r, g, b, a] = pixel.0;
            [white(r, a), white(g, a), white(b, a)]
        });
        let pixels =
            RgbImage::from_raw(width, height, colours.collect()).ok_or_else(|| unreadable("its size".into()))?;
        let kept = (is_opaque && format == Content::Png && is_8_bit(&bytes)).then_some(bytes);
        return Ok((pixels, kept));
    }
    let pixels = decode_bytes_oriented(&bytes, Orientation::Upright).map_err(|e| unreadable(e.to_string()))?;
    let kept = format == Content::Png && is_8_bit(&bytes) && memmem::find(&bytes, b"eXIf").is_none();
    Ok((pixels, kept.then_some(bytes)))
}

/// Whether a PNG has at most 8 bits per sample; 16 bits are read differently by programs.
fn is_8_bit(png: &[u8]) -> bool {
    png.get(24).is_some_and(|bits| *bits <= 8)
}

fn png(pixels: &RgbImage) -> Result<Vec<u8>, image::ImageError> {
    let mut bytes = Vec::new();
    let (width, height) = pixels.dimensions();
    PngEncoder::new(&mut bytes).write_image(pixels, width, height, ExtendedColorType::Rgb8)?;
    Ok(bytes)
}
