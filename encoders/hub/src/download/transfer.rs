//! The download of one file: it is resumed after interruptions, verified, and renamed to its final name when complete.

use super::client::{Client, Failure, broken};
use super::disk::{disk_error, git_sha1, sha256};
use super::progress::FileProgress;
use super::{decimal_size, verify};
use burgess_base::{Context, Error, Result};
use serde::Serialize;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use ureq::http::{StatusCode, header};

/// A file on a server.
#[derive(Debug, Clone)]
pub(super) struct RemoteFile {
    /// Name in messages.
    pub name: String,
    /// Address of the file.
    pub url: String,
    /// Size in bytes, if the server gives it.
    pub size: Option<u64>,
    /// The version of the file.
    pub identity: FileIdentity,
}

/// How the requested version of a file is identified.
#[derive(Debug, Clone)]
pub(super) enum FileIdentity {
    /// Digest by which the hub names the contents. The address contains a commit, so its contents cannot change.
    Digest(String),
    /// ETag or date by which another server tells whether the file under the same address has changed; `None` if the
    /// server gives neither.
    Validator(Option<String>),
}

/// Paths of one file.
pub(super) struct FilePaths {
    /// Path of the finished file in the cache.
    pub file: PathBuf,
    /// Path of the partial download.
    pub partial: PathBuf,
    /// Path of the lock against other processes.
    pub lock: PathBuf,
}

/// How a downloaded file was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verification {
    /// By the published SHA-256.
    Sha256,
    /// By the published SHA-1 of a git blob.
    GitSha1,
    /// By size only: the server gives no digest.
    Size,
    /// Not at all: the server gives neither digest nor size.
    Nothing,
}

/// A finished download.
pub(super) struct Transfer {
    /// Number of bytes received; an interrupted download had left the rest.
    pub received: u64,
    /// How the file was verified.
    pub verification: Verification,
}

/// Downloads a file; `None` if it is on this machine already, undamaged.
///
/// # Errors
/// The server refuses or disconnects too often, the contents have another digest than the hub gives, or the disk is
/// full.
pub(super) fn transfer(client: &Client, remote: &RemoteFile, paths: &FilePaths) -> Result<Option<Transfer>> {
    let step = || format!("downloading {}", remote.name);
    complete(client, remote, paths).map_err(|e| e.context(step()))
}

fn complete(client: &Client, remote: &RemoteFile, paths: &FilePaths) -> Result<Option<Transfer>> {
    let progress = client.progress.as_ref();
    for parent in [&paths.file, &paths.partial, &paths.lock].into_iter().filter_map(|p| p.parent()) {
        fs::create_dir_all(parent).map_err(|e| disk_error(&e, parent))?;
    }
    let _held = lock(&paths.lock, remote, client)?;
    if paths.file.is_file() {
        let Some(damage) = verify::damage(&paths.file, remote.size)? else {
            return Ok(None);
        };
        progress.message(&format!("note: {} is damaged: {damage}: it is downloaded again", paths.file.display()));
        fs::remove_file(&paths.file).map_err(|e| disk_error(&e, &paths.file))?;
    }
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&paths.partial)
        .map_err(|e| disk_error(&e, &paths.partial))?;
    let note = keep_only_part_of(remote, &file, &paths.partial)?;
    let bar = progress.start(&remote.name, remote.size.unwrap_or(0));
    let (mut tries, mut came, mut most) = (0, 0, 0);
    loop {
        match receive(client, remote, &mut file, &paths.partial, bar.as_ref(), &mut came) {
            Ok(()) => break,
            Err(failure) => {
                // A download over an unstable line still makes progress, so its attempts start anew; a server that
                // always restarts from the beginning makes none.
                let have = file.metadata().map_err(|e| disk_error(&e, &paths.partial))?.len();
                if have > most {
                    (most, tries) = (have, 0);
                }
                client.pause(failure, &mut tries)?;
            }
        }
    }
    file.sync_all().map_err(|e| disk_error(&e, &paths.partial))?;
    drop(file);
    let verification = match verified(remote, &paths.partial) {
        Ok(verification) => verification,
        Err(e) => {
            fs::remove_file(&paths.partial).map_err(|e| disk_error(&e, &paths.partial))?;
            return Err(e);
        }
    };
    fs::rename(&paths.partial, &paths.file).map_err(|e| disk_error(&e, &paths.file))?;
    if let Some(note) = note {
        fs::remove_file(&note).map_err(|e| disk_error(&e, &note))?;
    }
    if matches!(verification, Verification::Size | Verification::Nothing) {
        verify::note_digest(&paths.file)?;
    }
    verify::remember(&paths.file);
    Ok(Some(Transfer { received: came, verification }))
}

/// Empties the partial download unless it belongs to the present version of the file. Returns the path of the note that
/// records this version for the next process. On the hub the digest in the partial file's name suffices.
fn keep_only_part_of(remote: &RemoteFile, file: &File, part: &Path) -> Result<Option<PathBuf>> {
    let FileIdentity::Validator(validator) = &remote.identity else { return Ok(None) };
    let mut name = part.file_name().unwrap_or_default().to_os_string();
    name.push(".of");
    let note = part.with_file_name(name);
    let now = format!("{} {:?}", validator.as_deref().unwrap_or_default(), remote.size);
    // Without a validator the server's file may have changed.
    if validator.is_none() || !fs::read_to_string(&note).is_ok_and(|then| then == now) {
        empty(file, part)?;
        fs::write(&note, now).map_err(|e| disk_error(&e, &note))?;
    }
    Ok(Some(note))
}

