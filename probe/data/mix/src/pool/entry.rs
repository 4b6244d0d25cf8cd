//! One conversation of a pool, in the form that all readers return.

use super::ratings::Ratings;
use burgess_base::{Error, Result};
use burgess_bench::{ImageCell, ImageLocation};
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

/// Place of an entry in its pool, by which [`super::Pool::read_at`] finds it again.
///
/// The order of positions is the order in which a scan returns the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Index in [`super::Pool::files`].
    pub file: u32,
    /// Byte offset of the entry in the (decompressed) file, or row of a table from 0.
    pub offset: u64,
}

/// The speaker of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    /// Instructions before the conversation; only the first turn can be one.
    System,
    /// The user, called `human` in LLaVA's format.
    Human,
    /// The model, called `gpt` in LLaVA's format.
    Gpt,
}

impl Speaker {
    /// Returns the name in LLaVA's format.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Human => "human",
            Self::Gpt => "gpt",
        }
    }
}

/// One turn of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn<'a> {
    /// The speaker.
    pub from: Speaker,
    /// The text, with its `<image>` marks.
    pub text: &'a str,
}

/// An image of an entry, which is not read until its bytes are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageRef<'a> {
    /// A path as the entry states it, relative to the pool's directory of images.
    Path(&'a str),
    /// A cell of a table; the row is [`Entry::at`].
    Cell {
        /// Name of the column.
        column: &'a str,
        /// Index in the list, from 0, if the column holds lists.
        item: Option<u32>,
    },
    /// A member of a webdataset shard.
    Member {
        /// Name of the member.
        name: &'a str,
        /// Byte offset of its contents in the (decompressed) shard.
        offset: u64,
        /// Size in bytes.
        size: u64,
    },
}

impl std::fmt::Display for ImageRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Cell { column, item: None } => write!(f, "column {column}"),
            Self::Cell { column, item: Some(item) } => write!(f, "column {column}, image {}", item + 1),
            Self::Member { name, .. } => f.write_str(name),
        }
    }
}

/// One conversation of a pool.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Where the entry is.
    pub at: Position,
    /// Number of the line or entry in its file, from 1; for messages.
    pub number: u64,
    /// Id in the file (numbers are converted to text); may be empty.
    pub id: &'a str,
    /// The data source; may be empty. It is the entry's own, else the pool's default, else the first folder of the
    /// image's path, else the folder of a published table.
    pub source: &'a str,
    /// Kind of data (general, OCR, …), if the entry or the pool states one.
    pub kind: Option<&'a str>,
    /// The images in their order; none for text only.
    pub images: &'a [ImageRef<'a>],
    /// The turns in their order: at most one system turn, then questions and answers. There is at least one answer,
    /// and none is empty.
    pub turns: &'a [Turn<'a>],
    /// Quality ratings; all empty if the pool has none.
    pub ratings: &'a Ratings,
    /// The entry's JSON as it stands in the pool, for copying it unchanged. It can span lines if the pool is a JSON
    /// array. For a table it is an object of the row's columns apart from its images.
    pub raw: &'a [u8],
}

