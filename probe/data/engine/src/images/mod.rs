//! The stage `images`: fetches the images of pages, checks and converts them, and leaves out duplicates and images of
//! benchmarks.
//!
//! Files are named by their digest (`files/<2 digits>/<digest>.png` or `.jpg`), so that they are written once,
//! whichever pages show them, and a repeated run writes the same files. JPEG and PNG files stay as they are if every
//! program reads them alike; all others become PNG: SVG is drawn on white, transparent images are laid on white, JPEG
//! in CMYK or with a rotation in its EXIF data become upright RGB.

mod convert;
mod near;
mod options;
mod svg;
#[cfg(test)]
mod tests;

pub use convert::{Converted, convert};
pub use options::ImagesOptions;

use crate::fetch::{Client, Content, FetchFailure, FetchOptions};
use crate::html;
use crate::page::{Figure, Page, StoredImage};
use crate::skips::Skips;
use burgess_base::{Error, Result, atomic, digest, files, text};
use burgess_leaks::{LeakIndex, LeakOptions};
use near::NearIndex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folder of the image files in the directory of the stage.
pub const FILES: &str = "files";
/// Number of images in a row that fail for reasons that may pass, after which the work stops.
const GIVE_UP: usize = 8;

/// Counts of what the stage read and kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImagesReport {
    /// Pages that were read.
    pub read: u64,
    /// Figures of these pages.
    pub figures: u64,
    /// Pages with at least one kept image.
    pub pages: u64,
    /// Kept images.
    pub kept: u64,
    /// Size of the kept images in bytes.
    pub bytes: u64,
    /// Kept images by the format of their source.
    pub formats: BTreeMap<String, u64>,
    /// Kept images by their licence; `unknown` without one.
    pub licences: BTreeMap<String, u64>,
    /// Images that were left out, by reason, with the first few addresses.
    pub skips: Skips,
}

/// Fetches and checks the images of pages, one page after another.
#[derive(Debug)]
pub struct ImageStage {
    client: Arc<Client>,
    options: ImagesOptions,
    dir: PathBuf,
    leaks: Option<Leaks>,
    near: NearIndex,
    in_a_row: usize,
    report: ImagesReport,
}

/// The images of benchmarks.
struct Leaks(LeakIndex);

impl std::fmt::Debug for Leaks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Leaks")
    }
}

/// Why an image is left out.
struct Rejected {
    reason: String,
    detail: String,
    /// Whether it may succeed later.
    transient: bool,
}

impl Rejected {
    fn new(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { reason: reason.into(), detail: detail.into(), transient: false }
    }
}

impl ImageStage {
    /// Prepares the stage; files are written below `dir`. The benchmarks' images are read and hashed now.
    ///
    /// # Errors
    /// An option is wrong, or a benchmark or an index of known images cannot be read.
    pub fn new(client: Arc<Client>, options: &ImagesOptions, dir: &Path) -> Result<Self> {
        options.check()?;
        let leaks = match options.benchmarks.is_empty() {
            true => None,
            false => {
                let wanted = LeakOptions { distance: options.leak_distance, ..LeakOptions::default() };
                let index = LeakIndex::read(&options.named_benchmarks()?, &wanted)?;
                Some(Leaks(index))
            }
        };
        let near = NearIndex::read(&options.known, options.duplicate_distance)?;
        let (options, dir) = (options.clone(), dir.to_path_buf());
        Ok(Self { client, options, dir, leaks, near, in_a_row: 0, report: ImagesReport::default() })
    }

