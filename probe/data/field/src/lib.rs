//! The data of the field study: photographs, stamps and pretrained weights from public packages.
//!
//! ```text
//! raw ──► stamps, photographs ──► split ──► Composition::draw ──► image ──► questions ──► dataset::write
//!    ├──► cocoqa   COCO-QA's questions as they are
//!    ├──► onnx ──► backbone   a vision transformer as a transformers directory
//!    └──► the language model's file
//! prepare: all of it, into one directory with a manifest
//! ```
//!
//! The content of an image is known to the pixel because it is composed: the number of objects per kind, their relative
//! positions, and which occludes which. Everything follows from the raw files and a seed, independently of the number
//! of threads.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod backbone;
mod backdrop;
mod cocoqa;
mod composition;
pub mod dataset;
mod examples;
mod kinds;
mod material;
mod names;
pub mod onnx;
pub mod prepare;
mod question;
mod raw;
mod split;
mod sprite;
mod stamps;
#[cfg(test)]
mod tests;
mod text_image;

pub use dataset::FieldSpec;

/// Version that is incremented whenever the same files give other pixels or texts; it is part of every data directory's
/// digest.
pub const VERSION: u32 = 4;

/// Width and height of every composed image, in pixels; it is the encoder's input size, so that no image is resized.
pub const SIZE: u32 = 224;

/// Name of the encoder's directory in the study's directory.
pub const ENCODER: &str = "vit-s14-focus";

/// Name of the language model's file in the study's directory.
pub const LANGUAGE_MODEL: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
