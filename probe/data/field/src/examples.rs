//! Composes the examples: captions and conversations for training, and the images and questions of each benchmark.
//!
//! Each function draws one image from a random stream, or returns `None` if the draw failed. Balanced properties
//! (number of objects, relation, front object) follow from the image's number and not from the draw, so that failed
//! draws cannot bias them.

use burgess_base::stream::Stream;
use burgess_world::{Relation, dice};
use image::RgbImage;

use crate::ask::{self, Called, MOST, Question};
use crate::kinds::{self, may_meet};
use crate::names::{Name, are_alike, bare_words};
use crate::scene::{Layout, Scene};
use crate::source::{Side, Source};
use crate::stamps::Stamp;
use crate::writing::Writing;

/// An image, the id of its unit (units are independent of each other), and its questions.
type Asked = (RgbImage, String, Vec<Question>);

/// A benchmark that is composed here.
pub struct Part {
    /// Id of the benchmark.
    pub name: &'static str,
    /// Whether the source has the material for it.
    pub possible: fn(&Source) -> bool,
    /// Draws image number `i`.
    pub draw: fn(&mut Stream, &Source, usize) -> Option<Asked>,
}

/// Every benchmark that is composed here; `field-cocoqa` is copied from its package.
pub const BENCHMARKS: [Part; 8] = [
    Part { name: "field-presence", possible: |s| s.test.present().len() >= 4, draw: presence },
    Part { name: "field-kind", possible: |s| s.test.present().len() >= 4, draw: kind },
    Part { name: "field-names", possible: |s| s.train.named.len() >= 8, draw: names },
    Part { name: "field-stamps", possible: |s| s.test.named.len() >= 8, draw: stamps },
    Part { name: "field-text", possible: |s| !s.test.photographs.is_empty(), draw: text },
    Part { name: "field-count", possible: |s| s.test.countable().len() >= 2, draw: count },
    Part { name: "field-relation", possible: |s| s.test.present().len() >= 4, draw: relation },
    Part { name: "field-occlusion", possible: |s| s.test.present().len() >= 4, draw: occlusion },
];

/// In the align stage one image in this many has a caption; the others ask for the kind.
const CAPTIONS_ONE_IN: usize = 6;

/// Draws a single stamp with a caption or with a question for its kind. Captions alone teach slowly, because few of
/// their words describe the image.
pub fn aligned(s: &mut Stream, source: &Source, i: usize) -> Option<(RgbImage, Question)> {
    let side = &source.train;
    if i.is_multiple_of(CAPTIONS_ONE_IN) {
        // Every stamp is used before any is used again.
        let number = *side.captioned.get((i / CAPTIONS_ONE_IN) % side.captioned.len().max(1))?;
        let image = alone(s, source, number, side)?.image;
        return Some((image, ask::caption(s, &source.stamps.get(number)?.caption)));
    }
    let (number, kind) = of_some_kind(s, side)?;
    Some((alone(s, source, number, side)?.image, ask::kind(kind, &side.present())))
}

/// Draws a stamp, with every kind equally likely.
fn of_some_kind(s: &mut Stream, side: &Side) -> Option<(usize, usize)> {
    let kind = *dice::try_pick(s, &side.present())?;
    Some((*dice::try_pick(s, side.kinds.get(kind)?)?, kind))
}

fn alone(s: &mut Stream, source: &Source, number: usize, side: &Side) -> Option<Scene> {
    Scene::draw(s, &source.stamps, &[number], Layout::Apart, &side.photographs)
}

/// Draws an image with up to `n` questions, the more revealing ones later. One image in 16 shows text, nine show one
/// object, and the others show several of one kind, two or three different objects, or two objects that overlap.
pub fn conversation(s: &mut Stream, source: &Source, i: usize, n: usize) -> Option<(RgbImage, Vec<Question>)> {
    let side = &source.train;
    let (image, mut pool) = match i % 16 {
        0 if !side.photographs.is_empty() => {
            let writing = Writing::draw(s, &side.photographs)?;
            let place = dice::below(s, 4);
            let question = if dice::chance(s, 50) { writing.open() } else { writing.choice(s, place) };
            (writing.image, vec![question])
        }
        0..=9 => learn_name(s, source, i)?,
        10 | 11 => learn_count(s, source, i)?,
        12 => learn_occlusion(s, source)?,
        _ => learn_relation(s, source)?,
    };
    dice::shuffle(s, &mut pool);
    pool.truncate(n.max(1));
    pool.sort_by_key(Question::tells);
    Some((image, pool))
}

