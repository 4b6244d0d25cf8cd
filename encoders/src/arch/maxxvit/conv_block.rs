//! The convolutional blocks of CoAtNet and MaxViT: an inverted bottleneck that begins with a norm, and a ConvNeXt
//! block.

use super::super::parts::tokens::{by_row, dropped};
use super::super::parts::{ActivationKind, Conv, ConvSpec, MapNorm, Padding, SqueezeExcite, avg_pool, max_pool};
use super::config::{BlockSizes, MaxxVitConfig, MaxxVitConvKind, MaxxVitPool, MaxxVitStride};
use super::{LayerScale, layer_scale};
use crate::arch::Mlp;
use crate::operands::Activation;
use burn::module::Module;
use burn::nn::LinearConfig;
use burn::tensor::{Device, Tensor};

/// Pooling that halves a feature map, and a 1×1 convolution if the number of channels changes.
#[derive(Module, Debug)]
pub struct Downsample {
    /// The 1×1 convolution.
    pub expand: Option<Conv>,
    #[module(skip)]
    pool: MaxxVitPool,
}

/// A convolutional block, one variant per kind.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum ConvBlock {
    /// An inverted bottleneck with squeeze-and-excitation.
    Mbconv(MbConvBlock),
    /// A ConvNeXt block.
    Convnext(ConvNextBlock),
}

/// An inverted bottleneck that begins with a norm: 1×1, k×k and 1×1 convolutions, with squeeze-and-excitation.
#[derive(Module, Debug)]
pub struct MbConvBlock {
    /// Shortcut of a block that halves the feature map.
    pub shortcut: Option<Downsample>,
    /// Norm before the convolutions.
    pub pre_norm: MapNorm,
    /// 1×1 convolution to the hidden channels.
    pub conv1_1x1: Conv,
    /// Norm after `conv1_1x1`.
    pub norm1: MapNorm,
    /// k×k convolution.
    pub conv2_kxk: Conv,
    /// Squeeze-and-excitation before `norm2`.
    pub se_early: Option<SqueezeExcite>,
    /// Norm after `conv2_kxk`.
    pub norm2: MapNorm,
    /// Squeeze-and-excitation after `norm2`.
    pub se: Option<SqueezeExcite>,
    /// 1×1 convolution to the output channels.
    pub conv3_1x1: Conv,
    #[module(skip)]
    down: Option<MaxxVitPool>,
    #[module(skip)]
    activation: ActivationKind,
    pre_norm_act: bool,
}

/// A ConvNeXt block: a depthwise convolution, a norm, and an MLP.
#[derive(Module, Debug)]
pub struct ConvNextBlock {
    /// Shortcut of a block that halves the feature map.
    pub shortcut: Option<Downsample>,
    /// Depthwise 7×7 convolution.
    pub conv_dw: Conv,
    /// Norm before the MLP.
    pub norm: MapNorm,
    /// The two-layer MLP.
    pub mlp: Mlp,
    /// Layer scale.
    pub ls: Option<LayerScale>,
    #[module(skip)]
    down: Option<MaxxVitPool>,
}

/// Halves the sides of a feature map `[batch, channels, rows, columns]`, which are even.
pub(super) fn pool(x: Tensor<4>, kind: MaxxVitPool) -> Tensor<4> {
    match kind {
        MaxxVitPool::Avg2 => avg_pool(x, 2, 2, 0, true, false),
        MaxxVitPool::Avg => avg_pool(x, 3, 2, 1, false, false),
        MaxxVitPool::Max2 => max_pool(x, 2, 2, 0, false),
        MaxxVitPool::Max => max_pool(x, 3, 2, 1, false),
    }
}

impl Downsample {
    pub(super) fn new(input: usize, output: usize, pool: MaxxVitPool, bias: bool, device: &Device) -> Self {
        let expand = (input != output).then(|| ConvSpec::new(input, output, 1).bias(bias).init(device));
        Self { expand, pool }
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = pool(x, self.pool);
        match &self.expand {
            Some(conv) => conv.forward(x),
            None => x,
        }
    }
}

impl MaxxVitConfig {
    /// Padding of all convolutions.
    pub(super) fn padding(&self) -> Padding {
        if self.conv.same_padding { Padding::Same } else { Padding::Symmetric }
    }

