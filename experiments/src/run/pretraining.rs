//! Pretraining of the nano encoders and the nano language model, by which the shipped weights were made.
//!
//! All encoders are trained on the same images of the nano world, in the same order and for the same number of epochs;
//! only the objective on the card differs. The language model is trained on text only.

use crate::machine::progress::Progress;
use crate::run::probes;
use crate::run::probes::ProbeRecord;
use burgess_base::stream::stream;
use burgess_base::{Context, Error, Result, atomic, digest};
use burgess_encoders::card::{EncoderCard, Supervision};
use burgess_encoders::checkpoint::Precision;
use burgess_encoders::encoder::Encoder;
use burgess_encoders::init::initialise;
use burgess_encoders::objective::{DataShape, PretrainBatch, TokenizedCaptions};
use burgess_encoders::pretrain::{PretrainRecipe, StepReport, pretrain};
use burgess_encoders::resolve::is_path;
use burgess_probe::data::collate;
use burgess_probe::llm::chat::Turn;
use burgess_probe::llm::pretrain as lm;
use burgess_probe::llm::tokenizer::{EOS, PAD, SPECIALS, Tokenizer};
use burgess_probe::llm::{ChatTemplate, Llm, LlmConfig, weights};
use burgess_probe::mllm::{load_llm, save_llm};
use burgess_probe::train::{StageOutcome, StepLog};
use burgess_world::{CELLS, Document, LessonCounts, QaPair, ReadingExercise, Scene, SceneSplit};
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use image::RgbImage;
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Seed of the pretraining images and captions.
const WORLD_SEED: u64 = 0;
/// Name of the language model of the nano studies; its tokenizer encodes the captions.
pub const LLM: &str = "nano-lm";
/// Largest length of a caption in tokens, with its end token.
const CONTEXT: usize = 32;
/// Number of questions of the reading test after the language model's pretraining; a tenth of them during it.
const READING_QUESTIONS: usize = 3600;

/// Record of a pretraining, which is written beside the weights.
#[derive(Serialize)]
pub struct PretrainRecord {
    /// Card id of the encoder, or name of the language model.
    pub id: String,
    /// Command that trains the same weights again.
    pub command: String,
    /// Version of the nano world that rendered the images or wrote the text.
    pub world_version: u32,
    /// Name of the device.
    pub device: String,
    /// Number of threads.
    pub threads: usize,
    /// Number of distinct training images; for the language model, the number of tokens.
    pub distinct: usize,
    /// Number of training images or tokens, counting repetitions.
    pub seen: usize,
    /// Duration in seconds.
    pub seconds: f64,
    /// The recipe; null for random weights.
    pub recipe: serde_json::Value,
    /// Loss curve with about 50 points.
    pub losses: Vec<LossPoint>,
    /// Accuracies of the language model in the reading test: with a text description of the image, and blind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reading: Vec<lm::ReadingScore>,
    /// Direct probes of the encoder with these weights.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeRecord>,
    /// Digest of the weights file.
    pub digest: String,
}

/// Step, mean loss since the last point, and the loss's parts at this step.
pub type LossPoint = (usize, f64, Vec<(String, f64)>);

/// The loss curve of a training, averaged over intervals of a fiftieth of its steps.
#[derive(Default)]
struct LossCurve {
    sum: f64,
    count: usize,
    losses: Vec<LossPoint>,
}

impl LossCurve {
    fn add(&mut self, step: usize, steps: usize, loss: f64, parts: &[(String, f64)]) {
        self.sum += loss;
        self.count += 1;
        let every = (steps / 50).max(1);
        if (step + 1).is_multiple_of(every) || step + 1 == steps {
            self.losses.push((step + 1, self.sum / self.count as f64, parts.to_vec()));
            (self.sum, self.count) = (0.0, 0);
        }
    }
}

/// Opens the card of an encoder that can be pretrained, by id or path.
///
/// # Errors
/// There is no such card, or it has no recipe.
pub fn card(id: &str) -> Result<EncoderCard> {
    let card = if is_path(id) { EncoderCard::from_file(Path::new(id))? } else { EncoderCard::find(id)? };
    if card.pretrain.is_none() && card.supervision != Supervision::None {
        return Err(Error::usage(format!("the card of {id} has no [pretrain] table"))
            .hint("published encoders are not trained here: download them with `burgess fetch`"));
    }
    Ok(card)
}

