//! The content of `predictors.json`: values of predictors by arm, and their agreement with the study's ranking.

use super::agreement::{Agreement, agreement};
use super::words;
use crate::ranking::Ranking;
use crate::schema::ArmRole;
use crate::stats::{self, Estimate};
use serde::{Deserialize, Serialize};

/// Version of the file format of `predictors.json`.
const SCHEMA: u32 = 1;
/// Confidence level of the intervals if the study has no ranking yet.
const CONFIDENCE: f64 = 0.95;
/// Number of bootstrap replicates over arms.
const REPLICATES: usize = 2000;

/// The direction in which a predictor's authors state that an encoder is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// A higher value predicts a higher score.
    Higher,
    /// A lower value predicts a higher score.
    Lower,
    /// No direction is stated: the predictor picks no arm, and its permutation test is two-sided.
    Unstated,
}

impl Better {
    /// Name in tables: `higher`, `lower` or `–`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
            Self::Unstated => "–",
        }
    }

    /// Factor that makes higher values the better ones.
    pub(super) fn sign(self) -> f64 {
        match self {
            Self::Higher | Self::Unstated => 1.0,
            Self::Lower => -1.0,
        }
    }
}

/// What a predictor needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PredictorFamily {
    /// Labelled images.
    Probe,
    /// Pairs of images with corresponding points.
    Correspondence,
    /// Captions and a language model.
    Alignment,
    /// The features alone.
    Spread,
    /// A connector that was trained in the align stage.
    Connector,
}

/// A predictor: its name and what it measures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predictor {
    /// Name in files, such as `mutual-knn`.
    pub id: String,
    /// Name in tables, such as `mutual k-NN`.
    pub name: String,
    /// What it needs.
    pub family: PredictorFamily,
    /// Direction in which an encoder is better.
    pub better: Better,
    /// Definition in one sentence.
    pub about: String,
}

/// The value of a predictor for one arm, or why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ArmValue {
    /// A finite value, with what belongs to it, such as the pair of layers.
    Known {
        /// The value.
        value: f64,
        /// What belongs to it; empty if there is nothing.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
    /// No value.
    Missing {
        /// Why there is none.
        missing: String,
    },
}

impl ArmValue {
    /// Makes a value; a value that is not finite becomes a missing one.
    pub fn known(value: f64, detail: impl Into<String>) -> Self {
        match value.is_finite() {
            true => Self::Known { value, detail: detail.into() },
            false => Self::missing("the value is not finite"),
        }
    }

    /// Makes a missing value with its reason.
    pub fn missing(reason: impl Into<String>) -> Self {
        Self::Missing { missing: reason.into() }
    }

    /// The value, if there is one.
    pub fn value(&self) -> Option<f64> {
        match self {
            Self::Known { value, .. } => Some(*value),
            Self::Missing { .. } => None,
        }
    }

    /// Why there is no value.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Known { .. } => None,
            Self::Missing { missing } => Some(missing),
        }
    }
}

/// A predictor with its value for each arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictorValues {
    /// The predictor.
    #[serde(flatten)]
    pub predictor: Predictor,
    /// Values in the order of the report's arms.
    pub values: Vec<ArmValue>,
}

/// An arm of the study with its score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictedArm {
    /// Name of the arm.
    pub arm: String,
    /// Name of the arm in text.
    pub label: String,
    /// Role of the arm. Only trained arms are compared with the predictors.
    pub role: ArmRole,
    /// Average score with its confidence interval; `None` without results.
    pub score: Option<Estimate>,
}

/// A predictor with its agreement with the ranking.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparedPredictor {
    /// The predictor and its values.
    #[serde(flatten)]
    pub values: PredictorValues,
    /// Agreement with the scores of the trained arms; `None` if it cannot be computed.
    pub agreement: Option<Agreement>,
    /// Why there is no agreement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_agreement: Option<String>,
}

/// The content of `predictors.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictorReport {
    /// Version of the file format.
    pub schema: u32,
    /// Name of the study.
    pub study: String,
    /// Confidence level of all intervals, between 0 and 1.
    pub confidence: f64,
    /// Number of bootstrap replicates.
    pub replicates: usize,
    /// Seed of all random streams.
    pub seed: u64,
    /// The arms, in the order of the ranking, then those without results.
    pub arms: Vec<PredictedArm>,
    /// The predictors with values and agreement.
    pub predictors: Vec<ComparedPredictor>,
    /// What the values were computed on, as sentences.
    pub notes: Vec<String>,
    /// What can and what cannot be concluded, as sentences.
    pub conclusions: Vec<String>,
}

