//! A tab of the browser.

use super::connection::Connection;
use super::keys;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Roles of the accessibility tree that must have a name: controls, and images that are not decoration.
const NAMED_ROLES: [&str; 18] = [
    "button",
    "checkbox",
    "combobox",
    "DisclosureTriangle",
    "image",
    "link",
    "listbox",
    "menuitem",
    "option",
    "popUpButton",
    "radio",
    "searchbox",
    "slider",
    "spinbutton",
    "switch",
    "tab",
    "textbox",
    "treeitem",
];

/// Size of a page and kind of its device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Viewport {
    /// Width in CSS pixels.
    pub width: u32,
    /// Height in CSS pixels.
    pub height: u32,
    /// Device pixels per CSS pixel.
    pub scale: f64,
    /// Whether it is a phone: touch, no scroll bars, and the page's `viewport` element counts.
    pub phone: bool,
}

impl Viewport {
    /// The window of a laptop.
    pub const DESKTOP: Self = Self { width: 1280, height: 900, scale: 1.0, phone: false };
    /// A phone of usual size.
    pub const PHONE: Self = Self { width: 390, height: 844, scale: 2.0, phone: true };
    /// The narrowest phone that pages must fit.
    pub const SMALL_PHONE: Self = Self { width: 320, height: 568, scale: 2.0, phone: true };
}

/// A tab with its own storage. Every method panics with the browser's reason if the browser refuses or takes more than
/// half a minute.
pub struct Page {
    connection: Arc<Connection>,
    context: String,
    session: String,
}