/// Pretrains the encoder of a card, and writes its weights (f16, upstream names) to `weights` and the record beside
/// them.
pub fn encoder(
    card: &EncoderCard,
    weights: &Path,
    device: &Device,
    device_name: &str,
    progress: &Progress,
) -> Result<PretrainRecord> {
    let started = Instant::now();
    let (arch, recipe, distinct, seen, losses) = match &card.pretrain {
        None => {
            let arch = initialise(card.architecture.init(device)?, &card.id, WORLD_SEED);
            (arch, serde_json::Value::Null, 0, 0, Vec::new())
        }
        Some(table) => {
            let (config, distinct) = recipe(card, table)?;
            let images = PretrainImages::draw(card, &config, distinct, progress)?;
            let bar = progress.bar(&format!("pretraining {}", card.id), config.steps as u64);
            let mut curve = LossCurve::default();
            let report = |step: &StepReport| {
                curve.add(step.step, step.steps, step.loss, &step.parts);
                bar.set(step.step as u64 + 1, step.steps as u64);
                bar.message(&format!("pretraining {}, loss {:.4}", card.id, step.loss));
                if (step.step + 1).is_multiple_of((step.steps / 10).max(1)) {
                    progress.line(&format!(
                        "{} step {}: loss {:.4} {:?}",
                        card.id,
                        step.step + 1,
                        step.loss,
                        step.parts
                    ));
                }
                Ok(())
            };
            let shape = images.shape;
            let arch = pretrain(&card.architecture, &config, &shape, device, |s, d| images.batch(s, d), report)?;
            bar.done(&format!("pretrained {}", card.id));
            let seen = config.steps * config.batch;
            (arch, serde_json::to_value(&config)?, distinct, seen, curve.losses)
        }
    };
    Encoder::new(card.clone(), arch, device).save(Precision::F16, weights)?;
    let mut record = PretrainRecord {
        reading: Vec::new(),
        probes: Vec::new(),
        id: card.id.clone(),
        command: command(&card.id, device_name),
        world_version: burgess_world::VERSION,
        device: device_name.to_string(),
        threads: rayon::current_num_threads(),
        distinct,
        seen,
        seconds: started.elapsed().as_secs_f64(),
        recipe,
        losses,
        digest: digest::of_file(weights)?,
    };
    // The training is recorded before the probes, which could fail.
    atomic::write_json(&weights.with_extension("json"), &record)?;
    record.probes = probes::store_probes(card, weights, None, device, progress)?;
    Ok(record)
}

/// Formats the command that trains these weights again.
fn command(id: &str, device: &str) -> String {
    format!("burgess pretrain {} --device {device}", id.replacen('-', "/", 1))
}

/// Recipe of a language model: `recipe.toml` in its directory.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LlmRecipe {
    /// Training of the tokenizer; if absent, the tokenizer is that of `base`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokenizer: Option<TokenizerRecipe>,
    /// Width of the residual stream, in channels.
    hidden_size: usize,
    /// Number of decoder blocks.
    layers: usize,
    /// Seed of the documents, the initial weights and the order of the batches.
    seed: u64,
    /// Numbers of lesson documents with which the corpus begins.
    #[serde(default)]
    lessons: LessonCounts,
    /// Directory of the model from which the training starts, relative to the recipe's; random weights if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base: Option<PathBuf>,
    /// Hyper-parameters of the training.
    training: lm::PretrainConfig,
}

/// Training of a tokenizer.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenizerRecipe {
    /// Number of entries of the vocabulary.
    vocabulary: usize,
    /// Number of documents that it is trained on.
    documents: usize,
}

