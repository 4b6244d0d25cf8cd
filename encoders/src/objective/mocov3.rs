//! MoCo v3 (Chen, Xie & He 2021, arXiv:2104.02057): contrastive learning between two crops of an image, with the crops
//! of the other images of the batch as negatives. Queries are computed by the encoder, a projector and a predictor,
//! keys by the exponential moving average of encoder and projector.
//!
//! As in the paper's code, both MLPs have batch norm (without affine parameters after the last layer), there is no
//! queue, the loss is scaled by twice the temperature, and the momentum rises to 1 by a cosine. Unlike in the paper's
//! code, there are no flips (questions of the nano world depend on left and right), no blur and no solarisation (they
//! would make letters unreadable), batch norm covers both crops together, and the patch embedding is trained.

use super::ema::{cosine_momentum, ema_update};
use super::jitter::colour_jitter;
use super::{
    DataShape, INIT, Learner, LearnerConfig, Loss, PretrainBatch, StepContext, Targets, cosine_similarities,
    random_crops,
};
use crate::arch::{Architecture, ArchitectureConfig, DropPathMask};
use crate::init::initialise;
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of MoCo v3 pretraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct MoCoV3Config {
    /// Hidden channels of the projector and the predictor. Default 256.
    pub hidden: usize,
    /// Width of the embedding space. Default 64.
    pub embed: usize,
    /// Temperature of the softmax. Default 0.2.
    pub temperature: f64,
    /// Momentum of the moving average at the start; it rises to 1. Default 0.99.
    pub momentum: f64,
    /// Area of the random crops as fractions of the image, `[low, high]`. Default 0.3 to 1 (the paper's 0.08 would
    /// remove the objects of an image).
    pub crop: [f64; 2],
    /// Side of a crop in pixels. Default: that of the images. Smaller crops are faster; position embeddings of a ViT
    /// are then resampled.
    pub crop_size: Option<usize>,
    /// Strength of the colour jitter; 0 disables it. Default 0.5.
    pub jitter: f64,
}

impl Default for MoCoV3Config {
    fn default() -> Self {
        Self {
            hidden: 256,
            embed: 64,
            temperature: 0.2,
            momentum: 0.99,
            crop: [0.3, 1.0],
            crop_size: None,
            jitter: 0.5,
        }
    }
}

/// An encoder with projector and predictor and their moving average, trained by momentum contrast.
#[derive(Module, Debug)]
pub struct MoCoV3 {
    base: MoCoV3Network,
    predictor: MoCoV3Mlp,
    /// Moving average of `base`; skipped as a parameter, so that it gets no gradient and no optimiser step.
    #[module(skip)]
    average: MoCoV3Network,
    #[module(skip)]
    config: MoCoV3Config,
}

/// An encoder with its projector.
#[derive(Module, Debug)]
pub struct MoCoV3Network {
    encoder: Architecture,
    projector: MoCoV3Mlp,
}

/// An MLP with batch norm and ReLU after every layer but the last, and batch norm without affine parameters after the
/// last.
#[derive(Module, Debug)]
pub struct MoCoV3Mlp {
    layers: Vec<Linear>,
    norms: Vec<MlpBatchNorm>,
}

/// The affine parameters of a batch norm without running statistics, because the MLPs are used only in training.
#[derive(Module, Debug)]
pub struct MlpBatchNorm {
    /// Scale after normalisation, `[channels]`.
    gamma: Param<Tensor<1>>,
    /// Shift after scaling, `[channels]`.
    beta: Param<Tensor<1>>,
}

impl MoCoV3Mlp {
    /// Builds layers between the given widths, of which there are at least two.
    fn new(widths: &[usize], device: &Device) -> Self {
        let layers = widths.iter().zip(widths.iter().skip(1));
        let inner = widths.iter().skip(1).take(widths.len().saturating_sub(2));
        Self {
            layers: layers.map(|(&a, &b)| LinearConfig::new(a, b).with_bias(false).init(device)).collect(),
            norms: inner
                .map(|&channels| MlpBatchNorm {
                    gamma: Initializer::Ones.init([channels], device),
                    beta: Initializer::Zeros.init([channels], device),
                })
                .collect(),
        }
    }

    /// Maps `[rows, first width]` to `[rows, last width]`.
    fn forward(&self, mut x: Tensor<2>) -> Tensor<2> {
        for (i, layer) in self.layers.iter().enumerate() {
            x = standardise(layer.forward(x));
            if let Some(norm) = self.norms.get(i) {
                x = relu(x * norm.gamma.val().unsqueeze() + norm.beta.val().unsqueeze());
            }
        }
        x
    }
}

