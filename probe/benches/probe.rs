//! Speed of the nano study's evaluator on one core: `cargo bench -p burgess-probe`.
//!
//! Every case runs in a thread pool of one thread, as an arm of the study does. The first lines say how many GFLOP of
//! matrix products a training step has: divided by its time and set against the machine's matrix product, that
//! is the share of the time spent in products.

use burgess_base::Result;
use burgess_encoders::init::initialise;
use burgess_probe::connector::{ConnectorConfig, ConnectorKind};
use burgess_probe::data::Example;
use burgess_probe::generate::{Prompt, answer};
use burgess_probe::llm::{ChatTemplate, LlamaConfig};
use burgess_probe::mllm::{Mllm, MllmConfig, Visual};
use burgess_probe::recipe::Stage;
use burgess_probe::train::{FeatureSource, Run, train_stage};
use burn::tensor::{Device, Tensor, TensorData};
use divan::Bencher;
use divan::counter::ItemsCount;

const BATCH: usize = 16;
const IMAGE_TOKENS: usize = 36;
const FEATURES: usize = 128;
const VOCABULARY: usize = 768;
/// Positions of a training sequence, the picture's included.
const TOKENS: usize = 128;
const STEPS: usize = 4;

fn main() {
    // The main thread is the only worker of the pool.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
    pool.expect("a pool of one thread");
    for (width, layers) in SIZES {
        let config = LlamaConfig::nano(width, layers, VOCABULARY);
        let step = 3.0 * BATCH as f64 * config.forward_flops(TOKENS) / 1e9;
        println!("width {width}, {layers} layers: {step:.2} GFLOP in a training step of {BATCH} x {TOKENS}");
    }
    divan::main();
}

const SIZES: [(usize, usize); 2] = [(96, 4), (128, 4)];

fn model(width: usize, layers: usize) -> Result<Mllm> {
    let device = Device::flex();
    let llm = LlamaConfig::nano(width, layers, VOCABULARY);
    let config = MllmConfig {
        connector: ConnectorConfig { kind: ConnectorKind::Mlp2xGelu, feature_width: FEATURES, llm_width: width },
        llm: llm.clone(),
        chat: ChatTemplate::nano(),
        encoders: Vec::new(),
        grid: None,
    };
    Mllm::assemble(config, Vec::new(), initialise(llm.init(&device)?, "bench", 0), 0, &device)
}

struct Features;

impl FeatureSource for Features {
    fn batch(&self, images: &[usize], device: &Device) -> Result<Visual> {
        let count = images.len() * IMAGE_TOKENS * FEATURES;
        let values: Vec<f32> = (0..count).map(|i| ((i * 7919) % 1009) as f32 / 504.5 - 1.0).collect();
        let shape = [images.len(), IMAGE_TOKENS, FEATURES];
        Ok(Visual::Features(Tensor::from_data(TensorData::new(values, shape), device)))
    }
}

/// Sequences of `TOKENS` positions with a tenth of the text learned.
fn examples() -> Vec<Example> {
    // The last token is only predicted, the picture's becomes 36.
    let length = TOKENS + 2 - IMAGE_TOKENS;
    (0..BATCH)
        .map(|i| {
            let ids = (0..length).map(|k| if k == 0 { 5 } else { 6 + ((i * 31 + k * 17) % 700) as u32 }).collect();
            Example { image: Some(i), ids, learned: (0..length).map(|k| k % 10 == 9).collect(), image_at: Some(0) }
        })
        .collect()
}

fn training(bencher: Bencher, width: usize, layers: usize, trainable: &str) {
    let start = model(width, layers).expect("a model");
    let text = format!("steps = {STEPS}\nbatch = {BATCH}\nlr = 1e-3\ntrainable = [{trainable}]");
    let stage: Stage = toml::from_str(&text).expect("a stage");
    let (examples, device) = (examples(), Device::flex());
    bencher.counter(ItemsCount::new(STEPS * BATCH)).with_inputs(|| start.clone()).bench_local_values(|model| {
        let mut run =
            Run { name: "tune", stage: &stage, seed: 0, device: &device, on_step: &mut |_| (), stop: &|| false };
        train_stage(model, &examples, &Features, &mut run).expect("a trained model")
    });
}

/// Examples per second while connector and language model are trained.
#[divan::bench(args = SIZES, sample_count = 8, sample_size = 1)]
fn tune(bencher: Bencher, (width, layers): (usize, usize)) {
    training(bencher, width, layers, "\"connector\", \"llm\"");
}

/// Examples per second while only the connector is trained.
#[divan::bench(args = SIZES, sample_count = 8, sample_size = 1)]
fn align(bencher: Bencher, (width, layers): (usize, usize)) {
    training(bencher, width, layers, "\"connector\"");
}

/// Positions per second of reading without gradients.
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
    let prompts: Vec<Prompt> = (0..BATCH).map(|_| Prompt { ids: &ids, image: None }).collect();
    bencher
        .counter(ItemsCount::new(BATCH * NEW))
        .bench_local(|| answer(&model, None, &prompts, NEW, &[], &Device::flex()).expect("answers"));
}

/// Questions per second: eight pictures with eight questions of forty tokens each, answers of three tokens.
#[divan::bench(args = SIZES, sample_count = 8, sample_size = 1)]
fn evaluate(bencher: Bencher, (width, layers): (usize, usize)) {
    const PICTURES: usize = 8;
    let model = model(width, layers).expect("a model");
    let device = Device::flex();
    let ids: Vec<u32> = (5..46).collect();
    let prompts: Vec<Prompt> = (0..PICTURES * 8).map(|i| Prompt { ids: &ids, image: Some((i / 8, 0)) }).collect();
    let pictures: Vec<usize> = (0..PICTURES).collect();
    bencher.counter(ItemsCount::new(prompts.len())).bench_local(|| {
        let images = model.see(Features.batch(&pictures, &device).expect("features")).expect("embeddings");
        answer(&model, Some(&images), &prompts, 3, &[], &device).expect("answers")
    });
}
