//! Linear layers outside any graph: several side by side in one output, and few rows without a packed copy of the weight.
//!
//! A matrix product packs its operands first. With the one or few rows of a decoding step that copies the whole weight to
//! use it once; here such rows are carried along while the weight streams through, each column's sum in the order of the
//! inputs, so that a row's numbers do not depend on how many others there are.

use super::{Input, slice, tensor};
use burgess_encoders::kernel::product::{product_of, product_shared};
use burgess_encoders::kernel::wide::{sum2, wide};
use burgess_encoders::kernel::{Matrix, Strides};
use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;

/// The most rows that stream.
const FEW: usize = 24;
/// Columns per task.
const COLUMNS: usize = 256;

fn plain<const D: usize>(tensor: &Tensor<D>) -> Option<FlexTensor> {
    match Input::of(tensor)? {
        Input::Plain(t) => Some(t.to_contiguous()),
        Input::Tracked(_) => None,
    }
}

/// See [`crate::llm::kernel::joined`].
pub fn joined(x: &Tensor<2>, layers: &[(Tensor<2>, Option<Tensor<1>>)]) -> Option<Tensor<2>> {
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

/// `x` `[rows, inputs]` · `weight` `[inputs, columns]` into columns `first..` of `out` `[rows, total]`.
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
            wide(
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

/// See [`crate::llm::kernel::linear_transposed`].
pub fn transposed(x: &Tensor<2>, weight: &Tensor<2>) -> Option<Tensor<2>> {
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
    // Made a column after the other, so that each row of the weight is read once.
    let mut turned = vec![0f32; columns * rows];
    turned.par_chunks_mut(COLUMNS * rows).zip(weight.par_chunks(COLUMNS * inputs)).for_each(|(out, weight)| {
        wide(
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
        return Some(Tensor::from_primitive::<Flex>(tensor(turned, [1, columns])));
    }
    let mut out = vec![0f32; rows * columns];
    out.par_chunks_mut(columns).enumerate().for_each(|(r, out)| {
        for (out, column) in out.iter_mut().zip(turned.chunks_exact(rows)) {
            *out = column[r];
        }
    });
    Some(Tensor::from_primitive::<Flex>(tensor(out, [rows, columns])))
}
