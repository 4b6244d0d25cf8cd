//! All sources: a wiki on this machine, its dump, and files in the forms that others publish.

use super::tfrecord::tests::{entry, field, ints, record, strings};
use super::*;
use crate::fetch::{Client, FetchPolicy};
use crate::page::Topic;
use burgess_site::{WikiOptions, WikiSite};
use flate2::{Compression, write::GzEncoder};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn client(site: &WikiSite, dir: &Path) -> Arc<Client> {
    let policy = FetchPolicy {
        requests_per_second: 1000.0,
        backoff_seconds: 0.001,
        allow_hosts: vec!["127.0.0.1".into()],
        ..FetchPolicy::default()
    };
    assert!(site.base_url().starts_with("http://127.0.0.1:"));
    Arc::new(Client::new(&policy, dir).unwrap())
}

fn read(source: &dyn PageSource, part: &Part<'_>) -> (Vec<Page>, Skips) {
    let (mut pages, mut skips) = (Vec::new(), Skips::default());
    source.check().unwrap();
    source
        .read(part, &mut skips, &mut |page| {
            pages.push(page);
            Ok(())
        })
        .unwrap();
    (pages, skips)
}

fn topics(names: &[&str]) -> Vec<Topic> {
    let topic = |name: &&str| Topic { topic: (*name).into(), field: "F".into(), subfield: "S".into() };
    names.iter().map(topic).collect()
}

const ALL: Part<'static> = Part { topics: &[], shard: 0, shards: 1 };

#[test]
fn a_wiki_is_searched_and_its_images_have_licences() {
    let site = WikiSite::start(WikiOptions::default());
    let dir = tempfile::tempdir().unwrap();
    let client = client(&site, dir.path());
    let config = SourceConfig::Mediawiki { api: site.api_url(), pages_per_topic: 2 };
    let source = config.open(&ReadOptions::default(), Some(&client)).unwrap();
    let wanted = topics(&["Lighthouse", "Windmill", "No such thing anywhere"]);
    let part = Part { topics: &wanted, shard: 0, shards: 1 };
    let (pages, skips) = read(source.as_ref(), &part);
    assert!(source.searches() && pages.len() >= 2, "{skips:?}");
    let page = pages.iter().find(|page| page.title == "Lighthouse").unwrap();
    assert_eq!(page.url, format!("{}/wiki/Lighthouse", site.base_url()));
    assert_eq!((page.topic.as_str(), page.field.as_str(), page.subfield.as_str()), ("Lighthouse", "F", "S"));
    let figures: Vec<_> = pages.iter().flat_map(Page::figures).collect();
    assert!(figures.len() >= 6, "{}", figures.len());
    for figure in &figures {
        assert!(figure.image.starts_with(&format!("{}/images/", site.uploads_url())), "{}", figure.image);
        assert!(!figure.image.contains("/thumb/"), "{}", figure.image);
        assert!(figure.caption.as_deref() != Some("No caption"));
    }
    let licensed = figures.iter().filter(|figure| figure.licence.is_some()).count();
    assert!(licensed * 2 > figures.len(), "{licensed} of {}", figures.len());
    let authors: Vec<&str> = figures.iter().filter_map(|figure| figure.author.as_deref()).collect();
    assert!(authors.iter().all(|author| !author.contains(['<', '&']) || author.contains(" & ")), "{authors:?}");
    assert_eq!(skips.of("no page was found for a topic"), 1, "{skips:?}");
    // Whoever reads again asks nothing.
    let before = site.requests().len();
    assert_eq!(read(source.as_ref(), &part).0, pages);
    assert_eq!(site.requests().len(), before);
    let parsed = site.requests().len();
    assert!(parsed < 20, "images are asked for in batches: {parsed} requests");
}

