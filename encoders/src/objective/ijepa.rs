//! I-JEPA (Assran et al. 2023, arXiv:2301.08243): from the features of a part of the image, a narrow transformer
//! predicts the features that the exponential moving average of the encoder gives to blocks of hidden patches.
//!
//! As in the paper's code: one size of target blocks per batch and a place of its own for each image, the context is
//! what no target covers, each block is predicted by itself, targets are normed over their channels, the loss is smooth
//! L1. Unlike it: the context block is the whole image (on 4×4 patches the paper's scale of 0.85 to 1 rounds to that),
//! and contexts are brought to one length by dropping patches at random instead of the last ones.

use super::average::{follow, rising};
use super::mae::{choose, sin_cos};
use super::{Batch, DataShape, INIT, Learner, LearnerConfig, Loss, Moment, Targets, random_crops, vit_config};
use crate::arch::{
    Architecture, ArchitectureConfig, AttentionPositions, Block, DropPathMask, NetworkConfig, Vit, blocks,
};
use crate::init::initialise;
use burgess_base::stream::{Stream, uniform};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// The numbers of I-JEPA.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IJepaConfig {
    /// Blocks that are predicted, per image. Default 4.
    pub blocks: usize,
    /// Area of a block, as a fraction of the image. Default 0.15 to 0.2.
    pub block_scale: [f64; 2],
    /// Height of a block over its width. Default 0.75 to 1.5.
    pub block_aspect: [f64; 2],
    /// Channels of the predictor. Default 64.
    pub predictor_width: usize,
    /// Blocks of the predictor. Default 2.
    pub predictor_depth: usize,
    /// Attention heads of the predictor. Default 4.
    pub predictor_heads: usize,
    /// Weight of the old average in each update at the start; it rises to 1. Default 0.99.
    pub momentum: f64,
    /// Area of the random crops. Default 0.5 to 1.
    pub crop: [f64; 2],
}

impl Default for IJepaConfig {
    fn default() -> Self {
        Self {
            blocks: 4,
            block_scale: [0.15, 0.2],
            block_aspect: [0.75, 1.5],
            predictor_width: 64,
            predictor_depth: 2,
            predictor_heads: 4,
            momentum: 0.99,
            crop: [0.5, 1.0],
        }
    }
}

/// An encoder learning to predict its own features of what it did not see.
#[derive(Module, Debug)]
pub struct IJepa {
    encoder: Vit,
    predictor_embed: Linear,
    /// Stands where a patch is to be predicted, `[1, 1, predictor_width]`.
    mask_token: Param<Tensor<3>>,
    predictor_blocks: Vec<Block>,
    predictor_norm: LayerNorm,
    predictor_proj: Linear,
    /// The moving average of `encoder`; not a parameter, so no gradient and no optimiser ever reaches it.
    #[module(skip)]
    target_encoder: Vit,
    #[module(skip)]
    config: IJepaConfig,
}

impl LearnerConfig for IJepaConfig {
    type Learner = IJepa;
    const TARGETS: Targets = Targets::NONE;

    fn init(&self, encoder: &ArchitectureConfig, _data: &DataShape, device: &Device, seed: u64) -> Result<IJepa> {
        let vit = vit_config(encoder, "ijepa")?;
        let fine = self.blocks > 0
            && self.predictor_width > 0
            && self.predictor_width.is_multiple_of(4)
            && self.block_scale.iter().all(|s| *s > 0.0 && *s < 1.0)
            && self.block_aspect.iter().all(|a| *a > 0.0);
        if !fine {
            return Err(Error::usage(format!(
                "ijepa cannot have blocks {}, block_scale {:?}, block_aspect {:?}, predictor_width {}",
                self.blocks, self.block_scale, self.block_aspect, self.predictor_width
            ))
            .hint("block_scale must lie between 0 and 1, the others above 0, and predictor_width be a multiple of 4"));
        }
        let width = self.predictor_width;
        let mut learner = IJepa {
            encoder: vit.init(device),
            predictor_embed: LinearConfig::new(vit.width, width).init(device),
            mask_token: Initializer::Zeros.init([1, 1, width], device),
            predictor_blocks: blocks(width, self.predictor_depth, self.predictor_heads, device)?,
            predictor_norm: LayerNormConfig::new(width).with_epsilon(vit.norm_eps).init(device),
            predictor_proj: LinearConfig::new(width, vit.width).init(device),
            target_encoder: vit.init(device),
            config: self.clone(),
        };
        learner = initialise(learner, INIT, seed);
        learner.target_encoder = learner.encoder.valid();
        Ok(learner)
    }
}

