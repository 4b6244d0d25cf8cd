//! Scores a zoo: runs its arms, all in full or in a race, and writes the ranking, the report and `results-mllm.csv`.

use super::list::{ZooFailure, ZooList, with_arms};
use super::models;
use super::race::{RaceProgress, RaceRun, RungStudy};
use crate::machine::progress::Progress;
use crate::run::plan;
use crate::run::ranking;
use crate::run::study_runs::{self, StudyOptions};
use crate::study::{Arm, StudyConfig, benchmark_files};
use burgess_base::{Error, Result, atomic};
use burgess_reports::answers::ImageMode;
use burgess_reports::load::StudyData;
use burgess_reports::page::WrittenReport;
use burgess_reports::racing::{RaceRecord, RaceRules};
use burgess_reports::ranking::Ranking;
use burgess_reports::schema::MissingRun;
use burgess_reports::zoo::{RESULTS_FILE, ZooRow, zoo_csv};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How a zoo is scored.
#[derive(Clone, Debug)]
pub struct ZooOptions {
    /// Output directory, device and number of parallel runs.
    pub study: StudyOptions,
    /// Rules of the race; `None` to train every arm in full.
    pub race: Option<RaceRules>,
}

/// What was scored.
pub struct ZooOutcome {
    /// Path of `results-mllm.csv`.
    pub results: PathBuf,
    /// Ranking and report of the arms that were trained on all data; in a race that ended before, of its last rung.
    pub written: WrittenReport,
    /// The race, if there was one.
    pub race: Option<RaceRecord>,
    /// Number of arms with a score.
    pub scored: usize,
    /// Encoders without a score, with their causes.
    pub failed: Vec<ZooFailure>,
}

/// Makes the study of a zoo.
///
/// # Errors
/// None of the encoders can be loaded, or the study is not valid with these arms.
pub fn study_of(study: &StudyConfig, list: &ZooList) -> Result<StudyConfig> {
    if list.arms.is_empty() {
        let cause = list.failed.first().map_or_else(String::new, |f| format!("; first {}: {}", f.encoder, f.cause));
        let error = Error::failed(format!("none of the {} encoders can be loaded{cause}", list.failed.len()));
        let hint = list.failed.first().and_then(|failure| failure.hint.clone());
        return Err(error.hint(hint.unwrap_or_else(|| "`burgess encoders ID` says what is missing".into())));
    }
    with_arms(study, list.arms.clone())
}

/// Scores the arms of a zoo, continuing where an earlier call stopped. An encoder that fails does not stop the others.
///
/// # Errors
/// No encoder can be loaded, the evaluator or its data cannot be used, no arm has results, or a file cannot be written.
pub fn score(study: &StudyConfig, list: &ZooList, options: &ZooOptions, progress: &Progress) -> Result<ZooOutcome> {
    let study = study_of(study, list)?;
    let dir = options.study.out.join(&study.name);
    let mut failed = list.failed.clone();
    for failure in &failed {
        progress.line(&format!("{} cannot be loaded: {}", failure.encoder, failure.cause));
    }
    write_study(&study, &options.study.out)?;
    let (written, rows, race) = match &options.race {
        None => {
            let counts = study_runs::run_study(&dir, &study, &options.study, progress)?;
            failed.extend(counts.failures.iter().map(failure_of));
            let written = ranking::report(&dir, None, Some(&runs_of(&study)), ImageMode::Auto)?.written;
            let rows = rows(&study, &written.ranking, None, &answer_seconds(&dir)?)?;
            (written, rows, None)
        }
        Some(rules) => {
            let run = RaceRun::new(&study, rules, &options.study.out)?;
            let raced = race(&run, options, progress)?;
            failed.extend(raced.failed.values().cloned());
            finish_race(&run, &study, &raced, options, progress)?
        }
    };
    let results = dir.join(RESULTS_FILE);
    atomic::write(&results, zoo_csv(&rows, &written.ranking.categories).as_bytes())?;
    let scored = rows.len();
    let about = json!({"study": study.name, "listed": scored + failed.len(), "scored": scored, "failed": failed});
    atomic::write_json(&dir.join("zoo.json"), &about)?;
    Ok(ZooOutcome { results, written, race, scored, failed })
}

