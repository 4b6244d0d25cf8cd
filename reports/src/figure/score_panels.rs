//! Panels with one row per arm (or per scope): bars with intervals, scores with and without image, change by
//! unfreezing.

use super::style::{PANEL, kind};
use super::svg::{AxisScale, Svg, axis_range, cut, tick_label, ticks};
use crate::formatting;
use crate::ranking::{AVERAGE, ArmScore, PairTest, RankedArm, Ranking, TestFamily};

pub(super) const ROW: f64 = 21.0;
pub(super) const TOP: f64 = 26.0;
pub(super) const LABELS: f64 = 150.0;
const NUMBERS: f64 = 40.0;

/// Returns the heading of a scope.
fn name(scope: &str) -> &str {
    if scope == AVERAGE { "Average of the categories" } else { scope }
}

/// Draws bars of all arms in a scope, best first and baselines last, with confidence intervals, blind scores, the
/// chance line, the range from random to oracle baseline and, for the average, one dot per seed.
pub(crate) fn ranking_panel(r: &Ranking, scope: &str, width: f64) -> Svg {
    let arms = r.rows(scope);
    let scores: Vec<(&RankedArm, &ArmScore)> = arms.iter().filter_map(|a| Some((*a, a.score(scope)?))).collect();
    let mut svg = Svg::new(width, TOP + ROW * scores.len() as f64 + 24.0);
    svg.text(0.0, 13.0, "head", name(scope));
    let seeds = |a: &RankedArm| if scope == AVERAGE { a.per_seed.values().copied().collect() } else { Vec::new() };
    let marks =
        scores.iter().flat_map(|(a, s)| [s.score, s.low, s.high, s.chance, s.blind].into_iter().chain(seeds(a)));
    let range = axis_range(marks, 10.0, 10.0);
    range_band(&mut svg, &axis_scale(range, width), r.bounds(scope), scores.len());
    let x = axis(&mut svg, range, width, scores.len());
    for (i, (arm, s)) in scores.iter().enumerate() {
        let y = TOP + ROW * (i as f64 + 0.5);
        svg.text(LABELS - 6.0, y + 4.0, "end", &cut(&arm.row_name(), 23));
        svg.rect(x.at(0.0), y - 7.0, x.at(s.score) - x.at(0.0), 14.0, &format!("bar {}", kind(arm).0));
        svg.whisker(x.at(s.low), x.at(s.high), y);
        svg.circle(x.at(s.blind), y, 3.5, "blind");
        if scope == AVERAGE && arm.per_seed.len() > 1 {
            arm.per_seed.values().for_each(|score| svg.circle(x.at(*score), y + 5.0, 1.6, "seed"));
        }
        svg.text(width, y + 4.0, "end", &format!("{:.1}", s.score));
    }
    chance_line(&mut svg, &x, scores.first().map(|(_, s)| s.chance), scores.len());
    svg
}

/// Draws one benchmark: each arm with the image (dot with interval) and without (ring), chance, and the range from
/// random to oracle baseline.
pub(crate) fn benchmark_panel(r: &Ranking, benchmark: &str) -> Svg {
    let scores: Vec<_> = r.arms.iter().filter_map(|a| Some((a, a.score(benchmark)?))).collect();
    let mut svg = Svg::new(PANEL, TOP + ROW * scores.len() as f64 + 24.0);
    svg.text(0.0, 13.0, "head", benchmark);
    let marks = scores.iter().flat_map(|(_, s)| [s.score, s.low, s.high, s.chance, s.blind]);
    let range = axis_range(marks, 10.0, 10.0);
    range_band(&mut svg, &axis_scale(range, PANEL), r.bounds(benchmark), scores.len());
    let x = axis(&mut svg, range, PANEL, scores.len());
    chance_line(&mut svg, &x, scores.first().map(|(_, s)| s.chance), scores.len());
    for (i, (arm, s)) in scores.iter().enumerate() {
        let y = TOP + ROW * (i as f64 + 0.5);
        svg.text(LABELS - 6.0, y + 4.0, "end", &cut(&arm.row_name(), 23));
        svg.line(x.at(s.blind), y, x.at(s.score), y, "link");
        svg.circle(x.at(s.blind), y, 3.5, "blind");
        svg.whisker(x.at(s.low), x.at(s.high), y);
        svg.circle(x.at(s.score), y, 4.2, kind(arm).0);
        svg.text(PANEL, y + 4.0, "end", &format!("{:.1}", s.score));
    }
    svg
}

