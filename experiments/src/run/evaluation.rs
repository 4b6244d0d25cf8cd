//! Evaluation of a model on benchmarks: it answers the questions in batches, with and without the image.

use crate::data::image_files;
use crate::features::model_cards::{self, ModelEncoder};
use crate::machine::progress::Bar;
use crate::machine::stop;
use crate::run::eval_task::EvalTask;
use crate::run::judge::Judge;
use crate::run::store::{PartialAnswers, RunStore, SAVE_INTERVAL};
use crate::study::{BlindInput, EvalOptions};
use burgess_base::prefetch::prefetch;
use burgess_base::{Category, Context, Result, atomic, digest};
use burgess_encoders::transfer;
use burgess_probe::connector::{ImageSize, ImageTokens};
use burgess_probe::generate::{self, Decoding, Prompt};
use burgess_probe::llm::{ChatTemplate, Tokenizer};
use burgess_probe::mllm::Mllm;
use burgess_probe::train::{FeatureSource, PendingImages};
use burgess_reports::schema::{BenchmarkResult, Likelihoods, Sample};
use burn::tensor::Device;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Side of the grey image in pixels; preprocessing scales it to the encoder's input size.
const GREY: u32 = 64;
/// Number of questions answered in one batch.
const BATCH: usize = 32;

/// A model to evaluate, with the source of its images.
pub struct EvalContext<'a> {
    /// The multimodal model.
    pub model: &'a Mllm,
    /// Chat template of the language model.
    pub chat: &'a ChatTemplate,
    /// Tokenizer of the language model.
    pub tokenizer: &'a Tokenizer,
    /// Device that computes.
    pub device: &'a Device,
    /// Features or pixels of images, by image index.
    pub source: &'a dyn FeatureSource,
    /// The encoders of the model.
    pub encoders: &'a [ModelEncoder],
    /// How questions are asked and answers scored.
    pub options: EvalOptions,
    /// The judge of answers to open questions with references, if one is asked.
    pub judge: Option<&'a Judge>,
    /// Directory to which image names are relative; `images` holds the names by index.
    pub dir: &'a Path,
    /// Names of the images, by index.
    pub images: &'a [String],
}

/// Evaluates a model on the benchmarks that have no samples in `store` yet, stores the samples, and scores all
/// benchmarks.
///
/// # Errors
/// As `answer_questions`; samples of finished benchmarks are kept.
pub fn evaluate(
    context: &EvalContext<'_>,
    benchmarks: &[EvalTask],
    store: &RunStore,
    title: &str,
    bar: &Bar,
) -> Result<BTreeMap<String, BenchmarkResult>> {
    // The embeddings of the grey image are computed on first use.
    let mut blind = None;
    let mut results = BTreeMap::new();
    for task in benchmarks {
        let id = task.benchmark.id();
        bar.message(&format!("{title}: {id}"));
        let mut samples = match store.read_samples(id, &|text| bar.line(text)) {
            Some(samples) => samples,
            None => {
                if blind.is_none() && context.options.blind == BlindInput::Grey {
                    blind = Some(grey(context)?);
                }
                let clock = Instant::now();
                let samples = answer_questions(context, task, blind.as_ref(), store, bar)?;
                store.check_owned()?;
                // The time is written first, so that samples never exist without it.
                atomic::write_json(&seconds(store, id), &clock.elapsed().as_secs_f64())?;
                store.write_samples(id, &samples)?;
                store.remove_partial(id)?;
                samples
            }
        };
        if let Some(judge) = context.judge.filter(|_| *task.benchmark.category() == Category::CONVERSATION) {
            judge.judge(task, &mut samples, store, bar)?;
        }
        let answers: Vec<String> = samples.iter().map(|s| s.answer.clone()).collect();
        match task.benchmark.submission(&task.questions, &answers)? {
            // The right answers are not published: write the submission file for the benchmark's server.
            Some(submission) => {
                let file = store.samples(id).with_extension("submission.json");
                atomic::write(&file, submission.as_bytes())?;
                bar.line(&format!("{id} is scored by its server; the answers for it are in {}", file.display()));
            }
            None => {
                // Samples of an earlier version have no recorded time.
                let file = seconds(store, id);
                let seconds = if file.is_file() { atomic::read_json(&file)? } else { f64::default() };
                results.insert(id.to_string(), task.score(&samples, seconds)?);
            }
        }
    }
    Ok(results)
}

