//! Checksums of cached files: `checksums.json` in their directory maps each file name to its BLAKE3 digest and size.
//!
//! There are two ways to use it. A directory that is filled once gets all checksums at the end ([`record_all`]) and is
//! verified with [`check_all`] when it is opened. A directory whose files are added one by one gets each by
//! [`write()`], and [`check`] verifies it when it is read. While a file is replaced, both the old and the new contents
//! are accepted, because a process may be killed in between.

use crate::{Context, Error, Result, atomic, digest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

/// File name of the list of checksums.
pub const FILE: &str = "checksums.json";
/// Format version; increases when the format of the list changes.
const FORMAT: u32 = 1;
/// Maximum size of a list of checksums in bytes.
const MAX_LIST_BYTES: u64 = 1 << 30;

/// The contents of [`FILE`].
#[derive(Debug, Default, Serialize, Deserialize)]
struct ChecksumList {
    format: u32,
    /// Accepted checksums of each file, by its path relative to the directory, with `/` between its parts.
    files: BTreeMap<String, Vec<Checksum>>,
}

/// The size in bytes and the digest of a file's contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Checksum {
    size: u64,
    blake3: String,
}

impl Checksum {
    fn of_file(path: &Path) -> Result<Self> {
        let meta = fs::metadata(path).with_context(|| format!("reading {}", path.display()))?;
        if !meta.is_file() {
            return Err(Error::failed(format!(
                "{} is {}, not a file",
                path.display(),
                crate::destination::file_kind(&meta)
            )));
        }
        Ok(Self { size: meta.len(), blake3: digest::of_file(path)? })
    }
}

/// The result of comparing a file with its checksum, if the two do not differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// The contents match the checksum.
    Matches,
    /// There is no checksum: an earlier version wrote the contents.
    NoChecksum,
}

fn listed(dir: &Path) -> Result<Option<ChecksumList>> {
    let path = dir.join(FILE);
    let hint = || format!("remove the list if it is damaged: then the files in {} are used unchecked", dir.display());
    match fs::metadata(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(meta) if meta.len() > MAX_LIST_BYTES => {
            return Err(Error::failed(format!(
                "{} is larger than {MAX_LIST_BYTES} bytes, too large for a list of checksums",
                path.display()
            ))
            .hint(hint()));
        }
        _ => {}
    }
    let listed: ChecksumList = atomic::read_json(&path).map_err(|e| e.hint(hint()))?;
    if listed.format != FORMAT {
        let message = format!("{} has format {}, expected {FORMAT}", path.display(), listed.format);
        return Err(Error::failed(message).hint(hint()));
    }
    let plain = |name: &String| Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
    match listed.files.keys().find(|name| name.is_empty() || !plain(name)) {
        Some(name) => Err(Error::failed(format!(
            "{} lists the file `{}`, which is outside of its directory",
            path.display(),
            crate::text::excerpt(name, 80)
        ))
        .hint(hint())),
        None => Ok(Some(listed)),
    }
}

fn store(dir: &Path, files: BTreeMap<String, Vec<Checksum>>) -> Result<()> {
    atomic::write_json(&dir.join(FILE), &ChecksumList { format: FORMAT, files })
}

/// Writes checksums of all files in `dir`, recursively.
///
/// # Errors
/// An error of the file system.
pub fn record_all(dir: &Path) -> Result<()> {
    let mut files = BTreeMap::new();
    collect(dir, dir, &mut files)?;
    store(dir, files)
}

fn collect(root: &Path, dir: &Path, files: &mut BTreeMap<String, Vec<Checksum>>) -> Result<()> {
    let step = || format!("listing {}", dir.display());
    for entry in fs::read_dir(dir).with_context(step)? {
        let path = entry.with_context(step)?.path();
        let name = name_of(root, &path);
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if name != FILE {
            files.insert(name, vec![Checksum::of_file(&path)?]);
        }
    }
    Ok(())
}

fn name_of(root: &Path, path: &Path) -> String {
    let parts = path.strip_prefix(root).unwrap_or(path).components();
    parts.map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// Writes a file atomically and records its checksum.
///
/// # Errors
/// The list of checksums cannot be read, or an error of the file system.
pub fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    let sum = Checksum { size: bytes.len() as u64, blake3: digest::of_bytes(bytes) };
    let mut files = listed(dir)?.unwrap_or_default().files;
    let replaces = path.exists();
    let known = files.entry(name.to_string()).or_default();
    if !replaces {
        known.clear();
    }
    known.retain(|k| *k != sum);
    known.push(sum.clone());
    store(dir, files)?;
    atomic::write(&path, bytes)?;
    if replaces {
        let mut files = listed(dir)?.unwrap_or_default().files;
        files.insert(name.to_string(), vec![sum]);
        store(dir, files)?;
    }
    Ok(())
}

