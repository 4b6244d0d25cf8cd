//! The figures of a page: images with their captions.

use super::{absolute, original, text};
use crate::outline::ReadOptions;
use crate::page::Figure;
use scraper::ElementRef;
use url::Url;

/// Attributes with the address of an image, in the order of preference: pages that load images late have the address in
/// one of the first ones, and a placeholder in `src`.
const SOURCES: [&str; 6] = ["data-src", "data-original", "data-lazy-src", "data-url", "data-lazy", "src"];
/// Attributes with several sizes of an image.
const SETS: [&str; 3] = ["data-srcset", "data-lazy-srcset", "srcset"];
/// An image by itself that states a smaller width or height is an icon.
const MIN_SIDE: u32 = 50;

/// Whether an element is a figure, a box of several, or an image by itself.
pub(super) fn are_in(element: ElementRef<'_>) -> bool {
    let value = element.value();
    match value.name() {
        "figure" | "picture" | "img" => true,
        "span" | "noscript" => is_lazy(element) || value.name() == "noscript",
        "div" | "li" | "ul" | "table" => {
            value.classes().any(|class| matches!(class, "thumb" | "gallerybox" | "tmulti"))
        }
        _ => false,
    }
}

/// Whether an element stands for an image that a script of MediaWiki's mobile pages loads.
fn is_lazy(element: ElementRef<'_>) -> bool {
    element.value().classes().any(|class| class == "lazy-image-placeholder")
}

/// Returns the figures of such an element. `unusable` counts images whose address cannot be fetched.
pub(super) fn of(
    element: ElementRef<'_>,
    base: Option<&Url>,
    options: &ReadOptions,
    unusable: &mut usize,
) -> Vec<Figure> {
    let reader = FigureReader { base, options };
    let found = reader.all(element);
    if found.is_empty() && below(element).filter(|inner| is_image(*inner)).any(has_address) && !is_icon(element) {
        *unusable += 1;
    }
    found
}

/// Whether an image states any address.
fn has_address(image: ElementRef<'_>) -> bool {
    SOURCES.iter().any(|name| image.value().attr(name).is_some_and(|value| !value.trim().is_empty()))
}

impl FigureReader<'_> {
    /// Returns the figures of an element.
    fn all(&self, element: ElementRef<'_>) -> Vec<Figure> {
        let (reader, options) = (self, self.options);
        let name = element.value().name();
        if matches!(name, "img" | "picture" | "span" | "noscript") {
            return reader.image(element).filter(|_| !is_icon(element)).into_iter().collect();
        }
        // Several images in one frame, each with its own caption or all with one.
        let parts: Vec<ElementRef<'_>> = below(element).filter(|inner| has_class(*inner, &["tsingle"])).collect();
        if parts.is_empty() {
            return reader.figure(element, None).into_iter().collect();
        }
        let shared = below(element)
            .find(|inner| {
                has_class(*inner, &["thumbcaption", "thumbcaption-row"]) && !parts.iter().any(|p| holds(*p, *inner))
            })
            .map(|caption| text::of(caption, options))
            .filter(|caption| !caption.is_empty());
        parts.into_iter().filter_map(|part| reader.figure(part, shared.clone())).collect()
    }
}

struct FigureReader<'a> {
    base: Option<&'a Url>,
    options: &'a ReadOptions,
}

