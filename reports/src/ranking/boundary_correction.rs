//! Confidence intervals where the bootstrap fails: for scores near 0 % or 100 %.
//!
//! If all units have the same score, so do all bootstrap replicates, and their interval has zero width, although the
//! next image could be answered differently. In that case, and whenever fewer than [`FEW`] units are right or fewer
//! than [`FEW`] are wrong, the interval of a benchmark's score is the union of the bootstrap's and Wilson's over the
//! effective number of units ([`stats::effective_units`]). Wilson's interval is made for one binary answer per unit. It
//! is conservative for clusters of questions and for scores between 0 and 1 (ANLS, soft VQA accuracy, MME's sum of
//! accuracies), which cannot vary more than a binary score of the same mean. If the points of a unit are negative
//! or exceed its weight, the bootstrap's interval is kept.
//!
//! Means over benchmarks (categories and the average) widen accordingly: the distances of the interval ends from the
//! score are combined as a root of summed squares (MOVER; Zou and Donner 2008), because benchmarks are drawn
//! independently.

use super::resample::{ScopeScores, at};
use super::run_grid::{GridRun, RunGrid};
use crate::stats;

/// Minimum number of right and of wrong units for which the bootstrap alone is used.
const FEW: f64 = 5.0;

/// Width in points below which a bootstrap interval counts as zero.
const NO_WIDTH: f64 = 1e-9;

/// The correction of one benchmark's interval.
#[derive(Clone, Copy)]
struct Correction {
    /// Index of the benchmark in [`RunGrid::benchmarks`].
    benchmark: usize,
    /// Observed value, in points.
    value: f64,
    /// Interval of the bootstrap.
    replicates: (f64, f64),
    /// Corrected interval.
    corrected: (f64, f64),
}

/// Corrections of one quantity (score, blind score, or a difference) for every benchmark that needs one.
pub(super) struct BoundaryCorrections(Vec<Correction>);

/// A function that returns the quantity in a scope (the average, a category or a benchmark) from the scores of all
/// arms; its second argument is the index of the scope.
pub(super) type ReadScore<'a> = &'a dyn Fn(&ScopeScores, usize) -> f64;

