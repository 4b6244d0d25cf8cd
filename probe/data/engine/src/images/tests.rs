//! Images of every format, hostile images, duplicates and leaks; the whole stage against a wiki on this machine.

use super::*;
use crate::fetch::FetchPolicy;
use crate::outline::ReadOptions;
use crate::page::{Section, Topic};
use crate::pages::{self, PagesOptions};
use crate::sources::{Part, SourceConfig};
use burgess_site::{WikiOptions, WikiSite};
use flate2::{Compression, write::GzEncoder};
use image::{DynamicImage, GenericImageView, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use std::io::{Cursor, Write};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/golden/preprocess");

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, format).unwrap();
    file.into_inner()
}

fn picture(seed: u32) -> RgbImage {
    RgbImage::from_fn(120, 90, |x, y| Rgb([(x * (2 + seed) % 256) as u8, (y * 2) as u8, (x * y / (60 + seed)) as u8]))
}

fn small() -> ImagesOptions {
    ImagesOptions { min_side: 1, ..ImagesOptions::default() }
}

fn pixels(converted: &Converted) -> RgbImage {
    burgess_images::decode_bytes(&converted.bytes).unwrap()
}

#[test]
fn files_stay_as_they_are_if_every_program_reads_them_alike() {
    let options = small();
    let golden = |name: &str| std::fs::read(Path::new(GOLDEN).join(name)).unwrap();
    for (name, stays) in [
        ("420.jpg", true),
        ("grey.jpg", true),
        ("exif1.jpg", true),
        ("exif6.jpg", false),
        ("cmyk.jpg", false),
        ("cmyk-plain.jpg", false),
        ("grey.png", true),
        ("column.png", true),
        ("grey.bmp", false),
        ("grey.tiff", false),
        ("exif6.tiff", false),
        ("frames.gif", false),
        ("exif.webp", false),
    ] {
        let bytes = golden(name);
        let converted = convert(&bytes, &ImagesOptions { max_aspect: 1e6, ..options.clone() });
        let converted = converted.unwrap_or_else(|(reason, why)| panic!("{name}: {reason}: {why}"));
        assert_eq!(converted.bytes == bytes, stays, "{name}");
        let upright = burgess_images::decode_bytes_oriented(&bytes, burgess_images::Orientation::Upright).unwrap();
        let stored = pixels(&converted);
        assert_eq!(stored.dimensions(), (converted.width, converted.height), "{name}");
        if name != "frames.gif" {
            assert!(stored == upright, "{name}: the pixels are those of the source, upright");
        }
        let ending = if stays && name.ends_with(".jpg") { "jpg" } else { "png" };
        assert_eq!(converted.ending, ending, "{name}");
    }
    let deep = DynamicImage::ImageRgb16(DynamicImage::from(picture(1)).into_rgb16());
    let converted = convert(&encode(&deep, ImageFormat::Png), &options).unwrap();
    assert_eq!(pixels(&converted), picture(1));
}

#[test]
fn transparent_images_are_laid_on_white() {
    let rgba = RgbaImage::from_fn(80, 60, |x, _| if x < 40 { Rgba([0, 0, 0, 0]) } else { Rgba([200, 0, 0, 128]) });
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif] {
        let converted = convert(&encode(&rgba.clone().into(), format), &small()).unwrap();
        let found = pixels(&converted);
        assert_eq!(found.get_pixel(3, 3), &Rgb([255; 3]), "{format:?}");
        if format != ImageFormat::Gif {
            assert_eq!(found.get_pixel(70, 3), &Rgb([227, 127, 127]), "{format:?}");
        }
    }
    let opaque = DynamicImage::from(DynamicImage::from(picture(2)).into_rgba8());
    let bytes = encode(&opaque, ImageFormat::Png);
    assert_eq!(convert(&bytes, &small()).unwrap().bytes, bytes, "an opaque PNG stays");
}

