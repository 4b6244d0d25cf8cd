//! The shapes of what a connector reads: features of encoders, and sizes of images.

use super::token_layout::ImageSize;
use burgess_base::{Error, Result};
use serde::{Deserialize, Serialize};

/// The shape of one encoder's features as a connector reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderShape {
    /// Number of channels per token.
    pub width: usize,
    /// Side of the square grid, in tokens.
    pub grid: usize,
}

impl EncoderShape {
    /// Number of tokens on the grid, as a floating-point number for estimates.
    pub(super) fn tokens(&self) -> f64 {
        (self.grid * self.grid) as f64
    }
}

/// Checks that there is one size for each of the `count` images of a batch.
pub(super) fn check_sizes(images: Option<&[ImageSize]>, count: usize) -> Result<()> {
    match images {
        Some(sizes) if sizes.len() != count => Err(Error::failed(format!(
            "the connector got {} image sizes for the features of {count} images",
            sizes.len()
        ))),
        _ => Ok(()),
    }
}
