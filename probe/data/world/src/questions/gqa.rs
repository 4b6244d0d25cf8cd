//! `nano-gqa`: short open questions about things, their colours and their relations.

use burgess_base::stream::Stream;

use super::question::Question;
use super::unit::{BenchmarkUnit, draw_test_unit};
use crate::flat::{self, FlatScene, ItemSpec, Relation};
use crate::scene::{Content, Scene};
use crate::solids::SolidScene;
use crate::{dice, palette};

const SUBTASKS: [&str; 4] = ["object", "color", "relation", "which"];

/// Draws a training question.
pub fn ask(scene: &Scene, s: &mut Stream) -> Option<Question> {
    let subtask = *dice::pick(s, &SUBTASKS);
    question(subtask, &scene.content, s)
}

/// Subtask of questions for the colour of one of several things. The questions of "color" are about an image of one thing,
/// as the direct probe of colours is: they ask for the colour alone, these also which thing has it.
const AMONG: &str = "color-among";

/// Draws a unit of one image and one question; colours take turns as answers.
pub fn unit(s: &mut Stream, index: usize) -> BenchmarkUnit {
    let subtask = SUBTASKS[index % SUBTASKS.len()];
    let target = index / SUBTASKS.len();
    let colour = palette::name((target % palette::COLOURS.len()) as u8);
    let among = subtask == "color" && !(target / palette::COLOURS.len()).is_multiple_of(2);
    let alone = subtask == "object" || (subtask == "color" && !among);
    draw_test_unit(s, |s| {
        let content = if among && target % 4 == 3 {
            Content::Solids(SolidScene::draw(s))
        } else {
            let k = if alone { 1 } else { dice::within(s, 2, 4) as usize };
            let specs: Vec<ItemSpec> = flat::different_things(s, k).into_iter().map(|t| ItemSpec::of(s, t)).collect();
            Content::Flat(FlatScene::of(s, &specs))
        };
        let q = question(subtask, &content, s)?;
        let q = if among { Question { subtask: AMONG, ..q } } else { q };
        (subtask != "color" || q.answer == colour).then(|| (content, vec![q]))
    })
}

fn question(subtask: &'static str, content: &Content, s: &mut Stream) -> Option<Question> {
    match (subtask, content) {
        ("object", Content::Flat(f)) => {
            let [item] = f.items.as_slice() else { return None };
            Some(Question::short(subtask, "What is this?", &item.what().name))
        }
        ("color", Content::Flat(f)) => {
            let item = &f.items[*dice::try_pick(s, &f.unique())?];
            Some(Question::short(subtask, color_text(item), palette::name(item.colour)))
        }
        ("color", Content::Solids(c)) => {
            let single: Vec<_> =
                c.solids.iter().filter(|x| c.solids.iter().filter(|o| o.form == x.form).count() == 1).collect();
            let solid = *dice::try_pick(s, &single)?;
            Some(Question::short(
                subtask,
                format!("What color is the {}?", solid.form.name()),
                palette::name(solid.colour),
            ))
        }
        ("relation", Content::Flat(f)) => {
            let reference = *dice::try_pick(s, &f.unique())?;
            let relation = *dice::pick(s, &Relation::ALL);
            let found = only_one(f, reference, relation)?;
            let text = format!("What is {} the {}?", relation.words(), f.items[reference].what().name);
            Some(Question::short(subtask, text, &f.items[found].what().name))
        }
        ("which", Content::Flat(f)) => {
            if f.items.len() < 2 {
                return None;
            }
            let item = dice::try_pick(s, &f.items)?;
            (f.items.iter().filter(|i| i.colour == item.colour).count() == 1).then(|| {
                Question::short(
                    subtask,
                    format!("What is the {} thing?", palette::name(item.colour)),
                    &item.what().name,
                )
            })
        }
        ("which", Content::Solids(c)) => {
            let solid = dice::try_pick(s, &c.solids)?;
            (c.solids.iter().filter(|x| x.colour == solid.colour).count() == 1).then(|| {
                Question::short(
                    subtask,
                    format!("What is the {} thing?", palette::name(solid.colour)),
                    solid.form.name(),
                )
            })
        }
        _ => None,
    }
}

/// Returns the question for the colour of an item: "What color is the dog?", "What color are the grapes?"
pub fn color_text(item: &flat::FlatItem) -> String {
    let name = &item.what().name;
    format!("What color {} the {name}?", item.what().is())
}

/// Returns the item in that direction of `reference`, if it is the only one there and the relation is clear.
fn only_one(f: &FlatScene, reference: usize, relation: Relation) -> Option<usize> {
    let r = &f.items[reference];
    let beyond = |i: usize| {
        let o = &f.items[i];
        match relation {
            Relation::Left => o.x < r.x,
            Relation::Right => o.x > r.x,
            Relation::Above => o.y < r.y,
            Relation::Below => o.y > r.y,
        }
    };
    let mut there = (0..f.items.len()).filter(|&i| i != reference && beyond(i));
    let found = there.next()?;
    (there.next().is_none() && f.relation(found, reference) == Some(relation)).then_some(found)
}
