//! Computes the arms of a ranking: their scores with confidence intervals and their ranks.

use super::baselines::{Baselines, Normaliser};
use super::boundary_correction::ArmCorrections;
use super::content::{ArmRank, ArmScore, RankedArm};
use super::pairs::Resamples;
use super::resample::{self, ScopeScores, at};
use super::run_grid::Scope;
use crate::schema::{self, ArmRole};
use crate::stats;
use ndarray::Array2;
use std::collections::BTreeMap;

/// Returns all arms: the trained ones by average, best first, then the random and the oracle baseline.
pub(super) fn ranked_arms(draws: &Resamples, baselines: &Baselines, confidence: f64) -> Vec<RankedArm> {
    let Resamples { grid, observed, replicates, .. } = *draws;
    let trained: Vec<usize> = (0..grid.arms.len()).filter(|a| baselines.role(*a) == ArmRole::Trained).collect();
    let ranks: Vec<Vec<(usize, usize)>> = replicates.iter().map(|r| ranks(&r.image, &trained)).collect();
    let score = |a: usize, s: usize, chance: f64, corrections: &ArmCorrections, normaliser: &Normaliser| {
        let interval = |f: &dyn Fn(&ScopeScores) -> f64| {
            stats::interval(&replicates.iter().map(f).collect::<Vec<_>>(), confidence)
        };
        let (score, blind) = (at(&observed.image, a, s), at(&observed.blind, a, s));
        let (low, high) = corrections.image(grid, s, score, interval(&|r| at(&r.image, a, s)));
        let (blind_low, blind_high) = corrections.blind(grid, s, blind, interval(&|r| at(&r.blind, a, s)));
        let gains = interval(&|r| at(&r.image, a, s) - at(&r.blind, a, s));
        let (gain_low, gain_high) = corrections.gain(grid, s, score - blind, gains);
        let normalised = normaliser.normalised(s);
        ArmScore { score, low, high, chance, blind, blind_low, blind_high, gain_low, gain_high, normalised }
    };
    let chances: Vec<f64> = grid.benchmarks.iter().map(|b| b.chance).collect();
    let mut arms: Vec<RankedArm> = grid
        .arms
        .iter()
        .enumerate()
        .map(|(a, arm)| {
            let corrections = ArmCorrections::new(grid, a, observed, replicates, confidence);
            let normaliser = Normaliser::new(draws, baselines, a, confidence);
            let mut scores = grid
                .scopes
                .iter()
                .enumerate()
                .map(|(s, scope)| (scope.name.clone(), score(a, s, scope.of(&chances), &corrections, &normaliser)));
            let average = scores.next().map(|(_, s)| s).unwrap_or_else(|| score(a, 0, 0.0, &corrections, &normaliser));
            let categories = scores.by_ref().take(grid.categories.len()).collect();
            let benchmarks = scores.collect();
            let place = trained.iter().position(|t| *t == a).map(|t| place(&ranks, t, confidence));
            let per_seed = |s: &Scope| resample::seed_scores(arm, grid, s).into_iter().collect::<BTreeMap<_, _>>();
            let averages = grid.scopes.first().map(per_seed).unwrap_or_default();
            let of_categories = grid.scopes.iter().skip(1).take(grid.categories.len());
            RankedArm {
                arm: arm.arm.clone(),
                label: schema::label(&arm.arm, &arm.encoders, &arm.freeze),
                encoders: arm.encoders.clone(),
                freeze: arm.freeze.clone(),
                mix: arm.mix.clone(),
                role: baselines.role(a),
                seeds: arm.runs.iter().map(|r| r.seed).collect(),
                place,
                average,
                categories,
                benchmarks,
                per_seed: averages,
                categories_per_seed: of_categories.map(|s| (s.name.clone(), per_seed(s))).collect(),
                published: arm.published,
                answers: arm.answers.clone(),
                cost: arm.cost.clone(),
            }
        })
        .collect();
    arms.sort_by(|a, b| a.role.cmp(&b.role).then(b.average.score.total_cmp(&a.average.score)).then(a.arm.cmp(&b.arm)));
    for (rank, place) in (1..).zip(arms.iter_mut().filter_map(|a| a.place.as_mut())) {
        place.rank = rank;
    }
    arms
}

/// Returns the interval of the rank of the `t`-th trained arm and its probability of being the best. The rank itself is
/// 0 until the arms are sorted.
fn place(ranks: &[Vec<(usize, usize)>], t: usize, confidence: f64) -> ArmRank {
    let mine: Vec<(usize, usize)> = ranks.iter().filter_map(|r| r.get(t).copied()).collect();
    let places: Vec<f64> = mine.iter().map(|(rank, _)| *rank as f64).collect();
    let (low, high) = stats::interval(&places, confidence);
    // k arms with the same highest average count as 1/k of a first rank each.
    let first_shares = mine.iter().filter(|(rank, _)| *rank == 1).map(|(_, tied)| 1.0 / *tied as f64);
    // `fold` is used because `sum` of no numbers is −0.
    let firsts = first_shares.fold(0.0, |total, share| total + share);
    // Ranks are integers, so interval ends between two ranks are rounded outwards.
    let (rank_low, rank_high) = (low.floor() as usize, high.ceil() as usize);
    ArmRank { rank: 0, rank_low, rank_high, p_best: firsts / ranks.len().max(1) as f64 }
}

/// Returns each trained arm's rank by average in one replicate, and the number of arms with that rank.
fn ranks(image: &Array2<f64>, trained: &[usize]) -> Vec<(usize, usize)> {
    let averages: Vec<f64> = trained.iter().map(|a| at(image, *a, 0)).collect();
    averages
        .iter()
        .map(|x| (1 + averages.iter().filter(|o| *o > x).count(), averages.iter().filter(|o| *o == x).count()))
        .collect()
}
