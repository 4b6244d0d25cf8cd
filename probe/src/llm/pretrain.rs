//! Pretraining a language model on text, one document a row, as it will be asked later. Of a text every token is
//! learned, of a conversation the answers: what a question is about is drawn at random, and learning to predict it would
//! drown what there is to learn, to find the answer in it. Documents are not packed one behind the other: cut at the
//! border of a context, a question loses what it is about, and learning such questions teaches not to read.

use crate::connector::positions;
use crate::data::collate::shuffle;
use crate::llm::chat::{ChatTemplate, Turn};
use crate::llm::parts::Block;
use crate::llm::tokenizer::{EOS, Tokenizer};
use crate::llm::{Llm, LlmConfig, kernel};
use crate::optimiser::{Method, Optimiser, StepSettings};
use crate::recipe::{Part, Stage};
use crate::train::{Outcome, StepLog, diverged, finite_weights};
use burgess_base::stream::{Stream, normal_pair, stream, uniform};
use burgess_base::{Context, Error, Result};
use burgess_encoders::init::initialise;
use burgess_world::{CELLS, Document, ReadingQuestion};
use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// How a language model is pretrained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    /// Optimiser steps.
    pub steps: usize,
    /// Tokens per step, padding included: rows of about equal length, as many as fit.
    pub tokens: usize,
    /// Longest document in tokens; what is longer is cut off there.
    pub context: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Share of the steps over which the rate rises from zero.
    #[serde(default = "default_warmup")]
    pub warmup: f64,
    /// AdamW, or Muon for the layers' matrices.
    #[serde(default)]
    pub optimiser: Method,
    /// Weight decay, on matrices only.
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

/// A document as tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Token ids; a cell has the image's.
    pub ids: Vec<u32>,
    /// Loss mask: which of them are supervised.
    pub learned: Vec<bool>,
    /// The place of the first cell, and the token ids of the words of each cell.
    pub cells: Option<(usize, Vec<Vec<u32>>)>,
}

/// A document as tokens: a text with its end is supervised whole, a conversation in the template's form in its answers.
/// Cells stand where an image would stand, one position each.
///
/// # Errors
/// When the tokenizer lacks a token of the template.
pub fn encode(document: &Document, tokenizer: &Tokenizer, chat: &ChatTemplate) -> Result<Row> {
    let turns = |turns: &[burgess_world::QaPair]| -> Vec<Turn> {
        turns.iter().flat_map(|t| [Turn::user(t.question.as_str()), Turn::assistant(t.answer.as_str())]).collect()
    };
    match document {
        Document::Text(text) => {
            let mut ids = tokenizer.encode(text)?;
            ids.push(tokenizer.id(EOS)?);
            let learned = vec![true; ids.len()];
            Ok(Row { ids, learned, cells: None })
        }
        Document::Chat(list) => {
            let encoded = chat.encode(tokenizer, &turns(list), false)?;
            Ok(Row { ids: encoded.ids, learned: encoded.learned, cells: None })
        }
        Document::Cells(cells, list) => {
            let encoded = chat.encode(tokenizer, &turns(list), true)?;
            let at = encoded.image_at.ok_or_else(|| Error::failed("a conversation about cells has no image"))?;
            let (mut ids, mut learned) = (encoded.ids, encoded.learned);
            let image = ids[at];
            ids.splice(at..=at, std::iter::repeat_n(image, cells.len()));
            learned.splice(at..=at, std::iter::repeat_n(false, cells.len()));
            let words = |cell: &Vec<String>| -> Result<Vec<u32>> {
                // What shows nothing is said as in a map: a norm would blow up the noise on a vector of zeros.
                if cell.is_empty() {
                    return tokenizer.encode(".");
                }
                let words: Vec<Vec<u32>> = cell.iter().map(|word| tokenizer.encode(word)).collect::<Result<_>>()?;
                Ok(words.concat())
            };
            let cells = cells.iter().map(words).collect::<Result<_>>()?;
            Ok(Row { ids, learned, cells: Some((at, cells)) })
        }
    }
}

