//! Inputs of a product, laid out for panels: tiles of a few rows, of which one column after the other is read.

use super::lanes::{Kernel, Lanes};
use super::layout::{CHUNK, Coding};
use rayon::prelude::*;
use std::array::from_fn;

/// Rows of a large tile, in accumulators per vector of outputs.
pub(super) const LARGE: usize = 12;
/// Rows of a small tile. Inputs are padded to whole small tiles.
pub(super) const SMALL: usize = 4;

/// Divides `n` rows into tiles: the first row and the number of rows of each.
pub(super) fn tiles(n: usize, large: usize, small: usize) -> impl Iterator<Item = (usize, usize)> {
    let whole = n / large * large;
    let larges = (0..whole).step_by(large).map(move |first| (first, large));
    larges.chain((whole..n).step_by(small).map(move |first| (first, small)))
}

/// Divides a slice of `width` items per row into its tiles.
fn divide<'a, T>(mut items: &'a mut [T], tiles: &[(usize, usize)], width: usize) -> Vec<&'a mut [T]> {
    tiles.iter().filter_map(|(_, rows)| items.split_off_mut(..rows * width)).collect()
}

/// Inputs in f32: tile by tile, column by column.
pub(super) struct Floats {
    pub(super) tiles: Vec<(usize, usize)>,
    pub(super) values: Vec<f32>,
    pub(super) columns: usize,
}

impl Floats {
    /// Lays out `x`, `[n, columns]`, in tiles of `large` rows and the rest in tiles of [`SMALL`] rows.
    pub(super) fn new(x: &[f32], columns: usize, large: usize) -> Self {
        let n = x.len() / columns;
        let tiles: Vec<_> = tiles(n, large, SMALL).collect();
        let padded = columns.next_multiple_of(CHUNK);
        let mut values = vec![0f32; n.next_multiple_of(SMALL) * padded];
        let parts = divide(&mut values, &tiles, padded);
        tiles.par_iter().zip(parts).for_each(|(&(first, rows), out)| {
            for (i, x) in x.chunks_exact(columns).skip(first).take(rows).enumerate() {
                for (out, x) in out.chunks_exact_mut(rows).zip(x) {
                    out[i] = *x;
                }
            }
        });
        Self { tiles, values, columns: padded }
    }
}

/// Inputs as integers with a scale per 32 values of a row: of 8 bits in one byte or of 15 bits in two, the high byte times
/// 128 plus the low byte.
///
/// 128 is added to the signed (highest) byte, so that both are unsigned.
pub(super) struct Integers {
    pub(super) tiles: Vec<(usize, usize)>,
    /// Bytes of four consecutive columns: tile by tile, four columns by four columns, the high bytes of all rows of the
    /// tile before their low bytes.
    pub(super) quads: Vec<[u8; 4]>,
    /// Scales: tile by tile, 32 columns by 32 columns.
    pub(super) scales: Vec<f32>,
    /// Sums of the rounded inputs: tile by tile, group by group.
    pub(super) sums: Vec<f32>,
    pub(super) columns: usize,
}

