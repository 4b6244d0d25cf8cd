//! The answer browser and the study page in a real browser: from files, and from `burgess view`.

mod study;

use burgess_tests::browser::{Browser, Page, Viewport};
use burgess_tests::{TestDir, stderr};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Makes the study and its report with these options, and returns the path of the report's page.
fn report(place: &TestDir, options: &[&str]) -> PathBuf {
    study::write(&place.path().join("runs/made"));
    let args = [&["report", "runs/made"], options].concat();
    let output = place.run(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    place.path().join("runs/made/report/index.html")
}

fn file_url(path: &Path) -> String {
    format!("file://{}", path.display())
}

fn answers_of(report: &Path) -> String {
    file_url(&report.with_file_name("answers").join("index.html"))
}

fn wait_until_ready(page: &Page) {
    page.wait_for(
        "document.body?.dataset.ready === 'yes' && document.querySelector('#asked, #none:not([hidden])')",
        20.0,
    );
}

/// `burgess view` on the directory `runs`; it ends with this value.
struct Viewer {
    process: Child,
    address: String,
}

impl Viewer {
    fn start(place: &TestDir) -> Self {
        let mut command = place.burgess(&["view", "runs", "--port", "0", "--json"]);
        let process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("burgess starts");
        // From here on the process is ended with this value, whatever happens.
        let mut viewer = Self { process, address: String::new() };
        let mut text = String::new();
        for line in BufReader::new(viewer.process.stdout.take().expect("standard output is a pipe")).lines() {
            text += &line.expect("a line");
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                viewer.address = value["address"].as_str().expect("an address").to_string();
                return viewer;
            }
        }
        panic!("the viewer has ended: {text}");
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Goes to a state by its address and returns the ids of the listed questions.
fn listed(page: &Page, hash: &str) -> Vec<String> {
    page.eval(&format!(
        "new Promise((done) => {{
            const two = (f) => requestAnimationFrame(() => requestAnimationFrame(f));
            addEventListener('hashchange', () => two(done), {{ once: true }});
            if (location.hash === {hash}) two(done); else location.hash = {hash};
        }})",
        hash = json!(format!("#{hash}"))
    ));
    ids(page)
}

/// Follows a link and waits until its page is loaded, which a click alone would not.
fn follow(page: &Page, selector: &str) {
    let address = page.text(&format!("document.querySelector({}).href", json!(selector)));
    page.goto(&address);
}

fn ids(page: &Page) -> Vec<String> {
    let found = page.eval("[...document.querySelectorAll('.row .id')].map((e) => e.textContent)");
    found.as_array().expect("a list").iter().map(|id| id.as_str().expect("an id").to_string()).collect()
}

/// Sizes of the shown images' files once all are loaded; none may be squeezed on the page.
fn image_widths(page: &Page) -> Value {
    page.wait_for("[...document.querySelectorAll('#question img')].every((i) => i.complete)", 10.0);
    let squeezed =
        page.eval("[...document.querySelectorAll('#question img')].filter((i) => i.clientWidth < 40).length");
    assert_eq!(squeezed, 0);
    page.eval("[...document.querySelectorAll('#question img')].map((i) => i.naturalWidth)")
}

fn shown_text(page: &Page) -> String {
    page.text("document.querySelector('#question').innerText")
}

/// Nothing was asked of another machine, nothing was logged as an error, every control has a name, nothing overflows.
fn check(page: &Page, allowed: &str, what: &str) {
    let outside: Vec<String> = page.requests().into_iter().filter(|url| !url.starts_with(allowed)).collect();
    assert_eq!(outside, Vec::<String>::new(), "{what}: requests");
    assert_eq!(page.console_errors(), Vec::<String>::new(), "{what}: errors");
    assert_eq!(page.unnamed_controls(), Vec::<String>::new(), "{what}: controls without names");
    assert_eq!(page.horizontal_overflow(), Vec::<String>::new(), "{what}: overflow");
}

/// Texts whose contrast with their background is below the limits of WCAG 2.2, level AA.
fn low_contrast(page: &Page) -> Vec<String> {
    let found = page.eval(include_str!("contrast.js"));
    found.as_array().expect("a list").iter().map(ToString::to_string).collect()
}

