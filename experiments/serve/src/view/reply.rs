//! Responses of the viewer.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use burgess_base::Error;
use std::fmt::Write;

const HTML: &str = "text/html; charset=utf-8";

/// Policy of the pages: scripts and images of this server only. Styles and figures are inside the pages, and bars and
/// colours of their tables are style attributes.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn with_type(bytes: Vec<u8>, kind: &str) -> Response {
    let mut response = bytes.into_response();
    if let Ok(kind) = HeaderValue::from_str(kind) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

/// A page. A browser asks for it each time, because results change.
pub(super) fn html_reply(html: Vec<u8>) -> Response {
    let mut response = with_type(html, HTML);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

pub(super) fn script_reply(text: &'static str) -> Response {
    with_type(text.as_bytes().to_vec(), "text/javascript; charset=utf-8")
}

/// A file, typed by its name. `fixed` files never change under their address.
pub(super) fn file_reply(name: &str, bytes: Vec<u8>, fixed: bool) -> Response {
    let kind = match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "html" => HTML,
        "js" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "svg" => "image/svg+xml",
        _ => "application/octet-stream",
    };
    let mut response = with_type(bytes, kind);
    if kind == HTML || kind == "image/svg+xml" {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    }
    if fixed {
        keep(&mut response);
    }
    response
}

/// An image; its address has the version of the images.
pub(super) fn image_reply(bytes: Vec<u8>, kind: &str) -> Response {
    let mut response = with_type(bytes, kind);
    keep(&mut response);
    response
}

/// Lets the browser keep a response, but no cache between it and the server.
fn keep(response: &mut Response) {
    let value = HeaderValue::from_static("private, max-age=86400, immutable");
    response.headers_mut().insert(header::CACHE_CONTROL, value);
}

/// A page for what does not exist.
pub(super) fn not_found() -> Response {
    let error = Error::usage("there is no such page, study or image here").hint("go back to the list of studies");
    (StatusCode::NOT_FOUND, error_page(&error)).into_response()
}

/// A page for a reader that says what is wrong.
pub(super) fn error_page(error: &Error) -> Response {
    let mut text = String::new();
    for part in error.chain() {
        // Writing into a string cannot fail.
        let _ = write!(text, "<p>{}</p>", escaped(part).replace('\n', "<br>"));
    }
    if let Some(hint) = error.hint_text() {
        let _ = write!(text, "<p>hint: {}</p>", escaped(hint));
    }
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><link rel=\"icon\" href=\"data:,\"><title>Nothing to show</title><style>html{{color-scheme:light \
         dark}}body{{font:16px/1.5 system-ui,sans-serif;margin:40px auto;max-width:46em;padding:0 16px;\
         overflow-wrap:anywhere}}</style></head><body><h1>Nothing to show</h1>{text}<p><a href=\"/\">All \
         studies</a></p></body></html>"
    );
    let mut response = html_reply(html.into_bytes());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// Escapes text for HTML, with control characters and direction marks made visible.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in burgess_base::text::escaped_lines(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// Percent-encodes a part of a path, for the addresses of the viewer.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte.into()),
            // Writing into a string cannot fail.
            other => drop(write!(out, "%{other:02X}")),
        }
    }
    out
}
