//! Validity of the evaluator: direct probes of the encoders compared with the answers of the multimodal models that use
//! them.
//!
//! A *direct probe* is a classifier trained on an encoder's frozen features for one attribute of the image; its
//! accuracy shows what the features hold. The study's TOML says which questions of which benchmark ask for the same
//! attribute ([`ProbePair`]). The order of arms by probe and by answers should agree, which is measured by Kendall's
//! τ-b over the pairs of arms *within* each attribute, so that easy and hard attributes do not count as agreement. Its
//! interval is a bootstrap over arms, which are few; it does not cover other attributes.

use crate::formatting;
use crate::load::StudyData;
use crate::ranking::Ranking;
use crate::schema::{ArmRole, Sample};
use crate::stats::{self, Estimate};
use burgess_base::{Category, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Minimum number of arms over which orders are compared.
const ARMS: usize = 3;

/// Minimum number of right and of wrong units for which the bootstrap of an accuracy is used alone.
const FEW: f64 = 5.0;

/// A pair of a direct probe and the questions that ask for its attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ProbePair {
    /// Attribute of the probe.
    pub attribute: String,
    /// Level of the probe, such as `image` or `patch`. Default: the first that the encoder has of this attribute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// Name of the benchmark.
    pub benchmark: String,
    /// Subtask of the questions. Default: all questions of the benchmark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subtask: Option<String>,
}

impl ProbePair {
    /// Returns the source of the questions, such as `nano-gqa/color`.
    pub fn questions(&self) -> String {
        self.subtask.as_ref().map_or_else(|| self.benchmark.clone(), |s| format!("{}/{s}", self.benchmark))
    }
}

/// The direct probes of one encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EncoderProbes {
    /// Name of the encoder in arms.
    pub encoder: String,
    /// Probes of the encoder's features.
    pub probes: Vec<Probe>,
}

/// Accuracies of direct probes of one attribute on held-out images. Unlisted fields are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Name of the attribute, such as `color`.
    pub attribute: String,
    /// Level of the features, such as `image` or `patch`.
    #[serde(default)]
    pub level: String,
    /// Expected accuracy of guessing, 0 to 1.
    pub chance: f64,
    /// Accuracy of the linear probe.
    pub linear: ProbeAccuracy,
    /// Accuracy of the k-nearest-neighbours probe.
    pub knn: ProbeAccuracy,
}

/// An accuracy with its confidence interval, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ProbeAccuracy {
    /// Fraction of held-out images that the probe classifies correctly.
    pub accuracy: f64,
    /// Lower end of the confidence interval.
    pub low: f64,
    /// Upper end of the confidence interval.
    pub high: f64,
}

impl From<ProbeAccuracy> for Estimate {
    fn from(a: ProbeAccuracy) -> Self {
        Self { value: 100.0 * a.accuracy, low: 100.0 * a.low, high: 100.0 * a.high }
    }
}

/// Probe and answers of one arm on one attribute, in percent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProbedArm {
    /// Name of the arm.
    pub arm: String,
    /// Name of the arm in text.
    pub label: String,
    /// Role of the arm.
    pub role: ArmRole,
    /// Accuracy of the linear probe; `knn` is that of the k-NN probe.
    pub probe: Estimate,
    /// Accuracy of the k-NN probe.
    pub knn: Estimate,
    /// Accuracy of the model's answers.
    pub answers: Estimate,
}

/// The results of all arms on one attribute.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProbedAttribute {
    /// Name of the attribute.
    pub attribute: String,
    /// Source of the questions that ask for it, such as `nano-gqa/color`.
    pub questions: String,
    /// Category of the benchmark.
    pub category: Category,
    /// Number of questions.
    pub n: usize,
    /// Expected accuracy of guessing the probe's classes, in percent.
    pub chance: f64,
    /// The arms in the order of the ranking, baselines last.
    pub arms: Vec<ProbedArm>,
    /// Agreement of the order by probe with the order by answers; `None` for fewer than three arms.
    pub tau: Option<KendallTau>,
    /// Fraction of the probe's accuracy that the answers reach, over the trained arms: Σ answers / Σ probe.
    pub read: Option<f64>,
}

