//! Hyper-parameters of mobile networks, their validation, and the construction of the network.

use super::EfficientNet;
use super::blocks::{BlockContext, MobileBlock};
use crate::arch::drop_path::{self, DropPathSpec};
use crate::arch::fields::is_default;
use crate::arch::limits::MAX_SIZE;
use crate::arch::parts::ActivationKind;
use crate::arch::parts::AntiAlias;
use crate::arch::parts::NormActKind;
use crate::arch::parts::Trace;
use crate::arch::parts::{ConvSpec, Padding};
use crate::arch::staged::{LayerShape, StagedConfig};
use burgess_base::{Error, Result};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

/// The kind of a mobile network's block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MobileBlockKind {
    /// Inverted residual (MBConv): pointwise expansion, depthwise convolution, pointwise projection.
    Inverted,
    /// Depthwise-separable: depthwise convolution, pointwise projection.
    Separable,
    /// Edge residual (fused MBConv): full convolution as expansion, pointwise projection.
    Edge,
    /// One convolution.
    Convolution,
    /// Universal inverted bottleneck of MobileNetV4: an inverted residual with optional depthwise convolutions before
    /// the expansion, after it, and after the projection.
    Universal,
    /// Attention in which all heads share keys and values.
    MultiQueryAttention,
    /// Ordinary multi-head attention.
    MultiHeadAttention,
}

impl MobileBlockKind {
    /// Whether this is an attention block.
    pub(super) fn is_attention(self) -> bool {
        matches!(self, Self::MultiQueryAttention | Self::MultiHeadAttention)
    }
}

/// Hyper-parameters of one block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MobileBlockConfig {
    /// Kind of block.
    pub kind: MobileBlockKind,
    /// Output channels.
    pub channels: usize,
    /// Stride, 1 or 2. Default 1.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub stride: usize,
    /// Side of the main kernel; several: the channels are divided among depthwise kernels of these sides (MixConv). A
    /// `universal` block with 0 has no depthwise convolution after the expansion; in attention, the kernel of the
    /// depthwise convolution that reduces keys and values. Default 3.
    #[serde(default = "three", skip_serializing_if = "is_three")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub kernels: Vec<usize>,
    /// Kernel of a `universal` block's depthwise convolution before the expansion; 0 for none. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub start_kernel: usize,
    /// Kernel of a `universal` block's depthwise convolution after the projection; 0 for none. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub end_kernel: usize,
    /// Kernels of the expansion of an `inverted` block, as `kernels`. Default 1.
    #[serde(default = "pointwise", skip_serializing_if = "is_pointwise")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub expand_kernels: Vec<usize>,
    /// Kernels of the projection, as `kernels`. Default 1.
    #[serde(default = "pointwise", skip_serializing_if = "is_pointwise")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub project_kernels: Vec<usize>,
    /// Channels after the expansion; in a `separable` block the input channels; 0 in other blocks. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub hidden: usize,
    /// Channels inside squeeze-and-excitation; 0 for none. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub squeezed: usize,
    /// Channels per group of the main convolution; 0 for one group. By default 1 (depthwise), and one group in
    /// `convolution` and `edge` blocks.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub group_size: Option<usize>,
    /// Number of experts of conditional convolutions in an `inverted` block (CondConv); 0 for none. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub experts: usize,
    /// Activation of this block. Default: the network's.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub activation: Option<ActivationKind>,
    /// Whether the input is added to the output. Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub residual: bool,
    /// Whether an activation follows the projection of a `separable` block (MobileNetV1). Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub activated: bool,
    /// Number of attention heads; 0 without attention. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub heads: usize,
    /// Channels per head of multi-query attention. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub key_channels: usize,
    /// Stride of the convolutions that reduce keys and values. Default 1, no reduction.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub key_stride: usize,
}

/// The kind of channel attention inside blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SqueezeKind {
    /// Squeeze-and-excitation (Hu et al. 2018, arXiv:1709.01507).
    #[default]
    SqueezeExcite,
    /// Global context (Cao et al. 2019, arXiv:1904.11492).
    GlobalContext,
}

