//! Local paths of published weights: the Hugging Face cache, shared with all programs that use the hub, and this
//! project's own cache for files from publishers' servers. This module does not use the network.
//!
//! The layout of the Hugging Face cache (`huggingface_hub`, guide "Understand caching"):
//!
//! ```text
//! models--OWNER--NAME/refs/main                    the commit that `main` was when it was last looked up
//! models--OWNER--NAME/snapshots/COMMIT/config.json a link to ../../blobs/ETAG
//! models--OWNER--NAME/blobs/ETAG                   the contents, named by their digest
//! ```

use burgess_base::{Error, Result, digest};
use std::path::{Path, PathBuf};

/// The revision of a repository if none is given.
pub const DEFAULT_REVISION: &str = "main";

/// A repository of the hub at a branch, tag or commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Name of the repository, `owner/name`.
    pub id: String,
    /// Branch, tag or commit; if absent, `main`.
    pub revision: Option<String>,
}

impl Repository {
    /// Builds a repository from its name and revision.
    ///
    /// # Errors
    /// The name or the revision is not valid on the hub.
    pub fn new(id: &str, revision: Option<&str>) -> Result<Self> {
        let part = |part: &str| {
            let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !part.is_empty() && part.len() <= 96 && part.chars().all(fine) && !part.starts_with(['.', '-'])
        };
        if !id.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name) && !id.contains("--")) {
            return Err(Error::usage(format!("`{id}` is not a repository of the hub"))
                .hint("repositories are named owner/name, as in facebook/dinov2-base"));
        }
        if let Some(revision) = revision.filter(|r| !is_plain(r)) {
            return Err(Error::usage(format!("`{revision}` is not a revision"))
                .hint("give a branch, a tag or a commit, as in owner/name@main"));
        }
        Ok(Self { id: id.to_string(), revision: revision.map(str::to_string) })
    }

    /// Parses `owner/name` or `owner/name@revision`; `None` for other texts, such as a card's id or a path.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, revision) = text.split_once('@').map_or((text, None), |(id, revision)| (id, Some(revision)));
        Self::new(id, revision).ok()
    }

    /// Parses `owner/name[@revision]`, optionally followed by `:file` for one of its files.
    pub fn parse_with_file(text: &str) -> Option<(Self, Option<String>)> {
        match text.split_once(':') {
            Some((repository, file)) => {
                let repository = Self::parse(repository).filter(|_| is_plain(file))?;
                Some((repository, Some(file.to_string())))
            }
            None => Some((Self::parse(text)?, None)),
        }
    }

    /// The name with the revision, if given, in the form that [`Repository::parse`] reads.
    pub fn name(&self) -> String {
        self.revision.as_ref().map_or_else(|| self.id.clone(), |revision| format!("{}@{revision}", self.id))
    }

    /// The branch, tag or commit; `main` if none was given.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or(DEFAULT_REVISION)
    }

    /// Folder of the repository in the Hugging Face cache at `cache`.
    pub fn folder(&self, cache: &Path) -> PathBuf {
        cache.join(format!("models--{}", self.id.replace('/', "--")))
    }

    /// Local directory of the repository's files at its revision.
    ///
    /// # Errors
    /// The repository was never fetched at this revision.
    pub fn snapshot(&self) -> Result<PathBuf> {
        let folder = self.folder(&cache()?);
        let absent = || {
            Error::failed(format!("{} is not on this machine; looked in {}", self.name(), folder.display()))
                .hint(format!(
                    "if it is meant as a directory, there is none of this name; else download {}",
                    self.name()
                ))
                .downloadable(self.name())
        };
        let commit = match is_commit(self.revision()) {
            true => self.revision().to_string(),
            false => std::fs::read_to_string(folder.join("refs").join(self.revision())).map_err(|_| absent())?,
        };
        let directory = folder.join("snapshots").join(commit.trim());
        if is_commit(commit.trim()) && directory.is_dir() { Ok(directory) } else { Err(absent()) }
    }
}

/// Whether a revision is a full commit hash, which unlike a branch or tag never changes its meaning.
pub fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Whether a relative path with slashes stays below the directory it is joined to, on every operating system.
pub fn is_plain(name: &str) -> bool {
    let fine = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && !part.contains(['\\', ':'])
            && !part.contains(char::is_control)
    };
    name.split('/').all(fine)
}

/// The Hugging Face cache: `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`.
pub fn cache() -> Result<PathBuf> {
    match directory("HF_HUB_CACHE").or_else(|| directory("HUGGINGFACE_HUB_CACHE")) {
        Some(cache) => Ok(cache),
        None => Ok(home()?.join("hub")),
    }
}

