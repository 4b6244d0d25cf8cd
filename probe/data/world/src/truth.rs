//! The ground truth of each cell of an image. The oracle baseline reads it, dense captions state it, and probes are
//! tested against it.
//!
//! An image is divided into [`CELLS`]×[`CELLS`] cells, the patches of the nano encoders. A cell has words, each of one
//! [`WordKind`]: the colour and the name of the thing that covers most of it, the letter whose middle lies in it, and
//! so on. The cell of a thing's middle is marked, so that things can be counted.

use crate::canvas::Texture;
use crate::chart::{ChartKind, ChartScene, FLOOR};
use crate::diagram::DiagramScene;
use crate::flat::FlatScene;
use crate::grid::{CELL_SIDE, CELLS, SIZE, cell_at, cell_middle};
use crate::page::{TableScene, WritingScene};
use crate::palette;
use crate::scene::{Content, Scene};
use crate::solids::SolidScene;

/// Number of sample points along each side of a cell.
const POINTS: usize = 5;
/// Minimum number of sample points, of 25, that a thing must cover to be named in a cell.
const ENOUGH: usize = 5;

/// The property that a word of a cell states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WordKind {
    /// Colour of the thing that covers the cell, such as "red".
    Color,
    /// Name of the thing that covers the cell: "cup", "sphere", "bar", "point", "slice", "arrow", …
    Thing,
    /// Mark of the cell that contains a thing's middle: "center".
    Center,
    /// Appearance of the thing: "striped", "left", "upside"; for an arrow its direction.
    Look,
    /// Letter or digit whose middle lies in the cell.
    Letter,
    /// Value of the chart mark whose middle lies in the cell, such as "5".
    Value,
    /// Distance of the thing, from "depth1" (near) to "depth8".
    Depth,
}

impl WordKind {
    /// All kinds, in the order of the words in a cell.
    pub const ALL: [Self; 7] =
        [Self::Color, Self::Thing, Self::Center, Self::Look, Self::Letter, Self::Value, Self::Depth];

    /// Returns the name of the kind in the question for its map.
    pub fn name(self) -> &'static str {
        match self {
            Self::Color => "color",
            Self::Thing => "thing",
            Self::Center => "center",
            Self::Look => "look",
            Self::Letter => "letter",
            Self::Value => "value",
            Self::Depth => "depth",
        }
    }
}

/// The words of one cell, in the order of their kinds.
pub type CellWords = Vec<(WordKind, String)>;

impl Scene {
    /// Returns the words of each cell, row by row; empty for cells that show only background.
    pub(crate) fn truth(&self) -> Vec<CellWords> {
        let mut cells = match &self.content {
            Content::Flat(f) => flat(f),
            Content::Solids(c) => solids(c),
            Content::Writing(w) => writing(w),
            Content::Table(t) => table(t),
            Content::Chart(c) => chart(c),
            Content::Diagram(d) => diagram(d),
        };
        for cell in &mut cells {
            cell.sort_by_key(|(kind, _)| *kind);
        }
        cells
    }

    /// Returns the words of each cell, row by row, `CELLS * CELLS` lists; empty for cells that show only background.
    pub fn cells(&self) -> Vec<Vec<String>> {
        words(&self.truth())
    }
}

/// Returns the words of cells without their kinds.
pub(crate) fn words(cells: &[CellWords]) -> Vec<Vec<String>> {
    cells.iter().map(|cell| cell.iter().map(|(_, word)| word.clone()).collect()).collect()
}

/// Returns for each cell which of `count` things covers most of it, if that covers at least a fifth; a thing that would
/// have no cell gets the one that it covers most. `at` returns the thing at a point of the image.
fn owners(count: usize, at: impl Fn(f32, f32) -> Option<usize>) -> Vec<Option<usize>> {
    let side = f32::from(CELL_SIDE);
    let mut covered = vec![vec![0usize; count]; CELLS * CELLS];
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
    for thing in 0..count {
        if owner.contains(&Some(thing)) {
            continue;
        }
        // A thing does not take the only cell of another one.
        let free = |cell: &usize| {
            let of = owner[*cell];
            of.is_none() || owner.iter().filter(|o| **o == of).count() > 1
        };
        if let Some(best) = (0..covered.len()).filter(free).max_by_key(|&c| covered[c][thing]) {
            owner[best] = Some(thing);
        }
    }
    owner
}

/// Returns the words of the owner of each cell.
fn worded(owner: &[Option<usize>], words: &[CellWords]) -> Vec<CellWords> {
    owner.iter().map(|o| o.map(|o| words[o].clone()).unwrap_or_default()).collect()
}