/// Draws an image of one object with a question for its kind; a third of the images also ask whether a kind is present,
/// and another third for the name. The kind is learned first, and other answers depend on it.
fn learn_name(s: &mut Stream, source: &Source, i: usize) -> Option<(RgbImage, Vec<Question>)> {
    let side = &source.train;
    if i % 3 < 2 {
        let (number, kind) = of_some_kind(s, side)?;
        let mut pool = vec![ask::kind(kind, &side.present())];
        if i % 3 == 1 {
            pool.extend(presence_by_coin(s, side, &[kind]));
        }
        return Some((alone(s, source, number, side)?.image, pool));
    }
    let number = *dice::try_pick(s, &side.named)?;
    let stamp = source.stamps.get(number)?;
    let kind = stamp.kind.map(|kind| ask::kind(kind, &side.present()));
    let pool = kind.into_iter().chain([learned_name(s, source, stamp)?]).collect();
    Some((alone(s, source, number, side)?.image, pool))
}

/// Asks for a name: whether the object has it, which of four names it has, or without options.
fn learned_name(s: &mut Stream, source: &Source, stamp: &Stamp) -> Option<Question> {
    let name = stamp.name.as_ref()?;
    match dice::below(s, 4) {
        0 => {
            let turn = dice::below(s, 2);
            presence_of_name(s, source, stamp, turn)
        }
        1 => Some(ask::naming(name)),
        _ => {
            let wrong = other_names(s, source, &source.train.named, stamp, 3)?;
            Some(ask::naming_choice(name, wrong, dice::below(s, 4)))
        }
    }
}

fn learn_count(s: &mut Stream, source: &Source, i: usize) -> Option<(RgbImage, Vec<Question>)> {
    let (scene, kind, n) = counted(s, source, &source.train, i)?;
    let mut pool: Vec<Question> = presence_by_coin(s, &source.train, &kinds_in(source, &scene)).into_iter().collect();
    // Sometimes asks by name, if all objects of the kind are the same stamp and its name has a plural.
    let called = Called::new(&scene, &source.stamps);
    let same = scene.items.iter().take(n).all(|item| scene.items.first().is_some_and(|f| f.stamp == item.stamp));
    let name = called.name(0).filter(|name| same && name.is_countable());
    pool.push(match name {
        Some(name) if dice::chance(s, 30) => ask::count(&name.plural(), n),
        _ => ask::count(kinds::plural(kind), n),
    });
    Some((scene.image, pool))
}

fn learn_occlusion(s: &mut Stream, source: &Source) -> Option<(RgbImage, Vec<Question>)> {
    let numbers = different(s, source, &source.train, 2)?;
    let scene = Scene::draw(s, &source.stamps, &numbers, Layout::Overlapping, &source.train.photographs)?;
    let called = Called::new(&scene, &source.stamps);
    let [behind, front] = called.two(s, 0, 1)?;
    let mut pool: Vec<Question> = presence_by_coin(s, &source.train, &kinds_in(source, &scene)).into_iter().collect();
    pool.push(ask::in_front(&front, &behind, dice::below(s, 2)));
    Some((scene.image, pool))
}

fn learn_relation(s: &mut Stream, source: &Source) -> Option<(RgbImage, Vec<Question>)> {
    let k = dice::within(s, 2, 3) as usize;
    let numbers = different(s, source, &source.train, k)?;
    let scene = Scene::draw(s, &source.stamps, &numbers, Layout::Apart, &source.train.photographs)?;
    let called = Called::new(&scene, &source.stamps);
    let mut pairs: Vec<(usize, usize)> =
        (0..k).flat_map(|a| (0..k).map(move |b| (a, b))).filter(|(a, b)| a != b).collect();
    dice::shuffle(s, &mut pairs);
    let mut pool: Vec<Question> = presence_by_coin(s, &source.train, &kinds_in(source, &scene)).into_iter().collect();
    // Only one question, because a second one about the same objects would follow from the first.
    let (relation, [first, second]) =
        pairs.into_iter().find_map(|(a, b)| scene.relation(a, b).zip(called.two(s, a, b)))?;
    pool.push(match k == 2 && dice::chance(s, 25) {
        true => ask::beside(&first, &second, relation),
        false => ask::relation(&first, &second, relation),
    });
    Some((scene.image, pool))
}

