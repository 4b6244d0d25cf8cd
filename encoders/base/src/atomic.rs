//! Files that are whole or absent: written under a temporary name, flushed to the disk, then renamed.

use crate::{Context, Error, Result};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A name beside `path` that no other process or thread uses.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}-{}.tmp", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
    path.with_file_name(name)
}

/// Writes `bytes` to `path` so that a reader sees the old contents or the new, never a part.
/// Parent directories are made.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |w| Ok(w.write_all(bytes)?))
}

/// The same for contents that are produced piece by piece.
pub fn write_with(path: &Path, produce: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let step = || format!("writing {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(step)?;
    }
    let tmp = temporary(path);
    let result = (|| {
        let mut writer = BufWriter::new(File::create(&tmp)?);
        produce(&mut writer)?;
        let file = writer.into_inner().map_err(|e| Error::from(e.into_error()))?;
        file.sync_all()?;
        fs::rename(&tmp, path)?;
        // The rename itself survives a power cut only once the directory is flushed.
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    })();
    if result.is_err() {
        let _ = fs::remove_file(&tmp);
    }
    result.map_err(|e: Error| e.context(step()))
}

/// Writes a value as indented JSON.
pub fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    write(path, &text)
}

/// Reads a JSON file; the error names the file, line and column.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let step = || format!("reading {}", path.display());
    let bytes = fs::read(path).with_context(step)?;
    serde_json::from_slice(&bytes).with_context(step)
}

/// Fills a directory under a temporary name and renames it into place; if `path` exists already,
/// somebody else was faster and their directory is kept.
pub fn create_dir_with(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let step = || format!("writing {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(step)?;
    }
    let tmp = temporary(path);
    fs::create_dir_all(&tmp).with_context(step)?;
    let filled = fill(&tmp);
    let result = filled.and_then(|()| match fs::rename(&tmp, path) {
        Ok(()) => Ok(()),
        Err(_) if path.is_dir() => Ok(()),
        Err(e) => Err(e).with_context(step),
    });
    if tmp.exists() {
        let _ = fs::remove_dir_all(&tmp);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a/b.json");
        write(&path, b"old")?;
        let failed = write_with(&path, |w| {
            w.write_all(b"half")?;
            Err(Error::failed("cut off"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read(&path)?, b"old");
        assert_eq!(fs::read_dir(dir.path().join("a"))?.count(), 1, "no temporary file is left");
        Ok(())
    }

    #[test]
    fn a_directory_is_whole_or_absent() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("data");
        assert!(
            create_dir_with(&path, |d| {
                fs::write(d.join("x"), "1")?;
                Err(Error::failed("cut"))
            })
            .is_err()
        );
        assert!(!path.exists());
        create_dir_with(&path, |d| Ok(fs::write(d.join("x"), "1")?))?;
        create_dir_with(&path, |d| Ok(fs::write(d.join("x"), "2")?))?;
        assert_eq!(fs::read_to_string(path.join("x"))?, "1");
        Ok(())
    }
}
