//! Runs: training and evaluation of arms, their store, and the ranking of a study.

pub mod ask;
pub mod checks;
pub mod cost;
pub mod eval_model;
pub mod evaluation;
pub mod evidence;
pub mod instrument;
pub mod learning_curve;
pub mod notes;
pub mod plan;
pub mod pretraining;
pub mod probes;
pub mod provenance;
pub mod ranking;
pub mod results;
pub mod store;
pub mod train_model;
pub mod training;

pub use instrument::*;
