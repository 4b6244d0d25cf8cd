//! The run store, `OUT/<study>/<arm>/seed-<n>/`, which holds the finished and resumable work of runs.
//!
//! Any number of processes, also on several machines that share a file system, work in one study's directory at once.
//! A run is worked on by one process, which holds the [`Lease`] on its directory ([`RunStore::claim`]); before each
//! file that it writes, it checks that it still holds it. Everything is written under a temporary name and renamed, so
//! all others may read at any time.

mod files;

pub use files::{PartialAnswers, TrainLog};

use crate::machine::lease::{Attempt, Lease, Owner};
use burgess_base::checksums::{self, Verification};
use burgess_base::{Context, Error, Result, atomic, differences, output, temporary};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The directory of one study, which several processes may have open.
pub struct StudyStore {
    dir: PathBuf,
}

impl StudyStore {
    /// Opens or creates `dir` for a study with this evaluator. Removes temporary files that killed processes left
    /// there.
    ///
    /// # Errors
    /// The directory cannot be written, or it holds runs of a different evaluator. Runs of two evaluators are never
    /// mixed; the error lists the differences.
    pub fn open(dir: &Path, evaluator: &Value) -> Result<Self> {
        let step = || format!("opening the directory {}", dir.display());
        output::check_directory(dir)?;
        fs::create_dir_all(dir).with_context(step)?;
        temporary::remove_stale(dir, DEPTH);
        let path = dir.join("study.json");
        // Of several processes that begin a study at once, the first writes the file and the others compare it.
        if path.exists() || !atomic::create_json(&path, evaluator)? {
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
                .hint(format!("choose another output directory, or remove {}", dir.display())));
            }
        }
        Ok(Self { dir: dir.to_path_buf() })
    }

    /// Path of the study's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the store of one run, which is not claimed yet.
    pub fn run(&self, arm: &str, seed: u64) -> RunStore {
        RunStore::at(&run_dir(&self.dir, arm, seed))
    }
}

/// Directory of a run below its study's directory.
pub fn run_dir(study: &Path, arm: &str, seed: u64) -> PathBuf {
    study.join(arm).join(format!("seed-{seed}"))
}

/// Waits until no other process does a piece of work for the whole study, such as writing its report, and keeps others
/// from it while the returned lease lives. `name` is the work, as a file name; `waiting` is called once with its owner.
///
/// # Errors
/// The directory cannot be written, or a signal asked to stop.
pub fn claim_study(dir: &Path, name: &str, waiting: &dyn Fn(&Owner)) -> Result<Lease> {
    let mut told = false;
    Lease::acquire(&dir.join(name), &mut |owner| {
        if !std::mem::replace(&mut told, true) {
            waiting(owner);
        }
        Ok(())
    })
}

/// Time between two saved states of a run, and so the most work that an interruption loses.
pub const SAVE_INTERVAL: Duration = Duration::from_secs(60);

/// Depth of the directory tree below a study's directory: arm, run, and the run's own folders.
const DEPTH: usize = 4;

/// File name of a run's configuration; like the results, it has a checksum in the run's directory.
const CONFIG: &str = "config.json";

/// Name of the lease on a run's directory.
const LEASE: &str = "lease";

/// The directory of one run.
#[derive(Clone, Debug)]
pub struct RunStore {
    dir: PathBuf,
    /// The lease on the directory, if this process works on the run.
    lease: Option<Arc<Lease>>,
}

/// Whether a difference of two configurations is that of the devices: their names, or what determines their bits.
fn is_device(difference: &str) -> bool {
    difference.starts_with("device: ") || difference.starts_with("fingerprint: ")
}

/// The outcome of [`RunStore::claim`].
#[derive(Debug)]
pub enum Claim {
    /// This process works on the run, until the last copy of this store is dropped.
    Owned(RunStore),
    /// Another process works on it.
    Busy(Owner),
}

