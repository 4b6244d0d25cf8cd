//! Finds images in a directory and its subdirectories.

use burgess_base::{Context, Result};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// File name extensions of images.
const IMAGES: [&str; 10] = ["jpg", "jpeg", "jfif", "png", "webp", "bmp", "dib", "gif", "tif", "tiff"];

/// The kind of a file, by its extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// An image file.
    Image,
    /// A table with images inside (parquet).
    Table,
    /// Any other file.
    Other,
}

impl FileKind {
    pub fn of(path: &Path) -> Self {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        match ending.as_str() {
            "parquet" => Self::Table,
            e if IMAGES.contains(&e) => Self::Image,
            _ => Self::Other,
        }
    }
}

/// Calls `each` with every file in `root`, in the order in which the system lists them. Names are not collected, so a
/// folder of millions of files needs no memory. Links are followed; a folder with several links to it is read once.
pub fn walk(root: &Path, each: &mut dyn FnMut(&Path, FileKind) -> Result<()>) -> Result<()> {
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
            // A broken link is passed on as a file: it cannot be opened, and is counted as unreadable.
            let is_folder = match entry.file_type().with_context(step)? {
                kind if kind.is_symlink() => path.is_dir(),
                kind => kind.is_dir(),
            };
            if is_folder {
                folders.push(path);
            } else {
                each(&path, FileKind::of(&path))?;
            }
        }
    }
    Ok(())
}
