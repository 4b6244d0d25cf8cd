//! Resizes images bit for bit as Pillow does.
//!
//! Pillow (`src/libImaging/Resample.c`) resizes 8-bit images in two passes, first along rows, then along columns,
//! rounding to 8 bits in between, with weights of 22 fractional bits. The kernel is widened when shrinking
//! (antialiasing). Other libraries order or round differently, which shows at hard edges, where the bicubic kernel
//! overshoots and is clamped. (From version 13 on, Pillow resizes along columns first if the height loses more than
//! twice as many pixels as the width, which never applies to a square.)
//!
//! A padded square is never built in memory: each row of the image is resized and added to the sums of the output rows
//! that need it. So the cost of an image of 100,000 × 1 or 1 × 100,000 pixels is that of its own pixels, not of the
//! square around it.

use image::RgbImage;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::Range;

/// Fractional bits of a weight: 32 minus 8 for the pixel and 2 for overshoot.
const BITS: u32 = 22;

/// The interpolation kernels, as Pillow defines them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    /// The triangle kernel, radius 1.
    Bilinear,
    /// Keys' cubic kernel with a = −0.5, radius 2.
    Bicubic,
    /// The sinc kernel windowed by a wider sinc, radius 3 (`Image.LANCZOS`).
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

    /// Returns the value of the kernel at distance `x` from its centre, before it is widened.
    fn at(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        if self == Self::Lanczos {
            // Pillow's interval is half-open: −3 is inside, 3 is not.
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

    /// Returns the weights of the input points for an output point at `centre` (in input coordinates): the index of the
    /// first input point with a weight, and the weights of this point and the following ones, which sum to one. `from`
    /// is the number of input points, `scale` the ratio of input to output points; the kernel is widened if the ratio
    /// exceeds one. Points outside the image have no weight.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn weights(self, from: usize, centre: f64, scale: f64) -> (usize, Vec<f64>) {
        let stretch = scale.max(1.0);
        let radius = self.radius() * stretch;
        // The cast truncates towards zero and saturates at zero, as the C code does after its clamp.
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

/// Computes Pillow's `sinc_filter`.
fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { x.sin() / x }
}

/// Resizes an image of `from` (width, height) to `to` as Pillow up to version 12 does, along rows first; returns bytes
/// in row-major order. If the image has no pixels, or `bytes` is too short for its size, the result is all zero.
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

/// Resizes an image of `from` (width, height) to `to` as Pillow 13 does, but computes only the columns and rows of the
/// result in `part`. If the image has no pixels, or `bytes` is too short for its size, the result is all zero.
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
    // Pillow 13 resizes along columns first if the height loses more than twice as many pixels as the width.
    let lost = |from: usize, to: usize| from as i64 - to as i64;
    if to.1 < from.1 && lost(from.1, to.1) > 2 * lost(from.0, to.0) {
        passes.columns_first::<CHANNELS>(bytes)
    } else {
        passes.rows_first::<CHANNELS>(bytes)
    }
}

/// The two passes of a resize, and the part of its result that is computed.
struct Passes {
    /// Width of the image before resizing, in pixels.
    width: usize,
    /// Columns of the result that are computed.
    columns: Range<usize>,
    /// Rows of the result that are computed.
    rows: Range<usize>,
    /// Weights along the rows; `None` if the width does not change.
    across: Option<Axis>,
    /// Weights along the columns; `None` if the height does not change.
    down: Option<Axis>,
}

impl Passes {
    /// Builds the passes; `None` if the image has no pixels or too few bytes.
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
            Some(axis) => Columns::new(axis, CHANNELS * self.columns.len(), needed.start).resize(resized),
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
        let resized = Columns::new(down, CHANNELS * needed.len(), rows.start).resize(old);
        match &self.across {
            Some(axis) => {
                let rows = resized.chunks_exact((CHANNELS * needed.len()).max(1));
                rows.flat_map(|row| axis.along::<CHANNELS>(row, needed.start)).collect()
            }
            None => resized,
        }
    }
}

/// An image padded to a square with a constant colour; the square is never built in memory.
pub struct PaddedSquare<'a> {
    image: &'a RgbImage,
    side: usize,
    left: usize,
    top: usize,
    colour: [u8; 3],
}

impl<'a> PaddedSquare<'a> {
    /// Pads to the smallest square around `image`; an odd margin is one pixel narrower on the left and at the top.
    pub fn around(image: &'a RgbImage, colour: [u8; 3]) -> Self {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let side = width.max(height);
        Self { image, side, left: (side - width) / 2, top: (side - height) / 2, colour }
    }

