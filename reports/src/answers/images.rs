//! The images of the questions: which of them can be shown, and how a page refers to them.

use crate::formatting;
use crate::images::{ImageFile, ImageProblem, ImageRoots, image_type, lexical};
use burgess_base::temporary::TemporaryPath;
use burgess_base::{Context, Error, Result, digest, files};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

/// How the answer browser refers to images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageMode {
    /// Copies the images if together they have at most [`MOST_COPIED`] bytes, and links to them otherwise.
    #[default]
    Auto,
    /// Shows no image, for data that must not be published.
    None,
    /// Links to the files where they lie.
    Link,
    /// Copies the images into the folder, which can then be moved and published.
    Copy,
    /// Refers to images by number, for a server that sends them.
    Served,
}

/// Maximum size of all images in bytes at which [`ImageMode::Auto`] copies them.
pub const MOST_COPIED: u64 = 32 << 20;
/// Maximum size of an image file in bytes that is copied.
const LARGEST: u64 = 256 << 20;
/// Number of table cells that are read at once.
const CELLS: usize = 128;

/// Reads images that are stored in the cells of tables.
pub trait CellReader: Sync {
    /// Returns the encoded image of each cell `TABLE#COLUMN/ROW`, in the given order.
    fn read(&self, cells: &[String]) -> Vec<Result<Vec<u8>>>;
}

/// An image that a server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServedImage {
    /// A file, by its path with links resolved.
    File(PathBuf),
    /// A cell `TABLE#COLUMN/ROW`; the table's path has its links resolved.
    Cell(String),
}

/// What is known of an image.
enum Found {
    File(ImageFile),
    Cell(String),
    /// The name of its copy in the folder `images`, and its size in bytes.
    Copied(String, u64),
    /// Why it is not shown, as the end of a sentence that begins with the image's name.
    Problem(String),
}

/// All images of a study's questions.
pub(super) struct ImageTable {
    /// Names, as the samples give them.
    names: Vec<String>,
    places: HashMap<String, usize>,
    found: Vec<Found>,
    /// The mode; never [`ImageMode::Auto`] once [`ImageTable::prepare`] has run.
    pub(super) mode: ImageMode,
}

/// How many images are shown, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ImageCounts {
    /// Number of different images.
    pub all: usize,
    /// Number of images that are shown.
    pub shown: usize,
    /// Size of the files in bytes, as far as it is known.
    pub bytes: u64,
}

/// The images of consecutive questions, for the page.
#[derive(Serialize)]
pub(super) struct ImagePack {
    /// Directories as (shown, URL).
    d: Vec<(String, String)>,
    /// For each question its images: directory, name as shown, name in the URL, and why it is not shown.
    q: Vec<Vec<(usize, String, String, String)>>,
}

impl ImageTable {
    pub(super) fn new(mode: ImageMode) -> Self {
        Self { names: Vec::new(), places: HashMap::new(), found: Vec::new(), mode }
    }

    /// Adds the images of a question, whose names are on separate lines, and returns their indices.
    pub(super) fn add(&mut self, names: &str) -> Vec<usize> {
        let mut add = |name: &str| match self.places.get(name) {
            Some(place) => *place,
            None => {
                self.names.push(name.to_string());
                self.places.insert(name.to_string(), self.names.len() - 1);
                self.names.len() - 1
            }
        };
        names.lines().map(&mut add).collect()
    }