impl Integers {
    /// Rounds `x`, `[n, columns]`, to integers of `planes` bytes, with sums over groups of `group` columns.
    pub(super) fn new(x: &[f32], columns: usize, planes: usize, group: usize, large: usize) -> Self {
        let n = x.len() / columns;
        let (large, small) = (large / planes, SMALL / planes);
        let tiles: Vec<_> = tiles(n, large, small).collect();
        let (padded, columns_padded) = (n.next_multiple_of(small), columns.next_multiple_of(CHUNK));
        let mut quads = vec![[0u8; 4]; padded * planes * columns_padded / 4];
        let mut scales = vec![0f32; padded * columns_padded / 32];
        let mut sums = vec![0f32; padded * columns_padded / group];
        let parts = divide(&mut quads, &tiles, planes * columns_padded / 4)
            .into_par_iter()
            .zip(divide(&mut scales, &tiles, columns_padded / 32))
            .zip(divide(&mut sums, &tiles, columns_padded / group));
        tiles.par_iter().zip(parts).for_each(|(&(first, rows), ((quads, scales), sums))| {
            for (i, x) in x.chunks_exact(columns).skip(first).take(rows).enumerate() {
                let quads = quads.chunks_exact_mut(8 * planes * rows);
                let groups = sums.chunks_exact_mut(32 / group * rows);
                let x = x.as_chunks::<32>().0;
                for (((x, quads), scales), sums) in x.iter().zip(quads).zip(scales.chunks_exact_mut(rows)).zip(groups) {
                    let (integers, scale) = round(x, planes);
                    scales[i] = scale;
                    for (sums, integers) in sums.chunks_exact_mut(rows).zip(integers.chunks_exact(group)) {
                        sums[i] = scale * integers.iter().sum::<i32>() as f32;
                    }
                    for (quads, integers) in quads.chunks_exact_mut(planes * rows).zip(integers.as_chunks::<4>().0) {
                        quads[i] = integers.map(|v| ((v >> (7 * (planes - 1))) + 128) as u8);
                        if planes == 2 {
                            quads[rows + i] = integers.map(|v| (v & 127) as u8);
                        }
                    }
                }
            }
        });
        Self { tiles, quads, scales, sums, columns: columns_padded }
    }
}

/// A chunk of a row of inputs in f32.
#[derive(Clone)]
#[repr(align(64))]
pub(super) struct FloatChunk {
    /// The inputs in the order of [`Layout::numbers`](super::layout::Layout::numbers).
    pub(super) quarters: [[[f32; 16]; 4]; 4],
    /// Sums of the inputs of each group of weights, in the lanes of the addends; other lanes are 0.
    pub(super) sums: [f32; 16],
}

/// Copies inputs in f32 to chunks, with zeros up to whole chunks of every row.
pub(super) struct Arrange<'a> {
    pub(super) x: &'a [f32],
    pub(super) columns: usize,
    /// How the weights are coded; `None` if they are floats.
    pub(super) coding: Option<Coding>,
}

impl Kernel for Arrange<'_> {
    type Output = Vec<FloatChunk>;

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> Self::Output {
        let chunks = self.columns.div_ceil(CHUNK);
        let zero = FloatChunk { quarters: [[[0.0; 16]; 4]; 4], sums: [0.0; 16] };
        let mut out = vec![zero; self.x.len() / self.columns * chunks];
        for (x, out) in self.x.chunks_exact(self.columns).zip(out.chunks_exact_mut(chunks)) {
            let mut wide = [0f32; CHUNK];
            for (x, out) in x.chunks(CHUNK).zip(out) {
                let x = x.as_array().unwrap_or_else(|| {
                    wide[..x.len()].copy_from_slice(x);
                    &wide
                });
                for (x, out) in x.as_chunks::<64>().0.iter().zip(&mut out.quarters) {
                    *out = match self.coding {
                        Some(_) => from_fn(|k| from_fn(|j| x[4 * j + k])),
                        None => from_fn(|k| from_fn(|j| x[16 * k + j])),
                    };
                }
                let Some(coding) = self.coding else { continue };
                for (i, group) in x.chunks_exact(coding.group).enumerate() {
                    if let Some(lane) = coding.addend(i) {
                        // The sum of 16 lanes, which is a vector operation in this order.
                        let mut sums = [0f32; 16];
                        for x in group.as_chunks::<16>().0 {
                            sums = from_fn(|j| sums[j] + x[j]);
                        }
                        out.sums[lane % 16] = sums.iter().sum();
                    }
                }
            }
        }
        out
    }
}

/// A chunk of a row of inputs as integers, to be multiplied along the row. The integers are those of [`Integers`].
#[derive(Clone)]
pub(super) struct Rounded {
    pub(super) quarters: [RoundedQuarter; 4],
    /// Sums of the rounded inputs of each group of weights, in the lanes of the addends; other lanes are 0.
    pub(super) sums: [f32; 16],
}