/// Removes a file, if it exists, and its checksum, if it is listed.
///
/// # Errors
/// The list of checksums cannot be read, or an error of the file system.
pub fn remove(dir: &Path, name: &str) -> Result<()> {
    let path = dir.join(name);
    match fs::remove_file(&path) {
        // An interrupted removal may have left the checksum without its file.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        other => other.with_context(|| format!("removing {}", path.display()))?,
    }
    let mut files = listed(dir)?.unwrap_or_default().files;
    match files.remove(name) {
        Some(_) => store(dir, files),
        None => Ok(()),
    }
}

/// Writes a value as indented JSON, as [`write()`] does.
///
/// # Errors
/// As [`write()`].
pub fn write_json<T: Serialize>(dir: &Path, name: &str, value: &T) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    write(dir, name, &text)
}

/// Compares one file with its checksum.
///
/// # Errors
/// The file has other contents, or cannot be read.
pub fn check(dir: &Path, name: &str) -> Result<Verification> {
    match listed(dir)?.and_then(|l| l.files.get(name).cloned()) {
        None => Ok(Verification::NoChecksum),
        Some(known) => compare(&dir.join(name), &known).map(|()| Verification::Matches),
    }
}

fn compare(path: &Path, known: &[Checksum]) -> Result<()> {
    let found = match Checksum::of_file(path) {
        Err(e) if !path.exists() => return Err(e.context(format!("{} is missing", path.display()))),
        other => other?,
    };
    if known.contains(&found) {
        return Ok(());
    }
    let written = known.last().map_or_else(String::new, |k| format!("{} bytes with {}", k.size, k.blake3));
    Err(Error::failed(format!(
        "{} is not what was written: found {} bytes with BLAKE3 digest {}, expected {written}",
        path.display(),
        found.size,
        found.blake3
    )))
}

/// Compares all listed files of a directory with their checksums; other files are ignored.
///
/// # Errors
/// A file is missing or has other contents.
pub fn check_all(dir: &Path) -> Result<Verification> {
    let Some(listed) = listed(dir)? else { return Ok(Verification::NoChecksum) };
    for (name, known) in &listed.files {
        compare(&dir.join(name), known)?;
    }
    Ok(Verification::Matches)
}

/// Size in bytes, modification time and change time (nanoseconds since the epoch) of a file.
pub type FileStamp = (u64, u128, i128);

/// Returns the names of the files that are damaged or missing, and whether `dir` has checksums: `NoChecksum` if it has
/// none, else `Matches`, even if files are damaged. A file whose size and times have not changed since its
/// last successful comparison is not read again; `remembered` is the file that stores these sizes and times. Where it
/// cannot be written, as on a file system that is mounted read-only, all files are read again the next time.
///
/// # Errors
/// The list of checksums cannot be read.
pub fn damaged(dir: &Path, remembered: &Path) -> Result<(Verification, Vec<String>)> {
    let Some(listed) = listed(dir)? else { return Ok((Verification::NoChecksum, Vec::new())) };
    let whole = digest::of_file(&dir.join(FILE))?;
    // Stamps that belong to another list are discarded, as is a damaged file of stamps.
    let before: Option<(String, BTreeMap<String, FileStamp>)> =
        fs::read(remembered).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mut stamps = before.filter(|(of, _)| *of == whole).map(|(_, stamps)| stamps).unwrap_or_default();
    let (mut bad, mut news) = (Vec::new(), false);
    for (name, known) in &listed.files {
        let path = dir.join(name);
        let now = file_stamp(&path);
        if now.is_some() && stamps.get(name) == now.as_ref() {
            continue;
        }
        news = true;
        match (compare(&path, known), now) {
            // The stamp was taken before the comparison, so that a later change is noticed.
            (Ok(()), Some(now)) => drop(stamps.insert(name.clone(), now)),
            _ => {
                stamps.remove(name);
                bad.push(name.clone());
            }
        }
    }
    if news {
        let _ = atomic::write(remembered, &serde_json::to_vec(&(whole, stamps))?);
    }
    Ok((Verification::Matches, bad))
}

/// Returns size and times of a file; `None` if they are not available.
pub fn file_stamp(path: &Path) -> Option<FileStamp> {
    let meta = fs::metadata(path).ok()?;
    let modified = meta.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    #[cfg(unix)]
    let changed = {
        use std::os::unix::fs::MetadataExt;
        i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec())
    };
    #[cfg(not(unix))]
    let changed = 0;
    Some((meta.len(), modified, changed))
}