/// Kendall's τ-b with its bootstrap interval over arms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct KendallTau {
    /// Kendall's τ-b, −1 to 1.
    pub tau: f64,
    /// Lower end of the confidence interval.
    pub low: f64,
    /// Upper end of the confidence interval.
    pub high: f64,
    /// Number of arms.
    pub arms: usize,
}

/// The content of `validity.json`: direct probes compared with answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProbeValidity {
    /// The attributes that could be compared.
    pub attributes: Vec<ProbedAttribute>,
    /// Agreement over the pairs of arms within every attribute.
    pub tau: Option<KendallTau>,
    /// Attributes that are not shown, with the reason, as sentences.
    pub left_out: Vec<String>,
}

impl ProbeValidity {
    /// Computes the comparison for the arms with one frozen encoder that has probes; `None` if no attribute can be
    /// compared.
    ///
    /// # Errors
    /// An error is returned if a file of samples cannot be read.
    pub fn of(
        study: &StudyData,
        ranking: &Ranking,
        pairs: &[ProbePair],
        probes: &[EncoderProbes],
    ) -> Result<Option<Self>> {
        let (mut attributes, mut left_out) = (Vec::new(), Vec::new());
        let mut answers = AnswersByBenchmark::default();
        for pair in pairs {
            let Some(benchmark) = ranking.benchmarks.iter().find(|b| b.name == pair.benchmark) else { continue };
            let (mut arms, mut n, mut chance) = (Vec::new(), 0, f64::NAN);
            for arm in &ranking.arms {
                let ([encoder], "frozen") = (arm.encoders.as_slice(), arm.freeze.as_str()) else { continue };
                let Some(probe) = probe_of(probes, encoder, pair) else { continue };
                let Some(units) = answers.units(study, &arm.arm, pair)? else { continue };
                n = units.n;
                chance = 100.0 * probe.chance;
                arms.push(ProbedArm {
                    arm: arm.arm.clone(),
                    label: arm.row_name(),
                    role: arm.role,
                    probe: probe.linear.into(),
                    knn: probe.knn.into(),
                    answers: units.accuracy(pair, ranking),
                });
            }
            if arms.is_empty() {
                left_out.push(format!(
                    "{}: no arm has both a direct probe and answers to {}",
                    pair.attribute,
                    pair.questions()
                ));
                continue;
            }
            let name = format!("{}/{}", pair.attribute, pair.questions());
            attributes.push(ProbedAttribute {
                attribute: pair.attribute.clone(),
                questions: pair.questions(),
                category: benchmark.category.clone(),
                n,
                chance,
                tau: tau(&[arms.as_slice()], &name, ranking),
                read: share_read(&arms),
                arms,
            });
        }
        if attributes.is_empty() {
            return Ok(None);
        }
        let all: Vec<&[ProbedArm]> = attributes.iter().map(|a| a.arms.as_slice()).collect();
        let tau = tau(&all, "all", ranking);
        Ok(Some(Self { attributes, tau, left_out }))
    }

    /// Formulates the sentences of the report.
    pub fn conclusions(&self) -> Vec<String> {
        let mut said = Vec::new();
        match &self.tau {
            Some(t) => {
                let verdict = match t {
                    t if t.low > 0.0 => "the ranking by answers reflects what the features contain",
                    t if t.high < 0.0 => "the ranking by answers contradicts what the features contain",
                    _ => "the interval includes 0, so no agreement is shown",
                };
                said.push(format!(
                    "Over {} and {}, Kendall τ between the order by answers and the order by direct probes is {} \
                     [{}, {}]: {verdict}.",
                    formatting::count(t.arms, "arm"),
                    formatting::count(self.attributes.len(), "attribute"),
                    formatting::correlation(Some(t.tau)),
                    formatting::correlation(Some(t.low)),
                    formatting::correlation(Some(t.high)),
                ));
            }
            None => {
                said.push(format!("The order of the arms is compared only if at least {ARMS} arms have direct probes."))
            }
        }
        let read =
            self.attributes.iter().filter_map(|a| Some(format!("{} {}", a.attribute, formatting::percent(a.read?))));
        let read: Vec<String> = read.collect();
        if !read.is_empty() {
            said.push(format!(
                "Accuracy of the trained arms' answers as a fraction of the linear probe's: {}.",
                formatting::list(&read)
            ));
        }
        said.extend(self.left_out.iter().map(|why| format!("Not shown: {why}.")));
        said
    }
}

