//! How the encoders' libraries make an image square.

use super::Preprocess;
use burgess_images::resize_part;
use image::RgbImage;
use serde::{Deserialize, Serialize};

/// How an image that is not square is made square.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// Pads to a square, so that nothing is lost: the default of this project and of Cambrian-1.
    #[default]
    Pad,
    /// Resizes the shorter side to the encoder's size and crops the centre: torchvision's `Resize` and `CenterCrop`,
    /// timm's `center`, open_clip's `shortest`, `shortest_edge` of transformers.
    Shortest,
    /// Resizes both sides to the encoder's size: timm's and open_clip's `squash`, `height` and `width` of transformers.
    Squash,
    /// Resizes the longer side to the encoder's size and pads the rest with [`Preprocess::pad`]: timm's `border`,
    /// open_clip's `longest`.
    Longest,
    /// As `longest`, but with the image in the upper left corner and padding that is zero after normalisation: SAM.
    Corner,
}

impl Fit {
    // serde's `skip_serializing_if` passes a reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub(super) fn is_pad(&self) -> bool {
        *self == Self::Pad
    }

    /// A description of the effect on images, for messages.
    pub fn words(self) -> &'static str {
        match self {
            Self::Pad => "padded to a square",
            Self::Shortest => "resized by the shorter side, and their centre cut out",
            Self::Squash => "distorted into a square",
            Self::Longest | Self::Corner => "resized by the longer side, and padded",
        }
    }
}

/// Resizes an image by [`Preprocess::fit`]; returns `size` × `size` RGB bytes.
pub(super) fn resized(preprocess: &Preprocess, image: &RgbImage) -> Vec<u8> {
    let (size, side) = (preprocess.size, preprocess.enlarged());
    let from = (image.width() as usize, image.height() as usize);
    let mut out: Vec<u8> = preprocess.pad.repeat(size * size);
    if from.0 == 0 || from.1 == 0 {
        return out;
    }
    let to = match preprocess.fit {
        Fit::Pad | Fit::Squash => (side, side),
        // The longer side is truncated to an integer, as in torchvision.
        Fit::Shortest if from.0 <= from.1 => (side, side * from.1 / from.0),
        Fit::Shortest => (side * from.0 / from.1, side),
        Fit::Longest => longest(from, side),
        Fit::Corner => corner(from, side),
    };
    // Per axis: offset in the resized image, length, and offset in the square.
    let along = |length: usize| match length.checked_sub(size) {
        Some(_) => (preprocess.crop_offset(length), size, 0),
        None if preprocess.fit == Fit::Corner => (0, length, 0),
        None => (0, length, (size - length) / 2),
    };
    let ((x, width, left), (y, height, top)) = (along(to.0), along(to.1));
    let part = (x..x + width, y..y + height);
    let inner = resize_part::<3>(image.as_raw(), from, to, part, preprocess.interpolation);
    for (row, pixels) in out.chunks_exact_mut(3 * size).skip(top).zip(inner.chunks_exact((3 * width).max(1))) {
        row[3 * left..3 * (left + width)].copy_from_slice(pixels);
    }
    out
}

/// Resized width and height by timm's `ResizeKeepRatio(longest=1)`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn longest((width, height): (usize, usize), side: usize) -> (usize, usize) {
    let ratio = (height as f64 / side as f64).max(width as f64 / side as f64);
    let to = |length: usize| ((length as f64 / ratio).round_ties_even() as usize).max(1);
    (to(width), to(height))
}

/// Resized width and height by `ResizeLongestSide` of segment-anything.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn corner((width, height): (usize, usize), side: usize) -> (usize, usize) {
    let scale = side as f64 / width.max(height) as f64;
    let to = |length: usize| ((length as f64 * scale + 0.5) as usize).max(1);
    (to(width), to(height))
}

/// Sets to zero the padding of [`Fit::Corner`] in `pixels`, `[3, size, size]`, normalised.
pub(super) fn blank_margin(pixels: &mut [f32], image: &RgbImage, size: usize) {
    let (width, height) = corner((image.width().max(1) as usize, image.height().max(1) as usize), size);
    for (number, row) in pixels.chunks_exact_mut(size.max(1)).enumerate() {
        let from = if number % size < height { width.min(size) } else { 0 };
        row[from..].fill(0.0);
    }
}
