//! The chat page in a real browser, against the real server with models that echo the question.

use burgess_serve::{ChatModel, ChatRequest, Example, FakeModel, Limits, Part, Server, ServerConfig};
use burgess_tests::browser::{Browser, Page, Viewport};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Starts a server that runs until the test process ends; returns its address.
fn serve(models: &[&Arc<FakeModel>], change: impl FnOnce(&mut ServerConfig)) -> String {
    let mut config = ServerConfig { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..ServerConfig::default() };
    change(&mut config);
    let models = models.iter().map(|model| Arc::clone(model) as Arc<dyn ChatModel>).collect();
    let server = Server::bind(config, models).unwrap();
    let address = server.address();
    std::thread::spawn(move || server.run_blocking(std::future::pending()).unwrap());
    format!("http://{address}/")
}

/// A noisy image, so that its file is about as large as its pixels.
fn image(dir: &Path, name: &str, width: u32) -> PathBuf {
    let mut state = 1_u32;
    let noise = image::RgbImage::from_fn(width, width, |_, _| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        image::Rgb([(state >> 24) as u8, (state >> 16) as u8, (state >> 8) as u8])
    });
    let path = dir.join(name);
    noise.save(&path).unwrap();
    path
}

/// Opens the page and waits until it knows its models.
fn open(browser: &Browser, url: &str, viewport: Viewport) -> Page {
    let page = browser.open(url, viewport);
    page.wait_for("document.querySelectorAll('.column').length", 10.0);
    page
}

/// Types a question and sends it with Enter.
fn ask(page: &Page, question: &str) {
    page.eval("document.querySelector('#question').focus()");
    page.type_text(question);
    page.press("Enter");
}

const DONE: &str = "document.querySelector('#stop').hidden && document.querySelectorAll('.turn').length";

fn answers(page: &Page) -> Value {
    page.eval("[...document.querySelectorAll('.turn:last-child .answer')].map((e) => e.textContent)")
}

/// Nothing was requested elsewhere, no error was logged except those of the given statuses, every control has a name,
/// and nothing makes the page scroll sideways.
fn assert_clean(page: &Page, url: &str, statuses: &[&str]) {
    let elsewhere: Vec<String> = page.requests().into_iter().filter(|request| !request.starts_with(url)).collect();
    assert!(elsewhere.is_empty(), "requests to others: {elsewhere:?}");
    let allowed = |error: &String| statuses.iter().any(|status| error.contains(&format!("status of {status} ")));
    let errors: Vec<String> = page.console_errors().into_iter().filter(|error| !allowed(error)).collect();
    assert!(errors.is_empty(), "errors: {errors:#?}");
    assert_eq!(page.unnamed_controls(), Vec::<String>::new());
    assert_eq!(page.horizontal_overflow(), Vec::<String>::new());
}

