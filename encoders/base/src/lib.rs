//! Foundations of all crates of Burgess, independent of images and tensors:
//!
//! - [`Error`]: errors with context and a hint; [`Category`]: categories of benchmarks;
//! - [`stream`]: named, seeded random streams;
//! - [`digest`]: digests of files and configurations; [`differences`]: differences between two configurations;
//! - [`atomic`]: atomic writes; [`output`]: writing to a file or standard output; [`temporary`]: temporary files;
//! - [`process`]: processes and the machine they run on;
//! - [`checksums`]: checksums of cached files;
//! - [`files`]: opening untrusted paths; [`compressed`]: plain, gzip and zstd files;
//! - [`json`]: a lenient reader of JSON that other programs wrote; [`protobuf`]: the wire format of protocol buffers;
//! - [`network`]: addresses of the public internet, and looking up names with a deadline;
//! - [`toml_error`]: errors of TOML files with file, line and key;
//! - [`prefetch`]: items that a second thread prepares while earlier ones are used;
//! - [`skipped`]: counts of skipped entries of training data;
//! - [`guard`]: conversion of panics in third-party parsers to errors; [`text`]: escaping of untrusted text;
//! - [`answer_text`]: how an answer is written, and what a question asks for; [`response_format`]: sentences that ask
//!   for a form of answer; [`reasoning`]: an answer without its reasoning.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod answer_text;
pub mod atomic;
mod category;
pub mod checksums;
pub mod compressed;
mod destination;
mod difference;
pub mod digest;
mod error;
pub mod files;
pub mod guard;
pub mod json;
pub mod network;
pub mod output;
pub mod prefetch;
pub mod process;
pub mod protobuf;
pub mod reasoning;
pub mod response_format;
pub mod skipped;
pub mod stream;
pub mod temporary;
pub mod text;
pub mod toml_error;

pub use category::Category;
pub use difference::differences;
pub use error::{Context, Error, ErrorKind, Result, nearest};