/// File of the time that a benchmark took, in seconds.
fn seconds(store: &RunStore, benchmark: &str) -> PathBuf {
    store.samples(benchmark).with_extension("seconds.json")
}

/// Encodes the grey image as image tokens.
fn grey(context: &EvalContext<'_>) -> Result<ImageTokens> {
    let image = image::RgbImage::from_pixel(GREY, GREY, image::Rgb([128; 3]));
    context.model.encode_images(model_cards::blank_batch(
        &image,
        context.encoders,
        !context.model.encoders.is_empty(),
        context.device,
    )?)
}

/// Answers every question of a benchmark, with its image and blind.
///
/// # Errors
/// An image cannot be read, a question is too long for the model, or a signal asked to stop; answers so far are kept.
fn answer_questions(
    context: &EvalContext<'_>,
    task: &EvalTask,
    grey: Option<&ImageTokens>,
    store: &RunStore,
    bar: &Bar,
) -> Result<Vec<Sample>> {
    let _section = stop::section()?;
    let EvalContext { model, chat, tokenizer, device, source, options, .. } = *context;
    let stop = chat.stop(tokenizer)?;
    let image_id = chat.image_id(tokenizer)?;
    let decoding =
        Decoding { max_new_tokens: task.benchmark.max_new_tokens(), stop: &stop, sampling: options.sampling };
    let total = task.questions.len() as u64;
    let mut done = AnswerProgress::open(store, task, options)?;
    let batches = (done.now.answers.len()..task.questions.len()).step_by(BATCH);
    let batches = batches.map(|first| first..(first + BATCH).min(task.questions.len()));
    // On other devices than the CPU, a second thread prepares the images of the next batch meanwhile.
    let prefetches = !transfer::is_host(device);
    let images: &[Vec<usize>] = &task.images;
    let make = |range: Range<usize>| AskedBatch::prepare(range, images, source, device);
    prefetch(prefetches, batches, make, |batches| -> Result<()> {
        for asked in batches {
            done.save_or_stop()?;
            answer_batch(context, task, asked?, &decoding, image_id, &mut done.now)?;
            bar.set(done.now.answers.len() as u64, 2 * total);
        }
        Ok(())
    })?;
    // Blind prompts of many questions have the same text: each text is asked once.
    let asked_blind = if grey.is_some() { &task.image_prompts } else { &task.blind_prompts };
    let texts: BTreeSet<&Vec<u32>> = asked_blind.iter().collect();
    let texts: Vec<&Vec<u32>> = texts.into_iter().collect();
    for chunk in texts.chunks(BATCH).skip(done.now.blind.len().div_ceil(BATCH)) {
        done.save_or_stop()?;
        let grey_images = |ids: &[u32]| match grey {
            Some(_) => placeholders(ids, image_id).map(|at| (0, at)).collect(),
            None => Vec::new(),
        };
        let prompts: Vec<Prompt<'_>> = chunk.iter().map(|ids| Prompt { ids, images: grey_images(ids) }).collect();
        let found = generate::answer(model, grey, &prompts, &decoding, device);
        let found = found.with_context(|| {
            let first = asked_blind.iter().position(|ids| chunk.first() == Some(&ids)).unwrap_or(0);
            format!("asking {} without images, from {} on", task.benchmark.id(), task.named(first..first + 1))
        })?;
        done.now.blind.extend(found);
        bar.add(chunk.len() as u64);
    }
    let PartialAnswers { answers, mut option_scores, blind, .. } = done.now;
    let blind: HashMap<&Vec<u32>, Vec<u32>> = texts.into_iter().zip(blind).collect();
    let rules = task.scoring;
    let text = |ids: &[u32]| tokenizer.decode(ids).map(|t| t.trim().to_string());
    let mut samples = Vec::with_capacity(answers.len());
    for (i, question) in task.questions.iter().enumerate() {
        let answer = text(&answers[i])?;
        let blind_answer = text(blind.get(&asked_blind[i]).map_or(&[], Vec::as_slice))?;
        let judged = task.benchmark.judge(question, &answer, rules);
        let blind_judged = task.benchmark.judge(question, &blind_answer, rules);
        samples.push(Sample {
            id: question.id.clone(),
            unit: question.unit.clone(),
            subtask: question.subtask.clone(),
            question: question.question.clone(),
            options: question.options.clone(),
            prompt: task.prompts[i].clone(),
            image: image_paths(context, &task.images[i]),
            target: question.answer.clone(),
            answer,
            parsed: judged.parsed,
            score: judged.score,
            blind_answer,
            blind_score: blind_judged.score,
            likelihoods: option_scores.get_mut(i).and_then(Option::take),
            tokens: Some(answers[i].len()),
            // The token that ends an answer is not part of it.
            at_limit: answers[i].len() >= task.benchmark.max_new_tokens(),
            judge: None,
        });
    }
    Ok(samples)
}

