//! Checks a study's claims about its evaluator against its results: the `[check]` table of a study's TOML.
//!
//! Each claim is a threshold stated in advance. A claim that the study cannot measure (no oracle, one seed, no probes)
//! fails.

use crate::formatting;
use crate::ranking::{AVERAGE, PairTest, RankedArm, Ranking, TestFamily};
use crate::schema::ArmRole;
use crate::validity::ProbeValidity;
use burgess_base::Category;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The claims of a study; omitted claims are not checked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Minimum of (oracle − chance) / (100 − chance) over all benchmarks, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oracle_reaches: Option<f64>,
    /// Minimum difference between the best trained arm's average and its blind baseline, in points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_above_blind: Option<f64>,
    /// Categories in which every trained arm must be separably above the random baseline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub every_arm_beats_random: Vec<Category>,
    /// Whether every category must have at least one separable pair of trained arms.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub separates_in_every_category: bool,
    /// Minimum of the mean Kendall τ between seeds of the order of the trained arms, in every category and on average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds_agree: Option<f64>,
    /// Whether an arm that is not separably above the random baseline in a category is excused if none of the direct
    /// probes of the category's benchmarks is better on its encoder than on the random one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub probes_may_excuse: bool,
    /// By attribute, the minimum fraction of the linear probe's accuracy that the trained arms must reach in their
    /// answers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "schema", schemars(!skip_serializing_if))]
    pub reads_of_probe: BTreeMap<String, f64>,
    /// Minimum accuracy, 0 to 1, of the language model alone on every benchmark when the image is described in text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads_from_text: Option<f64>,
}

/// Accuracy of a language model on a benchmark's questions when the image is described in text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextAccuracy {
    /// Name of the benchmark.
    pub benchmark: String,
    /// Fraction answered correctly, 0 to 1.
    pub read: f64,
}

/// The measurements with which claims are compared.
#[derive(Debug, Clone, Copy)]
pub struct Measurements<'a> {
    /// The ranking of the study.
    pub ranking: &'a Ranking,
    /// Direct probes compared with answers, if the study has them.
    pub validity: Option<&'a ProbeValidity>,
    /// Text-only results of the study's language model, as far as measured.
    pub reading: &'a [TextAccuracy],
}

/// A claim and whether it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClaimVerdict {
    /// The claim, in words.
    pub claim: String,
    /// The measurement, in words, with the worst case.
    pub measured: String,
    /// The threshold of the claim, such as `≥ 0.70`.
    pub wanted: String,
    /// Whether the claim holds; a claim that was not measured does not.
    pub holds: bool,
}

impl Claims {
    /// Returns whether there are no claims.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Compares each claim with the measurements.
    pub fn check(&self, measured: &Measurements<'_>) -> Vec<ClaimVerdict> {
        let mut verdicts = Vec::new();
        verdicts.extend(self.oracle_reaches.map(|least| oracle_reaches(measured, least)));
        verdicts.extend(self.best_above_blind.map(|least| best_above_blind(measured, least)));
        let beaten = &self.every_arm_beats_random;
        verdicts.extend((!beaten.is_empty()).then(|| every_arm_beats_random(measured, beaten, self.probes_may_excuse)));
        verdicts.extend(self.separates_in_every_category.then(|| separates(measured)));
        verdicts.extend(self.seeds_agree.map(|least| seeds_agree(measured, least)));
        verdicts
            .extend(self.reads_of_probe.iter().map(|(attribute, least)| reads_of_probe(measured, attribute, *least)));
        verdicts.extend(self.reads_from_text.map(|least| reads_from_text(measured, least)));
        verdicts
    }
}

/// Checks that all values are at least `least`; reports the lowest, and how many are below it.
fn at_least(claim: &str, least: f64, found: Result<Vec<(String, f64)>, String>) -> ClaimVerdict {
    let (claim, wanted) = (claim.to_string(), format!("≥ {}", number(least)));
    let failed =
        |why: String| ClaimVerdict { claim: claim.clone(), measured: why, wanted: wanted.clone(), holds: false };
    let found = match found {
        Ok(found) => found,
        Err(why) => return failed(format!("not measured: {why}")),
    };
    // NaN counts as below the threshold, because an undefined value is no evidence.
    let low = found.iter().filter(|(_, value)| value.is_nan() || *value < least - 1e-9).count();
    let Some((name, lowest)) = found.iter().min_by(|a, b| a.1.total_cmp(&b.1)) else {
        return failed("not measured: the study has no such benchmark or category".to_string());
    };
    let mut measured = number(*lowest);
    if !name.is_empty() {
        measured += &format!(" ({name})");
    }
    if low > 1 {
        measured += &format!(", {low} of {} below the threshold", found.len());
    }
    ClaimVerdict { claim, measured, wanted, holds: low == 0 }
}

/// Formats with two decimals up to 1 (fractions, correlations), otherwise with one (points).
fn number(value: f64) -> String {
    let text = if value.abs() <= 1.0 { format!("{value:.2}") } else { format!("{value:.1}") };
    text.replace('-', "−")
}

fn oracle_reaches(m: &Measurements<'_>, least: f64) -> ClaimVerdict {
    let r = m.ranking;
    let found = match &r.oracle {
        None => Err("the study has no oracle".to_string()),
        Some(_) => {
            let reach = |name: &String| Some((name.clone(), r.oracle_reach(name)?));
            Ok(r.benchmarks.iter().filter_map(|b| reach(&b.name)).collect())
        }
    };
    at_least("oracle score as a fraction of the distance from chance to 100, on every benchmark", least, found)
}

