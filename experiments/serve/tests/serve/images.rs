//! Attacks by images.

use crate::support::{Running, about_image, config, ms};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use burgess_serve::{Limits, Part, ServerConfig};
use serde_json::json;
use std::time::{Duration, Instant};

/// A PNG of one colour.
fn png(width: u32, height: u32) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(width, height).write_to(&mut file, image::ImageFormat::Png).unwrap();
    file.into_inner()
}

fn url(bytes: &[u8]) -> String {
    format!("data:image/png;base64,{}", STANDARD.encode(bytes))
}

/// A chunk of a PNG with its checksum.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let content = [kind, data].concat();
    let mut sum = !0_u32;
    for byte in &content {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg());
        }
    }
    [&(data.len() as u32).to_be_bytes()[..], &content, &(!sum).to_be_bytes()].concat()
}

/// A PNG that states a size and has these chunks before its end.
fn png_of(width: u32, height: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n".as_slice(), &chunk(b"IHDR", &header), &chunks.concat(), &chunk(b"IEND", b"")].concat()
}

/// At least this many zeros as a zlib stream that is 160 times smaller: one literal, then copies of 258 bytes.
fn zeros(least: usize) -> Vec<u8> {
    let copies = least.div_ceil(258);
    let (mut bytes, mut used) = (vec![0x78, 0x01], 8);
    let mut put = |code: &str| {
        for bit in code.bytes() {
            if used == 8 {
                bytes.push(0);
                used = 0;
            }
            *bytes.last_mut().unwrap() |= (bit - b'0') << used;
            used += 1;
        }
    };
    // The last block, with fixed codes; a zero; lengths of 258 at the distance 1; the end.
    put("110");
    put("00110000");
    (0..copies).for_each(|_| put("1100010100000"));
    put("0000000");
    let checksum = (((1 + 258 * copies) % 65521) as u32) << 16 | 1;
    bytes.extend(checksum.to_be_bytes());
    bytes
}

#[test]
fn an_image_reaches_the_model_with_its_bytes_and_digest() {
    let server = Running::start(config());
    let bytes = png(8, 6);
    let reply = server.chat(&about_image(&url(&bytes)));
    assert!(reply.text().contains("With 1 image: What is it?"), "{}", reply.text());
    let request = server.model.requests().pop().unwrap();
    let Some(Part::Image(image)) = request.messages[0].parts.get(1) else { panic!("{request:?}") };
    assert_eq!((&image.bytes, image.digest.as_str()), (&bytes, burgess_base::digest::of_bytes(&bytes).as_str()));
}

#[test]
fn gigapixels_are_refused_by_the_header() {
    let server = Running::start(config());
    for (width, height) in [(65_535, 65_535), (1, 100_000_000), (2_147_483_647, 2_147_483_647), (8001, 8000)] {
        let began = Instant::now();
        let reply = server.chat(&about_image(&url(&png_of(width, height, &[]))));
        assert_eq!(reply.status, 400, "{width}×{height}");
        let expected = ["image_too_large", "invalid_image"];
        assert!(expected.contains(&reply.code().as_str()), "{}", reply.error());
        assert!(began.elapsed() < Duration::from_secs(1));
    }
    // A GIF, a BMP, a JPEG and a TIFF that state a large size.
    let gif =
        [b"GIF89a".as_slice(), &[255; 4], &[0, 0, 0, b',', 0, 0, 0, 0, 255, 255, 255, 255, 0, 2, 0, b';']].concat();
    let jpeg = b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff\x03\x01\x11\0\x02\x11\0\x03\x11\0\xff\xd9".to_vec();
    for bytes in [gif, jpeg] {
        let reply = server.chat(&about_image(&url(&bytes)));
        assert_eq!((reply.status, reply.code().as_str()), (400, "image_too_large"), "{}", reply.error());
    }
    for size in [(0, 5), (5, 0)] {
        assert_eq!(server.chat(&about_image(&url(&png_of(size.0, size.1, &[])))).code(), "invalid_image");
    }
    assert!(server.model.requests().is_empty());
}

