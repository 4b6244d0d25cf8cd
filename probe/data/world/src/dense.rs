//! Dense ground truth of an image: the instance of each pixel, and its inverse depth.
//!
//! Masks are measured by rendering, so that they need no second description of the layout: the image is rendered with
//! one part alone, or twice with one part in two colours, and the pixels that change by more than half belong to that
//! part.

use image::RgbImage;

use crate::canvas::{Background, Canvas, Texture};
use crate::chart::ChartScene;
use crate::diagram::DiagramScene;
use crate::flat::FlatScene;
use crate::grid::SIZE;
use crate::page::{TableScene, WritingScene};
use crate::scene::{Content, Scene};

const SIDE: usize = SIZE as usize;
const PIXELS: usize = SIDE * SIDE;
/// Numbers of two palette colours, yellow and black, that differ by 185 or more in the red and the green channel.
const LIGHT: u8 = 2;
const DARK: u8 = 7;
const NIGHT: Background = Background::Plain([0; 3]);

/// Whether each pixel belongs to an instance, 96×96, row by row.
type Mask = Vec<bool>;

impl Scene {
    /// Returns the instance of each pixel, 96×96, row by row: 0 for the background, `i + 1` for the `i`-th visible
    /// instance.
    ///
    /// Instances are things and the bar in front of them; solids; the letters of writing and the sign behind them;
    /// bars, lines and slices of charts; things of diagrams and their letters; and in tables the bounding box of each
    /// cell's text.
    pub fn instances(&self) -> Vec<u8> {
        let labels = match &self.content {
            Content::Solids(solids) => {
                let rays = solids.ray_scene();
                (0..PIXELS).map(|p| rays.body_at(centre(p % SIDE), centre(p / SIDE)).map_or(0, |i| i + 1)).collect()
            }
            _ => overlay(&self.masks()),
        };
        let mut seen: Vec<usize> = labels.iter().copied().filter(|l| *l > 0).collect();
        seen.sort_unstable();
        seen.dedup();
        labels.iter().map(|label| seen.binary_search(label).map_or(0, |i| i as u8 + 1)).collect()
    }

    /// Returns the inverse depth of each pixel, 96×96, row by row: larger is nearer, 0 is infinitely far.
    ///
    /// In images of solids it is the reciprocal of the distance from the camera in metres, with the ground at its true
    /// distance and the sky at 0. In other images it is a layer number: 0 for the background, and for an instance one
    /// more than the highest layer of the instances that it was painted over, so that only visible overlaps count as
    /// nearer.
    pub fn inverse_depth(&self) -> Vec<f32> {
        if let Content::Solids(solids) = &self.content {
            let rays = solids.ray_scene();
            let inverse = |centimetres: f32| 100.0 / centimetres;
            return (0..PIXELS)
                .map(|p| rays.distance_at(centre(p % SIDE), centre(p / SIDE)).map_or(0.0, inverse))
                .collect();
        }
        let masks = self.masks();
        let mut layers: Vec<f32> = Vec::with_capacity(masks.len());
        for (i, mask) in masks.iter().enumerate() {
            let under = masks.iter().zip(&layers).take(i).filter(|(other, _)| overlaps(mask, other));
            layers.push(under.map(|(_, layer)| *layer).fold(0.0, f32::max) + 1.0);
        }
        overlay(&masks)
            .iter()
            .map(|label| label.checked_sub(1).and_then(|i| layers.get(i)).copied().unwrap_or(0.0))
            .collect()
    }

    /// Returns the masks of the instances of a flat image in painting order, each as if nothing were in front of it.
    fn masks(&self) -> Vec<Mask> {
        match &self.content {
            Content::Flat(flat) => of_flat(flat),
            Content::Writing(writing) => of_writing(writing),
            Content::Table(table) => of_table(table),
            Content::Chart(chart) => of_chart(chart),
            Content::Diagram(diagram) => of_diagram(diagram),
            Content::Solids(_) => Vec::new(),
        }
    }
}

/// Returns the middle of a row or column, as a fraction of the image's side.
fn centre(i: usize) -> f32 {
    (i as f32 + 0.5) / SIDE as f32
}

