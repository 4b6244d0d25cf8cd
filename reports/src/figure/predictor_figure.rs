//! Figures of predictors: their rank correlations with the scores, and one scatter per predictor.

use super::style::{PANEL, STYLE};
use super::svg::{AxisScale, Svg, cut, tick_label, ticks};
use crate::formatting::correlation;
use crate::predictors::{ComparedPredictor, PredictorReport};
use crate::schema::ArmRole;

/// Height of a row of the panel of correlations, in SVG units.
const ROW: f64 = 22.0;
/// Height of the plot of a scatter.
const PLOT: f64 = 200.0;

/// Draws the predictors of a study as a standalone file: Kendall's τ-b with its interval, and below it the score of
/// each arm against each predictor.
pub fn predictors_svg(report: &PredictorReport) -> String {
    let width = 2.0 * PANEL + 40.0;
    let title = format!("Predictors of the scores of the {} study", report.study);
    let mut body = Svg::new(width, 0.0);
    body.text(12.0, 24.0, "head", &title);
    let mut y = 40.0;
    let forest = correlations(report, width - 24.0);
    if report.predictors.iter().any(|c| c.agreement.is_some()) {
        body.nest(&forest, 12.0, y);
        y += forest.height() + 16.0;
    }
    let drawn: Vec<&ComparedPredictor> = report.predictors.iter().filter(|c| c.agreement.is_some()).collect();
    for pair in drawn.chunks(2) {
        for (i, compared) in pair.iter().enumerate() {
            body.nest(&scatter(report, compared), 12.0 + i as f64 * (PANEL + 16.0), y);
        }
        y += PLOT + 96.0;
    }
    for line in report.conclusions.iter().flat_map(|said| crate::formatting::wrap(said, 110)) {
        body.text(12.0, y + 6.0, "soft small", &line);
        y += 16.0;
    }
    body.set_height(y + 8.0);
    body.standalone(&title, &report.conclusions.join(" "), STYLE)
}

/// Draws τ-b of each predictor with its interval.
fn correlations(report: &PredictorReport, width: f64) -> Svg {
    let shown: Vec<_> = report.predictors.iter().filter_map(|c| Some((c, c.agreement.as_ref()?))).collect();
    let (left, right, top) = (190.0, width - 60.0, 26.0);
    let bottom = top + ROW * shown.len() as f64;
    let mut svg = Svg::new(width, bottom + 26.0);
    svg.text(0.0, 13.0, "head", "Kendall's τ-b with the ranking");
    let x = AxisScale::linear((-1.0, 1.0), (left, right));
    for tick in [-1.0, -0.5, 0.0, 0.5, 1.0] {
        svg.line(x.at(tick), top, x.at(tick), bottom, if tick == 0.0 { "chance" } else { "grid" });
        svg.text(x.at(tick), bottom + 16.0, "soft small mid", &correlation(Some(tick)));
    }
    for (i, (compared, agreement)) in shown.iter().enumerate() {
        let y = top + ROW * (i as f64 + 0.5);
        let tau = &agreement.kendall;
        svg.text(left - 10.0, y + 4.0, "small end", &cut(&compared.values.predictor.name, 28));
        if tau.low.is_finite() && tau.high.is_finite() {
            svg.whisker(x.at(tau.low), x.at(tau.high), y);
        }
        svg.circle(x.at(tau.value), y, 4.4, "p0");
        svg.text(right + 10.0, y + 4.0, "soft small", &correlation(Some(tau.value)));
    }
    svg
}

/// Draws the scores of the arms against a predictor; baselines are rings.
fn scatter(report: &PredictorReport, compared: &ComparedPredictor) -> Svg {
    let (left, right, top) = (40.0, PANEL - 12.0, 42.0);
    let bottom = top + PLOT;
    let mut svg = Svg::new(PANEL, bottom + 40.0);
    let predictor = &compared.values.predictor;
    svg.text(0.0, 13.0, "head", &predictor.name);
    if let Some(agreement) = &compared.agreement {
        let direction = match predictor.better.as_str() {
            "–" => String::new(),
            stated => format!("{stated} is better; "),
        };
        let (rho, tau) = (agreement.spearman.value, agreement.kendall.value);
        let said = format!("{direction}ρ {}, τ-b {}", correlation(Some(rho)), correlation(Some(tau)));
        svg.text(0.0, 30.0, "soft small", &said);
    }
    let points = report.arms.iter().zip(&compared.values.values);
    let points: Vec<_> = points.filter_map(|(arm, v)| Some((arm, v.value()?, arm.score?))).collect();
    let range = |values: Vec<f64>| -> (f64, f64) {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let margin = 0.06 * (high - low).max(1e-9 * high.abs().max(1.0));
        (low - margin, high + margin)
    };
    let (from, to) = range(points.iter().map(|(_, x, _)| *x).collect());
    let (low, high) = range(points.iter().flat_map(|(_, _, s)| [s.low, s.high]).collect());
    let (x, y) = (AxisScale::linear((from, to), (left, right)), AxisScale::linear((low, high), (bottom, top)));
    for tick in ticks(low, high, 5) {
        svg.line(left, y.at(tick), right, y.at(tick), "grid");
        svg.text(left - 5.0, y.at(tick) + 4.0, "soft small end", &tick_label(tick));
    }
    let places = ticks(from, to, 4);
    for tick in &places {
        svg.text(x.at(*tick), bottom + 16.0, "soft small mid", &value_label(*tick, &places));
    }
    svg.text((left + right) / 2.0, bottom + 32.0, "soft small mid", &predictor.name);
    for (arm, value, score) in points {
        let (px, py) = (x.at(value), y.at(score.value));
        svg.line(px, y.at(score.low), px, y.at(score.high), "whisker thin");
        svg.circle(px, py, 4.4, if arm.role == ArmRole::Trained { "p0" } else { "open s0" });
        // Names at the right side would leave the drawing.
        let (class, dx) = if px > (left + right) / 2.0 { ("small end", -7.0) } else { ("small", 7.0) };
        svg.text(px + dx, py - 5.0, class, &cut(&arm.label, 22));
    }
    svg
}

/// Formats a tick with as many decimals as its distance to the next needs: predictors differ in scale.
fn value_label(tick: f64, ticks: &[f64]) -> String {
    let step = ticks.windows(2).map(|pair| (pair[1] - pair[0]).abs()).fold(f64::INFINITY, f64::min);
    if !step.is_finite() || step <= 0.0 {
        return tick_label(tick);
    }
    let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{tick:.decimals$}").replace('-', "−")
}
