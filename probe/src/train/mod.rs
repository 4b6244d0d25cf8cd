//! Trains one stage: batches, loss, gradients, optimiser steps, and saved training states from which it can resume.

mod divergence;
mod finite;
mod loss;
mod recompute;
#[cfg(test)]
mod tests;
mod training_state;

pub use divergence::Divergence;
pub(crate) use finite::{diverged, finite_weights};
use loss::{BatchImages, build_batch};
pub use loss::{TrainingBatch, read_batch};
pub use training_state::{SavePermit, SavedState, StateSaver};

use crate::connector::ImageSize;
use crate::data::{Example, Examples, collate};
use crate::llm::Compute;
use crate::mllm::{ImageBatch, Mllm};
use crate::optimiser::{Optimiser, StepSettings};
use crate::recipe::{ParameterGroup, Stage};
use burgess_base::prefetch::prefetch;
use burgess_base::stream::stream as named;
use burgess_base::{Error, Result};
use burgess_encoders::transfer;
use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::time::Instant;

/// Images that are read, whose remaining work is done when it is called.
pub type PendingImages<'a> = Box<dyn FnOnce() -> Result<ImageBatch> + Send + 'a>;

/// A source of the images of a batch: cached or computed features, or pixels for unfrozen encoders.
pub trait FeatureSource: Sync {
    /// Returns the images with these indices, in this order.
    ///
    /// # Errors
    /// When an image cannot be read or encoded.
    fn batch(&self, images: &[usize], device: &Device) -> Result<ImageBatch>;

    /// As [`FeatureSource::batch`] in two parts. This call does what a second thread can do while the device computes
    /// the batch before: it reads, decodes and pads on the host, and copies to the device. The returned function does the
    /// rest, such as a forward pass of an encoder, on the thread that computes. Default: everything is the rest.
    ///
    /// # Errors
    /// As [`FeatureSource::batch`].
    fn prepare(&self, images: &[usize], device: &Device) -> Result<PendingImages<'_>> {
        let (images, device) = (images.to_vec(), device.clone());
        Ok(Box::new(move || self.batch(&images, &device)))
    }

    /// Returns the sizes of these images before padding to squares, for connectors that mask padding; `None` if the
    /// images are square or the connector does not need sizes.
    ///
    /// # Errors
    /// When a size cannot be read.
    fn sizes(&self, _images: &[usize]) -> Result<Option<Vec<ImageSize>>> {
        Ok(None)
    }
}

/// The log entry of one step: a line of `train.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepLog {
    /// Name of the stage: `align`, `tune` or `pretrain`.
    pub stage: String,
    /// Number of the step, from 1.
    pub step: usize,
    /// Number of steps of the stage.
    pub steps: usize,
    /// Mean cross-entropy over the supervised tokens, in nats.
    pub loss: f64,
    /// Largest learning rate of any parameter group in this step.
    pub lr: f64,
    /// Global gradient norm before clipping.
    pub grad_norm: f64,
    /// Number of positions in this step, padding and image tokens included.
    pub tokens: usize,
    /// Wall time of this step, in seconds.
    pub seconds: f64,
}

/// The outcome of a stage.
#[derive(Debug)]
pub enum StageOutcome<M> {
    /// All steps were taken; holds the trained model.
    Done(M),
    /// The caller asked to stop; the training state was saved if [`StageRun::saver`] is set.
    Interrupted,
}

/// The settings of [`train_stage`] apart from model and data.
pub struct StageRun<'a> {
    /// Name of the stage, used in the log and for the random stream that orders the examples.
    pub name: &'a str,
    /// The stage's hyper-parameters.
    pub stage: &'a Stage,
    /// Seed of the order of the examples and of other random draws.
    pub seed: u64,
    /// Device to train on, without autodiff: the autodiff device is derived from it.
    pub device: &'a Device,
    /// Called after every step with its log entry.
    pub on_step: &'a mut dyn FnMut(&StepLog),
    /// Called before every step; returning `true` ends the stage.
    pub stop: &'a dyn Fn() -> bool,
    /// Where and how often the training state is saved; `None` saves nothing.
    pub saver: Option<&'a StateSaver>,
    /// A saved training state from which the stage resumes ([`StateSaver::open`]).
    pub resume: Option<SavedState>,
}

