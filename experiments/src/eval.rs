//! Benchmarks put to a model from a directory: one that a run left, or a released Cambrian.
//!
//! The outcome is a run of the study `eval`, so that `burgess report OUT/eval` lays the models that were asked the same
//! questions beside each other.

use crate::ask::Answerer;
use crate::asking::{self, Asked, Asking, Terms};
use crate::benchmarks;
use crate::cards::Tower;
use crate::data;
use crate::examples::Pictures;
use crate::frozen::{Computed, Features};
use crate::made::Made;
use crate::memory;
use crate::progress::Progress;
use crate::source::{Source, Towers};
use crate::store::StudyStore;
use crate::study::check_name;
use burgess_base::{Context, Error, Result, digest};
use burgess_probe::bench;
use burgess_reports::schema::{self, Cost, RunId, RunResults};
use burn::tensor::Device;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The study that evaluated models are runs of.
const STUDY: &str = "eval";

/// What is asked of which model.
#[derive(Debug)]
pub struct Options {
    /// The model's directory.
    pub model: PathBuf,
    /// What it is called in results.
    pub name: String,
    /// Benchmarks by id.
    pub benchmarks: Vec<String>,
    /// A directory with `bench/<id>/`, or with the questions that were made on this machine.
    pub data: Option<PathBuf>,
    /// How it is asked and judged.
    pub terms: Terms,
    /// The chat template of a released model that does not tell.
    pub chat: Option<String>,
    /// The directory above the study's.
    pub out: PathBuf,
    /// The device by name.
    pub device_name: String,
    /// The device.
    pub device: Device,
}

/// Asks what has not been asked yet, and writes the results.
///
/// # Errors
/// Something is not on this machine, another evaluation with other terms is in the directory, or a question cannot be asked.
pub fn eval(options: &Options, progress: &Progress) -> Result<(RunResults, PathBuf)> {
    check_name(&options.name)?;
    let found = options.benchmarks.iter().map(|id| bench::find(id)).collect::<Result<Vec<_>>>()?;
    if found.is_empty() {
        return Err(Error::usage("no benchmarks are named").hint("--benchmarks mme,gqa; `burgess prompts` lists them"));
    }
    let terms = options.terms;
    for benchmark in &found {
        benchmark.rules(terms.scoring).map_err(|e| e.context("--scoring"))?;
        benchmark.rules(terms.prompts).map_err(|e| e.context("--prompts"))?;
    }
    let dir = options.data.clone().unwrap_or_default();
    if options.data.is_some() {
        data::check_sealed(&dir)?;
    }
    for benchmark in &found {
        benchmarks::locate(*benchmark, options.data.as_deref())?;
    }
    let shared = json!({
        "name": STUDY,
        "title": "Models on benchmarks",
        "question": "How well do these models answer?",
        "evaluator": {
            "benchmarks": options.benchmarks, "scoring": terms.scoring, "prompts": terms.prompts, "limit": terms.limit,
            "blind": terms.blind, "likelihoods": terms.likelihoods, "sampling": terms.sampling,
        },
    });
    let study = StudyStore::open(&options.out.join(STUDY), &shared)?;
    Made::remember(study.dir(), &dir)?;
    let store = study.run(&options.name, 0);
    let answerer = Answerer::open(&options.model, options.chat.as_deref(), &options.device)?;
    let (model, tokenizer) = (&answerer.model, &answerer.tokenizer);
    let chat = &model.config().chat;

    let mut pictures = Pictures::default();
    let mut asked = Vec::with_capacity(found.len());
    for benchmark in found {
        asked.push(Asked::read(benchmark, &dir, &terms, chat, tokenizer, &mut pictures)?);
    }
    let (digests, config) =
        (digests(&options.model, &asked)?, json!({"device": options.device_name, "shared": shared}));
    store.claim(&json!({"config": config, "digests": digests}))?;

    let trained = !model.encoders.is_empty();
    let features =
        if trained { Vec::new() } else { computed(&answerer.encoders, &dir, &pictures.names, &options.device)? };
    let towers = match trained {
        true => Towers::Trained(answerer.encoders.iter().map(|t| &t.card.preprocess).collect()),
        false => Towers::Frozen(features.iter().collect()),
    };
    // Without need, every picture would be opened twice.
    let sizes = model.config().connector.kind.reads_sizes();
    let source = Source { dir: &dir, pictures: &pictures.names, sizes, towers };
    let asking = Asking {
        model,
        chat,
        tokenizer,
        device: &options.device,
        source: &source,
        towers: &answerer.encoders,
        terms,
        dir: &dir,
        pictures: &pictures.names,
    };
    let bar = progress.bar(&options.name, 0);
    let results = asking::results(&asking, &asked, &store, &options.name, &bar)?;
    drop(bar);
    let mut results = RunResults {
        schema: schema::SCHEMA,
        run: RunId {
            id: format!("{STUDY}/{}/seed-0", options.name),
            study: STUDY.into(),
            arm: options.name.clone(),
            encoders: answerer.encoders.iter().map(|t| t.encoder.name()).collect(),
            freeze: if trained { "unfrozen" } else { "frozen" }.into(),
            connector: model.config().connector.kind.name().into(),
            llm: format!("{:?}", model.config().llm.model_type).to_lowercase(),
            seed: 0,
            blind: terms.blind.as_str().into(),
            published: None,
        },
        results,
        categories: BTreeMap::new(),
        average: 0.0,
        cost: cost(&answerer.encoders, &features)?,
        config,
        versions: asked
            .iter()
            .map(|a| (a.benchmark.id().to_string(), a.benchmark.version().to_string()))
            .chain([("burgess".to_string(), env!("CARGO_PKG_VERSION").to_string())])
            .collect(),
        digests,
        date: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        device: options.device_name.clone(),
    };
    results.summarise();
    store.finish(&results)?;
    Ok((results, store.dir().to_path_buf()))
}

