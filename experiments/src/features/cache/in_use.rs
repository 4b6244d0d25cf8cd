//! Which entries of the cache are in use, and the removal of those that are not.
//!
//! A process that uses an entry keeps a lease of its own in `ENTRY/users/`, whose heartbeat shows other machines that it
//! is alive: a file that is mapped into memory must not be removed on a network file system, or its reader crashes. An
//! entry is removed in three steps: it is unused, it is renamed, and it is still unused. A process that begins to use an
//! entry looks, after it has left its mark, whether the entry has still its name. So either the one that removes finds
//! the mark and gives the entry its name back, or the one that uses it finds that the entry is gone and makes it anew.

use super::FeatureCache;
use crate::machine::lease::{self, Attempt, Lease};
use crate::machine::progress::Progress;
use burgess_base::temporary::TemporaryPath;
use burgess_base::{Error, Result, process};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Time between two heartbeats of a process that uses an entry.
const HEARTBEAT: Duration = Duration::from_mins(10);
/// Age of a heartbeat of another machine, by the clock of the file server, at which its process no longer counts. It is
/// long, because a process that was suspended goes on using what it has mapped.
const FORGOTTEN: Duration = Duration::from_hours(24);
/// Number of times that an entry is made anew because another process has just removed it.
const TRIES: usize = 20;

/// Name of the directory of marks in an entry.
const USERS: &str = "users";

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A mark that keeps an entry from being removed while it lives.
#[derive(Debug)]
pub(super) struct InUse(Option<Lease>);

impl InUse {
    /// Creates the directory of an entry below `root` and marks it as used by this process.
    pub(super) fn mark(root: &Path, dir: &Path) -> Result<Self> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{number}", process::machine(), std::process::id());
        let path = dir.join(USERS).join(name);
        let mut failure = None;
        for _ in 0..TRIES {
            let lease = match Lease::attempt_every(&path, HEARTBEAT) {
                Ok(Attempt::Acquired(lease)) => lease,
                Ok(Attempt::Busy(owner)) => {
                    return Err(Error::failed(format!("{} is marked as used by {owner}", path.display())));
                }
                // Another process may have just removed the entry.
                Err(e) => {
                    failure = Some(e);
                    continue;
                }
            };
            lease::refresh(root)?;
            match lease.check() {
                Ok(()) => return Ok(Self(Some(lease))),
                Err(e) if !lease.is_lost() => return Err(e),
                Err(_) => failure = None,
            }
        }
        let removed = || Error::failed(format!("{} was removed {TRIES} times before it was used", dir.display()));
        Err(failure
            .unwrap_or_else(removed)
            .hint("set BURGESS_CACHE to another directory, or raise BURGESS_CACHE_GB, the limit of the cache"))
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

    /// Removes the least recently used entries until the cache is within its limit. Entries in use by any process on any
    /// machine are kept.
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

/// Whether a process uses the entry in this directory. An entry that cannot be read counts as used.
fn is_used(dir: &Path) -> bool {
    lease::any_held(&dir.join(USERS), FORGOTTEN).unwrap_or(true)
}

/// Removes an entry that no process uses; returns whether it did.
fn remove_unused(dir: &Path) -> bool {
    let gone = TemporaryPath::beside(dir);
    if is_used(dir) || fs::rename(dir, gone.path()).is_err() {
        return false;
    }
    if !is_used(gone.path()) {
        // Dropping the temporary path removes it.
        return true;
    }
    // A process began to use the entry just before it was renamed.
    if fs::rename(gone.path(), dir).is_err() {
        give_back(gone.path(), dir);
    }
    false
}

/// Moves the files of a renamed entry back, if the entry was made anew in between. Their contents stay where they are.
fn give_back(from: &Path, to: &Path) {
    for (from, to) in [(from.to_path_buf(), to.to_path_buf()), (from.join(USERS), to.join(USERS))] {
        for file in fs::read_dir(from).into_iter().flatten().flatten() {
            let path = to.join(file.file_name());
            if file.file_type().is_ok_and(|kind| kind.is_file()) && !path.exists() {
                let _ = fs::rename(file.path(), path);
            }
        }
    }
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
        assert!(fs::read_dir(a.join(USERS))?.next().is_none(), "the mark is gone");
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
        assert!(is_used(&dir) && !remove_unused(&dir));
        write(Duration::from_hours(25))?;
        assert!(!is_used(&dir) && remove_unused(&dir) && !dir.exists());
        Ok(())
    }

    #[test]
    fn an_entry_that_was_made_anew_gets_its_files_back() -> Result<()> {
        let (_tmp, cache) = cache(0)?;
        let dir = entry(&cache, "a", 0)?;
        let mark = InUse::mark(&cache.root, &dir)?;
        let gone = cache.root.join("gone");
        fs::rename(&dir, &gone)?;
        fs::create_dir_all(dir.join(USERS))?;
        fs::write(dir.join("what.json"), "new")?;
        give_back(&gone, &dir);
        assert!(dir.join("00000.safetensors").exists() && is_used(&dir));
        assert_eq!(fs::read_to_string(dir.join("what.json"))?, "new");
        drop(mark);
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
            let remover = scope.spawn(|| {
                let mut removed = 0;
                while !finished.load(Ordering::Relaxed) {
                    removed += usize::from(remove_unused(&dir));
                }
                removed
            });
            let users: Vec<_> = (0..3).map(|_| scope.spawn(user)).collect();
            let outcomes = users.into_iter().filter_map(|user| user.join().ok()).collect();
            finished.store(true, Ordering::Relaxed);
            assert!(remover.join().is_ok_and(|removed| removed > 0));
            outcomes
        });
        assert_eq!(outcomes.len(), 3, "a user panicked");
        outcomes.into_iter().collect()
    }
}
