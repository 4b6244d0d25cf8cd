//! One arm × one seed: align, tune, answer, score. Each step's outcome is kept in the run's directory, and a
//! step whose outcome is there is not done again.

use crate::asking::{self, Asked, Asking};
use crate::cards;
use crate::data::DataDir;
use crate::examples::{self, Pictures, Set};
use crate::field;
use crate::memory;
use crate::progress::Progress;
use crate::store::RunStore;
use crate::study::{Arm, Evaluator};
use crate::training::{Job, KEEP, Part, common_grid, source, trained};
use crate::workers::Share;
use burgess_base::{Error, Result};
use burgess_probe::bench;
use burgess_probe::connector::ConnectorKind;
use burgess_probe::llm::{ChatTemplate, LlmConfig, Tokenizer, Weights};
use burgess_probe::mllm::Mllm;
use burgess_reports::schema::{self, Cost, RunId, RunResults};
use burn::tensor::Device;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

/// The measuring instrument, opened once and shared by all runs of a study.
pub struct Instrument {
    pub study: String,
    pub evaluator: Evaluator,
    pub data: DataDir,
    /// Every picture of the data, by its path relative to the data directory; features are numbered like this.
    pub pictures: Vec<String>,
    pub device: Device,
    pub device_name: String,
    /// Threads a run computes with: part of what makes its numbers.
    pub threads: usize,
    pub(crate) llm: Llm,
    pub(crate) align: Option<Set>,
    pub(crate) tune: Set,
    benchmarks: Vec<Asked>,
}

/// The language model's directory, and what is known of it without its weights.
pub struct Llm {
    pub dir: PathBuf,
    pub config: LlmConfig,
    pub tokenizer: Tokenizer,
    pub chat: ChatTemplate,
    digest: String,
}

impl Instrument {
    /// Reads all conversations and questions of a study.
    pub fn open(
        study: &str,
        evaluator: &Evaluator,
        data: DataDir,
        device_name: &str,
        device: Device,
        progress: &Progress,
    ) -> Result<Self> {
        let evaluator = evaluator.clone();
        evaluator.recipe.check().map_err(|e| e.context("[recipe]"))?;
        let llm = Llm::open(&evaluator)?;
        evaluator.recipe.check_llm(&llm.config).map_err(|e| e.context("[recipe]"))?;
        let mut pictures = Pictures::default();
        let mut align = match &evaluator.recipe.align {
            Some(_) => {
                let file = data.align.as_ref().ok_or_else(|| {
                    Error::usage("the recipe has an align stage, but the data name no conversations for it")
                        .hint("set align = \"FILE\" in [evaluator.data.files], or leave out [evaluator.recipe.align]")
                })?;
                Some(examples::read(file, None, &llm, &mut pictures, progress)?)
            }
            None => None,
        };
        let mut tune = examples::read(&data.tune, data.per_source, &llm, &mut pictures, progress)?;
        let mut sets: Vec<&mut Set> = align.iter_mut().chain([&mut tune]).collect();
        examples::drop_unreadable(&mut sets, &mut pictures, &data, progress)?;
        let mut benchmarks = Vec::new();
        for id in &evaluator.benchmarks {
            // All pictures are numbered before the limit is applied: a smaller sample reuses the same features.
            let asked =
                Asked::read(bench::find(id)?, &data.dir, &evaluator.terms(), &llm.chat, &llm.tokenizer, &mut pictures)?;
            benchmarks.push(asked);
        }
        Ok(Self {
            study: study.to_string(),
            evaluator,
            data,
            pictures: pictures.names,
            device,
            device_name: device_name.to_string(),
            threads: Share::of_this_machine(None).threads,
            llm,
            align,
            tune,
            benchmarks,
        })
    }

    /// The connector of an arm: the evaluator's, unless the arm has one of its own.
    pub fn connector<'a>(&'a self, arm: &'a Arm) -> &'a ConnectorKind {
        arm.connector_of(&self.evaluator)
    }

    /// Everything a run's numbers depend on, for `config.json`.
    pub fn config(&self, arm: &Arm, seed: u64, encoders: &BTreeMap<String, String>) -> Result<Value> {
        let mut config = json!({
            "burgess": env!("CARGO_PKG_VERSION"),
            "study": self.study,
            "arm": arm.name(),
            "freeze": arm.freeze.as_str(),
            "seed": seed,
            "encoders": encoders,
            "llm": {"name": self.evaluator.llm, "digest": self.llm.digest},
            "data": self.data.digest,
            "benchmarks": self.benchmarks.iter().map(|b| (b.benchmark.id(), b.benchmark.version())).collect::<BTreeMap<_, _>>(),
            "evaluator": serde_json::to_value(&self.evaluator)?,
            "device": self.device_name,
            "threads": self.threads,
        });
        // Those that are made on this machine follow from the data's digest.
        let published = self.benchmarks.iter().filter(|b| b.benchmark.card().source.is_some());
        let published: BTreeMap<&str, &String> = published.map(|b| (b.benchmark.id(), &b.digest)).collect();
        if let (false, Some(fields)) = (published.is_empty(), config.as_object_mut()) {
            fields.insert("questions".into(), serde_json::to_value(published)?);
        }
        if let (Some(connector), Some(fields)) = (&arm.connector, config.as_object_mut()) {
            fields.insert("connector".into(), serde_json::to_value(connector)?);
        }
        Ok(config)
    }
}

