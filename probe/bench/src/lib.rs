//! Benchmarks: from questions to prompts, from answers to scores.
//!
//! A benchmark is one file in `src/benchmarks/` that implements the trait [`Benchmark`]: how its questions are read
//! ([`Benchmark::read`]), how they are asked ([`Benchmark::prompt`]), how one answer is judged ([`Benchmark::judge`])
//! and how judged answers become the published score ([`Benchmark::items`]). Aggregation with clustered standard
//! errors, chance and the constant-answer baseline follow from these and are the same for all benchmarks. [`all`]
//! returns the table that lists them; [`find`] looks one up by its id.
//!
//! A benchmark that needs no rule of its own is declared in a TOML file ([`declared`]): those in `benchmarks/` are
//! compiled in, [`load`] reads and registers one of your own, and both are used like the others.
//!
//! The published benchmarks are read in their published formats ([`table`]: parquet, JSON, CSV or TSV, with images
//! inside or in files beside them), from a plain directory or the hub's cache. Prompts and scoring follow [`Rules`]:
//! those of the benchmark's authors or, where there are none, our strict rules; those of the `cambrian-1` code; or
//! those of lmms-eval. Every set of rules is described in words, with its source ([`Benchmark::explain`]). The `nano-*`
//! benchmarks are small variants of the published ones: other images and questions, but the same prompt forms and the
//! same scoring code. The `field-*` benchmarks are composed of stamps and photographs. The data of both are
//! `<data>/bench/<id>.jsonl`, one question per line ([`read_jsonl`]); they have one set of rules.
//!
//! The benchmarks of [`Category::CONVERSATION`] compare open answers with references by their words ([`overlap`]).
//!
//! Three rules hold for every benchmark. An answer that cannot be parsed is never guessed: it is counted
//! ([`BenchmarkOutcome::n_unparsed`]) and scores 0. The model's reasoning is removed before its answer is read
//! ([`reasoning`]). Questions about the same image, or of the same pair, form one [`UnitTotals`], so that standard
//! errors are computed over independent units and not over questions.
//!
//! ```
//! use burgess_bench::{Question, Rules, find};
//!
//! # fn main() -> burgess_base::Result<()> {
//! let benchmark = find("nano-gqa")?;
//! let question = Question { question: "What colour is it?".into(), answer: "red".into(), ..Question::default() };
//! let prompt = benchmark.prompt(&question, Rules::Official);
//! assert!(prompt.starts_with("What colour is it?\n"));
//! assert_eq!(benchmark.judge(&question, "Red.", Rules::Official).score, 1.0);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod benchmark;
mod benchmarks;
mod boxes;
mod cambrian;
mod card;
pub mod declared;
mod edition;
mod explain;
mod image_location;
mod images;
mod json_value;
pub mod labels;
mod letter;
mod lmms;
mod mmmu_letters;
pub mod overlap;
mod predictions;
mod question;
mod rows;
mod rules;
pub mod sample;
pub mod score;
mod skipped;
pub mod table;
mod vlmevalkit;
mod vqa;

pub use benchmark::Benchmark;
pub use benchmark::read::read_jsonl;
pub use benchmarks::{all, find};
pub use burgess_base::{Category, reasoning};
pub use card::{AnswerForm, BenchmarkCard, DatasetSource, LmmsEvalTask};
pub use declared::{BenchmarkDefinition, DeclaredBenchmark, load, registered};
pub use explain::{REASONING, RulesDescription};
pub use image_location::{ImageCell, ImageLocation};
pub use images::read_images;
pub use predictions::{
    Harness, IdExamples, PredictedAnswer, PredictionVerdict, Predictions, RecordedEntry, RecordedScores, ScoreReport,
    judge_predictions, read_predictions, read_recorded_scores,
};
pub use question::{Question, QuestionSet};
pub use rules::Rules;
pub use score::{AnswerScore, BenchmarkOutcome, ScoredItem, UnitTotals};
pub use skipped::{SkippedRows, SkippedRowsTally};
