//! Training and test data for direct probes of an encoder: scenes with one exact target each, or one for some of their
//! cells.
//!
//! | set | scenes | image-level tasks | patch-level tasks |
//! |---|---|---|---|
//! | single | one thing | thing, colour | |
//! | counting | one to four of one thing | count | |
//! | pair | a red thing and one of another colour | position: quadrant of the red one | |
//! | solids | a red and a blue solid in perspective | depth: which one is closer | depth: level of the solid |
//! | word | one word of [`WORD_CLASSES`] | word | |
//! | writing | words and numbers | | glyph |
//! | things | two or three things | | segmentation: thing or background; colour; position: the cell itself |
//!
//! Test scenes are drawn from the held-out eighth of all scenes, training scenes from the others, so no image is in
//! both. A patch-level target belongs to a cell of [`Scene::cells`]; cells with several words of its kind are left out.
//! A training image gives one cell per class in it, at most [`MOST_CELLS`]; a test image gives a single cell, so that
//! test targets are independent.

use std::collections::BTreeSet;

use burgess_base::stream::{Stream, stream};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::facts::THINGS;
use crate::flat::{self, FlatScene, ItemSpec};
use crate::grid::{CELLS, SIZE};
use crate::page::WritingScene;
use crate::scene::{Content, Scene};
use crate::solids::SolidScene;
use crate::text::WORDS;
use crate::truth::{CellWords, WordKind};
use crate::{dice, palette};

/// Number of classes of the word probe.
pub const WORD_CLASSES: usize = 32;
/// Maximum number of cells of one training image in a patch-level task.
pub const MOST_CELLS: usize = 6;
/// Class of cells without any word.
const BACKGROUND: &str = "background";
/// Number of the colour of one solid, and of the thing whose position is the target.
const RED: u8 = 0;
/// Number of the colour of the other solid.
const BLUE: u8 = 4;
/// Minimum distance of a middle from the border between two quadrants, in pixels.
const MARGIN: u8 = 6;

/// The feature vector that a target is predicted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeLevel {
    /// One vector per image; its name in records is `picture`.
    #[serde(rename = "picture")]
    Image,
    /// One vector per cell.
    Patch,
}

/// A target of one scene or one of its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeTarget {
    /// Index of the scene in its set's `train` or `test`.
    pub scene: usize,
    /// Index of the cell, row by row, for patch-level tasks.
    pub cell: Option<usize>,
    /// Index of the right class.
    pub class: usize,
}

/// A classification task: one attribute, predicted at one level.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeTask {
    /// Name of the attribute: "thing", "colour", "count", "position", "depth", "word", "glyph" or "segmentation".
    pub attribute: &'static str,
    /// The feature vector that it is predicted from.
    pub level: ProbeLevel,
    /// Names of the classes, all of which occur in training.
    pub classes: Vec<String>,
    /// Targets of the training scenes.
    pub train: Vec<ProbeTarget>,
    /// Targets of the test scenes; those of a class that does not occur in training are left out.
    pub test: Vec<ProbeTarget>,
}

/// Scenes of one kind, with the tasks that use them.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeSet {
    /// Name of the set, as in the module's table.
    pub name: &'static str,
    /// Scenes whose targets a probe is trained on.
    pub train: Vec<Scene>,
    /// Scenes whose targets a probe is tested on.
    pub test: Vec<Scene>,
    /// The tasks on these scenes.
    pub tasks: Vec<ProbeTask>,
}

/// A scene with the target of each image-level task of its set, in the order of the tasks.
type Drawn = (Scene, Vec<String>);

/// The definition of a set.
struct Recipe {
    name: &'static str,
    /// Number of training and of test scenes.
    scenes: [usize; 2],
    /// Draws scene `index`, from the test scenes if `test`.
    draw: fn(&mut Stream, index: usize, test: bool) -> Drawn,
    /// Attributes of the image-level targets that `draw` returns.
    image: &'static [&'static str],
    /// Attributes of the patch-level tasks, with the function that finds a cell's target.
    patch: &'static [(&'static str, CellWord)],
}

