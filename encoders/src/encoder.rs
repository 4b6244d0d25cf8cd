//! A pretrained encoder that is ready to use: its card, weights and device; computes features from images.
//!
//! [`Encoder::encode_batch`] prepares the images of a batch, computes their features and rejects values that are not
//! finite; [`Encoder::encode`] and [`Encoder::encode_files`] do so for any number of images and return host memory.

use crate::arch::{Architecture, Tokens};
use crate::card::EncoderCard;
use crate::checkpoint::{self, Checkpoint, CheckpointPart, Dialect, ExpectedTensors, LoadReport, Precision};
use crate::features::FeatureMap;
use crate::preprocess::{self, PreparedGroup, PreparedImages};
use crate::resolve::weights_path;
use crate::tiling::{Tiling, any_res_parts, multi_scale};
use crate::transfer;
use burgess_base::{Error, Result};
use burn::tensor::{Device, Tensor};
use image::RgbImage;
use rayon::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError};
use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

/// An encoder with its weights.
#[derive(Debug, Clone)]
pub struct Encoder {
    /// Description of the encoder.
    pub card: EncoderCard,
    /// The network with its weights.
    pub arch: Architecture,
    device: Device,
}

/// Number of images that [`Encoder::encode_files`] computes at a time.
const BATCH: usize = 16;

/// The features of a batch of images on the encoder's device.
#[derive(Debug, Clone)]
pub struct EncodedBatch {
    /// Finite features at the card's tap, on the card's grid.
    pub features: FeatureMap,
    /// Seconds that the network took, without the preparation of the images.
    pub seconds: f64,
}

/// Features in host memory, `[images, tokens, width]`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// All values, row-major.
    pub values: Vec<f32>,
    /// Number of images.
    pub images: usize,
    /// Tokens per image: the class token if the tap keeps it, then the grid in row-major order.
    pub tokens: usize,
    /// Number of channels.
    pub width: usize,
    /// Grid of the patch tokens, `[rows, columns]`.
    pub grid: [usize; 2],
}

/// Features of one image on its own grid, in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnGridFeatures {
    /// All values, `[tokens, width]`, row-major; the parts of the image follow each other.
    pub values: Vec<f32>,
    /// Grid of each part, `[rows, columns]`.
    pub grids: Vec<[usize; 2]>,
}

impl Features {
    /// Returns the features of one image, `[tokens, width]`, row-major; `None` if there is no image of this index.
    pub fn image(&self, index: usize) -> Option<&[f32]> {
        let length = self.tokens * self.width;
        (index < self.images).then(|| self.values.get(index * length..(index + 1) * length)).flatten()
    }

    /// Returns the mean of an image's patch features, `[width]`, without the class token; `None` if there is no image
    /// of this index.
    pub fn mean_patch(&self, index: usize) -> Option<Vec<f32>> {
        let patches = self.grid[0] * self.grid[1];
        let all = self.image(index)?.get(self.tokens.checked_sub(patches)? * self.width..)?;
        let mut mean = vec![0f32; self.width];
        for patch in all.chunks_exact(self.width.max(1)) {
            for (mean, value) in mean.iter_mut().zip(patch) {
                *mean += value / patches as f32;
            }
        }
        Some(mean)
    }

    /// Appends the features of a batch.
    fn append(&mut self, batch: FeatureMap) -> Result<()> {
        let [images, tokens, width] = batch.tokens.dims();
        (self.tokens, self.width, self.grid) = (tokens, width, batch.grid);
        self.images += images;
        self.values.extend(transfer::to_host::<f32, _, _>(batch.tokens)?);
        Ok(())
    }

