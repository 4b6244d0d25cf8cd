//! All runs of a study, then the ranking and its report.

use crate::cache::{FeatureCache, Features, Wanted};
use crate::data;
use crate::estimate::{Corpus, Cost, Parts, gigabytes, millions, petaflops};
use crate::progress::Progress;
use crate::run::{self, Instrument};
use crate::store::{RunStore, StudyStore};
use crate::study::{Arm, ArmEncoder, Data, Study};
use crate::workers::{self, Share};
use crate::{device, field, paths, published, training};
use burgess_base::{Error, Result, atomic};
use burgess_encoders::card::EncoderCard;
use burgess_encoders::checkpoint;
use burgess_encoders::preprocess::Pipeline;
use burgess_probe::bench;
use burgess_probe::connector::ConnectorConfig;
use burgess_probe::llm::card::LlmCard;
use burgess_probe::llm::{LlmConfig, Weights, weights};
use burgess_reports::load::StudyData;
use burgess_reports::page::{self, About, Files, Written};
use burgess_reports::ranking::RankOptions;
use burgess_reports::schema::Missing;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where and how a study runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Results go to `out/<study>`.
    pub out: PathBuf,
    /// As on the command line.
    pub device: String,
    /// Runs side by side.
    pub share: Share,
}

/// What `burgess rank` leaves.
pub struct Outcome {
    /// Ranking and report.
    pub written: Written,
    /// Runs of the study.
    pub runs: usize,
    /// Runs that came to nothing.
    pub failed: usize,
}

/// What would be done.
#[derive(Serialize)]
pub struct Plan {
    pub directory: PathBuf,
    pub device: String,
    pub workers: usize,
    pub study: Study,
    pub runs: Vec<PlannedRun>,
    /// What a run of each arm will cost, where the size of the data is known beforehand.
    pub costs: Vec<PlannedCost>,
    /// What is not on this machine, and how to get it.
    pub missing: Vec<String>,
}

/// What a run of an arm will cost.
#[derive(Clone, Serialize)]
pub struct PlannedCost {
    pub arm: String,
    pub cost: Cost,
}

/// One run of a plan.
#[derive(Clone, Serialize)]
pub struct PlannedRun {
    pub arm: Arm,
    pub seed: u64,
    pub state: &'static str,
}

/// Resolves a study without doing anything: every id, every file, and what is done already.
pub fn plan(study: &Study, options: &Options) -> Result<Plan> {
    device::parse(&options.device)?;
    let costs = costs(study)?;
    let directory = options.out.join(&study.name);
    let runs = expand(study)
        .into_iter()
        .map(|(arm, seed)| {
            let dir = directory.join(arm.name()).join(format!("seed-{seed}"));
            let state = if dir.join("results.json").exists() {
                "done"
            } else if dir.join("failed.json").exists() {
                "failed before"
            } else if dir.exists() {
                "begun"
            } else {
                "to do"
            };
            PlannedRun { arm, seed, state }
        })
        .collect();
    let missing = missing(study);
    let (device, workers) = (options.device.clone(), options.share.workers);
    Ok(Plan { directory, device, workers, study: study.clone(), runs, costs, missing })
}

/// The numbers of the evaluator's language model: of its files, or of its card if they are not here.
fn llm_config(name: &str) -> Result<LlmConfig> {
    let opened = field::resolve(name).and_then(|name| Weights::open(&name));
    match (opened, LlmCard::find(name)?) {
        (Ok(weights), _) => Ok(weights.config().clone()),
        (Err(_), Some(card)) => Ok(card.config),
        (Err(e), None) => Err(e),
    }
}

/// Conversations of each stage, where they are known without reading them.
fn corpora(study: &Study) -> Option<(Option<Corpus>, Corpus)> {
    let of = |samples: usize, text_tokens: usize| Corpus { samples: samples as u64, text_tokens };
    match &study.evaluator.data {
        // A caption, and turns of a question and an answer of about these lengths.
        Data::World(spec) => Some((Some(of(spec.align, 30)), of(spec.tune, 20 * spec.turns))),
        Data::Field(spec) => Some((Some(of(spec.align, 40)), of(spec.tune, 40 + 30 * spec.turns))),
        Data::Published(data) => {
            let of = |c: &published::Corpus| of(c.samples as usize, c.text_tokens);
            Some((data.align.as_ref().map(of), of(&data.tune)))
        }
        Data::Directory(_) | Data::Files(_) => None,
    }
}

