//! The run store, `OUT/<study>/<arm>/seed-<n>/`, which holds the finished and resumable work of runs.

use burgess_base::checksums::{self, Verification};
use burgess_base::{Context, Error, Result, atomic, differences, output, temporary};
use burgess_reports::schema::{Likelihoods, MissingRun, RunResults, Sample, TrainStep};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The directory of one study, which is locked while this value lives.
pub struct StudyStore {
    dir: PathBuf,
    _lock: File,
}

impl StudyStore {
    /// Opens or creates `dir` for a study with this evaluator.
    ///
    /// # Errors
    /// The directory cannot be written, another process works in it, or it holds runs of a different evaluator. Runs of
    /// two evaluators are never mixed; the error lists the differences.
    pub fn open(dir: &Path, evaluator: &Value) -> Result<Self> {
        let lock = lock(dir)?;
        let path = dir.join("study.json");
        if path.exists() {
            let there: Value = atomic::read_json(&path)?;
            let differences = differences(&there, evaluator);
            if !differences.is_empty() {
                let shown: Vec<String> = differences.iter().take(8).map(|d| format!("\n  {d}")).collect();
                let more = differences.len().saturating_sub(8);
                let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
                return Err(Error::usage(format!(
                    "{} holds runs of a different configuration; runs of two configurations are never mixed:{}{more}",
                    dir.display(),
                    shown.concat()
                ))
                .hint(format!("choose another output directory, or remove {}", dir.display())));
            }
        } else {
            atomic::write_json(&path, evaluator)?;
        }
        Ok(Self { dir: dir.to_path_buf(), _lock: lock })
    }

    /// Path of the study's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the store of one run.
    pub fn run(&self, arm: &str, seed: u64) -> RunStore {
        RunStore { dir: self.dir.join(arm).join(format!("seed-{seed}")) }
    }
}

/// Time between two saved states of a run, and so the most work that an interruption loses.
pub const SAVE_INTERVAL: Duration = Duration::from_secs(60);

/// Depth of the directory tree below a study's directory: arm, run, and the run's own folders.
const DEPTH: usize = 4;

/// Creates `dir` if needed and locks it while the returned file is held. Removes temporary files that killed processes
/// left there.
///
/// # Errors
/// The directory cannot be written, or another process works in it.
pub fn lock(dir: &Path) -> Result<File> {
    let step = || format!("opening the directory {}", dir.display());
    output::check_directory(dir)?;
    fs::create_dir_all(dir).with_context(step)?;
    let lock = File::options().create(true).truncate(false).write(true).open(dir.join(".lock")).with_context(step)?;
    match lock.try_lock() {
        Ok(()) => {
            temporary::remove_stale(dir, DEPTH);
            Ok(lock)
        }
        Err(TryLockError::WouldBlock) => Err(Error::failed(format!("another burgess is working in {}", dir.display()))
            .hint("wait for it to end, or choose another output directory")),
        Err(TryLockError::Error(e)) => Err(e).with_context(step),
    }
}

/// File name of a run's configuration; like the results, it has a checksum in the run's directory.
const CONFIG: &str = "config.json";
const RESULTS: &str = "results.json";

/// Largest absolute score that is accepted from a file; sums of percentages, as in MME, stay far below it.
const LARGEST_SCORE: f64 = 1e5;

/// The directory of one run.
#[derive(Clone, Debug)]
pub struct RunStore {
    dir: PathBuf,
}