/// Returns for each pixel the number of the last mask that covers it, counted from 1, or 0.
fn overlay(masks: &[Mask]) -> Vec<usize> {
    let mut labels = vec![0; PIXELS];
    for (i, mask) in masks.iter().enumerate() {
        for (label, _) in labels.iter_mut().zip(mask).filter(|(_, on)| **on) {
            *label = i + 1;
        }
    }
    labels
}

fn overlaps(a: &Mask, b: &Mask) -> bool {
    a.iter().zip(b).any(|(a, b)| *a && *b)
}

/// Returns the pixels whose difference between two images is more than half of the largest difference.
fn changed(a: &RgbImage, b: &RgbImage) -> Mask {
    let by: Vec<u8> =
        a.pixels().zip(b.pixels()).map(|(a, b)| (0..3).map(|c| a.0[c].abs_diff(b.0[c])).max().unwrap_or(0)).collect();
    let most = by.iter().copied().max().unwrap_or(0);
    by.into_iter().map(|d| most > 0 && u16::from(d) * 2 > u16::from(most)).collect()
}

/// Returns the pixels of the bounding box of a mask.
fn boxed(mask: &Mask) -> Mask {
    let on = |p: &usize| mask.get(*p).copied().unwrap_or(false);
    let rows = (0..PIXELS).filter(on).map(|p| p / SIDE);
    let columns = (0..PIXELS).filter(on).map(|p| p % SIDE);
    let (Some(top), Some(bottom)) = (rows.clone().min(), rows.max()) else { return vec![false; PIXELS] };
    let (Some(left), Some(right)) = (columns.clone().min(), columns.max()) else { return vec![false; PIXELS] };
    (0..PIXELS).map(|p| (top..=bottom).contains(&(p / SIDE)) && (left..=right).contains(&(p % SIDE))).collect()
}

/// Returns the largest 4-connected component of a mask.
fn largest_part(mask: &Mask) -> Mask {
    let mut left = mask.clone();
    let mut best: Vec<usize> = Vec::new();
    for start in 0..PIXELS {
        let (mut part, mut next) = (Vec::new(), vec![start]);
        while let Some(p) = next.pop() {
            if !std::mem::take(&mut left[p]) {
                continue;
            }
            part.push(p);
            let (x, y) = (p % SIDE, p / SIDE);
            next.extend((x > 0).then(|| p - 1));
            next.extend((x + 1 < SIDE).then_some(p + 1));
            next.extend((y > 0).then(|| p - SIDE));
            next.extend((y + 1 < SIDE).then_some(p + SIDE));
        }
        if part.len() > best.len() {
            best = part;
        }
    }
    let mut mask = vec![false; PIXELS];
    for p in best {
        mask[p] = true;
    }
    mask
}

fn of_flat(flat: &FlatScene) -> Vec<Mask> {
    let empty = FlatScene { background: NIGHT, items: Vec::new(), bar: None };
    let night = empty.render();
    let mut masks: Vec<Mask> = Vec::new();
    for item in &flat.items {
        let mut item = item.clone();
        (item.colour, item.texture) = (LIGHT, Texture::Plain);
        masks.push(changed(&night, &FlatScene { items: vec![item], ..empty.clone() }.render()));
    }
    if flat.bar.is_some() {
        masks.push(changed(&night, &FlatScene { bar: flat.bar.clone(), ..empty }.render()));
    }
    masks
}

fn of_writing(writing: &WritingScene) -> Vec<Mask> {
    let mut masks = Vec::new();
    if writing.sign.is_some() {
        let board = |colour| WritingScene { sign: Some(colour), background: NIGHT, ..writing.clone() }.render();
        // The letters on the sign are the same in both images, so the box closes the holes.
        masks.push(boxed(&changed(&board(LIGHT), &board(DARK))));
    }
    let night = Canvas::new(&NIGHT).finish();
    for line in &writing.lines {
        for (letter, x, _) in line.letters() {
            let mut canvas = Canvas::new(&NIGHT);
            canvas.text(&letter.to_string(), x, f32::from(line.base), f32::from(line.height), [255; 3]);
            masks.push(changed(&night, &canvas.finish()));
        }
    }
    masks
}

