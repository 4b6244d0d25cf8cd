//! The runs of a study: which are finished, which fit, and doing those that are left.

use crate::data;
use crate::features::{ArmCard, EncoderFeatures, FrozenFeatures, PreparedEncoder, prepare_all};
use crate::machine::device_set::{DeviceSet, MemoryNeed};
use crate::machine::progress::Progress;
use crate::machine::workers::{self, Workers};
use crate::machine::{memory, stop};
use crate::run::arm_run::run_arm;
use crate::run::cost::arms::ArmModel;
use crate::run::cost::fit::{FreeMemory, PeakMemory};
use crate::run::cost::{self, gigabytes};
use crate::run::evaluator::Evaluator;
use crate::run::provenance::{self, Provenance};
use crate::run::sharing::{self, OpenRun, RunFate};
use crate::run::stages::StudyStage;
use crate::run::store::{RunStore, StudyStore};
use crate::run::{benchmark_copies, checks, notes};
use crate::study::{Arm, StudyConfig};
use burgess_base::{Error, ErrorKind, Result, atomic};
use burgess_probe::data::Examples;
use burgess_reports::schema::MissingRun;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where and how a study is run.
#[derive(Clone, Debug)]
pub struct StudyOptions {
    /// Output directory; results are written to `out/<study>`.
    pub out: PathBuf,
    /// Devices, as on the command line: a name, or a list such as `cuda:0,cuda:1` or `wgpu:all`.
    pub device: String,
    /// Number of runs side by side, over all devices; `None` for one on each GPU, or on a CPU as many as cores and
    /// memory allow.
    pub jobs: Option<usize>,
    /// The only stage that is done, `train` or `eval`; `None` for all of a run's work.
    pub stage: Option<StudyStage>,
}

/// Counts of a study's runs and training data.
pub struct RunCounts {
    /// Number of runs of the study.
    pub runs: usize,
    /// Failed runs, with their causes.
    pub failures: Vec<MissingRun>,
    /// Number of conversations of the align stage (0 without one) and of the tune stage.
    pub samples: (usize, usize),
}

/// Does the runs of a study in its directory, continuing where an earlier call stopped.
pub fn run_study(dir: &Path, study: &StudyConfig, options: &StudyOptions, progress: &Progress) -> Result<RunCounts> {
    let (shared, runs) = SharedByRuns::open(dir, study, options, progress)?;
    let (left, mut failures) = shared.unfinished(&runs)?;
    let done = runs.len() - left.len() - failures.len();
    if done > 0 && !left.is_empty() {
        progress.line(&format!("{done} of {} runs are already done", runs.len()));
    }
    if !left.is_empty() {
        failures.extend(shared.finish(left, runs.len())?);
    }
    let evaluator = &shared.evaluator;
    let samples = (evaluator.align.as_ref().map_or(0, |set| set.examples.len()), evaluator.tune_len());
    Ok(RunCounts { runs: runs.len(), failures, samples })
}

/// A run of a study, with the directory of its results.
struct StudyRun {
    arm: Arm,
    seed: u64,
    store: RunStore,
}

/// What all runs of a study share.
struct SharedByRuns<'a> {
    stage: Option<StudyStage>,
    /// Number of runs side by side, if the caller chose it.
    jobs: Option<usize>,
    progress: &'a Progress,
    devices: DeviceSet,
    evaluator: Evaluator,
    /// The encoders, by name, as far as they could be prepared.
    encoders: BTreeMap<String, Result<PreparedEncoder>>,
    free: FreeMemory,
    /// Whether each arm fits, by its name.
    fits: BTreeMap<String, Result<ArmFit>>,
}

/// The frozen features of each encoder, by its name.
type FeaturesByEncoder = BTreeMap<String, Result<Arc<FrozenFeatures>>>;