#[test]
fn a_wiki_that_is_down_stops_the_work() {
    let site = WikiSite::start(WikiOptions::default());
    let dir = tempfile::tempdir().unwrap();
    let api = site.url("/nothing/api.php");
    let config = SourceConfig::Mediawiki { api, pages_per_topic: 1 };
    let client = client(&site, dir.path());
    let source = config.open(&ReadOptions::default(), Some(&client)).unwrap();
    let names: Vec<String> = (0..12).map(|n| format!("topic {n}")).collect();
    let wanted = topics(&names.iter().map(String::as_str).collect::<Vec<_>>());
    // A wrong address is counted for each topic.
    let (pages, skips) = read(source.as_ref(), &Part { topics: &wanted, shard: 0, shards: 1 });
    assert_eq!((pages.len(), skips.of("the server does not have it")), (0, 12), "{skips:?}");
    // A server that is gone stops the work, so that no topic counts as finished.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = SourceConfig::Mediawiki { api: format!("http://{gone}/w/api.php"), pages_per_topic: 1 };
    let source = config.open(&ReadOptions::default(), Some(&client)).unwrap();
    let error = source.read(&Part { topics: &wanted, shard: 0, shards: 1 }, &mut Skips::default(), &mut |_| Ok(()));
    assert!(error.unwrap_err().to_string().contains("searching for `topic 0`"));
    for wrong in ["en.wikipedia.org", "ftp://x/api.php", "https://x/api.php?a=b", ""] {
        let config = SourceConfig::Mediawiki { api: wrong.into(), pages_per_topic: 1 };
        assert!(config.open(&ReadOptions::default(), Some(&client)).is_err(), "{wrong}");
    }
}

