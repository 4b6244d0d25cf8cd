//! Composes the examples: captions and conversations for training, and the images and questions of each benchmark.
//!
//! Each function draws one image from a random stream, or returns `None` if the draw failed. Balanced properties
//! (number of objects, relation, front object) follow from the image's number and not from the draw, so that failed
//! draws cannot bias them.

use burgess_base::stream::Stream;
use burgess_world::{Relation, dice};
use image::RgbImage;

use crate::composition::{Arrangement, Composition};
use crate::kinds::{self, may_meet};
use crate::material::{Material, SplitMaterial};
use crate::names::{ObjectName, are_alike, bare_words};
use crate::question::{self, FieldQuestion, ItemNames, MAX_COUNT};
use crate::stamps::Stamp;
use crate::text_image::TextImage;

/// An image, the id of its unit (units are independent of each other), and its questions.
type BenchmarkImage = (RgbImage, String, Vec<FieldQuestion>);

/// A benchmark that is composed here.
pub struct FieldBenchmark {
    /// Id of the benchmark.
    pub name: &'static str,
    /// Whether the source has the material for it.
    pub possible: fn(&Material) -> bool,
    /// Draws image number `i`.
    pub draw: fn(&mut Stream, &Material, usize) -> Option<BenchmarkImage>,
}

/// Every benchmark that is composed here; `field-cocoqa` is copied from its package.
pub const BENCHMARKS: [FieldBenchmark; 8] = [
    FieldBenchmark { name: "field-presence", possible: |s| s.test.present().len() >= 4, draw: presence },
    FieldBenchmark { name: "field-kind", possible: |s| s.test.present().len() >= 4, draw: kind },
    FieldBenchmark { name: "field-names", possible: |s| s.train.named.len() >= 8, draw: names },
    FieldBenchmark { name: "field-stamps", possible: |s| s.test.named.len() >= 8, draw: stamps },
    FieldBenchmark { name: "field-text", possible: |s| !s.test.photographs.is_empty(), draw: text },
    FieldBenchmark { name: "field-count", possible: |s| s.test.countable().len() >= 2, draw: count },
    FieldBenchmark { name: "field-relation", possible: |s| s.test.present().len() >= 4, draw: relation },
    FieldBenchmark { name: "field-occlusion", possible: |s| s.test.present().len() >= 4, draw: occlusion },
];

/// In the align stage one image in this many has a caption; the others ask for the kind.
const CAPTIONS_ONE_IN: usize = 6;

/// Draws a single stamp with a caption or with a question for its kind. Captions alone teach slowly, because few of
/// their words describe the image.
pub fn aligned(s: &mut Stream, material: &Material, i: usize) -> Option<(RgbImage, FieldQuestion)> {
    let side = &material.train;
    if i.is_multiple_of(CAPTIONS_ONE_IN) {
        // Every stamp is used before any is used again.
        let number = *side.captioned.get((i / CAPTIONS_ONE_IN) % side.captioned.len().max(1))?;
        let image = alone(s, material, number, side)?.image;
        return Some((image, question::caption(s, &material.stamps.get(number)?.caption)));
    }
    let (number, kind) = of_some_kind(s, side)?;
    Some((alone(s, material, number, side)?.image, question::kind(kind, &side.present())))
}

/// Draws a stamp, with every kind equally likely.
fn of_some_kind(s: &mut Stream, side: &SplitMaterial) -> Option<(usize, usize)> {
    let kind = *dice::try_pick(s, &side.present())?;
    Some((*dice::try_pick(s, side.kinds.get(kind)?)?, kind))
}

fn alone(s: &mut Stream, material: &Material, number: usize, side: &SplitMaterial) -> Option<Composition> {
    Composition::draw(s, &material.stamps, &[number], Arrangement::Apart, &side.photographs)
}

