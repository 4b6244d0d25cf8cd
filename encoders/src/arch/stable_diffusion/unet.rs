//! The denoising network (Rombach et al. 2022; `UNet2DConditionModel`), up to and without its output layer: down through
//! levels of residual blocks and transformers, and up again beside what was seen on the way down.

use super::config::UnetConfig;
use super::noise::time_features;
use super::parts::{Downsampler, Resnet, ResnetConfig, Upsampler, conv3};
use super::transformer::{SpatialTransformer, TransformerConfig};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData, activation::silu};

/// The denoising network without its output layer.
#[derive(Module, Debug)]
pub struct Unet {
    /// From latents.
    pub conv_in: Conv2d,
    /// What the residual blocks know of the time.
    pub time_embedding: TimeEmbedding,
    /// Down.
    pub down_blocks: Vec<DownBlock>,
    /// The bottom.
    pub mid_block: MidBlock,
    /// Up.
    pub up_blocks: Vec<UpBlock>,
}

/// Two layers with SiLU between.
#[derive(Module, Debug)]
pub struct TimeEmbedding {
    /// From cosines and sines.
    pub linear_1: Linear,
    /// Keeps the channels.
    pub linear_2: Linear,
}

/// Residual blocks, each followed by a transformer where the level attends, then half the grid (but in the last level).
#[derive(Module, Debug)]
pub struct DownBlock {
    /// The residual blocks.
    pub resnets: Vec<Resnet>,
    /// As many, or none.
    pub attentions: Vec<SpatialTransformer>,
    /// None or one.
    pub downsamplers: Vec<Downsampler>,
}

/// A residual block, a transformer, a residual block.
#[derive(Module, Debug)]
pub struct MidBlock {
    /// Two.
    pub resnets: Vec<Resnet>,
    /// One.
    pub attentions: Vec<SpatialTransformer>,
}

/// Residual blocks over what comes from below and what was seen on the way down, each followed by a transformer where the
/// level attends, then twice the grid (but in the last block).
#[derive(Module, Debug)]
pub struct UpBlock {
    /// The residual blocks.
    pub resnets: Vec<Resnet>,
    /// As many, or none.
    pub attentions: Vec<SpatialTransformer>,
    /// None or one.
    pub upsamplers: Vec<Upsampler>,
}

impl UnetConfig {
    /// A network with placeholder weights for latents of `latent` channels and prompts of width `prompt`; the
    /// configuration must be valid.
    pub(super) fn init(&self, latent: usize, prompt: usize, device: &Device) -> Unet {
        let levels = self.channels.len();
        let (first, last) = (self.channels[0], self.channels[levels - 1]);
        let time = 4 * first;
        let resnet = ResnetConfig { groups: self.groups, eps: self.norm_eps, time: Some(time) };
        let transformers = |level: usize, count: usize| {
            let config = TransformerConfig {
                width: self.channels[level],
                heads: self.heads[level],
                depth: self.transformer_depth,
                groups: self.groups,
                prompt,
                linear_projection: self.linear_projection,
            };
            (0..count).map(|_| config.init(device)).collect::<Vec<_>>()
        };
        // What the way up will find, the last first.
        let mut skips = vec![first];
        let mut before = first;
        let mut down_blocks = Vec::with_capacity(levels);
        for (level, &width) in self.channels.iter().enumerate() {
            let resnets = (0..self.layers).map(|_| resnet.init(std::mem::replace(&mut before, width), width, device));
            let resnets: Vec<Resnet> = resnets.collect();
            let halved = level + 1 < levels;
            skips.extend(vec![width; self.layers + usize::from(halved)]);
            down_blocks.push(DownBlock {
                resnets,
                attentions: transformers(level, if self.attention[level] { self.layers } else { 0 }),
                downsamplers: halved.then(|| Downsampler::new(width, 1, device)).into_iter().collect(),
            });
        }
        let mid_block = MidBlock {
            resnets: (0..2).map(|_| resnet.init(last, last, device)).collect(),
            attentions: transformers(levels - 1, 1),
        };
        let mut up_blocks = Vec::with_capacity(levels);
        for (level, &width) in self.channels.iter().enumerate().rev() {
            let resnets = (0..=self.layers).map(|_| {
                let from = std::mem::replace(&mut before, width) + skips.pop().unwrap_or_default();
                resnet.init(from, width, device)
            });
            let resnets: Vec<Resnet> = resnets.collect();
            up_blocks.push(UpBlock {
                resnets,
                attentions: transformers(level, if self.attention[level] { self.layers + 1 } else { 0 }),
                upsamplers: (level > 0).then(|| Upsampler { conv: conv3(width, width, device) }).into_iter().collect(),
            });
        }
        Unet {
            conv_in: conv3(latent, first, device),
            time_embedding: TimeEmbedding {
                linear_1: LinearConfig::new(first, time).init(device),
                linear_2: LinearConfig::new(time, time).init(device),
            },
            down_blocks,
            mid_block,
            up_blocks,
        }
    }
}

impl TimeEmbedding {
    /// `[1, channels]` after the SiLU with which every residual block begins to read it.
    fn forward(&self, step: usize) -> Tensor<2> {
        let weight = self.linear_1.weight.val();
        let [channels, _] = weight.dims();
        let features = TensorData::new(time_features(step, channels), [1, channels]);
        let hidden = silu(self.linear_1.forward(Tensor::from_data(features, &weight.device())));
        silu(self.linear_2.forward(hidden))
    }
}

impl Unet {
    /// The outputs of the first `count` up blocks for noisy latents `[batch, channels, rows, columns]` at `step`, given a
    /// prompt `[tokens, width]`. Later blocks do not run.
    pub(super) fn up_blocks(
        &self,
        latents: Tensor<4>,
        step: usize,
        prompt: &Tensor<2>,
        count: usize,
    ) -> Result<Vec<Tensor<4>>> {
        let time = self.time_embedding.forward(step);
        let layer = |x: Tensor<4>, resnet: &Resnet, attention: Option<&SpatialTransformer>| {
            let x = resnet.forward(x, Some(&time));
            match attention {
                Some(attention) => attention.forward(x, prompt),
                None => x,
            }
        };
        let mut x = self.conv_in.forward(latents);
        let mut skips = vec![x.clone()];
        for block in &self.down_blocks {
            for (i, resnet) in block.resnets.iter().enumerate() {
                x = layer(x, resnet, block.attentions.get(i));
                skips.push(x.clone());
            }
            for half in &block.downsamplers {
                x = half.conv.forward(x);
                skips.push(x.clone());
            }
        }
        for (i, resnet) in self.mid_block.resnets.iter().enumerate() {
            x = layer(x, resnet, self.mid_block.attentions.get(i));
        }
        let mut outputs = Vec::with_capacity(count);
        for block in self.up_blocks.iter().take(count) {
            for (i, resnet) in block.resnets.iter().enumerate() {
                let skip = skips.pop().ok_or_else(|| Error::failed("a way up that is longer than the way down"))?;
                x = layer(Tensor::cat(vec![x, skip], 1), resnet, block.attentions.get(i));
            }
            x = block.upsamplers.iter().fold(x, |x, twice| twice.forward(x));
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}
