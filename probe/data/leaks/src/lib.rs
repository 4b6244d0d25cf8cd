//! Finds benchmark images in training data by their difference hashes (dHash).
//!
//! Cambrian-1 counts a benchmark image as leaked if the training data contain one with the same dHash
//! (arXiv:2406.16860, appendix on data). [`find`] does this for any benchmarks and training data, exactly or within a
//! number of bits. Only what belongs to the benchmarks is held in memory; training data are streamed and hashed on all
//! cores.
//!
//! An equal hash is strong evidence but no proof: images that are blank, or appear so at 9 × 8 pixels, share their
//! hash. The report gives the number of images of a benchmark whose hash has no bit set, and the number of distinct
//! hashes.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod benchmark_images;
mod files;
mod hashing;
mod index;
mod leak_index;
mod options;
mod report;
mod search;
mod sources;
mod training;

pub use index::HashIndex;
pub use leak_index::LeakIndex;
pub use options::{LeakOptions, NamedDataset};
pub use report::{BenchmarkCount, LeakReport, SetCount, SourceCount};
pub use search::MAX_FAILURE_BYTES;
pub use sources::FailureCause;

use benchmark_images::BenchmarkImages;
use burgess_base::{Error, Result, atomic};
use search::Search;
use std::path::Path;

/// The files that [`find`] writes: matches as JSON lines, unreadable images as JSON lines, and the [`LeakReport`].
pub const FILES: [&str; 3] = ["matches.jsonl", "unreadable.jsonl", "leaks.json"];

/// Finds the images of `benchmarks` in `training` and writes [`FILES`] to `out`. `progress` receives the number of
/// hashed images and of those that match.
///
/// # Errors
/// An error is returned if a benchmark or a set of training data cannot be read, or if `out` cannot be written. Single
/// images that cannot be read are counted with their cause.
pub fn find(
    benchmarks: &[NamedDataset],
    training: &[NamedDataset],
    options: &LeakOptions,
    out: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<LeakReport> {
    options::check(benchmarks, training, options)?;
    let tested = BenchmarkImages::read(benchmarks, options)?;
    let [matches, failures, summary] = FILES.map(|name| out.join(name));
    let (mut report, mut failed) = (None, None);
    let written = atomic::write_with(&matches, |matches| {
        atomic::write_with(&failures, |failures| {
            match Search::new(&tested, training, options, matches, failures).run(progress) {
                Ok(search) => report = Some(report::report(&search)),
                // The search's own error is returned below; here it only prevents the files from being created.
                Err(e) => failed = Some(e),
            }
            if failed.is_some() { Err(Error::failed("the search has failed")) } else { Ok(()) }
        })
    });
    if let Some(e) = failed {
        return Err(e);
    }
    written?;
    let report = report.ok_or_else(|| Error::failed("nothing was searched"))?;
    atomic::write_json(&summary, &report)?;
    Ok(report)
}
