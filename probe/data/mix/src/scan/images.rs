//! The images of entries: whether their files exist, and their difference hashes.

use crate::mix::{Filters, KeepOrDrop};
use crate::pool::PoolImage;
use crate::pool::read_images;
use burgess_base::skipped::{SkippedEntry, SkippedReport};
use burgess_base::{Result, text};
use burgess_bench::ImageLocation;
use burgess_images::{decode_bytes, dhash};
use burgess_leaks::{LeakIndex, LeakOptions, NamedDataset};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

/// Number of images that are looked for or hashed at a time.
const BATCH: usize = 512;
/// Side of the difference hashes; they have 64 bits.
const SIDE: usize = 8;

/// The images of an entry that wait to be looked at.
#[derive(Debug, Clone)]
pub struct WaitingImages {
    /// Number of the entry.
    pub entry: u32,
    /// Its source, for counts of unreadable images.
    pub source: String,
    /// Where it stands, for messages.
    pub place: String,
    /// Its images, or why one of them has no place.
    pub images: std::result::Result<Vec<PoolImage>, String>,
}

/// The hash of an image of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HashedImage {
    /// The difference hash.
    pub hash: u64,
    /// Number of the entry.
    pub entry: u32,
    /// Hash of the image's place, by which entries about one file are recognised.
    pub place: u32,
}

/// Looks for image files and hashes images, in batches and on all threads.
pub struct ImageStage {
    find: bool,
    hash: bool,
    leaks: Option<LeakIndex>,
    waiting: Vec<WaitingImages>,
    count: usize,
    /// Entries of which a file is missing.
    pub missing: Vec<u32>,
    /// Hashes of the images of all other entries, except blank ones.
    pub hashes: Vec<HashedImage>,
    /// Entries with an image of a benchmark.
    pub leaked: Vec<u32>,
    /// Number of leaked images by benchmark.
    pub leaked_by_benchmark: BTreeMap<String, u64>,
    /// Number of blank images, which are not compared.
    pub blank: u64,
    /// Entries with images that could not be read, by reason and source.
    pub unreadable: SkippedReport,
}

impl ImageStage {
    /// Prepares what the filters need; `None` if they do not look at images.
    ///
    /// # Errors
    /// The images of a benchmark cannot be read.
    pub fn new(filters: &Filters) -> Result<Option<Self>> {
        let find = filters.missing_images == KeepOrDrop::Drop;
        let leaks = match &filters.leaks {
            Some(rule) => {
                let named = |(name, path): (&String, &std::path::PathBuf)| NamedDataset {
                    name: name.clone(),
                    path: path.clone(),
                };
                let benchmarks: Vec<NamedDataset> = rule.benchmarks.iter().map(named).collect();
                let options = LeakOptions { side: SIDE, distance: rule.distance, ..LeakOptions::default() };
                Some(LeakIndex::read(&benchmarks, &options)?)
            }
            None => None,
        };
        let hash = leaks.is_some() || filters.duplicate_images.is_some();
        Ok((find || hash).then(|| Self {
            find,
            hash,
            leaks,
            waiting: Vec::new(),
            count: 0,
            missing: Vec::new(),
            hashes: Vec::new(),
            leaked: Vec::new(),
            leaked_by_benchmark: BTreeMap::new(),
            blank: 0,
            unreadable: SkippedReport::default(),
        }))
    }

    /// Adds the images of an entry; looks at all that wait if they are enough.
    pub fn add(&mut self, entry: WaitingImages) {
        self.count += entry.images.as_ref().map_or(1, Vec::len);
        self.waiting.push(entry);
        if self.count >= BATCH {
            self.flush();
        }
    }

    /// Looks at all images that wait.
    pub fn flush(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        self.count = 0;
        if self.find {
            let is_missing = |entry: &WaitingImages| match &entry.images {
                Ok(images) => images.iter().any(is_missing),
                // A path that leads out of the directory is not there.
                Err(_) => true,
            };
            let missing: Vec<bool> = waiting.par_iter().map(is_missing).collect();
            let mut flags = missing.into_iter();
            waiting.retain(|entry| {
                let gone = flags.next().unwrap_or(false);
                if gone {
                    self.missing.push(entry.entry);
                }
                !gone
            });
        }
        if self.hash {
            self.hash_all(&waiting);
        }
    }