    /// Fetches the images of a page. Its figures are then those whose image is kept, each with
    /// [`Figure::stored`](crate::page::Figure::stored); `None` if there are none.
    ///
    /// # Errors
    /// A file cannot be written, or too many requests in a row fail for reasons that may pass.
    pub fn page(&mut self, mut page: Page) -> Result<Option<Page>> {
        self.report.read += 1;
        let url = page.url.clone();
        for section in &mut page.sections {
            let mut kept = Vec::new();
            for mut figure in std::mem::take(&mut section.figures) {
                self.report.figures += 1;
                match self.figure(&figure)? {
                    Ok(stored) => {
                        self.in_a_row = 0;
                        self.count(&figure, &stored);
                        figure.stored = Some(stored);
                        kept.push(figure);
                    }
                    Err(rejected) => {
                        self.in_a_row = if rejected.transient { self.in_a_row + 1 } else { 0 };
                        let detail =
                            if rejected.detail.is_empty() { String::new() } else { format!(": {}", rejected.detail) };
                        self.report.skips.add(&rejected.reason, format!("{} on {url}{detail}", figure.image));
                        if self.in_a_row >= GIVE_UP {
                            let why = format!(
                                "{GIVE_UP} images in a row could not be fetched; the last: {}",
                                rejected.detail
                            );
                            return Err(Error::failed(why)
                                .hint("check the network, then start again: what was received is kept"));
                        }
                    }
                }
            }
            section.figures = kept;
        }
        page.sections.retain(|section| !section.figures.is_empty());
        let any = !page.sections.is_empty();
        self.report.pages += u64::from(any);
        Ok(any.then_some(page))
    }

    /// Returns the counts so far.
    pub fn report(&self) -> &ImagesReport {
        &self.report
    }

    /// Takes the counts since the last call.
    pub fn take_report(&mut self) -> ImagesReport {
        std::mem::take(&mut self.report)
    }

    /// Enters the images of pages that an earlier, interrupted run finished, so that what repeats them is left out.
    ///
    /// # Errors
    /// A hash in a page is malformed.
    pub fn resume(&mut self, page: &Page) -> Result<()> {
        self.near.add_page(page)
    }

    fn count(&mut self, figure: &Figure, stored: &StoredImage) {
        self.report.kept += 1;
        self.report.bytes += stored.bytes;
        *self.report.formats.entry(stored.original_format.clone()).or_default() += 1;
        let licence = figure.licence.as_ref().map_or("unknown", |licence| licence.name.as_str());
        *self.report.licences.entry(text::excerpt(licence, 80)).or_default() += 1;
    }

    /// Fetches, checks and writes one image.
    fn figure(&mut self, figure: &Figure) -> Result<std::result::Result<StoredImage, Rejected>> {
        if self.options.require_licence && figure.licence.is_none() {
            return Ok(Err(Rejected::new("the licence of the image is unknown", "")));
        }
        let bytes = match self.load(&figure.image)? {
            Ok(bytes) => bytes,
            Err(rejected) => return Ok(Err(rejected)),
        };
        let converted = match convert(&bytes, &self.options) {
            // Text in a drawing needs fonts, which a wiki has: its own picture of the drawing is taken.
            Err((convert::NEEDS_FONTS, why)) => match self.drawn_by_the_wiki(&figure.image)? {
                Some(converted) => converted,
                None => return Ok(Err(Rejected::new(convert::NEEDS_FONTS, why))),
            },
            Ok(converted) => converted,
            Err((reason, why)) => return Ok(Err(Rejected::new(reason, why))),
        };
        if let Some(benchmark) = self.leaks.as_ref().and_then(|leaks| leaks.0.benchmark_of(&converted.hash)) {
            return Ok(Err(Rejected::new(format!("the image is in the benchmark {benchmark}"), "")));
        }
        let digest = digest::of_bytes(&converted.bytes);
        if let Some(other) = self.near.repeats(&converted.hash, &digest) {
            return Ok(Err(Rejected::new("the image repeats another", format!("it is like {other}"))));
        }
        let name = format!("{digest}.{}", converted.ending);
        let path = PathBuf::from(FILES).join(digest.get(..2).unwrap_or("00")).join(name);
        let whole = self.dir.join(&path);
        let bytes = converted.bytes.len() as u64;
        // A file that an earlier run wrote is whole; one of another size was damaged since.
        if !std::fs::metadata(&whole).is_ok_and(|found| found.is_file() && found.len() == bytes) {
            atomic::write(&whole, &converted.bytes)?;
        }
        let dhash = converted.hash.to_string();
        self.near.add(converted.hash, digest.clone(), figure.image.clone());
        Ok(Ok(StoredImage {
            path,
            width: converted.width,
            height: converted.height,
            bytes,
            digest,
            dhash,
            original_format: converted.format.name().to_string(),
        }))
    }

