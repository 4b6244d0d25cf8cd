//! All fuzz targets, in one table per family of formats.

mod annotations;
mod benchmarks;
mod chat;
mod configs;
mod conversations;
mod engine;
mod faults;
mod images;
mod mixes;
mod onnx;
mod pages;
mod pools;
mod predictions;
mod reports;
mod studies;
mod tokenizers;
mod weights;
mod zip;

use crate::FuzzTarget;

/// All targets, by family.
pub const TABLES: [&[FuzzTarget]; 16] = [
    weights::TARGETS,
    configs::TARGETS,
    tokenizers::TARGETS,
    chat::TARGETS,
    images::TARGETS,
    benchmarks::TARGETS,
    predictions::TARGETS,
    conversations::TARGETS,
    pools::TARGETS,
    annotations::TARGETS,
    onnx::TARGETS,
    pages::TARGETS,
    engine::TARGETS,
    studies::TARGETS,
    mixes::TARGETS,
    reports::TARGETS,
];

/// Targets that fail on purpose.
pub const FAULTS: &[FuzzTarget] = faults::TARGETS;