/// Draws an image with up to `n` questions, the more revealing ones later. One image in 16 shows text, nine show one
/// object, and the others show several of one kind, two or three different objects, or two objects that overlap.
pub fn conversation(s: &mut Stream, material: &Material, i: usize, n: usize) -> Option<(RgbImage, Vec<FieldQuestion>)> {
    let side = &material.train;
    let (image, mut pool) = match i % 16 {
        0 if !side.photographs.is_empty() => {
            let writing = TextImage::draw(s, &side.photographs)?;
            let place = dice::below(s, 4);
            let question = if dice::chance(s, 50) { writing.open() } else { writing.choice(s, place) };
            (writing.image, vec![question])
        }
        0..=9 => learn_name(s, material, i)?,
        10 | 11 => learn_count(s, material, i)?,
        12 => learn_occlusion(s, material)?,
        _ => learn_relation(s, material)?,
    };
    dice::shuffle(s, &mut pool);
    pool.truncate(n.max(1));
    pool.sort_by_key(FieldQuestion::revealed);
    Some((image, pool))
}

/// Draws an image of one object with a question for its kind; a third of the images also ask whether a kind is present,
/// and another third for the name. The kind is learned first, and other answers depend on it.
fn learn_name(s: &mut Stream, material: &Material, i: usize) -> Option<(RgbImage, Vec<FieldQuestion>)> {
    let side = &material.train;
    if i % 3 < 2 {
        let (number, kind) = of_some_kind(s, side)?;
        let mut pool = vec![question::kind(kind, &side.present())];
        if i % 3 == 1 {
            pool.extend(presence_by_coin(s, side, &[kind]));
        }
        return Some((alone(s, material, number, side)?.image, pool));
    }
    let number = *dice::try_pick(s, &side.named)?;
    let stamp = material.stamps.get(number)?;
    let kind = stamp.kind.map(|kind| question::kind(kind, &side.present()));
    let pool = kind.into_iter().chain([learned_name(s, material, stamp)?]).collect();
    Some((alone(s, material, number, side)?.image, pool))
}

/// Asks for a name: whether the object has it, which of four names it has, or without options.
fn learned_name(s: &mut Stream, material: &Material, stamp: &Stamp) -> Option<FieldQuestion> {
    let name = stamp.name.as_ref()?;
    match dice::below(s, 4) {
        0 => {
            let turn = dice::below(s, 2);
            presence_of_name(s, material, stamp, turn)
        }
        1 => Some(question::naming(name)),
        _ => {
            let wrong = other_names(s, material, &material.train.named, stamp, 3)?;
            Some(question::naming_choice(name, wrong, dice::below(s, 4)))
        }
    }
}

fn learn_count(s: &mut Stream, material: &Material, i: usize) -> Option<(RgbImage, Vec<FieldQuestion>)> {
    let (scene, kind, n) = counted(s, material, &material.train, i)?;
    let mut pool: Vec<FieldQuestion> =
        presence_by_coin(s, &material.train, &kinds_in(material, &scene)).into_iter().collect();
    // Sometimes asks by name, if all objects of the kind are the same stamp and its name has a plural.
    let called = ItemNames::new(&scene, &material.stamps);
    let same = scene.items.iter().take(n).all(|item| scene.items.first().is_some_and(|f| f.stamp == item.stamp));
    let name = called.name(0).filter(|name| same && name.is_countable());
    pool.push(match name {
        Some(name) if dice::chance(s, 30) => question::count(&name.plural(), n),
        _ => question::count(kinds::plural(kind), n),
    });
    Some((scene.image, pool))
}

fn learn_occlusion(s: &mut Stream, material: &Material) -> Option<(RgbImage, Vec<FieldQuestion>)> {
    let numbers = different(s, material, &material.train, 2)?;
    let scene =
        Composition::draw(s, &material.stamps, &numbers, Arrangement::Overlapping, &material.train.photographs)?;
    let called = ItemNames::new(&scene, &material.stamps);
    let [behind, front] = called.two(s, 0, 1)?;
    let mut pool: Vec<FieldQuestion> =
        presence_by_coin(s, &material.train, &kinds_in(material, &scene)).into_iter().collect();
    pool.push(question::in_front(&front, &behind, dice::below(s, 2)));
    Some((scene.image, pool))
}

