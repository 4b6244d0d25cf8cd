//! Benchmarks that files declare (see `probe/bench/benchmarks/README.md`): named by the paths of their files, or found
//! in the folder `benchmarks/` beside a study.

use crate::study::paths;
use burgess_base::{Error, Result, nearest};
use burgess_probe::bench::{self, Benchmark};
use std::path::{Path, PathBuf};

/// Folder beside a study's file, and in its directory of results, that holds benchmark files.
pub const FOLDER: &str = "benchmarks";

/// Returns the benchmark that a name on the command line stands for: the path of a benchmark file, or an id.
///
/// # Errors
/// The file is not a benchmark, or there is no benchmark of this id; the hint names files in `benchmarks/` that have
/// it.
pub fn find(name: &str) -> Result<&'static dyn Benchmark> {
    match is_file_name(name) {
        true => load(Path::new(name)),
        false => bench::find(name).map_err(|e| with_near_file(e, name, Path::new(FOLDER))),
    }
}

/// Replaces the paths of benchmark files among `names` by ids, and loads the files in `benchmarks/` that have one of
/// the ids. Paths are relative to `folder`, the folder of the study's file, or else to the working directory; a
/// built-in study has no folder.
///
/// # Errors
/// As [`find`].
pub fn resolve(names: &mut [String], folder: Option<&Path>) -> Result<()> {
    for name in names {
        let benchmark = match is_file_name(name) {
            true => load(&paths::locate(folder, Path::new(name.as_str()), "the benchmark file")?)?,
            false => match folder {
                Some(folder) => beside(name, &folder.join(FOLDER))?,
                None => bench::find(name)?,
            },
        };
        *name = benchmark.id().to_string();
    }
    Ok(())
}

/// Returns the table or folder of questions that a benchmark's own file names; `None` if it names none.
///
/// # Errors
/// It does not exist.
pub fn own_data(benchmark: &dyn Benchmark) -> Result<Option<PathBuf>> {
    let Some(path) = benchmark.own_data() else { return Ok(None) };
    if path.exists() {
        return Ok(Some(path));
    }
    let file = benchmark.definition().map_or_else(String::new, |d| format!(" of {}", d.path.display()));
    Err(Error::usage(format!("the questions of {} do not exist: {}", benchmark.id(), path.display()))
        .hint(format!("`path` in [data]{file} is relative to that file")))
}

/// Whether a name is that of a file: ids have neither slashes nor the extension `.toml`.
fn is_file_name(name: &str) -> bool {
    name.ends_with(".toml") || name.contains(['/', '\\'])
}

fn load(path: &Path) -> Result<&'static dyn Benchmark> {
    if !path.exists() {
        let shown = path.display();
        let error = Error::usage(format!("the benchmark file {shown} does not exist"));
        let here = path.parent().map_or_else(Vec::new, files);
        let stems: Vec<String> = here.iter().map(|file| stem(file)).collect();
        return Err(match nearest(&stem(path), stems.iter().map(String::as_str)).first() {
            Some(near) => {
                error.hint(format!("did you mean {}?", path.with_file_name(format!("{near}.toml")).display()))
            }
            None => error.hint("`burgess prompts` lists the built-in benchmarks, which are named by their ids"),
        });
    }
    bench::load(path)
}

/// Finds a benchmark for a study whose benchmark files are in `folder`. The file `<id>.toml` comes first, so that one
/// with the id of a built-in benchmark is an error; then the built-in ones; then files that state the id themselves.
fn beside(id: &str, folder: &Path) -> Result<&'static dyn Benchmark> {
    let file = folder.join(format!("{id}.toml"));
    if file.is_file() {
        load(&file)?;
    }
    bench::find(id).or_else(|unknown| {
        let mut broken = None;
        for file in files(folder) {
            match load(&file) {
                Ok(benchmark) if benchmark.id() == id => return Ok(benchmark),
                Ok(_) => {}
                Err(e) => drop(broken.get_or_insert(e)),
            }
        }
        Err(match broken {
            Some(broken) => Error::usage(unknown.to_string())
                .hint(format!("if a file in {} declares it, it may be this one: {broken}", folder.display())),
            None => with_near_file(unknown, id, folder),
        })
    })
}

/// Adds the file in `folder` that has, or nearly has, an unknown id to the hint of the error about it.
fn with_near_file(error: Error, id: &str, folder: &Path) -> Error {
    let stems: Vec<String> = files(folder).iter().map(|file| stem(file)).collect();
    let exact = stems.iter().find(|stem| *stem == id).map(String::as_str);
    match exact.or_else(|| nearest(id, stems.iter().map(String::as_str)).first().copied()) {
        Some(near) => {
            let file = folder.join(format!("{near}.toml"));
            let hint = format!("did you mean {}? `burgess prompts` lists the built-in benchmarks", file.display());
            Error::usage(error.to_string()).hint(hint)
        }
        None => error,
    }
}

/// Returns the `.toml` files of a folder, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|p| p.extension().is_some_and(|e| e == "toml") && p.is_file()).collect();
    files.sort();
    files
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
