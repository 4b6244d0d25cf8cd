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

mod files;
mod hashing;
mod index;
mod report;
mod sources;
mod tested;
mod training;

pub use index::Index;
pub use report::{BenchmarkCount, Report, SetCount, SourceCount};
pub use sources::Cause;

use burgess_base::text::excerpt;
use burgess_base::{Context, Error, Result, atomic};
use burgess_bench::ImageLocation;
use burgess_images::HASH_SIDES;
use serde::Serialize;
use sources::{Recent, Sources};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use tested::Tested;
use training::Entry;

/// A benchmark or a set of training data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Name in the counts.
    pub name: String,
    /// Path of the data.
    pub path: PathBuf,
}

impl Named {
    /// Parses `NAME=PATH`, or a path alone, whose file name up to the first dot is the name.
    ///
    /// # Errors
    /// An error is returned if name or path is empty.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, path) = match text.split_once('=') {
            Some((name, path)) if !Path::new(text).exists() => (name.to_string(), path),
            _ => {
                let file = Path::new(text).file_name().and_then(|f| f.to_str()).unwrap_or_default();
                (file.split('.').find(|part| !part.is_empty()).unwrap_or_default().to_string(), text)
            }
        };
        match name.trim().is_empty() || path.is_empty() {
            true => Err(Error::usage(format!("`{text}` has no name or no path")).hint("NAME=PATH")),
            false => Ok(Self { name, path: path.into() }),
        }
    }
}

/// How images are compared, and where those of the training data are.
#[derive(Debug, Clone)]
pub struct Options {
    /// Width and height of the hash; it has `side²` bits.
    pub side: usize,
    /// Maximum number of bits in which hashes may differ.
    pub distance: u32,
    /// The directory to which paths in conversation files are relative.
    pub images: Option<PathBuf>,
    /// Names of the image columns in parquet files; columns that a file lacks are ignored.
    pub columns: Vec<String>,
    /// Maximum number of matches that are written per training image; further ones are only counted.
    pub matches: usize,
}

impl Default for Options {
    fn default() -> Self {
        let columns = ["image", "images"].map(String::from).to_vec();
        Self { side: 8, distance: 0, images: None, columns, matches: 100 }
    }
}

/// The files that [`find`] writes: matches as JSON lines, unreadable images as JSON lines, and the [`Report`].
pub const FILES: [&str; 3] = ["matches.jsonl", "unreadable.jsonl", "leaks.json"];

/// Number of training images that are hashed at a time.
const BATCH: usize = 512;

/// Number of images from tables that are hashed at a time; fewer, because they wait in memory.
const CELLS: usize = 64;

/// Maximum size in bytes of the list of unreadable images; further ones are only counted.
pub const LISTED: u64 = 32 << 20;

/// Maximum length in characters of a cause and of its detail.
const DETAIL: usize = 500;

/// Number of recent images that are remembered so as not to be hashed again; they take 32 MiB.
const RECENT: usize = 1 << 22;

/// A training image that waits to be hashed.
struct Waiting {
    image: ImageLocation,
    source: usize,
}

/// A line of `matches.jsonl`.
#[derive(Serialize)]
struct Match<'a> {
    benchmark: &'a str,
    id: &'a str,
    image: String,
    set: &'a str,
    source: &'a str,
    training: String,
    distance: u32,
    hash: String,
    /// Number of further benchmark images that this image matches and that have no line of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    further: Option<usize>,
}

/// A line of `unreadable.jsonl`.
#[derive(Serialize)]
struct Failure<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    benchmark: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    set: Option<&'a str>,
    cause: &'a str,
    detail: &'a str,
}

