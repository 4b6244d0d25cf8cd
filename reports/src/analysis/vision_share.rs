//! Vision or language: each benchmark's score with the image, without it (blind), and at chance.
//!
//! A part of what models score above chance needs no image; it is due to language and world knowledge. The rest is due
//! to vision: its share is (enabled − blind) / (enabled − floor), where the floor is chance, or the blind score if
//! that is lower. A benchmark measures vision if the share is at least two thirds, language if it is at most one third,
//! and otherwise both.
//!
//! The share is computed over the arms that are separably above chance (whose confidence interval lies above it),
//! because below chance there is no score to attribute. If there is no such arm, the benchmark **measures nothing** in
//! this study. If a change of the gain by two standard errors would change the verdict, or if no standard error can be
//! estimated, the verdict is **unclear**. Every benchmark gets exactly one of these verdicts.

use crate::formatting;
use crate::ranking::Ranking;
use crate::schema::RunResults;
use crate::stats;
use burgess_base::{Category, Error, Result};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// A benchmark measures language up to the first share, and vision from the second share on.
const SHARES: (f64, f64) = (1.0 / 3.0, 2.0 / 3.0);

/// Number of standard errors that count as the uncertainty of a number.
const STANDARD_ERRORS: f64 = 2.0;

/// Points above the floor that count as zero if no standard error is known.
const MIN_POINTS_ABOVE_CHANCE: f64 = 1.0;

/// The verdict on what a benchmark measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MeasuredAbility {
    /// At least two thirds of the score above chance need the image.
    #[serde(rename = "sight")]
    Vision,
    /// Between one and two thirds of the score above chance need the image.
    Both,
    /// At most one third of the score above chance needs the image.
    Language,
    /// No model scores above chance.
    Nothing,
    /// Two standard errors would change the verdict, or no standard error can be estimated.
    Unclear,
    /// The blind score or chance is not known.
    Unknown,
}

/// A difference in points, with its standard error if it is computed from units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PointDifference {
    pub value: f64,
    pub se: Option<f64>,
}

/// The result for one benchmark; scores are means over the models, in percent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VisionShare {
    /// Name of the benchmark.
    pub benchmark: String,
    /// Category of the benchmark.
    pub category: Category,
    /// Mean score with the image.
    pub enabled: f64,
    /// Mean blind score; `None` if it was not measured.
    pub blind: Option<f64>,
    /// Expected score of guessing; `None` if unknown.
    pub chance: Option<f64>,
    /// The gain by the image: enabled − blind.
    pub gain: Option<PointDifference>,
    /// The language prior: blind − chance.
    pub prior: Option<PointDifference>,
    /// Standard error of `enabled`, in points.
    pub se: Option<f64>,
    /// Interval of two standard errors around `enabled`, or Wilson's interval near 0 or 100.
    pub interval: Option<(f64, f64)>,
    /// Number of models separably above chance, over which `share` is computed; `None` if only means over models are
    /// known.
    pub above_chance: Option<usize>,
    /// Share of the score above the floor that needs the image: (enabled − blind) / (enabled − floor); `None` if
    /// nothing is measured or a score is unknown.
    pub share: Option<f64>,
    /// What the benchmark measures, which follows from `share`.
    pub measures: MeasuredAbility,
}

/// Means over models, with their standard errors in points where known.
#[derive(Debug, Clone, Copy)]
struct Means {
    enabled: f64,
    blind: f64,
    /// Standard errors of enabled, of enabled − blind, and of blind.
    errors: Option<[f64; 3]>,
}

impl VisionShare {
    /// Creates the result from means over models without standard errors, such as published ones. Here a mean is above
    /// chance if it exceeds it by more than one point.
    pub fn of_means(
        benchmark: &str,
        category: &Category,
        enabled: f64,
        blind: Option<f64>,
        chance: Option<f64>,
    ) -> Self {
        let (share, measures) = match (blind, chance) {
            (Some(_), Some(chance)) if enabled - chance <= MIN_POINTS_ABOVE_CHANCE || !enabled.is_finite() => {
                (None, MeasuredAbility::Nothing)
            }
            (Some(blind), Some(chance)) => {
                let share = (enabled - blind) / (enabled - chance.min(blind));
                (Some(share), ability(share))
            }
            _ => (None, MeasuredAbility::Unknown),
        };
        Self {
            benchmark: benchmark.to_string(),
            category: category.clone(),
            enabled,
            blind,
            chance,
            gain: blind.map(|b| PointDifference { value: enabled - b, se: None }),
            prior: blind.zip(chance).map(|(b, c)| PointDifference { value: b - c, se: None }),
            se: None,
            interval: None,
            above_chance: None,
            share,
            measures,
        }
    }

