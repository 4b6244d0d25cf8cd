//! Linear layers fused with bias, activation, scale and residual: one pass over the matrix product.

use super::product::{Matrix, Strides, product_of};
use super::simd::{erf, exp, sigmoid, with_simd};
use super::{plain, slice, tensor};
use crate::operands::Activation;
use burn::tensor::Tensor;
use rayon::prelude::*;

/// Number of rows per task.
const ROWS: usize = 32;

/// Computes `x · weight`, `[n, k]` · `[k, f]`, and a contiguous copy of the bias; `None` unless both are on `flex`.
fn multiplied(
    x: &Tensor<2>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
) -> Option<(Vec<f32>, Option<burn::backend::flex::FlexTensor>)> {
    let ([n, k], [inputs, f]) = (x.dims(), weight.dims());
    if n * k * f == 0 || inputs != k {
        return None;
    }
    let bias = match bias {
        Some(bias) if bias.dims() != [f] => return None,
        Some(bias) => Some(plain(bias)?.to_contiguous()),
        None => None,
    };
    let (x, weight) = (plain(x)?.to_contiguous(), plain(weight)?.to_contiguous());
    let (x, weight) = (Matrix(slice(&x), Strides::row_major(k)), Matrix(slice(&weight), Strides::row_major(f)));
    Some((product_of([n, f, k], x, weight), bias))
}

/// Computes [`super::linear_activation`] on `flex`; `None` for other tensors.
pub fn linear_activation(
    x: &Tensor<2>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    activation: Activation,
) -> Option<Tensor<2>> {
    let ([n, _], [_, f]) = (x.dims(), weight.dims());
    let (mut product, bias) = multiplied(x, weight, bias)?;
    let bias = bias.as_ref().map(slice);
    if activation == Activation::Swiglu {
        let half = f / 2;
        if half == 0 {
            return None;
        }
        let mut out = vec![0f32; n * half];
        out.par_chunks_mut(ROWS * half).zip(product.par_chunks_mut(ROWS * f)).for_each(|(out, rows)| {
            with_simd(
                #[inline(always)]
                || {
                    shifted(rows, f, bias);
                    for (out, row) in out.chunks_exact_mut(half).zip(rows.chunks_exact(f)) {
                        let (gate, up) = row.split_at(half);
                        for ((o, g), u) in out.iter_mut().zip(gate).zip(up) {
                            *o = g * sigmoid(*g) * u;
                        }
                    }
                },
            );
        });
        return Some(tensor(out, [n, half]));
    }
    product.par_chunks_mut(ROWS * f).for_each(|rows| {
        with_simd(
            #[inline(always)]
            || {
                shifted(rows, f, bias);
                activate(rows, activation);
            },
        );
    });
    Some(tensor(product, [n, f]))
}

/// Applies an activation to every element; SwiGLU, which joins two elements, leaves them.
#[inline(always)]
pub(super) fn activate(values: &mut [f32], activation: Activation) {
    match activation {
        Activation::Gelu => each(
            values,
            #[inline(always)]
            |x| 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)),
        ),
        Activation::Silu => each(
            values,
            #[inline(always)]
            |x| x * sigmoid(x),
        ),
        Activation::QuickGelu => each(
            values,
            #[inline(always)]
            |x| x * sigmoid(1.702 * x),
        ),
        Activation::GeluTanh => each(values, gelu_tanh),
        Activation::Swiglu => {}
    }
}

/// Computes `x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`, using (1 + tanh(a)) / 2 = sigmoid(2 a).
#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    const TWICE: f32 = 1.595_769;
    x / (1.0 + exp(-TWICE * (x + 0.044_715 * x * x * x)))
}

#[inline(always)]
fn each(rows: &mut [f32], f: impl Fn(f32) -> f32) {
    for x in rows {
        *x = f(*x);
    }
}

#[inline(always)]
fn shifted(rows: &mut [f32], width: usize, bias: Option<&[f32]>) {
    if let Some(bias) = bias {
        for row in rows.chunks_exact_mut(width) {
            for (x, b) in row.iter_mut().zip(bias) {
                *x += b;
            }
        }
    }
}

/// Computes [`super::residual`] on `flex`; `None` for other tensors.
pub fn residual(
    x: &Tensor<2>,
    branch: &Tensor<2>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    scale: Option<&Tensor<1>>,
) -> Option<Tensor<2>> {
    let [n, f] = x.dims();
    if weight.dims()[1] != f || branch.dims()[0] != n || scale.is_some_and(|s| s.dims() != [f]) {
        return None;
    }
    let stream = plain(x)?.to_contiguous();
    let scale = match scale {
        Some(scale) => Some(plain(scale)?.to_contiguous()),
        None => None,
    };
    let (mut out, bias) = multiplied(branch, weight, bias)?;
    let (bias, scale) = (bias.as_ref().map(slice), scale.as_ref().map(slice));
    out.par_chunks_mut(ROWS * f).zip(slice(&stream).par_chunks(ROWS * f)).for_each(|(out, x)| {
        with_simd(
            #[inline(always)]
            || {
                shifted(out, f, bias);
                match scale {
                    Some(scale) => {
                        for (out, x) in out.chunks_exact_mut(f).zip(x.chunks_exact(f)) {
                            for ((o, x), s) in out.iter_mut().zip(x).zip(scale) {
                                *o = x + *o * s;
                            }
                        }
                    }
                    None => {
                        for (o, x) in out.iter_mut().zip(x) {
                            *o += x;
                        }
                    }
                }
            },
        );
    });
    Some(tensor(out, [n, f]))
}
