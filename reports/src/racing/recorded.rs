//! Scores of a grid of runs, question by question, from which races are simulated.
//!
//! The file is JSON: benchmarks with the weights of their units, and for each run (share, seed, arm) the points of all
//! units in the order of the benchmarks, as a text of base-64 digits. A unit takes one bit where units are right or
//! wrong, else as many as the fractions of its points need; other fractions than quarters are rounded to sixtieths.

use crate::schema::{BenchmarkResult, RunCost, RunId, RunResults, SCHEMA, UnitScore};
use burgess_base::{Category, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Parts of a unit's points in which they may be stored; the last rounds.
const PARTS: [u32; 3] = [1, 4, 60];

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The recorded scores of a grid of runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedScores {
    /// How the scores were made, in words.
    pub about: String,
    /// The benchmarks.
    pub benchmarks: Vec<RecordedBenchmark>,
    /// The runs.
    pub runs: Vec<RecordedRun>,
}

/// A benchmark of recorded scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedBenchmark {
    /// Name of the benchmark.
    pub name: String,
    /// Category of the benchmark.
    pub category: Category,
    /// Number of parts of a unit's points in which they are stored: 1 for units that are right or wrong.
    pub parts: u32,
    /// Maximum number of points of the units, which are sorted by id: a number, and how many units in a row have it.
    pub weights: Vec<(f64, usize)>,
}

impl RecordedBenchmark {
    /// Number of bits of a unit's points.
    fn bits(&self) -> u32 {
        u32::BITS - self.parts.max(1).leading_zeros()
    }

    /// Number of units.
    pub fn units(&self) -> usize {
        self.weights.iter().map(|(_, count)| count).sum()
    }

    /// Maximum number of points of each unit.
    fn unit_weights(&self) -> Vec<f64> {
        self.weights.iter().flat_map(|(weight, count)| vec![*weight; *count]).collect()
    }
}

/// A recorded run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedRun {
    /// Fraction of the training data.
    pub share: f64,
    /// Seed of the run.
    pub seed: u64,
    /// Name of the arm.
    pub arm: String,
    /// Points of all units, packed.
    pub points: String,
}

impl RecordedScores {
    /// Packs finished runs, each with its share of the training data.
    ///
    /// # Errors
    /// There is no run, or the runs have different units.
    pub fn pack(about: &str, runs: &[(f64, RunResults)]) -> Result<Self> {
        let (_, first) = runs.first().ok_or_else(|| Error::usage("no run was recorded"))?;
        let units = |run: &RunResults, name: &str| -> Result<Vec<UnitScore>> {
            let result = run.results.get(name);
            let mut units = result.ok_or_else(|| Error::failed(format!("{} lacks {name}", run.run.id)))?.units.clone();
            units.sort_by(|a, b| a.id.cmp(&b.id));
            Ok(units)
        };
        let mut benchmarks = Vec::new();
        for (name, result) in &first.results {
            let all = runs.iter().filter_map(|(_, run)| run.results.get(name)).flat_map(|result| &result.units);
            let exact = |parts: u32| all.clone().all(|unit| (part_of(unit, parts).fract() - 0.5).abs() > 0.499);
            let parts = PARTS.into_iter().find(|parts| exact(*parts)).unwrap_or(60);
            let mut weights: Vec<(f64, usize)> = Vec::new();
            for unit in units(first, name)? {
                match weights.last_mut() {
                    Some((weight, count)) if *weight == unit.weight => *count += 1,
                    _ => weights.push((unit.weight, 1)),
                }
            }
            benchmarks.push(RecordedBenchmark {
                name: name.clone(),
                category: result.category.clone(),
                parts,
                weights,
            });
        }
        let mut packed = Vec::new();
        for (share, run) in runs {
            let mut points = Vec::new();
            for benchmark in &benchmarks {
                let (mine, same) = (units(run, &benchmark.name)?, units(first, &benchmark.name)?);
                if mine.iter().map(|u| (&u.id, u.weight)).ne(same.iter().map(|u| (&u.id, u.weight))) {
                    return Err(Error::failed(format!("{}: {} has other units", benchmark.name, run.run.id)));
                }
                points.extend(mine.iter().map(|u| (part_of(u, benchmark.parts).round() as u32, benchmark.bits())));
            }
            let (arm, seed) = (run.run.arm.clone(), run.run.seed);
            packed.push(RecordedRun { share: *share, seed, arm, points: pack(&points) });
        }
        Ok(Self { about: about.to_string(), benchmarks, runs: packed })
    }

    /// The shares of the recorded runs, the smallest first.
    pub fn shares(&self) -> Vec<f64> {
        let mut shares: Vec<f64> = self.runs.iter().map(|run| run.share).collect();
        shares.sort_by(f64::total_cmp);
        shares.dedup();
        shares
    }

    /// The names of the arms, sorted.
    pub fn arms(&self) -> Vec<String> {
        let mut arms: Vec<String> = self.runs.iter().map(|run| run.arm.clone()).collect();
        arms.sort();
        arms.dedup();
        arms
    }

