//! Layers of a transformer block in bf16: products with packed weights, fused with what stands before and behind them.

use super::product::{add_product, product_to_rows, product_with};
use super::{Bf16Rows, PackedMatrix, PackedWeight, rounded};
use crate::kernel::rows::activate;
use crate::kernel::simd::{sigmoid, sum2, with_simd};
use crate::kernel::{NormParameters, Operand, plain, slice, tensor};
use crate::operands::Activation;
use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::Tensor;
use std::ops::Range;
use std::sync::Arc;

/// The packed weight of a layer, if it has one.
pub fn weight_of(layer: &Linear) -> Option<&PackedMatrix> {
    PackedWeight::of(&layer.weight)
}

/// A vector of a layer, contiguous; `None` if it is not plain or has not `width` elements.
fn vector(values: &Tensor<1>, width: usize) -> Option<FlexTensor> {
    (values.dims() == [width]).then(|| plain(values)).flatten().map(|values| values.to_contiguous())
}

/// The bias of a layer. The outer `None` says that it cannot be read here.
#[expect(clippy::option_option, reason = "a layer without a bias is not a layer whose bias is elsewhere")]
fn bias(layer: &Linear, width: usize) -> Option<Option<FlexTensor>> {
    match layer.bias.as_ref().map(Param::val) {
        Some(bias) => vector(&bias, width).map(Some),
        None => Some(None),
    }
}

/// The rows of an operand with `inputs` columns, rounded to bf16.
fn rows(x: &Operand, inputs: usize) -> Option<Arc<Bf16Rows>> {
    let rows = match x {
        Operand::Rows(rows) => Arc::clone(rows),
        Operand::Tensor(x) => {
            let [_, width] = x.dims();
            let x = plain(x)?.to_contiguous();
            (width == inputs && width > 0).then(|| Arc::new(Bf16Rows::new(slice(&x), width)))?
        }
    };
    (rows.shape()[1] == inputs && inputs > 0).then_some(rows)
}

/// Adds the part of the bias that belongs to these columns.
#[inline(always)]
fn add(values: &mut [f32], bias: Option<&[f32]>, columns: &Range<usize>) {
    if let Some(bias) = bias.and_then(|bias| bias.get(columns.clone())) {
        for (x, b) in values.iter_mut().zip(bias) {
            *x += b;
        }
    }
}

/// Computes `layer(x)`, `[rows, outputs]`; `None` if the layer has no packed weight or a tensor is not plain.
pub fn linear(x: &Operand, layer: &Linear) -> Option<Tensor<2>> {
    let weight = weight_of(layer)?;
    let [inputs, outputs] = weight.shape();
    let (rows, bias) = (rows(x, inputs)?, bias(layer, outputs)?);
    let bias = bias.as_ref().map(slice);
    let out = product_with(
        &rows,
        weight,
        #[inline(always)]
        |_, columns, values| add(values, bias, columns),
    );
    Some(tensor(out, [rows.shape()[0], outputs]))
}

/// Computes `activation(layer(x))`, as rows of bf16 for the layer behind if `to_rows`; `None` as in [`linear`].
pub fn linear_activation(x: &Operand, layer: &Linear, activation: Activation, to_rows: bool) -> Option<Operand> {
    let weight = weight_of(layer)?;
    let [inputs, outputs] = weight.shape();
    let (rows, bias) = (rows(x, inputs)?, bias(layer, outputs)?);
    let bias = bias.as_ref().map(slice);
    if activation == Activation::Swiglu {
        return gated(&rows, weight, bias, to_rows);
    }
    #[inline(always)]
    fn finish<'a>(
        bias: Option<&'a [f32]>,
        activation: Activation,
    ) -> impl Fn(usize, &Range<usize>, &mut [f32]) + Sync + 'a {
        #[inline(always)]
        move |_, columns, values| {
            add(values, bias, columns);
            activate(values, activation);
        }
    }
    Some(if to_rows {
        Operand::Rows(Arc::new(product_to_rows(&rows, weight, finish(bias, activation))))
    } else {
        let out = product_with(&rows, weight, finish(bias, activation));
        Operand::Tensor(tensor(out, [rows.shape()[0], outputs]))
    })
}

