//! The images of a study's questions, which `burgess view` sends by number.

use crate::data::TableCells;
use burgess_base::{Context, Error, Result, files};
use burgess_reports::answers::{CellReader, ServedImage};
use burgess_reports::images::image_type;
use burgess_serve::view::StudyImages;
use std::fs;
use std::path::Path;

/// Maximum size of an image file in bytes.
const LARGEST: u64 = 256 << 20;

/// The images of one version of a study's answers.
pub(super) struct ServedImages {
    pub(super) generation: String,
    /// The images that may be shown, by number.
    pub(super) images: Vec<Option<ServedImage>>,
}

impl StudyImages for ServedImages {
    fn version(&self) -> &str {
        &self.generation
    }

    fn read(&self, number: usize) -> Result<Option<(Vec<u8>, String)>> {
        let bytes = match self.images.get(number).and_then(Option::as_ref) {
            None => return Ok(None),
            Some(ServedImage::File(path)) => {
                check_links(path)?;
                files::read(path, LARGEST).with_context(|| format!("reading {}", path.display()))?
            }
            Some(ServedImage::Cell(cell)) => {
                check_links(Path::new(cell.rsplit_once('#').map_or(cell.as_str(), |(table, _)| table)))?;
                let read = TableCells.read(std::slice::from_ref(cell)).pop();
                read.ok_or_else(|| Error::failed(format!("{cell} was not read")))??
            }
        };
        let kind = image_type(&bytes)
            .ok_or_else(|| Error::failed("the file is no image of a type that browsers show, such as PNG or JPEG"))?;
        Ok(Some((bytes, format!("image/{kind}"))))
    }
}

/// Checks that a path is still free of links, as it was when it was allowed: a link that took its place since is not
/// followed.
fn check_links(path: &Path) -> Result<()> {
    let real = fs::canonicalize(path).with_context(|| format!("reading {}", path.display()))?;
    if real != path {
        return Err(Error::failed(format!("{} has become a link", path.display()))
            .hint("start the viewer again: the images are then checked again"));
    }
    Ok(())
}
