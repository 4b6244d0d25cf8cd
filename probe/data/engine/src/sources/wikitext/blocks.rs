//! Headings, paragraphs, lists, tables and galleries.

use super::WikiNames;
use super::brackets::{Bracket, Brackets};
use super::files::{self, FileLink};
use super::inline::Inline;
use super::markup::{Clean, GALLERY};
use crate::outline::{Line, Outline, ReadOptions};
use crate::page::Section;
use std::ops::Range;

/// Reads a page after the first pass.
pub(super) fn read(clean: &Clean, names: &WikiNames, options: &ReadOptions) -> Vec<Section> {
    let text = clean.text.as_str();
    let brackets = Brackets::of(text);
    let page = Inline { text, brackets: &brackets, names };
    let mut reader =
        Reader { page: &page, options, outline: Outline::new(*options), line: Line::default(), images: Vec::new() };
    let mut galleries = clean.galleries.iter();
    let mut at = 0;
    while at < text.len() {
        let end = line_end(text, &brackets, at);
        let line = text.get(at..end).unwrap_or_default();
        if line.starts_with(GALLERY) {
            reader.end_paragraph();
            let found = galleries.next().map(|gallery| files::gallery(gallery, names)).unwrap_or_default();
            found.into_iter().for_each(|link| reader.outline.figure(link.figure(names)));
        } else {
            reader.line(at..end);
        }
        at = end + 1;
    }
    reader.end_paragraph();
    reader.outline.finish()
}

/// Returns the end of the line that begins here; a pair of brackets may reach over several lines.
fn line_end(text: &str, brackets: &Brackets, begin: usize) -> usize {
    let bytes = text.as_bytes();
    let mut at = begin;
    while let Some(byte) = bytes.get(at) {
        match brackets.at(at) {
            Some((_, end)) => at = end.max(at + 1),
            None if *byte == b'\n' => return at,
            None => at += 1,
        }
    }
    text.len()
}

struct Reader<'a> {
    page: &'a Inline<'a>,
    options: &'a ReadOptions,
    outline: Outline,
    /// The paragraph so far.
    line: Line,
    images: Vec<FileLink>,
}

impl Reader<'_> {
    /// Reads one line.
    fn line(&mut self, range: Range<usize>) {
        let text = self.page.text.get(range.clone()).unwrap_or_default();
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return self.end_paragraph();
        }
        if let Some((level, title)) = heading(text) {
            self.end_paragraph();
            let begin = range.start + (title.as_ptr() as usize - text.as_ptr() as usize);
            let title = self.page.line(begin..begin + title.len(), 0);
            return self.outline.heading(level, title);
        }
        let indent = text.len() - text.trim_start_matches([' ', '\t', ':']).len();
        if matches!(self.page.brackets.at(range.start + indent), Some((Bracket::Table, _))) {
            return self.end_paragraph();
        }
        if trimmed.starts_with("----") {
            return self.end_paragraph();
        }
        if text.starts_with(['*', '#', ';', ':']) {
            self.end_paragraph();
            let marks = text.len() - text.trim_start_matches(['*', '#', ';', ':', ' ']).len();
            let mut item = Line::default();
            self.page.append(range.start + marks..range.end, 0, &mut item, &mut self.images);
            if self.options.lists {
                self.outline.paragraph(&item.finish());
            }
            return self.end_paragraph();
        }
        // A line end inside a paragraph is a space.
        self.line.push(" ");
        self.page.append(range, 0, &mut self.line, &mut self.images);
    }

    /// Ends the paragraph, and adds the images that were in it.
    fn end_paragraph(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.outline.paragraph(&line.finish());
        for link in self.images.drain(..) {
            self.outline.figure(link.figure(self.page.names));
        }
    }
}

/// Returns level and title of a heading: `== Use ==`. Level 1 is that of the page's title and counts as 2.
fn heading(line: &str) -> Option<(u8, &str)> {
    let line = line.trim_end_matches(|c: char| c.is_whitespace() || c == super::markup::GAP);
    let begin = line.bytes().take_while(|b| *b == b'=').count();
    let end = line.bytes().rev().take_while(|b| *b == b'=').count();
    let level = begin.min(end).min(6);
    // `===` alone is a heading of level 1 with the title `=`.
    let title = line.get(level..line.len().checked_sub(level)?)?.trim();
    (level > 0 && line.len() > 2 * level && !title.is_empty()).then_some((level.max(2) as u8, title))
}
