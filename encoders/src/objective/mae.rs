//! Masked autoencoder (He et al. 2022, arXiv:2111.06377): the encoder gets a quarter of the patches, a small decoder
//! reconstructs the pixels of the others.

use super::{
    DataShape, INIT, Learner, LearnerConfig, Loss, PretrainBatch, StepContext, Targets, random_crops, vit_config,
};
use crate::arch::{Architecture, ArchitectureConfig, AttentionPositions, Block, NetworkConfig, Vit, blocks};
use crate::init::initialise;
use burgess_base::stream::{Stream, uniform};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of MAE pretraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct MaeConfig {
    /// Fraction of masked patches. Default 0.75.
    pub mask_ratio: f64,
    /// Width of the decoder in channels. Default 64.
    pub decoder_width: usize,
    /// Number of decoder blocks. Default 2.
    pub decoder_depth: usize,
    /// Number of attention heads of the decoder. Default 4.
    pub decoder_heads: usize,
    /// Area of the random crops as fractions of the image, `[low, high]`. Default 0.5 to 1 (with the paper's 0.2, a
    /// crop has a side of 43 of 96 pixels).
    pub crop: [f64; 2],
    /// Whether each patch of the target is normalised to mean 0 and variance 1 (`norm_pix_loss`). Default true, as in
    /// the paper's best setting.
    pub normalise: bool,
}

impl Default for MaeConfig {
    fn default() -> Self {
        Self {
            mask_ratio: 0.75,
            decoder_width: 64,
            decoder_depth: 2,
            decoder_heads: 4,
            crop: [0.5, 1.0],
            normalise: true,
        }
    }
}

/// An encoder with a decoder, trained to reconstruct masked patches.
#[derive(Module, Debug)]
pub struct Mae {
    encoder: Vit,
    decoder_embed: Linear,
    /// Embedding of masked patches in the decoder, `[1, 1, decoder_width]`.
    mask_token: Param<Tensor<3>>,
    decoder_blocks: Vec<Block>,
    decoder_norm: LayerNorm,
    decoder_pred: Linear,
    #[module(skip)]
    config: MaeConfig,
}

impl LearnerConfig for MaeConfig {
    type Learner = Mae;
    const TARGETS: Targets = Targets::NONE;

    fn init(&self, encoder: &ArchitectureConfig, _data: &DataShape, device: &Device, seed: u64) -> Result<Mae> {
        let vit = vit_config(encoder, "mae")?;
        if !(0.0..1.0).contains(&self.mask_ratio) || !self.decoder_width.is_multiple_of(4) || self.decoder_width == 0 {
            return Err(Error::usage(format!(
                "invalid hyper-parameters of mae: mask_ratio {}, decoder_width {}",
                self.mask_ratio, self.decoder_width
            ))
            .hint("set mask_ratio to at least 0 and below 1, decoder_width to a positive multiple of 4"));
        }
        let mae = Mae {
            encoder: vit.init(device),
            decoder_embed: LinearConfig::new(vit.width, self.decoder_width).init(device),
            mask_token: Initializer::Zeros.init([1, 1, self.decoder_width], device),
            decoder_blocks: blocks(self.decoder_width, self.decoder_depth, self.decoder_heads, device)?,
            decoder_norm: LayerNormConfig::new(self.decoder_width).with_epsilon(vit.norm_eps).init(device),
            decoder_pred: LinearConfig::new(self.decoder_width, 3 * vit.patch * vit.patch).init(device),
            config: self.clone(),
        };
        Ok(initialise(mae, INIT, seed))
    }
}

