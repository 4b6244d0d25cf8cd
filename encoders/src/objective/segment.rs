//! Promptable segmentation after SAM (Kirillov et al. 2023, arXiv:2304.02643): given a point on an instance, a small
//! decoder on the patch features predicts the mask of that instance.
//!
//! As in the paper, positions are encoded as random Fourier features, a two-way transformer connects tokens and
//! patches, two steps of learned upsampling lead to a quarter of the image's side, the mask is the product of a mask
//! token with the upsampled features, and the loss is focal and dice loss at 20 : 1. Unlike in the paper, there is one
//! mask per prompt and no predicted IoU (objects of the nano world have no parts, so a point is not ambiguous), and one
//! point per prompt without rounds of correction.

use super::depth::unpatchify;
use super::{
    DataShape, INIT, Learner, LearnerConfig, Loss, PretrainBatch, RandomCrops, StepContext, Targets, vit_config,
};
use crate::arch::{Activation, Architecture, ArchitectureConfig, AttentionPositions, Mlp, NetworkConfig, Vit};
use crate::attention::{Bias, attend};
use crate::init::{initialise, truncated_normal};
use crate::operands::gelu;
use crate::reduce;
use burgess_base::stream::{Stream, stream, uniform};
use burgess_base::{Error, Result};
use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::{log_sigmoid, sigmoid};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::f64::consts::TAU;

/// Hyper-parameters of segmentation pretraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct SegmentConfig {
    /// Number of point prompts per image. Default 3.
    pub prompts: usize,
    /// Width of the decoder in channels, a multiple of 8. Default 64.
    pub width: usize,
    /// Number of decoder layers. Default 2.
    pub depth: usize,
    /// Number of attention heads of the decoder. Default 4.
    pub heads: usize,
    /// Minimum number of pixels of a prompted instance. Default 12.
    pub smallest: usize,
    /// Weight of the focal loss beside the dice loss. Default 20.
    pub focal_weight: f64,
    /// Area of the random crops as fractions of the image, `[low, high]`. Default 0.7 to 1.
    pub crop: [f64; 2],
}

impl Default for SegmentConfig {
    fn default() -> Self {
        Self { prompts: 3, width: 64, depth: 2, heads: 4, smallest: 12, focal_weight: 20.0, crop: [0.7, 1.0] }
    }
}

/// Cells of a mask along each side of a patch: two steps of upsampling by two.
const UPSAMPLE: usize = 4;

/// An encoder with a mask decoder, trained to segment prompted instances.
#[derive(Module, Debug)]
pub struct Segment {
    encoder: Vit,
    neck: Linear,
    neck_norm: LayerNorm,
    /// Learned embedding of a foreground point, added to its Fourier features, `[1, 1, width]`.
    point_embed: Param<Tensor<3>>,
    /// Mask token, whose output predicts the mask, `[1, 1, width]`.
    mask_token: Param<Tensor<3>>,
    layers: Vec<TwoWayLayer>,
    final_attn: DecoderAttention,
    final_norm: LayerNorm,
    up1: Linear,
    up_norm: LayerNorm,
    up2: Linear,
    hyper: Mlp,
    /// Fixed random frequencies of the Fourier features, `[2, width / 2]`, row-major.
    #[module(skip)]
    frequencies: Vec<f32>,
    #[module(skip)]
    config: SegmentConfig,
}

/// One layer of the two-way transformer: tokens attend to each other and to the patches, the patches attend to the
/// tokens.
#[derive(Module, Debug)]
pub struct TwoWayLayer {
    self_attn: DecoderAttention,
    norm1: LayerNorm,
    to_patches: DecoderAttention,
    norm2: LayerNorm,
    mlp: Mlp,
    norm3: LayerNorm,
    to_tokens: DecoderAttention,
    norm4: LayerNorm,
}

/// Multi-head attention with separate inputs for queries, keys and values.
#[derive(Module, Debug)]
pub struct DecoderAttention {
    q: Linear,
    k: Linear,
    v: Linear,
    proj: Linear,
    heads: usize,
}

impl DecoderAttention {
    fn new(width: usize, heads: usize, device: &Device) -> Self {
        let linear = |bias: bool| LinearConfig::new(width, width).with_bias(bias).init(device);
        // A bias of the keys would add one constant to all scores of a query, which softmax cancels.
        Self { q: linear(true), k: linear(false), v: linear(true), proj: linear(true), heads }
    }

