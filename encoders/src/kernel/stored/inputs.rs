//! Inputs of a product, laid out for panels: tiles of a few rows, of which one column after the other is read.

use super::few::CHUNK;
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

/// A chunk of a row of inputs as integers, to be multiplied along the row. The integers are those of [`Integers`].
#[derive(Clone)]
pub(super) struct Rounded {
    pub(super) quarters: [RoundedQuarter; 4],
    /// Sums of the rounded inputs, per group of weights.
    pub(super) sums: [f32; 16],
}

/// 64 inputs as integers.
#[derive(Clone)]
#[repr(align(64))]
pub(super) struct RoundedQuarter {
    /// The signed bytes.
    pub(super) high: [i8; 64],
    /// The low bytes, of 7 bits; 0 for integers of one byte.
    pub(super) low: [u8; 64],
    /// The sum of every four signed bytes, times −128: what a product starts from if 128 was added to the codes.
    pub(super) start: [i32; 16],
    /// The scale of every four inputs.
    pub(super) scales: [f32; 16],
}

impl Rounded {
    /// Rounds `x`, `[n, columns]`, with zeros up to whole chunks of every row.
    pub(super) fn new(x: &[f32], columns: usize, planes: usize, group: usize) -> Vec<Self> {
        let quarter = RoundedQuarter { high: [0; 64], low: [0; 64], start: [0; 16], scales: [0.0; 16] };
        let zero = Self { quarters: from_fn(|_| quarter.clone()), sums: [0.0; 16] };
        let chunks = columns.div_ceil(CHUNK);
        let mut out = vec![zero; x.len() / columns * chunks];
        for (x, out) in x.chunks_exact(columns).zip(out.chunks_exact_mut(chunks)) {
            for (i, x) in x.as_chunks::<32>().0.iter().enumerate() {
                out[i / 8].set(i % 8, x, planes, group);
            }
        }
        out
    }

    /// Rounds the `index`th 32 inputs.
    fn set(&mut self, index: usize, x: &[f32; 32], planes: usize, group: usize) {
        let (integers, scale) = round(x, planes);
        let (quarter, half) = (&mut self.quarters[index / 2], index % 2);
        for (i, v) in integers.into_iter().enumerate() {
            quarter.high[32 * half + i] = (v >> (7 * (planes - 1))) as i8;
            if planes == 2 {
                quarter.low[32 * half + i] = (v & 127) as u8;
            }
        }
        for i in 8 * half..8 * half + 8 {
            quarter.start[i] = -128 * quarter.high[4 * i..4 * i + 4].iter().map(|v| i32::from(*v)).sum::<i32>();
            quarter.scales[i] = scale;
        }
        for (i, integers) in integers.chunks_exact(group).enumerate() {
            self.sums[32 / group * index + i] = scale * integers.iter().sum::<i32>() as f32;
        }
    }
}

/// Rounds 32 inputs to integers of one or two bytes and returns them with their scale.
#[inline(always)]
fn round(x: &[f32; 32], planes: usize) -> ([i32; 32], f32) {
    // Adding and subtracting 1.5 · 2²³ rounds to an integer.
    const MAGIC: f32 = 12_582_912.0;
    let largest = x.iter().fold(0f32, |m, v| if v.abs() > m { v.abs() } else { m });
    let limit = if planes == 2 { 16_256.0 } else { 127.0 };
    let scale = largest / limit;
    let inverse = if scale > 0.0 { limit / largest } else { 0.0 };
    (x.map(|v| (v * inverse + MAGIC - MAGIC) as i32), scale)
}
