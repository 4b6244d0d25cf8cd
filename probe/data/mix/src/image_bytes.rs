//! Reads images of pools.

use crate::pool::PoolImage;
use burgess_base::{Error, Result, compressed};
use burgess_bench::ImageLocation;
use rayon::prelude::*;
use std::io::Read;

/// Largest image that is read, in bytes.
const LARGEST: u64 = 1 << 30;

/// Returns the bytes of images, in the same order. Those in one table are read in a single pass.
pub fn read_images(images: &[&PoolImage]) -> Vec<Result<Vec<u8>>> {
    let located: Vec<&ImageLocation> = images
        .iter()
        .filter_map(|image| match image {
            PoolImage::Located(location @ ImageLocation::Cell(_)) => Some(location),
            PoolImage::Located(ImageLocation::File(_)) | PoolImage::Member { .. } => None,
        })
        .collect();
    let mut cells = burgess_bench::read_images(&located).into_iter();
    let work: Vec<(&PoolImage, Option<Result<Vec<u8>>>)> = images
        .iter()
        .map(|image| match image {
            PoolImage::Located(ImageLocation::Cell(_)) => (*image, cells.next()),
            PoolImage::Located(ImageLocation::File(_)) | PoolImage::Member { .. } => (*image, None),
        })
        .collect();
    work.into_par_iter().map(|(image, cell)| cell.unwrap_or_else(|| bytes_of(image))).collect()
}

fn bytes_of(image: &PoolImage) -> Result<Vec<u8>> {
    match image {
        PoolImage::Located(location) => location.bytes(),
        PoolImage::Member { file, offset, size, .. } => {
            if *size > LARGEST {
                return Err(Error::failed(format!("{image} has {size} bytes, expected at most {LARGEST}")));
            }
            let mut reader = compressed::open(file).map_err(|e| Error::from(e).context(format!("reading {image}")))?;
            let step = |e: std::io::Error| Error::from(e).context(format!("reading {image}"));
            std::io::copy(&mut reader.by_ref().take(*offset), &mut std::io::sink()).map_err(step)?;
            let mut bytes = Vec::new();
            reader.take(*size).read_to_end(&mut bytes).map_err(step)?;
            match bytes.len() as u64 == *size {
                true => Ok(bytes),
                false => Err(Error::failed(format!("{image} is cut off after {} of {size} bytes", bytes.len()))),
            }
        }
    }
}