/// Two models answer with the image and blind, and the options get probabilities: at every size and in both schemes,
/// with the keyboard only.
#[test]
fn two_models_answer_with_the_image_and_blind() {
    let Some(browser) = Browser::launch() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = image(dir.path(), "cow.png", 60);
    let [a, b] = ["siglip", "dinov2"].map(|id| Arc::new(FakeModel::new(id)));
    let url = serve(&[&a, &b], |_| ());
    for (name, viewport) in
        [("desktop", Viewport::DESKTOP), ("phone", Viewport::PHONE), ("small-phone", Viewport::SMALL_PHONE)]
    {
        for dark in [false, true] {
            let page = open(&browser, &url, viewport);
            page.set_dark(dark);
            page.upload("#file", &file);
            page.wait_for("document.querySelector('#preview').naturalWidth === 60", 5.0);
            assert!(page.text("document.querySelector('#image-facts').textContent").contains("60 × 60 px"));

            // The first stop of the tab key leads to the question.
            page.press("Tab");
            assert_eq!(page.text("document.activeElement.textContent"), "Skip to the question");
            page.press("Enter");
            page.wait_for("document.activeElement.id === 'question'", 5.0);
            page.type_text("Which animal?");
            page.press("Shift+Enter");
            page.type_text("(A) cat (B) zebra");
            page.wait_for("document.querySelector('#options-read').textContent.includes('cat | zebra')", 5.0);
            page.press("Enter");
            page.wait_for(DONE, 10.0);
            let question = "Which animal? (A) cat (B) zebra";
            let [seen, blind] = ["With 1 image:", "Without an image:"].map(|start| format!("{start} {question}"));
            page.wait_for("document.querySelectorAll('.turn .options').length === 2", 5.0);
            let answers: Vec<String> = serde_json::from_value(answers(&page)).unwrap();
            let answers: Vec<String> = answers.iter().map(|text| text.replace('\n', " ")).collect();
            assert_eq!(answers, [seen.as_str(), &blind, &seen, &blind]);

            // Log-probabilities of -1.5 and -2.5.
            let bars =
                "[...document.querySelectorAll('.turn .options tbody tr')].map((r) => r.innerText.split(/\\s+/))";
            let rows = page.eval(bars);
            for row in 0..4 {
                let expected = if row % 2 == 0 { ["cat", "73.1"] } else { ["zebra", "26.9"] };
                assert_eq!([&rows[row][0], &rows[row][1]], expected, "{rows}");
            }
            let width = "document.querySelector('.options .fill').style.width";
            assert_eq!(page.text(width), "73.11%");
            let facts = page.text("document.querySelector('.turn .facts').textContent");
            assert!(facts.contains("tokens in") && facts.contains("prompt 7") && facts.contains("queue"), "{facts}");
            let said = page.text("document.querySelector('#status').textContent");
            assert!(said.contains("siglip, with the image: With 1 image"), "{said}");
            assert_eq!(page.text("document.activeElement.id"), "question");
            page.keep_screenshot(&format!("{name}-{}", if dark { "dark" } else { "light" }));
            assert_clean(&page, &url, &[]);
        }
    }
    // Half of the requests are those of the scores, which generate nothing.
    let greedy = |request: &&ChatRequest| (request.temperature, request.max_tokens) == (0.0, Some(256));
    assert_eq!((a.requests().len(), a.requests().iter().filter(greedy).count()), (24, 12));
}

