//! Computes the hashes of images, on all cores.

use burgess_base::{Error, Result};
use burgess_bench::{ImageLocation, read_images};
use burgess_images::{DifferenceHash, decode_bytes, dhash};
use rayon::prelude::*;

/// The reason why an image has no hash.
#[derive(Debug, Clone)]
pub struct UnreadableImage {
    /// Short cause, the same for all images that fail in the same way.
    pub cause: String,
    /// Full message with the image's name.
    pub detail: String,
}

/// Computes the hashes of these images, in the same order. Images in one table are read in a single pass; files are
/// read by the threads that hash them.
pub fn hashes(images: &[&ImageLocation], side: usize) -> Vec<Result<DifferenceHash, UnreadableImage>> {
    let cells: Vec<&ImageLocation> = images.iter().copied().filter(|p| matches!(p, ImageLocation::Cell(_))).collect();
    let mut fetched = read_images(&cells).into_iter();
    let work: Vec<(&ImageLocation, Option<Result<Vec<u8>>>)> = images
        .iter()
        .map(|image| match image {
            ImageLocation::File(_) => (*image, None),
            ImageLocation::Cell(_) => (*image, fetched.next()),
        })
        .collect();
    let hash = |(image, fetched): (&ImageLocation, Option<Result<Vec<u8>>>)| {
        let inside = fetched.is_some();
        let bytes = fetched.unwrap_or_else(|| image.bytes()).map_err(|e| UnreadableImage {
            // A table's errors name rows, so they would not group into one cause.
            cause: if inside { "it cannot be taken out of the table".into() } else { innermost(&e) },
            detail: e.to_string(),
        })?;
        let hash = decode_bytes(&bytes).and_then(|pixels| dhash(&pixels, side));
        hash.map_err(|e| UnreadableImage { cause: innermost(&e), detail: format!("{image}: {e}") })
    };
    work.into_par_iter().map(hash).collect()
}

fn innermost(e: &Error) -> String {
    e.chain().last().cloned().unwrap_or_default()
}