    /// The seeds of all arms at a share: those that every arm has.
    pub fn seeds(&self, share: f64) -> Vec<u64> {
        let has = |arm: &String, seed: u64| {
            self.runs.iter().any(|run| run.share == share && run.seed == seed && run.arm == *arm)
        };
        let mut seeds: Vec<u64> = self.runs.iter().filter(|run| run.share == share).map(|run| run.seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        seeds.retain(|seed| self.arms().iter().all(|arm| has(arm, *seed)));
        seeds
    }

    /// Unpacks a run: the points of all units, by benchmark.
    ///
    /// # Errors
    /// The points are damaged.
    pub fn points(&self, run: &RecordedRun) -> Result<Vec<Vec<f64>>> {
        let bits: Vec<u32> = self.benchmarks.iter().flat_map(|b| vec![b.bits(); b.units()]).collect();
        let all = unpack(&run.points, &bits)
            .ok_or_else(|| Error::failed(format!("the points of {} are damaged", run.arm)))?;
        let mut all = all.into_iter();
        let points = |b: &RecordedBenchmark| {
            let part = |(weight, x): (f64, u32)| weight * f64::from(x) / f64::from(b.parts.max(1));
            b.unit_weights().into_iter().zip(all.by_ref()).map(part).collect()
        };
        Ok(self.benchmarks.iter().map(points).collect())
    }

    /// Makes results of points by benchmark. `draws` are the numbers of the units that the results have, by benchmark;
    /// a unit that is drawn twice becomes two units.
    pub fn results(&self, arm: &str, seed: u64, points: &[Vec<f64>], draws: &[Vec<usize>]) -> RunResults {
        let mut results = BTreeMap::new();
        for ((benchmark, points), draws) in self.benchmarks.iter().zip(points).zip(draws) {
            let weights = benchmark.unit_weights();
            let unit = |(number, drawn): (usize, &usize)| {
                let weight = weights.get(*drawn).copied().unwrap_or(0.0);
                let sum = points.get(*drawn).copied().unwrap_or(0.0);
                UnitScore { id: format!("{number:05}"), sum, weight, blind: 0.0 }
            };
            let mut result = BenchmarkResult {
                category: benchmark.category.clone(),
                metric: "accuracy".into(),
                scoring: "official".into(),
                prompts: "official".into(),
                sample_of: None,
                score: 0.0,
                stderr: 0.0,
                chance: f64::NAN,
                blind: 0.0,
                n: draws.len(),
                n_unparsed: 0,
                most_frequent_answer: None,
                n_reasoning: 0,
                several_images: None,
                n_without_image: 0,
                higher_is_better: true,
                seconds: 0.0,
                likelihood: None,
                judge: None,
                units: draws.iter().enumerate().map(unit).collect(),
            };
            result.summarise();
            results.insert(benchmark.name.clone(), result);
        }
        RunResults {
            schema: SCHEMA,
            run: RunId {
                id: format!("{arm}/seed-{seed}"),
                study: "recorded".into(),
                arm: arm.to_string(),
                encoders: vec![arm.to_string()],
                freeze: "frozen".into(),
                connector: String::new(),
                llm: String::new(),
                seed,
                blind: "omitted".into(),
                published: None,
                role: None,
            },
            results,
            categories: BTreeMap::new(),
            average: 0.0,
            until_ci: BTreeMap::new(),
            cost: RunCost::default(),
            config: serde_json::Value::Null,
            versions: BTreeMap::new(),
            digests: BTreeMap::new(),
            date: String::new(),
            device: String::new(),
            notes: Vec::new(),
        }
    }
}

/// The points of a unit as a number of parts of its maximum.
fn part_of(unit: &UnitScore, parts: u32) -> f64 {
    if unit.weight > 0.0 { unit.sum.clamp(0.0, unit.weight) / unit.weight * f64::from(parts) } else { 0.0 }
}

/// Packs numbers, each with its number of bits, into base-64 digits, most significant bit first.
fn pack(values: &[(u32, u32)]) -> String {
    let stream: Vec<bool> =
        values.iter().flat_map(|(v, bits)| (0..*bits).rev().map(move |b| v >> b & 1 == 1)).collect();
    let digit = |part: &[bool]| {
        let value = (0..6).fold(0, |sum, i| 2 * sum + usize::from(part.get(i).copied().unwrap_or(false)));
        char::from(DIGITS.get(value).copied().unwrap_or(b'A'))
    };
    stream.chunks(6).map(digit).collect()
}

/// Reads numbers of these numbers of bits; `None` if the text is not what [`pack`] writes for them.
fn unpack(text: &str, bits: &[u32]) -> Option<Vec<u32>> {
    let mut stream = Vec::with_capacity(text.len() * 6);
    for digit in text.bytes() {
        let value = DIGITS.iter().position(|d| *d == digit)?;
        stream.extend((0..6).rev().map(|b| value >> b & 1 == 1));
    }
    let count: u32 = bits.iter().sum();
    if stream.len() < count as usize || stream.len() >= count as usize + 6 {
        return None;
    }
    let mut stream = stream.into_iter();
    let number = |bits: &u32| stream.by_ref().take(*bits as usize).fold(0, |sum, bit| 2 * sum + u32::from(bit));
    Some(bits.iter().map(number).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_read_back_as_packed() {
        let values = [(0, 1), (1, 1), (1, 1), (5, 3), (0, 3), (59, 6), (60, 6), (1, 1), (3, 2)];
        let bits: Vec<u32> = values.iter().map(|(_, bits)| *bits).collect();
        let text = pack(&values);
        assert_eq!(unpack(&text, &bits), Some(values.iter().map(|(value, _)| *value).collect()));
        assert_eq!(unpack(&text, &[&bits[..], &[6]].concat()), None);
        assert_eq!(unpack("A!", &[1; 7]), None);
        assert_eq!(unpack("", &[]), Some(vec![]));
    }
}
