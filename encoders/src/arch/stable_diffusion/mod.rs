//! Stable Diffusion (Rombach et al. 2022, arXiv:2112.10752) as an image encoder, as in Cambrian-1
//! (`diffusion_encoder.py`, after El Banani et al. 2024, arXiv:2404.08636). Noise of one time step is added to the
//! autoencoder's latents, the U-Net processes them with an empty prompt, and the features are the outputs of its up
//! blocks, resampled to one grid and concatenated.
//!
//! Parameter paths are those of `diffusers`' folders, `unet.`, `vae.` and `text_encoder.`; inside the last the names
//! differ. Upstream draws new noise for each image and call; here all images get the same noise, from a named stream,
//! so that features are reproducible. Upstream computes without gradients; here the autoencoder and the U-Net can be
//! trained, while the encoded prompt is a constant.

mod config;
mod noise;
mod parts;
mod prompt;
mod transformer;
mod unet;
mod vae;

pub use config::{PromptConfig, Schedule, SchedulerConfig, StableDiffusionConfig, UnetConfig, VaeConfig};

use super::drop_path::DropPathMask;
use super::limits::check_pixels;
use super::network::Network;
use super::tap::Tap;
use crate::features::FeatureMap;
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use parts::tokens;
use prompt::PromptEncoder;
use unet::Unet;
use vae::Vae;

/// Stable Diffusion's networks without the autoencoder's decoder; see the module documentation.
#[derive(Module, Debug)]
pub struct StableDiffusion {
    /// Text encoder of the prompt.
    pub text_encoder: PromptEncoder,
    /// U-Net that denoises latents.
    pub unet: Unet,
    /// Encoder of the autoencoder, from pixels to latents.
    pub vae: Vae,
    #[module(skip)]
    config: StableDiffusionConfig,
}

impl StableDiffusionConfig {
    /// Builds the networks with placeholder weights; the configuration must be valid.
    pub fn init(&self, device: &Device) -> StableDiffusion {
        StableDiffusion {
            text_encoder: self.text.init(device),
            unet: self.unet.init(self.vae.latent_channels, self.text.width, device),
            vae: self.vae.init(device),
            config: self.clone(),
        }
    }
}

impl StableDiffusion {
    /// Returns the configuration that these networks were built from.
    pub fn config(&self) -> &StableDiffusionConfig {
        &self.config
    }

    /// Outputs of the first `count` up blocks, each `[batch, channels, rows, columns]`, for images
    /// `[batch, 3, height, width]` whose sides are multiples of the total downsampling factor.
    fn up_blocks(&self, pixels: Tensor<4>, count: usize) -> Result<Vec<Tensor<4>>> {
        let config = &self.config;
        let levels = config.unet.channels.len();
        check_pixels(&pixels, config.vae.stride() << (levels - 1))?;
        let device = pixels.device();
        let latents = self.vae.latents(pixels);
        let [_, channels, rows, columns] = latents.dims();
        let noise = noise::noise(config.noise_seed, channels * rows * columns);
        let noise = Tensor::<4>::from_data(TensorData::new(noise, [1, channels, rows, columns]), &device);
        let signal = config.scheduler.signal(config.time_step);
        let noisy = latents.mul_scalar(signal.sqrt()) + noise.mul_scalar((1.0 - signal).sqrt());
        self.unet.up_blocks(noisy, config.time_step, &self.text_encoder.encoded_prompt(&device)?, count)
    }
}

impl Network for StableDiffusion {
    fn features(&self, pixels: Tensor<4>, tap: &Tap, _drop_path: &DropPathMask) -> Result<FeatureMap> {
        let block = self.config.tapped(tap)?;
        let [_, _, height, width] = pixels.dims();
        let count = block.map_or(self.config.unet.channels.len(), |block| block + 1);
        let blocks = self.up_blocks(pixels, count)?;
        let maps = blocks.into_iter().map(feature_map);
        if block.is_some() {
            return maps.last().ok_or_else(|| Error::failed("a network without up blocks has no features"));
        }
        let grid = [height / self.config.patch, width / self.config.patch];
        FeatureMap::concat(&maps.map(|map| map.resample(grid)).collect::<Result<Vec<_>>>()?)
    }

    fn pooled(&self, pixels: Tensor<4>, drop_path: &DropPathMask) -> Result<Tensor<2>> {
        Ok(self.features(pixels, &Tap::default(), drop_path)?.tokens.mean_dim(1).squeeze_dim(1))
    }
}

fn feature_map(x: Tensor<4>) -> FeatureMap {
    let [batch, channels, rows, columns] = x.dims();
    FeatureMap { tokens: tokens(x).reshape([batch, rows * columns, channels]), grid: [rows, columns] }
}
