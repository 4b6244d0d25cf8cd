//! Formulates what a comparison shows and what it cannot show.

use super::content::{ArmComparison, CompareOptions, ScopeComparison, ScopeKind};
use crate::formatting::{count, list, p_value, short_list, signed, thousands};
use crate::ranking::AVERAGE;

/// Number of benchmarks or arms that a sentence names.
const NAMES: usize = 4;

/// The smallest number of differing questions for which the normal approximation of the power is not called rough.
const FEW: usize = 10;

/// Formulates the conclusion about two arms in one sentence.
pub(super) fn of_pair(pair: &ArmComparison, options: &CompareOptions) -> String {
    let [a, b] = &pair.labels;
    let Some(s) = pair.summary() else { return format!("{a} and {b} were not compared.") };
    let place = place(s);
    let percent = 100.0 * options.confidence;
    if s.outcomes.won + s.outcomes.lost == 0 {
        let what = if s.outcomes.of_units { "unit" } else { "question" };
        return format!("{a} and {b} have the same score on every one of the {}.", count(s.questions, what));
    }
    let interval = format!("{percent:.0} % interval {} to {}", signed(s.low), signed(s.high));
    let single = pair.of_kind(ScopeKind::Benchmark).count() < 2;
    let mut said = if s.separable {
        let (better, worse) = if s.difference > 0.0 { (a, b) } else { (b, a) };
        let p = p_text(s, pair);
        format!("{better} is {:.1} points above {worse} {place} ({a} − {b}: {interval}, {p})", s.difference.abs())
    } else {
        format!(
            "{a} and {b} are not separable {place} ({a} − {b}: {}, {interval}, {})",
            signed(s.difference),
            p_text(s, pair)
        )
    };
    if !single {
        said += &benchmarks(pair);
    }
    said + "."
}

fn place(s: &ScopeComparison) -> String {
    if s.scope == AVERAGE { "on average".to_string() } else { format!("on {}", s.scope) }
}

fn p_text(s: &ScopeComparison, pair: &ArmComparison) -> String {
    let adjusted = if pair.of_kind(s.kind).count() > 1 || s.p_adjusted > s.p { "adjusted " } else { "" };
    format!("{adjusted}{}", p_value(s.p_adjusted))
}

/// Says on which benchmarks the arms are separable.
fn benchmarks(pair: &ArmComparison) -> String {
    let all = pair.of_kind(ScopeKind::Benchmark).count();
    let which = |above: bool| -> Vec<String> {
        pair.of_kind(ScopeKind::Benchmark)
            .filter(|s| s.separable && (s.difference > 0.0) == above)
            .map(|s| s.scope.clone())
            .collect()
    };
    let (above, below) = (which(true), which(false));
    let parts: Vec<String> = [(&above, "above"), (&below, "below")]
        .iter()
        .filter(|(names, _)| !names.is_empty())
        .map(|(names, side)| format!("{side} on {}", short_list(names, NAMES)))
        .collect();
    match parts.is_empty() {
        true => format!("; separable on none of the {all} benchmarks"),
        false => format!("; of {all} benchmarks {} is separably {}", pair.labels[0], parts.join(" and ")),
    }
}

/// Formulates the conclusion about several pairs of arms.
pub(super) fn of_all(pairs: &[ArmComparison]) -> String {
    if let [one] = pairs {
        return one.conclusion.clone();
    }
    let which = |holds: &dyn Fn(&ScopeComparison) -> bool| -> Vec<String> {
        let named = pairs.iter().filter(|p| p.summary().is_some_and(holds));
        named.map(|p| p.labels[0].split(" (").next().unwrap_or_default().to_string()).collect()
    };
    let above = which(&|s| s.separable && s.difference > 0.0);
    let below = which(&|s| s.separable && s.difference < 0.0);
    let differs = |s: &ScopeComparison| s.outcomes.won + s.outcomes.lost > 0;
    let neither = which(&|s| !s.separable && differs(s));
    let same = which(&|s| !differs(s));
    let mut parts = Vec::new();
    for (names, what) in [
        (above, "separably higher in the first study"),
        (below, "separably lower in the first study"),
        (neither, "not separable"),
        (same, "with the same score on every question"),
    ] {
        if !names.is_empty() {
            parts.push(format!("{} {what} ({})", names.len(), short_list(&names, NAMES)));
        }
    }
    format!("Of {} arms, on average: {}.", pairs.len(), list(&parts))
}

