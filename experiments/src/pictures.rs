//! The pictures of a study: files of their own, or cells of published tables.
//!
//! A picture's name is that of its file relative to the data directory, or `TABLE#COLUMN/ROW` (see
//! [`burgess_probe::bench::Picture`]). A question about several pictures names them in lines; they are seen as one picture,
//! side by side from left to right, as is usual for models that take one (BLINK, appendix): each scaled to the height of
//! the highest, ten white pixels between them.

use burgess_base::{Error, Result};
use burgess_encoders::preprocess;
use burgess_probe::bench::{Picture, picture};
use image::{Rgb, RgbImage, imageops};
use std::path::Path;

/// White pixels between pictures side by side.
const GAP: u32 = 10;
/// More pixels than any encoder looks at: a stack of pictures that needs more is refused.
const PIXELS: u64 = 1 << 28;

/// The name of a question's pictures, relative to the data directory `dir` if they lie below it.
pub fn name(dir: &Path, pictures: &[Picture]) -> String {
    let relative = |picture: &Picture| {
        let name = picture.to_string();
        Path::new(&name).strip_prefix(dir).map(|p| p.to_string_lossy().into_owned()).unwrap_or(name)
    };
    pictures.iter().map(relative).collect::<Vec<_>>().join("\n")
}

/// Reads a picture by its name.
///
/// # Errors
/// Its file is absent or damaged.
pub fn open(dir: &Path, name: &str) -> Result<RgbImage> {
    open_all(dir, &[name]).pop().unwrap_or_else(|| Err(Error::failed(format!("no picture {name}"))))
}

/// Reads several: those in one table in one pass over it.
pub fn open_all<S: AsRef<str>>(dir: &Path, names: &[S]) -> Vec<Result<RgbImage>> {
    let parts: Vec<Vec<Picture>> =
        names.iter().map(|name| name.as_ref().lines().map(|part| Picture::named(part).below(dir)).collect()).collect();
    let cells: Vec<&Picture> = parts.iter().flatten().filter(|p| matches!(p, Picture::Cell(_))).collect();
    let mut bytes = picture::bytes_of(&cells).into_iter();
    let mut decode = |part: &Picture| match part {
        Picture::File(path) => preprocess::decode(path),
        Picture::Cell(_) => bytes
            .next()
            .unwrap_or_else(|| Err(Error::failed("it was not read")))
            .and_then(|bytes| preprocess::decode_bytes(&bytes))
            .map_err(|e| e.context(format!("reading image {part}"))),
    };
    parts
        .iter()
        .map(|parts| {
            // All are taken from the iterator, also behind one that fails.
            let decoded: Vec<Result<RgbImage>> = parts.iter().map(&mut decode).collect();
            side_by_side(decoded.into_iter().collect::<Result<_>>()?)
        })
        .collect()
}

/// Width and height of a picture by its name.
///
/// # Errors
/// As [`open`].
pub fn dimensions(dir: &Path, name: &str) -> Result<(u32, u32)> {
    match Picture::named(name) {
        Picture::File(path) if !name.contains('\n') => preprocess::dimensions(&dir.join(path)),
        _ => Ok(open(dir, name)?.dimensions()),
    }
}

fn side_by_side(mut pictures: Vec<RgbImage>) -> Result<RgbImage> {
    if pictures.len() < 2 {
        return pictures.pop().ok_or_else(|| Error::failed("a picture without a name"));
    }
    let height = pictures.iter().map(RgbImage::height).max().unwrap_or(1);
    let scaled =
        |p: &RgbImage| (u64::from(p.width()) * u64::from(height)).div_ceil(u64::from(p.height().max(1))).max(1);
    let gaps = u64::from(GAP) * (pictures.len() as u64 - 1);
    let width = pictures.iter().map(scaled).sum::<u64>() + gaps;
    if width * u64::from(height) > PIXELS {
        return Err(Error::failed(format!("{} pictures side by side are {width}×{height} pixels", pictures.len())));
    }
    let mut whole = RgbImage::from_pixel(width as u32, height, Rgb([255; 3]));
    let mut left = 0;
    for picture in &pictures {
        let width = scaled(picture) as u32;
        let part = imageops::resize(picture, width, height, imageops::FilterType::CatmullRom);
        imageops::replace(&mut whole, &part, left, 0);
        left += i64::from(width + GAP);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_pictures_stand_side_by_side() -> Result<()> {
        let dir = tempfile::tempdir()?;
        for (name, size, shade) in [("a.png", (4, 8), 10), ("b.png", (2, 4), 20)] {
            let saved = RgbImage::from_pixel(size.0, size.1, Rgb([shade; 3])).save(dir.path().join(name));
            saved.map_err(|e| Error::failed(e.to_string()))?;
        }
        let pictures = ["a.png", "b.png"].map(|n| Picture::File(dir.path().join(n)));
        let name = name(dir.path(), &pictures);
        assert_eq!(name, "a.png\nb.png");
        let whole = open(dir.path(), &name)?;
        assert_eq!((whole.dimensions(), dimensions(dir.path(), &name)?), ((18, 8), (18, 8)));
        assert_eq!([0, 4, 14].map(|x| whole.get_pixel(x, 7)[0]), [10, 255, 20]);
        assert_eq!(dimensions(dir.path(), "a.png")?, (4, 8));
        let error = open(dir.path(), "a.png\nc.png").unwrap_err();
        assert!(error.to_string().contains("c.png"), "{error}");
        Ok(())
    }
}
