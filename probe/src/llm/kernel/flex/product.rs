//! Linear layers: several with one joint output and one graph node, and products of few rows without packing the weight.
//!
//! A joint node needs no copy of the weights side by side, in the forward pass or for their gradients, and computes no
//! gradient of a frozen weight.
//!
//! A general matrix product first packs its operands. With the few rows of a decoding step this copies the whole
//! weight to use it once. Here the weight is streamed once for all such rows, and every column sums in the order of
//! the inputs, so a row's result does not depend on the number of other rows.

use super::{Input, record, slice, tensor};
use burgess_encoders::kernel::product::{product_of, products_of, sum_of_products};
use burgess_encoders::kernel::simd::{sum2, with_simd};
use burgess_encoders::kernel::{Matrix, Strides};
use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Maximum number of rows for which the weight is streamed.
const FEW: usize = 24;
/// Number of columns per task.
const COLUMNS: usize = 256;
/// Number of rows per task of work that goes row by row.
const ROWS: usize = 64;

/// One of the layers of [`fused_linear`].
struct Layer {
    /// Weight, `[inputs, columns]`.
    weight: FlexTensor,
    /// Bias, `[columns]`.
    bias: Option<FlexTensor>,
    /// First column of the layer's output in the joint output.
    first: usize,
    /// Number of outputs.
    columns: usize,
    /// Index of the weight among the inputs of the graph node; that of the bias follows.
    node: usize,
}

/// Fused form of [`crate::llm::kernel::fused_linear`], one node of the autodiff graph; `None` if a tensor is not f32 on
/// this backend or of an unexpected shape, or if there are more than six weights and biases.
pub fn fused_linear(x: &Tensor<2>, layers: &[(Tensor<2>, Option<Tensor<1>>)]) -> Option<Tensor<2>> {
    let [rows, inputs] = x.dims();
    let mut nodes = vec![Input::of(x)?];
    let (mut joint, mut total) = (Vec::with_capacity(layers.len()), 0);
    for (weight, bias) in layers {
        let [k, columns] = weight.dims();
        if k != inputs || columns == 0 || bias.as_ref().is_some_and(|bias| bias.dims() != [columns]) {
            return None;
        }
        let (weight, bias) = (Input::of(weight)?, bias.as_ref().map(|bias| Input::of(bias).ok_or(())));
        let bias = bias.transpose().ok()?;
        let node = nodes.len();
        let values = bias.as_ref().map(Input::values);
        joint.push(Layer { weight: weight.values(), bias: values, first: total, columns, node });
        nodes.push(weight);
        nodes.extend(bias);
        total += columns;
    }
    if rows * inputs * total == 0 {
        return None;
    }
    let size = [rows, inputs, total];
    match nodes.len() {
        2 => joint_layers::<2>(nodes, joint, size),
        3 => joint_layers::<3>(nodes, joint, size),
        4 => joint_layers::<4>(nodes, joint, size),
        5 => joint_layers::<5>(nodes, joint, size),
        6 => joint_layers::<6>(nodes, joint, size),
        7 => joint_layers::<7>(nodes, joint, size),
        _ => None,
    }
}

/// [`fused_linear`] as a graph node with `N` inputs: the input of the layers, then their weights and biases.
fn joint_layers<const N: usize>(
    nodes: Vec<Input>,
    layers: Vec<Layer>,
    [rows, inputs, total]: [usize; 3],
) -> Option<Tensor<2>> {
    let nodes: [Input; N] = nodes.try_into().ok()?;
    let x = nodes.first()?.values();
    let out = tensor(joint_output(slice(&x), &layers, [rows, inputs, total]), [rows, total]);
    // The input is needed only by the gradients of weights, the weights only by that of the input.
    let tracked = nodes.each_ref().map(Input::is_tracked);
    let x = layers.iter().any(|layer| tracked.get(layer.node).copied().unwrap_or(false)).then_some(x);
    Some(record(nodes, out, move || {
        Arc::new(move |grad, wanted: [bool; N]| {
            let of = |layer: &Layer| Matrix(&grad[layer.first..], Strides::row_major(total));
            let mut pulled = [const { None }; N];
            if wanted[0] {
                let terms: Vec<(usize, Matrix<'_>, Matrix<'_>)> = (layers.iter())
                    .map(|l| (l.columns, of(l), Matrix(slice(&l.weight), Strides::row_major(l.columns).transposed())))
                    .collect();
                pulled[0] = Some(tensor(sum_of_products([rows, inputs], &terms), [rows, inputs]));
            }
            for layer in &layers {
                if let (true, Some(x)) = (wanted[layer.node], &x) {
                    let x = Matrix(slice(x), Strides::row_major(inputs).transposed());
                    let weight = product_of([inputs, layer.columns, rows], x, of(layer));
                    pulled[layer.node] = Some(tensor(weight, [inputs, layer.columns]));
                }
                if layer.bias.is_some() && wanted[layer.node + 1] {
                    let sums = column_sums(grad, total, layer.first..layer.first + layer.columns);
                    pulled[layer.node + 1] = Some(tensor(sums, [layer.columns]));
                }
            }
            pulled
        })
    }))
}

