//! Directories of the questions of benchmarks on this machine.

use crate::machine::paths;
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

/// Path of a benchmark's data: `data` if it is given, else in the hub's cache or in a rendered world.
///
/// # Errors
/// The data are not on this machine.
pub fn find_data(benchmark: &dyn Benchmark, data: Option<&Path>) -> Result<PathBuf> {
    match data {
        Some(data) => Ok(data.to_path_buf()),
        None if benchmark.card().source.is_none() => rendered_world(benchmark.id()).ok_or_else(|| {
            Error::failed(format!("the questions of {} have not been generated on this machine yet", benchmark.id()))
                .hint("`burgess rank` generates them; or name their directory")
        }),
        None => locate(benchmark, None),
    }
}

/// Whether the data of a benchmark are on this machine: below `data`, in the hub's cache or in a rendered world.
pub fn is_available(benchmark: &dyn Benchmark, data: Option<&Path>) -> bool {
    let id = benchmark.id();
    let below = data.map(|data| data.join("bench"));
    if below.is_some_and(|dir| dir.join(id).is_dir() || dir.join(format!("{id}.jsonl")).is_file()) {
        return true;
    }
    match &benchmark.card().source {
        Some(source) => matches!(dataset(source.repository), Ok(Some(_))),
        None => rendered_world(id).is_some(),
    }
}

/// Finds a rendered world in the cache that holds the questions of a benchmark.
fn rendered_world(id: &str) -> Option<PathBuf> {
    let worlds = std::fs::read_dir(paths::cache().ok()?.join("worlds")).ok()?;
    let mut worlds: Vec<PathBuf> = worlds.flatten().map(|entry| entry.path()).collect();
    worlds.sort();
    worlds.into_iter().find(|world| world.join("bench").join(format!("{id}.jsonl")).is_file())
}
