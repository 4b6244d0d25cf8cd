//! MoCo v3 (Chen, Xie & He 2021, arXiv:2104.02057): two crops of an image find each other among the crops of the other
//! images of the batch. Queries come from the encoder, a projector and a predictor; keys from the exponential moving
//! average of encoder and projector.
//!
//! As in the paper's code: batch norm in both MLPs, none with an affine part after the last layer of the projector, no
//! queue, the loss scaled by twice the temperature, momentum rising to 1 by a cosine. Unlike it: no flips (the nano
//! world asks which way things face), no blur and no solarisation (they would erase letters), one batch norm over both
//! crops, and the patch embedding is trained.

use super::average::{follow, rising};
use super::jitter::colour_jitter;
use super::{Batch, DataShape, INIT, Learner, LearnerConfig, Loss, Moment, Targets, cosines, random_crops};
use crate::arch::{Architecture, ArchitectureConfig, DropPathMask};
use crate::init::initialise;
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

/// The numbers of MoCo v3.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MoCoV3Config {
    /// Channels inside the projector and the predictor. Default 256.
    pub hidden: usize,
    /// Width of the space in which crops meet. Default 64.
    pub embed: usize,
    /// Temperature of the softmax. Default 0.2.
    pub temperature: f64,
    /// Weight of the old average in each update at the start; it rises to 1. Default 0.99.
    pub momentum: f64,
    /// Area of the crops. Default 0.3 to 1 (the paper's 0.08 would cut away what the image shows).
    pub crop: [f64; 2],
    /// Side of a crop in pixels. Default: that of the images. Smaller crops are faster; a ViT's position embeddings are
    /// then resampled.
    pub crop_size: Option<usize>,
    /// Strength of the colour jitter, 0 for none. Default 0.5.
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

/// An encoder learning by momentum contrast.
#[derive(Module, Debug)]
pub struct MoCoV3 {
    base: Network,
    predictor: Head,
    /// The moving average of `base`; not a parameter, so no gradient and no optimiser ever reaches it.
    #[module(skip)]
    average: Network,
    #[module(skip)]
    config: MoCoV3Config,
}

/// An encoder with its projector.
#[derive(Module, Debug)]
pub struct Network {
    encoder: Architecture,
    projector: Head,
}

/// An MLP with batch norm and ReLU after all layers but the last, and batch norm without affine part after that one.
#[derive(Module, Debug)]
pub struct Head {
    layers: Vec<Linear>,
    norms: Vec<BatchNorm>,
}

/// Scale and shift after [`standardise`]. There are no running statistics: heads are used in training only.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// `[channels]`.
    gamma: Param<Tensor<1>>,
    /// `[channels]`.
    beta: Param<Tensor<1>>,
}

impl Head {
    /// Layers between the given widths, at least two.
    fn new(widths: &[usize], device: &Device) -> Self {
        let layers = widths.iter().zip(widths.iter().skip(1));
        let inner = widths.iter().skip(1).take(widths.len().saturating_sub(2));
        Self {
            layers: layers.map(|(&a, &b)| LinearConfig::new(a, b).with_bias(false).init(device)).collect(),
            norms: inner
                .map(|&channels| BatchNorm {
                    gamma: Initializer::Ones.init([channels], device),
                    beta: Initializer::Zeros.init([channels], device),
                })
                .collect(),
        }
    }

    /// `[rows, first width]` to `[rows, last width]`.
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

impl Network {
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
                "mocov3 cannot have hidden {}, embed {}, crop_size {:?}, temperature {}",
                self.hidden, self.embed, self.crop_size, self.temperature
            ))
            .hint("all must be positive"));
        }
        let base = Network {
            encoder: encoder.init(device)?,
            projector: Head::new(&[encoder.pooled_width(), self.hidden, self.hidden, self.embed], device),
        };
        let predictor = Head::new(&[self.embed, self.hidden, self.embed], device);
        let mut learner = MoCoV3 { average: base.clone(), base, predictor, config: self.clone() };
        learner = initialise(learner, INIT, seed);
        learner.average = learner.base.valid();
        Ok(learner)
    }
}

impl Learner for MoCoV3 {
    fn loss(&self, batch: &Batch, moment: &mut Moment) -> Result<Loss> {
        let config = &self.config;
        let [count, _, size, _] = batch.pixels.dims();
        if count < 2 {
            return Err(Error::usage("mocov3 needs at least two images in a batch").hint("raise batch"));
        }
        let size = config.crop_size.unwrap_or(size);
        let mut view = || {
            let crops = random_crops(batch.pixels.clone(), size, config.crop, &mut moment.stream);
            colour_jitter(crops, config.jitter, &mut moment.stream)
        };
        let views = Tensor::cat(vec![view(), view()], 0);
        // The average sees the same crops and builds no graph.
        let keys = self.average.forward(views.clone().inner(), &DropPathMask::none())?;
        let drop_path = self.base.encoder.draw_drop_path(2 * count, &mut moment.stream, &views.device());
        let queries = self.predictor.forward(self.base.forward(views, &drop_path)?);
        let half = |x: &Tensor<2>, i: usize| x.clone().narrow(0, i * count, count);
        let one = contrastive_loss(half(&queries, 0), half(&keys, 1), config.temperature);
        let other = contrastive_loss(half(&queries, 1), half(&keys, 0), config.temperature);
        Ok(Loss::single(one + other))
    }

    fn after_step(mut self, moment: &Moment) -> Self {
        self.average = follow(self.average, &self.base, rising(self.config.momentum, moment.progress()));
        self
    }

    /// The encoder under gradient descent, which is the one that MoCo v3 publishes.
    fn into_encoder(self) -> Architecture {
        self.base.encoder
    }
}

/// Every channel of `[rows, channels]` with mean 0 and variance 1 over the rows (batch norm without its affine part).
pub fn standardise(x: Tensor<2>) -> Tensor<2> {
    let centred = x.clone() - x.mean_dim(0);
    let variance = centred.clone().square().mean_dim(0);
    centred / variance.add_scalar(1e-5).sqrt()
}

/// InfoNCE as in algorithm 1 of the paper: `2 τ` times the cross entropy of finding each query's own key, by cosine
/// over the temperature `τ`, among the keys of the batch. `queries` and `keys` are `[batch, embed]`, row by row
/// belonging together. A single number.
pub fn contrastive_loss(queries: Tensor<2>, keys: Tensor<2>, temperature: f64) -> Tensor<1> {
    let [batch, _] = queries.dims();
    let own = Tensor::<2>::eye(batch, &queries.device());
    let logits = cosines(queries, keys).div_scalar(temperature);
    (log_softmax(logits, 1) * own).sum().mul_scalar(-2.0 * temperature / batch as f64)
}
