//! Hyper-parameters of a Stable Diffusion encoder, their validation, and the sizes and operation counts they imply.

use super::super::drop_path::DropPathSpec;
use super::super::limits::MAX_SIZE;
use super::super::network::{NetworkConfig, TapSupport};
use super::super::tap::Tap;
use crate::operands::Activation;
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of the encoder's four parts, and the time step at which the U-Net is evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StableDiffusionConfig {
    /// Side of the square input images, in pixels.
    pub image_size: usize,
    /// Side of the image area that one token of the concatenated features covers, in pixels.
    pub patch: usize,
    /// Time step whose noise level is added to the latents. Default 250, as in Cambrian-1.
    #[serde(default = "default_step")]
    pub time_step: usize,
    /// Seed of the noise. Default 0.
    #[serde(default)]
    pub noise_seed: u64,
    /// Noise schedule of the diffusion process.
    pub scheduler: SchedulerConfig,
    /// Text encoder and prompt.
    pub text: PromptConfig,
    /// Encoder of the autoencoder, from pixels to latents.
    pub vae: VaeConfig,
    /// U-Net that denoises latents.
    pub unet: UnetConfig,
}

fn default_step() -> usize {
    250
}

/// The noise schedule of the diffusion process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SchedulerConfig {
    /// Number of time steps.
    pub steps: usize,
    /// Variance of the noise added in the first step, between 0 and 1.
    pub beta_start: f64,
    /// Variance of the noise added in the last step, between 0 and 1.
    pub beta_end: f64,
    /// Interpolation of the variance between the first and the last step.
    pub schedule: Schedule,
}

/// How the noise variance grows from the first time step to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The variance grows linearly.
    Linear,
    /// The square root of the variance grows linearly.
    ScaledLinear,
}

/// Hyper-parameters of a CLIP text encoder, and its prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PromptConfig {
    /// Number of tokens in the vocabulary.
    pub vocabulary: usize,
    /// Length in tokens to which the prompt is padded.
    pub positions: usize,
    /// Channels of a token, the embedding dimension.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Attention heads per block.
    pub heads: usize,
    /// Hidden channels of the MLP.
    pub mlp_hidden: usize,
    /// Activation between the two layers of the MLP.
    pub activation: Activation,
    /// Epsilon added to the variance in every norm.
    pub norm_eps: f64,
    /// Token IDs of the prompt; an empty prompt consists of the start and end tokens.
    pub prompt: Vec<usize>,
    /// Token ID that pads the prompt up to `positions`.
    pub pad: usize,
}

/// Hyper-parameters of the autoencoder's encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct VaeConfig {
    /// Channels per level; each level but the last halves the grid.
    pub channels: Vec<usize>,
    /// Residual blocks per level.
    pub layers: usize,
    /// Channel groups of every group norm.
    pub groups: usize,
    /// Number of latent channels.
    pub latent_channels: usize,
    /// Factor that scales the latents to about unit variance.
    pub scaling_factor: f64,
}

/// Hyper-parameters of the U-Net.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct UnetConfig {
    /// Channels per level of the down path; each level but the last halves the grid.
    pub channels: Vec<usize>,
    /// Residual blocks per level of the down path; the up path has one more.
    pub layers: usize,
    /// Attention heads per level.
    pub heads: Vec<usize>,
    /// Whether a level has transformers, on both paths; the middle block always has one.
    pub attention: Vec<bool>,
    /// Transformer blocks per transformer. Default 1.
    #[serde(default = "one")]
    pub transformer_depth: usize,
    /// Channel groups of every group norm.
    pub groups: usize,
    /// Epsilon added to the variance in the residual blocks' norms.
    pub norm_eps: f64,
    /// Whether the projections around the transformer blocks are stored as linear layers (Stable Diffusion 2) or as
    /// 1×1 convolutions (Stable Diffusion 1).
    pub linear_projection: bool,
}

fn one() -> usize {
    1
}

impl SchedulerConfig {
    /// Computes ᾱ, the fraction of the signal's variance that remains after `step`.
    pub fn signal(&self, step: usize) -> f64 {
        let root = |beta: f64| if self.schedule == Schedule::Linear { beta } else { beta.sqrt() };
        let (first, last) = (root(self.beta_start), root(self.beta_end));
        let gap = (last - first) / (self.steps.max(2) - 1) as f64;
        let beta = |at: usize| {
            let value = first + gap * at as f64;
            if self.schedule == Schedule::Linear { value } else { value * value }
        };
        (0..=step).map(|at| 1.0 - beta(at)).product()
    }
}

impl VaeConfig {
    /// Side of the image area of one latent, in pixels; 0 if `channels` is empty or too long.
    pub fn stride(&self) -> usize {
        let halvings = self.channels.len().checked_sub(1).and_then(|n| u32::try_from(n).ok());
        halvings.and_then(|n| 1usize.checked_shl(n)).unwrap_or(0)
    }
}

