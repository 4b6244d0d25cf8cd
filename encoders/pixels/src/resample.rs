//! Resizing that gives Pillow's pixels to the bit.
//!
//! Pillow (`src/libImaging/Resample.c`) resizes 8-bit pictures in two passes, first along rows, then
//! along columns, rounding to 8 bits in between, with weights of 22 fractional bits. The kernel is
//! widened when shrinking (anti-aliasing). Other libraries order or round differently, which shows
//! at hard edges, where the bicubic kernel overshoots and is cut off. (From version 13 on Pillow takes the columns first
//! where the height shrinks much more than the width; a square never does.)
//!
//! The square around the picture is never built: rows of nothing but padding resize to themselves,
//! so a panorama of 20,000 × 10 pixels costs what its own pixels cost.

use image::RgbImage;
use serde::{Deserialize, Serialize};

/// Fractional bits of a weight: 32 minus 8 for the pixel and 2 for overshoot.
const BITS: u32 = 22;

/// Kernels, as Pillow defines them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// The triangle of radius 1.
    Bilinear,
    /// Keys' cubic with a = −0.5, of radius 2.
    Bicubic,
    /// The sinc cut by a wider sinc, of radius 3 (`Image.LANCZOS`).
    Lanczos,
}

impl Interpolation {
    fn radius(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        if self == Self::Lanczos {
            // Pillow's interval is open at the right end only.
            return if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 };
        }
        let x = x.abs();
        match self {
            Self::Bilinear => (1.0 - x).max(0.0),
            Self::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Self::Bicubic | Self::Lanczos => 0.0,
        }
    }

    /// Which of `from` old points make a new one at `centre` that stands for `scale` of them: the first, and the weights
    /// from it on, whose sum is one. Where the grid shrinks the kernel is widened; points beyond the borders count for
    /// nothing.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn weights(self, from: usize, centre: f64, scale: f64) -> (usize, Vec<f64>) {
        let stretch = scale.max(1.0);
        let radius = self.radius() * stretch;
        // Casting cuts towards zero and stops at zero, as the C code does after its clamp.
        let first = (centre - radius + 0.5) as usize;
        let last = ((centre + radius + 0.5) as usize).min(from);
        let mut weights: Vec<f64> =
            (first..last).map(|old| self.at((old as f64 - centre + 0.5) * (1.0 / stretch))).collect();
        let sum: f64 = weights.iter().sum();
        for weight in &mut weights {
            *weight /= sum;
        }
        (first, weights)
    }
}

/// Pillow's `sinc_filter`.
fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { x.sin() / x }
}

/// Resizes a picture of `from` (width, height) to `to`: bytes, row by row. Missing rows give a picture of nothing.
pub fn resize<const CHANNELS: usize>(
    bytes: &[u8],
    from: (usize, usize),
    to: (usize, usize),
    kernel: Interpolation,
) -> Vec<u8> {
    let length = CHANNELS * to.0;
    if from.0 == 0 || from.1 == 0 || bytes.len() < CHANNELS * from.0 * from.1 {
        return vec![0; length * to.1];
    }
    let narrow: Vec<u8> = if from.0 == to.0 {
        bytes.to_vec()
    } else {
        let axis = Axis::new(from.0, to.0, kernel);
        let mut rows = Vec::with_capacity(length * from.1);
        for row in bytes.chunks_exact(CHANNELS * from.0).take(from.1) {
            axis.along::<CHANNELS>(row, &mut rows);
        }
        rows
    };
    if from.1 == to.1 {
        return narrow;
    }
    Axis::new(from.1, to.1, kernel).across(length, |y| narrow.get(y * length..(y + 1) * length).unwrap_or_default())
}

/// A picture in the middle of a square of one colour, which exists only in thought.
pub struct Canvas<'a> {
    picture: &'a RgbImage,
    side: usize,
    left: usize,
    top: usize,
    colour: [u8; 3],
}

impl<'a> Canvas<'a> {
    /// The smallest square around `picture`; an odd margin is one pixel narrower on the left and top.
    pub fn around(picture: &'a RgbImage, colour: [u8; 3]) -> Self {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let side = width.max(height);
        Self { picture, side, left: (side - width) / 2, top: (side - height) / 2, colour }
    }

    /// Resizes the square to `size` × `size`: RGB bytes, row by row.
    pub fn resize(&self, size: usize, kernel: Interpolation) -> Vec<u8> {
        let blank: Vec<u8> = self.colour.repeat(size);
        if self.side == 0 {
            return blank.repeat(size);
        }
        let axis = (self.side != size).then(|| Axis::new(self.side, size, kernel));

        // Along the rows: only those that belong to the picture.
        let inner = 3 * self.left..3 * (self.left + self.picture.width() as usize);
        let mut row = self.colour.repeat(self.side);
        let mut rows: Vec<u8> = Vec::with_capacity(self.picture.height() as usize * 3 * size);
        for pixels in self.picture.as_raw().chunks_exact(inner.len().max(1)) {
            row[inner.clone()].copy_from_slice(pixels);
            match &axis {
                Some(axis) => axis.along::<3>(&row, &mut rows),
                None => rows.extend_from_slice(&row),
            }
        }

        // Along the columns.
        let line = |y: usize| -> &[u8] {
            let start = y.checked_sub(self.top).map(|y| y * 3 * size);
            start.and_then(|s| rows.get(s..s + 3 * size)).unwrap_or(&blank)
        };
        match &axis {
            Some(axis) => axis.across(3 * size, line),
            None => (0..size).flat_map(|y| line(y).iter().copied()).collect(),
        }
    }
}