    /// Serialises the features as a safetensors file with the tensors `features`, `[images, tokens, width]` f32, and
    /// `grid`, `[2]` u64.
    ///
    /// # Errors
    /// The number of values does not match the shape.
    pub fn to_safetensors(&self, metadata: HashMap<String, String>) -> Result<Vec<u8>> {
        let values: Vec<u8> = self.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let grid: Vec<u8> = self.grid.iter().flat_map(|side| (*side as u64).to_le_bytes()).collect();
        let invalid = |e: SafeTensorError| Error::failed(format!("serialising features: {e}"));
        let tensors = [
            ("features", TensorView::new(Dtype::F32, vec![self.images, self.tokens, self.width], &values)),
            ("grid", TensorView::new(Dtype::U64, vec![2], &grid)),
        ];
        let tensors = tensors.into_iter().map(|(name, view)| Ok((name, view?))).collect::<Result<Vec<_>, _>>();
        safetensors::serialize(tensors.map_err(invalid)?, Some(metadata)).map_err(invalid)
    }
}

impl Encoder {
    /// Loads the encoder with this name: the id of a card of the zoo, the path of a directory in Hugging Face layout or
    /// of a card, or the repository `owner/name[@revision]` of the hub if it is in the local cache. Nothing is
    /// downloaded.
    ///
    /// ```
    /// use burgess_encoders::{Device, Encoder, RgbImage};
    ///
    /// let encoder = Encoder::from_id("nano-sup", &Device::default())?;
    /// let features = encoder.encode(&[RgbImage::new(640, 480)], 1)?;
    /// assert_eq!((features.images, features.grid), (1, [4, 4]));
    /// # Ok::<(), burgess_encoders::Error>(())
    /// ```
    ///
    /// # Errors
    /// There is no such encoder, its weights are not on this machine, or they do not match the card.
    pub fn from_id(name: &str, device: &Device) -> Result<Self> {
        Self::load(EncoderCard::open(name)?, None, device)
    }

    /// Loads the encoder in a directory in Hugging Face layout: weights beside a `config.json` of transformers or timm,
    /// or an `open_clip_config.json`, or the folders of diffusers.
    ///
    /// # Errors
    /// The directory holds no encoder that can be read; see [`directory`](crate::directory).
    pub fn from_directory(directory: &Path, device: &Device) -> Result<Self> {
        Self::load(crate::directory::card(directory)?, None, device)
    }

    /// Builds an encoder around an existing network, for example one in training.
    pub fn new(card: EncoderCard, arch: Architecture, device: &Device) -> Self {
        Self { card, arch, device: device.clone() }
    }

    /// Sets the precision of the matrix products to that of the card; see [`Architecture::in_precision`].
    ///
    /// # Errors
    /// The architecture, the device or the processor does not compute in it.
    pub fn in_precision_of_card(self) -> Result<Self> {
        let Self { card, arch, device } = self;
        let arch = arch.in_precision(card.precision, &device).map_err(|e| e.context(card.id.clone()))?;
        Ok(Self { card, arch, device })
    }

    /// Loads an encoder. `weights` is a file or directory to use instead of the card's source.
    ///
    /// # Errors
    /// The weights are absent or damaged, or their keys or shapes do not match the card.
    pub fn load(card: EncoderCard, weights: Option<&Path>, device: &Device) -> Result<Self> {
        Ok(Self::load_reporting(card, weights, device)?.0)
    }

    /// Loads an encoder as [`Encoder::load`] does, and reports which tensors were loaded and which were ignored.
    pub fn load_reporting(card: EncoderCard, weights: Option<&Path>, device: &Device) -> Result<(Self, LoadReport)> {
        let step = format!("loading encoder {}", card.id);
        let load = || {
            let (network, file, prefix, note) = opened(&card, weights, device)?;
            let loaded = checkpoint::load(network, &file, Dialect::find(&card.source.dialect)?)?;
            Ok((loaded, prefix, note))
        };
        let ((arch, report), prefix, note) = load().map_err(|e: Error| e.context(step))?;
        let mut card = card;
        card.source.prefix = Some(prefix).filter(|prefix| !prefix.is_empty());
        card.notes.extend(note);
        Ok((Self::new(card, arch, device).in_precision_of_card()?, report))
    }

