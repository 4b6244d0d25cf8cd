//! Claims: exclusive ownership of a shard, or of the budget, among processes that share a workspace.

use burgess_base::{Context, Result};
use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::time::Duration;

/// The way in which processes claim work. A program with leases that survive the end of a machine gives its own.
pub trait Claims: Sync {
    /// Tries to claim `path` once; no file of this name is needed or made.
    ///
    /// # Errors
    /// The directory of the path cannot be read or written.
    fn attempt(&self, path: &Path) -> Result<ClaimAttempt>;
}

/// The outcome of an attempt.
pub enum ClaimAttempt {
    /// This process owns it until the value is dropped.
    Owned(Box<dyn Claim>),
    /// Another owner has it, who is described by the text.
    Busy(String),
}

/// An owned claim, which is released when it is dropped.
pub trait Claim: Send + Sync {
    /// Checks that this process still owns it.
    ///
    /// # Errors
    /// Another process took it over.
    fn check(&self) -> Result<()>;
}

/// Claims by locks of the operating system on hidden files beside the path.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileLocks;

/// A locked file; the lock ends when the file is closed.
struct LockedFile {
    _file: File,
}

impl Claims for FileLocks {
    fn attempt(&self, path: &Path) -> Result<ClaimAttempt> {
        let name = format!(".{}.lock", path.file_name().unwrap_or_default().to_string_lossy());
        let file = path.with_file_name(name);
        let step = || format!("locking {}", file.display());
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).with_context(step)?;
        }
        let lock = File::options().create(true).write(true).truncate(false).open(&file).with_context(step)?;
        match lock.try_lock() {
            Ok(()) => Ok(ClaimAttempt::Owned(Box::new(LockedFile { _file: lock }))),
            Err(TryLockError::WouldBlock) => Ok(ClaimAttempt::Busy("another process".into())),
            Err(TryLockError::Error(e)) => Err(e).with_context(step),
        }
    }
}

impl Claim for LockedFile {
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// Waits for a claim.
///
/// # Errors
/// The directory cannot be read or written, or `stopped` returns true.
pub fn wait(claims: &dyn Claims, path: &Path, stopped: &dyn Fn() -> bool) -> Result<Box<dyn Claim>> {
    let mut pause = Duration::from_millis(2);
    loop {
        match claims.attempt(path)? {
            ClaimAttempt::Owned(claim) => return Ok(claim),
            ClaimAttempt::Busy(_) if stopped() => return Err(burgess_base::Error::interrupted()),
            ClaimAttempt::Busy(_) => std::thread::sleep(pause),
        }
        pause = (2 * pause).min(Duration::from_millis(200));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_exclusive_until_it_is_dropped() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("qa/shard-00000");
        let first = FileLocks.attempt(&path)?;
        assert!(matches!(&first, ClaimAttempt::Owned(claim) if claim.check().is_ok()));
        assert!(matches!(FileLocks.attempt(&path)?, ClaimAttempt::Busy(_)));
        assert!(wait(&FileLocks, &path, &|| true).is_err());
        drop(first);
        assert!(matches!(FileLocks.attempt(&path)?, ClaimAttempt::Owned(_)));
        Ok(())
    }
}