    /// Resizes the square to `size` × `size`; returns row-major RGB bytes. The cost is linear in the pixels of image
    /// and result: output points whose kernel covers only padding are computed from the colour alone.
    pub fn resize(&self, size: usize, kernel: Interpolation) -> Vec<u8> {
        let (width, height) = (self.image.width() as usize, self.image.height() as usize);
        if width == 0 || height == 0 {
            return self.colour.repeat(size * size);
        }
        let rows = self.image.as_raw().chunks_exact(3 * width);
        if self.side == size {
            let mut square = self.colour.repeat(size * size);
            for (to, row) in square.chunks_exact_mut(3 * size).skip(self.top).zip(rows) {
                to[3 * self.left..][..row.len()].copy_from_slice(row);
            }
            return square;
        }
        let axis = Axis::new(self.side, size, kernel);
        // First pass, along the rows. `blank` is a resized row of padding; it may differ from the colour, because the
        // rounded weights of a point may not add up to one. The image contributes only to the output points `band`.
        let blank: Vec<u8> = axis.of_colour(self.colour).collect();
        let band = axis.reached(self.left, width);
        let image_band = Band { axis: &axis, points: band.clone(), left: self.left, colour: self.colour };
        let mut columns = Columns::new(&axis, 3 * band.len(), 0);
        columns.add(&blank[3 * band.start..3 * band.end], self.top);
        for row in rows {
            columns.add(&image_band.along(row), 1);
        }
        columns.add(&blank[3 * band.start..3 * band.end], self.side - self.top - height);
        let inner = columns.finish();

        // Second pass, along the columns. Outside `band` all input rows equal `blank`, so the sum of the weights
        // suffices.
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

/// The output points of a row to which the image inside the square contributes.
struct Band<'a> {
    axis: &'a Axis,
    points: Range<usize>,
    left: usize,
    colour: [u8; 3],
}

impl Band<'_> {
    /// Resizes one row of the image with its margins; returns `3 · points` bytes.
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

/// Resizes along columns, one input row after the other; only the sums of the output rows are in memory.
struct Columns<'a> {
    axis: &'a Axis,
    /// Number of bytes in a row.
    length: usize,
    /// Sums of the output rows, `[output rows, length]`.
    sums: Vec<i32>,
    /// Index of the next input row.
    row: usize,
    /// Index of the first output row that is not complete.
    open: usize,
}

impl<'a> Columns<'a> {
    /// Builds the sums for rows of `length` bytes; the first row to be added is input row `row`.
    fn new(axis: &'a Axis, length: usize, row: usize) -> Self {
        Self { axis, length, sums: vec![1 << (BITS - 1); axis.points.len() * length], row, open: 0 }
    }

    /// Adds all of `rows` and returns the output rows.
    fn resize<R: AsRef<[u8]>>(mut self, rows: impl Iterator<Item = R>) -> Vec<u8> {
        for row in rows {
            self.add(row.as_ref(), 1);
        }
        self.finish()
    }

    /// Adds the next `count` input rows, all of which equal `row`.
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

/// The input points and weights of each output point along one axis.
struct Axis {
    /// Per output point: the first input point, and the end of its weights (they begin where the previous ones end).
    points: Vec<(usize, usize)>,
    weights: Vec<i32>,
    /// Per output point: the sums of its first 0, 1, 2, … weights.
    totals: Vec<i32>,
}

impl Axis {
    fn new(from: usize, to: usize, kernel: Interpolation) -> Self {
        Self::part(from, to, 0..to, kernel)
    }

    /// Computes the weights of the output points in `part` only.
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

    /// Returns the range of input points that the output points need.
    fn needed(&self) -> Range<usize> {
        let begin = self.points.first().map_or(0, |(first, _)| *first);
        begin..self.iter().map(|(first, weights)| first + weights.len()).max().unwrap_or(begin)
    }

    /// Returns the first input point of an output point, its weights, and the sums of its first 0, 1, 2, … weights.
    fn point(&self, new: usize) -> (usize, &[i32], &[i32]) {
        let (first, end) = self.points[new];
        let begin = new.checked_sub(1).map_or(0, |before| self.points[before].1);
        (first, &self.weights[begin..end], &self.totals[begin + new..=end + new])
    }

