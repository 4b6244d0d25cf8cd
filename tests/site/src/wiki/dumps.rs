//! The articles as files: a folder of HTML pages, an XML dump with wikitext.

use super::article::{Article, FigureStyle};
use super::{WikiSite, html, http_name};
use std::fmt::Write;

impl WikiSite {
    /// File names and contents of the articles as whole HTML pages.
    pub fn html_pages(&self) -> Vec<(String, String)> {
        let page = |article: &Article| {
            let scheme_relative = self.wiki.uploads().trim_start_matches("http:");
            let content = html::content(article, self.wiki.files, scheme_relative);
            (format!("{}.html", http_name(&article.title)), html::page(&article.title, &content))
        };
        self.wiki.articles.iter().map(page).collect()
    }

    /// The articles and their redirects in the form of `pages-articles.xml` of Wikimedia's dumps.
    pub fn xml_dump(&self) -> String {
        let mut xml = format!(
            "<mediawiki xmlns=\"http://www.mediawiki.org/xml/export-0.11/\" version=\"0.11\" xml:lang=\"en\">\n  <siteinfo>\n    \
             <sitename>Test wiki</sitename>\n    <dbname>testwiki</dbname>\n    <base>{}/wiki/Main_Page</base>\n    \
             <generator>MediaWiki 1.45.0</generator>\n    <case>first-letter</case>\n    <namespaces>\n      \
             <namespace key=\"0\" case=\"first-letter\" />\n      <namespace key=\"6\" case=\"first-letter\">File</namespace>\n    \
             </namespaces>\n  </siteinfo>\n",
            self.base_url()
        );
        for article in &self.wiki.articles {
            page_xml(&mut xml, &article.title, 0, article.id, None, &wikitext(article));
            for (index, redirect) in article.redirects.iter().enumerate() {
                let text = format!("#REDIRECT [[{}]]", article.title);
                page_xml(&mut xml, redirect, 0, article.id + index + 1, Some(&article.title), &text);
            }
        }
        page_xml(&mut xml, "File:Lamp room.png", 6, 7001, None, "== Summary ==\nA file.");
        xml + "</mediawiki>\n"
    }
}

fn page_xml(xml: &mut String, title: &str, namespace: u32, id: usize, redirect: Option<&str>, text: &str) {
    let redirect = redirect.map(|to| format!("    <redirect title=\"{}\" />\n", html::escaped(to))).unwrap_or_default();
    write!(
        xml,
        "  <page>\n    <title>{}</title>\n    <ns>{namespace}</ns>\n    <id>{id}</id>\n{redirect}    <revision>\n      \
         <id>{}</id>\n      <timestamp>2024-03-01T12:00:00Z</timestamp>\n      <model>wikitext</model>\n      \
         <format>text/x-wiki</format>\n      <text bytes=\"{}\" xml:space=\"preserve\">{}</text>\n    </revision>\n  </page>\n",
        html::escaped(title),
        id * 10,
        text.len(),
        html::escaped(text)
    )
    .expect("a string");
}

/// An article in the markup of MediaWiki.
fn wikitext(article: &Article) -> String {
    let mut text = String::from("{{Short description|A page of the test wiki}}\n");
    for section in &article.sections {
        if section.level > 0 {
            let marks = "=".repeat(section.level);
            writeln!(text, "\n{marks} {} {marks}", section.title).expect("a string");
        }
        let mut gallery = String::new();
        for figure in &section.figures {
            let (file, caption) = (&figure.file, &figure.caption);
            match figure.style {
                FigureStyle::Gallery => writeln!(gallery, "File:{file}|{caption}").expect("a string"),
                FigureStyle::Infobox => {
                    writeln!(text, "{{{{Infobox\n| image = {file}\n| caption = {caption}\n}}}}").expect("a string");
                }
                FigureStyle::NoCaption => writeln!(text, "[[File:{file}|thumb]]").expect("a string"),
                FigureStyle::Thumb | FigureStyle::Old => {
                    writeln!(text, "[[File:{file}|thumb|right|''{caption}'']]").expect("a string");
                }
            }
        }
        if !section.text.is_empty() {
            let (first, rest) = section.text.split_once(". ").unwrap_or((&section.text, ""));
            writeln!(text, "{first}.<ref>{{{{cite book |title=Works of the Coast}}}}</ref> {rest}").expect("a string");
        }
        if !gallery.is_empty() {
            write!(text, "<gallery>\n{gallery}</gallery>\n").expect("a string");
        }
        if section.extra.as_deref() == Some("refs") {
            text.push_str("{{reflist}}\n");
        }
    }
    for category in &article.categories {
        writeln!(text, "[[Category:{category}]]").expect("a string");
    }
    text
}
