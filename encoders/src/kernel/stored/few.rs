//! Products with a few rows of inputs, as in decoding: every weight is converted in registers and multiplied with each
//! input. The time is that of reading the weights from memory.

use super::inputs::Rounded;
use super::lanes::{Kernel, Lanes, sum};
use super::out::Columns;
use super::{StoredMatrix, part};
use crate::number_format::{Codes, NumberFormat};
use std::array::from_fn;

/// Columns that are processed at a time: one block of the `K` types.
pub(super) const CHUNK: usize = 256;
/// Rows of the matrix that are processed at a time.
const ROWS: usize = 8;

/// The inputs of a product, chunk by chunk for each row.
pub(super) enum FewInputs<'a> {
    /// With zeros up to whole chunks.
    Floats(&'a [[f32; CHUNK]]),
    /// Integers of one byte.
    Bytes(Vec<Rounded>),
    /// Integers of 15 bits in two bytes.
    Words(Vec<Rounded>),
}

/// Computes the outputs from `first` on for all inputs.
pub(super) struct Few<'a> {
    pub(super) matrix: &'a StoredMatrix,
    pub(super) n: usize,
    pub(super) inputs: &'a FewInputs<'a>,
    pub(super) first: usize,
    pub(super) count: usize,
    pub(super) out: Columns<'a>,
}

impl Kernel for Few<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let chunks = self.matrix.columns.div_ceil(CHUNK);
        let n = self.n;
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
                    for line in (0..size).step_by(64) {
                        lanes.prefetch(next.as_ptr().wrapping_add(chunk * size + line));
                    }
                }
                weights.read(lanes, self.matrix, &rows, chunk);
                let mut i = 0;
                while i < n {
                    let mut at = Place { inputs: self.inputs, first: i, chunk, chunks, sums: &mut sums };
                    i += match n - i {
                        8.. if L::MANY_REGISTERS => tiles::<L, 2, 8>(lanes, &weights, &mut at),
                        4.. if L::MANY_REGISTERS => tiles::<L, 4, 4>(lanes, &weights, &mut at),
                        2.. if L::MANY_REGISTERS => tiles::<L, 8, 2>(lanes, &weights, &mut at),
                        _ if L::MANY_REGISTERS => tiles::<L, 8, 1>(lanes, &weights, &mut at),
                        4.. => tiles::<L, 1, 4>(lanes, &weights, &mut at),
                        2.. => tiles::<L, 2, 2>(lanes, &weights, &mut at),
                        _ => tiles::<L, 4, 1>(lanes, &weights, &mut at),
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
        minima: bool,
    },
    F16(Box<[[[u8; 2]; CHUNK]; ROWS]>),
    Bf16(Box<[[[u8; 2]; CHUNK]; ROWS]>),
}

impl Weights {
    fn new(format: NumberFormat) -> Self {
        match format {
            NumberFormat::Block(block) => {
                let (short, minima) = (block.group() == 16, block.has_minima());
                Self::Codes { rows: Box::new(from_fn(|_| Codes::default())), groups: 0, short, minima }
            }
            NumberFormat::Bf16 => Self::Bf16(Box::new([[[0; 2]; CHUNK]; ROWS])),
            _ => Self::F16(Box::new([[[0; 2]; CHUNK]; ROWS])),
        }
    }

    #[inline(always)]
    fn read<L: Lanes>(&mut self, lanes: L, matrix: &StoredMatrix, from: &[&[u8]; ROWS], chunk: usize) {
        match (self, matrix.format) {
            (Self::Codes { rows, groups, .. }, NumberFormat::Block(block)) => {
                lanes.read_rows(block, from, chunk, rows.as_mut_slice());
                *groups = CHUNK.min(matrix.columns - chunk * CHUNK) / block.group();
            }
            (Self::F16(rows) | Self::Bf16(rows), _) => {
                for (from, row) in from.iter().zip(rows.iter_mut()) {
                    let bytes = part(from, 2 * CHUNK, chunk).as_chunks::<2>().0;
                    row[..bytes.len()].copy_from_slice(bytes);
                    row[bytes.len()..].fill([0; 2]);
                }
            }
            (Self::Codes { .. }, _) => {}
        }
    }
}

/// A chunk of the inputs from `first` on, and the sums of their products.
struct Place<'a> {
    inputs: &'a FewInputs<'a>,
    first: usize,
    chunk: usize,
    chunks: usize,
    sums: &'a mut [[[f32; 16]; ROWS]],
}

impl Place<'_> {
    /// This chunk of `N` rows of inputs.
    #[inline(always)]
    fn of<'x, T, const N: usize>(&self, inputs: &'x [T]) -> [&'x T; N] {
        from_fn(|i| &inputs[(self.first + i) * self.chunks + self.chunk])
    }
}