/// 64 inputs as integers.
#[derive(Clone)]
#[repr(align(64))]
pub(super) struct RoundedQuarter {
    /// The signed bytes.
    pub(super) high: [i8; 64],
    /// The low bytes, of 7 bits; 0 for integers of one byte.
    pub(super) low: [i8; 64],
    /// The sum of every four integers, times the negative offset of the codes.
    pub(super) start: [i32; 16],
    /// The scale of every four inputs.
    pub(super) scales: [f32; 16],
}

/// Rounds inputs to integers of `planes` bytes for codes of a type, with zeros up to whole chunks of every row.
pub(super) struct Round<'a> {
    pub(super) x: &'a [f32],
    pub(super) columns: usize,
    pub(super) planes: usize,
    pub(super) coding: Coding,
}

impl Kernel for Round<'_> {
    type Output = Vec<Rounded>;

    #[inline(always)]
    fn run<L: Lanes>(self, _lanes: L) -> Self::Output {
        let quarter = RoundedQuarter { high: [0; 64], low: [0; 64], start: [0; 16], scales: [0.0; 16] };
        let zero = Rounded { quarters: from_fn(|_| quarter.clone()), sums: [0.0; 16] };
        let chunks = self.columns.div_ceil(CHUNK);
        let mut out = vec![zero; self.x.len() / self.columns * chunks];
        for (x, out) in self.x.chunks_exact(self.columns).zip(out.chunks_exact_mut(chunks)) {
            for (i, x) in x.as_chunks::<32>().0.iter().enumerate() {
                self.set(&mut out[i / 8], i % 8, x);
            }
        }
        out
    }
}

impl Round<'_> {
    /// Rounds the `index`th 32 inputs of a chunk.
    #[inline(always)]
    fn set(&self, out: &mut Rounded, index: usize, x: &[f32; 32]) {
        let (integers, scale) = round(x, self.planes);
        let (quarter, half) = (&mut out.quarters[index / 2], index % 2);
        let shift = 7 * (self.planes - 1);
        for (high, v) in quarter.high[32 * half..32 * half + 32].iter_mut().zip(integers) {
            *high = (v >> shift) as i8;
        }
        if self.planes == 2 {
            for (low, v) in quarter.low[32 * half..32 * half + 32].iter_mut().zip(integers) {
                *low = (v & 127) as i8;
            }
        }
        let starts = quarter.start[8 * half..8 * half + 8].iter_mut();
        for (start, four) in starts.zip(integers.as_chunks::<4>().0) {
            *start = -i32::from(self.coding.offset) * four.iter().sum::<i32>();
        }
        quarter.scales[8 * half..8 * half + 8].fill(scale);
        let groups = 32 / self.coding.group;
        for (i, integers) in integers.chunks_exact(self.coding.group).enumerate() {
            if let Some(lane) = self.coding.addend(groups * index + i) {
                out.sums[lane % 16] = scale * integers.iter().sum::<i32>() as f32;
            }
        }
    }
}

/// Rounds 32 inputs to integers of one or two bytes and returns them with their scale.
#[inline(always)]
fn round(x: &[f32; 32], planes: usize) -> ([i32; 32], f32) {
    // Adding and subtracting 1.5 · 2²³ rounds to an integer.
    const MAGIC: f32 = 12_582_912.0;
    // Without a sign, floats are ordered as their bits, whose maximum is a vector operation.
    let largest = f32::from_bits(x.iter().fold(0, |most, v| most.max(v.abs().to_bits())));
    let limit = if planes == 2 { 16_256.0 } else { 127.0 };
    let scale = largest / limit;
    let inverse = if scale > 0.0 { limit / largest } else { 0.0 };
    (x.map(|v| (v * inverse + MAGIC - MAGIC) as i32), scale)
}
