//! Image decoding and resizing as in Pillow, for encoders, benchmarks and image hashes; independent of tensors.
//!
//! Decoding and resizing give Pillow's bits (except CMYK in TIFF: one grey level off), with its conventions: the EXIF
//! orientation is *not* applied unless requested (except to TIFF, which Pillow's reader rotates), alpha is dropped
//! without blending, 16-bit grey is clamped at 255, 16-bit colour loses its low byte, and only the first of several
//! frames is decoded.

mod decode;
mod hash;
mod jpeg;
pub mod limits;
mod markers;
mod resample;
mod tiff;

pub use decode::{
    Orientation, decode, decode_bytes, decode_bytes_turned, decode_turned, dimensions, dimensions_turned,
};
pub use hash::{Hash, SIDES, dhash};
pub use resample::{Canvas, Interpolation, resize, resize_part};
