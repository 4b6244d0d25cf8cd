//! From an image file to the numbers an encoder was trained on: decode, pad to a square, resize, crop, normalise, with
//! Pillow's arithmetic (`burgess_pixels`).
//!
//! Two [`Pipeline`]s are on the cards. `correct` pads with the encoder's own mean colour and then does what the encoder's
//! makers do before an evaluation. `cambrian-1` is the study's: other colours around the square for some encoders, and
//! where the makers crop, a square that was first brought to the encoder's size is enlarged again and loses its borders.
//! `library` is what the encoder's own library does to a picture that is not square: most crop it, some distort it. All
//! three agree on a square that is not cropped.

mod fit;

pub use burgess_pixels::{
    Interpolation, Orientation, decode, decode_bytes, decode_bytes_turned, decode_turned, dimensions, dimensions_turned,
};
pub use fit::Fit;

use burgess_base::{Error, Result};
use burgess_pixels::Canvas;
use burn::tensor::{Device, Tensor, TensorData};
use image::RgbImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What happens to a picture before an encoder sees it: the `[preprocess]` table of a card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Side of the square the encoder takes, in pixels.
    pub size: usize,
    /// Kernel of the resize from the padded square to `size`.
    pub interpolation: Interpolation,
    /// Share of the side that is left after cropping: below 1, the square is brought to ⌊size / crop_pct⌋ and its
    /// centre is cut out (timm, torchvision). Default 1.
    #[serde(default = "whole")]
    pub crop_pct: f64,
    /// Bring the square to `size` first and enlarge it from there, with this kernel, before the crop: Cambrian-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enlarge: Option<Interpolation>,
    /// Subtracted from each channel of 0..1.
    pub mean: [f32; 3],
    /// Divides each channel after that.
    pub std: [f32; 3],
    /// Colour around a picture that is not square.
    pub pad: [u8; 3],
    /// Odd margins are cut with the smaller half first (transformers), instead of rounded half to even (torchvision).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub crop_floor: bool,
    /// How a picture that is not square becomes one. Default: it is padded.
    #[serde(default, skip_serializing_if = "Fit::is_pad")]
    pub fit: Fit,
    /// How the encoder's own library makes it one, for the pipeline `library`; absent where it gives the encoder something
    /// that is not square, or where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub library: Option<Fit>,
    /// Pictures are turned upright as their EXIF data say. Default: they are taken as they are stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub upright: bool,
}

/// Which of a card's ways to prepare a picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pipeline {
    /// The encoder's own evaluation transform, after padding to a square.
    #[default]
    Correct,
    /// That of the Cambrian-1 study, with its quirks.
    #[serde(rename = "cambrian-1")]
    Cambrian1,
    /// That of the encoder's own library, whatever it does to a picture that is not square.
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

/// What a study or a command says about how pictures are prepared, for all of its encoders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Preparation {
    /// Which of the card's ways.
    pub pipeline: Pipeline,
    /// Pictures are turned upright as their EXIF data say.
    pub upright: bool,
}

fn whole() -> f64 {
    1.0
}

impl Preprocess {
    /// Says what is wrong with the numbers, if anything.
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
        Ok(())
    }

    /// Decodes and prepares one file: `3 · size · size` numbers, channel by channel.
    ///
    /// # Errors
    /// Those of [`decode`].
    pub fn load(&self, path: &Path) -> Result<Vec<f32>> {
        Ok(self.apply(&burgess_pixels::decode_turned(path, self.orientation())?))
    }

    /// What is done with the orientation in EXIF data when pictures are opened for this.
    pub fn orientation(&self) -> Orientation {
        if self.upright { Orientation::Upright } else { Orientation::AsStored }
    }

    /// The side to which the picture is brought before its centre is cut out.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn enlarged(&self) -> usize {
        ((self.size as f64 / self.crop_pct) as usize).max(self.size)
    }

    /// Where the crop of `size` from `length` points begins.
    fn crop_offset(&self, length: usize) -> usize {
        let margin = length - self.size;
        // Halves are rounded to even, as Python's round() in torchvision's centre crop.
        if margin % 4 == 3 && !self.crop_floor { margin / 2 + 1 } else { margin / 2 }
    }

    /// Prepares one picture: `[3, size, size]`, row-major.
    pub fn apply(&self, picture: &RgbImage) -> Vec<f32> {
        let bytes = self.resized(picture);
        let mut out = Vec::with_capacity(bytes.len());
        for channel in 0..3 {
            // 256 values are all there are.
            let (mean, std) = (self.mean[channel], self.std[channel]);
            let table: [f32; 256] = std::array::from_fn(|v| (v as f32 / 255.0 - mean) / std);
            out.extend(bytes.as_chunks::<3>().0.iter().map(|pixel| table[usize::from(pixel[channel])]));
        }
        if self.fit == Fit::Corner {
            fit::blank_margin(&mut out, picture, self.size);
        }
        out
    }

    /// The picture as the encoder will see it, before normalisation: `size` × `size` RGB bytes.
    pub fn resized(&self, picture: &RgbImage) -> Vec<u8> {
        if self.fit != Fit::Pad {
            return fit::resized(self, picture);
        }
        let square = Canvas::around(picture, self.pad);
        let enlarged = self.enlarged();
        if enlarged <= self.size {
            return square.resize(self.size, self.interpolation);
        }
        let large = match self.enlarge {
            None => square.resize(enlarged, self.interpolation),
            Some(kernel) => {
                let side = u32::try_from(self.size).unwrap_or(u32::MAX);
                let small = RgbImage::from_raw(side, side, square.resize(self.size, self.interpolation));
                // `None` is only reachable with a size that `validate` refuses.
                small.map(|s| Canvas::around(&s, self.pad).resize(enlarged, kernel)).unwrap_or_default()
            }
        };
        let offset = self.crop_offset(enlarged);
        let rows = large.chunks_exact(3 * enlarged).skip(offset).take(self.size);
        rows.flat_map(|row| row[3 * offset..3 * (offset + self.size)].iter().copied()).collect()
    }

    /// Prepares a batch: `[pictures, 3, size, size]`. Pictures are shared among threads unless the
    /// caller is a worker of a thread pool itself, whose size is then respected.
    pub fn pixels(&self, pictures: &[RgbImage], device: &Device) -> Tensor<4> {
        let each: Vec<Vec<f32>> = if rayon::current_thread_index().is_some() {
            pictures.iter().map(|p| self.apply(p)).collect()
        } else {
            pictures.par_iter().map(|p| self.apply(p)).collect()
        };
        Tensor::from_data(TensorData::new(each.concat(), [pictures.len(), 3, self.size, self.size]), device)
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
        }
    }

    #[test]
    fn channels_come_first_and_are_normalised() {
        let picture = RgbImage::from_fn(2, 2, |x, y| Rgb([255 * x as u8, 255 * y as u8, 255]));
        let out = plain(2).apply(&picture);
        assert_eq!(out, [-2., 2., -2., 2., -1., -1., 1., 1., 0.5, 0.5, 0.5, 0.5]);
    }

    #[test]
    fn a_batch_is_its_pictures_in_order() {
        let pictures: Vec<RgbImage> = (0..5).map(|i| RgbImage::from_pixel(3, 4, Rgb([i * 50; 3]))).collect();
        let batch = plain(6).pixels(&pictures, &Device::flex());
        assert_eq!(batch.dims(), [5, 3, 6, 6]);
        let expected: Vec<f32> = pictures.iter().flat_map(|p| plain(6).apply(p)).collect();
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