fn probe_of<'a>(probes: &'a [EncoderProbes], encoder: &str, pair: &ProbePair) -> Option<&'a Probe> {
    let probes = &probes.iter().find(|p| p.encoder == encoder)?.probes;
    probes.iter().find(|p| p.attribute == pair.attribute && pair.level.as_ref().is_none_or(|l| *l == p.level))
}

/// Returns Σ answers / Σ probe over the trained arms, which gives arms with a low probe accuracy little weight.
fn share_read(arms: &[ProbedArm]) -> Option<f64> {
    let trained = || arms.iter().filter(|a| a.role == ArmRole::Trained);
    let (answers, probe): (Vec<f64>, Vec<f64>) = trained().map(|a| (a.answers.value, a.probe.value)).unzip();
    stats::ratio(&answers, &probe)
}

/// Returns Kendall's τ-b over the pairs of arms within each group, with a bootstrap over arms: an arm that is drawn
/// twice counts twice in every group.
fn tau(groups: &[&[ProbedArm]], name: &str, r: &Ranking) -> Option<KendallTau> {
    let mut names: Vec<&str> = groups.iter().flat_map(|g| g.iter().map(|a| a.arm.as_str())).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() < ARMS {
        return None;
    }
    let numbered: Vec<Vec<(usize, f64, f64)>> = groups
        .iter()
        .map(|g| {
            let number = |arm: &str| names.iter().position(|n| *n == arm).unwrap_or(0);
            g.iter().map(|a| (number(&a.arm), a.probe.value, a.answers.value)).collect()
        })
        .collect();
    let point = stratified_tau(&numbered, &vec![1.0; names.len()])?;
    let stream = format!("validity/tau/{name}");
    let drawn =
        stats::bootstrap(names.len(), r.replicates, &stream, r.seed, |counts| stratified_tau(&numbered, counts));
    // Draws of a single arm have no order.
    let drawn: Vec<f64> = drawn.into_iter().flatten().collect();
    let (low, high) = stats::interval(&drawn, r.confidence);
    Some(KendallTau { tau: point, low, high, arms: names.len() })
}

/// Returns Kendall's τ-b over groups of (arm, x, y), with the number of times each arm counts.
fn stratified_tau(groups: &[Vec<(usize, f64, f64)>], counts: &[f64]) -> Option<f64> {
    let sign = |d: f64| if d == 0.0 { 0.0 } else { d.signum() };
    let (mut concordance, mut xs, mut ys) = (0.0, 0.0, 0.0);
    for group in groups {
        for (i, (a, xa, ya)) in group.iter().enumerate() {
            for (b, xb, yb) in group.iter().skip(i + 1) {
                let count = |arm: usize| counts.get(arm).copied().unwrap_or(0.0);
                let weight = count(*a) * count(*b);
                let (dx, dy) = (sign(xa - xb), sign(ya - yb));
                concordance += weight * dx * dy;
                xs += weight * dx * dx;
                ys += weight * dy * dy;
            }
        }
    }
    (xs > 0.0 && ys > 0.0).then(|| concordance / (xs * ys).sqrt())
}

/// Points of an arm's answers by image, averaged over its seeds.
struct UnitPoints {
    sums: Vec<f64>,
    weights: Vec<f64>,
    /// Number of questions.
    n: usize,
}

