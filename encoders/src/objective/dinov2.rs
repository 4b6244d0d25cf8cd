//! DINOv2 (Oquab et al. 2024, arXiv:2304.07193): self-distillation from a teacher that is the moving average of the
//! student, on class tokens across crops (DINO) and on masked patches (iBOT), with the KoLeo regulariser.
//!
//! Sized for the nano encoders, from the paper's section 4: separate heads for the two losses, teacher outputs balanced
//! by Sinkhorn–Knopp (three rounds), teacher temperature with a warm-up, teacher momentum on a cosine schedule.
//! Unlike in the original, masks are single random patches instead of blocks, the last layer is not frozen at the
//! start, the class token of an encoder without one is the mean of its patches, and the only augmentations are crops
//! and colour jitter: no flips (questions of the nano world depend on left and right), no blur, no solarisation.

use super::ema::{cosine_momentum, ema_update};
use super::jitter::colour_jitter;
use super::mae::random_subset;
use super::mocov3::standardise;
use super::{
    DataShape, INIT, Learner, LearnerConfig, Loss, PretrainBatch, StepContext, Targets, l2_normalise, random_crops,
    vit_config,
};
use crate::arch::{Architecture, ArchitectureConfig, AttentionPositions, DropPathMask, NetworkConfig, Vit};
use crate::init::initialise;
use crate::operands::gelu;
use burgess_base::stream::{Stream, uniform};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Number of large crops per image: two views for the student, and the same ones for the teacher.
const GLOBAL_CROPS: usize = 2;

/// Hyper-parameters of DINOv2 pretraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct DinoV2Config {
    /// Number of prototypes of each head. Default 512.
    pub prototypes: usize,
    /// Hidden channels of the heads. Default 256.
    pub hidden: usize,
    /// Channels of the bottleneck before the prototypes. Default 64.
    pub bottleneck: usize,
    /// Whether the hidden layers of the heads are standardised over the batch (`use_bn_in_head` in the code of DINO). The
    /// class tokens of an encoder in training are nearly equal at first; without this the balanced targets of a small
    /// batch can stay uniform, and the DINO loss then stays at the logarithm of the number of prototypes. Default `false`.
    pub batch_norm: bool,
    /// Number of small crops per image. Default 2.
    pub locals: usize,
    /// Side of a small crop in pixels, a multiple of the patch size. Default 48.
    pub local_size: usize,
    /// Area of the large crops as fractions of the image, `[low, high]`. Default 0.4 to 1.
    pub global_scale: [f64; 2],
    /// Area of the small crops as fractions of the image, `[low, high]`. Default 0.1 to 0.4.
    pub local_scale: [f64; 2],
    /// Temperature of the student. Default 0.1.
    pub student_temperature: f64,
    /// Temperature of the teacher at the start and after its warm-up. Default 0.04 to 0.07.
    pub teacher_temperature: [f64; 2],
    /// Fraction of the training over which the teacher's temperature rises. Default 0.3.
    pub teacher_warmup: f64,
    /// Momentum of the teacher's moving average at the start; it rises to 1. Default 0.99.
    pub momentum: f64,
    /// Fraction of masked patches in a masked large crop, `[low, high]`. Default 0.1 to 0.5.
    pub mask_ratio: [f64; 2],
    /// Fraction of the large crops in which patches are masked. Default 0.5.
    pub mask_probability: f64,
    /// Weight of the masked patch prediction. Default 1.
    pub ibot_weight: f64,
    /// Weight of the KoLeo regulariser; 0 disables it. Default 0.1.
    pub koleo_weight: f64,
    /// Strength of the colour jitter of each crop; 0 disables it. Default 0.5: without it, colours alone identify the
    /// crops of one image, and no shapes are learned.
    pub jitter: f64,
}

impl Default for DinoV2Config {
    fn default() -> Self {
        Self {
            prototypes: 512,
            hidden: 256,
            bottleneck: 64,
            batch_norm: false,
            locals: 2,
            local_size: 48,
            global_scale: [0.4, 1.0],
            local_scale: [0.1, 0.4],
            student_temperature: 0.1,
            teacher_temperature: [0.04, 0.07],
            teacher_warmup: 0.3,
            momentum: 0.99,
            mask_ratio: [0.1, 0.5],
            mask_probability: 0.5,
            ibot_weight: 1.0,
            koleo_weight: 0.1,
            jitter: 0.5,
        }
    }
}

