//! Products with a few rows of inputs, as in decoding: the codes of the weights are read into registers and multiplied
//! there with each input. The time is that of reading the weights from memory.

use super::inputs::{FloatChunk, Rounded};
use super::lanes::{Kernel, Lanes, Level, sum};
use super::layout::{self, CHUNK, Coded, Layout};
use super::out::Columns;
use super::panel::WIDTH;
use super::{StoredMatrix, StoredRows};
use crate::number_format::{GgmlBlock, NumberFormat};
use std::marker::PhantomData;
use std::ops::Range;
use std::slice;

/// Rows of the matrix that are processed at a time.
const ROWS: usize = 4;

/// The inputs of a product, chunk by chunk for each row.
pub(super) enum FewInputs {
    Floats(Vec<FloatChunk>),
    /// Integers of one byte.
    Bytes(Vec<Rounded>),
    /// Integers of 15 bits in two bytes.
    Words(Vec<Rounded>),
}

/// Computes the outputs from `first` on for all inputs.
pub(super) struct Few<'a> {
    pub(super) matrix: &'a StoredMatrix,
    pub(super) n: usize,
    pub(super) inputs: &'a FewInputs,
    pub(super) first: usize,
    pub(super) out: Columns<'a>,
}

impl Few<'_> {
    pub(super) fn run(self, level: Level) {
        match self.matrix.format {
            NumberFormat::F16 => self.floats::<layout::F16, 512>(level),
            NumberFormat::Bf16 => self.floats::<layout::Bf16, 512>(level),
            NumberFormat::Block(block) => match block {
                GgmlBlock::Q4_0 => self.coded::<layout::Q4_0, 144>(level),
                GgmlBlock::Q4_1 => self.coded::<layout::Q4_1, 160>(level),
                GgmlBlock::Q5_0 => self.coded::<layout::Q5_0, 176>(level),
                GgmlBlock::Q5_1 => self.coded::<layout::Q5_1, 192>(level),
                GgmlBlock::Q8_0 => self.coded::<layout::Q8_0, 272>(level),
                GgmlBlock::Q2K => self.coded::<layout::Q2K, 84>(level),
                GgmlBlock::Q3K => self.coded::<layout::Q3K, 110>(level),
                GgmlBlock::Q4K => self.coded::<layout::Q4K, 144>(level),
                GgmlBlock::Q5K => self.coded::<layout::Q5K, 176>(level),
                GgmlBlock::Q6K => self.coded::<layout::Q6K, 210>(level),
            },
            // A stored matrix has no other format.
            NumberFormat::F64 | NumberFormat::F32 | NumberFormat::Other { .. } => {}
        }
    }

    fn floats<T: Layout<SIZE>, const SIZE: usize>(self, level: Level) {
        // Inputs are rounded only if the matrix has codes.
        if let FewInputs::Floats(x) = self.inputs {
            level.run(All::<InFloats<T>, SIZE> { few: self, x });
        }
    }

    fn coded<T: Coded<SIZE>, const SIZE: usize>(self, level: Level) {
        match self.inputs {
            FewInputs::Floats(x) => level.run(All::<InFloats<T>, SIZE> { few: self, x }),
            FewInputs::Bytes(x) => level.run(All::<InIntegers<T, 1>, SIZE> { few: self, x }),
            FewInputs::Words(x) => level.run(All::<InIntegers<T, 2>, SIZE> { few: self, x }),
        }
    }
}

/// Multiplies all rows with all inputs.
struct All<'a, M: Multiply<SIZE>, const SIZE: usize> {
    few: Few<'a>,
    x: &'a [M::Input],
}

impl<M: Multiply<SIZE>, const SIZE: usize> Kernel for All<'_, M, SIZE> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self, lanes: L) {
        let Few { matrix, n, .. } = self.few;
        let (stored, chunks) = (matrix.stored_rows(), matrix.columns.div_ceil(CHUNK));
        let count = WIDTH.min(matrix.rows - self.few.first);
        for row in (0..count).step_by(ROWS) {
            let rows = row..count.min(row + ROWS);
            let mut from = 0;
            while from < n {
                let x = &self.x[from * chunks..];
                from += match n - from {
                    8.. if L::REGISTERS >= 32 => {
                        self.few.rows::<L, M, SIZE, 2, 8>(lanes, stored, rows.clone(), from, x)
                    }
                    4.. if L::REGISTERS >= 32 => {
                        self.few.rows::<L, M, SIZE, 2, 4>(lanes, stored, rows.clone(), from, x)
                    }
                    // The more bytes, the more the memory gains from a single stream, and the less time products take.
                    _ if L::REGISTERS >= 32 && SIZE > 200 => {
                        self.few.rows::<L, M, SIZE, 1, 1>(lanes, stored, rows.clone(), from, x)
                    }
                    _ if L::REGISTERS >= 32 => self.few.rows::<L, M, SIZE, 4, 1>(lanes, stored, rows.clone(), from, x),
                    4.. if L::REGISTERS >= 8 => self.few.rows::<L, M, SIZE, 1, 4>(lanes, stored, rows.clone(), from, x),
                    _ if L::REGISTERS >= 8 => self.few.rows::<L, M, SIZE, 2, 1>(lanes, stored, rows.clone(), from, x),
                    _ => self.few.rows::<L, M, SIZE, 1, 1>(lanes, stored, rows.clone(), from, x),
                };
            }
        }
    }
}