fn best_above_blind(m: &Measurements<'_>, least: f64) -> ClaimVerdict {
    let gain = |a: &RankedArm| (a.label.clone(), a.average.score - a.average.blind);
    let found = m.ranking.trained().next().map(|a| vec![gain(a)]).ok_or("no arm is trained".to_string());
    at_least("average of the best trained arm minus its blind baseline, in points", least, found)
}

fn every_arm_beats_random(m: &Measurements<'_>, categories: &[Category], may_excuse: bool) -> ClaimVerdict {
    let r = m.ranking;
    let names: Vec<String> = categories.iter().map(|c| c.to_string()).collect();
    let claim = format!("every trained arm is separably above the random baseline on {}", formatting::list(&names));
    let tests = || categories.iter().flat_map(|c| r.tests(TestFamily::Random, c));
    let label = |arm: &str| r.arm(arm).map_or_else(|| arm.to_string(), |a| a.label.clone());
    let excused = |t: &PairTest| may_excuse && m.validity.is_some_and(|v| probes_not_above_random(v, &t.a, &t.scope));
    let (excused, failing): (Vec<&PairTest>, Vec<&PairTest>) = tests().filter(|t| !t.above()).partition(|t| excused(t));
    let named = |tests: &[&PairTest]| -> String {
        let named: Vec<String> = tests.iter().map(|t| format!("{} on {}", label(&t.a), t.scope)).collect();
        formatting::short_list(&named, 4)
    };
    let all = tests().count();
    let mut measured = match all {
        0 => "not measured: no random baseline, or no frozen trained arm".to_string(),
        all => format!("{} of {all}", all - failing.len() - excused.len()),
    };
    if !failing.is_empty() {
        measured += &format!("; not {}", named(&failing));
    }
    if !excused.is_empty() {
        measured +=
            &format!("; excused, because direct probes are no better than on random weights: {}", named(&excused));
    }
    ClaimVerdict { claim, measured, wanted: "all".to_string(), holds: all > 0 && failing.is_empty() }
}

/// Returns whether an arm's direct probes of a category are not better than those of the random baseline: there is at
/// least one probed attribute, and no probe's confidence interval lies above that of the random baseline.
fn probes_not_above_random(v: &ProbeValidity, arm: &str, category: &str) -> bool {
    let mut compared = v.attributes.iter().filter(|a| a.category == category).filter_map(|a| {
        let mine = a.arms.iter().find(|p| p.arm == arm)?.probe;
        let random = a.arms.iter().find(|p| p.role == ArmRole::Random)?.probe;
        Some(mine.low <= random.high)
    });
    compared.next().is_some_and(|first| first && compared.all(|same| same))
}

fn reads_of_probe(m: &Measurements<'_>, attribute: &str, least: f64) -> ClaimVerdict {
    let found = m.validity.and_then(|v| v.attributes.iter().find(|a| a.attribute == attribute));
    let found = match found.and_then(|a| a.read) {
        Some(read) => Ok(vec![(String::new(), read)]),
        None => Err("no trained arm has both a direct probe and answers".to_string()),
    };
    at_least(
        &format!("accuracy of the trained arms' answers as a fraction of the linear probe's, attribute {attribute}"),
        least,
        found,
    )
}

fn separates(m: &Measurements<'_>) -> ClaimVerdict {
    let r = m.ranking;
    let counts = || r.categories.iter().filter_map(|c| Some((c, r.pairs.get(c.as_str())?)));
    let said = counts().map(|(c, p)| format!("{c} {} of {}", p.separable, p.pairs)).collect::<Vec<_>>().join(", ");
    ClaimVerdict {
        claim: "number of separable pairs of trained arms, in every category".to_string(),
        measured: if said.is_empty() { "not measured".to_string() } else { said },
        wanted: "≥ 1".to_string(),
        holds: counts().count() == r.categories.len() && counts().all(|(_, p)| p.separable > 0),
    }
}

fn seeds_agree(m: &Measurements<'_>, least: f64) -> ClaimVerdict {
    let r = m.ranking;
    let found = match &r.stability {
        None => Err("at least two trained arms with two seeds each are needed".to_string()),
        Some(stability) => {
            let scopes = std::iter::once(AVERAGE).chain(r.categories.iter().map(|c| c.as_str()));
            // If all arms have the same score, their order is undefined (NaN).
            Ok(scopes.map(|s| (s.to_string(), stability.tau_in(s).unwrap_or(f64::NAN))).collect())
        }
    };
    at_least("Kendall τ between seeds of the order of the trained arms, on average and in every category", least, found)
}

fn reads_from_text(m: &Measurements<'_>, least: f64) -> ClaimVerdict {
    let read = |name: &String| m.reading.iter().find(|r| r.benchmark == *name).map(|r| (name.clone(), r.read));
    let names: Vec<&String> = m.ranking.benchmarks.iter().map(|b| &b.name).collect();
    let missing: Vec<String> = names.iter().filter(|n| read(n).is_none()).map(|n| n.to_string()).collect();
    let found = match missing.is_empty() {
        true => Ok(names.into_iter().filter_map(read).collect()),
        false => Err(format!("the language model has no text-only result on {}", formatting::short_list(&missing, 3))),
    };
    at_least("accuracy of the language model when the image is described in text, on every benchmark", least, found)
}
