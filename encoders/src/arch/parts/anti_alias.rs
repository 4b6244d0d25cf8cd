//! Anti-aliased subsampling (Zhang 2019, arXiv:1904.11486): a low-pass filter in place of a stride.

use burn::tensor::Tensor;
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::{AvgPoolOptions, PadMode};
use serde::{Deserialize, Serialize};

/// The low-pass filter with which feature maps are subsampled by 2; it has no parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AntiAlias {
    /// The mean of 2×2 positions; the last row and column of a map with odd sides are omitted.
    Average,
    /// The binomial filter 1-2-1 in both directions, on a map that is extended by reflection.
    Blur,
    /// As `blur`, on a map that is extended by zeros.
    BlurZeros,
}

impl AntiAlias {
    /// Filters and subsamples `[batch, channels, rows, columns]` by 2. `blur` needs at least two rows and columns.
    pub fn forward(self, x: Tensor<4>) -> Tensor<4> {
        let border = match self {
            Self::Average => return avg_pool2d(x, AvgPoolOptions::new([2, 2]).with_stride([2, 2])),
            Self::Blur => PadMode::Reflect,
            Self::BlurZeros => PadMode::Constant(0.0),
        };
        // The filter 1-2-1 is 1-1 applied twice.
        let pairs = AvgPoolOptions::new([2, 2]).with_stride([1, 1]);
        let once = avg_pool2d(x.pad((1, 1, 1, 1), border), pairs);
        avg_pool2d(once, AvgPoolOptions::new([2, 2]).with_stride([2, 2]))
    }

    /// Side of the output for a map of `side`.
    pub fn out_side(self, side: usize) -> usize {
        match self {
            Self::Average => side / 2,
            Self::Blur | Self::BlurZeros => side.div_ceil(2),
        }
    }

    /// Multiply-adds for `channels` maps of `side`; means are not counted.
    pub fn multiply_adds(self, channels: usize, side: usize) -> u64 {
        match self {
            Self::Average => 0,
            Self::Blur | Self::BlurZeros => 9 * (channels * self.out_side(side).pow(2)) as u64,
        }
    }
}
