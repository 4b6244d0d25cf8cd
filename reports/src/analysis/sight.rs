//! What does a benchmark measure, language or sight? Its score with the picture, without it, and by guessing.
//!
//! Of what models score above guessing, a part is there without the picture: it is owed to language and to what is known
//! of the world. The rest is owed to seeing: (enabled − blind) / (enabled − floor), where the floor is chance, or what blind
//! models score where that is less (as on MMVP, whose pairs no blind model gets right). A benchmark is said to measure
//! sight where this share is at least two thirds, language where it is at most one third, both in between, and neither
//! where the models hardly score above the floor.

use crate::ranking::Ranking;
use crate::schema::RunResults;
use crate::stats;
use burgess_base::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;

/// Up to this share a benchmark measures language, from the other on it measures sight.
const SHARES: (f64, f64) = (1.0 / 3.0, 2.0 / 3.0);

/// Standard errors within which a number may lie elsewhere.
const ERRORS: f64 = 2.0;

/// Points above the floor that count as none where no standard error is known.
const POINTS: f64 = 1.0;

/// What a benchmark measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Measures {
    Sight,
    Both,
    Language,
    Neither,
}

impl Measures {
    /// In a table.
    pub fn name(self) -> &'static str {
        match self {
            Measures::Sight => "sight",
            Measures::Both => "both",
            Measures::Language => "language",
            Measures::Neither => "neither",
        }
    }
}

/// A difference in points, with its standard error where there are units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Difference {
    pub value: f64,
    pub se: Option<f64>,
}

/// One benchmark; scores are means over the models.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sight {
    pub benchmark: String,
    pub category: String,
    pub enabled: f64,
    /// `None` where nobody measured it.
    pub blind: Option<f64>,
    pub chance: Option<f64>,
    /// Enabled − blind.
    pub gain: Option<Difference>,
    /// Blind − chance.
    pub prior: Option<Difference>,
    /// Standard error of `enabled`.
    pub se: Option<f64>,
    /// (enabled − blind) / (enabled − floor), see above; `None` where it measures neither or a score is unknown.
    pub share: Option<f64>,
    pub measures: Option<Measures>,
    /// Whether the same would be said two standard errors away; `None` where none is known.
    pub clear: Option<bool>,
}

impl Sight {
    /// From means over models that are known without error, such as published ones.
    pub fn of_means(benchmark: &str, category: &str, enabled: f64, blind: Option<f64>, chance: Option<f64>) -> Self {
        Self::new(benchmark, category, enabled, blind, chance, None)
    }

    /// `errors`: of enabled, of enabled − blind, of blind.
    fn new(
        benchmark: &str,
        category: &str,
        enabled: f64,
        blind: Option<f64>,
        chance: Option<f64>,
        errors: Option<[f64; 3]>,
    ) -> Self {
        let [se, gain_se, blind_se] = errors.map_or([None; 3], |e| e.map(Some));
        let gain = blind.map(|b| Difference { value: enabled - b, se: gain_se });
        let prior = blind.zip(chance).map(|(b, c)| Difference { value: b - c, se: blind_se });
        let margin = se.map_or(POINTS, |se| ERRORS * se);
        let above = chance.zip(blind).map(|(c, b)| enabled - c.min(b));
        let share = gain.zip(above).and_then(|(g, above)| (above > margin).then(|| g.value / above));
        let measures = gain.zip(above).map(|_| share.map_or(Measures::Neither, said));
        let clear = measures.zip(gain_se).map(|(measures, se)| {
            let elsewhere = |sign: f64| {
                let moved = |share: f64| said(share + sign * ERRORS * se / above.unwrap_or(1.0));
                share.map_or(Measures::Neither, moved)
            };
            elsewhere(1.0) == measures && elsewhere(-1.0) == measures
        });
        let (benchmark, category) = (benchmark.to_string(), category.to_string());
        Self { benchmark, category, enabled, blind, chance, gain, prior, se, share, measures, clear }
    }
}

fn said(share: f64) -> Measures {
    match share {
        s if s >= SHARES.1 => Measures::Sight,
        s if s > SHARES.0 => Measures::Both,
        _ => Measures::Language,
    }
}

