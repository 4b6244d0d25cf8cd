//! From a thumbnail of a wiki to the original file.

/// Formats of originals that are no images: videos, sounds and documents, whose thumbnail is the image.
const NO_IMAGES: [&str; 12] = ["pdf", "djvu", "webm", "ogv", "ogg", "oga", "mp4", "mpg", "mpeg", "mp3", "wav", "stl"];

/// Returns the address of the original file for the address of a thumbnail of MediaWiki: without the folder `thumb` and
/// the last part, `250px-Name.jpg`. Any other address, and the thumbnail of a video or document, stays as it is.
///
/// ```
/// use burgess_engine::html::original;
/// let thumbnail = "https://upload.wikimedia.org/wikipedia/commons/thumb/a/a9/Oak.svg/250px-Oak.svg.png";
/// assert_eq!(original(thumbnail), "https://upload.wikimedia.org/wikipedia/commons/a/a9/Oak.svg");
/// ```
pub fn original(url: &str) -> String {
    let (path, query) = split_query(url);
    let stays = || url.to_string();
    let Some((folder, last)) = path.rsplit_once('/') else { return stays() };
    if !is_thumbnail(last) {
        return stays();
    }
    let Some((before, after)) = folder.rsplit_once("/thumb/") else { return stays() };
    let ending = folder.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
    // The original's own folder and name: `a/a9/Oak.svg`, or `Oak.svg` in wikis without hashed folders.
    if NO_IMAGES.contains(&ending.as_str()) || after.is_empty() {
        return stays();
    }
    // Thumbnails carry a query that counts views; the original needs none.
    let kept = if query.starts_with("?utm_") { "" } else { query };
    format!("{before}/{after}{kept}")
}

/// Returns the address of the picture that MediaWiki makes of a drawing, `width` pixels wide, for the address of the
/// original; `None` if the address is not that of an SVG in a wiki. Wikimedia serves some widths only, such as 960.
pub fn thumbnail_of(url: &str, width: u32) -> Option<String> {
    let (path, query) = split_query(url);
    let (folder, name) = path.rsplit_once('/')?;
    if !name.to_ascii_lowercase().ends_with(".svg") || folder.contains("/thumb/") {
        return None;
    }
    // A page that redirects to the file takes the width as a parameter.
    if folder.ends_with("/Special:FilePath") {
        return Some(format!("{path}?width={width}"));
    }
    let (folder, second) = folder.rsplit_once('/')?;
    let (base, first) = folder.rsplit_once('/')?;
    let hashed = first.len() == 1 && second.len() == 2 && second.starts_with(first);
    (hashed && query.is_empty()).then(|| format!("{base}/thumb/{first}/{second}/{name}/{width}px-{name}.png"))
}

/// Whether the last part of an address is that of a thumbnail: `250px-Oak.jpg`, `page2-250px-A.tif.jpg`,
/// `lossy-page1-250px-A.tif.jpg`, `langde-250px-A.svg.png`.
fn is_thumbnail(last: &str) -> bool {
    last.split('-').take(4).any(|part| {
        part.strip_suffix("px").is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
    })
}

/// Returns the name of a wiki's file from the address of its page, its original or its thumbnail, with spaces as a
/// title has them: `Oak.svg`. `None` if the address is none of them.
pub fn file_name(url: &str) -> Option<String> {
    let (path, query) = split_query(url);
    let decode = |name: &str| {
        // As a query's value, which is decoded; `+` stands for itself in a path.
        let escaped = format!("x={}", name.replace('+', "%2B").replace('&', "%26"));
        let decoded = url::form_urlencoded::parse(escaped.as_bytes()).next().map(|(_, value)| value.replace('_', " "));
        decoded.filter(|name| !name.is_empty() && !name.contains('/'))
    };
    let title = url::form_urlencoded::parse(query.trim_start_matches('?').as_bytes())
        .find(|(key, _)| key == "title")
        .map(|(_, value)| value.replace('_', " "));
    let last = path.rsplit('/').next().filter(|last| !last.is_empty())?;
    let page = title.or_else(|| decode(last))?;
    if let Some((namespace, name)) = page.split_once(':')
        && !name.is_empty()
        && !namespace.contains('.')
    {
        return Some(name.trim().to_string());
    }
    let original = original(url);
    let folder = split_query(&original).0;
    let files = ["/commons/", "/images/", "/wikipedia/", "/thumb/"];
    files.iter().any(|name| folder.contains(name)).then(|| decode(folder.rsplit('/').next()?)).flatten()
}