    /// Finds the files, decides the mode, and copies the images into `folder` if that is the mode.
    pub(super) fn prepare(&mut self, roots: &ImageRoots, cells: Option<&dyn CellReader>, folder: &Path) -> Result<()> {
        if self.mode == ImageMode::None {
            return Ok(());
        }
        let find = |name: &String| match roots.find(name) {
            Ok(file) => Found::File(file),
            Err(ImageProblem::InTable) => match roots.find_cell(name) {
                Ok(cell) => Found::Cell(cell),
                Err(problem) => Found::Problem(problem.to_string()),
            },
            Err(problem) => Found::Problem(problem.to_string()),
        };
        self.found = self.names.par_iter().map(find).collect();
        if self.mode == ImageMode::Auto {
            let has_cells = self.found.iter().any(|f| matches!(f, Found::Cell(_)));
            let small = !has_cells && self.counts().bytes <= MOST_COPIED;
            self.mode = if small { ImageMode::Copy } else { ImageMode::Link };
        }
        match self.mode {
            ImageMode::Copy => self.copy(cells, folder)?,
            ImageMode::Served if cells.is_some() => {}
            _ => {
                let text = "is stored inside a table file: it is shown only where images are copied or served";
                for found in &mut self.found {
                    if matches!(found, Found::Cell(_)) {
                        *found = Found::Problem(text.into());
                    }
                }
            }
        }
        Ok(())
    }

    fn copy(&mut self, cells: Option<&dyn CellReader>, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("writing {}", folder.display()))?;
        self.found.par_iter_mut().try_for_each(|found| -> Result<()> {
            if let Found::File(file) = found {
                *found = store(files::read(&file.path, LARGEST).map_err(|e| e.to_string()), folder)?;
            }
            Ok(())
        })?;
        let Some(cells) = cells else { return Ok(()) };
        let in_tables = |(i, found): (usize, &Found)| match found {
            Found::Cell(name) => Some((name.clone(), i)),
            _ => None,
        };
        let mut wanted: Vec<(String, usize)> = self.found.iter().enumerate().filter_map(in_tables).collect();
        wanted.sort();
        for some in wanted.chunks(CELLS) {
            let names: Vec<String> = some.iter().map(|(name, _)| name.clone()).collect();
            for ((_, place), bytes) in some.iter().zip(cells.read(&names)) {
                if let Some(found) = self.found.get_mut(*place) {
                    *found = store(bytes.map_err(|e| e.to_string()), folder)?;
                }
            }
        }
        Ok(())
    }

    /// Counts the images and those that are shown.
    pub(super) fn counts(&self) -> ImageCounts {
        let shown = self.found.iter().filter(|f| !matches!(f, Found::Problem(_))).count();
        let bytes = |found: &Found| match found {
            Found::File(file) => file.bytes,
            Found::Copied(_, bytes) => *bytes,
            _ => 0,
        };
        let bytes = self.found.iter().map(bytes).sum();
        ImageCounts { all: self.names.len(), shown, bytes }
    }

    /// Returns the names of the copied files.
    pub(super) fn copies(&self) -> BTreeSet<&str> {
        fn copied(found: &Found) -> Option<&str> {
            match found {
                Found::Copied(name, _) => Some(name),
                _ => None,
            }
        }
        self.found.iter().filter_map(copied).collect()
    }

    /// Returns the images for a server, by number; `None` for those that are not shown.
    pub(super) fn served(&self) -> Vec<Option<ServedImage>> {
        if self.mode != ImageMode::Served {
            return Vec::new();
        }
        let served = |found: &Found| match found {
            Found::File(file) => Some(ServedImage::File(file.path.clone())),
            Found::Cell(name) => Some(ServedImage::Cell(name.clone())),
            _ => None,
        };
        self.found.iter().map(served).collect()
    }

    /// Makes the pack of consecutive questions, each with the indices of its images. `study` is the directory to which
    /// names are relative, and `page` the directory of the page.
    pub(super) fn pack(&self, questions: &[Vec<usize>], study: &Path, page: &Path) -> ImagePack {
        let mut pack = ImagePack { d: Vec::new(), q: Vec::with_capacity(questions.len()) };
        let mut places: HashMap<(String, String), usize> = HashMap::new();
        for images in questions {
            let mut of_question = Vec::with_capacity(images.len());
            for image in images.iter().filter(|_| self.mode != ImageMode::None) {
                let (Some(name), Some(found)) = (self.names.get(*image), self.found.get(*image)) else { continue };
                let (dir, file) = name.rsplit_once('/').map_or(("", name.as_str()), |(dir, file)| (dir, file));
                let mut shown_dir = if dir.is_empty() { String::new() } else { format!("{dir}/") };
                let (url_dir, url, problem) = match found {
                    Found::Problem(problem) => (String::new(), String::new(), problem.clone()),
                    Found::Copied(copy, _) => {
                        // A folder with copies is made to be published: paths of this machine do not belong there.
                        shown_dir.clear();
                        ("images/".into(), copy.clone(), String::new())
                    }
                    _ if self.mode == ImageMode::Served => ("image/".into(), image.to_string(), String::new()),
                    _ => match linked(study, page, name) {
                        Ok((dir, file)) => (dir, file, String::new()),
                        Err(e) => (String::new(), String::new(), e.to_string()),
                    },
                };
                let dirs = (formatting::escaped(&shown_dir, false).into_owned(), url_dir);
                let place = *places.entry(dirs.clone()).or_insert_with(|| {
                    pack.d.push(dirs);
                    pack.d.len() - 1
                });
                of_question.push((place, formatting::escaped(file, false).into_owned(), url, problem));
            }
            pack.q.push(of_question);
        }
        pack
    }
}

