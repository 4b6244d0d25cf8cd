//! Pretraining a language model on text: documents packed into contexts. Of a text every token is learned, of a
//! conversation the answers: what a question is about is drawn at random, and learning to predict it would drown what
//! there is to learn, to find the answer in it.

use crate::llm::chat::{ChatTemplate, Turn};
use crate::llm::tokenizer::{EOS, Tokenizer};
use crate::llm::{Llama, LlamaConfig, kernel};
use crate::optimiser::{AdamW, StepSettings};
use crate::recipe::{Part, Schedule, Stage};
use crate::train::{Outcome, StepLog};
use burgess_base::{Error, Result};
use burgess_encoders::init::initialise;
use burgess_world::Document;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// How a language model is pretrained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    /// Optimiser steps.
    pub steps: usize,
    /// Contexts per step.
    pub batch: usize,
    /// Tokens per context.
    pub context: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Share of the steps over which the rate rises from zero.
    #[serde(default = "default_warmup")]
    pub warmup: f64,
    /// AdamW's weight decay, on matrices only.
    #[serde(default = "default_decay")]
    pub weight_decay: f64,
    /// Largest norm of the gradient.
    #[serde(default = "default_clip")]
    pub clip: f64,
    /// First and second moment decay of AdamW.
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

/// A document as tokens, and which of them are learned: a text with its end, all of it; a conversation in the template's
/// form, its answers.
///
/// # Errors
/// When the tokenizer lacks a token of the template.
pub fn encode(document: &Document, tokenizer: &Tokenizer, chat: &ChatTemplate) -> Result<(Vec<u32>, Vec<bool>)> {
    match document {
        Document::Text(text) => {
            let mut ids = tokenizer.encode(text)?;
            ids.push(tokenizer.id(EOS)?);
            let learned = vec![true; ids.len()];
            Ok((ids, learned))
        }
        Document::Chat(turns) => {
            let turns: Vec<Turn> = turns
                .iter()
                .flat_map(|t| [Turn::user(t.question.as_str()), Turn::assistant(t.answer.as_str())])
                .collect();
            let encoded = chat.encode(tokenizer, &turns, false)?;
            Ok((encoded.ids, encoded.learned))
        }
    }
}

/// The text a tokenizer is trained on for such a document.
pub fn plain(document: &Document) -> String {
    match document {
        Document::Text(text) => text.clone(),
        Document::Chat(turns) => turns.iter().map(|t| format!("{}\n{}\n", t.question, t.answer)).collect(),
    }
}

/// Trains a fresh model (weights drawn from `seed`) on `documents`, which are packed one after the other into
/// contexts; what is cut off at the end of a context begins the next. Stops early only if `stop` says so.
///
/// # Errors
/// When the numbers do not fit, the documents run out, or the loss is no number (the step is named).
#[allow(clippy::too_many_arguments)]
pub fn pretrain(
    config: &PretrainConfig,
    llm: &LlamaConfig,
    tokenizer: &Tokenizer,
    chat: &ChatTemplate,
    documents: impl Iterator<Item = Document>,
    device: &Device,
    seed: u64,
    on_step: &mut dyn FnMut(&StepLog),
    stop: &dyn Fn() -> bool,
) -> Result<Outcome<Llama>> {
    if tokenizer.vocab_size() > llm.vocab_size {
        return Err(Error::usage(format!(
            "the tokenizer has {} entries, the model only {}",
            tokenizer.vocab_size(),
            llm.vocab_size
        )));
    }
    let stage = Stage {
        steps: Some(config.steps),
        epochs: None,
        batch: config.batch,
        lr: config.lr,
        connector_lr: None,
        llm_lr: None,
        encoder_lr: None,
        trainable: vec![Part::Llm],
        weight_decay: config.weight_decay,
        warmup: config.warmup,
        schedule: Schedule::Cosine,
        clip: config.clip,
        betas: config.betas,
        order: Default::default(),
    };
    stage.check()?;
    if config.context < 2 || config.context > llm.max_position_embeddings {
        return Err(Error::usage(format!(
            "a context of {} tokens: the model reads 2 to {}",
            config.context, llm.max_position_embeddings
        )));
    }
    let device = device.clone().autodiff();
    let mut model = initialise(llm.init(&device)?, "llm", seed);
    let mut optimiser = AdamW::new(config.betas);
    let mut documents = documents;
    let mut waiting: Vec<u32> = Vec::new();
    let mut learned: Vec<bool> = Vec::new();
    // Each context needs one token more than it reads: the last is only predicted.
    let wanted = config.batch * config.context + 1;
    for step in 0..config.steps {
        if stop() {
            return Ok(Outcome::Interrupted);
        }
        let clock = Instant::now();
        while waiting.len() < wanted {
            let document =
                documents.next().ok_or_else(|| Error::failed(format!("the documents ran out at step {}", step + 1)))?;
            let (ids, learn) = encode(&document, tokenizer, chat)?;
            waiting.extend(ids);
            learned.extend(learn);
        }
        let inputs: Vec<&[u32]> = waiting.chunks_exact(config.context).take(config.batch).collect();
        let (positions, targets): (Vec<i32>, Vec<i32>) = (waiting.iter().zip(&learned).skip(1).take(wanted - 1))
            .enumerate()
            .filter(|(_, (_, learn))| **learn)
            .map(|(i, (&id, _))| (i as i32, id as i32))
            .unzip();
        let count = targets.len();
        if count == 0 {
            return Err(Error::failed(format!("step {}: {wanted} tokens and nothing to learn in them", step + 1))
                .hint("use longer contexts or larger batches"));
        }
        let positions = Tensor::<1, Int>::from_data(TensorData::new(positions, [count]), &device);
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [count]), &device);
        let hidden = model.hidden(model.embed_rows(&inputs, &device)?)?;
        let [b, t, d] = hidden.dims();
        let hidden = hidden.reshape([b * t, d]).select(0, positions);
        let loss = kernel::cross_entropy(model.logits(hidden), targets);
        let gradients = loss.backward();
        let value = loss.inner().try_into_scalar::<f32>().map_err(|e| Error::failed(e.to_string()))?;
        if !value.is_finite() {
            return Err(Error::failed(format!("pretraining: the loss is {value} at step {}", step + 1))
                .hint("lower the learning rate, or raise the warm-up"));
        }
        waiting.drain(..wanted - 1);
        learned.drain(..wanted - 1);
        let lr = config.lr * stage.factor(step, config.steps);
        // The model is the whole module here, so its parameters' paths begin with its own fields.
        let rates = [("model", lr), ("lm_head", lr)];
        let settings = StepSettings { rates: &rates, clip: config.clip, weight_decay: config.weight_decay };
        let gradients = GradientsParams::from_grads(gradients, &model);
        let (moved, grad_norm) = optimiser.step(model, gradients, &settings);
        model = moved;
        on_step(&StepLog {
            stage: "pretrain".into(),
            step: step + 1,
            steps: config.steps,
            loss: f64::from(value),
            lr,
            grad_norm,
            tokens: wanted - 1,
            seconds: clock.elapsed().as_secs_f64(),
        });
    }
    Ok(Outcome::Done(model.valid()))
}
