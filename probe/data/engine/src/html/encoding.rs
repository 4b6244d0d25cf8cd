//! The characters of a page.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};
use std::borrow::Cow;

/// Number of bytes in which a page states its encoding.
const FRONT: usize = 1024;

/// Decodes a page as browsers do: by its byte-order mark, else the `charset` of `content_type`, else the one that a
/// `meta` element in its first 1024 bytes states, else as UTF-8, or as Windows-1252 if it is no UTF-8. Characters that
/// cannot be decoded become U+FFFD.
pub fn decode<'a>(bytes: &'a [u8], content_type: Option<&str>) -> Cow<'a, str> {
    let stated = content_type.and_then(charset).or_else(|| {
        let front = bytes.get(..FRONT).unwrap_or(bytes);
        let front: String = front.iter().map(|b| char::from(b.to_ascii_lowercase())).collect();
        let meta = front.find("<meta").and_then(|at| front.get(at..)).and_then(charset);
        // A page whose `meta` can be read is not in UTF-16.
        meta.map(|encoding| if encoding.is_ascii_compatible() { encoding } else { UTF_8 })
    });
    let encoding = stated.unwrap_or_else(|| match std::str::from_utf8(bytes) {
        Ok(_) => UTF_8,
        // The last character of a page that was cut may be incomplete.
        Err(e) if e.error_len().is_none() => UTF_8,
        Err(_) => WINDOWS_1252,
    });
    encoding.decode(bytes).0
}

/// Returns the encoding after `charset=`.
fn charset(text: &str) -> Option<&'static Encoding> {
    let at = text.to_ascii_lowercase().find("charset")?;
    let rest = text.get(at + "charset".len()..)?.trim_start().strip_prefix('=')?.trim_start();
    let rest = rest.trim_start_matches(['"', '\'']);
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ';' | '>' | '/')).unwrap_or(rest.len());
    Encoding::for_label(rest.get(..end)?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_found_as_browsers_find_it() {
        let cases: [(&[u8], Option<&str>, &str); 9] = [
            ("größe".as_bytes(), None, "größe"),
            (b"gr\xf6\xdfe", None, "größe"),
            (b"gr\xf6\xdfe", Some("text/html; charset=ISO-8859-1"), "größe"),
            (b"\xef\xbb\xbfx", Some("text/html; charset=latin1"), "x"),
            (b"\xff\xfex\0y\0", None, "xy"),
            (b"<meta charset='shift_jis'>\x83\x7d", None, "<meta charset='shift_jis'>マ"),
            (b"<meta charset=utf-16>x", None, "<meta charset=utf-16>x"),
            (b"x\xc3", None, "x\u{fffd}"),
            (b"x", Some("text/html; charset=\"no such\""), "x"),
        ];
        for (bytes, content_type, expected) in cases {
            assert_eq!(decode(bytes, content_type), expected);
        }
    }
}
