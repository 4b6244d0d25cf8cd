//! What every room of Burgess stands on: errors that carry a hint ([`Error`]), named seeded random
//! streams ([`stream`]), digests ([`digest`]), in what two configurations differ ([`differences`]) and files that are
//! whole or absent ([`atomic`]).
//!
//! It knows neither pictures nor tensors.

pub mod atomic;
mod difference;
pub mod digest;
mod error;
pub mod stream;

pub use difference::differences;
pub use error::{Context, Error, Kind, Result, nearest};
