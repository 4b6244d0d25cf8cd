//! Training compared to PyTorch (goldens of `tests/reference/train.py`), and the guarantees of a stage.

#[path = "../../tests/devices.rs"]
mod devices;

use burgess_base::{Error, Result, atomic};
use burgess_encoders::checkpoint::{self, Checkpoint, IDENTITY};
use burgess_probe::connector::{ConnectorConfig, ConnectorKind};
use burgess_probe::data::Example;
use burgess_probe::generate::{Decoding, Prompt, Sampling, answer, score_options};
use burgess_probe::llm::pretrain::{PretrainConfig, PretrainDocument, Pretraining};
use burgess_probe::llm::tokenizer::{SPECIALS, Tokenizer};
use burgess_probe::llm::{ChatTemplate, Llm, LlmConfig};
use burgess_probe::mllm::{ImageBatch, Mllm, MllmConfig};
use burgess_probe::recipe::Stage;
use burgess_probe::train::{FeatureSource, StageOutcome, StageRun, StateSaver, StepLog, train_stage};
use burn::tensor::{Device, Int, Tensor, TensorData};
use devices::{device, limit};
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
    fn batch(&self, images: &[usize], device: &Device) -> Result<ImageBatch> {
        let rows: Vec<i32> = images.iter().map(|&i| i as i32).collect();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [images.len()]), &self.0.device());
        let picked = self.0.clone().select(0, rows).into_data();
        Ok(ImageBatch::Features(Tensor::from_data(picked, device)))
    }
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/train").join(name)
}

fn start(name: &str) -> Result<(Mllm, Held, Vec<Example>, Golden)> {
    let golden_file: Golden = atomic::read_json(&golden(name).join("golden.json"))?;
    let device = device();
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
        .map(|e| Example { image: e.image, ids: e.ids.clone(), loss_mask: e.learned.clone(), image_at: e.image_at })
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
) -> Result<(StageOutcome<Mllm>, Vec<StepLog>)> {
    let mut log = Vec::new();
    let device = device();
    let mut on_step = |s: &StepLog| log.push(s.clone());
    let mut run = StageRun {
        name: "tune",
        stage,
        seed,
        device: &device,
        on_step: &mut on_step,
        stop: &|| false,
        saver: None,
        resume: None,
    };
    let outcome = train_stage(model, examples, features, &mut run)?;
    Ok((outcome, log))
}

fn done<M>(outcome: StageOutcome<M>) -> Result<M> {
    match outcome {
        StageOutcome::Done(model) => Ok(model),
        StageOutcome::Interrupted => Err(Error::failed("interrupted")),
    }
}

fn compare(what: &str, log: &[StepLog], expected: &Losses) {
    assert_eq!(log.len(), expected.loss.len());
    let mut worst = [0f64; 2];
    for (ours, (loss, norm)) in log.iter().zip(expected.loss.iter().zip(&expected.norm)) {
        let off = [(ours.loss - loss).abs() / loss, (ours.grad_norm - norm).abs() / norm];
        worst = [worst[0].max(off[0]), worst[1].max(off[1])];
        assert!(off[0] < limit(1e-4, 1e-3), "{what} step {}: loss {} instead of {loss}", ours.step, ours.loss);
        assert!(off[1] < limit(1e-3, 1e-2), "{what} step {}: norm {} instead of {norm}", ours.step, ours.grad_norm);
    }
    println!("{what:<14} loss within {:.1e}, gradient norm within {:.1e}", worst[0], worst[1]);
}

