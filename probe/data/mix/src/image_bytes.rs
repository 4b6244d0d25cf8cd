//! Reads images of pools, files on all threads.

use crate::pool::{self, PoolImage};
use burgess_base::{Error, Result};
use burgess_bench::ImageLocation;
use rayon::prelude::*;

/// Returns the bytes of images, in the same order. Those in one table are read in a single pass.
pub fn read_images(images: &[&PoolImage]) -> Vec<Result<Vec<u8>>> {
    let is_file = |image: &PoolImage| matches!(image, PoolImage::Located(ImageLocation::File(_)));
    let inside: Vec<&PoolImage> = images.iter().copied().filter(|image| !is_file(image)).collect();
    let mut inside = pool::read_images(&inside).into_iter();
    let work: Vec<(&PoolImage, Option<Result<Vec<u8>>>)> =
        images.iter().map(|image| (*image, if is_file(image) { None } else { inside.next() })).collect();
    let bytes = |(image, read): (&PoolImage, Option<Result<Vec<u8>>>)| match (image, read) {
        (_, Some(read)) => read,
        (PoolImage::Located(location), None) => location.bytes(),
        (PoolImage::Member { .. }, None) => Err(Error::failed(format!("{image} was not read"))),
    };
    work.into_par_iter().map(bytes).collect()
}
