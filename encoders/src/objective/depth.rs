//! Monocular depth in the manner of MiDaS (Ranftl et al. 2020, arXiv:1907.01341): a small head on the patch features gives the
//! inverse depth of every cell of a fine grid, compared with the truth up to scale and shift.
//!
//! The loss is the one of the published training code: squared error after the best scale and shift (equation 4 of the paper),
//! and half of the multi-scale gradient matching term (equation 11). The paper's trimmed absolute error is not used: it leaves
//! out the fifth of the pixels with the largest residuals, which is all of a small thing on a plain background.

use super::{Batch, Crops, DataShape, INIT, Learner, LearnerConfig, Loss, Moment, Targets, vit_config};
use crate::arch::{Architecture, ArchitectureConfig, Places, Vit};
use crate::init::initialise;
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::gelu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// The numbers of depth pretraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DepthConfig {
    /// Cells of the depth map along each side of a patch. Default 4: 24×24 cells of an image of 6×6 patches.
    pub upsample: usize,
    /// Channels inside the head. Default 64.
    pub hidden: usize,
    /// Weight of the gradient matching term. Default 0.5.
    pub gradient_weight: f64,
    /// Scales of the gradient matching term, each half as fine as the one before. Default 4.
    pub scales: usize,
    /// Area of the random crops. Default 0.7 to 1.
    pub crop: [f64; 2],
}

impl Default for DepthConfig {
    fn default() -> Self {
        Self { upsample: 4, hidden: 64, gradient_weight: 0.5, scales: 4, crop: [0.7, 1.0] }
    }
}

/// An encoder learning how near everything is.
#[derive(Module, Debug)]
pub struct Depth {
    encoder: Vit,
    fc1: Linear,
    fc2: Linear,
    #[module(skip)]
    config: DepthConfig,
}

impl LearnerConfig for DepthConfig {
    type Learner = Depth;
    const TARGETS: Targets = Targets::INVERSE_DEPTH;

    fn init(&self, encoder: &ArchitectureConfig, _data: &DataShape, device: &Device, seed: u64) -> Result<Depth> {
        let vit = vit_config(encoder, "depth")?;
        if [self.upsample, self.hidden, self.scales].contains(&0) {
            return Err(Error::usage(format!(
                "depth cannot have upsample {}, hidden {}, scales {}",
                self.upsample, self.hidden, self.scales
            ))
            .hint("all must be positive"));
        }
        let depth = Depth {
            encoder: vit.init(device),
            fc1: LinearConfig::new(vit.width, self.hidden).init(device),
            fc2: LinearConfig::new(self.hidden, self.upsample * self.upsample).init(device),
            config: self.clone(),
        };
        Ok(initialise(depth, INIT, seed))
    }
}

impl Learner for Depth {
    fn loss(&self, batch: &Batch, moment: &mut Moment) -> Result<Loss> {
        let maps = batch.inverse_depth()?.clone();
        let [count, _, size, _] = batch.pixels.dims();
        let crops = Crops::draw(count, self.config.crop, &mut moment.stream);
        let pixels = crops.resize(batch.pixels.clone(), size);
        let (patches, grid) = self.encoder.patches(pixels)?;
        let cells = grid[0] * self.config.upsample;
        let truth = unit_range(crops.resize(maps.unsqueeze_dim(1), cells).squeeze_dim(1));

        let drops = self.encoder.config().drops(count, &mut moment.stream, &patches.device());
        let tokens = self.encoder.run_blocks(self.encoder.prepare(patches, grid), &Places::default(), &drops);
        let (_, features) = self.encoder.split(self.encoder.final_norm(tokens));
        let predicted = fine_grid(self.fc2.forward(gelu(self.fc1.forward(features))), grid, self.config.upsample);

        let aligned = align(predicted, truth.clone());
        let data = mean_squared(aligned.clone(), truth.clone());
        let gradient = gradient_matching(aligned, truth, self.config.scales);
        Ok(Loss {
            parts: vec![("data", data.clone().detach()), ("gradient", gradient.clone().detach())],
            total: data + gradient.mul_scalar(self.config.gradient_weight),
        })
    }

    fn into_encoder(self) -> Architecture {
        Architecture::Vit(self.encoder)
    }
}

/// Puts the values of each patch, `[batch, patches, side²]`, in their places: `[batch, rows * side, columns * side]`.
pub(super) fn fine_grid(values: Tensor<3>, [rows, columns]: [usize; 2], side: usize) -> Tensor<3> {
    let [batch, ..] = values.dims();
    let values: Tensor<5> = values.reshape([batch, rows, columns, side, side]);
    values.swap_dims(2, 3).reshape([batch, rows * side, columns * side])
}