impl PredictorReport {
    /// Compares predictors with the scores of a study. `arms` are the study's arms as `(arm, label, role)`; the values
    /// of each predictor are in their order. Without a ranking the report has values only.
    pub fn new(
        study: &str,
        arms: &[(String, String, ArmRole)],
        predictors: Vec<PredictorValues>,
        ranking: Option<&Ranking>,
        notes: Vec<String>,
    ) -> Self {
        let score = |name: &str| {
            let found = ranking?.arms.iter().find(|a| a.arm == name)?;
            let average = &found.average;
            Some(Estimate { value: average.score, low: average.low, high: average.high })
        };
        let place = |name: &str| ranking.and_then(|r| r.arms.iter().position(|a| a.arm == name)).unwrap_or(usize::MAX);
        let mut order: Vec<usize> = (0..arms.len()).collect();
        order.sort_by_key(|i| arms.get(*i).map_or(usize::MAX, |(name, ..)| place(name)));
        let predicted: Vec<PredictedArm> = order
            .iter()
            .filter_map(|i| arms.get(*i))
            .map(|(arm, label, role)| PredictedArm {
                arm: arm.clone(),
                label: label.clone(),
                role: *role,
                score: score(arm),
            })
            .collect();
        let (confidence, seed) = ranking.map_or((CONFIDENCE, 0), |r| (r.confidence, r.seed));
        let mut report = Self {
            schema: SCHEMA,
            study: study.to_string(),
            confidence,
            replicates: REPLICATES,
            seed,
            arms: predicted,
            predictors: Vec::new(),
            notes,
            conclusions: Vec::new(),
        };
        let compared = predictors.into_iter().map(|mut p| {
            p.values = order
                .iter()
                .map(|i| p.values.get(*i).cloned().unwrap_or_else(|| ArmValue::missing("it was not computed")))
                .collect();
            report.compare(p)
        });
        report.predictors = compared.collect();
        report.adjust();
        report.conclusions = words::conclusions(&report);
        report
    }

    /// The trained arms with results, by their index.
    pub(super) fn compared_arms(&self) -> Vec<(usize, f64)> {
        let trained = self.arms.iter().enumerate().filter(|(_, arm)| arm.role == ArmRole::Trained);
        trained.filter_map(|(i, arm)| Some((i, arm.score?.value))).collect()
    }

    fn compare(&self, values: PredictorValues) -> ComparedPredictor {
        let all = self.compared_arms();
        let known = all.iter().filter_map(|(i, score)| Some((*i, values.values.get(*i)?.value()?, *score)));
        let known: Vec<(usize, f64, f64)> = known.collect();
        let x: Vec<f64> = known.iter().map(|(_, x, _)| *x).collect();
        let y: Vec<f64> = known.iter().map(|(_, _, y)| *y).collect();
        let names: Vec<&str> =
            known.iter().filter_map(|(i, ..)| self.arms.get(*i)).map(|arm| arm.label.as_str()).collect();
        let name = format!("predictors/{}", values.predictor.id);
        match agreement(&names, &x, &y, values.predictor.better, &name, (self.seed, self.replicates, self.confidence)) {
            Ok(agreement) => ComparedPredictor { values, agreement: Some(agreement), no_agreement: None },
            Err(reason) => {
                let reason = match (all.len(), known.len()) {
                    (0, _) => "no trained arm has results".to_string(),
                    (_, 0) => "no trained arm with results has a value".to_string(),
                    _ => reason,
                };
                ComparedPredictor { values, agreement: None, no_agreement: Some(reason) }
            }
        }
    }

    /// Adjusts the p-values for the number of predictors.
    fn adjust(&mut self) {
        let p: Vec<f64> = self.predictors.iter().filter_map(|c| Some(c.agreement.as_ref()?.p)).collect();
        let mut adjusted = stats::holm(&p).into_iter();
        for compared in &mut self.predictors {
            if let (Some(agreement), p) = (&mut compared.agreement, &mut adjusted)
                && let Some(p) = p.next()
            {
                agreement.p_adjusted = p;
            }
        }
    }
}