impl Learner for Mae {
    fn loss(&self, batch: &PretrainBatch, context: &mut StepContext) -> Result<Loss> {
        let [count, _, size, _] = batch.pixels.dims();
        let pixels = random_crops(batch.pixels.clone(), size, self.config.crop, &mut context.stream);
        let (patches, grid) = self.encoder.patches(pixels.clone())?;
        let [_, n, _] = patches.dims();
        let keep = (((n as f64) * (1.0 - self.config.mask_ratio)) as usize).max(1);
        let mask = Mask::draw(count, n, keep, &pixels.device(), &mut context.stream);

        let patches = match self.encoder.positions(grid) {
            Some(positions) => patches + positions,
            None => patches,
        };
        let kept = mask.keep.clone().matmul(patches);
        let drop_path = self.encoder.config().draw_drop_path(count, &mut context.stream, &kept.device());
        let latent =
            self.encoder.run_blocks(self.encoder.with_prefix(kept), &AttentionPositions::default(), &drop_path);
        let latent = self.encoder.final_norm(latent);

        let patch = self.encoder.config().patch;
        let target = if self.config.normalise { normalised_patches(pixels, patch) } else { patchify(pixels, patch) };
        let predicted = self.decode(latent, grid, &mask);
        Ok(Loss::single(mae_loss(predicted, target, mask.hidden)))
    }

    fn into_encoder(self) -> Architecture {
        Architecture::Vit(self.encoder)
    }
}

impl Mae {
    /// Decodes the encoder's output, `[batch, prefix + kept, width]`, to the pixels of all patches,
    /// `[batch, patches, 3 * patch²]`.
    fn decode(&self, latent: Tensor<3>, grid: [usize; 2], mask: &Mask) -> Tensor<3> {
        let x = self.decoder_embed.forward(latent);
        let [batch, tokens, width] = x.dims();
        let [_, kept, n] = mask.keep.dims();
        let prefix = tokens - kept;
        let encoded = x.clone().slice([0..batch, prefix..tokens, 0..width]);
        let hidden = mask.hidden.clone().unsqueeze_dim::<3>(2) * self.mask_token.val();
        // The transpose of the selection moves every kept token back to its position.
        let all = mask.keep.clone().swap_dims(1, 2).matmul(encoded)
            + hidden
            + sincos_position_embedding(grid, width, &x.device());
        // As in the paper's code, the class token passes through the decoder at position zero.
        let all = if prefix == 0 { all } else { Tensor::cat(vec![x.slice([0..batch, 0..prefix, 0..width]), all], 1) };
        let all = self.decoder_blocks.iter().fold(all, |x, block| block.forward(x, &AttentionPositions::default()));
        let decoded = self.decoder_norm.forward(all.slice([0..batch, prefix..prefix + n, 0..width]));
        self.decoder_pred.forward(decoded)
    }
}

/// The kept and masked patches of each image.
struct Mask {
    /// One-hot rows that select the kept patches, `[batch, kept, patches]`. As a matrix product, the selection is
    /// differentiable and exact on every backend.
    keep: Tensor<3>,
    /// 1 where a patch is masked, else 0, `[batch, patches]`.
    hidden: Tensor<2>,
}

impl Mask {
    fn draw(batch: usize, n: usize, kept: usize, device: &Device, stream: &mut Stream) -> Self {
        let mut keep = vec![0f32; batch * kept * n];
        let mut hidden = vec![1f32; batch * n];
        for (keep, hidden) in keep.chunks_exact_mut(kept * n).zip(hidden.chunks_exact_mut(n)) {
            for (row, patch) in keep.chunks_exact_mut(n).zip(random_subset(n, kept, stream)) {
                if let (Some(k), Some(h)) = (row.get_mut(patch), hidden.get_mut(patch)) {
                    *k = 1.0;
                    *h = 0.0;
                }
            }
        }
        Self {
            keep: Tensor::from_data(TensorData::new(keep, [batch, kept, n]), device),
            hidden: Tensor::from_data(TensorData::new(hidden, [batch, n]), device),
        }
    }
}

/// Draws `count` different numbers below `n`, in random order (the first steps of a Fisher–Yates shuffle).
pub(super) fn random_subset(n: usize, count: usize, stream: &mut Stream) -> Vec<usize> {
    let mut all: Vec<usize> = (0..n).collect();
    for i in 0..count.min(n) {
        let j = i + (uniform(stream) * (n - i) as f64) as usize;
        all.swap(i, j);
    }
    all.truncate(count);
    all
}

