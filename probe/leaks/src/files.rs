//! Pictures in a directory and below it.

use burgess_base::{Context, Result};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// How the names of pictures end.
const PICTURES: [&str; 10] = ["jpg", "jpeg", "jfif", "png", "webp", "bmp", "dib", "gif", "tif", "tiff"];

/// What a file may be, by the end of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A picture.
    Picture,
    /// A table with pictures inside.
    Table,
    /// Anything else.
    Other,
}

impl Kind {
    pub fn of(path: &Path) -> Self {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        match ending.as_str() {
            "parquet" => Self::Table,
            e if PICTURES.contains(&e) => Self::Picture,
            _ => Self::Other,
        }
    }
}

/// Calls `each` with every file below `root`, in the order in which the system lists them: names are not collected, so that
/// a folder of millions costs nothing. Links are followed, a folder that several lead to is read once.
pub fn walk(root: &Path, each: &mut dyn FnMut(&Path, Kind) -> Result<()>) -> Result<()> {
    let mut folders: Vec<PathBuf> = vec![root.to_path_buf()];
    let mut seen: HashSet<PathBuf> = HashSet::new();
    while let Some(folder) = folders.pop() {
        let step = || format!("listing {}", folder.display());
        if !seen.insert(folder.canonicalize().with_context(step)?) {
            continue;
        }
        for entry in std::fs::read_dir(&folder).with_context(step)? {
            let entry = entry.with_context(step)?;
            let path = entry.path();
            // Where a link leads nowhere the file is handed on: it cannot be opened, and is counted as such.
            let is_folder = match entry.file_type().with_context(step)? {
                kind if kind.is_symlink() => path.is_dir(),
                kind => kind.is_dir(),
            };
            if is_folder {
                folders.push(path);
            } else {
                each(&path, Kind::of(&path))?;
            }
        }
    }
    Ok(())
}