/// Which old points make each new one along one axis, and with which weights.
struct Axis {
    /// Per new point: the first old one, and where its weights end (they begin where the last ended).
    points: Vec<(usize, usize)>,
    weights: Vec<i32>,
}

impl Axis {
    #[allow(clippy::cast_possible_truncation)]
    fn new(from: usize, to: usize, kernel: Interpolation) -> Self {
        let scale = from as f64 / to as f64;
        let mut axis = Self { points: Vec::with_capacity(to), weights: Vec::new() };
        for new in 0..to {
            let (first, weights) = kernel.weights(from, (new as f64 + 0.5) * scale, scale);
            axis.weights.extend(weights.into_iter().map(|w| (w * f64::from(1u32 << BITS)).round() as i32));
            axis.points.push((first, axis.weights.len()));
        }
        axis
    }

    /// The first old point and the weights of every new point.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let mut begin = 0;
        self.points.iter().map(move |&(first, end)| {
            let weights = &self.weights[begin..end];
            begin = end;
            (first, weights)
        })
    }

    /// Resizes one row of pixels, appending to `out`.
    fn along<const CHANNELS: usize>(&self, row: &[u8], out: &mut Vec<u8>) {
        let pixels = row.as_chunks::<CHANNELS>().0;
        for (first, weights) in self.iter() {
            let mut sums = [1i32 << (BITS - 1); CHANNELS];
            for (pixel, weight) in pixels[first..].iter().zip(weights) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(*value) * weight;
                }
            }
            out.extend(sums.map(rounded));
        }
    }

    /// Resizes along columns: `line(y)` is an old row of `length` bytes.
    fn across<'a>(&self, length: usize, line: impl Fn(usize) -> &'a [u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.points.len() * length);
        let mut sums = vec![0i32; length];
        for (first, weights) in self.iter() {
            sums.fill(1 << (BITS - 1));
            for (y, weight) in (first..).zip(weights) {
                for (sum, value) in sums.iter_mut().zip(line(y)) {
                    *sum += i32::from(*value) * weight;
                }
            }
            out.extend(sums.iter().copied().map(rounded));
        }
        out
    }
}

/// Back from fixed point, cut to 0..=255.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn rounded(sum: i32) -> u8 {
    (sum >> BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;
    use proptest::prelude::*;

    proptest! {
        /// Padding, shrinking and growing a picture of one colour on its own colour changes nothing.
        #[test]
        fn a_constant_stays_constant(w in 1u32..70, h in 1u32..70, size in 1usize..50, c in any::<u8>(), cubic in any::<bool>()) {
            let kernel = if cubic { Interpolation::Bicubic } else { Interpolation::Bilinear };
            let picture = RgbImage::from_pixel(w, h, Rgb([c, 7, 255]));
            let out = Canvas::around(&picture, [c, 7, 255]).resize(size, kernel);
            prop_assert_eq!(out, [c, 7, 255].repeat(size * size));
        }

        /// A square's resize is that of any picture.
        #[test]
        fn both_ways_to_resize_agree(side in 1u32..40, size in 1usize..40, seed in any::<u64>()) {
            use rand::Rng;
            let mut picture = RgbImage::new(side, side);
            burgess_base::stream::stream("picture", seed).fill_bytes(&mut picture);
            for kernel in [Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Lanczos] {
                let plain = resize::<3>(&picture, (side as usize, side as usize), (size, size), kernel);
                prop_assert_eq!(plain, Canvas::around(&picture, [0; 3]).resize(size, kernel));
            }
        }

        /// The square in thought gives what the square in memory gives.
        #[test]
        fn the_virtual_square_is_exact(w in 1u32..40, h in 1u32..40, size in 1usize..40, seed in any::<u64>()) {
            use rand::Rng;
            let mut picture = RgbImage::new(w, h);
            burgess_base::stream::stream("picture", seed).fill_bytes(&mut picture);
            let side = w.max(h);
            let mut square = RgbImage::from_pixel(side, side, Rgb([9, 99, 199]));
            image::imageops::replace(&mut square, &picture, i64::from((side - w) / 2), i64::from((side - h) / 2));
            let virtually = Canvas::around(&picture, [9, 99, 199]).resize(size, Interpolation::Bicubic);
            prop_assert_eq!(virtually, Canvas::around(&square, [0, 0, 0]).resize(size, Interpolation::Bicubic));
        }
    }

    #[test]
    fn extreme_shapes_cost_what_they_hold() {
        let wide = RgbImage::from_pixel(60_000, 1, Rgb([255, 0, 0]));
        assert_eq!(Canvas::around(&wide, [1, 2, 3]).resize(8, Interpolation::Bicubic)[..3], [1, 2, 3]);
        let none = RgbImage::new(0, 0);
        assert_eq!(Canvas::around(&none, [1, 2, 3]).resize(2, Interpolation::Bilinear), [1, 2, 3].repeat(4));
    }
}