impl RunStore {
    /// Makes a store at a given directory, outside a study (`burgess train`).
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf() }
    }

    /// Path of the run's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes `config.json`, or checks that the existing one has the same values. A run that was made from other
    /// weights or data is an error and is never continued.
    pub fn write_or_compare_config(&self, config: &Value) -> Result<()> {
        let path = self.dir.join(CONFIG);
        if path.exists() {
            let remove = || format!("remove {} to run this arm again", self.dir.display());
            let damage = checksums::check(&self.dir, CONFIG).err();
            let there: Value = match (atomic::read_json(&path), &damage) {
                (Ok(there), _) => there,
                (Err(_), Some(damage)) => return Err(Error::failed(damage.to_string()).hint(remove())),
                (Err(e), None) => return Err(e.hint(remove())),
            };
            let mut differences = differences(&there, config);
            // Notes describe how the inputs were read; they are not inputs.
            differences.retain(|d| !d.starts_with("notes: "));
            if let (Some(damage), false) = (damage, differences.is_empty()) {
                return Err(damage.hint(remove()));
            }
            if let Some(first) = differences.first() {
                return Err(Error::failed(format!(
                    "{} was made from other inputs: {first}{}",
                    self.dir.display(),
                    if differences.len() > 1 {
                        format!(" (and {} more)", differences.len() - 1)
                    } else {
                        String::new()
                    }
                ))
                .hint(format!("remove {} to run this arm again", self.dir.display())));
            }
            return Ok(());
        }
        checksums::write_json(&self.dir, CONFIG, config)
    }

    /// Reads the results if the run is finished and `results.json` is undamaged. Damaged results count as absent,
    /// because they can be computed again from the samples; `note` receives the reason.
    ///
    /// # Errors
    /// Never, at present: an unreadable file counts as damaged.
    pub fn results(&self, note: &dyn Fn(&str)) -> Result<Option<RunResults>> {
        let read = |bytes: &[u8]| -> Result<RunResults> {
            let results: RunResults = serde_json::from_slice(bytes)?;
            check_results(&results).map(|()| results)
        };
        Ok(self.read(RESULTS, read).unwrap_or_else(|e| {
            note(&format!("note: {e}; the results are computed again from the samples"));
            None
        }))
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

    /// Reports through `note` that the run was made by an earlier version, which wrote no checksums.
    pub fn note_missing_checksums(&self, note: &dyn Fn(&str)) -> Result<()> {
        if self.dir.join(CONFIG).is_file()
            && checksums::check(&self.dir, CONFIG).is_ok_and(|k| k == Verification::NoChecksum)
        {
            note(&format!(
                "note: {} was made by an earlier version without checksums and is used unchecked",
                self.dir.display()
            ));
        }
        Ok(())
    }

    /// Whether the trained model exists and is undamaged. A damaged model is removed, so that it is trained again.
    ///
    /// # Errors
    /// A damaged model cannot be removed.
    pub fn has_model(&self, note: &dyn Fn(&str)) -> Result<bool> {
        Self::is_intact(&self.model(), "the model is trained again", note)
    }

    /// As [`has_model`](Self::has_model), for the connector that the align stage gave.
    ///
    /// # Errors
    /// A damaged connector cannot be removed.
    pub fn has_aligned(&self, note: &dyn Fn(&str)) -> Result<bool> {
        Self::is_intact(&self.aligned(), "it is aligned again", note)
    }

    fn is_intact(dir: &Path, otherwise: &str, note: &dyn Fn(&str)) -> Result<bool> {
        if !dir.is_dir() {
            return Ok(false);
        }
        match checksums::check_all(dir) {
            Ok(_) => Ok(true),
            Err(e) => {
                note(&format!("note: {e}; {otherwise}"));
                fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))?;
                Ok(false)
            }
        }
    }

    /// Writes `results.json` and removes the record of an earlier failure.
    pub fn write_results(&self, results: &RunResults) -> Result<()> {
        checksums::write_json(&self.dir, RESULTS, results)?;
        self.remove_failure()
    }

    /// Writes `failed.json`, which says why the run failed, for the ranking and for the next start.
    pub fn write_failure(&self, missing: &MissingRun) -> Result<()> {
        atomic::write_json(&self.dir.join("failed.json"), missing)
    }

    /// Reads `failed.json`: why an earlier attempt of this run failed. `None` if none failed or the file is damaged.
    pub fn failure(&self) -> Option<MissingRun> {
        atomic::read_json(&self.dir.join("failed.json")).ok()
    }

    /// Removes `failed.json`, the record of an earlier failure.
    pub fn remove_failure(&self) -> Result<()> {
        match fs::remove_file(self.dir.join("failed.json")) {
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
    ///
    /// # Errors
    /// Never, at present: an unreadable file counts as damaged.
    pub fn read_samples(&self, benchmark: &str, note: &dyn Fn(&str)) -> Result<Option<Vec<Sample>>> {
        let parse = |bytes: &[u8]| -> Result<Vec<Sample>> {
            let lines = std::str::from_utf8(bytes)?.lines().enumerate();
            let sample = |(i, line): (usize, &str)| {
                let sample: Sample = serde_json::from_str(line).with_context(|| format!("line {}", i + 1))?;
                check_sample(&sample).with_context(|| format!("line {}", i + 1)).map(|()| sample)
            };
            lines.map(sample).collect()
        };
        Ok(self.read(&samples_name(benchmark), parse).unwrap_or_else(|e| {
            note(&format!("note: {e}; {benchmark} is evaluated again"));
            None
        }))
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
        checksums::write(&self.dir, &part_name(benchmark), &serde_json::to_vec(answered)?)
    }

    /// Removes the partial answers; called once the samples are written.
    pub fn remove_partial(&self, benchmark: &str) -> Result<()> {
        checksums::remove(&self.dir, &part_name(benchmark))
    }

    /// Writes the samples of a benchmark as one file with a checksum.
    pub fn write_samples(&self, benchmark: &str, samples: &[Sample]) -> Result<()> {
        let mut text = Vec::new();
        for sample in samples {
            serde_json::to_writer(&mut text, sample)?;
            text.push(b'\n');
        }
        checksums::write(&self.dir, &samples_name(benchmark), &text)
    }

    /// Sum of the durations of all training steps, in seconds.
    pub fn train_seconds(&self) -> Result<f64> {
        let path = self.dir.join("train.jsonl");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(text.lines().filter_map(|l| serde_json::from_str::<TrainStep>(l).ok()).map(|s| s.seconds).sum())
    }

    /// Opens `train.jsonl` for appending. Keeps the lines of the stages in `keep` up to the step given with each, and
    /// drops the others: an interruption lost their outcome, so those steps are trained and logged again.
    pub fn train_log(&self, keep: &[(&str, usize)]) -> Result<TrainLog> {
        let path = self.dir.join("train.jsonl");
        let step = || format!("writing {}", path.display());
        let kept: Vec<String> = match fs::read_to_string(&path) {
            Ok(text) => text
                .lines()
                .filter(|line| {
                    let kept = |s: &TrainStep| keep.iter().any(|(stage, last)| s.stage == *stage && s.step <= *last);
                    serde_json::from_str::<TrainStep>(line).is_ok_and(|s| kept(&s))
                })
                .map(String::from)
                .collect(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(e).with_context(step),
        };
        let mut text = kept.join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        atomic::write(&path, text.as_bytes())?;
        let file = File::options().append(true).open(&path).with_context(step)?;
        Ok(TrainLog { file, path })
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

/// The answers to the first questions of a benchmark, in whole batches, from which an interrupted run resumes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartialAnswers {
    /// Digest of the questions and of how they are asked.
    pub of: String,
    /// Tokens of the answers to the first questions.
    pub answers: Vec<Vec<u32>>,
    /// Log-likelihoods of the options of the same questions; `None` for a question without options.
    #[serde(rename = "weighed")]
    pub option_scores: Vec<Option<Likelihoods>>,
    /// Tokens of the first answers without an image.
    pub blind: Vec<Vec<u32>>,
}

/// Appends training steps to `train.jsonl`, one line per step, which can be read during the run.
pub struct TrainLog {
    file: File,
    path: PathBuf,
}

impl TrainLog {
    /// Appends one step.
    pub fn write(&mut self, step: &TrainStep) -> Result<()> {
        let mut line = serde_json::to_vec(step)?;
        line.push(b'\n');
        self.file.write_all(&line).with_context(|| format!("writing {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_directory_of_another_configuration_is_refused_and_left_alone() -> Result<()> {
        let tmp = tempfile::tempdir()?;
        drop(StudyStore::open(tmp.path(), &json!({"steps": 1}))?);
        let e = StudyStore::open(tmp.path(), &json!({"steps": 2})).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(e.contains("steps: 1 stored, 2 now"), "{e}");
        assert!(StudyStore::open(tmp.path(), &json!({"steps": 1})).is_ok());
        Ok(())
    }

    #[test]
    fn two_processes_do_not_share_a_study_directory() -> Result<()> {
        let tmp = tempfile::tempdir()?;
        let first = StudyStore::open(tmp.path(), &json!({}))?;
        let e = StudyStore::open(tmp.path(), &json!({})).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(e.contains("another burgess"), "{e}");
        drop(first);
        assert!(StudyStore::open(tmp.path(), &json!({})).is_ok());
        Ok(())
    }

    fn sample(score: f64) -> Sample {
        Sample {
            id: "a".into(),
            unit: "a".into(),
            subtask: String::new(),
            question: "?".into(),
            prompt: "?".into(),
            image: String::new(),
            target: "b".into(),
            answer: "b".into(),
            parsed: None,
            score,
            blind_answer: String::new(),
            blind_score: 0.0,
            options: Vec::new(),
            likelihoods: None,
        }
    }

    #[test]
    fn damaged_samples_are_none_and_a_note_says_why() -> Result<()> {
        let tmp = tempfile::tempdir()?;
        let run = RunStore::at(tmp.path());
        let told = std::cell::RefCell::new(Vec::new());
        let note = |text: &str| told.borrow_mut().push(text.to_string());
        assert_eq!(run.read_samples("b", &note)?, None);
        run.write_samples("b", &[sample(1.0), sample(0.5)])?;
        assert_eq!(run.read_samples("b", &note)?.map(|s| s.len()), Some(2));
        assert!(told.borrow().is_empty());
        let text = fs::read_to_string(run.samples("b"))?;
        fs::write(run.samples("b"), text.replacen("1.0", "0.0", 1))?;
        assert_eq!(run.read_samples("b", &note)?, None);
        assert!(told.borrow()[0].contains("b.jsonl is not what was written"), "{told:?}");
        // Without checksums, as in runs of earlier versions, the range of the numbers is still checked.
        fs::remove_file(tmp.path().join(checksums::FILE))?;
        for bad in ["1e300", "-0.5", "1.5"] {
            fs::write(run.samples("b"), text.replacen("0.5", bad, 1))?;
            assert_eq!(run.read_samples("b", &note)?, None, "{bad}");
            assert!(told.borrow().last().is_some_and(|t| t.contains("line 2: `score` of `a`")), "{told:?}");
        }
        Ok(())
    }

    #[test]
    fn answers_on_the_way_are_those_of_the_same_questions() -> Result<()> {
        let tmp = tempfile::tempdir()?;
        let run = RunStore::at(tmp.path());
        let kept =
            PartialAnswers { of: "x".into(), answers: vec![vec![1, 2]], blind: vec![], option_scores: vec![None] };
        run.write_partial("b", &kept)?;
        assert_eq!(run.read_partial("b", "x"), kept);
        assert!(run.read_partial("b", "y").answers.is_empty());
        let file = tmp.path().join("samples/b.part.json");
        fs::write(&file, fs::read_to_string(&file)?.replace("[1,2]", "[1,3]"))?;
        assert!(run.read_partial("b", "x").answers.is_empty());
        run.remove_partial("b")?;
        assert!(!file.exists() && checksums::check(tmp.path(), "samples/b.part.json")? == Verification::NoChecksum);
        Ok(())
    }

    #[test]
    fn steps_whose_outcome_was_lost_are_dropped_from_the_log() -> Result<()> {
        let tmp = tempfile::tempdir()?;
        let run = RunStore::at(tmp.path());
        let line = |stage: &str, step: usize| {
            format!(
                "{{\"stage\":\"{stage}\",\"step\":{step},\"loss\":1.0,\"lr\":0.1,\"grad_norm\":1.0,\"tokens\":1,\"seconds\":0.1}}\n"
            )
        };
        let all: String = [("align", 1), ("tune", 1), ("tune", 2), ("tune", 3)].map(|(s, n)| line(s, n)).concat();
        let path = tmp.path().join("train.jsonl");
        fs::write(&path, format!("{all}{{\"sta"))?;
        drop(run.train_log(&[("align", usize::MAX), ("tune", 2)])?);
        assert_eq!(fs::read_to_string(&path)?, format!("{}{}{}", line("align", 1), line("tune", 1), line("tune", 2)));
        drop(run.train_log(&[("align", 0)])?);
        assert_eq!(fs::read_to_string(&path)?, "");
        Ok(())
    }
}
