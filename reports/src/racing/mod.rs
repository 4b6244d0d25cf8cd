//! Racing: successive halving over the training data, with statistically valid elimination.
//!
//! A race trains all arms on a small fraction of the training data, drops those that are improbable to belong to the
//! best `k`, trains the others on a larger fraction, and so on. Each fraction is a *rung*. The runs of a rung are
//! complete trainings on that fraction with their own learning-rate schedule, not continued ones: a score after a
//! decayed learning rate is comparable between arms, one in the middle of a schedule is not. Features are computed once
//! and shared by all rungs.
//!
//! **Elimination.** After a rung the averages of all arms that are still in the race are resampled with the paired
//! bootstrap of the ranking: the same images for all arms, and for arms with several seeds also the seeds. The
//! probability of an arm to belong to the best `k` is the fraction of replicates in which fewer than `k` arms score
//! higher, counted as (count + 1) / (replicates + 1). The arm is dropped if that probability is below the threshold of
//! the rung. A dropped arm keeps the score and the confidence interval of the rung at which it was dropped.
//!
//! **Correction for repeated looks.** `level` is the probability with which a race may drop any of the best `k` arms.
//! It is spent in equal parts on the rungs after which arms can be dropped (all but the last) and on the `k` arms that
//! could be dropped wrongly: with `r` rungs the threshold of each is `level / (k·(r − 1))`, Bonferroni's bound over
//! looks and arms.
//!
//! **What the probability covers.** It covers other images of the same kind and, with several seeds at a rung, other
//! seeds. It refers to the training data of the rung: an arm that is worst on an eighth of the data and best on all of
//! them is lost. `margin` guards against that: an arm is dropped only if it is improbable to belong to the best `k`
//! even with `margin` points added to its average. The rank correlation between rungs is reported.

mod record;
mod recorded;
mod simulation;
mod spending;
mod terminal;

use crate::ranking::{AverageDraws, RankOptions, average_draws};
use crate::schema::RunResults;
use burgess_base::{Error, Result};
pub use record::{RACE_FILE, RaceArm, RaceRecord, RungRecord, rung_agreement};
pub use recorded::{RecordedRun, RecordedScores};
use serde::{Deserialize, Serialize};
pub use simulation::{Simulation, SimulationOptions};
pub use spending::Spending;
use std::str::FromStr;
pub use terminal::{RaceTable, arms_table, race_text, rungs_table};

/// A rung of a race: a fraction of the training data, and the number of seeds of each arm.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rung {
    /// Fraction of the training data, above 0 and at most 1.
    pub share: f64,
    /// Number of seeds, the first of the study; 0 for all.
    pub seeds: usize,
}

/// The rules of a race.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RaceRules {
    /// Number of arms that the race looks for.
    pub k: usize,
    /// Largest probability with which the race drops any of the best `k` arms, between 0 and 1. Default 0.05.
    pub level: f64,
    /// Points that are added to the average of an arm before it is judged. Default 0.
    pub margin: f64,
    /// The rungs, by share; the last has all of the training data.
    pub rungs: Vec<Rung>,
    /// Whether the best `k` arms are trained on all data once all others are dropped; rungs between are skipped.
    /// Default true.
    pub finish: bool,
    /// Number of bootstrap replicates of each judgement. Default 10000.
    pub replicates: usize,
}

impl Default for RaceRules {
    fn default() -> Self {
        let rung = |share| Rung { share, seeds: 0 };
        let rungs = [0.125, 0.25, 0.5, 1.0].map(rung).to_vec();
        Self { k: 3, level: 0.05, margin: 0.0, rungs, finish: true, replicates: 10_000 }
    }
}

/// Hint on how the rules of a race are written.
const RULES: &str = "the rules: k=3,level=0.05,margin=0,rungs=0.125:0.25:0.5:1,seeds=1:1:1:all,finish=true";

impl RaceRules {
    /// Checks the numbers.
    ///
    /// # Errors
    /// A number is out of its range.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::usage(format!("racing: {what}")).hint(RULES));
        if self.k == 0 {
            return wrong("`k` must be at least 1".into());
        }
        if !(self.level > 0.0 && self.level < 1.0) {
            return wrong(format!("`level` = {} must be between 0 and 1", self.level));
        }
        if !(self.margin >= 0.0 && self.margin <= 100.0) {
            return wrong(format!("`margin` = {} must be from 0 to 100 points", self.margin));
        }
        if let Some(rung) = self.rungs.iter().find(|rung| !(rung.share > 0.0 && rung.share <= 1.0)) {
            return wrong(format!("`rungs`: {} is not a fraction above 0 and at most 1", rung.share));
        }
        if !self.rungs.is_sorted_by(|a, b| a.share <= b.share) || self.rungs.len() < 2 {
            return wrong("`rungs` must be at least two fractions, the smallest first".into());
        }
        if self.rungs.windows(2).any(|pair| matches!(pair, [a, b] if a.share == b.share && !is_more(a.seeds, b.seeds)))
        {
            return wrong("two `rungs` of the same fraction must have more seeds one after the other".into());
        }
        if self.rungs.last().is_some_and(|rung| rung.share != 1.0) {
            return wrong("the last of `rungs` must be 1, all of the training data".into());
        }
        match self.threshold(0) {
            Some(threshold) if threshold * (self.replicates as f64 + 1.0) <= 1.0 => wrong(format!(
                "{} replicates cannot show a probability below the threshold {threshold:.2e}",
                self.replicates
            )),
            _ => Ok(()),
        }
    }

    /// Returns the probability below which an arm is dropped after a rung, numbered from 0; `None` for the last, after
    /// which none is dropped.
    pub fn threshold(&self, rung: usize) -> Option<f64> {
        let looks = self.rungs.len().saturating_sub(1);
        (rung < looks).then(|| self.level / (self.k * looks) as f64)
    }

    /// Returns the correction for repeated looks in words.
    pub fn correction(&self) -> String {
        let looks = self.rungs.len().saturating_sub(1);
        let rungs = crate::formatting::count(looks, "rung");
        let arms = if self.k == 1 { "the best arm".to_string() } else { format!("the {} best arms", self.k) };
        let threshold = self.threshold(0).unwrap_or(0.0);
        format!(
            "level {} spent equally on {rungs} and on {arms} (Bonferroni): an arm is dropped below {threshold:.4}",
            self.level
        )
    }
}

