//! Frozen vision encoders: from images to a grid of patch features.
//!
//! An [`EncoderCard`] describes a pretrained encoder without its weights; the crate embeds a zoo of them ([`zoo`]). An
//! [`Encoder`] is a card with its weights on a device:
//!
//! ```
//! use burgess_encoders::{Device, Encoder, RgbImage};
//!
//! # fn main() -> burgess_encoders::Result<()> {
//! let encoder = Encoder::from_id("nano-sup", &Device::default())?;
//! let features = encoder.encode(&[RgbImage::new(640, 480)], 1)?;
//! assert_eq!((features.images, features.tokens, features.grid), (1, 16, [4, 4]));
//! # Ok(())
//! # }
//! ```
//!
//! [`Encoder::from_id`] also takes the path of a directory in Hugging Face layout, and `owner/name` of a repository in
//! the local Hugging Face cache; [`Encoder::encode_files`] reads image files. Two complete programs are
//! `examples/encode.rs` and `examples/similarity.rs`.
//!
//! The modules, in the order in which an image passes through them: [`resolve`] finds the card and the weights of a
//! name, [`card`] and [`directory`] describe the encoder, [`checkpoint`] reads its weights, [`preprocess`] prepares the
//! image, [`arch`] computes its [`features`], and [`probe`] measures what they contain. [`pretrain`] trains an encoder
//! with one of the objectives in [`objective`].

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod arch;
pub mod attention;
pub mod card;
pub mod checkpoint;
pub mod directory;
pub mod download;
pub mod encoder;
pub mod features;
pub mod init;
mod json_values;
pub mod kernel;
pub mod number_format;
pub mod objective;
pub mod operands;
pub mod precision;
pub mod preprocess;
pub mod pretrain;
pub mod probe;
pub mod reduce;
pub mod resolve;
pub mod shipped;
pub mod tiling;
mod timm;
pub mod transfer;

pub use arch::{Architecture, ArchitectureConfig, Tap, Tokens};
pub use burgess_base::{Error, ErrorKind, Result};
pub use burgess_hub as hub;
pub use burn::tensor::{Device, Tensor};
pub use card::{EncoderCard, Supervision, zoo};
pub use checkpoint::Checkpoint;
pub use encoder::{EncodedBatch, Encoder, Features};
pub use features::FeatureMap;
pub use image::RgbImage;
pub use precision::ComputePrecision;
pub use preprocess::Preprocess;
