//! Reads HTML pages: sections, text, and figures with their captions.
//!
//! Headings are found wherever they stand: MediaWiki wraps them in `div.mw-heading` since version 1.43, so that a
//! section's prose is no longer a sibling of its heading. The text is that of paragraphs; references (`[1]`), links to
//! edit a section, tables, navigation boxes and the text of formulas are left out. Figures are `figure`, `div.thumb`,
//! boxes of galleries, and images by themselves; the largest form of an image is taken.

mod encoding;
mod figures;
mod parse;
#[cfg(test)]
mod tests;
mod text;
mod thumbnail;
mod walk;

pub use encoding::decode;
pub use thumbnail::{file_name, original, thumbnail_of};

use crate::outline::{Outline, ReadOptions};
use crate::page::{Licence, Section};
use burgess_base::{Result, guard};
use scraper::{ElementRef, Html};
use url::Url;

/// What a page says, without what its source says about it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HtmlPage {
    /// The first heading of level 1, or else the title; may be empty.
    pub title: String,
    /// The language that the page states.
    pub language: Option<String>,
    /// The licence of the text, as a link with `rel=license` states it.
    pub licence: Option<Licence>,
    /// The address that the page states as its own (`link rel=canonical`).
    pub canonical: Option<String>,
    /// The sections with text or figures.
    pub sections: Vec<Section>,
    /// Number of images that are left out because their address cannot be fetched, such as `data:`.
    pub unusable_images: usize,
}

/// Reads a page. `url` is its address, from which relative addresses are resolved.
///
/// # Errors
/// The page is nested too deeply, has too many elements, or takes too long to parse.
pub fn read(html: &str, url: &str, options: &ReadOptions) -> Result<HtmlPage> {
    let parsed = guard::third_party("the page", || parse::parse(html))??;
    let base = base_of(&parsed, url);
    let mut page = HtmlPage::default();
    for node in parsed.tree.nodes() {
        let Some(element) = ElementRef::wrap(node) else { continue };
        let attribute = |name| element.value().attr(name).map(str::trim).filter(|value| !value.is_empty());
        let rel = |wanted: &str| {
            attribute("rel").is_some_and(|rel| rel.split_ascii_whitespace().any(|one| one.eq_ignore_ascii_case(wanted)))
        };
        match element.value().name() {
            "html" => page.language = attribute("lang").map(str::to_string),
            "title" if page.title.is_empty() => page.title = text::of(element, options),
            "a" | "link" if page.licence.is_none() && rel("license") => {
                let url = attribute("href").and_then(|href| absolute(base.as_ref(), href));
                let name = text::of(element, options);
                let name = if name.is_empty() { url.clone().unwrap_or_default() } else { name };
                page.licence = (!name.is_empty()).then_some(Licence { name, url });
            }
            "link" if page.canonical.is_none() && rel("canonical") => {
                page.canonical = attribute("href").and_then(|href| absolute(base.as_ref(), href));
            }
            _ => {}
        }
    }
    let mut outline = Outline::new(*options);
    let (heading, unusable) = walk::walk(walk::content(&parsed), base.as_ref(), options, &mut outline);
    page.unusable_images = unusable;
    if let Some(title) = heading.or_else(|| walk::first_heading(&parsed, options)) {
        page.title = title;
    }
    page.sections = outline.finish();
    Ok(page)
}

/// Returns the text of a piece of HTML on one line; empty if it is nested too deeply.
pub fn plain_text(html: &str) -> String {
    let parsed = guard::third_party("the text", || parse::parse(html));
    let Ok(Ok(parsed)) = parsed else { return String::new() };
    let root = parsed.tree.root().children().find_map(ElementRef::wrap);
    root.map_or_else(String::new, |root| text::of(root, &ReadOptions::default()))
}

/// Returns the address from which relative ones are resolved: `base href`, or else that of the page.
fn base_of(html: &Html, url: &str) -> Option<Url> {
    let own = Url::parse(url).ok();
    let mut bases = html.tree.nodes().filter_map(ElementRef::wrap).filter(|element| element.value().name() == "base");
    let stated = bases.find_map(|element| element.value().attr("href"));
    let stated = stated.and_then(|href| match &own {
        Some(own) => own.join(href).ok(),
        None => Url::parse(href).ok(),
    });
    stated.filter(|url| matches!(url.scheme(), "http" | "https")).or(own)
}

/// Makes an address absolute; `None` if it is not one of a web server. Without a base, as in a folder of pages, a
/// relative address stays as it is.
pub(crate) fn absolute(base: Option<&Url>, address: &str) -> Option<String> {
    let address = address.trim();
    if address.is_empty() || address.starts_with('#') {
        return None;
    }
    let url = match base {
        Some(base) => base.join(address),
        None if address.starts_with("//") => Url::parse(&format!("https:{address}")),
        None => Url::parse(address),
    };
    url.ok().filter(|url| matches!(url.scheme(), "http" | "https")).map(String::from)
}