fn presence(s: &mut Stream, source: &Source, i: usize) -> Option<Asked> {
    let side = &source.test;
    let k = dice::within(s, 1, 3) as usize;
    let numbers = different(s, source, side, k)?;
    let scene = Scene::draw(s, &source.stamps, &numbers, Layout::Apart, &side.photographs)?;
    let shown = kinds_in(source, &scene);
    // One question with the answer yes and one with the answer no balance the answers.
    let questions = vec![presence_of_kind(s, side, &shown, 0)?, presence_of_kind(s, side, &shown, 1)?];
    Some((scene.image, format!("{i:05}"), questions))
}

fn kind(s: &mut Stream, source: &Source, i: usize) -> Option<Asked> {
    let side = &source.test;
    let present = side.present();
    // Cycling through the kinds makes every answer equally frequent.
    let kind = *present.get(i % present.len().max(1))?;
    let number = *dice::try_pick(s, side.kinds.get(kind)?)?;
    let scene = alone(s, source, number, side)?;
    let question = ask::kind(kind, &present);
    Some((scene.image, source.stamps.get(number)?.path.clone(), vec![question]))
}

/// Draws an image of a training object in a new composition: position, size, mirroring and a photograph that only
/// benchmarks use.
fn names(s: &mut Stream, source: &Source, i: usize) -> Option<Asked> {
    let side = &source.train;
    let number = *dice::try_pick(s, &side.named)?;
    let stamp = source.stamps.get(number)?;
    let scene = alone(s, source, number, &source.test)?;
    let wrong = other_names(s, source, &side.named, stamp, 3)?;
    Some((scene.image, stamp.path.clone(), vec![ask::naming_choice(stamp.name.as_ref()?, wrong, i)]))
}

fn stamps(s: &mut Stream, source: &Source, i: usize) -> Option<Asked> {
    let side = &source.test;
    let number = *side.named.get(i % side.named.len().max(1))?;
    let stamp = source.stamps.get(number)?;
    let scene = alone(s, source, number, side)?;
    let wrong = other_names(s, source, &side.named, stamp, 3)?;
    let question = ask::naming_choice(stamp.name.as_ref()?, wrong, i);
    // Two images of the same stamp are not independent, so the stamp is the unit.
    Some((scene.image, stamp.path.clone(), vec![question]))
}

fn text(s: &mut Stream, source: &Source, i: usize) -> Option<Asked> {
    let writing = Writing::draw(s, &source.test.photographs)?;
    let question = writing.choice(s, i);
    Some((writing.image, format!("{i:05}"), vec![question]))
}

fn count(s: &mut Stream, source: &Source, i: usize) -> Option<Asked> {
    let (scene, kind, n) = counted(s, source, &source.test, i)?;
    Some((scene.image, format!("{i:05}"), vec![ask::count(kinds::plural(kind), n)]))
}

fn relation(s: &mut Stream, source: &Source, i: usize) -> Option<Asked> {
    let side = &source.test;
    let k = dice::within(s, 2, 3) as usize;
    let numbers = different(s, source, side, k)?;
    let scene = Scene::draw(s, &source.stamps, &numbers, Layout::Apart, &side.photographs)?;
    let wanted = *Relation::ALL.get(i % Relation::ALL.len())?;
    (scene.relation(0, 1)? == wanted).then_some(())?;
    let called = Called::new(&scene, &source.stamps);
    let [a, b] = [called.kind(0)?, called.kind(1)?].map(kinds::name);
    Some((scene.image, format!("{i:05}"), vec![ask::relation(a, b, wanted)]))
}

fn occlusion(s: &mut Stream, source: &Source, i: usize) -> Option<Asked> {
    let side = &source.test;
    let numbers = different(s, source, side, 2)?;
    let scene = Scene::draw(s, &source.stamps, &numbers, Layout::Overlapping, &side.photographs)?;
    let called = Called::new(&scene, &source.stamps);
    let [behind, front] = [called.kind(0)?, called.kind(1)?].map(kinds::name);
    Some((scene.image, format!("{i:05}"), vec![ask::in_front(front, behind, i)]))
}