/// A student with heads and its teacher, trained by the DINOv2 loss.
#[derive(Module, Debug)]
pub struct DinoV2 {
    student: DinoV2Network,
    /// Embedding that replaces masked patches, `[1, 1, width]`.
    mask_token: Param<Tensor<3>>,
    /// Moving average of the student; skipped as a parameter, so that it gets no gradient and no optimiser step.
    #[module(skip)]
    teacher: DinoV2Network,
    #[module(skip)]
    config: DinoV2Config,
}

/// An encoder with its DINO and iBOT heads.
#[derive(Module, Debug)]
pub struct DinoV2Network {
    encoder: Vit,
    dino_head: DinoV2Head,
    ibot_head: DinoV2Head,
}

/// A projection head: a three-layer MLP, L2 normalisation, and cosine similarities with the prototypes.
#[derive(Module, Debug)]
pub struct DinoV2Head {
    fc1: Linear,
    fc2: Linear,
    fc3: Linear,
    /// Prototypes, `[bottleneck, prototypes]`; the columns are scaled to unit length when they are used (weight norm
    /// with the length fixed at one).
    prototypes: Linear,
    /// Whether hidden layers are standardised over the batch.
    #[module(skip)]
    batch_norm: bool,
}

impl LearnerConfig for DinoV2Config {
    type Learner = DinoV2;
    const TARGETS: Targets = Targets::NONE;

    fn init(&self, encoder: &ArchitectureConfig, _data: &DataShape, device: &Device, seed: u64) -> Result<DinoV2> {
        let vit = vit_config(encoder, "dinov2")?;
        if !self.local_size.is_multiple_of(vit.patch) || self.local_size == 0 || self.prototypes == 0 {
            return Err(Error::usage(format!(
                "invalid hyper-parameters of dinov2: local_size {}, prototypes {}",
                self.local_size, self.prototypes
            ))
            .hint(format!(
                "set local_size to a positive multiple of the patch size {}, prototypes above 0",
                vit.patch
            )));
        }
        let head = || DinoV2Head {
            fc1: LinearConfig::new(vit.width, self.hidden).init(device),
            fc2: LinearConfig::new(self.hidden, self.hidden).init(device),
            fc3: LinearConfig::new(self.hidden, self.bottleneck).init(device),
            prototypes: LinearConfig::new(self.bottleneck, self.prototypes).with_bias(false).init(device),
            batch_norm: self.batch_norm,
        };
        let network = DinoV2Network { encoder: vit.init(device), dino_head: head(), ibot_head: head() };
        let mut learner = DinoV2 {
            student: network.clone(),
            mask_token: Initializer::Zeros.init([1, 1, vit.width], device),
            teacher: network,
            config: self.clone(),
        };
        learner = initialise(learner, INIT, seed);
        learner.teacher = learner.student.valid();
        Ok(learner)
    }
}

impl DinoV2Head {
    /// Returns the cosine similarities of `[rows, width]` with the prototypes, `[rows, prototypes]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let hidden = |x: Tensor<2>| gelu(if self.batch_norm { standardise(x) } else { x });
        let x = hidden(self.fc1.forward(x));
        let x = hidden(self.fc2.forward(x));
        let x = l2_normalise(self.fc3.forward(x));
        let weight = self.prototypes.weight.val();
        let length = weight.clone().square().sum_dim(0).sqrt().clamp_min(1e-12);
        x.matmul(weight / length)
    }
}

impl DinoV2Network {
    /// Returns class tokens `[batch, width]` (the mean of the patches if there is no class token) and patch tokens
    /// `[batch, patches, width]`, both after the final norm. `mask` replaces patch embeddings before the position
    /// embeddings are added; `drop_path` is the drop-path mask.
    fn forward(
        &self,
        pixels: Tensor<4>,
        drop_path: &DropPathMask,
        mask: impl FnOnce(Tensor<3>) -> Tensor<3>,
    ) -> Result<(Tensor<2>, Tensor<3>)> {
        let (patches, grid) = self.encoder.patches(pixels)?;
        let tokens = self.encoder.run_blocks(
            self.encoder.prepare(mask(patches), grid),
            &AttentionPositions::default(),
            drop_path,
        );
        let (class, patches) = self.encoder.split(self.encoder.final_norm(tokens));
        let class = class.unwrap_or_else(|| patches.clone().mean_dim(1).squeeze_dim(1));
        Ok((class, patches))
    }
}