impl UnitPoints {
    /// Returns the accuracy in percent, with a bootstrap over images that are the same for all arms; near 0 or 100 the
    /// interval is the union with Wilson's.
    fn accuracy(&self, pair: &ProbePair, r: &Ranking) -> Estimate {
        let share = stats::ratio(&self.sums, &self.weights).unwrap_or(0.0);
        let name = format!("validity/units/{}", pair.questions());
        let drawn = stats::bootstrap_ratio(&self.sums, &self.weights, r.replicates, &name, r.seed);
        let (mut low, mut high) = stats::interval(&drawn.unwrap_or_default(), r.confidence);
        let units = stats::effective_units(&self.weights);
        if (share * units).min((1.0 - share) * units) < FEW {
            let (least, most) = stats::wilson(share, units, r.confidence);
            (low, high) = (low.min(least), high.max(most));
        }
        Estimate { value: 100.0 * share, low: 100.0 * low, high: 100.0 * high }
    }
}

/// The samples of all runs, read once per benchmark.
#[derive(Default)]
struct AnswersByBenchmark {
    /// Samples of each seed, by arm and benchmark.
    read: BTreeMap<(String, String), Vec<Vec<Sample>>>,
}

impl AnswersByBenchmark {
    /// Returns an arm's points on the questions of a pair; `None` if it has no such answers, as in samples that predate
    /// subtasks.
    fn units(&mut self, study: &StudyData, arm: &str, pair: &ProbePair) -> Result<Option<UnitPoints>> {
        let key = (arm.to_string(), pair.benchmark.clone());
        if !self.read.contains_key(&key) {
            let runs = study.runs.iter().filter(|r| r.results.run.arm == arm);
            // Unreadable lines are reported where the questions are shown.
            let samples = runs.map(|r| Ok(r.read_samples(&pair.benchmark)?.0)).collect::<Result<Vec<_>>>()?;
            self.read.insert(key.clone(), samples);
        }
        let seeds = self.read.get(&key).map_or(&[][..], Vec::as_slice);
        let asked = |s: &&Sample| pair.subtask.as_ref().is_none_or(|subtask| s.subtask == *subtask);
        let mut units: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        let share = 1.0 / seeds.len().max(1) as f64;
        for sample in seeds.iter().flatten().filter(asked) {
            let (sum, weight) = units.entry(sample.unit.as_str()).or_default();
            *sum += share * sample.score;
            *weight += share;
        }
        let n = seeds.first().map_or(0, |samples| samples.iter().filter(asked).count());
        let (sums, weights) = units.into_values().unzip();
        Ok((n > 0).then_some(UnitPoints { sums, weights, n }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_groups_tau_is_kendalls() {
        let group = vec![(0, 1.0, 2.0), (1, 2.0, 1.0), (2, 3.0, 5.0), (3, 3.0, 6.0)];
        let (x, y): (Vec<f64>, Vec<f64>) = group.iter().map(|(_, x, y)| (*x, *y)).unzip();
        let once = [1.0; 4];
        let close = |a: Option<f64>, b: Option<f64>| assert!((a.unwrap() - b.unwrap()).abs() < 1e-12, "{a:?} {b:?}");
        close(stratified_tau(std::slice::from_ref(&group), &once), stats::kendall_tau(&x, &y));
        // An arm that counts twice is equivalent to two equal arms.
        let (mut xx, mut yy) = (x.clone(), y.clone());
        xx.push(x[1]);
        yy.push(y[1]);
        close(stratified_tau(std::slice::from_ref(&group), &[1.0, 2.0, 1.0, 1.0]), stats::kendall_tau(&xx, &yy));
        // Differences between groups do not add agreement; within them the orders are reversed.
        let low = vec![(0, 1.0, 2.0), (1, 2.0, 1.0)];
        let high = vec![(0, 11.0, 12.0), (1, 12.0, 11.0)];
        assert_eq!(stratified_tau(&[low, high], &once), Some(-1.0));
        assert_eq!(stratified_tau(&[vec![(0, 1.0, 1.0)]], &once), None);
    }
}
