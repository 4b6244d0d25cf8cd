//! Evaluation of a model from a directory on benchmarks: the model of a run, or a released Cambrian model.
//!
//! The result is stored as a run of the study `eval`, so that `burgess report OUT/eval` compares all models that were
//! asked the same questions.

use crate::data::digests::{self, DigestCache};
use crate::data::{self, ImageIndex, benchmarks, image_files};
use crate::features::model_cards::{self, ModelEncoder};
use crate::features::{self, ArmCard, EncoderInputs, FrozenFeatures, VisualSource};
use crate::machine::progress::Progress;
use crate::machine::{device, paths};
use crate::run::ask::MultimodalModel;
use crate::run::eval_task::EvalTask;
use crate::run::evaluation::{self, EvalContext};
use crate::run::judge::Judge;
use crate::run::provenance::{self, Provenance};
use crate::run::results::Measurements;
use crate::run::store::{RunStore, StudyStore};
use crate::run::{benchmark_copies, checks, notes};
use crate::study::{EvalOptions, Freeze, check_benchmarks, names};
use burgess_base::{Category, Context, Error, Result, digest};
use burgess_probe::bench;
use burgess_probe::llm::{Activations, Compute};
use burgess_reports::schema::{RunId, RunResults};
use burn::tensor::Device;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Name of the study whose runs are the evaluated models.
const STUDY: &str = "eval";

/// Options of an evaluation.
#[derive(Debug)]
pub struct ModelEvalOptions {
    /// Directory of the model.
    pub model: PathBuf,
    /// Name of the model in results.
    pub name: String,
    /// Benchmarks, by id.
    pub benchmarks: Vec<String>,
    /// Data directory: with `bench/<id>/`, or with questions that were generated on this machine.
    pub data: Option<PathBuf>,
    /// How questions are asked and answers scored.
    pub options: EvalOptions,
    /// The judge of answers to open questions with references, if one is asked.
    pub judge: Option<Judge>,
    /// Chat template for a released model whose configuration does not determine it.
    pub chat: Option<String>,
    /// Precision of activations in products with quantised weights.
    pub activations: Activations,
    /// Precision of the language model's matrix products.
    pub precision: Compute,
    /// Output directory; the study's directory lies in it.
    pub out: PathBuf,
    /// Name of the device.
    pub device_name: String,
    /// Device that computes.
    pub device: Device,
}

/// Returns the name of a model in results, from its directory: `nano-nano-siglip-seed-0` for
/// `runs/nano/nano-siglip/seed-0/model`, `cambrian-8b` for `cambrian-8b/`.
pub fn default_name(model: &Path) -> String {
    // Paths that end in `.` or `..` have no file name; their canonical paths do.
    let whole = match model.file_name() {
        Some(_) => model.to_path_buf(),
        None => model.canonicalize().unwrap_or_else(|_| model.to_path_buf()),
    };
    let model = whole.as_path();
    let parts: Vec<String> = model.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
    let parts = match parts.as_slice() {
        [before @ .., last] if last == "model" => before.get(before.len().saturating_sub(3)..).unwrap_or_default(),
        [.., _] => parts.get(parts.len() - 1..).unwrap_or_default(),
        [] => &[],
    };
    parts.join("-").replace(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)), "_")
}

