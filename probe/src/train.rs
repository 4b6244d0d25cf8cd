//! Training one stage: batches → loss → gradients → optimiser.

use crate::data::{Example, collate};
use crate::llm::kernel;
use crate::mllm::{Mllm, Sequence, Visual};
use crate::optimiser::{Optimiser, StepSettings};
use crate::recipe::{Part, Stage};
use burgess_base::stream::{Stream, stream as named};
use burgess_base::{Error, Result};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Where the pictures of a batch come from: cached features, or pixels for encoders that are trained.
pub trait FeatureSource: Sync {
    /// The pictures with these indices, in this order.
    ///
    /// # Errors
    /// When one cannot be had.
    fn batch(&self, images: &[usize], device: &Device) -> Result<Visual>;
}

/// One line of `train.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepLog {
    /// `align`, `tune` or `pretrain`.
    pub stage: String,
    /// From 1.
    pub step: usize,
    /// Of how many.
    pub steps: usize,
    /// Mean cross-entropy over the learned tokens, in nats.
    pub loss: f64,
    /// Largest learning rate in this step.
    pub lr: f64,
    /// Norm of the whole gradient before clipping.
    pub grad_norm: f64,
    /// Positions read in this step, padding included.
    pub tokens: usize,
    /// Wall time of this step.
    pub seconds: f64,
}

/// How a stage ended.
#[derive(Debug)]
pub enum Outcome<M> {
    /// All steps were taken.
    Done(M),
    /// The caller asked to stop; nothing is kept.
    Interrupted,
}

/// What [`train_stage`] needs besides model and data.
pub struct Run<'a> {
    /// Name of the stage: in the log, and of the random stream that orders the examples.
    pub name: &'a str,
    /// Its settings.
    pub stage: &'a Stage,
    /// Seed of the order.
    pub seed: u64,
    /// Device to train on (not the differentiating one: that is made from it).
    pub device: &'a Device,
    /// Called after every step.
    pub on_step: &'a mut dyn FnMut(&StepLog),
    /// Asked before every step; true ends the stage.
    pub stop: &'a dyn Fn() -> bool,
}

/// Trains `model` (on a plain device) on `examples` and returns it on a plain device.
///
/// Parts that the stage does not train are frozen: no gradient of their parameters is computed, and where
/// nothing trained lies behind an activation its gradient is not computed either.
///
/// # Errors
/// When the stage is malformed, there are no examples, one is longer than the model's positions, a feature cannot be
/// had, or the loss is no number (the step is named).
pub fn train_stage(
    model: Mllm,
    examples: &[Example],
    features: &dyn FeatureSource,
    run: &mut Run,
) -> Result<Outcome<Mllm>> {
    let stage = run.stage;
    stage.check()?;
    let learned = examples.iter().any(|e| e.learned.iter().skip(1).any(|l| *l));
    if !learned {
        return Err(Error::failed(format!("stage {}: no example has an answer to learn", run.name)));
    }
    if stage.trains(Part::Encoder) && model.encoders.is_empty() {
        return Err(Error::usage(format!("stage {}: `encoder` is trainable, but the model has none", run.name))
            .hint("unfreeze the encoder in the arm, or leave `encoder` out of `trainable`"));
    }
    let device = run.device.clone().autodiff();
    let mut model = prepare(model, stage);
    let mut optimiser = Optimiser::new(stage.optimiser, stage.betas);
    let total = stage.total_steps(examples.len());
    let lengths: Vec<usize> = examples.iter().map(|e| e.ids.len()).collect();
    let stream = format!("train/{}", run.name);
    let mut batches = Vec::new();
    let mut epoch = 0;
    for step in 0..total {
        if (run.stop)() {
            return Ok(Outcome::Interrupted);
        }
        let clock = Instant::now();
        if batches.is_empty() {
            batches = collate::epoch(&lengths, stage.batch, stage.order, &stream, run.seed, epoch);
            batches.reverse();
            epoch += 1;
        }
        let chosen: Vec<&Example> = batches.pop().unwrap_or_default().iter().filter_map(|&i| examples.get(i)).collect();
        // Frozen encoders leave nothing out.
        let trains = stage.trains(Part::Encoder);
        let mut draws = trains.then(|| named(&format!("{stream}/drop-path/step-{step}"), run.seed));
        let Some((loss, tokens)) = batch_loss(&model, &chosen, features, draws.as_mut(), &device)? else {
            continue;
        };
        let gradients = loss.backward();
        let value = loss.inner().try_into_scalar::<f32>().map_err(|e| Error::failed(e.to_string()))?;
        if !value.is_finite() {
            return Err(Error::failed(format!("stage {}: the loss is {value} at step {}", run.name, step + 1))
                .hint("lower the learning rate, or raise the warm-up"));
        }
        let factor = stage.factor(step, total);
        let rates: Vec<(&str, f64)> = PARTS
            .iter()
            .filter(|(part, _)| stage.trains(*part))
            .map(|(part, name)| (*name, stage.peak(*part) * factor))
            .collect();
        let settings = StepSettings { rates: &rates, clip: stage.clip, weight_decay: stage.weight_decay };
        let gradients = GradientsParams::from_grads(gradients, &model);
        let (moved, grad_norm) = optimiser.step(model, gradients, &settings);
        model = moved;
        (run.on_step)(&StepLog {
            stage: run.name.to_string(),
            step: step + 1,
            steps: total,
            loss: f64::from(value),
            lr: rates.iter().map(|(_, r)| *r).fold(0.0, f64::max),
            grad_norm,
            tokens,
            seconds: clock.elapsed().as_secs_f64(),
        });
    }
    // Freezing is a matter of this stage only.
    Ok(Outcome::Done(model.unfreeze().valid()))
}

