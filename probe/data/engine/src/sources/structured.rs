//! Wikimedia's structured contents: one JSON object per line, as `wikimedia/structured-wikipedia` and the Enterprise
//! snapshots have them.
//!
//! Read are `name`, `url`, `in_language.identifier`, `license[]` (`name`, `url`) and `sections[]`: parts with `type`
//! (`section`, `paragraph`, `list`, `list_item`, `image`, …), `name`, `value`, `has_parts[]` and `images[]`
//! (`content_url`, `caption`, `alternative_text`). `sections` may also be a string that holds the JSON, as tables of
//! the hub have it.

use super::page_source::{Each, Reading};
use super::records::{self, Counted, Next};
use super::{PageSource, Part};
use crate::html;
use crate::outline::{Line, Outline, ReadOptions};
use crate::page::{Figure, Licence, Page};
use crate::skips::Skips;
use burgess_base::Result;
use serde_json::Value;
use std::path::PathBuf;

/// Files of structured contents.
#[derive(Debug)]
pub(super) struct Structured {
    pub files: Vec<PathBuf>,
    pub options: ReadOptions,
}

impl PageSource for Structured {
    fn description(&self) -> String {
        self.files.first().map_or_else(String::new, |file| file.display().to_string())
    }

    fn check(&self) -> Result<()> {
        records::check(&self.files)
    }

    fn read(&self, part: &Part<'_>, skips: &mut Skips, each: Each<'_>) -> Result<()> {
        let mut reading = Reading::new(part, self.files.len(), skips, each);
        let files: Vec<&PathBuf> = reading.division.files(&self.files).collect();
        for path in files {
            let mut file = Counted::new(records::open(path).map_err(|e| records::cannot_open(path, e))?);
            let mut number = 0u64;
            loop {
                number += 1;
                let place = || format!("{}:{number}", path.display());
                let line = match file.line() {
                    Ok(Next::End) => break,
                    Ok(Next::Record(record)) => record.bytes,
                    Ok(Next::TooLarge(_)) => {
                        reading.division.is_next();
                        reading.skips.add("the record is too large", place());
                        continue;
                    }
                    Err(e) => {
                        reading.skips.add("the file is damaged", format!("{}: {e}", place()));
                        break;
                    }
                };
                if line.iter().all(u8::is_ascii_whitespace) || !reading.division.is_next() {
                    continue;
                }
                match self.page(&line) {
                    Ok(page) => reading.page(page)?,
                    Err(why) => reading.skips.add("the line is no page", format!("{}: {why}", place())),
                }
            }
        }
        Ok(())
    }
}

impl Structured {
    fn page(&self, line: &[u8]) -> std::result::Result<Page, String> {
        let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_string())?;
        let value: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|e| e.to_string())?;
        let string = |value: &Value| value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_string);
        let title = string(&value["name"]).ok_or("it has no `name`")?;
        let url = string(&value["url"]).ok_or("it has no `url`")?;
        // A table's column holds the JSON as text.
        let parsed: Value;
        let sections = match &value["sections"] {
            Value::String(inner) => {
                parsed = serde_json::from_str(inner).map_err(|e| format!("`sections` is no JSON: {e}"))?;
                &parsed
            }
            other => other,
        };
        let licence = match &value["license"] {
            Value::Array(all) => all.first().unwrap_or(&Value::Null),
            other => other,
        };
        let mut outline = Outline::new(self.options);
        match sections {
            Value::Array(parts) => parts.iter().for_each(|part| self.part(part, 1, &mut outline)),
            Value::Null => {}
            _ => return Err("`sections` is no list".into()),
        }
        Ok(Page {
            language: string(&value["in_language"]["identifier"]),
            licence: string(&licence["name"]).map(|name| Licence { name, url: string(&licence["url"]) }),
            sections: outline.finish(),
            url,
            title,
            ..Page::default()
        })
    }

    /// Reads a part; JSON limits its nesting to 128.
    fn part(&self, part: &Value, level: u8, outline: &mut Outline) {
        let kind = part["type"].as_str().unwrap_or_default();
        let is_section = kind == "section";
        let inner = match is_section {
            true => {
                let name = part["name"].as_str().map(clean).unwrap_or_default();
                // The lead section is called `Abstract`.
                if level > 1 || !matches!(name.as_str(), "" | "Abstract") {
                    outline.heading(level.clamp(2, 6), name);
                }
                level.saturating_add(1).max(3)
            }
            false => level,
        };
        let is_text = matches!(kind, "paragraph" | "") || self.options.lists && kind == "list_item";
        if let Some(text) = part["value"].as_str().filter(|_| is_text) {
            outline.paragraph(&clean(text));
        }
        if kind == "image" {
            self.image(part, outline);
        }
        for image in part["images"].as_array().into_iter().flatten() {
            self.image(image, outline);
        }
        for below in part["has_parts"].as_array().into_iter().flatten() {
            self.part(below, inner, outline);
        }
    }

    fn image(&self, image: &Value, outline: &mut Outline) {
        let Some(url) = image["content_url"].as_str().and_then(|url| html::absolute(None, url)) else { return };
        let text = |name: &str| image[name].as_str().map(clean).filter(|text| !text.is_empty());
        let licence = &image["license"];
        let licence = licence.as_array().and_then(|all| all.first()).unwrap_or(licence);
        let name = licence["name"].as_str().map(str::to_string);
        outline.figure(Figure {
            image: html::original(&url),
            caption: text("caption"),
            alt: text("alternative_text"),
            licence: name.map(|name| Licence { name, url: licence["url"].as_str().map(str::to_string) }),
            ..Figure::default()
        });
    }
}

/// Returns a text on one line.
fn clean(text: &str) -> String {
    let mut line = Line::default();
    line.push(text);
    line.finish()
}
