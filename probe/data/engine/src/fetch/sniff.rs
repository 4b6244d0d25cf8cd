//! What a file is, by its first bytes: a server's `Content-Type` is often wrong.

/// Kind of a file's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Content {
    /// A JPEG image.
    Jpeg,
    /// A PNG image.
    Png,
    /// A GIF image.
    Gif,
    /// A WebP image.
    WebP,
    /// A TIFF image.
    Tiff,
    /// A BMP image.
    Bmp,
    /// An SVG image, as text or gzip-compressed (`.svgz`); the latter is told apart by [`Content::Gzip`].
    Svg,
    /// An AVIF or HEIC image, or a video of that family.
    IsoMedia,
    /// An HTML page.
    Html,
    /// XML that is neither SVG nor HTML.
    Xml,
    /// JSON.
    Json,
    /// Data compressed by gzip.
    Gzip,
    /// A PDF document.
    Pdf,
    /// Text of another kind.
    Text,
    /// Something else.
    Other,
}

/// Number of bytes that are looked at for a tag of SVG or HTML.
const FRONT: usize = 4096;

impl Content {
    /// Returns the kind of a file with these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0xff, 0xd8, 0xff, ..] => return Self::Jpeg,
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => return Self::Png,
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => return Self::Gif,
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => return Self::WebP,
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => return Self::Tiff,
            // The two reserved numbers of the header are 0.
            [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => return Self::Bmp,
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => return Self::IsoMedia,
            [0x1f, 0x8b, ..] => return Self::Gzip,
            [b'%', b'P', b'D', b'F', ..] => return Self::Pdf,
            _ => {}
        }
        let front = bytes.get(..FRONT).unwrap_or(bytes);
        // UTF-16 has a zero in each character of a tag.
        let text: String = front.iter().filter(|b| **b != 0).map(|b| char::from(b.to_ascii_lowercase())).collect();
        let text = text.trim_start_matches(['\u{ef}', '\u{bb}', '\u{bf}', '\u{fe}', '\u{ff}']).trim_start();
        let tag = |name: &str| text.contains(name);
        if text.starts_with('<') {
            let markup = text.starts_with("<?xml") || text.starts_with("<!--") || text.starts_with("<!doctype");
            if text.starts_with("<svg") || markup && tag("<svg") && !tag("<html") && !tag("<!doctype html") {
                return Self::Svg;
            }
            let pages = ["<!doctype html", "<html", "<head", "<body", "<title", "<div", "<p", "<h1", "<h2", "<table"];
            if pages.iter().any(|start| text.starts_with(start)) || tag("<html") || tag("<body") {
                return Self::Html;
            }
            return if text.starts_with("<?xml") { Self::Xml } else { Self::Text };
        }
        let first = text.bytes().next();
        if matches!(first, Some(b'{' | b'[')) {
            return Self::Json;
        }
        let control = |b: &u8| *b < 9 || (14..32).contains(b);
        match front.is_empty() || front.iter().any(control) {
            true => Self::Other,
            false => Self::Text,
        }
    }

    /// Whether it is an image that can be decoded, or drawn from SVG.
    pub fn is_image(self) -> bool {
        matches!(self, Self::Jpeg | Self::Png | Self::Gif | Self::WebP | Self::Tiff | Self::Bmp | Self::Svg)
    }

    /// Returns the name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "jpeg",
            Self::Png => "png",
            Self::Gif => "gif",
            Self::WebP => "webp",
            Self::Tiff => "tiff",
            Self::Bmp => "bmp",
            Self::Svg => "svg",
            Self::IsoMedia => "avif, heic or video",
            Self::Html => "html",
            Self::Xml => "xml",
            Self::Json => "json",
            Self::Gzip => "gzip",
            Self::Pdf => "pdf",
            Self::Text => "text",
            Self::Other => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_told_by_bytes() {
        for (bytes, expected) in [
            (&b"\xff\xd8\xff\xe0"[..], Content::Jpeg),
            (b"\x89PNG\r\n\x1a\n", Content::Png),
            (b"GIF89a", Content::Gif),
            (b"RIFF\x01\0\0\0WEBPVP8 ", Content::WebP),
            (b"RIFF\x01\0\0\0WAVE", Content::Other),
            (b"II*\0", Content::Tiff),
            (b"BM\x01\0\0\0\0\0\0\0", Content::Bmp),
            (b"BMW cars", Content::Text),
            (b"\0\0\0\x1cftypavif", Content::IsoMedia),
            (b"<svg xmlns='x'/>", Content::Svg),
            (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- made by x -->\n<SVG>", Content::Svg),
            (b"\xff\xfe<\0s\0v\0g\0", Content::Svg),
            (b"<!DOCTYPE html><html><body><svg></svg>", Content::Html),
            (b"  <html>", Content::Html),
            (b"<?xml version='1.0'?><html xmlns='x'>", Content::Html),
            (b"<?xml version='1.0'?><rss>", Content::Xml),
            (b"{\"a\":1}", Content::Json),
            (b"\x1f\x8b\x08", Content::Gzip),
            (b"%PDF-1.7", Content::Pdf),
            (b"plain", Content::Text),
            (b"", Content::Other),
            (b"\0\x01\x02", Content::Other),
        ] {
            assert_eq!(Content::of(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
        assert!(Content::Svg.is_image() && !Content::IsoMedia.is_image());
    }
}