/// Requests and appends the rest of the file.
fn receive(
    client: &Client,
    remote: &RemoteFile,
    file: &mut File,
    part: &Path,
    bar: &dyn FileProgress,
    came: &mut u64,
) -> Result<(), Failure> {
    let mut have = file.metadata().map_err(|e| disk_error(&e, part))?.len();
    let (validator, can_go_on) = match &remote.identity {
        FileIdentity::Digest(_) => (None, true),
        FileIdentity::Validator(validator) => (validator.as_deref(), validator.is_some()),
    };
    if remote.size.is_some_and(|size| have > size) || !can_go_on {
        have = empty(file, part)?;
    }
    if remote.size == Some(have) {
        return Ok(());
    }
    let answer = match client.get(&remote.url, have, validator) {
        // The server's file is shorter than the partial download, so this is another file.
        Err(failure) if have > 0 && failure.status == Some(StatusCode::RANGE_NOT_SATISFIABLE) => {
            have = empty(file, part)?;
            client.get(&remote.url, 0, None)?
        }
        other => other?,
    };
    if have > 0 && !continues(&answer, have) {
        have = empty(file, part)?;
    }
    bar.set(have, remote.size.unwrap_or(0));
    let most = client.settings.limits.unnamed;
    let mut body = answer.into_body().into_reader();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let n = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) => {
                let failure = broken(&ureq::Error::Io(e), &remote.url);
                let error = failure.error.context(format!("the connection broke off after {have} bytes"));
                return Err(Failure { error, ..failure });
            }
        };
        file.write_all(buffer.get(..n).unwrap_or_default()).map_err(|e| disk_error(&e, part))?;
        have += n as u64;
        *came += n as u64;
        bar.add(n as u64);
        if remote.size.is_some_and(|size| have > size) {
            empty(file, part)?;
            return Err(Error::failed("the server sends more than the file's size").hint(AGAIN).into());
        }
        if remote.size.is_none() && have > most {
            empty(file, part)?;
            return Err(Error::failed(format!("the server names no size, and sends more than {}", decimal_size(most)))
                .hint("if the file is that large, set BURGESS_FETCH_MAX_SIZE to a larger size")
                .into());
        }
        client.time_left()?;
    }
    match remote.size {
        Some(size) if have < size => Err(Failure::transient(
            Error::failed(format!("the connection broke off after {have} of {size} bytes"))
                .hint("start the download again: the received bytes are kept"),
        )),
        _ => Ok(()),
    }
}

/// Whether an answer continues at the end of the partial download.
fn continues<T>(answer: &ureq::http::Response<T>, have: u64) -> bool {
    let range = answer.headers().get(header::CONTENT_RANGE).and_then(|r| r.to_str().ok());
    answer.status() == StatusCode::PARTIAL_CONTENT && range.is_some_and(|r| r.starts_with(&format!("bytes {have}-")))
}

fn empty(file: &File, part: &Path) -> Result<u64> {
    file.set_len(0).map_err(|e| disk_error(&e, part))?;
    Ok(0)
}

const AGAIN: &str = "start the download again; if the error repeats, a proxy may change the file";

/// Verifies a download: on the hub by SHA-256 for large files and by git's SHA-1 for small ones, elsewhere by size.
fn verified(remote: &RemoteFile, part: &Path) -> Result<Verification> {
    let size = fs::metadata(part).map_err(|e| disk_error(&e, part))?.len();
    if let Some(expected) = remote.size.filter(|expected| *expected != size) {
        return Err(Error::failed(format!("{size} bytes were received, the server announced {expected}")).hint(AGAIN));
    }
    let digest = match &remote.identity {
        FileIdentity::Digest(digest) if digest.bytes().all(|b| b.is_ascii_hexdigit()) => digest.to_lowercase(),
        _ => String::new(),
    };
    let (found, checked) = match digest.len() {
        64 => (sha256(part)?, Verification::Sha256),
        40 => (git_sha1(part)?, Verification::GitSha1),
        _ => return Ok(if remote.size.is_some() { Verification::Size } else { Verification::Nothing }),
    };
    match found == digest {
        true => Ok(checked),
        false => {
            Err(Error::failed(format!("the received file has the digest {found}, the published file {digest}"))
                .hint(AGAIN))
        }
    }
}

/// Acquires the lock that `huggingface_hub` also uses; it is released when the process ends.
fn lock(path: &Path, remote: &RemoteFile, client: &Client) -> Result<File> {
    let step = || format!("locking {}", path.display());
    let file = OpenOptions::new().create(true).append(true).open(path).map_err(|e| disk_error(&e, path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            client.progress.message(&format!("{}: waiting for another process that downloads it", remote.name));
            file.lock().with_context(step)?;
            Ok(file)
        }
        Err(TryLockError::Error(e)) => Err(Error::from(e)
            .hint("this file system has no locks: set HF_HUB_CACHE (BURGESS_CACHE) to a directory on another"))
        .with_context(step),
    }
}
