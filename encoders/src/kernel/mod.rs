//! Fused CPU operations of a transformer block, other than matrix products, in one pass over memory each.
//!
//! As separate tensor operations, a bias, an activation and a residual each read and write every element once more, and
//! attention first copies queries, keys and values into another order; at batch 8 that is a third to a half of a vision
//! transformer's time on `flex`. The functions here choose by their tensors: f32 tensors on `flex` that are not
//! differentiated take the fused path, all others the ordinary operations, so that callers need not distinguish.
//! [`simd`] and [`product`] are the building blocks of these loops and of the language model's.

mod attention;
pub mod bf16;
#[allow(unsafe_code, reason = "calls SIMD kernels on slices whose lengths are checked before")]
pub mod product;
mod rows;
#[allow(unsafe_code, reason = "calls SIMD kernels on slices whose lengths are checked before")]
pub mod simd;
pub mod stored;

pub(crate) use attention::attention;
pub use product::{Matrix, Strides};

use crate::operands::{Activation, Bias, Rotation};
use burn::backend::Flex;
use burn::backend::flex::{FlexTensor, Layout};
use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Bytes, DType, Shape, Tensor};
use std::sync::Arc;

/// The tensor as `flex` stores it; `None` unless it is an f32 tensor of that backend outside any autodiff graph.
fn plain<const D: usize>(tensor: &Tensor<D>) -> Option<FlexTensor> {
    (tensor.dtype() == DType::F32).then(|| tensor.clone().try_into_primitive::<Flex>().ok()).flatten()
}

/// The elements of a contiguous f32 tensor.
fn slice(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().unwrap_or_default()
}

/// Builds a tensor on `flex` from row-major values.
fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    let inner = FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(Shape::new(shape)), DType::F32);
    Tensor::from_primitive::<Flex>(inner)
}

/// The parameters of a norm over the last axis.
pub(crate) struct NormParameters {
    /// Scale per channel.
    pub weight: Tensor<1>,
    /// Shift per channel.
    pub bias: Option<Tensor<1>>,
    /// Added to the variance, or to the mean square.
    pub epsilon: f64,
    /// Whether the mean is subtracted (layer norm), or not (RMS norm).
    pub centred: bool,
}

/// The input of a linear layer, `[rows, inputs]`.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "made once for each layer and handed on")]
pub(crate) enum Operand {
    /// A tensor.
    Tensor(Tensor<2>),
    /// Rows that are already rounded to bf16, for a layer with a packed weight.
    Rows(Arc<bf16::Bf16Rows>),
}

impl From<Tensor<2>> for Operand {
    fn from(x: Tensor<2>) -> Self {
        Self::Tensor(x)
    }
}

impl Operand {
    /// The operand as a tensor.
    pub fn tensor(self) -> Tensor<2> {
        match self {
            Self::Tensor(x) => x,
            Self::Rows(rows) => tensor(rows.to_f32(), rows.shape()),
        }
    }
}

/// Whether products with this layer's weight are computed in bf16.
fn is_packed(layer: &Linear) -> bool {
    bf16::weight_of(layer).is_some()
}

/// Normalises `x`, the input of `layer`, by the parameters or, if that is not possible here, by `otherwise`.
pub(crate) fn normed(
    x: Tensor<2>,
    layer: &Linear,
    parameters: Option<NormParameters>,
    otherwise: impl FnOnce(Tensor<2>) -> Tensor<2>,
) -> Operand {
    let rows = parameters.filter(|_| is_packed(layer)).and_then(|parameters| bf16::norm(&x, &parameters));
    match rows {
        Some(rows) => Operand::Rows(Arc::new(rows)),
        None => Operand::Tensor(otherwise(x)),
    }
}

/// Computes `layer(x)`, `[rows, in]` to `[rows, out]`.
pub(crate) fn linear(x: impl Into<Operand>, layer: &Linear) -> Tensor<2> {
    let x = x.into();
    bf16::linear(&x, layer).unwrap_or_else(|| layer.forward(x.tensor()))
}

/// Computes [`crate::attention::attend`] as the input of `layer`.
pub(crate) fn attention_for(
    layer: &Linear,
    [q, k, v]: [Tensor<4>; 3],
    bias: Bias,
    rotation: Option<&Rotation>,
) -> Operand {
    if is_packed(layer)
        && let Some(rows) = bf16::attention(&q, &k, &v, &bias, rotation)
    {
        return Operand::Rows(Arc::new(rows));
    }
    let mixed = crate::attention::attend(q, k, v, bias, rotation);
    let [batch, queries, width] = mixed.dims();
    Operand::Tensor(mixed.reshape([batch * queries, width]))
}

/// Computes `activation(layer(x))`, `[rows, in]` to `[rows, out]`, or to `[rows, out / 2]` for a gated activation.
pub(crate) fn linear_activation(x: impl Into<Operand>, layer: &Linear, activation: Activation) -> Tensor<2> {
    let x = x.into();
    if let Some(out) = bf16::linear_activation(&x, layer, activation, false) {
        return out.tensor();
    }
    let x = x.tensor();
    let (weight, bias) = (layer.weight.val(), layer.bias.as_ref().map(Param::val));
    rows::linear_activation(&x, &weight, bias.as_ref(), activation)
        .unwrap_or_else(|| activation.forward(layer.forward(x)))
}

