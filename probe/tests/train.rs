//! Training against PyTorch (goldens of `tests/reference/train.py`), and what a stage promises.

use burgess_base::{Error, Result, atomic};
use burgess_encoders::checkpoint::{self, Checkpoint, IDENTITY};
use burgess_probe::connector::{ConnectorConfig, ConnectorKind};
use burgess_probe::data::Example;
use burgess_probe::llm::pretrain::{PretrainConfig, pretrain};
use burgess_probe::llm::tokenizer::{SPECIALS, Tokenizer};
use burgess_probe::llm::{ChatTemplate, Llm, LlmConfig};
use burgess_probe::mllm::{Mllm, MllmConfig, Visual};
use burgess_probe::recipe::Stage;
use burgess_probe::train::{FeatureSource, Outcome, Run, StepLog, train_stage};
use burgess_world::Document;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Golden {
    llm: LlmConfig,
    examples: Vec<Conversation>,
    align: Losses,
    tune: Losses,
}

#[derive(Deserialize)]
struct Conversation {
    ids: Vec<u32>,
    learned: Vec<bool>,
    image: Option<usize>,
    image_at: Option<usize>,
}

#[derive(Deserialize)]
struct Losses {
    loss: Vec<f64>,
    norm: Vec<f64>,
}

/// Features in memory.
struct Held(Tensor<3>);

impl FeatureSource for Held {
    fn batch(&self, images: &[usize], device: &Device) -> Result<Visual> {
        let rows: Vec<i32> = images.iter().map(|&i| i as i32).collect();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [images.len()]), &Device::flex());
        let picked = self.0.clone().select(0, rows).into_data();
        Ok(Visual::Features(Tensor::from_data(picked, device)))
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/train").join(name)
}

fn start(name: &str) -> Result<(Mllm, Held, Vec<Example>, Golden)> {
    let golden_file: Golden = atomic::read_json(&golden(name).join("golden.json"))?;
    let device = Device::flex();
    let weights = golden(name).join("start.safetensors");
    let llm = golden_file.llm.init(&device)?;
    let config = MllmConfig {
        connector: ConnectorConfig {
            kind: ConnectorKind::default(),
            feature_width: 24,
            llm_width: 32,
            towers: Vec::new(),
        },
        llm: golden_file.llm.clone(),
        chat: ChatTemplate::nano(),
        encoders: Vec::new(),
        grid: None,
    };
    let mut model = Mllm::assemble(config, Vec::new(), llm, 0, &device)?;
    model.llm = checkpoint::load(model.llm, &Checkpoint::open(&weights)?.inside("llm.")?, &IDENTITY)?.0;
    model.connector =
        checkpoint::load(model.connector, &Checkpoint::open(&weights)?.inside("connector.")?, &IDENTITY)?.0;
    let features = Checkpoint::open(&weights)?.read("features")?;
    let features = Tensor::from_data(TensorData::new(features, [6, 5, 24]), &device);
    let examples = golden_file
        .examples
        .iter()
        .map(|e| Example { image: e.image, ids: e.ids.clone(), learned: e.learned.clone(), image_at: e.image_at })
        .collect();
    Ok((model, Held(features), examples, golden_file))
}

fn stage(text: &str) -> Result<Stage> {
    toml::from_str(text).map_err(|e| Error::failed(e.to_string()))
}

fn train(
    model: Mllm,
    examples: &Vec<Example>,
    features: &Held,
    stage: &Stage,
    seed: u64,
) -> Result<(Outcome<Mllm>, Vec<StepLog>)> {
    let mut log = Vec::new();
    let device = Device::flex();
    let mut on_step = |s: &StepLog| log.push(s.clone());
    let mut run = Run {
        name: "tune",
        stage,
        seed,
        device: &device,
        on_step: &mut on_step,
        stop: &|| false,
        keep: None,
        saved: None,
    };
    let outcome = train_stage(model, examples, features, &mut run)?;
    Ok((outcome, log))
}

fn done<M>(outcome: Outcome<M>) -> Result<M> {
    match outcome {
        Outcome::Done(model) => Ok(model),
        Outcome::Interrupted => Err(Error::failed("interrupted")),
    }
}

fn compare(what: &str, log: &[StepLog], expected: &Losses) {
    assert_eq!(log.len(), expected.loss.len());
    for (ours, (loss, norm)) in log.iter().zip(expected.loss.iter().zip(&expected.norm)) {
        let off = (ours.loss - loss).abs() / loss;
        assert!(off < 1e-4, "{what} step {}: loss {} instead of {loss}", ours.step, ours.loss);
        let off = (ours.grad_norm - norm).abs() / norm;
        assert!(off < 1e-3, "{what} step {}: norm {} instead of {norm}", ours.step, ours.grad_norm);
    }
}

#[test]
fn both_stages_lose_as_in_pytorch() -> Result<()> {
    for name in ["front", "mixed"] {
        let (model, features, examples, golden) = start(name)?;
        let align = stage(
            "steps = 10\nbatch = 6\nlr = 1e-2\ntrainable = [\"connector\"]\nweight_decay = 0.1\nwarmup = 0.2\nclip = 1.0",
        )?;
        let (outcome, log) = train(model, &examples, &features, &align, 0)?;
        compare(&format!("{name} align"), &log, &golden.align);
        let tune = stage(
            "steps = 10\nbatch = 6\nlr = 3e-3\ntrainable = [\"connector\", \"llm\"]\nweight_decay = 0.1\nwarmup = 0.2\nclip = 0.5",
        )?;
        let (_, log) = train(done(outcome)?, &examples, &features, &tune, 0)?;
        compare(&format!("{name} tune"), &log, &golden.tune);
    }
    Ok(())
}

