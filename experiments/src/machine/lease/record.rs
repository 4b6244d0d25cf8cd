//! The contents of a lease file: who owns the lease, and its heartbeat.

use burgess_base::digest;
use burgess_base::process::{self, ProcessState};
use serde::{Deserialize, Serialize};
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Smallest length of a lease file in bytes; a longer record fills a multiple of it.
const LENGTH: usize = 512;
/// Limits of the time between heartbeats that a file may state.
const INTERVALS: [Duration; 2] = [Duration::from_millis(10), Duration::from_hours(1)];

/// The process that owns a lease.
#[derive(Clone, Debug, PartialEq)]
pub struct Owner {
    /// Name of its host.
    pub host: String,
    /// Process ID there.
    pub process: u32,
    /// Time at which it took the lease, by its own clock.
    pub since: SystemTime,
    /// Slurm job to which it belongs, as Slurm writes it: `12`, or `10_3` for a task of an array.
    pub job: Option<String>,
    /// Time since its last heartbeat by the clock of the file server.
    pub age: Duration,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.process)?;
        if let Some(job) = &self.job {
            write!(f, " (Slurm job {job})")?;
        }
        write!(f, " since {}", humantime::format_rfc3339_seconds(self.since))
    }
}

/// A lease file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    host: String,
    /// Host, boot and PID namespace ([`process::machine`]).
    machine: String,
    process: u32,
    /// Start of the process in hundredths of a second since that of the machine; 0 if unknown.
    started: u64,
    /// Seconds since 1970 at which the lease was taken.
    since: u64,
    /// A random number, by which an owner recognises its own lease.
    pub(super) token: String,
    /// Seconds between heartbeats.
    interval: f64,
    job: Option<Job>,
    pub(super) released: bool,
    /// Number of heartbeats.
    pub(super) beat: u64,
}

/// A job of Slurm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Job {
    cluster: String,
    id: String,
    /// The id as Slurm shows it: of an array, with the number of the task.
    shown: String,
    /// Number of times that the job was requeued.
    restarts: u64,
}

impl Job {
    fn of_this_process() -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let id = variable("SLURM_JOB_ID")?;
        let array = variable("SLURM_ARRAY_JOB_ID").zip(variable("SLURM_ARRAY_TASK_ID"));
        Some(Self {
            cluster: variable("SLURM_CLUSTER_NAME").unwrap_or_default(),
            shown: array.map_or_else(|| id.clone(), |(job, task)| format!("{job}_{task}")),
            id,
            restarts: variable("SLURM_RESTART_COUNT").and_then(|n| n.parse().ok()).unwrap_or(0),
        })
    }

    /// Whether this job is an earlier start of `now`: Slurm ends a job before it starts it again.
    fn is_before(&self, now: &Self) -> bool {
        (&self.cluster, &self.id) == (&now.cluster, &now.id) && self.restarts < now.restarts
    }
}

impl Record {
    /// Makes the record of a lease that this process takes now.
    pub(super) fn of_this_process(interval: Duration) -> Self {
        let process = std::process::id();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // The hash keys of the standard library come from the random numbers of the operating system.
        let random = [(); 2].map(|()| RandomState::new().hash_one(now));
        let token = digest::of_bytes(format!("{random:?} {} {process} {now:?}", process::machine()).as_bytes());
        let started = match std::fs::metadata("/proc/self").map(|own| process::state(process, &own)) {
            Ok(ProcessState::Runs { started }) => started,
            _ => 0,
        };
        Self {
            host: process::host(),
            machine: process::machine().into(),
            process,
            started,
            since: now.as_secs(),
            token: token.get(..32).unwrap_or(&token).into(),
            interval: interval.as_secs_f64(),
            job: Job::of_this_process(),
            released: false,
            beat: 0,
        }
    }

    /// The contents of the file, whose length does not depend on the heartbeat.
    pub(super) fn bytes(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        // Room for the digits of the heartbeat.
        bytes.resize((bytes.len() + 24).next_multiple_of(LENGTH) - 1, b' ');
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads a file; `None` if it does not exist. A file that cannot be understood, because another process is just
    /// creating it, belongs to an unknown owner.
    pub(super) fn read(path: &Path) -> std::io::Result<Option<Self>> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).unwrap_or_else(|_| Self::unknown()))),
            Err(e) if is_gone(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn unknown() -> Self {
        Self {
            host: "unknown".into(),
            machine: String::new(),
            process: 0,
            started: 0,
            since: 0,
            token: String::new(),
            interval: super::INTERVAL.as_secs_f64(),
            job: None,
            released: false,
            beat: 0,
        }
    }

    /// Time between heartbeats.
    pub(super) fn interval(&self) -> Duration {
        Duration::try_from_secs_f64(self.interval).unwrap_or(super::INTERVAL).clamp(INTERVALS[0], INTERVALS[1])
    }

    /// Whether the process is known to have ended; `file` is the metadata of the lease file.
    pub(super) fn has_ended(&self, file: &std::fs::Metadata) -> bool {
        if Job::of_this_process().zip(self.job.as_ref()).is_some_and(|(now, then)| then.is_before(&now)) {
            return true;
        }
        self.machine == process::machine()
            && match process::state(self.process, file) {
                ProcessState::Ended => true,
                // A process that started at another time only reuses the ID.
                ProcessState::Runs { started } => self.started > 0 && started > 0 && started != self.started,
                ProcessState::Unknown => false,
            }
    }

    /// The owner, whose last heartbeat is `age` old.
    pub(super) fn owner(&self, age: Duration) -> Owner {
        Owner {
            host: self.host.clone(),
            process: self.process,
            since: SystemTime::UNIX_EPOCH + Duration::from_secs(self.since.min(1 << 40)),
            job: self.job.as_ref().map(|job| job.shown.clone()),
            age,
        }
    }
}

/// Whether an error says that a file does not exist, or that a server removed it while it was open.
pub(super) fn is_gone(e: &std::io::Error) -> bool {
    matches!(e.kind(), ErrorKind::NotFound | ErrorKind::StaleNetworkFileHandle)
}