/// Trains `model` on `examples` and returns it on a device without autodiff, with LoRA merged into its weights. Where the
/// weights of the language model stay as their file stores them, the LoRA factors stay beside them.
///
/// Parameter groups that the stage does not train are frozen: no gradients of their parameters are computed, nor of
/// activations that no trained parameter precedes.
///
/// A resumed stage ends with the same bits as one that was never interrupted: the order of the examples and all other
/// random draws depend only on the seed and the step number.
///
/// On other devices than the CPU, a second thread prepares the images of the next micro-batch while the device computes
/// the present one; at most one waits. The loss and the gradient norm of a step are copied to the host together, which
/// is the only time in a step that the host waits for the device.
///
/// # Errors
/// When the stage is invalid, there are no examples, one exceeds the maximum length, a feature cannot be read, loss
/// or gradient is not finite (the error names stage, step and learning rate) or, while encoders are trained, explodes
/// ([`Divergence`]), the weights after the last step are not
/// finite or give a loss that is not, or the state cannot be saved. A state that was saved
/// earlier stays.
pub fn train_stage(
    model: Mllm,
    examples: &dyn Examples,
    features: &dyn FeatureSource,
    run: &mut StageRun,
) -> Result<StageOutcome<Mllm>> {
    // On the CPU the same cores read and compute, so nothing is gained by reading ahead.
    let prefetches = !transfer::is_host(run.device);
    train(model, examples, features, run, prefetches)
}

/// [`train_stage`], where `prefetches` says whether a second thread prepares the micro-batches.
fn train(
    mut model: Mllm,
    examples: &dyn Examples,
    features: &dyn FeatureSource,
    run: &mut StageRun,
    prefetches: bool,
) -> Result<StageOutcome<Mllm>> {
    let stage = run.stage;
    stage.check()?;
    if !examples.has_supervised_tokens() {
        return Err(Error::failed(format!(
            "stage {}: no example has a supervised token, needs at least one with an answer",
            run.name
        )));
    }
    if stage.trains(ParameterGroup::Encoder) && model.encoders.is_empty() {
        return Err(Error::usage(format!(
            "stage {}: `encoder` is in `trainable`, but the model has no unfrozen encoder",
            run.name
        ))
        .hint("unfreeze the encoder in the arm, or leave `encoder` out of `trainable`"));
    }
    let device = run.device.clone().autodiff();
    check_stored(&model, stage).map_err(|e| e.context(format!("stage {}", run.name)))?;
    if let Some(lora) = stage.lora.as_ref().filter(|_| !model.llm.has_lora()) {
        check_rank(lora.rank, &model).map_err(|e| e.context(format!("stage {}", run.name)))?;
        model.llm = model.llm.with_lora(lora.rank, lora.alpha, &lora.targets, run.seed)?;
    }
    model.llm = (model.llm.with_compute(stage.precision))
        .map_err(|e| e.context(format!("stage {}: `precision` is {}", run.name, stage.precision)))?;
    let mut model = model.train().map(&mut Freezer { stage, path: Vec::new() });
    let mut optimiser = Optimiser::new(stage.optimiser, stage.betas);
    let total = stage.total_steps(examples.len());
    let stream = format!("train/{}", run.name);
    let mut first = 0;
    if let Some(saved) = run.resume.take() {
        first = saved.step();
        if first > total {
            return Err(Error::failed(format!(
                "stage {}: the training state is of step {first}, but the stage has {total} steps",
                run.name
            ))
            .hint("remove the training state to begin the stage anew"));
        }
        model = saved.restore(model, stage, &mut optimiser)?;
    }
    let micro_batches =
        MicroBatches { examples, stage, stream: &stream, seed: run.seed, step: first, total, left: None };
    let make = |part: MicroBatch| part.prepare(examples, features, &device);
    let trained = prefetch(prefetches, micro_batches, make, |parts| {
        run_steps(run, model, &mut optimiser, first..total, parts, &stream, &device)
    })?;
    let StageOutcome::Done((model, last)) = trained else { return Ok(StageOutcome::Interrupted) };
    // Freezing, LoRA and precision apply to this stage only.
    let mut model = model.unfreeze().valid();
    model.llm = model.llm.merge_lora().with_compute(Compute::F32)?;
    let trained = |path: &[String]| ParameterGroup::of_path(path).is_some_and(|group| stage.trains(group));
    finite_weights(&model, &trained)
        .map_err(diverged)
        .and_then(|()| finite::last_loss(&model, &last, features, stage.max_length, run.device))
        .map_err(|e| e.context(format!("stage {}, after its last step (`lr` = {:e})", run.name, stage.lr)))?;
    Ok(StageOutcome::Done(model))
}

