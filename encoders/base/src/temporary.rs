//! Temporary files: their names identify the process that creates them, so that a later process can remove those of an
//! ended process.
//!
//! A temporary file or directory is named `NAME.<machine>-<process>-<number>.tmp`. `<machine>` identifies the host, its
//! boot and its PID namespace, because process IDs of another host or container have no meaning here.

use crate::process::{self, ProcessState, machine};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Age at which a temporary file is stale, whichever process created it: no write takes that long.
const STALE_AGE: Duration = Duration::from_hours(24);
/// Age at which a temporary file without a machine in its name (as earlier versions wrote) is stale, if no process with
/// its number runs here.
const STALE_AGE_WITHOUT_MACHINE: Duration = Duration::from_hours(1);
/// Tolerance between the clock of a file server and that of this machine. The file of a running process must never look
/// older than the process; a file that stays because its process ID was reused soon does no harm.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);
/// Maximum length in bytes of the file name that is repeated in a temporary name; file systems allow 255.
const MAX_NAME: usize = 180;

static COUNTER: AtomicU64 = AtomicU64::new(0);
/// Temporary files that this process is writing.
static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A temporary path beside `path`, unique to this process and thread, which is removed when this value is dropped.
#[derive(Debug)]
pub struct TemporaryPath(PathBuf);

impl TemporaryPath {
    /// Chooses a name in the directory of `path`; does not create the file.
    pub fn beside(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let end = name.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= MAX_NAME).last();
        let name = name.get(..end.unwrap_or(0)).unwrap_or_default();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = path.with_file_name(format!("{name}.{}-{}-{number}.tmp", machine(), std::process::id()));
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        Self(path)
    }

    /// Returns the temporary path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryPath {
    fn drop(&mut self) {
        // After a successful rename the path no longer exists.
        remove(&self.0);
        LIVE.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// Removes all temporary files of this process. Call it before the process exits without unwinding.
pub fn remove_all() {
    // If another thread holds the lock, the next process removes the files.
    if let Ok(live) = LIVE.try_lock() {
        live.iter().for_each(|path| remove(path));
    }
}

fn remove(path: &Path) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    let _ = if meta.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

/// Removes temporary files of ended processes from `dir` and its subdirectories, `depth` levels deep; returns their
/// number. Files with other names, and those of running processes, are kept.
pub fn remove_stale(dir: &Path, depth: usize) -> usize {
    let mut removed = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let path = entry.path();
        match Owner::of(&entry.file_name().to_string_lossy()) {
            Some(owner) if owner.is_gone(&path) => {
                remove(&path);
                removed += usize::from(fs::symlink_metadata(&path).is_err());
            }
            Some(_) => {}
            // Links are not followed: they may lead anywhere.
            None if depth > 0 && kind.is_dir() => removed += remove_stale(&path, depth - 1),
            None => {}
        }
    }
    removed
}

/// Removes temporary files of ended processes for one file only, in directories that hold files of other programs;
/// returns their number. See [`remove_stale`].
pub fn remove_stale_copies(path: &Path) -> usize {
    let (Some(name), Some(dir)) = (path.file_name(), path.parent()) else { return 0 };
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut removed = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let found = entry.file_name().to_string_lossy().into_owned();
        let rest = found.strip_prefix(&prefix).filter(|rest| rest.matches('.').count() == 1);
        if rest.is_some() && Owner::of(&found).is_some_and(|owner| owner.is_gone(&entry.path())) {
            remove(&entry.path());
            removed += 1;
        }
    }
    removed
}

/// The process that created a temporary file, according to its name.
#[derive(Debug, PartialEq)]
struct Owner {
    /// Identifier of the machine; `None` in names of earlier versions.
    machine: Option<String>,
    process: u32,
}

