//! Ranking a study: all its runs, then `ranking.json` and the report.

use crate::data::{self, TableCells};
use crate::features::{ArmCard, EncoderFeatures, FrozenFeatures, PreparedEncoder, prepare_all};
use crate::machine::device_set::{DeviceSet, MemoryNeed};
use crate::machine::lease::Owner;
use crate::machine::progress::Progress;
use crate::machine::workers;
use crate::machine::{memory, paths, shell, stop};
use crate::run::arm_run::run_arm;
use crate::run::cost::arms::ArmModel;
use crate::run::cost::fit::{FreeMemory, PeakMemory};
use crate::run::cost::{self, gigabytes};
use crate::run::evaluator::Evaluator;
use crate::run::provenance::{self, Provenance};
use crate::run::sharing::{self, OpenRun, RunFate};
use crate::run::stages::StudyStage;
use crate::run::store::{self, RunStore, StudyStore};
use crate::run::{benchmark_copies, checks, evidence, notes};
use crate::study::{Arm, StudyConfig};
use burgess_base::{Error, ErrorKind, Result, atomic};
use burgess_probe::data::Examples;
use burgess_reports::answers::{AnswerOptions, ImageMode};
use burgess_reports::load::StudyData;
use burgess_reports::page::{self, Evidence, ReportFiles, StudyInfo, WrittenReport};
use burgess_reports::ranking::RankOptions;
use burgess_reports::schema::MissingRun;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
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

