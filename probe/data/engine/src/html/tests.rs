//! Pages in MediaWiki's markup before and after version 1.43, pages of other sites, and hostile pages.

use super::figures::srcset;
use super::*;
use crate::page::Figure;
use std::fmt::Write;

const URL: &str = "https://wiki.test/wiki/Oak";

/// The article, with headings as MediaWiki writes them since 1.43 (in a wrapper) or before (with `.mw-headline`).
fn oak(wrapped: bool) -> String {
    let mut html = String::new();
    for line in include_str!("../../../../../tests/fuzz/corpus/html-page/oak.html").lines() {
        let heading = line.strip_prefix("<!--H").and_then(|rest| rest.strip_suffix("-->"));
        let Some((level, title)) = heading.and_then(|heading| heading.split_once(' ')) else {
            html += line;
            html += "\n";
            continue;
        };
        let id = title.replace(' ', "_");
        let edit = "<span class=\"mw-editsection\"><span>[</span><a href=\"/e\">edit</a><span>]</span></span>";
        let written = match wrapped {
            true => writeln!(
                html,
                "<div class=\"mw-heading mw-heading{level}\"><h{level} id=\"{id}\">{title}</h{level}>{edit}</div>"
            ),
            false => {
                writeln!(html, "<h{level}><span class=\"mw-headline\" id=\"{id}\">{title}</span>{edit}</h{level}>")
            }
        };
        written.unwrap();
    }
    html
}

fn figure(image: &str, caption: Option<&str>, page: Option<&str>) -> Figure {
    Figure {
        image: format!("https://upload.test/commons/{image}"),
        caption: caption.map(Into::into),
        file_page: page.map(|page| format!("https://wiki.test/wiki/File:{page}")),
        ..Figure::default()
    }
}

#[test]
fn an_article_is_read_alike_in_both_markups() {
    let lead = Figure {
        alt: Some("An oak in a field".into()),
        ..figure("a/a1/Lead.jpg", Some("An oak in a field"), Some("Lead.jpg"))
    };
    let section = |title: &str, level, text: &str, figures: Vec<Figure>| Section {
        title: title.into(),
        level,
        text: text.into(),
        figures,
    };
    let expected = [
        section("", 1, "An oak is a tree of the genus Quercus.", vec![lead]),
        section(
            "Use",
            2,
            "The wood has a density of about, and resists insects.\nBarrels are made of it.",
            vec![figure("c/c2/Oak_barrel.svg", Some("A barrel of oak"), Some("Oak_barrel.svg"))],
        ),
        section(
            "In buildings",
            3,
            "Beams of oak carry roofs.\nA line with an icon inside.",
            vec![figure("b/be/Beam.png", None, Some("Beam.png"))],
        ),
        section(
            "Diseases",
            2,
            "Oak wilt is a disease.",
            vec![
                figure("w/w1/Wilt_1.jpg", Some("Leaves with wilt"), Some("Wilt_1.jpg")),
                figure("w/w2/Wilt_2.jpg", None, None),
                figure("g/g1/Gall.jpg", Some("A gall"), None),
                figure("g/g2/Cut.jpg", Some("Galls, whole and cut"), None),
            ],
        ),
    ];
    for wrapped in [true, false] {
        let page = read(&oak(wrapped), URL, &ReadOptions::default()).unwrap();
        for (found, expected) in page.sections.iter().zip(&expected) {
            assert_eq!(found, expected, "wrapped: {wrapped}");
        }
        assert_eq!(page.sections.len(), expected.len());
        let all = ReadOptions { lead: false, skip_history: false, lists: true, formulas: true };
        let page = read(&oak(wrapped), URL, &all).unwrap();
        let titles: Vec<&str> = page.sections.iter().map(|s| s.title.as_str()).collect();
        assert_eq!(titles, ["Use", "In buildings", "Cultural history", "Rome", "Diseases"]);
        let text = &page.sections[0].text;
        assert!(text.contains("of about 0.75, and") && text.ends_with("\nCasks\nFloors"), "{text}");
    }
}