/// Takes the steps of a stage; returns the model and the examples of the last forward pass.
fn run_steps(
    run: &mut StageRun,
    mut model: Mllm,
    optimiser: &mut Optimiser,
    steps: Range<usize>,
    parts: &mut dyn Iterator<Item = PreparedPart<'_>>,
    stream: &str,
    device: &Device,
) -> Result<StageOutcome<(Mllm, Vec<Example>)>> {
    let (stage, Range { start: first, end: total }) = (run.stage, steps);
    let mut last: Vec<Example> = Vec::new();
    let mut timer = run.saver.map(StateSaver::begin);
    // Encoders that are trained diverge most often. A resumed stage fills the window anew.
    let mut watch = stage.trains(ParameterGroup::Encoder).then(|| Divergence::new(model.llm.config().vocab_size));
    for step in first..total {
        if (run.stop)() {
            if let Some(timer) = timer.as_mut().filter(|_| step > first) {
                timer.save(step, &model, stage, optimiser)?;
            }
            return Ok(StageOutcome::Interrupted);
        }
        let clock = Instant::now();
        // Drop path applies only to encoders that are trained.
        let trains = stage.trains(ParameterGroup::Encoder);
        let mut draws = trains.then(|| named(&format!("{stream}/drop-path/step-{step}"), run.seed));
        // The mean loss of each micro-batch, `[1]`, with its factor.
        let (mut losses, mut factors) = (Vec::new(), Vec::new());
        let (mut weight, mut positions, mut ended) = (0.0, 0, false);
        while !ended {
            let part = parts.next().ok_or_else(|| Error::failed("the batches ended before the steps"))?;
            ended = part.ends_step;
            let (read, images) = part.read?;
            if read.is_empty() {
                continue;
            }
            let examples: Vec<&Example> = read.iter().collect();
            let batch = build_batch(&model, &examples, images, stage.max_length, draws.as_mut(), device)?;
            let Some(batch) = batch else { continue };
            last = read;
            // With a single micro-batch the gradient is already that of the mean; several are combined as weighted
            // sums.
            let factor = if stage.accumulate == 1 { 1.0 } else { batch.supervised_tokens as f64 };
            let mut take = |gradients| {
                optimiser.collect(&model, GradientsParams::from_grads(gradients, &model), factor as f32);
            };
            let mean = if stage.checkpointing {
                let below = stage.trainable.iter().any(|p| *p != ParameterGroup::Llm) || stage.lora.is_none();
                recompute::backward(&batch, &model, below, &mut take)?
            } else {
                let mean = batch.loss(&model)?;
                take(mean.backward());
                mean.inner()
            };
            losses.push(mean);
            factors.push(factor);
            weight += factor;
            positions += batch.positions();
        }
        if weight == 0.0 {
            continue;
        }
        let measured = optimiser.measure(&model, losses)?;
        let sum =
            measured.scalars.iter().zip(&factors).fold(0.0, |sum, (mean, factor)| sum + f64::from(*mean) * factor);
        let loss = sum / weight;
        let factor = stage.lr_factor(step, total);
        let diverged_here = |e: Error| {
            let rate = stage.highest_lr() * factor;
            diverged(e.context(format!("stage {}, step {} (learning rate {rate:e})", run.name, step + 1)))
        };
        if !loss.is_finite() {
            return Err(diverged_here(Error::failed(format!("the loss is {loss}"))));
        }
        let settings = StepSettings {
            rate: &|path| stage.peak_lr(path).map(|peak| peak * factor),
            total: weight,
            clip: stage.clip,
            weight_decay: stage.weight_decay,
        };
        let (updated, grad_norm) = optimiser.step_measured(model, &settings, &measured).map_err(diverged_here)?;
        model = updated;
        if let Some(watch) = &mut watch {
            watch.add(loss, grad_norm).map_err(|e| {
                let rate = stage.highest_lr() * factor;
                e.context(format!("stage {}, step {} (learning rate {rate:e})", run.name, step + 1)).hint(
                    "the unfrozen encoder diverges: lower `encoder_lr` and the other learning rates, raise `warmup`, set \
                     `clip`, or normalise its features with @normalise=layer",
                )
            })?;
        }
        (run.on_step)(&StepLog {
            stage: run.name.to_string(),
            step: step + 1,
            steps: total,
            loss,
            lr: stage.highest_lr() * factor,
            grad_norm,
            tokens: positions,
            seconds: clock.elapsed().as_secs_f64(),
        });
        if let Some(timer) = timer.as_mut().filter(|_| step + 1 < total) {
            timer.save_if_due(step + 1, &model, stage, optimiser)?;
        }
    }
    Ok(StageOutcome::Done((model, last)))
}

