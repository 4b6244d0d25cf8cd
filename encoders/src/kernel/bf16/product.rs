//! The product of bf16 rows and a packed matrix, strip by strip, on all threads.

use super::packed::{Line, PANEL, PackedMatrix};
use super::round;
use super::tile::{LeftTile, TILE_ROWS, tile};
use crate::kernel::simd::with_simd;
use half::bf16;
use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;

/// Size of a block of panels that a task keeps in the second-level cache, in bytes.
const BLOCK_BYTES: usize = 256 * 1024;
/// Size of the rows that tasks share in the third-level cache, in bytes.
const ROWS_BYTES: usize = 4 * 1024 * 1024;
/// Minimum number of tasks per thread, where there is enough work.
const TASKS: usize = 16;

/// The left operand of a product: a matrix `[rows, columns]` of bf16. Each row is padded with zeros.
#[derive(Debug, Clone)]
pub struct Bf16Rows {
    values: Vec<bf16>,
    rows: usize,
    columns: usize,
}

impl Bf16Rows {
    /// Distance of two rows. It is an odd multiple of a cache line, so that rows of a tile do not share cache sets.
    pub(super) fn stride(columns: usize) -> usize {
        columns.next_multiple_of(64) + 32
    }

    /// Rounds contiguous rows of `columns` numbers.
    ///
    /// # Panics
    /// `columns` is 0.
    pub fn new(values: &[f32], columns: usize) -> Self {
        Self::of_columns(values, columns, 0..columns)
    }

    /// Rounds a range of columns of a row-major matrix with rows of `width` numbers.
    ///
    /// # Panics
    /// The range is empty or beyond the width.
    pub fn of_columns(values: &[f32], width: usize, columns: Range<usize>) -> Self {
        assert!(columns.start < columns.end && columns.end <= width, "no columns of the matrix");
        Self::written([values.len() / width, columns.len()], |row, out| {
            with_simd(
                #[inline(always)]
                || round(&values[row * width..][columns.clone()], out),
            );
        })
    }

    /// Builds rows that `write` fills, called with the row's number and its elements.
    pub(super) fn written([rows, columns]: [usize; 2], write: impl Fn(usize, &mut [bf16]) + Sync) -> Self {
        let stride = Self::stride(columns);
        let fill = |output: Output<'_, bf16>| {
            (0..rows.div_ceil(TILE_ROWS)).into_par_iter().for_each(|block| {
                for row in block * TILE_ROWS..((block + 1) * TILE_ROWS).min(rows) {
                    // SAFETY: each row is written by one task.
                    let out = unsafe { output.at(row, 0..stride) };
                    let (values, padding) = out.split_at_mut(columns);
                    write(row, values);
                    padding.fill(bf16::ZERO);
                }
            });
        };
        // SAFETY: all elements of all rows are written.
        Self { values: unsafe { filled([rows, stride], fill) }, rows, columns }
    }

    /// Builds rows whose elements `fill` writes; it gets the rows without their padding.
    ///
    /// # Safety
    /// `fill` writes all elements of all rows.
    pub(super) unsafe fn filled([rows, columns]: [usize; 2], fill: impl FnOnce(Output<'_, bf16>)) -> Self {
        let stride = Self::stride(columns);
        let with_padding = |output: Output<'_, bf16>| {
            for row in 0..rows {
                // SAFETY: no task runs yet, and `fill` gets the columns before.
                unsafe { output.at(row, columns..stride) }.fill(bf16::ZERO);
            }
            fill(output);
        };
        // SAFETY: the padding is written here, the rest by `fill`.
        Self { values: unsafe { filled([rows, stride], with_padding) }, rows, columns }
    }

    /// Number of rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// The rows in f32, row-major, without padding.
    pub fn to_f32(&self) -> Vec<f32> {
        let rows = self.values.chunks_exact(Self::stride(self.columns));
        rows.flat_map(|row| row[..self.columns].iter().map(|x| x.to_f32())).collect()
    }
}

