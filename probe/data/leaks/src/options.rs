//! The datasets that are compared, and the options of a search.

use burgess_base::{Error, Result};
use burgess_images::HASH_SIDES;
use std::path::{Path, PathBuf};

/// A benchmark or a set of training data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedDataset {
    /// Name in the counts.
    pub name: String,
    /// Path of the data.
    pub path: PathBuf,
}

impl NamedDataset {
    /// Parses `NAME=PATH`, or a path alone, whose file name up to the first dot is the name.
    ///
    /// # Errors
    /// An error is returned if name or path is empty.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, path) = match text.split_once('=') {
            Some((name, path)) if !Path::new(text).exists() => (name.to_string(), path),
            _ => {
                let file = Path::new(text).file_name().and_then(|f| f.to_str()).unwrap_or_default();
                (file.split('.').find(|part| !part.is_empty()).unwrap_or_default().to_string(), text)
            }
        };
        match name.trim().is_empty() || path.is_empty() {
            true => Err(Error::usage(format!("`{text}` has no name or no path")).hint("write NAME=PATH")),
            false => Ok(Self { name, path: path.into() }),
        }
    }
}

/// How images are compared, and where those of the training data are.
#[derive(Debug, Clone)]
pub struct LeakOptions {
    /// Width and height of the hash; it has `side²` bits.
    pub side: usize,
    /// Maximum number of bits in which hashes may differ.
    pub distance: u32,
    /// The directory to which paths in conversation files are relative.
    pub images: Option<PathBuf>,
    /// Names of the image columns in parquet files; columns that a file lacks are ignored.
    pub columns: Vec<String>,
    /// Maximum number of matches that are written per training image; further ones are only counted.
    pub matches: usize,
}

impl Default for LeakOptions {
    fn default() -> Self {
        let columns = ["image", "images"].map(String::from).to_vec();
        Self { side: 8, distance: 0, images: None, columns, matches: 100 }
    }
}

/// Checks options and datasets before a search.
pub(crate) fn check(benchmarks: &[NamedDataset], training: &[NamedDataset], options: &LeakOptions) -> Result<()> {
    let bits = options.side.saturating_mul(options.side);
    if !HASH_SIDES.contains(&options.side) {
        return Err(Error::usage(format!(
            "`side` must be from {} to {}, found {}",
            HASH_SIDES.start(),
            HASH_SIDES.end(),
            options.side
        )));
    }
    if options.distance as usize >= bits {
        return Err(Error::usage(format!(
            "`distance` must be less than the {bits} bits of a hash, found {}",
            options.distance
        ))
        .hint("the hashes of copies differ in a few bits"));
    }
    for (what, all) in [("benchmark", benchmarks), ("set of training data", training)] {
        if all.is_empty() {
            return Err(Error::usage(format!("no {what} is given")));
        }
        for (i, named) in all.iter().enumerate() {
            if all.iter().take(i).any(|before| before.name == named.name) {
                return Err(
                    Error::usage(format!("a second {what} is called {}", named.name)).hint("NAME=PATH gives a name")
                );
            }
            if !named.path.exists() {
                return Err(Error::usage(format!("the {what} {} does not exist", named.path.display())));
            }
        }
    }
    Ok(())
}
