//! Bootstrap replicates of the averages alone, for decisions during a race.

use super::options::RankOptions;
use super::resample::{points, seed_weights, unit_draws};
use super::run_grid::{GridArm, RunGrid};
use crate::schema::RunResults;
use crate::stats::dot;
use burgess_base::Result;
use rayon::prelude::*;

/// The observed averages of arms, in percent, and their bootstrap replicates.
pub(crate) struct AverageDraws {
    /// Names of the arms, sorted.
    pub arms: Vec<String>,
    /// Observed average of each arm.
    pub observed: Vec<f64>,
    /// Averages of all arms in each replicate. The images drawn are the same for all arms.
    pub replicates: Vec<Vec<f64>>,
}

/// Draws the averages of arms as [`super::rank`] does: the same images for all arms, and for arms with several seeds
/// also the seeds.
///
/// # Errors
/// The errors of [`super::rank`].
pub(crate) fn average_draws(runs: &[RunResults], options: &RankOptions) -> Result<AverageDraws> {
    options.check()?;
    let grid = RunGrid::new(runs, options)?;
    let replicates = (0..options.replicates).into_par_iter();
    let replicate = |r| averages(&grid, &unit_draws(&grid, options, r), |arm| seed_weights(arm, options, r));
    let once: Vec<Vec<f64>> = grid.benchmarks.iter().map(|b| vec![1.0; b.weights.len()]).collect();
    let equal = |arm: &GridArm| vec![1.0 / arm.runs.len() as f64; arm.runs.len()];
    Ok(AverageDraws {
        arms: grid.arms.iter().map(|arm| arm.arm.clone()).collect(),
        observed: averages(&grid, &once, equal),
        replicates: replicates.map(replicate).collect(),
    })
}

/// The averages of all arms, with each unit counted as often as drawn and each seed with its weight.
fn averages(grid: &RunGrid, draws: &[Vec<f64>], seed_weights: impl Fn(&GridArm) -> Vec<f64>) -> Vec<f64> {
    let totals: Vec<f64> = grid.benchmarks.iter().zip(draws).map(|(b, d)| dot(d, &b.weights)).collect();
    // The average is the first scope; benchmarks that do not count have weight 0.
    let weights = grid.scopes.first().map_or(&[] as &[f64], |scope| scope.weights.as_slice());
    let counted: Vec<(usize, f64)> = weights.iter().copied().enumerate().filter(|(_, weight)| *weight > 0.0).collect();
    let run = |sums: &[Vec<f64>]| -> f64 { counted.iter().map(|(b, w)| w * points(sums, draws, &totals, *b)).sum() };
    let average = |arm: &GridArm| arm.runs.iter().zip(seed_weights(arm)).map(|(r, weight)| weight * run(&r.sums)).sum();
    grid.arms.iter().map(average).collect()
}

#[cfg(test)]
mod tests {
    use super::super::resample::{at, bootstrap};
    use super::*;
    use crate::racing::RecordedScores;

    /// A race judges by the same draws as the ranking shows.
    #[test]
    fn averages_are_those_of_the_ranking() -> Result<()> {
        let scores: RecordedScores = serde_json::from_str(include_str!("../../../tests/golden/racing/nano.json"))?;
        let everything: Vec<Vec<usize>> = scores.benchmarks.iter().map(|b| (0..b.units()).collect()).collect();
        let mut runs = Vec::new();
        for run in scores.runs.iter().take(6) {
            // The second three stand for a second seed of the first three arms.
            let (arm, seed) = (format!("arm-{}", runs.len() % 3), (runs.len() / 3) as u64);
            runs.push(scores.results(&arm, seed, &scores.points(run)?, &everything));
        }
        let options = RankOptions { replicates: 20, ..RankOptions::default() };
        let draws = average_draws(&runs, &options)?;
        let grid = RunGrid::new(&runs, &options)?;
        for (mine, theirs) in draws.replicates.iter().zip(bootstrap(&grid, &options)) {
            for (arm, average) in mine.iter().enumerate() {
                assert!((average - at(&theirs.image, arm, 0)).abs() < 1e-9, "{average}");
            }
        }
        assert!(draws.replicates.first() != draws.replicates.last());
        Ok(())
    }
}
