//! Pictures as Pillow opens and resizes them, without tensors: for encoders, for benchmarks' pictures and for their hashes.
//!
//! Decoding and resizing give Pillow's bits (CMYK in TIFF excepted: one grey level off). Pillow's habits are kept: the
//! orientation in EXIF data is *not* applied (except to TIFF, where Pillow's reader does it), transparency is dropped
//! without blending, grey of 16 bits is cut at 255, colour of 16 bits loses its low byte; of several frames the first is
//! taken.

mod decode;
mod jpeg;
mod resample;

pub use decode::{decode, decode_bytes, dimensions};
pub use resample::{Canvas, Interpolation, resize};
