//! Leases: exclusive ownership of one thing (a run's directory, the report of a study, a chunk of the feature cache)
//! among the processes of several machines that share a file system.
//!
//! A lease on `DIR/NAME` is the file `DIR/.NAME-<generation>` with the highest generation. Its owner writes a heartbeat
//! into it. To take a lease, a process writes a temporary file and links it to the name of the *next* generation: the
//! link fails if the name exists, so exactly one of several processes gets a generation. The file of a released lease
//! stays, marked as released, so that generations only grow; older files are removed by the next owner. A process that
//! acted on an outdated directory listing finds a higher generation after its own link and withdraws.
//!
//! This relies on what NFS (3 and 4) and local file systems guarantee, and on no lock manager:
//!
//! - `link` is atomic on the server, and fails if the name exists. A lost reply may turn success into "exists", so the
//!   token in the file decides. Where hard links do not exist, the file is created exclusively (`O_EXCL`).
//! - A file that is opened has the contents that were there when another machine closed it (close-to-open consistency),
//!   and a machine that changes a directory lists it anew.
//! - A heartbeat is written in place, into the file of the owner's generation. After a takeover there is no file of
//!   that name any more, so a late heartbeat never damages the lease of the successor.
//!
//! A lease is stale, and free to be taken over, if one of these holds:
//!
//! - its process ran on this machine (same host, boot and PID namespace) and has ended;
//! - its process belonged to an earlier start of this process's own Slurm job, which was requeued since;
//! - its heartbeat did not change for [`MISSED`] intervals while this process looked on, by this process's monotonic
//!   clock; or only for [`WATCHED`] intervals, if the file is older than [`MISSED`] intervals by the clock of the file
//!   server (asked by touching a file beside it). Clocks of two machines are never compared.
//!
//! An owner that was suspended or cut off from the file system may lose its lease. It notices at the next
//! [`Lease::check`], which is called before everything that it writes, and stops with an error.

mod record;
mod watch;

pub use record::Owner;

use crate::machine::stop;
use burgess_base::temporary::TemporaryPath;
use burgess_base::{Context, Error, Result};
use record::Record;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time between two heartbeats of a lease on work that another process would continue.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Number of missed heartbeats after which a lease is stale.
pub const MISSED: u32 = 5;
/// Number of intervals for which a heartbeat is watched at least before a lease of another machine is stale.
pub const WATCHED: u32 = 2;
/// Time for which a lease is tried if other processes take it and release it at the same time, or if this machine
/// remembers a name that does not exist any more: file systems remember names for a minute at most.
const PATIENCE: Duration = Duration::from_secs(90);
/// Longest pause between two such tries.
const PAUSE: Duration = Duration::from_millis(250);

/// Exclusive ownership, kept by a thread that writes heartbeats, until this value is dropped.
#[derive(Debug)]
pub struct Lease {
    held: Arc<Held>,
    heart: Option<JoinHandle<()>>,
}

/// The outcome of an attempt to get a lease.
#[derive(Debug)]
pub enum Attempt {
    /// This process owns the lease now.
    Acquired(Lease),
    /// Another owner has it.
    Busy(Owner),
}

/// What the owner and its heartbeat thread share.
#[derive(Debug)]
struct Held {
    /// `DIR/NAME`, as the caller gave it.
    path: PathBuf,
    generation: u64,
    /// Contents of the lease file as last written; `None` once the lease is released.
    record: Mutex<Option<Record>>,
    /// Says why the lease was lost; empty while it is held.
    lost: OnceLock<String>,
    /// Whether the heartbeat ends, and the signal to look.
    ended: (Mutex<bool>, Condvar),
}

/// Leases of this process, which are released if it exits without unwinding.
static HELD: Mutex<Vec<Weak<Held>>> = Mutex::new(Vec::new());

