//! Sizes of images for encoders that accept any aspect ratio, and images of one batch grouped by size.

use super::Preprocess;
use crate::tiling::TileLayout;
use crate::transfer;
use burgess_base::{Error, Result};
use burgess_images::resize_part;
use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How an image is resized while its aspect ratio is kept, for encoders that accept any grid of patches: the rules of
/// the encoders' own processors. Sides become multiples of a unit of `patch` or `patch * merge` pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "rule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum NativeResize {
    /// Scales the image, up or down, to as many patches as possible up to `max_patches`; each side is rounded up to
    /// whole patches (`Siglip2ImageProcessor`).
    Fill {
        /// Side of a patch, in pixels.
        patch: usize,
        /// The largest number of patches of an image.
        max_patches: usize,
    },
    /// Rounds each side to whole units, and scales the image only if it has fewer than `min_pixels` or more than
    /// `max_pixels` (`Qwen2VLImageProcessor`). The processor rejects an image more than 200 times as long as wide; here
    /// its shorter side has one unit.
    Range {
        /// Side of a patch, in pixels.
        patch: usize,
        /// Patches per side of a unit.
        merge: usize,
        /// The smallest number of pixels of an image.
        min_pixels: usize,
        /// The largest number of pixels of an image.
        max_pixels: usize,
    },
    /// Scales the image down if it has more than `max_patches` patches or `max_side` patches per side, and pads it with
    /// black on the right and at the bottom to whole units (`Kimi_K25ImageProcessor`).
    ShrinkAndPad {
        /// Side of a patch, in pixels.
        patch: usize,
        /// Patches per side of a unit.
        merge: usize,
        /// The largest number of patches of an image, before padding.
        max_patches: usize,
        /// The largest number of patches per side.
        max_side: usize,
    },
}

/// Sizes of one image, `[height, width]` in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NativeSize {
    /// Size to which the image is resized.
    resized: [usize; 2],
    /// Size with padding on the right and at the bottom.
    padded: [usize; 2],
}

/// The largest number of patches that a card may allow for one image.
const MAX_PATCHES: usize = 1 << 20;

impl NativeResize {
    /// Checks the numbers.
    ///
    /// # Errors
    /// A number is zero or absurdly large.
    pub(super) fn validate(&self) -> Result<()> {
        let side = |n: usize| (1..=8192).contains(&n);
        let possible = match *self {
            Self::Fill { patch, max_patches } => side(patch) && (1..=MAX_PATCHES).contains(&max_patches),
            Self::Range { patch, merge, min_pixels, max_pixels } => {
                let unit = patch.saturating_mul(merge).saturating_pow(2);
                side(patch) && side(merge) && min_pixels <= max_pixels && (unit..=1 << 32).contains(&max_pixels)
            }
            Self::ShrinkAndPad { patch, merge, max_patches, max_side } => {
                side(patch) && side(merge) && side(max_side) && (1..=MAX_PATCHES).contains(&max_patches)
            }
        };
        if possible {
            return Ok(());
        }
        Err(Error::usage(format!("impossible numbers of patches or pixels in [preprocess.native]: {self:?}")).hint(
            "all must be positive, min_pixels at most max_pixels, and max_pixels at least one unit of patch * merge \
             pixels squared",
        ))
    }

    /// The number of pixels of which both sides of a prepared image are multiples.
    pub fn unit(&self) -> usize {
        match *self {
            Self::Fill { patch, .. } => patch,
            Self::Range { patch, merge, .. } | Self::ShrinkAndPad { patch, merge, .. } => patch * merge,
        }
    }

    /// The rule with another largest number of patches per image.
    #[must_use]
    pub fn with_max_patches(self, count: usize) -> Self {
        match self {
            Self::Fill { patch, .. } => Self::Fill { patch, max_patches: count },
            Self::Range { patch, merge, min_pixels, .. } => {
                let max_pixels = count.saturating_mul(patch * patch).max((patch * merge).pow(2));
                Self::Range { patch, merge, min_pixels: min_pixels.min(max_pixels), max_pixels }
            }
            Self::ShrinkAndPad { patch, merge, max_side, .. } => {
                Self::ShrinkAndPad { patch, merge, max_patches: count, max_side }
            }
        }
    }

    /// Sizes for an image of `height` × `width` pixels.
    fn size(&self, height: usize, width: usize) -> NativeSize {
        let (resized, padded) = match *self {
            Self::Fill { patch, max_patches } => {
                let size = fill([height, width], patch, max_patches);
                (size, size)
            }
            Self::Range { patch, merge, min_pixels, max_pixels } => {
                let size = range([height, width], patch * merge, min_pixels, max_pixels);
                (size, size)
            }
            Self::ShrinkAndPad { patch, merge, max_patches, max_side } => {
                let size = shrink([height, width], patch, max_patches, max_side);
                (size, size.map(|side| side.next_multiple_of(patch * merge)))
            }
        };
        NativeSize { resized, padded }
    }
}