/// The first element below another with a name or class.
fn first<'a>(element: ElementRef<'a>, wanted: &str) -> Option<ElementRef<'a>> {
    let has_class = |inner: &ElementRef<'_>| inner.value().classes().any(|class| class == wanted);
    let mut inner = element.descendants().filter_map(ElementRef::wrap);
    inner.find(|inner| inner.value().name() == wanted || has_class(inner))
}

/// Title, text, and images with captions of a section.
type PaperSection = (String, String, Vec<(String, String)>);

/// The rules of the paper's script `wikiflow.py` on the old markup, as far as they work: headings of level 2 to 6
/// except the last, the siblings up to the next heading, `p` as text, `figure` and `div.thumb` as images.
fn by_the_paper(html: &str) -> Vec<PaperSection> {
    let html = Html::parse_fragment(html);
    let name = |element: ElementRef<'_>| element.value().name().to_string();
    let is_heading = |name: &str| matches!(name, "h2" | "h3" | "h4" | "h5" | "h6");
    let headings: Vec<ElementRef<'_>> =
        html.tree.nodes().filter_map(ElementRef::wrap).filter(|e| is_heading(e.value().name())).collect();
    let (mut found, mut skips) = (Vec::new(), false);
    for heading in headings.iter().take(headings.len() - 1) {
        if name(*heading) == "h2" {
            skips = false;
        }
        let title = first(*heading, "mw-headline").map_or("No title".into(), |e| e.text().collect::<String>());
        skips |= title.to_lowercase().contains("history");
        let (mut text, mut images) = (String::new(), Vec::new());
        for sibling in heading.next_siblings().filter_map(ElementRef::wrap) {
            if is_heading(sibling.value().name()) || skips {
                break;
            }
            let is_thumb = sibling.value().classes().any(|class| class == "thumb");
            if name(sibling) == "p" {
                text += &sibling.text().collect::<String>();
            } else if name(sibling) == "figure" || is_thumb {
                let caption = first(sibling, "figcaption").or_else(|| first(sibling, "thumbcaption"));
                let caption = caption.map_or("No caption".into(), |e| e.text().collect::<String>());
                let image = first(sibling, "img").and_then(|img| img.value().attr("src")).unwrap_or_default();
                images.push((format!("https:{image}"), caption));
            }
        }
        if !text.is_empty() && !images.is_empty() {
            found.push((title, text, images));
        }
    }
    found
}

#[test]
fn where_the_papers_rules_work_the_figures_and_texts_are_the_same() {
    let paper = by_the_paper(&oak(false));
    let options = ReadOptions { lead: false, formulas: true, ..ReadOptions::default() };
    let ours = read(&oak(false), URL, &options).unwrap().sections;
    let titles: Vec<&str> = paper.iter().map(|(title, ..)| title.as_str()).collect();
    assert_eq!(titles, ["Use", "In buildings", "Diseases"]);
    assert_eq!(titles, ours.iter().map(|s| s.title.as_str()).collect::<Vec<_>>());
    let letters = |text: &str| text.chars().filter(|c| c.is_alphabetic()).collect::<String>();
    for ((_, text, images), section) in paper.iter().zip(&ours) {
        // Apart from references and formulas, which the paper's text repeats, the letters are the same.
        let cleaned = text.replace("citation needed", "").replace("x{\\displaystyle 0.75}", "");
        assert_eq!(letters(&cleaned), letters(&section.text));
        // The paper's images are among ours; a missing caption is none here.
        for (image, caption) in images {
            let found = section.figures.iter().find(|figure| figure.image == original(image)).unwrap();
            let own = found.caption.clone().unwrap_or_else(|| "No caption".into());
            let expected = caption.replace("[3]", "");
            assert!(own == expected || expected.is_empty() && own == "No caption", "{own} / {expected}");
        }
    }
    // On the markup of today the paper's rules find nothing.
    assert!(by_the_paper(&oak(true)).is_empty());
}

