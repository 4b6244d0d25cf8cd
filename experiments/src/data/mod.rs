//! The data of a study on this machine: images, training conversations and questions of benchmarks.

pub mod benchmarks;
pub mod digests;
pub mod directory;
pub mod examples;
pub mod field;
pub mod image_files;
pub mod published;

pub use directory::*;
