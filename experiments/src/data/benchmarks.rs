//! Directories of the questions of benchmarks on this machine.

use burgess_base::{Error, Result};
use burgess_encoders::hub::{self, Repository};
use burgess_probe::bench::Benchmark;
use std::path::{Path, PathBuf};

/// Directory of a dataset's main branch in the Hugging Face cache, if it is there.
///
/// # Errors
/// `id` is not a valid repository name.
pub fn dataset(id: &str) -> Result<Option<PathBuf>> {
    let repository = Repository::new(id, None)?;
    let folder = hub::cache()?.join(format!("datasets--{}", repository.id.replace('/', "--")));
    let commit = std::fs::read_to_string(folder.join("refs/main")).unwrap_or_default();
    let snapshot = folder.join("snapshots").join(commit.trim());
    Ok((hub::is_commit(commit.trim()) && snapshot.is_dir()).then_some(snapshot))
}

/// Directory from which `benchmark` is read. For published ones: `bench/<id>/` of a data directory, or the hub's cache.
/// For those that are generated on this machine: the data directory.
///
/// # Errors
/// The benchmark is not on this machine, or is generated on this machine and `data` is `None`.
pub fn locate(benchmark: &dyn Benchmark, data: Option<&Path>) -> Result<PathBuf> {
    let Some(source) = benchmark.card().source else {
        return data.map(Path::to_path_buf).ok_or_else(|| {
            Error::usage(format!(
                "the questions of {} are generated on this machine, and no data directory is given",
                benchmark.id()
            ))
            .hint("name the data directory, which holds bench/<id>.jsonl")
        });
    };
    let beside = data.map(|data| data.join("bench").join(benchmark.id()));
    if let Some(beside) = beside.as_ref().filter(|dir| dir.is_dir()) {
        return Ok(beside.clone());
    }
    dataset(source.repository)?.ok_or_else(|| {
        let also = beside.map_or_else(String::new, |dir| format!(" nor in {}", dir.display()));
        Error::failed(format!(
            "{} is not on this machine: the dataset {} is not in {}{also}",
            benchmark.id(),
            source.repository,
            hub::cache().unwrap_or_default().display()
        ))
        .hint(format!("hf download --repo-type dataset {}", source.repository))
    })
}
