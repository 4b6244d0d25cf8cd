//! Throughput and memory of encoders and evaluators on this machine (`burgess bench`).

mod encoder;
pub mod evaluator;

pub use encoder::*;
