//! `nano-mme`: two yes/no questions per image, one with the answer yes and one with the answer no, as in MME.

use burgess_base::stream::Stream;

use super::question::Question;
use super::unit::{BenchmarkUnit, draw_test_unit};
use crate::chart::{ChartKind, ChartScene};
use crate::diagram::DiagramScene;
use crate::facts::{article, thing};
use crate::flat::{self, FlatScene, ItemSpec};
use crate::page::{self, TableScene, WritingScene};
use crate::scene::{Content, Scene};
use crate::{dice, palette};

const SUBTASKS: [&str; 6] = ["existence", "count", "color", "position", "OCR", "scene"];
const SCENES: [&str; 5] = ["bar chart", "line chart", "pie chart", "table", "diagram"];

/// Draws a training question of any subtask.
pub fn ask(scene: &Scene, s: &mut Stream) -> Option<Question> {
    let subtask = *dice::pick(s, &SUBTASKS);
    let [yes, no] = both(subtask, &scene.content, s)?;
    Some(if dice::chance(s, 50) { yes } else { no })
}

/// Draws a unit of one image and two questions.
pub fn unit(s: &mut Stream, index: usize) -> BenchmarkUnit {
    let subtask = SUBTASKS[index % SUBTASKS.len()];
    let target = index / SUBTASKS.len();
    draw_test_unit(s, |s| {
        let content = match subtask {
            "count" => {
                let specs = flat::counting(s, 2 + target % 3);
                Content::Flat(FlatScene::of(s, &specs))
            }
            "OCR" => Content::Writing(WritingScene::draw(s)),
            "scene" => match target % SCENES.len() {
                0 => Content::Chart(ChartScene::of(s, ChartKind::Bar)),
                1 => Content::Chart(ChartScene::of(s, ChartKind::Line)),
                2 => Content::Chart(ChartScene::of(s, ChartKind::Pie)),
                3 => Content::Table(TableScene::draw(s)),
                _ => Content::Diagram(DiagramScene::draw(s)),
            },
            _ => {
                let k = dice::within(s, 2, 4) as usize;
                let specs: Vec<ItemSpec> =
                    flat::different_things(s, k).into_iter().map(|t| ItemSpec::of(s, t)).collect();
                Content::Flat(FlatScene::of(s, &specs))
            }
        };
        let [yes, no] = both(subtask, &content, s)?;
        let questions = if dice::chance(s, 50) { vec![yes, no] } else { vec![no, yes] };
        Some((content, questions))
    })
}

/// Draws the question with the answer yes and the one with the answer no.
fn both(subtask: &'static str, content: &Content, s: &mut Stream) -> Option<[Question; 2]> {
    let (right, wrong) = match (subtask, content) {
        ("existence", Content::Flat(f)) => {
            let there = dice::try_pick(s, &f.items)?.thing;
            let absent = loop {
                let t = flat::any_thing(s);
                if f.count(t) == 0 {
                    break t;
                }
            };
            let text = |t: u16| format!("Is there {} in the picture?", thing(t).with_article(""));
            (text(there), text(absent))
        }
        ("existence", Content::Solids(c)) => {
            let there = dice::try_pick(s, &c.solids)?;
            let mut absent = there.clone();
            while c.solids.iter().any(|o| o.form == absent.form && o.colour == absent.colour) {
                absent.colour = palette::draw(s);
                absent.form = *dice::pick(s, &crate::solids::SolidForm::ALL);
            }
            let text = |x: &crate::solids::Solid| format!("Is there {} in the picture?", article(&x.phrase()));
            (text(there), text(&absent))
        }
        ("count", Content::Flat(f)) => {
            let several: Vec<u16> = f
                .items
                .iter()
                .map(|i| i.thing)
                .filter(|t| thing(*t).countable && (2..=4).contains(&f.count(*t)))
                .collect();
            let t = *dice::try_pick(s, &several)?;
            let n = f.count(t);
            let others: Vec<usize> = (2..=4).filter(|k| *k != n).collect();
            let text = |n: usize| format!("Are there {n} {} in the picture?", thing(t).plural());
            (text(n), text(*dice::pick(s, &others)))
        }
        ("color", Content::Flat(f)) => {
            let item = &f.items[*dice::try_pick(s, &f.unique())?];
            let verb = if item.what().is_plural() { "Are" } else { "Is" };
            let text = |c: u8| format!("{verb} the {} {}?", item.what().name, palette::name(c));
            (text(item.colour), text(other_colour(s, item.colour)))
        }
        ("color", Content::Solids(c)) => {
            let single: Vec<_> =
                c.solids.iter().filter(|x| c.solids.iter().filter(|o| o.form == x.form).count() == 1).collect();
            let solid = *dice::try_pick(s, &single)?;
            let text = |c: u8| format!("Is the {} {}?", solid.form.name(), palette::name(c));
            (text(solid.colour), text(other_colour(s, solid.colour)))
        }
        ("position", Content::Flat(f)) => {
            let pair = dice::sample(s, &f.unique(), 2);
            let &[a, b] = pair.as_slice() else { return None };
            let r = f.relation(a, b)?;
            let (a, b) = (f.items[a].what(), f.items[b].what());
            let verb = if a.is_plural() { "Are" } else { "Is" };
            let text = |r: flat::Relation| format!("{verb} the {} {} the {}?", a.name, r.words(), b.name);
            (text(r), text(r.opposite()))
        }
        ("OCR", Content::Writing(w)) => {
            let line = dice::try_pick(s, &w.lines)?;
            let wrong = loop {
                let other = other_text(s, &line.text);
                if w.lines.iter().all(|l| l.text != other) {
                    break other;
                }
            };
            let what = if line.is_number() { "number" } else { "word" };
            let text = |t: &str| format!("Is the {what} {t} in the picture?");
            (text(&line.text), text(&wrong))
        }
        ("scene", _) => {
            let kind = scene_kind(content)?;
            let others: Vec<&str> = SCENES.into_iter().filter(|k| *k != kind).collect();
            let other = *dice::pick(s, &others);
            let text = |k: &str| format!("Is this a {k}?");
            (text(kind), text(other))
        }
        _ => return None,
    };
    Some([Question::yes_no(subtask, right, true), Question::yes_no(subtask, wrong, false)])
}

fn scene_kind(content: &Content) -> Option<&'static str> {
    match content {
        Content::Chart(c) => Some(c.kind.name()),
        Content::Table(_) => Some("table"),
        Content::Diagram(_) => Some("diagram"),
        _ => None,
    }
}

fn other_colour(s: &mut Stream, not: u8) -> u8 {
    let others: Vec<u8> = (0..palette::COLOURS.len() as u8).filter(|c| *c != not).collect();
    *dice::pick(s, &others)
}

/// Draws a different word in the same case, or a different number with the same number of digits.
fn other_text(s: &mut Stream, not: &str) -> String {
    loop {
        let number = not.bytes().all(|b| b.is_ascii_digit());
        let text = if number { page::number(s) } else { page::word(s) };
        let text = if number {
            text
        } else if not.bytes().any(|b| b.is_ascii_uppercase()) {
            text.to_uppercase()
        } else {
            text.to_lowercase()
        };
        if text != not && (!number || text.len() == not.len()) {
            return text;
        }
    }
}