    /// Checks that the weights have the keys and shapes of the card; reads only headers and loads no tensor.
    ///
    /// # Errors
    /// As [`Encoder::load`], except for values that are not finite.
    pub fn check(card: &EncoderCard, weights: Option<&Path>) -> Result<()> {
        let check = || {
            let (network, file, ..) = opened(card, weights, &Device::flex())?;
            checkpoint::check(&network, &file, Dialect::find(&card.source.dialect)?)
        };
        check().map_err(|e: Error| e.context(format!("checking the weights of {}", card.id)))
    }

    /// Writes the weights with the tensor names of the card's dialect and prefix.
    ///
    /// # Errors
    /// The encoder computes in bf16 and so has rounded weights, or the file cannot be written.
    pub fn save(&self, precision: Precision, path: &Path) -> Result<()> {
        if !self.card.precision.is_f32() {
            let what = format!("{}: the weights of an encoder in {} are rounded", self.card.id, self.card.precision);
            return Err(Error::usage(what).hint("load the encoder in f32 to save it"));
        }
        let prefix = self.card.source.prefix.as_deref().unwrap_or_default();
        checkpoint::save(&self.arch, Dialect::find(&self.card.source.dialect)?, prefix, precision, path)
    }

    /// Features of prepared images `[batch, 3, size, size]` at the card's tap, on the card's grid, normalised as the
    /// card says; all are finite.
    ///
    /// # Errors
    /// The images have another size, or a feature is not finite.
    pub fn forward(&self, pixels: Tensor<4>) -> Result<FeatureMap> {
        self.forward_prepared(PreparedImages::of_one_size(pixels), &|n| format!("image {n} of the batch"))
    }

    /// Computes features as [`Encoder::forward`] does, for images of any size and for their tiles; `name` maps an index
    /// in the batch to the image's name for error messages. The features of an image that keeps its aspect ratio are
    /// resampled to the part of the card's grid that a padded square leaves to the image; the other tokens are zero.
    ///
    /// # Errors
    /// As [`Encoder::forward`].
    pub fn forward_prepared(&self, images: PreparedImages, name: &dyn Fn(usize) -> String) -> Result<FeatureMap> {
        let features = if self.has_own_grids() { self.common_grid(images)? } else { self.one_size(images)? };
        features.check_finite(&self.card.id, name)?;
        Ok(features)
    }

    /// Whether the features of an image have a grid that depends on the image, until they are resampled.
    pub fn has_own_grids(&self) -> bool {
        self.card.preprocess.native.is_some() || matches!(self.card.tiling, Some(Tiling::AnyRes { .. }))
    }

    /// Features of images of one size on the card's grid.
    fn one_size(&self, images: PreparedImages) -> Result<FeatureMap> {
        let pixels = images.groups.into_iter().next().ok_or_else(|| Error::failed("a batch without images"))?.pixels;
        let forward = |pixels| self.arch.forward(pixels, &self.card.tap);
        let features = match self.card.tiling {
            Some(Tiling::S2 { scales }) => multi_scale(&pixels, scales, self.card.preprocess.size, forward)?,
            Some(Tiling::AnyRes { .. }) | None => forward(pixels)?,
        };
        let features = match self.card.grid {
            Some(grid) => features.resample(grid)?,
            None => features,
        };
        Ok(self.normalised(features))
    }

    /// Normalises features as the card says.
    fn normalised(&self, features: FeatureMap) -> FeatureMap {
        match self.card.normalise {
            Some(norm) => features.normalised(norm),
            None => features,
        }
    }

    /// Features of images with grids of their own, resampled to the card's grid part by part.
    fn common_grid(&self, mut images: PreparedImages) -> Result<FeatureMap> {
        let grid = self.card.part_grid()?;
        let mut all = Vec::with_capacity(images.count);
        let sizes = std::mem::take(&mut images.sizes);
        for (index, parts) in self.own_grids(images)?.into_iter().enumerate() {
            let parts = parts.into_iter().map(|part| match sizes.get(index) {
                Some(size) => Ok(part.letterboxed(*size, grid)?.tokens),
                None => Ok(part.resample_antialiased(grid)?.tokens),
            });
            all.push(Tensor::cat(parts.collect::<Result<_>>()?, 1));
        }
        if all.is_empty() {
            return Err(Error::failed("a batch without images"));
        }
        Ok(FeatureMap { tokens: Tensor::cat(all, 0), grid: self.card.used_grid()? })
    }