#[test]
fn both_stages_lose_as_in_pytorch() -> Result<()> {
    for name in ["front", "mixed"] {
        let (model, features, examples, golden) = start(name)?;
        let align = stage(
            "steps = 10\nbatch = 6\nlr = 1e-2\ntrainable = [\"connector\"]\nweight_decay = 0.1\nwarmup = 0.2\nclip = \
                 1.0",
        )?;
        let (outcome, log) = train(model, &examples, &features, &align, 0)?;
        compare(&format!("{name} align"), &log, &golden.align);
        let tune = stage(
            "steps = 10\nbatch = 6\nlr = 3e-3\ntrainable = [\"connector\", \"llm\"]\nweight_decay = 0.1\nwarmup = \
                 0.2\nclip = 0.5",
        )?;
        let (_, log) = train(done(outcome)?, &examples, &features, &tune, 0)?;
        compare(&format!("{name} tune"), &log, &golden.tune);
    }
    Ok(())
}

fn weights<M: burn::module::Module>(module: &M) -> Result<Vec<(String, Vec<f32>)>> {
    let mut all = Vec::new();
    checkpoint::visit_parameters(module, |p, v| {
        all.push((p.path, v));
        Ok(())
    })?;
    Ok(all)
}

#[test]
fn a_stage_updates_only_its_parameter_groups_and_repeats_bit_by_bit() -> Result<()> {
    let align = stage("steps = 3\nbatch = 2\nlr = 1e-2\nwarmup = 0.0\ntrainable = [\"connector\"]")?;
    let both = stage(
        "epochs = 1.0\nbatch = 4\nlr = 1e-2\nwarmup = 0.0\nllm_lr = 1e-3\ntrainable = [\"connector\", \"llm\"]\norder \
             = \"grouped_by_length\"",
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
    assert!(e.to_string().contains("stage tune, step 2 (learning rate"), "{e}");
    assert!(e.hint_text().is_some());
    let device = device();
    let calm = stage("steps = 30\nbatch = 6\nlr = 1e-3\ntrainable = [\"connector\"]")?;
    let mut steps = 0;
    let asked = std::cell::Cell::new(0);
    let stop = || {
        asked.set(asked.get() + 1);
        asked.get() > 2
    };
    let mut on_step = |_: &StepLog| steps += 1;
    let mut run = StageRun {
        name: "tune",
        stage: &calm,
        seed: 0,
        device: &device,
        on_step: &mut on_step,
        stop: &stop,
        saver: None,
        resume: None,
    };
    assert!(matches!(train_stage(model.clone(), &examples, &features, &mut run)?, StageOutcome::Interrupted));
    assert_eq!(steps, 2);
    let encoder = stage("steps = 3\nbatch = 6\nlr = 1e-3\ntrainable = [\"encoder\"]")?;
    assert!(train(model.clone(), &examples, &features, &encoder, 0).is_err());
    for e in &mut examples {
        e.loss_mask.fill(false);
    }
    assert!(train(model, &examples, &features, &calm, 0).unwrap_err().to_string().contains("answer"));
    Ok(())
}

#[test]
fn numbers_that_are_not_finite_end_a_stage_with_their_place() -> Result<()> {
    let (model, features, examples, _) = start("front")?;
    let wild = |text: &str| -> Result<Error> {
        let stage = stage(&format!("batch = 6\nwarmup = 0.0\n{text}"))?;
        let outcome = train(model.clone(), &examples, &features, &stage, 0);
        outcome.err().ok_or_else(|| Error::failed(format!("no error: {text}")))
    };
    // One step with such a learning rate gives weights of 1e20, and no later loss would reveal it.
    let e = wild("steps = 1\nlr = 1e20\ntrainable = [\"connector\"]")?;
    assert!(e.to_string().contains("after its last step (`lr` = 1e20)") && e.hint_text().is_some(), "{e}");
    let e = wild("steps = 1\nlr = 1e300\ntrainable = [\"connector\"]")?;
    assert!(e.to_string().contains("`connector.") && e.to_string().contains("not finite"), "{e}");
    let lora = "steps = 2\nlr = 1e-3\ntrainable = [\"llm\"]\nlora";
    let e = wild(&format!("{lora} = {{ rank = 4, alpha = 1e38 }}"))?;
    assert!(e.to_string().contains("`lora.alpha` is 1e38, must be above 0 and at most 1000000"), "{e}");
    let e = wild(&format!("{lora} = {{ rank = 100000000, alpha = 16.0 }}"))?;
    assert!(e.to_string().contains("`lora.rank` is 100000000"), "{e}");
    // Features of an encoder that diverged.
    let broken = Held(features.0.clone().mul_scalar(f32::INFINITY));
    let calm = stage("steps = 3\nbatch = 6\nlr = 1e-3\ntrainable = [\"connector\"]")?;
    let e = train(model.clone(), &examples, &broken, &calm, 0).unwrap_err();
    assert!(e.to_string().contains("stage tune, step 1 (learning rate 0e0): the loss is NaN"), "{e}");
    Ok(())
}

#[test]
fn the_saved_state_stays_when_a_stage_diverges() -> Result<()> {
    let (model, features, examples, _) = start("front")?;
    let dir = tempfile::tempdir()?;
    let mut saver = StateSaver::new(&dir.path().join("state.safetensors"), serde_json::json!({}));
    saver.every_steps = Some(1);
    let wild = stage("steps = 30\nbatch = 6\nlr = 1e30\nwarmup = 0.1\ntrainable = [\"connector\"]")?;
    let device = device();
    let mut run = StageRun {
        name: "tune",
        stage: &wild,
        seed: 0,
        device: &device,
        on_step: &mut |_| {},
        stop: &|| false,
        saver: Some(&saver),
        resume: None,
    };
    let e = train_stage(model, &examples, &features, &mut run).unwrap_err();
    let saved = saver.open()?.ok_or_else(|| Error::failed("nothing was kept"))?;
    // The file is complete, and of the step before the one that the error names.
    assert!(e.to_string().contains(&format!("step {}", saved.step() + 1)), "{e}");
    for key in Checkpoint::open(&saver.path)?.keys() {
        Checkpoint::open(&saver.path)?.read(key)?;
    }
    Ok(())
}

#[test]
fn a_model_that_diverged_answers_with_an_error() -> Result<()> {
    let (mut model, _, _, _) = start("front")?;
    let device = device();
    let ids = [1, 2, 3];
    let prompts = [Prompt::text(&ids)];
    let options = [vec![vec![4, 5], vec![6]]];
    let how = |sampling| Decoding { max_new_tokens: 4, stop: &[], sampling };
    answer(&model, None, &prompts, &how(None), &device)?;
    score_options(&model, None, &prompts, &options, &device)?;
    for bad in [f32::NAN, f32::INFINITY] {
        model.llm.model.norm.weight = model.llm.model.norm.weight.map(|weight| weight.map(|w| w.mul_scalar(bad)));
        let sampling = Sampling { temperature: 1.0, top_p: 1.0, top_k: None, seed: 0 };
        for sampling in [None, Some(sampling)] {
            let e = answer(&model, None, &prompts, &how(sampling), &device).unwrap_err();
            assert!(e.to_string().contains("token 1 of the answer to prompt 1") && e.hint_text().is_some(), "{e}");
        }
        let e = score_options(&model, None, &prompts, &options, &device).unwrap_err();
        assert!(e.to_string().contains("token 1 of option 1 of prompt 1") && e.hint_text().is_some(), "{e}");
    }
    Ok(())
}

#[test]
fn a_language_model_learns_text() -> Result<()> {
    let text = |i: usize| format!("the {} cup is red", ["big", "small", "old"][i % 3]);
    let documents = (0..).map(|i: usize| PretrainDocument::Text(text(i)));
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
    let device = device();
    let pretraining =
        Pretraining { config: &config, llm: &llm, tokenizer: &tokenizer, chat: &chat, device: &device, seed: 0 };
    done(pretraining.run(None, documents, &mut on_step, &|| false)?)?;
    assert!((losses[0] - 270f64.ln()).abs() < 0.5, "starts near chance: {}", losses[0]);
    assert!(losses[79] < 1.0, "ends at {}", losses[79]);
    Ok(())
}
