//! A random sample of entries in one pass: those with the smallest random numbers.
//!
//! An entry's number depends on the seed and its position only, so the sample is the same for any number of threads.

use crate::pool::{Entry, Pool, PoolImage, Position, Speaker};
use serde::Serialize;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An item with its random number; the order is that of the numbers, then of the positions.
#[derive(Debug)]
struct Candidate<T> {
    number: u64,
    at: Position,
    item: T,
}

impl<T> PartialEq for Candidate<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.number, self.at) == (other.number, other.at)
    }
}

impl<T> Eq for Candidate<T> {}

impl<T> PartialOrd for Candidate<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Candidate<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.number, self.at).cmp(&(other.number, other.at))
    }
}

/// The items with the smallest random numbers.
#[derive(Debug)]
pub(super) struct Candidates<T> {
    most: usize,
    key: u64,
    heap: BinaryHeap<Candidate<T>>,
    /// The largest number that can still be in the sample, so that few items are built in vain.
    limit: Arc<AtomicU64>,
}

impl<T> Default for Candidates<T> {
    fn default() -> Self {
        Self::new(0, 0)
    }
}

impl<T> Candidates<T> {
    /// Builds a sample of at most `most` items.
    pub fn new(most: usize, key: u64) -> Self {
        Self { most, key, heap: BinaryHeap::new(), limit: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    /// Returns an empty sample that is later added to this one.
    pub fn part(&self) -> Self {
        Self { most: self.most, key: self.key, heap: BinaryHeap::new(), limit: self.limit.clone() }
    }

    /// Adds an item if its number is among the smallest.
    pub fn offer(&mut self, at: Position, item: impl FnOnce() -> T) {
        let number = mixed(self.key ^ mixed(u64::from(at.file) << 48 ^ at.offset));
        if number <= self.limit.load(Ordering::Relaxed) {
            self.insert(number, at, item);
        }
    }

    fn insert(&mut self, number: u64, at: Position, item: impl FnOnce() -> T) {
        let full = self.heap.len() >= self.most;
        if self.most == 0
            || (full && self.heap.peek().is_some_and(|largest| (largest.number, largest.at) < (number, at)))
        {
            return;
        }
        self.heap.push(Candidate { number, at, item: item() });
        if self.heap.len() > self.most {
            self.heap.pop();
        }
    }

    /// Adds the items of a part.
    pub fn merge(&mut self, part: Self) {
        for Candidate { number, at, item } in part.heap {
            self.insert(number, at, || item);
        }
        if let Some(largest) = self.heap.peek().filter(|_| self.heap.len() >= self.most) {
            self.limit.store(largest.number, Ordering::Relaxed);
        }
    }

    /// Returns the items in the order of their positions.
    pub fn finish(self) -> Vec<T> {
        let mut all = self.heap.into_vec();
        all.sort_by_key(|candidate| candidate.at);
        all.into_iter().map(|candidate| candidate.item).collect()
    }
}

/// Mixes the bits of a number (the finaliser of SplitMix64).
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Maximum length in bytes of a turn of a sample.
const LONGEST_TURN: usize = 8 << 10;
/// Maximum number of turns and images of a sample.
const MOST_TURNS: usize = 40;
const MOST_IMAGES: usize = 8;

/// An entry of the sample.
#[derive(Debug, Clone, Serialize)]
pub struct SampledEntry {
    /// Where the entry is: file and line.
    pub place: String,
    /// Id; may be empty.
    pub id: String,
    /// The data source; may be empty.
    pub source: String,
    /// Kind of data, if it is known.
    pub kind: Option<String>,
    /// Paths or names of the images as the entry states them; at most 8.
    pub images: Vec<String>,
    /// Where the images are; empty if there is no directory of images.
    #[serde(skip)]
    pub located: Vec<PoolImage>,
    /// Speakers and texts; long ones are cut.
    pub turns: Vec<(Speaker, String)>,
    /// Number of turns and of images that are left out.
    pub left_out: (usize, usize),
}

impl SampledEntry {
    pub(super) fn new(entry: &Entry<'_>, pool: &Pool) -> Self {
        // Without a directory of images, the paths are still shown.
        let mut located = pool.images(entry).unwrap_or_default();
        located.truncate(MOST_IMAGES);
        let turns = entry.turns.iter().take(MOST_TURNS).map(|turn| {
            let end = turn.text.floor_char_boundary(LONGEST_TURN);
            let cut = if end < turn.text.len() { " …" } else { "" };
            (turn.from, format!("{}{cut}", turn.text.get(..end).unwrap_or_default()))
        });
        Self {
            place: pool.place(entry),
            id: entry.id.to_string(),
            source: entry.source.to_string(),
            kind: entry.kind.map(str::to_string),
            images: entry.images.iter().take(MOST_IMAGES).map(ToString::to_string).collect(),
            located,
            turns: turns.collect(),
            left_out: (entry.turns.len().saturating_sub(MOST_TURNS), entry.images.len().saturating_sub(MOST_IMAGES)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_does_not_depend_on_the_parts() {
        let at = |offset| Position { file: (offset % 3) as u32, offset };
        let sample = |parts: u64| {
            let mut all: Candidates<u64> = Candidates::new(7, 5);
            for part in 0..parts {
                let mut own = all.part();
                (0..1000).filter(|n| n % parts == part).for_each(|n| own.offer(at(n), || n));
                all.merge(own);
            }
            all.finish()
        };
        assert_eq!(sample(1), sample(10));
        assert_eq!(sample(1).len(), 7);
        let mean = (0..200)
            .map(|key| {
                let mut all: Candidates<u64> = Candidates::new(5, key);
                (0..1000).for_each(|n| all.offer(at(n), || n));
                all.finish().iter().sum::<u64>()
            })
            .sum::<u64>() as f64
            / 1000.0;
        assert!((mean - 499.5).abs() < 30.0, "{mean}");
        let mut none: Candidates<u64> = Candidates::new(0, 0);
        none.offer(at(1), || 1);
        assert!(none.finish().is_empty());
    }
}
