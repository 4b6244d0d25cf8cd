//! Language models whose weights stay as their file stores them: the logits, losses and gradients of the same weights
//! in f32, LoRA beside such weights, and models that are saved as a reference to them.

#[path = "../../tests/made_features.rs"]
mod made_features;
#[path = "../../tests/made_gguf.rs"]
mod made_gguf;

mod common;

use burgess_base::{Error, Result, checksums};
use burgess_encoders::checkpoint::Precision;
use burgess_encoders::number_format::{GgmlBlock, NumberFormat};
use burgess_probe::connector::{ConnectorConfig, ConnectorKind};
use burgess_probe::data::Example;
use burgess_probe::llm::tokenizer::SPECIALS;
use burgess_probe::llm::weights::{is_reference, write_merged};
use burgess_probe::llm::{
    Activations, ChatTemplate, Compute, KvCache, Llm, PROJECTIONS, Tokenizer, WeightStorage, Weights, kernel,
};
use burgess_probe::mllm::{Mllm, MllmConfig, load_frozen_llm, save_llm};
use burgess_probe::recipe::{LoraConfig, ParameterGroup, Stage};
use burgess_probe::train::{StageOutcome, StageRun, StateSaver, StepLog, train_stage};
use burn::tensor::{Device, Int, Tensor, TensorData};
use common::{difference, values};
use made_features::MadeFeatures;
use made_gguf::{Llama, quantised};
use serde_json::json;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

const BLOCKS: [GgmlBlock; 10] = [
    GgmlBlock::Q4_0,
    GgmlBlock::Q4_1,
    GgmlBlock::Q5_0,
    GgmlBlock::Q5_1,
    GgmlBlock::Q8_0,
    GgmlBlock::Q2K,
    GgmlBlock::Q3K,
    GgmlBlock::Q4K,
    GgmlBlock::Q5K,
    GgmlBlock::Q6K,
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(name)
}

fn device() -> Device {
    Device::flex()
}

/// A small LLaMA with matrices of this format.
fn small(format: NumberFormat, tied: bool) -> Llama {
    Llama {
        layers: 2,
        width: 256,
        heads: 4,
        kv_heads: 2,
        mlp: 256,
        vocabulary: 300,
        context: 64,
        tied,
        format,
        table: NumberFormat::Block(GgmlBlock::Q6K),
    }
}

/// Writes a made-up model and returns the directory that holds it, and its path.
fn made(llama: &Llama) -> Result<(tempfile::TempDir, PathBuf)> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("made.gguf");
    llama.write(&path, false)?;
    Ok((dir, path))
}

fn load(path: &Path, storage: WeightStorage) -> Result<Llm> {
    Ok(Weights::open_path(path)?.load_as(storage, &device())?.0)
}

fn ids(count: usize, vocabulary: usize) -> Vec<u32> {
    (0..count).map(|i| 3 + ((i * 7919 + 31) % (vocabulary - 3)) as u32).collect()
}

/// Logits at all positions of two rows, and those of two tokens that follow, computed with the cache.
fn logits(llm: &Llm) -> Result<Vec<f32>> {
    let ids = ids(22, llm.config().vocab_size);
    let (prompt, more) = ids.split_at(20);
    let rows: Vec<&[u32]> = prompt.chunks(10).collect();
    let flat = |hidden: Tensor<3>| {
        let [b, t, d] = hidden.dims();
        values(llm.logits(hidden.reshape([b * t, d])))
    };
    let mut all = flat(llm.hidden(llm.embed_rows(&rows, &device())?)?)?;
    let mut cache = KvCache::new();
    llm.extend(llm.embed_rows(&rows, &device())?, &[10, 10], &mut cache, None)?;
    let more: Vec<&[u32]> = more.chunks(1).collect();
    all.extend(flat(llm.extend(llm.embed_rows(&more, &device())?, &[1, 1], &mut cache, None)?)?);
    Ok(all)
}

