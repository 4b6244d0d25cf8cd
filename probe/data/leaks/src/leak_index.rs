//! The images of benchmarks as an index, for programs that hash their training images themselves.

use crate::benchmark_images::BenchmarkImages;
use crate::index::HashIndex;
use crate::options::{self, LeakOptions, NamedDataset};
use burgess_base::Result;
use burgess_images::DifferenceHash;

/// The hashes of the images of benchmarks.
pub struct LeakIndex {
    index: HashIndex,
    /// The benchmark of each image.
    benchmark: Vec<usize>,
    names: Vec<String>,
    unreadable: usize,
}

impl LeakIndex {
    /// Reads and hashes the images of benchmarks; `side` and `distance` of the options are used.
    ///
    /// # Errors
    /// A benchmark cannot be read, or the options are wrong.
    pub fn read(benchmarks: &[NamedDataset], options: &LeakOptions) -> Result<Self> {
        options::check(benchmarks, benchmarks, options)?;
        let tested = BenchmarkImages::read(benchmarks, options)?;
        Ok(Self {
            benchmark: tested.images.iter().map(|image| image.benchmark).collect(),
            names: tested.benchmarks.iter().map(|tally| tally.name.clone()).collect(),
            unreadable: tested.unreadable.len(),
            index: HashIndex::new(tested.hashed, options.distance),
        })
    }

    /// Returns the first benchmark that has an image with this hash, or one near it.
    pub fn benchmark_of(&self, hash: &DifferenceHash) -> Option<&str> {
        let near = self.index.near(hash);
        let first = near.iter().flat_map(|(hash, _)| self.index.images(*hash)).min()?;
        let benchmark = self.benchmark.get(*first as usize)?;
        self.names.get(*benchmark).map(String::as_str)
    }

    /// Returns the number of images of the benchmarks that could not be read and are not in the index.
    pub fn unreadable(&self) -> usize {
        self.unreadable
    }
}
