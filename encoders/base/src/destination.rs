//! The destination of an output path: links are resolved, and what is neither a file nor a FIFO is rejected.

use crate::{Context, Error, Result};
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Maximum number of nested links, as in Linux.
const MAX_LINKS: usize = 40;

/// The destination of an output path.
#[derive(Debug)]
pub enum OutputTarget {
    /// A file that may not exist yet: the path with links resolved, and the permissions of the existing file.
    File(PathBuf, Option<Permissions>),
    /// A FIFO, which is written to directly instead of being replaced.
    Fifo,
}

/// Determines the destination at `path`.
pub fn resolve(path: &Path) -> Result<OutputTarget> {
    let shown = path.display();
    if path.as_os_str().is_empty() {
        return Err(Error::usage("the output path is empty, expected the name of a file"));
    }
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => {
            if meta.permissions().readonly() {
                return Err(Error::failed(format!("{shown} is write-protected"))
                    .hint("choose another name, or make the file writable with `chmod u+w`"));
            }
            let target = fs::canonicalize(path).with_context(|| format!("following {shown}"))?;
            Ok(OutputTarget::File(target, Some(meta.permissions())))
        }
        Ok(meta) => match file_kind(&meta) {
            "a FIFO" => Ok(OutputTarget::Fifo),
            kind => Err(Error::failed(format!("{shown} is {kind}, not a file"))
                .hint("give the name of a file, which may not exist yet, or - for standard output")),
        },
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(OutputTarget::File(follow_links(path)?, None)),
        Err(e) => Err(Error::from(e).context(format!("opening {shown}"))),
    }
}

/// Resolves the links of a path that does not exist yet: a dangling link leads to its target.
pub fn follow_links(path: &Path) -> Result<PathBuf> {
    let mut at = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        if at.file_name().is_none() {
            return Err(Error::usage(format!("{} names a directory, not a file", path.display())));
        }
        let Ok(next) = fs::read_link(&at) else {
            let dangling = at != path && at.parent().is_some_and(|p| !p.as_os_str().is_empty() && !p.is_dir());
            return match dangling {
                true => Err(Error::failed(format!(
                    "{} is a symbolic link to {}, whose directory does not exist",
                    path.display(),
                    at.display()
                ))
                .hint("create the directory, or remove the link")),
                false => Ok(at),
            };
        };
        at = at.parent().unwrap_or(Path::new("")).join(next);
    }
    Err(Error::failed(format!("{} is a symbolic link that leads back to itself", path.display()))
        .hint("remove the link"))
}

/// Returns the name of a kind of file for messages, with its article: "a directory", "a FIFO", "a device", …
pub fn file_kind(meta: &fs::Metadata) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = meta.file_type();
        if kind.is_fifo() {
            return "a FIFO";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    match meta.file_type() {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_symlink() => "a symbolic link",
        _ => "a file",
    }
}