/// Pretrains the language model of `dir` on text by its `recipe.toml`, and writes tokenizer, chat template,
/// configuration, weights (f16) and the record into `dir`.
pub fn llm(dir: &Path, device: &Device, device_name: &str, progress: &Progress) -> Result<PretrainRecord> {
    let started = Instant::now();
    let path = dir.join("recipe.toml");
    let step = || format!("reading {}", path.display());
    let text = std::fs::read_to_string(&path).with_context(step)?;
    let recipe: LlmRecipe = toml::from_str(&text).map_err(|e| Error::usage(e.to_string()).context(step()))?;
    let chat = ChatTemplate::nano();
    let base = recipe.base.as_ref().map(|base| load_llm(&dir.join(base), &device.clone().autodiff())).transpose()?;
    let tokenizer = match (&recipe.tokenizer, &base) {
        (Some(own), _) => {
            // The tokenizer is trained on the corpus without lessons, which repeat a few words.
            let texts: Vec<String> = burgess_world::corpus(recipe.seed, LessonCounts::default())
                .take(own.documents)
                .flat_map(|document| pretrain_document(document).texts())
                .map(|text| text.split(' ').filter(|word| !is_spelled(word)).collect::<Vec<_>>().join(" "))
                .collect();
            Tokenizer::train(texts.into_iter(), own.vocabulary, &SPECIALS)?
        }
        (None, Some((_, tokenizer))) => tokenizer.clone(),
        (None, None) => {
            return Err(Error::usage(format!("{} has neither [tokenizer] nor `base`", path.display()))
                .hint("add a [tokenizer] table with `vocabulary` and `documents`"));
        }
    };
    // Written before the training, because encoders can be pretrained with the tokenizer alone.
    tokenizer.save(&dir.join("tokenizer.json"))?;
    let config = LlmConfig::nano(recipe.hidden_size, recipe.layers, tokenizer.vocab_size());
    let bar = progress.bar("pretraining nano-lm", recipe.training.steps as u64);
    let mut curve = LossCurve::default();
    let mut tokens = 0;
    let mut readings = Vec::new();
    let mut on_step = |s: &StepLog, model: &Llm| {
        curve.add(s.step - 1, s.steps, s.loss, &[]);
        tokens += s.tokens;
        bar.set(s.step as u64, s.steps as u64);
        bar.message(&format!("pretraining nano-lm, loss {:.4}", s.loss));
        if s.step.is_multiple_of((s.steps / 40).max(1)) || s.step == s.steps {
            let asked = if s.step == s.steps { READING_QUESTIONS } else { READING_QUESTIONS / 10 };
            let questions: Vec<_> = burgess_world::reading(recipe.seed).take(asked).map(reading_question).collect();
            let table = lm::reading(&model.valid(), &tokenizer, &chat, &questions, device)?;
            let shown: Vec<String> = table
                .iter()
                .map(|r| format!("{} {:.2} {:.2} ({:.2})", r.benchmark, r.read, r.cells, r.blind))
                .collect();
            progress.line(&format!(
                "{LLM} step {}: loss {:.4}; description, cells (blind): {}",
                s.step,
                s.loss,
                shown.join(", ")
            ));
            readings = table;
            // Saved during the training, so that an interruption does not lose it.
            save_llm(&model.valid(), &tokenizer, dir, Precision::F16)?;
        }
        Ok(())
    };
    let documents = burgess_world::corpus(recipe.seed, recipe.lessons).map(pretrain_document);
    let pretraining = lm::Pretraining {
        config: &recipe.training,
        llm: &config,
        tokenizer: &tokenizer,
        chat: &chat,
        device,
        seed: recipe.seed,
    };
    let outcome = pretraining.run(base, documents, &mut on_step, &|| false)?;
    let StageOutcome::Done(model) = outcome else {
        return Err(Error::failed("pretraining was interrupted"));
    };
    bar.done("pretrained nano-lm");
    save_llm(&model, &tokenizer, dir, Precision::F16)?;
    atomic::write_json(&dir.join("chat.json"), &chat)?;
    let record = PretrainRecord {
        reading: readings,
        probes: Vec::new(),
        id: LLM.into(),
        command: command(LLM, device_name),
        world_version: burgess_world::VERSION,
        device: device_name.to_string(),
        threads: rayon::current_num_threads(),
        distinct: tokens,
        seen: tokens,
        seconds: started.elapsed().as_secs_f64(),
        recipe: serde_json::to_value(&recipe)?,
        losses: curve.losses,
        digest: digest::of_file(&dir.join("model.safetensors"))?,
    };
    atomic::write_json(&dir.join("record.json"), &record)?;
    Ok(record)
}

