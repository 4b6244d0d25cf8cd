//! Features of a frozen encoder for the images of a study: read from the cache, or computed each time they are
//! requested.
//!
//! The cache saves time if an image is used again: in other epochs, seeds, stages and arms with the same encoder. It
//! takes 4 · tokens · width bytes per image: terabytes for the millions of images of a published study, whose recipe
//! uses each image once. For such studies, set `features = "computed"` in `[evaluator]`.

use crate::data::image_files;
use crate::features::cache::{CachedFeatures, FeatureCache};
use crate::features::card::ArmCard;
use crate::features::encode::FeatureExtractor;
use crate::features::image_set::ImageSet;
use crate::features::prepared::PreparedEncoder;
use crate::machine::paths;
use crate::machine::progress::Progress;
use crate::machine::workers::Workers;
use crate::study::{ArmEncoder, FeatureSourceKind};
use burgess_base::{Error, Result};
use burgess_encoders::encoder::{EncodedBatch, Encoder};
use burgess_encoders::features::FeatureMap;
use burgess_encoders::preprocess::PreparedImages;
use burgess_encoders::transfer;
use burn::tensor::{Device, Tensor, TensorData};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Number of images in a forward pass.
const BATCH: usize = 16;

/// Features whose inputs are read, which are computed when it is called.
pub type PendingFeatures<'a> = Box<dyn FnOnce() -> Result<FeatureMap> + Send + 'a>;

/// The features of one encoder for the images of a study.
pub enum FrozenFeatures {
    /// Features mapped from the cache on disk.
    Cached(CachedFeatures),
    /// Features computed on demand.
    Computed(Box<ComputedFeatures>),
}

/// An encoder that computes the features of images on demand.
pub struct ComputedFeatures {
    /// The encoder on each device.
    extractors: Vec<(Device, FeatureExtractor)>,
    dir: PathBuf,
    images: Vec<String>,
    grid: [usize; 2],
    width: usize,
    /// Number of images encoded so far, and the seconds spent.
    spent: Mutex<(f64, f64)>,
}

impl ComputedFeatures {
    /// Makes the source for images named relative to `dir`; `card` is the encoder's, which was loaded on the devices.
    ///
    /// # Errors
    /// The card's tap does not fit its architecture.
    pub fn new(
        extractors: Vec<(Device, FeatureExtractor)>,
        card: &ArmCard,
        dir: PathBuf,
        images: Vec<String>,
    ) -> Result<Self> {
        let (grid, width) = (card.used_grid()?, card.width()?);
        Ok(Self { extractors, dir, images, grid, width, spent: Mutex::default() })
    }

    /// Reads images by index and prepares them for the encoder, on `device` if it was loaded there, else on the first
    /// device; the returned function encodes them.
    fn prepare(&self, numbers: &[usize], device: &Device) -> Result<PendingFeatures<'_>> {
        let name = |n: &usize| self.images.get(*n).ok_or_else(|| Error::failed(format!("no image {n}")));
        let names: Vec<&String> = numbers.iter().map(name).collect::<Result<_>>()?;
        // Devices compare by their hardware: with or without autodiff they are equal.
        let found = self.extractors.iter().find(|(there, _)| there == device).or(self.extractors.first());
        let (device, extractor) = found.ok_or_else(|| Error::failed("the encoder was loaded on no device"))?;
        match extractor {
            FeatureExtractor::Encoder(encoder) => {
                let orientation = encoder.card.preprocess.orientation();
                let read = |names: &[&String]| {
                    let opened = image_files::open_all(&self.dir, names, orientation);
                    Ok(encoder.prepare(&opened.into_iter().collect::<Result<Vec<_>>>()?))
                };
                let prepared: Vec<PreparedImages> = names.chunks(BATCH).map(read).collect::<Result<_>>()?;
                Ok(Box::new(move || self.encoded(encoder, &names, prepared)))
            }
            FeatureExtractor::Oracle(truth) => {
                let shape = [names.len(), truth.cells(), self.width];
                let tokens = transfer::to_device(TensorData::new(truth.features(&names)?, shape), device);
                Ok(Box::new(move || Ok(FeatureMap { tokens, grid: self.grid })))
            }
        }
    }

    fn encoded(&self, encoder: &Encoder, names: &[&String], prepared: Vec<PreparedImages>) -> Result<FeatureMap> {
        let mut maps = Vec::new();
        for (names, images) in names.chunks(BATCH).zip(prepared) {
            let name = |n: usize| names.get(n).map_or_else(String::new, |name| image_files::display_name(name));
            let EncodedBatch { features, seconds } = encoder.encode_prepared(images, &name)?;
            let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
            spent.0 += names.len() as f64;
            spent.1 += seconds;
            drop(spent);
            maps.push(features.tokens);
        }
        if maps.is_empty() {
            return Err(Error::failed("no image is given, expected at least one"));
        }
        Ok(FeatureMap { tokens: Tensor::cat(maps, 0), grid: self.grid })
    }
}

