//! Figures of the paper's tables: adapter data, unfreezing, encoders by category.

use super::score_panels::{LABELS, ROW, TOP, axis};
use super::style::{PANEL, category_class};
use super::svg::{Svg, axis_range, cut};
use crate::formatting;
use crate::paper::EncoderFamily;
use burgess_base::Category;

/// Returns the colour class of a family of encoders.
pub(crate) fn family_class(family: Option<EncoderFamily>) -> &'static str {
    match family {
        Some(EncoderFamily::LanguageSupervised) => "f0",
        Some(EncoderFamily::SelfSupervised) => "f1",
        Some(EncoderFamily::Other) | None => "f2",
    }
}

/// One row of [`adapter`].
pub(crate) struct AdapterRow {
    pub name: String,
    pub family: EncoderFamily,
    /// Averages without adapter data, with 0.5M and with 1.2M samples.
    pub averages: [Option<f64>; 3],
}

/// Draws each encoder's average without adapter data (ring), with 0.5M (small dot) and with 1.2M samples (dot).
pub(crate) fn adapter(encoders: &[AdapterRow], width: f64) -> Svg {
    let mut svg = Svg::new(width, TOP + ROW * encoders.len() as f64 + 24.0);
    svg.text(0.0, 13.0, "head", "Average by adapter data");
    svg.text(width, 13.0, "soft small end", "gain");
    let values = || encoders.iter().flat_map(|e| e.averages.iter().flatten().copied());
    let low = values().fold(f64::INFINITY, f64::min).min(100.0);
    let high = values().fold(0.0, f64::max);
    let x = axis(&mut svg, ((low / 5.0).floor() * 5.0, (high / 5.0).ceil() * 5.0), width, encoders.len());
    for (i, AdapterRow { name, family, averages }) in encoders.iter().enumerate() {
        let y = TOP + ROW * (i as f64 + 0.5);
        svg.text(LABELS - 6.0, y + 4.0, "end", &cut(name, 23));
        let known: Vec<f64> = averages.iter().flatten().copied().collect();
        if let (Some(least), Some(most)) =
            (known.iter().copied().reduce(f64::min), known.iter().copied().reduce(f64::max))
        {
            svg.line(x.at(least), y, x.at(most), y, "link");
        }
        let [none, half, all] = *averages;
        if let Some(v) = none {
            svg.circle(x.at(v), y, 3.5, "blind");
        }
        if let Some(v) = half {
            svg.circle(x.at(v), y, 2.6, "seed");
        }
        if let Some(v) = all {
            svg.circle(x.at(v), y, 4.6, family_class(Some(*family)));
        }
        let change = none.zip(all.or(half)).map_or(String::new(), |(a, b)| formatting::signed(b - a));
        svg.text(width, y + 4.0, "end", &change);
    }
    svg
}

/// Draws bars of one scope, in the given order.
pub(crate) fn means_panel(title: &str, rows: &[(String, Option<EncoderFamily>, f64)], width: f64) -> Svg {
    let mut svg = Svg::new(width, TOP + ROW * rows.len() as f64 + 24.0);
    svg.text(0.0, 13.0, "head", title);
    let x = axis(&mut svg, axis_range(rows.iter().map(|(.., v)| *v), 10.0, 10.0), width, rows.len());
    for (i, (name, family, value)) in rows.iter().enumerate() {
        let y = TOP + ROW * (i as f64 + 0.5);
        svg.text(LABELS - 6.0, y + 4.0, "end", &cut(name, 23));
        svg.rect(LABELS, y - 7.0, x.at(*value) - LABELS, 14.0, &format!("bar {}", family_class(*family)));
        svg.text(width, y + 4.0, "end", &format!("{value:.1}"));
    }
    svg
}

/// One row of [`unfreezing_group`].
pub(crate) struct ChangeRow {
    pub name: String,
    pub category: Option<&'static Category>,
    /// Whether the row is a category (or the average) and not one of its benchmarks.
    pub heading: bool,
    pub computed: Option<f64>,
    pub printed: f64,
}

/// Draws the change by unfreezing in percent for a group of models: computed (dot) and printed (ring around it).
pub(crate) fn unfreezing_group(title: &str, rows: &[ChangeRow], range: (f64, f64)) -> Svg {
    let mut svg = Svg::new(PANEL, TOP + ROW * rows.len() as f64 + 24.0);
    svg.text(0.0, 13.0, "head", title);
    svg.text(PANEL, 13.0, "soft small end", "%");
    let x = axis(&mut svg, range, PANEL, rows.len());
    svg.line(x.at(0.0), TOP, x.at(0.0), TOP + ROW * rows.len() as f64, "axis");
    for (i, row) in rows.iter().enumerate() {
        let y = TOP + ROW * (i as f64 + 0.5);
        let class = row.category.map_or("f2".to_string(), category_class);
        svg.text(LABELS - 6.0, y + 4.0, if row.heading { "head end" } else { "end" }, &cut(&row.name, 23));
        let value = row.computed.unwrap_or(row.printed);
        svg.line(x.at(0.0), y, x.at(value), y, "link");
        if let Some(value) = row.computed {
            svg.circle(x.at(value), y, 3.4, &class);
        }
        svg.circle(x.at(row.printed), y, 5.4, "middle");
        svg.text(PANEL, y + 4.0, "end", &formatting::signed(row.printed));
    }
    svg
}