/// Memory of a matrix that tasks write in disjoint parts.
#[derive(Clone, Copy)]
pub(super) struct Output<'a, T> {
    start: *mut T,
    stride: usize,
    rows: usize,
    owner: PhantomData<&'a mut [T]>,
}

// SAFETY: the memory is borrowed exclusively for 'a; `at` requires that no two parts in use overlap.
unsafe impl<T: Send> Send for Output<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Output<'_, T> {}

impl<T: Copy> Output<'_, T> {
    /// Columns of a row.
    ///
    /// # Safety
    /// No other part in use overlaps, and elements are written before they are read.
    #[allow(clippy::mut_from_ref, reason = "the caller guarantees that parts are disjoint")]
    #[inline(always)]
    pub unsafe fn at(&self, row: usize, columns: Range<usize>) -> &mut [T] {
        assert!(row < self.rows && columns.start <= columns.end && columns.end <= self.stride, "beyond the matrix");
        // SAFETY: the range is inside the matrix (asserted) and not used elsewhere (guaranteed by the caller).
        unsafe {
            std::slice::from_raw_parts_mut(
                self.start.add(row * self.stride + columns.start),
                columns.end - columns.start,
            )
        }
    }
}

/// Builds a row-major matrix whose elements `fill` writes, so that its memory is written only once.
///
/// # Safety
/// `fill` writes all elements.
pub(super) unsafe fn filled<T: Copy + Send>([rows, columns]: [usize; 2], fill: impl FnOnce(Output<'_, T>)) -> Vec<T> {
    let mut values: Vec<T> = Vec::with_capacity(rows * columns);
    fill(Output { start: values.as_mut_ptr(), stride: columns, rows, owner: PhantomData });
    // SAFETY: the caller guarantees that all elements were written.
    unsafe { values.set_len(rows * columns) };
    values
}

/// A left operand of a product, `[rows, inputs]`.
pub trait LeftOperand: Sync {
    /// Number of rows and inputs.
    fn shape(&self) -> [usize; 2];

    /// Up to [`TILE_ROWS`] rows from `row` on, which is a multiple of that number.
    fn tile(&self, row: usize) -> LeftTile<'_>;
}

impl LeftOperand for Bf16Rows {
    fn shape(&self) -> [usize; 2] {
        Self::shape(self)
    }

    fn tile(&self, row: usize) -> LeftTile<'_> {
        let stride = Self::stride(self.columns);
        LeftTile::Rows(self.values.get(row * stride..).unwrap_or_default(), stride)
    }
}

/// Computes `a₁ · b₁ + a₂ · b₂ + …` strip by strip (some columns of up to twelve rows) and calls `take(row, columns, sums)`
/// with each row of a strip, from any thread; each element is in exactly one strip. `take` is compiled for this
/// processor's vectors if it is `#[inline(always)]`.
///
/// # Panics
/// Operands do not fit each other.
fn each_row<L: LeftOperand>(terms: &[(&L, &PackedMatrix)], take: impl Fn(usize, &Range<usize>, &mut [f32]) + Sync) {
    let [rows, outputs] = shape_of(terms);
    let panels = outputs.div_ceil(PANEL);
    if rows * panels == 0 {
        return;
    }
    let pairs: usize = terms.iter().map(|(_, b)| b.shape()[0].div_ceil(2)).sum();
    let [tiles, threads] = [rows.div_ceil(TILE_ROWS), rayon::current_num_threads()];
    let most_parts = tiles.div_ceil(4);
    let panel_bytes = 2 * pairs * size_of::<Line>();
    let blocks = panels.div_ceil((BLOCK_BYTES / panel_bytes.max(1)).max(1));
    // With few rows the threads share the columns.
    let blocks = blocks.max((TASKS * threads).div_ceil(most_parts).min(if most_parts == 1 { panels } else { 1 }));
    let per_block = panels.div_ceil(blocks);
    let blocks = panels.div_ceil(per_block);
    let parts = (rows * 2 * pairs * size_of::<bf16>()).div_ceil(ROWS_BYTES);
    let parts = parts.max((TASKS * threads).div_ceil(blocks)).min(most_parts);
    let per_part = tiles.div_ceil(parts) * TILE_ROWS;
    let width = per_block * PANEL;
    (0..parts * blocks).into_par_iter().for_each_init(
        || vec![0f32; TILE_ROWS * width],
        |sums, task| {
            let (block, part) = (task / parts, task % parts);
            let panels = block * per_block..((block + 1) * per_block).min(panels);
            let columns = panels.start * PANEL..(panels.end * PANEL).min(outputs);
            let last = ((part + 1) * per_part).min(rows);
            for row in (part * per_part..last).step_by(TILE_ROWS) {
                let count = TILE_ROWS.min(last - row);
                let sums = &mut sums[..count * width];
                for (i, panel) in panels.clone().enumerate() {
                    for (term, (a, b)) in terms.iter().enumerate() {
                        tile(count, a.tile(row), b.panel(panel), &mut sums[i * PANEL..], width, term > 0);
                    }
                }
                with_simd(
                    #[inline(always)]
                    || {
                        for (i, values) in sums.chunks_mut(width).enumerate() {
                            take(row + i, &columns, &mut values[..columns.len()]);
                        }
                    },
                );
            }
        },
    );
}