/// Runs the rungs of a race until nothing is left to run.
fn race(run: &RaceRun<'_>, options: &ZooOptions, progress: &Progress) -> Result<RaceProgress> {
    let mut failed: BTreeMap<String, ZooFailure> = BTreeMap::new();
    loop {
        let state = run.replay(&failed)?;
        let Some(next) = &state.next else { return Ok(state) };
        progress.line(&format!(
            "rung {}: {} arms on {} of the training data, in {}",
            next.number + 1,
            next.study.arms.len(),
            next.study.evaluator.share.unwrap_or(1.0),
            next.dir().display()
        ));
        write_study(&next.study, &next.out)?;
        let rung = StudyOptions { out: next.out.clone(), ..options.study.clone() };
        let counts = study_runs::run_study(&next.dir(), &next.study, &rung, progress)?;
        for missing in &counts.failures {
            failed.entry(missing.arm.clone()).or_insert_with(|| failure_of(missing));
        }
        // The results of all other runs exist, so that the next rung follows.
        let again = run.replay(&failed)?;
        if again.next.as_ref().is_some_and(|after| after.number == next.number) {
            return Err(Error::failed(format!("rung {} of the race could not be finished", next.number + 1))
                .hint("run the same command again: it continues with the unfinished runs"));
        }
    }
}

/// Writes the report of a finished race and makes the rows of its table.
fn finish_race(
    run: &RaceRun<'_>,
    study: &StudyConfig,
    raced: &RaceProgress,
    options: &ZooOptions,
    progress: &Progress,
) -> Result<(WrittenReport, Vec<ZooRow>, Option<RaceRecord>)> {
    let record = run.record(raced, &options.study, progress)?;
    let dir = options.study.out.join(&study.name);
    record.write(&dir)?;
    let last = raced.rungs.last().ok_or_else(|| {
        let cause = raced.failed.values().next().map_or_else(String::new, |f| format!("; {}: {}", f.encoder, f.cause));
        Error::failed(format!("all arms of the race failed{cause}")).hint("remove the cause and run the command again")
    })?;
    let part = run.study_of(last, study);
    if part.dir() != dir {
        record.write(&part.dir())?;
    }
    let written = ranking::report(&part.dir(), None, Some(&runs_of(&part.study)), ImageMode::Auto)?.written;
    let mut table: BTreeMap<String, ZooRow> = BTreeMap::new();
    for rung in &raced.rungs {
        for row in rows(study, &rung.ranking, Some((&record, rung.number)), &rung.answer_seconds)? {
            table.insert(row.model.arm.clone(), row);
        }
    }
    Ok((written, table.into_values().collect(), Some(record)))
}

/// Makes the rows of the arms of a ranking; `race` is the race and the number of the rung.
fn rows(
    study: &StudyConfig,
    ranking: &Ranking,
    race: Option<(&RaceRecord, usize)>,
    answer_seconds: &BTreeMap<String, f64>,
) -> Result<Vec<ZooRow>> {
    let mut rows = Vec::new();
    for arm in &ranking.arms {
        let Some(config) = study.arms.iter().find(|config| config.name() == arm.arm) else { continue };
        let share = race.and_then(|(record, rung)| record.rungs.get(rung)).map_or(1.0, |rung| rung.share);
        rows.push(ZooRow {
            model: models::describe(config, &study.evaluator)?,
            arm: arm.clone(),
            share,
            race: race.and_then(|(record, _)| record.arm(&arm.arm)).cloned(),
            answer_seconds: answer_seconds.get(&arm.arm).copied().unwrap_or(0.0),
        });
    }
    Ok(rows)
}

/// Mean seconds of asking and scoring by arm, from the results in a study's directory.
fn answer_seconds(dir: &Path) -> Result<BTreeMap<String, f64>> {
    let mut all: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for run in StudyData::load(dir)?.runs {
        let seconds = run.results.results.values().map(|result| result.seconds).sum();
        all.entry(run.results.run.arm.clone()).or_default().push(seconds);
    }
    Ok(all.into_iter().map(|(arm, s)| (arm, s.iter().sum::<f64>() / s.len().max(1) as f64)).collect())
}

