//! What is shown and asked: captions and conversations to learn from, and the pictures of each benchmark.
//!
//! A function here makes one picture from a stream; nothing if this draw did not work out. What must be balanced (the number
//! of things, the relation, who is in front) follows from the picture's number and not from the draw, so that draws that do
//! not work out cannot tilt it.

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

/// A picture, the unit it belongs to (what is independent of other units), and its questions.
type Asked = (RgbImage, String, Vec<Question>);

/// A benchmark.
pub struct Part {
    /// Its id.
    pub name: &'static str,
    /// Whether there is the material for it.
    pub possible: fn(&Source) -> bool,
    /// Picture number `i`.
    pub draw: fn(&mut Stream, &Source, usize) -> Option<Asked>,
}

/// Every benchmark that is composed here; `field-cocoqa` is taken as it is.
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

/// In the align stage one picture in so many is captioned, the others are asked for the kind of what they show.
const CAPTIONS_ONE_IN: usize = 6;

/// A single stamp with what is asked of it: a caption, or its kind. Captions alone teach slowly: of their many words few are in
/// the picture.
pub fn aligned(s: &mut Stream, source: &Source, i: usize) -> Option<(RgbImage, Question)> {
    let side = &source.train;
    if i.is_multiple_of(CAPTIONS_ONE_IN) {
        // Every stamp comes before any comes again.
        let number = *side.captioned.get((i / CAPTIONS_ONE_IN) % side.captioned.len().max(1))?;
        let picture = alone(s, source, number, side)?.picture;
        return Some((picture, ask::caption(s, &source.stamps.get(number)?.caption)));
    }
    let (number, kind) = of_some_kind(s, side)?;
    Some((alone(s, source, number, side)?.picture, ask::kind(kind, &side.present())))
}

/// A stamp of some kind, every kind as often.
fn of_some_kind(s: &mut Stream, side: &Side) -> Option<(usize, usize)> {
    let kind = *dice::try_pick(s, &side.present())?;
    Some((*dice::try_pick(s, side.kinds.get(kind)?)?, kind))
}

fn alone(s: &mut Stream, source: &Source, number: usize, side: &Side) -> Option<Scene> {
    Scene::draw(s, &source.stamps, &[number], Layout::Apart, &side.photographs)
}

/// A picture with up to `n` questions, those that tell more later. One in sixteen holds something written, nine hold one
/// thing, the others some of the same, two or three different ones, or two of which one lies in front.
pub fn conversation(s: &mut Stream, source: &Source, i: usize, n: usize) -> Option<(RgbImage, Vec<Question>)> {
    let side = &source.train;
    let (picture, mut pool) = match i % 16 {
        0 if !side.photographs.is_empty() => {
            let writing = Writing::draw(s, &side.photographs)?;
            let place = dice::below(s, 4);
            let question = if dice::chance(s, 50) { writing.open() } else { writing.choice(s, place) };
            (writing.picture, vec![question])
        }
        0..=9 => learn_name(s, source, i)?,
        10 | 11 => learn_count(s, source, i)?,
        12 => learn_occlusion(s, source)?,
        _ => learn_relation(s, source)?,
    };
    dice::shuffle(s, &mut pool);
    pool.truncate(n.max(1));
    pool.sort_by_key(Question::tells);
    Some((picture, pool))
}

/// One thing: of which kind it is, and in one of three pictures whether something of a kind is there, in one what the thing is
/// called. The kind is soon learned, and other answers follow from it.
fn learn_name(s: &mut Stream, source: &Source, i: usize) -> Option<(RgbImage, Vec<Question>)> {
    let side = &source.train;
    if i % 3 < 2 {
        let (number, kind) = of_some_kind(s, side)?;
        let mut pool = vec![ask::kind(kind, &side.present())];
        if i % 3 == 1 {
            pool.extend(presence_by_coin(s, side, &[kind]));
        }
        return Some((alone(s, source, number, side)?.picture, pool));
    }
    let number = *dice::try_pick(s, &side.named)?;
    let stamp = source.stamps.get(number)?;
    let kind = stamp.kind.map(|kind| ask::kind(kind, &side.present()));
    let pool = kind.into_iter().chain([learned_name(s, source, stamp)?]).collect();
    Some((alone(s, source, number, side)?.picture, pool))
}

