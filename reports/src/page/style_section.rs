//! The page section on how the models answer.

use crate::answer_style::{self, AnswerShape, AnswerStyle};
use crate::figure;
use crate::ranking::Ranking;
use serde::Serialize;

/// The values that fill the template.
#[derive(Serialize)]
pub(super) struct StyleSection {
    /// Sentences on what the numbers show.
    said: Vec<String>,
    /// One figure per group of open questions, as SVG.
    panels: Vec<String>,
    /// Names of the columns of numbers.
    columns: Vec<&'static str>,
    /// Number of open questions, of all questions.
    open: usize,
    all: usize,
    /// One row per arm and group of questions.
    groups: Vec<StyleRow>,
    /// One row per arm and benchmark.
    benchmarks: Vec<StyleRow>,
}

/// The answers of one arm to some questions.
#[derive(Serialize)]
struct StyleRow {
    /// Class of the arm's colour; empty in rows after its first.
    kind: &'static str,
    label: String,
    /// The group of questions, or the benchmark.
    of: String,
    cells: [String; 6],
}

/// Formats how the models answer for the template.
pub(super) fn shown(style: &AnswerStyle, r: &Ranking) -> StyleSection {
    let panel = |group| {
        let title = format!("One-word answers: {}", answer_style::QuestionGroup::name(group));
        figure::answer_panel(r, style, group).inline(&title, &figure::answers_in_words(r, style, group))
    };
    let of_arm = |rows: &dyn Fn(&str) -> Vec<(String, AnswerShape)>| -> Vec<StyleRow> {
        let arms = r.arms.iter().flat_map(|arm| {
            let row = |(i, (of, shape)): (usize, (String, AnswerShape))| StyleRow {
                kind: if i == 0 { figure::kind(arm).0 } else { "" },
                label: if i == 0 { arm.row_name() } else { String::new() },
                of,
                cells: answer_style::cells(&shape),
            };
            rows(&arm.arm).into_iter().enumerate().map(row).collect::<Vec<_>>()
        });
        arms.collect()
    };
    let groups = of_arm(&|arm| {
        let found = style.arms.get(arm);
        let shape =
            |group| Some((answer_style::QuestionGroup::name(group).to_string(), found?.groups.get(&group)?.clone()));
        style.groups().into_iter().filter_map(shape).collect()
    });
    let benchmarks = of_arm(&|arm| {
        let found = style.arms.get(arm).map(|s| &s.benchmarks);
        found.into_iter().flatten().map(|(name, shape)| (name.clone(), shape.clone())).collect()
    });
    StyleSection {
        said: style.said.clone(),
        panels: style.groups().into_iter().map(panel).collect(),
        columns: answer_style::COLUMNS.to_vec(),
        open: style.questions.open,
        all: style.questions.all,
        groups,
        benchmarks,
    }
}
