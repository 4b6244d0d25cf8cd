//! The analysis of a study's own results, as far as they go.

use super::{Analysis, BENCHMARKS, Matrix, Sight, analyse, sight};
use crate::ranking::Ranking;
use crate::schema::RunResults;
use crate::words;
use burgess_base::Result;
use serde::Serialize;

/// Fewest arms that correlations, components and groups of benchmarks are shown for. Over seven arms a correlation of 0.75
/// arises by chance once in twenty times where there is none, over four one of 0.95.
const ARMS: usize = 8;

/// Fewest benchmarks that a study's are compared with each other: two have but one correlation, which is no map.
const FEWEST: usize = 3;

/// What a study's arms say about its benchmarks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StudyAnalysis {
    pub sights: Vec<Sight>,
    pub analysis: Option<Analysis>,
    /// Why there is no `analysis`, in a sentence.
    pub missing: Option<String>,
}

impl StudyAnalysis {
    /// Of the runs of a ranking; arms are the models.
    ///
    /// # Errors
    /// A run lacks a benchmark that the ranking compares, or two arms have the same label.
    pub fn of(runs: &[RunResults], ranking: &Ranking) -> Result<Self> {
        let matrix = Matrix::of_ranking(ranking)?;
        let missing = missing(&matrix);
        let analysis = if missing.is_none() { Some(analyse(&matrix)?) } else { None };
        Ok(Self { sights: sight::of_runs(runs, ranking)?, analysis, missing })
    }
}

fn missing(matrix: &Matrix) -> Option<String> {
    let (arms, benchmarks) = (matrix.models().len(), matrix.benchmarks().len());
    if arms < ARMS || benchmarks < FEWEST {
        return Some(format!(
            "Correlations, principal components and groups of the benchmarks are not shown: they need at least {ARMS} arms \
             that answered at least {FEWEST} benchmarks, and here {} {} answered {}. Over fewer arms strong correlations \
             arise by chance.",
            words::count(arms, "arm"),
            if arms == 1 { "has" } else { "have" },
            words::count(benchmarks, "benchmark")
        ));
    }
    let varying = matrix.varying().0.benchmarks.len();
    (varying < BENCHMARKS).then(|| {
        format!(
            "Correlations, principal components and groups of the benchmarks are not shown: the scores of at least \
             {BENCHMARKS} benchmarks have to vary over the arms, and here those of {varying} of {benchmarks} do."
        )
    })
}