#[test]
fn every_block_type_gives_the_logits_of_the_unpacked_weights() -> Result<()> {
    let formats = BLOCKS.map(NumberFormat::Block).into_iter().chain([NumberFormat::F16, NumberFormat::Bf16]);
    for (i, format) in formats.enumerate() {
        let (_dir, path) = made(&small(format, i % 2 == 0))?;
        let (stored, unpacked) = (load(&path, WeightStorage::AsStored)?, load(&path, WeightStorage::F32)?);
        assert!(stored.has_stored_weights() && !unpacked.has_stored_weights());
        let wanted = logits(&unpacked)?;
        let exact = difference(&logits(&stored)?, &wanted);
        let int16 = difference(&logits(&stored.clone().with_activations(Activations::Int16)?)?, &wanted);
        let int8 = difference(&logits(&stored.with_activations(Activations::Int8)?)?, &wanted);
        println!("{format:?}: {exact:.1e} with activations in f32, {int16:.1e} in int16, {int8:.1e} in int8");
        assert!(exact <= 1e-5, "{format:?}: {exact}");
        assert!(int16 <= 5e-4, "{format:?}: {int16}");
        assert!(int8 <= 2e-2, "{format:?}: {int8}");
    }
    Ok(())
}

#[test]
fn quantised_goldens_of_all_families_stay_quantised() -> Result<()> {
    let mut count = 0;
    for item in std::fs::read_dir(golden("llm-gguf"))? {
        let path = item?.path();
        if !path.to_string_lossy().ends_with(".q8.gguf") {
            continue;
        }
        let (stored, unpacked) = (load(&path, WeightStorage::AsStored)?, load(&path, WeightStorage::F32)?);
        assert!(stored.has_stored_weights(), "{}", path.display());
        let d = difference(&logits(&stored)?, &logits(&unpacked)?);
        println!("{} {d:.1e}", path.display());
        assert!(d <= 1e-5, "{}: {d}", path.display());
        count += 1;
    }
    assert!(count >= 8);
    Ok(())
}

#[test]
fn safetensors_in_16_bits_stay_so_too() -> Result<()> {
    let dir = golden("../../probe/zoo/nano-lm");
    let (stored, unpacked) = (load(&dir, WeightStorage::AsStored)?, load(&dir, WeightStorage::F32)?);
    assert!(stored.has_stored_weights());
    let d = difference(&logits(&stored)?, &logits(&unpacked)?);
    assert!(d <= 1e-5, "{d}");
    // Small models are held in f32, with the results of earlier versions.
    let weights = Weights::open_path(&dir)?;
    assert_eq!(WeightStorage::of_frozen(weights.config(), &device()), WeightStorage::F32);
    assert!(!weights.load_frozen(&device())?.0.has_stored_weights());
    assert!(!weights.load_frozen(&device().autodiff())?.0.has_stored_weights());
    let e = stored.with_activations(Activations::Int8).unwrap_err();
    assert!(e.to_string().contains("quantised"), "{e}");
    Ok(())
}

