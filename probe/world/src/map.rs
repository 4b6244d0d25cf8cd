//! Pictures as maps of words: text that is laid out like the patches of a picture.
//!
//! Six rows of six cells, row after row. A cell holds a word about the thing that lies there (its colour, its name, the
//! side it looks to, its letter), or a dot. A language model that can read maps knows what it means that things lie in
//! rows of cells, in no order of grammar, before it is shown the first picture; it still has read nothing but text.

use burgess_base::stream::Stream;

use crate::canvas::Texture;
use crate::diagram::Layout;
use crate::facts::thing;
use crate::scene::{Content, Scene};
use crate::{SIZE, dice, palette, raycast};

/// Cells in a row, rows in a map.
const CELLS: usize = 6;
/// Points looked at in a cell, along each side.
const POINTS: usize = 5;
/// Points of a cell that a thing must cover to be named there.
const ENOUGH: usize = 5;

/// The map of a picture; none of charts, tables, writing and arrows, which are no things in places.
pub fn map(scene: &Scene, s: &mut Stream) -> Option<String> {
    match &scene.content {
        Content::Flat(f) => {
            let words = f.items.iter().map(|item| {
                let mut words = vec![palette::name(item.colour).to_string(), thing(item.thing).name.clone()];
                if item.texture != Texture::Plain {
                    words.push(item.texture.name().to_string());
                }
                words.extend(item.faces().map(|side| side.name().to_string()));
                words.extend(item.points().map(str::to_string));
                if item.upside_down() && item.what().upright {
                    words.push("upside down".into());
                }
                words
            });
            Some(write(words.collect(), |x, y| f.at(x, y), s))
        }
        Content::Solids(c) => {
            let words = c.solids.iter().map(|x| vec![palette::name(x.colour).to_string(), x.form.name().to_string()]);
            let seen = raycast::first_met(c);
            Some(write(words.collect(), |x, y| seen(x / SIZE as f32, y / SIZE as f32), s))
        }
        Content::Diagram(d) if d.layout == Layout::Labelled => {
            let words =
                d.things.iter().enumerate().map(|(i, &t)| vec![thing(t).name.clone(), d.letters[i].to_string()]);
            Some(write(words.collect(), |x, y| d.at(x, y), s))
        }
        _ => None,
    }
}

/// The map of things with the given words, `at` telling which thing covers a point of the picture.
fn write(words: Vec<Vec<String>>, at: impl Fn(f32, f32) -> Option<usize>, s: &mut Stream) -> String {
    let side = SIZE as f32 / CELLS as f32;
    let mut covered = vec![vec![0usize; words.len()]; CELLS * CELLS];
    for (cell, counts) in covered.iter_mut().enumerate() {
        for p in 0..POINTS * POINTS {
            let within = |i: usize| (i as f32 + 0.5) / POINTS as f32;
            let x = ((cell % CELLS) as f32 + within(p % POINTS)) * side;
            let y = ((cell / CELLS) as f32 + within(p / POINTS)) * side;
            if let Some(count) = at(x, y).and_then(|i| counts.get_mut(i)) {
                *count += 1;
            }
        }
    }
    let mut owner: Vec<Option<usize>> = covered
        .iter()
        .map(|counts| {
            let (thing, most) = counts.iter().enumerate().max_by_key(|(_, n)| **n)?;
            (*most >= ENOUGH).then_some(thing)
        })
        .collect();
    // Whatever is small still has the cell that it covers most.
    for thing in 0..words.len() {
        if !owner.contains(&Some(thing))
            && let Some(best) = (0..covered.len()).max_by_key(|&c| covered[c][thing])
        {
            owner[best] = Some(thing);
        }
    }
    let mut cells = vec![".".to_string(); CELLS * CELLS];
    for (thing, words) in words.iter().enumerate() {
        let mine: Vec<usize> = (0..owner.len()).filter(|&c| owner[c] == Some(thing)).collect();
        let start = dice::below(s, words.len());
        let word = |k: usize| words[(start + k) % words.len()].as_str();
        for (k, &cell) in mine.iter().enumerate() {
            cells[cell] = if k + 1 == mine.len() && k + 1 < words.len() {
                // The last cell takes all that is left to say.
                (k..words.len()).map(word).collect::<Vec<_>>().join(" ")
            } else {
                word(k).to_string()
            };
        }
    }
    cells.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scene::Split;
    use burgess_base::stream::stream;

    #[test]
    fn every_word_of_every_thing_is_on_the_map() {
        let mut mapped = 0;
        for i in 0..400 {
            let scene = Scene::draw(Split::Tune, 5, i);
            let Some(text) = map(&scene, &mut stream("map", i)) else { continue };
            mapped += 1;
            let has = |word: &str| text.split(' ').any(|w| w == word);
            assert!(text.split(' ').count() >= CELLS * CELLS, "{text}");
            match &scene.content {
                Content::Flat(f) => {
                    for item in &f.items {
                        assert!(has(&item.what().name), "{text}: {item:?}");
                    }
                }
                Content::Solids(c) => assert!(c.solids.iter().all(|x| has(x.form.name())), "{text}"),
                Content::Diagram(d) => assert!(d.things.iter().all(|t| has(&thing(*t).name)), "{text}"),
                _ => unreachable!("only these have maps"),
            }
        }
        assert!(mapped > 200, "{mapped}");
    }
}