/// The texts a tokenizer is trained on for such a document: those that stand between special tokens.
pub fn texts(document: Document) -> Vec<String> {
    match document {
        Document::Text(text) => vec![text],
        Document::Chat(turns) | Document::Cells(_, turns) => {
            turns.into_iter().flat_map(|t| [t.question, t.answer]).collect()
        }
    }
}

/// Trains a model on `documents`, batched by length: a fresh one (weights drawn from `seed`), or `base` under another
/// tokenizer. Stops early only if `stop` says so.
///
/// A base keeps its layers; layers beyond them are put behind and add nothing at first. Tokens that both tokenizers have
/// keep their embeddings, and only the others begin fresh (vocabulary transfer).
///
/// # Errors
/// When the numbers do not fit, the documents run out, or the loss, the gradient or the last weights are not finite (the
/// step is named).
#[allow(clippy::too_many_arguments)]
pub fn pretrain(
    config: &PretrainConfig,
    llm: &LlmConfig,
    base: Option<(Llm, Tokenizer)>,
    tokenizer: &Tokenizer,
    chat: &ChatTemplate,
    documents: impl Iterator<Item = Document>,
    device: &Device,
    seed: u64,
    on_step: &mut dyn FnMut(&StepLog, &Llm) -> Result<()>,
    stop: &dyn Fn() -> bool,
) -> Result<Outcome<Llm>> {
    if tokenizer.vocab_size() > llm.vocab_size {
        return Err(Error::usage(format!(
            "the tokenizer has {} entries, the model only {}",
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
        ..Stage::new(config.steps, 1, config.lr, vec![Part::Llm])
    };
    stage.check()?;
    if config.context < 2 || config.context > llm.max_position_embeddings {
        return Err(Error::usage(format!(
            "a context of {} tokens: the model reads 2 to {}",
            config.context, llm.max_position_embeddings
        )));
    }
    if config.tokens < config.context {
        return Err(Error::usage(format!(
            "{} tokens per step cannot hold one document of {}",
            config.tokens, config.context
        )));
    }
    let device = device.clone().autodiff();
    let mut model = initialise(llm.init(&device)?, "llm", seed);
    if let Some((base, old)) = base {
        model = transferred(model, base, &old, tokenizer)?;
    }
    let mut optimiser = Optimiser::new(config.optimiser, config.betas);
    let encoded = documents.map(|d| encode(&d, tokenizer, chat));
    let mut batches = Batches::new(encoded, config, stream("llm/order", seed));
    for step in 0..config.steps {
        if stop() {
            return Ok(Outcome::Interrupted);
        }
        let clock = Instant::now();
        let rows = batches.next().context(format!("step {}", step + 1))?;
        let tokens: usize = rows.iter().map(|row| row.ids.len()).sum();
        let mut noise = stream(&format!("llm/noise-{step}"), seed);
        let loss = answers(&model, &rows, Some(&mut noise), &device)?.cross_entropy();
        let gradients = loss.backward();
        let value = loss.inner().try_into_scalar::<f32>().map_err(|e| Error::failed(e.to_string()))?;
        if !value.is_finite() {
            return Err(diverged(Error::failed(format!("pretraining: the loss is {value} at step {}", step + 1))));
        }
        let lr = config.lr * stage.factor(step, config.steps);
        let settings =
            StepSettings { rate: &|_| Some(lr), total: 1.0, clip: config.clip, weight_decay: config.weight_decay };
        optimiser.collect(&model, GradientsParams::from_grads(gradients, &model), 1.0);
        let (moved, grad_norm) = optimiser
            .step(model, &settings)
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
    Ok(Outcome::Done(model))
}

/// `base` with an embedding for each token of `tokenizer`: that of the same token of `old`, or that of `fresh`.
fn transferred(mut fresh: Llm, base: Llm, old: &Tokenizer, tokenizer: &Tokenizer) -> Result<Llm> {
    let (a, b) = (fresh.config(), base.config());
    if a.num_hidden_layers < b.num_hidden_layers || a.hidden_size != b.hidden_size {
        return Err(Error::usage(format!(
            "the base has {} layers of width {}, the recipe asks for {} of width {}",
            b.num_hidden_layers, b.hidden_size, a.num_hidden_layers, a.hidden_size
        ))
        .hint("give the recipe the width of its base, and at least as many layers"));
    }
    let rows = |model: &Llm| -> Result<Vec<f32>> {
        let table = model.model.embed_tokens.weight.val().into_data();
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
    let weight = fresh.model.embed_tokens.weight;
    let shape = weight.val().dims();
    let device = weight.val().device();
    let more = fresh.model.layers.split_off(b.num_hidden_layers);
    fresh.model = base.model;
    fresh.model.layers.extend(more.into_iter().map(silenced));
    let table = Tensor::<2>::from_data(TensorData::new(table, shape), &device);
    fresh.model.embed_tokens.weight = Param::initialized(weight.id, table).set_require_grad(true);
    Ok(fresh)
}

/// A block that adds nothing yet: the output projections of its attention and its MLP are zero, so that a model into
/// which it is put computes what it computed before (identity initialisation, as in LLaMA Pro, arXiv 2401.02415).
fn silenced(mut block: Block) -> Block {
    let zeros = |weight: Param<Tensor<2>>| weight.map(|w| w.zeros_like().detach().require_grad());
    block.self_attn.o_proj.weight = zeros(block.self_attn.o_proj.weight);
    if let Some(mlp) = &mut block.mlp {
        mlp.down_proj.weight = zeros(mlp.down_proj.weight.clone());
    }
    block
}

/// Documents of about equal length together, so that little is spent on padding; the order of lengths is random.
struct Batches<'a, D> {
    documents: D,
    config: &'a PretrainConfig,
    random: Stream,
    ready: Vec<Vec<Row>>,
    rest: Vec<Row>,
}

/// Steps that are sorted by length together.
const POOL: usize = 24;

impl<'a, D: Iterator<Item = Result<Row>>> Batches<'a, D> {
    fn new(documents: D, config: &'a PretrainConfig, random: Stream) -> Self {
        Self { documents, config, random, ready: Vec::new(), rest: Vec::new() }
    }

    /// The rows of the next step.
    fn next(&mut self) -> Result<Vec<Row>> {
        if let Some(batch) = self.ready.pop() {
            return Ok(batch);
        }
        let mut pool = std::mem::take(&mut self.rest);
        let mut size: usize = pool.iter().map(|row: &Row| row.ids.len()).sum();
        while size < POOL * self.config.tokens {
            let Some(document) = self.documents.next() else { break };
            let mut row = document?;
            row.ids.truncate(self.config.context);
            row.learned.truncate(self.config.context);
            // Nothing predicts the first token.
            if row.learned.iter().skip(1).any(|l| *l) {
                size += row.ids.len();
                pool.push(row);
            }
        }
        pool.sort_by_key(|row| std::cmp::Reverse(row.ids.len()));
        let mut batch: Vec<Row> = Vec::new();
        for row in pool {
            let longest = batch.first().unwrap_or(&row).ids.len();
            if (batch.len() + 1) * longest > self.config.tokens {
                self.ready.push(std::mem::take(&mut batch));
            }
            batch.push(row);
        }
        shuffle(&mut self.ready, &mut self.random);
        // The last batch, which is not full, waits for the next pool; at the end of the documents it is the last.
        if self.ready.is_empty() && !batch.is_empty() {
            return Ok(batch);
        }
        self.rest = batch;
        self.ready.pop().ok_or_else(|| Error::failed("the documents ran out"))
    }
}

/// What a model predicts for the learned tokens of some rows.
struct Answers {
    /// `[learned tokens, vocabulary]`.
    logits: Tensor<2>,
    targets: Vec<i32>,
    /// The row of each learned token.
    rows: Vec<usize>,
}

impl Answers {
    fn cross_entropy(self) -> Tensor<1> {
        let device = self.logits.device();
        let count = self.targets.len();
        kernel::cross_entropy(self.logits, Tensor::from_data(TensorData::new(self.targets, [count]), &device))
    }

    /// Which of `count` rows have all their learned tokens predicted as the likeliest: exactly those that greedy
    /// decoding answers right.
    fn right(self, count: usize) -> Result<Vec<bool>> {
        let best: Vec<i64> = self
            .logits
            .argmax(1)
            .into_data()
            .convert::<i64>()
            .try_to_vec()
            .map_err(|e| Error::failed(format!("reading predictions: {e:?}")))?;
        let mut right = vec![true; count];
        for ((row, target), best) in self.rows.iter().zip(&self.targets).zip(best) {
            right[*row] &= i64::from(*target) == best;
        }
        Ok(right)
    }
}

/// `noise`: the stream of the noise on cells, in training.
fn answers(model: &Llm, rows: &[Row], noise: Option<&mut Stream>, device: &Device) -> Result<Answers> {
    let t = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
    // Padding stands on the right, where no real token sees it; any id will do.
    let padded: Vec<Vec<u32>> = rows
        .iter()
        .map(|row| {
            let mut ids = row.ids.clone();
            ids.resize(t, 0);
            ids
        })
        .collect();
    let (mut places, mut targets, mut of) = (Vec::new(), Vec::new(), Vec::new());
    for (r, row) in rows.iter().enumerate() {
        for i in 1..row.ids.len() {
            if row.learned[i] {
                places.push((r * t + i - 1) as i32);
                targets.push(row.ids[i] as i32);
                of.push(r);
            }
        }
    }
    let inputs: Vec<&[u32]> = padded.iter().map(Vec::as_slice).collect();
    let embeddings = model.embed_rows(&inputs, device)?;
    let embeddings = match rows.iter().any(|row| row.cells.is_some()) {
        true => with_cells(model, embeddings, rows, noise, device)?,
        false => embeddings,
    };
    let hidden = model.hidden(embeddings)?;
    let [b, t, d] = hidden.dims();
    let count = places.len();
    let places = Tensor::<1, Int>::from_data(TensorData::new(places, [count]), device);
    Ok(Answers { logits: model.logits(hidden.reshape([b * t, d]).select(0, places)), targets, rows: of })
}

/// Largest noise on a cell, as a multiple of the length of what the cell says.
const NOISE: f64 = 1.0;

/// `embeddings` `[b, t, d]` with those of the cells in their places: the sum of the embeddings of a cell's words, brought to
/// the length of a word, with the cell's position embedding, as image tokens behind a connector with positions.
///
/// What a connector will say of a patch is never exactly that: in training, cells get Gaussian noise, of another strength
/// in each row, mostly weak. A model that has never met it is sure of whatever lies nearest, and an uncertain connector learns
/// little from it.
fn with_cells(
    model: &Llm,
    embeddings: Tensor<3>,
    rows: &[Row],
    noise: Option<&mut Stream>,
    device: &Device,
) -> Result<Tensor<3>> {
    let [b, t, d] = embeddings.dims();
    let lists = rows.iter().enumerate().filter_map(|(r, row)| row.cells.as_ref().map(|c| (r, c)));
    let cells: Vec<(usize, usize, &[u32])> = lists
        .flat_map(|(r, (at, cells))| {
            cells.iter().enumerate().map(move |(i, words)| (r * t + at + i, i, words.as_slice()))
        })
        .filter(|(place, _, _)| *place < b * t)
        .collect();
    let n = cells.len();
    let most = cells.iter().map(|(_, _, words)| words.len()).max().unwrap_or(0).max(1);
    let (mut ids, mut weights) = (vec![0_u32; n * most], vec![0.0_f32; n * most]);
    for (c, (_, _, words)) in cells.iter().enumerate() {
        for (w, id) in words.iter().enumerate() {
            ids[c * most + w] = *id;
            weights[c * most + w] = 1.0 / (words.len() as f32).sqrt();
        }
    }
    let words: Vec<&[u32]> = ids.chunks(most).collect();
    let weights = Tensor::<3>::from_data(TensorData::new(weights, [n, most, 1]), device);
    let mut bags = (model.embed_rows(&words, device)? * weights).sum_dim(1).reshape([n, d]);
    if let Some(stream) = noise {
        let length = bags.clone().detach().square().mean().sqrt();
        let mut values = Vec::with_capacity(n * d);
        let (mut row, mut strength) = (usize::MAX, 0.0);
        for (place, _, _) in &cells {
            if place / t != row {
                (row, strength) = (place / t, NOISE * uniform(stream).powi(2));
            }
            values.extend((0..d).map(|_| (strength * normal_pair(stream)[0]) as f32));
        }
        bags = bags + Tensor::<2>::from_data(TensorData::new(values, [n, d]), device) * length.unsqueeze::<2>();
    }
    let within: Vec<i32> = cells.iter().map(|(_, i, _)| (i % (CELLS * CELLS)) as i32).collect();
    let within = Tensor::from_data(TensorData::new(within, [n]), device);
    let bags = positions::add_at(bags, within, [CELLS; 2], model);
    let places: Vec<i32> = cells.iter().map(|(place, _, _)| *place as i32).collect();
    let places = Tensor::<1, Int>::from_data(TensorData::new(places, [n]), device);
    let flat = embeddings.reshape([b * t, d]);
    // Their places hold the image token's embedding: it is taken out, the cell is put in.
    let bags = bags - flat.clone().select(0, places.clone());
    Ok(flat.select_assign(0, places, bags, IndexingUpdateOp::Add).reshape([b, t, d]))
}

/// How well a language model answers from text, in one benchmark's form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The benchmark.
    pub benchmark: String,
    /// Number of questions.
    pub questions: usize,
    /// Share answered right, word for word, with the description before the question.
    pub read: f64,
    /// The same without it.
    pub blind: f64,
    /// Share answered right from the cells of the image, instead of the description; 0 for the closed forms, which have
    /// none.
    pub cells: f64,
}

/// Asks the first `questions` of [`burgess_world::reading`], once with the description and once without: the most that
/// the model could answer if an encoder told it everything, and what it guesses. An evaluator that cannot read what is
/// written cannot be expected to see.
///
/// # Errors
/// When the tokenizer lacks a token of the template, or a question is longer than the model's context.
pub fn reading(
    model: &Llm,
    tokenizer: &Tokenizer,
    chat: &ChatTemplate,
    questions: usize,
    seed: u64,
    device: &Device,
) -> Result<Vec<Reading>> {
    let exercises: Vec<ReadingQuestion> = burgess_world::reading(seed).take(questions).collect();
    let ask = |document: &dyn Fn(&ReadingQuestion) -> Document| -> Result<Vec<bool>> {
        let mut right = Vec::with_capacity(exercises.len());
        for part in exercises.chunks(32) {
            let rows: Vec<Row> = part.iter().map(|e| encode(&document(e), tokenizer, chat)).collect::<Result<_>>()?;
            right.extend(answers(model, &rows, None, device)?.right(rows.len())?);
        }
        Ok(right)
    };
    let bare = |e: &ReadingQuestion| Document::Chat(vec![e.turn.clone()]);
    let told = |e: &ReadingQuestion| {
        let question = format!("{}\n{}", e.description, e.turn.question);
        Document::Chat(vec![burgess_world::QaPair { question, answer: e.turn.answer.clone() }])
    };
    let shown = |e: &ReadingQuestion| match &e.cells {
        Some(cells) => Document::Cells(cells.clone(), vec![e.turn.clone()]),
        None => bare(e),
    };
    let (read, blind, cells) = (ask(&told)?, ask(&bare)?, ask(&shown)?);
    let mut table: Vec<Reading> = Vec::new();
    for (((e, read), blind), cells) in exercises.iter().zip(read).zip(blind).zip(cells) {
        let line = match table.iter_mut().position(|r| r.benchmark == e.benchmark) {
            Some(at) => &mut table[at],
            None => {
                let empty = Reading { benchmark: e.benchmark.into(), questions: 0, read: 0.0, blind: 0.0, cells: 0.0 };
                table.push(empty);
                let last = table.len() - 1;
                &mut table[last]
            }
        };
        line.questions += 1;
        line.read += f64::from(u8::from(read));
        line.blind += f64::from(u8::from(blind));
        line.cells += f64::from(u8::from(cells && e.cells.is_some()));
    }
    for line in &mut table {
        line.read /= line.questions as f64;
        line.blind /= line.questions as f64;
        line.cells /= line.questions as f64;
    }
    Ok(table)
}
