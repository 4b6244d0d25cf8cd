//! Pictures → patch features → bytes of a safetensors file: what the feature cache keeps and what
//! `burgess encode` writes.

use crate::arm::ArmEncoder;
use crate::arm_card::ArmCard;
use crate::oracle::{self, Truth};
use crate::{pictures, stop};
use burgess_base::digest::Digest;
use burgess_base::{Context, Error, Result};
use burgess_encoders::encoder::Encoder;
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::{Dtype, tensor::TensorView};
use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

/// Computes the features of pictures by their names.
pub enum Extractor {
    /// An encoder, which reads the pictures.
    Encoder(Box<Encoder>),
    /// The oracle, which looks the pictures up in the ground truth of their directory.
    Oracle(Truth),
}

impl Extractor {
    /// Loads the encoder of an arm on `device`, or the ground truth of the data in the directory `data`; `card` is its own.
    ///
    /// # Errors
    /// The weights do not fit, or the ground truth is another one than that of the card.
    pub fn open(encoder: &ArmEncoder, card: &ArmCard, data: &Path, device: &Device) -> Result<Self> {
        match card {
            ArmCard::Encoder(card) => Ok(Self::Encoder(Box::new(encoder.load(card.clone(), device)?))),
            ArmCard::Oracle(card) => Ok(Self::Oracle(Truth::read_as(card, data)?)),
        }
    }

    /// What it is called.
    pub fn id(&self) -> &str {
        match self {
            Self::Encoder(encoder) => &encoder.card.id,
            Self::Oracle(_) => oracle::NAME,
        }
    }

    /// As [`encode`]. The oracle has no throughput: its seconds are 0.
    ///
    /// # Errors
    /// As [`encode`]; a picture has no ground truth.
    pub fn encode<S: AsRef<str>>(
        &self,
        dir: &Path,
        pictures: &[S],
        batch: usize,
        advance: &dyn Fn(u64),
    ) -> Result<Encoded> {
        match self {
            Self::Encoder(encoder) => encode(encoder, dir, pictures, batch, advance),
            Self::Oracle(truth) => {
                stop::check()?;
                let values = truth.features(pictures)?;
                advance(pictures.len() as u64);
                Ok(Encoded {
                    bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
                    shape: [pictures.len(), truth.cells(), oracle::WIDTH],
                    grid: truth.grid(),
                    not_square: 0,
                    seconds: 0.0,
                })
            }
        }
    }
}

/// Features of some pictures on the host.
pub struct Encoded {
    /// f32, little endian, [pictures, tokens, width].
    bytes: Vec<u8>,
    /// Pictures, tokens, width.
    pub shape: [usize; 3],
    /// Rows and columns of the tokens.
    pub grid: [usize; 2],
    /// Pictures whose sides differ.
    pub not_square: usize,
    /// Time spent in the encoder, without reading pictures.
    pub seconds: f64,
}

/// Encodes pictures by their names relative to `dir`, `batch` at a time; `advance` hears of every batch.
///
/// # Errors
/// A picture cannot be read, or the encoder gives a feature that is not finite; a signal asked to stop.
pub fn encode<S: AsRef<str>>(
    encoder: &Encoder,
    dir: &Path,
    pictures: &[S],
    batch: usize,
    advance: &dyn Fn(u64),
) -> Result<Encoded> {
    let size = encoder.card.preprocess.size;
    let mut all =
        Encoded { bytes: Vec::new(), shape: [pictures.len(), 0, 0], grid: [0, 0], not_square: 0, seconds: 0.0 };
    for names in pictures.chunks(batch.max(1)) {
        stop::check()?;
        let mut pixels = Vec::with_capacity(names.len() * 3 * size * size);
        for picture in pictures::open_all(dir, names, encoder.card.preprocess.orientation()) {
            let picture = picture?;
            all.not_square += usize::from(picture.width() != picture.height());
            pixels.extend(encoder.card.preprocess.apply(&picture));
        }
        let start = Instant::now();
        let pixels = TensorData::new(pixels, [names.len(), 3, size, size]);
        let name = |n: usize| names.get(n).map_or_else(String::new, |name| pictures::shown(name.as_ref()));
        let map = encoder.forward_of(Tensor::<4>::from_data(pixels, encoder.device()), &name)?;
        let [_, tokens, width] = map.tokens.dims();
        let host: Vec<f32> = map
            .tokens
            .into_data()
            .try_into_vec_as()
            .map_err(|e| Error::failed(format!("features are not f32: {e}")))?;
        all.seconds += start.elapsed().as_secs_f64();
        (all.shape[1], all.shape[2], all.grid) = (tokens, width, map.grid);
        all.bytes.extend(host.iter().flat_map(|v| v.to_le_bytes()));
        advance(names.len() as u64);
    }
    Ok(all)
}

/// A digest of features and of everything that says what they are; `of` names what they belong to.
pub fn digest(of: &str, shape: [usize; 3], grid: [usize; 2], bytes: &[u8]) -> String {
    let mut digest = Digest::default();
    digest.update(format!("{of} {shape:?} {grid:?}").as_bytes());
    digest.update(bytes);
    digest.finish()
}

impl Encoded {
    /// See [`digest`].
    pub fn digest(&self, of: &str) -> String {
        digest(of, self.shape, self.grid, &self.bytes)
    }

    /// A safetensors file with `features` f32 and `grid` [2] u64.
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

/// The file with its metadata in the order of their keys: a map has another one in every process.
fn sorted(mut file: Vec<u8>) -> Result<Vec<u8>> {
    let length = file.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)) as usize;
    let header = file.get_mut(8..8 + length).ok_or_else(|| Error::failed("the header is cut off"))?;
    let mut fields: serde_json::Value = serde_json::from_slice(header)?;
    if let Some(metadata) = fields.get_mut("__metadata__").and_then(serde_json::Value::as_object_mut) {
        metadata.sort_keys();
    }
    let mut text = serde_json::to_vec(&fields)?;
    if text.len() <= length {
        // What is left over is padding, as before.
        text.resize(length, b' ');
        header.copy_from_slice(&text);
    }
    Ok(file)
}