    /// Creates the result for all models from their means and effective units; `above` of them are above chance, with
    /// means `them`.
    fn of_units(
        benchmark: &str,
        category: &Category,
        chance: f64,
        (all, units): (Means, f64),
        above: usize,
        them: Option<Means>,
    ) -> Self {
        let (share, measures) = match them {
            _ if chance.is_nan() => (None, MeasuredAbility::Unknown),
            None => (None, MeasuredAbility::Nothing),
            Some(them) => judge(them, chance),
        };
        let [se, gain_se, blind_se] = all.errors.map_or([None; 3], |e| e.map(Some));
        Self {
            enabled: all.enabled,
            blind: Some(all.blind),
            chance: Some(chance).filter(|c| c.is_finite()),
            gain: Some(PointDifference { value: all.enabled - all.blind, se: gain_se }),
            prior: Some(PointDifference { value: all.blind - chance, se: blind_se }).filter(|d| d.value.is_finite()),
            se,
            interval: Some(interval(all.enabled, se, units)),
            above_chance: Some(above),
            share,
            measures,
            ..Self::of_means(benchmark, category, all.enabled, None, None)
        }
    }
}

/// Returns the share and the verdict that follows from it.
fn judge(them: Means, chance: f64) -> (Option<f64>, MeasuredAbility) {
    let gain = them.enabled - them.blind;
    let above = them.enabled - chance.min(them.blind);
    let Some([se, gain_se, _]) = them.errors.filter(|_| above > 0.0) else { return (None, MeasuredAbility::Unclear) };
    let share = gain / above;
    let elsewhere = [-1.0, 1.0].map(|sign| ability(share + sign * STANDARD_ERRORS * gain_se / above));
    // The share is meaningless if the score above the floor is within its uncertainty.
    let clear = above > STANDARD_ERRORS * se && elsewhere == [ability(share); 2];
    (Some(share), if clear { ability(share) } else { MeasuredAbility::Unclear })
}

/// Returns the interval of two standard errors around a score in percent; Wilson's interval if there is no standard
/// error or if an end would pass 0 or 100.
fn interval(percent: f64, se: Option<f64>, units: f64) -> (f64, f64) {
    let (low, high) = stats::wilson(percent / 100.0, units, 0.95);
    match se.map(|se| (percent - STANDARD_ERRORS * se, percent + STANDARD_ERRORS * se)) {
        Some((l, h)) if h > l && l >= 0.0 && h <= 100.0 => (l, h),
        _ => (100.0 * low, 100.0 * high),
    }
}

fn ability(share: f64) -> MeasuredAbility {
    match share {
        s if s >= SHARES.1 => MeasuredAbility::Vision,
        s if s > SHARES.0 => MeasuredAbility::Both,
        _ => MeasuredAbility::Language,
    }
}

/// Computes the results for the runs of a ranking. Scores are means over its trained arms (over all arms if none is
/// trained), and an arm's score is the mean over its seeds. Standard errors are clustered by unit; all runs answered
/// the same units.
///
/// # Errors
/// An error is returned if a run of an arm lacks a benchmark of the ranking.
pub fn of_runs(runs: &[RunResults], ranking: &Ranking) -> Result<Vec<VisionShare>> {
    ranking.benchmarks.iter().map(|b| of_benchmark(runs, ranking, &b.name, &b.category, b.chance)).collect()
}

fn of_benchmark(
    runs: &[RunResults],
    ranking: &Ranking,
    name: &str,
    category: &Category,
    chance: f64,
) -> Result<VisionShare> {
    let beats = |a: &&crate::ranking::RankedArm| a.score(name).is_some_and(crate::ranking::ArmScore::beats_chance);
    let compared = || ranking.compared().into_iter();
    let all: BTreeSet<&str> = compared().map(|a| a.arm.as_str()).collect();
    let above: BTreeSet<&str> = compared().filter(beats).map(|a| a.arm.as_str()).collect();
    let them = if above.is_empty() { None } else { Some(means(runs, ranking, name, &above)?.0) };
    Ok(VisionShare::of_units(name, category, chance, means(runs, ranking, name, &all)?, above.len(), them))
}