/// Returns the pixels of every patch of `[batch, 3, height, width]`: `[batch, patches, 3 * patch²]`, ordered by rows,
/// columns and channels.
pub(super) fn patchify(pixels: Tensor<4>, patch: usize) -> Tensor<3> {
    let [batch, channels, height, width] = pixels.dims();
    let (rows, columns) = (height / patch, width / patch);
    let values = channels * patch * patch;
    pixels.reshape([batch, channels, rows, patch, columns, patch]).permute([0, 2, 4, 3, 5, 1]).reshape([
        batch,
        rows * columns,
        values,
    ])
}

/// Returns the normalised targets: the pixels of every patch as from `patchify`, scaled to mean 0 and variance 1 within
/// each patch (`norm_pix_loss` of the paper's code).
pub(super) fn normalised_patches(pixels: Tensor<4>, patch: usize) -> Tensor<3> {
    let x = patchify(pixels, patch);
    let [_, _, values] = x.dims();
    let centred = x.clone() - x.mean_dim(2);
    // PyTorch's `var` divides by n - 1.
    let variance = centred.clone().square().sum_dim(2).div_scalar((values - 1).max(1) as f64);
    centred / variance.add_scalar(1e-6).sqrt()
}

/// Returns the mean squared error over the masked patches, `[1]`. `predicted` and `target` are `[batch, patches,
/// values]`, `masked` is `[batch, patches]`: 1 where a patch is masked, else 0.
pub(super) fn mae_loss(predicted: Tensor<3>, target: Tensor<3>, masked: Tensor<2>) -> Tensor<1> {
    let [batch, n, _] = predicted.dims();
    let per_patch = (predicted - target).square().mean_dim(2).reshape([batch, n]);
    (per_patch * masked.clone()).sum() / masked.sum().clamp_min(1.0)
}

/// Returns fixed 2-D position embeddings, `[1, rows * columns, width]`: a quarter of the channels each for the sine and
/// cosine of the column and of the row, as `get_2d_sincos_pos_embed` in the paper's code.
pub(super) fn sincos_position_embedding(grid: [usize; 2], width: usize, device: &Device) -> Tensor<3> {
    let quarter = width / 4;
    let mut values = Vec::with_capacity(grid[0] * grid[1] * width);
    for row in 0..grid[0] {
        for column in 0..grid[1] {
            for position in [column, row] {
                let angle = |i: usize| position as f64 / 10_000f64.powf(i as f64 / quarter as f64);
                values.extend((0..quarter).map(|i| angle(i).sin() as f32));
                values.extend((0..quarter).map(|i| angle(i).cos() as f32));
            }
        }
    }
    Tensor::from_data(TensorData::new(values, [1, grid[0] * grid[1], width]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_base::stream::stream;

    #[test]
    fn a_mask_keeps_the_right_number_and_hides_the_rest() {
        let mask = Mask::draw(5, 36, 9, &Device::flex(), &mut stream("mask", 0));
        let kept: Vec<f32> = mask.keep.clone().sum_dim(2).into_data().iter().collect();
        assert!(kept.iter().all(|k| *k == 1.0));
        let twice = (mask.keep.sum_dim(1).reshape([5, 36]) + mask.hidden.clone()).into_data();
        assert!(twice.iter::<f32>().all(|v| v == 1.0));
        let rows: Vec<Vec<f32>> =
            (0..5).map(|i| mask.hidden.clone().slice([i..i + 1, 0..36]).into_data().iter().collect()).collect();
        assert_ne!(rows[0], rows[1], "every image has its own mask");
    }

    #[test]
    fn a_random_subset_is_uniform_and_without_repetition() {
        let mut counts = [0; 8];
        let mut stream = stream("choose", 0);
        for _ in 0..2000 {
            let mut drawn = random_subset(8, 3, &mut stream);
            drawn.iter().for_each(|i| counts[*i] += 1);
            drawn.sort();
            drawn.dedup();
            assert_eq!(drawn.len(), 3);
        }
        assert!(counts.iter().all(|c| (650..850).contains(c)), "{counts:?}");
    }
}