/// Draws the change by unfreezing one arm's encoder, on average and per category.
pub(crate) fn unfreezing_panel(r: &Ranking, unfrozen: &str, frozen: &str) -> Svg {
    let scopes = std::iter::once(AVERAGE).chain(r.categories.iter().map(|c| c.as_str()));
    let tests: Vec<(&str, &PairTest)> = scopes
        .filter_map(|s| Some((s, r.tests(TestFamily::Unfreezing, s).find(|t| t.a == unfrozen && t.b == frozen)?)))
        .collect();
    let mut svg = Svg::new(PANEL, TOP + ROW * tests.len() as f64 + 24.0);
    svg.text(0.0, 13.0, "head", &format!("{}: unfrozen − frozen", r.arm(frozen).map_or(frozen, |a| &a.label)));
    let (_, most) =
        axis_range(tests.iter().flat_map(|(_, t)| [t.low.abs(), t.high.abs(), t.difference.abs()]), 1.0, 1.0);
    let x = axis(&mut svg, (-most, most), PANEL, tests.len());
    svg.line(x.at(0.0), TOP, x.at(0.0), TOP + ROW * tests.len() as f64, "axis");
    for (i, (scope, t)) in tests.iter().enumerate() {
        let y = TOP + ROW * (i as f64 + 0.5);
        svg.text(LABELS - 6.0, y + 4.0, "end", if *scope == AVERAGE { "Average" } else { scope });
        svg.whisker(x.at(t.low), x.at(t.high), y);
        svg.circle(x.at(t.difference), y, 4.2, if t.separable { "unfrozen" } else { "blind" });
        svg.text(PANEL, y + 4.0, "end", &formatting::signed(t.difference));
    }
    svg
}

fn axis_scale(range: (f64, f64), width: f64) -> AxisScale {
    AxisScale::linear(range, (LABELS, width - NUMBERS))
}

/// Draws the range from random to oracle baseline behind the rows.
fn range_band(svg: &mut Svg, x: &AxisScale, bounds: Option<(f64, f64)>, rows: usize) {
    let Some((random, oracle)) = bounds else { return };
    let (left, right) = (x.at(random.min(oracle)), x.at(random.max(oracle)));
    let bottom = TOP + ROW * rows as f64;
    svg.rect(left, TOP - 4.0, right - left, bottom - TOP + 4.0, "range");
    svg.line(x.at(random), TOP - 4.0, x.at(random), bottom, "random-mark");
    svg.line(x.at(oracle), TOP - 4.0, x.at(oracle), bottom, "oracle-mark");
}

/// Draws grid and numbers of the horizontal axis.
pub(super) fn axis(svg: &mut Svg, range: (f64, f64), width: f64, rows: usize) -> AxisScale {
    let x = axis_scale(range, width);
    let bottom = TOP + ROW * rows as f64;
    for tick in ticks(range.0, range.1, if width > PANEL { 8 } else { 5 }) {
        svg.line(x.at(tick), TOP, x.at(tick), bottom, "grid");
        svg.text(x.at(tick), bottom + 14.0, "soft small mid", &tick_label(tick).replace('-', "−"));
    }
    x
}

fn chance_line(svg: &mut Svg, x: &AxisScale, chance: Option<f64>, rows: usize) {
    if let Some(chance) = chance.filter(|c| c.is_finite()) {
        svg.line(x.at(chance), TOP - 2.0, x.at(chance), TOP + ROW * rows as f64, "chance");
    }
}
