//! Throughput of an evaluator at full size with random weights, in tokens, questions and training samples per second,
//! and its copies between host and device.

use crate::machine::memory;
use crate::throughput::measure::{Effort, median, noise, random_weights};
use burgess_base::{Error, Result};
use burgess_encoders::arch::Architecture;
use burgess_encoders::card::EncoderCard;
use burgess_encoders::transfer::{self, LaunchCounter, TransferCounts};
use burgess_probe::connector::{ConnectorConfig, ConnectorKind};
use burgess_probe::data::Example;
use burgess_probe::generate::{self, Decoding, Prompt};
use burgess_probe::llm::{Activations, ChatTemplate, Compute, KvCache, Llm, LlmConfig, Weights};
use burgess_probe::mllm::{ImageBatch, Mllm, MllmConfig};
use burgess_probe::optimiser::{Optimiser, OptimiserMethod, StepSettings};
use burgess_probe::train::{FeatureSource, read_batch};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use serde::Serialize;
use std::time::Instant;

/// One kind of work of an evaluator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum WorkKind {
    /// Reading a prompt (prefill).
    Prompt,
    /// Decoding after a quarter of the prompt.
    Decode,
    /// Answering questions about images, from given features.
    Answer,
    /// Log-likelihoods of four options per question, from given features.
    Options,
    /// A training step of the align stage with given features.
    Align,
    /// A training step of the align stage with features computed from images.
    AlignEncoding,
    /// A training step of the tune stage with given features.
    Tune,
}

impl WorkKind {
    /// Name of the work in tables.
    fn name(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Decode => "decode",
            Self::Answer => "answer",
            Self::Options => "options",
            Self::Align => "align",
            Self::AlignEncoding => "align, encoding",
            Self::Tune => "tune",
        }
    }
}

/// The language model to measure.
#[derive(Debug)]
pub enum BenchmarkLlm {
    /// A model of this configuration with random weights.
    Random(Box<LlmConfig>),
    /// A model with its own weights, in the number formats of its files.
    Loaded(Box<Weights>),
}

impl BenchmarkLlm {
    fn config(&self) -> &LlmConfig {
        match self {
            Self::Random(config) => config,
            Self::Loaded(weights) => weights.config(),
        }
    }

    /// Builds or loads the model; `trained` tells whether its weights are to be trained, so that they must be f32.
    fn init(&self, trained: bool, device: &Device) -> Result<Llm> {
        Ok(match self {
            Self::Random(config) => random_weights(config.init(device)?)?,
            Self::Loaded(weights) if trained => weights.load(device)?.0,
            Self::Loaded(weights) => weights.load_frozen(device)?.0,
        }
        .no_grad())
    }
}

/// The models, kinds of work, batch sizes and lengths to measure.
#[derive(Debug)]
pub struct EvaluatorWork {
    /// The language model.
    pub llm: BenchmarkLlm,
    /// Precision of activations in products with quantised weights.
    pub activations: Activations,
    /// Precision of the language model's matrix products.
    pub precision: Compute,
    /// The kinds of work to measure.
    pub kinds: Vec<WorkKind>,
    /// Card of the encoder.
    pub card: EncoderCard,
    /// Side of the grid to which features are resampled; `None` keeps the encoder's grid.
    pub grid: Option<usize>,
    /// Number of tokens of the prompt.
    pub prompt: usize,
    /// Batch sizes of decoding and of answering, in sequences.
    pub batches: Vec<usize>,
    /// Number of samples of a training step.
    pub samples: usize,
    /// Number of text tokens of a training sample, half of them supervised.
    pub text: usize,
}

/// Measurement of one kind of work.
#[derive(Debug, Clone, Serialize)]
pub struct EvaluatorThroughput {
    /// Name of the [`WorkKind`]: `prompt`, `decode`, `answer`, `options`, `align`, `align, encoding` or `tune`.
    pub work: &'static str,
    /// Batch size in sequences.
    pub batch: usize,
    /// What `per_second` counts: `tokens`, `questions` or `samples`.
    pub unit: &'static str,
    /// Median throughput per second.
    pub per_second: f64,
    /// Number of measured runs, after one warm-up run.
    pub runs: usize,
    /// Peak memory of the process so far in bytes; 0 if the system does not report it.
    pub peak_bytes: u64,
    /// Copies between host and device.
    pub transfers: MeanTransfers,
}