/// Writes `nano-lm` with quantised weights as llama.cpp's converter does, with interleaved rows of queries and keys.
fn quantised_nano_lm(path: &Path, block: GgmlBlock) -> Result<()> {
    let weights = Weights::open_path(&golden("../../probe/zoo/nano-lm"))?;
    let (config, file) = (weights.config(), weights.checkpoint());
    let format = NumberFormat::Block(block);
    let llama = Llama {
        layers: config.num_hidden_layers,
        width: config.hidden_size,
        heads: config.num_attention_heads,
        kv_heads: config.kv_heads(),
        mlp: config.intermediate_size,
        vocabulary: config.vocab_size,
        context: config.max_position_embeddings,
        tied: true,
        format,
        table: format,
    };
    let name = |name: &str| {
        let mut name = name.replace("blk.", "model.layers.").replace("token_embd", "model.embed_tokens");
        for (own, theirs) in [
            ("attn_norm", "input_layernorm"),
            ("ffn_norm", "post_attention_layernorm"),
            ("output_norm", "model.norm"),
            ("attn_output", "self_attn.o_proj"),
            ("attn_q", "self_attn.q_proj"),
            ("attn_k", "self_attn.k_proj"),
            ("attn_v", "self_attn.v_proj"),
            ("ffn_gate", "mlp.gate_proj"),
            ("ffn_up", "mlp.up_proj"),
            ("ffn_down", "mlp.down_proj"),
        ] {
            name = name.replace(own, theirs);
        }
        name
    };
    let head = config.head_width();
    made_gguf::write(path, &llama.metadata(), &llama.tensors(), |tensor, out| {
        let values = file.read(&name(&tensor.name)).map_err(std::io::Error::other)?;
        if tensor.format == NumberFormat::F32 {
            return out.write_all(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>());
        }
        let rotated = tensor.name.contains("attn_q") || tensor.name.contains("attn_k");
        let rows: Vec<&[f32]> = values.chunks(tensor.shape[1]).collect();
        for i in 0..rows.len() {
            let (first, at) = (i / head * head, i % head);
            let from = if rotated { first + at / 2 + at % 2 * (head / 2) } else { i };
            out.write_all(&quantised(rows[from], block))?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Mean negative log-likelihood of the tokens of a page of text.
fn loss(llm: &Llm, ids: &[u32]) -> Result<f64> {
    let (mut sum, mut count) = (0.0, 0);
    for row in ids.chunks(256).filter(|row| row.len() > 1) {
        let hidden = llm.hidden(llm.embed_rows(&[&row[..row.len() - 1]], &device())?)?;
        let [_, t, d] = hidden.dims();
        let targets: Vec<i32> = row[1..].iter().map(|id| *id as i32).collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [t]), &device());
        let mean = values(kernel::cross_entropy(llm.logits(hidden.reshape([t, d])), targets))?[0];
        sum += f64::from(mean) * t as f64;
        count += t;
    }
    Ok(sum / count as f64)
}

#[test]
fn the_perplexity_of_a_page_is_that_of_the_unpacked_weights() -> Result<()> {
    let dir = golden("../../probe/zoo/nano-lm");
    let tokenizer = Tokenizer::from_file(&dir.join("tokenizer.json"))?;
    let colours = ["red", "green", "blue", "yellow", "grey", "purple"];
    let shapes = ["circle", "square", "triangle", "star", "ring", "cross"];
    let sentence = |i: usize| {
        let (a, b) = (colours[i * 5 % 6], colours[(i * 7 + 2) % 6]);
        format!("There is a {a} {} to the left of a {b} {}. ", shapes[i * 11 % 6], shapes[(i * 3 + 1) % 6])
    };
    let ids = tokenizer.encode(&(0..40).map(sentence).collect::<String>())?;
    for block in [GgmlBlock::Q8_0, GgmlBlock::Q4_0] {
        let temporary = tempfile::tempdir()?;
        let path = temporary.path().join("nano-lm.gguf");
        quantised_nano_lm(&path, block)?;
        let (stored, unpacked) = (load(&path, WeightStorage::AsStored)?, load(&path, WeightStorage::F32)?);
        let wanted = loss(&unpacked, &ids)?;
        let original = loss(&load(&dir, WeightStorage::F32)?, &ids)?;
        let exact = loss(&stored, &ids)?;
        let original_logits = logits(&unpacked)?;
        let d = |activations| -> Result<f64> {
            Ok(difference(&logits(&stored.clone().with_activations(activations)?)?, &original_logits))
        };
        let (d16, d8) = (d(Activations::Int16)?, d(Activations::Int8)?);
        let int8 = loss(&stored.with_activations(Activations::Int8)?, &ids)?;
        let apart = |loss: f64| ((loss - wanted).exp() - 1.0).abs();
        println!(
            "{block:?}: {} tokens, perplexity {:.3} before quantisation, {:.3}; apart by {:.1e}, with activations in int8 \
             {:.1e} (logits {d8:.1e}, in int16 {d16:.1e})",
            ids.len(),
            original.exp(),
            wanted.exp(),
            apart(exact),
            apart(int8)
        );
        assert!((original - wanted).abs() < 0.3, "the file is not that model: {original} {wanted}");
        assert!(apart(exact) < 1e-5 && apart(int8) < 5e-3, "{exact} {int8} {wanted}");
        // Each product is off by about half a percent, and a trained model's errors add up over its layers.
        assert!(d16 <= 5e-4 && d8 <= 5e-2, "{block:?}: logits {d16} {d8}");
    }
    Ok(())
}

const FEATURES: usize = 8;

/// Features of made-up images.
const SOURCE: MadeFeatures = MadeFeatures { tokens: 4, width: FEATURES };

fn model(llm: Llm) -> Result<Mllm> {
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
    Mllm::assemble(config, Vec::new(), llm, 0, &device())
}

fn stage(trainable: Vec<ParameterGroup>, lora: bool) -> Stage {
    let lora = lora.then(|| LoraConfig { rank: 4, alpha: 8.0, targets: PROJECTIONS.map(String::from).to_vec() });
    Stage { lora, ..Stage::new(20, 4, 1e-2, trainable) }
}

/// Trains for the steps of `stage`, up to the step `stop`; returns the model if it was finished, and the losses.
fn train(model: Mllm, stage: &Stage, saver: Option<&StateSaver>, stop: usize) -> Result<(Option<Mllm>, Vec<f64>)> {
    let vocabulary = model.llm.config().vocab_size;
    let examples: Vec<Example> = (0..10)
        .map(|i| Example {
            image: Some(i),
            ids: ids(9 + i, vocabulary)[i..].to_vec(),
            loss_mask: (0..9).map(|k| k > 4).collect(),
            image_at: Some(0),
        })
        .collect();
    let (mut log, steps, device) = (Vec::new(), Cell::new(0), device());
    let resume = saver.map(StateSaver::open).transpose()?.flatten();
    let mut run = StageRun {
        name: "tune",
        stage,
        seed: 3,
        device: &device,
        on_step: &mut |s: &StepLog| {
            steps.set(steps.get() + 1);
            log.push(s.loss);
        },
        stop: &|| steps.get() >= stop,
        saver,
        resume,
    };
    match train_stage(model, &examples, &SOURCE, &mut run)? {
        StageOutcome::Done(model) => Ok((Some(model), log)),
        StageOutcome::Interrupted => Ok((None, log)),
    }
}

const BOTH: [ParameterGroup; 2] = [ParameterGroup::Connector, ParameterGroup::Llm];

fn finished((model, losses): (Option<Mllm>, Vec<f64>)) -> Result<(Mllm, Vec<f64>)> {
    Ok((model.ok_or_else(|| Error::failed("interrupted"))?, losses))
}

#[test]
fn lora_on_stored_weights_has_the_losses_of_lora_on_unpacked_weights() -> Result<()> {
    let (_dir, path) = made(&small(NumberFormat::Block(GgmlBlock::Q4K), false))?;
    for checkpointing in [false, true] {
        let stage = Stage { checkpointing, ..stage(BOTH.to_vec(), true) };
        let (stored, ours) = finished(train(model(load(&path, WeightStorage::AsStored)?)?, &stage, None, 99)?)?;
        let (merged, theirs) = finished(train(model(load(&path, WeightStorage::F32)?)?, &stage, None, 99)?)?;
        let apart = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs() / b).fold(0.0, f64::max);
        println!("checkpointing {checkpointing}: losses {:.3} to {:.3}, apart by {apart:.1e}", theirs[0], theirs[19]);
        assert!(ours.len() == 20 && theirs[19] < 0.8 * theirs[0], "{theirs:?}");
        assert!(apart <= 1e-4, "{ours:?} {theirs:?}");
        assert!(stored.llm.has_lora() && stored.llm.has_stored_weights() && !merged.llm.has_lora());
        let d = difference(&logits(&stored.llm)?, &logits(&merged.llm)?);
        assert!(d <= 1e-3, "{d}");
    }
    Ok(())
}

#[test]
fn a_frozen_stored_model_passes_gradients_to_the_connector() -> Result<()> {
    let (_dir, path) = made(&small(NumberFormat::F16, true))?;
    let stage = stage(vec![ParameterGroup::Connector], false);
    let losses = |storage| Ok::<_, Error>(finished(train(model(load(&path, storage)?)?, &stage, None, 99)?)?.1);
    let (ours, theirs) = (losses(WeightStorage::AsStored)?, losses(WeightStorage::F32)?);
    let apart = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs() / b).fold(0.0, f64::max);
    assert!(apart <= 1e-4 && theirs[19] < theirs[0], "{ours:?} {theirs:?}");
    Ok(())
}

