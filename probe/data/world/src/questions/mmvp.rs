//! `nano-mmvp`: pairs of images that differ in one visual detail, with the same question and options; a pair counts
//! only if both answers are right.

use burgess_base::stream::Stream;

use super::question::Question;
use super::unit::BenchmarkUnit;
use crate::canvas::Texture;
use crate::facts::{self, THINGS, pictograms, thing};
use crate::flat::{self, DIRECTIONS, FlatScene, ItemSpec};
use crate::scene::{Content, Scene};
use crate::{dice, palette};

const SUBTASKS: [&str; 5] = ["facing", "direction", "color", "upright", "pattern"];

/// Draws a training question about a flat image.
pub fn ask(scene: &Scene, s: &mut Stream) -> Option<Question> {
    let Content::Flat(f) = &scene.content else { return None };
    let subtask = *dice::pick(s, &SUBTASKS);
    let unique = f.unique();
    let of = |s: &mut Stream, fits: &dyn Fn(usize) -> bool| {
        let fitting: Vec<usize> = unique.iter().copied().filter(|&i| fits(i)).collect();
        dice::try_pick(s, &fitting).copied()
    };
    match subtask {
        "facing" => {
            let i = of(s, &|i| f.items[i].faces().is_some())?;
            let side = f.items[i].faces()?;
            Some(one(s, subtask, facing_text(f, i), side.name(), side.other().name()))
        }
        "direction" => {
            let i = of(s, &|i| f.items[i].points().is_some())?;
            let way = f.items[i].points()?;
            let others: Vec<&str> = DIRECTIONS.into_iter().filter(|d| *d != way).collect();
            let other = *dice::pick(s, &others);
            Some(one(s, subtask, DIRECTION_TEXT.to_string(), way, other))
        }
        "color" => {
            let i = of(s, &|_| true)?;
            let colours = palette::draw_different(s, 2);
            let own = f.items[i].colour;
            let other = colours.into_iter().find(|c| *c != own)?;
            Some(one(s, subtask, super::gqa::color_text(&f.items[i]), palette::name(own), palette::name(other)))
        }
        "upright" => {
            let [item] = f.items.as_slice() else { return None };
            let (right, wrong) = if item.upside_down() { (WAYS[1], WAYS[0]) } else { (WAYS[0], WAYS[1]) };
            // Upright images are far more frequent than upside-down ones, so most are skipped.
            (item.what().upright && (item.upside_down() || dice::chance(s, 20)))
                .then(|| one(s, subtask, upright_text(f, 0), right, wrong))
        }
        _ => {
            let i = of(s, &|i| f.items[i].texture != Texture::Plain)?;
            let own = f.items[i].texture;
            let others: Vec<Texture> = Texture::PATTERNS.into_iter().filter(|t| *t != own).collect();
            let other = *dice::pick(s, &others);
            Some(one(s, subtask, pattern_text(f, i), own.name(), other.name()))
        }
    }
}

const DIRECTION_TEXT: &str = "Where does the arrow point?";
const WAYS: [&str; 2] = ["upright", "upside down"];

fn facing_text(f: &FlatScene, i: usize) -> String {
    format!("Which way does the {} look?", f.items[i].what().name)
}

fn upright_text(f: &FlatScene, i: usize) -> String {
    format!("Which way up is the {}?", f.items[i].what().name)
}

fn pattern_text(f: &FlatScene, i: usize) -> String {
    format!("What pattern has the {}?", f.items[i].what().name)
}

fn one(s: &mut Stream, subtask: &'static str, text: String, right: &str, wrong: &str) -> Question {
    let place = dice::below(s, 2);
    let options = if place == 0 { [right, wrong] } else { [wrong, right] };
    Question::pair(subtask, text, options.map(str::to_string), place)
}

