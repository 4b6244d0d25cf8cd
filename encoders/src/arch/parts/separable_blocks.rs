//! Small residual layers that EfficientViT (Microsoft) and SHViT share, for convolutions of either naming.

use super::{ActivationKind, CBn, ConvBn, SqueezeExcite, Trace, divisible_within};
use burn::module::{Module, ModuleDisplay};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

/// A convolution with a norm, whatever the names of its parameters.
pub trait NormedLayer: Module + ModuleDisplay {
    /// Maps `[batch, in, rows, columns]` to `[batch, out, rows, columns]`.
    fn apply(&self, x: Tensor<4>) -> Tensor<4>;

    /// Follows shape and cost.
    fn follow(&self, trace: &mut Trace);
}

impl NormedLayer for ConvBn {
    fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward(x)
    }

    fn follow(&self, trace: &mut Trace) {
        self.trace(trace);
    }
}

impl NormedLayer for CBn {
    fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward(x)
    }

    fn follow(&self, trace: &mut Trace) {
        self.trace(trace);
    }
}

/// A layer with a shortcut around it.
#[derive(Module, Debug)]
pub struct Around<M: Module> {
    /// The layer.
    pub m: M,
}

/// Two pointwise convolutions with a ReLU between them.
#[derive(Module, Debug)]
pub struct PointMlp<M: Module> {
    /// First convolution.
    pub pw1: M,
    /// Second convolution.
    pub pw2: M,
}

/// Inverted block of stride 2 with squeeze-and-excitation, which reduces the grid.
#[derive(Module, Debug)]
pub struct Merge<M: Module> {
    /// Pointwise expansion.
    pub conv1: M,
    /// Depthwise convolution of stride 2.
    pub conv2: M,
    /// Squeeze-and-excitation.
    pub se: SqueezeExcite,
    /// Pointwise projection.
    pub conv3: M,
}

impl<M: NormedLayer> NormedLayer for PointMlp<M> {
    fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        self.pw2.apply(relu(self.pw1.apply(x)))
    }

    fn follow(&self, trace: &mut Trace) {
        self.pw1.follow(trace);
        self.pw2.follow(trace);
    }
}

impl<M: NormedLayer> Around<M> {
    /// Adds the layer's output to its input.
    pub(in crate::arch) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        x.clone() + self.m.apply(x)
    }

    /// Follows shape and cost.
    pub(in crate::arch) fn trace(&self, trace: &mut Trace) {
        self.m.follow(trace);
    }
}

impl<M: NormedLayer> Merge<M> {
    /// Joins three convolutions, the first of which has `hidden` output channels.
    pub(in crate::arch) fn new(conv1: M, conv2: M, conv3: M, hidden: usize, device: &Device) -> Self {
        let squeezed = divisible_within(hidden as f64 * 0.25, 8, 0.0);
        let (act, gate) = (ActivationKind::Relu, ActivationKind::Sigmoid);
        Self { conv1, conv2, se: SqueezeExcite::new(hidden, squeezed, act, gate, device), conv3 }
    }

    /// Maps `[batch, in, rows, columns]` to half the grid.
    pub(in crate::arch) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = relu(self.conv2.apply(relu(self.conv1.apply(x))));
        self.conv3.apply(self.se.forward(x))
    }

    /// Follows shape and cost.
    pub(in crate::arch) fn trace(&self, trace: &mut Trace) {
        self.conv1.follow(trace);
        self.conv2.follow(trace);
        trace.squeeze_excite(&self.se);
        self.conv3.follow(trace);
    }
}
