//! A search: hashes the images of the training data and looks them up among those of the benchmarks.

use crate::benchmark_images::BenchmarkImages;
use crate::hashing;
use crate::index::HashIndex;
use crate::options::{LeakOptions, NamedDataset};
use crate::sources::{self, FailureCause, RecentImages, SourceTallies};
use crate::training::{self, TrainingEntry};
use burgess_base::text::excerpt;
use burgess_base::{Context, Result};
use burgess_bench::ImageLocation;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::Write;

/// Number of training images that are hashed at a time.
const BATCH: usize = 512;

/// Number of images that are hashed at a time if they are in tables; fewer, because the bytes of all of them are read
/// before the first is hashed.
const CELLS: usize = 64;

/// Maximum size in bytes of the list of unreadable images; further ones are only counted.
pub const MAX_FAILURE_BYTES: u64 = 32 << 20;

/// Maximum length in characters of a cause and of its detail.
const DETAIL: usize = 500;

/// Number of recent images that are remembered so as not to be hashed again; they take 32 MiB.
const RECENT: usize = 1 << 22;

/// A training image that waits to be hashed.
struct WaitingImage {
    image: ImageLocation,
    source: usize,
}

/// A line of `matches.jsonl`.
#[derive(Serialize)]
struct MatchLine<'a> {
    /// Name of the benchmark.
    benchmark: &'a str,
    /// Id of the benchmark image.
    id: &'a str,
    /// Location of the benchmark image.
    image: String,
    /// Name of the training set.
    set: &'a str,
    /// Name of the source within the training set.
    source: &'a str,
    /// Location of the training image.
    training: String,
    /// Number of bits in which the hashes of the two images differ.
    distance: u32,
    /// Hash of the training image.
    hash: String,
    /// Number of further benchmark images that match this training image and have no line of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    further: Option<usize>,
}

/// A line of `unreadable.jsonl`.
#[derive(Serialize)]
struct FailureLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    benchmark: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<&'a str>,
    cause: &'a str,
    detail: &'a str,
}

/// A search in progress.
pub struct Search<'a, W> {
    /// Images of the benchmarks.
    pub tested: &'a BenchmarkImages,
    /// Sets of training data.
    pub training: &'a [NamedDataset],
    pub options: &'a LeakOptions,
    index: HashIndex,
    /// Counts per source, of all training sets.
    pub sources: SourceTallies,
    /// Counts per training set, in the order of `training`.
    pub sets: Vec<SetTally>,
    recent: RecentImages,
    /// Failures by cause.
    pub causes: BTreeMap<String, FailureCause>,
    matches: &'a mut W,
    failures: &'a mut W,
    /// Bytes that may still be written to `failures`; `None` after the line that says that further ones are not listed.
    room: Option<u64>,
}

/// The counts of a whole training set; [`SourceTallies`] has those per source.
#[derive(Default, Clone)]
pub struct SetTally {
    /// Number of images that its entries refer to, repetitions included.
    pub images: u64,
    /// Number of entries without an image.
    pub text: u64,
    /// Number of images that were repeated soon after, and not hashed again.
    pub repeated: u64,
    /// Number of entries that cannot be read, or whose image is not a path.
    pub malformed: u64,
    /// Number of files that are not images, if it is a directory.
    pub other_files: u64,
}

impl<'a, W: Write> Search<'a, W> {
    /// Creates a search that writes matches and failures as JSON lines.
    pub fn new(
        tested: &'a BenchmarkImages,
        training: &'a [NamedDataset],
        options: &'a LeakOptions,
        matches: &'a mut W,
        failures: &'a mut W,
    ) -> Self {
        Self {
            tested,
            training,
            options,
            index: HashIndex::new(tested.hashed.clone(), options.distance),
            sources: SourceTallies::new(tested.images.len()),
            sets: vec![SetTally::default(); training.len()],
            recent: RecentImages::new(RECENT),
            causes: BTreeMap::new(),
            matches,
            failures,
            room: Some(MAX_FAILURE_BYTES),
        }
    }

