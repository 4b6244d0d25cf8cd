//! Two-dimensional convolution with the paddings of PyTorch and TensorFlow.

use burn::module::{Initializer, Module, Param};
use burn::tensor::module::conv2d;
use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{Device, Tensor};

/// Zero padding of a convolution or a pooling layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// `dilation · (kernel - 1) / 2` at every edge, as timm pads unless told otherwise.
    Symmetric,
    /// TensorFlow's `SAME`: as much as the output side `⌈side / stride⌉` needs for the given input, with the odd
    /// row and column at the bottom and on the right.
    Same,
    /// This many rows and columns at every edge.
    Explicit(usize),
}

/// Hyper-parameters of a [`Conv`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvSpec {
    /// Input channels.
    pub from: usize,
    /// Output channels.
    pub to: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Distance between the kernel's taps.
    pub dilation: usize,
    /// Number of groups of channels that are convolved apart.
    pub groups: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// Zero padding.
    pub padding: Padding,
}

/// A convolution; unlike Burn's it can pad as TensorFlow does.
#[derive(Module, Debug)]
pub struct Conv {
    /// Kernel, `[out, in / groups, kernel, kernel]`.
    pub weight: Param<Tensor<4>>,
    /// Bias, `[out]`.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    spec: ConvSpec,
}

impl ConvSpec {
    /// Describes a convolution of stride 1 with symmetric padding and a bias.
    pub const fn new(from: usize, to: usize, kernel: usize) -> Self {
        Self { from, to, kernel, stride: 1, dilation: 1, groups: 1, bias: true, padding: Padding::Symmetric }
    }

    /// Describes a depthwise convolution, in which each channel is a group.
    pub const fn depthwise(channels: usize, kernel: usize) -> Self {
        Self::new(channels, channels, kernel).groups(channels)
    }

    /// Sets the stride.
    #[must_use]
    pub const fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// Sets the dilation.
    #[must_use]
    pub const fn dilation(self, dilation: usize) -> Self {
        Self { dilation, ..self }
    }

    /// Sets the number of groups.
    #[must_use]
    pub const fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// Sets whether there is a bias.
    #[must_use]
    pub const fn bias(self, bias: bool) -> Self {
        Self { bias, ..self }
    }

    /// Sets the padding.
    #[must_use]
    pub const fn padding(self, padding: Padding) -> Self {
        Self { padding, ..self }
    }

    /// Side of the output for an input of `side`.
    pub fn out_side(&self, side: usize) -> usize {
        self.padding.out_side(side, self.kernel, self.stride, self.dilation)
    }

    /// Multiply-add operations for an input of `side` × `side` positions.
    pub fn multiply_adds(&self, side: usize) -> u64 {
        let positions = self.out_side(side).pow(2);
        (positions * self.to * self.kernel * self.kernel * self.from / self.groups.max(1)) as u64
    }

    /// Convolves `[batch, in, rows, columns]` with `weight`, `[out, in / groups, kernel, kernel]`.
    pub fn apply(&self, x: Tensor<4>, weight: Tensor<4>, bias: Option<Tensor<1>>) -> Tensor<4> {
        let Self { kernel, stride, dilation, groups, padding, .. } = *self;
        let [_, _, rows, columns] = x.dims();
        let (top, bottom) = padding.edges(rows, kernel, stride, dilation);
        let (left, right) = padding.edges(columns, kernel, stride, dilation);
        let (x, around) = if top == bottom && left == right {
            (x, [top, left])
        } else {
            (x.pad((left, right, top, bottom), PadMode::Constant(0.0)), [0, 0])
        };
        let options = ConvOptions::new([stride; 2], around, [dilation; 2], groups);
        conv2d(x, weight, bias, options)
    }

    /// Builds the convolution with placeholder weights.
    pub fn init(self, device: &Device) -> Conv {
        let shape = [self.to, self.from / self.groups.max(1), self.kernel, self.kernel];
        let fan_in = (shape[1] * self.kernel * self.kernel).max(1) as f64;
        let uniform = Initializer::Uniform { min: -fan_in.powf(-0.5), max: fan_in.powf(-0.5) };
        Conv {
            weight: uniform.init(shape, device),
            bias: self.bias.then(|| Initializer::Zeros.init([self.to], device)),
            spec: self,
        }
    }
}

impl Padding {
    /// Side of the output of a convolution or pooling layer for an input of `side`.
    pub fn out_side(self, side: usize, kernel: usize, stride: usize, dilation: usize) -> usize {
        let reach = dilation * (kernel - 1);
        let around = match self {
            Self::Same => return side.div_ceil(stride),
            Self::Symmetric => reach / 2,
            Self::Explicit(n) => n,
        };
        (side + 2 * around).checked_sub(reach + 1).map_or(0, |free| free / stride + 1)
    }

    /// Rows (or columns) of padding before and after an input of `side`.
    pub fn edges(self, side: usize, kernel: usize, stride: usize, dilation: usize) -> (usize, usize) {
        let reach = dilation * (kernel - 1);
        match self {
            Self::Symmetric => (reach / 2, reach / 2),
            Self::Explicit(n) => (n, n),
            Self::Same => {
                let total = ((side.div_ceil(stride).max(1) - 1) * stride + reach + 1).saturating_sub(side);
                (total / 2, total - total / 2)
            }
        }
    }
}

impl Conv {
    /// Hyper-parameters of the convolution.
    pub fn spec(&self) -> ConvSpec {
        self.spec
    }

    /// Convolves `[batch, in, rows, columns]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_with(x, self.weight.val())
    }

    /// Convolves `x` with `weight`, which takes the place of the kernel (weight standardisation).
    pub fn forward_with(&self, x: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
        self.spec.apply(x, weight, self.bias.as_ref().map(Param::val))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_is_tensorflows() {
        // side, kernel, stride -> before, after
        for (side, kernel, stride, edges) in
            [(8, 3, 2, (0, 1)), (7, 3, 2, (1, 1)), (8, 5, 1, (2, 2)), (9, 2, 2, (0, 1))]
        {
            assert_eq!(Padding::Same.edges(side, kernel, stride, 1), edges, "{side} {kernel} {stride}");
            assert_eq!(Padding::Same.out_side(side, kernel, stride, 1), side.div_ceil(stride));
        }
        let device = Device::flex();
        let conv = ConvSpec::new(2, 4, 3).stride(2).groups(2).padding(Padding::Same).init(&device);
        assert_eq!(conv.forward(Tensor::zeros([1, 2, 8, 5], &device)).dims(), [1, 4, 4, 3]);
        assert_eq!(ConvSpec::new(3, 8, 3).stride(2).out_side(224), 112);
        assert_eq!(ConvSpec::new(3, 8, 3).stride(2).multiply_adds(224), 112 * 112 * 8 * 27);
    }
}
