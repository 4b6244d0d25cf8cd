//! Works through the shards of stages, beside other processes.

use super::asking::ends_all;
use super::claims::{Claim, ClaimAttempt, Claims};
use super::marker::DoneMarker;
use super::stage::{Stage, shard_name};
use super::workspace::{ShardState, Workspace};
use crate::llm::ChatClient;
use crate::pack::{Published, publish};
use burgess_base::{Error, ErrorKind, Result};
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Time between two looks at the shards of other processes.
const LOOK: Duration = Duration::from_millis(500);

/// Told how far the work is.
pub trait EngineProgress: Sync {
    /// A shard has so many items done, of so many.
    fn items(&self, stage: Stage, shard: usize, done: u64, total: u64);
    /// The user should know this.
    fn line(&self, text: &str);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl EngineProgress for NoProgress {
    fn items(&self, _stage: Stage, _shard: usize, _done: u64, _total: u64) {}
    fn line(&self, _text: &str) {}
}

/// How a process works on a workspace.
pub struct Session<'a> {
    /// The way in which shards are claimed.
    pub claims: &'a dyn Claims,
    /// Told how far the work is.
    pub progress: &'a dyn EngineProgress,
    /// Says whether a signal asked to stop.
    pub stopped: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Number of requests at the same time, instead of the settings'.
    pub workers: Option<usize>,
    /// Whether shards that were made with other settings, or of other data, are done again.
    pub redo: bool,
    /// Directory in which fetched pages and images are cached; that of the workspace if it is not given.
    pub cache: Option<PathBuf>,
    client: Mutex<Option<ChatClient>>,
    /// The client of the web, which all shards share.
    pub(crate) fetch: Mutex<Option<Arc<crate::fetch::Client>>>,
}

impl<'a> Session<'a> {
    /// Makes a session that does stale shards not again, with the settings' number of workers.
    pub fn new(claims: &'a dyn Claims, progress: &'a dyn EngineProgress) -> Self {
        let stopped: Arc<dyn Fn() -> bool + Send + Sync> = Arc::new(|| false);
        Self {
            claims,
            progress,
            stopped,
            workers: None,
            redo: false,
            cache: None,
            client: Mutex::new(None),
            fetch: Mutex::new(None),
        }
    }

    /// Returns the client of the endpoint, which all shards share.
    ///
    /// # Errors
    /// The endpoint's settings are wrong, or its key is not there.
    pub fn client(&self, workspace: &Workspace) -> Result<ChatClient> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = client.as_ref() {
            return Ok(client.clone());
        }
        let made = ChatClient::stoppable(workspace.config().endpoint()?, Arc::clone(&self.stopped))?;
        Ok(client.insert(made).clone())
    }

    fn check(&self) -> Result<()> {
        if (self.stopped)() { Err(Error::interrupted()) } else { Ok(()) }
    }
}

/// A task: one shard of one stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ShardTask {
    /// The stage.
    pub stage: Stage,
    /// Number of the shard.
    pub shard: usize,
}

impl ShardTask {
    /// Returns the name: `qa/shard-00003`.
    pub fn name(self) -> String {
        format!("{}/{}", self.stage, shard_name(self.shard))
    }
}

/// What a stage's work on a shard gets.
pub struct ShardContext<'a> {
    /// The workspace.
    pub workspace: &'a Workspace,
    /// How the process works.
    pub session: &'a Session<'a>,
    /// The task.
    pub task: ShardTask,
    /// The claim on the shard, which is to be checked before files are written.
    pub claim: &'a dyn Claim,
    /// Digest of what the shard is made of.
    pub input: String,
}

impl ShardContext<'_> {
    /// Makes the marker of this shard, still without files.
    ///
    /// # Errors
    /// The settings of the stage are wrong.
    pub fn marker(&self) -> Result<DoneMarker> {
        let settings = self.workspace.settings(self.task.stage)?;
        Ok(DoneMarker::new(self.task.stage, self.task.shard, settings, self.input.clone()))
    }

    /// Returns the marker of a stage's shard that must be finished.
    ///
    /// # Errors
    /// It is not.
    pub fn marker_of(&self, stage: Stage, shard: usize) -> Result<DoneMarker> {
        match self.workspace.state(stage, shard)? {
            ShardState::Done(marker) => Ok(*marker),
            _ => Err(Error::failed(format!("{} is not finished", ShardTask { stage, shard }.name()))),
        }
    }
}

/// A task that failed.
#[derive(Debug)]
pub struct FailedTask {
    /// The task.
    pub task: ShardTask,
    /// Why.
    pub error: Error,
}

/// What a process did.
#[derive(Debug, Default)]
pub struct RunReport {
    /// Tasks that this process finished, with their markers.
    pub finished: Vec<DoneMarker>,
    /// Number of tasks that were finished before, or by other processes.
    pub finished_before: usize,
    /// Tasks that failed here.
    pub failed: Vec<FailedTask>,
    /// Tasks that wait for the stage before them, which is not finished.
    pub waiting: Vec<ShardTask>,
    /// What was published, if the stage `pack` was among them and all of its shards are finished.
    pub published: Option<Published>,
}

