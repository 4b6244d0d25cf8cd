//! The exact contents of an image, and the rule that keeps test images out of training.

use burgess_base::digest;
use burgess_base::stream::{Stream, stream};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::chart::ChartScene;
use crate::diagram::DiagramScene;
use crate::dice;
use crate::flat::FlatScene;
use crate::page::{TableScene, WritingScene};
use crate::solids::SolidScene;

/// The purpose for which an image is drawn. No image of [`SceneSplit::Test`] occurs in another split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SceneSplit {
    /// Pretraining of encoders.
    Pretrain,
    /// Training of the connector on captions.
    Align,
    /// Training of connector and language model on conversations.
    Tune,
    /// Evaluation on the benchmarks.
    Test,
}

impl SceneSplit {
    /// Returns "pretrain", "align", "tune" or "test".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pretrain => "pretrain",
            Self::Align => "align",
            Self::Tune => "tune",
            Self::Test => "test",
        }
    }
}

/// The contents of an image, by its kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Content {
    /// Pictograms and plain shapes.
    Flat(FlatScene),
    /// Solids in perspective.
    Solids(SolidScene),
    /// Lines of text.
    Writing(WritingScene),
    /// A table of digits.
    Table(TableScene),
    /// A bar, line or pie chart.
    Chart(ChartScene),
    /// A diagram of things.
    Diagram(DiagramScene),
}

/// The exact ground truth of one image.
///
/// All fields are integers or strings and all are visible, so two images are equal exactly if their scenes are. One in
/// eight scenes, by a digest of these fields, is a test scene. [`Scene::draw`] returns only test scenes for
/// [`SceneSplit::Test`] and only others for the training splits, so no image can be in both, whatever the seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scene {
    /// The contents of the image.
    pub(crate) content: Content,
}

impl Scene {
    /// Draws image `index` of a split, of a random kind; the same `seed` and `index` always give the same image.
    pub fn draw(split: SceneSplit, seed: u64, index: u64) -> Self {
        let mut s = stream(&format!("world/{}/{index}", split.as_str()), seed);
        // Encoders are usually pretrained on images of mostly single objects, so half of these show one thing.
        if split == SceneSplit::Pretrain && dice::chance(&mut s, 50) {
            return Self::draw_until(&mut s, false, |s| Content::Flat(FlatScene::draw_one(s)));
        }
        Self::draw_from(&mut s, split == SceneSplit::Test)
    }

    /// Draws a training scene with many things or lines, so that nearly every cell of the image has a word in its
    /// ground truth ([`Scene::cells`]).
    pub(crate) fn draw_full(s: &mut Stream) -> Self {
        Self::draw_until(s, false, |s| match dice::below(s, 3) {
            0 => Content::Writing(WritingScene::full(s)),
            _ => Content::Flat(FlatScene::crowd(s)),
        })
    }

    /// Draws a scene of a random kind, from the test scenes if `test`, else from the others.
    pub(crate) fn draw_from(s: &mut Stream, test: bool) -> Self {
        Self::draw_until(s, test, Self::draw_content)
    }

    /// Draws the contents of an image of a random kind, whatever its split.
    pub(crate) fn draw_content(s: &mut Stream) -> Content {
        match dice::below(s, 100) {
            0..=33 => Content::Flat(FlatScene::draw(s)),
            34..=50 => Content::Solids(SolidScene::draw(s)),
            51..=62 => Content::Writing(WritingScene::draw(s)),
            63..=72 => Content::Table(TableScene::draw(s)),
            73..=86 => Content::Chart(ChartScene::draw(s)),
            _ => Content::Diagram(DiagramScene::draw(s)),
        }
    }

    /// Repeats `draw` until it returns a test scene if `test` is true, else until it returns a training scene.
    pub(crate) fn draw_until(s: &mut Stream, test: bool, mut draw: impl FnMut(&mut Stream) -> Content) -> Self {
        loop {
            let scene = Self { content: draw(s) };
            if scene.is_test() == test {
                return scene;
            }
        }
    }

    /// Returns whether this scene is a test scene: the first hexadecimal digit of its digest is 0 or 1 (one in eight).
    pub(crate) fn is_test(&self) -> bool {
        // Integers and strings always have a JSON form, so the digest cannot fail.
        let digest = digest::of_value(self).unwrap_or_default();
        digest.bytes().next().is_some_and(|b| b == b'0' || b == b'1')
    }

    /// Renders the image, [`SIZE`](crate::SIZE)×[`SIZE`](crate::SIZE) pixels.
    pub fn render(&self) -> RgbImage {
        match &self.content {
            Content::Flat(c) => c.render(),
            Content::Solids(c) => c.render(),
            Content::Writing(c) => c.render(),
            Content::Table(c) => c.render(),
            Content::Chart(c) => c.render(),
            Content::Diagram(c) => c.render(),
        }
    }