/// A batch of questions whose images are read.
struct AskedBatch<'a> {
    /// Indices of the questions.
    questions: Range<usize>,
    /// Indices of their images, each once.
    images: Vec<usize>,
    sizes: Option<Vec<ImageSize>>,
    /// The images, or why they could not be read.
    read: Result<PendingImages<'a>>,
}

impl<'a> AskedBatch<'a> {
    /// Reads the images of some questions; `images` are those of all questions.
    fn prepare(
        questions: Range<usize>,
        images: &[Vec<usize>],
        source: &'a dyn FeatureSource,
        device: &Device,
    ) -> Result<Self> {
        // An image with several questions is encoded once.
        let mut asked: Vec<usize> = Vec::with_capacity(questions.len());
        for image in images.get(questions.clone()).unwrap_or_default().iter().flatten() {
            if !asked.contains(image) {
                asked.push(*image);
            }
        }
        let images = asked;
        let sizes = source.sizes(&images)?;
        let read = source.prepare(&images, device);
        Ok(Self { questions, images, sizes, read })
    }
}

/// Answers a batch of questions with their images, and scores their options if that is asked for.
fn answer_batch(
    context: &EvalContext<'_>,
    task: &EvalTask,
    asked: AskedBatch<'_>,
    decoding: &Decoding<'_>,
    image_id: u32,
    now: &mut PartialAnswers,
) -> Result<()> {
    let EvalContext { model, device, options, .. } = *context;
    let AskedBatch { questions: range, images, sizes, read } = asked;
    let step = || format!("asking {}, {}", task.benchmark.id(), task.named(range.clone()));
    let encode = |read: Result<PendingImages<'_>>| model.encode_images_with(read?()?, sizes.as_deref(), None);
    let image_tokens = match images.is_empty() {
        true => None,
        false => Some(encode(read).with_context(step)?),
    };
    let image_tokens = image_tokens.as_ref();
    let prompts: Vec<Prompt<'_>> = range
        .clone()
        .map(|i| {
            let numbers = task.images[i].iter().filter_map(|image| images.iter().position(|p| p == image));
            let ids = &task.image_prompts[i];
            Prompt { ids, images: numbers.zip(placeholders(ids, image_id)).collect() }
        })
        .collect();
    if options.likelihoods {
        let scores = score_options(context, image_tokens, &prompts, task, range.start);
        now.option_scores.extend(scores.with_context(step)?);
    }
    let found = generate::answer(model, image_tokens, &prompts, decoding, device);
    now.answers.extend(found.map_err(|e| {
        // Ask each question of the batch alone to find the one that fails.
        let one =
            |p: &Prompt<'_>| generate::answer(model, image_tokens, std::slice::from_ref(p), decoding, device).err();
        let culprit = prompts.iter().zip(range.clone()).find_map(|(p, i)| Some((one(p)?, i)));
        let (e, range) = culprit.map_or((e, range.clone()), |(e, i)| (e, i..i + 1));
        e.context(format!("asking {}, {}", task.benchmark.id(), task.named(range)))
    })?);
    Ok(())
}

