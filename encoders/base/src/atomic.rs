//! Atomic writes of files and directories: written under a temporary name, flushed to disk, then renamed.

use crate::destination::{self, OutputTarget};
use crate::temporary::TemporaryPath;
use crate::{Context, Error, Result};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Writes `bytes` to `path` atomically: a reader sees either the old or the new contents. Parent directories are
/// created. A symbolic link is kept and its target replaced; a FIFO is written to directly.
///
/// # Errors
/// The path is not a file (see [`output`](crate::output)), or an error of the file system.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |w| Ok(w.write_all(bytes)?))
}

/// Writes contents that `produce` generates piece by piece, atomically as [`write()`] does.
///
/// # Errors
/// As [`write()`], or an error of `produce`.
pub fn write_with(path: &Path, produce: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let step = || format!("writing {}", path.display());
    let (target, permissions) = match destination::resolve(path).map_err(|e| e.context(step()))? {
        OutputTarget::File(target, permissions) => (target, permissions),
        OutputTarget::Fifo => {
            let mut writer = BufWriter::new(File::options().write(true).open(path).with_context(step)?);
            return produce(&mut writer).and_then(|()| Ok(writer.flush()?)).map_err(|e| e.context(step()));
        }
    };
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).with_context(step)?;
    }
    let tmp = TemporaryPath::beside(&target);
    let result = (|| {
        let mut writer = BufWriter::new(File::create(tmp.path())?);
        produce(&mut writer)?;
        let file = writer.into_inner().map_err(|e| Error::from(e.into_error()))?;
        if let Some(permissions) = permissions {
            file.set_permissions(permissions)?;
        }
        file.sync_all()?;
        fs::rename(tmp.path(), &target)?;
        // The rename itself survives a power failure only once the directory is flushed.
        if let Some(parent) = target.parent().filter(|p| !p.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    })();
    result.map_err(|e: Error| e.context(step()))
}

/// Writes a value as indented JSON, atomically.
pub fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    write(path, &text)
}

/// Writes a file, unless it exists: of several processes, also on several machines that share a file system, one writes
/// it. Returns whether this one did. A reader finds the whole file or none. Parent directories are created.
///
/// # Errors
/// An error of the file system.
pub fn create(path: &Path, bytes: &[u8]) -> Result<bool> {
    let step = || format!("writing {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(step)?;
    }
    let whole = TemporaryPath::beside(path);
    write(whole.path(), bytes)?;
    match fs::hard_link(whole.path(), path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        // The file system has no hard links: only processes that write at the same time may overwrite each other.
        Err(_) if path.exists() => Ok(false),
        Err(_) => fs::rename(whole.path(), path).with_context(step).map(|()| true),
    }
}

/// Writes a value as indented JSON, unless the file exists; see [`create`].
///
/// # Errors
/// An error of the file system.
pub fn create_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<bool> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    create(path, &text)
}

/// Reads a JSON file; an error names the file, line and column.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let step = || format!("reading {}", path.display());
    let bytes = fs::read(path).with_context(step)?;
    serde_json::from_slice(&bytes).with_context(step)
}

/// Fills a directory under a temporary name and renames it to `path`. If `path` exists by then, another process was
/// faster, and its directory is kept. A symbolic link whose target does not exist is kept: the target is created.
///
/// # Errors
/// The path is not a directory, or an error of `fill` or of the file system.
pub fn create_dir_with(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let step = || format!("writing {}", path.display());
    let target = match fs::metadata(path) {
        Ok(meta) if !meta.is_dir() => {
            return Err(Error::failed(format!(
                "{} is {}, not a directory",
                path.display(),
                destination::file_kind(&meta)
            ))
            .hint("choose another directory, or move the file away"));
        }
        Ok(_) => path.to_path_buf(),
        Err(_) => destination::follow_links(path).map_err(|e| e.context(step()))?,
    };
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).with_context(step)?;
    }
    let tmp = TemporaryPath::beside(&target);
    fs::create_dir_all(tmp.path()).with_context(step)?;
    fill(tmp.path())?;
    match fs::rename(tmp.path(), &target) {
        Ok(()) => Ok(()),
        Err(_) if target.is_dir() => Ok(()),
        Err(e) => Err(e).with_context(step),
    }
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
    fn a_file_is_created_once() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("a/study.json");
        let created = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|n| (n, scope.spawn(|| create_json(&path, &"x")))).collect();
            all.into_iter().filter_map(|(_, one)| one.join().ok()?.ok()).filter(|created| *created).count()
        });
        assert_eq!((created, read_json::<String>(&path)?), (1, "x".into()));
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
