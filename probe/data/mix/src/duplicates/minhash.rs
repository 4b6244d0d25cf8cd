//! MinHash signatures of texts, and the bands by which similar ones are found.
//!
//! A text is the set of its shingles: runs of successive words, in lower case and without punctuation. Two signatures
//! of `PERMUTATIONS` numbers agree in each with the probability of the Jaccard similarity of the two sets (Broder
//! 1997), so that the share of equal numbers estimates it, with a standard error of at most 0.044. Signatures that
//! agree in all numbers of a band are candidates (locality-sensitive hashing).

use burgess_base::stream::stream;
use rand::Rng;

/// Number of permutations, the length of a signature.
pub const PERMUTATIONS: usize = 128;
/// Probability with which a pair at the wanted similarity must become a candidate.
const RECALL: f64 = 0.99;

/// A MinHash signature.
pub type Signature = [u32; PERMUTATIONS];

/// The permutations, which are the same in every run.
pub struct MinHash {
    factors: [u64; PERMUTATIONS],
    summands: [u64; PERMUTATIONS],
    shingle: usize,
}

impl MinHash {
    /// Prepares signatures of texts in shingles of this many words.
    pub fn new(shingle: usize) -> Self {
        let mut draws = stream("minhash permutations", 0);
        let mut numbers = || std::array::from_fn(|_| draws.next_u64() | 1);
        Self { factors: numbers(), summands: numbers(), shingle: shingle.max(1) }
    }

    /// Returns the signature of the words of a text.
    pub fn signature(&self, words: &[u64]) -> Signature {
        let mut least = [u32::MAX; PERMUTATIONS];
        for shingle in shingles(words, self.shingle) {
            for ((least, factor), summand) in least.iter_mut().zip(&self.factors).zip(&self.summands) {
                // Multiply-shift: the upper half of an affine map of 64 bits.
                let value = (factor.wrapping_mul(shingle).wrapping_add(*summand) >> 32) as u32;
                *least = (*least).min(value);
            }
        }
        least
    }
}

/// Returns the hashes of the shingles of a text; a text that is shorter than a shingle is one.
pub fn shingles(words: &[u64], length: usize) -> impl Iterator<Item = u64> {
    let length = length.min(words.len()).max(1);
    words.windows(length).map(|run| run.iter().fold(0x9e37_79b9_7f4a_7c15, |sum, word| mix(sum ^ word)))
}

/// Returns the hashes of the words of a text: runs of letters and digits in lower case.
pub fn words(text: &str, out: &mut Vec<u64>) {
    let (mut hash, mut within) = (SEED, false);
    for c in text.chars() {
        if c.is_alphanumeric() {
            for lower in c.to_lowercase() {
                hash = (hash ^ u64::from(lower)).wrapping_mul(0x0100_0000_01b3);
            }
            within = true;
        } else if within {
            out.push(mix(hash));
            (hash, within) = (SEED, false);
        }
    }
    if within {
        out.push(mix(hash));
    }
}

/// Returns a 64-bit hash of bytes (FNV-1a, spread by [`mix`]).
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(SEED, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
}

/// The start of FNV-1a's hash.
const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// The finaliser of SplitMix64, which spreads each bit over all.
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Returns the share of equal numbers, which estimates the Jaccard similarity.
pub fn similarity(a: &Signature, b: &Signature) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / PERMUTATIONS as f64
}

/// The bands of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bands {
    /// Number of bands.
    pub count: usize,
    /// Numbers in each band.
    pub rows: usize,
}

impl Bands {
    /// Chooses the widest bands in which pairs of this similarity become candidates with a probability of 99 %.
    pub fn new(similarity: f64) -> Self {
        let recall = |rows: usize| {
            let bands = PERMUTATIONS / rows;
            1.0 - (1.0 - similarity.powi(rows as i32)).powi(bands as i32)
        };
        let rows = (1..=32).rev().find(|rows| recall(*rows) >= RECALL).unwrap_or(1);
        Self { count: PERMUTATIONS / rows, rows }
    }

    /// Returns the hash of each band.
    pub fn keys<'a>(&self, signature: &'a Signature) -> impl Iterator<Item = u64> + 'a {
        let (rows, count) = (self.rows, self.count);
        signature.chunks(rows).take(count).map(|band| band.iter().fold(SEED, |sum, n| mix(sum ^ u64::from(*n))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn hashed(text: &str) -> Vec<u64> {
        let mut out = Vec::new();
        words(text, &mut out);
        out
    }

    fn exact(a: &[u64], b: &[u64], length: usize) -> f64 {
        let (a, b): (BTreeSet<u64>, BTreeSet<u64>) = (shingles(a, length).collect(), shingles(b, length).collect());
        a.intersection(&b).count() as f64 / a.union(&b).count().max(1) as f64
    }

    /// Texts of 60 words of which the last `changed` differ from the first text.
    fn variant(changed: u64) -> Vec<u64> {
        (0..60).map(|i| mix(if i < 60 - changed { i } else { 1000 * changed + i })).collect()
    }

    #[test]
    fn signatures_estimate_the_exact_similarity() {
        for length in [1, 3, 5] {
            let minhash = MinHash::new(length);
            let first = variant(0);
            for changed in 0..60 {
                let other = variant(changed);
                let (jaccard, estimate) =
                    (exact(&first, &other, length), similarity(&minhash.signature(&first), &minhash.signature(&other)));
                // Four standard errors.
                let error = 4.0 * (jaccard * (1.0 - jaccard) / PERMUTATIONS as f64).sqrt();
                assert!((jaccard - estimate).abs() <= error + 1e-9, "{length} {changed}: {jaccard} {estimate}");
            }
        }
    }

    #[test]
    fn candidates_are_the_similar_ones() {
        assert_eq!(Bands::new(0.8), Bands { count: 21, rows: 6 });
        assert_eq!(Bands::new(1.0), Bands { count: 4, rows: 32 });
        assert_eq!(Bands::new(0.01), Bands { count: 128, rows: 1 });
        let minhash = MinHash::new(3);
        let bands = Bands::new(0.8);
        let shared = |a: &[u64], b: &[u64]| {
            let (a, b) = (minhash.signature(a), minhash.signature(b));
            bands.keys(&a).zip(bands.keys(&b)).any(|(a, b)| a == b)
        };
        let (mut near, mut far) = (0, 0);
        for at in 0..200u64 {
            let text: Vec<u64> = (0..60).map(|i| mix(1_000_000 * at + i)).collect();
            let with = |changed: u64| -> Vec<u64> {
                (0..60).map(|i| mix(1_000_000 * at + i + if i < changed { 500 } else { 0 })).collect()
            };
            // 53 of 63 shingles are equal, and 18 of 98.
            near += usize::from(shared(&text, &with(5)));
            far += usize::from(shared(&text, &with(40)));
        }
        assert!(near >= 195 && far <= 5, "{near} {far}");
    }

    #[test]
    fn words_are_compared_without_case_and_punctuation() {
        assert_eq!(hashed("What is this? <image>"), hashed("what IS\nthis image"));
        assert_eq!(hashed("GRÖẞE, 图 7"), hashed("größe 图 7"));
        assert_ne!(hashed("a bc"), hashed("ab c"));
        assert_eq!(hashed(" .,\n"), Vec::<u64>::new());
        let minhash = MinHash::new(3);
        assert_eq!(minhash.signature(&[]), [u32::MAX; PERMUTATIONS]);
        assert_eq!(shingles(&hashed("one two"), 3).count(), 1);
    }
}
