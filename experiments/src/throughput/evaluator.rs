//! Throughput of an evaluator at full size with random weights, in tokens and training samples per second.

use crate::machine::memory;
use crate::throughput::measure::{Effort, median, noise, random_weights};
use burgess_base::{Error, Result};
use burgess_encoders::arch::Architecture;
use burgess_encoders::card::EncoderCard;
use burgess_probe::connector::{ConnectorConfig, ConnectorKind};
use burgess_probe::data::Example;
use burgess_probe::llm::{ChatTemplate, KvCache, Llm, LlmConfig};
use burgess_probe::mllm::{ImageBatch, Mllm, MllmConfig};
use burgess_probe::optimiser::{Optimiser, OptimiserMethod, StepSettings};
use burgess_probe::train::{FeatureSource, read_batch};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor, TensorData};
use serde::Serialize;
use std::time::Instant;

/// The models, batch sizes and lengths to measure.
#[derive(Debug, Clone)]
pub struct EvaluatorWork {
    /// Configuration of the language model.
    pub llm: LlmConfig,
    /// Card of the encoder.
    pub card: EncoderCard,
    /// Side of the grid to which features are resampled; `None` keeps the encoder's grid.
    pub grid: Option<usize>,
    /// Number of tokens of the prompt.
    pub prompt: usize,
    /// Batch sizes of decoding, in sequences.
    pub batches: Vec<usize>,
    /// Number of samples of a training step.
    pub samples: usize,
    /// Number of text tokens of a training sample, half of them supervised.
    pub text: usize,
}

/// Measurement of one kind of work.
#[derive(Debug, Clone, Serialize)]
pub struct EvaluatorThroughput {
    /// Kind of work: `prompt` (prefill), `decode`, or a training step of the align stage with given features (`align`),
    /// of the align stage with features computed from images (`align, encoding`), or of the tune stage (`tune`).
    pub work: &'static str,
    /// Batch size in sequences.
    pub batch: usize,
    /// Median throughput per second: tokens for `prompt` and `decode`, samples for the others.
    pub per_second: f64,
    /// Number of measured runs, after one warm-up run.
    pub runs: usize,
    /// Peak memory of the process so far in bytes; 0 if the system does not report it.
    pub peak_bytes: u64,
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
    let llm = random_weights(work.llm.init(device)?)?.no_grad();
    let mut measure = |work: &'static str, batch: usize, units: usize, pass: &mut dyn FnMut() -> Result<f64>| {
        let seconds = effort.measure(pass)?;
        let per_second = units as f64 / median(&seconds);
        each(&EvaluatorThroughput { work, batch, per_second, runs: seconds.len(), peak_bytes: memory::peak() })
    };
    measure("prompt", 1, work.prompt, &mut || {
        let start = Instant::now();
        read(&llm, &mut KvCache::new(), &[ids(work.prompt, 0, &work.llm)], device)?;
        Ok(start.elapsed().as_secs_f64())
    })?;
    for &batch in &work.batches {
        let mut cache = KvCache::new();
        let rows: Vec<Vec<u32>> = (0..batch).map(|b| ids(work.prompt / 4, b, &work.llm)).collect();
        read(&llm, &mut cache, &rows, device)?;
        measure("decode", batch, batch * DECODED, &mut || {
            let mut cache = cache.clone();
            let start = Instant::now();
            for step in 0..DECODED {
                let rows: Vec<Vec<u32>> = (0..batch).map(|b| ids(1, b + step, &work.llm)).collect();
                read(&llm, &mut cache, &rows, device)?;
            }
            Ok(start.elapsed().as_secs_f64())
        })?;
    }
    let mut trained = TrainingBenchmark::new(work, llm, device)?;
    let parts = [("align", false, false), ("align, encoding", true, false), ("tune", false, true)];
    for (name, encodes, tunes) in parts {
        trained = trained.with_trainable_llm(tunes);
        measure(name, work.samples, work.samples, &mut || trained.step(encodes))?;
    }
    Ok(())
}

/// Number of tokens decoded in one run.
const DECODED: usize = 16;

/// Returns `count` arbitrary token ids, which differ by `salt`.
fn ids(count: usize, salt: usize, llm: &LlmConfig) -> Vec<u32> {
    (0..count).map(|i| ((i * 7919 + salt * 104_729) % llm.vocab_size) as u32).collect()
}