fn learn_relation(s: &mut Stream, material: &Material) -> Option<(RgbImage, Vec<FieldQuestion>)> {
    let k = dice::within(s, 2, 3) as usize;
    let numbers = different(s, material, &material.train, k)?;
    let scene = Composition::draw(s, &material.stamps, &numbers, Arrangement::Apart, &material.train.photographs)?;
    let called = ItemNames::new(&scene, &material.stamps);
    let mut pairs: Vec<(usize, usize)> =
        (0..k).flat_map(|a| (0..k).map(move |b| (a, b))).filter(|(a, b)| a != b).collect();
    dice::shuffle(s, &mut pairs);
    let mut pool: Vec<FieldQuestion> =
        presence_by_coin(s, &material.train, &kinds_in(material, &scene)).into_iter().collect();
    // Only one question, because a second one about the same objects would follow from the first.
    let (relation, [first, second]) =
        pairs.into_iter().find_map(|(a, b)| scene.relation(a, b).zip(called.two(s, a, b)))?;
    pool.push(match k == 2 && dice::chance(s, 25) {
        true => question::beside(&first, &second, relation),
        false => question::relation(&first, &second, relation),
    });
    Some((scene.image, pool))
}

fn presence(s: &mut Stream, material: &Material, i: usize) -> Option<BenchmarkImage> {
    let side = &material.test;
    let k = dice::within(s, 1, 3) as usize;
    let numbers = different(s, material, side, k)?;
    let scene = Composition::draw(s, &material.stamps, &numbers, Arrangement::Apart, &side.photographs)?;
    let shown = kinds_in(material, &scene);
    // One question with the answer yes and one with the answer no balance the answers.
    let questions = vec![presence_of_kind(s, side, &shown, 0)?, presence_of_kind(s, side, &shown, 1)?];
    Some((scene.image, format!("{i:05}"), questions))
}

fn kind(s: &mut Stream, material: &Material, i: usize) -> Option<BenchmarkImage> {
    let side = &material.test;
    let present = side.present();
    // Cycling through the kinds makes every answer equally frequent.
    let kind = *present.get(i % present.len().max(1))?;
    let number = *dice::try_pick(s, side.kinds.get(kind)?)?;
    let scene = alone(s, material, number, side)?;
    let question = question::kind(kind, &present);
    Some((scene.image, material.stamps.get(number)?.path.clone(), vec![question]))
}

/// Draws an image of a training object in a new composition: position, size, mirroring and a photograph that only
/// benchmarks use.
fn names(s: &mut Stream, material: &Material, i: usize) -> Option<BenchmarkImage> {
    let side = &material.train;
    let number = *dice::try_pick(s, &side.named)?;
    let stamp = material.stamps.get(number)?;
    let scene = alone(s, material, number, &material.test)?;
    let wrong = other_names(s, material, &side.named, stamp, 3)?;
    Some((scene.image, stamp.path.clone(), vec![question::naming_choice(stamp.name.as_ref()?, wrong, i)]))
}

fn stamps(s: &mut Stream, material: &Material, i: usize) -> Option<BenchmarkImage> {
    let side = &material.test;
    let number = *side.named.get(i % side.named.len().max(1))?;
    let stamp = material.stamps.get(number)?;
    let scene = alone(s, material, number, side)?;
    let wrong = other_names(s, material, &side.named, stamp, 3)?;
    let question = question::naming_choice(stamp.name.as_ref()?, wrong, i);
    // Two images of the same stamp are not independent, so the stamp is the unit.
    Some((scene.image, stamp.path.clone(), vec![question]))
}

