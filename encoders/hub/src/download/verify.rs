//! Checks that a local file is the published one, so that a file that was cut off by another program or damaged on disk
//! is downloaded again.
//!
//! The hub's cache names contents by their digest; for files from other servers, a digest is stored beside the file
//! when it is downloaded. A verified file is read again only if its size or times changed.

use super::disk::{git_sha1, sha256};
use crate::own_cache;
use burgess_base::{Result, atomic, checksums, digest};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// Record beside a file from another server.
#[derive(Serialize, Deserialize)]
struct DigestRecord {
    size: u64,
    blake3: String,
}

/// Digest of the published contents.
enum PublishedDigest {
    Sha256(String),
    GitSha1(String),
    Blake3(String),
}

/// Describes the damage of a local file; `None` if it is undamaged or cannot be verified. `size` is that of the server.
///
/// # Errors
/// The file cannot be read.
pub fn damage(file: &Path, size: Option<u64>) -> Result<Option<String>> {
    let real = fs::canonicalize(file)?;
    let found = fs::metadata(&real)?.len();
    if let Some(size) = size.filter(|size| *size != found) {
        return Ok(Some(format!("it has {found} bytes, the published file has {size}")));
    }
    let Some((published, name)) = published(&real) else { return Ok(None) };
    let memory = memory(&real).ok();
    let stamp = checksums::file_stamp(&real);
    if stamp.is_some() && memory.as_ref().is_some_and(|m| remembered(m) == Some((name.clone(), stamp))) {
        return Ok(None);
    }
    let (now, expected) = match published {
        PublishedDigest::Sha256(expected) => (sha256(&real)?, expected),
        PublishedDigest::GitSha1(expected) => (git_sha1(&real)?, expected),
        PublishedDigest::Blake3(expected) => (digest::of_file(&real)?, expected),
    };
    if now != expected {
        return Ok(Some(format!("its {found} bytes have the digest {now}, the published file has {expected}")));
    }
    keep(memory.as_deref(), &name, stamp);
    Ok(None)
}

/// Records that a file has just been verified.
pub fn remember(file: &Path) {
    let Ok(real) = fs::canonicalize(file) else { return };
    if let (Some((_, name)), Ok(memory)) = (published(&real), memory(&real)) {
        keep(Some(&memory), &name, checksums::file_stamp(&real));
    }
}

/// Stores the digest of a file from a server that gives none.
///
/// # Errors
/// The file cannot be read, or the record cannot be written.
pub fn note_digest(file: &Path) -> Result<()> {
    let beside = DigestRecord { size: fs::metadata(file)?.len(), blake3: digest::of_file(file)? };
    atomic::write_json(&beside_path(file), &beside)
}

/// Digest of a file's published contents, with a string that identifies them.
fn published(real: &Path) -> Option<(PublishedDigest, String)> {
    let name = real.file_name()?.to_string_lossy().to_lowercase();
    if name.bytes().all(|b| b.is_ascii_hexdigit()) {
        match name.len() {
            64 => return Some((PublishedDigest::Sha256(name.clone()), name)),
            40 => return Some((PublishedDigest::GitSha1(name.clone()), name)),
            _ => {}
        }
    }
    let beside: DigestRecord = atomic::read_json(&beside_path(real)).ok()?;
    Some((PublishedDigest::Blake3(beside.blake3.clone()), format!("{} {}", beside.size, beside.blake3)))
}

fn beside_path(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(".checksum.json");
    file.with_file_name(name)
}

/// File that records when a file was verified.
fn memory(real: &Path) -> Result<PathBuf> {
    let name = digest::of_bytes(real.to_string_lossy().as_bytes());
    Ok(own_cache()?.join("checked").join(format!("file-{name}.json")))
}

fn remembered(memory: &Path) -> Option<(String, Option<checksums::FileStamp>)> {
    serde_json::from_slice(&fs::read(memory).ok()?).ok()
}

fn keep(memory: Option<&Path>, name: &str, stamp: Option<checksums::FileStamp>) {
    // If the record cannot be written, the file is only verified again next time.
    let bytes = serde_json::to_vec(&(name, stamp));
    if let (Some(memory), Ok(bytes)) = (memory, bytes) {
        let _ = atomic::write(memory, &bytes);
    }
}