#[test]
fn sixteen_bit_weights_compute_in_bf16_as_unpacked_ones_and_quantised_ones_refuse_it() -> Result<()> {
    if Compute::Bf16.check_device(&device()).is_err() {
        return Ok(());
    }
    let (_dir, path) = made(&Llama { table: NumberFormat::Bf16, ..small(NumberFormat::F16, true) })?;
    let both = [WeightStorage::AsStored, WeightStorage::F32].map(|storage| load(&path, storage));
    let [stored, unpacked] = both.map(|llm| llm?.with_compute(Compute::Bf16));
    let exact = logits(&load(&path, WeightStorage::F32)?)?;
    let (ours, theirs) = (logits(&stored?)?, logits(&unpacked?)?);
    assert!(difference(&ours, &theirs) <= 1e-6);
    let apart = difference(&ours, &exact);
    assert!((1e-4..2e-2).contains(&apart), "{apart} from f32");
    for (trained, lora) in [(&BOTH[..1], false), (&BOTH[..], true)] {
        let stage = Stage { precision: Compute::Bf16, ..stage(trained.to_vec(), lora) };
        let losses = |storage| Ok::<_, Error>(finished(train(model(load(&path, storage)?)?, &stage, None, 99)?)?.1);
        let (ours, theirs) = (losses(WeightStorage::AsStored)?, losses(WeightStorage::F32)?);
        let apart = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs() / b).fold(0.0, f64::max);
        assert!(apart <= 1e-4 && theirs[19] < theirs[0], "{lora}: {ours:?} {theirs:?}");
    }
    let (_dir, path) = made(&small(NumberFormat::Block(GgmlBlock::Q8_0), true))?;
    let stage = Stage { precision: Compute::Bf16, ..stage(BOTH.to_vec(), true) };
    let e = train(model(load(&path, WeightStorage::AsStored)?)?, &stage, None, 99).map(|_| ()).unwrap_err();
    assert!(e.to_string().contains("quantised") && e.hint_text().is_some(), "{e}");
    Ok(())
}