/// Size by the binary search of `get_image_size_for_max_num_patches` in transformers, with its order of operations.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn fill(size: [usize; 2], patch: usize, max_patches: usize) -> [usize; 2] {
    const EPS: f64 = 1e-5;
    let scaled = |scale: f64| {
        size.map(|side| ((side as f64 * scale / patch as f64).ceil() as usize).saturating_mul(patch).max(patch))
    };
    let (mut low, mut high) = (EPS / 10.0, 100.0);
    while high - low >= EPS {
        let scale = f64::midpoint(low, high);
        let [height, width] = scaled(scale);
        let patches = (height as f64 / patch as f64) * (width as f64 / patch as f64);
        if patches <= max_patches as f64 { low = scale } else { high = scale }
    }
    scaled(low)
}

/// Size by `smart_resize` of transformers.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn range([height, width]: [usize; 2], unit: usize, min_pixels: usize, max_pixels: usize) -> [usize; 2] {
    let (h, w, unit) = (height as f64, width as f64, unit as f64);
    // Halves are rounded to even, as by Python's round().
    let rounded = [h, w].map(|side| (side / unit).round_ties_even().max(1.0) * unit);
    let area = rounded[0] * rounded[1];
    let size = if area > max_pixels as f64 {
        let beta = (h * w / max_pixels as f64).sqrt();
        [h, w].map(|side| ((side / beta / unit).floor() * unit).max(unit))
    } else if area < min_pixels as f64 {
        let beta = (min_pixels as f64 / (h * w)).sqrt();
        [h, w].map(|side| (side * beta / unit).ceil() * unit)
    } else {
        rounded
    };
    size.map(|side| side as usize)
}

/// Size by `navit_resize` of transformers, before padding.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn shrink(size: [usize; 2], patch: usize, max_patches: usize, max_side: usize) -> [usize; 2] {
    let [rows, columns] = size.map(|side| (side / patch).max(1) as f64);
    let longest = max_side * patch;
    let by_total = (max_patches as f64 / (rows * columns)).sqrt();
    let [by_height, by_width] = size.map(|side| longest as f64 / side as f64);
    let scale = 1f64.min(by_total).min(by_height).min(by_width);
    size.map(|side| ((side as f64 * scale) as usize).max(1).min(longest))
}

/// Images of a batch after preprocessing, grouped by size.
#[derive(Debug, Clone)]
pub struct PreparedImages {
    /// The groups; images of one group have one size. For an encoder of one square size there is one group.
    pub groups: Vec<PreparedGroup>,
    /// Number of images of the batch.
    pub count: usize,
    /// How the tiles of each image lie, if images are cut into tiles of different grids; otherwise empty.
    pub tiles: Vec<TileLayout>,
    /// Size of each image before it was resized, `[height, width]`, if images keep their aspect ratio; otherwise empty.
    pub sizes: Vec<[usize; 2]>,
}

/// Images of one size.
#[derive(Debug, Clone)]
pub struct PreparedGroup {
    /// Indices in the batch, in increasing order; that of an image repeats for each of its tiles.
    pub indices: Vec<usize>,
    /// Normalised pixels, `[images, 3, height, width]`.
    pub pixels: Tensor<4>,
}

impl PreparedImages {
    /// Joins several batches of one encoder, in order.
    pub fn join(batches: Vec<Self>) -> Self {
        let mut all = Self { groups: Vec::new(), count: 0, tiles: Vec::new(), sizes: Vec::new() };
        let mut pixels: Vec<([usize; 2], Vec<usize>, Vec<Tensor<4>>)> = Vec::new();
        for batch in batches {
            for group in batch.groups {
                let [_, _, height, width] = group.pixels.dims();
                let indices = group.indices.into_iter().map(|index| index + all.count);
                match pixels.iter_mut().find(|(size, ..)| *size == [height, width]) {
                    Some((_, known, parts)) => {
                        known.extend(indices);
                        parts.push(group.pixels);
                    }
                    None => pixels.push(([height, width], indices.collect(), vec![group.pixels])),
                }
            }
            all.count += batch.count;
            all.tiles.extend(batch.tiles);
            all.sizes.extend(batch.sizes);
        }
        let group = |(_, indices, parts)| PreparedGroup { indices, pixels: Tensor::cat(parts, 0) };
        all.groups = pixels.into_iter().map(group).collect();
        all
    }

