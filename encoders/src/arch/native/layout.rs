//! The order of an image's tokens in windows, and their rotary angles.

use crate::operands::Rotation;
use crate::transfer;
use burgess_base::{Error, Result};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Base of the frequencies of all rotary position embeddings here.
const TEMPERATURE: f64 = 10000.0;

/// How the channels of a head are rotated by the row and column of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum NativeRotary {
    /// Channels half a head apart form a pair (`rotate_half`); the first half of the pairs is rotated by the row, the
    /// second by the column (Qwen-VL).
    Halves,
    /// Neighbouring channels form a pair; pairs are rotated by column and row in turn (MoonViT).
    Alternating,
    /// Thirds of the head are rotated by frame (0 for an image), row and column; the two channels of a neighbouring
    /// pair have different angles, as upstream (V-JEPA 2).
    Thirds,
}

impl NativeRotary {
    /// Checks that heads of `head_dim` channels can be rotated.
    pub(super) fn validate(self, head_dim: usize) -> Result<()> {
        let possible = match self {
            Self::Halves | Self::Alternating => head_dim.is_multiple_of(4),
            Self::Thirds => head_dim.is_multiple_of(2) && head_dim >= 6,
        };
        if possible {
            return Ok(());
        }
        Err(Error::usage(format!("heads of {head_dim} channels cannot have this rotary position embedding"))
            .hint("the width of a head must be a multiple of 4; for `thirds`, even and at least 6"))
    }

    /// The angle in radians of each channel for a token at `row`, `column`, after channels that form a pair were made
    /// neighbours.
    fn angles(self, row: usize, column: usize, head_dim: usize) -> Vec<f64> {
        let place = [row as f64, column as f64];
        let frequency = |j: usize, count: usize| TEMPERATURE.powf(-(j as f64) / count as f64);
        match self {
            Self::Halves => {
                let quarter = head_dim / 4;
                let pair = |i: usize| place[i / quarter] * frequency(i % quarter, quarter);
                (0..head_dim).map(|channel| pair(channel / 2)).collect()
            }
            Self::Alternating => {
                let pair = |i: usize| place[1 - i % 2] * frequency(i / 2, head_dim / 4);
                (0..head_dim).map(|channel| pair(channel / 2)).collect()
            }
            Self::Thirds => {
                let third = 2 * (head_dim / 3 / 2);
                let half = third / 2;
                let channel = |c: usize| match c / third {
                    axis @ 1..=2 => place[axis - 1] * frequency(c % third % half, half),
                    _ => 0.0,
                };
                (0..head_dim).map(channel).collect()
            }
        }
    }
}

/// Windows of equal size that follow each other in the order of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WindowRun {
    /// Number of windows.
    pub windows: usize,
    /// Tokens per window.
    pub tokens: usize,
}

/// The order of an image's tokens in which the tokens of each attention window follow each other. Windows at the right
/// and lower border may be smaller; windows of one size follow each other, so that they are one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TokenLayout {
    /// Grid of the patches, `[rows, columns]`.
    grid: [usize; 2],
    /// Row-major index of each token, in order.
    order: Vec<usize>,
    /// The windows, in order.
    pub runs: Vec<WindowRun>,
}

impl TokenLayout {
    /// The layout for windows of `window` × `window` patches; without a window, tokens are in row-major order.
    pub fn new(grid: [usize; 2], window: Option<usize>) -> Self {
        let [rows, columns] = grid;
        let Some(window) = window.filter(|window| *window > 0) else {
            return Self { grid, order: (0..rows * columns).collect(), runs: Vec::new() };
        };
        // Whole windows, then what remains at the border: start of the first window, count and length.
        let parts = |side: usize| [(0, side / window, window), (side / window * window, 1, side % window)];
        let (mut order, mut runs) = (Vec::with_capacity(rows * columns), Vec::new());
        for (top, down, height) in parts(rows) {
            for (left, across, width) in parts(columns) {
                if down * across * height * width == 0 {
                    continue;
                }
                runs.push(WindowRun { windows: down * across, tokens: height * width });
                for window in 0..down * across {
                    let (top, left) = (top + window / across * height, left + window % across * width);
                    let inner = (0..height * width).map(|i| (top + i / width) * columns + left + i % width);
                    order.extend(inner);
                }
            }
        }
        Self { grid, order, runs }
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.order.len()
    }

    /// Number of pairs of query and key within windows.
    pub fn window_pairs(&self) -> u64 {
        self.runs.iter().map(|run| (run.windows * run.tokens * run.tokens) as u64).sum()
    }

    /// Brings row-major tokens `[batch, tokens, width]` into this order.
    pub fn arrange(&self, tokens: Tensor<3>) -> Tensor<3> {
        self.select(tokens, &self.order)
    }

    /// Brings tokens in this order back into row-major order.
    pub fn restore(&self, tokens: Tensor<3>) -> Tensor<3> {
        let mut place = vec![0; self.order.len()];
        for (at, token) in self.order.iter().enumerate() {
            if let Some(place) = place.get_mut(*token) {
                *place = at;
            }
        }
        self.select(tokens, &place)
    }

    fn select(&self, tokens: Tensor<3>, indices: &[usize]) -> Tensor<3> {
        if self.runs.is_empty() {
            return tokens;
        }
        let indices: Vec<i64> = indices.iter().map(|i| *i as i64).collect();
        let count = indices.len();
        let indices = transfer::to_device::<1, Int>(TensorData::new(indices, [count]), &tokens.device());
        tokens.select(1, indices)
    }

    /// Cosines and sines of the rotary angles of all tokens, in this order.
    pub fn rotation(&self, rotary: NativeRotary, head_dim: usize, device: &Device) -> Rotation {
        let columns = self.grid[1].max(1);
        let tokens = self.order.iter();
        let angles: Vec<f64> = tokens.flat_map(|t| rotary.angles(t / columns, t % columns, head_dim)).collect();
        let tensor = |of: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|angle| of(*angle) as f32).collect();
            transfer::to_device(TensorData::new(values, [self.order.len(), head_dim]), device)
        };
        Rotation { cos: tensor(f64::cos), sin: tensor(f64::sin) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_every_token_once() {
        for (grid, sizes) in [
            ([4, 4], vec![(4, 4)]),
            ([5, 6], vec![(6, 4), (3, 2)]),
            ([3, 5], vec![(2, 4), (1, 2), (2, 2), (1, 1)]),
            ([1, 1], vec![(1, 1)]),
        ] {
            let layout = TokenLayout::new(grid, Some(2));
            let runs: Vec<_> = layout.runs.iter().map(|run| (run.windows, run.tokens)).collect();
            assert_eq!(runs, sizes, "{grid:?}");
            let mut order = layout.order.clone();
            order.sort_unstable();
            assert_eq!(order, (0..grid[0] * grid[1]).collect::<Vec<_>>(), "{grid:?}");
        }
        assert_eq!(TokenLayout::new([2, 4], Some(2)).order, [0, 1, 4, 5, 2, 3, 6, 7]);
    }

    #[test]
    fn restoring_reverses_arranging() {
        let layout = TokenLayout::new([3, 5], Some(2));
        let values: Vec<f32> = (0..30).map(|i| i as f32).collect();
        let tokens = Tensor::<3>::from_data(TensorData::new(values, [1, 15, 2]), &Device::flex());
        let again = layout.restore(layout.arrange(tokens.clone()));
        assert_eq!(again.into_data(), tokens.into_data());
    }
}
