//! Training of one model outside a study (`burgess train`), with the same stages as a run of a study.

use crate::data;
use crate::features::{EncoderFeatures, FrozenFeatures, PreparedEncoder};
use crate::machine::device_set::DeviceSet;
use crate::machine::progress::Progress;
use crate::machine::workers::{self, Parallelism};
use crate::run::cost::arms::ArmModel;
use crate::run::cost::fit::PeakMemory;
use crate::run::evaluator::Evaluator;
use crate::run::store::RunStore;
use crate::run::training::{TrainJob, train};
use crate::run::{checks, notes};
use crate::study::RunConfig;
use burgess_base::{Error, Result};
use burgess_probe::data::Examples;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Where and on what device the run is trained.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// Directory of the run; default `runs/<name>`.
    pub out: Option<PathBuf>,
    /// Device name, as on the command line.
    pub device: String,
    /// Number of CPU threads.
    pub threads: usize,
    /// Time between two saved training states.
    pub save_interval: Duration,
}

impl TrainOptions {
    /// Directory of a run.
    fn directory(&self, run: &RunConfig) -> PathBuf {
        self.out.clone().unwrap_or_else(|| Path::new("runs").join(&run.name))
    }
}

/// The outputs of `burgess train`.
#[derive(Debug, Serialize)]
pub struct TrainOutcome {
    /// Directory of the trained model.
    pub model: PathBuf,
    /// Training log, one line per step.
    pub log: PathBuf,
    /// Total duration of the training steps in seconds, without steps that an interruption lost.
    pub train_seconds: f64,
}

/// A checked run, ready to train.
struct CheckedRun {
    evaluator: Evaluator,
    encoders: Vec<PreparedEncoder>,
    notes: Vec<String>,
    positions: usize,
    memory: PeakMemory,
}

/// Opens the parts of a run and makes all checks that are possible before the first step.
fn check(run: &RunConfig, options: &TrainOptions, progress: &Progress) -> Result<CheckedRun> {
    let devices = DeviceSet::open(&options.device, progress)?;
    if let [_, second, ..] = devices.names() {
        return Err(Error::usage(format!("one model is trained on one device, but {second} is named too"))
            .hint("name one device; `burgess rank` runs the arms of a study on several"));
    }
    let data = data::open(&run.evaluator.data, progress)?;
    let encoders: Vec<PreparedEncoder> =
        run.encoders.iter().map(|e| PreparedEncoder::open(e, &run.evaluator, &data.dir)).collect::<Result<_>>()?;
    let arm = run.arm();
    let arms = std::slice::from_ref(&arm);
    let mut evaluator = Evaluator::open(&run.name, &run.evaluator, arms, data, &devices, progress)?;
    evaluator.threads = options.threads;
    let cards = encoders.iter().map(|p| &p.card).collect::<Vec<_>>();
    let positions = checks::check_arm(&run.evaluator, &evaluator.llm, &arm, &cards, &evaluator.devices.get(0))?;
    evaluator.check_lengths(&arm, positions)?;
    evaluator.check_truth(&cards)?;
    let model =
        ArmModel::new(&run.evaluator, &arm, cards.iter().map(|card| (*card).clone()).collect(), &evaluator.llm.config)?;
    let (corpora, free) = (evaluator.corpora(&arm)?, devices.free_for_runs()?);
    if free.is_none() {
        progress.line(&format!(
            "note: the free memory of {} is not known: whether the run fits is not checked",
            options.device
        ));
    }
    let memory = model.run_memory(&run.evaluator, &arm, &evaluator.llm.config, corpora, None, &devices);
    let trained = options.directory(run).join("model").is_dir();
    let memory = if trained { memory.peak()? } else { memory.check(free)? };
    let notes = evaluator.notes(cards);
    notes::print_notes(&notes, progress);
    Ok(CheckedRun { evaluator, encoders, notes, positions, memory })
}