/// Draws `1 + i % MOST` objects of one kind, first in the scene, and up to two of another kind.
fn counted(s: &mut Stream, source: &Source, side: &Side, i: usize) -> Option<(Scene, usize, usize)> {
    let n = 1 + i % MOST;
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
    let scene = Scene::draw(s, &source.stamps, &numbers, Layout::Apart, &side.photographs)?;
    Some((scene, kind, n))
}

/// Draws `k` stamps of different kinds that may occur together, in random order.
fn different(s: &mut Stream, source: &Source, side: &Side, k: usize) -> Option<Vec<usize>> {
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
        numbers.iter().filter_map(|n| Some(source.stamps.get(*n)?.name.as_ref()?.head())).collect();
    let clear = heads.iter().enumerate().all(|(i, h)| !heads.iter().skip(i + 1).any(|o| o == h));
    (numbers.len() == k && clear).then_some(numbers)
}

fn kinds_in(source: &Source, scene: &Scene) -> Vec<usize> {
    scene.items.iter().filter_map(|i| source.stamps.get(i.stamp)?.kind).collect()
}

/// Asks whether a kind is present; the answer is yes for an even `turn`. Absent kinds are those that may occur together
/// with all that are shown.
fn presence_of_kind(s: &mut Stream, side: &Side, shown: &[usize], turn: usize) -> Option<Question> {
    if turn.is_multiple_of(2) {
        return Some(ask::kind_present(*dice::try_pick(s, shown)?, true));
    }
    let absent: Vec<usize> =
        side.present().into_iter().filter(|k| shown.iter().all(|other| may_meet(*k, *other))).collect();
    Some(ask::kind_present(*dice::try_pick(s, &absent)?, false))
}

/// Asks whether a kind is present, with a random answer as far as the kinds allow.
fn presence_by_coin(s: &mut Stream, side: &Side, shown: &[usize]) -> Option<Question> {
    let turn = dice::below(s, 2);
    // A failed draw is tried once more before the other answer is used.
    (0..4).find_map(|k| presence_of_kind(s, side, shown, turn + k / 2))
}

/// Asks whether an object of this name, or of another, is present; the answer is yes for an even `turn`.
fn presence_of_name(s: &mut Stream, source: &Source, stamp: &Stamp, turn: usize) -> Option<Question> {
    if turn.is_multiple_of(2) {
        return Some(ask::name_present(stamp.name.as_ref()?, true));
    }
    let others: Vec<usize> = source.train.named.iter().copied().filter(|n| differ(source, *n, stamp)).collect();
    let other = source.stamps.get(*dice::try_pick(s, &others)?)?;
    Some(ask::name_present(other.name.as_ref()?, false))
}

/// Returns whether another stamp's name is surely wrong for `stamp`: its last word is neither in the caption nor
/// similar to a word in it.
fn differ(source: &Source, number: usize, stamp: &Stamp) -> bool {
    let Some(head) = source.stamps.get(number).and_then(|o| o.name.as_ref()).map(Name::head) else { return false };
    !bare_words(&stamp.caption).iter().any(|own| are_alike(own, &head))
}

/// Draws `k` other names: one of the same kind (or folder) if there is one, the rest from elsewhere.
fn other_names(s: &mut Stream, source: &Source, from: &[usize], stamp: &Stamp, k: usize) -> Option<Vec<String>> {
    let mut candidates: Vec<usize> = from.iter().copied().filter(|n| differ(source, *n, stamp)).collect();
    dice::shuffle(s, &mut candidates);
    let near = |number: &usize| {
        source.stamps.get(*number).is_some_and(|o| match stamp.kind {
            Some(kind) => o.kind == Some(kind),
            None => o.folder() == stamp.folder(),
        })
    };
    // Takes one similar name if there is one, then dissimilar ones, then fills up with similar ones.
    let (near, far): (Vec<usize>, Vec<usize>) = candidates.into_iter().partition(near);
    let mut heads: Vec<String> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    let mut take = |list: &[usize], until: usize, names: &mut Vec<String>| {
        for name in list.iter().filter_map(|n| source.stamps.get(*n)?.name.as_ref()) {
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
