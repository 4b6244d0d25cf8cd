//! Figures of correlations between benchmarks: the correlation matrix, and the tree of their clusters.

use super::style::{PANEL, category_class};
use super::svg::{AxisScale, Svg, cut, tick_label, ticks};
use crate::analysis::{BenchmarkClusters, CorrelationAnalysis};

/// Draws Pearson's correlations below the diagonal and Spearman's above it, with category colours along the edges.
pub(crate) fn correlation_map(a: &CorrelationAnalysis, width: f64) -> Svg {
    let n = a.benchmarks.len().max(1);
    let longest = a.benchmarks.iter().map(|b| b.name.chars().count()).max().unwrap_or(0).min(18);
    let (left, top) = (34.0 + 6.6 * longest as f64, 26.0);
    let cell = ((width - left - 2.0) / n as f64).min(64.0);
    let height = cell.min(26.0);
    let mut svg = Svg::new(width, top + height * n as f64 + 4.0);
    for (i, row) in a.benchmarks.iter().enumerate() {
        let (y, x) = (top + height * i as f64, left + cell * i as f64);
        let class = category_class(&row.category);
        svg.shade(left - 7.0, y, 5.0, height, &class, 1.0);
        svg.shade(x, top - 7.0, cell, 5.0, &class, 1.0);
        svg.text(left - 12.0, y + height / 2.0 + 4.0, "small end", &format!("{} {}", cut(&row.name, 18), i + 1));
        svg.text(x + cell / 2.0, top - 11.0, "soft small mid", &(i + 1).to_string());
        for j in 0..n {
            let x = left + cell * j as f64;
            if i == j {
                svg.shade(x, y, cell, height, &class, 0.35);
                continue;
            }
            let r = if j < i { a.pearson.at(i, j) } else { a.spearman.at(i, j) };
            if let Some(r) = r {
                svg.shade(x, y, cell, height, if r < 0.0 { "down" } else { "up" }, 0.62 * r.abs());
            }
            if cell >= 30.0 || r.is_none() {
                let text = r.map_or("–".to_string(), |r| format!("{r:.2}").replace('-', "−"));
                svg.text(x + cell / 2.0, y + height / 2.0 + 4.0, "small mid", &text);
            }
        }
    }
    // Lines separate the categories.
    let (right, bottom) = (left + cell * n as f64, top + height * n as f64);
    for (i, pair) in (1..).zip(a.benchmarks.windows(2)) {
        if pair.first().map(|b| &b.category) != pair.last().map(|b| &b.category) {
            let (x, y) = (left + cell * f64::from(i), top + height * f64::from(i));
            svg.line(left - 7.0, y, right, y, "edge");
            svg.line(x, top - 7.0, x, bottom, "edge");
        }
    }
    svg
}

const LEAF: f64 = 19.0;

/// Draws the tree of average linkage with the cut into clusters; the dot beside a name has the colour of its category.
pub(crate) fn tree(a: &CorrelationAnalysis, groups: &BenchmarkClusters, width: f64) -> Svg {
    let n = groups.order.len();
    let (top, left, right) = (8.0, if width > PANEL { 190.0 } else { 138.0 }, width - 34.0);
    let bottom = top + LEAF * n as f64;
    let mut svg = Svg::new(width, bottom + 36.0);
    let highest = groups.merges.last().map_or(1.0, |m| m.distance).max(1e-6);
    let x = AxisScale::linear((0.0, highest), (left, right));
    for tick in ticks(0.0, highest, if width > PANEL { 8 } else { 4 }) {
        svg.line(x.at(tick), top, x.at(tick), bottom, "grid");
        svg.text(x.at(tick), bottom + 14.0, "soft small mid", &tick_label(tick));
    }
    svg.text((left + right) / 2.0, bottom + 30.0, "soft small mid", "1 − r");
    // Node positions: leaves in tree order, merges midway between their two children.
    let mut places: Vec<(f64, f64)> = vec![(0.0, 0.0); n];
    for (i, leaf) in groups.order.iter().enumerate() {
        let y = top + LEAF * (i as f64 + 0.5);
        if let (Some(place), Some(benchmark)) = (places.get_mut(*leaf), a.benchmarks.get(*leaf)) {
            *place = (left, y);
            svg.text(left - 16.0, y + 4.0, "end", &cut(&benchmark.name, if width > PANEL { 27 } else { 18 }));
            svg.circle(left - 7.0, y, 4.2, &category_class(&benchmark.category));
        }
    }
    for merge in &groups.merges {
        let at = |node: usize| places.get(node).copied().unwrap_or((left, top));
        let ((xa, ya), (xb, yb)) = (at(merge.a), at(merge.b));
        let end = x.at(merge.distance);
        svg.polyline(&[(xa, ya), (end, ya), (end, yb), (xb, yb)], "tree");
        places.push((end, (ya + yb) / 2.0));
    }
    // The cut lies between the last merge inside a cluster and the first merge between clusters.
    let count = groups.count();
    let distance = |undone: usize| groups.merges.len().checked_sub(undone).and_then(|i| groups.merges.get(i));
    if let (Some(between), true) = (distance(count.saturating_sub(1)), count > 1) {
        let inside = distance(count).map_or(0.0, |m| m.distance);
        let place = x.at((inside + between.distance) / 2.0);
        svg.line(place, top - 4.0, place, bottom, "chance");
    }
    let mut first = 0;
    for group in 0..count {
        let size = groups.members(group).len();
        let (y1, y2) = (top + LEAF * first as f64 + 3.0, top + LEAF * (first + size) as f64 - 3.0);
        svg.line(right + 10.0, y1, right + 10.0, y2, "edge");
        svg.text(right + 18.0, (y1 + y2) / 2.0 + 4.0, "", &(group + 1).to_string());
        first += size;
    }
    svg
}
