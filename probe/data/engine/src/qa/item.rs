//! An image with what its page says about it, and the record that is written about it.

use crate::config::{QaConfig, QuestionKind};
use crate::fold::word_count;
use crate::page::{Figure, Licence, Page, StoredImage};
use serde::{Deserialize, Serialize};

/// An image about which questions are written.
#[derive(Debug, Clone, PartialEq)]
pub struct QaItem {
    /// Id, unique in the workspace.
    pub id: String,
    /// Number of the image in its shard.
    pub index: usize,
    /// The page without its sections.
    pub page: Page,
    /// Heading of the section.
    pub heading: String,
    /// Text of the section, as far as it is sent.
    pub text: String,
    /// The caption; empty if there is none.
    pub caption: String,
    /// The image.
    pub figure: Figure,
    /// The image's file.
    pub image: StoredImage,
}

/// Why an image gets no questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoItem {
    /// The stage `images` did not keep it.
    NoImage,
    /// It has no caption.
    NoCaption,
    /// The text of its section is too short.
    ShortText(usize),
}

impl QaItem {
    /// Makes the item of a figure.
    ///
    /// # Errors
    /// The image gets no questions, and why.
    pub fn new(
        shard: usize,
        index: usize,
        page: &Page,
        section: usize,
        figure: &Figure,
        config: &QaConfig,
    ) -> Result<Self, NoItem> {
        let image = figure.stored.clone().ok_or(NoItem::NoImage)?;
        let caption = one_line(figure.caption.as_deref().unwrap_or_default());
        // "No caption" is what the paper's code writes.
        let caption = if caption.eq_ignore_ascii_case("no caption") { String::new() } else { caption };
        if caption.is_empty() && !config.without_caption {
            return Err(NoItem::NoCaption);
        }
        let Some(section) = page.sections.get(section) else { return Err(NoItem::ShortText(0)) };
        let count = word_count(&section.text);
        if count <= config.more_words_than {
            return Err(NoItem::ShortText(count));
        }
        Ok(Self {
            id: format!("{shard:05}-{index:06}"),
            index,
            page: Page { sections: Vec::new(), ..page.clone() },
            heading: one_line(&section.title),
            text: shortened(&section.text, config.max_text),
            caption,
            figure: figure.clone(),
            image,
        })
    }
}

pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The beginning of a text, up to the last end of a sentence (or word) before the limit.
fn shortened(text: &str, limit: usize) -> String {
    let Some((end, _)) = text.char_indices().nth(limit) else { return text.trim().to_string() };
    let part = text.get(..end).unwrap_or_default();
    let sentence = part.rfind(". ").map(|at| at + 1).filter(|at| *at > part.len() / 2);
    let word = part.rfind(char::is_whitespace);
    part.get(..sentence.or(word).unwrap_or(part.len())).unwrap_or_default().trim().to_string()
}

/// A question with its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QaPair {
    /// Kind of the question; none with the paper's prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<QuestionKind>,
    /// The question.
    pub question: String,
    /// The answer.
    pub answer: String,
    /// The part of caption or text that supports the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
}

/// An image with its questions: a line of the stage `qa`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QaRecord {
    /// Id, unique in the workspace.
    pub id: String,
    /// Questions and answers.
    pub pairs: Vec<QaPair>,
    /// The caption.
    pub caption: String,
    /// Field of the topic.
    pub field: String,
    /// Subfield of the topic.
    pub subfield: String,
    /// Topic for which the page was found.
    pub topic: String,
    /// Title of the page.
    pub title: String,
    /// Address of the page.
    pub page: String,
    /// Licence of the page's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_licence: Option<Licence>,
    /// Heading of the section.
    pub heading: String,
    /// Address of the image.
    pub image_url: String,
    /// Address of the page that describes the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_page: Option<String>,
    /// Licence of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<Licence>,
    /// Author of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The image's file, relative to the directory of the stage `images`.
    pub image: StoredImage,
    /// Model that wrote the questions, as its endpoint names it.
    pub model: String,
}

impl QaRecord {
    pub(super) fn new(item: &QaItem, pairs: Vec<QaPair>, model: String) -> Self {
        let (page, figure) = (&item.page, &item.figure);
        Self {
            id: item.id.clone(),
            pairs,
            caption: item.caption.clone(),
            field: page.field.clone(),
            subfield: page.subfield.clone(),
            topic: page.topic.clone(),
            title: page.title.clone(),
            page: page.url.clone(),
            page_licence: page.licence.clone(),
            heading: item.heading.clone(),
            image_url: figure.image.clone(),
            file_page: figure.file_page.clone(),
            licence: figure.licence.clone(),
            author: figure.author.clone(),
            image: item.image.clone(),
            model,
        }
    }
}
