//! A pretrained encoder, ready to use: card + weights + device.
//!
//! ```no_run
//! use burgess_encoders::{card::EncoderCard, encoder::Encoder, preprocess};
//! # fn f() -> burgess_base::Result<()> {
//! let encoder = Encoder::load(EncoderCard::find("nano-clip")?, None, &burn::tensor::Device::flex())?;
//! let features = encoder.encode(&[preprocess::decode("cat.jpg".as_ref())?], 16)?;
//! assert_eq!(features.values.len(), features.pictures * features.tokens * features.width);
//! # Ok(()) }
//! ```

use crate::arch::Architecture;
use crate::card::{EncoderCard, Location};
use crate::checkpoint::{self, Checkpoint, Dialect, LoadReport, Needed, Place, Precision};
use crate::features::FeatureMap;
use crate::hub::{self, Repository};
use burgess_base::{Context, Error, Result};
use burn::tensor::{Device, Tensor};
use image::RgbImage;
use std::path::{Path, PathBuf};

/// An encoder with its weights.
#[derive(Debug, Clone)]
pub struct Encoder {
    /// What it is.
    pub card: EncoderCard,
    /// The network.
    pub arch: Architecture,
    device: Device,
}

/// Features on the host: `[pictures, tokens, width]`, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Features {
    /// All numbers.
    pub values: Vec<f32>,
    /// Number of pictures.
    pub pictures: usize,
    /// Tokens per picture: the class token if the tap keeps it, then the grid row by row.
    pub tokens: usize,
    /// Channels.
    pub width: usize,
    /// `[rows, columns]` of the patch tokens.
    pub grid: [usize; 2],
}

impl Encoder {
    /// An encoder around a network at hand, for one that is being trained.
    pub fn new(card: EncoderCard, arch: Architecture, device: &Device) -> Self {
        Self { card, arch, device: device.clone() }
    }

    /// Loads an encoder. `weights` is a file or directory to use instead of the card's own source.
    ///
    /// # Errors
    /// The weights are not on this machine, damaged, or do not fit the card in any key.
    pub fn load(card: EncoderCard, weights: Option<&Path>, device: &Device) -> Result<Self> {
        Ok(Self::load_reporting(card, weights, device)?.0)
    }

    /// As [`Encoder::load`], with the report of what was filled and what was ignored.
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

    /// Checks without loading them that the weights have the keys and shapes of the card: only headers are read.
    ///
    /// # Errors
    /// As [`Encoder::load`], but for numbers that are not finite.
    pub fn check(card: &EncoderCard, weights: Option<&Path>) -> Result<()> {
        let check = || {
            let (network, file, ..) = opened(card, weights, &Device::flex())?;
            checkpoint::check(&network, &file, Dialect::find(&card.source.dialect)?)
        };
        check().map_err(|e: Error| e.context(format!("checking the weights of {}", card.id)))
    }

    /// Writes the weights under the card's upstream names.
    pub fn save(&self, precision: Precision, path: &Path) -> Result<()> {
        let prefix = self.card.source.prefix.as_deref().unwrap_or_default();
        checkpoint::save(&self.arch, Dialect::find(&self.card.source.dialect)?, prefix, precision, path)
    }

    /// Features at the card's tap of prepared pictures `[batch, 3, size, size]`, on the card's grid; all of them are
    /// finite.
    ///
    /// # Errors
    /// The pictures have another size; a feature is not finite.
    pub fn forward(&self, pixels: Tensor<4>) -> Result<FeatureMap> {
        let several = pixels.dims()[0] > 1;
        self.forward_of(pixels, &|n| if several { format!("picture {n} of the batch") } else { "the picture".into() })
    }

    /// As [`Encoder::forward`]; `name` tells an error what the picture of a number in the batch is called.
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
            name(bad.picture),
            bad.value,
            bad.channel
        ))
        .hint("the weights are damaged or diverged in training, or the card's numbers are not theirs"))
    }

    /// Prepares `pictures` and returns their features on the host, `batch` pictures at a time.
    /// One picture's features do not depend on the others'.
    pub fn encode(&self, pictures: &[RgbImage], batch: usize) -> Result<Features> {
        let grid = self.card.used_grid()?;
        let mut all = Features { values: Vec::new(), pictures: pictures.len(), tokens: 0, width: 0, grid };
        for chunk in pictures.chunks(batch.max(1)) {
            let map = self.forward(self.card.preprocess.pixels(chunk, &self.device))?;
            [_, all.tokens, all.width] = map.tokens.dims();
            all.grid = map.grid;
            let data = map.tokens.try_into_data().map_err(|e| Error::failed(e.to_string()));
            let values = data.and_then(|d| d.try_into_vec_as::<f32>().map_err(|e| Error::failed(e.to_string())));
            all.values.extend(values.with_context(|| format!("encoding pictures with {}", self.card.id))?);
        }
        Ok(all)
    }

    /// Where the network computes.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