/// Whether a rung with `b` seeds has more than one with `a`, where 0 stands for all.
fn is_more(a: usize, b: usize) -> bool {
    a != 0 && (b == 0 || b > a)
}

impl FromStr for RaceRules {
    type Err = Error;

    /// Reads rules as `k=3,level=0.05,margin=1,rungs=0.125:0.25:1,seeds=1:1:all,finish=false`; the other keys keep
    /// their defaults.
    fn from_str(text: &str) -> Result<Self> {
        let mut rules = Self::default();
        let mut seeds: Option<Vec<usize>> = None;
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let invalid = || Error::usage(format!("racing: `{value}` is no value of `{}`", key.trim())).hint(RULES);
            let number = |text: &str| text.trim().parse::<f64>().map_err(|_| invalid());
            match key.trim() {
                "k" => rules.k = value.trim().parse().map_err(|_| invalid())?,
                "level" => rules.level = number(value)?,
                "margin" => rules.margin = number(value)?,
                "replicates" => rules.replicates = value.trim().parse().map_err(|_| invalid())?,
                "finish" => rules.finish = value.trim().parse().map_err(|_| invalid())?,
                "rungs" => {
                    let shares = value.split(':').map(number).collect::<Result<Vec<_>>>()?;
                    rules.rungs = shares.into_iter().map(|share| Rung { share, seeds: 0 }).collect();
                }
                "seeds" => {
                    let count = |text: &str| match text.trim() {
                        "all" => Ok(0),
                        text => text.parse().ok().filter(|n| *n > 0).ok_or_else(invalid),
                    };
                    seeds = Some(value.split(':').map(count).collect::<Result<_>>()?);
                }
                other => {
                    return Err(Error::usage(format!("racing: there is no rule `{other}`")).hint(RULES));
                }
            }
        }
        if let Some(seeds) = seeds {
            if seeds.len() != rules.rungs.len() {
                return Err(Error::usage(format!(
                    "racing: `seeds` has {} numbers for {} rungs",
                    seeds.len(),
                    rules.rungs.len()
                ))
                .hint("give one number of seeds for each rung, as in rungs=0.125:0.25:1,seeds=1:1:all"));
            }
            for (rung, seeds) in rules.rungs.iter_mut().zip(seeds) {
                rung.seeds = seeds;
            }
        }
        rules.check()?;
        Ok(rules)
    }
}

/// What the runs of a rung say about an arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Name of the arm.
    pub arm: String,
    /// Observed average, in percent.
    pub average: f64,
    /// Probability that the arm belongs to the best `k` on the data of the rung, see the [module](self).
    pub p_best_k: f64,
    /// Whether the arm is dropped.
    pub is_dropped: bool,
}

/// Judges the arms of a rung, numbered from 0, from its runs; the runs must be those of the arms still in the race.
/// Judgements are in the order of the averages, best first.
///
/// # Errors
/// The runs cannot be compared, as in a ranking.
pub fn judge(rules: &RaceRules, rung: usize, runs: &[RunResults], seed: u64) -> Result<Vec<Judgement>> {
    let options = RankOptions { replicates: rules.replicates, seed, ..RankOptions::default() };
    Ok(judgements(rules, rung, &average_draws(runs, &options)?))
}

fn judgements(rules: &RaceRules, rung: usize, draws: &AverageDraws) -> Vec<Judgement> {
    let probabilities = probabilities(draws, rules.k, rules.margin);
    let judged = draws.arms.iter().zip(&draws.observed).zip(probabilities).map(|((arm, average), p_best_k)| {
        Judgement { arm: arm.clone(), average: *average, p_best_k, is_dropped: false }
    });
    let mut judged: Vec<Judgement> = judged.collect();
    judged.sort_by(|a, b| b.average.total_cmp(&a.average).then_with(|| a.arm.cmp(&b.arm)));
    let Some(threshold) = rules.threshold(rung) else { return judged };
    // The k most probable arms stay whatever the threshold, so that a race never ends with fewer.
    let mut order: Vec<f64> = judged.iter().map(|j| j.p_best_k).collect();
    order.sort_by(|a, b| b.total_cmp(a));
    let kept = order.get(rules.k.saturating_sub(1)).copied().unwrap_or(0.0);
    for judgement in &mut judged {
        judgement.is_dropped = judgement.p_best_k < threshold && judgement.p_best_k < kept;
    }
    judged
}

/// Returns for each arm the fraction of replicates in which fewer than `k` other arms exceed its average by more than
/// `margin`.
fn probabilities(draws: &AverageDraws, k: usize, margin: f64) -> Vec<f64> {
    let mut counts = vec![0_usize; draws.arms.len()];
    for replicate in &draws.replicates {
        for (count, own) in counts.iter_mut().zip(replicate) {
            let above = replicate.iter().filter(|other| **other > own + margin).count();
            *count += usize::from(above < k);
        }
    }
    counts.iter().map(|count| (count + 1) as f64 / (draws.replicates.len() + 1) as f64).collect()
}

#[cfg(test)]
mod tests;
