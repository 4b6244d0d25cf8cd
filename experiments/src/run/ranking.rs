//! Ranking a study: all its runs, then `ranking.json` and the report.

use crate::data::TableCells;
use crate::machine::lease::Owner;
use crate::machine::progress::Progress;
use crate::machine::{paths, shell};
use crate::run::evidence;
use crate::run::provenance::{self, Provenance};
use crate::run::store::{self, RunStore};
use crate::run::study_runs::{StudyOptions, run_study};
use crate::study::StudyConfig;
use burgess_base::{Error, Result, atomic};
use burgess_reports::answers::{AnswerOptions, ImageMode};
use burgess_reports::load::StudyData;
use burgess_reports::page::{self, Evidence, ReportFiles, StudyInfo, WrittenReport};
use burgess_reports::ranking::RankOptions;
use burgess_reports::schema::MissingRun;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Result of `burgess rank`.
pub struct StudyOutcome {
    /// Paths of the ranking and the report.
    pub written: WrittenReport,
    /// Number of runs of the study.
    pub runs: usize,
    /// Number of failed runs.
    pub failed: usize,
}

/// Runs a study, continuing where an earlier call stopped, and writes `ranking.json` and the report.
pub fn rank_study(study: &StudyConfig, options: &StudyOptions, progress: &Progress) -> Result<StudyOutcome> {
    let dir = options.out.join(&study.name);
    let counts = run_study(&dir, study, options, progress)?;
    let mut outcome = report(&dir, None, Some(&runs_of(study)), ImageMode::Auto)?;
    (outcome.runs, outcome.failed) = (counts.runs, counts.failures.len());
    Ok(outcome)
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