    /// Searches all training data and returns the search with its counts. `progress` receives the number of hashed
    /// images and of those that match.
    pub fn run(mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<Self> {
        let tested = self.tested;
        for (number, why) in &tested.unreadable {
            let benchmark = tested.benchmarks.get(*number).map(|b| b.name.as_str());
            self.failed(benchmark, None, &why.cause, &why.detail)?;
        }
        let mut waiting: Vec<WaitingImage> = Vec::new();
        for (set, named) in self.training.iter().enumerate() {
            let step = || format!("searching the training data {}", named.name);
            let read =
                training::read(named, self.options, &mut |entry| self.take(set, named, entry, &mut waiting, progress));
            read.map_err(|e| e.context(step()))?;
            self.hash(set, &mut waiting, progress)?;
        }
        Ok(self)
    }

    /// Counts an entry of a training set. An image is added to the waiting ones, which are hashed once there are
    /// enough.
    fn take(
        &mut self,
        set: usize,
        named: &NamedDataset,
        entry: TrainingEntry<'_>,
        waiting: &mut Vec<WaitingImage>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<()> {
        let mut unused = SetTally::default();
        let counts = self.sets.get_mut(set).unwrap_or(&mut unused);
        match entry {
            TrainingEntry::Text => counts.text += 1,
            TrainingEntry::Other => counts.other_files += 1,
            TrainingEntry::Malformed { why, detail } => {
                counts.malformed += 1;
                self.failed(None, Some(&named.name), why, &detail)?;
            }
            TrainingEntry::Image { image, source } => {
                counts.images += 1;
                let source = self.sources.number(set, named, source);
                let inside = matches!(image, ImageLocation::Cell(_));
                if !inside && self.recent.repeats(source, &image) {
                    counts.repeated += 1;
                    return Ok(());
                }
                waiting.push(WaitingImage { image, source });
                if waiting.len() >= if inside { CELLS } else { BATCH } {
                    self.hash(set, waiting, progress)?;
                }
            }
        }
        Ok(())
    }

    /// Counts an unreadable image, and writes a line for it while there is room.
    fn failed(&mut self, benchmark: Option<&str>, set: Option<&str>, cause: &str, detail: &str) -> Result<()> {
        let (cause, detail) = (excerpt(cause, DETAIL), excerpt(detail, DETAIL));
        sources::count(&mut self.causes, &cause, &detail);
        let line = FailureLine { benchmark, set, cause: &cause, detail: &detail };
        let length = serde_json::to_string(&line)?.len() as u64 + 1;
        match self.room {
            None => return Ok(()),
            Some(room) if length < room => {
                self.room = Some(room - length);
                return write_line(self.failures, &line);
            }
            Some(_) => self.room = None,
        }
        let cause = "further failures are not listed; leaks.json counts them";
        write_line(self.failures, &FailureLine { benchmark: None, set: None, cause, detail: "" })
    }

    /// Hashes the waiting images, looks them up and writes the matches.
    fn hash(&mut self, set: usize, waiting: &mut Vec<WaitingImage>, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let set = self.training.get(set).map_or("", |named| named.name.as_str());
        let images: Vec<&ImageLocation> = waiting.iter().map(|w| &w.image).collect();
        let hashes = hashing::hashes(&images, self.options.side);
        for (WaitingImage { image, source }, hash) in waiting.iter().zip(hashes) {
            let Some(source) = self.sources.all.get_mut(*source) else { continue };
            let hash = match hash {
                Ok(hash) => hash,
                Err(why) => {
                    source.unreadable += 1;
                    self.failed(None, Some(set), &why.cause, &why.detail)?;
                    continue;
                }
            };
            source.hashed += 1;
            let near = self.index.near(&hash);
            source.matched += u64::from(!near.is_empty());
            let found: Vec<(u32, u32)> = near
                .into_iter()
                .flat_map(|(hash, distance)| self.index.images(hash).iter().map(move |test| (*test, distance)))
                .collect();
            for (i, (number, distance)) in found.iter().enumerate() {
                source.record_found(*number);
                let Some(test) = self.tested.images.get(*number as usize).filter(|_| i < self.options.matches) else {
                    continue;
                };
                let further = found.len() - (i + 1);
                let last = i + 1 == self.options.matches && further > 0;
                let benchmark = self.tested.benchmarks.get(test.benchmark).map_or("", |b| b.name.as_str());
                let line = MatchLine {
                    benchmark,
                    id: &test.id,
                    image: test.image.to_string(),
                    set,
                    source: &source.name,
                    training: image.to_string(),
                    distance: *distance,
                    hash: hash.to_string(),
                    further: last.then_some(further),
                };
                write_line(self.matches, &line)?;
            }
        }
        waiting.clear();
        let (hashed, matched) = self.sources.all.iter().fold((0, 0), |(h, m), s| (h + s.hashed, m + s.matched));
        progress(hashed, matched);
        Ok(())
    }
}

fn write_line(to: &mut impl Write, line: &impl Serialize) -> Result<()> {
    let line = format!("{}\n", serde_json::to_string(line)?);
    to.write_all(line.as_bytes()).context("writing the results")
}