/// Returns the words of the owner of each cell, with "center" in the cell of each thing's middle. If another thing owns
/// that cell, the mark is in the nearest cell that the thing owns.
fn cover(words: &[CellWords], middles: &[(f32, f32)], at: impl Fn(f32, f32) -> Option<usize>) -> Vec<CellWords> {
    let owner = owners(words.len(), at);
    let mut cells = worded(&owner, words);
    for (thing, &(x, y)) in middles.iter().enumerate() {
        let far = |cell: usize| {
            let (cx, cy) = cell_middle(cell);
            (cx - x).powi(2) + (cy - y).powi(2)
        };
        let own = (0..owner.len()).filter(|&c| owner[c] == Some(thing));
        if let Some(best) = own.min_by(|&a, &b| far(a).total_cmp(&far(b))) {
            cells[best].push((WordKind::Center, "center".into()));
        }
    }
    cells
}

fn color(number: u8) -> (WordKind, String) {
    (WordKind::Color, palette::name(number).into())
}

fn flat(f: &FlatScene) -> Vec<CellWords> {
    let words: Vec<CellWords> = f
        .items
        .iter()
        .map(|item| {
            let mut words = vec![color(item.colour), (WordKind::Thing, item.what().name.clone())];
            let mut look = |word: &str| words.push((WordKind::Look, word.to_string()));
            if item.texture != Texture::Plain {
                look(item.texture.name());
            }
            if let Some(side) = item.faces() {
                look(side.name());
            }
            if let Some(way) = item.points() {
                look(way);
            }
            if item.upside_down() && item.what().upright {
                look("upside");
            }
            words
        })
        .collect();
    let middles: Vec<_> = f.items.iter().map(|i| (f32::from(i.x), f32::from(i.y))).collect();
    cover(&words, &middles, |x, y| f.at(x, y))
}

fn solids(c: &SolidScene) -> Vec<CellWords> {
    let words: Vec<CellWords> = c
        .solids
        .iter()
        .enumerate()
        .map(|(i, x)| {
            let depth = format!("depth{}", c.depth_level(i));
            vec![color(x.colour), (WordKind::Thing, x.form.name().into()), (WordKind::Depth, depth)]
        })
        .collect();
    let rays = c.ray_scene();
    let at = |x: f32, y: f32| rays.body_at(x / SIZE as f32, y / SIZE as f32);
    // Middles of the visible parts, because the middle of a body may be occluded.
    let mut sums = vec![(0.0, 0.0, 0.0_f32); c.solids.len()];
    for p in 0..48 * 48 {
        let (x, y) = ((p % 48) as f32 * 2.0 + 1.0, (p / 48) as f32 * 2.0 + 1.0);
        if let Some(sum) = at(x, y).and_then(|i| sums.get_mut(i)) {
            *sum = (sum.0 + x, sum.1 + y, sum.2 + 1.0);
        }
    }
    let middles: Vec<_> = sums.into_iter().map(|(x, y, n)| (x / n.max(1.0), y / n.max(1.0))).collect();
    cover(&words, &middles, at)
}

fn empty() -> Vec<CellWords> {
    vec![Vec::new(); CELLS * CELLS]
}

fn writing(w: &WritingScene) -> Vec<CellWords> {
    let mut cells = empty();
    for line in &w.lines {
        for (letter, x, y) in line.letters() {
            let ink = w.sign.unwrap_or(line.colour);
            cells[cell_at(x, y)] = vec![color(ink), (WordKind::Letter, letter.to_string())];
        }
    }
    cells
}

fn table(t: &TableScene) -> Vec<CellWords> {
    let mut cells = empty();
    for (glyph, x, y) in t.glyphs() {
        cells[cell_at(x, y)].push((WordKind::Letter, glyph));
    }
    cells
}

