//! Splits the stamps into training and test.
//!
//! Whole *families* are held out. Two stamps are of one family if the last word of one's name occurs in the other's, in
//! singular or plural and with any words before it: "a red apple", "two apples" and "an apple core" are one family, and
//! so are "a lion" and "a sea lion". Captions that only mention a held-out word ("Tux the penguin in a farm tractor!")
//! are not used for training either. So no benchmark asks for an object whose image or name was in the training data,
//! with one intended exception: `field-names` shows training objects in new images.

use std::collections::BTreeMap;

use burgess_base::stream::stream;
use burgess_world::dice;

use crate::names::bare_words;
use crate::stamps::Stamp;

/// Families with more stamps than this are always in training, because holding one out could remove a whole kind.
const LARGEST_HELD_OUT: usize = 4;

/// One family in this many of each kind is held out.
const ONE_IN: usize = 4;

/// The split, as indices of stamps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StampSplit {
    /// Training stamps, with a name or with a caption that contains none.
    pub train: Vec<usize>,
    /// Test stamps; all have names.
    pub test: Vec<usize>,
    /// Unused stamps, whose caption mentions a held-out word.
    pub unused: Vec<usize>,
}

/// Splits the stamps, deterministically for a seed.
pub fn split(stamps: &[Stamp], seed: u64) -> StampSplit {
    let named: Vec<(usize, String, Vec<String>)> = stamps
        .iter()
        .enumerate()
        .filter_map(|(i, s)| s.name.as_ref().map(|n| (i, n.head(), bare_words(&n.words))))
        .collect();
    // Families are grouped by kind; a family of several kinds has the kind of its first stamp.
    let mut by_kind: BTreeMap<Option<usize>, Vec<Vec<usize>>> = BTreeMap::new();
    for family in families(&named) {
        let kind = family.first().and_then(|&n| named.get(n)).and_then(|(i, ..)| stamps.get(*i)).and_then(|s| s.kind);
        by_kind.entry(kind).or_default().push(family);
    }
    let mut held: Vec<usize> = Vec::new();
    for (kind, families) in by_kind {
        let mut s = stream(&format!("field/split/{kind:?}"), seed);
        let mut small: Vec<Vec<usize>> = families.into_iter().filter(|f| f.len() <= LARGEST_HELD_OUT).collect();
        dice::shuffle(&mut s, &mut small);
        let n = small.len().div_ceil(ONE_IN);
        held.extend(small.into_iter().take(n).flatten());
    }
    held.sort_unstable();
    let heads: Vec<&String> = held.iter().filter_map(|&n| named.get(n)).map(|(_, head, _)| head).collect();
    let test: Vec<usize> = held.iter().filter_map(|&n| named.get(n)).map(|(i, ..)| *i).collect();
    let mut split = StampSplit { train: Vec::new(), test, unused: Vec::new() };
    for (i, stamp) in stamps.iter().enumerate().filter(|(i, _)| split.test.binary_search(i).is_err()) {
        let mentions = bare_words(&stamp.caption).iter().any(|w| heads.contains(&w));
        if mentions { split.unused.push(i) } else { split.train.push(i) }
    }
    split
}

/// Groups indices into `named` into families, in the order of their first members.
fn families(named: &[(usize, String, Vec<String>)]) -> Vec<Vec<usize>> {
    let mut group: Vec<usize> = (0..named.len()).collect();
    let mut by_head: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (n, (_, head, _)) in named.iter().enumerate() {
        by_head.entry(head).or_default().push(n);
    }
    for (n, (_, _, words)) in named.iter().enumerate() {
        for &other in words.iter().filter_map(|w| by_head.get(w.as_str())).flatten() {
            let (from, to) = (group.get(n).copied(), group.get(other).copied());
            if let (Some(from), Some(to)) = (from, to)
                && from != to
            {
                let (low, high) = (from.min(to), from.max(to));
                group.iter_mut().filter(|g| **g == high).for_each(|g| *g = low);
            }
        }
    }
    let mut families: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (n, g) in group.into_iter().enumerate() {
        families.entry(g).or_default().push(n);
    }
    families.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ObjectName;
    use image::RgbaImage;

    fn stamp(caption: &str) -> Stamp {
        Stamp {
            path: format!("animals/{caption}.png"),
            caption: caption.into(),
            name: ObjectName::of(caption),
            kind: Some(0),
            mirrors: true,
            cut_out: true,
            image: RgbaImage::new(1, 1),
        }
    }

    #[test]
    fn families_are_held_out_whole() {
        let captions = [
            "A lion.",
            "A sea lion.",
            "A red apple.",
            "Two apples.",
            "An apple core.",
            "A hen.",
            "A dog.",
            "A cow.",
            "A goat.",
            "Lions roar!",
            "Dogs and cows and hens and goats and cores!",
        ];
        let stamps: Vec<Stamp> = captions.iter().map(|c| stamp(c)).collect();
        let mut seen = [false; 11];
        for seed in 0..30 {
            let split = split(&stamps, seed);
            assert_eq!(split.train.len() + split.test.len() + split.unused.len(), 11);
            let held = |i: usize| split.test.contains(&i);
            assert_eq!(held(0), held(1));
            assert!(held(2) == held(3) && held(3) == held(4));
            assert_eq!(held(0), split.unused.contains(&9), "a caption that mentions lions");
            assert!(split.unused.contains(&10) || [5, 6, 7, 8, 4].iter().all(|i| !held(*i)));
            assert_eq!(split, super::split(&stamps, seed));
            split.test.iter().for_each(|i| seen[*i] = true);
        }
        assert!(seen[..9].iter().all(|s| *s), "every family is held out by some seed");
    }
}
