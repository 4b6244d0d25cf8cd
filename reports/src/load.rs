//! Loads a study's directory with its finished, failed and unfinished runs.

use crate::formatting;
use crate::schema::{self, MissingRun, MostFrequentAnswer, RunResults, SCHEMA, Sample, TrainStep};
use burgess_base::{Context, Error, Result, atomic, checksums};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// A study with its finished runs, and those without results.
#[derive(Debug, Clone)]
pub struct StudyData {
    /// The study's directory, `OUT/<study>`.
    pub dir: PathBuf,
    /// Name of the study: that of its runs, or of the directory if there are none.
    pub study: String,
    /// Finished runs, ordered by arm and seed.
    pub runs: Vec<RunData>,
    /// Failed and unfinished runs.
    pub missing: Vec<MissingRun>,
    /// Lines that could not be read; only these lines are lost.
    pub problems: Vec<UnreadableLine>,
    /// Further directories with the study's images; images outside these and `dir` are not shown.
    pub image_dirs: Vec<PathBuf>,
}

/// A finished run. Samples stay on disk until requested, because a full study has millions.
#[derive(Debug, Clone)]
pub struct RunData {
    /// The run's directory, `OUT/<study>/<arm>/seed-<n>`.
    pub dir: PathBuf,
    /// Content of `results.json`.
    pub results: RunResults,
    /// Content of `train.jsonl`, without the lines that could not be read.
    pub steps: Vec<TrainStep>,
    /// Path of `samples/<benchmark>.jsonl`, by benchmark.
    pub samples: BTreeMap<String, PathBuf>,
    /// Assumptions made where files were incomplete, from `results.json`.
    pub notes: Vec<String>,
}

/// A line that could not be read, such as a truncated one.
#[derive(Debug, Clone, PartialEq)]
pub struct UnreadableLine {
    /// Path of the file.
    pub file: PathBuf,
    /// Line number, from 1.
    pub line: usize,
    /// Why the line could not be read.
    pub cause: String,
}

impl fmt::Display for UnreadableLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}:{}: {}", self.file.display(), self.line, self.cause);
        f.write_str(&formatting::escaped(&text, false))
    }
}

impl StudyData {
    /// Loads the runs in `OUT/<study>/<arm>/seed-<n>/`.
    ///
    /// A run without `results.json` is listed as missing, with the cause from its `failed.json` or "not finished".
    /// Temporary and hidden directories, `report/` and any other directory without a `seed-<n>` inside are ignored.
    ///
    /// # Errors
    /// An error is returned if the directory itself cannot be read.
    pub fn load(dir: &Path) -> Result<StudyData> {
        if !dir.is_dir() {
            return Err(Error::usage(format!("{} is not a directory", dir.display()))
                .hint("give the directory of a study, such as runs/nano"));
        }
        let name = dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let mut study = Self::empty(dir, name);
        for (arm, arm_dir) in directories(dir)? {
            for (name, run_dir) in directories(&arm_dir)? {
                if let Some(seed) = seed_of(&name) {
                    study.load_run(&arm, seed, run_dir)?;
                }
            }
        }
        study.runs.sort_by(|a, b| {
            let key = |r: &RunData| (r.results.run.arm.clone(), r.results.run.seed);
            key(a).cmp(&key(b))
        });
        study.missing.sort_by(|a, b| (&a.arm, a.seed).cmp(&(&b.arm, b.seed)));
        if let Some(run) = study.runs.first() {
            study.study.clone_from(&run.results.run.study);
        }
        Ok(study)
    }

    /// Loads the runs of one arm from its directory, `OUT/<study>/<arm>`.
    ///
    /// # Errors
    /// As [`StudyData::load`].
    pub fn load_arm(dir: &Path) -> Result<StudyData> {
        let (study_name, arm) = names_of(dir);
        let mut study = Self::empty(dir, study_name);
        for (name, run_dir) in directories(dir)? {
            if let Some(seed) = seed_of(&name) {
                study.load_run(&arm, seed, run_dir)?;
            }
        }
        study.runs.sort_by_key(|r| r.results.run.seed);
        study.missing.sort_by_key(|m| m.seed);
        Ok(study)
    }

