//! The variance of a paired difference by its sources, and what follows from it: standard error, detectable difference,
//! needed questions and seeds.
//!
//! Let d be the difference of the scores of two arms, each a mean over S seeds of a mean over n units. Then
//!
//! Var d = q/n + Σ over arms (i/(n·S) + s/S),
//!
//! where q is the variance of the units' differences (without luck of the seeds), i that of the seeds' answers to one
//! unit, and s that of the seeds' scores. Over units the linearised variance of a ratio is used
//! ([`crate::stats::clustered_se`]); it contains the first two terms. The variance between the scores of seeds contains
//! the last two, and i is estimated from the residuals of the seeds on each unit, so that nothing is counted twice.
//! Benchmarks are sampled independently, but a seed is shared by all of them.

use super::content::{CompareOptions, Power};
use crate::ranking::{PairedArms, PairedScope};
use crate::schema::{RunResults, UnitScore};
use crate::stats;

/// Variances of one benchmark's difference, in points².
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct BenchmarkVariance {
    /// Linearised variance over units of the difference of means over seeds.
    units: f64,
    /// The part of it that comes from the seeds' answers, for both arms; `None` for one seed.
    interaction: [Option<f64>; 2],
}

/// Returns the variances of the benchmarks, in the order of the comparison; `None` for fewer than two units.
pub(super) fn benchmark_variances(paired: &PairedArms, runs: &[Vec<RunResults>; 2]) -> Vec<Option<BenchmarkVariance>> {
    let of = |name: &str| {
        let units = |side: &Vec<RunResults>| -> Vec<Vec<UnitScore>> {
            side.iter().filter_map(|run| Some(run.results.get(name)?.units.clone())).collect()
        };
        let [a, b] = [units(runs.first()?), units(runs.last()?)];
        benchmark_variance(&a, &b)
    };
    paired.benchmarks.iter().map(|b| of(&b.name)).collect()
}

/// Returns the variances of one benchmark; the units of all runs are the same and in the same order.
fn benchmark_variance(a: &[Vec<UnitScore>], b: &[Vec<UnitScore>]) -> Option<BenchmarkVariance> {
    let weights: Vec<f64> = a.first()?.iter().map(|u| u.weight).collect();
    let mean = |runs: &[Vec<UnitScore>]| -> Vec<f64> {
        let share = 1.0 / runs.len() as f64;
        (0..weights.len()).map(|i| runs.iter().filter_map(|r| r.get(i)).map(|u| share * u.sum).sum()).collect()
    };
    let differences: Vec<f64> = mean(a).iter().zip(mean(b)).map(|(x, y)| x - y).collect();
    let units = (100.0 * stats::clustered_se(&differences, &weights)?).powi(2);
    Some(BenchmarkVariance { units, interaction: [interaction(a, &weights), interaction(b, &weights)] })
}

/// Returns the variance of an arm's mean over seeds that comes from the seeds' answers to single units.
fn interaction(runs: &[Vec<UnitScore>], weights: &[f64]) -> Option<f64> {
    let seeds = runs.len() as f64;
    if runs.len() < 2 {
        return None;
    }
    let residuals: Vec<Vec<f64>> = runs
        .iter()
        .map(|units| {
            let sums: Vec<f64> = units.iter().map(|u| u.sum).collect();
            let score = stats::ratio(&sums, weights).unwrap_or(0.0);
            sums.iter().zip(weights).map(|(s, w)| s - score * w).collect()
        })
        .collect();
    let variance = |i: usize| {
        let of_seeds: Vec<f64> = residuals.iter().filter_map(|r| r.get(i).copied()).collect();
        let mean = of_seeds.iter().sum::<f64>() / seeds;
        of_seeds.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / (seeds - 1.0)
    };
    let (n, total) = (weights.len() as f64, weights.iter().sum::<f64>());
    let sum: f64 = (0..weights.len()).map(variance).sum();
    Some(1e4 * n / (n - 1.0) * sum / (total * total) / seeds)
}

/// Computes the power in a scope with this many questions.
pub(super) fn of_scope(
    scope: &PairedScope,
    variances: &[Option<BenchmarkVariance>],
    questions: usize,
    options: &CompareOptions,
) -> Option<Power> {
    let mut units = 0.0;
    let mut interactions = [Some(0.0), Some(0.0)];
    for (weight, variance) in scope.weights.iter().zip(variances).filter(|(w, _)| **w > 0.0) {
        let variance = (*variance)?;
        units += weight * weight * variance.units;
        for (total, part) in interactions.iter_mut().zip(variance.interaction) {
            *total = total.zip(part).map(|(total, part)| total + weight * weight * part);
        }
    }
    let seeds = [0, 1].map(|side| of_seeds(&scope.seed_scores[side], interactions[side]));
    let sum = |parts: [Option<f64>; 2]| parts[0].zip(parts[1]).map(|(a, b)| a + b);
    // A side with one seed has no known variance of seeds; that of the other side is used nevertheless.
    let known = |parts: [Option<f64>; 2]| parts.into_iter().flatten().sum::<f64>();
    let variances = Variances {
        questions: (units - known(interactions)).max(0.0),
        interactions: known(interactions),
        seeds: known(seeds),
    };
    let counts = scope.seed_scores.each_ref().map(Vec::len);
    Some(Power {
        interaction_variance: sum(interactions),
        seed_variance: sum(seeds),
        ..variances.power(questions, counts, options)
    })
}

