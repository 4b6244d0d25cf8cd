//! Pretraining of a language model on text, one document per row.
//!
//! The caller supplies the documents ([`PretrainDocument`]) as an iterator; this module knows nothing of their content.
//! [`PretrainDocument::encode`] turns each into token ids with a loss mask: all tokens of a text are supervised, of a
//! conversation only the answers. The facts in a question are drawn at random, so predicting them teaches nothing, and
//! their loss would outweigh that of the answers.
//!
//! Documents are not packed behind each other: a question that is cut off from its context at a row's end would teach
//! the model to answer without reading.

mod batches;
mod cells;
mod document;
mod predict;
mod reading;

pub use document::{CellBlock, CellGrid, PretrainDocument, PretrainRow};
pub use reading::{ReadingQuestion, ReadingScore, reading};

use crate::llm::chat::ChatTemplate;
use crate::llm::parts::Block;
use crate::llm::stored::Weight;
use crate::llm::tokenizer::Tokenizer;
use crate::llm::{Llm, LlmConfig};
use crate::optimiser::{Optimiser, OptimiserMethod, StepSettings};
use crate::recipe::{ParameterGroup, Stage};
use crate::train::{StageOutcome, StepLog, diverged, finite_weights};
use batches::Batches;
use burgess_base::stream::stream;
use burgess_base::{Context, Error, Result};
use burgess_encoders::init::initialise;
use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Hyper-parameters of language model pretraining.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    /// Number of optimiser steps.
    pub steps: usize,
    /// Tokens per step, padding included. A step holds as many rows of similar length as fit.
    pub tokens: usize,
    /// Maximum length of a document in tokens; longer documents are truncated.
    pub context: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Fraction of the steps, in [0, 1], over which the learning rate rises linearly from zero.
    #[serde(default = "default_warmup")]
    pub warmup: f64,
    /// The optimiser: AdamW, or Muon for the matrices of the decoder blocks.
    #[serde(default)]
    pub optimiser: OptimiserMethod,
    /// Weight decay of matrices; vectors have none.
    #[serde(default = "default_decay")]
    pub weight_decay: f64,
    /// Maximum norm of the gradient; larger gradients are scaled down to it.
    #[serde(default = "default_clip")]
    pub clip: f64,
    /// Decay rates of the first and second moment in AdamW.
    #[serde(default = "default_betas")]
    pub betas: [f64; 2],
}

fn default_warmup() -> f64 {
    0.03
}

fn default_decay() -> f64 {
    0.1
}

fn default_clip() -> f64 {
    1.0
}

fn default_betas() -> [f64; 2] {
    [0.9, 0.95]
}

/// A pretraining run: what is trained, on which device and from which seed.
#[derive(Debug, Clone, Copy)]
pub struct Pretraining<'a> {
    /// Hyper-parameters of the training.
    pub config: &'a PretrainConfig,
    /// Configuration of the model.
    pub llm: &'a LlmConfig,
    /// The tokenizer; its vocabulary may be smaller than the model's.
    pub tokenizer: &'a Tokenizer,
    /// The chat template that writes conversations.
    pub chat: &'a ChatTemplate,
    /// The device on which the model is trained.
    pub device: &'a Device,
    /// Seed of the initial weights, the order of the batches and the noise on cells.
    pub seed: u64,
}