    /// Fetches an image, or reads it from the folder of the pages.
    fn load(&self, address: &str) -> Result<std::result::Result<Vec<u8>, Rejected>> {
        if url::Url::parse(address).is_err() {
            return Ok(self.local(address));
        }
        match self.fetch(address) {
            Ok(bytes) => Ok(Ok(bytes)),
            Err(failure) if failure.reason.is_fatal() => Err(failure.into()),
            Err(failure) => Ok(Err(Rejected {
                reason: failure.reason.name().to_string(),
                detail: failure.to_string(),
                transient: failure.reason.is_transient(),
            })),
        }
    }

    fn fetch(&self, address: &str) -> Result<Vec<u8>, FetchFailure> {
        let options = FetchOptions {
            accept: "image/jpeg,image/png,image/webp,image/gif,image/svg+xml,image/tiff;q=0.8,image/*;q=0.5",
            max_bytes: self.options.max_bytes,
            ..FetchOptions::default()
        };
        self.client.get_with(address, &options).map(|fetched| fetched.bytes)
    }

    /// Reads an image with a relative address from the folder of the pages, and from nowhere else.
    fn local(&self, address: &str) -> std::result::Result<Vec<u8>, Rejected> {
        let Some(folder) = &self.options.folder else {
            return Err(Rejected::new("the image has no address", "set `folder` if it lies beside the pages"));
        };
        let path = address.split(['?', '#']).next().unwrap_or_default();
        let decoded =
            url::form_urlencoded::parse(format!("x={}", path.replace('+', "%2B").replace('&', "%26")).as_bytes())
                .next()
                .map(|(_, value)| value.into_owned())
                .unwrap_or_default();
        let unread = |why: String| Rejected::new("the file cannot be read", why);
        let root = folder.canonicalize().map_err(|e| unread(e.to_string()))?;
        let file = root.join(decoded.trim_start_matches('/')).canonicalize().map_err(|e| unread(e.to_string()))?;
        if !file.starts_with(&root) {
            return Err(Rejected::new("the image lies outside the folder of the pages", ""));
        }
        files::read(&file, self.options.max_bytes).map_err(|e| unread(e.to_string()))
    }

    /// Fetches the picture that a wiki made of a drawing, at one of the widths that Wikimedia serves.
    fn drawn_by_the_wiki(&self, address: &str) -> Result<Option<Converted>> {
        let Some(thumbnail) = html::thumbnail_of(address, 960) else { return Ok(None) };
        let bytes = match self.fetch(&thumbnail) {
            Ok(bytes) => bytes,
            Err(failure) if failure.reason.is_fatal() => return Err(failure.into()),
            Err(_) => return Ok(None),
        };
        Ok(convert(&bytes, &self.options).ok().map(|converted| Converted { format: Content::Svg, ..converted }))
    }
}

/// Fetches the images of pages, and gives those with kept images to `each`, in the order of the pages.
///
/// # Errors
/// As [`ImageStage::new`] and [`ImageStage::page`]; a page cannot be read, or `each` fails.
pub fn run(
    pages: impl Iterator<Item = Result<Page>>,
    client: &Arc<Client>,
    options: &ImagesOptions,
    dir: &Path,
    each: &mut dyn FnMut(Page) -> Result<()>,
) -> Result<ImagesReport> {
    let mut stage = ImageStage::new(client.clone(), options, dir)?;
    for page in pages {
        if let Some(page) = stage.page(page?)? {
            each(page)?;
        }
    }
    Ok(stage.report)
}
