//! Training of one model outside a study (`burgess train`), with the same stages as a run of a study.

use crate::data::directory;
use crate::machine::device;
use crate::machine::progress::Progress;
use crate::machine::workers;
use crate::machine::workers::Share;
use crate::run::instrument::Instrument;
use crate::run::ranking;
use crate::run::ranking::{Prepared, prepare};
use crate::run::store;
use crate::run::store::RunStore;
use crate::run::training::{Job, Part, trained};
use crate::run::{checks, notes};
use crate::study::{Arm, ArmEncoder, Evaluator, Freeze, read_toml};
use crate::study::{names, paths};
use burgess_base::{Context, Error, Result};
use burgess_probe::data::Examples;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A run, as its TOML file describes it: like a study with one arm.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// Name of the run and of its output directory.
    pub name: String,
    /// The encoders; the features of several are concatenated along the channels.
    pub encoders: Vec<ArmEncoder>,
    /// Whether the encoders are trained in the tune stage.
    #[serde(default)]
    pub freeze: Freeze,
    /// Random seed of the run.
    #[serde(default)]
    pub seed: u64,
    /// Language model, connector, data and recipe, as in a study.
    pub evaluator: Evaluator,
}

/// Where and on what device the run is trained.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the run; default `runs/<name>`.
    pub out: Option<PathBuf>,
    /// Device name, as on the command line.
    pub device: String,
    pub threads: usize,
    /// Time between two saved training states.
    pub keep: Duration,
}

/// The outputs of `burgess train`.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// Directory of the trained model.
    pub model: PathBuf,
    /// Training log, one line per step.
    pub log: PathBuf,
    /// Total duration of the training steps in seconds, without steps that an interruption lost.
    pub train_seconds: f64,
}

impl RunFile {
    /// Reads and checks a TOML file. Errors name line, column and key.
    ///
    /// # Errors
    /// The file cannot be read, or a value is invalid.
    pub fn open(path: &Path) -> Result<Self> {
        let step = || format!("reading the run {}", path.display());
        let mut run: Self = read_toml(path, "`burgess train --help` shows a complete file").with_context(step)?;
        let folder = paths::folder(path);
        paths::evaluator(folder.as_deref(), &mut run.evaluator).with_context(step)?;
        run.encoders.iter_mut().try_for_each(|e| paths::encoder(folder.as_deref(), e)).with_context(step)?;
        run.check().with_context(step)?;
        Ok(run)
    }

    fn check(&self) -> Result<()> {
        names::check(&self.name)?;
        if self.encoders.is_empty() {
            return Err(Error::usage("the run has no encoders").hint("encoders = [\"…\"]"));
        }
        self.arm().check()?;
        if !self.evaluator.benchmarks.is_empty() || self.evaluator.limit.is_some() {
            return Err(Error::usage("`benchmarks` and `limit` are a study's: a training asks no questions")
                .hint("leave them out, or make it a study: `burgess rank nano --dry-run` shows one"));
        }
        self.evaluator.check()
    }

    fn arm(&self) -> Arm {
        Arm::new(self.encoders.clone(), self.freeze)
    }
}

/// A checked run, ready to train.
struct Ready {
    place: Instrument,
    encoders: Vec<Prepared>,
    notes: Vec<String>,
    positions: usize,
}

/// Opens the parts of a run and makes all checks that are possible before the first step.
fn ready(run: &RunFile, options: &Options, progress: &Progress) -> Result<Ready> {
    let device = device::parse(&options.device)?;
    let data = directory::open(&run.evaluator.data, progress)?;
    let encoders: Vec<Prepared> =
        run.encoders.iter().map(|e| prepare(e, &run.evaluator, &data.dir)).collect::<Result<_>>()?;
    let mut place = Instrument::open(&run.name, &run.evaluator, data, &options.device, device, progress)?;
    place.threads = options.threads;
    let (arm, cards) = (run.arm(), encoders.iter().map(|p| &p.card).collect::<Vec<_>>());
    let positions = checks::parts(&run.evaluator, &place.llm, &arm, &cards, &place.device)?;
    place.check_lengths(&arm, positions)?;
    place.check_truth(&cards)?;
    let notes = place.notes(cards);
    notes::announce(&notes, progress);
    Ok(Ready { place, encoders, notes, positions })
}