#[test]
fn unusable_images_are_told_apart() {
    let png = encode(&picture(0).into(), ImageFormat::Png);
    let sized = |width, height| {
        encode(&RgbImage::from_fn(width, height, |x, y| Rgb([(x ^ y) as u8; 3])).into(), ImageFormat::Png)
    };
    let blank = encode(&RgbImage::from_pixel(80, 80, Rgb([9; 3])).into(), ImageFormat::Png);
    // A header that announces 60,000 × 60,000 pixels.
    let mut bomb = png.clone();
    bomb[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    bomb[20..24].copy_from_slice(&60_000u32.to_be_bytes());
    let options = ImagesOptions::default();
    for (bytes, expected) in [
        (&b"<!DOCTYPE html><p>Too many requests"[..], "it is no image"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "it is no image"),
        (b"", "it is no image"),
        (b"\x1f\x8b\x08\0garbage", "the image cannot be read"),
        (&png[..png.len() / 2], "the image cannot be read"),
        (b"\x89PNG\r\n\x1a\n", "the image cannot be read"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "the image cannot be read"),
        (b"GIF89a\xff\xff\xff\xff", "the image cannot be read"),
        (&sized(63, 200), "the image is too small"),
        (&sized(100, 900), "the image is too long"),
        (&bomb, "the image has too many pixels"),
        (&blank, "the image is blank"),
    ] {
        let (reason, why) = convert(bytes, &options).unwrap_err();
        let gif = bytes.starts_with(b"GIF") && reason == "the image has too many pixels";
        assert!(reason == expected || gif, "{expected}: {reason}: {why}");
    }
    assert!(convert(&png, &options).is_ok());
}

fn draw(svg: &str) -> Result<Converted, (&'static str, String)> {
    convert(svg.as_bytes(), &small())
}

#[test]
fn drawings_are_drawn_on_white() {
    let shape = "<rect width='50%' height='100%' fill='#c00000'/></svg>";
    for (head, size) in [
        ("width='300' height='200'", (300, 200)),
        ("width='4000' height='1000'", (2048, 512)),
        ("viewBox='0 0 40 10'", (800, 200)),
        ("", (800, 600)),
        ("width='100%' height='100%' viewBox='0 0 10 20'", (800, 1600)),
    ] {
        let converted = draw(&format!("<svg xmlns='http://www.w3.org/2000/svg' {head}>{shape}")).unwrap();
        assert_eq!((converted.width, converted.height), size, "{head}");
        let found = pixels(&converted);
        let (width, height) = size;
        assert_eq!(found.get_pixel(width / 8, height / 2), &Rgb([0xc0, 0, 0]), "{head}");
        assert_eq!(found.get_pixel(width - 3, height / 2), &Rgb([255; 3]), "{head}");
    }
    let plain = format!("<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg' width='90' height='90'>{shape}");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain.as_bytes()).unwrap();
    assert_eq!(convert(&encoder.finish().unwrap(), &small()).unwrap().width, 90);
}

#[test]
fn hostile_drawings_are_refused_or_harmless() {
    let svg = |inner: &str| {
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' xmlns:xlink='http://www.w3.org/1999/xlink' width='99' height='99'>{inner}</svg>"
        )
    };
    let rect = "<rect width='9' height='9'/>";
    assert_eq!(draw(&svg("<text>Label</text>")).unwrap_err().0, convert::NEEDS_FONTS);
    for reference in ["file:///etc/passwd", "http://127.0.0.1:1/a.png", "data:image/png;base64,iVBORw0KGgo="] {
        assert_eq!(
            draw(&svg(&format!("<image xlink:href='{reference}'/>{rect}"))).unwrap_err().0,
            convert::NEEDS_FONTS
        );
    }
    draw(&svg(&format!("<style>@import url(file:///etc/passwd)</style><script>x()</script><text> </text>{rect}")))
        .unwrap();
    for huge in ["<path d='M1 1 A3 2 0 1 11e30 8 8 z'/>", "<path d='M 9223372036854775808 1 L2 2'/>"] {
        let (reason, why) = draw(&svg(&format!("{huge}{rect}"))).unwrap_err();
        assert!(reason == "the drawing cannot be read" && why.contains("too large for a drawing"), "{why}");
    }
    draw(&svg(&format!("<g id='a1e30' fill='#1e30aa' opacity='0.12345678901'>{rect}</g>{rect}"))).unwrap();
    // Entities and references that multiply.
    let entities: String =
        (1..10).map(|n| format!("<!ENTITY a{n} '{}'>", format!("&a{};", n - 1).repeat(10))).collect();
    let laughs = format!("<!DOCTYPE svg [<!ENTITY a0 'ha'>{entities}]>{}", svg("<desc>&a9;</desc>"));
    assert!(draw(&laughs).is_err());
    let uses: String =
        (1..9).map(|n| format!("<g id='g{n}'>{}</g>", format!("<use xlink:href='#g{}'/>", n - 1).repeat(10))).collect();
    let uses = svg(&format!("<defs><g id='g0'>{rect}</g>{uses}</defs><use xlink:href='#g8'/>"));
    assert!(draw(&uses).is_err());
    let own = svg(&format!("<g id='a'><use xlink:href='#a'/>{rect}</g>"));
    draw(&own).ok();
    let deep = svg(&format!("{}{rect}{}", "<g>".repeat(20_000), "</g>".repeat(20_000)));
    draw(&deep).ok();
    for odd in ["<svg", "<svg xmlns='http://www.w3.org/2000/svg' width='-5' height='0'/>", "<svg><a></svg>", "<svg/>"] {
        assert!(draw(odd).is_err(), "{odd}");
    }
    let huge =
        draw("<svg xmlns='http://www.w3.org/2000/svg' width='1e30' height='1e30'><rect width='9' height='9'/></svg>");
    assert!(huge.is_err() || huge.is_ok_and(|drawn| drawn.width <= 2048));
}

