//! The list of a study's tasks.

use crate::launch::run_state::{RunPhase, RunState};
use crate::run::stages::{StudyStage, choose_encoders};
use crate::run::store::run_dir;
use crate::study::{Arm, FeatureSourceKind, StudyConfig};
use burgess_base::Result;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// One task: a command that makes one thing which the run store or the feature cache keeps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Task {
    /// Name that stays the same from one list to the next: `encode/ENCODER`, `train/ARM/seed-N`, `eval/ARM/seed-N` or
    /// `report`.
    pub id: String,
    /// Stage of the study.
    pub stage: StudyStage,
    /// Number within the stage, from 0, over all tasks of the stage, done or not: the index of a job array. The numbers
    /// of a run's training and evaluation are equal.
    pub index: usize,
    /// What the stage works on.
    pub subject: TaskSubject,
    /// Command line, with absolute paths.
    pub command: Vec<String>,
    /// Ids of the tasks that must have ended before. A training waits for the features of its encoders, but computes
    /// those that are missing itself; the report waits for the end of all tasks, whether they succeed or not.
    pub depends_on: Vec<String>,
    /// Files or directories that exist when the task is done; empty for features, which are in the cache.
    pub outputs: Vec<PathBuf>,
    /// Whether the task is done, from the run store.
    pub state: TaskState,
}

/// What a task works on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskSubject {
    /// An encoder, as the study writes it.
    Encoder(String),
    /// A run: arm and seed.
    Run {
        /// Name of the arm.
        arm: String,
        /// Random seed.
        seed: u64,
    },
    /// The whole study.
    Study,
}

/// Whether a task is done, as far as the run store knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// It is left to do.
    ToDo,
    /// Its last attempt failed; it is left to do.
    Failed,
    /// Its outputs exist, or, for features, no training needs them any more.
    Done,
}

/// The tasks of a study, in an order in which each comes after those it depends on.
#[derive(Clone, Debug, Serialize)]
pub struct TaskList {
    /// Name of the study.
    pub study: String,
    /// Directory of the study.
    pub directory: PathBuf,
    /// The tasks.
    pub tasks: Vec<Task>,
}

impl TaskList {
    /// Lists the tasks of a study whose directory is `directory`. `command` makes the command line of a stage for a
    /// subject.
    ///
    /// # Errors
    /// The study's directory cannot be read, or an error of `command`.
    pub fn of(
        study: &StudyConfig,
        directory: &Path,
        command: &dyn Fn(StudyStage, &TaskSubject) -> Result<Vec<String>>,
    ) -> Result<Self> {
        let runs: Vec<StudyRun> =
            study.runs().into_iter().map(|run| StudyRun::read(run, study, directory)).collect::<Result<_>>()?;
        let mut tasks = Vec::new();
        let mut add = |stage: StudyStage, subject: TaskSubject, index: usize, mut task: Task| -> Result<()> {
            task.command = command(stage, &subject)?;
            tasks.push(Task { id: task_id(stage, &subject), stage, subject, index, ..task });
            Ok(())
        };
        let encoders = match study.evaluator.features {
            FeatureSourceKind::Cached => choose_encoders(study, &[])?,
            // Each run computes its features as it needs them.
            FeatureSourceKind::Computed => Vec::new(),
        };
        let encoders: Vec<String> = encoders.iter().map(ToString::to_string).collect();
        for (index, encoder) in encoders.iter().enumerate() {
            let needed =
                runs.iter().any(|run| run.needs(encoder) && run.state_of(StudyStage::Train) != TaskState::Done);
            let state = if needed { TaskState::ToDo } else { TaskState::Done };
            add(StudyStage::Encode, TaskSubject::Encoder(encoder.clone()), index, Task::with(state, vec![], vec![]))?;
        }
        for stage in [StudyStage::Train, StudyStage::Eval] {
            for (index, run) in runs.iter().enumerate() {
                let (depends_on, output) = match stage {
                    StudyStage::Train => (run.features(&encoders), "model"),
                    _ => (vec![task_id(StudyStage::Train, &run.subject())], "results.json"),
                };
                let task = Task::with(run.state_of(stage), depends_on, vec![run.dir.join(output)]);
                add(stage, run.subject(), index, task)?;
            }
        }
        let ends = runs.iter().map(|run| task_id(StudyStage::Eval, &run.subject())).collect();
        let outputs = vec![directory.join("ranking.json"), directory.join("report/index.html")];
        let report = Task::with(report_state(&outputs, &runs), ends, outputs);
        add(StudyStage::Report, TaskSubject::Study, 0, report)?;
        Ok(Self { study: study.name.clone(), directory: directory.to_path_buf(), tasks })
    }

