//! Figures of direct probes against answers: all attributes in one figure, and one panel per attribute.

use super::style::{PANEL, line_class};
use super::svg::{AxisScale, Svg, cut, tick_label, ticks};
use crate::formatting;
use crate::schema::ArmRole;
use crate::validity::{ProbeValidity, ProbedArm, ProbedAttribute};

/// Vertical distance of names in a column, in SVG units.
const STEP: f64 = 15.0;

/// Returns the classes of the n-th attribute's points and of its line.
pub(crate) fn attribute_classes(n: usize) -> (String, String) {
    (format!("p{}", n % 8), line_class(n))
}

/// Returns the class of an arm's point; the random baseline is a ring.
fn class_of(arm: &ProbedArm, n: usize, point: &str) -> String {
    if arm.role == ArmRole::Random { format!("open s{}", n % 8) } else { point.to_string() }
}

/// Draws all attributes: one point per arm at its probe's accuracy (x) and its answers' accuracy (y), joined within an
/// attribute in the order of the probes. On the dashed diagonal, answers and probe are equally accurate.
pub(crate) fn validity_figure(v: &ProbeValidity, width: f64) -> Svg {
    let (left, right, top) = (40.0, width - 150.0, 30.0);
    let bottom = top + (right - left).min(430.0);
    let mut svg = Svg::new(width, bottom + 40.0);
    svg.text(0.0, 13.0, "head", "Accuracy of direct probe and of answers, in percent");
    let (x, y) = square(&mut svg, [left, right, top, bottom]);
    let mut label = top;
    for (i, a) in v.attributes.iter().enumerate() {
        let (point, line) = attribute_classes(i);
        svg.polyline(&joined(&a.arms, &x, &y), &format!("{line} faint"));
        for arm in &a.arms {
            svg.circle(x.at(arm.probe.value), y.at(arm.answers.value), 4.4, &class_of(arm, i, &point));
        }
        svg.circle(right + 16.0, label, 4.4, &point);
        let tau = a.tau.map_or(String::new(), |t| format!(" τ {}", formatting::correlation(Some(t.tau))));
        svg.text(right + 26.0, label + 4.0, "small", &format!("{}{tau}", cut(&a.attribute, 14)));
        label += STEP;
    }
    svg
}

/// Draws one attribute with the names of its arms and the intervals of both accuracies.
pub(crate) fn attribute_panel(a: &ProbedAttribute, n: usize) -> Svg {
    let (left, right, top) = (34.0, PANEL - 142.0, 46.0);
    let bottom = top + (STEP * a.arms.len() as f64).max(right - left);
    let mut svg = Svg::new(PANEL, bottom + 40.0);
    svg.text(0.0, 13.0, "head", &a.attribute);
    svg.text(0.0, 30.0, "soft small", &a.questions);
    let (x, y) = square(&mut svg, [left, right, top, bottom]);
    let (point, _) = attribute_classes(n);
    svg.line(x.at(a.chance), top, x.at(a.chance), bottom, "chance");
    let mut arms: Vec<&ProbedArm> = a.arms.iter().collect();
    arms.sort_by(|a, b| b.answers.value.total_cmp(&a.answers.value));
    let mut label = top - STEP;
    for (i, arm) in arms.iter().enumerate() {
        let (px, py) = (x.at(arm.probe.value), y.at(arm.answers.value));
        svg.line(x.at(arm.probe.low), py, x.at(arm.probe.high), py, "whisker thin");
        svg.line(px, y.at(arm.answers.low), px, y.at(arm.answers.high), "whisker thin");
        let spare = bottom + 4.0 - STEP * (arms.len() - 1 - i) as f64;
        label = (label + STEP).max(py.min(spare));
        svg.line(px, py, right + 6.0, label, "link faint");
        svg.text(right + 9.0, label + 4.0, "small", &cut(&arm.label, 21));
    }
    for arm in &arms {
        svg.circle(x.at(arm.probe.value), y.at(arm.answers.value), 4.6, &class_of(arm, n, &point));
    }
    svg
}

/// Draws axes of 0 to 100 percent, with the diagonal.
fn square(svg: &mut Svg, [left, right, top, bottom]: [f64; 4]) -> (AxisScale, AxisScale) {
    let (x, y) = (AxisScale::linear((0.0, 100.0), (left, right)), AxisScale::linear((0.0, 100.0), (bottom, top)));
    for tick in ticks(0.0, 100.0, 5) {
        svg.line(left, y.at(tick), right, y.at(tick), "grid");
        svg.text(left - 5.0, y.at(tick) + 4.0, "soft small end", &tick_label(tick));
        svg.text(x.at(tick), bottom + 16.0, "soft small mid", &tick_label(tick));
    }
    svg.line(x.at(0.0), y.at(0.0), x.at(100.0), y.at(100.0), "chance");
    svg.text((left + right) / 2.0, bottom + 32.0, "soft small mid", "accuracy of the linear probe");
    svg.text(left + 4.0, top + 10.0, "soft small", "accuracy of the answers");
    (x, y)
}

fn joined(arms: &[ProbedArm], x: &AxisScale, y: &AxisScale) -> Vec<(f64, f64)> {
    let mut places: Vec<(f64, f64)> = arms.iter().map(|a| (x.at(a.probe.value), y.at(a.answers.value))).collect();
    places.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    places
}

/// Describes the figure in words, for screen readers.
pub(crate) fn validity_in_words(a: &ProbedAttribute) -> String {
    let said = |p: &ProbedArm| format!("{} probe {:.1}, answers {:.1}", p.label, p.probe.value, p.answers.value);
    format!("{}: {}", a.attribute, a.arms.iter().map(said).collect::<Vec<_>>().join("; "))
}