#[test]
fn pages_of_other_sites_are_read() {
    let page = read(
        include_str!("../../../../../tests/fuzz/corpus/html-page/web.html"),
        "https://lexikon.test/b?id=1",
        &ReadOptions::default(),
    )
    .unwrap();
    assert_eq!((page.title.as_str(), page.language.as_deref()), ("Brücken", Some("de")));
    assert_eq!(page.canonical.as_deref(), Some("https://lexikon.test/bruecken"));
    assert_eq!(page.unusable_images, 1, "an image inside the page");
    let licence = page.licence.unwrap();
    assert_eq!(licence.url.as_deref(), Some("https://creativecommons.org/licenses/by/4.0/"));
    let [lead, arches, deep, open] = page.sections.as_slice() else { panic!("{:#?}", page.sections) };
    assert_eq!(lead.text, "Eine Brücke überspannt ein Tal.");
    assert_eq!(arches.text, "Ein Bogen schläft nie.");
    let images: Vec<(&str, Option<&str>, Option<&str>)> = arches
        .figures
        .iter()
        .map(|figure| (figure.image.as_str(), figure.caption.as_deref(), figure.alt.as_deref()))
        .collect();
    assert_eq!(
        images,
        [
            ("https://cdn.test/seiten/a-1600.webp", Some("Ein Bogen aus Stein"), Some("Ein Bogen aus Stein")),
            ("https://cdn.test/bilder/b.jpg", None, None),
            ("https://cdn.test/seiten/c.jpg", None, None),
            ("https://upload.test/d/d.jpg", None, Some("Mobil")),
        ]
    );
    assert_eq!((deep.level, deep.text.as_str()), (5, "Text ohne Ende"));
    assert_eq!((open.title.as_str(), open.text.as_str()), ("Offen", "Noch ein\nAbsatz hier"));
    // A page of a folder has no address: relative ones stay.
    let page = read("<p>x</p><img src='img/a.png'><img src='//x.org/b.png'>", "pages/a.html", &ReadOptions::default());
    let images: Vec<String> = page.unwrap().sections[0].figures.iter().map(|f| f.image.clone()).collect();
    assert_eq!(images, ["img/a.png", "https://x.org/b.png"]);
}

#[test]
fn sizes_of_images_are_read_as_browsers_read_them() {
    let of = |set| srcset(set).map(|(n, url)| (n, url.to_string())).collect::<Vec<_>>();
    assert_eq!(of("a.jpg"), [(1.0, "a.jpg".into())]);
    assert_eq!(of("a.jpg, b.jpg 2x"), [(1.0, "a.jpg".into()), (2.0, "b.jpg".into())]);
    assert_eq!(of(" a,b.jpg 1.5x ,c.jpg 300w,"), [(1.5, "a,b.jpg".into()), (300.0, "c.jpg".into())]);
    assert_eq!(of("a.jpg x, , ,"), [(1.0, "a.jpg".into())]);
    assert!(of(" , ").is_empty() && of("").is_empty());
}

#[test]
fn hostile_pages_are_bounded() {
    let error = |html: &str| read(html, URL, &ReadOptions::default()).unwrap_err().to_string();
    for tag in ["<div>", "<b>", "<ul><li>", "<table><tr><td>", "<p><i>", "<span><svg>", "<select><option>"] {
        match read(&tag.repeat(20_000), URL, &ReadOptions::default()) {
            // The parser itself closes these.
            Ok(_) => assert!(matches!(tag, "<select><option>" | "<p><i>"), "{tag}"),
            Err(e) => assert!(e.to_string().contains("nested more than 512 deep"), "{tag}: {e}"),
        }
    }
    // Deep elements that are closed, or hidden behind a comment at the end of each piece, are found too.
    let closed = format!("{}{}", "<div>".repeat(3000), "</div>".repeat(3000));
    assert!(error(&closed).contains("512 deep"));
    let hidden = format!("{}</html><!--{}-->", "<div>".repeat(100), "x".repeat(400)).repeat(50);
    assert!(error(&hidden).contains("512 deep"));
    // Formatting elements that are opened again in each paragraph.
    let mut formatting = String::new();
    for n in 0..30_000 {
        write!(formatting, "<p><b id={n}></p><div></div>").unwrap();
    }
    assert!(error(&formatting).contains("more than"));
    for html in ["", "<", "<!--", "<![CDATA[", "\0\0", "</p></div>", "<h2>", "<figure><figcaption>", "<base href='::'>"]
    {
        read(html, "not an address", &ReadOptions::default()).unwrap();
    }
}