/// An answer is stopped by the keyboard, which frees the models; it is asked again; the last question is edited; later
/// questions carry the earlier ones with the answers of their own column, unless the viewer turns that off.
#[test]
fn a_conversation_is_stopped_asked_again_and_edited() {
    let Some(browser) = Browser::launch() else { return };
    let dir = tempfile::tempdir().unwrap();
    let slow = Arc::new(FakeModel::new("slow").with_interval(Duration::from_millis(40)));
    let url = serve(&[&slow], |_| ());
    let page = open(&browser, &url, Viewport::DESKTOP);
    page.click("#add-column");
    page.upload("#file", &image(dir.path(), "a.png", 20));
    page.wait_for("!document.querySelector('#has-image').hidden", 5.0);
    ask(&page, &"word ".repeat(200));
    page.wait_for("[...document.querySelectorAll('.answer.streaming')].length === 4", 10.0);
    // Enter does not start a second question meanwhile.
    ask(&page, "too early");
    assert_eq!(page.eval("document.querySelectorAll('.turn').length"), 1);
    page.press("Escape");
    page.wait_for(DONE, 5.0);
    assert_eq!(page.eval("document.querySelectorAll('.answer.stopped').length"), 4);
    let deadline = Instant::now() + Duration::from_secs(5);
    while slow.stats().cancelled < 4 {
        assert!(Instant::now() < deadline, "the model was not freed: {:?}", slow.stats());
        std::thread::sleep(Duration::from_millis(20));
    }

    // The empty field and the arrow key: the last question is edited, and replaced.
    page.press("Control+a");
    page.press("Backspace");
    page.press("ArrowUp");
    page.press("Control+a");
    page.type_text("one");
    page.press("Enter");
    page.wait_for(&format!("{DONE} === 1"), 10.0);
    let first = json!(["With 1 image: one", "Without an image: one", "With 1 image: one", "Without an image: one"]);
    page.wait_for("document.querySelectorAll('.answer.done').length === 4", 10.0);
    assert_eq!(answers(&page), first);
    page.click("article.turn button[aria-label='Ask question 1 again']");
    page.wait_for(&format!("{DONE} === 1 && document.querySelectorAll('.answer.done').length === 4"), 10.0);
    assert_eq!(answers(&page), first);

    ask(&page, "two");
    page.wait_for(&format!("{DONE} === 2 && document.querySelectorAll('.answer.done').length === 8"), 10.0);
    let texts = |request: &ChatRequest| -> Vec<String> {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Image(image) => format!("[{} bytes]", image.bytes.len()),
        };
        request.messages.iter().map(|message| message.parts.iter().map(part).collect::<Vec<_>>().join(" ")).collect()
    };
    let size = std::fs::metadata(dir.path().join("a.png")).unwrap().len();
    let last: Vec<Vec<String>> = slow.requests().iter().rev().take(4).map(texts).collect();
    let seen = [&format!("[{size} bytes] one"), "With 1 image: one", "two"];
    let blind = ["one", "Without an image: one", "two"];
    assert_eq!(last.iter().filter(|messages| **messages == seen).count(), 2, "{last:?}");
    assert_eq!(last.iter().filter(|messages| **messages == blind).count(), 2, "{last:?}");

    page.click("#remember");
    ask(&page, "three");
    page.wait_for(&format!("{DONE} === 3 && document.querySelectorAll('.answer.done').length === 12"), 10.0);
    let last = texts(&slow.requests().pop().unwrap());
    assert_eq!(last.len(), 1, "{last:?}");

    // A new image starts a new conversation; the old one stays on the page.
    page.upload("#file", &image(dir.path(), "b.png", 30));
    page.wait_for("document.querySelector('#image-facts').textContent.includes('b.png')", 5.0);
    page.click("#remember");
    ask(&page, "four");
    page.wait_for(&format!("{DONE} === 4 && document.querySelectorAll('.answer.done').length === 16"), 10.0);
    assert_eq!(texts(&slow.requests().pop().unwrap()).len(), 1);
    assert_eq!(page.eval("document.querySelectorAll('.thread').length"), 2);
    page.click("#clear");
    assert_eq!(page.eval("document.querySelectorAll('.thread').length"), 0);
    assert_clean(&page, &url, &[]);
}

/// A busy server is asked again after its time; a failed answer says why and can be tried again; markup is text.
#[test]
fn errors_are_told_and_markup_is_text() {
    let Some(browser) = Browser::launch() else { return };
    let busy = FakeModel::new("busy").with_interval(Duration::from_millis(20)).with_capacity(1, 0);
    let busy = Arc::new(busy);
    let url = serve(&[&busy], |_| ());
    let page = open(&browser, &url, Viewport::DESKTOP);
    // Another client takes the only row.
    let occupy = "globalThis.other = new AbortController(); \
        fetch('/v1/chat/completions', { method: 'POST', headers: { 'content-type': 'application/json' }, \
        signal: other.signal, body: JSON.stringify({ stream: true, messages: [{ role: 'user', content: \
        'word '.repeat(2000) }] }) }).then((r) => r.status)";
    assert_eq!(page.eval(occupy), 200);
    ask(&page, "hello");
    page.wait_for("document.querySelector('.error.busy')", 5.0);
    let told = page.text("document.querySelector('.error.busy').textContent");
    assert!(told.contains("queue of the model is full") && told.contains("Trying again in"), "{told}");
    assert!(page.unnamed_controls().is_empty());
    page.eval("other.abort()");
    page.click(".error.busy button");
    page.wait_for("document.querySelector('.answer.done')", 10.0);
    assert_eq!(answers(&page), json!(["Without an image: hello"]));
    assert_clean(&page, &url, &["429"]);

    let failing = Arc::new(FakeModel::new("<b>failing</b>").with_failure_at(4));
    let url = serve(&[&failing], |_| ());
    let page = open(&browser, &url, Viewport::PHONE);
    let markup = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>";
    ask(&page, markup);
    page.wait_for("document.querySelector('.answer.failed')", 5.0);
    let told = page.text("document.querySelector('.error').innerText");
    assert!(told.contains("Without an image: <img") && told.contains("The fake model fails at token 4"), "{told}");
    page.click(".error button");
    page.wait_for(&format!("{DONE} && document.querySelector('.answer.failed')"), 5.0);
    assert_eq!(failing.requests().len(), 2);
    assert_clean(&page, &url, &[]);

    let echo = Arc::new(FakeModel::new("<b>echo</b>"));
    let url = serve(&[&echo, &failing], |_| ());
    let page = open(&browser, &url, Viewport::PHONE);
    page.click("#display-box summary");
    page.click("#show-tokens");
    for tokens in [true, false] {
        ask(&page, &format!("{markup}\u{202e}gnp.exe"));
        page.wait_for(
            &format!("{DONE} && document.querySelectorAll('.turn:last-child .answer.done').length === 1"),
            5.0,
        );
        let answer = page.text("document.querySelector('.turn:last-child .answer').innerText");
        assert!(answer.contains(&format!("{markup}\\u{{202e}}gnp.exe")), "{answer}");
        assert_eq!(page.eval("document.querySelectorAll('.turn:last-child [role=option]').length > 3"), tokens);
        page.click("#show-tokens");
    }
    assert!(page.text("document.querySelector('.cell').innerText").starts_with("A\n<b>echo</b>"));
    assert_eq!(page.eval("document.querySelectorAll('#threads img, #threads script, #threads b > b').length"), 0);
    assert_ne!(page.text("document.title"), "owned");
    assert_clean(&page, &url, &[]);
}

