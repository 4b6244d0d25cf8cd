//! The benchmarks that are declared in files: those compiled in, and those that were loaded in this process.

use super::{DeclaredBenchmark, Origin};
use crate::benchmark::Benchmark;
use burgess_base::{Context, Error, Result, digest, files};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, PoisonError, RwLock};

include!(concat!(env!("OUT_DIR"), "/benchmarks.rs"));

/// Maximum size of a benchmark file, in bytes.
const LARGEST: u64 = 1 << 20;

/// The benchmarks that were loaded from files; they live as long as the process.
static LOADED: RwLock<Vec<&'static DeclaredBenchmark>> = RwLock::new(Vec::new());

static EMBEDDED: LazyLock<Vec<DeclaredBenchmark>> = LazyLock::new(|| {
    // A file in `benchmarks/` that does not parse is found by the tests, never by a user.
    FILES.iter().filter_map(|(name, text)| parse(name, text).ok()).collect()
});

fn parse(name: &str, text: &str) -> Result<DeclaredBenchmark> {
    DeclaredBenchmark::parse(text, name, name.strip_suffix(".toml").unwrap_or(name))
}

/// Returns the benchmarks whose files are compiled in, sorted by id.
pub fn embedded() -> impl Iterator<Item = &'static dyn Benchmark> {
    EMBEDDED.iter().map(|b| b as &dyn Benchmark)
}

/// Returns the benchmarks that were loaded from files, in the order of loading.
pub fn registered() -> Vec<&'static dyn Benchmark> {
    let loaded = LOADED.read().unwrap_or_else(PoisonError::into_inner);
    loaded.iter().map(|b| *b as &dyn Benchmark).collect()
}

/// Reads, checks and registers a benchmark file, so that [`crate::find`] knows it by its id from now on. Loading the
/// same file again returns the same benchmark.
///
/// # Errors
/// An error with file, line and key is returned if the file is not a benchmark; a usage error if another benchmark has
/// its id.
pub fn load(path: &Path) -> Result<&'static dyn Benchmark> {
    let name = path.display().to_string();
    let bytes = files::read(path, LARGEST).with_context(|| format!("reading the benchmark file {name}"))?;
    let text = String::from_utf8(bytes)
        .map_err(|e| Error::usage(format!("{name} is not UTF-8 (byte {})", e.utf8_error().valid_up_to() + 1)))?;
    let text = text.trim_start_matches('\u{feff}').to_string();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut benchmark = DeclaredBenchmark::parse(&text, &name, &stem)?;
    let id = benchmark.id().to_string();
    if crate::all().iter().any(|b| b.id() == id) {
        return Err(Error::usage(format!("{name}: the id `{id}` is that of a built-in benchmark"))
            .hint("give the file another name, or an `id` of its own"));
    }
    let mut loaded = LOADED.write().unwrap_or_else(PoisonError::into_inner);
    let whole = whole(path).with_context(|| format!("reading {name}"))?;
    if let Some(known) = loaded.iter().find(|b| b.id() == id) {
        return match &known.origin {
            Some(origin) if origin.text == text && origin.path == whole => Ok(*known),
            origin => {
                let other = origin.as_ref().map_or_else(String::new, |o| format!(" of {}", o.path.display()));
                Err(Error::usage(format!("{name}: the id `{id}` is already that{other}"))
                    .hint("give one of the two files an `id` of its own"))
            }
        };
    }
    benchmark.origin = Some(Origin { path: whole, digest: digest::of_bytes(text.as_bytes()), text });
    // One per file that a command names; it must outlive everything that refers to it.
    let benchmark: &'static DeclaredBenchmark = Box::leak(Box::new(benchmark));
    loaded.push(benchmark);
    Ok(benchmark)
}

/// Returns the absolute path of a file, with the links of its folder resolved, so that it is the same however it is
/// named.
fn whole(path: &Path) -> std::io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    Ok(match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => folder.canonicalize()?.join(name),
        _ => path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_in_the_folder_is_a_benchmark() {
        for (name, text) in FILES {
            if let Err(e) = parse(name, text) {
                panic!("{e}\nhint: {:?}", e.hint_text());
            }
        }
        assert_eq!(EMBEDDED.len(), FILES.len());
    }
}
