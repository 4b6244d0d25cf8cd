//! Training curves: loss by step, one line per arm.

use super::style::{PANEL, line_class};
use super::svg::{AxisScale, Svg, tick_label, ticks};
use crate::load::StudyData;
use crate::ranking::Ranking;
use std::collections::BTreeMap;

/// Maximum number of points per line; each is the mean over an interval of steps and over the arm's seeds.
const POINTS: usize = 60;

/// One arm's smoothed losses as (step, loss).
type Curve = Vec<(f64, f64)>;

/// Returns CSS class and label of each arm's line, in the order of the ranking.
pub(crate) fn legend(r: &Ranking) -> Vec<(String, String)> {
    r.arms.iter().enumerate().map(|(i, a)| (line_class(i), a.label.clone())).collect()
}

/// The training curves of one stage.
#[derive(serde::Serialize)]
pub(crate) struct Curves {
    pub stage: String,
    pub svg: String,
    /// Last smoothed loss, by the arm's label.
    pub last: Vec<(String, f64)>,
}

/// Draws one panel per stage, in the order in which stages occur.
pub(crate) fn curves(study: &StudyData, r: &Ranking) -> Vec<Curves> {
    let mut stages: Vec<&str> = Vec::new();
    for step in study.runs.iter().flat_map(|run| &run.steps) {
        if !stages.contains(&step.stage.as_str()) {
            stages.push(&step.stage);
        }
    }
    stages.into_iter().filter_map(|stage| panel(study, r, stage)).collect()
}

fn panel(study: &StudyData, r: &Ranking, stage: &str) -> Option<Curves> {
    let curves: Vec<(usize, &str, Curve)> = r
        .arms
        .iter()
        .enumerate()
        .map(|(i, arm)| (i, arm.label.as_str(), smoothed(study, &arm.arm, stage)))
        .filter(|(_, _, curve)| !curve.is_empty())
        .collect();
    let points = || curves.iter().flat_map(|(_, _, c)| c.iter());
    let last_step = points().map(|p| p.0).fold(0.0, f64::max);
    // The upper limit ignores the first tenth, because the steep start would compress the rest.
    let settled = points().filter(|p| p.0 >= last_step / 10.0);
    let (low, high) = settled.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), p| (l.min(p.1), h.max(p.1)));
    // The lower limit includes the start.
    let low = points().map(|p| p.1).fold(low, f64::min);
    if !(low.is_finite() && high.is_finite()) {
        return None;
    }
    let (left, right, top, bottom) = (40.0, PANEL - 8.0, 28.0, 208.0);
    let mut svg = Svg::new(PANEL, 246.0);
    svg.text(0.0, 13.0, "head", &format!("Stage {stage}: loss by step"));
    let margin = 0.05 * (high - low).max(0.01);
    let y = AxisScale::linear((low - margin, high + margin), (bottom, top));
    let x = AxisScale::linear((0.0, last_step), (left, right));
    for tick in ticks(low - margin, high + margin, 5) {
        svg.line(left, y.at(tick), right, y.at(tick), "grid");
        svg.text(left - 5.0, y.at(tick) + 4.0, "soft small end", &tick_label(tick));
    }
    for tick in ticks(0.0, last_step, 4) {
        svg.text(x.at(tick), bottom + 16.0, "soft small mid", &tick_label(tick));
    }
    svg.text((left + right) / 2.0, bottom + 32.0, "soft small mid", "step");
    for (i, _, curve) in &curves {
        let places: Vec<(f64, f64)> =
            curve.iter().filter(|(_, loss)| *loss <= high + margin).map(|(s, l)| (x.at(*s), y.at(*l))).collect();
        svg.polyline(&places, &line_class(*i));
    }
    let highest = points().map(|p| p.1).fold(high, f64::max);
    if highest > high + margin {
        // A label gives the maximum of lines that leave the axis at the top.
        svg.text(left + 4.0, top + 10.0, "soft small", &format!("↑ up to {}", tick_label(highest)));
    }
    let last: Vec<(String, f64)> =
        curves.iter().filter_map(|(_, label, c)| Some((label.to_string(), c.last()?.1))).collect();
    let said: Vec<String> = last.iter().map(|(label, loss)| format!("{label} ends at {loss:.3}")).collect();
    let title = format!("Training loss, stage {stage}");
    Some(Curves { stage: stage.to_string(), svg: svg.inline(&title, &said.join("; ")), last })
}

/// Returns means over intervals of steps and over seeds; steps whose loss is not finite are left out.
fn smoothed(study: &StudyData, arm: &str, stage: &str) -> Curve {
    let runs = study.runs.iter().filter(|run| run.results.run.arm == arm);
    let steps: Vec<(usize, f64)> = runs
        .flat_map(|run| run.steps.iter())
        .filter(|s| s.stage == stage && s.loss.is_finite())
        .map(|s| (s.step, s.loss))
        .collect();
    let last = steps.iter().map(|(step, _)| *step).max().unwrap_or(0);
    let stretch = last / POINTS + 1;
    let mut means: BTreeMap<usize, (f64, f64, f64)> = BTreeMap::new();
    for (step, loss) in steps {
        let (steps, losses, n) = means.entry(step / stretch).or_default();
        *steps += step as f64;
        *losses += loss;
        *n += 1.0;
    }
    means.into_values().map(|(steps, losses, n)| (steps / n, losses / n)).collect()
}