/// A token that the server asks for, an image that is too large, a server that is away, and a browser without storage.
#[test]
fn unusual_circumstances_are_told() {
    let Some(browser) = Browser::launch() else { return };
    let dir = tempfile::tempdir().unwrap();
    let model = Arc::new(FakeModel::new("model"));
    let url = serve(&[&model], |config| {
        config.token = Some("secret".into());
        config.limits = Limits { body_bytes: 300_000, ..Limits::default() };
    });
    let page = browser.open(&url, Viewport::PHONE);
    page.wait_for("document.querySelector('#login').open", 5.0);
    page.keep_screenshot("token");
    page.type_text("wrong");
    page.press("Enter");
    page.wait_for("document.querySelector('#login-said').textContent.includes('wrong')", 5.0);
    page.type_text("secret");
    page.press("Enter");
    page.wait_for("document.querySelectorAll('.column').length === 1 && !document.querySelector('#login').open", 5.0);

    page.upload("#file", &image(dir.path(), "large.png", 400));
    page.wait_for("!document.querySelector('#has-image').hidden", 5.0);
    page.eval("document.querySelector('#show-blind').click()");
    ask(&page, "what?");
    page.wait_for("document.querySelector('.answer.failed')", 10.0);
    let told = page.text("document.querySelector('.error').innerText");
    assert!(told.contains("larger than the limit of 300000 bytes") && told.contains("smaller images"), "{told}");

    page.set_offline(true);
    page.click(".error button");
    page.wait_for("document.querySelector('#server').textContent === 'not connected'", 5.0);
    let told = page.text("document.querySelector('.error').innerText");
    assert!(told.contains("cannot be reached"), "{told}");
    page.keep_screenshot("offline");
    page.set_offline(false);
    page.wait_for("document.querySelector('#server').textContent === '1 model'", 10.0);
    // The token holds until the tab is closed.
    page.reload();
    page.wait_for("document.querySelectorAll('.column').length === 1", 5.0);

    let url = serve(&[&model], |_| ());
    let page = browser.open("about:blank", Viewport::DESKTOP);
    let broken = "for (const name of ['localStorage', 'sessionStorage']) \
        Object.defineProperty(window, name, { get() { throw new DOMException('denied', 'SecurityError') } })";
    page.before_scripts(broken);
    page.goto(&url);
    page.wait_for("document.querySelectorAll('.column').length === 1", 5.0);
    ask(&page, "what?");
    page.wait_for("document.querySelector('.answer.done')", 5.0);
    assert_clean(&page, &url, &[]);
}

