//! The blocks of GhostNets.

use super::config::{GhostBlockConfig, GhostVersion};
use crate::arch::efficientnet::MobileSqueezeExcite;
use crate::arch::parts::{ActivationKind, Conv, ConvBn1, ConvSpec, FrozenBatchNorm, Trace, avg_pool};
use burn::module::{Initializer, Module, Param};
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Int, Tensor};

/// A convolution, a batch norm and a ReLU.
pub(super) type PointwiseAct = ConvBn1;

/// A stage of a GhostNet.
#[derive(Module, Debug)]
pub enum GhostStage {
    /// Blocks.
    Blocks(Vec<GhostBlock>),
    /// The last pointwise convolution.
    Last(Vec<PointwiseAct>),
}

/// A block: ghost module to the hidden channels, strided depthwise convolution, ghost module to the output channels.
#[derive(Module, Debug)]
pub struct GhostBlock {
    /// Expansion.
    pub ghost1: GhostModule,
    /// Depthwise convolution of stride 2.
    pub conv_dw: Option<Conv>,
    /// Batch norm after `conv_dw`.
    pub bn_dw: Option<FrozenBatchNorm>,
    /// Parallel depthwise convolutions of stride 2 (V3).
    pub dw_rpr_conv: Vec<ConvBn1>,
    /// Depthwise 1×1 convolution of stride 2 beside them (V3).
    pub dw_rpr_scale: Option<ConvBn1>,
    /// Squeeze-and-excitation.
    pub se: Option<MobileSqueezeExcite>,
    /// Projection, without activation.
    pub ghost2: GhostModule,
    /// Projection shortcut, where the output has another shape than the input.
    pub shortcut: Option<(Conv, FrozenBatchNorm, Conv, FrozenBatchNorm)>,
}

/// A ghost module, one variant per kind.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum GhostModule {
    /// A pointwise convolution, and a depthwise convolution of its output.
    Plain(PlainGhost),
    /// The same with parallel branches.
    Branched(BranchedGhost),
}

/// A pointwise convolution, and a depthwise convolution of its output.
#[derive(Module, Debug)]
pub struct PlainGhost {
    /// Pointwise convolution and its norm.
    pub primary_conv: (Conv, FrozenBatchNorm),
    /// Norm of the shortcut around `cheap_operation` (RepGhost).
    pub fusion_bn: Vec<FrozenBatchNorm>,
    /// Depthwise convolution and its norm.
    pub cheap_operation: (Conv, FrozenBatchNorm),
    /// Gate over all output channels (V2).
    pub short_conv: Option<LongRange>,
    activated: bool,
}

/// As [`PlainGhost`], with parallel branches in place of each convolution.
#[derive(Module, Debug)]
pub struct BranchedGhost {
    /// Parallel pointwise convolutions.
    pub primary_rpr_conv: Vec<ConvBn1>,
    /// Norm of the shortcut around the depthwise convolutions.
    pub cheap_rpr_skip: FrozenBatchNorm,
    /// Parallel depthwise convolutions.
    pub cheap_rpr_conv: Vec<ConvBn1>,
    /// Depthwise 1×1 convolution beside them.
    pub cheap_rpr_scale: ConvBn1,
    /// Gate over all output channels.
    pub short_conv: Option<LongRange>,
    activated: bool,
}

/// A pointwise convolution, then depthwise convolutions along rows and along columns, each with a norm.
pub type LongRange = (Conv, FrozenBatchNorm, LineConv, FrozenBatchNorm, LineConv, FrozenBatchNorm);

/// A depthwise convolution along one direction.
#[derive(Module, Debug)]
pub struct LineConv {
    /// Kernel, `[channels, 1, rows, columns]`, one of the two being 1.
    pub weight: Param<Tensor<4>>,
}

fn norm(channels: usize, device: &Device) -> FrozenBatchNorm {
    FrozenBatchNorm::new(channels, 1e-5, device)
}

impl LineConv {
    fn new(channels: usize, kernel: [usize; 2], device: &Device) -> Self {
        Self { weight: Initializer::Zeros.init([channels, 1, kernel[0], kernel[1]], device) }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [channels, _, rows, columns] = self.weight.dims();
        let options = ConvOptions::new([1, 1], [rows / 2, columns / 2], [1, 1], channels);
        conv2d(x, self.weight.val(), None, options)
    }
}

fn long_range(from: usize, to: usize, device: &Device) -> LongRange {
    (
        ConvSpec::new(from, to, 1).bias(false).init(device),
        norm(to, device),
        LineConv::new(to, [1, 5], device),
        norm(to, device),
        LineConv::new(to, [5, 1], device),
        norm(to, device),
    )
}