fn text(s: &mut Stream, material: &Material, i: usize) -> Option<BenchmarkImage> {
    let writing = TextImage::draw(s, &material.test.photographs)?;
    let question = writing.choice(s, i);
    Some((writing.image, format!("{i:05}"), vec![question]))
}

fn count(s: &mut Stream, material: &Material, i: usize) -> Option<BenchmarkImage> {
    let (scene, kind, n) = counted(s, material, &material.test, i)?;
    Some((scene.image, format!("{i:05}"), vec![question::count(kinds::plural(kind), n)]))
}

fn relation(s: &mut Stream, material: &Material, i: usize) -> Option<BenchmarkImage> {
    let side = &material.test;
    let k = dice::within(s, 2, 3) as usize;
    let numbers = different(s, material, side, k)?;
    let scene = Composition::draw(s, &material.stamps, &numbers, Arrangement::Apart, &side.photographs)?;
    let wanted = *Relation::ALL.get(i % Relation::ALL.len())?;
    (scene.relation(0, 1)? == wanted).then_some(())?;
    let called = ItemNames::new(&scene, &material.stamps);
    let [a, b] = [called.kind(0)?, called.kind(1)?].map(kinds::name);
    Some((scene.image, format!("{i:05}"), vec![question::relation(a, b, wanted)]))
}

fn occlusion(s: &mut Stream, material: &Material, i: usize) -> Option<BenchmarkImage> {
    let side = &material.test;
    let numbers = different(s, material, side, 2)?;
    let scene = Composition::draw(s, &material.stamps, &numbers, Arrangement::Overlapping, &side.photographs)?;
    let called = ItemNames::new(&scene, &material.stamps);
    let [behind, front] = [called.kind(0)?, called.kind(1)?].map(kinds::name);
    Some((scene.image, format!("{i:05}"), vec![question::in_front(front, behind, i)]))
}

/// Draws `1 + i % MAX_COUNT` objects of one kind, first in the scene, and up to two of another kind.
fn counted(s: &mut Stream, material: &Material, side: &SplitMaterial, i: usize) -> Option<(Composition, usize, usize)> {
    let n = 1 + i % MAX_COUNT;
    let kind = *dice::try_pick(s, &side.countable())?;
    let list = side.single.get(kind)?;
    let mut numbers = match dice::chance(s, 50) {
        true => vec![*dice::try_pick(s, list)?; n],
        false => dice::sample(s, list, n),
    };
    let others: Vec<usize> = side.present().into_iter().filter(|k| may_meet(*k, kind)).collect();
    if let Some(list) = dice::try_pick(s, &others).and_then(|k| side.kinds.get(*k)) {
        let k = dice::below(s, 3);
        numbers.extend(dice::sample(s, list, k));
    }
    let named = numbers.iter().take(n).filter(|m| list.contains(m)).count();
    (named == n).then_some(())?;
    // The counted objects are first in the list, but this cannot be seen: nothing overlaps, and sizes depend only on
    // the number of objects.
    let scene = Composition::draw(s, &material.stamps, &numbers, Arrangement::Apart, &side.photographs)?;
    Some((scene, kind, n))
}

/// Draws `k` stamps of different kinds that may occur together, in random order.
fn different(s: &mut Stream, material: &Material, side: &SplitMaterial, k: usize) -> Option<Vec<usize>> {
    let mut kinds: Vec<usize> = side.present();
    dice::shuffle(s, &mut kinds);
    let mut chosen: Vec<usize> = Vec::new();
    for kind in kinds {
        if chosen.len() < k && chosen.iter().all(|c| may_meet(*c, kind)) {
            chosen.push(kind);
        }
    }
    let numbers: Vec<usize> = chosen.iter().filter_map(|k| dice::try_pick(s, side.kinds.get(*k)?).copied()).collect();
    // Two objects whose names share their last word could be confused.
    let heads: Vec<String> =
        numbers.iter().filter_map(|n| Some(material.stamps.get(*n)?.name.as_ref()?.head())).collect();
    let clear = heads.iter().enumerate().all(|(i, h)| !heads.iter().skip(i + 1).any(|o| o == h));
    (numbers.len() == k && clear).then_some(numbers)
}

