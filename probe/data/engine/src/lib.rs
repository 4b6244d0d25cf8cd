//! From topics to visual instruction data: pages, images, questions and answers.
//!
//! The stages read and write JSON lines, so that one can look at what lies between them:
//!
//! - [`fetch`]: polite HTTP with a disk cache;
//! - [`html`]: sections and figures of HTML pages;
//! - [`page`]: the types of a page with its sections and figures, one per line;
//! - [`sources`]: where pages come from: a wiki's search, dumps, crawls, folders;
//! - [`skips`]: counts of what is left out, by reason.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod fetch;
pub mod html;
mod outline;
pub mod page;
pub mod skips;
pub mod sources;

pub use outline::ReadOptions;
#[cfg(test)]
mod test_server;
