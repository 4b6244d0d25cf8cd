//! Whether a file that is here is the one that was published: a download that was cut off by another program, or a disk that
//! lost something, is fetched again.
//!
//! The hub's cache names contents by their digest; of files from makers' servers a digest is kept beside the file when they
//! come. Contents that were compared once are read again only when the file's size or times change.

use super::download::{git_sha1, sha256};
use burgess_base::{Result, atomic, checksums, digest};
use burgess_encoders::hub;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// What is kept beside a file of a maker's server.
#[derive(Serialize, Deserialize)]
struct Beside {
    size: u64,
    blake3: String,
}

/// By what contents are known.
enum Published {
    Sha256(String),
    GitSha1(String),
    Blake3(String),
}

/// What is wrong with a file that is here; `None` if it is whole, or nothing is known of it. `size` is what a server says.
///
/// # Errors
/// The file cannot be read.
pub fn damage(file: &Path, size: Option<u64>) -> Result<Option<String>> {
    let real = fs::canonicalize(file)?;
    let found = fs::metadata(&real)?.len();
    if let Some(size) = size.filter(|size| *size != found) {
        return Ok(Some(format!("it has {found} bytes, published are {size}")));
    }
    let Some((published, name)) = published(&real) else { return Ok(None) };
    let memory = memory(&real).ok();
    let stamp = checksums::stamp(&real);
    if stamp.is_some() && memory.as_ref().is_some_and(|m| remembered(m) == Some((name.clone(), stamp))) {
        return Ok(None);
    }
    let (now, expected) = match published {
        Published::Sha256(expected) => (sha256(&real)?, expected),
        Published::GitSha1(expected) => (git_sha1(&real)?, expected),
        Published::Blake3(expected) => (digest::of_file(&real)?, expected),
    };
    if now != expected {
        return Ok(Some(format!("its {found} bytes have the digest {now}, published is {expected}")));
    }
    keep(memory.as_deref(), &name, stamp);
    Ok(None)
}

/// Notes that a file has just been compared.
pub fn remember(file: &Path) {
    let Ok(real) = fs::canonicalize(file) else { return };
    if let (Some((_, name)), Ok(memory)) = (published(&real), memory(&real)) {
        keep(Some(&memory), &name, checksums::stamp(&real));
    }
}

/// Keeps the digest of a file that came from a server which names none.
///
/// # Errors
/// Those of the disk.
pub fn note_digest(file: &Path) -> Result<()> {
    let beside = Beside { size: fs::metadata(file)?.len(), blake3: digest::of_file(file)? };
    atomic::write_json(&beside_path(file), &beside)
}

/// The published contents of a file, and a name for them.
fn published(real: &Path) -> Option<(Published, String)> {
    let name = real.file_name()?.to_string_lossy().to_lowercase();
    if name.bytes().all(|b| b.is_ascii_hexdigit()) {
        match name.len() {
            64 => return Some((Published::Sha256(name.clone()), name)),
            40 => return Some((Published::GitSha1(name.clone()), name)),
            _ => {}
        }
    }
    let beside: Beside = atomic::read_json(&beside_path(real)).ok()?;
    Some((Published::Blake3(beside.blake3.clone()), format!("{} {}", beside.size, beside.blake3)))
}

fn beside_path(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(".checksum.json");
    file.with_file_name(name)
}

/// Where it is kept when a file was compared.
fn memory(real: &Path) -> Result<PathBuf> {
    let name = digest::of_bytes(real.to_string_lossy().as_bytes());
    Ok(hub::own_cache()?.join("checked").join(format!("file-{name}.json")))
}

fn remembered(memory: &Path) -> Option<(String, Option<checksums::Stamp>)> {
    serde_json::from_slice(&fs::read(memory).ok()?).ok()
}

fn keep(memory: Option<&Path>, name: &str, stamp: Option<checksums::Stamp>) {
    // Where it cannot be kept, the file is read again next time.
    let bytes = serde_json::to_vec(&(name, stamp));
    if let (Some(memory), Ok(bytes)) = (memory, bytes) {
        let _ = atomic::write(memory, &bytes);
    }
}