fn bzip2(parts: &[&[u8]]) -> Vec<u8> {
    let pack = |part: &&[u8]| {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(part).unwrap();
        encoder.finish().unwrap()
    };
    parts.iter().flat_map(pack).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_dump_is_read_in_every_compression_and_by_shards() {
    let site = WikiSite::start(WikiOptions::default());
    let dir = tempfile::tempdir().unwrap();
    let xml = site.xml_dump();
    let (first, second) = xml.as_bytes().split_at(xml.len() / 2);
    let open = |name: &str, bytes: &[u8], api: Option<String>| {
        let files = vec![write(dir.path(), name, bytes)];
        let client = client(&site, &dir.path().join("cache"));
        SourceConfig::WikiDump { files, api }.open(&ReadOptions::default(), Some(&client)).unwrap()
    };
    let (plain, skips) = read(open("a.xml", xml.as_bytes(), None).as_ref(), &ALL);
    assert_eq!(plain.iter().map(|page| page.title.clone()).collect::<Vec<_>>(), site.titles());
    assert!(skips.of("the page is a redirect") > 0 && skips.of("the page is no article") == 1, "{skips:?}");
    for (name, bytes) in [("a.bz2", bzip2(&[first, second])), ("a.gz", gzip(xml.as_bytes()))] {
        assert_eq!(
            read(open(name, &bytes, None).as_ref(), &ALL),
            (plain.clone(), {
                // Only the names of files differ in the counts.
                let (_, skips) = read(open(name, &bytes, None).as_ref(), &ALL);
                skips
            })
        );
    }
    // The shards together are the whole.
    let source = open("a.xml", xml.as_bytes(), None);
    let mut parts: Vec<Page> =
        (0..3).flat_map(|shard| read(source.as_ref(), &Part { topics: &[], shard, shards: 3 }).0).collect();
    parts.sort_by_key(|page| plain.iter().position(|other| other.title == page.title));
    assert_eq!(parts, plain);
    // By titles, with licences from the wiki.
    let wanted = topics(&["lighthouse"]);
    let source = open("a.xml", xml.as_bytes(), Some(site.api_url()));
    let (pages, _) = read(source.as_ref(), &Part { topics: &wanted, shard: 2, shards: 3 });
    let [page] = pages.as_slice() else { panic!("{pages:?}") };
    assert_eq!((page.title.as_str(), page.topic.as_str()), ("Lighthouse", "lighthouse"));
    let known: Vec<_> = page.figures().filter(|figure| figure.licence.is_some()).collect();
    assert!(!known.is_empty() && known.iter().all(|figure| figure.image.contains("/images/")), "{page:#?}");
    assert!(page.sections.iter().any(|section| section.text.len() > 100 && !section.text.contains("{{")));
}

#[test]
fn damaged_dumps_lose_only_what_is_damaged() {
    let page = |title: &str, more: &str| {
        format!(
            "<page><title>{title}</title><ns>0</ns><revision>{more}<text>Text of {title}.</text></revision></page>\n"
        )
    };
    let xml = [
        "<mediawiki xml:lang='de'><siteinfo><base>https://de.w.test/wiki/Start</base></siteinfo>".to_string(),
        page("A", ""),
        page("B", "<open>"),
        "<page><title>C</title><ns>0</ns>".into(),
        page("D &amp; d", "<model>wikitext</model>"),
        page("E", "<model>json</model>"),
        page("F", "&odd;"),
        page("", ""),
        page("G", "<a><b><c><d><e><f><g><h></h></g></f></e></d></c></b></a>"),
        page("H", ""),
        "<page><title>I</title>".into(),
    ]
    .concat();
    let (pages, skips) = read_bytes("wiki-dump", xml.as_bytes(), &ReadOptions::default()).unwrap();
    let titles: Vec<&str> = pages.iter().map(|page| page.title.as_str()).collect();
    assert_eq!(titles, ["A", "D & d", "H"], "{skips:#?}");
    assert_eq!(pages[1].url, "https://de.w.test/wiki/D_%26_d");
    assert_eq!((skips.of("the XML is damaged"), skips.of("the page is not in wikitext")), (6, 1), "{skips:#?}");
    let cut = gzip(xml.as_bytes());
    let (_, skips) = read_bytes("wiki-dump", &cut[..cut.len() - 20], &ReadOptions::default()).unwrap();
    assert_eq!(skips.of("the file is damaged"), 1, "{skips:?}");
}

#[test]
fn structured_contents_are_read() {
    let good = serde_json::json!({
        "name": "Oak", "url": "https://en.w.test/wiki/Oak", "in_language": {"identifier": "en"},
        "license": [{"name": "CC BY-SA 4.0", "url": "https://creativecommons.org/licenses/by-sa/4.0/"}],
        "sections": [
            {"type": "section", "name": "Abstract", "has_parts": [{"type": "paragraph", "value": "An  oak."}]},
            {"type": "section", "name": "Use", "has_parts": [
                {"type": "paragraph", "value": "Wood."},
                {"type": "image", "content_url": "https://u.test/commons/thumb/a/a1/B.jpg/250px-B.jpg", "caption": "A barrel"},
                {"type": "list", "has_parts": [{"type": "list_item", "value": "Floors"}]},
                {"type": "section", "name": "Old", "has_parts": [{"type": "paragraph", "value": "x",
                    "images": [{"content_url": "https://u.test/c.png", "alternative_text": "C"}, {"content_url": 5}]}]},
            ]},
        ],
    });
    let mut as_text = good.clone();
    as_text["sections"] = serde_json::json!(good["sections"].to_string());
    let lines = format!(
        "{good}\n\n{as_text}\n{{\"name\":\"x\"}}\nnot json\n{{\"name\":\"x\",\"url\":\"u\",\"sections\":5}}\n\u{ff}"
    );
    let (pages, skips) = read_bytes("structured", lines.as_bytes(), &ReadOptions::default()).unwrap();
    assert_eq!(pages.len(), 2);
    assert_eq!(pages[0], pages[1]);
    let page = &pages[0];
    let titles: Vec<(&str, u8, &str)> =
        page.sections.iter().map(|s| (s.title.as_str(), s.level, s.text.as_str())).collect();
    assert_eq!(titles, [("", 1, "An oak."), ("Use", 2, "Wood."), ("Old", 3, "x")]);
    assert_eq!(page.licence.as_ref().unwrap().name, "CC BY-SA 4.0");
    let figures: Vec<_> = page.figures().map(|f| (f.image.as_str(), f.caption.as_deref(), f.alt.as_deref())).collect();
    assert_eq!(
        figures,
        [("https://u.test/commons/a/a1/B.jpg", Some("A barrel"), None), ("https://u.test/c.png", None, Some("C")),]
    );
    assert_eq!(skips.of("the line is no page"), 4, "{skips:?}");
    let first = &skips.iter().next().unwrap().1.first[0];
    assert!(first.contains("input.html:4") && first.contains("no `url`"), "{first}");
}

fn warc_record(kind: &str, content_type: &str, url: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nContent-Type: {content_type}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body, b"\r\n\r\n"].concat()
}