impl Lease {
    /// Tries to get the lease on `path` once, with heartbeats every [`INTERVAL`]. Creates the directory of `path` if
    /// needed, but no file with this name: the lease lies in hidden files beside it.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn attempt(path: &Path) -> Result<Attempt> {
        Self::attempt_every(path, INTERVAL)
    }

    /// As [`attempt`](Self::attempt), with another time between heartbeats. Processes that find this lease use it too.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn attempt_every(path: &Path, interval: Duration) -> Result<Attempt> {
        let step = || format!("taking the lease on {}", path.display());
        fs::create_dir_all(directory(path)).with_context(step)?;
        let (deadline, mut pause) = (Instant::now() + PATIENCE, Duration::from_micros(100));
        while Instant::now() < deadline {
            let generation = match newest(path).with_context(step)? {
                None => Some(1),
                Some(generation) => match watch::look(&file_of(path, generation)).with_context(step)? {
                    watch::LeaseState::Held(owner) => return Ok(Attempt::Busy(owner)),
                    watch::LeaseState::Free => Some(generation + 1),
                    watch::LeaseState::Gone => None,
                },
            };
            if let Some(generation) = generation
                && let Some(lease) = Self::create(path, generation, interval).with_context(step)?
            {
                return Ok(Attempt::Acquired(lease));
            }
            // A change of the directory makes this machine list it anew.
            watch::server_time(directory(path)).with_context(step)?;
            std::thread::sleep(pause);
            pause = (2 * pause).min(PAUSE);
        }
        let tried = PATIENCE.as_secs();
        Err(Error::failed(format!(
            "for {tried} s other processes took and released the lease, or its file was not found"
        ))
        .context(step())
        .hint("start the command again; if this happens again, use a directory on another file system"))
    }

    /// Waits for the lease on `path`. `waiting` is called with its present owner each time that it is not free, about
    /// once a second.
    ///
    /// # Errors
    /// The directory cannot be read or written, a signal asked to stop, or an error of `waiting`.
    pub fn acquire(path: &Path, waiting: &mut dyn FnMut(&Owner) -> Result<()>) -> Result<Self> {
        let mut pause = Duration::from_millis(20);
        loop {
            match Self::attempt(path)? {
                Attempt::Acquired(lease) => return Ok(lease),
                Attempt::Busy(owner) => waiting(&owner)?,
            }
            stop::check()?;
            std::thread::sleep(pause);
            pause = (2 * pause).min(Duration::from_secs(1));
        }
    }

    /// Returns the present owner of the lease on `path`; `None` if it is free. An owner on another machine that does
    /// not respond any more counts as present: [`Owner::age`] tells.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn owner(path: &Path) -> Result<Option<Owner>> {
        let step = || format!("reading the lease on {}", path.display());
        let deadline = Instant::now() + PATIENCE;
        while let Some(generation) = newest(path).with_context(step)? {
            match watch::look(&file_of(path, generation)).with_context(step)? {
                watch::LeaseState::Held(owner) => return Ok(Some(owner)),
                watch::LeaseState::Free => break,
                watch::LeaseState::Gone if Instant::now() > deadline => {
                    return Err(Error::failed("its file is listed, but not found").context(step()));
                }
                watch::LeaseState::Gone => {
                    // This machine may list an old directory until it changes it; one that only reads waits.
                    let _ = watch::server_time(directory(path));
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
        Ok(None)
    }

    /// Checks on the file system that this process still owns the lease. Call it before writing what the lease
    /// protects.
    ///
    /// # Errors
    /// Another process took the lease over, or the file system does not respond.
    pub fn check(&self) -> Result<()> {
        self.held.check()
    }

    /// Whether the lease is known to be lost, without asking the file system: the heartbeat finds it out.
    pub fn is_lost(&self) -> bool {
        self.held.lost.get().is_some()
    }

    /// Releases the lease and removes its files: for leases whose name is not used again, or where two owners at once
    /// only do needless work. The generations begin anew, so that a process that acts on an outdated directory listing
    /// may believe to own the lease beside another.
    pub fn remove(mut self) {
        self.end();
        let record = self.held.record.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(record) = record
            && self.held.is_named(&record).unwrap_or(false)
        {
            let _ = fs::remove_file(self.held.file());
        }
    }

    /// Creates the file of a generation; `None` if another process was faster.
    fn create(path: &Path, generation: u64, interval: Duration) -> std::io::Result<Option<Self>> {
        let (name, record) = (file_of(path, generation), Record::of_this_process(interval));
        let temporary = TemporaryPath::beside(&name);
        write(&mut File::options().create_new(true).write(true).open(temporary.path())?, &record)?;
        match fs::hard_link(temporary.path(), &name) {
            Ok(()) => {}
            // The reply to a successful request may be lost: then the second request finds the file of the first.
            Err(e) if e.kind() == ErrorKind::AlreadyExists => match Record::read(&name)? {
                Some(found) if found.token == record.token => {}
                _ => return Ok(None),
            },
            Err(e) if e.kind() == ErrorKind::NotFound => return Err(e),
            // The file system has no hard links.
            Err(_) => match File::options().create_new(true).write(true).open(&name) {
                Ok(mut file) => write(&mut file, &record)?,
                Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(None),
                Err(e) => return Err(e),
            },
        }
        drop(temporary);
        // The listing is fresh, because this process has just changed the directory.
        let all = generations(path)?;
        if all.last() != Some(&generation) {
            fs::remove_file(&name).or_else(ignore_missing)?;
            return Ok(None);
        }
        for older in all.iter().filter(|n| **n < generation) {
            fs::remove_file(file_of(path, *older)).or_else(ignore_missing)?;
            watch::forget(&file_of(path, *older));
        }
        let held = Arc::new(Held {
            path: path.to_path_buf(),
            generation,
            record: Mutex::new(Some(record)),
            lost: OnceLock::new(),
            ended: (Mutex::new(false), Condvar::new()),
        });
        let shared = Arc::clone(&held);
        let thread = std::thread::Builder::new().name("lease".into()).stack_size(256 * 1024);
        let heart = thread.spawn(move || shared.beat_until_ended(interval))?;
        let mut all = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|held| held.strong_count() > 0);
        all.push(Arc::downgrade(&held));
        Ok(Some(Self { held, heart: Some(heart) }))
    }

    /// Ends the heartbeat.
    fn end(&mut self) {
        *self.held.ended.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.held.ended.1.notify_all();
        if let Some(heart) = self.heart.take() {
            let _ = heart.join();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.end();
        self.held.release();
    }
}

/// Whether a process holds any of the leases whose files lie in `dir`, except those of the name `but`; false if there
/// is no such directory. A process of another machine counts until its heartbeat is `limit` old by the clock of the
/// file server.
///
/// # Errors
/// The directory cannot be read.
pub fn any_held(dir: &Path, but: &str, limit: Duration) -> std::io::Result<bool> {
    if !dir.is_dir() {
        return Ok(false);
    }
    let now = watch::server_time(dir)?;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        // A lease that is being taken has a temporary name; its owner looks again when it has it.
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".tmp") || name.starts_with(&format!(".{but}-")) {
            continue;
        }
        let Some(record) = Record::read(&path)? else { continue };
        let Ok(meta) = fs::metadata(&path) else { continue };
        let age = now.duration_since(meta.modified()?).unwrap_or_default();
        if !record.released && !record.has_ended(&meta) && age < limit {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes this machine list `dir` anew, where a network file system remembers what it listed, by changing the directory.
///
/// # Errors
/// The directory cannot be written.
pub fn refresh(dir: &Path) -> Result<()> {
    watch::server_time(dir).with_context(|| format!("writing to {}", dir.display())).map(drop)
}

/// Whether this process cannot take a lease in `dir`, because the directory is mounted read-only or belongs to others.
pub fn is_read_only(dir: &Path) -> bool {
    let refused = |e: std::io::Error| matches!(e.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied);
    watch::server_time(dir).is_err_and(refused)
}

/// Releases all leases of this process. Call it before the process exits without unwinding.
pub fn release_all() {
    // If another thread holds a lock, the leases become stale when the process has ended.
    if let Ok(all) = HELD.try_lock() {
        all.iter().filter_map(Weak::upgrade).for_each(|held| held.release());
    }
}

impl Held {
    fn beat_until_ended(&self, interval: Duration) {
        let mut ended = self.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Instant::now() + interval;
        while !*ended {
            let left = due.saturating_duration_since(Instant::now());
            (ended, _) = self.ended.1.wait_timeout(ended, left).unwrap_or_else(PoisonError::into_inner);
            if !*ended && Instant::now() >= due {
                drop(ended);
                // A failed write is not the end: the next one may succeed, and `check` decides.
                let _ = self.beat();
                due = Instant::now() + interval;
                ended = self.ended.0.lock().unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Writes a heartbeat; returns false if the lease is released or lost.
    fn beat(&self) -> std::io::Result<bool> {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(record) = record.as_mut() else { return Ok(false) };
        record.beat += 1;
        if self.is_named(record)? {
            match File::options().write(true).open(self.file()).and_then(|mut file| write(&mut file, record)) {
                Err(e) if record::is_gone(&e) => {}
                other => return other.map(|()| true),
            }
        }
        let _ = self.lost.set(self.successor());
        Ok(false)
    }

    /// Path of the lease file.
    fn file(&self) -> PathBuf {
        file_of(&self.path, self.generation)
    }

    /// Whether the lease file is still the one that this process wrote.
    fn is_named(&self, record: &Record) -> std::io::Result<bool> {
        Ok(Record::read(&self.file())?.is_some_and(|found| found.token == record.token))
    }

    fn check(&self) -> Result<()> {
        let step = || format!("keeping the lease on {}", self.path.display());
        if self.lost.get().is_none() {
            self.beat().with_context(step)?;
            // A change of the directory makes this machine list it anew.
            match watch::server_time(directory(&self.path)) {
                Err(e) if !record::is_gone(&e) => return Err(e).with_context(step),
                _ => {}
            }
            if newest(&self.path).with_context(step)? != Some(self.generation) {
                let _ = self.lost.set(self.successor());
            }
        }
        match self.lost.get() {
            None => Ok(()),
            Some(why) => Err(Error::failed(why.clone()).hint(
                "let the other process continue: this one was suspended or cut off from the file system, and has \
                 written nothing since",
            )),
        }
    }

    /// Says who owns the lease now.
    fn successor(&self) -> String {
        let shown = directory(&self.path).display();
        match Lease::owner(&self.path) {
            Ok(Some(owner)) => format!("{shown} was taken over by {owner}"),
            _ => format!("{shown} was taken over or removed by another process"),
        }
    }

    /// Marks the lease as released.
    fn release(&self) {
        let Some(mut record) = self.record.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        // If this fails, the lease becomes stale.
        if self.is_named(&record).unwrap_or(false) {
            record.released = true;
            let _ = File::options().write(true).open(self.file()).and_then(|mut file| write(&mut file, &record));
        }
    }
}

/// Overwrites a lease file. The length stays the same, so that a reader never finds a shortened file. A network file
/// system flushes the contents when the file is closed; after a power failure no lease is worth anything.
fn write(file: &mut File, record: &Record) -> std::io::Result<()> {
    file.write_all(&record.bytes()?)
}

fn ignore_missing(e: std::io::Error) -> std::io::Result<()> {
    if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e) }
}

/// Directory of the lease files of `DIR/NAME`.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Prefix of the names of the lease files of `DIR/NAME`.
fn prefix(path: &Path) -> String {
    format!(".{}-", path.file_name().unwrap_or_default().to_string_lossy())
}

fn file_of(path: &Path, generation: u64) -> PathBuf {
    directory(path).join(format!("{}{generation}", prefix(path)))
}

/// Generations of a lease whose files exist, in ascending order.
fn generations(path: &Path) -> std::io::Result<Vec<u64>> {
    let prefix = prefix(path);
    let mut found = Vec::new();
    let listed = match fs::read_dir(directory(path)) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(found),
        other => other?,
    };
    for entry in listed {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix(&prefix));
        // Other spellings of a number, such as +1, are other files.
        let number: Option<u64> = digits.filter(|d| d.bytes().all(|b| b.is_ascii_digit())).and_then(|d| d.parse().ok());
        found.extend(number);
    }
    found.sort_unstable();
    Ok(found)
}

fn newest(path: &Path) -> std::io::Result<Option<u64>> {
    Ok(generations(path)?.last().copied())
}

#[cfg(test)]
mod tests;
