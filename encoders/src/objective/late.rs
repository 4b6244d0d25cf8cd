//! Late interaction (FILIP, Yao et al. 2022, arXiv:2111.07783): an image and a caption are as similar as the tokens of the
//! caption are, on average, to the patch that fits each best. The gradient of a word reaches the patch that shows what the
//! word says, so patches learn what they show; a mean over patches only teaches them what is somewhere in the image.

use super::text::TextTower;
use super::{Texts, cosines};
use crate::arch::{Architecture, DropPathMask, Tap};
use burgess_base::Result;
use burn::nn::Linear;
use burn::tensor::{Int, Tensor};

/// The last layer's patch tokens, `[batch, patches, width]`.
pub(super) fn patch_tokens(encoder: &Architecture, pixels: Tensor<4>, drop_path: &DropPathMask) -> Result<Tensor<3>> {
    let tap = Tap { norm: encoder.config().norms_last_tokens(), ..Tap::default() };
    Ok(encoder.forward_with_drop_path(pixels, &tap, drop_path)?.tokens)
}

/// The similarity of each image with each caption, `[images, captions]`, from the patch tokens of the images and the
/// tokens of the captions, both projected into one space.
pub(super) fn interaction(
    patches: Tensor<3>,
    texts: &Texts,
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
    Ok(similarities(patches, tokens, texts.lengths.clone()))
}

/// `mean over the first lengths[c] tokens t of caption c of max over patches p of image i of cos(p, t)`, for `patches`
/// `[images, patches, embed]` and `tokens` `[captions, length, embed]`: `[images, captions]`.
pub fn similarities(patches: Tensor<3>, tokens: Tensor<3>, lengths: Tensor<1, Int>) -> Tensor<2> {
    let [images, count, embed] = patches.dims();
    let [captions, length, _] = tokens.dims();
    let device = patches.device();
    let (patches, tokens) = (patches.reshape([images * count, embed]), tokens.reshape([captions * length, embed]));
    let best = cosines(patches, tokens).reshape([images, count, captions * length]).max_dim(1);
    let lengths = lengths.clamp(1, length as i64).reshape([captions, 1]);
    let places = Tensor::<1, Int>::arange(0..length as i64, &device).reshape([1, length]);
    let real = places.expand([captions, length]).lower(lengths.clone().expand([captions, length])).float();
    let weights = real / lengths.float();
    (best.reshape([images, captions, length]) * weights.unsqueeze::<3>()).sum_dim(2).reshape([images, captions])
}