impl<'a> SharedByRuns<'a> {
    /// Opens data, language model and encoders of a study, and records in its directory how it is made.
    fn open(
        dir: &Path,
        study: &StudyConfig,
        options: &StudyOptions,
        progress: &'a Progress,
    ) -> Result<(Self, Vec<StudyRun>)> {
        let devices = DeviceSet::open(&options.device, progress)?;
        checks::check_writable(dir)?;
        let label = devices.label(recorded_device(dir)?.as_deref());
        let open = || StudyStore::open(dir, &evaluator_json(study, &label)?);
        // An existing study is compared before the checks; the directory of a new one is created only after they pass.
        let begun = dir.join("study.json").exists().then(open).transpose()?;
        benchmark_copies::compare(dir, &study.evaluator.benchmarks)?;
        let data = data::open(&study.evaluator.data, progress)?;
        let mut evaluator = Evaluator::open(&study.name, &study.evaluator, &study.arms, data, &devices, progress)?;
        evaluator.device_name.clone_from(&label);
        let encoders = prepare_all(study, &evaluator.data.dir, progress);
        let cards = encoders.values().flatten().map(|p| &p.card);
        notes::print_notes(&evaluator.notes(cards), progress);
        let store = begun.map_or_else(open, Ok)?;
        // The command of a single stage does not make the study; the stage `report` records the whole one.
        let command = options.stage.is_none().then(provenance::command);
        Provenance::record(dir, Some(&evaluator.data.dir), Some(study), command)?;
        benchmark_copies::write(dir, &study.evaluator.benchmarks)?;
        Provenance::record_images(dir, benchmark_copies::image_directories(&study.evaluator.benchmarks))?;
        let with_store = |(arm, seed): (Arm, u64)| {
            let store = store.run(&arm.name(), seed);
            StudyRun { arm, seed, store }
        };
        let runs = study.runs().into_iter().map(with_store).collect();
        let free = devices.free_for_runs()?;
        if free.is_none() {
            let names = devices.names().join(", ");
            progress
                .line(&format!("note: the free memory of {names} is not known: whether the runs fit is not checked"));
        }
        let fits =
            study.arms.iter().map(|arm| (arm.name(), check_fit(&evaluator, arm, &encoders, free, options.stage)));
        let fits = fits.collect();
        let (stage, jobs) = (options.stage, options.jobs);
        Ok((Self { stage, jobs, progress, devices, evaluator, encoders, free, fits }, runs))
    }

    /// Whether a run has nothing left to do. `note` receives what is found to be damaged.
    fn is_finished(&self, run: &RunStore, note: &dyn Fn(&str)) -> Result<bool> {
        let results = run.results(note).filter(|_| run.has_config());
        let done = results.is_some_and(|r| run.has_intact_samples(r.results.keys(), note));
        Ok(done || (self.stage == Some(StudyStage::Train) && run.has_model(note)?))
    }

    /// Returns the runs that are left to do, and those that cannot be done. Finished runs with the same inputs are kept.
    fn unfinished(&self, runs: &[StudyRun]) -> Result<(Vec<OpenRun>, Vec<MissingRun>)> {
        let progress = self.progress;
        let note = |text: &str| progress.line(text);
        // Whether other processes work on the study.
        let shared = runs.iter().map(|run| run.store.owner()).collect::<Result<Vec<_>>>()?.iter().any(Option::is_some);
        let mut left = Vec::new();
        let mut failures: Vec<MissingRun> = Vec::new();
        for StudyRun { arm, seed, store } in runs {
            let check = || -> Result<bool> {
                if let Some(Err(e)) = self.fits.get(&arm.name()) {
                    return Err(copy_error(e));
                }
                let config = self.evaluator.resolved_config(arm, *seed, &digests(arm, &self.encoders)?)?;
                let done = self.is_finished(store, &note)?;
                self.evaluator.compare_config(store, &config, done, &note)?;
                store.note_missing_checksums(&note)?;
                Ok(done)
            };
            let too_large = self.fits.get(&arm.name()).and_then(|fit| fit.as_ref().ok()?.peak.as_ref().err());
            match check() {
                Ok(false) if self.stage == Some(StudyStage::Eval) && !store.has_model(&note)? => {
                    failures.push(not_trained(&arm.name(), *seed, store, progress));
                }
                Ok(true) => {}
                Ok(false) => match too_large {
                    // The process that works on the run has the memory for it.
                    Some(e) if store.owner()?.is_none() => match shared {
                        // It may be the runs of others that take the memory, so that this is no failure for them.
                        true => failures.push(sharing::failure(arm, *seed, e, progress)),
                        false => failures.push(sharing::record_failure(arm, *seed, store, e, progress)),
                    },
                    _ => left.push(OpenRun::new(arm.clone(), *seed, store.clone())),
                },
                Err(e) => failures.push(sharing::record_failure(arm, *seed, store, &e, progress)),
            }
        }
        Ok((left, failures))
    }