/// Returns the target of a cell, given its index and words; `None` if it has none or several.
type CellWord = fn(usize, &[(WordKind, String)]) -> Option<String>;

const RECIPES: [Recipe; 7] = [
    Recipe { name: "single", scenes: [2400, 800], draw: single, image: &["thing", "colour"], patch: &[] },
    Recipe { name: "counting", scenes: [1000, 500], draw: counting, image: &["count"], patch: &[] },
    Recipe { name: "pair", scenes: [1000, 500], draw: pair, image: &["position"], patch: &[] },
    Recipe { name: "solids", scenes: [1000, 500], draw: solids, image: &["depth"], patch: &[("depth", level)] },
    Recipe { name: "word", scenes: [1600, 500], draw: word, image: &["word"], patch: &[] },
    Recipe { name: "writing", scenes: [1000, 500], draw: writing, image: &[], patch: &[("glyph", glyph)] },
    Recipe {
        name: "things",
        scenes: [1600, 600],
        draw: things,
        image: &[],
        patch: &[("segmentation", segment), ("colour", colour), ("position", place)],
    },
];

/// Returns the probe sets for `seed`; `limit` bounds the number of training scenes and of test scenes of each set.
///
/// The same arguments give the same sets, on any number of threads.
pub fn probe_sets(seed: u64, limit: Option<usize>) -> Vec<ProbeSet> {
    RECIPES.iter().map(|recipe| recipe.set(seed, limit.unwrap_or(usize::MAX))).collect()
}

impl Recipe {
    fn set(&self, seed: u64, limit: usize) -> ProbeSet {
        let [train, test] = [false, true].map(|test| self.draw_all(seed, limit, test));
        let asked = self.image.iter().enumerate().map(|(i, attribute)| {
            let targets = |drawn: &[Drawn]| -> Vec<Target> {
                drawn.iter().enumerate().map(|(n, (_, words))| (n, None, words[i].clone())).collect()
            };
            task(attribute, ProbeLevel::Image, targets(&train), targets(&test))
        });
        let [train_cells, test_cells] = [&train, &test].map(|drawn| self.cells(drawn));
        let covered = self.patch.iter().map(|&(attribute, word)| {
            let targets = |cells: &[Cells], most: usize| -> Vec<Target> {
                let one = |(n, cells): (usize, &Cells)| {
                    let mut s = stream(&format!("probing/{}/{attribute}/{most}/{n}", self.name), seed);
                    chosen(cells, word, most, &mut s).into_iter().map(move |(cell, word)| (n, Some(cell), word))
                };
                cells.iter().enumerate().flat_map(one).collect()
            };
            task(attribute, ProbeLevel::Patch, targets(&train_cells, MOST_CELLS), targets(&test_cells, 1))
        });
        let tasks = asked.chain(covered).collect();
        let scenes = |drawn: Vec<Drawn>| drawn.into_iter().map(|(scene, _)| scene).collect();
        ProbeSet { name: self.name, tasks, train: scenes(train), test: scenes(test) }
    }

    /// Returns the words of the cells of each scene; empty if the set has no patch-level task.
    fn cells(&self, drawn: &[Drawn]) -> Vec<Cells> {
        if self.patch.is_empty() { Vec::new() } else { drawn.par_iter().map(|(scene, _)| scene.truth()).collect() }
    }

    fn draw_all(&self, seed: u64, limit: usize, test: bool) -> Vec<Drawn> {
        let part = if test { "test" } else { "train" };
        let one = |i| (self.draw)(&mut stream(&format!("probing/{}/{part}/{i}", self.name), seed), i, test);
        (0..self.scenes[usize::from(test)].min(limit)).into_par_iter().map(one).collect()
    }
}

/// The words of each cell of a scene.
type Cells = Vec<CellWords>;

/// Scene, cell and class name of a target.
type Target = (usize, Option<usize>, String);

