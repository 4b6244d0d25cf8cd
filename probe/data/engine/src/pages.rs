//! The stage `pages`: reads pages from a source and keeps the sections from which questions can be made.

use crate::outline::ReadOptions;
use crate::page::{Page, Section};
use crate::skips::Skips;
use crate::sources::{PageSource, Part};
use burgess_base::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which sections of pages are kept. Every key is optional in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PagesOptions {
    /// What is read of a page.
    pub read: ReadOptions,
    /// Whether only sections with both text and a figure are kept, as in Cambrian-1's engine.
    pub only_with_figures: bool,
    /// Whether figures without a caption are left out.
    pub only_captioned: bool,
    /// Smallest number of words of a section.
    pub min_words: usize,
}

impl Default for PagesOptions {
    fn default() -> Self {
        Self { read: ReadOptions::default(), only_with_figures: true, only_captioned: false, min_words: 1 }
    }
}

/// Counts of what the stage read and kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PagesReport {
    /// Topics of the shard.
    pub topics: u64,
    /// Pages that the source gave.
    pub read: u64,
    /// Pages that are kept.
    pub pages: u64,
    /// Sections that are kept.
    pub sections: u64,
    /// Figures that are kept.
    pub figures: u64,
    /// Kept figures with a caption.
    pub captions: u64,
    /// Kept figures whose licence is known.
    pub licences: u64,
    /// What was left out, with the first few places.
    pub skips: Skips,
}

/// Reads the pages of a shard, and gives those with kept sections to `each`, in the order of the source.
///
/// # Errors
/// The source needs topics and there are none; the source fails as a whole, or `each` does.
pub fn run(
    source: &dyn PageSource,
    part: &Part<'_>,
    options: &PagesOptions,
    each: &mut dyn FnMut(Page) -> Result<()>,
) -> Result<PagesReport> {
    if source.searches() && part.topics.is_empty() {
        return Err(Error::failed(format!(
            "the shard has no topics, and {} is searched by topic",
            source.description()
        ))
        .hint("run the stage `topics` first"));
    }
    source.check()?;
    let mut report = PagesReport { topics: part.topics.len() as u64, ..PagesReport::default() };
    let mut left_out = Skips::default();
    let mut skips = Skips::default();
    source.read(part, &mut skips, &mut |mut page| {
        report.read += 1;
        let url = page.url.clone();
        let sections = std::mem::take(&mut page.sections);
        let kept = sections.into_iter().filter_map(|section| keep(section, options, &url, &mut left_out));
        page.sections = kept.collect();
        if page.sections.is_empty() {
            left_out.add("no section of the page is kept", &url);
            return Ok(());
        }
        report.pages += 1;
        report.sections += page.sections.len() as u64;
        let count = |wanted: &dyn Fn(&crate::page::Figure) -> bool| page.figures().filter(|f| wanted(f)).count() as u64;
        report.figures += count(&|_| true);
        report.captions += count(&|figure| figure.caption.is_some());
        report.licences += count(&|figure| figure.licence.is_some());
        each(page)
    })?;
    skips.merge(&left_out);
    report.skips = skips;
    Ok(report)
}

/// Returns the section without the figures that are left out; `None` if it is not kept.
fn keep(mut section: Section, options: &PagesOptions, url: &str, skips: &mut Skips) -> Option<Section> {
    let place = || match section.title.is_empty() {
        true => url.to_string(),
        false => format!("{url}#{}", section.title.replace(' ', "_")),
    };
    if section.text.split_whitespace().take(options.min_words).count() < options.min_words {
        skips.add("the section has too little text", place());
        return None;
    }
    if options.only_captioned {
        let before = section.figures.len();
        let place = place();
        section.figures.retain(|figure| figure.caption.is_some());
        for _ in section.figures.len()..before {
            skips.add("the figure has no caption", &place);
        }
    }
    if options.only_with_figures && section.figures.is_empty() {
        skips.add("the section has no figure", url);
        return None;
    }
    Some(section)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::Figure;
    use crate::sources::read_bytes;

    #[derive(Debug)]
    struct Fixed(Vec<Page>);

    impl PageSource for Fixed {
        fn description(&self) -> String {
            "fixed pages".into()
        }

        fn check(&self) -> Result<()> {
            Ok(())
        }

        fn read(&self, _: &Part<'_>, skips: &mut Skips, each: &mut dyn FnMut(Page) -> Result<()>) -> Result<()> {
            skips.add("of the source", "x");
            self.0.iter().cloned().try_for_each(each)
        }
    }

    #[test]
    fn sections_are_kept_by_the_options_and_all_others_counted() {
        let figure = |caption: Option<&str>| Figure { caption: caption.map(Into::into), ..Figure::default() };
        let section = |text: &str, figures: Vec<Figure>| Section { text: text.into(), figures, ..Section::default() };
        let page = Page {
            url: "u".into(),
            sections: vec![
                section("one two three", vec![figure(Some("c")), figure(None)]),
                section("one two three", vec![]),
                section("one", vec![figure(Some("c"))]),
                section("one two three", vec![figure(None)]),
            ],
            ..Page::default()
        };
        let bare = Page { sections: vec![section("text of a page", vec![])], ..page.clone() };
        let source = Fixed(vec![page, bare]);
        let part = Part { topics: &[], shard: 0, shards: 1 };
        let count = |options: PagesOptions| {
            let mut kept = 0;
            let each = &mut |page: Page| {
                kept += page.sections.len() as u64;
                Ok(())
            };
            let report = run(&source, &part, &options, each).unwrap();
            assert_eq!((kept, report.skips.of("of the source"), report.read), (report.sections, 1, 2));
            (report.pages, report.sections, report.figures, report.captions, report.skips.total())
        };
        assert_eq!(count(PagesOptions::default()), (1, 3, 4, 2, 4));
        assert_eq!(count(PagesOptions { min_words: 3, ..PagesOptions::default() }), (1, 2, 3, 1, 5));
        assert_eq!(count(PagesOptions { only_captioned: true, ..PagesOptions::default() }), (1, 2, 2, 2, 7));
        assert_eq!(count(PagesOptions { only_with_figures: false, ..PagesOptions::default() }), (2, 5, 4, 2, 1));
        let (pages, _) = read_bytes("html-folder", b"<h2>A</h2><p>x", &ReadOptions::default()).unwrap();
        assert_eq!(pages.len(), 1);
    }
}