fn client(dir: &Path) -> Arc<Client> {
    let policy = FetchPolicy {
        requests_per_second: 1000.0,
        backoff_seconds: 0.001,
        tries: 2,
        answer_seconds: 10.0,
        contact: Some("tester@example.org".into()),
        // The private service of the wiki, at 127.0.0.2, is not among them.
        allow_hosts: vec!["127.0.0.1".into()],
        ..FetchPolicy::default()
    };
    Arc::new(Client::new(&policy, dir).unwrap())
}

/// Reads the pages of these topics from a wiki.
fn pages_of(site: &WikiSite, client: &Arc<Client>, names: &[&str]) -> Vec<Page> {
    let config = SourceConfig::Mediawiki { api: site.api_url(), pages_per_topic: 1 };
    let source = config.open(&ReadOptions::default(), Some(client)).unwrap();
    let topics: Vec<Topic> = names.iter().map(|name| Topic { topic: (*name).into(), ..Topic::default() }).collect();
    let mut pages = Vec::new();
    let part = Part { topics: &topics, shard: 0, shards: 1 };
    let each = &mut |page| {
        pages.push(page);
        Ok(())
    };
    pages::run(source.as_ref(), &part, &PagesOptions::default(), each).unwrap();
    pages
}

fn fetch_all(pages: &[Page], client: &Arc<Client>, options: &ImagesOptions, dir: &Path) -> (Vec<Page>, ImagesReport) {
    let mut kept = Vec::new();
    let each = &mut |page| {
        kept.push(page);
        Ok(())
    };
    let report = run(pages.iter().cloned().map(Ok), client, options, dir, each).unwrap();
    (kept, report)
}

#[test]
fn the_images_of_a_wiki_are_fetched_checked_and_counted() {
    let site = WikiSite::start(WikiOptions::default());
    let dir = tempfile::tempdir().unwrap();
    let client = client(&dir.path().join("cache"));
    // A leaked image and a repetition, another repetition, an image that is too small, one that is too long, drawings.
    let names = ["Windmill", "Sundial", "Honeycomb", "Mosaic", "Lighthouse"];
    let pages = pages_of(&site, &client, &names);
    assert_eq!(pages.len(), names.len());
    // The image of a benchmark is on a page of the wiki.
    let benchmark = dir.path().join("benchmark");
    std::fs::create_dir(&benchmark).unwrap();
    std::fs::write(benchmark.join("chart.png"), WikiSite::benchmark_image()).unwrap();
    let options = ImagesOptions {
        min_side: 40,
        benchmarks: vec![format!("charts={}", benchmark.display())],
        ..ImagesOptions::default()
    };
    let out = dir.path().join("images");
    let (kept, report) = fetch_all(&pages, &client, &options, &out);
    assert_eq!(report.kept + report.skips.total(), report.figures, "each image is kept or counted: {report:#?}");
    for reason in [
        "the image is in the benchmark charts",
        "the image repeats another",
        "the image is too small",
        "the image is too long",
    ] {
        assert!(report.skips.of(reason) >= 1, "{reason}: {:#?}", report.skips);
    }
    assert!(
        report.kept > 8 && report.formats.contains_key("svg") && report.formats.contains_key("jpeg"),
        "{report:#?}"
    );
    for figure in kept.iter().flat_map(Page::figures) {
        let stored = figure.stored.as_ref().unwrap();
        let bytes = std::fs::read(out.join(&stored.path)).unwrap();
        assert_eq!((bytes.len() as u64, &digest::of_bytes(&bytes)), (stored.bytes, &stored.digest));
        let decoded = image::load_from_memory(&bytes);
        assert!(
            stored.path.extension().is_some_and(|e| e == "jpg")
                || decoded.is_ok_and(|image| image.dimensions() == (stored.width, stored.height))
        );
    }
    // The same again, without a request; and after an interruption in the middle.
    let before = site.requests().len();
    assert_eq!(fetch_all(&pages, &client, &options, &out), (kept.clone(), report.clone()));
    let mut stage = ImageStage::new(client.clone(), &options, &out).unwrap();
    let (first, second) = pages.split_at(pages.len() / 2);
    let mut again: Vec<Page> = first.iter().filter_map(|page| stage.page(page.clone()).unwrap()).collect();
    let mut resumed = ImageStage::new(client.clone(), &options, &out).unwrap();
    again.iter().for_each(|page| resumed.resume(page).unwrap());
    again.extend(second.iter().filter_map(|page| resumed.page(page.clone()).unwrap()));
    assert_eq!(again, kept);
    assert_eq!(site.requests().len(), before);
    // Another shard with the same pages repeats all of them.
    let known = dir.path().join("shard-00000.jsonl");
    let lines: String = kept.iter().map(|page| serde_json::to_string(page).unwrap() + "\n").collect();
    std::fs::write(&known, lines).unwrap();
    let (none, report) = fetch_all(&pages, &client, &ImagesOptions { known: vec![known], ..options.clone() }, &out);
    assert!(none.is_empty(), "{report:#?}");
    let licensed = ImagesOptions { require_licence: true, ..options };
    let volcano = pages_of(&site, &client, &["Volcano"]);
    let (_, report) = fetch_all(&volcano, &client, &licensed, &out);
    assert!(report.skips.of("the licence of the image is unknown") >= 1 && !report.licences.contains_key("unknown"));
}