/// The answers to a benchmark so far, which are written once a minute and when a signal asks to stop.
struct AnswerProgress<'a> {
    store: &'a RunStore,
    id: &'static str,
    now: PartialAnswers,
    last: Instant,
}

impl<'a> AnswerProgress<'a> {
    /// Starts from stored answers if they belong to the same questions and options.
    fn open(store: &'a RunStore, task: &EvalTask, options: EvalOptions) -> Result<Self> {
        let how =
            (&task.prompts, task.benchmark.max_new_tokens(), options.blind, options.likelihoods, options.sampling);
        let of = digest::of_value(&(&task.digest, how))?;
        let id = task.benchmark.id();
        Ok(Self { store, id, now: store.read_partial(id, &of), last: Instant::now() })
    }

    fn save_or_stop(&mut self) -> Result<()> {
        if stop::requested() || self.last.elapsed() >= SAVE_INTERVAL {
            self.store.write_partial(self.id, &self.now)?;
            self.last = Instant::now();
        }
        stop::check()
    }
}

/// Returns the indices of the image placeholders in a prompt.
fn placeholders(ids: &[u32], image_id: u32) -> impl Iterator<Item = usize> {
    ids.iter().enumerate().filter(move |(_, id)| **id == image_id).map(|(at, _)| at)
}

/// Full paths of the images of a question, one per line, for samples.
fn image_paths(context: &EvalContext<'_>, images: &[usize]) -> String {
    let names = images.iter().filter_map(|image| context.images.get(*image));
    names.map(|name| image_files::full_paths(context.dir, name)).collect::<Vec<_>>().join("\n")
}

/// Scores the options of the questions from index `first` on by log-likelihood; `None` for open questions.
fn score_options(
    context: &EvalContext<'_>,
    image_tokens: Option<&ImageTokens>,
    prompts: &[Prompt<'_>],
    task: &EvalTask,
    first: usize,
) -> Result<Vec<Option<Likelihoods>>> {
    let EvalContext { model, chat, tokenizer, device, .. } = *context;
    let mut names = Vec::with_capacity(prompts.len());
    let mut ids = Vec::with_capacity(prompts.len());
    for (i, question) in task.questions.iter().enumerate().skip(first).take(prompts.len()) {
        let options = task.benchmark.possible_answers(question);
        let whole = |answer: &String| task.answer_tokens(chat, tokenizer, i, answer);
        ids.push(options.iter().map(whole).collect::<Result<Vec<_>>>()?);
        names.push(options);
    }
    let scores = generate::score_options(model, image_tokens, prompts, &ids, device)?;
    let questions = task.questions.iter().skip(first);
    Ok(questions
        .zip(names.into_iter().zip(scores))
        .map(|(question, (names, scores))| {
            let options: Vec<(String, f64)> = names.into_iter().zip(scores).collect();
            // Ties go to the first option.
            let best = options.iter().rev().max_by(|a, b| a.1.total_cmp(&b.1))?.0.clone();
            let score = task.benchmark.judge(question, &best, task.scoring).score;
            Some(Likelihoods { options, answer: best, score })
        })
        .collect())
}
