//! The difference hash of a picture, bit for bit that of Python's `imagehash.dhash`.
//!
//! The picture is made grey, shrunk to `size + 1` × `size` with Lanczos' kernel, and every point compared with its right
//! neighbour: a bit is set where the right one is brighter. Copies of other sizes and other compression mostly keep all
//! bits. Source: `imagehash/__init__.py` (`dhash`), Pillow `Convert.c` (`L24`).
//!
//! Pillow shrinks rows first, then columns, up to version 12, by which the hashes that are published were made, and here. From
//! version 13 on it shrinks the columns of tall pictures first, which turns a bit in some of them: hashes made with it are
//! to be compared within a few bits.

use crate::{Interpolation, resize};
use burgess_base::{Error, Result};
use image::RgbImage;
use std::fmt;
use std::ops::RangeInclusive;

/// Points along a side that a hash may have; `imagehash` takes 8 if nothing is said.
pub const SIDES: RangeInclusive<usize> = 2..=32;

/// The bits of a hash as one number, the first row's first bit the highest: words from the highest on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash {
    side: usize,
    words: Box<[u64]>,
}

impl Hash {
    /// How many bits differ; hashes of different sizes are as far apart as can be.
    pub fn distance(&self, other: &Self) -> u32 {
        match self.side == other.side {
            true => self.words.iter().zip(&other.words).map(|(a, b)| (a ^ b).count_ones()).sum(),
            false => u32::MAX,
        }
    }

    /// Whether no point is brighter than its left neighbour: a blank picture, or one that only darkens.
    pub fn is_zero(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Points along a side; the hash has that many bits squared.
    pub fn side(&self) -> usize {
        self.side
    }

    /// Its bits in groups of 16, the lowest first; the last group has what is left.
    pub fn groups(&self) -> impl Iterator<Item = u16> {
        let bits = self.side * self.side;
        let all = self.words.iter().rev().flat_map(|word| {
            let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
            [[a, b], [c, d], [e, f], [g, h]].map(u16::from_le_bytes)
        });
        all.take(bits.div_ceil(16))
    }
}

/// As `str(imagehash.dhash(…))`: hexadecimal digits.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits: String = self.words.iter().map(|word| format!("{word:016x}")).collect();
        let wanted = (self.side * self.side).div_ceil(4);
        f.write_str(digits.get(digits.len().saturating_sub(wanted)..).unwrap_or_default())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// The difference hash of `side` × `side` bits.
///
/// # Errors
/// The side is not one of [`SIDES`], or the picture has no pixels.
pub fn dhash(picture: &RgbImage, side: usize) -> Result<Hash> {
    if !SIDES.contains(&side) {
        return Err(Error::usage(format!("a hash of {side} × {side} bits cannot be made")).hint(format!(
            "sides from {} to {}",
            SIDES.start(),
            SIDES.end()
        )));
    }
    let from = (picture.width() as usize, picture.height() as usize);
    if from.0 == 0 || from.1 == 0 {
        return Err(Error::failed("a picture without pixels has no hash"));
    }
    let small = resize::<1>(&grey(picture), from, (side + 1, side), Interpolation::Lanczos);
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
    Ok(Hash { side, words: words.into() })
}

/// Pillow's `convert("L")`: ITU-R 601 weights of 16 fractional bits, rounded.
fn grey(picture: &RgbImage) -> Vec<u8> {
    let luma = |[r, g, b]: &[u8; 3]| {
        let sum = u32::from(*r) * 19_595 + u32::from(*g) * 38_470 + u32::from(*b) * 7_471 + 0x8000;
        // The weights sum to 65,536, so that this is at most 255.
        (sum >> 16) as u8
    };
    picture.as_raw().as_chunks::<3>().0.iter().map(luma).collect()
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
    fn what_has_no_hash_is_said() {
        assert!(dhash(&RgbImage::new(0, 3), 8).unwrap_err().to_string().contains("without pixels"));
        for side in [0, 1, 33, usize::MAX] {
            assert!(dhash(&RgbImage::new(3, 3), side).unwrap_err().hint_text().is_some());
        }
    }
}
