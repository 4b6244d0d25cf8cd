//! Walks over a page in the order of its text and finds headings, paragraphs and figures.

use super::{figures, text};
use crate::outline::{Outline, ReadOptions};
use scraper::{ElementRef, Html};
use url::Url;

/// Elements that hold no text of an article.
const LEFT_OUT: [&str; 22] = [
    "script", "style", "template", "nav", "footer", "form", "button", "select", "textarea", "input", "iframe",
    "object", "embed", "svg", "canvas", "table", "audio", "video", "map", "dialog", "head", "math",
];

/// Classes of elements that hold no text of an article: of MediaWiki, and of common templates of its wikis.
const LEFT_OUT_CLASSES: [&str; 36] = [
    "mw-editsection",
    "editsection",
    "navbox",
    "navbox-styles",
    "vertical-navbox",
    "sidebar",
    "infobox",
    "metadata",
    "ambox",
    "hatnote",
    "dablink",
    "rellink",
    "toc",
    "mw-references-wrap",
    "reflist",
    "references",
    "refbegin",
    "noprint",
    "printfooter",
    "catlinks",
    "mw-jump-link",
    "shortdescription",
    "sistersitebox",
    "side-box",
    "portalbox",
    "portal-bar",
    "authority-control",
    "stub",
    "mw-indicators",
    "mw-cite-backlink",
    "mw-ext-cite-error",
    "mw-empty-elt",
    "magnify",
    "mw-hidden-catlinks",
    "nomobile",
    "mw-collapsible-toggle",
];

/// Whether an element and what lies in it is no part of the article's text.
pub(super) fn is_left_out(element: ElementRef<'_>) -> bool {
    let value = element.value();
    let hidden = || {
        value.attr("hidden").is_some()
            || value.attr("role").is_some_and(|role| matches!(role, "navigation" | "search" | "banner" | "contentinfo"))
            || value.attr("style").is_some_and(|style| {
                let style: String = style.chars().filter(|c| !c.is_whitespace()).collect();
                style.to_ascii_lowercase().contains("display:none")
            })
    };
    LEFT_OUT.contains(&value.name())
        || value.id().is_some_and(|id| matches!(id, "toc" | "footer" | "mw-navigation" | "siteSub" | "contentSub"))
        || value.classes().any(|class| LEFT_OUT_CLASSES.contains(&class))
        || hidden()
}

/// Returns the element that holds the article: the output of MediaWiki's parser, or else the main part of the page.
pub(super) fn content(html: &Html) -> Option<ElementRef<'_>> {
    let all = || html.tree.nodes().filter_map(ElementRef::wrap);
    let class = |wanted: &'static str| all().find(|element| element.value().classes().any(|class| class == wanted));
    let id = |wanted: &'static str| all().find(|element| element.value().id() == Some(wanted));
    let name = |wanted: &'static str| all().find(|element| element.value().name() == wanted);
    class("mw-parser-output")
        .or_else(|| id("mw-content-text"))
        .or_else(|| name("main"))
        .or_else(|| name("article"))
        .or_else(|| name("body"))
}

/// Returns the text of the first heading of level 1 on the page.
pub(super) fn first_heading(html: &Html, options: &ReadOptions) -> Option<String> {
    let all = html.tree.nodes().filter_map(ElementRef::wrap);
    let title = all.filter(|element| element.value().name() == "h1").map(|heading| text::of(heading, options));
    title.into_iter().find(|title| !title.is_empty())
}

/// Walks over an element and fills the outline; returns the first heading of level 1 in it, and the number of images
/// whose address cannot be fetched.
pub(super) fn walk(
    root: Option<ElementRef<'_>>,
    base: Option<&Url>,
    options: &ReadOptions,
    outline: &mut Outline,
) -> (Option<String>, usize) {
    let mut walker = Walker { base, options, outline, title: None, unusable: 0 };
    if let Some(root) = root {
        walker.children(root);
    }
    (walker.title, walker.unusable)
}

struct Walker<'a> {
    base: Option<&'a Url>,
    options: &'a ReadOptions,
    outline: &'a mut Outline,
    title: Option<String>,
    unusable: usize,
}

impl Walker<'_> {
    /// Walks over the elements in an element. The parser limits their nesting.
    fn children(&mut self, parent: ElementRef<'_>) {
        for child in parent.children().filter_map(ElementRef::wrap) {
            self.element(child);
        }
    }

    fn element(&mut self, element: ElementRef<'_>) {
        if figures::are_in(element) {
            for figure in figures::of(element, self.base, self.options, &mut self.unusable) {
                self.outline.figure(figure);
            }
            return;
        }
        if is_left_out(element) {
            return;
        }
        match element.value().name() {
            "h1" => {
                let title = text::of(element, self.options);
                if self.title.is_none() && !title.is_empty() {
                    self.title = Some(title);
                }
            }
            "h2" | "h3" | "h4" | "h5" | "h6" => {
                let level = element.value().name().bytes().last().map_or(2, |digit| digit.saturating_sub(b'0'));
                self.outline.heading(level, self.heading_text(element));
            }
            "p" => {
                self.outline.paragraph(&text::of(element, self.options));
                // Images inside a paragraph.
                self.children(element);
            }
            "li" | "dt" | "dd" if self.options.lists && !has_blocks(element) => {
                self.outline.paragraph(&text::of(element, self.options));
                self.children(element);
            }
            _ => self.children(element),
        }
    }

    /// Returns the text of a heading: that of its `.mw-headline` in the markup before MediaWiki 1.43, or all of it.
    fn heading_text(&self, heading: ElementRef<'_>) -> String {
        let mut inner = heading.descendants().filter_map(ElementRef::wrap);
        let headline = inner.find(|element| element.value().classes().any(|class| class == "mw-headline"));
        text::of(headline.unwrap_or(heading), self.options)
    }
}

/// Whether an item of a list has blocks of its own, which are read one by one.
fn has_blocks(item: ElementRef<'_>) -> bool {
    let mut inner = item.descendants().skip(1).filter_map(ElementRef::wrap);
    inner.any(|element| matches!(element.value().name(), "p" | "ul" | "ol" | "dl" | "figure" | "div"))
}
