//! The images of a study: image files, or cells of published tables.
//!
//! An image's name is the path of its file relative to the data directory, or `TABLE#COLUMN/ROW` (see
//! [`burgess_probe::bench::ImageLocation`]). A question about several images names one per line; they are joined into a
//! single image, side by side from left to right, as is usual for models that take one image (BLINK, appendix): each is
//! scaled to the height of the tallest, with ten white pixels between them. Line feeds and bytes that are not UTF-8 are
//! written as a NUL, which no file name contains, and two hexadecimal digits per byte.

use burgess_base::{Error, Result};
use burgess_encoders::preprocess::{self, Orientation};
use burgess_probe::bench::{ImageLocation, read_images};
use image::{Rgb, RgbImage, imageops};
use std::path::{Path, PathBuf};

/// Number of white pixels between images side by side.
const GAP: u32 = 10;
/// Maximum number of pixels of the image that joins several images side by side.
const PIXELS: u64 = 1 << 28;

/// Returns the name of a question's images, relative to the data directory `dir` if they lie below it.
pub fn joint_name(dir: &Path, images: &[ImageLocation]) -> String {
    let relative = |image: &ImageLocation| match image {
        ImageLocation::File(path) => encode_name(path.strip_prefix(dir).unwrap_or(path)),
        ImageLocation::Cell(_) => {
            let name = image.to_string();
            encode_name(Path::new(&name).strip_prefix(dir).unwrap_or(Path::new(&name)))
        }
    };
    images.iter().map(relative).collect::<Vec<_>>().join("\n")
}

/// Encodes the path of a file as a name on one line: bytes that a line cannot hold are escaped (see the module).
pub fn encode_name(path: &Path) -> String {
    let mut name = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if matches!(c, '\0' | '\n') {
                name += &format!("\0{:02x}", u32::from(c));
            } else {
                name.push(c);
            }
        }
        for byte in chunk.invalid() {
            name += &format!("\0{byte:02x}");
        }
    }
    name
}

/// Returns the path that [`encode_name`] encoded; the name must be that of one file.
pub fn decode_name(name: &str) -> PathBuf {
    if !name.contains('\0') {
        return name.into();
    }
    let mut pieces = name.split('\0');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        match (piece.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()), piece.get(2..)) {
            (Some(byte), Some(rest)) => {
                bytes.push(byte);
                bytes.extend_from_slice(rest.as_bytes());
            }
            // `encode_name` does not write this; no file has such a name.
            _ => {
                bytes.push(0);
                bytes.extend_from_slice(piece.as_bytes());
            }
        }
    }
    of_bytes(bytes)
}