/// Of the runs of a ranking: scores are means over arms, an arm's over its seeds; standard errors are clustered by unit,
/// all runs having answered the same units.
///
/// # Errors
/// A run of an arm lacks a benchmark that the ranking compares.
pub fn of_runs(runs: &[RunResults], ranking: &Ranking) -> Result<Vec<Sight>> {
    ranking.benchmarks.iter().map(|b| of_benchmark(runs, ranking, &b.name, &b.category, b.chance)).collect()
}

fn of_benchmark(runs: &[RunResults], ranking: &Ranking, name: &str, category: &str, chance: f64) -> Result<Sight> {
    // Points with and without the picture, and those that could be won, by unit: sums over runs, each run weighed so that
    // arms count alike.
    let mut units: BTreeMap<&str, (f64, f64, f64)> = BTreeMap::new();
    for run in runs {
        let arm = ranking.arm(&run.run.arm).ok_or_else(|| Error::failed(format!("{} is not ranked", run.run.arm)))?;
        let result =
            run.results.get(name).ok_or_else(|| Error::failed(format!("{} has not answered {name}", run.run.id)))?;
        let share = 1.0 / (ranking.arms.len() * arm.seeds.len()) as f64;
        for unit in &result.units {
            let (sum, blind, weight) = units.entry(unit.id.as_str()).or_default();
            *sum += share * unit.sum;
            *blind += share * unit.blind;
            *weight += share * unit.weight;
        }
    }
    let column = |f: fn(&(f64, f64, f64)) -> f64| -> Vec<f64> { units.values().map(f).collect() };
    let weights = column(|u| u.2);
    let score = |sums: &[f64]| 100.0 * stats::ratio(sums, &weights).unwrap_or(0.0);
    let error = |sums: &[f64]| stats::clustered_se(sums, &weights).map(|se| 100.0 * se);
    let (enabled, blind, gain) = (column(|u| u.0), column(|u| u.1), column(|u| u.0 - u.1));
    let errors = match (error(&enabled), error(&gain), error(&blind)) {
        (Some(a), Some(b), Some(c)) => Some([a, b, c]),
        _ => None,
    };
    Ok(Sight::new(name, category, score(&enabled), Some(score(&blind)), Some(chance), errors))
}

/// What the benchmarks measure, in a sentence for each answer that occurs.
pub fn conclusions(sights: &[Sight]) -> Vec<String> {
    let all = [
        (Measures::Sight, "measure sight: at least two thirds of what models score above guessing needs the picture"),
        (Measures::Both, "measure both: between one and two thirds of it needs the picture"),
        (Measures::Language, "measure language: at most one third of it needs the picture"),
        (Measures::Neither, "measure neither here: the models hardly score above guessing"),
    ];
    let names = |m: Measures| -> Vec<String> {
        sights.iter().filter(|s| s.measures == Some(m)).map(|s| s.benchmark.clone()).collect()
    };
    let said = all.iter().filter_map(|(m, what)| {
        let names = names(*m);
        let what = if names.len() == 1 { what.replacen("measure ", "measures ", 1) } else { what.to_string() };
        (!names.is_empty()).then(|| format!("{} {what}.", crate::words::list(&names)))
    });
    let mut said: Vec<String> = said.collect();
    let unclear: Vec<String> = sights.iter().filter(|s| s.clear == Some(false)).map(|s| s.benchmark.clone()).collect();
    if !unclear.is_empty() {
        said.push(format!(
            "Not clear, since two standard errors away another would be said: {}.",
            crate::words::list(&unclear)
        ));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_decides() {
        let of = |enabled, blind, chance| Sight::of_means("b", "c", enabled, Some(blind), Some(chance)).measures;
        assert_eq!(of(67.2, 67.0, 35.5), Some(Measures::Language));
        assert_eq!(of(58.5, 37.5, 25.0), Some(Measures::Both));
        assert_eq!(of(22.5, 0.0, 25.0), Some(Measures::Sight));
        assert_eq!(of(25.5, 26.0, 25.0), Some(Measures::Neither));
        assert_eq!(of(63.0, 34.0, 50.0), Some(Measures::Sight));
        assert_eq!(Sight::of_means("b", "c", 50.0, None, Some(25.0)).measures, None);
    }

    #[test]
    fn what_noise_could_turn_is_not_clear() {
        let of = |se| Sight::new("b", "c", 45.0, Some(35.0), Some(25.0), Some([1.0, se, 1.0])).clear;
        assert_eq!((of(0.5), of(3.0)), (Some(true), Some(false)));
    }
}
