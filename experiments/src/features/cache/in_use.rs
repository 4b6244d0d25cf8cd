//! Which entries of the cache are in use, and the removal of those that are not.
//!
//! A process that uses an entry keeps a lease of its own in `ENTRY/users/`, whose heartbeat shows other machines that
//! it is alive: a file that is mapped into memory must not be removed on a network file system, or its reader crashes.
//! A process that removes an entry takes the lease `evict` there first. Each of the two leaves its own mark, and then
//! looks for that of the other: a user that finds a remover waits, and a remover that finds a user gives up. So an
//! entry is never removed under a user, whatever the order.

use super::FeatureCache;
use crate::machine::lease::{self, Attempt, Lease};
use crate::machine::progress::Progress;
use burgess_base::temporary::TemporaryPath;
use burgess_base::{Error, Result, process};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// Time between two heartbeats of a process that uses an entry.
const HEARTBEAT: Duration = Duration::from_mins(10);
/// Age of a heartbeat of another machine, by the clock of the file server, at which its process no longer counts. It is
/// long, because a process that was suspended goes on using what it has mapped.
const FORGOTTEN: Duration = Duration::from_hours(24);
/// Time for which a process waits for those that remove an entry.
const PATIENCE: Duration = Duration::from_mins(2);

/// Name of the directory of marks in an entry.
const USERS: &str = "users";
/// Name of the lease of the process that removes the entry.
const EVICT: &str = "evict";

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A mark that keeps an entry from being removed while it lives; `None` where this process cannot write.
#[derive(Debug)]
pub(super) struct InUse(Option<Lease>);

impl InUse {
    /// Creates the directory of an entry below `root` and marks it as used by this process. An entry that exists and
    /// cannot be written is used without a mark.
    pub(super) fn mark(root: &Path, dir: &Path) -> Result<Self> {
        if dir.is_dir() && lease::is_read_only(dir) {
            return Ok(Self(None));
        }
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{number}", process::machine(), std::process::id());
        let path = dir.join(USERS).join(name);
        let (deadline, mut failure) = (Instant::now() + PATIENCE, None);
        while Instant::now() < deadline {
            match Self::attempt(root, dir, &path) {
                Ok(Some(mark)) => return Ok(mark),
                Ok(None) => failure = None,
                // Another process may have just removed the directory.
                Err(e) => failure = Some(e),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let removed = || Error::failed(format!("{} is being removed again and again", dir.display()));
        Err(failure
            .unwrap_or_else(removed)
            .hint("set BURGESS_CACHE to another directory, or raise BURGESS_CACHE_GB, the limit of the cache"))
    }

    /// Whether there is a mark.
    pub(super) fn is_marked(&self) -> bool {
        self.0.is_some()
    }

    /// Leaves the mark and looks for a process that removes the entry; `None` if there is one or was one.
    fn attempt(root: &Path, dir: &Path, path: &Path) -> Result<Option<Self>> {
        let lease = match Lease::attempt_every(path, HEARTBEAT)? {
            Attempt::Acquired(lease) => lease,
            Attempt::Busy(owner) => {
                return Err(Error::failed(format!("{} is marked as used by {owner}", path.display())));
            }
        };
        let mark = Self(Some(lease));
        if Lease::owner(&dir.join(USERS).join(EVICT))?.is_some() {
            return Ok(None);
        }
        // The entry may have been renamed and removed in between.
        lease::refresh(root)?;
        let there = mark.0.as_ref().is_some_and(|lease| lease.check().is_ok());
        Ok(there.then_some(mark))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        if let Some(lease) = self.0.take() {
            lease.remove();
        }
    }
}

impl FeatureCache {
    /// Total size of the cache, in bytes.
    pub fn size(&self) -> u64 {
        self.entries().iter().map(|(_, size, _)| size).sum()
    }

    /// Returns time of last use, size in bytes and directory of every entry, oldest first. Entries that another process
    /// is removing count as empty.
    fn entries(&self) -> Vec<(SystemTime, u64, PathBuf)> {
        let mut entries: Vec<_> = fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| {
                let dir = entry.path();
                let used =
                    fs::metadata(dir.join("what.json")).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
                let files = fs::read_dir(&dir).into_iter().flatten().flatten();
                let size = files.filter_map(|f| f.metadata().ok()).filter(fs::Metadata::is_file).map(|m| m.len()).sum();
                (used, size, dir)
            })
            .collect();
        entries.sort();
        entries
    }

    /// Removes the least recently used entries until the cache is within its limit. Entries in use by any process on
    /// any machine are kept.
    pub(super) fn evict(&self, progress: &Progress) {
        let entries = self.entries();
        let mut total: u64 = entries.iter().map(|(_, size, _)| size).sum();
        for (_, size, dir) in entries {
            if total <= self.limit {
                return;
            }
            if remove_unused(&dir) {
                total = total.saturating_sub(size);
            }
        }
        if total > self.limit {
            progress.line(&format!(
                "note: {:.1} GB of the feature cache are in use, more than its limit of {:.1} GB (BURGESS_CACHE_GB)",
                total as f64 / 1e9,
                self.limit as f64 / 1e9
            ));
        }
    }
}

/// Removes an entry that no process uses; returns whether it did.
fn remove_unused(dir: &Path) -> bool {
    let users = dir.join(USERS);
    if is_used(&users) {
        return false;
    }
    // The lease is dropped after the entry is renamed, and then changes nothing.
    let Ok(Attempt::Acquired(lease)) = Lease::attempt(&users.join(EVICT)) else { return false };
    let gone = TemporaryPath::beside(dir);
    if is_used(&users) || fs::rename(dir, gone.path()).is_err() {
        lease.remove();
        return false;
    }
    // Dropping the temporary path removes it.
    true
}

/// Whether a process uses the entry with this directory of users. One that cannot be read counts as used.
fn is_used(users: &Path) -> bool {
    lease::any_held(users, EVICT, FORGOTTEN).unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(limit: u64) -> Result<(tempfile::TempDir, FeatureCache)> {
        let dir = tempfile::tempdir()?;
        let cache = FeatureCache::open(dir.path(), limit)?;
        Ok((dir, cache))
    }

    fn entry(cache: &FeatureCache, name: &str, age: u64) -> Result<PathBuf> {
        let dir = cache.root.join(name);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("00000.safetensors"), vec![0; 1000])?;
        fs::write(dir.join("what.json"), "{}")?;
        let time = SystemTime::now() - Duration::from_secs(age);
        fs::File::options().write(true).open(dir.join("what.json"))?.set_modified(time)?;
        Ok(dir)
    }

