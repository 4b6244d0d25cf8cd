//! Encoding of image files into patch features in a safetensors file, for the feature cache and `burgess encode`.

use crate::data::image_files;
use crate::features::card::ArmCard;
use crate::features::oracle;
use crate::features::oracle::GroundTruth;
use crate::features::scale;
use crate::machine::stop;
use crate::study::{ArmEncoder, ORACLE};
use burgess_base::digest::Digest;
use burgess_base::prefetch::prefetch;
use burgess_base::{Context, Error, Result};
use burgess_encoders::encoder::{EncodedBatch, Encoder, OwnGridFeatures};
use burgess_encoders::preprocess::PreparedImages;
use burgess_encoders::transfer;
use burgess_reports::schema::FeatureScale;
use burn::tensor::Device;
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
                    own_grids: Vec::new(),
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
    /// Grids of the parts of each image, `[rows, columns]`, if images have grids of their own; otherwise empty.
    pub own_grids: Vec<Vec<[usize; 2]>>,
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
    let mut all = EncodedImages::none(images.len());
    // On the CPU the same cores read images and encode them, so nothing is gained by reading ahead.
    let concurrent = !transfer::is_host(encoder.device());
    let read = |names: &[S]| -> Result<(PreparedImages, usize)> {
        let opened = image_files::open_all(dir, names, encoder.card.preprocess.orientation());
        let opened: Vec<RgbImage> = opened.into_iter().collect::<Result<_>>()?;
        let not_square = opened.iter().filter(|image| image.width() != image.height()).count();
        Ok((encoder.prepare(&opened), not_square))
    };
    let batches = images.chunks(batch.max(1));
    prefetch(concurrent, batches.clone(), read, |prepared| {
        for names in batches {
            stop::check()?;
            let read = prepared.next().ok_or_else(|| Error::failed("reading images ended early"))?;
            all.add_batch(encoder, names, read?)?;
            advance(names.len() as u64);
        }
        Ok(all)
    })
}

/// As [`encode`], but every image keeps the grid of its own that [`Encoder::own_grids`] gives it. The features of an
/// image are followed by zeros up to the number of tokens of the largest.
///
/// # Errors
/// As [`encode`].
pub fn encode_own_grids<S: AsRef<str> + Sync>(
    encoder: &Encoder,
    dir: &Path,
    images: &[S],
    batch: usize,
    advance: &dyn Fn(u64),
) -> Result<EncodedImages> {
    let mut all = EncodedImages::none(images.len());
    let mut features: Vec<Vec<f32>> = Vec::with_capacity(images.len());
    let width = encoder.card.width()?;
    for names in images.chunks(batch.max(1)) {
        stop::check()?;
        let opened = image_files::open_all(dir, names, encoder.card.preprocess.orientation());
        let opened: Vec<RgbImage> = opened.into_iter().collect::<Result<_>>()?;
        all.not_square += opened.iter().filter(|image| image.width() != image.height()).count();
        let name = |n: usize| names.get(n).map_or_else(String::new, |name| image_files::display_name(name.as_ref()));
        let prepared = encoder.prepare(&opened);
        let start = Instant::now();
        for OwnGridFeatures { values, grids } in encoder.encode_own_grids(prepared, &name)? {
            features.push(values);
            all.own_grids.push(grids);
        }
        all.seconds += start.elapsed().as_secs_f64();
        advance(names.len() as u64);
    }
    let longest = features.iter().map(Vec::len).max().unwrap_or(0);
    for mut values in features {
        values.resize(longest, 0.0);
        all.bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }
    all.shape = [images.len(), longest / width.max(1), width];
    Ok(all)
}

impl EncodedImages {
    /// The features of no image yet, of `count`.
    fn none(count: usize) -> Self {
        let (bytes, own_grids) = (Vec::new(), Vec::new());
        Self { bytes, shape: [count, 0, 0], grid: [0, 0], own_grids, not_square: 0, seconds: 0.0 }
    }

    /// Encodes the prepared images of one batch, of which `not_square` images are not square, and appends their
    /// features.
    fn add_batch<S: AsRef<str>>(
        &mut self,
        encoder: &Encoder,
        names: &[S],
        (images, not_square): (PreparedImages, usize),
    ) -> Result<()> {
        let name = |n: usize| names.get(n).map_or_else(String::new, |name| image_files::display_name(name.as_ref()));
        let EncodedBatch { features, seconds } = encoder.encode_prepared(images, &name)?;
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

    /// Difference ‖a−b‖/‖b‖ of these features to those of the same images in `bytes`, little-endian f32;
    /// infinite if their numbers differ.
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

    /// The scale of the features, see [`scale`].
    ///
    /// # Errors
    /// There are no features, or one is not finite.
    pub fn scale(&self, encoder: &str) -> Result<FeatureScale> {
        let [images, tokens, width] = self.shape;
        let values: Vec<f32> = self.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let patches = |image: usize| match self.own_grids.get(image) {
            Some(grids) => 0..grids.iter().map(|grid| grid[0] * grid[1]).sum(),
            // The class token, before the patches, has a scale of its own.
            None => tokens.saturating_sub(self.grid[0] * self.grid[1])..tokens,
        };
        let each = (0..images).flat_map(|image| patches(image).map(move |token| image * tokens + token));
        let all: Vec<&[f32]> = each.filter_map(|at| values.get(at * width..(at + 1) * width)).collect();
        scale::of_tokens(encoder.to_string(), &all)
    }

    /// Packs the features into a safetensors file with `features` f32 and `grid` `[2]` u64, or `grids`
    /// `[images, parts, 2]` if images have grids of their own.
    pub fn pack(&self, metadata: HashMap<String, String>) -> Result<Vec<u8>> {
        let (name, shape, sides) = match self.own_grids.first() {
            None => ("grid", vec![2], self.grid.to_vec()),
            Some(parts) => ("grids", vec![self.own_grids.len(), parts.len(), 2], self.own_grids.concat().concat()),
        };
        let grid: Vec<u8> = sides.iter().flat_map(|v| (*v as u64).to_le_bytes()).collect();
        let invalid = |e: safetensors::SafeTensorError| Error::failed(e.to_string());
        let tensors = [
            ("features", TensorView::new(Dtype::F32, self.shape.to_vec(), &self.bytes).map_err(invalid)?),
            (name, TensorView::new(Dtype::U64, shape, &grid).map_err(invalid)?),
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
