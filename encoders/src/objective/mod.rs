//! Pretraining objectives, one file per objective, and what they share: the batch they read, the loss they
//! return, and the dispatch by the name in a recipe.
//!
//! An objective is a configuration (`ClipConfig`), a [`Learner`] that holds the encoder and the heads its loss
//! needs (`Clip`), and the loss as a plain function of tensors that a test can compute by hand.

pub mod clip;
mod crop;
pub mod dinov2;
pub mod mae;
pub mod siglip;
pub mod supervised;
pub mod text;

pub use crop::random_crops;

use crate::arch::{Architecture, ArchitectureConfig};
use burgess_base::stream::Stream;
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

/// What a pretraining step reads. Objectives take what they need; asking for something absent is an error.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Normalised pictures, `[batch, 3, height, width]`.
    pub pixels: Tensor<4>,
    /// A caption per picture.
    pub texts: Option<Texts>,
    /// Which classes a picture shows, `[batch, classes]`, 0 or 1.
    pub labels: Option<Tensor<2>>,
}

/// Tokenised captions, padded to one length.
#[derive(Debug, Clone)]
pub struct Texts {
    /// Token ids, `[batch, length]`; anything may stand after the end of a text.
    pub ids: Tensor<2, Int>,
    /// Tokens per text with its end-of-text token, `[batch]`, each from 1 to `length`.
    pub lengths: Tensor<1, Int>,
}

impl Batch {
    fn texts(&self) -> Result<&Texts> {
        self.texts.as_ref().ok_or_else(|| missing("captions"))
    }

    fn labels(&self) -> Result<&Tensor<2>> {
        self.labels.as_ref().ok_or_else(|| missing("labels"))
    }
}

fn missing(what: &str) -> Error {
    Error::failed(format!("this objective needs {what}, but the batch has none"))
        .hint("give the batch source what the objective on the card asks for")
}

/// Sizes of the data that shape the heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataShape {
    /// Size of the tokenizer's vocabulary.
    pub vocab: usize,
    /// Longest caption, in tokens.
    pub context: usize,
    /// Number of classes of the labels.
    pub classes: usize,
}

/// Where in the training a loss is computed, and the stream its draws come from.
#[derive(Debug)]
pub struct Moment {
    /// 0 for the first step.
    pub step: usize,
    /// Steps in the whole training.
    pub steps: usize,
    /// The draws of this step alone.
    pub stream: Stream,
}

impl Moment {
    /// From 0 at the first step to 1 at the last.
    pub fn progress(&self) -> f64 {
        self.step as f64 / (self.steps.saturating_sub(1)).max(1) as f64
    }
}

/// A loss: what is minimised, and its named parts for the record.
#[derive(Debug)]
pub struct Loss {
    /// A single number.
    pub total: Tensor<1>,
    /// Single numbers each.
    pub parts: Vec<(&'static str, Tensor<1>)>,
}

impl Loss {
    fn single(total: Tensor<1>) -> Self {
        Self { total, parts: Vec::new() }
    }
}

/// An encoder under training, with the heads its objective needs.
pub trait Learner: Module {
    /// The loss of one batch; all draws come from the moment's stream.
    fn loss(&self, batch: &Batch, moment: &mut Moment) -> Result<Loss>;

    /// What changes after each optimiser step besides gradient descent.
    #[must_use]
    fn after_step(self, _moment: &Moment) -> Self {
        self
    }

    /// The trained encoder, without the heads.
    fn into_encoder(self) -> Architecture;
}

/// How a learner is made from an objective's numbers.
pub trait LearnerConfig {
    /// What it makes.
    type Learner: Learner;

    /// A learner around a new encoder, initialised from streams of `seed` (see [`crate::init`]). `device` should
    /// differentiate ([`Device::autodiff`]).
    fn init(&self, encoder: &ArchitectureConfig, data: &DataShape, device: &Device, seed: u64)
    -> Result<Self::Learner>;
}

/// The name of the streams that initial weights come from.
const INIT: &str = "pretrain/init";

/// An objective by its name in a recipe: `objective = "clip"`, with its own numbers beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "objective")]
pub enum Objective {
    /// Softmax contrastive, pictures and captions.
    #[serde(rename = "clip")]
    Clip(clip::ClipConfig),
    /// Sigmoid contrastive, pictures and captions.
    #[serde(rename = "siglip")]
    SigLip(siglip::SigLipConfig),
    /// Self-distillation with masked patch prediction, pictures only.
    #[serde(rename = "dinov2")]
    DinoV2(dinov2::DinoV2Config),
    /// Masked autoencoding, pictures only.
    #[serde(rename = "mae")]
    Mae(mae::MaeConfig),
    /// Class labels.
    #[serde(rename = "supervised")]
    Supervised(supervised::SupervisedConfig),
}

/// Something to do with the learner of whichever objective a recipe names.
pub trait WithLearner {
    /// What comes out.
    type Output;
    /// Called once, with the learner's own type.
    fn call<L: Learner>(self, learner: L) -> Result<Self::Output>;
}

impl Objective {
    /// Makes the learner of this objective and hands it to `then`.
    pub fn with_learner<W: WithLearner>(
        &self,
        encoder: &ArchitectureConfig,
        data: &DataShape,
        device: &Device,
        seed: u64,
        then: W,
    ) -> Result<W::Output> {
        match self {
            Self::Clip(config) => then.call(config.init(encoder, data, device, seed)?),
            Self::SigLip(config) => then.call(config.init(encoder, data, device, seed)?),
            Self::DinoV2(config) => then.call(config.init(encoder, data, device, seed)?),
            Self::Mae(config) => then.call(config.init(encoder, data, device, seed)?),
            Self::Supervised(config) => then.call(config.init(encoder, data, device, seed)?),
        }
    }
}

/// The vision transformer of an architecture, for objectives that work on its tokens.
fn vit_config<'a>(encoder: &'a ArchitectureConfig, objective: &str) -> Result<&'a crate::arch::VitConfig> {
    match encoder {
        ArchitectureConfig::Vit(config) => {
            config.validate()?;
            if config.relative_positions || config.rotary.is_some() {
                return Err(Error::usage(format!("the objective {objective} needs absolute positions only"))
                    .hint("it drops patches or cuts crops of other sizes: leave out rotary and relative_positions"));
            }
            Ok(config)
        }
        ArchitectureConfig::ConvNext(_)
        | ArchitectureConfig::ResNet(_)
        | ArchitectureConfig::Sam(_)
        | ArchitectureConfig::StableDiffusion(_) => {
            Err(Error::usage(format!("the objective {objective} works on the tokens of a vision transformer"))
                .hint("give the card architecture = \"vit\", or another objective"))
        }
    }
}

/// Rows of length one: `x / ‖x‖`, safe for a row of zeros.
fn normalise(x: Tensor<2>) -> Tensor<2> {
    let norm = x.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
    x / norm
}

#[cfg(test)]
mod tests;