    /// Does the runs that are left, of `total` runs, side by side; returns those that failed. Runs on which other
    /// processes work are left to them; this process takes over those whose process ends.
    fn finish(&self, mut left: Vec<OpenRun>, total: usize) -> Result<Vec<MissingRun>> {
        let progress = self.progress;
        let peaks = left.iter().filter_map(|run| self.fits.get(&run.arm.name())?.as_ref().ok()?.peak.as_ref().ok());
        let largest = peaks.map(|peak| peak.estimate.device).fold(0.0, f64::max);
        let need = self.free.map(|free| MemoryNeed { run: largest as u64, free });
        let workers = self.devices.workers(self.jobs, total, need);
        if let Some(note) = self.devices.memory_note(&workers, total.min(left.len()), need) {
            progress.line(&note);
        }
        let features = self.features(&left, &workers)?;
        let side_by_side = workers.devices.len().min(left.len());
        let bar = progress.bar("runs", left.len() as u64);
        let mut told = false;
        let mut failures = Vec::new();
        let mut elsewhere: Vec<OpenRun> = Vec::new();
        while !left.is_empty() {
            let fates = workers::each_on(&workers, left.clone(), |on, run| {
                stop::check()?;
                let finished = |store: &RunStore| self.is_finished(store, &|_| ());
                let fate =
                    run.attempt(&finished, |store| self.train_and_answer(on, &run, &features, store), progress)?;
                bar.add(u64::from(!matches!(fate, RunFate::Elsewhere)));
                Ok(fate)
            })?;
            for (run, fate) in left.drain(..).zip(fates) {
                match fate {
                    Ok(RunFate::Finished) => {}
                    Ok(RunFate::Failed(missing)) => failures.push(missing),
                    Ok(RunFate::Elsewhere) => elsewhere.push(run),
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => {
                        failures.push(sharing::record_failure(&run.arm, run.seed, &run.store, &e, progress));
                    }
                }
            }
            stop::check()?;
            if !elsewhere.is_empty() {
                (left, elsewhere) = sharing::wait_for_any(elsewhere, &mut told, progress)?;
            }
        }
        if self.devices.is_cpu() {
            tell_peak(largest, side_by_side, progress);
        }
        Ok(failures)
    }

    /// Opens or computes the frozen features that the runs need.
    fn features(&self, runs: &[OpenRun], workers: &Workers) -> Result<FeaturesByEncoder> {
        let needed: Vec<&PreparedEncoder> = self
            .encoders
            .values()
            .flatten()
            .filter(|p| runs.iter().any(|run| run.arm.encoders.contains(&p.encoder)))
            .collect();
        let (source, images) = (self.evaluator.config.features, self.evaluator.image_set());
        let features = FrozenFeatures::open_all(&needed, source, images, workers, self.progress)?;
        Ok(needed.iter().zip(features).map(|(p, f)| (p.encoder.to_string(), f.map(Arc::new))).collect())
    }

    /// Does a run on device `on`: training and answers, or the one stage that is asked for.
    fn train_and_answer(&self, on: usize, run: &OpenRun, features: &FeaturesByEncoder, store: &RunStore) -> Result<()> {
        let (arm, seed) = (&run.arm, run.seed);
        let parts: Vec<EncoderFeatures> = arm
            .encoders
            .iter()
            .map(|encoder| match (features.get(&encoder.to_string()), self.encoders.get(&encoder.to_string())) {
                (Some(Ok(f)), Some(Ok(p))) => {
                    Ok(EncoderFeatures { encoder: encoder.clone(), card: p.card.clone(), features: f.clone() })
                }
                (Some(Err(e)), _) => Err(copy_error(e)),
                _ => Err(Error::failed(format!("{encoder} has no features"))),
            })
            .collect::<Result<_>>()?;
        let digests = digests(arm, &self.encoders)?;
        let notes = self.fits.get(&arm.name()).and_then(|fit| Some(fit.as_ref().ok()?.notes.as_slice()));
        let config = self.evaluator.resolved_config(arm, seed, &digests)?;
        self.evaluator.write_or_compare_config(store, &config, notes.unwrap_or_default())?;
        let device = self.devices.get(on);
        run_arm(&self.evaluator, &device, arm, seed, &parts, &digests, store, self.stage, self.progress)
    }
}

/// Prints the peak memory of this process beside the estimate for runs of at most `largest` bytes each.
fn tell_peak(largest: f64, side_by_side: usize, progress: &Progress) {
    let peak = memory::peak();
    if largest <= 0.0 || peak == 0 {
        return;
    }
    let (peak, estimated) = (gigabytes(peak as f64), gigabytes(cost::memory::side_by_side(largest, side_by_side)));
    let files = match memory::mapped() {
        0 => String::new(),
        mapped => format!(", {} of it files that the system can take back", gigabytes(mapped as f64)),
    };
    progress.line(&format!(
        "peak memory {peak}{files}; the estimate for {side_by_side} runs at once, without files, was {estimated}"
    ));
}

