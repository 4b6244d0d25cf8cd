//! What is submitted: arrays of the tasks that are left and not queued, with their dependencies.

use crate::launch::path_text;
use crate::launch::slurm::jobs::{QueuedTask, SubmittedJob};
use crate::launch::slurm::script_path;
use crate::launch::tasks::{Task, TaskList};
use crate::machine::shell;
use crate::run::stages::StudyStage;
use burgess_base::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::Path;
use std::time::SystemTime;

/// What the training waits for, if features are left to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterEncode {
    /// The success of all tasks that compute features; a task whose encoder alone is at fault counts as success.
    #[default]
    Success,
    /// The end of these tasks, whatever their outcome.
    End,
}

/// An array, or a single job, to submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Name of the shell variable that holds its job id in the printed commands.
    pub variable: String,
    /// Stage of the study, which has its script.
    pub stage: StudyStage,
    /// Ids of the tasks, by index.
    pub tasks: BTreeMap<usize, String>,
    /// Largest number of tasks that run at the same time.
    pub max_parallel: Option<usize>,
    /// What must have happened before; all of them.
    pub after: Vec<Dependency>,
}

/// A dependency on other jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// Slurm's word: `afterok`, `aftercorr` or `afterany`.
    pub kind: &'static str,
    /// The jobs.
    pub jobs: Vec<JobReference>,
}

/// A job that another one waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobReference {
    /// A job, or a task of an array, with this id.
    Known(String),
    /// A submission of the same plan, by number.
    New(usize),
}

/// Plans the submission of the tasks of a study that are left and not in `queued`.
pub fn plan(
    list: &TaskList,
    queued: &BTreeMap<String, QueuedTask>,
    max_parallel: Option<usize>,
    after_encode: AfterEncode,
) -> Vec<Submission> {
    let fresh = |stage: StudyStage| list.of_stage(stage).filter(|t| t.is_left() && !queued.contains_key(&t.id));
    let mut plan: Vec<Submission> = Vec::new();
    let mut submit = |variable: String, stage: StudyStage, tasks: Vec<&Task>, after: Vec<Dependency>| {
        let tasks = tasks.iter().map(|task| (task.index, task.id.clone())).collect();
        plan.push(Submission { variable, stage, tasks, max_parallel, after });
        plan.len() - 1
    };

    // Features that only trainings need which are queued already are made by an earlier submission, or by themselves.
    let needed: BTreeSet<&str> =
        fresh(StudyStage::Train).flat_map(|task| &task.depends_on).map(String::as_str).collect();
    let encode: Vec<&Task> = fresh(StudyStage::Encode).filter(|task| needed.contains(task.id.as_str())).collect();
    let mut features: Vec<JobReference> = queued_jobs(list, queued, &[StudyStage::Encode]);
    if !encode.is_empty() {
        features.push(JobReference::New(submit("encode_job".into(), StudyStage::Encode, encode, Vec::new())));
    }

    let train: Vec<&Task> = fresh(StudyStage::Train).collect();
    let trained_now: BTreeSet<&str> = train.iter().map(|task| task.id.as_str()).collect();
    let mut trainings = None;
    if !train.is_empty() {
        let kind = match after_encode {
            AfterEncode::Success => "afterok",
            AfterEncode::End => "afterany",
        };
        let after = if features.is_empty() { Vec::new() } else { vec![Dependency { kind, jobs: features }] };
        trainings = Some(submit("train_job".into(), StudyStage::Train, train, after));
    }

    // Evaluations by what they wait for. An array has one dependency for all its tasks.
    let mut groups: Vec<(Vec<Dependency>, Vec<&Task>)> = Vec::new();
    for task in fresh(StudyStage::Eval) {
        let before = task.depends_on.iter().find_map(|id| list.find(id));
        let after = match before.map(|before| (before, queued.get(&before.id))) {
            Some((before, _)) if trained_now.contains(before.id.as_str()) => {
                trainings.map(|number| ("aftercorr", JobReference::New(number)))
            }
            // The evaluation of a run that is being trained by an earlier submission.
            Some((_, Some(training))) if training.index == Some(task.index) => {
                Some(("aftercorr", JobReference::Known(training.job.clone())))
            }
            Some((_, Some(training))) => Some(("afterok", JobReference::Known(training.id()))),
            _ => None,
        };
        let after: Vec<Dependency> =
            after.into_iter().map(|(kind, job)| Dependency { kind, jobs: vec![job] }).collect();
        match groups.iter_mut().find(|(known, _)| *known == after) {
            Some((_, tasks)) => tasks.push(task),
            None => groups.push((after, vec![task])),
        }
    }
    for (number, (after, tasks)) in groups.into_iter().enumerate() {
        let variable = if number == 0 { "eval_job".to_string() } else { format!("eval{}_job", number + 1) };
        submit(variable, StudyStage::Eval, tasks, after);
    }

    let new = plan.len();
    for report in list.left(Some(StudyStage::Report)) {
        // A report that is queued waits only for the jobs that existed when it was submitted.
        if new > 0 || !queued.contains_key(&report.id) {
            let earlier = [StudyStage::Encode, StudyStage::Train, StudyStage::Eval];
            let jobs: Vec<JobReference> =
                queued_jobs(list, queued, &earlier).into_iter().chain((0..new).map(JobReference::New)).collect();
            let after = if jobs.is_empty() { Vec::new() } else { vec![Dependency { kind: "afterany", jobs }] };
            let tasks = BTreeMap::from([(report.index, report.id.clone())]);
            let stage = StudyStage::Report;
            plan.push(Submission { variable: "report_job".into(), stage, tasks, max_parallel: None, after });
        }
    }
    plan
}

