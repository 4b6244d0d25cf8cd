//! The browser of the page tests, tried on small pages of its own: what it reports must be there to be reported.

use burgess_tests::browser::{Browser, Page, Viewport};
use std::fs;
use std::path::Path;

const PAGE: &str = r#"<!doctype html><html lang="en"><meta name="viewport" content="width=device-width">
<title>t</title><style>body { background: white } @media (prefers-color-scheme: dark) { body { background: black } }
#wide { width: 700px; height: 5px; background: red }</style>
<button></button><button id="named" onclick="document.title = 'clicked'">ok</button>
<input id="field" aria-label="field" onkeydown="if (event.key === 'Enter') document.title = this.value + event.shiftKey">
<input id="file" type="file" aria-label="file" onchange="document.title = this.files[0].name">
<div id="wide"></div>
<img alt="x" src="http://example.com/a.png"><img alt="x" src="http://192.0.2.1/b.png">
<script>console.error('said', 7); setTimeout(() => { throw new Error('thrown') })</script></html>"#;

fn open(browser: &Browser, dir: &Path, viewport: Viewport) -> Page {
    let file = dir.join("page.html");
    fs::write(&file, PAGE).unwrap();
    browser.open(&format!("file://{}", file.display()), viewport)
}

/// A click, keys, a text and a file reach the page; a screenshot has the size of the window.
#[test]
fn a_page_is_used() {
    let Some(browser) = Browser::launch() else { return };
    let dir = tempfile::tempdir().unwrap();
    let page = open(&browser, dir.path(), Viewport::DESKTOP);
    assert_eq!(page.eval("1 + 1"), 2);
    assert_eq!(page.eval("Promise.resolve([innerWidth, devicePixelRatio])"), serde_json::json!([1280, 1]));
    page.click("#named");
    page.wait_for("document.title === 'clicked'", 5.0);
    page.press("Tab");
    assert_eq!(page.text("document.activeElement.id"), "field");
    page.type_text("héllo <b>");
    page.press("a");
    page.press("Shift+Enter");
    page.wait_for("document.title === 'héllo <b>atrue'", 5.0);
    page.press("Control+a");
    page.press("Backspace");
    assert_eq!(page.text("document.activeElement.value"), "");
    page.upload("#file", &dir.path().join("page.html"));
    page.wait_for("document.title === 'page.html'", 5.0);

    page.set_viewport(Viewport::PHONE);
    let shot = dir.path().join("shot.png");
    page.screenshot(&shot);
    let size = image::image_dimensions(&shot).unwrap();
    assert_eq!(size, (780, 1688));
    for dark in [true, false] {
        page.set_dark(dark);
        let expected = if dark { "rgb(0, 0, 0)" } else { "rgb(255, 255, 255)" };
        assert_eq!(page.text("getComputedStyle(document.body).backgroundColor"), expected);
    }
}

/// Requests to other machines fail and are listed; errors, controls without names and overflow are found.
#[test]
fn faults_are_found() {
    let Some(browser) = Browser::launch() else { return };
    let dir = tempfile::tempdir().unwrap();
    let page = open(&browser, dir.path(), Viewport::PHONE);
    page.wait_for("[...document.images].every((i) => i.complete && i.naturalWidth === 0)", 10.0);
    let outside: Vec<String> = page.requests().into_iter().filter(|url| !url.starts_with("file://")).collect();
    assert_eq!(outside, ["http://example.com/a.png", "http://192.0.2.1/b.png"]);
    let errors = page.console_errors().join("\n");
    for part in ["said 7", "thrown", "ERR_NAME_NOT_RESOLVED http://example.com/a.png", "http://192.0.2.1/b.png"] {
        assert!(errors.contains(part), "{part} is not in\n{errors}");
    }
    assert_eq!(page.unnamed_controls(), ["button <button>"]);
    let overflow = page.horizontal_overflow().join("\n");
    assert!(overflow.contains("div#wide"), "{overflow}");
}

/// Pages do not share what they store, and the processes of the browser are gone after it was dropped.
#[test]
fn tabs_are_apart_and_end() {
    let Some(browser) = Browser::launch() else { return };
    let dir = tempfile::tempdir().unwrap();
    let one = open(&browser, dir.path(), Viewport::DESKTOP);
    let two = open(&browser, dir.path(), Viewport::DESKTOP);
    one.eval("localStorage.setItem('a', '1')");
    assert_eq!(two.eval("localStorage.getItem('a')"), serde_json::Value::Null);
    one.reload();
    assert_eq!(one.text("localStorage.getItem('a')"), "1");
}
