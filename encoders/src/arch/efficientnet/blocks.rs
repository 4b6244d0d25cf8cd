//! The blocks of mobile networks. Parameter paths are those of timm's blocks.

use super::attention::{MobileAttention, attention};
use super::config::{EfficientNetConfig, MobileBlockConfig, MobileBlockKind};
use super::conv::MobileConv;
use super::squeeze::Squeeze;
use crate::arch::parts::ActivationKind;
use crate::arch::parts::LayerScale;
use crate::arch::parts::NormAct;
use crate::arch::parts::Trace;
use crate::arch::parts::drop_branch;
use crate::arch::parts::{AntiAlias, ConvNormAct};
use crate::arch::parts::{Conv, ConvSpec};
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};

/// What all blocks of a network share while they are built.
pub(super) struct BlockContext<'a> {
    pub config: &'a EfficientNetConfig,
    pub device: &'a Device,
}

impl BlockContext<'_> {
    /// A convolution without bias, with the network's padding.
    pub fn spec(&self, from: usize, to: usize, kernel: usize) -> ConvSpec {
        ConvSpec::new(from, to, kernel).bias(false).padding(self.config.padding.of_conv())
    }

    /// A norm followed by an activation.
    pub fn norm(&self, channels: usize, activation: ActivationKind) -> NormAct {
        self.config.norm.init(channels, activation, self.device)
    }
}

/// A block of a mobile network, one variant per kind.
// Networks have many kinds of blocks in one list.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum MobileBlock {
    /// Inverted residual block.
    Inverted(Inverted),
    /// Depthwise-separable block.
    Separable(Separable),
    /// Edge residual block.
    Edge(Edge),
    /// One convolution.
    Convolution(Convolution),
    /// Universal inverted bottleneck.
    Universal(Universal),
    /// Attention block.
    Attention(MobileAttention),
}

/// An inverted residual block.
#[derive(Module, Debug)]
pub struct Inverted {
    /// Pointwise expansion.
    pub conv_pw: MobileConv,
    /// Norm after `conv_pw`.
    pub bn1: NormAct,
    /// Depthwise convolution.
    pub conv_dw: MobileConv,
    /// Norm after `conv_dw`.
    pub bn2: NormAct,
    /// Channel attention.
    pub se: Option<Squeeze>,
    /// Pointwise projection.
    pub conv_pwl: MobileConv,
    /// Norm after `conv_pwl`.
    pub bn3: NormAct,
    /// Weights of the experts from the mean of the input, if the convolutions are conditional.
    pub routing_fn: Option<Linear>,
    #[module(skip)]
    filter: Option<AntiAlias>,
    residual: bool,
}

/// A depthwise-separable block.
#[derive(Module, Debug)]
pub struct Separable {
    /// Depthwise convolution.
    pub conv_dw: MobileConv,
    /// Norm after `conv_dw`.
    pub bn1: NormAct,
    /// Channel attention.
    pub se: Option<Squeeze>,
    /// Pointwise projection.
    pub conv_pw: MobileConv,
    /// Norm after `conv_pw`.
    pub bn2: NormAct,
    #[module(skip)]
    filter: Option<AntiAlias>,
    residual: bool,
}

/// An edge residual block (fused MBConv).
#[derive(Module, Debug)]
pub struct Edge {
    /// Expansion, a full convolution.
    pub conv_exp: Conv,
    /// Norm after `conv_exp`.
    pub bn1: NormAct,
    /// Channel attention.
    pub se: Option<Squeeze>,
    /// Pointwise projection.
    pub conv_pwl: Conv,
    /// Norm after `conv_pwl`.
    pub bn2: NormAct,
    #[module(skip)]
    filter: Option<AntiAlias>,
    residual: bool,
}

/// One convolution with norm and activation.
#[derive(Module, Debug)]
pub struct Convolution {
    /// Convolution.
    pub conv: Conv,
    /// Norm after `conv`.
    pub bn1: NormAct,
    #[module(skip)]
    filter: Option<AntiAlias>,
    residual: bool,
}

/// A universal inverted bottleneck.
#[derive(Module, Debug)]
pub struct Universal {
    /// Depthwise convolution before the expansion.
    pub dw_start: Option<ConvNormAct>,
    /// Pointwise expansion.
    pub pw_exp: ConvNormAct,
    /// Depthwise convolution after the expansion.
    pub dw_mid: Option<ConvNormAct>,
    /// Channel attention.
    pub se: Option<Squeeze>,
    /// Pointwise projection.
    pub pw_proj: ConvNormAct,
    /// Depthwise convolution after the projection.
    pub dw_end: Option<ConvNormAct>,
    /// Layer scale.
    pub layer_scale: Option<LayerScale>,
    residual: bool,
}

fn filtered(x: Tensor<4>, filter: Option<AntiAlias>) -> Tensor<4> {
    match filter {
        Some(filter) => filter.forward(x),
        None => x,
    }
}