/// The jobs in which tasks of these stages are queued, each once.
fn queued_jobs(list: &TaskList, queued: &BTreeMap<String, QueuedTask>, stages: &[StudyStage]) -> Vec<JobReference> {
    let tasks = list.tasks.iter().filter(|task| stages.contains(&task.stage));
    let jobs: BTreeSet<&String> = tasks.filter_map(|task| Some(&queued.get(&task.id)?.job)).collect();
    jobs.into_iter().cloned().map(JobReference::Known).collect()
}

impl Submission {
    /// Whether the job is an array: all but the report.
    pub fn is_array(&self) -> bool {
        self.stage != StudyStage::Report
    }

    /// The array's indices as Slurm writes them, such as `0-2,5%4`.
    pub fn array(&self) -> String {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for index in self.tasks.keys() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *index => *last = *index,
                _ => ranges.push((*index, *index)),
            }
        }
        let range = |(first, last): &(usize, usize)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        let text = ranges.iter().map(range).collect::<Vec<_>>().join(",");
        self.max_parallel.map_or_else(|| text.clone(), |most| format!("{text}%{most}"))
    }

    /// The dependencies as Slurm writes them; empty without one. `name` gives the id of another submission.
    fn dependency(&self, name: &dyn Fn(usize) -> Option<String>) -> Result<String> {
        let one = |dependency: &Dependency| {
            let jobs = dependency.jobs.iter().map(|job| match job {
                JobReference::Known(id) => Ok(id.clone()),
                JobReference::New(number) => {
                    name(*number).ok_or_else(|| Error::failed(format!("submission number {number} has no job id")))
                }
            });
            Ok(format!("{}:{}", dependency.kind, jobs.collect::<Result<Vec<_>>>()?.join(":")))
        };
        Ok(self.after.iter().map(one).collect::<Result<Vec<_>>>()?.join(","))
    }

    /// Arguments of `sbatch`; `jobs` are the ids of the submissions before this one, `dir` is the directory of the
    /// scripts.
    ///
    /// # Errors
    /// The path of the script is not UTF-8.
    pub fn arguments(&self, options: &[String], jobs: &[String], dir: &Path) -> Result<Vec<String>> {
        self.words(options, &|number| jobs.get(number).cloned(), dir)
    }

    fn words(&self, options: &[String], name: &dyn Fn(usize) -> Option<String>, dir: &Path) -> Result<Vec<String>> {
        let mut words = vec!["--parsable".to_string()];
        words.extend(options.iter().cloned());
        if self.is_array() {
            words.push(format!("--array={}", self.array()));
        }
        let dependency = self.dependency(name)?;
        if !dependency.is_empty() {
            words.push(format!("--dependency={dependency}"));
        }
        words.push(path_text(&script_path(dir, self.stage))?);
        Ok(words)
    }

    /// The command that submits this, as a line of a shell script in which earlier submissions are variables.
    ///
    /// # Errors
    /// The path of the script is not UTF-8.
    pub fn shell_line(&self, options: &[String], plan: &[Submission], dir: &Path) -> Result<String> {
        let variable = |number: usize| plan.get(number).map(|other| format!("${{{}}}", other.variable));
        let words = self.words(options, &variable, dir)?;
        // Job ids are plain; everything else is quoted.
        let quoted = words.iter().map(|word| match word.starts_with("--dependency=") {
            true => word.clone(),
            false => shell::quoted(OsStr::new(word)),
        });
        Ok(format!("{}=$(sbatch {})", self.variable, quoted.collect::<Vec<_>>().join(" ")))
    }

    /// Describes the submission for a message.
    pub fn describe(&self) -> String {
        match (self.is_array(), self.tasks.len()) {
            (false, _) => self.stage.to_string(),
            (true, 1) => format!("{} of 1 task (index {})", self.stage, self.array()),
            (true, n) => format!("{} of {n} tasks (indices {})", self.stage, self.array()),
        }
    }

    /// The record of this submission as job `id`.
    pub fn submitted(&self, id: &str) -> SubmittedJob {
        SubmittedJob {
            id: id.to_string(),
            stage: self.stage,
            array: self.is_array(),
            tasks: self.tasks.clone(),
            submitted: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        }
    }
}