#[test]
fn crawls_are_read() {
    let html = b"<html><head><title>Oak</title></head><body><h2>Use</h2><p>Wood.</p><img src='b.jpg'></body></html>";
    let http = |head: &str, body: &[u8]| [format!("HTTP/1.1 200 OK\r\n{head}\r\n").as_bytes(), body].concat();
    let response = "application/http; msgtype=response";
    let chunked = [format!("{:x}\r\n", html.len()).as_bytes(), html, b"\r\n0\r\n\r\n"].concat();
    let records = [
        warc_record("warcinfo", "application/warc-fields", "", b"software: x"),
        warc_record("response", response, "https://x.org/1", &http("Content-Type: text/html\r\n", html)),
        warc_record("request", "application/http", "https://x.org/1", b"GET / HTTP/1.1\r\n\r\n"),
        warc_record("response", response, "https://x.org/2", &http("Transfer-Encoding: chunked\r\n", &chunked)),
        warc_record("response", response, "https://x.org/3", &http("Content-Encoding: gzip\r\n", &gzip(html))),
        warc_record("response", response, "https://x.org/i.png", &http("Content-Type: image/png\r\n", b"\x89PNG")),
        warc_record("response", response, "https://x.org/4", b"HTTP/1.1 404 Not Found\r\n\r\nnone"),
        warc_record("response", response, "https://x.org/5", b"nonsense"),
        warc_record("resource", "text/html", "https://x.org/6", html),
    ];
    let joined = records.concat();
    let per_record: Vec<u8> = records.iter().flat_map(|record| gzip(record)).collect();
    for bytes in [joined.clone(), per_record] {
        let (pages, skips) = read_bytes("warc", &bytes, &ReadOptions::default()).unwrap();
        let urls: Vec<&str> = pages.iter().map(|page| page.url.as_str()).collect();
        assert_eq!(urls, ["1", "2", "3", "6"].map(|n| format!("https://x.org/{n}")), "{skips:?}");
        for page in &pages {
            assert_eq!((page.title.as_str(), page.sections[0].text.as_str()), ("Oak", "Wood."));
            assert_eq!(page.sections[0].figures[0].image, "https://x.org/b.jpg");
        }
        assert_eq!((skips.total(), skips.of("the HTTP answer is malformed")), (1, 1), "{skips:?}");
    }
    // Damage in the middle: what follows is found again.
    let mut damaged = records[1].clone();
    damaged.extend(b"\x00\x01 garbage\nmore garbage\nWARC/1.0\r\nno length\r\n\r\n");
    damaged.extend(&records[8]);
    damaged.extend(&records[1][..records[1].len() - 40]);
    let (pages, skips) = read_bytes("warc", &damaged, &ReadOptions::default()).unwrap();
    assert_eq!((pages.len(), skips.of("the WARC record is damaged")), (2, 3), "{skips:?}");
}

