//! WikiWeb2M (Burns et al., 2023): English articles with their sections and images, in TFRecord files.
//!
//! Each record is a `SequenceExample`. Of the page: `page_title`, `page_url`. Of each section, in lists as long as
//! there are sections: `section_title`, `section_text`, `section_heading_level` or `section_depth`, and, as many values
//! as the section has images, `section_image_url`, `section_image_clean_ref_description` or
//! `section_image_raw_ref_description` (the caption), `section_image_alt_text_description`. Other fields are ignored.

use super::page_source::{Each, Reading};
use super::records::{self, Counted};
use super::tfrecord::{self, Example, Feature};
use super::{PageSource, Part};
use crate::html;
use crate::outline::{Line, Outline, ReadOptions};
use crate::page::{Figure, Page};
use crate::skips::Skips;
use burgess_base::{Error, Result};
use std::path::PathBuf;

/// Files of WikiWeb2M.
#[derive(Debug)]
pub(super) struct WikiWeb2m {
    pub files: Vec<PathBuf>,
    pub options: ReadOptions,
}

impl PageSource for WikiWeb2m {
    fn description(&self) -> String {
        self.files.first().map_or_else(String::new, |file| file.display().to_string())
    }

    fn check(&self) -> Result<()> {
        records::check(&self.files)
    }

    fn read(&self, part: &Part<'_>, skips: &mut Skips, each: Each<'_>) -> Result<()> {
        let mut reading = Reading::new(part, self.files.len(), skips, each);
        let files: Vec<&PathBuf> = reading.division.files(&self.files).collect();
        for path in files {
            let mut file = Counted::new(records::open(path).map_err(|e| records::cannot_open(path, e))?);
            loop {
                let at = file.at;
                let place = || records::place(path, at);
                let data = match tfrecord::next(&mut file) {
                    Ok(Some(data)) => data,
                    Ok(None) => break,
                    Err(e) => {
                        reading.skips.add("the file is damaged", format!("{}: {e}", place()));
                        break;
                    }
                };
                if !reading.division.is_next() {
                    continue;
                }
                match Example::parse(&data).and_then(|example| self.page(&example)) {
                    Ok(page) => reading.page(page)?,
                    Err(e) => reading.skips.add("the record is no page", format!("{}: {e}", place())),
                }
            }
        }
        Ok(())
    }
}

impl WikiWeb2m {
    fn page(&self, example: &Example) -> Result<Page> {
        let text = |name: &str| {
            let found = example.features.get(name).and_then(|feature| feature.texts().next()).filter(|t| !t.is_empty());
            found.ok_or_else(|| Error::failed(format!("it has no `{name}`")))
        };
        let (title, url) = (clean(&text("page_title")?), text("page_url")?);
        let empty = Vec::new();
        let list = |name: &str| example.lists.get(name).unwrap_or(&empty);
        let first = |name: &str, at: usize| list(name).get(at).and_then(|feature| feature.texts().next());
        let values = |name: &str, at: usize| -> Vec<String> {
            list(name).get(at).map(|feature| feature.texts().collect()).unwrap_or_default()
        };
        let number = |name: &str, at: usize| list(name).get(at).and_then(|f: &Feature| f.ints.first().copied());
        let count = list("section_title").len().max(list("section_text").len());
        let mut outline = Outline::new(self.options);
        for at in 0..count {
            let heading = clean(&first("section_title", at).unwrap_or_default());
            // The lead section has the title of the page, or none.
            if at > 0 || !(heading.is_empty() || heading == title) {
                let level = number("section_heading_level", at)
                    .or_else(|| number("section_depth", at).map(|depth| depth.saturating_add(1)));
                outline.heading(level.unwrap_or(2).clamp(2, 6) as u8, heading);
            }
            let text = first("section_text", at).unwrap_or_default();
            text.lines().for_each(|line| outline.paragraph(&clean(line)));
            let captions =
                [values("section_image_clean_ref_description", at), values("section_image_raw_ref_description", at)];
            let alts = values("section_image_alt_text_description", at);
            for (n, url) in values("section_image_url", at).iter().enumerate() {
                let Some(image) = html::absolute(None, url) else { continue };
                let mut captions = captions.iter().filter_map(|all| all.get(n)).map(|text| clean(text));
                outline.figure(Figure {
                    image: html::original(&image),
                    caption: captions.find(|caption| !caption.is_empty()),
                    alt: alts.get(n).map(|alt| clean(alt)).filter(|alt| !alt.is_empty()),
                    ..Figure::default()
                });
            }
        }
        Ok(Page { url, title, language: Some("en".into()), sections: outline.finish(), ..Page::default() })
    }
}

/// Returns a text on one line.
fn clean(text: &str) -> String {
    let mut line = Line::default();
    line.push(text);
    line.finish()
}