#[test]
fn filters_search_and_shared_links_give_exact_sets() {
    let Some(browser) = Browser::launch() else { return };
    let place = TestDir::new();
    let report = report(&place, &[]);
    let page = browser.open(&answers_of(&report), Viewport::DESKTOP);
    wait_until_ready(&page);
    assert_eq!(page.text("document.querySelector('#status').textContent"), "10 questions");
    let alpha = |hash: &str| listed(&page, &format!("benchmark=alpha&sort=id&{hash}"));
    for (hash, expected) in [
        ("show=disagree", &["q2", "q3", "q7"][..]),
        ("show=answers", &["q2", "q3", "q5", "q7"]),
        ("show=image", &["q1", "q2", "q7"]),
        ("show=image&runs=every", &["q1"]),
        ("show=blind", &["q3", "q8"]),
        ("show=blind&runs=every", &["q8"]),
        ("show=right", &["q1", "q8"]),
        ("show=wrong", &["q4", "q5"]),
        ("show=only", &["q2", "q3"]),
        ("show=only&only=b", &["q3"]),
        ("show=only&seeds=0", &["q2", "q3", "q7"]),
        ("show=unparsed", &["q5"]),
        ("show=unparsed&runs=every", &[]),
        ("show=wrong,unparsed", &["q5"]),
        ("show=wrong&arms=[\"a\",\"b\",\"oracle\"]", &[]),
        ("show=disagree&arms=[\"a\"]", &["q7"]),
        ("subtask=second", &["q5", "q6", "q7", "q8"]),
        ("search=thing%20Q4", &["q4"]),
        ("search=idea", &[]),
    ] {
        assert_eq!(alpha(hash), expected, "{hash}");
    }
    assert_eq!(listed(&page, "category=Knowledge"), ["b1", "b2"]);
    // By mean score of the counted runs, and by disagreement.
    assert_eq!(listed(&page, "benchmark=alpha&sort=hard")[..4], ["q4", "q5", "q7", "q2"].map(String::from));
    assert_eq!(listed(&page, "benchmark=alpha")[..3], ["q2", "q3", "q7"].map(String::from));
    // The counts that stand beside the filters, for all ten questions.
    listed(&page, "sort=id");
    let counts = page.eval("Object.fromEntries([...document.querySelectorAll('#filters-box .filter')].map((e) => [e.id, e.querySelector('.count').textContent]))");
    assert_eq!(counts["filter-disagree"], "4");
    assert_eq!(counts["filter-unparsed"], "2");
    // Answers are searched when asked for, and the address says so.
    page.eval("document.querySelector('#search').focus()");
    page.type_text("idea");
    page.wait_for("document.querySelector('#status').textContent === '0 questions'", 5.0);
    page.click("#deep");
    page.wait_for("document.querySelector('#status').textContent === '1 question'", 5.0);
    assert_eq!(ids(&page), ["q5"]);
    page.click(".row");
    page.wait_for("location.hash.includes('question=')", 5.0);
    let link = page.text("location.href");
    assert!(link.contains("search=idea") && link.contains("in=answers") && link.contains("alpha%2Fq5"), "{link}");
    // A second browser tab restores the state from the link alone.
    let shared = browser.open(&link, Viewport::DESKTOP);
    wait_until_ready(&shared);
    shared.wait_for("document.querySelector('#status').textContent === '1 question'", 5.0);
    assert_eq!(shared.text("document.querySelector('#search').value"), "idea");
    assert!(shown_text(&shared).contains("no idea") && shown_text(&shared).contains("unparsed"));
    // A link to what the study does not have says so.
    let wrong = browser.open(&format!("{}#benchmark=gone&question=alpha/q99", answers_of(&report)), Viewport::DESKTOP);
    wait_until_ready(&wrong);
    let message = wrong.text("document.querySelector('#message').textContent");
    assert!(message.contains("alpha/q99"), "{message}");
    for page in [&page, &shared, &wrong] {
        check(page, "file://", "answers");
    }
}

#[test]
fn images_appear_and_what_is_missing_is_said() {
    let Some(browser) = Browser::launch() else { return };
    let place = TestDir::new();
    for (options, copied) in [(&["--images", "copy"][..], true), (&["--images", "link"], false)] {
        let report = report(&place, options);
        let page = browser.open(&answers_of(&report), Viewport::DESKTOP);
        wait_until_ready(&page);
        let widths = |id: &str| {
            listed(&page, &format!("sort=id&question=alpha/{id}"));
            page.wait_for(&format!("document.querySelector('#question .head').textContent.includes('{id}')"), 5.0);
            image_widths(&page)
        };
        assert_eq!(widths("q2"), json!([50]));
        assert_eq!(widths("q6"), json!([40, 50]));
        assert_eq!(widths("q8"), json!([]));
        let text = shown_text(&page);
        assert!(text.contains("does not exist") && text.contains("images/q8.png"), "{text}");
        assert_eq!(widths("q7"), json!([]));
        let text = shown_text(&page);
        assert!(text.contains("lies outside the study's data") && text.contains("/etc/hostname.png"), "{text}");
        check(&page, "file://", "images");
        // Only copies survive that the folder is moved; without them the page says what it cannot show.
        let moved = place.path().join(if copied { "moved-copies" } else { "moved-links" });
        std::fs::create_dir_all(&moved).unwrap();
        std::fs::rename(report.parent().unwrap(), moved.join("report")).unwrap();
        let page = browser.open(
            &format!("{}#question=alpha/q2", file_url(&moved.join("report/answers/index.html"))),
            Viewport::PHONE,
        );
        wait_until_ready(&page);
        match copied {
            true => assert_eq!(image_widths(&page), json!([50])),
            false => {
                page.wait_for("document.querySelector('#question .gone')?.textContent.includes('images/q2.png')", 10.0)
            }
        }
    }
    let none = report(&place, &["--images", "none"]);
    let page = browser.open(&answers_of(&none), Viewport::DESKTOP);
    wait_until_ready(&page);
    assert!(shown_text(&page).contains("Images are left out"));
    assert!(!none.with_file_name("answers").join("images").exists());
    let packs = burgess_tests::files(&none.with_file_name("answers"));
    assert!(packs.iter().all(|pack| !std::fs::read_to_string(pack).unwrap().contains("hostname.png")));
}