/// Mean numbers of copies between host and device for one unit of work.
#[derive(Debug, Clone, Serialize)]
pub struct MeanTransfers {
    /// The unit of work: a `prompt`, a `token` of each sequence of the batch, a `question`, or a training `step`.
    pub per: &'static str,
    /// Number of copies from host to device.
    pub uploads: f64,
    /// Size of these copies in bytes.
    pub uploaded_bytes: f64,
    /// Number of copies from device to host; tensors that are read together count once.
    pub downloads: f64,
    /// Size of these copies in bytes.
    pub downloaded_bytes: f64,
    /// Number of times that the host waits for the device.
    pub synchronisations: f64,
    /// Number of kernel launches; `None` on backends without kernels (flex, LibTorch).
    pub launches: Option<f64>,
}

impl MeanTransfers {
    /// Returns the means over `count` units of the counts of one run.
    fn new(per: &'static str, count: usize, run: &TransferCounts) -> Self {
        let mean = |n: u64| n as f64 / count.max(1) as f64;
        Self {
            per,
            uploads: mean(run.uploads),
            uploaded_bytes: mean(run.uploaded_bytes),
            downloads: mean(run.downloads),
            downloaded_bytes: mean(run.downloaded_bytes),
            synchronisations: mean(run.synchronisations),
            // Any work on a backend with kernels launches some.
            launches: (run.launches > 0).then(|| mean(run.launches)),
        }
    }
}

