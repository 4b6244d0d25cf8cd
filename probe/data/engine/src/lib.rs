//! From topics to visual instruction data: pages, images, questions and answers.
//!
//! The stages read and write JSON lines, so that one can look at what lies between them:
//!
//! - [`config`]: `engine.toml`; [`init`]: a new workspace; [`pipeline`]: stages over shards in a workspace;
//! - [`topics`], [`qa`], [`pack`]: the stages of language models, and training data;
//! - [`llm`]: a client of OpenAI-compatible endpoints;
//! - [`fetch`]: polite HTTP with a disk cache;
//! - [`html`]: sections and figures of HTML pages;
//! - [`sources`]: where pages come from: a wiki's search, dumps, crawls, folders;
//! - [`pages`]: the stage that reads pages from a source;
//! - [`images`]: the stage that fetches, checks and converts images;
//! - [`page`]: the types of a page with its sections and figures, one per line;
//! - [`skips`]: counts of what is left out, by reason;
//! - [`fold`], [`reply_json`]: comparisons of texts, and JSON inside replies;
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod collect;
pub mod config;
pub mod fetch;
pub mod fold;
pub mod html;
pub mod images;
pub mod init;
pub mod llm;
mod outline;
pub mod pack;
pub mod page;
pub mod pages;
pub mod pipeline;
pub mod qa;
pub mod reply_json;
pub mod skips;
pub mod sources;
#[cfg(test)]
mod test_server;
pub mod topics;

pub use outline::ReadOptions;