/// Adds the products of all rows with `N` inputs, `R` rows at a time, and returns `N`.
#[inline(always)]
fn tiles<L: Lanes, const R: usize, const N: usize>(lanes: L, weights: &Weights, place: &mut Place<'_>) -> usize {
    for row in (0..ROWS).step_by(R) {
        match (weights, place.inputs) {
            (Weights::Codes { rows, groups, short, .. }, FewInputs::Floats(x)) => {
                let (rows, x) = (&rows[row..row + R], place.of(x).map(|x| x.as_chunks().0));
                let sums = &mut place.sums[place.first..place.first + N];
                match short {
                    true => coded::<L, R, N, 1>(lanes, rows, *groups, x, row, sums),
                    false => coded::<L, R, N, 2>(lanes, rows, *groups, x, row, sums),
                }
            }
            (Weights::Codes { rows, short, minima, .. }, FewInputs::Bytes(x)) => {
                let (rows, x) = (&rows[row..row + R], place.of(x));
                let sums = &mut place.sums[place.first..place.first + N];
                match short {
                    true => integers::<L, R, N, 1, 16>(lanes, rows, *minima, x, row, sums),
                    false => integers::<L, R, N, 1, 32>(lanes, rows, *minima, x, row, sums),
                }
            }
            (Weights::Codes { rows, short, minima, .. }, FewInputs::Words(x)) => {
                let (rows, x) = (&rows[row..row + R], place.of(x));
                let sums = &mut place.sums[place.first..place.first + N];
                match short {
                    true => integers::<L, R, N, 2, 16>(lanes, rows, *minima, x, row, sums),
                    false => integers::<L, R, N, 2, 32>(lanes, rows, *minima, x, row, sums),
                }
            }
            (Weights::F16(rows), FewInputs::Floats(x)) => {
                let (rows, x) = (&rows[row..row + R], place.of(x).map(|x| x.as_chunks().0));
                let sums = &mut place.sums[place.first..place.first + N];
                floats::<L, R, N>(lanes, rows, |numbers| lanes.float_f16(numbers), x, row, sums);
            }
            (Weights::Bf16(rows), FewInputs::Floats(x)) => {
                let (rows, x) = (&rows[row..row + R], place.of(x).map(|x| x.as_chunks().0));
                let sums = &mut place.sums[place.first..place.first + N];
                floats::<L, R, N>(lanes, rows, |numbers| lanes.float_bf16(numbers), x, row, sums);
            }
            // Inputs are rounded only if the matrix has codes.
            (Weights::F16(_) | Weights::Bf16(_), FewInputs::Bytes(_) | FewInputs::Words(_)) => {}
        }
    }
    N
}

/// Loads the accumulators of a tile.
#[inline(always)]
fn load<L: Lanes, const R: usize, const N: usize>(lanes: L, row: usize, sums: &[[[f32; 16]; ROWS]]) -> [[L::F; N]; R] {
    // Loops, because closures that are not inlined would not be compiled for the vector instructions.
    let mut tile = [[lanes.splat(0.0); N]; R];
    for (r, tile) in tile.iter_mut().enumerate() {
        for (tile, sums) in tile.iter_mut().zip(sums) {
            *tile = lanes.load(&sums[row + r]);
        }
    }
    tile
}

/// Loads the `at`th sixteen of each input.
#[inline(always)]
fn loads<L: Lanes, const N: usize>(lanes: L, x: [&[[f32; 16]]; N], at: usize) -> [L::F; N] {
    let mut out = [lanes.splat(0.0); N];
    for (out, x) in out.iter_mut().zip(x) {
        *out = lanes.load(&x[at]);
    }
    out
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
        let (mut scales, mut minima) = ([lanes.splat(0.0); R], [lanes.splat(0.0); R]);
        for r in 0..R {
            scales[r] = lanes.splat(rows[r].scales[group]);
            minima[r] = lanes.splat(-rows[r].minima[group]);
        }
        for at in group * H..group * H + H {
            let x = loads(lanes, x, at);
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

/// A tile of `R` rows of codes in groups of `GROUP` values, and `N` inputs of `PLANES` bytes.
#[inline(always)]
fn integers<L: Lanes, const R: usize, const N: usize, const PLANES: usize, const GROUP: usize>(
    lanes: L,
    rows: &[Codes],
    minima: bool,
    x: [&Rounded; N],
    row: usize,
    sums: &mut [[[f32; 16]; ROWS]],
) {
    let mut tile: [[L::F; N]; R] = load(lanes, row, sums);
    for r in 0..R {
        for (quarter, codes) in rows[r].codes.as_chunks::<64>().0.iter().enumerate() {
            let scales = lanes.repeat::<GROUP>(&rows[r].scales, quarter);
            for i in 0..N {
                let x = &x[i].quarters[quarter];
                let mut dots = lanes.dot_signed(codes, &x.high, &x.start);
                if PLANES == 2 {
                    dots = lanes.join(dots, lanes.dot_unsigned(codes, &x.low));
                }
                let products = lanes.mul(lanes.float_integers(dots), scales);
                tile[r][i] = lanes.mul_add(products, lanes.load(&x.scales), tile[r][i]);
            }
        }
        if minima {
            let minima = lanes.load(&rows[r].minima.map(|m| -m));
            for i in 0..N {
                tile[r][i] = lanes.mul_add(minima, lanes.load(&x[i].sums), tile[r][i]);
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
        let x = loads(lanes, x, at);
        for r in 0..R {
            let weights = convert(&rows[r][at]);
            for i in 0..N {
                tile[r][i] = lanes.mul_add(weights, x[i], tile[r][i]);
            }
        }
    }
    store(lanes, tile, row, sums);
}
