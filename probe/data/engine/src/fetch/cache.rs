//! The disk cache: an answer per address, bodies by their digest.
//!
//! `answers/<2 digits>/<digest of the address>.json` says what the server answered; the body lies in
//! `bodies/<2 digits>/<digest of the body>`. Files appear whole, and a body is checked against its digest when it is
//! read: a damaged one is fetched again.

use burgess_base::{Context, Result, atomic, digest, files};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Largest size of an answer's description in bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// What a server answered to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CachedAnswer {
    /// The address, which is compared when the answer is read.
    pub url: String,
    /// The status: 200, that of a redirect, 404 or 410.
    pub status: u16,
    /// Target of a redirect, as the server wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The header `Content-Type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The header `ETag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The header `Last-Modified`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_modified: Option<String>,
    /// Digest of the body; none for a status other than 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Time of the answer in seconds since 1970.
    pub time: u64,
}

/// Size of a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheSize {
    /// Number of addresses.
    pub answers: u64,
    /// Number of distinct bodies.
    pub bodies: u64,
    /// Size of all files in bytes.
    pub bytes: u64,
}

/// A cache directory.
#[derive(Debug)]
pub(super) struct Cache {
    dir: PathBuf,
}

impl Cache {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    fn file(&self, kind: &str, digest: &str) -> PathBuf {
        self.dir.join(kind).join(digest.get(..2).unwrap_or("00")).join(digest)
    }

    /// Returns the answer for an address; `None` if there is none or it is damaged.
    pub fn answer(&self, url: &str) -> Option<CachedAnswer> {
        let path = self.file("answers", &digest::of_bytes(url.as_bytes())).with_extension("json");
        let bytes = files::read(&path, MAX_ANSWER).ok()?;
        let answer: CachedAnswer = serde_json::from_slice(&bytes).ok()?;
        (answer.url == url).then_some(answer)
    }

    /// Returns the body of an answer; `None` if it is absent, damaged or has more than `most` bytes.
    pub fn body(&self, answer: &CachedAnswer, most: u64) -> Option<Vec<u8>> {
        let name = answer.body.as_deref().filter(|name| name.len() == 32)?;
        let hexadecimal = name.bytes().all(|b| b.is_ascii_hexdigit());
        let bytes = files::read(&self.file("bodies", name), most).ok().filter(|_| hexadecimal)?;
        (digest::of_bytes(&bytes) == name).then_some(bytes)
    }

    /// Writes an answer and its body, whose digest is entered.
    ///
    /// # Errors
    /// An error of the file system.
    pub fn store(&self, answer: &mut CachedAnswer, body: Option<&[u8]>) -> Result<()> {
        if let Some(bytes) = body {
            let name = digest::of_bytes(bytes);
            let path = self.file("bodies", &name);
            // A damaged file has the same name, so that only its contents can tell.
            if files::read(&path, bytes.len() as u64).map_or(true, |found| found != bytes) {
                atomic::write(&path, bytes)?;
            }
            answer.body = Some(name);
        }
        let path = self.file("answers", &digest::of_bytes(answer.url.as_bytes())).with_extension("json");
        atomic::write(&path, &serde_json::to_vec(answer)?)
    }

    /// Counts the files of the cache.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn size(&self) -> Result<CacheSize> {
        let mut size = CacheSize::default();
        (size.answers, size.bytes) = count(&self.dir.join("answers"))?;
        let (bodies, bytes) = count(&self.dir.join("bodies"))?;
        size.bodies = bodies;
        size.bytes += bytes;
        Ok(size)
    }
}

/// Counts files and bytes in the subdirectories of a directory; none if it does not exist.
fn count(dir: &Path) -> Result<(u64, u64)> {
    let (mut number, mut bytes) = (0, 0);
    let step = |dir: &Path| format!("reading {}", dir.display());
    if !dir.exists() {
        return Ok((0, 0));
    }
    for group in fs::read_dir(dir).with_context(|| step(dir))? {
        let group = group.with_context(|| step(dir))?.path();
        for file in fs::read_dir(&group).with_context(|| step(&group))?.flatten() {
            // A temporary file of another process may be gone by now.
            if let Ok(meta) = file.metadata() {
                number += 1;
                bytes += meta.len();
            }
        }
    }
    Ok((number, bytes))
}

impl CachedAnswer {
    /// Whether the answer is younger than `age`.
    pub fn is_fresh(&self, age: Duration) -> bool {
        let now = seconds_now();
        // A time in the future is that of another clock; the answer counts as just received.
        now.saturating_sub(self.time) < age.as_secs().max(1) && !age.is_zero()
    }
}

/// Returns the time in seconds since 1970.
pub(super) fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_a_miss() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path().to_path_buf());
        assert_eq!(cache.size().unwrap(), CacheSize::default());
        let mut answer = CachedAnswer {
            url: "https://x.org/a".into(),
            status: 200,
            location: None,
            content_type: Some("text/plain".into()),
            etag: Some("\"1\"".into()),
            last_modified: None,
            body: None,
            time: seconds_now(),
        };
        cache.store(&mut answer, Some(b"text")).unwrap();
        let found = cache.answer("https://x.org/a").unwrap();
        assert_eq!((&found, cache.body(&found, 4).as_deref()), (&answer, Some(&b"text"[..])));
        assert!(cache.body(&found, 3).is_none(), "too large");
        assert!(cache.answer("https://x.org/b").is_none());
        assert!(found.is_fresh(Duration::from_secs(10)) && !found.is_fresh(Duration::ZERO));
        let size = cache.size().unwrap();
        assert_eq!((size.answers, size.bodies), (1, 1));
        let body = cache.file("bodies", found.body.as_deref().unwrap());
        fs::write(&body, b"tExt").unwrap();
        assert!(cache.body(&found, 100).is_none());
        cache.store(&mut answer, Some(b"text")).unwrap();
        assert!(cache.body(&found, 100).is_some(), "a damaged body is replaced");
        let traversal = CachedAnswer { body: Some("../../../../etc/passwd0000000000x".into()), ..found };
        assert!(cache.body(&traversal, 100_000).is_none());
        let file = cache.file("answers", &digest::of_bytes(b"https://x.org/a")).with_extension("json");
        fs::write(&file, "{\"url\":").unwrap();
        assert!(cache.answer("https://x.org/a").is_none());
    }
}
