//! Both stages with an encoder, compared to PyTorch (goldens of `tests/reference/train_stages.py`): every loss and the
//! weights at the end, with the encoder frozen or unfrozen, with and without LoRA. Also: an interrupted stage ends with
//! the same bits as one that was not.

#[path = "../../tests/devices.rs"]
mod devices;

use burgess_base::stream::stream;
use burgess_base::{Error, Result, atomic};
use burgess_encoders::arch::{Architecture, ArchitectureConfig, Tap};
use burgess_encoders::checkpoint::{self, Checkpoint, Dialect, IDENTITY};
use burgess_probe::connector::{ConnectorConfig, ConnectorKind};
use burgess_probe::data::Example;
use burgess_probe::llm::{ChatTemplate, Compute, LlmConfig, PROJECTIONS};
use burgess_probe::mllm::{EncoderConfig, ImageBatch, Mllm, MllmConfig};
use burgess_probe::recipe::{LoraConfig, ParameterGroup, Stage};
use burgess_probe::train::{FeatureSource, StageOutcome, StageRun, StateSaver, StepLog, train_stage};
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use devices::{cases, device};
use rand::Rng;
use serde::Deserialize;
use serde_json::json;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Deserialize)]
struct Golden {
    llm: LlmConfig,
    examples: Vec<Conversation>,
    most: usize,
    #[serde(flatten)]
    cases: BTreeMap<String, Losses>,
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

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/train/stages").join(name)
}

fn start(part: &str) -> Result<Checkpoint> {
    Checkpoint::open(&file("start.safetensors"))?.inside(part)
}

const SIZE: usize = 21;

/// The images: pixels if the encoder is inside the model, else the features of a frozen encoder.
struct Images {
    pixels: Vec<f32>,
    frozen: Option<Architecture>,
}

impl FeatureSource for Images {
    fn batch(&self, images: &[usize], device: &Device) -> Result<ImageBatch> {
        let size = 3 * SIZE * SIZE;
        let chosen: Vec<f32> =
            images.iter().flat_map(|i| self.pixels[i * size..(i + 1) * size].iter().copied()).collect();
        let data = TensorData::new(chosen, [images.len(), 3, SIZE, SIZE]);
        Ok(match &self.frozen {
            None => ImageBatch::Pixels(vec![Tensor::from_data(data, device)]),
            Some(encoder) => {
                let features = encoder.forward(Tensor::from_data(data, &devices::device()), &tap()?)?.tokens;
                ImageBatch::Features(Tensor::from_data(features.into_data(), device))
            }
        })
    }
}

fn tap() -> Result<Tap> {
    toml::from_str("norm = true").map_err(|e| Error::failed(e.to_string()))
}

fn dinov2() -> Result<&'static Dialect> {
    Dialect::find("transformers-dinov2")
}

/// The model before training, its images, examples, and goldens.
fn setting(unfrozen: bool, adapted: bool) -> Result<(Mllm, Images, Vec<Example>, Golden)> {
    let golden: Golden = atomic::read_json(&file("golden.json"))?;
    let device = device();
    let architecture: ArchitectureConfig = toml::from_str(
        "architecture = \"vit\"\nimage_size = 21\npatch = 7\nwidth = 16\ndepth = 2\nheads = 2\nmlp_hidden = \
             32\nlayer_scale = 1.0\nqkv_bias = false\nnorm_eps = 1e-6",
    )
    .map_err(|e| Error::failed(e.to_string()))?;
    let encoder = checkpoint::load(architecture.init(&device)?, &start("encoder.")?, dinov2()?)?.0;
    let mut llm = checkpoint::load(golden.llm.init(&device)?, &start("llm.")?, &IDENTITY)?.0;
    if adapted {
        let (drawn, tensors) = (llm.with_lora(4, 8.0, &PROJECTIONS.map(String::from), 0)?, start("adapter.")?);
        let mut weights = BTreeMap::new();
        checkpoint::visit_parameters(&drawn, |p, v| {
            weights.insert(p.path, v);
            Ok(())
        })?;
        llm = checkpoint::fill(drawn, |p| match p.path.ends_with("lora.a") {
            true => tensors.read(&p.path),
            false => Ok(weights[&p.path].clone()),
        })?;
    }
    let inside = EncoderConfig { id: "small".into(), architecture, tap: tap()?, normalise: None };
    let config = MllmConfig {
        connector: ConnectorConfig {
            kind: ConnectorKind::default(),
            feature_width: 16,
            llm_width: 24,
            towers: Vec::new(),
        },
        llm: golden.llm.clone(),
        chat: ChatTemplate::nano(),
        encoders: if unfrozen { vec![inside] } else { Vec::new() },
        grid: None,
    };
    let (inner, frozen) = if unfrozen { (vec![encoder], None) } else { (Vec::new(), Some(encoder)) };
    let mut model = Mllm::assemble(config, inner, llm, 0, &device)?;
    model.connector = checkpoint::load(model.connector, &start("connector.")?, &IDENTITY)?.0;
    let pixels = Checkpoint::open(&file("start.safetensors"))?.read("pixels")?;
    let examples = golden
        .examples
        .iter()
        .map(|e| Example { image: e.image, ids: e.ids.clone(), loss_mask: e.learned.clone(), image_at: e.image_at })
        .collect();
    Ok((model, Images { pixels, frozen }, examples, golden))
}