/// Parts and the first name of their parameters' paths.
const PARTS: [(Part, &str); 3] = [(Part::Connector, "connector"), (Part::Llm, "llm"), (Part::Encoder, "encoders")];

/// On the differentiating device, with the parts frozen that the stage does not train.
fn prepare(model: Mllm, stage: &Stage) -> Mllm {
    let mut model = model.train().unfreeze();
    if !stage.trains(Part::Connector) {
        model.connector = model.connector.freeze();
    }
    if !stage.trains(Part::Llm) {
        model.llm = model.llm.freeze();
    }
    if !stage.trains(Part::Encoder) {
        model.encoders = model.encoders.into_iter().map(Module::freeze).collect();
    }
    model
}

/// Mean cross-entropy over the learned tokens of a batch, and the number of positions read; nothing if the batch has
/// no learned token. The head is computed only for positions that predict one. With `draws`, the encoders' stochastic depth
/// is at work.
///
/// # Errors
/// As [`train_stage`].
pub fn batch_loss(
    model: &Mllm,
    examples: &[&Example],
    features: &dyn FeatureSource,
    draws: Option<&mut Stream>,
    device: &Device,
) -> Result<Option<(Tensor<1>, usize)>> {
    let images: Vec<usize> = examples.iter().filter_map(|e| e.image).collect();
    let image = match images.is_empty() {
        true => None,
        false => {
            let visual = features.batch(&images, device)?;
            Some(match draws {
                Some(draws) => model.see_training(visual, draws)?,
                None => model.see(visual)?,
            })
        }
    };
    let n = image.as_ref().map_or(0, |i| i.dims()[1]);
    // The last token predicts nothing that is learned, so it need not be read.
    let rows: Vec<Sequence> = examples
        .iter()
        .map(|e| Sequence {
            ids: e.ids.get(..e.ids.len().saturating_sub(1).max(1)).unwrap_or_default(),
            image_at: e.image_at,
        })
        .collect();
    let embeddings = model.splice(&rows, image, device)?;
    let [b, t, d] = embeddings.dims();
    let (mut positions, mut targets) = (Vec::new(), Vec::new());
    for (r, (example, row)) in examples.iter().zip(&rows).enumerate() {
        for (i, (&id, _)) in
            example.ids.iter().zip(&example.learned).enumerate().filter(|(_, (_, l))| **l).skip_while(|(i, _)| *i == 0)
        {
            // The position before that of a token predicts it.
            positions.push((r * t + row.position(i - 1, n) + last_of(row, i - 1, n)) as i32);
            targets.push(id as i32);
        }
    }
    if targets.is_empty() {
        return Ok(None);
    }
    let count = targets.len();
    let positions = Tensor::<1, Int>::from_data(TensorData::new(positions, [count]), device);
    let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [count]), device);
    let hidden = model.llm.hidden(embeddings)?.reshape([b * t, d]).select(0, positions);
    Ok(Some((kernel::cross_entropy(model.llm.logits(hidden), targets), b * t)))
}

/// The picture's token stands at the first of its `n` positions; what follows it is predicted from the last.
fn last_of(row: &Sequence, i: usize, n: usize) -> usize {
    if row.image_at == Some(i) { n.saturating_sub(1) } else { 0 }
}