    /// Loads one run from its directory, `OUT/<study>/<arm>/seed-<n>`.
    ///
    /// # Errors
    /// As [`StudyData::load`].
    pub fn load_single(dir: &Path) -> Result<StudyData> {
        let (arm, name) = names_of(dir);
        let seed = seed_of(&name).unwrap_or(0);
        let mut study = Self::empty(dir, arm.clone());
        study.load_run(&arm, seed, dir.to_path_buf())?;
        Ok(study)
    }

    fn empty(dir: &Path, study: String) -> Self {
        let dir = dir.to_path_buf();
        Self { dir, study, runs: vec![], missing: vec![], problems: vec![], image_dirs: vec![] }
    }

    fn load_run(&mut self, arm: &str, seed: u64, dir: PathBuf) -> Result<()> {
        match read_results(&dir) {
            Ok(Some((results, notes))) => {
                let train = dir.join("train.jsonl");
                let (steps, problems) =
                    if train.is_file() { read_lines(&train, schema::step_problem)? } else { Default::default() };
                self.problems.extend(problems);
                let samples = sample_files(&dir.join("samples"))?;
                self.runs.push(RunData { dir, results, steps, samples, notes });
            }
            Ok(None) => self.missing.push(why_missing(arm, seed, &dir)),
            Err(e) => self.missing.push(MissingRun {
                arm: arm.to_string(),
                seed,
                cause: e.to_string(),
                hint: Some(e.hint_text().unwrap_or("delete this file and run the study again").to_string()),
            }),
        }
        Ok(())
    }

    /// Computes the most frequent answer from the samples, for results of versions that did not store it, where the
    /// score is below chance and a constant answer may be the reason.
    ///
    /// # Errors
    /// An error is returned if a file of samples cannot be read.
    pub fn count_constant_answers(&mut self) -> Result<()> {
        for run in &mut self.runs {
            let below = |r: &schema::BenchmarkResult| r.most_frequent_answer.is_none() && r.score < r.chance;
            let wanted: Vec<String> =
                run.results.results.iter().filter(|(_, r)| below(r)).map(|(name, _)| name.clone()).collect();
            for name in wanted {
                // Unreadable lines are reported where the questions are shown.
                let (samples, _) = run.read_samples(&name)?;
                if let Some(result) = run.results.results.get_mut(&name) {
                    result.most_frequent_answer = MostFrequentAnswer::of(samples.iter().map(|s| s.parsed.as_deref()));
                }
            }
        }
        Ok(())
    }

    /// Returns all results, in the order of `runs`.
    pub fn results(&self) -> Vec<RunResults> {
        self.runs.iter().map(|r| r.results.clone()).collect()
    }
}

impl RunData {
    /// Reads the questions and answers of one benchmark; empty if the run has no such file.
    ///
    /// # Errors
    /// An error is returned if the file cannot be read. A broken line is not an error but an [`UnreadableLine`]; so is
    /// a file whose checksum does not match, of which no line is used.
    pub fn read_samples(&self, benchmark: &str) -> Result<(Vec<Sample>, Vec<UnreadableLine>)> {
        let Some(path) = self.samples.get(benchmark) else { return Ok(Default::default()) };
        if let Err(e) = checksums::check(&self.dir, &format!("samples/{benchmark}.jsonl")) {
            let cause = format!("{e}; {DAMAGED_HINT}");
            return Ok((Vec::new(), vec![UnreadableLine { file: path.clone(), line: 1, cause }]));
        }
        read_lines(path, schema::sample_problem)
    }
}

/// Hint for a file whose checksum does not match.
const DAMAGED_HINT: &str = "run the study again: damaged files are made again";