    /// A batch of images of one size, `[images, 3, height, width]`.
    pub fn of_one_size(pixels: Tensor<4>) -> Self {
        let count = pixels.dims()[0];
        Self {
            groups: vec![PreparedGroup { indices: (0..count).collect(), pixels }],
            count,
            tiles: Vec::new(),
            sizes: Vec::new(),
        }
    }
}

impl Preprocess {
    /// Preprocesses one image; returns `[3, height, width]`, row-major, and `[height, width]`: `size` × `size` unless
    /// [`Preprocess::native`] keeps the aspect ratio.
    pub fn apply_sized(&self, image: &RgbImage) -> (Vec<f32>, [usize; 2]) {
        let Some(rule) = &self.native else {
            return (self.apply(image), [self.size; 2]);
        };
        let from = [image.height() as usize, image.width() as usize];
        let NativeSize { resized, padded } = if from.contains(&0) {
            NativeSize { resized: [0, 0], padded: [rule.unit(); 2] }
        } else {
            rule.size(from[0], from[1])
        };
        let mut bytes = vec![0; 3 * padded[0] * padded[1]];
        if resized[0] > 0 {
            let part = (0..resized[1], 0..resized[0]);
            let inner = resize_part::<3>(
                image.as_raw(),
                (from[1], from[0]),
                (resized[1], resized[0]),
                part,
                self.interpolation,
            );
            let rows = inner.chunks_exact(3 * resized[1]).zip(bytes.chunks_exact_mut(3 * padded[1]));
            rows.for_each(|(from, to)| to[..from.len()].copy_from_slice(from));
        }
        (self.normalised(&bytes), padded)
    }

    /// Preprocesses a batch of images and groups them by size. Images are distributed over threads, unless the caller
    /// is a worker of a thread pool, whose size is then respected.
    pub fn prepare(&self, images: &[RgbImage], device: &Device) -> PreparedImages {
        if self.native.is_none() {
            return PreparedImages::of_one_size(self.pixels(images, device));
        }
        let each: Vec<(Vec<f32>, [usize; 2])> = if rayon::current_thread_index().is_some() {
            images.iter().map(|image| self.apply_sized(image)).collect()
        } else {
            images.par_iter().map(|image| self.apply_sized(image)).collect()
        };
        let mut sizes: Vec<[usize; 2]> = Vec::new();
        for (_, size) in &each {
            if !sizes.contains(size) {
                sizes.push(*size);
            }
        }
        let groups = sizes.into_iter().map(|size| {
            let same = each.iter().enumerate().filter(|(_, (_, other))| *other == size);
            let (indices, values): (Vec<usize>, Vec<&[f32]>) =
                same.map(|(index, (values, _))| (index, values.as_slice())).unzip();
            let shape = [indices.len(), 3, size[0], size[1]];
            PreparedGroup { pixels: transfer::to_device(TensorData::new(values.concat(), shape), device), indices }
        });
        let size = |image: &RgbImage| [image.height().max(1) as usize, image.width().max(1) as usize];
        let sizes = images.iter().map(size).collect();
        PreparedImages { groups: groups.collect(), count: images.len(), tiles: Vec::new(), sizes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of transformers 5.24.0 (`get_image_size_for_max_num_patches`, `smart_resize`, `navit_resize`).
    #[test]
    fn sizes_equal_those_of_the_processors() {
        let sizes = |rule: NativeResize| {
            [(41, 60), (480, 640), (1, 1), (37, 3000), (2000, 900)].map(|(h, w)| {
                let NativeSize { resized, padded } = rule.size(h, w);
                assert!(padded.iter().all(|side| side.is_multiple_of(rule.unit())));
                assert!(rule.unit() == 16 && resized == padded || rule.unit() == 28);
                resized
            })
        };
        let fill = sizes(NativeResize::Fill { patch: 16, max_patches: 256 });
        assert_eq!(fill, [[208, 304], [224, 288], [112, 112], [32, 2048], [368, 176]]);
        let range = NativeResize::Range { patch: 14, merge: 2, min_pixels: 3136, max_pixels: 501_760 };
        assert_eq!(sizes(range), [[56, 84], [476, 644], [56, 56], [28, 2996], [1036, 448]]);
        let shrink = NativeResize::ShrinkAndPad { patch: 14, merge: 2, max_patches: 1024, max_side: 100 };
        assert_eq!(sizes(shrink), [[41, 60], [392, 523], [1, 1], [17, 1400], [671, 302]]);
    }
}
