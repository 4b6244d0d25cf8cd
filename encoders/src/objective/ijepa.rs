//! I-JEPA (Assran et al. 2023, arXiv:2301.08243): from the features of a context, the visible part of the image, a
//! narrow transformer predicts the features of target blocks, which the exponential moving average of the encoder
//! computes.
//!
//! As in the paper's code, target blocks have one size per batch and random positions per image, the context is the
//! patches that no target covers, each block is predicted separately, targets are normalised over their channels, and
//! the loss is smooth L1. Unlike in the paper's code, the context block is the whole image (on 4×4 patches the paper's
//! scale of 0.85 to 1 rounds to that), and contexts are cut to equal length by dropping random patches instead of the
//! last ones.

use super::ema::{cosine_momentum, ema_update};
use super::mae::{random_subset, sincos_position_embedding};
use super::{
    DataShape, INIT, Learner, LearnerConfig, Loss, PretrainBatch, StepContext, Targets, random_crops, vit_config,
};
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

/// Hyper-parameters of I-JEPA pretraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct IJepaConfig {
    /// Number of target blocks per image. Default 4.
    pub blocks: usize,
    /// Area of a target block as fractions of the image, `[low, high]`. Default 0.15 to 0.2.
    pub block_scale: [f64; 2],
    /// Height of a target block divided by its width, `[low, high]`. Default 0.75 to 1.5.
    pub block_aspect: [f64; 2],
    /// Width of the predictor in channels. Default 64.
    pub predictor_width: usize,
    /// Number of blocks of the predictor. Default 2.
    pub predictor_depth: usize,
    /// Number of attention heads of the predictor. Default 4.
    pub predictor_heads: usize,
    /// Momentum of the target encoder's moving average at the start; it rises to 1. Default 0.99.
    pub momentum: f64,
    /// Area of the random crops as fractions of the image, `[low, high]`. Default 0.5 to 1.
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

/// An encoder with a predictor and the target encoder, trained to predict features of masked blocks.
#[derive(Module, Debug)]
pub struct IJepa {
    encoder: Vit,
    predictor_embed: Linear,
    /// Embedding of patches to be predicted, `[1, 1, predictor_width]`.
    mask_token: Param<Tensor<3>>,
    predictor_blocks: Vec<Block>,
    predictor_norm: LayerNorm,
    predictor_proj: Linear,
    /// Moving average of `encoder`; skipped as a parameter, so that it gets no gradient and no optimiser step.
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
        let valid = self.blocks > 0
            && self.predictor_width > 0
            && self.predictor_width.is_multiple_of(4)
            && self.block_scale.iter().all(|s| *s > 0.0 && *s < 1.0)
            && self.block_aspect.iter().all(|a| *a > 0.0);
        if !valid {
            return Err(Error::usage(format!(
                "invalid hyper-parameters of ijepa: blocks {}, block_scale {:?}, block_aspect {:?}, predictor_width {}",
                self.blocks, self.block_scale, self.block_aspect, self.predictor_width
            ))
            .hint("set block_scale between 0 and 1, the others above 0, predictor_width to a multiple of 4"));
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
    fn loss(&self, batch: &PretrainBatch, context: &mut StepContext) -> Result<Loss> {
        let [count, _, size, _] = batch.pixels.dims();
        let pixels = random_crops(batch.pixels.clone(), size, self.config.crop, &mut context.stream);
        let (patches, grid) = self.encoder.patches(pixels.clone())?;
        let masks = Masks::draw(count, grid, &self.config, &pixels.device(), &mut context.stream);

        // The target encoder gets the whole image and builds no graph.
        let all = features(&self.target_encoder, pixels.inner(), &DropPathMask::none())?;
        let targets = masks.targets.clone().inner().matmul(channel_norm(all));

        let patches = match self.encoder.positions(grid) {
            Some(positions) => patches + positions,
            None => patches,
        };
        let visible = masks.context.clone().matmul(patches);
        let drop_path = self.encoder.config().draw_drop_path(count, &mut context.stream, &visible.device());
        let latent =
            self.encoder.run_blocks(self.encoder.with_prefix(visible), &AttentionPositions::default(), &drop_path);
        let (_, context) = self.encoder.split(self.encoder.final_norm(latent));

        let predicted = self.predict(context, grid, &masks);
        Ok(Loss { parts: vec![("target_spread", spread(&targets))], total: smooth_l1(predicted, targets) })
    }

    fn after_step(mut self, context: &StepContext) -> Self {
        self.target_encoder =
            ema_update(self.target_encoder, &self.encoder, cosine_momentum(self.config.momentum, context.progress()));
        self
    }

    /// Returns the target encoder, which the paper evaluates.
    fn into_encoder(self) -> Architecture {
        Architecture::Vit(self.target_encoder)
    }
}

impl IJepa {
    /// Predicts the features of the targets, `[batch, targets, width]`, from those of the context, `[batch, context,
    /// width]`.
    fn predict(&self, context: Tensor<3>, grid: [usize; 2], masks: &Masks) -> Tensor<3> {
        let (blocks, width) = (self.config.blocks, self.config.predictor_width);
        let [batch, visible, _] = context.dims();
        let [_, targets, _] = masks.targets.dims();
        let each = targets / blocks;
        let positions = sincos_position_embedding(grid, width, &context.device()).expand([batch as i64, -1, -1]);
        let context = self.predictor_embed.forward(context) + masks.context.clone().matmul(positions.clone());
        let queries = masks.targets.clone().matmul(positions) + self.mask_token.val();
        // Blocks are predicted separately, so that no block attends to the positions of another.
        let context = context.unsqueeze_dim::<4>(1).expand([batch, blocks, visible, width]).reshape([
            batch * blocks,
            visible,
            width,
        ]);
        let tokens = Tensor::cat(vec![context, queries.reshape([batch * blocks, each, width])], 1);
        let tokens =
            self.predictor_blocks.iter().fold(tokens, |x, block| block.forward(x, &AttentionPositions::default()));
        let predicted = self.predictor_norm.forward(tokens.narrow(1, visible, each).reshape([batch, targets, width]));
        self.predictor_proj.forward(predicted)
    }
}

/// Returns patch features after the final norm, `[batch, patches, width]`.
fn features(encoder: &Vit, pixels: Tensor<4>, drop_path: &DropPathMask) -> Result<Tensor<3>> {
    let (patches, grid) = encoder.patches(pixels)?;
    let tokens = encoder.run_blocks(encoder.prepare(patches, grid), &AttentionPositions::default(), drop_path);
    Ok(encoder.split(encoder.final_norm(tokens)).1)
}

/// The patches of the context and of the target blocks, as one-hot rows. As matrix products, the selections are
/// differentiable and exact on every backend.
struct Masks {
    /// One-hot rows of the context patches, `[batch, context, patches]`.
    context: Tensor<3>,
    /// One-hot rows of the target patches, block after block, `[batch, blocks * patches per block, patches]`.
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
            // Blocks can cover a small grid completely.
            if free.is_empty() {
                free = random_subset(n, 1, stream);
            }
            targets.push(chosen);
            contexts.push(free);
        }
        let shortest = contexts.iter().map(Vec::len).min().unwrap_or(1);
        for context in &mut contexts {
            let mut kept = random_subset(context.len(), shortest, stream);
            kept.sort_unstable();
            *context = kept.into_iter().filter_map(|i| context.get(i).copied()).collect();
        }
        Self { context: one_hot(&contexts, n, device), targets: one_hot(&targets, n, device) }
    }
}