/// The masked patches of the large crops.
struct Mask {
    /// 1 where a patch is masked, else 0, `[crops, patches, 1]`.
    hidden: Tensor<3>,
    /// Indices of the masked patches among the patches of all crops, `[masked]`.
    places: Tensor<1, Int>,
    /// 1 / number of masked patches of the same crop, `[masked]`.
    weights: Tensor<1>,
}

impl Mask {
    fn draw(crops: usize, n: usize, config: &DinoV2Config, device: &Device, stream: &mut Stream) -> Self {
        let [low, high] = config.mask_ratio;
        let (mut hidden, mut places, mut weights) = (vec![0f32; crops * n], Vec::new(), Vec::new());
        for (crop, hidden) in hidden.chunks_exact_mut(n).enumerate() {
            let masked = uniform(stream) < config.mask_probability;
            let ratio = low + (high - low) * uniform(stream);
            let count = ((ratio * n as f64).round() as usize).clamp(1, n);
            // The first crop is always masked, so that every batch has a masked patch.
            if !masked && crop > 0 {
                continue;
            }
            let mut chosen = random_subset(n, count, stream);
            chosen.sort_unstable();
            for place in chosen {
                if let Some(h) = hidden.get_mut(place) {
                    *h = 1.0;
                }
                places.push((crop * n + place) as i64);
                weights.push(1.0 / count as f32);
            }
        }
        let total = places.len();
        Self {
            hidden: Tensor::from_data(TensorData::new(hidden, [crops, n, 1]), device),
            places: Tensor::from_data(TensorData::new(places, [total]), device),
            weights: Tensor::from_data(TensorData::new(weights, [total]), device),
        }
    }
}

impl Learner for DinoV2 {
    fn loss(&self, batch: &PretrainBatch, context: &mut StepContext) -> Result<Loss> {
        let config = &self.config;
        let [count, _, size, _] = batch.pixels.dims();
        let crops = |n: usize, side: usize, scale: [f64; 2], stream: &mut Stream| -> Tensor<4> {
            let mut crop = || {
                let crop = random_crops(batch.pixels.clone(), side, scale, stream);
                colour_jitter(crop, config.jitter, stream)
            };
            Tensor::cat((0..n).map(|_| crop()).collect(), 0)
        };
        let globals = crops(GLOBAL_CROPS, size, config.global_scale, &mut context.stream);
        let patch = self.student.encoder.config().patch;
        let n = (size / patch) * (size / patch);
        let mask = Mask::draw(GLOBAL_CROPS * count, n, config, &globals.device(), &mut context.stream);
        let flat = |patches: Tensor<3>| {
            let [b, n, width] = patches.dims();
            patches.reshape([b * n, width]).select(0, mask.places.clone())
        };

        // The teacher gets unmasked crops and builds no graph.
        let temperature = config.teacher_temperature_at(context.progress());
        let (class, patches) = self.teacher.forward(globals.clone().inner(), &DropPathMask::none(), |x| x)?;
        let places = mask.places.clone().inner();
        let [b, _, width] = patches.dims();
        let hidden = patches.reshape([b * n, width]).select(0, places);
        let class_targets = sinkhorn_knopp(self.teacher.dino_head.forward(class), temperature, 3);
        let patch_targets = sinkhorn_knopp(self.teacher.ibot_head.forward(hidden), temperature, 3);
        let swapped = Tensor::cat(
            (0..GLOBAL_CROPS)
                .rev()
                .map(|view| class_targets.clone().slice([view * count..(view + 1) * count, 0..config.prototypes]))
                .collect(),
            0,
        );

        let encoder = self.student.encoder.config();
        let drop_path = encoder.draw_drop_path(GLOBAL_CROPS * count, &mut context.stream, &globals.device());
        let (student_class, student_patches) = self.student.forward(globals, &drop_path, |patches| {
            patches.clone() + mask.hidden.clone() * (self.mask_token.val() - patches)
        })?;
        let scores = self.student.dino_head.forward(student_class.clone());
        let mut dino = cross_entropy(swapped, scores, config.student_temperature).mean();
        let pairs = GLOBAL_CROPS * (GLOBAL_CROPS - 1);
        if config.locals > 0 {
            let locals = crops(config.locals, config.local_size, config.local_scale, &mut context.stream);
            let drop_path = encoder.draw_drop_path(config.locals * count, &mut context.stream, &locals.device());
            let (class, _) = self.student.forward(locals, &drop_path, |x| x)?;
            let scores = self.student.dino_head.forward(class);
            // The cross entropy is linear in its target, so the mean target replaces a sum over the teacher's views.
            let mean = class_targets.reshape([GLOBAL_CROPS, count, config.prototypes]).mean_dim(0).squeeze_dim::<2>(0);
            let local = cross_entropy(mean.repeat_dim(0, config.locals), scores, config.student_temperature).mean();
            let local_pairs = GLOBAL_CROPS * config.locals;
            dino = (dino * pairs as f64 + local * local_pairs as f64) / (pairs + local_pairs) as f64;
        }

        let scores = self.student.ibot_head.forward(flat(student_patches));
        let ibot = (cross_entropy(patch_targets, scores, config.student_temperature) * mask.weights)
            .sum()
            .div_scalar((GLOBAL_CROPS * count) as f64);

        let mut total = dino.clone() + ibot.clone().mul_scalar(config.ibot_weight);
        let mut parts = vec![("dino", dino.detach()), ("ibot", ibot.detach())];
        if config.koleo_weight > 0.0 && count > 1 {
            let width = self.student.encoder.config().width;
            let views = (0..GLOBAL_CROPS)
                .map(|v| koleo_loss(student_class.clone().slice([v * count..(v + 1) * count, 0..width])));
            if let Some(spread) = views.reduce(|a, b| a + b) {
                parts.push(("koleo", spread.clone().detach()));
                total = total + spread.mul_scalar(config.koleo_weight);
            }
        }
        Ok(Loss { total, parts })
    }

