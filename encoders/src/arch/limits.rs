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

/// Checks the sizes of `what`: each must be positive and at most [`MAX_SIZE`].
///
/// # Errors
/// A size is out of range; the error names it.
pub(super) fn check_sizes(what: &str, sizes: &[(&str, usize)]) -> Result<()> {
    match sizes.iter().find(|(_, size)| !(1..=MAX_SIZE).contains(size)) {
        None => Ok(()),
        Some((name, size)) => Err(Error::usage(format!("{what} with {name} = {size}"))
            .hint(format!("{name} must be at least 1 and at most {MAX_SIZE}"))),
    }
}

/// Checks lists of `what` with one size per stage, each as in [`check_sizes`].
///
/// # Errors
/// The lists have different lengths, or are empty or long, or a size is out of range; the error names the list.
pub(super) fn check_stages(what: &str, lists: &[(&str, &[usize])]) -> Result<()> {
    let stages = lists.first().map_or(0, |(_, list)| list.len());
    for (name, list) in lists {
        if list.len() != stages || !(1..=8).contains(&list.len()) {
            return Err(Error::usage(format!("{what} with {name} = {list:?}, but {stages} stages"))
                .hint("give one number per stage, for one to eight stages"));
        }
        for size in *list {
            check_sizes(what, &[(name, *size)])?;
        }
    }
    Ok(())
}

/// Checks that `heads` divides `width` in every stage.
///
/// # Errors
/// The heads of a stage do not divide its width.
pub(super) fn check_heads(what: &str, widths: &[usize], heads: &[usize]) -> Result<()> {
    match widths.iter().zip(heads).find(|(width, heads)| !width.is_multiple_of(**heads)) {
        None => Ok(()),
        Some((width, heads)) => Err(Error::usage(format!("{what} with {heads} heads for {width} channels"))
            .hint("the heads must divide the channels")),
    }
}

/// Checks that `unit` divides the side of the images.
///
/// # Errors
/// It does not.
pub(super) fn check_multiple(what: &str, image_size: usize, unit: usize) -> Result<()> {
    if unit > 0 && image_size.is_multiple_of(unit) {
        return Ok(());
    }
    Err(Error::usage(format!("{what} for images of {image_size} pixels")).hint(format!("use a multiple of {unit}")))
}
