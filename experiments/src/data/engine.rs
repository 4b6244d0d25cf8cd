//! The data engine on this machine: leases for its shards, its progress, its signals, and its tasks as commands.

use crate::machine::lease::{Attempt, Lease};
use crate::machine::progress::{Bar, Progress};
use crate::machine::{paths, stop};
use burgess_base::Result;
use burgess_engine::pipeline::claims::{Claim, ClaimAttempt, Claims};
use burgess_engine::pipeline::{EngineProgress, Session, ShardState, ShardTask, Stage, Workspace};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Claims by leases, which processes of several machines share and which survive none of their ends.
#[derive(Debug, Clone, Copy, Default)]
pub struct LeaseClaims;

struct LeaseClaim(Lease);

impl Claims for LeaseClaims {
    fn attempt(&self, path: &Path) -> Result<ClaimAttempt> {
        Ok(match Lease::attempt(path)? {
            Attempt::Acquired(lease) => ClaimAttempt::Owned(Box::new(LeaseClaim(lease))),
            Attempt::Busy(owner) => ClaimAttempt::Busy(owner.to_string()),
        })
    }
}

impl Claim for LeaseClaim {
    fn check(&self) -> Result<()> {
        self.0.check()
    }
}

/// Shows the shard that is worked on as a bar.
pub struct EngineBars {
    progress: Progress,
    bar: Mutex<Option<(ShardTask, Bar)>>,
}

impl EngineBars {
    /// Makes a display.
    pub fn new(progress: Progress) -> Self {
        Self { progress, bar: Mutex::new(None) }
    }
}

impl EngineProgress for EngineBars {
    fn items(&self, stage: Stage, shard: usize, done: u64, total: u64) {
        let task = ShardTask { stage, shard };
        let mut bar = self.bar.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = bar.as_ref().is_some_and(|(known, _)| *known == task);
        if !is_same {
            // The old bar goes first, so that two never stand below one another.
            drop(bar.take());
            *bar = Some((task, self.progress.bar(&task.name(), total)));
        }
        if let Some((_, bar)) = bar.as_ref() {
            bar.set(done, total);
        }
    }

    fn line(&self, text: &str) {
        self.progress.line(text);
    }
}

/// Makes the session of a command: leases, signals, and the cache of pages on this machine.
///
/// # Errors
/// There is no directory for the cache.
pub fn session<'a>(claims: &'a LeaseClaims, bars: &'a EngineBars) -> Result<Session<'a>> {
    let mut session = Session::new(claims, bars);
    session.stopped = Arc::new(stop::requested);
    session.cache = Some(paths::cache()?.join("web"));
    Ok(session)
}

/// Returns the tasks that are not finished, in an order in which each comes after those that it needs.
///
/// # Errors
/// A marker cannot be read.
pub fn open_tasks(workspace: &Workspace, stage: Option<Stage>) -> Result<Vec<ShardTask>> {
    let mut open = Vec::new();
    for stage in Stage::ALL.into_iter().filter(|each| stage.is_none_or(|only| only == *each)) {
        for shard in 0..workspace.shards() {
            if !matches!(workspace.state(stage, shard)?, ShardState::Done(_)) {
                open.push(ShardTask { stage, shard });
            }
        }
    }
    Ok(open)
}
