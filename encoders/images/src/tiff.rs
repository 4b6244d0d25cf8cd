//! Decodes TIFF files with JPEG compression (7) by libjpeg, as libtiff and therefore Pillow do; other decoders differ
//! by up to four grey levels.

use crate::jpeg;
use crate::limits::{Deadline, DecodeLimits};
use crate::markers::without_application_segments;
use burgess_base::{Error, Result};
use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};
use std::io::{BufRead, Read, Seek, SeekFrom};
use tiff::decoder::Decoder;
use tiff::tags::Tag;

/// Value of the tag Compression for JPEG.
const JPEG: u32 = 7;

/// The meaning of a pixel's samples.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Photometric {
    WhiteIsZero,
    BlackIsZero,
    Rgb,
    Cmyk,
    YCbCr,
}

/// Offsets and lengths in bytes of the strips or tiles, and their number in each direction.
struct Chunks {
    offsets: Vec<u64>,
    lengths: Vec<u64>,
    across: usize,
    down: usize,
}

/// Decodes the first image of a TIFF file and applies its orientation; `None` if its compression is not JPEG.
///
/// # Errors
/// A chunk is outside of the file, damaged or of another size, or the pixel format is not supported (nor by Pillow).
pub(crate) fn jpeg_inside<R: BufRead + Seek>(
    file: &mut R,
    limits: &DecodeLimits,
    deadline: Deadline,
) -> Result<Option<RgbImage>> {
    let end = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    // On damage, the general TIFF reader reports the error.
    let Ok(mut decoder) = Decoder::new(&mut *file) else { return Ok(None) };
    if !matches!(decoder.find_tag_unsigned::<u32>(Tag::Compression), Ok(Some(JPEG))) {
        return Ok(None);
    }
    let failed = |e: tiff::TiffError| Error::failed(e.to_string());
    let (width, height) = decoder.dimensions().map_err(failed)?;
    limits.check_size(width.into(), height.into())?;
    let (width, height) = (width as usize, height as usize);
    let mut number = |tag| decoder.find_tag_unsigned::<u32>(tag).map_err(failed);
    let samples = number(Tag::SamplesPerPixel)?.unwrap_or(1) as usize;
    let photometric = match number(Tag::PhotometricInterpretation)? {
        Some(0) => Photometric::WhiteIsZero,
        Some(1) => Photometric::BlackIsZero,
        Some(2) => Photometric::Rgb,
        Some(5) => Photometric::Cmyk,
        Some(6) => Photometric::YCbCr,
        other => return Err(unsupported(&format!("photometric interpretation {}", other.unwrap_or_default()))),
    };
    let needed = match photometric {
        Photometric::WhiteIsZero | Photometric::BlackIsZero => 1,
        Photometric::Rgb | Photometric::YCbCr => 3,
        Photometric::Cmyk => 4,
    };
    let separate = number(Tag::PlanarConfiguration)?.unwrap_or(1) == 2 && samples > 1;
    if samples < needed {
        return Err(unsupported(&format!("{samples} samples per pixel, expected at least {needed}")));
    }
    let tiled = number(Tag::TileWidth)?.zip(number(Tag::TileLength)?);
    let rows = number(Tag::RowsPerStrip)?.map_or(height, |rows| rows as usize);
    let size = tiled.map_or((width, rows.min(height)), |(w, h)| (w as usize, h as usize));
    if size.0 == 0 || size.1 == 0 {
        return Err(Error::failed(format!(
            "the strips or tiles have {}×{} pixels, must have at least 1×1",
            size.0, size.1
        )));
    }
    let (offsets, lengths) = match tiled {
        Some(_) => (Tag::TileOffsets, Tag::TileByteCounts),
        None => (Tag::StripOffsets, Tag::StripByteCounts),
    };
    let chunks = Chunks {
        offsets: decoder.get_tag_u64_vec(offsets).map_err(failed)?,
        lengths: decoder.get_tag_u64_vec(lengths).map_err(failed)?,
        across: width.div_ceil(size.0),
        down: height.div_ceil(size.1),
    };
    let turn = decoder.find_tag_unsigned::<u32>(Tag::Orientation).map_err(failed)?;
    let turn = turn.and_then(|turn| Orientation::from_exif(u8::try_from(turn).ok()?));
    let tables = match decoder.find_tag(Tag::JPEGTables).map_err(failed)? {
        Some(value) => value.into_u8_vec().map_err(failed)?,
        None => Vec::new(),
    };
    drop(decoder);
    let planes = if separate { needed } else { 1 };
    if chunks.offsets.len().min(chunks.lengths.len()) < chunks.across * chunks.down * planes {
        return Err(Error::failed("the file has fewer strips or tiles than the image needs"));
    }
    let mut pixels = vec![0; width * height * needed];
    for plane in 0..planes {
        for chunk in 0..chunks.across * chunks.down {
            deadline.check()?;
            let number = plane * chunks.across * chunks.down + chunk;
            let (offset, length) = (chunks.offsets[number], chunks.lengths[number]);
            if offset.checked_add(length).is_none_or(|last| last > end) {
                return Err(Error::failed("the file is truncated: a strip or tile lies beyond its end"));
            }
            file.seek(SeekFrom::Start(offset))?;
            let mut stream = Vec::new();
            Read::by_ref(file).take(length).read_to_end(&mut stream)?;
            let colour = if planes == 1 { photometric } else { Photometric::BlackIsZero };
            let decoded = decode_chunk(&stream, &tables, colour, limits, deadline)?;
            let (left, top) = (chunk % chunks.across * size.0, chunk / chunks.across * size.1);
            let (columns, rows) = (size.0.min(width - left), size.1.min(height - top));
            if decoded.width < columns || decoded.height < rows || decoded.samples < needed / planes {
                return Err(Error::failed(format!(
                    "a strip or tile is a JPEG of {}×{} pixels, expected at least {columns}×{rows}",
                    decoded.width, decoded.height
                )));
            }
            for y in 0..rows {
                let from = decoded.bytes[y * decoded.width * decoded.samples..].chunks_exact(decoded.samples);
                let to = pixels[((top + y) * width + left) * needed..].chunks_exact_mut(needed);
                for (to, from) in to.zip(from).take(columns) {
                    match planes {
                        1 => to.copy_from_slice(&from[..needed]),
                        _ => to[plane] = from[0],
                    }
                }
            }
        }
    }
    let rgb = match photometric {
        Photometric::Rgb | Photometric::YCbCr => pixels,
        Photometric::BlackIsZero => pixels.into_iter().flat_map(|grey| [grey; 3]).collect(),
        Photometric::WhiteIsZero => pixels.into_iter().flat_map(|grey| [255 - grey; 3]).collect(),
        // Unlike in JPEG files, the inks are not inverted.
        Photometric::Cmyk => pixels
            .as_chunks()
            .0
            .iter()
            .flat_map(|inks: &[u8; 4]| jpeg::cmyk_to_rgb(inks.map(|ink| 255 - ink)))
            .collect(),
    };
    let side = |n: usize| u32::try_from(n).unwrap_or_default();
    Ok(RgbImage::from_raw(side(width), side(height), rgb).map(|image| {
        let mut image = DynamicImage::from(image);
        image.apply_orientation(turn.unwrap_or(Orientation::NoTransforms));
        image.into_rgb8()
    }))
}

