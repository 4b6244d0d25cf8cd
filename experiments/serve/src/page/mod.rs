//! The chat page at `/`: one or two models answer questions about an image, beside their blind answers.
//!
//! The page is part of the binary and loads nothing from elsewhere. It uses the server's own API, thus whatever it does
//! can be done by any client.

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::routing::get;

/// A file of the page: its path, its content type and its text.
type PageFile = (&'static str, &'static str, &'static str);

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// All files of the page.
const FILES: [PageFile; 15] = [
    ("/", HTML, include_str!("web/page.html")),
    ("/page/page.css", CSS, include_str!("web/page.css")),
    ("/page/icon.svg", "image/svg+xml", include_str!("web/icon.svg")),
    ("/page/theme.js", SCRIPT, include_str!("web/theme.js")),
    ("/page/main.js", SCRIPT, include_str!("web/main.js")),
    ("/page/api.js", SCRIPT, include_str!("web/api.js")),
    ("/page/columns.js", SCRIPT, include_str!("web/columns.js")),
    ("/page/conversation.js", SCRIPT, include_str!("web/conversation.js")),
    ("/page/dom.js", SCRIPT, include_str!("web/dom.js")),
    ("/page/image.js", SCRIPT, include_str!("web/image.js")),
    ("/page/options.js", SCRIPT, include_str!("web/options.js")),
    ("/page/record.js", SCRIPT, include_str!("web/record.js")),
    ("/page/settings.js", SCRIPT, include_str!("web/settings.js")),
    ("/page/tokens.js", SCRIPT, include_str!("web/tokens.js")),
    ("/page/view.js", SCRIPT, include_str!("web/view.js")),
];

/// Returns the routes of the page.
pub(crate) fn router() -> Router {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        // A browser asks each time, so that a newer server never meets scripts of an older one.
        let headers: [(HeaderName, HeaderValue); 2] = [
            (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ];
        router.route(path, get(move || async move { (headers, text) }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use http_body_util::BodyExt;
    use std::path::Path;
    use tower::ServiceExt;

    /// Every file in `web/` is served under its name with its type.
    #[tokio::test]
    async fn every_file_is_served() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page/web");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let file = entry.unwrap().path();
            let name = file.file_name().unwrap().to_str().unwrap().to_owned();
            let path = if name == "page.html" { "/".to_owned() } else { format!("/page/{name}") };
            let request = Request::get(&path).body(Body::empty()).unwrap();
            let response = router().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            let kind = match file.extension().unwrap().to_str().unwrap() {
                "html" => HTML,
                "css" => CSS,
                "js" => SCRIPT,
                "svg" => "image/svg+xml",
                other => panic!("a file of the kind {other}"),
            };
            assert_eq!(response.headers()[header::CONTENT_TYPE], kind, "{path}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, std::fs::read(&file).unwrap(), "{path}");
            count += 1;
        }
        assert_eq!(count, FILES.len());
    }

    /// The page works under a policy that allows scripts and styles of the server's own files only, names no other
    /// host, and sets untrusted text as text.
    #[test]
    fn nothing_is_inline_or_elsewhere() {
        for (path, kind, text) in FILES {
            for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "https://"] {
                assert!(!text.contains(forbidden), "{path} has {forbidden}");
            }
            let without_namespace = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!without_namespace.contains("http://"), "{path} names another host");
            if kind == HTML {
                let handler = |word: &str| word.starts_with("on") && word.contains('=');
                let inline = text.contains("style=") || text.contains("<style") || text.split_whitespace().any(handler);
                assert!(!text.contains("<script>") && !inline, "{path} has an inline script or style");
            }
        }
    }
}
