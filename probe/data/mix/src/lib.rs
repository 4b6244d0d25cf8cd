//! Training sets of conversations: pools, mixes, filters, balance, and what is in them.
//!
//! - [`pool`]: pools of conversations as they are published, streamed;
//! - [`select`]: thresholds per source and ratios of kinds, on plain summaries of entries;
//! - [`summary`]: what is in a pool: counts, lengths, languages, a sample;
//! - [`system_prompts`]: response-format prompts for sources with short answers.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod names;
pub mod pool;
pub mod select;
pub mod summary;
pub mod system_prompts;

pub use names::source_key;
