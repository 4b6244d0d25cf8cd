//! Watching the leases of other processes, to find those whose heartbeat stopped.

use super::record::{Owner, Record, is_gone};
use super::{MISSED, WATCHED};
use burgess_base::temporary::TemporaryPath;
use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// State of a lease, as judged from its file and its heartbeat.
#[derive(Debug)]
pub(super) enum LeaseState {
    /// The lease has an owner.
    Held(Owner),
    /// The lease can be taken over: it was released, its owner has ended, or its heartbeat has stopped.
    Free,
    /// The file does not exist any more.
    Gone,
}

/// What this process has seen of the heartbeat of another.
struct Seen {
    token: String,
    beat: u64,
    modified: SystemTime,
    /// Time for which nothing changed while this process looked on.
    unchanged: Duration,
    last: Instant,
}

static SEEN: LazyLock<Mutex<HashMap<PathBuf, Seen>>> = LazyLock::new(Mutex::default);

/// Looks at a lease file.
pub(super) fn look(path: &Path) -> std::io::Result<LeaseState> {
    let Some(record) = Record::read(path)? else { return Ok(LeaseState::Gone) };
    let meta = match fs::metadata(path) {
        Err(e) if is_gone(&e) => return Ok(LeaseState::Gone),
        other => other?,
    };
    if record.released || record.has_ended(&meta) {
        return Ok(LeaseState::Free);
    }
    let modified = meta.modified()?;
    // In a directory that this process cannot write, the server's time is unknown: the age is then 0, and only the
    // time for which this process has watched the heartbeat counts.
    let now = server_time(super::directory(path)).unwrap_or(modified);
    let age = now.duration_since(modified).unwrap_or_default();
    let (limit, unchanged) = (record.interval() * MISSED, unchanged(path, &record, modified));
    if unchanged >= limit || (age >= limit && unchanged >= record.interval() * WATCHED) {
        // `SEEN` keeps this result, so that the next call in this process, which takes the lease, need not watch again.
        return Ok(LeaseState::Free);
    }
    Ok(LeaseState::Held(record.owner(age)))
}

/// Time for which the heartbeat did not change while this process looked on. A pause between two looks counts as one
/// interval at most: this process, or its access to the file system, may have been suspended.
fn unchanged(path: &Path, record: &Record, modified: SystemTime) -> Duration {
    let mut all = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    let first =
        || Seen { token: record.token.clone(), beat: record.beat, modified, unchanged: Duration::ZERO, last: now };
    let seen = all.entry(path.to_path_buf()).or_insert_with(first);
    if (&seen.token, seen.beat, seen.modified) != (&record.token, record.beat, modified) {
        *seen = first();
    }
    seen.unchanged += now.duration_since(seen.last).min(record.interval());
    seen.last = now;
    seen.unchanged
}

/// Forgets what was seen of a lease file that does not exist any more.
pub(super) fn forget(path: &Path) {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
}

/// Returns the time of the file server, which the file system gives to a file that is created in `dir`. Creating the
/// file also makes an NFS client read `dir` again instead of listing it from its cache.
pub(super) fn server_time(dir: &Path) -> std::io::Result<SystemTime> {
    let probe = TemporaryPath::beside(&dir.join(".time"));
    File::options().create_new(true).write(true).open(probe.path())?.metadata()?.modified()
}
