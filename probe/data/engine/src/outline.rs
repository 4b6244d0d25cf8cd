//! Builds the sections of a page in the order in which a reader of HTML or wikitext meets them.

use crate::page::{Figure, Section};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Largest number of sections of a page; what follows belongs to the last.
const MAX_SECTIONS: usize = 10_000;

/// What is read of a page. Every key is optional in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReadOptions {
    /// Whether the text before the first heading is kept. Cambrian-1's engine drops it.
    pub lead: bool,
    /// Whether a section whose title contains "history" is left out with what follows up to the next heading of level
    /// 2, as in Cambrian-1's engine.
    pub skip_history: bool,
    /// Whether items of lists are text.
    pub lists: bool,
    /// Whether formulas stay in the text as TeX; otherwise they are left out.
    pub formulas: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { lead: true, skip_history: true, lists: false, formulas: false }
    }
}

/// The sections of a page while it is read.
#[derive(Debug)]
pub(crate) struct Outline {
    options: ReadOptions,
    sections: Vec<Section>,
    /// Whether what comes is left out: the lead section, or one about history.
    skips: bool,
    /// Whether only a heading of level 2 ends the skipping.
    until_level_2: bool,
}

impl Outline {
    /// Begins a page with its lead section.
    pub fn new(options: ReadOptions) -> Self {
        let lead = Section { level: 1, ..Section::default() };
        Self { options, sections: vec![lead], skips: !options.lead, until_level_2: false }
    }

    /// Begins a section. The level is from 2 to 6.
    pub fn heading(&mut self, level: u8, title: String) {
        if self.until_level_2 && level > 2 {
            return;
        }
        // By characters, so that the Turkish and the Kelvin letters do not matter.
        let history = title.to_lowercase().contains("history");
        self.until_level_2 = self.options.skip_history && history;
        self.skips = self.until_level_2;
        if !self.skips && self.sections.len() < MAX_SECTIONS {
            self.sections.push(Section { title, level, ..Section::default() });
        }
    }

    /// Adds a paragraph, which must be clean; an empty one is ignored.
    pub fn paragraph(&mut self, text: &str) {
        let Some(section) = self.sections.last_mut().filter(|_| !self.skips && !text.is_empty()) else { return };
        if !section.text.is_empty() {
            section.text.push('\n');
        }
        section.text.push_str(text);
    }

    /// Adds a figure. The same image in the same section is added once.
    pub fn figure(&mut self, figure: Figure) {
        let Some(section) = self.sections.last_mut().filter(|_| !self.skips) else { return };
        match section.figures.iter_mut().find(|other| other.image == figure.image) {
            Some(other) if other.caption.is_none() => *other = figure,
            Some(_) => {}
            None => section.figures.push(figure),
        }
    }

    /// Returns the sections with text or figures.
    pub fn finish(self) -> Vec<Section> {
        let filled = |section: &Section| !section.text.is_empty() || !section.figures.is_empty();
        self.sections.into_iter().filter(filled).collect()
    }
}

/// A line of text with single spaces between words: what a browser shows.
#[derive(Debug, Default)]
pub(crate) struct Line {
    text: String,
    space: bool,
    /// Whether something was left out after the last character.
    gap: bool,
}

impl Line {
    /// Appends text; white space of any kind becomes one space, invisible characters are left out.
    pub fn push(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                c if c.is_whitespace() => self.space = true,
                // Soft hyphens, zero-width spaces, direction marks, byte-order marks, control characters. The joiners
                // U+200C and U+200D stay: they are part of the spelling of some languages.
                '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' => {}
                '\u{2060}'..='\u{2069}' | '\u{feff}' => {}
                c if c.is_control() => {}
                c => {
                    // The space before what was left out is none before a comma.
                    let joins = self.gap && matches!(c, ',' | '.' | ';' | ':' | ')') || self.text.is_empty();
                    if self.space && !joins {
                        self.text.push(' ');
                    }
                    (self.space, self.gap) = (false, false);
                    self.text.push(c);
                }
            }
        }
    }

    /// Says that something was left out here, such as a reference or a formula.
    pub fn leave_out(&mut self) {
        self.gap = true;
    }

    /// Returns the line.
    pub fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(options: ReadOptions) -> Vec<String> {
        let mut outline = Outline::new(options);
        outline.paragraph("lead");
        for (level, title) in
            [(2, "Use"), (2, "Early History"), (3, "Egypt"), (4, "Tombs"), (2, "Forms"), (3, "history of it"), (3, "x")]
        {
            outline.heading(level, title.into());
            outline.paragraph("text");
            outline.paragraph("");
        }
        outline.heading(2, "Empty".into());
        outline.finish().into_iter().map(|s| s.title).collect()
    }

    #[test]
    fn lead_and_history_are_options() {
        let paper = ReadOptions { lead: false, ..ReadOptions::default() };
        assert_eq!(titles(paper), ["Use", "Forms"]);
        let all = ReadOptions { skip_history: false, ..ReadOptions::default() };
        assert_eq!(titles(all), ["", "Use", "Early History", "Egypt", "Tombs", "Forms", "history of it", "x"]);
    }

    #[test]
    fn a_figure_with_a_caption_replaces_one_without() {
        let mut outline = Outline::new(ReadOptions::default());
        let figure = |image: &str, caption: Option<&str>| Figure {
            image: image.into(),
            caption: caption.map(Into::into),
            ..Figure::default()
        };
        for (image, caption) in [("a", None), ("b", None), ("a", Some("A")), ("a", Some("B")), ("a", None)] {
            outline.figure(figure(image, caption));
        }
        let sections = outline.finish();
        assert_eq!(sections[0].figures, [figure("a", Some("A")), figure("b", None)]);
    }

    #[test]
    fn lines_read_as_a_browser_shows_them() {
        for (parts, expected) in [
            (&["  two\n\twords "][..], "two words"),
            (&["soft\u{ad}hyphen\u{200b}\u{a0}x\u{7}"], "softhyphen x"),
            (&["نمی\u{200c}خواهم"], "نمی\u{200c}خواهم"),
            (&["the mass ", "|", " , where"], "the mass, where"),
            (&["word", "|", " next ; et", "|", "."], "word next ; et."),
            (&["|", " x"], "x"),
            (&[], ""),
        ] {
            let mut line = Line::default();
            for part in parts {
                if *part == "|" { line.leave_out() } else { line.push(part) }
            }
            assert_eq!(line.finish(), expected);
        }
    }
}
