//! Writes a made-up LLaMA of a real size as a GGUF file, and measures time and peak memory of a model whose weights
//! stay as that file stores them.
//!
//! ```text
//! cargo run --release --example made_gguf -- write made.gguf 7b q4_k      4 GB of random blocks
//! cargo run --release --example made_gguf -- answer made.gguf 256 16      a prompt of 256 tokens, 16 new tokens
//! cargo run --release --example made_gguf -- answer made.gguf 256 16 int8
//! cargo run --release --example made_gguf -- train made.gguf 3 256 16     3 steps, 256 positions, LoRA of rank 16
//! ```

#[path = "../../tests/made_features.rs"]
mod made_features;
#[path = "../../tests/made_gguf.rs"]
mod made_gguf;

use burgess_base::{Context, Error, Result};
use burgess_encoders::number_format::{GgmlBlock, NumberFormat};
use burgess_probe::connector::{ConnectorConfig, ConnectorKind};
use burgess_probe::data::Example;
use burgess_probe::llm::{Activations, ChatTemplate, KvCache, Llm, PROJECTIONS, Weights};
use burgess_probe::mllm::{Mllm, MllmConfig};
use burgess_probe::recipe::{LoraConfig, ParameterGroup, Stage};
use burgess_probe::train::{StageRun, StepLog, train_stage};
use burn::tensor::Device;
use made_features::MadeFeatures;
use made_gguf::Llama;
use std::path::Path;
use std::time::Instant;

fn main() {
    if let Err(e) = run() {
        eprintln!("error: {e}\nhint: {}", e.hint_text().unwrap_or("none"));
        std::process::exit(e.exit_code().into());
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["write", path, size, format] => write(Path::new(path), size, format),
        ["answer", path, prompt, new] => answer(Path::new(path), prompt.parse()?, new.parse()?, Activations::F32),
        ["answer", path, prompt, new, activations] => {
            answer(Path::new(path), prompt.parse()?, new.parse()?, activations.parse()?)
        }
        ["train", path, steps, length, rank] => train(Path::new(path), steps.parse()?, length.parse()?, rank.parse()?),
        _ => Err(Error::usage("expected write, answer or train, as in the comment of this example")),
    }
}

fn write(path: &Path, size: &str, format: &str) -> Result<()> {
    let format = match format {
        "q4_0" => NumberFormat::Block(GgmlBlock::Q4_0),
        "q4_k" => NumberFormat::Block(GgmlBlock::Q4K),
        "q8_0" => NumberFormat::Block(GgmlBlock::Q8_0),
        "f16" => NumberFormat::F16,
        other => return Err(Error::usage(format!("unknown format {other}")).hint("q4_0, q4_k, q8_0 or f16")),
    };
    // Q4_K_M of llama.cpp has its head in Q6_K.
    let table = if format == NumberFormat::F16 { format } else { NumberFormat::Block(GgmlBlock::Q6K) };
    let llama = |layers, width, heads, kv_heads, mlp| Llama {
        layers,
        width,
        heads,
        kv_heads,
        mlp,
        vocabulary: 32_000,
        context: 4096,
        tied: false,
        format,
        table,
    };
    let model = match size {
        "7b" => llama(32, 4096, 32, 32, 11_008),
        "1b" => llama(22, 2048, 32, 4, 5632),
        other => return Err(Error::usage(format!("unknown size {other}")).hint("7b or 1b")),
    };
    model.write(path, true).with_context(|| format!("writing {}", path.display()))?;
    println!("{}: {:.2} GB", path.display(), bytes(path)? / 1e9);
    Ok(())
}

fn bytes(path: &Path) -> Result<f64> {
    Ok(std::fs::metadata(path)?.len() as f64)
}

/// Peak of the resident memory of this process, in bytes.
fn peak() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(f64::NAN) * 1024.0
}

fn load(path: &Path) -> Result<Llm> {
    let start = Instant::now();
    let (llm, _) = Weights::open_path(path)?.load_frozen(&Device::flex())?;
    println!(
        "{:.2} G parameters in {:.2} GB, loaded in {:.1} s, weights as stored: {}",
        llm.config().parameters() as f64 / 1e9,
        bytes(path)? / 1e9,
        start.elapsed().as_secs_f64(),
        llm.has_stored_weights()
    );
    Ok(llm)
}

