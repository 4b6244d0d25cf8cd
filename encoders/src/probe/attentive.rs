//! The attentive probe: one learned query attends to the patch tokens, and a linear classifier reads the pooled values.
//!
//! The head is the `AttentionPoolingClassifier` of AIM (arXiv:2401.08541), with one query: tokens are standardised per
//! channel (its batch norm in evaluation), keys and values are linear without bias, the heads' outputs are
//! concatenated, and the classifier has no bias. It is trained by AdamW with a cosine schedule in double precision;
//! the learning rate is chosen on a validation part of the training images.

use super::largest;
use burgess_base::stream::{Stream, normal_pair, stream, uniform};
use burgess_base::{Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Added to variances before their square root, as in AIM's batch norm.
const EPSILON: f64 = 1e-6;
/// Standard deviation of the query's initial values.
const QUERY_STD: f64 = 0.02;
/// Decay rates of AdamW's moments.
const BETAS: [f64; 2] = [0.9, 0.999];
/// Number of images whose gradients are summed by one thread.
const CHUNK: usize = 8;

/// Labelled images with the tokens of each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenSamples {
    /// Tokens, `[labels.len(), tokens, width]`, row-major.
    pub values: Vec<f32>,
    /// Number of tokens of an image.
    pub tokens: usize,
    /// Number of channels.
    pub width: usize,
    /// Class of each image; the first class is 0.
    pub labels: Vec<usize>,
}

impl TokenSamples {
    fn image(&self, index: usize) -> &[f32] {
        let length = self.tokens * self.width;
        &self.values[index * length..(index + 1) * length]
    }

    fn check(&self, what: &str, classes: usize) -> Result<()> {
        let (n, length) = (self.labels.len(), self.tokens * self.width);
        if n == 0 || length == 0 || self.values.len() != n * length {
            return Err(Error::failed(format!(
                "the {what} data have {} values for {n} images of {} tokens and width {}",
                self.values.len(),
                self.tokens,
                self.width
            )));
        }
        if let Some(label) = self.labels.iter().find(|label| **label >= classes) {
            return Err(Error::failed(format!("a {what} label is {label}, must be below {classes}")));
        }
        match self.values.iter().position(|v| !v.is_finite()) {
            Some(at) => Err(Error::failed(format!("{what} image {} has a feature that is not finite", at / length))),
            None => Ok(()),
        }
    }
}

/// Hyper-parameters of the attentive probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttentiveConfig {
    /// Number of attention heads; reduced to the largest divisor of the width that is not above it.
    pub heads: usize,
    /// Candidates for the learning rate.
    pub lr: Vec<f64>,
    /// Decoupled weight decay of AdamW.
    pub weight_decay: f64,
    /// Number of passes over the training images.
    pub epochs: usize,
    /// Number of images of a step.
    pub batch: usize,
    /// Fraction of the training images on which the learning rate is chosen.
    pub validation: f64,
    /// Seed of the initial values, of the order of images and of the validation images.
    pub seed: u64,
}

impl Default for AttentiveConfig {
    fn default() -> Self {
        Self { heads: 4, lr: vec![1e-3, 4e-3], weight_decay: 0.05, epochs: 20, batch: 32, validation: 0.2, seed: 0 }
    }
}

/// The parameters of the probe, and in the same form their gradients.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AttentiveParameters {
    /// The query, `[width]`: the heads' queries one after another.
    pub query: Vec<f64>,
    /// Key projection, `[width, width]`: output, then input.
    pub key: Vec<f64>,
    /// Value projection, `[width, width]`.
    pub value: Vec<f64>,
    /// Classifier, `[classes, width]`.
    pub classifier: Vec<f64>,
}

impl AttentiveParameters {
    fn zeros(width: usize, classes: usize) -> Self {
        let square = vec![0.0; width * width];
        Self { query: vec![0.0; width], key: square.clone(), value: square, classifier: vec![0.0; classes * width] }
    }

    /// Initial values as PyTorch's: the query normal, matrices uniform in ±1/√width.
    fn initial(width: usize, classes: usize, s: &mut Stream) -> Self {
        let mut new = Self::zeros(width, classes);
        for pair in new.query.chunks_mut(2) {
            pair.iter_mut().zip(normal_pair(s)).for_each(|(v, drawn)| *v = QUERY_STD * drawn);
        }
        let bound = 1.0 / (width as f64).sqrt();
        for v in new.key.iter_mut().chain(&mut new.value).chain(&mut new.classifier) {
            *v = bound * (2.0 * uniform(s) - 1.0);
        }
        new
    }

