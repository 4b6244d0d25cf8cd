//! `jobs.json`: the jobs that were submitted for a study, and which task each of them is.

use crate::launch::slurm::commands::QueuedJob;
use crate::run::stages::StudyStage;
use burgess_base::{Result, atomic};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// File name of the record.
const FILE: &str = "jobs.json";

/// Reason of pending jobs whose dependency failed. They never begin; Slurm cancels them shortly after.
const NEVER: &str = "DependencyNeverSatisfied";

/// All jobs that were submitted for a study, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SubmittedJobs {
    /// The jobs.
    pub jobs: Vec<SubmittedJob>,
}

/// A submitted job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmittedJob {
    /// Job id.
    pub id: String,
    /// Stage of the study.
    pub stage: StudyStage,
    /// Whether the job is an array.
    pub array: bool,
    /// Ids of the tasks by their index in the array; index 0 for a job that is no array.
    pub tasks: BTreeMap<usize, String>,
    /// Time of submission, RFC 3339 in UTC.
    pub submitted: String,
}

/// A task that is pending or running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueuedTask {
    /// Id of the job.
    pub job: String,
    /// Index in the job's array; `None` if the job is no array.
    pub index: Option<usize>,
    /// State in Slurm's words, such as `PENDING`.
    pub state: String,
    /// Why it is pending, such as `Dependency`.
    pub reason: String,
}

impl QueuedTask {
    /// Id as Slurm writes it: `12`, or `12_3` for a task of an array.
    pub fn id(&self) -> String {
        self.index.map_or_else(|| self.job.clone(), |index| format!("{}_{index}", self.job))
    }
}

impl SubmittedJobs {
    /// Reads the record in the directory of the scripts; empty if nothing was submitted.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        if !path.is_file() {
            return Ok(Self::default());
        }
        atomic::read_json(&path).map_err(|e| {
            e.hint(format!("see `squeue --me`; if no job of this study is queued, remove {}", path.display()))
        })
    }

    /// Writes the record.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn write(&self, dir: &Path) -> Result<()> {
        atomic::write_json(&dir.join(FILE), self)
    }

    /// Adds a job.
    pub fn add(&mut self, job: SubmittedJob) {
        self.jobs.push(job);
    }

    /// The tasks of these jobs that `queue` lists and that can still begin, by task id. Of several jobs with the same
    /// task the last one counts.
    pub fn queued(&self, queue: &[QueuedJob]) -> BTreeMap<String, QueuedTask> {
        let known: BTreeMap<&str, &QueuedJob> = queue.iter().map(|job| (job.id.as_str(), job)).collect();
        let mut found = BTreeMap::new();
        for job in &self.jobs {
            for (index, task) in &job.tasks {
                let index = job.array.then_some(*index);
                let id = index.map_or_else(|| job.id.clone(), |index| format!("{}_{index}", job.id));
                let Some(queued) = known.get(id.as_str()).filter(|queued| queued.reason != NEVER) else { continue };
                let (state, reason) = (queued.state.clone(), queued.reason.clone());
                found.insert(task.clone(), QueuedTask { job: job.id.clone(), index, state, reason });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_jobs_are_matched_with_the_queue() -> Result<()> {
        let dir = tempfile::tempdir()?;
        assert_eq!(SubmittedJobs::read(dir.path())?, SubmittedJobs::default());
        let job = |id: &str, stage, array, tasks: &[(usize, &str)]| SubmittedJob {
            id: id.into(),
            stage,
            array,
            tasks: tasks.iter().map(|(index, task)| (*index, task.to_string())).collect(),
            submitted: "2026-11-29T00:00:00Z".into(),
        };
        let mut record = SubmittedJobs::default();
        record.add(job("7", StudyStage::Train, true, &[(0, "train/a/seed-0"), (3, "train/b/seed-0")]));
        record.add(job("8", StudyStage::Eval, true, &[(0, "eval/a/seed-0")]));
        record.add(job("9", StudyStage::Report, false, &[(0, "report")]));
        record.write(dir.path())?;
        assert_eq!(SubmittedJobs::read(dir.path())?, record);
        let line = |id: &str, state: &str, reason: &str| QueuedJob {
            id: id.into(),
            state: state.into(),
            reason: reason.into(),
        };
        let queue = [
            line("7_3", "RUNNING", "None"),
            line("8_0", "PENDING", NEVER),
            line("9", "PENDING", "Dependency"),
            line("1234_0", "RUNNING", "None"),
        ];
        let queued = record.queued(&queue);
        let shown: Vec<(&str, String)> = queued.iter().map(|(task, q)| (task.as_str(), q.id())).collect();
        assert_eq!(shown, [("report", "9".to_string()), ("train/b/seed-0", "7_3".to_string())]);
        std::fs::write(dir.path().join(FILE), "{")?;
        assert!(SubmittedJobs::read(dir.path()).is_err_and(|e| e.hint_text().is_some_and(|h| h.contains("squeue"))));
        Ok(())
    }
}
