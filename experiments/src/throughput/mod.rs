//! Throughput and memory of encoders and evaluators on this machine (`burgess bench`).

mod encoder;
mod evaluator;
mod measure;

pub use encoder::{EncoderThroughput, measure_encoder, representatives};
pub use evaluator::{BenchmarkLlm, EvaluatorThroughput, EvaluatorWork, MeanTransfers, WorkKind, measure_evaluator};
pub use measure::Effort;