/// Report of `burgess train --dry-run` on a run that passes all checks.
#[derive(Debug, Serialize)]
pub struct Rehearsal {
    /// Directory of the run.
    pub directory: PathBuf,
    /// Name, number of conversations and number of steps of each stage.
    pub stages: Vec<(String, usize, usize)>,
    /// Number of positions that an image takes in the language model.
    pub tokens: usize,
    /// Assumptions about encoders, language model and recipe.
    pub notes: Vec<String>,
}

/// Checks a run without writing anything.
///
/// # Errors
/// As [`train`], for all errors that are found before the first step.
pub fn rehearse(run: &RunFile, options: &Options, progress: &Progress) -> Result<Rehearsal> {
    let directory = options.out.clone().unwrap_or_else(|| Path::new("runs").join(&run.name));
    checks::writable(&directory)?;
    let Ready { place, notes, positions: tokens, .. } = ready(run, options, progress)?;
    let recipe = &run.evaluator.recipe;
    let stages =
        [("align", recipe.align.as_ref(), place.align.as_ref()), ("tune", Some(&recipe.tune), Some(&place.tune))];
    let stages = stages.into_iter().filter_map(|(name, stage, set)| {
        let n = set?.examples.len();
        Some((name.to_string(), n, stage?.total_steps(n)))
    });
    Ok(Rehearsal { directory, stages: stages.collect(), tokens, notes })
}

/// Trains a run, continuing where an earlier call stopped.
///
/// # Errors
/// Something that the file names is missing or does not fit (found before the first step), another burgess process
/// works in the directory, or the training fails.
pub fn train(run: &RunFile, options: &Options, progress: &Progress) -> Result<Outcome> {
    let dir = options.out.clone().unwrap_or_else(|| Path::new("runs").join(&run.name));
    checks::writable(&dir)?;
    // An existing run is locked before the checks; the directory of a new run is created only after they pass.
    let begun = dir.join("config.json").exists().then(|| store::lock(&dir)).transpose()?;
    let (arm, ready) = (run.arm(), ready(run, options, progress)?);
    let Ready { place, encoders, notes, .. } = ready;
    let _lock = begun.map_or_else(|| store::lock(&dir), Ok)?;
    let store = RunStore::at(&dir);
    let digests: BTreeMap<String, String> =
        encoders.iter().map(|p| (p.encoder.to_string(), p.weights_digest.clone())).collect();
    let config = place.config(&arm, run.seed, &digests)?;
    place.claim(&store, &config, &notes)?;
    store.tell_unchecked(&|text| progress.line(text))?;
    if store.has_model(&|text| progress.line(text))? {
        store.forget_states()?;
        progress.line(&format!("{} is trained already", run.name));
    } else {
        let share = Share { workers: 1, threads: options.threads };
        let needed: Vec<&Prepared> = encoders.iter().collect();
        let features = ranking::features(&needed, &place, Share::of_this_machine(None), progress)?;
        let parts: Vec<Part> = encoders
            .iter()
            .zip(features)
            .map(|(p, f)| Ok(Part { encoder: p.encoder.clone(), card: p.card.clone(), features: Arc::new(f?) }))
            .collect::<Result<_>>()?;
        let job = Job { place: &place, arm: &arm, seed: run.seed, config: &config, keep: options.keep };
        let bar = progress.bar(&run.name, 0);
        let outcomes = workers::each(share, vec![()], |()| trained(&job, &parts, &store, &bar).map(drop))?;
        outcomes.into_iter().collect::<Result<()>>()?;
        store.forget_states()?;
        bar.done(&format!("trained {}", run.name));
    }
    Ok(Outcome { model: store.model(), log: store.dir().join("train.jsonl"), train_seconds: store.train_seconds()? })
}