#[test]
fn an_interrupted_stage_with_lora_on_stored_weights_resumes_with_the_same_bits() -> Result<()> {
    let (dir, path) = made(&small(NumberFormat::Block(GgmlBlock::Q4_0), true))?;
    let stage = stage(BOTH.to_vec(), true);
    let untrained = || model(load(&path, WeightStorage::AsStored)?);
    let (whole, losses) = finished(train(untrained()?, &stage, None, 99)?)?;
    let mut saver = StateSaver::new(&dir.path().join("state.safetensors"), json!({"run": 1}));
    saver.every = Duration::from_secs(9999);
    let (model, first) = train(untrained()?, &stage, Some(&saver), 7)?;
    assert!(model.is_none() && first.len() == 7);
    // Only what is trained is saved.
    assert!(std::fs::metadata(&saver.path)?.len() < 2 << 20);
    let (resumed, rest) = finished(train(untrained()?, &stage, Some(&saver), 99)?)?;
    assert_eq!([first, rest].concat(), losses);
    assert!(logits(&resumed.llm)? == logits(&whole.llm)?, "a resumed model has other logits");
    Ok(())
}

#[test]
fn stored_weights_are_not_trained() -> Result<()> {
    let (_dir, path) = made(&small(NumberFormat::Block(GgmlBlock::Q4_0), true))?;
    let stored = || load(&path, WeightStorage::AsStored);
    let e = train(model(stored()?)?, &stage(BOTH.to_vec(), false), None, 99).unwrap_err();
    assert!(e.exit_code() == 2 && e.hint_text().is_some_and(|h| h.contains("LoRA")), "{e}");
    let adapted = stored()?.with_lora(4, 8.0, &["q_proj".to_string()], 1)?;
    let e = train(model(adapted)?, &stage(BOTH.to_vec(), true), None, 99).unwrap_err();
    assert!(e.to_string().contains("LoRA factors already"), "{e}");
    assert!(stored()?.model.embed_tokens.weight.parameter().is_err());
    Ok(())
}

/// A tokenizer with at most 300 entries.
fn tokenizer() -> Result<Tokenizer> {
    Tokenizer::train(["a cat and a dog", "the dog sees the cat"].map(String::from).into_iter(), 280, &SPECIALS)
}