/// Hyper-parameters of a mobile network; timm's notation of blocks is resolved by the reader of timm directories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EfficientNetConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Output channels of the stem, a convolution of stride 2.
    pub stem_channels: usize,
    /// Kernel of the stem. Default 3.
    #[serde(default = "default_kernel")]
    pub stem_kernel: usize,
    /// The blocks of each stage, first to last.
    pub stages: Vec<Vec<MobileBlockConfig>>,
    /// Channels of a pointwise convolution after the last stage, whose output is one more layer; 0 for none. Default 0.
    #[serde(default)]
    pub head_channels: usize,
    /// Zero padding of convolutions. Default symmetric; `same` is that of TensorFlow.
    #[serde(default)]
    pub padding: PaddingKind,
    /// Activation. Default ReLU.
    #[serde(default = "default_activation")]
    pub activation: ActivationKind,
    /// Norms. Default batch norm.
    #[serde(default)]
    pub norm: NormActKind,
    /// Kind of channel attention in blocks with `squeezed` channels. Default squeeze-and-excitation.
    #[serde(default)]
    pub squeeze: SqueezeKind,
    /// Activation inside the channel attention. Default: the block's.
    #[serde(default)]
    pub squeeze_activation: Option<ActivationKind>,
    /// Function that makes factors of the channel attention's output. Default sigmoid.
    #[serde(default = "default_gate")]
    pub squeeze_gate: ActivationKind,
    /// Low-pass filter that takes the place of strides in blocks. Default none.
    #[serde(default)]
    pub anti_aliasing: Option<AntiAlias>,
    /// Whether `universal` and attention blocks have layer scale. Default false.
    #[serde(default)]
    pub layer_scale: bool,
    /// Drop-path rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub drop_path: f64,
}

/// Zero padding of convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PaddingKind {
    /// The same on both sides, as usual in PyTorch.
    #[default]
    Symmetric,
    /// TensorFlow's: the output side is the input side divided by the stride, rounded up; an odd row or column of zeros
    /// is put at the end.
    Same,
}

impl PaddingKind {
    /// The padding of one convolution.
    pub(super) fn of_conv(self) -> Padding {
        match self {
            Self::Symmetric => Padding::Symmetric,
            Self::Same => Padding::Same,
        }
    }
}

fn one() -> usize {
    1
}

fn is_one(value: &usize) -> bool {
    *value == 1
}

fn three() -> Vec<usize> {
    vec![3]
}

fn is_three(kernels: &Vec<usize>) -> bool {
    *kernels == [3]
}

fn pointwise() -> Vec<usize> {
    vec![1]
}

fn is_pointwise(kernels: &Vec<usize>) -> bool {
    *kernels == [1]
}

fn default_kernel() -> usize {
    3
}

fn default_activation() -> ActivationKind {
    ActivationKind::Relu
}

fn default_gate() -> ActivationKind {
    ActivationKind::Sigmoid
}

impl EfficientNetConfig {
    /// Whether the stem's output is a layer of its own: its grid is finer than that of the first stage.
    pub(super) fn stem_is_layer(&self) -> bool {
        self.stages.first().and_then(|stage| stage.first()).is_some_and(|block| block.stride > 1)
    }

    /// Whether the output of `stage` is a layer: the next stage has a coarser grid, or there is none.
    pub(super) fn ends_layer(&self, stage: usize) -> bool {
        self.stages.get(stage + 1).is_none_or(|next| next.first().is_some_and(|block| block.stride > 1))
    }