/// Creates a task whose classes are those of the training targets.
fn task(attribute: &'static str, level: ProbeLevel, train: Vec<Target>, test: Vec<Target>) -> ProbeTask {
    let classes: BTreeSet<&String> = train.iter().map(|(_, _, word)| word).collect();
    let classes: Vec<String> = classes.into_iter().cloned().collect();
    let known = |targets: &[Target]| -> Vec<ProbeTarget> {
        let class = |word: &String| classes.binary_search(word).ok();
        let one = |(scene, cell, word): &Target| Some(ProbeTarget { scene: *scene, cell: *cell, class: class(word)? });
        targets.iter().filter_map(one).collect()
    };
    ProbeTask { attribute, level, train: known(&train), test: known(&test), classes }
}

/// Draws one cell for each target that `word` finds in the cells of a scene, for at most `most` targets.
fn chosen(cells: &[CellWords], word: CellWord, most: usize, s: &mut Stream) -> Vec<(usize, String)> {
    let words: Vec<Option<String>> = cells.iter().enumerate().map(|(i, cell)| word(i, cell)).collect();
    let different: BTreeSet<&String> = words.iter().flatten().collect();
    let mut all = Vec::new();
    for asked in different {
        let having: Vec<usize> = (0..words.len()).filter(|&i| words[i].as_ref() == Some(asked)).collect();
        all.push((*dice::pick(s, &having), asked.clone()));
    }
    dice::sample(s, &all, most)
}

/// Returns the word of a kind in a cell, if there is exactly one.
fn only(cell: &[(WordKind, String)], kind: WordKind) -> Option<String> {
    let mut found = cell.iter().filter(|(k, _)| *k == kind);
    found.next().filter(|_| found.next().is_none()).map(|(_, word)| word.clone())
}

fn segment(_: usize, cell: &[(WordKind, String)]) -> Option<String> {
    if cell.is_empty() { Some(BACKGROUND.into()) } else { only(cell, WordKind::Thing) }
}

fn colour(_: usize, cell: &[(WordKind, String)]) -> Option<String> {
    only(cell, WordKind::Color)
}

fn level(_: usize, cell: &[(WordKind, String)]) -> Option<String> {
    only(cell, WordKind::Depth)
}

fn glyph(_: usize, cell: &[(WordKind, String)]) -> Option<String> {
    only(cell, WordKind::Letter)
}

fn place(index: usize, _: &[(WordKind, String)]) -> Option<String> {
    Some(format!("row {}, column {}", index / CELLS + 1, index % CELLS + 1))
}

/// Draws a flat scene for which `words` returns targets, with these targets.
fn flat_scene(
    s: &mut Stream,
    test: bool,
    mut draw: impl FnMut(&mut Stream) -> FlatScene,
    words: impl Fn(&FlatScene) -> Option<Vec<String>>,
) -> Drawn {
    let mut found = Vec::new();
    let scene = Scene::draw_until(s, test, |s| {
        loop {
            let flat = draw(s);
            if let Some(words) = words(&flat) {
                found = words;
                return Content::Flat(flat);
            }
        }
    });
    (scene, found)
}

/// Draws a scene of one thing in a random colour; all things take turns.
fn single(s: &mut Stream, index: usize, test: bool) -> Drawn {
    let thing = (index % THINGS.len()) as u16;
    let draw = |s: &mut Stream| {
        let spec = ItemSpec::of(s, thing);
        FlatScene::of(s, &[spec])
    };
    flat_scene(s, test, draw, |flat| {
        let item = flat.items.first()?;
        Some(vec![item.what().name.clone(), palette::name(item.colour).to_string()])
    })
}

/// Draws a scene of one to four items of one thing, and nothing else.
fn counting(s: &mut Stream, index: usize, test: bool) -> Drawn {
    let n = 1 + index % 4;
    let draw = |s: &mut Stream| {
        let mut specs = flat::counting(s, n);
        specs.truncate(n);
        FlatScene::of(s, &specs)
    };
    flat_scene(s, test, draw, |flat| Some(vec![flat.items.len().to_string()]))
}

