//! Throughput of the nano study's evaluator on one core: `cargo bench -p burgess-probe`.
//!
//! Every case runs in a thread pool of one thread, as an arm of the study does. The first lines give the GFLOP of
//! matrix products of a training step and the shares of its time: forward and backward pass (tensor operations),
//! reading of features, and optimiser (which runs on the host).

#[path = "../../tests/made_features.rs"]
mod made_features;

use burgess_base::Result;
use burgess_encoders::init::initialise;
use burgess_probe::connector::{ConnectorConfig, ConnectorKind};
use burgess_probe::data::Example;
use burgess_probe::generate::{Decoding, LiveBatch, Prompt, RowOptions, StepOutcome, answer, prefill};
use burgess_probe::llm::{ChatTemplate, LlmConfig};
use burgess_probe::mllm::{ImageBatch, Mllm, MllmConfig};
use burgess_probe::optimiser::{Optimiser, OptimiserMethod, StepSettings};
use burgess_probe::recipe::Stage;
use burgess_probe::train::{FeatureSource, StageRun, read_batch, train_stage};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use divan::Bencher;
use divan::counter::ItemsCount;
use made_features::MadeFeatures;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const BATCH: usize = 16;
const IMAGE_TOKENS: usize = 36;
const FEATURES: usize = 128;
const VOCABULARY: usize = 1024;
/// Number of positions of a training sequence, image tokens included.
const TOKENS: usize = 128;
const STEPS: usize = 4;

fn main() {
    // The main thread is the only worker of the pool.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
    pool.expect("a pool of one thread");
    for (width, layers) in SIZES {
        let config = LlmConfig::nano(width, layers, VOCABULARY);
        let step = 3.0 * BATCH as f64 * config.forward_flops(TOKENS) / 1e9;
        println!("width {width}, {layers} layers: {step:.2} GFLOP in a training step of {BATCH} x {TOKENS}");
        for method in [OptimiserMethod::AdamW, OptimiserMethod::Muon] {
            println!("  {method:?}: {}", shares(width, layers, method).expect("a training step"));
        }
    }
    divan::main();
}

const SIZES: [(usize, usize); 2] = [(96, 4), (128, 4)];

fn greedy(max_new_tokens: usize) -> Decoding<'static> {
    Decoding { max_new_tokens, stop: &[], sampling: None }
}

fn model(width: usize, layers: usize) -> Result<Mllm> {
    let device = Device::flex();
    let llm = LlmConfig::nano(width, layers, VOCABULARY);
    let config = MllmConfig {
        connector: ConnectorConfig {
            kind: ConnectorKind::default(),
            feature_width: FEATURES,
            llm_width: width,
            towers: Vec::new(),
        },
        llm: llm.clone(),
        chat: ChatTemplate::nano(),
        encoders: Vec::new(),
        grid: None,
    };
    Mllm::assemble(config, Vec::new(), initialise(llm.init(&device)?, "bench", 0), 0, &device)
}

/// Features of the images.
const SOURCE: MadeFeatures = MadeFeatures { tokens: IMAGE_TOKENS, width: FEATURES };

/// Sequences of `TOKENS` positions, of whose text tokens a tenth are supervised.
fn examples() -> Vec<Example> {
    // The last token is only predicted, and the placeholder becomes 36 image tokens.
    let length = TOKENS + 2 - IMAGE_TOKENS;
    (0..BATCH)
        .map(|i| {
            let ids = (0..length).map(|k| if k == 0 { 5 } else { 6 + ((i * 31 + k * 17) % 1000) as u32 }).collect();
            Example { image: Some(i), ids, loss_mask: (0..length).map(|k| k % 10 == 9).collect(), image_at: Some(0) }
        })
        .collect()
}

fn training(bencher: Bencher, width: usize, layers: usize, trainable: &str) {
    let start = model(width, layers).expect("a model");
    let text = format!("steps = {STEPS}\nbatch = {BATCH}\nlr = 1e-3\ntrainable = [{trainable}]");
    let stage: Stage = toml::from_str(&text).expect("a stage");
    let (examples, device) = (examples(), Device::flex());
    bencher.counter(ItemsCount::new(STEPS * BATCH)).with_inputs(|| start.clone()).bench_local_values(|model| {
        let mut run = StageRun {
            name: "tune",
            stage: &stage,
            seed: 0,
            device: &device,
            on_step: &mut |_| (),
            stop: &|| false,
            saver: None,
            resume: None,
        };
        train_stage(model, &examples, &SOURCE, &mut run).expect("a trained model")
    });
}