#[test]
fn a_model_is_saved_as_adapters_with_a_reference_to_its_weights() -> Result<()> {
    let (dir, path) = made(&small(NumberFormat::Block(GgmlBlock::Q4K), true))?;
    let stage = stage(BOTH.to_vec(), true);
    let (trained, _) = finished(train(model(load(&path, WeightStorage::AsStored)?)?, &stage, None, 99)?)?;
    let (tokenizer, saved) = (tokenizer()?, dir.path().join("llm"));
    let wanted = logits(&trained.llm)?;
    save_llm(&trained.llm, &tokenizer, &saved, Precision::F32)?;
    assert!(!saved.join("model.safetensors").exists());
    let size = std::fs::metadata(saved.join("adapter_model.safetensors"))?.len();
    assert!(size < std::fs::metadata(&path)?.len(), "{size}");
    let written: serde_json::Value = burgess_base::json::read(&saved.join("adapter_config.json"))?;
    assert_eq!((written["r"].as_u64(), written["lora_alpha"].as_f64()), (Some(4), Some(8.0)));
    assert_eq!(written["target_modules"].as_array().map(Vec::len), Some(7));

    let again = load(&saved, WeightStorage::AsStored)?;
    assert!(logits(&again)? == wanted, "a loaded model has other logits");
    // As f32 parameters, the adapters are merged.
    let merged = load(&saved, WeightStorage::F32)?;
    assert!(!merged.has_lora());
    let d = difference(&logits(&merged)?, &wanted);
    assert!(d <= 1e-5, "{d}");
    // A model that is saved again refers to the same weights.
    let second = dir.path().join("second");
    save_llm(&again, &tokenizer, &second, Precision::F32)?;
    let read = |dir: &Path| std::fs::read(dir.join("adapter_model.safetensors"));
    assert_eq!(read(&second)?, read(&saved)?);
    assert_eq!(Weights::open_path(&second)?.digest()?, Weights::open_path(&saved)?.digest()?);
    assert_ne!(Weights::open_path(&saved)?.digest()?, Weights::open_path(&path)?.digest()?);
    assert!(load_frozen_llm(&saved, &device()).is_ok());
    // Written with merged adapters, tensor by tensor.
    assert!(is_reference(&saved) && !is_reference(dir.path()));
    for (precision, most) in [(Precision::F32, 1e-5), (Precision::F16, 5e-3)] {
        let whole = dir.path().join(format!("merged-{precision:?}"));
        write_merged(&saved, &whole, precision)?;
        let d = difference(&logits(&load(&whole, WeightStorage::F32)?)?, &wanted);
        assert!(d <= most, "{precision:?}: {d}");
    }

    // Other weights at the same place, and none, are errors with a hint.
    let kept = std::fs::read(&path)?;
    let mut changed = kept.clone();
    let last = changed.len() - 100;
    changed[last] ^= 1;
    std::fs::write(&path, &changed)?;
    let e = Weights::open_path(&saved).unwrap_err();
    assert!(e.to_string().contains("digest differs") && e.hint_text().is_some(), "{e}");
    std::fs::remove_file(&path)?;
    let e = Weights::open_path(&saved).unwrap_err();
    assert!(e.to_string().contains("are not at") && e.hint_text().is_some(), "{e}");
    Ok(())
}

#[test]
fn a_whole_model_with_stored_weights_is_read_again() -> Result<()> {
    let (dir, path) = made(&small(NumberFormat::Block(GgmlBlock::Q8_0), true))?;
    let (trained, _) =
        finished(train(model(load(&path, WeightStorage::AsStored)?)?, &stage(BOTH.to_vec(), true), None, 99)?)?;
    let place = dir.path().join("model");
    trained.save(&tokenizer()?, &place, Precision::F32)?;
    checksums::check_all(&place)?;
    // So small a model is held in f32, with its adapters merged.
    let (again, _) = Mllm::load(&place, &device())?;
    assert!(!again.llm.has_lora());
    assert!(difference(&logits(&again.llm)?, &logits(&trained.llm)?) <= 1e-5);
    Ok(())
}
