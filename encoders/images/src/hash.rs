//! Computes the difference hash of an image, bit for bit equal to Python's `imagehash.dhash`.
//!
//! The image is converted to grey and resized to `size + 1` × `size` pixels with Lanczos' kernel; a bit is set where a
//! pixel is darker than its right neighbour. Copies of other sizes and compression mostly keep all bits. Source:
//! `imagehash/__init__.py` (`dhash`), Pillow `Convert.c` (`L24`).
//!
//! This module resizes along rows first, then along columns, as Pillow does up to version 12, with which the published
//! hashes were made. From version 13 on, Pillow resizes tall images along columns first, which changes a bit in some of
//! them: compare hashes of such versions with a tolerance of a few bits.

use crate::{Interpolation, resize};
use burgess_base::{Error, Result};
use image::RgbImage;
use std::fmt;
use std::ops::RangeInclusive;

/// Range of the side of a hash in pixels; the default of `imagehash` is 8.
pub const HASH_SIDES: RangeInclusive<usize> = 2..=32;

/// A difference hash: its bits as one number, most significant word first; the first row's first bit is the highest.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DifferenceHash {
    side: usize,
    words: Box<[u64]>,
}

impl DifferenceHash {
    /// Returns the number of bits that differ; `u32::MAX` for hashes of different sizes.
    pub fn distance(&self, other: &Self) -> u32 {
        match self.side == other.side {
            true => self.words.iter().zip(&other.words).map(|(a, b)| (a ^ b).count_ones()).sum(),
            false => u32::MAX,
        }
    }

    /// Parses a hash as it is displayed: `side * side` bits in hexadecimal digits.
    ///
    /// # Errors
    /// The side is not in [`HASH_SIDES`], or the text is no number of so many bits.
    pub fn from_hex(text: &str, side: usize) -> Result<Self> {
        let bits = side.saturating_mul(side);
        let wanted = bits.div_ceil(4);
        let malformed = || {
            let shown = burgess_base::text::excerpt(text, 80);
            Error::failed(format!("`{shown}` is not a difference hash of {side} × {side} bits"))
        };
        if !HASH_SIDES.contains(&side) || text.len() != wanted || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(malformed());
        }
        let count = bits.div_ceil(64);
        let padded = format!("{}{text}", "0".repeat(count * 16 - wanted));
        let word = |at: usize| padded.get(at * 16..at * 16 + 16).and_then(|word| u64::from_str_radix(word, 16).ok());
        let words: Option<Box<[u64]>> = (0..count).map(word).collect();
        let words = words.ok_or_else(malformed)?;
        // Bits above the first one would make equal hashes differ.
        let unused = count * 64 - bits;
        match words.first().is_some_and(|first| unused > 0 && first >> (64 - unused) != 0) {
            true => Err(malformed()),
            false => Ok(Self { side, words }),
        }
    }

    /// Whether no pixel is brighter than its left neighbour, as in a blank image.
    pub fn is_zero(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Returns the side of the hash in pixels; the hash has `side * side` bits.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Returns the bits in groups of 16, the lowest group first; the last group may be partial.
    pub fn groups(&self) -> impl Iterator<Item = u16> {
        let bits = self.side * self.side;
        let all = self.words.iter().rev().flat_map(|word| {
            let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
            [[a, b], [c, d], [e, f], [g, h]].map(u16::from_le_bytes)
        });
        all.take(bits.div_ceil(16))
    }
}

/// Formats the hash as `str(imagehash.dhash(…))` does, in hexadecimal digits.
impl fmt::Display for DifferenceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits: String = self.words.iter().map(|word| format!("{word:016x}")).collect();
        let wanted = (self.side * self.side).div_ceil(4);
        f.write_str(digits.get(digits.len().saturating_sub(wanted)..).unwrap_or_default())
    }
}

impl fmt::Debug for DifferenceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DifferenceHash({self})")
    }
}

