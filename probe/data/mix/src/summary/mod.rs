//! What is in a pool: counts by source and kind, lengths, short answers, images, languages, ratings, and a sample.
//!
//! The pool is streamed once; memory is bounded by the number of sources that are counted by name (1,000).
//!
//! ```no_run
//! use burgess_mix::pool::{Pool, PoolSpec};
//! use burgess_mix::summary::{SummaryOptions, summarise};
//! let pool = Pool::open(&PoolSpec::new("llava_v1_5_mix665k.json"))?;
//! let summary = summarise(&pool, &SummaryOptions::default(), &mut |_| {})?;
//! println!("{:.1} % short answers", 100.0 * summary.all.short_share());
//! # Ok::<(), burgess_base::Error>(())
//! ```

mod chunk;
mod group;
mod languages;
mod lengths;
mod samples;
mod thumbnails;
mod words;

pub use group::{GroupSummary, RatingSummary};
pub use lengths::{LengthBar, LengthCounts, LengthSummary};
pub use samples::SampledEntry;
pub use thumbnails::{Thumbnail, thumbnails};
pub use words::count_words;

use crate::pool::{Pool, RATINGS, ScanReport};
use burgess_base::skipped::SkippedEntries;
use burgess_base::stream::stream;
use burgess_base::{Error, Result};
use chunk::Chunk;
use group::{Group, Groups, RatingCounts};
use rand::Rng;
use samples::Candidates;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Answers of at most this many words are short.
pub const SHORT: u32 = 3;

/// The kinds of published sources, by which entries are counted that state none.
#[derive(Debug, Clone)]
pub struct PublishedKinds(HashMap<String, String>);

impl PublishedKinds {
    /// Reads the built-in catalogues.
    ///
    /// # Errors
    /// A catalogue is malformed.
    pub fn load() -> Result<Self> {
        Ok(Self(crate::mix::built_in_kinds_by_key()?))
    }

    /// Returns the kind of a source, whatever the form of its name.
    pub fn kind_of(&self, source: &str) -> Option<String> {
        self.0.get(&crate::source_key(source)).cloned()
    }
}

/// Number of missing images that are named.
const MISSING_SHOWN: usize = 10;

/// A function that counts the tokens of a text; `None` if it cannot encode it.
pub type TokenCounter = dyn Fn(&str) -> Option<u32> + Sync;

/// What is counted, and how.
pub struct SummaryOptions<'a> {
    /// Directory to which image paths are relative; images are looked for only if it is given.
    pub images: Option<&'a Path>,
    /// Number of entries in the sample.
    pub samples: usize,
    /// Number of entries whose language is recognised.
    pub languages: usize,
    /// Seed of the samples.
    pub seed: u64,
    /// Counts the tokens of a text; `None` if it cannot encode it. Tokens are not counted without it.
    pub tokens: Option<&'a TokenCounter>,
    /// Returns the kind of a source, for entries that state none.
    pub kind_of: &'a (dyn Fn(&str) -> Option<String> + Sync),
}

impl Default for SummaryOptions<'_> {
    fn default() -> Self {
        Self { images: None, samples: 10, languages: 5000, seed: 0, tokens: None, kind_of: &|_| None }
    }
}

/// What is in a pool.
#[derive(Debug, Clone, Serialize)]
pub struct PoolSummary {
    /// Number of files.
    pub files: u64,
    /// Number of data files beside these that are not read, because they have another format.
    pub other_files: u64,
    /// Size of the files in bytes, as they are stored.
    pub stored: u64,
    /// Number of bytes of JSON that were parsed.
    pub bytes: u64,
    /// All entries.
    pub all: GroupSummary,
    /// The sources, largest first.
    pub sources: Vec<GroupSummary>,
    /// The kinds of data, largest first; empty if none is known.
    pub kinds: Vec<GroupSummary>,
    /// Numbers of conversations by their number of questions; the last counts 20 and more.
    pub turns: Vec<(u64, u64)>,
    /// Number of conversations with a system turn.
    pub system: u64,
    /// Number of conversations with ratings, and the lowest ratings by quality.
    pub ratings: Vec<RatingSummary>,
    /// Languages of a sample, most frequent first: name and number of entries.
    pub languages: Vec<(String, u64)>,
    /// Number of entries in that sample, with those too short to tell.
    pub languages_of: u64,
    /// Whether images were looked for.
    pub images_checked: bool,
    /// Names of the first images that do not exist.
    pub missing: Vec<String>,
    /// Number of image paths that lead out of the directory of images.
    pub outside: u64,
    /// Number of texts that the tokenizer could not encode.
    pub not_encoded: u64,
    /// Entries that cannot be used.
    pub skipped: Vec<SkippedEntries>,
    /// Entries that are used but odd.
    pub odd: Vec<SkippedEntries>,
    /// Files that could not be read to their end: name and what is wrong.
    pub damaged: Vec<(String, String)>,
    /// A random sample of entries.
    pub samples: Vec<SampledEntry>,
}

/// The largest number of questions that is counted by itself.
const MOST_TURNS: usize = 20;

/// The counts so far.
struct Counts {
    all: Group,
    sources: Groups,
    kinds: Groups,
    turns: Vec<u64>,
    system: u64,
    ratings: [RatingCounts; 4],
    missing: Vec<String>,
    outside: u64,
    not_encoded: u64,
    samples: Candidates<SampledEntry>,
    texts: Candidates<String>,
}