    /// Features of each image on its own grid, `[1, tokens, width]`, in the order of the batch, at the card's tap: one
    /// part, or with the tiling `any-res` the whole image and its tiles without padding. Each part is normalised as the
    /// card says.
    ///
    /// # Errors
    /// The network cannot process the images.
    pub fn own_grids(&self, images: PreparedImages) -> Result<Vec<Vec<FeatureMap>>> {
        let mut found: Vec<Vec<FeatureMap>> = vec![Vec::new(); images.count];
        for PreparedGroup { indices, pixels } in images.groups {
            let map = self.arch.forward(pixels, &self.card.tap)?;
            if !images.tiles.is_empty() {
                let parts = any_res_parts(&map, &images.tiles).into_iter();
                return Ok(parts.map(|parts| parts.map(|part| self.normalised(part)).into()).collect());
            }
            for (at, index) in indices.into_iter().enumerate() {
                let tokens = map.tokens.clone().narrow(0, at, 1);
                if let Some(parts) = found.get_mut(index) {
                    parts.push(self.normalised(FeatureMap { tokens, grid: map.grid }));
                }
            }
        }
        Ok(found)
    }

    /// Features of each image on its own grid as from [`Encoder::own_grids`], in host memory.
    ///
    /// # Errors
    /// A feature is not finite: the error names the image.
    pub fn encode_own_grids(
        &self,
        images: PreparedImages,
        name: &dyn Fn(usize) -> String,
    ) -> Result<Vec<OwnGridFeatures>> {
        let images = self.own_grids(images)?.into_iter().enumerate();
        let encoded = images.map(|(index, parts)| {
            let mut own = OwnGridFeatures { values: Vec::new(), grids: Vec::new() };
            for part in parts {
                part.check_finite(&self.card.id, &|_| name(index))?;
                own.grids.push(part.grid);
                own.values.extend(transfer::to_host::<f32, _, _>(part.tokens)?);
            }
            Ok(own)
        });
        encoded.collect()
    }

    /// Prepares the images of one batch and computes their features. The features of an image do not depend on the
    /// other images. `name` maps an index in the batch to the image's name for error messages.
    ///
    /// # Errors
    /// A feature is not finite: the error names the image.
    pub fn encode_batch(&self, images: &[RgbImage], name: &dyn Fn(usize) -> String) -> Result<EncodedBatch> {
        self.encode_prepared(self.prepare(images), name)
    }

    /// Preprocesses a batch of images, cuts them into tiles if the card says so, and copies them to the encoder's
    /// device. Another thread can do this while the encoder computes the batch before.
    pub fn prepare(&self, images: &[RgbImage]) -> PreparedImages {
        self.card.prepare(images, &self.device)
    }

    /// As [`Encoder::encode_batch`], for images that [`Encoder::prepare`] prepared.
    ///
    /// # Errors
    /// As [`Encoder::encode_batch`].
    pub fn encode_prepared(&self, images: PreparedImages, name: &dyn Fn(usize) -> String) -> Result<EncodedBatch> {
        let start = Instant::now();
        // The check for finite values waits until the device has computed them.
        let features = self.forward_prepared(images, name)?;
        Ok(EncodedBatch { features, seconds: start.elapsed().as_secs_f64() })
    }

    /// Returns the features of `images` in host memory; computes `batch` images at a time.
    ///
    /// # Errors
    /// As [`Encoder::encode_batch`].
    pub fn encode(&self, images: &[RgbImage], batch: usize) -> Result<Features> {
        let mut all = self.no_features()?;
        for (n, chunk) in images.chunks(batch.max(1)).enumerate() {
            let first = n * batch.max(1);
            all.append(self.encode_batch(chunk, &|i| format!("image {}", first + i))?.features)?;
        }
        Ok(all)
    }