    fn hash_all(&mut self, waiting: &[WaitingImages]) {
        for entry in waiting {
            if let Err(why) = &entry.images {
                self.failed(entry, "an image has no place", why);
            }
        }
        let images: Vec<(&WaitingImages, &PoolImage)> =
            waiting.iter().flat_map(|entry| entry.images.iter().flatten().map(move |image| (entry, image))).collect();
        let places: Vec<&PoolImage> = images.iter().map(|(_, image)| *image).collect();
        let bytes = read_images(&places);
        let hashed: Vec<std::result::Result<_, String>> = bytes
            .into_par_iter()
            .map(|bytes| {
                let bytes = bytes.map_err(|e| e.to_string())?;
                decode_bytes(&bytes).and_then(|pixels| dhash(&pixels, SIDE)).map_err(|e| e.to_string())
            })
            .collect();
        for ((entry, image), hash) in images.into_iter().zip(hashed) {
            let hash = match hash {
                Ok(hash) => hash,
                Err(why) => {
                    self.failed(entry, "an image cannot be read", &format!("{image}: {why}"));
                    continue;
                }
            };
            if hash.is_zero() {
                self.blank += 1;
                continue;
            }
            if let Some(benchmark) = self.leaks.as_ref().and_then(|leaks| leaks.benchmark_of(&hash)) {
                *self.leaked_by_benchmark.entry(benchmark.to_string()).or_default() += 1;
                self.leaked.push(entry.entry);
            }
            let bits = hash.groups().zip(0..).fold(0u64, |bits, (group, at)| bits | u64::from(group) << (16 * at));
            let place = crate::duplicates::hash_bytes(image.to_string().as_bytes()) as u32;
            self.hashes.push(HashedImage { hash: bits, entry: entry.entry, place });
        }
    }

    /// Number of images of the benchmarks that could not be read.
    pub fn benchmark_images_unreadable(&self) -> usize {
        self.leaks.as_ref().map_or(0, LeakIndex::unreadable)
    }

    fn failed(&mut self, entry: &WaitingImages, reason: &'static str, why: &str) {
        let detail = text::excerpt(why, 300);
        let skipped = SkippedEntry { reason, detail, source: entry.source.clone() };
        self.unreadable.count(skipped, entry.place.clone());
    }
}

fn is_missing(image: &PoolImage) -> bool {
    match image {
        PoolImage::Located(ImageLocation::File(path)) => !is_file(path),
        PoolImage::Located(ImageLocation::Cell(_)) | PoolImage::Member { .. } => false,
    }
}

fn is_file(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file())
}

/// Returns the entries with an image that equals one of an earlier entry; `scope` gives the group of an entry within
/// which images are compared. With `same_file`, entries that name one file are duplicates too.
pub fn duplicate_images(
    mut hashes: Vec<HashedImage>,
    distance: u32,
    same_file: bool,
    scope: impl Fn(u32) -> u32,
) -> Vec<u32> {
    // In the order of the entries, each hash gets the first one near it as its representative.
    let mut distinct: Vec<u64> = hashes.iter().map(|image| image.hash).collect();
    distinct.sort_unstable();
    distinct.dedup();
    let representative = representatives(&distinct, distance);
    let of = |hash: u64| distinct.binary_search(&hash).ok().and_then(|at| representative.get(at)).copied();
    hashes.sort_unstable_by_key(|image| (of(image.hash), scope(image.entry), image.entry, image.place));
    let mut removed = Vec::new();
    let mut first: Option<(Option<u32>, u32, u32, u32)> = None;
    for image in &hashes {
        let key = (of(image.hash), scope(image.entry));
        match first {
            Some((hash, group, entry, place)) if (hash, group) == key => {
                let about_one_file = place == image.place && !same_file;
                if entry != image.entry && !about_one_file {
                    removed.push(image.entry);
                }
            }
            _ => first = Some((key.0, key.1, image.entry, image.place)),
        }
    }
    removed.sort_unstable();
    removed.dedup();
    removed
}

