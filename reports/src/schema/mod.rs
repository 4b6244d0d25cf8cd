//! The files of a run. Field names follow lm-evaluation-harness where it has one.
//!
//! A run directory `OUT/<study>/<arm>/seed-<n>/` holds `results.json` ([`RunResults`]), `train.jsonl` (one
//! [`TrainStep`] per line) and `samples/<benchmark>.jsonl` (one [`Sample`] per line), or `failed.json` ([`MissingRun`])
//! if the run failed.

mod categories;
mod optional_numbers;
mod ranges;
mod records;
mod results;

pub use categories::{averaged, category_means, in_display_order, label};
pub(crate) use optional_numbers::unknown_as_null;
pub(crate) use ranges::{out_of_range, sample_problem, step_problem};
pub use records::{JudgeVerdict, Likelihoods, MissingRun, Sample, TrainStep};
pub use results::{
    ArmRole, BenchmarkResult, FeatureScale, JudgedScore, MostFrequentAnswer, RunCost, RunId, RunResults, SCHEMA,
    SequentialInterval, SeveralImages, UnitScore,
};