/// Returns the means of a benchmark over some arms, and the effective number of units.
fn means(runs: &[RunResults], ranking: &Ranking, name: &str, arms: &BTreeSet<&str>) -> Result<(Means, f64)> {
    // By unit: points with and without the image, and possible points, summed over runs that are weighted so that arms
    // count equally.
    let mut units: BTreeMap<&str, (f64, f64, f64)> = BTreeMap::new();
    for run in runs {
        let arm = ranking.arm(&run.run.arm).ok_or_else(|| Error::failed(format!("{} is not ranked", run.run.arm)))?;
        let result =
            run.results.get(name).ok_or_else(|| Error::failed(format!("{} has not answered {name}", run.run.id)))?;
        if !arms.contains(arm.arm.as_str()) {
            continue;
        }
        let share = 1.0 / (arms.len() * arm.seeds.len()) as f64;
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
    let means = Means { enabled: score(&enabled), blind: score(&blind), errors };
    Ok((means, stats::effective_units(&weights)))
}

/// Formulates the conclusions: one sentence per verdict that occurs, with every benchmark in exactly one of them.
pub fn conclusions(sights: &[VisionShare]) -> Vec<String> {
    let of_study = sights.iter().any(|s| s.above_chance.is_some());
    let nothing = if of_study {
        "measure nothing in this study: no arm is separably above chance"
    } else {
        "measure nothing with these models: their mean is not above chance"
    };
    let all = [
        (MeasuredAbility::Vision, "measure vision: at least two thirds of the score above chance need the image"),
        (
            MeasuredAbility::Both,
            "measure vision and language: between one and two thirds of the score above chance need the image",
        ),
        (MeasuredAbility::Language, "measure language: at most one third of the score above chance needs the image"),
        (MeasuredAbility::Unclear, "are unclear: a difference of two standard errors would change what they measure"),
        (MeasuredAbility::Nothing, nothing),
        (MeasuredAbility::Unknown, "are unknown: the score without the image, or chance, is not known"),
    ];
    let said = all.iter().filter_map(|(m, what)| {
        let names: Vec<String> = sights.iter().filter(|s| s.measures == *m).map(|s| s.benchmark.clone()).collect();
        let one = |what: &str| match what.split_once(' ') {
            Some(("are", rest)) => format!("is {}", rest.replace("they measure", "it measures")),
            Some((verb, rest)) => format!("{verb}s {rest}"),
            None => what.to_string(),
        };
        let what = if names.len() == 1 { one(what) } else { what.to_string() };
        (!names.is_empty()).then(|| format!("{} {what}.", formatting::list(&names)))
    });
    said.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_decides() {
        let of = |enabled, blind, chance| {
            VisionShare::of_means("b", &Category::GENERAL, enabled, Some(blind), Some(chance)).measures
        };
        assert_eq!(of(67.2, 67.0, 35.5), MeasuredAbility::Language);
        assert_eq!(of(58.5, 37.5, 25.0), MeasuredAbility::Both);
        assert_eq!(of(63.0, 34.0, 50.0), MeasuredAbility::Vision);
        assert_eq!(of(40.0, 45.0, 25.0), MeasuredAbility::Language, "the image does harm");
        // The enabled score is not above chance, although the blind score is still lower.
        assert_eq!(of(22.5, 0.0, 25.0), MeasuredAbility::Nothing);
        assert_eq!(of(25.5, 26.0, 25.0), MeasuredAbility::Nothing);
        assert_eq!(of(f64::NAN, 26.0, 25.0), MeasuredAbility::Nothing);
        assert_eq!(
            VisionShare::of_means("b", &Category::GENERAL, 50.0, None, Some(25.0)).measures,
            MeasuredAbility::Unknown
        );
        assert_eq!(
            VisionShare::of_means("b", &Category::GENERAL, 50.0, Some(20.0), None).measures,
            MeasuredAbility::Unknown
        );
    }

    #[test]
    fn what_noise_could_turn_is_not_clear() {
        let of = |gain_se, se| judge(Means { enabled: 45.0, blind: 35.0, errors: Some([se, gain_se, 1.0]) }, 25.0).1;
        assert_eq!(
            (of(0.5, 1.0), of(3.0, 1.0), of(0.5, 15.0)),
            (MeasuredAbility::Both, MeasuredAbility::Unclear, MeasuredAbility::Unclear)
        );
        assert_eq!(judge(Means { enabled: 45.0, blind: 35.0, errors: None }, 25.0), (None, MeasuredAbility::Unclear));
    }

    #[test]
    fn intervals_stay_within_what_a_score_can_be() {
        assert_eq!(interval(50.0, Some(5.0), 100.0), (40.0, 60.0));
        let (low, high) = interval(0.0, Some(0.0), 60.0);
        assert!(low == 0.0 && (high - 6.02).abs() < 0.01, "{high}");
        let (low, high) = interval(1.0, Some(1.0), 100.0);
        assert!(low > 0.0 && high < 6.0, "{low} {high}");
        assert!(interval(100.0, None, 1.0).0 > 20.0);
    }

    #[test]
    fn every_benchmark_is_said_once() {
        let of = |name: &str, enabled, blind, chance| {
            VisionShare::of_means(name, &Category::GENERAL, enabled, blind, chance)
        };
        let sights = [
            of("a", 22.5, Some(0.0), Some(25.0)),
            of("b", 67.2, Some(67.0), Some(35.5)),
            of("c", 58.5, Some(37.5), Some(25.0)),
            of("d", 63.0, Some(34.0), Some(50.0)),
            of("e", 63.0, None, Some(50.0)),
        ];
        let said = conclusions(&sights);
        assert_eq!(said.len(), 5, "{said:?}");
        for sight in &sights {
            let with = said.iter().filter(|s| s.split(' ').next() == Some(&sight.benchmark)).count();
            assert_eq!(with, 1, "{said:?}");
        }
        assert!(said.contains(&"a measures nothing with these models: their mean is not above chance.".to_string()));
    }
}