/// Splits an address before its query.
fn split_query(url: &str) -> (&str, &str) {
    url.split_at(url.find(['?', '#']).unwrap_or(url.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbnails_become_originals_and_others_stay() {
        let site = "https://upload.wikimedia.org/wikipedia";
        for (thumbnail, expected) in [
            ("/commons/thumb/a/a9/Oak.jpg/250px-Oak.jpg", "/commons/a/a9/Oak.jpg"),
            ("/commons/thumb/a/a9/Oak.jpg/250px-Oak.jpg?utm_source=x", "/commons/a/a9/Oak.jpg"),
            ("/commons/thumb/a/a9/Oak.svg/langde-250px-Oak.svg.png", "/commons/a/a9/Oak.svg"),
            ("/commons/thumb/a/a9/A.tif/lossy-page1-250px-A.tif.jpg", "/commons/a/a9/A.tif"),
            ("/en/thumb/a/a9/250px-x.png/120px-250px-x.png", "/en/a/a9/250px-x.png"),
            (
                "/commons/thumb/a/a9/Film.webm/250px--Film.webm.jpg",
                "/commons/thumb/a/a9/Film.webm/250px--Film.webm.jpg",
            ),
            ("/commons/thumb/a/a9/B.pdf/page1-250px-B.pdf.jpg", "/commons/thumb/a/a9/B.pdf/page1-250px-B.pdf.jpg"),
            ("/commons/a/a9/Oak.jpg", "/commons/a/a9/Oak.jpg"),
            ("/commons/a/a9/250px-Oak.jpg", "/commons/a/a9/250px-Oak.jpg"),
            ("/commons/thumb/a/a9/Oak.jpg", "/commons/thumb/a/a9/Oak.jpg"),
            ("", ""),
        ] {
            assert_eq!(original(&format!("{site}{thumbnail}")), format!("{site}{expected}"));
        }
        // A small wiki without hashed folders.
        assert_eq!(original("http://w.test/images/thumb/A.png/120px-A.png"), "http://w.test/images/A.png");
        let drawn = thumbnail_of(&format!("{site}/commons/a/a9/Oak.svg"), 960).unwrap();
        assert_eq!(drawn, format!("{site}/commons/thumb/a/a9/Oak.svg/960px-Oak.svg.png"));
        assert_eq!(original(&drawn), format!("{site}/commons/a/a9/Oak.svg"));
        let page = "https://w.test/wiki/Special:FilePath/Oak.svg";
        assert_eq!(thumbnail_of(page, 960), Some(format!("{page}?width=960")));
        assert!(thumbnail_of("https://x.org/a/b/c.svg", 960).is_none() && thumbnail_of(&drawn, 960).is_none());
        for odd in ["", "/", "thumb", "?", "http://x/thumb//1px-", ".svg", "/.svg"] {
            original(odd);
            thumbnail_of(odd, 1);
            file_name(odd);
        }
    }

    #[test]
    fn names_of_files_are_read_from_every_address() {
        for url in [
            "https://en.wikipedia.org/wiki/File:Red_oak_%281%29.jpg",
            "https://de.wikipedia.org/wiki/Datei:Red_oak_(1).jpg",
            "https://en.wikipedia.org/w/index.php?title=File:Red_oak_(1).jpg",
            "https://upload.wikimedia.org/wikipedia/commons/a/a9/Red_oak_%281%29.jpg",
            "https://upload.wikimedia.org/wikipedia/commons/thumb/a/a9/Red_oak_(1).jpg/250px-Red_oak_(1).jpg",
            "http://127.0.0.1:8080/images/Red_oak_(1).jpg",
        ] {
            assert_eq!(file_name(url).as_deref(), Some("Red oak (1).jpg"), "{url}");
        }
        assert_eq!(file_name("https://x.org/wiki/File:C%2B%2B_a+b.png").as_deref(), Some("C++ a+b.png"));
        assert_eq!(file_name("https://x.org/a.png"), None);
        assert_eq!(file_name("https://x.org/"), None);
    }
}