#[test]
fn texts_of_models_are_shown_and_never_run() {
    let Some(browser) = Browser::launch() else { return };
    let place = TestDir::new();
    let report = report(&place, &[]);
    let page = browser.open(&format!("{}#question=beta/b2", answers_of(&report)), Viewport::DESKTOP);
    wait_until_ready(&page);
    let text = shown_text(&page);
    assert!(text.contains("</script><img src=x onerror=") && text.contains(r"\u{202e}<b>"), "{text}");
    assert!(text.contains(r"\x1b[2J\x00"), "{text}");
    assert_eq!(page.eval("document.querySelectorAll('img[src=x], #question b b, option b').length"), 0);
    assert!(page.text("document.title").starts_with("Answers"));
    // Choices and log-likelihoods of the other question.
    listed(&page, "question=beta/b1");
    page.wait_for("document.querySelector('.likelihoods')", 5.0);
    assert_eq!(
        page.text("document.querySelector('#question .choices .right').innerText.replace(/\\s+/g, ' ')"),
        "B green right"
    );
    let text = page.text("document.querySelector('.likelihoods').innerText");
    assert!(text.contains("-0.50") && text.contains("73.1 %") && text.contains("26.9 %"), "{text}");
    check(&page, "file://", "harmful texts");
}

#[test]
fn the_keyboard_alone_is_enough() {
    let Some(browser) = Browser::launch() else { return };
    let place = TestDir::new();
    let page = browser.open(&answers_of(&report(&place, &[])), Viewport::DESKTOP);
    wait_until_ready(&page);
    let focus = || page.text("document.activeElement.id");
    page.press("/");
    assert_eq!(focus(), "search");
    page.type_text("thing");
    page.wait_for("document.querySelector('#status').textContent === '8 of 8 questions' || document.querySelector('#status').textContent === '8 questions'", 5.0);
    page.press("Enter");
    assert_eq!(focus(), "rows");
    let selected = || page.text("document.querySelector('.row[aria-selected=true] .id').textContent");
    let first = selected();
    page.press("j");
    let second = selected();
    page.press("ArrowDown");
    let third = selected();
    page.press("k");
    assert_eq!(selected(), second);
    page.press("ArrowUp");
    assert_eq!(selected(), first);
    assert!(first != second && second != third);
    page.press("End");
    page.wait_for("document.querySelector('.row[aria-selected=true]').ariaPosInSet === '8'", 5.0);
    let active = page.text("document.querySelector('#rows').getAttribute('aria-activedescendant')");
    assert_eq!(page.eval(&format!("document.getElementById('{active}').getAttribute('aria-selected')")), "true");
    page.press("Enter");
    page.wait_for("document.activeElement.id === 'asked'", 5.0);
    page.press("Escape");
    assert_eq!(focus(), "rows");
    // Every control is reached by Tab, in order, and shows that it has the focus.
    page.eval("document.activeElement.blur(); document.querySelector('header').tabIndex = -1; document.querySelector('header').focus()");
    let mut reached = Vec::new();
    for _ in 0..40 {
        page.press("Tab");
        reached.push(focus());
        let outline = page.text("getComputedStyle(document.activeElement).outlineStyle");
        assert!(outline != "none" || reached.last().is_some_and(String::is_empty), "no visible focus: {reached:?}");
    }
    let places = ["part", "subtask", "many", "all-arms", "reset", "search", "deep", "sort", "rows"].map(|id| {
        reached.iter().position(|found| found == id).unwrap_or_else(|| panic!("{id} is not reached: {reached:?}"))
    });
    assert!(places.is_sorted(), "{reached:?}");
    // Space ticks a filter.
    page.eval("document.querySelector('#filter-disagree input').focus()");
    page.press("Space");
    page.wait_for("location.hash.includes('show=disagree')", 5.0);
    check(&page, "file://", "keyboard");
}