    fn after_step(mut self, context: &StepContext) -> Self {
        self.teacher =
            ema_update(self.teacher, &self.student, cosine_momentum(self.config.momentum, context.progress()));
        self
    }

    /// Returns the teacher, which is the better encoder and the one that DINOv2 publishes.
    fn into_encoder(self) -> Architecture {
        Architecture::Vit(self.teacher.encoder)
    }
}

impl DinoV2Config {
    fn teacher_temperature_at(&self, progress: f64) -> f64 {
        let [start, end] = self.teacher_temperature;
        start + (end - start) * (progress / self.teacher_warmup.max(1e-9)).min(1.0)
    }
}

/// Returns soft assignments of `[rows, prototypes]` scores, balanced so that all prototypes are used equally (Caron et
/// al. 2020, arXiv:2006.09882). Each row of the result sums to one.
pub(super) fn sinkhorn_knopp(scores: Tensor<2>, temperature: f64, rounds: usize) -> Tensor<2> {
    let [rows, prototypes] = scores.dims();
    let highest = scores.clone().max().unsqueeze();
    let mut q = ((scores - highest).div_scalar(temperature)).exp();
    for _ in 0..rounds {
        let per_prototype = q.clone().sum_dim(0).clamp_min(1e-30).mul_scalar(prototypes as f64);
        q = q / per_prototype;
        let per_row = q.clone().sum_dim(1).clamp_min(1e-30).mul_scalar(rows as f64);
        q = q / per_row;
    }
    q.mul_scalar(rows as f64)
}

/// Returns `-Σ target · log softmax(scores / temperature)` of each row, `[rows]`; both inputs are `[rows,
/// prototypes]`.
pub(super) fn cross_entropy(target: Tensor<2>, scores: Tensor<2>, temperature: f64) -> Tensor<1> {
    (log_softmax(scores.div_scalar(temperature), 1) * target).sum_dim(1).neg().squeeze_dim(1)
}

/// Returns the Kozachenko–Leonenko regulariser (Sablayrolles et al. 2019, arXiv:1806.03198): minus the mean logarithm
/// of the distance of each row of `[batch, width]`, scaled to unit length, from its nearest neighbour, `[1]`.
pub(super) fn koleo_loss(x: Tensor<2>) -> Tensor<1> {
    const EPS: f64 = 1e-8;
    let x = l2_normalise(x);
    let [batch, _] = x.dims();
    let fixed = x.clone().inner();
    let own = Tensor::<2>::eye(batch, &fixed.device()).mul_scalar(4.0);
    let nearest = (fixed.clone().matmul(fixed.transpose()) - own).argmax(1).reshape([batch]);
    let neighbour = x.clone().select(0, nearest);
    let distance = (x - neighbour).add_scalar(EPS).square().sum_dim(1).sqrt();
    distance.add_scalar(EPS).log().mean().neg()
}
