//! DINOv2 (Oquab et al. 2024, arXiv:2304.07193): a student agrees with a slowly following teacher about the whole
//! image across crops (DINO), and about hidden patches (iBOT); KoLeo spreads the images out.
//!
//! Sized for the nano encoders, from the paper's section 4: separate heads for the two losses, teacher outputs balanced
//! by Sinkhorn–Knopp (three rounds), teacher temperature warmed up, teacher momentum raised by a cosine. Unlike the
//! original, masks are single random patches instead of blocks, the last layer is not frozen at the start, an encoder
//! without class token is read at the mean of its patches, and of the augmentations there are crops and colour jitter
//! only: no flips (the nano world asks which way things face), no blur, no solarisation.

use super::average::{follow, rising};
use super::jitter::colour_jitter;
use super::mae::choose;
use super::{
    Batch, DataShape, INIT, Learner, LearnerConfig, Loss, Moment, Targets, normalise, random_crops, vit_config,
};
use crate::arch::{Architecture, ArchitectureConfig, AttentionPositions, DropPathMask, NetworkConfig, Vit};
use crate::init::initialise;
use burgess_base::stream::{Stream, uniform};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::activation::{gelu, log_softmax};
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Large crops per image: the student's two views, and what the teacher sees.
const GLOBALS: usize = 2;

/// The numbers of DINOv2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DinoV2Config {
    /// Prototypes of each head. Default 512.
    pub prototypes: usize,
    /// Channels inside the heads. Default 256.
    pub hidden: usize,
    /// Channels before the prototypes. Default 64.
    pub bottleneck: usize,
    /// Small crops per image. Default 2.
    pub locals: usize,
    /// Side of a small crop in pixels, a multiple of the patch. Default 48.
    pub local_size: usize,
    /// Area of the large crops. Default 0.4 to 1.
    pub global_scale: [f64; 2],
    /// Area of the small crops. Default 0.1 to 0.4.
    pub local_scale: [f64; 2],
    /// Temperature of the student. Default 0.1.
    pub student_temperature: f64,
    /// Temperature of the teacher at the start and after its warm-up. Default 0.04 to 0.07.
    pub teacher_temperature: [f64; 2],
    /// Fraction of the training over which the teacher's temperature rises. Default 0.3.
    pub teacher_warmup: f64,
    /// Weight of the old teacher in each update at the start; it rises to 1. Default 0.99.
    pub momentum: f64,
    /// Fraction of a large crop's patches that is hidden, when any are. Default 0.1 to 0.5.
    pub mask_ratio: [f64; 2],
    /// Fraction of the large crops in which patches are hidden. Default 0.5.
    pub mask_probability: f64,
    /// Weight of the masked patch prediction. Default 1.
    pub ibot_weight: f64,
    /// Weight of the spreading term; 0 leaves it out. Default 0.1.
    pub koleo_weight: f64,
    /// Strength of the colour jitter of each crop, 0 for none. Default 0.5: without it crops agree on their colours,
    /// and shapes need not be learned.
    pub jitter: f64,
}