fn chart(c: &ChartScene) -> Vec<CellWords> {
    let mark = |i: usize, word: &str| {
        let colour = c.colours.get(i).or(c.colours.first()).copied().unwrap_or_default();
        vec![color(colour), (WordKind::Thing, word.to_string())]
    };
    let marks = c.marks();
    let (n, word) = (marks.len(), c.kind.mark());
    let words: Vec<CellWords> = (0..n).map(|i| mark(i, word)).collect();
    let owner = match c.kind {
        ChartKind::Pie => owners(n, |x, y| c.slice_at(x, y)),
        ChartKind::Bar => {
            let half = c.bar_width() / 2.0;
            owners(n, |x, y| (0..n).find(|&i| (x - marks[i].0).abs() < half && (marks[i].1..FLOOR).contains(&y)))
        }
        // A point of a line chart covers only the cell of its middle.
        ChartKind::Line => vec![None; CELLS * CELLS],
    };
    let mut cells = worded(&owner, &words);
    for (i, &(x, y)) in marks.iter().enumerate() {
        let cell = &mut cells[cell_at(x, y)];
        // The top of a low bar may lie in a cell that no mark covers enough.
        *cell = words[i].clone();
        cell.push((WordKind::Value, c.values[i].to_string()));
        if c.kind == ChartKind::Pie {
            cell.push((WordKind::Letter, c.labels[i].clone()));
        }
    }
    for (label, (x, y)) in c.labels.iter().zip(c.labels_at()) {
        cells[cell_at(x, y)] = vec![(WordKind::Letter, label.clone())];
    }
    cells
}

fn diagram(d: &DiagramScene) -> Vec<CellWords> {
    let words: Vec<CellWords> = d
        .things
        .iter()
        .zip(&d.colours)
        .map(|(&t, &c)| vec![color(c), (WordKind::Thing, crate::facts::thing(t).name.clone())])
        .collect();
    let middles: Vec<_> = (0..d.things.len()).map(|i| d.spot(i)).map(|(x, y, _)| (x, y)).collect();
    let mut cells = cover(&words, &middles, |x, y| d.at(x, y));
    for (letter, x, y) in d.letters_at() {
        cells[cell_at(x, y)] = vec![(WordKind::Letter, letter.to_string())];
    }
    for (x, y, way) in d.arrows() {
        cells[cell_at(x, y)] = vec![(WordKind::Thing, "arrow".into()), (WordKind::Look, way.into())];
    }
    cells
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::scene::SceneSplit;

    #[test]
    fn every_thing_has_its_words_and_one_middle() {
        for i in 0..600 {
            let scene = Scene::draw(SceneSplit::Tune, 6, i);
            let cells = scene.truth();
            assert_eq!(cells.len(), CELLS * CELLS);
            let middles = cells.iter().flatten().filter(|(kind, _)| *kind == WordKind::Center).count();
            let letters = || cells.iter().flatten().filter(|(kind, _)| *kind == WordKind::Letter).count();
            match &scene.content {
                Content::Flat(f) => {
                    assert_eq!(middles, f.items.len(), "{scene:?}");
                    let mut named: BTreeMap<&str, usize> = BTreeMap::new();
                    for cell in cells.iter().filter(|c| c.iter().any(|(k, _)| *k == WordKind::Center)) {
                        let thing = cell.iter().find(|(k, _)| *k == WordKind::Thing).map(|(_, w)| w.as_str());
                        *named.entry(thing.unwrap_or("nothing")).or_default() += 1;
                    }
                    for item in &f.items {
                        assert_eq!(named.get(item.what().name.as_str()), Some(&f.count(item.thing)), "{scene:?}");
                    }
                }
                Content::Solids(c) => {
                    assert_eq!(middles, c.solids.len(), "{scene:?}");
                    for (a, b) in [(0, 1), (1, 0)] {
                        assert!(!c.clearly_closer(a, b) || c.depth_level(a) < c.depth_level(b), "{scene:?}");
                    }
                }
                // No two letters are in the same cell.
                Content::Writing(w) => assert_eq!(letters(), w.lines.iter().map(|l| l.text.len()).sum::<usize>()),
                Content::Table(t) => assert_eq!(letters(), t.glyphs().len(), "{scene:?}"),
                Content::Chart(c) => {
                    assert_eq!(letters(), c.labels.len(), "{scene:?}");
                    let values = cells.iter().flatten().filter(|(kind, _)| *kind == WordKind::Value).count();
                    assert_eq!(values, c.values.len(), "{scene:?}");
                }
                Content::Diagram(d) => {
                    assert_eq!((middles, letters()), (d.things.len(), d.letters.len()), "{scene:?}");
                }
            }
        }
    }

    #[test]
    fn lines_are_read_in_the_order_of_their_cells() {
        for i in 0..400 {
            let scene = Scene::draw(SceneSplit::Align, 7, i);
            let Content::Writing(w) = &scene.content else { continue };
            let letters = scene.truth().into_iter().flatten().filter(|(kind, _)| *kind == WordKind::Letter);
            let read: String = letters.map(|(_, word)| word).collect();
            assert_eq!(read, w.lines.iter().map(|l| l.text.as_str()).collect::<String>(), "{scene:?}");
        }
    }
}