impl Few<'_> {
    /// Multiplies some rows, `R` at a time, with `N` inputs, and returns `N`.
    #[inline(always)]
    fn rows<L: Lanes, M: Multiply<SIZE>, const SIZE: usize, const R: usize, const N: usize>(
        &mut self,
        lanes: L,
        stored: StoredRows<'_>,
        all: Range<usize>,
        from: usize,
        x: &[M::Input],
    ) -> usize {
        for row in all.clone().step_by(R) {
            // The memory is read in advance, in place of the processor, which does not foresee so many streams.
            let (mut rows, mut ahead): ([&[u8]; R], [&[u8]; R]) = ([&[]; R], [&[]; R]);
            for r in 0..R {
                rows[r] = stored.get(self.first + (row + r).min(all.end - 1));
                if from == 0 {
                    ahead[r] = stored.get(self.first + row + ROWS + r);
                }
            }
            let tile = tile::<L, M, SIZE, R, N>(lanes, rows, ahead, x);
            for i in 0..N {
                let out = self.out.row(from + i);
                for (out, tile) in out[row..].iter_mut().zip(&tile) {
                    *out = sum(lanes, tile[i]);
                }
            }
        }
        N
    }
}

/// Multiplies `R` rows of the matrix with the first `N` inputs, and asks for the bytes `ahead`.
#[inline(always)]
fn tile<L: Lanes, M: Multiply<SIZE>, const SIZE: usize, const R: usize, const N: usize>(
    lanes: L,
    rows: [&[u8]; R],
    ahead: [&[u8]; R],
    x: &[M::Input],
) -> [[L::F; N]; R] {
    let mut tile = [[lanes.splat(0.0); N]; R];
    let count = rows[0].len().div_ceil(SIZE);
    // Whole chunks, and after them the last one, if it has fewer weights than a chunk, with zeros.
    let mut last = [[0; SIZE]; R];
    let mut chunks: [&[[u8; SIZE]]; R] = [&[]; R];
    for r in 0..R {
        let rest;
        (chunks[r], rest) = rows[r].as_chunks();
        if !rest.is_empty() {
            last[r][..rest.len()].copy_from_slice(rest);
        }
    }
    let mut done = 0;
    while done < count {
        let part = if chunks[0].is_empty() { 1 } else { chunks[0].len() };
        for r in 0..R {
            chunks[r] = if chunks[r].is_empty() { slice::from_ref(&last[r]) } else { chunks[r] };
            chunks[r] = &chunks[r][..part];
        }
        for chunk in 0..part {
            let mut bytes = [&[0; SIZE]; R];
            for r in 0..R {
                bytes[r] = &chunks[r][chunk];
                if !ahead[r].is_empty() {
                    for line in (0..SIZE).step_by(64) {
                        lanes.prefetch(ahead[r].as_ptr().wrapping_add((done + chunk) * SIZE + line));
                    }
                }
            }
            let mut inputs = [&x[done + chunk]; N];
            for i in 1..N {
                inputs[i] = &x[i * count + done + chunk];
            }
            M::chunk(lanes, bytes, inputs, &mut tile);
        }
        done += part;
        chunks = [&[]; R];
    }
    tile
}

/// Multiplies chunks of weights with chunks of inputs of one kind.
trait Multiply<const SIZE: usize> {
    type Input;

    /// Adds the products of a chunk of `R` rows with `N` inputs, whose sums over the lanes are the outputs.
    fn chunk<L: Lanes, const R: usize, const N: usize>(
        lanes: L,
        rows: [&[u8; SIZE]; R],
        x: [&Self::Input; N],
        tile: &mut [[L::F; N]; R],
    );
}

/// Weights are converted to f32.
struct InFloats<T>(PhantomData<T>);

impl<T: Layout<SIZE>, const SIZE: usize> Multiply<SIZE> for InFloats<T> {
    type Input = FloatChunk;

    #[inline(always)]
    fn chunk<L: Lanes, const R: usize, const N: usize>(
        lanes: L,
        rows: [&[u8; SIZE]; R],
        x: [&FloatChunk; N],
        tile: &mut [[L::F; N]; R],
    ) {
        let heads = heads::<L, T, SIZE, R>(lanes, rows);
        float_quarter::<L, T, SIZE, R, N, 0>(lanes, rows, heads, x, tile);
        float_quarter::<L, T, SIZE, R, N, 1>(lanes, rows, heads, x, tile);
        float_quarter::<L, T, SIZE, R, N, 2>(lanes, rows, heads, x, tile);
        float_quarter::<L, T, SIZE, R, N, 3>(lanes, rows, heads, x, tile);
        for r in 0..R {
            for i in 0..N {
                if let Some(addends) = T::addends::<L>(heads[r]) {
                    tile[r][i] = lanes.mul_add(addends, lanes.load(&x[i].sums), tile[r][i]);
                }
            }
        }
    }
}

