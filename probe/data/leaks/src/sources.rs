//! Counts per source of training data, and the memory of recently seen images.

use crate::options::NamedDataset;
use burgess_base::text::excerpt;
use burgess_bench::ImageLocation;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Maximum number of sources that are counted separately; further ones are counted together to bound memory.
const SOURCES: usize = 1024;

/// Name under which further sources are counted.
const OTHERS: &str = "(other sources)";

/// Maximum length of a source's name, in characters.
const NAME: usize = 200;

/// Maximum number of causes that are counted separately.
const CAUSES: usize = 32;

/// The counts of one source of one training set.
pub struct SourceTally {
    /// Index of the training set.
    pub set: usize,
    /// Name of the source.
    pub name: String,
    /// Number of images that were hashed.
    pub hashed: u64,
    /// Number of images that could not be read.
    pub unreadable: u64,
    /// Number of hashed images that match a benchmark image.
    pub matched: u64,
    /// Bit set over the benchmarks' images: whether each was found in this source.
    found: Vec<u64>,
}

impl SourceTally {
    /// Records that a benchmark image was found.
    pub fn record_found(&mut self, image: u32) {
        if let Some(word) = self.found.get_mut(image as usize / 64) {
            *word |= 1 << (image % 64);
        }
    }

    /// Returns whether a benchmark image was found.
    pub fn has(&self, image: usize) -> bool {
        self.found.get(image / 64).is_some_and(|word| (word >> (image % 64)) & 1 == 1)
    }
}

/// All sources, in the order in which they first occurred.
pub struct SourceTallies {
    pub all: Vec<SourceTally>,
    by_name: HashMap<(usize, String), usize>,
    /// Number of 64-bit words of a bit set over the benchmarks' images.
    words: usize,
}

impl SourceTallies {
    pub fn new(images: usize) -> Self {
        Self { all: Vec::new(), by_name: HashMap::new(), words: images.div_ceil(64) }
    }

    /// Returns the index of a training set's source; a source without a name is named as the set.
    pub fn number(&mut self, set: usize, named: &NamedDataset, source: &str) -> usize {
        let known = |name: &str| self.by_name.get(&(set, name.to_string())).copied();
        let short = excerpt(source, NAME);
        let name = if source.is_empty() { named.name.as_str() } else { short.as_str() };
        if let Some(number) = known(name) {
            return number;
        }
        let name = if self.all.len() < SOURCES { name } else { OTHERS };
        if let Some(number) = known(name) {
            return number;
        }
        let number = self.all.len();
        self.by_name.insert((set, name.to_string()), number);
        let found = vec![0; self.words];
        self.all.push(SourceTally { set, name: name.to_string(), hashed: 0, unreadable: 0, matched: 0, found });
        number
    }
}

/// The number of failures with one cause, and the first of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureCause {
    /// Number of failures.
    pub count: u64,
    /// Message of the first failure.
    pub first: String,
}

/// Adds a failure to the counts; further causes are counted together.
pub fn count(causes: &mut BTreeMap<String, FailureCause>, cause: &str, detail: &str) {
    let name = if causes.contains_key(cause) || causes.len() < CAUSES { cause } else { "(other causes)" };
    match causes.get_mut(name) {
        Some(known) => known.count += 1,
        None => drop(causes.insert(name.into(), FailureCause { count: 1, first: detail.into() })),
    }
}

/// A fixed-size memory of recently seen images, by digest, because conversations about one image are mostly close
/// together. An image that was evicted is hashed again, which costs time but changes no count of found images.
pub struct RecentImages(Vec<[u64; PLACES]>);

/// Number of entries per bucket; the least recently seen image is evicted.
const PLACES: usize = 8;

impl RecentImages {
    /// Creates a memory for up to `images` images, with 8 bytes each.
    pub fn new(images: usize) -> Self {
        Self(vec![[0; PLACES]; images.div_ceil(PLACES)])
    }

    /// Returns whether the image was already seen in this source, and records it.
    pub fn repeats(&mut self, source: usize, image: &ImageLocation) -> bool {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(source as u64).to_le_bytes());
        hasher.update(image.to_string().as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
        // Zero marks an empty entry.
        let digest = u64::from_le_bytes([a, b, c, d, e, f, g, h]).max(1);
        let row = (digest % self.0.len().max(1) as u64) as usize;
        let Some(places) = self.0.get_mut(row) else { return false };
        let known = places.iter().position(|place| *place == digest);
        if let Some(moved) = places.get_mut(..=known.unwrap_or(PLACES - 1)) {
            moved.rotate_right(1);
        }
        places[0] = digest;
        known.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_beyond_the_limit_count_together() {
        let named = NamedDataset { name: "set".into(), path: "x".into() };
        let mut sources = SourceTallies::new(65);
        assert_eq!((sources.number(0, &named, ""), sources.number(0, &named, "set")), (0, 0));
        for i in 0..3000 {
            sources.number(i % 2, &named, &format!("source {i}"));
        }
        assert_eq!(sources.all.len(), SOURCES + 2);
        assert_eq!(sources.all.last().map(|s| s.name.as_str()), Some(OTHERS));
        sources.all[0].record_found(64);
        assert_eq!((sources.all[0].has(64), sources.all[0].has(63), sources.all[1].has(64)), (true, false, false));
    }

    #[test]
    fn causes_beyond_the_limit_count_together() {
        let mut causes = BTreeMap::new();
        for i in 0..100 {
            count(&mut causes, &format!("cause {i}"), "x");
            count(&mut causes, "cause 0", "y");
        }
        assert_eq!((causes.len(), causes["cause 0"].count, causes["(other causes)"].count), (33, 101, 68));
    }

    #[test]
    fn an_image_repeats_within_its_source() {
        let mut recent = RecentImages::new(PLACES);
        let (a, b) = (ImageLocation::parse("a.png"), ImageLocation::parse("b.png"));
        let seen = [(0, &a), (0, &a), (1, &a), (0, &b), (1, &a)].map(|(s, p)| recent.repeats(s, p));
        assert_eq!(seen, [false, true, false, false, true]);
        // The memory holds 1a, 0b, 0a. Five more fill the free entries; a sixth evicts 0a, the least recently seen.
        assert!((2..8).all(|source| !recent.repeats(source, &a)));
        assert_eq!([(1, &a), (0, &b), (0, &a)].map(|(s, p)| recent.repeats(s, p)), [true, true, false]);
        assert!(!RecentImages::new(0).repeats(0, &a));
    }
}