/// What the answers depend on: the model's files by name, size and time, the questions by their text.
fn digests(model: &Path, asked: &[Asked]) -> Result<BTreeMap<String, String>> {
    let step = || format!("listing {}", model.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(model).with_context(step)? {
        let entry = entry.with_context(step)?;
        let meta = std::fs::metadata(entry.path()).with_context(step)?;
        let time = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        files.push((entry.file_name().to_string_lossy().into_owned(), meta.len(), time.map_or(0, |t| t.as_nanos())));
    }
    files.sort();
    let mut digests = BTreeMap::from([("model".to_string(), digest::of_value(&files)?)]);
    digests.extend(asked.iter().map(|a| (a.benchmark.id().to_string(), a.digest.clone())));
    Ok(digests)
}

fn computed(towers: &[Tower], dir: &Path, pictures: &[String], device: &Device) -> Result<Vec<Features>> {
    let load = |t: &Tower| {
        let encoder = t.encoder.load(t.card.clone(), device)?;
        Computed::new(encoder, dir.to_path_buf(), pictures.to_vec()).map(Box::new).map(Features::Computed)
    };
    towers.iter().map(load).collect()
}

fn cost(towers: &[Tower], features: &[Features]) -> Result<Cost> {
    let (mut flops, mut tokens) = (0.0, 0);
    for tower in towers {
        flops += tower.card.architecture.flops(&tower.card.tap)? as f64;
        tokens = tokens.max(tower.card.used_grid()?.iter().product());
    }
    Ok(Cost {
        encoder_params: towers.iter().map(|t| t.card.source.parameters).sum(),
        gflops_per_image: flops / 1e9,
        tokens,
        train_seconds: 0.0,
        images_per_second: 1.0 / features.iter().map(|f| 1.0 / f.images_per_second()).sum::<f64>(),
        peak_memory_bytes: memory::peak(),
    })
}
