//! A headless browser for tests of pages: opens them at a given size, types, clicks, uploads, takes screenshots, and
//! says what the page requested, which errors it logged and which controls have no name.
//!
//! ```no_run
//! use burgess_tests::browser::{Browser, Viewport};
//! let Some(browser) = Browser::launch() else { return };
//! let page = browser.open("http://127.0.0.1:8080/", Viewport::PHONE);
//! page.wait_for("document.querySelector('h1')", 10.0);
//! assert_eq!(page.console_errors(), Vec::<String>::new());
//! ```

mod connection;
mod keys;
mod page;

use connection::Connection;
pub use page::{Page, Viewport};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Names of the browser's program, in the order in which they are looked for on `PATH`.
const NAMES: [&str; 5] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome"];

/// Environment variable with the path of the browser's program.
const VARIABLE: &str = "BURGESS_CHROMIUM";

/// How long the browser may take to start: the first start on a busy machine reads some hundred MB from disk.
const START: Duration = Duration::from_secs(60);

/// Arguments of the browser.
const ARGS: [&str; 22] = [
    "--headless",
    "--remote-debugging-pipe",
    // The tests open pages of this repository only, and the sandbox does not work for root and in most containers.
    "--no-sandbox",
    "--disable-gpu",
    // Containers often have a /dev/shm of 64 MB.
    "--disable-dev-shm-usage",
    // No request leaves the machine: every name and address except this machine's own is unknown. Requests that try it
    // fail, and [`Page::requests`] lists them.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-sync",
    "--disable-translate",
    "--metrics-recording-only",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-pings",
    "--password-store=basic",
    // Equal screenshots on different machines.
    "--force-color-profile=srgb",
    "--font-render-hinting=none",
    "--lang=en-US",
];

/// A running headless browser with a fresh profile; it ends when this value is dropped or the test process ends.
pub struct Browser {
    connection: Arc<Connection>,
    process: Child,
    /// Holds the profile until the browser has ended.
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts the browser that `BURGESS_CHROMIUM` names, or else the first Chromium or Chrome on `PATH`. Returns
    /// `None`, and says so on standard error, if there is none: the test then has nothing to do.
    ///
    /// # Panics
    /// `BURGESS_CHROMIUM` is not a file, or the browser does not start within a minute.
    pub fn launch() -> Option<Self> {
        let Some(program) = find() else {
            eprintln!("SKIPPED: no browser: none of {} is on PATH, and {VARIABLE} is not set", NAMES.join(", "));
            return None;
        };
        Some(Self::start(&program))
    }

    fn start(program: &Path) -> Self {
        let profile = tempfile::Builder::new().prefix("burgess-browser-").tempdir().expect("a temporary directory");
        let log = profile.path().join("stderr.txt");
        let errors = std::fs::File::create(&log).expect("a file in a temporary directory");
        // The browser reads commands from descriptor 3 and writes answers to descriptor 4, and ends when descriptor 3
        // is closed, thus also when the test process is killed. The shell moves standard input and output there.
        let mut process = Command::new("sh")
            .args(["-c", r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null"#])
            .arg(program)
            .args(ARGS)
            .arg(format!("--user-data-dir={}", profile.path().join("profile").display()))
            // What the browser writes beside its profile also goes into the temporary directory.
            .env("HOME", profile.path())
            .env("XDG_CONFIG_HOME", profile.path())
            .env("XDG_CACHE_HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|e| panic!("starting {}: {e}", program.display()));
        let input = process.stdin.take().expect("standard input is a pipe");
        let output = process.stdout.take().expect("standard output is a pipe");
        let connection = Arc::new(Connection::new(input, output));
        if let Err(reason) = connection.call("", "Browser.getVersion", &json!({}), START) {
            let _ = process.kill();
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            panic!("{} does not start: {reason}\n{said}", program.display());
        }
        Self { connection, process, _profile: profile }
    }

    /// Opens an address (`http://127.0.0.1:…` or `file://…`) in a new tab with its own storage and waits until the
    /// page is loaded.
    ///
    /// # Panics
    /// The page cannot be loaded within half a minute.
    pub fn open(&self, url: &str, viewport: Viewport) -> Page {
        let page = Page::new(Arc::clone(&self.connection), viewport);
        page.goto(url);
        page
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.connection.call("", "Browser.close", &json!({}), Duration::from_secs(5));
        for _ in 0..50 {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The browser's program, if there is one.
fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(VARIABLE) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "{VARIABLE} is {}, which is not a file", path.display());
        return Some(path);
    }
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    NAMES.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file()))
}
