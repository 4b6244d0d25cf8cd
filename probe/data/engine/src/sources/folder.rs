//! A folder of HTML pages.

use super::page_source::{Each, Reading};
use super::records;
use super::{PageSource, Part};
use crate::html;
use crate::outline::ReadOptions;
use crate::page::Page;
use crate::skips::Skips;
use burgess_base::{Context, Error, Result, files};
use std::path::{Path, PathBuf};
use url::Url;

/// Largest size of a page in bytes.
pub(super) const MAX_PAGE: u64 = 16 << 20;
/// Largest nesting of folders.
const MAX_DEPTH: usize = 64;

/// A folder of pages.
#[derive(Debug)]
pub(super) struct HtmlFolder {
    pub folder: PathBuf,
    pub base_url: Option<String>,
    pub options: ReadOptions,
}

impl PageSource for HtmlFolder {
    fn description(&self) -> String {
        self.folder.display().to_string()
    }

    fn check(&self) -> Result<()> {
        if let Some(base) = &self.base_url {
            self.base(base)?;
        }
        match self.folder.is_dir() {
            true => Ok(()),
            false => Err(Error::usage(format!("{} is not a folder", self.folder.display()))
                .hint("check `folder` in the table of the source")),
        }
    }

    fn read(&self, part: &Part<'_>, skips: &mut Skips, each: Each<'_>) -> Result<()> {
        self.check()?;
        let base = self.base_url.as_deref().map(|base| self.base(base)).transpose()?;
        let mut paths = Vec::new();
        walk(&self.folder, 0, &mut paths, skips)?;
        paths.sort();
        // Files are the records.
        let mut reading = Reading::new(part, 0, skips, each);
        for path in paths {
            if !reading.division.is_next() {
                continue;
            }
            let place = path.display().to_string();
            match files::read(&path, MAX_PAGE) {
                Ok(bytes) => match self.page(&path, &bytes, base.as_ref(), reading.skips) {
                    Ok(page) => reading.page(page)?,
                    Err(e) => reading.skips.add("the page cannot be read", format!("{place}: {e}")),
                },
                Err(e) => reading.skips.add("the file cannot be read", format!("{place}: {e}")),
            }
        }
        Ok(())
    }
}

impl HtmlFolder {
    fn base(&self, base: &str) -> Result<Url> {
        // Relative paths are resolved below the folder.
        let folder = if base.ends_with('/') { base.to_string() } else { format!("{base}/") };
        let url = Url::parse(&folder).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        url.ok_or_else(|| {
            Error::usage(format!("`base_url` is `{}`, which is no address", burgess_base::text::excerpt(base, 200)))
                .hint("write an address such as https://example.org/pages/")
        })
    }

    fn page(&self, path: &Path, bytes: &[u8], base: Option<&Url>, skips: &mut Skips) -> Result<Page> {
        let below = path.strip_prefix(&self.folder).unwrap_or(path);
        let relative = below.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
        let url = match base {
            Some(base) => base.join(&relative).map_or_else(|_| relative.clone(), String::from),
            None => relative.clone(),
        };
        read_page(bytes, None, &url, &self.options, skips)
    }
}

/// Reads a page from its bytes. One without an address keeps its path, and gets the address that it states.
pub(super) fn read_page(
    bytes: &[u8],
    content_type: Option<&str>,
    url: &str,
    options: &ReadOptions,
    skips: &mut Skips,
) -> Result<Page> {
    let text = html::decode(bytes, content_type);
    let mut read = html::read(&text, url, options)?;
    if Url::parse(url).is_err()
        && let Some(canonical) = read.canonical.clone()
    {
        // Relative addresses are those of the page at its own address.
        read = html::read(&text, &canonical, options)?;
        read.canonical = Some(canonical);
    }
    for _ in 0..read.unusable_images {
        skips.add(super::NO_ADDRESS, url);
    }
    let url = match Url::parse(url) {
        Ok(_) => url.to_string(),
        Err(_) => read.canonical.unwrap_or_else(|| url.to_string()),
    };
    Ok(Page {
        url,
        title: read.title,
        language: read.language,
        licence: read.licence,
        sections: read.sections,
        ..Page::default()
    })
}

/// Finds the pages in a folder. Links to folders are not followed, since they may lead in a circle.
fn walk(dir: &Path, depth: usize, found: &mut Vec<PathBuf>, skips: &mut Skips) -> Result<()> {
    let step = || format!("reading the folder {}", dir.display());
    for entry in std::fs::read_dir(dir).with_context(step)? {
        let entry = entry.with_context(step)?;
        let path = entry.path();
        let kind = entry.file_type().with_context(step)?;
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
        if kind.is_dir() && depth < MAX_DEPTH {
            walk(&path, depth + 1, found, skips)?;
        } else if kind.is_dir() {
            skips.add("folders are nested too deeply", records::place(&path, 0));
        } else if matches!(ending.as_str(), "html" | "htm" | "xhtml") {
            found.push(path);
        }
    }
    Ok(())
}
