//! Products with a matrix that stays in memory as its file stores it: 16-bit floats or quantised blocks.
//!
//! The matrix is `[rows, columns]` as in files: a row holds the weights of one output. Weights of a language model of
//! 7 B parameters take 28 GB as f32 and 4 GB as blocks of 4 bits, so the matrix is never unpacked as a whole: a task
//! unpacks a few rows into its own buffer and multiplies them while they are in the cache.

use crate::kernel::product::{self, Matrix, Strides};
use crate::kernel::simd::{sum2, with_simd};
use crate::number_format::{self, NumberFormat};
use rayon::prelude::*;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Number of rows that a task unpacks at a time.
const ROWS: usize = 32;
/// Maximum number of inputs that are multiplied one by one with an unpacked row.
const FEW: usize = 8;

/// A range of bytes of a mapped file (or of other memory), shared by all its users.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl SharedBytes {
    /// Shares a range of `owner`; `None` if it reaches beyond it.
    pub fn new(owner: Arc<dyn AsRef<[u8]> + Send + Sync>, range: Range<usize>) -> Option<Self> {
        (*owner).as_ref().get(range.clone())?;
        Some(Self { owner, range })
    }

    /// The bytes.
    pub fn get(&self) -> &[u8] {
        (*self.owner).as_ref().get(self.range.clone()).unwrap_or_default()
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBytes({:?})", self.range)
    }
}

/// The order of a matrix's rows in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOrder {
    /// The order of the outputs.
    Outputs,
    /// Within each head of this many rows, row `2 i` of the file is output `i` and row `2 i + 1` is output
    /// `i + width / 2`: the rotary layout with neighbouring channels, read as the layout of `rotate_half`.
    InterleavedHeads(usize),
}

/// The precision of the activations in a product with a stored matrix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Activations {
    /// The product equals that with the unpacked matrix, up to f32 rounding.
    #[default]
    F32,
    /// From a few rows on, activations are rounded to 8-bit integers with a scale per 32 values, and multiplied with
    /// the codes of quantised blocks as integers. Matrices of 16-bit floats have no codes: they use [`Self::F32`].
    Int8,
}

/// A matrix `[rows, columns]` in the number format of its file.
#[derive(Debug, Clone)]
pub struct StoredMatrix {
    bytes: SharedBytes,
    format: NumberFormat,
    rows: usize,
    columns: usize,
    order: RowOrder,
}

impl StoredMatrix {
    /// Wraps the bytes of a row-major matrix; `None` unless the format is 16-bit floats or quantised blocks, rows are
    /// whole blocks, and the bytes are those of `[rows, columns]`.
    pub fn new(bytes: SharedBytes, format: NumberFormat, [rows, columns]: [usize; 2]) -> Option<Self> {
        let (together, size) = format.unit();
        let kept = matches!(format, NumberFormat::F16 | NumberFormat::Bf16 | NumberFormat::Block(_));
        let whole = columns.is_multiple_of(together) && rows * columns > 0;
        let fits = bytes.get().len() == rows * (columns / together) * size;
        (kept && whole && fits).then_some(Self { bytes, format, rows, columns, order: RowOrder::Outputs })
    }

    /// Returns this matrix with its rows in another order; `None` if the rows are not whole heads of an even width.
    pub fn ordered(mut self, order: RowOrder) -> Option<Self> {
        if let RowOrder::InterleavedHeads(width) = order
            && (width == 0 || !width.is_multiple_of(2) || !self.rows.is_multiple_of(width))
        {
            return None;
        }
        self.order = order;
        Some(self)
    }

    /// Number of rows (outputs) and columns (inputs).
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// The number format.
    pub fn format(&self) -> NumberFormat {
        self.format
    }

    /// Size in bytes.
    pub fn size(&self) -> usize {
        self.bytes.get().len()
    }

