//! From topics to visual instruction data: pages, images, questions and answers.
//!
//! The stages read and write JSON lines, so that one can look at what lies between them:
//!
//! - [`config`]: `engine.toml`; [`pipeline`]: stages over shards in a workspace;
//! - [`topics`], [`qa`], [`pack`]: the stages of language models, and training data;
//! - [`llm`]: a client of OpenAI-compatible endpoints;
//! - [`fetch`]: polite HTTP with a disk cache;
//! - [`page`]: the types of a page with its sections and figures, one per line;
//! - [`skips`]: counts of what is left out, by reason;
//! - [`fold`], [`reply_json`]: comparisons of texts, and JSON inside replies;
//! - [`certificates`]: the root certificates of TLS.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod certificates;
pub mod config;
pub mod fetch;
pub mod fold;
pub mod init;
pub mod llm;
pub mod pack;
pub mod page;
pub mod pipeline;
pub mod qa;
pub mod reply_json;
pub mod skips;
#[cfg(test)]
mod test_server;
pub mod topics;