/// The stage of the goldens, for these parameter groups.
fn stage(parts: &[ParameterGroup], lora: bool, most: usize) -> Stage {
    Stage {
        connector_lr: Some(1e-2),
        llm_lr: Some(2e-3),
        encoder_lr: Some(1e-3),
        weight_decay: 0.1,
        warmup: 0.1,
        accumulate: 2,
        max_length: Some(most),
        lora: lora.then(|| LoraConfig { rank: 4, alpha: 8.0, targets: PROJECTIONS.map(String::from).to_vec() }),
        ..Stage::new(20, 8, 1e-2, parts.to_vec())
    }
}

fn run(
    model: Mllm,
    images: &Images,
    examples: &Vec<Example>,
    stage: &Stage,
    saver: Option<&StateSaver>,
    stop: &dyn Fn() -> bool,
) -> Result<(Option<Mllm>, Vec<StepLog>)> {
    let mut log = Vec::new();
    let mut on_step = |s: &StepLog| log.push(s.clone());
    let device = device();
    let saved = saver.map(StateSaver::open).transpose()?.flatten();
    let mut run =
        StageRun { name: "tune", stage, seed: 3, device: &device, on_step: &mut on_step, stop, saver, resume: saved };
    match train_stage(model, examples, images, &mut run)? {
        StageOutcome::Done(model) => Ok((Some(model), log)),
        StageOutcome::Interrupted => Ok((None, log)),
    }
}

/// The largest ‖a − b‖ / ‖b‖ over the tensors of a module, and the name of the tensor.
fn worst<M: Module>(module: &M, file: &Path, prefix: &str, dialect: &Dialect) -> Result<(f64, String)> {
    let expected = Checkpoint::open(file)?.inside(prefix)?;
    let mut worst = (0.0, String::new());
    checkpoint::visit_parameters(module, |p, ours| {
        let source = dialect.source(&p.path, &p.shape, &|key| expected.shape(key))?;
        let theirs: Vec<f32> =
            source.keys.iter().map(|k| expected.read(k)).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
        assert_eq!(ours.len(), theirs.len(), "{}", p.path);
        let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let off = norm(&mut ours.iter().zip(&theirs).map(|(a, b)| a - b)) / norm(&mut theirs.iter().copied());
        if off > worst.0 {
            worst = (off, format!("{prefix}{}", p.path));
        }
        Ok(())
    })?;
    Ok(worst)
}

fn compare(case: &str, log: &[StepLog], expected: &Losses) {
    assert_eq!(log.len(), expected.loss.len());
    let mut worst = [0f64; 2];
    for (ours, (loss, norm)) in log.iter().zip(expected.loss.iter().zip(&expected.norm)) {
        let off = [(ours.loss - loss).abs() / loss, (ours.grad_norm - norm).abs() / norm];
        worst = [worst[0].max(off[0]), worst[1].max(off[1])];
        assert!(off[0] < 1e-3 && off[1] < 1e-2, "{case} step {}: {} instead of {loss}, {off:?}", ours.step, ours.loss);
    }
    println!("{case:<14} loss within {:.1e}, gradient norm within {:.1e}", worst[0], worst[1]);
}

