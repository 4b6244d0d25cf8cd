//! Where a study stands: the state of each run, from the run store and, where jobs were submitted, from Slurm.

use crate::launch::run_state::{RunPhase, RunState};
use crate::launch::slurm::QueuedTask;
use crate::machine::text_table::{self, Align};
use crate::run::stages::StudyStage;
use burgess_base::text::excerpt;
use burgess_base::{Error, Result, atomic};
use burgess_reports::load::{directories, seed_of};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest cause of a failure in the table, in characters.
const CAUSE: usize = 160;

/// Where a study stands.
#[derive(Debug, Serialize)]
pub struct StudyStatus {
    /// Directory of the study.
    pub directory: PathBuf,
    /// Number of benchmarks of the study.
    pub benchmarks: usize,
    /// The runs, in the order in which they are done.
    pub runs: Vec<RunStatus>,
    /// Whether the ranking exists.
    pub ranking: bool,
}

/// Where a run stands.
#[derive(Debug, Serialize)]
pub struct RunStatus {
    /// Name of the arm.
    pub arm: String,
    /// Random seed.
    pub seed: u64,
    /// State of the run in words: a phase of [`RunPhase`], or `encoding` while a job computes features that it needs.
    pub state: String,
    /// What the run store says.
    #[serde(flatten)]
    pub stored: RunState,
    /// Tasks of the run that Slurm knows as pending or running.
    pub slurm: Vec<SlurmTask>,
}

/// A task of Slurm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlurmTask {
    /// Stage of the study.
    pub stage: StudyStage,
    /// Job id: `12`, or `12_3` for a task of an array.
    pub job: String,
    /// State in Slurm's words, such as `PENDING`.
    pub state: String,
    /// Why it is pending, such as `Dependency`.
    pub reason: String,
}

/// A run to report on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedRun {
    /// Name of the arm.
    pub arm: String,
    /// Random seed.
    pub seed: u64,
    /// The encoders of the arm, as the study writes them; empty if they are not known.
    pub encoders: Vec<String>,
}

impl StudyStatus {
    /// Reads the status of runs in a study's directory. `queued` are the tasks that Slurm knows, by task id.
    ///
    /// # Errors
    /// The lease on a run cannot be read.
    pub fn read(
        directory: &Path,
        wanted: &[WantedRun],
        benchmarks: &[String],
        queued: &BTreeMap<String, QueuedTask>,
    ) -> Result<Self> {
        let runs = wanted.iter().map(|run| RunStatus::read(directory, run, benchmarks, queued));
        Ok(Self {
            directory: directory.to_path_buf(),
            benchmarks: benchmarks.len(),
            runs: runs.collect::<Result<_>>()?,
            ranking: directory.join("ranking.json").is_file(),
        })
    }

    /// Formats the status as a table of at most `width` characters, with a summary and the causes of failures.
    pub fn text(&self, width: usize) -> String {
        let with_slurm = self.runs.iter().any(|run| !run.slurm.is_empty());
        let mut header = vec!["arm", "seed", "state", "step", "loss", "time left", "benchmarks", "score", "process"];
        let mut sides = vec![Align::Left, Align::Right, Align::Left];
        sides.extend([Align::Right; 5]);
        sides.push(Align::Left);
        if with_slurm {
            header.push("slurm");
            sides.push(Align::Left);
        }
        let mut rows = vec![header.iter().map(ToString::to_string).collect::<Vec<_>>()];
        for run in &self.runs {
            let mut row = run.cells(self.benchmarks);
            if with_slurm {
                let tasks = run.slurm.iter().map(SlurmTask::text).collect::<Vec<_>>();
                row.push(tasks.join(", "));
            }
            rows.push(row);
        }
        let mut text = text_table::table(&rows, &sides, "", width);
        text += &format!("\n{}\n", self.summary());
        for run in self.runs.iter().filter(|run| run.stored.phase == RunPhase::Failed) {
            let Some(failure) = &run.stored.failure else { continue };
            text += &format!("\n{} (seed {}): {}\n", run.arm, run.seed, excerpt(&failure.cause, CAUSE));
            if let Some(hint) = &failure.hint {
                text += &format!("  hint: {}\n", excerpt(hint, CAUSE));
            }
        }
        text
    }

    /// One line with the number of runs in each state.
    fn summary(&self) -> String {
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for run in &self.runs {
            match counts.iter_mut().find(|(state, _)| *state == run.state) {
                Some((_, count)) => *count += 1,
                None => counts.push((&run.state, 1)),
            }
        }
        let states: Vec<String> = counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let ranking = match self.ranking {
            true => format!("ranking: {}", self.directory.join("ranking.json").display()),
            false => "no ranking yet".to_string(),
        };
        let noun = if self.runs.len() == 1 { "run" } else { "runs" };
        format!("{} {noun}: {}; {ranking}", self.runs.len(), states.join(", "))
    }
}

