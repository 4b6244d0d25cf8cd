//! One run (one arm × one seed): align, tune, answer, score. The result of each step is stored in the run's directory,
//! and a step with a stored result is not repeated.

use crate::data::digests::{Contents, Manifest};
use crate::data::directory::DataDir;
use crate::data::examples;
use crate::data::examples::{Images, Set};
use crate::data::{digests, field, image_files};
use crate::features::card;
use crate::features::card::ArmCard;
use crate::features::frozen::Kept;
use crate::features::model_cards;
use crate::machine::paths;
use crate::machine::progress::Progress;
use crate::machine::workers::Share;
use crate::run::evaluation;
use crate::run::evaluation::{Asked, Asking};
use crate::run::notes;
use crate::run::results::Measured;
use crate::run::store::RunStore;
use crate::run::training::{Job, KEEP, Part, source, trained};
use crate::study::{Arm, Evaluator};
use burgess_base::{Error, Result, digest};
use burgess_probe::bench;
use burgess_probe::connector::ConnectorKind;
use burgess_probe::llm::{ChatTemplate, LlmConfig, Tokenizer, Weights};
use burgess_probe::mllm::Mllm;
use burgess_reports::schema::RunId;
use burn::tensor::Device;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The evaluator of a study with its data, opened once and shared by all runs.
pub struct Instrument {
    pub study: String,
    pub evaluator: Evaluator,
    pub data: DataDir,
    /// Names of all images, relative to the data directory; features use the same indices.
    pub images: Vec<String>,
    pub device: Device,
    pub device_name: String,
    /// Number of threads of a run, which can affect the numerical results.
    pub threads: usize,
    pub(crate) llm: Llm,
    pub(crate) align: Option<Set>,
    pub(crate) tune: Set,
    pub(crate) benchmarks: Vec<Asked>,
    /// Assumptions that hold for all runs.
    pub notes: Vec<String>,
}

/// Manifest entry of a file: its name relative to the data directory, and its path.
fn named(data: &DataDir, file: &Path) -> (String, PathBuf) {
    (image_files::name_of(file.strip_prefix(&data.dir).unwrap_or(file)), file.to_path_buf())
}

/// Digest that changes with the images of the conversations.
fn contents(data: &DataDir, manifest: &Manifest) -> Result<String> {
    if data.digest.is_empty() { digest::of_value(manifest) } else { Ok(data.digest.clone()) }
}

/// Checks that the image files of the benchmarks can be decoded, as far as they will be used.
fn check_asked(
    benchmarks: &[Asked],
    names: &[String],
    first: usize,
    evaluator: &Evaluator,
    data: &DataDir,
    progress: &Progress,
) -> Result<()> {
    let files: Vec<String> = names.iter().filter(|name| image_files::is_file(name)).cloned().collect();
    let bad = examples::unreadable(&files, data, &data.digest, progress)?;
    for (i, name) in names.iter().enumerate() {
        let Some(cause) = bad.get(name) else { continue };
        let question = benchmarks.iter().find_map(|b| Some((b.benchmark.id(), b.question_about(first + i)?)));
        let error = Error::failed(cause.clone()).hint(format!("images are looked for under {}", data.dir.display()));
        match question {
            Some((id, question)) => return Err(error.context(format!("the image of question {question} of {id}"))),
            // An image of a question that is not asked: the cache would encode it nevertheless.
            None if evaluator.features == Kept::Cached => {
                return Err(error.context("an image of the benchmarks").hint("or set features = \"computed\""));
            }
            None => {}
        }
    }
    Ok(())
}

/// The language model's directory, and what is known of the model without its weights.
pub struct Llm {
    pub dir: PathBuf,
    pub config: LlmConfig,
    pub tokenizer: Tokenizer,
    pub chat: ChatTemplate,
    /// Assumptions where the model's files are incomplete.
    pub notes: Vec<String>,
    digest: String,
}

