//! Predictors of an arm's score that need no training of the whole model, compared with the scores of a study.
//!
//! [`PredictorReport::new`] takes the values of predictors (computed elsewhere: this crate knows no tensor) and the
//! ranking of a study, and says of each predictor how well it orders the arms: Spearman's ρ and Kendall's τ-b with
//! bootstrap intervals over arms, the regret of the arm that it picks, R² of leave-one-out predictions, and the
//! p-value of a permutation test. [`published`] does the same for linear-probe accuracies in the Cambrian-1 paper.

mod agreement;
mod content;
pub mod published;
mod regression;
mod terminal;
mod words;

pub use agreement::{Agreement, Pick, agreement, permutation_p};
pub use content::{
    ArmValue, Better, ComparedPredictor, PredictedArm, Predictor, PredictorFamily, PredictorReport, PredictorValues,
};
pub use regression::{LeastSquares, fisher_interval};
pub(crate) use terminal::{agreement_cells, value_cell};
pub use terminal::{predictors_text, published_text};
