//! The paired comparison of two models, arms or studies, question by question.
//!
//! **What is compared.** Two sides ([`ComparedSide`]) that answered the same benchmarks: arms with one or more seeds,
//! or files of scored answers. Questions are matched by their ids; a unit (an image, or a group that is scored as a
//! whole) is used if all runs of both sides answered the same questions about it, with the same texts and right
//! answers. Everything else is counted and reported ([`QuestionMatch`]).
//!
//! **Test.** Intervals and p are those of a ranking ([`crate::ranking`]): paired bootstrap over units and, with several
//! seeds, over seeds; sign flips over units; intervals corrected where all units differ by the same. p is adjusted by
//! Holm's method over all benchmarks, over all categories, and over all averages of the comparison. A difference is
//! separable if the interval excludes 0 and the adjusted p is below 1 − confidence.
//!
//! **Power.** The variance of a difference has three parts, estimated from the data: the sampling of questions, the
//! seeds of both sides, and how differently the seeds answer the same question. From them follow the smallest
//! difference that is found with 80 % power, and the number of questions or seeds for a given difference ([`Power`]).
//! With one seed per side the last two parts are unknown, and all numbers hold for these two trained models only.

mod conclusion;
mod content;
mod context;
mod matching;
mod power;
mod questions;
mod rows;
mod side;
mod terminal;

use crate::ranking::{self, AVERAGE, PairedArms, PairedScope, RankOptions};
use crate::schema::RunResults;
use burgess_base::{Error, Result};
pub use content::{
    ArmComparison, BinaryCounts, BlindComparison, CompareOptions, ComparedSource, Comparison, OutcomeCounts, Power,
    QuestionMatch, ScopeComparison, ScopeKind,
};
use matching::{MatchedBenchmark, match_benchmark};
pub use questions::{AnswersOfSide, DifferingQuestion};
pub use rows::{comparison_csv, comparison_sheets, questions_csv};
pub use side::{ComparedArm, ComparedRun, ComparedSide, GivenAnswers};
use std::collections::BTreeSet;
pub use terminal::comparison_text;

/// Compares two sides. Arms of studies are paired by name; otherwise both sides must have one arm.
///
/// # Errors
/// The sides are the same, have no arm, benchmark or question in common, or their results contradict themselves.
pub fn compare(a: &ComparedSide, b: &ComparedSide, options: &CompareOptions) -> Result<Comparison> {
    options.check()?;
    side::check_different(a, b)?;
    let (pairs, unpaired) = side::pair_arms(a, b)?;
    let names = side::distinct_names(a, b);
    let labels = |x: &ComparedArm, y: &ComparedArm| match x.name == y.name {
        true => [format!("{} ({})", x.name, names[0]), format!("{} ({})", y.name, names[1])],
        false => [x.name.clone(), y.name.clone()],
    };
    let mut compared = Vec::new();
    for (x, y) in &pairs {
        let pair = compare_pair(x, y, labels(x, y), options);
        compared.push(pair.map_err(|e| match pairs.len() {
            1 => e,
            _ => e.context(format!("comparing the arm {}", x.name)),
        })?);
    }
    adjust(&mut compared, options.confidence);
    for pair in &mut compared {
        pair.conclusion = conclusion::of_pair(pair, options);
        pair.uncertainty = conclusion::uncertainty(pair, options);
        pair.power_note = conclusion::power_note(pair, options);
    }
    let mut warnings = [side::missing_runs(a), side::missing_runs(b)].concat();
    warnings.extend(conclusion::resolution_warning(&compared, options));
    let [name_a, name_b] = names;
    Ok(Comparison {
        schema: content::COMPARISON_SCHEMA,
        conclusion: conclusion::of_all(&compared),
        a: ComparedSource { name: name_a, source: a.source.clone() },
        b: ComparedSource { name: name_b, source: b.source.clone() },
        options: options.clone(),
        pairs: compared,
        unpaired,
        warnings,
    })
}

/// Compares one arm of each side; p is adjusted later, over all pairs.
fn compare_pair(
    a: &ComparedArm,
    b: &ComparedArm,
    labels: [String; 2],
    options: &CompareOptions,
) -> Result<ArmComparison> {
    let benchmarks = |arm: &ComparedArm| -> BTreeSet<String> {
        let mut of_runs = arm.runs.iter().map(|r| r.results.results.keys().cloned().collect::<BTreeSet<_>>());
        let first = of_runs.next().unwrap_or_default();
        of_runs.fold(first, |common, names| common.intersection(&names).cloned().collect())
    };
    let (in_a, in_b) = (benchmarks(a), benchmarks(b));
    let wanted = |name: &&String| options.benchmarks.is_empty() || options.benchmarks.contains(name);
    let common: Vec<&String> = in_a.intersection(&in_b).filter(wanted).collect();
    if common.is_empty() {
        return Err(context::no_common_benchmark(&labels, &in_a, &in_b, &options.benchmarks));
    }
    let mut not_compared = context::only_one_has(&labels, &in_a, &in_b, options);
    let mut matched = Vec::new();
    for name in common {
        let benchmark = match_benchmark(name, a, b, &labels, options.questions)?;
        match benchmark.questions.compared {
            0 => not_compared.push(format!("{name}: {}", benchmark.questions.why_none(&labels))),
            _ => matched.push(benchmark),
        }
    }
    if matched.is_empty() {
        return Err(Error::failed(format!(
            "{} and {} have no question in common: {}",
            labels[0],
            labels[1],
            not_compared.join("; ")
        ))
        .hint("compare answers to the same edition of a benchmark; ids, questions and right answers must agree"));
    }
    let names = arm_names(a, b);
    let runs = [(a, 0), (b, 1)].map(|(arm, side)| matching::restricted_runs(arm, &names[side], side, &matched));
    let all: Vec<RunResults> = runs.iter().flatten().cloned().collect();
    let rank_options = RankOptions {
        study: String::new(),
        replicates: options.replicates,
        seed: options.seed,
        confidence: options.confidence,
        random: None,
        series: Vec::new(),
    };
    let paired = ranking::compare_arms(&all, &names[0], &names[1], &rank_options)?;
    let has_blind = [a, b].iter().all(|arm| arm.runs.iter().all(|r| r.has_blind));
    let scopes = scopes(&paired, &runs, &matched, has_blind, options);
    let (warnings, differences) = context::warnings(a, b, &labels, &matched);
    let questions = questions::chosen(&matched, options.questions);
    let seeds = |arm: &ComparedArm| arm.runs.iter().map(|r| r.results.run.seed).collect();
    Ok(ArmComparison {
        seeds: [seeds(a), seeds(b)],
        scopes,
        matches: matched.into_iter().map(|m| (m.name, m.questions)).collect(),
        not_compared,
        warnings,
        differences,
        labels,
        questions,
        conclusion: String::new(),
        uncertainty: String::new(),
        power_note: String::new(),
    })
}

