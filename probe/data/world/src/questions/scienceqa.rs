//! `nano-scienceqa`: multiple-choice questions that require a fact about the thing in the image; the question does not
//! name the thing.

use burgess_base::stream::Stream;

use super::question::Question;
use super::unit::{BenchmarkUnit, draw_test_unit};
use crate::dice;
use crate::facts::{self, ATTRIBUTES, Attribute, THINGS, Thing, pictograms};
use crate::flat::{FlatScene, ItemSpec};
use crate::scene::{Content, Scene};

/// Draws a training question, if the image shows exactly one pictogram.
pub fn ask(scene: &Scene, s: &mut Stream) -> Option<Question> {
    let Content::Flat(f) = &scene.content else { return None };
    let mut seen = f.items.iter().filter(|i| usize::from(i.thing) < pictograms());
    let item = seen.next()?;
    if seen.next().is_some() { None } else { about(item.what(), false, s) }
}

/// Draws a question about a thing: a multiple choice, or an open question if `open`. A question whose answer is true of
/// n > 3 things is kept with probability 3 / n, so that all answers are about equally frequent.
pub fn about(thing: &'static Thing, open: bool, s: &mut Stream) -> Option<Question> {
    let known: Vec<&Attribute> = ATTRIBUTES.iter().filter(|a| a.of(thing).is_some()).collect();
    let attribute = *dice::try_pick(s, &known)?;
    let value = attribute.of(thing)?;
    let frequency = THINGS.iter().filter(|t| attribute.of(t) == Some(value)).count();
    if dice::below(s, frequency.max(1)) >= 3 {
        return None;
    }
    if open {
        return Some(Question::short(attribute.key, attribute.question, value));
    }
    // `place` is taken modulo the number of options, two to four; 12 is a multiple of each, so positions are equally
    // likely.
    let place = dice::below(s, 12);
    let wrong = distractors(attribute, value, s);
    Some(question(attribute, value, wrong, place))
}

/// Draws a unit of one image with one pictogram, alone or with a plain shape. The options are drawn first, then the
/// right one among them, then a thing for which it is right, so that the options do not reveal the answer.
pub fn unit(s: &mut Stream, index: usize) -> BenchmarkUnit {
    let attribute = &ATTRIBUTES[index % ATTRIBUTES.len()];
    // Each attribute starts at another position of the right option, so that positions are balanced even if only the
    // first few units are used.
    let place = index / ATTRIBUTES.len() + index % ATTRIBUTES.len();
    let options = loop {
        let values = attribute.values();
        let first = *dice::pick(s, &values);
        let mut all = distractors(attribute, first, s);
        all.push(first.to_string());
        if all.len() >= 2 {
            break dice::sample(s, &all, all.len());
        }
    };
    let right = dice::pick(s, &options).clone();
    let wrong: Vec<String> = options.into_iter().filter(|o| *o != right).collect();
    let things: Vec<u16> =
        (0..pictograms() as u16).filter(|t| attribute.of(facts::thing(*t)) == Some(right.as_str())).collect();
    draw_test_unit(s, |s| {
        let thing = *dice::try_pick(s, &things)?;
        let mut specs = vec![ItemSpec::of(s, thing)];
        if dice::chance(s, 30) {
            let shape = facts::shape(dice::below(s, facts::SHAPES.len()));
            specs.push(ItemSpec::of(s, shape));
        }
        let content = Content::Flat(FlatScene::of(s, &specs));
        Some((content, vec![question(attribute, &right, wrong.clone(), place)]))
    })
}

/// Draws up to three other values that are clearly false where `value` is true, and clearly different from each other.
fn distractors(attribute: &Attribute, value: &str, s: &mut Stream) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut values = attribute.values();
    dice::shuffle(s, &mut values);
    for v in values {
        if out.len() < 3 && attribute.apart(v, value) && out.iter().all(|o| attribute.apart(v, o)) {
            out.push(v.to_string());
        }
    }
    out
}

fn question(attribute: &Attribute, right: &str, wrong: Vec<String>, place: usize) -> Question {
    Question::choice(attribute.key, attribute.question, right.to_string(), wrong, place)
}
