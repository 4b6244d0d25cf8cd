//! From pictures to hashes, on all cores.

use burgess_base::{Error, Result};
use burgess_bench::{Picture, picture};
use burgess_pixels::{Hash, decode_bytes, dhash};
use rayon::prelude::*;

/// Why a picture has no hash.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// In few words, the same for all pictures that fail in the same way.
    pub cause: String,
    /// With the picture's name.
    pub detail: String,
}

/// The hashes of these pictures, in their order. Neighbours in one table are fetched in one pass; files are read by the
/// threads that hash them.
pub fn hashes(pictures: &[&Picture], side: usize) -> Vec<Result<Hash, Unreadable>> {
    let cells: Vec<&Picture> = pictures.iter().copied().filter(|p| matches!(p, Picture::Cell(_))).collect();
    let mut fetched = picture::bytes_of(&cells).into_iter();
    let work: Vec<(&Picture, Option<Result<Vec<u8>>>)> = pictures
        .iter()
        .map(|picture| match picture {
            Picture::File(_) => (*picture, None),
            Picture::Cell(_) => (*picture, fetched.next()),
        })
        .collect();
    let hash = |(picture, fetched): (&Picture, Option<Result<Vec<u8>>>)| {
        let inside = fetched.is_some();
        let bytes = fetched.unwrap_or_else(|| picture.bytes()).map_err(|e| Unreadable {
            // A table's errors name rows.
            cause: if inside { "it cannot be taken out of the table".into() } else { innermost(&e) },
            detail: e.to_string(),
        })?;
        let hash = decode_bytes(&bytes).and_then(|pixels| dhash(&pixels, side));
        hash.map_err(|e| Unreadable { cause: innermost(&e), detail: format!("{picture}: {e}") })
    };
    work.into_par_iter().map(hash).collect()
}

fn innermost(e: &Error) -> String {
    e.chain().last().cloned().unwrap_or_default()
}