impl Page {
    pub(super) fn new(connection: Arc<Connection>, viewport: Viewport) -> Self {
        let call = |method: &str, params: Value| {
            connection.call("", method, &params, LIMIT).unwrap_or_else(|e| panic!("opening a tab: {e}"))
        };
        let text = |value: &Value| value.as_str().expect("the browser answers with an id").to_owned();
        let context =
            text(&call("Target.createBrowserContext", json!({ "disposeOnDetach": true }))["browserContextId"]);
        let target = call("Target.createTarget", json!({ "url": "about:blank", "browserContextId": context }));
        let attached = call("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        let session = text(&attached["sessionId"]);
        let page = Self { connection, context, session };
        for domain in ["Page", "Runtime", "Network", "Log", "DOM", "Accessibility"] {
            page.call(&format!("{domain}.enable"), json!({}));
        }
        page.set_viewport(viewport);
        page.set_dark(false);
        page
    }

    fn call(&self, method: &str, params: Value) -> Value {
        self.connection.call(&self.session, method, &params, LIMIT).unwrap_or_else(|e| panic!("{e}"))
    }

    fn count(&self, method: &str) -> usize {
        self.connection.events(&self.session).iter().filter(|event| event["method"] == method).count()
    }

    /// Loads an address and waits until it is loaded; a change of the part after `#` alone loads nothing.
    ///
    /// # Panics
    /// The page cannot be loaded within half a minute.
    pub fn goto(&self, url: &str) {
        let loaded = self.count("Page.loadEventFired");
        let answer = self.call("Page.navigate", json!({ "url": url }));
        if let Some(error) = answer["errorText"].as_str().filter(|text| !text.is_empty()) {
            panic!("loading {url}: {error}");
        }
        if answer["loaderId"].is_string() {
            self.wait_until_loaded(loaded, url);
        }
    }

    /// Loads the page again and waits until it is loaded.
    ///
    /// # Panics
    /// The page cannot be loaded within half a minute.
    pub fn reload(&self) {
        let loaded = self.count("Page.loadEventFired");
        self.call("Page.reload", json!({}));
        self.wait_until_loaded(loaded, "the page again");
    }

    fn wait_until_loaded(&self, before: usize, what: &str) {
        let loaded = self.connection.wait_for_event(&self.session, "Page.loadEventFired", before, LIMIT);
        assert!(loaded, "loading {what}: not done within {} s", LIMIT.as_secs());
    }

    /// Evaluates JavaScript, waits for its promise if it is one, and returns its value as JSON.
    ///
    /// # Panics
    /// The script throws.
    pub fn eval(&self, js: &str) -> Value {
        let mut answer = self.call(
            "Runtime.evaluate",
            json!({ "expression": js, "returnByValue": true, "awaitPromise": true, "userGesture": true }),
        );
        if let Some(exception) = answer.get("exceptionDetails") {
            panic!("evaluating `{js}`: {}", exception_text(exception));
        }
        answer["result"]["value"].take()
    }

    /// Evaluates JavaScript whose value is a text.
    ///
    /// # Panics
    /// The script throws, or its value is not a text.
    pub fn text(&self, js: &str) -> String {
        let value = self.eval(js);
        value.as_str().unwrap_or_else(|| panic!("`{js}` is {value}, not a text")).to_owned()
    }

    /// Waits until a JavaScript expression is true (or not 0, empty or null).
    ///
    /// # Panics
    /// It is not within `seconds`; the message has the text of the page and its errors.
    pub fn wait_for(&self, js: &str, seconds: f64) {
        let deadline = Instant::now() + Duration::from_secs_f64(seconds);
        loop {
            if self.eval(&format!("Boolean({js})")) == Value::Bool(true) {
                return;
            }
            if Instant::now() > deadline {
                let text = self.text("document.body ? document.body.innerText : ''");
                let errors = self.console_errors().join("\n");
                panic!("`{js}` is still false after {seconds} s\nerrors: {errors}\ntext of the page:\n{text}");
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    }

    /// Types a text into the element that has the focus, as a paste of the whole text.
    pub fn type_text(&self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Presses and releases a key, with modifiers before it: `Enter`, `Shift+Tab`, `Control+a`, `x`.
    ///
    /// # Panics
    /// The key is not known.
    pub fn press(&self, key: &str) {
        for event in keys::events(key) {
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Scrolls to an element and clicks its centre with the mouse.
    ///
    /// # Panics
    /// There is no such element, or another element covers its centre.
    pub fn click(&self, selector: &str) {
        let find = format!(
            "(() => {{
                const e = document.querySelector({selector});
                if (!e) return 'there is no such element';
                e.scrollIntoView({{ block: 'center', inline: 'nearest', behavior: 'instant' }});
                const r = e.getBoundingClientRect();
                if (r.width === 0 || r.height === 0) return 'the element has no size';
                const x = r.left + r.width / 2, y = r.top + r.height / 2;
                const top = document.elementFromPoint(x, y);
                if (!top || !(e.contains(top) || top.contains(e) || (top.labels && [...top.labels].includes(e))))
                    return 'its centre is covered by ' + (top ? top.outerHTML.slice(0, 120) : 'nothing');
                return [x, y];
            }})()",
            selector = json!(selector)
        );
        let place = self.eval(&find);
        let [Some(x), Some(y)] = [place[0].as_f64(), place[1].as_f64()] else {
            panic!("clicking {selector}: {}", place.as_str().unwrap_or("its place is unknown"));
        };
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"] {
            let clicks = u8::from(kind != "mouseMoved");
            let button = if clicks == 0 { "none" } else { "left" };
            self.call(
                "Input.dispatchMouseEvent",
                json!({ "type": kind, "x": x, "y": y, "button": button, "clickCount": clicks }),
            );
        }
    }

    /// Gives a file to a file input, as its dialog would.
    ///
    /// # Panics
    /// There is no such input.
    pub fn upload(&self, selector: &str, path: &Path) {
        let path = std::path::absolute(path).expect("a path");
        let document = self.call("DOM.getDocument", json!({ "depth": 0 }));
        let found =
            self.call("DOM.querySelector", json!({ "nodeId": document["root"]["nodeId"], "selector": selector }));
        assert!(found["nodeId"].as_u64().is_some_and(|id| id > 0), "uploading: there is no {selector}");
        self.call("DOM.setFileInputFiles", json!({ "files": [path], "nodeId": found["nodeId"] }));
    }

    /// Sets the size of the page and the kind of its device.
    pub fn set_viewport(&self, viewport: Viewport) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({
                "width": viewport.width, "height": viewport.height,
                "deviceScaleFactor": viewport.scale, "mobile": viewport.phone,
            }),
        );
        self.call("Emulation.setTouchEmulationEnabled", json!({ "enabled": viewport.phone }));
    }

