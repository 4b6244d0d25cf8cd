//! Scatter plots of score against cost.

use super::style::{PANEL, kind};
use super::svg::{AxisScale, Svg, cut, tick_label, ticks};
use crate::ranking::{RankedArm, Ranking};
use crate::schema::{ArmRole, RunCost};

/// A function that returns one number of a cost.
pub(crate) type CostOf = fn(&RunCost) -> f64;

/// The costs that are plotted: name, and the function that reads it.
pub(crate) const COSTS: [(&str, CostOf); 3] = [
    ("GFLOPs per image", |c| c.gflops_per_image),
    ("encoder parameters", |c| c.encoder_params as f64),
    ("training seconds", |c| c.train_seconds),
];

/// Vertical distance of labels, in SVG units.
const LABEL_STEP: f64 = 14.0;

/// Plots averages with intervals against a cost, on a logarithmic axis if the cost spans more than a factor of 20.
/// `None` if the cost is unknown (not positive) for some arm, or the same for all.
pub(crate) fn scatter(r: &Ranking, what: &str, cost: CostOf) -> Option<String> {
    // The oracle is not an encoder and has no cost.
    let mut arms: Vec<&RankedArm> = r.arms.iter().filter(|a| a.role != ArmRole::Oracle).collect();
    arms.sort_by(|a, b| b.average.score.total_cmp(&a.average.score));
    let costs = || arms.iter().map(|a| cost(&a.cost));
    let (least, most) = costs().fold((f64::INFINITY, 0.0_f64), |(l, m), c| (l.min(c), m.max(c)));
    if !(least > 0.0 && most > least * 1.001) {
        return None;
    }
    let low = arms.iter().map(|a| a.average.low).fold(f64::INFINITY, f64::min);
    let high = arms.iter().map(|a| a.average.high).fold(f64::NEG_INFINITY, f64::max);
    let (left, right, top, bottom) = (30.0, PANEL - 142.0, 28.0, 248.0);
    let mut svg = Svg::new(PANEL, 286.0);
    svg.text(0.0, 13.0, "head", &format!("Average by {what}"));
    let log = most / least > 20.0;
    let x = if log {
        AxisScale::log((least / 1.3, most * 1.3), (left, right))
    } else {
        AxisScale::linear((least - 0.08 * (most - least), most + 0.08 * (most - least)), (left, right))
    };
    let y = AxisScale::linear(((low - 1.0).floor(), (high + 1.0).ceil()), (bottom, top));
    for tick in ticks((low - 1.0).floor(), (high + 1.0).ceil(), 5) {
        svg.line(left, y.at(tick), right, y.at(tick), "grid");
        svg.text(left - 5.0, y.at(tick) + 4.0, "soft small end", &tick_label(tick));
    }
    let x_ticks = if log { vec![least, (least * most).sqrt(), most] } else { ticks(least, most, 3) };
    for tick in x_ticks {
        svg.text(x.at(tick), bottom + 16.0, "soft small mid", &tick_label(tick));
    }
    let scale = if log { " (logarithmic)" } else { "" };
    svg.text((left + right) / 2.0, bottom + 32.0, "soft small mid", &format!("{what}{scale}"));
    for arm in &arms {
        let place = x.at(cost(&arm.cost));
        svg.line(place, y.at(arm.average.low), place, y.at(arm.average.high), "whisker");
    }
    // Arms are sorted by score, so the labels in the column at the right keep that order.
    let mut label_y = top - LABEL_STEP;
    let spare = |rest: usize| bottom + 10.0 - LABEL_STEP * rest as f64;
    for (i, arm) in arms.iter().enumerate() {
        let (px, py) = (x.at(cost(&arm.cost)), y.at(arm.average.score));
        label_y = (label_y + LABEL_STEP).max(py.min(spare(arms.len() - 1 - i)));
        svg.line(px, py, right + 6.0, label_y, "link faint");
        svg.text(right + 9.0, label_y + 4.0, "small", &cut(&arm.label, 21));
    }
    for arm in &arms {
        svg.circle(x.at(cost(&arm.cost)), y.at(arm.average.score), 4.5, kind(arm).0);
    }
    let said: Vec<String> =
        arms.iter().map(|a| format!("{}: {} at {:.1}", a.label, tick_label(cost(&a.cost)), a.average.score)).collect();
    Some(svg.inline(&format!("Average score by {what}"), &said.join("; ")))
}
