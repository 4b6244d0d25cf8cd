//! Results to rankings: schema, statistics, tables, figures, pages. Knows no tensor.
//!
//! The way through this crate:
//!
//! 1. [`schema`]: what a finished run leaves behind (`results.json`, `train.jsonl`, `samples/*.jsonl`);
//! 2. [`load`]: a study's directory, with its finished, failed and unfinished runs;
//! 3. [`stats`]: bootstrap over images, clustered standard errors, permutation tests, correlations;
//! 4. [`ranking`]: runs to a [`ranking::Ranking`], with intervals, tests and conclusions in words;
//! 5. [`analysis`]: what the benchmarks measure and which of them measure the same;
//! 6. [`validity`]: direct probes of the encoders beside the answers; [`learning`]: scores by number of training samples;
//! 7. [`check`]: whether the results keep what the study promises of its evaluator;
//! 8. [`published`]: the paper's tables, with everything that follows from them computed again;
//! 9. [`table`]: the ranking in a terminal; [`figure`]: in SVG; [`page`]: as one self-contained HTML file, and
//!    [`page::published`] the paper's tables as another.
//!
//! ```no_run
//! # fn main() -> burgess_base::Result<()> {
//! let written = burgess_reports::page::write(std::path::Path::new("runs/nano"))?;
//! print!("{}", burgess_reports::table::ranking_table(&written.ranking, 100, false));
//! # Ok(())
//! # }
//! ```

pub mod analysis;
pub mod check;
pub mod figure;
pub mod learning;
pub mod load;
pub mod page;
pub mod published;
pub mod ranking;
pub mod schema;
pub mod stats;
pub mod table;
pub mod validity;
mod words;