/// Draws a unit of two test images that are equal except for one detail.
pub fn unit(s: &mut Stream, index: usize) -> BenchmarkUnit {
    let subtask = SUBTASKS[index % SUBTASKS.len()];
    loop {
        let Some((first, second, text, [a, b])) = pair(subtask, s) else { continue };
        let fair = |f: &FlatScene| (0..f.items.len()).all(|i| f.visible(i) >= 0.6);
        if first == second || !fair(&first) || !fair(&second) {
            continue;
        }
        let scenes = [Scene { content: Content::Flat(first) }, Scene { content: Content::Flat(second) }];
        if !scenes.iter().all(Scene::is_test) {
            continue;
        }
        let options = if dice::chance(s, 50) { [a.clone(), b] } else { [b, a.clone()] };
        let mut images: Vec<(Scene, Vec<Question>)> = scenes
            .into_iter()
            .enumerate()
            .map(|(k, scene)| {
                // The first image shows `a`, the second `b`.
                let right = usize::from((options[0] == a) != (k == 0));
                (scene, vec![Question::pair(subtask, text.clone(), options.clone(), right)])
            })
            .collect();
        if dice::chance(s, 50) {
            images.reverse();
        }
        return BenchmarkUnit { images };
    }
}

/// Draws two images, the question, and the answers for the first and the second image.
fn pair(subtask: &str, s: &mut Stream) -> Option<(FlatScene, FlatScene, String, [String; 2])> {
    let mut things: Vec<u16> = match subtask {
        "facing" => (0..pictograms() as u16).filter(|t| thing(*t).faces.is_some()).collect(),
        "upright" => (0..pictograms() as u16).filter(|t| thing(*t).upright).collect(),
        "direction" => vec![facts::arrow()],
        "pattern" => (0..facts::SHAPES.len() - 1).map(facts::shape).collect(),
        _ => (0..THINGS.len() as u16).collect(),
    };
    dice::shuffle(s, &mut things);
    let main = *things.first()?;
    let mut specs = vec![ItemSpec::of(s, main)];
    specs[0].texture = if subtask == "pattern" { *dice::pick(s, &Texture::PATTERNS) } else { Texture::Plain };
    if subtask != "upright" && dice::chance(s, 50) {
        let other = flat::any_thing(s);
        if other == main {
            return None;
        }
        specs.push(ItemSpec::of(s, other));
    }
    let first = FlatScene::of(s, &specs);
    let mut second = first.clone();
    let item = second.items.first_mut()?;
    let (text, a, b) = match subtask {
        "facing" => {
            item.mirrored = !item.mirrored;
            item.turn = -item.turn;
            let side = first.items[0].faces()?;
            (facing_text(&first, 0), side.name().to_string(), side.other().name().to_string())
        }
        "direction" => {
            item.turn = (item.turn + 90 * dice::within(s, 1, 3) as i16).rem_euclid(360);
            (DIRECTION_TEXT.to_string(), first.items[0].points()?.to_string(), item.points()?.to_string())
        }
        "color" => {
            item.colour = palette::draw_different(s, 2).into_iter().find(|c| *c != first.items[0].colour)?;
            let names = [first.items[0].colour, item.colour].map(|c| palette::name(c).to_string());
            let [a, b] = names;
            (super::gqa::color_text(&first.items[0]), a, b)
        }
        "upright" => {
            item.turn = if first.items[0].upside_down() { item.turn - 180 } else { item.turn + 180 };
            let (a, b) = if first.items[0].upside_down() { (WAYS[1], WAYS[0]) } else { (WAYS[0], WAYS[1]) };
            (upright_text(&first, 0), a.to_string(), b.to_string())
        }
        _ => {
            let others: Vec<Texture> = Texture::PATTERNS.into_iter().filter(|t| *t != item.texture).collect();
            item.texture = *dice::pick(s, &others);
            (pattern_text(&first, 0), first.items[0].texture.name().to_string(), item.texture.name().to_string())
        }
    };
    Some((first, second, text, [a, b]))
}