#[test]
fn both_stages_end_with_the_weights_of_pytorch() -> Result<()> {
    let never = || false;
    let all = [
        ("frozen", false, false),
        ("unfrozen", true, false),
        ("frozen-lora", false, true),
        ("unfrozen-lora", true, true),
    ];
    for (case, unfrozen, adapted) in cases(&all, &[1, 2]) {
        let (model, images, examples, golden) = setting(unfrozen, adapted)?;
        let align = stage(&[ParameterGroup::Connector], false, golden.most);
        // The LoRA matrices of the next stage have no effect in this one: B is zero and is not trained.
        let (model, log) = run(model, &images, &examples, &align, None, &never)?;
        let mut model = model.ok_or_else(|| Error::failed("interrupted"))?;
        compare(&format!("{case}, align"), &log, &golden.cases["align"]);
        let off = worst(&model.connector, &file("align.safetensors"), "connector.", &IDENTITY)?;
        assert!(off.0 < 1e-3, "{case}, align: {off:?}");
        if adapted {
            model.llm = setting(unfrozen, true)?.0.llm;
        }
        let mut parts = vec![ParameterGroup::Connector, ParameterGroup::Llm];
        parts.extend(unfrozen.then_some(ParameterGroup::Encoder));
        let tune = stage(&parts, adapted, golden.most);
        let (model, log) = run(model, &images, &examples, &tune, None, &never)?;
        let model = model.ok_or_else(|| Error::failed("interrupted"))?;
        compare(case, &log, &golden.cases[case]);
        let end = file(&format!("{case}.safetensors"));
        let mut off = vec![worst(&model.connector, &end, "connector.", &IDENTITY)?];
        off.push(worst(&model.llm, &end, "llm.", &IDENTITY)?);
        if unfrozen {
            off.push(worst(&model.encoders[0], &end, "encoder.", dinov2()?)?);
        }
        println!("{case:<14} weights within {off:?}");
        assert!(off.iter().all(|(off, _)| *off < 1e-3), "{case}: {off:?}");
    }
    Ok(())
}

/// The losses of PyTorch's autocast to bfloat16 and of `precision = "bf16"` agree within the accuracy of 8 bits of
/// mantissa, and the weights stay f32.
#[test]
fn in_bfloat16_losses_follow_those_of_autocast() -> Result<()> {
    for (case, adapted, checkpointing) in
        [("frozen-bf16", false, false), ("frozen-bf16", false, true), ("frozen-lora-bf16", true, false)]
    {
        let (mut model, images, examples, golden) = setting(false, adapted)?;
        model.connector = checkpoint::load(
            model.connector,
            &Checkpoint::open(&file("align.safetensors"))?.inside("connector.")?,
            &IDENTITY,
        )?
        .0;
        let parts = [ParameterGroup::Connector, ParameterGroup::Llm];
        let stage = Stage { precision: Compute::Bf16, checkpointing, ..stage(&parts, adapted, golden.most) };
        if Compute::Bf16.check_device(&device()).is_err() {
            let e = run(model, &images, &examples, &stage, None, &|| false).map(|_| ()).unwrap_err();
            assert!(e.to_string().contains("`precision` is bf16") && e.hint_text().is_some(), "{e}");
            continue;
        }
        let (model, log) = run(model, &images, &examples, &stage, None, &|| false)?;
        let model = model.ok_or_else(|| Error::failed("interrupted"))?;
        let (mut off, mut apart) = (0f64, 0f64);
        let full = &golden.cases[case.trim_end_matches("-bf16")];
        for (ours, (loss, full)) in log.iter().zip(golden.cases[case].loss.iter().zip(&full.loss)) {
            off = off.max((ours.loss - loss).abs() / loss);
            apart = apart.max((ours.loss - full).abs() / full);
        }
        println!("{case:<17} loss within {off:.1e} of autocast's, {apart:.1e} of f32's");
        assert_eq!(log.len(), 20);
        // The output of a product is rounded to bf16 by autocast, and stays f32 on the CPU backend.
        assert!(off < 1e-3, "{case}: {off}");
        assert!(apart > 1e-5, "{case}: nothing was computed in bf16");
        assert_eq!(model.llm.model.embed_tokens.weight.parameter()?.val().dtype(), DType::F32);
    }
    Ok(())
}

/// Paths and values of all parameters.
type Weights = Vec<(String, Vec<f32>)>;

fn weights(model: &Mllm) -> Result<Weights> {
    let mut all = Vec::new();
    checkpoint::visit_parameters(model, |p, v| {
        all.push((p.path, v));
        Ok(())
    })?;
    Ok(all)
}

/// The log without times, which differ between runs.
fn timeless(log: &[StepLog]) -> Vec<StepLog> {
    log.iter().map(|s| StepLog { seconds: 0.0, ..s.clone() }).collect()
}

