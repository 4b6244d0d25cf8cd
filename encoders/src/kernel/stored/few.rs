//! Products with a few rows of inputs, as in decoding: every weight is converted in registers and multiplied with each
//! input. The time is that of reading the weights from memory.

use super::lanes::{Kernel, Lanes, sum};
use super::out::Columns;
use super::{StoredMatrix, part};
use crate::number_format::{Codes, NumberFormat};
use std::array::from_fn;

/// Columns that are processed at a time: one block of the `K` types.
pub(super) const CHUNK: usize = 256;
/// Rows of the matrix that are processed at a time.
const ROWS: usize = 8;

/// Computes the outputs from `first` on for all inputs.
pub(super) struct Few<'a> {
    pub(super) matrix: &'a StoredMatrix,
    /// Inputs, `[n, padded columns]`, with zeros up to whole chunks.
    pub(super) x: &'a [[f32; CHUNK]],
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) out: Columns<'a>,
}

impl Kernel for Few<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let chunks = self.matrix.columns.div_ceil(CHUNK);
        let n = self.x.len() / chunks;
        let mut sums = vec![[[0f32; 16]; ROWS]; n];
        let mut weights = Weights::new(self.matrix.format);
        for first in (0..self.count).step_by(ROWS) {
            let count = ROWS.min(self.count - first);
            sums.fill([[0.0; 16]; ROWS]);
            let row = |i: usize| self.matrix.row_bytes(self.first + first + i);
            let (rows, next): ([&[u8]; ROWS], [&[u8]; ROWS]) = (from_fn(row), from_fn(|i| row(ROWS + i)));
            let size = self.matrix.chunk_size();
            for chunk in 0..chunks {
                // The memory is read in advance, in place of the processor, which does not foresee so many streams.
                for next in next {
                    lanes.prefetch(part(next, size, chunk));
                }
                weights.read(lanes, self.matrix, rows.map(|row| part(row, size, chunk)), chunk);
                let mut i = 0;
                while i < n {
                    let x = |i: usize| &self.x[i * chunks + chunk];
                    i += match n - i {
                        8.. if L::MANY_REGISTERS => tiles::<L, 2, 8>(lanes, &weights, i, x, &mut sums),
                        4.. if L::MANY_REGISTERS => tiles::<L, 4, 4>(lanes, &weights, i, x, &mut sums),
                        2.. if L::MANY_REGISTERS => tiles::<L, 8, 2>(lanes, &weights, i, x, &mut sums),
                        _ if L::MANY_REGISTERS => tiles::<L, 8, 1>(lanes, &weights, i, x, &mut sums),
                        4.. => tiles::<L, 1, 4>(lanes, &weights, i, x, &mut sums),
                        2.. => tiles::<L, 2, 2>(lanes, &weights, i, x, &mut sums),
                        _ => tiles::<L, 4, 1>(lanes, &weights, i, x, &mut sums),
                    };
                }
            }
            for (i, sums) in sums.iter().enumerate() {
                let out = &mut self.out.row(i)[first..first + count];
                for (out, sums) in out.iter_mut().zip(sums) {
                    *out = sum(lanes, lanes.load(sums));
                }
            }
        }
    }
}

/// A chunk of some rows' weights, before their conversion to f32.
enum Weights {
    /// Codes, and whether groups are of 16 or of 32 values.
    Codes {
        rows: Box<[Codes; ROWS]>,
        groups: usize,
        short: bool,
    },
    F16(Box<[[[u8; 2]; CHUNK]; ROWS]>),
    Bf16(Box<[[[u8; 2]; CHUNK]; ROWS]>),
}

impl Weights {
    fn new(format: NumberFormat) -> Self {
        match format {
            NumberFormat::Block(block) => {
                Self::Codes { rows: Box::new(from_fn(|_| Codes::default())), groups: 0, short: block.group() == 16 }
            }
            NumberFormat::Bf16 => Self::Bf16(Box::new([[[0; 2]; CHUNK]; ROWS])),
            _ => Self::F16(Box::new([[[0; 2]; CHUNK]; ROWS])),
        }
    }

    #[inline(always)]
    fn read<L: Lanes>(&mut self, lanes: L, matrix: &StoredMatrix, from: [&[u8]; ROWS], chunk: usize) {
        match (self, matrix.format) {
            (Self::Codes { rows, groups, .. }, NumberFormat::Block(block)) => {
                lanes.read_rows(block, from, rows);
                *groups = CHUNK.min(matrix.columns - chunk * CHUNK) / block.group();
            }
            (Self::F16(rows) | Self::Bf16(rows), _) => {
                for (from, row) in from.iter().zip(rows.iter_mut()) {
                    let bytes = from.as_chunks::<2>().0;
                    row[..bytes.len()].copy_from_slice(bytes);
                    row[bytes.len()..].fill([0; 2]);
                }
            }
            (Self::Codes { .. }, _) => {}
        }
    }
}