/// Report of `burgess train --dry-run` on a run that passes all checks.
#[derive(Debug, Serialize)]
pub struct TrainPlan {
    /// Directory of the run.
    pub directory: PathBuf,
    /// Name, number of conversations and number of steps of each stage.
    pub stages: Vec<(String, usize, usize)>,
    /// Number of positions that an image takes in the language model.
    pub tokens: usize,
    /// Estimated memory of the stage that needs most.
    pub memory: PeakMemory,
    /// Assumptions about encoders, language model and recipe.
    pub notes: Vec<String>,
}

/// Checks a run without writing anything.
///
/// # Errors
/// As [`train_model`], for all errors that are found before the first step.
pub fn plan_training(run: &RunConfig, options: &TrainOptions, progress: &Progress) -> Result<TrainPlan> {
    let directory = options.directory(run);
    checks::check_writable(&directory)?;
    let CheckedRun { evaluator, notes, positions: tokens, memory, .. } = check(run, options, progress)?;
    let recipe = &run.evaluator.recipe;
    let stages = [
        ("align", recipe.align.as_ref(), evaluator.align.as_ref()),
        ("tune", Some(&recipe.tune), Some(evaluator.tune_of(&run.arm())?)),
    ];
    let stages = stages.into_iter().filter_map(|(name, stage, set)| {
        let n = set?.examples.len();
        Some((name.to_string(), n, stage?.total_steps(n)))
    });
    Ok(TrainPlan { directory, stages: stages.collect(), tokens, memory, notes })
}

/// Trains a run, continuing where an earlier call stopped.
///
/// # Errors
/// Something that the file names is missing or does not fit (found before the first step), another burgess process
/// works in the directory, or the training fails.
pub fn train_model(run: &RunConfig, options: &TrainOptions, progress: &Progress) -> Result<TrainOutcome> {
    let dir = options.directory(run);
    checks::check_writable(&dir)?;
    // An existing run is claimed before the checks; the directory of a new run is created only after they pass.
    let store = RunStore::at(&dir);
    let begun = store.has_config().then(|| store.claim_alone()).transpose()?;
    let (arm, ready) = (run.arm(), check(run, options, progress)?);
    let CheckedRun { evaluator, encoders, notes, .. } = ready;
    let store = begun.map_or_else(|| store.claim_alone(), Ok)?;
    let digests: BTreeMap<String, String> =
        encoders.iter().map(|p| (p.encoder.to_string(), p.weights_digest.clone())).collect();
    let config = evaluator.resolved_config(&arm, run.seed, &digests)?;
    evaluator.write_or_compare_config(&store, &config, &notes)?;
    store.note_missing_checksums(&|text| progress.line(text))?;
    if store.has_model(&|text| progress.line(text))? {
        store.remove_states()?;
        progress.line(&format!("{} is already trained", run.name));
    } else {
        let needed: Vec<&PreparedEncoder> = encoders.iter().collect();
        let (source, all_cores) = (run.evaluator.features, evaluator.devices.workers(None, 1, None));
        let features = FrozenFeatures::open_all(&needed, source, evaluator.image_set(), &all_cores, progress)?;
        let encoder_features: Vec<EncoderFeatures> = encoders
            .iter()
            .zip(features)
            .map(|(p, f)| {
                Ok(EncoderFeatures { encoder: p.encoder.clone(), card: p.card.clone(), features: Arc::new(f?) })
            })
            .collect::<Result<_>>()?;
        let device = evaluator.devices.get(0);
        let job = TrainJob {
            evaluator: &evaluator,
            device: &device,
            arm: &arm,
            seed: run.seed,
            config: &config,
            save_interval: options.save_interval,
        };
        let bar = progress.bar(&run.name, 0);
        let one_worker = Parallelism { workers: 1, threads: options.threads };
        let outcomes =
            workers::each(one_worker, vec![()], |()| train(&job, &encoder_features, &store, &bar).map(drop))?;
        outcomes.into_iter().collect::<Result<()>>()?;
        store.remove_states()?;
        bar.done(&format!("trained {}", run.name));
    }
    Ok(TrainOutcome {
        model: store.model(),
        log: store.dir().join("train.jsonl"),
        train_seconds: store.train_seconds()?,
    })
}