/// Finds the images of `benchmarks` in `training` and writes [`FILES`] to `out`. `progress` receives the number of
/// hashed images and of those that match.
///
/// # Errors
/// An error is returned if a benchmark or a set of training data cannot be read, or if `out` cannot be written. Single
/// images that cannot be read are counted with their cause.
pub fn find(
    benchmarks: &[Named],
    training: &[Named],
    options: &Options,
    out: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report> {
    check(benchmarks, training, options)?;
    let tested = Tested::read(benchmarks, options)?;
    let [matches, failures, summary] = FILES.map(|name| out.join(name));
    let (mut report, mut failed) = (None, None);
    let written = atomic::write_with(&matches, |matches| {
        atomic::write_with(&failures, |failures| {
            match Search::new(&tested, training, options, matches, failures).run(progress) {
                Ok(found) => report = Some(found),
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

fn check(benchmarks: &[Named], training: &[Named], options: &Options) -> Result<()> {
    let bits = options.side.saturating_mul(options.side);
    if !HASH_SIDES.contains(&options.side) {
        return Err(Error::usage(format!("a hash of {0} × {0} bits cannot be made", options.side)).hint(format!(
            "sides from {} to {}",
            HASH_SIDES.start(),
            HASH_SIDES.end()
        )));
    }
    if options.distance as usize >= bits {
        return Err(Error::usage(format!("every image is within {} of {bits} bits of every other", options.distance))
            .hint("copies are within a few bits"));
    }
    for (what, all) in [("benchmark", benchmarks), ("set of training data", training)] {
        if all.is_empty() {
            return Err(Error::usage(format!("no {what} is given")));
        }
        for (i, named) in all.iter().enumerate() {
            if all.iter().take(i).any(|before| before.name == named.name) {
                return Err(
                    Error::usage(format!("a second {what} is called {}", named.name)).hint("NAME=PATH gives a name")
                );
            }
            if !named.path.exists() {
                return Err(Error::usage(format!("the {what} {} does not exist", named.path.display())));
            }
        }
    }
    Ok(())
}

/// A search in progress.
struct Search<'a, W> {
    tested: &'a Tested,
    training: &'a [Named],
    options: &'a Options,
    index: Index,
    sources: Sources,
    sets: Vec<Reading>,
    recent: Recent,
    causes: BTreeMap<String, Cause>,
    matches: &'a mut W,
    failures: &'a mut W,
    /// Bytes that may still be written to `failures`; `None` after the line that says that further ones are not listed.
    room: Option<u64>,
}

/// The counts of a training set that are not per source.
#[derive(Default, Clone)]
struct Reading {
    images: u64,
    text: u64,
    repeated: u64,
    malformed: u64,
    other_files: u64,
}

impl<'a, W: Write> Search<'a, W> {
    fn new(
        tested: &'a Tested,
        training: &'a [Named],
        options: &'a Options,
        matches: &'a mut W,
        failures: &'a mut W,
    ) -> Self {
        Self {
            tested,
            training,
            options,
            index: Index::new(tested.hashed.clone(), options.distance),
            sources: Sources::new(tested.images.len()),
            sets: vec![Reading::default(); training.len()],
            recent: Recent::new(RECENT),
            causes: BTreeMap::new(),
            matches,
            failures,
            room: Some(LISTED),
        }
    }

    fn run(mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<Report> {
        let tested = self.tested;
        for (number, why) in &tested.unreadable {
            let benchmark = tested.benchmarks.get(*number).map(|b| b.name.as_str());
            self.failed(benchmark, None, &why.cause, &why.detail)?;
        }
        let mut waiting: Vec<Waiting> = Vec::new();
        for (set, named) in self.training.iter().enumerate() {
            let step = || format!("the training data {}", named.name);
            let read =
                training::read(named, self.options, &mut |entry| self.take(set, named, entry, &mut waiting, progress));
            read.map_err(|e| e.context(step()))?;
            self.hash(set, &mut waiting, progress)?;
        }
        Ok(report::report(&self))
    }

    fn take(
        &mut self,
        set: usize,
        named: &Named,
        entry: Entry<'_>,
        waiting: &mut Vec<Waiting>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<()> {
        let mut nowhere = Reading::default();
        let counts = self.sets.get_mut(set).unwrap_or(&mut nowhere);
        match entry {
            Entry::Text => counts.text += 1,
            Entry::Other => counts.other_files += 1,
            Entry::Malformed { why, detail } => {
                counts.malformed += 1;
                self.failed(None, Some(&named.name), why, &detail)?;
            }
            Entry::Image { image, source } => {
                counts.images += 1;
                let source = self.sources.number(set, named, source);
                let inside = matches!(image, ImageLocation::Cell(_));
                if !inside && self.recent.repeats(source, &image) {
                    counts.repeated += 1;
                    return Ok(());
                }
                waiting.push(Waiting { image, source });
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
        let line = Failure { benchmark, set, cause: &cause, detail: &detail };
        let length = serde_json::to_string(&line)?.len() as u64 + 1;
        match self.room {
            None => return Ok(()),
            Some(room) if length < room => {
                self.room = Some(room - length);
                return write_line(self.failures, &line);
            }
            Some(_) => self.room = None,
        }
        let cause = "more could not be read than are listed here: leaks.json counts them";
        write_line(self.failures, &Failure { benchmark: None, set: None, cause, detail: "" })
    }

    /// Hashes the waiting images, looks them up and writes the matches.
    fn hash(&mut self, set: usize, waiting: &mut Vec<Waiting>, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let set = self.training.get(set).map_or("", |named| named.name.as_str());
        let images: Vec<&ImageLocation> = waiting.iter().map(|w| &w.image).collect();
        let hashes = hashing::hashes(&images, self.options.side);
        for (Waiting { image, source }, hash) in waiting.iter().zip(hashes) {
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
                source.find(*number);
                let Some(test) = self.tested.images.get(*number as usize).filter(|_| i < self.options.matches) else {
                    continue;
                };
                let further = found.len() - (i + 1);
                let last = i + 1 == self.options.matches && further > 0;
                let benchmark = self.tested.benchmarks.get(test.benchmark).map_or("", |b| b.name.as_str());
                let line = Match {
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
