//! Resizing that gives Pillow's pixels to the bit.
//!
//! Pillow (`src/libImaging/Resample.c`) resizes 8-bit pictures in two passes, first along rows, then
//! along columns, rounding to 8 bits in between, with weights of 22 fractional bits. The kernel is
//! widened when shrinking (anti-aliasing). Other libraries order or round differently, which shows
//! at hard edges, where the bicubic kernel overshoots and is cut off. (From version 13 on Pillow takes the columns first
//! where the height loses more than twice the pixels that the width loses; a square never does.)
//!
//! The square around the picture is never built, and rows go one after the other into the sums of the new ones: a line of
//! 100,000 × 1 pixels, lying or standing, costs what its own pixels cost.

use image::RgbImage;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::Range;

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

/// Resizes a picture of `from` (width, height) to `to` as Pillow up to 12 does, rows first: bytes, row by row. Missing rows
/// give a picture of nothing.
pub fn resize<const CHANNELS: usize>(
    bytes: &[u8],
    from: (usize, usize),
    to: (usize, usize),
    kernel: Interpolation,
) -> Vec<u8> {
    match Passes::new::<CHANNELS>(bytes, from, to, (0..to.0, 0..to.1), kernel) {
        Some(passes) => passes.rows_first::<CHANNELS>(bytes),
        None => vec![0; CHANNELS * to.0 * to.1],
    }
}

/// Resizes a picture of `from` (width, height) to `to` as Pillow 13 does, but computes only the columns and rows of the
/// result in `part`, whatever the size of the whole. Missing rows give a picture of nothing.
pub fn resize_part<const CHANNELS: usize>(
    bytes: &[u8],
    from: (usize, usize),
    to: (usize, usize),
    part: (Range<usize>, Range<usize>),
    kernel: Interpolation,
) -> Vec<u8> {
    let part = (part.0.start..part.0.end.min(to.0), part.1.start..part.1.end.min(to.1));
    let nothing = vec![0; CHANNELS * part.0.len() * part.1.len()];
    let Some(passes) = Passes::new::<CHANNELS>(bytes, from, to, part, kernel) else { return nothing };
    // Where the height loses more than twice what the width loses, columns go first; no square does that.
    let lost = |from: usize, to: usize| from as i64 - to as i64;
    if to.1 < from.1 && lost(from.1, to.1) > 2 * lost(from.0, to.0) {
        passes.columns_first::<CHANNELS>(bytes)
    } else {
        passes.rows_first::<CHANNELS>(bytes)
    }
}

/// The two passes of a resize, and what is wanted of its result.
struct Passes {
    width: usize,
    columns: Range<usize>,
    rows: Range<usize>,
    /// Absent where nothing changes along an axis.
    across: Option<Axis>,
    down: Option<Axis>,
}

impl Passes {
    /// Nothing, if the picture has no pixels or too few bytes.
    fn new<const CHANNELS: usize>(
        bytes: &[u8],
        from: (usize, usize),
        to: (usize, usize),
        (columns, rows): (Range<usize>, Range<usize>),
        kernel: Interpolation,
    ) -> Option<Self> {
        let whole = from.0 > 0 && from.1 > 0 && bytes.len() >= CHANNELS * from.0 * from.1;
        whole.then(|| Self {
            width: from.0,
            across: (from.0 != to.0).then(|| Axis::part(from.0, to.0, columns.clone(), kernel)),
            down: (from.1 != to.1).then(|| Axis::part(from.1, to.1, rows.clone(), kernel)),
            columns,
            rows,
        })
    }

    fn rows_first<const CHANNELS: usize>(&self, bytes: &[u8]) -> Vec<u8> {
        let needed = self.down.as_ref().map_or(self.rows.clone(), Axis::needed);
        let old = bytes.chunks_exact(CHANNELS * self.width).take(needed.end).skip(needed.start);
        let resized = old.map(|row| match &self.across {
            Some(axis) => Cow::Owned(axis.along::<CHANNELS>(row, 0)),
            None => Cow::Borrowed(&row[CHANNELS * self.columns.start..CHANNELS * self.columns.end]),
        });
        match &self.down {
            Some(axis) => Columns::new(axis, CHANNELS * self.columns.len(), needed.start).of(resized),
            None => resized.fold(Vec::new(), |mut all, row| {
                all.extend_from_slice(&row);
                all
            }),
        }
    }

    fn columns_first<const CHANNELS: usize>(&self, bytes: &[u8]) -> Vec<u8> {
        let (Some(down), needed) = (&self.down, self.across.as_ref().map_or(self.columns.clone(), Axis::needed)) else {
            return self.rows_first::<CHANNELS>(bytes);
        };
        let rows = down.needed();
        let old = bytes.chunks_exact(CHANNELS * self.width).take(rows.end).skip(rows.start);
        let old = old.map(|row| &row[CHANNELS * needed.start..CHANNELS * needed.end]);
        let low = Columns::new(down, CHANNELS * needed.len(), rows.start).of(old);
        match &self.across {
            Some(axis) => {
                let rows = low.chunks_exact((CHANNELS * needed.len()).max(1));
                rows.flat_map(|row| axis.along::<CHANNELS>(row, needed.start)).collect()
            }
            None => low,
        }
    }
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

