//! Selection of some of the conversations of a file: a limit per source, or a fraction.

use burgess_base::Result;
use burgess_probe::data::conversation;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;

/// A limit on the number of conversations with an image per source. Those with the lowest pseudo-random ranks are used;
/// conversations without an image are always used.
#[derive(Debug)]
pub struct PerSourceLimit {
    /// Largest rank that is used, for each source.
    largest_rank: BTreeMap<String, u64>,
}

impl PerSourceLimit {
    /// Reads the whole file once and ranks every conversation by its position and a fixed seed. Needs eight bytes of
    /// memory for each conversation that is used.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of(file: &Path, per_source: usize) -> Result<Self> {
        let mut lowest: BTreeMap<String, BinaryHeap<u64>> = BTreeMap::new();
        let mut position = 0;
        conversation::read(file, |c| {
            if c.image.is_some() {
                let heap = lowest.entry(c.source).or_default();
                heap.push(rank(position));
                if heap.len() > per_source {
                    heap.pop();
                }
            }
            position += 1;
            Ok(())
        })?;
        Ok(Self { largest_rank: lowest.into_iter().filter_map(|(s, h)| Some((s, *h.peek()?))).collect() })
    }

    /// Returns whether the conversation at this position of the file is used.
    pub fn keeps(&self, position: u64, source: &str, has_image: bool) -> bool {
        !has_image || self.largest_rank.get(source).is_some_and(|largest| rank(position) <= *largest)
    }
}

/// Whether the conversation at this position of a file belongs to a fraction of it, 0 to 1. Smaller fractions are
/// subsets of larger ones; the draw differs from that of [`PerSourceLimit`].
pub fn is_in_fraction(position: u64, share: f64) -> bool {
    (rank(position.wrapping_add(1 << 40)) as f64) < share * 2f64.powi(64)
}

/// Pseudo-random rank of a position in a file, the same on every machine (SplitMix64).
fn rank(position: u64) -> u64 {
    let mut z = position.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    #[test]
    fn images_per_source_are_limited_and_conversations_without_images_are_kept() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("c.jsonl");
        let mut text = String::new();
        let entry = |source: &str, image: &str| {
            format!(
                r#"{{"source": "{source}", {image}"conversations": [{{"from": "human", "value": "?"}}, {{"from": "gpt", "value": "a"}}]}}"#
            )
        };
        for i in 0..300 {
            let (source, image) = match i % 3 {
                0 => ("many", "\"image\": \"a.png\", "),
                1 if i < 20 => ("few", "\"image\": \"b.png\", "),
                _ => ("text", ""),
            };
            let _ = writeln!(text, "{}", entry(source, image));
        }
        std::fs::write(&file, text)?;
        let thinned = PerSourceLimit::of(&file, 25)?;
        let mut kept: BTreeMap<String, usize> = BTreeMap::new();
        let mut position = 0;
        conversation::read(&file, |c| {
            *kept.entry(c.source.clone()).or_default() +=
                usize::from(thinned.keeps(position, &c.source, c.image.is_some()));
            position += 1;
            Ok(())
        })?;
        assert_eq!((kept["many"], kept["few"], kept["text"]), (25, 7, 193));
        Ok(())
    }

    #[test]
    fn smaller_fractions_are_subsets_of_larger_ones_and_have_about_the_requested_size() {
        let of = |share: f64| -> Vec<u64> { (0..8000).filter(|position| is_in_fraction(*position, share)).collect() };
        let (small, large) = (of(0.125), of(0.5));
        assert!((900..1100).contains(&small.len()) && (3850..4150).contains(&large.len()));
        assert!(small.iter().all(|position| large.contains(position)) && of(1.0).len() == 8000 && of(0.0).is_empty());
    }
}
