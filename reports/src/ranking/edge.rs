//! Intervals where the bootstrap has none: when an arm gets nothing right, or everything, or nearly so.
//!
//! Units that all have the same score give replicates that all have it too, and an interval of width zero, as if the next
//! image could not be answered otherwise. There, and wherever fewer than [`FEW`] units are right or fewer than [`FEW`] are
//! wrong, the interval of a benchmark's score is the union of the bootstrap's and Wilson's over the effective number of units
//! ([`stats::effective_units`]): exact for one yes/no a unit, conservative for clusters of questions and for scores between
//! right and wrong (ANLS, soft VQA accuracy, MME's sum of accuracies), which cannot vary more than a yes/no of the same mean.
//! A metric whose points leave the range from nothing to all keeps the bootstrap's interval.
//!
//! Means over benchmarks, that is categories and the average, take over what such a benchmark adds, by squaring and adding
//! the distances of the ends from the score (MOVER; Zou and Donner 2008): benchmarks are drawn independently.

use super::at;
use super::grid::{Grid, Run};
use super::resample::Scores;
use crate::stats;

/// With fewer right or wrong units than this the bootstrap says too little.
const FEW: f64 = 5.0;

/// A replicate interval narrower than this has no width.
const NO_WIDTH: f64 = 1e-9;

/// How a benchmark's interval departs from the bootstrap's.
#[derive(Clone, Copy)]
struct Departure {
    benchmark: usize,
    value: f64,
    replicates: (f64, f64),
    proper: (f64, f64),
}

/// Corrections of one number (with the image, without, or a difference) for every benchmark that needs one.
pub(super) struct Edges(Vec<Departure>);

/// What is looked at: how to read a number off scores at a scope.
pub(super) type Reading<'a> = &'a dyn Fn(&Scores, usize) -> f64;

impl Edges {
    /// Of a score, in percent. `columns` are the points that it is made of.
    pub fn of_score(
        grid: &Grid,
        arm: usize,
        columns: fn(&Run) -> &Vec<Vec<f64>>,
        observed: &Scores,
        replicates: &[Scores],
        confidence: f64,
        read: Reading<'_>,
    ) -> Self {
        Self::of(grid, observed, replicates, confidence, read, false, |b, value, (low, high)| {
            let (bench, arm) = (grid.benchmarks.get(b)?, grid.arms.get(arm)?);
            let bounded = arm.runs.iter().all(|run| {
                let points = columns(run).get(b).map_or(&[][..], Vec::as_slice);
                points.iter().zip(&bench.weights).all(|(p, w)| *p >= -NO_WIDTH && *p <= w + NO_WIDTH)
            });
            let (share, units) = (value / 100.0, stats::effective_units(&bench.weights));
            let few = (share * units).min((1.0 - share) * units) < FEW;
            if !bounded || !(few || high - low < NO_WIDTH) {
                return None;
            }
            let (least, most) = stats::wilson(share, units, confidence);
            // The ends of a share are its limits, whatever rounding makes of them.
            Some(((100.0 * least).min(low).max(0.0), (100.0 * most).max(high).min(100.0)))
        })
    }

    /// Of a paired difference of two scores, in percent, where all units differ by the same: as many units as Wilson's bound
    /// for none of them may differ otherwise, by as much as is possible.
    pub fn of_difference(
        grid: &Grid,
        observed: &Scores,
        replicates: &[Scores],
        confidence: f64,
        read: Reading<'_>,
    ) -> Self {
        Self::of(grid, observed, replicates, confidence, read, true, |b, value, (low, high)| {
            if high - low >= NO_WIDTH {
                return None;
            }
            let units = stats::effective_units(&grid.benchmarks.get(b)?.weights);
            let (_, others) = stats::wilson(0.0, units, confidence);
            Some((value - others * (value + 100.0), value + others * (100.0 - value)))
        })
    }

    /// `constant`: only numbers that are the same in all replicates are looked at.
    fn of(
        grid: &Grid,
        observed: &Scores,
        replicates: &[Scores],
        confidence: f64,
        read: Reading<'_>,
        constant: bool,
        proper: impl Fn(usize, f64, (f64, f64)) -> Option<(f64, f64)>,
    ) -> Self {
        // The benchmarks' own scopes are the last ones.
        let first = grid.scopes.len() - grid.benchmarks.len();
        let departure = |benchmark: usize| {
            let scope = first + benchmark;
            let value = read(observed, scope);
            if constant && replicates.iter().any(|r| (read(r, scope) - value).abs() >= NO_WIDTH) {
                return None;
            }
            let drawn: Vec<f64> = replicates.iter().map(|r| read(r, scope)).collect();
            let replicates = stats::interval(&drawn, confidence);
            Some(Departure { benchmark, value, replicates, proper: proper(benchmark, value, replicates)? })
        };
        Self((0..grid.benchmarks.len()).filter_map(departure).collect())
    }

    /// The interval of a scope: the bootstrap's `replicates`, widened by what its benchmarks depart from theirs; to the bit
    /// the same where none does.
    pub fn interval(&self, grid: &Grid, scope: usize, value: f64, replicates: (f64, f64)) -> (f64, f64) {
        let weights = grid.scopes.get(scope).map_or(&[][..], |s| s.weights.as_slice());
        let mut parts = self
            .0
            .iter()
            .filter_map(|d| Some((*weights.get(d.benchmark)?, d)))
            .filter(|(weight, _)| *weight > 0.0)
            .peekable();
        if parts.peek().is_none() {
            return replicates;
        }
        let squared = |distance: f64| distance.max(0.0).powi(2);
        let mut below = squared(value - replicates.0);
        let mut above = squared(replicates.1 - value);
        for (weight, d) in parts {
            if weight == 1.0 {
                return d.proper;
            }
            below += weight.powi(2) * (squared(d.value - d.proper.0) - squared(d.value - d.replicates.0)).max(0.0);
            above += weight.powi(2) * (squared(d.proper.1 - d.value) - squared(d.replicates.1 - d.value)).max(0.0);
        }
        (value - below.sqrt(), value + above.sqrt())
    }
}

/// The corrected intervals of one arm: with the image, without it, and of the gain.
pub(super) struct ArmEdges {
    image: Edges,
    blind: Edges,
    gain: Edges,
}

impl ArmEdges {
    pub fn new(grid: &Grid, arm: usize, observed: &Scores, replicates: &[Scores], confidence: f64) -> Self {
        let image = |s: &Scores, scope: usize| at(&s.image, arm, scope);
        let blind = |s: &Scores, scope: usize| at(&s.blind, arm, scope);
        let gain = |s: &Scores, scope: usize| image(s, scope) - blind(s, scope);
        Self {
            image: Edges::of_score(grid, arm, |r| &r.sums, observed, replicates, confidence, &image),
            blind: Edges::of_score(grid, arm, |r| &r.blinds, observed, replicates, confidence, &blind),
            gain: Edges::of_difference(grid, observed, replicates, confidence, &gain),
        }
    }

    pub fn image(&self, grid: &Grid, scope: usize, value: f64, replicates: (f64, f64)) -> (f64, f64) {
        self.image.interval(grid, scope, value, replicates)
    }

    pub fn blind(&self, grid: &Grid, scope: usize, value: f64, replicates: (f64, f64)) -> (f64, f64) {
        self.blind.interval(grid, scope, value, replicates)
    }

    pub fn gain(&self, grid: &Grid, scope: usize, value: f64, replicates: (f64, f64)) -> (f64, f64) {
        self.gain.interval(grid, scope, value, replicates)
    }
}