/// Each map of `[batch, rows, columns]` brought to the range 0 to 1; a constant map becomes 0.
pub fn unit_range(maps: Tensor<3>) -> Tensor<3> {
    let [batch, rows, columns] = maps.dims();
    let flat: Tensor<2> = maps.reshape([batch, rows * columns]);
    let low = flat.clone().min_dim(1);
    let range = (flat.clone().max_dim(1) - low.clone()).clamp_min(1e-12);
    ((flat - low) / range).reshape([batch, rows, columns])
}

/// Each predicted map, `[batch, rows, columns]`, times the scale and plus the shift that bring it nearest to its `truth` by
/// squared error. Gradients pass through both.
pub fn align(predicted: Tensor<3>, truth: Tensor<3>) -> Tensor<3> {
    let [batch, rows, columns] = predicted.dims();
    let flat = |maps: Tensor<3>| -> Tensor<2> { maps.reshape([batch, rows * columns]) };
    let (predicted, truth) = (flat(predicted), flat(truth));
    let mean = truth.clone().mean_dim(1);
    let centred = predicted.clone() - predicted.mean_dim(1);
    let variance = centred.clone().square().mean_dim(1);
    let covariance = (centred.clone() * (truth - mean.clone())).mean_dim(1);
    // A constant prediction has no best scale; its scale is then 0.
    let scale = covariance / variance.add_scalar(1e-8);
    (centred * scale + mean).reshape([batch, rows, columns])
}

/// Half the mean squared error of two `[batch, rows, columns]`. A single number.
pub fn mean_squared(aligned: Tensor<3>, truth: Tensor<3>) -> Tensor<1> {
    (aligned - truth).square().mean().div_scalar(2.0)
}

/// The mean absolute difference of the gradients of two `[batch, rows, columns]` to the right and downwards, summed over
/// `scales` grids: every cell, every second cell, every fourth cell, and so on. A single number.
pub fn gradient_matching(aligned: Tensor<3>, truth: Tensor<3>, scales: usize) -> Tensor<1> {
    let mut residual = aligned - truth;
    let mut total: Option<Tensor<1>> = None;
    for scale in 0..scales {
        if scale > 0 {
            residual = every_second(residual);
        }
        let [batch, rows, columns] = residual.dims();
        if rows < 2 || columns < 2 {
            break;
        }
        let across = residual.clone().narrow(2, 1, columns - 1) - residual.clone().narrow(2, 0, columns - 1);
        let down = residual.clone().narrow(1, 1, rows - 1) - residual.clone().narrow(1, 0, rows - 1);
        let term = (across.abs().sum() + down.abs().sum()).div_scalar((batch * rows * columns) as f64);
        total = Some(match total {
            Some(sum) => sum + term,
            None => term,
        });
    }
    total.unwrap_or_else(|| residual.sum().mul_scalar(0.0))
}

/// Rows and columns 0, 2, 4 … of `[batch, rows, columns]`.
fn every_second(maps: Tensor<3>) -> Tensor<3> {
    let [_, rows, columns] = maps.dims();
    let even = |n: usize, device: &Device| {
        let places: Vec<i64> = (0..n as i64).step_by(2).collect();
        Tensor::<1, burn::tensor::Int>::from_data(places.as_slice(), device)
    };
    let device = maps.device();
    maps.select(1, even(rows, &device)).select(2, even(columns, &device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Tolerance;

    #[test]
    fn values_of_patches_land_in_their_patches() {
        let values: Tensor<3> =
            Tensor::<1, burn::tensor::Int>::arange(0..24, &Device::flex()).float().reshape([1, 6, 4]);
        let fine: Vec<f32> = fine_grid(values, [2, 3], 2).into_data().iter().collect();
        assert_eq!(&fine[..6], &[0.0, 1.0, 4.0, 5.0, 8.0, 9.0]);
        assert_eq!(&fine[18..], &[14.0, 15.0, 18.0, 19.0, 22.0, 23.0]);
    }

    #[test]
    fn scale_and_shift_do_not_matter() {
        let device = Device::flex();
        let truth = Tensor::<3>::from_data([[[0.0, 0.2], [0.4, 1.0]], [[0.5, 0.5], [0.5, 0.5]]], &device);
        let aligned = align(truth.clone().mul_scalar(-3.0).add_scalar(7.0), truth.clone());
        aligned.into_data().assert_approx_eq::<f32>(&truth.clone().into_data(), Tolerance::absolute(1e-5));
        let range = unit_range(truth.mul_scalar(5.0).add_scalar(2.0)).into_data();
        let expected = Tensor::<3>::from_data([[[0.0, 0.2], [0.4, 1.0]], [[0.0; 2]; 2]], &device).into_data();
        range.assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
    }
}
