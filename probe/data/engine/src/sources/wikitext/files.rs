//! Images in wikitext: links to files, galleries, frames of several images.

use super::brackets::Brackets;
use super::inline::Inline;
use super::{WikiNames, entities};
use crate::page::Figure;
use crate::sources::mediawiki::encoded;
use std::collections::BTreeMap;
use std::ops::Range;

/// An image by itself that is smaller is an icon.
const MIN_SIDE: u32 = 50;
/// Endings of files that are no images.
const NO_IMAGES: [&str; 12] = ["ogg", "oga", "ogv", "webm", "mp3", "wav", "flac", "mid", "midi", "mp4", "stl", "pdf"];
/// Options of a link to a file in several languages, which are no captions.
const OPTIONS: [&str; 46] = [
    "thumb",
    "thumbnail",
    "frame",
    "framed",
    "enframed",
    "frameless",
    "border",
    "left",
    "right",
    "center",
    "centre",
    "none",
    "baseline",
    "sub",
    "super",
    "top",
    "text-top",
    "middle",
    "bottom",
    "text-bottom",
    "upright",
    "mini",
    "miniatur",
    "gerahmt",
    "rahmenlos",
    "rand",
    "links",
    "rechts",
    "zentriert",
    "ohne",
    "hochkant",
    "vignette",
    "cadre",
    "gauche",
    "droite",
    "centré",
    "miniatura",
    "miniaturadeimagen",
    "marco",
    "izquierda",
    "derecha",
    "centro",
    "мини",
    "миниатюра",
    "слева",
    "справа",
];

/// An image and its caption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileLink {
    pub name: String,
    pub caption: Option<String>,
    pub alt: Option<String>,
}

impl FileLink {
    /// Makes the figure. The address redirects to the file, wherever the wiki keeps it.
    pub fn figure(self, names: &WikiNames) -> Figure {
        let page = |title: &str| names.article.replace("$1", &encoded(title));
        Figure {
            image: page(&format!("Special:FilePath/{}", self.name)),
            file_page: Some(page(&format!("File:{}", self.name))),
            caption: self.caption,
            alt: self.alt,
            ..Figure::default()
        }
    }
}

/// Returns the name of an image file with spaces and a capital first letter; `None` if it is none.
fn image_name(name: &str) -> Option<String> {
    let name = name.replace('_', " ");
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let ending = name.rsplit_once('.')?.1.to_lowercase();
    let odd = |c: char| matches!(c, '[' | ']' | '{' | '}' | '|' | '<' | '>' | '#') || c.is_control();
    if NO_IMAGES.contains(&ending.as_str()) || ending.len() > 5 || name.len() > 255 || name.contains(odd) {
        return None;
    }
    let mut letters = name.chars();
    let first = letters.next()?.to_uppercase();
    Some(first.chain(letters).collect())
}

/// Reads the options of a link to a file; `None` for an icon or a file that is no image.
pub(super) fn file_link(page: &Inline<'_>, name: &str, parts: &[Range<usize>], depth: usize) -> Option<FileLink> {
    let mut link = FileLink { name: image_name(name)?, caption: None, alt: None };
    let (mut framed, mut width) = (false, None);
    for part in parts {
        let raw = page.text.get(part.clone()).unwrap_or_default().trim();
        let lower = raw.to_lowercase();
        if let Some(size) = lower.strip_suffix("px") {
            let digits = |text: &str| text.is_empty() || text.bytes().all(|b| b.is_ascii_digit());
            let (first, second) = size.split_once('x').unwrap_or((size, ""));
            if digits(first.trim()) && digits(second.trim()) {
                width = first.trim().parse().ok().or_else(|| second.trim().parse::<u32>().ok());
                continue;
            }
        }
        let key = lower.split_once('=').map_or(lower.as_str(), |(key, _)| key).trim();
        match key {
            "alt" => {
                let begin = part.start + page.text.get(part.clone()).and_then(|text| text.find('=')).unwrap_or(0) + 1;
                link.alt = Some(page.line(begin..part.end, depth + 1)).filter(|alt| !alt.is_empty());
            }
            "link" | "lang" | "page" | "class" | "thumbtime" | "start" | "end" | "upright" | "hochkant" => {}
            _ if OPTIONS.contains(&lower.as_str()) => {
                framed |= !matches!(lower.as_str(), "frameless" | "border" | "left" | "right" | "none" | "center");
            }
            _ if key == "thumb" || key == "thumbnail" || key == "mini" => framed = true,
            // The last of several is the caption.
            _ => link.caption = Some(page.line(part.clone(), depth + 1)).filter(|caption| !caption.is_empty()),
        }
    }
    let is_icon = !framed && width.is_some_and(|width| width < MIN_SIDE);
    (!is_icon).then_some(link)
}

/// Reads a gallery: a file and its caption on each line.
pub(super) fn gallery(text: &str, names: &WikiNames) -> Vec<FileLink> {
    let brackets = Brackets::of(text);
    let page = Inline { text, brackets: &brackets, names };
    let mut found = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let range = at..at + line.trim_end_matches('\n').len();
        at += line.len();
        let parts = brackets.split(text, range);
        let Some(target) = parts.first().and_then(|part| text.get(part.clone())) else { continue };
        let target = entities::decode(target.trim());
        let name = target.split_once(':').map_or(target.as_str(), |(namespace, name)| {
            match names.files.contains(&namespace.trim().to_lowercase()) {
                true => name,
                false => target.as_str(),
            }
        });
        found.extend(file_link(&page, name, parts.get(1..).unwrap_or_default(), 0));
    }
    found
}

/// Reads `{{multiple image|image1=…|caption1=…|footer=…}}`.
pub(super) fn multiple_image(page: &Inline<'_>, parts: &[Range<usize>], depth: usize) -> Vec<FileLink> {
    let mut values: BTreeMap<String, Range<usize>> = BTreeMap::new();
    for part in parts {
        let Some(text) = page.text.get(part.clone()) else { continue };
        if let Some((key, _)) = text.split_once('=') {
            values.insert(key.trim().to_lowercase(), part.start + key.len() + 1..part.end);
        }
    }
    let line =
        |key: &str| values.get(key).map(|range| page.line(range.clone(), depth + 1)).filter(|text| !text.is_empty());
    let footer = line("footer");
    let one = |n: usize| {
        let name = image_name(line(&format!("image{n}"))?.trim_start_matches("File:"))?;
        let caption = line(&format!("caption{n}")).or_else(|| footer.clone());
        Some(FileLink { name, caption, alt: line(&format!("alt{n}")) })
    };
    (1..=20).filter_map(one).collect()
}
