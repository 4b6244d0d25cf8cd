//! The pipeline: stages over shards in a workspace.
//!
//! A workspace is a directory with `engine.toml`. Each stage has a directory in it, and works through shards, each of
//! which is one task: it reads `shard-NNNNN.jsonl` of the stage before and writes
//!
//! - `shard-NNNNN.jsonl`: the records, atomically, in the order of the input;
//! - `shard-NNNNN.rejected.jsonl` (pack: `.rejected`): what was left out, with the reason;
//! - `shard-NNNNN.done`: settings, digests and counts; a shard with this marker is finished;
//! - `shard-NNNNN.replies.jsonl` (topics and qa): every reply of the language model, kept for good;
//! - `shard-NNNNN.journal` (pages and images): finished items, until the shard is finished.
//!
//! Any number of processes may work on the same workspace; each claims one shard at a time. A kill loses at most the
//! items that are running. With the same replies the files are the same, however often the work was interrupted and how
//! many threads and processes did it. A finished shard whose settings or input have changed is never mixed with others:
//! it is an error, or it is done again if asked to.

mod asking;
pub mod budget;
pub mod claims;
mod estimate;
mod items;
pub mod journal;
mod marker;
mod replies;
mod run;
mod stage;
mod status;
mod workspace;

pub(crate) use asking::{Asking, key_of};
pub use estimate::{StageEstimate, estimate};
pub(crate) use items::{forget, process};
pub use marker::{DoneMarker, FileMark};
pub use replies::{KeptReplies, ReplyStore, StoredReply, kept_in, spent_in};
pub use run::{EngineProgress, FailedTask, NoProgress, RunReport, Session, ShardContext, ShardTask, run};
pub use stage::{Stage, shard_name, shard_of};
pub use status::{StageStatus, WorkspaceStatus, status};
pub use workspace::{ShardState, Workspace, read_records};

use burgess_base::Result;

/// Returns what each shard of a workspace has spent.
///
/// # Errors
/// The ledger cannot be read.
pub fn ledger_of(workspace: &Workspace) -> Result<budget::Ledger> {
    budget::ledger(workspace.directory())
}

/// Does a shard; returns its marker, which is not yet written.
fn work(context: &ShardContext<'_>) -> Result<DoneMarker> {
    match context.task.stage {
        Stage::Topics => crate::topics::work(context),
        Stage::Pages => crate::collect::pages_of(context),
        Stage::Images => crate::collect::images_of(context),
        Stage::Pack => crate::pack::work(context),
        Stage::Qa => crate::qa::work(context),
    }
}
