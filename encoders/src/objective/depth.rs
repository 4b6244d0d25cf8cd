//! Monocular depth estimation after MiDaS (Ranftl et al. 2020, arXiv:1907.01341): a small head on the patch features
//! predicts the inverse depth of every cell of a fine grid, up to scale and shift.
//!
//! The loss is the paper's: both maps are normalised to median 0 and mean absolute value 1 (equation 5), and their mean
//! absolute difference (equation 6) is added to half of the multi-scale gradient matching term (equation 11). Unlike in
//! the paper, the fifth of the pixels with the largest residuals is not trimmed, because it can be a whole small object
//! on a plain background. The squared error after the best scale and shift (equation 4) is not used, because it does
//! not distinguish a map from its negative, so that training stalls between the two.

use super::{
    DataShape, INIT, Learner, LearnerConfig, Loss, PretrainBatch, RandomCrops, StepContext, Targets, vit_config,
};
use crate::arch::{Architecture, ArchitectureConfig, AttentionPositions, NetworkConfig, Vit};
use crate::init::initialise;
use crate::operands::gelu;
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of depth pretraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DepthConfig {
    /// Cells of the depth map along each side of a patch. Default 4, that is 16×16 cells for an image of 4×4 patches.
    pub upsample: usize,
    /// Hidden channels of the head. Default 64.
    pub hidden: usize,
    /// Weight of the gradient matching term. Default 0.5.
    pub gradient_weight: f64,
    /// Number of scales of the gradient matching term; each has half the resolution of the previous one. Default 4.
    pub scales: usize,
    /// Area of the random crops as fractions of the image, `[low, high]`. Default 0.7 to 1.
    pub crop: [f64; 2],
}

impl Default for DepthConfig {
    fn default() -> Self {
        Self { upsample: 4, hidden: 64, gradient_weight: 0.5, scales: 4, crop: [0.7, 1.0] }
    }
}

/// An encoder with a depth head, trained to predict inverse depth.
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
                "invalid hyper-parameters of depth: upsample {}, hidden {}, scales {}",
                self.upsample, self.hidden, self.scales
            ))
            .hint("set each of them above 0"));
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
    fn loss(&self, batch: &PretrainBatch, context: &mut StepContext) -> Result<Loss> {
        let maps = batch.inverse_depth()?.clone();
        let [count, _, size, _] = batch.pixels.dims();
        let crops = RandomCrops::draw(count, self.config.crop, &mut context.stream);
        let pixels = crops.resize(batch.pixels.clone(), size);
        let (patches, grid) = self.encoder.patches(pixels)?;
        let cells = grid[0] * self.config.upsample;
        let truth: Tensor<3> = crops.resize(maps.unsqueeze_dim(1), cells).squeeze_dim(1);

        let drop_path = self.encoder.config().draw_drop_path(count, &mut context.stream, &patches.device());
        let tokens =
            self.encoder.run_blocks(self.encoder.prepare(patches, grid), &AttentionPositions::default(), &drop_path);
        let (_, features) = self.encoder.split(self.encoder.final_norm(tokens));
        let predicted = unpatchify(self.fc2.forward(gelu(self.fc1.forward(features))), grid, self.config.upsample);

        let residual = residual(predicted, truth);
        let data = residual.clone().abs().mean();
        let gradient = gradient_matching(residual, self.config.scales);
        Ok(Loss {
            parts: vec![("data", data.clone().detach()), ("gradient", gradient.clone().detach())],
            total: data + gradient.mul_scalar(self.config.gradient_weight),
        })
    }

    fn into_encoder(self) -> Architecture {
        Architecture::Vit(self.encoder)
    }
}

/// Arranges the values of each patch, `[batch, patches, side²]`, as a map, `[batch, rows * side, columns * side]`.
pub(super) fn unpatchify(values: Tensor<3>, [rows, columns]: [usize; 2], side: usize) -> Tensor<3> {
    let [batch, ..] = values.dims();
    let values: Tensor<5> = values.reshape([batch, rows, columns, side, side]);
    values.swap_dims(2, 3).reshape([batch, rows * side, columns * side])
}