    /// Returns the kind of image: "flat", "solids", "writing", "table", "chart" or "diagram".
    pub fn kind(&self) -> &'static str {
        match self.content {
            Content::Flat(_) => "flat",
            Content::Solids(_) => "solids",
            Content::Writing(_) => "writing",
            Content::Table(_) => "table",
            Content::Chart(_) => "chart",
            Content::Diagram(_) => "diagram",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet, HashMap};

    use proptest::prelude::*;
    use rayon::prelude::*;

    use super::*;

    fn pixels(scene: &Scene) -> String {
        digest::of_bytes(scene.render().as_raw())
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
        let one = |i: u64| {
            let scene = Scene::draw(SceneSplit::Pretrain, 4, i);
            let text = scene.caption(&mut stream("t", i));
            (digest::of_value(&scene).unwrap_or_default(), pixels(&scene), text, scene.turns(3, &mut stream("q", i)))
        };
        let alone: Vec<_> = (0..200).map(one).collect();
        let together: Vec<_> = (0..200u64).into_par_iter().map(one).collect();
        assert_eq!(alone, together);
    }

    #[test]
    fn no_image_is_both_in_test_and_in_training() {
        let draw = |split: SceneSplit, n: u64| -> Vec<(String, String)> {
            let scenes: Vec<Scene> = (0..n).into_par_iter().map(|i| Scene::draw(split, 0, i)).collect();
            assert!(scenes.iter().all(|s| s.is_test() == (split == SceneSplit::Test)));
            scenes.par_iter().map(|s| (pixels(s), digest::of_value(s).unwrap_or_default())).collect()
        };
        let test = draw(SceneSplit::Test, 700);
        let training: Vec<_> = [SceneSplit::Pretrain, SceneSplit::Align, SceneSplit::Tune]
            .into_iter()
            .flat_map(|s| draw(s, 800))
            .collect();
        let seen: BTreeSet<&String> = test.iter().map(|(p, _)| p).collect();
        assert!(training.iter().all(|(p, _)| !seen.contains(p)));
        // Equal pixels imply equal contents, so the split by contents is a split by images.
        let mut contents: HashMap<&String, &String> = HashMap::new();
        for (p, c) in test.iter().chain(&training) {
            assert_eq!(*contents.entry(p).or_insert(c), c);
        }
    }

    #[test]
    fn one_scene_in_eight_is_for_tests_and_all_kinds_occur() {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for i in 0..600 {
            *kinds.entry(Scene::draw(SceneSplit::Test, 8, i).kind()).or_default() += 1;
        }
        assert_eq!(kinds.len(), 6);
        assert!(kinds.values().all(|n| *n > 15), "{kinds:?}");
        let mut s = stream("share", 0);
        let held_out =
            (0..4000).filter(|_| Scene { content: Content::Table(TableScene::draw(&mut s)) }.is_test()).count();
        assert!((400..600).contains(&held_out), "{held_out} of 4000");
    }

    /// Digest of the first scenes and their texts. If this test fails, the world has changed: increment `VERSION` and
    /// write the new digest here.
    #[test]
    fn the_world_is_the_one_of_this_version() {
        let mut all = Vec::new();
        for i in 0..300 {
            let scene = Scene::draw(SceneSplit::Pretrain, 0, i);
            let mut s = stream("golden", i);
            all.push((scene.caption(&mut s), scene.description(&mut s), scene.turns(4, &mut s), scene));
        }
        assert_eq!(
            (crate::VERSION, digest::of_value(&all).unwrap_or_default().as_str()),
            (4, "bf048893bc31da5ec8df5ce1926a14d2")
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn any_seed_gives_a_whole_scene(seed: u64, index: u64) {
            let scene = Scene::draw(SceneSplit::Align, seed, index);
            prop_assert_eq!(scene.render().dimensions(), (crate::SIZE, crate::SIZE));
            let classes = scene.classes();
            prop_assert!(!classes.is_empty() && classes.windows(2).all(|w| w[0] < w[1]));
            prop_assert!(classes.iter().all(|c| *c < crate::class_names().len()));
            let mut s = stream("p", seed);
            let caption = scene.caption(&mut s);
            prop_assert!(caption.ends_with('.') && caption.split(' ').count() < 60, "{}", caption);
            if let Content::Flat(f) = &scene.content {
                prop_assert!(!f.items.is_empty() && (0..f.items.len()).all(|i| f.visible(i) >= 0.6));
            }
            let again: Scene = serde_json::from_str(&serde_json::to_string(&scene).unwrap_or_default()).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(again, scene);
        }
    }
}