/// The network of a card without its weights, these weights at the place where they fit, its prefix, and what has to be
/// said of the choice.
fn opened(
    card: &EncoderCard,
    weights: Option<&Path>,
    device: &Device,
) -> Result<(Architecture, Checkpoint, String, Option<String>)> {
    let path = weights.map_or_else(|| weights_path(card), |w| Ok(w.to_path_buf()))?;
    let file = Checkpoint::open(&path)?;
    // Before the network is made, so that no absurd number reaches it.
    card.architecture.validate()?;
    card.architecture.check_layers(file.keys().count())?;
    let (network, dialect) = (card.architecture.init(device)?, Dialect::find(&card.source.dialect)?);
    let needed = Needed::new(&checkpoint::parameters(&network)?, dialect)?;
    let (place, note) = place(&needed, &file, card.source.prefix.as_deref(), weights.is_some())?;
    let prefix = place.prefix.clone();
    Ok((network, place.of(file)?, prefix, note))
}

/// Where in `file` the encoder is: under the card's `prefix`, or, in a file that is not the card's own (`foreign`) or
/// where the card has no prefix, wherever everything fits. What has to be said of the choice comes with it.
///
/// # Errors
/// It fits in several places.
fn place(needed: &Needed, file: &Checkpoint, prefix: Option<&str>, foreign: bool) -> Result<(Place, Option<String>)> {
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
        // Nothing fits: what is missing is told of the place that has most of it.
        if let Some(near) = needed.places(file).into_iter().next() {
            return Ok((near, None));
        }
    }
    Ok((Place { prefix: own.into(), ..Place::whole() }, None))
}

/// The file or directory on this machine that holds a card's weights.
///
/// Shipped weights are looked for in `$BURGESS_ZOO/weights/`, beside the executable in
/// `zoo/weights/`, in `../share/burgess/zoo/weights/` from there, and in the source tree this was
/// built from; if `BURGESS_ZOO` is set, only there. Published weights are where `burgess fetch` and other programs put
/// them, see [`hub`].
///
/// # Errors
/// They are not on this machine.
pub fn weights_path(card: &EncoderCard) -> Result<PathBuf> {
    match &card.source.location {
        Location::Shipped { file } => {
            let tried: Vec<PathBuf> = zoo_dirs().iter().map(|dir| dir.join("weights").join(file)).collect();
            tried.iter().find(|p| p.is_file()).cloned().ok_or_else(|| {
                let list = tried.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
                Error::failed(format!("the weights of {} are not on this machine; looked for {list}", card.id)).hint(
                    format!(
                        "set BURGESS_ZOO to the `encoders/zoo` folder of a checkout, or make them with `burgess pretrain {}`",
                        card.id.replacen('-', "/", 1)
                    ),
                )
            })
        }
        Location::Directory(path) if path.is_dir() => Ok(path.clone()),
        Location::Directory(path) => {
            Err(Error::failed(format!("the weights of {} should be in {}, which is absent", card.id, path.display()))
                .hint("correct `directory` in the card's [source], or name the weights with --weights"))
        }
        Location::Url(url) => hub::file_of_url(url).map_err(|e| not_fetched(card, &e)),
        Location::Hub { repository, file, revision } => Repository::new(repository, revision.as_deref())
            .and_then(|r| r.weights(file.as_deref()))
            .map_err(|e| not_fetched(card, &e)),
    }
}

/// The card's id is what the user knows, not the repository that it names.
fn not_fetched(card: &EncoderCard, why: &Error) -> Error {
    Error::failed(format!("the weights of {} are not on this machine: {why}", card.id))
        .hint(format!("burgess fetch {}, or name a file or directory with --weights", card.id))
}

/// The folders that may hold `weights/` of the zoo, in the order in which they are tried.
pub fn zoo_dirs() -> Vec<PathBuf> {
    if let Some(dir) = std::env::var_os("BURGESS_ZOO").filter(|d| !d.is_empty()) {
        return vec![dir.into()];
    }
    let mut dirs = Vec::new();
    if let Some(dir) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
        dirs.push(dir.join("zoo"));
        if let Some(parent) = dir.parent() {
            dirs.push(parent.join("share/burgess/zoo"));
        }
    }
    dirs.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("zoo"));
    dirs
}

/// Whether a card's weights are on this machine.
pub fn is_available(card: &EncoderCard) -> bool {
    weights_path(card).is_ok()
}

/// Digest of the weights that [`Encoder::load`] would use with the same arguments.
pub fn weights_digest(card: &EncoderCard, weights: Option<&Path>) -> Result<String> {
    let path = weights.map_or_else(|| weights_path(card), |w| Ok(w.to_path_buf()))?;
    Checkpoint::open(&path)?.digest()
}