/// Shape of a sum of products; without terms it is empty.
///
/// # Panics
/// Operands do not fit each other.
fn shape_of<L: LeftOperand>(terms: &[(&L, &PackedMatrix)]) -> [usize; 2] {
    let shapes = |(a, b): &(&L, &PackedMatrix)| {
        let ([rows, inputs], [right, outputs]) = (a.shape(), b.shape());
        assert_eq!(inputs, right, "the operands have different numbers of inputs");
        [rows, outputs]
    };
    let mut shapes = terms.iter().map(shapes);
    let Some(shape) = shapes.next() else { return [0, 0] };
    assert!(shapes.all(|other| other == shape), "the terms have different shapes");
    shape
}

/// Returns `a · b`, row-major.
///
/// # Panics
/// The numbers of inputs differ.
pub fn product(a: &Bf16Rows, b: &PackedMatrix) -> Vec<f32> {
    product_with(
        a,
        b,
        #[inline(always)]
        |_, _, _| {},
    )
}

/// Returns `a₁ · b₁ + a₂ · b₂ + …`, row-major; nothing without terms.
///
/// # Panics
/// Operands do not fit each other.
pub fn sum_of_products<L: LeftOperand>(terms: &[(&L, &PackedMatrix)]) -> Vec<f32> {
    let shape = shape_of(terms);
    let fill = |output: Output<'_, f32>| {
        each_row(
            terms,
            #[inline(always)]
            |row, columns, values| {
                // SAFETY: each element is in one strip.
                unsafe { output.at(row, columns.clone()) }.copy_from_slice(values);
            },
        );
    };
    // SAFETY: every element is in a strip, and is written.
    unsafe { filled(shape, fill) }
}

/// Returns `a · [b₁ b₂ …]`, row-major, plus a bias for each right operand that has one: the outputs of several layers side
/// by side.
///
/// # Panics
/// The numbers of inputs differ, or a bias is shorter than its output.
pub fn products(a: &Bf16Rows, parts: &[(&PackedMatrix, Option<&[f32]>)]) -> Vec<f32> {
    let total = parts.iter().map(|(b, _)| b.shape()[1]).sum();
    let fill = |output: Output<'_, f32>| {
        let mut first = 0;
        for (b, bias) in parts {
            each_row(
                &[(a, b)],
                #[inline(always)]
                |row, columns, values| {
                    if let Some(bias) = bias {
                        for (x, bias) in values.iter_mut().zip(&bias[columns.clone()]) {
                            *x += bias;
                        }
                    }
                    let columns = first + columns.start..first + columns.end;
                    // SAFETY: each element is in one strip of one part.
                    unsafe { output.at(row, columns) }.copy_from_slice(values);
                },
            );
            first += b.shape()[1];
        }
    };
    // SAFETY: the parts cover all columns, and every element of a part is in a strip.
    unsafe { filled([a.rows, total], fill) }
}