impl StableDiffusionConfig {
    fn validate_parts(&self) -> Result<()> {
        let (scheduler, text, vae, unet) = (&self.scheduler, &self.text, &self.vae, &self.unet);
        let share = |beta: f64| beta > 0.0 && beta < 1.0;
        let wrong = |part: &str, numbers: &dyn std::fmt::Debug, hint: &str| {
            Err(Error::usage(format!("invalid Stable Diffusion encoder: {part} = {numbers:?}")).hint(hint))
        };
        let lists = vae.channels.iter().chain(&unet.channels).chain(&unet.heads);
        let others = [scheduler.steps, text.positions, text.width, text.depth, text.heads, text.mlp_hidden];
        let more = [vae.layers, vae.latent_channels, unet.layers, unet.transformer_depth, self.image_size, self.patch];
        let sizes = lists.chain(&others).chain(&more).all(|n| *n <= MAX_SIZE);
        if !sizes || vae.channels.len() + unet.channels.len() > 32 || text.vocabulary > 1 << 24 {
            return Err(Error::usage("invalid Stable Diffusion encoder: a size is too large")
                .hint("all must be at most 65536 (the vocabulary 16777216), with at most 32 levels in vae and unet"));
        }
        if !share(scheduler.beta_start) || !share(scheduler.beta_end) || self.time_step >= scheduler.steps {
            let hint = "beta_start and beta_end must lie between 0 and 1, and time_step must be below steps";
            return wrong("scheduler", &(self.time_step, scheduler), hint);
        }
        let numbers = [text.positions, text.width, text.depth, text.heads, text.mlp_hidden];
        let known = text.prompt.iter().chain([&text.pad]).all(|id| *id < text.vocabulary);
        let long = text.prompt.len() > text.positions;
        if numbers.contains(&0) || !text.width.is_multiple_of(text.heads.max(1)) || !known || long {
            let hint =
                "all must be positive, heads must divide width, and the prompt must fit into positions and vocabulary";
            return wrong("text", text, hint);
        }
        let grouped = |channels: &[usize], groups: usize| {
            !channels.is_empty() && groups > 0 && channels.iter().all(|n| *n > 0 && n.is_multiple_of(groups))
        };
        if !grouped(&vae.channels, vae.groups) || [vae.layers, vae.latent_channels].contains(&0) {
            return wrong("vae", vae, "all must be positive, and groups must divide all channels");
        }
        let levels = unet.channels.len();
        let fits = grouped(&unet.channels, unet.groups)
            && ![unet.layers, unet.transformer_depth].contains(&0)
            && (unet.heads.len(), unet.attention.len()) == (levels, levels)
            && unet.channels.iter().zip(&unet.heads).all(|(n, heads)| *heads > 0 && n.is_multiple_of(*heads))
            && unet.channels.first().is_some_and(|n| n.is_multiple_of(2));
        if !fits {
            let hint = "all must be positive, channels, heads and attention of one length, groups and heads must divide the channels, and the first channels must be even";
            return wrong("unet", unet, hint);
        }
        Ok(())
    }

    /// Index of the up block that `tap` selects; `None` for the concatenation of all up blocks.
    pub(super) fn tapped(&self, tap: &Tap) -> Result<Option<usize>> {
        let layer = tap.only(self.unet.channels.len() + 1, "up block (the last is all of them together)")?;
        Ok((layer < self.unet.channels.len()).then_some(layer))
    }

    fn vae_multiply_adds(&self) -> u64 {
        let c = &self.vae;
        let levels = c.channels.len();
        let mut side = self.image_size;
        let mut before = c.channels[0];
        let mut total = convolution(3, before, 3, side);
        for (level, &width) in c.channels.iter().enumerate() {
            total += (0..c.layers).map(|i| residual(if i == 0 { before } else { width }, width, side)).sum::<u64>();
            before = width;
            if level + 1 < levels {
                side /= 2;
                total += convolution(width, width, 3, side);
            }
        }
        let tokens = side * side;
        total +=
            2 * residual(before, before, side) + (4 * tokens * before * before + 2 * tokens * tokens * before) as u64;
        let moments = 2 * c.latent_channels;
        total + convolution(before, moments, 3, side) + convolution(moments, moments, 1, side)
    }