/// Examples fill in image, question and options; images are dropped and pasted; settings are kept for the next visit;
/// the record holds everything in both forms.
#[test]
fn examples_images_settings_and_record() {
    let Some(browser) = Browser::launch() else { return };
    let dir = tempfile::tempdir().unwrap();
    let png = std::fs::read(image(dir.path(), "c.png", 24)).unwrap();
    let [a, b] = ["one", "two"].map(|id| Arc::new(FakeModel::new(id)));
    let example = Example {
        name: "counting".into(),
        question: "How many?".into(),
        options: vec!["two".into(), "three".into()],
        image: png.clone(),
        answer: Some("two".into()),
    };
    let url = serve(&[&a, &b], |config| config.examples = vec![example]);
    let page = open(&browser, &url, Viewport::DESKTOP);
    page.wait_for("document.querySelectorAll('.example').length === 2", 5.0);
    page.keep_screenshot("start");
    page.click("#example-cards .example");
    page.wait_for("document.querySelector('#question').value === 'How many?'", 5.0);
    page.press("Enter");
    page.wait_for(&format!("{DONE} && document.querySelectorAll('.options').length === 2"), 10.0);
    assert_eq!(page.text("document.querySelector('.options .right').parentNode.textContent"), "two ✓ right");

    // The record.
    page.click("#record-open");
    page.wait_for("document.querySelector('#record').open", 5.0);
    let markdown = page.text("document.querySelector('#record-text').value");
    for line in ["# counting.png (24 × 24 px", "## How many?", "Right answer: two", "- with the image: With 1 image:"]
    {
        assert!(markdown.contains(line), "{line} is not in\n{markdown}");
    }
    page.keep_screenshot("record");
    page.click("input[value=json]");
    let record: Value = serde_json::from_str(&page.text("document.querySelector('#record-text').value")).unwrap();
    let conversation = &record["conversations"][0];
    let digest: String =
        ring::digest::digest(&ring::digest::SHA256, &png).as_ref().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(conversation["image"]["sha256"], digest);
    let column = &conversation["turns"][0]["columns"][1];
    assert_eq!((&column["model"], &column["temperature"]), (&json!("two"), &json!(0)));
    assert_eq!(column["answers"][1]["text"], "Without an image: How many?");
    assert_eq!(column["answers"][0]["options"][0]["logprob"], -1.5);
    page.press("Escape");
    page.wait_for("!document.querySelector('#record').open", 5.0);

    // Sampling by keyboard; it is sent, and kept.
    page.eval("document.querySelector('.column.b .sampling').open = true");
    page.eval("document.querySelector('#temperature-B').focus()");
    page.press("ArrowRight");
    page.press("ArrowRight");
    page.eval("document.querySelector('#seed-B').focus()");
    page.type_text("7");
    page.press("Tab");
    page.keep_screenshot("settings");
    page.eval("theme.value = 'dark'; theme.dispatchEvent(new Event('change'))");
    page.reload();
    page.wait_for("document.querySelectorAll('.column').length === 2", 5.0);
    assert_eq!(
        page.text("document.querySelector('.column.b summary').textContent"),
        "temperature 0.1, top-p 1, seed 7, at most 256 tokens"
    );
    assert_eq!(page.text("getComputedStyle(document.body).backgroundColor"), "rgb(21, 24, 28)");
    ask(&page, "again");
    page.wait_for(&format!("{DONE} && document.querySelectorAll('.answer.done').length === 2"), 10.0);
    let request = b.requests().pop().unwrap();
    assert_eq!((request.temperature, request.seed), (0.1, 7));

    let other = std::fs::read(image(dir.path(), "d.png", 25)).unwrap();
    let drop = ("drop", "dataTransfer", "dropped.png", &png);
    for (event, transfer, name, bytes) in [drop, ("paste", "clipboardData", "pasted.png", &other)] {
        let bytes = format!("{bytes:?}");
        page.eval(&format!(
            "(() => {{ const t = new DataTransfer(); t.items.add(new File([new Uint8Array({bytes})], '{name}',
            {{ type: 'image/png' }})); const e = new Event('{event}', {{ bubbles: true, cancelable: true }});
            Object.defineProperty(e, '{transfer}', {{ value: t }}); document.body.dispatchEvent(e); }})()"
        ));
        page.wait_for(&format!("document.querySelector('#image-facts').textContent.includes('{name}')"), 5.0);
    }
    page.click("#remove");
    assert_eq!(page.eval("document.querySelector('#no-image').hidden"), false);
    assert_clean(&page, &url, &[]);
}

