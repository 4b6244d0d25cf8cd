//! Convolutions with weight standardisation (Qiao et al. 2019, arXiv:1903.10520): the kernel of every output channel is
//! brought to mean 0 and variance 1 before it is applied.

use super::ConvSpec;
use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

/// What is done to the kernels of a convolution before they are applied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KernelNorm {
    /// Nothing: an ordinary convolution.
    None,
    /// Weight standardisation.
    Standard {
        /// Epsilon added to the variance.
        eps: f64,
    },
    /// Scaled weight standardisation (Brock et al. 2021, arXiv:2101.08692): the standardised kernel is divided by the
    /// square root of its size and multiplied by a trained gain per output channel.
    Scaled {
        /// Epsilon added to the variance.
        eps: f64,
        /// Correction for the activation before the convolution, by which the kernel is multiplied.
        gamma: f64,
    },
}

/// A convolution whose kernels are standardised.
#[derive(Module, Debug)]
pub struct StdConv {
    /// Kernels, `[out, in / groups, rows, columns]`.
    pub weight: Param<Tensor<4>>,
    /// Bias, `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
    /// Gain of scaled weight standardisation, `[out, 1, 1, 1]`.
    pub gain: Option<Param<Tensor<4>>>,
    #[module(skip)]
    spec: ConvSpec,
    #[module(skip)]
    norm: KernelNorm,
}

impl StdConv {
    /// Builds the convolution with placeholder weights; a scaled one has a gain.
    pub fn new(spec: ConvSpec, norm: KernelNorm, device: &Device) -> Self {
        let conv = spec.init(device);
        let ones = Initializer::Constant { value: 1.0 };
        let gain = matches!(norm, KernelNorm::Scaled { .. }).then(|| ones.init([spec.to, 1, 1, 1], device));
        Self { weight: conv.weight, bias: conv.bias, gain, spec, norm }
    }

    /// Convolves `[batch, channels, rows, columns]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.spec.apply(x, self.kernels(), self.bias.as_ref().map(Param::val))
    }

    /// The kernels as they are applied.
    fn kernels(&self) -> Tensor<4> {
        let weight = self.weight.val();
        let shape = weight.dims();
        let size: usize = shape.iter().skip(1).product();
        let standard = |eps: f64| {
            let rows: Tensor<2> = weight.clone().reshape([shape[0], size]);
            let centred = rows.clone() - rows.mean_dim(1);
            let variance = centred.clone().square().mean_dim(1);
            (centred / variance.add_scalar(eps).sqrt()).reshape(shape)
        };
        match (self.norm, &self.gain) {
            (KernelNorm::None, _) => weight,
            (KernelNorm::Standard { eps }, _) | (KernelNorm::Scaled { eps, .. }, None) => standard(eps),
            (KernelNorm::Scaled { eps, gamma }, Some(gain)) => {
                standard(eps) * gain.val().mul_scalar(gamma / (size as f64).sqrt())
            }
        }
    }

    /// Side of the output for a map of `side`.
    pub fn out_side(&self, side: usize) -> usize {
        self.spec.out_side(side)
    }

    /// Multiply-adds for one image whose map has `side` rows and columns.
    pub fn multiply_adds(&self, side: usize) -> u64 {
        self.spec.multiply_adds(side)
    }

    /// Number of output channels.
    pub fn channels(&self) -> usize {
        self.spec.to
    }
}
