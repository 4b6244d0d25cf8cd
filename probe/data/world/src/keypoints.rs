//! Pairs of images with exactly corresponding points: the same things at other places, sizes and turns.

use burgess_base::stream::stream;
use rayon::prelude::*;

use crate::dice;
use crate::flat::{self, FlatScene, ItemSpec};
use crate::grid::SIZE;
use crate::scene::{Content, Scene};

/// Smallest and largest number of things that both images of a pair show.
const THINGS: [i32; 2] = [2, 4];

/// Two images that show the same things, each at another place.
#[derive(Clone, Debug, PartialEq)]
pub struct KeypointPair {
    /// The image in which the points are given.
    pub source: Scene,
    /// The image in which they are to be found.
    pub target: Scene,
    /// Middle of each thing in the source, `[x, y]` in pixels.
    pub source_points: Vec<[f64; 2]>,
    /// Middles of the same things in the target.
    pub target_points: Vec<[f64; 2]>,
    /// Longer side of the box around all things in the target, in pixels.
    pub extent: f64,
}

/// Returns `count` pairs of test scenes for `seed`: different things with a colour and a texture each, which both
/// images share, on backgrounds of their own.
///
/// The same arguments give the same pairs, on any number of threads.
pub fn keypoint_pairs(seed: u64, count: usize) -> Vec<KeypointPair> {
    (0..count).into_par_iter().map(|index| pair(seed, index)).collect()
}

fn pair(seed: u64, index: usize) -> KeypointPair {
    let mut s = stream(&format!("keypoints/{index}"), seed);
    let count = dice::within(&mut s, THINGS[0], THINGS[1]) as usize;
    let things = flat::different_things(&mut s, count);
    let specs: Vec<ItemSpec> = things.into_iter().map(|thing| ItemSpec::of(&mut s, thing)).collect();
    // Crowded scenes may leave out a thing that found no place.
    let mut draw = || loop {
        let mut places = Vec::new();
        let mut extent = 0.0;
        let scene = Scene::draw_until(&mut s, true, |s| {
            let flat = FlatScene::of(s, &specs);
            places = specs.iter().filter_map(|spec| place(&flat, spec.thing)).collect();
            extent = flat.extent();
            Content::Flat(flat)
        });
        if places.len() == specs.len() {
            return (scene, places, extent);
        }
    };
    let (source, source_points, _) = draw();
    let (target, target_points, extent) = draw();
    KeypointPair { source, target, source_points, target_points, extent }
}

/// Middle of a thing in a scene that shows it once.
fn place(flat: &FlatScene, thing: u16) -> Option<[f64; 2]> {
    let item = flat.items.iter().find(|item| item.thing == thing)?;
    Some([f64::from(item.x), f64::from(item.y)])
}

impl FlatScene {
    /// Longer side of the box around all things, in pixels.
    fn extent(&self) -> f64 {
        let side = |middle: fn(&flat::FlatItem) -> u8| {
            let low = self.items.iter().map(|i| f64::from(middle(i)) - f64::from(i.reach())).fold(f64::MAX, f64::min);
            let high = self.items.iter().map(|i| f64::from(middle(i)) + f64::from(i.reach())).fold(0.0, f64::max);
            (high.min(f64::from(SIZE)) - low.max(0.0)).max(0.0)
        };
        side(|i| i.x).max(side(|i| i.y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_images_of_a_pair_show_the_same_things() {
        let pairs = keypoint_pairs(0, 60);
        assert_eq!(pairs, keypoint_pairs(0, 60));
        assert_ne!(pairs, keypoint_pairs(1, 60));
        for pair in &pairs {
            let (Content::Flat(a), Content::Flat(b)) = (&pair.source.content, &pair.target.content) else {
                panic!("{pair:?}");
            };
            assert!(pair.source.is_test() && pair.target.is_test() && pair.source != pair.target);
            assert_eq!((a.items.len(), b.items.len()), (pair.source_points.len(), pair.target_points.len()));
            for (from, to) in pair.source_points.iter().zip(&pair.target_points) {
                let at = |flat: &FlatScene, [x, y]: &[f64; 2]| {
                    let found = flat.items.iter().find(|i| f64::from(i.x) == *x && f64::from(i.y) == *y);
                    found.map(|i| (i.thing, i.colour, i.texture))
                };
                assert!(at(a, from).is_some() && at(a, from) == at(b, to), "{pair:?}");
            }
            assert!(pair.extent > 20.0 && pair.extent <= f64::from(SIZE), "{}", pair.extent);
        }
        assert!(pairs.iter().any(|p| p.source_points != p.target_points));
    }
}