/// Formulates what the intervals cover.
pub(super) fn uncertainty(pair: &ArmComparison, options: &CompareOptions) -> String {
    let percent = 100.0 * options.confidence;
    let [x, y] = pair.seeds.each_ref().map(Vec::len);
    let (questions, units) = pair.summary().map_or((0, 0), |s| (s.questions, s.units));
    let asked = match questions == units {
        true => counted(questions, "question"),
        false => format!("{} about {}", counted(questions, "question"), counted(units, "image or group")),
    };
    let head = format!("{asked}; paired {percent:.0} % intervals from {} bootstrap replicates", options.replicates);
    match (x, y) {
        (1, 1) => format!(
            "{head} over images; one seed each, so the result holds for these two models: how much another seed would \
             change it is unknown."
        ),
        (1, n) | (n, 1) => format!(
            "{head} over images and, for the arm that has {n} seeds, over seeds; with one seed of the other, its \
             variance between seeds is unknown and not covered. p treats the seeds as given."
        ),
        (x, y) => {
            let seeds = if x == y { format!("{x} seeds each") } else { format!("{x} and {y} seeds") };
            format!("{head} over images and seeds ({seeds}); p treats the seeds as given.")
        }
    }
}

/// Formats a count with its noun, with commas between thousands.
fn counted(n: usize, thing: &str) -> String {
    let plural = if n == 1 { thing.to_string() } else { count(2, thing).replace("2 ", "") };
    format!("{} {}", thousands(n as u64), plural.replace("image or groups", "images or groups"))
}

/// Formulates what could be seen, and under which assumptions.
pub(super) fn power_note(pair: &ArmComparison, options: &CompareOptions) -> String {
    let Some(s) = pair.summary() else { return String::new() };
    let Some(power) = &s.power else {
        return "Power cannot be computed from a single image or group.".to_string();
    };
    let (Some(detectable), Some(now)) = (power.detectable, power.power) else {
        return "Power cannot be estimated: no question shows a difference.".to_string();
    };
    let place = place(s);
    let wanted = 100.0 * options.power;
    let points = |x: f64| format!("{x} {}", if x == 1.0 { "point" } else { "points" });
    let mut said = format!(
        "Power: a true difference of {detectable:.1} points {place} would be found with {wanted:.0} % probability \
         (standard error {:.2}, unadjusted test), one of {} with {:.0} %.",
        power.standard_error,
        points(options.detect),
        100.0 * now
    );
    let known = power.seed_variance.is_some();
    let times = |n: u64| match n as f64 / s.questions.max(1) as f64 {
        times if times >= 1.5 => format!(" ({times:.0} times as many)"),
        times => format!(" ({:.0} % of them)", 100.0 * times),
    };
    said += &match (power.questions_needed, known) {
        (Some(n), false) => format!(
            " For {} about {} questions of the same kind{} would be needed, as far as questions alone decide: the \
             variance between seeds cannot be known from one seed and would add to it.",
            points(options.detect),
            about(n),
            times(n)
        ),
        (Some(n), true) => format!(
            " For {} about {} questions of the same kind{} would be needed with these seeds",
            points(options.detect),
            about(n),
            times(n)
        ),
        (None, _) => format!(
            " With these seeds no number of questions would suffice for {}, because the seeds alone vary too much",
            points(options.detect)
        ),
    };
    if known {
        said += &match (power.seeds_needed, power.both_needed) {
            (Some(n), _) => format!(", or {n} seeds per arm with these questions."),
            (None, Some((questions, seeds))) => format!(
                ", and the questions alone vary too much for any number of seeds: together about {} questions and {seeds} \
                 seeds per arm would suffice.",
                about(questions)
            ),
            (None, None) => ".".to_string(),
        };
        let fewest = pair.seeds.iter().map(Vec::len).min().unwrap_or(0);
        if fewest < 5 {
            said += &format!(" From {fewest} seeds the variance between seeds is only roughly known.");
        }
    } else if power.questions_needed.is_none() {
        said += ".";
    }
    let differing = s.outcomes.won + s.outcomes.lost;
    if differing < FEW {
        said += &format!(" Only {} differ, so these numbers are rough.", count(differing, "question"));
    }
    said
}

/// Formats an estimated count with three digits and commas between thousands, such as "30,700".
pub(super) fn about(n: u64) -> String {
    let unit = 10_u64.pow(n.checked_ilog10().unwrap_or(0).saturating_sub(2));
    thousands(n.div_ceil(unit) * unit)
}

/// Warns if the smallest possible p is too large for so many tests.
pub(super) fn resolution_warning(pairs: &[ArmComparison], options: &CompareOptions) -> Option<String> {
    let tests = pairs.iter().map(|p| p.of_kind(ScopeKind::Benchmark).count()).sum::<usize>();
    let least = crate::stats::p_value(0, options.replicates) * tests as f64;
    (least >= 1.0 - options.confidence).then(|| {
        format!(
            "{tests} tests need more replicates: with {} the smallest adjusted p is {least:.3}, so that no benchmark can \
             be separable.",
            options.replicates
        )
    })
}
