//! `nano-ai2d`: questions about labelled diagrams and chains, answered with the text of an option.

use burgess_base::stream::Stream;

use super::question::Question;
use super::unit::{BenchmarkUnit, draw_test_unit};
use crate::diagram::{DiagramLayout, DiagramScene};
use crate::dice;
use crate::facts::thing;
use crate::scene::{Content, Scene};

const SUBTASKS: [&str; 4] = ["letter", "label", "after", "before"];

/// Draws a training question about a diagram.
pub fn ask(scene: &Scene, s: &mut Stream) -> Option<Question> {
    let Content::Diagram(d) = &scene.content else { return None };
    let place = dice::below(s, 12);
    let subtask = *dice::pick(s, &SUBTASKS);
    question(subtask, d, place, s)
}

/// Draws a unit of one diagram and one question.
pub fn unit(s: &mut Stream, index: usize) -> BenchmarkUnit {
    let subtask = SUBTASKS[index % SUBTASKS.len()];
    let layout = |s: &mut Stream| match subtask {
        "letter" | "label" => DiagramLayout::Labelled,
        _ => DiagramLayout::chain(s),
    };
    let place = index % SUBTASKS.len() + index / SUBTASKS.len();
    draw_test_unit(s, |s| {
        let layout = layout(s);
        let d = DiagramScene::of(s, layout);
        let q = question(subtask, &d, place, s)?;
        Some((Content::Diagram(d), vec![q]))
    })
}

fn question(subtask: &'static str, d: &DiagramScene, place: usize, s: &mut Stream) -> Option<Question> {
    let i = dice::below(s, d.things.len());
    let name = |i: usize| thing(d.things[i]).name.clone();
    let (text, right, from): (String, String, Vec<String>) = match subtask {
        "letter" => {
            let letters: Vec<String> = d.letters.iter().map(char::to_string).collect();
            (format!("Which letter is at the {}?", name(i)), letters.get(i)?.clone(), letters)
        }
        "label" => {
            (format!("What is at the letter {}?", d.letters.get(i)?), name(i), (0..d.things.len()).map(name).collect())
        }
        _ => {
            let (word, to) = if subtask == "after" { ("after", d.next(i)?) } else { ("before", d.before(i)?) };
            (
                format!("What comes {word} the {}?", name(i)),
                name(to),
                (0..d.things.len()).filter(|&k| k != i).map(name).collect(),
            )
        }
    };
    let wrong: Vec<String> = from.into_iter().filter(|o| *o != right).collect();
    let wrong = dice::sample(s, &wrong, 3);
    Some(Question::choice(subtask, text, right, wrong, place).named())
}