/// Does what is left of the given stages, or of one shard of them; waits for other processes that work on the same.
///
/// # Errors
/// The settings or the key are wrong, the budget is spent, shards are stale, or a signal asked to stop. Other failures
/// are in the report.
pub fn run(workspace: &Workspace, session: &Session<'_>, stages: &[Stage], only: Option<usize>) -> Result<RunReport> {
    let shards = workspace.shards();
    if let Some(shard) = only
        && shard >= shards
    {
        return Err(Error::usage(format!("there is no shard {shard}: the workspace has {shards}"))
            .hint(format!("the shards are numbered from 0 to {}", shards.saturating_sub(1))));
    }
    check_left_over(workspace, session, stages)?;
    let all = || (0..shards).filter(|shard| only.is_none_or(|only| only == *shard));
    let mut left: Vec<ShardTask> =
        stages.iter().flat_map(|stage| all().map(|shard| ShardTask { stage: *stage, shard })).collect();
    let mut report = RunReport::default();
    let mut told = false;
    loop {
        let (mut open, mut progressed, mut busy, mut waiting) = (Vec::new(), false, Vec::new(), Vec::new());
        for task in left {
            session.check()?;
            match attempt(workspace, session, task) {
                Ok(Fate::Before) => report.finished_before += 1,
                Ok(Fate::Finished(marker)) => {
                    progressed = true;
                    report.finished.push(*marker);
                }
                Ok(Fate::Busy(owner)) => {
                    busy.push((task, owner));
                    open.push(task);
                }
                Ok(Fate::Waiting) => {
                    waiting.push(task);
                    open.push(task);
                }
                Err(e) if ends_all(&e) => return Err(e),
                Err(error) => {
                    session.progress.line(&format!("{} failed: {error}", task.name()));
                    report.failed.push(FailedTask { task, error });
                }
            }
        }
        left = open;
        if left.is_empty() {
            if stages.contains(&Stage::Pack) && report.failed.is_empty() {
                report.published = publish(workspace, session)?;
            }
            return Ok(report);
        }
        if progressed {
            continue;
        }
        if busy.is_empty() {
            report.waiting = waiting;
            return Ok(report);
        }
        if !std::mem::replace(&mut told, true) {
            let names: Vec<String> = busy.iter().map(|(task, owner)| format!("{} ({owner})", task.name())).collect();
            session.progress.line(&format!("waiting for other processes: {}", names.join(", ")));
        }
        std::thread::sleep(LOOK);
    }
}

/// Refuses, or removes if asked to, shards that lie there from settings with more of them.
fn check_left_over(workspace: &Workspace, session: &Session<'_>, stages: &[Stage]) -> Result<()> {
    for stage in stages {
        for shard in workspace.left_over(*stage)? {
            let name = ShardTask { stage: *stage, shard }.name();
            if !session.redo {
                return Err(Error::usage(format!(
                    "{name} is left over from other settings: there are {} shards now",
                    workspace.shards()
                ))
                .hint("restore the settings, or have what was made with others done again"));
            }
            session.progress.line(&format!("{name} is left over from other settings and is removed"));
            for ending in [".done", ".jsonl", stage.rejected_ending(), ".journal"] {
                remove(&workspace.path(*stage, shard, ending))?;
            }
        }
    }
    Ok(())
}

pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::from(e).context(format!("removing {}", path.display())))
        }
        _ => Ok(()),
    }
}

/// What became of a task in this process.
enum Fate {
    Before,
    Finished(Box<DoneMarker>),
    Busy(String),
    Waiting,
}

fn attempt(workspace: &Workspace, session: &Session<'_>, task: ShardTask) -> Result<Fate> {
    let look = |stale: bool| -> Result<Option<Fate>> {
        Ok(match workspace.state(task.stage, task.shard)? {
            ShardState::Done(_) => Some(Fate::Before),
            ShardState::Waiting(_) => Some(Fate::Waiting),
            ShardState::Stale(why) if !stale => return Err(stale_error(task, &why)),
            ShardState::Stale(_) if workspace.input_digest(task.stage, task.shard)?.is_none() => Some(Fate::Waiting),
            ShardState::Stale(_) | ShardState::Open | ShardState::Partial => None,
        })
    };
    if let Some(fate) = look(session.redo)? {
        return Ok(fate);
    }
    let claim = match session.claims.attempt(&workspace.path(task.stage, task.shard, ""))? {
        ClaimAttempt::Owned(claim) => claim,
        ClaimAttempt::Busy(owner) => return Ok(Fate::Busy(owner)),
    };
    // Another process may have finished it between the look and the claim.
    if let Some(fate) = look(session.redo)? {
        return Ok(fate);
    }
    let Some(input) = workspace.input_digest(task.stage, task.shard)? else { return Ok(Fate::Waiting) };
    if let ShardState::Stale(why) = workspace.state(task.stage, task.shard)? {
        session.progress.line(&format!("{} is done again: {}", task.name(), why.join("; ")));
        for ending in [".done", ".journal"] {
            remove(&workspace.path(task.stage, task.shard, ending))?;
        }
    }
    let context = ShardContext { workspace, session, task, claim: &*claim, input };
    let done = (|| {
        let marker = super::work(&context)?;
        claim.check()?;
        marker.write(&workspace.path(task.stage, task.shard, ".done"))?;
        Ok(Fate::Finished(Box::new(marker)))
    })();
    done.map_err(
        |e: Error| if e.kind() == ErrorKind::Interrupted { e } else { e.context(format!("doing {}", task.name())) },
    )
}

fn stale_error(task: ShardTask, why: &[String]) -> Error {
    Error::usage(format!("{} was made with other settings or of other data: {}", task.name(), why.join("; "))).hint(
        "restore the settings, or have it done again: replies to requests that have not changed are used again, the \
         others are paid for",
    )
}