/// Builds the content of `study.json`. It must stay the same for all runs in the study's directory; arms and seeds,
/// which it does not contain, may be added later.
fn evaluator_json(study: &StudyConfig, device: &str) -> Result<Value> {
    Ok(json!({
        "study": study.name,
        "title": study.title,
        "question": study.question,
        "device": device,
        "evaluator": serde_json::to_value(&study.evaluator)?,
    }))
}

/// Name of the devices in a study's `study.json`; `None` for a new study, and if an earlier version wrote none.
fn recorded_device(dir: &Path) -> Result<Option<String>> {
    let path = dir.join("study.json");
    let there: Value = if path.exists() { atomic::read_json(&path)? } else { Value::Null };
    Ok(there.get("device").and_then(Value::as_str).map(String::from))
}

/// An arm that fits.
struct ArmFit {
    /// Assumptions that were made.
    notes: Vec<String>,
    /// Estimate of the memory that a run needs, or why it does not fit. Finished runs need none.
    peak: Result<PeakMemory>,
}

/// Checks that an arm fits the language model, recipe, data and memory.
fn check_fit(
    evaluator: &Evaluator,
    arm: &Arm,
    encoders: &BTreeMap<String, Result<PreparedEncoder>>,
    free: FreeMemory,
    stage: Option<StudyStage>,
) -> Result<ArmFit> {
    let cards = arm.encoders.iter().map(|encoder| match encoders.get(&encoder.to_string()) {
        Some(Ok(p)) => Ok(&p.card),
        Some(Err(e)) => Err(copy_error(e)),
        None => Err(Error::failed(format!("{encoder} is not in the study"))),
    });
    let cards: Vec<&ArmCard> = cards.collect::<Result<_>>()?;
    let positions = checks::check_arm(&evaluator.config, &evaluator.llm, arm, &cards, &evaluator.devices.get(0))?;
    evaluator.check_lengths(arm, positions)?;
    evaluator.check_truth(&cards)?;
    let model = ArmModel::new(
        &evaluator.config,
        arm,
        cards.iter().map(|card| (*card).clone()).collect(),
        &evaluator.llm.config,
    )?;
    let (config, asked) = (&evaluator.config, evaluator.longest_question(&model));
    let corpora = evaluator.corpora(arm)?;
    let mut memory = model.run_memory(config, arm, &evaluator.llm.config, corpora, asked, &evaluator.devices);
    match stage {
        Some(StudyStage::Train) => memory.asked = None,
        Some(StudyStage::Eval) => memory.stages.clear(),
        _ => {}
    }
    let peak = memory.check(free).map_err(|e| e.context(format!("the arm {}", arm.name())));
    Ok(ArmFit { notes: evaluator.notes(cards), peak })
}

fn digests(arm: &Arm, encoders: &BTreeMap<String, Result<PreparedEncoder>>) -> Result<BTreeMap<String, String>> {
    arm.encoders
        .iter()
        .map(|encoder| match encoders.get(&encoder.to_string()) {
            Some(Ok(p)) => Ok((encoder.to_string(), p.weights_digest.clone())),
            Some(Err(e)) => Err(copy_error(e)),
            None => Err(Error::failed(format!("{encoder} is not in the study"))),
        })
        .collect()
}

/// Copies an error, for every arm that needs the same encoder.
pub(crate) fn copy_error(e: &Error) -> Error {
    let again = Error::failed(e.to_string());
    let again = match e.hint_text() {
        Some(hint) => again.hint(hint),
        None => again,
    };
    match e.download_name() {
        Some(name) => again.downloadable(name),
        None => again,
    }
}

/// The failure of a run that the stage `eval` finds without a model. It is not recorded in the run's directory, which
/// keeps the cause that its training met.
fn not_trained(arm: &str, seed: u64, run: &RunStore, progress: &Progress) -> MissingRun {
    let earlier = run.failure();
    let (cause, hint) = match earlier {
        Some(earlier) => {
            (format!("it has no trained model, because its training failed: {}", earlier.cause), earlier.hint)
        }
        None => ("it has no trained model".to_string(), None),
    };
    progress.line(&format!("{arm} (seed {seed}) cannot be evaluated: {cause}"));
    let hint = hint.or_else(|| Some("do the stage `train` of this run first".into()));
    MissingRun { arm: arm.to_string(), seed, cause, hint }
}
