//! Tiling: images larger than an encoder's input are cut into tiles of its size, whose features are put together.
//!
//! *S²* (Shi et al. 2024, arXiv:2403.13043; the library `s2wrapper`) reads a square image at several scales and joins
//! the features over channels on the grid of the smallest. *AnyRes* (LLaVA-NeXT) reads the whole image and the tiles of
//! the best of several grids, and joins their features over tokens.

use crate::features::{FeatureMap, Kernel, axis_weights, resample_tokens};
use crate::preprocess::{PreparedGroup, PreparedImages, Preprocess};
use crate::transfer;
use burgess_base::{Error, Result};
use burgess_images::resize_part;
use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How an image is cut into tiles of the encoder's size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "method", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Tiling {
    /// S²: the square image at 1, 2 … `scales` times the encoder's size, each cut into tiles. The features of a
    /// scale are averaged over areas to the encoder's grid, and all scales are concatenated over channels.
    S2 {
        /// Number of scales, at least 2.
        scales: usize,
    },
    /// AnyRes: the whole image, resized to a square, and the tiles of the one of `grids` that keeps most of the image's
    /// pixels. Padding of the tiles is removed from the features.
    AnyRes {
        /// The grids of tiles to choose from, `[rows, columns]` each. Default: those of LLaVA-NeXT.
        #[serde(default = "llava_next")]
        grids: Vec<[usize; 2]>,
    },
}

/// The largest number of scales, and of tiles along a side.
const MOST: usize = 8;

/// The grids of tiles of LLaVA-NeXT, in its order.
fn llava_next() -> Vec<[usize; 2]> {
    vec![[1, 2], [2, 1], [2, 2], [3, 1], [1, 3]]
}

impl Tiling {
    /// AnyRes with the grids of LLaVA-NeXT.
    pub fn any_res() -> Self {
        Self::AnyRes { grids: llava_next() }
    }

    /// AnyRes with all grids of 2 to `tiles` tiles.
    pub fn any_res_up_to(tiles: usize) -> Self {
        let most = tiles.min(MOST * MOST);
        let grids =
            (1..=most.min(MOST)).flat_map(|rows| (1..=(most / rows).min(MOST)).map(move |columns| [rows, columns]));
        Self::AnyRes { grids: grids.filter(|grid| *grid != [1, 1]).collect() }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// There are too few or too many scales or tiles.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::S2 { scales } if !(2..=MOST).contains(scales) => {
                Err(Error::usage(format!("tiling: s2 with {scales} scales is not possible"))
                    .hint(format!("choose between 2 and {MOST} scales")))
            }
            Self::AnyRes { grids } if grids.is_empty() || grids.iter().flatten().any(|n| !(1..=MOST).contains(n)) => {
                Err(Error::usage(format!("tiling: any-res with the grids {grids:?} is not possible"))
                    .hint(format!("list at least one grid [rows, columns] of 1 to {MOST} tiles per side")))
            }
            _ => Ok(()),
        }
    }

    /// Factor by which tiling multiplies the channels of the features.
    pub fn channels(&self) -> usize {
        match self {
            Self::S2 { scales } => *scales,
            Self::AnyRes { .. } => 1,
        }
    }

    /// The largest number of images of the encoder's size that stand for one image.
    pub fn most_tiles(&self) -> usize {
        match self {
            Self::S2 { scales } => (1..=*scales).map(|scale| scale * scale).sum(),
            Self::AnyRes { grids } => 1 + grids.iter().map(|[rows, columns]| rows * columns).max().unwrap_or(0),
        }
    }
}

/// The short form, as options of an encoder write it: `s2=2`, `any-res` or `any-res=1x2,2x1`.
impl fmt::Display for Tiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S2 { scales } => write!(f, "s2={scales}"),
            Self::AnyRes { grids } if *grids == llava_next() => f.write_str("any-res"),
            Self::AnyRes { grids } => {
                let grids: Vec<String> = grids.iter().map(|[rows, columns]| format!("{rows}x{columns}")).collect();
                write!(f, "any-res={}", grids.join(","))
            }
        }
    }
}

/// How the tiles of one image lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileLayout {
    /// Grid of the tiles, `[rows, columns]`.
    pub grid: [usize; 2],
    /// Size of the image before it was resized, `[height, width]`.
    pub image: [usize; 2],
}

/// The grid of tiles of side `size` that keeps most pixels of an image of `height` × `width`; among equals, the one
/// with the smallest area (`select_best_resolution` of transformers).
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn best_grid([height, width]: [usize; 2], grids: &[[usize; 2]], size: usize) -> [usize; 2] {
    let (mut best, mut most, mut least) = ([1, 1], 0, usize::MAX);
    for grid in grids {
        let [h, w] = grid.map(|tiles| tiles * size);
        let scale = (w as f64 / width as f64).min(h as f64 / height as f64);
        let [down, across] = [height, width].map(|side| (side as f64 * scale) as usize);
        let effective = (down * across).min(height * width);
        let wasted = h * w - effective;
        if effective > most || (effective == most && wasted < least) {
            (best, most, least) = (*grid, effective, wasted);
        }
    }
    best
}