fn of_table(table: &TableScene) -> Vec<Mask> {
    let image = table.render();
    let ink = changed(
        &TableScene { ink: LIGHT, ..table.clone() }.render(),
        &TableScene { ink: DARK, ..table.clone() }.render(),
    );
    // The bounding box of the ink inside the bounding box of all pixels that depend on the content of this cell.
    let cell = |others: Vec<TableScene>| -> Mask {
        let mut differs = vec![false; PIXELS];
        for other in others {
            differs.iter_mut().zip(changed(&image, &other.render())).for_each(|(a, b)| *a |= b);
        }
        boxed(&boxed(&differs).iter().zip(&ink).map(|(a, b)| *a && *b).collect())
    };
    let with = |change: &dyn Fn(&mut TableScene)| {
        let mut other = table.clone();
        change(&mut other);
        other
    };
    let mut masks = Vec::new();
    for i in 0..table.columns.len() {
        masks.push(cell(vec![with(&|t| t.columns[i].clear())]));
    }
    for (r, row) in table.cells.iter().enumerate() {
        masks.push(cell(vec![with(&|t| t.rows[r].clear())]));
        for c in 0..row.len() {
            // Together these digits differ from any digit wherever that has ink, and they are as wide.
            masks.push(cell([1, 4, 7, 8].into_iter().map(|v| with(&|t| t.cells[r][c] = v)).collect()));
        }
    }
    masks
}

fn of_chart(chart: &ChartScene) -> Vec<Mask> {
    let with = |i: usize, colour: u8| {
        let mut colours = vec![DARK; chart.colours.len()];
        if let Some(own) = colours.get_mut(i) {
            *own = colour;
        }
        ChartScene { colours, ..chart.clone() }.render()
    };
    // Only one connected component per colour: a chart's mark, without stray pixels.
    (0..chart.colours.len()).map(|i| largest_part(&changed(&with(i, LIGHT), &with(i, DARK)))).collect()
}