    /// Reads image files and returns their features in host memory.
    ///
    /// ```no_run
    /// use burgess_encoders::{Device, Encoder};
    ///
    /// let encoder = Encoder::from_id("facebook/dinov2-base", &Device::default())?;
    /// let features = encoder.encode_files(&["cat.png", "dog.jpg"])?;
    /// assert_eq!(features.values.len(), 2 * features.tokens * features.width);
    /// # Ok::<(), burgess_encoders::Error>(())
    /// ```
    ///
    /// # Errors
    /// A file is not an image that can be read, or an error of [`Encoder::encode_batch`]; both name the file.
    pub fn encode_files<P: AsRef<Path> + Sync>(&self, files: &[P]) -> Result<Features> {
        let mut all = self.no_features()?;
        let orientation = self.card.preprocess.orientation();
        for files in files.chunks(BATCH) {
            let images = files.par_iter().map(|file| preprocess::decode_oriented(file.as_ref(), orientation));
            let images: Vec<RgbImage> = images.collect::<Result<_>>()?;
            let name = |i: usize| files.get(i).map_or_else(String::new, |file| file.as_ref().display().to_string());
            all.append(self.encode_batch(&images, &name)?.features)?;
        }
        Ok(all)
    }

    /// Returns the features of zero images, with the shape of this encoder's features.
    fn no_features(&self) -> Result<Features> {
        let grid = self.card.used_grid()?;
        let width = self.card.width()?;
        let class = usize::from(self.card.tap.tokens == Tokens::PatchAndClass);
        Ok(Features { values: Vec::new(), images: 0, tokens: class + grid[0] * grid[1], width, grid })
    }

    /// The device on which the network computes.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

/// Opens the weights of a card: returns the network with placeholder weights, the checkpoint restricted to the
/// encoder's tensors, its prefix, and a note for the user that names the location, if the card does not state it.
fn opened(
    card: &EncoderCard,
    weights: Option<&Path>,
    device: &Device,
) -> Result<(Architecture, Checkpoint, String, Option<String>)> {
    let path = weights.map_or_else(|| weights_path(card), |w| Ok(w.to_path_buf()))?;
    let file = Checkpoint::open(&path)?;
    // Validated before the network is built, so that absurd sizes do not lead to huge allocations.
    card.architecture.validate()?;
    card.architecture.check_layers(file.keys().count())?;
    let (network, dialect) = (card.architecture.init(device)?, Dialect::find(&card.source.dialect)?);
    let needed = ExpectedTensors::new(&checkpoint::parameters(&network)?, dialect)?;
    let (place, note) = place(&needed, &file, card.source.prefix.as_deref(), weights.is_some())?;
    let prefix = place.prefix.clone();
    Ok((network, place.of(file)?, prefix, note))
}

/// Finds the encoder's tensors in `file`: under the card's `prefix`, or anywhere if the file is not the card's own
/// (`foreign`) or the card has no prefix. Also returns a note for the user that names the location, if the card does
/// not state it.
///
/// # Errors
/// The encoder matches in several places.
fn place(
    needed: &ExpectedTensors,
    file: &Checkpoint,
    prefix: Option<&str>,
    foreign: bool,
) -> Result<(CheckpointPart, Option<String>)> {
    let own = prefix.unwrap_or_default();
    if let Some(place) = needed.fitting_at(file, own) {
        return Ok((place, None));
    }
    if prefix.is_none() || foreign {
        if let Some((place, note)) = needed.find(file)? {
            let said = || format!("the weights are those under `{}` of {}", place.prefix, file.path().display());
            let note = note.or_else(|| (!place.prefix.is_empty()).then(said));
            return Ok((place, note));
        }
        // No place matches: missing tensors are reported for the place that has most of them.
        if let Some(near) = needed.parts(file).into_iter().next() {
            return Ok((near, None));
        }
    }
    Ok((CheckpointPart { prefix: own.into(), ..CheckpointPart::whole() }, None))
}
