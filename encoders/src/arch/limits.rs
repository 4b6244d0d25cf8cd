//! Limits of hyper-parameters and of images that all architectures share.

use burgess_base::{Error, Result};
use burn::tensor::Tensor;

/// The largest size that a configuration may state, so that no absurd size leads to a huge allocation.
pub(super) const MAX_SIZE: usize = 1 << 16;

/// Whether `value` can be the number of hidden channels per channel: positive and at most 64.
pub(super) fn is_ratio(value: f64) -> bool {
    value > 0.0 && value <= 64.0
}

/// The largest number of patches per side of an image, which limits the memory that attention takes.
const MAX_PATCHES_PER_SIDE: usize = 256;

/// Checks that attention over the patches of an image fits into memory; sizes must be checked afterwards.
///
/// # Errors
/// An image has more than [`MAX_PATCHES_PER_SIDE`] patches per side.
pub(super) fn check_patches(image_size: usize, patch: usize) -> Result<()> {
    match image_size.checked_div(patch) {
        Some(side) if side > MAX_PATCHES_PER_SIDE && image_size <= MAX_SIZE => Err(Error::usage(format!(
            "image_size = {image_size} with patch = {patch} makes {side} patches per side, more than attention can process"
        ))
        .hint(format!("use at most {MAX_PATCHES_PER_SIDE} patches per side"))),
        _ => Ok(()),
    }
}

/// Checks that the images `[batch, channels, height, width]` are RGB and that `stride` divides their sides.
///
/// # Errors
/// The images have another number of channels, are empty, or have a side that is no multiple of `stride`.
pub(super) fn check_pixels(pixels: &Tensor<4>, stride: usize) -> Result<()> {
    let [_, channels, height, width] = pixels.dims();
    if channels != 3 || height == 0 || width == 0 || height % stride != 0 || width % stride != 0 {
        return Err(Error::failed(format!(
            "images of {channels} channels and {height}x{width} pixels do not divide into {stride}x{stride} patches of 3 channels"
        ))
        .hint("resize the images to the size on the encoder's card"));
    }
    Ok(())
}