#[test]
fn hostile_pages_reach_nothing_private_and_keep_the_good_images() {
    let site = WikiSite::start(WikiOptions { hostile: true, ..WikiOptions::default() });
    let dir = tempfile::tempdir().unwrap();
    let client = client(&dir.path().join("cache"));
    let titles = ["Hostile images", "Hostile addresses", "Hostile markup", "Hostile texts", "Hostile encoding"];
    let pages = pages_of(&site, &client, &titles);
    assert!(pages.len() >= 4, "{:?}", pages.iter().map(|page| &page.title).collect::<Vec<_>>());
    let (kept, report) = fetch_all(&pages, &client, &ImagesOptions::default(), &dir.path().join("images"));
    assert!(site.secret_requests().is_empty(), "a private address was asked");
    assert!(report.skips.of("the address is not public") >= 1, "{report:#?}");
    let good = kept.iter().flat_map(Page::figures).filter(|figure| figure.image.contains("Good_among_hostile")).count();
    assert!(good >= 1, "{report:#?}");
    assert_eq!(report.kept + report.skips.total(), report.figures, "{report:#?}");
}

#[test]
fn images_beside_pages_are_read_and_nothing_outside() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("pages");
    std::fs::create_dir_all(folder.join("img")).unwrap();
    std::fs::write(folder.join("img/a b.png"), encode(&picture(0).into(), ImageFormat::Png)).unwrap();
    std::fs::write(dir.path().join("secret.png"), encode(&picture(3).into(), ImageFormat::Png)).unwrap();
    let figure = |image: &str| Figure { image: image.into(), ..Figure::default() };
    let addresses = ["img/a%20b.png?v=1", "../secret.png", "/img/a b.png", "none.png", "../../../../etc/passwd"];
    let section = Section { figures: addresses.iter().map(|a| figure(a)).collect(), ..Section::default() };
    let page = Page { sections: vec![section], ..Page::default() };
    let client = client(&dir.path().join("cache"));
    let options = ImagesOptions { folder: Some(folder), ..ImagesOptions::default() };
    let (kept, report) = fetch_all(std::slice::from_ref(&page), &client, &options, &dir.path().join("images"));
    assert_eq!(kept[0].figures().map(|figure| figure.image.as_str()).collect::<Vec<_>>(), [addresses[0]]);
    let skips = &report.skips;
    assert_eq!(skips.of("the image repeats another"), 1, "{skips:?}");
    assert_eq!(
        skips.of("the image lies outside the folder of the pages") + skips.of("the file cannot be read"),
        3,
        "{skips:?}"
    );
    let (_, report) = fetch_all(&[page], &client, &ImagesOptions::default(), &dir.path().join("images"));
    assert_eq!(report.skips.of("the image has no address"), 5);
}

#[test]
fn a_server_that_is_gone_stops_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let client = client(&dir.path().join("cache"));
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let figures = (0..20).map(|n| Figure { image: format!("http://{gone}/{n}.png"), ..Figure::default() });
    let page = Page { sections: vec![Section { figures: figures.collect(), ..Section::default() }], ..Page::default() };
    let error = run([Ok(page)].into_iter(), &client, &ImagesOptions::default(), dir.path(), &mut |_| Ok(()));
    assert!(error.unwrap_err().to_string().contains("8 images in a row"));
    for (wrong, expected) in [
        (ImagesOptions { min_side: 0, ..ImagesOptions::default() }, "`min_side` is 0"),
        (ImagesOptions { max_aspect: f64::NAN, ..ImagesOptions::default() }, "`max_aspect`"),
        (ImagesOptions { benchmarks: vec!["=".into()], ..ImagesOptions::default() }, "reading `benchmarks`"),
        (ImagesOptions { known: vec!["no/such.jsonl".into()], ..ImagesOptions::default() }, "no/such.jsonl"),
    ] {
        let error = ImageStage::new(client.clone(), &wrong, dir.path()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
