//! The U-Net (Rombach et al. 2022; `UNet2DConditionModel`) without its output layer: a down path of residual blocks and
//! transformers, a middle block, and an up path with skip connections from the down path.

use super::config::UnetConfig;
use super::noise::time_features;
use super::parts::{Downsampler, Resnet, ResnetConfig, Upsampler, conv3};
use super::transformer::{SpatialTransformer, TransformerConfig};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData, activation::silu};

/// The U-Net without its output layer.
#[derive(Module, Debug)]
pub struct Unet {
    /// 3×3 convolution from latents to the first level's channels.
    pub conv_in: Conv2d,
    /// MLP of the time embedding, which all residual blocks use.
    pub time_embedding: TimeEmbedding,
    /// Blocks of the down path, one per level.
    pub down_blocks: Vec<DownBlock>,
    /// Middle block at the lowest resolution.
    pub mid_block: MidBlock,
    /// Blocks of the up path, one per level, the lowest resolution first.
    pub up_blocks: Vec<UpBlock>,
}

/// An MLP of two linear layers with SiLU between them.
#[derive(Module, Debug)]
pub struct TimeEmbedding {
    /// First layer, from the sinusoidal time embedding.
    pub linear_1: Linear,
    /// Second layer, which keeps the number of channels.
    pub linear_2: Linear,
}

/// A level of the down path: residual blocks, each followed by a transformer if the level has attention, then a
/// downsampling layer (except in the last level).
#[derive(Module, Debug)]
pub struct DownBlock {
    /// The residual blocks, in order.
    pub resnets: Vec<Resnet>,
    /// One transformer per residual block; empty if this level has no attention.
    pub attentions: Vec<SpatialTransformer>,
    /// The downsampling layer; empty in the last level.
    pub downsamplers: Vec<Downsampler>,
}

/// The middle block: a residual block, a transformer, a residual block.
#[derive(Module, Debug)]
pub struct MidBlock {
    /// The two residual blocks.
    pub resnets: Vec<Resnet>,
    /// The one transformer.
    pub attentions: Vec<SpatialTransformer>,
}

/// A level of the up path: residual blocks on the concatenation of their input with a skip connection, each followed by
/// a transformer if the level has attention, then an upsampling layer (except in the last block).
#[derive(Module, Debug)]
pub struct UpBlock {
    /// The residual blocks, in order.
    pub resnets: Vec<Resnet>,
    /// One transformer per residual block; empty if this level has no attention.
    pub attentions: Vec<SpatialTransformer>,
    /// The upsampling layer; empty in the last block.
    pub upsamplers: Vec<Upsampler>,
}

impl UnetConfig {
    /// Builds a network with placeholder weights for latents of `latent` channels and prompts of width `prompt`; the
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
        // Channels of the skip connections; the up path takes the last one first.
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
    /// Time embedding `[1, channels]` of `step`, after the SiLU that every residual block applies to it first.
    fn forward(&self, step: usize) -> Tensor<2> {
        let weight = self.linear_1.weight.val();
        let [channels, _] = weight.dims();
        let features = TensorData::new(time_features(step, channels), [1, channels]);
        let hidden = silu(self.linear_1.forward(Tensor::from_data(features, &weight.device())));
        silu(self.linear_2.forward(hidden))
    }
}

impl Unet {
    /// Outputs of the first `count` up blocks for noisy latents `[batch, channels, rows, columns]` at `step` and a
    /// prompt `[tokens, width]`. Later blocks are not computed.
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