#[test]
fn a_stage_interrupted_ten_times_ends_with_the_same_bits() -> Result<()> {
    let all = [ParameterGroup::Connector, ParameterGroup::Llm, ParameterGroup::Encoder];
    let (f32, bf16) = (Compute::F32, Compute::Bf16);
    let settings = [
        ("AdamW, frozen", "adamw", false, false, f32),
        ("AdamW, unfrozen", "adamw", true, false, f32),
        ("AdamW, adapters", "adamw", true, true, f32),
        ("Muon, frozen", "muon", false, false, f32),
        ("Muon, unfrozen", "muon", true, false, f32),
        ("AdamW, bf16", "adamw", false, false, bf16),
        ("AdamW, adapters, bf16", "adamw", false, true, bf16),
    ];
    for (case, optimiser, unfrozen, lora, precision) in cases(&settings, &[4]) {
        if precision.check_device(&device()).is_err() {
            continue;
        }
        // Three examples per step in two micro-batches: the eight examples of an epoch end in a shorter batch.
        let stage = Stage {
            optimiser: serde_json::from_value(json!(optimiser))?,
            batch: 3,
            precision,
            ..stage(&all[..if unfrozen { 3 } else { 2 }], lora, 26)
        };
        let (model, images, examples, _) = setting(unfrozen, false)?;
        let never = || false;
        let (whole, log) = run(model, &images, &examples, &stage, None, &never)?;
        let whole = weights(&whole.ok_or_else(|| Error::failed("interrupted"))?)?;
        let dir = tempfile::tempdir()?;
        let saver = StateSaver {
            every: Duration::from_secs(3600),
            every_steps: Some(1),
            ..StateSaver::new(&dir.path().join("tune.safetensors"), json!({"stage": stage}))
        };
        let mut random = stream(case, 0);
        let (mut kills, mut lines, mut end) = (0, BTreeMap::new(), None);
        while end.is_none() {
            // Up to two steps.
            let left = Cell::new(if kills < 10 { random.next_u64() % 3 } else { 100 });
            let saver = StateSaver { every_steps: Some(1 + (random.next_u64() % 2) as usize), ..saver.clone() };
            let stop = || left.replace(left.get().saturating_sub(1)) == 0;
            let (model, _, _, _) = setting(unfrozen, false)?;
            let (outcome, log) = run(model, &images, &examples, &stage, Some(&saver), &stop)?;
            lines.extend(log.iter().map(|s| (s.step, s.clone())));
            kills += usize::from(outcome.is_none());
            end = outcome;
        }
        assert_eq!(kills, 10, "{case}");
        let end = weights(&end.ok_or_else(|| Error::failed("interrupted"))?)?;
        assert_eq!(end, whole, "{case}");
        assert_eq!(timeless(&lines.into_values().collect::<Vec<_>>()), timeless(&log), "{case}");
    }
    Ok(())
}

#[test]
fn losses_in_bfloat16_do_not_depend_on_the_number_of_threads() -> Result<()> {
    if Compute::Bf16.check_device(&device()).is_err() {
        return Ok(());
    }
    let losses = |threads| -> Result<(Vec<StepLog>, Weights)> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let train = || {
            let (model, images, examples, golden) = setting(false, false)?;
            let parts = [ParameterGroup::Connector, ParameterGroup::Llm];
            let stage = Stage { precision: Compute::Bf16, ..stage(&parts, false, golden.most) };
            let (model, log) = run(model, &images, &examples, &stage, None, &|| false)?;
            Ok((timeless(&log), weights(&model.ok_or_else(|| Error::failed("interrupted"))?)?))
        };
        pool.map_err(|e| Error::failed(e.to_string()))?.install(train)
    };
    let (one, three) = (losses(1)?, losses(3)?);
    assert_eq!(one.0, three.0);
    assert_eq!(one.1, three.1);
    Ok(())
}

