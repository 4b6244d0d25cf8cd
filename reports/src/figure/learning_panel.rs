//! Learning-curve figure: score against the number of training samples, one line per arm.

use super::style::line_class;
use super::svg::{AxisScale, Svg, axis_range, cut, tick_label, ticks};
use crate::learning::{CurveArm, LearningCurve};
use crate::ranking::AVERAGE;

/// Vertical distance of names, in SVG units.
const STEP: f64 = 14.0;

/// Draws one scope with confidence intervals, and with chance where known; the axis of samples is logarithmic.
pub(crate) fn learning_panel(curve: &LearningCurve, scope: &str, chance: Option<f64>, width: f64) -> Svg {
    let (left, right, top) = (34.0, width - 142.0, 28.0);
    let bottom = top + 220.0;
    let mut svg = Svg::new(width, bottom + 40.0);
    svg.text(0.0, 13.0, "head", if scope == AVERAGE { "Average of the categories" } else { scope });
    let points = || curve.arms.iter().flat_map(|a| &a.points);
    let marks = points().filter_map(|p| p.scores.get(scope)).flat_map(|s| [s.low, s.high]);
    let (low, high) = axis_range(marks.chain(chance), 10.0, 10.0);
    let y = AxisScale::linear((low, high), (bottom, top));
    let (least, most) = points().map(|p| p.samples as f64).fold((f64::INFINITY, 1.0), |(l, m), n| (l.min(n), n.max(m)));
    let x = AxisScale::log((least.max(1.0) / 1.15, most * 1.15), (left, right));
    for tick in ticks(low, high, 5) {
        svg.line(left, y.at(tick), right, y.at(tick), "grid");
        svg.text(left - 5.0, y.at(tick) + 4.0, "soft small end", &tick_label(tick));
    }
    let mut samples: Vec<usize> = points().map(|p| p.samples).collect();
    samples.sort_unstable();
    samples.dedup();
    for n in samples {
        svg.line(x.at(n as f64), bottom, x.at(n as f64), bottom + 4.0, "axis");
        svg.text(x.at(n as f64), bottom + 16.0, "soft small mid", &tick_label(n as f64));
    }
    svg.text((left + right) / 2.0, bottom + 32.0, "soft small mid", "training samples, align + tune (logarithmic)");
    if let Some(chance) = chance.filter(|c| c.is_finite()) {
        svg.line(left, y.at(chance), right, y.at(chance), "chance");
    }
    let mut ends = Vec::new();
    for (i, arm) in curve.arms.iter().enumerate() {
        let places: Vec<(f64, f64)> = arm
            .points
            .iter()
            .filter_map(|p| Some((x.at(p.samples as f64), y.at(p.scores.get(scope)?.value))))
            .collect();
        for point in &arm.points {
            if let Some(s) = point.scores.get(scope) {
                let place = x.at(point.samples as f64);
                svg.line(place, y.at(s.low), place, y.at(s.high), "whisker thin");
            }
        }
        svg.polyline(&places, &line_class(i));
        places.iter().for_each(|(px, py)| svg.circle(*px, *py, 3.4, &format!("p{}", i % 8)));
        ends.extend(places.last().map(|(px, py)| (*px, *py, i, arm)));
    }
    // Names are ordered like the ends of the lines.
    ends.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut label = top - STEP;
    for (place, (px, py, i, arm)) in ends.iter().enumerate() {
        let spare = bottom + 4.0 - STEP * (ends.len() - 1 - place) as f64;
        label = (label + STEP).max(py.min(spare));
        svg.line(*px, *py, right + 6.0, label, "link faint");
        svg.circle(right + 12.0, label, 3.4, &format!("p{}", i % 8));
        svg.text(right + 20.0, label + 4.0, "small", &cut(&arm.label, 19));
    }
    svg
}

/// Describes the figure in words, for screen readers.
pub(crate) fn learning_in_words(curve: &LearningCurve, scope: &str) -> String {
    let point = |a: &CurveArm| -> String {
        let said =
            a.points.iter().filter_map(|p| Some(format!("{:.1} with {}", p.scores.get(scope)?.value, p.samples)));
        said.collect::<Vec<_>>().join(", ")
    };
    curve.arms.iter().map(|a| format!("{}: {}", a.label, point(a))).collect::<Vec<_>>().join("; ")
}