/// Evaluates a model on the benchmarks that have no results yet, and writes the results.
///
/// # Errors
/// Something is not on this machine, the directory holds an evaluation with other options, or a question fails.
pub fn evaluate_model(options: &ModelEvalOptions, progress: &Progress) -> Result<(RunResults, PathBuf)> {
    names::check(&options.name).map_err(|e| e.context("the name of the model in the results"))?;
    check_benchmarks(&options.benchmarks)?;
    let found = options.benchmarks.iter().map(|id| bench::find(id)).collect::<Result<Vec<_>>>()?;
    if found.is_empty() {
        return Err(
            Error::usage("no benchmarks are named").hint("name some, as in mme,gqa; `burgess prompts` lists them")
        );
    }
    if options.judge.is_some() && found.iter().all(|b| *b.category() != Category::CONVERSATION) {
        return Err(Error::usage(
            "a judge is given, but none of the benchmarks has open questions with reference answers",
        )
        .hint("such benchmarks are conversation, llava-bench-wild and llava-bench-coco"));
    }
    let eval_options = options.options;
    for benchmark in &found {
        benchmark.rules(eval_options.scoring).map_err(|e| e.context("the scoring rules"))?;
        benchmark.rules(eval_options.prompts).map_err(|e| e.context("the prompts"))?;
    }
    let dir = options.data.clone().unwrap_or_default();
    if options.data.as_ref().is_some_and(|dir| !dir.is_dir()) {
        return Err(Error::usage(format!("the data directory {} does not exist", dir.display()))
            .hint("it must hold bench/<id>/ or bench/<id>.jsonl for each benchmark"));
    }
    if options.data.is_some() {
        data::check_checksums(&dir)?;
    }
    for benchmark in &found {
        benchmarks::locate_in(*benchmark, options.data.as_deref())?;
    }
    let root = options.out.join(STUDY);
    checks::check_writable(&root)?;
    let mut shared = json!({
        "name": STUDY,
        "title": "Models on benchmarks",
        "question": "How well do these models answer?",
        "evaluator": {
            "benchmarks": options.benchmarks, "scoring": eval_options.scoring,
            "prompts": eval_options.prompts, "limit": eval_options.limit,
            "blind": eval_options.blind, "likelihoods": eval_options.likelihoods, "sampling": eval_options.sampling,
        },
    });
    // Evaluations of earlier versions have no such keys.
    if let Some(evaluator) = shared.get_mut("evaluator").and_then(serde_json::Value::as_object_mut) {
        if !eval_options.response_prompt.is_keep() {
            evaluator.insert("response_prompt".into(), serde_json::to_value(eval_options.response_prompt)?);
        }
        if !eval_options.several_images.is_blocks() {
            evaluator.insert("several_images".into(), serde_json::to_value(eval_options.several_images)?);
        }
        if !options.activations.is_f32() {
            evaluator.insert("activations".into(), serde_json::to_value(options.activations)?);
        }
        if !options.precision.is_f32() {
            evaluator.insert("precision".into(), serde_json::to_value(options.precision)?);
        }
        if let Some(width) = eval_options.until_ci {
            evaluator.insert("until_ci".into(), width.into());
        }
    }
    let open = || StudyStore::open(&root, &shared);
    // An existing evaluation is compared before the checks; a new one is created only after they pass.
    let begun = root.join("study.json").exists().then(open).transpose()?;
    benchmark_copies::compare(&root, &options.benchmarks)?;
    let bar = progress.bar(&format!("loading {}", options.model.display()), 0);
    let answerer = MultimodalModel::open(&options.model, options.chat.as_deref(), &options.device)?;
    let mut answerer = answerer.answering_in(options.activations, options.precision)?;
    drop(bar);
    for encoder in &mut answerer.encoders {
        encoder.card = encoder.card.for_data(&dir)?;
    }
    let answerer = answerer;
    let (model, tokenizer) = (&answerer.model, &answerer.tokenizer);
    let chat = &model.config().chat;
    let mut notes = notes::of_cards(answerer.encoders.iter().map(|t| &t.card));

    let mut images = ImageIndex::default();
    let mut tasks = Vec::with_capacity(found.len());
    let bar = progress.bar("reading questions", found.len() as u64);
    for benchmark in found {
        bar.message(&format!("reading the questions of {}", benchmark.id()));
        tasks.push(EvalTask::read(benchmark, &dir, &eval_options, chat, tokenizer, &mut images)?);
        bar.add(1);
    }
    drop(bar);
    notes.extend(tasks.iter().flat_map(EvalTask::notes));
    notes::print_notes(&notes, progress);
    check_questions(&answerer, &tasks, &dir, &images.names)?;
    let cache = paths::cache()?;
    let manifest = DigestCache::open(&cache, &options.model)?.files(&files(&options.model)?, progress)?;
    let model_digest = digests::store_manifest(&cache, &manifest)?;
    let mut digests = BTreeMap::from([("model".to_string(), model_digest.clone())]);
    for encoder in &answerer.encoders {
        if let ArmCard::Oracle(card) = &encoder.card {
            digests.insert("truth".to_string(), card.truth.clone());
        }
    }
    digests.extend(tasks.iter().map(|a| (a.benchmark.id().to_string(), a.digest.clone())));
    digests.extend(tasks.iter().filter_map(|a| benchmarks::file_digest(a.benchmark)));
    let fingerprint = device::fingerprint(&options.device_name)?;
    let mut config = json!({"device": fingerprint, "shared": shared});
    // Evaluations without such questions, and those of earlier versions, have no such key.
    if let (true, Some(fields)) = (tasks.iter().any(EvalTask::has_several_images), config.as_object_mut()) {
        fields.insert("several_images".into(), serde_json::to_value(eval_options.several_images)?);
    }
    let study = begun.map_or_else(open, Ok)?;
    benchmark_copies::write(study.dir(), &options.benchmarks)?;
    Provenance::record(study.dir(), Some(&dir), None, Some(provenance::command()))?;
    Provenance::record_images(study.dir(), benchmark_copies::image_directories(&options.benchmarks))?;
    let store = study.run(&options.name, 0).claim_alone()?;
    let by_metadata = digest_by_metadata(&options.model).ok();
    digests::compare(&cache, store.dir(), &["digests", "model"], &model_digest, by_metadata.as_deref())?;
    store.write_or_compare_config(&notes::with_notes(&json!({"config": config, "digests": digests}), &notes))?;

    let trained = !model.encoders.is_empty();
    let features =
        if trained { Vec::new() } else { computed(&answerer.encoders, &dir, &images.names, &options.device)? };
    let inputs = match trained {
        true => {
            let cards = answerer.encoders.iter().map(|t| Ok(&t.card.encoder()?.preprocess));
            EncoderInputs::Trained(cards.collect::<Result<_>>()?)
        }
        false => EncoderInputs::Frozen(features.iter().collect()),
    };
    // Read sizes only if needed, because every image would be opened twice.
    let sizes = model.config().connector.kind.properties().needs_image_sizes;
    let orientation = model_cards::orientation(answerer.encoders.iter().map(|t| &t.card));
    let source = VisualSource { dir: &dir, images: &images.names, sizes, orientation, encoders: inputs };
    let context = EvalContext {
        model,
        chat,
        tokenizer,
        device: &options.device,
        source: &source,
        encoders: &answerer.encoders,
        options: eval_options,
        judge: options.judge.as_ref(),
        dir: &dir,
        images: &images.names,
    };
    let bar = progress.bar(&options.name, 0);
    let evaluated = evaluation::evaluate(&context, &tasks, &store, &options.name, &bar)?;
    drop(bar);
    // For a model that was trained here, the training log lies beside its directory.
    let training = options.model.canonicalize().ok();
    let training = training.as_deref().and_then(Path::parent).filter(|dir| dir.join("train.jsonl").is_file());
    let training = training.map(RunStore::at);
    let freeze = if trained { Freeze::Unfrozen } else { Freeze::Frozen };
    let role = features::role(answerer.encoders.iter().map(|t| (&t.encoder, &t.card)), freeze);
    // The same questions from another edition are no other inputs, so the configuration does not have it.
    digests.extend(tasks.iter().flat_map(|a| benchmarks::recorded(a.benchmark, options.data.as_deref())));
    let measurements = Measurements {
        run: RunId {
            id: format!("{STUDY}/{}/seed-0", options.name),
            study: STUDY.into(),
            arm: options.name.clone(),
            encoders: answerer.encoders.iter().map(|t| t.encoder.name()).collect(),
            freeze: freeze.as_str().into(),
            connector: model.config().connector.kind.name().into(),
            llm: model.config().llm.model_type.name.to_string(),
            seed: 0,
            blind: eval_options.blind.as_str().into(),
            published: None,
            role: Some(role),
        },
        results: evaluated.results,
        until_ci: evaluated.until_ci,
        tasks: &tasks,
        encoders: &answerer.encoders,
        features: features.iter().collect(),
        connector: &model.config().connector,
        training: training.as_ref(),
        config,
        digests,
        device: &options.device_name,
        fingerprint: &fingerprint,
        notes,
    };
    let results = measurements.results()?;
    store.write_results(&results)?;
    Ok((results, store.dir().to_path_buf()))
}