    /// Builds the convolutional block of the given sizes.
    pub(super) fn conv_block(&self, sizes: &BlockSizes, device: &Device) -> ConvBlock {
        let conv = &self.conv;
        let (input, output, hidden) = (sizes.input, sizes.output, self.hidden(sizes));
        let norm = |channels: usize| conv.norm.init(channels, conv.norm_eps, device);
        let stride = |at: MaxxVitStride| if sizes.halves && conv.stride == at { 2 } else { 1 };
        let down = (sizes.halves && conv.stride == MaxxVitStride::Pool).then_some(conv.downsample_pool);
        if conv.kind == MaxxVitConvKind::Convnext {
            let mut mlp = Mlp::new(output, hidden, output, self.conv_activation(), device);
            if !conv.output_bias {
                mlp.fc1 = LinearConfig::new(output, hidden).with_bias(false).init(device);
                mlp.fc2 = LinearConfig::new(hidden, output).with_bias(false).init(device);
            }
            let depthwise = ConvSpec::new(input, output, 7).groups(input).bias(conv.output_bias);
            return ConvBlock::Convnext(ConvNextBlock {
                shortcut: sizes.halves.then(|| Downsample::new(input, output, MaxxVitPool::Avg2, true, device)),
                conv_dw: depthwise.stride(stride(MaxxVitStride::Depthwise)).init(device),
                norm: norm(output),
                mlp,
                ls: layer_scale(conv.layer_scale, output, device),
                down,
            });
        }
        let squeeze = || {
            SqueezeExcite::new(hidden, self.squeezed(sizes), conv.attention_activation, ActivationKind::Sigmoid, device)
        };
        let groups = hidden.checked_div(conv.group_size).unwrap_or(1);
        let kernel = ConvSpec::new(hidden, hidden, conv.kernel).groups(groups).padding(self.padding()).bias(false);
        let expand = ConvSpec::new(input, hidden, 1).bias(false).stride(stride(MaxxVitStride::Pointwise));
        ConvBlock::Mbconv(MbConvBlock {
            shortcut: sizes.halves.then(|| Downsample::new(input, output, conv.pool, conv.output_bias, device)),
            pre_norm: norm(input),
            conv1_1x1: expand.init(device),
            norm1: norm(hidden),
            conv2_kxk: kernel.stride(stride(MaxxVitStride::Depthwise)).init(device),
            se_early: conv.early_attention.then(squeeze),
            norm2: norm(hidden),
            se: (!conv.early_attention).then(squeeze),
            conv3_1x1: ConvSpec::new(hidden, output, 1).bias(conv.output_bias).init(device),
            down,
            activation: conv.activation,
            pre_norm_act: conv.pre_norm_act,
        })
    }

    /// The activation of the convolutional blocks as that of an MLP; `check` allows no other.
    fn conv_activation(&self) -> Activation {
        match self.conv.activation {
            ActivationKind::GeluTanh => Activation::GeluTanh,
            ActivationKind::Silu => Activation::Silu,
            _ => Activation::Gelu,
        }
    }
}

impl ConvBlock {
    /// Runs the block on `[batch, channels, rows, columns]`.
    pub(super) fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        match self {
            Self::Mbconv(block) => block.forward(x, factors),
            Self::Convnext(block) => block.forward(x, factors),
        }
    }
}

fn shortcut(layer: Option<&Downsample>, x: Tensor<4>) -> Tensor<4> {
    match layer {
        Some(layer) => layer.forward(x),
        None => x,
    }
}

impl MbConvBlock {
    fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let squeezed = |layer: &Option<SqueezeExcite>, x: Tensor<4>| match layer {
            Some(layer) => layer.forward(x),
            None => x,
        };
        let act = |x: Tensor<4>| self.activation.forward(x);
        let skipped = shortcut(self.shortcut.as_ref(), x.clone());
        let x = self.pre_norm.channels_first(x);
        let x = if self.pre_norm_act { act(x) } else { x };
        let x = match self.down {
            Some(kind) => pool(x, kind),
            None => x,
        };
        let x = act(self.norm1.channels_first(self.conv1_1x1.forward(x)));
        let x = squeezed(&self.se_early, self.conv2_kxk.forward(x));
        let x = squeezed(&self.se, act(self.norm2.channels_first(x)));
        skipped + dropped(self.conv3_1x1.forward(x), factors)
    }
}

impl ConvNextBlock {
    fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let skipped = shortcut(self.shortcut.as_ref(), x.clone());
        let x = match self.down {
            Some(kind) => pool(x, kind),
            None => x,
        };
        let x = self.conv_dw.forward(x).permute([0, 2, 3, 1]);
        let x = by_row(self.norm.channels_last(x), |x| self.mlp.forward(x));
        let x = super::scaled(x, self.ls.as_ref());
        skipped + dropped(x.permute([0, 3, 1, 2]), factors)
    }
}