/// Returns `a · b`, row-major, with each row of a strip changed by `finish(row, columns, values)` before it is stored.
pub(super) fn product_with(
    a: &Bf16Rows,
    b: &PackedMatrix,
    finish: impl Fn(usize, &Range<usize>, &mut [f32]) + Sync,
) -> Vec<f32> {
    let fill = |output: Output<'_, f32>| {
        each_row(
            &[(a, b)],
            #[inline(always)]
            |row, columns, values| {
                finish(row, columns, values);
                // SAFETY: each element is in one strip.
                unsafe { output.at(row, columns.clone()) }.copy_from_slice(values);
            },
        );
    };
    // SAFETY: every element is in a strip, and is written.
    unsafe { filled([a.rows, b.shape()[1]], fill) }
}

/// As [`product_with`], but the result is rounded to bf16, for the next product.
pub(super) fn product_to_rows(
    a: &Bf16Rows,
    b: &PackedMatrix,
    finish: impl Fn(usize, &Range<usize>, &mut [f32]) + Sync,
) -> Bf16Rows {
    let fill = |output: Output<'_, bf16>| {
        each_row(
            &[(a, b)],
            #[inline(always)]
            |row, columns, values| {
                finish(row, columns, values);
                // SAFETY: each element is in one strip.
                round(values, unsafe { output.at(row, columns.clone()) });
            },
        );
    };
    // SAFETY: every element is in a strip, and is written.
    unsafe { Bf16Rows::filled([a.rows, b.shape()[1]], fill) }
}

