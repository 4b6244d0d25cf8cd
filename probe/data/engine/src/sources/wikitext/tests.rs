//! Pages in wikitext.

use super::*;
use crate::page::Figure;

fn read(text: &str, options: &ReadOptions) -> Vec<Section> {
    let article = "https://w.test/wiki/$1".to_string();
    read_wikitext(text, &WikiNames { article, ..WikiNames::default() }, options)
}

fn text(wikitext: &str) -> String {
    read(wikitext, &ReadOptions::default()).into_iter().map(|s| s.text).collect::<Vec<_>>().join("|")
}

#[test]
fn paragraphs_are_what_a_reader_sees() {
    for (wikitext, expected) in [
        ("An '''oak''' is a ''tree''<ref name=\"a\">{{cite book|title=X}}</ref> .", "An oak is a tree."),
        ("One<ref name=a /> line\nand more\n\nsecond", "One line and more\nsecond"),
        ("the [[Quercus|oak]]s and [[elm]]s, [[Ash#Use]]", "the oaks and elms, Ash"),
        ("a [[Category:Trees]] b [[de:Eiche]] c [[:Category:Trees|all]]", "a b c all"),
        ("see [https://x.org the page] and [https://x.org].", "see the page and."),
        ("about {{convert|5|km|mi}} in {{lang|fr|chêne}} ({{lang-de|Eiche}})", "about 5 km in chêne (Eiche)"),
        ("a {{Infobox\n| x = {{y|z}}\n| w = [[A|b]]\n}} b", "a b"),
        ("x <!-- {{ --> y <!-- never closed", "x y"),
        ("<nowiki>[[a]] ''b''</nowiki>", "[[a]] ''b''"),
        ("{| class=x\n| a\n{|\n| nested\n|}\n|}\nafter", "after"),
        ("1&nbsp;&ndash;&#x20;2 &amp; &unknown; &", "1 – 2 & &unknown; &"),
        ("it''''s'''", "it's"),
        ("l'''amour'' x", "lamour x"),
        ("mass <math>m_1</math> , x", "mass, x"),
        ("a<br>b<br/>c <span style='x'>d</span> <small>e</small>", "a b c d e"),
        ("5 < 6 and 7 > 6", "5 < 6 and 7 > 6"),
        ("__NOTOC__ a __x__", "a __x__"),
        ("open [[link and {{template", "open [[link and {{template"),
        ("[[File:a.jpg|thumb|never closed", "[[File:a.jpg|thumb|never closed"),
        ("* item\n# other\n: indented\ntext", "text"),
        ("#REDIRECT [[Oak]]", ""),
        ("", ""),
    ] {
        assert_eq!(text(wikitext), expected, "{wikitext}");
    }
    let all = ReadOptions { lists: true, formulas: true, ..ReadOptions::default() };
    assert_eq!(read("* an [[oak]]\n** <math>m_1 = [x]</math>.", &all)[0].text, "an oak\nm_1 = [x].");
}

#[test]
fn sections_and_figures_are_found() {
    let page = "Lead.\n[[File:lead photo.JPG|thumb|200px|alt=An ''oak''|An [[oak]] in [[Kent|a field]]<ref>x</ref>]]\n\
                == Use ==\nWood [[File:Icon.svg|16px]] is hard.\n\
                [[Datei:Fass.png|mini|Ein Fass]] [[Image:Plain.png]]\n\
                === In ''buildings'' <!-- c --> ===\n<gallery mode=packed>\nFile:One.jpg|The [[first]]\n\
                Two_x.png\nSound.ogg|A sound\n</gallery>\n\
                {{multiple image|image1=A.jpg|caption1=Left|image2=B.jpg|footer=Both}}\n\
                == History of use ==\n[[File:Old.jpg|thumb|Old]]\n=== Rome ===\nx\n== = ==\n==Wilt==\nIll.\n";
    let mut names = WikiNames { article: "https://w.test/wiki/$1".into(), ..WikiNames::default() };
    names.files.push("datei".into());
    let sections = read_wikitext(page, &names, &ReadOptions::default());
    let titles: Vec<(&str, u8)> = sections.iter().map(|s| (s.title.as_str(), s.level)).collect();
    assert_eq!(titles, [("", 1), ("Use", 2), ("In buildings", 3), ("Wilt", 2)]);
    let figures = |n: usize| -> Vec<(&str, Option<&str>)> {
        let name = |figure: &'_ Figure| figure.image.rsplit('/').next().map(str::to_string);
        let all = &sections[n].figures;
        assert!(all.iter().all(|figure| name(figure).is_some()));
        all.iter().map(|f| (f.image.rsplit('/').next().unwrap(), f.caption.as_deref())).collect()
    };
    assert_eq!(figures(0), [("Lead_photo.JPG", Some("An oak in a field"))]);
    assert_eq!(figures(1), [("Fass.png", Some("Ein Fass")), ("Plain.png", None)]);
    assert_eq!(
        figures(2),
        [("One.jpg", Some("The first")), ("Two_x.png", None), ("A.jpg", Some("Left")), ("B.jpg", Some("Both"))]
    );
    let lead = &sections[0].figures[0];
    assert_eq!(lead.alt.as_deref(), Some("An oak"));
    assert_eq!(lead.file_page.as_deref(), Some("https://w.test/wiki/File:Lead_photo.JPG"));
    assert_eq!(lead.image, "https://w.test/wiki/Special:FilePath/Lead_photo.JPG");
}

#[test]
fn hostile_pages_end() {
    // With a square of the length the test would take hours.
    for part in [
        "{{",
        "[[",
        "}}",
        "]]",
        "{{a|",
        "[[File:a.jpg|",
        "[[a|{{b|",
        "{|\n",
        "<ref>",
        "<ref",
        "<!--",
        "''",
        "'''''",
        "=",
        "==\n",
        "&",
        "&amp",
        "[http://x",
        "<gallery>",
        "</ref",
        "<a ",
        "__",
        "\u{e000}",
        "|",
        "{{{",
        "}}}",
        "[",
        "\n*",
        "{{convert|",
        "<nowiki>",
        "== a ==\n",
        "[[a]]",
        "{{nowrap|a}}",
        "\u{1f600}",
        "<math>",
    ] {
        let open = part.repeat(60_000 / part.len());
        read(&open, &ReadOptions::default());
    }
    for (open, close) in [("[[a|", "]]"), ("{{nowrap|", "}}"), ("[[File:a.jpg|thumb|", "]]"), ("{|\n", "\n|}\n")] {
        let nested = format!("{}x{}", open.repeat(5_000), close.repeat(5_000));
        read(&nested, &ReadOptions::default());
    }
}