impl RunStatus {
    fn read(
        directory: &Path,
        run: &WantedRun,
        benchmarks: &[String],
        queued: &BTreeMap<String, QueuedTask>,
    ) -> Result<Self> {
        let dir = directory.join(&run.arm).join(format!("seed-{}", run.seed));
        let stored = RunState::read(&dir, benchmarks)?;
        let find = |stage: StudyStage| {
            let found = queued.get(&format!("{stage}/{}/seed-{}", run.arm, run.seed));
            found.map(|task| SlurmTask::of(stage, task))
        };
        let mut slurm: Vec<SlurmTask> = [StudyStage::Train, StudyStage::Eval].into_iter().filter_map(find).collect();
        let encoding = run.encoders.iter().filter_map(|e| queued.get(&format!("{}/{e}", StudyStage::Encode)));
        let encoding: Vec<&QueuedTask> = encoding.collect();
        let waits =
            matches!(stored.phase, RunPhase::ToDo | RunPhase::Failed) && !slurm.iter().any(SlurmTask::is_running);
        let mut state = stored.phase.as_str().to_string();
        if waits && let Some(task) = encoding.iter().find(|task| task.state == "RUNNING") {
            state = "encoding".into();
            slurm.insert(0, SlurmTask::of(StudyStage::Encode, task));
        }
        Ok(Self { arm: run.arm.clone(), seed: run.seed, state, stored, slurm })
    }

    /// The cells of the run's row, without that of Slurm.
    fn cells(&self, benchmarks: usize) -> Vec<String> {
        let stored = &self.stored;
        let done = stored.phase == RunPhase::Done;
        let training = stored.training.as_ref();
        // Once the model is saved, the last step of the training tells nothing any more.
        let training =
            training.filter(|_| matches!(self.state.as_str(), "training" | "stopped" | "stale owner" | "failed"));
        let step = training.map(|t| match t.steps {
            Some(steps) => format!("{} {} of {steps}", t.stage, t.step),
            None => format!("{} {}", t.stage, t.step),
        });
        let loss = stored.training.as_ref().map(|t| format!("{:.3}", t.loss));
        let left = training.filter(|_| self.state == "training").and_then(|t| t.seconds_left).map(duration);
        let answered = match stored.benchmarks {
            0 if !done && stored.phase != RunPhase::Answering => String::new(),
            answered => format!("{answered} of {benchmarks}"),
        };
        let owner = stored.owner.as_ref().map(|owner| {
            let silent = (stored.phase == RunPhase::StaleOwner)
                .then(|| format!(", silent for {}", duration(owner.seconds_silent)));
            owner.process.clone() + &silent.unwrap_or_default()
        });
        vec![
            self.arm.clone(),
            self.seed.to_string(),
            self.state.clone(),
            step.unwrap_or_default(),
            loss.unwrap_or_default(),
            left.unwrap_or_default(),
            answered,
            stored.average.map(|average| format!("{average:.1}")).unwrap_or_default(),
            owner.unwrap_or_default(),
        ]
    }
}

impl SlurmTask {
    fn of(stage: StudyStage, task: &QueuedTask) -> Self {
        Self { stage, job: task.id(), state: task.state.clone(), reason: task.reason.clone() }
    }

    fn is_running(&self) -> bool {
        self.state == "RUNNING"
    }

    fn text(&self) -> String {
        let state = self.state.to_lowercase();
        match self.reason.as_str() {
            "" | "None" => format!("{} {} {state}", self.stage, self.job),
            reason => format!("{} {} {state} ({reason})", self.stage, self.job),
        }
    }
}

