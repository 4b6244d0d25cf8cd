//! `nano-scienceqa`: multiple choice that needs a fact about the thing in the image; the question never names it.

use burgess_base::stream::Stream;

use super::question::Question;
use super::unit::{BenchmarkUnit, held_out};
use crate::dice;
use crate::facts::{self, ATTRIBUTES, Attribute, THINGS, Thing, pictograms};
use crate::flat::{FlatScene, ItemSpec};
use crate::scene::{Content, Scene};

/// One training question, if exactly one pictogram is to be seen.
pub fn ask(scene: &Scene, s: &mut Stream) -> Option<Question> {
    let Content::Flat(f) = &scene.content else { return None };
    let mut seen = f.items.iter().filter(|i| usize::from(i.thing) < pictograms());
    let item = seen.next()?;
    if seen.next().is_some() { None } else { about(item.what(), false, s) }
}

/// A question about a thing, its values drawn so that frequent ones do not become the usual answer; a multiple choice,
/// or `open` for the value itself.
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
    // A multiple of two, three and four, so that every place is equally likely whatever the number of options.
    let place = dice::below(s, 12);
    let wrong = companions(attribute, value, s);
    Some(question(attribute, value, wrong, place))
}

/// One image of one pictogram, alone or among plain shapes. The options are drawn first, then the right one among
/// them, then a thing for which it is right: so the options say nothing about the answer.
pub fn unit(s: &mut Stream, index: usize) -> BenchmarkUnit {
    let attribute = &ATTRIBUTES[index % ATTRIBUTES.len()];
    // Attributes begin at different places, so that any first few units are balanced too.
    let place = index / ATTRIBUTES.len() + index % ATTRIBUTES.len();
    let options = loop {
        let values = attribute.values();
        let first = *dice::pick(s, &values);
        let mut all = companions(attribute, first, s);
        all.push(first.to_string());
        if all.len() >= 2 {
            break dice::sample(s, &all, all.len());
        }
    };
    let right = dice::pick(s, &options).clone();
    let wrong: Vec<String> = options.into_iter().filter(|o| *o != right).collect();
    let things: Vec<u16> =
        (0..pictograms() as u16).filter(|t| attribute.of(facts::thing(*t)) == Some(right.as_str())).collect();
    held_out(s, |s| {
        let thing = *dice::try_pick(s, &things)?;
        let mut wishes = vec![ItemSpec::of(s, thing)];
        if dice::chance(s, 30) {
            let shape = facts::shape(dice::below(s, facts::SHAPES.len()));
            wishes.push(ItemSpec::of(s, shape));
        }
        let content = Content::Flat(FlatScene::of(s, &wishes));
        Some((content, vec![question(attribute, &right, wrong.clone(), place)]))
    })
}

/// Up to three other values, all clearly false where `value` is true and clearly apart from each other.
fn companions(attribute: &Attribute, value: &str, s: &mut Stream) -> Vec<String> {
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
