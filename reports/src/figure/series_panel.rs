//! Figure of a series: the score of each arm with its interval, by what varies from arm to arm.

use super::style::{PANEL, STYLE, line_class};
use super::svg::{AxisScale, Svg, cut, tick_label, ticks};
use crate::answer_style::QuestionGroup;
use crate::ranking::{AVERAGE, Ranking};
use crate::series::{PointScores, SHOWN_GROUPS, SeriesScores};
use crate::stats::Estimate;

/// Height of the plotted area.
const HEIGHT: f64 = 190.0;
/// Distance between the points of two lines at one place.
const APART: f64 = 7.0;

/// Draws one scope with confidence intervals. The vertical axis need not begin at 0, because differences between the
/// arms are small.
pub(crate) fn series_panel(series: &SeriesScores, scope: &str, width: f64) -> Svg {
    let heading = if scope == AVERAGE { "Average of the categories" } else { scope };
    panel(series, heading, &|p| p.scores.get(scope).copied(), width)
}

/// Draws the share of answers of one word to a group of questions; `None` if no arm has answers to it.
pub(crate) fn series_answers_panel(series: &SeriesScores, group: QuestionGroup, width: f64) -> Option<Svg> {
    let there = series.points.iter().any(|p| p.one_word.contains_key(&group));
    let asked = match group {
        QuestionGroup::Explanation => "explanation asked for",
        QuestionGroup::Free => "open questions",
        other => other.name(),
    };
    let heading = format!("Answers of one word, %: {asked}");
    there.then(|| panel(series, &heading, &|p| p.one_word.get(&group).copied(), width))
}

/// Describes the figure of answers of one word in words, for screen readers.
pub(crate) fn series_answers_in_words(series: &SeriesScores, group: QuestionGroup) -> String {
    let said = series.points.iter().filter_map(|p| Some(format!("{}: {:.1}", p.label, p.one_word.get(&group)?.value)));
    said.collect::<Vec<_>>().join("; ")
}

/// Draws values of the points of a series; points without a value are left out.
fn panel(series: &SeriesScores, heading: &str, value: &dyn Fn(&PointScores) -> Option<Estimate>, width: f64) -> Svg {
    let lines = series.lines();
    let named = lines.len() > 1;
    let (left, right, top) = (38.0, width - 12.0, if named { 44.0 } else { 28.0 });
    let bottom = top + HEIGHT;
    let mut svg = Svg::new(width, bottom + 40.0);
    svg.text(0.0, 13.0, "head", heading);
    let shown: Vec<(&PointScores, Estimate)> = series.points.iter().filter_map(|p| Some((p, value(p)?))).collect();
    let marks = shown.iter().flat_map(|(_, e)| [e.value, e.low, e.high]).filter(|m| m.is_finite());
    let (low, high) = marks.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), m| (l.min(m), h.max(m)));
    let (low, high) = if low < high { (low, high) } else { (low - 1.0, low + 1.0) };
    let space = (0.06 * (high - low)).max(0.5);
    let y = AxisScale::linear((low - space, high + space), (bottom, top));
    for tick in ticks(low - space, high + space, 5) {
        svg.line(left, y.at(tick), right, y.at(tick), "grid");
        svg.text(left - 5.0, y.at(tick) + 4.0, "soft small end", &tick_label(tick).replace('-', "−"));
    }
    let x = horizontal(series, left, right);
    for (place, label) in labels(series) {
        svg.line(x.at(place), bottom, x.at(place), bottom + 4.0, "axis");
        svg.text(x.at(place), bottom + 16.0, "soft small mid", &cut(&label, 12));
    }
    svg.text((left + right) / 2.0, bottom + 32.0, "soft small mid", &cut(&series.axis, 56));
    for (i, line) in lines.iter().enumerate() {
        let aside = APART * (i as f64 - (lines.len() as f64 - 1.0) / 2.0);
        let aside = if named { aside } else { 0.0 };
        let points = || shown.iter().filter(|(p, _)| p.line == *line).map(|(p, e)| (x.at(p.x) + aside, e));
        for (place, e) in points() {
            svg.line(place, y.at(e.low), place, y.at(e.high), "whisker thin");
        }
        // Without numbers on the axis, a line would suggest an order.
        if series.numeric {
            svg.polyline(&points().map(|(place, e)| (place, y.at(e.value))).collect::<Vec<_>>(), &line_class(i));
        }
        points().for_each(|(place, e)| svg.circle(place, y.at(e.value), 3.8, &format!("p{}", i % 8)));
        if named {
            let at = left + i as f64 * (right - left) / lines.len() as f64;
            svg.circle(at + 4.0, 28.0, 3.8, &format!("p{}", i % 8));
            svg.text(at + 13.0, 32.0, "small", &cut(line, 18));
        }
    }
    svg
}

/// The horizontal scale, with space at both ends.
fn horizontal(series: &SeriesScores, left: f64, right: f64) -> AxisScale {
    let places = series.points.iter().map(|p| p.x);
    let (least, most) = places.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, m), x| (l.min(x), m.max(x)));
    let space = 24.0;
    match series.logarithmic {
        true => AxisScale::log((least, most), (left + space, right - space)),
        false => AxisScale::linear((least, most), (left + space, right - space)),
    }
}

/// The places on the axis with their names, each once.
fn labels(series: &SeriesScores) -> Vec<(f64, String)> {
    let mut labels: Vec<(f64, String)> = Vec::new();
    for point in &series.points {
        if !labels.iter().any(|(place, _)| (place - point.x).abs() < f64::EPSILON) {
            labels.push((point.x, point.label.clone()));
        }
    }
    labels
}

/// Describes the figure in words, for screen readers.
pub(crate) fn series_in_words(series: &SeriesScores, scope: &str) -> String {
    let said = series.points.iter().filter_map(|p| {
        let e = p.scores.get(scope)?;
        let line = if p.line.is_empty() { String::new() } else { format!("{}, ", p.line) };
        Some(format!("{line}{}: {:.1} [{:.1}, {:.1}]", p.label, e.value, e.low, e.high))
    });
    said.collect::<Vec<_>>().join("; ")
}

/// Draws all series as a standalone file: for each the average, then the categories.
pub fn series_svg(all: &[SeriesScores], r: &Ranking) -> String {
    let width = 2.0 * PANEL + 40.0;
    let mut body = Svg::new(width, 0.0);
    let mut y = 12.0;
    for series in all {
        body.text(12.0, y + 12.0, "head", &series.title);
        y += 28.0;
        let scopes: Vec<&str> = std::iter::once(AVERAGE).chain(r.categories.iter().map(|c| c.as_str())).collect();
        let scores = scopes.iter().map(|scope| series_panel(series, scope, PANEL));
        let answers = SHOWN_GROUPS.iter().filter_map(|group| series_answers_panel(series, *group, PANEL));
        for pair in scores.chain(answers).collect::<Vec<_>>().chunks(2) {
            let mut tallest: f64 = 0.0;
            for (i, panel) in pair.iter().enumerate() {
                body.nest(panel, 12.0 + i as f64 * (PANEL + 16.0), y);
                tallest = tallest.max(panel.height());
            }
            y += tallest + 16.0;
        }
    }
    body.set_height(y);
    let said: Vec<String> = all.iter().map(|s| format!("{}: {}", s.title, series_in_words(s, AVERAGE))).collect();
    body.standalone("Series of arms", &said.join(". "), STYLE)
}