    fn parts(&mut self) -> [&mut Vec<f64>; 4] {
        [&mut self.query, &mut self.key, &mut self.value, &mut self.classifier]
    }

    fn add(&mut self, other: &Self) {
        let theirs = [&other.query, &other.key, &other.value, &other.classifier];
        for (ours, theirs) in self.parts().into_iter().zip(theirs) {
            ours.iter_mut().zip(theirs).for_each(|(a, b)| *a += b);
        }
    }
}

/// The probe with the statistics of its training tokens.
#[derive(Debug, Clone)]
pub(super) struct AttentiveProbe {
    pub parameters: AttentiveParameters,
    pub mean: Vec<f64>,
    /// 1 / √(variance + ε).
    pub factor: Vec<f64>,
    pub heads: usize,
    pub classes: usize,
}

/// What the forward pass of an image keeps for its gradient.
struct Activations {
    /// Standardised tokens, `[tokens, width]`.
    x: Vec<f64>,
    /// Attention weights, `[heads, tokens]`.
    weights: Vec<f64>,
    /// Tokens pooled by each head, `[heads, width]`.
    pooled: Vec<f64>,
    /// Values of the pooled tokens, `[width]`.
    joined: Vec<f64>,
    /// Scores of the classes.
    logits: Vec<f64>,
}

impl AttentiveProbe {
    fn width(&self) -> usize {
        self.mean.len()
    }

    /// Each head's query in the space of tokens: Wₖᵀq / √(width of a head), `[heads, width]`. A token's score is
    /// its inner product with it.
    fn queries(&self) -> Vec<f64> {
        let (d, h) = (self.width(), self.heads);
        let of_head = d / h;
        let scale = 1.0 / (of_head as f64).sqrt();
        let mut out = vec![0.0; h * d];
        for (i, q) in self.parameters.query.iter().enumerate() {
            let row = &self.parameters.key[i * d..(i + 1) * d];
            let head = i / of_head;
            out[head * d..(head + 1) * d].iter_mut().zip(row).for_each(|(u, k)| *u += scale * q * k);
        }
        out
    }

    fn forward(&self, image: &[f32], queries: &[f64]) -> Activations {
        let (d, h) = (self.width(), self.heads);
        let of_head = d / h;
        let standardise = |token: &[f32]| -> Vec<f64> {
            token.iter().zip(&self.mean).zip(&self.factor).map(|((v, m), f)| (f64::from(*v) - m) * f).collect()
        };
        let x: Vec<f64> = image.chunks_exact(d).flat_map(standardise).collect();
        let tokens = x.len() / d;
        let (mut weights, mut pooled, mut joined) =
            (Vec::with_capacity(h * tokens), vec![0.0; h * d], Vec::with_capacity(d));
        for head in 0..h {
            let query = &queries[head * d..(head + 1) * d];
            let scores: Vec<f64> = x.chunks_exact(d).map(|token| dot(token, query)).collect();
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let raised: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
            let total: f64 = raised.iter().sum();
            let pooled = &mut pooled[head * d..(head + 1) * d];
            for (token, e) in x.chunks_exact(d).zip(&raised) {
                let weight = e / total;
                weights.push(weight);
                pooled.iter_mut().zip(token).for_each(|(p, t)| *p += weight * t);
            }
            // The weights sum to 1, so the value of the pooled token is the pooled value.
            let rows = self.parameters.value.chunks_exact(d).skip(head * of_head).take(of_head);
            joined.extend(rows.map(|row| dot(row, pooled)));
        }
        let logits = self.parameters.classifier.chunks_exact(d).map(|row| dot(row, &joined)).collect();
        Activations { x, weights, pooled, joined, logits }
    }