/// Size of an image of `from` pixels within `to` pixels, both `[height, width]` (`get_patch_output_size` of
/// transformers).
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn fitted(from: [usize; 2], to: [usize; 2]) -> [usize; 2] {
    let [down, across] = [0, 1].map(|axis| to[axis] as f64 / from[axis] as f64);
    if across < down {
        [((from[0] as f64 * across).ceil() as usize).min(to[0]), to[1]]
    } else {
        [to[0], ((from[1] as f64 * down).ceil() as usize).min(to[1])]
    }
}

/// Prepares one image for AnyRes: the whole image, then its tiles row by row, each normalised, `[3, size, size]`.
fn any_res_tiles(preprocess: &Preprocess, image: &RgbImage, grids: &[[usize; 2]]) -> (Vec<f32>, TileLayout) {
    let size = preprocess.size;
    let from = [image.height().max(1) as usize, image.width().max(1) as usize];
    let grid = best_grid(from, grids, size);
    let resize = |to: [usize; 2]| {
        let from = (image.width() as usize, image.height() as usize);
        resize_part::<3>(image.as_raw(), from, (to[1], to[0]), (0..to[1], 0..to[0]), preprocess.interpolation)
    };
    let mut values = preprocess.normalised(&resize([size, size]));
    let target = grid.map(|tiles| tiles * size);
    let inner = fitted(from, target);
    let [top, left] = [0, 1].map(|axis| (target[axis] - inner[axis]) / 2);
    let mut canvas = vec![0; 3 * target[0] * target[1]];
    let fitted = resize(inner);
    let rows = canvas.chunks_exact_mut(3 * target[1]).skip(top).zip(fitted.chunks_exact((3 * inner[1]).max(1)));
    rows.for_each(|(row, pixels)| row[3 * left..3 * left + pixels.len()].copy_from_slice(pixels));
    for tile in 0..grid[0] * grid[1] {
        let (y, x) = (tile / grid[1] * size, tile % grid[1] * size);
        let rows = canvas.chunks_exact(3 * target[1]).skip(y).take(size);
        let bytes: Vec<u8> = rows.flat_map(|row| row[3 * x..3 * (x + size)].iter().copied()).collect();
        values.extend(preprocess.normalised(&bytes));
    }
    (values, TileLayout { grid, image: from })
}

/// Prepares a batch of images for AnyRes; the whole image of each comes before its tiles.
pub(crate) fn prepare_any_res(
    preprocess: &Preprocess,
    images: &[RgbImage],
    grids: &[[usize; 2]],
    device: &Device,
) -> PreparedImages {
    let each: Vec<(Vec<f32>, TileLayout)> = if rayon::current_thread_index().is_some() {
        images.iter().map(|image| any_res_tiles(preprocess, image, grids)).collect()
    } else {
        images.par_iter().map(|image| any_res_tiles(preprocess, image, grids)).collect()
    };
    let size = preprocess.size;
    let (mut indices, mut values, mut tiles) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (pixels, layout)) in each.into_iter().enumerate() {
        indices.extend(std::iter::repeat_n(index, 1 + layout.grid[0] * layout.grid[1]));
        values.extend(pixels);
        tiles.push(layout);
    }
    let pixels = transfer::to_device(TensorData::new(values, [indices.len(), 3, size, size]), device);
    PreparedImages { groups: vec![PreparedGroup { indices, pixels }], count: images.len(), tiles, sizes: Vec::new() }
}

/// Splits the features of whole images and tiles, in the order of [`prepare_any_res`], into those of each image: the
/// grid of the whole image, and the grid of all its tiles without padding (`unpad_image` of transformers).
pub(crate) fn any_res_parts(map: &FeatureMap, tiles: &[TileLayout]) -> Vec<[FeatureMap; 2]> {
    let ([rows, columns], [_, _, width]) = (map.grid, map.tokens.dims());
    let mut at = 0;
    let parts = tiles.iter().map(|layout| {
        let [down, across] = layout.grid;
        let count = down * across;
        let base = FeatureMap { tokens: map.tokens.clone().narrow(0, at, 1), grid: map.grid };
        let cut: Tensor<6> =
            map.tokens.clone().narrow(0, at + 1, count).reshape([1, down, across, rows, columns, width]);
        at += 1 + count;
        let (height, wide) = (down * rows, across * columns);
        let whole: Tensor<4> = cut.swap_dims(2, 3).reshape([1, height, wide, width]);
        let whole = match unpadded(layout.image, [height, wide]) {
            (0, padding) => whole.narrow(1, padding, height - 2 * padding),
            (_, padding) => whole.narrow(2, padding, wide - 2 * padding),
        };
        [base, FeatureMap::from_channels_last(whole)]
    });
    parts.collect()
}

