//! Activation functions of convolutional and hybrid networks, by timm's names.

use crate::operands::gelu;
use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

/// An activation function, applied to every element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ActivationKind {
    /// max(x, 0).
    #[default]
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
    /// x for positive x, 0.01 x otherwise.
    LeakyRelu,
    /// x for positive x, 0.001 x otherwise (TResNet).
    LeakyReluThousandth,
    /// x for positive x, exp(x) − 1 otherwise.
    Elu,
    /// SiLU (Swish), x·σ(x).
    Silu,
    /// Exact GELU, x·Φ(x).
    Gelu,
    /// The tanh approximation of GELU.
    GeluTanh,
    /// QuickGELU, x·σ(1.702 x).
    QuickGelu,
    /// Mish, x·tanh(ln(1 + exp(x))).
    Mish,
    /// x·min(max(x + 3, 0), 6) / 6.
    HardSwish,
    /// min(max(x + 3, 0), 6) / 6.
    HardSigmoid,
    /// 1 / (1 + exp(−x)).
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// No activation.
    Identity,
}

impl ActivationKind {
    /// The names that timm has for activation functions and their classes.
    pub const TIMM: &[(&str, Self)] = &[
        ("", Self::Identity),
        ("identity", Self::Identity),
        ("Identity", Self::Identity),
        ("relu", Self::Relu),
        ("ReLU", Self::Relu),
        ("relu6", Self::Relu6),
        ("ReLU6", Self::Relu6),
        ("leaky_relu", Self::LeakyRelu),
        ("LeakyReLU", Self::LeakyRelu),
        ("elu", Self::Elu),
        ("ELU", Self::Elu),
        ("silu", Self::Silu),
        ("SiLU", Self::Silu),
        ("swish", Self::Silu),
        ("Swish", Self::Silu),
        ("gelu", Self::Gelu),
        ("GELU", Self::Gelu),
        ("gelu_tanh", Self::GeluTanh),
        ("GELUTanh", Self::GeluTanh),
        ("quick_gelu", Self::QuickGelu),
        ("QuickGELU", Self::QuickGelu),
        ("mish", Self::Mish),
        ("Mish", Self::Mish),
        ("hard_swish", Self::HardSwish),
        ("Hardswish", Self::HardSwish),
        ("HardSwish", Self::HardSwish),
        ("hard_sigmoid", Self::HardSigmoid),
        ("Hardsigmoid", Self::HardSigmoid),
        ("HardSigmoid", Self::HardSigmoid),
        ("sigmoid", Self::Sigmoid),
        ("Sigmoid", Self::Sigmoid),
        ("tanh", Self::Tanh),
        ("Tanh", Self::Tanh),
    ];

    /// Applies the activation to every element.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        let ramp = |x: Tensor<D>| x.add_scalar(3.0).clamp(0.0, 6.0).div_scalar(6.0);
        match self {
            Self::Relu => activation::relu(x),
            Self::Relu6 => x.clamp(0.0, 6.0),
            Self::LeakyRelu => activation::leaky_relu(x, 0.01),
            Self::LeakyReluThousandth => activation::leaky_relu(x, 0.001),
            // The exponential of a large positive x would overflow, although it is not used.
            Self::Elu => activation::relu(x.clone()) + x.clamp_max(0.0).exp().sub_scalar(1.0),
            Self::Silu => activation::silu(x),
            Self::Gelu => gelu(x),
            Self::GeluTanh => activation::gelu_approximate(x),
            Self::QuickGelu => x.clone() * activation::sigmoid(x.mul_scalar(1.702)),
            Self::Mish => activation::mish(x),
            Self::HardSwish => x.clone() * ramp(x),
            Self::HardSigmoid => ramp(x),
            Self::Sigmoid => activation::sigmoid(x),
            Self::Tanh => activation::tanh(x),
            Self::Identity => x,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn values_are_those_of_the_definitions() {
        let device = Device::flex();
        let apply = |kind: ActivationKind, x: f32| {
            let out = kind.forward(Tensor::<1>::from_floats([x], &device)).into_data();
            out.iter::<f32>().next().unwrap_or(f32::NAN)
        };
        let cases = [
            (ActivationKind::Relu6, 7.0, 6.0),
            (ActivationKind::LeakyRelu, -2.0, -0.02),
            (ActivationKind::Elu, -1.0, -0.632_120_55),
            (ActivationKind::Elu, 100.0, 100.0),
            (ActivationKind::Mish, 1.0, 0.865_098_4),
            (ActivationKind::HardSwish, 1.0, 4.0 / 6.0),
            (ActivationKind::HardSigmoid, -4.0, 0.0),
            (ActivationKind::QuickGelu, 1.0, 0.845_795_8),
        ];
        for (kind, x, y) in cases {
            assert!((apply(kind, x) - y).abs() < 1e-6, "{kind:?}({x}) = {}", apply(kind, x));
        }
    }
}
