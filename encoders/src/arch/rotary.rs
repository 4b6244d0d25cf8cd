//! Rotary position embeddings in two dimensions, in the variants of EVA-02, RoPE-ViT, the Perception Encoder and DINOv3
//! (timm's `RotaryEmbeddingCat` and `RotaryEmbeddingDinoV3`).

use super::fields::is_default;
use crate::operands::Rotation;
use crate::transfer;
use burgess_base::{Error, Result};
use burn::tensor::{Device, TensorData};
use serde::{Deserialize, Serialize};

/// Options of the two-dimensional rotary position embedding of queries and keys. The frequencies are `temperature`^(-j
/// / quarter), where quarter is a quarter of a head's channels; one half of the channel pairs is rotated by the row,
/// the other by the column. Tokens before the patches are not rotated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Rotary {
    /// Side of the grid to which coordinates are scaled (EVA-02: the grid of its pretraining). Default: the image's own
    /// grid, without scaling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid: Option<usize>,
    /// Coordinate of the first row and column. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub offset: f64,
    /// Base of the frequencies. Default 10000.
    #[serde(default = "temperature", skip_serializing_if = "is_usual")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub temperature: f64,
    /// Whether the column rotates the first half of the channel pairs and the row the second. Default: row first.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub columns_first: bool,
    /// Whether coordinates are patch centres scaled to the range from -1 to 1, with frequencies in full turns (DINOv3).
    /// Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub centred: bool,
    /// Whether channels half a head apart form a pair (`rotate_half`). Default: neighbouring channels.
    #[serde(default, skip_serializing_if = "is_default", rename = "halves", alias = "rotate_half")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub rotate_half: bool,
    /// Whether each head of each block has learned frequencies, which add the angles of row and column (RoPE-ViT's
    /// mixed embedding; the temperature then only matters in initialisation). Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub mixed: bool,
    /// Whether the class token is rotated by learned angles (MLCD). Default false.
    #[serde(default, skip_serializing_if = "is_default")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub learned_class: bool,
}

const TEMPERATURE: f64 = 10000.0;

fn temperature() -> f64 {
    TEMPERATURE
}

// serde's `skip_serializing_if` passes a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_usual(value: &f64) -> bool {
    *value == TEMPERATURE
}

impl Default for Rotary {
    fn default() -> Self {
        Self {
            grid: None,
            offset: 0.0,
            temperature: TEMPERATURE,
            columns_first: false,
            centred: false,
            rotate_half: false,
            mixed: false,
            learned_class: false,
        }
    }
}

impl Rotary {
    /// Checks the hyper-parameters.
    pub(super) fn validate(&self, head_dim: usize) -> Result<()> {
        let usable = self.temperature > 0.0 && self.temperature.is_finite() && self.offset.is_finite();
        if !usable || !head_dim.is_multiple_of(4) || self.grid == Some(0) {
            return Err(Error::usage(format!(
                "invalid rotary position embedding: grid {:?}, offset {}, temperature {} and heads of {head_dim} channels",
                self.grid, self.offset, self.temperature
            ))
            .hint("grid and temperature must be positive, and the width of a head a multiple of 4"));
        }
        let other = self.grid.is_some() || self.offset != 0.0 || self.centred || self.rotate_half || self.learned_class;
        if self.mixed && other {
            return Err(Error::usage("rotary.mixed can only be combined with temperature and columns_first"));
        }
        if self.centred && (self.grid.is_some() || self.offset != 0.0) {
            return Err(Error::usage("rotary.centred cannot be combined with rotary.grid or rotary.offset"));
        }
        Ok(())
    }

    /// Cosines and sines for `prefix` tokens, which are not rotated, and the patches of `grid`, `[tokens, head_dim]`.
    /// The channels of a pair are neighbours.
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
        let tensor = |values| transfer::to_device(TensorData::new(values, [tokens, head_dim]), device);
        Rotation { cos: tensor(cos), sin: tensor(sin) }
    }

    /// The angle in radians of the highest frequency at row or column `at` of `of`.
    fn coordinate(&self, at: usize, of: usize) -> f64 {
        let (at, of) = (at as f64, of as f64);
        if self.centred {
            return std::f64::consts::TAU * (2.0 * (at + 0.5) / of - 1.0);
        }
        let at = at + self.offset;
        self.grid.map_or(at, |side| at / of * side as f64)
    }
}
