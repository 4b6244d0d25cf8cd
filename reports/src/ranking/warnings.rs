//! Formulates warnings about low sensitivity of a study's evaluator and about misleading scores.

use super::conclusions::{MOST_NAMES, label, span};
use super::content::{AnswerStats, RankedArm, Ranking, TestFamily};
use crate::formatting::{count, list, percent, short_list};
use burgess_base::Category;

/// Minimum of the oracle's (score − chance) / (100 − chance) for an evaluator to be able to measure a scope.
const REACH: f64 = 0.7;

/// Fraction of unparsed answers above which a warning is given.
const MOST_UNPARSED: f64 = 0.05;

/// Returns the study's warnings, without the word "Warning".
pub(super) fn warnings(r: &Ranking) -> Vec<String> {
    let mut said = Vec::new();
    said.extend(r.categories.iter().filter_map(|c| out_of_reach(r, c)));
    said.extend(benchmarks_out_of_reach(r));
    said.extend(none_separable(r));
    said.extend(not_above_random(r));
    said.extend(unparsed(r));
    said
}

/// Returns oracle score and chance of a scope if the oracle's reach is below [`REACH`].
fn unreached(r: &Ranking, scope: &str) -> Option<(f64, f64)> {
    let score = r.arm(r.oracle.as_deref()?)?.score(scope)?;
    (r.oracle_reach(scope)? < REACH).then_some((score.score, score.chance))
}

/// Formulates the warning about a category in which the oracle's score is too low.
fn out_of_reach(r: &Ranking, category: &str) -> Option<String> {
    let (score, chance) = unreached(r, category)?;
    Some(format!(
        "the oracle scores {score:.1} on {category}, which is less than {:.0} % of the distance from chance \
         ({chance:.1}) to 100: this evaluator cannot measure this category.",
        100.0 * REACH
    ))
}

fn benchmarks_out_of_reach(r: &Ranking) -> Option<String> {
    let part = |name: &String| unreached(r, name).map(|(s, chance)| format!("{name} ({s:.1}, chance {chance:.1})"));
    let parts: Vec<String> = r.benchmarks.iter().filter_map(|b| part(&b.name)).collect();
    let which = if parts.len() == 1 { "this benchmark" } else { "these benchmarks" };
    (!parts.is_empty()).then(|| {
        format!(
            "the oracle scores less than {:.0} % of the distance from chance to 100 on {}: this evaluator cannot \
             measure {which}.",
            100.0 * REACH,
            list(&parts)
        )
    })
}

/// Formulates in which categories no pair of trained arms is separable.
fn none_separable(r: &Ranking) -> Option<String> {
    let flat = |c: &&Category| r.pairs.get(c.as_str()).is_some_and(|p| p.pairs > 0 && p.separable == 0);
    let flat: Vec<String> = r.categories.iter().filter(flat).map(|c| c.to_string()).collect();
    (!flat.is_empty()).then(|| format!("no two trained arms are separable on {}.", list(&flat)))
}

/// Formulates which trained arms do not beat the random baseline, by category.
fn not_above_random(r: &Ranking) -> Option<String> {
    let parts: Vec<String> = r
        .categories
        .iter()
        .filter_map(|c| {
            let failing: Vec<String> =
                r.tests(TestFamily::Random, c).filter(|t| !t.above()).map(|t| label(r, &t.a)).collect();
            let all = failing.len() > 1 && failing.len() == r.tests(TestFamily::Random, c).count();
            let who = if all { "all arms".to_string() } else { short_list(&failing, MOST_NAMES) };
            (!failing.is_empty()).then(|| format!("{c} ({who})"))
        })
        .collect();
    (!parts.is_empty()).then(|| format!("not separably above the random baseline: {}.", parts.join(", ")))
}

/// Formulates where many answers could not be parsed, by benchmark and arm.
fn unparsed(r: &Ranking) -> Option<String> {
    let parts: Vec<String> = r
        .benchmarks
        .iter()
        .filter_map(|b| {
            let share = |a: &RankedArm| a.answers.get(&b.name).map_or(0.0, AnswerStats::unparsed_share);
            let many: Vec<(&RankedArm, f64)> =
                r.arms.iter().map(|a| (a, share(a))).filter(|(_, s)| *s > MOST_UNPARSED).collect();
            let range = span(many.iter().map(|(_, s)| *s))?;
            Some(match many.len() {
                n if n > MOST_NAMES && n == r.arms.len() => format!("{} (all arms, {range})", b.name),
                n if n > MOST_NAMES => format!("{} ({}, {range})", b.name, count(n, "arm")),
                _ => {
                    let each: Vec<String> = many.iter().map(|(a, s)| format!("{} {}", a.label, percent(*s))).collect();
                    format!("{} ({})", b.name, each.join(", "))
                }
            })
        })
        .collect();
    (!parts.is_empty()).then(|| {
        format!(
            "more than {} of the answers could not be parsed and count as wrong: {}.",
            percent(MOST_UNPARSED),
            parts.join(", ")
        )
    })
}
