//! The result of a search: counts by benchmark, by training set and by source.

use crate::search::{Search, SetTally};
use crate::sources::FailureCause;
use burgess_bench::SkippedRows;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeakReport {
    /// Width and height of the hash; it has `hash_size²` bits.
    pub hash_size: usize,
    /// Maximum number of bits in which hashes may differ.
    pub distance: u32,
    /// Counts by benchmark, in the given order.
    pub benchmarks: Vec<BenchmarkCount>,
    /// Counts by training set, in the given order.
    pub training: Vec<SetCount>,
    /// Causes why images of benchmarks or training data could not be read: number of failures, and the first one.
    pub unreadable: BTreeMap<String, FailureCause>,
}

/// The counts of a benchmark.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BenchmarkCount {
    /// Name of the benchmark.
    pub name: String,
    /// Number of its images that could be read.
    pub images: usize,
    /// Number of its images that could not be read.
    pub unreadable: usize,
    /// Number of distinct hashes.
    pub hashes: usize,
    /// Number of images whose hash has no bit set, as blank images have.
    pub blank: usize,
    /// Rows of its table that cannot be asked, per reason; their images are not searched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<SkippedRows>,
    /// Number of its images that were found in any training set.
    pub found: usize,
    /// Number of its images that were found, by training set.
    pub found_in: BTreeMap<String, usize>,
}

/// The counts of a training set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetCount {
    /// Name of the training set.
    pub name: String,
    /// Number of images that its entries refer to, repetitions included.
    pub images: u64,
    /// Number of entries without an image.
    pub text_only: u64,
    /// Number of images that were repeated soon after, and not hashed again.
    pub repeated: u64,
    /// Number of entries that cannot be read, or whose image is not a path.
    pub malformed: u64,
    /// Number of files that are not images, if it is a directory.
    pub other_files: u64,
    /// Number of images that were hashed.
    pub hashed: u64,
    /// Number of images that could not be read.
    pub unreadable: u64,
    /// Number of hashed images that match a benchmark image.
    pub matched: u64,
    /// Number of benchmark images that were found in this set.
    pub found: usize,
    /// Counts by source, those with the most found images first.
    pub sources: Vec<SourceCount>,
}

/// The counts of a source within a training set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceCount {
    /// The field `source` of its entries, or the first folder of its images.
    pub name: String,
    /// Number of images that were hashed.
    pub hashed: u64,
    /// Number of images that could not be read.
    pub unreadable: u64,
    /// Number of hashed images that match a benchmark image.
    pub matched: u64,
    /// Number of benchmark images that were found in this source.
    pub found: usize,
    /// Number of benchmark images that were found in this source, by benchmark.
    pub found_of: BTreeMap<String, usize>,
}

pub(crate) fn report<W>(search: &Search<'_, W>) -> LeakReport {
    let (tested, sources) = (search.tested, &search.sources.all);
    // Counts, per benchmark, the images found in any source that `fits` accepts.
    let found = |fits: &dyn Fn(usize) -> bool| -> Vec<usize> {
        let mut counts = vec![0; tested.benchmarks.len()];
        let here: Vec<_> = sources.iter().enumerate().filter(|(i, _)| fits(*i)).map(|(_, source)| source).collect();
        for (number, test) in tested.images.iter().enumerate() {
            if let (true, Some(count)) = (here.iter().any(|s| s.has(number)), counts.get_mut(test.benchmark)) {
                *count += 1;
            }
        }
        counts
    };
    let names = || tested.benchmarks.iter().map(|b| b.name.clone());
    let of_set = |set: usize| move |source: usize| sources.get(source).is_some_and(|s| s.set == set);
    let by_set: Vec<Vec<usize>> = (0..search.training.len()).map(|set| found(&of_set(set))).collect();
    let benchmarks = tested.benchmarks.iter().zip(found(&|_| true)).enumerate().map(|(number, (benchmark, found))| {
        let in_set = |counts: &Vec<usize>| counts.get(number).copied().unwrap_or_default();
        let sets = search.training.iter().zip(&by_set);
        BenchmarkCount {
            name: benchmark.name.clone(),
            images: benchmark.images,
            unreadable: benchmark.unreadable,
            hashes: benchmark.hashes,
            blank: benchmark.blank,
            left_out: benchmark.left_out.clone(),
            found,
            found_in: sets.map(|(named, counts)| (named.name.clone(), in_set(counts))).collect(),
        }
    });
    let training = search.training.iter().zip(&search.sets).enumerate().map(|(set, (named, reading))| {
        let of_this = sources.iter().enumerate().filter(|(_, source)| source.set == set);
        let mut of_sources: Vec<SourceCount> = of_this
            .map(|(number, source)| {
                let counts = found(&|other| other == number);
                SourceCount {
                    name: source.name.clone(),
                    hashed: source.hashed,
                    unreadable: source.unreadable,
                    matched: source.matched,
                    found: counts.iter().sum(),
                    found_of: names().zip(counts).filter(|(_, count)| *count > 0).collect(),
                }
            })
            .collect();
        of_sources.sort_by(|a, b| b.found.cmp(&a.found).then_with(|| a.name.cmp(&b.name)));
        let sum = |count: fn(&SourceCount) -> u64| of_sources.iter().map(count).sum();
        let SetTally { images, text, repeated, malformed, other_files } = *reading;
        SetCount {
            name: named.name.clone(),
            images,
            text_only: text,
            repeated,
            malformed,
            other_files,
            hashed: sum(|s| s.hashed),
            unreadable: sum(|s| s.unreadable),
            matched: sum(|s| s.matched),
            found: by_set.get(set).map_or(0, |counts| counts.iter().sum()),
            sources: of_sources,
        }
    });
    LeakReport {
        hash_size: search.options.side,
        distance: search.options.distance,
        benchmarks: benchmarks.collect(),
        training: training.collect(),
        unreadable: search.causes.clone(),
    }
}

