//! The stamps of Tux Paint: pictures of single things with transparent surroundings, each with a caption beside it.
//!
//! `frog.png` has its caption in the first line of `frog.txt`; the lines after it are the same in other languages
//! (`de.utf8=Ein Frosch.`). `frog.dat`, if it is there, has a line `nomirror` where the thing must not be mirrored. The
//! folder `symbols/` is left out: letters, digits, coins and signs are named by convention and not by what they look like.

use crate::kinds::kind_of;
use crate::names::{Name, bare_words};
use burgess_base::{Context, Error, Result};
use image::{DynamicImage, ImageReader, RgbaImage, imageops};
use rayon::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders whose stamps are not things.
const LEFT_OUT: [&str; 1] = ["symbols"];

/// Longer side in pixels to which larger stamps are reduced when read: as large as any picture needs.
const LARGEST: u32 = 256;

/// A pixel this opaque belongs to the thing.
pub const OPAQUE: u8 = 128;

/// Most words of a caption that is used as one.
const LONGEST_CAPTION: usize = 10;

/// A stamp that was read.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// Below the stamps' folder, with `/`.
    pub path: String,
    /// First sentence of the English caption.
    pub caption: String,
    /// What the thing is called, if the caption gives it.
    pub name: Option<Name>,
    /// Its kind, see [`KINDS`](crate::kinds::KINDS).
    pub kind: Option<usize>,
    /// Whether it may be mirrored.
    pub mirrors: bool,
    /// Whether its surroundings are transparent, so that it can stand among others.
    pub cut_out: bool,
    /// Its pixels, cut to the thing.
    pub picture: RgbaImage,
}

impl Stamp {
    /// Longer side in pixels.
    pub fn side(&self) -> u32 {
        self.picture.width().max(self.picture.height())
    }

    /// Whether it shows one thing and nothing beside it, as far as the caption tells: neither "Two wild boars." nor "A spider
    /// dancing with a fly."
    pub fn is_single(&self) -> bool {
        let beside = self.caption.split_whitespace().any(|w| matches!(w, "with" | "and"));
        !beside && self.name.as_ref().is_some_and(Name::is_countable)
    }

    /// The top folder, by which distractors "from elsewhere" are told.
    pub fn folder(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }
}

/// The stamps of a folder, and what was wrong with others.
pub struct Stamps {
    /// Sorted by path.
    pub all: Vec<Stamp>,
    /// A line for each picture with a caption that could not be used, sorted.
    pub problems: Vec<String>,
}

/// Reads all stamps with a caption under `dir`.
pub fn read(dir: &Path) -> Result<Stamps> {
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
    let mut stamps = Stamps { all: Vec::new(), problems: Vec::new() };
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
        // Links are not followed: a circle of them would never end.
        let kind = entry.file_type().with_context(step)?;
        if kind.is_dir() {
            list(&entry.path(), files)?;
        } else if kind.is_file() && entry.path().extension().is_some_and(|e| e == "png") {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// The stamp at `path`; nothing if it has no caption or is too small to be recognised.
fn stamp(name: String, path: &Path) -> Result<Option<Stamp>> {
    let text = path.with_extension("txt");
    if !text.is_file() {
        return Ok(None);
    }
    let bytes = fs::read(&text).context("reading its caption")?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::failed("its caption is not UTF-8"))?;
    let Some(caption) = caption(text) else { return Ok(None) };
    let words = bare_words(caption);
    let picture = picture(path)?;
    let clear = picture.pixels().filter(|p| p.0[3] < OPAQUE).count();
    let settings = fs::read_to_string(path.with_extension("dat")).unwrap_or_default();
    Ok(Some(Stamp {
        name: Name::of(caption),
        kind: kind_of(&name, &words),
        mirrors: !settings.lines().any(|l| l.trim() == "nomirror"),
        // A rectangle or nearly one hides what is behind its corners.
        cut_out: clear * 20 > picture.width() as usize * picture.height() as usize,
        caption: caption.to_string(),
        path: name,
        picture,
    }))
}

/// The first sentence of the first line, if that is a caption and not too long.
fn caption(text: &str) -> Option<&str> {
    let line = text.lines().next()?.trim_start_matches('\u{feff}').trim();
    let ends = |(at, c): (usize, char)| {
        let after = line.get(at + c.len_utf8()..).unwrap_or_default();
        (matches!(c, '.' | '!' | '?') && (after.is_empty() || after.starts_with(' '))).then_some(at + c.len_utf8())
    };
    let sentence = line.get(..line.char_indices().find_map(ends).unwrap_or(line.len()))?;
    let words = sentence.split_whitespace().count();
    // Lines of other languages are keyed; a first line that is one is no English caption.
    let keyed = line.split_once('=').is_some_and(|(key, _)| key.ends_with(".utf8"));
    ((1..=LONGEST_CAPTION).contains(&words) && !keyed).then_some(sentence)
}

/// The pixels, cut to what is not transparent and reduced to [`LARGEST`].
fn picture(path: &Path) -> Result<RgbaImage> {
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
        return Err(Error::failed("nothing of it is opaque"));
    }
    let cut = imageops::crop_imm(&whole, left, top, right - left, bottom - top).to_image();
    let side = cut.width().max(cut.height());
    Ok(if side > LARGEST { crate::sprite::scaled(&cut, LARGEST) } else { cut })
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
