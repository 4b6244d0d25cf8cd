//! Digests of files on disk, by which the hub names them, and errors of the disk.

use burgess_base::{Error, Result};
use ring::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

/// SHA-256 of a file, by which the hub names large files.
pub(super) fn sha256(path: &Path) -> Result<String> {
    hash(&SHA256, b"", path)
}

/// SHA-1 of a git blob, by which the hub names small files.
pub(super) fn git_sha1(path: &Path) -> Result<String> {
    let size = fs::metadata(path).map_err(|e| disk_error(&e, path))?.len();
    hash(&SHA1_FOR_LEGACY_USE_ONLY, format!("blob {size}\0").as_bytes(), path)
}

fn hash(algorithm: &'static digest::Algorithm, before: &[u8], path: &Path) -> Result<String> {
    let mut context = digest::Context::new(algorithm);
    context.update(before);
    let mut file = File::open(path).map_err(|e| disk_error(&e, path))?;
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer).map_err(|e| disk_error(&e, path))? {
            0 => break,
            n => context.update(buffer.get(..n).unwrap_or_default()),
        }
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Makes the error for a failed disk operation, with a hint about the cache directories.
pub(super) fn disk_error(error: &std::io::Error, path: &Path) -> Error {
    use std::io::ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    let failed = Error::failed(format!("accessing {}: {error}", path.display()));
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => failed.hint(
            "free some disk space, or set HF_HUB_CACHE (BURGESS_CACHE for files of other servers) to a directory on \
             another disk, and start the download again: the received bytes are kept",
        ),
        PermissionDenied | ReadOnlyFilesystem => failed
            .hint("set HF_HUB_CACHE (BURGESS_CACHE for files of other servers) to a directory with write permission"),
        _ => failed,
    }
}