/// One measurement: its kind of work, its batch size, and the units of one run.
struct Work {
    kind: WorkKind,
    batch: usize,
    /// Unit of the throughput, and the number of them.
    unit: (&'static str, usize),
    /// Unit of the copies, and the number of them.
    per: (&'static str, usize),
}

/// Measures each kind of work and passes the measurement to `each`.
///
/// # Errors
/// The model cannot be built, a pass fails, or `each` fails.
pub fn measure_evaluator(
    work: &EvaluatorWork,
    device: &Device,
    effort: Effort,
    mut each: impl FnMut(&EvaluatorThroughput) -> Result<()>,
) -> Result<()> {
    memory::reset_peak();
    let trained = work.kinds.iter().any(|kind| matches!(kind, WorkKind::Tune));
    let llm = work.llm.init(trained, device)?.with_activations(work.activations)?.with_compute(work.precision)?;
    let config = work.llm.config();
    let _launches = LaunchCounter::start();
    let mut measure = |work: Work, pass: &mut dyn FnMut() -> Result<f64>| {
        let Work { kind, batch, unit: (unit, units), per: (per, count) } = work;
        let mut run = TransferCounts::default();
        let seconds = effort.measure(|| {
            let before = TransferCounts::now();
            let seconds = pass()?;
            run = TransferCounts::now().since(&before);
            Ok(seconds)
        })?;
        each(&EvaluatorThroughput {
            work: kind.name(),
            batch,
            unit,
            per_second: units as f64 / median(&seconds),
            runs: seconds.len(),
            peak_bytes: memory::peak(),
            transfers: MeanTransfers::new(per, count, &run),
        })
    };
    let is_wanted = |kind: &WorkKind| work.kinds.contains(kind);
    if is_wanted(&WorkKind::Prompt) {
        let prompt = Work { kind: WorkKind::Prompt, batch: 1, unit: ("tokens", work.prompt), per: ("prompt", 1) };
        measure(prompt, &mut || {
            let start = Instant::now();
            read(&llm, &mut KvCache::new(), &[ids(work.prompt, 0, config)], device)?;
            Ok(start.elapsed().as_secs_f64())
        })?;
    }
    for &batch in work.batches.iter().filter(|_| is_wanted(&WorkKind::Decode)) {
        let mut cache = KvCache::new();
        let rows: Vec<Vec<u32>> = (0..batch).map(|b| ids(work.prompt / 4, b, config)).collect();
        read(&llm, &mut cache, &rows, device)?;
        let decode = Work { kind: WorkKind::Decode, batch, unit: ("tokens", batch * DECODED), per: ("token", DECODED) };
        measure(decode, &mut || {
            let mut cache = cache.clone();
            let start = Instant::now();
            for step in 0..DECODED {
                let rows: Vec<Vec<u32>> = (0..batch).map(|b| ids(1, b + step, config)).collect();
                read(&llm, &mut cache, &rows, device)?;
            }
            Ok(start.elapsed().as_secs_f64())
        })?;
    }
    if work.kinds.iter().all(|kind| matches!(kind, WorkKind::Prompt | WorkKind::Decode)) {
        return Ok(());
    }
    let (model, images) = multimodal_model(work, llm, device)?;
    for &batch in &work.batches {
        let asked = Questions { model: &model, images: &images, prompt: work.prompt / 4, batch, device };
        for kind in [WorkKind::Answer, WorkKind::Options].into_iter().filter(is_wanted) {
            let questions = Work { kind, batch, unit: ("questions", batch), per: ("question", batch) };
            measure(questions, &mut || match kind {
                WorkKind::Options => asked.score_options(),
                _ => asked.answer(),
            })?;
        }
    }
    let mut trained = TrainingBenchmark::new(work, model, images, device);
    for kind in [WorkKind::Align, WorkKind::AlignEncoding, WorkKind::Tune].into_iter().filter(is_wanted) {
        trained = trained.with_trainable_llm(kind == WorkKind::Tune);
        let step = Work { kind, batch: work.samples, unit: ("samples", work.samples), per: ("step", 1) };
        measure(step, &mut || trained.step(kind == WorkKind::AlignEncoding))?;
    }
    Ok(())
}

/// Number of tokens decoded in one run.
const DECODED: usize = 16;

/// Returns `count` arbitrary token ids, which differ by `salt`.
fn ids(count: usize, salt: usize, llm: &LlmConfig) -> Vec<u32> {
    (0..count).map(|i| ((i * 7919 + salt * 104_729) % llm.vocab_size) as u32).collect()
}

/// Runs rows of equal length through the model and reads the most likely next token of each, as decoding does.
fn read(llm: &Llm, cache: &mut KvCache, rows: &[Vec<u32>], device: &Device) -> Result<()> {
    let slices: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let real: Vec<usize> = rows.iter().map(Vec::len).collect();
    let hidden = llm.extend(llm.embed_rows(&slices, device)?, &real, cache, None)?;
    let [b, t, d] = hidden.dims();
    generate::most_likely_tokens(llm.logits(hidden.narrow(1, t - 1, 1).reshape([b, d]))).map(|_| ())
}

/// Builds the multimodal model around a language model, and the source of its images.
fn multimodal_model(work: &EvaluatorWork, llm: Llm, device: &Device) -> Result<(Mllm, RandomImages)> {
    let encoder = random_weights(work.card.architecture.init(device)?)?.no_grad();
    let size = work.card.preprocess.size;
    let blank = Tensor::<4>::zeros([1, 3, size, size], device);
    let [_, tokens, width] = patch_features(&encoder, blank, &work.card, work.grid)?.dims();
    let side = tokens.isqrt();
    let config = MllmConfig {
        connector: ConnectorConfig::new(
            ConnectorKind::default(),
            &[(width, [side, side])],
            work.llm.config().hidden_size,
        )?,
        llm: work.llm.config().clone(),
        chat: ChatTemplate::nano(),
        encoders: Vec::new(),
        grid: None,
    };
    let model = Mllm::assemble(config, Vec::new(), llm, 0, device)?;
    let features = (0..tokens * width).map(|i| noise(i as u64)).collect();
    let shape = [tokens, width];
    let images = RandomImages { encoder, card: work.card.clone(), grid: work.grid, features, shape, encodes: false };
    Ok((model, images))
}

/// A batch of questions, each about an image of its own.
struct Questions<'a> {
    model: &'a Mllm,
    images: &'a RandomImages,
    /// Number of text tokens of a question.
    prompt: usize,
    batch: usize,
    device: &'a Device,
}

/// Number of options of a question, and of tokens of the longest option.
const OPTIONS: usize = 4;

impl Questions<'_> {
    fn ids(&self) -> Vec<Vec<u32>> {
        // The first token stands for the image.
        (0..self.batch).map(|b| ids(self.prompt + 1, b, &self.model.config().llm)).collect()
    }

