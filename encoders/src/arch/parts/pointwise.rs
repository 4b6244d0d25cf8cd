//! Linear maps of the channels at every position, stored as a linear layer or as a 1×1 convolution.

use super::tokens::by_row;
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, module::linear};

/// A linear map of the last axis. Upstream files store it as a matrix or as the weight of a 1×1 convolution.
#[derive(Module, Debug)]
pub enum Pointwise {
    /// Stored as a matrix, `[out, in]`.
    Linear(Linear),
    /// Stored as the weight of a convolution, `[out, in, 1, 1]`.
    Conv(PointwiseConv),
}

/// A 1×1 convolution, computed as a matrix product over the last axis.
#[derive(Module, Debug)]
pub struct PointwiseConv {
    /// Weight, `[out, in, 1, 1]`.
    pub weight: Param<Tensor<4>>,
    /// Bias, `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Pointwise {
    /// Builds a map of `from` to `to` channels with placeholder weights, stored as a matrix.
    pub fn linear(from: usize, to: usize, bias: bool, device: &Device) -> Self {
        Self::Linear(LinearConfig::new(from, to).with_bias(bias).init(device))
    }

    /// Builds a map of `from` to `to` channels with placeholder weights, stored as a 1×1 convolution.
    pub fn conv(from: usize, to: usize, bias: bool, device: &Device) -> Self {
        Self::Conv(PointwiseConv::new(from, to, bias, device))
    }

    /// Maps `[..., from]` to `[..., to]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Linear(layer) => by_row(x, |x| layer.forward(x)),
            Self::Conv(layer) => layer.forward(x),
        }
    }
}

impl PointwiseConv {
    /// Builds a convolution of `from` to `to` channels with placeholder weights.
    pub fn new(from: usize, to: usize, bias: bool, device: &Device) -> Self {
        Self {
            weight: Initializer::Zeros.init([to, from, 1, 1], device),
            bias: bias.then(|| Initializer::Zeros.init([to], device)),
        }
    }

    /// Maps `[..., from]` to `[..., to]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let weight = self.weight.val();
        let [to, from, ..] = weight.dims();
        let weight = weight.reshape([to, from]).transpose();
        by_row(x, |x| linear(x, weight, self.bias.as_ref().map(Param::val)))
    }
}