impl Owner {
    /// Parses a file name; `None` if it is not a temporary name of Burgess.
    fn of(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".tmp")?;
        // Training examples of earlier versions: `examples-<process>-<number>.tmp`.
        let tag = match stem.strip_prefix("examples-") {
            Some(tag) if !stem.contains('.') => tag,
            _ => stem.rsplit_once('.').filter(|(name, _)| !name.is_empty())?.1,
        };
        let parts: Vec<&str> = tag.split('-').collect();
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let (machine, process, number) = match parts.as_slice() {
            [machine, process, number] => (Some(*machine), process, number),
            [process, number] => (None, process, number),
            _ => return None,
        };
        let hex = |text: &str| text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !digits(process) || !digits(number) || machine.is_some_and(|m| !hex(m)) {
            return None;
        }
        Some(Self { machine: machine.map(String::from), process: process.parse().ok()? })
    }

    fn is_gone(&self, path: &Path) -> bool {
        let Ok(meta) = fs::symlink_metadata(path) else { return false };
        let written = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let age = SystemTime::now().duration_since(written).unwrap_or_default();
        let runs = runs(self.process, written, &meta);
        match &self.machine {
            Some(there) if there == machine() => runs.map_or(age > STALE_AGE, |runs| !runs),
            Some(_) => age > STALE_AGE,
            None => age > STALE_AGE || (age > STALE_AGE_WITHOUT_MACHINE && runs == Some(false)),
        }
    }
}

/// Whether the process that wrote a file at this time still runs; `None` if that cannot be determined.
fn runs(process: u32, written: SystemTime, file: &fs::Metadata) -> Option<bool> {
    let started = match process::state(process, file) {
        ProcessState::Ended => return Some(false),
        ProcessState::Unknown => return None,
        ProcessState::Runs { .. } if process == std::process::id() && cfg!(not(target_os = "linux")) => {
            return Some(true);
        }
        ProcessState::Runs { started } => Duration::from_millis(started * 10),
    };
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(boot) + started;
    // A process that started later only reuses the ID.
    Some(started <= written + CLOCK_TOLERANCE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Result;
    use std::fs::File;

    /// Returns the ID of a process that has ended.
    fn dead() -> u32 {
        let mut child = std::process::Command::new("true").spawn().expect("a process");
        let id = child.id();
        child.wait().expect("its end");
        id
    }

    #[test]
    fn names_tell_their_owner() {
        let name = |text: &str| Owner::of(text).map(|o| (o.machine, o.process));
        assert_eq!(name("a.json.0123abcd-17-4.tmp"), Some((Some("0123abcd".into()), 17)));
        assert_eq!(name("a.json.17-4.tmp"), Some((None, 17)));
        assert_eq!(name("examples-17-4.tmp"), Some((None, 17)));
        for other in ["a.tmp", "a.json.tmp", ".17-4.tmp", "a.17.tmp", "a.x-17-4.tmp", "a.17-4", "notes-2024-11.tmp"] {
            assert_eq!(name(other), None, "{other}");
        }
    }

    #[test]
    fn stale_temporary_files_are_removed_and_nothing_else() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (dead, below) = (dead(), dir.path().join("below"));
        fs::create_dir(&below)?;
        let days = |n: u64| SystemTime::now() - Duration::from_hours(24 * n);
        let make = |name: &str, time: SystemTime| -> Result<PathBuf> {
            let path = dir.path().join(name);
            File::create(&path)?.set_modified(time)?;
            Ok(path)
        };
        let here = machine();
        let gone = [
            make(&format!("a.json.{here}-{dead}-0.tmp"), days(0))?,
            make(&format!("below/b.{here}-{dead}-1.tmp"), days(0))?,
            // A process with this ID runs, but started after the file was written.
            make(&format!("c.{here}-{}-0.tmp", std::process::id()), days(2))?,
            make(&format!("d.ffffffff-{dead}-0.tmp"), days(2))?,
            make(&format!("e.{dead}-0.tmp"), days(2))?,
        ];
        let stay = [
            make("notes.tmp", days(9))?,
            make(&format!("f.{here}-{}-9.tmp", std::process::id()), days(0))?,
            make(&format!("g.ffffffff-{dead}-0.tmp"), days(0))?,
            make(&format!("h.{dead}-0.tmp"), days(0))?,
            make("results.json", days(9))?,
        ];
        assert_eq!(remove_stale_copies(&dir.path().join("a.json")), 1);
        assert_eq!(remove_stale(dir.path(), 3), 4);
        assert!(gone.iter().all(|p| !p.exists()) && stay.iter().all(|p| p.exists()));
        Ok(())
    }

    #[test]
    fn a_dropped_temporary_is_gone_and_long_names_fit() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let kept = dir.path().join("ä".repeat(120));
        let temporary = TemporaryPath::beside(&kept);
        fs::write(temporary.path(), "x")?;
        drop(temporary);
        assert_eq!(fs::read_dir(dir.path())?.count(), 0);
        Ok(())
    }
}
