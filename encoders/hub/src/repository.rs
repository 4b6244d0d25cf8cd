//! Repositories of the Hugging Face hub by name and revision, and their local snapshots.

use crate::cache::{cache, is_commit, is_plain};
use burgess_base::{Error, Result};
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
    /// The repository was never downloaded at this revision.
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
}