/// Reads the results with their notes; numbers out of range are rejected with file and key.
fn read_results(dir: &Path) -> Result<Option<(RunResults, Vec<String>)>> {
    let path = dir.join("results.json");
    if !path.is_file() {
        return Ok(None);
    }
    checksums::check(dir, "results.json").map_err(|e| e.hint(DAMAGED_HINT))?;
    let step = || format!("reading {}", path.display());
    let bytes = fs::read(&path).with_context(step)?;
    // A NaN written by another program is reported by its key, like any other number out of range.
    let value: Value = burgess_base::json::from_slice(&bytes).with_context(step)?;
    // The schema version is checked first, because a file of another version may lack fields and should not be reported
    // as damaged.
    let found = value.get("schema").and_then(Value::as_u64);
    if let Some(found) = found.filter(|found| *found != u64::from(SCHEMA)) {
        return Err(Error::failed(format!(
            "{} has schema {found}, but this version of burgess reads schema {SCHEMA}",
            path.display()
        ))
        .hint("run the study again with this version, in another directory"));
    }
    if let Some(problem) = schema::out_of_range(&value) {
        return Err(Error::failed(format!("{}: {problem}", path.display()))
            .hint("the file was changed or damaged: delete it and run the study again"));
    }
    let notes = value.get("notes").map(notes).unwrap_or_default();
    let results = RunResults::deserialize(&value).with_context(step)?;
    Ok(Some((results, notes)))
}

/// Converts notes of any JSON type to texts.
fn notes(value: &Value) -> Vec<String> {
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), String::from);
    match value {
        Value::Null => Vec::new(),
        Value::Array(notes) => notes.iter().map(text).collect(),
        Value::Object(notes) => notes.iter().map(|(about, note)| format!("{about}: {}", text(note))).collect(),
        one => vec![text(one)],
    }
}

/// Returns the names of the directory's parent and of the directory itself.
fn names_of(dir: &Path) -> (String, String) {
    // Paths such as `.` have no names; their canonical paths do.
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let name = |path: Option<&Path>| {
        path.and_then(Path::file_name).map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    };
    (name(dir.parent()), name(Some(&dir)))
}

fn why_missing(arm: &str, seed: u64, dir: &Path) -> MissingRun {
    let path = dir.join("failed.json");
    let other = |cause: String| MissingRun {
        arm: arm.to_string(),
        seed,
        cause,
        hint: Some("run the same command again: it continues with the unfinished runs".to_string()),
    };
    if !path.is_file() {
        return other("not finished".to_string());
    }
    atomic::read_json(&path).unwrap_or_else(|e| other(format!("failed; the cause is unknown, because {e}")))
}

/// Reads JSON lines; those that do not parse, or that `problem` rejects, are returned with file and line.
fn read_lines<T: DeserializeOwned>(
    path: &Path,
    problem: fn(&T) -> Option<String>,
) -> Result<(Vec<T>, Vec<UnreadableLine>)> {
    let step = || format!("reading {}", path.display());
    let mut reader = BufReader::new(fs::File::open(path).with_context(step)?);
    let (mut values, mut problems) = (Vec::new(), Vec::new());
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes).with_context(step)? == 0 {
            break;
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let cause = match serde_json::from_slice(&bytes) {
            Ok(value) => match problem(&value) {
                None => {
                    values.push(value);
                    continue;
                }
                Some(cause) => cause,
            },
            Err(e) if e.is_eof() => "the line is cut off".to_string(),
            Err(e) => e.to_string(),
        };
        problems.push(UnreadableLine { file: path.to_path_buf(), line, cause });
    }
    Ok((values, problems))
}

fn sample_files(dir: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    if dir.is_dir() {
        for path in entries(dir)? {
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            // A named pipe would block.
            if let Some(benchmark) = name.strip_suffix(".jsonl").filter(|_| path.is_file()) {
                files.insert(benchmark.to_string(), path);
            }
        }
    }
    Ok(files)
}

/// Returns the seed in the name of a run's directory, `seed-<n>`; `None` for other names.
pub fn seed_of(name: &str) -> Option<u64> {
    name.strip_prefix("seed-")?.parse().ok()
}

/// Lists the directories in a directory with their names, sorted; hidden and temporary ones are left out.
///
/// # Errors
/// An error is returned if the directory cannot be read.
pub fn directories(dir: &Path) -> Result<Vec<(String, PathBuf)>> {
    let named = entries(dir)?.into_iter().filter(|p| p.is_dir()).filter_map(|p| {
        let name = p.file_name()?.to_string_lossy().into_owned();
        (!name.ends_with(".tmp") && !name.starts_with('.')).then_some((name, p))
    });
    Ok(named.collect())
}

