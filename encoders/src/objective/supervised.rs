//! Supervised pretraining: a linear multi-label classifier on the pooled output, trained by binary cross entropy as in
//! DeiT III (arXiv:2204.07118), because an image of the nano world shows several objects.

use super::late_interaction::patch_tokens;
use super::{DataShape, INIT, Learner, LearnerConfig, Loss, PretrainBatch, StepContext, Targets, random_crops};
use crate::arch::{Architecture, ArchitectureConfig};
use crate::init::initialise;
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::log_sigmoid};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of supervised pretraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct SupervisedConfig {
    /// Area of the random crops as fractions of the image, `[low, high]`. Default 0.7 to 1: smaller crops would remove
    /// labelled objects.
    pub crop: [f64; 2],
    /// The features that the classifier reads. Default: the pooled output.
    pub pool: LabelPooling,
}

/// The features that a classifier reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum LabelPooling {
    /// The pooled output: the class token, or the mean of the patches.
    #[default]
    #[serde(rename = "summary", alias = "pooled")]
    Pooled,
    /// Every patch; the logit of a class is `log mean exp` over the patches, a soft maximum, because an object covers
    /// only some patches (multiple instance learning; Pinheiro and Collobert 2015, arXiv:1411.6228).
    Patches,
}

impl Default for SupervisedConfig {
    fn default() -> Self {
        Self { crop: [0.7, 1.0], pool: LabelPooling::Pooled }
    }
}

/// An encoder with a linear classifier, trained by binary cross entropy.
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
            return Err(Error::usage("the data have 0 classes, supervised pretraining needs at least 1"));
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
    fn loss(&self, batch: &PretrainBatch, context: &mut StepContext) -> Result<Loss> {
        let labels = batch.labels()?.clone();
        let [count, _, size, _] = batch.pixels.dims();
        let pixels = random_crops(batch.pixels.clone(), size, self.config.crop, &mut context.stream);
        let drop_path = self.encoder.draw_drop_path(count, &mut context.stream, &pixels.device());
        let logits = match self.config.pool {
            LabelPooling::Pooled => self.head.forward(self.encoder.pooled_with_drop_path(pixels, &drop_path)?),
            LabelPooling::Patches => log_mean_exp(self.head.forward(patch_tokens(&self.encoder, pixels, &drop_path)?)),
        };
        if labels.dims() != logits.dims() {
            return Err(Error::failed(format!(
                "the labels have shape {:?}, expected {:?} (images, classes)",
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

/// Returns `log mean exp` over the patches of `[batch, patches, classes]`: `[batch, classes]`.
pub(super) fn log_mean_exp(logits: Tensor<3>) -> Tensor<2> {
    let [batch, _, classes] = logits.dims();
    // Subtracting the maximum does not change the result and prevents overflow of the exponential.
    let top = logits.clone().detach().max_dim(1);
    ((logits - top.clone()).exp().mean_dim(1).log() + top).reshape([batch, classes])
}

/// Returns the binary cross entropy of `logits` and 0/1 `labels`, both `[batch, classes]`, summed over classes and
/// averaged over the batch, `[1]`.
pub(super) fn binary_cross_entropy(logits: Tensor<2>, labels: Tensor<2>) -> Tensor<1> {
    let [batch, _] = logits.dims();
    // -y log σ(x) - (1 - y) log σ(-x), with log σ(x) = log σ(-x) + x.
    (log_sigmoid(logits.clone().neg()) + logits * labels).sum().mul_scalar(-1.0 / batch as f64)
}
