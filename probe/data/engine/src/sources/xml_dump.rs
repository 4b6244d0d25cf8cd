//! XML dumps of a wiki (`…-pages-articles.xml`): articles in wikitext.
//!
//! The elements `page` are taken out one by one and parsed each by itself, so that a damaged one does not stop the
//! others.

use super::page_source::{Each, Reading};
use super::records::{self, Counted, Next};
use super::wikitext::{WikiNames, read_wikitext};
use super::{ImageLookup, PageSource, Part};
use crate::outline::ReadOptions;
use crate::page::Page;
use crate::skips::Skips;
use crate::sources::mediawiki::encoded;
use burgess_base::{Result, guard};
use memchr::memmem;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use std::io::BufRead;
use std::path::{Path, PathBuf};

/// Dumps of a wiki.
#[derive(Debug)]
pub(super) struct XmlDump {
    pub files: Vec<PathBuf>,
    pub lookup: Option<ImageLookup>,
    pub options: ReadOptions,
}

impl PageSource for XmlDump {
    fn description(&self) -> String {
        self.files.first().map_or_else(String::new, |file| file.display().to_string())
    }

    fn check(&self) -> Result<()> {
        records::check(&self.files)?;
        self.lookup.as_ref().map_or(Ok(()), ImageLookup::check)
    }

    fn read(&self, part: &Part<'_>, skips: &mut Skips, each: Each<'_>) -> Result<()> {
        let mut reading = Reading::new(part, self.files.len(), skips, each);
        let files: Vec<&PathBuf> = reading.division.files(&self.files).collect();
        for path in files {
            let file = records::open(path).map_err(|e| records::cannot_open(path, e))?;
            self.file(path, Counted::new(file), &mut reading)?;
        }
        Ok(())
    }
}

impl XmlDump {
    fn file(&self, path: &Path, mut file: Counted<impl BufRead>, reading: &mut Reading<'_, '_>) -> Result<()> {
        // The names of namespaces stand before the first page.
        let mut names = WikiNames::default();
        let mut site = Site::default();
        loop {
            let next = match file.between(b"<page>", b"</page>") {
                Ok(next) => next,
                Err(e) => {
                    reading.skips.add("the file is damaged", format!("{}: {e}", records::place(path, file.at)));
                    return Ok(());
                }
            };
            let record = match next {
                Next::End => return Ok(()),
                Next::TooLarge(at) => {
                    reading.division.is_next();
                    reading.skips.add("the record is too large", records::place(path, at));
                    continue;
                }
                Next::Record(record) => record,
            };
            if site.is_unknown() {
                site = Site::read(path);
                names = site.names();
            }
            let mine = reading.division.is_next();
            let bytes = record.bytes.as_slice();
            // A page whose end was lost contains the next one, which is whole.
            let last = memmem::rfind(bytes, b"<page>").unwrap_or(0);
            if last > 0 && mine {
                reading.skips.add("the XML is damaged", records::place(path, record.at));
            }
            if !mine {
                continue;
            }
            let place = || records::place(path, record.at + last as u64);
            let parsed = guard::third_party("the XML", || parse(bytes.get(last..).unwrap_or_default()));
            let found = match parsed {
                Ok(Ok(found)) => found,
                Ok(Err(why)) => {
                    reading.skips.add("the XML is damaged", format!("{}: {why}", place()));
                    continue;
                }
                Err(e) => {
                    reading.skips.add("the XML is damaged", format!("{}: {e}", place()));
                    continue;
                }
            };
            // Pages of other namespaces and redirects are no articles; a dump has millions of them.
            let reason = match &found {
                found if found.namespace != "0" => Some("the page is no article"),
                found if found.redirect => Some("the page is a redirect"),
                found if !found.model.is_empty() && found.model != "wikitext" => Some("the page is not in wikitext"),
                _ => None,
            };
            if let Some(reason) = reason {
                reading.skips.add(reason, format!("{}: {}", place(), found.title));
                continue;
            }
            if !reading.titles.wants(&found.title) {
                continue;
            }
            let mut page = Page {
                url: names.article.replace("$1", &encoded(&found.title)),
                sections: read_wikitext(&found.text, &names, &self.options),
                title: found.title,
                language: site.language.clone(),
                ..Page::default()
            };
            if let Some(lookup) = &self.lookup {
                lookup.fill_or_count(&mut page, reading.skips)?;
            }
            reading.page(page)?;
        }
    }
}

