//! Residual blocks with another layer in place of a 3×3 convolution: those of Res2Net, ResNeSt and SKNet.

use super::super::parts::{
    ActivationKind, ChannelAttention, Conv, ConvNormAct, NormAct, avg_pool, drop_branch, global_mean,
};
use super::block::{Shortcut, Walk};
use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::{sigmoid, softmax};

/// A bottleneck of Res2Net: the channels are divided into parts; each part but the last is convolved together with the
/// output of the part before it.
#[derive(Module, Debug)]
pub struct MultiScaleBlock {
    /// 1×1 convolution.
    pub conv1: Conv,
    /// Norm and activation after `conv1`.
    pub bn1: NormAct,
    /// 3×3 convolutions of the parts.
    pub convs: Vec<Conv>,
    /// Norms and activations after `convs`.
    pub bns: Vec<NormAct>,
    /// 1×1 convolution.
    pub conv3: Conv,
    /// Norm after `conv3`.
    pub bn3: NormAct,
    /// Channel attention at the end of the branch.
    pub se: Option<ChannelAttention>,
    /// Projection shortcut. A block with it convolves the parts apart, and pools the last one.
    pub downsample: Option<Shortcut>,
    pub(super) stride: usize,
    #[module(skip)]
    pub(super) activation: ActivationKind,
}

/// A bottleneck of ResNeSt.
#[derive(Module, Debug)]
pub struct SplitBlock {
    /// 1×1 convolution.
    pub conv1: Conv,
    /// Norm and activation after `conv1`.
    pub bn1: NormAct,
    /// Split attention.
    pub conv2: SplitAttention,
    /// 1×1 convolution.
    pub conv3: Conv,
    /// Norm after `conv3`.
    pub bn3: NormAct,
    /// Projection shortcut.
    pub downsample: Option<Shortcut>,
    pub(super) stride: usize,
    pub(super) pool_first: bool,
    #[module(skip)]
    pub(super) activation: ActivationKind,
}

/// Split attention: `radix` grouped convolutions, whose outputs are summed with weights that follow from their means.
#[derive(Module, Debug)]
pub struct SplitAttention {
    /// All convolutions in one, with `radix` times the channels.
    pub conv: Conv,
    /// Norm and activation after `conv`.
    pub bn0: NormAct,
    /// First layer of the attention.
    pub fc1: Conv,
    /// Norm and activation after `fc1`.
    pub bn1: NormAct,
    /// Second layer of the attention.
    pub fc2: Conv,
    pub(super) radix: usize,
    pub(super) groups: usize,
}

/// A block of SKNet, basic or bottleneck.
#[derive(Module, Debug)]
pub struct SelectiveBlock {
    /// First layer: the selective kernel of a basic block, or a 1×1 convolution.
    pub conv1: SelectiveConv,
    /// Second layer: the selective kernel of a bottleneck, or a 3×3 convolution.
    pub conv2: SelectiveConv,
    /// Last layer of a bottleneck.
    pub conv3: Option<ConvNormAct>,
    /// Channel attention at the end of the branch.
    pub se: Option<ChannelAttention>,
    /// Projection shortcut.
    pub downsample: Option<Shortcut>,
    #[module(skip)]
    pub(super) activation: ActivationKind,
}

/// A layer of a [`SelectiveBlock`].
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a block has few layers")]
pub enum SelectiveConv {
    /// A convolution.
    Plain(ConvNormAct),
    /// A selective kernel.
    Kernel(SelectiveKernel),
}

/// Two convolutions, one of them dilated, whose outputs are summed with weights per channel that follow from their
/// means.
#[derive(Module, Debug)]
pub struct SelectiveKernel {
    /// The convolutions.
    pub paths: Vec<ConvNormAct>,
    /// The weights.
    pub attn: SelectiveAttention,
    pub(super) split_input: bool,
}

/// The weights of a [`SelectiveKernel`].
#[derive(Module, Debug)]
pub struct SelectiveAttention {
    /// To the hidden channels.
    pub fc_reduce: Conv,
    /// Norm and activation after `fc_reduce`.
    pub bn: NormAct,
    /// To one weight per convolution and channel.
    pub fc_select: Conv,
}

fn attend(layer: Option<&ChannelAttention>, x: Tensor<4>) -> Tensor<4> {
    match layer {
        Some(layer) => layer.forward(x),
        None => x,
    }
}

/// Adds the shortcut of a block's input `x` to its branch.
fn added(x: Tensor<4>, downsample: Option<&Shortcut>, branch: Tensor<4>) -> Tensor<4> {
    match downsample {
        Some(way) => way.forward(x) + branch,
        None => x + branch,
    }
}

fn walk_shortcut(downsample: Option<&Shortcut>, walk: &mut Walk) {
    walk.multiply_adds += downsample.map_or(0, |way| way.multiply_adds(walk.side));
}