/// Result of `burgess rank`.
pub struct StudyOutcome {
    /// Paths of the ranking and the report.
    pub written: WrittenReport,
    /// Number of runs of the study.
    pub runs: usize,
    /// Number of failed runs.
    pub failed: usize,
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

/// Runs a study, continuing where an earlier call stopped, and writes `ranking.json` and the report.
pub fn rank_study(study: &StudyConfig, options: &StudyOptions, progress: &Progress) -> Result<StudyOutcome> {
    let dir = options.out.join(&study.name);
    let counts = run_study(&dir, study, options, progress)?;
    let mut outcome = report(&dir, None, Some(&runs_of(study)), ImageMode::Auto)?;
    (outcome.runs, outcome.failed) = (counts.runs, counts.failures.len());
    Ok(outcome)
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
    let evaluator = evaluator;
    let encoders = prepare_all(study, &evaluator.data.dir, progress);
    let cards = encoders.values().flatten().map(|p| &p.card);
    notes::print_notes(&evaluator.notes(cards), progress);
    let store = begun.map_or_else(open, Ok)?;
    // The command of a single stage does not make the study; the stage `report` records the whole one.
    let command = options.stage.is_none().then(provenance::command);
    Provenance::record(dir, Some(&evaluator.data.dir), Some(study), command)?;
    benchmark_copies::write(dir, &study.evaluator.benchmarks)?;
    Provenance::record_images(dir, benchmark_copies::image_directories(&study.evaluator.benchmarks))?;
    let runs: Vec<(Arm, u64, RunStore)> = study
        .runs()
        .into_iter()
        .map(|(arm, seed)| {
            let s = store.run(&arm.name(), seed);
            (arm, seed, s)
        })
        .collect();
    let free = devices.free_for_runs()?;
    if free.is_none() {
        let names = devices.names().join(", ");
        progress.line(&format!("note: the free memory of {names} is not known: whether the runs fit is not checked"));
    }
    let fits = study.arms.iter().map(|arm| (arm.name(), check_fit(&evaluator, arm, &encoders, free, options.stage)));
    let fits: BTreeMap<String, Result<ArmFit>> = fits.collect();

    // Finished runs with the same inputs are kept.
    let note = |text: &str| progress.line(text);
    let is_finished = |run: &RunStore, note: &dyn Fn(&str)| -> Result<bool> {
        let results = run.results(note).filter(|_| run.has_config());
        let done = results.is_some_and(|r| run.has_intact_samples(r.results.keys(), note));
        Ok(done || (options.stage == Some(StudyStage::Train) && run.has_model(note)?))
    };
    // Whether other processes work on the study.
    let shared = runs.iter().map(|(_, _, run)| run.owner()).collect::<Result<Vec<_>>>()?.iter().any(Option::is_some);
    let mut left = Vec::new();
    let mut failures: Vec<MissingRun> = Vec::new();
    for (arm, seed, run) in &runs {
        let check = || -> Result<bool> {
            if let Some(Err(e)) = fits.get(&arm.name()) {
                return Err(copy_error(e));
            }
            let config = evaluator.resolved_config(arm, *seed, &digests(arm, &encoders)?)?;
            let done = is_finished(run, &note)?;
            evaluator.compare_config(run, &config, done, &note)?;
            run.note_missing_checksums(&note)?;
            Ok(done)
        };
        let too_large = fits.get(&arm.name()).and_then(|fit| fit.as_ref().ok()?.peak.as_ref().err());
        match check() {
            Ok(false) if options.stage == Some(StudyStage::Eval) && !run.has_model(&note)? => {
                failures.push(not_trained(&arm.name(), *seed, run, progress));
            }
            Ok(true) => {}
            Ok(false) => match too_large {
                // The process that works on the run has the memory for it.
                Some(e) if run.owner()?.is_none() => match shared {
                    // It may be the runs of others that take the memory, so that this is no failure for them.
                    true => failures.push(sharing::failure(arm, *seed, e, progress)),
                    false => failures.push(sharing::record_failure(arm, *seed, run, e, progress)),
                },
                _ => left.push(OpenRun::new(arm.clone(), *seed, run.clone())),
            },
            Err(e) => failures.push(sharing::record_failure(arm, *seed, run, &e, progress)),
        }
    }
    let done = runs.len() - left.len() - failures.len();
    if done > 0 && !left.is_empty() {
        progress.line(&format!("{done} of {} runs are already done", runs.len()));
    }

    if !left.is_empty() {
        let needed: Vec<&PreparedEncoder> = encoders
            .values()
            .flatten()
            .filter(|p| left.iter().any(|run| run.arm.encoders.contains(&p.encoder)))
            .collect();
        let source = evaluator.config.features;
        let peaks = left.iter().filter_map(|run| fits.get(&run.arm.name())?.as_ref().ok()?.peak.as_ref().ok());
        let largest = peaks.map(|peak| peak.estimate.device).fold(0.0, f64::max);
        let need = free.map(|free| MemoryNeed { run: largest as u64, free });
        let workers = devices.workers(options.jobs, runs.len(), need);
        if let Some(note) = devices.memory_note(&workers, runs.len().min(left.len()), need) {
            progress.line(&note);
        }
        let features = FrozenFeatures::open_all(&needed, source, evaluator.image_set(), &workers, progress)?;
        let features: BTreeMap<String, std::result::Result<Arc<FrozenFeatures>, Error>> =
            needed.iter().zip(features).map(|(p, f)| (p.encoder.to_string(), f.map(Arc::new))).collect();

        let work = |on: usize, run: &OpenRun, store: &RunStore| -> Result<()> {
            let (arm, seed) = (&run.arm, run.seed);
            let parts: Vec<EncoderFeatures> = arm
                .encoders
                .iter()
                .map(|encoder| match (features.get(&encoder.to_string()), encoders.get(&encoder.to_string())) {
                    (Some(Ok(f)), Some(Ok(p))) => {
                        Ok(EncoderFeatures { encoder: encoder.clone(), card: p.card.clone(), features: f.clone() })
                    }
                    (Some(Err(e)), _) => Err(copy_error(e)),
                    _ => Err(Error::failed(format!("{encoder} has no features"))),
                })
                .collect::<Result<_>>()?;
            let digests = digests(arm, &encoders)?;
            let notes = fits.get(&arm.name()).and_then(|fit| Some(fit.as_ref().ok()?.notes.as_slice()));
            let config = evaluator.resolved_config(arm, seed, &digests)?;
            evaluator.write_or_compare_config(store, &config, notes.unwrap_or_default())?;
            run_arm(&evaluator, &devices.get(on), arm, seed, &parts, &digests, store, options.stage, progress)
        };
        // Runs on which other processes work are left to them; this process takes over those whose process ends.
        let side = workers.devices.len().min(left.len());
        let bar = progress.bar("runs", left.len() as u64);
        let mut told = false;
        let mut elsewhere: Vec<OpenRun> = Vec::new();
        while !left.is_empty() {
            let fates = workers::each_on(&workers, left.clone(), |on, run| {
                stop::check()?;
                let finished = |store: &RunStore| is_finished(store, &|_| ());
                let fate = run.attempt(&finished, |store| work(on, &run, store), progress)?;
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
        let peak = memory::peak();
        if devices.is_cpu() && largest > 0.0 && peak > 0 {
            let (peak, estimated) = (gigabytes(peak as f64), gigabytes(cost::memory::side_by_side(largest, side)));
            let files = match memory::mapped() {
                0 => String::new(),
                mapped => format!(", {} of it files that the system can take back", gigabytes(mapped as f64)),
            };
            progress.line(&format!(
                "peak memory {peak}{files}; the estimate for {side} runs at once, without files, was {estimated}"
            ));
        }
    }
    let samples = (evaluator.align.as_ref().map_or(0, |set| set.examples.len()), evaluator.tune_len());
    Ok(RunCounts { runs: runs.len(), failures, samples })
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

fn runs_of(study: &StudyConfig) -> Vec<(String, u64)> {
    study.runs().iter().map(|(arm, seed)| (arm.name(), *seed)).collect()
}

/// Ranks the runs in a study directory (with `only`, just these) and writes `ranking.json`, `report/index.html` and the
/// answer browser `report/answers/`, there or under `out`; `images` says how that refers to images.
pub fn report(
    dir: &Path,
    out: Option<&Path>,
    only: Option<&[(String, u64)]>,
    images: ImageMode,
) -> Result<StudyOutcome> {
    report_with(dir, out, only, &AnswerOptions { images, cells: Some(&TableCells), home: "" })
}

/// As [`report`], with all options of the answer browser.
///
/// # Errors
/// As [`report`].
pub fn report_with(
    dir: &Path,
    out: Option<&Path>,
    only: Option<&[(String, u64)]>,
    browser: &AnswerOptions<'_>,
) -> Result<StudyOutcome> {
    if !dir.is_dir() {
        return Err(Error::usage(format!("{} is not a study directory", dir.display()))
            .hint("give the directory of a study, OUT/<study>, such as runs/nano"));
    }
    // Of several processes that finish a study at once, each reads all results after the one before has written.
    let waiting = |owner: &Owner| Progress::new().line(&format!("waiting for {owner}, which writes the report"));
    let _lease = out.is_none().then(|| store::claim_study(dir, "report", &waiting)).transpose()?;
    let mut data = StudyData::load(dir)?;
    for missing in &mut data.missing {
        if let Some(owner) = RunStore::at(&store::run_dir(dir, &missing.arm, missing.seed)).owner()? {
            missing.cause = format!("not finished: it is being worked on by {owner}");
            missing.hint = Some("run the same command again when it has ended".into());
        }
    }
    if let Some(only) = only {
        let wanted = |arm: &str, seed: u64| only.iter().any(|(a, s)| a == arm && *s == seed);
        data.runs.retain(|r| wanted(&r.results.run.arm, r.results.run.seed));
        data.missing.retain(|m| wanted(&m.arm, m.seed));
        // Runs of which nothing is stored: their tasks did not start.
        let known = |arm: &str, seed: u64| {
            data.runs.iter().any(|r| r.results.run.arm == arm && r.results.run.seed == seed)
                || data.missing.iter().any(|m| m.arm == arm && m.seed == seed)
        };
        let unknown: Vec<MissingRun> =
            only.iter().filter(|(arm, seed)| !known(arm, *seed)).map(never_started).collect();
        data.missing.extend(unknown);
        data.missing.sort_by(|a, b| (&a.arm, a.seed).cmp(&(&b.arm, b.seed)));
    }
    if data.runs.is_empty() {
        let causes: Vec<String> =
            data.missing.iter().take(5).map(|m| format!("\n  {} seed {}: {}", m.arm, m.seed, m.cause)).collect();
        return Err(Error::failed(format!("no run in {} is finished{}", dir.display(), causes.concat())).hint(
            data.missing.iter().find_map(|m| m.hint.clone()).unwrap_or("run `burgess rank` on this study first".into()),
        ));
    }
    let files = out.map_or_else(|| ReportFiles::of_study(dir), ReportFiles::together);
    let (runs, failed) = (data.runs.len() + data.missing.len(), data.missing.len());
    let info = study_info(dir, &mut data)?;
    let written = page::write_study(data, &info, &RankOptions::default(), browser, files)?;
    Ok(StudyOutcome { runs, failed, written })
}

fn never_started((arm, seed): &(String, u64)) -> MissingRun {
    let hint = Some("run the study again: it continues with the unfinished runs".to_string());
    MissingRun { arm: arm.clone(), seed: *seed, cause: "not started".into(), hint }
}

/// Does the stage `report` of a study: writes `ranking.json` and the report from the results that exist. Runs without
/// results are named in both and counted in [`StudyOutcome::failed`].
///
/// # Errors
/// No run has results, or a file cannot be read or written.
pub fn report_stage(study: &StudyConfig, out: &Path) -> Result<StudyOutcome> {
    let dir = out.join(&study.name);
    if dir.is_dir() {
        Provenance::record(&dir, None, Some(study), Some(provenance::command()))?;
    }
    report(&dir, None, Some(&runs_of(study)), ImageMode::Auto)
}

/// Says that the runs of a report were made on devices that compute different bits; `None` if they were not.
fn mixed_devices(data: &StudyData) -> Option<String> {
    let mut devices: BTreeMap<&str, usize> = BTreeMap::new();
    for run in &data.runs {
        *devices.entry(run.results.versions.get("device").unwrap_or(&run.results.device)).or_default() += 1;
    }
    let shown: Vec<String> = devices.iter().map(|(device, runs)| format!("{runs} on {device}")).collect();
    (shown.len() > 1).then(|| {
        format!("the runs were made on {} devices, whose results differ in rounding: {}", shown.len(), shown.join("; "))
    })
}

/// Collects title, question, command and evidence of a study for its report, and sets the directories in which the
/// report looks for images.
fn study_info(dir: &Path, data: &mut StudyData) -> Result<StudyInfo> {
    let study: Value = match dir.join("study.json") {
        path if path.is_file() => atomic::read_json(&path)?,
        _ => Value::Null,
    };
    let text = |key: &str| study.get(key).and_then(Value::as_str).map(String::from);
    let made = Provenance::read(dir)?;
    let named = ["directory", "files/images", "published/images"].map(|key| format!("/evaluator/data/{key}"));
    let named = named.iter().filter_map(|key| study.pointer(key).and_then(Value::as_str)).map(PathBuf::from);
    data.image_dirs = made.iter().flat_map(|m| m.images.clone()).chain(named).collect();
    data.image_dirs.extend([paths::cache(), burgess_encoders::hub::cache()].into_iter().flatten());
    let reading = study.pointer("/evaluator/llm").and_then(Value::as_str).map_or_else(Vec::new, evidence::reading);
    let (claims, pairs) = made.as_ref().map(|m| (m.claims.clone(), m.validity.clone())).unwrap_or_default();
    // The records of encoders are needed only if the study has pairs of probes and questions.
    let encoders: BTreeSet<&str> = data.runs.iter().flat_map(|r| &r.results.run.encoders).map(String::as_str).collect();
    let probes = if pairs.is_empty() { Vec::new() } else { evidence::encoder_probes(encoders) };
    let series = made.as_ref().map_or_else(Vec::new, |m| m.series.clone());
    let evidence = Evidence { claims, reading, pairs, probes, series };
    let command = made
        .map(|m| m.command)
        .filter(|command| !command.is_empty())
        .unwrap_or_else(|| format!("burgess report {}", shell::quoted(dir.as_os_str())));
    Ok(StudyInfo {
        title: text("title").unwrap_or_else(|| data.study.clone()),
        question: text("question").unwrap_or_default(),
        command,
        notes: mixed_devices(data).into_iter().collect(),
        evidence,
    })
}
