//! The articles of the wiki, which were written for these tests (`pages/*.txt`).

/// Form of a page's headings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Headings {
    /// `<div class="mw-heading"><h2>`, as MediaWiki writes since 1.43.
    Wrapped,
    /// `<h2><span class="mw-headline">`, as it wrote before.
    Old,
}

/// Way in which an image stands on a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FigureStyle {
    /// `<figure>` with a caption.
    Thumb,
    /// `<figure>` with an empty caption.
    NoCaption,
    /// `<div class="thumb">`.
    Old,
    /// A box of a gallery.
    Gallery,
    /// The image of the table at the top.
    Infobox,
}

/// An image on a page.
#[derive(Debug, Clone)]
pub struct PageFigure {
    pub style: FigureStyle,
    /// Name of the file without `File:`.
    pub file: String,
    pub caption: String,
}

/// A section: heading, text and images.
#[derive(Debug, Clone)]
pub struct ArticleSection {
    /// 0 for the lead section, which has no heading.
    pub level: usize,
    pub title: String,
    /// Text, without markup.
    pub text: String,
    pub figures: Vec<PageFigure>,
    /// What else the section has: `refs` is a list of references, `plain` a list of links.
    pub extra: Option<String>,
}

impl ArticleSection {
    /// The two paragraphs in which the text is shown; the second may be empty.
    pub fn paragraphs(&self) -> (&str, &str) {
        let middle = self.text.len() / 2;
        let cut = self.text[..middle].rfind(". ").map_or(self.text.len(), |at| at + 1);
        let (first, second) = self.text.split_at(cut);
        (first, second.trim())
    }
}

/// An article.
#[derive(Debug, Clone)]
pub struct Article {
    pub id: usize,
    pub title: String,
    pub headings: Headings,
    pub redirects: Vec<String>,
    pub categories: Vec<String>,
    pub sections: Vec<ArticleSection>,
}

const TEXTS: [&str; 12] = [
    include_str!("../../pages/astrolabe.txt"),
    include_str!("../../pages/honeybee.txt"),
    include_str!("../../pages/leaf.txt"),
    include_str!("../../pages/lighthouse.txt"),
    include_str!("../../pages/locomotive.txt"),
    include_str!("../../pages/mosaic.txt"),
    include_str!("../../pages/sundial.txt"),
    include_str!("../../pages/suspension.txt"),
    include_str!("../../pages/tidepool.txt"),
    include_str!("../../pages/volcano.txt"),
    include_str!("../../pages/watermill.txt"),
    include_str!("../../pages/windmill.txt"),
];

impl Article {
    /// All articles, in the order of their titles' files.
    pub fn all() -> Vec<Self> {
        TEXTS.iter().enumerate().map(|(index, text)| Self::parse(1001 + index * 7, text)).collect()
    }

    fn parse(id: usize, text: &str) -> Self {
        let mut article = Self {
            id,
            title: String::new(),
            headings: Headings::Wrapped,
            redirects: Vec::new(),
            categories: Vec::new(),
            sections: Vec::new(),
        };
        let list = |value: &str| value.split(',').map(|w| w.trim().to_string()).filter(|w| !w.is_empty()).collect();
        for line in text.lines() {
            if line.starts_with("==") {
                let title = line.trim_matches('=').trim().to_string();
                let level = if title.is_empty() { 0 } else { line.chars().take_while(|c| *c == '=').count() };
                let (text, figures) = (String::new(), Vec::new());
                article.sections.push(ArticleSection { level, title, text, figures, extra: None });
                continue;
            }
            let Some(section) = article.sections.last_mut() else {
                let (key, value) = line.split_once(':').expect("a header of a page");
                match key {
                    "title" => article.title = value.trim().into(),
                    "headings" if value.trim() == "old" => article.headings = Headings::Old,
                    "redirects" => article.redirects = list(value),
                    "categories" => article.categories = list(value),
                    _ => {}
                }
                continue;
            };
            if matches!(line, "refs" | "plain") {
                section.extra = Some(line.into());
            } else if let Some(figure) = figure(line) {
                section.figures.push(figure);
            } else {
                section.text.push_str(if section.text.is_empty() { "" } else { " " });
                section.text.push_str(line);
            }
        }
        article
    }

    /// Number of words of the article's text.
    pub fn words(&self) -> usize {
        self.sections.iter().map(|s| s.text.split_whitespace().count()).sum()
    }

    /// All images of the article.
    pub fn figures(&self) -> impl Iterator<Item = &PageFigure> {
        self.sections.iter().flat_map(|section| &section.figures)
    }
}

fn figure(line: &str) -> Option<PageFigure> {
    let (style, rest) = line.split_once(": ")?;
    let style = match style {
        "thumb" => FigureStyle::Thumb,
        "nocaption" => FigureStyle::NoCaption,
        "old" => FigureStyle::Old,
        "gallery" => FigureStyle::Gallery,
        "infobox" => FigureStyle::Infobox,
        _ => return None,
    };
    let (file, caption) = rest.split_once(" | ").unwrap_or((rest, ""));
    Some(PageFigure { style, file: file.into(), caption: caption.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles_have_sections_of_more_than_fifty_words_and_images() {
        let articles = Article::all();
        assert_eq!(articles.len(), 12);
        let mut files = std::collections::BTreeSet::new();
        for article in &articles {
            assert!(article.figures().count() >= 4 && article.sections.len() >= 3, "{}", article.title);
            for section in article.sections.iter().filter(|s| s.extra.is_none()) {
                let words = section.text.split_whitespace().count();
                assert!(words > 50, "{}, {}: {words} words", article.title, section.title);
            }
            for figure in article.figures() {
                assert!(files.insert(figure.file.clone()), "{} stands on two pages", figure.file);
            }
        }
        assert!(files.len() > 55, "{}", files.len());
    }
}