/// Returns the names of both arms as they enter the random streams: their own, so that the numbers are those of a
/// ranking, or distinct ones if they are the same.
fn arm_names(a: &ComparedArm, b: &ComparedArm) -> [String; 2] {
    match a.name == b.name {
        true => [format!("a/{}", a.name), format!("b/{}", b.name)],
        false => [a.name.clone(), b.name.clone()],
    }
}

/// Returns the scopes of a pair. The average and a category are left out if there is only one benchmark.
fn scopes(
    paired: &PairedArms,
    runs: &[Vec<RunResults>; 2],
    matched: &[MatchedBenchmark],
    has_blind: bool,
    options: &CompareOptions,
) -> Vec<ScopeComparison> {
    let variances = power::benchmark_variances(paired, runs);
    let category = |name: &str| paired.categories.iter().find(|c| c.as_str() == name);
    let only_one = paired.benchmarks.len() == 1;
    let first_benchmark = 1 + paired.categories.len();
    let scope = |(i, s): (usize, &PairedScope)| {
        let kind = match i {
            0 => ScopeKind::Average,
            i if i < first_benchmark => ScopeKind::Category,
            _ => ScopeKind::Benchmark,
        };
        if only_one && kind != ScopeKind::Benchmark {
            return None;
        }
        let of = || paired.benchmarks.iter().zip(&s.weights).filter(|(_, w)| **w > 0.0).map(|(b, _)| b);
        let outcomes = of().filter_map(|b| matched.iter().find(|m| m.name == b.name)).map(|m| &m.outcomes);
        let (questions, units) = (of().map(|b| b.n).sum(), of().map(|b| b.units).sum());
        let blind = has_blind.then(|| BlindComparison {
            a: s.blind[0],
            b: s.blind[1],
            difference: s.blind_difference.value,
            low: s.blind_difference.low,
            high: s.blind_difference.high,
        });
        Some(ScopeComparison {
            scope: s.name.clone(),
            kind,
            category: match kind {
                ScopeKind::Average => None,
                ScopeKind::Category => category(&s.name).cloned(),
                ScopeKind::Benchmark => of().next().map(|b| b.category.clone()),
            },
            a: s.scores[0],
            b: s.scores[1],
            difference: s.test.difference,
            low: s.test.low,
            high: s.test.high,
            p: s.test.p,
            p_adjusted: s.test.p,
            separable: false,
            blind,
            outcomes: OutcomeCounts::sum(outcomes),
            questions,
            units,
            power: power::of_scope(s, &variances, questions, options),
        })
    };
    paired.scopes.iter().enumerate().filter_map(scope).collect()
}

/// Adjusts p over all scopes of the same kind in all pairs.
fn adjust(pairs: &mut [ArmComparison], confidence: f64) {
    for kind in [ScopeKind::Average, ScopeKind::Category, ScopeKind::Benchmark] {
        let mut scopes: Vec<&mut ScopeComparison> =
            pairs.iter_mut().flat_map(|p| &mut p.scopes).filter(|s| s.kind == kind).collect();
        let adjusted = crate::stats::holm(&scopes.iter().map(|s| s.p).collect::<Vec<_>>());
        for (scope, p) in scopes.iter_mut().zip(adjusted) {
            scope.p_adjusted = p;
            scope.separable = ranking::is_separable(p, scope.low, scope.high, confidence);
        }
    }
}

impl Comparison {
    /// Returns whether the comparison is of one arm with one arm.
    pub fn is_single(&self) -> bool {
        self.pairs.len() == 1
    }
}

impl ArmComparison {
    /// Returns the scope that summarises the comparison: the average, or the only benchmark.
    pub fn summary(&self) -> Option<&ScopeComparison> {
        self.scopes.iter().find(|s| s.scope == AVERAGE).or_else(|| self.scopes.first())
    }

    /// Returns the scopes of one kind.
    pub fn of_kind(&self, kind: ScopeKind) -> impl Iterator<Item = &ScopeComparison> {
        self.scopes.iter().filter(move |s| s.kind == kind)
    }
}