    #[test]
    fn the_oldest_unused_entries_are_evicted() -> Result<()> {
        let (_tmp, cache) = cache(2500)?;
        let dirs = [("a", 30), ("b", 20), ("c", 10), ("d", 0)].map(|(name, age)| entry(&cache, name, age));
        let [a, b, c, d] = dirs;
        let (a, b, c, d) = (a?, b?, c?, d?);
        let used = InUse::mark(&cache.root, &a)?;
        cache.evict(&Progress::silent());
        assert!(a.exists() && !b.exists() && !c.exists() && d.exists(), "a is in use, d fits");
        drop(used);
        let left: Vec<_> = fs::read_dir(a.join(USERS))?.flatten().map(|e| e.file_name()).collect();
        assert!(left.is_empty(), "the mark is gone: {left:?}");
        entry(&cache, "e", 0)?;
        cache.evict(&Progress::silent());
        assert!(!a.exists() && d.exists());
        assert!(fs::read_dir(&cache.root)?.flatten().all(|e| !e.file_name().to_string_lossy().ends_with(".tmp")));
        Ok(())
    }

    #[test]
    fn a_process_of_another_machine_keeps_its_entry_for_a_day() -> Result<()> {
        let (_tmp, cache) = cache(0)?;
        let dir = entry(&cache, "a", 30)?;
        let mark = InUse::mark(&cache.root, &dir)?;
        let file = fs::read_dir(dir.join(USERS))?.flatten().map(|e| e.path()).next().unwrap_or_default();
        let text = fs::read_to_string(&file)?;
        drop(mark);
        let write = |age: Duration| -> Result<()> {
            fs::write(&file, text.replace(process::machine(), "0badcafe"))?;
            Ok(fs::File::options().write(true).open(&file)?.set_modified(SystemTime::now() - age)?)
        };
        write(Duration::from_hours(23))?;
        assert!(is_used(&dir.join(USERS)) && !remove_unused(&dir));
        write(Duration::from_hours(25))?;
        assert!(!is_used(&dir.join(USERS)) && remove_unused(&dir) && !dir.exists());
        Ok(())
    }

    /// Many threads use and remove the same entry: a user never finds it gone.
    #[test]
    fn users_and_removers_at_once() -> Result<()> {
        let (_tmp, cache) = cache(0)?;
        let dir = cache.root.join("a");
        let user = || -> Result<()> {
            for _ in 0..60 {
                let mark = InUse::mark(&cache.root, &dir)?;
                fs::write(dir.join("00000.safetensors"), "x")?;
                std::thread::yield_now();
                let there = fs::read(dir.join("00000.safetensors"));
                assert!(there.is_ok(), "{there:?}");
                drop(mark);
            }
            Ok(())
        };
        let finished = std::sync::atomic::AtomicBool::new(false);
        let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !finished.load(Ordering::Relaxed) {
                    remove_unused(&dir);
                }
            });
            let users: Vec<_> = (0..3).map(|_| scope.spawn(user)).collect();
            let outcomes = users.into_iter().filter_map(|user| user.join().ok()).collect();
            finished.store(true, Ordering::Relaxed);
            outcomes
        });
        assert_eq!(outcomes.len(), 3, "a user panicked");
        assert!(remove_unused(&dir) && !dir.exists(), "nobody uses it any more");
        outcomes.into_iter().collect()
    }
}