    /// Adds the gradient of an image's cross-entropy to `out`, and with respect to the heads' queries to `to_queries`;
    /// returns the loss.
    fn backward(&self, a: &Activations, label: usize, out: &mut AttentiveParameters, to_queries: &mut [f64]) -> f64 {
        let (d, h) = (self.width(), self.heads);
        let of_head = d / h;
        let tokens = a.x.len() / d;
        let most = a.logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = a.logits.iter().map(|l| (l - most).exp()).sum();
        let mut to_joined = vec![0.0; d];
        for (class, logit) in a.logits.iter().enumerate() {
            let g = (logit - most).exp() / total - f64::from(u8::from(class == label));
            let rows = class * d..(class + 1) * d;
            out.classifier[rows.clone()].iter_mut().zip(&a.joined).for_each(|(w, z)| *w += g * z);
            to_joined.iter_mut().zip(&self.parameters.classifier[rows]).for_each(|(t, w)| *t += g * w);
        }
        for head in 0..h {
            let pooled = &a.pooled[head * d..(head + 1) * d];
            let mut to_pooled = vec![0.0; d];
            for (i, g) in to_joined.iter().enumerate().skip(head * of_head).take(of_head) {
                out.value[i * d..(i + 1) * d].iter_mut().zip(pooled).for_each(|(w, p)| *w += g * p);
                to_pooled.iter_mut().zip(&self.parameters.value[i * d..(i + 1) * d]).for_each(|(t, w)| *t += g * w);
            }
            let weights = &a.weights[head * tokens..(head + 1) * tokens];
            let to_weights: Vec<f64> = a.x.chunks_exact(d).map(|token| dot(token, &to_pooled)).collect();
            let mean = dot(weights, &to_weights);
            let query = &mut to_queries[head * d..(head + 1) * d];
            for ((token, weight), g) in a.x.chunks_exact(d).zip(weights).zip(&to_weights) {
                let to_score = weight * (g - mean);
                query.iter_mut().zip(token).for_each(|(q, t)| *q += to_score * t);
            }
        }
        most + total.ln() - a.logits.get(label).copied().unwrap_or(0.0)
    }

    /// Mean cross-entropy of some images, and its gradient.
    pub fn gradient(&self, samples: &TokenSamples, images: &[usize]) -> (f64, AttentiveParameters) {
        let (d, h) = (self.width(), self.heads);
        let of_head = d / h;
        let queries = self.queries();
        let zeros = || (0.0, AttentiveParameters::zeros(d, self.classes), vec![0.0; h * d]);
        let parts: Vec<_> = images
            .par_chunks(CHUNK)
            .map(|chunk| {
                let (mut loss, mut out, mut to_queries) = zeros();
                for &i in chunk {
                    let activations = self.forward(samples.image(i), &queries);
                    loss += self.backward(&activations, samples.labels[i], &mut out, &mut to_queries);
                }
                (loss, out, to_queries)
            })
            .collect();
        // The order of summation must not depend on the threads.
        let (mut loss, mut sum, mut to_queries) = zeros();
        for (part_loss, part, part_queries) in &parts {
            loss += part_loss;
            sum.add(part);
            to_queries.iter_mut().zip(part_queries).for_each(|(a, b)| *a += b);
        }
        let scale = 1.0 / (of_head as f64).sqrt();
        for i in 0..d {
            let (head, row) = (i / of_head, i * d..(i + 1) * d);
            let g = &to_queries[head * d..(head + 1) * d];
            sum.query[i] += scale * dot(&self.parameters.key[row.clone()], g);
            let q = self.parameters.query[i];
            sum.key[row].iter_mut().zip(g).for_each(|(k, g)| *k += scale * q * g);
        }
        let n = images.len().max(1) as f64;
        sum.parts().into_iter().flatten().for_each(|v| *v /= n);
        (loss / n, sum)
    }

    /// Scores of the classes for one image.
    #[cfg(test)]
    pub fn logits(&self, image: &[f32]) -> Vec<f64> {
        self.forward(image, &self.queries()).logits
    }