/// Computes the difference hash of `side` × `side` bits.
///
/// # Errors
/// The side is not in [`HASH_SIDES`], or the image has no pixels.
pub fn dhash(image: &RgbImage, side: usize) -> Result<DifferenceHash> {
    if !HASH_SIDES.contains(&side) {
        return Err(Error::usage(format!(
            "the side of the hash is {side}, must be from {} to {}",
            HASH_SIDES.start(),
            HASH_SIDES.end()
        ))
        .hint("choose another side; the default of imagehash is 8"));
    }
    let from = (image.width() as usize, image.height() as usize);
    if from.0 == 0 || from.1 == 0 {
        return Err(Error::failed(format!("the image has {}×{} pixels, a hash needs at least 1×1", from.0, from.1)));
    }
    let small = resize::<1>(&grey(image), from, (side + 1, side), Interpolation::Lanczos);
    let bits = side * side;
    let mut words = vec![0u64; bits.div_ceil(64)];
    let rising = small.chunks_exact(side + 1).flat_map(|row| row.windows(2).map(|pair| pair.first() < pair.last()));
    for (i, bit) in rising.enumerate() {
        let place = bits - 1 - i;
        let from_the_end = place / 64 + 1;
        if let Some(word) = words.len().checked_sub(from_the_end).and_then(|w| words.get_mut(w)) {
            *word |= u64::from(bit) << (place % 64);
        }
    }
    Ok(DifferenceHash { side, words: words.into() })
}

/// Converts to grey as Pillow's `convert("L")`: ITU-R 601 weights with 16 fractional bits, rounded.
fn grey(image: &RgbImage) -> Vec<u8> {
    let luma = |[r, g, b]: &[u8; 3]| {
        let sum = u32::from(*r) * 19_595 + u32::from(*g) * 38_470 + u32::from(*b) * 7_471 + 0x8000;
        // The weights sum to 65,536, so that this is at most 255.
        (sum >> 16) as u8
    };
    image.as_raw().as_chunks::<3>().0.iter().map(luma).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn a_ramp_rises_everywhere() -> Result<()> {
        let ramp = RgbImage::from_fn(90, 16, |x, _| Rgb([2 * x as u8; 3]));
        for (side, text) in [(8, "ffffffffffffffff"), (5, "1ffffff"), (2, "f")] {
            assert_eq!(dhash(&ramp, side)?.to_string(), text);
        }
        let falls = image::imageops::flip_horizontal(&ramp);
        assert!(dhash(&falls, 8)?.is_zero());
        assert_eq!(dhash(&ramp, 9)?.distance(&dhash(&falls, 9)?), 81);
        assert_eq!(dhash(&ramp, 9)?.groups().collect::<Vec<_>>(), [65535, 65535, 65535, 65535, 65535, 1]);
        assert_eq!(dhash(&ramp, 8)?.distance(&dhash(&ramp, 9)?), u32::MAX);
        Ok(())
    }

    #[test]
    fn a_displayed_hash_is_parsed() -> Result<()> {
        let image = RgbImage::from_fn(90, 70, |x, y| Rgb([((x * 7) ^ (y * 5)) as u8; 3]));
        for side in [2, 3, 8, 9, 32] {
            let hash = dhash(&image, side)?;
            assert_eq!(DifferenceHash::from_hex(&hash.to_string(), side)?, hash);
            assert!(DifferenceHash::from_hex(&format!("0{hash}"), side).is_err());
        }
        for wrong in ["", "g", "fffffffffffffff", "+fffffffffffffff", "ffffffffffffffé"] {
            assert!(DifferenceHash::from_hex(wrong, 8).is_err(), "{wrong}");
        }
        assert!(DifferenceHash::from_hex("fff", 3).is_err() && DifferenceHash::from_hex("1ff", 3).is_ok());
        assert!(DifferenceHash::from_hex("1", usize::MAX).is_err());
        Ok(())
    }

    #[test]
    fn what_has_no_hash_is_said() {
        assert!(dhash(&RgbImage::new(0, 3), 8).unwrap_err().to_string().contains("has 0×3 pixels"));
        for side in [0, 1, 33, usize::MAX] {
            assert!(dhash(&RgbImage::new(3, 3), side).unwrap_err().hint_text().is_some());
        }
    }
}