/// Stores the bytes of an image in a folder, under a name made of their digest.
fn store(bytes: std::result::Result<Vec<u8>, String>, folder: &Path) -> Result<Found> {
    let bytes = match bytes {
        Ok(bytes) => bytes,
        Err(cause) => return Ok(Found::Problem(format!("cannot be read: {cause}"))),
    };
    let Some(kind) = image_type(&bytes) else {
        return Ok(Found::Problem("has a type that browsers do not show".into()));
    };
    let name = format!("{}.{kind}", digest::of_bytes(&bytes));
    let path = folder.join(&name);
    if !fs::metadata(&path).is_ok_and(|meta| meta.len() == bytes.len() as u64) {
        let step = || format!("writing {}", path.display());
        let whole = TemporaryPath::beside(&path);
        fs::write(whole.path(), &bytes).with_context(step)?;
        fs::rename(whole.path(), &path).with_context(step)?;
    }
    Ok(Found::Copied(name, bytes.len() as u64))
}

/// Returns the URL of a linked image, as directory and file name: relative to the page if both lie in the study's
/// directory, which can then be moved as a whole, else absolute.
fn linked(study: &Path, page: &Path, name: &str) -> Result<(String, String)> {
    let absolute = |path: &Path| std::path::absolute(path).map(|path| lexical(&path)).map_err(Error::from);
    let (study, page, image) = (absolute(study)?, absolute(page)?, absolute(&study.join(name))?);
    let parts = |path: &Path| -> Vec<String> {
        path.components().map(|part| encoded(part.as_os_str().as_encoded_bytes())).collect()
    };
    let mut url = match (page.strip_prefix(&study), image.strip_prefix(&study)) {
        (Ok(page), Ok(image)) => {
            let up = page.components().map(|_| "..".to_string());
            up.chain(parts(image)).collect::<Vec<_>>()
        }
        _ => {
            std::iter::once("file://".to_string()).chain(parts(&image).into_iter().filter(|part| part != "/")).collect()
        }
    };
    let file = url.pop().unwrap_or_default();
    Ok((url.iter().map(|part| format!("{part}/")).collect(), file))
}

/// Percent-encodes a part of a path, except for the separator alone.
pub(super) fn encoded(bytes: &[u8]) -> String {
    if bytes == b"/" {
        return "/".into();
    }
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'@' => out.push((*byte).into()),
            other => out += &format!("%{other:02X}"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative_within_a_study_and_absolute_elsewhere() {
        let link = |page: &str, name: &str| {
            let (dir, file) = linked(Path::new("/runs/s"), Path::new(page), name).unwrap();
            dir + &file
        };
        assert_eq!(link("/runs/s/report/answers", "images/a b.png"), "../../images/a%20b.png");
        assert_eq!(link("/out/answers", "images/a.png"), "file:///runs/s/images/a.png");
        assert_eq!(link("/runs/s/report/answers", "/data/é#?.png"), "file:///data/%C3%A9%23%3F.png");
        assert_eq!(link("/runs/s/report/answers", "../t/\"><x>.png"), "file:///runs/t/%22%3E%3Cx%3E.png");
    }
}
