//! Reads the stamps of Tux Paint, a drawing program: images of single objects on a transparent background, each with a
//! caption.
//!
//! The caption of `frog.png` is the first line of `frog.txt`; the lines after it are translations (`de.utf8=Ein
//! Frosch.`). An optional `frog.dat` has a line `nomirror` if the object must not be mirrored. The folder `symbols/` is
//! left out, because the names of letters, digits, coins and signs are conventions and do not follow from their
//! appearance.

use crate::kinds::kind_of;
use crate::names::{ObjectName, bare_words};
use crate::sprite::{OPAQUE, scaled};
use burgess_base::{Context, Error, Result};
use image::{DynamicImage, ImageReader, RgbaImage, imageops};
use rayon::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders whose stamps are not objects.
const LEFT_OUT: [&str; 1] = ["symbols"];

/// Longer side in pixels to which larger stamps are reduced when read; no image needs more.
const LARGEST: u32 = 256;

/// Maximum number of words in a caption.
const LONGEST_CAPTION: usize = 10;

/// A stamp in memory.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// Path in the stamps' folder, with `/`.
    pub path: String,
    /// First sentence of the English caption.
    pub caption: String,
    /// Name of the object, if the caption contains one.
    pub name: Option<ObjectName>,
    /// Kind of the object, as index into [`KINDS`](crate::kinds::KINDS).
    pub kind: Option<usize>,
    /// Whether it may be mirrored.
    pub mirrors: bool,
    /// Whether its surroundings are transparent, so that it can be shown with others.
    pub cut_out: bool,
    /// The pixels, cropped to the object.
    pub image: RgbaImage,
}

impl Stamp {
    /// Returns the longer side in pixels.
    pub fn side(&self) -> u32 {
        self.image.width().max(self.image.height())
    }

    /// Returns whether the caption names a single object and nothing else: "Two wild boars." and "A spider dancing with
    /// a fly." do not.
    pub fn is_single(&self) -> bool {
        let beside = self.caption.split_whitespace().any(|w| matches!(w, "with" | "and"));
        !beside && self.name.as_ref().is_some_and(ObjectName::is_countable)
    }

    /// Returns the top folder, which separates similar distractors from others.
    pub fn folder(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }
}

/// The stamps in a folder, and the problems with others.
pub struct ReadStamps {
    /// The stamps, sorted by path.
    pub all: Vec<Stamp>,
    /// One message per image with a caption that could not be used, sorted.
    pub problems: Vec<String>,
}

/// Reads every stamp with a caption in `dir`.
pub fn read(dir: &Path) -> Result<ReadStamps> {
    let mut files = Vec::new();
    list(dir, &mut files)?;
    let mut named: Vec<(String, PathBuf)> = files
        .into_iter()
        .filter_map(|path| {
            let parts: Vec<String> = path
                .strip_prefix(dir)
                .ok()?
                .components()
                .map(|c| c.as_os_str().to_string_lossy().into_owned())
                .collect();
            (!LEFT_OUT.contains(&parts.first()?.as_str())).then(|| (parts.join("/"), path))
        })
        .collect();
    named.sort();
    let outcomes: Vec<(String, Result<Option<Stamp>>)> =
        named.into_par_iter().map(|(name, path)| (name.clone(), stamp(name, &path))).collect();
    let mut stamps = ReadStamps { all: Vec::new(), problems: Vec::new() };
    for (name, outcome) in outcomes {
        match outcome {
            Ok(stamp) => stamps.all.extend(stamp),
            Err(e) => stamps.problems.push(format!("{name}: {e}")),
        }
    }
    Ok(stamps)
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let step = || format!("listing {}", dir.display());
    for entry in fs::read_dir(dir).with_context(step)? {
        let entry = entry.with_context(step)?;
        // Links are not followed, because they could form a cycle.
        let kind = entry.file_type().with_context(step)?;
        if kind.is_dir() {
            list(&entry.path(), files)?;
        } else if kind.is_file() && entry.path().extension().is_some_and(|e| e == "png") {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Reads the stamp at `path`; `None` if it has no usable caption.
fn stamp(name: String, path: &Path) -> Result<Option<Stamp>> {
    let text = path.with_extension("txt");
    if !text.is_file() {
        return Ok(None);
    }
    let bytes = fs::read(&text).context("reading its caption")?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::failed("its caption is not UTF-8"))?;
    let Some(caption) = caption(text) else { return Ok(None) };
    let words = bare_words(caption);
    let image = image(path)?;
    let clear = image.pixels().filter(|p| p.0[3] < OPAQUE).count();
    let settings = fs::read_to_string(path.with_extension("dat")).unwrap_or_default();
    Ok(Some(Stamp {
        name: ObjectName::of(caption),
        kind: kind_of(&name, &words),
        mirrors: !settings.lines().any(|l| l.trim() == "nomirror"),
        // A nearly opaque rectangle would hide what is behind its corners.
        cut_out: clear * 20 > image.width() as usize * image.height() as usize,
        caption: caption.to_string(),
        path: name,
        image,
    }))
}

/// Returns the first sentence of the first line, if it is a caption and not too long.
fn caption(text: &str) -> Option<&str> {
    let line = text.lines().next()?.trim_start_matches('\u{feff}').trim();
    let ends = |(at, c): (usize, char)| {
        let after = line.get(at + c.len_utf8()..).unwrap_or_default();
        (matches!(c, '.' | '!' | '?') && (after.is_empty() || after.starts_with(' '))).then_some(at + c.len_utf8())
    };
    let sentence = line.get(..line.char_indices().find_map(ends).unwrap_or(line.len()))?;
    let words = sentence.split_whitespace().count();
    // Translations have keys; a first line with a key is no English caption.
    let keyed = line.split_once('=').is_some_and(|(key, _)| key.ends_with(".utf8"));
    ((1..=LONGEST_CAPTION).contains(&words) && !keyed).then_some(sentence)
}

/// Reads the pixels, cropped to the opaque part and reduced to [`LARGEST`].
fn image(path: &Path) -> Result<RgbaImage> {
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format)?;
    let decoded: DynamicImage = reader.decode().map_err(|e| Error::failed(e.to_string()))?;
    let whole = decoded.into_rgba8();
    let (mut left, mut top, mut right, mut bottom) = (u32::MAX, u32::MAX, 0, 0);
    for (x, y, pixel) in whole.enumerate_pixels() {
        if pixel.0[3] >= OPAQUE {
            (left, top) = (left.min(x), top.min(y));
            (right, bottom) = (right.max(x + 1), bottom.max(y + 1));
        }
    }
    if right <= left || bottom <= top {
        return Err(Error::failed("the image has no opaque pixel"));
    }
    let cut = imageops::crop_imm(&whole, left, top, right - left, bottom - top).to_image();
    let side = cut.width().max(cut.height());
    Ok(if side > LARGEST { scaled(&cut, LARGEST) } else { cut })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_are_the_first_sentence_of_the_first_line() {
        assert_eq!(caption("A frog.\nde.utf8=Ein Frosch.\n"), Some("A frog."));
        assert_eq!(caption("\u{feff}A wheelie bin! Give me your trash!\r\n"), Some("A wheelie bin!"));
        assert_eq!(caption("Hibiscus"), Some("Hibiscus"));
        assert_eq!(caption("A 1.5 litre jug"), Some("A 1.5 litre jug"));
        assert_eq!(caption("de.utf8=Ein Frosch.\n"), None);
        assert_eq!(caption(""), None);
        assert_eq!(caption("One two three four five six seven eight nine ten eleven."), None);
    }
}