impl BoundaryCorrections {
    /// Computes the corrections of a score in percent; `columns` returns a run's points, `[benchmark][unit]`.
    pub fn of_score(
        grid: &RunGrid,
        arm: usize,
        columns: fn(&GridRun) -> &Vec<Vec<f64>>,
        observed: &ScopeScores,
        replicates: &[ScopeScores],
        confidence: f64,
        read: ReadScore<'_>,
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
            // A score stays between 0 and 100 even with rounding errors.
            Some(((100.0 * least).min(low).max(0.0), (100.0 * most).max(high).min(100.0)))
        })
    }

    /// Computes the corrections of a paired difference of two scores in percent, for benchmarks where all units have
    /// the same difference. Let u be the upper limit of Wilson's interval of a fraction that was observed as 0. Then a
    /// fraction u of all units may have another difference, at worst −100 or +100.
    pub fn of_difference(
        grid: &RunGrid,
        observed: &ScopeScores,
        replicates: &[ScopeScores],
        confidence: f64,
        read: ReadScore<'_>,
    ) -> Self {
        Self::of(grid, observed, replicates, confidence, read, true, |b, value, (low, high)| {
            if high - low >= NO_WIDTH {
                return None;
            }
            let units = stats::effective_units(&grid.benchmarks.get(b)?.weights);
            let (_, upper) = stats::wilson(0.0, units, confidence);
            Some((value - upper * (value + 100.0), value + upper * (100.0 - value)))
        })
    }

    /// Computes the corrections; with `constant`, only for values that are the same in all replicates.
    fn of(
        grid: &RunGrid,
        observed: &ScopeScores,
        replicates: &[ScopeScores],
        confidence: f64,
        read: ReadScore<'_>,
        constant: bool,
        corrected: impl Fn(usize, f64, (f64, f64)) -> Option<(f64, f64)>,
    ) -> Self {
        // The benchmarks' own scopes are the last ones.
        let first = grid.scopes.len() - grid.benchmarks.len();
        let correction = |benchmark: usize| {
            let scope = first + benchmark;
            let value = read(observed, scope);
            if constant && replicates.iter().any(|r| (read(r, scope) - value).abs() >= NO_WIDTH) {
                return None;
            }
            let drawn: Vec<f64> = replicates.iter().map(|r| read(r, scope)).collect();
            let replicates = stats::interval(&drawn, confidence);
            Some(Correction { benchmark, value, replicates, corrected: corrected(benchmark, value, replicates)? })
        };
        Self((0..grid.benchmarks.len()).filter_map(correction).collect())
    }

    /// Returns the interval of a scope: the bootstrap's `replicates`, widened by the corrections of its benchmarks, and
    /// exactly unchanged if there are none.
    pub fn interval(&self, grid: &RunGrid, scope: usize, value: f64, replicates: (f64, f64)) -> (f64, f64) {
        let weights = grid.scopes.get(scope).map_or(&[][..], |s| s.weights.as_slice());
        let mut parts = self
            .0
            .iter()
            .filter_map(|c| Some((*weights.get(c.benchmark)?, c)))
            .filter(|(weight, _)| *weight > 0.0)
            .peekable();
        if parts.peek().is_none() {
            return replicates;
        }
        let squared = |distance: f64| distance.max(0.0).powi(2);
        let mut below = squared(value - replicates.0);
        let mut above = squared(replicates.1 - value);
        for (weight, c) in parts {
            // The scope is this benchmark alone.
            if weight == 1.0 {
                return c.corrected;
            }
            below += weight.powi(2) * (squared(c.value - c.corrected.0) - squared(c.value - c.replicates.0)).max(0.0);
            above += weight.powi(2) * (squared(c.corrected.1 - c.value) - squared(c.replicates.1 - c.value)).max(0.0);
        }
        (value - below.sqrt(), value + above.sqrt())
    }
}

/// The corrected intervals of one arm: score, blind score, and gain (score minus blind score).
pub(super) struct ArmCorrections {
    image: BoundaryCorrections,
    blind: BoundaryCorrections,
    gain: BoundaryCorrections,
}

impl ArmCorrections {
    /// Computes the corrections of the arm with this index.
    pub fn new(
        grid: &RunGrid,
        arm: usize,
        observed: &ScopeScores,
        replicates: &[ScopeScores],
        confidence: f64,
    ) -> Self {
        let image = |s: &ScopeScores, scope: usize| at(&s.image, arm, scope);
        let blind = |s: &ScopeScores, scope: usize| at(&s.blind, arm, scope);
        let gain = |s: &ScopeScores, scope: usize| image(s, scope) - blind(s, scope);
        Self {
            image: BoundaryCorrections::of_score(grid, arm, |r| &r.sums, observed, replicates, confidence, &image),
            blind: BoundaryCorrections::of_score(grid, arm, |r| &r.blinds, observed, replicates, confidence, &blind),
            gain: BoundaryCorrections::of_difference(grid, observed, replicates, confidence, &gain),
        }
    }

    /// Returns the interval of the score in a scope, see [`BoundaryCorrections::interval`].
    pub fn image(&self, grid: &RunGrid, scope: usize, value: f64, replicates: (f64, f64)) -> (f64, f64) {
        self.image.interval(grid, scope, value, replicates)
    }

    /// Returns the interval of the blind score in a scope.
    pub fn blind(&self, grid: &RunGrid, scope: usize, value: f64, replicates: (f64, f64)) -> (f64, f64) {
        self.blind.interval(grid, scope, value, replicates)
    }

    /// Returns the interval of the gain in a scope.
    pub fn gain(&self, grid: &RunGrid, scope: usize, value: f64, replicates: (f64, f64)) -> (f64, f64) {
        self.gain.interval(grid, scope, value, replicates)
    }
}
