//! Features of a frozen encoder for the pictures of a study: mapped from the cache, or computed whenever they are asked for.
//!
//! The cache pays when a picture is seen again: in other epochs, seeds, stages and arms with the same encoder. It takes
//! 4 · tokens · width bytes a picture: terabytes for the millions of pictures of a published study, whose recipe sees each
//! of them once. `features = "computed"` in `[evaluator]` is for those.

use crate::cache::Cached;
use crate::pictures;
use burgess_base::{Error, Result};
use burgess_encoders::encoder::Encoder;
use burgess_encoders::features::FeatureMap;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Pictures a forward pass takes.
const BATCH: usize = 16;

/// What becomes of the features of frozen encoders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// Each picture is encoded once, and its features are kept on disk.
    #[default]
    Cached,
    /// Each picture is encoded whenever it is seen, and nothing is kept.
    Computed,
}

/// The features of one encoder.
pub enum Features {
    /// On disk.
    Cached(Cached),
    /// Made when they are needed.
    Computed(Box<Computed>),
}

/// An encoder with the pictures that it may be asked for.
pub struct Computed {
    encoder: Encoder,
    dir: PathBuf,
    pictures: Vec<String>,
    grid: [usize; 2],
    width: usize,
    /// Pictures encoded so far, and the seconds spent.
    spent: Mutex<(f64, f64)>,
}

impl Computed {
    /// For pictures by their names relative to `dir`.
    ///
    /// # Errors
    /// The card cannot be tapped as it says.
    pub fn new(encoder: Encoder, dir: PathBuf, pictures: Vec<String>) -> Result<Self> {
        let (grid, width) = (encoder.card.used_grid()?, encoder.card.architecture.width(&encoder.card.tap)?);
        Ok(Self { encoder, dir, pictures, grid, width, spent: Mutex::default() })
    }

    fn batch(&self, numbers: &[usize]) -> Result<FeatureMap> {
        let name = |n: &usize| self.pictures.get(*n).ok_or_else(|| Error::failed(format!("no picture {n}")));
        let names: Vec<&String> = numbers.iter().map(name).collect::<Result<_>>()?;
        let mut maps = Vec::new();
        for names in names.chunks(BATCH) {
            let orientation = self.encoder.card.preprocess.orientation();
            let opened = pictures::open_all(&self.dir, names, orientation).into_iter().collect::<Result<Vec<_>>>()?;
            let pixels = self.encoder.card.preprocess.pixels(&opened, self.encoder.device());
            let start = Instant::now();
            let name = |n: usize| names.get(n).map_or("?", |name| name.as_str()).to_string();
            let map = self.encoder.forward_of(pixels, &name)?;
            self.encoder.device().sync().map_err(|e| Error::failed(e.to_string()))?;
            let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
            spent.0 += names.len() as f64;
            spent.1 += start.elapsed().as_secs_f64();
            drop(spent);
            finite(&map.tokens, &self.encoder.card.id, names)?;
            maps.push(map.tokens);
        }
        if maps.is_empty() {
            return Err(Error::failed("features of no picture"));
        }
        Ok(FeatureMap { tokens: Tensor::cat(maps, 0), grid: self.grid })
    }
}

/// Checks that features `[images, tokens, width]` are numbers.
///
/// # Errors
/// One is not: its image is named.
pub fn finite<S: AsRef<str>>(features: &Tensor<3>, encoder: &str, names: &[S]) -> Result<()> {
    let failed = |e: String| Error::failed(e).context(format!("reading the features of {encoder}"));
    let all = features.clone().is_finite().all();
    if all.try_into_vec_as::<bool>().map_err(|e| failed(e.to_string()))?.iter().all(|finite| *finite) {
        return Ok(());
    }
    let [_, tokens, width] = features.dims();
    let values: Vec<f32> = features.clone().try_into_vec_as().map_err(|e| failed(e.to_string()))?;
    let bad = values.iter().position(|v| !v.is_finite()).unwrap_or_default();
    Err(not_finite(encoder, names.get(bad / (tokens * width).max(1)).map_or("", AsRef::as_ref)))
}

/// The error of a feature that is not finite.
pub(crate) fn not_finite(encoder: &str, image: &str) -> Error {
    let of = if image.is_empty() { "the image".into() } else { pictures::shown(image) };
    Error::failed(format!("{encoder} gives a feature that is not finite for {of}"))
        .hint("the weights are damaged or the card's preprocessing is wrong")
}

impl Features {
    /// Rows and columns of the token grid.
    pub fn grid(&self) -> [usize; 2] {
        match self {
            Self::Cached(c) => c.grid,
            Self::Computed(c) => c.grid,
        }
    }

    /// Width of a token.
    pub fn width(&self) -> usize {
        match self {
            Self::Cached(c) => c.width,
            Self::Computed(c) => c.width,
        }
    }

    /// Pictures encoded per second: when they were encoded, or so far.
    pub fn images_per_second(&self) -> f64 {
        match self {
            Self::Cached(c) => c.images_per_second,
            Self::Computed(c) => {
                let (images, seconds) = *c.spent.lock().unwrap_or_else(PoisonError::into_inner);
                images / seconds
            }
        }
    }

    /// Features of some pictures by their numbers: [pictures, tokens, width] on `device`.
    ///
    /// # Errors
    /// A picture cannot be read, or there is none of that number.
    pub fn batch(&self, pictures: &[usize], device: &Device) -> Result<FeatureMap> {
        match self {
            Self::Cached(c) => Ok(FeatureMap { tokens: c.batch(pictures, device)?, grid: c.grid }),
            Self::Computed(c) => {
                let map = c.batch(pictures)?;
                Ok(FeatureMap { tokens: map.tokens.to_device(device), grid: map.grid })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_that_is_no_number_names_its_image() {
        let features = |bad: f32| Tensor::<3>::from_floats([[[0.5, 1.0]], [[2.0, bad]]], &Device::flex());
        assert!(finite(&features(3.0), "vit", &["a.png", "b.png"]).is_ok());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let e = finite(&features(bad), "vit", &["a.png", "b.png"]).unwrap_err();
            assert!(e.to_string().contains("vit gives a feature that is not finite for b.png"), "{e}");
        }
    }
}
