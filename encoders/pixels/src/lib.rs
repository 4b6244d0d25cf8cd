//! Pictures as Pillow opens and resizes them, without tensors: for encoders, for benchmarks' pictures and for their hashes.
//!
//! Decoding and resizing give Pillow's bits (CMYK in TIFF excepted: one grey level off). Pillow's habits are kept: the
//! orientation in EXIF data is *not* applied unless asked for (except to TIFF, where Pillow's reader does it), transparency is dropped
//! without blending, grey of 16 bits is cut at 255, colour of 16 bits loses its low byte; of several frames the first is
//! taken.

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
