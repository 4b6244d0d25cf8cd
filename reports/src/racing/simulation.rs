//! Races simulated from recorded scores: how often they find what a full grid finds, and what they cost.

use super::recorded::RecordedScores;
use super::{RaceRules, judgements};
use crate::ranking::{RankOptions, average_draws};
use crate::schema::RunResults;
use burgess_base::stream::{Stream, stream};
use burgess_base::{Error, Result};
use rand::RngExt;
use std::collections::BTreeMap;

/// Options of a simulation.
#[derive(Debug, Clone, PartialEq)]
pub struct SimulationOptions {
    /// Number of simulated races.
    pub repetitions: usize,
    /// Cost of asking all questions once, as a fraction of a training on all data.
    pub answering: f64,
    /// Seed of the random streams.
    pub seed: u64,
}

/// What simulated races found and cost.
///
/// In each repetition the questions are drawn anew with replacement, benchmark by benchmark and by units, the same ones
/// for all runs; the seeds of each arm are in a random order, which is the same at all rungs. The race sees the first
/// seeds of that order, as many as its rungs have. The grid of the repetition is every arm with all its seeds on all
/// data, with the same questions.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation {
    /// Number of repetitions.
    pub repetitions: usize,
    /// Repetitions in which the race found the same best `k` arms as the grid of that repetition.
    pub found: usize,
    /// Repetitions in which none of the grid's best `k` was dropped, although more than `k` arms may have been left.
    pub kept: usize,
    /// Repetitions in which the race found the best `k` of the grid of all recorded questions.
    pub found_recorded: usize,
    /// Repetitions in which the grid itself found the best `k` of the grid of all recorded questions: what no race can
    /// be expected to exceed.
    pub grid_found_recorded: usize,
    /// Mean number of arms that were trained at each rung.
    pub arms_at_rungs: Vec<f64>,
    /// Training cost of the grid divided by the mean training cost of the races.
    pub training_ratio: f64,
    /// The same with the cost of answers.
    pub total_ratio: f64,
    /// How often each arm belonged to the best `k` of the grid, most often first.
    pub best: Vec<(String, usize)>,
}

impl Simulation {
    /// Simulates races by these rules.
    ///
    /// # Errors
    /// The recorded scores lack a share of the rules or have too few seeds, or they are damaged.
    pub fn of(scores: &RecordedScores, rules: &RaceRules, options: &SimulationOptions) -> Result<Self> {
        rules.check()?;
        let arms = scores.arms();
        if rules.k >= arms.len() {
            return Err(Error::usage(format!("{} arms were recorded, the race is for {}", arms.len(), rules.k)));
        }
        let mut points = BTreeMap::new();
        for run in &scores.runs {
            points.insert((run.share.to_bits(), run.arm.clone(), run.seed), scores.points(run)?);
        }
        for rung in &rules.rungs {
            if scores.seeds(rung.share).len() < rung.seeds.max(1) {
                return Err(Error::usage(format!("too few seeds were recorded at a share of {}", rung.share)));
            }
        }
        let all = scores.seeds(1.0);
        let everything: Vec<Vec<usize>> = scores.benchmarks.iter().map(|b| (0..b.units()).collect()).collect();
        let world = World { scores, points: &points, arms: &arms };
        let recorded = world.best_of_grid(rules.k, &all, &everything)?;
        let mut sum = Totals { arms_at_rungs: vec![0.0; rules.rungs.len()], ..Totals::default() };
        for repetition in 0..options.repetitions {
            let mut rng = stream(&format!("race/simulation/{repetition}"), options.seed);
            let draws: Vec<Vec<usize>> = scores.benchmarks.iter().map(|b| draw(b.units(), &mut rng)).collect();
            let grid = world.best_of_grid(rules.k, &all, &draws)?;
            let orders: BTreeMap<String, Vec<usize>> =
                arms.iter().map(|arm| (arm.clone(), shuffled(all.len(), &mut rng))).collect();
            let RaceEnd { left, trained } = world.race(rules, &orders, &draws, repetition as u64)?;
            // Judgements are in the order of the averages.
            let mut found: Vec<String> = left.iter().take(rules.k).cloned().collect();
            found.sort();
            sum.found += usize::from(found == grid);
            sum.kept += usize::from(grid.iter().all(|arm| left.contains(arm)));
            sum.found_recorded += usize::from(found == recorded);
            sum.grid_found_recorded += usize::from(grid == recorded);
            for arm in grid {
                *sum.best.entry(arm).or_default() += 1;
            }
            for ((at, counts), rung) in sum.arms_at_rungs.iter_mut().zip(&trained).zip(&rules.rungs) {
                let (arms, runs) = *counts;
                *at += arms as f64 / options.repetitions as f64;
                sum.training += runs as f64 * rung.share;
                sum.answers += runs as f64 * options.answering;
            }
        }
        let grid = (arms.len() * all.len() * options.repetitions) as f64;
        let mut best: Vec<(String, usize)> = sum.best.into_iter().collect();
        best.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Ok(Self {
            repetitions: options.repetitions,
            found: sum.found,
            kept: sum.kept,
            found_recorded: sum.found_recorded,
            grid_found_recorded: sum.grid_found_recorded,
            arms_at_rungs: sum.arms_at_rungs,
            training_ratio: grid / sum.training,
            total_ratio: grid * (1.0 + options.answering) / (sum.training + sum.answers),
            best,
        })
    }
}