impl FigureReader<'_> {
    /// Reads a frame with its first image and its caption.
    fn figure(&self, frame: ElementRef<'_>, shared: Option<String>) -> Option<Figure> {
        let mut figure = below(frame).find_map(|inner| match is_image(inner) {
            true => self.image(inner),
            false => None,
        })?;
        let own = below(frame).find(|inner| {
            inner.value().name() == "figcaption"
                || has_class(*inner, &["thumbcaption", "gallerytext", "gallerycaption"])
        });
        let own = own.map(|caption| text::of(caption, self.options)).filter(|caption| !caption.is_empty());
        figure.caption = own.or(shared);
        Some(figure)
    }

    /// Reads an image: `img`, `picture` around it, or a placeholder.
    fn image(&self, element: ElementRef<'_>) -> Option<Figure> {
        let image = if is_image(element) { Some(element) } else { below(element).find(|inner| is_image(*inner)) }?;
        let attribute = |name| image.value().attr(name).map(str::trim).filter(|value| !value.is_empty());
        let mut candidates: Vec<(f64, String)> = Vec::new();
        let mut add = |weight: f64, address: &str| {
            if let Some(address) = absolute(self.base, address).or_else(|| self.relative(address)) {
                candidates.push((weight, address));
            }
        };
        if let Some(source) = SOURCES.iter().find_map(|name| attribute(name).filter(|source| !is_placeholder(source))) {
            add(1.0, source);
        }
        let picture = image.ancestors().filter_map(ElementRef::wrap).take(2).find(|e| e.value().name() == "picture");
        let others = picture.into_iter().flat_map(|picture| below(picture)).filter(|e| e.value().name() == "source");
        for holder in others.chain([image]) {
            for set in SETS.iter().filter_map(|name| holder.value().attr(name)) {
                srcset(set).for_each(|(weight, address)| add(weight, address));
            }
        }
        // The first of equal ones.
        let best = candidates.into_iter().reduce(|best, next| if next.0 > best.0 { next } else { best })?.1;
        let link = image.ancestors().filter_map(ElementRef::wrap).take(4).find(|e| e.value().name() == "a");
        let link = link.and_then(|link| link.value().attr("href"));
        let file_page = attribute("resource").or(link).filter(|href| is_file_page(href));
        Some(Figure {
            image: original(&best),
            alt: attribute("alt").or_else(|| attribute("data-alt")).map(|alt| {
                let mut line = crate::outline::Line::default();
                line.push(alt);
                line.finish()
            }),
            file_page: file_page.and_then(|href| absolute(self.base, href)),
            ..Figure::default()
        })
    }

    /// Keeps the relative address of an image of a page without an address, as in a folder of pages.
    fn relative(&self, address: &str) -> Option<String> {
        let scheme = address.split(['/', '?', '#']).next().is_some_and(|first| first.contains(':'));
        (self.base.is_none() && !scheme && !address.starts_with('#')).then(|| address.to_string())
    }
}

/// Whether an element is an image or stands for one.
fn is_image(element: ElementRef<'_>) -> bool {
    let formula = element.value().classes().any(|class| class.starts_with("mwe-math"));
    element.value().name() == "img" && !formula || is_lazy(element)
}

/// Whether an image by itself is an icon, by the size that it states.
fn is_icon(element: ElementRef<'_>) -> bool {
    let image = if is_image(element) { Some(element) } else { below(element).find(|inner| is_image(*inner)) };
    let small = |name: &str| {
        let side = image.and_then(|image| image.value().attr(name)?.trim().trim_end_matches("px").parse::<u32>().ok());
        side.is_some_and(|side| side < MIN_SIDE)
    };
    ["width", "height", "data-width", "data-height"].iter().any(|name| small(name))
}

/// Whether an address in `src` stands for an image that is loaded later.
fn is_placeholder(address: &str) -> bool {
    let lower = address.to_ascii_lowercase();
    lower.starts_with("data:") || lower.starts_with("about:") || lower.contains("blank.gif") || lower.contains("1x1.")
}

/// Whether a link leads to the page of a file in a wiki, in any language: a title with a namespace and an ending.
fn is_file_page(href: &str) -> bool {
    let end = href.find(['#', '&']).unwrap_or(href.len());
    let Some(title) = href.get(..end).and_then(|path| path.rsplit(['/', '=']).next()) else { return false };
    let Some((namespace, name)) = title.split_once(':') else { return false };
    !namespace.is_empty() && name.contains('.')
}

/// Returns the sizes of a `srcset`, each with its width in pixels or its density. Addresses may contain commas.
pub(super) fn srcset(set: &str) -> impl Iterator<Item = (f64, &str)> {
    let mut rest = set;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if rest.is_empty() {
            return None;
        }
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (address, after) = rest.split_at(end);
        // A comma right after the address ends it without a size.
        if let Some(address) = address.strip_suffix(',') {
            rest = after;
            return Some((1.0, address.trim_end_matches(',')));
        }
        let end = after.find(',').unwrap_or(after.len());
        let (size, next) = after.split_at(end);
        rest = next;
        let size = size.trim();
        let number = size.trim_end_matches(['w', 'x', 'h']).parse::<f64>().ok().filter(|n| n.is_finite());
        Some((number.unwrap_or(1.0), address))
    })
}

fn below(element: ElementRef<'_>) -> impl Iterator<Item = ElementRef<'_>> {
    element.descendants().filter_map(ElementRef::wrap)
}

fn has_class(element: ElementRef<'_>, classes: &[&str]) -> bool {
    element.value().classes().any(|class| classes.contains(&class))
}

fn holds(outer: ElementRef<'_>, inner: ElementRef<'_>) -> bool {
    inner.ancestors().any(|node| node.id() == outer.id())
}