/// Computes `SiLU(first half) · second half` of the outputs of a layer.
fn gated(rows: &Bf16Rows, weight: &PackedMatrix, bias: Option<&[f32]>, to_rows: bool) -> Option<Operand> {
    let ([count, _], [_, outputs]) = (rows.shape(), weight.shape());
    let half = outputs / 2;
    if half == 0 || outputs % 2 == 1 {
        return None;
    }
    let out = product_with(
        rows,
        weight,
        #[inline(always)]
        |_, columns, values| add(values, bias, columns),
    );
    let gate = |row: usize| {
        let (gate, up) = out[row * outputs..][..outputs].split_at(half);
        gate.iter().zip(up).map(
            #[inline(always)]
            |(gate, up)| gate * sigmoid(*gate) * up,
        )
    };
    Some(if to_rows {
        Operand::Rows(Arc::new(Bf16Rows::written([count, half], |row, to| {
            with_simd(
                #[inline(always)]
                || {
                    for (to, x) in to.iter_mut().zip(gate(row)) {
                        *to = rounded(x);
                    }
                },
            );
        })))
    } else {
        Operand::Tensor(tensor((0..count).flat_map(gate).collect(), [count, half]))
    })
}

/// Computes `x + scale · layer(branch)`, in place if `x` is used nowhere else; returns `x` back if that is not
/// possible here, as in [`linear`].
#[allow(clippy::result_large_err, reason = "the error is the tensor that was handed in")]
pub fn residual(
    x: Tensor<2>,
    branch: &Operand,
    layer: &Linear,
    scale: Option<&Tensor<1>>,
) -> Result<Tensor<2>, Tensor<2>> {
    let shape = x.dims();
    let [count, width] = shape;
    let Some(weight) = weight_of(layer).filter(|weight| weight.shape()[1] == width) else { return Err(x) };
    let scale = match scale {
        Some(scale) => match vector(scale, width) {
            Some(scale) => Some(scale),
            None => return Err(x),
        },
        None => None,
    };
    let (Some(rows), Some(bias)) = (rows(branch, weight.shape()[0]), bias(layer, width)) else { return Err(x) };
    if rows.shape()[0] != count || plain(&x).is_none() {
        return Err(x);
    }
    let Ok(stream) = x.clone().try_into_primitive::<Flex>() else { return Err(x) };
    drop(x);
    let (bias, scale) = (bias.as_ref().map(slice), scale.as_ref().map(slice));
    let mut stream = stream.to_contiguous();
    let Some(range) = stream.layout().contiguous_offsets() else { return Err(Tensor::from_primitive::<Flex>(stream)) };
    // Copies the values first if another tensor shares them.
    let values = &mut stream.storage_mut::<f32>()[range.0..range.1];
    add_product(
        values,
        &rows,
        weight,
        #[inline(always)]
        |_, columns, values| {
            add(values, bias, columns);
            if let Some(scale) = scale.and_then(|scale| scale.get(columns.clone())) {
                for (x, scale) in values.iter_mut().zip(scale) {
                    *x *= scale;
                }
            }
        },
    );
    Ok(Tensor::from_primitive::<Flex>(stream))
}

/// Normalises the rows of `x` and rounds them to bf16; `None` if a tensor is not plain.
pub fn norm(x: &Tensor<2>, norm: &NormParameters) -> Option<Bf16Rows> {
    let [count, width] = x.dims();
    if count * width == 0 {
        return None;
    }
    let x = plain(x)?.to_contiguous();
    let weight = vector(&norm.weight, width)?;
    let bias = match &norm.bias {
        Some(bias) => Some(vector(bias, width)?),
        None => None,
    };
    let (x, weight, bias) = (slice(&x), slice(&weight), bias.as_ref().map(slice));
    let epsilon = norm.epsilon as f32;
    let centred = norm.centred;
    Some(Bf16Rows::written([count, width], |row, to| {
        let x = &x[row * width..][..width];
        with_simd(
            #[inline(always)]
            || {
                let mean = if centred { sum2(x, x, |x, _| x) / width as f32 } else { 0.0 };
                let variance = sum2(x, x, |x, _| (x - mean) * (x - mean)) / width as f32;
                let scale = 1.0 / (variance + epsilon).sqrt();
                match bias {
                    Some(bias) => {
                        for (((to, x), weight), bias) in to.iter_mut().zip(x).zip(weight).zip(bias) {
                            *to = rounded((x - mean) * scale * weight + bias);
                        }
                    }
                    None => {
                        for ((to, x), weight) in to.iter_mut().zip(x).zip(weight) {
                            *to = rounded((x - mean) * scale * weight);
                        }
                    }
                }
            },
        );
    }))
}
