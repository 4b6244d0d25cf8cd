//! Pages of a wiki as they are read, compared with what was written there.

use burgess_engine::ReadOptions;
use burgess_engine::html;
use burgess_engine::page::Section;
use burgess_site::{Hostile, WikiOptions, WikiSection, WikiSite};

/// The sections that a reader should find: those with text or images; none about history with what is below it.
fn expected(wiki: &WikiSite, title: &str) -> Vec<WikiSection> {
    let mut history = false;
    let kept = wiki.sections(title).into_iter().filter(|section| {
        if section.level <= 2 {
            history = false;
        }
        history |= section.title.to_lowercase().contains("history");
        !(history || section.text.is_empty() && section.figures.is_empty())
    });
    kept.collect()
}

/// File names and captions of a section, sorted: galleries stand behind the text.
fn figures(section: &Section) -> Vec<(String, String)> {
    let figure = |figure: &burgess_engine::page::Figure| {
        let name = html::file_name(&figure.image).unwrap_or_default().replace('_', " ");
        (name, figure.caption.clone().unwrap_or_default())
    };
    let mut all: Vec<_> = section.figures.iter().map(figure).collect();
    all.sort();
    all
}

#[test]
fn articles_are_read_as_they_were_written() {
    let wiki = WikiSite::start(WikiOptions::default());
    let pages = wiki.html_pages();
    assert_eq!(pages.len(), 12);
    for (title, (_, text)) in wiki.titles().iter().zip(&pages) {
        let url = wiki.url(&format!("/wiki/{}", title.replace(' ', "_")));
        let page = html::read(text, &url, &ReadOptions::default()).expect(title);
        assert_eq!(&page.title, title);
        let expected = expected(&wiki, title);
        let titles: Vec<&str> = page.sections.iter().map(|s| s.title.as_str()).collect();
        assert_eq!(titles, expected.iter().map(|s| s.title.as_str()).collect::<Vec<_>>(), "{title}");
        for (found, written) in page.sections.iter().zip(&expected) {
            let place = format!("{title}, {}", written.title);
            assert_eq!(found.text, written.text, "{place}");
            assert_eq!(usize::from(found.level), written.level.max(1), "{place}");
            let mut images = written.figures.clone();
            images.sort();
            assert_eq!(figures(found), images, "{place}");
            for figure in &found.figures {
                assert!(figure.image.starts_with(&format!("{}/images/", wiki.base_url())), "{place}: {}", figure.image);
                assert!(!figure.image.contains("/thumb/"), "{place}: {}", figure.image);
                assert!(
                    figure.file_page.as_ref().is_some_and(|page| page.contains("/wiki/File:")),
                    "{place}: {figure:?}"
                );
            }
        }
    }
}

#[test]
fn hostile_pages_end_in_a_page_or_an_error() {
    let wiki = WikiSite::start(WikiOptions::default());
    for hostile in Hostile::ALL {
        let bytes = wiki.hostile_page(hostile);
        // The size is the business of the client, which reads at most 64 MB; a tenth of it does here.
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(5 << 20)]);
        let read = html::read(&text, &wiki.url("/wiki/Hostile"), &ReadOptions::default());
        let page = match read {
            Ok(page) => page,
            Err(e) => {
                assert!(hostile == Hostile::Nested, "{hostile:?}: {e}");
                continue;
            }
        };
        for figure in page.sections.iter().flat_map(|section| &section.figures) {
            assert!(figure.image.starts_with("http"), "{hostile:?}: {figure:?}");
            assert!(!figure.caption.iter().any(|c| c.contains('\u{1b}')), "{hostile:?}: {figure:?}");
        }
        assert!(page.sections.iter().any(|section| section.text.split_whitespace().count() > 50), "{hostile:?}");
        assert!(!page.sections.iter().any(|section| section.text.contains(['\u{0}', '\u{1b}'])), "{hostile:?}");
    }
}