/// Measures the shares of the time of a training step of connector and language model, over twenty steps.
fn shares(width: usize, layers: usize, method: OptimiserMethod) -> Result<String> {
    let device = Device::flex().autodiff();
    let (mut model, examples) = (model(width, layers)?.train(), examples());
    let chosen: Vec<&Example> = examples.iter().collect();
    let mut optimiser = Optimiser::new(method, [0.9, 0.999]);
    let settings = StepSettings { rate: &|_| Some(1e-3), total: 1.0, clip: 1.0, weight_decay: 0.0 };
    let source = Timed { nanoseconds: AtomicU64::new(0) };
    let mut spent = [0.0; 3];
    for _ in 0..20 {
        let clock = Instant::now();
        let Some(batch) = read_batch(&model, &chosen, &source, None, None, &device)? else { continue };
        let loss = batch.loss(&model)?;
        spent[0] += clock.elapsed().as_secs_f64();
        let clock = Instant::now();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        spent[1] += clock.elapsed().as_secs_f64();
        let clock = Instant::now();
        optimiser.collect(&model, gradients, 1.0);
        model = optimiser.step(model, &settings)?.0;
        spent[2] += clock.elapsed().as_secs_f64();
    }
    let total: f64 = spent.iter().sum();
    let reading = source.nanoseconds.into_inner() as f64 / 1e9;
    let percent = |seconds: f64| 100.0 * seconds / total;
    Ok(format!(
        "{:.1} ms a step: forward {:.0} %, backward {:.0} %; outside tensor operations {:.0} % (features {:.1} %, \
             optimiser {:.0} %)",
        total / 20.0 * 1e3,
        percent(spent[0] - reading),
        percent(spent[1]),
        percent(reading + spent[2]),
        percent(reading),
        percent(spent[2]),
    ))
}

/// [`SOURCE`] that measure the time of reading.
struct Timed {
    nanoseconds: AtomicU64,
}

impl FeatureSource for Timed {
    fn batch(&self, images: &[usize], device: &Device) -> Result<ImageBatch> {
        let clock = Instant::now();
        let batch = SOURCE.batch(images, device);
        self.nanoseconds.fetch_add(clock.elapsed().as_nanos() as u64, Ordering::Relaxed);
        batch
    }
}

/// Examples per second in training of connector and language model.
#[divan::bench(args = SIZES, sample_count = 8, sample_size = 1)]
fn tune(bencher: Bencher, (width, layers): (usize, usize)) {
    training(bencher, width, layers, "\"connector\", \"llm\"");
}

/// Examples per second in training of the connector alone.
#[divan::bench(args = SIZES, sample_count = 8, sample_size = 1)]
fn align(bencher: Bencher, (width, layers): (usize, usize)) {
    training(bencher, width, layers, "\"connector\"");
}

/// Positions per second of the forward pass without gradients.
#[divan::bench(args = SIZES, sample_count = 8, sample_size = 1)]
fn read(bencher: Bencher, (width, layers): (usize, usize)) {
    let model = model(width, layers).expect("a model");
    let x = Tensor::<3>::ones([BATCH, TOKENS, width], &Device::flex());
    bencher
        .counter(ItemsCount::new(BATCH * TOKENS))
        .with_inputs(|| x.clone())
        .bench_local_values(|x| model.llm.hidden(x).expect("hidden states"));
}

/// Tokens per second of decoding sixteen answers at once.
#[divan::bench(args = SIZES, sample_count = 8, sample_size = 1)]
fn decode(bencher: Bencher, (width, layers): (usize, usize)) {
    const NEW: usize = 32;
    let model = model(width, layers).expect("a model");
    let ids: Vec<u32> = (6..14).collect();
    let prompts: Vec<Prompt> = (0..BATCH).map(|_| Prompt::text(&ids)).collect();
    bencher
        .counter(ItemsCount::new(BATCH * NEW))
        .bench_local(|| answer(&model, None, &prompts, &greedy(NEW), &Device::flex()).expect("answers"));
}

/// Tokens per second of a live batch of this many rows at the larger size, in which every row decodes 32 tokens.
#[divan::bench(args = [1, 4, 16], sample_count = 8, sample_size = 1)]
fn live(bencher: Bencher, rows: usize) {
    const NEW: usize = 32;
    let (width, layers) = SIZES[1];
    let (model, device) = (model(width, layers).expect("a model"), Device::flex());
    let ids: Vec<u32> = (6..46).collect();
    bencher.counter(ItemsCount::new(rows * NEW)).bench_local(|| {
        let mut batch = LiveBatch::new(&model, &device);
        for id in 0..rows as u64 {
            let name = format!("prompt {id}");
            let row = RowOptions { id, name, draws: None, alternatives: None, max_new_tokens: NEW };
            let prompt = prefill(&model, &[(None, &ids)], &device).expect("a prompt");
            batch.admit(prompt, vec![row]).and_then(StepOutcome::complete).expect("a first token");
        }
        for _ in 1..NEW {
            batch.step().complete().expect("tokens");
        }
        batch.len()
    });
}

/// Questions per second: eight images with eight questions of forty tokens each, answers of three tokens.
#[divan::bench(args = SIZES, sample_count = 8, sample_size = 1)]
fn evaluate(bencher: Bencher, (width, layers): (usize, usize)) {
    const IMAGES: usize = 8;
    let model = model(width, layers).expect("a model");
    let device = Device::flex();
    let ids: Vec<u32> = (5..46).collect();
    let prompts: Vec<Prompt> = (0..IMAGES * 8).map(|i| Prompt { ids: &ids, images: vec![(i / 8, 0)] }).collect();
    let images: Vec<usize> = (0..IMAGES).collect();
    bencher.counter(ItemsCount::new(prompts.len())).bench_local(|| {
        let images = model.encode_images(SOURCE.batch(&images, &device).expect("features")).expect("embeddings");
        answer(&model, Some(&images), &prompts, &greedy(3), &device).expect("answers")
    });
}
