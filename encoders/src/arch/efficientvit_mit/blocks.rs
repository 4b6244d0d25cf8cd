//! The blocks of EfficientViTs.

use crate::arch::parts::{ActivationKind, Conv, ConvSpec, FrozenBatchNorm, Trace};
use burn::module::Module;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

/// A convolution with an optional norm and an activation.
#[derive(Module, Debug)]
pub struct MitConv {
    /// The convolution.
    pub conv: Conv,
    /// Batch norm after `conv`.
    pub norm: Option<FrozenBatchNorm>,
    #[module(skip)]
    activation: ActivationKind,
}

/// Hyper-parameters of a block of convolutions.
pub(super) struct BlockSpec {
    /// Input channels.
    pub from: usize,
    /// Output channels.
    pub to: usize,
    /// Stride.
    pub stride: usize,
    /// Hidden channels divided by input channels.
    pub expand_ratio: usize,
    /// Whether full convolutions take the place of depthwise ones.
    pub dense: bool,
    /// Whether only the last convolution has a norm; the others have biases instead.
    pub fewer_norms: bool,
    /// Activation after all convolutions but the last.
    pub activation: ActivationKind,
    /// Epsilon of the norms.
    pub norm_eps: f64,
}

/// A block of convolutions.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum LocalBlock {
    /// A depthwise, then a pointwise convolution.
    Separable(Separable),
    /// Two full convolutions.
    Double(Double),
    /// Inverted residual block.
    Inverted(Inverted),
    /// Inverted residual block with a full convolution as expansion.
    Fused(Fused),
}

/// A depthwise, then a pointwise convolution.
#[derive(Module, Debug)]
pub struct Separable {
    /// Depthwise convolution.
    pub depth_conv: MitConv,
    /// Pointwise convolution.
    pub point_conv: MitConv,
}

/// Two full convolutions.
#[derive(Module, Debug)]
pub struct Double {
    /// First convolution.
    pub conv1: MitConv,
    /// Second convolution.
    pub conv2: MitConv,
}

/// Inverted residual block.
#[derive(Module, Debug)]
pub struct Inverted {
    /// Pointwise expansion.
    pub inverted_conv: MitConv,
    /// Depthwise convolution.
    pub depth_conv: MitConv,
    /// Pointwise projection.
    pub point_conv: MitConv,
}

/// Inverted residual block with a full convolution as expansion.
#[derive(Module, Debug)]
pub struct Fused {
    /// Expansion.
    pub spatial_conv: MitConv,
    /// Pointwise projection.
    pub point_conv: MitConv,
}

/// A block of convolutions around which there may be a shortcut.
#[derive(Module, Debug)]
pub struct Residual {
    /// The convolutions.
    pub main: LocalBlock,
    residual: bool,
}

/// A block of a stage.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum MitBlock {
    /// Convolutions only.
    Local(Residual),
    /// Linear attention, then convolutions.
    Attention(AttentionBlock),
}

/// Residual linear attention, then a residual inverted block.
#[derive(Module, Debug)]
pub struct AttentionBlock {
    /// Linear attention.
    pub context_module: Context,
    /// Inverted residual block.
    pub local_module: Residual,
}

/// A shortcut around linear attention.
#[derive(Module, Debug)]
pub struct Context {
    /// Linear attention.
    pub main: LiteAttention,
}

/// Multi-scale linear attention: `relu(q) · (relu(k)ᵀ v)`, divided by `relu(q) · relu(k)ᵀ 1`.
#[derive(Module, Debug)]
pub struct LiteAttention {
    /// Queries, keys and values of all heads.
    pub qkv: MitConv,
    /// One pair of convolutions (depthwise, then pointwise in groups) per scale, which aggregate neighbouring
    /// positions.
    pub aggreg: Vec<(Conv, Conv)>,
    /// Output projection.
    pub proj: MitConv,
    head_dim: usize,
}

impl MitConv {
    /// Builds the layers with placeholder weights; without `norm_eps` there is no norm.
    pub(super) fn new(spec: ConvSpec, norm_eps: Option<f64>, activation: ActivationKind, device: &Device) -> Self {
        let norm = norm_eps.map(|eps| FrozenBatchNorm::new(spec.to, eps, device));
        Self { conv: spec.init(device), norm, activation }
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mut x = self.conv.forward(x);
        if let Some(norm) = &self.norm {
            x = norm.forward(x);
        }
        self.activation.forward(x)
    }

    pub(super) fn trace(&self, trace: &mut Trace) {
        trace.conv(&self.conv);
    }
}

