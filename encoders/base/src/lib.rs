//! What every room of Burgess stands on: errors that carry a hint ([`Error`]), named seeded random
//! streams ([`stream`]), digests ([`digest`]), in what two configurations differ ([`differences`]), files that are whole or
//! absent ([`atomic`]), files that may be compressed ([`compressed`]) and protocol buffers on the wire ([`protobuf`]).
//!
//! It knows neither pictures nor tensors.

pub mod atomic;
pub mod compressed;
mod difference;
pub mod digest;
mod error;
pub mod protobuf;
pub mod stream;

pub use difference::differences;
pub use error::{Context, Error, Kind, Result, nearest};
