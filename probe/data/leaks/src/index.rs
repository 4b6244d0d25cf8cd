//! An index of the hashes of the benchmarks' images that finds all hashes within a Hamming distance.
//!
//! Equal hashes are found by binary search. Near ones are found by multi-index hashing (Norouzi, Punjani, Fleet 2012):
//! the bits are divided into m groups of 16. If two hashes differ in at most N = m·r + a bits, then one of the first
//! a + 1 groups differs in at most r bits, or one of the others in at most r − 1. So only hashes that share such a
//! group with the query are compared. If that would be most of them, all are compared.

use burgess_images::DifferenceHash;

/// Number of values of a group of 16 bits.
const VALUES: usize = 1 << 16;

/// Hashes with the images that have them.
pub struct HashIndex {
    /// The distinct hashes, sorted.
    hashes: Vec<DifferenceHash>,
    /// The end of each hash's images in `images`; they begin at the end of the previous hash.
    ends: Vec<usize>,
    images: Vec<u32>,
    distance: u32,
    plan: LookupPlan,
}

/// The method by which near hashes are found.
enum LookupPlan {
    /// Binary search, for equal hashes only.
    BinarySearch,
    /// Comparison with every hash.
    Exhaustive,
    /// Multi-index hashing over groups of bits.
    MultiIndex(Vec<BitGroup>),
}

/// The hashes, ordered by the value of one group of their bits.
struct BitGroup {
    /// Index of the group.
    at: usize,
    /// All XOR masks within the group's radius.
    masks: Vec<u16>,
    /// For each value, where its hashes begin in `members`, with one more entry for the end.
    begins: Vec<u32>,
    members: Vec<u32>,
}

impl HashIndex {
    /// Builds an index of hashes with image numbers; hashes that differ in at most `distance` bits are near.
    pub fn new(mut hashed: Vec<(DifferenceHash, u32)>, distance: u32) -> Self {
        hashed.sort();
        let (mut hashes, mut ends, mut images): (Vec<DifferenceHash>, Vec<usize>, Vec<u32>) = Default::default();
        for (hash, image) in hashed {
            if hashes.last() != Some(&hash) {
                ends.push(images.len());
                hashes.push(hash);
            }
            images.push(image);
            if let Some(end) = ends.last_mut() {
                *end = images.len();
            }
        }
        let plan = LookupPlan::new(&hashes, distance);
        Self { hashes, ends, images, distance, plan }
    }

    /// Returns the indices of the near hashes and their distances in bits, ordered by index.
    pub fn near(&self, wanted: &DifferenceHash) -> Vec<(usize, u32)> {
        let compared = |i: usize| {
            let distance = self.hashes.get(i)?.distance(wanted);
            (distance <= self.distance).then_some((i, distance))
        };
        match &self.plan {
            LookupPlan::BinarySearch => self.hashes.binary_search(wanted).ok().map(|i| (i, 0)).into_iter().collect(),
            LookupPlan::Exhaustive => (0..self.hashes.len()).filter_map(compared).collect(),
            LookupPlan::MultiIndex(groups) => {
                let values: Vec<u16> = wanted.groups().collect();
                let mut found: Vec<(usize, u32)> = Vec::new();
                for group in groups {
                    let Some(value) = values.get(group.at) else { continue };
                    let members = group.masks.iter().flat_map(|mask| group.members(value ^ mask));
                    found.extend(members.filter_map(|member| compared(*member as usize)));
                }
                found.sort_unstable();
                found.dedup();
                found
            }
        }
    }

    /// Returns the images that have a hash.
    pub fn images(&self, hash: usize) -> &[u32] {
        let begin = hash.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        self.ends.get(hash).and_then(|end| self.images.get(begin..*end)).unwrap_or_default()
    }
}