/// Returns the variance of an arm's score that comes from its seeds' overall scores; `None` for one seed.
fn of_seeds(scores: &[f64], interaction: Option<f64>) -> Option<f64> {
    let n = scores.len() as f64;
    let mean = stats::mean(scores).filter(|_| scores.len() > 1)?;
    let variance = scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Some((variance / n - interaction.unwrap_or(0.0)).max(0.0))
}

/// The parts of the variance of a difference, in points².
#[derive(Debug, Clone, Copy)]
struct Variances {
    questions: f64,
    interactions: f64,
    seeds: f64,
}

impl Variances {
    fn power(self, questions: usize, seeds: [usize; 2], options: &CompareOptions) -> Power {
        let error = (self.questions + self.interactions + self.seeds).sqrt();
        // Two-sided test of level 1 − confidence.
        let level = stats::normal_quantile((1.0 + options.confidence) / 2.0);
        let distance = level + stats::normal_quantile(options.power);
        let differs = error > 1e-9;
        // The variance with which the difference is found with the wanted power.
        let wanted = (options.detect / distance).powi(2);
        let count = |x: f64| (x.is_finite() && x < 1e15).then(|| x.ceil() as u64);
        let over_questions = self.questions + self.interactions;
        let questions_needed = (differs && wanted > self.seeds)
            .then(|| count((questions as f64 * over_questions / (wanted - self.seeds)).max(2.0)))
            .flatten();
        let [a, b] = seeds;
        let seeds_needed = (differs && a > 1 && a == b && wanted > self.questions)
            .then(|| count((a as f64 * (self.interactions + self.seeds) / (wanted - self.questions)).max(1.0)))
            .flatten();
        let together = || {
            let more = (a as f64 * self.seeds / (wanted / 2.0)).ceil().max(a as f64);
            let share = a as f64 / more;
            let rest = wanted - self.seeds * share;
            let over_questions = self.questions + self.interactions * share;
            Some((count(questions as f64 * (over_questions / rest).max(1.0))?, count(more)?))
        };
        let alone = questions_needed.is_some() || seeds_needed.is_some();
        Power {
            both_needed: (differs && a > 1 && a == b && !alone).then(together).flatten(),
            standard_error: error,
            question_variance: self.questions,
            interaction_variance: None,
            seed_variance: None,
            detectable: differs.then_some(distance * error),
            detect: options.detect,
            power: differs.then(|| {
                let away = options.detect / error;
                stats::normal_cdf(away - level) + stats::normal_cdf(-away - level)
            }),
            questions_needed,
            seeds_needed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(sums: &[f64]) -> Vec<UnitScore> {
        let unit = |(i, s): (usize, &f64)| UnitScore { id: i.to_string(), sum: *s, weight: 1.0, blind: 0.0 };
        sums.iter().enumerate().map(unit).collect()
    }

    #[test]
    fn one_seed_gives_the_standard_error_of_the_mean_difference() {
        let (a, b) = ([1.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]);
        let found = benchmark_variance(&[units(&a)], &[units(&b)]).unwrap();
        // Differences 1, 0, 0, 1: variance 1/3, over 4 units.
        assert!((found.units - 1e4 / 12.0).abs() < 1e-9);
        assert_eq!(found.interaction, [None, None]);
        assert_eq!(benchmark_variance(&[units(&[1.0])], &[units(&[0.0])]), None);
    }

    #[test]
    fn needed_numbers_undo_the_power() {
        let options = CompareOptions::default();
        let variances = Variances { questions: 2.0, interactions: 0.5, seeds: 0.0 };
        let found = variances.power(1000, [3, 3], &options);
        let needed = found.questions_needed.unwrap();
        let scaled = 1000.0 / needed as f64;
        let again = Variances { questions: 2.0 * scaled, interactions: 0.5 * scaled, seeds: 0.0 };
        let power = again.power(1000, [3, 3], &options).power.unwrap();
        assert!((power - 0.8).abs() < 1e-3, "{power}");
        assert!((again.power(1000, [3, 3], &options).detectable.unwrap() - 1.0).abs() < 1e-3);
        assert_eq!(found.seeds_needed, None, "the questions alone vary too much");
        let few = Variances { questions: 0.02, interactions: 0.5, seeds: 0.5 };
        let seeds = few.power(1000, [3, 3], &options).seeds_needed.unwrap();
        let share = 3.0 / seeds as f64;
        let again = Variances { questions: 0.02, interactions: 0.5 * share, seeds: 0.5 * share };
        assert!(again.power(1000, [3, 3], &options).power.unwrap() >= 0.8);
        assert_eq!(few.power(1000, [3, 3], &options).questions_needed, None, "the seeds alone vary too much");
        assert_eq!(few.power(1000, [1, 1], &options).seeds_needed, None, "one seed shows no variance");
        let both = Variances { questions: 0.3, interactions: 0.1, seeds: 0.3 };
        let (questions, seeds) = both.power(1000, [3, 3], &options).both_needed.unwrap();
        let (q, s) = (1000.0 / questions as f64, 3.0 / seeds as f64);
        let again = Variances { questions: 0.3 * q, interactions: 0.1 * q * s, seeds: 0.3 * s };
        let power = again.power(1000, [3, 3], &options).power.unwrap();
        assert!((0.8..0.83).contains(&power), "{power}");
        assert_eq!(few.power(1000, [3, 3], &options).both_needed, None, "seeds alone suffice");
    }

    #[test]
    fn equal_answers_have_no_detectable_difference() {
        let none = Variances { questions: 0.0, interactions: 0.0, seeds: 0.0 };
        let found = none.power(10, [1, 1], &CompareOptions::default());
        assert_eq!((found.detectable, found.power, found.questions_needed), (None, None, None));
    }
}