    /// Sets whether the viewer prefers a dark colour scheme.
    pub fn set_dark(&self, dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": [
                { "name": "prefers-color-scheme", "value": scheme },
                { "name": "prefers-reduced-motion", "value": "no-preference" },
            ] }),
        );
    }

    /// Cuts the page off the network, this machine's own servers included, or connects it again.
    pub fn set_offline(&self, offline: bool) {
        self.call(
            "Network.emulateNetworkConditions",
            json!({ "offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1 }),
        );
    }

    /// Runs JavaScript in every document that is loaded from now on, before the scripts of the document.
    pub fn before_scripts(&self, js: &str) {
        self.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": js }));
    }

    /// Writes a PNG of the window and one of the whole page into the directory that `BURGESS_SCREENSHOTS` names, for
    /// people who want to look at them; does nothing if it is not set.
    ///
    /// # Panics
    /// The files cannot be written.
    pub fn keep_screenshot(&self, name: &str) {
        let Some(dir) = std::env::var_os("BURGESS_SCREENSHOTS") else { return };
        let dir = Path::new(&dir);
        self.screenshot(&dir.join(format!("{name}.png")));
        self.screenshot_whole(&dir.join(format!("{name}-whole.png")));
    }

    /// Writes a PNG of what the window shows.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn screenshot(&self, path: &Path) {
        self.capture(path, &json!({ "format": "png" }));
    }

    /// Writes a PNG of the whole page, however long it is.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn screenshot_whole(&self, path: &Path) {
        let size = self.call("Page.getLayoutMetrics", json!({}))["cssContentSize"].take();
        let clip = json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 });
        self.capture(path, &json!({ "format": "png", "captureBeyondViewport": true, "clip": clip }));
    }

    fn capture(&self, path: &Path, params: &Value) {
        let answer = self.call("Page.captureScreenshot", params.clone());
        let bytes = STANDARD.decode(answer["data"].as_str().unwrap_or_default()).expect("an image in base64");
        std::fs::write(path, bytes).unwrap_or_else(|e| panic!("writing {}: {e}", path.display()));
    }

    /// All addresses that the page requested since it was opened, in order, those that failed or were blocked included.
    /// Data inside the page (`data:` and `blob:`) is not a request.
    pub fn requests(&self) -> Vec<String> {
        let address = |event: &Value| {
            let url = match event["method"].as_str()? {
                "Network.requestWillBeSent" => event["params"]["request"]["url"].as_str()?,
                "Network.webSocketCreated" => event["params"]["url"].as_str()?,
                _ => return None,
            };
            (!url.starts_with("data:") && !url.starts_with("blob:")).then(|| url.to_owned())
        };
        self.connection.events(&self.session).iter().filter_map(address).collect()
    }

    /// Exceptions that nobody caught and messages at the level of errors, in order. They include refusals by the
    /// content security policy and answers with an error status.
    pub fn console_errors(&self) -> Vec<String> {
        let error = |event: &Value| {
            let params = &event["params"];
            match event["method"].as_str()? {
                "Runtime.exceptionThrown" => Some(exception_text(&params["exceptionDetails"])),
                "Runtime.consoleAPICalled" if params["type"] == "error" || params["type"] == "assert" => {
                    let args = params["args"].as_array()?;
                    let text = |arg: &Value| match &arg["value"] {
                        Value::String(text) => text.clone(),
                        Value::Null => arg["description"].as_str().unwrap_or_default().to_owned(),
                        other => other.to_string(),
                    };
                    Some(args.iter().map(text).collect::<Vec<_>>().join(" "))
                }
                "Log.entryAdded" if params["entry"]["level"] == "error" => {
                    let entry = &params["entry"];
                    let [text, url] = [&entry["text"], &entry["url"]].map(|v| v.as_str().unwrap_or_default());
                    Some(format!("{text} {url}").trim_end().to_owned())
                }
                "Inspector.targetCrashed" => Some("the tab crashed".to_owned()),
                _ => None,
            }
        };
        self.connection.events(&self.session).iter().filter_map(error).collect()
    }

    /// Controls and images that have no name in the accessibility tree: `role <element with attributes>`. A screen
    /// reader could not say what they are.
    pub fn unnamed_controls(&self) -> Vec<String> {
        let tree = self.call("Accessibility.getFullAXTree", json!({}));
        let nodes = tree["nodes"].as_array().expect("a tree has nodes");
        let unnamed = |node: &&Value| {
            node["ignored"] != true
                && node["role"]["value"].as_str().is_some_and(|role| NAMED_ROLES.contains(&role))
                && node["name"]["value"].as_str().is_none_or(|name| name.trim().is_empty())
        };
        nodes.iter().filter(unnamed).map(|node| self.describe(node)).collect()
    }

    fn describe(&self, node: &Value) -> String {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        let id = &node["backendDOMNodeId"];
        let answer = self.connection.call(&self.session, "DOM.describeNode", &json!({ "backendNodeId": id }), LIMIT);
        let Ok(answer) = answer else { return format!("{role} (no element)") };
        let element = &answer["node"];
        let mut text = format!("{role} <{}", element["localName"].as_str().unwrap_or("?"));
        for pair in element["attributes"].as_array().map_or(&[][..], Vec::as_slice).chunks(2) {
            let [name, value] = [0, 1].map(|i| pair.get(i).and_then(Value::as_str).unwrap_or_default());
            text.push_str(&format!(" {name}=\"{}\"", value.chars().take(60).collect::<String>()));
        }
        text.push('>');
        text
    }

    /// Elements that reach beyond the right edge of the window, although no ancestor scrolls or clips them: the page
    /// would scroll sideways. Each as `tag.class#id: right edge > width`.
    pub fn horizontal_overflow(&self) -> Vec<String> {
        let found = self.eval(
            "(() => {
                const width = document.documentElement.clientWidth, out = [];
                const clipped = (e) => {
                    for (let p = e.parentElement; p && p !== document.documentElement; p = p.parentElement) {
                        const s = getComputedStyle(p);
                        if (p !== document.body && s.overflowX !== 'visible'
                            && p.getBoundingClientRect().right <= width + 1) return true;
                    }
                    return false;
                };
                for (const e of document.body.querySelectorAll('*')) {
                    const r = e.getBoundingClientRect();
                    if (r.width > 0 && r.height > 0 && r.right > width + 1 && !clipped(e))
                        out.push(e.localName + (typeof e.className === 'string' && e.className ? '.' + e.className : '')
                            + (e.id ? '#' + e.id : '') + ': ' + Math.round(r.right) + ' > ' + width);
                }
                const scrolls = document.documentElement.scrollWidth;
                if (scrolls > window.innerWidth + 1) out.push('page: ' + scrolls + ' > ' + window.innerWidth);
                return out.slice(0, 20);
            })()",
        );
        found.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let params = json!({ "browserContextId": self.context });
        let _ = self.connection.call("", "Target.disposeBrowserContext", &params, Duration::from_secs(5));
    }
}

/// Message of an exception, with the place where it was thrown.
fn exception_text(details: &Value) -> String {
    let text = details["exception"]["description"].as_str().or(details["exception"]["value"].as_str());
    let text = text.or(details["text"].as_str()).unwrap_or("an exception without a message");
    match details["url"].as_str() {
        Some(url) => format!("{text} ({url}:{})", details["lineNumber"].as_u64().unwrap_or(0) + 1),
        None => text.to_owned(),
    }
}
