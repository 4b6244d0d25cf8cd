//! Products with a matrix that stays in memory as its file stores it: 16-bit floats or quantised blocks.
//!
//! The matrix is `[rows, columns]` as in files: a row holds the weights of one output. Weights of a language model of
//! 7 B parameters take 28 GB as f32 and 4 GB as blocks of 4 bits, so the matrix is never unpacked as a whole: with few
//! rows of inputs (decoding) the quantised values are converted and multiplied in registers as they are read, with many
//! (prompts) a task unpacks a few rows into its own buffer and multiplies them while they are in the cache.

mod activations;
#[allow(clippy::needless_range_loop, reason = "several arrays are indexed by one number, in registers")]
mod few;
mod inputs;
#[allow(unsafe_code, reason = "vector instructions, on arrays of fixed size, behind a check of the processor")]
mod lanes;
mod layout;
#[allow(clippy::needless_range_loop, reason = "several arrays are indexed by one number, in registers")]
mod many;
#[allow(unsafe_code, reason = "tasks write disjoint columns of one matrix")]
mod out;
mod panel;

pub use activations::Activations;

use crate::kernel::product::{self, Matrix, Strides};
use crate::number_format::{self, NumberFormat};
use few::{Few, FewInputs};
use inputs::{Arrange, Floats, Integers, LARGE, Round, SMALL};
use lanes::{Kernel, Lanes, Level};
use layout::{CHUNK, Coding};
use many::{Buffers, Inputs, Many};
use out::Columns;
use panel::{WIDTH, convert};
use rayon::prelude::*;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Largest batch (rows of `x`) for which weights are converted in registers, with f32 activations.
const FEW: usize = 24;
/// Largest batch (rows of `x`) for which weights are converted in registers, with integer activations.
const FEW_INTEGERS: usize = 16;
/// Rows that are unpacked at a time for products with the transposed matrix.
const TRANSPOSED_ROWS: usize = 256;

/// A range of bytes of a mapped file (or of other memory), shared by all its users.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Arc<dyn AsRef<[u8]> + Send + Sync>,
    range: Range<usize>,
}

