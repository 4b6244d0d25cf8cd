//! Evaluation of a model on benchmarks: it answers the questions with and without the image, and the answers are
//! scored.

use crate::features::model_cards::{self, ModelEncoder};
use crate::machine::progress::Bar;
use crate::run::asked_tasks::{self, AskedTasks};
use crate::run::eval_task::EvalTask;
use crate::run::judge::Judge;
use crate::run::store::RunStore;
use crate::study::EvalOptions;
use burgess_base::{Category, Result, atomic};
use burgess_probe::connector::ImageTokens;
use burgess_probe::llm::{ChatTemplate, Tokenizer};
use burgess_probe::mllm::Mllm;
use burgess_probe::train::FeatureSource;
use burgess_reports::schema::{BenchmarkResult, SequentialInterval};
use burn::tensor::Device;
use std::collections::BTreeMap;
use std::path::Path;

/// Side of the grey image in pixels; preprocessing scales it to the encoder's input size.
const GREY: u32 = 64;

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

/// The outcome of an evaluation.
pub struct Evaluated {
    /// Results by benchmark id.
    pub results: BTreeMap<String, BenchmarkResult>,
    /// Intervals of the categories in which asking stops early; empty if all questions are asked.
    pub until_ci: BTreeMap<Category, SequentialInterval>,
}

/// Evaluates a model on the benchmarks that have no samples in `store` yet, stores the samples, and scores all
/// benchmarks.
///
/// # Errors
/// An image cannot be read, a question is too long for the model, or a signal asked to stop; samples of finished
/// benchmarks, and the answers so far, are kept.
pub fn evaluate(
    context: &EvalContext<'_>,
    benchmarks: &[EvalTask],
    store: &RunStore,
    title: &str,
    bar: &Bar,
) -> Result<Evaluated> {
    let mut asked = AskedTasks::open(context, benchmarks, store, bar)?;
    let until_ci = match context.options.until_ci {
        None => {
            asked.ask(context, title, bar)?;
            BTreeMap::new()
        }
        Some(width) => asked.ask_until(context, width, title, bar)?,
    };
    let mut results = BTreeMap::new();
    for (task, mut samples) in asked.finished()? {
        let task = task.as_ref();
        let id = task.benchmark.id();
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
                let file = asked_tasks::seconds(store, id);
                let seconds = if file.is_file() { atomic::read_json(&file)? } else { f64::default() };
                results.insert(id.to_string(), task.score(&samples, seconds)?);
            }
        }
    }
    Ok(Evaluated { results, until_ci })
}

/// Encodes the grey image as image tokens.
pub(super) fn grey(context: &EvalContext<'_>) -> Result<ImageTokens> {
    let image = image::RgbImage::from_pixel(GREY, GREY, image::Rgb([128; 3]));
    context.model.encode_images(model_cards::blank_batch(
        &image,
        context.encoders,
        !context.model.encoders.is_empty(),
        context.device,
    )?)
}