/// A document of the nano world in the form that language model pretraining takes.
fn pretrain_document(document: Document) -> lm::PretrainDocument {
    let turns = |turns: Vec<QaPair>| -> Vec<Turn> {
        turns.into_iter().flat_map(|turn| [Turn::user(turn.question), Turn::assistant(turn.answer)]).collect()
    };
    match document {
        Document::Text(text) => lm::PretrainDocument::Text(text),
        Document::Chat(list) => lm::PretrainDocument::Chat(turns(list)),
        Document::Cells(words, list) => lm::PretrainDocument::Cells(cell_grid(words), turns(list)),
    }
}

/// A question of the nano world's reading test in the form that language model pretraining takes.
fn reading_question(exercise: ReadingExercise) -> lm::ReadingQuestion {
    lm::ReadingQuestion {
        benchmark: exercise.benchmark.into(),
        description: exercise.description,
        cells: exercise.cells.map(cell_grid),
        question: exercise.turn.question,
        answer: exercise.turn.answer,
    }
}

/// The cells of a nano image with their grid.
fn cell_grid(words: Vec<Vec<String>>) -> lm::CellGrid {
    lm::CellGrid { grid: [CELLS; 2], words }
}

/// Whether a word is spelled letter by letter: several capitals or several digits. The tokenizer is trained without
/// such words, so that it has no tokens for parts of them, and text in an image is encoded with one token per letter.
fn is_spelled(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit())
}

/// Reads the objective's configuration and the number of distinct images from the card's `[pretrain]` table.
fn recipe(card: &EncoderCard, table: &toml::Table) -> Result<(PretrainRecipe, usize)> {
    let mut table = table.clone();
    let distinct = match table.remove("images") {
        Some(toml::Value::Integer(n)) if n > 0 => n as usize,
        other => {
            return Err(Error::usage(format!(
                "[pretrain] of {}: expected `images` = a number of at least 1, found {other:?}",
                card.id
            )));
        }
    };
    let config: PretrainRecipe = table
        .try_into()
        .map_err(|e: toml::de::Error| Error::usage(e.message().to_string()))
        .context(format!("[pretrain] of {}", card.id))?;
    config.validate()?;
    card.check_trainable()?;
    Ok((config, distinct))
}

/// The pretraining images and the targets of the objective, rendered once and kept in memory as bytes.
struct PretrainImages<'a> {
    card: &'a EncoderCard,
    config: &'a PretrainRecipe,
    shape: DataShape,
    drawn: Vec<DrawnImage>,
    /// For each caption, its token ids with the end token, padded to [`CONTEXT`], and their number without padding.
    captions: Option<Vec<(Vec<i32>, i32)>>,
}

/// One rendered image and its targets.
struct DrawnImage {
    image: RgbImage,
    caption: String,
    labels: Vec<usize>,
    /// Instance index of each pixel; empty unless the objective needs it.
    instances: Vec<u8>,
    /// Inverse depth of each pixel, scaled so that the nearest is 255; empty unless the objective needs it.
    inverse_depth: Vec<u8>,
}

/// Scales inverse depths so that the nearest is 255, to store them as bytes.
fn bytes(inverse_depth: &[f32]) -> Vec<u8> {
    let nearest = inverse_depth.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
    inverse_depth.iter().map(|d| (d / nearest * 255.0).round() as u8).collect()
}

impl<'a> PretrainImages<'a> {
    fn draw(card: &'a EncoderCard, config: &'a PretrainRecipe, count: usize, progress: &Progress) -> Result<Self> {
        let targets = config.objective.targets();
        let bar = progress.bar("drawing images", count as u64);
        let drawn: Vec<DrawnImage> = (0..count as u64)
            .into_par_iter()
            .map(|i| {
                let scene = Scene::draw(SceneSplit::Pretrain, WORLD_SEED, i);
                let caption = scene.pretraining_caption(&mut stream(&format!("pretrain/caption-{i}"), WORLD_SEED));
                bar.add(1);
                DrawnImage {
                    image: scene.render(),
                    caption,
                    labels: scene.classes(),
                    instances: if targets.instances { scene.instances() } else { Vec::new() },
                    inverse_depth: if targets.inverse_depth { bytes(&scene.inverse_depth()) } else { Vec::new() },
                }
            })
            .collect();
        bar.done(&format!("drew {count} images"));
        let (mut vocab, mut captions) = (0, None);
        if targets.texts {
            let tokenizer = Tokenizer::from_file(&weights::locate(LLM)?.join("tokenizer.json"))?;
            vocab = tokenizer.vocab_size();
            let (end, pad) = (tokenizer.id(EOS)?, tokenizer.id(PAD)?);
            let encoded: Result<Vec<_>> = drawn
                .iter()
                .map(|drawn| {
                    let mut ids: Vec<i32> =
                        tokenizer.encode(&drawn.caption)?.into_iter().take(CONTEXT - 1).map(|i| i as i32).collect();
                    ids.push(end as i32);
                    let length = ids.len() as i32;
                    ids.resize(CONTEXT, pad as i32);
                    Ok((ids, length))
                })
                .collect();
            captions = Some(encoded?);
        }
        let shape = DataShape { vocab, context: CONTEXT, classes: burgess_world::class_names().len() };
        Ok(Self { card, config, shape, drawn, captions })
    }

