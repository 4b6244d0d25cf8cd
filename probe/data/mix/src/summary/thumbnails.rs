//! Small JPEGs of the images of a sample.

use super::samples::SampledEntry;
use crate::pool::{PoolImage, read_images};
use burgess_base::{Error, Result, guard};
use burgess_images::{Interpolation, decode_bytes, resize};

/// Quality of the JPEGs.
const QUALITY: f32 = 80.0;

/// A small JPEG of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thumbnail {
    /// Size of the image itself in pixels: width, height.
    pub size: (u32, u32),
    /// The JPEG.
    pub jpeg: Vec<u8>,
}

/// Makes thumbnails of the images of a sample, at most `side` pixels wide and high: a list for each entry, in the order
/// of its images. An image that cannot be read has an error in its place.
pub fn thumbnails(samples: &[SampledEntry], side: u32) -> Vec<Vec<Result<Thumbnail>>> {
    let all: Vec<&PoolImage> = samples.iter().flat_map(|sample| &sample.located).collect();
    let mut read = read_images(&all).into_iter();
    let of = |sample: &SampledEntry| -> Vec<Result<Thumbnail>> {
        let images = sample.images.iter().enumerate();
        images
            .map(|(i, name)| match sample.located.get(i) {
                None => Err(Error::failed(format!("{name} is not shown: no directory of images is given"))),
                Some(image) => {
                    let bytes = read.next().unwrap_or_else(|| Err(Error::failed(format!("{image} was not read"))))?;
                    thumbnail(&bytes, side).map_err(|e| e.context(format!("reading {image}")))
                }
            })
            .collect()
    };
    samples.iter().map(of).collect()
}

fn thumbnail(bytes: &[u8], side: u32) -> Result<Thumbnail> {
    let image = decode_bytes(bytes)?;
    let (width, height) = image.dimensions();
    let scale = (f64::from(side) / f64::from(width.max(height).max(1))).min(1.0);
    let scaled = |length: u32| ((f64::from(length) * scale).round() as usize).max(1);
    let (w, h) = (scaled(width), scaled(height));
    let pixels = resize::<3>(image.as_raw(), (width as usize, height as usize), (w, h), Interpolation::Bilinear);
    let encode = || -> std::io::Result<Vec<u8>> {
        let mut jpeg = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
        jpeg.set_size(w, h);
        jpeg.set_quality(QUALITY);
        let mut jpeg = jpeg.start_compress(Vec::new())?;
        jpeg.write_scanlines(&pixels)?;
        jpeg.finish()
    };
    Ok(Thumbnail { size: (width, height), jpeg: guard::third_party("a thumbnail", encode)?? })
}
