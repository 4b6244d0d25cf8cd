//! The first pass: comments, references and other tags, and text that is not to be interpreted.

use super::entities::escape;
use crate::outline::ReadOptions;
use std::collections::HashMap;

/// Stands for something that was left out.
pub(super) const GAP: char = '\u{e000}';
/// Stands for a gallery; the number of its lines follows.
pub(super) const GALLERY: char = '\u{e001}';

/// Tags whose contents are no text of the article.
const DROPPED: [&str; 20] = [
    "ref",
    "references",
    "syntaxhighlight",
    "source",
    "timeline",
    "score",
    "imagemap",
    "templatestyles",
    "mapframe",
    "maplink",
    "graph",
    "hiero",
    "categorytree",
    "inputbox",
    "indicator",
    "section",
    "noinclude",
    "includeonly",
    "pre",
    "code",
];
/// Tags whose contents are not interpreted as other text is.
const VERBATIM: [&str; 5] = ["nowiki", "math", "chem", "ce", "gallery"];
/// Tags that end a line of text.
const BLOCKS: [&str; 11] = ["br", "p", "div", "center", "blockquote", "hr", "li", "ul", "ol", "poem", "tr"];

/// A page after the first pass.
#[derive(Debug)]
pub(super) struct Clean {
    /// The text; [`GAP`] and [`GALLERY`] stand for what was taken out.
    pub text: String,
    /// The contents of the galleries, in their order.
    pub galleries: Vec<String>,
    /// Where the last closing tag of each name begins; each is searched for once.
    last_closing: HashMap<String, Option<usize>>,
}

/// Takes out comments, tags, references and galleries, and escapes text that is not to be interpreted.
pub(super) fn clean(text: &str, options: &ReadOptions) -> Clean {
    // Characters that stand for something here mean nothing in a page.
    let text: String = text.chars().filter(|c| !matches!(c, '\u{e000}'..='\u{e00f}' | '\0' | '\r')).collect();
    let lower = text.to_ascii_lowercase();
    let mut clean =
        Clean { text: String::with_capacity(text.len()), galleries: Vec::new(), last_closing: HashMap::new() };
    let mut at = 0;
    while let Some(found) = text.get(at..).and_then(|rest| rest.find('<')) {
        clean.text.push_str(text.get(at..at + found).unwrap_or_default());
        at += found;
        at = clean.tag(&text, &lower, at, options);
    }
    clean.text.push_str(text.get(at..).unwrap_or_default());
    clean
}

impl Clean {
    /// Handles what begins with `<` at `at`; returns where the text goes on.
    fn tag(&mut self, text: &str, lower: &str, at: usize, options: &ReadOptions) -> usize {
        let rest = lower.get(at..).unwrap_or_default();
        if rest.starts_with("<!--") {
            // A comment without an end reaches to the end of the page.
            return rest.find("-->").map_or(text.len(), |end| at + end + 3);
        }
        let closing = rest.starts_with("</");
        let name_at = at + 1 + usize::from(closing);
        let name = lower.get(name_at..).unwrap_or_default();
        let name =
            name.get(..name.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(name.len())).unwrap_or_default();
        // Longer words after `<` are no tags; the end of a tag is searched for in its vicinity only.
        let end = match name.len() {
            1..=20 => {
                memchr::memchr(b'>', rest.as_bytes().get(..4000).unwrap_or(rest.as_bytes())).map(|end| at + end + 1)
            }
            _ => None,
        };
        let Some(end) = end else {
            self.text.push('<');
            return at + 1;
        };
        let alone = closing || text.get(..end).is_some_and(|tag| tag.ends_with("/>"));
        // The contents up to the closing tag, whose absence is known without another search.
        let close = format!("</{name}");
        let has_contents = DROPPED.contains(&name) || VERBATIM.contains(&name);
        let last = match has_contents && !alone {
            true => *self.last_closing.entry(name.to_string()).or_insert_with(|| lower.rfind(&close)),
            false => None,
        };
        let contents = || {
            let last = last.filter(|last| *last >= end)?;
            let inner = lower.get(end..).and_then(|rest| rest.find(&close)).map_or(last, |found| end + found);
            let after =
                lower.get(inner..).and_then(|rest| rest.find('>')).map_or(text.len(), |found| inner + found + 1);
            Some((text.get(end..inner).unwrap_or_default(), after))
        };
        match name {
            _ if VERBATIM.contains(&name) && !alone => {
                let Some((inner, after)) = contents() else { return end };
                match name {
                    "nowiki" => self.text.push_str(&escape(inner)),
                    "gallery" => {
                        self.galleries.push(inner.to_string());
                        self.text.extend(['\n', GALLERY, '\n']);
                    }
                    _ => {
                        if options.formulas {
                            self.text.push_str(&escape(inner.trim()));
                        }
                        self.text.push(GAP);
                    }
                }
                after
            }
            _ if DROPPED.contains(&name) => {
                self.text.push(GAP);
                if alone { end } else { contents().map_or(end, |(_, after)| after) }
            }
            _ if BLOCKS.contains(&name) => {
                // A line break is a space; other blocks end a paragraph.
                self.text.push_str(if name == "br" { " " } else { "\n\n" });
                end
            }
            _ => end,
        }
    }
}