/// Every stop of the tab key shows where the focus is, and is a control of the page.
#[test]
fn the_focus_is_visible() {
    let Some(browser) = Browser::launch() else { return };
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["one", "two"].map(|id| Arc::new(FakeModel::new(id)));
    let url = serve(&[&a, &b], |_| ());
    let page = open(&browser, &url, Viewport::DESKTOP);
    let stop = "(() => { const e = document.activeElement; \
        if (e === document.body || e.wasHere) return null; \
        e.wasHere = true; \
        const shown = e.classList.contains('hidden') ? e.labels[0] : e; \
        return [e.id || e.className || e.localName, getComputedStyle(shown).outlineStyle !== 'none']; })()";
    let mut stops = Vec::new();
    loop {
        page.press("Tab");
        match page.eval(stop) {
            Value::Null => break,
            found => stops.push(found),
        }
    }
    assert!(stops.iter().all(|stop| stop[1] == true), "{stops:?}");
    for id in ["file", "record-open", "clear", "theme", "question", "send", "show-blind", "show-tokens"] {
        assert!(stops.iter().any(|stop| stop[0] == id), "the tab key does not reach {id}: {stops:?}");
    }
    // The tokens of an answer are one stop, inside which the arrow keys move.
    page.click("#show-tokens");
    page.upload("#file", &image(dir.path(), "e.png", 16));
    page.wait_for("!document.querySelector('#has-image').hidden", 5.0);
    ask(&page, "one two three");
    page.wait_for(&format!("{DONE} && document.querySelectorAll('.tokens').length === 4"), 5.0);
    page.eval("document.querySelector('.token').focus()");
    page.press("ArrowRight");
    let details = page.text("document.querySelector('.token-details').textContent");
    assert!(details.starts_with("“1␣” 77.9") && details.contains("“alternative1” 28.7"), "{details}");
    assert_eq!(page.eval("document.querySelectorAll('.tokens .token[tabindex=\"0\"]').length"), 4);
    assert_clean(&page, &url, &[]);
}

/// Options are read from questions as benchmarks write them.
#[test]
fn options_are_read_from_questions() {
    let Some(browser) = Browser::launch() else { return };
    let url = serve(&[&Arc::new(FakeModel::new("model"))], |_| ());
    let page = open(&browser, &url, Viewport::DESKTOP);
    for (question, expected) in [
        ("Which?\n(a) right (b) left\nAnswer", json!({ "labels": ["(a)", "(b)"], "texts": ["right", "left"] })),
        (
            "Which?\nA. ice\nB. hot desert\nC. sea",
            json!({ "labels": ["A", "B", "C"], "texts": ["ice", "hot desert", "sea"] }),
        ),
        ("Which?\nA) ice\nB) sea", json!({ "labels": ["A", "B"], "texts": ["ice", "sea"] })),
        ("How many?\n3, 4, 2\nAnswer with one of the options.", json!({ "labels": null, "texts": ["3", "4", "2"] })),
        ("(A) cat, (B) dog", json!({ "labels": ["(A)", "(B)"], "texts": ["cat", "dog"] })),
        ("What is it (a cat)?", Value::Null),
        ("(A) only", Value::Null),
        ("(B) b (C) c", Value::Null),
        ("A. one\nC. three", Value::Null),
        ("", Value::Null),
    ] {
        let read = page.eval(&format!("import('/page/options.js').then((m) => m.readOptions({}))", json!(question)));
        assert_eq!(read, expected, "{question}");
    }
}
