//! A study as the tasks of a scheduler: the list of its tasks, its forms for schedulers, and where the study stands.
//!
//! The unit of distribution is what the run store keeps: the features of an encoder, the trained model of a run, the
//! results of a run, the ranking. A task makes one of them with one idempotent command, so a task that is started again
//! does only what is left. Burgess has no scheduler of its own: [`tasks`] makes the list, [`shell_lines`],
//! [`hyperqueue`] and [`slurm`] write it in the forms that existing schedulers read.

pub mod hyperqueue;
pub mod run_state;
pub mod shell_lines;
pub mod slurm;
pub mod status;
pub mod tasks;

use burgess_base::{Error, Result};
use std::path::{Path, PathBuf};

/// What all tasks of a study have in common: where they run and in which environment.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// Working directory, an absolute path.
    pub directory: PathBuf,
    /// Environment variables that change what a task reads and writes, with absolute paths.
    pub variables: Vec<(String, String)>,
}

/// A path as text, for commands and files of schedulers.
///
/// # Errors
/// The path is not UTF-8.
pub fn path_text(path: &Path) -> Result<String> {
    path.to_str().map(String::from).ok_or_else(|| {
        Error::usage(format!("the path {} is not UTF-8, which the files of schedulers must be", path.display()))
            .hint("rename the directory")
    })
}
