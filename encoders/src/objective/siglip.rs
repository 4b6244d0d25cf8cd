//! SigLIP (Zhai et al. 2023, arXiv:2303.15343): every pair of an image and a caption is a binary classification by a
//! sigmoid, without a softmax over the batch. Images are pooled by attention, as in big_vision's `MAPHead`.

use super::late_interaction::{interaction_similarities, patch_tokens};
use super::text::{TextConfig, TextTower};
use super::{
    DataShape, INIT, Learner, LearnerConfig, Loss, PretrainBatch, StepContext, Targets, cosine_similarities,
    random_crops,
};
use crate::arch::{Activation, Architecture, ArchitectureConfig, Mlp, NetworkConfig};
use crate::attention::{Bias, attend};
use crate::init::initialise;
use burgess_base::Result;
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::log_sigmoid};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of SigLIP pretraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct SigLipConfig {
    /// Width of the joint embedding space of images and captions. Default 128.
    pub embed: usize,
    /// Hyper-parameters of the text tower.
    pub text: TextConfig,
    /// Area of the random crops as fractions of the image, `[low, high]`. Default 0.9 to 1, as for `clip`.
    pub crop: [f64; 2],
    /// Whether similarities are computed between patches and caption tokens (late interaction, as in FILIP,
    /// arXiv:2111.07783) instead of between pooled outputs. Default false.
    pub late_interaction: bool,
}

impl Default for SigLipConfig {
    fn default() -> Self {
        Self { embed: 128, text: TextConfig::default(), crop: [0.9, 1.0], late_interaction: false }
    }
}

/// An encoder with a text tower and projections, trained by the sigmoid loss.
#[derive(Module, Debug)]
pub struct SigLip {
    encoder: Architecture,
    /// Attention pooling; only for ViT encoders without a class token.
    pool: Option<AttentionPool>,
    text: TextTower,
    image_projection: Linear,
    text_projection: Linear,
    /// Logarithm of the inverse temperature, `[1]`.
    logit_scale: Param<Tensor<1>>,
    /// Bias of every logit, `[1]`.
    logit_bias: Param<Tensor<1>>,
    #[module(skip)]
    config: SigLipConfig,
}

impl LearnerConfig for SigLipConfig {
    type Learner = SigLip;
    const TARGETS: Targets = Targets::TEXTS;

    fn init(&self, encoder: &ArchitectureConfig, data: &DataShape, device: &Device, seed: u64) -> Result<SigLip> {
        let projection = |from: usize| LinearConfig::new(from, self.embed).init(device);
        let pool = match encoder {
            ArchitectureConfig::Vit(vit) if !vit.class_token && !self.late_interaction => {
                vit.validate()?;
                Some(AttentionPool::new(vit.width, vit.heads, vit.mlp_hidden, device))
            }
            _ => None,
        };
        let siglip = SigLip {
            encoder: encoder.init(device)?,
            pool,
            text: self.text.init(data, device)?,
            image_projection: projection(encoder.pooled_width()),
            text_projection: projection(self.text.width),
            // Section 3.2 of the paper: most pairs are negative, so the bias starts at -10.
            logit_scale: Initializer::Constant { value: 10f64.ln() }.init([1], device),
            logit_bias: Initializer::Constant { value: -10.0 }.init([1], device),
            config: self.clone(),
        };
        Ok(initialise(siglip, INIT, seed))
    }
}

impl Learner for SigLip {
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
            let images = match &self.pool {
                Some(pool) => pool.forward(patch_tokens(&self.encoder, pixels, &drop_path)?),
                None => self.encoder.pooled_with_drop_path(pixels, &drop_path)?,
            };
            let images = self.image_projection.forward(images);
            let texts = self.text_projection.forward(self.text.forward(batch.texts()?)?);
            cosine_similarities(images, texts)
        };
        let (scale, bias) = (self.logit_scale.val().exp(), self.logit_bias.val());
        Ok(Loss {
            total: sigmoid_loss(similarities, scale.clone(), bias.clone()),
            parts: vec![("logit_scale", scale.detach()), ("logit_bias", bias.detach())],
        })
    }

    fn into_encoder(self) -> Architecture {
        self.encoder
    }
}

/// Returns the sigmoid loss, algorithm 1 of the paper: `-1/n Σᵢⱼ log σ(±(scale · sᵢⱼ + bias))`, with plus
/// for matching pairs (the diagonal) and minus for all others, `[1]`. `similarities` are `[images, captions]`.
pub(super) fn sigmoid_loss(similarities: Tensor<2>, scale: Tensor<1>, bias: Tensor<1>) -> Tensor<1> {
    let [batch, _] = similarities.dims();
    let signs = Tensor::<2>::eye(batch, &similarities.device()).mul_scalar(2.0).sub_scalar(1.0);
    let logits = similarities * scale.unsqueeze() + bias.unsqueeze();
    log_sigmoid(logits * signs).sum().mul_scalar(-1.0 / batch as f64)
}

/// Attention pooling: cross attention of one learned query to all patches, followed by a residual MLP.
#[derive(Module, Debug)]
pub struct AttentionPool {
    /// Learned query, `[1, 1, width]`.
    probe: Param<Tensor<3>>,
    q: Linear,
    kv: Linear,
    proj: Linear,
    norm: LayerNorm,
    mlp: Mlp,
    heads: usize,
}

impl AttentionPool {
    fn new(width: usize, heads: usize, hidden: usize, device: &Device) -> Self {
        Self {
            probe: Initializer::Zeros.init([1, 1, width], device),
            q: LinearConfig::new(width, width).init(device),
            kv: LinearConfig::new(width, 2 * width).init(device),
            proj: LinearConfig::new(width, width).init(device),
            norm: LayerNormConfig::new(width).with_epsilon(1e-6).init(device),
            mlp: Mlp::new(width, hidden, width, Activation::Gelu, device),
            heads,
        }
    }

    /// Pools `[batch, patches, width]` to `[batch, width]`.
    fn forward(&self, patches: Tensor<3>) -> Tensor<2> {
        let [batch, count, width] = patches.dims();
        let head = |x: Tensor<3>, n: usize| x.reshape([batch, n, self.heads, width / self.heads]).swap_dims(1, 2);
        let q = head(self.q.forward(self.probe.val()).expand([batch, 1, width]), 1);
        let kv = self.kv.forward(patches);
        let k = head(kv.clone().slice([0..batch, 0..count, 0..width]), count);
        let v = head(kv.slice([0..batch, 0..count, width..2 * width]), count);
        let x = self.proj.forward(attend(q, k, v, Bias::None, None).reshape([batch, width]));
        x.clone() + self.mlp.forward(self.norm.forward(x))
    }
}
