//! The directory of one child process in which its inputs are written, in memory if possible.

use burgess_base::{Error, Result};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

/// The directory of one process, and the messages that its target reported.
#[derive(Debug)]
pub struct InputDir {
    dir: PathBuf,
    twins: RefCell<BTreeMap<PathBuf, PathBuf>>,
    told: RefCell<Vec<String>>,
}

impl InputDir {
    /// Makes the value for an existing directory.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), twins: RefCell::default(), told: RefCell::default() }
    }

    /// Path of the directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes the bytes to a file of this name, which may contain folders.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn file(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&path, bytes)?;
        Ok(path)
    }

    /// Makes a directory with links to everything in `folder` except `name`; returns the same directory at every call.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn mirror(&self, folder: &Path, name: &OsStr) -> Result<PathBuf> {
        let origin = folder.join(name);
        let known = self.twins.borrow().get(&origin).cloned();
        if let Some(twin) = known {
            return Ok(twin);
        }
        let label = folder.file_name().unwrap_or_default().to_string_lossy();
        let twin = self.dir.join(format!("{}-{label}", self.twins.borrow().len()));
        fs::create_dir_all(&twin)?;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name() != name {
                link(&entry.path(), &twin.join(entry.file_name()))?;
            }
        }
        self.twins.borrow_mut().insert(origin, twin.clone());
        Ok(twin)
    }

    /// Makes a directory with links to everything beside `origin`, and a file with these bytes in place of `origin`.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn beside(&self, origin: &Path, bytes: &[u8]) -> Result<PathBuf> {
        let (Some(folder), Some(name)) = (origin.parent(), origin.file_name()) else {
            return Err(Error::failed(format!("{} has no folder", origin.display())));
        };
        let twin = self.mirror(folder, name)?;
        fs::write(twin.join(name), bytes)?;
        Ok(twin)
    }

    /// Records a text that users would see, to be checked like an error message.
    pub fn tell(&self, text: impl Into<String>) {
        self.told.borrow_mut().push(text.into());
    }

    /// Returns the texts that were recorded since the last call.
    pub fn told(&self) -> Vec<String> {
        self.told.take()
    }
}

/// Makes a symbolic link.
#[cfg(unix)]
pub fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(from, to)
}

/// Copies a file, on systems without symbolic links.
#[cfg(not(unix))]
pub fn link(from: &Path, to: &Path) -> std::io::Result<()> {
    if from.is_file() { fs::copy(from, to).map(drop) } else { Ok(()) }
}
