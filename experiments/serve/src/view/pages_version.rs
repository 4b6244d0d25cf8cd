//! The written pages of a study: the latest version, and the previous one for browser tabs that are still open.

use super::StudyImages;
use burgess_base::{Context, Result};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Number of versions of a study that are kept.
const KEPT: usize = 2;

/// One version of a study's pages, in a temporary directory that is removed with it.
pub(super) struct PagesVersion {
    /// Version of the results from which the pages were made.
    version: String,
    /// The files, by their path in the directory with `/` between its parts.
    files: HashMap<String, PathBuf>,
    images: Box<dyn StudyImages>,
    _dir: tempfile::TempDir,
}

/// The kept versions of a study, the latest first.
#[derive(Default)]
pub(super) struct PagesVersions {
    /// Held while a version is written, so that one request writes it and the others wait.
    writing: Mutex<()>,
    kept: Mutex<Vec<Arc<PagesVersion>>>,
}

impl PagesVersions {
    /// Returns all kept versions, the latest first.
    pub(super) fn all(&self) -> Vec<Arc<PagesVersion>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the latest version if it was made from `version` of the results.
    fn latest_if(&self, version: &str) -> Option<Arc<PagesVersion>> {
        self.all().into_iter().next().filter(|latest| latest.version == version)
    }

    /// Returns the pages made from `version` of the results. Unless the latest pages have that version, `write` makes
    /// them.
    ///
    /// # Errors
    /// An error of `write`, or a directory cannot be created or read.
    pub(super) fn current(
        &self,
        version: &str,
        write: impl FnOnce(&Path) -> Result<Box<dyn StudyImages>>,
    ) -> Result<Arc<PagesVersion>> {
        if let Some(found) = self.latest_if(version) {
            return Ok(found);
        }
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = self.latest_if(version) {
            return Ok(found);
        }
        let dir =
            tempfile::Builder::new().prefix("burgess-view-").tempdir().context("creating a temporary directory")?;
        let images = write(dir.path())?;
        let mut files = HashMap::new();
        list(dir.path(), "", &mut files)?;
        let new = Arc::new(PagesVersion { version: version.to_string(), files, images, _dir: dir });
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(0, new.clone());
        kept.truncate(KEPT);
        Ok(new)
    }
}

/// Lists the files below a directory.
fn list(dir: &Path, prefix: &str, files: &mut HashMap<String, PathBuf>) -> Result<()> {
    let step = || format!("reading {}", dir.display());
    for entry in fs::read_dir(dir).with_context(step)? {
        let path = entry.with_context(step)?.path();
        let name = format!("{prefix}{}", path.file_name().unwrap_or_default().to_string_lossy());
        if path.is_dir() {
            list(&path, &format!("{name}/"), files)?;
        } else {
            files.insert(name, path);
        }
    }
    Ok(())
}

impl PagesVersion {
    pub(super) fn images(&self) -> &dyn StudyImages {
        self.images.as_ref()
    }

    /// Reads a file; `None` if there is none of this name.
    pub(super) fn file(&self, parts: &[&str]) -> Option<Result<Vec<u8>>> {
        let path = self.files.get(&parts.join("/"))?;
        Some(fs::read(path).with_context(|| format!("reading {}", path.display())))
    }

    /// Reads a file that every version has.
    pub(super) fn read(&self, parts: &[&str]) -> Result<Vec<u8>> {
        let missing = || {
            burgess_base::Error::failed(format!(
                "the page writer did not write {}, which every study has",
                parts.join("/")
            ))
        };
        self.file(parts).ok_or_else(missing)?
    }
}