/// Every arm resolved: cards, connector, language model, steps.
fn costs(study: &Study) -> Result<Vec<PlannedCost>> {
    let evaluator = &study.evaluator;
    let llm = llm_config(&evaluator.llm)?;
    let mut costs = Vec::with_capacity(study.arms.len());
    for arm in &study.arms {
        let step = || format!("the arm {}", arm.name());
        let cards = arm.encoders.iter().map(|e| e.card(evaluator.preprocess)).collect::<Result<Vec<_>>>();
        let cards = cards.map_err(|e| e.context(step()))?;
        let mut towers = Vec::with_capacity(cards.len());
        for card in &cards {
            towers.push((card.architecture.width(&card.tap)?, card.used_grid()?));
        }
        let kind = arm.connector.as_ref().unwrap_or(&evaluator.connector).clone();
        let connector = ConnectorConfig::new(kind, &towers, llm.hidden_size).map_err(|e| e.context(step()))?;
        let module = connector.init(&burn::tensor::Device::flex())?;
        let parameters = checkpoint::parameters(&module)?.iter().map(|p| p.shape.iter().product::<usize>()).sum();
        let grids: Vec<[usize; 2]> = towers.iter().map(|t| t.1).collect();
        let parts =
            Parts { cards: &cards, llm: &llm, connector_parameters: parameters, tokens: connector.positions(&grids) };
        let Some((align, tune)) = corpora(study) else { continue };
        let tuned = training::tune_stage(&evaluator.recipe.tune, arm.freeze);
        let cost = parts.cost(evaluator.recipe.align.as_ref().zip(align), (&tuned, tune))?;
        costs.push(PlannedCost { arm: arm.name(), cost });
    }
    Ok(costs)
}

/// What a study needs that is not on this machine.
fn missing(study: &Study) -> Vec<String> {
    let evaluator = &study.evaluator;
    let mut missing = Vec::new();
    if let Err(e) = field::resolve(&evaluator.llm).and_then(|name| weights::locate(&name)) {
        missing.push(format!("the language model {}: {}", evaluator.llm, e.hint_text().unwrap_or("it is not here")));
    }
    let mut absent: Vec<String> = Vec::new();
    for encoder in study.arms.iter().flat_map(|arm| &arm.encoders) {
        let there = encoder.card(evaluator.preprocess).and_then(|card| encoder.find(&card));
        if there.is_err() && !absent.contains(&encoder.source) {
            absent.push(encoder.source.clone());
        }
    }
    if !absent.is_empty() {
        missing.push(format!("{} encoders: burgess fetch {}", absent.len(), absent.join(" ")));
    }
    if let Data::Published(data) = &evaluator.data {
        for corpus in data.align.iter().chain([&data.tune]) {
            if let Err(e) = corpus.locate() {
                missing.push(format!("{}: {}", corpus.file, e.hint_text().unwrap_or("it is not here")));
            }
        }
    }
    let unread: Vec<&str> =
        evaluator.benchmarks.iter().filter(|id| bench::find(id).is_err()).map(String::as_str).collect();
    if !unread.is_empty() {
        missing.push(format!("{} benchmarks that this version cannot read: {}", unread.len(), unread.join(", ")));
    }
    missing
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# {}: {} runs into {} on {}, {} at once",
            self.study.name,
            self.runs.len(),
            self.directory.display(),
            self.device,
            self.workers
        )?;
        for run in &self.runs {
            writeln!(f, "#   {:<40} seed {:<4} {}", run.arm.name(), run.seed, run.state)?;
        }
        if let Some(first) = self.costs.first() {
            let memory = first.cost.tune.memory.iter().map(|(device, _)| *device).collect::<Vec<_>>().join(" | ");
            writeln!(f, "#")?;
            writeln!(f, "# Estimates for one run; memory is that of a tune step: {memory}")?;
            writeln!(
                f,
                "#   {:<40} {:>8} {:>7} {:>7} {:>13} {:>8} {:>9}  memory",
                "arm", "encoders", "connect", "tokens", "steps", "PFLOP", "features"
            )?;
            for PlannedCost { arm, cost } in &self.costs {
                let steps = match &cost.align {
                    Some(align) => format!("{} + {}", align.steps, cost.tune.steps),
                    None => cost.tune.steps.to_string(),
                };
                let flops = cost.align.as_ref().map_or(0.0, |s| s.flops) + cost.tune.flops + cost.encoding_flops;
                let memory = cost.tune.memory.iter().map(|(_, b)| gigabytes(*b)).collect::<Vec<_>>().join(" | ");
                writeln!(
                    f,
                    "#   {:<40} {:>8} {:>7} {:>7} {:>13} {:>8} {:>9}  {memory}",
                    arm,
                    millions(cost.encoder_parameters),
                    millions(cost.connector_parameters),
                    cost.tokens,
                    steps,
                    petaflops(flops),
                    gigabytes(cost.feature_bytes),
                )?;
            }
        }
        for missing in &self.missing {
            writeln!(f, "# not on this machine: {missing}")?;
        }
        let text = toml::to_string(&self.study).map_err(|_| fmt::Error)?;
        write!(f, "\n{text}")
    }
}

