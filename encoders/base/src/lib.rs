//! Foundations of all crates of Burgess, independent of images and tensors:
//!
//! - [`Error`]: errors with context and a hint; [`Category`]: categories of benchmarks;
//! - [`stream`]: named, seeded random streams;
//! - [`digest`]: digests of files and configurations; [`differences`]: differences between two configurations;
//! - [`atomic`]: atomic writes; [`output`]: outputs that the user names; [`leftovers`]: files of killed processes;
//! - [`checksums`]: checksums of cached files;
//! - [`files`]: opening untrusted paths; [`compressed`]: compressed files;
//! - [`json`]: JSON of other programs; [`protobuf`]: the wire format of protocol buffers;
//! - [`guard`]: third-party parsers that may panic; [`text`]: untrusted text in messages.

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
pub mod leftovers;
pub mod output;
pub mod protobuf;
pub mod stream;
pub mod text;

pub use category::Category;
pub use difference::differences;
pub use error::{Context, Error, Kind, Result, nearest};
