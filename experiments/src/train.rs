//! One model trained outside of a study: what `burgess train` does. The steps are those of a study's run.

use crate::progress::Progress;
use crate::rank::{self, Prepared, prepare};
use crate::run::Instrument;
use crate::store::{self, RunStore};
use crate::study::{Arm, ArmEncoder, Evaluator, Freeze, read_toml};
use crate::training::{Job, Part, trained};
use crate::workers::{self, Share};
use crate::{beside, checks, data, device, names, notes};
use burgess_base::{Context, Error, Result};
use burgess_probe::data::Examples;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A run as written. It looks like a study with one arm.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// Names the output directory.
    pub name: String,
    /// More than one are concatenated along the channels.
    pub encoders: Vec<ArmEncoder>,
    /// Whether the encoders train in the tune stage.
    #[serde(default)]
    pub freeze: Freeze,
    /// Random seed.
    #[serde(default)]
    pub seed: u64,
    /// Language model, connector, data and recipe, as in a study.
    pub evaluator: Evaluator,
}

/// Where and how it runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of the run.
    pub out: Option<PathBuf>,
    /// As on the command line.
    pub device: String,
    pub threads: usize,
    /// Time between two states that are kept.
    pub keep: Duration,
}

/// What `burgess train` leaves.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The trained model.
    pub model: PathBuf,
    /// The line of every step.
    pub log: PathBuf,
    /// Seconds spent in steps, interrupted attempts not counted.
    pub train_seconds: f64,
}

impl RunFile {
    /// Reads and checks a file. Errors name line, column and key.
    ///
    /// # Errors
    /// The file cannot be read, or says something that makes no sense.
    pub fn open(path: &Path) -> Result<Self> {
        let step = || format!("reading the run {}", path.display());
        let mut run: Self = read_toml(path, "`burgess train --help` shows a complete file").with_context(step)?;
        let folder = beside::folder(path);
        beside::evaluator(folder.as_deref(), &mut run.evaluator).with_context(step)?;
        run.encoders.iter_mut().try_for_each(|e| beside::encoder(folder.as_deref(), e)).with_context(step)?;
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

/// A run whose parts are all there and fit together.
struct Ready {
    place: Instrument,
    encoders: Vec<Prepared>,
    notes: Vec<String>,
    positions: usize,
}

/// Checks all that can be known before the first step.
fn ready(run: &RunFile, options: &Options, progress: &Progress) -> Result<Ready> {
    let device = device::parse(&options.device)?;
    let data = data::open(&run.evaluator.data, progress)?;
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

/// What `burgess train --dry-run` says of a run in which all that can be known beforehand is right.
#[derive(Debug, Serialize)]
pub struct Rehearsal {
    /// The directory of the run.
    pub directory: PathBuf,
    /// Conversations and steps of each stage.
    pub stages: Vec<(String, usize, usize)>,
    /// Positions that an image takes in the language model.
    pub tokens: usize,
    /// What had to be assumed.
    pub notes: Vec<String>,
}

/// Checks a run and writes nothing.
///
/// # Errors
/// As [`train`], for all that can be known before the first step.
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

/// Trains what is left of a run.
///
/// # Errors
/// Something that the file names cannot be had or does not fit (all of this is known before the first step), another
/// burgess works in the directory, or the training fails.
pub fn train(run: &RunFile, options: &Options, progress: &Progress) -> Result<Outcome> {
    let dir = options.out.clone().unwrap_or_else(|| Path::new("runs").join(&run.name));
    checks::writable(&dir)?;
    // A run that was begun is held from the start; a new one is begun when nothing speaks against it.
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
        let features = rank::features(&needed, &place, Share::of_this_machine(None), progress)?;
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
