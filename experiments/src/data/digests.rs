//! Digests of the files of a data directory that a run reads: conversations and the images that they name. Other files
//! there do not affect the digests.
//!
//! Each file is read once: its digest is cached by path, size and modification time.

use crate::data::image_files;
use crate::machine::progress::Progress;
use burgess_base::{Context, Error, Result, atomic, digest};
use rayon::prelude::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// By file name relative to the data directory: size in bytes and digest of the file, joined by `-`; [`ABSENT`] if it
/// does not exist or cannot be read.
pub type Manifest = BTreeMap<String, String>;

/// Stands for the digest of a file that does not exist or cannot be read.
pub const ABSENT: &str = "absent";

/// Minimum age of a modification time for its digest to be cached. A younger file may change again without a new time,
/// because timestamps have a limited resolution.
const SETTLED: Duration = Duration::from_secs(2);

/// Size in bytes, modification time in nanoseconds since 1970, and digest of a file.
type FileDigest = (u64, u64, String);

/// Cache of the digests of files below one directory.
pub struct DigestCache {
    dir: PathBuf,
    cache_file: PathBuf,
    known: BTreeMap<String, FileDigest>,
}

impl DigestCache {
    /// Opens the cached digests of files below `dir`; `cache` is the cache directory of Burgess.
    pub fn open(cache: &Path, dir: &Path) -> Result<Self> {
        let canonical = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
        let name = digest::of_value(&canonical.display().to_string())?;
        let cache_file = cache.join("digests").join(format!("{name}.json"));
        // If the cached digests cannot be read, they are computed again.
        let known = atomic::read_json(&cache_file).unwrap_or_default();
        Ok(Self { dir: dir.to_path_buf(), cache_file, known })
    }

    /// Returns the digests of the files that contain these images (for names, see [`image_files::joint_name`]).
    pub fn images(&mut self, names: &[String], progress: &Progress) -> Result<Manifest> {
        let files: BTreeSet<String> = names.iter().flat_map(|name| image_files::file_names(name)).collect();
        let paths = files.into_iter().map(|file| {
            let path = self.dir.join(image_files::decode_name(&file));
            (file, path)
        });
        self.files(&paths.collect::<Vec<_>>(), progress)
    }

    /// Returns the digests of some files, each with its name in the manifest.
    pub fn files(&mut self, files: &[(String, PathBuf)], progress: &Progress) -> Result<Manifest> {
        let settled = SystemTime::now().checked_sub(SETTLED).and_then(nanoseconds).unwrap_or(0);
        let bar = progress.bar("computing digests of files", files.len() as u64);
        let found: Vec<(String, Option<FileDigest>)> = files
            .par_iter()
            .map(|(name, path)| {
                let known = read(path, self.known.get(&path.display().to_string()));
                bar.add(1);
                (name.clone(), known)
            })
            .collect();
        drop(bar);
        let mut manifest = Manifest::new();
        let mut changed = false;
        for ((name, known), (_, path)) in found.into_iter().zip(files) {
            manifest.insert(name, known.as_ref().map_or_else(|| ABSENT.into(), |k| format!("{}-{}", k.0, k.2)));
            let key = path.display().to_string();
            if let Some(known) = known.filter(|k| k.1 < settled && self.known.get(&key) != Some(k)) {
                self.known.insert(key, known);
                changed = true;
            }
        }
        if changed {
            atomic::write_json(&self.cache_file, &self.known)?;
        }
        Ok(manifest)
    }
}

fn nanoseconds(time: SystemTime) -> Option<u64> {
    time.duration_since(UNIX_EPOCH).ok().and_then(|t| u64::try_from(t.as_nanos()).ok())
}

/// Returns size, time and digest of a file; `None` if it does not exist or cannot be read.
fn read(path: &Path, known: Option<&FileDigest>) -> Option<FileDigest> {
    // Only regular files are read: reading a FIFO or a device could block forever.
    let meta = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let (size, time) = (meta.len(), meta.modified().ok().and_then(nanoseconds)?);
    match known {
        Some(known) if (known.0, known.1) == (size, time) => Some(known.clone()),
        _ => Some((size, time, digest::of_file(path).ok()?)),
    }
}