    /// Iterates over the first input point and the weights of every output point.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        (0..self.points.len()).map(|new| {
            let (first, weights, _) = self.point(new);
            (first, weights)
        })
    }

    /// Returns the output points to which any of the `count` input points from `first` on contributes.
    fn reached(&self, first: usize, count: usize) -> Range<usize> {
        let begin = self.iter().take_while(|(from, weights)| from + weights.len() <= first).count();
        let end = begin + self.iter().skip(begin).take_while(|(from, _)| *from < first + count).count();
        begin..end
    }

    /// Resizes a row of constant `colour`.
    fn of_colour(&self, colour: [u8; 3]) -> impl Iterator<Item = u8> {
        self.iter().flat_map(move |(_, weights)| {
            let sum: i32 = weights.iter().sum();
            colour.map(|value| rounded((1 << (BITS - 1)) + i32::from(value) * sum))
        })
    }

    /// Resizes one row of pixels, which begins with input point `begin`.
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

/// Converts from fixed point and clamps to 0..=255.
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
        /// Padding and resizing an image of one colour on its own colour changes nothing.
        #[test]
        fn a_constant_stays_constant(
            w in 1u32..70, h in 1u32..70, size in 1usize..50, c in any::<u8>(), cubic in any::<bool>(),
        ) {
            let kernel = if cubic { Interpolation::Bicubic } else { Interpolation::Bilinear };
            let image = RgbImage::from_pixel(w, h, Rgb([c, 7, 255]));
            let out = PaddedSquare::around(&image, [c, 7, 255]).resize(size, kernel);
            prop_assert_eq!(out, [c, 7, 255].repeat(size * size));
        }

        /// `resize_part` returns the same bytes as the part that is cut out of the whole result.
        #[test]
        fn a_part_is_cut_out_of_the_whole(
            w in 1usize..40, h in 1usize..40, side in 1usize..40, at in 0usize..20, seed in any::<u64>(),
        ) {
            use rand::Rng;
            let mut image = vec![0; w * h * 3];
            burgess_base::stream::stream("picture", seed).fill_bytes(&mut image);
            let (to, part) = ((side + 20, side + 20), (at..at + side, 20 - at..20 - at + side));
            let whole = resize_part::<3>(&image, (w, h), to, (0..to.0, 0..to.1), Interpolation::Bicubic);
            let rows = whole.chunks_exact(3 * to.0).take(part.1.end).skip(part.1.start);
            let cut: Vec<u8> = rows.flat_map(|row| row[3 * part.0.start..3 * part.0.end].to_vec()).collect();
            prop_assert_eq!(cut, resize_part::<3>(&image, (w, h), to, part, Interpolation::Bicubic));
        }

        /// For a square image, `resize` and `PaddedSquare::resize` return the same bytes.
        #[test]
        fn both_ways_to_resize_agree(side in 1u32..40, size in 1usize..40, seed in any::<u64>()) {
            use rand::Rng;
            let mut image = RgbImage::new(side, side);
            burgess_base::stream::stream("picture", seed).fill_bytes(&mut image);
            for kernel in [Interpolation::Bilinear, Interpolation::Bicubic, Interpolation::Lanczos] {
                let plain = resize::<3>(&image, (side as usize, side as usize), (size, size), kernel);
                prop_assert_eq!(plain, PaddedSquare::around(&image, [0; 3]).resize(size, kernel));
            }
        }

        /// `PaddedSquare` returns the same bytes for an image as for the same image padded in memory.
        #[test]
        fn padding_equals_that_in_memory(w in 1u32..40, h in 1u32..40, size in 1usize..40, seed in any::<u64>()) {
            use rand::Rng;
            let mut image = RgbImage::new(w, h);
            burgess_base::stream::stream("picture", seed).fill_bytes(&mut image);
            let side = w.max(h);
            let mut square = RgbImage::from_pixel(side, side, Rgb([9, 99, 199]));
            image::imageops::replace(&mut square, &image, i64::from((side - w) / 2), i64::from((side - h) / 2));
            let virtually = PaddedSquare::around(&image, [9, 99, 199]).resize(size, Interpolation::Bicubic);
            prop_assert_eq!(virtually, PaddedSquare::around(&square, [0, 0, 0]).resize(size, Interpolation::Bicubic));
        }
    }

    #[test]
    fn long_and_empty_images_are_resized() {
        let wide = RgbImage::from_pixel(60_000, 1, Rgb([255, 0, 0]));
        assert_eq!(PaddedSquare::around(&wide, [1, 2, 3]).resize(8, Interpolation::Bicubic)[..3], [1, 2, 3]);
        let none = RgbImage::new(0, 0);
        assert_eq!(PaddedSquare::around(&none, [1, 2, 3]).resize(2, Interpolation::Bilinear), [1, 2, 3].repeat(4));
    }
}
