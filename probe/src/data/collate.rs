//! From encoded conversations to batches: seeded order, right padding.

use crate::llm::chat::Encoded;
use burgess_base::stream::stream;
use rand::Rng;

/// One training example: a conversation as tokens, and the picture it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Index of its picture in the feature source.
    pub image: Option<usize>,
    /// Token ids; the picture's token is among them once if there is a picture.
    pub ids: Vec<u32>,
    /// Which ids are learned.
    pub learned: Vec<bool>,
    /// Index in `ids` of the picture's token.
    pub image_at: Option<usize>,
}

impl Example {
    /// An encoded conversation about picture `image`; a picture without a place in the text, or a place without a
    /// picture, makes no example.
    pub fn new(encoded: Encoded, image: Option<usize>) -> Option<Self> {
        (encoded.image_at.is_some() == image.is_some()).then_some(Self {
            image,
            ids: encoded.ids,
            learned: encoded.learned,
            image_at: encoded.image_at,
        })
    }
}

/// In which order examples are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Shuffled anew every epoch.
    #[default]
    Shuffled,
    /// Shuffled, then sorted by length within windows of 16 batches, and the batches shuffled: less padding.
    GroupedByLength,
}

/// The batches of one epoch: lists of indices below `lengths.len()`, each list `batch` long but the last, which
/// may be shorter. Every index occurs once.
///
/// `name` and `seed` name the random stream, `epoch` is part of the name, so epochs differ.
pub fn epoch(lengths: &[usize], batch: usize, order: Order, name: &str, seed: u64, epoch: usize) -> Vec<Vec<usize>> {
    let batch = batch.max(1);
    let mut random = stream(&format!("{name}/epoch-{epoch}"), seed);
    let mut all: Vec<usize> = (0..lengths.len()).collect();
    shuffle(&mut all, &mut random);
    match order {
        Order::Shuffled => all.chunks(batch).map(<[usize]>::to_vec).collect(),
        Order::GroupedByLength => {
            // Only the short batch, if any, stays last; it would otherwise end up somewhere in the middle.
            let whole = all.len() / batch * batch;
            let rest = all.split_off(whole);
            for window in all.chunks_mut(batch * 16) {
                window.sort_by_key(|&i| (lengths.get(i).copied().unwrap_or(0), i));
            }
            let mut batches: Vec<Vec<usize>> = all.chunks(batch).map(<[usize]>::to_vec).collect();
            shuffle(&mut batches, &mut random);
            if !rest.is_empty() {
                batches.push(rest);
            }
            batches
        }
    }
}

/// Fisher–Yates with an unbiased draw (rejection), the same on every machine.
pub fn shuffle<T>(items: &mut [T], random: &mut impl Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(i as u64 + 1, random) as usize);
    }
}

/// A uniform draw from `0..n`.
fn below(n: u64, random: &mut impl Rng) -> u64 {
    let limit = u64::MAX - u64::MAX % n;
    loop {
        let draw = random.next_u64();
        if draw < limit {
            return draw % n;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_occurs_once_and_the_seed_decides() {
        let lengths: Vec<usize> = (0..103).map(|i| i * 7 % 31).collect();
        for order in [Order::Shuffled, Order::GroupedByLength] {
            let a = epoch(&lengths, 8, order, "tune", 3, 0);
            assert_eq!(a, epoch(&lengths, 8, order, "tune", 3, 0));
            assert_ne!(a, epoch(&lengths, 8, order, "tune", 4, 0));
            assert_ne!(a, epoch(&lengths, 8, order, "tune", 3, 1));
            let mut flat: Vec<usize> = a.concat();
            flat.sort_unstable();
            assert_eq!(flat, (0..103).collect::<Vec<_>>());
            assert_eq!(a.last().map(Vec::len), Some(7));
        }
    }

    #[test]
    fn grouping_lowers_the_padding() {
        let lengths: Vec<usize> = (0..800).map(|i| i * 37 % 101).collect();
        let padded = |order| -> usize {
            epoch(&lengths, 8, order, "tune", 0, 0)
                .iter()
                .map(|b| b.len() * b.iter().map(|&i| lengths[i]).max().unwrap_or(0))
                .sum()
        };
        assert!(padded(Order::GroupedByLength) * 10 < padded(Order::Shuffled) * 7);
    }
}