impl Llm {
    fn open(evaluator: &Evaluator) -> Result<Self> {
        let weights = Weights::open(&field::resolve(&evaluator.llm)?)?;
        let dir = weights.path().to_path_buf();
        let tokenizer = Tokenizer::of_model(&weights)?;
        weights.check_tokenizer(&tokenizer)?;
        let chat = match &evaluator.chat {
            Some(name) => ChatTemplate::named(name)?,
            None => ChatTemplate::of_model(&weights, &tokenizer)?,
        };
        let chat = match &evaluator.system {
            Some(system) => chat.with_system(system)?,
            None => chat,
        };
        Ok(Self { digest: weights.digest()?, config: weights.config().clone(), dir, tokenizer, chat })
    }
}

/// Does what is left of a run.
pub fn run(
    place: &Instrument,
    arm: &Arm,
    seed: u64,
    parts: &[Part],
    encoders: &BTreeMap<String, String>,
    store: &RunStore,
    progress: &Progress,
) -> Result<()> {
    let config = place.config(arm, seed, encoders)?;
    let job = Job { place, arm, seed, config: &config, keep: KEEP };
    let name = job.title();
    let bar = progress.bar(&name, 0);
    let started = Instant::now();
    let model = match store.has_model(&|text| bar.line(text))? {
        true => {
            cards::write(&store.model(), parts)?;
            Mllm::load(&store.model(), &place.device)?.0
        }
        false => trained(&job, parts, store, &bar)?,
    };
    store.forget_states()?;
    let source = source(place, arm, parts, arm.freeze);
    let asking = Asking {
        model: &model,
        chat: &place.llm.chat,
        tokenizer: &place.llm.tokenizer,
        device: &place.device,
        source: &source,
        towers: &cards::towers(parts),
        terms: place.evaluator.terms(),
        dir: &place.data.dir,
        pictures: &place.pictures,
    };
    let results = asking::results(&asking, &place.benchmarks, store, &name, &bar)?;
    let mut results = RunResults {
        schema: schema::SCHEMA,
        run: RunId {
            id: format!("{}/{}/seed-{seed}", place.study, arm.name()),
            study: place.study.clone(),
            arm: arm.name(),
            encoders: arm.encoder_names(),
            freeze: arm.freeze.as_str().into(),
            connector: place.connector(arm).name().into(),
            llm: place.evaluator.llm.clone(),
            seed,
            blind: place.evaluator.blind.as_str().into(),
            published: arm.published.map(f64::from),
        },
        results,
        categories: BTreeMap::new(),
        average: 0.0,
        cost: cost(parts, store)?,
        config,
        versions: versions(place),
        digests: digests(place, encoders),
        date: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        device: place.device_name.clone(),
    };
    results.summarise();
    store.finish(&results)?;
    drop(bar);
    progress.line(&format!("{name}: average {:.1} in {:.0} s", results.average, started.elapsed().as_secs_f64()));
    Ok(())
}

fn cost(parts: &[Part], store: &RunStore) -> Result<Cost> {
    let mut flops = 0.0;
    for part in parts {
        flops += part.card.architecture.flops(&part.card.tap)? as f64;
    }
    Ok(Cost {
        encoder_params: parts.iter().map(|p| p.card.source.parameters).sum(),
        gflops_per_image: flops / 1e9,
        tokens: common_grid(parts)?.iter().product(),
        train_seconds: store.train_seconds()?,
        images_per_second: 1.0 / parts.iter().map(|p| 1.0 / p.features.images_per_second()).sum::<f64>(),
        peak_memory_bytes: memory::peak(),
    })
}

fn versions(place: &Instrument) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::from([
        ("burgess".to_string(), env!("CARGO_PKG_VERSION").to_string()),
        ("burgess-world".to_string(), burgess_world::VERSION.to_string()),
        ("burn".to_string(), "0.22.1".to_string()),
    ]);
    versions.extend(place.benchmarks.iter().map(|b| (b.benchmark.id().to_string(), b.benchmark.version().to_string())));
    versions
}

fn digests(place: &Instrument, encoders: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut digests = encoders.clone();
    digests.insert(place.evaluator.llm.clone(), place.llm.digest.clone());
    digests.insert("data".into(), place.data.digest.clone());
    let published = place.benchmarks.iter().filter(|b| b.benchmark.card().source.is_some());
    digests.extend(published.map(|b| (b.benchmark.id().to_string(), b.digest.clone())));
    digests
}
