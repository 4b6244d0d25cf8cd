//! Selects the pairs of arms to compare, and computes their tests.

use super::boundary_correction::{BoundaryCorrections, ReadScore};
use super::content::{PairCount, PairTest, RankedArm, Ranking, TestFamily};
use super::resample::{ScopeScores, at};
use super::run_grid::RunGrid;
use crate::stats;
use ndarray::Array2;
use std::collections::BTreeMap;

/// The inputs of the tests: grid, observed scores, bootstrap replicates and sign flips.
pub(super) struct Resamples<'a> {
    pub grid: &'a RunGrid,
    pub observed: &'a ScopeScores,
    pub replicates: &'a [ScopeScores],
    pub flips: &'a [Array2<f64>],
}

impl Resamples<'_> {
    /// Tests `a` against `b` in a scope; p is not adjusted yet.
    pub fn test(&self, family: TestFamily, s: usize, a: &str, b: &str, confidence: f64) -> Option<PairTest> {
        let index = |name: &str| self.grid.arms.iter().position(|x| x.arm == name);
        let (i, j) = (index(a)?, index(b)?);
        let between = |values: &Array2<f64>| at(values, i, s) - at(values, j, s);
        let read = |scores: &ScopeScores, scope: usize| at(&scores.image, i, scope) - at(&scores.image, j, scope);
        let (difference, low, high) = self.interval_of(s, confidence, &read);
        let threshold = difference.abs() - stats::tie_tolerance(difference);
        let extreme = self.flips.iter().filter(|f| between(f).abs() >= threshold).count();
        let p = stats::p_value(extreme, self.flips.len());
        let scope = self.grid.scopes.get(s)?.name.clone();
        let (a, b) = (a.to_string(), b.to_string());
        Some(PairTest { scope, family, a, b, difference, low, high, p, p_adjusted: p, separable: false })
    }

    /// Returns a paired difference in a scope with its interval: (value, low, high).
    pub fn interval_of(&self, s: usize, confidence: f64, read: ReadScore<'_>) -> (f64, f64, f64) {
        let value = read(self.observed, s);
        let drawn: Vec<f64> = self.replicates.iter().map(|r| read(r, s)).collect();
        let corrections =
            BoundaryCorrections::of_difference(self.grid, self.observed, self.replicates, confidence, read);
        let (low, high) = corrections.interval(self.grid, s, value, stats::interval(&drawn, confidence));
        (value, low, high)
    }

    /// Computes the tests of some pairs in a scope, with p adjusted over them.
    fn family(&self, family: TestFamily, s: usize, pairs: Vec<(&str, &str)>, confidence: f64) -> Vec<PairTest> {
        let tests = pairs.into_iter().filter_map(|(a, b)| self.test(family, s, a, b, confidence));
        let mut tests: Vec<PairTest> = tests.collect();
        let adjusted = stats::holm(&tests.iter().map(|t| t.p).collect::<Vec<_>>());
        for (test, p) in tests.iter_mut().zip(adjusted) {
            test.p_adjusted = p;
            test.decide(confidence);
        }
        tests
    }
}

/// Computes the tests of a ranking: neighbours, leader, random baseline, unfreezing, and the arms of series.
pub(super) fn tests(ranking: &Ranking, draws: &Resamples, series: &[Vec<String>]) -> Vec<PairTest> {
    let mut all = Vec::new();
    for (s, scope) in draws.grid.scopes.iter().enumerate().take(1 + ranking.categories.len()) {
        let order: Vec<&str> = ranking.order(&scope.name).iter().map(|a| a.arm.as_str()).collect();
        for (family, pairs) in [
            (TestFamily::Neighbours, order.windows(2).filter_map(|w| Some((*w.first()?, *w.get(1)?))).collect()),
            (TestFamily::Leader, order.iter().skip(1).filter_map(|b| Some((*order.first()?, *b))).collect()),
            (TestFamily::Random, with_random(ranking)),
            (TestFamily::Unfreezing, unfrozen_pairs(ranking)),
        ] {
            all.extend(draws.family(family, s, pairs, ranking.confidence));
        }
        // p is adjusted over the arms of one series.
        for arms in series {
            let first = arms.first();
            let pairs = arms.iter().skip(1).filter_map(|arm| Some((arm.as_str(), first?.as_str()))).collect();
            all.extend(draws.family(TestFamily::Series, s, pairs, ranking.confidence));
        }
    }
    all
}

/// Counts the separable pairs of trained arms, for the average and each category.
///
/// There are many pairs, and Holm's factor times the smallest p that this number of flips can give would make none of
/// them separable. So p is adjusted over all pairs of a scope by the largest difference between any two arms under each
/// flip (single-step max-T; Westfall and Young 1993). The flips give it directly, because the signs are the same for
/// all arms.
pub(super) fn all_pairs(ranking: &Ranking, draws: &Resamples) -> BTreeMap<String, PairCount> {
    let arms: Vec<&str> = ranking.trained().map(|a| a.arm.as_str()).collect();
    let index = |name: &str| draws.grid.arms.iter().position(|x| x.arm == name);
    let indices: Vec<usize> = arms.iter().filter_map(|a| index(a)).collect();
    let pairs = || arms.iter().enumerate().flat_map(|(i, a)| arms.iter().skip(i + 1).map(|b| (*a, *b)));
    let scopes = draws.grid.scopes.iter().enumerate().take(1 + ranking.categories.len());
    let count = |s: usize| {
        let widest = |flip: &Array2<f64>| {
            let ends = indices.iter().map(|a| at(flip, *a, s));
            let (low, high) = ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
            high - low
        };
        let widest: Vec<f64> = draws.flips.iter().map(widest).collect();
        let separable = pairs().filter(|(a, b)| {
            // The family is irrelevant, because only the number of tests is kept.
            let Some(mut test) = draws.test(TestFamily::Neighbours, s, a, b, ranking.confidence) else { return false };
            let threshold = test.difference.abs() - stats::tie_tolerance(test.difference);
            let extreme = widest.iter().filter(|w| **w >= threshold).count();
            test.p_adjusted = stats::p_value(extreme, widest.len());
            test.decide(ranking.confidence);
            test.separable
        });
        PairCount { pairs: pairs().count(), separable: separable.count() }
    };
    scopes.map(|(s, scope)| (scope.name.clone(), count(s))).collect()
}

/// Returns the pairs (trained, random). Unfrozen arms are left out, because a part of their score comes from the tune
/// stage; they are compared with their frozen arm.
fn with_random(ranking: &Ranking) -> Vec<(&str, &str)> {
    let Some(random) = &ranking.random else { return Vec::new() };
    let others = ranking.trained().filter(|a| a.freeze == "frozen");
    others.map(|a| (a.arm.as_str(), random.as_str())).collect()
}

/// Returns the pairs (unfrozen, frozen) of arms with the same encoders and data.
pub(crate) fn unfrozen_pairs(ranking: &Ranking) -> Vec<(&str, &str)> {
    let unfrozen = ranking.arms.iter().filter(|a| a.freeze == "unfrozen");
    unfrozen
        .filter_map(|u| {
            let same = |f: &&RankedArm| f.freeze == "frozen" && (&f.encoders, &f.mix) == (&u.encoders, &u.mix);
            let frozen = ranking.arms.iter().find(same)?;
            Some((u.arm.as_str(), frozen.arm.as_str()))
        })
        .collect()
}
