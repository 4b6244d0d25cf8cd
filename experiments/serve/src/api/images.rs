//! Images in requests: data URLs, and addresses where they are allowed.

use super::request::{Asked, AskedPart};
use super::{Api, ApiError};
use crate::{ImageBytes, Limits, Message, Part};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use burgess_base::{digest, text};
use std::sync::Arc;

/// Base64 with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads the `url` of an image; `at` is where it is in the request.
pub(super) fn read(url: String, at: String, limits: &Limits) -> Result<AskedPart, ApiError> {
    let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
    match scheme.as_str() {
        "data" => data(&url, limits).map(AskedPart::Image).map_err(|e| e.at(at)),
        "http" | "https" => Ok(AskedPart::Remote { url, at }),
        _ => {
            let shown = text::excerpt(&url, 60);
            let message = match scheme.as_str() {
                "file" => format!("`{shown}` is a file, and the server reads no files for clients"),
                _ => format!("`{shown}` is not the address of an image"),
            };
            Err(ApiError::invalid(message)
                .with_hint("send the image itself: data:image/png;base64,…")
                .at(at)
                .coded("invalid_image_url"))
        }
    }
}

/// Decodes a data URL.
fn data(url: &str, limits: &Limits) -> Result<Arc<ImageBytes>, ApiError> {
    let invalid = |message: String| {
        ApiError::invalid(message).with_hint("write data:image/png;base64,…").coded("invalid_image_url")
    };
    let rest = url.split_once(':').map_or("", |(_, rest)| rest);
    let Some((head, encoded)) = rest.split_once(',') else {
        return Err(invalid("the data URL has no comma before its data".to_owned()));
    };
    let mut fields = head.split(';').map(str::trim);
    let kind = fields.next().unwrap_or_default().to_ascii_lowercase();
    if !fields.any(|field| field.eq_ignore_ascii_case("base64")) {
        return Err(invalid("the data URL is not in base64".to_owned()));
    }
    if !kind.is_empty() && !kind.starts_with("image/") && kind != "application/octet-stream" {
        return Err(invalid(format!("the data URL is of the type `{}`, not an image", text::excerpt(&kind, 60))));
    }
    check_bytes(encoded.len() / 4 * 3, limits)?;
    let decoded = match encoded.bytes().any(|byte| byte.is_ascii_whitespace()) {
        false => BASE64.decode(encoded),
        true => BASE64.decode(encoded.split_ascii_whitespace().collect::<String>()),
    };
    check(decoded.map_err(|e| invalid(format!("the image is not valid base64: {e}")))?, limits)
}

fn check_bytes(bytes: usize, limits: &Limits) -> Result<(), ApiError> {
    if bytes > limits.image_bytes {
        let message = format!("the image has {bytes} bytes, the limit is {}", limits.image_bytes);
        return Err(ApiError::invalid(message).with_hint("make it smaller").coded("image_too_large"));
    }
    Ok(())
}

/// Checks by its header that a file is an image within the limits. The type that a client states may be that of another
/// image format, as from lmms-eval: the bytes decide.
pub(super) fn check(bytes: Vec<u8>, limits: &Limits) -> Result<Arc<ImageBytes>, ApiError> {
    check_bytes(bytes.len(), limits)?;
    let (width, height) = burgess_images::dimensions_of_bytes(&bytes).map_err(|e| {
        let hint = e.hint_text().unwrap_or("send a PNG, JPEG, WebP, GIF, BMP or TIFF").to_owned();
        ApiError::invalid(format!("the image cannot be read: {e}")).with_hint(hint).coded("invalid_image")
    })?;
    if width == 0 || height == 0 {
        return Err(ApiError::invalid(format!("the image has {width}×{height} pixels")).coded("invalid_image"));
    }
    let pixels = u64::from(width) * u64::from(height);
    if pixels > limits.image_pixels {
        let message = format!("the image has {width}×{height} pixels, the limit is {} pixels", limits.image_pixels);
        return Err(ApiError::invalid(message).with_hint("make it smaller").coded("image_too_large"));
    }
    let digest = digest::of_bytes(&bytes);
    Ok(Arc::new(ImageBytes { bytes, digest }))
}

/// Takes the messages of a request, with images that are given by address downloaded.
pub(super) async fn resolve(asked: &mut Asked, api: &Api) -> Result<Vec<Message>, ApiError> {
    let mut messages = Vec::with_capacity(asked.messages.len());
    for message in std::mem::take(&mut asked.messages) {
        let mut parts = Vec::with_capacity(message.parts.len());
        for part in message.parts {
            parts.push(match part {
                AskedPart::Text(text) => Part::Text(text),
                AskedPart::Image(image) => Part::Image(image),
                AskedPart::Remote { url, at } => match &api.remote {
                    None => {
                        return Err(ApiError::invalid("this server downloads no images")
                            .with_hint("send the image itself: data:image/png;base64,…")
                            .at(at)
                            .coded("invalid_image_url"));
                    }
                    Some(remote) => Part::Image(remote.image(url).await.map_err(|e| e.at(at))?),
                },
            });
        }
        messages.push(Message { role: message.role, parts });
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD as PADDED;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut file = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(width, height).write_to(&mut file, image::ImageFormat::Png).unwrap();
        file.into_inner()
    }

    fn error(url: &str) -> String {
        let error = read(url.to_owned(), "here".to_owned(), &Limits::default()).unwrap_err().body();
        assert_eq!(error["error"]["param"], "here");
        error["error"]["message"].as_str().unwrap().to_owned()
    }

    #[test]
    fn data_urls_are_read_with_and_without_padding_and_with_line_breaks() {
        let bytes = png(5, 4);
        let text = PADDED.encode(&bytes);
        let broken: String = text.as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line) + "\r\n").collect();
        for encoded in [text.as_str(), text.trim_end_matches('='), &broken] {
            for head in
                ["data:image/png;base64", "DATA:image/PNG;charset=x;BASE64", "data:image/jpeg;base64", "data:;base64"]
            {
                let url = format!("{head},{encoded}");
                let part = read(url, String::new(), &Limits::default()).unwrap();
                let AskedPart::Image(image) = part else { panic!("{part:?}") };
                assert_eq!((&image.bytes, &image.digest), (&bytes, &digest::of_bytes(&bytes)));
            }
        }
    }

    #[test]
    fn what_is_no_image_is_an_error_that_says_why() {
        let text = PADDED.encode(png(5, 4));
        for (url, expected) in [
            ("data:image/png;base64", "no comma"),
            ("data:image/png,%89PNG", "not in base64"),
            (&format!("data:text/html;base64,{text}"), "not an image"),
            ("data:image/png;base64,????", "not valid base64"),
            ("data:image/png;base64,QUJD", "cannot be read"),
            ("data:image/svg+xml;base64,PHN2Zy8+", "cannot be read"),
            ("file:///etc/passwd", "reads no files"),
            ("/etc/passwd", "not the address of an image"),
            ("ftp://example.org/a.png", "not the address of an image"),
            ("javascript:alert(1)", "not the address of an image"),
            ("C:\\a.png", "not the address of an image"),
            ("", "not the address of an image"),
        ] {
            assert!(error(url).contains(expected), "{url}: {}", error(url));
        }
    }
}