impl Instrument {
    /// Opens the evaluator of a study: reads all conversations and questions.
    pub fn open(
        study: &str,
        evaluator: &Evaluator,
        mut data: DataDir,
        device_name: &str,
        device: Device,
        progress: &Progress,
    ) -> Result<Self> {
        let evaluator = evaluator.clone();
        evaluator.check()?;
        let bar = progress.bar(&format!("checking the language model {}", evaluator.llm), 0);
        let llm = Llm::open(&evaluator)?;
        drop(bar);
        evaluator.recipe.check_llm(&llm.config).map_err(|e| e.context("[recipe]"))?;
        let cache = paths::cache()?;
        // If the digest of the data does not follow from their specification, it is computed from the files that are
        // used.
        let mut used = data.digest.is_empty().then(|| Contents::open(&cache, &data.dir)).transpose()?;
        let mut manifest = Manifest::new();
        let mut images = Images::default();
        let mut align = match &evaluator.recipe.align {
            Some(_) => {
                let file = data.align.as_ref().ok_or_else(|| {
                    Error::usage("the recipe has an align stage, but the data name no conversations for it")
                        .hint("set align = \"FILE\" in [evaluator.data.files], or leave out [evaluator.recipe.align]")
                })?;
                Some(examples::read(file, None, evaluator.share, &llm, &mut images, progress)?)
            }
            None => None,
        };
        let mut tune = examples::read(&data.tune, data.per_source, evaluator.share, &llm, &mut images, progress)?;
        if let Some(used) = &mut used {
            let files: Vec<(String, PathBuf)> =
                align.iter().chain([&tune]).map(|set| named(&data, set.file())).collect();
            manifest.extend(used.files(&files, progress)?);
            manifest.extend(used.images(&images.names, progress)?);
        }
        let contents = contents(&data, &manifest)?;
        let mut sets: Vec<&mut Set> = align.iter_mut().chain([&mut tune]).collect();
        examples::drop_unreadable(&mut sets, &mut images, &data, &contents, progress)?;
        for (stage, set) in align.iter().map(|set| ("align", set)).chain([("tune", &tune)]) {
            set.check(stage)?;
        }
        let trained = images.names.len();
        let mut benchmarks = Vec::new();
        let bar = progress.bar("reading questions", evaluator.benchmarks.len() as u64);
        for id in &evaluator.benchmarks {
            bar.message(&format!("reading the questions of {id}"));
            // Images get their indices before the limit is applied, so that a smaller sample reuses the same features.
            let asked =
                Asked::read(bench::find(id)?, &data.dir, &evaluator.terms(), &llm.chat, &llm.tokenizer, &mut images)?;
            benchmarks.push(asked);
            bar.add(1);
        }
        drop(bar);
        let asked = images.names.get(trained..).unwrap_or_default();
        if let Some(used) = &mut used {
            manifest.extend(used.images(asked, progress)?);
            for asked in &benchmarks {
                let file = data.dir.join("bench").join(format!("{}.jsonl", asked.benchmark.id()));
                manifest.extend(match file.is_file() {
                    true => used.files(&[named(&data, &file)], progress)?,
                    false => Manifest::from([(format!("questions of {}", asked.benchmark.id()), asked.digest.clone())]),
                });
            }
            data.digest = digests::keep(&cache, &manifest)?;
        }
        check_asked(&benchmarks, asked, trained, &evaluator, &data, progress)?;
        let mut notes = notes::notes_of(&llm, &evaluator.recipe);
        notes.extend(align.iter().chain([&tune]).flat_map(Set::notes));
        notes.extend(benchmarks.iter().flat_map(Asked::notes));
        Ok(Self {
            study: study.to_string(),
            evaluator,
            data,
            images: images.names,
            device,
            device_name: device_name.to_string(),
            threads: Share::of_this_machine(None).threads,
            llm,
            align,
            tune,
            benchmarks,
            notes,
        })
    }

