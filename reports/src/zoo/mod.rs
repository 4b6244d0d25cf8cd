//! The table of a zoo: many encoders scored by one evaluator, in the form of timm's result files, and the difference of
//! two such tables.
//!
//! timm's columns keep their names, order and number formats: `model`, `img_size`, scores with three decimals,
//! `param_count` in millions with two decimals and commas between thousands, `crop_pct` with three decimals,
//! `interpolation`. Rows are sorted as timm sorts them: by score, highest first, then by model.

mod columns;
mod csv;
mod diff;

pub use columns::{ZooModel, ZooRow, zoo_csv};
pub use diff::{DiffRow, DiffVerdict, ZooDiff};

/// Name of the file of a zoo's scores in a study's directory.
pub const RESULTS_FILE: &str = "results-mllm.csv";

#[cfg(test)]
mod tests;
