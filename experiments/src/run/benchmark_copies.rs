//! Copies of the benchmark files that a study uses, in its directory of results: `benchmarks/<id>.toml`. All runs of
//! the study were asked and scored by them, so a file that differs from its copy is an error.

use crate::study::benchmark_files::FOLDER;
use burgess_base::{Context, Error, Result, atomic};
use burgess_probe::bench::{self, Benchmark, BenchmarkDefinition};
use std::path::{Path, PathBuf};

/// Checks that the files of these benchmarks are the same as when runs in `dir` were made.
///
/// # Errors
/// A file has changed; the error names its first other line.
pub fn compare(dir: &Path, ids: &[String]) -> Result<()> {
    for (id, definition) in declared(ids) {
        let copy = copy_of(dir, id);
        if !copy.exists() {
            continue;
        }
        let before = std::fs::read_to_string(&copy).with_context(|| format!("reading {}", copy.display()))?;
        if before != definition.text {
            return Err(Error::usage(format!(
                "the benchmark file {} has changed since runs in {} were made: {}",
                definition.path.display(),
                dir.display(),
                first_difference(&before, definition.text)
            ))
            .hint(format!(
                "restore the file (as it was: {}), or choose another output directory: answers under two versions of a \
                 benchmark are never mixed",
                copy.display()
            )));
        }
    }
    Ok(())
}

/// Writes the copies that do not exist yet into the directory of a study.
///
/// # Errors
/// The directory cannot be written, or [`compare`] fails.
pub fn write(dir: &Path, ids: &[String]) -> Result<()> {
    compare(dir, ids)?;
    for (id, definition) in declared(ids) {
        let copy = copy_of(dir, id);
        if !copy.exists() {
            atomic::write(&copy, definition.text.as_bytes())?;
        }
    }
    Ok(())
}

/// Returns the directories of the questions and images that benchmark files name, from which reports may show images.
pub fn image_directories(ids: &[String]) -> Vec<PathBuf> {
    let own = ids.iter().filter_map(|id| bench::find(id).ok()?.own_data());
    let folder = |path: PathBuf| if path.is_dir() { Some(path) } else { path.parent().map(Path::to_path_buf) };
    own.filter_map(folder).filter_map(|dir| std::path::absolute(dir).ok()).collect()
}

fn copy_of(dir: &Path, id: &str) -> PathBuf {
    dir.join(FOLDER).join(format!("{id}.toml"))
}

/// Returns those of the benchmarks that a file of the user declares, with it.
fn declared(ids: &[String]) -> impl Iterator<Item = (&str, BenchmarkDefinition<'static>)> {
    ids.iter().filter_map(|id| Some((id.as_str(), definition(bench::find(id).ok()?)?)))
}

fn definition(benchmark: &'static dyn Benchmark) -> Option<BenchmarkDefinition<'static>> {
    benchmark.definition()
}

/// Describes the first line in which two texts differ.
fn first_difference(before: &str, now: &str) -> String {
    let (mut old, mut new) = (before.lines(), now.lines());
    for number in 1.. {
        match (old.next(), new.next()) {
            (None, None) => break,
            (a, b) if a == b => {}
            (a, b) => {
                let shown = |line: Option<&str>| {
                    line.map_or_else(|| "absent".to_string(), |l| format!("`{}`", burgess_base::text::excerpt(l, 100)))
                };
                return format!("line {number} was {} and is {}", shown(a), shown(b));
            }
        }
    }
    "other line ends".to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_other_line_is_named() {
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), "line 2 was `b` and is `c`");
        assert_eq!(first_difference("a\n", "a\nb\n"), "line 2 was absent and is `b`");
        assert_eq!(first_difference("a\n", "a"), "other line ends");
    }
}