/// Sums over repetitions.
#[derive(Default)]
struct Totals {
    found: usize,
    kept: usize,
    found_recorded: usize,
    grid_found_recorded: usize,
    arms_at_rungs: Vec<f64>,
    training: f64,
    answers: f64,
    best: BTreeMap<String, usize>,
}

/// The end of a simulated race.
struct RaceEnd {
    /// The arms that are left, the highest average at the last rung first.
    left: Vec<String>,
    /// Numbers of arms and of runs at each rung.
    trained: Vec<(usize, usize)>,
}

/// Points by share, arm and seed.
type Points = BTreeMap<(u64, String, u64), Vec<Vec<f64>>>;

/// The recorded scores, unpacked.
struct World<'a> {
    scores: &'a RecordedScores,
    points: &'a Points,
    arms: &'a [String],
}

impl World<'_> {
    /// The results of an arm under a seed at a share, on the drawn units.
    fn run(&self, share: f64, arm: &str, seed: u64, draws: &[Vec<usize>]) -> Result<RunResults> {
        let points = self.points.get(&(share.to_bits(), arm.to_string(), seed));
        let points = points.ok_or_else(|| Error::failed(format!("{arm} has no run with seed {seed} at {share}")))?;
        Ok(self.scores.results(arm, seed, points, draws))
    }

    /// The best `k` arms of the grid, sorted by name.
    fn best_of_grid(&self, k: usize, seeds: &[u64], draws: &[Vec<usize>]) -> Result<Vec<String>> {
        let mut runs = Vec::new();
        for arm in self.arms {
            for seed in seeds {
                runs.push(self.run(1.0, arm, *seed, draws)?);
            }
        }
        let averages = average_draws(&runs, &RankOptions { replicates: 1, ..RankOptions::default() })?;
        let mut order: Vec<(String, f64)> = averages.arms.into_iter().zip(averages.observed).collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut best: Vec<String> = order.into_iter().take(k).map(|(arm, _)| arm).collect();
        best.sort();
        Ok(best)
    }

    /// Races the arms.
    ///
    /// More than `k` arms may be left; then the race has found the first `k` of them, as a reader of its table would
    /// say.
    /// If `k` arms are left, the rungs between are skipped, and without `rules.finish` also the last.
    fn race(
        &self,
        rules: &RaceRules,
        orders: &BTreeMap<String, Vec<usize>>,
        draws: &[Vec<usize>],
        seed: u64,
    ) -> Result<RaceEnd> {
        let (mut left, mut trained) = (self.arms.to_vec(), Vec::new());
        for (number, rung) in rules.rungs.iter().enumerate() {
            let is_last = number + 1 == rules.rungs.len();
            if left.len() <= rules.k && !(rules.finish && is_last) {
                trained.push((0, 0));
                continue;
            }
            let seeds = self.scores.seeds(rung.share);
            let count = if rung.seeds == 0 { seeds.len() } else { rung.seeds };
            let mut runs = Vec::new();
            for arm in &left {
                let order = orders.get(arm).map_or(&[] as &[usize], Vec::as_slice);
                for at in order.iter().filter(|at| **at < seeds.len()).take(count) {
                    runs.push(self.run(rung.share, arm, seeds.get(*at).copied().unwrap_or(0), draws)?);
                }
            }
            trained.push((left.len(), runs.len()));
            let options = RankOptions { replicates: rules.replicates, seed, ..RankOptions::default() };
            let judged = judgements(rules, number, &average_draws(&runs, &options)?);
            left = judged.into_iter().filter(|j| !j.is_dropped).map(|j| j.arm).collect();
        }
        Ok(RaceEnd { left, trained })
    }
}

/// Draws `n` of `n` units with replacement.
fn draw(n: usize, rng: &mut Stream) -> Vec<usize> {
    (0..n).map(|_| rng.random_range(0..n)).collect()
}

/// A random order of `0..n`.
fn shuffled(n: usize, rng: &mut Stream) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, rng.random_range(0..=i));
    }
    order
}
