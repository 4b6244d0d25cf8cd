//! Encoding of image files into patch features in a safetensors file, for the feature cache and `burgess encode`.

use crate::data::image_files;
use crate::features::card::ArmCard;
use crate::features::oracle;
use crate::features::oracle::GroundTruth;
use crate::machine::stop;
use crate::study::{ArmEncoder, ORACLE};
use burgess_base::digest::Digest;
use burgess_base::prefetch::prefetch;
use burgess_base::{Context, Error, Result};
use burgess_encoders::encoder::{EncodedBatch, Encoder};
use burgess_encoders::transfer;
use burn::tensor::{Device, Tensor};
use image::RgbImage;
use safetensors::{Dtype, tensor::TensorView};
use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

/// Computes the features of images by name.
pub enum FeatureExtractor {
    /// An encoder, which reads the image files.
    Encoder(Box<Encoder>),
    /// The oracle, which looks the images up in the ground truth of their directory.
    Oracle(GroundTruth),
}

impl FeatureExtractor {
    /// Loads the encoder of an arm, or the ground truth in the directory `data`; `card` is the card of `encoder`.
    ///
    /// # Errors
    /// The weights do not fit, or the ground truth changed since the card was made.
    pub fn open(encoder: &ArmEncoder, card: &ArmCard, data: &Path, device: &Device) -> Result<Self> {
        match card {
            ArmCard::Encoder(card) => Ok(Self::Encoder(Box::new(encoder.load(card.clone(), device)?))),
            ArmCard::Oracle(card) => Ok(Self::Oracle(GroundTruth::read_matching(card, data)?)),
        }
    }

    /// Id of the encoder, or the oracle's name.
    pub fn id(&self) -> &str {
        match self {
            Self::Encoder(encoder) => &encoder.card.id,
            Self::Oracle(_) => ORACLE,
        }
    }

    /// Computes the features of images, as the function [`encode`] does. The oracle's encoding time is 0 seconds.
    ///
    /// # Errors
    /// As [`encode`]; or an image has no ground truth.
    pub fn encode<S: AsRef<str> + Sync>(
        &self,
        dir: &Path,
        images: &[S],
        batch: usize,
        advance: &dyn Fn(u64),
    ) -> Result<EncodedImages> {
        match self {
            Self::Encoder(encoder) => encode(encoder, dir, images, batch, advance),
            Self::Oracle(truth) => {
                stop::check()?;
                let values = truth.features(images)?;
                advance(images.len() as u64);
                Ok(EncodedImages {
                    bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                    shape: [images.len(), truth.cells(), oracle::WIDTH],
                    grid: truth.grid(),
                    not_square: 0,
                    seconds: 0.0,
                })
            }
        }
    }
}

/// Features of some images in host memory.
pub struct EncodedImages {
    /// Features as little-endian f32, `[images, tokens, width]`.
    bytes: Vec<u8>,
    /// Shape of the features, `[images, tokens, width]`.
    pub shape: [usize; 3],
    /// Token grid, `[rows, columns]`.
    pub grid: [usize; 2],
    /// Number of images that are not square.
    pub not_square: usize,
    /// Time spent in the encoder in seconds, without reading and preprocessing images.
    pub seconds: f64,
}

/// Encodes images by their names relative to `dir`, `batch` at a time; calls `advance` with the size of each batch.
///
/// # Errors
/// An image cannot be read, a feature is not finite, or a signal asked to stop.
pub fn encode<S: AsRef<str> + Sync>(
    encoder: &Encoder,
    dir: &Path,
    images: &[S],
    batch: usize,
    advance: &dyn Fn(u64),
) -> Result<EncodedImages> {
    let mut all =
        EncodedImages { bytes: Vec::new(), shape: [images.len(), 0, 0], grid: [0, 0], not_square: 0, seconds: 0.0 };
    // On the CPU the same cores read images and encode them, so nothing is gained by reading ahead.
    let concurrent = !transfer::is_host(encoder.device());
    let read = |names: &[S]| -> Result<(Tensor<4>, usize)> {
        let opened = image_files::open_all(dir, names, encoder.card.preprocess.orientation());
        let opened: Vec<RgbImage> = opened.into_iter().collect::<Result<_>>()?;
        let not_square = opened.iter().filter(|image| image.width() != image.height()).count();
        Ok((encoder.pixels(&opened), not_square))
    };
    let batches = images.chunks(batch.max(1));
    prefetch(concurrent, batches.clone(), read, |pixels| {
        for names in batches {
            stop::check()?;
            let read = pixels.next().ok_or_else(|| Error::failed("reading images ended early"))?;
            all.add_batch(encoder, names, read?)?;
            advance(names.len() as u64);
        }
        Ok(all)
    })
}

