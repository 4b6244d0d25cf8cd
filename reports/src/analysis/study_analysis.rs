//! Benchmark analysis of a study's own results.

use super::correlation_analysis::{CorrelationAnalysis, analyse};
use super::score_matrix::{MIN_BENCHMARKS, ScoreMatrix};
use super::vision_share::{self, VisionShare};
use crate::formatting;
use crate::ranking::Ranking;
use crate::schema::RunResults;
use burgess_base::Result;
use serde::Serialize;

/// Minimum number of arms for which correlations, components and clusters are shown. Over seven uncorrelated arms a
/// correlation of 0.75 occurs by chance once in twenty times, over four one of 0.95.
const ARMS: usize = 8;

/// Minimum number of benchmarks of a study that are compared with each other; two have only one correlation.
const FEWEST: usize = 3;

/// The benchmark analysis over a study's arms.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StudyAnalysis {
    /// What each benchmark measures, in the order of the ranking.
    pub sights: Vec<VisionShare>,
    /// Correlations of the benchmarks; `None` if there are too few arms or benchmarks.
    pub analysis: Option<CorrelationAnalysis>,
    /// Why there is no `analysis`, as a sentence.
    pub missing: Option<String>,
}

impl StudyAnalysis {
    /// Analyses the runs of a ranking, with its arms as the models.
    ///
    /// # Errors
    /// An error is returned if a run lacks a benchmark of the ranking, or if two arms have the same label.
    pub fn of(runs: &[RunResults], ranking: &Ranking) -> Result<Self> {
        let matrix = ScoreMatrix::of_ranking(ranking)?;
        let missing = missing(&matrix);
        let analysis = if missing.is_none() { Some(analyse(&matrix)?) } else { None };
        Ok(Self { sights: vision_share::of_runs(runs, ranking)?, analysis, missing })
    }
}

fn missing(matrix: &ScoreMatrix) -> Option<String> {
    let (arms, benchmarks) = (matrix.models().len(), matrix.benchmarks().len());
    if arms < ARMS || benchmarks < FEWEST {
        return Some(format!(
            "Correlations, principal components and clusters of the benchmarks are not shown: they need at least \
             {ARMS} arms that answered at least {FEWEST} benchmarks, and here {} {} answered {}. With fewer arms, \
             strong correlations occur by chance.",
            formatting::count(arms, "arm"),
            if arms == 1 { "has" } else { "have" },
            formatting::count(benchmarks, "benchmark")
        ));
    }
    let varying = matrix.varying().0.benchmarks.len();
    (varying < MIN_BENCHMARKS).then(|| {
        format!(
            "Correlations, principal components and clusters of the benchmarks are not shown: the scores of at least \
             {MIN_BENCHMARKS} benchmarks must vary over the arms, and here {varying} of {benchmarks} do."
        )
    })
}
