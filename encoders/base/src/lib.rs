//! What every room of Burgess stands on: errors that carry a hint ([`Error`]), named seeded random
//! streams ([`stream`]), digests ([`digest`]), in what two configurations differ ([`differences`]), files that are whole or
//! absent ([`atomic`]) and where a named output goes ([`output`]), checksums of what is read again ([`checksums`]), leftovers of
//! killed processes ([`leftovers`]), files that may be compressed ([`compressed`]) or no files at all ([`files`]), JSON as other
//! programs write it ([`json`]), foreign
//! parsers that may panic ([`guard`]), foreign text in messages ([`text`]) and protocol buffers on the wire ([`protobuf`]).
//!
//! It knows neither pictures nor tensors.

pub mod atomic;
pub mod checksums;
pub mod compressed;
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

pub use difference::differences;
pub use error::{Context, Error, Kind, Result, nearest};