impl Learner for IJepa {
    fn loss(&self, batch: &Batch, moment: &mut Moment) -> Result<Loss> {
        let [count, _, size, _] = batch.pixels.dims();
        let pixels = random_crops(batch.pixels.clone(), size, self.config.crop, &mut moment.stream);
        let (patches, grid) = self.encoder.patches(pixels.clone())?;
        let masks = Masks::draw(count, grid, &self.config, &pixels.device(), &mut moment.stream);

        // The average sees the whole image and builds no graph.
        let all = features(&self.target_encoder, pixels.inner(), &DropPathMask::none())?;
        let targets = masks.targets.clone().inner().matmul(channel_norm(all));

        let patches = match self.encoder.positions(grid) {
            Some(positions) => patches + positions,
            None => patches,
        };
        let seen = masks.context.clone().matmul(patches);
        let drop_path = self.encoder.config().draw_drop_path(count, &mut moment.stream, &seen.device());
        let latent =
            self.encoder.run_blocks(self.encoder.with_prefix(seen), &AttentionPositions::default(), &drop_path);
        let (_, context) = self.encoder.split(self.encoder.final_norm(latent));

        let predicted = self.predict(context, grid, &masks);
        Ok(Loss { parts: vec![("target_spread", spread(&targets))], total: smooth_l1(predicted, targets) })
    }

    fn after_step(mut self, moment: &Moment) -> Self {
        self.target_encoder =
            follow(self.target_encoder, &self.encoder, rising(self.config.momentum, moment.progress()));
        self
    }

    /// The moving average, with which the paper evaluates.
    fn into_encoder(self) -> Architecture {
        Architecture::Vit(self.target_encoder)
    }
}

impl IJepa {
    /// From the features of the context, `[batch, context, width]`, to those of the targets, `[batch, targets, width]`.
    fn predict(&self, context: Tensor<3>, grid: [usize; 2], masks: &Masks) -> Tensor<3> {
        let (blocks, width) = (self.config.blocks, self.config.predictor_width);
        let [batch, seen, _] = context.dims();
        let [_, targets, _] = masks.targets.dims();
        let each = targets / blocks;
        let positions = sin_cos(grid, width, &context.device()).expand([batch as i64, -1, -1]);
        let context = self.predictor_embed.forward(context) + masks.context.clone().matmul(positions.clone());
        let asked = masks.targets.clone().matmul(positions) + self.mask_token.val();
        // Every block is predicted by itself: blocks of an image must not tell each other where they are.
        let context =
            context.unsqueeze_dim::<4>(1).expand([batch, blocks, seen, width]).reshape([batch * blocks, seen, width]);
        let tokens = Tensor::cat(vec![context, asked.reshape([batch * blocks, each, width])], 1);
        let tokens =
            self.predictor_blocks.iter().fold(tokens, |x, block| block.forward(x, &AttentionPositions::default()));
        let predicted = self.predictor_norm.forward(tokens.narrow(1, seen, each).reshape([batch, targets, width]));
        self.predictor_proj.forward(predicted)
    }
}

/// Patch features after the final norm, `[batch, patches, width]`.
fn features(encoder: &Vit, pixels: Tensor<4>, drop_path: &DropPathMask) -> Result<Tensor<3>> {
    let (patches, grid) = encoder.patches(pixels)?;
    let tokens = encoder.run_blocks(encoder.prepare(patches, grid), &AttentionPositions::default(), drop_path);
    Ok(encoder.split(encoder.final_norm(tokens)).1)
}

/// The patches of the context and of the target blocks, as one-hot rows: as matrix products the selections are
/// differentiable and exact on every backend.
struct Masks {
    /// `[batch, context, patches]`.
    context: Tensor<3>,
    /// `[batch, blocks * patches per block, patches]`, block after block.
    targets: Tensor<3>,
}