impl EncodedImages {
    /// Encodes the pixels of one batch, of which `not_square` images are not square, and appends their features.
    fn add_batch<S: AsRef<str>>(
        &mut self,
        encoder: &Encoder,
        names: &[S],
        (pixels, not_square): (Tensor<4>, usize),
    ) -> Result<()> {
        let name = |n: usize| names.get(n).map_or_else(String::new, |name| image_files::display_name(name.as_ref()));
        let EncodedBatch { features, seconds } = encoder.encode_pixels(pixels, &name)?;
        let [_, tokens, width] = features.tokens.dims();
        let start = Instant::now();
        let host: Vec<f32> = transfer::to_host(features.tokens)?;
        self.not_square += not_square;
        self.seconds += seconds + start.elapsed().as_secs_f64();
        (self.shape[1], self.shape[2], self.grid) = (tokens, width, features.grid);
        self.bytes.extend(host.iter().flat_map(|v| v.to_le_bytes()));
        Ok(())
    }
}

/// Digest of features with their shape and grid; `owner` identifies the cache entry or file that contains them.
pub fn digest(owner: &str, shape: [usize; 3], grid: [usize; 2], bytes: &[u8]) -> String {
    let mut digest = Digest::default();
    digest.update(format!("{owner} {shape:?} {grid:?}").as_bytes());
    digest.update(bytes);
    digest.finish()
}

impl EncodedImages {
    /// Digest of these features, see [`digest`].
    pub fn digest(&self, owner: &str) -> String {
        digest(owner, self.shape, self.grid, &self.bytes)
    }

    /// Difference ‖a−b‖/‖b‖ of these features to those of the same images in `bytes`, little-endian f32; infinite if their
    /// numbers differ.
    pub fn difference(&self, bytes: &[u8]) -> f64 {
        if self.bytes.len() != bytes.len() {
            return f64::INFINITY;
        }
        let value = |bytes: &[u8; 4]| f64::from(f32::from_le_bytes(*bytes));
        let pairs = self.bytes.as_chunks::<4>().0.iter().zip(bytes.as_chunks::<4>().0);
        let (mut apart, mut all) = (0.0, 0.0);
        for (a, b) in pairs {
            apart += (value(a) - value(b)).powi(2);
            all += value(b).powi(2);
        }
        if apart == 0.0 { 0.0 } else { (apart / all).sqrt() }
    }

    /// Packs the features into a safetensors file with `features` f32 and `grid` `[2]` u64.
    pub fn pack(&self, metadata: HashMap<String, String>) -> Result<Vec<u8>> {
        let grid: Vec<u8> = self.grid.iter().flat_map(|v| (*v as u64).to_le_bytes()).collect();
        let invalid = |e: safetensors::SafeTensorError| Error::failed(e.to_string());
        let tensors = [
            ("features", TensorView::new(Dtype::F32, self.shape.to_vec(), &self.bytes).map_err(invalid)?),
            ("grid", TensorView::new(Dtype::U64, vec![2], &grid).map_err(invalid)?),
        ];
        let bytes = safetensors::serialize(tensors, Some(metadata)).map_err(invalid).context("packing the features")?;
        sorted(bytes).context("packing the features")
    }
}

/// Sorts the metadata of a safetensors file by key: the order of a hash map differs between processes.
fn sorted(mut file: Vec<u8>) -> Result<Vec<u8>> {
    let length = file.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)) as usize;
    let header = file.get_mut(8..8 + length).ok_or_else(|| Error::failed("the header is cut off"))?;
    let mut fields: serde_json::Value = serde_json::from_slice(header)?;
    if let Some(metadata) = fields.get_mut("__metadata__").and_then(serde_json::Value::as_object_mut) {
        metadata.sort_keys();
    }
    let mut text = serde_json::to_vec(&fields)?;
    if text.len() <= length {
        // The sorted header may be shorter; pad it with spaces to the old length.
        text.resize(length, b' ');
        header.copy_from_slice(&text);
    }
    Ok(file)
}
