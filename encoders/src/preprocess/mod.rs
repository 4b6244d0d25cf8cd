//! Image preprocessing as in an encoder's training: decode, pad to a square, resize, crop and normalise, with Pillow's
//! arithmetic (`burgess_images`).
//!
//! There are three [`Pipeline`]s. `correct` pads to a square with the encoder's mean colour and then applies the
//! evaluation transform of the encoder's authors. `cambrian-1` is that of the paper: it pads with other colours for
//! some encoders, and where the authors crop, it first resizes the square to the encoder's size, then enlarges it and
//! crops its borders. `library` does what the encoder's own library does to an image that is not square: most libraries
//! crop it, some distort it. All three agree on a square image that is not cropped.

mod fit;
mod native;

pub use burgess_images::{
    Interpolation, Orientation, decode, decode_bytes, decode_bytes_oriented, decode_oriented, dimensions,
    dimensions_oriented,
};
pub use fit::Fit;
pub use native::{NativeResize, PreparedGroup, PreparedImages};

use crate::transfer;
use burgess_base::{Error, Result};
use burgess_images::PaddedSquare;
use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The preprocessing of images for an encoder: the `[preprocess]` table of a card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Side of the encoder's square input, in pixels.
    pub size: usize,
    /// Interpolation kernel of the resize from the padded square to `size`.
    pub interpolation: Interpolation,
    /// Fraction of the side that remains after the crop, above 0.1 and at most 1. Below 1, the square is resized to
    /// ⌊size / crop_pct⌋ and its centre is cropped (timm, torchvision). Default 1.
    #[serde(default = "whole")]
    pub crop_pct: f64,
    /// Kernel that enlarges the square after a first resize to `size`, before the crop (Cambrian-1). Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enlarge: Option<Interpolation>,
    /// Mean subtracted from each channel, whose values are in 0..1.
    pub mean: [f32; 3],
    /// Standard deviation by which each channel is divided after that.
    pub std: [f32; 3],
    /// Padding colour for an image that is not square, RGB.
    pub pad: [u8; 3],
    /// Whether an odd crop margin is rounded down (transformers) and not half to even (torchvision). Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub crop_floor: bool,
    /// How an image that is not square is made square. Default: it is padded.
    #[serde(default, skip_serializing_if = "Fit::is_pad")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub fit: Fit,
    /// How the encoder's own library makes an image square, for the pipeline `library`; absent if the library's output
    /// is not square or is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library: Option<Fit>,
    /// Whether images are rotated upright as their EXIF orientation says. Default: they are used as stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub upright: bool,
    /// How images are resized with their aspect ratio kept, for an encoder that accepts any grid; `size` is then the
    /// typical side only, and `fit`, `crop_pct` and `pad` have no effect. Default: images are made square.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<NativeResize>,
}

/// The choice among a card's preprocessing variants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Pipeline {
    /// The encoder's own evaluation transform, after padding to a square.
    #[default]
    Correct,
    /// The preprocessing of Cambrian-1, with its quirks.
    #[serde(rename = "cambrian-1")]
    Cambrian1,
    /// The preprocessing of the encoder's own library, which may crop or distort an image that is not square.
    Library,
}

impl std::str::FromStr for Pipeline {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "correct" => Ok(Self::Correct),
            "cambrian-1" => Ok(Self::Cambrian1),
            "library" => Ok(Self::Library),
            other => Err(Error::usage(format!("there is no preprocessing `{other}`"))
                .hint("known: correct, cambrian-1, library")),
        }
    }
}

/// The preprocessing options that a study or a command sets for all of its encoders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Preparation {
    /// Which of the card's variants is used.
    pub pipeline: Pipeline,
    /// Whether images are rotated upright as their EXIF orientation says.
    pub upright: bool,
}

fn whole() -> f64 {
    1.0
}

impl Preprocess {
    /// Checks the settings.
    pub fn validate(&self) -> Result<()> {
        if self.size == 0 || self.size > 8192 {
            return Err(Error::usage(format!("size = {}: must be between 1 and 8192 pixels", self.size)));
        }
        if !(self.crop_pct > 0.1 && self.crop_pct <= 1.0) {
            return Err(Error::usage(format!("crop_pct = {}: must be above 0.1 and at most 1", self.crop_pct)));
        }
        let normal = self.mean.iter().all(|m| m.is_finite()) && self.std.iter().all(|s| s.is_finite() && *s > 0.0);
        if !normal {
            return Err(Error::usage(format!(
                "mean = {:?}, std = {:?}: must be finite, and std positive",
                self.mean, self.std
            )));
        }
        self.native.map_or(Ok(()), |native| native.validate())
    }

