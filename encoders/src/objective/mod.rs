//! Pretraining objectives, one file per objective, and the types they share: the batch, the loss, and the dispatch by
//! the name in a recipe.
//!
//! An objective consists of a configuration (`ClipConfig`), a [`Learner`] that holds the encoder and the heads of its
//! loss (`Clip`), and the loss as a function of tensors that is tested against PyTorch. To add one, write a file here
//! and add a line to the table at [`Objective`].

pub mod clip;
mod crop;
pub mod denoise;
pub mod depth;
pub mod dinov2;
mod ema;
pub mod ijepa;
mod jitter;
mod late_interaction;
pub mod mae;
pub mod mocov3;
pub mod segment;
pub mod siglip;
pub mod supervised;
pub mod text;

use crop::{RandomCrops, random_crops};

use crate::arch::{Architecture, ArchitectureConfig, NetworkConfig};
use burgess_base::stream::Stream;
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

/// The data of one pretraining step. An objective reads the fields that it needs; a missing one is an error.
#[derive(Debug, Clone)]
pub struct PretrainBatch {
    /// Normalised images, `[batch, 3, height, width]`.
    pub pixels: Tensor<4>,
    /// One caption per image.
    pub texts: Option<TokenizedCaptions>,
    /// Multi-hot class labels, `[batch, classes]`: 1 if the image shows the class, else 0.
    pub labels: Option<Tensor<2>>,
    /// Instance index of each pixel, `[batch, height, width]`: 0 for the background, instances start at 1.
    pub instances: Option<Tensor<3, Int>>,
    /// Inverse depth of each pixel, `[batch, height, width]`: larger is nearer; scale and offset may differ between
    /// images.
    pub inverse_depth: Option<Tensor<3>>,
}

/// The fields of a [`PretrainBatch`] that an objective reads besides the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Targets {
    /// Whether the objective reads `PretrainBatch::texts`.
    pub texts: bool,
    /// Whether the objective reads `PretrainBatch::labels`.
    pub labels: bool,
    /// Whether the objective reads `PretrainBatch::instances`.
    pub instances: bool,
    /// Whether the objective reads `PretrainBatch::inverse_depth`.
    pub inverse_depth: bool,
}

impl Targets {
    /// The objective reads only the pixels.
    pub const NONE: Self = Self { texts: false, labels: false, instances: false, inverse_depth: false };
    /// The objective reads captions.
    pub const TEXTS: Self = Self { texts: true, ..Self::NONE };
    /// The objective reads class labels.
    pub const LABELS: Self = Self { labels: true, ..Self::NONE };
    /// The objective reads instance maps.
    pub const INSTANCES: Self = Self { instances: true, ..Self::NONE };
    /// The objective reads inverse depth maps.
    pub const INVERSE_DEPTH: Self = Self { inverse_depth: true, ..Self::NONE };
}

/// Tokenised captions, padded to one length.
#[derive(Debug, Clone)]
pub struct TokenizedCaptions {
    /// Token ids, `[batch, length]`; ids after the end-of-text token are ignored.
    pub ids: Tensor<2, Int>,
    /// Number of tokens per caption including the end-of-text token, `[batch]`, each from 1 to `length`.
    pub lengths: Tensor<1, Int>,
}

impl PretrainBatch {
    fn texts(&self) -> Result<&TokenizedCaptions> {
        self.texts.as_ref().ok_or_else(|| missing("captions"))
    }

    fn labels(&self) -> Result<&Tensor<2>> {
        self.labels.as_ref().ok_or_else(|| missing("labels"))
    }

    fn instances(&self) -> Result<&Tensor<3, Int>> {
        let maps = self.instances.as_ref().ok_or_else(|| missing("instance maps"))?;
        self.check_map("instance", maps.dims())?;
        Ok(maps)
    }

    fn inverse_depth(&self) -> Result<&Tensor<3>> {
        let maps = self.inverse_depth.as_ref().ok_or_else(|| missing("inverse depth maps"))?;
        self.check_map("inverse depth", maps.dims())?;
        Ok(maps)
    }

    /// Checks that a map has one value per pixel.
    fn check_map(&self, what: &str, found: [usize; 3]) -> Result<()> {
        let [batch, _, height, width] = self.pixels.dims();
        if found == [batch, height, width] {
            return Ok(());
        }
        Err(Error::failed(format!("the {what} maps have shape {found:?}, expected {:?}", [batch, height, width]))
            .hint("make the batch source return one value per pixel"))
    }
}

fn missing(what: &str) -> Error {
    Error::failed(format!("the objective needs {what}, but the batch has none"))
        .hint("make the batch source return what `Objective::targets` lists, or choose another objective")
}

/// Sizes of the training data, which determine the shapes of the heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataShape {
    /// Size of the tokenizer's vocabulary.
    pub vocab: usize,
    /// Maximum length of a caption in tokens.
    pub context: usize,
    /// Number of classes of the labels.
    pub classes: usize,
}

/// The position in the training at which a loss is computed, and the random stream of this step.
#[derive(Debug)]
pub struct StepContext {
    /// Index of the step; the first step is 0.
    pub step: usize,
    /// Number of steps of the whole training.
    pub steps: usize,
    /// Random stream of this step only.
    pub stream: Stream,
}

impl StepContext {
    /// Returns the progress of the training: 0 at the first step, 1 at the last.
    pub fn progress(&self) -> f64 {
        self.step as f64 / (self.steps.saturating_sub(1)).max(1) as f64
    }
}