impl RunStore {
    /// Makes the store of a directory, which is not claimed yet.
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), lease: None }
    }

    /// Path of the run's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes the run for this process, unless another process works on it. Creates its directory, and removes temporary
    /// files that killed processes left there.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn claim(&self) -> Result<Claim> {
        output::check_directory(&self.dir)?;
        Ok(match Lease::attempt(&self.dir.join(LEASE))? {
            Attempt::Busy(owner) => Claim::Busy(owner),
            Attempt::Acquired(lease) => {
                temporary::remove_stale(&self.dir, DEPTH);
                Claim::Owned(Self { dir: self.dir.clone(), lease: Some(Arc::new(lease)) })
            }
        })
    }

    /// As [`claim`](Self::claim), for a command whose only work is this run.
    ///
    /// # Errors
    /// The directory cannot be written, or another process works on the run; the error names it.
    pub fn claim_alone(&self) -> Result<Self> {
        match self.claim()? {
            Claim::Owned(store) => Ok(store),
            Claim::Busy(owner) => {
                Err(Error::failed(format!("another burgess is working in {}: {owner}", self.dir.display()))
                    .hint("wait for it to end, or choose another output directory"))
            }
        }
    }

    /// Returns the process that works on the run; `None` if there is none.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn owner(&self) -> Result<Option<Owner>> {
        Lease::owner(&self.dir.join(LEASE))
    }

    /// Checks that this process still owns the run, if it claimed it. Every method that writes begins with it.
    ///
    /// # Errors
    /// Another process took the run over, because this one was suspended or cut off from the file system.
    pub fn check_owned(&self) -> Result<()> {
        self.lease.as_ref().map_or(Ok(()), |lease| lease.check())
    }

    /// Whether this process claimed the run.
    pub fn is_claimed(&self) -> bool {
        self.lease.is_some()
    }

    /// Whether another process is known to have taken the run over.
    pub fn is_lost(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.is_lost())
    }

    /// Returns the time and size of `failed.json`, which tell whether another process failed since.
    pub fn failure_mark(&self) -> Option<(SystemTime, u64)> {
        let meta = fs::metadata(self.failure_path()).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    }

    /// Whether the run has a `config.json`.
    pub fn has_config(&self) -> bool {
        self.dir.join(CONFIG).is_file()
    }

    /// Writes `config.json`, or checks that the existing one has the same values. A run that was made from other
    /// weights or data, or on another device, is an error and is never continued.
    ///
    /// # Errors
    /// The values differ, or the file is damaged or cannot be written.
    pub fn write_or_compare_config(&self, config: &Value) -> Result<()> {
        if self.compare_config(config, None)? {
            return Ok(());
        }
        self.check_owned()?;
        checksums::write_json(&self.dir, CONFIG, config)
    }

    /// Checks that `config.json`, if it exists, has the same values; returns whether it exists. With `note`, as for a
    /// finished run, another device is no error: `note` receives what differs.
    ///
    /// # Errors
    /// The values differ, or the file is damaged.
    pub fn compare_config(&self, config: &Value, note: Option<&dyn Fn(&str)>) -> Result<bool> {
        let path = self.dir.join(CONFIG);
        if !path.exists() {
            return Ok(false);
        }
        let remove = || format!("remove {} to run this arm again", self.dir.display());
        let damage = checksums::check(&self.dir, CONFIG).err();
        let there: Value = match (atomic::read_json(&path), &damage) {
            (Ok(there), _) => there,
            (Err(_), Some(damage)) => return Err(Error::failed(damage.to_string()).hint(remove())),
            (Err(e), None) => return Err(e.hint(remove())),
        };
        let mut differences = differences(&there, config);
        // Notes describe how the inputs were read; they are not inputs.
        differences.retain(|d| !d.starts_with("notes: "));
        if let (Some(damage), false) = (damage, differences.is_empty()) {
            return Err(damage.hint(remove()));
        }
        if let Some(note) = note {
            let (device, others) = differences.into_iter().partition(|d: &String| is_device(d));
            let device: Vec<String> = device;
            differences = others;
            if let (Some(device), true) = (device.first(), differences.is_empty()) {
                note(&format!("note: {} was finished on another device and is kept: {device}", self.dir.display()));
            }
        }
        let Some(first) = differences.first() else { return Ok(true) };
        let more = match differences.len() {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        let e = Error::failed(format!("{} was made from other inputs: {first}{more}", self.dir.display()));
        Err(match is_device(first) {
            true => e.hint(format!("continue it on the device where it began, or {}", remove())),
            false => e.hint(remove()),
        })
    }

    /// Reports through `note` that the run was made by an earlier version, which wrote no checksums.
    pub fn note_missing_checksums(&self, note: &dyn Fn(&str)) -> Result<()> {
        if self.dir.join(CONFIG).is_file()
            && checksums::check(&self.dir, CONFIG).is_ok_and(|k| k == Verification::NoChecksum)
        {
            note(&format!(
                "note: {} was made by an earlier version without checksums and is used unchecked",
                self.dir.display()
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
