//! The image files that a study's samples name, and from which directories they may be shown.

use crate::load::StudyData;
use std::fmt;
use std::path::{Component, Path, PathBuf};

/// Why an image cannot be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageProblem {
    /// It lies outside the study's data. This does not even say whether the file exists.
    Outside,
    /// It is the cell of a table, not a file of its own.
    InTable,
    /// The file does not exist.
    Absent,
    /// The path leads to a directory or a device.
    NotAFile,
    /// The file cannot be read, for this reason.
    Unreadable(String),
}

impl fmt::Display for ImageProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside => f.write_str("lies outside the study's data and is not shown"),
            Self::InTable => f.write_str("is stored inside a table file and is not shown"),
            Self::Absent => f.write_str("does not exist"),
            Self::NotAFile => f.write_str("is not a file"),
            Self::Unreadable(cause) => write!(f, "cannot be read: {cause}"),
        }
    }
}

/// The directories from which images may be shown: the study's own and those of its data. Results are untrusted files
/// and must not put other files of this machine into a page that is shared.
#[derive(Debug, Clone)]
pub struct ImageRoots {
    /// Directory to which names are relative.
    dir: PathBuf,
    /// Allowed directories, both as given and with links resolved.
    roots: Vec<PathBuf>,
}

/// An image file that may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFile {
    /// Path of the file, with links resolved.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
}

impl ImageRoots {
    /// Collects the allowed directories of a study.
    pub fn of(study: &StudyData) -> Self {
        let given = || std::iter::once(&study.dir).chain(&study.image_dirs);
        let absolute = given().filter_map(|d| std::path::absolute(d).ok()).map(|d| lexical(&d));
        let resolved = given().filter_map(|d| std::fs::canonicalize(d).ok());
        Self { dir: study.dir.clone(), roots: absolute.chain(resolved).collect() }
    }

    fn hold(&self, path: &Path) -> bool {
        self.roots.iter().any(|root| path.starts_with(root))
    }

    /// Finds the file of an image by the name that the samples give.
    ///
    /// # Errors
    /// Why the image cannot be shown.
    pub fn find(&self, name: &str) -> Result<ImageFile, ImageProblem> {
        // Joining an absolute path gives that path.
        let full = std::path::absolute(self.dir.join(name)).map_err(|_| ImageProblem::Outside)?;
        if !self.hold(&lexical(&full)) {
            return Err(ImageProblem::Outside);
        }
        let Ok(path) = std::fs::canonicalize(&full) else {
            return Err(if name.contains('#') { ImageProblem::InTable } else { ImageProblem::Absent });
        };
        if !self.hold(&path) {
            return Err(ImageProblem::Outside);
        }
        match std::fs::metadata(&path) {
            Ok(found) if !found.is_file() => Err(ImageProblem::NotAFile),
            Ok(found) => Ok(ImageFile { path, bytes: found.len() }),
            Err(e) => Err(ImageProblem::Unreadable(e.to_string())),
        }
    }

    /// Finds the table of a name such as `TABLE#COLUMN/ROW`, and returns the name with the table's real path.
    ///
    /// # Errors
    /// Why the image cannot be shown.
    pub fn find_cell(&self, name: &str) -> Result<String, ImageProblem> {
        let (table, cell) = name.rsplit_once('#').ok_or(ImageProblem::Absent)?;
        let table = self.find(table)?;
        Ok(format!("{}#{cell}", table.path.display()))
    }
}

/// Returns the path without `.` and `..`.
pub(crate) fn lexical(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

/// Returns the type of an image that browsers support (the part of the MIME type after `image/`), by its first bytes.
pub fn image_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("png"),
        [0xff, 0xd8, 0xff, ..] => Some("jpeg"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("webp"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("gif"),
        // BMP has four reserved zero bytes, which text that begins with these letters does not.
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Some("bmp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_in_the_data_only() {
        let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let study = data.path().join("runs/mine");
        let images = data.path().join("images");
        for dir in [&study, &images] {
            std::fs::create_dir_all(dir).unwrap();
        }
        let put = |path: &Path| std::fs::write(path, b"\x89PNG\r\n\x1a\nrest").unwrap();
        put(&study.join("in.png"));
        put(&images.join("a"));
        put(&images.join("table.parquet"));
        put(&data.path().join("secret.png"));
        put(&other.path().join("x.png"));
        let link = |to: &Path, at: &Path| std::os::unix::fs::symlink(to, at).unwrap();
        link(&other.path().join("x.png"), &images.join("link.png"));
        link(&images.join("a"), &images.join("inner.png"));
        link(other.path(), &images.join("folder"));
        let mut loaded = StudyData::load(&study).unwrap();
        loaded.image_dirs.push(images.clone());
        let roots = ImageRoots::of(&loaded);
        let full = |name: &str| images.join(name).display().to_string();
        for shown in ["in.png", "./in.png", "../mine/in.png", &full("a"), &full("inner.png"), &full("../images/a")] {
            assert!(roots.find(shown).is_ok_and(|file| file.bytes == 12), "{shown}");
        }
        for refused in [
            "/etc/passwd",
            "../../secret.png",
            "../../../nothing.png",
            "/nonexistent/x.png",
            &full("link.png"),
            &full("folder/x.png"),
            &full("../secret.png"),
        ] {
            assert_eq!(roots.find(refused).unwrap_err(), ImageProblem::Outside, "{refused}");
            assert_eq!(roots.find_cell(&format!("{refused}#image/3")).unwrap_err(), ImageProblem::Outside, "{refused}");
        }
        assert_eq!(roots.find(&full("absent.png")).unwrap_err(), ImageProblem::Absent);
        assert_eq!(roots.find(&full("")).unwrap_err(), ImageProblem::NotAFile);
        assert_eq!(roots.find(&full("table.parquet#image/3")).unwrap_err(), ImageProblem::InTable);
        assert!(roots.find_cell(&full("table.parquet#image/3")).unwrap().ends_with("/table.parquet#image/3"));
        assert_eq!(roots.find_cell(&full("absent.parquet#image/3")).unwrap_err(), ImageProblem::Absent);
    }

    #[test]
    fn types_are_told_by_the_first_bytes() {
        assert_eq!(image_type(b"\x89PNG\r\n\x1a\nrest"), Some("png"));
        assert_eq!(image_type(b"root:x:0:0"), None);
        assert_eq!(image_type(b"BMary had a little lamb"), None);
    }
}