/// Nearest-neighbour interpolation of an axis to `size`.
fn nearest(x: Tensor<4>, axis: usize, size: usize) -> Tensor<4> {
    let from = x.dims()[axis];
    let places: Vec<i64> = (0..size).map(|i| (i * from / size.max(1)) as i64).collect();
    let places = Tensor::<1, Int>::from_ints(places.as_slice(), &x.device());
    x.select(axis, places)
}

/// Scales `out` by the gate that [`LongRange`] layers compute from `x` at half its grid.
fn gated(layers: &LongRange, x: Tensor<4>, out: Tensor<4>) -> Tensor<4> {
    let (point, norm1, across, norm2, down, norm3) = layers;
    let pooled = avg_pool(x, 2, 2, 0, true, false);
    let gate = norm1.forward(point.forward(pooled));
    let gate = norm3.forward(down.forward(norm2.forward(across.forward(gate))));
    let [_, _, rows, columns] = out.dims();
    out * nearest(nearest(sigmoid(gate), 2, rows), 3, columns)
}

fn trace_gate(layers: &LongRange, trace: &Trace) -> u64 {
    let mut gate = trace.clone();
    (gate.multiply_adds, gate.side) = (0, trace.side / 2);
    gate.conv(&layers.0);
    gate.multiply_adds + (10 * gate.channels * gate.positions()) as u64
}

impl GhostModule {
    fn new([from, to]: [usize; 2], version: GhostVersion, gate: bool, activated: bool, device: &Device) -> Self {
        // RepGhost computes all channels twice; the others compute half of them, rounded up.
        let first = if version == GhostVersion::Rep { to } else { to.div_ceil(2) };
        let point = ConvSpec::new(from, first, 1).bias(false);
        let cheap = ConvSpec::depthwise(first, 3).bias(false);
        let short_conv = gate.then(|| long_range(from, to, device));
        if version == GhostVersion::V3 {
            return Self::Branched(BranchedGhost {
                primary_rpr_conv: (0..3).map(|_| ConvBn1::new(point, device)).collect(),
                cheap_rpr_skip: norm(first, device),
                cheap_rpr_conv: (0..3).map(|_| ConvBn1::new(cheap, device)).collect(),
                cheap_rpr_scale: ConvBn1::new(ConvSpec::depthwise(first, 1).bias(false), device),
                short_conv,
                activated,
            });
        }
        let fusions = usize::from(version == GhostVersion::Rep);
        Self::Plain(PlainGhost {
            primary_conv: (point.init(device), norm(first, device)),
            fusion_bn: (0..fusions).map(|_| norm(first, device)).collect(),
            cheap_operation: (cheap.init(device), norm(first, device)),
            short_conv,
            activated,
        })
    }

    /// Maps `[batch, in, rows, columns]` to `channels` output channels.
    fn forward(&self, x: Tensor<4>, channels: usize) -> Tensor<4> {
        let act = |x: Tensor<4>, activated: bool| if activated { relu(x) } else { x };
        let (first, second, short_conv) = match self {
            Self::Plain(module) => {
                let (conv, norm) = &module.primary_conv;
                let first = act(norm.forward(conv.forward(x.clone())), module.activated);
                let (conv, norm) = &module.cheap_operation;
                let mut second = norm.forward(conv.forward(first.clone()));
                if let [fusion] = module.fusion_bn.as_slice() {
                    second = second + fusion.forward(first);
                    return act(second, module.activated);
                }
                (first, act(second, module.activated), &module.short_conv)
            }
            Self::Branched(module) => {
                let sum = |convs: &[ConvBn1], x: &Tensor<4>| {
                    convs.iter().map(|conv| conv.forward(x.clone())).reduce(|a, b| a + b)
                };
                let first = sum(&module.primary_rpr_conv, &x).unwrap_or_else(|| x.clone());
                let first = act(first, module.activated);
                let mut second = module.cheap_rpr_scale.forward(first.clone());
                second = second + module.cheap_rpr_skip.forward(first.clone());
                if let Some(branches) = sum(&module.cheap_rpr_conv, &first) {
                    second = second + branches;
                }
                (first, act(second, module.activated), &module.short_conv)
            }
        };
        let out = Tensor::cat(vec![first, second], 1).narrow(1, 0, channels);
        match short_conv {
            Some(layers) => gated(layers, x, out),
            None => out,
        }
    }

    fn trace(&self, trace: &mut Trace, channels: usize) {
        let (convs, cheap, gate): (Vec<&Conv>, Vec<&Conv>, _) = match self {
            Self::Plain(module) => (vec![&module.primary_conv.0], vec![&module.cheap_operation.0], &module.short_conv),
            Self::Branched(module) => (
                module.primary_rpr_conv.iter().map(|conv| &conv.conv).collect(),
                module.cheap_rpr_conv.iter().chain([&module.cheap_rpr_scale]).map(|conv| &conv.conv).collect(),
                &module.short_conv,
            ),
        };
        let gate = gate.as_ref().map_or(0, |layers| trace_gate(layers, trace));
        convs.into_iter().chain(cheap).for_each(|conv| trace.beside(conv));
        trace.multiply_adds += gate;
        trace.channels = channels;
    }
}