#[test]
fn a_phone_shows_the_list_or_the_question_in_light_and_dark() {
    let Some(browser) = Browser::launch() else { return };
    let place = TestDir::new();
    let url = answers_of(&report(&place, &[]));
    for viewport in [Viewport::PHONE, Viewport::SMALL_PHONE, Viewport::DESKTOP] {
        let page = browser.open(&url, viewport);
        page.wait_for("document.body?.dataset.ready === 'yes' && document.querySelector('.row')", 20.0);
        for dark in [false, true] {
            page.set_dark(dark);
            check(&page, "file://", &format!("{viewport:?}, dark {dark}"));
            assert_eq!(low_contrast(&page), Vec::<String>::new(), "{viewport:?}, dark {dark}");
        }
        page.click(".row");
        page.wait_for("document.querySelector('#asked')", 5.0);
        if viewport.phone {
            assert_eq!(page.text("getComputedStyle(document.querySelector('.found')).display"), "none");
            check(&page, "file://", "question on a phone");
            assert_eq!(low_contrast(&page), Vec::<String>::new(), "question on a phone");
            // The back button of the browser leads to the list.
            page.eval("history.back()");
            page.wait_for("getComputedStyle(document.querySelector('.found')).display !== 'none'", 5.0);
            page.click("#filters > summary");
            page.click("#filter-wrong input");
            page.wait_for("location.hash.includes('show=wrong')", 5.0);
        }
    }
}

#[test]
fn the_study_page_is_readable_everywhere() {
    let Some(browser) = Browser::launch() else { return };
    let place = TestDir::new();
    let report = report(&place, &[]);
    for viewport in [Viewport::DESKTOP, Viewport::PHONE, Viewport::SMALL_PHONE] {
        let page = browser.open(&file_url(&report), viewport);
        for dark in [false, true] {
            page.set_dark(dark);
            check(&page, "file://", &format!("study page, {viewport:?}, dark {dark}"));
            assert_eq!(low_contrast(&page), Vec::<String>::new(), "study page, {viewport:?}, dark {dark}");
        }
        // From the study's page to a benchmark's questions and back.
        follow(&page, "#examples h3 a");
        page.wait_for("document.body?.dataset.ready === 'yes' && location.hash.includes('benchmark=')", 20.0);
        follow(&page, "header nav a");
        page.wait_for("document.querySelector('#ranking')", 10.0);
    }
}

#[test]
fn a_server_shows_studies_and_new_results() {
    let Some(browser) = Browser::launch() else { return };
    let place = TestDir::new();
    study::write(&place.path().join("runs/made"));
    std::fs::create_dir_all(place.path().join("runs/begun/x/seed-0")).unwrap();
    let before = burgess_tests::files(&place.path().join("runs"));
    let viewer = Viewer::start(&place);
    let page = browser.open(&viewer.address, Viewport::DESKTOP);
    let text = page.text("document.body.innerText");
    for said in ["6 done", "1 failed", "the disk is full", "1 to do", "No run is finished yet"] {
        assert!(text.contains(said), "{said} is not in\n{text}");
    }
    for viewport in [Viewport::DESKTOP, Viewport::PHONE] {
        page.set_viewport(viewport);
        for dark in [false, true] {
            page.set_dark(dark);
            check(&page, &viewer.address, "list of studies");
            assert_eq!(low_contrast(&page), Vec::<String>::new(), "list of studies, dark {dark}");
        }
    }
    follow(&page, "h2 a");
    page.wait_for("document.querySelector('#ranking')", 20.0);
    check(&page, &viewer.address, "study page of the server");
    let page = browser.open(&format!("{}/study/made/answers/#question=alpha/q2", viewer.address), Viewport::DESKTOP);
    wait_until_ready(&page);
    assert_eq!(image_widths(&page), json!([50]));
    check(&page, &viewer.address, "answers of the server");
    // A run that finishes appears on the next visit.
    let moved = place.path().join("runs/made/a/seed-1");
    std::fs::rename(&moved, place.path().join("away")).unwrap();
    page.reload();
    wait_until_ready(&page);
    assert!(page.text("document.querySelector('header').innerText").contains("5 runs"));
    std::fs::rename(place.path().join("away"), &moved).unwrap();
    page.reload();
    wait_until_ready(&page);
    assert!(page.text("document.querySelector('header').innerText").contains("6 runs"));
    check(&page, &viewer.address, "answers after new results");
    // A study without results says so; nothing was written into the studies.
    let page = browser.open(&format!("{}/study/begun/", viewer.address), Viewport::PHONE);
    assert!(page.text("document.body.innerText").contains("no run in"), "{}", page.text("document.body.innerText"));
    assert_eq!(burgess_tests::files(&place.path().join("runs")), before);
}
