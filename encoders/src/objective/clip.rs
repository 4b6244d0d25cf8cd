//! CLIP (Radford et al. 2021, arXiv:2103.00020): an image and its caption find each other among all others of the
//! batch, by softmax over cosine similarities in both directions.

use super::late::{interaction, patch_tokens};
use super::text::{TextConfig, TextTower};
use super::{Batch, DataShape, INIT, Learner, LearnerConfig, Loss, Moment, Targets, cosines, random_crops};
use crate::arch::{Architecture, ArchitectureConfig};
use crate::init::initialise;
use burgess_base::Result;
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::log_softmax};
use serde::{Deserialize, Serialize};

/// The numbers of CLIP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClipConfig {
    /// Width of the space in which images and captions meet. Default 128.
    pub embed: usize,
    /// The text tower.
    pub text: TextConfig,
    /// Area of the random crops. Default 0.9 to 1, as OpenCLIP.
    pub crop: [f64; 2],
    /// Whether an image meets a caption word by word ([`super::late`]) instead of as a whole. Default false.
    pub late_interaction: bool,
}

impl Default for ClipConfig {
    fn default() -> Self {
        Self { embed: 128, text: TextConfig::default(), crop: [0.9, 1.0], late_interaction: false }
    }
}

/// An encoder learning from captions by softmax contrast.
#[derive(Module, Debug)]
pub struct Clip {
    encoder: Architecture,
    text: TextTower,
    image_projection: Linear,
    text_projection: Linear,
    /// Logarithm of the inverse temperature, `[1]`.
    logit_scale: Param<Tensor<1>>,
    #[module(skip)]
    config: ClipConfig,
}

impl LearnerConfig for ClipConfig {
    type Learner = Clip;
    const TARGETS: Targets = Targets::TEXTS;

    fn init(&self, encoder: &ArchitectureConfig, data: &DataShape, device: &Device, seed: u64) -> Result<Clip> {
        let projection = |from: usize| LinearConfig::new(from, self.embed).with_bias(false).init(device);
        let clip = Clip {
            encoder: encoder.init(device)?,
            text: self.text.init(data, device)?,
            image_projection: projection(encoder.pooled_width()),
            text_projection: projection(self.text.width),
            logit_scale: Initializer::Constant { value: (1f64 / 0.07).ln() }.init([1], device),
            config: self.clone(),
        };
        Ok(initialise(clip, INIT, seed))
    }
}

impl Learner for Clip {
    fn loss(&self, batch: &Batch, moment: &mut Moment) -> Result<Loss> {
        let [count, _, size, _] = batch.pixels.dims();
        let pixels = random_crops(batch.pixels.clone(), size, self.config.crop, &mut moment.stream);
        let drop_path = self.encoder.draw_drop_path(count, &mut moment.stream, &pixels.device());
        let projections = [&self.image_projection, &self.text_projection];
        let similarities = if self.config.late_interaction {
            interaction(patch_tokens(&self.encoder, pixels, &drop_path)?, batch.texts()?, &self.text, projections)?
        } else {
            let images = self.image_projection.forward(self.encoder.pooled_with_drop_path(pixels, &drop_path)?);
            let texts = self.text_projection.forward(self.text.forward(batch.texts()?)?);
            cosines(images, texts)
        };
        let scale = self.logit_scale.val();
        Ok(Loss {
            total: contrast(similarities, scale.clone().exp()),
            parts: vec![("logit_scale", scale.detach().exp())],
        })
    }

    /// The paper clips the scale to 100 "to prevent training instability" (section 2.5).
    fn after_step(mut self, _moment: &Moment) -> Self {
        self.logit_scale = self.logit_scale.map(|scale| {
            let (trains, device) = (scale.is_require_grad(), scale.device());
            // Outside the graph, so that the result is a leaf again.
            let clipped = scale.inner().clamp_max(100f64.ln());
            if device.is_autodiff() { clipped.autodiff().set_require_grad(trains) } else { clipped }
        });
        self
    }

    fn into_encoder(self) -> Architecture {
        self.encoder
    }
}

/// The symmetric cross entropy of Figure 3 in the paper, of the `similarities` `[batch, batch]` of images (rows) and
/// captions (columns), of which the `i`-th belong together; `scale` is the inverse temperature. A single number.
pub fn contrast(similarities: Tensor<2>, scale: Tensor<1>) -> Tensor<1> {
    let [batch, _] = similarities.dims();
    let own = Tensor::<2>::eye(batch, &similarities.device());
    let logits = similarities * scale.unsqueeze();
    let found = log_softmax(logits.clone(), 1) + log_softmax(logits, 0);
    (found * own).sum().mul_scalar(-0.5 / batch as f64)
}
