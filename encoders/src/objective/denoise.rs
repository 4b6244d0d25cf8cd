//! Denoising diffusion (Ho et al. 2020, arXiv:2006.11239), the objective of Stable Diffusion, in pixel space: the
//! encoder gets a noisy image, and a linear decoder on its patch features predicts the clean image.
//!
//! The schedule is the cosine `α = cos(πt/2)`, `σ = sin(πt/2)` of v-prediction (Salimans & Ho 2022,
//! arXiv:2202.00512), with `σ/α` multiplied by `shift` (Hoogeboom et al. 2023, arXiv:2301.11093), because patches of
//! one colour remain recognisable at far more noise than natural images. The target is `v = α ε − σ x`, predicted
//! as `v̂ = (α x_t − x̂) / σ` from the network's output `x̂`: 128 channels per patch cannot represent the noise
//! of its 768 values, and in this form they need not. The squared error of `v` is that of `x̂` times `1/σ²`; the
//! factor is limited to `weight_limit` as in Min-SNR weighting (Hang et al. 2023, arXiv:2303.09556).
//!
//! The encoder is a plain ViT. In training, a time embedding is added to all tokens; it is exactly zero at `t = 0`.
//! Features are extracted at `t = 0`, that is from the clean image, without noise and without the time embedding.

use super::mae::patchify;
use super::{
    DataShape, INIT, Learner, LearnerConfig, Loss, PretrainBatch, StepContext, Targets, random_crops, vit_config,
};
use crate::arch::{Architecture, ArchitectureConfig, AttentionPositions, NetworkConfig, Vit};
use crate::init::initialise;
use burgess_base::stream::{Stream, normals, uniform};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::silu;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::f64::consts::FRAC_PI_2;

/// Hyper-parameters of denoising pretraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DenoiseConfig {
    /// Factor of `σ/α` at every time; above 1 it adds noise. Default 3.
    pub shift: f64,
    /// Maximum weight of the squared error of the clean image. Default 5.
    pub weight_limit: f64,
    /// Channels of the sinusoidal time embedding, an even number. Default 64.
    pub time_channels: usize,
    /// Area of the random crops as fractions of the image, `[low, high]`. Default 0.7 to 1.
    pub crop: [f64; 2],
}

impl Default for DenoiseConfig {
    fn default() -> Self {
        Self { shift: 3.0, weight_limit: 5.0, time_channels: 64, crop: [0.7, 1.0] }
    }
}

/// An encoder with a time embedding and a linear decoder, trained to denoise images.
#[derive(Module, Debug)]
pub struct Denoise {
    encoder: Vit,
    time_fc1: Linear,
    time_fc2: Linear,
    decoder: Linear,
    #[module(skip)]
    config: DenoiseConfig,
}

impl LearnerConfig for DenoiseConfig {
    type Learner = Denoise;
    const TARGETS: Targets = Targets::NONE;

    fn init(&self, encoder: &ArchitectureConfig, _data: &DataShape, device: &Device, seed: u64) -> Result<Denoise> {
        let vit = vit_config(encoder, "denoise")?;
        let valid = self.shift > 0.0
            && self.weight_limit > 0.0
            && self.time_channels > 0
            && self.time_channels.is_multiple_of(2);
        if !valid {
            return Err(Error::usage(format!(
                "invalid hyper-parameters of denoise: shift {}, weight_limit {}, time_channels {}",
                self.shift, self.weight_limit, self.time_channels
            ))
            .hint("set each of them above 0, and time_channels to an even number"));
        }
        let denoise = Denoise {
            encoder: vit.init(device),
            time_fc1: LinearConfig::new(self.time_channels, vit.width).init(device),
            // A bias would cancel in the difference from time 0.
            time_fc2: LinearConfig::new(vit.width, vit.width).with_bias(false).init(device),
            decoder: LinearConfig::new(vit.width, 3 * vit.patch * vit.patch).init(device),
            config: self.clone(),
        };
        Ok(initialise(denoise, INIT, seed))
    }
}

impl Learner for Denoise {
    fn loss(&self, batch: &PretrainBatch, context: &mut StepContext) -> Result<Loss> {
        let [count, channels, size, _] = batch.pixels.dims();
        let device = batch.pixels.device();
        let clean = random_crops(batch.pixels.clone(), size, self.config.crop, &mut context.stream);
        // Times are spaced evenly over the batch, so that every batch covers all noise levels.
        let offset = uniform(&mut context.stream);
        let times: Vec<f64> = (0..count).map(|i| (i as f64 + offset) / count as f64).collect();
        let levels: Vec<NoiseLevel> = times.iter().map(|t| NoiseLevel::at(*t, self.config.shift)).collect();
        let noise = noise(&mut context.stream, count, channels * size * size);
        let noise = Tensor::<4>::from_data(TensorData::new(noise, [count, channels, size, size]), &device);
        let each = |f: &dyn Fn(&NoiseLevel) -> f64| -> Tensor<4> {
            let values: Vec<f32> = levels.iter().map(|level| f(level) as f32).collect();
            Tensor::from_data(TensorData::new(values, [count, 1, 1, 1]), &device)
        };
        let noisy = clean.clone() * each(&|l| l.alpha) + noise * each(&|l| l.sigma);

        let (patches, grid) = self.encoder.patches(noisy)?;
        let tokens = self.encoder.prepare(patches, grid) + self.time(&times, &device).unsqueeze_dim(1);
        let drop_path = self.encoder.config().draw_drop_path(count, &mut context.stream, &device);
        let tokens = self.encoder.run_blocks(tokens, &AttentionPositions::default(), &drop_path);
        let (_, features) = self.encoder.split(self.encoder.final_norm(tokens));
        let predicted = self.decoder.forward(features);

        let weights: Vec<f32> = levels.iter().map(|l| l.weight(self.config.weight_limit) as f32).collect();
        let weights = Tensor::from_data(TensorData::new(weights, [count]), &device);
        let truth = patchify(clean, self.encoder.config().patch);
        Ok(Loss::single(denoising_loss(predicted, truth, weights)))
    }