    /// Resizes the square to `size` × `size`: RGB bytes, row by row. The cost is linear in the pixels of the picture and of
    /// the result, whatever the shape: only what touches the picture is computed, the rest follows from the colour.
    pub fn resize(&self, size: usize, kernel: Interpolation) -> Vec<u8> {
        let (width, height) = (self.picture.width() as usize, self.picture.height() as usize);
        if width == 0 || height == 0 {
            return self.colour.repeat(size * size);
        }
        let rows = self.picture.as_raw().chunks_exact(3 * width);
        if self.side == size {
            let mut square = self.colour.repeat(size * size);
            for (to, row) in square.chunks_exact_mut(3 * size).skip(self.top).zip(rows) {
                to[3 * self.left..][..row.len()].copy_from_slice(row);
            }
            return square;
        }
        let axis = Axis::new(self.side, size, kernel);
        // Along the rows: the square's margin gives `blank`, which differs from the colour only where rounded weights do
        // not add up to one; what the picture reaches is the band from `first` on.
        let blank: Vec<u8> = axis.of_colour(self.colour).collect();
        let band = axis.reached(self.left, width);
        let edges = Band { axis: &axis, points: band.clone(), left: self.left, colour: self.colour };
        let mut columns = Columns::new(&axis, 3 * band.len(), 0);
        columns.add(&blank[3 * band.start..3 * band.end], self.top);
        for row in rows {
            columns.add(&edges.along(row), 1);
        }
        columns.add(&blank[3 * band.start..3 * band.end], self.side - self.top - height);
        let inner = columns.finish();

        // Along the columns: outside of the band every row is `blank`.
        let mut out = Vec::with_capacity(3 * size * size);
        for (y, (_, weights)) in axis.iter().enumerate() {
            let sum: i32 = weights.iter().sum();
            let outer = |values: &[u8]| {
                values.iter().map(move |v| rounded((1 << (BITS - 1)) + i32::from(*v) * sum)).collect::<Vec<u8>>()
            };
            out.extend(outer(&blank[..3 * band.start]));
            out.extend_from_slice(&inner[y * 3 * band.len()..(y + 1) * 3 * band.len()]);
            out.extend(outer(&blank[3 * band.end..]));
        }
        out
    }
}

/// The new points of a row that the picture inside the square reaches.
struct Band<'a> {
    axis: &'a Axis,
    points: Range<usize>,
    left: usize,
    colour: [u8; 3],
}

impl Band<'_> {
    /// Resizes one row of the picture, between its margins: `3 · points` bytes.
    fn along(&self, row: &[u8]) -> Vec<u8> {
        let pixels = row.as_chunks::<3>().0;
        let (left, right) = (self.left, self.left + pixels.len());
        let mut out = Vec::with_capacity(3 * self.points.len());
        for point in self.points.clone() {
            let (first, weights, totals) = self.axis.point(point);
            let begin = left.clamp(first, first + weights.len());
            let end = right.clamp(begin, first + weights.len());
            let margin = totals[weights.len()] - totals[end - first] + totals[begin - first];
            let mut sums = self.colour.map(|value| (1 << (BITS - 1)) + i32::from(value) * margin);
            let inside = pixels[begin.saturating_sub(left)..].iter().zip(&weights[begin - first..end - first]);
            for (pixel, weight) in inside {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(*value) * weight;
                }
            }
            out.extend(sums.map(rounded));
        }
        out
    }
}

/// Resizes along columns, one old row after the other; only the sums of the new rows are held.
struct Columns<'a> {
    axis: &'a Axis,
    length: usize,
    /// `new rows × length` sums.
    sums: Vec<i32>,
    /// The old row that comes next.
    row: usize,
    /// The first new row that is not yet complete.
    open: usize,
}

impl<'a> Columns<'a> {
    /// For rows of `length` bytes, of which the first is old row `row`.
    fn new(axis: &'a Axis, length: usize, row: usize) -> Self {
        Self { axis, length, sums: vec![1 << (BITS - 1); axis.points.len() * length], row, open: 0 }
    }

    /// All of `rows`, and the result.
    fn of<R: AsRef<[u8]>>(mut self, rows: impl Iterator<Item = R>) -> Vec<u8> {
        for row in rows {
            self.add(row.as_ref(), 1);
        }
        self.finish()
    }