fn failure_of(missing: &MissingRun) -> ZooFailure {
    ZooFailure {
        encoder: format!("{} (seed {})", missing.arm, missing.seed),
        cause: missing.cause.clone(),
        hint: missing.hint.clone(),
    }
}

fn runs_of(study: &StudyConfig) -> Vec<(String, u64)> {
    study.runs().iter().map(|(arm, seed)| (arm.name(), *seed)).collect()
}

/// Writes a study as `OUT/<study>.toml`, for the tasks of a cluster, and returns the path.
///
/// # Errors
/// The file cannot be written.
pub fn write_study(study: &StudyConfig, out: &Path) -> Result<PathBuf> {
    let mut study = study.clone();
    // A benchmark file is known by its path alone.
    for name in &mut study.evaluator.benchmarks {
        if let Some(file) = benchmark_files::find(name)?.definition() {
            *name = std::path::absolute(file.path)?.to_string_lossy().into_owned();
        }
    }
    let text = toml::to_string_pretty(&study).map_err(|e| Error::failed(format!("writing the study as TOML: {e}")))?;
    let path = study_file(&study, out);
    let head = "# The arms of a zoo under one evaluator, written by `burgess zoo score`.\n\n";
    atomic::write(&path, (head.to_string() + &text).as_bytes())?;
    Ok(path)
}

/// Path of the file of a zoo's study.
pub fn study_file(study: &StudyConfig, out: &Path) -> PathBuf {
    out.join(format!("{}.toml", study.name))
}

/// The study whose tasks come next, after writing it: the zoo's, or the next rung of its race; `None` if the race is
/// over. Runs that failed before are left out of the race once no other run of their rung is left.
///
/// # Errors
/// As [`score`].
pub fn next_tasks(study: &StudyConfig, list: &ZooList, options: &ZooOptions) -> Result<Option<RungStudy>> {
    let study = study_of(study, list)?;
    let out = &options.study.out;
    let Some(rules) = &options.race else {
        write_study(&study, out)?;
        return Ok(Some(RungStudy { number: 0, study, out: out.clone() }));
    };
    let run = RaceRun::new(&study, rules, out)?;
    let mut failed = BTreeMap::new();
    loop {
        let Some(next) = run.replay(&failed)?.next else { return Ok(None) };
        let (done, causes) = run.tried(&next)?;
        if !done || causes.is_empty() {
            write_study(&next.study, &next.out)?;
            return Ok(Some(next));
        }
        failed.extend(causes.into_iter().map(|missing| (missing.arm.clone(), failure_of(&missing))));
    }
}

/// Formats the plan of a zoo: encoders that cannot be loaded, the rungs of the race, and the plan of the study.
///
/// # Errors
/// As [`score`].
pub fn plan_text(
    study: &StudyConfig,
    list: &ZooList,
    options: &ZooOptions,
    width: usize,
    progress: &Progress,
) -> Result<String> {
    let study = study_of(study, list)?;
    let mut text = format!("# zoo: {} arms, {} encoders cannot be loaded\n", study.arms.len(), list.failed.len());
    for failure in &list.failed {
        text += &format!("#   {}: {}\n", failure.encoder, failure.cause.replace('\n', " "));
    }
    if let Some(rules) = &options.race {
        let run = RaceRun::new(&study, rules, &options.study.out)?;
        text += &format!("#\n# race for the best {}: {}\n", rules.k, rules.correction());
        for (number, rung) in rules.rungs.iter().enumerate() {
            let part = run.rung(number, rung, &[]);
            let arms = if number == 0 { format!("{} arms", run.raced()) } else { "the arms that are left".to_string() };
            text += &format!(
                "#   rung {}: {} of the training data, seeds {:?}, {arms}, in {}\n",
                number + 1,
                rung.share,
                part.study.seeds,
                part.dir().display()
            );
        }
        text += "# the plan below is that of the grid: every arm with every seed on all data\n";
    }
    text += "#\n";
    Ok(text + &plan::plan(&study, &options.study, progress)?.text(width)?)
}

/// The names of arms, for JSON.
pub fn names(arms: &[Arm]) -> Vec<String> {
    arms.iter().map(Arm::name).collect()
}
