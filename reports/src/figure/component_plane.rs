//! Scatter plot in the plane of the first two principal components, with names in a column at the right.

use super::svg::{AxisScale, Svg, cut, tick_label, ticks};

/// Vertical distance of names, in SVG units.
const STEP: f64 = 14.0;

/// A named point in the plane.
pub(crate) struct Point {
    pub name: String,
    pub class: String,
    pub x: f64,
    pub y: f64,
}

/// Draws points with their names; `about` holds the names of the two axes.
pub(crate) fn plane(title: &str, points: &[Point], about: [&str; 2], width: f64) -> Svg {
    let (left, right, top) = (34.0, width - 142.0, 46.0);
    let bottom = top + (STEP * points.len() as f64).max(0.62 * (right - left));
    let mut svg = Svg::new(width, bottom + 38.0);
    svg.text(0.0, 13.0, "head", title);
    let range = |of: fn(&Point) -> f64| {
        let (low, high) = points.iter().map(of).fold((0.0f64, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
        let margin = 0.06 * (high - low).max(1e-6);
        (low - margin, high + margin)
    };
    let (across, up) = (range(|p| p.x), range(|p| p.y));
    let (x, y) = (AxisScale::linear(across, (left, right)), AxisScale::linear(up, (bottom, top)));
    let minus = |tick: f64| tick_label(tick).replace('-', "−");
    for tick in ticks(up.0, up.1, 5) {
        svg.line(left, y.at(tick), right, y.at(tick), if tick == 0.0 { "axis" } else { "grid" });
        svg.text(left - 5.0, y.at(tick) + 4.0, "soft small end", &minus(tick));
    }
    for tick in ticks(across.0, across.1, 4) {
        svg.line(x.at(tick), top, x.at(tick), bottom, if tick == 0.0 { "axis" } else { "grid" });
        svg.text(x.at(tick), bottom + 14.0, "soft small mid", &minus(tick));
    }
    let [across, up] = about;
    svg.text((left + right) / 2.0, bottom + 31.0, "soft small mid", across);
    svg.text(0.0, top - 12.0, "soft small", up);
    let mut sorted: Vec<&Point> = points.iter().collect();
    sorted.sort_by(|a, b| b.y.total_cmp(&a.y).then(a.name.cmp(&b.name)));
    let mut label = top - STEP;
    for (i, p) in sorted.iter().enumerate() {
        let spare = bottom + 4.0 - STEP * (sorted.len() - 1 - i) as f64;
        label = (label + STEP).max(y.at(p.y).min(spare));
        svg.line(x.at(p.x), y.at(p.y), right + 6.0, label, "link faint");
        svg.text(right + 9.0, label + 4.0, "small", &cut(&p.name, 21));
    }
    for p in &sorted {
        svg.circle(x.at(p.x), y.at(p.y), 4.6, &p.class);
    }
    svg
}