impl Masks {
    fn draw(batch: usize, grid: [usize; 2], config: &IJepaConfig, device: &Device, stream: &mut Stream) -> Self {
        let n = grid[0] * grid[1];
        let [height, width] = block_size(grid, config, stream);
        let mut targets = Vec::with_capacity(batch);
        let mut contexts = Vec::with_capacity(batch);
        for _ in 0..batch {
            let mut chosen = Vec::with_capacity(config.blocks * height * width);
            for _ in 0..config.blocks {
                let mut at = |room: usize| ((uniform(stream) * (room + 1) as f64) as usize).min(room);
                let (top, left) = (at(grid[0] - height), at(grid[1] - width));
                chosen.extend((0..height * width).map(|i| (top + i / width) * grid[1] + left + i % width));
            }
            let mut free: Vec<usize> = (0..n).filter(|patch| !chosen.contains(patch)).collect();
            // Blocks may cover the whole of a small grid.
            if free.is_empty() {
                free = choose(n, 1, stream);
            }
            targets.push(chosen);
            contexts.push(free);
        }
        let shortest = contexts.iter().map(Vec::len).min().unwrap_or(1);
        for context in &mut contexts {
            let mut kept = choose(context.len(), shortest, stream);
            kept.sort_unstable();
            *context = kept.into_iter().filter_map(|i| context.get(i).copied()).collect();
        }
        Self { context: one_hot(&contexts, n, device), targets: one_hot(&targets, n, device) }
    }
}

/// Height and width in patches of the target blocks of a batch.
fn block_size(grid: [usize; 2], config: &IJepaConfig, stream: &mut Stream) -> [usize; 2] {
    let mut between = |[low, high]: [f64; 2]| low + (high - low) * uniform(stream);
    let area = (grid[0] * grid[1]) as f64 * between(config.block_scale);
    let aspect = between(config.block_aspect);
    let side = |length: f64, most: usize| (length.round() as usize).clamp(1, most.saturating_sub(1).max(1));
    [side((area * aspect).sqrt(), grid[0]), side((area / aspect).sqrt(), grid[1])]
}

/// Rows with a one at the given places, `[batch, rows, n]`; all lists are of one length.
fn one_hot(places: &[Vec<usize>], n: usize, device: &Device) -> Tensor<3> {
    let rows = places.first().map_or(0, Vec::len);
    let mut values = vec![0f32; places.len() * rows * n];
    for (row, &place) in values.chunks_exact_mut(n).zip(places.iter().flatten()) {
        if let Some(value) = row.get_mut(place) {
            *value = 1.0;
        }
    }
    Tensor::from_data(TensorData::new(values, [places.len(), rows, n]), device)
}

/// Each token of `[batch, tokens, width]` with mean 0 and variance 1 over its channels (layer norm without its affine
/// part).
pub fn channel_norm(x: Tensor<3>) -> Tensor<3> {
    let centred = x.clone() - x.mean_dim(2);
    let variance = centred.clone().square().mean_dim(2);
    centred / variance.add_scalar(1e-5).sqrt()
}

/// The mean deviation of a channel over all tokens: near 0 if the encoder has collapsed to one output. A single number.
fn spread(targets: &Tensor<3>) -> Tensor<1> {
    let [batch, tokens, width] = targets.dims();
    let rows: Tensor<2> = targets.clone().detach().reshape([batch * tokens, width]);
    (rows.clone() - rows.mean_dim(0)).square().mean_dim(0).sqrt().mean()
}

/// The mean of `x² / 2` where a difference `x` is below 1, of `|x| - 1/2` elsewhere. Both are `[batch, tokens,
/// width]`. A single number.
pub fn smooth_l1(predicted: Tensor<3>, target: Tensor<3>) -> Tensor<1> {
    let distance = (predicted - target).abs();
    // With m = min(|x|, 1), both cases are m · (|x| - m / 2).
    let small = distance.clone().clamp_max(1.0);
    (small.clone() * (distance - small.div_scalar(2.0))).mean()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_base::stream::stream;

    #[test]
    fn targets_are_blocks_and_contexts_avoid_them() {
        let config = IJepaConfig::default();
        for seed in 0..30 {
            let masks = Masks::draw(5, [6, 6], &config, &Device::flex(), &mut stream("masks", seed));
            let [batch, rows, n] = masks.targets.dims();
            let [_, context, _] = masks.context.dims();
            assert!(batch == 5 && n == 36 && (4..=9).contains(&(rows / 4)) && context >= 4, "{rows} {context}");
            let both = masks.context.clone().matmul(masks.targets.clone().swap_dims(1, 2));
            assert!(both.into_data().iter::<f32>().all(|v| v == 0.0), "a context shows what is to be predicted");
            let ones: Vec<f32> = masks.context.sum_dim(2).into_data().iter().collect();
            assert!(ones.iter().all(|v| *v == 1.0));
        }
        let [height, width] = block_size([4, 4], &config, &mut stream("block", 0));
        assert!((1..4).contains(&height) && (1..4).contains(&width));
    }
}
