//! Rotary position embedding in the half-rotation layout of Hugging Face's LLaMA weights.
//!
//! Channel `i` of the first half of a head is rotated together with channel `i` of the second half by the angle
//! `position · theta^(−2i / head_dim)` (RoFormer, arXiv 2104.09864; layout as in `modeling_llama.py`). Burn's
//! `RotaryEncoding` rotates neighbouring channels instead, which is the layout of the original checkpoints.

use burn::tensor::{Device, Tensor, TensorData};

/// Cosines and sines for a list of positions.
#[derive(Debug, Clone)]
pub struct Rope {
    /// `[rows, t, head_dim / 2]`; `rows` is 1 where all sequences of a batch share their positions.
    pub cos: Tensor<3>,
    /// `[rows, t, head_dim / 2]`.
    pub sin: Tensor<3>,
}

impl Rope {
    /// The angles for positions `0..t`, the same for every row.
    pub fn range(t: usize, head_dim: usize, theta: f64, device: &Device) -> Self {
        let positions: Vec<usize> = (0..t).collect();
        Self::at(&[&positions], head_dim, theta, device)
    }

    /// The angles for given positions, one list of equal length per row.
    pub fn at(rows: &[&[usize]], head_dim: usize, theta: f64, device: &Device) -> Self {
        let half = head_dim / 2;
        let t = rows.first().map_or(0, |r| r.len());
        // Inverse frequencies in f32 as the reference computes them, the product and its cosine too.
        let inverse: Vec<f32> =
            (0..half).map(|i| 1.0 / (theta as f32).powf((2 * i) as f32 / head_dim as f32)).collect();
        let angles: Vec<f32> =
            rows.iter().flat_map(|r| r.iter()).flat_map(|&p| inverse.iter().map(move |f| p as f32 * f)).collect();
        let make = |f: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|&a| f(a)).collect();
            Tensor::from_data(TensorData::new(values, [rows.len(), t, half]), device)
        };
        Self { cos: make(f32::cos), sin: make(f32::sin) }
    }

    /// Rotates `x` `[batch, t, heads, head_dim]`.
    pub fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, _, _, d] = x.dims();
        let half = d / 2;
        let (cos, sin) = (self.cos.clone().unsqueeze_dim::<4>(2), self.sin.clone().unsqueeze_dim::<4>(2));
        let first = x.clone().narrow(3, 0, half);
        let second = x.narrow(3, half, half);
        Tensor::cat(vec![first.clone() * cos.clone() - second.clone() * sin.clone(), second * cos + first * sin], 3)
    }
}
