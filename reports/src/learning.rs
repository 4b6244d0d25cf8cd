//! Learning curves: a study's scores against the number of training samples of its evaluator.
//!
//! `OUT/<study>/learning-curve/<share>/` holds the runs of some arms that were trained on a fraction of the align and
//! tune samples, in the layout of `OUT/<study>/`, which holds the runs on all samples; `share.json` ([`DataShare`])
//! gives the number of samples. If the oracle's score still rises at the right end, the evaluator lacks training data.

use crate::formatting;
use crate::load::StudyData;
use crate::ranking::{AVERAGE, RankOptions, RankedArm, Ranking, rank};
use crate::schema::ArmRole;
use crate::stats::Estimate;
use burgess_base::{Context, Result, atomic};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Name of the folder of the shares in a study's directory.
const FOLDER: &str = "learning-curve";

/// The content of `share.json`: the fraction of a study's training data at one point of its learning curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DataShare {
    /// Fraction of the training data, above 0 and at most 1; 1 means the study's own runs.
    pub share: f64,
    /// Number of samples of the align stage; 0 without one.
    pub align: usize,
    /// Number of samples of the tune stage.
    pub tune: usize,
}

impl DataShare {
    /// Returns the directory of a share; for a share of 1 it holds only `share.json`.
    pub fn dir(study: &Path, share: f64) -> PathBuf {
        study.join(FOLDER).join(share.to_string())
    }

    /// Writes `share.json`.
    ///
    /// # Errors
    /// An error is returned if the file cannot be written.
    pub fn write(&self, study: &Path) -> Result<()> {
        atomic::write_json(&Self::dir(study, self.share).join("share.json"), self)
    }

    /// Returns the number of training samples of both stages.
    pub fn samples(&self) -> usize {
        self.align + self.tune
    }
}

/// The scores of an arm after training on some number of samples, in percent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CurvePoint {
    /// Fraction of the training data, above 0 and at most 1.
    pub share: f64,
    /// Number of training samples of both stages.
    pub samples: usize,
    /// Number of seeds over which the scores are means.
    pub seeds: usize,
    /// Scores by scope: [`AVERAGE`] and the categories.
    pub scores: BTreeMap<String, Estimate>,
}

/// The learning curve of one arm.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CurveArm {
    /// Name of the arm.
    pub arm: String,
    /// Name of the arm in text.
    pub label: String,
    /// Role of the arm.
    pub role: ArmRole,
    /// The points, smallest share first.
    pub points: Vec<CurvePoint>,
}

/// The content of `learning-curve.json`: the arms of a study that were also trained on fractions of its data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LearningCurve {
    /// The arms in the order of the ranking, baselines last.
    pub arms: Vec<CurveArm>,
    /// Fractions that are not shown, with the reason, as sentences.
    pub left_out: Vec<String>,
}

impl LearningCurve {
    /// Loads the learning curve of a study's directory, beside the ranking of its own runs; `None` if no share has a
    /// finished run.
    ///
    /// # Errors
    /// An error is returned if a directory or `share.json` cannot be read.
    pub fn load(dir: &Path, ranking: &Ranking) -> Result<Option<Self>> {
        let mut shares = shares(dir)?;
        shares.sort_by(|a, b| a.share.total_cmp(&b.share));
        let options = RankOptions {
            study: ranking.study.clone(),
            replicates: ranking.replicates,
            seed: ranking.seed,
            confidence: ranking.confidence,
            random: None,
            series: Vec::new(),
        };
        let (mut parts, mut left_out) = (Vec::new(), Vec::new());
        for share in shares.iter().filter(|s| s.share < 1.0) {
            let runs = StudyData::load(&DataShare::dir(dir, share.share))?.results();
            // Runs that cannot be compared must not prevent a report.
            match rank(&runs, &[], &options) {
                _ if runs.is_empty() => {
                    left_out.push(format!("no run on a fraction of {} of the training data is finished", share.share))
                }
                Ok(part) if asked(&part) != asked(ranking) => {
                    left_out.push(format!(
                        "the runs on a fraction of {} of the training data were asked other questions",
                        share.share
                    ));
                }
                Ok(part) => parts.push((*share, part)),
                Err(e) => left_out.push(format!(
                    "the runs on a fraction of {} of the training data cannot be ranked: {e}",
                    share.share
                )),
            }
        }
        let in_part = |arm: &RankedArm| parts.iter().any(|(_, part)| part.arm(&arm.arm).is_some());
        let whole = shares.iter().find(|s| s.share == 1.0).map(|share| (*share, ranking));
        let rankings = || parts.iter().map(|(share, part)| (*share, part)).chain(whole);
        let curve = |arm: &RankedArm| CurveArm {
            arm: arm.arm.clone(),
            label: arm.label.clone(),
            role: arm.role,
            points: rankings().filter_map(|(share, r)| Some(point(share, r, r.arm(&arm.arm)?))).collect(),
        };
        let arms: Vec<CurveArm> = ranking.arms.iter().filter(|a| in_part(a)).map(curve).collect();
        Ok((!arms.is_empty()).then_some(Self { arms, left_out }))
    }

    /// Formulates the sentences of the report: the effect of the last samples, and what is not shown.
    pub fn conclusions(&self) -> Vec<String> {
        let mut steps: BTreeMap<(usize, usize), Vec<String>> = BTreeMap::new();
        for arm in &self.arms {
            let [.., before, end] = arm.points.as_slice() else { continue };
            if let (Some(b), Some(e)) = (before.scores.get(AVERAGE), end.scores.get(AVERAGE)) {
                let said = format!("{} from {:.1} to {:.1} [{:.1}, {:.1}]", arm.label, b.value, e.value, e.low, e.high);
                steps.entry((before.samples, end.samples)).or_default().push(said);
            }
        }
        let said = |((before, end), arms): (&(usize, usize), &Vec<String>)| {
            format!(
                "From {before} to {end} training samples, the average changes as follows: {}.",
                formatting::list(arms)
            )
        };
        steps.iter().map(said).chain(self.left_out.iter().map(|why| format!("Not shown: {why}."))).collect()
    }
}

fn asked(r: &Ranking) -> Vec<(&str, usize)> {
    r.benchmarks.iter().map(|b| (b.name.as_str(), b.n)).collect()
}

fn point(share: DataShare, r: &Ranking, arm: &RankedArm) -> CurvePoint {
    let scopes = std::iter::once(AVERAGE).chain(r.categories.iter().map(|c| c.as_str()));
    let score = |scope: &str| {
        let s = arm.score(scope)?;
        Some((scope.to_string(), Estimate { value: s.score, low: s.low, high: s.high }))
    };
    let scores = scopes.filter_map(score).collect();
    CurvePoint { share: share.share, samples: share.samples(), seeds: arm.seeds.len(), scores }
}

fn shares(dir: &Path) -> Result<Vec<DataShare>> {
    let folder = dir.join(FOLDER);
    let step = || format!("reading {}", folder.display());
    let mut found = Vec::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for entry in fs::read_dir(&folder).with_context(step)? {
        let file = entry.with_context(step)?.path().join("share.json");
        if file.is_file() {
            found.push(atomic::read_json::<DataShare>(&file)?);
        }
    }
    found.retain(|s| s.share > 0.0 && s.share <= 1.0);
    Ok(found)
}
