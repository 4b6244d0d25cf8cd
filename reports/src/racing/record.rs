//! `race.json`: the plan of a race, what it found, what it spent and what a grid would have cost.

use super::{RaceRules, Spending};
use crate::schema::SCHEMA;
use crate::stats::{Estimate, kendall_tau};
use burgess_base::{Error, Result, atomic};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Name of the file in a study's directory.
pub const RACE_FILE: &str = "race.json";

/// The content of `race.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RaceRecord {
    /// Version of the file format, [`SCHEMA`].
    pub schema: u32,
    /// The rules.
    pub rules: RaceRules,
    /// The correction for repeated looks, in words.
    pub correction: String,
    /// Seeds of the study.
    pub seeds: Vec<u64>,
    /// Number of training samples of one run on all of the data, both stages.
    pub samples: usize,
    /// The rungs.
    pub rungs: Vec<RungRecord>,
    /// The arms: by the last rung that they reached, then by average, best first.
    pub arms: Vec<RaceArm>,
    /// Cost of all runs of the race.
    pub spent: Spending,
    /// Estimated cost of the grid: every arm with every seed on all of the data. Samples are exact; tokens and seconds
    /// are those of each arm's last rung, scaled by its share.
    pub grid: Spending,
}

/// A rung of a race.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RungRecord {
    /// Fraction of the training data.
    pub share: f64,
    /// Seeds of the runs.
    pub seeds: Vec<u64>,
    /// Number of arms that were trained; 0 if the race did not reach the rung.
    pub arms: usize,
    /// Probability below which an arm is dropped; `None` at the last rung.
    pub threshold: Option<f64>,
    /// Names of the arms that were dropped after the rung.
    pub dropped: Vec<String>,
    /// Kendall's τ between the averages here and at the rung before, over the arms of both; `None` for fewer than two.
    pub tau: Option<f64>,
    /// Cost of the rung's runs.
    pub spent: Spending,
}

/// An arm of a race.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RaceArm {
    /// Name of the arm.
    pub arm: String,
    /// Number of the last rung at which the arm was trained, from 1.
    pub rung: usize,
    /// Fraction of the training data of that rung.
    pub share: f64,
    /// Whether the arm was dropped after that rung.
    pub is_dropped: bool,
    /// Average at that rung with its confidence interval, in percent.
    pub average: Estimate,
    /// Probability that the arm belongs to the best `k` of those at that rung.
    pub p_best_k: f64,
}

impl RaceRecord {
    /// Reads `race.json` of a study's directory; `None` if there is none.
    ///
    /// # Errors
    /// The file cannot be read, or it has another version.
    pub fn read(study: &Path) -> Result<Option<Self>> {
        let path = study.join(RACE_FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let record: Self = atomic::read_json(&path)?;
        match record.schema == SCHEMA {
            true => Ok(Some(record)),
            false => Err(Error::failed(format!(
                "{} has schema {}, but this version of burgess reads schema {SCHEMA}",
                path.display(),
                record.schema
            ))
            .hint("run the race again with this version: finished runs are kept")),
        }
    }

    /// Writes `race.json` into a study's directory.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, study: &Path) -> Result<()> {
        atomic::write_json(&study.join(RACE_FILE), self)
    }

    /// Sorts the arms: by the last rung that they reached, then by average, best first, then by name.
    pub fn sort(&mut self) {
        self.arms.sort_by(|a, b| {
            let rung = b.rung.cmp(&a.rung).then(a.is_dropped.cmp(&b.is_dropped));
            rung.then(b.average.value.total_cmp(&a.average.value)).then_with(|| a.arm.cmp(&b.arm))
        });
    }

    /// The arm with this name.
    pub fn arm(&self, name: &str) -> Option<&RaceArm> {
        self.arms.iter().find(|arm| arm.arm == name)
    }

    /// Formulates what was spent and saved, and what the result rests on, as sentences.
    pub fn conclusions(&self) -> Vec<String> {
        let kept: Vec<&RaceArm> = self.arms.iter().filter(|arm| !arm.is_dropped).collect();
        let names: Vec<String> = kept.iter().map(|arm| arm.arm.clone()).collect();
        let mut said = vec![match kept.len() <= self.rules.k {
            true => {
                format!("The best {} of {} arms: {}.", kept.len(), self.arms.len(), crate::formatting::list(&names))
            }
            false => format!(
                "{} of {} arms were not dropped: {}. The race cannot tell which of them are the best {}.",
                kept.len(),
                self.arms.len(),
                crate::formatting::list(&names),
                self.rules.k
            ),
        }];
        let [samples, operations, seconds] = self.spent.times_less_than(&self.grid);
        let part = |what: &str, ratio: Option<f64>| {
            let ratio = ratio?;
            let times = if ratio >= 1.05 { format!(" ({ratio:.1} times less)") } else { String::new() };
            Some(format!("{:.0} % of the {what}{times}", 100.0 / ratio))
        };
        let parts = [("training samples", samples), ("training operations", operations), ("seconds", seconds)];
        let parts: Vec<String> = parts.into_iter().filter_map(|(what, ratio)| part(what, ratio)).collect();
        if !parts.is_empty() {
            said.push(format!(
                "The race cost {} of the grid of {} arms and {}.",
                crate::formatting::list(&parts),
                self.arms.len(),
                crate::formatting::count(self.seeds.len(), "seed")
            ));
        }
        said.push(format!(
            "Correction for repeated looks: {}. The probabilities cover other images{}; they do not cover that the \
             order of arms may change with more training data{}.",
            self.correction,
            if self.rungs.iter().all(|rung| rung.seeds.len() < 2) { ", not other seeds" } else { " and other seeds" },
            match self.rules.margin > 0.0 {
                true => format!(", against which each arm has a margin of {} points", self.rules.margin),
                false => String::new(),
            }
        ));
        said
    }
}

/// Returns Kendall's τ of the averages of arms at two rungs, over the arms that both have.
pub fn rung_agreement(before: &[(String, f64)], after: &[(String, f64)]) -> Option<f64> {
    let pairs: Vec<(f64, f64)> = after
        .iter()
        .filter_map(|(arm, score)| before.iter().find(|(other, _)| other == arm).map(|(_, earlier)| (*earlier, *score)))
        .collect();
    let (x, y): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
    kendall_tau(&x, &y)
}