impl MoCoV3Network {
    fn forward(&self, pixels: Tensor<4>, drop_path: &DropPathMask) -> Result<Tensor<2>> {
        Ok(self.projector.forward(self.encoder.pooled_with_drop_path(pixels, drop_path)?))
    }
}

impl LearnerConfig for MoCoV3Config {
    type Learner = MoCoV3;
    const TARGETS: Targets = Targets::NONE;

    fn init(&self, encoder: &ArchitectureConfig, _data: &DataShape, device: &Device, seed: u64) -> Result<MoCoV3> {
        if self.hidden == 0 || self.embed == 0 || self.crop_size == Some(0) || self.temperature <= 0.0 {
            return Err(Error::usage(format!(
                "invalid hyper-parameters of mocov3: hidden {}, embed {}, crop_size {:?}, temperature {}",
                self.hidden, self.embed, self.crop_size, self.temperature
            ))
            .hint("set each of them above 0"));
        }
        let base = MoCoV3Network {
            encoder: encoder.init(device)?,
            projector: MoCoV3Mlp::new(&[encoder.pooled_width(), self.hidden, self.hidden, self.embed], device),
        };
        let predictor = MoCoV3Mlp::new(&[self.embed, self.hidden, self.embed], device);
        let mut learner = MoCoV3 { average: base.clone(), base, predictor, config: self.clone() };
        learner = initialise(learner, INIT, seed);
        learner.average = learner.base.valid();
        Ok(learner)
    }
}

impl Learner for MoCoV3 {
    fn loss(&self, batch: &PretrainBatch, context: &mut StepContext) -> Result<Loss> {
        let config = &self.config;
        let [count, _, size, _] = batch.pixels.dims();
        if count < 2 {
            return Err(Error::usage(format!("the batch has {count} images, mocov3 needs at least 2"))
                .hint("set batch to at least 2"));
        }
        let size = config.crop_size.unwrap_or(size);
        let mut view = || {
            let crops = random_crops(batch.pixels.clone(), size, config.crop, &mut context.stream);
            colour_jitter(crops, config.jitter, &mut context.stream)
        };
        let views = Tensor::cat(vec![view(), view()], 0);
        // The moving average gets the same crops and builds no graph.
        let keys = self.average.forward(views.clone().inner(), &DropPathMask::none())?;
        let drop_path = self.base.encoder.draw_drop_path(2 * count, &mut context.stream, &views.device());
        let queries = self.predictor.forward(self.base.forward(views, &drop_path)?);
        let half = |x: &Tensor<2>, i: usize| x.clone().narrow(0, i * count, count);
        let one = info_nce(half(&queries, 0), half(&keys, 1), config.temperature);
        let other = info_nce(half(&queries, 1), half(&keys, 0), config.temperature);
        Ok(Loss::single(one + other))
    }

    fn after_step(mut self, context: &StepContext) -> Self {
        self.average = ema_update(self.average, &self.base, cosine_momentum(self.config.momentum, context.progress()));
        self
    }

    /// Returns the encoder trained by gradient descent, not its moving average, as MoCo v3 does.
    fn into_encoder(self) -> Architecture {
        self.base.encoder
    }
}

/// Normalises every channel of `[rows, channels]` to mean 0 and variance 1 over the rows (batch norm without affine
/// parameters).
pub(super) fn standardise(x: Tensor<2>) -> Tensor<2> {
    let centred = x.clone() - x.mean_dim(0);
    let variance = centred.clone().square().mean_dim(0);
    centred / variance.add_scalar(1e-5).sqrt()
}

/// Returns the InfoNCE loss as in algorithm 1 of the paper, `[1]`: `2 τ` times the cross entropy of the softmax over
/// `cos(query, key) / τ`, whose target is the key of the same row. `queries` and `keys` are `[batch, embed]`.
pub(super) fn info_nce(queries: Tensor<2>, keys: Tensor<2>, temperature: f64) -> Tensor<1> {
    let [batch, _] = queries.dims();
    let own = Tensor::<2>::eye(batch, &queries.device());
    let logits = cosine_similarities(queries, keys).div_scalar(temperature);
    (log_softmax(logits, 1) * own).sum().mul_scalar(-2.0 * temperature / batch as f64)
}
