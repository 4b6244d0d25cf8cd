//! Supervised class labels: a linear classifier on the image's summary, a yes/no question per class, since a
//! image of the nano world shows several things (binary cross entropy, as DeiT III, arXiv:2204.07118).

use super::late::patch_tokens;
use super::{Batch, DataShape, INIT, Learner, LearnerConfig, Loss, Moment, Targets, random_crops};
use crate::arch::{Architecture, ArchitectureConfig};
use crate::init::initialise;
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::log_sigmoid};
use serde::{Deserialize, Serialize};

/// The numbers of supervised pretraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SupervisedConfig {
    /// Area of the random crops. Default 0.7 to 1: smaller ones would cut off what the labels name.
    pub crop: [f64; 2],
    /// What the labels are asked of. Default the image's summary.
    pub pool: LabelPool,
}

/// What a classifier reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelPool {
    /// The image's summary: the class token, or the mean of the patches.
    #[default]
    Summary,
    /// Each patch, and of each class a soft maximum over the patches, `log mean exp`: a label belongs to some patch, not to
    /// the whole image (multiple instance learning; Pinheiro and Collobert 2015, arXiv:1411.6228).
    Patches,
}

impl Default for SupervisedConfig {
    fn default() -> Self {
        Self { crop: [0.7, 1.0], pool: LabelPool::Summary }
    }
}

/// An encoder learning to name what an image shows.
#[derive(Module, Debug)]
pub struct Supervised {
    encoder: Architecture,
    head: Linear,
    #[module(skip)]
    config: SupervisedConfig,
}

impl LearnerConfig for SupervisedConfig {
    type Learner = Supervised;
    const TARGETS: Targets = Targets::LABELS;

    fn init(&self, encoder: &ArchitectureConfig, data: &DataShape, device: &Device, seed: u64) -> Result<Supervised> {
        if data.classes == 0 {
            return Err(Error::usage("supervised pretraining needs at least one class"));
        }
        let supervised = Supervised {
            encoder: encoder.init(device)?,
            head: LinearConfig::new(encoder.pooled_width(), data.classes).init(device),
            config: self.clone(),
        };
        Ok(initialise(supervised, INIT, seed))
    }
}

impl Learner for Supervised {
    fn loss(&self, batch: &Batch, moment: &mut Moment) -> Result<Loss> {
        let labels = batch.labels()?.clone();
        let [count, _, size, _] = batch.pixels.dims();
        let pixels = random_crops(batch.pixels.clone(), size, self.config.crop, &mut moment.stream);
        let drop_path = self.encoder.draw_drop_path(count, &mut moment.stream, &pixels.device());
        let logits = match self.config.pool {
            LabelPool::Summary => self.head.forward(self.encoder.pooled_with_drop_path(pixels, &drop_path)?),
            LabelPool::Patches => soft_maximum(self.head.forward(patch_tokens(&self.encoder, pixels, &drop_path)?)),
        };
        if labels.dims() != logits.dims() {
            return Err(Error::failed(format!(
                "labels of shape {:?} do not fit {:?} images and classes",
                labels.dims(),
                logits.dims()
            )));
        }
        Ok(Loss::single(binary_cross_entropy(logits, labels)))
    }

    fn into_encoder(self) -> Architecture {
        self.encoder
    }
}

/// `log mean exp` over the patches of `[batch, patches, classes]`: `[batch, classes]`.
pub fn soft_maximum(logits: Tensor<3>) -> Tensor<2> {
    let [batch, _, classes] = logits.dims();
    // Shifted by the maximum, which the result does not depend on, so that no exponential overflows.
    let top = logits.clone().detach().max_dim(1);
    ((logits - top.clone()).exp().mean_dim(1).log() + top).reshape([batch, classes])
}

/// The binary cross entropy of `logits` and 0/1 `labels`, both `[batch, classes]`, summed over classes and averaged
/// over the batch. A single number.
pub fn binary_cross_entropy(logits: Tensor<2>, labels: Tensor<2>) -> Tensor<1> {
    let [batch, _] = logits.dims();
    // -y log σ(x) - (1 - y) log σ(-x), with log σ(x) = log σ(-x) + x.
    (log_sigmoid(logits.clone().neg()) + logits * labels).sum().mul_scalar(-1.0 / batch as f64)
}