/// Returns the digest of a manifest and stores the manifest in the cache, so that a later run can tell what changed.
pub fn store_manifest(cache: &Path, manifest: &Manifest) -> Result<String> {
    let digest = digest::of_value(manifest)?;
    let path = manifest_path(cache, &digest);
    if !path.exists() {
        atomic::write_json(&path, manifest)?;
    }
    Ok(digest)
}

fn manifest_path(cache: &Path, digest: &str) -> PathBuf {
    cache.join("digests").join("of-runs").join(format!("{digest}.json"))
}

/// Describes how the data differ between two manifests, given by their digests, with at most five file names; `None` if
/// they do not differ or a manifest is not in the cache.
pub fn changes(cache: &Path, earlier: &str, current: &str) -> Option<String> {
    let read = |digest: &str| {
        let plain = !digest.is_empty() && digest.chars().all(|c| c.is_ascii_hexdigit());
        plain.then(|| atomic::read_json::<Manifest>(&manifest_path(cache, digest)).ok()).flatten()
    };
    let (earlier, current) = (read(earlier)?, read(current)?);
    let names: BTreeSet<&String> = earlier.keys().chain(current.keys()).collect();
    let change = |name: &&String| {
        let gone = |digest: Option<&String>| digest.is_none_or(|d| d == ABSENT);
        let shown = burgess_base::text::excerpt(name, 120);
        match (earlier.get(*name), current.get(*name)) {
            (a, b) if a == b => None,
            (a, b) if gone(a) && gone(b) => None,
            (a, _) if gone(a) => Some(format!("{shown} is new")),
            (_, b) if gone(b) => Some(format!("{shown} is gone")),
            _ => Some(format!("{shown} has other contents")),
        }
    };
    let all: Vec<String> = names.iter().filter_map(change).collect();
    let more = if all.len() > 5 { format!(", and {} more", all.len() - 5) } else { String::new() };
    (!all.is_empty()).then(|| format!("{}{more}", all.iter().take(5).cloned().collect::<Vec<_>>().join(", ")))
}

/// Compares the digest under `key` in the configuration of the run in `dir` with the digest `current` of its inputs. If
/// it equals `by_metadata`, the digest of the same files as earlier versions of Burgess computed it, it is replaced by
/// `current`.
///
/// # Errors
/// The data differ; the error names the files.
pub fn compare(cache: &Path, dir: &Path, key: &[&str], current: &str, by_metadata: Option<&str>) -> Result<()> {
    let file = dir.join("config.json");
    if !file.is_file() {
        return Ok(());
    }
    let mut config: Value = atomic::read_json(&file)?;
    let found = key.iter().try_fold(&mut config, |value, key| value.get_mut(key));
    let Some(found) = found else { return Ok(()) };
    let recorded = found.as_str().unwrap_or_default().to_string();
    if recorded == current {
        return Ok(());
    }
    if Some(recorded.as_str()) == by_metadata {
        *found = current.into();
        return atomic::write_json(&file, &config);
    }
    match changes(cache, &recorded, current) {
        Some(changes) => {
            let input = key.last().unwrap_or(&"inputs");
            Err(Error::failed(format!("{} was made from other inputs: `{input}`: {changes}", dir.display()))
                .hint(format!("restore the files, or remove {} to run it again", dir.display())))
        }
        // `RunStore::write_or_compare_config` reports that the digests differ, without naming files.
        None => Ok(()),
    }
}