/// Returns the paths of all files that have a checksum.
///
/// # Errors
/// The list of checksums cannot be read.
pub fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    Ok(listed(dir)?.unwrap_or_default().files.keys().map(|name| dir.join(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flip(path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        bytes[0] ^= 1;
        fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_flipped_bit_is_noticed_and_named() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("below"))?;
        fs::write(at("below/a"), "contents")?;
        fs::write(at("b"), "")?;
        assert_eq!(check_all(dir.path())?, Verification::NoChecksum);
        record_all(dir.path())?;
        assert_eq!((check_all(dir.path())?, check(dir.path(), "b")?), (Verification::Matches, Verification::Matches));
        fs::write(at("other"), "is no matter of the list")?;
        assert_eq!(
            (check_all(dir.path())?, check(dir.path(), "other")?),
            (Verification::Matches, Verification::NoChecksum)
        );
        flip(&at("below/a"));
        let told = check_all(dir.path()).unwrap_err().to_string();
        assert!(told.contains("below/a is not what was written: found 8 bytes"), "{told}");
        fs::remove_file(at("b"))?;
        assert!(check(dir.path(), "b").unwrap_err().to_string().contains("b is missing"));
        Ok(())
    }

    #[test]
    fn a_kill_between_two_writes_is_no_damage() -> Result<()> {
        let dir = tempfile::tempdir()?;
        write(dir.path(), "a", b"one")?;
        let kept = fs::read(dir.path().join("a"))?;
        write(dir.path(), "a", b"two")?;
        assert_eq!(check(dir.path(), "a")?, Verification::Matches);
        fs::write(dir.path().join("a"), kept)?;
        assert!(check(dir.path(), "a").is_err(), "the old contents came back");
        // Killed after the list and before the file was written: both contents are accepted.
        let mut files = listed(dir.path())?.unwrap_or_default().files;
        write(dir.path(), "a", b"two")?;
        if let Some(known) = files.get_mut("a") {
            known.push(Checksum { size: 5, blake3: digest::of_bytes(b"three") });
        }
        store(dir.path(), files)?;
        assert_eq!(check(dir.path(), "a")?, Verification::Matches);
        Ok(())
    }

    #[test]
    fn verified_files_are_read_again_only_after_a_change() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let (data, memory) = (dir.path().join("data"), dir.path().join("memory.json"));
        fs::create_dir(&data)?;
        fs::write(data.join("a"), "contents")?;
        fs::write(data.join("b"), "contents")?;
        assert_eq!(damaged(&data, &memory)?, (Verification::NoChecksum, vec![]));
        record_all(&data)?;
        assert_eq!(damaged(&data, &memory)?, (Verification::Matches, vec![]));
        let before = fs::metadata(&memory)?.modified()?;
        assert_eq!(damaged(&data, &memory)?, (Verification::Matches, vec![]));
        assert_eq!(fs::metadata(&memory)?.modified()?, before, "nothing was read");
        // Size and modification time do not change.
        let time = fs::metadata(data.join("b"))?.modified()?;
        flip(&data.join("b"));
        fs::File::options().write(true).open(data.join("b"))?.set_modified(time)?;
        assert_eq!(damaged(&data, &memory)?, (Verification::Matches, vec!["b".to_string()]));
        assert_eq!(damaged(&data, &memory)?, (Verification::Matches, vec!["b".to_string()]), "it stays damaged");
        // A record that cannot be written says nothing about the files.
        let nowhere = data.join("a/record.json");
        assert_eq!(damaged(&data, &nowhere)?, (Verification::Matches, vec!["b".to_string()]));
        fs::write(&memory, "{")?;
        assert_eq!(damaged(&data, &memory)?, (Verification::Matches, vec!["b".to_string()]));
        Ok(())
    }

    #[test]
    fn a_list_stays_in_its_directory() -> Result<()> {
        let dir = tempfile::tempdir()?;
        fs::write(dir.path().join("a"), "x")?;
        record_all(dir.path())?;
        let list = dir.path().join(FILE);
        let text = fs::read_to_string(&list)?;
        for name in ["../a", "/etc/passwd"] {
            fs::write(&list, text.replace("\"a\"", &format!("\"{name}\"")))?;
            assert!(check_all(dir.path()).unwrap_err().to_string().contains("outside of its directory"));
        }
        fs::write(&list, "[")?;
        assert!(check_all(dir.path()).unwrap_err().hint_text().is_some_and(|h| h.contains("unchecked")));
        Ok(())
    }
}