/// Adds `a · b` to a row-major matrix, with each row of a strip changed by `finish(row, columns, values)` before.
///
/// # Panics
/// The numbers of inputs differ, or `into` is shorter than the product.
pub(super) fn add_product(
    into: &mut [f32],
    a: &Bf16Rows,
    b: &PackedMatrix,
    finish: impl Fn(usize, &Range<usize>, &mut [f32]) + Sync,
) {
    let width = b.shape()[1];
    assert!(a.rows * width <= into.len(), "the result is cut too short");
    let output = Output { start: into.as_mut_ptr(), stride: width, rows: a.rows, owner: PhantomData };
    each_row(
        &[(a, b)],
        #[inline(always)]
        |row, columns, values| {
            finish(row, columns, values);
            // SAFETY: each element is in one strip, and `into` holds that many.
            let out = unsafe { output.at(row, columns.clone()) };
            for (out, value) in out.iter_mut().zip(values) {
                *out += *value;
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::super::Bf16Transposed;
    use super::*;
    use crate::kernel::{Matrix, Strides};

    fn numbers(count: usize, salt: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 + salt * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
    }

    fn close(what: &str, a: &[f32], b: &[f64]) {
        assert_eq!(a.len(), b.len(), "{what}");
        let off: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
        let size: f64 = b.iter().map(|b| b * b).sum();
        assert!(off.sqrt() <= 1e-6 * size.sqrt(), "{what}: {} of {}", off.sqrt(), size.sqrt());
    }

    #[test]
    fn products_are_those_of_the_rounded_operands() {
        for [rows, inputs, outputs] in [[1, 1, 1], [13, 7, 33], [40, 64, 96], [27, 130, 200]] {
            let (x, weight) = (numbers(rows * inputs, 1), numbers(inputs * outputs, 2));
            let turned: Vec<f32> = (0..inputs * outputs).map(|i| weight[i % inputs * outputs + i / inputs]).collect();
            let by_input = PackedMatrix::new(Matrix(&weight, Strides::row_major(outputs)), [inputs, outputs]);
            let by_output =
                PackedMatrix::new(Matrix(&turned, Strides::row_major(inputs).transposed()), [inputs, outputs]);
            let a = Bf16Rows::new(&x, inputs);
            let (a_f32, b_f32) = (a.to_f32(), by_input.unpack());
            assert_eq!(b_f32, by_output.unpack());
            assert!(weight.iter().zip(&b_f32).all(|(w, b)| bf16::from_f32(*w).to_f32() == *b));
            let sum = |i: usize, j: usize| {
                let terms = (0..inputs).map(|p| f64::from(a_f32[i * inputs + p]) * f64::from(b_f32[p * outputs + j]));
                terms.sum::<f64>()
            };
            let wanted: Vec<f64> = (0..rows * outputs).map(|at| sum(at / outputs, at % outputs)).collect();
            let found = product(&a, &by_input);
            close(&format!("{rows}x{inputs}x{outputs}"), &found, &wanted);
            let rounded: Vec<f32> = found.iter().map(|x| bf16::from_f32(*x).to_f32()).collect();
            let to_rows = product_to_rows(&a, &by_output, |_, _, _| {});
            assert_eq!(to_rows.to_f32(), rounded);
        }
    }

    #[test]
    fn sums_and_products_side_by_side_are_those_one_by_one() {
        for [rows, inputs, first, second] in [[1, 3, 1, 40], [14, 9, 33, 7], [70, 65, 96, 31]] {
            let (x, weight) = (numbers(rows * inputs, 1), numbers(inputs * (first + second), 2));
            let total = first + second;
            let a = Bf16Rows::new(&x, inputs);
            let of = |from: usize, count: usize| {
                PackedMatrix::new(Matrix(&weight[from..], Strides::row_major(total)), [inputs, count])
            };
            let (left, right, bias) = (of(0, first), of(first, second), numbers(second, 3));
            let whole = product(&a, &of(0, total));
            let found = products(&a, &[(&left, None), (&right, Some(&bias))]);
            for (found, whole) in found.chunks(total).zip(whole.chunks(total)) {
                assert_eq!(found[..first], whole[..first]);
                let with_bias: Vec<f32> = whole[first..].iter().zip(&bias).map(|(x, b)| x + b).collect();
                assert_eq!(found[first..], with_bias);
            }
            // The gradient of the input: a sum over both layers.
            let back = |from: usize, count: usize| {
                PackedMatrix::new(Matrix(&weight[from..], Strides::row_major(total).transposed()), [count, inputs])
            };
            let grads = [(0, first), (first, second)]
                .map(|(from, count)| (Bf16Rows::of_columns(&whole, total, from..from + count), back(from, count)));
            let sum = sum_of_products(&grads.each_ref().map(|(grad, weight)| (grad, weight)));
            let [one, two] = grads.each_ref().map(|(grad, weight)| product(grad, weight));
            let wanted: Vec<f64> = one.iter().zip(&two).map(|(a, b)| f64::from(*a) + f64::from(*b)).collect();
            close(&format!("sum {rows}x{inputs}"), &sum, &wanted);
            // The gradient of a weight: a sum over rows, as that of transposed rows.
            let turned: Vec<f32> = (0..rows * inputs).map(|i| x[i % rows * inputs + i / rows]).collect();
            let grad = PackedMatrix::new(Matrix(&whole, Strides::row_major(total)), [rows, total]);
            let by_rows = product(&Bf16Rows::new(&turned, rows), &grad);
            assert_eq!(sum_of_products(&[(&Bf16Transposed::new(&x, inputs), &grad)]), by_rows);
        }
    }

    #[test]
    fn a_row_has_the_same_bits_alone_and_among_others() {
        let (rows, inputs, outputs) = (31, 66, 70);
        let (x, weight) = (numbers(rows * inputs, 1), numbers(inputs * outputs, 2));
        let b = PackedMatrix::new(Matrix(&weight, Strides::row_major(outputs)), [inputs, outputs]);
        let all = product(&Bf16Rows::new(&x, inputs), &b);
        for (x, wanted) in x.chunks(inputs).zip(all.chunks(outputs)) {
            assert_eq!(product(&Bf16Rows::new(x, inputs), &b), wanted);
        }
    }

    #[test]
    fn values_that_are_not_finite_stay_so() {
        let a = Bf16Rows::new(&[f32::NAN, f32::INFINITY, f32::MAX, f32::from_bits(0x7f80_0001)], 1);
        let found = a.to_f32();
        assert!(found[0].is_nan() && found[1] == f32::INFINITY && found[2] == f32::INFINITY && found[3].is_nan());
    }
}