/// Returns the digest of names, sizes and modification times of all files in a directory, which versions before 0.2
/// recorded; `None` if the directory cannot be listed.
pub fn digest_by_metadata(dir: &Path) -> Option<String> {
    fn walk(dir: &Path, root: &Path, out: &mut Vec<(String, u64, u128)>) -> Result<()> {
        let step = || format!("listing {}", dir.display());
        for entry in std::fs::read_dir(dir).with_context(step)? {
            let path = entry.with_context(step)?.path();
            let meta = std::fs::metadata(&path).with_context(step)?;
            if meta.is_dir() {
                walk(&path, root, out)?;
            } else {
                let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                let time = meta.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
                out.push((name, meta.len(), time.map_or(0, |t| t.as_nanos())));
            }
        }
        Ok(())
    }
    let mut files = Vec::new();
    walk(dir, dir, &mut files).ok()?;
    files.sort();
    digest::of_value(&files).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn old(path: &Path, seconds: u64) -> Result<()> {
        let file = std::fs::File::options().write(true).open(path)?;
        Ok(file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000 + seconds))?)
    }

    #[test]
    fn only_the_contents_of_named_files_affect_the_manifest() -> Result<()> {
        let (cache, dir) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let names: Vec<String> = ["a.png", "b.png", "c.png"].map(String::from).to_vec();
        for name in ["a.png", "b.png"] {
            std::fs::write(dir.path().join(name), name)?;
        }
        let progress = Progress::silent();
        let look = || -> Result<Manifest> { DigestCache::open(cache.path(), dir.path())?.images(&names, &progress) };
        let first = look()?;
        assert_eq!((first.len(), first["c.png"].as_str()), (3, ABSENT));
        std::fs::write(dir.path().join("a note.txt"), "hello")?;
        old(&dir.path().join("a.png"), 0)?;
        assert_eq!(look()?, first, "another file, another time");
        // A file with known path, size and time is not read again.
        std::fs::write(dir.path().join("a.png"), "A.png")?;
        old(&dir.path().join("a.png"), 0)?;
        assert_eq!(look()?, first);
        old(&dir.path().join("a.png"), 1)?;
        let second = look()?;
        assert_ne!(second["a.png"], first["a.png"]);
        std::fs::remove_file(dir.path().join("b.png"))?;
        std::fs::write(dir.path().join("c.png"), "c")?;
        let (earlier, current) = (store_manifest(cache.path(), &first)?, store_manifest(cache.path(), &look()?)?);
        let said = changes(cache.path(), &earlier, &current).unwrap_or_default();
        assert_eq!(said, "a.png has other contents, b.png is gone, c.png is new");
        assert_eq!(changes(cache.path(), "../x", &current), None);
        Ok(())
    }

    #[test]
    fn a_digest_of_an_earlier_version_is_replaced_and_changed_files_are_named() -> Result<()> {
        let (cache, run) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let config = run.path().join("config.json");
        atomic::write_json(&config, &json!({"data": "0305", "seed": 1}))?;
        compare(cache.path(), run.path(), &["data"], "abcd", Some("0305"))?;
        assert_eq!(atomic::read_json::<Value>(&config)?, json!({"data": "abcd", "seed": 1}));
        let manifest = |digest: &str| Manifest::from([("a.png".to_string(), digest.to_string())]);
        let (there, here) =
            (store_manifest(cache.path(), &manifest("1"))?, store_manifest(cache.path(), &manifest("2"))?);
        atomic::write_json(&config, &json!({"data": there}))?;
        let e = compare(cache.path(), run.path(), &["data"], &here, None).unwrap_err();
        assert!(e.to_string().contains("other inputs: `data`: a.png has other contents"), "{e}");
        assert!(compare(cache.path(), run.path(), &["data"], &there, None).is_ok());
        Ok(())
    }

    #[cfg(unix)]
    #[test]
    fn links_to_nothing_directories_and_fifos_count_as_absent() -> Result<()> {
        let (cache, dir) = (tempfile::tempdir()?, tempfile::tempdir()?);
        std::os::unix::fs::symlink("nowhere", dir.path().join("a.png"))?;
        std::fs::create_dir(dir.path().join("b.png"))?;
        let fifo = std::process::Command::new("mkfifo").arg(dir.path().join("c.png")).status();
        assert!(fifo.is_ok_and(|s| s.success()));
        let names = ["a.png", "b.png", "c.png"].map(String::from);
        let found = DigestCache::open(cache.path(), dir.path())?.images(&names, &Progress::silent())?;
        assert!(found.values().all(|digest| digest == ABSENT) && found.len() == 3);
        Ok(())
    }
}