#[test]
fn wikiweb2m_is_read() {
    let list = |features: &[Vec<u8>]| features.iter().flat_map(|feature| field(1, feature)).collect::<Vec<_>>();
    let context =
        [entry("page_title", &strings(&["Oak"])), entry("page_url", &strings(&["https://en.w.test/wiki/Oak"]))]
            .concat();
    let lists = [
        entry("section_title", &list(&[strings(&["Oak"]), strings(&["Use"]), strings(&["In buildings"])])),
        entry("section_text", &list(&[strings(&["An oak."]), strings(&["Wood.\nHard."]), strings(&["Beams."])])),
        entry("section_depth", &list(&[ints(&[0]), ints(&[1]), ints(&[2])])),
        entry(
            "section_image_url",
            &list(&[
                strings(&[]),
                strings(&["http://u.test/commons/thumb/a/a1/B.jpg/250px-B.jpg", "http://u.test/c.png"]),
                vec![],
            ]),
        ),
        entry("section_image_clean_ref_description", &list(&[strings(&[]), strings(&["A barrel", ""]), vec![]])),
        entry("section_image_alt_text_description", &list(&[strings(&[]), strings(&["", "C"]), vec![]])),
    ];
    let good = [field(1, &context), field(2, &lists.concat())].concat();
    let empty = field(1, &[]);
    let file = gzip(&[record(&good), record(&empty), record(b"\x0a\x7fcut"), record(&good), b"cut".to_vec()].concat());
    let (pages, skips) = read_bytes("wikiweb2m", &file, &ReadOptions::default()).unwrap();
    assert_eq!(pages.len(), 2, "{skips:?}");
    let titles: Vec<(&str, u8, &str)> =
        pages[0].sections.iter().map(|s| (s.title.as_str(), s.level, s.text.as_str())).collect();
    assert_eq!(titles, [("", 1, "An oak."), ("Use", 2, "Wood.\nHard."), ("In buildings", 3, "Beams.")]);
    let figures: Vec<_> =
        pages[0].figures().map(|f| (f.image.as_str(), f.caption.as_deref(), f.alt.as_deref())).collect();
    assert_eq!(
        figures,
        [("http://u.test/commons/a/a1/B.jpg", Some("A barrel"), None), ("http://u.test/c.png", None, Some("C")),]
    );
    assert_eq!((skips.of("the record is no page"), skips.of("the file is damaged")), (2, 1), "{skips:?}");
}

#[test]
fn a_folder_of_pages_is_read_in_order() {
    let site = WikiSite::start(WikiOptions::default());
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    for (n, (name, html)) in site.html_pages().iter().enumerate() {
        write(&if n % 2 == 0 { dir.path().join("sub") } else { dir.path().to_path_buf() }, name, html.as_bytes());
    }
    write(dir.path(), "bad.html", "<div>".repeat(2000).as_bytes());
    write(dir.path(), "notes.txt", b"x");
    let folder = dir.path().to_path_buf();
    let base_url = Some("https://w.test/pages".to_string());
    let config = SourceConfig::HtmlFolder { folder, base_url };
    let source = config.open(&ReadOptions::default(), None).unwrap();
    let (pages, skips) = read(source.as_ref(), &ALL);
    let mut titles: Vec<String> = pages.iter().map(|page| page.title.clone()).collect();
    titles.sort();
    let mut expected = site.titles();
    expected.sort();
    assert_eq!((titles, skips.of("the page cannot be read")), (expected, 1), "{skips:?}");
    assert!(pages.iter().all(|page| page.url.starts_with("https://w.test/pages/")));
    assert!(pages.iter().all(|page| page.figures().count() > 0), "figures are found");
    let absent = SourceConfig::HtmlFolder { folder: dir.path().join("none"), base_url: None };
    assert!(absent.open(&ReadOptions::default(), None).unwrap().check().is_err());
}

/// What the HTML and the wikitext of the same article say is the same, apart from the addresses of images.
#[test]
fn html_and_wikitext_of_an_article_agree() {
    let site = WikiSite::start(WikiOptions::default());
    let dir = tempfile::tempdir().unwrap();
    let files = vec![write(dir.path(), "a.xml", site.xml_dump().as_bytes())];
    let dump = SourceConfig::WikiDump { files, api: None }.open(&ReadOptions::default(), None).unwrap();
    let (from_dump, _) = read(dump.as_ref(), &ALL);
    let pages = site.html_pages();
    for page in &from_dump {
        let name = page.title.replace(' ', "_");
        let (_, html) = pages.iter().find(|(file, _)| file.trim_end_matches(".html") == name).unwrap();
        let read = crate::html::read(html, &page.url, &ReadOptions::default()).unwrap();
        let words = |sections: &[crate::page::Section]| -> Vec<(String, usize)> {
            sections
                .iter()
                .filter(|section| !section.text.is_empty())
                .map(|section| (section.title.clone(), section.text.split_whitespace().count() / 3))
                .collect()
        };
        let (ours, theirs) = (words(&page.sections), words(&read.sections));
        let titles = |all: &[(String, usize)]| all.iter().map(|(title, _)| title.clone()).collect::<Vec<_>>();
        assert_eq!(titles(&ours), titles(&theirs), "{}", page.title);
    }
}
