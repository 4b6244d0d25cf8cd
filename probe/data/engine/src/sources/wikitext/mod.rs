//! Reads the markup of MediaWiki pages: sections, paragraphs, and figures with captions.
//!
//! Not the general grammar, which only MediaWiki itself defines, but what dumps of articles need, in time proportional
//! to the length of the page and with bounded nesting, whatever the page is. Templates are left out, except those that
//! stand for words (`{{convert|5|km}}`, `{{lang|fr|mot}}`); so are tables, references and categories.

mod blocks;
mod brackets;
mod entities;
mod files;
mod inline;
mod markup;
#[cfg(test)]
mod tests;

use crate::outline::ReadOptions;
use crate::page::Section;

/// Names of a wiki's namespaces, and where its files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WikiNames {
    /// Names of the namespace of files, in lower case.
    pub files: Vec<String>,
    /// Names of the namespace of categories, in lower case.
    pub categories: Vec<String>,
    /// Address of a page of the wiki, with `$1` for its title.
    pub article: String,
}

impl Default for WikiNames {
    fn default() -> Self {
        let lower = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        Self {
            files: lower(&["file", "image"]),
            categories: lower(&["category"]),
            article: "https://en.wikipedia.org/wiki/$1".into(),
        }
    }
}

/// Reads a page in wikitext. A redirect has no sections.
pub fn read_wikitext(text: &str, names: &WikiNames, options: &ReadOptions) -> Vec<Section> {
    let is_redirect = text.trim_start().get(..9).is_some_and(|start| start.eq_ignore_ascii_case("#redirect"));
    if is_redirect {
        return Vec::new();
    }
    let clean = markup::clean(text, options);
    blocks::read(&clean, names, options)
}
