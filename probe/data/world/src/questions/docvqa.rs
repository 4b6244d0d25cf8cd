//! `nano-docvqa`: words, numbers, signs, lines and table cells to be read; the answer is the text, scored by ANLS.

use burgess_base::stream::Stream;

use super::question::Question;
use super::unit::{BenchmarkUnit, draw_test_unit};
use crate::dice;
use crate::page::{self, TableScene, WritingScene};
use crate::scene::{Content, Scene};

const SUBTASKS: [&str; 4] = ["word", "number", "line", "table"];

/// Draws a training question about an image of text.
pub fn ask(scene: &Scene, s: &mut Stream) -> Option<Question> {
    let subtask = *dice::pick(s, &SUBTASKS);
    question(subtask, &scene.content, s)
}

/// Draws a unit of one image and one question.
pub fn unit(s: &mut Stream, index: usize) -> BenchmarkUnit {
    let subtask = SUBTASKS[index % SUBTASKS.len()];
    draw_test_unit(s, |s| {
        let texts = match subtask {
            "word" => vec![page::word(s)],
            "number" => vec![page::number(s)],
            _ => vec![page::word(s), if dice::chance(s, 50) { page::word(s) } else { page::number(s) }],
        };
        let content = if subtask == "table" {
            Content::Table(TableScene::draw(s))
        } else {
            Content::Writing(WritingScene::of(s, texts))
        };
        let q = question(subtask, &content, s)?;
        Some((content, vec![q]))
    })
}

fn question(subtask: &'static str, content: &Content, s: &mut Stream) -> Option<Question> {
    match (subtask, content) {
        ("word" | "number", Content::Writing(w)) => {
            let number = subtask == "number";
            let mut fitting = w.lines.iter().filter(|l| l.is_number() == number);
            let line = fitting.next()?;
            let text = if w.sign.is_some() {
                format!("What {subtask} is on the sign?")
            } else {
                format!("What {subtask} is written?")
            };
            fitting.next().is_none().then(|| Question::short(subtask, text, &line.text))
        }
        ("line", Content::Writing(w)) => {
            let [top, bottom] = w.lines.as_slice() else { return None };
            let (name, line) = if dice::chance(s, 50) { ("top", top) } else { ("bottom", bottom) };
            Some(Question::short(subtask, format!("What does the {name} line say?"), &line.text))
        }
        ("table", Content::Table(t)) => {
            let (r, c) = (dice::below(s, t.rows.len()), dice::below(s, t.columns.len()));
            let text = format!("What is in row {} and column {}?", t.rows[r], t.columns[c]);
            Some(Question::short(subtask, text, t.cells[r][c].to_string()))
        }
        _ => None,
    }
}