/// Draws a scene of a red thing and a thing of another colour; the target is the quadrant of the red one's middle.
fn pair(s: &mut Stream, _: usize, test: bool) -> Drawn {
    let draw = |s: &mut Stream| {
        let mut specs: Vec<ItemSpec> = flat::different_things(s, 2).into_iter().map(|t| ItemSpec::of(s, t)).collect();
        let others: Vec<u8> = (0..palette::COLOURS.len() as u8).filter(|c| *c != RED).collect();
        specs[0].colour = RED;
        specs[1].colour = *dice::pick(s, &others);
        FlatScene::of(s, &specs)
    };
    flat_scene(s, test, draw, |flat| {
        let red = flat.items.iter().find(|i| i.colour == RED)?;
        let middle = SIZE as u8 / 2;
        if red.x.abs_diff(middle) < MARGIN || red.y.abs_diff(middle) < MARGIN {
            return None;
        }
        let (row, column) =
            (if red.y < middle { "upper" } else { "lower" }, if red.x < middle { "left" } else { "right" });
        Some(vec![format!("{row} {column}")])
    })
}

/// Draws a scene of a red and a blue solid, one clearly closer; the target is the colour of the closer one.
fn solids(s: &mut Stream, _: usize, test: bool) -> Drawn {
    let mut closer = palette::name(RED);
    let scene = Scene::draw_until(s, test, |s| {
        loop {
            let mut scene = SolidScene::of(s, 2);
            scene.solids.iter_mut().zip([RED, BLUE]).for_each(|(solid, colour)| solid.colour = colour);
            if scene.clearly_closer(0, 1) || scene.clearly_closer(1, 0) {
                closer = palette::name(if scene.clearly_closer(0, 1) { RED } else { BLUE });
                return Content::Solids(scene);
            }
        }
    });
    (scene, vec![closer.to_string()])
}

/// Draws a scene of one of [`WORD_CLASSES`] words, which take turns.
fn word(s: &mut Stream, index: usize, test: bool) -> Drawn {
    let word = WORDS[index % WORD_CLASSES * WORDS.len() / WORD_CLASSES];
    let scene = Scene::draw_until(s, test, |s| Content::Writing(WritingScene::of(s, vec![word.to_uppercase()])));
    (scene, vec![word.to_string()])
}

/// Draws a scene of writing, without an image-level target.
fn writing(s: &mut Stream, _: usize, test: bool) -> Drawn {
    (Scene::draw_until(s, test, |s| Content::Writing(WritingScene::draw(s))), Vec::new())
}

