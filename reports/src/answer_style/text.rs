//! The answers' form as terminal text and as table cells.

use super::{AnswerShape, AnswerStyle, QuestionGroup};
use crate::formatting;
use crate::sheet::{Sheet, SheetCell, SheetRow};
use crate::stats::Estimate;
use crate::table::{paragraph_into, ruled};
use comfy_table::CellAlignment;

/// The columns of a table of answers' forms, after those that name the row.
pub(crate) const COLUMNS: [&str; 6] = ["n", "words", "one word %", "refuse %", "loop %", "at limit %"];

/// Formats the cells of [`COLUMNS`]: number of questions; median, tenth and ninetieth percentile of the words; shares
/// with their intervals.
pub(crate) fn cells(shape: &AnswerShape) -> [String; 6] {
    let share = |e: &Estimate| format!("{:.1} ({:.1}–{:.1})", e.value, e.low, e.high);
    let words = &shape.words;
    [
        shape.questions.to_string(),
        format!("{} ({}–{})", number(words.median), number(words.p10), number(words.p90)),
        share(&shape.one_word),
        share(&shape.refusals),
        share(&shape.loops),
        shape.at_limit.as_ref().map_or("–".to_string(), share),
    ]
}

fn number(n: f64) -> String {
    format!("{n:.1}").trim_end_matches(".0").to_string()
}

/// Formats how the models answer open questions as a table for a terminal of `width` columns, with sentences below. The
/// rows are arms in the order of `arms` (name, and name in text), and groups of questions within an arm.
pub fn style_block(style: &AnswerStyle, arms: &[(String, String)], width: usize, color: bool) -> String {
    let mut table = ruled(Some(width), color);
    table.set_header(["arm", "questions", "n", "words", "one\nword %", "refuse %", "loop %", "at\nlimit %"]);
    for (arm, label) in arms {
        let Some(found) = style.arms.get(arm) else { continue };
        let shapes = style.groups().into_iter().filter_map(|group| Some((group, found.groups.get(&group)?)));
        for (i, (group, shape)) in shapes.enumerate() {
            let name = if i == 0 { formatting::escaped(label, false).into_owned() } else { String::new() };
            let [n, words, one_word, ..] = cells(shape);
            let share = |e: &Estimate| format!("{:.1}", e.value);
            let limit = shape.at_limit.as_ref().map_or("–".to_string(), share);
            let numbers = [n, words, one_word, share(&shape.refusals), share(&shape.loops), limit];
            table.add_row([name, group.short_name().to_string()].into_iter().chain(numbers));
        }
    }
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if i < 2 { 2 } else { 1 }));
        column.set_cell_alignment(if i < 2 { CellAlignment::Left } else { CellAlignment::Right });
    }
    let mut text = String::new();
    let title = "How the models answer open questions (short: asked for a short answer; words: median, 10–90 %):";
    paragraph_into(&mut text, width, "", "", title);
    text.push_str(&format!("{}\n", table.trim_fmt()));
    for sentence in &style.said {
        paragraph_into(&mut text, width, "- ", "  ", sentence);
    }
    text
}

/// Returns how the models answer as a table for Markdown and LaTeX; rows as in [`style_block`].
pub(crate) fn style_sheet(style: &AnswerStyle, arms: &[(String, String)], study: &str) -> Sheet {
    let header = ["arm", "questions asked"].into_iter().chain(COLUMNS).map(String::from).collect();
    let row = |(arm, label): &(String, String)| -> Vec<SheetRow> {
        let Some(found) = style.arms.get(arm) else { return Vec::new() };
        let shapes = style.groups().into_iter().filter_map(|group| Some((group, found.groups.get(&group)?)));
        let cells = |(group, shape): (QuestionGroup, &AnswerShape)| -> SheetRow {
            let named = [label.clone(), group.name().to_string()].into_iter();
            named.chain(cells(shape)).map(SheetCell::from).collect()
        };
        shapes.map(cells).collect()
    };
    Sheet {
        caption: format!("How the models of the study {study} answer open questions."),
        label: format!("{study}-answers"),
        header,
        texts: 2,
        groups: vec![arms.iter().flat_map(row).collect()],
        notes: std::iter::once(
            "Words: median (10–90 %). Shares in percent, with confidence intervals over images.".into(),
        )
        .chain(style.said.iter().cloned())
        .collect(),
    }
}