fn of_diagram(diagram: &DiagramScene) -> Vec<Mask> {
    let with = |i: usize, colour: u8| {
        let mut other = diagram.clone();
        if let Some(own) = other.colours.get_mut(i) {
            *own = colour;
        }
        other.render()
    };
    let things = (0..diagram.things.len()).map(|i| changed(&with(i, LIGHT), &with(i, DARK)));
    let image = diagram.render();
    let letters = (0..diagram.letters.len()).map(|i| {
        let mut other = diagram.clone();
        other.letters[i] = ' ';
        changed(&image, &other.render())
    });
    things.chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::scene::SceneSplit;

    fn scenes(n: u64) -> impl Iterator<Item = Scene> {
        (0..n).map(|i| Scene::draw(SceneSplit::Tune, 11, i))
    }

    #[test]
    fn instances_are_numbered_and_all_are_seen() {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for scene in scenes(300) {
            let map = scene.instances();
            let most = usize::from(map.iter().copied().max().unwrap_or(0));
            let sizes: Vec<usize> =
                (1..=most).map(|label| map.iter().filter(|l| usize::from(**l) == label).count()).collect();
            assert!(map.len() == PIXELS && most > 0 && sizes.iter().all(|s| *s > 3), "{sizes:?} {scene:?}");
            let expected = match &scene.content {
                Content::Flat(f) => f.items.len() + usize::from(f.bar.is_some()),
                Content::Solids(s) => s.solids.len(),
                Content::Writing(w) => {
                    w.lines.iter().map(|l| l.text.len()).sum::<usize>() + usize::from(w.sign.is_some())
                }
                Content::Table(t) => t.columns.len() + t.rows.len() + t.cells.iter().map(Vec::len).sum::<usize>(),
                Content::Chart(c) => c.colours.len(),
                Content::Diagram(d) => d.things.len() + d.letters.len(),
            };
            assert_eq!(most, expected, "{scene:?}");
            *counts.entry(scene.kind()).or_default() += 1;
        }
        assert!(counts.len() == 6 && counts.values().all(|n| *n > 5), "{counts:?}");
    }

    /// Masks cover the pixels that differ from the background.
    #[test]
    fn masks_follow_the_image() {
        for scene in scenes(300) {
            let map = scene.instances();
            match &scene.content {
                Content::Flat(flat) => {
                    let close = |p: usize| {
                        let at = flat.at((p % SIDE) as f32 + 0.5, (p / SIDE) as f32 + 0.5);
                        let bar = flat.items.len() + 1;
                        at.map_or(map[p] == 0 || usize::from(map[p]) == bar, |i| usize::from(map[p]) == i + 1)
                    };
                    let right = (0..PIXELS).filter(|p| close(*p)).count();
                    // `at` uses coarse masks, so the match is not exact.
                    assert!(right * 100 > PIXELS * 90, "{right} {flat:?}");
                }
                Content::Writing(writing) => {
                    let mut changed_ink = writing.clone();
                    changed_ink.sign = None;
                    let ink = |colour: u8| {
                        let mut other = changed_ink.clone();
                        other.lines.iter_mut().for_each(|line| line.colour = colour);
                        WritingScene { background: NIGHT, ..other }.render()
                    };
                    let ink = changed(&ink(LIGHT), &ink(DARK));
                    let first = 1 + u8::from(writing.sign.is_some());
                    let wrong = (0..PIXELS).filter(|p| ink[*p] != (map[*p] >= first)).count();
                    // Many edges cover half of a pixel, which the threshold counts or not by rounding.
                    let all = ink.iter().filter(|on| **on).count();
                    assert!(wrong * 5 < all * 2, "{wrong} of {all} {writing:?}");
                }
                Content::Table(table) => {
                    let other = TableScene { ink: 0, ..table.clone() }.render();
                    let ink = changed(&table.render(), &other);
                    let outside = (0..PIXELS).filter(|p| ink[*p] && map[*p] == 0).count();
                    assert!(outside < 10, "{outside} {table:?}");
                }
                Content::Chart(chart) if chart.coloured() => {
                    let image = scene.render();
                    for (i, colour) in chart.colours.iter().enumerate() {
                        let rgb = crate::palette::rgb(*colour);
                        let mine: Vec<_> =
                            image.pixels().zip(&map).filter(|(_, l)| usize::from(**l) == i + 1).collect();
                        let same = mine.iter().filter(|(p, _)| p.0 == rgb).count();
                        assert!(same * 2 > mine.len(), "{same} of {} {chart:?}", mine.len());
                    }
                }
                _ => {}
            }
        }
    }

    #[test]
    fn nearer_things_have_larger_inverse_depth() {
        let (mut hidden, mut pairs) = (0, 0);
        for scene in scenes(300) {
            let (map, depth) = (scene.instances(), scene.inverse_depth());
            assert!(depth.len() == PIXELS && depth.iter().all(|d| d.is_finite() && *d >= 0.0));
            if let Content::Solids(solids) = &scene.content {
                let mean = |i: usize| {
                    let own: Vec<f32> =
                        map.iter().zip(&depth).filter(|(l, _)| usize::from(**l) == i + 1).map(|(_, d)| *d).collect();
                    own.iter().sum::<f32>() / own.len().max(1) as f32
                };
                for a in 0..solids.solids.len() {
                    let metres = solids.depth(a) / 100.0;
                    assert!((1.0 / mean(a) - metres).abs() < 0.6, "{metres} {}", mean(a));
                    for b in 0..solids.solids.len() {
                        if solids.clearly_closer(a, b) {
                            pairs += 1;
                            assert!(mean(a) > mean(b), "{solids:?}");
                        }
                    }
                }
                // The ground is nearer to the camera towards the lower edge.
                let column: Vec<f32> = (0..SIDE).map(|y| y * SIDE).filter(|p| map[*p] == 0).map(|p| depth[p]).collect();
                assert!(column.windows(2).all(|w| w[0] <= w[1]), "{column:?}");
            } else {
                assert!(map.iter().zip(&depth).all(|(l, d)| (*l == 0) == (*d == 0.0)));
                hidden += usize::from(depth.iter().any(|d| *d > 1.0));
            }
        }
        assert!(hidden > 10 && pairs > 30, "{hidden} {pairs}");
    }
}
