//! Correlations between benchmarks, with principal components and clusters.

use super::clusters::{self, BenchmarkClusters};
use super::components::{self, PrincipalComponents};
use super::correlation::CorrelationMatrix;
use super::score_matrix::{BenchmarkLabel, MIN_BENCHMARKS, MIN_MODELS, ScoreMatrix};
use crate::formatting;
use burgess_base::{Error, Result};
use serde::Serialize;

/// Correlations, principal components and clusters of the benchmarks over a set of models.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CorrelationAnalysis {
    /// Names of the models, in the order of the rows of the matrix.
    pub models: Vec<String>,
    /// The benchmarks with variance; all fields below are in this order.
    pub benchmarks: Vec<BenchmarkLabel>,
    /// Pearson's correlations of the benchmarks.
    pub pearson: CorrelationMatrix,
    /// Spearman's rank correlations of the benchmarks.
    pub spearman: CorrelationMatrix,
    /// Principal components; `None` if too few models have all scores.
    pub components: Option<PrincipalComponents>,
    /// Clusters of benchmarks; `None` if a pair of benchmarks has no correlation.
    pub groups: Option<BenchmarkClusters>,
    /// Benchmarks and analyses that were left out, with the reason, as sentences.
    pub left_out: Vec<String>,
}

/// Analyses the benchmarks of a matrix.
///
/// # Errors
/// An error is returned if there are fewer than [`MIN_MODELS`] models, or fewer than [`MIN_BENCHMARKS`] benchmarks with
/// variance.
pub fn analyse(matrix: &ScoreMatrix) -> Result<CorrelationAnalysis> {
    let (kept, flat) = matrix.varying();
    let names: Vec<String> = flat.iter().map(|b| b.name.clone()).collect();
    let mut left_out = Vec::new();
    if !names.is_empty() {
        let verbs = if names.len() == 1 { ["has", "correlates"] } else { ["have", "correlate"] };
        left_out.push(format!(
            "{} {} no variance over the models and {} with no other benchmark",
            formatting::list(&names),
            verbs[0],
            verbs[1]
        ));
    }
    if kept.models.len() < MIN_MODELS || kept.benchmarks.len() < MIN_BENCHMARKS {
        let flat = left_out.first().map_or(String::new(), |why| format!(" ({why})"));
        return Err(Error::failed(format!(
            "the analysis of benchmarks needs at least {MIN_MODELS} models and {MIN_BENCHMARKS} benchmarks that \
             vary; found {} and {}{flat}",
            kept.models.len(),
            kept.benchmarks.len()
        ))
        .hint("rank more encoders, or on more benchmarks"));
    }
    let pearson = CorrelationMatrix::pearson(&kept);
    let spearman = CorrelationMatrix::spearman(&kept);
    let components = components::components(&kept, &mut left_out);
    let groups = clusters::groups(&kept, &pearson, &mut left_out);
    Ok(CorrelationAnalysis {
        models: kept.models,
        benchmarks: kept.benchmarks,
        pearson,
        spearman,
        components,
        groups,
        left_out,
    })
}