/// Lists a directory sorted by name, so that nothing depends on the file system's order.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let step = || format!("reading {}", dir.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).with_context(step)? {
        paths.push(entry.with_context(step)?.path());
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULTS: &str = r#"{"schema":1,"run":{"id":"r","study":"s","arm":"a","encoders":["a"],"freeze":"frozen",
        "connector":"mlp","llm":"l","seed":0},"results":{},"categories":{},"average":0,"cost":{"encoder_params":1,
        "gflops_per_image":1,"tokens":1,"train_seconds":1,"images_per_second":1,"peak_memory_bytes":1},"config":null,
        "versions":{},"digests":{},"date":"","device":"flex"}"#;
    const STEP: &str = r#"{"stage":"tune","step":1,"loss":2.5,"lr":0.1,"grad_norm":1,"tokens":9,"seconds":0.1}"#;

    fn put(dir: &Path, name: &str, text: &str) {
        atomic::write(&dir.join(name), text.as_bytes()).unwrap();
    }

    #[test]
    fn every_state_of_a_run_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        put(d, "a/seed-0/results.json", RESULTS);
        put(d, "a/seed-0/train.jsonl", &format!("{STEP}\n{STEP}\n{}", &STEP[..30]));
        put(d, "a/seed-0/samples/b.jsonl", "{\"id\": 3}\n");
        put(d, "a/seed-1/config.json", "{}");
        put(d, "a/seed-1/results.json.1-2.tmp", RESULTS);
        put(d, "b/seed-0/failed.json", r#"{"arm":"b","seed":0,"cause":"loss is NaN","hint":null}"#);
        put(d, "c/seed-0/results.json", &RESULTS[..50]);
        put(d, "d/seed-0/results.json", r#"{"schema": 99}"#);
        put(d, "e.tmp/seed-0/results.json", RESULTS);
        put(d, "report/index.html", "");
        let study = StudyData::load(d).unwrap();

        assert_eq!(study.study, "s");
        assert_eq!(study.runs.len(), 1);
        assert_eq!(study.runs[0].steps.len(), 2);
        assert_eq!(study.problems.len(), 1);
        assert_eq!((study.problems[0].line, study.problems[0].cause.as_str()), (3, "the line is cut off"));
        let (samples, problems) = study.runs[0].read_samples("b").unwrap();
        assert!(samples.is_empty() && problems.len() == 1);

        let causes: Vec<_> = study.missing.iter().map(|m| (m.arm.as_str(), m.seed, m.cause.as_str())).collect();
        assert_eq!(causes[0], ("a", 1, "not finished"));
        assert_eq!(causes[1], ("b", 0, "loss is NaN"));
        assert!(causes[2].2.contains("results.json"), "{}", causes[2].2);
        assert!(causes[3].2.contains("schema 99"), "{}", causes[3].2);
        assert_eq!(causes.len(), 4);
    }

    #[test]
    fn errors_about_impossible_numbers_name_file_and_key() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        put(d, "a/seed-0/results.json", &RESULTS.replace("\"average\":0", "\"average\":1e300"));
        put(d, "b/seed-0/results.json", &RESULTS.replace("\"average\":0", "\"average\":NaN"));
        put(d, "c/seed-0/results.json", &RESULTS.replace("\"date\"", "\"notes\":[\"pre assumed\"],\"date\""));
        put(d, "c/seed-0/train.jsonl", &format!("{STEP}\n{}\n", STEP.replace("2.5", "1e300")));
        let study = StudyData::load(d).unwrap();
        let causes: Vec<&str> = study.missing.iter().map(|m| m.cause.as_str()).collect();
        assert!(causes[0].contains("a/seed-0/results.json: average is 1e300, expected 0 to 100"), "{}", causes[0]);
        assert!(causes[1].contains("b/seed-0/results.json: average is not a number"), "{}", causes[1]);
        assert_eq!((study.runs.len(), study.runs[0].steps.len()), (1, 1));
        assert_eq!(study.runs[0].notes, ["pre assumed"]);
        assert!(study.problems[0].cause.starts_with("loss is 1e300"), "{}", study.problems[0].cause);
    }

    #[test]
    fn a_path_that_is_not_a_directory_is_wrong_usage() {
        let error = StudyData::load(Path::new("/nonexistent/runs")).unwrap_err();
        assert_eq!(error.exit_code(), 2);
    }
}