impl LocalBlock {
    fn new(spec: &BlockSpec, device: &Device) -> Self {
        let BlockSpec { from, to, stride, expand_ratio, dense, fewer_norms, activation, norm_eps } = *spec;
        let hidden = from * expand_ratio;
        let inner = |conv: ConvSpec| {
            let norm = (!fewer_norms).then_some(norm_eps);
            MitConv::new(conv.bias(fewer_norms), norm, activation, device)
        };
        let last = |conv: ConvSpec| MitConv::new(conv.bias(false), Some(norm_eps), ActivationKind::Identity, device);
        match (expand_ratio, dense) {
            (1, false) => Self::Separable(Separable {
                depth_conv: inner(ConvSpec::depthwise(from, 3).stride(stride)),
                point_conv: last(ConvSpec::new(from, to, 1)),
            }),
            (1, true) => Self::Double(Double {
                conv1: inner(ConvSpec::new(from, from, 3).stride(stride)),
                conv2: last(ConvSpec::new(from, to, 3)),
            }),
            (_, false) => Self::Inverted(Inverted {
                inverted_conv: inner(ConvSpec::new(from, hidden, 1)),
                depth_conv: inner(ConvSpec::depthwise(hidden, 3).stride(stride)),
                point_conv: last(ConvSpec::new(hidden, to, 1)),
            }),
            (_, true) => Self::Fused(Fused {
                spatial_conv: inner(ConvSpec::new(from, hidden, 3).stride(stride)),
                point_conv: last(ConvSpec::new(hidden, to, 1)),
            }),
        }
    }

    /// The convolutions in the order in which they are applied.
    fn convs(&self) -> Vec<&MitConv> {
        match self {
            Self::Separable(block) => vec![&block.depth_conv, &block.point_conv],
            Self::Double(block) => vec![&block.conv1, &block.conv2],
            Self::Inverted(block) => vec![&block.inverted_conv, &block.depth_conv, &block.point_conv],
            Self::Fused(block) => vec![&block.spatial_conv, &block.point_conv],
        }
    }
}

impl Residual {
    pub(super) fn new(spec: &BlockSpec, residual: bool, device: &Device) -> Self {
        Self { main: LocalBlock::new(spec, device), residual }
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let branch = self.main.convs().into_iter().fold(x.clone(), |x, conv| conv.forward(x));
        if self.residual { branch + x } else { branch }
    }

    pub(super) fn trace(&self, trace: &mut Trace) {
        self.main.convs().into_iter().for_each(|conv| conv.trace(trace));
    }
}

impl MitBlock {
    /// Builds a block of linear attention and convolutions.
    pub(super) fn attention(spec: &BlockSpec, head_dim: usize, device: &Device) -> Self {
        let channels = spec.to;
        // Queries, keys and values have as many channels as the input.
        let all = 3 * channels;
        let heads = channels / head_dim;
        let plain = |spec: ConvSpec| spec.bias(false).init(device);
        let none = ActivationKind::Identity;
        let attention = LiteAttention {
            qkv: MitConv::new(ConvSpec::new(channels, all, 1).bias(false), None, none, device),
            aggreg: vec![(plain(ConvSpec::depthwise(all, 5)), plain(ConvSpec::new(all, all, 1).groups(3 * heads)))],
            proj: MitConv::new(ConvSpec::new(2 * channels, channels, 1).bias(false), Some(spec.norm_eps), none, device),
            head_dim,
        };
        Self::Attention(AttentionBlock {
            context_module: Context { main: attention },
            local_module: Residual::new(spec, true, device),
        })
    }

    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Local(block) => block.forward(x),
            Self::Attention(block) => {
                let x = block.context_module.main.forward(x.clone()) + x;
                block.local_module.forward(x)
            }
        }
    }

    pub(super) fn trace(&self, trace: &mut Trace) {
        match self {
            Self::Local(block) => block.trace(trace),
            Self::Attention(block) => {
                block.context_module.main.trace(trace);
                block.local_module.trace(trace);
            }
        }
    }
}

impl LiteAttention {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, _, rows, columns] = x.dims();
        let (positions, width) = (rows * columns, self.head_dim);
        let qkv = self.qkv.forward(x);
        let mut scales = vec![qkv.clone()];
        scales
            .extend(self.aggreg.iter().map(|(depthwise, pointwise)| pointwise.forward(depthwise.forward(qkv.clone()))));
        let all = Tensor::cat(scales, 1);
        let heads = all.dims()[1] / (3 * width);
        let all: Tensor<4> = all.reshape([batch, heads, 3 * width, positions]);
        // Queries, keys and values, each [batch, heads, head_dim, positions].
        let part = |index: usize| all.clone().narrow(2, index * width, width);
        let (q, k) = (relu(part(0)), relu(part(1)));
        let ones = Tensor::ones([batch, heads, 1, positions], &q.device());
        let v = Tensor::cat(vec![part(2), ones], 2);
        let mixed = v.matmul(k.transpose()).matmul(q);
        let sums = mixed.clone().narrow(2, width, 1).add_scalar(1e-5);
        let out: Tensor<4> = (mixed.narrow(2, 0, width) / sums).reshape([batch, heads * width, rows, columns]);
        self.proj.forward(out)
    }

    fn trace(&self, trace: &mut Trace) {
        self.qkv.trace(trace);
        for (depthwise, pointwise) in &self.aggreg {
            trace.beside(depthwise);
            trace.beside(pointwise);
        }
        let heads = self.proj.conv.spec().from / self.head_dim;
        trace.multiply_adds += (2 * heads * trace.positions() * self.head_dim * (self.head_dim + 1)) as u64;
        self.proj.trace(trace);
    }
}