    /// Makes the batch of a step; every epoch visits each image once, in a new random order.
    fn batch(&self, step: usize, device: &Device) -> Result<PretrainBatch> {
        let size = self.config.batch;
        let per_epoch = (self.drawn.len() / size).max(1);
        let mut order: Vec<usize> = (0..self.drawn.len()).collect();
        collate::shuffle(&mut order, &mut stream(&format!("pretrain/epoch-{}", step / per_epoch), WORLD_SEED));
        let first = step % per_epoch * size;
        let chosen: Vec<usize> = order.into_iter().cycle().skip(first).take(size).collect();
        let images: Vec<RgbImage> = chosen.iter().map(|&i| self.drawn[i].image.clone()).collect();
        let pixels = self.card.preprocess.pixels(&images, device);
        let texts = self.captions.as_ref().map(|captions| {
            let lengths: Vec<i32> = chosen.iter().map(|&i| captions[i].1).collect();
            // Padded only to the longest caption of the batch: most captions fill half of the context.
            let longest = lengths.iter().copied().max().map_or(1, |n| n.max(1) as usize);
            let ids: Vec<i32> = chosen.iter().flat_map(|&i| captions[i].0.iter().copied().take(longest)).collect();
            TokenizedCaptions {
                ids: Tensor::<2, Int>::from_data(TensorData::new(ids, [size, longest]), device),
                lengths: Tensor::<1, Int>::from_data(TensorData::new(lengths, [size]), device),
            }
        });
        let targets = self.config.objective.targets();
        let labels = targets.labels.then(|| {
            let mut hot = vec![0.0_f32; size * self.shape.classes];
            for (row, &i) in chosen.iter().enumerate() {
                for &class in &self.drawn[i].labels {
                    hot[row * self.shape.classes + class] = 1.0;
                }
            }
            Tensor::<2>::from_data(TensorData::new(hot, [size, self.shape.classes]), device)
        });
        // The maps have the size of the rendered image, which the card's preprocessing does not resize.
        let side = burgess_world::SIZE as usize;
        let instances = targets.instances.then(|| {
            let values: Vec<i32> =
                chosen.iter().flat_map(|&i| self.drawn[i].instances.iter().map(|v| i32::from(*v))).collect();
            Tensor::<3, Int>::from_data(TensorData::new(values, [size, side, side]), device)
        });
        let inverse_depth = targets.inverse_depth.then(|| {
            let maps = chosen.iter().flat_map(|&i| self.drawn[i].inverse_depth.iter().map(|v| f32::from(*v) / 255.0));
            Tensor::<3>::from_data(TensorData::new(maps.collect(), [size, side, side]), device)
        });
        Ok(PretrainBatch { pixels, texts, labels, instances, inverse_depth })
    }
}

/// Default path of the weights of a card: in the first existing zoo directory, or in that of a checkout.
pub fn default_weights(card: &EncoderCard) -> Result<PathBuf> {
    use burgess_encoders::card::WeightsLocation;
    use burgess_encoders::shipped::new_weights_folder;
    let WeightsLocation::Shipped { file } = &card.source.location else {
        return Err(Error::usage(format!("{} is a published encoder, which is not pretrained here", card.id))
            .hint("name a nano encoder, such as nano/clip"));
    };
    Ok(new_weights_folder()?.join(file))
}
