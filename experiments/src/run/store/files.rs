//! The files of a run: results, samples, answers so far, models and the training log.

use super::RunStore;
use crate::run::tensorboard::{self, EventLog};
use burgess_base::checksums;
use burgess_base::{Context, Error, Result, atomic};
use burgess_reports::schema::{Likelihoods, MissingRun, RunResults, Sample, TrainStep};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

const RESULTS: &str = "results.json";
/// File name of the training log.
const TRAIN_LOG: &str = "train.jsonl";
/// File name of the record of a failure.
const FAILURE: &str = "failed.json";

/// Largest absolute score that is accepted from a file; sums of percentages, as in MME, stay far below it.
const LARGEST_SCORE: f64 = 1e5;

impl RunStore {
    /// Reads the results if the run is finished and `results.json` is undamaged. Damaged results count as absent,
    /// because they can be computed again from the samples; `note` receives the reason.
    pub fn results(&self, note: &dyn Fn(&str)) -> Option<RunResults> {
        let read = |bytes: &[u8]| -> Result<RunResults> {
            let results: RunResults = serde_json::from_slice(bytes)?;
            check_results(&results).map(|()| results)
        };
        self.read(RESULTS, read).unwrap_or_else(|e| {
            note(&format!("note: {e}; the results are computed again from the samples"));
            None
        })
    }

    /// Reads and parses a file that has a checksum; `None` if the file does not exist.
    fn read<T>(&self, name: &str, parse: impl FnOnce(&[u8]) -> Result<T>) -> Result<Option<T>> {
        let path = self.dir.join(name);
        let step = || format!("reading {}", path.display());
        if !path.exists() {
            return Ok(None);
        }
        checksums::check(&self.dir, name)?;
        let bytes = fs::read(&path).with_context(step)?;
        parse(&bytes).map(Some).map_err(|e| e.context(step()))
    }