    /// Returns the attention output, `[batch, queries, width]`, for `q` `[batch, queries, width]` and `k` and `v`
    /// `[batch, keys, width]`.
    fn forward(&self, q: Tensor<3>, k: Tensor<3>, v: Tensor<3>) -> Tensor<3> {
        let split = |x: Tensor<3>| -> Tensor<4> {
            let [batch, n, width] = x.dims();
            x.reshape([batch, n, self.heads, width / self.heads]).swap_dims(1, 2)
        };
        let (q, k, v) = (split(self.q.forward(q)), split(self.k.forward(k)), split(self.v.forward(v)));
        self.proj.forward(attend(q, k, v, Bias::None, None))
    }
}

impl TwoWayLayer {
    fn new(width: usize, heads: usize, device: &Device) -> Self {
        let norm = || LayerNormConfig::new(width).init(device);
        let attention = || DecoderAttention::new(width, heads, device);
        Self {
            self_attn: attention(),
            norm1: norm(),
            to_patches: attention(),
            norm2: norm(),
            mlp: Mlp::new(width, 2 * width, width, Activation::Gelu, device),
            norm3: norm(),
            to_tokens: attention(),
            norm4: norm(),
        }
    }

    /// Updates tokens `[batch, tokens, width]` and patches `[batch, patches, width]`. Each comes with its position
    /// encoding, which is added to queries and keys.
    fn forward(
        &self,
        (tokens, token_position): (Tensor<3>, &Tensor<3>),
        (patches, patch_position): (Tensor<3>, &Tensor<3>),
    ) -> (Tensor<3>, Tensor<3>) {
        let q = tokens.clone() + token_position.clone();
        let tokens = self.norm1.forward(tokens.clone() + self.self_attn.forward(q.clone(), q, tokens));
        let (q, k) = (tokens.clone() + token_position.clone(), patches.clone() + patch_position.clone());
        let tokens = self.norm2.forward(tokens + self.to_patches.forward(q, k.clone(), patches.clone()));
        let [batch, count, width] = tokens.dims();
        let changed = self.mlp.forward(tokens.clone().reshape([batch * count, width]));
        let tokens = self.norm3.forward(tokens + changed.reshape([batch, count, width]));
        let q = tokens.clone() + token_position.clone();
        let patches = self.norm4.forward(patches + self.to_tokens.forward(k, q, tokens.clone()));
        (tokens, patches)
    }
}

impl LearnerConfig for SegmentConfig {
    type Learner = Segment;
    const TARGETS: Targets = Targets::INSTANCES;

    fn init(&self, encoder: &ArchitectureConfig, _data: &DataShape, device: &Device, seed: u64) -> Result<Segment> {
        let vit = vit_config(encoder, "segment")?;
        let valid = ![self.prompts, self.width, self.heads].contains(&0)
            && self.width.is_multiple_of(8)
            && self.width.is_multiple_of(self.heads);
        if !valid {
            return Err(Error::usage(format!(
                "invalid hyper-parameters of segment: prompts {}, width {}, heads {}",
                self.prompts, self.width, self.heads
            ))
            .hint("set each of them above 0, and width to a multiple of 8 and of heads"));
        }
        let (width, heads) = (self.width, self.heads);
        let norm = |width: usize| LayerNormConfig::new(width).init(device);
        let token = || Initializer::Zeros.init([1, 1, width], device);
        let (half, fine) = (width / 4, width / 8);
        let segment = Segment {
            encoder: vit.init(device),
            neck: LinearConfig::new(vit.width, width).init(device),
            neck_norm: norm(width),
            point_embed: token(),
            mask_token: token(),
            layers: (0..self.depth).map(|_| TwoWayLayer::new(width, heads, device)).collect(),
            final_attn: DecoderAttention::new(width, heads, device),
            final_norm: norm(width),
            // A transposed convolution whose kernel size equals its stride is a linear layer at each position.
            up1: LinearConfig::new(width, 4 * half).init(device),
            up_norm: norm(half),
            up2: LinearConfig::new(half, 4 * fine).init(device),
            hyper: Mlp::new(width, width, fine, Activation::Gelu, device),
            frequencies: truncated_normal(&mut stream("segment/frequencies", 0), width),
            config: self.clone(),
        };
        Ok(initialise(segment, INIT, seed))
    }
}