    /// The tasks of one stage, in the order of their numbers.
    pub fn of_stage(&self, stage: StudyStage) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(move |task| task.stage == stage)
    }

    /// The tasks that are left to do; of `stage` only, if it is given.
    pub fn left(&self, stage: Option<StudyStage>) -> impl Iterator<Item = &Task> {
        let wanted = move |task: &&Task| task.is_left() && stage.is_none_or(|stage| task.stage == stage);
        self.tasks.iter().filter(wanted)
    }

    /// The task with this id.
    pub fn find(&self, id: &str) -> Option<&Task> {
        self.tasks.iter().find(|task| task.id == id)
    }
}

impl Task {
    /// Whether the task is left to do.
    pub fn is_left(&self) -> bool {
        self.state != TaskState::Done
    }

    /// A task with these properties; the others are filled in by [`TaskList::of`].
    fn with(state: TaskState, depends_on: Vec<String>, outputs: Vec<PathBuf>) -> Self {
        let (stage, subject) = (StudyStage::Report, TaskSubject::Study);
        Self { id: String::new(), stage, index: 0, subject, command: Vec::new(), depends_on, outputs, state }
    }
}

/// Id of a task.
fn task_id(stage: StudyStage, subject: &TaskSubject) -> String {
    match subject {
        TaskSubject::Encoder(encoder) => format!("{stage}/{encoder}"),
        TaskSubject::Run { arm, seed } => format!("{stage}/{arm}/seed-{seed}"),
        TaskSubject::Study => stage.to_string(),
    }
}

/// A run of the study with its state.
struct StudyRun {
    arm: Arm,
    seed: u64,
    dir: PathBuf,
    state: RunState,
    has_model: bool,
}

impl StudyRun {
    fn read((arm, seed): (Arm, u64), study: &StudyConfig, directory: &Path) -> Result<Self> {
        let dir = run_dir(directory, &arm.name(), seed);
        let state = RunState::read(&dir, &study.evaluator.benchmarks)?;
        Ok(Self { arm, seed, has_model: dir.join("model").is_dir(), dir, state })
    }

    fn subject(&self) -> TaskSubject {
        TaskSubject::Run { arm: self.arm.name(), seed: self.seed }
    }

    fn needs(&self, encoder: &str) -> bool {
        self.arm.encoders.iter().any(|e| e.to_string() == encoder)
    }

    /// Ids of the tasks that make the features of this run.
    fn features(&self, encoders: &[String]) -> Vec<String> {
        let needed = encoders.iter().filter(|encoder| self.needs(encoder));
        needed.map(|encoder| task_id(StudyStage::Encode, &TaskSubject::Encoder(encoder.clone()))).collect()
    }

    /// State of the training or the evaluation of this run.
    fn state_of(&self, stage: StudyStage) -> TaskState {
        let failed = self.state.failure.is_some();
        match stage {
            _ if self.state.phase == RunPhase::Done => TaskState::Done,
            StudyStage::Train if self.has_model => TaskState::Done,
            // A failure of a run with a model is one of its evaluation.
            StudyStage::Train if failed => TaskState::Failed,
            StudyStage::Eval if failed && self.has_model => TaskState::Failed,
            _ => TaskState::ToDo,
        }
    }
}