impl Counts {
    fn take(&mut self, chunk: Chunk) {
        let sources: Vec<usize> = chunk.names.iter().map(|_| usize::MAX).collect();
        let (mut sources, mut kinds) = (sources.clone(), sources);
        let mut said = chunk.said.iter();
        for entry in &chunk.entries {
            let texts: Vec<_> = said.by_ref().take(entry.said as usize).copied().collect();
            self.all.add(entry, &texts);
            for (groups, at, known) in
                [(&mut self.sources, entry.source, &mut sources), (&mut self.kinds, entry.kind, &mut kinds)]
            {
                let (Some(name), Some(known)) = (chunk.names.get(at as usize), known.get_mut(at as usize)) else {
                    continue;
                };
                if *known == usize::MAX {
                    *known = groups.index(name);
                }
                groups.get(*known).add(entry, &texts);
            }
            if let Some(count) = self.turns.get_mut((entry.pairs as usize).min(MOST_TURNS)) {
                *count += 1;
            }
            self.system += u64::from(entry.system);
        }
        for least in &chunk.ratings {
            for (counts, rating) in self.ratings.iter_mut().zip(least) {
                counts.add(*rating);
            }
        }
        let free = MISSING_SHOWN.saturating_sub(self.missing.len());
        self.missing.extend(chunk.missing.into_iter().take(free));
        self.outside += chunk.outside;
        self.not_encoded += chunk.not_encoded;
        self.samples.merge(chunk.samples);
        self.texts.merge(chunk.texts);
    }
}

/// Reads a pool and counts what is in it. `progress` is called with the number of entries so far.
///
/// # Errors
/// An error is returned if no entry can be used; it says why.
pub fn summarise(pool: &Pool, options: &SummaryOptions<'_>, progress: &mut dyn FnMut(u64)) -> Result<PoolSummary> {
    let key = |name: &str| stream(name, options.seed).next_u64();
    let samples: Candidates<SampledEntry> = Candidates::new(options.samples, key("sample of a pool"));
    let texts: Candidates<String> = Candidates::new(options.languages, key("languages of a pool"));
    let new = || Chunk { samples: samples.part(), texts: texts.part(), ..Chunk::default() };
    let mut counts = Counts {
        all: Group::default(),
        sources: Groups::default(),
        kinds: Groups::default(),
        turns: vec![0; MOST_TURNS + 1],
        system: 0,
        ratings: Default::default(),
        missing: Vec::new(),
        outside: 0,
        not_encoded: 0,
        samples: samples.part(),
        texts: texts.part(),
    };
    let report = pool.scan_chunks(&new, &|chunk, entry| chunk.add(entry, pool, options), &mut |chunk| {
        counts.take(chunk);
        progress(counts.all.conversations);
        Ok(())
    })?;
    if report.entries == 0 {
        return Err(nothing(pool, &report));
    }
    Ok(finish(pool, options, counts, report))
}

/// The error of a pool without a usable entry.
fn nothing(pool: &Pool, report: &ScanReport) -> Error {
    let name = pool.files().next().map_or_else(String::new, |f| f.display().to_string());
    let more = match pool.files().count() {
        0 | 1 => String::new(),
        files => format!(" and {} more", files - 1),
    };
    let why = report.notes().into_iter().take(5).collect::<Vec<_>>().join("; ");
    let why = if why.is_empty() { "there is no entry".to_string() } else { why };
    Error::failed(format!("{name}{more}: no conversation can be used: {why}"))
        .hint("expected LLaVA conversations: {\"id\", \"image\", \"conversations\": [{\"from\", \"value\"}]}")
}

fn finish(pool: &Pool, options: &SummaryOptions<'_>, counts: Counts, report: ScanReport) -> PoolSummary {
    let total = counts.all.conversations;
    let known = counts.kinds.conversations();
    let mut kinds = counts.kinds.finish(total);
    if known > 0 && known < total {
        kinds.push(GroupSummary::rest(total - known, total));
    }
    let texts = counts.texts.finish();
    let languages_of = texts.len() as u64;
    PoolSummary {
        files: report.files,
        other_files: pool.other_files(),
        stored: pool.files().filter_map(|f| f.metadata().ok()).map(|m| m.len()).sum(),
        bytes: report.bytes,
        all: counts.all.finish("all", total),
        sources: counts.sources.finish(total),
        kinds,
        turns: (0..).zip(counts.turns).filter(|(_, count)| *count > 0).collect(),
        system: counts.system,
        ratings: RATINGS.iter().zip(counts.ratings).filter_map(|(name, counts)| counts.finish(name)).collect(),
        languages: languages::count(&texts),
        languages_of,
        images_checked: options.images.is_some(),
        missing: counts.missing,
        outside: counts.outside,
        not_encoded: counts.not_encoded,
        skipped: report.skipped.by_source().cloned().collect(),
        odd: report.odd.by_source().cloned().collect(),
        damaged: report.damaged.iter().map(|d| (d.file.display().to_string(), d.what.clone())).collect(),
        samples: counts.samples.finish(),
    }
}

/// Counts of names, most frequent first, for tables.
fn ranked(counts: BTreeMap<String, u64>) -> Vec<(String, u64)> {
    let mut all: Vec<(String, u64)> = counts.into_iter().collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all
}

#[cfg(test)]
mod tests;