fn unsupported(what: &str) -> Error {
    Error::failed(format!("a JPEG-compressed TIFF with {what} is not supported"))
}

/// The decoded samples of one strip or tile.
struct Decoded {
    bytes: Vec<u8>,
    width: usize,
    height: usize,
    samples: usize,
}

/// Decodes one strip or tile: a JPEG whose tables may be stored once for the whole file. The colour space is stated
/// only in the TIFF, so the marker from which libjpeg infers it is replaced.
fn decode_chunk(
    stream: &[u8],
    tables: &[u8],
    colour: Photometric,
    limits: &DecodeLimits,
    deadline: Deadline,
) -> Result<Decoded> {
    let own = without_application_segments(stream).ok_or_else(|| Error::failed("a strip or tile is not a JPEG"))?;
    let mut whole = vec![0xff, 0xd8];
    let transform = u8::from(colour == Photometric::YCbCr);
    whole.extend_from_slice(b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0");
    whole.push(transform);
    if let Some(tables) = without_application_segments(tables) {
        let tables = tables.strip_suffix(&[0xff, 0xd9]).unwrap_or(&tables);
        whole.extend_from_slice(tables.get(2..).unwrap_or_default());
    }
    whole.extend_from_slice(own.get(2..).unwrap_or_default());
    let (format, bytes, (width, height)) =
        jpeg::decode_rows(whole.as_slice(), limits, deadline).map_err(|e| e.context("decoding a strip or tile"))?;
    Ok(Decoded { bytes, width, height, samples: format })
}