impl GhostBlock {
    /// Builds the block with placeholder weights for `from` input channels; `gate` says whether a version with gates
    /// has one here.
    pub(super) fn new(
        block: &GhostBlockConfig,
        from: usize,
        version: GhostVersion,
        gate: bool,
        device: &Device,
    ) -> Self {
        let GhostBlockConfig { kernel, hidden, channels, squeezed, stride } = *block;
        let gates = gate && matches!(version, GhostVersion::V2 | GhostVersion::V3);
        let (strided, branched) = (stride > 1, version == GhostVersion::V3);
        let depthwise = |channels, kernel| ConvSpec::depthwise(channels, kernel).stride(stride).bias(false);
        let branches = if strided && branched { 3 } else { 0 };
        let (act, sigmoid) = (ActivationKind::Relu, ActivationKind::HardSigmoid);
        Self {
            ghost1: GhostModule::new([from, hidden], version, gates, true, device),
            conv_dw: (strided && !branched).then(|| depthwise(hidden, kernel).init(device)),
            bn_dw: (strided && !branched).then(|| norm(hidden, device)),
            dw_rpr_conv: (0..branches).map(|_| ConvBn1::new(depthwise(hidden, kernel), device)).collect(),
            dw_rpr_scale: (branches > 0).then(|| ConvBn1::new(depthwise(hidden, 1), device)),
            se: (squeezed > 0).then(|| MobileSqueezeExcite::new(hidden, squeezed, act, sigmoid, device)),
            ghost2: GhostModule::new([hidden, channels], version, false, false, device),
            shortcut: (strided || from != channels).then(|| {
                (
                    depthwise(from, kernel).init(device),
                    norm(from, device),
                    ConvSpec::new(from, channels, 1).bias(false).init(device),
                    norm(channels, device),
                )
            }),
        }
    }

    fn forward(&self, x: Tensor<4>, config: &GhostBlockConfig) -> Tensor<4> {
        let mut out = self.ghost1.forward(x.clone(), config.hidden);
        if let (Some(conv), Some(norm)) = (&self.conv_dw, &self.bn_dw) {
            out = norm.forward(conv.forward(out));
        }
        if let Some(scale) = &self.dw_rpr_scale {
            let branches = self.dw_rpr_conv.iter().map(|conv| conv.forward(out.clone()));
            out = branches.fold(scale.forward(out.clone()), |sum, branch| sum + branch);
        }
        if let Some(layer) = &self.se {
            out = layer.forward(out);
        }
        let out = self.ghost2.forward(out, config.channels);
        match &self.shortcut {
            None => out + x,
            Some((depthwise, norm1, point, norm2)) => {
                out + norm2.forward(point.forward(norm1.forward(depthwise.forward(x))))
            }
        }
    }

    fn trace(&self, trace: &mut Trace, config: &GhostBlockConfig) {
        if let Some((depthwise, _, point, _)) = &self.shortcut {
            let mut beside = trace.clone();
            beside.multiply_adds = 0;
            beside.conv(depthwise);
            beside.conv(point);
            trace.multiply_adds += beside.multiply_adds;
        }
        self.ghost1.trace(trace, config.hidden);
        let side = trace.side.div_ceil(config.stride);
        let strided = self.conv_dw.iter().chain(self.dw_rpr_conv.iter().map(|conv| &conv.conv));
        strided.chain(self.dw_rpr_scale.iter().map(|conv| &conv.conv)).for_each(|conv| trace.beside(conv));
        trace.side = side;
        if let Some(layer) = &self.se {
            layer.trace(trace);
        }
        self.ghost2.trace(trace, config.channels);
    }
}

impl GhostStage {
    /// Runs the stage, whose blocks have the hyper-parameters `blocks`.
    pub(super) fn forward(&self, x: Tensor<4>, blocks: &[GhostBlockConfig]) -> Tensor<4> {
        match self {
            Self::Blocks(built) => built.iter().zip(blocks).fold(x, |x, (block, config)| block.forward(x, config)),
            Self::Last(convs) => convs.iter().fold(x, |x, conv| relu(conv.forward(x))),
        }
    }

    /// Follows shape and cost.
    pub(super) fn trace(&self, trace: &mut Trace, blocks: &[GhostBlockConfig]) {
        match self {
            Self::Blocks(built) => built.iter().zip(blocks).for_each(|(block, config)| block.trace(trace, config)),
            Self::Last(convs) => convs.iter().for_each(|conv| conv.trace(trace)),
        }
    }
}
