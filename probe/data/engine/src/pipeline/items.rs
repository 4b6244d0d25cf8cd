//! Items that are worked on by threads, each of which is kept in a journal when it is finished.

use super::journal::{Journal, JournalContents};
use super::run::ShardContext;
use super::run::remove;
use burgess_base::{Error, ErrorKind, Result, digest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// A line of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<O> {
    /// What the items are made of, in the first line.
    Of(String),
    /// The outcome of an item, by its number.
    Item(usize, O),
}

/// Works on the items of a shard with several threads, and returns their outcomes in the order of the items. Outcomes
/// that an interrupted run has finished are taken from the journal, which is removed by [`forget`], and are given to
/// `resumed` in the order of the items before the work begins.
///
/// # Errors
/// An error of `work`, which ends the shard; a signal asked to stop; or the journal cannot be written.
pub(crate) fn process<I: Sync, O: Serialize + DeserializeOwned + Send>(
    context: &ShardContext<'_>,
    items: &[I],
    workers: usize,
    resumed: &mut dyn FnMut(&O) -> Result<()>,
    work: &(dyn Fn(usize, &I) -> Result<O> + Sync),
) -> Result<Vec<O>> {
    let (stage, shard, session) = (context.task.stage, context.task.shard, context.session);
    let path = context.workspace.path(stage, shard, ".journal");
    let of = digest::of_value(&(context.workspace.settings(stage)?, &context.input))?;
    let (mut journal, mut contents) = Journal::open::<Line<O>>(&path)?;
    let is_ours = matches!(contents.entries.first(), Some(Line::Of(found)) if *found == of);
    if !is_ours {
        if !contents.entries.is_empty() {
            let name = context.task.name();
            session.progress.line(&format!("{name} begins anew: its settings or its input have changed"));
        }
        drop(journal);
        remove(&path)?;
        (journal, contents) = Journal::open::<Line<O>>(&path)?;
        journal.append(&Line::<O>::Of(of))?;
    }
    if contents.damaged > 0 {
        let count = contents.damaged;
        session.progress.line(&format!("{}: {count} lines are damaged; their items are done again", path.display()));
    }
    let JournalContents { entries, .. } = contents;
    let mut outcomes: HashMap<usize, O> = HashMap::new();
    for line in entries {
        if let Line::Item(at, outcome) = line {
            outcomes.entry(at).or_insert(outcome);
        }
    }
    for at in 0..items.len() {
        outcomes.get(&at).map_or(Ok(()), &mut *resumed)?;
    }
    let left: Vec<(usize, &I)> = items.iter().enumerate().filter(|(at, _)| !outcomes.contains_key(at)).collect();
    let before = (items.len() - left.len()) as u64;
    let (next, done, halted) = (AtomicUsize::new(0), AtomicU64::new(before), AtomicBool::new(false));
    let error: Mutex<Option<Error>> = Mutex::new(None);
    let kept = Mutex::new((&mut journal, &mut outcomes));
    let total = items.len() as u64;
    session.progress.items(stage, shard, before, total);
    std::thread::scope(|scope| {
        for _ in 0..workers.min(left.len()).max(1) {
            scope.spawn(|| {
                while !halted.load(Ordering::SeqCst) {
                    let Some((at, item)) = left.get(next.fetch_add(1, Ordering::SeqCst)) else { return };
                    let finished = (|| {
                        if (session.stopped)() {
                            return Err(Error::interrupted());
                        }
                        let line = Line::Item(*at, work(*at, item)?);
                        context.claim.check()?;
                        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                        kept.0.append(&line)?;
                        if let Line::Item(at, outcome) = line {
                            kept.1.insert(at, outcome);
                        }
                        Ok(())
                    })();
                    match finished {
                        Ok(()) => session.progress.items(stage, shard, done.fetch_add(1, Ordering::SeqCst) + 1, total),
                        Err(e) => {
                            halted.store(true, Ordering::SeqCst);
                            let mut error = error.lock().unwrap_or_else(PoisonError::into_inner);
                            // A failure says more than the interruption that may follow it.
                            if error.as_ref().is_none_or(|known| known.kind() == ErrorKind::Interrupted) {
                                *error = Some(e);
                            }
                        }
                    }
                }
            });
        }
    });
    if let Some(e) = error.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(e);
    }
    let missing = || Error::failed("an item has no outcome although all threads have ended");
    (0..items.len()).map(|at| outcomes.remove(&at).ok_or_else(missing)).collect()
}

/// Removes the journal of a shard that is finished.
///
/// # Errors
/// The file cannot be removed.
pub(crate) fn forget(context: &ShardContext<'_>) -> Result<()> {
    remove(&context.workspace.path(context.task.stage, context.task.shard, ".journal"))
}