#[test]
fn a_state_of_other_inputs_or_a_damaged_one_is_refused() -> Result<()> {
    let (model, images, examples, golden) = setting(false, false)?;
    let stage = stage(&[ParameterGroup::Connector], false, golden.most);
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("state/align.safetensors");
    let saver = StateSaver { every_steps: Some(2), ..StateSaver::new(&path, json!({"stage": stage, "data": "one"})) };
    let left = Cell::new(3);
    let stop = || left.replace(left.get() - 1) == 0;
    assert!(run(model.clone(), &images, &examples, &stage, Some(&saver), &stop)?.0.is_none());
    assert_eq!(saver.open()?.map(|s| (s.step(), s.checked())), Some((3, true)), "kept when it was asked to stop");
    let other = StateSaver::new(&path, json!({"stage": Stage { clip: 2.0, ..stage.clone() }, "data": "two"}));
    let e = other.open().unwrap_err();
    assert!(e.to_string().contains("run.data: \"one\" stored, \"two\" now") && e.to_string().contains("clip"), "{e}");
    assert!(e.hint_text().is_some_and(|h| h.contains("remove")));

    // A stage that trains other parameters.
    let more = Stage { trainable: vec![ParameterGroup::Connector, ParameterGroup::Llm], ..stage.clone() };
    let e = run(model.clone(), &images, &examples, &more, Some(&saver), &|| false).unwrap_err();
    assert!(e.to_string().contains("has the shape"), "{e}");

    let bytes = std::fs::read(&path)?;
    let header = bytes.windows(5).position(|w| w == b"state").unwrap_or(0);
    for (place, bit) in [(header + 30, 0), (bytes.len() / 2, 6), (bytes.len() - 1, 7), (bytes.len() - 2, 0)] {
        let mut flipped = bytes.clone();
        flipped[place] ^= 1 << bit;
        std::fs::write(&path, flipped)?;
        let e = saver.open().unwrap_err();
        assert!(e.to_string().contains("align.safetensors"), "{place}: {e}");
        assert!(e.hint_text().is_some_and(|h| h.contains("begin the stage anew")), "{place}: {e}");
    }
    // The format of earlier versions, without a digest.
    let digest = bytes.windows(6).position(|w| w == b"blake3").ok_or_else(|| Error::failed("no digest"))?;
    let mut old = bytes.clone();
    old[digest..digest + 6].copy_from_slice(b"blakex");
    std::fs::write(&path, old)?;
    assert_eq!(saver.open()?.map(|s| (s.step(), s.checked())), Some((3, false)));
    for cut in [0, 5, 300, bytes.len() - 4] {
        std::fs::write(&path, &bytes[..cut])?;
        let e = saver.open().unwrap_err();
        assert!(e.to_string().contains("align.safetensors") && e.hint_text().is_some(), "{cut}: {e}");
    }
    saver.remove()?;
    assert!(saver.open()?.is_none());
    Ok(())
}

#[test]
fn a_step_in_parts_is_the_same_step() -> Result<()> {
    let ends = |accumulate| -> Result<(Weights, Vec<StepLog>)> {
        let (model, images, examples, golden) = setting(false, false)?;
        let stage =
            Stage { accumulate, ..stage(&[ParameterGroup::Connector, ParameterGroup::Llm], false, golden.most) };
        let (model, log) = run(model, &images, &examples, &stage, None, &|| false)?;
        Ok((weights(&model.ok_or_else(|| Error::failed("interrupted"))?)?, log))
    };
    let (whole, log) = ends(1)?;
    for parts in cases(&[2, 3, 8], &[1]) {
        let (in_parts, log_in_parts) = ends(parts)?;
        for (a, b) in log.iter().zip(&log_in_parts) {
            assert!((a.loss - b.loss).abs() < 1e-4 * a.loss, "{parts} parts, step {}", a.step);
        }
        for ((path, a), (_, b)) in whole.iter().zip(&in_parts) {
            let off = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-3, "{parts} parts, {path}: {off}");
        }
    }
    Ok(())
}

#[test]
fn blocks_computed_again_give_the_same_gradients() -> Result<()> {
    let all = [ParameterGroup::Connector, ParameterGroup::Llm, ParameterGroup::Encoder];
    let settings =
        [(false, false, &all[..1]), (false, false, &all[..2]), (true, true, &all[..]), (false, true, &all[1..2])];
    for (unfrozen, lora, parts) in cases(&settings, &[2]) {
        let ends = |checkpointing| -> Result<(Weights, Vec<StepLog>)> {
            let (model, images, examples, golden) = setting(unfrozen, false)?;
            let stage = Stage { checkpointing, ..stage(parts, lora, golden.most) };
            let (model, log) = run(model, &images, &examples, &stage, None, &|| false)?;
            Ok((weights(&model.ok_or_else(|| Error::failed("interrupted"))?)?, log))
        };
        let ((kept, log), (again, log_again)) = (ends(false)?, ends(true)?);
        for (a, b) in log.iter().zip(&log_again) {
            assert!((a.loss - b.loss).abs() < 1e-4 * a.loss, "{parts:?} step {}", a.step);
            assert!((a.grad_norm - b.grad_norm).abs() < 1e-3 * a.grad_norm, "{parts:?} step {}", a.step);
        }
        for ((path, a), (_, b)) in kept.iter().zip(&again) {
            let off = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-3, "{parts:?} {path}: {off}");
        }
    }
    Ok(())
}
