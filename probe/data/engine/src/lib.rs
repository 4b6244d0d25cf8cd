//! From topics to visual instruction data: pages, images, questions and answers.
//!
//! The stages read and write JSON lines, so that one can look at what lies between them:
//!
//! - [`llm`]: a client of OpenAI-compatible endpoints;
//! - [`fetch`]: polite HTTP with a disk cache;
//! - [`page`]: the types of a page with its sections and figures, one per line;
//! - [`skips`]: counts of what is left out, by reason;
//! - [`certificates`]: the root certificates of TLS.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod certificates;
pub mod fetch;
pub mod llm;
pub mod page;
pub mod skips;
#[cfg(test)]
mod test_server;