/// Maximum number of sources per set that the text lists; the JSON file has all.
const SHOWN: usize = 12;

impl LeakReport {
    /// Formats the report as text: benchmarks by training set, then the counts of each set and its sources.
    pub fn text(&self) -> String {
        let wide = self.benchmarks.iter().map(|b| b.name.chars().count()).max().unwrap_or(0).max("benchmark".len());
        let columns: Vec<(usize, &str)> =
            self.training.iter().map(|set| (set.name.chars().count().max(7), set.name.as_str())).collect();
        let line = |name: &str, images: &str, found: &str, sets: Vec<String>| {
            let sets: String = columns.iter().zip(sets).map(|((wide, _), cell)| format!("  {cell:>wide$}")).collect();
            format!("{name:<wide$}  {images:>8}  {found:>7}{sets}\n")
        };
        let headers = columns.iter().map(|(_, name)| (*name).to_string()).collect();
        let mut text = line("benchmark", "images", "found", headers);
        for b in &self.benchmarks {
            let cell = |name: &str| b.found_in.get(name).map_or_else(String::new, usize::to_string);
            let sets = columns.iter().map(|(_, name)| cell(name)).collect();
            text += &line(&b.name, &b.images.to_string(), &b.found.to_string(), sets);
        }
        let sum = |count: fn(&BenchmarkCount) -> usize| self.benchmarks.iter().map(count).sum::<usize>();
        let sets = self.training.iter().map(|set| set.found.to_string()).collect();
        text += &line("all", &sum(|b| b.images).to_string(), &sum(|b| b.found).to_string(), sets);
        let blank = sum(|b| b.blank);
        if blank > 0 {
            text += &format!("{blank} of these images have the hash of a blank image: check their matches by eye\n");
        }
        for (b, left) in self.benchmarks.iter().flat_map(|b| b.left_out.iter().map(move |left| (b, left))) {
            text += &format!("{}: not searched: {}\n", b.name, left.text("rows"));
        }
        for set in &self.training {
            text += &format!(
                "\n{}: {} images hashed, {} repeated, {} match; {} entries of text only\n",
                set.name, set.hashed, set.repeated, set.matched, set.text_only
            );
            for (count, what) in [
                (set.unreadable, "images could not be read"),
                (set.malformed, "entries cannot be read, or their image is not a path"),
                (set.other_files, "files are not images"),
            ] {
                if count > 0 {
                    text += &format!("  {count} {what}\n");
                }
            }
            let with: Vec<&SourceCount> = set.sources.iter().filter(|source| source.found > 0).collect();
            for source in with.iter().take(SHOWN) {
                let of: Vec<String> = source.found_of.iter().map(|(name, n)| format!("{name} {n}")).collect();
                text += &format!("  {:<24} {:>9} hashed  found {}\n", source.name, source.hashed, of.join(", "));
            }
            if with.len() > SHOWN {
                text += &format!("  and {} more sources\n", with.len() - SHOWN);
            }
        }
        for (cause, FailureCause { count, first }) in &self.unreadable {
            text += &format!("\nnot read: {count} × {cause}\n  the first: {first}");
        }
        if !self.unreadable.is_empty() {
            text.push('\n');
        }
        text
    }
}
