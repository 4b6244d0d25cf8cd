//! Pages with their sections and figures: one JSON line per page, in the files of the stages `pages` and `images`.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What is searched for: a topic of a subfield of a field, as the stage `topics` writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Topic {
    /// The field of knowledge, such as `Biology`; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// The part of the field, such as `Botany`; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subfield: String,
    /// The topic, such as `Photosynthesis`.
    pub topic: String,
}

/// A page: its text by sections, with the figures of each section.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// Address of the page; for pages of a file without addresses, the path of the file.
    pub url: String,
    /// Title of the page.
    pub title: String,
    /// The topic for which the page was found; empty if pages were not searched by topic.
    #[serde(default)]
    pub topic: String,
    /// The field of the topic; may be empty.
    #[serde(default)]
    pub field: String,
    /// The subfield of the topic; may be empty.
    #[serde(default)]
    pub subfield: String,
    /// Language of the text as the source states it, such as `en`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Licence of the text, if the source states one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<Licence>,
    /// The sections in the order of the page.
    pub sections: Vec<Section>,
}

impl Page {
    /// Returns the figures of all sections.
    pub fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.sections.iter().flat_map(|section| &section.figures)
    }

    /// Returns the figures of all sections, to be changed.
    pub fn figures_mut(&mut self) -> impl Iterator<Item = &mut Figure> {
        self.sections.iter_mut().flat_map(|section| &mut section.figures)
    }
}

/// A section of a page: what stands below one heading and above the next.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// Text of the heading; empty for the lead section.
    pub title: String,
    /// Level of the heading, from 2 to 6; 1 for the lead section.
    #[serde(default = "lead_level")]
    pub level: u8,
    /// The paragraphs, separated by one line feed.
    pub text: String,
    /// The figures of the section.
    #[serde(default)]
    pub figures: Vec<Figure>,
}

/// The level of the lead section.
fn lead_level() -> u8 {
    1
}

/// An image of a page, with what the page and the source say about it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Address of the image in its largest form.
    pub image: String,
    /// The caption; `None` if the page has none.
    #[serde(default)]
    pub caption: Option<String>,
    /// The alternative text for readers who do not see the image, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alt: Option<String>,
    /// Licence of the image; `None` if the source does not state it.
    #[serde(default)]
    pub licence: Option<Licence>,
    /// Author of the image as plain text; `None` if the source does not state it.
    #[serde(default)]
    pub author: Option<String>,
    /// Address of the page that describes the image (`File:…` in a wiki).
    #[serde(default)]
    pub file_page: Option<String>,
    /// The image on this machine, after the stage `images`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<StoredImage>,
}

/// A licence by its name and the address of its text.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Licence {
    /// Name as the source states it, such as `CC BY-SA 4.0`.
    pub name: String,
    /// Address of the licence's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// An image file that the stage `images` wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredImage {
    /// Path of the file, relative to the directory of the stage.
    pub path: PathBuf,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// BLAKE3 digest of the file, 32 hexadecimal digits.
    pub digest: String,
    /// Difference hash of the pixels, 64 bits as 16 hexadecimal digits.
    pub dhash: String,
    /// Format in which the source has the image: `jpeg`, `png`, `svg`, `gif`, `webp`, `tiff` or `bmp`.
    pub original_format: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_one_line_and_short_lines_are_read() {
        let figure = Figure { image: "https://x.org/a.png".into(), ..Figure::default() };
        let section = Section { title: "Use".into(), level: 2, text: "a\nb".into(), figures: vec![figure] };
        let page = Page { url: "https://x.org/A".into(), sections: vec![section], ..Page::default() };
        let line = serde_json::to_string(&page).unwrap();
        assert!(!line.contains('\n') && line.contains(r#""caption":null"#), "{line}");
        assert_eq!(serde_json::from_str::<Page>(&line).unwrap(), page);
        let short = r#"{"url":"u","title":"t","sections":[{"title":"","text":"x"}]}"#;
        let page: Page = serde_json::from_str(short).unwrap();
        assert_eq!((page.sections[0].level, page.figures().count()), (1, 0));
    }
}
