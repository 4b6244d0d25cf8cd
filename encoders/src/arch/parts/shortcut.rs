//! Projection shortcuts around residual blocks whose output has another shape than their input.

use super::avg_pool;
use burn::module::Module;
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// The kind of shortcut where a block changes the shape of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ShortcutKind {
    /// A strided 1×1 convolution.
    #[default]
    Convolution,
    /// Average pooling, then a 1×1 convolution.
    Average,
    /// No shortcut: such a block is not residual.
    None,
}

impl ShortcutKind {
    /// timm's names of shortcuts.
    pub const TIMM: [(&str, Self); 3] = [("conv1x1", Self::Convolution), ("avg", Self::Average), ("", Self::None)];
}

/// Average pooling of 2×2 positions that halves a map, rounding up; the identity if its stride is 1.
#[derive(Module, Debug)]
pub struct AverageDown {
    stride: usize,
}

impl AverageDown {
    /// Builds the pooling for a block of stride 1 or 2.
    pub fn new(stride: usize) -> Self {
        Self { stride }
    }

    /// Pools `[batch, channels, rows, columns]`; what a window at the border lacks does not count.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        if self.stride == 1 { x } else { avg_pool(x, 2, self.stride, 0, false, true) }
    }

    /// Side of the output for a map of `side`.
    pub fn out_side(&self, side: usize) -> usize {
        side.div_ceil(self.stride)
    }
}