impl LookupPlan {
    fn new(hashes: &[DifferenceHash], distance: u32) -> Self {
        let Some(count) = hashes.first().map(|hash| hash.groups().count()) else { return Self::Exhaustive };
        if distance == 0 {
            return Self::BinarySearch;
        }
        let (radius, over) = (distance / count as u32, distance as usize % count);
        let searched: Vec<(usize, u32)> = (0..count)
            .filter_map(|at| if at <= over { Some((at, radius)) } else { Some((at, radius.checked_sub(1)?)) })
            .collect();
        let masks = |radius: u32| -> Vec<u16> { (0..=u16::MAX).filter(|mask| mask.count_ones() <= radius).collect() };
        // Looking up a value costs about as much as a comparison, and returns its share of the hashes.
        let values: usize = searched.iter().map(|(_, radius)| masks(*radius).len()).sum();
        if values + values * hashes.len() / VALUES >= hashes.len() {
            return Self::Exhaustive;
        }
        Self::MultiIndex(searched.into_iter().map(|(at, radius)| BitGroup::new(hashes, at, masks(radius))).collect())
    }
}

impl BitGroup {
    fn new(hashes: &[DifferenceHash], at: usize, masks: Vec<u16>) -> Self {
        let values: Vec<u16> = hashes.iter().map(|hash| hash.groups().nth(at).unwrap_or_default()).collect();
        let mut begins = vec![0u32; VALUES + 1];
        for value in &values {
            begins[usize::from(*value) + 1] += 1;
        }
        let mut sum = 0;
        for begin in &mut begins {
            sum += *begin;
            *begin = sum;
        }
        let mut members: Vec<u32> = (0..values.len() as u32).collect();
        members.sort_by_key(|member| values.get(*member as usize));
        Self { at, masks, begins, members }
    }

    fn members(&self, value: u16) -> &[u32] {
        let value = usize::from(value);
        let range = self.begins[value] as usize..self.begins[value + 1] as usize;
        self.members.get(range).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burgess_base::stream::stream;
    use burgess_images::{HASH_SIDES, dhash};
    use image::RgbImage;
    use proptest::prelude::*;
    use rand::Rng;

    /// Random hashes in clusters, so that some are near each other.
    fn hashes(count: u32, side: usize, seed: u64) -> Vec<DifferenceHash> {
        let mut stream = stream("hashes", seed);
        let mut centre = RgbImage::new(side as u32 + 1, side as u32);
        let mut draw = |i: u32| {
            if i.is_multiple_of(8) {
                stream.fill_bytes(&mut centre);
            }
            let mut image = centre.clone();
            for _ in 0..stream.next_u32() % 4 {
                let pixel = stream.next_u32() as usize % image.len();
                image.as_mut()[pixel] ^= 0xff;
            }
            dhash(&image, side).unwrap()
        };
        (0..count).map(&mut draw).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Every plan must find what comparing all pairs finds.
        #[test]
        fn nothing_near_is_missed(count in 1u32..400, side in HASH_SIDES, distance in 0u32..80, seed in any::<u64>()) {
            let all = hashes(count, side, seed);
            let index = HashIndex::new(all.iter().cloned().zip(0..).collect(), distance);
            for wanted in all.iter().step_by(7) {
                let mut found: Vec<(u32, u32)> = Vec::new();
                for (hash, distance) in index.near(wanted) {
                    found.extend(index.images(hash).iter().map(|image| (*image, distance)));
                }
                found.sort_unstable();
                let compared = all.iter().zip(0..).map(|(hash, i)| (i, hash.distance(wanted)));
                let expected: Vec<(u32, u32)> = compared.filter(|(_, d)| *d <= distance).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }

    #[test]
    fn groups_are_used_where_they_save() {
        let all: Vec<(DifferenceHash, u32)> = hashes(20_000, 8, 1).into_iter().zip(0..).collect();
        for (distance, by_groups) in [(1, true), (4, true), (8, true), (30, false)] {
            let index = HashIndex::new(all.clone(), distance);
            assert_eq!(matches!(index.plan, LookupPlan::MultiIndex(_)), by_groups, "{distance}");
            let scan = HashIndex { plan: LookupPlan::Exhaustive, ..HashIndex::new(all.clone(), distance) };
            for (hash, _) in all.iter().step_by(501) {
                assert_eq!(index.near(hash), scan.near(hash));
            }
        }
        assert!(HashIndex::new(Vec::new(), 3).near(&all[0].0).is_empty());
    }
}