/// Formats seconds to two units: `1h 5m`, `42s`.
fn duration(seconds: f64) -> String {
    // About 30 years; longer estimates carry no information.
    let seconds = Duration::from_secs(seconds.clamp(0.0, 1e9) as u64);
    let whole = humantime::format_duration(seconds).to_string();
    whole.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

/// Finds the runs that exist in a study's directory, ordered by seed and arm.
///
/// # Errors
/// The directory cannot be read.
pub fn runs_in(directory: &Path) -> Result<Vec<WantedRun>> {
    let mut found = Vec::new();
    for (arm, path) in directories(directory)? {
        for (name, _) in directories(&path)? {
            if let Some(seed) = seed_of(&name) {
                found.push(WantedRun { arm: arm.clone(), seed, encoders: Vec::new() });
            }
        }
    }
    found.sort_by(|a, b| (a.seed, &a.arm).cmp(&(b.seed, &b.arm)));
    Ok(found)
}

/// Ids of the benchmarks of the study in a directory, from its `study.json`.
///
/// # Errors
/// The directory is not that of a study, or the file is damaged.
pub fn benchmarks_in(directory: &Path) -> Result<Vec<String>> {
    let path = directory.join("study.json");
    if !path.is_file() {
        return Err(Error::usage(format!("{} is not a study directory: it has no study.json", directory.display()))
            .hint("give a study, or the directory of one, OUT/<study>, such as runs/nano"));
    }
    let study: Value = atomic::read_json(&path)?;
    let ids = study.pointer("/evaluator/benchmarks").and_then(Value::as_array);
    Ok(ids.into_iter().flatten().filter_map(|id| id.as_str().map(String::from)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::run_state::{RunOwner, TrainingProgress};
    use burgess_reports::schema::MissingRun;
    use std::fs;

    fn stored(phase: RunPhase) -> RunState {
        RunState { phase, training: None, benchmarks: 0, average: None, failure: None, owner: None }
    }

    fn training(step: usize) -> Option<TrainingProgress> {
        let (stage, steps, seconds_left) = ("tune".to_string(), Some(1300), Some(4210.0));
        Some(TrainingProgress { stage, step, steps, loss: 1.2345, seconds_left })
    }

    fn owner(seconds_silent: f64) -> Option<RunOwner> {
        Some(RunOwner { process: "node12:4711".into(), job: Some("101_3".into()), seconds_silent })
    }

    fn run(arm: &str, seed: u64, stored: RunState, slurm: &[(StudyStage, &str, &str, &str)]) -> RunStatus {
        let slurm = slurm.iter().map(|(stage, job, state, reason)| SlurmTask {
            stage: *stage,
            job: job.to_string(),
            state: state.to_string(),
            reason: reason.to_string(),
        });
        RunStatus { arm: arm.into(), seed, state: stored.phase.as_str().into(), stored, slurm: slurm.collect() }
    }

    #[test]
    fn table() {
        let failure = MissingRun {
            arm: "nano-mae".into(),
            seed: 0,
            cause: "the loss of step 17 of tune is NaN".into(),
            hint: Some("lower `lr`".into()),
        };
        let waiting = (StudyStage::Eval, "102_3", "PENDING", "Dependency");
        let mut status = StudyStatus {
            directory: "runs/nano".into(),
            benchmarks: 4,
            ranking: false,
            runs: vec![
                run("nano-sup", 0, RunState { average: Some(61.25), benchmarks: 4, ..stored(RunPhase::Done) }, &[]),
                run("nano-mae", 0, RunState { failure: Some(failure), ..stored(RunPhase::Failed) }, &[]),
                run(
                    "nano-mae+nano-sup",
                    0,
                    RunState { training: training(420), owner: owner(3.0), ..stored(RunPhase::Training) },
                    &[(StudyStage::Train, "101_3", "RUNNING", "None"), waiting],
                ),
                run(
                    "oracle",
                    0,
                    RunState {
                        training: training(1300),
                        benchmarks: 2,
                        owner: owner(3.0),
                        ..stored(RunPhase::Answering)
                    },
                    &[],
                ),
                run(
                    "nano-sup",
                    7,
                    RunState { training: training(12), owner: owner(400.0), ..stored(RunPhase::StaleOwner) },
                    &[],
                ),
                run(
                    "oracle",
                    7,
                    stored(RunPhase::ToDo),
                    &[(StudyStage::Train, "101_7", "PENDING", "JobArrayTaskLimit")],
                ),
            ],
        };
        insta::assert_snapshot!("status", status.text(200));
        for run in &mut status.runs {
            run.slurm.clear();
        }
        status.runs.truncate(2);
        status.ranking = true;
        insta::assert_snapshot!("status-without-slurm", status.text(100));
    }

    #[test]
    fn a_run_waits_while_its_features_are_computed() -> Result<()> {
        let place = tempfile::tempdir()?;
        let wanted = WantedRun { arm: "a".into(), seed: 0, encoders: vec!["nano-sup".into()] };
        let task = QueuedTask { job: "5".into(), index: Some(0), state: "RUNNING".into(), reason: "None".into() };
        let queued = BTreeMap::from([("encode/nano-sup".to_string(), task)]);
        let status = StudyStatus::read(place.path(), &[wanted], &[], &queued)?;
        assert_eq!(status.runs[0].state, "encoding");
        assert_eq!(status.runs[0].slurm[0].job, "5_0");
        Ok(())
    }

    #[test]
    fn runs_of_a_directory_are_found() -> Result<()> {
        let place = tempfile::tempdir()?;
        for name in ["b/seed-0", "a/seed-1", "a/seed-0", "report", "slurm/logs", ".hidden/seed-0", "a/seed-0.1-2.tmp"] {
            fs::create_dir_all(place.path().join(name))?;
        }
        let found: Vec<(String, u64)> = runs_in(place.path())?.into_iter().map(|run| (run.arm, run.seed)).collect();
        assert_eq!(found, [("a".to_string(), 0), ("b".to_string(), 0), ("a".to_string(), 1)]);
        let e = benchmarks_in(place.path()).unwrap_err();
        assert!(e.exit_code() == 2 && e.hint_text().is_some_and(|h| h.contains("runs/nano")), "{e}");
        Ok(())
    }
}