/// The loss that is minimised, and its named components for the log.
#[derive(Debug)]
pub struct Loss {
    /// The loss that is minimised, `[1]`.
    pub total: Tensor<1>,
    /// Components of the loss and other metrics by name, each `[1]`.
    pub parts: Vec<(&'static str, Tensor<1>)>,
}

impl Loss {
    fn single(total: Tensor<1>) -> Self {
        Self { total, parts: Vec::new() }
    }
}

/// An encoder in training, with the heads that its objective needs.
pub trait Learner: Module {
    /// Computes the loss of one batch; all random numbers come from the stream of `context`.
    fn loss(&self, batch: &PretrainBatch, context: &mut StepContext) -> Result<Loss>;

    /// Updates the learner after each optimiser step, such as the moving average of a teacher. Default: no change.
    #[must_use]
    fn after_step(self, _context: &StepContext) -> Self {
        self
    }

    /// Returns the trained encoder without the heads.
    fn into_encoder(self) -> Architecture;
}

/// The hyper-parameters of an objective, from which its [`Learner`] is built.
pub trait LearnerConfig {
    /// The learner of this objective.
    type Learner: Learner;

    /// The fields of the batch that the objective reads besides the pixels.
    const TARGETS: Targets;

    /// Builds a learner around a new encoder, initialised from streams of `seed` (see [`crate::init`]). `device` should
    /// support gradients ([`Device::autodiff`]).
    ///
    /// # Errors
    /// The hyper-parameters are invalid, or the encoder's architecture does not fit the objective.
    fn init(&self, encoder: &ArchitectureConfig, data: &DataShape, device: &Device, seed: u64)
    -> Result<Self::Learner>;
}

/// Name of the random streams of initial weights.
const INIT: &str = "pretrain/init";

/// A generic function that [`Objective::with_learner`] calls with the learner of the objective that a recipe names.
pub trait LearnerVisitor {
    /// The result of the function.
    type Output;
    /// Receives the learner by its concrete type; called once.
    fn call<L: Learner>(self, learner: L) -> Result<Self::Output>;
}

/// Defines [`Objective`] and its dispatch from one table of name, variant and configuration.
macro_rules! objectives {
    ($($(#[$doc:meta])* $name:literal => $variant:ident($config:ty),)+) => {
/// A pretraining objective with its hyper-parameters; a recipe selects it by name: `objective = "clip"`.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(tag = "objective")]
        pub enum Objective {
            $($(#[$doc])* #[serde(rename = $name)] $variant($config),)+
        }

        impl Objective {
/// The names of all objectives, as in recipes.
            pub const NAMES: &[&str] = &[$($name),+];

/// Returns the fields of the batch that this objective reads besides the pixels.
            pub fn targets(&self) -> Targets {
                match self {
                    $(Self::$variant(_) => <$config as LearnerConfig>::TARGETS,)+
                }
            }

/// Builds the learner of this objective and calls `then` with it.
            ///
            /// # Errors
            /// The learner cannot be built ([`LearnerConfig::init`]), or an error of `then`.
            pub fn with_learner<W: LearnerVisitor>(
                &self,
                encoder: &ArchitectureConfig,
                data: &DataShape,
                device: &Device,
                seed: u64,
                then: W,
            ) -> Result<W::Output> {
                match self {
                    $(Self::$variant(config) => then.call(config.init(encoder, data, device, seed)?),)+
                }
            }
        }
    };
}

objectives! {
/// Contrastive learning with a softmax, from images and captions.
    "clip" => Clip(clip::ClipConfig),
/// Contrastive learning with sigmoids, from images and captions.
    "siglip" => SigLip(siglip::SigLipConfig),
/// Self-distillation with masked patch prediction, from images only.
    "dinov2" => DinoV2(dinov2::DinoV2Config),
/// Momentum contrast between two crops, from images only.
    "mocov3" => MoCoV3(mocov3::MoCoV3Config),
/// Masked autoencoding, from images only.
    "mae" => Mae(mae::MaeConfig),
/// Prediction of the features of masked blocks, from images only.
    "ijepa" => IJepa(ijepa::IJepaConfig),
/// Denoising diffusion, from images only.
    "denoise" => Denoise(denoise::DenoiseConfig),
/// Multi-label classification, from images and class labels.
    "supervised" => Supervised(supervised::SupervisedConfig),
/// Segmentation of prompted instances, from images and instance maps.
    "segment" => Segment(segment::SegmentConfig),
/// Regression of inverse depth, from images and inverse depth maps.
    "depth" => Depth(depth::DepthConfig),
}

/// Returns the vision transformer of an architecture, for objectives that need its tokens.
fn vit_config<'a>(encoder: &'a ArchitectureConfig, objective: &str) -> Result<&'a crate::arch::VitConfig> {
    let ArchitectureConfig::Vit(config) = encoder else {
        return Err(Error::usage(format!(
            "the objective {objective} needs a vision transformer, but the encoder has another architecture"
        ))
        .hint("set architecture = \"vit\" on the card, or choose another objective"));
    };
    config.validate()?;
    if config.relative_positions || config.rotary.is_some() {
        return Err(Error::usage(format!(
            "the objective {objective} needs absolute position embeddings, but the encoder has relative or rotary ones"
        ))
        .hint(
            "remove rotary and relative_positions from the architecture: the objective drops patches or resizes crops",
        ));
    }
    Ok(config)
}

/// Scales each row to unit L2 norm, `x / ‖x‖`; a row of zeros stays zero.
fn l2_normalise(x: Tensor<2>) -> Tensor<2> {
    let norm = x.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
    x / norm
}

/// Returns the cosine similarity of each row of `a`, `[n, width]`, with each row of `b`, `[m, width]`: `[n, m]`.
fn cosine_similarities(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    l2_normalise(a).matmul(l2_normalise(b).transpose())
}

#[cfg(test)]
mod tests;
