//! Dense captions: maps of an image with one word per cell, row by row.
//!
//! A map has four rows of four words, all of one [`WordKind`] (colours, names of things, letters, …), or a dot where
//! a cell has none. A caption says a dozen words about an image; a map says one about each patch, so that a connector
//! learns from every patch of every image, as from the detailed captions of ShareGPT4V (arXiv:2311.12793). The language
//! model learns the format from text.

use burgess_base::stream::Stream;

use crate::dice;
use crate::questions::QaPair;
use crate::scene::Scene;
use crate::truth::WordKind;

/// Returns every map of an image with the question that asks for it.
pub fn maps(scene: &Scene) -> Vec<QaPair> {
    let truth = scene.truth();
    WordKind::ALL
        .into_iter()
        .filter(|kind| truth.iter().flatten().any(|(k, _)| k == kind))
        .map(|kind| {
            let words: Vec<&str> = truth
                .iter()
                .map(|cell| {
                    let of = |kind: WordKind| cell.iter().find(|(k, _)| *k == kind).map(|(_, word)| word.as_str());
                    let word = match kind {
                        // The map of centres has the name of each thing in the cell of its middle.
                        WordKind::Center => of(WordKind::Center).and(of(WordKind::Thing)),
                        _ => of(kind),
                    };
                    // Only the digit of a depth level, which is a single token.
                    word.map_or(".", |word| word.strip_prefix("depth").unwrap_or(word))
                })
                .collect();
            QaPair { question: question(kind), answer: words.join(" ") }
        })
        .collect()
}

/// Draws up to `n` different maps of an image in random order. Every image has at least one map.
pub fn some(scene: &Scene, n: usize, s: &mut Stream) -> Vec<QaPair> {
    let all = maps(scene);
    dice::sample(s, &all, n)
}

/// As [`some`], but without drawing both the map of things and that of centres, which are nearly the same.
pub fn unlike(scene: &Scene, n: usize, s: &mut Stream) -> Vec<QaPair> {
    let mut all = maps(scene);
    dice::shuffle(s, &mut all);
    let mut named = false;
    all.retain(|map| {
        let names = [WordKind::Thing, WordKind::Center].iter().any(|kind| map.question == question(*kind));
        !(names && std::mem::replace(&mut named, true))
    });
    all.truncate(n);
    all
}

fn question(kind: WordKind) -> String {
    format!("Map of {}.", kind.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::CELLS;
    use crate::scene::{Content, SceneSplit};

    #[test]
    fn every_image_has_maps_of_one_word_a_cell_and_all_of_its_things_are_on_them() {
        for i in 0..400 {
            let scene = Scene::draw(SceneSplit::Tune, 5, i);
            let all = maps(&scene);
            assert!(!all.is_empty(), "{scene:?}");
            assert!(all.iter().all(|t| t.answer.split(' ').count() == CELLS * CELLS), "{all:?}");
            let has = |question: &str, word: &str| {
                all.iter().any(|t| t.question == question && t.answer.split(' ').any(|w| w == word))
            };
            match &scene.content {
                Content::Flat(f) => {
                    for item in &f.items {
                        assert!(has("Map of center.", &item.what().name), "{all:?}: {item:?}");
                    }
                }
                Content::Solids(c) => assert!(c.solids.iter().all(|x| has("Map of thing.", x.form.name())), "{all:?}"),
                Content::Writing(w) => {
                    let letters = w.lines.iter().flat_map(|l| l.text.chars());
                    assert!(letters.into_iter().all(|c| has("Map of letter.", &c.to_string())), "{all:?}");
                }
                Content::Table(t) => assert!(t.rows.iter().all(|r| has("Map of letter.", r)), "{all:?}"),
                Content::Chart(c) => {
                    assert!(c.values.iter().all(|v| has("Map of value.", &v.to_string())), "{all:?} {c:?}");
                    assert!(c.labels.iter().all(|l| has("Map of letter.", l)), "{all:?} {c:?}");
                }
                Content::Diagram(d) => {
                    assert!(d.letters.iter().all(|c| has("Map of letter.", &c.to_string())), "{all:?}");
                    assert!(d.things.iter().all(|t| has("Map of center.", &crate::facts::thing(*t).name)), "{all:?}");
                }
            }
        }
    }
}