    /// The row of the file that holds the weights of an output.
    fn stored_row(&self, output: usize) -> usize {
        match self.order {
            RowOrder::Outputs => output,
            RowOrder::InterleavedHeads(width) => {
                let (head, i) = (output / width, output % width);
                let half = width / 2;
                head * width + if i < half { 2 * i } else { 2 * (i - half) + 1 }
            }
        }
    }

    /// The bytes of the row of an output; empty beyond the last row.
    fn row_bytes(&self, output: usize) -> &[u8] {
        let size = self.bytes.get().len() / self.rows;
        let from = self.stored_row(output) * size;
        self.bytes.get().get(from..from + size).unwrap_or_default()
    }

    /// Unpacks the weights of one output into `out`, `[columns]`. Does nothing beyond the last row.
    pub fn unpack_row(&self, output: usize, out: &mut [f32]) {
        if output < self.rows && out.len() == self.columns {
            number_format::convert(self.format, self.row_bytes(output), out);
        }
    }

    /// Unpacks the whole matrix, row-major.
    pub fn unpack(&self) -> Vec<f32> {
        let mut out = vec![0f32; self.rows * self.columns];
        out.par_chunks_mut(self.columns).enumerate().for_each(|(row, out)| self.unpack_row(row, out));
        out
    }

    /// Computes `x · matrixᵀ`, `[n, columns]` → `[n, rows]`, in f32, as with the unpacked matrix.
    ///
    /// # Panics
    /// `x` is not `[n, columns]`.
    pub fn product(&self, x: &[f32]) -> Vec<f32> {
        self.product_with(x, Activations::F32)
    }

    /// Computes `x · matrixᵀ` into the columns of a wider matrix: output `o` of row `i` goes to
    /// `out[i * out_stride + first_column + o]`. Other columns of `out` keep their values.
    ///
    /// # Panics
    /// `x` is not `[n, columns]`, or the outputs do not fit in `out`.
    pub fn product_into(
        &self,
        x: &[f32],
        activations: Activations,
        out: &mut [f32],
        out_stride: usize,
        first_column: usize,
    ) {
        assert!(first_column + self.rows <= out_stride, "the outputs reach beyond a row of the result");
        let y = self.product_with(x, activations);
        assert!(out.len() >= y.len() / self.rows * out_stride, "the result is too short");
        for (out, y) in out.chunks_mut(out_stride).zip(y.chunks_exact(self.rows)) {
            out[first_column..first_column + self.rows].copy_from_slice(y);
        }
    }

    /// Computes `x · matrixᵀ`, `[n, columns]` → `[n, rows]`, with activations in the given precision.
    ///
    /// # Panics
    /// `x` is not `[n, columns]`.
    pub fn product_with(&self, x: &[f32], _activations: Activations) -> Vec<f32> {
        assert!(x.len().is_multiple_of(self.columns), "the inputs are not rows of {} numbers", self.columns);
        let n = x.len() / self.columns;
        // Computed output by output, so that each row of the matrix is unpacked once.
        let mut by_output = vec![0f32; self.rows * n];
        if n == 0 {
            return by_output;
        }
        by_output.par_chunks_mut(ROWS * n).enumerate().for_each_init(
            || vec![0f32; ROWS * self.columns],
            |unpacked, (task, out)| {
                let count = out.len() / n;
                let unpacked = &mut unpacked[..count * self.columns];
                for (i, row) in unpacked.chunks_exact_mut(self.columns).enumerate() {
                    self.unpack_row(task * ROWS + i, row);
                }
                if n <= FEW {
                    with_simd(
                        #[inline(always)]
                        || {
                            for (out, w) in out.chunks_exact_mut(n).zip(unpacked.chunks_exact(self.columns)) {
                                for (out, x) in out.iter_mut().zip(x.chunks_exact(self.columns)) {
                                    *out = sum2(x, w, |a, b| a * b);
                                }
                            }
                        },
                    );
                } else {
                    let (a, b) = (Strides::row_major(self.columns), Strides::row_major(self.columns).transposed());
                    let (a, b) = (Matrix(unpacked, a), Matrix(x, b));
                    product::product([count, n, self.columns], out, Strides::row_major(n), a, b, false);
                }
            },
        );
        if n == 1 {
            return by_output;
        }
        let mut out = vec![0f32; n * self.rows];
        out.par_chunks_mut(self.rows).enumerate().for_each(|(i, out)| {
            for (out, column) in out.iter_mut().zip(by_output.chunks_exact(n)) {
                *out = column[i];
            }
        });
        out
    }

