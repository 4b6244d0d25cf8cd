//! Answers of one word, and the median length of answers, one row per arm.

use super::score_panels::{LABELS, ROW, TOP, axis};
use super::style::{PANEL, kind};
use super::svg::{Svg, cut};
use crate::answer_style::{AnswerShape, AnswerStyle, QuestionGroup};
use crate::ranking::{AVERAGE, RankedArm, Ranking};

/// Returns the arms with answers to a group of questions, in the order of the ranking, baselines last.
fn rows<'a>(r: &'a Ranking, style: &'a AnswerStyle, group: QuestionGroup) -> Vec<(&'a RankedArm, &'a AnswerShape)> {
    let shape = |arm: &'a RankedArm| Some((arm, style.arms.get(&arm.arm)?.groups.get(&group)?));
    r.rows(AVERAGE).into_iter().filter_map(shape).collect()
}

/// Draws the share of answers of one word with its interval (dot), and the median length in words (number at the
/// right).
pub(crate) fn answer_panel(r: &Ranking, style: &AnswerStyle, group: QuestionGroup) -> Svg {
    let rows = rows(r, style, group);
    let mut svg = Svg::new(PANEL, TOP + ROW * rows.len() as f64 + 40.0);
    svg.text(0.0, 13.0, "head small", &cut(&heading(group), 46));
    svg.text(PANEL, 13.0, "soft small end", "words");
    let x = axis(&mut svg, (0.0, 100.0), PANEL, rows.len());
    for (i, (arm, shape)) in rows.iter().enumerate() {
        let y = TOP + ROW * (i as f64 + 0.5);
        svg.text(LABELS - 8.0, y + 4.0, "end", &cut(&arm.row_name(), 23));
        svg.whisker(x.at(shape.one_word.low), x.at(shape.one_word.high), y);
        svg.circle(x.at(shape.one_word.value), y, 4.6, kind(arm).0);
        svg.text(PANEL, y + 4.0, "end", &median(shape));
    }
    let bottom = TOP + ROW * rows.len() as f64 + 30.0;
    svg.text(x.at(50.0), bottom, "soft small mid", "answers of one word, in percent");
    svg
}

fn heading(group: QuestionGroup) -> String {
    match group {
        QuestionGroup::ExplanationShortForm => "Explanation asked for, and a short answer".into(),
        QuestionGroup::Explanation => "Explanation asked for".into(),
        QuestionGroup::Free => "Open, without response-format prompt".into(),
        QuestionGroup::ShortForm => "Open, with response-format prompt".into(),
        QuestionGroup::All | QuestionGroup::Open => crate::formatting::capitalised(group.name()),
    }
}

fn median(shape: &AnswerShape) -> String {
    format!("{:.1}", shape.words.median).trim_end_matches(".0").to_string()
}

/// Describes the figure in words, for screen readers.
pub(crate) fn answers_in_words(r: &Ranking, style: &AnswerStyle, group: QuestionGroup) -> String {
    let said = |(arm, shape): &(&RankedArm, &AnswerShape)| {
        format!("{}: {:.1} percent of one word, median {} words", arm.row_name(), shape.one_word.value, median(shape))
    };
    rows(r, style, group).iter().map(said).collect::<Vec<_>>().join("; ")
}
