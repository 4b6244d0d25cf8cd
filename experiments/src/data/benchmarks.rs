//! Finds the data of benchmarks on this machine: at the path that a benchmark file names, in a data directory, in the
//! Hugging Face cache, or in a nano world (the rendered data set of a nano study) in Burgess's own cache.

use crate::machine::paths;
use crate::study::benchmark_files;
use burgess_base::{Error, Result};
use burgess_encoders::hub::{self, Repository};
use burgess_probe::bench::{Benchmark, DatasetSource};
use std::path::{Path, PathBuf};

/// Returns the directory of a dataset's main branch in the Hugging Face cache; `None` if it is not there.
///
/// # Errors
/// `id` is not a valid repository name.
pub fn cached_dataset(id: &str) -> Result<Option<PathBuf>> {
    let repository = Repository::new(id, None)?;
    let folder = hub::cache()?.join(format!("datasets--{}", repository.id.replace('/', "--")));
    let commit = std::fs::read_to_string(folder.join("refs/main")).unwrap_or_default();
    let snapshot = folder.join("snapshots").join(commit.trim());
    Ok((hub::is_commit(commit.trim()) && snapshot.is_dir()).then_some(snapshot))
}

/// Returns the name and the directory of a published dataset in the Hugging Face cache, under the first of its names
/// that is there; `None` if none is.
fn cached_source<'a>(source: &DatasetSource<'a>) -> Result<Option<(&'a str, PathBuf)>> {
    for name in source.hub_names() {
        if let Some(dir) = cached_dataset(name)? {
            return Ok(Some((name, dir)));
        }
    }
    Ok(None)
}

/// Returns the dataset and commit that [`locate_in`] finds in the Hugging Face cache, as `owner/name@commit`; `None` if
/// the dataset has only one name on the hub, is read from the data directory, or is not on this machine.
pub fn edition(benchmark: &dyn Benchmark, data: Option<&Path>) -> Option<String> {
    let source = benchmark.card().source.filter(|source| source.alias.is_some())?;
    let place = locate_in(benchmark, data).ok()?;
    let (name, dir) = cached_source(&source).ok()??;
    let commit = dir.file_name()?.to_str()?;
    (place == dir).then(|| format!("{name}@{commit}"))
}

/// Returns the place from which `benchmark` is read, given the data directory `data` of a study. For a benchmark whose
/// own file names its questions, it is their table or folder. For a published benchmark it is `bench/<id>/` of the data
/// directory, or else the dataset in the Hugging Face cache. For a benchmark that is generated on this machine it is
/// the data directory itself.
///
/// # Errors
/// The path that a benchmark file names does not exist, a published benchmark is not on this machine, or `data` is
/// `None` for one that is generated on this machine (whose directory is not checked).
pub fn locate_in(benchmark: &dyn Benchmark, data: Option<&Path>) -> Result<PathBuf> {
    if let Some(own) = benchmark_files::own_data(benchmark)? {
        return Ok(own);
    }
    let Some(source) = benchmark.card().source else {
        return data.map(Path::to_path_buf).ok_or_else(|| {
            Error::usage(format!(
                "the questions of {} are generated on this machine, and no data directory is given",
                benchmark.id()
            ))
            .hint(format!("give the data directory of the study, which holds bench/{}.jsonl", benchmark.id()))
        });
    };
    let folder = data.map(|data| data.join("bench").join(benchmark.id()));
    if let Some(folder) = folder.as_ref().filter(|dir| dir.is_dir()) {
        return Ok(folder.clone());
    }
    cached_source(&source)?.map(|(_, dir)| dir).ok_or_else(|| absent(benchmark.id(), &source, folder.as_deref()))
}

/// Describes that a published benchmark is not on this machine, and how to get it; `folder` is its folder in the data
/// directory, if there is one.
fn absent(id: &str, source: &DatasetSource<'_>, folder: Option<&Path>) -> Error {
    if let Some(url) = source.url() {
        return match folder {
            Some(folder) => Error::failed(format!("{id} is not on this machine: {} does not exist", folder.display()))
                .hint(format!("the Hugging Face hub does not have it: download {url} into that folder")),
            None => Error::failed(format!("{id} is not on this machine, and no data directory is given"))
                .hint(format!("the Hugging Face hub does not have it: download {url} into bench/{id}/ of one")),
        };
    }
    let also = folder.map_or_else(String::new, |dir| format!(" nor in {}", dir.display()));
    let other = source.alias.map_or_else(String::new, |alias| format!(" (or {alias})"));
    Error::failed(format!(
        "{id} is not on this machine: the dataset {}{other} is not in {}{also}",
        source.repository,
        hub::cache().unwrap_or_default().display()
    ))
    .hint(format!("run `hf download --repo-type dataset {}`", source.repository))
}