    /// Whether the existing samples of these benchmarks match their checksums.
    pub fn has_intact_samples<'a>(&self, benchmarks: impl Iterator<Item = &'a String>, note: &dyn Fn(&str)) -> bool {
        let whole = |id: &String| match checksums::check(&self.dir, &samples_name(id)) {
            Err(e) if self.samples(id).exists() => {
                note(&format!("note: {e}"));
                false
            }
            _ => true,
        };
        benchmarks.filter(|id| !whole(id)).count() == 0
    }

    /// Whether the trained model exists and is undamaged. A damaged model of a claimed run is
    /// removed, so that it is trained again.
    ///
    /// # Errors
    /// A damaged model cannot be removed.
    pub fn has_model(&self, note: &dyn Fn(&str)) -> Result<bool> {
        self.is_intact(&self.model(), "the model is trained again", note)
    }

    /// As [`has_model`](Self::has_model), for the connector that the align stage gave.
    ///
    /// # Errors
    /// A damaged connector cannot be removed.
    pub fn has_aligned(&self, note: &dyn Fn(&str)) -> Result<bool> {
        self.is_intact(&self.aligned(), "it is aligned again", note)
    }

    fn is_intact(&self, dir: &Path, otherwise: &str, note: &dyn Fn(&str)) -> Result<bool> {
        if !dir.is_dir() {
            return Ok(false);
        }
        match checksums::check_all(dir) {
            Ok(_) => Ok(true),
            Err(e) => {
                note(&format!("note: {e}; {otherwise}"));
                // Another process may be writing what this one only looks at.
                if self.is_claimed() {
                    self.check_owned()?;
                    fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
                }
                Ok(false)
            }
        }
    }

    /// Writes `results.json`, adds the scores to the run's event file, and removes the record of an earlier failure.
    ///
    /// # Errors
    /// A file cannot be written, or another process took the run over.
    pub fn write_results(&self, results: &RunResults) -> Result<()> {
        self.check_owned()?;
        checksums::write_json(&self.dir, RESULTS, results)?;
        self.add_scores_to_events(results)?;
        self.remove_failure()
    }

    /// Adds the scores to the run's event file. An evaluated model that was not trained here has no training log, and
    /// then no event file either.
    fn add_scores_to_events(&self, results: &RunResults) -> Result<()> {
        if !self.dir.join(TRAIN_LOG).is_file() {
            return Ok(());
        }
        tensorboard::add_scores(&self.dir, &self.train_steps()?, results)
    }

    /// Writes `failed.json`, which says why the run failed, for the ranking and for the next start.
    pub fn write_failure(&self, missing: &MissingRun) -> Result<()> {
        self.check_owned()?;
        atomic::write_json(&self.failure_path(), missing)
    }

    /// Reads `failed.json`; `None` if the run did not fail, or the file is damaged.
    pub fn failure(&self) -> Option<MissingRun> {
        atomic::read_json(&self.failure_path()).ok()
    }

    pub(super) fn failure_path(&self) -> PathBuf {
        self.dir.join(FAILURE)
    }

    /// Removes `failed.json`, the record of an earlier failure.
    pub fn remove_failure(&self) -> Result<()> {
        match fs::remove_file(self.failure_path()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).context("removing failed.json"),
            _ => Ok(()),
        }
    }

    /// Directory of the connector after the align stage.
    pub fn aligned(&self) -> PathBuf {
        self.dir.join("aligned")
    }

    /// File of the resumable training state of a stage.
    pub fn state(&self, stage: &str) -> PathBuf {
        self.dir.join("state").join(format!("{stage}.safetensors"))
    }

    /// Removes the training states of all stages; called once the model is saved.
    pub fn remove_states(&self) -> Result<()> {
        let dir = self.dir.join("state");
        self.check_owned()?;
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("removing {}", dir.display()))
            }
            _ => Ok(()),
        }
    }

    /// Directory of the trained model.
    pub fn model(&self) -> PathBuf {
        self.dir.join("model")
    }

    /// File of a benchmark's samples: one line per question, with its answer.
    pub fn samples(&self, benchmark: &str) -> PathBuf {
        self.dir.join(samples_name(benchmark))
    }

    /// Reads the samples of a benchmark if all its questions were answered and the file is undamaged. Damaged samples
    /// count as absent; `note` receives the reason.
    pub fn read_samples(&self, benchmark: &str, note: &dyn Fn(&str)) -> Option<Vec<Sample>> {
        let parse = |bytes: &[u8]| -> Result<Vec<Sample>> {
            let lines = std::str::from_utf8(bytes)?.lines().enumerate();
            let sample = |(i, line): (usize, &str)| {
                let sample: Sample = serde_json::from_str(line).with_context(|| format!("line {}", i + 1))?;
                check_sample(&sample).with_context(|| format!("line {}", i + 1)).map(|()| sample)
            };
            lines.map(sample).collect()
        };
        self.read(&samples_name(benchmark), parse).unwrap_or_else(|e| {
            note(&format!("note: {e}; {benchmark} is evaluated again"));
            None
        })
    }

    /// Reads the answers given before an interruption; empty unless they belong to the questions with digest `of`.
    pub fn read_partial(&self, benchmark: &str, of: &str) -> PartialAnswers {
        let parse = |bytes: &[u8]| Ok(serde_json::from_slice::<PartialAnswers>(bytes)?);
        // Damaged answers are generated again.
        let found = self.read(&part_name(benchmark), parse).ok().flatten();
        let empty = PartialAnswers { of: of.to_string(), ..PartialAnswers::default() };
        found.filter(|a| a.of == of).unwrap_or(empty)
    }

    /// Writes the answers given so far.
    pub fn write_partial(&self, benchmark: &str, answered: &PartialAnswers) -> Result<()> {
        self.check_owned()?;
        checksums::write(&self.dir, &part_name(benchmark), &serde_json::to_vec(answered)?)
    }

    /// Removes the partial answers; called once the samples are written.
    pub fn remove_partial(&self, benchmark: &str) -> Result<()> {
        self.check_owned()?;
        checksums::remove(&self.dir, &part_name(benchmark))
    }

    /// Writes the samples of a benchmark as one file with a checksum.
    pub fn write_samples(&self, benchmark: &str, samples: &[Sample]) -> Result<()> {
        self.check_owned()?;
        let mut text = Vec::new();
        for sample in samples {
            serde_json::to_writer(&mut text, sample)?;
            text.push(b'\n');
        }
        checksums::write(&self.dir, &samples_name(benchmark), &text)
    }

    /// Reads `train.jsonl`. A line that was cut off is left out.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn train_steps(&self) -> Result<Vec<TrainStep>> {
        let path = self.dir.join(TRAIN_LOG);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Sum of the durations of all training steps, in seconds.
    ///
    /// # Errors
    /// `train.jsonl` cannot be read.
    pub fn train_seconds(&self) -> Result<f64> {
        Ok(self.train_steps()?.iter().map(|s| s.seconds).sum())
    }

    /// Opens `train.jsonl` and the event file for appending. Keeps the lines of the stages in `keep` up to the step
    /// given with each, and drops the others: an interruption lost their outcome, so those steps are trained and logged
    /// again.
    ///
    /// # Errors
    /// A file cannot be read or written, or another process took the run over.
    pub fn train_log(&self, keep: &[(&str, usize)]) -> Result<TrainLog> {
        let path = self.dir.join(TRAIN_LOG);
        let step = || format!("writing {}", path.display());
        let text = match fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            other => other.with_context(step)?,
        };
        let (mut steps, mut kept) = (Vec::new(), String::new());
        for line in text.lines() {
            let Ok(step) = serde_json::from_str::<TrainStep>(line) else { continue };
            if keep.iter().any(|(stage, last)| step.stage == *stage && step.step <= *last) {
                kept += line;
                kept.push('\n');
                steps.push(step);
            }
        }
        self.check_owned()?;
        atomic::write(&path, kept.as_bytes())?;
        let events = EventLog::open(&self.dir, &steps)?;
        let file = File::options().append(true).open(&path).with_context(step)?;
        Ok(TrainLog { file, path, events })
    }
}