/// Checks that all questions fit into the model, and that their images exist.
fn check_questions(answerer: &MultimodalModel, tasks: &[EvalTask], dir: &Path, names: &[String]) -> Result<()> {
    let config = answerer.model.config();
    let grids = answerer.encoders.iter().map(|t| t.card.used_grid()).collect::<Result<Vec<_>>>()?;
    let positions = config.connector.image_tokens(&grids);
    tasks.iter().try_for_each(|a| a.check_lengths(positions, config.llm.max_position_embeddings))?;
    for (i, name) in names.iter().enumerate().filter(|(_, name)| image_files::is_file(name)) {
        let path = dir.join(image_files::decode_name(name));
        if std::fs::metadata(&path).is_ok_and(|m| m.is_file()) {
            continue;
        }
        if let Some((id, question)) = tasks.iter().find_map(|a| Some((a.benchmark.id(), a.question_about(i)?))) {
            return Err(Error::failed(format!(
                "the image of question {question} of {id} does not exist: {}",
                image_files::display_name(&image_files::encode_name(&path))
            ))
            .hint("image paths are relative to the data directory"));
        }
    }
    Ok(())
}

/// Lists the files of a model, in its directory and the folders in it; other files there do not affect the digest.
fn files(model: &Path) -> Result<Vec<(String, PathBuf)>> {
    let step = || format!("listing {}", model.display());
    let (mut files, mut folders) = (Vec::new(), vec![model.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(step)? {
            let path = entry.with_context(step)?.path();
            let kind = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            if path.is_dir() {
                // One level suffices: the language model of a run lies in `llm`.
                folders.extend((folder == model).then_some(path));
            } else if ["json", "safetensors", "bin", "pt", "pth", "gguf", "model", "jinja", "txt"].contains(&kind)
                && !is_unread_text(&path)
            {
                files.push((image_files::encode_name(path.strip_prefix(model).unwrap_or(&path)), path));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Returns whether a file is a text file that no tokenizer reads, such as `LICENSE.txt`.
fn is_unread_text(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    name.ends_with(".txt") && !["merges.txt", "vocab.txt"].contains(&name.as_str())
}

/// Returns the digest of names, sizes and modification times of a model's files, which versions before 0.2 recorded.
fn digest_by_metadata(model: &Path) -> Result<String> {
    let step = || format!("listing {}", model.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(model).with_context(step)? {
        let entry = entry.with_context(step)?;
        let meta = std::fs::metadata(entry.path()).with_context(step)?;
        let time = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        files.push((entry.file_name().to_string_lossy().into_owned(), meta.len(), time.map_or(0, |t| t.as_nanos())));
    }
    files.sort();
    digest::of_value(&files)
}

fn computed(encoders: &[ModelEncoder], dir: &Path, images: &[String], device: &Device) -> Result<Vec<FrozenFeatures>> {
    encoders
        .iter()
        .map(|e| FrozenFeatures::computed(&e.encoder, &e.card, dir, images, std::slice::from_ref(device)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_names_follow_from_the_directory() {
        for (path, name) in [
            ("runs/nano/nano-siglip/seed-0/model", "nano-nano-siglip-seed-0"),
            ("cambrian-8b/", "cambrian-8b"),
            ("größe", "gr__e"),
            (".", "experiments"),
            ("src/..", "experiments"),
        ] {
            assert_eq!(default_name(path.as_ref()), name, "{path}");
        }
    }
}