/// What a thing is called: whether it is that, which of four names it has, or in the model's own words.
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
    // By name at times, where all of the kind are of one stamp whose name has a plural.
    let called = Called::new(&scene, &source.stamps);
    let same = scene.items.iter().take(n).all(|item| scene.items.first().is_some_and(|f| f.stamp == item.stamp));
    let name = called.name(0).filter(|name| same && name.is_countable());
    pool.push(match name {
        Some(name) if dice::chance(s, 30) => ask::count(&name.plural(), n),
        _ => ask::count(kinds::plural(kind), n),
    });
    Some((scene.picture, pool))
}

fn learn_occlusion(s: &mut Stream, source: &Source) -> Option<(RgbImage, Vec<Question>)> {
    let numbers = different(s, source, &source.train, 2)?;
    let scene = Scene::draw(s, &source.stamps, &numbers, Layout::Overlapping, &source.train.photographs)?;
    let called = Called::new(&scene, &source.stamps);
    let [behind, front] = called.two(s, 0, 1)?;
    let mut pool: Vec<Question> = presence_by_coin(s, &source.train, &kinds_in(source, &scene)).into_iter().collect();
    pool.push(ask::in_front(&front, &behind, dice::below(s, 2)));
    Some((scene.picture, pool))
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
    // One question only: of two about the same things the second follows from the first.
    let (relation, [first, second]) =
        pairs.into_iter().find_map(|(a, b)| scene.relation(a, b).zip(called.two(s, a, b)))?;
    pool.push(match k == 2 && dice::chance(s, 25) {
        true => ask::beside(&first, &second, relation),
        false => ask::relation(&first, &second, relation),
    });
    Some((scene.picture, pool))
}

fn presence(s: &mut Stream, source: &Source, i: usize) -> Option<Asked> {
    let side = &source.test;
    let k = dice::within(s, 1, 3) as usize;
    let numbers = different(s, source, side, k)?;
    let scene = Scene::draw(s, &source.stamps, &numbers, Layout::Apart, &side.photographs)?;
    let shown = kinds_in(source, &scene);
    // One question to affirm and one to deny, so that each answer is right equally often.
    let questions = vec![presence_of_kind(s, side, &shown, 0)?, presence_of_kind(s, side, &shown, 1)?];
    Some((scene.picture, format!("{i:05}"), questions))
}

fn kind(s: &mut Stream, source: &Source, i: usize) -> Option<Asked> {
    let side = &source.test;
    let present = side.present();
    // Every kind is right equally often.
    let kind = *present.get(i % present.len().max(1))?;
    let number = *dice::try_pick(s, side.kinds.get(kind)?)?;
    let scene = alone(s, source, number, side)?;
    let question = ask::kind(kind, &present);
    Some((scene.picture, source.stamps.get(number)?.path.clone(), vec![question]))
}

/// What was learned, in a new picture: another place, size and side, before a photograph that is only in benchmarks.
fn names(s: &mut Stream, source: &Source, i: usize) -> Option<Asked> {
    let side = &source.train;
    let number = *dice::try_pick(s, &side.named)?;
    let stamp = source.stamps.get(number)?;
    let scene = alone(s, source, number, &source.test)?;
    let wrong = other_names(s, source, &side.named, stamp, 3)?;
    Some((scene.picture, stamp.path.clone(), vec![ask::naming_choice(stamp.name.as_ref()?, wrong, i)]))
}

fn stamps(s: &mut Stream, source: &Source, i: usize) -> Option<Asked> {
    let side = &source.test;
    let number = *side.named.get(i % side.named.len().max(1))?;
    let stamp = source.stamps.get(number)?;
    let scene = alone(s, source, number, side)?;
    let wrong = other_names(s, source, &side.named, stamp, 3)?;
    let question = ask::naming_choice(stamp.name.as_ref()?, wrong, i);
    // The same stamp in front of something else is no independent question.
    Some((scene.picture, stamp.path.clone(), vec![question]))
}

fn text(s: &mut Stream, source: &Source, i: usize) -> Option<Asked> {
    let writing = Writing::draw(s, &source.test.photographs)?;
    let question = writing.choice(s, i);
    Some((writing.picture, format!("{i:05}"), vec![question]))
}

fn count(s: &mut Stream, source: &Source, i: usize) -> Option<Asked> {
    let (scene, kind, n) = counted(s, source, &source.test, i)?;
    Some((scene.picture, format!("{i:05}"), vec![ask::count(kinds::plural(kind), n)]))
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
    Some((scene.picture, format!("{i:05}"), vec![ask::relation(a, b, wanted)]))
}

