//! The runs of a study among several processes: each run is done by the process that claims it first.

use crate::machine::progress::Progress;
use crate::machine::{stop, terminal};
use crate::run::store::{Claim, RunStore};
use crate::study::Arm;
use burgess_base::{Error, ErrorKind, Result};
use burgess_reports::schema::MissingRun;
use std::time::{Duration, SystemTime};

/// Time between two looks at the runs of other processes.
const LOOK: Duration = Duration::from_secs(1);

/// A run that is not finished.
#[derive(Clone)]
pub struct OpenRun {
    /// Arm of the run.
    pub arm: Arm,
    /// Seed of the run.
    pub seed: u64,
    /// Its store, which is not claimed.
    pub store: RunStore,
    /// Time and size of `failed.json` before this process began: a failure that is recorded later is another process's.
    failed: Option<(SystemTime, u64)>,
}

/// What became of a run in this process.
#[derive(Debug)]
pub enum RunFate {
    /// It is finished, here or in another process.
    Finished,
    /// It failed, here or in another process since this one began; the failure is recorded in its directory.
    Failed(MissingRun),
    /// Another process works on it, or took it over from this one: what became of it there is to be looked up later.
    Elsewhere,
}

impl OpenRun {
    /// Makes an open run of a store that is not claimed.
    pub fn new(arm: Arm, seed: u64, store: RunStore) -> Self {
        let failed = store.failure_mark();
        Self { arm, seed, store, failed }
    }

    /// Name of the run, for messages.
    pub fn title(&self) -> String {
        format!("{} (seed {})", self.arm.name(), self.seed)
    }

    /// Does the run, unless another process works on it, has finished it or failed at it since this one began.
    /// `finished` says whether nothing is left to do; `work` gets the store that this process owns.
    ///
    /// # Errors
    /// The run cannot be claimed, an error of `finished`, or a signal asked to stop.
    pub fn attempt(
        &self,
        finished: &dyn Fn(&RunStore) -> Result<bool>,
        work: impl FnOnce(&RunStore) -> Result<()>,
        progress: &Progress,
    ) -> Result<RunFate> {
        let store = match self.store.claim()? {
            Claim::Owned(store) => store,
            Claim::Busy(owner) => {
                progress.line(&format!("{} is being worked on by {owner}", self.title()));
                return Ok(RunFate::Elsewhere);
            }
        };
        if finished(&store)? {
            return Ok(RunFate::Finished);
        }
        if store.failure_mark() != self.failed
            && let Some(missing) = store.failure()
        {
            progress.line(&format!("{} failed in another process: {}", self.title(), missing.cause));
            return Ok(RunFate::Failed(missing));
        }
        match work(&store) {
            // The successor continues the run, or has already ended with it: here it is neither finished nor failed.
            Err(e) if store.is_lost() => {
                progress.line(&format!("{} is given up: {e}", self.title()));
                Ok(RunFate::Elsewhere)
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => Err(e),
            // Recorded while this process owns the run, so that the others do not try it again.
            Err(e) => Ok(RunFate::Failed(record_failure(&self.arm, self.seed, &store, &e, progress))),
            Ok(()) => Ok(RunFate::Finished),
        }
    }

    /// Whether another process works on the run.
    fn is_busy(&self) -> Result<bool> {
        Ok(self.store.owner()?.is_some())
    }
}

/// Waits until at least one of the runs is not worked on by another process any more, because it is finished there or
/// its process has ended; separates those from the others. Says once for what it waits.
///
/// # Errors
/// A directory cannot be read, or a signal asked to stop.
pub fn wait_for_any(runs: Vec<OpenRun>, told: &mut bool, progress: &Progress) -> Result<(Vec<OpenRun>, Vec<OpenRun>)> {
    let names: Vec<String> = runs.iter().map(OpenRun::title).collect();
    let what = format!("waiting for the runs of other processes: {}", names.join(", "));
    if !std::mem::replace(told, true) {
        progress.line(&what);
    }
    let bar = progress.bar(&what, 0);
    loop {
        let mut free = Vec::new();
        let mut busy = Vec::new();
        for run in &runs {
            if run.is_busy()? { busy.push(run.clone()) } else { free.push(run.clone()) }
        }
        if !free.is_empty() {
            return Ok((free, busy));
        }
        stop::check()?;
        std::thread::sleep(LOOK);
        bar.message(&what);
    }
}

/// Prints why a run failed.
pub fn failure(arm: &Arm, seed: u64, e: &Error, progress: &Progress) -> MissingRun {
    progress.line(&format!("{} (seed {seed}) failed: {e}", arm.name()));
    MissingRun { arm: arm.name(), seed, cause: e.to_string(), hint: terminal::hint(e) }
}

/// Prints why a run failed, and records it in the run's directory.
pub fn record_failure(arm: &Arm, seed: u64, run: &RunStore, e: &Error, progress: &Progress) -> MissingRun {
    let missing = failure(arm, seed, e, progress);
    // A full disk may be the cause, so a failed write does not stop the report.
    if let Err(e) = run.write_failure(&missing) {
        progress.line(&format!("failed.json could not be written: {e}"));
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_run_that_was_taken_over_is_no_failure() -> Result<()> {
        let place = tempfile::tempdir()?;
        let store = RunStore::at(&place.path().join("a/seed-0"));
        let run = OpenRun::new(Arm::parse("nano-sup")?, 0, store.clone());
        // The successor has finished the run and ended before this process, which was suspended, goes on.
        let work = |owned: &RunStore| {
            for entry in fs::read_dir(owned.dir())? {
                fs::remove_file(entry?.path())?;
            }
            owned.check_owned()
        };
        let fate = run.attempt(&|_| Ok(false), work, &Progress::silent())?;
        assert!(matches!(fate, RunFate::Elsewhere), "{fate:?}");
        assert!(store.failure().is_none(), "the successor's run is not marked as failed");
        let (free, busy) = wait_for_any(vec![run], &mut false, &Progress::silent())?;
        assert_eq!((free.len(), busy.len()), (1, 0));
        let fate = free[0].attempt(&|_| Ok(true), |_| Ok(()), &Progress::silent())?;
        assert!(matches!(fate, RunFate::Finished), "{fate:?}");
        Ok(())
    }
}