fn samples_name(benchmark: &str) -> String {
    format!("samples/{benchmark}.jsonl")
}

/// Checks that the numbers of a sample are in range: scores 0 to 1, log-likelihoods finite.
fn check_sample(sample: &Sample) -> Result<()> {
    let likelihoods = sample.likelihoods.iter();
    let scores = [("score", sample.score), ("blind_score", sample.blind_score)];
    for (name, score) in scores.into_iter().chain(likelihoods.clone().map(|l| ("likelihoods.score", l.score))) {
        if !(0.0..=1.0).contains(&score) {
            return Err(Error::failed(format!("`{name}` of `{}` is {score}, expected 0 to 1", sample.id)));
        }
    }
    match likelihoods.flat_map(|l| &l.options).find(|(_, value)| !value.is_finite()) {
        Some((option, value)) => {
            Err(Error::failed(format!("the log-likelihood of `{option}` is {value}, which is not finite")))
        }
        None => Ok(()),
    }
}

/// Checks that the numbers of results are finite and at most [`LARGEST_SCORE`] in size.
fn check_results(results: &RunResults) -> Result<()> {
    let possible = |value: f64| value.is_finite() && value.abs() <= LARGEST_SCORE;
    for (id, r) in &results.results {
        let numbers = [("score", r.score), ("stderr", r.stderr), ("chance", r.chance), ("blind", r.blind)];
        for (name, value) in numbers.into_iter().chain(r.likelihood.map(|l| ("likelihood", l))) {
            if !possible(value) {
                return Err(Error::failed(format!(
                    "`{name}` of {id} is {value}, expected a number of at most {LARGEST_SCORE} in size"
                )));
            }
        }
        let wrong = |u: &&burgess_reports::schema::UnitScore| {
            ![u.sum, u.weight, u.blind].iter().all(|v| possible(*v)) || u.weight < 0.0
        };
        if let Some(unit) = r.units.iter().find(wrong) {
            return Err(Error::failed(format!("unit `{}` of {id} has a sum or weight out of range", unit.id)));
        }
    }
    match results.categories.iter().find(|(_, v)| !possible(**v)) {
        Some((category, value)) => {
            Err(Error::failed(format!("category {category} has the score {value}, which is out of range")))
        }
        None if !possible(results.average) => {
            Err(Error::failed(format!("`average` is {}, which is out of range", results.average)))
        }
        None => Ok(()),
    }
}

fn part_name(benchmark: &str) -> String {
    format!("samples/{benchmark}.part.json")
}

/// The answers to some questions of a benchmark, from which an interrupted run resumes, by the indices of the
/// questions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartialAnswers {
    /// Digest of the questions and of how they are asked.
    pub of: String,
    /// Seconds that the answers took.
    pub seconds: f64,
    /// Tokens of the answers.
    pub answers: BTreeMap<usize, Vec<u32>>,
    /// Log-likelihoods of the options of questions that have options.
    pub option_scores: BTreeMap<usize, Likelihoods>,
    /// Tokens of the answers without the image.
    pub blind: BTreeMap<usize, Vec<u32>>,
}

/// Appends training steps to `train.jsonl`, one line per step, and to the event file. Both can be read during the run.
pub struct TrainLog {
    file: File,
    path: PathBuf,
    events: EventLog,
}

impl TrainLog {
    /// Appends one step.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn write(&mut self, step: &TrainStep) -> Result<()> {
        let mut line = serde_json::to_vec(step)?;
        line.push(b'\n');
        self.file.write_all(&line).with_context(|| format!("writing {}", self.path.display()))?;
        self.events.add(step)
    }
}
