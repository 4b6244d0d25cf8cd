//! The residual blocks of ordinary ResNets, and their shortcuts.

use super::super::parts::{ActivationKind, AntiAlias, AverageDown, ChannelAttention, Conv, NormAct, drop_branch};
use burn::module::Module;
use burn::tensor::Tensor;

/// A residual block: a basic block of two convolutions, or a bottleneck block of three.
#[derive(Module, Debug)]
pub struct PlainBlock {
    /// First convolution: 3×3 in a basic block, 1×1 in a bottleneck.
    pub conv1: Conv,
    /// Norm and activation after `conv1`.
    pub bn1: NormAct,
    /// Second convolution, 3×3.
    pub conv2: Conv,
    /// Norm after `conv2`, with an activation in a bottleneck.
    pub bn2: NormAct,
    /// Third convolution, 1×1; only in a bottleneck.
    pub conv3: Option<Conv>,
    /// Norm after `conv3`; only in a bottleneck.
    pub bn3: Option<NormAct>,
    /// Channel attention at the end of the branch.
    pub se: Option<ChannelAttention>,
    /// Projection shortcut, where the block's output has another shape than its input.
    pub downsample: Option<Shortcut>,
    #[module(skip)]
    pub(super) activation: ActivationKind,
    /// Filter that takes the place of the stride.
    #[module(skip)]
    pub(super) anti_alias: Option<AntiAlias>,
}

/// A projection shortcut around a residual block.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "few blocks have a projection")]
pub enum Shortcut {
    /// A strided convolution.
    Skip((Conv, NormAct)),
    /// Average pooling, then a 1×1 convolution.
    Average((AverageDown, Conv, NormAct)),
}

/// Side of the map and multiply-adds so far, on the way through the layers of a network.
pub(in crate::arch) struct Walk {
    pub side: usize,
    pub multiply_adds: u64,
}

impl Walk {
    pub fn conv(&mut self, conv: &Conv) {
        self.multiply_adds += conv.spec().multiply_adds(self.side);
        self.side = conv.spec().out_side(self.side);
    }

    pub(super) fn filter(&mut self, filter: AntiAlias, channels: usize) {
        self.multiply_adds += filter.multiply_adds(channels, self.side);
        self.side = filter.out_side(self.side);
    }
}

impl Shortcut {
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Skip((conv, norm)) => norm.forward(conv.forward(x)),
            Self::Average((pool, conv, norm)) => norm.forward(conv.forward(pool.forward(x))),
        }
    }

    pub(super) fn multiply_adds(&self, side: usize) -> u64 {
        match self {
            Self::Skip((conv, _)) => conv.spec().multiply_adds(side),
            Self::Average((pool, conv, _)) => conv.spec().multiply_adds(pool.out_side(side)),
        }
    }
}

impl PlainBlock {
    /// Runs the block on `[batch, channels, rows, columns]`; `factors` is its drop-path mask, `[batch]`.
    pub(super) fn forward(&self, x: Tensor<4>, factors: Option<&Tensor<1>>) -> Tensor<4> {
        let filter = |x: Tensor<4>| match self.anti_alias {
            Some(filter) => filter.forward(x),
            None => x,
        };
        let first = self.bn1.forward(self.conv1.forward(x.clone()));
        let mut branch = match (&self.conv3, &self.bn3) {
            (Some(conv), Some(norm)) => {
                let second = filter(self.bn2.forward(self.conv2.forward(first)));
                norm.forward(conv.forward(second))
            }
            _ => self.bn2.forward(self.conv2.forward(filter(first))),
        };
        if let Some(attention) = &self.se {
            branch = attention.forward(branch);
        }
        let shortcut = self.downsample.as_ref().map_or(x.clone(), |way| way.forward(x));
        self.activation.forward(shortcut + drop_branch(branch, factors))
    }

    pub(super) fn walk(&self, walk: &mut Walk) {
        walk.multiply_adds += self.downsample.as_ref().map_or(0, |way| way.multiply_adds(walk.side));
        let filtered = if self.conv3.is_some() { &self.conv2 } else { &self.conv1 };
        for conv in [&self.conv1, &self.conv2].into_iter().chain(&self.conv3) {
            walk.conv(conv);
            if let Some(filter) = self.anti_alias.filter(|_| std::ptr::eq(conv, filtered)) {
                walk.filter(filter, conv.spec().to);
            }
        }
        walk.multiply_adds += self.se.as_ref().map_or(0, |attention| attention.multiply_adds(walk.side));
    }
}
