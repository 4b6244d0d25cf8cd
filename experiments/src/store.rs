//! The run store: `OUT/<study>/<arm>/seed-<n>/`, where finished work is kept and found again.

use burgess_base::{Context, Error, Result, atomic, differences};
use burgess_reports::schema::{Missing, RunResults, Sample, Step};
use serde_json::Value;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The directory of one study, locked for as long as this value lives.
pub struct StudyStore {
    dir: PathBuf,
    _lock: File,
}

impl StudyStore {
    /// Opens or makes `dir` for a study measured by `evaluator`.
    ///
    /// # Errors
    /// The directory cannot be written, another process is working in it, or it was made by a different
    /// evaluator: results of two evaluators are never mixed, the error says what differs.
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
                .hint(format!("choose another directory with --out, or remove {}", dir.display())));
            }
        } else {
            atomic::write_json(&path, evaluator)?;
        }
        Ok(Self { dir: dir.to_path_buf(), _lock: lock })
    }

    /// The study's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The store of one run.
    pub fn run(&self, arm: &str, seed: u64) -> RunStore {
        RunStore { dir: self.dir.join(arm).join(format!("seed-{seed}")) }
    }
}

/// Makes `dir` where it is missing, and locks it for as long as the returned file is held.
///
/// # Errors
/// The directory cannot be written, or another process is working in it.
pub fn lock(dir: &Path) -> Result<File> {
    let step = || format!("opening the directory {}", dir.display());
    fs::create_dir_all(dir).with_context(step)?;
    let lock = File::options().create(true).truncate(false).write(true).open(dir.join(".lock")).with_context(step)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(Error::failed(format!("another burgess is working in {}", dir.display()))
            .hint("wait for it to end, or choose another directory with --out")),
        Err(TryLockError::Error(e)) => Err(e).with_context(step),
    }
}

/// The directory of one run.
#[derive(Clone, Debug)]
pub struct RunStore {
    dir: PathBuf,
}

impl RunStore {
    /// A store at a directory of its own (`burgess train`).
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf() }
    }

    /// The run's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes `config.json`, or checks that the one there says the same. A run that was made from other
    /// weights or data is set aside by name, never continued.
    pub fn claim(&self, config: &Value) -> Result<()> {
        let path = self.dir.join("config.json");
        if path.exists() {
            let there: Value = atomic::read_json(&path)?;
            let mut differences = differences(&there, config);
            // Notes say how the inputs were read; they are none.
            differences.retain(|d| !d.starts_with("notes: "));
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
                .hint(format!("remove {} to run this arm anew", self.dir.display())));
            }
            return Ok(());
        }
        atomic::write_json(&path, config)
    }

    /// The finished results, if the run is finished.
    pub fn results(&self) -> Result<Option<RunResults>> {
        let path = self.dir.join("results.json");
        if path.exists() { atomic::read_json(&path).map(Some) } else { Ok(None) }
    }

    /// Writes `results.json` and forgets an earlier failure.
    pub fn finish(&self, results: &RunResults) -> Result<()> {
        atomic::write_json(&self.dir.join("results.json"), results)?;
        self.forget_failure()
    }

    /// Notes why the run could not be done, for the ranking and for the next start.
    pub fn fail(&self, missing: &Missing) -> Result<()> {
        atomic::write_json(&self.dir.join("failed.json"), missing)
    }

    /// Removes the note of an earlier failure.
    pub fn forget_failure(&self) -> Result<()> {
        match fs::remove_file(self.dir.join("failed.json")) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).context("removing failed.json"),
            _ => Ok(()),
        }
    }

    /// Where the connector is kept between the stages.
    pub fn aligned(&self) -> PathBuf {
        self.dir.join("aligned")
    }

    /// Where the state of a stage is kept while it is trained.
    pub fn state(&self, stage: &str) -> PathBuf {
        self.dir.join("state").join(format!("{stage}.safetensors"))
    }

    /// Removes the states of all stages, once the model is there.
    pub fn forget_states(&self) -> Result<()> {
        let dir = self.dir.join("state");
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("removing {}", dir.display()))
            }
            _ => Ok(()),
        }
    }

    /// Where the trained model is kept.
    pub fn model(&self) -> PathBuf {
        self.dir.join("model")
    }

    /// Where the questions and answers of a benchmark are kept.
    pub fn samples(&self, benchmark: &str) -> PathBuf {
        self.dir.join("samples").join(format!("{benchmark}.jsonl"))
    }

    /// The samples of a benchmark that was asked before, if it was asked to the end.
    pub fn read_samples(&self, benchmark: &str) -> Result<Option<Vec<Sample>>> {
        let path = self.samples(benchmark);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let samples: Result<Vec<Sample>> = text
            .lines()
            .enumerate()
            .map(|(i, line)| {
                serde_json::from_str(line).with_context(|| format!("reading {}:{}", path.display(), i + 1))
            })
            .collect();
        samples.map(Some)
    }

    /// Writes the samples of a benchmark, whole.
    pub fn write_samples(&self, benchmark: &str, samples: &[Sample]) -> Result<()> {
        atomic::write_with(&self.samples(benchmark), |w| {
            for sample in samples {
                serde_json::to_writer(&mut *w, sample)?;
                w.write_all(b"\n")?;
            }
            Ok(())
        })
    }

    /// Seconds spent in training steps.
    pub fn train_seconds(&self) -> Result<f64> {
        let path = self.dir.join("train.jsonl");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(text.lines().filter_map(|l| serde_json::from_str::<Step>(l).ok()).map(|s| s.seconds).sum())
    }

    /// Opens `train.jsonl` for more steps. Lines of the stages in `keep` stay, up to the step given with each; the others,
    /// whose outcome was lost in an interruption, are dropped: they will be written again.
    pub fn train_log(&self, keep: &[(&str, usize)]) -> Result<TrainLog> {
        let path = self.dir.join("train.jsonl");
        let step = || format!("writing {}", path.display());
        let kept: Vec<String> = match fs::read_to_string(&path) {
            Ok(text) => text
                .lines()
                .filter(|line| {
                    let kept = |s: &Step| keep.iter().any(|(stage, last)| s.stage == *stage && s.step <= *last);
                    serde_json::from_str::<Step>(line).is_ok_and(|s| kept(&s))
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

/// Appends steps to `train.jsonl`, a line each, readable while the run goes on.
pub struct TrainLog {
    file: File,
    path: PathBuf,
}

impl TrainLog {
    /// Writes one step.
    pub fn write(&mut self, step: &Step) -> Result<()> {
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
        assert!(e.contains("steps: 1 there, 2 here"), "{e}");
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