    /// Adds the next `count` old rows, all of which are `row`.
    fn add(&mut self, row: &[u8], count: usize) {
        let (begin, end) = (self.row, self.row + count);
        self.row = end;
        let mut complete = self.open;
        for new in self.open..self.axis.points.len() {
            let (first, weights, totals) = self.axis.point(new);
            let last = first + weights.len();
            if first >= end {
                break;
            }
            if last <= end && complete == new {
                complete = new + 1;
            }
            let (from, to) = (begin.clamp(first, last), end.clamp(first, last));
            let weight = totals[to - first] - totals[from - first];
            for (sum, value) in self.sums[new * self.length..][..self.length].iter_mut().zip(row) {
                *sum += i32::from(*value) * weight;
            }
        }
        self.open = complete;
    }

    fn finish(self) -> Vec<u8> {
        self.sums.into_iter().map(rounded).collect()
    }
}

/// Which old points make each new one along one axis, and with which weights.
struct Axis {
    /// Per new point: the first old one, and where its weights end (they begin where the last ended).
    points: Vec<(usize, usize)>,
    weights: Vec<i32>,
    /// Per new point: the sums of its first 0, 1, 2, … weights.
    totals: Vec<i32>,
}

impl Axis {
    fn new(from: usize, to: usize, kernel: Interpolation) -> Self {
        Self::part(from, to, 0..to, kernel)
    }

    /// Only the new points in `part`.
    #[allow(clippy::cast_possible_truncation)]
    fn part(from: usize, to: usize, part: Range<usize>, kernel: Interpolation) -> Self {
        let scale = from as f64 / to as f64;
        let mut axis = Self { points: Vec::with_capacity(part.len()), weights: Vec::new(), totals: Vec::new() };
        for new in part {
            let (first, weights) = kernel.weights(from, (new as f64 + 0.5) * scale, scale);
            let mut total = 0;
            axis.totals.push(0);
            for weight in weights {
                let weight = (weight * f64::from(1u32 << BITS)).round() as i32;
                total += weight;
                axis.weights.push(weight);
                axis.totals.push(total);
            }
            axis.points.push((first, axis.weights.len()));
        }
        axis
    }

    /// The old points that any new one needs.
    fn needed(&self) -> Range<usize> {
        let begin = self.points.first().map_or(0, |(first, _)| *first);
        begin..self.iter().map(|(first, weights)| first + weights.len()).max().unwrap_or(begin)
    }

    /// A new point's first old one, its weights, and the sums of its first 0, 1, 2, … weights.
    fn point(&self, new: usize) -> (usize, &[i32], &[i32]) {
        let (first, end) = self.points[new];
        let begin = new.checked_sub(1).map_or(0, |before| self.points[before].1);
        (first, &self.weights[begin..end], &self.totals[begin + new..=end + new])
    }

    /// The first old point and the weights of every new point.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        (0..self.points.len()).map(|new| {
            let (first, weights, _) = self.point(new);
            (first, weights)
        })
    }

    /// The new points to which any of the `count` old ones from `first` on contribute.
    fn reached(&self, first: usize, count: usize) -> Range<usize> {
        let begin = self.iter().take_while(|(from, weights)| from + weights.len() <= first).count();
        let end = begin + self.iter().skip(begin).take_while(|(from, _)| *from < first + count).count();
        begin..end
    }

    /// A row of nothing but `colour`, resized.
    fn of_colour(&self, colour: [u8; 3]) -> impl Iterator<Item = u8> {
        self.iter().flat_map(move |(_, weights)| {
            let sum: i32 = weights.iter().sum();
            colour.map(|value| rounded((1 << (BITS - 1)) + i32::from(value) * sum))
        })
    }

    /// Resizes one row of pixels, which begins with old point `begin`.
    fn along<const CHANNELS: usize>(&self, row: &[u8], begin: usize) -> Vec<u8> {
        let pixels = row.as_chunks::<CHANNELS>().0;
        let mut out = Vec::with_capacity(CHANNELS * self.points.len());
        for (first, weights) in self.iter() {
            let mut sums = [1i32 << (BITS - 1); CHANNELS];
            for (pixel, weight) in pixels[first - begin..].iter().zip(weights) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(*value) * weight;
                }
            }
            out.extend(sums.map(rounded));
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

        /// What is not asked for is not needed.
        #[test]
        fn a_part_is_cut_out_of_the_whole(w in 1usize..40, h in 1usize..40, side in 1usize..40, at in 0usize..20, seed in any::<u64>()) {
            use rand::Rng;
            let mut picture = vec![0; w * h * 3];
            burgess_base::stream::stream("picture", seed).fill_bytes(&mut picture);
            let (to, part) = ((side + 20, side + 20), (at..at + side, 20 - at..20 - at + side));
            let whole = resize_part::<3>(&picture, (w, h), to, (0..to.0, 0..to.1), Interpolation::Bicubic);
            let rows = whole.chunks_exact(3 * to.0).take(part.1.end).skip(part.1.start);
            let cut: Vec<u8> = rows.flat_map(|row| row[3 * part.0.start..3 * part.0.end].to_vec()).collect();
            prop_assert_eq!(cut, resize_part::<3>(&picture, (w, h), to, part, Interpolation::Bicubic));
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