/// Reads the heads of `R` chunks.
#[inline(always)]
fn heads<L: Lanes, T: Layout<SIZE>, const SIZE: usize, const R: usize>(
    lanes: L,
    rows: [&[u8; SIZE]; R],
) -> [T::Head<L>; R] {
    // Loops, because closures that are not inlined would not be compiled for the vector instructions.
    let mut heads = [<T as Layout<SIZE>>::head(lanes, rows[0]); R];
    for r in 1..R {
        heads[r] = <T as Layout<SIZE>>::head(lanes, rows[r]);
    }
    heads
}

#[inline(always)]
fn float_quarter<L: Lanes, T: Layout<SIZE>, const SIZE: usize, const R: usize, const N: usize, const Q: usize>(
    lanes: L,
    rows: [&[u8; SIZE]; R],
    heads: [T::Head<L>; R],
    x: [&FloatChunk; N],
    tile: &mut [[L::F; N]; R],
) {
    for r in 0..R {
        let numbers = T::numbers::<L, Q>(lanes, rows[r]);
        let factors = T::factors::<L, Q>(lanes, heads[r]);
        for i in 0..N {
            let x = &x[i].quarters[Q];
            let (mut sum, first) = match factors {
                Some(_) => (lanes.mul(numbers[0], lanes.load(&x[0])), 1),
                None => (tile[r][i], 0),
            };
            for k in first..4 {
                sum = lanes.mul_add(numbers[k], lanes.load(&x[k]), sum);
            }
            tile[r][i] = match factors {
                Some(factors) => lanes.mul_add(sum, factors, tile[r][i]),
                None => sum,
            };
        }
    }
}

/// Codes are multiplied as integers of `PLANES` bytes.
struct InIntegers<T, const PLANES: usize>(PhantomData<T>);

impl<T: Coded<SIZE>, const SIZE: usize, const PLANES: usize> Multiply<SIZE> for InIntegers<T, PLANES> {
    type Input = Rounded;

    #[inline(always)]
    fn chunk<L: Lanes, const R: usize, const N: usize>(
        lanes: L,
        rows: [&[u8; SIZE]; R],
        x: [&Rounded; N],
        tile: &mut [[L::F; N]; R],
    ) {
        let heads = heads::<L, T, SIZE, R>(lanes, rows);
        integer_quarter::<L, T, SIZE, R, N, 0, PLANES>(lanes, rows, heads, x, tile);
        integer_quarter::<L, T, SIZE, R, N, 1, PLANES>(lanes, rows, heads, x, tile);
        integer_quarter::<L, T, SIZE, R, N, 2, PLANES>(lanes, rows, heads, x, tile);
        integer_quarter::<L, T, SIZE, R, N, 3, PLANES>(lanes, rows, heads, x, tile);
        for r in 0..R {
            for i in 0..N {
                if let Some(addends) = T::addends::<L>(heads[r]) {
                    tile[r][i] = lanes.mul_add(addends, lanes.load(&x[i].sums), tile[r][i]);
                }
            }
        }
    }
}

#[inline(always)]
fn integer_quarter<
    L: Lanes,
    T: Coded<SIZE>,
    const SIZE: usize,
    const R: usize,
    const N: usize,
    const Q: usize,
    const PLANES: usize,
>(
    lanes: L,
    rows: [&[u8; SIZE]; R],
    heads: [T::Head<L>; R],
    x: [&Rounded; N],
    tile: &mut [[L::F; N]; R],
) {
    let large = T::CODING.offset == 128;
    for r in 0..R {
        let (codes, factors) = (T::codes::<L, Q>(lanes, rows[r]), T::factors::<L, Q>(lanes, heads[r]));
        for i in 0..N {
            let x = &x[i].quarters[Q];
            let start = match T::CODING.offset {
                0 => lanes.load_integers(&[0; 16]),
                _ => lanes.load_integers(&x.start),
            };
            let dots = match PLANES {
                1 => lanes.dot_codes(start, codes, &x.high, large),
                _ => {
                    let high = lanes.dot_codes(lanes.load_integers(&[0; 16]), codes, &x.high, large);
                    lanes.join(high, lanes.dot_codes(start, codes, &x.low, large))
                }
            };
            let scales = match factors {
                Some(factors) => lanes.mul(factors, lanes.load(&x.scales)),
                None => lanes.load(&x.scales),
            };
            tile[r][i] = lanes.mul_add(lanes.float_integers(dots), scales, tile[r][i]);
        }
    }
}
