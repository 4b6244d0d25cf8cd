//! `nano-cvbench-3d`: which solid is closer to the camera, or to a third one; answered with the text of an option.

use burgess_base::stream::Stream;

use super::question::Question;
use super::unit::{BenchmarkUnit, draw_test_unit};
use crate::dice;
use crate::scene::{Content, Scene};
use crate::solids::SolidScene;

/// Draws a training question about the distances of solids.
pub fn ask(scene: &Scene, s: &mut Stream) -> Option<Question> {
    let Content::Solids(c) = &scene.content else { return None };
    let place = dice::below(s, 2);
    if dice::chance(s, 50) { depth(c, place, s) } else { distance(c, place, s) }
}

/// Draws a training question about the depth of one solid, on the scale of [`SolidScene::depth_level`]. It is an
/// intermediate step of the comparison, and no benchmark asks it.
pub fn ask_level(scene: &Scene, s: &mut Stream) -> Option<Question> {
    let Content::Solids(c) = &scene.content else { return None };
    let i = dice::below(s, c.solids.len());
    let text = format!("At what depth is the {}?", c.solids.get(i)?.phrase());
    Some(Question::short("level", text, c.depth_level(i).to_string()))
}

/// Draws a unit of one image and one question; depth and distance take turns.
pub fn unit(s: &mut Stream, index: usize) -> BenchmarkUnit {
    let place = index / 2 + index % 2;
    draw_test_unit(s, |s| {
        let n = if index.is_multiple_of(2) { dice::within(s, 2, 3) as usize } else { 3 };
        let c = SolidScene::of(s, n);
        let q = if index.is_multiple_of(2) { depth(&c, place, s) } else { distance(&c, place, s) }?;
        Some((Content::Solids(c), vec![q]))
    })
}

fn depth(c: &SolidScene, place: usize, s: &mut Stream) -> Option<Question> {
    let all = || 0..c.solids.len();
    let clear: Vec<(usize, usize)> =
        all().flat_map(|a| all().map(move |b| (a, b))).filter(|&(a, b)| a != b && c.clearly_closer(a, b)).collect();
    let &(a, b) = dice::try_pick(s, &clear)?;
    let text = "Which is closer to the camera?";
    Some(Question::choice("depth", text, c.solids[a].phrase(), vec![c.solids[b].phrase()], place).named())
}

fn distance(c: &SolidScene, place: usize, s: &mut Stream) -> Option<Question> {
    let n = c.solids.len();
    let clear: Vec<(usize, usize, usize)> = (0..n * n * n)
        .map(|k| (k / (n * n), k / n % n, k % n))
        .filter(|&(to, a, b)| to != a && to != b && a != b && c.clearly_nearer(to, a, b))
        .collect();
    let &(to, a, b) = dice::try_pick(s, &clear)?;
    let text = format!("Which is closer to the {}?", c.solids[to].phrase());
    Some(Question::choice("distance", text, c.solids[a].phrase(), vec![c.solids[b].phrase()], place).named())
}