    fn unet_multiply_adds(&self, up_blocks: usize) -> u64 {
        let c = &self.unet;
        let levels = c.channels.len();
        let mut side = self.image_size / self.vae.stride();
        let mut before = c.channels[0];
        let mut total = convolution(self.vae.latent_channels, before, 3, side);
        let mut skips = vec![before];
        for level in 0..levels {
            let width = c.channels[level];
            for _ in 0..c.layers {
                total += residual(before, width, side) + self.transformer(c.attention[level], width, side);
                before = width;
                skips.push(width);
            }
            if level + 1 < levels {
                side /= 2;
                total += convolution(width, width, 3, side);
                skips.push(width);
            }
        }
        total += 2 * residual(before, before, side) + self.transformer(true, before, side);
        for level in (0..levels).rev().take(up_blocks) {
            let width = c.channels[level];
            for _ in 0..=c.layers {
                total += residual(before + skips.pop().unwrap_or_default(), width, side);
                total += self.transformer(c.attention[level], width, side);
                before = width;
            }
            if level > 0 {
                side *= 2;
                total += convolution(width, width, 3, side);
            }
        }
        total
    }

    fn transformer(&self, there: bool, width: usize, side: usize) -> u64 {
        let (tokens, prompt) = (side * side, self.text.positions);
        let itself = 4 * tokens * width * width + 2 * tokens * tokens * width;
        let text = 2 * tokens * width * width + 2 * prompt * self.text.width * width + 2 * tokens * prompt * width;
        let block = itself + text + 12 * tokens * width * width;
        if there { (2 * tokens * width * width + self.unet.transformer_depth * block) as u64 } else { 0 }
    }
}

/// timm has no Stable Diffusion.
impl crate::timm::TimmModel for StableDiffusionConfig {}

impl NetworkConfig for StableDiffusionConfig {
    fn validate(&self) -> Result<()> {
        self.validate_parts()?;
        let levels = self.vae.channels.len() + self.unet.channels.len() - 2;
        let stride = u32::try_from(levels).ok().and_then(|levels| 1usize.checked_shl(levels)).unwrap_or(0);
        let divides = self.image_size > 0 && self.image_size.checked_rem(stride) == Some(0);
        if !divides || self.image_size.checked_rem(self.patch) != Some(0) {
            return Err(Error::usage(format!(
                "invalid Stable Diffusion encoder: image_size {} with patch {} and {levels} halvings of the grid",
                self.image_size, self.patch
            ))
            .hint("patch, and 2 to the number of halvings in vae and unet, must divide image_size"));
        }
        Ok(())
    }

    fn image_size(&self) -> usize {
        self.image_size
    }

    fn min_layers(&self) -> usize {
        self.text.depth.max(self.unet.layers).max(self.vae.layers).max(self.unet.transformer_depth)
    }

    fn tap_support(&self, tap: &Tap) -> Result<TapSupport> {
        self.tapped(tap)?;
        Ok(TapSupport { final_norm: false, class_token: false })
    }

    fn tap_sides(&self, tap: &Tap) -> Result<Vec<usize>> {
        let latents = self.image_size / self.vae.stride();
        let halvings = |block: usize| self.unet.channels.len().saturating_sub(block + 2);
        let side = self.tapped(tap)?.map_or(self.image_size / self.patch, |block| latents >> halvings(block));
        Ok(vec![side])
    }

    fn tap_width(&self, tap: &Tap) -> Result<usize> {
        let up = self.unet.channels.iter().rev();
        Ok(match self.tapped(tap)? {
            Some(block) => up.copied().nth(block).unwrap_or_default(),
            None => up.sum(),
        })
    }

    /// The prompt is not counted, because it is encoded only once for all images.
    fn tap_multiply_adds(&self, tap: &Tap) -> Result<u64> {
        let blocks = self.tapped(tap)?.map_or(self.unet.channels.len(), |block| block + 1);
        Ok(self.vae_multiply_adds() + self.unet_multiply_adds(blocks))
    }

    fn pooled_width(&self) -> usize {
        self.unet.channels.iter().sum()
    }

    fn norms_last_tokens(&self) -> bool {
        false
    }

    fn drop_path(&self) -> Option<DropPathSpec> {
        None
    }
}

fn convolution(from: usize, to: usize, kernel: usize, side: usize) -> u64 {
    (side * side * kernel * kernel * from * to) as u64
}

fn residual(from: usize, to: usize, side: usize) -> u64 {
    let shortcut = if from == to { 0 } else { convolution(from, to, 1, side) };
    convolution(from, to, 3, side) + convolution(to, to, 3, side) + shortcut
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values are those of diffusers' `DDIMScheduler` with Stable Diffusion's configuration.
    #[test]
    fn the_signal_is_that_of_the_scheduler() {
        let mut scheduler =
            SchedulerConfig { steps: 1000, beta_start: 0.00085, beta_end: 0.012, schedule: Schedule::ScaledLinear };
        assert!((scheduler.signal(250) - 0.673_793).abs() < 1e-6, "{}", scheduler.signal(250));
        assert!((scheduler.signal(0) - 0.99915).abs() < 1e-9);
        scheduler.schedule = Schedule::Linear;
        let by_hand = (1.0 - 0.00085) * (1.0 - (0.00085 + (0.012 - 0.00085) / 999.0));
        assert!((scheduler.signal(1) - by_hand).abs() < 1e-12);
    }
}
