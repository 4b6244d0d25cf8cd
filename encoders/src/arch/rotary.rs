//! Rotary positions in two dimensions, in the variants of EVA-02, RoPE-ViT, the Perception Encoder and DINOv3 (timm's
//! `RotaryEmbeddingCat` and `RotaryEmbeddingDinoV3`).

use super::fields::is_default;
use crate::attention::Rotation;
use burgess_base::{Error, Result};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// How queries and keys are turned. A quarter of a head's channels gives the frequencies `temperature`^(-j / quarter);
/// one half of the pairs of channels turns with the row, the other with the column. Tokens before the patches do not turn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotary {
    /// Coordinates are those of a grid of this side laid over the picture (EVA-02: that of its pretraining). Default: the
    /// picture's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<usize>,
    /// The coordinate of the first row and column. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub offset: f64,
    /// Default 10000.
    #[serde(default = "temperature", skip_serializing_if = "is_usual")]
    pub temperature: f64,
    /// Columns turn the first half of the pairs, rows the second. Default: the other way round.
    #[serde(default, skip_serializing_if = "is_default")]
    pub columns_first: bool,
    /// Coordinates are those of the patches' centres in a picture from -1 to 1, and frequencies count whole turns (DINOv3).
    /// Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    pub centred: bool,
    /// The channels of a pair lie half a head apart. Default: they are neighbours.
    #[serde(default, skip_serializing_if = "is_default")]
    pub halves: bool,
}

const TEMPERATURE: f64 = 10000.0;

fn temperature() -> f64 {
    TEMPERATURE
}

// serde hands a reference to it.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_usual(value: &f64) -> bool {
    *value == TEMPERATURE
}

impl Default for Rotary {
    fn default() -> Self {
        let (grid, offset, columns_first, centred, halves) = (None, 0.0, false, false, false);
        Self { grid, offset, temperature: TEMPERATURE, columns_first, centred, halves }
    }
}

impl Rotary {
    /// Says what is wrong with the numbers, if anything.
    pub(super) fn validate(&self, head_dim: usize) -> Result<()> {
        let usable = self.temperature > 0.0 && self.temperature.is_finite() && self.offset.is_finite();
        if !usable || !head_dim.is_multiple_of(4) || self.grid == Some(0) {
            return Err(Error::usage(format!(
                "rotary positions cannot have grid {:?}, offset {}, temperature {} and heads of {head_dim} channels",
                self.grid, self.offset, self.temperature
            ))
            .hint("grid and temperature must be positive, and the width of a head a multiple of 4"));
        }
        if self.centred && (self.grid.is_some() || self.offset != 0.0) {
            return Err(Error::usage("centred rotary positions have neither grid nor offset"));
        }
        Ok(())
    }

    /// The angles for `prefix` tokens, which do not turn, and the patches of `grid`; the channels of a pair are
    /// neighbours.
    pub(super) fn rotation(&self, grid: [usize; 2], prefix: usize, head_dim: usize, device: &Device) -> Rotation {
        let quarter = head_dim / 4;
        let tokens = prefix + grid[0] * grid[1];
        let (mut cos, mut sin) = (vec![1f32; tokens * head_dim], vec![0f32; tokens * head_dim]);
        for patch in 0..grid[0] * grid[1] {
            let mut place = [self.coordinate(patch / grid[1], grid[0]), self.coordinate(patch % grid[1], grid[1])];
            if self.columns_first {
                place.reverse();
            }
            for (axis, position) in place.into_iter().enumerate() {
                for j in 0..quarter {
                    let angle = position * self.temperature.powf(-(j as f64) / quarter as f64);
                    let channel = (prefix + patch) * head_dim + 2 * (axis * quarter + j);
                    cos[channel..channel + 2].fill(angle.cos() as f32);
                    sin[channel..channel + 2].fill(angle.sin() as f32);
                }
            }
        }
        let tensor = |values| Tensor::from_data(TensorData::new(values, [tokens, head_dim]), device);
        Rotation { cos: tensor(cos), sin: tensor(sin) }
    }

    /// By how much the lowest frequency turns at row or column `at` of `of`.
    fn coordinate(&self, at: usize, of: usize) -> f64 {
        let (at, of) = (at as f64, of as f64);
        if self.centred {
            return std::f64::consts::TAU * (2.0 * (at + 0.5) / of - 1.0);
        }
        let at = at + self.offset;
        self.grid.map_or(at, |side| at / of * side as f64)
    }
}
