//! Scores with the image, without it and at chance, one panel per category (the paper's Fig. 3, left).

use super::score_panels::{LABELS, ROW, TOP, axis};
use super::style::{PANEL, category_class};
use super::svg::{Svg, axis_range, cut};
use crate::analysis::VisionShare;
use crate::formatting;
use burgess_base::Category;

/// Returns the axis range that holds every mark of these benchmarks.
pub(crate) fn vision_axis_range(sights: &[VisionShare]) -> (f64, f64) {
    let marks = sights.iter().flat_map(|s| {
        let (low, high) = s.interval.unzip();
        [Some(s.enabled), s.blind, s.chance, low, high].into_iter().flatten()
    });
    axis_range(marks, 10.0, 10.0)
}

/// Draws the benchmarks of one category: a dot for the score with the image, a ring without, a dashed mark for chance,
/// and the gain in points. `range` is the axis range, the same for all panels.
pub(crate) fn vision_panel(category: &Category, sights: &[&VisionShare], range: (f64, f64)) -> Svg {
    let mut svg = Svg::new(PANEL, TOP + ROW * sights.len() as f64 + 24.0);
    svg.text(0.0, 13.0, "head", category);
    svg.text(PANEL, 13.0, "soft small end", "gain");
    let x = axis(&mut svg, range, PANEL, sights.len());
    let class = category_class(category);
    for (i, s) in sights.iter().enumerate() {
        let y = TOP + ROW * (i as f64 + 0.5);
        svg.text(LABELS - 8.0, y + 4.0, "end", &cut(&s.benchmark, 23));
        if let Some(blind) = s.blind {
            svg.line(x.at(blind), y, x.at(s.enabled), y, "link");
            svg.circle(x.at(blind), y, 3.5, "blind");
        }
        if let Some(chance) = s.chance {
            svg.line(x.at(chance), y - 9.0, x.at(chance), y + 9.0, "chance");
        }
        if let Some((low, high)) = s.interval {
            svg.whisker(x.at(low), x.at(high), y);
        }
        svg.circle(x.at(s.enabled), y, 4.6, &class);
        svg.text(PANEL, y + 4.0, "end", &s.gain.map_or("–".to_string(), |g| formatting::signed(g.value)));
    }
    svg
}
