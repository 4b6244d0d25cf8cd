//! Layers that the autoencoder and the U-Net share: residual blocks and changes of resolution on
//! `[batch, channels, rows, columns]`, and attention over the positions of such a feature map.

use crate::attention::attend;
use crate::operands::Bias;
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::interpolate::{Interpolate2dConfig, InterpolateMode};
use burn::nn::{GroupNorm, GroupNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor, activation::silu};

/// Builds a 3×3 convolution that keeps the grid.
pub(super) fn conv3(from: usize, to: usize, device: &Device) -> Conv2d {
    Conv2dConfig::new([from, to], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(device)
}

pub(super) fn group_norm(groups: usize, channels: usize, eps: f64, device: &Device) -> GroupNorm {
    GroupNormConfig::new(groups, channels).with_epsilon(eps).init(device)
}

/// A residual block: twice group norm, SiLU and 3×3 convolution, with a shortcut (`ResnetBlock2D`).
#[derive(Module, Debug)]
pub struct Resnet {
    /// Group norm of the input channels.
    pub norm1: GroupNorm,
    /// 3×3 convolution from input to output channels.
    pub conv1: Conv2d,
    /// Projection of the time embedding, added to each channel; only in the U-Net.
    pub time_emb_proj: Option<Linear>,
    /// Group norm of the output channels.
    pub norm2: GroupNorm,
    /// 3×3 convolution that keeps the number of channels.
    pub conv2: Conv2d,
    /// 1×1 convolution of the shortcut, if the numbers of input and output channels differ.
    pub conv_shortcut: Option<Conv2d>,
}

/// Hyper-parameters that all residual blocks of a network share.
#[derive(Debug, Clone, Copy)]
pub(super) struct ResnetConfig {
    pub groups: usize,
    pub eps: f64,
    /// Channels of the time embedding; `None` in the autoencoder.
    pub time: Option<usize>,
}

impl ResnetConfig {
    pub fn init(self, from: usize, to: usize, device: &Device) -> Resnet {
        Resnet {
            norm1: group_norm(self.groups, from, self.eps, device),
            conv1: conv3(from, to, device),
            time_emb_proj: self.time.map(|time| LinearConfig::new(time, to).init(device)),
            norm2: group_norm(self.groups, to, self.eps, device),
            conv2: conv3(to, to, device),
            conv_shortcut: (from != to).then(|| Conv2dConfig::new([from, to], [1, 1]).init(device)),
        }
    }
}

impl Resnet {
    /// Runs the block; `time` is the time embedding after SiLU, `[1, channels]`, the same for all images.
    pub(super) fn forward(&self, x: Tensor<4>, time: Option<&Tensor<2>>) -> Tensor<4> {
        let mut branch = self.conv1.forward(silu(self.norm1.forward(x.clone())));
        if let (Some(projection), Some(time)) = (&self.time_emb_proj, time) {
            let [_, channels, _, _] = branch.dims();
            branch = branch + projection.forward(time.clone()).reshape([1, channels, 1, 1]);
        }
        let branch = self.conv2.forward(silu(self.norm2.forward(branch)));
        branch + self.conv_shortcut.as_ref().map_or(x.clone(), |shortcut| shortcut.forward(x))
    }
}

/// Halves the grid.
#[derive(Module, Debug)]
pub struct Downsampler {
    /// 3×3 convolution of stride 2.
    pub conv: Conv2d,
}

impl Downsampler {
    /// Builds a layer that pads `before` zeros at the top and on the left: 1 in the U-Net, 0 in the autoencoder.
    pub(super) fn new(channels: usize, before: usize, device: &Device) -> Self {
        let padding = PaddingConfig2d::Explicit(before, before, 1, 1);
        let conv = Conv2dConfig::new([channels, channels], [3, 3]).with_stride([2, 2]).with_padding(padding);
        Self { conv: conv.init(device) }
    }
}

/// Doubles the grid.
#[derive(Module, Debug)]
pub struct Upsampler {
    /// 3×3 convolution after nearest-neighbour upsampling.
    pub conv: Conv2d,
}

impl Upsampler {
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, rows, columns] = x.dims();
        let twice = Interpolate2dConfig::new()
            .with_output_size(Some([2 * rows, 2 * columns]))
            .with_mode(InterpolateMode::Nearest)
            .with_align_corners(false);
        self.conv.forward(twice.init().forward(x))
    }
}

/// Flattens `[batch, channels, rows, columns]` to `[batch * rows * columns, channels]`.
pub(super) fn tokens(x: Tensor<4>) -> Tensor<2> {
    let [batch, channels, rows, columns] = x.dims();
    x.permute([0, 2, 3, 1]).reshape([batch * rows * columns, channels])
}

/// Reverses [`tokens`] for a feature map of shape `dims`.
pub(super) fn map(tokens: Tensor<2>, dims: [usize; 4]) -> Tensor<4> {
    let [batch, channels, rows, columns] = dims;
    tokens.reshape([batch, rows, columns, channels]).permute([0, 3, 1, 2])
}

/// Multi-head attention of the rows of `q`, `[groups * queries, width]`, to the rows of `k` and `v` of the same group.
pub(super) fn attend_rows(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, groups: usize, heads: usize) -> Tensor<2> {
    let [rows, width] = q.dims();
    let split = |x: Tensor<2>| {
        let [rows, width] = x.dims();
        x.reshape([groups, rows / groups, heads, width / heads]).swap_dims(1, 2)
    };
    attend(split(q), split(k), split(v), Bias::None, None).reshape([rows, width])
}
