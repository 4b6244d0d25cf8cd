//! The loss of a batch: cross-entropy over the supervised tokens of images with text.

use super::{FeatureSource, PendingImages};
use crate::connector::{ImageSize, ImageTokens};
use crate::data::Example;
use crate::llm::kernel;
use crate::mllm::{Mllm, Sequence, Spliced};
use burgess_base::Result;
use burgess_base::stream::Stream;
use burgess_encoders::transfer;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// A training batch: embeddings and the supervised tokens that are to be predicted.
#[derive(Debug)]
pub struct TrainingBatch {
    /// Embeddings of text and image tokens, `[rows, t, llm width]`.
    pub spliced: Spliced,
    /// Indices into rows × positions of the positions that predict a supervised token, `[supervised tokens]`.
    predicting: Tensor<1, Int>,
    /// Ids of the supervised tokens, `[supervised tokens]`.
    targets: Tensor<1, Int>,
    /// Number of supervised tokens.
    pub supervised_tokens: usize,
}

impl TrainingBatch {
    /// Returns the number of positions in the batch, padding included.
    pub fn positions(&self) -> usize {
        let [b, t, _] = self.spliced.embeddings.dims();
        b * t
    }

    /// Computes the mean cross-entropy over the supervised tokens, `[1]`, in nats.
    ///
    /// # Errors
    /// When the sequences exceed the model's maximum length.
    pub fn loss(&self, model: &Mllm) -> Result<Tensor<1>> {
        Ok(self.loss_of(model, model.hidden(self.spliced.clone())?))
    }

    /// Computes the loss from the output of the decoder, `[rows, t, llm width]`. The output head is applied only to
    /// positions that predict a supervised token.
    pub(super) fn loss_of(&self, model: &Mllm, hidden: Tensor<3>) -> Tensor<1> {
        let [b, t, d] = hidden.dims();
        let hidden = hidden.reshape([b * t, d]).select(0, self.predicting.clone());
        kernel::cross_entropy(model.llm.logits(hidden), self.targets.clone())
    }
}

/// Encodes the images and embeds the text of a batch; `None` if it has no supervised token. Examples longer than
/// `max_length` positions are truncated. With `draws`, drop path is applied in the encoders.
///
/// # Errors
/// When images and text do not match, a feature cannot be read, or an image would be truncated.
pub fn read_batch(
    model: &Mllm,
    examples: &[&Example],
    features: &dyn FeatureSource,
    max_length: Option<usize>,
    draws: Option<&mut Stream>,
    device: &Device,
) -> Result<Option<TrainingBatch>> {
    let images = BatchImages::prepare(examples, features, device)?;
    build_batch(model, examples, images, max_length, draws, device)
}

/// The images of a batch, which may be prepared on another thread, before the weights of the step are known.
pub(super) struct BatchImages<'a> {
    /// The images and their sizes; `None` for a batch of text.
    images: Option<(PendingImages<'a>, Option<Vec<ImageSize>>)>,
}

impl<'a> BatchImages<'a> {
    /// Reads the images of these examples and copies them to the device.
    ///
    /// # Errors
    /// When a feature or an image cannot be read.
    pub fn prepare(examples: &[&Example], features: &'a dyn FeatureSource, device: &Device) -> Result<Self> {
        let images: Vec<usize> = examples.iter().filter_map(|e| e.image).collect();
        if images.is_empty() {
            return Ok(Self { images: None });
        }
        let sizes = features.sizes(&images)?;
        Ok(Self { images: Some((features.prepare(&images, device)?, sizes)) })
    }
}

/// As [`read_batch`], with the images of the examples prepared.
pub(super) fn build_batch(
    model: &Mllm,
    examples: &[&Example],
    images: BatchImages<'_>,
    max_length: Option<usize>,
    draws: Option<&mut Stream>,
    device: &Device,
) -> Result<Option<TrainingBatch>> {
    let image_tokens = match images.images {
        None => None,
        Some((images, sizes)) => Some(model.encode_images_with(images()?, sizes.as_deref(), draws)?),
    };
    let n = image_tokens.as_ref().map_or(0, ImageTokens::tokens_per_image);
    let cut: Vec<Example> = match max_length {
        Some(most) => examples.iter().map(|e| e.truncated(most, n)).collect::<Result<_>>()?,
        None => Vec::new(),
    };
    let cut: Vec<&Example> = cut.iter().collect();
    let examples = if max_length.is_some() { &cut } else { examples };
    // Nothing is predicted from the last token, so it is left out.
    let rows: Vec<Sequence> = examples
        .iter()
        .map(|e| Sequence {
            ids: e.ids.get(..e.ids.len().saturating_sub(1).max(1)).unwrap_or_default(),
            image_at: e.image_at,
        })
        .collect();
    // The token after an image is predicted from the image's last position that is not padding.
    let last = |image_tokens: &ImageTokens, image| image_tokens.visible_tokens(image).last().copied().unwrap_or(0);
    let last: Vec<usize> = image_tokens.iter().flat_map(|s| (0..s.images()).map(|p| last(s, p))).collect();
    let mut last = last.into_iter();
    let last: Vec<usize> = rows.iter().map(|r| r.image_at.and_then(|_| last.next()).unwrap_or(0)).collect();
    let spliced = model.splice(&rows, image_tokens, device)?;
    let [_, t, _] = spliced.embeddings.dims();
    let (mut positions, mut targets) = (Vec::new(), Vec::new());
    for (r, (example, (row, last))) in examples.iter().zip(rows.iter().zip(last)).enumerate() {
        for (i, (&id, _)) in example
            .ids
            .iter()
            .zip(&example.loss_mask)
            .enumerate()
            .filter(|(_, (_, l))| **l)
            .skip_while(|(i, _)| *i == 0)
        {
            // A token is predicted from the position before it.
            let beyond = if row.image_at == Some(i - 1) { last } else { 0 };
            positions.push((r * t + row.position(i - 1, n) + beyond) as i32);
            targets.push(id as i32);
        }
    }
    if targets.is_empty() {
        return Ok(None);
    }
    let supervised_tokens = targets.len();
    let predicting = transfer::to_device::<1, Int>(TensorData::new(positions, [supervised_tokens]), device);
    let targets = transfer::to_device::<1, Int>(TensorData::new(targets, [supervised_tokens]), device);
    Ok(Some(TrainingBatch { spliced, predicting, targets, supervised_tokens }))
}