/// Computes [`linear_activation`] as the input of the layer `next`.
pub(crate) fn linear_activation_for(next: &Linear, x: Operand, layer: &Linear, activation: Activation) -> Operand {
    let packed = is_packed(next).then(|| bf16::linear_activation(&x, layer, activation, true)).flatten();
    packed.unwrap_or_else(|| Operand::Tensor(linear_activation(x, layer, activation)))
}

/// Computes `x + scale · layer(branch)`, `[rows, out]`; `branch` is `[rows, in]`, `scale` is `[out]`.
pub(crate) fn residual(
    x: Tensor<2>,
    branch: impl Into<Operand>,
    layer: &Linear,
    scale: Option<Tensor<1>>,
) -> Tensor<2> {
    let branch = branch.into();
    let x = match bf16::residual(x, &branch, layer, scale.as_ref()) {
        Ok(sum) => return sum,
        Err(x) => x,
    };
    let branch = branch.tensor();
    let (weight, bias) = (layer.weight.val(), layer.bias.as_ref().map(Param::val));
    rows::residual(&x, &branch, &weight, bias.as_ref(), scale.as_ref())
        .unwrap_or_else(|| x + scaled(layer.forward(branch), scale))
}

/// Multiplies a branch by its layer scale, if there is one.
pub(crate) fn scaled(branch: Tensor<2>, scale: Option<Tensor<1>>) -> Tensor<2> {
    match scale {
        Some(scale) => branch * scale.unsqueeze(),
        None => branch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn::tensor::{Device, TensorData};

    pub(super) fn numbers<const D: usize>(shape: [usize; D], salt: usize, device: &Device) -> Tensor<D> {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| ((i * 7919 + salt * 104_729) % 1009) as f32 / 504.5 - 1.0).collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    pub(super) fn close<const D: usize>(what: &str, a: Tensor<D>, b: Tensor<D>) {
        assert_eq!(a.dims(), b.dims(), "{what}");
        let (a, b) = (a.into_data(), b.into_data());
        let (mut off, mut size) = (0f64, 0f64);
        for (a, b) in a.iter::<f32>().zip(b.iter::<f32>()) {
            off += f64::from(a - b).powi(2);
            size += f64::from(b).powi(2);
        }
        assert!(off.sqrt() <= 2e-6 * size.sqrt(), "{what}: {} of {}", off.sqrt(), size.sqrt());
    }

    fn layer(inputs: usize, outputs: usize, bias: bool, device: &Device) -> Linear {
        let mut layer = LinearConfig::new(inputs, outputs).with_bias(bias).init(device);
        layer.weight = Param::from_tensor(numbers([inputs, outputs], 5, device));
        layer.bias = bias.then(|| Param::from_tensor(numbers([outputs], 6, device)));
        layer
    }

    #[test]
    fn layers_with_activations_are_the_ordinary_ones() {
        let device = Device::flex();
        let all = [Activation::Gelu, Activation::Silu, Activation::QuickGelu, Activation::GeluTanh, Activation::Swiglu];
        for activation in all {
            for (n, k, f) in [(1, 3, 2), (70, 12, 34)] {
                for bias in [false, true] {
                    let (x, layer) = (numbers([n, k], 1, &device).mul_scalar(2.0), layer(k, f, bias, &device));
                    let plain = activation.forward(layer.forward(x.clone()));
                    let fused = rows::linear_activation(
                        &x,
                        &layer.weight.val(),
                        layer.bias.as_ref().map(Param::val).as_ref(),
                        activation,
                    );
                    close(&format!("{activation:?} {n} {bias}"), fused.unwrap(), plain);
                }
            }
        }
    }

    #[test]
    fn residuals_are_the_ordinary_ones() {
        let device = Device::flex();
        for (n, k, f) in [(1, 2, 3), (70, 12, 34)] {
            for (bias, scaled) in [(false, false), (true, false), (true, true)] {
                let (x, branch) = (numbers([n, f], 1, &device), numbers([n, k], 2, &device));
                let (layer, scale) = (layer(k, f, bias, &device), scaled.then(|| numbers([f], 3, &device)));
                let plain = layer.forward(branch.clone());
                let plain = x.clone() + scale.clone().map_or(plain.clone(), |s| plain * s.unsqueeze());
                close("residual", residual(x, branch, &layer, scale), plain);
            }
        }
    }

    #[test]
    fn what_is_differentiated_takes_the_ordinary_way() {
        let device = Device::flex().autodiff();
        let x = numbers([4, 3], 1, &device).require_grad();
        let layer = layer(3, 5, true, &device);
        assert!(plain(&x).is_none());
        let gradients = linear_activation(x.clone(), &layer, Activation::Gelu).sum().backward();
        assert!(x.grad(&gradients).is_some());
    }
}
