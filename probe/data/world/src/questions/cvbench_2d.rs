//! `nano-cvbench-2d`: counts and spatial relations, answered with the text of an option.

use burgess_base::stream::Stream;

use super::question::Question;
use super::unit::{BenchmarkUnit, draw_test_unit};
use crate::dice;
use crate::facts::thing;
use crate::flat::{self, FlatScene, ItemSpec, Relation};
use crate::scene::{Content, Scene};

/// Range of the counts that are asked for.
const COUNTS: std::ops::RangeInclusive<usize> = 1..=4;

/// Draws a training question about a flat image.
pub fn ask(scene: &Scene, s: &mut Stream) -> Option<Question> {
    let Content::Flat(f) = &scene.content else { return None };
    let place = dice::below(s, 4);
    if dice::chance(s, 50) {
        let t = dice::try_pick(s, &f.items)?.thing;
        let n = f.count(t);
        // Most things occur once; without this, most answers would be "1".
        if !thing(t).countable || !COUNTS.contains(&n) || (n == 1 && dice::chance(s, 85)) {
            return None;
        }
        let others: Vec<usize> = COUNTS.filter(|k| *k != n).collect();
        let wrong = dice::sample(s, &others, 3);
        Some(count(t, n, &wrong, place))
    } else {
        relation(f, place, s)
    }
}

/// Draws a unit of one image and one question; counts and relations take turns. The options are drawn before the image,
/// so that they do not depend on it.
pub fn unit(s: &mut Stream, index: usize) -> BenchmarkUnit {
    let place = index / 2 + index % 2;
    if index.is_multiple_of(2) {
        let options = dice::sample(s, &COUNTS.collect::<Vec<_>>(), 4);
        draw_test_unit(s, |s| {
            let specs = flat::counting(s, options[0]);
            let t = specs.first()?.thing;
            let f = FlatScene::of(s, &specs);
            Some((Content::Flat(f), vec![count(t, options[0], &options[1..], place)]))
        })
    } else {
        let wanted = Relation::ALL[(index / 4) % 4];
        draw_test_unit(s, |s| {
            let k = dice::within(s, 2, 4) as usize;
            let specs: Vec<ItemSpec> = flat::different_things(s, k).into_iter().map(|t| ItemSpec::of(s, t)).collect();
            let f = FlatScene::of(s, &specs);
            let q = relation(&f, place, s)?;
            let right = q.options.get(place % 2)?;
            (right == wanted.word()).then(|| (Content::Flat(f), vec![q]))
        })
    }
}

fn count(t: u16, n: usize, wrong: &[usize], place: usize) -> Question {
    let wrong = wrong.iter().map(usize::to_string).collect();
    Question::choice(
        "count",
        format!("How many {} are in the picture?", thing(t).plural()),
        n.to_string(),
        wrong,
        place,
    )
    .named()
}

fn relation(f: &FlatScene, place: usize, s: &mut Stream) -> Option<Question> {
    let pair = dice::sample(s, &f.unique(), 2);
    let &[a, b] = pair.as_slice() else { return None };
    let r = f.relation(a, b)?;
    let text = format!(
        "Where {} the {} relative to the {}?",
        f.items[a].what().is(),
        f.items[a].what().name,
        f.items[b].what().name
    );
    Some(Question::choice("relation", text, r.word().to_string(), vec![r.opposite().word().to_string()], place).named())
}
