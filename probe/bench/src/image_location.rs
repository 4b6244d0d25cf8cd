//! Location of a question's image: a file, or a cell of a published table.
//!
//! Questions hold locations; bytes are read only when an image is needed ([`crate::read_images`]), so that scoring
//! answers opens no image, and a benchmark of gigabytes is read in a few megabytes of memory. The text form of a cell
//! is `FILE#COLUMN/AT` or, for an item of a list, `FILE#COLUMN/AT/ITEM`, where `AT` is the row of a parquet file or the
//! byte offset of the record in a CSV or TSV file.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

/// Location of an image, which is not opened until its bytes are read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum ImageLocation {
    /// An image file.
    File(PathBuf),
    /// A cell of a table.
    Cell(ImageCell),
}

/// Location of an image inside a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageCell {
    /// The parquet, CSV or TSV file.
    pub file: PathBuf,
    /// Name of the column.
    pub column: String,
    /// Row of the parquet file, from 0, or byte offset of the CSV or TSV record.
    pub at: u64,
    /// Index in the list, from 0, if the column holds lists.
    pub item: Option<u32>,
}

impl fmt::Display for ImageLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Cell(ImageCell { file, column, at, item }) => {
                write!(f, "{}#{column}/{at}", file.display())?;
                item.map_or(Ok(()), |item| write!(f, "/{item}"))
            }
        }
    }
}

impl From<ImageLocation> for String {
    fn from(image: ImageLocation) -> Self {
        image.to_string()
    }
}

impl From<String> for ImageLocation {
    fn from(text: String) -> Self {
        Self::parse(&text)
    }
}

impl ImageLocation {
    /// Parses the text form: a cell if it matches the form of one, else a file.
    pub fn parse(text: &str) -> Self {
        parse_cell(text).map_or_else(|| Self::File(text.into()), Self::Cell)
    }

    /// Returns the location with its file joined to `dir`; absolute paths stay as they are.
    pub fn below(self, dir: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(dir.join(path)),
            Self::Cell(cell) => Self::Cell(ImageCell { file: dir.join(&cell.file), ..cell }),
        }
    }

    /// Returns the image file, or the table that holds the image.
    pub fn file(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Cell(cell) => &cell.file,
        }
    }

    /// Returns a name that is unique among the images of one table and the same for all rows that share the image: the
    /// file name, or [`ImageCell::at`].
    pub fn name_in_table(&self) -> String {
        match self {
            Self::File(path) => path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            Self::Cell(cell) => cell.at.to_string(),
        }
    }
}

fn parse_cell(text: &str) -> Option<ImageCell> {
    let (file, address) = text.rsplit_once('#')?;
    let mut parts = address.split('/');
    let (column, at, item) = (parts.next()?, parts.next()?.parse().ok()?, parts.next());
    let item = item.map(str::parse).transpose().ok()?;
    let extension = Path::new(file).extension().and_then(|e| e.to_str());
    let table = matches!(extension, Some("parquet" | "tsv" | "csv"));
    (table && !column.is_empty() && parts.next().is_none()).then(|| ImageCell {
        file: file.into(),
        column: column.into(),
        at,
        item,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_inverts_display() {
        for name in ["a/b.png", "x/test-0.parquet#image/17", "x.tsv#image/104/2", "odd#name/7.png", "x.parquet#/1"] {
            let image = ImageLocation::parse(name);
            assert_eq!(image.to_string(), name);
            let cell = name.contains(".parquet#i") || name.contains(".tsv#");
            assert_eq!(matches!(image, ImageLocation::Cell(_)), cell, "{name}");
        }
        let below = ImageLocation::parse("t.parquet#image/3").below(Path::new("/data"));
        assert_eq!(below.to_string(), "/data/t.parquet#image/3");
    }
}