impl Learner for Segment {
    fn loss(&self, batch: &PretrainBatch, context: &mut StepContext) -> Result<Loss> {
        let maps = batch.instances()?;
        let [count, _, size, _] = batch.pixels.dims();
        let device = batch.pixels.device();
        let crops = RandomCrops::draw(count, self.config.crop, &mut context.stream);
        let (patches, grid) = self.encoder.patches(crops.resize(batch.pixels.clone(), size))?;
        let cells = grid[0] * UPSAMPLE;

        let map: Vec<i64> = maps.clone().into_data().iter::<i64>().collect();
        let mut prompts = PointPrompts::default();
        for (image, map) in map.chunks_exact(size * size).enumerate() {
            let map = crops.labels(image, map, size, size);
            prompts.draw(&map, size, cells, &self.config, &mut context.stream);
        }

        let tokens = self.encoder.prepare(patches, grid);
        let drop_path = self.encoder.config().draw_drop_path(count, &mut context.stream, &device);
        let tokens = self.encoder.run_blocks(tokens, &AttentionPositions::default(), &drop_path);
        let (_, features) = self.encoder.split(self.encoder.final_norm(tokens));
        let logits = self.decode(features, grid, &prompts.points);

        let total = count * self.config.prompts;
        let logits = logits.reshape([total, cells * cells]);
        let masks = Tensor::<2>::from_data(TensorData::new(prompts.masks, [total, cells * cells]), &device);
        let weights = Tensor::<1>::from_data(TensorData::new(prompts.weights, [total]), &device);
        let weights = weights.clone() / reduce::sum(weights).clamp_min(1.0);
        let overlap = (iou(logits.clone().detach(), masks.clone()) * weights.clone()).sum();
        let focal = (focal_loss(logits.clone(), masks.clone()) * weights.clone()).sum();
        let dice = (dice_loss(logits, masks) * weights).sum();
        Ok(Loss {
            parts: vec![("focal", focal.clone().detach()), ("dice", dice.clone().detach()), ("iou", overlap)],
            total: focal.mul_scalar(self.config.focal_weight) + dice,
        })
    }

    fn into_encoder(self) -> Architecture {
        Architecture::Vit(self.encoder)
    }
}

impl Segment {
    /// Returns mask logits, `[images * prompts, rows * 4, columns * 4]`, for patch features `[images, patches, width]`.
    /// `points` are the prompts, image after image, as (x, y) from 0 to 1.
    fn decode(&self, features: Tensor<3>, grid: [usize; 2], points: &[[f64; 2]]) -> Tensor<3> {
        let (width, prompts) = (self.config.width, self.config.prompts);
        let [images, n, _] = features.dims();
        let device = features.device();
        let total = images * prompts;
        let patches = self.neck_norm.forward(self.neck.forward(features));
        let patches = patches.unsqueeze_dim::<4>(1).expand([images, prompts, n, width]).reshape([total, n, width]);
        let centres: Vec<[f64; 2]> = (0..n)
            .map(|i| {
                let middle = |i: usize, of: usize| (i as f64 + 0.5) / of as f64;
                [middle(i % grid[1], grid[1]), middle(i / grid[1], grid[0])]
            })
            .collect();
        let patch_position = self.fourier_features(&centres, &device).reshape([1, n, width]);
        let point = self.fourier_features(points, &device).reshape([total, 1, width]) + self.point_embed.val();
        let token_position = Tensor::cat(vec![self.mask_token.val().expand([total, 1, width]), point], 1);

        // As in SAM, the tokens start as their position encoding.
        let start = (token_position.clone(), patches);
        let (tokens, patches) = self.layers.iter().fold(start, |(tokens, patches), layer| {
            layer.forward((tokens, &token_position), (patches, &patch_position))
        });
        let (q, k) = (tokens.clone() + token_position, patches.clone() + patch_position);
        let tokens = self.final_norm.forward(tokens + self.final_attn.forward(q, k, patches.clone()));
        let mask = self.hyper.forward(tokens.narrow(1, 0, 1).reshape([total, width]));

        let (half, fine) = (width / 4, width / 8);
        let x = self.up1.forward(patches).reshape([total, n * 4, half]);
        let x = self.up2.forward(gelu(self.up_norm.forward(x))).reshape([total, n * UPSAMPLE * UPSAMPLE, fine]);
        let logits = gelu(x).matmul(mask.reshape([total, fine, 1]));
        // Within a patch, cells are ordered by the quarter, then by the quarter within it.
        let cells: Tensor<6> = logits.reshape([total, n, 2, 2, 2, 2]);
        let cells = cells.permute([0, 1, 2, 4, 3, 5]).reshape([total, n, UPSAMPLE * UPSAMPLE]);
        unpatchify(cells, grid, UPSAMPLE)
    }