#[cfg(unix)]
fn of_bytes(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(not(unix))]
fn of_bytes(bytes: Vec<u8>) -> PathBuf {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

/// Returns the locations of the images in a name, which has one per line.
fn parts(name: &str) -> impl Iterator<Item = ImageLocation> {
    name.split('\n').map(|part| match decode_name(part) {
        path if part.contains('\0') => match path.to_str() {
            Some(text) => ImageLocation::parse(text),
            None => ImageLocation::File(path),
        },
        _ => ImageLocation::parse(part),
    })
}

/// Returns the names of the files that contain the images of a name.
pub fn file_names(name: &str) -> Vec<String> {
    parts(name).map(|image| encode_name(image.file())).collect()
}

/// Returns whether a name is that of a single image file, not of a table cell or of several images.
pub fn is_file(name: &str) -> bool {
    !name.contains('\n') && parts(name).all(|image| matches!(image, ImageLocation::File(_)))
}

/// Formats a name on one line, for messages.
pub fn display_name(name: &str) -> String {
    let shown = |image: ImageLocation| burgess_base::text::excerpt(&image.to_string(), 200);
    parts(name).map(shown).collect::<Vec<_>>().join(" and ")
}

/// Returns the full paths of the images of a name, one per line.
pub fn full_paths(dir: &Path, name: &str) -> String {
    parts(name).map(|image| image.below(dir).to_string()).collect::<Vec<_>>().join("\n")
}

/// Reads an image by name; several images that the name lists are joined side by side.
///
/// # Errors
/// The file does not exist or cannot be decoded.
pub fn open(dir: &Path, name: &str, orientation: Orientation) -> Result<RgbImage> {
    open_all(dir, &[name], orientation)
        .pop()
        .unwrap_or_else(|| Err(Error::failed(format!("no image {}", display_name(name)))))
}

/// Reads several images; the cells of one table are read in one pass.
pub fn open_all<S: AsRef<str>>(dir: &Path, names: &[S], orientation: Orientation) -> Vec<Result<RgbImage>> {
    let parts: Vec<Vec<ImageLocation>> =
        names.iter().map(|name| parts(name.as_ref()).map(|part| part.below(dir)).collect()).collect();
    let cells: Vec<&ImageLocation> = parts.iter().flatten().filter(|p| matches!(p, ImageLocation::Cell(_))).collect();
    let mut bytes = read_images(&cells).into_iter();
    let mut decode = |part: &ImageLocation| match part {
        // Only regular files are read: reading a FIFO or a device could block forever.
        ImageLocation::File(path) if std::fs::metadata(path).is_ok_and(|m| !m.is_file()) => {
            Err(Error::failed(format!("{} is not a regular file", path.display())))
        }
        ImageLocation::File(path) => preprocess::decode_oriented(path, orientation),
        ImageLocation::Cell(_) => bytes
            .next()
            .unwrap_or_else(|| Err(Error::failed("the cell was not read")))
            .and_then(|bytes| preprocess::decode_bytes_oriented(&bytes, orientation))
            .map_err(|e| e.context(format!("reading image {part}"))),
    };
    parts
        .iter()
        .map(|parts| {
            // Decode all parts, even after an error: every cell must take its own element of `bytes`.
            let decoded: Vec<Result<RgbImage>> = parts.iter().map(&mut decode).collect();
            side_by_side(decoded.into_iter().collect::<Result<_>>()?)
        })
        .collect()
}

/// Returns width and height of an image in pixels, by its name.
///
/// # Errors
/// As [`open`].
pub fn dimensions(dir: &Path, name: &str, orientation: Orientation) -> Result<(u32, u32)> {
    if is_file(name) {
        return preprocess::dimensions_oriented(&dir.join(decode_name(name)), orientation);
    }
    Ok(open(dir, name, orientation)?.dimensions())
}

/// Joins images side by side, from left to right, each scaled to the height of the tallest.
fn side_by_side(mut images: Vec<RgbImage>) -> Result<RgbImage> {
    if images.len() < 2 {
        return images.pop().ok_or_else(|| Error::failed("the name of the image is empty"));
    }
    let height = images.iter().map(RgbImage::height).max().unwrap_or(1);
    let scaled =
        |p: &RgbImage| (u64::from(p.width()) * u64::from(height)).div_ceil(u64::from(p.height().max(1))).max(1);
    let gaps = u64::from(GAP) * (images.len() as u64 - 1);
    let width = images.iter().map(scaled).sum::<u64>() + gaps;
    if width * u64::from(height) > PIXELS {
        return Err(Error::failed(format!(
            "{} images side by side are {width}×{height} pixels, expected at most {PIXELS} in all",
            images.len()
        )));
    }
    let mut whole = RgbImage::from_pixel(width as u32, height, Rgb([255; 3]));
    let mut left = 0;
    for image in &images {
        let width = scaled(image) as u32;
        let part = imageops::resize(image, width, height, imageops::FilterType::CatmullRom);
        imageops::replace(&mut whole, &part, left, 0);
        left += i64::from(width + GAP);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_encode_every_path() -> Result<()> {
        let dir = tempfile::tempdir()?;
        for name in ["a.png", "größe 1.png", "x/test-0.parquet#image/17", "a\nb.png", "a\r", "a\n\n.png", "\n"] {
            let made = encode_name(Path::new(name));
            assert_eq!(decode_name(&made), Path::new(name), "{name:?}");
            assert!(!made.contains('\n') && (made == name || name.contains('\n')), "{name:?}");
        }
        assert_eq!(decode_name(&encode_name(Path::new("a\0b"))), Path::new("a\0b"));
        let file = dir.path().join("line\nfeed.png");
        let saved = RgbImage::from_pixel(3, 5, Rgb([7; 3])).save(&file);
        saved.map_err(|e| Error::failed(e.to_string()))?;
        let name = joint_name(dir.path(), &[ImageLocation::File(file.clone()), ImageLocation::File(file.clone())]);
        assert_eq!(name.lines().count(), 2);
        assert_eq!(open(dir.path(), &name, Orientation::AsStored)?.dimensions(), (16, 5));
        let one = encode_name(Path::new("line\nfeed.png"));
        assert_eq!(
            (
                open(dir.path(), &one, Orientation::AsStored)?.dimensions(),
                dimensions(dir.path(), &one, Orientation::AsStored)?
            ),
            ((3, 5), (3, 5))
        );
        assert_eq!(
            (display_name(&one).as_str(), is_file(&one), file_names(&one)),
            ("line\\nfeed.png", true, vec![one.clone()])
        );
        assert_eq!(full_paths(dir.path(), &one), file.display().to_string());
        assert_eq!(file_names("x.parquet#image/17\na.png"), ["x.parquet", "a.png"]);
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn names_encode_bytes_that_are_not_utf8_and_fifos_are_rejected() -> Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir()?;
        let file = dir.path().join(std::ffi::OsStr::from_bytes(b"\xff\xfe a.png"));
        let plain = dir.path().join("plain.png");
        RgbImage::from_pixel(3, 5, Rgb([7; 3])).save(&plain).map_err(|e| Error::failed(e.to_string()))?;
        std::fs::rename(plain, &file)?;
        let name = joint_name(dir.path(), &[ImageLocation::File(file)]);
        assert_eq!(name, "\0ff\0fe a.png");
        assert_eq!(open(dir.path(), &name, Orientation::AsStored)?.dimensions(), (3, 5));
        let fifo = std::process::Command::new("mkfifo").arg(dir.path().join("pipe.png")).status();
        assert!(fifo.is_ok_and(|s| s.success()));
        let e = open(dir.path(), "pipe.png", Orientation::AsStored).unwrap_err();
        assert!(e.to_string().contains("pipe.png is not a regular file"), "{e}");
        Ok(())
    }

    #[test]
    fn several_images_stand_side_by_side() -> Result<()> {
        let dir = tempfile::tempdir()?;
        for (name, size, shade) in [("a.png", (4, 8), 10), ("b.png", (2, 4), 20)] {
            let saved = RgbImage::from_pixel(size.0, size.1, Rgb([shade; 3])).save(dir.path().join(name));
            saved.map_err(|e| Error::failed(e.to_string()))?;
        }
        let images = ["a.png", "b.png"].map(|n| ImageLocation::File(dir.path().join(n)));
        let name = joint_name(dir.path(), &images);
        assert_eq!(name, "a.png\nb.png");
        let whole = open(dir.path(), &name, Orientation::AsStored)?;
        assert_eq!((whole.dimensions(), dimensions(dir.path(), &name, Orientation::AsStored)?), ((18, 8), (18, 8)));
        assert_eq!([0, 4, 14].map(|x| whole.get_pixel(x, 7)[0]), [10, 255, 20]);
        assert_eq!(dimensions(dir.path(), "a.png", Orientation::AsStored)?, (4, 8));
        let error = open(dir.path(), "a.png\nc.png", Orientation::AsStored).unwrap_err();
        assert!(error.to_string().contains("c.png"), "{error}");
        Ok(())
    }
}
