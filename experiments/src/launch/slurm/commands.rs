//! Calls of Slurm's commands.

use burgess_base::{Error, Result};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::process::Command;

/// Slurm's commands on this machine.
#[derive(Clone, Debug, Default)]
pub struct Slurm(());

/// A job, or a task of an array, that Slurm knows as pending or running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedJob {
    /// Job id: `12`, or `12_3` for a task of an array.
    pub id: String,
    /// State in Slurm's words, such as `PENDING`.
    pub state: String,
    /// Why it is pending, such as `Dependency`.
    pub reason: String,
}

impl Slurm {
    /// Submits a job and returns its id.
    ///
    /// # Errors
    /// `sbatch` is missing, or rejects the job; the error holds its message.
    pub fn sbatch(&self, arguments: &[String]) -> Result<String> {
        let output = run("sbatch", arguments)?;
        // With several clusters the name of the cluster follows after a semicolon.
        let id = output.trim().split(';').next().unwrap_or_default();
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Error::failed(format!("sbatch printed `{}`, expected the id of a job", output.trim()))
                .hint("the job may have been submitted: see `squeue --me`"));
        }
        Ok(id.to_string())
    }

    /// Lists the user's jobs that are pending or running, the tasks of arrays one by one.
    ///
    /// # Errors
    /// `squeue` is missing or fails; the error holds its message.
    pub fn squeue(&self) -> Result<Vec<QueuedJob>> {
        let arguments = ["--noheader", "--me", "--array", "--format=%i|%T|%r"].map(String::from);
        let output = run("squeue", &arguments)?;
        let parse = |line: &str| {
            let mut parts = line.trim().splitn(3, '|').map(String::from);
            Some(QueuedJob { id: parts.next()?, state: parts.next()?, reason: parts.next()? })
        };
        let line = |line: &str| {
            parse(line).ok_or_else(|| {
                Error::failed(format!("squeue printed `{line}`, expected ID|STATE|REASON"))
                    .hint("see whether SQUEUE_ environment variables change its output")
            })
        };
        output.lines().filter(|text| !text.trim().is_empty()).map(line).collect()
    }
}

/// Runs a command of Slurm and returns its standard output.
fn run(program: &str, arguments: &[String]) -> Result<String> {
    let output = Command::new(program).args(arguments.iter().map(OsString::from)).output().map_err(|e| {
        let error = match e.kind() {
            ErrorKind::NotFound => Error::failed(format!("{program} is not on the PATH")),
            _ => Error::failed(format!("{program} cannot be started: {e}")),
        };
        error.hint("run this command on a login node of the cluster; `burgess launch list` makes lines for other ways")
    })?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_string();
        let message = if message.is_empty() { output.status.to_string() } else { message };
        return Err(Error::failed(message)
            .context(format!("running {program} {}", arguments.join(" ")))
            .hint(hint(program)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn hint(program: &str) -> &'static str {
    match program {
        "sbatch" => {
            "options for sbatch, such as --partition, --account or --time, come after `--`; `scontrol show config` has \
             MaxArraySize, the limit of the index of an array"
        }
        _ => "without it, nobody knows what is queued already; try again when Slurm's controller responds",
    }
}
