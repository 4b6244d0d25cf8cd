//! Tasks as a HyperQueue job file, the TOML that `hq job submit-file` reads.
//!
//! Format: <https://it4innovations.github.io/hyperqueue/stable/jobs/jobfile/>. HyperQueue cancels what depends on a
//! failed task: an encoder that fails stops only the runs that need it, and a training that fails only its evaluation.
//! It has no dependency on the end of a task whatever its outcome, which the report needs: the report is no task of the
//! file, but a command for after the job.

use crate::launch::tasks::{Task, TaskList};
use crate::launch::{Environment, path_text, shell_lines};
use crate::run::stages::StudyStage;
use burgess_base::{Context, Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Resources of tasks, and what happens when a worker is lost.
#[derive(Clone, Debug)]
pub struct Resources {
    /// Number of CPU cores of a task that computes features.
    pub encode_cpus: u32,
    /// Number of CPU cores of a training or an evaluation.
    pub run_cpus: u32,
    /// Number of GPUs of a task, in steps of 0.0001; 0 for none.
    pub gpus: f64,
    /// Name of the GPUs among HyperQueue's resources: `gpus/nvidia` or `gpus/amd`.
    pub gpu_name: String,
    /// HyperQueue's `crash_limit`, at least 1: a task fails after so many lost workers. Until then it is started again and
    /// continues from its saved state.
    pub crash_limit: u16,
}

/// The job file.
#[derive(Serialize)]
struct JobFile {
    name: String,
    task: Vec<JobTask>,
}

/// One task of the job file.
#[derive(Serialize)]
struct JobTask {
    id: usize,
    command: Vec<String>,
    cwd: String,
    stdout: String,
    stderr: String,
    crash_limit: u16,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deps: Vec<usize>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
    request: Vec<Request>,
}

/// Resources that a task requests.
#[derive(Serialize)]
struct Request {
    resources: BTreeMap<String, String>,
}

/// Writes the tasks that are left as the text of a job file; standard output and error of the tasks go to files in
/// `logs`. `report` is the command for after the job.
///
/// # Errors
/// Nothing but the report is left, a number of resources is out of range, or a path is not UTF-8.
pub fn job_file(
    list: &TaskList,
    environment: &Environment,
    resources: &Resources,
    logs: &Path,
    report: &[String],
) -> Result<String> {
    resources.check()?;
    let left: Vec<&Task> = list.left(None).filter(|task| task.stage != StudyStage::Report).collect();
    if left.is_empty() {
        return Err(Error::failed(format!("all runs of the study {} are done", list.study))
            .hint(format!("the report is made by: {}", shell_lines::line(report))));
    }
    // Slashes and other characters are replaced, also those of HyperQueue's placeholders (`%{…}`); the number keeps apart
    // what is then alike. A task that is started again overwrites its log.
    let log = |number: usize, task: &Task, ending: &str| -> Result<String> {
        let name = task.id.replace(|c: char| !(c.is_ascii_alphanumeric() || "-_.+@=".contains(c)), "-");
        path_text(&logs.join(format!("{number}-{name}.{ending}")))
    };
    let number = |id: &String| left.iter().position(|task| task.id == *id);
    let tasks = left.iter().enumerate().map(|(id, task)| {
        Ok(JobTask {
            id,
            command: task.command.clone(),
            cwd: path_text(&environment.directory)?,
            stdout: log(id, task, "out")?,
            stderr: log(id, task, "err")?,
            crash_limit: resources.crash_limit,
            deps: task.depends_on.iter().filter_map(number).collect(),
            env: environment.variables.iter().cloned().collect(),
            request: vec![Request { resources: resources.of(task.stage) }],
        })
    });
    let file = JobFile { name: format!("burgess-{}", list.study), task: tasks.collect::<Result<_>>()? };
    let text = toml::to_string(&file).map_err(|e| Error::failed(e.to_string())).context("writing the job file")?;
    Ok(format!(
        "# Tasks of the study {}, for HyperQueue. Each is idempotent, and a task that is started again continues from\n\
         # the saved state. Submit them, wait, and write the report:\n\
         #   hq job submit-file THIS-FILE\n\
         #   hq job wait last\n\
         #   {}\n\n{text}",
        list.study,
        shell_lines::line(report)
    ))
}

impl Resources {
    /// Checks that the numbers are in HyperQueue's range.
    ///
    /// # Errors
    /// They are not.
    fn check(&self) -> Result<()> {
        if self.encode_cpus == 0 || self.run_cpus == 0 {
            return Err(Error::usage("the number of CPU cores of a task is 0, expected at least 1")
                .hint("leave --encode-cpus and --cpus out: 1 is the default"));
        }
        if !(self.gpus == 0.0 || (1e-4..=1024.0).contains(&self.gpus)) {
            return Err(Error::usage(format!(
                "the number of GPUs of a task is {}, expected 0, or 0.0001 to 1024",
                self.gpus
            ))
            .hint("give 0 for none, 1 for a whole one, or a fraction such as 0.5, of at least 0.0001"));
        }
        if self.crash_limit == 0 {
            return Err(Error::usage("the crash limit must be at least 1")
                .hint("with 1, a task is not started again when its worker is lost"));
        }
        Ok(())
    }

    /// Resources of a task of this stage, as HyperQueue names and writes them.
    fn of(&self, stage: StudyStage) -> BTreeMap<String, String> {
        let cpus = if stage == StudyStage::Encode { self.encode_cpus } else { self.run_cpus };
        let gpus = (self.gpus > 0.0).then(|| (self.gpu_name.clone(), decimal(self.gpus)));
        [("cpus".to_string(), cpus.to_string())].into_iter().chain(gpus).collect()
    }
}

/// Writes a number with at most four decimals. HyperQueue reads texts exactly, numbers through f32.
fn decimal(number: f64) -> String {
    let text = format!("{number:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_file_has_dependencies_and_resources() -> Result<()> {
        let place = tempfile::tempdir()?;
        let list = crate::launch::tasks::tests::example(place.path())?;
        let resources =
            Resources { encode_cpus: 4, run_cpus: 1, gpus: 0.5, gpu_name: "gpus/nvidia".into(), crash_limit: 20 };
        let environment = Environment {
            directory: "/home/a b".into(),
            variables: vec![("BURGESS_CACHE".into(), "/scratch/it's/cache".into())],
        };
        let report = list.find("report").map(|task| task.command.clone()).unwrap_or_default();
        let text = job_file(&list, &environment, &resources, Path::new("/data/runs/mine/hq"), &report)?;
        insta::assert_snapshot!("job-file", text);
        // Every dependency is a task of the file that comes before.
        let file: toml::Table = toml::from_str(&text).map_err(|e| Error::failed(e.to_string()))?;
        let tasks = file["task"].as_array().expect("tasks");
        for (number, task) in tasks.iter().enumerate() {
            assert_eq!(task["id"].as_integer(), Some(number as i64));
            for id in task.get("deps").and_then(|deps| deps.as_array()).into_iter().flatten() {
                assert!(id.as_integer().is_some_and(|id| (id as usize) < number), "{task}");
            }
        }
        Ok(())
    }

    #[test]
    fn fractions_are_exact_and_numbers_out_of_range_are_refused() {
        for (number, text) in [(1.0, "1"), (0.5, "0.5"), (0.3333, "0.3333"), (10.0, "10"), (2.25, "2.25")] {
            assert_eq!(decimal(number), text);
        }
        let good = Resources { encode_cpus: 4, run_cpus: 1, gpus: 0.5, gpu_name: "gpus/nvidia".into(), crash_limit: 5 };
        assert!(good.check().is_ok());
        for gpus in [-1.0, 1e-5, f64::NAN, 2000.0] {
            assert!(Resources { gpus, ..good.clone() }.check().is_err_and(|e| e.exit_code() == 2), "{gpus}");
        }
        assert!(Resources { run_cpus: 0, ..good.clone() }.check().is_err());
        assert!(Resources { crash_limit: 0, ..good }.check().is_err());
    }
}
