//! Pretraining objectives, one file per objective, and what they share: the batch they read, the loss they
//! return, and the dispatch by the name in a recipe.
//!
//! An objective is a configuration (`ClipConfig`), a [`Learner`] that holds the encoder and the heads its loss needs
//! (`Clip`), and the loss as a plain function of tensors that a test can compute by hand. Adding one is a file here and
//! a line in the table at [`Objective`].

mod average;
pub mod clip;
mod crop;
pub mod denoise;
pub mod depth;
pub mod dinov2;
pub mod ijepa;
mod jitter;
mod late;
pub mod mae;
pub mod mocov3;
pub mod segment;
pub mod siglip;
pub mod supervised;
pub mod text;

pub use crop::{Crops, random_crops};

use crate::arch::{Architecture, ArchitectureConfig, NetworkConfig};
use burgess_base::stream::Stream;
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

/// What a pretraining step reads. Objectives take what they need; asking for something absent is an error.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Normalised images, `[batch, 3, height, width]`.
    pub pixels: Tensor<4>,
    /// A caption per image.
    pub texts: Option<Texts>,
    /// Which classes an image shows, `[batch, classes]`, 0 or 1.
    pub labels: Option<Tensor<2>>,
    /// The instance that each pixel shows, `[batch, height, width]`: 0 for the background, otherwise counted from 1.
    pub instances: Option<Tensor<3, Int>>,
    /// Inverse depth of each pixel, `[batch, height, width]`: larger is nearer; scale and zero may differ between
    /// images.
    pub inverse_depth: Option<Tensor<3>>,
}

/// What an objective reads of a batch besides the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Targets {
    /// [`Batch::texts`].
    pub texts: bool,
    /// [`Batch::labels`].
    pub labels: bool,
    /// [`Batch::instances`].
    pub instances: bool,
    /// [`Batch::inverse_depth`].
    pub inverse_depth: bool,
}

impl Targets {
    /// Pixels only.
    pub const NONE: Self = Self { texts: false, labels: false, instances: false, inverse_depth: false };
    /// Captions.
    pub const TEXTS: Self = Self { texts: true, ..Self::NONE };
    /// Class labels.
    pub const LABELS: Self = Self { labels: true, ..Self::NONE };
    /// Maps of instances.
    pub const INSTANCES: Self = Self { instances: true, ..Self::NONE };
    /// Maps of inverse depth.
    pub const INVERSE_DEPTH: Self = Self { inverse_depth: true, ..Self::NONE };
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

    /// An error unless a map has a value for each pixel.
    fn check_map(&self, what: &str, found: [usize; 3]) -> Result<()> {
        let [batch, _, height, width] = self.pixels.dims();
        if found == [batch, height, width] {
            return Ok(());
        }
        Err(Error::failed(format!("{what} maps of shape {found:?} do not fit images of {:?}", [batch, height, width]))
            .hint("give the batch a value for each pixel"))
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

    /// What the objective reads besides the pixels.
    const TARGETS: Targets;

    /// A learner around a new encoder, initialised from streams of `seed` (see [`crate::init`]). `device` should
    /// differentiate ([`Device::autodiff`]).
    fn init(&self, encoder: &ArchitectureConfig, data: &DataShape, device: &Device, seed: u64)
    -> Result<Self::Learner>;
}

/// The name of the streams that initial weights come from.
const INIT: &str = "pretrain/init";

/// Something to do with the learner of whichever objective a recipe names.
pub trait WithLearner {
    /// What comes out.
    type Output;
    /// Called once, with the learner's own type.
    fn call<L: Learner>(self, learner: L) -> Result<Self::Output>;
}

/// Makes [`Objective`] and all that depends on which objectives there are from one table.
macro_rules! objectives {
    ($($(#[$doc:meta])* $name:literal => $variant:ident($config:ty),)+) => {
        /// An objective by its name in a recipe: `objective = "clip"`, with its own numbers beside it.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "objective")]
        pub enum Objective {
            $($(#[$doc])* #[serde(rename = $name)] $variant($config),)+
        }

        impl Objective {
            /// The names of all objectives, as recipes give them.
            pub const NAMES: &[&str] = &[$($name),+];

            /// What this objective reads besides the pixels.
            pub fn targets(&self) -> Targets {
                match self {
                    $(Self::$variant(_) => <$config as LearnerConfig>::TARGETS,)+
                }
            }

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
                    $(Self::$variant(config) => then.call(config.init(encoder, data, device, seed)?),)+
                }
            }
        }
    };
}

objectives! {
    /// Softmax contrastive, images and captions.
    "clip" => Clip(clip::ClipConfig),
    /// Sigmoid contrastive, images and captions.
    "siglip" => SigLip(siglip::SigLipConfig),
    /// Self-distillation with masked patch prediction, images only.
    "dinov2" => DinoV2(dinov2::DinoV2Config),
    /// Momentum contrast between two crops, images only.
    "mocov3" => MoCoV3(mocov3::MoCoV3Config),
    /// Masked autoencoding, images only.
    "mae" => Mae(mae::MaeConfig),
    /// Prediction of the features of hidden blocks, images only.
    "ijepa" => IJepa(ijepa::IJepaConfig),
    /// Denoising diffusion, images only.
    "denoise" => Denoise(denoise::DenoiseConfig),
    /// Class labels.
    "supervised" => Supervised(supervised::SupervisedConfig),
    /// Masks of prompted instances.
    "segment" => Segment(segment::SegmentConfig),
    /// Inverse depth of every pixel.
    "depth" => Depth(depth::DepthConfig),
}

/// The vision transformer of an architecture, for objectives that work on its tokens.
fn vit_config<'a>(encoder: &'a ArchitectureConfig, objective: &str) -> Result<&'a crate::arch::VitConfig> {
    let ArchitectureConfig::Vit(config) = encoder else {
        return Err(Error::usage(format!("the objective {objective} works on the tokens of a vision transformer"))
            .hint("give the card architecture = \"vit\", or another objective"));
    };
    config.validate()?;
    if config.relative_positions || config.rotary.is_some() {
        return Err(Error::usage(format!("the objective {objective} needs absolute positions only"))
            .hint("it drops patches or cuts crops of other sizes: leave out rotary and relative_positions"));
    }
    Ok(config)
}

/// Rows of length one: `x / ‖x‖`, safe for a row of zeros.
fn normalise(x: Tensor<2>) -> Tensor<2> {
    let norm = x.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
    x / norm
}

/// The cosine of each row of `a` with each row of `b`: `[n, width]` and `[m, width]` to `[n, m]`.
fn cosines(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    normalise(a).matmul(normalise(b).transpose())
}

#[cfg(test)]
mod tests;
