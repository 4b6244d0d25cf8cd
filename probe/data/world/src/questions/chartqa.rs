//! `nano-chartqa`: questions that require reading and comparing the values of charts.

use burgess_base::stream::Stream;

use super::question::Question;
use super::unit::{BenchmarkUnit, draw_test_unit};
use crate::chart::{ChartKind, ChartScene, TOP};
use crate::scene::{Content, Scene};
use crate::{dice, palette};

const SUBTASKS: [&str; 5] = ["value", "largest", "smallest", "label", "color"];

/// Draws a training question about a chart.
pub fn ask(scene: &Scene, s: &mut Stream) -> Option<Question> {
    let Content::Chart(c) = &scene.content else { return None };
    let subtask = *dice::pick(s, &SUBTASKS);
    question(subtask, c, s)
}

/// Draws a unit of one chart and one question; values and colours take turns as answers.
pub fn unit(s: &mut Stream, index: usize) -> BenchmarkUnit {
    let subtask = SUBTASKS[index % SUBTASKS.len()];
    let turn = index / SUBTASKS.len();
    let kind = match subtask {
        "color" => [ChartKind::Pie, ChartKind::Bar][turn % 2],
        _ => [ChartKind::Bar, ChartKind::Line, ChartKind::Bar, ChartKind::Pie][turn % 4],
    };
    let target = match subtask {
        "value" => Some((1 + turn % usize::from(TOP)).to_string()),
        "color" => Some(palette::name((turn % palette::COLOURS.len()) as u8).to_string()),
        _ => None,
    };
    draw_test_unit(s, |s| {
        let c = ChartScene::of(s, kind);
        let q = question(subtask, &c, s)?;
        target.as_ref().is_none_or(|t| *t == q.answer).then(|| (Content::Chart(c), vec![q]))
    })
}

fn question(subtask: &'static str, c: &ChartScene, s: &mut Stream) -> Option<Question> {
    let i = dice::below(s, c.values.len());
    let (text, answer) = match subtask {
        "value" => (format!("What is the value of {}?", c.labels[i]), c.values[i].to_string()),
        "largest" => (format!("Which {} is the largest?", c.kind.mark()), c.labels[c.largest()].clone()),
        "smallest" => (format!("Which {} is the smallest?", c.kind.mark()), c.labels[c.smallest()].clone()),
        "label" => (format!("Which {} has the value {}?", c.kind.mark(), c.values[i]), c.labels[i].clone()),
        _ => {
            if !c.coloured() {
                return None;
            }
            (format!("What color is {}?", c.labels[i]), palette::name(c.colours[i]).to_string())
        }
    };
    Some(Question::short(subtask, text, answer))
}