impl MultiScaleBlock {
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let all = self.bn1.forward(self.conv1.forward(x.clone()));
        let parts = all.chunk(self.convs.len() + 1, 1);
        let projects = self.downsample.is_some();
        let mut outputs: Vec<Tensor<4>> = Vec::with_capacity(parts.len());
        for (part, (conv, norm)) in parts.iter().zip(self.convs.iter().zip(&self.bns)) {
            let input = match outputs.last() {
                Some(before) if !projects => before.clone() + part.clone(),
                _ => part.clone(),
            };
            outputs.push(norm.forward(conv.forward(input)));
        }
        if let Some(last) = parts.last().cloned() {
            outputs.push(if projects { avg_pool(last, 3, self.stride, 1, true, false) } else { last });
        }
        let branch = attend(self.se.as_ref(), self.bn3.forward(self.conv3.forward(Tensor::cat(outputs, 1))));
        self.activation.forward(added(x, self.downsample.as_ref(), branch))
    }

    pub(super) fn walk(&self, walk: &mut Walk) {
        walk_shortcut(self.downsample.as_ref(), walk);
        walk.conv(&self.conv1);
        walk.multiply_adds += self.convs.iter().map(|conv| conv.spec().multiply_adds(walk.side)).sum::<u64>();
        walk.side = walk.side.div_ceil(self.stride);
        walk.conv(&self.conv3);
        walk.multiply_adds += self.se.as_ref().map_or(0, |layer| layer.multiply_adds(walk.side));
    }
}

impl SplitBlock {
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let pool = |x: Tensor<4>, here: bool| {
            if here && self.stride > 1 { avg_pool(x, 3, self.stride, 1, true, false) } else { x }
        };
        let branch = pool(self.bn1.forward(self.conv1.forward(x.clone())), self.pool_first);
        let branch = pool(self.conv2.forward(branch), !self.pool_first);
        let branch = self.bn3.forward(self.conv3.forward(branch));
        self.activation.forward(added(x, self.downsample.as_ref(), branch))
    }

    pub(super) fn walk(&self, walk: &mut Walk) {
        walk_shortcut(self.downsample.as_ref(), walk);
        walk.conv(&self.conv1);
        let half = walk.side.div_ceil(self.stride);
        if self.pool_first {
            walk.side = half;
        }
        walk.conv(&self.conv2.conv);
        walk.side = half;
        let SplitAttention { fc1, fc2, .. } = &self.conv2;
        walk.multiply_adds += fc1.spec().multiply_adds(1) + fc2.spec().multiply_adds(1);
        walk.conv(&self.conv3);
    }
}

impl SplitAttention {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.bn0.forward(self.conv.forward(x));
        let [batch, all, rows, columns] = x.dims();
        let (radix, each) = (self.radix, all / self.radix);
        let splits: Tensor<5> = x.reshape([batch, radix, each, rows, columns]);
        let sum: Tensor<4> = splits.clone().sum_dim(1).reshape([batch, each, rows, columns]);
        let hidden = self.bn1.forward(self.fc1.forward(global_mean(sum)));
        let scores = self.fc2.forward(hidden);
        let weights: Tensor<5> = if radix > 1 {
            let scores: Tensor<4> = scores.reshape([batch, self.groups, radix, each / self.groups]);
            softmax(scores.swap_dims(1, 2), 1).reshape([batch, radix, each, 1, 1])
        } else {
            sigmoid(scores).reshape([batch, 1, each, 1, 1])
        };
        (splits * weights).sum_dim(1).reshape([batch, each, rows, columns])
    }
}

impl SelectiveBlock {
    pub(super) fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let mut branch = self.conv2.forward(self.conv1.forward(x.clone()));
        if let Some(conv) = &self.conv3 {
            branch = conv.forward(branch);
        }
        let branch = drop_branch(attend(self.se.as_ref(), branch), factors);
        self.activation.forward(added(x, self.downsample.as_ref(), branch))
    }

    pub(super) fn walk(&self, walk: &mut Walk) {
        walk_shortcut(self.downsample.as_ref(), walk);
        self.conv1.walk(walk);
        self.conv2.walk(walk);
        walk.multiply_adds += self.conv3.as_ref().map_or(0, |conv| conv.multiply_adds(walk.side));
        walk.multiply_adds += self.se.as_ref().map_or(0, |layer| layer.multiply_adds(walk.side));
    }
}

impl SelectiveConv {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Plain(conv) => conv.forward(x),
            Self::Kernel(kernel) => kernel.forward(x),
        }
    }

    fn walk(&self, walk: &mut Walk) {
        let convs = match self {
            Self::Plain(conv) => std::slice::from_ref(conv),
            Self::Kernel(kernel) => {
                let SelectiveAttention { fc_reduce, fc_select, .. } = &kernel.attn;
                walk.multiply_adds += fc_reduce.spec().multiply_adds(1) + fc_select.spec().multiply_adds(1);
                &kernel.paths
            }
        };
        walk.multiply_adds += convs.iter().map(|conv| conv.multiply_adds(walk.side)).sum::<u64>();
        walk.side = convs.first().map_or(walk.side, |conv| conv.out_side(walk.side));
    }
}

impl SelectiveKernel {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let count = self.paths.len();
        let inputs = if self.split_input { x.chunk(count, 1) } else { vec![x; count] };
        let outputs: Vec<Tensor<4>> = self.paths.iter().zip(inputs).map(|(path, input)| path.forward(input)).collect();
        let outputs: Tensor<5> = Tensor::stack(outputs, 1);
        let [batch, _, channels, rows, columns] = outputs.dims();
        let sum: Tensor<4> = outputs.clone().sum_dim(1).reshape([batch, channels, rows, columns]);
        let hidden = self.attn.bn.forward(self.attn.fc_reduce.forward(global_mean(sum)));
        let scores: Tensor<5> = self.attn.fc_select.forward(hidden).reshape([batch, count, channels, 1, 1]);
        (outputs * softmax(scores, 1)).sum_dim(1).reshape([batch, channels, rows, columns])
    }
}