/// The examples of one micro-batch, by index.
struct MicroBatch {
    chosen: Vec<usize>,
    /// Whether it is the last micro-batch of its step.
    ends_step: bool,
}

/// A micro-batch whose examples and images are read.
struct PreparedPart<'a> {
    read: Result<(Vec<Example>, BatchImages<'a>)>,
    ends_step: bool,
}

impl MicroBatch {
    /// Reads the examples and prepares their images.
    fn prepare<'a>(
        self,
        examples: &dyn Examples,
        features: &'a dyn FeatureSource,
        device: &Device,
    ) -> PreparedPart<'a> {
        let read = || {
            let read: Vec<Example> = self.chosen.iter().map(|&i| examples.get(i)).collect::<Result<_>>()?;
            let images = BatchImages::prepare(&read.iter().collect::<Vec<_>>(), features, device)?;
            Ok((read, images))
        };
        PreparedPart { read: read(), ends_step: self.ends_step }
    }
}

/// Indices of the examples of each batch.
type BatchIndices = Vec<Vec<usize>>;

/// The micro-batches of the steps of a stage, in order; at least one per step, which may be empty.
struct MicroBatches<'a> {
    examples: &'a dyn Examples,
    stage: &'a Stage,
    /// Name of the random stream that orders the examples.
    stream: &'a str,
    seed: u64,
    /// The next step, from 0.
    step: usize,
    /// Number of steps of the stage.
    total: usize,
    /// Batches of the current epoch, and the micro-batches of the current step that are left, last first.
    left: Option<(BatchIndices, BatchIndices)>,
}

impl Iterator for MicroBatches<'_> {
    type Item = MicroBatch;

    fn next(&mut self) -> Option<MicroBatch> {
        let Self { examples, stage, .. } = *self;
        let (mut batches, mut parts) = self.left.take().unwrap_or_default();
        if parts.is_empty() {
            if self.step >= self.total {
                return None;
            }
            let per_epoch = examples.len().div_ceil(stage.batch).max(1);
            let (epoch, place) = (self.step / per_epoch, self.step % per_epoch);
            if batches.is_empty() || place == 0 {
                batches = collate::epoch_batches(examples, stage.batch, stage.order, self.stream, self.seed, epoch);
            }
            let chosen: &[usize] = batches.get(place).map_or(&[], Vec::as_slice);
            let size = stage.batch.div_ceil(stage.accumulate).max(1);
            parts = chosen.chunks(size).rev().map(<[usize]>::to_vec).collect();
            self.step += 1;
        }
        let chosen = parts.pop().unwrap_or_default();
        let ends_step = parts.is_empty();
        self.left = Some((batches, parts));
        Some(MicroBatch { chosen, ends_step })
    }
}

/// Checks that the LoRA rank is at most the largest matrix dimension: a higher rank has no effect.
fn check_rank(rank: usize, model: &Mllm) -> Result<()> {
    let config = model.llm.config();
    let most = config.hidden_size.max(config.intermediate_size);
    match rank <= most {
        true => Ok(()),
        false => Err(Error::usage(format!(
            "`lora.rank` is {rank}, but no matrix of the language model has more than {most} rows or columns"
        ))
        .hint("set `lora.rank` to a usual value, 8 to 256")),
    }
}

/// Checks that a stage does not train weights that stay as their file stores them, and does not add LoRA factors to a
/// language model that has some, which cannot be merged into such weights.
fn check_stored(model: &Mllm, stage: &Stage) -> Result<()> {
    if !model.llm.has_stored_weights() || !stage.trains(ParameterGroup::Llm) {
        return Ok(());
    }
    if stage.lora.is_none() {
        return Err(Error::usage(
            "the language model is to be trained, but its weights stay as their file stores them",
        )
        .hint("load the language model in f32, or train it by LoRA: set `lora`"));
    }
    match model.llm.has_lora() {
        false => Ok(()),
        true => {
            Err(Error::usage("the language model has LoRA factors already, which cannot be merged into its weights")
                .hint("set `lora` in one stage only, or export the model with merged weights first"))
        }
    }
}

/// Makes the parameters that a stage trains trainable, and freezes all others.
struct Freezer<'a> {
    stage: &'a Stage,
    path: Vec<String>,
}

impl ModuleMapper for Freezer<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.set_require_grad(self.stage.peak_lr(&self.path).is_some())
    }
}