impl Pretraining<'_> {
    /// Trains on `documents`, batched by length, and returns the trained model.
    ///
    /// Without `base`, the weights are drawn from the seed. With a `base` model and its tokenizer, the base's layers
    /// are kept, and additional layers are appended that at first change nothing. Tokens that both tokenizers have keep
    /// their embeddings; those of the other tokens are drawn (vocabulary transfer).
    ///
    /// `on_step` is called after each step with the model so far. The run ends early, as [`StageOutcome::Interrupted`],
    /// when
    /// `stop` returns true before a step.
    ///
    /// # Errors
    /// When sizes in the configuration contradict each other, the documents run out, or a loss, a gradient or a final
    /// weight is not finite (the error names the step).
    pub fn run(
        &self,
        base: Option<(Llm, Tokenizer)>,
        documents: impl Iterator<Item = PretrainDocument>,
        on_step: &mut dyn FnMut(&StepLog, &Llm) -> Result<()>,
        stop: &dyn Fn() -> bool,
    ) -> Result<StageOutcome<Llm>> {
        let Self { config, llm, tokenizer, chat, device, seed } = *self;
        if tokenizer.vocab_size() > llm.vocab_size {
            return Err(Error::usage(format!(
                "the tokenizer has {} entries, but `vocab_size` of the model is {}",
                tokenizer.vocab_size(),
                llm.vocab_size
            )));
        }
        let stage = Stage {
            optimiser: config.optimiser,
            weight_decay: config.weight_decay,
            warmup: config.warmup,
            clip: config.clip,
            betas: config.betas,
            ..Stage::new(config.steps, 1, config.lr, vec![ParameterGroup::Llm])
        };
        stage.check()?;
        if config.context < 2 || config.context > llm.max_position_embeddings {
            return Err(Error::usage(format!(
                "pretraining: `context` is {}, must be from 2 to the model's `max_position_embeddings` of {}",
                config.context, llm.max_position_embeddings
            )));
        }
        if config.tokens < config.context {
            return Err(Error::usage(format!(
                "pretraining: `tokens` is {}, must be at least `context` ({}), so that a step holds one document",
                config.tokens, config.context
            )));
        }
        let device = device.clone().autodiff();
        let mut model = initialise(llm.init(&device)?, "llm", seed);
        if let Some((base, old)) = base {
            model = transferred(model, base, &old, tokenizer)?;
        }
        let mut optimiser = Optimiser::new(config.optimiser, config.betas);
        let encoded = documents.map(|document| document.encode(tokenizer, chat));
        let mut batches = Batches::new(encoded, config, stream("llm/order", seed));
        for step in 0..config.steps {
            if stop() {
                return Ok(StageOutcome::Interrupted);
            }
            let clock = Instant::now();
            let rows = batches.next().context(format!("step {}", step + 1))?;
            let tokens: usize = rows.iter().map(|row| row.ids.len()).sum();
            let mut noise = stream(&format!("llm/noise-{step}"), seed);
            let loss = predict::supervised(&model, &rows, Some(&mut noise), &device)?.cross_entropy();
            let gradients = loss.backward();
            let lr = config.lr * stage.lr_factor(step, config.steps);
            let settings =
                StepSettings { rate: &|_| Some(lr), total: 1.0, clip: config.clip, weight_decay: config.weight_decay };
            optimiser.collect(&model, GradientsParams::from_grads(gradients, &model), 1.0);
            let measured = optimiser.measure(&model, vec![loss.inner()])?;
            let value = measured.scalars.first().copied().unwrap_or(f32::NAN);
            if !value.is_finite() {
                return Err(diverged(Error::failed(format!("pretraining: the loss is {value} at step {}", step + 1))));
            }
            let (moved, grad_norm) = optimiser
                .step_measured(model, &settings, &measured)
                .map_err(|e| diverged(e.context(format!("pretraining, step {} (learning rate {lr:e})", step + 1))))?;
            model = moved;
            let log = StepLog {
                stage: "pretrain".into(),
                step: step + 1,
                steps: config.steps,
                loss: f64::from(value),
                lr,
                grad_norm,
                tokens,
                seconds: clock.elapsed().as_secs_f64(),
            };
            on_step(&log, &model)?;
        }
        let model = model.valid();
        finite_weights(&model, &|_| true).map_err(|e| diverged(e.context("pretraining, after its last step")))?;
        Ok(StageOutcome::Done(model))
    }
}

/// The weights of `base` in the shape of `fresh`. Each token of `tokenizer` has the embedding that `base` has for it
/// under its tokenizer `old`, or else that of `fresh`.
fn transferred(mut fresh: Llm, base: Llm, old: &Tokenizer, tokenizer: &Tokenizer) -> Result<Llm> {
    let (a, b) = (fresh.config(), base.config());
    if a.num_hidden_layers < b.num_hidden_layers || a.hidden_size != b.hidden_size {
        return Err(Error::usage(format!(
            "the base model has {} layers of width {}, but the model to train has {} of width {}",
            b.num_hidden_layers, b.hidden_size, a.num_hidden_layers, a.hidden_size
        ))
        .hint("give the model the width of its base, and at least as many layers"));
    }
    let rows = |model: &Llm| -> Result<Vec<f32>> {
        let table = model.model.embed_tokens.weight.parameter()?.val().into_data();
        table.try_to_vec().map_err(|e| Error::failed(format!("reading embeddings: {e:?}")))
    };
    let (mut table, known, d) = (rows(&fresh)?, rows(&base)?, a.hidden_size);
    for id in 0..tokenizer.vocab_size() as u32 {
        let from = tokenizer.token(id).and_then(|token| old.id(&token).ok()).map(|from| from as usize * d);
        if let (Some(from), to) = (from, id as usize * d)
            && let (Some(from), Some(to)) = (known.get(from..from + d), table.get_mut(to..to + d))
        {
            to.copy_from_slice(from);
        }
    }
    let weight = fresh.model.embed_tokens.weight.parameter()?.clone();
    let shape = weight.val().dims();
    let device = weight.val().device();
    let added = fresh.model.layers.split_off(b.num_hidden_layers);
    fresh.model = base.model;
    fresh.model.layers.extend(added.into_iter().map(identity_block));
    let table = Tensor::<2>::from_data(TensorData::new(table, shape), &device);
    fresh.model.embed_tokens.weight = Weight::Parameter(Param::initialized(weight.id, table).set_require_grad(true));
    Ok(fresh)
}

/// A block initialised as the identity: the output projections of its attention and its MLP are zero, so a model to
/// which it is added computes the same as before (as in LLaMA Pro, arXiv 2401.02415).
fn identity_block(mut block: Block) -> Block {
    let zeros = |weight: Weight| weight.map_parameter(|w| w.zeros_like().detach().require_grad());
    block.self_attn.o_proj.weight = zeros(block.self_attn.o_proj.weight);
    if let Some(mlp) = &mut block.mlp {
        mlp.down_proj.weight = zeros(mlp.down_proj.weight.clone());
    }
    block
}