    /// Returns the random Fourier features of points, `[points, width]`.
    fn fourier_features(&self, points: &[[f64; 2]], device: &Device) -> Tensor<2> {
        let half = self.config.width / 2;
        let (across, down) = self.frequencies.split_at(half.min(self.frequencies.len()));
        let mut values = Vec::with_capacity(points.len() * 2 * half);
        for [x, y] in points {
            let angle =
                |(a, d): (&f32, &f32)| TAU * ((2.0 * x - 1.0) * f64::from(*a) + (2.0 * y - 1.0) * f64::from(*d));
            values.extend(across.iter().zip(down).map(|f| angle(f).sin() as f32));
            values.extend(across.iter().zip(down).map(|f| angle(f).cos() as f32));
        }
        Tensor::from_data(TensorData::new(values, [points.len(), 2 * half]), device)
    }
}

/// The point prompts of a batch, image after image.
#[derive(Debug, Default)]
struct PointPrompts {
    /// (x, y) of each point, from 0 to 1.
    points: Vec<[f64; 2]>,
    /// 1 where a cell belongs to the instance, else 0, mask after mask.
    masks: Vec<f32>,
    /// 1 for a prompt, 0 where an image has no instance that is large enough.
    weights: Vec<f32>,
}

impl PointPrompts {
    /// Draws the prompts of an image: each is a random pixel of a random instance in `map` (`side * side` labels).
    /// Masks have `cells * cells` cells.
    fn draw(&mut self, map: &[i64], side: usize, cells: usize, config: &SegmentConfig, stream: &mut Stream) {
        let most = map.iter().copied().max().unwrap_or(0).max(0) as usize;
        let mut pixels: Vec<Vec<usize>> = vec![Vec::new(); most];
        for (place, label) in map.iter().enumerate() {
            if let Some(list) = (label - 1).try_into().ok().and_then(|i: usize| pixels.get_mut(i)) {
                list.push(place);
            }
        }
        pixels.retain(|list| list.len() >= config.smallest.max(1));
        let mut below = |n: usize| ((uniform(stream) * n as f64) as usize).min(n.saturating_sub(1));
        // Instances take turns from a random one on, so that all are prompted equally often.
        let first = below(pixels.len());
        for prompt in 0..config.prompts {
            let list = pixels.get((first + prompt) % pixels.len().max(1));
            let place = list.and_then(|list| list.get(below(list.len())));
            let at = |i: usize| (i as f64 + 0.5) / side as f64;
            self.points.push(place.map_or([0.5; 2], |p| [at(p % side), at(p / side)]));
            self.weights.push(if place.is_some() { 1.0 } else { 0.0 });
            self.masks.extend(cells_covered(list.map_or(&[], Vec::as_slice), side, cells));
        }
    }
}

/// Returns the mask, `cells * cells`, of the cells of which at least half of the pixels are in the list; if there is
/// none, of those with the most pixels.
fn cells_covered(pixels: &[usize], side: usize, cells: usize) -> impl Iterator<Item = f32> {
    let mut counts = vec![0usize; cells * cells];
    for place in pixels {
        let cell = (place / side * cells / side) * cells + place % side * cells / side;
        if let Some(count) = counts.get_mut(cell) {
            *count += 1;
        }
    }
    let whole = (side * side) as f64 / (cells * cells) as f64;
    let most = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    let least = (whole / 2.0).min(most);
    counts.into_iter().map(move |count| if count as f64 >= least { 1.0 } else { 0.0 })
}