    fn into_encoder(self) -> Architecture {
        Architecture::Vit(self.encoder)
    }
}

impl Denoise {
    /// Returns the time embeddings, `[times, width]`; the embedding of time 0 is zero.
    fn time(&self, times: &[f64], device: &Device) -> Tensor<2> {
        let half = self.config.time_channels / 2;
        let mut values = Vec::with_capacity((times.len() + 1) * 2 * half);
        // Time 0 comes last.
        for time in times.iter().chain([&0.0]) {
            // As in DDPM: a thousand steps, wavelengths from 2π to 10,000 · 2π steps.
            let angle = |i: usize| time * 1000.0 * 10_000f64.powf(-(i as f64) / half as f64);
            values.extend((0..half).map(|i| angle(i).sin() as f32));
            values.extend((0..half).map(|i| angle(i).cos() as f32));
        }
        let count = times.len();
        let waves = Tensor::from_data(TensorData::new(values, [count + 1, 2 * half]), device);
        let vectors = self.time_fc2.forward(silu(self.time_fc1.forward(waves)));
        vectors.clone().narrow(0, 0, count) - vectors.narrow(0, count, 1)
    }
}

/// The factors of the clean image and of the noise; their squares add up to one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct NoiseLevel {
    /// Factor of the clean image.
    pub alpha: f64,
    /// Factor of the noise.
    pub sigma: f64,
}

impl NoiseLevel {
    /// Returns the factors at `time`, from 0 (clean) to 1 (noise only).
    pub fn at(time: f64, shift: f64) -> Self {
        let (sin, cos) = (time * FRAC_PI_2).sin_cos();
        let length = cos.hypot(shift * sin);
        Self { alpha: cos / length, sigma: shift * sin / length }
    }

    /// Returns the weight of the squared error of the clean image that equals weight 1 for the squared error of `v`, at
    /// most `limit`.
    pub fn weight(&self, limit: f64) -> f64 {
        (1.0 / (self.sigma * self.sigma)).min(limit)
    }
}

/// Returns the mean squared error of the clean images' patches, `[batch, patches, values]`, weighted by `weights`,
/// `[batch]`: `[1]`.
pub(super) fn denoising_loss(predicted: Tensor<3>, truth: Tensor<3>, weights: Tensor<1>) -> Tensor<1> {
    let [batch, patches, values] = predicted.dims();
    let per_image = (predicted - truth).square().reshape([batch, patches * values]).mean_dim(1).squeeze_dim::<1>(1);
    (per_image * weights).mean()
}

/// Draws standard normal noise for `images` images of `values` values each. Because drawing is slow, each image gets a
/// random window of a pool that is at most four images long.
fn noise(stream: &mut Stream, images: usize, values: usize) -> Vec<f32> {
    const POOL: usize = 4;
    let pool = normals(stream, POOL.min(images) * values);
    let room = pool.len() - values;
    let mut all = Vec::with_capacity(images * values);
    for _ in 0..images {
        let start = (uniform(stream) * (room + 1) as f64) as usize;
        all.extend(pool.iter().skip(start.min(room)).take(values));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_base::stream::stream;

    #[test]
    fn levels_go_from_clean_to_noise_and_shift_adds_noise() {
        let clean = NoiseLevel::at(0.0, 3.0);
        assert_eq!((clean.alpha, clean.sigma, clean.weight(5.0)), (1.0, 0.0, 5.0));
        let end = NoiseLevel::at(1.0, 3.0);
        assert!(end.alpha < 1e-9 && (end.weight(5.0) - 1.0).abs() < 1e-9);
        let (plain, shifted) = (NoiseLevel::at(0.5, 1.0), NoiseLevel::at(0.5, 3.0));
        assert!((plain.alpha - plain.sigma).abs() < 1e-9 && (shifted.sigma / shifted.alpha - 3.0).abs() < 1e-9);
        assert!((shifted.alpha.powi(2) + shifted.sigma.powi(2) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn noise_is_standard_normal() {
        let values = normals(&mut stream("noise", 0), 20_001);
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64;
        let square = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(values.len() == 20_001 && mean.abs() < 0.03 && (square - 1.0).abs() < 0.05, "{mean} {square}");
        assert!(values.iter().any(|v| *v > 3.0));
        let images = noise(&mut stream("noise", 1), 5, 100);
        assert!(images.len() == 500 && images[..100] != images[100..200]);
        assert_eq!(noise(&mut stream("noise", 1), 1, 100).len(), 100);
    }

    #[test]
    fn nothing_is_added_at_time_zero() -> Result<()> {
        let encoder: ArchitectureConfig = toml::from_str(
            "architecture = \"vit\"\nimage_size = 8\npatch = 4\nwidth = 8\ndepth = 1\nheads = 2\nmlp_hidden = 8",
        )
        .map_err(|e| Error::failed(e.to_string()))?;
        let device = Device::flex().autodiff();
        let data = DataShape { vocab: 0, context: 0, classes: 0 };
        let denoise = DenoiseConfig::default().init(&encoder, &data, &device, 0)?;
        let added: Vec<f32> = denoise.time(&[0.0, 0.5], &device).into_data().iter().collect();
        assert!(added[..8].iter().all(|v| *v == 0.0) && added[8..].iter().any(|v| v.abs() > 0.01), "{added:?}");
        Ok(())
    }
}