/// One encoder of an arm, with its card and features.
pub struct EncoderFeatures {
    /// The encoder, as the arm names it.
    pub encoder: ArmEncoder,
    /// Card of the encoder.
    pub card: ArmCard,
    /// Features for the images of the study.
    pub features: Arc<FrozenFeatures>,
}

impl FrozenFeatures {
    /// Opens the features of these encoders for all images of a study. If one encoder fails, the others are still
    /// opened.
    ///
    /// # Errors
    /// The cache directory cannot be used, or a signal asked to stop.
    pub fn open_all(
        encoders: &[&PreparedEncoder],
        source: FeatureSourceKind,
        set: ImageSet<'_>,
        workers: &Workers,
        progress: &Progress,
    ) -> Result<Vec<Result<Self>>> {
        match source {
            FeatureSourceKind::Cached => {
                let cache = FeatureCache::open(&paths::cache()?, paths::cache_limit()?)?;
                let features = cache.features(encoders, set, workers, progress)?;
                Ok(features.into_iter().map(|f| f.map(Self::Cached)).collect())
            }
            FeatureSourceKind::Computed => Ok(encoders
                .iter()
                .map(|p| Self::computed(&p.encoder, &p.card, &set.data.dir, set.images, set.devices))
                .collect()),
        }
    }

    /// Loads an encoder on each device to compute the features of images on demand; image names are relative to `dir`.
    ///
    /// # Errors
    /// The weights are not on this machine or do not fit, or the ground truth changed since the card was made.
    pub fn computed(
        encoder: &ArmEncoder,
        card: &ArmCard,
        dir: &Path,
        images: &[String],
        devices: &[Device],
    ) -> Result<Self> {
        let open = |device: &Device| Ok((device.clone(), FeatureExtractor::open(encoder, card, dir, device)?));
        let extractors = devices.iter().map(open).collect::<Result<Vec<_>>>()?;
        ComputedFeatures::new(extractors, card, dir.to_path_buf(), images.to_vec()).map(Box::new).map(Self::Computed)
    }

    /// Token grid, `[rows, columns]`.
    pub fn grid(&self) -> [usize; 2] {
        match self {
            Self::Cached(c) => c.grid,
            Self::Computed(c) => c.grid,
        }
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        match self {
            Self::Cached(c) => c.images(),
            Self::Computed(c) => c.images.len(),
        }
    }

    /// Number of channels of a token.
    pub fn width(&self) -> usize {
        match self {
            Self::Cached(c) => c.width,
            Self::Computed(c) => c.width,
        }
    }

    /// Encoding throughput in images per second: when the cache was filled, or so far.
    pub fn images_per_second(&self) -> f64 {
        match self {
            Self::Cached(c) => c.images_per_second,
            Self::Computed(c) => {
                let (images, seconds) = *c.spent.lock().unwrap_or_else(PoisonError::into_inner);
                images / seconds
            }
        }
    }

    /// Features of some images by index: [images, tokens, width] on `device`.
    ///
    /// # Errors
    /// An image cannot be read, or there is no image with that index.
    pub fn batch(&self, images: &[usize], device: &Device) -> Result<FeatureMap> {
        self.prepare(images, device)?()
    }

    /// As [`batch`](Self::batch) in two parts: this call reads cached features or images and copies them to the device,
    /// which a second thread can do; the returned function computes what is not cached.
    ///
    /// # Errors
    /// As [`batch`](Self::batch).
    pub fn prepare(&self, images: &[usize], device: &Device) -> Result<PendingFeatures<'_>> {
        match self {
            Self::Cached(c) => {
                let map = FeatureMap { tokens: c.batch(images, device)?, grid: c.grid };
                Ok(Box::new(move || Ok(map)))
            }
            Self::Computed(c) => {
                let (pending, device) = (c.prepare(images, device)?, device.clone());
                Ok(Box::new(move || {
                    let map = pending()?;
                    Ok(FeatureMap { tokens: map.tokens.to_device(&device), grid: map.grid })
                }))
            }
        }
    }
}