    /// Number of images that are classified correctly.
    fn correct(&self, samples: &TokenSamples, images: &[usize]) -> usize {
        let queries = self.queries();
        let right = |i: &&usize| largest(&self.forward(samples.image(**i), &queries).logits) == samples.labels[**i];
        images.par_iter().filter(right).count()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Mean and 1 / √(variance + ε) of each channel over the tokens of some images.
pub(super) fn statistics(samples: &TokenSamples, images: &[usize]) -> (Vec<f64>, Vec<f64>) {
    let (d, n) = (samples.width, (images.len() * samples.tokens) as f64);
    let tokens = || images.iter().flat_map(|&i| samples.image(i).chunks_exact(d));
    let mut mean = vec![0.0; d];
    tokens().for_each(|t| mean.iter_mut().zip(t).for_each(|(m, v)| *m += f64::from(*v) / n));
    let mut variance = vec![0.0; d];
    for token in tokens() {
        for ((sum, v), m) in variance.iter_mut().zip(token).zip(&mean) {
            *sum += (f64::from(*v) - m).powi(2) / n;
        }
    }
    (mean, variance.into_iter().map(|v| 1.0 / (v + EPSILON).sqrt()).collect())
}

/// Trains on some images of `samples`.
fn fit(samples: &TokenSamples, images: &[usize], classes: usize, lr: f64, config: &AttentiveConfig) -> AttentiveProbe {
    let (mean, factor) = statistics(samples, images);
    let mut s = stream("probe/attentive", config.seed);
    let width = samples.width;
    let heads = (1..=config.heads.clamp(1, width)).rev().find(|h| width.is_multiple_of(*h)).unwrap_or(1);
    let parameters = AttentiveParameters::initial(width, classes, &mut s);
    let mut probe = AttentiveProbe { parameters, mean, factor, heads, classes };
    let (mut first, mut second) =
        (AttentiveParameters::zeros(width, classes), AttentiveParameters::zeros(width, classes));
    let mut order = images.to_vec();
    let batch = config.batch.max(1);
    let steps = config.epochs * order.len().div_ceil(batch);
    let mut step = 0;
    for _ in 0..config.epochs {
        for i in (1..order.len()).rev() {
            order.swap(i, (uniform(&mut s) * (i + 1) as f64) as usize);
        }
        for images in order.chunks(batch) {
            let (_, mut gradient) = probe.gradient(samples, images);
            let now = lr * 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos());
            step += 1;
            let correction = BETAS.map(|beta| 1.0 - beta.powi(step));
            let moments = first.parts().into_iter().zip(second.parts());
            let all = probe.parameters.parts().into_iter().zip(gradient.parts()).zip(moments);
            for ((weights, gradient), (first, second)) in all {
                for (((w, g), m), v) in weights.iter_mut().zip(gradient.iter()).zip(first).zip(second) {
                    *m = BETAS[0] * *m + (1.0 - BETAS[0]) * g;
                    *v = BETAS[1] * *v + (1.0 - BETAS[1]) * g * g;
                    *w -= now * config.weight_decay * *w;
                    *w -= now * (*m / correction[0]) / ((*v / correction[1]).sqrt() + 1e-8);
                }
            }
        }
    }
    probe
}

/// Trains the attentive probe on `train` and returns the number of images of `test` that it classifies correctly;
/// labels are below `classes`.
///
/// # Errors
/// There are no images or no learning rates, lengths do not agree, a value is not finite, or a label is out of range.
pub fn run_attentive(
    train: &TokenSamples,
    test: &TokenSamples,
    classes: usize,
    config: &AttentiveConfig,
) -> Result<usize> {
    train.check("training", classes)?;
    test.check("test", classes)?;
    if (train.tokens, train.width) != (test.tokens, test.width) {
        return Err(Error::failed(format!(
            "training images have {} tokens of width {}, test images have {} of width {}",
            train.tokens, train.width, test.tokens, test.width
        )));
    }
    let chosen =
        |image: &usize| uniform(&mut stream(&format!("probe/validation/{image}"), config.seed)) < config.validation;
    let (held, rest): (Vec<usize>, Vec<usize>) = (0..train.labels.len()).partition(chosen);
    let Some(mut best) = config.lr.first().copied() else {
        return Err(Error::failed("the attentive probe has no learning rate to choose from"));
    };
    if config.lr.len() > 1 && !held.is_empty() && !rest.is_empty() {
        let mut most = None;
        for &lr in &config.lr {
            let right = fit(train, &rest, classes, lr, config).correct(train, &held);
            if most.is_none_or(|most| right > most) {
                (best, most) = (lr, Some(right));
            }
        }
    }
    let all: Vec<usize> = (0..train.labels.len()).collect();
    let tested: Vec<usize> = (0..test.labels.len()).collect();
    Ok(fit(train, &all, classes, best, config).correct(test, &tested))
}