/// Returns the difference of two maps, `[batch, rows, columns]`, after [`normalise_map`]; zero for a map whose truth is
/// constant, because it determines no order.
pub(super) fn residual(predicted: Tensor<3>, truth: Tensor<3>) -> Tensor<3> {
    let (predicted, _) = normalise_map(predicted);
    let (truth, known) = normalise_map(truth);
    (predicted - truth) * known
}

/// Normalises each map of `[batch, rows, columns]` to median 0 and mean absolute value 1. The second result,
/// `[batch, 1, 1]`, is 1 for a map that is not constant, else 0.
fn normalise_map(maps: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
    const SMALLEST: f64 = 1e-6;
    let [batch, rows, columns] = maps.dims();
    let flat: Tensor<2> = maps.reshape([batch, rows * columns]);
    let centred = flat.clone() - flat.median(1);
    let scale = centred.clone().abs().mean_dim(1);
    let known = scale.clone().detach().greater_elem(SMALLEST).float().reshape([batch, 1, 1]);
    ((centred / scale.clamp_min(SMALLEST)).reshape([batch, rows, columns]), known)
}

/// Returns the gradient matching term, `[1]`: the mean absolute horizontal and vertical differences of a residual
/// `[batch, rows, columns]`, summed over `scales` grids of every cell, every second cell, every fourth cell, and so on.
pub(super) fn gradient_matching(mut residual: Tensor<3>, scales: usize) -> Tensor<1> {
    let mut total = Tensor::<1>::zeros([1], &residual.device());
    for scale in 0..scales {
        if scale > 0 {
            residual = subsample(residual);
        }
        let [batch, rows, columns] = residual.dims();
        if rows < 2 || columns < 2 {
            break;
        }
        let across = residual.clone().narrow(2, 1, columns - 1) - residual.clone().narrow(2, 0, columns - 1);
        let down = residual.clone().narrow(1, 1, rows - 1) - residual.clone().narrow(1, 0, rows - 1);
        total = total + (across.abs().sum() + down.abs().sum()).div_scalar((batch * rows * columns) as f64);
    }
    total
}

/// Selects rows and columns 0, 2, 4 … of `[batch, rows, columns]`.
fn subsample(maps: Tensor<3>) -> Tensor<3> {
    let [_, rows, columns] = maps.dims();
    let even = |n: usize, device: &Device| {
        let places: Vec<i64> = (0..n as i64).step_by(2).collect();
        Tensor::<1, Int>::from_data(places.as_slice(), device)
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
        let values: Tensor<3> = Tensor::<1, Int>::arange(0..24, &Device::flex()).float().reshape([1, 6, 4]);
        let fine: Vec<f32> = unpatchify(values, [2, 3], 2).into_data().iter().collect();
        assert_eq!(&fine[..6], &[0.0, 1.0, 4.0, 5.0, 8.0, 9.0]);
        assert_eq!(&fine[18..], &[14.0, 15.0, 18.0, 19.0, 22.0, 23.0]);
    }

    #[test]
    fn scale_and_shift_do_not_matter_but_the_sign_does() {
        let device = Device::flex();
        let truth = Tensor::<3>::from_data([[[0.0, 0.2, 0.3], [0.4, 1.0, 0.1]], [[0.5; 3]; 2]], &device);
        let size = |predicted: Tensor<3>| -> f32 { residual(predicted, truth.clone()).abs().max().into_scalar() };
        assert!(size(truth.clone().mul_scalar(3.0).add_scalar(7.0)) < 1e-5);
        assert!(size(truth.clone().neg()) > 1.0);
        // A constant truth asks for nothing.
        let noise = Tensor::<3>::from_data([[[0.0, 9.0, -4.0], [1.0, 2.0, 5.0]]], &device);
        let flat = residual(noise, Tensor::full([1, 2, 3], 0.5, &device));
        flat.into_data()
            .assert_approx_eq::<f32>(&Tensor::<3>::zeros([1, 2, 3], &device).into_data(), Tolerance::absolute(0.0));
    }
}
