//! What to download: a request, and the choice among the files of a repository.

use crate::Repository;
use burgess_base::Result;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A request for files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DownloadRequest {
    /// A repository of the hub: one of its files (with the shards or parts that belong to it), or all files that the
    /// [`FileSelection`] selects.
    Repository(Repository, Option<String>),
    /// The address of a file on another server.
    Url(String),
    /// A file or directory that is on this machine already.
    Local(PathBuf),
}

/// The files of a repository to download, by their names in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SelectedFiles {
    /// Small files such as configurations and tokenizers, which are downloaded first.
    pub configurations: Vec<String>,
    /// Files of weights, or the index of their shards.
    pub weights: Vec<String>,
}

/// Selects the files of a repository that a program needs.
pub trait FileSelection {
    /// Selects among `names`, the names of all files of `repository`: those that belong to `file`, or all that are
    /// needed if it is absent.
    ///
    /// # Errors
    /// The repository lacks a file that is needed.
    fn select(&self, repository: &Repository, names: &BTreeSet<String>, file: Option<&str>) -> Result<SelectedFiles>;

    /// Whether a file of this name is an index, which names further files in its directory.
    fn is_index(&self, name: &str) -> bool;

    /// Returns the names of the files that an index lists.
    ///
    /// # Errors
    /// The contents are not those of an index, or a name leads out of the index's directory.
    fn shards(&self, index: &[u8]) -> Result<Vec<String>>;

    /// Returns all local files that belong to `path`, a file or the directory of a snapshot.
    ///
    /// # Errors
    /// One of them is absent.
    fn local_files(&self, path: &Path) -> Result<Vec<PathBuf>>;
}
