//! Cumulative counts of the entries of a training set by source: the tail of small sources, and what a threshold cuts.

use super::style::{PANEL, STYLE, line_class};
use super::svg::{AxisScale, Svg, cut, tick_label, ticks};
use serde::{Deserialize, Serialize};

/// A line of the figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CumulativeCounts {
    /// What the line shows, for its label.
    pub name: String,
    /// Cumulative number of entries after each source; the sources are those of the figure.
    pub counts: Vec<u64>,
    /// Whether the line is one to compare with, drawn thin.
    pub is_reference: bool,
}

/// Largest number of sources that are named in the figure.
const NAMED: usize = 6;
/// Vertical distance of labels, in SVG units.
const LABEL_STEP: f64 = 15.0;

/// Draws the figure in the page's style; `sources` are sorted from the smallest to the largest.
pub(crate) fn cumulative_counts(sources: &[String], lines: &[CumulativeCounts], width: f64) -> String {
    let (svg, title, said) = drawn(sources, lines, width);
    svg.inline(&title, &said)
}

/// Draws the figure as a file of its own; `sources` are sorted from the smallest to the largest.
pub fn cumulative_counts_svg(sources: &[String], lines: &[CumulativeCounts]) -> String {
    let (svg, title, said) = drawn(sources, lines, 2.0 * PANEL + 40.0);
    svg.standalone(&title, &said, STYLE)
}

fn drawn(sources: &[String], lines: &[CumulativeCounts], width: f64) -> (Svg, String, String) {
    let title = "Cumulative entries by source".to_string();
    let narrow = width < 1.5 * PANEL;
    let label_width = if narrow { 106.0 } else { 150.0 };
    let (left, right, top, bottom) = (46.0, width - label_width, 34.0, if narrow { 250.0 } else { 340.0 });
    let mut svg = Svg::new(width, bottom + 42.0);
    svg.text(8.0, 17.0, "head", &title);
    let last = |line: &CumulativeCounts| line.counts.last().copied().unwrap_or(0);
    let most = lines.iter().map(last).max().unwrap_or(0).max(1) as f64;
    let x = AxisScale::linear((0.0, sources.len().max(1) as f64), (left, right));
    let y = AxisScale::linear((0.0, most * 1.03), (bottom, top));
    for tick in ticks(0.0, most * 1.03, 6) {
        svg.line(left, y.at(tick), right, y.at(tick), "grid");
        svg.text(left - 6.0, y.at(tick) + 4.0, "soft small end", &tick_label(tick));
    }
    for tick in ticks(0.0, sources.len() as f64, if narrow { 4 } else { 8 }) {
        svg.text(x.at(tick), bottom + 17.0, "soft small mid", &tick_label(tick));
    }
    let axis = "sources, from the smallest to the largest";
    svg.text((left + right) / 2.0, bottom + 35.0, "soft small mid", axis);
    let class = |at: usize, line: &CumulativeCounts| {
        let thin = if line.is_reference { " thin" } else { "" };
        format!("{}{thin}", line_class(at))
    };
    for (at, line) in lines.iter().enumerate() {
        let mut points = vec![(x.at(0.0), y.at(0.0))];
        points.extend(line.counts.iter().zip(1..).map(|(count, n)| (x.at(f64::from(n)), y.at(*count as f64))));
        svg.polyline(&points, &class(at, line));
    }
    if let Some(first) = lines.first() {
        name_sources(&mut svg, sources, first, (&x, &y), narrow);
    }
    // The labels beside the ends of the lines, from top to bottom, without overlaps.
    let mut order: Vec<(usize, &CumulativeCounts)> = lines.iter().enumerate().collect();
    order.sort_by(|a, b| last(b.1).cmp(&last(a.1)).then(a.0.cmp(&b.0)));
    let mut place = top - LABEL_STEP;
    for (rest, (at, line)) in (0..order.len()).rev().zip(order) {
        let end = y.at(last(line) as f64);
        let lowest = bottom - LABEL_STEP * rest as f64;
        place = (place + LABEL_STEP).max(end.min(lowest));
        svg.line(right, end, right + 10.0, place, &class(at, line));
        let label = format!("{} {}", cut(&line.name, if narrow { 9 } else { 14 }), tick_label(last(line) as f64));
        svg.text(right + 14.0, place + 4.0, if line.is_reference { "soft small" } else { "small" }, &label);
    }
    let said: Vec<String> = lines.iter().map(|line| format!("{}: {} entries", line.name, last(line))).collect();
    (svg, title, said.join("; "))
}

/// Names the largest sources beside the first line, where it rises.
fn name_sources(
    svg: &mut Svg,
    sources: &[String],
    line: &CumulativeCounts,
    (x, y): (&AxisScale, &AxisScale),
    narrow: bool,
) {
    let mut below = f64::INFINITY;
    let named = if narrow { NAMED / 2 } else { NAMED };
    for (at, (source, count)) in sources.iter().zip(&line.counts).enumerate().rev().take(named) {
        let before = at.checked_sub(1).and_then(|before| line.counts.get(before)).copied().unwrap_or(0);
        let middle = (y.at(*count as f64) + y.at(before as f64)) / 2.0;
        // From top to bottom; a name that would touch the one above moves down.
        let place = if below.is_finite() { middle.max(below + 13.0) } else { middle };
        below = place;
        let (px, end) = (x.at(at as f64 + 0.5), x.at(at as f64 + 0.5) - 12.0);
        svg.line(end, place, px, middle, "link faint");
        svg.text(end - 3.0, place + 4.0, "soft small end", &cut(source, if narrow { 12 } else { 22 }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_labels_are_drawn_for_any_counts() {
        let sources: Vec<String> = (0..20).map(|i| format!("source <{i}>")).collect();
        let line = |name: &str, step: u64| CumulativeCounts {
            name: name.into(),
            counts: (1..=20).map(|i| step * i * i).collect(),
            is_reference: step == 1,
        };
        let svg = cumulative_counts_svg(&sources, &[line("pools", 1000), line("mix", 1000), line("t = 150k", 1)]);
        assert!(svg.contains("pools: 400000 entries; mix: 400000 entries"), "{svg}");
        assert!(svg.contains("source &lt;19&gt;") && svg.contains("thin") && !svg.contains("NaN"));
        for (sources, lines) in [
            (vec![], vec![]),
            (vec![], vec![CumulativeCounts { name: "x".into(), counts: vec![], is_reference: false }]),
            (vec!["a".to_string()], vec![CumulativeCounts { name: "x".into(), counts: vec![0], is_reference: false }]),
            (vec!["a".to_string()], vec![line("longer than the sources", u64::MAX / 400)]),
        ] {
            let svg = cumulative_counts(&sources, &lines, PANEL);
            assert!(svg.starts_with("<svg") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
