//! Submits a study as Slurm job arrays: writes the scripts, sets the dependencies and queues the unfinished tasks.
//!
//! The scripts and the record of submitted jobs, `jobs.json`, lie in `OUT/<study>/slurm/`. Each stage is one array,
//! whose index is the number of the task in its stage, so that the same index of the arrays `train` and `eval` is the
//! same run.

mod commands;
mod jobs;
mod options;
mod plan;
mod script;

pub use commands::{QueuedJob, Slurm};
pub use jobs::{QueuedTask, SubmittedJob, SubmittedJobs};
pub use options::check_options;
pub use plan::{AfterEncode, Dependency, Submission, plan};
pub use script::script;

use crate::launch::Environment;
use crate::launch::tasks::TaskList;
use crate::machine::lease::{Attempt, Lease};
use crate::run::stages::StudyStage;
use burgess_base::{Error, Result, atomic};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How a study is submitted.
#[derive(Clone, Debug)]
pub struct SlurmOptions {
    /// Options for `sbatch`, such as partition, account and time, which hold for all arrays.
    pub sbatch: Vec<String>,
    /// Largest number of tasks of an array that run at the same time.
    pub max_parallel: Option<usize>,
    /// What the training waits for.
    pub after_encode: AfterEncode,
    /// Maximum number of times that a task is requeued after its time limit or a preemption.
    pub max_restarts: u32,
}

/// Directory of a study's scripts, logs and record of submitted jobs.
pub fn directory(study: &Path) -> PathBuf {
    study.join("slurm")
}

/// What was submitted, or would be.
#[derive(Clone, Debug)]
pub struct SlurmOutcome {
    /// Arrays and their tasks, in the order of submission.
    pub submissions: Vec<Submission>,
    /// Job ids of the submissions; empty if nothing was submitted.
    pub jobs: Vec<String>,
    /// Number of tasks that are left and were queued before.
    pub queued: usize,
}

/// Writes the scripts of a study and submits what is left and not queued yet; with `dry_run` only writes the scripts.
/// `note` receives a line about each submission.
///
/// # Errors
/// Another process is submitting the study, a file cannot be written, Slurm's commands are missing, or Slurm rejects a
/// job. Jobs that were submitted before the error are recorded, so that the next call goes on after them.
pub fn launch(
    list: &TaskList,
    environment: &Environment,
    options: &SlurmOptions,
    slurm: &Slurm,
    dry_run: bool,
    note: &dyn Fn(&str),
) -> Result<SlurmOutcome> {
    check_options(&options.sbatch)?;
    let dir = directory(&list.directory);
    std::fs::create_dir_all(dir.join("logs"))
        .map_err(|e| Error::from(e).context(format!("creating the directory {}", dir.display())))?;
    let _lease = match Lease::attempt(&dir.join("launch"))? {
        Attempt::Acquired(lease) => lease,
        Attempt::Busy(owner) => {
            return Err(Error::failed(format!("{owner} is submitting this study at present"))
                .hint("wait for its end; both would submit the same tasks"));
        }
    };
    for stage in StudyStage::ALL {
        if list.of_stage(stage).next().is_some() {
            let path = script_path(&dir, stage);
            atomic::write(&path, script(list, stage, environment, options, &dir)?.as_bytes())?;
        }
    }
    let mut record = SubmittedJobs::read(&dir)?;
    let is_left = list.left(None).next().is_some();
    let queued = if is_left { queued(&record, slurm)? } else { BTreeMap::new() };
    let submissions = plan(list, &queued, options.max_parallel, options.after_encode);
    let waiting = list.left(None).filter(|task| queued.contains_key(&task.id)).count();
    let mut jobs: Vec<String> = Vec::new();
    for submission in submissions.iter().filter(|_| !dry_run) {
        let id = slurm.sbatch(&submission.arguments(&options.sbatch, &jobs, &dir)?)?;
        record.add(submission.submitted(&id));
        record.write(&dir)?;
        note(&format!("submitted {}: job {id}", submission.describe()));
        jobs.push(id);
    }
    Ok(SlurmOutcome { submissions, jobs, queued: waiting })
}

/// The tasks of recorded jobs that Slurm knows as pending or running, by task id. Slurm is not asked if there is no
/// record.
///
/// # Errors
/// `squeue` is missing or fails.
pub fn queued(record: &SubmittedJobs, slurm: &Slurm) -> Result<BTreeMap<String, QueuedTask>> {
    if record.jobs.is_empty() { Ok(BTreeMap::new()) } else { Ok(record.queued(&slurm.squeue()?)) }
}

/// Path of the script of a stage.
pub fn script_path(dir: &Path, stage: StudyStage) -> PathBuf {
    dir.join(format!("{stage}.sh"))
}

#[cfg(test)]
mod tests;
