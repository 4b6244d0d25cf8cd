//! Reads the bytes of images.

use crate::image_location::{ImageCell, ImageLocation};
use crate::table;
use burgess_base::{Context, Error, Result, files};
use std::collections::BTreeMap;
use std::path::Path;

/// Maximum size of an encoded image, in bytes.
const LARGEST: u64 = 1 << 30;

impl ImageLocation {
    /// Reads the encoded image: the bytes of a PNG, JPEG, … file.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        read_images(&[self]).pop().unwrap_or_else(|| Err(Error::failed(format!("{self} was not read"))))
    }
}

/// Reads several encoded images and returns them in the same order; the images of one table column are read in a single
/// pass.
pub fn read_images(images: &[&ImageLocation]) -> Vec<Result<Vec<u8>>> {
    let mut cells: BTreeMap<(&Path, &str), Vec<&ImageCell>> = BTreeMap::new();
    for image in images {
        if let ImageLocation::Cell(cell) = image {
            cells.entry((&cell.file, &cell.column)).or_default().push(cell);
        }
    }
    let mut found: BTreeMap<&ImageCell, Result<Vec<u8>>> = BTreeMap::new();
    for ((file, column), cells) in cells {
        match table::read_image_cells(file, column, &cells) {
            Ok(read) => found.extend(cells.into_iter().zip(read)),
            Err(e) => {
                let text = e.to_string();
                found.extend(cells.into_iter().map(|cell| (cell, Err(Error::failed(text.clone())))));
            }
        }
    }
    let bytes = |image: &&ImageLocation| match image {
        ImageLocation::File(path) => files::read(path, LARGEST).with_context(|| format!("reading {}", path.display())),
        ImageLocation::Cell(cell) => match found.get(cell) {
            Some(Ok(bytes)) => Ok(bytes.clone()),
            Some(Err(e)) => Err(Error::failed(e.to_string())),
            None => Err(Error::failed(format!("{image} was not read"))),
        },
    };
    images.iter().map(bytes).collect()
}