    /// Computes `y · matrix`, `[n, rows]` → `[n, columns]`, in f32: the gradient of [`StoredMatrix::product`] with
    /// respect to its input.
    ///
    /// # Panics
    /// `y` is not `[n, rows]`.
    pub fn product_transposed(&self, y: &[f32]) -> Vec<f32> {
        assert!(y.len().is_multiple_of(self.rows), "the gradients are not rows of {} numbers", self.rows);
        let n = y.len() / self.rows;
        let mut out = vec![0f32; n * self.columns];
        let mut unpacked = vec![0f32; 8 * ROWS * self.columns];
        for first in (0..self.rows).step_by(8 * ROWS) {
            let count = (8 * ROWS).min(self.rows - first);
            let unpacked = &mut unpacked[..count * self.columns];
            unpacked.par_chunks_mut(self.columns).enumerate().for_each(|(i, row)| self.unpack_row(first + i, row));
            let unpacked = Matrix(&*unpacked, Strides::row_major(self.columns));
            let rows = n.div_ceil(rayon::current_num_threads()).max(1);
            out.par_chunks_mut(rows * self.columns).zip(y.par_chunks(rows * self.rows)).for_each(|(out, y)| {
                let to = Strides::row_major(self.columns);
                let y_rows = Matrix(&y[first..], Strides::row_major(self.rows));
                product::product([out.len() / self.columns, self.columns, count], out, to, y_rows, unpacked, first > 0);
            });
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number_format::GgmlBlock;

    const FORMATS: [NumberFormat; 12] = [
        NumberFormat::F16,
        NumberFormat::Bf16,
        NumberFormat::Block(GgmlBlock::Q4_0),
        NumberFormat::Block(GgmlBlock::Q4_1),
        NumberFormat::Block(GgmlBlock::Q5_0),
        NumberFormat::Block(GgmlBlock::Q5_1),
        NumberFormat::Block(GgmlBlock::Q8_0),
        NumberFormat::Block(GgmlBlock::Q2K),
        NumberFormat::Block(GgmlBlock::Q3K),
        NumberFormat::Block(GgmlBlock::Q4K),
        NumberFormat::Block(GgmlBlock::Q5K),
        NumberFormat::Block(GgmlBlock::Q6K),
    ];

    /// A matrix of pseudo-random bytes whose 16-bit floats (scales, or the values themselves) are moderate.
    fn matrix(format: NumberFormat, [rows, columns]: [usize; 2]) -> StoredMatrix {
        let (together, size) = format.unit();
        let count = rows * columns / together * size;
        let mut state = 12_345u32;
        let mut bytes: Vec<u8> = (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        let scales: &[usize] = match format {
            NumberFormat::Block(GgmlBlock::Q4_1 | GgmlBlock::Q5_1 | GgmlBlock::Q4K | GgmlBlock::Q5K) => &[0, 2],
            NumberFormat::Block(GgmlBlock::Q2K) => &[80, 82],
            NumberFormat::Block(GgmlBlock::Q3K) => &[108],
            NumberFormat::Block(GgmlBlock::Q6K) => &[208],
            _ => &[0],
        };
        for block in bytes.chunks_exact_mut(size) {
            for at in scales {
                // The exponents of 2⁻⁷ to 2¹ of f16, of 2⁻³¹ to 2 of bf16.
                block[at + 1] =
                    if format == NumberFormat::Bf16 { 0x30 + block[at + 1] % 16 } else { 0x20 + block[at + 1] % 32 };
            }
        }
        StoredMatrix::new(SharedBytes::new(Arc::new(bytes), 0..count).unwrap(), format, [rows, columns]).unwrap()
    }

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    fn close(what: &str, a: &[f32], b: &[f64]) {
        assert_eq!(a.len(), b.len(), "{what}");
        let off: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
        let size: f64 = b.iter().map(|b| b * b).sum();
        assert!(off.sqrt() <= 2e-6 * size.sqrt(), "{what}: {} of {}", off.sqrt(), size.sqrt());
    }

    #[test]
    fn products_are_those_of_the_unpacked_matrix() {
        for format in FORMATS {
            for (rows, order) in [(1, RowOrder::Outputs), (70, RowOrder::Outputs), (48, RowOrder::InterleavedHeads(12))]
            {
                let columns = 512;
                let stored = matrix(format, [rows, columns]).ordered(order).unwrap();
                let w = stored.unpack();
                for n in [1, 3, 8, 37] {
                    let x = numbers(n * columns);
                    let sum = |i: usize, o: usize| {
                        (0..columns).map(|c| f64::from(x[i * columns + c]) * f64::from(w[o * columns + c])).sum()
                    };
                    let wanted: Vec<f64> = (0..n * rows).map(|at| sum(at / rows, at % rows)).collect();
                    close(&format!("{format:?} {n}x{rows}"), &stored.product(&x), &wanted);
                    let mut wide = vec![5.0; n * (rows + 3)];
                    stored.product_into(&x, Activations::F32, &mut wide, rows + 3, 2);
                    for (wide, y) in wide.chunks(rows + 3).zip(stored.product(&x).chunks(rows)) {
                        assert_eq!((&wide[..2], &wide[2..rows + 2], wide[rows + 2]), (&[5.0; 2][..], y, 5.0));
                    }
                    let y = numbers(n * rows);
                    let sum = |i: usize, c: usize| {
                        (0..rows).map(|o| f64::from(y[i * rows + o]) * f64::from(w[o * columns + c])).sum()
                    };
                    let wanted: Vec<f64> = (0..n * columns).map(|at| sum(at / columns, at % columns)).collect();
                    close(&format!("{format:?} {n}x{rows} transposed"), &stored.product_transposed(&y), &wanted);
                }
            }
        }
    }

    #[test]
    fn rows_of_interleaved_heads_are_read_in_the_order_of_rotate_half() {
        let plain = matrix(NumberFormat::F16, [8, 4]);
        let w = plain.unpack();
        let ordered = plain.ordered(RowOrder::InterleavedHeads(4)).unwrap();
        let wanted: Vec<f32> = [0, 2, 1, 3, 4, 6, 5, 7].iter().flat_map(|r| w[4 * r..4 * r + 4].to_vec()).collect();
        assert_eq!(ordered.unpack(), wanted);
        assert!(ordered.clone().ordered(RowOrder::InterleavedHeads(3)).is_none());
        assert!(ordered.ordered(RowOrder::InterleavedHeads(16)).is_none());
    }

    #[test]
    fn ill_shaped_matrices_are_refused() {
        let bytes = |n: usize| SharedBytes::new(Arc::new(vec![0u8; n]), 0..n).unwrap();
        assert!(SharedBytes::new(Arc::new(vec![0u8; 3]), 0..4).is_none());
        let q8 = NumberFormat::Block(GgmlBlock::Q8_0);
        assert!(StoredMatrix::new(bytes(68), q8, [2, 32]).is_some());
        assert!(StoredMatrix::new(bytes(67), q8, [2, 32]).is_none());
        assert!(StoredMatrix::new(bytes(68), q8, [4, 16]).is_none());
        assert!(StoredMatrix::new(bytes(16), NumberFormat::F32, [2, 2]).is_none());
    }
}