/// Draws a scene of two or three different things, without an image-level target.
fn things(s: &mut Stream, _: usize, test: bool) -> Drawn {
    let draw = |s: &mut Stream| {
        let k = dice::within(s, 2, 3) as usize;
        let specs: Vec<ItemSpec> = flat::different_things(s, k).into_iter().map(|t| ItemSpec::of(s, t)).collect();
        FlatScene::of(s, &specs)
    };
    flat_scene(s, test, draw, |_| Some(Vec::new()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burgess_base::digest;

    use super::*;
    use crate::class_names;

    fn task<'a>(sets: &'a [ProbeSet], level: ProbeLevel, attribute: &str) -> (&'a ProbeSet, &'a ProbeTask) {
        let mut all = sets.iter().flat_map(|set| set.tasks.iter().map(move |task| (set, task)));
        all.find(|(_, t)| t.level == level && t.attribute == attribute).unwrap_or_else(|| panic!("{attribute}"))
    }

    #[test]
    fn training_scenes_are_no_test_scenes_and_seeds_decide() {
        let sets = probe_sets(0, Some(40));
        assert_eq!(sets, probe_sets(0, Some(40)));
        assert_ne!(sets, probe_sets(1, Some(40)));
        for set in &sets {
            assert_eq!((set.train.len(), set.test.len()), (40, 40), "{}", set.name);
            assert!(set.train.iter().all(|s| !s.is_test()) && set.test.iter().all(Scene::is_test), "{}", set.name);
            for task in &set.tasks {
                let cells = |targets: &[ProbeTarget]| {
                    targets.iter().all(|t| {
                        let inside = t.cell.is_none_or(|c| c < CELLS * CELLS);
                        inside && t.cell.is_some() == (task.level == ProbeLevel::Patch) && t.class < task.classes.len()
                    })
                };
                assert!(cells(&task.train) && cells(&task.test), "{}", task.attribute);
                assert!(!task.test.is_empty() && task.classes.is_sorted(), "{}", task.attribute);
                // One target per test image.
                assert!(task.test.windows(2).all(|w| w[0].scene < w[1].scene), "{}", task.attribute);
            }
        }
        let all: Vec<_> = sets.iter().flat_map(|s| s.tasks.iter().map(|t| (t.level, t.attribute))).collect();
        assert_eq!(all.len(), 11);
    }

    #[test]
    fn targets_are_what_the_scenes_show() {
        let sets = probe_sets(3, Some(200));
        let name = |t: &ProbeTask, target: &ProbeTarget| t.classes[target.class].clone();
        let (set, things) = task(&sets, ProbeLevel::Image, "thing");
        for target in &things.test {
            let classes = set.test[target.scene].classes();
            assert_eq!(class_names()[classes[0]], name(things, target));
        }
        let (set, counts) = task(&sets, ProbeLevel::Image, "count");
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for target in &counts.train {
            let Content::Flat(flat) = &set.train[target.scene].content else { panic!("flat") };
            assert_eq!(flat.count(flat.items[0].thing).to_string(), name(counts, target));
            *seen.entry(name(counts, target)).or_default() += 1;
        }
        assert!(seen.len() == 4 && seen.values().all(|n| *n == 50), "{seen:?}");
        let (set, closer) = task(&sets, ProbeLevel::Image, "depth");
        assert_eq!(closer.classes, ["blue", "red"]);
        for target in &closer.train {
            let Content::Solids(solids) = &set.train[target.scene].content else { panic!("solids") };
            assert_eq!(solids.depth(0) < solids.depth(1), name(closer, target) == "red");
        }
        let (_, position) = task(&sets, ProbeLevel::Image, "position");
        assert_eq!(position.classes, ["lower left", "lower right", "upper left", "upper right"]);
        let (_, words) = task(&sets, ProbeLevel::Image, "word");
        assert_eq!(words.classes.len(), WORD_CLASSES);
        let (set, colours) = task(&sets, ProbeLevel::Patch, "colour");
        for target in &colours.train {
            let cell = &set.train[target.scene].cells()[target.cell.unwrap_or(usize::MAX)];
            assert!(cell.contains(&name(colours, target)), "{cell:?}");
        }
        let (_, segments) = task(&sets, ProbeLevel::Patch, "segmentation");
        assert!(segments.classes.contains(&BACKGROUND.to_string()) && segments.classes.len() > 40);
        let (_, places) = task(&sets, ProbeLevel::Patch, "position");
        assert!(places.classes.len() == CELLS * CELLS && places.train.len() == 200 * MOST_CELLS);
        let (_, glyphs) = task(&sets, ProbeLevel::Patch, "glyph");
        assert!(glyphs.classes.len() >= 20 && glyphs.classes.iter().all(|c| c.len() == 1), "{:?}", glyphs.classes);
    }

    #[test]
    fn no_class_dominates_where_classes_are_drawn_evenly() {
        let sets = probe_sets(0, Some(300));
        for (attribute, most) in [("colour", 0.25), ("count", 0.3), ("position", 0.4), ("depth", 0.65), ("word", 0.05)]
        {
            let (_, task) = task(&sets, ProbeLevel::Image, attribute);
            let mut counts = vec![0_usize; task.classes.len()];
            task.test.iter().for_each(|t| counts[t.class] += 1);
            let share = counts.iter().max().copied().unwrap_or(0) as f64 / task.test.len() as f64;
            assert!(share <= most, "{attribute}: {share}");
        }
        let pixels: BTreeSet<String> =
            sets.iter().flat_map(|s| &s.train).map(|s| digest::of_bytes(s.render().as_raw())).collect();
        assert!(pixels.len() > 2000, "{}", pixels.len());
    }
}
