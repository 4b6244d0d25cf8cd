//! The encoder of the autoencoder (Rombach et al. 2022, arXiv:2112.10752; `AutoencoderKL`), from pixels to the mean of
//! the latent distribution.

use super::config::VaeConfig;
use super::parts::{Downsampler, Resnet, ResnetConfig, attend_rows, conv3, group_norm, map, tokens};
use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Dropout, DropoutConfig, GroupNorm, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::silu};

/// Epsilon added to the variance in every norm.
const EPS: f64 = 1e-6;

/// The autoencoder without its decoder.
#[derive(Module, Debug)]
pub struct Vae {
    /// Encoder from pixels to twice the latent channels.
    pub encoder: VaeEncoder,
    /// 1×1 convolution to the means and log variances of the latents.
    pub quant_conv: Conv2d,
    latent_channels: usize,
    scaling_factor: f64,
}

/// Levels of residual blocks, and a middle block with attention at the lowest resolution.
#[derive(Module, Debug)]
pub struct VaeEncoder {
    /// 3×3 convolution from pixels to the first level's channels.
    pub conv_in: Conv2d,
    /// The levels, in order of decreasing resolution.
    pub down_blocks: Vec<VaeLevel>,
    /// Middle block at the lowest resolution.
    pub mid_block: VaeMiddle,
    /// Group norm before `conv_out`.
    pub conv_norm_out: GroupNorm,
    /// 3×3 convolution to twice the latent channels.
    pub conv_out: Conv2d,
}

/// A level: residual blocks, then a downsampling layer (except in the last level).
#[derive(Module, Debug)]
pub struct VaeLevel {
    /// The residual blocks, in order.
    pub resnets: Vec<Resnet>,
    /// The downsampling layer; empty in the last level.
    pub downsamplers: Vec<Downsampler>,
}

/// The middle block: a residual block, attention, a residual block.
#[derive(Module, Debug)]
pub struct VaeMiddle {
    /// The two residual blocks.
    pub resnets: Vec<Resnet>,
    /// The one attention layer.
    pub attentions: Vec<MapAttention>,
}

/// Single-head self-attention over all positions of the feature map, with a shortcut.
#[derive(Module, Debug)]
pub struct MapAttention {
    /// Group norm over channels, before attention.
    pub group_norm: GroupNorm,
    /// Query projection, `[channels, channels]`.
    pub to_q: Linear,
    /// Key projection, `[channels, channels]`.
    pub to_k: Linear,
    /// Value projection, `[channels, channels]`.
    pub to_v: Linear,
    /// Output projection and a dropout of rate 0, which keeps upstream's numbering.
    pub to_out: (Linear, Dropout),
}

impl VaeConfig {
    /// Builds a network with placeholder weights; the configuration must be valid.
    pub(super) fn init(&self, device: &Device) -> Vae {
        let resnet = ResnetConfig { groups: self.groups, eps: EPS, time: None };
        let (first, last) = (self.channels[0], self.channels[self.channels.len() - 1]);
        let mut before = first;
        let levels = self.channels.iter().enumerate().map(|(level, &width)| {
            let resnets = (0..self.layers).map(|_| resnet.init(std::mem::replace(&mut before, width), width, device));
            let halved = level + 1 < self.channels.len();
            VaeLevel {
                resnets: resnets.collect(),
                downsamplers: halved.then(|| Downsampler::new(width, 0, device)).into_iter().collect(),
            }
        });
        let linear = || LinearConfig::new(last, last).init(device);
        let attention = MapAttention {
            group_norm: group_norm(self.groups, last, EPS, device),
            to_q: linear(),
            to_k: linear(),
            to_v: linear(),
            to_out: (linear(), DropoutConfig::new(0.0).init()),
        };
        let moments = 2 * self.latent_channels;
        Vae {
            encoder: VaeEncoder {
                conv_in: conv3(3, first, device),
                down_blocks: levels.collect(),
                mid_block: VaeMiddle {
                    resnets: (0..2).map(|_| resnet.init(last, last, device)).collect(),
                    attentions: vec![attention],
                },
                conv_norm_out: group_norm(self.groups, last, EPS, device),
                conv_out: conv3(last, moments, device),
            },
            quant_conv: Conv2dConfig::new([moments, moments], [1, 1]).init(device),
            latent_channels: self.latent_channels,
            scaling_factor: self.scaling_factor,
        }
    }
}

impl Vae {
    /// Maps pixels `[batch, 3, height, width]` to scaled latents `[batch, channels, rows, columns]`: the mean of the
    /// latent distribution, which is also its mode.
    pub(super) fn latents(&self, pixels: Tensor<4>) -> Tensor<4> {
        let moments = self.quant_conv.forward(self.encoder.forward(pixels));
        moments.narrow(1, 0, self.latent_channels).mul_scalar(self.scaling_factor)
    }
}

impl VaeEncoder {
    fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        let mut x = self.conv_in.forward(pixels);
        for level in &self.down_blocks {
            x = level.resnets.iter().fold(x, |x, resnet| resnet.forward(x, None));
            x = level.downsamplers.iter().fold(x, |x, half| half.conv.forward(x));
        }
        for (i, resnet) in self.mid_block.resnets.iter().enumerate() {
            x = resnet.forward(x, None);
            x = self.mid_block.attentions.get(i).into_iter().fold(x, |x, attention| attention.forward(x));
        }
        self.conv_out.forward(silu(self.conv_norm_out.forward(x)))
    }
}

impl MapAttention {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let dims = x.dims();
        let inside = tokens(self.group_norm.forward(x.clone()));
        let (q, k) = (self.to_q.forward(inside.clone()), self.to_k.forward(inside.clone()));
        let mixed = attend_rows(q, k, self.to_v.forward(inside), dims[0], 1);
        x + map(self.to_out.0.forward(mixed), dims)
    }
}
