//! Benchmark analysis over any set of models, as in section 2 of the Cambrian-1 paper: whether a benchmark measures
//! vision or language, and how benchmarks correlate.
//!
//! - [`VisionShare`]: each benchmark's score with the image, without it and at chance, which separates vision from
//!   language;
//! - [`CorrelationMatrix`]: Pearson and Spearman correlations of benchmarks over models, with the number of models;
//! - [`PrincipalComponents`]: principal components of the standardised scores;
//! - [`BenchmarkClusters`]: average-linkage clustering on 1 − r, cut into as many clusters as there are categories
//!   and compared with them;
//! - [`StudyAnalysis`]: all of this for the results of a study.
//!
//! No computation here is random. Missing scores are never imputed: correlations use the models that have both scores
//! and report their number, and components use the models that have all scores. A benchmark whose score is the same for
//! all models has no correlation; it is left out, and the report names it.

mod clusters;
mod components;
mod correlation;
mod correlation_analysis;
mod score_matrix;
mod study_analysis;
mod vision_share;

pub use clusters::BenchmarkClusters;
pub use components::PrincipalComponents;
pub use correlation::CorrelationMatrix;
pub use correlation_analysis::{CorrelationAnalysis, analyse};
pub use score_matrix::{BenchmarkLabel, MIN_BENCHMARKS, MIN_MODELS, ScoreMatrix};
pub use study_analysis::StudyAnalysis;
pub use vision_share::{MeasuredAbility, VisionShare, conclusions, of_runs};