fn expand(study: &Study) -> Vec<(Arm, u64)> {
    // All arms of the first seed come first: a ranking of everything exists as early as possible.
    study.seeds.iter().flat_map(|seed| study.arms.iter().map(|arm| (arm.clone(), *seed))).collect()
}

/// The evaluator as `study.json` keeps it. Arms and seeds may be added later; what measures them may not change.
fn evaluator_json(study: &Study, device: &str) -> Result<Value> {
    Ok(json!({
        "study": study.name,
        "title": study.title,
        "question": study.question,
        "device": device,
        "evaluator": serde_json::to_value(&study.evaluator)?,
    }))
}

/// Runs what is left of a study, ranks it, writes `ranking.json` and the report.
pub fn rank(study: &Study, options: &Options, progress: &Progress) -> Result<Outcome> {
    let device = device::parse(&options.device)?;
    let dir = options.out.join(&study.name);
    let store = StudyStore::open(&dir, &evaluator_json(study, &options.device)?)?;
    let runs: Vec<(Arm, u64, RunStore)> = expand(study)
        .into_iter()
        .map(|(arm, seed)| {
            let s = store.run(&arm.name(), seed);
            (arm, seed, s)
        })
        .collect();

    let data = data::open(&study.evaluator.data, progress)?;
    let instrument = Instrument::open(&study.name, &study.evaluator, data, &options.device, device, progress)?;
    let mut encoders: BTreeMap<String, Result<Prepared>> = BTreeMap::new();
    for encoder in study.arms.iter().flat_map(|a| &a.encoders) {
        encoders.entry(encoder.to_string()).or_insert_with(|| prepare(encoder, study.evaluator.preprocess));
    }

    // What is done already, and was done with the same inputs, stays done.
    let mut left = Vec::new();
    let mut failures: Vec<Missing> = Vec::new();
    for (arm, seed, run) in &runs {
        let check = || -> Result<bool> {
            let config = instrument.config(arm, *seed, &digests(arm, &encoders)?)?;
            run.claim(&config)?;
            Ok(run.results()?.is_some())
        };
        match check() {
            Ok(true) => {}
            Ok(false) => left.push((arm.clone(), *seed, run.clone())),
            Err(e) => fail(&mut failures, arm, *seed, run, e, progress)?,
        }
    }
    let done = runs.len() - left.len() - failures.len();
    if done > 0 && !left.is_empty() {
        progress.line(&format!("{done} of {} runs are done already", runs.len()));
    }

    if !left.is_empty() {
        let needed: Vec<&Prepared> = encoders
            .values()
            .flatten()
            .filter(|p| left.iter().any(|(arm, _, _)| arm.encoders.contains(&p.encoder)))
            .collect();
        let wanted: Vec<Wanted<'_>> = needed.iter().map(|p| p.wanted()).collect();
        let cache = FeatureCache::open(&paths::cache()?, paths::cache_limit()?)?;
        let features = cache.features(&wanted, &instrument, options.share, progress)?;
        let features: BTreeMap<String, std::result::Result<Arc<Features>, Error>> =
            needed.iter().zip(features).map(|(p, f)| (p.encoder.to_string(), f.map(Arc::new))).collect();

        let bar = progress.bar("runs", left.len() as u64);
        let outcomes = workers::each(options.share, left.clone(), |(arm, seed, store)| {
            let parts: Vec<training::Part> = arm
                .encoders
                .iter()
                .map(|encoder| match (features.get(&encoder.to_string()), encoders.get(&encoder.to_string())) {
                    (Some(Ok(f)), Some(Ok(p))) => {
                        Ok(training::Part { encoder: encoder.clone(), card: p.card.clone(), features: f.clone() })
                    }
                    (Some(Err(e)), _) => Err(repeat(e)),
                    _ => Err(Error::failed(format!("{encoder} has no features"))),
                })
                .collect::<Result<_>>()?;
            let outcome = run::run(&instrument, &arm, seed, &parts, &digests(&arm, &encoders)?, &store, progress);
            bar.add(1);
            outcome
        })?;
        drop(bar);
        for ((arm, seed, run), outcome) in left.iter().zip(outcomes) {
            if let Err(e) = outcome {
                fail(&mut failures, arm, *seed, run, e, progress)?;
            }
        }
    }
    let mut outcome = report(&dir, None, Some(&runs_of(study)))?;
    outcome.runs = runs.len();
    outcome.failed = failures.len();
    Ok(outcome)
}