/// Runs rows of equal length through the model and reads the logits of the next token, as decoding does.
fn read(llm: &Llm, cache: &mut KvCache, rows: &[Vec<u32>], device: &Device) -> Result<()> {
    let slices: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
    let real: Vec<usize> = rows.iter().map(Vec::len).collect();
    let hidden = llm.extend(llm.embed_rows(&slices, device)?, &real, cache, None)?;
    let [b, t, d] = hidden.dims();
    let scores = llm.logits(hidden.narrow(1, t - 1, 1).reshape([b, d]));
    scores.try_into_data().map(|_| ()).map_err(|e| Error::failed(e.to_string()))
}

/// A multimodal model in training, on random images.
struct TrainingBenchmark {
    model: Mllm,
    optimiser: Optimiser,
    examples: Vec<Example>,
    images: RandomImages,
    device: Device,
}

struct RandomImages {
    encoder: Architecture,
    card: EncoderCard,
    grid: Option<usize>,
    /// Features `[samples, tokens, width]`, in place of cached ones.
    features: TensorData,
    encodes: bool,
}

impl FeatureSource for RandomImages {
    fn batch(&self, images: &[usize], device: &Device) -> Result<ImageBatch> {
        if !self.encodes {
            return Ok(ImageBatch::Features(Tensor::from_data(self.features.clone(), device)));
        }
        let size = self.card.preprocess.size;
        let values: Vec<f32> = (0..images.len() * 3 * size * size).map(|i| noise(i as u64)).collect();
        let pixels =
            Tensor::<4>::from_data(TensorData::new(values, [images.len(), 3, size, size]), &device.clone().inner());
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
    fn new(work: &EvaluatorWork, llm: Llm, device: &Device) -> Result<Self> {
        let encoder = random_weights(work.card.architecture.init(device)?)?.no_grad();
        let size = work.card.preprocess.size;
        let blank = Tensor::<4>::zeros([1, 3, size, size], device);
        let [_, tokens, width] = patch_features(&encoder, blank, &work.card, work.grid)?.dims();
        let features: Vec<f32> = (0..work.samples * tokens * width).map(|i| noise(i as u64)).collect();
        let side = tokens.isqrt();
        let connector = ConnectorConfig::new(ConnectorKind::default(), &[(width, [side, side])], work.llm.hidden_size)?;
        let config = MllmConfig {
            connector,
            llm: work.llm.clone(),
            chat: ChatTemplate::nano(),
            encoders: Vec::new(),
            grid: None,
        };
        let model = Mllm::assemble(config, Vec::new(), llm, 0, device)?.train();
        let examples = (0..work.samples)
            .map(|i| {
                let ids = ids(work.text, i, &work.llm);
                let loss_mask = (0..ids.len()).map(|k| 2 * k >= ids.len()).collect();
                Example { image: Some(i), ids, loss_mask, image_at: Some(0) }
            })
            .collect();
        let features = TensorData::new(features, [work.samples, tokens, width]);
        let images = RandomImages { encoder, card: work.card.clone(), grid: work.grid, features, encodes: false };
        let optimiser = Optimiser::new(OptimiserMethod::AdamW, [0.9, 0.999]);
        Ok(Self { model, optimiser, examples, images, device: device.clone().autodiff() })
    }

    fn with_trainable_llm(mut self, trainable: bool) -> Self {
        let llm = self.model.llm;
        self.model.llm = if trainable { llm.unfreeze() } else { llm.freeze() };
        self
    }

    /// Does one training step and returns its duration in seconds.
    fn step(&mut self, encodes: bool) -> Result<f64> {
        self.images.encodes = encodes;
        let start = Instant::now();
        let examples: Vec<&Example> = self.examples.iter().collect();
        let batch = read_batch(&self.model, &examples, &self.images, None, None, &self.device)?;
        let loss = batch.ok_or_else(|| Error::failed("the batch has no supervised token"))?.loss(&self.model)?;
        let gradients = GradientsParams::from_grads(loss.backward(), &self.model);
        self.optimiser.collect(&self.model, gradients, 1.0);
        let settings = StepSettings { rate: &|_| Some(1e-5), total: 1.0, clip: 1.0, weight_decay: 0.0 };
        self.model = self.optimiser.step(self.model.clone(), &settings)?.0;
        loss.into_scalar::<f32>();
        Ok(start.elapsed().as_secs_f64())
    }
}
