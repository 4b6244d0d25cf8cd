//! Outputs that a user names: a file, standard output (`-`, `/dev/stdout`) or a FIFO.
//!
//! A file is written atomically. A symbolic link is kept and its target replaced. Devices, sockets, directories and
//! write-protected files are rejected.

use crate::destination::{OutputTarget, resolve};
use crate::temporary::{self, TemporaryPath};
use crate::{Error, Result, atomic};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

pub use crate::destination::file_kind;

/// Whether a path means standard output; then nothing else may be printed there.
pub fn is_stdout(path: &Path) -> bool {
    ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|name| path == Path::new(name))
}

/// Checks before any work is done whether an output can be written to `path`, as far as that is known.
///
/// # Errors
/// The path is a directory, a device, a socket or write-protected; or its directory is a file or not writable.
pub fn check(path: &Path) -> Result<()> {
    if is_stdout(path) {
        return Ok(());
    }
    match resolve(path)? {
        OutputTarget::Fifo => Ok(()),
        OutputTarget::File(target, _) => {
            let parent = target.parent().unwrap_or(Path::new(""));
            writable(parent).map_err(|e| e.context(format!("checking the output {}", path.display())))
        }
    }
}

/// Checks before any work is done whether a directory for outputs exists or can be created, and is writable.
///
/// # Errors
/// The directory or one of its ancestors is not a directory or not writable.
pub fn check_directory(dir: &Path) -> Result<()> {
    writable(dir).map_err(|e| e.context(format!("checking the output directory {}", dir.display())))
}

/// Checks that files can be created in a directory, or the directory itself if it does not exist.
fn writable(dir: &Path) -> Result<()> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    for at in dir.ancestors() {
        let at = if at.as_os_str().is_empty() { Path::new(".") } else { at };
        match fs::metadata(at) {
            Ok(meta) if meta.is_dir() => {
                let probe = TemporaryPath::beside(&at.join("probe"));
                return File::create(probe.path()).map(drop).map_err(|e| match e.kind() {
                    ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                        Error::failed(format!("{} cannot be written to: {e}", at.display()))
                            .hint("choose a directory with write permission")
                    }
                    _ => Error::from(e).context(format!("writing to {}", at.display())),
                });
            }
            Ok(meta) => {
                return Err(Error::failed(format!("{} is {}, not a directory", at.display(), file_kind(&meta)))
                    .hint("choose another directory, or move the file away"));
            }
            Err(_) if fs::symlink_metadata(at).is_ok_and(|m| m.is_symlink()) => {
                let to = fs::read_link(at).unwrap_or_default();
                return Err(Error::failed(format!(
                    "{} is a symbolic link to {}, which does not exist",
                    at.display(),
                    to.display()
                ))
                .hint("create the directory that it leads to, or remove the link"));
            }
            Err(_) => {}
        }
    }
    Ok(())
}

/// Writes an output, after removing temporary files of ended processes that wrote the same file.
///
/// # Errors
/// As [`check`], or an error of the file system.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |w| Ok(w.write_all(bytes)?))
}

/// Writes an output, as [`write()`] does, that `produce` generates piece by piece.
///
/// # Errors
/// As [`write()`], or an error of `produce`.
pub fn write_with(path: &Path, produce: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    if is_stdout(path) {
        let mut out = io::BufWriter::new(io::stdout().lock());
        return produce(&mut out)
            .and_then(|()| match out.flush() {
                // A reader that closes the pipe early is not an error.
                Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(e.into()),
                _ => Ok(()),
            })
            .map_err(|e| e.context("writing to standard output"));
    }
    temporary::remove_stale_copies(path);
    atomic::write_with(path, |w| produce(w))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    fn refused(path: &Path) -> String {
        let error = write(path, b"new").unwrap_err();
        assert!(check(path).is_err(), "{}", path.display());
        format!("{error} {}", error.hint_text().unwrap_or_default())
    }

    #[test]
    fn a_link_stays_and_its_target_is_replaced() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("far"))?;
        fs::write(at("far/target"), "old")?;
        fs::set_permissions(at("far/target"), Permissions::from_mode(0o640))?;
        symlink("far/target", at("one"))?;
        symlink("one", at("two"))?;
        check(&at("two"))?;
        write(&at("two"), b"new")?;
        assert!(fs::symlink_metadata(at("two"))?.is_symlink() && fs::symlink_metadata(at("one"))?.is_symlink());
        assert_eq!(fs::read(at("far/target"))?, b"new");
        assert_eq!(fs::metadata(at("far/target"))?.permissions().mode() & 0o777, 0o640);
        // A dangling link: its target is created.
        symlink("far/fresh", at("three"))?;
        write(&at("three"), b"new")?;
        assert!(fs::symlink_metadata(at("three"))?.is_symlink());
        assert_eq!(fs::read(at("far/fresh"))?, b"new");
        symlink("nowhere/fresh", at("four"))?;
        assert!(refused(&at("four")).contains("whose directory does not exist"));
        symlink("six", at("five"))?;
        symlink("five", at("six"))?;
        refused(&at("five"));
        assert_eq!(fs::read_dir(at("far"))?.count(), 2, "nothing else is left");
        Ok(())
    }

    #[test]
    fn outputs_that_are_not_files_are_rejected_and_unchanged() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        let _socket = UnixListener::bind(at("socket"))?;
        fs::create_dir(at("directory"))?;
        symlink("/dev/null", at("link"))?;
        fs::write(at("protected"), "old")?;
        fs::set_permissions(at("protected"), Permissions::from_mode(0o444))?;
        for (name, why) in [
            ("socket", "is a socket"),
            ("directory", "is a directory"),
            ("link", "is a device"),
            ("protected", "is write-protected"),
            ("protected/below", ""),
        ] {
            let told = refused(&at(name));
            assert!(told.contains(why) && told.contains(name), "{told}");
        }
        assert!(refused(Path::new("/dev/full")).contains("is a device"));
        assert!(fs::symlink_metadata(at("link"))?.is_symlink());
        assert_eq!(fs::read(at("protected"))?, b"old");
        Ok(())
    }

    #[test]
    fn a_fifo_is_written_to() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&path).status()?.success());
        let reader = std::thread::spawn({
            let path = path.clone();
            move || fs::read(path)
        });
        write(&path, b"through")?;
        assert_eq!(reader.join().expect("a reader")?, b"through");
        assert_eq!(file_kind(&fs::metadata(&path)?), "a FIFO");
        Ok(())
    }

    #[test]
    fn directories_are_checked_before_work() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        check_directory(&at("not/yet/there"))?;
        assert!(!at("not").exists(), "nothing is made");
        fs::write(at("file"), "")?;
        symlink("nowhere", at("dangling"))?;
        let told = |name: &str| check_directory(&at(name)).unwrap_err().to_string();
        assert!(told("file").contains("file is a file, not a directory"));
        assert!(told("file/below").contains("file is a file, not a directory"));
        assert!(told("dangling").contains("symbolic link to nowhere, which does not exist"));
        assert_eq!(fs::read_dir(dir.path())?.count(), 2);
        Ok(())
    }
}