/// The report is done if it is newer than all results and records of failures, and no run is left.
fn report_state(outputs: &[PathBuf], runs: &[StudyRun]) -> TaskState {
    let time = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let written: Option<Vec<SystemTime>> = outputs.iter().map(|path| time(path)).collect();
    let Some(written) = written.and_then(|times| times.into_iter().min()) else { return TaskState::ToDo };
    let newest = runs.iter().flat_map(|run| ["results.json", "failed.json"].map(|name| time(&run.dir.join(name))));
    let all_done = runs.iter().all(|run| run.state_of(StudyStage::Eval) == TaskState::Done);
    match all_done && newest.flatten().all(|time| time <= written) {
        true => TaskState::Done,
        false => TaskState::ToDo,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::fs;

    /// Makes a study with a plain, a combined, an unfrozen and an oracle arm and two seeds, in states that differ.
    pub(crate) fn example(directory: &Path) -> Result<TaskList> {
        let mut study = StudyConfig::open("nano")?;
        study.name = "mine".into();
        study.arms = ["nano-sup", "nano-mae+nano-sup@grid=2", "nano-random:unfrozen", "oracle"]
            .map(Arm::parse)
            .into_iter()
            .collect::<Result<_>>()?;
        study.seeds = vec![0, 7];
        let run = |arm: &str, seed: u64| run_dir(directory, arm, seed);
        // Finished; trained; failed in its training; failed in its evaluation.
        fs::create_dir_all(run("oracle", 0))?;
        fs::write(run("oracle", 0).join("results.json"), r#"{"average": 99.5}"#)?;
        fs::create_dir_all(run("nano-sup", 0).join("model"))?;
        let failed = r#"{"arm":"a","seed":0,"cause":"the loss is not finite","hint":null}"#;
        fs::create_dir_all(run("nano-random-unfrozen", 0))?;
        fs::write(run("nano-random-unfrozen", 0).join("failed.json"), failed)?;
        fs::create_dir_all(run("oracle", 7).join("model"))?;
        fs::write(run("oracle", 7).join("failed.json"), failed)?;
        let command = |stage: StudyStage, subject: &TaskSubject| {
            let words = ["/opt/my burgess/burgess", "rank", "/data/it's.toml", "--out", "/data/runs", "--stage"];
            let mut words: Vec<String> = words.map(String::from).to_vec();
            words.push(stage.to_string());
            match subject {
                TaskSubject::Encoder(encoder) => words.extend(["--arm".into(), encoder.clone()]),
                TaskSubject::Run { arm, seed } => {
                    words.extend(["--arm".into(), arm.clone(), "--seeds".into(), seed.to_string()]);
                }
                TaskSubject::Study => {}
            }
            Ok(words)
        };
        TaskList::of(&study, directory, &command)
    }

    #[test]
    fn tasks_come_after_those_they_need_and_know_what_is_left() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let list = example(dir.path())?;
        let mut seen: Vec<&str> = Vec::new();
        for task in &list.tasks {
            assert!(task.depends_on.iter().all(|id| seen.contains(&id.as_str())), "{}", task.id);
            seen.push(&task.id);
        }
        let state = |id: &str| list.find(id).map(|task| task.state);
        // Features that no training needs any more are not computed again.
        assert_eq!(state("encode/nano-sup"), Some(TaskState::ToDo), "the seed 7 needs it");
        assert_eq!(state("encode/oracle"), Some(TaskState::Done));
        assert_eq!(state("train/oracle/seed-0"), Some(TaskState::Done));
        assert_eq!(state("train/nano-sup/seed-0"), Some(TaskState::Done));
        assert_eq!(state("eval/nano-sup/seed-0"), Some(TaskState::ToDo));
        assert_eq!(state("train/nano-random-unfrozen/seed-0"), Some(TaskState::Failed));
        assert_eq!(state("eval/nano-random-unfrozen/seed-0"), Some(TaskState::ToDo));
        assert_eq!(state("eval/oracle/seed-7"), Some(TaskState::Failed));
        assert_eq!(state("report"), Some(TaskState::ToDo));
        let combined = list.find("train/nano-mae+nano-sup-grid2/seed-7").expect("a task");
        assert_eq!(combined.depends_on, ["encode/nano-mae", "encode/nano-sup@grid=2"]);
        assert_eq!(combined.index, 5);
        assert_eq!(list.find("eval/nano-mae+nano-sup-grid2/seed-7").map(|task| task.index), Some(5));
        assert_eq!(combined.outputs, [run_dir(dir.path(), "nano-mae+nano-sup-grid2", 7).join("model")]);
        Ok(())
    }

    #[test]
    fn a_report_is_done_until_a_result_is_newer() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let mut study = StudyConfig::open("nano")?;
        study.arms = vec![Arm::parse("oracle")?];
        study.seeds = vec![0];
        let run = run_dir(dir.path(), "oracle", 0);
        let state = || -> Result<TaskState> {
            let list = TaskList::of(&study, dir.path(), &|_, _| Ok(Vec::new()))?;
            Ok(list.find("report").map_or(TaskState::ToDo, |task| task.state))
        };
        assert_eq!(state()?, TaskState::ToDo);
        fs::create_dir_all(&run)?;
        fs::write(run.join("results.json"), r#"{"average": 99.5}"#)?;
        assert_eq!(state()?, TaskState::ToDo);
        fs::create_dir_all(dir.path().join("report"))?;
        fs::write(dir.path().join("ranking.json"), "{}")?;
        fs::write(dir.path().join("report/index.html"), "")?;
        assert_eq!(state()?, TaskState::Done);
        let later = SystemTime::now() + std::time::Duration::from_secs(60);
        fs::File::options().write(true).open(run.join("results.json"))?.set_modified(later)?;
        assert_eq!(state()?, TaskState::ToDo);
        Ok(())
    }
}