/// What the head of a dump says.
#[derive(Debug, Default)]
struct Site {
    read: bool,
    base: String,
    language: Option<String>,
    files: Vec<String>,
    categories: Vec<String>,
}

impl Site {
    fn is_unknown(&self) -> bool {
        !self.read
    }

    /// Reads the head of a file; what it lacks is the default.
    fn read(path: &Path) -> Self {
        let mut site = Self { read: true, ..Self::default() };
        let Ok(file) = records::open(path) else { return site };
        let Ok(Next::Record(head)) = Counted::new(file).between(b"<mediawiki", b"</siteinfo>") else { return site };
        let head = String::from_utf8_lossy(&head.bytes).into_owned();
        let between = |begin: &str, end: &str| {
            let rest = head.get(head.find(begin)? + begin.len()..)?;
            Some(rest.get(..rest.find(end)?)?.trim().to_string()).filter(|text| !text.is_empty())
        };
        site.language = between("xml:lang=\"", "\"");
        site.base = between("<base>", "</base>").unwrap_or_default();
        let names = |key: &str| {
            let tag = format!("<namespace key=\"{key}\"");
            let rest = head.get(head.find(&tag)?..)?;
            let name = rest.get(rest.find('>')? + 1..rest.find("</namespace>")?)?;
            Some(name.trim().to_lowercase())
        };
        site.files.extend(names("6"));
        site.categories.extend(names("14"));
        site
    }

    fn names(&self) -> WikiNames {
        let mut names = WikiNames::default();
        names.files.extend(self.files.iter().cloned());
        names.categories.extend(self.categories.iter().cloned());
        // The address of the main page without its title.
        if let Some((folder, _)) = self.base.rsplit_once('/').filter(|(folder, _)| folder.contains("://")) {
            names.article = format!("{folder}/$1");
        }
        names
    }
}

/// A page of a dump.
#[derive(Debug, Default)]
struct DumpPage {
    title: String,
    namespace: String,
    redirect: bool,
    model: String,
    text: String,
}

/// Parses one element `page`; of several revisions the last is kept.
fn parse(xml: &[u8]) -> std::result::Result<DumpPage, String> {
    let xml =
        std::str::from_utf8(xml).map_err(|e| format!("it is not UTF-8 at byte {} of the page", e.valid_up_to()))?;
    let mut reader = Reader::from_str(xml);
    let mut page = DumpPage::default();
    let mut path: Vec<String> = Vec::new();
    let mut value = String::new();
    let name = |tag: &BytesStart<'_>| tag.local_name().as_ref().to_string();
    loop {
        let at = reader.buffer_position();
        let odd = |e: &dyn std::fmt::Display| format!("{e} (byte {at} of the page)");
        match reader.read_event().map_err(|e| odd(&e))? {
            Event::Start(tag) => {
                path.push(name(&tag));
                value.clear();
                if path.len() > 8 {
                    return Err("elements are nested more than 8 deep".into());
                }
            }
            Event::Empty(tag) => page.redirect |= tag.local_name().as_ref() == "redirect" && path.len() == 1,
            Event::Text(text) => value.push_str(&text),
            Event::CData(text) => value.push_str(&text),
            Event::GeneralRef(entity) => {
                let name = entity.to_string();
                match (entity.resolve_char_ref().map_err(|e| odd(&e))?, name.as_str()) {
                    (Some(c), _) => value.push(c),
                    (None, "amp") => value.push('&'),
                    (None, "lt") => value.push('<'),
                    (None, "gt") => value.push('>'),
                    (None, "quot") => value.push('"'),
                    (None, "apos") => value.push('\''),
                    (None, other) => return Err(odd(&format!("the entity `{other}` is unknown"))),
                }
            }
            Event::End(_) => {
                let inner = path.iter().map(String::as_str).collect::<Vec<_>>();
                let target = match inner.as_slice() {
                    ["page", "title"] => Some(&mut page.title),
                    ["page", "ns"] => Some(&mut page.namespace),
                    ["page", "revision", "model"] => Some(&mut page.model),
                    ["page", "revision", "text"] => Some(&mut page.text),
                    _ => None,
                };
                if let Some(target) = target {
                    *target = std::mem::take(&mut value).trim().to_string();
                }
                value.clear();
                path.pop();
            }
            Event::Eof if path.is_empty() => break,
            Event::Eof => return Err("the page ends before `</page>`".into()),
            _ => {}
        }
    }
    match page.title.is_empty() {
        true => Err("the page has no title".into()),
        false => Ok(page),
    }
}