fn trace_filter(filter: Option<AntiAlias>, trace: &mut Trace) {
    if let Some(filter) = filter {
        trace.multiply_adds += filter.multiply_adds(trace.channels, trace.side);
        trace.side = filter.out_side(trace.side);
    }
}

fn trace_conv(conv: &ConvNormAct, trace: &mut Trace) {
    trace.multiply_adds += conv.multiply_adds(trace.side);
    trace.side = conv.out_side(trace.side);
    trace.channels = conv.channels();
}

/// Number of groups for `group_size` channels each; 0 makes one group.
fn groups(group_size: usize, channels: usize) -> usize {
    channels.checked_div(group_size).unwrap_or(1)
}

impl MobileBlock {
    /// Builds the block with placeholder weights for `input` input channels.
    pub(super) fn init(block: &MobileBlockConfig, input: usize, context: &BlockContext) -> Self {
        let act = block.activation.unwrap_or(context.config.activation);
        let filter = context.config.anti_aliasing.filter(|_| block.stride > 1);
        let stride = if filter.is_some() { 1 } else { block.stride };
        let (hidden, output, residual) = (block.hidden, block.channels, block.residual);
        let device = context.device;
        let spec = |from, to, kernel| context.spec(from, to, kernel);
        let strided = |from, to, kernel| context.spec(from, to, kernel).stride(stride);
        let se = || Squeeze::init(context.config, block, act, device);
        let depthwise = |channels| groups(block.group_size.unwrap_or(1), channels);
        let dense = |channels| groups(block.group_size.unwrap_or(0), channels);
        let kernel = block.kernels.first().copied().unwrap_or(1);
        match block.kind {
            MobileBlockKind::Inverted => Self::Inverted(Inverted {
                conv_pw: MobileConv::init([input, hidden], &block.expand_kernels, 1, block.experts, spec, device),
                bn1: context.norm(hidden, act),
                conv_dw: MobileConv::init(
                    [hidden, hidden],
                    &block.kernels,
                    depthwise(hidden),
                    block.experts,
                    strided,
                    device,
                ),
                bn2: context.norm(hidden, act),
                se: se(),
                conv_pwl: MobileConv::init([hidden, output], &block.project_kernels, 1, block.experts, spec, device),
                bn3: context.norm(output, ActivationKind::Identity),
                routing_fn: (block.experts > 0).then(|| LinearConfig::new(input, block.experts).init(device)),
                filter,
                residual,
            }),
            MobileBlockKind::Separable => Self::Separable(Separable {
                conv_dw: MobileConv::init([input, input], &block.kernels, depthwise(input), 0, strided, device),
                bn1: context.norm(input, act),
                se: se(),
                conv_pw: MobileConv::init([input, output], &block.project_kernels, 1, 0, spec, device),
                bn2: context.norm(output, if block.activated { act } else { ActivationKind::Identity }),
                filter,
                residual,
            }),
            MobileBlockKind::Edge => Self::Edge(Edge {
                conv_exp: strided(input, hidden, kernel).groups(dense(hidden)).init(device),
                bn1: context.norm(hidden, act),
                se: se(),
                conv_pwl: spec(hidden, output, block.project_kernels.first().copied().unwrap_or(1)).init(device),
                bn2: context.norm(output, ActivationKind::Identity),
                filter,
                residual,
            }),
            MobileBlockKind::Convolution => Self::Convolution(Convolution {
                conv: strided(input, output, kernel).groups(dense(input)).init(device),
                bn1: context.norm(output, act),
                filter,
                residual,
            }),
            MobileBlockKind::Universal => Self::Universal(Self::universal(block, input, act, context)),
            MobileBlockKind::MultiQueryAttention | MobileBlockKind::MultiHeadAttention => {
                Self::Attention(attention(block, context))
            }
        }
    }

    fn universal(block: &MobileBlockConfig, input: usize, act: ActivationKind, context: &BlockContext) -> Universal {
        let (device, hidden, output) = (context.device, block.hidden, block.channels);
        let middle = block.kernels.first().copied().unwrap_or_default();
        let norm = context.config.norm;
        let pointwise =
            |from, to, act: ActivationKind| ConvNormAct::new(context.spec(from, to, 1), norm, act, None, device);
        // The last depthwise convolution has no filter in timm.
        let depthwise = |channels: usize, kernel: usize, stride: usize, act: ActivationKind, may_filter: bool| {
            let filter = context.config.anti_aliasing.filter(|_| may_filter);
            let spec = context.spec(channels, channels, kernel).groups(groups(block.group_size.unwrap_or(1), channels));
            (kernel > 0).then(|| ConvNormAct::new(spec.stride(stride), norm, act, filter, device))
        };
        // The stride is that of the middle convolution, else of the first, else of the last.
        let start_stride = if middle > 0 { 1 } else { block.stride };
        let end_stride = if middle > 0 || block.start_kernel > 0 { 1 } else { block.stride };
        Universal {
            dw_start: depthwise(input, block.start_kernel, start_stride, ActivationKind::Identity, true),
            pw_exp: pointwise(input, hidden, act),
            dw_mid: depthwise(hidden, middle, block.stride, act, true),
            se: Squeeze::init(context.config, block, act, device),
            pw_proj: pointwise(hidden, output, ActivationKind::Identity),
            dw_end: depthwise(output, block.end_kernel, end_stride, ActivationKind::Identity, false),
            layer_scale: context.config.layer_scale.then(|| LayerScale::new(output, device)),
            residual: block.residual,
        }
    }