    /// Assumptions made for a run with these encoders.
    pub fn notes<'a>(&self, cards: impl IntoIterator<Item = &'a ArmCard>) -> Vec<String> {
        notes::distinct(notes::of_cards(cards).into_iter().chain(self.notes.iter().cloned()))
    }

    /// Writes `config.json` of a run, or checks that the existing one has the same inputs.
    ///
    /// # Errors
    /// The inputs differ; the error names the first difference, and for data the files that changed.
    pub fn claim(&self, store: &RunStore, config: &Value, notes: &[String]) -> Result<()> {
        digests::compare(&paths::cache()?, store.dir(), &["data"], &self.data.digest, self.data.earlier.as_deref())?;
        store.claim(&notes::with_notes(config, notes))
    }

    /// Returns the connector of an arm: its own, or the evaluator's.
    pub fn connector<'a>(&'a self, arm: &'a Arm) -> &'a ConnectorKind {
        arm.connector_of(&self.evaluator)
    }

    /// Makes `config.json`: everything on which a run's results depend.
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
        // Questions that are made on this machine follow from the digest of the data.
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
    /// Opens a language model and checks that its parts fit together. Reads the headers of the weights, and all their
    /// bytes only for the digest.
    ///
    /// # Errors
    /// The model is not on this machine, or its weights, tokenizer and chat template do not fit together.
    pub fn open(evaluator: &Evaluator) -> Result<Self> {
        let weights = Weights::open(&field::resolve(&evaluator.llm)?)?;
        let dir = weights.path().to_path_buf();
        weights.check()?;
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
        // Check now what every question and answer needs.
        chat.stop(&tokenizer)?;
        chat.image_id(&tokenizer)?;
        let notes = weights.all_notes(&tokenizer, &chat)?;
        Ok(Self { notes, digest: weights.digest()?, config: weights.config().clone(), dir, tokenizer, chat })
    }
}

/// Does a run, continuing where an earlier call stopped.
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
            bar.message(&format!("{name}: loading the model"));
            model_cards::write(&store.model(), parts)?;
            Mllm::load(&store.model(), &place.device)?.0
        }
        false => trained(&job, parts, store, &bar)?,
    };
    store.forget_states()?;
    let source = source(place, arm, parts, arm.freeze);
    let towers = model_cards::towers(parts);
    let asking = Asking {
        model: &model,
        chat: &place.llm.chat,
        tokenizer: &place.llm.tokenizer,
        device: &place.device,
        source: &source,
        towers: &towers,
        terms: place.evaluator.terms(),
        dir: &place.data.dir,
        images: &place.images,
    };
    let results = evaluation::results(&asking, &place.benchmarks, store, &name, &bar)?;
    let notes = place.notes(parts.iter().map(|p| &p.card));
    let results = Measured {
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
            role: Some(card::role(parts.iter().map(|p| (&p.encoder, &p.card)), arm.freeze)),
        },
        results,
        asked: &place.benchmarks,
        towers: &towers,
        features: parts.iter().map(|p| p.features.as_ref()).collect(),
        connector: &model.config().connector,
        training: Some(store),
        config,
        digests: digests(place, encoders),
        device: &place.device_name,
        notes,
    };
    let results = results.results()?;
    store.finish(&results)?;
    drop(bar);
    progress.line(&format!("{name}: average {:.1} in {:.0} s", results.average, started.elapsed().as_secs_f64()));
    Ok(())
}

fn digests(place: &Instrument, encoders: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut digests = encoders.clone();
    digests.insert(place.evaluator.llm.clone(), place.llm.digest.clone());
    digests.insert("data".into(), place.data.digest.clone());
    let published = place.benchmarks.iter().filter(|b| b.benchmark.card().source.is_some());
    digests.extend(published.map(|b| (b.benchmark.id().to_string(), b.digest.clone())));
    digests
}