/// Returns the path of a benchmark's data: `questions` itself if the user gives it; else the questions that its own file
/// names, the dataset in the Hugging Face cache, or the first nano world in the cache, by name, that has the benchmark.
///
/// # Errors
/// The data are not on this machine.
pub fn path_or_default(benchmark: &dyn Benchmark, questions: Option<&Path>) -> Result<PathBuf> {
    match questions {
        Some(questions) => Ok(questions.to_path_buf()),
        None if benchmark.card().source.is_none() && benchmark.own_data().is_none() => cached_world(benchmark.id())
            .ok_or_else(|| {
                Error::failed(format!(
                    "the questions of {} have not been generated on this machine yet",
                    benchmark.id()
                ))
                .hint("run `burgess rank`, which generates them, or name their directory")
            }),
        None => locate_in(benchmark, None),
    }
}

/// Returns whether the data of a benchmark are on this machine: at the path that its own file names, or else in `bench/`
/// of the data directory `data`, in the Hugging Face cache (published) or in a cached nano world (generated).
pub fn is_available(benchmark: &dyn Benchmark, data: Option<&Path>) -> bool {
    let id = benchmark.id();
    if let Some(own) = benchmark.own_data() {
        return own.exists();
    }
    let own = data.map(|data| data.join("bench"));
    match &benchmark.card().source {
        Some(source) => own.is_some_and(|dir| dir.join(id).is_dir()) || matches!(cached_source(source), Ok(Some(_))),
        None => own.is_some_and(|dir| dir.join(format!("{id}.jsonl")).is_file()) || cached_world(id).is_some(),
    }
}

/// Returns the directory of the first nano world in the cache, by name, that has the questions of a benchmark.
fn cached_world(id: &str) -> Option<PathBuf> {
    let worlds = std::fs::read_dir(paths::cache().ok()?.join("worlds")).ok()?;
    let mut worlds: Vec<PathBuf> = worlds.flatten().map(|entry| entry.path()).collect();
    worlds.sort();
    worlds.into_iter().find(|world| world.join("bench").join(format!("{id}.jsonl")).is_file())
}

/// Returns whether `config.json` and `results.json` record a digest of this benchmark's questions. Generated benchmarks
/// need none: the digest of the study's data already determines their questions.
pub fn has_own_digest(benchmark: &dyn Benchmark) -> bool {
    benchmark.card().source.is_some() || benchmark.own_data().is_some()
}

/// Returns the name and the digest of the file of the user that declares a benchmark; `None` if no such file does.
pub fn file_digest(benchmark: &dyn Benchmark) -> Option<(String, String)> {
    benchmark.definition().map(|file| (format!("{}.toml", benchmark.id()), file.digest.to_string()))
}

/// Returns what a run's results record of a benchmark beyond its questions: the digest of the file that declares it, as
/// `<id>.toml`, and the edition of its dataset, as `<id> dataset`.
pub fn recorded(benchmark: &dyn Benchmark, data: Option<&Path>) -> impl Iterator<Item = (String, String)> {
    let edition = edition(benchmark, data).map(|edition| (format!("{} dataset", benchmark.id()), edition));
    file_digest(benchmark).into_iter().chain(edition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_probe::bench;

    #[test]
    fn what_the_hub_lacks_is_downloaded_elsewhere() -> Result<()> {
        let data = tempfile::tempdir()?;
        let benchmark = bench::find("mmbench-v11-en")?;
        assert!(!is_available(benchmark, Some(data.path())));
        let hint = match locate_in(benchmark, Some(data.path())) {
            Err(e) => e.hint_text().unwrap_or_default().to_string(),
            Ok(place) => place.display().to_string(),
        };
        assert!(hint.contains("download https://") && hint.contains("MMBench_DEV_EN_V11.tsv"), "{hint}");
        let own = data.path().join("bench/mmbench-v11-en");
        std::fs::create_dir_all(&own)?;
        assert_eq!(locate_in(benchmark, Some(data.path()))?, own);
        Ok(())
    }
}
