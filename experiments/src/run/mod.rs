//! Runs: training and evaluation of arms, their store, and the ranking of a study.

pub mod arm_run;
pub mod ask;
pub mod checks;
pub mod compared_sides;
pub mod cost;
pub mod eval_model;
pub mod eval_task;
pub mod evaluation;
pub mod evaluator;
pub mod evidence;
pub mod exported;
pub mod learning_curve;
pub mod llm_files;
pub mod notes;
pub mod plan;
pub mod pretraining;
pub mod probes;
pub mod provenance;
pub mod ranking;
pub mod results;
pub mod sharing;
pub mod stages;
pub mod store;
pub mod tensorboard;
pub mod train_model;
pub mod training;
