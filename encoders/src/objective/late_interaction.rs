//! Late interaction (FILIP, Yao et al. 2022, arXiv:2111.07783): the similarity of an image and a caption is the mean
//! over the caption's tokens of the maximum over patches of their cosine similarity. The gradient of a token reaches
//! the patch that matches it best, so patch features become local; with mean pooling, every patch gets the same
//! gradient.

use super::text::TextTower;
use super::{TokenizedCaptions, cosine_similarities};
use crate::arch::{Architecture, DropPathMask, Tap};
use burgess_base::Result;
use burn::nn::Linear;
use burn::tensor::{Int, Tensor};

/// Returns the patch tokens of the last layer, `[batch, patches, width]`.
pub(super) fn patch_tokens(encoder: &Architecture, pixels: Tensor<4>, drop_path: &DropPathMask) -> Result<Tensor<3>> {
    let tap = Tap { norm: encoder.config().norms_last_tokens(), ..Tap::default() };
    Ok(encoder.forward_with_drop_path(pixels, &tap, drop_path)?.tokens)
}

/// Returns the similarity of each image with each caption, `[images, captions]`, from the patch tokens of the images
/// and the tokens of the captions, both projected into one space.
pub(super) fn interaction_similarities(
    patches: Tensor<3>,
    texts: &TokenizedCaptions,
    tower: &TextTower,
    [image_projection, text_projection]: [&Linear; 2],
) -> Result<Tensor<2>> {
    let tokens = tower.tokens(texts)?;
    let [images, count, width] = patches.dims();
    let [captions, length, text_width] = tokens.dims();
    let patches = image_projection.forward(patches.reshape([images * count, width]));
    let tokens = text_projection.forward(tokens.reshape([captions * length, text_width]));
    let embed = patches.dims()[1];
    let patches = patches.reshape([images, count, embed]);
    let tokens = tokens.reshape([captions, length, embed]);
    Ok(token_similarities(patches, tokens, texts.lengths.clone()))
}

/// Returns the mean over the first `lengths[c]` tokens t of caption c of the maximum over patches p of image i of
/// `cos(p, t)`: `[images, captions]`. `patches` are `[images, patches, embed]`, `tokens` `[captions, length, embed]`.
pub(super) fn token_similarities(patches: Tensor<3>, tokens: Tensor<3>, lengths: Tensor<1, Int>) -> Tensor<2> {
    let [images, count, embed] = patches.dims();
    let [captions, length, _] = tokens.dims();
    let device = patches.device();
    let (patches, tokens) = (patches.reshape([images * count, embed]), tokens.reshape([captions * length, embed]));
    let best = cosine_similarities(patches, tokens).reshape([images, count, captions * length]).max_dim(1);
    let lengths = lengths.clamp(1, length as i64).reshape([captions, 1]);
    let places = Tensor::<1, Int>::arange(0..length as i64, &device).reshape([1, length]);
    let real = places.expand([captions, length]).lower(lengths.clone().expand([captions, length])).float();
    let weights = real / lengths.float();
    (best.reshape([images, captions, length]) * weights.unsqueeze::<3>()).sum_dim(2).reshape([images, captions])
}
