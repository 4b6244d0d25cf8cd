//! Training sets of conversations: pools, mixes, filters, balance, and what is in them.
//!
//! - [`pool`]: pools of conversations as they are published, streamed;
//! - [`Mix`]: which entries of which pools become a training set, as a TOML file states it; [`MixTable`] counts them
//!   from published numbers alone;
//! - [`MixPlan`]: the entries that a mix chooses; it writes them with a [`Manifest`];
//! - [`output`]: writers of JSON lines and webdataset shards;
//! - [`select`]: thresholds per source and ratios of kinds, on plain summaries of entries;
//! - [`summary`]: what is in a pool: counts, lengths, languages, a sample;
//! - [`system_prompts`]: response-format prompts for sources with short answers.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod duplicates;
mod manifest;
pub mod mix;
mod names;
pub mod output;
mod plan;
pub mod pool;
mod rule;
mod scan;
pub mod select;
pub mod summary;
pub mod system_prompts;
mod table;
mod write;

pub use manifest::{MANIFEST, Manifest, ManifestInput, PromptCount, WriteCounts};
pub use mix::Mix;
pub use names::source_key;
pub use plan::{InputFile, MixPlan, PlanGroup, PoolProblems, Step};
pub use table::{Basis, MixTable, TableRow};
pub use write::{DATA_FILE, OutputFormat, WriteOptions, WrittenMix};