impl Default for DinoV2Config {
    fn default() -> Self {
        Self {
            prototypes: 512,
            hidden: 256,
            bottleneck: 64,
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

/// An encoder learning from its own slowly moving average.
#[derive(Module, Debug)]
pub struct DinoV2 {
    student: Network,
    /// Stands where a patch is hidden, `[1, 1, width]`.
    mask_token: Param<Tensor<3>>,
    /// Follows the student; not a parameter, so no gradient and no optimiser ever reaches it.
    #[module(skip)]
    teacher: Network,
    #[module(skip)]
    config: DinoV2Config,
}

/// An encoder with its two heads.
#[derive(Module, Debug)]
pub struct Network {
    encoder: Vit,
    dino_head: Head,
    ibot_head: Head,
}

/// From tokens to scores of prototypes: three layers, unit length, then cosines with the prototypes.
#[derive(Module, Debug)]
pub struct Head {
    fc1: Linear,
    fc2: Linear,
    fc3: Linear,
    /// `[bottleneck, prototypes]`; its columns are brought to unit length where they are used (weight norm with
    /// the length fixed at one).
    prototypes: Linear,
}

impl LearnerConfig for DinoV2Config {
    type Learner = DinoV2;
    const TARGETS: Targets = Targets::NONE;

    fn init(&self, encoder: &ArchitectureConfig, _data: &DataShape, device: &Device, seed: u64) -> Result<DinoV2> {
        let vit = vit_config(encoder, "dinov2")?;
        if !self.local_size.is_multiple_of(vit.patch) || self.local_size == 0 || self.prototypes == 0 {
            return Err(Error::usage(format!(
                "dinov2 cannot train this encoder with local_size {} and {} prototypes",
                self.local_size, self.prototypes
            ))
            .hint("it needs prototypes, and small crops whose side is a multiple of the patch"));
        }
        let head = || Head {
            fc1: LinearConfig::new(vit.width, self.hidden).init(device),
            fc2: LinearConfig::new(self.hidden, self.hidden).init(device),
            fc3: LinearConfig::new(self.hidden, self.bottleneck).init(device),
            prototypes: LinearConfig::new(self.bottleneck, self.prototypes).with_bias(false).init(device),
        };
        let network = Network { encoder: vit.init(device), dino_head: head(), ibot_head: head() };
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

impl Head {
    /// `[rows, width]` to cosines with the prototypes, `[rows, prototypes]`.
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = gelu(self.fc1.forward(x));
        let x = gelu(self.fc2.forward(x));
        let x = normalise(self.fc3.forward(x));
        let weight = self.prototypes.weight.val();
        let length = weight.clone().square().sum_dim(0).sqrt().clamp_min(1e-12);
        x.matmul(weight / length)
    }
}

impl Network {
    /// Normed class tokens `[batch, width]` (the mean of the patches where there is no class token) and patch tokens
    /// `[batch, patches, width]`; `hide` replaces patch embeddings before the positions are added, `drop_path` leaves
    /// branches out.
    fn forward(
        &self,
        pixels: Tensor<4>,
        drop_path: &DropPathMask,
        hide: impl FnOnce(Tensor<3>) -> Tensor<3>,
    ) -> Result<(Tensor<2>, Tensor<3>)> {
        let (patches, grid) = self.encoder.patches(pixels)?;
        let tokens = self.encoder.run_blocks(
            self.encoder.prepare(hide(patches), grid),
            &AttentionPositions::default(),
            drop_path,
        );
        let (class, patches) = self.encoder.split(self.encoder.final_norm(tokens));
        let class = class.unwrap_or_else(|| patches.clone().mean_dim(1).squeeze_dim(1));
        Ok((class, patches))
    }
}

/// The hidden patches of the large crops.
struct Mask {
    /// One where a patch is hidden, `[crops, patches, 1]`.
    hidden: Tensor<3>,
    /// Their places among all patches, `[hidden]`.
    places: Tensor<1, Int>,
    /// One over the number of hidden patches of the same crop, `[hidden]`.
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
            // The first crop is always masked, so that no batch is without a hidden patch.
            if !masked && crop > 0 {
                continue;
            }
            let mut chosen = choose(n, count, stream);
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
    fn loss(&self, batch: &Batch, moment: &mut Moment) -> Result<Loss> {
        let config = &self.config;
        let [count, _, size, _] = batch.pixels.dims();
        let crops = |n: usize, side: usize, scale: [f64; 2], stream: &mut Stream| -> Tensor<4> {
            let mut crop = || {
                let crop = random_crops(batch.pixels.clone(), side, scale, stream);
                colour_jitter(crop, config.jitter, stream)
            };
            Tensor::cat((0..n).map(|_| crop()).collect(), 0)
        };
        let globals = crops(GLOBALS, size, config.global_scale, &mut moment.stream);
        let patch = self.student.encoder.config().patch;
        let n = (size / patch) * (size / patch);
        let mask = Mask::draw(GLOBALS * count, n, config, &globals.device(), &mut moment.stream);
        let flat = |patches: Tensor<3>| {
            let [b, n, width] = patches.dims();
            patches.reshape([b * n, width]).select(0, mask.places.clone())
        };

        // The teacher sees everything and builds no graph.
        let temperature = config.teacher_temperature_at(moment.progress());
        let (class, patches) = self.teacher.forward(globals.clone().inner(), &DropPathMask::none(), |x| x)?;
        let places = mask.places.clone().inner();
        let [b, _, width] = patches.dims();
        let hidden = patches.reshape([b * n, width]).select(0, places);
        let class_targets = sinkhorn_knopp(self.teacher.dino_head.forward(class), temperature, 3);
        let patch_targets = sinkhorn_knopp(self.teacher.ibot_head.forward(hidden), temperature, 3);
        let swapped = Tensor::cat(
            (0..GLOBALS)
                .rev()
                .map(|view| class_targets.clone().slice([view * count..(view + 1) * count, 0..config.prototypes]))
                .collect(),
            0,
        );

        let encoder = self.student.encoder.config();
        let drop_path = encoder.draw_drop_path(GLOBALS * count, &mut moment.stream, &globals.device());
        let (student_class, student_patches) = self.student.forward(globals, &drop_path, |patches| {
            patches.clone() + mask.hidden.clone() * (self.mask_token.val() - patches)
        })?;
        let scores = self.student.dino_head.forward(student_class.clone());
        let mut dino = cross_entropy(swapped, scores, config.student_temperature).mean();
        let pairs = GLOBALS * (GLOBALS - 1);
        if config.locals > 0 {
            let locals = crops(config.locals, config.local_size, config.local_scale, &mut moment.stream);
            let drop_path = encoder.draw_drop_path(config.locals * count, &mut moment.stream, &locals.device());
            let (class, _) = self.student.forward(locals, &drop_path, |x| x)?;
            let scores = self.student.dino_head.forward(class);
            // The cross entropy is linear in its target, so all views of the teacher at once are their mean.
            let mean = class_targets.reshape([GLOBALS, count, config.prototypes]).mean_dim(0).squeeze_dim::<2>(0);
            let local = cross_entropy(mean.repeat_dim(0, config.locals), scores, config.student_temperature).mean();
            let local_pairs = GLOBALS * config.locals;
            dino = (dino * pairs as f64 + local * local_pairs as f64) / (pairs + local_pairs) as f64;
        }

        let scores = self.student.ibot_head.forward(flat(student_patches));
        let ibot = (cross_entropy(patch_targets, scores, config.student_temperature) * mask.weights)
            .sum()
            .div_scalar((GLOBALS * count) as f64);

        let mut total = dino.clone() + ibot.clone().mul_scalar(config.ibot_weight);
        let mut parts = vec![("dino", dino.detach()), ("ibot", ibot.detach())];
        if config.koleo_weight > 0.0 && count > 1 {
            let width = self.student.encoder.config().width;
            let views =
                (0..GLOBALS).map(|v| koleo(student_class.clone().slice([v * count..(v + 1) * count, 0..width])));
            if let Some(spread) = views.reduce(|a, b| a + b) {
                parts.push(("koleo", spread.clone().detach()));
                total = total + spread.mul_scalar(config.koleo_weight);
            }
        }
        Ok(Loss { total, parts })
    }

    fn after_step(mut self, moment: &Moment) -> Self {
        self.teacher = follow(self.teacher, &self.student, rising(self.config.momentum, moment.progress()));
        self
    }

    /// The teacher: its average over steps is the better encoder, and the one DINOv2 publishes.
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

/// Soft assignments of `[rows, prototypes]` scores, balanced so that all prototypes are used equally (Caron et al.
/// 2020, arXiv:2006.09882). Each row of the result sums to one.
pub fn sinkhorn_knopp(scores: Tensor<2>, temperature: f64, rounds: usize) -> Tensor<2> {
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

/// `-Σ target · log softmax(scores / temperature)` of each row: `[rows, prototypes]` twice to `[rows]`.
pub fn cross_entropy(target: Tensor<2>, scores: Tensor<2>, temperature: f64) -> Tensor<1> {
    (log_softmax(scores.div_scalar(temperature), 1) * target).sum_dim(1).neg().squeeze_dim(1)
}

/// The Kozachenko–Leonenko spreading term (Sablayrolles et al. 2019, arXiv:1806.03198): minus the mean logarithm of
/// the distance of each row `[batch, width]`, brought to unit length, from its nearest neighbour. A single number.
pub fn koleo(x: Tensor<2>) -> Tensor<1> {
    const EPS: f64 = 1e-8;
    let x = normalise(x);
    let [batch, _] = x.dims();
    let fixed = x.clone().inner();
    let own = Tensor::<2>::eye(batch, &fixed.device()).mul_scalar(4.0);
    let nearest = (fixed.clone().matmul(fixed.transpose()) - own).argmax(1).reshape([batch]);
    let neighbour = x.clone().select(0, nearest);
    let distance = (x - neighbour).add_scalar(EPS).square().sum_dim(1).sqrt();
    distance.add_scalar(EPS).log().mean().neg()
}