fn kinds_in(material: &Material, scene: &Composition) -> Vec<usize> {
    scene.items.iter().filter_map(|i| material.stamps.get(i.stamp)?.kind).collect()
}

/// Asks whether a kind is present; the answer is yes for an even `turn`. Absent kinds are those that may occur together
/// with all that are shown.
fn presence_of_kind(s: &mut Stream, side: &SplitMaterial, shown: &[usize], turn: usize) -> Option<FieldQuestion> {
    if turn.is_multiple_of(2) {
        return Some(question::kind_present(*dice::try_pick(s, shown)?, true));
    }
    let absent: Vec<usize> =
        side.present().into_iter().filter(|k| shown.iter().all(|other| may_meet(*k, *other))).collect();
    Some(question::kind_present(*dice::try_pick(s, &absent)?, false))
}

/// Asks whether a kind is present, with a random answer as far as the kinds allow.
fn presence_by_coin(s: &mut Stream, side: &SplitMaterial, shown: &[usize]) -> Option<FieldQuestion> {
    let turn = dice::below(s, 2);
    // A failed draw is tried once more before the other answer is used.
    (0..4).find_map(|k| presence_of_kind(s, side, shown, turn + k / 2))
}

/// Asks whether an object of this name, or of another, is present; the answer is yes for an even `turn`.
fn presence_of_name(s: &mut Stream, material: &Material, stamp: &Stamp, turn: usize) -> Option<FieldQuestion> {
    if turn.is_multiple_of(2) {
        return Some(question::name_present(stamp.name.as_ref()?, true));
    }
    let others: Vec<usize> = material.train.named.iter().copied().filter(|n| differ(material, *n, stamp)).collect();
    let other = material.stamps.get(*dice::try_pick(s, &others)?)?;
    Some(question::name_present(other.name.as_ref()?, false))
}

/// Returns whether another stamp's name is surely wrong for `stamp`: its last word is neither in the caption nor
/// similar to a word in it.
fn differ(material: &Material, number: usize, stamp: &Stamp) -> bool {
    let Some(head) = material.stamps.get(number).and_then(|o| o.name.as_ref()).map(ObjectName::head) else {
        return false;
    };
    !bare_words(&stamp.caption).iter().any(|own| are_alike(own, &head))
}

/// Draws `k` other names: one of the same kind (or folder) if there is one, the rest from elsewhere.
fn other_names(s: &mut Stream, material: &Material, from: &[usize], stamp: &Stamp, k: usize) -> Option<Vec<String>> {
    let mut candidates: Vec<usize> = from.iter().copied().filter(|n| differ(material, *n, stamp)).collect();
    dice::shuffle(s, &mut candidates);
    let near = |number: &usize| {
        material.stamps.get(*number).is_some_and(|o| match stamp.kind {
            Some(kind) => o.kind == Some(kind),
            None => o.folder() == stamp.folder(),
        })
    };
    // Takes one similar name if there is one, then dissimilar ones, then fills up with similar ones.
    let (near, far): (Vec<usize>, Vec<usize>) = candidates.into_iter().partition(near);
    let mut heads: Vec<String> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let mut take = |list: &[usize], until: usize, names: &mut Vec<String>| {
        for name in list.iter().filter_map(|n| material.stamps.get(*n)?.name.as_ref()) {
            if names.len() < until && !heads.iter().any(|h| are_alike(h, &name.head())) {
                heads.push(name.head());
                names.push(name.words.clone());
            }
        }
    };
    take(&near, 1, &mut names);
    take(&far, k, &mut names);
    take(&near, k, &mut names);
    (names.len() == k).then(|| {
        dice::shuffle(s, &mut names);
        names
    })
}