    /// Answers the questions with [`DECODED`] tokens each and returns the duration in seconds.
    fn answer(&self) -> Result<f64> {
        let (start, ids) = (Instant::now(), self.ids());
        let prompts: Vec<Prompt<'_>> =
            ids.iter().enumerate().map(|(i, ids)| Prompt { ids, images: vec![(i, 0)] }).collect();
        let images: Vec<usize> = (0..self.batch).collect();
        let images = self.model.encode_images(self.images.batch(&images, self.device)?)?;
        let decoding = Decoding { max_new_tokens: DECODED, stop: &[], sampling: None };
        generate::answer(self.model, Some(&images), &prompts, &decoding, self.device)?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Scores [`OPTIONS`] options of one to [`OPTIONS`] tokens and returns the duration in seconds.
    fn score_options(&self) -> Result<f64> {
        let (start, ids) = (Instant::now(), self.ids());
        let prompts: Vec<Prompt<'_>> =
            ids.iter().enumerate().map(|(i, ids)| Prompt { ids, images: vec![(i, 0)] }).collect();
        let option = |i, o| self::ids(o + 1, i + o, &self.model.config().llm);
        let options: Vec<Vec<Vec<u32>>> =
            (0..self.batch).map(|i| (0..OPTIONS).map(|o| option(i, o)).collect()).collect();
        let images: Vec<usize> = (0..self.batch).collect();
        let images = self.model.encode_images(self.images.batch(&images, self.device)?)?;
        generate::score_options(self.model, Some(&images), &prompts, &options, self.device)?;
        Ok(start.elapsed().as_secs_f64())
    }
}

/// A multimodal model in training, on random images.
struct TrainingBenchmark {
    /// The model, which a step moves, so that its weights are updated in place; `None` after a step that failed.
    model: Option<Mllm>,
    optimiser: Optimiser,
    examples: Vec<Example>,
    images: RandomImages,
    device: Device,
}

struct RandomImages {
    encoder: Architecture,
    card: EncoderCard,
    grid: Option<usize>,
    /// Features of every image, in place of cached ones; `shape` is their `[tokens, width]`.
    features: Vec<f32>,
    shape: [usize; 2],
    encodes: bool,
}

impl FeatureSource for RandomImages {
    fn batch(&self, images: &[usize], device: &Device) -> Result<ImageBatch> {
        if !self.encodes {
            let [tokens, width] = self.shape;
            let data = TensorData::new(self.features.repeat(images.len()), [images.len(), tokens, width]);
            return Ok(ImageBatch::Features(transfer::to_device(data, device)));
        }
        let size = self.card.preprocess.size;
        let values: Vec<f32> = (0..images.len() * 3 * size * size).map(|i| noise(i as u64)).collect();
        let values = TensorData::new(values, [images.len(), 3, size, size]);
        let pixels: Tensor<4> = transfer::to_device(values, &device.clone().inner());
        Ok(ImageBatch::Features(Tensor::from_inner(patch_features(&self.encoder, pixels, &self.card, self.grid)?)))
    }
}

/// Computes patch features, `[images, tokens, width]`.
fn patch_features(
    encoder: &Architecture,
    pixels: Tensor<4>,
    card: &EncoderCard,
    grid: Option<usize>,
) -> Result<Tensor<3>> {
    let features = encoder.forward(pixels, &card.tap)?;
    Ok(match grid {
        Some(side) => features.resample([side, side])?.tokens,
        None => features.tokens,
    })
}

impl TrainingBenchmark {
    fn new(work: &EvaluatorWork, model: Mllm, images: RandomImages, device: &Device) -> Self {
        let examples = (0..work.samples)
            .map(|i| {
                let ids = ids(work.text, i, work.llm.config());
                let loss_mask = (0..ids.len()).map(|k| 2 * k >= ids.len()).collect();
                Example { image: Some(i), ids, loss_mask, image_at: Some(0) }
            })
            .collect();
        let optimiser = Optimiser::new(OptimiserMethod::AdamW, [0.9, 0.999]);
        Self { model: Some(model.train()), optimiser, examples, images, device: device.clone().autodiff() }
    }

    fn with_trainable_llm(mut self, trainable: bool) -> Self {
        self.model = self.model.map(|mut model| {
            model.llm = if trainable { model.llm.unfreeze() } else { model.llm.freeze() };
            model
        });
        self
    }

    /// Does one training step and returns its duration in seconds.
    fn step(&mut self, encodes: bool) -> Result<f64> {
        self.images.encodes = encodes;
        let start = Instant::now();
        let examples: Vec<&Example> = self.examples.iter().collect();
        let model = self.model.take().ok_or_else(|| Error::failed("an earlier step failed"))?;
        let batch = read_batch(&model, &examples, &self.images, None, None, &self.device)?;
        let loss = batch.ok_or_else(|| Error::failed("the batch has no supervised token"))?.loss(&model)?;
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        self.optimiser.collect(&model, gradients, 1.0);
        let measured = self.optimiser.measure(&model, vec![loss.inner()])?;
        let settings = StepSettings { rate: &|_| Some(1e-5), total: 1.0, clip: 1.0, weight_decay: 0.0 };
        self.model = Some(self.optimiser.step_measured(model, &settings, &measured)?.0);
        // Training goes on without waiting for the update; its duration belongs to the step.
        self.device.sync().map_err(|e| Error::failed(e.to_string()))?;
        Ok(start.elapsed().as_secs_f64())
    }
}
