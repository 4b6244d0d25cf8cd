//! A pretrained encoder that is ready to use: card, weights and device.
//!
//! ```no_run
//! use burgess_encoders::{card::EncoderCard, encoder::Encoder, preprocess};
//! # fn f() -> burgess_base::Result<()> {
//! let encoder = Encoder::load(EncoderCard::find("nano-clip")?, None, &burn::tensor::Device::flex())?;
//! let features = encoder.encode(&[preprocess::decode("cat.jpg".as_ref())?], 16)?;
//! assert_eq!(features.values.len(), features.images * features.tokens * features.width);
//! # Ok(()) }
//! ```

use crate::arch::Architecture;
use crate::card::EncoderCard;
use crate::checkpoint::{self, Checkpoint, CheckpointPart, Dialect, ExpectedTensors, LoadReport, Precision};
use crate::features::FeatureMap;
use crate::resolve::weights_path;
use burgess_base::{Context, Error, Result};
use burn::tensor::{Device, Tensor};
use image::RgbImage;
use std::path::Path;

/// An encoder with its weights.
#[derive(Debug, Clone)]
pub struct Encoder {
    /// Description of the encoder.
    pub card: EncoderCard,
    /// The network with its weights.
    pub arch: Architecture,
    device: Device,
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

impl Encoder {
    /// Builds an encoder around an existing network, for example one in training.
    pub fn new(card: EncoderCard, arch: Architecture, device: &Device) -> Self {
        Self { card, arch, device: device.clone() }
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
        Ok((Self::new(card, arch, device), report))
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
    pub fn save(&self, precision: Precision, path: &Path) -> Result<()> {
        let prefix = self.card.source.prefix.as_deref().unwrap_or_default();
        checkpoint::save(&self.arch, Dialect::find(&self.card.source.dialect)?, prefix, precision, path)
    }

    /// Features of preprocessed images `[batch, 3, size, size]` at the card's tap, on the card's grid; all are finite.
    ///
    /// # Errors
    /// The images have another size, or a feature is not finite.
    pub fn forward(&self, pixels: Tensor<4>) -> Result<FeatureMap> {
        let several = pixels.dims()[0] > 1;
        self.forward_of(pixels, &|n| if several { format!("image {n} of the batch") } else { "the image".into() })
    }

    /// Features as from [`Encoder::forward`]; `name` maps an index in the batch to the image's name for error messages.
    ///
    /// # Errors
    /// As [`Encoder::forward`].
    pub fn forward_of(&self, pixels: Tensor<4>, name: &dyn Fn(usize) -> String) -> Result<FeatureMap> {
        let features = self.arch.forward(pixels, &self.card.tap)?;
        let features = match self.card.grid {
            Some(grid) => features.resample(grid)?,
            None => features,
        };
        let Some(bad) = features.first_not_finite()? else { return Ok(features) };
        let class = usize::from(features.prefix() > 0);
        let place = match bad.token.checked_sub(class) {
            None => "the class token".into(),
            Some(patch) => {
                format!("row {}, column {}", patch / features.grid[1].max(1), patch % features.grid[1].max(1))
            }
        };
        Err(Error::failed(format!(
            "{} makes features that are not finite of {}: {} at {place}, channel {}",
            self.card.id,
            name(bad.image),
            bad.value,
            bad.channel
        ))
        .hint("the weights are damaged or diverged in training, or the card's numbers are not theirs"))
    }

    /// Preprocesses `images` and returns their features in host memory; computes `batch` images at a time.
    /// The features of an image do not depend on the other images.
    pub fn encode(&self, images: &[RgbImage], batch: usize) -> Result<Features> {
        let grid = self.card.used_grid()?;
        let mut all = Features { values: Vec::new(), images: images.len(), tokens: 0, width: 0, grid };
        for chunk in images.chunks(batch.max(1)) {
            let map = self.forward(self.card.preprocess.pixels(chunk, &self.device))?;
            [_, all.tokens, all.width] = map.tokens.dims();
            all.grid = map.grid;
            let data = map.tokens.try_into_data().map_err(|e| Error::failed(e.to_string()));
            let values = data.and_then(|d| d.try_into_vec_as::<f32>().map_err(|e| Error::failed(e.to_string())));
            all.values.extend(values.with_context(|| format!("encoding images with {}", self.card.id))?);
        }
        Ok(all)
    }

    /// The device on which the network computes.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

/// Opens the weights of a card: returns the network with placeholder weights, the checkpoint restricted to the
/// encoder's tensors, its prefix, and a note for the user if the location was a choice.
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
/// (`foreign`) or the card has no prefix. Also returns a note for the user if the location was a choice.
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