    /// Decodes and preprocesses one file; returns `[3, size, size]`, row-major.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn load(&self, path: &Path) -> Result<Vec<f32>> {
        Ok(self.apply(&decode_oriented(path, self.orientation())?))
    }

    /// How decoders treat the EXIF orientation for this preprocessing.
    pub fn orientation(&self) -> Orientation {
        if self.upright { Orientation::Upright } else { Orientation::AsStored }
    }

    /// Side in pixels to which the image is resized before the centre crop.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn enlarged(&self) -> usize {
        ((self.size as f64 / self.crop_pct) as usize).max(self.size)
    }

    /// Offset of a centre crop of `size` from `length` pixels.
    fn crop_offset(&self, length: usize) -> usize {
        let margin = length - self.size;
        // Half margins are rounded to even, as by Python's round() in torchvision's centre crop.
        if margin % 4 == 3 && !self.crop_floor { margin / 2 + 1 } else { margin / 2 }
    }

    /// Preprocesses one image; returns `[3, size, size]`, row-major.
    pub fn apply(&self, image: &RgbImage) -> Vec<f32> {
        let mut out = self.normalised(&self.resized(image));
        if self.fit == Fit::Corner {
            fit::blank_margin(&mut out, image, self.size);
        }
        out
    }

    /// Normalises RGB bytes; returns the values of each channel, one channel after the other.
    pub(crate) fn normalised(&self, bytes: &[u8]) -> Vec<f32> {
        let mut out = Vec::with_capacity(bytes.len());
        for channel in 0..3 {
            // A byte has only 256 values: look-up replaces arithmetic per pixel.
            let (mean, std) = (self.mean[channel], self.std[channel]);
            let table: [f32; 256] = std::array::from_fn(|v| (v as f32 / 255.0 - mean) / std);
            out.extend(bytes.as_chunks::<3>().0.iter().map(|pixel| table[usize::from(pixel[channel])]));
        }
        out
    }

    /// Resizes and crops one image without normalisation; returns `size` × `size` RGB bytes.
    pub fn resized(&self, image: &RgbImage) -> Vec<u8> {
        if self.fit != Fit::Pad {
            return fit::resized(self, image);
        }
        let square = PaddedSquare::around(image, self.pad);
        let enlarged = self.enlarged();
        if enlarged <= self.size {
            return square.resize(self.size, self.interpolation);
        }
        let large = match self.enlarge {
            None => square.resize(enlarged, self.interpolation),
            Some(kernel) => {
                let side = u32::try_from(self.size).unwrap_or(u32::MAX);
                let small = RgbImage::from_raw(side, side, square.resize(self.size, self.interpolation));
                // `None` is only reachable with a size that `validate` rejects.
                small.map(|s| PaddedSquare::around(&s, self.pad).resize(enlarged, kernel)).unwrap_or_default()
            }
        };
        let offset = self.crop_offset(enlarged);
        let rows = large.chunks_exact(3 * enlarged).skip(offset).take(self.size);
        rows.flat_map(|row| row[3 * offset..3 * (offset + self.size)].iter().copied()).collect()
    }

    /// Preprocesses a batch of images; returns `[images, 3, size, size]`. Images are distributed over threads, unless
    /// the caller is a worker of a thread pool, whose size is then respected.
    pub fn pixels(&self, images: &[RgbImage], device: &Device) -> Tensor<4> {
        let each: Vec<Vec<f32>> = if rayon::current_thread_index().is_some() {
            images.iter().map(|p| self.apply(p)).collect()
        } else {
            images.par_iter().map(|p| self.apply(p)).collect()
        };
        transfer::to_device(TensorData::new(each.concat(), [images.len(), 3, self.size, self.size]), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn plain(size: usize) -> Preprocess {
        Preprocess {
            size,
            interpolation: Interpolation::Bicubic,
            crop_pct: 1.0,
            enlarge: None,
            mean: [0.5; 3],
            std: [0.25, 0.5, 1.0],
            pad: [0, 0, 0],
            crop_floor: false,
            fit: Fit::Pad,
            library: None,
            upright: false,
            native: None,
        }
    }

    #[test]
    fn channels_come_first_and_are_normalised() {
        let image = RgbImage::from_fn(2, 2, |x, y| Rgb([255 * x as u8, 255 * y as u8, 255]));
        let out = plain(2).apply(&image);
        assert_eq!(out, [-2., 2., -2., 2., -1., -1., 1., 1., 0.5, 0.5, 0.5, 0.5]);
    }

    #[test]
    fn a_batch_is_its_images_in_order() {
        let images: Vec<RgbImage> = (0..5).map(|i| RgbImage::from_pixel(3, 4, Rgb([i * 50; 3]))).collect();
        let batch = plain(6).pixels(&images, &Device::flex());
        assert_eq!(batch.dims(), [5, 3, 6, 6]);
        let expected: Vec<f32> = images.iter().flat_map(|p| plain(6).apply(p)).collect();
        assert_eq!(batch.into_data().try_into_vec_as::<f32>().unwrap(), expected);
    }

    #[test]
    fn nonsense_is_refused() {
        for broken in [
            Preprocess { size: 0, ..plain(4) },
            Preprocess { crop_pct: 0.0, ..plain(4) },
            Preprocess { crop_pct: f64::NAN, ..plain(4) },
            Preprocess { std: [0.0; 3], ..plain(4) },
        ] {
            assert!(broken.validate().is_err());
        }
    }
}
