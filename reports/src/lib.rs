//! Rankings of vision encoders from the results of a study: schema, statistics, tables, figures and pages. This crate
//! uses no tensors.
//!
//! Terms such as *separable* are defined in [`ranking`].
//!
//! The modules in reading order:
//!
//! 1. [`schema`]: the files of a finished run (`results.json`, `train.jsonl`, `samples/*.jsonl`);
//! 2. [`load`]: a study's directory, with its finished, failed and unfinished runs;
//! 3. [`stats`]: bootstrap over images, clustered standard errors, sign flips, correlations; [`sequential`]: intervals
//!    for asking that stops early;
//! 4. [`ranking`]: converts runs to a [`ranking::Ranking`], with confidence intervals, tests and conclusions in words;
//! 5. [`analysis`]: whether benchmarks measure vision or language, and how they correlate;
//! 6. [`validity`]: accuracy of linear probes on the encoders, compared with the accuracy of the model's answers;
//!    [`learning`]: scores by number of training samples; [`series`]: scores of arms that differ in one thing;
//!    [`answer_style`]: how the models answer, apart from whether they are right;
//! 7. [`check`]: whether a study's results meet the thresholds that its `[check]` table states in advance;
//! 8. [`paper`]: the tables of the Cambrian-1 paper, with all derived numbers recomputed; [`mlcd`]: the encoder table
//!    of MLCD's README;
//! 9. [`answers`]: a folder in which a browser shows every question with every arm's answer; [`images`]: the files of
//!    its images;
//! 10. [`table`]: the ranking as terminal text; [`figure`]: as SVG; [`page`]: as one self-contained HTML file;
//!     [`page::paper_page`]: an HTML file of the tables of the Cambrian-1 paper; [`page::mix_page`]: one of a training mix;
//! 11. [`compare`]: the paired comparison of two models, arms or studies; [`sheet`]: tables as Markdown and LaTeX;
//!     [`exchange`]: results in the formats of other tools; [`data`]: what is in training data;
//! 12. [`racing`]: which arms of a study are dropped after a fraction of the training; [`zoo`]: tables of many encoders
//!     in the form of timm's result files;
//! 13. [`predictors`]: cheap predictors of the arms' scores, and how well they agree with a ranking.
//!
//! ```no_run
//! use burgess_reports::page::{self, StudyInfo};
//! use burgess_reports::ranking::RankOptions;
//! use burgess_reports::table::ranking_table;
//! use std::path::Path;
//!
//! # fn main() -> burgess_base::Result<()> {
//! let written = page::write_with(Path::new("runs/nano"), &StudyInfo::default(), &RankOptions::default())?;
//! print!("{}", ranking_table(&written.ranking, 100, false));
//! # Ok(())
//! # }
//! ```

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod analysis;
pub mod answer_style;
pub mod answers;
pub mod check;
mod choices;
pub mod compare;
pub mod data;
pub mod exchange;
pub mod figure;
mod formatting;
pub mod images;
pub mod learning;
pub mod load;
pub mod mlcd;
pub mod page;
pub mod paper;
pub mod predictors;
pub mod racing;
pub mod ranking;
pub mod schema;
pub mod sequential;
pub mod series;
pub mod sheet;
pub mod stats;
pub mod table;
pub mod validity;
pub mod zoo;
