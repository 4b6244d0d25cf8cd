//! Figures as standalone SVG files.

use super::learning_panel::{learning_in_words, learning_panel};
use super::score_panels::ranking_panel;
use super::style::{PANEL, STYLE, chance, kinds};
use super::svg::Svg;
use super::validity_figure::{validity_figure, validity_in_words};
use crate::learning::LearningCurve;
use crate::ranking::{AVERAGE, Ranking};
use crate::validity::ProbeValidity;

/// Draws the main figure as a standalone file: the average and the categories, in light or dark mode.
pub fn ranking_svg(r: &Ranking) -> String {
    let width = 2.0 * PANEL + 40.0;
    let title = if r.study.is_empty() { "Ranking".to_string() } else { format!("Ranking of the {} study", r.study) };
    let mut body = Svg::new(width, 0.0);
    body.text(12.0, 24.0, "head", &title);
    let mut x = 12.0;
    for (class, name) in kinds(r) {
        body.rect(x, 36.0, 12.0, 12.0, &format!("bar {class}"));
        body.text(x + 17.0, 46.0, "soft", name);
        x += 17.0 + 7.0 * name.len() as f64 + 18.0;
    }
    body.circle(x + 4.0, 42.0, 3.5, "blind");
    body.text(x + 13.0, 46.0, "soft", "blind");
    body.line(x + 58.0, 36.0, x + 58.0, 50.0, "chance");
    body.text(x + 66.0, 46.0, "soft", "chance");
    if r.has_range() {
        body.rect(x + 118.0, 36.0, 22.0, 12.0, "range");
        body.text(x + 145.0, 46.0, "soft", "random to oracle baseline");
    }
    let mut y = 64.0;
    let wide = ranking_panel(r, AVERAGE, width - 24.0);
    body.nest(&wide, 12.0, y);
    y += wide.height() + 16.0;
    for pair in r.categories.chunks(2) {
        let mut tallest: f64 = 0.0;
        for (i, category) in pair.iter().enumerate() {
            let panel = ranking_panel(r, category, PANEL);
            body.nest(&panel, 12.0 + i as f64 * (PANEL + 16.0), y);
            tallest = tallest.max(panel.height());
        }
        y += tallest + 16.0;
    }
    let dots = if r.arms.iter().any(|a| a.seeds.len() > 1) { " Small dots: single seeds." } else { "" };
    for line in crate::formatting::wrap(&format!("{}{dots}", r.uncertainty), 110) {
        body.text(12.0, y + 6.0, "soft small", &line);
        y += 16.0;
    }
    let best =
        r.trained().next().map_or(String::new(), |a| format!("{} is first with {:.1}. ", a.label, a.average.score));
    body.set_height(y + 8.0);
    body.standalone(&title, &format!("{best}{}", r.conclusions.join(" ")), STYLE)
}

/// Draws direct probes against answers as a standalone file.
pub fn validity_svg(v: &ProbeValidity) -> String {
    let said: Vec<String> = v.attributes.iter().map(validity_in_words).collect();
    padded(&validity_figure(v, 2.0 * PANEL)).standalone("Direct probes and answers", &said.join(". "), STYLE)
}

/// Draws the learning curve as a standalone file: the average, then the categories.
pub fn learning_svg(curve: &LearningCurve, r: &Ranking) -> String {
    let width = 2.0 * PANEL + 40.0;
    let mut body = Svg::new(width, 0.0);
    let wide = learning_panel(curve, AVERAGE, chance(r, AVERAGE), width - 24.0);
    body.nest(&wide, 12.0, 12.0);
    let mut y = wide.height() + 28.0;
    for pair in r.categories.chunks(2) {
        let mut tallest: f64 = 0.0;
        for (i, category) in pair.iter().enumerate() {
            let panel = learning_panel(curve, category, chance(r, category), PANEL);
            body.nest(&panel, 12.0 + i as f64 * (PANEL + 16.0), y);
            tallest = tallest.max(panel.height());
        }
        y += tallest + 16.0;
    }
    body.set_height(y);
    body.standalone("Score by number of training samples", &learning_in_words(curve, AVERAGE), STYLE)
}

/// Adds a margin around a drawing.
fn padded(part: &Svg) -> Svg {
    let mut body = Svg::new(part.width() + 24.0, part.height() + 24.0);
    body.nest(part, 12.0, 12.0);
    body
}
