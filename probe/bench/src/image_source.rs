//! Location of a question's image: a file, or a cell of a published table.
//!
//! Questions hold locations; bytes are read only when an image is needed, so that scoring answers opens no image, and a
//! benchmark of gigabytes is read in a few megabytes of memory. The text form of a cell is `FILE#COLUMN/AT` or, for an
//! item of a list, `FILE#COLUMN/AT/ITEM`, where `AT` is the row of a parquet file or the byte offset of the record in a
//! TSV file.

use crate::table::{delimited, parquet};
use burgess_base::{Context, Error, Result, files};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Maximum size of an encoded image, in bytes.
const LARGEST: u64 = 1 << 30;

/// Location of an image, which is not opened until its bytes are read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Image {
    /// An image file.
    File(PathBuf),
    /// A cell of a table.
    Cell(Cell),
}

/// Location of an image inside a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cell {
    /// The parquet or TSV file.
    pub file: PathBuf,
    /// Name of the column.
    pub column: String,
    /// Row of the parquet file, from 0, or byte offset of the TSV record.
    pub at: u64,
    /// Index in the list, from 0, if the column holds lists.
    pub item: Option<u32>,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Cell(Cell { file, column, at, item }) => {
                write!(f, "{}#{column}/{at}", file.display())?;
                item.map_or(Ok(()), |item| write!(f, "/{item}"))
            }
        }
    }
}

impl From<Image> for String {
    fn from(image: Image) -> Self {
        image.to_string()
    }
}

impl From<String> for Image {
    fn from(name: String) -> Self {
        Self::named(&name)
    }
}

impl Image {
    /// Parses the text form: a cell if it matches the form of one, else a file.
    pub fn named(name: &str) -> Self {
        cell(name).map_or_else(|| Self::File(name.into()), Self::Cell)
    }

    /// Returns the location with its file joined to `dir`; absolute paths stay as they are.
    pub fn below(self, dir: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(dir.join(path)),
            Self::Cell(cell) => Self::Cell(Cell { file: dir.join(&cell.file), ..cell }),
        }
    }

    /// Returns the image file, or the table that holds the image.
    pub fn file(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Cell(cell) => &cell.file,
        }
    }

    /// Reads the encoded image: the bytes of a PNG, JPEG, … file.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        bytes_of(&[self]).pop().unwrap_or_else(|| Err(Error::failed(format!("no image {self}"))))
    }
}

fn cell(name: &str) -> Option<Cell> {
    let (file, address) = name.rsplit_once('#')?;
    let mut parts = address.split('/');
    let (column, at, item) = (parts.next()?, parts.next()?.parse().ok()?, parts.next());
    let item = item.map(str::parse).transpose().ok()?;
    let table = parquet::is(Path::new(file)) || delimited::is(Path::new(file));
    (table && !column.is_empty() && parts.next().is_none()).then(|| Cell {
        file: file.into(),
        column: column.into(),
        at,
        item,
    })
}

/// Reads several images and returns them in the same order; the images of one table column are read in a single pass.
pub fn bytes_of(images: &[&Image]) -> Vec<Result<Vec<u8>>> {
    let mut cells: BTreeMap<(&Path, &str), Vec<&Cell>> = BTreeMap::new();
    for image in images {
        if let Image::Cell(cell) = image {
            cells.entry((&cell.file, &cell.column)).or_default().push(cell);
        }
    }
    let mut found: BTreeMap<&Cell, Result<Vec<u8>>> = BTreeMap::new();
    for ((file, column), cells) in cells {
        let read = match parquet::is(file) {
            true => parquet::images(file, column, &cells),
            false => delimited::images(file, column, &cells),
        };
        match read {
            Ok(read) => found.extend(cells.into_iter().zip(read)),
            Err(e) => {
                let text = e.to_string();
                found.extend(cells.into_iter().map(|cell| (cell, Err(Error::failed(text.clone())))));
            }
        }
    }
    let bytes = |image: &&Image| match image {
        Image::File(path) => files::read(path, LARGEST).with_context(|| format!("reading {}", path.display())),
        Image::Cell(cell) => match found.get(cell) {
            Some(Ok(bytes)) => Ok(bytes.clone()),
            Some(Err(e)) => Err(Error::failed(e.to_string())),
            None => Err(Error::failed(format!("{image} was not read"))),
        },
    };
    images.iter().map(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for name in ["a/b.png", "x/test-0.parquet#image/17", "x.tsv#image/104/2", "odd#name/7.png", "x.parquet#/1"] {
            let image = Image::named(name);
            assert_eq!(image.to_string(), name);
            let cell = name.contains(".parquet#i") || name.contains(".tsv#");
            assert_eq!(matches!(image, Image::Cell(_)), cell, "{name}");
        }
        let below = Image::named("t.parquet#image/3").below(Path::new("/data"));
        assert_eq!(below.to_string(), "/data/t.parquet#image/3");
    }
}