impl Entry<'_> {
    /// Returns the questions with the answers that follow them directly.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.turns.windows(2).filter_map(|pair| match pair {
            [Turn { from: Speaker::Human, text: question }, Turn { from: Speaker::Gpt, text: answer }] => {
                Some((*question, *answer))
            }
            _ => None,
        })
    }

    /// Returns the text of the system turn, if there is one.
    pub fn system(&self) -> Option<&str> {
        self.turns.first().filter(|t| t.from == Speaker::System).map(|t| t.text)
    }

    /// Appends the entry in LLaVA's format as one line of JSON, without a line feed: `id`, `image` (a list if there are
    /// several; absent for text only), `source`, `kind` if it is known, `conversations`, and the ratings if there are
    /// any. `images` are the paths to write, one per image of the entry; `turns` replace the entry's.
    ///
    /// # Errors
    /// An error is returned if the number of paths is not that of the images.
    pub fn write_llava(&self, out: &mut Vec<u8>, images: &[&str], turns: &[Turn<'_>]) -> Result<()> {
        if images.len() != self.images.len() {
            return Err(Error::failed(format!(
                "{} image paths were given for an entry with {} images",
                images.len(),
                self.images.len()
            )));
        }
        let text = |text: &str, out: &mut Vec<u8>| serde_json::to_writer(out, text).map_err(Error::from);
        out.extend_from_slice(b"{\"id\": ");
        text(self.id, out)?;
        match images {
            [] => {}
            [one] => {
                out.extend_from_slice(b", \"image\": ");
                text(one, out)?;
            }
            several => {
                out.extend_from_slice(b", \"image\": [");
                for (i, path) in several.iter().enumerate() {
                    out.extend_from_slice(if i > 0 { b", " } else { b"" });
                    text(path, out)?;
                }
                out.push(b']');
            }
        }
        out.extend_from_slice(b", \"source\": ");
        text(self.source, out)?;
        if let Some(kind) = self.kind {
            out.extend_from_slice(b", \"kind\": ");
            text(kind, out)?;
        }
        out.extend_from_slice(b", \"conversations\": [");
        for (i, turn) in turns.iter().enumerate() {
            out.extend_from_slice(if i > 0 { b", {\"from\": \"" } else { b"{\"from\": \"" });
            out.extend_from_slice(turn.from.name().as_bytes());
            out.extend_from_slice(b"\", \"value\": ");
            text(turn.text, out)?;
            out.push(b'}');
        }
        out.push(b']');
        self.ratings.write(out)?;
        out.push(b'}');
        Ok(())
    }
}

/// An image of a pool that can be kept and read later, by [`super::read_images`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PoolImage {
    /// A file, or a cell of a table.
    Located(ImageLocation),
    /// A member of a webdataset shard.
    Member {
        /// The shard.
        file: PathBuf,
        /// Name of the member.
        name: String,
        /// Byte offset of its contents in the (decompressed) shard.
        offset: u64,
        /// Size in bytes.
        size: u64,
    },
}

impl PoolImage {
    pub(super) fn new(image: &ImageRef<'_>, file: &Path, at: Position, images: Option<&Path>) -> Result<Self> {
        Ok(match *image {
            ImageRef::Path(path) => {
                let root = images.ok_or_else(|| {
                    Error::usage(format!("no directory of images is given for {}", file.display()))
                        .hint("give the directory to which the image paths are relative as `images`")
                })?;
                Self::Located(ImageLocation::File(image_file(root, path)?))
            }
            ImageRef::Cell { column, item } => Self::Located(ImageLocation::Cell(ImageCell {
                file: file.to_path_buf(),
                column: column.to_string(),
                at: at.offset,
                item,
            })),
            ImageRef::Member { name, offset, size } => {
                Self::Member { file: file.to_path_buf(), name: name.to_string(), offset, size }
            }
        })
    }
}

impl std::fmt::Display for PoolImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Located(location) => location.fmt(f),
            Self::Member { file, name, .. } => write!(f, "{}#{name}", file.display()),
        }
    }
}

/// Joins a path that a data file states to the directory of images.
///
/// # Errors
/// A path that leads out of the directory is an error, because a downloaded file must not choose which other files of
/// this machine are read and copied.
pub fn image_file(root: &Path, stated: &str) -> Result<PathBuf> {
    let path = Path::new(stated);
    let inside = path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if !inside || stated.contains('\0') {
        let stated = burgess_base::text::excerpt(stated, 200);
        return Err(Error::failed(format!("the image path `{stated}` leads out of {}", root.display()))
            .hint("use a path below the directory of images, without `..` and not absolute"));
    }
    Ok(root.join(path))
}