/// Adds the products of all rows with `N` inputs, `R` rows at a time, and returns `N`.
#[inline(always)]
fn tiles<'x, L: Lanes, const R: usize, const N: usize>(
    lanes: L,
    weights: &Weights,
    first: usize,
    x: impl Fn(usize) -> &'x [f32; CHUNK],
    sums: &mut [[[f32; 16]; ROWS]],
) -> usize {
    let x: [&[[f32; 16]]; N] = from_fn(|i| x(first + i).as_chunks().0);
    let sums = &mut sums[first..first + N];
    for row in (0..ROWS).step_by(R) {
        match weights {
            Weights::Codes { rows, groups, short: true } => {
                coded::<L, R, N, 1>(lanes, &rows[row..row + R], *groups, x, row, sums);
            }
            Weights::Codes { rows, groups, short: false } => {
                coded::<L, R, N, 2>(lanes, &rows[row..row + R], *groups, x, row, sums);
            }
            Weights::F16(rows) => {
                let rows = &rows[row..row + R];
                floats::<L, R, N>(lanes, rows, |numbers| lanes.float_f16(numbers), x, row, sums);
            }
            Weights::Bf16(rows) => {
                let rows = &rows[row..row + R];
                floats::<L, R, N>(lanes, rows, |numbers| lanes.float_bf16(numbers), x, row, sums);
            }
        }
    }
    N
}

/// Loads the accumulators of a tile.
#[inline(always)]
fn load<L: Lanes, const R: usize, const N: usize>(lanes: L, row: usize, sums: &[[[f32; 16]; ROWS]]) -> [[L::F; N]; R] {
    from_fn(|r| from_fn(|i| lanes.load(&sums[i][row + r])))
}

/// Stores the accumulators of a tile.
#[inline(always)]
fn store<L: Lanes, const R: usize, const N: usize>(
    lanes: L,
    tile: [[L::F; N]; R],
    row: usize,
    sums: &mut [[[f32; 16]; ROWS]],
) {
    for (r, tile) in tile.into_iter().enumerate() {
        for (sums, tile) in sums.iter_mut().zip(tile) {
            lanes.store(tile, &mut sums[row + r]);
        }
    }
}

/// A tile of `R` rows of codes in groups of `16 · H` values, and `N` inputs.
#[inline(always)]
fn coded<L: Lanes, const R: usize, const N: usize, const H: usize>(
    lanes: L,
    rows: &[Codes],
    groups: usize,
    x: [&[[f32; 16]]; N],
    row: usize,
    sums: &mut [[[f32; 16]; ROWS]],
) {
    let mut tile: [[L::F; N]; R] = load(lanes, row, sums);
    let codes: [&[[i8; 16]]; R] = from_fn(|r| rows[r].codes.as_chunks().0);
    for group in 0..groups.min(16 / H) {
        let scales: [L::F; R] = from_fn(|r| lanes.splat(rows[r].scales[group]));
        let minima: [L::F; R] = from_fn(|r| lanes.splat(-rows[r].minima[group]));
        for at in group * H..group * H + H {
            let x: [L::F; N] = from_fn(|i| lanes.load(&x[i][at]));
            for r in 0..R {
                let weights = lanes.mul_add(lanes.float_codes(&codes[r][at]), scales[r], minima[r]);
                for i in 0..N {
                    tile[r][i] = lanes.mul_add(weights, x[i], tile[r][i]);
                }
            }
        }
    }
    store(lanes, tile, row, sums);
}

/// A tile of `R` rows of 16-bit floats and `N` inputs.
#[inline(always)]
fn floats<L: Lanes, const R: usize, const N: usize>(
    lanes: L,
    rows: &[[[u8; 2]; CHUNK]],
    convert: impl Fn(&[[u8; 2]; 16]) -> L::F,
    x: [&[[f32; 16]]; N],
    row: usize,
    sums: &mut [[[f32; 16]; ROWS]],
) {
    let mut tile: [[L::F; N]; R] = load(lanes, row, sums);
    let rows: [&[[[u8; 2]; 16]]; R] = from_fn(|r| rows[r].as_chunks().0);
    for at in 0..CHUNK / 16 {
        let x: [L::F; N] = from_fn(|i| lanes.load(&x[i][at]));
        for r in 0..R {
            let weights = convert(&rows[r][at]);
            for i in 0..N {
                tile[r][i] = lanes.mul_add(weights, x[i], tile[r][i]);
            }
        }
    }
    store(lanes, tile, row, sums);
}