/// Returns the focal loss (Lin et al. 2017, arXiv:1708.02002; α = 0.25, γ = 2) of logits and masks of 0 and 1, both
/// `[masks, cells]`: the mean over the cells of each mask, `[masks]`.
pub(super) fn focal_loss(logits: Tensor<2>, masks: Tensor<2>) -> Tensor<1> {
    const ALPHA: f64 = 0.25;
    // -y log σ(x) - (1 - y) log σ(-x), with log σ(x) = log σ(-x) + x.
    let entropy = (log_sigmoid(logits.clone().neg()) + logits.clone() * masks.clone()).neg();
    let probability = sigmoid(logits);
    // One minus the probability of the right answer: p + y - 2 p y.
    let wrong = probability.clone() + masks.clone() - (probability * masks.clone()).mul_scalar(2.0);
    let balance = masks.mul_scalar(2.0 * ALPHA - 1.0).add_scalar(1.0 - ALPHA);
    (balance * wrong.square() * entropy).mean_dim(1).squeeze_dim(1)
}

/// Returns the dice loss (Milletari et al. 2016, arXiv:1606.04797) of logits and masks of 0 and 1, both `[masks,
/// cells]`, with one added to numerator and denominator: `[masks]`.
pub(super) fn dice_loss(logits: Tensor<2>, masks: Tensor<2>) -> Tensor<1> {
    let probability = sigmoid(logits);
    let both = (probability.clone() * masks.clone()).sum_dim(1).mul_scalar(2.0).add_scalar(1.0);
    let all = (probability + masks).sum_dim(1).add_scalar(1.0);
    (both / all).neg().add_scalar(1.0).squeeze_dim(1)
}

/// Returns the intersection over union of the cells with positive logits and the masks, both `[masks, cells]`:
/// `[masks]`.
fn iou(logits: Tensor<2>, masks: Tensor<2>) -> Tensor<1> {
    let found = logits.greater_elem(0.0).float();
    let both = (found.clone() * masks.clone()).sum_dim(1);
    let any = (found + masks).sum_dim(1) - both.clone();
    (both / any.clamp_min(1.0)).squeeze_dim(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_lie_on_their_instance_and_masks_are_its_cells() {
        // An 8×8 map: instance 1 is the left half, instance 2 one pixel, instance 3 the lower right quarter.
        let mut map = vec![0i64; 64];
        for (i, label) in map.iter_mut().enumerate() {
            if i % 8 < 4 {
                *label = 1;
            } else if i / 8 >= 4 {
                *label = 3;
            }
        }
        map[7] = 2;
        let config = SegmentConfig { prompts: 4, smallest: 4, ..SegmentConfig::default() };
        let mut prompts = PointPrompts::default();
        prompts.draw(&map, 8, 4, &config, &mut stream("prompts", 0));
        assert_eq!((prompts.points.len(), prompts.masks.len(), prompts.weights), (4, 64, vec![1.0; 4]));
        let mut sizes = Vec::new();
        for ([x, y], mask) in prompts.points.iter().zip(prompts.masks.chunks(16)) {
            let cell = (y * 4.0) as usize * 4 + (x * 4.0) as usize;
            assert_eq!(mask[cell], 1.0, "{x} {y} {mask:?}");
            sizes.push(mask.iter().sum::<f32>() as usize);
        }
        // Both instances are prompted twice; the single pixel is too small.
        sizes.sort_unstable();
        assert_eq!(sizes, [4, 4, 8, 8]);

        let mut none = PointPrompts::default();
        none.draw(&[0; 64], 8, 4, &config, &mut stream("prompts", 1));
        assert_eq!((none.weights, none.masks.iter().sum::<f32>()), (vec![0.0; 4], 0.0));
        // A thin instance has the cells that it covers most.
        assert_eq!(cells_covered(&[0, 1, 16], 8, 2).collect::<Vec<_>>(), [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn iou_counts_cells() {
        let device = Device::flex();
        let logits = Tensor::<2>::from_data([[1.0, 1.0, -1.0, -1.0], [-1.0, -1.0, -1.0, -1.0]], &device);
        let masks = Tensor::<2>::from_data([[1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]], &device);
        let found: Vec<f32> = iou(logits, masks).into_data().iter().collect();
        assert!((found[0] - 1.0 / 3.0).abs() < 1e-6 && found[1] == 0.0);
    }
}