/// The outputs of the layers side by side, `[rows, total]`.
fn joint_output(x: &[f32], layers: &[Layer], [rows, inputs, total]: [usize; 3]) -> Vec<f32> {
    let mut out = if rows <= FEW {
        let mut out = vec![0f32; rows * total];
        for l in layers {
            streamed(x, slice(&l.weight), [rows, inputs, l.columns], &mut out, l.first, total);
        }
        out
    } else {
        let parts: Vec<(usize, Matrix<'_>)> =
            (layers.iter()).map(|l| (l.columns, Matrix(slice(&l.weight), Strides::row_major(l.columns)))).collect();
        products_of([rows, inputs], Matrix(x, Strides::row_major(inputs)), &parts)
    };
    if layers.iter().any(|l| l.bias.is_some()) {
        out.par_chunks_mut(total).with_min_len(ROWS).for_each(|row| {
            for l in layers {
                let bias = l.bias.as_ref().map(slice).unwrap_or_default();
                for (x, b) in row[l.first..].iter_mut().zip(bias) {
                    *x += b;
                }
            }
        });
    }
    out
}

/// Sums the rows of a matrix of `total` columns in a range of columns, in blocks of [`ROWS`] rows, so that threads do not
/// change the result.
pub(super) fn column_sums(matrix: &[f32], total: usize, columns: Range<usize>) -> Vec<f32> {
    let blocks: Vec<Vec<f32>> = matrix
        .par_chunks(ROWS * total)
        .map(|block| {
            let mut sums = vec![0f32; columns.len()];
            for row in block.chunks_exact(total) {
                for (s, x) in sums.iter_mut().zip(&row[columns.clone()]) {
                    *s += x;
                }
            }
            sums
        })
        .collect();
    let mut sums = vec![0f32; columns.len()];
    for block in &blocks {
        for (s, x) in sums.iter_mut().zip(block) {
            *s += x;
        }
    }
    sums
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

/// Fused form of [`crate::llm::kernel::linear_transposed`], one node of the autodiff graph; `None` if a tensor is not f32
/// on this backend or of an unexpected shape.
pub fn linear_transposed(x: &Tensor<2>, weight: &Tensor<2>) -> Option<Tensor<2>> {
    let ([rows, inputs], [columns, k]) = (x.dims(), weight.dims());
    let nodes = [Input::of(x)?, Input::of(weight)?];
    if k != inputs || rows * inputs * columns == 0 {
        return None;
    }
    let [x, weight] = nodes.each_ref().map(Input::values);
    let out = tensor(transposed_output(slice(&x), slice(&weight), [rows, inputs, columns]), [rows, columns]);
    let [x_tracked, weight_tracked] = nodes.each_ref().map(Input::is_tracked);
    let (x, weight) = (weight_tracked.then_some(x), x_tracked.then_some(weight));
    Some(record(nodes, out, move || {
        Arc::new(move |grad, [x_wanted, weight_wanted]| {
            let grad = Matrix(grad, Strides::row_major(columns));
            let dx = weight.as_ref().filter(|_| x_wanted).map(|weight| {
                let weight = Matrix(slice(weight), Strides::row_major(inputs));
                tensor(product_of([rows, inputs, columns], grad, weight), [rows, inputs])
            });
            let dw = x.as_ref().filter(|_| weight_wanted).map(|x| {
                let grad = Matrix(grad.0, grad.1.transposed());
                let x = Matrix(slice(x), Strides::row_major(inputs));
                tensor(product_of([columns, inputs, rows], grad, x), [columns, inputs])
            });
            [dx, dw]
        })
    }))
}

/// Writes `x` `[rows, inputs]` · `weight`ᵀ, `weight` being `[columns, inputs]`.
fn transposed_output(x: &[f32], weight: &[f32], [rows, inputs, columns]: [usize; 3]) -> Vec<f32> {
    if rows > FEW {
        let (a, b) = (Matrix(x, Strides::row_major(inputs)), Matrix(weight, Strides::row_major(inputs).transposed()));
        return product_of([rows, columns, inputs], a, b);
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
        return columns_first;
    }
    let mut out = vec![0f32; rows * columns];
    out.par_chunks_mut(columns).enumerate().for_each(|(r, out)| {
        for (out, column) in out.iter_mut().zip(columns_first.chunks_exact(rows)) {
            *out = column[r];
        }
    });
    out
}