/// An encoder of the study whose weights are on this machine.
pub(crate) struct Prepared {
    pub encoder: ArmEncoder,
    pub card: EncoderCard,
    pub weights_digest: String,
}

impl Prepared {
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted { encoder: &self.encoder, card: &self.card, weights_digest: self.weights_digest.clone() }
    }
}

pub(crate) fn prepare(encoder: &ArmEncoder, pipeline: Pipeline) -> Result<Prepared> {
    let card = encoder.card(pipeline)?;
    let weights_digest = encoder.weights_digest(&card)?;
    Ok(Prepared { encoder: encoder.clone(), card, weights_digest })
}

fn digests(arm: &Arm, encoders: &BTreeMap<String, Result<Prepared>>) -> Result<BTreeMap<String, String>> {
    arm.encoders
        .iter()
        .map(|encoder| match encoders.get(&encoder.to_string()) {
            Some(Ok(p)) => Ok((encoder.to_string(), p.weights_digest.clone())),
            Some(Err(e)) => Err(repeat(e)),
            None => Err(Error::failed(format!("{encoder} is not in the study"))),
        })
        .collect()
}

/// The same error again, for every arm that needs the same encoder.
fn repeat(e: &Error) -> Error {
    let again = Error::failed(e.to_string());
    match e.hint_text() {
        Some(hint) => again.hint(hint),
        None => again,
    }
}

fn fail(
    failures: &mut Vec<Missing>,
    arm: &Arm,
    seed: u64,
    run: &RunStore,
    e: Error,
    progress: &Progress,
) -> Result<()> {
    progress.line(&format!("{} (seed {seed}) failed: {e}", arm.name()));
    let missing = Missing { arm: arm.name(), seed, cause: e.to_string(), hint: e.hint_text().map(String::from) };
    // A full disk can be the very cause; the failure is reported all the same.
    if let Err(e) = run.fail(&missing) {
        progress.line(&format!("the failure could not be noted: {e}"));
    }
    failures.push(missing);
    Ok(())
}

fn runs_of(study: &Study) -> Vec<(String, u64)> {
    expand(study).iter().map(|(arm, seed)| (arm.name(), *seed)).collect()
}

/// Ranks what a study directory holds (only the runs in `only`, if given) and writes `ranking.json` and
/// `report/index.html`, there or under `out`.
pub fn report(dir: &Path, out: Option<&Path>, only: Option<&[(String, u64)]>) -> Result<Outcome> {
    if !dir.is_dir() {
        return Err(Error::usage(format!("{} is not a study directory", dir.display()))
            .hint("give OUT/<study>, as in `burgess report runs/nano`"));
    }
    let mut data = StudyData::load(dir)?;
    if let Some(only) = only {
        let wanted = |arm: &str, seed: u64| only.iter().any(|(a, s)| a == arm && *s == seed);
        data.runs.retain(|r| wanted(&r.results.run.arm, r.results.run.seed));
        data.missing.retain(|m| wanted(&m.arm, m.seed));
    }
    if data.runs.is_empty() {
        let causes: Vec<String> =
            data.missing.iter().take(5).map(|m| format!("\n  {} seed {}: {}", m.arm, m.seed, m.cause)).collect();
        return Err(Error::failed(format!("no run in {} is finished{}", dir.display(), causes.concat())).hint(
            data.missing.iter().find_map(|m| m.hint.clone()).unwrap_or("run `burgess rank` on this study first".into()),
        ));
    }
    let files = out.map_or_else(|| Files::of_study(dir), Files::together);
    let (runs, about) = (data.runs.len() + data.missing.len(), about(dir, &data)?);
    let written = page::write_study(data, &about, &RankOptions::default(), files)?;
    Ok(Outcome { runs, failed: 0, written })
}

fn about(dir: &Path, data: &StudyData) -> Result<About> {
    let study: Value = match dir.join("study.json") {
        path if path.exists() => atomic::read_json(&path)?,
        _ => Value::Null,
    };
    let text = |key: &str| study.get(key).and_then(Value::as_str).map(String::from);
    Ok(About {
        title: text("title").unwrap_or_else(|| data.study.clone()),
        question: text("question").unwrap_or_default(),
        command: format!("burgess rank {}", data.study),
        notes: Vec::new(),
    })
}