fn occlusion(s: &mut Stream, source: &Source, i: usize) -> Option<Asked> {
    let side = &source.test;
    let numbers = different(s, source, side, 2)?;
    let scene = Scene::draw(s, &source.stamps, &numbers, Layout::Overlapping, &side.photographs)?;
    let called = Called::new(&scene, &source.stamps);
    let [behind, front] = [called.kind(0)?, called.kind(1)?].map(kinds::name);
    Some((scene.picture, format!("{i:05}"), vec![ask::in_front(front, behind, i)]))
}

/// `1 + i % MOST` things of a kind, the first in the scene, and up to two of another kind.
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
    // Those that are counted come first in the list, but must not always lie behind or be placed first: nothing overlaps,
    // and sizes depend on the number of things alone.
    let scene = Scene::draw(s, &source.stamps, &numbers, Layout::Apart, &side.photographs)?;
    Some((scene, kind, n))
}

/// `k` stamps of different kinds that may meet, in random order.
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
    // Two things whose names have a word in common could be mistaken for each other.
    let heads: Vec<String> =
        numbers.iter().filter_map(|n| Some(source.stamps.get(*n)?.name.as_ref()?.head())).collect();
    let clear = heads.iter().enumerate().all(|(i, h)| !heads.iter().skip(i + 1).any(|o| o == h));
    (numbers.len() == k && clear).then_some(numbers)
}

fn kinds_in(source: &Source, scene: &Scene) -> Vec<usize> {
    scene.items.iter().filter_map(|i| source.stamps.get(i.stamp)?.kind).collect()
}

/// Whether a kind is there; `turn` even affirms. Absent kinds are those that may meet all that are shown.
fn presence_of_kind(s: &mut Stream, side: &Side, shown: &[usize], turn: usize) -> Option<Question> {
    if turn.is_multiple_of(2) {
        return Some(ask::kind_present(*dice::try_pick(s, shown)?, true));
    }
    let absent: Vec<usize> =
        side.present().into_iter().filter(|k| shown.iter().all(|other| may_meet(*k, *other))).collect();
    Some(ask::kind_present(*dice::try_pick(s, &absent)?, false))
}

/// Such a question, to be affirmed or denied by the toss of a coin as far as there are kinds.
fn presence_by_coin(s: &mut Stream, side: &Side, shown: &[usize]) -> Option<Question> {
    let turn = dice::below(s, 2);
    // A draw that comes to nothing is tried once more before the other answer.
    (0..4).find_map(|k| presence_of_kind(s, side, shown, turn + k / 2))
}

/// Whether a thing of this name, or of another, is there.
fn presence_of_name(s: &mut Stream, source: &Source, stamp: &Stamp, turn: usize) -> Option<Question> {
    if turn.is_multiple_of(2) {
        return Some(ask::name_present(stamp.name.as_ref()?, true));
    }
    let others: Vec<usize> = source.train.named.iter().copied().filter(|n| differ(source, *n, stamp)).collect();
    let other = source.stamps.get(*dice::try_pick(s, &others)?)?;
    Some(ask::name_present(other.name.as_ref()?, false))
}

/// Whether a stamp's name can be denied of `stamp`: no last word that its caption has or that could be said of it.
fn differ(source: &Source, number: usize, stamp: &Stamp) -> bool {
    let Some(head) = source.stamps.get(number).and_then(|o| o.name.as_ref()).map(Name::head) else { return false };
    !bare_words(&stamp.caption).iter().any(|own| are_alike(own, &head))
}

/// `k` other names: one of the same kind (or folder) where there is one, the rest from anywhere else.
fn other_names(s: &mut Stream, source: &Source, from: &[usize], stamp: &Stamp, k: usize) -> Option<Vec<String>> {
    let mut candidates: Vec<usize> = from.iter().copied().filter(|n| differ(source, *n, stamp)).collect();
    dice::shuffle(s, &mut candidates);
    let near = |number: &usize| {
        source.stamps.get(*number).is_some_and(|o| match stamp.kind {
            Some(kind) => o.kind == Some(kind),
            None => o.folder() == stamp.folder(),
        })
    };
    // Near ones first; then alternate, so that one near name is there if there is any and others come from elsewhere.
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