/// Returns for each of the sorted, distinct hashes a number that near ones share: hashes within `distance` bits are
/// joined. They agree in one of `distance + 1` parts of their bits, so that only hashes with an equal part are
/// compared.
fn representatives(distinct: &[u64], distance: u32) -> Vec<u32> {
    let count = u32::try_from(distinct.len()).unwrap_or(u32::MAX);
    let mut parent: Vec<u32> = (0..count).collect();
    if distance == 0 {
        return parent;
    }
    fn root(parent: &[u32], mut at: u32) -> u32 {
        while let Some(above) = parent.get(at as usize).filter(|above| **above != at) {
            at = *above;
        }
        at
    }
    let parts = distance + 1;
    for part in 0..parts {
        let (begin, end) = (64 * part / parts, 64 * (part + 1) / parts);
        let value = |hash: u64| (hash >> begin) & (u64::MAX >> (64 - (end - begin)));
        let mut order: Vec<(u64, u32)> = distinct.iter().map(|hash| value(*hash)).zip(0..count).collect();
        order.sort_unstable();
        for run in order.chunk_by(|a, b| a.0 == b.0) {
            for (at, (_, a)) in run.iter().enumerate() {
                for (_, b) in run.iter().skip(at + 1) {
                    let near = match (distinct.get(*a as usize), distinct.get(*b as usize)) {
                        (Some(a), Some(b)) => (a ^ b).count_ones() <= distance,
                        _ => false,
                    };
                    if near {
                        let (a, b) = (root(&parent, *a), root(&parent, *b));
                        if let Some(later) = parent.get_mut(a.max(b) as usize) {
                            *later = a.min(b);
                        }
                    }
                }
            }
        }
    }
    (0..count).map(|at| root(&parent, at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_entries_with_an_equal_image_are_removed() {
        let image = |hash, entry, place| HashedImage { hash, entry, place };
        // Entries 0 and 1 are about one file; 2 has a copy of it; 3 a copy with one other bit; 4 another image.
        let all = vec![image(7, 0, 1), image(7, 1, 1), image(7, 2, 2), image(6, 3, 3), image(0xf0, 4, 4)];
        let one = |_: u32| 0;
        assert_eq!(duplicate_images(all.clone(), 0, false, one), [2]);
        assert_eq!(duplicate_images(all.clone(), 0, true, one), [1, 2]);
        assert_eq!(duplicate_images(all.clone(), 1, false, one), [2, 3]);
        assert_eq!(duplicate_images(all.clone(), 7, false, one), [2, 3, 4]);
        assert_eq!(duplicate_images(all, 0, false, |entry| entry), Vec::<u32>::new());
        assert_eq!(duplicate_images(Vec::new(), 3, false, one), Vec::<u32>::new());
    }

    #[test]
    fn near_hashes_are_those_of_a_comparison_of_all_pairs() {
        let mut distinct: Vec<u64> = (0..400u64).map(crate::duplicates::mix).collect();
        distinct.extend((0..400u64).map(|i| crate::duplicates::mix(i) ^ (1 << (i % 64)) ^ (1 << (i * 7 % 64))));
        distinct.sort_unstable();
        distinct.dedup();
        for distance in [1, 2, 3, 7] {
            let found = representatives(&distinct, distance);
            for (i, a) in distinct.iter().enumerate() {
                for (j, b) in distinct.iter().enumerate() {
                    if (a ^ b).count_ones() <= distance {
                        assert_eq!(found[i], found[j]);
                    }
                }
            }
            let groups: std::collections::BTreeSet<u32> = found.into_iter().collect();
            assert!(groups.len() >= 400, "{distance}: {}", groups.len());
        }
    }
}
