//! Images of requests: decoded and preprocessed when a request arrives, encoded together in the thread that computes.

use crate::features::ArmCard;
use crate::features::model_cards::{self, ModelEncoder};
use burgess_base::{Error, Result};
use burgess_encoders::encoder::Encoder;
use burgess_encoders::preprocess::{self, PreparedImages};
use burgess_probe::connector::{ImageSize, ImageTokens};
use burgess_probe::mllm::{ImageBatch, Mllm};
use burgess_serve::ImageBytes;
use burn::tensor::Device;
use std::sync::Arc;

/// The image of a request.
pub struct JobImage {
    /// The encoded file.
    pub file: Arc<ImageBytes>,
    /// The preprocessed image; `None` if its prefix was cached when the request arrived.
    pub prepared: Option<PreparedImage>,
}

/// An image that was preprocessed for each encoder of a model.
#[derive(Clone)]
pub struct PreparedImage {
    /// The image or its tiles for each encoder.
    prepared: Vec<PreparedImages>,
    /// Size of the decoded image.
    size: ImageSize,
}

/// Decodes an image and preprocesses it for these encoders, as `MultimodalModel::answer` does with a file.
///
/// # Errors
/// The bytes are not an image that can be decoded, or the model has the oracle, which reads no images.
pub fn prepare(file: &ImageBytes, encoders: &[ModelEncoder], device: &Device) -> Result<PreparedImage> {
    if encoders.iter().any(|e| matches!(e.card, ArmCard::Oracle(_))) {
        return Err(Error::usage(
            "this model is the oracle baseline, whose features are the ground truth of its study's \
                                 data: it reads no images",
        )
        .hint("ask it without an image, or ask another model"));
    }
    let orientation = model_cards::orientation(encoders.iter().map(|e| &e.card));
    let image =
        preprocess::decode_bytes_oriented(&file.bytes, orientation).map_err(|e| e.context("reading the image"))?;
    let (width, height) = image.dimensions();
    let size = ImageSize { width: width as usize, height: height as usize };
    let prepared = |e: &ModelEncoder| Ok(e.card.encoder()?.prepare(std::slice::from_ref(&image), device));
    Ok(PreparedImage { prepared: encoders.iter().map(prepared).collect::<Result<_>>()?, size })
}

/// The image encoders of a served model, which stay loaded.
pub enum ImageEncoders {
    /// The model holds its encoders itself, because they were trained with it.
    Trained,
    /// Frozen encoders, in the order in which the connector reads them.
    Frozen(Vec<Encoder>),
    /// The oracle, which reads no images.
    Oracle,
}

impl ImageEncoders {
    /// Loads the encoders of a model.
    ///
    /// # Errors
    /// The weights of an encoder are not on this machine.
    pub fn load(encoders: &[ModelEncoder], trained: bool, device: &Device) -> Result<Self> {
        if encoders.iter().any(|e| matches!(e.card, ArmCard::Oracle(_))) {
            return Ok(Self::Oracle);
        }
        if trained {
            return Ok(Self::Trained);
        }
        let load = |e: &ModelEncoder| e.encoder.load(e.card.encoder()?.clone(), device);
        encoders.iter().map(load).collect::<Result<_>>().map(Self::Frozen)
    }

    /// Encodes images together.
    ///
    /// # Errors
    /// A feature is not finite, or the device fails.
    pub fn encode(&self, model: &Mllm, images: &[&PreparedImage]) -> Result<ImageTokens> {
        let encoders = images.first().map_or(0, |image| image.prepared.len());
        let joined = (0..encoders).map(|e| {
            let prepared = images.iter().filter_map(|image| image.prepared.get(e).cloned());
            PreparedImages::join(prepared.collect())
        });
        let visual = match self {
            Self::Trained => {
                // Trained encoders read square images of one size.
                let pixels = joined.flat_map(|images| images.groups.into_iter().map(|group| group.pixels));
                ImageBatch::Pixels(pixels.collect())
            }
            Self::Frozen(loaded) => {
                let name = |n: usize| if images.len() == 1 { "the image".into() } else { format!("image {}", n + 1) };
                let encode = |(encoder, images): (&Encoder, PreparedImages)| encoder.encode_prepared(images, &name);
                let maps = loaded.iter().zip(joined).map(|pair| Ok(encode(pair)?.features));
                ImageBatch::FeatureMaps(maps.collect::<Result<_>>()?)
            }
            Self::Oracle => return Err(Error::failed("the oracle baseline reads no images")),
        };
        let sizes: Vec<ImageSize> = images.iter().map(|image| image.size).collect();
        model.encode_images_with(visual, Some(&sizes), None)
    }
}