fn weights<M: burn::module::Module>(module: &M) -> Result<Vec<(String, Vec<f32>)>> {
    let mut all = Vec::new();
    checkpoint::collect(module, |p, v| {
        all.push((p.path, v));
        Ok(())
    })?;
    Ok(all)
}

#[test]
fn a_stage_moves_only_what_it_trains_and_repeats_bit_by_bit() -> Result<()> {
    let align = stage("steps = 3\nbatch = 2\nlr = 1e-2\nwarmup = 0.0\ntrainable = [\"connector\"]")?;
    let both = stage(
        "epochs = 1.0\nbatch = 4\nlr = 1e-2\nwarmup = 0.0\nllm_lr = 1e-3\ntrainable = [\"connector\", \"llm\"]\norder = \"grouped_by_length\"",
    )?;
    let run = |stage: &Stage, seed| -> Result<(Mllm, Vec<f64>)> {
        let (model, features, examples, _) = start("front")?;
        let (outcome, log) = train(model, &examples, &features, stage, seed)?;
        Ok((done(outcome)?, log.iter().map(|l| l.loss).collect()))
    };
    let before = start("front")?.0;
    let after = run(&align, 1)?.0;
    assert_eq!(weights(&before.llm)?, weights(&after.llm)?);
    assert_ne!(weights(&before.connector)?, weights(&after.connector)?);
    let (one, losses) = run(&both, 1)?;
    assert_eq!(losses.len(), 2);
    for (old, new) in weights(&before)?.iter().zip(weights(&one)?) {
        assert_ne!(old.1, new.1, "{} did not move", old.0);
    }
    let (two, again) = run(&both, 1)?;
    assert_eq!(losses, again);
    assert_eq!(weights(&one)?, weights(&two)?);
    assert_ne!(losses, run(&both, 2)?.1, "the seed decides the order");
    Ok(())
}

#[test]
fn muon_learns_and_repeats_itself() -> Result<()> {
    let run = |optimiser: &str| -> Result<Vec<f64>> {
        let (model, features, examples, _) = start("front")?;
        let stage = stage(&format!(
            "optimiser = \"{optimiser}\"\nsteps = 20\nbatch = 6\nlr = 1e-2\ntrainable = [\"connector\", \"llm\"]"
        ))?;
        let (outcome, log) = train(model, &examples, &features, &stage, 0)?;
        done(outcome)?;
        Ok(log.iter().map(|l| l.loss).collect())
    };
    let (muon, adamw) = (run("muon")?, run("adamw")?);
    assert!(muon[19] < 0.5 * muon[0], "{muon:?}");
    assert_eq!(muon, run("muon")?);
    assert_eq!(muon[0], adamw[0]);
    assert_ne!(muon[2], adamw[2]);
    Ok(())
}

#[test]
fn a_diverging_or_empty_stage_is_an_error_and_a_stopped_one_is_interrupted() -> Result<()> {
    let (model, features, mut examples, _) = start("front")?;
    let wild =
        stage("steps = 30\nbatch = 6\nlr = 1e30\nwarmup = 0.0\nclip = 0.0\ntrainable = [\"connector\", \"llm\"]")?;
    let e = train(model.clone(), &examples, &features, &wild, 0).unwrap_err();
    assert!(e.to_string().contains("at step"), "{e}");
    assert!(e.hint_text().is_some());
    let device = Device::flex();
    let calm = stage("steps = 30\nbatch = 6\nlr = 1e-3\ntrainable = [\"connector\"]")?;
    let mut steps = 0;
    let asked = std::cell::Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 2
    };
    let mut on_step = |_: &StepLog| steps += 1;
    let mut run = Run {
        name: "tune",
        stage: &calm,
        seed: 0,
        device: &device,
        on_step: &mut on_step,
        stop: &stop,
        keep: None,
        saved: None,
    };
    assert!(matches!(train_stage(model.clone(), &examples, &features, &mut run)?, Outcome::Interrupted));
    assert_eq!(steps, 2);
    let encoder = stage("steps = 3\nbatch = 6\nlr = 1e-3\ntrainable = [\"encoder\"]")?;
    assert!(train(model.clone(), &examples, &features, &encoder, 0).is_err());
    for e in &mut examples {
        e.learned.fill(false);
    }
    assert!(train(model, &examples, &features, &calm, 0).unwrap_err().to_string().contains("answer"));
    Ok(())
}

#[test]
fn a_language_model_learns_text() -> Result<()> {
    let documents =
        || (0..).map(|i: usize| Document::Text(format!("the {} cup is red", ["big", "small", "old"][i % 3])));
    let tokenizer = Tokenizer::train(["the big small old cup is red"; 4].iter(), 270, &SPECIALS)?;
    let llm = LlmConfig::nano(32, 1, 270);
    let config: PretrainConfig =
        toml::from_str("steps = 80\ntokens = 96\ncontext = 24\nlr = 1e-2").map_err(|e| Error::failed(e.to_string()))?;
    let mut losses = Vec::new();
    let mut on_step = |s: &StepLog, _: &Llm| {
        losses.push(s.loss);
        Ok(())
    };
    let chat = ChatTemplate::nano();
    let outcome = pretrain(&config, &llm, &tokenizer, &chat, documents(), &Device::flex(), 0, &mut on_step, &|| false)?;
    done(outcome)?;
    assert!((losses[0] - 270f64.ln()).abs() < 0.5, "starts near chance: {}", losses[0]);
    assert!(losses[79] < 1.0, "ends at {}", losses[79]);
    Ok(())
}