impl SharedBytes {
    /// Shares a range of `owner`; `None` if `range` ends after the last byte of `owner`.
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
    /// Rotary layout with interleaved channels: in each head of `width` rows (the value), row `2 i` of the file is
    /// output `i`, and row `2 i + 1` is output `i + width / 2`, so that the outputs have the layout of `rotate_half`.
    InterleavedHeads(usize),
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
        let (elements, size) = format.unit();
        let supported = matches!(format, NumberFormat::F16 | NumberFormat::Bf16 | NumberFormat::Block(_));
        let whole = columns.is_multiple_of(elements) && rows > 0 && columns > 0;
        let wanted = (columns / elements).checked_mul(size)?.checked_mul(rows)?;
        (supported && whole && bytes.get().len() == wanted).then_some(Self {
            bytes,
            format,
            rows,
            columns,
            order: RowOrder::Outputs,
        })
    }

    /// Declares the order in which the file stores the rows; `None` if they are not whole heads of an even width.
    pub fn with_row_order(mut self, order: RowOrder) -> Option<Self> {
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

    /// Whether all values are finite. Only their exponents, or those of the scales of blocks, are read.
    pub(crate) fn is_finite(&self) -> bool {
        number_format::is_finite(self.format, self.bytes.get())
    }

    /// The rows in the order of the outputs.
    fn stored_rows(&self) -> StoredRows<'_> {
        let (elements, size) = self.format.unit();
        StoredRows { bytes: self.bytes.get(), size: self.columns / elements * size, order: self.order }
    }

    /// The bytes of the row of an output; empty beyond the last row.
    fn row_bytes(&self, output: usize) -> &[u8] {
        self.stored_rows().get(output)
    }

    /// Size in bytes of 256 weights of a row.
    fn chunk_size(&self) -> usize {
        let (elements, size) = self.format.unit();
        CHUNK / elements * size
    }

    /// Unpacks the weights of one output into `out`, `[columns]`. Does nothing if there is no such row or `out` has
    /// another length.
    pub fn unpack_row(&self, output: usize, out: &mut [f32]) {
        if output < self.rows && out.len() == self.columns {
            Level::best().run(Unpack { format: self.format, bytes: self.row_bytes(output), out });
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

    /// Computes `x · matrixᵀ`, `[n, columns]` → `[n, rows]`, with activations in the given precision.
    ///
    /// # Panics
    /// `x` is not `[n, columns]`.
    pub fn product_with(&self, x: &[f32], activations: Activations) -> Vec<f32> {
        products(x, &[(self, activations)])
    }

    /// Prepares `x`, `[n, columns]`, for the kernel for small batches; `None` if `n` is above its limit.
    fn few_inputs(&self, level: Level, x: &[f32], activations: Activations) -> Option<FewInputs> {
        let (n, columns) = (x.len() / self.columns, self.columns);
        match (activations, self.format) {
            (Activations::Int8, NumberFormat::Block(block)) => (n <= FEW_INTEGERS)
                .then(|| FewInputs::Bytes(level.run(Round { x, columns, planes: 1, coding: Coding::of(block) }))),
            (Activations::Int16, NumberFormat::Block(block)) => (n <= FEW_INTEGERS)
                .then(|| FewInputs::Words(level.run(Round { x, columns, planes: 2, coding: Coding::of(block) }))),
            (_, NumberFormat::Block(block)) => (n <= FEW)
                .then(|| FewInputs::Floats(level.run(Arrange { x, columns, coding: Some(Coding::of(block)) }))),
            _ => (n <= FEW).then(|| FewInputs::Floats(level.run(Arrange { x, columns, coding: None }))),
        }
    }

    /// Computes the product for a batch that is too large for [`Self::few_inputs`].
    fn many(&self, level: Level, x: &[f32], activations: Activations, out: Columns<'_>) {
        let n = x.len() / self.columns;
        let large = if level.has_many_registers() { LARGE } else { SMALL };
        let inputs = match (activations, self.format) {
            (Activations::Int8, NumberFormat::Block(_)) => {
                Inputs::Bytes(Integers::new(x, self.columns, 1, self.group(), large))
            }
            (Activations::Int16, NumberFormat::Block(_)) => {
                Inputs::Words(Integers::new(x, self.columns, 2, self.group(), large))
            }
            _ => Inputs::Floats(Floats::new(x, self.columns, large)),
        };
        let tasks = out.split(widths(self.rows)).into_par_iter().enumerate();
        tasks.for_each_init(
            || Buffers::new(n),
            |buffers, (task, out)| {
                level.run(Many { matrix: self, inputs: &inputs, n, first: task * WIDTH, out, buffers });
            },
        );
    }

    /// Number of weights that share a scale; 32 for 16-bit floats, which have none (not used).
    fn group(&self) -> usize {
        match self.format {
            NumberFormat::Block(block) => block.group(),
            _ => 32,
        }
    }

    /// Computes `y · matrix`, `[n, rows]` → `[n, columns]`, in f32: the gradient of [`StoredMatrix::product`] with
    /// respect to its input.
    ///
    /// # Panics
    /// `y` is not `[n, rows]`.
    pub fn product_transposed(&self, y: &[f32]) -> Vec<f32> {
        let (length, rows) = (y.len(), self.rows);
        assert!(length.is_multiple_of(rows), "y has {length} values, not a multiple of the matrix's {rows} rows");
        let n = y.len() / self.rows;
        let mut out = vec![0f32; n * self.columns];
        if n == 0 {
            return out;
        }
        let level = Level::best();
        // A task computes some columns of the output and unpacks `TRANSPOSED_ROWS` rows of the matrix at a time.
        let chunks = if self.columns >= 4 * CHUNK * rayon::current_num_threads() { 2 } else { 1 };
        let width = chunks * CHUNK;
        let out_columns = Columns::new(&mut out, n, self.columns, 0..self.columns);
        let parts = out_columns.split(vec![width; self.columns.div_ceil(width)]);
        let tasks = parts.into_par_iter().enumerate();
        tasks.for_each_init(
            || (vec![0f32; width * TRANSPOSED_ROWS], vec![0f32; width * n]),
            |(unpacked, sums), (task, mut out)| {
                let width = width.min(self.columns - task * width);
                let sums = &mut sums[..n * width];
                for first in (0..self.rows).step_by(TRANSPOSED_ROWS) {
                    let count = TRANSPOSED_ROWS.min(self.rows - first);
                    let unpacked = &mut unpacked[..count * width];
                    for (i, row) in unpacked.chunks_exact_mut(width).enumerate() {
                        let bytes = self.row_bytes(first + i);
                        for (chunk, out) in row.chunks_mut(CHUNK).enumerate() {
                            let bytes = part(bytes, self.chunk_size(), task * chunks + chunk);
                            level.run(Unpack { format: self.format, bytes, out });
                        }
                    }
                    let (y, strides) = (&y[first..], Strides::row_major(width));
                    let (y, unpacked) = (Matrix(y, Strides::row_major(self.rows)), Matrix(&*unpacked, strides));
                    product::product([n, width, count], sums, strides, y, unpacked, first > 0);
                }
                for (i, sums) in sums.chunks_exact(width).enumerate() {
                    out.row(i).copy_from_slice(sums);
                }
            },
        );
        out
    }
}

/// Computes the products of the same inputs `x`, `[n, columns]`, with several matrices, and writes the outputs side by
/// side: `[n, all rows]`. All matrices must have the same number of columns.
///
/// Few rows of inputs, as in decoding, are multiplied with all matrices in one parallel pass.
///
/// # Panics
/// The matrices differ in their number of columns, or `x` is not `[n, columns]`.
pub fn products(x: &[f32], matrices: &[(&StoredMatrix, Activations)]) -> Vec<f32> {
    let Some((first, _)) = matrices.first() else { return Vec::new() };
    let (n, total) = (x.len() / first.columns, matrices.iter().map(|(matrix, _)| matrix.rows).sum());
    let mut out = vec![0f32; n * total];
    products_at(Level::best(), x, matrices, Columns::new(&mut out, n, total, 0..total));
    out
}

fn products_at(level: Level, x: &[f32], matrices: &[(&StoredMatrix, Activations)], out: Columns<'_>) {
    let columns = matrices.first().map_or(1, |(matrix, _)| matrix.columns);
    let length = x.len();
    assert!(length.is_multiple_of(columns), "x has {length} values, not a multiple of the matrix's {columns} columns");
    let n = x.len() / columns;
    let parts = out.split(matrices.iter().map(|(matrix, _)| matrix.rows));
    let mut inputs: Vec<(NumberFormat, Activations, FewInputs)> = Vec::new();
    let mut few = Vec::new();
    for (&(matrix, activations), out) in matrices.iter().zip(parts) {
        assert!(matrix.columns == columns, "a matrix has {} columns, the inputs {columns}", matrix.columns);
        let known =
            inputs.iter().position(|(format, precision, _)| (*format, *precision) == (matrix.format, activations));
        if let Some(index) = known {
            few.push((matrix, index, out));
        } else if let Some(made) = matrix.few_inputs(level, x, activations) {
            inputs.push((matrix.format, activations, made));
            few.push((matrix, inputs.len() - 1, out));
        } else {
            matrix.many(level, x, activations, out);
        }
    }
    let tasks = few.into_iter().flat_map(|(matrix, index, out)| {
        let (inputs, parts) = (&inputs[index].2, out.split(widths(matrix.rows)));
        parts.into_iter().enumerate().map(move |(task, out)| Few { matrix, n, inputs, first: task * WIDTH, out })
    });
    tasks.collect::<Vec<_>>().into_par_iter().for_each(|few| few.run(level));
}

/// Divides rows of a matrix into those of the tasks.
fn widths(rows: usize) -> impl Iterator<Item = usize> {
    (0..rows).step_by(WIDTH).map(move |first| WIDTH.min(rows - first))
}

/// The rows of a matrix in the order of its outputs, to be read one by one.
#[derive(Clone, Copy)]
struct StoredRows<'a> {
    bytes: &'a [u8],
    size: usize,
    order: RowOrder,
}

impl<'a> StoredRows<'a> {
    /// The bytes of the row of an output; empty beyond the last row.
    #[inline(always)]
    fn get(self, output: usize) -> &'a [u8] {
        let row = match self.order {
            RowOrder::Outputs => output,
            RowOrder::InterleavedHeads(width) => {
                let (head, i) = (output / width, output % width);
                let half = width / 2;
                head * width + if i < half { 2 * i } else { 2 * (i - half) + 1 }
            }
        };
        self.bytes.get(row * self.size..(row + 1) * self.size).unwrap_or_default()
    }
}

/// The `index`th part of `size` bytes; the last one may be shorter, those beyond it are empty.
#[inline(always)]
fn part(bytes: &[u8], size: usize, index: usize) -> &[u8] {
    let from = (index * size).min(bytes.len());
    &bytes[from..(from + size).min(bytes.len())]
}

/// Unpacks whole elements or blocks.
struct Unpack<'a> {
    format: NumberFormat,
    bytes: &'a [u8],
    out: &'a mut [f32],
}

impl Kernel for Unpack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        convert(lanes, self.format, self.bytes, self.out);
    }
}

#[cfg(test)]
mod tests;