/// Draws height and width in patches of the target blocks of a batch.
fn block_size(grid: [usize; 2], config: &IJepaConfig, stream: &mut Stream) -> [usize; 2] {
    let mut between = |[low, high]: [f64; 2]| low + (high - low) * uniform(stream);
    let area = (grid[0] * grid[1]) as f64 * between(config.block_scale);
    let aspect = between(config.block_aspect);
    let side = |length: f64, most: usize| (length.round() as usize).clamp(1, most.saturating_sub(1).max(1));
    [side((area * aspect).sqrt(), grid[0]), side((area / aspect).sqrt(), grid[1])]
}

/// Returns one-hot rows of the given indices, `[batch, rows, n]`; all lists must have equal length.
fn one_hot(indices: &[Vec<usize>], n: usize, device: &Device) -> Tensor<3> {
    let rows = indices.first().map_or(0, Vec::len);
    let mut values = vec![0f32; indices.len() * rows * n];
    for (row, &index) in values.chunks_exact_mut(n).zip(indices.iter().flatten()) {
        if let Some(value) = row.get_mut(index) {
            *value = 1.0;
        }
    }
    Tensor::from_data(TensorData::new(values, [indices.len(), rows, n]), device)
}

/// Normalises each token of `[batch, tokens, width]` to mean 0 and variance 1 over its channels (layer norm without
/// affine parameters).
pub(super) fn channel_norm(x: Tensor<3>) -> Tensor<3> {
    let centred = x.clone() - x.mean_dim(2);
    let variance = centred.clone().square().mean_dim(2);
    centred / variance.add_scalar(1e-5).sqrt()
}

/// Returns the standard deviation over all tokens, averaged over channels, `[1]`: near 0 if the encoder has collapsed.
fn spread(targets: &Tensor<3>) -> Tensor<1> {
    let [batch, tokens, width] = targets.dims();
    let rows: Tensor<2> = targets.clone().detach().reshape([batch * tokens, width]);
    (rows.clone() - rows.mean_dim(0)).square().mean_dim(0).sqrt().mean()
}

/// Returns the smooth L1 loss, `[1]`: the mean of `x² / 2` where the difference `|x|` is below 1, and of `|x| - 1/2`
/// elsewhere. Both inputs are `[batch, tokens, width]`.
pub(super) fn smooth_l1(predicted: Tensor<3>, target: Tensor<3>) -> Tensor<1> {
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
            assert!(both.into_data().iter::<f32>().all(|v| v == 0.0), "a context overlaps a target");
            let ones: Vec<f32> = masks.context.sum_dim(2).into_data().iter().collect();
            assert!(ones.iter().all(|v| *v == 1.0));
        }
        let [height, width] = block_size([4, 4], &config, &mut stream("block", 0));
        assert!((1..4).contains(&height) && (1..4).contains(&width));
    }
}