/// The axis along which the features on `grid` of an image of size `image` are padded (0: rows, 1: columns), and the
/// number of tokens on each side.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn unpadded(image: [usize; 2], grid: [usize; 2]) -> (usize, usize) {
    let ratio = |size: [usize; 2]| size[1] as f64 / size[0] as f64;
    // Python rounds to seven digits before it truncates.
    let rounded = |value: f64| ((value * 1e7).round_ties_even() / 1e7) as usize;
    let (axis, scale) = if ratio(image) > ratio(grid) {
        (0, grid[1] as f64 / image[1] as f64)
    } else {
        (1, grid[0] as f64 / image[0] as f64)
    };
    let inner = rounded(image[axis] as f64 * scale).min(grid[axis]);
    // At least one token remains, even of an image that is thinner than a token.
    (axis, ((grid[axis] - inner) / 2).min((grid[axis] - 1) / 2))
}

/// Features of square images `[batch, 3, scales * size, scales * size]` at all scales, joined over channels; `forward`
/// computes the features of images of `size`. Equal to `s2wrapper.forward` with `img_sizes` of 1, 2 … times `size`
/// and `max_split_size = size`.
///
/// # Errors
/// An error of `forward`.
pub(crate) fn multi_scale(
    pixels: &Tensor<4>,
    scales: usize,
    size: usize,
    forward: impl Fn(Tensor<4>) -> Result<FeatureMap>,
) -> Result<FeatureMap> {
    let mut maps: Vec<FeatureMap> = Vec::with_capacity(scales);
    for scale in 1..=scales {
        let [batch, channels, ..] = pixels.dims();
        let at_scale = resized(pixels.clone(), scale * size);
        let cut: Tensor<6> = at_scale.reshape([batch, channels, scale, size, scale, size]);
        let tiles: Tensor<4> = cut.permute([0, 2, 4, 1, 3, 5]).reshape([batch * scale * scale, channels, size, size]);
        let map = forward(tiles)?;
        let ([rows, columns], prefix, [_, tokens, width]) = (map.grid, map.prefix(), map.tokens.dims());
        let patches = map.tokens.clone().narrow(1, prefix, tokens - prefix);
        let patches: Tensor<6> = patches.reshape([batch, scale, scale, rows, columns, width]);
        let (down, across) = (scale * rows, scale * columns);
        let patches: Tensor<3> = patches.swap_dims(2, 3).reshape([batch, down * across, width]);
        let grid = maps.first().map_or(map.grid, |first| first.grid);
        let patches = resample_tokens(patches, [down, across], grid, Kernel::Area, 0.0);
        let tokens = match prefix {
            0 => patches,
            // Class tokens of the tiles are averaged.
            _ => {
                let class = map.tokens.narrow(1, 0, prefix).reshape([batch, scale * scale, prefix * width]);
                Tensor::cat(vec![class.mean_dim(1).reshape([batch, prefix, width]), patches], 1)
            }
        };
        maps.push(FeatureMap { tokens, grid });
    }
    FeatureMap::concat(&maps)
}

/// Resizes square images to `side` pixels as PyTorch's `F.interpolate(mode="bicubic")`.
fn resized(pixels: Tensor<4>, side: usize) -> Tensor<4> {
    let [_, _, height, width] = pixels.dims();
    if [height, width] == [side; 2] {
        return pixels;
    }
    let device = pixels.device();
    let across = axis_weights(width, side, Kernel::Bicubic, 0.0, &device).transpose().unsqueeze::<4>();
    let down = axis_weights(height, side, Kernel::Bicubic, 0.0, &device).unsqueeze::<4>();
    down.matmul(pixels.matmul(across))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of transformers 5.24.0 (`select_best_resolution`, `get_patch_output_size`).
    #[test]
    fn grids_equal_those_of_llava_next() {
        let sizes = [[480, 640], [640, 480], [1000, 300], [300, 1000], [2000, 2000], [100, 100], [37, 3000]];
        let found: Vec<_> = sizes
            .iter()
            .map(|size| {
                let grid = best_grid(*size, &llava_next(), 336);
                (grid, fitted(*size, grid.map(|tiles| tiles * 336)))
            })
            .collect();
        assert_eq!(
            found,
            [
                ([2, 2], [504, 672]),
                ([2, 2], [672, 504]),
                ([3, 1], [1008, 303]),
                ([1, 3], [303, 1008]),
                ([2, 2], [672, 672]),
                ([1, 2], [336, 336]),
                ([1, 3], [13, 1008]),
            ]
        );
    }

    #[test]
    fn short_forms_name_the_grids() {
        assert_eq!(Tiling::any_res().to_string(), "any-res");
        assert_eq!(Tiling::any_res_up_to(2).to_string(), "any-res=1x2,2x1");
        assert_eq!(Tiling::S2 { scales: 3 }.to_string(), "s2=3");
        assert!(Tiling::any_res_up_to(1).validate().is_err() && Tiling::S2 { scales: 1 }.validate().is_err());
        assert_eq!((Tiling::any_res().most_tiles(), Tiling::S2 { scales: 2 }.most_tiles()), (5, 5));
    }
}
