//! CLIP (Radford et al. 2021, arXiv:2103.00020): contrastive learning of images and captions by a softmax over their
//! cosine similarities in the batch, in both directions.

use super::late_interaction::{interaction_similarities, patch_tokens};
use super::text::{TextConfig, TextTower};
use super::{
    DataShape, INIT, Learner, LearnerConfig, Loss, PretrainBatch, StepContext, Targets, cosine_similarities,
    random_crops,
};
use crate::arch::{Architecture, ArchitectureConfig};
use crate::init::initialise;
use burgess_base::Result;
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::log_softmax};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of CLIP pretraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ClipConfig {
    /// Width of the joint embedding space of images and captions. Default 128.
    pub embed: usize,
    /// Hyper-parameters of the text tower.
    pub text: TextConfig,
    /// Area of the random crops as fractions of the image, `[low, high]`. Default 0.9 to 1, as OpenCLIP.
    pub crop: [f64; 2],
    /// Whether similarities are computed between patches and caption tokens (late interaction, as in FILIP,
    /// arXiv:2111.07783) instead of between pooled outputs. Default false.
    pub late_interaction: bool,
}

impl Default for ClipConfig {
    fn default() -> Self {
        Self { embed: 128, text: TextConfig::default(), crop: [0.9, 1.0], late_interaction: false }
    }
}

/// An encoder with a text tower and projections, trained by the CLIP loss.
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
    fn loss(&self, batch: &PretrainBatch, context: &mut StepContext) -> Result<Loss> {
        let [count, _, size, _] = batch.pixels.dims();
        let pixels = random_crops(batch.pixels.clone(), size, self.config.crop, &mut context.stream);
        let drop_path = self.encoder.draw_drop_path(count, &mut context.stream, &pixels.device());
        let projections = [&self.image_projection, &self.text_projection];
        let similarities = if self.config.late_interaction {
            interaction_similarities(
                patch_tokens(&self.encoder, pixels, &drop_path)?,
                batch.texts()?,
                &self.text,
                projections,
            )?
        } else {
            let images = self.image_projection.forward(self.encoder.pooled_with_drop_path(pixels, &drop_path)?);
            let texts = self.text_projection.forward(self.text.forward(batch.texts()?)?);
            cosine_similarities(images, texts)
        };
        let scale = self.logit_scale.val();
        Ok(Loss {
            total: clip_loss(similarities, scale.clone().exp()),
            parts: vec![("logit_scale", scale.detach().exp())],
        })
    }

    /// Clips the scale to 100, as the paper does "to prevent training instability" (section 2.5).
    fn after_step(mut self, _context: &StepContext) -> Self {
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

/// Returns the symmetric cross entropy of Figure 3 in the paper, `[1]`. `similarities` are `[images, captions]` with
/// the matching pairs on the diagonal; `scale` is the inverse temperature.
pub(super) fn clip_loss(similarities: Tensor<2>, scale: Tensor<1>) -> Tensor<1> {
    let [batch, _] = similarities.dims();
    let own = Tensor::<2>::eye(batch, &similarities.device());
    let logits = similarities * scale.unsqueeze();
    let found = log_softmax(logits.clone(), 1) + log_softmax(logits, 0);
    (found * own).sum().mul_scalar(-0.5 / batch as f64)
}