    /// Runs the block on `[batch, channels, rows, columns]`; `factors` is its drop-path mask, `[batch]`.
    pub(super) fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let (branch, is_residual) = match self {
            Self::Inverted(block) => (block.branch(x.clone()), block.residual),
            Self::Separable(block) => (block.branch(x.clone()), block.residual),
            Self::Edge(block) => (block.branch(x.clone()), block.residual),
            Self::Convolution(block) => {
                let branch = block.bn1.forward(block.conv.forward(x.clone()));
                (filtered(branch, block.filter), block.residual)
            }
            Self::Universal(block) => (block.branch(x.clone()), block.residual),
            Self::Attention(block) => (block.branch(x.clone()), block.is_residual()),
        };
        if is_residual { x + drop_branch(branch, factors) } else { branch }
    }

    /// Follows shape and cost.
    pub(super) fn trace(&self, trace: &mut Trace) {
        match self {
            Self::Inverted(block) => {
                if let Some(routing) = &block.routing_fn {
                    let [from, to] = routing.weight.lazy_shape().dims();
                    trace.multiply_adds += (from * to) as u64;
                }
                block.conv_pw.trace(trace);
                block.conv_dw.trace(trace);
                trace_filter(block.filter, trace);
                Squeeze::trace(block.se.as_ref(), trace);
                block.conv_pwl.trace(trace);
            }
            Self::Separable(block) => {
                block.conv_dw.trace(trace);
                trace_filter(block.filter, trace);
                Squeeze::trace(block.se.as_ref(), trace);
                block.conv_pw.trace(trace);
            }
            Self::Edge(block) => {
                trace.conv(&block.conv_exp);
                trace_filter(block.filter, trace);
                Squeeze::trace(block.se.as_ref(), trace);
                trace.conv(&block.conv_pwl);
            }
            Self::Convolution(block) => {
                trace.conv(&block.conv);
                trace_filter(block.filter, trace);
            }
            Self::Universal(block) => {
                for conv in block.dw_start.iter().chain([&block.pw_exp]).chain(&block.dw_mid) {
                    trace_conv(conv, trace);
                }
                Squeeze::trace(block.se.as_ref(), trace);
                for conv in [&block.pw_proj].into_iter().chain(&block.dw_end) {
                    trace_conv(conv, trace);
                }
            }
            Self::Attention(block) => block.trace(trace),
        }
    }
}

impl Inverted {
    fn branch(&self, x: Tensor<4>) -> Tensor<4> {
        let routing = self.routing_fn.as_ref().map(|routing| {
            let mean: Tensor<2> = x.clone().mean_dim(3).mean_dim(2).reshape([x.dims()[0], x.dims()[1]]);
            sigmoid(routing.forward(mean))
        });
        let routing = routing.as_ref();
        let x = self.bn1.forward(self.conv_pw.forward(x, routing));
        let x = self.bn2.forward(self.conv_dw.forward(x, routing));
        let x = Squeeze::apply(self.se.as_ref(), filtered(x, self.filter));
        self.bn3.forward(self.conv_pwl.forward(x, routing))
    }
}

impl Separable {
    fn branch(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.bn1.forward(self.conv_dw.forward(x, None));
        let x = Squeeze::apply(self.se.as_ref(), filtered(x, self.filter));
        self.bn2.forward(self.conv_pw.forward(x, None))
    }
}

impl Edge {
    fn branch(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.bn1.forward(self.conv_exp.forward(x));
        let x = Squeeze::apply(self.se.as_ref(), filtered(x, self.filter));
        self.bn2.forward(self.conv_pwl.forward(x))
    }
}

impl Universal {
    fn branch(&self, x: Tensor<4>) -> Tensor<4> {
        let through = |conv: &Option<ConvNormAct>, x: Tensor<4>| match conv {
            Some(conv) => conv.forward(x),
            None => x,
        };
        let x = self.pw_exp.forward(through(&self.dw_start, x));
        let x = Squeeze::apply(self.se.as_ref(), through(&self.dw_mid, x));
        let x = through(&self.dw_end, self.pw_proj.forward(x));
        match &self.layer_scale {
            Some(scale) => scale.forward(x),
            None => x,
        }
    }
}
