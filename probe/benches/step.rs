//! Duration of one training step at the size of SmolLM2-135M with 196 image tokens:
//! `cargo bench -p burgess-probe --bench step [-- align|tune [STEPS]]`.
//!
//! Prints the median step of the align stage (connector) and of the tune stage (connector and language model) with the
//! parts forward pass, backward pass and optimiser, the processor time and the page faults of a step. The weights are
//! random, the features are given, and all threads are used.

#[path = "../../tests/made_features.rs"]
mod made_features;

use burgess_base::{Error, Result};
use burgess_encoders::init::initialise;
use burgess_probe::connector::{ConnectorConfig, ConnectorKind};
use burgess_probe::data::Example;
use burgess_probe::llm::{ChatTemplate, LlmConfig};
use burgess_probe::mllm::{Mllm, MllmConfig};
use burgess_probe::optimiser::{Optimiser, OptimiserMethod, StepSettings};
use burgess_probe::train::read_batch;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use made_features::MadeFeatures;
use std::time::Instant;

const SAMPLES: usize = 4;
const TEXT: usize = 64;
const IMAGE_TOKENS: usize = 196;
const FEATURES: usize = 768;

fn main() -> Result<()> {
    // Cargo passes `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let steps = arguments.get(1).and_then(|steps| steps.parse().ok()).unwrap_or(3);
    for (name, tunes) in [("align", false), ("tune", true)] {
        if arguments.first().is_none_or(|chosen| chosen == name) {
            println!("{name}: {}", measure(tunes, steps)?);
        }
    }
    Ok(())
}

fn smollm2_135m() -> LlmConfig {
    LlmConfig {
        intermediate_size: 1536,
        num_attention_heads: 9,
        num_key_value_heads: Some(3),
        rope_theta: 1e5,
        max_position_embeddings: 8192,
        ..LlmConfig::nano(576, 30, 49_152)
    }
}

fn model() -> Result<Mllm> {
    let (device, llm) = (Device::flex(), smollm2_135m());
    let side = IMAGE_TOKENS.isqrt();
    let config = MllmConfig {
        connector: ConnectorConfig::new(ConnectorKind::default(), &[(FEATURES, [side, side])], llm.hidden_size)?,
        llm: llm.clone(),
        chat: ChatTemplate::nano(),
        encoders: Vec::new(),
        grid: None,
    };
    Mllm::assemble(config, Vec::new(), initialise(llm.init(&device)?, "bench", 0), 0, &device)
}

/// Features of the images.
const SOURCE: MadeFeatures = MadeFeatures { tokens: IMAGE_TOKENS, width: FEATURES };

/// Measures `steps` steps after one that is not counted.
fn measure(tunes: bool, steps: usize) -> Result<String> {
    let device = Device::flex().autodiff();
    let mut model = model()?.train();
    model.llm = if tunes { model.llm.unfreeze() } else { model.llm.freeze() };
    let examples: Vec<Example> = (0..SAMPLES)
        .map(|i| {
            let ids = (0..TEXT).map(|k| ((k * 7919 + i * 104_729) % 49_152) as u32).collect();
            Example { image: Some(i), ids, loss_mask: (0..TEXT).map(|k| 2 * k >= TEXT).collect(), image_at: Some(0) }
        })
        .collect();
    let examples: Vec<&Example> = examples.iter().collect();
    let mut optimiser = Optimiser::new(OptimiserMethod::AdamW, [0.9, 0.999]);
    let settings = StepSettings { rate: &|_| Some(1e-5), total: 1.0, clip: 1.0, weight_decay: 0.0 };
    let (mut parts, mut log, mut before) = ([const { Vec::new() }; 4], String::new(), [0; 3]);
    for step in 0..=steps {
        if step == 1 {
            before = process();
        }
        let clock = Instant::now();
        let batch = read_batch(&model, &examples, &SOURCE, None, None, &device)?;
        let loss = batch.ok_or_else(|| Error::failed("the batch has no supervised token"))?.loss(&model)?;
        let forward = clock.elapsed().as_secs_f64();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let backward = clock.elapsed().as_secs_f64();
        optimiser.collect(&model, gradients, 1.0);
        let measured = optimiser.measure(&model, vec![loss.inner()])?;
        let (updated, norm) = optimiser.step_measured(model, &settings, &measured)?;
        model = updated;
        let whole = clock.elapsed().as_secs_f64();
        log = format!("loss {:?}, gradient norm {norm:e}", measured.scalars);
        if step > 0 {
            for (part, seconds) in parts.iter_mut().zip([whole, forward, backward - forward, whole - backward]) {
                part.push(seconds);
            }
        }
    }
    let [whole, forward, backward, update] = parts.map(|mut seconds| {
        seconds.sort_by(f64::total_cmp);
        seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN)
    });
    let [user, system, faults] = process().map(|n| n as f64);
    let mean = |now: f64, i: usize| (now - before.get(i).copied().unwrap_or(0) as f64) / steps as f64;
    Ok(format!(
        "{whole:.3} s a step ({:.2} samples/s): forward {forward:.3}, backward {backward:.3}, optimiser {update:.3}; \
         processor time {:.2} s in the program, {:.2} s in the system, {:.0} page faults; {log}",
        SAMPLES as f64 / whole,
        mean(user, 0) / 100.0,
        mean(system, 1) / 100.0,
        mean(faults, 2),
    ))
}

/// Processor time of this process in the program and in the system, in hundredths of a second, and its page faults;
/// zeros where the system does not report them.
fn process() -> [u64; 3] {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is a name in brackets.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    [11, 12, 7].map(|at| fields.get(at).and_then(|field| field.parse().ok()).unwrap_or(0))
}