#[test]
fn what_decompresses_to_much_more_costs_nothing() {
    let server = Running::start(config());
    let bomb = zeros(200_000_000);
    assert!(bomb.len() < 1_500_000);
    let profile = [b"a\0\0".as_slice(), &bomb].concat();
    for (name, bytes) in [
        ("pixels", png_of(1, 1, &[chunk(b"IDAT", &bomb)])),
        ("text", png_of(1, 1, &[chunk(b"zTXt", &profile), chunk(b"IDAT", &zeros(4))])),
        ("profile", png_of(1, 1, &[chunk(b"iCCP", &profile), chunk(b"IDAT", &zeros(4))])),
    ] {
        let began = Instant::now();
        let reply = server.chat(&about_image(&url(&bytes)));
        assert!(matches!(reply.status, 200 | 400), "{name}: {}", reply.text());
        assert!(began.elapsed() < Duration::from_secs(2), "{name}: {:?}", began.elapsed());
        // The decoder that models use.
        burgess_images::decode_bytes(&bytes).ok();
        assert!(began.elapsed() < Duration::from_secs(5), "{name}: {:?}", began.elapsed());
    }
}

#[test]
fn broken_files_are_refused_without_a_crash() {
    let server = Running::start(config());
    let whole = png(40, 30);
    let webp = b"RIFF\xff\xff\xff\x7fWEBPVP8X\x0a\0\0\0\x10\0\0\0\xff\xff\xff\xff\xff\xff";
    for bytes in [&whole[..20], b"", b"\xff\xd8\xff", webp, b"II*\0\xff\xff\xff\xff", b"BM", b"GIF89a", b"<svg/>"] {
        let reply = server.chat(&about_image(&url(bytes)));
        assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_image"), "{bytes:?}: {}", reply.text());
        assert_eq!(reply.json()["error"]["param"], "messages[0].content[1].image_url.url");
    }
    for (url, code) in [
        ("data:image/png;base64,!!!!", "invalid_image_url"),
        ("data:image/png;base64,QUJD=QUJD", "invalid_image_url"),
        ("data:text/html;base64,QUJD", "invalid_image_url"),
        ("file:///etc/passwd", "invalid_image_url"),
        ("http://127.0.0.1/a.png", "invalid_image_url"),
    ] {
        let reply = server.chat(&about_image(url));
        assert_eq!((reply.status, reply.code().as_str()), (400, code), "{url}: {}", reply.text());
    }
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn the_number_and_size_of_images_are_limited() {
    let limits = Limits { images: 2, image_bytes: 200, image_pixels: 100, ..Limits::default() };
    let server = Running::start(ServerConfig { limits, ..config() });
    let part = json!({"type": "image_url", "image_url": {"url": url(&png(5, 5)), "detail": "low"}});
    let of = |count: usize| json!({"messages": [{"role": "user", "content": vec![part.clone(); count]}]});
    assert_eq!(server.chat(&of(2)).status, 200);
    assert!(server.chat(&of(3)).error().contains("more than 2 images"));
    assert!(server.chat(&about_image(&url(&png(20, 10)))).error().contains("20×10 pixels, the limit is 100"));
    assert!(server.chat(&about_image(&url(&[0; 300]))).error().contains("300 bytes, the limit is 200"));
    // Several messages share the limit.
    let message = json!({"role": "user", "content": [part.clone(), part]});
    let both = json!({"messages": [message, {"role": "assistant", "content": "a"}, message]});
    assert!(server.chat(&both).error().contains("more than 2 images"));
}

#[test]
fn addresses_are_downloaded_only_if_allowed_and_never_from_private_networks() {
    let server = Running::start(config());
    let reply = server.chat(&about_image("https://example.org/a.png"));
    assert!(reply.status == 400 && reply.error().contains("downloads no images"), "{}", reply.text());
    let limits = Limits { remote_time: ms(1000), ..Limits::default() };
    let server = Running::start(ServerConfig { allow_remote_images: true, limits, ..config() });
    let own = format!("http://{}/healthz", server.address);
    for url in [
        own.as_str(),
        "http://localhost/",
        "http://[::1]/",
        "http://169.254.169.254/latest/meta-data/",
        "https://10.0.0.1/",
    ] {
        let reply = server.chat(&about_image(url));
        assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_image_url"), "{url}");
        assert!(reply.error().contains("is not a public address"), "{url}: {}", reply.error());
    }
    assert!(server.model.requests().is_empty());
}