fn ids(count: usize) -> Vec<u32> {
    (0..count).map(|i| 300 + (i * 7919 % 30_000) as u32).collect()
}

fn answer(path: &Path, prompt: usize, new: usize, activations: Activations) -> Result<()> {
    let device = Device::flex();
    let llm = load(path)?.with_activations(activations)?;
    let (ids, mut cache, mut times) = (ids(prompt + new), KvCache::new(), Vec::new());
    for step in std::iter::once(&ids[..prompt]).chain(ids[prompt..].chunks(1)) {
        let start = Instant::now();
        let hidden = llm.extend(llm.embed_rows(&[step], &device)?, &[step.len()], &mut cache, None)?;
        let [_, t, d] = hidden.dims();
        let logits: Vec<f32> =
            burgess_encoders::transfer::to_host(llm.logits(hidden.narrow(1, t - 1, 1).reshape([1, d])))?;
        if !logits.iter().all(|x| x.is_finite()) {
            return Err(Error::failed("a logit is not finite"));
        }
        times.push(start.elapsed().as_secs_f64());
    }
    let first = times.remove(0);
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or(f64::NAN);
    let config = llm.config();
    let kv = (2 * config.num_hidden_layers * config.kv_heads() * config.head_width() * 4 * (prompt + new)) as f64;
    println!(
        "activations in {activations:?}: prompt of {prompt} in {first:.2} s ({:.1} tokens/s), decoding {:.2} tokens/s\n\
         peak memory {:.2} GB, key-value cache {:.2} GB: {:.2} times the file without the cache",
        prompt as f64 / first,
        1.0 / median,
        peak() / 1e9,
        kv / 1e9,
        (peak() - kv) / bytes(path)?
    );
    Ok(())
}

const TOKENS: usize = 64;
const FEATURES: usize = 1024;

/// Features of made-up images.
const SOURCE: MadeFeatures = MadeFeatures { tokens: TOKENS, width: FEATURES };

fn train(path: &Path, steps: usize, length: usize, rank: usize) -> Result<()> {
    let llm = load(path)?;
    let text = length.saturating_sub(TOKENS).max(2);
    let config = MllmConfig {
        connector: ConnectorConfig {
            kind: ConnectorKind::default(),
            feature_width: FEATURES,
            llm_width: llm.config().hidden_size,
            towers: Vec::new(),
        },
        llm: llm.config().clone(),
        chat: ChatTemplate::nano(),
        encoders: Vec::new(),
        grid: None,
    };
    let device = Device::flex();
    let model = Mllm::assemble(config, Vec::new(), llm, 0, &device)?;
    let examples: Vec<Example> = (0..steps)
        .map(|i| Example {
            image: Some(i),
            ids: ids(text + 1 + i)[i..].to_vec(),
            loss_mask: (0..=text).map(|k| k > text / 2).collect(),
            image_at: Some(0),
        })
        .collect();
    let stage = Stage {
        checkpointing: true,
        lora: Some(LoraConfig { rank, alpha: 2.0 * rank as f64, targets: PROJECTIONS.map(String::from).to_vec() }),
        ..Stage::new(steps, 1, 2e-4, vec![ParameterGroup::Connector, ParameterGroup::Llm])
    };
    let mut on_step = |s: &StepLog| {
        println!(
            "step {}: loss {:.4}, {} positions in {:.1} s ({:.4} samples/s), peak {:.2} GB",
            s.step,
            s.loss,
            s.tokens,
            s.seconds,
            1.0 / s.seconds,
            peak() / 1e9
        );
    };
    let mut run = StageRun {
        name: "tune",
        stage: &stage,
        seed: 0,
        device: &device,
        on_step: &mut on_step,
        stop: &|| false,
        saver: None,
        resume: None,
    };
    train_stage(model, &examples, &SOURCE, &mut run)?;
    println!("peak memory of all steps {:.2} GB", peak() / 1e9);
    Ok(())
}