/// The home directory of Hugging Face programs: `HF_HOME`, else `~/.cache/huggingface`.
pub fn home() -> Result<PathBuf> {
    directory("HF_HOME")
        .or_else(|| user_cache().map(|d| d.join("huggingface")))
        .ok_or_else(|| Error::failed("no Hugging Face cache is known: HOME is not set").hint("set HF_HOME"))
}

/// Burgess's own cache (worlds, features, files from publishers' servers): `BURGESS_CACHE`, else `~/.cache/burgess`.
pub fn own_cache() -> Result<PathBuf> {
    directory("BURGESS_CACHE").or_else(|| user_cache().map(|d| d.join("burgess"))).ok_or_else(|| {
        Error::failed("no cache directory is known: HOME is not set").hint("set BURGESS_CACHE to a directory")
    })
}

/// Local path of a file from its publisher's server: `weights/HOST/PATH` in [`own_cache`]. If the address has a
/// query, a folder named by the query's digest precedes the path.
///
/// # Errors
/// The address does not name a file.
pub fn place_of_url(url: &str) -> Result<PathBuf> {
    let no_file = || Error::usage(format!("`{url}` is not the address of a file"));
    let (_, rest) = url.split('#').next().and_then(|url| url.split_once("://")).ok_or_else(no_file)?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = path.split_once('/').ok_or_else(no_file)?;
    let host = host.replace(':', "_");
    if !is_plain(&host) || !is_plain(path) {
        return Err(no_file());
    }
    let folder = own_cache()?.join("weights").join(host);
    Ok(if query.is_empty() { folder.join(path) } else { folder.join(digest::of_bytes(query.as_bytes())).join(path) })
}

/// Local path of the weights from this address; fails if they were not fetched.
pub fn file_of_url(url: &str) -> Result<PathBuf> {
    let path = place_of_url(url)?;
    let absent = || Error::failed(format!("{} is absent; it comes from {url}", path.display()));
    if path.is_file() { Ok(path) } else { Err(absent()) }
}

fn user_cache() -> Option<PathBuf> {
    directory("XDG_CACHE_HOME")
        .or_else(|| directory("HOME").map(|home| home.join(".cache")))
        .or_else(|| directory("LOCALAPPDATA"))
}

/// A directory from an environment variable; `~/` is replaced by the home directory, as in Python.
fn directory(variable: &str) -> Option<PathBuf> {
    let value = std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from)?;
    match (value.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => Some(Path::new(&home).join(rest)),
        _ => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_ids_and_paths() {
        let parsed = Repository::parse("timm/ViT-L-16@v1.0").expect("a repository");
        assert_eq!(
            (parsed.id.as_str(), parsed.revision(), parsed.name()),
            ("timm/ViT-L-16", "v1.0", "timm/ViT-L-16@v1.0".into())
        );
        assert_eq!(Repository::parse("a/b").map(|r| r.revision().to_string()), Some("main".into()));
        for other in
            ["nano-clip", "./a", "../a", "/a/b", "a/b/c", "a/", "a/..", "a/b@../../x", "a/b@", "a--b/c", "a b/c"]
        {
            assert_eq!(Repository::parse(other), None, "{other}");
        }
        assert!(Repository::parse("a/b@refs/pr/1").is_some());
        let (repository, file) = Repository::parse_with_file("a/b@v1:c/d.gguf").expect("a repository");
        assert_eq!((repository.name().as_str(), file.as_deref()), ("a/b@v1", Some("c/d.gguf")));
        assert!(Repository::parse_with_file("a/b:../c").is_none() && Repository::parse_with_file("C:a/b").is_none());
    }

    #[test]
    fn names_that_leave_their_directory_are_seen() {
        assert!(is_plain("unet/config.json") && is_plain("a..b"));
        for name in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a\\b", "C:x", "a/./b", "a\0b"] {
            assert!(!is_plain(name), "{name:?}");
        }
        assert!(place_of_url("https://host:80/a/b.pth").is_ok_and(|p| p.ends_with("weights/host_80/a/b.pth")));
        let two = ["x=1", "x=2"].map(|query| place_of_url(&format!("https://host/b.pth?{query}")).ok());
        assert!(two[0].as_ref().is_some_and(|p| p.ends_with("b.pth")) && two[0] != two[1]);
        assert!(place_of_url("https://host/../../b.pth").is_err() && place_of_url("https://host").is_err());
    }
}
