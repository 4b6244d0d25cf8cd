//! Decodes and resizes images as Pillow does, for encoders, benchmarks and image hashes; independent of tensors.
//!
//! The results equal Pillow's bit for bit (except CMYK in TIFF: off by one grey level), with its conventions: the EXIF
//! orientation is *not* applied unless requested (except to TIFF, which Pillow's reader rotates), alpha is dropped
//! without blending, 16-bit grey is clamped at 255, 16-bit colour loses its low byte, and only the first of several
//! frames is decoded.
//!
//! The environment variables `BURGESS_MAX_PIXELS` (default 89,478,485) and `BURGESS_MAX_DECODE_SECONDS` (default 60)
//! limit the size of an image and the time of decoding it.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod decode;
mod hash;
mod jpeg;
mod limits;
mod markers;
mod resample;
mod tiff;

pub use decode::{
    Orientation, decode, decode_bytes, decode_bytes_oriented, decode_oriented, dimensions, dimensions_of_bytes,
    dimensions_oriented,
};
pub use hash::{DifferenceHash, HASH_SIDES, dhash};
pub use resample::{Interpolation, PaddedSquare, resize, resize_part};
