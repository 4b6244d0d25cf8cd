use super::*;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use tower::ServiceExt;

/// One study named `a b`, whose version is a number, and which counts how often it is written.
#[derive(Default)]
struct Made {
    version: AtomicUsize,
    written: Arc<AtomicUsize>,
}

struct Images(String);

impl StudyImages for Images {
    fn version(&self) -> &str {
        &self.0
    }

    fn read(&self, number: usize) -> Result<Option<(Vec<u8>, String)>> {
        Ok((number == 3).then(|| (b"png".to_vec(), "image/png".to_string())))
    }
}

impl StudyPages for Made {
    fn index(&self) -> Result<String> {
        Ok("<p>index".into())
    }

    fn version(&self, study: Option<&str>) -> Result<Option<String>> {
        let known = study.is_none_or(|name| name == "a b" || name == "broken");
        Ok(known.then(|| self.version.load(Ordering::SeqCst).to_string()))
    }

    fn write(&self, study: &str, out: &Path) -> Result<Box<dyn StudyImages>> {
        if study == "broken" {
            return Err(Error::failed("no run is finished: <script>alert(1)</script>").hint("run it"));
        }
        let version = self.version.load(Ordering::SeqCst);
        self.written.fetch_add(1, Ordering::SeqCst);
        fs::create_dir_all(out.join(format!("answers/data-{version}")))?;
        fs::write(out.join("index.html"), format!("page {version}"))?;
        fs::write(out.join("ranking.json"), "{}")?;
        fs::write(out.join("answers/index.html"), format!("answers {version}"))?;
        fs::write(out.join(format!("answers/data-{version}/b0.js")), format!("pack {version}"))?;
        Ok(Box::new(Images(version.to_string())))
    }
}

async fn get_path(routes: &Router, path: &str) -> (StatusCode, axum::http::HeaderMap, String) {
    let response = routes.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, headers, String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test]
async fn pages_are_written_once_for_each_version_and_open_pages_keep_their_packs() {
    let made = Arc::new(Made::default());
    let routes = router(made.clone());
    let text = async |path: &str| {
        let (status, _, text) = get_path(&routes, path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        text
    };
    assert_eq!(text("/").await, "<p>index");
    assert_eq!(text("/study/a%20b/").await, "page 0");
    assert_eq!(text("/study/a%20b/index.html").await, "page 0");
    assert_eq!(text("/study/a%20b/ranking.json").await, "{}");
    assert_eq!(text("/study/a%20b/answers/").await, "answers 0");
    assert_eq!(text("/study/a%20b/answers/data-0/b0.js").await, "pack 0");
    assert_eq!(text("/study/a%20b/answers/image/3?g=0").await, "png");
    assert_eq!(made.written.load(Ordering::SeqCst), 1);
    made.version.store(1, Ordering::SeqCst);
    assert_eq!(text("/study/a%20b/version").await, "1");
    assert_eq!(text("/study/a%20b/answers/").await, "answers 1");
    for old in ["data-0/b0.js", "data-1/b0.js", "image/3?g=0", "image/3?g=1"] {
        text(&format!("/study/a%20b/answers/{old}")).await;
    }
    made.version.store(2, Ordering::SeqCst);
    assert_eq!(text("/study/a%20b/").await, "page 2");
    assert_eq!(get_path(&routes, "/study/a%20b/answers/data-0/b0.js").await.0, StatusCode::NOT_FOUND);
    assert_eq!(made.written.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn no_path_of_a_request_reaches_the_file_system() {
    let routes = router(Arc::new(Made::default()));
    get_path(&routes, "/study/a%20b/").await;
    for path in [
        "/study/other/",
        "/study/../",
        "/study/..%2f..%2fetc/",
        "/study/a%20b/..%2f..%2f..%2fetc%2fpasswd",
        "/study/a%20b/%2e%2e",
        "/study/a%20b/answers/..%2f/index.html",
        "/study/a%20b/answers/%2e%2e/ranking.json",
        "/study/a%20b/answers/data-0/..%2f..%2franking.json",
        "/study/a%20b/answers/data-0/%00",
        "/study/a%20b/answers/image/4?g=0",
        "/study/a%20b/answers/image/3",
        "/study/a%20b/answers/image/3?g=9",
        "/study/a%20b/answers/image/-1?g=0",
        "/study/a%20b/answers/image/99999999999999999999999?g=0",
        "/study/a%20b/answers/image/..%2f..%2fx?g=0",
        "/study/%ff/",
    ] {
        let (status, _, text) = get_path(&routes, path).await;
        assert!(status.is_client_error(), "{path}: {status} {text}");
    }
}

#[tokio::test]
async fn responses_have_types_and_policies_and_errors_are_pages() {
    let routes = router(Arc::new(Made::default()));
    let (_, headers, _) = get_path(&routes, "/study/a%20b/answers/").await;
    let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{policy}");
    let (_, headers, _) = get_path(&routes, "/study/a%20b/answers/image/3?g=0").await;
    assert_eq!(headers[header::CONTENT_TYPE], "image/png");
    assert_eq!(headers[header::CACHE_CONTROL], "private, max-age=86400, immutable");
    let (status, headers, text) = get_path(&routes, "/study/broken/").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(headers[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html"));
    assert!(text.contains("&lt;script&gt;") && text.contains("hint: run it") && !text.contains("<script"), "{text}");
    let (status, headers, _) = get_path(&routes, "/study/a%20b").await;
    assert_eq!(
        (status, headers[header::LOCATION].to_str().unwrap()),
        (StatusCode::PERMANENT_REDIRECT, "/study/a%20b/")
    );
}
