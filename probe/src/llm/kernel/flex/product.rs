//! Linear layers without autodiff: several with one output, and products of few rows without packing the weight.
//!
//! A general matrix product first packs its operands. With the few rows of a decoding step this copies the whole
//! weight to use it once. Here the weight is streamed once for all such rows, and every column sums in the order of
//! the inputs, so a row's result does not depend on the number of other rows.

use super::{Input, slice, tensor};
use burgess_encoders::kernel::product::{product_of, product_shared};
use burgess_encoders::kernel::simd::{sum2, with_simd};
use burgess_encoders::kernel::{Matrix, Strides};
use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

/// Maximum number of rows for which the weight is streamed.
const FEW: usize = 24;
/// Number of columns per task.
const COLUMNS: usize = 256;

/// The contiguous values of a tensor that is not tracked by autodiff; `None` otherwise.
fn plain<const D: usize>(tensor: &Tensor<D>) -> Option<FlexTensor> {
    match Input::of(tensor)? {
        Input::Plain(t) => Some(t.to_contiguous()),
        Input::Tracked(_) => None,
    }
}

/// Fused form of [`crate::llm::kernel::fused_linear`]; `None` if a tensor is tracked, not f32 or of an unexpected
/// shape.
pub fn fused_linear(x: &Tensor<2>, layers: &[(Tensor<2>, Option<Tensor<1>>)]) -> Option<Tensor<2>> {
    let [rows, inputs] = x.dims();
    let x = plain(x)?;
    let mut parts = Vec::with_capacity(layers.len());
    for (weight, bias) in layers {
        let [k, columns] = weight.dims();
        let bias = match bias {
            Some(bias) if bias.dims() != [columns] => return None,
            Some(bias) => Some(plain(bias)?),
            None => None,
        };
        if k != inputs || columns == 0 {
            return None;
        }
        parts.push((plain(weight)?, bias, columns));
    }
    let total: usize = parts.iter().map(|(_, _, columns)| columns).sum();
    if rows * inputs * total == 0 {
        return None;
    }
    let x = slice(&x);
    let mut out = vec![0f32; rows * total];
    let mut first = 0;
    for (weight, bias, columns) in &parts {
        let columns = *columns;
        if rows <= FEW {
            streamed(x, slice(weight), [rows, inputs, columns], &mut out, first, total);
        } else {
            let (a, b) = (Matrix(x, Strides::row_major(inputs)), Matrix(slice(weight), Strides::row_major(columns)));
            product_shared([rows, columns, inputs], &mut out[first..], Strides::row_major(total), a, b);
        }
        if let Some(bias) = bias {
            out.par_chunks_mut(total).for_each(|row| {
                for (x, b) in row[first..first + columns].iter_mut().zip(slice(bias)) {
                    *x += b;
                }
            });
        }
        first += columns;
    }
    Some(Tensor::from_primitive::<Flex>(tensor(out, [rows, total])))
}

/// Streamed product: writes `x` `[rows, inputs]` · `weight` `[inputs, columns]` to columns `first..` of `out`.
fn streamed(
    x: &[f32],
    weight: &[f32],
    [rows, inputs, columns]: [usize; 3],
    out: &mut [f32],
    first: usize,
    total: usize,
) {
    let done: Vec<Vec<f32>> = (0..columns.div_ceil(COLUMNS))
        .into_par_iter()
        .map(|task| {
            let from = task * COLUMNS;
            let width = COLUMNS.min(columns - from);
            let mut sums = vec![0f32; rows * width];
            with_simd(
                #[inline(always)]
                || {
                    let row = |k: usize| &weight[k * columns + from..k * columns + from + width];
                    let fours = inputs / 4 * 4;
                    for k in (0..fours).step_by(4) {
                        let (w0, w1, w2, w3) = (row(k), row(k + 1), row(k + 2), row(k + 3));
                        for (sums, x) in sums.chunks_exact_mut(width).zip(x.chunks_exact(inputs)) {
                            let (x0, x1, x2, x3) = (x[k], x[k + 1], x[k + 2], x[k + 3]);
                            let weights = w0.iter().zip(w1).zip(w2.iter().zip(w3));
                            for (s, ((w0, w1), (w2, w3))) in sums.iter_mut().zip(weights) {
                                *s = *s + x0 * w0 + x1 * w1 + x2 * w2 + x3 * w3;
                            }
                        }
                    }
                    for k in fours..inputs {
                        for (sums, x) in sums.chunks_exact_mut(width).zip(x.chunks_exact(inputs)) {
                            for (s, w) in sums.iter_mut().zip(row(k)) {
                                *s += x[k] * w;
                            }
                        }
                    }
                },
            );
            sums
        })
        .collect();
    for (task, sums) in done.iter().enumerate() {
        let from = task * COLUMNS;
        let width = COLUMNS.min(columns - from);
        for (r, sums) in sums.chunks_exact(width).enumerate() {
            let at = r * total + first + from;
            out[at..at + width].copy_from_slice(sums);
        }
    }
}

/// Fused form of [`crate::llm::kernel::linear_transposed`]; `None` if a tensor is tracked or not f32.
pub fn linear_transposed(x: &Tensor<2>, weight: &Tensor<2>) -> Option<Tensor<2>> {
    let ([rows, inputs], [columns, k]) = (x.dims(), weight.dims());
    let (x, weight) = (plain(x)?, plain(weight)?);
    if k != inputs || rows * inputs * columns == 0 {
        return None;
    }
    let (x, weight) = (slice(&x), slice(&weight));
    if rows > FEW {
        let (a, b) = (Matrix(x, Strides::row_major(inputs)), Matrix(weight, Strides::row_major(inputs).transposed()));
        let out = product_of([rows, columns, inputs], a, b);
        return Some(Tensor::from_primitive::<Flex>(tensor(out, [rows, columns])));
    }
    // Computed column by column, so that each row of the weight is read once.
    let mut columns_first = vec![0f32; columns * rows];
    columns_first.par_chunks_mut(COLUMNS * rows).zip(weight.par_chunks(COLUMNS * inputs)).for_each(|(out, weight)| {
        with_simd(
            #[inline(always)]
            || {
                for (out, w) in out.chunks_exact_mut(rows).zip(weight.chunks_exact(inputs)) {
                    for (out, x) in out.iter_mut().zip(x.chunks_exact(inputs)) {
                        *out = sum2(x, w, |a, b| a * b);
                    }
                }
            },
        );
    });
    if rows == 1 {
        return Some(Tensor::from_primitive::<Flex>(tensor(columns_first, [1, columns])));
    }
    let mut out = vec![0f32; rows * columns];
    out.par_chunks_mut(columns).enumerate().for_each(|(r, out)| {
        for (out, column) in out.iter_mut().zip(columns_first.chunks_exact(rows)) {
            *out = column[r];
        }
    });
    Some(Tensor::from_primitive::<Flex>(tensor(out, [rows, columns])))
}