    /// Builds a network with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> EfficientNet {
        let norm = |channels| self.norm.init(channels, self.activation, device);
        let conv = |from, to, kernel| ConvSpec::new(from, to, kernel).bias(false).padding(self.padding.of_conv());
        let context = BlockContext { config: self, device };
        let mut channels = self.stem_channels;
        let stage = |stage: &Vec<MobileBlockConfig>| {
            let blocks = stage.iter().map(|block| {
                let built = MobileBlock::init(block, channels, &context);
                channels = block.channels;
                built
            });
            blocks.collect::<Vec<_>>()
        };
        let blocks: Vec<Vec<MobileBlock>> = self.stages.iter().map(stage).collect();
        let head = self.head_channels;
        EfficientNet {
            conv_stem: conv(3, self.stem_channels, self.stem_kernel).stride(2).init(device),
            bn1: norm(self.stem_channels),
            conv_head: (head > 0).then(|| conv(channels, head, 1).init(device)),
            bn2: (head > 0).then(|| norm(head)),
            blocks,
            config: self.clone(),
        }
    }

    fn check_block(&self, block: &MobileBlockConfig, input: usize) -> Result<()> {
        let name = || format!("{:?} block of {} channels", block.kind, block.channels);
        let lists = [&block.kernels, &block.expand_kernels, &block.project_kernels];
        if lists.iter().any(|kernels| kernels.is_empty() || kernels.len() > 16) {
            return Err(
                Error::usage(format!("a {} has an empty or long list of kernels", name())).hint("give 1 to 16 kernels")
            );
        }
        let kernels = lists.into_iter().flatten().chain([&block.start_kernel, &block.end_kernel]);
        let kernels = kernels.max().copied().unwrap_or_default();
        let numbers = [block.channels, block.hidden, block.squeezed, block.experts, block.heads, block.key_channels];
        let valid = block.channels > 0 && numbers.iter().all(|n| *n <= MAX_SIZE) && kernels <= 64;
        if !valid || !(1..=2).contains(&block.stride) || !(1..=16).contains(&block.key_stride) {
            return Err(Error::usage(format!("invalid {}: {block:?}", name()))
                .hint("channels are from 1 to 65536, kernels at most 64, strides 1 or 2"));
        }
        let universal = block.kind == MobileBlockKind::Universal;
        if !universal && block.kernels.contains(&0) {
            return Err(Error::usage(format!("a {} has a kernel of 0", name())).hint("only universal blocks may"));
        }
        let expands =
            matches!(block.kind, MobileBlockKind::Inverted | MobileBlockKind::Edge | MobileBlockKind::Universal);
        if expands && block.hidden == 0 || block.kind == MobileBlockKind::Separable && block.hidden != input {
            return Err(Error::usage(format!(
                "a {} has hidden = {}, but {input} input channels",
                name(),
                block.hidden
            ))
            .hint("hidden is positive, and in a separable block the number of input channels"));
        }
        if block.residual && (block.stride != 1 || input != block.channels) {
            return Err(Error::usage(format!("a {} is residual, but its input has another shape", name()))
                .hint("set residual = false"));
        }
        if block.kind.is_attention() && (block.heads == 0 || block.channels != input || block.stride != 1) {
            return Err(Error::usage(format!("a {} needs heads, as many input channels, and stride 1", name())));
        }
        if block.kind == MobileBlockKind::MultiQueryAttention && block.key_channels == 0 {
            return Err(Error::usage(format!("a {} needs key_channels", name())));
        }
        if block.kind == MobileBlockKind::MultiHeadAttention && !input.is_multiple_of(block.heads) {
            return Err(Error::usage(format!(
                "a {} has {} heads, which do not divide its channels",
                name(),
                block.heads
            )));
        }
        let grouped = match block.kind {
            MobileBlockKind::Convolution => vec![input],
            MobileBlockKind::Universal => vec![input, block.hidden, block.channels],
            _ => vec![block.hidden],
        };
        if block.group_size.is_some_and(|size| size > 0 && grouped.iter().any(|n| !n.is_multiple_of(size))) {
            return Err(Error::usage(format!("a {} has a group_size that does not divide {grouped:?}", name())));
        }
        let mixed = lists_mixed(block);
        if mixed
            && (block.experts > 0
                || block.kind != MobileBlockKind::Inverted && block.kind != MobileBlockKind::Separable)
        {
            return Err(Error::usage(format!("a {} cannot have several kernels", name()))
                .hint("inverted and separable blocks without experts can"));
        }
        if block.experts > 0 && block.kind != MobileBlockKind::Inverted {
            return Err(Error::usage(format!("a {} cannot have experts", name())).hint("inverted blocks can"));
        }
        Ok(())
    }
}

fn lists_mixed(block: &MobileBlockConfig) -> bool {
    [&block.kernels, &block.expand_kernels, &block.project_kernels].iter().any(|kernels| kernels.len() > 1)
}

impl StagedConfig for EfficientNetConfig {
    fn check(&self) -> Result<()> {
        let numbers = [self.image_size, self.stem_channels, self.stem_kernel];
        let positive = numbers.iter().all(|n| (1..=MAX_SIZE).contains(n)) && self.head_channels <= MAX_SIZE;
        if !positive || self.stages.is_empty() || self.stages.iter().any(Vec::is_empty) {
            return Err(Error::usage(format!(
                "invalid mobile network: image_size {}, stem_channels {}, stem_kernel {}, head_channels {}, {} stages",
                self.image_size,
                self.stem_channels,
                self.stem_kernel,
                self.head_channels,
                self.stages.len()
            ))
            .hint("sizes are positive and at most 65536, and every stage has a block"));
        }
        let mut channels = self.stem_channels;
        for block in self.stages.iter().flatten() {
            self.check_block(block, channels)?;
            for channels in [channels, block.hidden, block.channels].into_iter().filter(|n| *n > 0) {
                self.norm.check(channels)?;
            }
            channels = block.channels;
        }
        if self.head_channels > 0 {
            self.norm.check(self.head_channels)?;
        }
        drop_path::check(self.drop_path)
    }

    fn input_side(&self) -> usize {
        self.image_size
    }

    fn layer_count(&self) -> usize {
        self.stages.iter().fold(0, |sum, stage| sum.saturating_add(stage.len()))
    }

    fn layers(&self) -> Vec<LayerShape> {
        self.init(&Device::flex()).trace(Trace::image(self.image_size)).layers()
    }

    fn drop_path_spec(&self) -> Option<DropPathSpec> {
        // timm's rates grow to drop_path · (blocks - 1) / blocks.
        let blocks = self.layer_count();
        let rate = self.drop_path * blocks.saturating_sub(1) as f64 / blocks.max(1) as f64;
        Some(DropPathSpec { rate, blocks, branches: 1 })
    }
}
